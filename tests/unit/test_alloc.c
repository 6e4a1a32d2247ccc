/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_alloc.c - nothing is given twice, nothing is lost, big runs stay aligned, parked blocks stay put.
 * The twin of the parking test is the same story without the park: the block is given to somebody else at once.
 */
#include "harness/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "space_env.h"

#define MIB (UINT64_C(1) << 20)

static struct pf_run take(struct pf_fs *fs, uint64_t want, uint64_t min, unsigned int flags)
{
	struct pf_run run = { 0, 0 };
	struct pf_tx *tx;

	if (pf_alloc_reserve(fs, want, min, 0, flags, &run) != 0)
		return (struct pf_run){ 0, 0 };
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_use(tx, run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
	return run;
}

static void give(struct pf_fs *fs, struct pf_run run)
{
	struct pf_tx *tx;

	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_free(tx, run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
}

static uint64_t all_free(struct pf_fs *fs)
{
	struct pf_space s;

	pf_alloc_stat(fs, &s);
	return s.free + s.kept;
}

static void random_ops(void)
{
	enum { SLOTS = 400 };
	static struct pf_run live[SLOTS];
	struct pf_fs *fs = space_open(300 * MIB);	/* more than two groups */
	uint64_t free0 = all_free(fs), seed = 99, used = 0;
	uint8_t *owner = calloc(fs->nblk, 1);

	memset(live, 0, sizeof live);
	CU_ASSERT_EQUAL(free0, space_media_free(fs));
	for (int step = 0; step < 20000; step++) {
		struct pf_run *r = &live[rnd(&seed) % SLOTS];

		if (r->nblk != 0) {
			for (uint64_t b = r->dblk; b < r->dblk + r->nblk; b++)
				owner[b] = 0;
			used -= r->nblk;
			give(fs, *r);
			r->nblk = 0;
			continue;
		}
		*r = take(fs, 1 + rnd(&seed) % (rnd(&seed) % 4 ? 16 : 2000), 1, 0);
		for (uint64_t b = r->dblk; b < r->dblk + r->nblk; b++) {
			CU_ASSERT_EQUAL_FATAL(owner[b], 0);
			owner[b] = 1;
		}
		used += r->nblk;
		if (step % 1000 == 0) {
			CU_ASSERT_EQUAL(all_free(fs), free0 - used);
			CU_ASSERT_EQUAL(space_media_free(fs), free0 - used);
		}
		if (step % 5000 == 0)
			space_remount(fs);
	}
	for (int i = 0; i < SLOTS; i++)
		if (live[i].nblk)
			give(fs, live[i]);
	CU_ASSERT_EQUAL(all_free(fs), free0);
	CU_ASSERT_EQUAL(space_media_free(fs), free0);
	free(owner);
	space_close(fs);
}

static void last_block(void)
{
	struct pf_fs *fs = space_open(16 * MIB);
	struct pf_space s;
	struct pf_run r;

	for (;;) {
		r = take(fs, 7, 1, 0);
		if (r.nblk == 0)
			break;
	}
	pf_alloc_stat(fs, &s);
	CU_ASSERT_EQUAL(s.free, 0);
	CU_ASSERT_EQUAL(pf_alloc_reserve(fs, 1, 1, 0, 0, &r), -ENOSPC);
	for (uint64_t n = s.kept; n != 0; n--)		/* metadata may have the kept ones, to the last */
		CU_ASSERT_EQUAL_FATAL(take(fs, 1, 1, PF_ALLOC_META).nblk, 1);
	CU_ASSERT_EQUAL(pf_alloc_reserve(fs, 1, 1, 0, PF_ALLOC_META, &r), -ENOSPC);
	CU_ASSERT_EQUAL(space_media_free(fs), 0);
	space_close(fs);
}

/* 10^5 small allocations and frees; then big ones still start on 2 MiB. */
static void stays_aligned(void)
{
	enum { SLOTS = 2000 };
	static struct pf_run live[SLOTS];
	struct pf_fs *fs = space_open(256 * MIB);
	uint64_t seed = 7;

	memset(live, 0, sizeof live);
	for (int step = 0; step < 100000; step++) {
		struct pf_run *r = &live[rnd(&seed) % SLOTS];

		if (r->nblk) {
			give(fs, *r);
			r->nblk = 0;
		} else {
			*r = take(fs, 1 + rnd(&seed) % 8, 1, 0);
			CU_ASSERT_FATAL(r->nblk != 0);
		}
	}
	for (int i = 0; i < 80; i++) {		/* 160 of 256 MiB */
		struct pf_run r = take(fs, PF_CHUNK_BLKS, PF_CHUNK_BLKS, 0);

		CU_ASSERT_FATAL(r.nblk == PF_CHUNK_BLKS && r.dblk % PF_CHUNK_BLKS == 0);
	}
	space_close(fs);
}

/*
 * Age costs no time: what a small run and a chunk cost on a new device, and on one that is cut into 10^5 pieces of one
 * block up to 31, every other one free, beside each other. Time of this thread alone, and of the fastest of many short
 * rounds: nobody else's load shows.
 */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t fastest(struct pf_fs *fs, uint64_t want)
{
	uint64_t best = UINT64_MAX, t;
	struct pf_run run[64];

	for (int round = 0; round < 50; round++) {
		t = cpu_ns();
		for (unsigned int i = 0; i < PF_ARRAY_LEN(run); i++)
			CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(fs, want, 1, 0, 0, &run[i]), 0);
		t = cpu_ns() - t;
		best = t < best ? t : best;
		for (unsigned int i = 0; i < PF_ARRAY_LEN(run); i++)
			pf_alloc_unreserve(fs, run[i]);
	}
	return best;
}

static void stays_fast(void)
{
	struct pf_fs *fs = space_open(8192 * MIB);
	uint64_t fresh_small = fastest(fs, 8), fresh_big = fastest(fs, PF_CHUNK_BLKS), seed = 7, pieces = 0, n;
	static struct pf_run all[8192];
	unsigned int taken = 0;

	while (taken < PF_ARRAY_LEN(all) && pf_alloc_reserve(fs, PF_CHUNK_BLKS, 1, 0, 0, &all[taken]) == 0)
		taken++;
	for (unsigned int i = 0; i < taken; i++)
		for (uint64_t at = 0; at < all[i].nblk; at += n, pieces++) {
			n = pf_min64(rnd(&seed) % 31 + 1, all[i].nblk - at);
			if (pieces % 2 == 0)
				pf_alloc_unreserve(fs, (struct pf_run){ all[i].dblk + at, n });
		}
	CU_ASSERT(pieces > 100000);
	CU_ASSERT(fastest(fs, 8) < 10 * fresh_small + 100000);
	CU_ASSERT(fastest(fs, PF_CHUNK_BLKS) < 10 * fresh_big + 100000);
	space_close(fs);
}

static void goal_is_kept(void)
{
	struct pf_fs *fs = space_open(64 * MIB);
	struct pf_run a = take(fs, 4, 4, 0), b;

	CU_ASSERT_EQUAL(pf_alloc_reserve(fs, 4, 4, a.dblk + 4, 0, &b), 0);
	CU_ASSERT_EQUAL(b.dblk, a.dblk + 4);
	pf_alloc_unreserve(fs, b);
	CU_ASSERT_EQUAL(pf_alloc_reserve(fs, 4, 4, fs->nblk + 77, 0, &b), 0);	/* a goal outside is only a hint */
	pf_alloc_unreserve(fs, b);
	space_close(fs);
}

static void abort_gives_back(void)
{
	struct pf_fs *fs = space_open(16 * MIB);
	uint64_t free0 = all_free(fs);
	struct pf_run kept = take(fs, 8, 8, 0), run;
	struct pf_tx *tx;

	CU_ASSERT_EQUAL(pf_alloc_reserve(fs, 10, 10, 0, 0, &run), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_tx_use(tx, run), 0);
	CU_ASSERT_EQUAL(pf_tx_free(tx, kept), 0);
	pf_tx_abort(tx);
	CU_ASSERT_EQUAL(all_free(fs), free0 - 8);
	CU_ASSERT_EQUAL(space_media_free(fs), free0 - 8);

	/* Freed twice, or never owned: damage, and the commit does nothing. */
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_tx_free(tx, (struct pf_run){ kept.dblk, 8 }), 0);
	CU_ASSERT_EQUAL(pf_tx_free(tx, (struct pf_run){ kept.dblk + 7, 1 }), 0);
	CU_ASSERT_EQUAL(pf_tx_commit(tx), -EUCLEAN);
	CU_ASSERT_EQUAL(space_media_free(fs), free0 - 8);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_tx_free(tx, (struct pf_run){ 0, 1 }), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_tx_free(tx, (struct pf_run){ fs->nblk - 1, 1 }), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_tx_free(tx, (struct pf_run){ kept.dblk, UINT64_MAX }), -EUCLEAN);
	pf_tx_abort(tx);
	space_close(fs);
}

