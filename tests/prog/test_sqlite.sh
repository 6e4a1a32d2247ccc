#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_sqlite.sh - sqlite3 with each kind of journal, killed in the middle, and its daemon killed: what was committed
# is there, and the database is whole. Plain and under pinrun (the WAL index, and with mmap_size the database, are
# windows then).
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
need sqlite3

rounds=2
[ -z "$long" ] || rounds=20

# writer RUN JOURNAL: rows, each a transaction, each said when it is committed; for ever
writer()
{
	awk -v journal="$2" 'BEGIN {
		print "PRAGMA journal_mode=" journal ";"
		print "PRAGMA synchronous=FULL; PRAGMA mmap_size=8388608; PRAGMA wal_autocheckpoint=50;"
		for (i = 1; ; i++)
			print "BEGIN; INSERT INTO r(x, y) VALUES(" i ", randomblob(" i * 37 % 3000 "));" \
				" UPDATE s SET n = n + 1; COMMIT; SELECT max(id) FROM r;"
	}' 2>/dev/null | exec $1 sqlite3 "$m/db" >"$t/committed" 2>"$t/errors"
}
ask() { sqlite3 "$m/db" "$1"; }
# whole: the file is sound, and the two tables agree
whole()
{
	[ "$(ask 'PRAGMA integrity_check;')" = ok ] && [ "$(ask 'SELECT (SELECT count(*) FROM r) = n FROM s;')" = 1 ] && return 0
	ask 'PRAGMA integrity_check; SELECT count(*) FROM r; SELECT n FROM s;'
	return 1
}
# all_committed: no row that sqlite3 has said is missing; a last line may be half
all_committed()
{
	said=$(grep -c '^[0-9]' "$t/committed")
	last=$(sed -n '$!p' "$t/committed" | grep '^[0-9]' | tail -n 1)
	is=$(ask 'SELECT max(id) FROM r;')
	echo "said $said lines, last whole $last, in the database $is"
	[ "${is:-0}" -ge "${last:-1}" ]
}
# busy: a hundred more transactions
busy() { [ "$(grep -c '^[0-9]' "$t/committed" 2>/dev/null)" -ge 100 ]; }
sqlite_pid() { fuser_of sqlite3; }
# The process called $1 whose working directory or files are ours: by the environment that run.sh and we gave it.
fuser_of()
{
	for p in /proc/[0-9]*; do
		[ "$(cat "$p/comm" 2>/dev/null)" = "$1" ] || continue
		grep -qz "^HOME=$t\$" "$p/environ" 2>/dev/null && echo "${p#/proc/}"
	done
}

for run in '' "$build/pinrun"; do
	how=${run:+windows}
	how=${how:-plain}
	for journal in DELETE WAL TRUNCATE PERSIST; do
		[ -n "$long" ] || [ $journal = DELETE ] || [ $journal = WAL ] || continue
		fresh 64M
		step "$how $journal: make" sqlite3 "$m/db" "PRAGMA journal_mode=$journal;
			CREATE TABLE r(id INTEGER PRIMARY KEY, x, y); CREATE TABLE s(n); INSERT INTO s VALUES(0);
			CREATE INDEX rx ON r(x);"
		for round in $(seq $rounds); do
			# The program dies.
			: >"$t/committed"
			writer "$run" $journal &
			helpers=$!
			step "$how $journal $round: writes" until_it busy || cat "$t/errors"
			kill -9 "$(sqlite_pid)"
			wait "$helpers" 2>/dev/null
			helpers=
			step "$how $journal $round: sqlite3 killed: whole" whole
			step "$how $journal $round: sqlite3 killed: nothing lost" all_committed
			# The daemon dies, and the program with it.
			: >"$t/committed"
			writer "$run" $journal &
			helpers=$!
			step "$how $journal $round: writes again" until_it busy || cat "$t/errors"
			kill -9 "$daemon"
			kill -9 "$(sqlite_pid)" 2>/dev/null
			wait "$helpers" 2>/dev/null
			helpers=
			step "$how $journal $round: daemon killed" kill_it
			step "$how $journal $round: mounted again" mount_it
			step "$how $journal $round: daemon killed: whole" whole
			step "$how $journal $round: daemon killed: nothing lost" all_committed
		done
		step "$how $journal: vacuum" sqlite3 "$m/db" 'VACUUM;'
		step "$how $journal: remount" remount_it
		step "$how $journal: whole after remount" whole
		step "$how $journal: unmount and fsck" unmount_it
	done
done
finish
