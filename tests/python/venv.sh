#!/bin/sh
# Makes a Python environment with gRPC, and with what grpc_tools makes of the proto files in
# its directory "generated". Prints where it is. It installs nothing outside the target
# directory, and does nothing where one for these requirements and proto files is there.
set -eu
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/python
cd "$top"
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

of=$(cat "$0" "$here/requirements.txt" "$top"/proto/vmconsole/v1/*.proto | sha256sum | cut -c 1-12)
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=$target/python-$version-$of

# One at a time: whoever comes second finds it made.
exec 9>"$target/.python.lock"
flock 9
if [ ! -e "$venv/made" ]; then
	echo "python: making $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/python" -m pip --quiet --disable-pip-version-check install \
		--requirement "$here/requirements.txt" >&2
	mkdir "$venv/generated"
	"$venv/bin/python" -m grpc_tools.protoc --proto_path="$top/proto" \
		--python_out="$venv/generated" --grpc_python_out="$venv/generated" \
		"$top"/proto/vmconsole/v1/*.proto
	touch "$venv/made"
fi
echo "$venv"
