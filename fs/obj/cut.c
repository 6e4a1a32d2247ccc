/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cut.c - blocks that leave an inode: truncate, punch, and the end of an inode without links.
 *
 * A cut that one transaction cannot hold is recorded first (i_intent, and the orphan file), then done piece by piece;
 * a crash in between is finished by the next mount, a failed call by the next one that changes the file's blocks.
 * Takes the inode's lock for eviction only; otherwise the caller has it.
 */
#include "obj/inode.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "base/log.h"
#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "obj/cut.h"
#include "obj/orphan.h"
#include "obj/xattr.h"
#include "space/itable.h"

#define KEY_END (UINT64_C(1) << 63)	/* behind every page and every name key */

int pf_cut_pages(struct pf_tx *tx, struct pf_inode *ip, uint64_t key, uint64_t end, uint64_t *done_to)
{
	struct pf_bm bm = pf_inode_bm(ip, tx);
	uint64_t freed = 0;
	int err;

	*done_to = end;
	if (key >= end)
		return 0;
	err = pf_bm_remove(&bm, key, end - key, false, done_to, &freed);
	if (err == 0)
		pf_inode_blocks(ip, bm.node_delta - (int64_t)freed);
	return err;
}

/* What is left of a recorded cut. */
static void intent_range(const struct pf_d_inode *di, uint64_t *key, uint64_t *end)
{
	*key = PF_DIV_UP(pf_get64(di->i_intent_off), PF_BLK_SIZE);
	*end = pf_get32(di->i_intent) == PF_INTENT_TRUNC ? KEY_END :
		(pf_get64(di->i_intent_off) + pf_get64(di->i_intent_len)) >> PF_BLK_SHIFT;
}

static void clear_intent(struct pf_d_inode *di)
{
	di->i_intent = pf_put32(PF_INTENT_NONE);
	di->i_intent_off = pf_put64(0);
	di->i_intent_len = pf_put64(0);
	di->i_intent_pos = pf_put64(0);
}

/* A piece of what is recorded, in @tx. */
static int go_on(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, bool *done)
{
	uint64_t key, end, done_to;
	int err;

	if (pf_get32(di->i_intent) >= PF_INTENT_COLLAPSE)
		return pf_shift_some(tx, ip, di, done);
	intent_range(di, &key, &end);
	err = pf_cut_pages(tx, ip, key, end, &done_to);
	*done = done_to >= end;
	return err;
}

int pf_inode_settle(struct pf_inode *ip)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	bool done = false;
	int err = 0;

	while (err == 0 && pf_get32(ip->d.i_intent) != PF_INTENT_NONE) {
		err = pf_inode_begin(ip, &tx, &di);
		if (err != 0)
			break;
		pf_tx_use_kept(tx);
		err = go_on(tx, ip, di, &done);
		if (err == 0 && done) {
			clear_intent(di);
			/* An unlinked inode stays on the list. */
			if (pf_get32(di->i_nlink) > 0)
				err = pf_orph_del(tx, ip);
		}
		if (err == 0)
			err = pf_tx_commit(tx);
		else
			pf_tx_abort(tx);
	}
	return err;
}

struct cutting {
	enum pf_d_intent what;
	bool unwrite;			/* keep the blocks: mark them unwritten */
	uint64_t foff, len;
	const struct pf_also *also;
	uint64_t done_to;		/* out: page */
};

/* Part of the work, in @tx, from *done_to on. */
static int some(struct pf_tx *tx, struct pf_inode *ip, const struct cutting *c, uint64_t end, uint64_t *done_to)
{
	struct pf_bm bm;
	int err;

	if (!c->unwrite)
		return pf_cut_pages(tx, ip, *done_to, end, done_to);
	bm = pf_inode_bm(ip, tx);
	err = pf_bm_mark(&bm, *done_to, end - *done_to, PF_REC_UNWRITTEN, done_to);
	if (err == 0)
		pf_inode_blocks(ip, bm.node_delta);
	return err;
}

