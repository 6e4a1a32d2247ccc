/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_fail.c - an operation whose transaction fails in the middle says so, and leaves what was there before.
 *
 * The failure is made by a free-space map that says "used" of every block while the allocator in memory knows better:
 * then no commit that takes a block succeeds, and all others do.
 */
#include "harness/unit.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "harness/core.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/verify.h"
#include "space/alloc.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define BLK PF_BLK_SIZE
#define HOLES 20U		/* more than one transaction of a write maps */

static struct pf_pm *pm;
static struct pf_fs *fs;
static uint8_t saved_map[4096];

static void up(void)
{
	struct pf_mkfs m = { .label = "fail" };
	const char *why;

	pm = mem_open(DEV_BYTES);
	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	CU_ASSERT_EQUAL_FATAL(core_mount(pm, &fs, &why), 0);
}

static void down(void)
{
	core_unmount(fs);
	mem_close(pm);
}

/* From now on, every block is taken. */
static void break_map(void)
{
	struct pf_d_map *m = pf_pm_at(pm, fs->map_blk << PF_BLK_SHIFT);

	memcpy(saved_map, m, sizeof saved_map);
	memset(m->m_bits, 0xff, sizeof m->m_bits);
	m->m_hdr.h_free = pf_put32(0);
	pf_md_seal(PF_MD_MAP, m);
}

static void mend_map(void)
{
	memcpy(pf_pm_at(pm, fs->map_blk << PF_BLK_SHIFT), saved_map, sizeof saved_map);
}

/* Every other page of 2 * HOLES. */
static void make_comb(const char *path)
{
	static uint8_t page[BLK];

	memset(page, 'o', sizeof page);
	CU_ASSERT_FATAL(core_create(fs, path) > 0);
	for (uint64_t i = 0; i < HOLES; i++)
		CU_ASSERT_EQUAL_FATAL(core_write(fs, path, i * 2 * BLK, page, BLK), (ssize_t)BLK);
	CU_ASSERT_EQUAL_FATAL(core_truncate(fs, path, 2 * HOLES * BLK), 0);
}

static uint64_t free_blocks(void)
{
	struct pf_space sp;

	pf_alloc_stat(fs, &sp);
	CU_ASSERT_EQUAL(sp.reserved, 0);
	return sp.free;
}

static void test_write(void)
{
	static uint8_t buf[2 * HOLES * BLK];
	uint64_t before;
	ssize_t n;

	up();
	make_comb("/f");
	before = free_blocks();
	memset(buf, 'n', sizeof buf);
	break_map();
	n = core_write(fs, "/f", 0, buf, sizeof buf);
	mend_map();
	/* The first page was no hole: at most what lies before the first hole may be new. */
	CU_ASSERT(n <= (ssize_t)BLK);
	CU_ASSERT_EQUAL(free_blocks(), before);

	n = core_write(fs, "/f", 0, buf, sizeof buf);
	CU_ASSERT_EQUAL(n, (ssize_t)sizeof buf);
	CU_ASSERT_EQUAL(free_blocks(), before - HOLES);
	down();
}

static void test_append(void)
{
	static uint8_t buf[8 * BLK];
	struct stat st;
	uint64_t before;

	up();
	make_comb("/f");
	before = free_blocks();
	break_map();
	CU_ASSERT(core_write(fs, "/f", 2 * HOLES * BLK, buf, sizeof buf) < 0);
	mend_map();
	CU_ASSERT_EQUAL(free_blocks(), before);
	CU_ASSERT_EQUAL(pf_op_getattr(fs, (uint64_t)core_find(fs, "/f"), &st, NULL), 0);
	CU_ASSERT_EQUAL(st.st_size, (off_t)(2 * HOLES * BLK));
	down();
}

static void test_names(void)
{
	unsigned int damaged;
	char *was, *is;

	up();
	CU_ASSERT_EQUAL(core_mkdir(fs, "/d"), 0);
	make_comb("/f");
	was = core_describe(fs, &damaged);
	break_map();
	CU_ASSERT(core_create(fs, "/d/x") < 0);		/* a first leaf */
	CU_ASSERT(core_mkdir(fs, "/d/y") < 0);
	CU_ASSERT(core_rename(fs, "/f", "/d/f", 0) < 0);
	CU_ASSERT(core_fallocate(fs, "/f", 0, 0, 2 * HOLES * BLK) < 0);
	mend_map();
	is = core_describe(fs, &damaged);
	CU_ASSERT_STRING_EQUAL(was, is);
	CU_ASSERT_EQUAL(damaged, 0);
	free(was);
	free(is);
	down();
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a write of many pieces", test_write },
		{ "an append", test_append },
		{ "names, fallocate", test_names },
	};

	pf_log_init("op_fail", PF_LOG_ERR, false);
	return unit_main("operations that fail", cases, PF_ARRAY_LEN(cases));
}
