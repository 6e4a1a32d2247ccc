#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# man.sh - manual pages: groff and mandoc have nothing to say about them, and every installed program and public call has one.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
pages=$(find fs shim tools include -name '*.[1-8]' | sort)

for p in $pages; do
	# groff warns and exits with 0: any output is a fault.
	out=$(groff -ww -mdoc -Tutf8 -z "$p" 2>&1)
	[ -z "$out" ] || { echo "$out"; bad=1; }
	mandoc -T lint -W warning "$p" || bad=1
	# A quote that takes its neighbours in: of several on one line.
	# shellcheck disable=SC1112
	groff -mdoc -Tutf8 -rLL=500n "$p" | grep -n '‘[^’]*‘' && { echo "$p: a quote inside a quote"; bad=1; }
	grep -q '^\.Dd ' "$p" || { echo "$p: not an mdoc page"; bad=1; }
done

# Names that a page of section $1 stands for: the .Nm lines of its NAME section.
names()
{
	for p in $(echo "$pages" | grep "\.$1\$"); do
		awk '/^\.Sh/ { name = /NAME/ } name && /^\.Nm/ { print $2 }' "$p"
	done
}
for n in pinrun pinfsctl dmaemu pinbench pinfs-conform; do
	[ -e "tools/$n.c" ] || [ "$n" = pinfs-conform ] || continue
	names 1 | grep -qx "$n" || { echo "$n(1): no manual page"; bad=1; }
done
for n in pinfs mkfs.pinfs fsck.pinfs pinfsdump; do
	[ -e "tools/$n.c" ] || [ "$n" = pinfs ] || continue
	names 8 | grep -qx "$n" || { echo "$n(8): no manual page"; bad=1; }
done
# shellcheck disable=SC2013
for n in $(sed -nE 's/^(int|void|struct [a-z_]+ \*)[ ]?(pinfs_[a-z_]+)\(.*/\2/p' include/pinfs/pin.h include/pinfs/lease.h); do
	names 3 | grep -qx "$n" || { echo "$n(3): no manual page"; bad=1; }
done
exit $bad
