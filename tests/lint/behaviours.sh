#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# behaviours.sh - tests/conform/BEHAVIOURS.md: each number is there once, with the cases that name it as their source, and has
# one. The cases are those that the built pinfs-conform lists.
#
#   tests/lint/behaviours.sh [-w]        -w: put the cases into the file
set -u
cd "$(dirname "$0")/../.." || exit 2

file=tests/conform/BEHAVIOURS.md
program=${PINFS_CONFORM:-build/pinfs-conform}
[ -x "$program" ] || { echo "behaviours.sh: no $program: build first" >&2; exit 2; }
new=$(mktemp "${TMPDIR:-/tmp}/behaviours.XXXXXX") || exit 2
trap 'rm -f "$new"' EXIT

# Of each case: its name in the first column but two, what it says, its source.
"$program" --list --verbose | awk '
function number_of(n,    i)
{
	for (i = 1; i <= nrow; i++)
		if (num[i] == n)
			return i
	return 0
}
function add(n, id)
{
	if (n in cases)
		cases[n] = cases[n] ", " id
	else
		cases[n] = id
	named[n] = id
}
NR == FNR {
	if (/^  [a-z0-9]/) {
		id = $1
		if ($2 != "")
			id = "*" id "*"
	}
	while (match($0, /behaviours? [0-9][0-9a]*(-[0-9]+)?(, [0-9][0-9a]*(-[0-9]+)?)*/)) {
		s = substr($0, RSTART, RLENGTH)
		$0 = substr($0, RSTART + RLENGTH)
		sub(/^behaviours? /, "", s)
		n = split(s, part, ", ")
		for (i = 1; i <= n; i++) {
			if (split(part[i], ends, "-") == 2)
				for (k = ends[1] + 0; k <= ends[2] + 0; k++)
					add(k "", id)
			else
				add(part[i], id)
		}
	}
	next
}
/^\| [0-9]/ {
	split($0, col, " \\| ")
	n = col[1]
	sub(/^\| /, "", n)
	if (n in seen) {
		print "BEHAVIOURS.md: " n " is there twice" > "/dev/stderr"
		bad = 1
	}
	seen[n] = 1
	if (!(n in cases)) {
		print "BEHAVIOURS.md: no case names behaviour " n > "/dev/stderr"
		bad = 1
	}
	print "| " n " | " col[2] " | " cases[n] " |"
	next
}
{ print }
END {
	for (n = 1; n <= 58; n++)
		if (!((n "") in seen)) {
			print "BEHAVIOURS.md: " n " is missing" > "/dev/stderr"
			bad = 1
		}
	for (n in named)
		if (!(n in seen)) {
			print "BEHAVIOURS.md: " named[n] " names " n ", which is not there" > "/dev/stderr"
			bad = 1
		}
	exit bad
}' - $file >"$new"
status=$?
if [ "${1:-}" = -w ]; then
	cp "$new" $file
elif [ $status -eq 0 ] && ! cmp -s "$new" $file; then
	diff -u $file "$new"
	echo "$file: cases have changed: tests/lint/behaviours.sh -w"
	status=1
fi
exit $status
