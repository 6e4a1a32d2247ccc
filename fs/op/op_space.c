/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_space.c - fallocate in its modes, and copy_file_range.
 *
 * Takes INODE exclusively, of two inodes in pf_inode_lock_many()'s order. Allocation shows new pages (a MAP
 * break), punch and zero take blocks out of the file or zero them (a CUT). Partial pages at the edges of a
 * punched or zeroed range are zeroed in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "media/pmem.h"
#include "obj/reap.h"
#include "obj/xattr.h"
#include "op/areq.h"
#include "op/atime.h"

#define COPY_MAX (UINT64_C(8) << 20)	/* one request: the lock is not held for longer than that takes */

/* The whole pages inside [off, off + len). */
static void inner(uint64_t off, uint64_t len, uint64_t *from, uint64_t *to)
{
	*from = pf_round_up(off, PF_BLK_SIZE);
	*to = pf_max64(*from, pf_round_down(off + len, PF_BLK_SIZE));
}

static int zero_edges(struct pf_inode *ip, uint64_t off, uint64_t len)
{
	uint64_t from, to, end = off + len;
	int err = 0;

	inner(off, len, &from, &to);
	if (from >= end)			/* inside one page */
		return pf_zero_in_place(ip, off, len);
	if (off < from)
		err = pf_zero_in_place(ip, off, from - off);
	if (!err && to < end)
		err = pf_zero_in_place(ip, to, end - to);
	return err;
}

/* Times (and size) of a range that had nothing to allocate or free. */
static int touch(struct pf_inode *ip, uint64_t size)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	int err = pf_inode_begin(ip, &tx, &di);

	if (err)
		return err;
	if (size > pf_get64(di->i_size))
		di->i_size = pf_put64(size);
	pf_set_mtime(di, pf_now());
	pf_set_ctime(di, pf_now());
	return pf_tx_commit(tx);
}

int pf_drop_priv(struct pf_inode *ip, unsigned int kill)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	int err = pf_inode_begin(ip, &tx, &di);

	if (err)
		return err;
	pf_kill_priv(di, kill);
	pf_set_ctime(di, pf_now());
	return pf_tx_commit(tx);
}

/* Immutable files stay as they are; of append-only ones the end may be allocated, nothing cut or zeroed. Lock held. */
static int may_fallocate(const struct pf_inode *ip, int mode)
{
	if (pf_inode_immutable(ip))
		return -EPERM;
	return (mode & ~FALLOC_FL_KEEP_SIZE) && pf_inode_sealed(ip) ? -EPERM : 0;
}

/* Enough room for the holes of the range, or -ENOSPC before anything was taken. */
static int check_room(struct pf_inode *ip, uint64_t fblk, uint64_t end)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_space sp;
	uint64_t need = 0;

	while (fblk < end) {
		struct pf_ext e;
		int err = pf_bm_lookup(&bm, fblk, &e);

		if (err)
			return err;
		if (e.len == 0 || e.key >= end) {
			need += end - fblk;
			break;
		}
		if (e.key > fblk)
			need += e.key - fblk;
		fblk = e.key + e.len;
	}
	pf_alloc_stat(ip->fs, &sp);
	return need > sp.free + pf_ahead_blocks(ip->fs) ? -ENOSPC : 0;
}

static int allocate(struct pf_inode *ip, uint64_t off, uint64_t len, uint64_t size)
{
	uint64_t fblk = off >> PF_BLK_SHIFT, end = (off + len + PF_BLK_SIZE - 1) >> PF_BLK_SHIFT;
	uint64_t old = pf_inode_size(ip);
	int err = check_room(ip, fblk, end);

	if (!err && size > old)
		err = pf_inode_zero_tail(ip, old);
	if (!err)
		err = pf_fill_holes(ip, fblk, end - fblk, PF_REC_UNWRITTEN, size);
	return err ? err : touch(ip, size);
}

/* @leave: a device may still write to the old blocks, so they must not stay the file's: others take their place. So it
 * is with bad blocks. */
static int zero_range(struct pf_inode *ip, uint64_t off, uint64_t len, uint64_t size, bool leave)
{
	uint64_t from, to;
	int err = check_room(ip, off >> PF_BLK_SHIFT, PF_DIV_UP(off + len, PF_BLK_SIZE));

	if (!err)
		err = zero_edges(ip, off, len);
	inner(off, len, &from, &to);
	if (!err && from < to)
		err = leave || pf_has_bad(ip, from, to - from) ? pf_inode_punch(ip, from, to - from)
							       : pf_inode_unwrite(ip, from, to - from);
	return err ? err : allocate(ip, off, len, size);
}

