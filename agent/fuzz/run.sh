#!/bin/sh
# Fuzzes targets one after the other and keeps what each says in LOGS/TARGET.log:
#
#     agent/fuzz/run.sh SECONDS LOGS TARGET…      # agent/fuzz/run.sh 1800 /tmp/logs telnet
#
# It needs a nightly compiler and cargo-fuzz (cargo install cargo-fuzz); the tests need neither,
# since they run corpus/ by themselves. Finds go to the directory LOGS/TARGET.corpus, not into
# the repository. To keep as few of them as reach all the code that is new to the corpus:
#
#     cd agent && cargo +nightly fuzz run telnet fuzz/corpus/telnet LOGS/telnet.corpus -- \
#         -set_cover_merge=1 -use_counters=0
#
# A crash stands in agent/fuzz/artifacts/TARGET: copy it to corpus/TARGET as the failing test
# and mend the parser. The exit status is 1 if any target crashed or could not be built.
set -eu

if [ $# -lt 3 ]; then
	echo "usage: run.sh SECONDS LOGS TARGET..." >&2
	exit 2
fi
seconds=$1
logs=$2
shift 2
fuzz=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$logs"
logs=$(cd "$logs" && pwd)
cd "$fuzz/.."
# The versions that the agent is shipped with.
cp ../Cargo.lock fuzz/Cargo.lock
failed=0
for target; do
	mkdir -p "$logs/$target.corpus"
	status=0
	cargo +nightly fuzz run "$target" "$logs/$target.corpus" "fuzz/corpus/$target" -- \
		-dict="fuzz/$target.dict" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 \
		-print_final_stats=1 >"$logs/$target.log" 2>&1 || status=$?
	echo "exit status $status" >>"$logs/$target.log"
	[ "$status" = 0 ] || failed=1
done
exit "$failed"
