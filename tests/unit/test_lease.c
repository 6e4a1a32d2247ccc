/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease.c - leases with fake clients: who gets one, what a break makes of it, revoke against bursts of a device,
 * and the hand-over of a lease with its pins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "harness/unit.h"
#include "share/give.h"
#include "unit/one.h"

#define LONG_MS FK_NEVER_MS
#define SHORT_MS 20U
#define SOMEBODY 0x7ffffff0		/* no process has this number, nor a thread of one that has a fake's */

static struct pf_share *share_of(struct fk_sess *k, uint64_t fh)
{
	struct pf_share *sh = NULL;
	bool write;

	CU_ASSERT_EQUAL_FATAL(pf_sess_handle(k->s, fh, &sh, &write), 0);
	return sh;
}

/* 0, and the id in *id; or the error, and what is in the way in *in_way. */
static int take(struct fk_sess *k, uint64_t fh, uint64_t page, uint64_t n, uint32_t flags, uint64_t *id)
{
	struct pf_share *sh = share_of(k, fh);
	struct pf_p_lease_out out;
	int err = pf_lease_take(sh, &(struct pf_lease_req){ page * FK_PAGE, n == 0 ? UINT64_MAX : n * FK_PAGE, flags },
				true, &out);

	*id = out.lo_id;
	pf_share_unref(k->fs, sh);
	return err;
}

static uint64_t must_take(struct fk_sess *k, uint64_t fh, uint64_t page, uint64_t n, uint32_t flags)
{
	uint64_t id;

	CU_ASSERT_EQUAL(take(k, fh, page, n, flags, &id), 0);
	return id;
}

static int covers(struct fk_sess *k, uint64_t fh, uint64_t page, uint64_t n)
{
	struct pf_share *sh = share_of(k, fh);
	int err = pf_lease_covers(sh, page * FK_PAGE, n * FK_PAGE);

	pf_share_unref(k->fs, sh);
	return err;
}

static void cut(struct fk_brk *b, struct one *o, uint64_t page, uint64_t lease_ms)
{
	one_shrink(b, o, page);
	b->b.policy.lease_ms = lease_ms;
	b->b.pid = b->b.tid = SOMEBODY;
}

static void close_one(struct one *o)
{
	if (o->k)
		fk_sess_free(o->k);
	o->k = NULL;
	one_close(o);
}

static struct pf_l_hdr *led(struct fk_sess *k) { return k->s->led.hdr; }
static uint32_t epoch(struct fk_sess *k, uint32_t slot) { return atomic_load(&k->s->led.slot[slot].ls_epoch); }

/* Its client acknowledges meanwhile. */
static void wait_state(struct fk_brk *b, struct fk_sess *k, unsigned int state)
{
	for (unsigned int i = 0; i < 30000; i++) {
		unsigned int now;

		pf_mutex_lock(&b->b.obj->lock);
		now = b->b.state;
		pf_mutex_unlock(&b->b.obj->lock);
		if (now == state)
			return;
		fk_ack(k);
		fk_sleep_ms(1);
	}
	CU_FAIL("the break does not come that far");
}

