#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_git.sh - git on it: a history is cloned, repacked, checked, checked out and compared; commits go on until the
# daemon is killed, and those that git has reported are there. The history is made up; where the sources are a clone,
# theirs as well.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need git

export GIT_CONFIG_NOSYSTEM=1
git config --global user.name test
git config --global user.email test@example.org
git config --global safe.directory '*'
git config --global gc.auto 0
git config --global maintenance.auto false
git config --global init.defaultBranch main
git config --global core.fsync all
git config --global advice.detachedHead false

# history COMMITS: a repository with some hundred files, changed, renamed and removed
history()
{
	git init -q "$t/origin" && awk -v commits="$1" 'BEGIN {
		srand(7)
		for (c = 1; c <= commits; c++) {
			print "commit refs/heads/main\ncommitter t <t@example.org> " 1600000000 + c * 60 " +0000"
			msg = "change " c
			printf "data %d\n%s\n", length(msg), msg
			for (k = 0; k < 4; k++) {
				name = "d" int(rand() * 9) "/f" int(rand() * 40) ".txt"
				if (rand() < 0.1 && name in seen) {
					print "D " name
					delete seen[name]
					continue
				}
				seen[name] = 1
				body = ""
				for (l = int(rand() * 200); l >= 0; l--)
					body = body "line " l " of " name " in " (rand() < 0.1 ? c : 0) "\n"
				printf "M 100644 inline %s\ndata %d\n%s\n", name, length(body), body
			}
		}
		print "done"
	}' | git -C "$t/origin" fast-import --quiet --done
}
# the_same A B: same commit checked out, same files, nothing changed
the_same()
{
	git -C "$2" status --porcelain | sed 's/^/changed: /' | grep . && return 1
	[ "$(git -C "$1" rev-parse HEAD)" = "$(git -C "$2" rev-parse HEAD)" ] || return 1
	[ "$(git -C "$1" rev-parse 'HEAD^{tree}')" = "$(git -C "$2" rev-parse 'HEAD^{tree}')" ]
}
# A tour of a repository $1 with $2 before git
tour()
{
	rm -rf "$m/one" "$m/two" "$m/w"
	step "$3: clone" $2 git clone -q --no-local "$1" "$m/one" || return
	step "$3: fsck" $2 git -C "$m/one" fsck --full --strict
	step "$3: gc" $2 git -C "$m/one" gc -q --aggressive --prune=now
	step "$3: fsck after gc" $2 git -C "$m/one" fsck --full
	step "$3: clone of the clone" $2 git clone -q "$m/one" "$m/two"
	step "$3: compare" the_same "$m/one" "$m/two"
	step "$3: old checkout" $2 git -C "$m/two" checkout -q HEAD~1
	step "$3: worktree" $2 git -C "$m/two" worktree add -q "$m/w" HEAD~2
	step "$3: back" $2 git -C "$m/two" checkout -q -
	step "$3: unpack all" sh -c "mv $m/two/.git/objects/pack/*.pack $m/p.pack && rm -f $m/two/.git/objects/pack/* &&
		$2 git -C $m/two unpack-objects -q <$m/p.pack"
	step "$3: fsck of loose objects" $2 git -C "$m/two" fsck --full
	step "$3: repack" $2 git -C "$m/two" repack -adq
	step "$3: remount" remount_it
	step "$3: fsck after remount" git -C "$m/one" fsck --full
	step "$3: compare after remount" the_same "$m/one" "$m/two"
}

fresh 256M
commits=150
[ -z "$long" ] || commits=3000
step 'a history' history $commits
git -C "$t/origin" checkout -q main
tour "$t/origin" '' plain
[ -z "$long" ] || tour "$t/origin" "$build/pinrun" windows
if git -C "$source" rev-parse -q --verify HEAD~3 >/dev/null 2>&1; then
	[ -z "$long" ] || tour "$source" '' sources
fi

# Commits until the daemon dies: each that was reported is in the history of what is mounted then.
committer()
{
	i=0
	while git -C "$m/one" commit -q --allow-empty -m "after $i" 2>/dev/null; do
		git -C "$m/one" rev-parse -q --verify HEAD 2>/dev/null >>"$t/reported" || break
		i=$((i + 1))
		head -c $((i * 100)) /dev/zero | tr '\0' "$((i % 10))" >"$m/one/g$((i % 7))"
		git -C "$m/one" add -A 2>/dev/null || break
	done
}
reported() { [ "$(grep -c . "$t/reported")" -ge 10 ]; }
all_there()
{
	while read -r id; do
		git -C "$m/one" cat-file -e "$id" || { echo "$id is lost"; return 1; }
		last=$id
	done <"$t/reported"
	git -C "$m/one" merge-base --is-ancestor "$last" HEAD
}
: >"$t/reported"
committer &
helpers=$!
step 'commits' until_it reported
kill_it
step 'mount after a kill' mount_it
rm -f "$m/one/.git/index.lock" "$m/one/.git/HEAD.lock" "$m/one/.git/refs/heads/"*.lock
step 'fsck after a kill' git -C "$m/one" fsck --full
step 'reported commits are there' all_there
finish
