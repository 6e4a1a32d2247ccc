/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ledger.c - the shared memory of a session, and the handshake of a pinner and a breaker on it, raced for real.
 *
 * Each race runs three times: as include/pinfs/ledger.h says, then with the pinner's second look left out, then with
 * the breaker's scan before its freeze. The two broken ones must lose a pin; a race that cannot lose one proves
 * nothing about the one that does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "harness/unit.h"
#include "share/ledger.h"
#include "unit/space_env.h"

static void shape(void)
{
	struct pf_ledger l;
	void *again;

	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&l, 8, 128), 0);
	CU_ASSERT_EQUAL(l.hdr->lh_magic, PF_LEDGER_MAGIC);
	CU_ASSERT_EQUAL(l.hdr->lh_bytes, pf_ledger_bytes(8, 128));
	CU_ASSERT_PTR_EQUAL((char *)l.hdr + l.hdr->lh_slot_off, l.slot);
	CU_ASSERT_PTR_EQUAL((char *)l.hdr + l.hdr->lh_rec_off, l.rec);
	/* Nobody can take the pages away, or give the file another size. */
	CU_ASSERT_NOT_EQUAL(ftruncate(l.fd, 0), 0);
	CU_ASSERT_NOT_EQUAL(ftruncate(l.fd, 1 << 20), 0);
	CU_ASSERT_NOT_EQUAL(fcntl(l.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	again = mmap(NULL, l.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l.fd, 0);
	CU_ASSERT_NOT_EQUAL_FATAL(again, MAP_FAILED);
	munmap(again, l.bytes);
	/* A hole punched into it reads as zeros: no signal. */
	CU_ASSERT_EQUAL(fallocate(l.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)l.bytes), 0);
	CU_ASSERT(pf_ledger_idle(&l, 7));
	pf_ledger_destroy(&l);
}

static void counting(void)
{
	struct pf_ledger l;
	struct pf_l_slot *s;

	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&l, 2, 64), 0);
	s = &l.slot[1];
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 10, 5, false), 0);
	CU_ASSERT_EQUAL(pf_ledger_pinned(&l, 1, 0, 512), 5);
	CU_ASSERT_EQUAL(pf_ledger_pinned(&l, 1, 12, 1), 1);
	CU_ASSERT_EQUAL(pf_ledger_pinned(&l, 1, 15, 497), 0);
	CU_ASSERT_EQUAL(pf_ledger_pinned(&l, 0, 0, 512), 0);
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 0, 512, false), 0);
	CU_ASSERT_EQUAL(atomic_load(&s->ls_whole), 1);
	CU_ASSERT_EQUAL(pf_ledger_pinned(&l, 1, 15, 497), 497);
	CU_ASSERT_EQUAL(pf_ledger_pins(&l, 1), 2);
	atomic_store(&s->ls_page[3], UINT32_MAX);
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 3, 1, false), -EBUSY);
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 0, 4, false), -EBUSY);
	CU_ASSERT_EQUAL(atomic_load(&s->ls_pins), 1);
	atomic_store(&s->ls_pins, UINT32_MAX);
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 4, 1, false), -EBUSY);
	atomic_store(&s->ls_whole, UINT32_MAX);
	CU_ASSERT_EQUAL(pf_ledger_pin(&l, 1, 0, 512, false), -EBUSY);
	pf_ledger_destroy(&l);
}

static void records(void)
{
	struct pf_pin_rec r;
	struct pf_ledger l;

	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&l, 4, PF_LEDGER_RECS), 0);
	CU_ASSERT_EQUAL(pf_ledger_rec_seek(&l, 0), l.nrec);		/* nothing touched */
	CU_ASSERT_EQUAL(pf_ledger_rec_seek(&l, l.nrec), l.nrec);
	l.rec[30000].lr_ino = 5;
	memset(l.rec[30000].lr_label, 'x', 16);
	CU_ASSERT(pf_ledger_rec_seek(&l, 128) <= 30000);
	CU_ASSERT(pf_ledger_rec_seek(&l, 128) > 30000 - 64);
	CU_ASSERT(!pf_ledger_rec(&l, 30000, &r));
	atomic_store(&l.rec[30000].lr_state, PF_REC_LIVE);
	CU_ASSERT(pf_ledger_rec(&l, 30000, &r));
	CU_ASSERT_EQUAL(r.ino, 5);
	CU_ASSERT_STRING_EQUAL(r.label, "xxxxxxxxxxxxxxxx");
	pf_ledger_destroy(&l);
}

/* The race */

enum how { HOW_RIGHT, HOW_NO_SECOND_LOOK, HOW_SCAN_FIRST };

struct race {
	struct pf_ledger l;
	enum how how;
	_Atomic bool taken;		/* the breaker has the blocks */
	_Atomic bool stop;
	_Atomic unsigned long lost, pins, breaks, undone;
};

