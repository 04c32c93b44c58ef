#!/bin/sh
# Runs every test. cargo runs as you and only the end-to-end tests as root, since they start
# a libvirtd of their own: nothing that root made stays where you could not remove it.
#
#   usage: tests/run.sh [FILTER]...      as of Rust's test harness
set -eu
cd "$(dirname "$0")/.."

CARGO_TARGET_DIR=$(tests/target-dir.sh)
export CARGO_TARGET_DIR
# What the tests would make on first use, and then as root.
tests/guest/build.sh "$CARGO_TARGET_DIR/guest" >/dev/null
tests/venv.sh python >/dev/null
tests/venv.sh vnc >/dev/null
mkdir -p "$CARGO_TARGET_DIR/machine"
tests/as-root.sh tests/machine/build.sh "$CARGO_TARGET_DIR/machine" >/dev/null
packaging/build.sh --test

# The guests run under emulation: more of them at a time than there are cores only wait.
exec cargo --config "target.'cfg(unix)'.runner=['tests/as-root.sh']" \
	test --workspace --quiet -- --test-threads="$(nproc)" "$@"
