#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_suite.sh - pinfs answers every question of pinfs-conform as it is expected to, with windows and without the library.
# Each question counts; those that make no sense here do not, those that this machine cannot put are skipped.
set -u

build=${PINFS_BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build}
own=
if [ -z "${PINFS_BUILD:-}" ] || [ -z "${TMPDIR:-}" ]; then
	own=$(mktemp -d /dev/shm/pinfs-suite.XXXXXX) || exit 2
	TMPDIR=$own
	export TMPDIR
fi
img=$TMPDIR/img mnt=$TMPDIR/mnt
daemon=
passed=0 failed=0 skipped=0

# until_it COMMAND...: repeat it, half a minute at least, until it succeeds
until_it()
{
	i=0
	until "$@" >/dev/null 2>&1; do
		i=$((i + 1))
		[ $i -lt 1500 ] || return 1
		sleep 0.02
	done
}
mounted() { grep -qs " $mnt fuse" /proc/mounts; }
take_down()
{
	if mounted; then
		umount "$mnt" 2>/dev/null || fusermount3 -u "$mnt" 2>/dev/null || umount -l "$mnt"
	fi
	[ -z "$daemon" ] || wait "$daemon"
	rmdir "$mnt" 2>/dev/null
	rm -f "$img" "$TMPDIR/tap" "$TMPDIR/err" "$TMPDIR/log"
	[ -z "$own" ] || rmdir "$own"
}
trap take_down EXIT
trap 'exit 130' INT TERM HUP

fail()
{
	echo "FAILED $1"
	failed=$((failed + 1))
}

# Count a report; say what is wrong.
ask()	# WHAT [OPTION ...]
{
	what=$1
	shift
	# More than a machine stands still.
	"$build/pinfs-conform" -F tap --timeout 120 "$@" "$mnt" >"$TMPDIR/tap" 2>"$TMPDIR/err"
	rc=$?
	if [ $rc -ne 0 ] && [ $rc -ne 1 ]; then
		cat "$TMPDIR/err"
		fail "$what: status $rc"
		return
	fi
	p=$(grep -cE '^ok [0-9]+ - ' "$TMPDIR/tap")
	na=$(grep -cE '^ok [0-9]+ - .* # SKIP ' "$TMPDIR/tap")
	s=$(grep -cE '^ok [0-9]+ - .* # SKIP machine: ' "$TMPDIR/tap")
	f=$(grep -cE '^not ok [0-9]+ - ' "$TMPDIR/tap")
	# Without the library there is much that no program can ask.
	case $* in
	*--bare*) s=0 ;;
	*) sed -nE "s/^ok [0-9]+ - ([^ ]+) # SKIP machine: (.*)/SKIP $what, \1: \2/p" "$TMPDIR/tap" ;;
	esac
	awk -v what="$what" '/^(not )?ok / { show = /^not / } show { print what ": " $0 }' "$TMPDIR/tap"
	[ "$((f > 0))" -eq "$rc" ] || fail "$what: status $rc with $f failures"
	[ "$((p - na))" -gt 0 ] || fail "$what: nothing was asked"
	passed=$((passed + p - na)) failed=$((failed + f)) skipped=$((skipped + s))
}

if [ ! -w /dev/fuse ]; then
	echo "SKIP suite: /dev/fuse cannot be opened"
	exit 77
fi
mkdir "$mnt" && "$build/mkfs.pinfs" -s 256M "$img" >/dev/null || exit 1
# What stops operations on their way is root's.
if [ "$(id -u)" -eq 0 ]; then opts=pause_points; else opts=rw; fi
"$build/pinfs" -f -o $opts "$img" "$mnt" >"$TMPDIR/log" 2>&1 &
daemon=$!
served() { mounted || ! kill -0 "$daemon" 2>/dev/null; }
if ! until_it served || ! mounted; then
	cat "$TMPDIR/log"
	fail "mount"
else
	ask windows
	ask bare --bare
	[ -z "$(ls -A "$mnt")" ] || fail "something was left: $(ls -A "$mnt")"
	# Whoever reads /proc/PID of a process that ends holds its memory, and the files mapped there, for a moment.
	until_it umount "$mnt" || { umount "$mnt"; fail "umount"; umount -l "$mnt"; }
	wait "$daemon" || { cat "$TMPDIR/log"; fail "the daemon ended with $?"; }
	daemon=
	"$build/fsck.pinfs" -n "$img" >"$TMPDIR/err" 2>&1 || { cat "$TMPDIR/err"; fail "fsck"; }
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
