/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.h - layout leases: who wants to be told before blocks leave a range of a file, and what becomes of it then.
 *
 * A lease hangs on its session's share of the inode and on the inode's list, both under LAYOUT. It has nothing on the
 * medium: the daemon's end is the end of all leases, as of all pins.
 *
 *   HELD      -> BREAKING when a CUT meets it, and the holder is told
 *   BREAKING  -> gone when it is dropped, and no pin is left under it
 *             -> BROKEN when lease_time is over, by lease_break=revoke: its pins in the CUT's range are void
 *   dropped   a lease with pins under it that its owner gave back: a ghost, which breaks like one that is held, but
 *             stands in the way only as long as the pins do
 *
 * Whether a CUT meets a lease is decided in its turn at the gate, with the slots frozen (layout.c).
 */
#ifndef PF_SHARE_LEASE_H
#define PF_SHARE_LEASE_H

#include <pinfs/proto.h>
#include "share/window.h"

enum pf_lease_state { PF_LEASE_HELD, PF_LEASE_BREAKING, PF_LEASE_BROKEN };

struct pf_lease {
	struct pf_lease *next, **pprev;		/* of the inode */
	struct pf_share *share;			/* with a reference */
	uint64_t id;
	uint64_t foff, len;			/* page aligned; len UINT64_MAX: to the end */
	uint32_t flags;				/* PF_LE_* */
	enum pf_lease_state state;
	bool dropped;
	uint64_t since_ns;			/* CLOCK_MONOTONIC: taken */
	uint64_t until_ns;			/* BREAKING: lease_break comes then */
	uint64_t killed_ns;			/* lease_break=kill: SIGKILL was sent */
	struct pf_give *give;			/* on its way to another session */
};

/*
 * Long-term pins under longterm=lease: is every page of [foff, foff + len) under leases of this session that are not
 * asked back? 0 or -EPERM. Inside the gate it stays so until the caller has counted. Takes LAYOUT.
 */
int pf_lease_covers(struct pf_share *sh, uint64_t foff, uint64_t len) PF_MUST_CHECK;

#endif
