#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# lib.sh - sourced by the scripts of this kind: a fresh image, its daemon, steps that are counted, and an end without
# leftovers.
#
# $t is a directory for the test's own files, $m the mount point, $daemon the daemon's pid. A script ends with `finish`.
# shellcheck disable=SC2034
set -u
unset CDPATH XDG_CONFIG_HOME GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export LC_ALL=C
umask 022
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=${PINFS_BUILD:-$source/build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
long=${PINFS_LONG:-}
[ "$long" = 0 ] && long=
passed=0 failed=0 skipped=0
daemon='' opts=''
helpers=			# other processes to end, by pid

# skip WHAT WHY
skip()
{
	skipped=$((skipped + 1))
	echo "SKIP $1: $2"
}
have() { command -v "$1" >/dev/null; }
# need PROGRAM...: or there is nothing to test
need()
{
	for p in "$@"; do
		have "$p" || { echo "SKIP $(basename "$0" .sh): $p is not installed"; exit 77; }
	done
}
if [ ! -w /dev/fuse ] || [ "$(id -u)" -ne 0 ]; then
	echo "SKIP $(basename "$0" .sh): /dev/fuse cannot be opened, or not root"
	exit 77
fi

own=
if [ -z "${TMPDIR:-}" ]; then
	TMPDIR=$(mktemp -d /dev/shm/pinfs-prog-XXXXXX)
	own=$TMPDIR
	chmod 711 "$own"
	export TMPDIR
fi
t=$TMPDIR/p
m=$t/mnt
mkdir "$t" "$m" || exit 1
export HOME="$t"

# By the table: a mount whose daemon is dead does not answer.
unmounted() { ! grep -qF " $m " /proc/self/mountinfo; }
cleanup()
{
	for p in $helpers; do
		kill -9 "$p" 2>/dev/null
	done
	unmounted || umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	wait 2>/dev/null
	while ! unmounted && umount -l "$m" 2>/dev/null; do :; done
	rm -rf --one-file-system "$t"
	[ -z "$own" ] || rmdir "$own"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# until_it COMMAND...: repeat it, two minutes at most, until it succeeds
until_it()
{
	i=0
	until "$@" >/dev/null 2>&1; do
		i=$((i + 1))
		[ $i -lt 6000 ] || return 1
		sleep 0.02
	done
}

# step WHAT COMMAND...: counted; what it said is shown when it fails
step()
{
	what=$1
	shift
	if "$@" >"$t/said" 2>&1; then
		passed=$((passed + 1))
		[ -z "${PINFS_VERBOSE:-}" ] || echo "ok $what"
		return 0
	fi
	failed=$((failed + 1))
	echo "FAILED $what: $*"
	head -c 4000 "$t/said" | sed 's/^/    /'
	return 1
}
# same WHAT FILE FILE: counted; the difference is shown
same() { step "$1" diff -u "$2" "$3"; }

# mount_it: the image, as it is
mount_it()
{
	"$build/pinfs" -f ${opts:+-o "$opts"} "$t/img" "$m" >>"$t/log" 2>&1 &
	daemon=$!
	i=0
	while unmounted; do
		i=$((i + 1))
		if [ $i -ge 6000 ] || ! kill -0 "$daemon" 2>/dev/null; then
			cat "$t/log"
			return 1
		fi
		sleep 0.02
	done
	stat "$m" >/dev/null		# answered when the mount can be used
}
# fresh SIZE [OPTIONS]: an empty image, mounted
fresh()
{
	opts=${2:-}
	"$build/mkfs.pinfs" -f -s "$1" "$t/img" >/dev/null && mount_it && return 0
	echo "FAILED to make and mount an image"
	exit 1
}
# unmount_it: the daemon ends with 0 and leaves an image without faults
unmount_it()
{
	# Whoever reads /proc/PID of a process that ends holds its memory, and the files mapped there, for a moment.
	until_it umount "$m" || { umount "$m"; return 1; }
	wait "$daemon"
	rc=$?
	daemon=
	[ $rc -eq 0 ] || { echo "the daemon ended with $rc"; cat "$t/log"; return 1; }
	"$build/fsck.pinfs" -n "$t/img"
}
remount_it() { unmount_it && mount_it; }
# kill_it: the daemon dies. Helpers fail at the dead mount and end; only then does it go, or they would go on in the directory below.
kill_it()
{
	kill -9 "$daemon"
	# shellcheck disable=SC2086
	wait "$daemon" $helpers 2>/dev/null
	daemon='' helpers=''
	until unmounted; do
		umount -l "$m" || return 1
	done
}

finish()
{
	unmounted || step "unmount and fsck" unmount_it
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ]
	exit
}
