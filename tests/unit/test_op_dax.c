/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_dax.c - which files are DAX, below FUSE: the flag and who inherits it, the mode and when it changes, with
 * opens, with a session that has the file attached, and with more inodes than fit into memory.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "harness/unit.h"
#include "obj/inode.h"
#include "op/op_map.h"
#include "unit/op_env.h"

#define RIGHT(write) (&(struct pf_map_right){ ino, gen, write, { 0 } })

#define MANY 4096	/* inodes; the cache of the test holds 64 */

static struct op_env env;

static void mount_dax(enum pf_dax dax)
{
	env.opts.dax = dax;
	env.opts.cache = 64;
	op_env_remount(&env);
}

static bool is_dax(uint64_t ino)
{
	struct statx stx = { .stx_attributes = 0 };

	CU_ASSERT_EQUAL(pf_op_statx(env.fs, ino, &stx), 0);
	CU_ASSERT_NOT_EQUAL(stx.stx_attributes_mask & STATX_ATTR_DAX, 0);
	return (stx.stx_attributes & STATX_ATTR_DAX) != 0;
}

static bool flagged(uint64_t ino)
{
	struct pf_fileattr fa = { .flags = 0 };

	CU_ASSERT_EQUAL(pf_op_fileattr_get(env.fs, ino, &fa), 0);
	return (fa.flags & FS_DAX_FL) != 0;
}

static void flag(uint64_t ino, bool on)
{
	const struct pf_fileattr fa = { .flags = on ? FS_DAX_FL : 0 };

	CU_ASSERT_EQUAL(pf_op_fileattr_set(env.fs, ino, FS_DAX_FL, false, &fa), 0);
}

static struct pf_open opened(uint64_t ino)
{
	struct pf_open o = { .dax = false };

	CU_ASSERT_EQUAL(pf_op_opened(env.fs, ino, &o), 0);
	return o;
}

static void inheritance(void)
{
	uint64_t plain, marked, f, sub, deep, link;
	struct pf_entry e;

	op_env_open(&env, 64 << 20);
	mount_dax(PF_DAX_INODE);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&env, PF_INO_ROOT, "plain", &plain), 0);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&env, PF_INO_ROOT, "marked", &marked), 0);
	flag(marked, true);
	CU_ASSERT(!is_dax(marked));			/* directories never are */
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, marked), -EISDIR);
	CU_ASSERT_EQUAL(op_create(&env, marked, "f", 0644, &f), 0);
	CU_ASSERT(flagged(f) && is_dax(f));
	CU_ASSERT_EQUAL(op_mkdir(&env, marked, "sub", &sub), 0);
	CU_ASSERT(flagged(sub) && !is_dax(sub));
	CU_ASSERT_EQUAL(op_create(&env, sub, "deep", 0644, &deep), 0);
	CU_ASSERT(flagged(deep) && is_dax(deep));
	CU_ASSERT_EQUAL(pf_op_symlink(env.fs, &op_root, marked, "link", "f", &e), 0);
	link = e.ino;
	CU_ASSERT(!flagged(link) && !is_dax(link));
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, link), -EINVAL);
	pf_op_forget(env.fs, link, 1);
	/* What moves keeps it, what comes later takes the directory's. */
	CU_ASSERT_EQUAL(pf_op_rename(env.fs, &op_root, marked, "f", plain, "f", 0), 0);
	CU_ASSERT(flagged(f) && is_dax(f));
	flag(marked, false);
	CU_ASSERT_EQUAL(op_create(&env, marked, "late", 0644, &f), 0);
	CU_ASSERT(!flagged(f) && !is_dax(f));
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, f), -EOPNOTSUPP);
	CU_ASSERT(flagged(deep) && is_dax(deep));
	CU_ASSERT_EQUAL(op_create(&env, plain, "other", 0644, &f), 0);
	CU_ASSERT(!flagged(f) && !is_dax(f));
	/* The two other modes do not look at the flag, which stays. */
	mount_dax(PF_DAX_ALWAYS);
	CU_ASSERT(is_dax(f) && is_dax(deep) && !flagged(f) && !is_dax(sub));
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, f), 0);
	mount_dax(PF_DAX_NEVER);
	CU_ASSERT(!is_dax(f) && !is_dax(deep) && flagged(deep));
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, deep), -EOPNOTSUPP);
	op_env_close(&env);
}

static void last_close(void)
{
	struct pf_open a, b;
	uint64_t ino;

	op_env_open(&env, 64 << 20);
	mount_dax(PF_DAX_INODE);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT(!is_dax(ino));
	for (int round = 0; round < 2; round++) {
		bool was = round == 1;

		a = opened(ino);
		CU_ASSERT_EQUAL(a.dax, was);
		flag(ino, !was);
		CU_ASSERT_EQUAL(is_dax(ino), was);
		b = opened(ino);
		CU_ASSERT_EQUAL(b.dax, was);
		pf_op_released(env.fs, ino);
		CU_ASSERT_EQUAL(is_dax(ino), was);
		b = opened(ino);
		CU_ASSERT_EQUAL(b.dax, was);
		pf_op_released(env.fs, ino);
		pf_op_released(env.fs, ino);
		CU_ASSERT_EQUAL(is_dax(ino), !was);
		/* There and back while it is open: as if nothing had been. */
		(void)opened(ino);
		flag(ino, was);
		flag(ino, !was);
		pf_op_released(env.fs, ino);
		CU_ASSERT_EQUAL(is_dax(ino), !was);
	}
	/* More of the kernel's closes than of its opens are not counted. */
	pf_op_released(env.fs, ino);
	a = opened(ino);
	flag(ino, !a.dax);
	CU_ASSERT_EQUAL(is_dax(ino), a.dax);
	pf_op_released(env.fs, ino);
	CU_ASSERT_EQUAL(is_dax(ino), !a.dax);
	op_env_close(&env);
}

