/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_lease.h - who may take a lease on which file, and the taker's half of a hand-over that needs an inode.
 *
 * Nothing here blocks for a client or a break.
 */
#ifndef PF_OP_OP_LEASE_H
#define PF_OP_OP_LEASE_H

#include <sys/types.h>
#include "share/give.h"
#include "share/session.h"

/* TAKE (or, @take false, TEST) by a session of user @uid through handle @fh. -EBADF, -EINVAL, -EACCES, -EPERM, and what
 * pf_lease_take() says. */
int pf_op_lease_take(struct pf_sess *s, uid_t uid, uint64_t fh, const struct pf_lease_req *rq, bool take,
		     struct pf_p_lease_out *out) PF_MUST_CHECK;

/* LOOK: what is on its way, and a handle of its file for @s. *piece is to be freed. -ESTALE, -EDEADLK (it is its own),
 * -ENOMEM, -ENFILE, -ENOTCONN. */
int pf_op_lease_look(struct pf_sess *s, const struct pf_p_token *t, struct pf_p_look_out *out,
		     struct pf_p_piece **piece) PF_MUST_CHECK;

/* HAVE. */
int pf_op_lease_have(struct pf_sess *s, const struct pf_p_have_in *in, const struct pf_p_piece *piece,
		     struct pf_p_lease_out *out) PF_MUST_CHECK;

#endif
