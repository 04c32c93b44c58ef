#!/bin/sh
# Runs the demonstration in a directory of its own that goes with it. The guest it boots is
# built as you. Plain QEMU needs no root; a libvirtd does.
#
#   usage: tests/demo.sh [libvirt]
set -eu
cd "$(dirname "$0")/.."

if [ "${2:-}" != --built ]; then
	CARGO_TARGET_DIR=$(tests/target-dir.sh)
	export CARGO_TARGET_DIR
	tests/guest/build.sh "$CARGO_TARGET_DIR/guest" >/dev/null
	case ${1:-} in
	'') ;;
	libvirt) exec tests/as-root.sh tests/demo.sh libvirt --built ;;
	*)
		sed -n 's/^#   usage: /usage: /p' "$0" >&2
		exit 2
		;;
	esac
fi

scratch=$(mktemp -d /tmp/vmconsole-demo-XXXXXX)
chmod 0755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
TMPDIR=$scratch "$CARGO_TARGET_DIR/debug/demo" ${1:+"$1"}
