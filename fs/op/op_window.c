/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_window.c - what the session side needs of a file: a reference, its extents, blocks under a page.
 *
 * Takes and drops INODE itself. Gates, grants and pins are op_map's and op_pin's.
 */
#include <errno.h>
#include <string.h>

#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "op/areq.h"

int pf_op_iget(struct pf_fs *fs, uint64_t ino, uint32_t gen, struct pf_inode **out)
{
	struct pf_inode *ip;
	int err;

	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	if (ip->gen != gen) {
		pf_inode_put(ip);
		return -ESTALE;
	}
	*out = ip;
	return 0;
}

void pf_op_iput(struct pf_fs *fs, struct pf_inode *ip)
{
	(void)fs;
	pf_inode_put(ip);
}

struct pf_lobj *pf_inode_lobj(struct pf_inode *ip)
{
	return &ip->lobj;
}

uint64_t pf_op_size(struct pf_inode *ip)
{
	uint64_t size;

	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	pf_rwlock_unlock(&ip->lock);
	return size;
}

uint64_t pf_inode_ino(const struct pf_inode *ip)
{
	return ip->ino;
}

/* Add an extent, joined to the one before when both offsets go on there. False: no room. */
static bool add_dext(struct pf_dext *ext, unsigned int *n, unsigned int room, struct pf_dext e)
{
	struct pf_dext *last = *n > 0 ? &ext[*n - 1] : NULL;

	if (last != NULL && last->foff + last->len == e.foff && last->doff + last->len == e.doff) {
		last->len += e.len;
		return true;
	}
	if (*n == room)
		return false;
	ext[(*n)++] = e;
	return true;
}

/* Pages [fblk, + n) lie at @dblk, the good ones; the others are listed as bad. False: no room. */
static bool add_pages(struct pf_fs *fs, struct pf_dext *ext, unsigned int *used, unsigned int room, uint64_t fblk,
		      uint64_t dblk, uint64_t n)
{
	while (n > 0) {
		uint64_t behind = 0, bad = pf_bad_first(fs, dblk, n, &behind);
		uint64_t m = bad == PF_BAD_NONE ? n : bad > dblk ? bad - dblk : behind - dblk;
		uint64_t doff = bad == dblk ? PF_DEXT_BAD : dblk << PF_BLK_SHIFT;

		if (!add_dext(ext, used, room, (struct pf_dext){ fblk << PF_BLK_SHIFT, doff, m << PF_BLK_SHIFT }))
			return false;
		fblk += m;
		dblk += m;
		n -= m;
	}
	return true;
}

int pf_op_extents(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len, struct pf_dext *ext,
		  unsigned int *n, uint64_t *size)
{
	const unsigned int room = *n;
	unsigned int used = 0;
	uint64_t fblk, last;
	struct pf_ext e;
	struct pf_bm bm;
	int err = 0;

	pf_rwlock_rdlock(&ip->lock);
	bm = pf_inode_bm(ip, NULL);
	*size = pf_inode_size(ip);
	fblk = foff >> PF_BLK_SHIFT;
	last = PF_DIV_UP(pf_min64(len > UINT64_MAX - foff ? UINT64_MAX : foff + len, *size), PF_BLK_SIZE);
	if (pf_inode_torn(ip))
		err = -EIO;
	while (err == 0 && fblk < last) {
		uint64_t a, b;

		err = pf_bm_lookup(&bm, fblk, &e);
		if (err != 0 || e.len == 0)
			break;
		a = pf_max64(fblk, e.key);
		b = pf_min64(last, e.key + e.len);
		if (a < b && !(e.flags & PF_REC_UNWRITTEN) &&
		    !add_pages(fs, ext, &used, room, a, e.dblk + (a - e.key), b - a))
			break;
		fblk = e.key + e.len;
	}
	pf_rwlock_unlock(&ip->lock);
	if (err == 0)
		*n = used;
	return err;
}

/* Lock held exclusively. True when the chunk that begins at @first lies below the end of file and nothing in it is
 * written: no client can have been shown a block of it. */
static bool chunk_is_blank(struct pf_inode *ip, uint64_t first)
{
	const uint64_t end = first + PF_CHUNK_BLKS;
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;

	if (end << PF_BLK_SHIFT > pf_inode_size(ip))
		return false;
	for (uint64_t fblk = first; fblk < end; fblk = e.key + e.len) {
		if (pf_bm_lookup(&bm, fblk, &e) != 0)
			return false;
		if (e.len == 0 || e.key >= end)
			return true;
		if (!(e.flags & PF_REC_UNWRITTEN))
			return false;
	}
	return true;
}

