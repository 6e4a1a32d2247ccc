/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_race.c - leases in a crowd: holders whose engines work through pins until they fault, or who hand their
 * lease on in the middle of it, truncates that give each page's block to somebody else, and the rule that no burst ever
 * sees its block given away.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "harness/unit.h"
#include "share/give.h"
#include "unit/one.h"

#define HOLDERS 3U
#define CUTTERS 2U
#define CUTS 100U			/* of each, and more until all has happened that is to happen */
#define CUTS_MAX 2000U
#define PAGES 4U
#define BLOCKS (PAGES + CUTTERS * CUTS_MAX * PAGES)
#define SOMEBODY 0x7ffffff0

static struct pf_fs *fs;
static struct fk_file file;
static _Atomic uint32_t under[PAGES];	/* block under the page */
static atomic_bool foreign[BLOCKS];	/* ... is somebody else's */
static _Atomic uint32_t next_block;
static atomic_bool stop, stop_acks;
static _Atomic uint64_t bursts, faults, wrong, moved;

struct holder {
	struct fk_sess *k;
	uint64_t fh;
	pthread_t thread, acks;
	uint32_t slot;			/* the next one */
	unsigned int n;
	struct holder *other;
};

static void *ack_main(void *arg)
{
	struct holder *h = arg;

	while (!atomic_load(&stop_acks))
		if (fk_ack(h->k) == 0)
			(void)sched_yield();
	return NULL;
}

/* One burst. False: a fault. */
static bool burst(struct holder *h, uint32_t slot, uint32_t epoch, unsigned int page)
{
	struct pf_l_hdr *led = h->k->s->led.hdr;
	uint32_t block;

	if (!pf_dma_enter(led, slot, epoch, page, 1)) {
		atomic_fetch_add(&faults, 1);
		return false;
	}
	block = atomic_load(&under[page]);
	for (unsigned int i = 0; i < 3; i++) {
		if (atomic_load(&foreign[block]))
			atomic_fetch_add(&wrong, 1);
		(void)sched_yield();
	}
	pf_dma_exit(led, slot);
	atomic_fetch_add(&bursts, 1);
	return true;
}

static void unpin(struct holder *h, uint32_t slot, unsigned int page, bool counted)
{
	if (counted)
		fk_unpin(h->k, slot, page, 1);
	/* Somebody waits for this slot's answer now and then. */
	while (pf_win_remove(fs, h->k->s, slot) == -EBUSY)
		(void)sched_yield();
}

/* A slot for the chunk and a pin of one page in it. */
static bool pin(struct holder *h, uint32_t *slot, unsigned int page)
{
	uint64_t cut;

	*slot = h->slot++ % h->k->s->led.nslot;
	if (fk_grant(h->k, h->fh, *slot, 0, DBLK) != 0)
		return false;
	if (fk_pin_slow(h->k, h->fh, *slot, page, 1, &cut) == 0)
		return true;
	unpin(h, *slot, page, false);
	return false;
}

/* Hand the lease and the pin on to a session of the neighbour, who drops them. True: they are not ours any more. */
static bool hand_on(struct holder *h, uint64_t id, uint32_t slot, unsigned int page)
{
	struct pf_p_piece here = { .pc_slot = slot, .pc_first = page, .pc_npage = 1 }, there = here;
	struct fk_sess *k = fk_sess_new(fs, 1000 + (pid_t)h->n);
	uint64_t fh = fk_attach(k, &file);
	struct pf_share *from, *to = NULL;
	struct pf_p_lease_out out;
	struct pf_p_token t;
	bool write, gone = false;

	if (pf_give_start(h->k->s, id, &here, 1, &t) == 0) {
		there.pc_slot = 5;
		from = pf_give_share(fs, &t);
		if (from && pf_sess_handle(k->s, fh, &to, &write) == 0) {
			/* The gate may be closed until this session has acknowledged: it has nothing mapped yet. */
			if (fk_grant(k, fh, 5, 0, DBLK) == 0)
				gone = pf_give_finish(fs, from, to, &t, &there, 1, &out) == 0;
			pf_share_unref(fs, to);
		}
		if (from)
			pf_share_unref(fs, from);
		if (!gone)		/* a truncate may have met the lease, and done that */
			CU_ASSERT(abs(pf_give_retract(h->k->s, id)) != ESTALE);
	}
	atomic_fetch_add(&moved, gone);
	fk_sess_free(k);		/* the new owner ends, with all that it has */
	return gone;
}

