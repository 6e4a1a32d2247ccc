/* SPDX-License-Identifier: BSD-3-Clause */
/* leases.c - the report of layout leases as a table: who has one on what, and which are asked back. */
#include "pinfsctl/pinfsctl.h"

#include <inttypes.h>

static void range(struct table *t, struct json_object *l)
{
	uint64_t foff = j_num(l, "foff"), len = j_num(l, "len");

	if (len == UINT64_MAX)
		table_cell(t, "%" PRIu64 "-", foff);
	else
		table_cell(t, "%" PRIu64 "+%" PRIu64, foff, len);
}

int show_leases(const char *json)
{
	static const char *const head[] = {
		"lease", "pid", "command", "file", "range", "kind", "state", "left", "pages"
	};
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rrllllllr" };
	struct json_object *o = json_tokener_parse(json), *list = o != NULL ? j_get(o, "leases") : NULL;

	if (list == NULL || !json_object_is_type(list, json_type_array)) {
		(void)json_object_put(o);
		return complain("the daemon's report makes no sense");
	}
	if (json_object_array_length(list) == 0)
		(void)puts("no leases");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *l = json_object_array_get_idx(list, i);
		const char *state = j_str(l, "state");

		table_cell(&t, "%" PRIu64, j_num(l, "id"));
		table_cell(&t, "%" PRIu64, j_num(l, "pid"));
		table_cell(&t, "%s", j_str(l, "comm"));
		if (*j_str(l, "file") != '\0')
			table_cell(&t, "%s", j_str(l, "file"));
		else
			table_cell(&t, "inode %" PRIu64, j_num(l, "ino"));
		range(&t, l);
		table_cell(&t, "%s%s", j_str(l, "kind"),
			   json_object_get_boolean(j_get(l, "unbreakable")) ? ", unbreakable" : "");
		table_cell(&t, "%s%s", state,
			   json_object_get_boolean(j_get(l, "under_way")) ? ", on its way" : "");
		if (j_num(l, "left_ms") != 0)
			table_cell(&t, "%.1f s", (double)j_num(l, "left_ms") / 1000);
		else
			table_cell(&t, "-");
		table_cell(&t, "%" PRIu64, j_num(l, "pages"));
	}
	if (json_object_array_length(list) != 0)
		table_print(&t);
	(void)json_object_put(o);
	return 0;
}
