/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_reap.c - inodes that are freed a little later: nobody misses their space, a crash frees them too, and many go in
 * one transaction.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "harness/crash.h"
#include "harness/mem.h"
#include "harness/unit.h"
#include "media/mkfs.h"
#include "obj/orphan.h"
#include "obj/reap.h"
#include "space/itable.h"
#include "unit/op_env.h"

#define DEV (UINT64_C(256) << 20)
#define N 1500U				/* three clusters of inodes */

static uint64_t free_now(struct op_env *e)
{
	struct pf_space sp;

	pf_alloc_stat(e->fs, &sp);
	return sp.free;
}

static uint64_t inodes_now(struct op_env *e)
{
	uint64_t used, room;

	pf_itab_stat(e->fs, &used, &room);
	return used;
}

static uint64_t free_told(struct op_env *e)
{
	struct statvfs sv;

	CU_ASSERT_EQUAL(pf_op_statfs(e->fs, &sv), 0);
	return sv.f_bavail;
}

/* @n files of two blocks, and a directory, a symbolic link and a fifo among them. */
static void make(struct op_env *e, unsigned int n)
{
	char name[32], two[8192];
	struct pf_entry en;
	uint64_t ino;

	memset(two, 'x', sizeof two);
	for (unsigned int i = 0; i < n; i++) {
		(void)snprintf(name, sizeof name, "f%u", i);
		CU_ASSERT_EQUAL_FATAL(op_create(e, PF_INO_ROOT, name, 0644, &ino), 0);
		CU_ASSERT_EQUAL_FATAL(op_write(e, ino, 0, two, sizeof two), (ssize_t)sizeof two);
	}
	CU_ASSERT_EQUAL(op_mkdir(e, PF_INO_ROOT, "d", &ino), 0);
	memset(two, 'y', 2000);
	two[2000] = '\0';
	CU_ASSERT_EQUAL(pf_op_symlink(e->fs, &op_root, PF_INO_ROOT, "s", two, &en), 0);
	pf_op_forget(e->fs, en.ino, 1);
	CU_ASSERT_EQUAL(pf_op_mknod(e->fs, &op_root, PF_INO_ROOT, "p", S_IFIFO | 0600, 0, &en), 0);
	pf_op_forget(e->fs, en.ino, 1);
}

static void unmake(struct op_env *e, unsigned int n)
{
	char name[32];

	for (unsigned int i = 0; i < n; i++) {
		(void)snprintf(name, sizeof name, "f%u", i);
		CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, name), 0);
	}
	CU_ASSERT_EQUAL(pf_op_rmdir(e->fs, PF_INO_ROOT, "d"), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, "s"), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, "p"), 0);
}

/* They wait, statfs(2) does not show it, and a remount finds nothing left. */
static void waits(void)
{
	struct op_env e;
	uint64_t before, used;

	op_env_open(&e, DEV);
	used = inodes_now(&e);
	make(&e, N);
	/* Without it they go at once. */
	unmake(&e, N);
	before = free_now(&e);
	CU_ASSERT_EQUAL(inodes_now(&e), used);
	make(&e, N);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, 0), 0);
	unmake(&e, N);
	CU_ASSERT_EQUAL(inodes_now(&e), used + N + 3);
	CU_ASSERT(free_now(&e) <= before - 2 * N);
	CU_ASSERT(!pf_orph_none(e.fs));
	/* The orphan file grew for them, and does not shrink. */
	CU_ASSERT(free_told(&e) >= before - 8);
	CU_ASSERT_EQUAL(inodes_now(&e), used);
	CU_ASSERT(pf_orph_none(e.fs));
	CU_ASSERT(!pf_reap_all(e.fs));
	make(&e, 100);
	unmake(&e, 100);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(e.info.orphans, 0);
	CU_ASSERT_EQUAL(inodes_now(&e), used);
	op_env_close(&e);
}

/* Whose space somebody could miss does not wait. */
static void who_waits(void)
{
	struct op_env e;
	uint64_t ino, big, before;
	struct pf_entry en;

	op_env_open(&e, DEV);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, 0), 0);
	/* A big file. */
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "big", 0644, &ino), 0);
	before = free_now(&e);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, UINT64_C(1) << 20), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "big"), 0);
	CU_ASSERT_EQUAL(free_now(&e), before);
	/* Any, when space is scarce. */
	make(&e, 10);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "hog", 0644, &big), 0);
	CU_ASSERT_EQUAL(op_falloc(&e, big, 0, 0, (free_now(&e) - 8000) << PF_BLK_SHIFT), 0);
	before = free_now(&e);
	unmake(&e, 10);
	CU_ASSERT(free_now(&e) >= before + 20);
	/* One that is in use. */
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "hog"), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "open", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_lookup(e.fs, PF_INO_ROOT, "open", &en), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "open"), 0);
	CU_ASSERT(!pf_reap_all(e.fs));
	CU_ASSERT_EQUAL(op_write(&e, ino, 0, "still there", 11), 11);
	pf_op_forget(e.fs, ino, 1);
	CU_ASSERT(pf_reap_all(e.fs));
	op_env_close(&e);
}

/* One fallocate of everything, while some of it waits to be freed. */
static void all_of_it(void)
{
	struct op_env e;
	uint64_t ino, had;

	op_env_open(&e, DEV);
	make(&e, N);
	unmake(&e, N);
	had = free_now(&e);
	make(&e, N);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "all", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, 0), 0);
	unmake(&e, N);
	CU_ASSERT(free_now(&e) < had - N);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, (had - 64) << PF_BLK_SHIFT), 0);
	op_env_close(&e);
}

