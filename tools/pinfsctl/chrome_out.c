/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chrome_out.c - what chrome.c writes with: events as text, put in order at the end, and spans by their names. Decides
 * nothing.
 */
#include "pinfsctl/chrome.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool ch_grow(struct chrome *o, void *array, size_t n, size_t *room, size_t size)
{
	void **at = array;
	void *more;

	if (n < *room)
		return true;
	more = realloc(*at, (2 * *room + 64) * size);
	if (more == NULL) {
		o->failed = true;
		return false;
	}
	*at = more;
	*room = 2 * *room + 64;
	return true;
}

/* ---- text ---- */

static size_t utf8(const unsigned char *s)
{
	const size_t n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 :
			 s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

const char *ch_quoted(char *out, const char *s)
{
	char *p = out;

	while (*s != '\0') {
		const unsigned char c = (unsigned char)*s;
		size_t n = 1;

		if (c == '"' || c == '\\') {
			*p++ = '\\';
			*p++ = (char)c;
		} else if (c < 0x20 || c == 0x7f || (c >= 0x80 && (n = utf8((const unsigned char *)s)) == 0)) {
			p += sprintf(p, "\\u%04x", c);
			n = 1;
		} else {
			memcpy(p, s, n);
			p += n;
		}
		s += n;
	}
	*p = '\0';
	return out;
}

void ch_put(struct chrome *o, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof text) {
		o->failed = true;
		return;
	}
	while (o->text_room - o->len < (size_t)n + 1) {
		const size_t room = 2 * o->text_room + 65536;
		char *more = realloc(o->text, room);

		if (more == NULL) {
			o->failed = true;
			return;
		}
		o->text = more;
		o->text_room = room;
	}
	memcpy(o->text + o->len, text, (size_t)n + 1);
	o->len += (size_t)n;
}

/* Order of what has the same time. */
static const char ranks[] = "MXbnisfe";

void ch_event(struct chrome *o, char ph, uint64_t ns, uint64_t dur, uint32_t pid, uint32_t tid,
				  const char *cat, const char *fmt, ...)
{
	char name[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(name, sizeof name, fmt, ap);
	va_end(ap);
	if (!ch_grow(o, &o->line, o->nline, &o->line_room, sizeof *o->line))
		return;
	o->line[o->nline] = (struct line){ .ns = ns, .dur = dur, .off = o->len, .seq = (uint32_t)o->nline,
					   .rank = (uint32_t)(strchr(ranks, ph) - ranks), .pid = pid, .tid = tid,
					   .slice = ph == 'X', .fault = strcmp(cat, "fault") == 0 };
	o->nline++;
	ch_put(o, "{\"ph\":\"%c\",\"ts\":%" PRIu64 ".%03u,\"pid\":%" PRIu32 ",\"tid\":%" PRIu32
	       ",\"cat\":\"%s\",\"name\":\"%s\"", ph, ns / 1000, (unsigned int)(ns % 1000), pid, tid, cat, name);
	if (ph == 'i')
		ch_put(o, ",\"s\":\"t\"");
}

void ch_end(struct chrome *o)
{
	ch_put(o, "}}");
	o->len++;		/* the NUL between two */
}

void ch_args(struct chrome *o, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	ch_put(o, ",\"args\":{%s", text);
}

/* ---- slices ---- */

static int by_thread(const void *a, const void *b)
{
	const struct line *x = *(struct line *const *)a, *y = *(struct line *const *)b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->tid != y->tid)
		return x->tid < y->tid ? -1 : 1;
	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	if (x->dur != y->dur)
		return x->dur > y->dur ? -1 : 1;
	return x->seq < y->seq ? -1 : 1;
}

/*
 * A slice ends when somebody else says so: a fault, when the library's thread has done with it, an operation, when the
 * daemon has answered. The thread itself may be at its next one by then, or meet the same fault again. What it begins
 * shows that what it did before has ended; but a fault that a call has met ends with the call at the latest.
 */
