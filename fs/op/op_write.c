/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_write.c - writing: in place, into unwritten extents, into holes, behind the end of file.
 *
 * Takes INODE exclusively. New blocks are filled before the transaction that puts them into the file, so data and the
 * size that covers it become durable together, and nobody ever sees a fresh block's old bytes. Overwrites are durable
 * on return, not atomic.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "obj/xattr.h"
#include "op/areq.h"

#define BATCH 8U	/* pieces that one transaction maps */
#define ROOM 18U	/* whole objects: what mapping one piece may need at worst */
#define ROOM_LEAVE 8U	/* and more when blocks leave in its place: mostly the same nodes, but the list's as well */

/* A piece of new layout: filled with data already, not in the tree yet. */
struct piece {
	struct pf_ext ext;
	/* Blocks to insert, an extent to mark, or the transaction's by now. */
	enum { RESERVED, UNWRITTEN, HANDED_OVER } is;
	bool replaces;		/* takes the place of bad blocks, which leave the file in the same transaction */
};

struct plan {
	struct piece p[BATCH];
	unsigned int n;
};

void pf_kill_priv(struct pf_d_inode *di, unsigned int kill)
{
	uint32_t mode = pf_get32(di->i_mode);

	if (S_ISDIR(mode) || kill == 0)
		return;
	mode &= ~(uint32_t)S_ISUID;
	if ((mode & S_IXGRP) || (kill & PF_KILL_SGID))
		mode &= ~(uint32_t)S_ISGID;
	di->i_mode = pf_put32(mode);
}

uint64_t pf_goal(struct pf_inode *ip, uint64_t fblk)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;

	if (fblk == 0 || pf_bm_floor(&bm, fblk - 1, &e) != 0 || e.len == 0)
		return 0;
	/* Kept for a distance of one chunk: a sparse file's chunks then stay 2 MiB aligned. */
	return fblk - e.key <= (uint64_t)e.len + PF_CHUNK_BLKS ? e.dblk + (fblk - e.key) : 0;
}

int pf_write_in_place(struct pf_inode *ip, uint64_t off, size_t len, bool *yes)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t fblk = off >> PF_BLK_SHIFT, end = (off + len + PF_BLK_SIZE - 1) >> PF_BLK_SHIFT;
	struct pf_ext e;

	*yes = false;
	/* A half-done cut must be finished first, and that may turn pages into holes. */
	if (off + len > pf_inode_size(ip) || pf_get32(ip->d.i_intent) != PF_INTENT_NONE)
		return 0;
	while (fblk < end) {
		int err = pf_bm_lookup(&bm, fblk, &e);

		if (err)
			return err;
		if (e.len == 0 || e.key > fblk || (e.flags & PF_REC_UNWRITTEN))
			return 0;
		/* In place of a bad block comes another one. */
		if (pf_bad_first(ip->fs, e.dblk + (fblk - e.key), pf_min64(end, e.key + e.len) - fblk, NULL) !=
		    PF_BAD_NONE)
			return 0;
		fblk = e.key + e.len;
	}
	*yes = true;
	return 0;
}

int pf_zero_in_place(struct pf_inode *ip, uint64_t off, uint64_t len)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t end = off + len;

	while (off < end) {
		uint64_t fblk = off >> PF_BLK_SHIFT, stop;
		struct pf_ext e;
		int err = pf_bm_lookup(&bm, fblk, &e);

		if (err)
			return err;
		if (e.len == 0)
			break;
		stop = pf_min64(end, (e.key + e.len) << PF_BLK_SHIFT);
		if (e.key > fblk)
			stop = pf_min64(end, e.key << PF_BLK_SHIFT);
		else if (!(e.flags & PF_REC_UNWRITTEN) &&
			 pf_bad_first(ip->fs, e.dblk + (fblk - e.key), PF_DIV_UP(stop, PF_BLK_SIZE) - fblk, NULL) !=
				 PF_BAD_NONE)
			return -EIO;		/* a part of a page that nobody can read */
		else if (!(e.flags & PF_REC_UNWRITTEN))
			pf_pm_zero(ip->fs->pm, (e.dblk << PF_BLK_SHIFT) + (off - (e.key << PF_BLK_SHIFT)), stop - off);
		off = stop;
	}
	return pf_pm_drain(ip->fs->pm);
}

