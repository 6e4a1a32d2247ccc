#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_archive.sh - tar, rsync and cp carry a tree of everything a tree can hold to the mount and back: same bytes,
# same names, same owners, modes, times to the nanosecond, hard links, symlinks, special files, sparse files; extended
# attributes and ACLs. find, du and ls agree on a big tree.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need tar rsync

# tree DIR: something of everything
tree()
{
	mkdir "$1" && (
		cd "$1" || exit 1
		mkdir -p a/b/c d 'with blank' 'with
newline' && chmod 2775 d && chmod 1777 a
		printf x >a/one
		: >a/empty
		head -c 1000000 /dev/urandom >a/b/random
		ln a/b/random d/hard
		ln a/b/random d/harder
		ln -s ../a/one d/soft
		ln -s "$(printf '%0200d' 0)" d/dangling
		ln -s "$(printf '%04000d' 0)" d/long
		printf y >"$(printf '%0250d' 5)"
		# shellcheck disable=SC2016
		printf z >'with blank/$(odd) *name?'
		printf 'caf\303\251' >"$(printf 'caf\303\251')"
		mkfifo d/fifo
		mknod d/null c 1 3
		mknod d/block b 7 99
		truncate -s 10M a/sparse
		printf data | dd of=a/sparse bs=1 seek=5000000 conv=notrunc status=none
		truncate -s 200M a/huge
		printf end | dd of=a/huge bs=1 seek=190000000 conv=notrunc status=none
		cp /bin/true d/suid && chmod 4755 d/suid
		printf r >d/readonly && chmod 400 d/readonly
		chown 1234:4321 a/one && chown -h 99:98 d/soft
		touch -d '1971-02-03 04:05:06.123456789' a/one
		touch -d '2105-02-03 04:05:06.987654321' a/empty
		touch -h -d '1999-12-31 23:59:59.000000001' d/soft
		for i in $(seq 300); do echo "$i" >"a/b/c/$i"; done
		if [ -n "$xattr" ]; then
			setfattr -n user.short -v value a/one
			setfattr -n user.long -v "$(printf '%03000d' 1)" a/one
			setfattr -n user.empty a/b
			setfattr -n trusted.secret -v 0x00ff00 a/b/random
		fi
		if [ -n "$acl" ]; then
			setfacl -m u:1000:r,g:1001:rw,m::rw a/one
			setfacl -d -m u:1000:rwx d
		fi
		touch -d '2001-01-01 00:00:01.5' a/b/c a/b a d .
	)
}
# list DIR: all that can be seen of a tree, but times of access and sizes of directories
list()
{
	(
		cd "$1" || exit 1
		find . -printf '%p\t%y\t%m\t%U:%G\t%n\t%T@\t%l\n' | sort
		find . -type f -printf '%p\t%s\n' | sort
		find . -type f ! -name huge -print0 | sort -z | xargs -0 sha256sum
		find . \( -type c -o -type b \) -exec stat -c '%n %t:%T' {} + | sort
		[ -z "$xattr" ] || find . ! -type l -print0 | sort -z | xargs -0 getfattr -d -m '^(user|trusted)\.' -e hex
		[ -z "$acl" ] || find . ! -type l -print0 | sort -z | xargs -0 getfacl -n
	) >"$2" 2>&1
}
# identical WHAT DIR: as the source
identical()
{
	list "$2" "$t/list"
	same "$1" "$t/list.source" "$t/list"
}
few_blocks()	# a sparse file is sparse still
{
	for f in "$1/a/sparse" "$1/a/huge"; do
		blocks=$(stat -c %b "$f")
		echo "$f: $blocks blocks of 512"
		[ "$blocks" -le 512 ] || return 1
	done
}

fresh 256M
# What both sides can carry.
xattr='' acl=''
if have setfattr && have getfattr; then
	: >"$t/probe"
	: >"$m/probe"
	if ! setfattr -n user.a -v b "$m/probe" 2>/dev/null; then
		skip xattr 'this mount has no extended attributes'
	elif ! setfattr -n user.a -v b "$t/probe" 2>/dev/null; then
		xattr_source=$m
		xattr=1
	else
		xattr_source=$t
		xattr=1
	fi
	if have setfacl && have getfacl && [ -n "$xattr" ]; then
		if setfacl -m u:1000:r "$m/probe" 2>/dev/null && setfacl -m u:1000:r "$xattr_source/probe" 2>/dev/null; then
			acl=1
		else
			skip acl 'this mount has no ACLs'
		fi
	fi
	rm -f "$m/probe"
