#!/bin/sh
# Runs the demonstration as root, in a directory of its own that goes with it.
set -eu

if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "demo: it starts a libvirtd of its own and so needs root or sudo" >&2
		exit 1
	}
	exec sudo --preserve-env=PATH "$0" "$@"
fi

top=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d /tmp/vmconsole-demo-XXXXXX)
chmod 0755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
TMPDIR=$scratch "${CARGO_TARGET_DIR:-$top/target}/debug/demo" "$@"
