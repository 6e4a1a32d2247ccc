/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pins.c - `pinfsctl pins`: each pin with its owner, blocks that are kept back, operations that wait, as tables for
 * people; `pinfsctl kick`, which makes a pin void. Sums of pins are groups.c's.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
		"pin", "pid", "thread", "started", "command", "age", "api", "inode", "bytes", "label", "file"
	};
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rrrllrlrrll" };
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

		table_cell(&t, "%" PRIu64 ".%" PRIu64, j_num(p, "session"), j_num(p, "record"));
		table_cell(&t, "%" PRIu64, j_num(p, "pid"));
		table_cell(&t, "%" PRIu64, j_num(p, "tid"));
		table_cell(&t, "%s", show_started(j_num(p, "process_start_ns"), buf, sizeof buf));
		table_cell(&t, "%s", j_str(p, "comm"));
		table_cell(&t, "%s", ago(p, buf, sizeof buf));
		table_cell(&t, "%s%s", j_str(p, "api"), j_num(p, "void") != 0 ? " (void)" : "");
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

static void show_all(struct json_object *root)
{
	show_pin_table(root);
	if (j_num(root, "pins_left_off") != 0)
		(void)printf("... and %" PRIu64 " more pins\n", j_num(root, "pins_left_off"));
	show_kept_table(root);
	if (j_num(root, "kept_left_off") != 0)
		(void)printf("... and more, because of %" PRIu64 " other files\n", j_num(root, "kept_left_off"));
	show_waiter_table(root);
	if (j_num(root, "waiters_left_off") != 0)
		(void)printf("... and %" PRIu64 " more waiting\n", j_num(root, "waiters_left_off"));
}

int show_pins(const char *json)
{
	struct json_object *root = j_report(json);

	if (root == NULL)
		return 1;
	show_all(root);
	(void)json_object_put(root);
	return 0;
}

/* ---- some of them ---- */

struct filter {
	uint64_t pid, ino, age_ns;	/* 0: any */
	const char *api, *label;	/* NULL: any */
};

static bool passes(const struct filter *f, struct json_object *p)
{
	return (f->pid == 0 || j_num(p, "pid") == f->pid) && (f->ino == 0 || j_num(p, "ino") == f->ino) &&
	       j_num(p, "age_ns") >= f->age_ns && (f->api == NULL || strcmp(j_str(p, "api"), f->api) == 0) &&
	       (f->label == NULL || strcmp(j_str(p, "label"), f->label) == 0);
}

/* What does not pass leaves the report. */
static void apply(const struct filter *f, struct json_object *root)
{
	struct json_object *some = json_object_new_array(), *list;
	size_t n;

	list = j_list(root, "pins", &n);
	for (size_t i = 0; i < n; i++)
		if (passes(f, json_object_array_get_idx(list, i)))
			(void)json_object_array_add(some, json_object_get(json_object_array_get_idx(list, i)));
	(void)json_object_object_add(root, "pins", some);
}

static int usage(int status)
{
	(void)fputs("usage: pinfsctl pins [--json] [--stack] [--by file|pid] [--pid PID] [--file PATH] [--api API]\n"
		    "                     [--label LABEL] [--older TIME] MOUNT\n",
		    status == 0 ? stdout : stderr);
	return status;
}

int pins_verb(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "json", no_argument, NULL, 'j' },	  { "by", required_argument, NULL, 'b' },
		{ "pid", required_argument, NULL, 'p' },  { "file", required_argument, NULL, 'f' },
		{ "api", required_argument, NULL, 'a' },  { "label", required_argument, NULL, 'l' },
		{ "older", required_argument, NULL, 'o' }, { "stack", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },	  { NULL, 0, NULL, 0 },
	};
	struct filter f = { .pid = 0 };
	struct json_object *root;
	const char *by = NULL;
	bool as_json = false, stacks = false;
	char *json, *end;
	struct stat st;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "jp:h", opts, NULL)) != -1) {
		switch (c) {
		case 'j':
			as_json = true;
			break;
		case 's':
			stacks = true;
			break;
		case 'b':
			by = optarg;
			if (strcmp(by, "file") != 0 && strcmp(by, "pid") != 0)
				return usage(2);
			break;
		case 'p':
			f.pid = strtoull(optarg, &end, 10);
			if (f.pid == 0 || *end != '\0')
				return usage(2);
			break;
		case 'f':
			if (stat(optarg, &st) != 0)
				return complain("%s: %s", optarg, strerror(errno));
			f.ino = st.st_ino;
			break;
		case 'a':
			f.api = optarg;
			break;
		case 'l':
			f.label = optarg;
			break;
		case 'o':
			if (units_parse_ns(optarg, &f.age_ns) != 0)
				return usage(2);
			break;
		default:
			return usage(c == 'h' ? 0 : 2);
		}
	}
	if (argc - optind != 1)
		return usage(2);
	if (session_report(argv[optind], PF_REPORT_PINS, 0, &json) != 0)
		return 1;
	root = j_report(json);
	free(json);
	if (root == NULL)
		return 1;
	apply(&f, root);
	if (stacks && as_json)
		show_stacks(root, "pins", true);
	if (by != NULL)
		show_groups(root, strcmp(by, "file") == 0, as_json);
	else if (as_json)
		(void)puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN));
	else
		show_all(root);
	if (stacks && !as_json)
		show_stacks(root, "pins", false);
	(void)json_object_put(root);
	return fflush(stdout) != 0 ? complain("standard output: write error") : 0;
}

/* ---- kick ---- */

int kick_verb(int argc, char **argv)
{
	struct pf_p_kick_pin_in in = { .kp_pad = 0 };
	unsigned long long session, record;
	char *body = NULL, rest;
	size_t len;
	int err;

	if (argc != 3 || sscanf(argv[1], "%llu.%llu%c", &session, &record, &rest) != 2 || record > UINT32_MAX) {
		(void)complain("usage: pinfsctl kick PIN MOUNT, PIN as pinfsctl pins shows it");
		return 2;
	}
	in.kp_session = session;
	in.kp_record = (uint32_t)record;
	err = session_call(argv[2], PF_P_KICK_PIN, &in, sizeof in, &body, &len);
	free(body);
	switch (err) {
	case 0:
	case 1:
		return err;
	case -ESRCH:
		return complain("%s: there is no pin %s", argv[2], argv[1]);
	case -ENOTCONN:
		return complain("%s: the owner of pin %s is cut off: nobody waits for its pins", argv[2], argv[1]);
	case -EPERM:
		return complain("%s: only root and the user who mounted it may do that", argv[2]);
	default:
		return complain("%s: %s", argv[2], strerror(-err));
	}
}
