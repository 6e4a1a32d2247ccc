/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ledger.c - the shared memory of a session, and the handshake of a pinner and a breaker on it.
 *
 * The handshake is played in every order that its steps can have: as include/pinfs/ledger.h says, then without the
 * pinner's second look, with the breaker's scan before its freeze, and without the generation. The first never loses a
 * pin, each of the others does, in as many orders as can be counted. Then two threads race for real.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

/*
 * The handshake, step by step. There is one pinner, who wants a page's block to work on, and one breaker, who gives the
 * block to somebody else if nobody has pinned it. A pin is lost when its owner works on a block that the file has no
 * more.
 */

enum how { HOW_RIGHT, HOW_NO_SECOND_LOOK, HOW_SCAN_FIRST, HOW_NO_GENERATION };
enum end { END_REFUSED, END_UNDONE, END_PINNED, END_LOST };

#define PAGE 7U
#define PIN_STEPS 7U
#define BREAK_STEPS 4U

struct game {
	struct pf_ledger l;
	enum how how;
	_Atomic uint32_t block;		/* of the file, under the page */
};

struct pinner { struct game *g; uint32_t word, block; enum end end; };
struct breaker { struct game *g; uint32_t word; bool idle, took; };

/* The steps of a pin, from the look to the unpin. Who was refused, or has undone, does nothing in what follows. */
static void pin_step(struct pinner *p, unsigned int step)
{
	struct pf_l_slot *s = &p->g->l.slot[0];
	uint32_t care = p->g->how == HOW_NO_GENERATION ? PF_SLOT_FROZEN : UINT32_MAX;

	if (p->end == END_REFUSED && step > 0)
		return;
	switch (step) {
	case 0:								/* 1 */
		p->word = atomic_load(&s->ls_word);
		p->block = atomic_load(&p->g->block);
		p->end = p->word & PF_SLOT_FROZEN ? END_REFUSED : END_PINNED;
		break;
	case 1:								/* 2 */
		atomic_fetch_add(&s->ls_pins, 1);
		break;
	case 2:
		atomic_fetch_add(&s->ls_page[PAGE], 1);
		break;
	case 3:								/* 3 */
		if (p->g->how != HOW_NO_SECOND_LOOK && ((atomic_load(&s->ls_word) ^ p->word) & care) != 0)
			p->end = END_UNDONE;
		break;
	case 4:								/* the work */
		if (p->end == END_PINNED && atomic_load(&p->g->block) != p->block)
			p->end = END_LOST;
		break;
	case 5:
		atomic_fetch_sub(&s->ls_page[PAGE], 1);
		break;
	default:
		atomic_fetch_sub(&s->ls_pins, 1);
		break;
	}
}

/* The steps of a break: a, c, giving the block away, and the end. */
static void break_step(struct breaker *b, unsigned int step)
{
	if (b->g->how == HOW_SCAN_FIRST && step < 2)
		step = 1 - step;
	switch (step) {
	case 0:								/* a */
		pf_ledger_word(&b->g->l, 0, b->word | PF_SLOT_FROZEN);
		break;
	case 1:								/* c */
		b->idle = pf_ledger_pinned(&b->g->l, 0, 0, PF_CHUNK_BLKS) == 0;
		break;
	case 2:
		b->took = b->idle;
		if (b->took) {
			atomic_fetch_add(&b->g->block, 1);
			b->word += PF_SLOT_GEN;
		}
		break;
	default:
		pf_ledger_word(&b->g->l, 0, b->word);
		break;
	}
}

struct tally { unsigned int games, end[4], took; };

/* All interleavings: a set bit of @order is a step of the pinner. No threads, so each of them happens, and once. */
static struct tally play_all(enum how how)
{
	struct game g = { .how = how };
	struct tally t = { 0 };

	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&g.l, 1, 64), 0);
	for (unsigned int order = 0; order < 1U << (PIN_STEPS + BREAK_STEPS); order++) {
		struct pinner p = { .g = &g, .end = END_PINNED };
		struct breaker b = { .g = &g, .word = PF_SLOT_GEN };
		unsigned int np = 0, nb = 0;

		if (__builtin_popcount(order) != (int)PIN_STEPS)
			continue;
		pf_ledger_word(&g.l, 0, b.word);
		for (unsigned int i = 0; i < PIN_STEPS + BREAK_STEPS; i++) {
			if (order >> i & 1)
				pin_step(&p, np++);
			else
				break_step(&b, nb++);
		}
		CU_ASSERT(pf_ledger_idle(&g.l, 0));
		CU_ASSERT_EQUAL(pf_ledger_pins(&g.l, 0), 0);
		t.games++;
		t.end[p.end]++;
		t.took += b.took;
	}
	(void)printf("(%u orders: %u refused, %u undone, %u pinned, %u lost, %u breaks) ", t.games, t.end[END_REFUSED],
		     t.end[END_UNDONE], t.end[END_PINNED], t.end[END_LOST], t.took);
	CU_ASSERT_EQUAL(t.games, 330);		/* 11 over 4 */
	pf_ledger_destroy(&g.l);
	return t;
}

