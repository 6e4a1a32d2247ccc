/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_bad.c - the list of bad blocks: the set in memory, the tree on the media, and what the allocator makes of them.
 *
 * Twin of the protection: the same history with the set emptied (the list ignored) hands a bad block out again.
 */
#include "harness/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/fail.h"
#include "base/log.h"
#include "media/pmem.h"
#include "space/bad.h"
#include "unit/space_env.h"

#define DEV (UINT64_C(32) << 20)
#define NBLK (DEV / PF_BLK_SIZE)

static struct pf_space space(struct pf_fs *fs)
{
	struct pf_space s;

	pf_alloc_stat(fs, &s);
	return s;
}

static uint64_t all_free(struct pf_fs *fs)
{
	return space(fs).free + space(fs).kept;
}

/* Blocks as a file would get them: reserved, then used. */
static struct pf_run take(struct pf_fs *fs, uint64_t n)
{
	struct pf_run run;
	struct pf_tx *tx;

	CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(fs, n, n, 0, 0, &run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_use(tx, run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
	return run;
}

static void give(struct pf_fs *fs, struct pf_run run)
{
	struct pf_tx *tx;

	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_free(tx, run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
}

/* Reserve everything there is: is @dblk handed out? Everything goes back. */
static bool handed_out(struct pf_fs *fs, uint64_t dblk)
{
	static struct pf_run got[NBLK];
	unsigned int n = 0;
	bool seen = false;

	while (pf_alloc_reserve(fs, 64, 1, 0, PF_ALLOC_META, &got[n]) == 0) {
		seen |= got[n].dblk <= dblk && dblk - got[n].dblk < got[n].nblk;
		n++;
	}
	while (n-- > 0)
		pf_alloc_unreserve(fs, got[n]);
	return seen;
}

static bool listed(struct pf_fs *fs, uint64_t dblk, bool *held)
{
	struct pf_bad_rec r;
	unsigned int n;

	CU_ASSERT_EQUAL_FATAL(pf_bad_list(fs, dblk, &r, 1, &n), 0);
	if (n == 0 || r.dblk > dblk || dblk - r.dblk >= r.nblk)
		return false;
	*held = r.held;
	return true;
}

static void add(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	uint64_t n;

	CU_ASSERT_EQUAL_FATAL(pf_bad_add(fs, dblk, nblk, &n), 0);
}

static void del(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	uint64_t n;

	CU_ASSERT_EQUAL_FATAL(pf_bad_del(fs, dblk, nblk, &n), 0);
}

/* ---- the set ---- */

static void test_set(void)
{
	struct pf_fs *fs = calloc(1, sizeof *fs);
	static bool model[512];
	uint64_t seed = 88172645463325252u, end;

	CU_ASSERT_EQUAL_FATAL(pf_badset_init(fs), 0);
	CU_ASSERT_FALSE(pf_bad_any(fs));
	CU_ASSERT_EQUAL(pf_bad_first(fs, 0, UINT64_MAX, NULL), PF_BAD_NONE);
	memset(model, 0, sizeof model);
	for (int i = 0; i < 4000; i++) {
		uint64_t at = rnd(&seed) % 512, n = 1 + rnd(&seed) % (rnd(&seed) % 8 == 0 ? 100 : 5), from, to, k;
		bool on = rnd(&seed) % 2;

		n = pf_min64(n, 512 - at);
		CU_ASSERT_EQUAL(on ? pf_badset_add(fs, at, n) : pf_badset_del(fs, at, n), 0);
		for (k = at; k < at + n; k++)
			model[k] = on;
		from = rnd(&seed) % 512;
		to = from + 1 + rnd(&seed) % (512 - from);
		for (k = from; k < to && !model[k]; k++)
			;
		if (k == to) {
			CU_ASSERT_EQUAL(pf_bad_first(fs, from, to - from, &end), PF_BAD_NONE);
			continue;
		}
		CU_ASSERT_EQUAL(pf_bad_first(fs, from, to - from, &end), k);
		CU_ASSERT_EQUAL(pf_bad_good(fs, from, to - from), k - from);
		for (; k < to && model[k]; k++)
			;
		CU_ASSERT_EQUAL(end, k);
	}
	CU_ASSERT_EQUAL(pf_badset_del(fs, 0, 512), 0);
	CU_ASSERT_FALSE(pf_bad_any(fs));
	pf_badset_fini(fs);
	free(fs);
}

/* ---- the list ---- */

static void test_free_blocks(void)
{
	struct pf_fs *fs = space_open(DEV);
	uint64_t before = all_free(fs), x = 3000, n;
	bool held = false;

	CU_ASSERT(handed_out(fs, x));
	CU_ASSERT_EQUAL(pf_bad_add(fs, x, 3, &n), 0);
	CU_ASSERT_EQUAL(n, 3);
	CU_ASSERT_EQUAL(pf_bad_add(fs, x - 1, 5, &n), 0);	/* two more on its sides */
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_EQUAL(all_free(fs), before - 5);
	CU_ASSERT_EQUAL(space_media_free(fs), before - 5);
	CU_ASSERT_EQUAL(space(fs).reserved, 0);
	for (int round = 0; round < 2; round++) {
		for (uint64_t b = x - 1; b < x + 4; b++) {
			CU_ASSERT(listed(fs, b, &held) && held);
			CU_ASSERT_FALSE(handed_out(fs, b));
		}
		CU_ASSERT_FALSE(listed(fs, x - 2, &held));
		CU_ASSERT_FALSE(listed(fs, x + 4, &held));
		space_remount(fs);
	}
	/* The middle goes; then all that is left, and more. */
	CU_ASSERT_EQUAL(pf_bad_del(fs, x + 1, 1, &n), 0);
	CU_ASSERT_EQUAL(n, 1);
	CU_ASSERT(handed_out(fs, x + 1));
	CU_ASSERT_FALSE(handed_out(fs, x));
	CU_ASSERT_EQUAL(pf_bad_del(fs, 0, NBLK, &n), 0);
	CU_ASSERT_EQUAL(n, 4);
	CU_ASSERT_FALSE(pf_bad_any(fs));
	CU_ASSERT_EQUAL(all_free(fs), before);
	CU_ASSERT_EQUAL(space_media_free(fs), before);
	space_remount(fs);
	CU_ASSERT(handed_out(fs, x));
	CU_ASSERT_EQUAL(pf_bad_add(fs, NBLK - 1, 2, &n), -EINVAL);
	CU_ASSERT_EQUAL(pf_bad_add(fs, 1, 0, &n), -EINVAL);
	CU_ASSERT_EQUAL(pf_bad_del(fs, UINT64_MAX, 1, &n), -EINVAL);
	space_close(fs);
}

/* A block of a file goes bad and comes back. @ignore: the twin, in which nobody knows of the list. */
static bool comes_back(bool ignore)
{
	struct pf_fs *fs = space_open(DEV);
	struct pf_run run = take(fs, 100);
	bool held = true, out;

	add(fs, run.dblk + 7, 1);
	add(fs, run.dblk + 50, 10);
	add(fs, run.dblk + 99, 2);		/* the second one is free: it is the list's at once */
	CU_ASSERT(listed(fs, run.dblk + 7, &held) && !held);
	CU_ASSERT(listed(fs, run.dblk + 99, &held) && !held);
	CU_ASSERT(listed(fs, run.dblk + 100, &held) && held);
	if (ignore)
		CU_ASSERT_EQUAL(pf_badset_del(fs, 0, NBLK), 0);
	give(fs, run);
	out = handed_out(fs, run.dblk + 7);
	if (!ignore) {
		uint64_t media = space_media_free(fs);

		CU_ASSERT_FALSE(handed_out(fs, run.dblk + 59));
		CU_ASSERT_FALSE(handed_out(fs, run.dblk + 99));
		CU_ASSERT(handed_out(fs, run.dblk + 49));
		CU_ASSERT(handed_out(fs, run.dblk + 60));
		CU_ASSERT(listed(fs, run.dblk + 7, &held) && held);
		CU_ASSERT(listed(fs, run.dblk + 55, &held) && held);
		CU_ASSERT(listed(fs, run.dblk + 99, &held) && held);
		CU_ASSERT_EQUAL(all_free(fs), media);
		space_remount(fs);
		CU_ASSERT_EQUAL(all_free(fs), media);
		CU_ASSERT_EQUAL(space_media_free(fs), media);
		CU_ASSERT_FALSE(handed_out(fs, run.dblk + 7));
		/* Forgotten, they are as good as any. */
		del(fs, 0, NBLK);
		CU_ASSERT_EQUAL(all_free(fs), media + 13);
		CU_ASSERT(handed_out(fs, run.dblk + 7));
	}
	space_close(fs);
	return out;
}

static void test_comes_back(void)
{
	CU_ASSERT_FALSE(comes_back(false));
	CU_ASSERT_TRUE(comes_back(true));
}

/* Reserved, or parked and freed, while it goes bad: nobody's until the next mount, then the list's. */
static void test_strays(void)
{
	struct pf_fs *fs = space_open(DEV);
	struct pf_run a, b = take(fs, 4);
	uint64_t before;
	bool held = true;

	CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(fs, 8, 8, 0, 0, &a), 0);
	add(fs, a.dblk + 2, 2);
	CU_ASSERT(listed(fs, a.dblk + 2, &held) && !held);
	pf_alloc_unreserve(fs, a);
	CU_ASSERT_FALSE(handed_out(fs, a.dblk + 2));
	CU_ASSERT(handed_out(fs, a.dblk + 4));

	CU_ASSERT_EQUAL(pf_alloc_park(fs, b), 0);
	give(fs, b);
	add(fs, b.dblk + 1, 1);
	pf_alloc_unpark(fs, b);
	CU_ASSERT_FALSE(handed_out(fs, b.dblk + 1));
	CU_ASSERT(handed_out(fs, b.dblk + 2));

	before = space_media_free(fs);
	CU_ASSERT_EQUAL(all_free(fs), before - 3);
	space_remount(fs);
	CU_ASSERT_EQUAL(space_media_free(fs), before - 3);
	CU_ASSERT_EQUAL(all_free(fs), before - 3);
	CU_ASSERT(listed(fs, a.dblk + 2, &held) && held);
	CU_ASSERT(listed(fs, b.dblk + 1, &held) && held);
	CU_ASSERT_FALSE(handed_out(fs, a.dblk + 3));
	space_close(fs);
}

/* Lanes in bad blocks are not used; without any, there are no changes. */
static void test_lanes(void)
{
	struct pf_fs *fs = space_open(DEV);
	uint64_t lane1 = fs->lane_blk + fs->lane_nblk, n;
	struct pf_tx *tx;

	add(fs, lane1, (fs->nlane - 1) * (uint64_t)fs->lane_nblk);
	memset(pf_pm_at(fs->pm, lane1 << PF_BLK_SHIFT), 0x5a, PF_BLK_SIZE);
	for (int i = 0; i < 20; i++)
		give(fs, take(fs, 3));
	CU_ASSERT_EQUAL(*(uint8_t *)pf_pm_at(fs->pm, lane1 << PF_BLK_SHIFT), 0x5a);
	CU_ASSERT_EQUAL(pf_bad_add(fs, fs->lane_blk + 5, 1, &n), 0);
	CU_ASSERT_EQUAL(pf_tx_begin(fs, &tx), -EIO);
	CU_ASSERT_EQUAL(pf_fs_state(fs), PF_STATE_RDONLY);
	CU_ASSERT_EQUAL(pf_tx_begin(fs, &tx), -EROFS);
	CU_ASSERT_EQUAL(pf_bad_del(fs, fs->lane_blk + 5, 1, &n), -EROFS);
	space_close(fs);
}

/* A tree of many levels: every other block of the device, then gone again, against a model. */
static void test_many(void)
{
	struct pf_fs *fs = space_open(DEV);
	uint64_t before = all_free(fs), seed = 12345, n, count = 0;
	static bool model[NBLK];
	struct pf_bad_rec r;
	unsigned int got;
	bool held;

	memset(model, 0, sizeof model);
	for (int i = 0; i < 3000; i++) {
		uint64_t first = fs->iclu0_blk + PF_ICLU_BLKS;
		uint64_t at = first + rnd(&seed) % (NBLK - first - 40), len = 1 + rnd(&seed) % 3;
		bool on = rnd(&seed) % 4 != 0;

		CU_ASSERT_EQUAL_FATAL(on ? pf_bad_add(fs, at, len, &n) : pf_bad_del(fs, at, len, &n), 0);
		for (uint64_t k = at; k < at + len; k++) {
			n -= model[k] != on;
			model[k] = on;
		}
		CU_ASSERT_EQUAL(n, 0);
		if (i % 1000 == 500)
			space_remount(fs);
	}
	for (uint64_t k = 0; k < NBLK; k++) {
		CU_ASSERT_EQUAL(listed(fs, k, &held), model[k]);
		CU_ASSERT_EQUAL(pf_bad_first(fs, k, 1, NULL) == k, model[k]);
		count += model[k];
	}
	CU_ASSERT_EQUAL(atomic_load(&fs->nr_bad), count);
	CU_ASSERT_EQUAL(pf_bad_list(fs, 0, &r, 1, &got), 0);
	CU_ASSERT_EQUAL(got, 1);
	CU_ASSERT_EQUAL(space_media_free(fs), all_free(fs));
	del(fs, 0, NBLK);
	CU_ASSERT_EQUAL(all_free(fs), before);
	CU_ASSERT_EQUAL(space_media_free(fs), before);
	space_close(fs);
}

/* Metadata in a bad block: EIO, once in the log, and the state that errors= says. */
static void test_metadata(void)
{
	struct pf_fs *fs = space_open(DEV);
	struct pf_fail_info fi;
	const void *obj;

	CU_ASSERT_EQUAL(pf_md_get(fs, PF_MD_MAP, fs->map_blk << PF_BLK_SHIFT, 0, &obj), 0);
	fs->opts.errors = PF_ERRORS_REMOUNT_RO;
	add(fs, fs->map_blk, 1);
	CU_ASSERT_EQUAL(pf_fs_state(fs), PF_STATE_OK);
	CU_ASSERT_EQUAL(pf_md_get(fs, PF_MD_MAP, fs->map_blk << PF_BLK_SHIFT, 0, &obj), -EIO);
	CU_ASSERT_EQUAL(pf_fs_state(fs), PF_STATE_RDONLY);
	pf_fail_info(fs, &fi);
	CU_ASSERT_EQUAL(fi.count, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(fi.why, "bad block"));
	CU_ASSERT_EQUAL(pf_md_get(fs, PF_MD_MAP, fs->map_blk << PF_BLK_SHIFT, 0, &obj), -EIO);
	pf_fail_info(fs, &fi);
	CU_ASSERT_EQUAL(fi.count, 1);
	space_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the set, against a model", test_set },
		{ "blocks that are free", test_free_blocks },
		{ "blocks that are given back; with the list ignored", test_comes_back },
		{ "blocks that are nobody's for a while", test_strays },
		{ "lanes", test_lanes },
		{ "thousands, against a model", test_many },
		{ "metadata", test_metadata },
	};

	pf_log_init("bad", PF_LOG_ERR, false);
	return unit_main("bad blocks", cases, PF_ARRAY_LEN(cases));
}
