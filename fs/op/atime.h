/* SPDX-License-Identifier: BSD-3-Clause */
/* atime.h - access times as relatime has them: at most one change for each modification, and one a day. Private to
 * fs/op. */
#ifndef PF_OP_ATIME_H
#define PF_OP_ATIME_H

#include "obj/inode.h"

/* Is the access time behind? Lock held in any way. */
bool pf_atime_due(const struct pf_inode *ip);
/* Something was read; takes the lock when the time is due. Failure is nobody's business. True: it has moved. */
bool pf_atime_update(struct pf_inode *ip);

#endif
