#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_fio_pins.sh - fio, which knows nothing of pinfs, transfers between a disk and buffers that are windows, by libaio, io_uring and
# system calls, while another process takes blocks from under the buffers and gives them to files of its own (fio/surge.c).
#
# Two kinds of fio. One reads from the disk into buffers that are truncated and punched: what it gets is of no
# interest, and that it gets errors where its buffer has gone is right; but not one byte of it may turn up in a victim, however late
# the disk delivers. The other writes, reads back and verifies: of its buffers nothing is lost, whatever is cut behind
# them, and it must find no error. (A program that verifies a buffer which somebody truncates finds zeros there, on any filesystem.)
#
# Under wait, ebusy and defer; and without protection, where foreign bytes must be found. A disk is too fast to be late whenever that
# is wanted: there they come from another pinfs, whose daemon surge stops while it takes the blocks.
# shellcheck source=tests/prog/lib.sh disable=SC2086,SC2317
. "$(dirname "$0")/lib.sh"
need fio
surge=$build/tests/prog/fio/surge
[ -x "$surge" ] || { echo "SKIP test_fio_pins: $surge was not built"; exit 77; }

# A directory on a filesystem whose O_DIRECT works on the pages themselves (tmpfs copies; what is behind an overlay is not known); else an ext4 of our own, on a loop device.
disk='' loop='' slow=''
on_disk()
{
	case $(stat -f -c %T "$1" 2>/dev/null) in
	tmpfs | ramfs | overlayfs | '') return 1 ;;
	esac
	disk=$(mktemp -d "$1/pinfs-fio-XXXXXX" 2>/dev/null) || return 1
	dd if=/dev/zero of="$disk/try" bs=64k count=1 oflag=direct 2>/dev/null && return 0
	rm -rf --one-file-system "$disk"
	return 1
}
no_disk()
{
	[ -z "$loop" ] || umount "$disk" || umount -l "$disk"
	[ -z "$disk" ] || rm -rf --one-file-system "$disk"
}
# In front of lib.sh's: fio and surge have to be gone first.
end()
{
	for p in $helpers $slow; do
		kill -9 "$p" 2>/dev/null
	done
	wait $helpers $slow 2>/dev/null
	grep -qF " $t/slow " /proc/self/mountinfo && umount -l "$t/slow"
	no_disk
	cleanup
}
trap end EXIT
for d in ${PINFS_DISK:-} /var/tmp /tmp "$build"; do
	on_disk "$d" && break
done
if [ -z "$disk" ]; then
	disk=$t/disk loop=1
	mkdir "$disk" && truncate -s 192M "$t/ext4" && mkfs.ext4 -qF "$t/ext4"
	if ! mount -o loop "$t/ext4" "$disk"; then
		loop=''
		echo "SKIP test_fio_pins: no filesystem with O_DIRECT, and no loop device"
		exit 77
	fi
fi

seconds=1
[ -z "$long" ] || seconds=60
depth=16 bs=64k buffer=1M
# What turns up where it does not belong is known by its highest bit.
dd if=/dev/zero bs=1M count=32 2>/dev/null | tr '\0' '\361' >"$disk/foreign"

foreign=$disk/foreign
# slow_disk: another pinfs with a copy; $slow is its daemon
slow_disk()
{
	mkdir "$t/slow" && "$build/mkfs.pinfs" -s 48M "$t/slow.img" >/dev/null || return 1
	"$build/pinfs" -f "$t/slow.img" "$t/slow" >>"$t/log" 2>&1 &
	slow=$!
	until_it grep -qF " $t/slow " /proc/self/mountinfo && cp "$foreign" "$t/slow/foreign" && foreign=$t/slow/foreign
}
no_slow_disk()
{
	kill -CONT "$slow"
	until_it umount "$t/slow" && wait "$slow" && slow='' && rm "$t/slow.img" && rmdir "$t/slow"
}

