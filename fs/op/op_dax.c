/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_dax.c - which files are DAX, and from when on.
 *
 * As in Linux: the flag is the file's, what it is called for is settled when the file comes into use, and a change of
 * the flag counts when the last one who uses the file has gone. In use is a file that the kernel has open (a mapping
 * keeps it open) or that a session has attached (a pin keeps it attached). Linux drops the inode from memory then;
 * here it is enough to look again when somebody asks next.
 *
 * Pages that the kernel has kept of the file are from another life: the blocks may have been stored to through windows
 * since. It is told with each open of this life to drop them, not with the first alone, since another open might be
 * through before it has. Takes INODE.
 */
#include <errno.h>

#include "op/flags.h"
#include "op/op.h"

/* Lock held exclusively. One that attaches meanwhile looks at the mode afterwards (op_map.c). */
static void settle(struct pf_inode *ip)
{
	if (ip->opens != 0 || ip->dax == pf_inode_wants_dax(ip) || pf_lay_attached(&ip->lobj))
		return;
	ip->dax = !ip->dax;
	ip->dax_fresh = true;
}

static int open_file(struct pf_fs *fs, uint64_t ino, bool created, struct pf_open *out)
{
	struct pf_inode *ip;
	int err;

	*out = (struct pf_open){ .dax = fs->opts.dax == PF_DAX_ALWAYS };
	if (fs->opts.dax != PF_DAX_INODE)
		return 0;		/* nothing changes, so nothing is counted */
	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_wrlock(&ip->lock);
	settle(ip);
	if (created && ip->opens == 0)
		ip->dax_fresh = false;
	ip->opens++;
	*out = (struct pf_open){ .dax = ip->dax, .fresh = ip->dax_fresh };
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return 0;
}

int pf_op_opened(struct pf_fs *fs, uint64_t ino, struct pf_open *out)
{
	return open_file(fs, ino, false, out);
}

int pf_op_created(struct pf_fs *fs, uint64_t ino, struct pf_open *out)
{
	return open_file(fs, ino, true, out);
}

void pf_op_released(struct pf_fs *fs, uint64_t ino)
{
	struct pf_inode *ip;

	if (fs->opts.dax != PF_DAX_INODE || pf_inode_get(fs, ino, &ip) != 0)
		return;
	pf_rwlock_wrlock(&ip->lock);
	if (ip->opens > 0 && --ip->opens == 0)
		ip->dax_fresh = false;	/* what the kernel has now is of this life */
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
}

bool pf_dax_now(struct pf_inode *ip)
{
	bool dax;

	if (ip->fs->opts.dax != PF_DAX_INODE)
		return ip->dax;
	pf_rwlock_wrlock(&ip->lock);
	settle(ip);
	dax = ip->dax;
	pf_rwlock_unlock(&ip->lock);
	return dax;
}

int pf_op_check_dax(struct pf_fs *fs, uint64_t ino)
{
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err != 0)
		return err;
	if (pf_inode_isdir(ip))
		err = -EISDIR;
	else if (!pf_inode_isreg(ip))
		err = -EINVAL;
	else if (!pf_dax_now(ip))
		err = -EOPNOTSUPP;
	pf_inode_put(ip);
	return err;
}