static void conflicts(void)
{
	struct fk_sess *k2;
	struct pf_p_lease_out out;
	uint64_t fh2, a, b, id;
	struct one o;

	one_open(&o, PF_BUSY_WAIT);
	k2 = fk_sess_new(o.fs, 78);
	fh2 = fk_attach(k2, &o.f);
	a = must_take(o.k, o.fh, 0, 10, PF_LE_READ);
	b = must_take(k2, fh2, 5, 10, PF_LE_READ);
	CU_ASSERT_NOT_EQUAL(a, b);
	CU_ASSERT_EQUAL(take(o.k, o.fh, 9, 1, PF_LE_WRITE, &id), -EAGAIN);
	CU_ASSERT_EQUAL(id, b);
	CU_ASSERT_EQUAL(take(k2, fh2, 9, 0, PF_LE_WRITE, &id), -EAGAIN);
	CU_ASSERT_EQUAL(id, a);
	(void)must_take(k2, fh2, 10, 0, PF_LE_WRITE);
	CU_ASSERT_EQUAL(take(o.k, o.fh, 11, 1, PF_LE_READ, &id), -EAGAIN);
	/* One's own are never in the way. */
	(void)must_take(o.k, o.fh, 0, 5, PF_LE_WRITE);
	CU_ASSERT_EQUAL(take(k2, fh2, 4, 1, PF_LE_READ, &id), -EAGAIN);
	CU_ASSERT_EQUAL(pf_lease_downgrade(o.k->s, id, &out), 0);
	CU_ASSERT_EQUAL(out.lo_flags, PF_LE_READ);
	(void)must_take(k2, fh2, 4, 1, PF_LE_READ);
	/* Nobody has another one's. */
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, b), -ESTALE);
	CU_ASSERT_EQUAL(pf_lease_downgrade(o.k->s, b, &out), -ESTALE);
	CU_ASSERT_EQUAL(pf_lease_drop(k2->s, b), 0);
	CU_ASSERT_EQUAL(pf_lease_drop(k2->s, b), -ESTALE);
	/* Not without end. */
	while (take(o.k, o.fh, 0, 1, PF_LE_READ, &id) == 0)
		CU_ASSERT_FATAL(atomic_load(&o.k->s->nr_leases) <= 4096);
	CU_ASSERT_EQUAL(take(o.k, o.fh, 0, 1, PF_LE_READ, &id), -ENOLCK);
	fk_sess_free(k2);
	close_one(&o);
}

static void coverage(void)
{
	struct fk_brk b;
	struct one o;
	uint64_t id;

	one_open(&o, PF_BUSY_WAIT);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 0, 1), -EPERM);
	id = must_take(o.k, o.fh, 0, 10, PF_LE_READ);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 0, 10), 0);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 0, 11), -EPERM);
	(void)must_take(o.k, o.fh, 8, 10, PF_LE_WRITE);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 2, 16), 0);
	(void)must_take(o.k, o.fh, 100, 0, PF_LE_READ);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 100000, 1), 0);
	/* One that is asked back admits nothing new. */
	cut(&b, &o, 100, LONG_MS);
	fk_submit(&b);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 100, 1), -EPERM);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 0, 10), 0);
	pf_lay_cancel(o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 0, 8), -EPERM);
	close_one(&o);
}

/* Told, given back, and on it goes; nobody is unmapped before. */
static void given_back(void)
{
	struct fk_brk b;
	struct one o;
	uint64_t id, none;

	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 4, 4, PF_LE_READ);
	cut(&b, &o, 8, LONG_MS);		/* not of the lease's */
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->nevent, 0);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, o.run.dblk), 0);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	cut(&b, &o, 7, LONG_MS);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.parks, 1);
	CU_ASSERT_EQUAL(fk_unacked(o.k), 0);
	CU_ASSERT_EQUAL(o.k->nevent, 1);
	CU_ASSERT_EQUAL(o.k->event.ev_id, id);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BREAKING);
	CU_ASSERT(!o.k->void_when_told);
	CU_ASSERT(o.k->event.ev_left_ms > 0 && o.k->event.ev_left_ms <= LONG_MS);
	CU_ASSERT_EQUAL(take(o.k, o.fh, 0, 1, PF_LE_READ, &none), -EAGAIN);	/* a waiter is in the way */
	CU_ASSERT_EQUAL(none, 0);
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->nrevoke, 0);
	fk_unpin(o.k, 0, 5, 1);
	close_one(&o);
}

/* So many pins of slot 0 are of devices that ask before each burst. */
static void mapped(struct fk_sess *k, uint32_t n) { atomic_store(&k->s->led.slot[0].ls_mapped, n); }

