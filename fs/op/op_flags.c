/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_flags.c - chattr(1)'s flags, project numbers, and all that statx(2) shows.
 *
 * Takes INODE. Whether the caller may change immutable and append-only is the kernel's to check (CAP_LINUX_IMMUTABLE);
 * what the flags forbid is checked in the verbs, since FUSE cannot tell the kernel of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fail.h"
#include "op/flags.h"
#include "op/op.h"

int pf_op_fileattr_get(struct pf_fs *fs, uint64_t ino, struct pf_fileattr *out)
{
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	*out = (struct pf_fileattr){ pf_inode_flags(ip) & PF_FLAGS_ALL, pf_get32(ip->d.i_projid), ip->gen };
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return 0;
}

int pf_op_fileattr_set(struct pf_fs *fs, uint64_t ino, uint32_t mask, bool set_projid, const struct pf_fileattr *fa)
{
	struct pf_inode *ip;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	int err = pf_fs_writable(fs);

	if (!err && (fa->flags & mask & ~PF_FLAGS_ALL))
		err = -EOPNOTSUPP;
	if (!err)
		err = pf_inode_get(fs, ino, &ip);
	if (err)
		return err;
	if (pf_flags_for(fa->flags & mask, ip->fmt) != (fa->flags & mask)) {
		err = -EOPNOTSUPP;
		goto out_put;
	}
	pf_rwlock_wrlock(&ip->lock);
	/* Stores through a window cannot be checked one by one, so there must be none that may store. */
	if ((fa->flags & mask & (FS_IMMUTABLE_FL | FS_APPEND_FL)) && !pf_inode_sealed(ip) && pf_lay_writers(&ip->lobj))
		err = -EBUSY;
	else
		err = pf_inode_begin(ip, &tx, &di);
	if (!err) {
		di->i_flags = pf_put32((pf_get32(di->i_flags) & ~mask) | (fa->flags & mask));
		if (set_projid)
			di->i_projid = pf_put32(fa->projid);
		pf_set_ctime(di, pf_now());
		err = pf_tx_commit(tx);
	}
	pf_rwlock_unlock(&ip->lock);
out_put:
	pf_inode_put(ip);
	return err;
}

int pf_op_open_check(struct pf_fs *fs, uint64_t ino, bool append, bool trunc)
{
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	if (pf_inode_immutable(ip) || (pf_inode_sealed(ip) && (!append || trunc)))
		err = -EPERM;
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

static struct statx_timestamp stamp(struct timespec t)
{
	return (struct statx_timestamp){ .tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec };
}

static uint64_t attributes(uint32_t flags, bool dax)
{
	return (flags & FS_IMMUTABLE_FL ? STATX_ATTR_IMMUTABLE : 0) | (flags & FS_APPEND_FL ? STATX_ATTR_APPEND : 0) |
	       (flags & FS_NODUMP_FL ? STATX_ATTR_NODUMP : 0) | (dax ? STATX_ATTR_DAX : 0);
}

struct pinfs_statx pf_statx_of(struct pf_inode *ip)
{
	const uint64_t known = (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP | STATX_ATTR_DAX) &
			       ~ip->fs->opts.statx_hide;
	const bool dax = pf_dax_now(ip);
	struct pinfs_statx px = { .px_ino = ip->ino, .px_mask = known };

	pf_rwlock_rdlock(&ip->lock);
	px.px_attributes = attributes(pf_inode_flags(ip), dax) & known;
	pf_rwlock_unlock(&ip->lock);
	return px;
}

int pf_op_statx(struct pf_fs *fs, uint64_t ino, struct statx *stx)
{
	struct pinfs_statx px;
	struct pf_inode *ip;
	struct stat st;
	int err = pf_inode_get(fs, ino, &ip);

	if (err)
		return err;
	px = pf_statx_of(ip);
	pf_rwlock_rdlock(&ip->lock);
	pf_inode_stat(ip, &st);
	*stx = (struct statx){
		.stx_mask = STATX_BASIC_STATS | STATX_BTIME,
		.stx_blksize = (uint32_t)st.st_blksize,
		.stx_attributes = px.px_attributes,
		.stx_attributes_mask = px.px_mask,
		.stx_nlink = (uint32_t)st.st_nlink,
		.stx_uid = st.st_uid,
		.stx_gid = st.st_gid,
		.stx_mode = (uint16_t)st.st_mode,
		.stx_ino = st.st_ino,
		.stx_size = (uint64_t)st.st_size,
		.stx_blocks = (uint64_t)st.st_blocks,
		.stx_atime = stamp(st.st_atim),
		.stx_mtime = stamp(st.st_mtim),
		.stx_ctime = stamp(st.st_ctim),
		.stx_btime = { .tv_sec = (int64_t)pf_get64(ip->d.i_btime), .tv_nsec = pf_get32(ip->d.i_btime_ns) },
		.stx_rdev_major = major(st.st_rdev),
		.stx_rdev_minor = minor(st.st_rdev),
	};
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return 0;
}
