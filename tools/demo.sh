#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# demo.sh - the problem and the answers in half a minute: DMA against truncate, once per policy. `make demo` runs it.
#
#   tools/demo.sh [DIRECTORY]     for the image and the mount point; default: a new one on /dev/shm
#
# Every claim that it prints is checked; it ends with a non-zero status if one was not true. It cleans up after itself.
# The programs (pinfs, mkfs.pinfs, fsck.pinfs, dmaemu, pinfsctl) are found in PATH.
set -u
export LC_ALL=C

LEN=65536		# of the file that the device writes into: 16 blocks
DMA_MS=1500		# the device is slow: it writes this long after it was told the addresses

base=${1:-$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")}
dir=$(mktemp -d "$base/pinfs-demo.XXXXXX") || exit 2
img=$dir/disk.img
mnt=$dir/mnt
device=			# pid of the transfer in flight
mkdir "$mnt"

bold='' plain=''
if [ -t 1 ]; then
	bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi

now_ms() { date +%s%3N; }
say() { printf '  %s\n' "$*"; }
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

mounted() { awk -v m="$mnt" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; }

unmount()
{
	mounted || return 0
	if [ "$(id -u)" -eq 0 ]; then umount "$@" "$mnt"; else fusermount3 -u ${1:+-z} "$mnt"; fi
}

cleanup()
{
	[ -z "$device" ] || kill "$device" 2>/dev/null
	wait
	unmount 2>/dev/null || unmount -l 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

fail()
{
	printf '\n%sdemo: FAILED: %s%s\n' "$bold" "$*" "$plain" >&2
	exit 1
}

# Each policy starts from an empty filesystem, so nothing depends on what came before.
begin()	# MOUNT-OPTIONS
{
	rm -f "$img"
	mkfs.pinfs -s 16M "$img" >/dev/null || fail "mkfs.pinfs"
	pinfs "$img" "$mnt" -o "$1" 2>"$dir/log" || { cat "$dir/log" >&2; fail "pinfs -o $1"; }
	sed 's/^/  | /' "$dir/log"
	head -c "$LEN" /dev/zero | tr '\0' 'o' >"$mnt/old.dat" || fail "cannot write old.dat"
}

end()
{
	unmount || fail "umount"
	# The daemon writes its last block after the mount point is free.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		fsck.pinfs -n "$img" >"$dir/fsck" 2>&1 && return 0
		sleep 0.2
	done
	cat "$dir/fsck" >&2
	fail "fsck.pinfs found errors"
}

# The device learns where old.dat's blocks are, pins them, and will write into them in DMA_MS.
start_dma()	# dmaemu run options
{
	t0=$(now_ms)
	: >"$dir/dma"
	dmaemu run -v --id 7 --label "DMA for old.dat" --delay "${DMA_MS}ms" "$@" "$mnt/old.dat" >"$dir/dma" 2>&1 &
	device=$!
	i=0
	until grep -q '^file offset' "$dir/dma"; do
		kill -0 "$device" 2>/dev/null || { cat "$dir/dma" >&2; fail "the device did not start"; }
		i=$((i + 1))
		[ "$i" -lt 200 ] || fail "the device did not start"
		sleep 0.02
	done
	say "A device is told to write $((LEN / 1024)) KiB into old.dat. It pins the blocks and starts writing in $DMA_MS ms."
}

end_dma()
{
	wait "$device" || { cat "$dir/dma" >&2; fail "the transfer did not end well"; }
	device=
}

# truncate -s 0 old.dat: its status, and took_ms.
cut()
{
	t1=$(now_ms)
	truncate -s 0 "$mnt/old.dat" 2>"$dir/err"
	rc=$?
	t2=$(now_ms)
	took_ms=$((t2 - t1))
	return $rc
}

# Somebody else creates a file, as big as there is room, so that every free block is in it.
make_new()
{
	cat "$dir/text" >"$mnt/new.dat" 2>/dev/null
	new_len=$(stat -c %s "$mnt/new.dat") || fail "cannot create new.dat"
	[ "$new_len" -gt 1000000 ] || fail "there is no room for new.dat"
	intact || fail "new.dat is wrong before the device has written"
}

intact() { cmp -s -n "$new_len" "$dir/text" "$mnt/new.dat"; }

dump()	# FILE OFFSET
{
	od -A d -t x1z -j "$2" -N 64 "$mnt/$1" | sed -n "s/^/    $1  /; /  [0-9]* [0-9a-f][0-9a-f] /p"
}

at_once() { [ "$1" -lt $((DMA_MS / 2)) ]; }
blocks_of_dma() { dmaemu verify "$mnt/new.dat"; }

printf '%s\n' \
	"A file on a DAX filesystem has no page cache: when a device does DMA into a mapping of the file, it writes" \
	"into the file's disk blocks themselves. What if somebody truncates the file while the device is still busy?" \
	"The blocks go to the next file that needs some, and the device does not know."
awk 'BEGIN { for (i = 0; i < 327680; i++) printf "new.dat, line %06d: this text belongs to new.dat and no other\n", i }' >"$dir/text"

title "1. on_busy=unsafe: a filesystem that does not look at pins (Linux before 4.17)"
begin on_busy=unsafe
start_dma
cut || fail "truncate failed: $(cat "$dir/err")"
at_once "$took_ms" || fail "truncate took $took_ms ms"
say "old.dat is truncated to nothing: returns after $took_ms ms. Its blocks are free now."
make_new
say "Somebody else creates new.dat and fills the disk with it ($new_len bytes). Every byte is right."
first=$(sed -n 's/.*is device offset \([0-9]*\),.*/\1/p' "$dir/dma" | head -n 1)
say "Now the device writes, to device offset $first, as it was told."
end_dma
blocks_of_dma >"$dir/verify" && fail "the device's late bytes did not land in new.dat"
intact && fail "new.dat is intact under on_busy=unsafe"
at=$(sed -n 's/^offset \([0-9]*\),.*FOREIGN.*/\1/p' "$dir/verify" | head -n 1)
say "new.dat at offset $at, before and after:"
od -A d -t x1z -j "$at" -N 64 "$dir/text" | sed -n "s/^/    before   /; /  [0-9]* [0-9a-f][0-9a-f] /p"
dump new.dat "$at"
foreign=$(sed -n 's/.* \([0-9]*\) foreign$/\1/p' "$dir/verify")
[ "$foreign" -eq "$LEN" ] || fail "$foreign bytes of new.dat were overwritten, not $LEN"
say "$foreign bytes of new.dat are destroyed. Nobody got an error. That is the bug."
end

title "2. on_busy=wait: truncate waits for the device (the default, as Linux does)"
begin on_busy=wait
start_dma
say "old.dat is truncated ..."
cut || fail "truncate failed: $(cat "$dir/err")"
end_dma
since=$((t2 - t0))
[ "$since" -ge "$DMA_MS" ] || fail "truncate returned after $since ms, before the DMA had ended"
[ "$since" -lt $((DMA_MS + 1000)) ] || fail "truncate returned only after $since ms"
say "... and returns $since ms after the device was started; the DMA ended at $(sed -n 's/.*done after //p' "$dir/dma")."
make_new
intact || fail "new.dat is not intact"
say "new.dat is created from the freed blocks, and is right: the device had finished with them."
end

title "3. on_busy=ebusy: truncate is refused at once"
begin on_busy=ebusy
start_dma
cut && fail "truncate succeeded"
grep -q 'Device or resource busy' "$dir/err" || fail "truncate failed with: $(cat "$dir/err")"
at_once "$took_ms" || fail "truncate took $took_ms ms to fail"
say "truncate says, after $took_ms ms: $(sed 's/.*: //' "$dir/err")"
end_dma
dmaemu verify --id 7 "$mnt/old.dat" >/dev/null || fail "old.dat does not hold what the device wrote"
say "old.dat keeps its size and holds just what the device wrote."
end

title "4. on_busy=defer: truncate succeeds at once, the blocks are kept back until the device has finished"
begin on_busy=defer
start_dma
cut || fail "truncate failed: $(cat "$dir/err")"
at_once "$took_ms" || fail "truncate took $took_ms ms"
say "old.dat is truncated to nothing: returns after $took_ms ms."
make_new
pinfsctl status "$mnt" | sed -n 's/^space */  pinfsctl: /p' || fail "pinfsctl status"
say "new.dat takes all the space there is ($new_len bytes), but not those blocks."
end_dma
blocks_of_dma >/dev/null || fail "the device's bytes landed in new.dat"
intact || fail "new.dat is not intact"
say "The device has written. Every byte of new.dat is right."
end

title "5. wait once more, with what real Linux gets wrong: nobody maps the file any more"
begin on_busy=wait
start_dma --unmap
say "The program unmaps and closes old.dat. Only the pin is left (Linux looks for pins through mappings, and forgets it)."
pinfsctl pins "$mnt" >"$dir/pins" || fail "pinfsctl pins"
grep -q dmaemu "$dir/pins" || fail "pinfsctl does not show the pin"
sed 's/^/  | /' "$dir/pins"
cut || fail "truncate failed: $(cat "$dir/err")"
end_dma
since=$((t2 - t0))
[ "$since" -ge "$DMA_MS" ] || fail "truncate returned after $since ms, before the DMA had ended"
say "truncate returns $since ms after the device was started; the DMA ended at $(sed -n 's/.*done after //p' "$dir/dma")."
make_new
blocks_of_dma >/dev/null || fail "the device's bytes landed in new.dat"
intact || fail "new.dat is not intact"
say "new.dat is right."
end

printf '\nEverything above happened as said; fsck.pinfs found nothing wrong.\n'
