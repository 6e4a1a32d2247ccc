/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_attr.c - attributes: stat, access, chmod, chown, times, statfs, and the size, which is a break of the layout.
 *
 * Takes INODE. A truncate that shrinks cuts the layout from the page of the new end on (its tail is zeroed); one that
 * grows cuts the last page when the old end is inside it (the same), and shows new pages. All that one request
 * changes becomes visible in one transaction.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "obj/reap.h"
#include "op/acl.h"
#include "op/areq.h"
#include "op/atime.h"
#include "space/itable.h"

static void set_time(struct pf_d_inode *di, void (*set)(struct pf_d_inode *, struct pf_when), const struct timespec *ts,
		     bool now)
{
	set(di, now ? pf_now() : (struct pf_when){ (uint64_t)ts->tv_sec, (uint32_t)ts->tv_nsec });
}

/* Everything but the size, into the shadow. */
static void apply(struct pf_d_inode *di, unsigned int set, const struct stat *st)
{
	uint32_t mode = pf_get32(di->i_mode);

	if (set & PF_SET_MODE)
		di->i_mode = pf_put32((mode & S_IFMT) | (st->st_mode & 07777));
	if (set & PF_SET_UID)
		di->i_uid = pf_put32(st->st_uid);
	if (set & PF_SET_GID)
		di->i_gid = pf_put32(st->st_gid);
	if ((set & PF_SET_KILL_PRIV) || ((set & (PF_SET_UID | PF_SET_GID)) && !(set & PF_SET_MODE)))
		pf_kill_priv(di, PF_KILL_PRIV | (set & PF_SET_KILL_SGID ? PF_KILL_SGID : 0));
	if (set & (PF_SET_ATIME | PF_SET_ATIME_NOW))
		set_time(di, pf_set_atime, &st->st_atim, set & PF_SET_ATIME_NOW);
	if (set & (PF_SET_MTIME | PF_SET_MTIME_NOW))
		set_time(di, pf_set_mtime, &st->st_mtim, set & PF_SET_MTIME_NOW);
	else if (set & PF_SET_SIZE)
		pf_set_mtime(di, pf_now());
	set_time(di, pf_set_ctime, &st->st_ctim, !(set & PF_SET_CTIME));
}

/* Lock held exclusively: one transaction for the attributes and for a size that does not shrink. A new mode takes the
 * access list along. */
static int commit_attrs(struct pf_inode *ip, unsigned int set, const struct stat *st)
{
	struct pf_xchange list = { .name = NULL };
	uint8_t blob[PF_ACL_BYTES];
	struct pf_d_inode *di;
	bool has_list = false;
	struct pf_tx *tx;
	int err = 0;

	if (set & PF_SET_MODE)
		err = pf_acl_for_mode(ip, st->st_mode, &list, blob, &has_list);
	if (!err && has_list)
		err = pf_xattr_prepare(ip->fs, &list);
	if (!err)
		err = pf_inode_begin(ip, &tx, &di);
	if (err)
		goto out_drop;
	if (has_list)
		err = pf_xattr_apply(tx, ip, &list);
	if (err) {
		pf_tx_abort(tx);
		goto out_drop;
	}
	if (set & PF_SET_SIZE)
		di->i_size = pf_put64((uint64_t)st->st_size);
	apply(di, set, st);
	err = pf_tx_commit(tx);
out_drop:
	pf_xattr_drop(ip->fs, &list);
	return err;
}

/* The rest of the request, in the transaction that makes a cut visible. */
static void apply_also(struct pf_d_inode *di, void *arg)
{
	struct pf_areq *r = arg;

	apply(di, r->setattr.set, &r->setattr.st);
}

/* What the VFS checks against inode flags, which FUSE has no way to tell it of. Lock held. */
static int may_set(const struct pf_inode *ip, unsigned int set)
{
	const unsigned int both_now = PF_SET_ATIME_NOW | PF_SET_MTIME_NOW;

	if (pf_inode_immutable(ip))
		return -EPERM;
	/* "Now" for both is what touch(1) does, and a matter of write permission alone. */
	if ((set & both_now) == both_now)
		set &= ~(PF_SET_ATIME | PF_SET_MTIME | both_now);
	set &= ~(PF_SET_CTIME | PF_SET_KILL_PRIV | PF_SET_KILL_SGID);
	return set != 0 && pf_inode_sealed(ip) ? -EPERM : 0;
}

