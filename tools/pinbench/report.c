/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - the results as a table for people and as JSON for programs. Owns nothing. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <pinfs/version.h>
#include "pinbench/pinbench.h"

const char *const pb_unit_name[PB_NUNIT] = {
	[PB_NS] = "ns", [PB_US] = "us", [PB_MS] = "ms", [PB_MIBS] = "MiB/s", [PB_OPS] = "ops/s", [PB_KIB] = "KiB",
};

static const char *const subject_name[PB_NSUBJECT] = {
	[PB_PINFS] = "pinfs", [PB_REF] = "reference", [PB_PEER] = "peer"
};

static bool measured(const struct pb_result *r, enum pb_subject s)
{
	return (r->c->subjects & PB_BIT(s)) != 0 && r->err[s] == 0;
}

bool pb_missed(const struct pb_result *r)
{
	if (!measured(r, PB_PINFS))
		return false;
	switch (r->c->aim) {
	case PB_AIM_NONE:
		return false;
	case PB_AIM_MAX:
		return r->median[PB_PINFS] > r->c->limit;
	case PB_AIM_RATIO_MIN:
		return measured(r, PB_REF) && r->ratio[PB_REF] < r->c->limit;
	case PB_AIM_RATIO_MAX:
		return measured(r, PB_REF) && r->ratio[PB_REF] > r->c->limit;
	case PB_AIM_PEER_MIN:
		return measured(r, PB_PEER) && r->ratio[PB_PEER] < r->c->limit;
	}
	return false;
}

static void aim_text(const struct pb_result *r, char *out, size_t size)
{
	const char *verdict = pb_missed(r) ? "MISSED" : "met";

	out[0] = '\0';
	if (!measured(r, PB_PINFS))
		return;
	switch (r->c->aim) {
	case PB_AIM_NONE:
		break;
	case PB_AIM_MAX:
		(void)snprintf(out, size, "<= %g %s: %s", r->c->limit, pb_unit_name[r->c->unit], verdict);
		break;
	case PB_AIM_RATIO_MIN:
		(void)snprintf(out, size, "ratio >= %g: %s", r->c->limit, verdict);
		break;
	case PB_AIM_RATIO_MAX:
		(void)snprintf(out, size, "ratio <= %g: %s", r->c->limit, verdict);
		break;
	case PB_AIM_PEER_MIN:
		if (measured(r, PB_PEER))
			(void)snprintf(out, size, "peer >= %g: %s", r->c->limit, verdict);
		break;
	}
}

static void number(double v, char *out, size_t size)
{
	if (v >= 1e6)
		(void)snprintf(out, size, "%.2fM", v / 1e6);
	else if (v >= 1e5)
		(void)snprintf(out, size, "%.0fk", v / 1e3);
	else if (v >= 1000)
		(void)snprintf(out, size, "%.0f", v);
	else
		(void)snprintf(out, size, "%.3g", v);
}

static void cell(const struct pb_result *r, enum pb_subject s, char *out, size_t size)
{
	if (measured(r, s))
		number(r->median[s], out, size);
	else if ((r->c->subjects & PB_BIT(s)) != 0 && r->err[s] < 0)
		(void)snprintf(out, size, "%s", strerrorname_np(-r->err[s]));
	else
		(void)snprintf(out, size, "-");
}

static void ratio_cell(const struct pb_result *r, enum pb_subject s, char *out, size_t size)
{
	if (measured(r, PB_PINFS) && measured(r, s))
		(void)snprintf(out, size, "%.3g", r->ratio[s]);
	else
		(void)snprintf(out, size, "-");
}

