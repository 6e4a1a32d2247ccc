#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - let libFuzzer run on the targets, one after another; what it finds is kept below BUILD/found.
#
#   tests/fuzz/run.sh BUILD SECONDS TARGET...
#
# New inputs gather in BUILD/corpus/TARGET and are used by the next run, too; the corpus of the repository is only read. An
# input that made a target fail belongs into tests/fuzz/corpus/TARGET, together with what mends it.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$1 seconds=$2
shift 2
bad=

# UBSan's findings end the program, as ASan's do.
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1 halt_on_error=1}"
for t in "$@"; do
	mkdir -p "$build/corpus/$t" "$build/found/$t" || exit 2
	echo "fuzz: $t, $seconds s"
	if ! "$build/fuzz-$t" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 \
		-verbosity=0 -artifact_prefix="$build/found/$t/" "$build/corpus/$t" "tests/fuzz/corpus/$t" \
		>"$build/fuzz-$t.log" 2>&1; then
		tail -n 60 "$build/fuzz-$t.log"
		bad="$bad $t"
	fi
	sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p' "$build/fuzz-$t.log"
	echo "  inputs kept: $(find "$build/corpus/$t" -type f | wc -l)"
done
if [ -n "$bad" ]; then
	echo "fuzz: failures in:$bad (inputs in $build/found)"
	exit 1
fi
