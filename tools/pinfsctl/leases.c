/* SPDX-License-Identifier: BSD-3-Clause */
/* leases.c - `pinfsctl leases`: who has a layout lease on what, which are asked back, and who took them. */
#include "pinfsctl/pinfsctl.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include "lib/units.h"

static void range(struct table *t, struct json_object *l)
{
	uint64_t foff = j_num(l, "foff"), len = j_num(l, "len");

	if (len == UINT64_MAX)
		table_cell(t, "%" PRIu64 "-", foff);
	else
		table_cell(t, "%" PRIu64 "+%" PRIu64, foff, len);
}

static void show_table(struct json_object *root)
{
	static const char *const head[] = {
		"lease", "pid", "started", "command", "age", "file", "range", "kind", "state", "left", "pages"
	};
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rrllrlllllr" };
	struct json_object *list;
	char buf[32];
	size_t n;

	list = j_list(root, "leases", &n);
	if (n == 0) {
		(void)puts("no leases");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct json_object *l = json_object_array_get_idx(list, i);

		table_cell(&t, "%" PRIu64, j_num(l, "id"));
		table_cell(&t, "%" PRIu64, j_num(l, "pid"));
		table_cell(&t, "%s", show_started(j_num(l, "process_start_ns"), buf, sizeof buf));
		table_cell(&t, "%s", j_str(l, "comm"));
		table_cell(&t, "%s", units_show_ns(j_num(l, "age_ns"), buf, sizeof buf));
		if (*j_str(l, "file") != '\0')
			table_cell(&t, "%s", j_str(l, "file"));
		else
			table_cell(&t, "inode %" PRIu64, j_num(l, "ino"));
		range(&t, l);
		table_cell(&t, "%s%s", j_str(l, "kind"),
			   json_object_get_boolean(j_get(l, "unbreakable")) ? ", unbreakable" : "");
		table_cell(&t, "%s%s", j_str(l, "state"),
			   json_object_get_boolean(j_get(l, "under_way")) ? ", on its way" : "");
		if (j_num(l, "left_ms") != 0)
			table_cell(&t, "%.1f s", (double)j_num(l, "left_ms") / 1000);
		else
			table_cell(&t, "-");
		table_cell(&t, "%" PRIu64, j_num(l, "pages"));
	}
	table_print(&t);
	if (j_num(root, "leases_left_off") != 0)
		(void)printf("... and %" PRIu64 " more leases\n", j_num(root, "leases_left_off"));
}

int show_leases(const char *json)
{
	struct json_object *root = j_report(json);

	if (root == NULL)
		return 1;
	show_table(root);
	(void)json_object_put(root);
	return 0;
}

static int usage(int status)
{
	(void)fputs("usage: pinfsctl leases [--json] [--stack] MOUNT\n", status == 0 ? stdout : stderr);
	return status;
}

int leases_verb(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "stack", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct json_object *root;
	bool as_json = false, stacks = false;
	char *json;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "jh", opts, NULL)) != -1) {
		as_json = as_json || c == 'j';
		stacks = stacks || c == 's';
		if (c != 'j' && c != 's')
			return usage(c == 'h' ? 0 : 2);
	}
	if (argc - optind != 1)
		return usage(2);
	if (session_report(argv[optind], PF_REPORT_LEASES, 0, &json) != 0)
		return 1;
	root = j_report(json);
	free(json);
	if (root == NULL)
		return 1;
	if (!as_json)
		show_table(root);
	if (stacks)
		show_stacks(root, "leases", as_json);
	if (as_json)
		(void)puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN));
	(void)json_object_put(root);
	return fflush(stdout) != 0 ? complain("standard output: write error") : 0;
}
