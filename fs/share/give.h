/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * give.h - hand-over: a lease and the pins under it go from one session to another, in one step.
 *
 * What is on its way is a struct pf_give, which belongs to its lease, under LAYOUT, and is found by its cookie under
 * REGISTRY. Until the step the giver has everything; after it, the taker. Both steps of the taker may come from any
 * session: to know the cookie is the right.
 */
#ifndef PF_SHARE_GIVE_H
#define PF_SHARE_GIVE_H

#include "share/lease.h"

struct pf_give {
	struct pf_give *next, **pprev;		/* pf_lay.gives; REGISTRY */
	struct pf_lease *lease;
	uint64_t cookie[2];
	uint32_t n;
	struct pf_p_piece piece[];
};

/* Put it on its way. Pieces are the giver's counts, as its client says. -ESTALE, -EBUSY (not HELD, or on its way),
 * -EINVAL (a piece that is none), -ENOMEM. */
int pf_give_start(struct pf_sess *s, uint64_t id, const struct pf_p_piece *piece, uint32_t n,
		  struct pf_p_token *out) PF_MUST_CHECK;
int pf_give_retract(struct pf_sess *s, uint64_t id) PF_MUST_CHECK;
/* The share of the giver, with a reference; or NULL. */
struct pf_share *pf_give_share(struct pf_fs *fs, const struct pf_p_token *t);
/* What is on its way: the pieces, to be freed, and the lease. -ESTALE, -ENOMEM. */
int pf_give_look(struct pf_share *from, const struct pf_p_token *t, struct pf_p_lease_out *out,
		 struct pf_p_piece **piece, uint32_t *n) PF_MUST_CHECK;
/* The step. @piece: as pf_give_look() said, with slots of @to. -ESTALE, -EINVAL, -EDEADLK, -EAGAIN (a device works by
 * the giver's translation), -EBUSY, -ENOTCONN. */
int pf_give_finish(struct pf_fs *fs, struct pf_share *from, struct pf_share *to, const struct pf_p_token *t,
		   const struct pf_p_piece *piece, uint32_t n, struct pf_p_lease_out *out) PF_MUST_CHECK;

/* LAYOUT is held: it goes nowhere. Frees it. */
void pf_give_void(struct pf_give *g);

#endif