else
	skip xattr 'setfattr and getfattr are not installed'
fi
# Where the tmpfs of this kernel has no user.* attributes, the source is a tree on the mount.
src=${xattr_source:-$t}/source
step 'make the tree' tree "$src"
list "$src" "$t/list.source"

step 'cp -a to the mount' cp -a "$src" "$m/cp"
identical 'cp -a: same' "$m/cp"
step 'cp -a keeps holes' few_blocks "$m/cp"
tar="tar --format=posix --warning=no-timestamp --numeric-owner${xattr:+ --xattrs --xattrs-include='*'}${acl:+ --acls}"
step 'tar to the mount' sh -c "mkdir '$m/tar' && $tar -S -C '$src' -cf - . | $tar -C '$m/tar' -xpf -"
identical 'tar: same' "$m/tar"
step 'tar keeps holes' few_blocks "$m/tar"
step 'tar from the mount' sh -c "$tar -S -C '$m/tar' -cf '$m/archive' . && mkdir '$m/back' && $tar -C '$m/back' -xpf '$m/archive'"
identical 'tar there and back: same' "$m/back"
step 'tar --compare' tar -C "$m/tar" --compare -f "$m/archive"
rsync="rsync -aH${xattr:+X}${acl:+A} --numeric-ids"
step 'rsync to the mount' $rsync -S "$src/" "$m/rsync"
identical 'rsync: same' "$m/rsync"
step 'rsync has nothing left to do' sh -c "! $rsync -Snc --itemize-changes --delete '$src/' '$m/rsync' | grep ."
# rsync compares a directory's time by the second.
step 'rsync in place' sh -c "printf changed >>'$src/a/b/c/7' && rm '$src/a/b/c/8' && touch -d '2002-02-02 02:02:02.25' '$src/a/b/c' &&
	$rsync --inplace --no-whole-file --delete '$src/' '$m/rsync'"
list "$src" "$t/list.source"
identical 'rsync in place: same' "$m/rsync"
step 'rsync from the mount' $rsync -S "$m/rsync/" "$m/rback"
identical 'rsync there and back: same' "$m/rback"
step 'remount' remount_it
identical 'after remount: same' "$m/rsync"
step 'diff -r' diff -r --no-dereference --exclude=huge --exclude=fifo --exclude=null --exclude=block "$m/rsync" "$m/rback"
step 'remove all' sh -c "rm -rf '$m'/* && [ -z \"\$(ls -A '$m')\" ]"

# A big tree: names that find sees, ls sees, and du counts.
dirs=20 files=100
[ -z "$long" ] || dirs=200 files=500
grow()
{
	for d in $(seq $dirs); do
		mkdir -p "$m/big/$((d % 7))/$d" || return 1
		seq -f "$m/big/$((d % 7))/$d/file-%g" $files | xargs touch || return 1
	done
}
count() { [ "$1" -eq $((dirs * files)) ] || { echo "$1, should be $((dirs * files))"; return 1; }; }
step 'big tree' grow
step 'find sees all' count "$(find "$m/big" -type f | wc -l)"
# shellcheck disable=SC2010
step 'ls -lR sees all' count "$(ls -lR "$m/big" | grep -c file-)"
step 'du counts all' count "$(($(du -a --inodes "$m/big" | wc -l) - $(find "$m/big" -type d | wc -l)))"
step 'cp -a of it' cp -a "$m/big" "$m/big2"
step 'find sees all of the copy' count "$(find "$m/big2" -type f | wc -l)"
step 'statfs counts them' sh -c "[ \$(df --output=iused '$m' | tail -n 1) -ge $((2 * dirs * files)) ]"
step 'remove one while it is listed' sh -c "find '$m/big' -type f -delete && [ -z \"\$(find '$m/big' -type f)\" ]"
step 'remove the other' rm -rf "$m/big2"
step 'remount' remount_it
step 'nothing is left but directories' sh -c "[ -z \"\$(find '$m' -type f)\" ]"
finish
