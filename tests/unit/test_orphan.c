/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_orphan.c - what a crash leaves half done: unlinked files in use, cuts that take many transactions.
 *
 * A crash is an image of what is durable at some drain; mounting it must finish the work, exactly once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "harness/crash.h"
#include "harness/mem.h"
#include "harness/unit.h"
#include "media/mkfs.h"
#include "unit/op_env.h"

#define LONG (UINT64_C(2500) << 20)	/* lies in more block groups than one transaction can change */

static struct pf_opts opts = { .policy = { .on_busy = PF_BUSY_WAIT }, .pmem = PF_PMEM_CPU,
			       .window = PF_CHUNK_SIZE * 4 };

static struct pf_pm *new_device(uint64_t bytes)
{
	struct pf_mkfs m = { .uid = 0 };
	struct pf_pm *pm = mem_open(bytes);

	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	return pm;
}

/* So that op_env.h's verbs work on it. */
static struct op_env up(struct pf_pm *pm)
{
	struct op_env e = { .opts = opts };

	CU_ASSERT_EQUAL_FATAL(pf_fs_mount_pm(pm, &opts, &e.fs, &e.info), 0);
	return e;
}

static uint64_t free_blocks(struct op_env *e)
{
	struct statvfs sv;

	CU_ASSERT_EQUAL(pf_op_statfs(e->fs, &sv), 0);
	return sv.f_bfree;
}

/* An image is looked at by a thread of its own: the one that drains holds locks. */
struct visit { void (*fn)(void *arg, struct pf_pm *image); void *arg; struct pf_pm *image; };

static void *visit_main(void *arg)
{
	struct visit *v = arg;

	v->fn(v->arg, v->image);
	return NULL;
}

static void visit(void (*fn)(void *, struct pf_pm *), void *arg, struct pf_pm *image)
{
	struct visit v = { fn, arg, image };
	pthread_t tid;

	if (pthread_create(&tid, NULL, visit_main, &v) != 0)
		abort();
	(void)pthread_join(tid, NULL);
}

struct shot { unsigned int images, unfinished, wrong; uint64_t want_size, want_free; };

/* Either the file is as before, or the cut is complete: a part of it never shows. */
static void look_in(void *arg, struct pf_pm *image)
{
	struct op_env e = { .opts = opts };
	struct shot *s = arg;
	struct stat st;
	uint64_t ino;
	int err;

	s->images++;
	err = pf_fs_mount_pm(image, &opts, &e.fs, &e.info);
	if (err != 0) {
		s->wrong++;
		return;
	}
	s->unfinished += e.info.orphans != 0;
	err = op_lookup(&e, PF_INO_ROOT, "long", &ino);
	if (err == -ENOENT)
		s->wrong += s->want_size != UINT64_MAX || free_blocks(&e) < s->want_free;
	else if (err != 0 || pf_op_getattr(e.fs, ino, &st, NULL) != 0)
		s->wrong++;
	else
		s->wrong += (uint64_t)st.st_size != LONG &&
			    ((uint64_t)st.st_size != s->want_size || free_blocks(&e) < s->want_free);
	pf_fs_unmount_pm(e.fs);
}

static void look(void *arg, struct pf_pm *image, unsigned int fence)
{
	(void)fence;
	visit(look_in, arg, image);
}

/* One long operation with images of every moment. @size: cut to it; UINT64_MAX: unlink. */
static struct shot record(uint64_t size)
{
	struct pf_pm *pm = new_device(UINT64_C(2700) << 20);
	struct op_env e = up(pm);
	struct shot s = { .want_size = size };
	struct pf_entry entry;
	struct crash *c;
	int err;

	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "other", S_IFREG, NULL), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "other"), 0);
	s.want_free = free_blocks(&e) - (size == UINT64_MAX ? 0 : size / 4096) - 4;
	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "long", S_IFREG | 0600, 0, &entry), 0);
	CU_ASSERT_EQUAL_FATAL(op_falloc(&e, entry.ino, 0, 0, LONG), 0);
	c = crash_attach(pm, look, &s, 2, 42);
	if (size != UINT64_MAX)
		err = op_truncate(&e, entry.ino, size);
	else
		err = pf_op_unlink(e.fs, PF_INO_ROOT, "long");
	CU_ASSERT_EQUAL(err, 0);
	pf_op_forget(e.fs, entry.ino, 1);
	crash_detach(c);
	CU_ASSERT(free_blocks(&e) >= s.want_free);
	pf_fs_unmount_pm(e.fs);
	mem_close(pm);
	return s;
}

