#!/bin/sh
# Checks the interface: style, comments, and that it breaks nothing that the commit before
# had. buf comes with a Python package.
set -eu
version=1.75.0
cd "$(dirname "$0")/.."
venv=${CARGO_TARGET_DIR:-target}/buf-$version
buf=$venv/bin/buf
if [ ! -x "$buf" ]; then
	echo "proto: installing buf $version" >&2
	python3 -m venv "$venv.new"
	"$venv.new/bin/pip" --quiet --disable-pip-version-check install "buf-bin==$version"
	rm -rf "$venv"
	mv "$venv.new" "$venv"
fi
"$buf" lint proto
if git rev-parse --quiet --verify HEAD~1:proto/vmconsole >/dev/null; then
	before=$(mktemp -d)
	trap 'rm -rf "$before"' EXIT
	git archive HEAD~1 proto | tar -x -C "$before"
	"$buf" breaking proto --against "$before/proto"
else
	echo "proto: the commit before has no interface to compare with" >&2
fi
