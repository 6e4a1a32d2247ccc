/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c - reads a trace file and refuses one that makes no sense: not JSON, not in the order of time, a begin without
 * an end or the other way round, an arrow that leads nowhere, slices of one thread that cut each other.
 *
 * Owns the tables for the length of one look.
 */
#include "pinfsctl/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pinfsctl/pinfsctl.h"

/* Something that is open: an async event or an arrow by its name, a row of slices by its process and thread. */
struct open {
	char name[64];
	double ts;			/* since when; of a row: ends of slices, innermost last */
	double *stack;
	size_t depth, room;
	bool closed;
};

struct checker {
	struct open *open;		/* hash table */
	size_t n, room;
	size_t left;			/* that are not closed */
	double last;
	const char *path;
	size_t at;			/* event */
};

static int refuse(const struct checker *c, const char *what, const char *name)
{
	return complain("%s: event %zu: %s%s%s", c->path, c->at, what, name[0] != '\0' ? ": " : "", name);
}

static size_t hash(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return (size_t)(h ^ h >> 32);
}

static struct open *find(struct checker *c, const char *name)
{
	size_t i = hash(name) & (c->room - 1);

	while (c->open[i].name[0] != '\0' && strcmp(c->open[i].name, name) != 0)
		i = (i + 1) & (c->room - 1);
	return &c->open[i];
}

static struct open *get(struct checker *c, const char *name)
{
	struct open *o;

	if (2 * c->n >= c->room) {
		struct open *old = c->open;
		const size_t n = c->room;

		c->room = n != 0 ? 2 * n : 1024;
		c->open = calloc(c->room, sizeof *c->open);
		if (c->open == NULL)
			abort();
		for (size_t i = 0; i < n; i++)
			if (old[i].name[0] != '\0')
				*find(c, old[i].name) = old[i];
		free(old);
	}
	o = find(c, name);
	if (o->name[0] == '\0') {
		(void)snprintf(o->name, sizeof o->name, "%s", name);
		o->closed = true;
		c->n++;
	}
	return o;
}

/* b and e, s and f. */
static int two_ends(struct checker *c, struct json_object *e, char ph, double ts)
{
	struct json_object *id = j_get(e, "id");
	const bool first = ph == 'b' || ph == 's';
	char name[64];
	struct open *o;

	if (id == NULL)
		return refuse(c, "has no id", "");
	(void)snprintf(name, sizeof name, "%c %.16s %.32s", ph == 'b' || ph == 'e' ? 'b' : 's', j_str(e, "cat"),
		       json_object_get_string(id));
	o = get(c, name);
	if (first && !o->closed)
		return refuse(c, "begins a second time", name);
	if (!first && o->closed)
		return refuse(c, "ends, and has not begun", name);
	if (!first && ts < o->ts)
		return refuse(c, "ends before it begins", name);
	o->closed = !first;
	o->ts = ts;
	c->left += first ? 1 : (size_t)-1;
	return 0;
}

/* Slices of a row contain each other or do not meet. */
static int nest(struct checker *c, struct json_object *e, double ts)
{
	const double dur = json_object_get_double(j_get(e, "dur"));
	char name[64];
	struct open *o;

	if (j_get(e, "dur") == NULL || !(dur >= 0))
		return refuse(c, "has no duration", "");
	(void)snprintf(name, sizeof name, "X %" PRIu64 " %" PRIu64, j_num(e, "pid"), j_num(e, "tid"));
	o = get(c, name);
	/* Doubles of microseconds: a thousandth of one is a nanosecond, and more than their error. */
	while (o->depth > 0 && o->stack[o->depth - 1] <= ts + 0.0005)
		o->depth--;
	if (o->depth > 0 && ts + dur > o->stack[o->depth - 1] + 0.0015)
		return refuse(c, "is not inside the slice that it begins in", j_str(e, "name"));
	if (o->depth == o->room) {
		o->room = 2 * o->room + 8;
		o->stack = realloc(o->stack, o->room * sizeof *o->stack);
		if (o->stack == NULL)
			abort();
	}
	o->stack[o->depth++] = ts + dur;
	return 0;
}

/* An arrow begins and ends in a slice. */
static int in_slice(struct checker *c, struct json_object *e, double ts)
{
	char name[64];
	struct open *o;

	(void)snprintf(name, sizeof name, "X %" PRIu64 " %" PRIu64, j_num(e, "pid"), j_num(e, "tid"));
	o = get(c, name);
	while (o->depth > 0 && o->stack[o->depth - 1] < ts - 0.0005)
		o->depth--;
	return o->depth == 0 ? refuse(c, "is an arrow outside of any slice", j_str(e, "name")) : 0;
}

static int look(struct checker *c, struct json_object *e)
{
	const char *ph = j_str(e, "ph");
	double ts;

	if (!json_object_is_type(e, json_type_object) || strlen(ph) != 1 || strchr("MXbnisfe", ph[0]) == NULL)
		return refuse(c, "is no event", "");
	if (j_get(e, "pid") == NULL || j_get(e, "tid") == NULL || j_str(e, "name")[0] == '\0')
		return refuse(c, "has no process, thread or name", "");
	if (ph[0] == 'M')
		return 0;
	if (j_get(e, "ts") == NULL)
		return refuse(c, "has no time", "");
	ts = json_object_get_double(j_get(e, "ts"));
	if (!isfinite(ts) || ts < c->last)
		return refuse(c, "is earlier than the one before", j_str(e, "name"));
	c->last = ts;
	switch (ph[0]) {
	case 'X':
		return nest(c, e, ts);
	case 's':
	case 'f':
		return in_slice(c, e, ts) != 0 ? 1 : two_ends(c, e, ph[0], ts);
	case 'b':
	case 'e':
		return two_ends(c, e, ph[0], ts);
	default:
		return 0;
	}
}

struct json_object *trace_load(const char *path)
{
	struct checker c = { .path = path };
	struct json_object *root = json_object_from_file(path), *list;
	int bad = 0;
	size_t n;

	if (root == NULL) {
		(void)complain("%s: cannot be read, or is no JSON", path);
		return NULL;
	}
	list = j_list(root, "traceEvents", &n);
	if (list == NULL)
		bad = complain("%s: has no traceEvents", path);
	for (; c.at < n && bad == 0; c.at++)
		bad = look(&c, json_object_array_get_idx(list, c.at));
	for (size_t i = 0; i < c.room; i++) {
		if (bad == 0 && c.open[i].name[0] != '\0' && c.open[i].name[0] != 'X' && !c.open[i].closed)
			bad = complain("%s: never ends: %s", path, c.open[i].name);
		free(c.open[i].stack);
	}
	free(c.open);
	if (bad == 0)
		return root;
	(void)json_object_put(root);
	return NULL;
}
