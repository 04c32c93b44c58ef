#!/bin/sh
# Builds the tree that the packages are installed in: Debian with systemd, QEMU and libvirt's
# client library, and nothing of ours. Root's, in target/machine; built once.
#
#   usage: tests/machine/build.sh [DIR]     prints the tree's path
set -eu
cd "$(dirname "$0")/../.."
dir=${1:-$(tests/target-dir.sh)/machine}
# Told apart by what it is built from: another recipe is another tree.
recipe=$(cksum <tests/machine/build.sh | cut -d ' ' -f 1)
tree=$dir/bookworm-$recipe
if [ ! -d "$tree" ]; then
	command -v debootstrap >/dev/null 2>&1 || {
		echo "machine: debootstrap is missing; run tests/setup.sh test" >&2
		exit 1
	}
	echo "machine: building $tree, which takes some minutes" >&2
	rm -rf "$dir"
	mkdir -p "$dir"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus \
		bookworm "$tree.new" >"$dir/debootstrap.log" 2>&1 || {
		tail -n 20 "$dir/debootstrap.log" >&2
		exit 1
	}
	chroot "$tree.new" sh -euc '
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq
		apt-get install -y -qq --no-install-recommends qemu-system-x86 libvirt0 passwd
		apt-get clean
		rm -rf /var/lib/apt/lists/* /usr/share/locale /usr/share/doc
		# Nothing waits for a network, and nobody logs in.
		systemctl mask systemd-networkd-wait-online.service getty.target console-getty.service
	' >>"$dir/debootstrap.log" 2>&1 || {
		tail -n 20 "$dir/debootstrap.log" >&2
		exit 1
	}
	mv "$tree.new" "$tree"
fi
printf '%s\n' "$tree"
