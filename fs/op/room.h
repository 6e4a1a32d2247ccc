/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * room.h - space that is about to be free: unlink(2) has returned, and the kernel's FORGET, which lets the inode go, is
 * still on its way. Private to fs/op.
 *
 * A program that removes a file from a full filesystem and writes another one must not meet ENOSPC. So whoever finds
 * space scarce, and knows of inodes unlinked since somebody waited last, waits for them: a few milliseconds as a rule,
 * without a lock. What is still open then stays, and nobody waits for it a second time.
 */
#ifndef PF_OP_ROOM_H
#define PF_OP_ROOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/fs.h"

static inline void pf_room_unlinked(struct pf_fs *fs)
{
	atomic_fetch_add_explicit(&fs->unlinked, 1, memory_order_relaxed);
}

/* @nblk will be wanted. No lock held; may sleep for PF_ROOM_MS. False: there was nothing to wait for. */
#define PF_ROOM_MS 200U
bool pf_room_wait(struct pf_fs *fs, uint64_t nblk);

#endif
