/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bad.c - the list of bad blocks on the media.
 *
 * Owns inode PF_INO_BAD and its tree. Locks: `change` (REGISTRY) for a whole add or del; `tree` (BAD) from the first
 * look at the tree in a transaction to its end.
 *
 * The set in memory changes first when a block is listed, and before the transaction too when one is forgotten: the
 * allocator asks the set when blocks come back to it, so nothing that is listed can slip through between a
 * transaction's end and the update of the set.
 */
#include "space/bad.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "base/fail.h"
#include "base/lock.h"
#include "base/log.h"
#include "media/pmem.h"
#include "space/alloc_impl.h"
#include "space/bmap.h"

#define ROOM 20U		/* whole objects: what one more record may need at worst */
#define BATCH 32U		/* runs that one transaction takes from the free space */

struct pf_bad {
	struct pf_mutex change;		/* REGISTRY: one add or del at a time */
	struct pf_mutex tree;		/* BAD */
	_Atomic(struct pf_tx *) holder;	/* the transaction that has `tree` */
};

static uint64_t inode_doff(const struct pf_fs *fs)
{
	return (fs->iclu0_blk << PF_BLK_SHIFT) + PF_INO_BAD * PF_INODE_SIZE;
}

/* For looking, in no transaction: a copy of the root, the nodes are read in place. tree held, or nobody else there. */
static int view(struct pf_fs *fs, struct pf_d_root *root, struct pf_bm *bm)
{
	const struct pf_d_inode *di;
	const void *obj;
	int err = pf_md_get(fs, PF_MD_INODE, inode_doff(fs), PF_INO_BAD, &obj);

	if (err != 0)
		return err;
	di = obj;
	*root = di->i_root;
	*bm = (struct pf_bm){ .fs = fs, .root = root, .owner = PF_INO_BAD, .gen = pf_get32(di->i_gen) };
	return 0;
}

static void unlock_tree(void *arg, bool committed)
{
	struct pf_bad *b = arg;

	(void)committed;
	atomic_store(&b->holder, NULL);
	pf_mutex_unlock(&b->tree);
}

/* The tree becomes this transaction's until its end. */
static int lock_tree(struct pf_tx *tx)
{
	struct pf_bad *b = pf_tx_fs(tx)->bad;
	int err;

	if (atomic_load(&b->holder) == tx)
		return 0;
	pf_mutex_lock(&b->tree);
	err = pf_tx_at_end(tx, unlock_tree, b);
	if (err != 0)
		pf_mutex_unlock(&b->tree);
	else
		atomic_store(&b->holder, tx);
	return err;
}

static int edit(struct pf_tx *tx, struct pf_d_inode **di, struct pf_bm *bm)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	void *obj;
	int err;

	err = lock_tree(tx);
	if (err == 0)
		err = pf_tx_get(tx, PF_MD_INODE, inode_doff(fs), PF_INO_BAD, &obj);
	if (err != 0)
		return err;
	*di = obj;
	*bm = (struct pf_bm){ .fs = fs, .tx = tx, .root = &(*di)->i_root, .owner = PF_INO_BAD,
			      .gen = pf_get32((*di)->i_gen) };
	return 0;
}

static void add_nblk(struct pf_d_inode *di, int64_t delta)
{
	di->i_nblk = pf_put64((uint64_t)((int64_t)pf_get64(di->i_nblk) + delta));
}

int pf_bad_hold(struct pf_tx *tx, struct pf_run run, uint64_t *held)
{
	struct pf_d_inode *di;
	struct pf_bm bm;
	struct pf_ext e;
	int err;

	*held = 0;
	err = edit(tx, &di, &bm);
	while (err == 0 && *held < run.nblk) {
		uint64_t at = run.dblk + *held, done_to;

		err = pf_bm_lookup(&bm, at, &e);
		/* Being forgotten at this moment; or a block of two owners, on a damaged image. */
		if (err != 0 || e.len == 0 || e.key > at || (e.flags & PF_REC_HELD))
			break;
		err = pf_bm_mark(&bm, at, pf_min64(e.key + e.len, run.dblk + run.nblk) - at, PF_REC_HELD, &done_to);
		if (err != 0 || done_to == at)		/* the lane is full */
			break;
		*held = done_to - run.dblk;
	}
	if (err == 0)
		add_nblk(di, (int64_t)*held + bm.node_delta);
	return err;
}

/* ---- listing ---- */

/* What one transaction has taken from the free space, to be given back if it fails. */
struct taken { struct pf_run run[BATCH]; unsigned int n; };

/* One stretch of blocks from @at on that are alike: free ones become the list's, others stay whose they are. */
static int list_stretch(struct pf_tx *tx, struct pf_d_inode *di, struct pf_bm *bm, uint64_t *at, uint64_t end,
			struct taken *t)
{
	struct pf_ext e = { .key = *at, .dblk = *at };
	bool free_now;
	int err = 0;