/* With its thread they go by themselves. */
static void by_itself(void)
{
	struct op_env e;
	uint64_t used;

	op_env_open(&e, DEV);
	used = inodes_now(&e);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, PF_REAP_THREAD), 0);
	for (int round = 0; round < 5; round++) {
		make(&e, 200);
		unmake(&e, 200);
		for (int i = 0; i < 30000 && inodes_now(&e) != used; i++)
			(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		CU_ASSERT_EQUAL(inodes_now(&e), used);
	}
	op_env_close(&e);
}

/* New ones take the numbers of those that went, while others still wait. */

static void *churn(void *arg)
{
	struct op_env *e = arg;
	char name[48];
	struct pf_entry en;

	for (unsigned int i = 0; i < 4000; i++) {
		(void)snprintf(name, sizeof name, "t%lx-%u", (unsigned long)pthread_self(), i);
		if (pf_op_mknod(e->fs, &op_root, PF_INO_ROOT, name, S_IFREG | 0600, 0, &en) != 0 ||
		    pf_op_unlink(e->fs, PF_INO_ROOT, name) != 0)
			return e;
		pf_op_forget(e->fs, en.ino, 1);
		if (i % 500 == 0)
			(void)free_told(e);
	}
	return NULL;
}

/* What rename leaves behind is an inode that nobody has looked up yet. */
static void *whiteouts(void *arg)
{
	struct op_env *e = arg;
	struct pf_entry en;

	for (unsigned int i = 0; i < 6000; i++) {
		if (pf_op_mknod(e->fs, &op_root, PF_INO_ROOT, "a", S_IFREG | 0600, 0, &en) != 0)
			return e;
		pf_op_forget(e->fs, en.ino, 1);
		if (pf_op_rename(e->fs, &op_root, PF_INO_ROOT, "a", PF_INO_ROOT, "b", RENAME_WHITEOUT) != 0 ||
		    pf_op_lookup(e->fs, PF_INO_ROOT, "a", &en) != 0 || !S_ISCHR(en.st.st_mode))
			return e;
		pf_op_forget(e->fs, en.ino, 1);
		if (pf_op_unlink(e->fs, PF_INO_ROOT, "a") != 0 || pf_op_unlink(e->fs, PF_INO_ROOT, "b") != 0)
			return e;
	}
	return NULL;
}

static void together(void)
{
	struct op_env e;
	pthread_t t[3];
	uint64_t used;
	void *rc;

	op_env_open(&e, DEV);
	used = inodes_now(&e);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, PF_REAP_THREAD), 0);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&t[i], NULL, i == 0 ? whiteouts : churn, &e), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &rc);
		CU_ASSERT_PTR_NULL(rc);
	}
	(void)pf_reap_all(e.fs);
	CU_ASSERT_EQUAL(inodes_now(&e), used);
	op_env_close(&e);
}

/* Power fails in the middle: the mount that follows frees what is left, all of it. */

struct lost { uint64_t used, images, some; };

struct visit { struct lost *l; struct pf_pm *image; };

static void *look(void *arg)
{
	static struct pf_opts opts = { .policy = { .on_busy = PF_BUSY_WAIT }, .pmem = PF_PMEM_CPU,
				       .window = PF_CHUNK_SIZE * 4 };
	struct visit *v = arg;
	struct op_env e = { .opts = opts };

	CU_ASSERT_EQUAL_FATAL(pf_fs_mount_pm(v->image, &opts, &e.fs, &e.info), 0);
	v->l->some += e.info.orphans != 0;
	CU_ASSERT_EQUAL(inodes_now(&e), v->l->used);
	CU_ASSERT(pf_orph_none(e.fs));
	pf_fs_unmount_pm(e.fs);
	return NULL;
}

static void visit(void *arg, struct pf_pm *image, unsigned int fence PF_UNUSED)
{
	struct visit v = { arg, image };
	pthread_t t;

	v.l->images++;
	/* The thread that drains holds locks. */
	if (pthread_create(&t, NULL, look, &v) != 0)
		abort();
	pthread_join(t, NULL);
}

static void power_fails(void)
{
	static struct pf_opts opts = { .policy = { .on_busy = PF_BUSY_WAIT }, .pmem = PF_PMEM_CPU,
				       .window = PF_CHUNK_SIZE * 4 };
	struct pf_mkfs m = { .uid = 0 };
	struct pf_pm *pm = mem_open(UINT64_C(32) << 20);
	struct op_env e = { .opts = opts };
	struct lost l = { .images = 0 };
	struct crash *c;

	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	CU_ASSERT_EQUAL_FATAL(pf_fs_mount_pm(pm, &opts, &e.fs, &e.info), 0);
	l.used = inodes_now(&e);
	make(&e, 40);
	CU_ASSERT_EQUAL(pf_reap_start(e.fs, PF_REAP_SCARCE), 0);
	unmake(&e, 40);
	CU_ASSERT_EQUAL(inodes_now(&e), l.used + 43);
	c = crash_attach(pm, visit, &l, 2, 42);
	CU_ASSERT(pf_reap_all(e.fs));
	crash_detach(c);
	CU_ASSERT(l.images > 20 && l.some > 0 && l.some < l.images);
	CU_ASSERT_EQUAL(inodes_now(&e), l.used);
	pf_fs_unmount_pm(e.fs);
	mem_close(pm);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "they wait, and are not missed", waits },
		{ "who does not wait", who_waits },
		{ "one call that needs all of it", all_of_it },
		{ "by themselves", by_itself },
		{ "with others at work", together },
		{ "power fails meanwhile", power_fails },
	};

	return unit_main("reap", cases, PF_ARRAY_LEN(cases));
}