void ch_nest(struct chrome *o)
{
	struct line **all = malloc((o->nline + 1) * sizeof *all);
	struct line **in = malloc((o->nline + 1) * sizeof *in);
	size_t n = 0, depth = 0;

	if (all == NULL || in == NULL) {
		o->failed = true;
		goto out;
	}
	for (size_t i = 0; i < o->nline; i++)
		if (o->line[i].slice)
			all[n++] = &o->line[i];
	if (n != 0)
		qsort(all, n, sizeof(struct line *), by_thread);
	for (size_t i = 0; i < n; i++) {
		struct line *l = all[i], *up;

		if (i == 0 || l->pid != all[i - 1]->pid || l->tid != all[i - 1]->tid)
			depth = 0;
		while (depth != 0) {
			up = in[depth - 1];
			if (up->ns + up->dur > l->ns) {
				if (!up->fault && l->ns + l->dur <= up->ns + up->dur)
					break;
				if (l->fault && !up->fault) {
					l->dur = up->ns + up->dur - l->ns;
					break;
				}
				up->dur = l->ns - up->ns;
			}
			depth--;
		}
		in[depth++] = l;
	}
out:
	free(all);
	free(in);
}

/* ---- tables ---- */

static size_t place(const struct chrome *o, enum kind kind, uint64_t a, uint64_t b)
{
	uint64_t h = (a * UINT64_C(0x9e3779b97f4a7c15)) ^ (b * UINT64_C(0xc2b2ae3d27d4eb4f)) ^ (uint64_t)kind << 32;
	size_t i = (size_t)(h ^ h >> 29) & (o->key_room - 1);

	while (o->key[i].at != 0 && (o->key[i].a != a || o->key[i].b != b || o->key[i].kind != (uint32_t)kind))
		i = (i + 1) & (o->key_room - 1);
	return i;
}

struct span *ch_find(const struct chrome *o, enum kind kind, uint64_t a, uint64_t b)
{
	const uint32_t at = o->key_room != 0 ? o->key[place(o, kind, a, b)].at : 0;

	return at != 0 ? &o->span[at - 1] : NULL;
}

struct span *ch_begin(struct chrome *o, enum kind kind, uint64_t a, uint64_t b, const struct pf_t_ev *ev)
{
	size_t i;

	if (2 * o->nkey >= o->key_room) {
		struct key *old = o->key;
		const size_t n = o->key_room;

		o->key_room = n != 0 ? 2 * n : 1024;
		o->key = calloc(o->key_room, sizeof *o->key);
		if (o->key == NULL) {
			o->key = old;
			o->key_room = n;
			o->failed = true;
			return NULL;
		}
		for (size_t k = 0; k < n; k++)
			if (old[k].at != 0)
				o->key[place(o, (enum kind)old[k].kind, old[k].a, old[k].b)] = old[k];
		free(old);
	}
	if (!ch_grow(o, &o->span, o->nspan, &o->span_room, sizeof *o->span))
		return NULL;
	i = place(o, kind, a, b);
	o->nkey += o->key[i].at == 0;
	o->span[o->nspan] = (struct span){ .ev = *ev };
	o->key[i] = (struct key){ .a = a, .b = b, .kind = (uint32_t)kind, .at = (uint32_t)++o->nspan };
	return &o->span[o->nspan - 1];
}

uint32_t ch_row_for(struct chrome *o, uint32_t pid, uint32_t first, uint64_t ns, uint64_t until)
{
	uint32_t next = first;

	for (size_t i = 0; i < o->nrow; i++) {
		struct row *r = &o->row[i];

		if (r->pid != pid || r->row < first || r->row >= first + ROW_DMA - ROW_HELD)
			continue;
		if (r->end_ns <= ns) {
			r->end_ns = until;
			return r->row;
		}
		next = r->row + 1;
	}
	if (ch_grow(o, &o->row, o->nrow, &o->row_room, sizeof *o->row))
		o->row[o->nrow++] = (struct row){ .pid = pid, .row = next, .end_ns = until };
	return next;
}
