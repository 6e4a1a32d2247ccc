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
	if (!o->closer) {
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
	waits = o->cuts && o->cuts->id == id;
	if (waits) {
		w->next = o->pinwait;
		o->pinwait = w;
	}
	pf_mutex_unlock(&o->lock);
	return waits;
}

void pf_gate_forget(struct pf_share *sh, uint64_t unique, int err)
{
	struct pf_lobj *o = sh->obj;
	struct pf_gate_wait *gone = NULL, *w, **at;
	int list;

	pf_mutex_lock(&o->lock);
	for (list = 0; list < 2; list++) {
		struct pf_gate_wait *last = NULL;

		at = list == 0 ? &o->aside : &o->pinwait;
		while ((w = *at) != NULL) {
			if (w->share == sh && (unique == 0 || w->unique == unique)) {
				*at = w->next;
				w->next = gone;
				gone = w;
			} else {
				last = w;
				at = &w->next;
			}
		}
		if (list == 0)
			o->aside_tail = last;
	}
	pf_mutex_unlock(&o->lock);
	while ((w = gone) != NULL) {
		gone = w->next;
		w->w_run(w, err);
	}
}
