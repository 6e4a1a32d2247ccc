/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * show.c - reports as tables for people. The schema is in include/pinfs/PROTOCOL.md.
 *
 * Names in a report were chosen by others: control characters are made visible, so none reaches the terminal. A
 * member that is missing shows as empty or 0, for reports are allowed to differ by version.
 */
#include "pinfsctl/pinfsctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <json-c/json.h>
#include "lib/units.h"

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static uint64_t num(struct json_object *o, const char *name)
{
	struct json_object *v = member(o, name);

	return v != NULL ? json_object_get_uint64(v) : 0;
}

static const char *str(struct json_object *o, const char *name)
{
	struct json_object *v = member(o, name);
	const char *s = v != NULL ? json_object_get_string(v) : NULL;

	return s != NULL ? s : "";
}

static size_t count(struct json_object *o, const char *name)
{
	struct json_object *v = member(o, name);

	return v != NULL && json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
}

/* Room for the text with each control character as \xNN. */
static char *visible(const char *s)
{
	char *out = malloc(strlen(s) * 4 + 1), *p = out;

	if (out == NULL)
		abort();
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		bool c1 = c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0;

		if (c < 0x20 || c == 0x7f || c1)
			p += sprintf(p, "\\x%02x", c1 ? (unsigned char)*++s : c);
		else
			*p++ = (char)c;
	}
	*p = '\0';
	return out;
}

