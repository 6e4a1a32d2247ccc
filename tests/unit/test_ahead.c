/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ahead.c - files that are filled page by page at the same time do not interleave, and what is kept for them is
 * missed by nobody. The twin leaves it out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "harness/unit.h"
#include "obj/inode.h"
#include "unit/op_env.h"

#define DEV (UINT64_C(64) << 20)
#define LEN (UINT64_C(1) << 20)
#define PAGES ((unsigned int)(LEN / 4096))

static struct pf_inode *make(struct op_env *e, const char *name, uint64_t len, uint64_t *ino)
{
	struct pf_inode *ip = NULL;

	CU_ASSERT_EQUAL_FATAL(op_create(e, PF_INO_ROOT, name, 0644, ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_truncate(e, *ino, len), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e->fs, *ino, &ip), 0);
	return ip;
}

static void fault(struct op_env *e, struct pf_inode *ip, uint64_t page)
{
	CU_ASSERT_EQUAL(pf_op_alloc_pages(e->fs, ip, page * 4096, 4096), 0);
}

static unsigned int extents(struct op_env *e, struct pf_inode *ip)
{
	static struct pf_dext ext[512];
	unsigned int n = PF_ARRAY_LEN(ext);
	uint64_t size;

	CU_ASSERT_EQUAL(pf_op_extents(e->fs, ip, 0, LEN, ext, &n, &size), 0);
	return n;
}

static uint64_t blocks(struct pf_inode *ip)
{
	struct stat st;

	pf_inode_stat(ip, &st);
	return (uint64_t)st.st_blocks / 8;
}

static uint64_t told_free(struct op_env *e)
{
	struct statvfs sv;

	CU_ASSERT_EQUAL(pf_op_statfs(e->fs, &sv), 0);
	return sv.f_bavail;
}

/* Pieces of the worse of two files that are filled in turns. */
static unsigned int two(struct op_env *e, bool backwards)
{
	struct pf_inode *a, *b;
	unsigned int na, nb;
	uint64_t ia, ib;

	a = make(e, "a", LEN, &ia);
	b = make(e, "b", LEN, &ib);
	for (unsigned int i = 0; i < PAGES; i++) {
		fault(e, a, backwards ? PAGES - 1 - i : i);
		fault(e, b, i);
	}
	CU_ASSERT(blocks(a) >= PAGES && blocks(a) < PAGES + 8);	/* and nodes of its tree */
	CU_ASSERT(blocks(b) >= PAGES && blocks(b) < PAGES + 8);
	na = extents(e, a);
	nb = extents(e, b);
	pf_inode_put(a);
	pf_inode_put(b);
	CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, "a"), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, "b"), 0);
	return na > nb ? na : nb;
}

static void apart(void)
{
	struct op_env e;

	op_env_open(&e, DEV);
	CU_ASSERT(two(&e, false) <= 8);
	CU_ASSERT(two(&e, true) <= PAGES / 16);
	/* Any 64 KiB of such a file are two pieces at most, a device's list of eight is enough for half a megabyte. */
	pf_ahead_off(e.fs);
	CU_ASSERT(two(&e, false) > PAGES / 2);
	op_env_close(&e);
}

/* The same with parts of one file. */
static unsigned int parts(struct op_env *e)
{
	struct pf_inode *ip;
	unsigned int n;
	uint64_t ino;

	ip = make(e, "p", LEN, &ino);
	for (unsigned int i = 0; i < PAGES / 4; i++)
		for (unsigned int part = 0; part < 4; part++)
			fault(e, ip, part * (PAGES / 4) + i);
	n = extents(e, ip);
	pf_inode_put(ip);
	CU_ASSERT_EQUAL(pf_op_unlink(e->fs, PF_INO_ROOT, "p"), 0);
	return n;
}

