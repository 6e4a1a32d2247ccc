/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_name.c - finding and making names: lookup, mknod, mkdir, symlink, link, readlink; files without a name.
 *
 * Each call is one transaction. Takes INODE: the directory exclusively, then the linked inode. Removing names is
 * op_remove.c's, moving them op_rename.c's.
 */
#include "op/name.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include "base/fail.h"
#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "obj/orphan.h"
#include "op/acl.h"
#include "op/atime.h"
#include "op/flags.h"
#include "op/policy.h"
#include "op/room.h"
#include "space/itable.h"

/* Blocks that nobody but unlink and truncate may take: making names stops a little before. */
#define SPARE_BLKS 4U

int pf_name_check(const char *name)
{
	size_t len = strnlen(name, PF_NAME_MAX + 1);

	if (len > PF_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return 0;
}

int pf_dir_check(const struct pf_inode *dir, bool alive)
{
	if (!pf_inode_isdir(dir))
		return -ENOTDIR;
	return alive && pf_inode_nlink(dir) == 0 ? -ENOENT : 0;
}

int pf_name_inode(struct pf_inode *dir, const struct pf_dirent *de, struct pf_inode **out)
{
	int err;

	err = de->ino == dir->ino ? -ESTALE : pf_inode_get(dir->fs, de->ino, out);
	if (err != -ESTALE)
		return err;
	pf_fs_fail(dir->fs, PF_FAULT_DAMAGE, "directory %" PRIu64 " names inode %" PRIu64 ", which is not in use",
		   dir->ino, de->ino);
	return -EUCLEAN;
}

void pf_entry_give(struct pf_inode *ip, struct pf_entry *out)
{
	out->ino = ip->ino;
	out->gen = ip->gen;
	pf_rwlock_rdlock(&ip->lock);
	pf_inode_stat(ip, &out->st);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_told(ip);
}

int pf_link_drop(struct pf_tx *tx, struct pf_inode *ip, unsigned int links)
{
	struct pf_d_inode *di;
	uint32_t n;
	int err;

	err = pf_inode_edit(tx, ip, &di);
	if (err != 0)
		return err;
	n = pf_get32(di->i_nlink);
	n -= n < links ? n : links;
	di->i_nlink = pf_put32(n);
	pf_set_ctime(di, pf_now());
	if (n == 0)
		pf_room_unlinked(ip->fs);
	return n == 0 && PF_STEP(ORPHAN_UNLINK) ? pf_orph_add(tx, ip) : 0;
}

void pf_dir_changed(struct pf_d_inode *dir, int subdirs)
{
	dir->i_nlink = pf_put32(pf_get32(dir->i_nlink) + (uint32_t)subdirs);
	pf_set_mtime(dir, pf_now());
	pf_set_ctime(dir, pf_now());
}

/* Not stored as names: an inode by its number, a directory's parent by what the directory says. */
static int lookup_dot(struct pf_fs *fs, uint64_t ino, bool parent, struct pf_entry *out)
{
	struct pf_inode *ip, *up;
	int err;

	err = ino < PF_INO_ROOT ? -ESTALE : pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	/* Unlinked, and not freed yet: a handle leads there no more. */
	err = pf_inode_nlink(ip) == 0 && !ip->linkable ? -ESTALE : parent ? pf_dir_check(ip, false) : 0;
	ino = pf_get64(ip->d.i_parent);
	pf_rwlock_unlock(&ip->lock);
	if (err != 0) {
		pf_inode_put(ip);
		return err;
	}
	if (parent) {
		err = pf_inode_get(fs, ino, &up);
		pf_inode_put(ip);
		if (err != 0)
			return err;
		ip = up;
	}
	pf_entry_give(ip, out);
	return 0;
}

int pf_op_lookup(struct pf_fs *fs, uint64_t dir, const char *name, struct pf_entry *out)
{
	struct pf_inode *dp, *ip = NULL;
	struct pf_dirent de;
	int err;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return lookup_dot(fs, dir, name[1] == '.', out);
	err = strlen(name) > PF_NAME_MAX ? -ENAMETOOLONG : pf_fs_readable(fs);
	if (err == 0)
		err = pf_inode_get(fs, dir, &dp);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&dp->lock);
	err = pf_dir_check(dp, false);
	if (err == 0)
		err = pf_dir_find(dp, NULL, name, &de);
	if (err == 0)
		err = pf_name_inode(dp, &de, &ip);
	pf_rwlock_unlock(&dp->lock);
	if (err == 0)
		pf_entry_give(ip, out);
	pf_inode_put(dp);
	return err;
}

