/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_scale.c - many files and many extents, counted and not timed: nodes, leaves, objects that a mount reads, bytes
 * that the process has allocated. With PINFS_LONG set ten times as many.
 */
#include "harness/unit.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "media/mkfs.h"
#include "media/verify.h"
#include "obj/inode.h"
#include "unit/op_env.h"

/* ThreadSanitizer leaves a program less than 2 TiB to map, and fsck makes a second one of the image. */
#ifdef __SANITIZE_THREAD__
#define HUGE_BYTES (UINT64_C(1) << 38)
#else
#define HUGE_BYTES (UINT64_C(1) << 40)
#endif

static unsigned int many = 100000;

/* Every look at a metadata object from outside of media/verify.c. */
int __real_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out);
int __wrap_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out);
static uint64_t looks;

int __wrap_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out)
{
	__atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED);
	return __real_pf_md_get(fs, type, doff, owner, out);
}

static uint64_t mount_looks(struct op_env *e)
{
	pf_fs_unmount(e->fs);
	looks = 0;
	CU_ASSERT_EQUAL_FATAL(pf_fs_mount(e->path, &e->opts, &e->fs, &e->info), 0);
	return looks;
}

/* Bytes in use by malloc: large pieces are mapped. */
static uint64_t bytes_used(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

struct walk { uint64_t n, sum; };

static bool count(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next,
		  const struct pf_entry *entry)
{
	struct walk *w = arg;

	(void)next;
	(void)type;
	(void)entry;
	w->n += name[0] == 'f';
	w->sum += name[0] == 'f' ? ino : 0;
	return true;
}

static uint64_t make(struct op_env *e, uint64_t dir, unsigned int i, bool keep)
{
	struct pf_entry entry;
	char name[32];

	(void)snprintf(name, sizeof name, "f%u", i);
	if (pf_op_mknod(e->fs, &op_root, dir, name, S_IFREG | 0644, 0, &entry) != 0)
		CU_FAIL_FATAL("mknod");
	if (!keep)
		pf_op_forget(e->fs, entry.ino, 1);
	return entry.ino;
}

/* What a mount reads is not what exists: a few objects, and where each cluster of 504 inodes lies (which takes a record
 * each, and they are contiguous as often as not). */
static void check_mount(struct op_env *e, uint64_t empty)
{
	const uint64_t more = mount_looks(e) - empty;

	(void)printf("\n\ta mount looks at %llu objects more ", (unsigned long long)more);
	CU_ASSERT(more <= 64 + (many / 504 + 1) * 3);
}

/* @keep: the kernel forgets none of them, as with a large cache of its own. */
static void test_one_directory(void)
{
	uint64_t dir = 0, empty, used, before, sum = 0, per_leaf;
	struct walk w = { 0, 0 };
	struct op_env e;
	struct stat st;

	op_env_open(&e, UINT64_C(1) << 30);
	e.opts.cache = 1024;
	empty = mount_looks(&e);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	before = bytes_used();
	for (unsigned int i = 0; i < many; i++)
		sum += make(&e, dir, i, true);
	used = bytes_used() - before;
	/* 1024 inodes, 24 bytes for each that the kernel knows (a table that has just grown has twice the room), and
	 * what the allocators of space and of numbers hold of places. */
	if (before != 0) {		/* a sanitizer's malloc does not say */
		CU_ASSERT(used < many * UINT64_C(52) + (UINT64_C(6) << 20));
		CU_ASSERT(used > many * UINT64_C(16));
		(void)printf("\n\t%.1f bytes of memory for each of %u files ", (double)used / many, many);
	}

	CU_ASSERT_EQUAL(pf_op_getattr(e.fs, dir, &st, NULL), 0);
	per_leaf = many / ((uint64_t)st.st_size / PF_BLK_SIZE);
	CU_ASSERT(per_leaf >= 60);		/* 168 fit; leaves that are split are half full */
	CU_ASSERT_EQUAL(pf_op_readdir(e.fs, dir, 0, false, count, &w), 0);
	CU_ASSERT_EQUAL(w.n, many);
	CU_ASSERT_EQUAL(w.sum, sum);

	/* A look-up is a path down the tree, whatever the number: inode, nodes, leaf. */
	looks = 0;
	for (unsigned int i = 0; i < 1000; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "f%u", i * (many / 1000));
		CU_ASSERT_EQUAL(op_lookup(&e, dir, name, NULL), 0);
	}
	CU_ASSERT(looks <= 1000 * 8);
	for (unsigned int i = 0; i < many; i++) {
		struct pf_inode *ip;
		char name[32];
		uint64_t ino = 0;

		if (i % 100 != 0)
			continue;
		(void)snprintf(name, sizeof name, "f%u", i);
		CU_ASSERT_EQUAL(op_lookup(&e, dir, name, &ino), 0);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, dir, name), 0);
		/* The kernel still knows it: it is not gone before it is forgotten. */
		CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
		CU_ASSERT_EQUAL(ip->nlookup, 1);
		pf_inode_put(ip);
		pf_op_forget(e.fs, ino, 1);
		CU_ASSERT(pf_inode_get(e.fs, ino, &ip) != 0);
	}
	check_mount(&e, empty);
	op_env_close(&e);
}

