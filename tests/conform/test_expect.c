/* SPDX-License-Identifier: BSD-3-Clause */
/* test_expect.c - the language of expectations, and recorded answers: what is read from them, and what is refused. */
#include <string.h>
#include <unistd.h>
#include "conform/engine.h"
#include "harness/run.h"

static const char *under(const char *want, const char *a, const char *b, const char *c)
{
	static char out[ANSWER_MAX];
	struct tags t = { .n = 0 };

	if (a != NULL)
		tags_add(&t, a);
	if (b != NULL)
		tags_add(&t, b);
	if (c != NULL)
		tags_add(&t, c);
	return expect_find(want, &t, out) ? out : "(nothing)";
}

#define IS(expr, text) CU_ASSERT_STRING_EQUAL(expr, text)

static void clauses(void)
{
	const char *want = "waits; ebusy: EBUSY; defer, unsafe, plain: returns";

	IS(under(want, NULL, NULL, NULL), "waits");
	IS(under(want, "ebusy", NULL, NULL), "EBUSY");
	IS(under(want, "defer", NULL, NULL), "returns");
	IS(under(want, "unsafe", "pinfs", NULL), "returns");
	IS(under(want, "plain", "root", NULL), "returns");
	/* The last that holds. */
	IS(under("a; pinfs: b; root: c", "root", "pinfs", NULL), "c");
	IS(under("a; root: c; pinfs: b", "root", "pinfs", NULL), "b");
	IS(under("  a b  ;  root :  c d  ", "root", NULL, NULL), "c d");
	IS(under("dies: SIGSEGV; root: dies: SIGBUS", "root", NULL, NULL), "dies: SIGBUS");
	IS(under("dies: SIGSEGV; root: dies: SIGBUS", NULL, NULL, NULL), "dies: SIGSEGV");
	IS(under("waits, then fails; root: a, b", "root", NULL, NULL), "a, b");
}

static void operators(void)
{
	IS(under("a; pinfs+root: b", "pinfs", NULL, NULL), "a");
	IS(under("a; pinfs+root: b", "pinfs", "root", NULL), "b");
	IS(under("a; pinfs+!root: b", "pinfs", NULL, NULL), "b");
	IS(under("a; pinfs+!root: b", "pinfs", "root", NULL), "a");
	IS(under("a; !pinfs: b", NULL, NULL, NULL), "b");
	/* '+' binds closer than ','. */
	IS(under("a; pinfs+root, plain: b", "plain", NULL, NULL), "b");
	IS(under("a; pinfs+root, plain: b", "root", NULL, NULL), "a");
	IS(under("a; k6.12: b; k6.1: c", "k6.12", NULL, NULL), "b");
	IS(under("a; k6.12: b; k6.1: c", "k6.1", NULL, NULL), "c");
	IS(under("a; linux-4.15: b", "linux-4.15", "linux", NULL), "b");
}

static void answers(void)
{
	CU_ASSERT(expect_met("EIO|EFAULT", "EIO"));
	CU_ASSERT(expect_met("EIO | EFAULT", "EFAULT"));
	CU_ASSERT(!expect_met("EIO|EFAULT", "EIO|EFAULT"));
	CU_ASSERT(!expect_met("waits", "wait"));
	CU_ASSERT(!expect_met("wait", "waits"));
	CU_ASSERT(!expect_met("waits", ""));
	CU_ASSERT(expect_met("?", "anything"));
	CU_ASSERT(expect_met("?", ""));
	CU_ASSERT_PTR_NULL(expect_na("name"));
	CU_ASSERT_PTR_NULL(expect_na("waits"));
	IS(expect_na("na: no such thing: here"), "no such thing: here");
	IS(expect_na(under("a; root: na: it is so", "root", NULL, NULL)), "it is so");
}

static void nonsense(void)
{
	static const char *const bad[] = {
		"", ";", "a;", "a; b: c", "a; root", "a; root:", "a; root: b;", "root: a", "a; root+: b", "a; +root: b",
		"a; !: b", "a; root pinfs: b", "a; k6: b", "a; k6.: b", "a; k6.12x: b", "a; kernels: b", "a; Root: b",
		"a; root,: b", "pinfss: a",
	};
	static const char *const good[] = {
		"a", "a; root: b", "?", "na: whatever: it is", "dies: SIGBUS", "a; root, !user+k6.12: na: x: y", "a|b",
	};
	char text[ANSWER_MAX + 8];

	for (size_t i = 0; i < PF_ARRAY_LEN(bad); i++) {
		if (expect_sane(bad[i]) == NULL)
			pt_say("\"%s\" is taken", bad[i]);
		CU_ASSERT_PTR_NOT_NULL(expect_sane(bad[i]));
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(good); i++) {
		if (expect_sane(good[i]) != NULL)
			pt_say("\"%s\": %s", good[i], expect_sane(good[i]));
		CU_ASSERT_PTR_NULL(expect_sane(good[i]));
	}
	memset(text, 'a', sizeof text);
	text[ANSWER_MAX] = '\0';
	CU_ASSERT_PTR_NOT_NULL(expect_sane(text));
	text[ANSWER_MAX - 1] = '\0';
	CU_ASSERT_PTR_NULL(expect_sane(text));
}

static void policies(void)
{
	struct tags t = { .n = 0 }, u;

	tags_add(&t, "pinfs");
	tags_add(&t, "ebusy");
	tags_add(&t, "pinfs");
	PT_EQ(t.n, 2);
	u = tags_with_policy(&t, "unsafe");
	PT_EQ(u.n, 2);
	CU_ASSERT(tags_have(&u, "pinfs") && tags_have(&u, "unsafe") && !tags_have(&u, "ebusy"));
	CU_ASSERT(tags_have(&t, "ebusy"));
}

static struct record *read_text(const char *text)
{
	char path[600];
	struct record *r;
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/record", pt_tmp());
	f = fopen(path, "w");
	CU_ASSERT_FATAL(f != NULL);
	(void)fputs(text, f);
	(void)fclose(f);
	r = record_read(path);
	(void)unlink(path);
	return r;
}

static void records(void)
{
	static const char *const bad[] = { "a\n", "\tb\n", "a\t\n", "a b\n" };
	struct record *r = read_text("# comment\n\na.b\twaits\na.c\tna: it is so\tand so\na.d\treturns");

	CU_ASSERT_FATAL(r != NULL);
	IS(record_find(r, "a.b"), "waits");
	IS(record_find(r, "a.c"), "na: it is so\tand so");
	IS(record_find(r, "a.d"), "returns");
	CU_ASSERT_PTR_NULL(record_find(r, "a"));
	record_free(r);
	for (size_t i = 0; i < PF_ARRAY_LEN(bad); i++)
		CU_ASSERT_PTR_NULL(read_text(bad[i]));
	CU_ASSERT_PTR_NULL(record_read("/nonexistent/record"));
	record_free(NULL);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "the last clause that holds", clauses, 0 },
		{ "and, or, not", operators, 0 },
		{ "one answer of several", answers, 0 },
		{ "nonsense is refused", nonsense, 0 },
		{ "another policy", policies, 0 },
		{ "records", records, 0 },
	};
	static const struct pt_suite suites[] = { { "expect", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