/* Does this size take blocks from the file? Also the present one does, where fallocate has put some behind the end.
 * Lock held. */
static int cuts(struct pf_inode *ip, uint64_t want, bool *yes)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	uint64_t size = pf_inode_size(ip);
	struct pf_ext e;
	int err;

	*yes = want < size;
	if (want != size)
		return 0;
	err = pf_bm_lookup(&bm, PF_DIV_UP(size, PF_BLK_SIZE), &e);
	*yes = err == 0 && e.len != 0;
	return err;
}

static int change(struct pf_areq *r, struct pf_inode *ip)
{
	const struct pf_also also = { apply_also, r };
	unsigned int set = r->setattr.set;
	uint64_t size, want = (uint64_t)r->setattr.st.st_size;
	bool cut = false;
	int err;

	pf_rwlock_wrlock(&ip->lock);
	size = pf_inode_size(ip);
	err = may_set(ip, set);
	if (!err && (set & PF_SET_SIZE))
		err = cuts(ip, want, &cut);
	if (!err && (set & (PF_SET_SIZE | PF_SET_UID | PF_SET_GID)) && !pf_inode_isdir(ip))
		err = pf_xattr_kill_cap(ip);
	/* The cut below can take the mode along, but not a list. */
	if (!err && cut && (set & PF_SET_MODE) && pf_xattr_any(ip))
		err = commit_attrs(ip, PF_SET_MODE, &r->setattr.st);
	if (err)
		goto out_unlock;
	if (cut)
		err = pf_inode_truncate(ip, want, &also);
	else if ((set & PF_SET_SIZE) && want > size) {
		err = pf_inode_settle(ip);
		if (!err)
			err = pf_inode_zero_tail(ip, size);
	}
	if (!err && !cut)
		err = commit_attrs(ip, set, &r->setattr.st);
	if (!err)
		pf_inode_stat(ip, &r->setattr.st);
out_unlock:
	pf_rwlock_unlock(&ip->lock);
	return err;
}

static int prepare(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);
	struct pf_inode *ip = r->inode;
	uint64_t want = (uint64_t)r->setattr.st.st_size, size;
	bool cut = false;
	int err;

	pf_rwlock_rdlock(&ip->lock);
	size = pf_inode_size(ip);
	err = may_set(ip, r->setattr.set);	/* before anybody is asked to unmap anything */
	if (!err)
		err = cuts(ip, want, &cut);
	pf_rwlock_unlock(&ip->lock);
	if (err)
		return err;
	r->brk.drops = cut;
	r->brk.drop_foff = pf_round_up(want, PF_BLK_SIZE);
	if (cut)
		pf_areq_cut(r, want, UINT64_MAX);
	else	/* only the page in which the file ends now can have pins */
		pf_areq_cut(r, size, want - size);
	return 0;
}

static int work(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);

	return change(r, r->inode);
}

int pf_op_setattr_init(struct pf_areq *r)
{
	struct pf_inode *ip = r->inode;
	int err;

	if (r->op == PF_AOP_TRUNC_OPEN) {
		r->setattr.set = PF_SET_SIZE | (r->setattr.set & (PF_SET_KILL_PRIV | PF_SET_KILL_SGID));
		r->setattr.st.st_size = 0;
	}
	if (!(r->setattr.set & PF_SET_SIZE)) {
		err = change(r, ip);
		return err ? err : 1;
	}
	if (!pf_inode_isreg(ip))
		return pf_inode_isdir(ip) ? -EISDIR : -EINVAL;
	if (r->setattr.st.st_size < 0)
		return -EINVAL;
	if ((uint64_t)r->setattr.st.st_size > PF_FILE_MAX)
		return -EFBIG;
	r->brk.kind = PF_BRK_CUT;
	r->brk.what = "truncate";
	r->brk.b_prepare = prepare;
	r->brk.b_work = work;
	return 0;
}

int pf_op_getattr(struct pf_fs *fs, uint64_t ino, struct stat *st, uint32_t *gen)
{
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	pf_inode_stat(ip, st);
	pf_rwlock_unlock(&ip->lock);
	if (gen != NULL)
		*gen = ip->gen;
	pf_inode_put(ip);
	return 0;
}

