#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# install.sh - the one list of what `make install` puts where; `make uninstall` removes the same.
#
#   tools/install.sh install|uninstall BUILD DESTDIR PREFIX
set -u
cd "$(dirname "$0")/.." || exit 2
verb=$1 build=$2 root=$3$4 prefix=$4

# Lines of "mode source destination", and "->target destination" for a symbolic link.
list()
{
	for p in pinrun pinfsctl dmaemu pinbench pinfs-conform; do
		echo "755 $build/$p bin/$p"
	done
	for p in pinfs mkfs.pinfs fsck.pinfs pinfsdump; do
		echo "755 $build/$p sbin/$p"
	done
	echo "755 $build/libpinfs.so lib/libpinfs.so"
	echo "644 include/pinfs/pin.h include/pinfs/pin.h"
	echo "644 include/pinfs/version.h include/pinfs/version.h"
	for page in $(find fs shim tools include -name '*.[1-8]' | sort); do
		section=${page##*.}
		echo "644 $page share/man/man$section/$(basename "$page")"
		# A page that describes several calls is found by each of their names.
		# shellcheck disable=SC2013
		for name in $(awk '/^\.Sh/ { n = /NAME/ } n && /^\.Nm/ { print $2 }' "$page"); do
			[ "$name.$section" = "$(basename "$page")" ] ||
				echo "->$(basename "$page") share/man/man$section/$name.$section"
		done
	done
}

pc()
{
	version=$(sed -nE 's/^#define PINFS_VERSION "(.*)".*/\1/p' include/pinfs/version.h)
	printf 'Name: pinfs\nDescription: %s\nVersion: %s\nCflags: -I%s/include\nLibs: -L%s/lib -lpinfs\n' \
		"hold file blocks in place during DMA" "$version" "$prefix" "$prefix"
}

case $verb in
install)
	list | while read -r mode src dst; do
		case $mode in
		'->'*) ln -sf "${mode#->}" "$root/$src" || exit 1 ;;
		*) install -D -m "$mode" "$src" "$root/$dst" || exit 1 ;;
		esac
	done || exit 1
	mkdir -p "$root/lib/pkgconfig" && pc >"$root/lib/pkgconfig/pinfs.pc" || exit 1
	# Into the running system: the loader's cache has to hear of the library.
	[ -n "$3" ] || [ "$(id -u)" -ne 0 ] || ldconfig
	;;
uninstall)
	list | while read -r mode src dst; do
		rm -f "$root/${dst:-$src}"
	done
	rm -f "$root/lib/pkgconfig/pinfs.pc"
	rmdir "$root/include/pinfs" "$root/lib/pkgconfig" 2>/dev/null
	exit 0
	;;
*)
	echo "usage: tools/install.sh install|uninstall BUILD DESTDIR PREFIX" >&2
	exit 2
	;;
esac
