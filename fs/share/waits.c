/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waits.c - who waits for whom, as data: for `pinfsctl would-block`, and for the search for deadlocks.
 *
 * Owns nothing, decides nothing. Takes REGISTRY, then LAYOUT of one inode at a time.
 */
#include <stdlib.h>
#include <string.h>
#include "share/lay.h"

unsigned int pf_lay_holders(struct pf_lobj *o, uint64_t foff, uint64_t len, struct pf_holder *out, unsigned int max,
			    unsigned int *total, uint64_t *queued)
{
	unsigned int n = 0;

	*total = 0;
	*queued = 0;
	pf_mutex_lock(&o->lock);
	for (struct pf_share *sh = o->shares; sh; sh = sh->next) {
		struct pf_holder h = { sh->sess->id, pf_win_pinned(sh, foff, len), sh->sess->pid, sh->sess->uid, "" };

		if (h.pages == 0)
			continue;
		memcpy(h.comm, sh->sess->comm, sizeof h.comm);
		if (n < max)
			out[n++] = h;
		++*total;
	}
	for (const struct pf_brk *b = o->cuts; b; b = b->next)
		++*queued;
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

/* LAYOUT is held. Those of @b alone. */
static unsigned int pinners(const struct pf_brk *b, pid_t *out, unsigned int n, unsigned int max)
{
	for (struct pf_share *sh = b->obj->shares; sh && n < max; sh = sh->next)
		if (pf_win_pinned(sh, b->fz_foff, b->fz_len) != 0)
			out[n++] = sh->sess->pid;
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
		n = pinners(b, out, n, max);
	else if (b->state == PF_BRK_QUEUED && b->obj->cuts && b->obj->cuts->state == PF_BRK_PARKED)
		n = pinners(b->obj->cuts, out, n, max);
	pf_mutex_unlock(&b->obj->lock);
	pf_brk_unref(b);
	return n;
}
