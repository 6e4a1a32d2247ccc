/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_dir.c - reading directories, in the order of the names' keys, so that a position stays good whatever is added or
 * removed.
 *
 * One leaf at a time is copied under the directory's lock and handed out without it. A name that goes away in between
 * may still be shown, as POSIX allows.
 */
#include "op/name.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include "base/fail.h"
#include "op/atime.h"

enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2 };

/* One name with its attributes. True when it was taken. */
static bool give_plus(struct pf_fs *fs, const struct pf_dirent *de, const char *name, pf_dirent_fn fn, void *arg)
{
	struct pf_entry entry;
	struct pf_inode *ip;
	bool taken;

	/* Gone since the leaf was copied, or damaged: the name without attributes. */
	if (pf_inode_get(fs, de->ino, &ip) != 0)
		return fn(arg, name, de->ino, de->type, de->key, NULL);
	entry.ino = ip->ino;
	entry.gen = ip->gen;
	pf_rwlock_rdlock(&ip->lock);
	pf_inode_stat(ip, &entry.st);
	pf_rwlock_unlock(&ip->lock);
	taken = fn(arg, name, de->ino, de->type, de->key, &entry);
	if (taken)
		pf_inode_told(ip);
	else
		pf_inode_put(ip);
	return taken;
}

static bool give_page(struct pf_fs *fs, const struct pf_dir_page *page, bool plus, pf_dirent_fn fn, void *arg,
		      uint64_t *cookie)
{
	for (unsigned int i = 0; i < page->n; i++) {
		const struct pf_dirent *de = &page->ent[i].de;
		const char *name = page->names + page->ent[i].name;

		if (plus ? !give_plus(fs, de, name, fn, arg) : !fn(arg, name, de->ino, de->type, de->key, NULL))
			return false;
		*cookie = de->key;
	}
	return true;
}

/* '.' and '..', which no leaf has. False: full. */
static bool give_dots(struct pf_inode *dir, uint64_t parent, pf_dirent_fn fn, void *arg, uint64_t *cookie)
{
	if (*cookie < COOKIE_DOT) {
		if (!fn(arg, ".", dir->ino, DT_DIR, COOKIE_DOT, NULL))
			return false;
		*cookie = COOKIE_DOT;
	}
	if (*cookie < COOKIE_DOTDOT) {
		if (!fn(arg, "..", parent, DT_DIR, COOKIE_DOTDOT, NULL))
			return false;
		*cookie = COOKIE_DOTDOT;
	}
	return true;
}

int pf_op_readdir(struct pf_fs *fs, uint64_t dir, uint64_t cookie, unsigned int how, pf_dirent_fn fn, void *arg)
{
	const bool plus = how & PF_READDIR_PLUS;
	struct pf_dir_page *page;
	struct pf_inode *dp;
	uint64_t parent;
	bool more;
	int err;

	err = pf_fs_readable(fs);
	if (err == 0)
		err = pf_inode_get(fs, dir, &dp);
	if (err != 0)
		return err;
	page = malloc(sizeof *page);
	if (page == NULL) {
		err = -ENOMEM;
		goto out;
	}
	pf_rwlock_rdlock(&dp->lock);
	err = pf_dir_check(dp, false);
	parent = pf_get64(dp->d.i_parent);
	pf_rwlock_unlock(&dp->lock);
	more = err == 0 && give_dots(dp, parent, fn, arg, &cookie);
	while (more) {
		pf_rwlock_rdlock(&dp->lock);
		err = pf_dir_read(dp, cookie, page);
		pf_rwlock_unlock(&dp->lock);
		more = err == 0 && page->n != 0 && give_page(fs, page, plus, fn, arg, &cookie);
	}
	if (err == 0 && !(how & PF_READDIR_NOATIME))
		(void)pf_atime_update(dp);
	free(page);
out:
	pf_inode_put(dp);
	return err;
}
