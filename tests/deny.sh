#!/bin/sh
# Checks the dependencies' licences and sources, and that none is banned. It does not consult
# the advisory database.
set -eu
# deny.toml is written for this version; an older one that is installed is left alone.
version=0.20.2
cd "$(dirname "$0")/.."
have=$(cargo deny --version 2>/dev/null | sed -n 's/^cargo-deny \([0-9.]*\).*/\1/p')
if [ -z "$have" ] || ! printf '%s\n' "$version" "$have" | sort -V -C; then
	own=$(tests/target-dir.sh)/cargo-deny-$version
	if [ ! -x "$own/bin/cargo-deny" ]; then
		echo "lint: installing cargo-deny $version in $own (some minutes)" >&2
		cargo install --quiet --locked --version "$version" --root "$own" cargo-deny
	fi
	PATH=$own/bin:$PATH
fi
exec cargo deny --log-level error check bans licenses sources
