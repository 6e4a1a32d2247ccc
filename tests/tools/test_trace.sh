#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_trace.sh - pinfsctl trace on a real mount: what is in a trace of a truncate that waits for DMA, who may trace, how a
# trace ends; and that a file whose events are not in order, or lost an end, is refused.
set -u
export LC_ALL=C
build=${PINFS_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
if [ ! -w /dev/fuse ] || [ "$(id -u)" -ne 0 ]; then
	echo "SKIP trace: /dev/fuse cannot be opened, or not root"
	exit 77
fi
own=
if [ -z "${TMPDIR:-}" ]; then
	TMPDIR=$(mktemp -d /dev/shm/pinfs-trace-XXXXXX)
	own=$TMPDIR
	chmod 711 "$own"
fi
t=$TMPDIR/t
m=$t/mnt
sock=$t/s
server='' tracer=''
cleanup()
{
	for p in $server $tracer; do
		kill "$p" 2>/dev/null
	done
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
		echo "FAILED $*: status $got (want $status), said: $(printf '%s' "$said" | head -c 2000) (want: $pattern)"
	fi
}
# until_it COMMAND...: repeat it, two minutes at most, until it succeeds
until_it()
{
	late=$(($(date +%s) + 120))
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt $late ] || { echo "FAILED in two minutes: $*"; failed=$((failed + 1)); return 1; }
		sleep 0.02
	done
}
dmaemu=$build/dmaemu
ctl=$build/pinfsctl

"$build/mkfs.pinfs" -s 32M "$t/img" >/dev/null || exit 1
"$build/pinfs" "$t/img" "$m" || exit 1
head -c 100000 /dev/zero >"$m/f"
PINFS_PIN_STACK=1 "$dmaemu" serve --socket "$sock" >"$t/ready" &
server=$!
until_it grep -q 'ready on' "$t/ready"

# One truncate that waits for DMA: the command of the trace does it all.
cat >"$t/scene" <<EOS
until_it() { e=\$((\$(date +%s) + 120)); until "\$@" >/dev/null 2>&1; do [ \$(date +%s) -lt \$e ] || exit 9; sleep 0.02; done; }
"$dmaemu" submit --socket "$sock" --id 50 --label nic --delay 1h --offset 4096 --length 8192 "$m/f" || exit 8
truncate -s 0 "$m/f" &
until_it sh -c "'$ctl' pins --json '$m' | grep -q '\"state\":\"pins\"'"
"$dmaemu" cancel --socket "$sock" 50
wait
exit 3
EOS
expect 3 '[0-9] events in .*/one.json$' "$ctl" trace "$m" -o "$t/one.json" --file "$m/f" -- sh "$t/scene"
expect 0 '^$' sh -c "'$ctl' trace --check '$t/one.json'; echo"
# Each event is a line.
event() { grep -c "$@" "$t/one.json"; }
expect 0 '^1$' event '"ph":"b".*"cat":"pin".*"name":"pin 1.*dma 50".*"foff":4096,"len":8192.*"label":"dma 50".*"over":false'
expect 0 '^1$' event '"ph":"e".*"cat":"pin"'
expect 0 '^1$' event '"ph":"X".*"cat":"break","name":"truncate".*"err":0,"before":false'
expect 0 '^1$' event '"ph":"b".*"cat":"invalidate".*"comm":"dmaemu"'
expect 0 '^1$' event '"ph":"X".*"cat":"unmap"'
expect 0 '^1$' event '"name":"scan: pinned"'
expect 0 '^1$' event '"ph":"X".*"cat":"wait","name":"waits for pins".*"pins":1'
expect 0 '^1$' event '"cat":"held".*holds up truncate of truncate'
expect 0 '^2$' event '"ph":"s"'
expect 0 '^2$' event '"ph":"f"'
expect 0 '^1$' event '"name":"wake"'
expect 0 '^1$' event '"name":"scan: idle"'
expect 0 '^1$' event '"cat":"work"'
expect 0 '^1$' event '"cat":"dma","name":"DMA to file nic".*"pin":"1\.'
expect 0 '^[1-9]' event '"cat":"fault","name":"fault (store)"'
expect 0 '^1$' event '"name":"process_name","args":{"name":"pinfs (daemon)"}'
expect 0 '^1$' event '"name":"process_name","args":{"name":"truncate"}'
expect 0 '^1$' event '"name":"thread_name","args":{"name":"pinfs-serve"}'
expect 0 '"lost":0' head -n 1 "$t/one.json"

# The picture of it: in it are all who took part, and nothing that is no SVG 1.1.
ino=$(stat -c %i "$m/f")
expect 0 '^$' sh -c "'$ctl' timeline '$t/one.json' -o '$t/one.svg'; echo"
for words in 'truncate of f: .* for 1 pin' 'pin 1\.[0-9]*: dma 50' 'DMA to the blocks: nic' 'waits .* for pins' 'asks dmaemu to unmap' \
	'parked' 'looks: idle' 'changes the file' "inode $ino, bytes from 0 B on, on_busy=wait" 'pid [0-9]*' '>leaves the file<'; do
	expect 0 '' grep -q "$words" "$t/one.svg"