static int punch(struct pf_inode *ip, uint64_t off, uint64_t len)
{
	uint64_t from, to;
	int err = zero_edges(ip, off, len);

	inner(off, len, &from, &to);
	if (!err)
		err = from < to ? pf_inode_punch(ip, from, to - from) : touch(ip, 0);
	return err;
}

static int fallocate_work(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	uint64_t off = r->fallocate.off, len = r->fallocate.len;
	uint64_t size = r->fallocate.mode & FALLOC_FL_KEEP_SIZE ? 0 : off + len;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	err = may_fallocate(ip, r->fallocate.mode);
	if (!err)
		err = pf_xattr_kill_cap(ip);
	if (!err && r->fallocate.kill_priv != 0)
		err = pf_drop_priv(ip, r->fallocate.kill_priv);
	if (err)
		;
	else if (r->fallocate.mode & FALLOC_FL_PUNCH_HOLE)
		err = punch(ip, off, len);
	else if (r->fallocate.mode & FALLOC_FL_ZERO_RANGE)
		err = zero_range(ip, off, len, size, b->policy.on_busy == PF_BUSY_DEFER);
	else
		err = allocate(ip, off, len, size);
	pf_rwlock_unlock(&ip->lock);
	return err;
}

/* Plain allocation, which takes nothing from the file. */
static bool grows(const struct pf_areq *r)
{
	return (r->fallocate.mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE)) == 0;
}

static int fallocate_prepare(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	uint64_t from = r->fallocate.off, end = from + r->fallocate.len, size;
	struct pf_space sp;
	int err;

	/* One call may ask for all there is: then what waits to be freed has to be. */
	pf_alloc_stat(b->fs, &sp);
	if (r->fallocate.len >> PF_BLK_SHIFT >= sp.free)
		(void)pf_reap_all(b->fs);
	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	err = may_fallocate(ip, r->fallocate.mode);
	pf_rwlock_unlock(&ip->lock);
	if (err)
		return err;
	if (!(r->fallocate.mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) && end > size)
		from = pf_min64(from, size);	/* the gap becomes reachable, the old tail is zeroed */
	if (b->kind == PF_BRK_CUT && !grows(r))
		pf_areq_cut(r, from, end - from);
	else if (b->kind == PF_BRK_CUT)
		pf_areq_cut(r, from, end > size ? end - from : 0);
	else if (end > size)
		pf_areq_map(r, from, end - from);
	/* else: unwritten blocks inside the file still read as zeros; nobody has to forget anything */
	return 0;
}

int pf_op_fallocate_init(struct pf_areq *r)
{
	const uint32_t answers = r->fs->opts.answers;
	uint64_t off = r->fallocate.off, len = r->fallocate.len;
	struct pf_inode *ip = r->inode;

	if ((answers & PF_ANSWER_NO_UNSHARE && r->fallocate.mode & FALLOC_FL_UNSHARE_RANGE) ||
	    (answers & PF_ANSWER_NO_SHIFT && r->fallocate.mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)))
		return -EOPNOTSUPP;
	switch (r->fallocate.mode) {
	case FALLOC_FL_COLLAPSE_RANGE:
	case FALLOC_FL_INSERT_RANGE:
		return pf_op_shift_init(r);
	case 0:		/* as virtiofs: it may grow, so nobody may have pinned it */
		r->brk.kind = answers & PF_ANSWER_GROW_BREAKS ? PF_BRK_CUT : PF_BRK_MAP;
		r->brk.what = "fallocate";
		break;
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_UNSHARE_RANGE:	/* nothing is ever shared: what is left is that writes find room */
	case FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE:
		r->brk.kind = PF_BRK_MAP;
		r->brk.what = "fallocate";
		break;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		r->brk.kind = PF_BRK_CUT;
		r->brk.what = "punch";
		break;
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		r->brk.kind = PF_BRK_CUT;
		r->brk.what = "zero-range";
		break;
	default:
		/* As the kernel's vfs_fallocate(): these do not go together with anything else. */
		return r->fallocate.mode &
			(FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE) ?
			-EINVAL : -EOPNOTSUPP;
	}
	if (pf_inode_isdir(ip))
		return -EISDIR;
	if (!pf_inode_isreg(ip))
		return -ENODEV;
	if (len == 0)
		return -EINVAL;
	if (!pf_range_ok(off, len, PF_FILE_MAX))
		return -EFBIG;
	r->brk.b_prepare = fallocate_prepare;
	r->brk.b_work = fallocate_work;
	return 0;
}

