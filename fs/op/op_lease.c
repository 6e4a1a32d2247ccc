/* SPDX-License-Identifier: BSD-3-Clause */
/* op_lease.c - rights to leases, and hand-over. Owns nothing; takes INODE of one inode, for reading. */
#include "op/op_lease.h"

#include <errno.h>
#include <stdlib.h>
#include "obj/inode.h"
#include "op/op.h"

static int check(const struct pf_lease_req *rq)
{
	uint32_t kind = rq->flags & (PF_LE_READ | PF_LE_WRITE);

	if ((rq->flags & ~(PF_LE_READ | PF_LE_WRITE | PF_LE_UNBREAK)) != 0 ||
	    (kind != PF_LE_READ && kind != PF_LE_WRITE))
		return -EINVAL;
	if (rq->len == 0 || rq->foff % PF_BLK_SIZE != 0 || rq->foff >= PF_FILE_MAX ||
	    (rq->len != UINT64_MAX && (rq->len % PF_BLK_SIZE != 0 || !pf_range_ok(rq->foff, rq->len, PF_FILE_MAX))))
		return -EINVAL;
	return 0;
}

/* Whoever can write to the file may keep others from changing its layout for a while; for ever, only its owner. */
static int may_lease(struct pf_inode *ip, bool handle_write, uid_t uid, uint32_t flags)
{
	bool owner;

	pf_rwlock_rdlock(&ip->lock);
	owner = uid == 0 || pf_get32(ip->d.i_uid) == uid;
	pf_rwlock_unlock(&ip->lock);
	if (!handle_write && (!owner || (flags & PF_LE_WRITE)))
		return -EACCES;
	return (flags & PF_LE_UNBREAK) && !owner ? -EPERM : 0;
}

int pf_op_lease_take(struct pf_sess *s, uid_t uid, uint64_t fh, const struct pf_lease_req *rq, bool take,
		     struct pf_p_lease_out *out)
{
	struct pf_share *sh;
	bool write = false;
	int err = check(rq);

	if (err == 0)
		err = pf_sess_handle(s, fh, &sh, &write);
	if (err != 0)
		return err;
	err = may_lease(sh->inode, write, uid, rq->flags);
	if (err == 0)
		err = pf_lease_take(sh, rq, take, out);
	pf_share_unref(s->fs, sh);
	return err;
}

static void put_inode(struct pf_fs *fs, void *inode)
{
	pf_op_iput(fs, inode);
}

int pf_op_lease_look(struct pf_sess *s, const struct pf_p_token *t, struct pf_p_look_out *out,
		     struct pf_p_piece **piece)
{
	struct pf_share *from = pf_give_share(s->fs, t);
	bool write;
	uint32_t n;
	int err;

	if (!from)
		return -ESTALE;
	*piece = NULL;
	err = from->sess == s ? -EDEADLK : pf_give_look(from, t, &out->lk_lease, piece, &n);
	if (err == 0) {
		write = atomic_load(&from->write);
		pf_inode_hold(from->inode);		/* for the session */
		err = pf_sess_attach(s, from->obj, from->inode, put_inode, write, from->path, &out->lk_fh);
		out->lk_ino = from->obj->ino;
		out->lk_size = pf_op_size(from->inode);
		out->lk_write = write;
		out->lk_next = n;
	}
	if (err != 0)
		free(*piece);
	pf_share_unref(s->fs, from);
	return err;
}

int pf_op_lease_have(struct pf_sess *s, const struct pf_p_have_in *in, const struct pf_p_piece *piece,
		     struct pf_p_lease_out *out)
{
	struct pf_share *from, *to;
	bool write;
	int err = pf_sess_handle(s, in->ha_fh, &to, &write);

	if (err != 0)
		return err;
	from = pf_give_share(s->fs, &in->ha_token);
	err = from ? pf_give_finish(s->fs, from, to, &in->ha_token, piece, in->ha_next, out) : -ESTALE;
	if (from)
		pf_share_unref(s->fs, from);
	pf_share_unref(s->fs, to);
	return err;
}
