/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout.c - the break engine with fake clients: each policy, queues, every state that a wait can be ended in,
 * deadlines, deaths, a thousand waiters, and a stress in which the blocks' owner is checked at each pin.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "unit/fakesess.h"
#include "unit/space_env.h"
#include "base/log.h"
#include "harness/unit.h"

#define DBLK 1024U	/* somewhere in the data area of the fake device: where nobody frees */

static uint64_t count(struct pf_fs *fs, enum pf_count c)
{
	return atomic_load(&fs->lay->count[c]);
}

static uint64_t parked(struct pf_fs *fs)
{
	struct pf_space sp;

	pf_alloc_stat(fs, &sp);
	return sp.parked;
}

/* One file of one session with its first chunk in slot 0. */
struct one {
	struct pf_fs *fs;
	struct fk_file f;
	struct fk_sess *k;
	uint64_t fh;
	struct pf_run run;		/* the blocks of the file's first chunk */
	uint64_t kept;			/* pages of it that are still in the file */
};

static void one_open(struct one *o, enum pf_busy policy)
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

static void shrink(struct fk_brk *b, struct one *o, uint64_t pages)
{
	fk_cut(b, &o->f, pages * FK_PAGE, UINT64_MAX);
	b->hook = free_pages;
	b->arg = o;
}

static void one_close(struct one *o)
{
	if (o->k)
		fk_sess_free(o->k);
	fk_file_fini(&o->f);
	CU_ASSERT_EQUAL(parked(o->fs), 0);
	fk_close(o->fs);
}

static uint32_t word(struct one *o)
{
	return atomic_load(&o->k->s->led.slot[0].ls_word);
}

/* Nobody shares the file: the whole break happens inside submit. */
static void unshared(void)
{
	struct pf_fs *fs = fk_open();
	struct fk_file f;
	struct fk_brk b;

	fk_file_init(&f, fs, 5);
	fk_cut(&b, &f, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT(fk_ended(&b));
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(b.parks, 0);
	CU_ASSERT_EQUAL(b.prepares, 1);
	fk_cut(&b, &f, 0, UINT64_MAX);
	b.prepare_err = -EFBIG;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EFBIG);
	CU_ASSERT_EQUAL(b.works, 0);
	fk_map(&b, &f, 0, FK_PAGE);
	b.work_err = -ENOSPC;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -ENOSPC);
	fk_file_fini(&f);
	fk_close(fs);
}

/* Mapped, not pinned: one invalidate, and the acknowledgement does the work. */
static void unmaps_first(void)
{
	struct one o;
	struct fk_brk b;
	uint32_t before;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, FK_CHUNK, DBLK + 512), 0);
	before = word(&o);
	fk_cut(&b, &o.f, FK_PAGE, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.parks, 1);
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT(word(&o) & PF_SLOT_FROZEN);
	CU_ASSERT_EQUAL(fk_unacked(o.k), 1);	/* for both slots */
	CU_ASSERT_EQUAL(o.k->msg[0].foff, FK_PAGE);
	CU_ASSERT_EQUAL(o.k->msg[0].len, UINT64_MAX);
	CU_ASSERT_EQUAL(o.k->msg[0].ino, 100);
	pf_sess_ack(o.k->s, o.k->msg[0].id + 1000);	/* nonsense */
	pf_sess_ack(o.k->s, 0);
	CU_ASSERT(!fk_ended(&b));
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(b.prepares, 1);
	CU_ASSERT_EQUAL(word(&o), before + PF_SLOT_GEN);
	/* The page that was cut is not the session's any more. */
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 1, 1, &(uint64_t){ 0 }), -EFAULT);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 1, &(uint64_t){ 0 }), 0);
	fk_unpin(o.k, 0, 0, 1);
	one_close(&o);
}

static void waits_for_pin(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT(fk_pin(o.k, 0, 3, 2));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_PARKED);
	CU_ASSERT(!fk_pin(o.k, 0, 100, 1));	/* frozen */
	pf_sess_kick(o.k->s, 0);		/* for nothing */
	pf_sess_kick(o.k->s, 9999);
	CU_ASSERT(!fk_ended(&b));
	fk_unpin(o.k, 0, 3, 2);
	CU_ASSERT_EQUAL(fk_end(&b), 0);		/* in this thread, without another invalidate */
	CU_ASSERT_EQUAL(fk_unacked(o.k), 0);
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_WAITS), 1);
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_INVALIDATES), 1);
	CU_ASSERT_EQUAL(b.prepares, 2);
	one_close(&o);
}

