/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_read.c - looking at a file's data: read, holes, sync, and what the session side needs of an inode.
 *
 * Takes INODE shared (exclusively to allocate pages). A read hands out pointers into the device and keeps the lock until
 * pf_op_read_end(), so the blocks under them stay the file's until the answer has been copied out.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "media/pmem.h"
#include "op/areq.h"

#define DAY 86400U

static uint8_t zeros[65536];	/* never written; not const only because struct iovec is not */

int pf_op_read_begin(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, struct pf_rd *rd)
{
	struct pf_inode *ip;
	uint64_t size, end;
	struct pf_bm bm;
	struct pf_ext e = { 0 };
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
		return err;
	if (!pf_inode_isreg(ip)) {
		pf_inode_put(ip);
		return pf_inode_isdir(ip) ? -EISDIR : -EINVAL;
	}
	pf_rwlock_rdlock(&ip->lock);
	rd->inode = ip;
	rd->n = 0;
	rd->got = 0;
	size = pf_inode_size(ip);
	end = off < size ? off + pf_min64(len, size - off) : off;
	bm = pf_inode_bm(ip, NULL);
	while (off < end && rd->n < PF_RD_IOV) {
		uint64_t fblk = off >> PF_BLK_SHIFT, stop = end;
		uint8_t *from = zeros;

		if (e.len == 0 || fblk >= e.key + e.len) {
			err = pf_bm_lookup(&bm, fblk, &e);
			if (err)
				break;
		}
		if (e.len != 0 && e.key <= fblk) {
			stop = pf_min64(end, (e.key + e.len) << PF_BLK_SHIFT);
			if (!(e.flags & PF_REC_UNWRITTEN))
				from = pf_pm_at(fs->pm, (e.dblk << PF_BLK_SHIFT) + (off - (e.key << PF_BLK_SHIFT)));
		} else if (e.len != 0) {
			stop = pf_min64(end, e.key << PF_BLK_SHIFT);
		}
		if (from == zeros)
			stop = pf_min64(stop, off + sizeof zeros);
		rd->iov[rd->n++] = (struct iovec){ from, (size_t)(stop - off) };
		rd->got += (size_t)(stop - off);
		off = stop;
	}
	if (err && rd->got == 0) {
		pf_rwlock_unlock(&ip->lock);
		pf_inode_put(ip);
		return err;
	}
	return 0;
}

/* relatime: the access time follows when it is behind the last change, or a day old. */
static bool atime_due(const struct pf_d_inode *di, struct pf_when now)
{
	uint64_t a = pf_get64(di->i_atime), m = pf_get64(di->i_mtime), c = pf_get64(di->i_ctime);
	uint32_t ans = pf_get32(di->i_atime_ns);

	return (int64_t)a < (int64_t)m || (a == m && ans <= pf_get32(di->i_mtime_ns)) || (int64_t)a < (int64_t)c ||
	       (a == c && ans <= pf_get32(di->i_ctime_ns)) || now.sec - a >= DAY;
}

static void touch_atime(struct pf_inode *ip)
{
	struct pf_when now = pf_now();
	struct pf_d_inode *di;
	struct pf_tx *tx;

	pf_rwlock_wrlock(&ip->lock);
	if (atime_due(&ip->d, now) && pf_tx_begin(ip->fs, &tx) == 0) {
		if (pf_inode_edit(tx, ip, &di) == 0) {
			pf_set_atime(di, now);
			/* An access time that could not be stored is not an error of the read. */
			(void)!pf_tx_commit(tx);
		} else {
			pf_tx_abort(tx);
		}
	}
	pf_rwlock_unlock(&ip->lock);
}

void pf_op_read_end(struct pf_fs *fs, struct pf_rd *rd)
{
	struct pf_inode *ip = rd->inode;
	bool due = !fs->opts.ro && rd->got != 0 && atime_due(&ip->d, pf_now());

	pf_rwlock_unlock(&ip->lock);
	if (due)
		touch_atime(ip);
	pf_inode_put(ip);
}

