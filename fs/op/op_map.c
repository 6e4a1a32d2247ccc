/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_map.c - shows a client a piece of a file: extents, allocation where a store needs a block, the grant, the answer.
 *
 * A request runs inside the gate of its inode. When a page has no block yet, it leaves the gate and comes back as a
 * break of kind MAP, whose work allocates, grants and answers with the gate closed. Owns the request's references.
 * Takes no lock itself.
 */
#include "op/op_map.h"

#include <assert.h>
#include <errno.h>
#include "base/fail.h"
#include "media/pmem.h"
#include "obj/inode.h"
#include "op/op_pin.h"

struct view {			/* a chunk as it is now */
	uint64_t size;
	unsigned int n;
	struct pf_dext ext[PF_P_EXT_MAX];
};

static int look(struct pf_map_req *r, struct view *v)
{
	v->n = PF_P_EXT_MAX;
	return pf_op_extents(r->sess->fs, r->ip, r->foff, PF_CHUNK_SIZE, v->ext, &v->n, &v->size);
}

static bool backed(const struct view *v, uint64_t foff)
{
	for (unsigned int i = 0; i < v->n; i++)
		if (v->ext[i].foff <= foff && foff - v->ext[i].foff < v->ext[i].len)
			return true;
	return false;
}

/* Is this a chunk as a device without small pages needs it? */
static bool whole(const struct view *v)
{
	return v->n == 1 && v->ext[0].len == PF_CHUNK_SIZE && v->ext[0].doff % PF_CHUNK_SIZE == 0;
}

static bool must_move(const struct pf_map_req *r, const struct view *v)
{
	bool stores = r->write && (r->what == PF_MAP_PIN || r->fault_foff < v->size);

	return pf_pm_whole(r->sess->fs->pm) && !whole(v) && (v->n != 0 || stores);
}

static int move_together(struct pf_map_req *r, struct view *v)
{
	int err = pf_fs_writable(r->sess->fs);

	if (err == 0 && r->foff + PF_CHUNK_SIZE > v->size)
		err = -EOPNOTSUPP;
	/* A chunk that is one hole takes no block from anybody: the break tells those who were shown the hole. */
	if (err == 0 && v->n != 0 && !pf_win_alone(r->share, r->slot, r->foff))
		err = -EBUSY;
	/* Blocks that were allocated ahead may lie as they should. */
	if (err == 0)
		err = pf_op_alloc_pages(r->sess->fs, r->ip, r->foff, PF_CHUNK_SIZE);
	if (err == 0)
		err = look(r, v);
	return err == 0 && !whole(v) ? pf_op_whole(r->ip, r->foff) : err;
}

static void answer(struct pf_map_req *r, int err, const struct pf_p_map_out *out, const struct pf_p_extent *ext)
{
	assert(!r->answered);
	r->answered = true;
	r->mr_answer(r, err, out, ext);
}

/* The last thing that happens to a request. */
static void end(struct pf_map_req *r)
{
	struct pf_fs *fs = r->sess->fs;
	struct pf_share *sh = r->share;
	uint64_t ino = sh ? sh->obj->ino : 0;

	if (r->mr_end)
		r->mr_end(r, ino, r->changed);
	if (sh)
		pf_share_unref(fs, sh);
}

static void end_error(struct pf_map_req *r, int err)
{
	answer(r, err, NULL, NULL);
	end(r);
}

/*
 * Grant, count if that is what was asked for, answer. The gate keeps everything still: what @v says is what the grant
 * books and what the client gets. 0: answered. 1: a block is missing. -EAGAIN with *cut set: a CUT goes first.
 */
