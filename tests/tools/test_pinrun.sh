#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_pinrun.sh - pinrun becomes the program, with the library first in LD_PRELOAD, or says in one line why that cannot work.
set -u
build=${PINFS_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
own=
if [ -z "${TMPDIR:-}" ]; then
	TMPDIR=$(mktemp -d /dev/shm/pinfs-pinrun-XXXXXX)
	own=$TMPDIR
fi
t=$TMPDIR/pinrun
cleanup()
{
	rm -rf "$t"
	[ -z "$own" ] || rmdir "$own"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir "$t" || exit 1
passed=0 failed=0 skipped=0
lib=$build/libpinfs.so
# A library built with ASan needs its runtime first; pinrun puts it there.
san=$(readelf -d "$lib" 2>/dev/null | sed -n 's/.*NEEDED.*\[\(lib[atl]*san\.so[^]]*\)\].*/\1:/p' | head -n 1)

# expect STATUS PATTERN COMMAND...: ends with STATUS, and what it says matches PATTERN; a refusal is one line
expect()
{
	status=$1 pattern=$2
	shift 2
	said=$("$@" 2>&1)
	got=$?
	lines=$(printf '%s\n' "$said" | wc -l)
	if [ $got -eq "$status" ] && printf '%s\n' "$said" | grep -q -- "$pattern" && { [ "$status" -lt 125 ] || [ "$lines" -eq 1 ] || [ "$#" -eq 1 ]; }; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED $*: status $got (want $status), said: $said (want: $pattern)"
	fi
}
pinrun=$build/pinrun
unset LD_PRELOAD PINFS_LIB

expect 0 "^LD_PRELOAD=$san$lib\$" "$pinrun" env
expect 0 "LD_PRELOAD=$san$lib\$" "$pinrun" -v true
expect 0 "^LD_PRELOAD=$san$lib:libm.so.6:libdl.so.2\$" env ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" LD_PRELOAD='libm.so.6  libdl.so.2' "$pinrun" env
expect 0 "^LD_PRELOAD=$san$lib\$" "$pinrun" "$pinrun" env
expect 7 '' "$pinrun" sh -c 'exit 7'
expect 143 '' "$pinrun" sh -c 'kill -TERM $$'
expect 0 '^a  b -v$' "$pinrun" echo 'a  b' -v
expect 0 '^PINFS_LOG=debug$' "$pinrun" --log debug env

# Where the library is looked for.
cp "$pinrun" "$t/pinrun" && mkdir "$t/lib" "$t/bin"
expect 125 'is neither in' "$t/pinrun" true
expect 0 "^LD_PRELOAD=$san$lib\$" "$t/pinrun" --lib "$lib" env
expect 0 "^LD_PRELOAD=$san$lib\$" env PINFS_LIB="$lib" "$t/pinrun" env
mv "$t/pinrun" "$t/bin/pinrun" && cp "$lib" "$t/lib/libpinfs.so"
expect 0 "^LD_PRELOAD=$san$t/lib/libpinfs.so\$" "$t/bin/pinrun" env
expect 125 'No such file' "$pinrun" --lib "$t/none" true
expect 125 'not a shared library' "$pinrun" --lib /etc/passwd true
mkdir "$t/a b" && cp "$lib" "$t/a b/"
expect 125 'space or a colon' "$pinrun" --lib "$t/a b/libpinfs.so" true

# What cannot be found or run.
expect 127 'No such file' "$pinrun" no-such-program-here
expect 127 'No such file' "$pinrun" "$t/none"
expect 127 'No such file' "$pinrun" ''
expect 126 'Permission denied' "$pinrun" "$t"
: >"$t/plain" && chmod 644 "$t/plain"
expect 126 'Permission denied' "$pinrun" "$t/plain"
expect 125 '^usage' "$pinrun"
expect 125 'unrecognized option' "$pinrun" --bogus
expect 0 '^usage' "$pinrun" --help
expect 0 '^pinrun' "$pinrun" --version

# Scripts: the interpreter is what counts.
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "$LD_PRELOAD" "$@"\n' >"$t/script" && chmod 755 "$t/script"
expect 0 "^$san$lib one two\$" "$pinrun" "$t/script" one two
chmod u+s "$t/script"
expect 0 "^$san$lib\$" "$pinrun" "$t/script"
printf '#! /nowhere/sh -x\n' >"$t/lost" && chmod 755 "$t/lost"
expect 127 'interpreter /nowhere/sh' "$pinrun" "$t/lost"
printf '#!%s\n' "$t/loop" >"$t/loop" && chmod 755 "$t/loop"
expect 126 'without end' "$pinrun" "$t/loop"
# shellcheck disable=SC2016
printf 'echo text "$1"\n' >"$t/text" && chmod 755 "$t/text"
expect 0 '^text x$' "$pinrun" "$t/text" x
printf '#!\n' >"$t/empty" && chmod 755 "$t/empty"
expect 126 'names no interpreter' "$pinrun" "$t/empty"

# What the loader would not preload.
cp /bin/true "$t/suid" && chmod 4755 "$t/suid"
expect 126 'set-user-id' "$pinrun" "$t/suid"
cp /bin/true "$t/sgid" && chmod 2755 "$t/sgid"
expect 126 'set-group-id' "$pinrun" "$t/sgid"
cp /bin/true "$t/cap"
if setcap cap_net_raw+ep "$t/cap" 2>/dev/null; then
	expect 126 'file capabilities' "$pinrun" "$t/cap"
else
	echo "SKIP capabilities: setcap does not work here"
	skipped=$((skipped + 1))
fi
if echo 'int main(void) { return 0; }' | cc -static -x c - -o "$t/static" 2>/dev/null; then
	expect 126 'statically linked' "$pinrun" "$t/static"
else
	echo "SKIP static: no static C library here"
	skipped=$((skipped + 1))
fi
# Another machine: the same file with e_machine changed; another word size: EI_CLASS.
cp /bin/true "$t/mips" && printf '\010\000' | dd of="$t/mips" bs=1 seek=18 conv=notrunc 2>/dev/null
expect 126 'another machine' "$pinrun" "$t/mips"
cp /bin/true "$t/elf32" && printf '\001' | dd of="$t/elf32" bs=1 seek=4 conv=notrunc 2>/dev/null
expect 126 'another machine or word size' "$pinrun" "$t/elf32"
for n in 4 20 63 100 300; do
	head -c "$n" /bin/true >"$t/cut" && chmod 755 "$t/cut"
	expect 126 'damaged ELF' "$pinrun" "$t/cut"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