/* Not given back: the pins are void, the device is kept off, the file goes on. */
static void revoked(void)
{
	struct fk_brk b;
	struct one o;
	uint32_t ep;

	one_open(&o, PF_BUSY_WAIT);
	(void)must_take(o.k, o.fh, 4, 4, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 3));
	CU_ASSERT(fk_pin(o.k, 0, 20, 1));	/* not under the lease */
	mapped(o.k, 2);
	ep = epoch(o.k, 0);
	CU_ASSERT(pf_dma_enter(led(o.k), 0, ep, 5, 3));
	pf_dma_exit(led(o.k), 0);
	cut(&b, &o, 6, SHORT_MS);
	fk_submit(&b);
	while (!fk_ended(&b) && o.k->nrevoke == 0)
		fk_sleep_ms(1);
	CU_ASSERT(o.k->void_when_told);		/* what it is told is true by then */
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, ep, 5, 3));
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, ep, 7, 1));
	CU_ASSERT(pf_dma_enter(led(o.k), 0, ep, 5, 1));		/* stays in the file */
	pf_dma_exit(led(o.k), 0);
	CU_ASSERT(pf_dma_enter(led(o.k), 0, ep, 20, 1));	/* waits for it */
	pf_dma_exit(led(o.k), 0);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BROKEN);
	CU_ASSERT_EQUAL(o.k->revoke.rv_foff, 6 * FK_PAGE);
	CU_ASSERT_EQUAL(o.k->revoke.rv_len, 2 * FK_PAGE);
	CU_ASSERT(one_word(&o) & PF_SLOT_STALE);
	while (fk_ack(o.k) == 0)
		fk_sleep_ms(1);
	wait_state(&b, o.k, PF_BRK_PARKED);
	CU_ASSERT(!fk_ended(&b));
	fk_unpin(o.k, 0, 20, 1);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_REVOKES), 1);
	/* A pin of the broken lease that is left has no time any more. */
	cut(&b, &o, 5, LONG_MS);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, ep, 5, 1));
	/* The slot goes when the client has ended the void pin; its next life does not know the old mappings. */
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	fk_unpin(o.k, 0, 5, 3);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, DBLK), 0);
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, ep, 5, 3));
	CU_ASSERT(pf_dma_enter(led(o.k), 0, epoch(o.k, 0), 5, 3));
	pf_dma_exit(led(o.k), 0);
	close_one(&o);
}

/* A burst that is under way when the lease is revoked: the blocks wait for its end, and for nothing else. */
static void burst(void)
{
	struct fk_brk b;
	struct one o;
	uint32_t ep;

	one_open(&o, PF_BUSY_WAIT);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	mapped(o.k, 1);
	ep = epoch(o.k, 0);
	CU_ASSERT(pf_dma_enter(led(o.k), 0, ep, 5, 1));
	cut(&b, &o, 0, 1);
	fk_submit(&b);
	wait_state(&b, o.k, PF_BRK_BURSTS);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, ep, 5, 1));
	CU_ASSERT_EQUAL(b.works, 0);
	pf_dma_exit(led(o.k), 0);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	fk_unpin(o.k, 0, 5, 1);
	close_one(&o);
}