static void handshake(void)
{
	struct tally t = play_all(HOW_RIGHT);

	CU_ASSERT_EQUAL(t.end[END_LOST], 0);
	/* Each way out is taken, or the protections would not have been asked for. */
	CU_ASSERT(t.end[END_REFUSED] > 0);
	CU_ASSERT(t.end[END_UNDONE] > 0);
	CU_ASSERT(t.end[END_PINNED] > 0);
	CU_ASSERT(t.took > 0 && t.took < t.games);
}

static void twin_no_second_look(void)
{
	struct tally t = play_all(HOW_NO_SECOND_LOOK);

	/* The freeze after the look, the scan before the page is counted, the block gone before the work: 22 orders
	 * with the scan before both counts, 30 with the scan between them. */
	CU_ASSERT_EQUAL(t.end[END_LOST], 22 + 30);
	CU_ASSERT_EQUAL(t.end[END_UNDONE], 0);
}

static void twin_scan_first(void)
{
	/* The scan before the page is counted, in 3 places; freeze and giving away between the second look and the
	 * work; the end in 4 places. */
	CU_ASSERT_EQUAL(play_all(HOW_SCAN_FIRST).end[END_LOST], 3 * 4);
}

/* A whole break between the looks: only the generation tells. */
static void twin_no_generation(void)
{
	/* The scan before both counts, or between them. */
	CU_ASSERT_EQUAL(play_all(HOW_NO_GENERATION).end[END_LOST], 6 + 6);
}

/*
 * The same steps by two threads, for the order in which processors make their stores visible. They begin each round
 * together, and take a different time for each step in each. What they meet is a matter of luck, and printed; that no
 * pin is lost is not.
 */
#define ROUNDS 20000U

struct race {
	struct game g;
	_Atomic unsigned int round, ready;
	unsigned int end[4], took;
};

static void dally(uint64_t *seed)
{
	if (rnd(seed) % 16 == 0)	/* there may be one processor for both */
		(void)sched_yield();
	for (volatile uint64_t i = rnd(seed) % 64; i > 0; i--)
		;
}

/* Both are here: the round begins. */
static void meet(struct race *r, unsigned int round)
{
	if (atomic_fetch_add(&r->ready, 1) % 2 == 1)
		atomic_store(&r->round, round + 1);
	for (unsigned int i = 0; atomic_load(&r->round) != round + 1; i++)
		if (i > 1000)		/* the other one may want this processor */
			(void)sched_yield();
}

static void *pinner(void *arg)
{
	struct race *r = arg;
	uint64_t seed = 4711;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct pinner p = { .g = &r->g, .end = END_PINNED };

		meet(r, round);
		dally(&seed);
		for (unsigned int i = 0; i < PIN_STEPS; i++) {
			pin_step(&p, i);
			if (i != 2)	/* 2 and 3 are a store and a load: nothing in between to keep them in order */
				dally(&seed);
		}
		r->end[p.end]++;
	}
	return NULL;
}

static void *breaker(void *arg)
{
	struct race *r = arg;
	struct breaker b = { .g = &r->g, .word = PF_SLOT_GEN };
	uint64_t seed = 1147;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		meet(r, round);
		dally(&seed);
		for (unsigned int i = 0; i < BREAK_STEPS; i++) {
			break_step(&b, i);
			if (i != 0)	/* so are a and c */
				dally(&seed);
		}
		r->took += b.took;
	}
	return NULL;
}

static void raced(void)
{
	struct race *r = calloc(1, sizeof *r);
	pthread_t t[2];

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_EQUAL_FATAL(pf_ledger_create(&r->g.l, 1, 64), 0);
	pf_ledger_word(&r->g.l, 0, PF_SLOT_GEN);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&t[0], NULL, pinner, r), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&t[1], NULL, breaker, r), 0);
	(void)pthread_join(t[0], NULL);
	(void)pthread_join(t[1], NULL);
	(void)printf("(%u refused, %u undone, %u pinned, %u lost, %u breaks) ", r->end[END_REFUSED], r->end[END_UNDONE],
		     r->end[END_PINNED], r->end[END_LOST], r->took);
	CU_ASSERT_EQUAL(r->end[END_LOST], 0);
	CU_ASSERT_EQUAL(r->end[END_REFUSED] + r->end[END_UNDONE] + r->end[END_PINNED], ROUNDS);
	CU_ASSERT(pf_ledger_idle(&r->g.l, 0));
	pf_ledger_destroy(&r->g.l);
	free(r);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "shape and seals", shape },
		{ "counters", counting },
		{ "records", records },
		{ "handshake: no order loses a pin", handshake },
		{ "twin: without the second look", twin_no_second_look },
		{ "twin: scan before freeze", twin_scan_first },
		{ "twin: without the generation", twin_no_generation },
		{ "two threads", raced },
	};

	return unit_main("ledger", cases, PF_ARRAY_LEN(cases));
}
