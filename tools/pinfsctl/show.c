/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * show.c - the report of a mount's state as tables for people. The schema is in include/pinfs/PROTOCOL.md.
 */
#include "pinfsctl/pinfsctl.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <json-c/json.h>
#include "lib/units.h"

static const char *ago(struct json_object *o, char *buf, size_t room)
{
	return units_show_ns(j_num(o, "age_ns"), buf, room);
}

static void show_counters(struct json_object *counters)
{
	char line[512] = "";
	size_t n = 0;

	if (counters == NULL || !json_object_is_type(counters, json_type_object))
		return;
	json_object_object_foreach(counters, name, v) {
		int more = snprintf(line + n, sizeof line - n, "%s%s %" PRIu64, n == 0 ? "" : ", ", name,
				    json_object_get_uint64(v));

		n += more > 0 ? (size_t)more : 0;
		if (n >= sizeof line)
			break;
	}
	for (char *p = line; *p != '\0'; p++)
		*p = *p == '_' ? ' ' : *p;
	show_line("counted", "%s", line);
}

static void show_sessions(struct json_object *root)
{
	static const char *const head[] = { "session", "pid",	"user",	 "command", "age",
					    "slots",   "stale", "files", "pins",    "faults",
					    "reclaims", "starved", "refused", "kept", "state" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rrrlrrrrrrrrrrl" };
	struct json_object *list = j_get(root, "sessions");
	size_t n = j_count(root, "sessions");
	char buf[32];

	show_line("sessions", "%zu", n);
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct json_object *s = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, j_num(s, "id"));
		table_cell(&t, "%" PRIu64, j_num(s, "pid"));
		table_cell(&t, "%" PRIu64, j_num(s, "uid"));
		table_cell(&t, "%s", j_str(s, "comm"));
		table_cell(&t, "%s", ago(s, buf, sizeof buf));
		table_cell(&t, "%" PRIu64 "/%" PRIu64, j_num(s, "slots_used"), j_num(s, "slots_total"));
		table_cell(&t, "%" PRIu64, j_num(s, "slots_stale"));
		table_cell(&t, "%" PRIu64, j_num(s, "files"));
		table_cell(&t, "%" PRIu64, j_num(s, "pins"));
		table_cell(&t, "%" PRIu64, j_num(s, "faults"));
		table_cell(&t, "%" PRIu64, j_num(s, "reclaims") + j_num(s, "reclaims_ahead"));
		table_cell(&t, "%" PRIu64, j_num(s, "starved"));
		table_cell(&t, "%" PRIu64, j_num(s, "refused"));
		if (j_num(s, "kept_blocks") != 0)
			table_cell(&t, "%" PRIu64 " for %s", j_num(s, "kept_blocks"),
			     units_show_ns(j_num(s, "kept_ns"), buf, sizeof buf));
		else
			table_cell(&t, "0");
		table_cell(&t, "%s", j_str(s, "state"));
	}
	table_print(&t);
}

