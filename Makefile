# What people run. Everything else is cargo's.
.POSIX:
.PHONY: help demo demo-libvirt test long lint proto docs bench packages

help:
	@echo "make demo          a guest in a plain QEMU, an agent, a terminal on the guest's console"
	@echo "make demo-libvirt  the same under libvirt"
	@echo "make test          install what is missing and run every test"
	@echo "make long          the runs that take minutes each, on a release build, with their figures"
	@echo "make lint          format, clippy, licences, interface, documentation"
	@echo "make packages      a DEB and an RPM, in target/packages"
	@echo "make bench         the byte path beside a plain TLS relay, socat, haproxy, websockify and sshd"

# Where the packages are there it needs no root.
demo:
	@tests/setup.sh demo
	@echo "==> building (the first time takes some minutes)"
	@cargo build --quiet --workspace
	@tests/demo.sh

# Builds as you; only what needs root is run as root. Whether that can be had is asked first:
# a build takes minutes.
demo-libvirt:
	@tests/setup.sh demo-libvirt
	@tests/as-root.sh true
	@echo "==> building (the first time takes some minutes)"
	@cargo build --quiet --workspace
	@tests/demo.sh libvirt

test:
	@tests/setup.sh test
	@tests/as-root.sh true
	@cargo build --workspace --all-targets
	@tests/run.sh

# `make long TESTS=flooded` runs some of it.
long:
	@tests/setup.sh test
	@tests/as-root.sh true
	@cargo build --release --workspace --all-targets
	@tests/long.sh $(TESTS)

lint: proto docs
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@tests/deny.sh

proto:
	@tests/setup.sh lint
	@tests/proto.sh

docs:
	@tests/setup.sh build
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --quiet

packages:
	@tests/setup.sh packages
	@packaging/build.sh

# `make bench SCENARIOS="bulk relays-memory"` runs some of it.
bench:
	@tests/setup.sh bench
	cargo bench --workspace --bench cursors
	ulimit -n $$(ulimit -Hn) && cargo bench --workspace --bench path -- $(SCENARIOS)