/* Columns on a terminal: bytes that begin a UTF-8 character. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	if (t->ncell == t->room) {
		t->room = t->room * 2 + 64;
		t->cell = realloc(t->cell, t->room * sizeof(*t->cell));
		if (t->cell == NULL)
			abort();
	}
	t->cell[t->ncell++] = visible(text);
	free(text);
}

void table_print(struct table *t)
{
	size_t w[TABLE_COLS] = { 0 }, rows = t->ncell / t->ncol;

	for (size_t c = 0; c < t->ncol; c++) {
		w[c] = width(t->head[c]);
		for (size_t r = 0; r < rows; r++) {
			size_t n = width(t->cell[r * t->ncol + c]);

			w[c] = n > w[c] ? n : w[c];
		}
	}
	for (size_t r = 0; r <= rows; r++) {
		for (size_t c = 0; c < t->ncol; c++) {
			const char *s = r == 0 ? t->head[c] : t->cell[(r - 1) * t->ncol + c];
			int pad = (int)(w[c] - width(s)), last = c + 1 == t->ncol;

			if (t->right[c] == 'r')
				(void)printf("  %*s%s", pad, "", s);
			else
				(void)printf("  %s%*s", s, last ? 0 : pad, "");
		}
		(void)putchar('\n');
	}
	for (size_t i = 0; i < t->ncell; i++)
		free(t->cell[i]);
	free(t->cell);
}

static const char *ago(struct json_object *o, char *buf, size_t room)
{
	return units_show_ns(num(o, "age_ns"), buf, room);
}

void show_line(const char *what, const char *fmt, ...)
{
	char *text = NULL, *safe;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	safe = visible(text);
	(void)printf("%-9s %s\n", what, safe);
	free(safe);
	free(text);
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
	struct json_object *list = member(root, "sessions");
	size_t n = count(root, "sessions");
	char buf[32];

	show_line("sessions", "%zu", n);
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct json_object *s = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, num(s, "id"));
		table_cell(&t, "%" PRIu64, num(s, "pid"));
		table_cell(&t, "%" PRIu64, num(s, "uid"));
		table_cell(&t, "%s", str(s, "comm"));
		table_cell(&t, "%s", ago(s, buf, sizeof buf));
		table_cell(&t, "%" PRIu64 "/%" PRIu64, num(s, "slots_used"), num(s, "slots_total"));
		table_cell(&t, "%" PRIu64, num(s, "slots_stale"));
		table_cell(&t, "%" PRIu64, num(s, "files"));
		table_cell(&t, "%" PRIu64, num(s, "pins"));
		table_cell(&t, "%" PRIu64, num(s, "faults"));
		table_cell(&t, "%" PRIu64, num(s, "reclaims") + num(s, "reclaims_ahead"));
		table_cell(&t, "%" PRIu64, num(s, "starved"));
		table_cell(&t, "%" PRIu64, num(s, "refused"));
		if (num(s, "kept_blocks") != 0)
			table_cell(&t, "%" PRIu64 " for %s", num(s, "kept_blocks"),
			     units_show_ns(num(s, "kept_ns"), buf, sizeof buf));
		else
			table_cell(&t, "0");
		table_cell(&t, "%s", str(s, "state"));
	}
	table_print(&t);
}

static struct json_object *parse(const char *json)
{
	struct json_object *root = json_tokener_parse(json);

	if (root != NULL && json_object_is_type(root, json_type_object))
		return root;
	(void)json_object_put(root);
	(void)complain("the daemon's report is not JSON");
	return NULL;
}

/* Nothing when nothing is wrong. */
static void show_errors(struct json_object *root)
{
	struct json_object *e = member(root, "errors");
	const char *state = str(root, "state");
	time_t when = (time_t)num(e, "time");
	struct tm tm;
	char at[64];

	if (e == NULL)
		return;
	if (localtime_r(&when, &tm) == NULL || strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		at[0] = '\0';
	show_line("errors", "%" PRIu64 ", the first at %s: %s", num(e, "count"), at, str(e, "why"));
	show_line("state", "%s; unmount it and run fsck.pinfs",
		  strcmp(state, "read-only") == 0 ? "read-only since then" :
		  strcmp(state, "shutdown") == 0  ? "shut down: every call fails" : "goes on (errors=continue)");
}

int show_status(const char *json)
{
	struct json_object *root = parse(json), *o, *sp;
	char a[32], b[32], c[32], d[32];
	uint64_t blk;
	bool poll;

	if (root == NULL)
		return 1;
	o = member(root, "options");
	sp = member(root, "space");
	blk = num(sp, "block");
	poll = strcmp(str(o, "on_busy"), "poll") == 0;
	show_line("mount", "%s, %s, daemon pid %" PRIu64 ", pinfs %s", str(root, "mount"),
		  num(o, "ro") != 0 ? "read-only" : "read-write", num(root, "daemon_pid"), str(root, "version"));
	show_line("device", "%s%s%s, uuid %s, persistence by %s",
		  units_show_bytes(num(root, "device_bytes"), a, sizeof a),
		  str(root, "label")[0] != '\0' ? ", label " : "", str(root, "label"), str(root, "uuid"),
		  str(root, "pmem_mode"));
	show_errors(root);
	show_line("policy", "on_busy=%s%s%s, break=%s, busy_timeout=%s, revoke_timeout=%s, window=%s",
		  str(o, "on_busy"), poll ? " every " : "",
		  poll ? units_show_ns(num(o, "poll_interval_ms") * 1000000, d, sizeof d) : "", str(o, "break"),
		  num(o, "busy_timeout_ms") != 0 ? units_show_ns(num(o, "busy_timeout_ms") * 1000000, a, sizeof a)
						 : "none",
		  units_show_ns(num(o, "revoke_timeout_ms") * 1000000, b, sizeof b),
		  units_show_bytes(num(o, "window"), c, sizeof c));
	show_line("files", "dax=%s, profile=%s", str(o, "dax"), str(o, "profile"));
	show_line("space", "%s free of %s, %s reserved, %s kept until pins or clients end",
		  units_show_bytes(num(sp, "free") * blk, a, sizeof a),
		  units_show_bytes(num(sp, "total") * blk, b, sizeof b),
		  units_show_bytes(num(sp, "reserved") * blk, c, sizeof c),
		  units_show_bytes(num(sp, "parked") * blk, d, sizeof d));
	show_line("waiting", "%" PRIu64 " operation%s", num(root, "waiters"), num(root, "waiters") == 1 ? "" : "s");
	show_counters(member(root, "counters"));
	show_sessions(root);
	(void)json_object_put(root);
	return 0;
}

static void cell_range(struct table *t, struct json_object *o)
{
	uint64_t foff = num(o, "foff"), len = num(o, "len");

	if (len >= UINT64_MAX - foff)
		table_cell(t, "%" PRIu64 "-", foff);
	else
		table_cell(t, "%" PRIu64 "-%" PRIu64, foff, foff + len - (len != 0));
}

static void show_pin_table(struct json_object *root)
{
	static const char *const head[] = {
		"pid", "thread", "command", "age", "api", "inode", "bytes", "label", "file"
	};
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rrlrlrrll" };
	struct json_object *list = member(root, "pins");
	size_t n = count(root, "pins");
	char buf[32];

	if (n == 0) {
		(void)puts("no pins");
		return;
	}
	(void)printf("%zu pin%s\n", n, n == 1 ? "" : "s");
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, num(p, "pid"));
		table_cell(&t, "%" PRIu64, num(p, "tid"));
		table_cell(&t, "%s", str(p, "comm"));
		table_cell(&t, "%s", ago(p, buf, sizeof buf));
		table_cell(&t, "%s", str(p, "api"));
		table_cell(&t, "%" PRIu64, num(p, "ino"));
		cell_range(&t, p);
		table_cell(&t, "%s", str(p, "label"));
		table_cell(&t, "%s", str(p, "file"));
	}
	table_print(&t);
}