static int show(struct pf_map_req *r, const struct view *v, uint64_t *cut)
{
	struct pf_gext books[PF_P_EXT_MAX];
	struct pf_p_extent wire[PF_P_EXT_MAX];
	struct pf_p_map_out out = {
		.mo_ino = r->obj->ino, .mo_foff = r->foff, .mo_size = v->size, .mo_slot = r->slot, .mo_next = v->n,
	};
	unsigned int i, n = 0;
	int err;

	for (i = 0; i < v->n; i++) {
		wire[i] = (struct pf_p_extent){ v->ext[i].foff, v->ext[i].doff, v->ext[i].len };
		if (v->ext[i].doff == PF_DEXT_BAD)
			continue;	/* as if it were a hole: whoever puts a good block there, tells the client */
		books[n++] = (struct pf_gext){
			.page = (uint32_t)((v->ext[i].foff - r->foff) >> PF_BLK_SHIFT),
			.npage = (uint32_t)(v->ext[i].len >> PF_BLK_SHIFT),
			.dblk = v->ext[i].doff >> PF_BLK_SHIFT,
		};
	}
	if (must_move(r, v) ||
	    (r->what == PF_MAP_SETUP && r->write && r->fault_foff < v->size && !backed(v, r->fault_foff)))
		return 1;
	/* Stores reach the device without us from now on: fsync(2) by anybody has to flush them. */
	if (!r->sess->fs->opts.ro)
		pf_inode_dirtied(r->ip, r->foff, PF_CHUNK_SIZE);
	if (r->what == PF_MAP_SETUP && r->write && !r->changed && backed(v, r->fault_foff)) {
		err = pf_op_stored(r->sess->fs, r->ip);
		if (err != 0)
			return err;
		r->changed = true;
	}
	if (r->private)
		atomic_store(&r->share->copies, true);
	/* A pin that was put aside may find that the client has given the slot up, or to another chunk. */
	if (r->what == PF_MAP_PIN)
		err = pf_win_refresh(r->share, r->slot, r->foff, books, n, &out.mo_word);
	else
		err = pf_win_grant(r->share, r->slot, r->foff, books, n, &out.mo_word);
	if (err == 0 && r->what == PF_MAP_PIN)
		err = pf_pin_count(r, v->ext, v->n, v->size, cut);
	if (err == 0)
		answer(r, 0, &out, wire);
	return err;
}

/* Outside of the gate. -EAGAIN because of a CUT: with wait, the request goes to sleep on it. */
static void refuse(struct pf_map_req *r, int err, uint64_t cut)
{
	struct pf_fs *fs = r->sess->fs;
	struct pf_share *sh = r->share;

	if (cut == 0 || !r->wait) {
		end_error(r, err);
		return;
	}
	pf_share_get(sh);	/* once it sleeps, the request is not ours any more */
	if (!pf_gate_wait_cut(sh->obj, cut, &r->wait_gate))
		end_error(r, -EAGAIN);
	pf_share_unref(fs, sh);
}

/* A block is missing: the break that adds it */

static struct pf_map_req *of_brk(struct pf_brk *b) { return PF_CONTAINER_OF(b, struct pf_map_req, brk); }

static int alloc_prepare(struct pf_brk *b)
{
	struct pf_map_req *r = of_brk(b);
	struct view v;
	int err = look(r, &v);

	b->foff = r->what == PF_MAP_PIN ? r->foff + (uint64_t)r->first * PF_BLK_SIZE : r->fault_foff;
	b->len = r->what == PF_MAP_PIN ? (uint64_t)r->npage * PF_BLK_SIZE : PF_BLK_SIZE;
	/* A chunk that is one hole may be filled as a whole: then all of it changes for those who were shown the
	 * hole. */
	if (err == 0 && v.n == 0 && r->foff + PF_CHUNK_SIZE <= v.size) {
		b->foff = r->foff;
		b->len = PF_CHUNK_SIZE;
	}
	return err;
}