/* Fill the device but for @n blocks, park these while owned, free them: nobody gets them until they are unparked. */
static bool reused_after_free(bool park)
{
	struct pf_fs *fs = space_open(16 * MIB);
	struct pf_run mine = take(fs, 5, 5, 0), part = { mine.dblk + 1, 3 }, r;
	struct pf_space s;
	bool reused = false;

	while (take(fs, 64, 1, PF_ALLOC_META).nblk != 0)
		;
	if (park) {
		CU_ASSERT_EQUAL_FATAL(pf_alloc_park(fs, part), 0);
		CU_ASSERT_EQUAL_FATAL(pf_alloc_park(fs, (struct pf_run){ mine.dblk + 2, 1 }), 0);
	}
	give(fs, mine);
	pf_alloc_stat(fs, &s);
	CU_ASSERT_EQUAL(s.parked, park ? 3 : 0);
	CU_ASSERT_EQUAL(space_media_free(fs), 5);		/* on the media they are free at once */
	while ((r = take(fs, 1, 1, PF_ALLOC_META)).nblk != 0)
		if (r.dblk >= part.dblk && r.dblk < part.dblk + part.nblk)
			reused = true;
	if (park) {
		pf_alloc_unpark(fs, part);
		CU_ASSERT_EQUAL(take(fs, 1, 1, PF_ALLOC_META).dblk, mine.dblk + 1);
		CU_ASSERT_EQUAL(take(fs, 1, 1, PF_ALLOC_META).dblk, mine.dblk + 3);
		CU_ASSERT_EQUAL(take(fs, 1, 1, PF_ALLOC_META).nblk, 0);	/* still parked once */
		pf_alloc_unpark(fs, (struct pf_run){ mine.dblk + 2, 1 });
		CU_ASSERT_EQUAL(take(fs, 1, 1, PF_ALLOC_META).dblk, mine.dblk + 2);
	}
	space_close(fs);
	return reused;
}

