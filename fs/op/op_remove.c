/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_remove.c - unlink and rmdir.
 *
 * One transaction removes the name and, with the last link, puts the inode on the orphan list. It never waits for
 * pins and needs no space: the blocks go when the last reference does. Takes INODE: the directory, then the inode.
 */
#include "op/name.h"

#include <errno.h>
#include "base/fail.h"
#include "obj/orphan.h"

/* What must hold before the name goes. Both are locked. */
static int may_remove(const struct pf_inode *dir, const struct pf_inode *ip, bool rmdir)
{
	if (pf_inode_sealed(dir) || pf_inode_sealed(ip))
		return -EPERM;
	if (!rmdir)
		return pf_inode_isdir(ip) ? -EISDIR : 0;
	if (!pf_inode_isdir(ip))
		return -ENOTDIR;
	return pf_dir_empty(ip) ? 0 : -ENOTEMPTY;
}

static int remove_tx(struct pf_inode *dir, struct pf_inode *ip, const char *name, const struct pf_dirent *de)
{
	struct pf_d_inode *dd;
	struct pf_tx *tx;
	int err;

	err = pf_tx_begin(dir->fs, &tx);
	if (err != 0)
		return err;
	err = pf_inode_edit(tx, dir, &dd);
	if (err == 0)
		err = pf_link_drop(tx, ip, pf_inode_isdir(ip) ? 2 : 1);
	if (err == 0)
		err = pf_dir_del_seen(tx, dir, name, de);
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	pf_dir_changed(dd, pf_inode_isdir(ip) ? -1 : 0);
	return pf_tx_commit(tx);
}

static int remove_name(struct pf_fs *fs, uint64_t dir, const char *name, bool rmdir)
{
	struct pf_inode *dp, *ip = NULL;
	struct pf_dirent de;
	int err;

	err = pf_fs_writable(fs);
	if (err == 0)
		err = pf_name_check(name);
	if (err == 0)
		err = pf_inode_get(fs, dir, &dp);
	if (err != 0)
		return err;
	pf_rwlock_wrlock(&dp->lock);
	err = pf_dir_check(dp, false);
	if (err == 0)
		err = pf_dir_find(dp, NULL, name, &de);
	if (err == 0)
		err = pf_name_inode(dp, &de, &ip);
	if (err == 0) {
		pf_rwlock_wrlock_more(&ip->lock);
		err = may_remove(dp, ip, rmdir);
		while (err == 0) {
			err = remove_tx(dp, ip, name, &de);
			if (err != -EAGAIN)
				break;
			err = pf_orph_grow(fs);
		}
		pf_rwlock_unlock_more(&ip->lock);
	}
	pf_rwlock_unlock(&dp->lock);
	pf_inode_put(ip);
	pf_inode_put(dp);
	return err;
}

int pf_op_unlink(struct pf_fs *fs, uint64_t dir, const char *name)
{
	return remove_name(fs, dir, name, false);
}

int pf_op_rmdir(struct pf_fs *fs, uint64_t dir, const char *name)
{
	return remove_name(fs, dir, name, true);
}
