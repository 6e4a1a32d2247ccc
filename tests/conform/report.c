/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - results for people: a table. */
#include "conform/engine.h"

#include <string.h>

static const char *const verdict_name[] = {
	[V_PASS] = "pass", [V_DIFFERS] = "DIFFERS", [V_NA] = "n/a", [V_BROKEN] = "BROKEN",
};

void report_counts(const struct suite *s, unsigned int n[4])
{
	memset(n, 0, 4 * sizeof *n);
	for (size_t i = 0; i < s->nresult; i++)
		n[s->result[i].verdict]++;
}

static void table(const struct suite *s, FILE *f)
{
	const struct cf_group *group = NULL;
	unsigned int n[4];

	for (size_t i = 0; i < s->nresult; i++) {
		const struct result *r = &s->result[i];

		if (r->group != group)
			(void)fprintf(f, "\n%s\n", r->group->title);
		group = r->group;
		(void)fprintf(f, "  %-8s %-28s %-20s", verdict_name[r->verdict], r->cs->id,
			      r->verdict == V_NA ? "-" : r->answer);
		if (r->has_twin)
			(void)fprintf(f, " unsafe: %s", r->twin);
		(void)fprintf(f, " Linux: %s%s\n", r->on_linux,
			      r->verdict != V_NA && !expect_met(r->on_linux, r->answer) ? " *" : "");
		if (r->verdict == V_DIFFERS && !expect_met(r->expected, r->answer))
			(void)fprintf(f, "           expected: %s\n", r->expected);
		if (r->why[0] != '\0')
			(void)fprintf(f, "           %s\n", r->why);
		if (s->verbose && r->notes[0] != '\0')
			(void)fprintf(f, "           %s\n", r->notes);
	}
	report_counts(s, n);
	(void)fprintf(f, "\n%u passed, %u differ, %u not applicable, %u broken\n", n[V_PASS], n[V_DIFFERS], n[V_NA],
		      n[V_BROKEN]);
}

int report_write(const struct suite *s, enum format fmt, FILE *f)
{
	(void)fmt;
	table(s, f);
	return ferror(f) ? -1 : 0;
}