/* One device of two has been given the addresses, and does not ask: what it works on is kept until its pin ends. */
static void not_asked(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_WAIT);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 2));
	CU_ASSERT(fk_pin(o.k, 0, 9, 1));
	mapped(o.k, 1);
	cut(&b, &o, 0, 1);
	fk_submit(&b);
	for (unsigned int i = 0; i < 30000 && !fk_ended(&b); i++) {
		fk_ack(o.k);
		fk_sleep_ms(1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->nrevoke, 1);
	CU_ASSERT_EQUAL(one_parked(o.fs), 3);		/* counters do not know whose they are */
	fk_unpin(o.k, 0, 9, 1);
	pf_sess_kick(o.k->s, 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 2);
	fk_unpin(o.k, 0, 5, 2);
	pf_sess_kick(o.k->s, 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	close_one(&o);
}

/* An engine that stands still in the middle of a burst: its blocks are kept out of use until it ends. */
static void burst_for_ever(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.revoke_timeout_ms = SHORT_MS;
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	CU_ASSERT(pf_dma_enter(led(o.k), 0, epoch(o.k, 0), 5, 1));
	cut(&b, &o, 4, 1);
	fk_submit(&b);
	for (unsigned int i = 0; i < 30000 && !fk_ended(&b); i++) {
		fk_ack(o.k);
		fk_sleep_ms(1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 508);
	fk_unpin(o.k, 0, 5, 1);			/* that alone does not do */
	CU_ASSERT_EQUAL(one_parked(o.fs), 508);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	pf_dma_exit(led(o.k), 0);
	pf_sess_kick(o.k->s, 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	close_one(&o);
}

/* Answers that need no waiting, and disturb nobody. */
static void at_once(void)
{
	struct fk_brk b;
	struct one o;
	uint64_t id;

	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_READ | PF_LE_UNBREAK);
	cut(&b, &o, 1, 1);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -ETXTBSY);
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	cut(&b, &o, 1, 1);
	b.b.policy.lease_break = PF_LEASE_TXTBSY;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -ETXTBSY);
	cut(&b, &o, 1, 1);
	b.b.pid = b.b.tid = 77;				/* the holder itself */
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EDEADLK);
	CU_ASSERT_EQUAL(o.k->nevent, 0);
	CU_ASSERT_EQUAL(fk_unacked(o.k), 0);
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_WRITE);
	cut(&b, &o, 500, 1);
	b.b.pid = b.b.tid = 77;
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);			/* may change what it has for writing */
	CU_ASSERT_EQUAL(o.k->nevent, 0);
	/* ebusy: told, and the clock runs; then somebody else finds it due. */
	cut(&b, &o, 1, SHORT_MS);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	CU_ASSERT_EQUAL(o.k->nevent, 1);
	fk_sleep_ms(SHORT_MS + 5);
	cut(&b, &o, 1, LONG_MS);
	b.b.policy.on_busy = PF_BUSY_EBUSY;
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BROKEN);
	close_one(&o);
}

/* Policies that wait for nobody break it at once; what becomes of the pins is theirs. */
static void not_waited_for(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_DEFER);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	cut(&b, &o, 1, LONG_MS);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BROKEN);
	CU_ASSERT_EQUAL(one_parked(o.fs), 1);
	CU_ASSERT(pf_dma_enter(led(o.k), 0, epoch(o.k, 0), 5, 1));	/* on a block that is nobody else's */
	pf_dma_exit(led(o.k), 0);
	fk_unpin(o.k, 0, 5, 1);
	close_one(&o);

	/* The control: nobody is kept off, and the blocks are gone. */
	one_open(&o, PF_BUSY_UNSAFE);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	cut(&b, &o, 1, LONG_MS);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BROKEN);
	CU_ASSERT(pf_dma_enter(led(o.k), 0, epoch(o.k, 0), 5, 1));
	pf_dma_exit(led(o.k), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_COLLISIONS), 1);
	fk_unpin(o.k, 0, 5, 1);
	close_one(&o);
}

/* Dropped with a pin under it: the pin has lease_time, then it is void; or it ends before, and nobody is hurt. */
static void ghosts(void)
{
	struct fk_brk b;
	struct one o;
	uint64_t id;

	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_WRITE);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&o.k->s->nr_leases), 0);
	CU_ASSERT_EQUAL(covers(o.k, o.fh, 5, 1), -EPERM);
	cut(&b, &o, 300, LONG_MS);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);		/* no pin there */
	cut(&b, &o, 1, LONG_MS);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	fk_unpin(o.k, 0, 5, 1);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_PTR_NULL(o.f.lobj.leases);
	close_one(&o);

	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_WRITE);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	cut(&b, &o, 1, SHORT_MS);
	fk_submit(&b);
	for (unsigned int i = 0; i < 30000 && !fk_ended(&b); i++) {
		fk_ack(o.k);
		fk_sleep_ms(1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(!pf_dma_enter(led(o.k), 0, epoch(o.k, 0), 5, 1));
	CU_ASSERT_EQUAL(o.k->nevent, 0);
	fk_unpin(o.k, 0, 5, 1);
	close_one(&o);

	/* Its session goes, with the file's last reference. */
	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_WRITE);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	CU_ASSERT_EQUAL(pf_sess_detach(o.k->s, o.fh), 0);
	close_one(&o);
}

