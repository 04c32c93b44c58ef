#!/bin/sh
# Checks the dependencies' licences and sources. The advisory database is not asked: it
# is out of reach where this has to run.
set -eu
version=0.20.2
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
	echo "lint: installing cargo-deny $version (some minutes)" >&2
	cargo install --quiet --locked --version "$version" cargo-deny
fi
exec cargo deny --log-level error check bans licenses sources
