#!/bin/sh
# Runs what takes too long for every day: the tests on guests and on stand-ins that are marked as
# ignored, one after the other, on a release build, with the figures that they print.
#
#   usage: tests/long.sh [FILTER]...      as of Rust's test harness
set -eu
cd "$(dirname "$0")/.."

CARGO_TARGET_DIR=$(tests/target-dir.sh)
export CARGO_TARGET_DIR
# What the tests would make on first use, and then as root.
tests/guest/build.sh "$CARGO_TARGET_DIR/guest" >/dev/null

exec cargo --config "target.'cfg(unix)'.runner=['tests/as-root.sh']" \
	test --release --quiet --workspace --test e2e --test standin -- \
	--ignored --nocapture --test-threads=1 "$@"
