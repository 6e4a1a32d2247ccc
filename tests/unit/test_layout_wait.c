/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout_wait.c - breaks that wait, with fake clients: every state that a wait can be ended in, deadlines, deaths,
 * pins and grants that come meanwhile, a thousand waiters, and a stress in which the blocks' owner is checked at each
 * pin.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "unit/one.h"
#include "unit/space_env.h"
#include "base/log.h"
#include "harness/unit.h"

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
	CU_ASSERT(!(one_word(&o) & PF_SLOT_FROZEN));
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
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_TIMEOUTS), 2);
	CU_ASSERT_EQUAL(a.works + b.works, 0);
	fk_ack(o.k);
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT(!(one_word(&o) & PF_SLOT_FROZEN));
	one_close(&o);
}

/* The limit is for pins. Who only waits for a client to unmap, or behind one that does, is let through at last. */
static void busy_timeout_acks(void)
{
	struct one o;
	struct fk_brk a, b;

	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.policy.timeout_ms = 1;
	fk_cut(&a, &o.f, 0, FK_PAGE);
	fk_submit(&a);
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_sleep_ms(50);
	CU_ASSERT(!fk_ended(&a) && !fk_ended(&b));
	CU_ASSERT_EQUAL(a.b.state, PF_BRK_ACKS);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&a), 0);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_WAITS), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_TIMEOUTS), 0);

	/* With a pin in the way it ends before there is an answer, and has waited. */
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, DBLK), 0);
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&a, &o.f, 0, UINT64_MAX);
	fk_submit(&a);
	CU_ASSERT_EQUAL(fk_end(&a), -EBUSY);
	CU_ASSERT_EQUAL(a.works, 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_WAITS), 1);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_TIMEOUTS), 1);
	fk_ack(o.k);
	fk_unpin(o.k, 0, 0, 1);
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
	one_shrink(&b, &o, 500);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_count(o.fs, PF_COUNT_QUARANTINES), 1);
	CU_ASSERT_EQUAL(one_parked(o.fs), 12);
	CU_ASSERT(one_word(&o) & PF_SLOT_STALE);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), -EBUSY);
	/* It is not waited for again. */
	one_shrink(&b, &o, 0);
	fk_submit(&b);
	CU_ASSERT(fk_ended(&b));
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 512);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
	CU_ASSERT_EQUAL(pf_win_remove(o.fs, o.k->s, 0), 0);
	one_close(&o);
	/* Ended by its death. */
	one_open(&o, PF_BUSY_WAIT);
	o.fs->opts.revoke_timeout_ms = 30;
	one_shrink(&b, &o, 0);
	fk_submit(&b);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 512);
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
	one_shrink(&b, &o, 0);
	fk_submit(&b);
	fk_ack(o.k);
	fk_ack(k2);
	CU_ASSERT(!fk_ended(&b));
	pf_sess_cut_off(k2->s, false);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT_EQUAL(one_parked(o.fs), 512);
	CU_ASSERT_EQUAL(fk_grant(k2, fh, 0, 0, DBLK), -EBADF);
	fk_sess_free(k2);
	CU_ASSERT_EQUAL(one_parked(o.fs), 0);
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
	CU_ASSERT(fk_woken(&x.sem));
	CU_ASSERT_EQUAL(x.err, -EINTR);
	CU_ASSERT(pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	fk_unpin(o.k, 0, 8, 1);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(fk_woken(&x.sem));
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

/*
 * A session whose pins in the way of a cut end by themselves waits like any other, whatever kind of pin it asks for;
 * with one that does not, it does not. Twin: a client that never says so is granted as many as it likes.
 */
static void brief_pins(void)
{
	struct waited x = { .w = { .unique = 42, .w_run = waited_run } };
	_Atomic uint32_t *brief;
	struct fk_brk b;
	struct one o;
	uint64_t cut;

	one_open(&o, PF_BUSY_WAIT);
	brief = &o.k->s->led.slot[0].ls_brief;
	sem_init(&x.sem, 0, 0);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 7, 1, true, &cut), 0);
	CU_ASSERT_EQUAL(atomic_load(brief), 1);
	fk_cut(&b, &o.f, 0, 100 * FK_PAGE);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(b.b.state, PF_BRK_PARKED);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 8, 1, true, &cut), -EAGAIN);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 8, 1, false, &cut), -EAGAIN);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 200, 1, false, &cut), 0);	/* not its pages */
	fk_unpin(o.k, 0, 200, 1);
	cut = b.b.id;
	x.w.share = o.k->s->shares;
	CU_ASSERT(pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	fk_sleep_ms(1);
	CU_ASSERT_NOT_EQUAL(sem_trywait(&x.sem), 0);

	/* It does not end by itself, after all: who waits is told by the kick, and who asks is granted. */
	atomic_fetch_sub(brief, 1);
	pf_sess_kick(o.k->s, 0);
	CU_ASSERT(fk_woken(&x.sem));
	CU_ASSERT_EQUAL(x.err, -EAGAIN);
	CU_ASSERT(!pf_gate_wait_cut(&o.f.lobj, cut, &x.w));
	for (unsigned int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 8 + i, 1, true, &cut), 0);
	CU_ASSERT(!fk_ended(&b));

	/* The brief ones are left: then the cut comes first again. */
	fk_unpin(o.k, 0, 7, 1);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 20, 1, true, &cut), -EAGAIN);
	for (unsigned int i = 0; i < 3; i++) {
		CU_ASSERT(!fk_ended(&b));
		atomic_fetch_sub(brief, 1);
		fk_unpin(o.k, 0, 8 + i, 1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);

	/* A number that no honest client has: it waits, and for nobody but itself. */
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 300, 1, false, &cut), 0);
	atomic_store(brief, UINT32_MAX);
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_pin_as(o.k, o.fh, 0, 301, 1, false, &cut), -EAGAIN);
	fk_unpin(o.k, 0, 300, 1);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	sem_destroy(&x.sem);
	one_close(&o);
}