/* Unwritten blocks that have gone bad leave the file: others take their place. */
static int leave_bad_unwritten(struct pf_inode *ip, uint64_t fblk, uint64_t end)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t bad, behind = 0, n, dblk;
	struct pf_ext e;
	int err = 0;

	while (err == 0 && fblk < end && pf_bad_any(ip->fs)) {
		err = pf_bm_lookup(&bm, fblk, &e);
		if (err != 0 || e.len == 0 || e.key >= end)
			break;
		fblk = pf_max64(fblk, e.key);
		n = pf_min64(e.key + e.len, end) - fblk;
		dblk = e.dblk + (fblk - e.key);
		bad = e.flags & PF_REC_UNWRITTEN ? pf_bad_first(ip->fs, dblk, n, &behind) : PF_BAD_NONE;
		if (bad != PF_BAD_NONE) {
			err = pf_inode_punch(ip, (fblk + (bad - dblk)) << PF_BLK_SHIFT, (behind - bad) << PF_BLK_SHIFT);
			n = behind - dblk;
		}
		fblk += n;
	}
	return err;
}

/* Unwritten pages of [fblk, end) become zeroed, written ones, a transaction each extent. */
static int write_zeros(struct pf_inode *ip, uint64_t fblk, uint64_t end)
{
	int err = 0;

	while (fblk < end && !err) {
		struct pf_bm bm = pf_inode_bm(ip, NULL);
		uint64_t to, done_to = 0;
		struct pf_d_inode *di;
		struct pf_tx *tx;
		struct pf_ext e;

		err = pf_bm_lookup(&bm, fblk, &e);
		if (err || e.len == 0 || e.key >= end)
			break;
		to = pf_min64(e.key + e.len, end);
		fblk = pf_max64(fblk, e.key);
		if (!(e.flags & PF_REC_UNWRITTEN)) {
			fblk = to;
			continue;
		}
		pf_pm_zero(ip->fs->pm, (e.dblk + (fblk - e.key)) << PF_BLK_SHIFT, (to - fblk) << PF_BLK_SHIFT);
		err = PF_DRAIN(ip->fs->pm, FAULT);
		if (!err)
			err = pf_inode_begin(ip, &tx, &di);
		if (err)
			break;
		bm = pf_inode_bm(ip, tx);
		err = pf_bm_mark(&bm, fblk, to - fblk, 0, &done_to);
		if (err) {
			pf_tx_abort(tx);
			break;
		}
		pf_inode_blocks(ip, bm.node_delta);
		pf_set_mtime(di, pf_now());
		pf_set_ctime(di, pf_now());
		err = pf_tx_commit(tx);
		fblk = done_to;
	}
	return err;
}

/* Lock held exclusively. The bytes of [first, + 512) to @to, zeros where nothing is written. */
static int copy_chunk(struct pf_inode *ip, uint64_t first, uint64_t to)
{
	const uint64_t end = first + PF_CHUNK_BLKS;
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_pm *pm = ip->fs->pm;
	struct pf_ext e;
	int err;

	for (uint64_t at = first, n; at < end; at += n, to += n) {
		err = pf_bm_lookup(&bm, at, &e);
		if (err != 0)
			return err;
		n = (e.len == 0 ? end : pf_min64(e.key > at ? e.key : e.key + e.len, end)) - at;
		if (e.len == 0 || e.key > at || (e.flags & PF_REC_UNWRITTEN)) {
			pf_pm_zero(pm, to << PF_BLK_SHIFT, n << PF_BLK_SHIFT);
			continue;
		}
		if (pf_bad_first(ip->fs, e.dblk + (at - e.key), n, NULL) != PF_BAD_NONE)
			return -EIO;
		pf_pm_write(pm, to << PF_BLK_SHIFT, pf_pm_at(pm, (e.dblk + (at - e.key)) << PF_BLK_SHIFT),
			    n << PF_BLK_SHIFT);
	}
	return PF_DRAIN(pm, FAULT);
}

/* From @at on, up to @end: what one record holds, or one hole, gives way to blocks from @dblk on. *next: where that
 * ended. */