static int alloc_work(struct pf_brk *b)
{
	struct pf_map_req *r = of_brk(b);
	uint64_t foff = r->what == PF_MAP_PIN ? r->foff + (uint64_t)r->first * PF_BLK_SIZE : r->fault_foff;
	uint64_t len = r->what == PF_MAP_PIN ? (uint64_t)r->npage * PF_BLK_SIZE : PF_BLK_SIZE;
	struct view v;
	int err = look(r, &v);

	/* A store beyond the end, where the end has moved meanwhile: the answer shows it, and the client gets its
	 * SIGBUS. */
	if (err == 0 && (r->what == PF_MAP_PIN || foff < v.size)) {
		err = must_move(r, &v) ? move_together(r, &v) : pf_op_alloc_pages(r->sess->fs, r->ip, foff, len);
		r->changed = err == 0;
		if (err == 0)
			err = look(r, &v);
	}
	if (err == 0)
		err = show(r, &v, &r->cut);
	return err > 0 ? -EIO : err;
}

static void alloc_done(struct pf_brk *b, int err)
{
	struct pf_map_req *r = of_brk(b);

	if (err == 0)
		end(r);
	else
		refuse(r, err, r->cut);
}

static void allocate(struct pf_map_req *r)
{
	r->brk = (struct pf_brk){
		.obj = r->obj,
		.kind = PF_BRK_MAP,
		.what = r->what == PF_MAP_PIN ? "pin" : "fault",
		.pid = r->sess->pid,
		.tid = r->sess->pid,
		.b_prepare = alloc_prepare,
		.b_work = alloc_work,
		.b_done = alloc_done,
		.skip_share = r->share,
		.skip_slot = r->slot,
	};
	pf_lay_submit(r->sess->fs, &r->brk);
}

/* The gate is open and we are in it. */
static void inside(struct pf_map_req *r)
{
	struct pf_fs *fs = r->sess->fs;
	struct pf_lobj *o = r->obj;
	struct view v;
	bool begun;
	int err;

	if (pf_pause(fs, &r->stand, PF_AT_GRANT, &begun))
		return;
	r->cut = 0;
	err = look(r, &v);
	if (err == 0)
		err = show(r, &v, &r->cut);
	pf_gate_exit(fs, o);
	if (err == 0)
		end(r);
	else if (err == 1)
		allocate(r);
	else
		refuse(r, err, r->cut);
}

static void let_go(struct pf_stand *s)
{
	inside(PF_CONTAINER_OF(s, struct pf_map_req, stand));
}

static void gate_opened(struct pf_gate_wait *w, int err)
{
	struct pf_map_req *r = PF_CONTAINER_OF(w, struct pf_map_req, wait_gate);

	if (err != 0)
		end_error(r, err);
	else
		inside(r);
}

static int check(struct pf_map_req *r, bool handle_write)
{
	if (r->what == PF_MAP_PIN) {
		uint64_t foff = r->foff;
		int err = pf_pin_check(r, handle_write);

		if (err == 0)
			err = pf_win_where(r->share, r->slot, &r->foff);
		return err == 0 && r->chunk && r->foff != foff ? -ESTALE : err;
	}
	if ((r->foff & (PF_CHUNK_SIZE - 1)) != 0 || r->foff >= PF_FILE_MAX ||
	    (r->fault_foff & (PF_BLK_SIZE - 1)) != 0 || r->fault_foff < r->foff ||
	    r->fault_foff - r->foff >= PF_CHUNK_SIZE || r->slot >= r->sess->led.nslot)
		return -EINVAL;
	return r->write && !handle_write ? -EACCES : 0;
}

