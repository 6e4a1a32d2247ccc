#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_stress_ng.sh - stress-ng's filesystem stressors that can verify what they do, each for a moment, on one mount
# that is checked in the end; those that map files also under pinrun.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need stress-ng

secs=1
[ -z "$long" ] || secs=15
if [ -n "$long" ]; then
	calls='access aio aiol chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl fiemap file-ioctl
		filename flock fpunch fstat getdent hdd io iomix lease link locka lockf lockofd mknod open rename revio seek
		sendfile symlink sync-file touch utime verity xattr'
	maps='mmap mmapfork mmapmany mremap msync madvise'
else
	calls='aiol copy-file dentry fallocate filename fpunch getdent iomix link rename'
	maps='mmap msync mremap'
fi
known=$(stress-ng --help 2>&1)

fresh 512M
stress()	# RUN NAME
{
	printf '%s\n' "$known" | grep -q -- "--$2 " || { skip "$2" 'this stress-ng does not know it'; return; }
	case $2 in
	mmap) extra='--mmap-file --mmap-bytes 8m' ;;
	msync) extra='--msync-bytes 8m' ;;
	mremap) extra='--mremap-bytes 4m' ;;
	hdd) extra='--hdd-bytes 8m' ;;
	iomix) extra='--iomix-bytes 16m' ;;
	fallocate) extra='--fallocate-bytes 16m' ;;
	seek) extra='--seek-size 8m' ;;
	*) extra= ;;
	esac
	mkdir -p "$m/work"
	# shellcheck disable=SC2086
	step "${1:+windows: }$2" $1 stress-ng --$2 2 $extra --timeout $secs --verify --temp-path "$m/work"
	rm -rf "$m/work"
}
for s in $calls $maps; do
	stress '' "$s"
done
for s in $maps; do
	stress "$build/pinrun" "$s"
done
finish
