#!/bin/sh
# Installs what this project needs from Debian, and makes the unprivileged user that the
# tests run the agent as. It adds what is missing, says what it does, and configures no
# service. Where systemd runs, Debian starts the services it installs: libvirtd and what
# belongs to it, which are left running though nothing here uses them, and Prometheus, haproxy
# and sshd, which are stopped again unless they were there before.
#
#   usage: tests/setup.sh build|packages|lint|demo|demo-libvirt|test|bench
#     build         what compiling needs
#     packages      build, and what finds which libraries a program needs
#     lint          build, and what the check of the interface needs
#     demo          build, and QEMU and what builds the guest; on x86_64 only, as the guest
#                   is. For root also the user vmconsole-test, as which QEMU and the agent run
#     demo-libvirt  demo, and libvirt, and that user, in libvirt's group
#     test          demo-libvirt, and the tools that the tests drive
#     bench         build, and what the agent is measured beside
#
# Run as root or with sudo at hand. Where all is there it changes nothing, and needs neither.
set -eu
export LC_ALL=C
# Plain `su` keeps a user's PATH, which lacks what makes users and installs packages.
PATH=$PATH:/usr/sbin:/sbin

user=vmconsole-test
build="gcc libc6-dev pkg-config libvirt-dev"
demo="$build qemu-system-x86 apt dpkg cpio xz-utils util-linux passwd"
demo_libvirt="$demo libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients"
make_packages="$build binutils dpkg-dev gzip rpm"
lint="$build git python3 python3-venv"
# VNC clients, what shows them, and what stands between a browser and a display.
vnc="chromium chromium-driver novnc websockify tigervnc-viewer xvfb xdotool imagemagick"
test="$demo_libvirt $make_packages bsdutils openssl prometheus python3 python3-venv socat
	debootstrap systemd-container $vnc"
bench="$build haproxy openssh-client openssh-server socat util-linux websockify"

case ${1:-} in
build) packages=$build ;;
packages) packages=$make_packages ;;
lint) packages=$lint ;;
demo) packages=$demo ;;
demo-libvirt) packages=$demo_libvirt ;;
test) packages=$test ;;
bench) packages=$bench ;;
*)
	sed -n 's/^#   usage: /usage: /p' "$0" >&2
	exit 2
	;;
esac

say() { echo "setup: $*" >&2; }

if ! command -v dpkg-query >/dev/null 2>&1; then
	say "this is not Debian or a relative of it; install by your own means:" "$packages"
	exit 1
fi

needs_guest= needs_user= needs_libvirt=
case $1 in
demo) needs_guest=yes ;;
demo-libvirt | test) needs_guest=yes needs_user=yes needs_libvirt=yes ;;
esac
# Whoever is not root runs the demonstration's QEMU and agent as themselves.
[ "$(id -u)" -ne 0 ] || needs_user=$needs_guest
if [ -n "$needs_guest" ] && [ "$(dpkg --print-architecture)" != amd64 ]; then
	say "the guest of the demo and the tests is x86_64, and so must this machine be"
	exit 1
fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# What stands on the PATH or under another package's name counts as there.
present() {
	case $1 in
	gcc) command -v cc >/dev/null 2>&1 ;;
	pkg-config) command -v pkg-config >/dev/null 2>&1 ;;
	prometheus) command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 ;;
	python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
	git | python3 | socat | cpio | websockify | xdotool) command -v "$1" >/dev/null 2>&1 ;;
	*) installed "$1" ;;
	esac
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		say "not root, and no sudo here; as root run: $*"
		exit 1
	fi
}

missing=
for package in $packages; do
	present "$package" || missing="$missing $package"
done

if [ -n "$missing" ]; then
	say "installing:$missing"
	as_root apt-get update -qq
	# shellcheck disable=SC2086 # one word per package
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --quiet --no-install-recommends $missing
	# The tests and benches start their own. Debian starts the services where systemd runs.
	for service in prometheus:prometheus haproxy:haproxy openssh-server:ssh; do
		case " $missing " in
		*" ${service%:*} "*) ;;
		*) continue ;;
		esac
		if [ -d /run/systemd/system ]; then
			say "stopping the ${service#*:} service that came with the package"
			as_root systemctl disable --now "${service#*:}.service"
		fi
	done
fi

if [ -n "$needs_guest" ]; then
	# tests/guest/build.sh downloads these, and installs none.
	if ! apt-get download --print-uris linux-image-cloud-amd64 busybox-static >/dev/null 2>&1; then
		say "fetching apt's package lists"
		as_root apt-get update -qq
	fi
fi

# An sshd that root starts insists on it, and only the service makes it.
if [ "$1" = bench ] && [ "$(id -u)" -eq 0 ]; then
	mkdir -p -m 755 /run/sshd
fi

if [ -n "$needs_user" ] && ! getent passwd "$user" >/dev/null; then
	say "creating the system user $user"
	as_root useradd --system --user-group --no-create-home --home-dir /nonexistent \
		--shell /usr/sbin/nologin --comment "vmconsole-agent tests" "$user"
fi

if [ -n "$needs_libvirt" ]; then
	case " $(id -nG "$user") " in
	*" libvirt "*) ;;
	*)
		say "putting $user into the group libvirt"
		as_root usermod --append --groups libvirt "$user"
		;;
	esac
fi
