/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_opts.c - the daemon's command line without a daemon: which files are DAX, whose answers a mount gives, and that
 * what was said in so many words goes before what a profile says, in whatever order.
 */
#include <linux/stat.h>
#include <string.h>
#include "front/opts.h"
#include "harness/unit.h"

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif
#define FLAGS (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP)

static char why[256];

static int parse(struct pf_cmdline *c, const char *opts)
{
	char name[] = "pinfs", o[] = "-o", dev[] = "dev", mnt[] = "mnt", list[256];
	char *argv[] = { name, o, list, dev, mnt, NULL };

	(void)snprintf(list, sizeof list, "%s", opts);
	why[0] = '\0';
	return pf_opts_parse(c, 5, argv, why, sizeof why);
}

/* One phrase that has @words, and that is all. */
static void refused(const char *opts, const char *words)
{
	struct pf_cmdline c;

	CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_BAD);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, words));
	CU_ASSERT_PTR_NULL(strchr(why, '\n'));
	pf_opts_free(&c);
}

static void dax(void)
{
	static const struct { const char *opts; enum pf_dax want; } good[] = {
		{ "rw", PF_DAX_ALWAYS },	{ "dax", PF_DAX_ALWAYS },	{ "dax=always", PF_DAX_ALWAYS },
		{ "dax=never", PF_DAX_NEVER },	{ "dax=inode", PF_DAX_INODE },	{ "dax=never,dax", PF_DAX_ALWAYS },
		{ "profile=virtiofs,dax=inode", PF_DAX_INODE },			{ "profile=devdax", PF_DAX_ALWAYS },
	};
	struct pf_cmdline c;

	for (size_t i = 0; i < PF_ARRAY_LEN(good); i++) {
		CU_ASSERT_EQUAL(parse(&c, good[i].opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL(c.opts.dax, good[i].want);
		pf_opts_free(&c);
	}
	refused("dax=", "dax=: must be one of always, never, inode");
	refused("dax=yes", "dax=yes: must be one of always, never, inode");
	refused("dax=ALWAYS", "dax=ALWAYS: must be");
	refused("dax=always ", "must be one of");
	refused("dax=inode,profile=devdax", "every file is a device");
	refused("profile=devdax,dax=never", "every file is a device");
}

/* The table of pinfs(8), written down once more. */
static void profiles(void)
{
	static const struct {
		const char *name;
		enum pf_busy on_busy;
		enum pf_scope scope;
		uint32_t answers;
		uint64_t hide;
	} row[] = {
		{ "pinfs", PF_BUSY_WAIT, PF_SCOPE_RANGE, 0, 0 },
		{ "linux-4.15", PF_BUSY_UNSAFE, PF_SCOPE_FILE,
		  PF_ANSWER_NO_UNSHARE | PF_ANSWER_VFIO_SLIPS | PF_ANSWER_XDP_SLIPS, STATX_ATTR_DAX },
		{ "linux-4.19", PF_BUSY_WAIT, PF_SCOPE_FILE, PF_ANSWER_NO_UNSHARE | PF_ANSWER_XDP_SLIPS,
		  STATX_ATTR_DAX },
		{ "linux-6.12", PF_BUSY_WAIT, PF_SCOPE_FILE, PF_ANSWER_NO_UNSHARE, 0 },
		{ "virtiofs", PF_BUSY_WAIT, PF_SCOPE_FILE,
		  PF_ANSWER_NO_SYNC | PF_ANSWER_NO_UNSHARE | PF_ANSWER_NO_SHIFT | PF_ANSWER_GROW_BREAKS, FLAGS },
		{ "devdax", PF_BUSY_WAIT, PF_SCOPE_FILE, PF_ANSWER_DEVICE | PF_ANSWER_NO_UNSHARE | PF_ANSWER_NO_SHIFT,
		  FLAGS },
	};
	struct pf_cmdline c;
	char opts[128];

	CU_ASSERT_EQUAL(PF_ARRAY_LEN(row), PF_PROFILE_NR);
	for (size_t i = 0; i < PF_ARRAY_LEN(row); i++) {
		(void)snprintf(opts, sizeof opts, "profile=%s", row[i].name);
		CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL((size_t)c.opts.profile, i);
		CU_ASSERT_EQUAL(c.opts.policy.on_busy, row[i].on_busy);
		CU_ASSERT_EQUAL(c.opts.policy.scope, row[i].scope);
		CU_ASSERT_EQUAL(c.opts.answers, row[i].answers);
		CU_ASSERT_EQUAL(c.opts.statx_hide, row[i].hide);
		CU_ASSERT_EQUAL(c.opts.policy.longterm, i == PF_PROFILE_DEVDAX ? PF_LONG_ALLOW : PF_LONG_REFUSE);
		pf_opts_free(&c);
		/* Said in so many words, before and after. */
		(void)snprintf(opts, sizeof opts, "fair=%s,profile=%s", i == 0 ? "no" : "yes", row[i].name);
		CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL(c.opts.policy.unfair, i == 0);
		CU_ASSERT_EQUAL(c.opts.policy.deadlock_waits, i != 0);
		pf_opts_free(&c);
		(void)snprintf(opts, sizeof opts, "profile=%s,deadlock=%s", row[i].name, i == 0 ? "wait" : "detect");
		CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL(c.opts.policy.unfair, i != 0);
		CU_ASSERT_EQUAL(c.opts.policy.deadlock_waits, i == 0);
		pf_opts_free(&c);
		(void)snprintf(opts, sizeof opts, "on_busy=ebusy,profile=%s,break=range", row[i].name);
		CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL(c.opts.policy.on_busy, PF_BUSY_EBUSY);
		CU_ASSERT_EQUAL(c.opts.policy.scope, PF_SCOPE_RANGE);
		CU_ASSERT_EQUAL(c.opts.answers, row[i].answers);
		pf_opts_free(&c);
		(void)snprintf(opts, sizeof opts, "break=range,profile=%s,on_busy=defer,longterm=lease", row[i].name);
		CU_ASSERT_EQUAL(parse(&c, opts), PF_OPTS_OK);
		CU_ASSERT_EQUAL(c.opts.policy.on_busy, PF_BUSY_DEFER);
		CU_ASSERT_EQUAL(c.opts.policy.longterm, PF_LONG_LEASE);
		CU_ASSERT_EQUAL(c.opts.policy.scope, PF_SCOPE_RANGE);
		pf_opts_free(&c);
	}
	/* The last one counts, and leaves nothing of the others. */
	CU_ASSERT_EQUAL(parse(&c, "profile=virtiofs,profile=linux-4.15,profile=pinfs"), PF_OPTS_OK);
	CU_ASSERT_EQUAL(c.opts.policy.on_busy, PF_BUSY_WAIT);
	CU_ASSERT_EQUAL(c.opts.answers, 0);
	pf_opts_free(&c);
	/* What a profile does not speak of keeps its default. */
	CU_ASSERT_EQUAL(parse(&c, "profile=linux-6.12"), PF_OPTS_OK);
	CU_ASSERT_EQUAL(c.opts.revoke_timeout_ms, 10000);
	CU_ASSERT_EQUAL(c.opts.window, UINT64_C(4) << 30);
	pf_opts_free(&c);
	refused("longterm=never", "longterm=never: must be one of refuse, lease, allow");
	refused("longterm_limit=1", "longterm_limit=1: must be a size of 4K or more");
	refused("profile=", "must be one of pinfs, linux-4.15, linux-4.19, linux-6.12, virtiofs, devdax");
	refused("profile=linux-5.0", "profile=linux-5.0: must be one of");
	refused("profile", "profile needs a value");
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "dax=", dax },
		{ "profile=", profiles },
	};

	return unit_main("options", cases, PF_ARRAY_LEN(cases));
}
