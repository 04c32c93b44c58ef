#!/bin/sh
# Builds the DEB and the RPM into target/packages. Needs no root. cargo-deb and
# cargo-generate-rpm are installed into the target directory, once.
#
#   usage: packaging/build.sh
set -eu
deb_version=3.7.0
rpm_version=0.21.1
cd "$(dirname "$0")/.."
CARGO_TARGET_DIR=$(tests/target-dir.sh)
export CARGO_TARGET_DIR

tool() {
	root=$CARGO_TARGET_DIR/tools/$1-$2
	if [ ! -x "$root/bin/$1" ]; then
		echo "packages: installing $1 $2" >&2
		# Elsewhere than the project's: their artefacts would stand among ours.
		cargo install --quiet --locked --root "$root" \
			--target-dir "$CARGO_TARGET_DIR/tools/build" "$1" --version "$2"
	fi
	PATH=$root/bin:$PATH
}
tool cargo-deb "$deb_version"
tool cargo-generate-rpm "$rpm_version"
rm -rf "$CARGO_TARGET_DIR/tools/build"

cargo build --release --locked -p vmconsole-agent -p vmconsole-host-tools
packages=$CARGO_TARGET_DIR/packages
rm -rf "$packages"
mkdir -p "$packages"
cargo deb --quiet --no-build --locked -p vmconsole-agent --output "$packages/"
# rpm has its own manual pages compressed; here that is ours to do.
for page in agent/man/vmconsole-agent.8 host-tools/man/vmconsolectl.1; do
	gzip -9 -n -c "$page" >"$CARGO_TARGET_DIR/release/$(basename "$page").gz"
done
cargo generate-rpm -p agent --target-dir "$CARGO_TARGET_DIR" --output "$packages/"
ls -l "$packages" >&2