int pf_op_lseek(struct pf_fs *fs, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	struct pf_inode *ip;
	uint64_t size, at = off >> PF_BLK_SHIFT;
	bool data = whence == SEEK_DATA;
	struct pf_bm bm;
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	err = pf_inode_get(fs, ino, &ip);
	if (err)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	bm = pf_inode_bm(ip, NULL);
	if (off >= size)
		err = -ENXIO;
	while (!err) {
		struct pf_ext e;
		bool is_data;

		err = pf_bm_lookup(&bm, at, &e);
		if (err)
			break;
		is_data = e.len != 0 && e.key <= at && !(e.flags & PF_REC_UNWRITTEN);
		if (is_data == data) {
			*out = pf_max64(off, at << PF_BLK_SHIFT);
			break;
		}
		if (e.len == 0) {		/* one hole up to the end */
			err = -ENXIO;
			break;
		}
		at = e.key > at ? e.key : e.key + e.len;
		if (at << PF_BLK_SHIFT >= size) {
			if (data)
				err = -ENXIO;
			else
				*out = size;	/* the hole behind the end of every file */
			break;
		}
	}
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

/* The session side ------------------------------------------------------------------------------------------------ */

int pf_op_iget(struct pf_fs *fs, uint64_t ino, uint32_t gen, struct pf_inode **out)
{
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
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

uint64_t pf_inode_ino(const struct pf_inode *ip)
{
	return ip->ino;
}

int pf_op_extents(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len, struct pf_dext *ext, unsigned int *n,
		  uint64_t *size)
{
	uint64_t fblk = foff >> PF_BLK_SHIFT, end = (foff + len) >> PF_BLK_SHIFT;
	unsigned int room = *n, k = 0;
	struct pf_bm bm;
	int err = 0;

	(void)fs;
	pf_rwlock_rdlock(&ip->lock);
	bm = pf_inode_bm(ip, NULL);
	*size = pf_inode_size(ip);
	end = pf_min64(end, PF_DIV_UP(*size, PF_BLK_SIZE));
	while (fblk < end && k < room) {
		uint64_t from, to;
		struct pf_ext e;

		err = pf_bm_lookup(&bm, fblk, &e);
		if (err || e.len == 0 || e.key >= end)
			break;
		from = pf_max64(e.key, fblk);
		to = pf_min64(e.key + e.len, end);
		fblk = to;
		if (!(e.flags & PF_REC_UNWRITTEN))
			ext[k++] = (struct pf_dext){ from << PF_BLK_SHIFT, (e.dblk + (from - e.key)) << PF_BLK_SHIFT,
						     (to - from) << PF_BLK_SHIFT };
	}
	pf_rwlock_unlock(&ip->lock);
	*n = k;
	return err;
}

/* Lock held exclusively. True when the whole chunk of @fblk is one hole below the end of file. */
static bool chunk_is_hole(struct pf_inode *ip, uint64_t fblk)
{
	uint64_t first = pf_round_down(fblk, PF_CHUNK_BLKS);
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;

	return (first + PF_CHUNK_BLKS) << PF_BLK_SHIFT <= pf_inode_size(ip) && pf_bm_lookup(&bm, first, &e) == 0 &&
	       (e.len == 0 || e.key >= first + PF_CHUNK_BLKS);
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
		err = pf_tx_begin(ip->fs, &tx);
		if (err)
			break;
		err = pf_inode_edit(tx, ip, &di);
		if (!err) {
			bm = pf_inode_bm(ip, tx);
			err = pf_bm_mark(&bm, fblk, to - fblk, 0, &done_to);
		}
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
		/* As the kernel's PMD fault: a chunk that is one hole is filled with one aligned chunk, space permitting. */
		if (chunk_is_hole(ip, fblk) && sp.free >= 2 * PF_CHUNK_BLKS) {
			fblk = pf_min64(fblk, first);
			end = pf_max64(end, first + PF_CHUNK_BLKS);
		}
		err = pf_fill_holes(ip, fblk, end - fblk, 0, 0);
		if (!err)
			err = write_zeros(ip, fblk, end);
	}
	pf_rwlock_unlock(&ip->lock);
	return err;
}