# reader NAME ENGINE: fio whose buffers are cut
reader()
{
	truncate -s $buffer "$m/cut.$1"
	"$build/pinrun" fio --name="$1" --ioengine=$2 --iodepth=$depth --direct=1 --rw=randread --bs=$bs --norandommap --filename="$foreign" \
		--size=32m --mem=mmapshared:"$m/cut.$1" --time_based --runtime=3600 --continue_on_error=all \
		--ignore_error=EFAULT,EFAULT,EFAULT --thinktime=2000 --thinktime_blocks=32 --invalidate=0 >"$t/fio.$1" 2>&1 &
	helpers="$helpers $!"
	readers="$readers $!"
}
# verifier NAME ENGINE: fio whose buffers stay
verifier()
{
	dd if=/dev/zero of="$m/kept.$1" bs=$buffer count=1 2>/dev/null
	(
		cd "$t" || exit 1
		exec "$build/pinrun" fio --name="$1" --ioengine=$2 --iodepth=$depth --direct=1 --rw=randwrite --bs=$bs --filename="$disk/data.$1" \
			--size=16m --mem=mmapshared:"$m/kept.$1" --time_based --runtime=$seconds --verify=crc32c --verify_fatal=1 \
			--verify_backlog=32 --verify_state_save=0 --do_verify=1 --invalidate=0
	) >"$t/fio.$1" 2>&1 &
	helpers="$helpers $!"
	verifiers="$verifiers $!"
}
# The pins of a kind of call are there to be seen.
seen() { "$build/pinfsctl" pins "$m" 2>/dev/null | grep -qw "$1"; }
ended()	# PID...: all with 0
{
	rc=0
	for p in "$@"; do
		wait "$p" || rc=$?
	done
	[ $rc -eq 0 ] || tail -n 40 "$t"/fio.*
	return $rc
}
stopped()	# PID...: told to stop, and without errors but those of its buffers
{
	kill -INT "$@"
	rc=0
	for p in "$@"; do
		wait "$p"
		s=$?
		# fio says 128 of a run that was interrupted.
		[ $s -eq 0 ] || [ $s -eq 128 ] || rc=$s
	done
	[ $rc -eq 0 ] || tail -n 40 "$t"/fio.*
	return $rc
}

found()	# COMMAND...: ends with 3
{
	"$@"
	rc=$?
	[ $rc -eq 3 ] || echo "ended with $rc"
	[ $rc -eq 3 ]
}

# scene POLICY
scene()
{
	policy=$1 readers='' verifiers='' helpers=''
	fresh 24M "on_busy=$policy"
	[ "$policy" != unsafe ] || step "$policy: a slow disk" slow_disk || return
	for e in libaio io_uring psync; do
		reader $e $e
	done
	if [ "$policy" != unsafe ]; then
		verifier vaio libaio
		verifier vuring io_uring
		verifier vsync sync
	fi
	for api in libaio io_uring direct; do
		# One read(2) at a time of what is as fast as memory, as long as it is not stopped: hardly ever to be seen.
		[ "$api$foreign" != "direct$t/slow/foreign" ] || continue
		step "$policy: pins of $api" until_it seen $api
	done
	set -- "$m/cut.libaio" "$m/cut.io_uring" "$m/cut.psync"
	if [ "$policy" = unsafe ]; then
		step "$policy: foreign bytes are found" found "$surge" -u -x "$slow" -s ${PINFS_SEED:-1} -t 600 "$m" "$@"
	else
		step "$policy: no foreign byte" "$surge" -s ${PINFS_SEED:-1} -t $seconds "$m" "$@" -- "$m/kept.vaio" "$m/kept.vuring" "$m/kept.vsync"
		cat "$t/said"
		step "$policy: fio verifies" ended $verifiers
	fi
	step "$policy: fio goes on" stopped $readers
	helpers=''
	[ "$policy" != unsafe ] || step "$policy: the slow disk goes" no_slow_disk
	step "$policy: nothing is kept" until_it nothing_kept
	if [ "$policy" = unsafe ]; then
		# The foreign bytes may be in place of anything.
		unmount_it >"$t/said" 2>&1 || true
		step "$policy: unmounted" unmounted
	else
		step "$policy: unmount and fsck" unmount_it
	fi
}
nothing_kept() { "$build/pinfsctl" pins "$m" | grep -qx 'no pins'; }

for policy in wait ebusy defer unsafe; do
	scene $policy
done
finish
