/* SPDX-License-Identifier: BSD-3-Clause */
/* test_bmap.c - the B+tree against an array that knows the truth, small and large, and its growth with 10^5 extents. */
#include "harness/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "media/pmem.h"
#include "space/bmap.h"
#include "space_env.h"

#define MIB (UINT64_C(1) << 20)
#define OWNER UINT64_C(77)
#define PAGES 3000U

struct tree {
	struct pf_fs *fs;
	struct pf_d_root root;		/* what the inode would hold */
	int64_t nodes;
};

/* A transaction on the tree: the root is copied in and, on commit, back. */
static struct pf_bm begin(struct tree *t, struct pf_d_root *work)
{
	struct pf_bm bm = { .fs = t->fs, .owner = OWNER, .gen = 1, .root = work };

	*work = t->root;
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(t->fs, &bm.tx), 0);
	return bm;
}

static void commit(struct tree *t, struct pf_bm *bm)
{
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(bm->tx), 0);
	t->root = *bm->root;
	t->nodes += bm->node_delta;
}

static struct pf_bm reader(struct tree *t)
{
	return (struct pf_bm){ .fs = t->fs, .owner = OWNER, .gen = 1, .root = &t->root };
}

/* Every page of the tree equals the model; separators are exact; returns the number of records. */
static uint64_t check_node(struct tree *t, const struct pf_d_rec *rec, unsigned int n, unsigned int level,
			   uint64_t *prev)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t key = pf_get64(rec[i].r_key);
		const struct pf_d_node *node;
		const void *obj;

		if (level == 0) {
			CU_ASSERT_FATAL(*prev == UINT64_MAX || key > *prev);
			*prev = key;
			sum++;
			continue;
		}
		CU_ASSERT_EQUAL_FATAL(
			pf_md_get(t->fs, PF_MD_NODE, pf_get64(rec[i].r_dblk) << PF_BLK_SHIFT, OWNER, &obj), 0);
		CU_ASSERT_PTR_NULL_FATAL(
			pf_md_check(t->fs, PF_MD_NODE, obj, pf_get64(rec[i].r_dblk) << PF_BLK_SHIFT, OWNER));
		node = obj;
		CU_ASSERT_EQUAL_FATAL(pf_get16(node->n_hdr.h_level), level - 1);
		CU_ASSERT_EQUAL_FATAL(pf_get64(node->n_rec[0].r_key), key);
		sum += check_node(t, node->n_rec, pf_get16(node->n_hdr.h_count), level - 1, prev);
	}
	return sum;
}

static uint64_t check_shape(struct tree *t)
{
	uint64_t prev = UINT64_MAX;

	return check_node(t, t->root.t_rec, pf_get16(t->root.t_count), pf_get16(t->root.t_level), &prev);
}

struct page { uint64_t dblk; uint32_t flags; };

static void compare(struct tree *t, const struct page *model)
{
	struct pf_bm bm = reader(t);

	for (uint64_t k = 0; k < PAGES; k++) {
		struct pf_ext e;

		CU_ASSERT_EQUAL_FATAL(pf_bm_lookup(&bm, k, &e), 0);
		if (model[k].dblk == 0) {
			CU_ASSERT_FATAL(e.len == 0 || e.key > k);
		} else {
			CU_ASSERT_FATAL(e.len != 0 && e.key <= k && k - e.key < e.len);
			CU_ASSERT_FATAL(e.dblk + (k - e.key) == model[k].dblk && e.flags == model[k].flags);
		}
	}
}

