/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * groups.c - `pinfsctl pins --by file|pid`: pins summed up by the file that they hold, or by the process that holds
 * them. Bytes that are pinned twice count twice.
 */
#include "pinfsctl/pinfsctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "lib/units.h"

struct group {
	uint64_t key;			/* inode or pid */
	uint64_t pins, bytes, oldest_ns, start_ns, uid;
	const char *name;		/* of the file or command */
	uint64_t *other;		/* the processes of a file, the files of a process: each once */
	size_t nother, room;
};

static void add_other(struct group *g, uint64_t key)
{
	for (size_t i = 0; i < g->nother; i++)
		if (g->other[i] == key)
			return;
	if (g->nother == g->room) {
		g->room = 2 * g->room + 8;
		g->other = realloc(g->other, g->room * sizeof *g->other);
		if (g->other == NULL)
			abort();
	}
	g->other[g->nother++] = key;
}

static int by_bytes(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static struct json_object *to_json(const struct group *g, bool by_file)
{
	struct json_object *o = json_object_new_object();

	(void)json_object_object_add(o, by_file ? "ino" : "pid", json_object_new_uint64(g->key));
	(void)json_object_object_add(o, by_file ? "file" : "comm", json_object_new_string(g->name));
	(void)json_object_object_add(o, "pins", json_object_new_uint64(g->pins));
	(void)json_object_object_add(o, "bytes", json_object_new_uint64(g->bytes));
	(void)json_object_object_add(o, by_file ? "processes" : "files", json_object_new_uint64(g->nother));
	(void)json_object_object_add(o, "oldest_ns", json_object_new_uint64(g->oldest_ns));
	if (!by_file) {
		(void)json_object_object_add(o, "uid", json_object_new_uint64(g->uid));
		(void)json_object_object_add(o, "process_start_ns", json_object_new_uint64(g->start_ns));
	}
	return o;
}

static void print(const struct group *g, size_t n, bool by_file)
{
	static const char *const file_head[] = { "inode", "pins", "bytes", "processes", "oldest", "file" };
	static const char *const pid_head[] = {
		"pid", "user", "started", "pins", "bytes", "files", "oldest", "command"
	};
	struct table t = { .ncol = by_file ? PF_ARRAY_LEN(file_head) : PF_ARRAY_LEN(pid_head),
			   .head = by_file ? file_head : pid_head, .right = by_file ? "rrrrrl" : "rrlrrrrl" };
	char buf[32];

	if (n == 0) {
		(void)puts("no pins");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		table_cell(&t, "%" PRIu64, g[i].key);
		if (!by_file) {
			table_cell(&t, "%" PRIu64, g[i].uid);
			table_cell(&t, "%s", show_started(g[i].start_ns, buf, sizeof buf));
		}
		table_cell(&t, "%" PRIu64, g[i].pins);
		table_cell(&t, "%s", units_show_bytes(g[i].bytes, buf, sizeof buf));
		table_cell(&t, "%zu", g[i].nother);
		table_cell(&t, "%s", units_show_ns(g[i].oldest_ns, buf, sizeof buf));
		table_cell(&t, "%s", g[i].name);
	}
	table_print(&t);
}

void show_groups(struct json_object *root, bool by_file, bool as_json)
{
	struct json_object *list, *out = json_object_new_array(), *o;
	struct group *g, *at;
	size_t n, ng = 0;

	list = j_list(root, "pins", &n);
	g = calloc(n + 1, sizeof *g);
	if (g == NULL)
		abort();
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(list, i);
		const uint64_t key = j_num(p, by_file ? "ino" : "pid"), age = j_num(p, "age_ns");

		for (at = g; at < g + ng && at->key != key;)
			at++;
		if (at == g + ng)
			*at = (struct group){ .key = key,
					      .name = j_str(p, by_file ? "file" : "comm"),
					      .uid = j_num(p, "uid"),
					      .start_ns = j_num(p, "process_start_ns") };
		ng += at == g + ng;
		at->pins++;
		at->bytes += j_num(p, "len");
		at->oldest_ns = age > at->oldest_ns ? age : at->oldest_ns;
		if (*at->name == '\0')
			at->name = j_str(p, by_file ? "file" : "comm");
		add_other(at, j_num(p, by_file ? "pid" : "ino"));
	}
	qsort(g, ng, sizeof *g, by_bytes);
	for (size_t i = 0; as_json && i < ng; i++)
		(void)json_object_array_add(out, to_json(&g[i], by_file));
	if (as_json) {
		o = json_object_new_object();
		(void)json_object_object_add(o, by_file ? "by_file" : "by_pid", out);
		(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
		(void)json_object_put(o);
	} else {
		print(g, ng, by_file);
		(void)json_object_put(out);
	}
	for (size_t i = 0; i < ng; i++)
		free(g[i].other);
	free(g);
}