/* The access list, else the classic nine bits. */
static bool allowed(struct pf_inode *ip, const struct pf_cred *c, int mask)
{
	uint32_t mode = pf_get32(ip->d.i_mode);
	struct pf_acl acl;
	int err;

	if (c->uid == 0)
		return !(mask & X_OK) || pf_inode_isdir(ip) || (mode & 0111) != 0;
	err = pf_xattr_any(ip) ? pf_acl_get(ip, PF_ACL_ACCESS, &acl) : -ENODATA;
	if (err != -ENODATA)
		return err == 0 && pf_acl_permits(&acl, pf_get32(ip->d.i_uid), pf_get32(ip->d.i_gid), c, mask) == 0;
	if (c->uid == pf_get32(ip->d.i_uid))
		mode >>= 6;
	else if (pf_in_group(c, pf_get32(ip->d.i_gid)))
		mode >>= 3;
	return ((uint32_t)mask & ~mode & 7) == 0;
}

int pf_op_access(struct pf_fs *fs, const struct pf_cred *c, uint64_t ino, int mask)
{
	struct pf_inode *ip;
	int err;

	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	if (!allowed(ip, c, mask & (R_OK | W_OK | X_OK)))
		err = -EACCES;
	else if (mask & W_OK)
		err = pf_fs_writable(fs);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

bool pf_atime_due(const struct pf_inode *ip)
{
	const struct pf_d_inode *d = &ip->d;
	int64_t a = (int64_t)pf_get64(d->i_atime), m = (int64_t)pf_get64(d->i_mtime), c = (int64_t)pf_get64(d->i_ctime);
	uint32_t ans = pf_get32(d->i_atime_ns);

	if (pf_fs_writable(ip->fs) != 0 || ip->fs->opts.atime == PF_ATIME_NEVER ||
	    (pf_inode_flags(ip) & FS_NOATIME_FL) || (ip->fs->opts.nodiratime && pf_inode_isdir(ip)))
		return false;
	if (ip->fs->opts.atime == PF_ATIME_STRICT)
		return a != (int64_t)pf_now().sec || ans != pf_now().ns;
	return a < m || (a == m && ans <= pf_get32(d->i_mtime_ns)) ||
	       a < c || (a == c && ans <= pf_get32(d->i_ctime_ns)) ||
	       (int64_t)pf_now().sec - a >= INT64_C(24) * 3600;
}

bool pf_atime_update(struct pf_inode *ip)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	bool due;

	pf_rwlock_rdlock(&ip->lock);
	due = pf_atime_due(ip);
	pf_rwlock_unlock(&ip->lock);
	if (!due)
		return false;
	pf_rwlock_wrlock(&ip->lock);
	due = pf_inode_begin(ip, &tx, &di) == 0;
	if (due) {
		pf_set_atime(di, pf_now());
		due = pf_tx_commit(tx) == 0;
	}
	pf_rwlock_unlock(&ip->lock);
	return due;
}

int pf_op_statfs(struct pf_fs *fs, struct statvfs *st)
{
	uint64_t used, room;
	struct pf_space sp;
	int err = pf_fs_readable(fs);

	if (err != 0)
		return err;
	(void)pf_reap_all(fs);
	pf_alloc_stat(fs, &sp);
	sp.free += pf_ahead_blocks(fs);		/* nobody has to do without them */
	pf_itab_stat(fs, &used, &room);
	memset(st, 0, sizeof *st);
	st->f_bsize = PF_BLK_SIZE;
	st->f_frsize = PF_BLK_SIZE;
	st->f_blocks = sp.total;
	st->f_bfree = sp.free + sp.kept;	/* the kept ones are free, but not for files */
	st->f_bavail = sp.free;
	/* The table grows, so the free blocks are room for inodes as well. */
	st->f_ffree = room + sp.free / PF_ICLU_BLKS * (PF_ICLU_SLOTS - PF_ICLU_FIRST);
	st->f_favail = st->f_ffree;
	st->f_files = used + st->f_ffree;
	st->f_fsid = fs->fsid;
	st->f_namemax = PF_NAME_MAX;
	return 0;
}
