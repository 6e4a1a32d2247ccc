/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c - client processes: their handles, their acknowledgements and kicks, and what is left to do when they end.
 *
 * Owns struct pf_sess. Takes LAYOUT of one inode, SESSION, REGISTRY, in this order. Does not read or write sockets.
 */
#include "share/session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pinfs/proto.h>
#include "base/probe.h"
#include "share/charge.h"
#include "share/lay.h"
#include "share/lease.h"

#define HANDLES_MAX 65536U

/* A process number is used again; with this it is one process. */
static uint64_t born_ns(pid_t pid)
{
	unsigned long long ticks = 0;
	char line[1024], *p = NULL;
	FILE *f;

	(void)snprintf(line, sizeof line, "/proc/%d/stat", (int)pid);
	f = fopen(line, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof line, f))
		p = strrchr(line, ')');		/* the name may have anything in it */
	if (p)
		(void)sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			     &ticks);
	(void)fclose(f);
	return (uint64_t)ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

int pf_sess_create(struct pf_fs *fs, const struct pf_sess_who *who, pf_sess_send_fn send, void (*send_gone)(void *arg),
		   void *arg, struct pf_sess **out)
{
	uint32_t nslot = (uint32_t)(fs->opts.window >> PF_CHUNK_SHIFT), i;
	struct pf_sess *s = calloc(1, sizeof *s);
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->slot = calloc(nslot, sizeof(struct pf_grant *));
	s->word = malloc(nslot * sizeof *s->word);
	if (!s->slot || !s->word)
		goto out_free;
	s->fs = fs;
	s->uid = who->uid;
	err = pf_charge_begin(s);
	if (err != 0)
		goto out_free;
	err = pf_ledger_create(&s->led, nslot, PF_LEDGER_RECS);
	if (err != 0)
		goto out_charge;
	for (i = 0; i < nslot; i++)
		s->word[i] = PF_SLOT_GEN;
	s->id = atomic_fetch_add(&fs->lay->next_sess, 1) + 1;
	s->pid = who->pid;
	(void)snprintf(s->comm, sizeof s->comm, "%s", who->comm);
	s->since_ns = pf_lay_now();
	s->born_ns = born_ns(who->pid);
	s->send = send;
	s->send_gone = send_gone;
	s->send_arg = arg;
	s->pidfd = -1;
	atomic_init(&s->refs, 1);
	atomic_init(&s->state, PF_SESS_LIVE);
	pf_mutex_init(&s->lock, PF_RANK_SESSION);
	pf_reg_add_sess(s);
	*out = s;
	return 0;

out_charge:
	pf_charge_end(s);
out_free:
	free(s->slot);
	free(s->word);
	free(s);
	return err;
}

