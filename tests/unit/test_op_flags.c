/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_flags.c - files without a name, whiteouts and chattr(1)'s flags below FUSE: many at a time, over a remount,
 * without space; threads that give a file its name while others take it away.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "harness/unit.h"
#include "unit/op_env.h"

#define MANY 1500	/* more than a cluster of inodes, and than a block of the orphan list */

static struct stat stat_of(struct op_env *e, uint64_t ino)
{
	struct stat st = { 0 };

	CU_ASSERT_EQUAL(pf_op_getattr(e->fs, ino, &st, NULL), 0);
	return st;
}

static uint64_t free_blocks(struct op_env *e)
{
	struct statvfs st = { 0 };

	CU_ASSERT_EQUAL(pf_op_statfs(e->fs, &st), 0);
	return st.f_bfree;
}

static uint64_t used_inodes(struct op_env *e)
{
	struct statvfs st = { 0 };

	CU_ASSERT_EQUAL(pf_op_statfs(e->fs, &st), 0);
	return st.f_files - st.f_ffree;
}

static int name_it(struct op_env *e, uint64_t ino, const char *name)
{
	struct pf_entry out;
	int err = pf_op_link(e->fs, ino, PF_INO_ROOT, name, &out);

	if (err == 0)
		pf_op_forget(e->fs, ino, 1);
	return err;
}

static void test_nameless(void)
{
	static struct pf_entry t[MANY];
	uint64_t blocks, inodes, ino;
	struct op_env e;
	char name[16];

	op_env_open(&e, 64 << 20);
	for (int round = 0; round < 2; round++) {
		/* The first round leaves clusters, orphan blocks and directory leaves behind; the second nothing. */
		blocks = free_blocks(&e);
		inodes = used_inodes(&e);
		for (int i = 0; i < MANY; i++) {
			CU_ASSERT_EQUAL_FATAL(pf_op_tmpfile(e.fs, &op_root, PF_INO_ROOT, 0600, i % 2 == 0, &t[i]), 0);
			CU_ASSERT_EQUAL(t[i].st.st_nlink, 0);
			CU_ASSERT_EQUAL(op_write(&e, t[i].ino, 0, "some", 4), 4);
		}
		CU_ASSERT_EQUAL(used_inodes(&e), inodes + MANY);
		for (int i = 0; i < MANY; i++) {
			snprintf(name, sizeof name, "t%d", i);
			if (i % 4 != 2)		/* every other one may have a name */
				CU_ASSERT_EQUAL(name_it(&e, t[i].ino, name), i % 2 == 0 ? 0 : -ENOENT);
			pf_op_forget(e.fs, t[i].ino, 1);
		}
		CU_ASSERT_EQUAL(used_inodes(&e), inodes + (MANY + 3) / 4);
		for (int i = 0; i < MANY; i += 4) {
			snprintf(name, sizeof name, "t%d", i);
			CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), 0);
			CU_ASSERT_EQUAL(stat_of(&e, ino).st_nlink, 1);
			CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
		}
		CU_ASSERT_EQUAL(used_inodes(&e), inodes);
		op_env_remount(&e);
	}
	CU_ASSERT_EQUAL(free_blocks(&e), blocks);
	op_env_close(&e);
}

static void test_whiteouts(void)
{
	char name[16], moved[16];
	uint64_t ino, first;
	struct op_env e;
	struct stat st;

	op_env_open(&e, 64 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "m0", S_IFREG | 0644, &first), 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "m%d", i);
		snprintf(moved, sizeof moved, "m%d", i + 1);
		CU_ASSERT_EQUAL_FATAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, name, PF_INO_ROOT, moved,
						   RENAME_WHITEOUT), 0);
	}
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, moved, &ino), 0);
	CU_ASSERT_EQUAL(ino, first);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "m%d", i);
		CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), 0);
		st = stat_of(&e, ino);
		CU_ASSERT(st.st_mode == S_IFCHR && st.st_rdev == 0 && st.st_nlink == 1);
	}
	/* Over a file that goes with it: two entries of the orphan list and the inode table in one transaction. */
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, moved, PF_INO_ROOT, "m0", RENAME_WHITEOUT), 0);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, "m0", &ino), 0);
	CU_ASSERT_EQUAL(ino, first);
	op_env_close(&e);
}

