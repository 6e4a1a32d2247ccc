/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.c - tables and lines for people, and the JSON of reports: of other versions, so a member that is missing is
 * empty or 0. Names were chosen by others: control characters are made visible, so none reaches the terminal.
 */
#include "pinfsctl/pinfsctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct json_object *j_get(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

uint64_t j_num(struct json_object *o, const char *name)
{
	struct json_object *v = j_get(o, name);

	return v != NULL ? json_object_get_uint64(v) : 0;
}

const char *j_str(struct json_object *o, const char *name)
{
	struct json_object *v = j_get(o, name);
	const char *s = v != NULL ? json_object_get_string(v) : NULL;

	return s != NULL ? s : "";
}

struct json_object *j_list(struct json_object *o, const char *name, size_t *n)
{
	struct json_object *v = j_get(o, name);

	if (v != NULL && !json_object_is_type(v, json_type_array))
		v = NULL;
	*n = v != NULL ? json_object_array_length(v) : 0;
	return v;
}

size_t j_count(struct json_object *o, const char *name)
{
	size_t n;

	(void)j_list(o, name, &n);
	return n;
}

struct json_object *j_report(const char *json)
{
	struct json_object *root = json_tokener_parse(json);

	if (root != NULL && json_object_is_type(root, json_type_object))
		return root;
	(void)json_object_put(root);
	(void)complain("the daemon's report is not JSON");
	return NULL;
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

const char *show_started(uint64_t boot_ns, char *buf, size_t room)
{
	struct timespec now, boot;
	struct tm tm;
	time_t when;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	when = now.tv_sec - boot.tv_sec + (time_t)(boot_ns / UINT64_C(1000000000));
	if (boot_ns == 0 || localtime_r(&when, &tm) == NULL || strftime(buf, room, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(buf, room, "?");
	return buf;
}