static int swap_piece(struct pf_inode *ip, uint64_t at, uint64_t end, uint64_t dblk, uint64_t *next)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t freed = 0, done_to;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	struct pf_ext e;
	int err = pf_bm_lookup(&bm, at, &e);

	*next = at;
	if (err != 0)
		return err;
	done_to = e.len == 0 ? end : pf_min64(e.key > at ? e.key : e.key + e.len, end);
	err = pf_inode_begin(ip, &tx, &di);
	if (err != 0)
		return err;
	*next = done_to;		/* from here on the blocks are the transaction's, also when it fails */
	bm = pf_inode_bm(ip, tx);
	err = pf_tx_use(tx, (struct pf_run){ dblk, *next - at });
	if (!err && e.len != 0 && e.key <= at)
		err = pf_bm_remove(&bm, at, *next - at, false, &done_to, &freed);
	if (!err && done_to != *next)
		err = -EFBIG;
	if (!err)
		err = pf_bm_insert(&bm, &(struct pf_ext){ at, dblk, (uint32_t)(*next - at), 0 });
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	pf_inode_blocks(ip, bm.node_delta + (int64_t)(*next - at) - (int64_t)freed);
	return pf_tx_commit(tx);
}

/* A crash in between leaves the chunk in pieces, each with the same bytes. */
int pf_op_whole(struct pf_inode *ip, uint64_t foff)
{
	const uint64_t first = foff >> PF_BLK_SHIFT, end = first + PF_CHUNK_BLKS;
	uint64_t at = first, next;
	struct pf_run run;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	err = pf_alloc_reserve(ip->fs, PF_CHUNK_BLKS, PF_CHUNK_BLKS, 0, PF_ALLOC_ALIGN, &run);
	if (err != 0)
		goto out;
	err = run.dblk % PF_CHUNK_BLKS == 0 ? copy_chunk(ip, first, run.dblk) : -ENOSPC;
	for (; !err && at < end; at = next)
		err = swap_piece(ip, at, end, run.dblk + (at - first), &next);
	if (at < end)
		pf_alloc_unreserve(ip->fs, (struct pf_run){ run.dblk + (at - first), end - at });
out:
	pf_rwlock_unlock(&ip->lock);
	return err;
}

int pf_op_alloc_pages(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	uint64_t fblk = foff >> PF_BLK_SHIFT, end = (foff + len + PF_BLK_SIZE - 1) >> PF_BLK_SHIFT;
	uint64_t first = pf_round_down(fblk, PF_CHUNK_BLKS);
	struct pf_space sp;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	if (end > PF_DIV_UP(pf_inode_size(ip), PF_BLK_SIZE)) {
		err = -EFAULT;
	} else {
		pf_alloc_stat(fs, &sp);
		/* As the kernel's PMD fault: a blank chunk is filled as a whole, aligned if it is a hole, space
		 * permitting. */
		if (chunk_is_blank(ip, first) && sp.free >= 2 * PF_CHUNK_BLKS) {
			fblk = first;
			end = pf_max64(end, first + PF_CHUNK_BLKS);
		}
		err = leave_bad_unwritten(ip, fblk, end);
		if (!err)
			err = pf_fill_holes(ip, fblk, end - fblk, 0, 0);
		if (!err)
			err = write_zeros(ip, fblk, end);
	}
	pf_rwlock_unlock(&ip->lock);
	return err;
}

static bool same_time(const struct timespec *t, struct pf_when w)
{
	return (uint64_t)t->tv_sec == w.sec && (uint32_t)t->tv_nsec == w.ns;
}

int pf_op_stored(struct pf_fs *fs, struct pf_inode *ip)
{
	const struct pf_when now = pf_now();
	struct pf_d_inode *di;
	struct pf_tx *tx;
	struct stat st;
	int err = 0;

	(void)fs;
	pf_rwlock_wrlock(&ip->lock);
	pf_inode_stat(ip, &st);
	/* The clock ticks a few hundred times a second: many faults find nothing to change. */
	if (same_time(&st.st_mtim, now) && same_time(&st.st_ctim, now))
		goto out_unlock;
	err = pf_inode_begin(ip, &tx, &di);
	if (!err) {
		pf_set_mtime(di, now);
		pf_set_ctime(di, now);
		err = pf_tx_commit(tx);
	}
out_unlock:
	pf_rwlock_unlock(&ip->lock);
	return err;
}
