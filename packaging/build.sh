#!/bin/sh
# Builds the DEB and the RPM into target/packages. Needs no root. cargo-deb and
# cargo-generate-rpm are installed into the target directory, once.
#
# With --test the packages are those of the tests, in target/packages-test: the same but for
# the programs, which are the unoptimised ones that the tests build anyway. Nobody is to use them.
#
#   usage: packaging/build.sh [--test]
set -eu
deb_version=3.7.0
rpm_version=0.21.1
cd "$(dirname "$0")/.."
CARGO_TARGET_DIR=$(tests/target-dir.sh)
export CARGO_TARGET_DIR

# How they are compressed, too: the best takes a while.
case ${1:-} in
"")
	packages=$CARGO_TARGET_DIR/packages
	profile=release deb_options='' rpm_compression=zstd
	;;
--test)
	packages=$CARGO_TARGET_DIR/packages-test
	profile=dev deb_options=--fast rpm_compression=gzip
	;;
*)
	sed -n 's/^#   usage: /usage: /p' "$0" >&2
	exit 2
	;;
esac

tool() {
	root=$CARGO_TARGET_DIR/tools/$1-$2
	if [ ! -x "$root/bin/$1" ]; then
		echo "packages: installing $1 $2, which takes some minutes" >&2
		# Elsewhere than the project's: their artefacts would stand among ours. Little
		# optimised: building them takes longer than they ever run.
		CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
			cargo install --quiet --locked --root "$root" \
			--target-dir "$CARGO_TARGET_DIR/tools/build" "$1" --version "$2"
	fi
	PATH=$root/bin:$PATH
}
tool cargo-deb "$deb_version"
tool cargo-generate-rpm "$rpm_version"
rm -rf "$CARGO_TARGET_DIR/tools/build"

if [ "$profile" = release ]; then
	built=$CARGO_TARGET_DIR/release
	cargo build --release --locked -p vmconsole-agent -p vmconsole-host-tools
else
	built=$CARGO_TARGET_DIR/debug
	# As the tests do: of one crate alone, its dependencies would be built anew.
	cargo build --workspace --all-targets --locked
	# They are there already, younger than all that is in them.
	if [ -f "$packages/done" ] && [ -z "$(find packaging agent/Cargo.toml agent/man \
		host-tools/man proto README.md CHANGELOG.md LICENSE "$built/vmconsole-agent" \
		"$built/vmconsolectl" -newer "$packages/done")" ]; then
		exit 0
	fi
fi

# Both tools take what was built from a directory "release".
stage=$packages/stage
rm -rf "$packages"
mkdir -p "$stage/release"
touch "$packages/started"
for program in vmconsole-agent vmconsolectl; do
	cp "$built/$program" "$stage/release/"
	[ "$profile" = release ] || strip --strip-debug "$stage/release/$program"
done
# rpm has its own manual pages compressed; here that is ours to do.
for page in agent/man/vmconsole-agent.8 host-tools/man/vmconsolectl.1; do
	gzip -9 -n -c "$page" >"$stage/release/$(basename "$page").gz"
done
# shellcheck disable=SC2086 # an option, or none
CARGO_TARGET_DIR=$stage cargo deb --quiet --no-build --no-strip --locked $deb_options \
	-p vmconsole-agent --output "$packages/"
# Without rpm's own finder it asks ldd, which names the libraries of libraries as this host has them.
cargo generate-rpm -p agent --target-dir "$stage" --auto-req find-requires \
	--payload-compress "$rpm_compression" --output "$packages/"
rm -rf "$stage"
if [ "$profile" = release ]; then
	rm "$packages/started"
else
	mv "$packages/started" "$packages/done"
fi
ls -l "$packages" >&2
