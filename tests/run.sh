#!/bin/sh
# Runs every test, as root since the end-to-end tests start a libvirtd of their own.
set -eu

if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "test: the end-to-end tests need root or sudo" >&2
		exit 1
	}
	exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR "$0" "$@"
fi

cd "$(dirname "$0")/.."
# The guests run under emulation: more of them at a time than there are cores only wait.
exec cargo test --workspace --quiet -- --test-threads="$(nproc)" "$@"
