/* SPDX-License-Identifier: BSD-3-Clause */
/* policy.c - policies from text. Owns nothing, takes no lock. */
#include "base/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const pf_busy_name[PF_BUSY_NR] = {
	[PF_BUSY_WAIT] = "wait",
	[PF_BUSY_EBUSY] = "ebusy",
	[PF_BUSY_DEFER] = "defer",
	[PF_BUSY_UNSAFE] = "unsafe",
	[PF_BUSY_POLL] = "poll",
};
const char *const pf_scope_name[PF_SCOPE_NR] = {
	[PF_SCOPE_RANGE] = "range",
	[PF_SCOPE_FILE] = "file",
};
const char *const pf_lease_break_name[PF_LEASE_BREAK_NR] = {
	[PF_LEASE_REVOKE] = "revoke",
	[PF_LEASE_TXTBSY] = "txtbsy",
	[PF_LEASE_KILL] = "kill",
};
const char *const pf_longterm_name[PF_LONG_NR] = {
	[PF_LONG_REFUSE] = "refuse",
	[PF_LONG_LEASE] = "lease",
	[PF_LONG_ALLOW] = "allow",
};
const char *const pf_policy_name[PF_POLICY_NR] = {
	[PF_POLICY_ON_BUSY] = "on_busy",
	[PF_POLICY_BREAK] = "break",
	[PF_POLICY_TIMEOUT] = "busy_timeout",
	[PF_POLICY_POLL] = "poll_interval",
	[PF_POLICY_FAIR] = "fair",
	[PF_POLICY_DEADLOCK] = "deadlock",
	[PF_POLICY_LEASE_TIME] = "lease_time",
	[PF_POLICY_LEASE_BREAK] = "lease_break",
	[PF_POLICY_LONGTERM] = "longterm",
};

int pf_policy_find(const char *name, enum pf_policy_key *key)
{
	for (unsigned int i = 0; i < PF_POLICY_NR; i++)
		if (strcmp(name, pf_policy_name[i]) == 0) {
			*key = (enum pf_policy_key)i;
			return 0;
		}
	return -ENOENT;
}

/* Decimal digits, at most one point, milliseconds exactly; strtod would take "nan", "0x10" and the locale's comma. */
int pf_parse_ms(const char *s, uint64_t *ms)
{
	const uint64_t most = UINT64_C(1000000000);	/* seconds: 31 years */
	uint64_t whole = 0, thousandths = 0, scale = 100;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++) {
		whole = whole * 10 + (uint64_t)(*p - '0');
		if (whole > most * 1000)
			return -EINVAL;
	}
	if (p == s)
		return -EINVAL;
	if (strcmp(p, "ms") == 0) {
		*ms = whole;
		return 0;
	}
	if (*p == '.') {
		if (p[1] < '0' || p[1] > '9')
			return -EINVAL;
		for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
			thousandths += (uint64_t)(*p - '0') * scale;
	}
	if ((*p != '\0' && strcmp(p, "s") != 0) || whole > most)
		return -EINVAL;
	*ms = whole * 1000 + thousandths;
	return 0;
}

static int one_of(const char *val, const char *const *names, unsigned int n, unsigned int *out)
{
	for (unsigned int i = 0; i < n; i++)
		if (strcmp(val, names[i]) == 0) {
			*out = i;
			return 0;
		}
	return -EINVAL;
}