void pf_op_forget(struct pf_fs *fs, uint64_t ino, uint64_t n)
{
	pf_inode_forget(fs, ino, n);
}

/* ---- making inodes ---- */

static int put_target(struct pf_tx *tx, struct pf_d_inode *di, uint64_t ino, const char *target)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	size_t len = strlen(target);
	struct pf_run run;
	struct pf_bm bm;
	int err;

	di->i_size = pf_put64(len);
	if (len <= PF_SYMLINK_INLINE) {
		memcpy(di->i_symlink, target, len + 1);
		return 0;
	}
	err = pf_alloc_reserve(fs, 1, 1, 0, 0, &run);
	if (err != 0)
		return err;
	pf_pm_write(fs->pm, run.dblk << PF_BLK_SHIFT, target, len);
	pf_pm_zero(fs->pm, (run.dblk << PF_BLK_SHIFT) + len, PF_BLK_SIZE - len);
	err = PF_DRAIN(fs->pm, SYMLINK);
	if (err != 0) {
		pf_alloc_unreserve(fs, run);
		return err;
	}
	err = pf_tx_use(tx, run);
	if (err != 0)
		return err;
	bm = (struct pf_bm){ .fs = fs, .tx = tx, .root = &di->i_root, .owner = ino, .gen = pf_get32(di->i_gen) };
	di->i_nblk = pf_put64(1);
	return pf_bm_insert(&bm, &(struct pf_ext){ .key = 0, .dblk = run.dblk, .len = 1 });
}

static int fill_inode(struct pf_tx *tx, struct pf_d_inode *di, uint64_t ino, const struct pf_inode *dir,
		      const struct pf_recipe *r, mode_t mode)
{
	const bool setgid = pf_get32(dir->d.i_mode) & S_ISGID;
	struct pf_when now = pf_now();

	if (setgid && S_ISDIR(mode))
		mode |= S_ISGID;
	di->i_mode = pf_put32(mode);
	di->i_uid = pf_put32(r->cred->uid);
	di->i_gid = setgid ? dir->d.i_gid : pf_put32(r->cred->gid);
	di->i_nlink = pf_put32(r->nameless ? 0 : S_ISDIR(mode) ? 2 : 1);
	di->i_flags = pf_put32(pf_flags_inherit(pf_inode_flags(dir), mode));
	if (pf_inode_flags(dir) & FS_PROJINHERIT_FL)
		di->i_projid = dir->d.i_projid;
	di->i_rdev = pf_put64(r->rdev);
	di->i_parent = pf_put64(S_ISDIR(mode) ? dir->ino : 0);
	pf_set_atime(di, now);
	pf_set_mtime(di, now);
	pf_set_ctime(di, now);
	di->i_btime = pf_put64(now.sec);
	di->i_btime_ns = pf_put32(now.ns);
	return r->target != NULL ? put_target(tx, di, ino, r->target) : 0;
}

