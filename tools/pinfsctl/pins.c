/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pins.c - `pinfsctl pins`: pins and leases, blocks that are kept back, operations that wait, as tables for people.
 */
#include "pinfsctl/pinfsctl.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/units.h"

static const char *ago(struct json_object *o, char *buf, size_t room)
{
	return units_show_ns(j_num(o, "age_ns"), buf, room);
}

static void cell_range(struct table *t, struct json_object *o)
{
	uint64_t foff = j_num(o, "foff"), len = j_num(o, "len");

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
	struct json_object *list = j_get(root, "pins");
	size_t n = j_count(root, "pins");
	char buf[32];

	if (n == 0) {
		(void)puts("no pins");
		return;
	}
	(void)printf("%zu pin%s\n", n, n == 1 ? "" : "s");
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, j_num(p, "pid"));
		table_cell(&t, "%" PRIu64, j_num(p, "tid"));
		table_cell(&t, "%s", j_str(p, "comm"));
		table_cell(&t, "%s", ago(p, buf, sizeof buf));
		table_cell(&t, "%s", j_str(p, "api"));
		table_cell(&t, "%" PRIu64, j_num(p, "ino"));
		cell_range(&t, p);
		table_cell(&t, "%s", j_str(p, "label"));
		table_cell(&t, "%s", j_str(p, "file"));
	}
	table_print(&t);
}

/* "app (812), 2 pages; other (813), 1 page" */
static char *holders(struct json_object *waiter)
{
	struct json_object *list = j_get(waiter, "waits_for");
	size_t n = j_count(waiter, "waits_for");
	char *text = strdup("");

	for (size_t i = 0; i < n && text != NULL; i++) {
		struct json_object *h = json_object_array_get_idx(list, i);
		uint64_t pages = j_num(h, "pages");
		char *more = NULL;
		int rc;

		if (pages != 0)
			rc = asprintf(&more, "%s%s%s (%" PRIu64 "), %" PRIu64 " page%s", text, i != 0 ? "; " : "",
				      j_str(h, "comm"), j_num(h, "pid"), pages, pages == 1 ? "" : "s");
		else
			rc = asprintf(&more, "%s%s%s (%" PRIu64 ")", text, i != 0 ? "; " : "", j_str(h, "comm"),
				      j_num(h, "pid"));
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
	struct json_object *list = j_get(root, "waiters");
	size_t n = j_count(root, "waiters");
	char buf[32], *text;

	if (n == 0) {
		(void)puts("nobody waits");
		return;
	}
	(void)printf("%zu operation%s wait%s\n", n, n == 1 ? "" : "s", n == 1 ? "s" : "");
	for (size_t i = 0; i < n; i++) {
		struct json_object *w = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, j_num(w, "pid"));
		table_cell(&t, "%s", j_str(w, "comm"));
		table_cell(&t, "%s", j_str(w, "what"));
		table_cell(&t, "%s", ago(w, buf, sizeof buf));
		table_cell(&t, "%" PRIu64, j_num(w, "ino"));
		cell_range(&t, w);
		table_cell(&t, "%s", j_str(w, "state"));
		text = holders(w);
		table_cell(&t, "%s", text);
		free(text);
		table_cell(&t, "%s", j_str(w, "file"));
	}
	table_print(&t);
}

/* Nothing when there are none. */
static void show_kept_table(struct json_object *root)
{
	static const char *const head[] = { "pid", "command", "blocks", "for", "inode", "because", "file" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rlrrrll" };
	struct json_object *list = j_get(root, "kept");
	size_t n = j_count(root, "kept");
	uint64_t blocks = 0;
	char buf[32];

	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct json_object *k = json_object_array_get_idx(list, i);
		const char *why = j_str(k, "why");

		blocks += j_num(k, "blocks");
		table_cell(&t, "%" PRIu64, j_num(k, "pid"));
		table_cell(&t, "%s", j_str(k, "comm"));
		table_cell(&t, "%" PRIu64, j_num(k, "blocks"));
		table_cell(&t, "%s", ago(k, buf, sizeof buf));
		table_cell(&t, "%" PRIu64, j_num(k, "ino"));
		table_cell(&t, "%s", strcmp(why, "pins") == 0 ? "it has pinned them" :
			   strcmp(why, "quarantined") == 0 ? "it does not answer" : why);
		table_cell(&t, "%s", j_str(k, "file"));
	}
	(void)printf("%" PRIu64 " block%s of no file kept from reuse\n", blocks, blocks == 1 ? "" : "s");
	table_print(&t);
}

int show_pins(const char *json)
{
	struct json_object *root = j_report(json);

	if (root == NULL)
		return 1;
	show_pin_table(root);
	if (j_num(root, "pins_left_off") != 0)
		(void)printf("... and %" PRIu64 " more pins\n", j_num(root, "pins_left_off"));
	show_kept_table(root);
	if (j_num(root, "kept_left_off") != 0)
		(void)printf("... and more, because of %" PRIu64 " other files\n", j_num(root, "kept_left_off"));
	show_waiter_table(root);
	if (j_num(root, "waiters_left_off") != 0)
		(void)printf("... and %" PRIu64 " more waiting\n", j_num(root, "waiters_left_off"));
	(void)json_object_put(root);
	return 0;
}
