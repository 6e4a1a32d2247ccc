/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flags.h - chattr(1)'s flags: which there are, who inherits them, what projects forbid, what statx(2) shows of them.
 * Private to fs/op.
 */
#ifndef PF_OP_FLAGS_H
#define PF_OP_FLAGS_H

#include <pinfs/xattr.h>
#include "obj/inode.h"

/* Synchronous needs no code, everything is; NODUMP is for backup programs. The rest is honoured where it is used. */
#define PF_FLAGS_ALL                                                                                                   \
	((uint32_t)(FS_SYNC_FL | FS_DIRSYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL |       \
		    FS_DAX_FL | FS_PROJINHERIT_FL))

/* Those that mean something for a type of file, as ext4 has it. */
static inline uint32_t pf_flags_for(uint32_t flags, mode_t mode)
{
	if (S_ISDIR(mode))
		return flags;
	if (S_ISREG(mode))
		return flags & ~(uint32_t)(FS_DIRSYNC_FL | FS_PROJINHERIT_FL);
	return flags & (FS_NODUMP_FL | FS_NOATIME_FL | FS_IMMUTABLE_FL | FS_APPEND_FL);
}

/* What a new file gets from its directory. */
static inline uint32_t pf_flags_inherit(uint32_t dir, mode_t mode)
{
	return pf_flags_for(dir & ~(uint32_t)(FS_IMMUTABLE_FL | FS_APPEND_FL), mode);
}

/* Is the file DAX at this moment? No lock held; takes INODE. */
bool pf_dax_now(struct pf_inode *ip);
/* PINFS_XATTR_STATX. No lock held. */
struct pinfs_statx pf_statx_of(struct pf_inode *ip);

/* A directory that hands its project down takes in nothing of another one. */
static inline bool pf_projid_fits(const struct pf_inode *dir, const struct pf_inode *ip)
{
	return !(pf_inode_flags(dir) & FS_PROJINHERIT_FL) || pf_get32(dir->d.i_projid) == pf_get32(ip->d.i_projid);
}

#endif