/* The attributes that the new inode inherits, before anybody can see it without. */
static int put_attrs(struct pf_tx *tx, struct pf_d_inode *di, uint64_t doff, struct pf_xchange *x, unsigned int n)
{
	/* As much of an inode in memory as attributes need; nobody else knows of it. */
	struct pf_inode ip = { .fs = pf_tx_fs(tx), .ino = pf_get64(di->i_ino), .gen = pf_get32(di->i_gen),
			       .doff = doff, .sh = di };
	int err = 0;

	for (unsigned int i = 0; i < n && err == 0; i++) {
		err = pf_xattr_prepare(ip.fs, &x[i]);
		if (err == 0)
			err = pf_xattr_apply(tx, &ip, &x[i]);
		pf_xattr_drop(ip.fs, &x[i]);
	}
	return err;
}

int pf_inode_make(struct pf_tx *tx, struct pf_inode *dir, const struct pf_recipe *r, uint64_t *ino)
{
	struct pf_policy_new policy;
	struct pf_acl_new acl;
	uint64_t doff = 0;
	uint32_t gen;
	void *di = NULL;
	int err;

	policy.n = 0;
	err = pf_acl_inherit(dir, r->mode, r->cred->umask, &acl);
	if (err == 0)
		err = pf_policy_inherit(dir, r->mode, &policy);
	if (err == 0)
		err = pf_itab_alloc(tx, dir->ino, ino, &gen, &doff);
	if (err == 0)
		err = pf_tx_new(tx, PF_MD_INODE, doff, *ino, gen, &di);
	if (err == 0)
		err = fill_inode(tx, di, *ino, dir, r, acl.mode);
	if (err == 0)
		err = put_attrs(tx, di, doff, acl.x, acl.n);
	return err == 0 ? put_attrs(tx, di, doff, policy.x, policy.n) : err;
}

/* One attempt. -EAGAIN: there was no free inode number. The directory is locked and has no such name. */
static int make_tx(struct pf_inode *dir, const char *name, const struct pf_dirent *seen, const struct pf_recipe *r,
		   uint64_t *ino)
{
	struct pf_d_inode *dd;
	struct pf_tx *tx;
	int err;

	err = pf_tx_begin(dir->fs, &tx);
	if (err != 0)
		return err;
	err = pf_inode_edit(tx, dir, &dd);
	if (err == 0)
		err = pf_inode_make(tx, dir, r, ino);
	if (err == 0)
		err = pf_dir_add_seen(tx, dir, name, seen, *ino, (uint8_t)IFTODT(r->mode));
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	pf_dir_changed(dd, S_ISDIR(r->mode) ? 1 : 0);
	return pf_tx_commit(tx);
}

/* The name is free, as *seen says, and there is space for it. Lock held. */
static int may_make(struct pf_inode *dir, const char *name, bool subdir, struct pf_dirent *seen)
{
	struct pf_space sp;
	int err;

	err = pf_dir_check(dir, true);
	if (err != 0)
		return err;
	err = pf_dir_find(dir, NULL, name, seen);
	if (err != -ENOENT)
		return err == 0 ? -EEXIST : err;
	if (pf_inode_immutable(dir))
		return -EPERM;
	if (subdir && pf_inode_nlink(dir) >= PF_LINK_MAX)
		return -EMLINK;
	pf_alloc_stat(dir->fs, &sp);
	return sp.free < SPARE_BLKS ? -ENOSPC : 0;
}

static int make(struct pf_fs *fs, uint64_t dir, const char *name, const struct pf_recipe *r, struct pf_entry *out)
{
	struct pf_inode *dp, *ip = NULL, *spare;
	struct pf_dirent seen;
	uint64_t ino;
	int err;

	err = pf_fs_writable(fs);
	if (err == 0)
		err = pf_name_check(name);
	if (err == 0)
		err = pf_inode_get(fs, dir, &dp);
	if (err != 0)
		return err;
	spare = pf_inode_spare(fs);
	if (spare == NULL) {
		err = -ENOMEM;
		goto out_put;
	}
	(void)pf_room_wait(fs, SPARE_BLKS);
	pf_rwlock_wrlock(&dp->lock);
	err = may_make(dp, name, S_ISDIR(r->mode), &seen);
	while (err == 0) {
		err = make_tx(dp, name, &seen, r, &ino);
		if (err != -EAGAIN)
			break;
		err = pf_itab_grow(fs);
	}
	if (err == 0)
		err = pf_inode_get_new(fs, ino, &spare, &ip);
	pf_rwlock_unlock(&dp->lock);
	if (err == 0)
		pf_entry_give(ip, out);
	pf_inode_spare_free(spare);
out_put:
	pf_inode_put(dp);
	return err;
}