/* A pin outside of the range does not count; a whole-slot pin does, everywhere in the slot. */
static void ranges(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_EBUSY);
	CU_ASSERT(fk_pin(o.k, 0, 3, 1));
	fk_cut(&b, &o.f, 4 * FK_PAGE, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_cut(&b, &o.f, 2 * FK_PAGE, FK_PAGE);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_cut(&b, &o.f, 3 * FK_PAGE, FK_PAGE);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	fk_unpin(o.k, 0, 3, 1);
	CU_ASSERT(fk_pin(o.k, 0, 0, 512));
	fk_cut(&b, &o.f, 400 * FK_PAGE, FK_PAGE);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	fk_unpin(o.k, 0, 0, 512);
	/* break=file: the pins of the whole file count, the unmap stays small. */
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 400 * FK_PAGE, FK_PAGE);
	b.b.pin_foff = 0;
	b.b.pin_len = UINT64_MAX;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	fk_unpin(o.k, 0, 0, 1);
	one_close(&o);
}

/* ebusy says so before anything is unmapped. */
static void policy_ebusy(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_EBUSY);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT(fk_ended(&b));
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	CU_ASSERT_EQUAL(fk_unacked(o.k), 0);
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT(!(word(&o) & PF_SLOT_FROZEN));
	fk_unpin(o.k, 0, 0, 1);
	one_close(&o);
}

/* defer: the pinned blocks, and only they, are kept back until the pins are gone. */
static void policy_defer(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_DEFER);
	CU_ASSERT(fk_pin(o.k, 0, 10, 3));
	CU_ASSERT(fk_pin(o.k, 0, 20, 1));
	shrink(&b, &o, 11);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_ack(o.k), 2);	/* the range, then the dead slot */
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(parked(o.fs), 3);	/* pages 11, 12, 20 */
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_DEFERRED_BLOCKS), 3);
	CU_ASSERT(word(&o) & PF_SLOT_STALE);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, o.run.dblk), -ESTALE);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 1, &(uint64_t){ 0 }), -ESTALE);
	/* What left the file is not counted a second time; page 10 is still in it, and is. */
	shrink(&b, &o, 11);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	shrink(&b, &o, 10);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	/* Another slot may be the same chunk with new blocks. */
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, 0, DBLK + 1024), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	fk_unpin(o.k, 0, 20, 1);
	CU_ASSERT_EQUAL(parked(o.fs), 2);
	fk_unpin(o.k, 0, 10, 3);
	CU_ASSERT_EQUAL(parked(o.fs), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	one_close(&o);
}

/* The negative control: nothing is kept back, and it is counted. */
static void policy_unsafe(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_UNSAFE);
	CU_ASSERT(fk_pin(o.k, 0, 10, 3));
	shrink(&b, &o, 11);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(b.works, 1);
	CU_ASSERT_EQUAL(parked(o.fs), 0);
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_COLLISIONS), 2);
	fk_unpin(o.k, 0, 10, 3);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	one_close(&o);
}

/* CUTs are first come, first served, also when a later one would be free to go. MAPs pass a CUT that waits. */
static void fifo(void)
{
	struct one o;
	struct fk_brk b[3], m;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b[0], &o.f, 0, UINT64_MAX);
	fk_cut(&b[1], &o.f, FK_CHUNK, FK_PAGE);
	fk_cut(&b[2], &o.f, 0, UINT64_MAX);
	for (int i = 0; i < 3; i++)
		fk_submit(&b[i]);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(b[0].b.state, PF_BRK_PARKED);
	CU_ASSERT_EQUAL(b[1].b.state, PF_BRK_QUEUED);
	CU_ASSERT_EQUAL(b[1].parks, 1);
	fk_map(&m, &o.f, 5 * FK_CHUNK, FK_PAGE);
	fk_submit(&m);
	CU_ASSERT(fk_ended(&m));
	CU_ASSERT_EQUAL(fk_end(&m), 0);
	fk_unpin(o.k, 0, 0, 1);
	while (fk_ack(o.k) != 0)
		;
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(fk_end(&b[i]), 0);
	CU_ASSERT(m.turn < b[0].turn && b[0].turn < b[1].turn && b[1].turn < b[2].turn);
	one_close(&o);
}

