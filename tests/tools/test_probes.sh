#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_probes.sh - the static probes that tracers look for are in the daemon and in the library, where sys/sdt.h was there
# to build them.
set -u
build=${PINFS_BUILD:-build}
passed=0 failed=0

probes() { readelf -n "$1" | awk '$1 == "Provider:" { ours = $2 == "pinfs" } $1 == "Name:" && ours { print $2 }'; }

has()	# FILE PROBE...
{
	file=$1
	found=$(probes "$build/$file")
	shift
	for p; do
		if echo "$found" | grep -qx "$p"; then
			passed=$((passed + 1))
		else
			echo "FAIL $file has no probe $p"
			failed=$((failed + 1))
		fi
	done
}

if ! printf '#include <sys/sdt.h>\n' | ${CC:-cc} -E - >/dev/null 2>&1; then
	echo 'SKIP probes: there is no sys/sdt.h'
	echo '0 passed, 0 failed, 1 skipped'
	exit 77
fi
has pinfs revoke lease map invalidate ack break_submit break_start break_scan break_wait break_wake break_work break_done quarantine park unpark
has libpinfs.so pin unpin fault unmap dma
# A name that no file has is not found: what looks for them looks.
probes "$build/pinfs" | grep -qx no_such_probe && failed=$((failed + 1))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
