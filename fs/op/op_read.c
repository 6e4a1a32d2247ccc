/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_read.c - reading without copying: read_begin/read_end, lseek, fsync.
 *
 * A read points at the device and holds INODE shared until its reply has been sent, so no truncate takes the blocks
 * away under it.
 */
#include <errno.h>
#include <unistd.h>

#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "op/atime.h"
#include "op/areq.h"

/* What holes and unwritten extents look like. Never written; in .bss it costs one shared page of zeros per page. */
#define ZEROS (UINT64_C(256) << 10)
static uint8_t zeros[ZEROS];

uint64_t pf_readable(struct pf_fs *fs, uint64_t doff, uint64_t len)
{
	uint64_t blk = doff >> PF_BLK_SHIFT, nblk = PF_DIV_UP(doff + len, PF_BLK_SIZE) - blk;
	uint64_t good = pf_bad_good(fs, blk, nblk);

	return good == nblk ? len : good == 0 ? 0 : ((blk + good) << PF_BLK_SHIFT) - doff;
}

/* Add a piece; joined to the one before when it goes on there. False: no room. */
static bool add_piece(struct pf_rd *rd, uint8_t *at, size_t len)
{
	struct iovec *last = rd->n > 0 ? &rd->iov[rd->n - 1] : NULL;

	if (last != NULL && at != zeros && (uint8_t *)last->iov_base + last->iov_len == at) {
		last->iov_len += len;
	} else {
		if (rd->n == PF_RD_IOV)
			return false;
		rd->iov[rd->n++] = (struct iovec){ .iov_base = at, .iov_len = len };
	}
	rd->got += len;
	return true;
}

static bool add_zeros(struct pf_rd *rd, uint64_t len)
{
	while (len > 0) {
		size_t n = (size_t)pf_min64(len, ZEROS);

		if (!add_piece(rd, zeros, n))
			return false;
		len -= n;
	}
	return true;
}

bool pf_has_bad(struct pf_inode *ip, uint64_t off, uint64_t len)
{
	uint64_t fblk = off >> PF_BLK_SHIFT, end = (off + len) >> PF_BLK_SHIFT;
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;

	for (; pf_bad_any(ip->fs) && fblk < end; fblk = e.key + e.len) {
		if (pf_bm_lookup(&bm, fblk, &e) != 0 || e.len == 0 || e.key >= end)
			return false;
		fblk = pf_max64(fblk, e.key);
		if (pf_bad_first(ip->fs, e.dblk + (fblk - e.key), pf_min64(end, e.key + e.len) - fblk, NULL) !=
		    PF_BAD_NONE)
			return true;
	}
	return false;
}

static int gather(struct pf_inode *ip, uint64_t off, uint64_t end, struct pf_rd *rd)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;
	uint64_t stop;
	bool room = true;
	int err = 0;

	while (off < end && room) {
		err = pf_bm_lookup(&bm, off >> PF_BLK_SHIFT, &e);
		if (err != 0)
			break;
		if (e.len == 0 || e.key > off >> PF_BLK_SHIFT) {
			stop = e.len == 0 ? end : pf_min64(end, e.key << PF_BLK_SHIFT);
			room = add_zeros(rd, stop - off);
		} else {
			stop = pf_min64(end, (e.key + e.len) << PF_BLK_SHIFT);
			if (e.flags & PF_REC_UNWRITTEN) {
				room = add_zeros(rd, stop - off);
			} else {
				uint64_t doff = (e.dblk << PF_BLK_SHIFT) + (off - (e.key << PF_BLK_SHIFT));
				uint64_t n = pf_readable(ip->fs, doff, stop - off);

				rd->bad = n < stop - off;
				room = (n == 0 || add_piece(rd, pf_pm_at(ip->fs->pm, doff), (size_t)n)) && !rd->bad;
			}
		}
		off = stop;
	}
	return err == 0 && rd->bad && rd->got == 0 ? -EIO : err;
}

