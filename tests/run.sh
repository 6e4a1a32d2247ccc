#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - runs test programs one after another and counts. The last line is "N passed, N failed, N skipped".
#
#   tests/run.sh [-b BUILD] [-t SECONDS] [KIND | KIND/NAME] ... [-b BUILD2 ...]
#
# A program is $BUILD/tests/KIND/test_NAME, or tests/KIND/test_NAME.sh. It gets PINFS_BUILD (where the programs are) and
# TMPDIR (an empty directory of its own on /dev/shm). It exits 0, non-zero, or 77 (skipped as a whole), and is counted by
# its own last summary line, else by CUnit's table; a line "SKIP what: why" is a test that could not run. README.md says more.
#
# What a program leaves behind - mounts, processes, files - is a failure. With CI=true so is a skip because
# of /dev/fuse: a run that tested nothing must not look like one that passed.
#
# Every run sees the same: little of the environment gets through, and limits, locale, time zone, umask and what
# signals do are set here. Any number of runs may go on at the same time.
set -u
unset CDPATH
cd -P "$(dirname "$0")/.." || exit 2
exec </dev/null		# it may have been closed: then a file of ours would be in its place

for v in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
	case $v in
	PATH | PWD | CI | CC | TMPDIR | LD_LIBRARY_PATH | PKG_CONFIG_* | CPATH | LIBRARY_PATH | C_INCLUDE_PATH) ;;
	PINFS_* | *SAN_OPTIONS) ;;
	*) unset "$v" ;;
	esac
done
export LC_ALL=C TZ=UTC TERM=dumb SHELL=/bin/sh
umask 022
# shellcheck disable=SC3045
ulimit -S -c 0
# shellcheck disable=SC3045
ulimit -S -n 8192 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"
# A SIGPIPE or SIGHUP that was ignored before us cannot be got back by a shell.
clean=
env --default-signal true 2>/dev/null && clean='env --default-signal'

build=build
limit=900	# seconds: what takes one here may take thirty on a small machine that has other things to do
kinds='unit tools crash fuzz shim mount pin prog conform nobody'
# What is run once more as nobody: a daemon, mounts and windows of an ordinary user.
as_nobody='shim/window shim/window_life shim/pin mount/data pin/window pin/policy pin/process pin/process_fault'
passed=0 failed=0 skipped=0
bad=
skips=

scratch=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/pinfs-check.XXXXXX") || exit 2
scratch=$(cd -P "$scratch" && pwd)	# as the table of mounts has it
chmod 711 "$scratch"		# some tests run programs as another user
export HOME="$scratch"
# Containers have a /dev/shm of 64 MiB. A tmpfs of one's own is better; all that is left on it goes with it.
own=
need_mib=1024
has_mib() { df -Pm "$scratch" | awk 'NR == 2 { print $4 }'; }
if [ "$(has_mib)" -lt $need_mib ]; then
	mount -t tmpfs -o mode=711 pinfs-check "$scratch" 2>/dev/null && own=1
	[ "$(has_mib)" -ge $need_mib ] ||
		echo "run.sh: $scratch has room for $(has_mib) MiB, and tests take up to $need_mib: some may fail for want of it"
fi
# Sanitizers speak into files: a test may have put stderr elsewhere when they have something to say.
said=log_path=$scratch/sanitizer
# A signal in a window is the program's own; ASan's handlers would end it with a report.
export ASAN_OPTIONS="${ASAN_OPTIONS:-$said handle_segv=0 handle_sigbus=0}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-$said print_stacktrace=1}"
# Directories are locked in the order of the tree, which rename(2) changes: the ranks of fs/base/lock.h check what TSan's graph cannot.
export TSAN_OPTIONS="${TSAN_OPTIONS:-$said halt_on_error=1 die_after_fork=0 handle_segv=0 handle_sigbus=0 detect_deadlocks=0 suppressions=$PWD/tests/tsan.supp}"

# Mounts below the scratch directory.
mounts()
{
	awk -v dir="$scratch/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo
}

# Processes that this run has started, one pid a line: their TMPDIR is ours, whatever became of their parents.
processes()
{
	grep -lsz "^TMPDIR=$scratch/" /proc/[0-9]*/environ | cut -d/ -f3
}

# A daemon that was told to end may need a moment, and half a minute when the machine has others.
settled()
{
	settle_until=
	until [ -z "$(mounts)$(processes)" ]; do
		: "${settle_until:=$(($(date +%s) + 30))}"
		[ "$(date +%s)" -le "$settle_until" ] || return 1
		sleep 0.1
	done
}

