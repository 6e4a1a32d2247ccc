/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report_as.c - results for programs: TAP 14, JUnit XML, JSON, lines of id and answer. What cases say is text of
 * any kind: each format escapes it in its own way.
 */
#include "conform/engine.h"

#include <json-c/json.h>
#include <string.h>
#include <time.h>
#include <pinfs/version.h>

/* ---- TAP ---- */

/* Of a description: no line ends, and nothing that begins a directive. */
static void tap_text(FILE *f, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '#' || *s == '\\')
			(void)fputc('\\', f);
		(void)fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
	}
}

/* A line of the YAML block: in single quotes, which only need themselves doubled. */
static void yaml(FILE *f, const char *key, const char *s)
{
	if (s[0] == '\0')
		return;
	(void)fprintf(f, "  %s: '", key);
	for (; *s != '\0'; s++) {
		if (*s == '\'')
			(void)fputc('\'', f);
		(void)fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
	}
	(void)fputs("'\n", f);
}

void report_tap(const struct suite *s, FILE *f)
{
	(void)fprintf(f, "TAP version 14\n1..%zu\n# ", s->nresult);
	tap_text(f, s->place.what);
	(void)fputc('\n', f);
	for (size_t i = 0; i < s->nresult; i++) {
		const struct result *r = &s->result[i];
		const bool bad = r->verdict == V_DIFFERS || r->verdict == V_BROKEN;

		(void)fprintf(f, "%sok %zu - ", bad ? "not " : "", i + 1);
		tap_text(f, r->cs->id);
		if (r->verdict == V_NA) {
			(void)fputs(r->machine ? " # SKIP machine: " : " # SKIP ", f);
			tap_text(f, r->why);
			(void)fputc('\n', f);
			continue;
		}
		if (r->verdict != V_BROKEN) {
			(void)fputs(": ", f);
			tap_text(f, r->answer);
		}
		(void)fputc('\n', f);
		(void)fputs("  ---\n", f);
		yaml(f, "says", r->cs->says);
		yaml(f, "source", r->cs->source);
		yaml(f, "expected", r->expected);
		yaml(f, "answer", r->answer);
		yaml(f, "unsafe", r->has_twin ? r->twin : "");
		yaml(f, "linux", r->on_linux);
		yaml(f, "why", r->why);
		yaml(f, "notes", r->notes);
		(void)fputs("  ...\n", f);
	}
}

/* ---- JUnit XML ---- */

/* Text or an attribute's value. XML 1.0 has no way to say most control characters: they become '?'. */
static void xml(FILE *f, const char *s)
{
	for (; *s != '\0'; s++) {
		switch (*s) {
		case '&':
			(void)fputs("&amp;", f);
			break;
		case '<':
			(void)fputs("&lt;", f);
			break;
		case '>':
			(void)fputs("&gt;", f);
			break;
		case '"':
			(void)fputs("&quot;", f);
			break;
		case '\n':
			(void)fputs("&#10;", f);
			break;
		default:
			(void)fputc((unsigned char)*s < 0x20 ? '?' : *s, f);
		}
	}
}

static void xml_attr(FILE *f, const char *name, const char *value)
{
	(void)fprintf(f, " %s=\"", name);
	xml(f, value);
	(void)fputc('"', f);
}

static void junit_case(FILE *f, const struct result *r)
{
	char what[2 * ANSWER_MAX + 64];

	(void)fputs("    <testcase", f);
	xml_attr(f, "classname", r->group->name);
	xml_attr(f, "name", r->cs->id);
	(void)fprintf(f, " time=\"%.3f\">\n", r->seconds);
	switch (r->verdict) {
	case V_DIFFERS:
		(void)snprintf(what, sizeof what, "answered \"%s\", expected \"%s\"", r->answer, r->expected);
		(void)fputs("      <failure type=\"differs\"", f);
		xml_attr(f, "message", expect_met(r->expected, r->answer) ? r->why : what);
		(void)fputc('>', f);
		xml(f, r->cs->says);
		(void)fputs("</failure>\n", f);
		break;
	case V_BROKEN:
		(void)fputs("      <error type=\"broken\"", f);
		xml_attr(f, "message", r->why);
		(void)fputs("/>\n", f);
		break;
	case V_NA:
		(void)fputs("      <skipped", f);
		xml_attr(f, "message", r->why);
		(void)fputs("/>\n", f);
		break;
	case V_PASS:
		break;
	}
	if (r->verdict != V_NA) {
		(void)fputs("      <system-out>", f);
		(void)snprintf(what, sizeof what, "answer: %s\n", r->answer);
		xml(f, what);
		xml(f, r->notes);
		(void)fputs("</system-out>\n", f);
	}
	(void)fputs("    </testcase>\n", f);
}