/* A MAP asks only those to forget who were shown a hole. */
static void map_break(void)
{
	struct one o;
	struct fk_brk m;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, FK_CHUNK, 0), 0);
	fk_map(&m, &o.f, 0, FK_CHUNK);
	fk_submit(&m);
	CU_ASSERT_EQUAL(fk_end(&m), 0);
	CU_ASSERT_EQUAL(fk_unacked(o.k), 0);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));		/* and looks at no pins */
	fk_map(&m, &o.f, 0, 2 * FK_CHUNK);
	fk_submit(&m);
	CU_ASSERT(!fk_ended(&m));
	CU_ASSERT_EQUAL(fk_ack(o.k), 1);
	CU_ASSERT_EQUAL(fk_end(&m), 0);
	fk_map(&m, &o.f, 0, 2 * FK_CHUNK);
	m.b.skip_share = o.f.lobj.shares;
	m.b.skip_slot = 1;
	fk_submit(&m);
	CU_ASSERT_EQUAL(fk_end(&m), 0);
	fk_unpin(o.k, 0, 0, 1);
	one_close(&o);
}

static void *grant_later(void *arg)
{
	struct one *o = arg;

	CU_ASSERT_EQUAL(fk_grant(o->k, o->fh, 2, 2 * FK_CHUNK, DBLK + 1024), 0);
	return NULL;
}

static void *cut_later(void *arg)
{
	fk_submit(arg);
	return NULL;
}

/* A cancel ends the wait at once in every state, leaves the file alone, and what stood behind it goes on. */
static void cancel_everywhere(void)
{
	struct one o;
	struct fk_brk a, b, m;
	struct pf_gate_wait w = { 0 };
	pthread_t t;

	one_open(&o, PF_BUSY_WAIT);
	/* waiting for acknowledgements; a grant is put aside meanwhile */
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_ACKS);
	pthread_create(&t, NULL, grant_later, &o);
	fk_sleep_ms(20);
	CU_ASSERT_EQUAL(o.k->s->nr_slots, 1);
	pf_lay_cancel(o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	pthread_join(t, NULL);
	CU_ASSERT_EQUAL(o.k->s->nr_slots, 2);
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT(!(word(&o) & PF_SLOT_FROZEN));
	CU_ASSERT_EQUAL(fk_ack(o.k), 1);		/* late, and nobody's */

	/* parked, with another queued behind, and a cancelled one in between */
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&a, &o.f, 0, UINT64_MAX);
	fk_submit(&a);
	fk_ack(o.k);
	fk_cut(&b, &o.f, 2 * FK_CHUNK, FK_PAGE);
	fk_submit(&b);
	fk_cut(&m, &o.f, 0, FK_PAGE);
	fk_submit(&m);
	pf_lay_cancel(o.fs, m.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&m), -EINTR);
	pf_lay_cancel(o.fs, a.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&a), -EINTR);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_unpin(o.k, 0, 0, 1);

	/* at the gate, somebody inside */
	CU_ASSERT_EQUAL(pf_gate_enter(&o.f.lobj, &w), 0);
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	pthread_create(&t, NULL, cut_later, &b);
	pthread_join(t, NULL);
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_GATE);
	pf_lay_cancel(o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	pf_gate_exit(o.fs, &o.f.lobj);
	CU_ASSERT_EQUAL(b.works, 0);

	pf_lay_cancel(o.fs, 123456789, -EINTR);		/* nobody */
	one_close(&o);
}

/* b_park's refusal ends the break. */
static void park_fails(void)
{
	struct one o;
	struct fk_brk a, b;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&a, &o.f, 0, UINT64_MAX);
	a.park_err = -ENOMEM;
	fk_submit(&a);				/* while it waits for the acknowledgement */
	CU_ASSERT_EQUAL(fk_end(&a), -ENOMEM);
	fk_ack(o.k);
	fk_cut(&a, &o.f, 0, UINT64_MAX);
	fk_submit(&a);
	fk_ack(o.k);
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	b.park_err = -ENOMEM;
	fk_submit(&b);				/* before it is queued */
	CU_ASSERT_EQUAL(fk_end(&b), -ENOMEM);
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT_EQUAL(fk_end(&a), 0);
	one_close(&o);
}