static void random_ops(uint64_t seed)
{
	struct tree t = { .fs = space_open(64 * MIB) };
	static struct page model[PAGES];
	uint64_t free0 = space_media_free(t.fs), mapped = 0;

	memset(model, 0, sizeof model);
	for (int step = 0; step < 4000; step++) {
		uint64_t k = rnd(&seed) % PAGES, len = 1 + rnd(&seed) % (rnd(&seed) % 8 ? 4 : 200);
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);
		uint64_t done, freed;

		len = pf_min64(len, PAGES - k);
		switch (rnd(&seed) % 4) {
		case 0:
		case 1: {		/* fill the holes of the range */
			uint32_t flags = (uint32_t)(rnd(&seed) % 2);

			for (uint64_t i = k; i < k + len && pf_tx_space_room(bm.tx) > 16; i++) {
				struct pf_run run;

				if (model[i].dblk)
					continue;
				CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(t.fs, 1, 1, 0, 0, &run), 0);
				CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
				CU_ASSERT_EQUAL_FATAL(pf_bm_insert(&bm, &(struct pf_ext){ i, run.dblk, 1, flags }), 0);
				model[i] = (struct page){ run.dblk, flags };
				mapped++;
			}
			break;
		}
		case 2:
			CU_ASSERT_EQUAL_FATAL(pf_bm_remove(&bm, k, len, false, &done, &freed), 0);
			for (uint64_t i = k; i < pf_min64(done, k + len); i++) {
				if (model[i].dblk) {
					mapped--;
					freed--;
				}
				model[i] = (struct page){ 0, 0 };
			}
			CU_ASSERT_EQUAL_FATAL(freed, 0);
			break;
		case 3:
			CU_ASSERT_EQUAL_FATAL(pf_bm_mark(&bm, k, len, 0, &done), 0);
			for (uint64_t i = k; i < pf_min64(done, k + len); i++)
				model[i].flags = 0;
			break;
		}
		/* an aborted change leaves nothing behind: the model keeps its word */
		if (rnd(&seed) % 16 == 0) {
			commit(&t, &bm);
			bm = begin(&t, &work);
			CU_ASSERT_EQUAL_FATAL(pf_bm_remove(&bm, 0, PAGES, false, &done, &freed), 0);
			pf_tx_abort(bm.tx);
		} else {
			commit(&t, &bm);
		}
		if (step % 500 == 0) {
			compare(&t, model);
			(void)check_shape(&t);
		}
	}
	compare(&t, model);
	(void)check_shape(&t);
	space_remount(t.fs);
	compare(&t, model);
	CU_ASSERT_EQUAL(free0 - space_media_free(t.fs), mapped + (uint64_t)t.nodes);

	for (uint64_t at = 0; at < PAGES;) {		/* all gone: nothing is left of the tree */
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);
		uint64_t freed;

		CU_ASSERT_EQUAL_FATAL(pf_bm_remove(&bm, at, PAGES - at, false, &at, &freed), 0);
		commit(&t, &bm);
	}
	CU_ASSERT_EQUAL(t.nodes, 0);
	CU_ASSERT_EQUAL(pf_get16(t.root.t_count), 0);
	CU_ASSERT_EQUAL(pf_get16(t.root.t_level), 0);
	CU_ASSERT_EQUAL(space_media_free(t.fs), free0);
	space_close(t.fs);
}

static void against_model(void)
{
	random_ops(1);
	random_ops(0x5eed);
}

/* 10^5 extents that cannot merge, in an order of the worst kind for neighbours; then every lookup is right. */
static void many_extents(void)
{
	enum { N = 100000 };
	struct tree t = { .fs = space_open(1024 * MIB) };
	uint64_t free0 = space_media_free(t.fs), i = 0;
	struct pf_bm rd;

	while (i < N) {
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);

		for (; i < N && pf_tx_space_room(bm.tx) > 18; i++) {
			uint64_t k = i * 48271 % N * 2;		/* N and 48271 have no common factor */
			struct pf_run run;

			CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(t.fs, 1, 1, 0, 0, &run), 0);
			CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
			CU_ASSERT_EQUAL_FATAL(pf_bm_insert(&bm, &(struct pf_ext){ k, run.dblk, 1, 0 }), 0);
		}
		commit(&t, &bm);
	}
	CU_ASSERT_EQUAL(check_shape(&t), N);
	CU_ASSERT(pf_get16(t.root.t_level) <= 3);
	rd = reader(&t);
	for (i = 0; i < N; i++) {
		struct pf_ext e;

		CU_ASSERT_EQUAL_FATAL(pf_bm_lookup(&rd, 2 * i, &e), 0);
		CU_ASSERT_EQUAL_FATAL(e.key, 2 * i);
		CU_ASSERT_EQUAL_FATAL(pf_bm_lookup(&rd, 2 * i + 1, &e), 0);
		CU_ASSERT_FATAL(i == N - 1 ? e.len == 0 : e.key == 2 * i + 2);
	}
	for (uint64_t at = 0; at < 2 * N;) {
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);
		uint64_t freed;

		CU_ASSERT_EQUAL_FATAL(pf_bm_remove(&bm, at, 2 * N - at, false, &at, &freed), 0);
		commit(&t, &bm);
	}
	CU_ASSERT_EQUAL(space_media_free(t.fs), free0);
	space_close(t.fs);
}

/* A file that grows at its end fills its nodes: half-empty ones would double the tree. */
static void appends_pack(void)
{
	struct tree t = { .fs = space_open(64 * MIB) };

	for (uint64_t i = 0; i < 3000; i++) {
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);
		struct pf_run run;

		CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(t.fs, 1, 1, 0, 0, &run), 0);
		CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
		CU_ASSERT_EQUAL_FATAL(pf_bm_insert(&bm, &(struct pf_ext){ 2 * i, run.dblk, 1, 0 }), 0);
		commit(&t, &bm);
	}
	CU_ASSERT(t.nodes <= 3000 / (int64_t)PF_NODE_RECS + 4);
	space_close(t.fs);
}