int pf_policy_set(struct pf_policy *p, enum pf_policy_key key, const char *val, const char **must)
{
	static const char *const yes_no[] = { "yes", "no" }, *const detect_wait[] = { "detect", "wait" };
	unsigned int v = 0;
	uint64_t ms;
	int err = -EINVAL;

	switch (key) {
	case PF_POLICY_ON_BUSY:
		*must = "one of wait, ebusy, defer, unsafe, poll";
		err = one_of(val, pf_busy_name, PF_BUSY_NR, &v);
		if (err == 0)
			p->on_busy = (enum pf_busy)v;
		break;
	case PF_POLICY_BREAK:
		*must = "one of range, file";
		err = one_of(val, pf_scope_name, PF_SCOPE_NR, &v);
		if (err == 0)
			p->scope = (enum pf_scope)v;
		break;
	case PF_POLICY_TIMEOUT:
		*must = "seconds (2, 0.5) or milliseconds (250ms); 0 is no limit";
		err = pf_parse_ms(val, &p->timeout_ms);
		break;
	case PF_POLICY_POLL:
		*must = "seconds (0.5) or milliseconds (10ms) above 0";
		err = pf_parse_ms(val, &ms);
		if (err == 0 && ms == 0)
			err = -EINVAL;
		if (err == 0)
			p->poll_ms = ms;
		break;
	case PF_POLICY_FAIR:
		*must = "one of yes, no";
		err = one_of(val, yes_no, PF_ARRAY_LEN(yes_no), &v);
		if (err == 0)
			p->unfair = v == 1;
		break;
	case PF_POLICY_DEADLOCK:
		*must = "one of detect, wait";
		err = one_of(val, detect_wait, PF_ARRAY_LEN(detect_wait), &v);
		if (err == 0)
			p->deadlock_waits = v == 1;
		break;
	case PF_POLICY_LEASE_TIME:
		*must = "seconds (45, 0.5) or milliseconds (500ms) above 0";
		err = pf_parse_ms(val, &ms);
		if (err == 0 && ms == 0)
			err = -EINVAL;
		if (err == 0)
			p->lease_ms = ms;
		break;
	case PF_POLICY_LEASE_BREAK:
		*must = "one of revoke, txtbsy, kill";
		err = one_of(val, pf_lease_break_name, PF_LEASE_BREAK_NR, &v);
		if (err == 0)
			p->lease_break = (enum pf_lease_break)v;
		break;
	case PF_POLICY_LONGTERM:
		*must = "one of refuse, lease, allow";
		err = one_of(val, pf_longterm_name, PF_LONG_NR, &v);
		if (err == 0)
			p->longterm = (enum pf_longterm)v;
		break;
	case PF_POLICY_NR:
		break;
	}
	return err;
}

void pf_policy_merge(struct pf_policy *p, const struct pf_policy_over *over)
{
	if (over->set & 1U << PF_POLICY_ON_BUSY)
		p->on_busy = over->p.on_busy;
	if (over->set & 1U << PF_POLICY_BREAK)
		p->scope = over->p.scope;
	if (over->set & 1U << PF_POLICY_TIMEOUT)
		p->timeout_ms = over->p.timeout_ms;
	if (over->set & 1U << PF_POLICY_POLL)
		p->poll_ms = over->p.poll_ms;
	if (over->set & 1U << PF_POLICY_FAIR)
		p->unfair = over->p.unfair;
	if (over->set & 1U << PF_POLICY_DEADLOCK)
		p->deadlock_waits = over->p.deadlock_waits;
	if (over->set & 1U << PF_POLICY_LEASE_TIME)
		p->lease_ms = over->p.lease_ms;
	if (over->set & 1U << PF_POLICY_LEASE_BREAK)
		p->lease_break = over->p.lease_break;
	if (over->set & 1U << PF_POLICY_LONGTERM)
		p->longterm = over->p.longterm;
}

int pf_policy_parse(const char *text, struct pf_policy_over *out, const char **must)
{
	char *copy = strdup(text), *save = NULL, *opt, *val;
	enum pf_policy_key key;
	int err = copy != NULL ? 0 : -ENOMEM;

	*out = (struct pf_policy_over){ 0 };
	*must = strerror(ENOMEM);
	for (opt = copy ? strtok_r(copy, ",", &save) : NULL; opt && err == 0; opt = strtok_r(NULL, ",", &save)) {
		val = strchr(opt, '=');
		*must = PF_POLICY_KEYS;
		if (val == NULL) {
			err = -EINVAL;
			break;
		}
		*val++ = '\0';
		err = pf_policy_find(opt, &key);
		if (err == 0)
			err = pf_policy_set(&out->p, key, val, must);
		else
			err = -EINVAL;
		if (err == 0)
			out->set |= 1U << key;
	}
	free(copy);
	return err;
}
