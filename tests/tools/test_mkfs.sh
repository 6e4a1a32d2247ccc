#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_mkfs.sh - mkfs.pinfs makes, refuses and overwrites what its manual says, and writes nothing that it does not need.
set -u
build=${PINFS_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
own=
if [ -z "${TMPDIR:-}" ]; then
	TMPDIR=$(mktemp -d /dev/shm/pinfs-mkfs-XXXXXX)
	own=$TMPDIR
fi
holder=
cleanup()
{
	[ -z "$holder" ] || kill "$holder" 2>/dev/null
	rm -f "$TMPDIR"/mkfs-*
	[ -z "$own" ] || rmdir "$own"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
passed=0 failed=0
img=$TMPDIR/mkfs-img

# expect STATUS PATTERN ARGS...: mkfs ARGS ends with STATUS, and what it says matches PATTERN
expect()
{
	status=$1 pattern=$2
	shift 2
	said=$("$build/mkfs.pinfs" "$@" 2>&1)
	got=$?
	if [ $got -eq "$status" ] && printf '%s\n' "$said" | grep -q -- "$pattern"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED mkfs.pinfs $*: status $got (want $status), said: $said (want: $pattern)"
	fi
}
# check WHAT CONDITION...
check()
{
	what=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED $what"
	fi
}
magic() { [ "$(od -An -tx1 -N8 "$1" | tr -d ' ')" = ff50494e46533031 ]; }
not() { ! "$@"; }
size_is() { [ "$(stat -c %s "$1")" = "$2" ]; }

expect 2 usage
expect 2 usage a b
expect 2 usage -x a
expect 0 usage -h
expect 0 'format 1.0' -V
expect 2 'not a size' -s 15M "$img"
expect 2 'not a size' -s 17T "$img"
expect 2 'not a size' -s -1 "$img"
expect 2 'not a size' -s 16X "$img"
expect 2 'not a size' -s 16777217 "$img"
expect 2 'not a size' -s 99999999999999999999 "$img"
expect 2 'at most 32' -L 123456789012345678901234567890123 "$img"
expect 2 'not a UUID' -U 1234 "$img"
expect 1 'No such file' "$img"
check "refusals create nothing" [ ! -e "$img" ]
expect 1 'neither a regular file nor a DAX' /dev/null
expect 1 'Is a directory' "$TMPDIR"

expect 0 '16 MiB, 4096 blocks' -s 16M -L twelve -U 01234567-89ab-cdef-0123-456789ABCDEF "$img"
check "superblock at the start" magic "$img"
check "uuid on the device" grep -q 0123456789abcdef0123456789abcdef <<-END
	$(od -An -tx1 -j16 -N16 "$img" | tr -d ' \n')
	END
expect 1 'pinfs filesystem; -f overwrites' "$img"
expect 1 'pinfs filesystem; -f overwrites' -s 32M "$img"
check "refused: not resized" size_is "$img" 16777216
expect 0 '32 MiB' -f -s 32M "$img"
check "resized" size_is "$img" 33554432
expect 0 '32 MiB' -f "$img"

# The first superblock alone is gone: still somebody's filesystem. Twin: with both gone it is nobody's.
dd if=/dev/zero of="$img" bs=4096 count=1 conv=notrunc status=none
expect 1 'pinfs filesystem; -f overwrites' "$img"
dd if=/dev/zero of="$img" bs=4096 count=1 seek=8191 conv=notrunc status=none
expect 0 '32 MiB' "$img"

truncate -s 32M "$TMPDIR/mkfs-ext4"
if command -v mkfs.ext4 >/dev/null && mkfs.ext4 -q "$TMPDIR/mkfs-ext4" 2>/dev/null; then
	expect 1 'holds ext4 filesystem' "$TMPDIR/mkfs-ext4"
	check "ext4 untouched" not magic "$TMPDIR/mkfs-ext4"
	expect 0 '32 MiB' -f "$TMPDIR/mkfs-ext4"
else
	echo "SKIP ext4: no mkfs.ext4"
fi
printf '1234' > "$TMPDIR/mkfs-odd"
expect 1 'smaller than 16 MiB' "$TMPDIR/mkfs-odd"
expect 1 'is 4 bytes long; -f resizes' -s 16M "$TMPDIR/mkfs-odd"
truncate -s 20000001 "$TMPDIR/mkfs-odd"
expect 1 'multiple of 4096' "$TMPDIR/mkfs-odd"

# A device in use is refused with the pid, also with -f.
flock -s --no-fork "$img" sh -c 'echo ready; exec sleep 1d' > "$TMPDIR/mkfs-ready" &
holder=$!
until grep -q ready "$TMPDIR/mkfs-ready" || ! kill -0 $holder 2>/dev/null; do
	sleep 0.05
done
expect 1 "in use by .*pid $holder (" -f "$img"
kill $holder
wait $holder 2>/dev/null
holder=
expect 0 '32 MiB' -f "$img"

# 16 TiB: the map and little else.
rm -f "$img"
expect 0 '4294967296 blocks' -s 16T "$img"
check "sparse" [ "$(stat -c %b "$img")" -lt $((600 * 2048)) ]
rm -f "$img"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