/* copy_file_range ------------------------------------------------------------------------------------------------ */

/* Both locks held. Copy piece by piece: the source bytes are the device's own, or zeros. */
static ssize_t copy_locked(struct pf_inode *src, uint64_t soff, struct pf_inode *dst, uint64_t doff, uint64_t len,
			   unsigned int kill_priv)
{
	static const uint8_t zeros[65536];
	struct pf_fs *fs = src->fs;
	uint64_t at = 0;

	while (at < len) {
		struct pf_bm bm = pf_inode_bm(src, NULL);
		uint64_t pos = soff + at, n = len - at;
		const uint8_t *from = zeros;
		struct pf_ext e;
		ssize_t got;
		int err = pf_bm_lookup(&bm, pos >> PF_BLK_SHIFT, &e);

		if (err)
			return at ? (ssize_t)at : err;
		if (e.len != 0 && e.key <= pos >> PF_BLK_SHIFT) {
			n = pf_min64(n, ((e.key + e.len) << PF_BLK_SHIFT) - pos);
			if (!(e.flags & PF_REC_UNWRITTEN)) {
				uint64_t at_dev = (e.dblk << PF_BLK_SHIFT) + (pos - (e.key << PF_BLK_SHIFT));

				from = pf_pm_at(fs->pm, at_dev);
				n = pf_readable(fs, at_dev, n);
				if (n == 0)
					return at ? (ssize_t)at : -EIO;
			}
		} else if (e.len != 0) {
			n = pf_min64(n, (e.key << PF_BLK_SHIFT) - pos);
		}
		if (from == zeros)
			n = pf_min64(n, sizeof zeros);
		got = pf_write_locked(dst, doff + at, from, (size_t)n, kill_priv);
		if (got <= 0)
			return at ? (ssize_t)at : got;
		at += (uint64_t)got;
	}
	return (ssize_t)at;
}

static int copy_work(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *v[2] = { r->inode2, r->inode };
	uint64_t len = r->copy.len, ssize;

	r->copy.src_atime = pf_atime_update(r->inode2);
	pf_inode_order(v, 2);
	pf_inode_lock_many(v, 2);
	ssize = pf_inode_size(r->inode2);
	len = r->copy.src_off < ssize ? pf_min64(len, ssize - r->copy.src_off) : 0;
	if (pf_inode_torn(r->inode2))
		r->res = -EIO;
	else if (pf_inode_immutable(r->inode) ||
		 (pf_inode_sealed(r->inode) && r->copy.dst_off < pf_inode_size(r->inode)))
		r->res = -EPERM;
	else
		r->res = copy_locked(r->inode2, r->copy.src_off, r->inode, r->copy.dst_off, len, r->copy.kill_priv);
	pf_inode_unlock_many(v, 2);
	return r->res < 0 ? (int)r->res : 0;
}

static int copy_prepare(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	uint64_t size, from;

	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	pf_rwlock_unlock(&ip->lock);
	from = pf_min64(r->copy.dst_off, size);
	pf_areq_map(r, from, r->copy.dst_off + r->copy.len - from);
	return 0;
}

int pf_op_copy_init(struct pf_areq *r)
{
	struct pf_inode *dst = r->inode, *src;
	int err = pf_inode_get(r->fs, r->copy.src_ino, &src);

	if (err)
		return err;
	r->inode2 = src;
	if (pf_inode_isdir(src) || pf_inode_isdir(dst))
		return -EISDIR;
	if (!pf_inode_isreg(src) || !pf_inode_isreg(dst))
		return -EINVAL;
	r->copy.len = (size_t)pf_min64(r->copy.len, COPY_MAX);
	if (r->copy.len == 0)
		return 1;
	if (r->copy.src_off > PF_FILE_MAX || !pf_range_ok(r->copy.dst_off, r->copy.len, PF_FILE_MAX))
		return -EFBIG;
	if (src == dst && pf_range_overlap(r->copy.src_off, r->copy.len, r->copy.dst_off, r->copy.len))
		return -EINVAL;
	r->brk.kind = PF_BRK_MAP;
	r->brk.what = "copy";
	r->brk.b_prepare = copy_prepare;
	r->brk.b_work = copy_work;
	return 0;
}