/* With everything in it, if it fits; else with the intent. */
int pf_cut_start(struct pf_inode *ip, pf_cut_start_fn start, void *arg)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	bool done;
	int err;

	for (;;) {
		err = pf_inode_begin(ip, &tx, &di);
		if (err != 0)
			return err;
		pf_tx_use_kept(tx);
		pf_set_mtime(di, pf_now());
		pf_set_ctime(di, pf_now());
		err = start(tx, ip, di, arg, &done);
		if (err != 0)
			break;
		if (done) {
			clear_intent(di);
			return pf_tx_commit(tx);
		}
		err = PF_STEP(ORPHAN_CUT) ? pf_orph_add(tx, ip) : 0;
		if (err == 0)
			return pf_tx_commit(tx);
		if (err != -EAGAIN)
			break;
		pf_tx_abort(tx);
		err = pf_orph_grow(ip->fs);
		if (err != 0)
			return err;
	}
	pf_tx_abort(tx);
	return err;
}

/* The first transaction of a cut. */
static int first(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, void *arg, bool *done)
{
	struct cutting *c = arg;
	uint64_t end;
	int err;

	di->i_intent = pf_put32(c->what);
	di->i_intent_off = pf_put64(c->foff);
	di->i_intent_len = pf_put64(c->len);
	if (c->what == PF_INTENT_TRUNC)
		di->i_size = pf_put64(c->foff);
	if (c->also != NULL)
		c->also->fn(di, c->also->arg);
	intent_range(di, &c->done_to, &end);
	err = some(tx, ip, c, end, &c->done_to);
	*done = c->done_to >= end;
	return err;
}

/* The block in which a file of @size bytes ends in the middle; 0: there is none, or nothing in it. -EIO: it is bad. */
static int tail_block(struct pf_inode *ip, uint64_t size, uint64_t *dblk)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t fblk = size >> PF_BLK_SHIFT;
	struct pf_ext e;
	int err;

	*dblk = 0;
	if (size % PF_BLK_SIZE == 0)
		return 0;
	err = pf_bm_lookup(&bm, fblk, &e);
	if (err != 0 || e.len == 0 || e.key > fblk || (e.flags & PF_REC_UNWRITTEN))
		return err;
	*dblk = e.dblk + (fblk - e.key);
	return pf_bad_first(ip->fs, *dblk, 1, NULL) != PF_BAD_NONE ? -EIO : 0;
}

/* Bytes behind the end of file in its last page must read as zeros once the file has grown over them. */
int pf_inode_zero_tail(struct pf_inode *ip, uint64_t size)
{
	uint64_t in_page = size % PF_BLK_SIZE, dblk;
	int err = tail_block(ip, size, &dblk);

	if (err != 0 || dblk == 0)
		return err;
	if (PF_STEP(TAIL_ZERO))
		pf_pm_zero(ip->fs->pm, (dblk << PF_BLK_SHIFT) + in_page, PF_BLK_SIZE - in_page);
	return PF_DRAIN(ip->fs->pm, TAIL_DRAIN);
}

/* The cut has happened, for everybody and for good; what remains is to free its blocks, and that can wait. */
static void finish(struct pf_inode *ip)
{
	int err = pf_inode_settle(ip);

	if (err != 0)
		pf_warn("inode %" PRIu64 ": blocks behind a cut are still to be freed: %s", ip->ino, strerror(-err));
}

int pf_inode_truncate(struct pf_inode *ip, uint64_t size, const struct pf_also *also)
{
	struct cutting c = { .what = PF_INTENT_TRUNC, .foff = size, .also = also };
	uint64_t dblk;
	int err;

	assert(size <= pf_inode_size(ip));
	err = pf_inode_settle(ip);
	/* A part of a block that nobody can read cannot be zeroed: said before anything has changed. */
	if (err == 0)
		err = tail_block(ip, size, &dblk);
	if (err == 0)
		err = pf_cut_start(ip, first, &c);
	/* After the size: before, a crash would leave zeros in a file that was not cut. */
	if (err == 0)
		err = pf_inode_zero_tail(ip, size);
	if (err == 0)
		finish(ip);
	return err;
}

int pf_inode_punch(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	struct cutting c = { .what = PF_INTENT_PUNCH, .foff = foff, .len = len };
	int err;

	err = pf_inode_settle(ip);
	if (err == 0)
		err = pf_cut_start(ip, first, &c);
	/* Unlike a truncate's, the rest can still be read: who punched must know. */
	if (err == 0)
		err = pf_inode_settle(ip);
	return err;
}

/*
 * A range that one transaction cannot mark has the intent PUNCH meanwhile: whoever finds it after a crash frees
 * the blocks, which reads the same.
 */