static void test_long_truncate(void)
{
	struct shot s = record(5 << 20);

	CU_ASSERT_EQUAL(s.wrong, 0);
	CU_ASSERT(s.unfinished > 5);	/* there was something to finish, or this shows nothing */
}

static void test_long_evict(void)
{
	struct shot s = record(UINT64_MAX);

	CU_ASSERT_EQUAL(s.wrong, 0);
	CU_ASSERT(s.unfinished > 5);
}

/* Many files unlinked while open, then power loss: the next mount frees every one. More than one orphan block holds. */
static void test_many_orphans(void)
{
	enum { N = 1200 };
	struct pf_pm *pm = new_device(64 << 20), *image;
	struct op_env e = up(pm), after;
	uint64_t before;
	char name[16];

	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "keep", S_IFREG, NULL), 0);
	before = free_blocks(&e);
	for (unsigned int i = 0; i < N; i++) {
		struct pf_entry entry;

		snprintf(name, sizeof name, "f%u", i);
		CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, name, S_IFREG, 0, &entry), 0);
		CU_ASSERT_EQUAL(op_write(&e, entry.ino, 0, name, sizeof name), sizeof name);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
	}
	CU_ASSERT(free_blocks(&e) <= before - N);
	/* What the media holds now is what a crash would leave: nothing is in flight. */
	image = mem_open(pm->bytes);
	memcpy(image->base, pm->base, pm->bytes);
	after = up(image);
	CU_ASSERT_EQUAL(after.info.orphans, N);
	CU_ASSERT(free_blocks(&after) + 140 >= before);	/* two clusters of inodes and the list's own blocks stay */
	CU_ASSERT_EQUAL(op_lookup(&after, PF_INO_ROOT, "keep", &before), 0);
	pf_fs_unmount_pm(after.fs);
	after = up(image);
	CU_ASSERT_EQUAL(after.info.orphans, 0);
	pf_fs_unmount_pm(after.fs);
	mem_close(image);
	pf_fs_unmount_pm(e.fs);
	mem_close(pm);
}

/* A read-only mount must not show a half-done punch, and must not finish it either. */
static void ro_look_in(void *arg, struct pf_pm *image)
{
	unsigned int *refused = arg;
	struct pf_opts ro = opts;
	struct pf_mount_info info;
	struct pf_fs *fs;
	int err;

	ro.ro = true;
	err = pf_fs_mount_pm(image, &ro, &fs, &info);
	if (err == 0) {
		pf_fs_unmount_pm(fs);
		return;
	}
	CU_ASSERT_EQUAL(err, -EROFS);
	CU_ASSERT_PTR_NOT_NULL(info.why);
	*refused += strstr(info.why, "punch") != NULL;
}

static void ro_look(void *arg, struct pf_pm *image, unsigned int fence)
{
	(void)fence;
	visit(ro_look_in, arg, image);
}

static void test_readonly_refuses(void)
{
	struct pf_pm *pm = new_device(UINT64_C(2700) << 20);
	struct op_env e = up(pm);
	unsigned int refused = 0;
	struct crash *c;
	uint64_t ino;

	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "long", S_IFREG, &ino), 0);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, LONG), 0);
	c = crash_attach(pm, ro_look, &refused, 0, 1);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, LONG - 8192), 0);
	crash_detach(c);
	CU_ASSERT(refused > 0);
	pf_fs_unmount_pm(e.fs);
	mem_close(pm);
}

static const struct unit_case cases[] = {
	{ "a long truncate, interrupted anywhere", test_long_truncate },
	{ "the end of a big unlinked file, interrupted anywhere", test_long_evict },
	{ "1200 unlinked files in use at a crash", test_many_orphans },
	{ "a read-only mount refuses a half-done punch", test_readonly_refuses },
};

int main(void)
{
	return unit_main("orphan", cases, PF_ARRAY_LEN(cases));
}
