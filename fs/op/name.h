/* SPDX-License-Identifier: BSD-3-Clause */
/* name.h - what the verbs on names have in common. Private to fs/op. */
#ifndef PF_OP_NAME_H
#define PF_OP_NAME_H

#include "obj/dir.h"
#include "op/op.h"

/* May this be the name of an entry? -EINVAL, -ENAMETOOLONG. */
int pf_name_check(const char *name);
/* Is it a directory that names can be looked up in (@alive: and made in)? -ENOTDIR, -ENOENT. Lock held. */
int pf_dir_check(const struct pf_inode *dir, bool alive);
/* The inode behind an entry, referenced. The directory's lock keeps the entry, so a number that leads nowhere is
 * damage. */
int pf_name_inode(struct pf_inode *dir, const struct pf_dirent *de, struct pf_inode **out);
/* Attributes into *@out; the caller's reference to @ip becomes the kernel's. No lock held. */
void pf_entry_give(struct pf_inode *ip, struct pf_entry *out);
/* One link less in this transaction; the last one makes it an orphan. -EAGAIN as pf_orph_add(). */
int pf_link_drop(struct pf_tx *tx, struct pf_inode *ip, unsigned int links);
/* A new inode in this transaction, with the access lists that @dir hands down, not in any directory. -EAGAIN as
 * pf_itab_alloc(). */
struct pf_recipe {
	const struct pf_cred *cred;
	mode_t mode;			/* with the type */
	dev_t rdev;
	const char *target;		/* symbolic links */
	bool nameless;			/* no links */
};
int pf_inode_make(struct pf_tx *tx, struct pf_inode *dir, const struct pf_recipe *r, uint64_t *ino);
/* A change of the directory's contents: mtime, ctime, and @subdirs more links. */
void pf_dir_changed(struct pf_d_inode *dir, int subdirs);

#endif
