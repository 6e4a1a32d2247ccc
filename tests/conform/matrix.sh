#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# matrix.sh - asks the suite's questions in every configuration of matrix.tsv, each on a fresh image, and writes
# tests/CONFORMANCE.md. `make conform` runs it.
#
#   tests/conform/matrix.sh [-b BUILD] [-a DIR] [-n] [NAME...]
#                      NAMEs: only these configurations; nothing is written then, what differs is shown
#   -a DIR             answers are kept in DIR (NAME.json); those that are there already are not asked for again
#   -n                 write nothing: fail when CONFORMANCE.md would change
#   SUITE="--filter=break"   more options for pinfs-conform; nothing is written then
#
# Fails when a case is broken, when an answer is not the expected one, or when pinfs as it comes and a recorded kernel answer
# differently, and no line of differences.tsv says why.
set -u
cd "$(dirname "$0")/../.." || exit 2

build=build write=1 names='' answers=''
while [ $# -gt 0 ]; do
	case $1 in
	-b) build=$2; shift ;;
	-a) answers=$2; shift ;;
	-n) write=check ;;
	-*) sed -n '6s/^# *//p' "$0" >&2; exit 2 ;;
	*) names="$names|$1|" write=0 ;;
	esac
	shift
done
[ -z "${SUITE:-}" ] || write=0
build=$(cd "$build" 2>/dev/null && pwd) || { echo "matrix.sh: no directory $build: build first" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "matrix.sh: has to be root: it asks as root and as nobody" >&2; exit 2; }

here=tests/conform
scratch=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/pinfs-matrix.XXXXXX") || exit 2
chmod 711 "$scratch"

mounted() { grep -q " $1 " /proc/self/mountinfo; }
release()	# MOUNTPOINT
{
	tries=0
	while mounted "$1" && ! umount "$1" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || umount -l "$1"
		sleep 0.1
	done
}
finish()
{
	for m in "$scratch"/*/mnt; do
		[ ! -d "$m" ] || release "$m"
	done
	rm -rf --one-file-system "$scratch"
	exit "$1"
}
trap 'finish 130' INT TERM HUP

su='setpriv --reuid=65534 --regid=65534 --clear-groups'
bin=$build
# By a shell: what setpriv starts itself is still found with the rights of before.
# shellcheck disable=SC2016
if ! $su sh -c '"$0" --version' "$bin/pinfs-conform" >/dev/null 2>&1; then
	bin=$scratch/bin
	mkdir "$bin"
	for f in libpinfs.so pinfs mkfs.pinfs fsck.pinfs pinfsctl pinrun pinfs-conform; do
		cp "$build/$f" "$bin/"
	done
	chmod -R a+rX "$bin"
fi

# Ask configuration NAME HOW USER OPTIONS in the directory $5; what came of it is in $5/json, $5/log.
ask()
{
	dir=$5 mnt=$5/mnt as=''
	mkdir "$mnt" || return
	if [ "$3" = nobody ]; then
		as=$su
		chown 65534:65534 "$dir" "$mnt"
	fi
	opts=rw
	[ "$4" = - ] || opts=$4
	if [ "$2" != plain ]; then
		$as "$bin/mkfs.pinfs" -s 64M "$dir/img" >/dev/null || return
		$as "$bin/pinfs" -o "$opts" "$dir/img" "$mnt" || return
	fi
	case $2 in
	pinrun) run=$bin/pinrun more='' ;;
	bare) run='' more=--bare ;;
	plain) run='' more='' ;;
	esac
	# shellcheck disable=SC2086
	timeout 900 $as $run "$bin/pinfs-conform" $more --timeout=120 ${SUITE:-} --format=json -o "$dir/json" "$mnt"
	echo "status $?"
	[ "$2" = plain ] || { release "$mnt"; $as "$bin/fsck.pinfs" -n "$dir/img"; }
}

# The JSON of a report as lines: id, group, result, answer, expected, why, what it says, its source.
rows()
{
	awk '
	function string(s) {
		sub(/^ *"[a-z]+":/, "", s); sub(/,$/, "", s); sub(/^"/, "", s); sub(/"$/, "", s)
		gsub(/\\"/, "\"", s); gsub(/\\t/, " ", s); gsub(/\\n.*/, "", s); gsub(/\\\\/, "\\", s)
		return s
	}
	/^    \{/ { split("", v) }
	/^      "(id|group|source|says|result|expected|answer|why)":/ {
		key = $0; sub(/^ *"/, "", key); sub(/".*/, "", key); v[key] = string($0)
	}
	/^    \}/ {
		printf "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v["id"], v["group"], v["result"], v["answer"], v["expected"],
			v["why"], v["says"], v["source"]
	}' "$1"
}

# Two at a time, in the order of the table; the slots are the numbers that jobs have modulo two.
n=0 pids=''
tab=$(printf '\t')
grep -v '^#' $here/matrix.tsv >"$scratch/configs"
while IFS=$tab read -r name how user opts _; do
	case $names in
	'' | *"|$name|"*) ;;
	*) continue ;;
	esac
	[ "$how" != kernel ] || continue
	n=$((n + 1))
	dir=$scratch/$name
	mkdir "$dir" || finish 2
	[ ! -s "${answers:-.}/$name.json" ] || { cp "$answers/$name.json" "$dir/json"; continue; }
	echo "asking: $name" >&2
	ask "$name" "$how" "$user" "$opts" "$dir" >"$dir/log" 2>&1 </dev/null &
	# shellcheck disable=SC2086
	set -- $pids $!
	if [ $# -ge 2 ]; then
		wait "$1"
		shift
	fi
	pids=$*
done <"$scratch/configs"
# shellcheck disable=SC2086
wait $pids

bad=0
while IFS=$tab read -r name how user opts _; do
	dir=$scratch/$name
	if [ "$how" = kernel ]; then
		[ ! -f "$here/kernel/$opts.tsv" ] || [ -n "$names" ] || mkdir "$dir"
		[ ! -d "$dir" ] || awk -F '\t' -v OFS='\t' '!/^#/ { na = sub(/^na: /, "", $2)
			print $1, "", na ? "n/a" : "pass", na ? "" : $2, "", na ? $2 : "", "", "" }' \
			"$here/kernel/$opts.tsv" >"$dir/rows"
	elif [ -s "$dir/json" ]; then
		[ -z "$answers" ] || cp "$dir/json" "$answers/$name.json"
		rows "$dir/json" >"$dir/rows"
	elif [ -d "$dir" ]; then
		echo "$name: could not be asked:"
		cat "$dir/log"
		bad=1
	fi
done <"$scratch/configs"

awk -F '\t' -v dir="$scratch" -f $here/matrix.awk "$scratch/configs" $here/differences.tsv >"$scratch/CONFORMANCE.md" || bad=1
if [ $bad -ne 0 ]; then
	echo "matrix.sh: not written: the lines above want a fix, or a line in $here/differences.tsv" >&2
	[ -z "${KEEP:-}" ] || cp "$scratch/CONFORMANCE.md" "$KEEP"
elif [ $write = check ]; then
	diff -u tests/CONFORMANCE.md "$scratch/CONFORMANCE.md" || bad=1
elif [ $write = 1 ]; then
	cp "$scratch/CONFORMANCE.md" tests/CONFORMANCE.md
fi
finish $bad