/* Copy bytes [off, end) of the file into the blocks of @ext; a new block's bytes outside of [off, end) become zeros. */
static void fill(struct pf_fs *fs, const struct pf_ext *ext, uint64_t off, uint64_t end, const uint8_t *src, bool fresh)
{
	uint64_t base = ext->key << PF_BLK_SHIFT, lim = (ext->key + ext->len) << PF_BLK_SHIFT;
	uint64_t doff = ext->dblk << PF_BLK_SHIFT;

	fresh = fresh && PF_STEP(WRITE_REST);
	if (fresh && off > base)
		pf_pm_zero(fs->pm, doff, off - base);
	pf_pm_write(fs->pm, doff + (off - base), src, end - off);
	if (fresh && end < lim)
		pf_pm_zero(fs->pm, doff + (end - base), lim - end);
}

/* Reservations that never got into the file. */
static void drop_plan(struct pf_fs *fs, struct plan *pl)
{
	for (unsigned int i = 0; i < pl->n; i++)
		if (pl->p[i].is == RESERVED)
			pf_alloc_unreserve(fs, (struct pf_run){ pl->p[i].ext.dblk, pl->p[i].ext.len });
	pl->n = 0;
}

/* Bad blocks leave the file: to the list, not to the free space (space/bad.h). */
static int leave(struct pf_inode *ip, struct pf_bm *bm, uint64_t key, uint64_t len)
{
	uint64_t done_to = key, freed = 0;
	int err = pf_bm_remove(bm, key, len, false, &done_to, &freed);

	if (!err && done_to != key + len)
		err = -EFBIG;
	if (!err)
		pf_inode_blocks(ip, -(int64_t)freed);
	return err;
}

static int map_piece(struct pf_inode *ip, struct pf_bm *bm, struct piece *p)
{
	struct pf_ext *e = &p->ext;
	uint64_t done_to;
	int err;

	if (p->is == UNWRITTEN) {
		err = pf_bm_mark(bm, e->key, e->len, 0, &done_to);
		assert(err || done_to == e->key + e->len);	/* inside one extent, and there was room */
		return err;
	}
	p->is = HANDED_OVER;			/* also when it fails */
	err = pf_tx_use(bm->tx, (struct pf_run){ e->dblk, e->len });
	if (!err && p->replaces)
		err = leave(ip, bm, e->key, e->len);
	if (!err)
		err = pf_bm_insert(bm, e);
	if (!err)
		pf_inode_blocks(ip, e->len);
	return err;
}

/* Beside PF_KILL_*. */
#define SIZE_LAST 4U /* the size grows with the last piece only; else it covers what each transaction has mapped */

/* One transaction: map as many pieces as fit, let the size grow up to @end. Takes them off the plan; drops it after an
 * error. */
