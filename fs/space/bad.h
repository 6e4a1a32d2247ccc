/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bad.h - the list of bad blocks on the media: the tree of inode PF_INO_BAD, and what the allocator makes of it.
 *
 * A listed block is never given to anybody. One that is free when it is listed becomes the list's (HELD) in the same
 * transaction; one that a file, tree or directory gives back becomes so in the transaction that gives it back. What
 * is read, written or mapped of a listed block is not decided here: media/badset.h answers who asks.
 *
 * Changes are made one at a time (REGISTRY), each in as many transactions as it takes; a crash leaves the part that
 * was done.
 */
#ifndef PF_SPACE_BAD_H
#define PF_SPACE_BAD_H

#include "media/badset.h"
#include "space/alloc.h"

/* Reads the list, after pf_alloc_init(); a writable mount takes listed blocks that nobody owns. -EUCLEAN, -EIO. */
int pf_bad_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_bad_fini(struct pf_fs *fs);

/* List or forget blocks [dblk, dblk + nblk), any of the device; *changed of them were not listed, or were.
 * -EINVAL (no such blocks), -EROFS, -EIO, -ENOSPC, -ENOMEM, -EUCLEAN; *changed says what was done nevertheless. */
int pf_bad_add(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *changed) PF_MUST_CHECK;
int pf_bad_del(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *changed) PF_MUST_CHECK;

/* Up to @max records from block @from on, in order; *n of them. */
struct pf_bad_rec { uint64_t dblk, nblk; bool held; };
int pf_bad_list(struct pf_fs *fs, uint64_t from, struct pf_bad_rec *out, unsigned int max,
		unsigned int *n) PF_MUST_CHECK;

/* alloc_tx.c's: the transaction gives back @run, all of it listed. The first *held of its blocks become HELD; the
 * others could not, and are nobody's until the next mount. Before any MAP lock. */
int pf_bad_hold(struct pf_tx *tx, struct pf_run run, uint64_t *held) PF_MUST_CHECK;

#endif