/* "app (812), 2 pages; other (813), 1 page" */
static char *holders(struct json_object *waiter)
{
	struct json_object *list = member(waiter, "waits_for");
	size_t n = count(waiter, "waits_for");
	char *text = strdup("");

	for (size_t i = 0; i < n && text != NULL; i++) {
		struct json_object *h = json_object_array_get_idx(list, i);
		uint64_t pages = num(h, "pages");
		char *more = NULL;
		int rc;

		if (pages != 0)
			rc = asprintf(&more, "%s%s%s (%" PRIu64 "), %" PRIu64 " page%s", text, i != 0 ? "; " : "",
				      str(h, "comm"), num(h, "pid"), pages, pages == 1 ? "" : "s");
		else
			rc = asprintf(&more, "%s%s%s (%" PRIu64 ")", text, i != 0 ? "; " : "", str(h, "comm"),
				      num(h, "pid"));
		free(text);
		text = rc < 0 ? NULL : more;
	}
	if (text == NULL)
		abort();
	return text;
}

static void show_waiter_table(struct json_object *root)
{
	static const char *const head[] = { "pid",   "command", "operation", "waited", "inode",
					    "bytes", "state",	"for",	     "file" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rllrrrlll" };
	struct json_object *list = member(root, "waiters");
	size_t n = count(root, "waiters");
	char buf[32], *text;

	if (n == 0) {
		(void)puts("nobody waits");
		return;
	}
	(void)printf("%zu operation%s wait%s\n", n, n == 1 ? "" : "s", n == 1 ? "s" : "");
	for (size_t i = 0; i < n; i++) {
		struct json_object *w = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, num(w, "pid"));
		table_cell(&t, "%s", str(w, "comm"));
		table_cell(&t, "%s", str(w, "what"));
		table_cell(&t, "%s", ago(w, buf, sizeof buf));
		table_cell(&t, "%" PRIu64, num(w, "ino"));
		cell_range(&t, w);
		table_cell(&t, "%s", str(w, "state"));
		text = holders(w);
		table_cell(&t, "%s", text);
		free(text);
		table_cell(&t, "%s", str(w, "file"));
	}
	table_print(&t);
}

/* Nothing when there are none. */
static void show_kept_table(struct json_object *root)
{
	static const char *const head[] = { "pid", "command", "blocks", "for", "inode", "because", "file" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rlrrrll" };
	struct json_object *list = member(root, "kept");
	size_t n = count(root, "kept");
	uint64_t blocks = 0;
	char buf[32];

	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct json_object *k = json_object_array_get_idx(list, i);
		const char *why = str(k, "why");

		blocks += num(k, "blocks");
		table_cell(&t, "%" PRIu64, num(k, "pid"));
		table_cell(&t, "%s", str(k, "comm"));
		table_cell(&t, "%" PRIu64, num(k, "blocks"));
		table_cell(&t, "%s", ago(k, buf, sizeof buf));
		table_cell(&t, "%" PRIu64, num(k, "ino"));
		table_cell(&t, "%s", strcmp(why, "pins") == 0 ? "it has pinned them" :
			   strcmp(why, "quarantined") == 0 ? "it does not answer" : why);
		table_cell(&t, "%s", str(k, "file"));
	}
	(void)printf("%" PRIu64 " block%s of no file kept from reuse\n", blocks, blocks == 1 ? "" : "s");
	table_print(&t);
}

int show_pins(const char *json)
{
	struct json_object *root = parse(json);

	if (root == NULL)
		return 1;
	show_pin_table(root);
	if (num(root, "pins_left_off") != 0)
		(void)printf("... and %" PRIu64 " more pins\n", num(root, "pins_left_off"));
	show_kept_table(root);
	if (num(root, "kept_left_off") != 0)
		(void)printf("... and more, because of %" PRIu64 " other files\n", num(root, "kept_left_off"));
	show_waiter_table(root);
	if (num(root, "waiters_left_off") != 0)
		(void)printf("... and %" PRIu64 " more waiting\n", num(root, "waiters_left_off"));
	(void)json_object_put(root);
	return 0;
}
