#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# repo.sh - what no compiler sees: licence lines, long lines, blanks at line ends, unfinished work, traces of one machine.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
fault() { [ -z "$1" ] || { echo "$1" | sed "s|\$|  <- $2|"; bad=1; }; }

files=$(git ls-files --cached --others --exclude-standard 2>/dev/null)
[ -n "$files" ] || files=$(find . -type f -not -path './build*' -not -path './.git/*' | sed 's|^\./||')
text=$(for f in $files; do case $f in tests/lint/repo.sh | tests/fuzz/corpus/*) continue ;; esac; [ -f "$f" ] && grep -Il . "$f"; done)
code=$(echo "$text" | grep -E '\.[ch]$')
# shellcheck disable=SC2086,SC2046
{
	fault "$(grep -L 'SPDX-License-Identifier: BSD-3-Clause' $code $(echo "$text" | grep -E '\.(sh|mk)$|Makefile'))" "no SPDX line"
	fault "$(grep -nE '[[:space:]]+$' $text | cut -c1-100)" "blanks at the end"
	fault "$(grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $text | cut -c1-100)" "unfinished"
	fault "$(grep -nE '(^|[^A-Za-z0-9_.])/(work|root|home/[a-z]+)/' $text | cut -c1-100)" "a path of one machine"
	fault "$(for f in $code; do expand -t8 "$f" | awk -v f="$f" 'length($0) > 120 { print f ":" NR ": " length($0) " columns" }'; done)" \
		"over 120"
	fault "$(for f in $code; do awk -v f="$f" '/^        / && !/\\$/ { print f ":" NR; exit }' "$f"; done)" "indented by blanks"
}
if command -v shellcheck >/dev/null; then
	# shellcheck disable=SC2046
	shellcheck -x $(for f in $text; do head -n 1 "$f" | grep -q '^#!/bin/sh' && echo "$f"; done) || bad=1
fi
exit $bad
