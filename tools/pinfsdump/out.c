/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * out.c - one printer for people and for programs: what is dumped once comes out as text or as JSON.
 *
 * Text goes out at once; JSON is collected and written in the end. Owns the JSON tree. Running out of memory is
 * remembered and reported in the end.
 */
#include "pinfsdump/dump.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH 12
#define TEXT_MAX 16384U

struct out {
	FILE *to;
	bool json, oom;
	unsigned int depth;		/* of sections, for people */
	/* JSON: the object or array that is being filled is at [jdepth]. */
	struct json_object *at[DEPTH];
	unsigned int jdepth;
	/* The table. */
	const struct out_col *col;
	unsigned int ncol, cell;
	bool in_row;
};

struct out *out_new(bool json, FILE *to)
{
	struct out *o = calloc(1, sizeof *o);

	if (o == NULL)
		return NULL;
	o->to = to;
	o->json = json;
	if (json) {
		o->at[0] = json_object_new_object();
		if (o->at[0] == NULL) {
			free(o);
			return NULL;
		}
	}
	return o;
}

int out_end_all(struct out *o)
{
	int err = 0;

	if (o->json) {
		const int how = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE;
		const char *text = o->oom ? NULL : json_object_to_json_string_ext(o->at[0], how);

		if (text == NULL)
			err = -ENOMEM;
		else
			(void)fprintf(o->to, "%s\n", text);
		(void)json_object_put(o->at[0]);
	}
	if (fflush(o->to) != 0 || ferror(o->to) != 0)
		err = -EIO;
	free(o);
	return err;
}

/* ---- JSON ---- */

/* Takes @v, and frees it when it cannot be added: false. */
static bool add(struct out *o, const char *key, struct json_object *v)
{
	struct json_object *to = o->at[o->jdepth];
	int err = -1;

	/* No @to: inside something there was no memory for. */
	if (v != NULL && to != NULL)
		err = json_object_is_type(to, json_type_array) ? json_object_array_add(to, v) :
								 json_object_object_add(to, key, v);
	if (err != 0) {
		o->oom = true;
		(void)json_object_put(v);
	}
	return err == 0;
}

static void push(struct out *o, const char *key, struct json_object *v)
{
	bool added = add(o, key, v);

	assert(o->jdepth + 1 < DEPTH);		/* sections nest as the code does, whatever the image holds */
	o->at[++o->jdepth] = added ? v : NULL;
}

static void pop(struct out *o)
{
	assert(o->jdepth > 0);
	o->jdepth--;
}

static void add_text(struct out *o, const char *key, const char *text)
{
	(void)add(o, key, json_object_new_string(text));
}

/* ---- text ---- */

static void indent(struct out *o)
{
	for (unsigned int i = 0; i < o->depth; i++)
		(void)fputs("  ", o->to);
}

/* A value: "key: value", or the next cell of a row. */
static void put(struct out *o, const char *key, const char *text)
{
	if (!o->in_row) {
		indent(o);
		(void)fprintf(o->to, "%s: %s\n", key, text);
		return;
	}
	/* The last column is not padded. */
	if (o->cell + 1 >= o->ncol && o->col[o->ncol - 1].width < 0)
		(void)fprintf(o->to, "%s%s", o->cell == 0 ? "" : "  ", text);
	else
		(void)fprintf(o->to, "%s%*s", o->cell == 0 ? "" : "  ", o->col[o->cell].width, text);
	if (o->cell + 1 < o->ncol)
		o->cell++;
}

/* ---- structure ---- */

void out_begin(struct out *o, const char *key, const char *title, ...)
{
	va_list ap;

	if (o->json) {
		push(o, key, json_object_new_object());
		return;
	}
	indent(o);
	va_start(ap, title);
	(void)vfprintf(o->to, title, ap);
	va_end(ap);
	(void)fputs(":\n", o->to);
	o->depth++;
}

void out_end(struct out *o)
{
	if (o->json)
		pop(o);
	else if (o->depth > 0)
		o->depth--;
}

void out_list(struct out *o, const char *key)
{
	if (o->json)
		push(o, key, json_object_new_array());
}

void out_list_end(struct out *o)
{
	if (o->json)
		pop(o);
}

void out_table(struct out *o, const char *key, const struct out_col *col, unsigned int n)
{
	o->col = col;
	o->ncol = n;
	if (o->json) {
		push(o, key, json_object_new_array());
		return;
	}
	indent(o);
	(void)fprintf(o->to, "%s:\n", key);
	o->depth++;
	indent(o);
	for (unsigned int i = 0; i < n; i++)
		(void)fprintf(o->to, "%s%*s", i == 0 ? "" : "  ", i + 1 == n && col[i].width < 0 ? 0 : col[i].width,
			      col[i].key);
	(void)fputc('\n', o->to);
}

void out_row(struct out *o)
{
	o->in_row = true;
	o->cell = 0;
	if (o->json)
		push(o, "", json_object_new_object());
	else
		indent(o);
}

void out_row_end(struct out *o)
{
	o->in_row = false;
	if (o->json)
		pop(o);
	else
		(void)fputc('\n', o->to);
}