static int commit_some(struct pf_inode *ip, struct plan *pl, uint64_t end, unsigned int flags)
{
	struct pf_d_inode *di;
	unsigned int i = 0;
	struct pf_bm bm;
	struct pf_tx *tx;
	uint64_t covered;
	int err = PF_DRAIN(ip->fs->pm, WRITE_DATA);	/* the data, before a lane can say that it is there */

	if (!err)
		err = pf_inode_begin(ip, &tx, &di);
	if (err)
		goto out_drop;
	bm = pf_inode_bm(ip, tx);
	for (; i < pl->n && pf_tx_space_room(tx) >= ROOM + (pl->p[i].replaces ? ROOM_LEAVE : 0); i++) {
		err = map_piece(ip, &bm, &pl->p[i]);
		if (err)
			goto out_abort;
	}
	pf_inode_blocks(ip, bm.node_delta);
	covered = i == pl->n ? end : flags & SIZE_LAST ? 0 : pf_min64(end, pl->p[i].ext.key << PF_BLK_SHIFT);
	if (covered > pf_get64(di->i_size))
		di->i_size = pf_put64(covered);
	pf_kill_priv(di, flags & (PF_KILL_PRIV | PF_KILL_SGID));
	pf_set_mtime(di, pf_now());
	pf_set_ctime(di, pf_now());
	err = pf_tx_commit(tx);
	if (err)
		goto out_drop;
	memmove(pl->p, pl->p + i, (pl->n - i) * sizeof pl->p[0]);
	pl->n -= i;
	return 0;
out_abort:
	pf_tx_abort(tx);
out_drop:
	drop_plan(ip->fs, pl);
	return err;
}

static int commit_all(struct pf_inode *ip, struct plan *pl, uint64_t end, unsigned int flags)
{
	int err;

	do
		err = commit_some(ip, pl, end, flags);
	while (!err && pl->n != 0);
	return err;
}

/* Times and set-id bits of an overwrite; nothing to write when they are as they should be. */
static int touch(struct pf_inode *ip, unsigned int kill_priv)
{
	struct pf_when now = pf_now();
	struct pf_d_inode want = ip->d, *di;
	struct pf_tx *tx;
	int err;

	pf_set_mtime(&want, now);
	pf_set_ctime(&want, now);
	pf_kill_priv(&want, kill_priv);
	if (memcmp(&want, &ip->d, sizeof want) == 0)
		return PF_DRAIN(ip->fs->pm, WRITE_TOUCH);
	err = pf_inode_begin(ip, &tx, &di);
	if (err)
		return err;
	*di = want;
	return pf_tx_commit(tx);
}

/* Blocks for a hole of @n pages at @fblk, as much as there is in one run. */
static int reserve(struct pf_inode *ip, uint64_t fblk, uint64_t n, struct pf_ext *ext)
{
	uint64_t goal = pf_goal(ip, fblk);
	unsigned int flags = 0;
	struct pf_run run;
	int err;

	/* A big file goes by whole chunks: its pages lie in a device chunk as they lie in their own. */
	if (fblk % PF_CHUNK_BLKS == 0 && (n >= PF_CHUNK_BLKS / 2 || fblk != 0))
		flags = PF_ALLOC_ALIGN;
	else if (fblk == 0 && n >= 16)
		flags = PF_ALLOC_HOPE;
	err = pf_alloc_reserve(ip->fs, n, 1, goal, flags, &run);
	if (!err)
		*ext = (struct pf_ext){ fblk, run.dblk, (uint32_t)run.nblk, 0 };
	return err;
}

/*
 * Bytes [at, end) are to be written into the mapped extent @e. False: its block at @at is good, and @e now ends before
 * the first bad one. True: it is bad; *n blocks from there on are bad as well and need nothing of what was in them,
 * because the write covers all that the file has there, or because they are unwritten.
 */
static bool bad_blocks(struct pf_inode *ip, struct pf_ext *e, uint64_t at, uint64_t end, uint64_t *n)
{
	uint64_t fblk = at >> PF_BLK_SHIFT, dblk = e->dblk + (fblk - e->key), nblk = e->key + e->len - fblk, whole;
	uint64_t behind = 0, first = pf_bad_first(ip->fs, dblk, nblk, &behind);

	if (first == PF_BAD_NONE)
		return false;
	if (first > dblk) {
		e->len = (uint32_t)(fblk - e->key + (first - dblk));
		return false;
	}
	if (end >= pf_inode_size(ip) || (e->flags & PF_REC_UNWRITTEN))
		whole = PF_DIV_UP(end, PF_BLK_SIZE) - fblk;
	else
		whole = (end >> PF_BLK_SHIFT) - fblk;
	if (at % PF_BLK_SIZE != 0 && !(e->flags & PF_REC_UNWRITTEN))
		whole = 0;
	*n = pf_min64(whole, behind - dblk);
	return true;
}