int pf_inode_unwrite(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	struct cutting c = { .what = PF_INTENT_PUNCH, .unwrite = true, .foff = foff, .len = len };
	const uint64_t end = (foff + len) >> PF_BLK_SHIFT;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	int err;

	err = pf_inode_settle(ip);
	if (err == 0)
		err = pf_cut_start(ip, first, &c);
	while (err == 0 && pf_get32(ip->d.i_intent) != PF_INTENT_NONE) {
		err = pf_tx_begin(ip->fs, &tx);
		if (err != 0)
			break;
		pf_tx_use_kept(tx);
		err = pf_inode_edit(tx, ip, &di);
		if (err == 0)
			err = some(tx, ip, &c, end, &c.done_to);
		if (err == 0 && c.done_to >= end) {
			clear_intent(di);
			if (pf_get32(di->i_nlink) > 0)
				err = pf_orph_del(tx, ip);
		}
		if (err == 0)
			err = pf_tx_commit(tx);
		else
			pf_tx_abort(tx);
	}
	return err;
}

/* Inline symbolic links and device nodes have no tree where others have one. */
static bool has_tree(const struct pf_inode *ip)
{
	return pf_inode_isreg(ip) || pf_inode_isdir(ip) ||
	       (ip->fmt == S_IFLNK && pf_inode_size(ip) > PF_SYMLINK_INLINE);
}

int pf_inode_evict(struct pf_inode *ip)
{
	uint64_t done_to = has_tree(ip) ? 0 : KEY_END;
	bool done = false;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	int err;

	pf_rwlock_wrlock(&ip->lock);	/* its rank asserts that the caller holds no INODE, and nothing deeper */
	do {
		err = pf_tx_begin(ip->fs, &tx);
		if (err != 0)
			break;
		pf_tx_use_kept(tx);
		err = pf_inode_edit(tx, ip, &di);
		if (err == 0 && done_to < KEY_END)
			err = pf_cut_pages(tx, ip, done_to, KEY_END, &done_to);
		if (err == 0 && done_to >= KEY_END)
			err = pf_xattr_cut(tx, ip, &done);
		/* Clusters before orphan blocks: the order of their locks. */
		if (err == 0 && done)
			err = pf_itab_free(tx, ip->ino);
		if (err == 0 && done)
			err = pf_orph_del(tx, ip);
		if (err == 0)
			err = pf_tx_commit(tx);
		else
			pf_tx_abort(tx);
	} while (err == 0 && !done);
	pf_rwlock_unlock(&ip->lock);
	return err;
}

/* All of it in the open transaction, or -EFBIG. */
static int empty(struct pf_tx *tx, struct pf_inode *ip)
{
	uint64_t done_to = has_tree(ip) ? 0 : KEY_END;
	struct pf_d_inode *di;
	bool done = false;
	int err;

	err = pf_inode_edit(tx, ip, &di);
	if (err == 0 && done_to < KEY_END)
		err = pf_cut_pages(tx, ip, 0, KEY_END, &done_to);
	if (err == 0 && done_to >= KEY_END)
		err = pf_xattr_cut(tx, ip, &done);
	return err == 0 && !done ? -EFBIG : err;
}

int pf_inode_evict_many(struct pf_inode *const *v, unsigned int n)
{
	uint64_t ino[PF_EVICT_MANY];
	struct pf_tx *tx;
	int err;

	assert(n > 0 && n <= PF_EVICT_MANY);
	/* Nobody can reach them, so there is nobody to be out of order with. */
	for (unsigned int i = 0; i < n; i++) {
		ino[i] = v[i]->ino;
		if (i == 0)
			pf_rwlock_wrlock(&v[i]->lock);
		else
			pf_rwlock_wrlock_more(&v[i]->lock);
	}
	err = pf_tx_begin(v[0]->fs, &tx);
	if (err != 0)
		goto out;
	pf_tx_use_kept(tx);
	for (unsigned int i = 0; i < n && err == 0; i++)
		err = empty(tx, v[i]);
	if (err == 0)
		err = pf_itab_free_many(tx, ino, n);
	if (err == 0)
		err = pf_orph_del_many(tx, v, n);
	if (err == 0)
		err = pf_tx_commit(tx);
	else
		pf_tx_abort(tx);
out:
	for (unsigned int i = n; i-- > 0;) {
		if (i > 0)
			pf_rwlock_unlock_more(&v[i]->lock);
		else
			pf_rwlock_unlock(&v[i]->lock);
	}
	return err;
}
