#!/bin/sh
# Runs the demonstration as root, in a directory of its own that goes with it. The guest it
# boots is built as you.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" != --as-root ]; then
	CARGO_TARGET_DIR=$(tests/target-dir.sh)
	export CARGO_TARGET_DIR
	tests/guest/build.sh "$CARGO_TARGET_DIR/guest" >/dev/null
	exec tests/as-root.sh tests/demo.sh --as-root
fi

scratch=$(mktemp -d /tmp/vmconsole-demo-XXXXXX)
chmod 0755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
TMPDIR=$scratch "$CARGO_TARGET_DIR/debug/demo"