/* The number, and its place on the orphan list: a crash frees it. The directory is only where it would have been. */
static int nameless_tx(struct pf_inode *dir, const struct pf_recipe *r, struct pf_inode *spare, bool *numbers)
{
	struct pf_tx *tx;
	int err = pf_tx_begin(dir->fs, &tx);

	*numbers = true;
	if (err != 0)
		return err;
	err = pf_inode_make(tx, dir, r, &spare->ino);
	*numbers = err != -EAGAIN;
	if (err == 0)
		err = pf_orph_add(tx, spare);
	if (err == 0)
		return pf_tx_commit(tx);
	pf_tx_abort(tx);
	return err;
}

int pf_op_tmpfile(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, mode_t mode, bool linkable,
		  struct pf_entry *out)
{
	const struct pf_recipe r = { .cred = c, .mode = S_IFREG | (mode & 07777), .nameless = true };
	struct pf_inode *dp, *ip = NULL, *spare;
	struct pf_space sp;
	bool numbers;
	int err = pf_fs_writable(fs);

	if (err == 0)
		err = pf_inode_get(fs, dir, &dp);
	if (err != 0)
		return err;
	spare = pf_inode_spare(fs);
	if (spare == NULL) {
		err = -ENOMEM;
		goto out_put;
	}
	pf_rwlock_rdlock(&dp->lock);
	pf_alloc_stat(fs, &sp);
	err = pf_dir_check(dp, true);
	if (err == 0 && pf_inode_immutable(dp))
		err = -EPERM;
	if (err == 0 && sp.free < SPARE_BLKS)
		err = -ENOSPC;
	while (err == 0) {
		err = nameless_tx(dp, &r, spare, &numbers);
		if (err != -EAGAIN)
			break;
		err = numbers ? pf_orph_grow(fs) : pf_itab_grow(fs);
	}
	pf_rwlock_unlock(&dp->lock);
	if (err == 0) {
		spare->linkable = linkable;
		/* Nobody knows the number: what is found is what was made here. */
		err = pf_inode_get_new(fs, spare->ino, &spare, &ip);
	}
	if (err == 0)
		pf_entry_give(ip, out);
	pf_inode_spare_free(spare);
out_put:
	pf_inode_put(dp);
	return err;
}

int pf_op_mknod(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, mode_t mode, dev_t rdev,
		struct pf_entry *out)
{
	struct pf_recipe r = { .cred = c, .mode = mode & (S_IFMT | 07777) };

	switch (mode & S_IFMT) {
	case 0:
		r.mode |= S_IFREG;
		break;
	case S_IFCHR:
	case S_IFBLK:
		r.rdev = rdev;
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		return -EINVAL;
	}
	return make(fs, dir, name, &r, out);
}

int pf_op_mkdir(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, mode_t mode,
		struct pf_entry *out)
{
	const struct pf_recipe r = { .cred = c, .mode = S_IFDIR | (mode & 07777) };

	return make(fs, dir, name, &r, out);
}

int pf_op_symlink(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, const char *target,
		  struct pf_entry *out)
{
	const struct pf_recipe r = { .cred = c, .mode = S_IFLNK | 0777, .target = target };
	size_t len = strnlen(target, PATH_MAX);

	if (len == 0)
		return -ENOENT;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	return make(fs, dir, name, &r, out);
}