static _Atomic int hung_up;

static void hang_up(void *arg)
{
	(void)arg;
	atomic_fetch_add(&hung_up, 1);
}

/* kill, where the process cannot be killed: it is cut off; and every other way in which a wait for a lease ends. */
static void ends(void)
{
	struct fk_brk b;
	struct one o;
	uint64_t id;

	one_open(&o, PF_BUSY_WAIT);
	o.k->s->hang_up = hang_up;
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	CU_ASSERT(fk_pin(o.k, 0, 5, 1));
	cut(&b, &o, 1, 1);
	b.b.policy.lease_break = PF_LEASE_KILL;
	fk_submit(&b);
	for (unsigned int i = 0; i < 30000 && atomic_load(&hung_up) == 0; i++)
		fk_sleep_ms(1);
	CU_ASSERT(atomic_load(&hung_up) > 0);
	CU_ASSERT(!fk_ended(&b));
	pf_sess_cut_off(o.k->s, true);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 511);		/* of one that may still touch them */
	close_one(&o);

	one_open(&o, PF_BUSY_WAIT);
	id = must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	cut(&b, &o, 1, LONG_MS);
	b.b.policy.timeout_ms = SHORT_MS;
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	CU_ASSERT_EQUAL(o.k->event.ev_state, PF_LEASE_BREAKING);
	cut(&b, &o, 1, LONG_MS);
	fk_submit(&b);
	pf_lay_cancel(o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	cut(&b, &o, 1, LONG_MS);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	CU_ASSERT_EQUAL(pf_lease_drop(o.k->s, id), 0);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	cut(&b, &o, 0, LONG_MS);
	fk_submit(&b);
	CU_ASSERT(!fk_ended(&b));
	pf_sess_gone(o.k->s);				/* the process ends */
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	close_one(&o);

	one_open(&o, PF_BUSY_WAIT);
	(void)must_take(o.k, o.fh, 0, 0, PF_LE_READ);
	cut(&b, &o, 0, LONG_MS);
	fk_submit(&b);
	pf_lay_shutdown(o.fs, -ENOTCONN);
	CU_ASSERT_EQUAL(fk_end(&b), -ENOTCONN);
	cut(&b, &o, 0, LONG_MS);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), -ENOTCONN);
	close_one(&o);
}

/* Hand-over */

struct two {
	struct one o;
	struct fk_sess *k2;
	uint64_t fh2, id;
	struct pf_p_token t;
	struct pf_p_piece there[2];
};

static const struct pf_p_piece here[2] = {
	{ .pc_foff = 0, .pc_slot = 0, .pc_first = 5, .pc_npage = 2, .pc_pin = 0 },
	{ .pc_foff = 0, .pc_slot = 0, .pc_first = 6, .pc_npage = 3, .pc_pin = 1 },
};

static void two_open(struct two *w)
{
	one_open(&w->o, PF_BUSY_WAIT);
	w->k2 = fk_sess_new(w->o.fs, 78);
	w->fh2 = fk_attach(w->k2, &w->o.f);
	w->id = must_take(w->o.k, w->o.fh, 4, 8, PF_LE_WRITE);
	CU_ASSERT(fk_pin(w->o.k, 0, 5, 2));
	CU_ASSERT(fk_pin(w->o.k, 0, 6, 3));
	CU_ASSERT_EQUAL(fk_grant(w->k2, w->fh2, 3, 0, w->o.run.dblk), 0);
	memcpy(w->there, here, sizeof here);
	w->there[0].pc_slot = w->there[1].pc_slot = 3;
}

