/* SPDX-License-Identifier: BSD-3-Clause */
/* one.c - one file, one session, one chunk. */
#include "unit/one.h"

#include <stdlib.h>
#include <string.h>
#include "unit/space_env.h"

uint64_t one_count(struct pf_fs *fs, enum pf_count c)
{
	return atomic_load(&fs->lay->count[c]);
}

uint64_t one_parked(struct pf_fs *fs)
{
	struct pf_space sp;

	pf_alloc_stat(fs, &sp);
	return sp.parked;
}

void one_open(struct one *o, enum pf_busy policy)
{
	struct pf_tx *tx;

	o->fs = fk_open();
	o->fs->opts.policy.on_busy = policy;
	CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(o->fs, 512, 512, 0, 0, &o->run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(o->fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_use(tx, o->run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
	o->kept = 512;
	fk_file_init(&o->f, o->fs, 100);
	o->k = fk_sess_new(o->fs, 77);
	o->fh = fk_attach(o->k, &o->f);
	CU_ASSERT_EQUAL(fk_grant(o->k, o->fh, 0, 0, o->run.dblk), 0);
}

/* A truncate that really frees: pages from b.foff on go back to the allocator. */
static void free_pages(struct fk_brk *b)
{
	struct one *o = b->arg;
	uint64_t first = b->b.foff / FK_PAGE;
	struct pf_tx *tx;

	if (first >= o->kept)
		return;
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(o->fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_free(tx, (struct pf_run){ o->run.dblk + first, o->kept - first }), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
	o->kept = first;
}

void one_shrink(struct fk_brk *b, struct one *o, uint64_t pages)
{
	fk_cut(b, &o->f, pages * FK_PAGE, UINT64_MAX);
	b->hook = free_pages;
	b->arg = o;
}

void one_close(struct one *o)
{
	if (o->k)
		fk_sess_free(o->k);
	fk_file_fini(&o->f);
	for (unsigned int i = 0; i < FK_PATIENCE_S * 1000 && one_parked(o->fs) != 0; i++)
		fk_sleep_ms(1);
	CU_ASSERT_EQUAL(one_parked(o->fs), 0);
	fk_close(o->fs);
}

uint32_t one_word(struct one *o)
{
	return atomic_load(&o->k->s->led.slot[0].ls_word);
}
