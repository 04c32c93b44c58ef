#!/bin/sh
# Prints the absolute path of cargo's target directory, wherever environment or
# configuration put it. It makes nothing.
set -eu
cd "$(dirname "$0")/.."
metadata=$(cargo metadata --no-deps --format-version 1)
target=$(printf '%s' "$metadata" | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
[ -n "$target" ] || {
	echo "tests: cargo metadata names no target directory" >&2
	exit 1
}
printf '%s\n' "$target"