#define MANY 1000

/* Of this process, which may have to wait for a processor. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static unsigned int looks(struct fk_brk *b)
{
	unsigned int n = 0;

	for (int i = 0; i < MANY; i++)
		n += (unsigned int)atomic_load(&b[i].prepares);
	return n;
}

/* A thousand files, each with a truncate that waits. They hold no thread, and nobody looks at them for another file's
 * sake. */
static void many_waiters(void)
{
	struct pf_fs *fs = fk_open();
	struct fk_file *f = calloc(MANY + 1, sizeof *f);
	struct fk_brk *b = calloc(MANY, sizeof *b), other;
	struct fk_sess *k;
	unsigned int looked;
	uint64_t fh, t0;
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
	looked = looks(b);
	t0 = cpu_ns();
	for (i = 0; i < 1000; i++) {
		fk_map(&other, &f[MANY], 0, FK_PAGE);
		fk_submit(&other);
		CU_ASSERT_EQUAL(fk_end(&other), 0);
	}
	(void)printf("(%llu us) ", (unsigned long long)(cpu_ns() - t0) / 1000);
	CU_ASSERT_EQUAL(looks(b), looked);
	CU_ASSERT_EQUAL(looked, MANY);
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
/* ---- a client that forgets the file at this moment ---- */

struct forgetting {
	struct pf_sess *s;
	uint64_t fh;
};

static void *forget(void *arg)
{
	struct forgetting *f = arg;

	CU_ASSERT_EQUAL(pf_sess_detach(f->s, f->fh), 0);
	return NULL;
}

/*
 * It had private copies, so it would have to be told without having a slot; its share is at the lock of the file to
 * leave the list.
 */
static void forgotten(void)
{
	struct one o;
	struct forgetting f;
	struct fk_sess *k;
	struct pf_share *sh;
	struct fk_brk b;
	pthread_t t;
	bool w;

	one_open(&o, PF_BUSY_WAIT);
	k = fk_sess_new(o.fs, getpid());
	f = (struct forgetting){ k->s, fk_attach(k, &o.f) };
	CU_ASSERT_EQUAL_FATAL(pf_sess_handle(f.s, f.fh, &sh, &w), 0);
	atomic_store(&sh->copies, true);
	fk_cut(&b, &o.f, FK_CHUNK, FK_CHUNK);
	b.b.drops = true;
	pf_mutex_lock(&o.f.lobj.lock);
	pf_share_unref_more(sh);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, forget, &f), 0);
	while (atomic_load(&sh->refs) != 0)
		(void)sched_yield();
	pf_brk_unmap(o.fs, &o.f.lobj, &b.b);
	CU_ASSERT_PTR_NULL(sh->inval_brk);
	CU_ASSERT_EQUAL(atomic_load(&sh->refs), 0);
	CU_ASSERT_EQUAL(b.b.acks, 0);
	pf_mutex_unlock(&o.f.lobj.lock);
	(void)pthread_join(t, NULL);
	CU_ASSERT_PTR_EQUAL(o.f.lobj.shares->sess, o.k->s);
	CU_ASSERT_PTR_NULL(o.f.lobj.shares->next);
	fk_sess_free(k);
	one_close(&o);
}

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
		{ "cancel in every state", cancel_everywhere },
		{ "a park that fails", park_fails },
		{ "busy_timeout", busy_timeout },
		{ "busy_timeout: for pins alone", busy_timeout_acks },
		{ "revoke_timeout: quarantine", quarantine },
		{ "sessions that die", deaths },
		{ "a client that forgets the file", forgotten },
		{ "new pins while a cut waits", new_pins },
		{ "pins that end by themselves", brief_pins },
		{ "grants while a cut waits", granted_meanwhile },
		{ "a thousand waiters", many_waiters },
		{ "storm", storm },
	};

	pf_log_init("test_layout_wait", PF_LOG_ERR, false);
	return unit_main("layout: waits", cases, PF_ARRAY_LEN(cases));
}