done
expect 1 '' grep -qiE '<script|onload|href|foreignObject' "$t/one.svg"
expect 0 '^1$' sh -c "grep -c '^</svg>' '$t/one.svg'"
# No text begins inside another one of its line.
# shellcheck disable=SC2016 # they are awk's
expect 0 '^apart$' awk -F'"' '
	/^<text/ {
		n = split($0, part, ">"); sub("</text", "", part[2]); sub(/&[a-z]*;/, "x", part[2])
		w = length(part[2]) * (/class="title"/ ? 9 : 5.5); x = $2 - (/class="(time|num)"/ ? w / 2 : 0)
		for (i = 0; i < k; i++)
			if (y[i] == $4 && x < b[i] && a[i] < x + w) { print part[2], "on", what[i]; bad = 1 }
		y[k] = $4; a[k] = x; b[k] = x + w; what[k++] = part[2]
	}
	END { if (!bad && k > 30) print "apart" }' "$t/one.svg"
expect 1 'no such operation' "$ctl" timeline "$t/one.json" -o "$t/x.svg" --break 999999
expect 1 'no such operation' "$ctl" timeline "$t/one.json" -o "$t/x.svg" --file "$m"
expect 1 'cannot be read' "$ctl" timeline "$t/none.json" -o "$t/x.svg"
expect 1 'No such file' "$ctl" timeline "$t/one.json" -o "$t/none/x.svg"
expect 2 'usage' "$ctl" timeline "$t/one.json"

# Twins: the checker sees what is wrong with a file that is not as it was written.
n=$(grep -n '"cat":"wait"' "$t/one.json" | cut -d: -f1)
awk -v n="$n" 'NR == n { kept = $0; next } { print } NR == n + 6 { print kept }' "$t/one.json" >"$t/order.json"
expect 1 'is earlier than the one before' "$ctl" trace --check "$t/order.json"
grep -v '"ph":"e".*"cat":"pin"' "$t/one.json" >"$t/noend.json"
expect 1 'never ends: b pin' "$ctl" trace --check "$t/noend.json"
grep -v '"ph":"b".*"cat":"invalidate"' "$t/one.json" >"$t/nobegin.json"
expect 1 'has not begun' "$ctl" trace --check "$t/nobegin.json"
grep -v '"ph":"s".*"unpinned"' "$t/one.json" >"$t/noflow.json"
expect 1 'has not begun' "$ctl" trace --check "$t/noflow.json"
grep -v '"cat":"held"' "$t/one.json" >"$t/noslice.json"
expect 1 'outside of any slice' "$ctl" trace --check "$t/noslice.json"
sed '/"cat":"wait"/s/"dur":/"dur":9/' "$t/one.json" >"$t/nest.json"
expect 1 'not inside the slice' "$ctl" trace --check "$t/nest.json"
head -n 5 "$t/one.json" >"$t/half.json"
expect 1 'no JSON' "$ctl" trace --check "$t/half.json"

# What is older than the trace, and goes on after it.
head -c 100000 /dev/zero >"$m/g"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 60 --delay 1h "$m/g"
truncate -s 0 "$m/g" &
cutter=$!
until_it sh -c "'$ctl' pins --json '$m' | grep -q '\"state\":\"pins\"'"
expect 0 'events in' "$ctl" trace "$m" -o "$t/two.json" --seconds 50ms
expect 0 '' "$ctl" trace --check "$t/two.json"
expect 0 '"before":true,"over":true' grep '"cat":"pin","name":"pin 1.*dma 60"' "$t/two.json"
expect 0 '"before":true,"over":true' grep '"cat":"break","name":"truncate"' "$t/two.json"
expect 0 'pin 1.* holds up truncate' grep '"cat":"held"' "$t/two.json"
expect 0 '' "$dmaemu" cancel --socket "$sock" 60
wait $cutter

