#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# timeline.sh - makes the picture of the README: a truncate that waits for DMA of two devices. `make timeline` runs it.
#
#   tools/timeline.sh OUT.svg [TRACE.json]
#
# The programs (pinfs, mkfs.pinfs, pinrun, dmaemu, pinfsctl) are found in PATH. It cleans up after itself.
set -u
export LC_ALL=C

if [ "${1-}" = --scene ]; then		# in the trace: MOUNT MS
	mnt=$2
	pinned() { pinfsctl pins --json "$mnt" | grep -o '"record"' | wc -l; }
	dmaemu run --label nic --delay "$3ms" --length 64K "$mnt/data" >/dev/null &
	dmaemu run --label gpu --delay "$(($3 * 2))ms" --offset 128K --length 128K "$mnt/data" >/dev/null &
	n=0
	until [ "$(pinned)" -eq 2 ]; do
		n=$((n + 1))
		[ $n -lt 300 ] || exit 1	# too slow: one of them has ended
	done
	truncate -s 0 "$mnt/data"
	wait
	exit 0
fi

out=${1:?where to}
base=$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")
dir=$(mktemp -d "$base/pinfs-timeline.XXXXXX") || exit 2
mnt=$dir/mnt
mkdir "$mnt"
mounted() { awk -v m="$mnt" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; }
unmount()
{
	mounted || return 0
	if [ "$(id -u)" -eq 0 ]; then umount "$@" "$mnt"; else fusermount3 -u ${1:+-z} "$mnt"; fi
}
cleanup()
{
	unmount 2>/dev/null || unmount -l 2>/dev/null
	rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
fail() { echo "timeline: $*" >&2; exit 1; }

mkfs.pinfs -s 16M "$dir/img" >/dev/null || fail mkfs.pinfs
pinfs "$dir/img" "$mnt" || fail pinfs
# The devices take their time, but not for ever: on a busy machine they are made slower.
ms=50
until head -c 262144 /dev/zero >"$mnt/data" &&
	pinfsctl trace "$mnt" -o "$dir/trace.json" --file "$mnt/data" -- "$0" --scene "$mnt" $ms >/dev/null &&
	[ "$(grep -c '"cat":"held"' "$dir/trace.json")" -ge 2 ]; do
	ms=$((ms * 2))
	[ $ms -lt 10000 ] || fail "no truncate that waits for two pins"
done
pinfsctl timeline "$dir/trace.json" -o "$out" || fail timeline
[ -z "${2-}" ] || cp "$dir/trace.json" "$2"
