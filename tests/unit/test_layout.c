/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout.c - the break engine with fake clients: each policy, which pins count, what is unmapped and in which
 * order, and what a client's scribbling over its ledger does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "unit/one.h"
#include "unit/space_env.h"
#include "base/log.h"
#include "harness/unit.h"

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
	before = one_word(&o);
	fk_cut(&b, &o.f, FK_PAGE, UINT64_MAX);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.parks, 1);
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT(one_word(&o) & PF_SLOT_FROZEN);
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
	CU_ASSERT_EQUAL(one_word(&o), before + PF_SLOT_GEN);
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
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_WAITS), 1);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_INVALIDATES), 1);
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
	CU_ASSERT(!(one_word(&o) & PF_SLOT_FROZEN));
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
	one_shrink(&b, &o, 11);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_ack(o.k), 2);	/* the range, then the dead slot */
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 3);	/* pages 11, 12, 20 */
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_DEFERRED_BLOCKS), 3);
	CU_ASSERT(one_word(&o) & PF_SLOT_STALE);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, o.run.dblk), -ESTALE);
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, o.fh, 0, 0, 1, &(uint64_t){ 0 }), -ESTALE);
	/* What left the file is not counted a second time; page 10 is still in it, and is. */
	one_shrink(&b, &o, 11);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	one_shrink(&b, &o, 10);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	/* Another slot may be the same chunk with new blocks. */
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, 0, DBLK + 1024), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	fk_unpin(o.k, 0, 20, 1);
	CU_ASSERT_EQUAL(one_parked(o.fs), 2);
	fk_unpin(o.k, 0, 10, 3);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
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
	one_shrink(&b, &o, 11);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(b.works, 1);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_COLLISIONS), 2);
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
	CU_ASSERT_EQUAL(fk_pin_slow(o.k, fhg, 0, 0, 1, &cut), -ESTALE);
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
		{ "a client that scribbles", scribbler },
		{ "slots and handles", slots },
	};

	pf_log_init("test_layout", PF_LOG_ERR, false);
	return unit_main("layout", cases, PF_ARRAY_LEN(cases));
}
