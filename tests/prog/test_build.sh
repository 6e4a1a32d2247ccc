#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_build.sh - a C project is built on it: this one's core and mkfs.pinfs, with sources, objects, archive,
# dependencies and the program on the mount. The program works, make sees that nothing is left to do, a touched header
# rebuilds what includes it, and the objects are those that a build elsewhere makes.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need make cc ar

fresh 256M
unset MAKEFLAGS MFLAGS MAKELEVEL
copy()
{
	mkdir -p "$1/tools" &&
		cp -r "$source/Makefile" "$source/fs" "$source/include" "$source/tests" "$1" &&
		cp -r "$source"/tools/mkfs.pinfs* "$source/tools/lib" "$1/tools"
}
make_in() { (cd "$1" && shift && make -s "$@"); }
objects() { (cd "$1/src" && find b/obj/fs/base -name '*.o' | sort | xargs sha256sum); }

step 'copy the sources' copy "$m/src"
[ -z "$long" ] && opt=-O0 || opt='-O2 -g'
step 'make' make_in "$m/src" -j2 "OPT=$opt" B=b b/mkfs.pinfs
step 'the program runs' "$m/src/b/mkfs.pinfs" -s 16M "$m/made"
step 'and has made an image' "$build/fsck.pinfs" -n "$m/made"
step 'nothing is left to do' make_in "$m/src" -q "OPT=$opt" B=b b/mkfs.pinfs
touch "$m/src/fs/base/crc32c.h"
step 'a touched header is noticed' sh -c "! make -s -q -C '$m/src' OPT='$opt' B=b b/mkfs.pinfs"
step 'make again' make_in "$m/src" -j2 "OPT=$opt" B=b b/mkfs.pinfs
step 'remount' remount_it
step 'nothing is left to do after a remount' make_in "$m/src" -q "OPT=$opt" B=b b/mkfs.pinfs
objects "$m" >"$t/here"
mkdir "$t/else"
step 'copy elsewhere' copy "$t/else/src"
# shellcheck disable=SC2046
step 'make some objects elsewhere' make_in "$t/else/src" "OPT=$opt" B=b $(cd "$m/src" && find b/obj/fs/base -name '*.o')
objects "$t/else" >"$t/there"
same 'the same objects' "$t/there" "$t/here"
if [ -n "$long" ]; then
	step 'clean' rm -rf "$m/src/b"
	step 'make under pinrun' "$build/pinrun" make -s -C "$m/src" -j2 "OPT=$opt" B=b b/mkfs.pinfs
	step 'the program runs' "$m/src/b/mkfs.pinfs" -f -s 16M "$m/made"
fi
finish
