#!/bin/sh
# Makes a Python environment with the VNC clients of the tests, and prints where it is. It
# installs nothing outside the target directory, and does nothing where one for these
# requirements is there.
set -eu
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
requirements=$top/tests/vnc/requirements.txt
cd "$top"
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

of=$(cat "$0" "$requirements" | sha256sum | cut -c 1-12)
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=$target/vnc-$version-$of

# One at a time: whoever comes second finds it made.
exec 9>"$target/.vnc.lock"
flock 9
if [ ! -e "$venv/made" ]; then
	echo "vnc: making $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/python" -m pip --quiet --disable-pip-version-check install \
		--requirement "$requirements" >&2
	touch "$venv/made"
fi
echo "$venv"