static void busy_timeout(void)
{
	struct one o;
	struct fk_brk a, b;

	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.policy.timeout_ms = 50;
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&a, &o.f, 0, UINT64_MAX);
	fk_submit(&a);
	fk_ack(o.k);
	fk_cut(&b, &o.f, 0, UINT64_MAX);	/* queued behind it: its time runs, too */
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&a), -EBUSY);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_TIMEOUTS), 2);
	CU_ASSERT_EQUAL(a.works + b.works, 0);
	fk_ack(o.k);
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT(!(word(&o) & PF_SLOT_FROZEN));
	one_close(&o);
}

/* A client that does not unmap stalls nobody for longer than revoke_timeout, and loses nothing that it may still
 * write to. */
static void quarantine(void)
{
	struct one o;
	struct fk_brk b;

	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.revoke_timeout_ms = 30;
	shrink(&b, &o, 500);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(count(o.fs, PF_COUNT_QUARANTINES), 1);
	CU_ASSERT_EQUAL(parked(o.fs), 12);
	CU_ASSERT(word(&o) & PF_SLOT_STALE);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	/* It is not waited for again. */
	shrink(&b, &o, 0);
	fk_submit(&b);
	CU_ASSERT(fk_ended(&b));
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(parked(o.fs), 512);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(parked(o.fs), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	one_close(&o);
	/* Ended by its death. */
	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.revoke_timeout_ms = 30;
	shrink(&b, &o, 0);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(parked(o.fs), 512);
	fk_sess_free(o.k);
	o.k = NULL;
	one_close(&o);
}

static void deaths(void)
{
	struct one o;
	struct fk_sess *k2;
	struct fk_brk b;
	uint64_t fh;

	one_open(&o, PF_BUSY_WAIT);
	k2 = fk_sess_new(o.fs, 78);
	fh = fk_attach(k2, &o.f);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, DBLK), 0);
	CU_ASSERT(fk_pin(k2, 0, 0, 1));
	/* dies while its acknowledgement is awaited */
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT(!fk_ended(&b));
	fk_sess_free(k2);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(b.works, 1);
	/* dies while its pin is waited for */
	k2 = fk_sess_new(o.fs, 79);
	fh = fk_attach(k2, &o.f);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, DBLK), 0);
	CU_ASSERT(fk_pin(k2, 0, 0, 512));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	fk_ack(k2);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_PARKED);
	fk_sess_free(k2);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	/* loses its connection, but not its memory: nobody waits, its blocks are kept back */
	k2 = fk_sess_new(o.fs, 80);
	fh = fk_attach(k2, &o.f);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, o.run.dblk), 0);
	CU_ASSERT(fk_pin(k2, 0, 0, 512));
	shrink(&b, &o, 0);
	fk_submit(&b);
	fk_ack(o.k);
	fk_ack(k2);
	CU_ASSERT(!fk_ended(&b));
	pf_sess_cut_off(k2->s, false);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(parked(o.fs), 512);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, DBLK), -EBADF);
	fk_sess_free(k2);
	CU_ASSERT_EQUAL(parked(o.fs), 0);
	one_close(&o);
}

/* New pins while a CUT waits: the CUT goes first, except for those whom it waits for. */
struct waited { struct pf_gate_wait w; sem_t sem; int err; };

static void waited_run(struct pf_gate_wait *w, int err)
{
	struct waited *x = PF_CONTAINER_OF(w, struct waited, w);

	x->err = err;
	sem_post(&x->sem);
}

