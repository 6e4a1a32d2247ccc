#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# test_postgres.sh - a PostgreSQL cluster on it: initdb, pgbench, the server killed and the daemon killed under load,
# recovery; sums of pgbench's tables agree, and every transaction that a client saw committed is there. Runs if the
# server is installed, with PINFS_LONG=1.
# shellcheck source=tests/prog/lib.sh disable=SC2317,SC2086
. "$(dirname "$0")/lib.sh"
[ -n "$long" ] || { echo 'SKIP test_postgres: only with PINFS_LONG=1 (make check-long)'; exit 77; }
for d in /usr/lib/postgresql/*/bin; do
	[ -x "$d/initdb" ] && PATH=$d:$PATH
done
need initdb pg_ctl pgbench psql setpriv
id postgres >/dev/null 2>&1 || { echo "SKIP test_postgres: there is no user postgres"; exit 77; }

as="setpriv --reuid=postgres --regid=postgres --clear-groups"
export PGHOST="$t/socket" PGUSER=postgres PGDATABASE=postgres PGPORT=5432
unset PGDATA
mkdir "$t/socket"
chown postgres: "$t/socket"
: >"$t/pg.log"
chown postgres: "$t/pg.log"
if ! $as test -w "$t/socket"; then
	echo "SKIP test_postgres: user postgres cannot reach $t"
	exit 77
fi
data=$m/data
server() { $as "$(command -v postgres)" -D "$data" -k "$t/socket" -c listen_addresses= -c shared_buffers=16MB -c full_page_writes=on \
	-c checkpoint_timeout=30 -c max_wal_size=32MB -c fsync=on >>"$t/pg.log" 2>&1 & helpers=$!; }
ready() { psql -Atqc 'SELECT 1' | grep -q 1; }
postmaster() { head -n 1 "$data/postmaster.pid"; }
# The processes of our cluster: children of a killed postmaster end by themselves, when they notice - or wait for minutes
# for a spinlock that one of the killed has kept; those are helped after ten seconds.
family()
{
	for p in /proc/[0-9]*; do
		case $(readlink "$p/cwd" 2>/dev/null) in "$data"*) echo "${p#/proc/}" ;; esac
	done
}
nobody_left() { [ -z "$(family)" ]; }
end_family()
{
	for _ in $(seq 100); do
		nobody_left && return 0
		sleep 0.1
	done
	for p in $(family); do
		kill -9 "$p" 2>/dev/null
	done
	until_it nobody_left
}
trap 'end_family; cleanup' EXIT
ask() { psql -AtqX -c "$1"; }
sums()
{
	ask 'SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)' >"$t/sums" || return 1
	cat "$t/sums"
	tr '|' '\n' <"$t/sums" | sort -u | wc -l | grep -qx 1
}
# A client counts up, and writes down what was committed.
counter()
{
	n=$1
	while n=$((n + 1)); ask "UPDATE counter SET n = $n" >/dev/null 2>&1; do
		echo $n >>"$t/committed"
	done
}
enough() { [ "$(grep -c . "$t/committed")" -ge 30 ]; }
committed()
{
	is=$(ask 'SELECT n FROM counter')
	said=$(tail -n 1 "$t/committed")
	echo "committed $said, found $is"
	[ "$is" -ge "$said" ]
}
load()
{
	: >"$t/committed"
	$as pgbench -n -c 2 -T 600 >/dev/null 2>&1 &
	clients=$!
	counter "$(ask 'SELECT n FROM counter')" &
	clients="$clients $!"
}

seconds=2 scale=1 rounds=1
[ -z "$long" ] || { seconds=30 scale=10 rounds=5; }
fresh 2G allow_other
mkdir "$data"
chown postgres: "$data"
step initdb $as initdb -D "$data" -A trust --no-locale -E UTF8 --data-checksums
server
step 'server starts' until_it ready || cat "$t/pg.log"
step 'pgbench -i' $as pgbench -i -q -s $scale
step 'pgbench' $as pgbench -n -c 4 -T $seconds
step 'counter' psql -c 'CREATE TABLE counter AS SELECT 0 AS n'
step 'sums agree' sums
for round in $(seq $rounds); do
	load
	step "$round: load" until_it enough
	kill -9 "$(postmaster)"
	step "$round: postmaster killed" end_family
	wait $helpers $clients 2>/dev/null
	server
	step "$round: recovers" until_it ready
	step "$round: nothing lost" committed
	step "$round: sums agree" sums
	load
	step "$round: load again" until_it enough
	kill -9 "$daemon"
	kill -9 "$helpers" 2>/dev/null
	step "$round: everybody gone" end_family
	wait $helpers $clients 2>/dev/null
	step "$round: daemon killed" kill_it
	step "$round: mounted again" mount_it
	rm -f "$data/postmaster.pid"
	server
	step "$round: recovers after the daemon" until_it ready
	step "$round: nothing lost with the daemon" committed
	step "$round: sums agree after the daemon" sums
done
step 'checksums in use' sh -c "[ \"\$(psql -Atqc 'SHOW data_checksums')\" = on ]"
step 'stop' $as pg_ctl -D "$data" -m fast -w stop
wait $helpers
helpers=
step 'pg_checksums' $as pg_checksums -c -D "$data"
finish
