# One command for each thing that is done often.

.PHONY: bench

# Measures ring, cursors and console within a process, and then the agent beside a plain
# TLS relay and socat in one run; prints a table with the goals. `make bench SCENARIOS="bulk round-trip"` runs some of it.
bench:
	cargo bench -p vmconsole-agent --bench cursors
	ulimit -n $$(ulimit -Hn) && cargo bench -p vmconsole-tests --bench path -- $(SCENARIOS)
