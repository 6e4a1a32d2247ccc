/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reap.h - inodes that nobody has any more are freed a little later, many in one transaction.
 *
 * What waits here is in the orphan file, so a crash changes nothing: the next mount frees it. Only small inodes wait,
 * only for milliseconds, and only while there is space enough that nobody needs theirs.
 */
#ifndef PF_OBJ_REAP_H
#define PF_OBJ_REAP_H

#include "obj/inode.h"

int pf_reap_init(struct pf_fs *fs) PF_MUST_CHECK;
/* Frees what waits, and ends the thread. */
void pf_reap_fini(struct pf_fs *fs);
/* From now on inodes wait. THREAD: one frees them soon; else only pf_reap_all() does. SCARCE: also without space to
 * spare, for tests on small devices. */
#define PF_REAP_THREAD 1U
#define PF_REAP_SCARCE 2U
int pf_reap_start(struct pf_fs *fs, unsigned int how) PF_MUST_CHECK;
/* Everything that waits is freed when it returns. No lock held. True: there was something. */
bool pf_reap_all(struct pf_fs *fs);

/* The cache's: @ip is DYING and nobody else's. False: free it now. */
bool pf_reap_later(struct pf_inode *ip);

#endif
