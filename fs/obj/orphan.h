/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * orphan.h - the list, on the media, of inodes that a mount after a crash must look at: unlinked ones, and those with
 * an unfinished truncate or punch.
 *
 * Locks: one orphan block (ORPHAN) from pf_orph_add()/pf_orph_del() to the end of the transaction, so at most one of
 * the two a transaction, and after any inode cluster.
 */
#ifndef PF_OBJ_ORPHAN_H
#define PF_OBJ_ORPHAN_H

#include "obj/inode.h"

int pf_orph_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_orph_fini(struct pf_fs *fs);

/* Name the inode; nothing when it is named already. -EAGAIN: no free slot; abort, pf_orph_grow(), begin anew. */
int pf_orph_add(struct pf_tx *tx, struct pf_inode *ip) PF_MUST_CHECK;
int pf_orph_del(struct pf_tx *tx, struct pf_inode *ip) PF_MUST_CHECK;
/* Several that one block names. @v stays until the transaction has ended. */
int pf_orph_del_many(struct pf_tx *tx, struct pf_inode *const *v, unsigned int n) PF_MUST_CHECK;
/* One more block, in a transaction of its own. No transaction is open; INODE may be held. -ENOSPC. */
int pf_orph_grow(struct pf_fs *fs) PF_MUST_CHECK;

/* Mount: free or finish everything on the list. *n counts them. Errors of single inodes are logged and leave them
 * there. */
int pf_orph_process(struct pf_fs *fs, uint64_t *n) PF_MUST_CHECK;
/* Read-only mount: does any inode on the list have a half-done punch, so that its file cannot be read? */
int pf_orph_unreadable(struct pf_fs *fs, bool *yes) PF_MUST_CHECK;

/* Is the list empty? */
bool pf_orph_none(struct pf_fs *fs);

#endif