static void one_file(void)
{
	struct op_env e;

	op_env_open(&e, DEV);
	/* A single window, taken from one part for the next, would make as many pieces as there are pages. */
	CU_ASSERT(parts(&e) <= 16);
	op_env_close(&e);
}

/* A page here and there costs a page here and there. */
static void sparse(void)
{
	struct op_env e;
	struct pf_inode *ip;
	uint64_t ino, before;

	op_env_open(&e, DEV);
	ip = make(&e, "s", LEN, &ino);
	before = told_free(&e);
	for (unsigned int i = 0; i < PAGES; i += 32)
		fault(&e, ip, i);
	CU_ASSERT_EQUAL(blocks(ip), PAGES / 32);
	CU_ASSERT_EQUAL(told_free(&e), before - PAGES / 32);
	CU_ASSERT(pf_ahead_blocks(e.fs) > 0 && pf_ahead_blocks(e.fs) <= 64);
	/* The end of file is the end of the window. */
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 0), 0);
	pf_ahead_drop(ip);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 3 * 4096), 0);
	fault(&e, ip, 0);
	CU_ASSERT_EQUAL(pf_ahead_blocks(e.fs), 2);
	pf_inode_put(ip);
	CU_ASSERT_EQUAL(pf_ahead_blocks(e.fs), 0);
	op_env_close(&e);
}

/* What is kept goes before anybody hears that there is no space. */
static void full(void)
{
	struct op_env e;
	struct pf_inode *ip, *hog;
	struct pf_space sp;
	uint64_t ino, big, n;
	static char page[4096];

	op_env_open(&e, DEV);
	ip = make(&e, "w", LEN, &ino);
	fault(&e, ip, 0);
	CU_ASSERT_EQUAL(pf_ahead_blocks(e.fs), 15);
	hog = make(&e, "hog", 0, &big);
	pf_alloc_stat(e.fs, &sp);
	/* All but the last few in one piece, the rest page by page until nothing is left. */
	CU_ASSERT_EQUAL(op_falloc(&e, big, 0, 0, (sp.free - 40) << PF_BLK_SHIFT), 0);
	for (n = 0; op_append(&e, big, page, sizeof page) == (ssize_t)sizeof page;)
		n++;
	CU_ASSERT_EQUAL(pf_ahead_blocks(e.fs), 0);
	CU_ASSERT(n >= 15);
	pf_alloc_stat(e.fs, &sp);
	CU_ASSERT(sp.free <= 2);		/* one may be a node's */
	CU_ASSERT_EQUAL(pf_op_alloc_pages(e.fs, ip, 4096, 4096), -ENOSPC);
	/* Scarce: no windows any more. */
	CU_ASSERT_EQUAL(op_truncate(&e, big, pf_op_size(hog) - 64 * 4096), 0);
	fault(&e, ip, 100);
	CU_ASSERT_EQUAL(pf_ahead_blocks(e.fs), 0);
	pf_inode_put(ip);
	pf_inode_put(hog);
	op_env_close(&e);
}

/* One fallocate of everything that statfs(2) promises. */
static void promised(void)
{
	struct op_env e;
	struct pf_inode *ip;
	uint64_t ino, big, n;

	op_env_open(&e, DEV);
	ip = make(&e, "w", LEN, &ino);
	for (unsigned int i = 0; i < 4; i++)
		fault(&e, ip, i);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "all", 0644, &big), 0);
	CU_ASSERT(pf_ahead_blocks(e.fs) >= 12);
	n = told_free(&e) - 4;			/* tree nodes */
	CU_ASSERT_EQUAL(op_falloc(&e, big, 0, 0, n << PF_BLK_SHIFT), 0);
	pf_inode_put(ip);
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "two files at a time", apart },
		{ "four parts of a file at a time", one_file },
		{ "a page here and there", sparse },
		{ "to the last block", full },
		{ "all at once", promised },
	};

	return unit_main("ahead", cases, PF_ARRAY_LEN(cases));
}
