/* SPDX-License-Identifier: BSD-3-Clause */
/* test_charge.c - accounts of long-term pins: whose limit counts, what is given back, what nonsense does to them. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "harness/unit.h"
#include "share/charge.h"
#include "unit/fakesess.h"

static void no_send(void *arg PF_UNUSED, const struct iovec *iov PF_UNUSED, int n PF_UNUSED) { }

/* A session of this very process, as far as its limits go. */
static struct pf_sess *session(struct pf_fs *fs, uid_t uid)
{
	const struct pf_sess_who who = { getpid(), uid, "test" };
	struct pf_sess *s = NULL;

	CU_ASSERT_EQUAL_FATAL(pf_sess_create(fs, &who, no_send, NULL, NULL, &s), 0);
	return s;
}

static void end(struct pf_sess *s)
{
	pf_sess_gone(s);
	pf_sess_put(s);
}

static uint64_t total(struct pf_fs *fs, unsigned int *users)
{
	struct pf_charged who[8];
	uint64_t pages;

	*users = pf_charge_list(fs, who, PF_ARRAY_LEN(who), &pages);
	return pages;
}

/* CAP_IPC_LOCK, where this process has it. */
static void exempt(bool on)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	CU_ASSERT_EQUAL_FATAL(syscall(SYS_capget, &h, d), 0);
	d[0].effective &= ~(1U << CAP_IPC_LOCK);
	d[0].effective |= on ? d[0].permitted & 1U << CAP_IPC_LOCK : 0;
	CU_ASSERT_EQUAL_FATAL(syscall(SYS_capset, &h, d), 0);
}

static void set_limit(rlim_t bytes)
{
	struct rlimit lim;

	CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_MEMLOCK, &lim), 0);
	lim.rlim_cur = bytes < lim.rlim_max ? bytes : lim.rlim_max;
	CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_MEMLOCK, &lim), 0);
}

static void users(void)
{
	struct pf_fs *fs = fk_open();
	struct pf_sess *a, *b, *c;
	unsigned int n;

	exempt(false);
	set_limit(10 * PF_BLK_SIZE + 17);
	a = session(fs, 1000);
	b = session(fs, 1000);
	c = session(fs, 1001);
	CU_ASSERT_EQUAL(pf_charge(a, PF_API_LONGTERM, 6), 0);
	CU_ASSERT_EQUAL(pf_charge(b, PF_API_LONGTERM, 5), -ENOMEM);	/* the user's, together */
	CU_ASSERT_EQUAL(pf_charge(b, PF_API_LONGTERM, 4), 0);
	CU_ASSERT_EQUAL(pf_charge(c, PF_API_LONGTERM, 10), 0);		/* another one's */
	CU_ASSERT_EQUAL(pf_charge(c, PF_API_LONGTERM, UINT64_MAX), -ENOMEM);
	CU_ASSERT_EQUAL(total(fs, &n), 20);
	CU_ASSERT_EQUAL(n, 2);
	pf_uncharge(b, 1000);						/* no more than it has */
	CU_ASSERT_EQUAL(pf_charged(b), 0);
	CU_ASSERT_EQUAL(pf_charged(a), 6);
	CU_ASSERT_EQUAL(total(fs, &n), 16);
	CU_ASSERT_EQUAL(pf_charge(b, PF_API_LONGTERM, 4), 0);
	end(a);								/* with all that it has */
	CU_ASSERT_EQUAL(total(fs, &n), 14);
	CU_ASSERT_EQUAL(pf_charge(b, PF_API_LONGTERM, 6), 0);
	end(b);
	end(c);
	CU_ASSERT_EQUAL(total(fs, &n), 0);
	CU_ASSERT_EQUAL(n, 0);
	fk_close(fs);
}

static void nothing_allowed(void)
{
	struct pf_fs *fs = fk_open();
	struct pf_sess *s = session(fs, 1000);

	exempt(false);
	set_limit(0);
	CU_ASSERT_EQUAL(pf_charge(s, PF_API_VERBS, 1), -EPERM);
	CU_ASSERT_EQUAL(pf_charge(s, PF_API_VFIO, 1), -ENOMEM);
	CU_ASSERT_EQUAL(pf_charged(s), 0);
	end(s);
	fk_close(fs);
}

/* Who is above the limit of processes is below that of the mount. */
static void above(void)
{
	struct pf_fs *fs = fk_open();
	struct pf_sess *s = session(fs, 0);

	set_limit(0);
	exempt(true);
	fs->opts.longterm_limit = 100 * PF_BLK_SIZE;
	if (geteuid() == 0) {
		CU_ASSERT_EQUAL(pf_charge(s, PF_API_VERBS, 100), 0);
		CU_ASSERT_EQUAL(pf_charge(s, PF_API_VERBS, 1), -ENOMEM);
	} else {
		CU_ASSERT_EQUAL(pf_charge(s, PF_API_VERBS, 1), -EPERM);
	}
	end(s);
	fk_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "users", users },
		{ "nothing allowed", nothing_allowed },
		{ "above the limit", above },
	};

	return unit_main("charge", cases, PF_ARRAY_LEN(cases));
}