static void neighbours_merge(void)
{
	struct tree t = { .fs = space_open(64 * MIB) };
	struct pf_d_root work;
	struct pf_bm bm = begin(&t, &work);
	struct pf_run run;
	struct pf_ext e;

	CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(t.fs, 30, 30, 0, 0, &run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
	CU_ASSERT_EQUAL(pf_bm_insert(&bm, &(struct pf_ext){ 20, run.dblk + 20, 10, 0 }), 0);
	CU_ASSERT_EQUAL(pf_bm_insert(&bm, &(struct pf_ext){ 0, run.dblk, 10, 0 }), 0);
	CU_ASSERT_EQUAL(pf_bm_insert(&bm, &(struct pf_ext){ 10, run.dblk + 10, 10, 0 }), 0);
	CU_ASSERT_EQUAL(pf_bm_insert(&bm, &(struct pf_ext){ 29, run.dblk, 1, 0 }), -EUCLEAN);
	commit(&t, &bm);
	CU_ASSERT_EQUAL(pf_get16(t.root.t_count), 1);
	bm = reader(&t);
	CU_ASSERT_EQUAL(pf_bm_lookup(&bm, 15, &e), 0);
	CU_ASSERT(e.key == 0 && e.len == 30);
	space_close(t.fs);
}

/* The tree of attributes: a root of two records, which grows and shrinks by itself. */
static void root_of_two(void)
{
	enum { N = 600, STEP = 7 };	/* STEP and N + 1 have no common factor */
	struct pf_fs *fs = space_open(64 * MIB);
	struct pf_d_xroot root = { 0 }, work;
	struct pf_bm bm = { .fs = fs, .xroot = &work, .owner = OWNER, .gen = 1, .dir = true };
	uint64_t free0 = space_media_free(fs);
	int64_t nodes = 0;
	struct pf_ext e;

	for (int pass = 0; pass < 2; pass++) {
		for (uint64_t i = 1; i <= N; i++) {
			uint64_t k = i * STEP % (N + 1) * 256, done, freed;
			struct pf_run run;

			work = root;
			bm.node_delta = 0;
			CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &bm.tx), 0);
			if (pass == 0) {
				CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(fs, 1, 1, 0, 0, &run), 0);
				CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
				CU_ASSERT_EQUAL_FATAL(pf_bm_insert(&bm, &(struct pf_ext){ k, run.dblk, 1, 0 }), 0);
			} else {
				CU_ASSERT_EQUAL_FATAL(pf_bm_remove(&bm, k, 1, false, &done, &freed), 0);
				CU_ASSERT_EQUAL_FATAL(freed, 1);
			}
			CU_ASSERT_EQUAL_FATAL(pf_tx_commit(bm.tx), 0);
			bm.tx = NULL;
			root = work;
			nodes += bm.node_delta;
			CU_ASSERT_FATAL(pf_get16(root.x_count) <= PF_XROOT_RECS);
			CU_ASSERT_EQUAL_FATAL(pf_bm_floor(&bm, k + 255, &e), 0);
			CU_ASSERT_FATAL(pass == 0 ? e.key == k : e.len == 0 || e.key < k);
		}
		if (pass == 0)
			CU_ASSERT(pf_get16(root.x_level) >= 1 && pf_get16(root.x_level) <= 2);
	}
	CU_ASSERT_EQUAL(pf_get16(root.x_level), 0);
	CU_ASSERT_EQUAL(pf_get16(root.x_count), 0);
	CU_ASSERT_EQUAL(nodes, 0);
	CU_ASSERT_EQUAL(space_media_free(fs), free0);
	space_close(fs);
}

/* Damage in a node is an error of the lookup, never a walk into nowhere. */
static void damage_is_refused(void)
{
	struct tree t = { .fs = space_open(64 * MIB) };
	struct pf_ext e;
	struct pf_bm rd;
	uint64_t child;

	for (uint64_t i = 0; i < 400; i++) {
		struct pf_d_root work;
		struct pf_bm bm = begin(&t, &work);
		struct pf_run run;

		CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(t.fs, 1, 1, 0, 0, &run), 0);
		CU_ASSERT_EQUAL_FATAL(pf_tx_use(bm.tx, run), 0);
		CU_ASSERT_EQUAL_FATAL(pf_bm_insert(&bm, &(struct pf_ext){ 2 * i, run.dblk, 1, 0 }), 0);
		commit(&t, &bm);
	}
	CU_ASSERT_EQUAL_FATAL(pf_get16(t.root.t_level), 1);
	child = pf_get64(t.root.t_rec[0].r_dblk);
	pf_md_forget(t.fs, child, 1);
	((uint8_t *)pf_pm_at(t.fs->pm, child << PF_BLK_SHIFT))[2000] ^= 1;
	rd = reader(&t);
	CU_ASSERT_EQUAL(pf_bm_lookup(&rd, 0, &e), -EUCLEAN);
	t.root.t_rec[0].r_dblk = pf_put64(t.fs->nblk + 5);
	CU_ASSERT_EQUAL(pf_bm_lookup(&rd, 0, &e), -EUCLEAN);
	t.root.t_level = pf_put16(200);
	CU_ASSERT_EQUAL(pf_bm_lookup(&rd, 0, &e), -EUCLEAN);
	space_close(t.fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "random changes against a model", against_model },
		{ "10^5 extents", many_extents },
		{ "appends pack their nodes", appends_pack },
		{ "neighbours merge, overlaps are refused", neighbours_merge },
		{ "a root of two records", root_of_two },
		{ "damage is refused", damage_is_refused },
	};

	return unit_main("bmap", cases, PF_ARRAY_LEN(cases));
}