# Say what is left, and remove it, so that the next program starts clean.
leftovers()
{
	for m in $(mounts); do
		echo "left mounted: $m"
		umount -l "$m" 2>/dev/null || fusermount3 -u -z "$m"
	done
	for p in $(processes); do
		echo "left running: pid $p: $(tr '\0' ' ' 2>/dev/null <"/proc/$p/cmdline")"
		kill -9 "$p" 2>/dev/null
	done
	find "$dir" -mindepth 1 2>/dev/null | sed 's/^/left behind: /'
}

cleanup()
{
	leftovers >/dev/null
	rm -rf --one-file-system "${scratch:?}"/* ${copy:+"$copy"}
	[ -z "$own" ] || umount "$scratch" 2>/dev/null || umount -l "$scratch"
	rmdir "$scratch"
}
copy=
dir=$scratch/none
PINFS_BUILD=
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# Sets p, f and s from the output in $1 and the exit status $2.
count()
{
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$1" | tail -n 1)
	if [ -n "$line" ]; then
		# shellcheck disable=SC2086
		set -- "$1" "$2" $line
		p=$3 f=$5 s=$7
	else
		s=$(grep -c '^SKIP ' "$1")
		# CUnit: "tests  total ran passed failed inactive"
		table=$(awk '$1 == "tests" && NF == 6 { t = $4 " " $5 } END { print t }' "$1")
		if [ -n "$table" ]; then
			p=${table% *} f=${table#* }
			p=$((p > s ? p - s : 0))
		elif [ "$2" -eq 0 ]; then
			p=1 f=0
		else
			p=0 f=0
		fi
	fi
	if [ "$2" -eq 77 ] && [ "$f" -eq 0 ]; then
		p=0
		[ "$s" -gt 0 ] || s=1
	elif [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
	elif [ "$((p + f + s))" -eq 0 ]; then
		echo "run.sh: no test ran" >>"$1"
		f=1
	fi
	if [ "${CI:-}" = true ] && grep -q '^SKIP .*/dev/fuse' "$1"; then
		echo "run.sh: skipped for want of /dev/fuse: in CI that is a failure" >>"$1"
		f=$((f + s)) s=0
	fi
}

run()	# KIND/test_NAME, the program, and what runs it as somebody else
{
	out=$scratch/out
	dir=$scratch/$(basename "$1")
	mkdir -p "$dir"
	[ $# -lt 3 ] || chown 65534:65534 "$dir"
	start=$(date +%s)
	if [ -x "$2" ]; then
		# timeout(1) makes a process group and signals all of it; what escaped is found below.
		# shellcheck disable=SC2086
		TMPDIR=$dir timeout -k 60 "$limit" $clean ${3:-} "$2" >"$out" 2>&1
		rc=$?
	else
		echo "run.sh: $2 was not built" >"$out"
		rc=127
	fi
	secs=$(($(date +%s) - start))
	cat "$scratch"/sanitizer.* >>"$out" 2>/dev/null
	rm -f "$scratch"/sanitizer.*
	count "$out" "$rc"
	why=
	case $rc in
	0 | 77) ;;
	124 | 137) why="timed out after $limit s" ;;
	*) why="exit status $rc" ;;
	esac
	settled
	left=$(leftovers)
	rm -rf --one-file-system "$dir"
	if [ -n "$left" ]; then
		echo "$left" >>"$out"
		f=$((f + 1)) why="${why:+$why, }left something behind"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ "$s" -gt 0 ] && skips="$skips$(sed -n "s|^SKIP |  $1: |p" "$out" | sort | uniq)
"
	word=ok
	[ "$p" -eq 0 ] && word=skip
	if [ "$f" -gt 0 ]; then
		word=FAIL
		bad="$bad $1"
		sed 's/^/    | /' "$out"
	fi
	printf '%-4s %-30s %4d passed %3d failed %3d skipped %4d s%s\n' \
		"$word" "$1" "$p" "$f" "$s" "$secs" "${why:+  ($why)}"
}

# By a shell: what setpriv starts itself is still found with the rights of before.
# shellcheck disable=SC2016
nobody_runs() { $su sh -c '"$0" --list' "$1/tests/pin/test_window" >/dev/null 2>&1; }