void pb_report_table(const struct pb_env *e, const struct pb_result *r, size_t n)
{
	char v[PB_NSUBJECT][24], ratio[PB_NSUBJECT][24], aim[48];
	unsigned int missed = 0, aims = 0;

	(void)printf(
		"medians of %u interleaved rounds; (+) more is better, (-) less is better; ratio = pinfs / the other\n",
		e->rounds);
	(void)printf("peer: %s%s\n\n", e->peer_name != NULL ? e->peer_name : "none, ",
		     e->peer_name != NULL ? " over tmpfs" : e->peer_why);
	(void)printf("%-23s %-9s %9s %9s  %-11s %7s %9s %7s  %s\n", "case", "unit", "pinfs", "beside", "", "ratio",
		     "peer", "ratio", "aim");
	for (size_t i = 0; i < n; i++, r++) {
		char unit[16];

		(void)snprintf(unit, sizeof unit, "%s %s", pb_unit_name[r->c->unit],
			       pb_more_is_better(r->c->unit) ? "(+)" : "(-)");
		for (enum pb_subject s = PB_PINFS; s < PB_NSUBJECT; s++) {
			cell(r, s, v[s], sizeof v[s]);
			ratio_cell(r, s, ratio[s], sizeof ratio[s]);
		}
		aim_text(r, aim, sizeof aim);
		aims += aim[0] != '\0';
		missed += pb_missed(r);
		(void)printf("%-23s %-9s %9s %9s  %-11s %7s %9s %7s  %s\n", r->c->name, unit, v[PB_PINFS], v[PB_REF],
			     (r->c->subjects & PB_BIT(PB_REF)) == 0 ? "" : r->c->ref != NULL ? r->c->ref : "tmpfs",
			     ratio[PB_REF], v[PB_PEER], ratio[PB_PEER], aim);
	}
	(void)printf("\n%u of %u aims met\n", aims - missed, aims);
}

static void json_subject(const struct pb_env *e, const struct pb_result *r, enum pb_subject s)
{
	const char *name = NULL;

	if (s == PB_REF)
		name = r->c->ref != NULL ? r->c->ref : "tmpfs";
	else if (s == PB_PEER)
		name = e->peer_name;
	if ((r->c->subjects & PB_BIT(s)) == 0 || (r->err[s] > 0))
		return;
	(void)printf(",\n      \"%s\": { ", subject_name[s]);
	if (name != NULL)
		(void)printf("\"name\": \"%s\", ", name);
	if (r->err[s] < 0)
		(void)printf("\"error\": \"%s\" }", strerrorname_np(-r->err[s]));
	else
		(void)printf("\"median\": %.6g, \"min\": %.6g, \"max\": %.6g%s", r->median[s], r->least[s], r->most[s],
			     s == PB_PINFS ? " }" : "");
	if (r->err[s] == 0 && s != PB_PINFS) {
		if (measured(r, PB_PINFS))
			(void)printf(", \"ratio\": %.6g", r->ratio[s]);
		(void)printf(" }");
	}
}

void pb_report_json(const struct pb_env *e, const struct pb_result *r, size_t n)
{
	static const char *const aim_name[] = { [PB_AIM_NONE] = "none", [PB_AIM_RATIO_MIN] = "ratio at least",
						[PB_AIM_RATIO_MAX] = "ratio at most", [PB_AIM_MAX] = "at most",
						[PB_AIM_PEER_MIN] = "ratio to the peer at least" };
	struct utsname u;

	if (uname(&u) != 0)
		memset(&u, 0, sizeof u);
	(void)printf("{\n  \"version\": \"%s\",\n  \"kernel\": \"%s\",\n  \"processors\": %d,\n  \"rounds\": %u,\n  "
		     "\"quick\": %s,\n"
		     "  \"cases\": [",
		     PINFS_VERSION, u.release, get_nprocs(), e->rounds, e->quick ? "true" : "false");
	for (size_t i = 0; i < n; i++, r++) {
		(void)printf("%s\n    { \"name\": \"%s\", \"what\": \"%s\", \"unit\": \"%s\", \"better\": \"%s\"",
			     i > 0 ? "," : "", r->c->name, r->c->what, pb_unit_name[r->c->unit],
			     pb_more_is_better(r->c->unit) ? "more" : "less");
		for (enum pb_subject s = PB_PINFS; s < PB_NSUBJECT; s++)
			json_subject(e, r, s);
		if (r->c->aim != PB_AIM_NONE)
			(void)printf(",\n      \"aim\": { \"kind\": \"%s\", \"limit\": %g, \"met\": %s }",
				     aim_name[r->c->aim], r->c->limit,
				     pb_missed(r) || !measured(r, PB_PINFS) ? "false" : "true");
		(void)printf(" }");
	}
	(void)printf("\n  ]\n}\n");
}
