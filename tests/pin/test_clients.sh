#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_clients.sh - dmaemu and pinfsctl on a real mount: what their manuals say about verbs, options, lines and exit statuses.
set -u
export LC_ALL=C
build=${PINFS_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
if [ ! -w /dev/fuse ] || [ "$(id -u)" -ne 0 ]; then
	echo "SKIP clients: /dev/fuse cannot be opened, or not root"
	exit 77
fi
own=
if [ -z "${TMPDIR:-}" ]; then
	TMPDIR=$(mktemp -d /dev/shm/pinfs-clients-XXXXXX)
	own=$TMPDIR
fi
t=$TMPDIR/c
m=$t/mnt
sock=$t/s
server=
cleanup()
{
	[ -z "$server" ] || kill "$server" 2>/dev/null
	wait
	umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
	rm -rf --one-file-system "$t"
	[ -z "$own" ] || rmdir "$own"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir "$t" "$m" || exit 1
passed=0 failed=0

# expect STATUS PATTERN COMMAND...: ends with STATUS, and some line that it prints matches PATTERN
expect()
{
	status=$1 pattern=$2
	shift 2
	said=$("$@" 2>&1)
	got=$?
	if [ $got -eq "$status" ] && printf '%s\n' "$said" | grep -q -- "$pattern"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED $*: status $got (want $status), said: $said (want: $pattern)"
	fi
}
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
dmaemu=$build/dmaemu
ctl=$build/pinfsctl

"$build/mkfs.pinfs" -s 32M -L clients "$t/img" >/dev/null || exit 1
"$build/pinfs" "$t/img" "$m" || exit 1
head -c 100000 /dev/zero >"$m/f"
mkdir "$m/d"

# dmaemu run
expect 0 'transfer 7 (pin, from-device): 100000 of 100000 bytes of .*/f at offset 0, done' "$dmaemu" run --id 7 "$m/f"
expect 0 'bytes at 0 are transfer 7' "$dmaemu" verify --id 7 "$m/f"
expect 0 '100000 of 100000.*done' "$dmaemu" run --verify --id 7 "$m/f"
expect 1 'EBADMSG' "$dmaemu" run --verify --id 8 "$m/f"
expect 1 'offset 0' "$dmaemu" run --verify --id 7 --label other "$m/f"
expect 0 '3000 of 3000' "$dmaemu" run --id 9 --offset 4000 --length 3000 --burst 100 "$m/f"
expect 0 'bytes at 4000 are transfer 9' "$dmaemu" verify --id 9 --offset 4000 --length 3000 "$m/f"
expect 1 'is not transfer 7' "$dmaemu" verify --id 7 "$m/f"
expect 0 'bytes of DMA in place, 0 foreign' "$dmaemu" verify "$m/f"
expect 0 '"foreign_bytes":0' "$dmaemu" verify --json "$m/f"
expect 0 'device offset' "$dmaemu" run -v --id 1 "$m/f"
expect 0 '"state":"done","moved":4096.*"error":null' "$dmaemu" run --json --length 4096 "$m/f"
expect 0 '500 of 100000' "$dmaemu" run --stop-at 500 "$m/f"
expect 1 '600 of 100000 bytes .* ENXIO' "$dmaemu" run --error-at 600:ENXIO "$m/f"
expect 1 'EIO' "$dmaemu" run --error-at 0 "$m/f"
expect 0 'transfer 3 (raw' "$dmaemu" run --id 3 --mode raw --unmap "$m/f"
# The delay, and 4 KiB at 24 KiB a second: at least that.
expect 0 'done after \([3-9][0-9][0-9]\|[0-9]\{4,\}\) ms' "$dmaemu" run --length 4096 --delay 150ms --rate 24K "$m/f"
expect 0 'transfer 4 (odp, from-device): 100000 of 100000' "$dmaemu" run --id 4 --mode odp "$m/f"
expect 0 'bytes at 0 are transfer 4' "$dmaemu" verify --id 4 "$m/f"
expect 3 'pin: Operation not supported' "$dmaemu" run --mode long "$m/f"
expect 0 '100000 of 100000' "$dmaemu" run --id 6 --direct "$m/f"
expect 0 '100000 of 100000' "$dmaemu" run --id 6 --seed 5 --jitter 10us "$m/f"
expect 0 'bytes at 0 are transfer 6' "$dmaemu" verify --id 6 "$m/f"
expect 1 'the same schedule again: --seed 5' "$dmaemu" run --seed 5 --error-at 50000 "$m/f"
expect 1 '"seed":5' "$dmaemu" run --json --seed 5 --error-at 50000 "$m/f"
expect 0 '100000 of 100000' "$dmaemu" run --id 8 --tear 1us --burst 1000 "$m/f"
expect 0 'bytes at 0 are transfer 8' "$dmaemu" verify --id 8 "$m/f"
printf 'these bytes, not a pattern' >"$t/in"
expect 0 '26 of 26' "$dmaemu" run --in "$t/in" --offset 99 "$m/f"
expect 0 '26 of 26' "$dmaemu" run --out "$t/out" --offset 99 --length 26 "$m/f"
expect 0 '' cmp "$t/in" "$t/out"
# A copy of a file is full of bytes that were meant for another inode.
expect 0 '' "$dmaemu" run --id 5 "$m/f"
cp "$m/f" "$m/copy"
expect 1 'FOREIGN: meant for inode' "$dmaemu" verify "$m/copy"
expect 1 '"foreign":true' "$dmaemu" verify --json "$m/copy"

# What it refuses.
expect 3 'No such file' "$dmaemu" run "$m/none"
expect 3 'directory' "$dmaemu" run "$m/d"
expect 3 'not on a pinfs mount' "$dmaemu" run "$t/in"
expect 3 'beyond the end' "$dmaemu" run --offset 100000 "$m/f"
expect 3 'beyond the end' "$dmaemu" run --offset 1 --length 100000 "$m/f"
expect 3 'beyond the end' "$dmaemu" run --offset 9223372036854775807 --length 9223372036854775807 "$m/f"
truncate -s 8192 "$m/hole"
expect 3 'pin: Bad address' "$dmaemu" run --verify "$m/hole"
expect 2 'not a size' "$dmaemu" run --length x "$m/f"
expect 2 'not a time' "$dmaemu" run --delay 5y "$m/f"
expect 2 'no such error' "$dmaemu" run --error-at 5:EFOO "$m/f"
expect 2 'must be one of pin, raw, long, lease, odp' "$dmaemu" run --mode x "$m/f"
expect 2 'nothing without the IOMMU' "$dmaemu" run --mode odp --direct "$m/f"
expect 2 'asks for pages of the mapping' "$dmaemu" run --mode odp --unmap "$m/f"
expect 2 'go with --mode lease' "$dmaemu" run --deaf "$m/f"
expect 2 'needs --seed' "$dmaemu" run --jitter 1ms "$m/f"
expect 2 'only what is written' "$dmaemu" run --verify --tear 1ms "$m/f"
expect 2 'belongs to submit' "$dmaemu" run --owner client "$m/f"
expect 2 'only a lease is handed over' "$dmaemu" submit --socket "$sock" --owner handover "$m/f"
expect 2 'needs --mode pin, long or lease' "$dmaemu" submit --socket "$sock" --owner client --mode odp "$m/f"
expect 2 'which file' "$dmaemu" run
expect 2 'needs --socket' "$dmaemu" submit "$m/f"
expect 2 'no such verb' "$dmaemu" fly
expect 3 'no device serves' "$dmaemu" list --socket "$sock"
expect 2 'File name too long' "$dmaemu" list --socket "$(printf '%0200d' 0)"

# The device as a process.
"$dmaemu" serve --socket "$sock" >"$t/ready" &
server=$!
until_it grep -q 'ready on' "$t/ready"
expect 3 'a device serves it already' "$dmaemu" serve --socket "$sock"
expect 0 '^1$' "$dmaemu" submit --socket "$sock" --delay 1h "$m/f"
expect 0 'transfer 1 (pin, from-device): 0 of .* queued' "$dmaemu" list --socket "$sock"
expect 4 'has not ended in time' "$dmaemu" wait --socket "$sock" --timeout 10ms 1
expect 3 'transfer number in use' "$dmaemu" submit --socket "$sock" --id 1 "$m/f"
expect 0 'ECANCELED' "$dmaemu" cancel --socket "$sock" 1
expect 3 'no such transfer' "$dmaemu" go --socket "$sock" 77
expect 0 '^2$' "$dmaemu" submit --socket "$sock" --delay 1h --mode odp "$m/f"
expect 0 'transfer 2' "$dmaemu" go --socket "$sock" 2
expect 0 'done' "$dmaemu" wait --socket "$sock" 2
expect 1 'ECANCELED' "$dmaemu" wait --socket "$sock" 1
expect 0 '^1$' "$dmaemu" submit --socket "$sock" --id 1 "$m/f"
expect 0 'done' "$dmaemu" wait --socket "$sock" 1
expect 0 '"id":3.*"state":"done"' "$dmaemu" submit --socket "$sock" --wait --json "$m/f"
expect 1 'EIO' "$dmaemu" submit --socket "$sock" --wait --error-at 10 "$m/f"
expect 3 'no such transfer' "$dmaemu" wait --socket "$sock" 99
expect 3 'not on a pinfs mount' "$dmaemu" submit --socket "$sock" "$t/in"
expect 3 'beyond the end' "$dmaemu" submit --socket "$sock" --offset 1G "$m/f"

# pinfsctl, with a pin and a truncate that waits for it.
expect 0 '^policy *on_busy=wait, break=range' "$ctl" status "$m"
expect 0 'label clients' "$ctl" status "$m/d"
expect 0 '"on_busy": *"wait"' "$ctl" status --json "$m"
expect 0 '^no pins' "$ctl" pins "$m"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 50 --delay 1h --offset 4096 --length 4096 "$m/f"
until_it sh -c "'$ctl' pins '$m' | grep -q 'dma 50'"
expect 0 "$server .* dmaemu .* 4096-8191 *dma 50 " "$ctl" pins "$m"
truncate -s 0 "$m/f" &
cutter=$!
until_it sh -c "'$ctl' pins '$m' | grep -q 'truncate .* pins *dmaemu'"
expect 0 "$cutter .* truncate .* pins *dmaemu ($server), 1 page" "$ctl" pins "$m"
expect 0 "dmaemu .* live" "$ctl" status "$m"
expect 0 '^waiting *1 operation' "$ctl" status "$m"
expect 0 '"what": *"truncate"' "$ctl" pins --json "$m"
expect 0 'ECANCELED' "$dmaemu" cancel --socket "$sock" 50
wait $cutter
expect 0 '^0$' stat -c %s "$m/f"
expect 0 '^nobody waits' "$ctl" pins "$m"
expect 1 'not on a pinfs mount' "$ctl" status "$t"
expect 1 'No such file' "$ctl" status "$t/none"
expect 2 'no such verb' "$ctl" fly "$m"
expect 2 '^usage' "$ctl" status
expect 0 '^usage' "$ctl" --help

# Evicted, it holds up nobody; what it has pinned is kept from reuse, and it may come again.
expect 1 'has no session' "$ctl" evict $$ "$m"
expect 2 'not a process id' "$ctl" evict f "$m"
expect 2 '^usage' "$ctl" evict "$m"
head -c 100000 /dev/zero >"$m/f"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 55 --delay 1h --offset 0 --length 8192 "$m/f"
until_it sh -c "'$ctl' pins '$m' | grep -q 'dma 55'"
expect 0 '^$' sh -c "'$ctl' evict $server '$m'; echo"
expect 1 'cut off already' "$ctl" evict $server "$m"
expect 0 " evicted$" "$ctl" status "$m"
expect 0 '' truncate -s 0 "$m/f"
expect 0 '^2[0-9]* blocks of no file kept' "$ctl" pins "$m"
expect 0 "$server  *dmaemu .* evicted  *$m/f" "$ctl" pins "$m"
expect 0 '' "$dmaemu" cancel --socket "$sock" 55
expect 0 '100000 of 100000.*done' "$dmaemu" submit --socket "$sock" --wait "$m/copy"
until_it sh -c "! '$ctl' pins '$m' | grep -q 'kept'"	# with its transfer the device has let go
expect 1 '' sh -c "'$ctl' pins '$m' | grep 'kept'"

# The device ends in order, and with it what it still had to do.
expect 0 '' "$dmaemu" submit --socket "$sock" --id 60 --delay 1h "$m/copy"
kill $server
wait $server
expect 0 '^0$' echo $?
server=
expect 1 '' test -e "$sock"
until_it sh -c "'$ctl' pins '$m' | grep -q '^no pins'"
until_it sh -c "! '$ctl' pins '$m' | grep -q 'kept from reuse'"
expect 0 ' 0 B kept until' "$ctl" status "$m"
expect 0 '^no pins' "$ctl" pins "$m"

# A dead daemon: one line.
pid=$("$ctl" status --json "$m" | sed -n 's/.*"daemon_pid": *\([0-9]*\).*/\1/p')
kill -9 "$pid"
until_it sh -c "! kill -0 $pid"
expect 1 'daemon of this mount is gone' "$ctl" status "$m"
umount "$m"
expect 0 '' "$build/pinfs" "$t/img" "$m"
umount "$m"
until_it "$build/fsck.pinfs" -n "$t/img"
expect 0 'clean' "$build/fsck.pinfs" -n "$t/img"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