# Pins, summed up and picked out; one is kicked.
head -c 100000 /dev/zero | tee "$m/g" >"$m/h"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 70 --delay 1h --length 8192 "$m/g"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 71 --delay 1h --length 4096 "$m/h"
expect 0 '' "$dmaemu" submit --socket "$sock" --id 72 --delay 1h --offset 8192 --length 4096 "$m/h"
expect 0 "^ *$(stat -c %i "$m/h")  *2  *8 KiB  *1 .* $m/h\$" "$ctl" pins --by file "$m"
expect 0 "^ *$server  *0  *[0-9-]* [0-9:]*  *3  *16 KiB  *2 .* dmaemu\$" "$ctl" pins --by pid "$m"
expect 0 '"by_pid": *\[{"pid":.*"pins":3,"bytes":16384,"files":2' "$ctl" pins --by pid --json "$m"
expect 0 '^1 pin$' "$ctl" pins --label 'dma 71' "$m"
expect 0 '^2 pins$' "$ctl" pins --file "$m/h" "$m"
expect 0 '^3 pins$' "$ctl" pins --pid $server --api pin --older 1us "$m"
expect 0 '^no pins$' "$ctl" pins --older 5h "$m"
expect 0 '"pins": *\[\]' "$ctl" pins --json --pid 1 "$m"
expect 2 'usage' "$ctl" pins --by user "$m"
# Who made them, in whatever build: the function that asks the library, first, and the thread's beginning.
expect 0 '^ *dma_submit_window+0x[0-9a-f]* (dmaemu)$' "$ctl" pins --stack --label 'dma 71' "$m"
expect 0 'start_thread\|clone\|libc.so\|main' "$ctl" pins --stack --label 'dma 71' "$m"
expect 0 '"stack":\["0x[0-9a-f]*".*"frames":\["dma_submit_window' "$ctl" pins --stack --json "$m"
"$dmaemu" run --delay 1h --length 4096 "$m/g" >/dev/null &
plain=$!
until_it sh -c "'$ctl' pins '$m' | grep -q 'dma $plain'"
expect 0 '"frames"' "$ctl" pins --stack --json --pid $server "$m"
expect 1 '' sh -c "'$ctl' pins --stack --json --pid $plain '$m' | grep 'stack'"
kill $plain
wait $plain 2>/dev/null
pin=$("$ctl" pins --label 'dma 71' "$m" | awk '/dmaemu/ { print $1 }')
truncate -s 0 "$m/h" &
cutter=$!
until_it sh -c "'$ctl' pins --json '$m' | grep -q '\"state\":\"pins\"'"
expect 0 '^$' sh -c "'$ctl' kick $pin '$m'; echo"
expect 0 "^ *$pin .* (void) " "$ctl" pins "$m"
expect 0 '1 operation waits' "$ctl" pins "$m"
expect 0 '' "$dmaemu" cancel --socket "$sock" 72
wait $cutter
expect 0 '^1 block of no file kept from reuse' "$ctl" pins "$m"
expect 0 '' "$dmaemu" cancel --socket "$sock" 71
until_it sh -c "! '$ctl' pins '$m' | grep -q 'kept from reuse'"
expect 1 "there is no pin $pin" "$ctl" kick "$pin" "$m"
expect 2 'usage' "$ctl" kick 1 "$m"
expect 2 'usage' "$ctl" kick 1.x "$m"
expect 0 '' "$dmaemu" cancel --socket "$sock" 70

# One at a time; it ends with the tracer, however that ends; nobody else may.
"$ctl" trace "$m" -o "$t/three.json" >"$t/said" 2>&1 &
tracer=$!
until_it sh -c "'$ctl' status --json '$m' | grep -q '\"tracer\":$tracer,'"
expect 1 "process $tracer traces it already" "$ctl" trace "$m" -o /dev/null --seconds 1ms
kill -INT $tracer
wait $tracer
tracer=
expect 0 'events in' cat "$t/said"
expect 0 '' "$ctl" trace --check "$t/three.json"
"$ctl" trace "$m" -o /dev/null >/dev/null 2>&1 &
tracer=$!
until_it sh -c "'$ctl' status --json '$m' | grep -q '\"tracer\":$tracer,'"
kill -9 $tracer
wait $tracer 2>/dev/null
tracer=
until_it "$ctl" trace "$m" -o /dev/null --seconds 1ms
expect 0 'events in' "$ctl" trace "$m" -o /dev/null --seconds 1ms
kill $server
wait $server
server=
if setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
	chmod 711 "$t"
	umount "$m"
	until_it "$build/pinfs" "$t/img" "$m" -o allow_other
	cp "$ctl" "$t/ctl"
	expect 1 'only root and the user who mounted' setpriv --reuid=65534 --regid=65534 --clear-groups "$t/ctl" trace "$m" -o /dev/null \
		--seconds 1ms
	expect 1 'only root and the user who mounted' setpriv --reuid=65534 --regid=65534 --clear-groups "$t/ctl" kick 1.0 "$m"
fi

# Bad use; a command that is not there; a daemon that dies.
expect 2 'usage' "$ctl" trace "$m"
expect 2 'usage' "$ctl" trace "$m" -o /dev/null --seconds x
expect 2 'usage' "$ctl" trace "$m" -o /dev/null --seconds 1 -- true
expect 1 'No such file' "$ctl" trace "$m" -o /dev/null -- "$t/none"
expect 1 'No such file' "$ctl" trace "$m" -o "$t/none/x" --seconds 1ms
expect 1 'not on a pinfs mount' "$ctl" trace "$t" -o /dev/null
pid=$("$ctl" status --json "$m" | sed -n 's/.*"daemon_pid": *\([0-9]*\).*/\1/p')
expect 0 'daemon has gone' "$ctl" trace "$m" -o "$t/gone.json" -- sh -c "kill -9 $pid; sleep 0.1; true"
expect 0 '' "$ctl" trace --check "$t/gone.json"
umount "$m"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
