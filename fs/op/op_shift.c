/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_shift.c - fallocate's COLLAPSE_RANGE and INSERT_RANGE: what they may do, and the break that goes before.
 *
 * Every page from the offset on gets another block or another place, so it is a CUT of all of them, to the end and
 * beyond. Takes INODE exclusively for the work. How pages move is obj/shift.c's.
 *
 * Under on_busy=defer a pinned page that moves keeps its block: the transfer goes to the page it was started for, where
 * that page is then. What is collapsed leaves the file as with a punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "obj/xattr.h"
#include "op/areq.h"

/* Lock held. The same answers as ext4's, in its order. */
static int check(const struct pf_areq *r, const struct pf_inode *ip)
{
	const uint64_t off = r->fallocate.off, len = r->fallocate.len, size = pf_inode_size(ip);

	if (pf_get32(ip->d.i_flags) & (FS_IMMUTABLE_FL | FS_APPEND_FL))
		return -EPERM;
	if (r->fallocate.mode == FALLOC_FL_COLLAPSE_RANGE)
		return off + len >= size ? -EINVAL : 0;	/* up to the end is truncate's business */
	if (len > PF_FILE_MAX - size)
		return -EFBIG;
	return off >= size ? -EINVAL : 0;
}

static int prepare(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	int err;

	pf_rwlock_rdlock(&ip->lock);
	err = check(r, ip);
	pf_rwlock_unlock(&ip->lock);
	r->brk.drops = true;
	r->brk.drop_foff = r->fallocate.off;
	pf_areq_cut(r, r->fallocate.off, UINT64_MAX);
	return err;
}

static int work(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	err = check(r, ip);		/* anew: growth does not queue behind a cut */
	if (!err)
		err = pf_xattr_kill_cap(ip);
	if (!err && r->fallocate.kill_priv != 0)
		err = pf_drop_priv(ip, r->fallocate.kill_priv);
	if (!err && r->fallocate.mode == FALLOC_FL_COLLAPSE_RANGE)
		err = pf_inode_collapse(ip, r->fallocate.off, r->fallocate.len);
	else if (!err)
		err = pf_inode_insert(ip, r->fallocate.off, r->fallocate.len);
	pf_rwlock_unlock(&ip->lock);
	return err;
}

int pf_op_shift_init(struct pf_areq *r)
{
	const uint64_t off = r->fallocate.off, len = r->fallocate.len;

	if (pf_inode_isdir(r->inode))
		return -EISDIR;
	if (!pf_inode_isreg(r->inode))
		return -ENODEV;
	if (len == 0)
		return -EINVAL;
	if (!pf_range_ok(off, len, PF_FILE_MAX))
		return -EFBIG;
	if ((off | len) % PF_BLK_SIZE != 0)
		return -EINVAL;
	r->brk.kind = PF_BRK_CUT;
	r->brk.what = r->fallocate.mode == FALLOC_FL_COLLAPSE_RANGE ? "collapse-range" : "insert-range";
	r->brk.b_prepare = prepare;
	r->brk.b_work = work;
	return 0;
}