	e.len = (uint32_t)pf_alloc_withdraw(bm->fs, *at, pf_min64(end - *at, PF_GROUP_BLKS), &free_now);
	if (free_now) {
		t->run[t->n++] = (struct pf_run){ *at, e.len };
		e.flags = PF_REC_HELD;
		add_nblk(di, e.len);
		err = pf_tx_use(tx, (struct pf_run){ *at, e.len });
	}
	if (err == 0)
		err = pf_bm_insert(bm, &e);
	*at += e.len;
	return err;
}

/* Blocks [from, end) are in the set, and in no record. *done: where the committed part ends. */
static int list_gap(struct pf_fs *fs, uint64_t from, uint64_t end, uint64_t *done)
{
	struct taken t;
	int err = 0;

	for (*done = from; *done < end && err == 0;) {
		uint64_t at = *done;
		struct pf_d_inode *di;
		struct pf_bm bm;
		struct pf_tx *tx;

		t.n = 0;
		err = pf_tx_begin(fs, &tx);
		if (err != 0)
			break;
		err = edit(tx, &di, &bm);
		while (err == 0 && at < end && t.n < BATCH && pf_tx_space_room(tx) >= ROOM)
			err = list_stretch(tx, di, &bm, &at, end, &t);
		if (err == 0) {
			add_nblk(di, bm.node_delta);
			err = pf_tx_commit(tx);
		} else {
			pf_tx_abort(tx);
		}
		if (err == 0)
			*done = at;
	}
	if (err == 0)
		return 0;
	/* What is not listed on the media is not bad. Blocks that the failed transaction has given back were kept from
	 * the allocator by the set. */
	if (pf_badset_del(fs, *done, end - *done) == 0)
		for (unsigned int i = 0; i < t.n; i++)
			pf_alloc_regain(fs, t.run[i]);
	return err;
}

int pf_bad_add(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *changed)
{
	uint64_t at = dblk, end = dblk + nblk, done;
	int err = pf_fs_writable(fs);

	*changed = 0;
	if (nblk == 0 || !pf_range_ok(dblk, nblk, fs->nblk))
		return -EINVAL;
	if (err != 0)
		return err;
	pf_mutex_lock(&fs->bad->change);
	/* Before: afterwards the map itself may be what nobody reads any more. */
	pf_alloc_load(fs, dblk, nblk);
	while (at < end && err == 0) {
		uint64_t listed_end = end, listed = pf_bad_first(fs, at, end - at, &listed_end);
		uint64_t stop = listed == PF_BAD_NONE ? end : listed;

		if (stop > at) {
			err = pf_badset_add(fs, at, stop - at);
			if (err != 0)
				break;
			err = list_gap(fs, at, stop, &done);
			*changed += done - at;
		}
		at = listed_end;
	}
	pf_mutex_unlock(&fs->bad->change);
	pf_jnl_avoid_bad(fs);
	return err;
}

/* ---- forgetting ---- */

/* One transaction: the piece of a record that @piece says. Whose the blocks are is looked up in it: their owner may be
 * giving them back at this moment. */
static int forget(struct pf_fs *fs, const struct pf_ext *piece)
{
	uint64_t done_to, removed;
	struct pf_d_inode *di;
	struct pf_ext e;
	struct pf_bm bm;
	struct pf_tx *tx;
	int err = pf_tx_begin(fs, &tx);

	if (err != 0)
		return err;
	err = edit(tx, &di, &bm);
	if (err == 0)
		err = pf_bm_lookup(&bm, piece->key, &e);
	/* Flags change for whole runs that are freed: the piece may be of several records by now. */
	for (uint64_t at = piece->key; err == 0 && at < piece->key + piece->len; at += e.len) {
		err = pf_bm_lookup(&bm, at, &e);
		if (err == 0 && (e.len == 0 || e.key > at))
			err = -EUCLEAN;
		if (err != 0)
			break;
		e.len = (uint32_t)pf_min64(e.key + e.len - at, piece->key + piece->len - at);
		err = pf_bm_remove(&bm, at, e.len, true, &done_to, &removed);
		if (err == 0 && done_to != at + e.len)
			err = -EFBIG;
		if (err == 0 && (e.flags & PF_REC_HELD))
			err = pf_tx_free(tx, (struct pf_run){ at, e.len });
		if (err == 0)
			add_nblk(di, e.flags & PF_REC_HELD ? -(int64_t)e.len : 0);
	}
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	add_nblk(di, bm.node_delta);
	return pf_tx_commit(tx);
}

/* The first record in [at, end), cut to it; len 0: none. */
static int next_record(struct pf_fs *fs, uint64_t at, uint64_t end, struct pf_ext *e)
{
	struct pf_d_root root;
	struct pf_bm bm;
	uint64_t stop;
	int err;

	pf_mutex_lock(&fs->bad->tree);
	err = view(fs, &root, &bm);
	if (err == 0)
		err = pf_bm_lookup(&bm, at, e);
	pf_mutex_unlock(&fs->bad->tree);
	if (err != 0)
		return err;
	if (e->len == 0 || e->key >= end) {
		e->len = 0;
		return 0;
	}
	stop = pf_min64(end, e->key + e->len);
	e->key = e->dblk = pf_max64(at, e->key);
	e->len = (uint32_t)pf_min64(stop - e->key, 4 * PF_GROUP_BLKS);
	return 0;
}