static void parked_stay(void)
{
	CU_ASSERT_FALSE(reused_after_free(true));
	CU_ASSERT_TRUE(reused_after_free(false));	/* the twin */
}

struct worker { struct pf_fs *fs; uint64_t seed; _Atomic unsigned char *owner; int clashes; };

static void disown(struct worker *w, struct pf_run *r)
{
	for (uint64_t b = 0; b < r->nblk; b++)
		w->owner[r->dblk + b] = 0;
	if (r->nblk)
		give(w->fs, *r);
	r->nblk = 0;
}

static void *worker(void *arg)
{
	struct worker *w = arg;
	struct pf_run live[50] = { { 0, 0 } };

	for (int step = 0; step < 3000; step++) {
		struct pf_run *r = &live[rnd(&w->seed) % PF_ARRAY_LEN(live)];

		if (r->nblk) {
			disown(w, r);
			continue;
		}
		*r = take(w->fs, 1 + rnd(&w->seed) % 600, 1, 0);
		for (uint64_t b = 0; b < r->nblk; b++)
			w->clashes += atomic_fetch_add(&w->owner[r->dblk + b], 1) != 0;
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(live); i++)
		disown(w, &live[i]);
	return NULL;
}

static void threads(void)
{
	struct pf_fs *fs = space_open(400 * MIB);
	void *mem = calloc(fs->nblk, 1);
	uint64_t free0 = all_free(fs);
	struct worker w[4];
	pthread_t th[4];

	for (uint64_t i = 0; i < 4; i++) {
		w[i] = (struct worker){ fs, i + 1, mem, 0 };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&th[i], NULL, worker, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], NULL);
		CU_ASSERT_EQUAL(w[i].clashes, 0);
	}
	CU_ASSERT_EQUAL(all_free(fs), free0);
	CU_ASSERT_EQUAL(space_media_free(fs), free0);
	free(mem);
	space_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "random takes and gives", random_ops },
		{ "the last block can be used", last_block },
		{ "alignment survives age", stays_aligned },
		{ "so does speed", stays_fast },
		{ "goals", goal_is_kept },
		{ "abort and damage", abort_gives_back },
		{ "parked blocks stay, and the twin", parked_stay },
		{ "four threads", threads },
	};

	return unit_main("alloc", cases, PF_ARRAY_LEN(cases));
}