/* Sometimes, step aside where the other one does most harm. */
static void linger(uint64_t *seed)
{
	if (rnd(seed) % 8 == 0)
		(void)sched_yield();
}

static void *pinner(void *arg)
{
	struct race *r = arg;
	struct pf_l_slot *s = &r->l.slot[0];
	uint64_t seed = 4711;
	uint32_t w;

	while (!atomic_load(&r->stop)) {
		unsigned int page = (unsigned int)(rnd(&seed) % 512);

		w = atomic_load(&s->ls_word);				/* 1 */
		if (w & PF_SLOT_FROZEN) {
			(void)sched_yield();
			continue;
		}
		linger(&seed);
		atomic_fetch_add(&s->ls_pins, 1);			/* 2 */
		atomic_fetch_add(&s->ls_page[page], 1);
		if (r->how == HOW_NO_SECOND_LOOK || atomic_load(&s->ls_word) == w) {	/* 3 */
			/* Pinned: from here to the unpin, the blocks are ours. */
			linger(&seed);
			if (atomic_load(&r->taken))
				atomic_fetch_add(&r->lost, 1);
			atomic_fetch_add_explicit(&r->pins, 1, memory_order_relaxed);
		} else {
			atomic_fetch_add_explicit(&r->undone, 1, memory_order_relaxed);
		}
		atomic_fetch_sub(&s->ls_page[page], 1);
		atomic_fetch_sub(&s->ls_pins, 1);
	}
	return NULL;
}

static void *breaker(void *arg)
{
	struct race *r = arg;
	uint32_t word = PF_SLOT_GEN;
	uint64_t seed = 1147;
	bool idle;

	while (!atomic_load(&r->stop)) {
		if (r->how == HOW_SCAN_FIRST) {
			idle = pf_ledger_pinned(&r->l, 0, 0, 512) == 0;	/* c */
			linger(&seed);
			pf_ledger_word(&r->l, 0, word | PF_SLOT_FROZEN);	/* a */
		} else {
			pf_ledger_word(&r->l, 0, word | PF_SLOT_FROZEN);	/* a */
			linger(&seed);
			idle = pf_ledger_pinned(&r->l, 0, 0, 512) == 0;	/* c */
		}
		if (idle) {
			atomic_store(&r->taken, true);
			linger(&seed);
			atomic_store(&r->taken, false);
			atomic_fetch_add_explicit(&r->breaks, 1, memory_order_relaxed);
			word += PF_SLOT_GEN;
		}
		pf_ledger_word(&r->l, 0, word);
		linger(&seed);
	}
	return NULL;
}

/* There was a race to speak of. */
static bool raced(struct race *r)
{
	return atomic_load(&r->pins) > 100 && atomic_load(&r->breaks) > 100 && atomic_load(&r->undone) > 0;
}

/* The right one: for @ms at least, and until it has met all that it is about. A broken one ends as soon as it has lost
 * a pin. Either may take a minute where others want the processors. */
static unsigned long race(enum how how, unsigned int ms)
{
	const unsigned int limit = 60000;
	struct race *r = calloc(1, sizeof *r);
	unsigned long lost;
	pthread_t t[2];
	unsigned int i;

	r->how = how;
	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&r->l, 1, 64), 0);
	pf_ledger_word(&r->l, 0, PF_SLOT_GEN);
	pthread_create(&t[0], NULL, pinner, r);
	pthread_create(&t[1], NULL, breaker, r);
	for (i = 0; i < limit && (how == HOW_RIGHT ? i < ms || !raced(r) : atomic_load(&r->lost) == 0); i++)
		(void)nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	atomic_store(&r->stop, true);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	CU_ASSERT(how != HOW_RIGHT || raced(r));
	printf("(%lu pins, %lu breaks, %lu undone, %lu lost) ", atomic_load(&r->pins), atomic_load(&r->breaks),
	       atomic_load(&r->undone), atomic_load(&r->lost));
	lost = atomic_load(&r->lost);
	pf_ledger_destroy(&r->l);
	free(r);
	return lost;
}

static void handshake(void)
{
	CU_ASSERT_EQUAL(race(HOW_RIGHT, 1000), 0);
}

static void twin_no_second_look(void)
{
	CU_ASSERT(race(HOW_NO_SECOND_LOOK, 0) > 0);
}

static void twin_scan_first(void)
{
	CU_ASSERT(race(HOW_SCAN_FIRST, 0) > 0);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "shape and seals", shape },
		{ "counters", counting },
		{ "records", records },
		{ "handshake: no pin is lost", handshake },
		{ "twin: no second look loses one", twin_no_second_look },
		{ "twin: scan before freeze loses one", twin_scan_first },
	};

	return unit_main("ledger", cases, PF_ARRAY_LEN(cases));
}
