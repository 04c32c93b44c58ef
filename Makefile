# One command for each thing that is done often.

.PHONY: bench

# Measures the agent beside a plain TLS relay and socat in one run, and prints a table with
# the goals. `make bench SCENARIOS="bulk round-trip"` runs some of it.
bench:
	ulimit -n $$(ulimit -Hn) && cargo bench -p vmconsole-tests --bench path -- $(SCENARIOS)
