/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gate.c - the gate of an inode: grants and pins go in and out, or are put aside while a break has it closed.
 *
 * Who closes it, and runs again what was put aside, is layout.c. Takes LAYOUT.
 */
#include <assert.h>
#include "share/lay.h"

int pf_gate_enter(struct pf_lobj *o, struct pf_gate_wait *w)
{
	int aside = 0;

	pf_mutex_lock(&o->lock);
	if (!o->closer || !PF_ORDER(GATE)) {
		o->inside++;
	} else {
		w->next = NULL;
		if (o->aside)
			o->aside_tail->next = w;
		else
			o->aside = w;
		o->aside_tail = w;
		aside = 1;
	}
	pf_mutex_unlock(&o->lock);
	return aside;
}

void pf_gate_exit(struct pf_fs *fs, struct pf_lobj *o)
{
	pf_mutex_lock(&o->lock);
	assert(o->inside > 0);
	o->inside--;
	pf_lay_pump(fs, o);
}

bool pf_gate_wait_cut(struct pf_lobj *o, uint64_t id, struct pf_gate_wait *w)
{
	bool waits;

	pf_mutex_lock(&o->lock);
	waits = o->cuts && o->cuts->id == id && !pf_win_keeps(w->share, o->cuts->fz_foff, o->cuts->fz_len);
	if (waits) {
		w->next = o->pinwait;
		o->pinwait = w;
	}
	pf_mutex_unlock(&o->lock);
	return waits;
}

bool pf_gate_recheck(struct pf_lobj *o)
{
	struct pf_gate_wait **at = &o->pinwait, *w;
	const struct pf_brk *b = o->cuts;
	const struct pf_share *asked = NULL;
	bool keeps = false, any = false;

	while (b && (w = *at) != NULL) {
		if (w->share != asked)		/* a session's pins are likely to be neighbours */
			keeps = pf_win_keeps(w->share, b->fz_foff, b->fz_len);
		asked = w->share;
		if (!keeps) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = o->ready;
		o->ready = w;
		any = true;
	}
	return any;
}

/* From a list to @gone: what is @sh's, or of it only @unique. *last: what the list ends with then. */
static struct pf_gate_wait *take_out(struct pf_gate_wait **at, const struct pf_share *sh, uint64_t unique,
				     struct pf_gate_wait *gone, struct pf_gate_wait **last)
{
	*last = NULL;
	while (*at != NULL) {
		struct pf_gate_wait *w = *at;

		if (w->share == sh && (unique == 0 || w->unique == unique)) {
			*at = w->next;
			w->next = gone;
			gone = w;
		} else {
			*last = w;
			at = &w->next;
		}
	}
	return gone;
}

void pf_gate_forget(struct pf_share *sh, uint64_t unique, int err)
{
	struct pf_lobj *o = sh->obj;
	struct pf_gate_wait *gone, *w, *last;

	pf_mutex_lock(&o->lock);
	gone = take_out(&o->aside, sh, unique, NULL, &o->aside_tail);
	gone = take_out(&o->pinwait, sh, unique, gone, &last);
	pf_mutex_unlock(&o->lock);
	while ((w = gone) != NULL) {
		gone = w->next;
		w->w_run(w, err);
	}
}
