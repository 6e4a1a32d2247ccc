/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.h - names of a directory: a tree of leaves by the hash of the name, O(log n) each.
 *
 * The caller holds the directory's lock: shared for reading, exclusive (and pf_inode_edit() done) for changes.
 * '.' and '..' are not stored. Names are 1..255 bytes; what they may be is checked in op/.
 */
#ifndef PF_OBJ_DIR_H
#define PF_OBJ_DIR_H

#include "obj/inode.h"

struct pf_dirent { uint64_t key, ino; uint8_t type; uint16_t off; };	/* type: DT_*; off: in its leaf, see below */

/* -ENOENT; then out->key is the one that the name may have, 0 if there is none. @tx: NULL, or the transaction that may
 * have changed the directory already. */
int pf_dir_find(struct pf_inode *dir, struct pf_tx *tx, const char *name, struct pf_dirent *out) PF_MUST_CHECK;
/* The name must not exist. -ENOSPC: no block for a leaf, or 256 names of one hash. Keeps i_nent, i_size, i_nblk. */
int pf_dir_add(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type) PF_MUST_CHECK;
int pf_dir_del(struct pf_tx *tx, struct pf_inode *dir, const char *name) PF_MUST_CHECK;
/* The same where the directory is as it was when pf_dir_find() looked, under the same exclusive lock, and filled @seen:
 * no leaf is searched again. To pf_dir_del_seen() the transaction may have added names before. */
int pf_dir_add_seen(struct pf_tx *tx, struct pf_inode *dir, const char *name, const struct pf_dirent *seen,
		    uint64_t ino, uint8_t type) PF_MUST_CHECK;
int pf_dir_del_seen(struct pf_tx *tx, struct pf_inode *dir, const char *name,
		    const struct pf_dirent *seen) PF_MUST_CHECK;
/* The name leads to another inode from now on. */
int pf_dir_set(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type) PF_MUST_CHECK;

/* A copy of the entries of one leaf, by ascending key, so that nothing is locked while they are handed out. */
#define PF_DIR_LEAF_MAX 168U
struct pf_dir_page {
	unsigned int n;
	struct { struct pf_dirent de; uint16_t name; } ent[PF_DIR_LEAF_MAX];	/* name: offset in names[] */
	char names[4096 + PF_DIR_LEAF_MAX];	/* each terminated */
};
/* Entries of the first leaf that has any with a key above @after; n 0: there are none. */
int pf_dir_read(struct pf_inode *dir, uint64_t after, struct pf_dir_page *page) PF_MUST_CHECK;

static inline bool pf_dir_empty(const struct pf_inode *dir) { return pf_get64(dir->d.i_nent) == 0; }

#endif
