/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * itable.h - inode numbers and where their 512 bytes lie. The table grows cluster by cluster, never shrinks.
 *
 * Locks: a cluster header is locked (ITAB) from pf_itab_alloc()/pf_itab_free() to the end of the transaction. At most
 * one of the two a transaction, and before any orphan block.
 */
#ifndef PF_SPACE_ITABLE_H
#define PF_SPACE_ITABLE_H

#include "media/journal.h"

int pf_itab_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_itab_fini(struct pf_fs *fs);

/* A free number: marked used in this transaction. *gen is the generation to give it, *doff its place. @near: parent
 * directory, a hint. -EAGAIN: no free number is left; abort, pf_itab_grow(), begin anew. */
int pf_itab_alloc(struct pf_tx *tx, uint64_t near, uint64_t *ino, uint32_t *gen, uint64_t *doff) PF_MUST_CHECK;
/* Add a cluster, in a transaction of its own. -ENOSPC. */
int pf_itab_grow(struct pf_fs *fs) PF_MUST_CHECK;
int pf_itab_free(struct pf_tx *tx, uint64_t ino) PF_MUST_CHECK;
int pf_itab_free_many(struct pf_tx *tx, const uint64_t *ino, unsigned int n) PF_MUST_CHECK;	/* of one cluster */
/* A copy of inode @ino, verified, and its place. Waits for a transaction that is giving the number out: an inode that
 * is half written is never seen. The caller keeps everyone else from changing it (the inode cache: one load a number,
 * and edits only of loaded ones). -ESTALE: no such inode in use. -EUCLEAN. */
int pf_itab_read(struct pf_fs *fs, uint64_t ino, struct pf_d_inode *out, uint64_t *doff) PF_MUST_CHECK;
/* Inodes in use and free in the clusters there are (statfs). The first call after mount reads every cluster's header.
 */
void pf_itab_stat(struct pf_fs *fs, uint64_t *used, uint64_t *room);

#endif
