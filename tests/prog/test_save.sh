#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_save.sh - how programs save files: a new file synced and renamed over the old one, as editors do; appended
# logs, fsynced; dd with each of its flags. The daemon is killed in the middle: what was reported as saved is there,
# as a whole.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need dd sync

rounds=4
[ -z "$long" ] || rounds=40

# version N: the text of a document at its Nth save; its last line names it
version() { seq -f "version $1 line %g" $(($1 * 131 % 900)); echo "end $1"; }

# An editor saves again and again, and says so, until it fails.
editor()
{
	n=$1
	while
		n=$((n + 1))
		version $n >"$m/doc.new" && sync "$m/doc.new" &&
			{ ! [ -e "$m/doc" ] || ln -f "$m/doc" "$m/doc~"; } &&
			mv "$m/doc.new" "$m/doc" && sync "$m"
	do
		echo $n >>"$t/saved"
	done 2>/dev/null
}
# A logger appends lines and syncs each.
logger()
{
	n=0
	while n=$((n + 1)); printf 'entry %d of the log\n' $n | dd of="$m/log" oflag=append conv=notrunc,fsync status=none; do
		echo $n >>"$t/logged"
	done 2>/dev/null
}
enough() { [ "$(grep -c . "$t/saved")" -ge 20 ] && [ "$(grep -c . "$t/logged")" -ge 20 ]; }
# The document is a version that was saved, whole, and none older than the last that was reported.
doc_is_whole()
{
	n=$(sed -n 's/^end //p' "$m/doc")
	last=$(tail -n 1 "$t/saved")
	echo "document: version $n; reported: $last"
	[ "$n" -ge "$last" ] || return 1
	version "$n" | cmp - "$m/doc" || return 1
	[ ! -e "$m/doc~" ] || version "$(sed -n 's/^end //p' "$m/doc~")" | cmp - "$m/doc~"
}
log_is_whole()
{
	last=$(tail -n 1 "$t/logged")
	have=$(grep -c . "$m/log")
	echo "log: $have lines; reported: $last"
	[ "$have" -ge "$last" ] && seq -f 'entry %g of the log' "$have" | cmp -n "$(stat -c %s "$m/log")" - "$m/log"
}

fresh 64M
saved=0
for round in $(seq $rounds); do
	: >"$t/saved"
	: >"$t/logged"
	rm -f "$m/log"
	editor "$saved" &
	helpers=$!
	logger &
	helpers="$helpers $!"
	step "$round: saves" until_it enough
	kill_it
	step "$round: mount after a kill" mount_it
	step "$round: the document" doc_is_whole
	step "$round: the log" log_is_whole
	saved=$(sed -n 's/^end //p' "$m/doc")
done
step 'unmount and fsck' unmount_it

fresh 64M
head -c 3333333 /dev/urandom >"$t/in"
# copied WHAT DD-ARGUMENTS...: a dd to the mount, and what it made
copied()
{
	what=$1
	shift
	rm -f "$m/out"
	step "dd $what" dd if="$t/in" of="$m/out" status=none "$@" && step "dd $what: same" cmp "$t/in" "$m/out"
}
copied 'by 4k' bs=4k
copied 'by odd blocks' bs=7777
copied 'by 1M' bs=1M
copied conv=fsync bs=64k conv=fsync
copied conv=fdatasync bs=64k conv=fdatasync
copied oflag=sync bs=64k oflag=sync
copied oflag=dsync bs=64k oflag=dsync
copied oflag=direct bs=64k oflag=direct
copied oflag=append bs=5000 oflag=append conv=notrunc
copied conv=sparse bs=4k conv=sparse
copied oflag=nocache bs=64k oflag=nocache
step 'dd iflag=direct' dd if="$m/out" of="$t/out" bs=64k iflag=direct status=none
step 'dd iflag=direct: same' cmp "$t/in" "$t/out"
step 'dd iflag=fullblock,skip_bytes' sh -c "dd if='$m/out' bs=10k skip=12345 iflag=skip_bytes,fullblock status=none | cmp -i 0:12345 - '$t/in'"
step 'dd seek conv=notrunc' sh -c "dd if='$t/in' of='$m/out' bs=1000 seek=1000 count=100 skip=1000 conv=notrunc status=none && cmp '$t/in' '$m/out'"
step 'dd conv=excl refuses' sh -c "! dd if=/dev/null of='$m/out' conv=excl status=none 2>/dev/null"
step 'truncate, shred and remove' sh -c "truncate -s 5000 '$m/out' && shred -n 1 -z '$m/out' && head -c 5000 /dev/zero | cmp -n 5000 - '$m/out' && rm '$m/out'"
step 'install, mktemp, split, sort' sh -c "install -m 640 '$t/in' '$m/installed' && f=\$(mktemp '$m/tmp.XXXXXX') && seq 100000 >\"\$f\" &&
	sort -T '$m' -S 64k -R -o '$m/mixed' \"\$f\" && sort -n -T '$m' -S 64k -o '$m/mixed' '$m/mixed' && cmp \"\$f\" '$m/mixed' &&
	split -b 10000 '$t/in' '$m/part.' && cat '$m'/part.* | cmp - '$t/in' && [ \$(stat -c %a '$m/installed') = 640 ]"
step 'sed -i, patch-like' sh -c "seq 1000 >'$m/s' && sed -i 's/^7/seven/' '$m/s' && [ \$(grep -c seven '$m/s') = 111 ]"
step 'flock' sh -c "flock -n '$m/s' sh -c '! flock -n \"\$0\" true' '$m/s'"
finish
