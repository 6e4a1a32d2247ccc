/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv_lease.c - the messages of a session that are about leases: decode, ask the core, answer.
 *
 * As srv_msg.c: runs in the worker that owns the connection, holds no lock across calls.
 */
#include "front/srv_int.h"

#include <errno.h>
#include <stdlib.h>
#include "front/wire.h"
#include "op/op_lease.h"

static int answer(struct pf_conn *c, const struct fuse_in_header *h, int err, const struct pf_p_lease_out *out)
{
	struct pf_p_lease_out copy = *out;

	if (err != 0)
		return err;
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ &copy, sizeof copy }, 1, NULL);
	return MSG_DONE;
}

/* What may follow: the callers, for reports. */
static void note(struct pf_conn *c, uint64_t id, struct pf_wire *w)
{
	struct pf_t_stack st;

	if (pf_wire_take(w, &st, sizeof st))
		pf_lease_note(c->sess, id, &st);
}

int pf_msg_lease(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_lease_out out = { 0 };
	struct pf_lease_req rq;
	struct pf_p_lease_in in;
	int err = -EINVAL;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	rq = (struct pf_lease_req){ in.le_foff, in.le_len, in.le_flags };
	switch (in.le_what) {
	case PF_P_LEASE_TAKE:
		err = pf_op_lease_take(c->sess, c->uid, in.le_fh, &rq, true, &out);
		if (err == 0)
			note(c, out.lo_id, w);
		break;
	case PF_P_LEASE_TEST:
		err = pf_op_lease_take(c->sess, c->uid, in.le_fh, &rq, false, &out);
		if (err == -EAGAIN)	/* which is the answer, with what is in the way */
			err = 0;
		else if (err == 0)
			out.lo_state = PF_P_LEASE_FREE;
		break;
	case PF_P_LEASE_DOWNGRADE:
		err = pf_lease_downgrade(c->sess, in.le_id, &out);
		break;
	case PF_P_LEASE_DROP:
		err = pf_lease_drop(c->sess, in.le_id);
		break;
	case PF_P_LEASE_RETRACT:
		err = pf_give_retract(c->sess, in.le_id);
		break;
	default:
		break;
	}
	return answer(c, h, err, &out);
}

/* The pieces that follow a header, copied to memory of their own: the input buffer is not aligned. */
static int take_pieces(struct pf_wire *w, uint32_t n, struct pf_p_piece **out)
{
	if (n > PF_P_PIECES_MAX)
		return -EINVAL;
	*out = malloc((n != 0 ? n : 1) * sizeof **out);
	if (!*out)
		return -ENOMEM;
	if (pf_wire_take(w, *out, n * sizeof **out))
		return 0;
	free(*out);
	return MSG_NONSENSE;
}

int pf_msg_give(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_give_out out;
	struct pf_p_piece *piece;
	struct pf_p_give_in in;
	int err;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	err = take_pieces(w, in.gi_next, &piece);
	if (err != 0)
		return err;
	err = pf_give_start(c->sess, in.gi_id, piece, in.gi_next, &out.go_token);
	free(piece);
	if (err != 0)
		return err;
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ &out, sizeof out }, 1, NULL);
	return MSG_DONE;
}

int pf_msg_look(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_look_out out = { 0 };
	struct pf_p_piece *piece;
	struct pf_p_token t;
	int err;

	if (!pf_wire_take(w, &t, sizeof t))
		return MSG_NONSENSE;
	err = pf_op_lease_look(c->sess, &t, &out, &piece);
	if (err != 0)
		return err;
	pf_conn_answer(c, h->unique, 0,
		       (struct iovec[]){ { &out, sizeof out }, { piece, out.lk_next * sizeof *piece } }, 2, NULL);
	free(piece);
	return MSG_DONE;
}

int pf_msg_have(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_lease_out out = { 0 };
	struct pf_p_piece *piece;
	struct pf_p_have_in in;
	int err;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	err = take_pieces(w, in.ha_next, &piece);
	if (err != 0)
		return err;
	err = pf_op_lease_have(c->sess, &in, piece, &out);
	free(piece);
	if (err == 0)
		note(c, out.lo_id, w);
	return answer(c, h, err, &out);
}
