#!/bin/sh
# Runs a program as root: itself where this is root, else through sudo. As cargo's runner it
# does so for the tests of this directory alone: the other crates' tests need no root.
#
# sudo takes away the environment; what the tests read is handed on by name.
set -eu

if [ "$(id -u)" -eq 0 ] || [ "${CARGO_PKG_NAME:-vmconsole-tests}" != vmconsole-tests ]; then
	exec "$@"
fi
command -v sudo >/dev/null 2>&1 || {
	echo "tests: they start a libvirtd of their own, which needs root; install sudo, or run make as root" >&2
	exit 1
}
# Byte code that root's Python left beside yours could not be removed by you.
exec sudo env PATH="$PATH" PYTHONDONTWRITEBYTECODE=1 \
	${CARGO_TARGET_DIR:+"CARGO_TARGET_DIR=$CARGO_TARGET_DIR"} \
	${RUST_BACKTRACE:+"RUST_BACKTRACE=$RUST_BACKTRACE"} \
	"$@"
