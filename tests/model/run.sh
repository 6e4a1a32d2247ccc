#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - check every model with spin: as it is, it must hold; each twin that its comment names must be refuted.
#
#   tests/model/run.sh [MODEL...]
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
work=$(mktemp -d "${TMPDIR:-/tmp}/pinfs-model.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 2

passed=0 failed=0
# Twins are the words in capitals that begin the lines after "Twins, ...".
twins() { sed -n '/^ \* Twins/,/\*\//s/^ \*   \([A-Z][A-Z_]*\)  *.*/\1/p' "$1"; }

verify()	# MODEL [TWIN]: 0 it holds, 1 it is refuted, 2 neither
{
	rm -f pan* ./*.trail
	spin -a ${2:+"-D$2"} "$here/$1.pml" >spin.out 2>&1 || { cat spin.out; return 2; }
	${CC:-cc} -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=4096 -o pan pan.c || return 2
	./pan -m1000000 >pan.out 2>&1
	grep -q '^error\|max search depth too small\|out of memory' pan.out && { cat pan.out; return 2; }
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out | head -1)
	grep -q 'errors: 0' pan.out && return 0
	grep -q 'errors: [1-9]' pan.out && return 1
	cat pan.out
	return 2
}

report()	# NAME WANTED GOT
{
	if [ "$2" -eq "$3" ]; then
		passed=$((passed + 1))
		printf 'ok      %-26s %s states\n' "$1" "${states:-?}"
	else
		failed=$((failed + 1))
		printf 'FAILED  %-26s %s\n' "$1" "$4"
		[ "$3" -ne 1 ] || spin -t -p -g ${5:+"-D$5"} "$here/$6.pml" | tail -60
	fi
}

[ $# -gt 0 ] || set -- handshake inval park kick revoke fair
for m in "$@"; do
	verify "$m"
	report "$m" 0 $? "does not hold" "" "$m"
	for t in $(twins "$here/$m.pml"); do
		verify "$m" "$t"
		report "$m, twin $t" 1 $? "is not refuted: the model cannot see what it is about" "$t" "$m"
	done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
