/* SPDX-License-Identifier: BSD-3-Clause */
/* cut.h - what cut.c and shift.c have in common: pieces of work that a recorded intent takes. Private to fs/obj. */
#ifndef PF_OBJ_CUT_H
#define PF_OBJ_CUT_H

#include "obj/inode.h"

/* Unmap pages [key, end) as far as this transaction goes. */
int pf_cut_pages(struct pf_tx *tx, struct pf_inode *ip, uint64_t key, uint64_t end, uint64_t *done_to) PF_MUST_CHECK;
/* Begin with an intent: @start sets it in @tx, and does as much of the work as fits. *done: all of it, and the intent
 * is not needed. Otherwise the inode goes into the orphan file with the same transaction. */
typedef int (*pf_cut_start_fn)(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, void *arg, bool *done);
int pf_cut_start(struct pf_inode *ip, pf_cut_start_fn start, void *arg) PF_MUST_CHECK;
/* One more piece of the recorded COLLAPSE or INSERT. */
int pf_shift_some(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, bool *done) PF_MUST_CHECK;

#endif
