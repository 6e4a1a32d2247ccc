/* SPDX-License-Identifier: BSD-3-Clause */
/* expect.c - the language of cf_case.want: tags, clauses, answers (conform.h describes it). Owns nothing. */
#include "conform/engine.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *const known[] = {
	"pinfs", "bare", "ext4", "xfs", "virtiofs", "plain", "kernel", "dax",
	"own", "linux-4.15", "linux-4.19", "linux-6.12", "virtiofs-dax", "devdax", "linux",
	"wait", "ebusy", "defer", "poll", "unsafe", "range", "file", "fair", "unfair", "detect", "nodetect",
	"refuse", "lease", "allow", "revoke", "txtbsy", "kill",
	"root", "user", "tiny", "api", "slow", "pipe",
};

static const char *const busy[] = { "wait", "ebusy", "defer", "poll", "unsafe" };

bool tag_known(const char *tag, size_t len)
{
	size_t digits;

	for (size_t i = 0; i < PF_ARRAY_LEN(known); i++)
		if (strlen(known[i]) == len && memcmp(known[i], tag, len) == 0)
			return true;
	if (len < 4 || tag[0] != 'k')		/* k6.12 */
		return false;
	digits = strspn(tag + 1, "0123456789");
	return digits != 0 && tag[1 + digits] == '.' && 2 + digits < len &&
	       2 + digits + strspn(tag + 2 + digits, "0123456789") >= len;
}

void tags_add(struct tags *t, const char *tag)
{
	if (!tags_have(t, tag) && t->n < PF_ARRAY_LEN(t->name))
		(void)snprintf(t->name[t->n++], sizeof t->name[0], "%s", tag);
}

static bool have(const struct tags *t, const char *tag, size_t len)
{
	for (unsigned int i = 0; i < t->n; i++)
		if (strlen(t->name[i]) == len && memcmp(t->name[i], tag, len) == 0)
			return true;
	return false;
}

bool tags_have(const struct tags *t, const char *tag)
{
	return have(t, tag, strlen(tag));
}

struct tags tags_with_policy(const struct tags *t, const char *policy)
{
	struct tags out = { .n = 0 };

	for (unsigned int i = 0; i < t->n; i++) {
		bool is = false;

		for (size_t k = 0; k < PF_ARRAY_LEN(busy); k++)
			is = is || strcmp(busy[k], t->name[i]) == 0;
		if (!is)
			tags_add(&out, t->name[i]);
	}
	tags_add(&out, policy);
	return out;
}

/* A piece of text, without blanks around it. */
struct piece { const char *p; size_t len; };

static struct piece trim(const char *p, size_t len)
{
	while (len != 0 && isspace((unsigned char)*p))
		p++, len--;
	while (len != 0 && isspace((unsigned char)p[len - 1]))
		len--;
	return (struct piece){ p, len };
}

/* The next piece of *rest before @sep, which is taken off; false when there is none. */
static bool cut(struct piece *rest, char sep, struct piece *out)
{
	const char *end;
	size_t n;

	if (rest->p == NULL)
		return false;
	end = memchr(rest->p, sep, rest->len);
	n = end != NULL ? (size_t)(end - rest->p) : rest->len;
	*out = trim(rest->p, n);
	*rest = end != NULL ? (struct piece){ end + 1, rest->len - n - 1 } : (struct piece){ NULL, 0 };
	return true;
}

/* "a+!b, c": every word known; *holds: under @t. */
static bool look_at_tags(struct piece text, const struct tags *t, bool *holds)
{
	struct piece alt, word;

	*holds = false;
	while (cut(&text, ',', &alt)) {
		bool all = true;

		while (cut(&alt, '+', &word)) {
			const bool not = word.len != 0 && word.p[0] == '!';

			if (not)
				word = trim(word.p + 1, word.len - 1);
			if (!tag_known(word.p, word.len))
				return false;
			all = all && have(t, word.p, word.len) != not;
		}
		*holds = *holds || all;
	}
	return true;
}

static bool starts(struct piece p, const char *word)
{
	return p.len >= strlen(word) && memcmp(p.p, word, strlen(word)) == 0;
}

/* A clause: its answer, and whether it holds. False: it makes no sense. */
static bool look_at_clause(struct piece clause, const struct tags *t, struct piece *answer, bool *holds)
{
	const char *colon = memchr(clause.p, ':', clause.len);

	*holds = true;
	*answer = clause;
	if (colon != NULL && !starts(clause, "na:") && !starts(clause, "dies:")) {
		const size_t n = (size_t)(colon - clause.p);

		if (!look_at_tags((struct piece){ clause.p, n }, t, holds))
			return false;
		*answer = trim(colon + 1, clause.len - n - 1);
	}
	return answer->len != 0 && answer->len < ANSWER_MAX;
}

bool expect_find(const char *want, const struct tags *t, char out[ANSWER_MAX])
{
	struct piece rest = { want, strlen(want) }, clause, answer;
	bool found = false, holds;

	while (cut(&rest, ';', &clause)) {
		if (!look_at_clause(clause, t, &answer, &holds))
			return false;
		if (!holds)
			continue;
		memcpy(out, answer.p, answer.len);
		out[answer.len] = '\0';
		found = true;
	}
	return found;
}

bool expect_met(const char *expected, const char *answer)
{
	struct piece rest = { expected, strlen(expected) }, one;

	if (strcmp(expected, "?") == 0)
		return true;
	while (cut(&rest, '|', &one))
		if (one.len == strlen(answer) && memcmp(one.p, answer, one.len) == 0)
			return true;
	return false;
}

const char *expect_na(const char *expected)
{
	if (strncmp(expected, "na:", 3) != 0)
		return NULL;
	expected += 3;
	return expected + strspn(expected, " ");
}

const char *expect_sane(const char *want)
{
	static const struct tags none;
	struct piece rest = { want, strlen(want) }, clause, answer;
	bool holds, first = true;

	while (cut(&rest, ';', &clause)) {
		if (clause.len == 0)
			return "an empty clause";
		if (!look_at_clause(clause, &none, &answer, &holds))
			return "a clause with an unknown tag, or without an answer";
		if (first != (answer.p == clause.p))
			return "a first clause with tags, or a later one without";
		first = false;
	}
	return NULL;
}
