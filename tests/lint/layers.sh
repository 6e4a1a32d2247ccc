#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# layers.sh - the direction of includes.
#
#   include/pinfs <- fs/base <- media <- space <- share <- obj <- op <- front
#   shim/ sees include/pinfs and itself; programs that are clients see the same and tools/lib, tools/dma; mkfs, fsck and dump
#   see fs/ up to op. libfuse belongs to fs/front, libpmem to fs/media/pmem.c.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
say() { echo "$1: $2"; bad=1; }

# "file:header" for each #include "..." or <pinfs/...>, <fuse...>, <libpmem...> below the folders given.
includes()
{
	grep -rnoE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]+["<][^">]+[">]' "$@" 2>/dev/null |
		sed -E 's/^([^:]+:[0-9]+):[^"<]*["<]([^">]+)[">]/\1 \2/'
}

rank()
{
	case $1 in
	base) echo 0 ;; media) echo 1 ;; space) echo 2 ;; share) echo 3 ;; obj) echo 4 ;; op) echo 5 ;; front) echo 6 ;;
	*) echo 9 ;;
	esac
}

check()	# FILE:LINE HEADER
{
	where=$1 header=$2
	file=${where%:*}
	first=${header%%/*}
	case $file in
	include/*)
		case $header in
		pinfs/* | linux/fuse.h) return ;;
		*.h) [ "$first" = sys ] || [ "$first" = "$header" ] || say "$where" "a contract includes $header" ;;
		esac ;;
	fs/*)
		layer=${file#fs/}
		layer=${layer%%/*}
		case $first in
		base | media | space | share | obj | op | front)
			[ "$(rank "$first")" -le "$(rank "$layer")" ] || say "$where" "$layer includes upward: $header" ;;
		shim | tools | dma | tests) say "$where" "fs/ includes $header" ;;
		esac
		case $header in
		fuse*.h) [ "$layer" = front ] || say "$where" "libfuse outside fs/front" ;;
		libpmem*.h) [ "$file" = fs/media/pmem.c ] || say "$where" "libpmem outside fs/media/pmem.c" ;;
		esac ;;
	shim/*)
		case $first in
		base | media | space | share | obj | op | front | lib | dma) say "$where" "shim/ includes $header" ;;
		esac
		case $header in fuse*.h | libpmem*.h) say "$where" "shim/ includes $header" ;; esac ;;
	tools/*)
		case $first in
		front) say "$where" "tools/ includes $header" ;;
		base | media | space | share | obj | op)
			case $file in
			tools/mkfs.pinfs* | tools/fsck.pinfs* | tools/pinfsdump* | tools/pinfsctl/badblock.c | tools/pinfsctl/policy.c | tools/pinfsctl/timeline.c | tools/fsck/* | tools/mkfs/* | tools/lib/*) ;;
			*) say "$where" "a client program includes $header" ;;
			esac ;;
		esac
		case $header in fuse*.h | libpmem*.h) say "$where" "tools/ includes $header" ;; esac ;;
	esac
}

list=$(mktemp) || exit 2
trap 'rm -f "$list"' EXIT
includes include fs shim tools >"$list"
[ -s "$list" ] || say layers.sh "found no include at all"
while read -r where header; do
	check "$where" "$header"
done <"$list"

# A layer's folder is one of the seven.
for d in fs/*/; do
	[ "$(rank "$(basename "$d")")" -lt 9 ] || say "$d" "is no layer"
done
exit $bad