static void new_pins(void)
{
	struct one o;
	struct fk_sess *k2;
	struct fk_brk b;
	struct waited x = { .w = { .unique = 42, .w_run = waited_run } };
	uint64_t fh, cut = 0;
	int v;

	one_open(&o, PF_BUSY_WAIT);
	sem_init(&x.sem, 0, 0);
	k2 = fk_sess_new(o.fs, 78);
	fh = fk_attach(k2, &o.f);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, DBLK), 0);
	CU_ASSERT(fk_pin(o.k, 0, 7, 1));
	fk_cut(&b, &o.f, 0, 100 * FK_PAGE);
	fk_submit(&b);
	fk_ack(o.k);
	fk_ack(k2);
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_PARKED);
	CU_ASSERT_EQUAL(fk_pin_slow(k2, fh, 0, 7, 1, &cut), -EAGAIN);
	CU_ASSERT_EQUAL(cut, b.b.id);
	CU_ASSERT_EQUAL(fk_pin_slow(k2, fh, 0, 100, 1, &cut), 0);	/* not its pages */
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 8, 1, &cut), 0);	/* it waits for this one */
	fk_unpin(o.k, 0, 7, 1);
	CU_ASSERT(!fk_ended(&b));
	/* a pin that waits: forgotten, then woken by the end */
	x.w.share = k2->s->shares;
	CU_ASSERT(pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	pf_sess_forget(k2->s, 41);
	sem_getvalue(&x.sem, &v);
	CU_ASSERT_EQUAL(v, 0);
	pf_sess_forget(k2->s, 42);
	CU_ASSERT_EQUAL(sem_trywait(&x.sem), 0);
	CU_ASSERT_EQUAL(x.err, -EINTR);
	CU_ASSERT(pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	fk_unpin(o.k, 0, 8, 1);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(sem_trywait(&x.sem), 0);
	CU_ASSERT_EQUAL(x.err, -EAGAIN);
	CU_ASSERT(!pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	fk_unpin(k2, 0, 100, 1);
	sem_destroy(&x.sem);
	fk_sess_free(k2);
	one_close(&o);
}

/* What is granted while a CUT waits is frozen, waited for, and unmapped again before the work. */
static void granted_meanwhile(void)
{
	struct one o;
	struct fk_brk b;
	uint64_t cut;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 5, FK_CHUNK, DBLK + 512), 0);
	CU_ASSERT(!fk_pin(o.k, 5, 0, 1));
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 5, 0, 1, &cut), 0);
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT(!fk_ended(&b));
	fk_unpin(o.k, 5, 0, 1);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(fk_ack(o.k), 1);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(fk_pin(o.k, 5, 0, 1));	/* thawed; the generation tells it that its blocks are gone */
	fk_unpin(o.k, 5, 0, 1);
	one_close(&o);
}

/* Any nonsense in the ledger is a pin of slots that were granted, and of nothing else. */
static void scribbler(void)
{
	struct one o;
	struct fk_file g;
	struct fk_brk b;

	one_open(&o, PF_BUSY_EBUSY);
	fk_file_init(&g, o.fs, 101);
	memset(o.k->s->led.hdr, 0xff, o.k->s->led.bytes);
	fk_cut(&b, &g, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_cut(&b, &o.f, FK_CHUNK, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 1, &(uint64_t){ 0 }), -EBUSY);
	fk_sess_free(o.k);
	o.k = NULL;
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_file_fini(&g);
	one_close(&o);
}

static void slots(void)
{
	struct one o;
	struct fk_file g;
	uint64_t fh2, fhg, cut;

	one_open(&o, PF_BUSY_WAIT);
	fk_file_init(&g, o.fs, 101);
	fhg = fk_attach(o.k, &g);
	fh2 = fk_attach(o.k, &o.f);
	CU_ASSERT_NOT_EQUAL(fh2, o.fh);
	CU_ASSERT_EQUAL(atomic_load(&o.f.refs), 1);		/* one for the session, however many handles */
	CU_ASSERT_EQUAL(fk_grant(o.k, fh2, 0, 0, DBLK), 0);	/* refreshed */
	CU_ASSERT_EQUAL(fk_grant(o.k, fhg, 0, 0, DBLK), -EBUSY);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, FK_CHUNK, DBLK), -EBUSY);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 16, FK_CHUNK, DBLK), -EINVAL);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, FK_PAGE, DBLK), -EINVAL);
	CU_ASSERT_EQUAL(fk_grant(o.k, 0, 1, 0, DBLK), -EBADF);
	CU_ASSERT_EQUAL(fk_grant(o.k, UINT64_MAX, 1, 0, DBLK), -EBADF);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, fhg, 0, 0, 1, &cut), -EINVAL);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 511, 2, &cut), -EINVAL);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, UINT32_MAX, 2, &cut), -EINVAL);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 0, &cut), -EINVAL);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 513, &cut), -EINVAL);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 3), -EINVAL);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 16), -EINVAL);
	CU_ASSERT_EQUAL(pf_sess_detach(o.k->s, o.fh), 0);
	CU_ASSERT_EQUAL(pf_sess_detach(o.k->s, o.fh), -EBADF);
	CU_ASSERT_EQUAL(pf_sess_detach(o.k->s, fh2), 0);
	CU_ASSERT_EQUAL(atomic_load(&o.f.refs), 1);		/* the slot keeps it */
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	CU_ASSERT_EQUAL(atomic_load(&o.f.refs), 0);
	CU_ASSERT(!fk_pin(o.k, 0, 0, 1));			/* a slot that is nobody's is frozen */
	fk_sess_free(o.k);
	o.k = NULL;
	fk_file_fini(&g);
	one_close(&o);
}

