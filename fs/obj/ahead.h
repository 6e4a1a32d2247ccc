/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ahead.h - blocks kept for the pages around those that faults have filled last, so that files, and parts of a file,
 * which are written at the same time, page by page, do not interleave on the device.
 *
 * Kept in memory only, as any reservation: a page that is never stored to never costs its file a block, and a crash
 * forgets the rest. Nobody misses them either: they are given back when the inode is not used any more, and all of them
 * before an allocation fails; statfs(2) counts them as free.
 */
#ifndef PF_OBJ_AHEAD_H
#define PF_OBJ_AHEAD_H

#include <stdbool.h>
#include <stdint.h>
#include "space/alloc.h"

struct pf_inode;

struct pf_ahead;			/* of an inode, NULL: it has none */

int pf_ahead_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_ahead_fini(struct pf_fs *fs);
/* Up to @want blocks for the pages from @fblk on, which are a hole up to @hole_end: reserved, now the caller's. False:
 * there is no window, and there should be none. Lock of the inode held exclusively. */
bool pf_ahead_take(struct pf_inode *ip, uint64_t fblk, uint64_t want, uint64_t hole_end, struct pf_run *out);
void pf_ahead_drop(struct pf_inode *ip);
uint64_t pf_ahead_blocks(struct pf_fs *fs);
/* For the test that shows what it is good for: no new windows. */
void pf_ahead_off(struct pf_fs *fs);

#endif
