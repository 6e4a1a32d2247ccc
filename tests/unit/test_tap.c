/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tap.c - a trace as share/tap.h gives it: the events of a break in their order, those of clients, what is lost
 * and counted, one at a time, and clients that write nonsense into their rings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/probe.h"
#include "harness/unit.h"
#include "share/tap.h"
#include "unit/fakesess.h"

static struct pf_t_ev ev[2 * PF_P_TRACE_MAX];
static unsigned int nev;
static uint64_t lost;

/* Everything that is there, behind what was read before. */
static void read_all(struct pf_tap *t)
{
	struct pf_p_trace_out head;

	do {
		nev += pf_tap_read(t, ev + nev, PF_P_TRACE_MAX, &head);
		lost += head.to_lost;
		CU_ASSERT_FATAL(nev <= PF_P_TRACE_MAX || !head.to_more);
	} while (head.to_more);
}

static void forget(void)
{
	nev = 0;
	lost = 0;
}

/* The first event of this type from @from on; nev when there is none. */
static unsigned int seek(enum pf_t_type type, unsigned int from)
{
	while (from < nev && ev[from].te_type != type)
		from++;
	return from;
}

/* The client's end of its ring. */
static struct pf_t_ring *ring_of(struct fk_sess *k)
{
	void *p = mmap(NULL, PF_T_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, k->s->led.fd,
		       (off_t)k->s->led.trace_off);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static void say(struct pf_t_ring *r, enum pf_t_type type, uint64_t id)
{
	const struct pf_t_ev e = { .te_type = (uint16_t)type, .te_id = id, .te_ns = pf_trace_now() };

	pf_t_push(r, &e);
}

struct one {
	struct pf_fs *fs;
	struct fk_file f;
	struct fk_sess *k;
	uint64_t fh;
	struct pf_tap *t;
	struct pf_t_ring *r;
};

static void begin(struct one *o)
{
	forget();
	o->fs = fk_open();
	fk_file_init(&o->f, o->fs, 77);
	o->k = fk_sess_new(o->fs, 4000);
	pf_tap_join(o->k->s);
	o->fh = fk_attach(o->k, &o->f);
	CU_ASSERT_EQUAL_FATAL(pf_tap_open(o->fs, 1, &o->t), 0);
	o->r = ring_of(o->k);
}

static void end(struct one *o)
{
	munmap(o->r, PF_T_RING_BYTES);
	pf_tap_close(o->t);
	fk_sess_free(o->k);
	fk_file_fini(&o->f);
	fk_close(o->fs);
}

static void one_break(void)
{
	static const enum pf_t_type want[] = {
		PF_TE_JOIN, PF_TE_FILE, PF_TE_MAP, PF_TE_SUBMIT, PF_TE_START, PF_TE_INVAL, PF_TE_ACK, PF_TE_SCAN,
		PF_TE_WAIT, PF_TE_FOR, PF_TE_KICK, PF_TE_WAKE, PF_TE_SCAN, PF_TE_WORK, PF_TE_DONE,
	};
	unsigned int at = 0;
	struct fk_brk b;
	struct one o;

	begin(&o);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 3, 0, 1000), 0);
	CU_ASSERT_TRUE(fk_pin(o.k, 3, 5, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_FALSE(fk_ended(&b));
	fk_unpin(o.k, 3, 5, 1);
	(void)pf_sess_kick(o.k->s, 3);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	read_all(o.t);
	CU_ASSERT_EQUAL(lost, 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(want); i++) {
		at = seek(want[i], at);
		if (at == nev)
			printf("no %s after %zu others ", pf_t_name[want[i]], i);
		CU_ASSERT_FATAL(at < nev);
		if (want[i] == PF_TE_FOR) {
			CU_ASSERT_EQUAL(ev[at].te_sess, o.k->s->id);
			CU_ASSERT_EQUAL(ev[at].te_arg, 1);
		}
		if (want[i] >= PF_TE_SUBMIT && want[i] <= PF_TE_DONE && want[i] != PF_TE_KICK) {
			CU_ASSERT_EQUAL(ev[at].te_id, b.b.id);
			CU_ASSERT_EQUAL(ev[at].te_ino, 77);
		}
		at++;
	}
	for (unsigned int i = 1; i < nev; i++)
		CU_ASSERT_TRUE(ev[i].te_ns + ev[i].te_dur >= ev[i - 1].te_ns);
	end(&o);
}

static void one_tracer(void)
{
	struct pf_tap *second = NULL;
	struct one o;

	begin(&o);
	CU_ASSERT_EQUAL(pf_tap_open(o.fs, 2, &second), -EBUSY);
	CU_ASSERT_EQUAL(pf_tap_pid(o.fs), 1);
	pf_tap_quiet(o.t);
	read_all(o.t);
	forget();
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 1, 0, 1000), 0);
	read_all(o.t);
	CU_ASSERT_EQUAL(nev, 0);
	CU_ASSERT_EQUAL(pf_tap_open(o.fs, 1, &second), -EBUSY);	/* what is there belongs to the first */
	pf_tap_close(o.t);
	CU_ASSERT_FALSE(PF_TRACING(o.fs));
	CU_ASSERT_PTR_NULL(o.fs->trace);
	CU_ASSERT_EQUAL(pf_tap_open(o.fs, 1, &o.t), 0);
	end(&o);
}