#define MANY 1000

/* A thousand files, each with a truncate that waits. They hold no thread, and another file is as fast as ever. */
static void many_waiters(void)
{
	struct pf_fs *fs = fk_open();
	struct fk_file *f = calloc(MANY + 1, sizeof *f);
	struct fk_brk *b = calloc(MANY, sizeof *b), other;
	struct fk_sess *k;
	uint64_t fh, t0, took;
	int i;

	fs->opts.policy.on_busy = PF_BUSY_WAIT;
	fs->opts.window = (MANY + 1) * FK_CHUNK;
	k = fk_sess_new(fs, 77);
	for (i = 0; i <= MANY; i++) {
		fk_file_init(&f[i], fs, 100 + (uint64_t)i);
		fh = fk_attach(k, &f[i]);
		CU_ASSERT_EQUAL(fk_grant(k, fh, (uint32_t)i, 0, DBLK), 0);
		CU_ASSERT(fk_pin(k, (uint32_t)i, 1, 1));
	}
	for (i = 0; i < MANY; i++) {
		fk_cut(&b[i], &f[i], 0, UINT64_MAX);
		fk_submit(&b[i]);
		fk_ack(k);
		CU_ASSERT_EQUAL(b[i].b.state, PF_BRK_PARKED);
	}
	fk_unpin(k, MANY, 1, 1);
	t0 = pf_lay_now();
	for (i = 0; i < 1000; i++) {
		fk_map(&other, &f[MANY], 0, FK_PAGE);
		fk_submit(&other);
		CU_ASSERT_EQUAL(fk_end(&other), 0);
	}
	took = pf_lay_now() - t0;
	CU_ASSERT(took < UINT64_C(1000000000));
	for (i = 0; i < MANY / 2; i++) {
		pf_lay_cancel(fs, b[i].b.id, -EINTR);
		CU_ASSERT_EQUAL(fk_end(&b[i]), -EINTR);
	}
	for (; i < MANY - 10; i++) {
		fk_unpin(k, (uint32_t)i, 1, 1);
		CU_ASSERT_EQUAL(fk_end(&b[i]), 0);
	}
	pf_lay_shutdown(fs, -ESHUTDOWN);
	for (; i < MANY; i++)
		CU_ASSERT_EQUAL(fk_end(&b[i]), -ESHUTDOWN);
	/* And no new waits. */
	fk_cut(&b[0], &f[0], 0, UINT64_MAX);
	fk_submit(&b[0]);
	CU_ASSERT_EQUAL(fk_end(&b[0]), -ESHUTDOWN);
	fk_sess_free(k);
	for (i = 0; i <= MANY; i++)
		fk_file_fini(&f[i]);
	free(f);
	free(b);
	fk_close(fs);
}

/* Everything at once, on one file. While a pin is held, no CUT may do its work. */
struct storm {
	struct one o;
	struct fk_sess *k[2];
	uint64_t fh[2];
	_Atomic int pins;		/* held, for certain */
	_Atomic int lost;
	_Atomic bool stop;
	_Atomic unsigned int cuts, pinned;
};

static void storm_work(struct fk_brk *b)
{
	struct storm *s = b->arg;

	if (b->b.kind == PF_BRK_CUT && atomic_load(&s->pins) != 0)
		atomic_fetch_add(&s->lost, 1);
	if (b->b.kind == PF_BRK_CUT)
		atomic_fetch_add(&s->cuts, 1);
}

static void *storm_cuts(void *arg)
{
	struct storm *s = arg;
	uint64_t seed = 0x1234567;
	struct fk_brk b;

	while (!atomic_load(&s->stop)) {
		if (rnd(&seed) % 4 == 0)
			fk_map(&b, &s->o.f, 0, FK_PAGE);
		else
			fk_cut(&b, &s->o.f, 0, UINT64_MAX);
		b.hook = storm_work;
		b.arg = s;
		fk_submit(&b);
		if (rnd(&seed) % 16 == 0)
			pf_lay_cancel(s->o.fs, b.b.id, -EINTR);
		CU_ASSERT(fk_end(&b) <= 0);
	}
	return NULL;
}

