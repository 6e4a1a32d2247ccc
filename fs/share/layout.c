/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.c - breaks of inodes that no session shares: one at a time, with the gate closed. */
#include "share/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct pf_lay {
	int down;
};

void pf_lobj_init(struct pf_lobj *o, uint64_t ino)
{
	*o = (struct pf_lobj){ .ino = ino };
	pf_mutex_init(&o->lock, PF_RANK_LAYOUT);
}

void pf_lobj_fini(struct pf_lobj *o)
{
	assert(!o->grants && !o->cuts && !o->maps && !o->closer);
	pf_mutex_fini(&o->lock);
}

int pf_lay_init(struct pf_fs *fs)
{
	fs->lay = calloc(1, sizeof *fs->lay);
	return fs->lay ? 0 : -ENOMEM;
}

void pf_lay_fini(struct pf_fs *fs)
{
	free(fs->lay);
	fs->lay = NULL;
}

/* Run the queue of @o until it is empty. The break that closed the gate runs it. */
static void run(struct pf_lobj *o)
{
	struct pf_brk *held = NULL, *b;
	int err;

	pf_mutex_lock(&o->lock);
	while ((b = o->cuts) != NULL) {
		o->closer = b;
		pf_mutex_unlock(&o->lock);
		err = b->b_prepare ? b->b_prepare(b) : 0;
		if (err == 0)
			err = b->b_work(b);
		b->state = err;
		/* The break before this one may be the last owner of the inode: end it only while this one keeps it. */
		if (held)
			held->b_done(held, held->state);
		held = b;
		pf_mutex_lock(&o->lock);
		o->cuts = b->next;
		if (!o->cuts)
			o->cuts_tail = NULL;
	}
	o->closer = NULL;
	pf_mutex_unlock(&o->lock);
	if (held)
		held->b_done(held, held->state);
}

void pf_lay_submit(struct pf_fs *fs, struct pf_brk *b)
{
	struct pf_lobj *o = b->obj;
	bool first;
	int err;

	(void)fs;
	assert(pf_rank_none());
	pf_mutex_lock(&o->lock);
	first = !o->cuts;
	pf_mutex_unlock(&o->lock);
	if (!first && b->b_park) {
		err = b->b_park(b);
		if (err != 0) {
			b->b_done(b, err);
			return;
		}
	}
	pf_mutex_lock(&o->lock);
	b->next = NULL;
	first = !o->cuts;
	if (first)
		o->cuts = b;
	else
		o->cuts_tail->next = b;
	o->cuts_tail = b;
	pf_mutex_unlock(&o->lock);
	if (first)
		run(o);
}

void pf_lay_cancel(struct pf_fs *fs, uint64_t id, int err)
{
	(void)fs;
	(void)id;
	(void)err;
}

void pf_lay_shutdown(struct pf_fs *fs, int err)
{
	fs->lay->down = err;
}

bool pf_lay_unshared(struct pf_lobj *o)
{
	bool none;

	pf_mutex_lock(&o->lock);
	none = !o->grants;
	pf_mutex_unlock(&o->lock);
	return none;
}
