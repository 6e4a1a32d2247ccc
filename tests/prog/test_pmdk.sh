#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_pmdk.sh - PMDK as Debian has it, under pinrun and told nothing: it finds persistent memory; pools of libpmemobj,
# libpmemblk and libpmemlog are made, used, killed at any of PMDK's own stores and fences, and by the death of the daemon,
# and hold then what they promise; pmempool's tools work on them, in one file, in several, in directories.
#
# The programs are in pmdk/. What is promised is checked against a model; the same programs without transactions show
# that the check can fail.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need pmempool

rounds=12
[ -z "$long" ] || rounds=400
run=$build/pinrun
prog=$build/tests/prog/pmdk
unset PMEM_IS_PMEM_FORCE PMEM2_FORCE_GRANULARITY

# ---- what libpmem believes ----

looks()	# RUN DIRECTORY IS_PMEM GRANULARITY
{
	cat >"$t/expected" <<-END
		libpmem nameless is_pmem $3 $3 deep persist 0
		libpmem file is_pmem $3 $3 deep persist 0
		libpmem2 granularity $4 deep flush 0 reserved shared
	END
	$1 "$prog/look" "$2" >"$t/look" && diff -u "$t/expected" "$t/look"
}

fresh 192M
step 'persistent memory' looks "$run" "$m" 1 'cache line'
step 'twin: without pinrun it is none' looks '' "$m" 0 page
mkdir "$t/plain"
step 'twin: nor is another file system under pinrun' looks "$run" "$t/plain" 0 page
for opts in dax=never profile=virtiofs; do
	step "twin: $opts" remount_it
	step "twin: $opts has none" looks "$run" "$m" 0 page
done
opts=
step 'and without these options again' remount_it

# ---- killed at PMDK's steps ----

# The Nth of some numbers up to MOST, the same in every run: opening, recovery and transactions are among these steps.
nth() { echo $((($1 * 7919 + 1013) % $2 + 1)); }

# killed STEP CHECK...: the program of $writer runs until it is killed; then CHECK
killed()
{
	at=$1
	shift
	PINFS_KILL_AT=$at LD_PRELOAD="$prog/killat.so" $run $writer >>"$t/acked" 2>"$t/errors"
	rc=$?
	[ $rc -eq 137 ] || { echo "step $at: ended with $rc"; cat "$t/errors"; return 1; }
	"$@"
}
checked() { $run $checker "$t/acked" && pmempool_ok; }
pmempool_ok() { $run pmempool check "$pool"; }
# fails CHECK...: it ends with a failure, or dies of what it finds
fails() { ! "$@"; }

has() { grep -q "$1" "$t/out" || { cat "$t/out"; return 1; }; }

# pool_of KIND: an empty pool, and how it is written and checked
pool_of()
{
	pool=$m/pool
	rm -f "$pool"
	: >"$t/acked"
	case $1 in
	obj | nontx)
		writer="$prog/hash run $pool 42 1000000000"
		[ $1 = obj ] || writer="$prog/hash bare $pool 42 1000000000"
		checker="$prog/hash check $pool 42"
		$run "$prog/hash" create "$pool"
		;;
	*)
		writer="$prog/store $1 $pool 0"
		checker="$prog/store check-$1 $pool"
		$run "$prog/store" create-$1 "$pool"
		;;
	esac
}