static void *storm_client(void *arg)
{
	struct storm *s = ((struct storm **)arg)[0];
	int me = ((struct storm **)arg)[1] != NULL;
	struct fk_sess *k = s->k[me];
	uint64_t cut, seed = 99 + (uint64_t)me;

	while (!atomic_load(&s->stop)) {
		unsigned int first = (unsigned int)(rnd(&seed) % 511), n = rnd(&seed) % 8 ? 1 : 512;
		bool got;

		if (n == 512)
			first = 0;
		if (rnd(&seed) % 8 == 0)
			(void)fk_grant(k, s->fh[me], 0, 0, DBLK);
		got = fk_pin(k, 0, first, n) || fk_pin_slow(k, s->fh[me], 0, first, n, &cut) == 0;
		if (!got)
			continue;
		atomic_fetch_add(&s->pins, 1);
		atomic_fetch_add(&s->pinned, 1);
		if (rnd(&seed) % 64 == 0)
			fk_sleep_ms(1);
		atomic_fetch_sub(&s->pins, 1);
		fk_unpin(k, 0, first, n);
	}
	return NULL;
}

static void *storm_acks(void *arg)
{
	struct storm *s = arg;

	while (!atomic_load(&s->stop)) {
		fk_ack(s->k[0]);
		fk_ack(s->k[1]);
	}
	return NULL;
}

static void storm(void)
{
	struct storm *s = calloc(1, sizeof *s);
	struct storm *a0[2] = { s, NULL }, *a1[2] = { s, s };
	pthread_t t[5];

	one_open(&s->o, PF_BUSY_WAIT);
	s->k[0] = s->o.k;
	s->fh[0] = s->o.fh;
	s->k[1] = fk_sess_new(s->o.fs, 78);
	s->fh[1] = fk_attach(s->k[1], &s->o.f);
	CU_ASSERT_EQUAL(fk_grant(s->k[1], s->fh[1], 0, 0, DBLK), 0);
	pthread_create(&t[0], NULL, storm_acks, s);
	pthread_create(&t[1], NULL, storm_cuts, s);
	pthread_create(&t[2], NULL, storm_cuts, s);
	pthread_create(&t[3], NULL, storm_client, a0);
	pthread_create(&t[4], NULL, storm_client, a1);
	fk_sleep_ms(1500);
	for (int i = 0; i < 60000 && (atomic_load(&s->cuts) == 0 || atomic_load(&s->pinned) == 0); i++)
		fk_sleep_ms(1);
	/* The acknowledger goes last: everybody else may be waiting for it. */
	atomic_store(&s->stop, true);
	for (int i = 1; i < 5; i++) {
		while (pthread_tryjoin_np(t[i], NULL) != 0) {
			fk_ack(s->k[0]);
			fk_ack(s->k[1]);
		}
	}
	pthread_join(t[0], NULL);
	CU_ASSERT_EQUAL(atomic_load(&s->lost), 0);
	CU_ASSERT(atomic_load(&s->cuts) > 0);
	CU_ASSERT(atomic_load(&s->pinned) > 0);
	printf("(%u cuts, %u pins) ", atomic_load(&s->cuts), atomic_load(&s->pinned));
	fk_sess_free(s->k[1]);
	one_close(&s->o);
	free(s);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "unshared: inside submit", unshared },
		{ "mapped: one invalidate, then the work", unmaps_first },
		{ "wait: parked until the pin ends", waits_for_pin },
		{ "which pins count", ranges },
		{ "ebusy: at once, nothing unmapped", policy_ebusy },
		{ "defer: pinned blocks kept back", policy_defer },
		{ "unsafe: counted, nothing kept back", policy_unsafe },
		{ "cuts in order, maps pass", fifo },
		{ "maps: holes only", map_break },
		{ "cancel in every state", cancel_everywhere },
		{ "a park that fails", park_fails },
		{ "busy_timeout", busy_timeout },
		{ "revoke_timeout: quarantine", quarantine },
		{ "sessions that die", deaths },
		{ "new pins while a cut waits", new_pins },
		{ "grants while a cut waits", granted_meanwhile },
		{ "a client that scribbles", scribbler },
		{ "slots and handles", slots },
		{ "a thousand waiters", many_waiters },
		{ "storm", storm },
	};

	pf_log_init("test_layout", PF_LOG_ERR, false);
	return unit_main("layout", cases, PF_ARRAY_LEN(cases));
}