# Where nobody can reach the programs, and nothing forbids to run what is there; PINFS_BUILD is empty if that is nowhere.
copy_for_nobody()
{
	for place in /tmp /var/tmp "$scratch"; do
		copy=$(mktemp -d "$place/pinfs-nobody.XXXXXX" 2>/dev/null) || continue
		(cd "$PINFS_BUILD" && cp --parents libpinfs.so pinfs mkfs.pinfs fsck.pinfs dmaemu pinfsctl pinrun tests/*/test_[dpw]* "$copy")
		chmod -R a+rX "$copy"
		nobody_runs "$copy" && break
		rm -rf "$copy"
		copy=
	done
	PINFS_BUILD=$copy
}

# The programs of as_nobody, or one of them: "nobody", "nobody/pin/window". They are run where nobody may run them.
run_nobody()
{
	PINFS_BUILD=$(cd -P "$build" 2>/dev/null && pwd) || { echo "run.sh: no directory $build: build first"; exit 2; }
	if [ "$(id -u)" -ne 0 ]; then
		skipped=$((skipped + 1)) skips="$skips  nobody: this is not root: all tests are an ordinary user's
"
		return
	fi
	su='setpriv --reuid=65534 --regid=65534 --clear-groups'
	nobody_runs "$PINFS_BUILD" || copy_for_nobody
	if [ -z "$PINFS_BUILD" ]; then
		skipped=$((skipped + 1)) skips="$skips  nobody: there is no place from which nobody can run programs
"
		return
	fi
	export PINFS_BUILD
	# Whether such a user can mount at all: a case that needs it is skipped otherwise.
	dir=$scratch/probe
	mkdir "$dir" && chown 65534:65534 "$dir"
	probe=$(TMPDIR=$dir $su "$PINFS_BUILD/tests/pin/test_process" --filter 'process/clone with' 2>&1)
	[ $? -ne 77 ] || probe=refused:$(printf '%s\n' "$probe" | sed -n 's/^SKIP [^:]*: //p')
	settled
	rm -rf --one-file-system "$dir"
	for t in $as_nobody; do
		case ${1#nobody} in
		'' | "/$t" | "/${t%/*}/test_${t#*/}") ;;
		*) continue ;;
		esac
		case $t:$probe in
		shim/*) ;;
		*:refused:*)
			skipped=$((skipped + 1)) skips="$skips  nobody/$t: ${probe#refused:}
"
			continue
			;;
		esac
		run "nobody/$t" "$PINFS_BUILD/tests/${t%/*}/test_${t#*/}" "$su"
	done
	rm -rf ${copy:+"$copy"}
	copy=
}

# Every program of a kind, or the one that is named: "pin", "pin/test_wait", "pin/wait".
run_kind()
{
	PINFS_BUILD=$(cd -P "$build" 2>/dev/null && pwd) || { echo "run.sh: no directory $build: build first"; exit 2; }
	export PINFS_BUILD
	kind=${1%%/*}
	name=${1#"$kind"}
	name=${name#/}
	name=${name#test_}
	found=0
	# shellcheck disable=SC2086
	for src in tests/$kind/test_${name:-*}.c tests/$kind/test_${name:-*}.sh; do
		[ -e "$src" ] || continue
		found=1
		base=$(basename "$src")
		case $src in
		*.c) run "$kind/${base%.c}" "$PINFS_BUILD/tests/$kind/${base%.c}" ;;
		*) run "$kind/${base%.sh}" "$PWD/$src" ;;
		esac
	done
	if [ -n "$name" ] && [ $found -eq 0 ]; then
		echo "run.sh: no test program $1"
		failed=$((failed + 1))
	fi
}

ran=0
while [ $# -gt 0 ]; do
	case $1 in
	-b) build=$2; echo "in $build:"; shift ;;
	-t) limit=$2; shift ;;
	-*) sed -n '5s/^# *//p' "$0" >&2; exit 2 ;;
	nobody*) ran=1; run_nobody "$1" ;;
	*) ran=1; run_kind "$1" ;;
	esac
	shift
done
if [ $ran -eq 0 ]; then
	for k in $kinds; do
		case $k in
		nobody) run_nobody "$k" ;;
		*) run_kind "$k" ;;
		esac
	done
fi
[ -n "$skips" ] && printf 'skipped:\n%s' "$skips"
[ -n "$bad" ] && echo "failed:$bad"
[ $((passed + failed)) -eq 0 ] && echo "nothing was tested" && failed=1
echo "$passed passed, $failed failed, $skipped skipped" | tee "$build/check.summary"
[ "$failed" -eq 0 ]