int pf_bad_del(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *changed)
{
	uint64_t at = dblk, end = dblk + nblk;
	int err = pf_fs_writable(fs);
	struct pf_ext e;

	*changed = 0;
	if (nblk == 0 || !pf_range_ok(dblk, nblk, fs->nblk))
		return -EINVAL;
	if (err != 0)
		return err;
	pf_mutex_lock(&fs->bad->change);
	while (err == 0) {
		err = next_record(fs, at, end, &e);
		if (err != 0 || e.len == 0)
			break;
		err = pf_badset_del(fs, e.dblk, e.len);
		if (err != 0)
			break;
		err = forget(fs, &e);
		if (err != 0) {
			if (pf_badset_add(fs, e.dblk, e.len) != 0)
				pf_warn("bad blocks %" PRIu64 " + %" PRIu32 ": taken for good until the next mount",
					e.dblk, e.len);
			break;
		}
		*changed += e.len;
		at = e.key + e.len;
	}
	pf_mutex_unlock(&fs->bad->change);
	pf_jnl_avoid_bad(fs);
	return err;
}

int pf_bad_list(struct pf_fs *fs, uint64_t from, struct pf_bad_rec *out, unsigned int max, unsigned int *n)
{
	struct pf_d_root root;
	struct pf_bm bm;
	struct pf_ext e;
	int err;

	*n = 0;
	pf_mutex_lock(&fs->bad->tree);
	err = view(fs, &root, &bm);
	while (err == 0 && *n < max) {
		err = pf_bm_lookup(&bm, from, &e);
		if (err != 0 || e.len == 0)
			break;
		out[(*n)++] = (struct pf_bad_rec){ e.dblk, e.len, (e.flags & PF_REC_HELD) != 0 };
		from = e.key + e.len;
	}
	pf_mutex_unlock(&fs->bad->tree);
	return err;
}

/* ---- mount ---- */

/* Listed blocks that nobody owns, although they were given back: become HELD now. @run is reserved. */
static int take_stray(struct pf_fs *fs, struct pf_run run)
{
	struct pf_d_inode *di;
	uint64_t done_to;
	struct pf_bm bm;
	struct pf_tx *tx;
	int err = pf_tx_begin(fs, &tx);

	if (err != 0) {
		pf_alloc_unreserve(fs, run);	/* to nobody: the set keeps it away */
		return err;
	}
	err = pf_tx_use(tx, run);
	if (err == 0)
		err = edit(tx, &di, &bm);
	if (err == 0)
		err = pf_bm_mark(&bm, run.dblk, run.nblk, PF_REC_HELD, &done_to);
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	add_nblk(di, (int64_t)run.nblk + bm.node_delta);
	return pf_tx_commit(tx);
}

/* Nothing that is listed may be given to anybody, whatever the map says. */
static int withdraw(struct pf_fs *fs, const struct pf_ext *e)
{
	uint64_t at = e->dblk, end = at + e->len, n;
	bool stray;
	int err = 0;

	for (; at < end && err == 0; at += n) {
		n = pf_alloc_withdraw(fs, at, end - at, &stray);
		if (!stray)
			continue;
		if (e->flags & PF_REC_HELD)
			pf_fs_fail(fs, PF_FAULT_DAMAGE, "bad blocks %" PRIu64 " + %" PRIu64
				   " are held by the list, but free in the map", at, n);
		else
			err = take_stray(fs, (struct pf_run){ at, n });
	}
	return err;
}

static int load(struct pf_fs *fs)
{
	struct pf_d_root root;
	struct pf_bm bm;
	struct pf_ext e;
	uint64_t at = 0;
	int err = view(fs, &root, &bm);

	while (err == 0) {
		err = pf_bm_lookup(&bm, at, &e);
		if (err != 0 || e.len == 0)
			break;
		err = pf_badset_add(fs, e.dblk, e.len);
		at = e.key + e.len;
	}
	return err;
}

int pf_bad_init(struct pf_fs *fs)
{
	struct pf_bad *b = calloc(1, sizeof *b);
	struct pf_ext e = { 0 };
	uint64_t at = 0;
	int err;

	if (b == NULL)
		return -ENOMEM;
	pf_mutex_init(&b->change, PF_RANK_REGISTRY);
	pf_mutex_init(&b->tree, PF_RANK_BAD);
	fs->bad = b;
	err = load(fs);
	if (err != 0 || !pf_bad_any(fs))
		return err;
	pf_info("%" PRIu64 " bad blocks", (uint64_t)atomic_load(&fs->nr_bad));
	pf_jnl_avoid_bad(fs);
	while (err == 0 && pf_fs_writable(fs) == 0) {
		err = next_record(fs, at, fs->nblk, &e);
		if (err != 0 || e.len == 0)
			break;
		at = e.key + e.len;
		err = withdraw(fs, &e);
	}
	return err;
}

void pf_bad_fini(struct pf_fs *fs)
{
	struct pf_bad *b = fs->bad;

	if (b == NULL)
		return;
	pf_mutex_fini(&b->change);
	pf_mutex_fini(&b->tree);
	free(b);
	fs->bad = NULL;
}