/* Nothing is missing without being counted: the daemon's ring and a client's. */
static void overrun(void)
{
	const unsigned int more = 1000;
	struct pf_p_trace_out head;
	uint64_t next = more, got, last = 0;
	struct one o;

	begin(&o);
	read_all(o.t);
	forget();
	for (unsigned int i = 0; i < PF_T_CELLS + more; i++)
		PF_PROBE_KICK(o.k->s, i);
	do {
		nev = pf_tap_read(o.t, ev, PF_P_TRACE_MAX, &head);
		lost += head.to_lost;
		for (unsigned int i = 0; i < nev; i++)
			CU_ASSERT_EQUAL(ev[i].te_arg, next++);
	} while (head.to_more);
	CU_ASSERT_EQUAL(lost, more);
	CU_ASSERT_EQUAL(next, PF_T_CELLS + more);
	/* A client's: the reader leaves more room to a writer that goes on, and counts what that costs. */
	lost = got = 0;
	for (unsigned int i = 0; i < PF_T_CELLS + more; i++)
		say(o.r, PF_TE_PIN, i);
	do {
		nev = pf_tap_read(o.t, ev, PF_P_TRACE_MAX, &head);
		lost += head.to_lost;
		got += nev;
		last = nev != 0 ? ev[nev - 1].te_id : last;
	} while (head.to_more);
	CU_ASSERT_TRUE(lost >= more);
	CU_ASSERT_EQUAL(got + lost, PF_T_CELLS + more);
	CU_ASSERT_EQUAL(last, PF_T_CELLS + more - 1);
	end(&o);
}

static void clients(void)
{
	struct one o;

	begin(&o);
	say(o.r, PF_TE_PIN, 5);
	say(o.r, PF_TE_UNPIN, 5);
	read_all(o.t);
	CU_ASSERT_FATAL(seek(PF_TE_UNPIN, seek(PF_TE_PIN, 0)) < nev);
	CU_ASSERT_EQUAL(ev[seek(PF_TE_PIN, 0)].te_sess, o.k->s->id);
	CU_ASSERT_EQUAL(ev[seek(PF_TE_PIN, 0)].te_pid, 4000);
	/* What it said before it died is read, and its ring goes with it. */
	forget();
	say(o.r, PF_TE_PIN, 6);
	pf_sess_gone(o.k->s);
	read_all(o.t);
	CU_ASSERT_TRUE(seek(PF_TE_PIN, 0) < nev);
	CU_ASSERT_TRUE(seek(PF_TE_LEAVE, 0) < nev);
	forget();
	read_all(o.t);
	CU_ASSERT_EQUAL(nev, 0);
	end(&o);
}

static void nonsense(void)
{
	struct pf_t_ev e = { .te_type = PF_TE_DONE, .te_id = 9 };
	uint64_t head;
	struct one o;

	begin(&o);
	read_all(o.t);
	forget();
	/* What only the daemon says; no type at all; from the future, endless; another's process and text. */
	pf_t_push(o.r, &e);
	e.te_type = 60000;
	pf_t_push(o.r, &e);
	e = (struct pf_t_ev){ .te_type = PF_TE_FAULT, .te_ns = UINT64_MAX, .te_dur = UINT64_MAX, .te_sess = 1234,
			      .te_pid = 1, .te_err = 77 };
	memset(e.te_text, 'x', sizeof e.te_text);
	pf_t_push(o.r, &e);
	e.te_ns = 0;
	pf_t_push(o.r, &e);
	read_all(o.t);
	CU_ASSERT_EQUAL(lost, 2);
	CU_ASSERT_EQUAL_FATAL(nev, 2);
	for (unsigned int i = 0; i < nev; i++) {
		CU_ASSERT_TRUE(ev[i].te_ns <= pf_trace_now() && ev[i].te_dur <= pf_trace_now() - ev[i].te_ns);
		CU_ASSERT_EQUAL(ev[i].te_sess, o.k->s->id);
		CU_ASSERT_EQUAL(ev[i].te_pid, 4000);
		CU_ASSERT_EQUAL(ev[i].te_err, 0);
		CU_ASSERT_EQUAL(ev[i].te_text[sizeof ev[i].te_text - 1], 0);
	}
	/* A head that jumps forth and back, and cells that are never finished: time is bounded, and honest events come
	 * through afterwards. */
	forget();
	atomic_store(&o.r->tr_head, UINT64_MAX / 2);
	read_all(o.t);
	atomic_store(&o.r->tr_head, 10);
	read_all(o.t);
	for (unsigned int i = 0; i < PF_T_CELLS; i++)
		atomic_store(&o.r->tr_cell[i].tc_seq, 0);
	atomic_store(&o.r->tr_head, 200);
	for (int i = 0; i < 100; i++) {
		read_all(o.t);
		fk_sleep_ms(1);
	}
	forget();
	head = atomic_load(&o.r->tr_head);
	say(o.r, PF_TE_PIN, 42);
	CU_ASSERT_EQUAL(atomic_load(&o.r->tr_head), head + 1);
	for (int i = 0; i < 3000 && seek(PF_TE_PIN, 0) == nev; i++) {
		read_all(o.t);
		fk_sleep_ms(10);
	}
	CU_ASSERT_FATAL(seek(PF_TE_PIN, 0) < nev);
	CU_ASSERT_EQUAL(ev[seek(PF_TE_PIN, 0)].te_id, 42);
	end(&o);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a break, event by event", one_break },
		{ "one tracer at a time", one_tracer },
		{ "what is lost is counted", overrun },
		{ "events of clients, also of dead ones", clients },
		{ "clients that write nonsense", nonsense },
	};

	return unit_main("tap", cases, PF_ARRAY_LEN(cases));
}
