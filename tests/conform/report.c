/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - results for people: a table, and a line while it goes on. Other formats: report_as.c. */
#include "conform/engine.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *report_verdict(enum verdict v)
{
	static const char *const name[] = {
		[V_PASS] = "pass", [V_DIFFERS] = "differs", [V_NA] = "n/a", [V_BROKEN] = "broken",
	};

	return name[v];
}

void report_counts(const struct suite *s, unsigned int n[4])
{
	memset(n, 0, 4 * sizeof *n);
	for (size_t i = 0; i < s->nresult; i++)
		n[s->result[i].verdict]++;
}

bool report_departs(const struct result *r)
{
	return (r->verdict == V_PASS || r->verdict == V_DIFFERS) && r->on_linux[0] != '\0' &&
	       expect_na(r->on_linux) == NULL && !expect_met(r->on_linux, r->answer);
}

void report_summary(const struct suite *s, FILE *f)
{
	unsigned int n[4];

	report_counts(s, n);
	(void)fprintf(f, "%u passed, %u differ, %u not applicable, %u broken\n", n[V_PASS], n[V_DIFFERS], n[V_NA],
		      n[V_BROKEN]);
}

/* ---- the table ---- */

/* A cell; control characters do not reach the terminal. */
static void cell(FILE *f, const char *s, size_t width)
{
	size_t n = 0;

	for (; *s != '\0'; s++, n++)
		(void)fputc((unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s, f);
	for (; n < width; n++)
		(void)fputc(' ', f);
}

/* A text in lines below its row. */
static void below(FILE *f, const char *what, const char *text)
{
	while (*text != '\0') {
		const size_t n = strcspn(text, "\n");

		(void)fprintf(f, "           %s%.*s\n", what, (int)n, text);
		text += n + (text[n] == '\n');
		what = "";
	}
}

static const char *shown_linux(const struct result *r)
{
	return expect_na(r->on_linux) != NULL ? "-" : r->on_linux;
}

struct widths { size_t id, answer, twin, linux_; };

static void widen(size_t *w, const char *s)
{
	const size_t n = strlen(s);

	if (n > *w)
		*w = n < 32 ? n : 32;
}

static void row(const struct suite *s, const struct result *r, const struct widths *w, FILE *f)
{
	(void)fprintf(f, "  %-7s  ", r->verdict == V_DIFFERS ? "DIFFERS" : r->verdict == V_BROKEN ? "BROKEN" :
		      report_verdict(r->verdict));
	cell(f, r->cs->id, w->id + 2);
	if (r->verdict == V_NA || r->verdict == V_BROKEN) {
		cell(f, r->why, 0);
	} else {
		cell(f, r->answer, w->answer + 2);
		if (w->twin != 0)
			cell(f, r->has_twin ? r->twin : "", w->twin + 2);
		cell(f, shown_linux(r), 0);
		if (report_departs(r))
			(void)fputs("  *", f);
	}
	(void)fputc('\n', f);
	if (r->verdict == V_DIFFERS && !expect_met(r->expected, r->answer))
		below(f, "expected:  ", r->expected);
	if (r->verdict == V_DIFFERS)
		below(f, "", r->why);
	if (s->verbose || r->verdict == V_DIFFERS || r->verdict == V_BROKEN) {
		if (r->verdict != V_NA || (r->cs->flags & CF_UNASKED) == 0)
			below(f, "", r->cs->says);
		below(f, "source:    ", r->cs->source);
		below(f, "note:      ", r->notes);
	}
}

void report_table(const struct suite *s, FILE *f)
{
	struct widths w = { 4, 6, 0, 5 };
	const struct cf_group *group = NULL;
	bool departs = false;

	for (size_t i = 0; i < s->nresult; i++) {
		const struct result *r = &s->result[i];

		widen(&w.id, r->cs->id);
		widen(&w.answer, r->answer);
		if (r->has_twin)
			widen(&w.twin, r->twin);
		departs = departs || report_departs(r);
	}
	if (w.twin != 0)
		widen(&w.twin, "unsafe");
	(void)fprintf(f, "%s: %s\n", s->place.dir, s->place.what);
	(void)fprintf(f, "pins: %s\n\n", s->place.pin != NULL ? s->place.pin : s->place.no_pins);
	if (s->nresult != 0) {
		(void)fprintf(f, "  %-9s%-*s", "", (int)w.id + 2, "case");
		cell(f, "answer", w.answer + 2);
		if (w.twin != 0)
			cell(f, "unsafe", w.twin + 2);
		(void)fputs("Linux\n", f);
	}
	for (size_t i = 0; i < s->nresult; i++) {
		if (s->result[i].group != group)
			(void)fprintf(f, "\n%s\n", s->result[i].group->title);
		group = s->result[i].group;
		row(s, &s->result[i], &w, f);
	}
	if (departs)
		(void)fprintf(f, "\n* departs from what ext4 with DAX answers on Linux 6.12\n");
	(void)fputc('\n', f);
	report_summary(s, f);
}

int report_write(const struct suite *s, enum format fmt, FILE *f)
{
	static void (*const as[])(const struct suite *s, FILE *f) = {
		[FMT_TABLE] = report_table, [FMT_TAP] = report_tap, [FMT_JUNIT] = report_junit,
		[FMT_JSON] = report_json, [FMT_TSV] = report_tsv,
	};

	as[fmt](s, f);
	return fflush(f) != 0 || ferror(f) ? -1 : 0;
}

/* ---- while it goes on ---- */

void report_progress(const struct suite *s, size_t at, const char *id)
{
	unsigned int n[4];
	struct winsize ws;
	char line[256];
	int width = 80;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 20)
		width = ws.ws_col;
	report_counts(s, n);
	(void)snprintf(line, sizeof line, "[%zu/%zu] %s%s", at, s->nresult, id,
		       n[V_DIFFERS] + n[V_BROKEN] != 0 ? "  (some differ)" : "");
	(void)fprintf(stderr, "\r\033[K%.*s", width - 1, id != NULL && id[0] != '\0' ? line : "");
	(void)fflush(stderr);
}
