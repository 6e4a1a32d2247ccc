/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.h - layout leases: who wants to be told before blocks leave a range of a file, and what becomes of it then.
 *
 * A lease is one session's, on one inode's list, under LAYOUT. It has nothing on the medium: the daemon's end is the
 * end of all leases, as of all pins.
 *
 *   HELD      -> BREAKING when a CUT of somebody else meets it; the holder is told, and has until until_ns
 *   BREAKING  -> BROKEN when the time is over and the policy revokes it
 *   any       -> gone when it is dropped, or its session ends; but as long as pins of its session lie in its range, a
 *                lease that was dropped stays on as a ghost
 *
 * A lease that is HELD or BREAKING stands in the way of a CUT. A ghost, or one that is BROKEN, does so for the pins
 * that are left under it: so there is no long-term pin that no time limit applies to. Whether a CUT meets one is
 * decided in its turn at the gate, with the slots frozen (layout.c); nobody looks at leases at any other time, so no
 * thread and no timer belongs to a lease.
 */
#ifndef PF_SHARE_LEASE_H
#define PF_SHARE_LEASE_H

#include <pinfs/proto.h>
#include <pinfs/trace.h>
#include "share/window.h"

struct pf_give;

enum pf_lease_state { PF_LEASE_HELD, PF_LEASE_BREAKING, PF_LEASE_BROKEN };

struct pf_lease {
	struct pf_lease *next, **pprev;		/* of the inode */
	struct pf_share *share;			/* with a reference, unless it is a ghost: then the grants have them */
	uint64_t id;
	uint64_t foff, len;			/* page aligned; len UINT64_MAX: to the end */
	uint32_t flags;				/* PF_LE_* */
	enum pf_lease_state state;
	bool ghost;
	bool killed;				/* lease_break=kill: SIGKILL was sent; until_ns: evicted then */
	uint64_t since_ns;			/* CLOCK_MONOTONIC: taken */
	uint64_t until_ns;			/* BREAKING: until then */
	struct pf_give *give;			/* on its way to another session */
	struct pf_t_stack stack;		/* what its client says of who took it; for reports */
};

/* What a message says of a lease. Rights have been checked; foff and len are page aligned. No lock held. */
struct pf_lease_req { uint64_t foff, len; uint32_t flags; };

/* -EAGAIN: *out is what is in the way. -ENOLCK, -ENOMEM, -ENOTCONN. @take false: only ask. */
int pf_lease_take(struct pf_share *sh, const struct pf_lease_req *rq, bool take,
		  struct pf_p_lease_out *out) PF_MUST_CHECK;
/* -ESTALE: no such lease of the session, or it is broken. -EBUSY: it is on its way. */
int pf_lease_downgrade(struct pf_sess *s, uint64_t id, struct pf_p_lease_out *out) PF_MUST_CHECK;
int pf_lease_drop(struct pf_sess *s, uint64_t id) PF_MUST_CHECK;
/* Who took it, for reports; nothing if it is gone. */
void pf_lease_note(struct pf_sess *s, uint64_t id, const struct pf_t_stack *st);

/*
 * Long-term pins under longterm=lease: is every page of [foff, foff + len) under leases of this session that are not
 * asked back? 0 or -EPERM. Inside the gate it stays so until the caller has counted. Takes LAYOUT.
 */
int pf_lease_covers(struct pf_share *sh, uint64_t foff, uint64_t len) PF_MUST_CHECK;

/* Below: LAYOUT of the inode is held. */

/*
 * A CUT whose slots are frozen meets the leases of the inode. 0: none is in its way (any more). 1: it has to wait; look
 * again when one has fallen, or at *until_ns. -EBUSY, -ETXTBSY, -EDEADLK. *revoked: pins were made void: bursts of
 * devices may be under way.
 */
int pf_lease_meet(struct pf_fs *fs, struct pf_lobj *o, const struct pf_brk *b, uint64_t *until_ns,
		  bool *revoked) PF_MUST_CHECK;
/* The lease of a session by its number, with LAYOUT of its inode held and a reference of its share; or NULL. */
struct pf_lease *pf_lease_find(struct pf_sess *s, uint64_t id, struct pf_share **share);
void pf_lease_describe(const struct pf_lease *l, struct pf_p_lease_out *out);
/* Another session has it now; the old one's reference of the share is the caller's, and its client is told. */
void pf_lease_move(struct pf_lease *l, struct pf_share *to);
/* For reports: leases of a share, from the @skip-th on. */
struct pf_lease_info {
	uint64_t id, foff, len, age_ns, left_ms, pages;	/* pages: pins under it, as far as they count */
	uint32_t flags;
	enum pf_lease_state state;
	bool ghost, given;
	struct pf_t_stack stack;
};
unsigned int pf_lease_list(struct pf_share *sh, unsigned int skip, struct pf_lease_info *out, unsigned int max);
/* Does the CUT wait for a lease of @sh? *left_ms: the longest that it has to. */
bool pf_lease_waited_for(struct pf_share *sh, const struct pf_brk *b, uint64_t *left_ms);
/* Is one in its way still? Changes nothing. */
bool pf_lease_blocks(struct pf_lobj *o, const struct pf_brk *b);
/*
 * What pf_lease_meet() would say to a CUT with these ranges and this policy; changes nothing. *most_ms: the longest
 * that it would wait, when that is 1.
 */
int pf_lease_would(const struct pf_fs *fs, const struct pf_lobj *o, const struct pf_brk *b,
		   uint64_t *most_ms) PF_MUST_CHECK;
/* The leases in its way, up to @max; *total: all of them. */
unsigned int pf_lease_in_way(const struct pf_lobj *o, const struct pf_brk *b, struct pf_p_would_lease *out,
			     unsigned int max, unsigned int *total);
/* Pages pinned by @sh in the CUT's way, without those that are revoked with a lease when its time is over. */
uint64_t pf_lease_outside(struct pf_share *sh, const struct pf_brk *b);
/* The session of @sh has ended, or is cut off. How many references of the share are the caller's now. */
unsigned int pf_lease_end_share(struct pf_share *sh);
/* The share goes: its ghosts, too. */
void pf_lease_free_ghosts(struct pf_share *sh);

#endif
