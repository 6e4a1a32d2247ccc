/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_rename.c - rename, with RENAME_NOREPLACE, RENAME_EXCHANGE and RENAME_WHITEOUT, in one transaction.
 *
 * Locks: between two directories, NAME first: then nobody else moves a directory, and who is whose ancestor stays
 * true until the end. Then both directories, an ancestor before its descendant and else by number, then the inodes
 * concerned, directories before others and by number. An inode that is locked as a child is never an ancestor of
 * another one that is: such renames are refused before (EINVAL, ENOTEMPTY).
 */
#include "op/name.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include "base/fail.h"
#include "obj/orphan.h"
#include "op/flags.h"
#include "space/itable.h"

#define DEPTH_MAX 1000000U	/* a longer way to the root is a loop of a damaged image */

struct rename {
	struct pf_fs *fs;
	const struct pf_cred *cred;
	const char *oname, *nname;
	bool noreplace, exchange, whiteout;
	bool no_number;			/* why rename_tx() says -EAGAIN: the inode table is full */
	struct pf_inode *odir, *ndir;
	struct pf_dirent oseen, nseen;	/* what the names lead to, or that the new one is free */
	struct pf_inode *src, *tgt;	/* tgt: NULL when the new name is free */
	uint64_t trap;			/* child of one of the directories on the way to the other; 0: none */
	bool odir_above;		/* odir is an ancestor of ndir; else, with a trap, the other way round */
};

/* Is @above on the way from @below to the root? *step: its child on that way. Holds NAME, no INODE. */
static int is_above(struct pf_fs *fs, uint64_t above, uint64_t below, uint64_t *step)
{
	struct pf_inode *ip;
	uint64_t parent;
	int err;

	*step = 0;
	for (unsigned int depth = 0; below != PF_INO_ROOT; depth++) {
		if (depth == DEPTH_MAX)
			return -EUCLEAN;
		err = pf_inode_get(fs, below, &ip);
		if (err != 0)
			return err == -ESTALE ? -ENOENT : err;
		pf_rwlock_rdlock(&ip->lock);
		parent = pf_get64(ip->d.i_parent);
		pf_rwlock_unlock(&ip->lock);
		pf_inode_put(ip);
		if (parent == above) {
			*step = below;
			return 0;
		}
		below = parent;
	}
	return 0;
}

/* Lock the two directories in an order that nobody reverses. */
static void lock_dirs(struct rename *r)
{
	bool odir_first = r->trap != 0 ? r->odir_above : r->odir->ino < r->ndir->ino;
	struct pf_inode *const v[2] = { odir_first ? r->odir : r->ndir, odir_first ? r->ndir : r->odir };

	pf_inode_lock_many(v, 2);
}

static void unlock_dirs(struct rename *r)
{
	bool odir_first = r->trap != 0 ? r->odir_above : r->odir->ino < r->ndir->ino;
	struct pf_inode *const v[2] = { odir_first ? r->odir : r->ndir, odir_first ? r->ndir : r->odir };

	pf_inode_unlock_many(v, 2);
}

/*
 * What the two names lead to. The directories are locked. Refused here, before a child could turn out to be one of
 * the locked directories: moving one into its own subtree, replacing an ancestor. The order of the errors is the
 * kernel's.
 */
static int find_both(struct rename *r)
{
	bool exists;
	int err;

	err = pf_dir_check(r->odir, false);
	if (err == 0)
		err = pf_dir_check(r->ndir, true);
	if (err == 0)
		err = pf_dir_find(r->odir, NULL, r->oname, &r->oseen);
	if (err != 0)
		return err;
	err = pf_dir_find(r->ndir, NULL, r->nname, &r->nseen);
	if (err != 0 && err != -ENOENT)
		return err;
	exists = err == 0;
	if (exists && r->noreplace)
		return -EEXIST;
	if (!exists && r->exchange)
		return -ENOENT;
	if (r->trap != 0 && r->odir_above && r->oseen.ino == r->trap)
		return -EINVAL;
	if (r->trap != 0 && !r->odir_above && exists && r->nseen.ino == r->trap)
		return r->exchange ? -EINVAL : -ENOTEMPTY;
	err = pf_name_inode(r->odir, &r->oseen, &r->src);
	if (err == 0 && exists)
		err = pf_name_inode(r->ndir, &r->nseen, &r->tgt);
	return err;
}

/* Types, emptiness, link counts. Everything is locked. */
static int may_rename(const struct rename *r)
{
	const bool sdir = pf_inode_isdir(r->src), tdir = r->tgt != NULL && pf_inode_isdir(r->tgt);
	const bool moved = r->odir != r->ndir;

	/* An append-only directory takes new names, and lets none go. */
	if (pf_inode_sealed(r->odir) || pf_inode_sealed(r->src) || pf_inode_immutable(r->ndir) ||
	    (r->tgt != NULL && (pf_inode_sealed(r->ndir) || pf_inode_sealed(r->tgt))))
		return -EPERM;
	if (!pf_projid_fits(r->ndir, r->src) ||
	    (r->exchange && r->tgt != NULL && !pf_projid_fits(r->odir, r->tgt)))
		return -EXDEV;
	if (r->exchange) {
		if (moved && sdir && !tdir && pf_inode_nlink(r->ndir) >= PF_LINK_MAX)
			return -EMLINK;
		return moved && tdir && !sdir && pf_inode_nlink(r->odir) >= PF_LINK_MAX ? -EMLINK : 0;
	}
	if (r->tgt != NULL) {
		if (sdir && !tdir)
			return -ENOTDIR;
		if (!sdir && tdir)
			return -EISDIR;
		if (tdir && !pf_dir_empty(r->tgt))
			return -ENOTEMPTY;
	}
	return moved && sdir && !tdir && pf_inode_nlink(r->ndir) >= PF_LINK_MAX ? -EMLINK : 0;
}

