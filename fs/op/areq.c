/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * areq.c - requests that may break a layout: start, end, cancel.
 *
 * Owns the inode references of a request. Takes no lock. What waits is the request's struct pf_brk in the layout
 * engine; the thread that called pf_op_start() is free again at once.
 */
#include "op/areq.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/fail.h"
#include "op/policy.h"
#include "op/room.h"

static void finish(struct pf_areq *r, ssize_t res)
{
	pf_inode_put(r->inode);
	pf_inode_put(r->inode2);
	free(r->copy_buf);
	r->ar_done(r, res);
}

static void done(struct pf_brk *b, int err)
{
	struct pf_areq *r = pf_areq_of(b);

	finish(r, err ? err : r->res);
}

/* The data of a write is in a buffer that the caller wants back. */
static int aside(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);

	if (r->op == PF_AOP_WRITE) {
		r->copy_buf = malloc(r->write.len);
		if (!r->copy_buf)
			return -ENOMEM;
		memcpy(r->copy_buf, r->write.buf, r->write.len);
		r->write.buf = r->copy_buf;
	}
	if (r->ar_aside)
		r->ar_aside(r, b->id);
	return b->b_stuck && !b->policy.deadlock_waits ? r->ar_stuck(r, false) : 0;
}

static int stuck(struct pf_brk *b)
{
	struct pf_areq *r = pf_areq_of(b);

	return r->ar_stuck(r, true);
}

static void set_range(struct pf_areq *r, uint64_t foff, uint64_t len)
{
	uint64_t end = len > UINT64_MAX - foff ? UINT64_MAX : foff + len;

	r->brk.foff = pf_round_down(foff, PF_BLK_SIZE);
	r->brk.len = len == 0 ? 0 : end > PF_FILE_MAX ? UINT64_MAX : pf_round_up(end, PF_BLK_SIZE) - r->brk.foff;
}

void pf_areq_map(struct pf_areq *r, uint64_t foff, uint64_t len)
{
	set_range(r, foff, len);
}

void pf_areq_cut(struct pf_areq *r, uint64_t foff, uint64_t len)
{
	bool file = r->brk.policy.scope == PF_SCOPE_FILE;

	set_range(r, foff, len);
	r->brk.pin_foff = file ? 0 : r->brk.foff;
	r->brk.pin_len = file ? UINT64_MAX : r->brk.len;
}

/* Which policy it is, is decided once, when the operation begins. */
static void submit(struct pf_areq *r)
{
	int err = r->brk.kind == PF_BRK_CUT ? pf_policy_of(r->inode, r->policy, &r->brk.policy) : 0;

	if (err != 0)
		finish(r, err);
	else
		pf_lay_submit(r->fs, &r->brk);
}

/* Blocks that the request may want at most. */
static uint64_t wants(const struct pf_areq *r)
{
	switch (r->op) {
	case PF_AOP_WRITE:
		return PF_DIV_UP(r->write.len, PF_BLK_SIZE) + 1;
	case PF_AOP_FALLOCATE:
		return r->fallocate.mode & FALLOC_FL_PUNCH_HOLE ? 0 : PF_DIV_UP(r->fallocate.len, PF_BLK_SIZE) + 1;
	case PF_AOP_COPY:
		return PF_DIV_UP(r->copy.len, PF_BLK_SIZE) + 1;
	case PF_AOP_SETATTR:
	case PF_AOP_TRUNC_OPEN:
		break;
	}
	return 0;
}

void pf_op_start(struct pf_fs *fs, struct pf_areq *r)
{
	static int (*const init[])(struct pf_areq *) = {
		[PF_AOP_SETATTR] = pf_op_setattr_init,	   [PF_AOP_WRITE] = pf_op_write_init,
		[PF_AOP_FALLOCATE] = pf_op_fallocate_init, [PF_AOP_COPY] = pf_op_copy_init,
		[PF_AOP_TRUNC_OPEN] = pf_op_setattr_init,
	};
	struct pf_inode *ip = NULL;
	int err = pf_fs_writable(fs);

	assert(pf_rank_none());
	r->fs = fs;
	r->inode = r->inode2 = r->copy_buf = NULL;
	r->res = 0;
	if (!err)
		err = pf_inode_get(fs, r->ino, &ip);
	if (err) {
		finish(r, err);
		return;
	}
	if (wants(r) != 0)
		(void)pf_room_wait(fs, wants(r));
	r->inode = ip;
	r->brk = (struct pf_brk){
		.obj = &ip->lobj,
		.pid = r->cred.pid,
		.tid = r->cred.pid,
		.b_park = aside,
		.b_stuck = r->ar_stuck ? stuck : NULL,
		.kernel_lock = r->kernel_lock,
		.b_done = done,
	};
	err = init[r->op](r);
	if (err > 0)		/* done already, without a break */
		finish(r, r->res);
	else if (err)
		finish(r, err);
	else
		submit(r);
}

void pf_op_cancel(struct pf_fs *fs, uint64_t id)
{
	pf_lay_cancel(fs, id, -EINTR);
}