static void test_tree(void)
{
	uint64_t dir = 0, empty;
	struct op_env e;
	char name[32];

	op_env_open(&e, UINT64_C(1) << 30);
	empty = mount_looks(&e);
	for (unsigned int i = 0; i < many; i++) {
		if (i % 100 == 0) {
			(void)snprintf(name, sizeof name, "d%u", i);
			CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, i % 1000 == 0 ? PF_INO_ROOT : dir, name, &dir), 0);
		}
		(void)make(&e, dir, i, false);
	}
	check_mount(&e, empty);
	op_env_close(&e);
}

/* A sparse image of 1 TiB, and in it a file of which a page is written here and there. */
static void test_extents(void)
{
	const uint64_t n = many / 10, stride = 7 * PF_CHUNK_SIZE + PF_BLK_SIZE;
	uint64_t ino = 0, at = 0, expect;
	uint32_t page[1024] = { 0 };
	struct op_env e;
	struct stat st;

	op_env_open(&e, HUGE_BYTES);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	for (uint64_t i = 0; i < n; i++) {
		page[0] = (uint32_t)(i + 1);
		if (op_write(&e, ino, i * stride, page, sizeof page) != sizeof page)
			CU_FAIL_FATAL("write");
	}
	CU_ASSERT_EQUAL(pf_op_getattr(e.fs, ino, &st, NULL), 0);
	expect = n + n / (PF_NODE_RECS - 1) + 8;	/* a growing file fills its leaves */
	CU_ASSERT((uint64_t)st.st_blocks / 8 >= n);
	CU_ASSERT((uint64_t)st.st_blocks / 8 <= expect);
	looks = 0;
	for (uint64_t i = 0; i < n; i += 10) {
		CU_ASSERT_EQUAL(op_read(&e, ino, i * stride, page, 4), 4);
		CU_ASSERT_EQUAL(page[0], i + 1);
	}
	CU_ASSERT(looks <= n / 10 * 6);
	for (uint64_t i = 0; i < 100; i++) {
		uint64_t was = at;

		CU_ASSERT_EQUAL(pf_op_lseek(e.fs, ino, at, SEEK_DATA, &at), 0);
		CU_ASSERT_EQUAL(at, i * stride);
		CU_ASSERT_EQUAL(pf_op_lseek(e.fs, ino, at, SEEK_HOLE, &at), 0);
		CU_ASSERT(at > was);
	}
	/* A mount reads each map block, 126 MiB of device each, and a few more objects. */
	CU_ASSERT(mount_looks(&e) <= HUGE_BYTES / (PF_GROUP_BLKS * PF_BLK_SIZE) + 256);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "one directory", test_one_directory },
		{ "a tree of directories", test_tree },
		{ "1 TiB and many extents", test_extents },
	};

	if (getenv("PINFS_LONG") != NULL)
		many *= 10;
	pf_log_init("test_scale", PF_LOG_ERR, false);
	return unit_main("scale", cases, PF_ARRAY_LEN(cases));
}
