#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# peer.sh - builds libfuse's passthrough_ll, which Debian ships as an example, for pinbench to compare with.
#
#   tools/peer.sh BUILD CC
#
# Where the example is not installed (a machine without documentation), pinbench compares with bindfs.
set -eu
[ -x "$1/passthrough_ll" ] && exit 0
src=$(dpkg -L libfuse3-dev 2>/dev/null | grep '/passthrough_ll\.c$') || exit 0
[ -r "$src" ] || exit 0
# shellcheck disable=SC2046
"$2" -O2 -w -I"$(dirname "$src")" -o "$1/passthrough_ll" "$src" $(pkg-config --cflags --libs fuse3)