ssize_t pf_write_locked(struct pf_inode *ip, uint64_t off, const uint8_t *buf, size_t len,
			unsigned int kill_priv)
{
	uint64_t at = off, safe = off, end = off + len, size = pf_inode_size(ip);	/* safe: durable up to here */
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_fs *fs = ip->fs;
	struct plan pl = { .n = 0 };
	int err = pf_inode_settle(ip), failed = 0;

	if (!err)
		err = pf_xattr_kill_cap(ip);
	if (!err && off > size)
		err = pf_inode_zero_tail(ip, size);
	while (at < end && !err) {
		uint64_t fblk = at >> PF_BLK_SHIFT, stop, nbad;
		struct pf_ext e, part;

		if (pl.n == BATCH) {
			failed = commit_all(ip, &pl, at, kill_priv);
			if (failed)
				break;
			safe = at;
		}
		err = pf_bm_lookup(&bm, fblk, &e);
		if (err)
			break;
		if (e.len == 0 || e.key > fblk) {
			uint64_t last = ((end - 1) >> PF_BLK_SHIFT) + 1;

			if (e.len != 0)
				last = pf_min64(last, e.key);
			err = reserve(ip, fblk, last - fblk, &part);
			if (err)
				break;
			stop = pf_min64(end, (part.key + part.len) << PF_BLK_SHIFT);
			fill(fs, &part, at, stop, buf + (at - off), true);
			pl.p[pl.n++] = (struct piece){ .ext = part, .is = RESERVED };
		} else if (bad_blocks(ip, &e, at, end, &nbad)) {
			if (nbad == 0) {
				err = -EIO;
				break;
			}
			err = reserve(ip, fblk, nbad, &part);
			if (err)
				break;
			stop = pf_min64(end, (part.key + part.len) << PF_BLK_SHIFT);
			fill(fs, &part, at, stop, buf + (at - off), true);
			pl.p[pl.n++] = (struct piece){ .ext = part, .is = RESERVED, .replaces = true };
		} else {
			/* bad_blocks() has cut it short in front of the first bad one. */
			stop = pf_min64(end, (e.key + e.len) << PF_BLK_SHIFT);
			part = (struct pf_ext){ fblk, e.dblk + (fblk - e.key),
						(uint32_t)(PF_DIV_UP(stop, PF_BLK_SIZE) - fblk), 0 };
			fill(fs, &part, at, stop, buf + (at - off), e.flags & PF_REC_UNWRITTEN);
			if (e.flags & PF_REC_UNWRITTEN)
				pl.p[pl.n++] = (struct piece){ .ext = part, .is = UNWRITTEN };
		}
		at = stop;
	}
	/* What was done stays, also when the rest failed: a short write. */
	if (!failed && at > safe) {
		failed = pl.n != 0 || at > pf_inode_size(ip) ? commit_all(ip, &pl, at, kill_priv) :
							       touch(ip, kill_priv);
		if (!failed)
			safe = at;
	}
	return safe > off ? (ssize_t)(safe - off) : failed ? failed : err;
}

