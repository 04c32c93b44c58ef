#!/bin/sh
# Builds the tree that the packages are installed in, as an archive in target/machine: Debian
# with systemd, QEMU, libvirt's client library and rpm, and nothing of ours. Needs root; built
# once. What it leaves belongs to whoever the directory belongs to.
#
#   usage: tests/machine/build.sh [DIR]     prints the archive's path
set -eu
cd "$(dirname "$0")/../.."
dir=${1:-$(tests/target-dir.sh)/machine}
# Told apart by what it is built from: another recipe is another tree.
recipe=$(cksum <tests/machine/build.sh | cut -d ' ' -f 1)
archive=$dir/bookworm-$recipe.tar
mkdir -p "$dir"

if [ ! -f "$archive" ]; then
	command -v debootstrap >/dev/null 2>&1 || {
		echo "machine: debootstrap is missing; run tests/setup.sh test" >&2
		exit 1
	}
	echo "machine: building $archive, which takes some minutes" >&2
	rm -rf "$dir"/bookworm-*
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	# shellcheck disable=SC2016 # $1 is the inner shell's
	# In namespaces of its own: what debootstrap mounts, and what a package starts, ends with it.
	unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
		sh -euc '
		export DEBIAN_FRONTEND=noninteractive LC_ALL=C
		cd "$1"
		debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm tree
		chroot tree sh -euc "
			apt-get update -qq
			apt-get install -y -qq --no-install-recommends qemu-system-x86 libvirt0 passwd rpm
			apt-get clean
			rm -rf /var/lib/apt/lists/* /usr/share/locale
			# Nothing waits for a network, and nobody logs in.
			systemctl mask systemd-networkd-wait-online.service getty.target \
				console-getty.service"
		tar --create --one-file-system --numeric-owner --xattrs --directory tree --file tree.tar .
	' sh "$work" >"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		exit 1
	}
	cp "$work/tree.tar" "$archive.new"
	chown --reference="$dir" "$archive.new"
	mv "$archive.new" "$archive"
fi
printf '%s\n' "$archive"
