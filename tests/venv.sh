#!/bin/sh
# Makes a Python environment with what tests/NAME/requirements.txt names, and prints where it
# is. For tests/python it also has what grpc_tools makes of the proto files, in its directory
# "generated". It installs nothing outside the target directory, and does nothing where one for
# these requirements and proto files is there.
#
#   usage: tests/venv.sh python|vnc
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."
name=${1:-}
case $name in
python) protos=$(echo proto/vmconsole/v1/*.proto) ;;
vnc) protos= ;;
*)
	sed -n 's/^#   usage: /usage: /p' tests/venv.sh >&2
	exit 2
	;;
esac
requirements=tests/$name/requirements.txt
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

# shellcheck disable=SC2086 # one word per file
of=$(cat tests/venv.sh "$requirements" $protos | sha256sum | cut -c 1-12)
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=$target/$name-$version-$of

# One at a time: whoever comes second finds it made.
exec 9>"$target/.$name.lock"
flock 9
if [ ! -e "$venv/made" ]; then
	echo "$name: making $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/python" -m pip --quiet --disable-pip-version-check install \
		--requirement "$requirements" >&2
	if [ -n "$protos" ]; then
		mkdir "$venv/generated"
		# shellcheck disable=SC2086 # one word per file
		"$venv/bin/python" -m grpc_tools.protoc --proto_path=proto \
			--python_out="$venv/generated" --grpc_python_out="$venv/generated" $protos
	fi
	touch "$venv/made"
fi
echo "$venv"