/* Filling holes without data: fallocate, faults. */
int pf_fill_holes(struct pf_inode *ip, uint64_t fblk, uint64_t nblk, uint32_t flags, uint64_t size)
{
	uint64_t end = fblk + nblk, hole_end, n;
	struct plan pl = { .n = 0 };
	struct pf_run run;
	int err = pf_inode_settle(ip);

	while (fblk < end && !err) {
		struct pf_bm bm = pf_inode_bm(ip, NULL);
		struct pf_ext e, part;

		if (pl.n == BATCH) {
			err = commit_all(ip, &pl, 0, SIZE_LAST);
			continue;
		}
		err = pf_bm_lookup(&bm, fblk, &e);
		if (err)
			break;
		if (e.len != 0 && e.key <= fblk) {
			fblk = e.key + e.len;
			continue;
		}
		hole_end = e.len != 0 ? e.key : UINT64_MAX;
		n = pf_min64(end, hole_end) - fblk;
		/* Page by page, as faults do: in a window of its own, so that files do not interleave. */
		if (!(flags & PF_REC_UNWRITTEN) && pf_ahead_take(ip, fblk, n, hole_end, &run))
			part = (struct pf_ext){ fblk, run.dblk, (uint32_t)run.nblk, 0 };
		else
			err = reserve(ip, fblk, n, &part);
		if (err)
			break;
		part.flags = flags;
		if (!(flags & PF_REC_UNWRITTEN))
			pf_pm_zero(ip->fs->pm, part.dblk << PF_BLK_SHIFT, (uint64_t)part.len << PF_BLK_SHIFT);
		pl.p[pl.n++] = (struct piece){ .ext = part, .is = RESERVED };
		fblk = part.key + part.len;
	}
	if (!err && (pl.n != 0 || size > pf_inode_size(ip)))
		err = commit_all(ip, &pl, size, SIZE_LAST);
	drop_plan(ip->fs, &pl);
	return err;
}

/* The request ------------------------------------------------------------------------------------------------ */

/* Lock held. Where the bytes go, and how many fit. */
static int place(struct pf_areq *r)
{
	struct pf_inode *ip = r->inode;

	if (pf_inode_immutable(ip))
		return -EPERM;
	if (r->write.append)
		r->write.off = pf_inode_size(ip);
	else if (pf_inode_sealed(ip) && r->write.off < pf_inode_size(ip))
		return -EPERM;
	if (r->write.off >= PF_FILE_MAX)
		return -EFBIG;
	r->write.len = (size_t)pf_min64(r->write.len, PF_FILE_MAX - r->write.off);
	return 0;
}

static int prepare(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	uint64_t from;
	int err;

	pf_rwlock_rdlock(&ip->lock);
	err = place(r);
	/* Growth over a gap makes the pages of the gap reachable as well. */
	from = pf_min64(r->write.off, pf_inode_size(ip));
	pf_rwlock_unlock(&ip->lock);
	if (!err)
		pf_areq_map(r, from, r->write.off + r->write.len - from);
	return err;
}

static int work(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	ssize_t n;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	err = place(r);		/* the end may have moved, never inside this range: growth is a break too */
	n = err ? err : pf_write_locked(ip, r->write.off, r->write.buf, r->write.len, r->write.kill_priv);
	pf_rwlock_unlock(&ip->lock);
	r->res = n;
	return n < 0 ? (int)n : 0;
}

int pf_op_write_init(struct pf_areq *r)
{
	struct pf_inode *ip = r->inode;
	bool yes = false;
	int err = 0;

	if (!pf_inode_isreg(ip))
		return pf_inode_isdir(ip) ? -EISDIR : -EINVAL;
	if (r->write.len == 0)
		return 1;
	if (!r->write.append && r->write.off < PF_FILE_MAX && r->write.len <= PF_FILE_MAX - r->write.off) {
		pf_rwlock_wrlock(&ip->lock);
		err = place(r);
		if (!err)
			err = pf_write_in_place(ip, r->write.off, r->write.len, &yes);
		if (yes)
			r->res = pf_write_locked(ip, r->write.off, r->write.buf, r->write.len, r->write.kill_priv);
		pf_rwlock_unlock(&ip->lock);
		if (err || yes)
			return err ? err : 1;
	}
	r->brk.kind = PF_BRK_MAP;
	r->brk.what = "write";
	r->brk.b_prepare = prepare;
	r->brk.b_work = work;
	return 0;
}