/* Nothing when nothing is wrong. */
static void show_errors(struct json_object *root)
{
	struct json_object *e = j_get(root, "errors");
	const char *state = j_str(root, "state");
	time_t when = (time_t)j_num(e, "time");
	struct tm tm;
	char at[64];

	if (e == NULL)
		return;
	if (localtime_r(&when, &tm) == NULL || strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		at[0] = '\0';
	show_line("errors", "%" PRIu64 ", the first at %s: %s", j_num(e, "count"), at, j_str(e, "why"));
	show_line("state", "%s; unmount it and run fsck.pinfs",
		  strcmp(state, "read-only") == 0 ? "read-only since then" :
		  strcmp(state, "shutdown") == 0  ? "shut down: every call fails" : "goes on (errors=continue)");
}

/* Whether there may be long-term pins, and whose there are. */
static void show_longterm(struct json_object *root, uint64_t blk)
{
	struct json_object *o = j_get(root, "options"), *l = j_get(root, "longterm"), *list = j_get(l, "users");
	const uint64_t limit = j_num(o, "longterm_limit");
	char line[512] = "", a[32], b[32];
	size_t n = 0;

	for (size_t i = 0; i < j_count(l, "users") && n < sizeof line; i++) {
		struct json_object *u = json_object_array_get_idx(list, i);
		int more = snprintf(line + n, sizeof line - n, "%suid %" PRIu64 " %s", i != 0 ? ", " : "; ",
				    j_num(u, "uid"), units_show_bytes(j_num(u, "pages") * blk, a, sizeof a));

		n += more > 0 ? (size_t)more : 0;
	}
	show_line("for long", "longterm=%s%s%s, %s pinned%s", j_str(o, "longterm"),
		  limit != 0 ? ", longterm_limit=" : "", limit != 0 ? units_show_bytes(limit, b, sizeof b) : "",
		  units_show_bytes(j_num(l, "pages") * blk, a, sizeof a), line);
}

static const char *show_ms(struct json_object *o, const char *name, char *buf, size_t room)
{
	return units_show_ns(j_num(o, name) * 1000000, buf, room);
}

/* All that `pinfsctl set` can change but longterm, then what only mounting does. */
static void show_policy(struct json_object *o)
{
	char a[32], b[32], c[32], d[32];

	show_line("policy", "on_busy=%s, break=%s, busy_timeout=%s, poll_interval=%s, fair=%s, deadlock=%s",
		  j_str(o, "on_busy"), j_str(o, "break"),
		  j_num(o, "busy_timeout_ms") != 0 ? show_ms(o, "busy_timeout_ms", a, sizeof a) : "none",
		  show_ms(o, "poll_interval_ms", b, sizeof b),
		  json_object_get_boolean(j_get(o, "fair")) ? "yes" : "no", j_str(o, "deadlock"));
	show_line("", "lease_time=%s, lease_break=%s, revoke_timeout=%s, window=%s",
		  show_ms(o, "lease_time_ms", c, sizeof c), j_str(o, "lease_break"),
		  show_ms(o, "revoke_timeout_ms", d, sizeof d), units_show_bytes(j_num(o, "window"), a, sizeof a));
}

int show_status(const char *json)
{
	struct json_object *root = j_report(json), *o, *sp;
	char a[32], b[32], c[32], d[32];
	uint64_t blk;

	if (root == NULL)
		return 1;
	o = j_get(root, "options");
	sp = j_get(root, "space");
	blk = j_num(sp, "block");
	show_line("mount", "%s, %s, daemon pid %" PRIu64 ", pinfs %s", j_str(root, "mount"),
		  j_num(o, "ro") != 0 ? "read-only" : "read-write", j_num(root, "daemon_pid"), j_str(root, "version"));
	show_line("device", "%s%s%s, uuid %s, persistence by %s",
		  units_show_bytes(j_num(root, "device_bytes"), a, sizeof a),
		  j_str(root, "label")[0] != '\0' ? ", label " : "", j_str(root, "label"), j_str(root, "uuid"),
		  j_str(root, "pmem_mode"));
	show_errors(root);
	show_policy(o);
	show_longterm(root, blk);
	show_line("files", "dax=%s, profile=%s", j_str(o, "dax"), j_str(o, "profile"));
	show_line("space", "%s free of %s, %s reserved, %s kept until pins or clients end",
		  units_show_bytes(j_num(sp, "free") * blk, a, sizeof a),
		  units_show_bytes(j_num(sp, "total") * blk, b, sizeof b),
		  units_show_bytes(j_num(sp, "reserved") * blk, c, sizeof c),
		  units_show_bytes(j_num(sp, "parked") * blk, d, sizeof d));
	show_line("waiting", "%" PRIu64 " operation%s", j_num(root, "waiters"), j_num(root, "waiters") == 1 ? "" : "s");
	show_counters(j_get(root, "counters"));
	show_sessions(root);
	(void)json_object_put(root);
	return 0;
}