void pf_sess_get(struct pf_sess *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void pf_sess_put(struct pf_sess *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	assert(atomic_load(&s->state) == PF_SESS_DEAD && s->nr_slots == 0 && !s->shares);
	pf_reg_del_sess(s);
	if (s->send_gone)
		s->send_gone(s->send_arg);
	pf_charge_end(s);
	pf_ledger_destroy(&s->led);
	pf_mutex_fini(&s->lock);
	free(s->handle);
	free(s->slot);
	free(s->word);
	free(s);
}

/* Handles. fh = place + 1. */

/* At 0 it waits for LAYOUT to leave the list. */
static bool get_live(struct pf_share *sh)
{
	unsigned int refs = atomic_load(&sh->refs);

	while (refs != 0 && !atomic_compare_exchange_weak(&sh->refs, &refs, refs + 1))
		;
	return refs != 0;
}

/* The session's share of this inode, referenced, or NULL: one that is leaving gets a successor. */
static struct pf_share *find_share(struct pf_sess *s, struct pf_lobj *o)
{
	struct pf_share *sh;

	pf_mutex_lock(&o->lock);
	for (sh = o->shares; sh; sh = sh->next)
		if (sh->sess == s && get_live(sh))
			break;
	pf_mutex_unlock(&o->lock);
	return sh;
}

static int add_handle(struct pf_sess *s, struct pf_share *sh, bool write, uint64_t *fh)
{
	uint32_t i = s->free_handle;

	while (i < s->nr_handles && s->handle[i].share)
		i++;
	if (i == s->nr_handles) {
		uint32_t room = s->nr_handles ? 2 * s->nr_handles : 16;
		struct pf_handle *bigger;

		if (s->nr_handles >= HANDLES_MAX)
			return -ENFILE;
		bigger = realloc(s->handle, room * sizeof *bigger);
		if (!bigger)
			return -ENOMEM;
		memset(bigger + s->nr_handles, 0, (room - s->nr_handles) * sizeof *bigger);
		s->handle = bigger;
		s->nr_handles = room;
	}
	s->handle[i] = (struct pf_handle){ sh, write };
	s->free_handle = i + 1;
	*fh = (uint64_t)i + 1;
	return 0;
}

int pf_sess_attach(struct pf_sess *s, struct pf_lobj *obj, void *inode, void (*put)(struct pf_fs *fs, void *inode),
		   bool write, const char *path, uint64_t *fh)
{
	struct pf_share *sh = find_share(s, obj);
	int err;

	if (sh) {
		put(s->fs, inode);
		if (write)
			atomic_store(&sh->write, true);
	} else {
		sh = calloc(1, sizeof *sh);
		if (!sh) {
			put(s->fs, inode);
			return -ENOMEM;
		}
		sh->sess = s;
		pf_sess_get(s);
		sh->obj = obj;
		sh->inode = inode;
		sh->put = put;
		atomic_init(&sh->refs, 1);
		atomic_init(&sh->write, write);
		(void)snprintf(sh->path, sizeof sh->path, "%s", path);
		pf_share_link(sh);
		PF_PROBE_FILE(s, obj->ino, sh->path);
		pf_mutex_lock(&s->lock);
		sh->sess_next = s->shares;
		if (sh->sess_next)
			sh->sess_next->sess_pprev = &sh->sess_next;
		sh->sess_pprev = &s->shares;
		s->shares = sh;
		pf_mutex_unlock(&s->lock);
	}
	pf_mutex_lock(&s->lock);
	err = atomic_load(&s->state) == PF_SESS_LIVE ? add_handle(s, sh, write, fh) : -ENOTCONN;
	pf_mutex_unlock(&s->lock);
	if (err != 0)
		pf_share_unref(s->fs, sh);
	return err;
}

int pf_sess_detach(struct pf_sess *s, uint64_t fh)
{
	struct pf_share *sh = NULL;

	pf_mutex_lock(&s->lock);
	if (fh - 1 < s->nr_handles) {
		sh = s->handle[fh - 1].share;
		s->handle[fh - 1].share = NULL;
		if (fh - 1 < s->free_handle)
			s->free_handle = (uint32_t)(fh - 1);
	}
	pf_mutex_unlock(&s->lock);
	if (!sh)
		return -EBADF;
	pf_share_unref(s->fs, sh);
	return 0;
}

int pf_sess_handle(struct pf_sess *s, uint64_t fh, struct pf_share **out, bool *write)
{
	int err = -EBADF;

	pf_mutex_lock(&s->lock);
	if (fh - 1 < s->nr_handles && s->handle[fh - 1].share) {
		*out = s->handle[fh - 1].share;
		*write = s->handle[fh - 1].write;
		pf_share_get(*out);
		err = 0;
	}
	pf_mutex_unlock(&s->lock);
	return err;
}

/* Invalidates */

void pf_sess_send_inval(struct pf_share *sh, uint64_t id, uint64_t foff, uint64_t len, uint32_t flags, uint32_t slot)
{
	struct pf_p_inval in = {
		.in_id = id, .in_ino = sh->obj->ino, .in_foff = foff, .in_len = len, .in_flags = flags, .in_slot = slot
	};
	struct fuse_out_header h = { .len = sizeof h + sizeof in, .error = PF_P_NOTIFY_INVAL, .unique = 0 };
	struct iovec iov[2] = { { &h, sizeof h }, { &in, sizeof in } };

	if (atomic_load(&sh->sess->state) == PF_SESS_LIVE)
		sh->sess->send(sh->sess->send_arg, iov, 2);
}

bool pf_sess_expect(struct pf_share *sh, uint64_t id)
{
	struct pf_sess *s = sh->sess;
	bool live = true;

	pf_mutex_lock(&s->lock);
	if (sh->inval_id == 0)
		live = get_live(sh);
	if (live && sh->inval_id == 0) {
		sh->pend_next = s->pending;
		if (sh->pend_next)
			sh->pend_next->pend_pprev = &sh->pend_next;
		sh->pend_pprev = &s->pending;
		s->pending = sh;
	}
	if (live)
		sh->inval_id = id;
	pf_mutex_unlock(&s->lock);
	return live;
}

/* LAYOUT and SESSION are held. True: a reference was dropped to the caller. */
static bool expect_no_more(struct pf_share *sh)
{
	if (sh->inval_id == 0)
		return false;
	sh->inval_id = 0;
	*sh->pend_pprev = sh->pend_next;
	if (sh->pend_next)
		sh->pend_next->pend_pprev = sh->pend_pprev;
	return true;
}

/* A message that tests make come later (base/pause.h). */
struct late {
	struct pf_stand stand;
	struct pf_sess *s;		/* referenced */
	uint64_t arg;
};

/* True: go() gets it when it is let go. */
static bool put_off(struct pf_sess *s, enum pf_point at, uint64_t ino, uint64_t arg, void (*go)(struct pf_stand *st))
{
	struct late *l = s->fs->pause ? calloc(1, sizeof *l) : NULL;
	bool begun;

	if (!l)
		return false;
	l->stand = (struct pf_stand){ .ino = ino, .pid = s->pid, .what = pf_point_name[at], .go = go };
	l->s = s;
	l->arg = arg;
	pf_sess_get(s);
	if (pf_pause(s->fs, &l->stand, at, &begun))
		return true;
	(void)atomic_fetch_sub(&s->refs, 1);	/* not the last: the caller has one */
	free(l);
	return false;
}

static uint64_t late_end(struct late *l)
{
	uint64_t arg = l->arg;

	free(l);
	return arg;
}

static void count_ack(struct pf_sess *s, uint64_t id)
{
	struct pf_share *sh;
	bool mine;

	pf_mutex_lock(&s->lock);
	for (sh = s->pending; sh && sh->inval_id != id; sh = sh->pend_next)
		;
	if (sh)
		pf_share_get(sh);
	pf_mutex_unlock(&s->lock);
	if (!sh)
		return;

	pf_mutex_lock(&sh->obj->lock);
	pf_mutex_lock(&s->lock);
	mine = sh->inval_id == id && expect_no_more(sh);
	pf_mutex_unlock(&s->lock);
	PF_PROBE_ACK(s, id, sh->obj->ino);
	if (mine)
		pf_lay_answered(s->fs, sh, false);
	pf_lay_pump(s->fs, sh->obj);
	if (mine)
		pf_share_unref_more(sh);	/* the invalidate's */
	pf_share_unref(s->fs, sh);
}

static void late_ack(struct pf_stand *st)
{
	struct late *l = PF_CONTAINER_OF(st, struct late, stand);
	struct pf_sess *s = l->s;

	count_ack(s, late_end(l));
	pf_sess_put(s);
}

void pf_sess_ack(struct pf_sess *s, uint64_t id)
{
	uint64_t ino = 0;

	if (id == 0)
		return;
	if (s->fs->pause) {
		pf_mutex_lock(&s->lock);
		for (struct pf_share *sh = s->pending; sh; sh = sh->pend_next)
			if (sh->inval_id == id)
				ino = sh->obj->ino;
		pf_mutex_unlock(&s->lock);
	}
	if (ino == 0 || !put_off(s, PF_AT_ACK, ino, id, late_ack))
		count_ack(s, id);
}

static bool hear_kick(struct pf_sess *s, uint32_t slot)
{
	struct pf_share *sh = NULL;
	struct pf_grant *g;
	bool good = false;

	pf_lay_count(s->fs, PF_COUNT_KICKS, 1);
	PF_PROBE_KICK(s, slot);
	pf_mutex_lock(&s->lock);
	if (slot < s->led.nslot && s->slot[slot]) {
		sh = s->slot[slot]->share;
		pf_share_get(sh);
	}
	pf_mutex_unlock(&s->lock);
	if (!sh)
		return false;

	pf_mutex_lock(&sh->obj->lock);
	pf_mutex_lock(&s->lock);
	g = s->slot[slot];
	if (g && g->share != sh)
		g = NULL;
	pf_mutex_unlock(&s->lock);
	if (g)
		good = pf_win_unpark(s->fs, g, false);
	good = pf_gate_recheck(sh->obj) || good;
	good = pf_lay_pins_fell(sh->obj, false) || good;
	pf_lay_pump(s->fs, sh->obj);
	pf_share_unref(s->fs, sh);
	return good;
}

static void late_kick(struct pf_stand *st)
{
	struct late *l = PF_CONTAINER_OF(st, struct late, stand);
	struct pf_sess *s = l->s;

	(void)hear_kick(s, (uint32_t)late_end(l));
	pf_sess_put(s);
}

bool pf_sess_kick(struct pf_sess *s, uint32_t slot)
{
	uint64_t ino = 0;

	if (s->fs->pause) {
		pf_mutex_lock(&s->lock);
		if (slot < s->led.nslot && s->slot[slot])
			ino = s->slot[slot]->share->obj->ino;
		pf_mutex_unlock(&s->lock);
	}
	return (ino != 0 && put_off(s, PF_AT_KICK, ino, slot, late_kick)) || hear_kick(s, slot);
}

/* Other threads may add and drop some meanwhile: each step takes the next one that was not seen yet. */
struct pf_share *pf_sess_share(struct pf_sess *s, struct pf_share *after)
{
	struct pf_share *sh;

	pf_mutex_lock(&s->lock);
	for (sh = after ? after->sess_next : s->shares; sh; sh = sh->sess_next)
		if (get_live(sh))
			break;
	pf_mutex_unlock(&s->lock);
	if (after)
		pf_share_unref(s->fs, after);
	return sh;
}

void pf_sess_forget(struct pf_sess *s, uint64_t unique)
{
	if (unique == 0)
		return;
	for (struct pf_share *sh = pf_sess_share(s, NULL); sh; sh = pf_sess_share(s, sh))
		pf_gate_forget(sh, unique, -EINTR);
}

static void drop_handles(struct pf_sess *s)
{
	struct pf_handle *h;
	uint32_t i, n;

	pf_mutex_lock(&s->lock);
	h = s->handle;
	n = s->nr_handles;
	s->handle = NULL;
	s->nr_handles = s->free_handle = 0;
	pf_mutex_unlock(&s->lock);
	for (i = 0; i < n; i++)
		if (h[i].share)
			pf_share_unref(s->fs, h[i].share);
	free(h);
}

static bool advance(struct pf_sess *s, enum pf_sess_state to)
{
	bool moved;

	pf_mutex_lock(&s->lock);
	moved = atomic_load(&s->state) < to;
	if (moved)
		atomic_store(&s->state, to);
	pf_mutex_unlock(&s->lock);
	return moved;
}

void pf_sess_cut_off(struct pf_sess *s, bool evicted)
{
	if (!advance(s, PF_SESS_CUT_OFF))
		return;
	pf_kick_leave(s);
	atomic_store(&s->evicted, evicted);
	for (struct pf_share *sh = pf_sess_share(s, NULL); sh; sh = pf_sess_share(s, sh)) {
		unsigned int drop;

		pf_gate_forget(sh, 0, -ENOTCONN);
		pf_mutex_lock(&sh->obj->lock);
		drop = pf_lease_end_share(sh);
		pf_lay_answered(s->fs, sh, true);
		pf_lay_pins_fell(sh->obj, true);
		pf_lay_pump(s->fs, sh->obj);
		while (drop-- != 0)
			pf_share_unref_more(sh);	/* the leases', not ours */
	}
	drop_handles(s);
}

void pf_sess_gone(struct pf_sess *s)
{
	if (!advance(s, PF_SESS_DEAD))
		return;
	PF_PROBE_LEAVE(s);
	pf_uncharge(s, UINT64_MAX);
	pf_kick_leave(s);
	for (struct pf_share *sh = pf_sess_share(s, NULL); sh; sh = pf_sess_share(s, sh)) {
		struct pf_lobj *o = sh->obj;
		unsigned int drop = 0;

		pf_gate_forget(sh, 0, -ENOTCONN);
		pf_mutex_lock(&o->lock);
		drop += pf_lease_end_share(sh);
		pf_mutex_lock(&s->lock);
		while (sh->grants) {
			pf_win_drop(s->fs, sh->grants);
			drop++;
		}
		drop += expect_no_more(sh);
		pf_mutex_unlock(&s->lock);
		pf_lay_answered(s->fs, sh, false);
		pf_lay_pins_fell(o, true);
		pf_lay_pump(s->fs, o);
		while (drop-- != 0)
			pf_share_unref_more(sh);	/* the leases', the grants' and the invalidate's, not ours */
	}
	drop_handles(s);
}