void out_table_end(struct out *o)
{
	if (o->json)
		pop(o);
	else if (o->depth > 0)
		o->depth--;
}

/* ---- values ---- */

void out_num(struct out *o, const char *key, uint64_t v)
{
	char buf[32];

	if (o->json) {
		(void)add(o, key, json_object_new_uint64(v));
		return;
	}
	(void)snprintf(buf, sizeof buf, "%" PRIu64, v);
	put(o, key, buf);
}

void out_hex(struct out *o, const char *key, uint64_t v)
{
	char buf[32];

	(void)snprintf(buf, sizeof buf, "0x%" PRIx64, v);
	if (o->json)
		add_text(o, key, buf);
	else
		put(o, key, buf);
}

void out_bool(struct out *o, const char *key, bool v)
{
	if (o->json)
		(void)add(o, key, json_object_new_boolean(v));
	else
		put(o, key, v ? "yes" : "no");
}

void out_text(struct out *o, const char *key, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	if (o->json)
		add_text(o, key, buf);
	else
		put(o, key, buf);
}

/* Everything beyond ASCII too: what it shows as is the terminal's affair, and JSON has to be valid UTF-8. */
void out_name(struct out *o, const char *key, const void *bytes, size_t len)
{
	char buf[TEXT_MAX + 8];
	const uint8_t *p = bytes;
	size_t n = 0;

	for (size_t i = 0; i < len && n + 4 < TEXT_MAX; i++) {
		if (p[i] < 0x20 || p[i] >= 0x7f || p[i] == '\\')
			n += (size_t)sprintf(buf + n, "\\x%02x", p[i]);
		else
			buf[n++] = (char)p[i];
	}
	buf[n] = '\0';
	if (o->json)
		add_text(o, key, buf);
	else
		put(o, key, buf);
}

void out_time(struct out *o, const char *key, uint64_t sec, uint32_t ns)
{
	char day[64], buf[128];
	time_t t = (time_t)sec;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		(void)snprintf(buf, sizeof buf, "%" PRId64 " s, %" PRIu32 " ns", (int64_t)sec, ns);
	else if (ns != 0)
		(void)snprintf(buf, sizeof buf, "%s.%09" PRIu32 "Z", day, ns);
	else
		(void)snprintf(buf, sizeof buf, "%sZ", day);
	if (o->json)
		add_text(o, key, buf);
	else
		put(o, key, buf);
}

static void hex_line(char *line, size_t at, const uint8_t *p, size_t n)
{
	size_t len = (size_t)sprintf(line, "%03zx ", at);

	for (size_t i = 0; i < 16; i++)
		len += (size_t)(i < n ? sprintf(line + len, " %02x", p[i]) : sprintf(line + len, "   "));
	len += (size_t)sprintf(line + len, "  ");
	for (size_t i = 0; i < n; i++)
		line[len++] = (char)(p[i] >= 0x20 && p[i] < 0x7f ? p[i] : '.');
	line[len] = '\0';
}

void out_dump(struct out *o, const char *key, const uint8_t *bytes, size_t len)
{
	bool skipping = false;
	char line[128];

	if (o->json)
		push(o, key, json_object_new_array());
	else {
		indent(o);
		(void)fprintf(o->to, "%s:\n", key);
	}
	for (size_t at = 0; at < len; at += 16) {
		size_t n = len - at < 16 ? len - at : 16;

		if (at != 0 && n == 16 && at + 16 < len && memcmp(bytes + at, bytes + at - 16, 16) == 0) {
			if (!skipping && !o->json) {
				indent(o);
				(void)fputs("  *\n", o->to);
			}
			skipping = true;
			continue;
		}
		skipping = false;
		hex_line(line, at, bytes + at, n);
		if (o->json) {
			add_text(o, "", line);
		} else {
			indent(o);
			(void)fprintf(o->to, "  %s\n", line);
		}
	}
	if (o->json)
		pop(o);
}

/* Damage belongs to the innermost object; in a table, to what the table is in. */
void out_fault(struct out *o, const char *text)
{
	unsigned int at = o->jdepth;
	struct json_object *list = NULL, *v;

	if (!o->json) {
		if (o->in_row)
			(void)fputc('\n', o->to);
		indent(o);
		(void)fprintf(o->to, "! %s\n", text);
		return;
	}
	while (at > 0 && (o->at[at] == NULL || !json_object_is_type(o->at[at], json_type_object)))
		at--;
	if (!json_object_object_get_ex(o->at[at], "damage", &list)) {
		list = json_object_new_array();
		if (list == NULL || json_object_object_add(o->at[at], "damage", list) != 0) {
			o->oom = true;
			return;
		}
	}
	v = json_object_new_string(text);
	if (v == NULL || json_object_array_add(list, v) != 0)
		o->oom = true;
}

void dump_fault(struct dump *d, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	d->damaged = true;
	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	out_fault(d->o, buf);
}

void out_note(struct out *o, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	if (o->json) {
		add_text(o, "note", buf);
		return;
	}
	indent(o);
	(void)fprintf(o->to, "(%s)\n", buf);
}