void pf_map_start(struct pf_map_req *r)
{
	bool handle_write = false;
	int err;

	r->share = NULL;
	r->answered = r->changed = false;
	r->cut = 0;
	err = pf_sess_handle(r->sess, r->fh, &r->share, &handle_write);
	if (err == 0)
		err = check(r, handle_write);
	if (err == 0)
		err = r->write ? pf_fs_writable(r->sess->fs) : pf_fs_readable(r->sess->fs);
	if (err == 0 && r->longterm) {		/* before anything is allocated for it */
		r->ip = r->share->inode;
		err = pf_pin_admit(r);
	}
	if (err != 0) {
		end_error(r, err);
		return;
	}
	/* A device DAX node has no holes. */
	if ((r->sess->fs->opts.answers & PF_ANSWER_DEVICE) && handle_write)
		r->write = true;
	r->ip = r->share->inode;
	r->obj = r->share->obj;
	r->stand = (struct pf_stand){ .ino = r->obj->ino, .pid = r->sess->pid, .go = let_go,
				      .what = r->what == PF_MAP_PIN ? "pin" : "fault" };
	r->wait_gate = (struct pf_gate_wait){ .share = r->share, .unique = r->unique, .w_run = gate_opened };
	if (pf_gate_enter(r->obj, &r->wait_gate) == 0)
		inside(r);
}

/* The other messages */

static int set_longterm(struct pf_sess *s, uint64_t fh, enum pf_longterm longterm)
{
	struct pf_share *sh;
	bool write;
	int err = pf_sess_handle(s, fh, &sh, &write);

	if (err != 0)
		return err;
	atomic_store(&sh->longterm, (unsigned int)longterm + 1);
	pf_share_unref(s->fs, sh);
	return 0;
}

static void put_inode(struct pf_fs *fs, void *inode)
{
	pf_op_iput(fs, inode);
}

int pf_map_attach(struct pf_sess *s, const struct pf_map_right *right, const char *path, uint64_t *fh, uint64_t *size)
{
	struct pf_inode *ip;
	unsigned int none = 0;
	int err;

	err = pf_op_iget(s->fs, right->ino, right->gen, &ip);
	if (err != 0)
		return err;
	err = pf_inode_isreg(ip) ? pf_op_extents(s->fs, ip, 0, 0, NULL, &none, size) : -EINVAL;
	if (err != 0)
		goto out_put;
	pf_inode_hold(ip);		/* for the session */
	err = pf_sess_attach(s, pf_inode_lobj(ip), ip, put_inode, right->write, path, fh);
	if (err != 0)
		goto out_put;
	/* Whoever makes the file immutable looks for writers first, and whoever ends its being DAX for anybody: so they
	 * have seen us, or we see what they did. */
	pf_rwlock_rdlock(&ip->lock);
	if (!ip->dax)
		err = -EOPNOTSUPP;
	else if (right->write && pf_inode_sealed(ip))
		err = -EPERM;
	pf_rwlock_unlock(&ip->lock);
	if (err == 0 && (right->over.set & 1U << PF_POLICY_LONGTERM))
		err = set_longterm(s, *fh, right->over.p.longterm);
	if (err != 0)
		(void)pf_sess_detach(s, *fh);
out_put:
	pf_op_iput(s->fs, ip);
	return err;
}

int pf_map_admit(struct pf_sess *s, uint64_t fh, enum pf_pin_api api)
{
	struct pf_map_req r = { .sess = s, .api = api };
	bool write;
	int err = pf_sess_handle(s, fh, &r.share, &write);

	if (err != 0)
		return err;
	r.ip = r.share->inode;
	err = pf_pin_admit(&r);
	pf_share_unref(s->fs, r.share);
	return err == -EPERM ? 0 : err;
}

int pf_map_remove(struct pf_sess *s, uint32_t slot)
{
	return pf_win_remove(s->fs, s, slot);
}

int pf_map_sync(struct pf_sess *s, uint64_t fh, uint64_t foff, uint64_t len)
{
	struct pf_share *sh;
	bool write;
	int err = pf_sess_handle(s, fh, &sh, &write);

	if (err != 0)
		return err;
	if (foff < PF_FILE_MAX)
		err = pf_op_sync_range(s->fs, sh->inode, foff,
				       len == 0 || len > PF_FILE_MAX - foff ? PF_FILE_MAX - foff : len);
	pf_share_unref(s->fs, sh);
	return err;
}