void report_junit(const struct suite *s, FILE *f)
{
	unsigned int n[4];

	report_counts(s, n);
	(void)fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pinfs-conform\" tests=\"%zu\""
		      " failures=\"%u\" errors=\"%u\" skipped=\"%u\">\n", s->nresult, n[V_DIFFERS], n[V_BROKEN],
		      n[V_NA]);
	for (size_t i = 0, end; i < s->nresult; i = end) {
		unsigned int k[4] = { 0 };
		double seconds = 0;

		for (end = i; end < s->nresult && s->result[end].group == s->result[i].group; end++) {
			k[s->result[end].verdict]++;
			seconds += s->result[end].seconds;
		}
		(void)fputs("  <testsuite", f);
		xml_attr(f, "name", s->result[i].group->title);
		xml_attr(f, "hostname", "localhost");
		(void)fprintf(f, " tests=\"%zu\" failures=\"%u\" errors=\"%u\" skipped=\"%u\" time=\"%.3f\">\n",
			      end - i, k[V_DIFFERS], k[V_BROKEN], k[V_NA], seconds);
		(void)fputs("    <properties><property name=\"place\"", f);
		xml_attr(f, "value", s->place.what);
		(void)fputs("/></properties>\n", f);
		for (size_t at = i; at < end; at++)
			junit_case(f, &s->result[at]);
		(void)fputs("  </testsuite>\n", f);
	}
	(void)fputs("</testsuites>\n", f);
}

/* ---- JSON ---- */

static void put(struct json_object *o, const char *key, const char *s)
{
	(void)json_object_object_add(o, key, json_object_new_string(s));
}

static struct json_object *json_case(const struct result *r)
{
	struct json_object *o = json_object_new_object();

	put(o, "id", r->cs->id);
	put(o, "group", r->group->name);
	put(o, "source", r->cs->source);
	put(o, "says", r->cs->says);
	put(o, "result", report_verdict(r->verdict));
	if (r->verdict == V_NA)
		(void)json_object_object_add(o, "machine", json_object_new_boolean(r->machine));
	put(o, "expected", r->expected);
	put(o, "answer", r->answer);
	put(o, "linux", r->on_linux);
	(void)json_object_object_add(o, "departs", json_object_new_boolean(report_departs(r)));
	if (r->has_twin) {
		struct json_object *t = json_object_new_object();

		put(t, "expected", r->twin_expected);
		put(t, "answer", r->twin);
		(void)json_object_object_add(o, "unsafe", t);
	}
	if (r->why[0] != '\0')
		put(o, "why", r->why);
	if (r->notes[0] != '\0')
		put(o, "notes", r->notes);
	(void)json_object_object_add(o, "seconds", json_object_new_double(r->seconds));
	return o;
}

void report_json(const struct suite *s, FILE *f)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array(),
			   *counts = json_object_new_object(), *tags = json_object_new_array();
	unsigned int n[4];

	put(o, "version", PINFS_VERSION);
	put(o, "dir", s->place.dir);
	put(o, "place", s->place.what);
	put(o, "pins", s->place.pin != NULL ? s->place.pin : "");
	for (unsigned int i = 0; i < s->place.tags.n; i++)
		(void)json_object_array_add(tags, json_object_new_string(s->place.tags.name[i]));
	(void)json_object_object_add(o, "tags", tags);
	for (size_t i = 0; i < s->nresult; i++)
		(void)json_object_array_add(list, json_case(&s->result[i]));
	(void)json_object_object_add(o, "cases", list);
	report_counts(s, n);
	(void)json_object_object_add(counts, "pass", json_object_new_int64(n[V_PASS]));
	(void)json_object_object_add(counts, "differs", json_object_new_int64(n[V_DIFFERS]));
	(void)json_object_object_add(counts, "n/a", json_object_new_int64(n[V_NA]));
	(void)json_object_object_add(counts, "broken", json_object_new_int64(n[V_BROKEN]));
	(void)json_object_object_add(o, "counts", counts);
	(void)fprintf(f, "%s\n",
		      json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)json_object_put(o);
}

/* ---- lines ---- */

void report_tsv(const struct suite *s, FILE *f)
{
	(void)fprintf(f, "# %s\n", s->place.what);
	for (size_t i = 0; i < s->nresult; i++) {
		const struct result *r = &s->result[i];

		if (r->verdict == V_BROKEN)
			(void)fprintf(f, "# %s is broken: %s\n", r->cs->id, r->why);
		else
			(void)fprintf(f, "%s\t%s%s\n", r->cs->id, r->verdict == V_NA ? "na: " : "",
				      r->verdict == V_NA ? r->why : r->answer);
	}
}