static int begin(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, bool noatime, struct pf_rd *rd)
{
	struct pf_inode *ip;
	uint64_t size;
	int err;

	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	if (!pf_inode_isreg(ip)) {
		err = pf_inode_isdir(ip) ? -EISDIR : -EINVAL;
		goto out_put;
	}
	rd->n = 0;
	rd->got = 0;
	rd->bad = false;
	rd->inode = ip;
	/* Before the answer, so that whoever has it sees the time as well. */
	if (!noatime)
		(void)pf_atime_update(ip);
	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	if (pf_inode_torn(ip))
		err = -EIO;
	else if (off < size)
		err = gather(ip, off, off + pf_min64(len, size - off), rd);
	if (err == 0)
		return 0;
	pf_rwlock_unlock(&ip->lock);
out_put:
	pf_inode_put(ip);
	return err;
}

int pf_op_read_begin(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, struct pf_rd *rd)
{
	return begin(fs, ino, off, len, false, rd);
}

int pf_op_read_quiet(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, struct pf_rd *rd)
{
	return begin(fs, ino, off, len, true, rd);
}

void pf_op_read_end(struct pf_fs *fs, struct pf_rd *rd)
{
	struct pf_inode *ip = rd->inode;

	(void)fs;
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
}

/* ---- seek ---- */

/* The first byte at or behind @off that is data (@data) or a hole. An unwritten extent reads as zeros: a hole. */
static int seek(struct pf_inode *ip, uint64_t off, bool data, uint64_t *out)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	const uint64_t size = pf_inode_size(ip);
	struct pf_ext e;
	int err;

	while (off < size) {
		uint64_t fblk = off >> PF_BLK_SHIFT, stop;
		bool is_data;

		err = pf_bm_lookup(&bm, fblk, &e);
		if (err != 0)
			return err;
		is_data = e.len != 0 && e.key <= fblk && !(e.flags & PF_REC_UNWRITTEN);
		if (is_data == data)
			break;
		if (e.len == 0)
			stop = size;
		else
			stop = (e.key > fblk ? e.key : e.key + e.len) << PF_BLK_SHIFT;
		off = stop;
	}
	if (off >= size && data)
		return -ENXIO;
	*out = pf_min64(off, size);
	return 0;
}

int pf_op_lseek(struct pf_fs *fs, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	struct pf_inode *ip;
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	if (!pf_inode_isreg(ip))
		err = -EINVAL;
	else if (pf_inode_torn(ip))
		err = -EIO;
	else if (off >= pf_inode_size(ip))
		err = -ENXIO;
	else
		err = seek(ip, off, whence == SEEK_DATA, out);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

/* ---- durability of stores through windows ---- */

/* Flush the written blocks of [foff, foff + len) and wait for the medium. Lock shared. */
static int flush(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t end = pf_min64(len > UINT64_MAX - foff ? UINT64_MAX : foff + len, pf_inode_size(ip));
	uint64_t fblk = foff >> PF_BLK_SHIFT, last = PF_DIV_UP(end, PF_BLK_SIZE);
	struct pf_ext e;
	int err;

	while (fblk < last) {
		uint64_t a, b;

		err = pf_bm_lookup(&bm, fblk, &e);
		if (err != 0)
			return err;
		if (e.len == 0)
			break;
		a = pf_max64(fblk, e.key);
		b = pf_min64(last, e.key + e.len);
		if (a < b && !(e.flags & PF_REC_UNWRITTEN) && PF_STEP(FSYNC_FLUSH))
			pf_pm_flush(ip->fs->pm, (e.dblk + (a - e.key)) << PF_BLK_SHIFT, (b - a) << PF_BLK_SHIFT);
		fblk = e.key + e.len;
	}
	return PF_DRAIN(ip->fs->pm, FSYNC_DRAIN);
}

int pf_op_sync_range(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	int err;

	(void)fs;
	pf_rwlock_rdlock(&ip->lock);
	err = flush(ip, foff, len);
	pf_rwlock_unlock(&ip->lock);
	return err;
}

/* What write(2) stored is durable already; here it is about windows. */
int pf_op_fsync(struct pf_fs *fs, uint64_t ino, bool datasync)
{
	uint64_t foff, len;
	struct pf_inode *ip;
	int err;

	(void)datasync;		/* size and times are durable with every call that changes them */
	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	/* Taken before the look at the sessions: a grant in between notes its range anew. */
	pf_inode_take_dirty(ip, &foff, &len);
	if (len != 0 && !pf_lay_unshared(&ip->lobj))
		pf_inode_dirtied(ip, foff, len);
	if (len != 0 && !fs->opts.ro)
		err = pf_op_sync_range(fs, ip, foff, len);
	pf_inode_put(ip);
	return err;
}
