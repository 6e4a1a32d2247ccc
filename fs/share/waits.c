/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waits.c - what a pin means for an operation, which layout.c asks, too; and who waits for whom, as data: for `pinfsctl
 * would-block`, and for the search for deadlocks.
 *
 * Owns nothing, changes nothing. Takes REGISTRY, then LAYOUT of one inode at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "share/lay.h"
#include "share/lease.h"

/* Blocks kept back are nobody's: there is a limit to them, beyond which `defer` waits. */
static bool may_defer(struct pf_fs *fs, const struct pf_lobj *o, const struct pf_brk *b)
{
	uint64_t pages = 0;
	struct pf_space sp;

	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		pages += pf_win_pinned(sh, b->foff, b->len);
	pf_alloc_stat(fs, &sp);
	return pages + sp.parked <= (fs->opts.defer_limit != 0 ? fs->opts.defer_limit / PF_BLK_SIZE : sp.total / 4);
}

/* What the policy makes of pins. */
enum pf_p_would pf_lay_on_pins(struct pf_fs *fs, const struct pf_lobj *o, const struct pf_brk *b)
{
	switch (b->policy.on_busy) {
	case PF_BUSY_EBUSY:
		return PF_P_WOULD_EBUSY;
	case PF_BUSY_DEFER:
		return may_defer(fs, o, b) ? PF_P_WOULD_DEFER : PF_P_WOULD_WAIT;
	case PF_BUSY_UNSAFE:
		return PF_P_WOULD_UNSAFE;
	case PF_BUSY_POLL:
	case PF_BUSY_WAIT:
	case PF_BUSY_NR:
		break;
	}
	return PF_P_WOULD_WAIT;
}

/* LAYOUT is held. Who has pins in the range. Transfers that are under way end, whatever their process waits for. */
static unsigned int pinners(const struct pf_lobj *o, uint64_t foff, uint64_t len, pid_t *out, unsigned int max)
{
	unsigned int n = 0;

	for (struct pf_share *sh = o->shares; sh && n < max; sh = sh->next)
		if (pf_win_keeps(sh, foff, len))
			out[n++] = sh->sess->pid;
	return n;
}

/* ... of the operation that all others of the inode wait for. */
static unsigned int behind(const struct pf_lobj *o, pid_t *out, unsigned int max)
{
	const struct pf_brk *first = o->cuts;

	return first && first->state == PF_BRK_PARKED ? pinners(o, first->fz_foff, first->fz_len, out, max) : 0;
}

/* LAYOUT is held. In the order in which layout.c asks: the turn, leases, pins. */
static void answer(struct pf_fs *fs, const struct pf_brk *b, struct pf_meets *out)
{
	uint64_t pins = 0, left;
	int rc = pf_lease_would(fs, b->obj, b, &left);

	/* Those under a lease go with it. */
	for (struct pf_share *sh = b->obj->shares; sh; sh = sh->next)
		pins += pf_lease_outside(sh, b);
	if (out->queued != 0)
		out->answer = PF_P_WOULD_TURN;
	else if (rc < 0)
		out->answer = rc == -EBUSY ? PF_P_WOULD_EBUSY : rc == -EDEADLK ? PF_P_WOULD_DEADLK : PF_P_WOULD_TXTBSY;
	else if (rc > 0)
		out->answer = PF_P_WOULD_WAIT;
	else
		out->answer = pins != 0 ? pf_lay_on_pins(fs, b->obj, b) : PF_P_WOULD_PASS;
	if (out->answer != PF_P_WOULD_WAIT)
		return;
	out->most_ms = b->policy.timeout_ms;
	if (pins == 0)
		out->most_ms = out->most_ms != 0 ? pf_min64(out->most_ms, left) : left;
}

unsigned int pf_lay_would(struct pf_fs *fs, const struct pf_brk *b, struct pf_holder *who, unsigned int max,
			  struct pf_meets *out)
{
	struct pf_lobj *o = b->obj;
	unsigned int n = 0;

	out->queued = out->most_ms = 0;
	out->holders = 0;
	pf_mutex_lock(&o->lock);
	for (struct pf_share *sh = o->shares; sh; sh = sh->next) {
		struct pf_holder h = { sh->sess->id, pf_win_pinned(sh, b->pin_foff, b->pin_len), sh->sess->pid,
				       sh->sess->uid, "" };

		if (h.pages == 0)
			continue;
		memcpy(h.comm, sh->sess->comm, sizeof h.comm);
		if (n < max)
			who[n++] = h;
		out->holders++;
	}
	for (const struct pf_brk *c = o->cuts; c; c = c->next)
		out->queued++;
	out->nlease = pf_lease_in_way(o, b, out->lease, PF_P_WOULD_LEASES, &out->leases);
	answer(fs, b, out);
	out->nkeeper = 0;
	if (out->answer == PF_P_WOULD_TURN)
		out->nkeeper = behind(o, out->keeper, PF_KEEPERS_MAX);
	else if (out->answer == PF_P_WOULD_WAIT)
		out->nkeeper = pinners(o, b->pin_foff, b->pin_len, out->keeper, PF_KEEPERS_MAX);
	pf_mutex_unlock(&o->lock);
	return n;
}

unsigned int pf_lay_waiting(struct pf_fs *fs, struct pf_waiting *out, unsigned int max)
{
	struct pf_brk **b = malloc(max * sizeof(struct pf_brk *));
	unsigned int n = 0;
	uint64_t left;

	if (b)
		n = pf_reg_breaks(fs, b, max, &left);
	for (unsigned int i = 0; i < n; i++) {
		out[i] = (struct pf_waiting){ b[i]->id, b[i]->obj->ino, b[i]->tid, b[i]->kernel_lock };
		pf_brk_unref(b[i]);
	}
	free(b);
	return n;
}

unsigned int pf_lay_waits_for(struct pf_fs *fs, uint64_t id, pid_t *out, unsigned int max)
{
	struct pf_brk *b = pf_reg_find(fs, id);
	unsigned int n = 0;

	if (!b)
		return 0;
	pf_mutex_lock(&b->obj->lock);
	/* Only the first of an inode waits for pins; those behind it, for it. */
	if (b->state == PF_BRK_PARKED)
		n = pinners(b->obj, b->fz_foff, b->fz_len, out, max);
	else if (b->state == PF_BRK_QUEUED)
		n = behind(b->obj, out, max);
	pf_mutex_unlock(&b->obj->lock);
	pf_brk_unref(b);
	return n;
}

bool pf_lay_unshared(struct pf_lobj *o)
{
	bool none;

	pf_mutex_lock(&o->lock);
	none = o->nr_grants == 0;
	pf_mutex_unlock(&o->lock);
	return none;
}

bool pf_lay_attached(struct pf_lobj *o)
{
	bool any;

	pf_mutex_lock(&o->lock);
	any = o->shares != NULL;
	pf_mutex_unlock(&o->lock);
	return any;
}

bool pf_lay_writers(struct pf_lobj *o)
{
	bool any = false;

	pf_mutex_lock(&o->lock);
	for (const struct pf_share *sh = o->shares; sh != NULL && !any; sh = sh->next)
		any = atomic_load(&sh->write);
	pf_mutex_unlock(&o->lock);
	return any;
}