int pf_op_readlink(struct pf_fs *fs, uint64_t ino, char *buf, size_t size)
{
	struct pf_inode *ip;
	struct pf_ext e;
	struct pf_bm bm;
	uint64_t len;
	int err;

	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	len = pf_inode_size(ip);
	if (ip->fmt != S_IFLNK) {
		err = -EINVAL;
	} else if (len >= size || len >= PF_BLK_SIZE) {
		err = -EUCLEAN;
	} else if (len <= PF_SYMLINK_INLINE) {
		memcpy(buf, ip->d.i_symlink, len);
	} else {
		bm = pf_inode_bm(ip, NULL);
		err = pf_bm_lookup(&bm, 0, &e);
		if (err == 0 && (e.len == 0 || e.key != 0))
			err = -EUCLEAN;
		if (err == 0 && pf_bad_first(fs, e.dblk, 1, NULL) != PF_BAD_NONE)
			err = -EIO;
		if (err == 0)
			memcpy(buf, pf_pm_at(fs->pm, e.dblk << PF_BLK_SHIFT), len);
	}
	if (err == 0)
		buf[len] = '\0';
	pf_rwlock_unlock(&ip->lock);
	if (err == 0)
		(void)pf_atime_update(ip);
	pf_inode_put(ip);
	return err;
}

/* ---- hard links ---- */

static int link_tx(struct pf_inode *ip, struct pf_inode *dir, const char *name, const struct pf_dirent *seen)
{
	struct pf_d_inode *di, *dd;
	struct pf_tx *tx;
	int err;

	err = pf_tx_begin(dir->fs, &tx);
	if (err != 0)
		return err;
	err = pf_inode_edit(tx, dir, &dd);
	if (err == 0)
		err = pf_inode_edit(tx, ip, &di);
	if (err == 0)
		err = pf_dir_add_seen(tx, dir, name, seen, ip->ino, (uint8_t)IFTODT(ip->fmt));
	if (err == 0 && pf_inode_nlink(ip) == 0)
		err = pf_orph_del(tx, ip);
	if (err != 0) {
		pf_tx_abort(tx);
		return err;
	}
	di->i_nlink = pf_put32(pf_get32(di->i_nlink) + 1);
	pf_set_ctime(di, pf_now());
	pf_dir_changed(dd, 0);
	return pf_tx_commit(tx);
}

/* Both are locked. */
static int may_link(const struct pf_inode *ip, const struct pf_inode *dir)
{
	if (pf_inode_sealed(ip))
		return -EPERM;
	if (!pf_projid_fits(dir, ip))
		return -EXDEV;
	if (pf_inode_nlink(ip) == 0 && !ip->linkable)
		return -ENOENT;
	return pf_inode_nlink(ip) >= PF_LINK_MAX ? -EMLINK : 0;
}

int pf_op_link(struct pf_fs *fs, uint64_t ino, uint64_t dir, const char *name, struct pf_entry *out)
{
	struct pf_inode *v[2] = { NULL, NULL };		/* the directory, the inode */
	struct pf_dirent seen;
	int err;

	err = pf_fs_writable(fs);
	if (err == 0)
		err = pf_name_check(name);
	if (err == 0)
		err = pf_inode_get(fs, dir, &v[0]);
	if (err == 0)
		err = pf_inode_get(fs, ino, &v[1]);
	if (err != 0)
		goto out_put;
	if (pf_inode_isdir(v[1])) {
		err = -EPERM;
		goto out_put;
	}
	pf_inode_lock_many(v, 2);
	err = may_make(v[0], name, false, &seen);
	if (err == 0)
		err = may_link(v[1], v[0]);
	if (err == 0)
		err = link_tx(v[1], v[0], name, &seen);
	if (err == 0)
		v[1]->linkable = false;
	pf_inode_unlock_many(v, 2);
	if (err == 0) {
		pf_entry_give(v[1], out);
		v[1] = NULL;
	}
out_put:
	pf_inode_put(v[1]);
	pf_inode_put(v[0]);
	return err;
}