static void two_close(struct two *w)
{
	if (w->k2)
		fk_sess_free(w->k2);
	close_one(&w->o);
}

static int have(struct two *w)
{
	struct pf_share *from = pf_give_share(w->o.fs, &w->t), *to = share_of(w->k2, w->fh2);
	struct pf_p_lease_out out = { 0 };
	int err = from ? pf_give_finish(w->o.fs, from, to, &w->t, w->there, 2, &out) : -ESTALE;

	if (err == 0) {
		CU_ASSERT_EQUAL(out.lo_id, w->id);
		CU_ASSERT_EQUAL(out.lo_pid, 78);
	}
	if (from)
		pf_share_unref(w->o.fs, from);
	pf_share_unref(w->o.fs, to);
	return err;
}

static void hand_over(void)
{
	struct pf_l_slot *s1, *s2;
	struct fk_brk b;
	struct two w;
	uint32_t ep;

	two_open(&w);
	s1 = &w.o.k->s->led.slot[0];
	s2 = &w.k2->s->led.slot[3];
	ep = epoch(w.o.k, 0);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), 0);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), -EBUSY);
	CU_ASSERT_EQUAL(pf_lease_drop(w.o.k->s, w.id), -EBUSY);
	CU_ASSERT_EQUAL(covers(w.o.k, w.o.fh, 5, 1), -EPERM);
	/* A burst of the device: nothing moves. */
	CU_ASSERT(pf_dma_enter(led(w.o.k), 0, ep, 5, 2));
	CU_ASSERT_EQUAL(have(&w), -EAGAIN);
	CU_ASSERT_EQUAL(atomic_load(&s2->ls_pins), 0);
	pf_dma_exit(led(w.o.k), 0);
	CU_ASSERT(pf_dma_enter(led(w.o.k), 0, ep, 5, 2));
	pf_dma_exit(led(w.o.k), 0);
	CU_ASSERT_EQUAL(have(&w), 0);
	CU_ASSERT_EQUAL(have(&w), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&s1->ls_pins), 0);
	CU_ASSERT_EQUAL(atomic_load(&s2->ls_pins), 2);
	for (unsigned int i = 0; i < 12; i++) {
		CU_ASSERT_EQUAL(atomic_load(&s1->ls_page[i]), 0);
		CU_ASSERT_EQUAL(atomic_load(&s2->ls_page[i]), i == 6 ? 2 : i >= 5 && i < 9);
	}
	CU_ASSERT_EQUAL(w.o.k->event.ev_state, PF_LEASE_BROKEN);
	CU_ASSERT_EQUAL(w.o.k->event.ev_moved, 1);
	CU_ASSERT(!pf_dma_enter(led(w.o.k), 0, ep, 5, 2));	/* the old translation */
	CU_ASSERT(atomic_load(&s1->ls_word) & PF_SLOT_STALE);
	CU_ASSERT_EQUAL(pf_lease_drop(w.o.k->s, w.id), -ESTALE);
	CU_ASSERT_EQUAL(covers(w.k2, w.fh2, 4, 8), 0);
	fk_ack(w.o.k);
	/* From now on it is the new owner who is asked, and revoked. */
	cut(&b, &w.o, 6, SHORT_MS);
	fk_submit(&b);
	CU_ASSERT_EQUAL(w.k2->event.ev_id, w.id);
	for (unsigned int i = 0; i < 30000 && !fk_ended(&b); i++) {
		fk_ack(w.o.k);
		fk_ack(w.k2);
		fk_sleep_ms(1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(!pf_dma_enter(led(w.k2), 3, epoch(w.k2, 3), 6, 1));
	fk_unpin(w.k2, 3, 5, 2);
	fk_unpin(w.k2, 3, 6, 3);
	two_close(&w);
}

/* Either end dies, or changes its mind, or lies: one owner, or none. */
static void hand_over_fails(void)
{
	struct pf_p_piece bad[2];
	struct fk_brk b;
	struct two w;

	two_open(&w);
	CU_ASSERT_EQUAL(pf_give_retract(w.o.k->s, w.id), -EINVAL);
	memcpy(bad, here, sizeof bad);
	bad[1].pc_npage = 4;			/* not pinned */
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, bad, 2, &w.t), -EINVAL);
	bad[1].pc_npage = 600;
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, bad, 2, &w.t), -EINVAL);
	memcpy(bad, here, sizeof bad);
	bad[0].pc_first = 3;			/* not under the lease */
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, bad, 2, &w.t), -EINVAL);
	bad[0] = here[0];
	bad[0].pc_slot = 9;
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, bad, 2, &w.t), -EINVAL);
	CU_ASSERT_EQUAL(pf_give_start(w.k2->s, w.id, here, 2, &w.t), -ESTALE);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), 0);
	CU_ASSERT_EQUAL(pf_give_retract(w.o.k->s, w.id), 0);
	CU_ASSERT_EQUAL(have(&w), -ESTALE);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), 0);
	w.there[1].pc_slot = 2;
	CU_ASSERT_EQUAL(have(&w), -EINVAL);
	w.there[1].pc_slot = 3;
	w.there[1].pc_npage = 2;
	CU_ASSERT_EQUAL(have(&w), -EINVAL);
	w.there[1].pc_npage = 3;
	fk_unpin(w.o.k, 0, 6, 3);		/* which an honest client would not */
	CU_ASSERT_EQUAL(have(&w), -ESTALE);
	CU_ASSERT(fk_pin(w.o.k, 0, 6, 3));
	/* Somebody wants it: it goes nowhere, its owner is asked. */
	cut(&b, &w.o, 1, LONG_MS);
	fk_submit(&b);
	CU_ASSERT_EQUAL(have(&w), -ESTALE);
	CU_ASSERT_EQUAL(w.o.k->event.ev_state, PF_LEASE_BREAKING);
	pf_lay_cancel(w.o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	fk_unpin(w.o.k, 0, 5, 2);
	fk_unpin(w.o.k, 0, 6, 3);
	two_close(&w);

	two_open(&w);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), 0);
	pf_sess_gone(w.o.k->s);			/* the giver */
	CU_ASSERT_EQUAL(have(&w), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&w.k2->s->led.slot[3].ls_pins), 0);
	two_close(&w);

	two_open(&w);
	CU_ASSERT_EQUAL(pf_give_start(w.o.k->s, w.id, here, 2, &w.t), 0);
	CU_ASSERT_EQUAL(have(&w), 0);
	fk_sess_free(w.k2);			/* the taker */
	w.k2 = NULL;
	cut(&b, &w.o, 1, LONG_MS);
	fk_submit(&b);
	fk_ack(w.o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);		/* nobody has anything */
	CU_ASSERT_PTR_NULL(w.o.f.lobj.leases);
	two_close(&w);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "who gets one", conflicts },
		{ "what is covered", coverage },
		{ "asked for, given back", given_back },
		{ "not given back: revoked", revoked },
		{ "revoke waits for a burst", burst },
		{ "... but not for ever", burst_for_ever },
		{ "a device that does not ask", not_asked },
		{ "answers at once", at_once },
		{ "defer and unsafe do not wait", not_waited_for },
		{ "dropped with pins under it", ghosts },
		{ "how a wait for one ends", ends },
		{ "hand-over", hand_over },
		{ "hand-over that fails", hand_over_fails },
	};

	pf_log_init("test_lease", PF_LOG_ERR, false);
	return unit_main("lease", cases, PF_ARRAY_LEN(cases));
}