/* Pages that the kernel has: good from the second life of a mode on, and in a file that has just been made. */
static void fresh(void)
{
	struct pf_open o;
	uint64_t ino;

	op_env_open(&env, 64 << 20);
	mount_dax(PF_DAX_INODE);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_created(env.fs, ino, &o), 0);
	CU_ASSERT(!o.dax && !o.fresh);
	CU_ASSERT(!opened(ino).fresh);
	flag(ino, true);
	pf_op_released(env.fs, ino);
	CU_ASSERT(!opened(ino).fresh);		/* still the first life */
	pf_op_released(env.fs, ino);
	pf_op_released(env.fs, ino);
	o = opened(ino);
	CU_ASSERT(o.dax && o.fresh);
	o = opened(ino);			/* the first may not have dropped them yet */
	CU_ASSERT(o.dax && o.fresh);
	pf_op_released(env.fs, ino);
	pf_op_released(env.fs, ino);
	CU_ASSERT(!opened(ino).fresh);
	pf_op_released(env.fs, ino);
	/* Nobody knows what the kernel of another mount had. */
	op_env_remount(&env);
	CU_ASSERT(opened(ino).fresh);
	pf_op_released(env.fs, ino);
	op_env_close(&env);
}

static bool in_memory(uint64_t ino)
{
	uint64_t *list;
	bool found = false;
	size_t n;

	CU_ASSERT_EQUAL_FATAL(pf_icache_numbers(env.fs, &list, &n), 0);
	for (size_t i = 0; i < n; i++)
		found = found || list[i] == ino;
	free(list);
	return found;
}

/* An inode that is open is not forgotten with its mode; the twin is closed, and is. */
static void eviction(void)
{
	static uint64_t other[MANY];
	uint64_t held, twin;
	struct stat st;
	char name[24];

	op_env_open(&env, 128 << 20);
	mount_dax(PF_DAX_INODE);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "held", 0644, &held), 0);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "twin", 0644, &twin), 0);
	CU_ASSERT(!opened(held).dax && !opened(twin).dax);
	flag(held, true);
	pf_op_released(env.fs, twin);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "%d", i);
		CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, name, 0644, &other[i]), 0);
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < MANY; i++)
			CU_ASSERT_EQUAL(pf_op_getattr(env.fs, other[i], &st, NULL), 0);
	CU_ASSERT(in_memory(held));
	CU_ASSERT(!in_memory(twin));
	CU_ASSERT(!is_dax(held));
	pf_op_released(env.fs, held);
	CU_ASSERT(is_dax(held));
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < MANY; i++)
			CU_ASSERT_EQUAL(pf_op_getattr(env.fs, other[i], &st, NULL), 0);
	CU_ASSERT(!in_memory(held));
	CU_ASSERT(is_dax(held));
	op_env_close(&env);
}

static void no_message(void *arg, const struct iovec *iov, int n)
{
	(void)arg;
	(void)iov;
	(void)n;
}

static void attached(void)
{
	const struct pf_sess_who me = { 1, 0, "test" };
	uint64_t ino, fh, size;
	struct pf_sess *s;
	struct stat st;
	uint32_t gen;

	op_env_open(&env, 64 << 20);
	mount_dax(PF_DAX_INODE);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_getattr(env.fs, ino, &st, &gen), 0);
	CU_ASSERT_EQUAL_FATAL(pf_sess_create(env.fs, &me, no_message, NULL, NULL, &s), 0);
	/* Asked for while it was DAX, and come when it is not any more. */
	CU_ASSERT_EQUAL(pf_map_attach(s, RIGHT(true), "", &fh, &size), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(pf_map_attach(s, RIGHT(false), "", &fh, &size), -EOPNOTSUPP);
	flag(ino, true);
	CU_ASSERT_EQUAL(pf_op_check_dax(env.fs, ino), 0);
	CU_ASSERT_EQUAL(pf_map_attach(s, RIGHT(true), "", &fh, &size), 0);
	/* Nobody has it open: a pin whose mapping and descriptor are gone looks like that. */
	flag(ino, false);
	CU_ASSERT(is_dax(ino));
	CU_ASSERT(opened(ino).dax);
	pf_op_released(env.fs, ino);
	CU_ASSERT(is_dax(ino));
	CU_ASSERT_EQUAL(pf_sess_detach(s, fh), 0);
	CU_ASSERT(!is_dax(ino));
	CU_ASSERT_EQUAL(pf_map_attach(s, RIGHT(true), "", &fh, &size), -EOPNOTSUPP);
	/* The end of the process detaches as well. */
	flag(ino, true);
	CU_ASSERT(is_dax(ino));
	CU_ASSERT_EQUAL(pf_map_attach(s, RIGHT(true), "", &fh, &size), 0);
	flag(ino, false);
	CU_ASSERT(is_dax(ino));
	pf_sess_gone(s);
	CU_ASSERT(!is_dax(ino));
	pf_sess_put(s);
	op_env_close(&env);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "who inherits the flag", inheritance },
		{ "the mode changes with the last close", last_close },
		{ "pages of another life", fresh },
		{ "an open inode is not evicted", eviction },
		{ "attached is in use", attached },
	};

	return unit_main("dax", cases, PF_ARRAY_LEN(cases));
}
