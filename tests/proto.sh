#!/bin/sh
# Checks the interface: style, comments, and that it breaks nothing that the commit before
# had. buf comes with a Python package. It refuses to take a commit before that it cannot
# read for one that is not there.
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

die() { echo "proto: $*" >&2; exit 1; }

# The commit itself names its parent in a shallow clone too.
head=$(git cat-file commit HEAD) || die "git cannot read this checkout: nothing to compare the interface with"
before=$(printf '%s\n' "$head" | sed -n '/^$/q; s/^parent //p' | head -n 1)
if [ -z "$before" ]; then
	echo "proto: this is the first commit: there is no interface before it" >&2
	exit 0
fi
git cat-file -e "$before^{tree}" ||
	die "the commit before, $before, is not in this clone; get it with: git fetch --deepen=1"
had=$(git ls-tree -d "$before" proto/vmconsole) || die "git cannot read the commit before, $before"
if [ -z "$had" ]; then
	echo "proto: the commit before has no interface" >&2
	exit 0
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive --output="$tree/before.tar" "$before" proto
tar -x -f "$tree/before.tar" -C "$tree"
"$buf" breaking proto --against "$tree/proto"