static int change_names(struct pf_tx *tx, struct rename *r, uint64_t white)
{
	uint8_t stype = (uint8_t)IFTODT(r->src->fmt);
	int err;

	if (r->tgt == NULL)
		err = pf_dir_add_seen(tx, r->ndir, r->nname, &r->nseen, r->src->ino, stype);
	else
		err = pf_dir_set(tx, r->ndir, r->nname, r->src->ino, stype);
	if (err != 0)
		return err;
	if (r->exchange)
		return pf_dir_set(tx, r->odir, r->oname, r->tgt->ino, (uint8_t)IFTODT(r->tgt->fmt));
	if (white != 0)
		return pf_dir_set(tx, r->odir, r->oname, white, DT_CHR);
	return pf_dir_del_seen(tx, r->odir, r->oname, &r->oseen);
}

/* @ip lies in @dir now. */
static int moved_to(struct pf_tx *tx, struct pf_inode *ip, const struct pf_inode *dir)
{
	struct pf_d_inode *di;
	int err = pf_inode_edit(tx, ip, &di);

	if (err != 0)
		return err;
	if (pf_inode_isdir(ip))
		di->i_parent = pf_put64(dir->ino);
	pf_set_ctime(di, pf_now());
	return 0;
}

static int rename_tx(struct rename *r)
{
	const int sdir = pf_inode_isdir(r->src), tdir = r->tgt != NULL && pf_inode_isdir(r->tgt);
	const struct pf_recipe recipe = { .cred = r->cred, .mode = S_IFCHR };
	struct pf_d_inode *od, *nd;
	uint64_t white = 0;
	struct pf_tx *tx;
	int err;

	err = pf_tx_begin(r->fs, &tx);
	if (err != 0)
		return err;
	err = pf_inode_edit(tx, r->odir, &od);
	if (err == 0)
		err = pf_inode_edit(tx, r->ndir, &nd);
	if (err == 0 && r->whiteout)
		err = pf_inode_make(tx, r->odir, &recipe, &white);
	r->no_number = err == -EAGAIN;
	if (err == 0)
		err = change_names(tx, r, white);
	if (err == 0)
		err = moved_to(tx, r->src, r->ndir);
	if (err == 0 && r->exchange)
		err = moved_to(tx, r->tgt, r->odir);
	else if (err == 0 && r->tgt != NULL)
		err = pf_link_drop(tx, r->tgt, tdir ? 2 : 1);
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	pf_dir_changed(od, (r->exchange ? tdir : 0) - sdir);
	pf_dir_changed(nd, sdir - tdir);
	return pf_tx_commit(tx);
}

static int rename_locked(struct rename *r)
{
	struct pf_inode *child[2];
	int err;

	err = find_both(r);
	if (err != 0 || r->src == r->tgt)	/* two names of one file: nothing to do, says POSIX */
		return err;
	child[0] = r->src;
	child[1] = r->tgt;
	pf_inode_order(child, 2);
	pf_rwlock_wrlock_more(&child[0]->lock);
	if (child[1] != NULL)
		pf_rwlock_wrlock_more(&child[1]->lock);
	err = may_rename(r);
	while (err == 0) {
		err = rename_tx(r);
		if (err != -EAGAIN)
			break;
		err = r->no_number ? pf_itab_grow(r->fs) : pf_orph_grow(r->fs);
	}
	if (child[1] != NULL)
		pf_rwlock_unlock_more(&child[1]->lock);
	pf_rwlock_unlock_more(&child[0]->lock);
	return err;
}

/* Between two directories, and only then, it matters who is whose ancestor. */
static int find_trap(struct rename *r)
{
	int err;

	err = is_above(r->fs, r->odir->ino, r->ndir->ino, &r->trap);
	if (err != 0)
		return err;
	if (r->trap != 0) {
		r->odir_above = true;
		return 0;
	}
	return is_above(r->fs, r->ndir->ino, r->odir->ino, &r->trap);
}

int pf_op_rename(struct pf_fs *fs, const struct pf_cred *c, uint64_t odir, const char *oname, uint64_t ndir,
		 const char *nname, unsigned int flags)
{
	struct rename r = { .fs = fs, .cred = c, .oname = oname, .nname = nname,
			    .noreplace = flags & RENAME_NOREPLACE, .exchange = flags & RENAME_EXCHANGE,
			    .whiteout = flags & RENAME_WHITEOUT };
	int err;

	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (r.exchange && (r.noreplace || r.whiteout)))
		return -EINVAL;
	err = pf_fs_writable(fs);
	if (err == 0)
		err = pf_name_check(oname);
	if (err == 0)
		err = pf_name_check(nname);
	if (err == 0)
		err = pf_inode_get(fs, odir, &r.odir);
	if (err == 0)
		err = pf_inode_get(fs, ndir, &r.ndir);
	if (err == 0 && (!pf_inode_isdir(r.odir) || !pf_inode_isdir(r.ndir)))
		err = -ENOTDIR;
	if (err != 0)
		goto out_put;
	if (odir != ndir) {
		pf_mutex_lock(pf_icache_name_lock(fs));
		err = find_trap(&r);
	}
	if (err == 0) {
		lock_dirs(&r);
		err = rename_locked(&r);
		unlock_dirs(&r);
	}
	if (odir != ndir)
		pf_mutex_unlock(pf_icache_name_lock(fs));
out_put:
	/* The last reference of a replaced file may free it, which wants no lock held. */
	pf_inode_put(r.tgt);
	pf_inode_put(r.src);
	pf_inode_put(r.ndir);
	pf_inode_put(r.odir);
	return err;
}
