#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_fio.sh - fio writes blocks that name themselves, in random order and by several jobs, and verifies them: by
# system calls, libaio, io_uring and mmap (plain, and in windows), through the cache and O_DIRECT, before and after a
# remount.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need fio

size=4m
[ -z "$long" ] || size=64m
# job WHAT RUN ARGUMENTS...: written and verified in one go, then read again after a remount
job()
{
	what=$1 run=$2
	shift 2
	rm -f "$m"/job.*
	# State of verification would go to the working directory.
	cd "$m" || return
	set -- fio --name=job --directory="$m" --size=$size --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--verify_backlog=64 --randrepeat=1 --allrandrepeat=1 --group_reporting --numjobs=2 --thread=0 "$@"
	step "$what: write and verify" $run "$@" --do_verify=1
	cd /
	step "$what: remount" remount_it
	cd "$m" || return
	step "$what: verify again" $run "$@" --verify_only
	cd /
}
fresh 256M
job 'psync 4k' '' --rw=randwrite --bs=4k --ioengine=psync
job 'sync, odd sizes, fsync' '' --rw=randwrite --bsrange=512-9k --bs_unaligned --ioengine=sync --fsync=32 --norandommap=0
job 'libaio direct' '' --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 --direct=1
job 'mmap' '' --rw=randwrite --bs=4k --ioengine=mmap --fsync=64
job 'mmap in windows' "$build/pinrun" --rw=randwrite --bs=4k --ioengine=mmap --fsync=64
job 'psync under pinrun' "$build/pinrun" --rw=randwrite --bs=16k --ioengine=psync
if [ -n "$long" ]; then
	job 'pvsync2 direct' '' --rw=randwrite --bs=8k --ioengine=pvsync2 --direct=1
	job 'libaio' '' --rw=randwrite --bs=64k --ioengine=libaio --iodepth=8
	job 'psync, falloc' '' --rw=write --bs=1m --ioengine=psync --fallocate=native --end_fsync=1
	job 'posixaio' '' --rw=randwrite --bs=4k --ioengine=posixaio --iodepth=8
	job 'mmap direct windows, 1M' "$build/pinrun" --rw=write --bs=1m --ioengine=mmap
fi
finish