/* Without a block to spare: refused, and nothing has changed. */
static void test_no_space(void)
{
	struct pf_fileattr fa = { .flags = FS_IMMUTABLE_FL };
	uint64_t blocks, fill, f, ino;
	struct pf_entry out;
	unsigned int made = 0;
	struct op_env e;
	char name[64];
	int err;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "fill", S_IFREG | 0644, &fill), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &f), 0);
	/* All free blocks, then all free inode numbers, then until a directory leaf would have to be split. */
	for (uint64_t len = 16 << 20, at = 0; len >= 4096;) {
		if (op_falloc(&e, fill, FALLOC_FL_KEEP_SIZE, at, len) == 0)
			at += len;
		else
			len /= 2;
	}
	do {
		err = pf_op_rename(e.fs, &op_root, PF_INO_ROOT, made == 0 ? "f" : name, PF_INO_ROOT,
				   "a name that takes some space in a leaf", RENAME_WHITEOUT);
		snprintf(name, sizeof name, "back again %u", ++made);
		if (err == 0)
			err = pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "a name that takes some space in a leaf",
					   PF_INO_ROOT, name, 0);
	} while (err == 0 && made < 10000);
	CU_ASSERT_EQUAL(err, -ENOSPC);
	blocks = free_blocks(&e);
	err = pf_op_tmpfile(e.fs, &op_root, PF_INO_ROOT, 0600, true, &out);
	CU_ASSERT(err == 0 || err == -ENOSPC);
	if (err == 0)
		pf_op_forget(e.fs, out.ino, 1);
	CU_ASSERT_EQUAL(free_blocks(&e), blocks);
	/* Flags need no space. */
	CU_ASSERT_EQUAL(pf_op_fileattr_set(e.fs, f, UINT32_MAX, false, &fa), 0);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(pf_op_fileattr_get(e.fs, f, &fa), 0);
	CU_ASSERT_EQUAL(fa.flags, FS_IMMUTABLE_FL);
	CU_ASSERT_EQUAL(op_truncate(&e, f, 0), -EPERM);
	fa.flags = 0;
	CU_ASSERT_EQUAL(pf_op_fileattr_set(e.fs, f, FS_IMMUTABLE_FL, false, &fa), 0);
	CU_ASSERT_EQUAL(op_truncate(&e, fill, 0), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "there is room", S_IFREG | 0644, &ino), 0);
	op_env_close(&e);
}

/* ---- threads ---- */

struct racer { struct op_env *e; unsigned int seed, bad; };

/* Make a file without a name, name it or not; names are few, so they meet each other's. */
static void *race(void *arg)
{
	struct racer *r = arg;
	struct pf_entry t;
	char name[16];

	for (int i = 0; i < 1500; i++) {
		int err = pf_op_tmpfile(r->e->fs, &op_root, PF_INO_ROOT, 0600, true, &t);

		if (err != 0) {
			r->bad++;
			continue;
		}
		r->seed = r->seed * 1664525U + 1013904223U;
		snprintf(name, sizeof name, "n%u", r->seed >> 24 & 7);
		err = r->seed & 0x10000 ? name_it(r->e, t.ino, name) : 0;
		r->bad += err != 0 && err != -EEXIST;
		pf_op_forget(r->e->fs, t.ino, 1);
		if (r->seed & 0x20000) {
			err = pf_op_unlink(r->e->fs, PF_INO_ROOT, name);
			r->bad += err != 0 && err != -ENOENT;
		}
	}
	return NULL;
}

static void test_race(void)
{
	struct racer r[3];
	pthread_t thread[3];
	struct op_env e;
	char name[16];
	uint64_t inodes;

	op_env_open(&e, 32 << 20);
	inodes = used_inodes(&e);
	for (unsigned int i = 0; i < 3; i++) {
		r[i] = (struct racer){ .e = &e, .seed = i + 1 };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&thread[i], NULL, race, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(pthread_join(thread[i], NULL), 0);
		CU_ASSERT_EQUAL(r[i].bad, 0);
	}
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(name, sizeof name, "n%u", i);
		(void)pf_op_unlink(e.fs, PF_INO_ROOT, name);
	}
	CU_ASSERT_EQUAL(used_inodes(&e), inodes);
	op_env_close(&e);
}

static const struct unit_case cases[] = {
	{ "many files without a name", test_nameless },
	{ "many whiteouts", test_whiteouts },
	{ "no space", test_no_space },
	{ "threads", test_race },
};

int main(void)
{
	return unit_main("flags", cases, PF_ARRAY_LEN(cases));
}