static void *holder_main(void *arg)
{
	struct holder *h = arg;
	struct pf_share *sh = NULL;
	struct pf_p_lease_out out;
	bool write, mine;

	CU_ASSERT_EQUAL_FATAL(pf_sess_handle(h->k->s, h->fh, &sh, &write), 0);
	for (unsigned int round = h->n; !atomic_load(&stop); round++) {
		unsigned int page = round % PAGES;
		struct pf_lease_req rq = { page * FK_PAGE, FK_PAGE, round % 3 ? PF_LE_READ : PF_LE_WRITE };
		uint32_t slot, epoch;

		if (pf_lease_take(sh, &rq, true, &out) != 0) {
			(void)sched_yield();
			continue;
		}
		mine = true;
		if (pin(h, &slot, page)) {
			epoch = atomic_load(&h->k->s->led.slot[slot].ls_epoch);
			if (round % 4 == 3)
				mine = !hand_on(h, out.lo_id, slot, page);
			/* Some end in time; others know of no break and go on until they fault. */
			for (unsigned int i = 0; (i < 20 || round % 2) && !atomic_load(&stop); i++)
				if (!burst(h, slot, epoch, page))
					break;
			unpin(h, slot, page, mine);
		}
		if (mine)
			CU_ASSERT_EQUAL(pf_lease_drop(h->k->s, out.lo_id), 0);
	}
	pf_share_unref(fs, sh);
	return NULL;
}

static void give_away(struct fk_brk *b)
{
	for (uint64_t p = b->b.foff / FK_PAGE; p < PAGES; p++) {
		uint32_t fresh = atomic_fetch_add(&next_block, 1);

		atomic_store(&foreign[atomic_load(&under[p])], true);
		atomic_store(&under[p], fresh);
	}
}

static bool met(void)
{
	return atomic_load(&faults) > 0 && one_count(fs, PF_COUNT_REVOKES) > 0;
}

static void *cutter_main(void *arg)
{
	unsigned int *seed = arg;
	uint64_t seen = 0;
	struct fk_brk b;

	for (unsigned int i = 0; i < CUTS || (i < CUTS_MAX && !met()); i++) {
		/* Not before somebody is at work again. */
		for (unsigned int k = 0; k < 30000 && atomic_load(&bursts) == seen; k++)
			fk_sleep_ms(1);
		seen = atomic_load(&bursts);
		fk_cut(&b, &file, (uint64_t)((unsigned int)rand_r(seed) % PAGES) * FK_PAGE, UINT64_MAX);
		b.b.policy.lease_ms = 1;
		b.b.pid = b.b.tid = SOMEBODY;
		b.hook = give_away;
		fk_submit(&b);
		CU_ASSERT_EQUAL(fk_end(&b), 0);
	}
	return NULL;
}

static void crowd(void)
{
	struct holder h[HOLDERS];
	unsigned int seed[CUTTERS];
	pthread_t cutter[CUTTERS];

	fs = fk_open();
	fs->opts.policy.on_busy = PF_BUSY_WAIT;
	fk_file_init(&file, fs, 100);
	for (unsigned int p = 0; p < PAGES; p++)
		atomic_store(&under[p], p);
	atomic_store(&next_block, PAGES);
	for (unsigned int i = 0; i < HOLDERS; i++) {
		h[i] = (struct holder){ .k = fk_sess_new(fs, 2000 + (pid_t)i), .n = i };
		h[i].fh = fk_attach(h[i].k, &file);
		CU_ASSERT_EQUAL(pthread_create(&h[i].acks, NULL, ack_main, &h[i]), 0);
		CU_ASSERT_EQUAL(pthread_create(&h[i].thread, NULL, holder_main, &h[i]), 0);
	}
	for (unsigned int i = 0; i < CUTTERS; i++) {
		seed[i] = i + 1;
		CU_ASSERT_EQUAL(pthread_create(&cutter[i], NULL, cutter_main, &seed[i]), 0);
	}
	for (unsigned int i = 0; i < CUTTERS; i++)
		(void)pthread_join(cutter[i], NULL);
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < HOLDERS; i++)
		(void)pthread_join(h[i].thread, NULL);
	atomic_store(&stop_acks, true);
	for (unsigned int i = 0; i < HOLDERS; i++) {
		(void)pthread_join(h[i].acks, NULL);
		fk_sess_free(h[i].k);
	}
	CU_ASSERT_EQUAL(atomic_load(&wrong), 0);
	CU_ASSERT(atomic_load(&bursts) > 0);
	CU_ASSERT(atomic_load(&faults) > 0);
	CU_ASSERT(one_count(fs, PF_COUNT_REVOKES) > 0);
	(void)printf("(%llu bursts, %llu faults, %llu revokes, %llu handed on) ",
		     (unsigned long long)atomic_load(&bursts), (unsigned long long)atomic_load(&faults),
		     (unsigned long long)one_count(fs, PF_COUNT_REVOKES), (unsigned long long)atomic_load(&moved));
	for (unsigned int i = 0; i < FK_PATIENCE_S * 1000 && atomic_load(&file.refs) != 0; i++)
		fk_sleep_ms(1);
	CU_ASSERT_PTR_NULL(file.lobj.leases);
	fk_file_fini(&file);
	for (unsigned int i = 0; i < FK_PATIENCE_S * 1000 && one_parked(fs) != 0; i++)
		fk_sleep_ms(1);
	CU_ASSERT_EQUAL(one_parked(fs), 0);
	fk_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = { { "bursts, revokes, hand-overs", crowd } };

	pf_log_init("test_lease_race", PF_LOG_ERR, false);
	return unit_main("lease_race", cases, PF_ARRAY_LEN(cases));
}
