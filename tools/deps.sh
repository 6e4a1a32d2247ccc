#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# deps.sh - look for what pinfs needs and install only what is missing, with apt-get.
#
#   tools/deps.sh [build|demo|check|long|model|lint|san|bench|fuzz]
#
# It looks for the thing (a header, a library, a program), not for the package, so it is content on any distribution that has
# them. Where there is no apt-get, or no right to use it, it says in one line what to install.
set -u
cd "$(dirname "$0")/.." || exit 2

what=${1:-check}
missing=
compiler=${CC:-cc}
command -v "$compiler" >/dev/null || compiler=gcc

need()	# PACKAGE, then a command that succeeds when it is there
{
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
prog() { command -v "$1"; }
header() { printf '#include <%s>\n' "$1" | "$compiler" -E ${2:+"$2"} - ; }
module() { pkg-config --exists "$1"; }
links() { printf 'int main(void) { return 0; }\n' | "$compiler" -x c - -o /dev/null "$1"; }

fuzzer()
{
	printf 'int LLVMFuzzerTestOneInput(void *p, long n); int LLVMFuzzerTestOneInput(void *p, long n) { return p && n < 0; }\n' |
		clang -x c -fsanitize=fuzzer,address,undefined - -o /dev/null
}

need_check()
{
	need fuse3 prog fusermount3
	need libcunit1-dev header CUnit/Basic.h
	need systemtap-sdt-dev header sys/sdt.h
	need sqlite3 prog sqlite3
	need git prog git
	need attr prog setfattr
	need acl prog setfacl
	need e2fsprogs prog chattr
	need rsync prog rsync
	need stress-ng prog stress-ng
	need pmdk-tools prog pmempool
	need libibverbs-dev header infiniband/verbs.h
	need libpmem2-dev header libpmem2.h
	need libpmemobj-dev header libpmemobj.h
	need libpmemblk-dev header libpmemblk.h
	need libpmemlog-dev header libpmemlog.h
	need libaio-dev header libaio.h
	need liburing-dev header liburing.h
	need fio prog fio
}
# Some 80 MB: not for every run.
need_long()
{
	need postgresql postgres_server
}
postgres_server() { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; }
need_lint()
{
	need clang prog clang
	need clang-tidy prog clang-tidy
	need cppcheck prog cppcheck
	need g++ prog g++
	need mandoc prog mandoc
	need groff prog groff
}

look()
{
	missing=
	need pkg-config prog pkg-config
	need libfuse3-dev module fuse3
	need libpmem-dev header libpmem.h
	need libjson-c-dev header json-c/json.h
	need libblkid-dev header blkid/blkid.h
	case $what in
	build) ;;
	demo) need fuse3 prog fusermount3 ;;
	check) need_check ;;
	long) need_check; need_long ;;
	model) need spin prog spin ;;
	lint) need_check; need_lint ;;
	san) need_check; need libasan8 links -fsanitize=address ;;
	fuzz)
		need_check
		need clang prog clang
		need libclang-rt-14-dev fuzzer
		;;
	bench) need fuse3 prog fusermount3; need bindfs prog bindfs ;;
	*) echo "usage: tools/deps.sh [build|demo|check|long|model|lint|san|bench|fuzz]" >&2; exit 2 ;;
	esac
}

look
[ -z "$missing" ] && exit 0

give_up() { echo "deps: please install:$missing ($1)" >&2; exit 1; }

command -v apt-get >/dev/null || give_up "there is no apt-get here"
sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || give_up "needs root, or sudo without a password"
	sudo='sudo -n'
fi
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
apt()
{
	$sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 \
		-o Acquire::Retries=5 "$@" >"$log" 2>&1 </dev/null
}
# A new machine often upgrades itself just then, and apt-get waits for one of its locks only.
until_unlocked()
{
	end=$(($(date +%s) + 600))
	until apt "$@"; do
		grep -qE 'Could not get lock|Unable to (acquire|lock)' "$log" && [ "$(date +%s)" -lt $end ] || return 1
		sleep 3
	done
}

echo "deps: installing$missing"
# Lists may be absent (a fresh container) or too old for the archive: try, refresh, try again. And a mirror fails at times.
# shellcheck disable=SC2086
for pause in 0 5 20 60 fail; do
	until_unlocked install --no-install-recommends $missing && break
	if [ $pause = fail ]; then
		tail -n 5 "$log" >&2
		give_up "apt-get failed"
	fi
	sleep $pause
	until_unlocked update
done
look
[ -z "$missing" ] || give_up "apt-get succeeded, but they are still not found"
