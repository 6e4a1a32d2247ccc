/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_bad.h - bad blocks that come and go on a mounted filesystem: the list, then whoever has the blocks mapped.
 *
 * A page that goes bad is taken away from every window that shows it, so that the next load faults and is told; so is
 * one that is forgotten. Pins are not looked at: they stay, and so do the blocks under them.
 */
#ifndef PF_OP_OP_BAD_H
#define PF_OP_OP_BAD_H

#include "op/op.h"
#include "space/bad.h"

struct pf_bad_req {
	/* Set by the caller. */
	bool add;			/* else: forget */
	uint64_t ino;			/* 0: @at, @len are blocks of the device; else bytes of this file */
	uint64_t at, len;
	/* Optional: what anybody keeps of the data of this file is stale. Any thread, no lock held; may be repeated. */
	void (*br_stale)(struct pf_bad_req *r, uint64_t ino);
	/* Exactly once, when no window shows what it should not: perhaps before pf_op_bad_start() returns, perhaps
	 * later from another thread. @changed is set. -EINVAL, -ENXIO (a hole of the file), what pf_bad_add() says. */
	void (*br_done)(struct pf_bad_req *r, int err);
	uint64_t changed;		/* blocks */

	/* Private. */
	struct pf_fs *fs;
	_Atomic unsigned int refs;
	int err;
};

/* No lock held. */
void pf_op_bad_start(struct pf_fs *fs, struct pf_bad_req *r);

#endif
