#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# headers.sh - each header compiles alone, with gcc and with clang; pin.h in C++ too. Guards are named after the file.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
: "${CC:=gcc}" "${CLANG:=clang}" "${WARN:=-Wall -Wextra}" "${FUSE_CFLAGS:=}"

# shellcheck disable=SC2044
for h in $(find include fs shim tools tests -name '*.h'); do
	inc="-Iinclude -Ifs -Ishim -Itools -Itests"
	case $h in
	fs/front/* | tests/*) inc="$inc $FUSE_CFLAGS" ;;
	include/*) inc=-Iinclude ;;
	fs/*) inc="-Iinclude -Ifs" ;;
	shim/*) inc="-Iinclude -Ishim" ;;
	esac
	for compiler in "$CC" "$CLANG"; do
		# Twice: a header must bear that as well. An unused static inline function in a header is no fault.
		# shellcheck disable=SC2086
		printf '#include "%s"\n#include "%s"\n' "$PWD/$h" "$PWD/$h" |
			"$compiler" -std=c11 -D_GNU_SOURCE $WARN -Wno-unused-function -Werror $inc -fsyntax-only -x c - || bad=1
	done
	grep -qE '^#ifndef [A-Z][A-Z0-9_]*_H$' "$h" || { echo "$h: no include guard"; bad=1; }
done
for std in c++11 c++17; do
	printf '#include <pinfs/pin.h>\nint (*p)(struct pinfs_pin *) = pinfs_unpin;\n' |
		g++ -std=$std -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -x c++ - || bad=1
done
exit $bad