# A byte for each transaction.
more_than() { [ "$(stat -c %s "$t/acked")" -gt $1 ]; }
for kind in obj:3000 blk:1500 log:300; do
	steps=${kind#*:} kind=${kind%:*}
	step "$kind: make" pool_of $kind
	for i in $(seq $rounds); do
		step "$kind: killed $i" killed "$(nth $i $steps)" checked
	done
	# Enough for the check to mean something.
	step "$kind: work was done" more_than 50
done
# The same with two slots of window for a pool of twelve, mapped as one piece: pages go and come back all the time.
opts=window=4M
step 'small window: remount' remount_it
pool_of obj
for i in $(seq 4); do
	step "small window: killed $i" killed "$(nth $i 3000)" checked
done
opts=
step 'a window as large as ever' remount_it

# For libpmemobj the check itself may be killed too, while it recovers.
pool_of obj
died() { PINFS_KILL_AT=$1 LD_PRELOAD="$prog/killat.so" $run $checker "$t/acked"; [ $? -eq 137 ]; }
recovers_twice() { died 3 && died 9 && checked; }
step 'obj: killed in recovery' killed 2345 recovers_twice
in_use()
{
	had=$(stat -c %s "$t/acked")
	$run $writer >>"$t/acked" 2>"$t/errors" &
	helpers=$!
	until_it more_than "$had"
	$run $checker "$t/acked" >"$t/out"
	kill -9 $helpers
	wait $helpers 2>/dev/null
	helpers=
	has unavailable && checked
}
step 'obj: a pool that is in use cannot be opened' in_use

# The model is not satisfied by programs that do without transactions; each of these kills is in the middle of a change.
pool_of nontx
step 'twin: a hash without transactions is damaged' killed 1234 fails checked
pool_of bare
step 'twin: a plain block is torn' killed 45 fails $run $checker "$t/acked"

# ---- the daemon dies ----

daemon_dies()
{
	had=$(stat -c %s "$t/acked")
	$run $writer >>"$t/acked" 2>"$t/errors" &
	helpers=$!
	until_it more_than $((had + 50)) || { cat "$t/errors"; return 1; }
	kill_it && mount_it && checked
}
for kind in obj blk log; do
	pool_of $kind
	for i in 1 2; do
		step "$kind: daemon killed $i" daemon_dies
		[ -n "$long" ] || [ $kind = obj ] || break
	done
	step "$kind: and goes on" killed 500 checked
done

# ---- pmempool ----

info() { $run pmempool info "$1" >"$t/out" && has "$2"; }
dumped() { $run pmempool dump "$1" >"$t/out" && [ "$(wc -c <"$t/out")" -ge $2 ]; }
for kind in 'obj PMEMOBJ' 'blk PMEMBLK 512' 'log PMEMLOG'; do
	set -- $kind
	kind=$1 sign=$2 bsize=${3:-}
	step "pmempool create $kind" $run pmempool create -s 24M $kind $bsize "$m/$kind"
	step "pmempool info $kind" info "$m/$kind" "$sign"
	step "pmempool check $kind" $run pmempool check "$m/$kind"
done
# A header that was damaged is found, and mended from what is redundant in it.
damage() { printf damage | dd of="$1" bs=1 seek=$2 conv=notrunc 2>/dev/null; }
step 'damage the header of blk' damage "$m/blk" 1000
step 'pmempool check finds it' fails $run pmempool check "$m/blk"
mended() { $run pmempool check -rya "$1"; $run pmempool check "$1"; }
step 'pmempool check mends it' mended "$m/blk"
pool_of log
step 'log: some records' $run "$prog/store" log "$pool" 20
step 'pmempool dump' dumped "$pool" 1000
step 'pmempool rm' $run pmempool rm "$m/obj" "$m/blk" "$m/log"
step 'they are gone' test ! -e "$m/obj" -a ! -e "$m/blk" -a ! -e "$m/log"

# Several files and a copy: libpmemobj maps them one behind the other, over one reservation.
cat >"$m/parts.set" <<END
PMEMPOOLSET
8M $m/part0
10M $m/part1
9M $m/part2
REPLICA
26M $m/copy
END
pool=$m/parts.set
: >"$t/acked"
writer="$prog/hash run $pool 7 1000000000"
checker="$prog/hash check $pool 7"
step 'parts and a replica: make' $run "$prog/hash" create "$pool"
for i in 1 2 3; do
	step "parts and a replica: killed $i" killed "$(nth $i 3000)" checked
done
step 'parts and a replica: one is lost' rm "$m/part1"
step 'parts and a replica: the check finds it' fails checked
step 'parts and a replica: pmempool sync' $run pmempool sync "$pool"
step 'parts and a replica: whole again' checked
step 'parts and a replica: daemon killed' daemon_dies
step 'parts and a replica: pmempool rm' $run pmempool rm "$pool"

# Directories: parts come as they are needed.
mkdir "$m/dir0" "$m/dir1"
cat >"$m/dirs.set" <<END
PMEMPOOLSET
OPTION SINGLEHDR
24M $m/dir0/
24M $m/dir1/
END
pool=$m/dirs.set
: >"$t/acked"
writer="$prog/hash run $pool 7 1000000000"
checker="$prog/hash check $pool 7"
step 'directories: make' $run "$prog/hash" create "$pool"
step 'directories: extend' $run "$prog/hash" extend "$pool" 16777216
step 'directories: a second part' test -e "$m/dir1/000001.pmem"
step 'directories: killed' killed 2345 checked
step 'directories: pmempool rm' $run pmempool rm "$pool"

# ---- fio ----

engine()	# ENGINE DIRECTORY
{
	cd "$m" || return
	$run fio --name=job --directory="$2" --size=8m --bs=4k --rw=randwrite --ioengine=$1 --direct=1 --sync=1 --thread \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --randrepeat=1 --numjobs=2 \
		--group_reporting
	rc=$?
	cd /
	return $rc
}
if have fio; then
	step 'fio: libpmem engine' engine libpmem "$m"
else
	skip 'fio with libpmem' 'fio is not installed'
fi
finish
