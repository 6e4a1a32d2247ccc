/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_budget.c - a window smaller than the files, against the small daemon of fakesrv.c: who gets a slot, whose is
 * taken back, and what happens when none can be. A hundred times more file than window; all slots but one pinned; all
 * of them. Two twins take a rule out and must be seen: pinned slots are taken back, and whoever comes takes what is
 * free.
 */
#include "fakesrv.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096UL
#define CHUNK (2UL << 20)
#define FILE_CHUNKS 8UL			/* as large as fakesrv has them */
#define FILE_BYTES (FILE_CHUNKS * CHUNK)

/* Chunk i of all files together. */
struct area {
	char *at[64];
	int fd[64];
	size_t nfile;
};

static void area_open(struct area *a, uint32_t nslot, size_t nfile)
{
	char path[300];

	PT_EQ(fake_start(pt_tmp(), nslot), 0);
	memset(a, 0, sizeof *a);
	a->nfile = nfile;
	for (size_t i = 0; i < nfile; i++) {
		(void)snprintf(path, sizeof path, "%s/f%zu", pt_tmp(), i);
		a->fd[i] = fake_file(path, FILE_BYTES);
		CU_ASSERT_FATAL(a->fd[i] >= 0);
		(void)unlink(path);
		a->at[i] = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd[i], 0);
		CU_ASSERT_FATAL(a->at[i] != MAP_FAILED);
	}
}

static void area_close(struct area *a)
{
	for (size_t i = 0; i < a->nfile; i++) {
		munmap(a->at[i], FILE_BYTES);
		close(a->fd[i]);
	}
	fake_stop();
}

static _Atomic uint64_t *word(const struct area *a, size_t chunk)
{
	return (void *)(a->at[chunk / FILE_CHUNKS] + chunk % FILE_CHUNKS * CHUNK + chunk % 512 * PAGE);
}

static uint64_t said(enum pf_l_stat what)
{
	return atomic_load(&sh.sessions->ledger->lh_stat[what]);
}

/* SH_TEST_*; serve may be looking. */
static void break_rule(uint8_t which)
{
	sh_sigs old;

	sh_lock(&old);
	sh.budget_test = which;
	sh_unlock(&old);
}

static struct pinfs_pin *pin(struct area *a, size_t chunk)
{
	struct pinfs_pin *p = NULL;

	PT_EQ(pinfs_pin(word(a, chunk), 8, PINFS_PIN_WRITE, &p), 0);
	CU_ASSERT_FATAL(p != NULL);
	return p;
}

/* ---- a signal for an access ---- */

static __thread sigjmp_buf escape;

static void on_fault(int sig)
{
	siglongjmp(escape, sig);
}

static int touch(_Atomic uint64_t *p)
{
	struct sigaction sa = { .sa_handler = on_fault };
	int sig;

	sigaction(SIGBUS, &sa, NULL);
	sig = sigsetjmp(escape, 1);
	if (sig == 0)
		(void)atomic_fetch_add(p, 1);
	return sig;
}

/* ---- many threads, little window ---- */

struct worker {
	struct area *a;
	pthread_t t;
	size_t chunks, first;
	unsigned int rounds, seed;
	bool own;			/* always the same chunk */
};

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < w->rounds; i++) {
		size_t c = w->own ? 0 : (size_t)rand_r(&w->seed) % w->chunks;

		(void)atomic_fetch_add(word(w->a, w->first + c), 1);
	}
	return NULL;
}

static uint64_t sum(const struct area *a, size_t first, size_t chunks)
{
	uint64_t total = 0;

	for (size_t c = first; c < first + chunks; c++) {
		uint64_t v;

		fake_read(a->fd[c / FILE_CHUNKS], c % FILE_CHUNKS * CHUNK + c % 512 * PAGE, &v, sizeof v);
		total += v;
	}
	return total;
}

/* All do their work: none starves, and no store is lost. */
static void crowd(struct area *a, size_t n, size_t first, size_t chunks, unsigned int rounds, bool own)
{
	struct worker *w = calloc(n, sizeof *w);

	for (size_t i = 0; i < n; i++) {
		w[i] = (struct worker){ .a = a, .first = own ? first + i : first, .chunks = chunks, .rounds = rounds,
					.seed = (unsigned int)i, .own = own };
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(w[i].t, NULL);
	free(w);
	PT_EQ(sum(a, first, chunks), n * rounds);
}

static void hundred_times(void)
{
	struct fake_counts c;
	struct area a;

	area_open(&a, 4, 64);			/* 8 MiB of window for a GiB */
	crowd(&a, 16, 0, 64 * FILE_CHUNKS, 150, false);
	fake_counts(&c);
	CU_ASSERT(c.slots <= 4);
	pt_say("%u set-ups, %llu starved, %llu + %llu taken back", c.setup, (unsigned long long)said(PF_STAT_STARVED),
	       (unsigned long long)said(PF_STAT_RECLAIMS), (unsigned long long)said(PF_STAT_AHEAD));
	PT_EQ(said(PF_STAT_REFUSED), 0);
	area_close(&a);
}

/* More threads than slots, each with a page of its own: whoever has a slot could keep it for ever. */
static void each_its_own(void)
{
	struct area a;

	area_open(&a, 2, 8);
	crowd(&a, 32, 0, 32, 20000, true);
	area_close(&a);
}

static void one_left(void)
{
	struct pinfs_pin *p[7];
	struct fake_counts c;
	struct area a;

	area_open(&a, 8, 16);
	for (size_t i = 0; i < 7; i++)
		p[i] = pin(&a, i);
	crowd(&a, 16, FILE_CHUNKS, 15 * FILE_CHUNKS, 40, false);
	/* The pinned ones are where they were. */
	fake_counts(&c);
	PT_EQ(c.busy, 0);
	PT_EQ(c.pins, 7);
	CU_ASSERT(c.slots <= 8);
	for (size_t i = 0; i < 7; i++)
		PT_EQ(pinfs_unpin(p[i]), 0);
	area_close(&a);
}

/* The same with pinned slots for the taking: the daemon, which keeps them, is asked to let them go. */
static void twin_takes_pinned(void)
{
	struct pinfs_pin *p[7];
	struct fake_counts c;
	struct area a;

	break_rule(SH_TEST_TAKE_PINNED);
	area_open(&a, 8, 16);
	for (size_t i = 0; i < 7; i++)
		p[i] = pin(&a, i);
	crowd(&a, 4, FILE_CHUNKS, 15 * FILE_CHUNKS, 10, false);
	fake_counts(&c);
	break_rule(0);
	CU_ASSERT(c.busy > 0);
	PT_EQ(c.pins, 7);
	for (size_t i = 0; i < 7; i++)
		PT_EQ(pinfs_unpin(p[i]), 0);
	area_close(&a);
}

/* ---- all pinned ---- */

static void all_pinned(void)
{
	struct pinfs_pin *p[3], *more = NULL;
	struct area a;
	uint64_t t0;

	area_open(&a, 3, 1);
	for (size_t i = 0; i < 3; i++)
		p[i] = pin(&a, i);
	/* Not at once, and not never. */
	t0 = pt_now_ms();
	PT_EQ(touch(word(&a, 5)), SIGBUS);
	CU_ASSERT(pt_now_ms() - t0 >= 990);
	t0 = pt_now_ms();
	PT_EQ(pinfs_pin(word(&a, 6), 8, 0, &more), -EDEADLK);
	CU_ASSERT(pt_now_ms() - t0 >= 990);
	CU_ASSERT(said(PF_STAT_REFUSED) >= 2);		/* a thread that wakes late asks again */
	/* What has a slot goes on as ever. */
	PT_EQ(touch(word(&a, 1)), 0);
	PT_EQ(pinfs_unpin(p[0]), 0);
	PT_EQ(touch(word(&a, 6)), 0);
	PT_EQ(pinfs_unpin(p[1]), 0);
	PT_EQ(pinfs_unpin(p[2]), 0);
	area_close(&a);
}

/* Once at least: a thread that gets a signal while it waits asks again. */
static void until_starved(void)
{
	uint64_t end = 0;

	while (said(PF_STAT_STARVED) == 0 && pt_wait_on(&end))
		;
	CU_ASSERT(said(PF_STAT_STARVED) > 0);
}

struct late {
	struct pinfs_pin *p;
};

/* As soon as somebody waits. */
static void *unpin_late(void *arg)
{
	struct late *l = arg;

	until_starved();
	PT_EQ(pinfs_unpin(l->p), 0);
	return NULL;
}

static void soon_unpinned(void)
{
	struct pinfs_pin *p[3];
	struct late l;
	struct area a;
	pthread_t t;

	break_rule(SH_TEST_STILL);		/* it may take as long as it likes */
	area_open(&a, 3, 1);
	for (size_t i = 0; i < 3; i++)
		p[i] = pin(&a, i);
	l.p = p[1];
	pthread_create(&t, NULL, unpin_late, &l);
	PT_EQ(touch(word(&a, 5)), 0);
	pthread_join(t, NULL);
	CU_ASSERT(said(PF_STAT_STARVED) > 0);
	PT_EQ(said(PF_STAT_REFUSED), 0);
	CU_ASSERT(!atomic_load(&sh.sessions->hungry));
	PT_EQ(pinfs_unpin(p[0]), 0);
	PT_EQ(pinfs_unpin(p[2]), 0);
	area_close(&a);
	break_rule(0);
}

/* ---- how long is a second? ---- */

struct toucher {
	pthread_t t;
	_Atomic uint64_t *p;
	int sig;
	atomic_bool done;
};

static void *touch_it(void *arg)
{
	struct toucher *x = arg;

	x->sig = touch(x->p);
	atomic_store(&x->done, true);
	return NULL;
}

static void touch_start(struct toucher *x, _Atomic uint64_t *p)
{
	*x = (struct toucher){ .p = p };
	PT_EQ(pthread_create(&x->t, NULL, touch_it, x), 0);
}

/* The signal, or 0. */
static int touch_end(struct toucher *x)
{
	pthread_join(x->t, NULL);
	return x->sig;
}

/* Time that wants have waited for, as serve counts it. */
static uint64_t patience(uint64_t more_ms)
{
	struct sh_session *s = sh.sessions;
	uint64_t ns;
	sh_sigs old;

	sh_lock(&old);
	s->patience += more_ms * 1000000;
	ns = s->patience;
	sh_unlock(&old);
	return ns;
}

static uint64_t last_look(void)
{
	uint64_t ns;
	sh_sigs old;

	sh_lock(&old);
	ns = sh.sessions->look_ns;
	sh_unlock(&old);
	return ns;
}

/* Until serve has looked at the queue once more. */
static void until_looked(void)
{
	uint64_t was = last_look(), end = 0;

	while (last_look() == was && pt_wait_on(&end))
		;
	CU_ASSERT(last_look() != was);
}

/*
 * The process stands still for longer than a want waits; those who hold the pins have not been able to let go. Each
 * time counts for a tenth of a second, which serve looks at the queue after in any case, and so much as it ran besides.
 */
static void stood_still(void)
{
	enum { ROUNDS = 3, TENTH = 100000000 };
	uint64_t ran = 0, from, was;
	struct pinfs_pin *p[3];
	struct toucher x;
	struct area a;
	sh_sigs old;

	area_open(&a, 3, 1);
	for (size_t i = 0; i < 3; i++)
		p[i] = pin(&a, i);
	/* However long this test itself stands still, nobody is refused anything. */
	atomic_store(&sh.sessions->ledger->lh_rules, PF_RULE_STUCK_WAITS);
	touch_start(&x, word(&a, 5));
	until_starved();
	until_looked();
	sh_lock(&old);
	was = sh.sessions->patience;
	for (int i = 0; i < ROUNDS; i++) {
		pt_sleep_ms(1100);
		from = pt_now_ns();
		sh_unlock(&old);
		until_looked();
		sh_lock(&old);
		ran += pt_now_ns() - from;
	}
	CU_ASSERT(sh.sessions->patience - was <= ran + ROUNDS * TENTH);
	CU_ASSERT(sh.sessions->patience > was);
	sh_unlock(&old);
	CU_ASSERT(!atomic_load(&x.done));
	PT_EQ(pinfs_unpin(p[1]), 0);
	PT_EQ(touch_end(&x), 0);
	PT_EQ(said(PF_STAT_REFUSED), 0);
	PT_EQ(pinfs_unpin(p[0]), 0);
	PT_EQ(pinfs_unpin(p[2]), 0);
	area_close(&a);
}

/* Pins of the two slots end, and before either slot is seen free there is a new one: a second does not matter then. */
static void pins_change_hands(void)
{
	struct pinfs_pin *p[2], *next;
	struct toucher x;
	struct area a;

	break_rule(SH_TEST_STILL);
	area_open(&a, 2, 1);
	for (size_t i = 0; i < 2; i++)
		p[i] = pin(&a, i);
	touch_start(&x, word(&a, 5));
	until_starved();
	for (int i = 0; i < 4; i++) {
		sh_sigs old;

		until_looked();
		(void)patience(900);
		until_looked();
		/* serve may not look in between. */
		sh_lock(&old);
		PT_EQ(pinfs_unpin(p[0]), 0);
		sh_count(&sh.sessions->slots[0], 0, 1, false);
		sh_unlock(&old);
		until_looked();
		next = pin(&a, 0);
		sh_uncount(&sh.sessions->slots[0], 0, 1, false);
		p[0] = next;
	}
	CU_ASSERT(!atomic_load(&x.done));
	PT_EQ(said(PF_STAT_REFUSED), 0);
	/* But ten do. */
	break_rule(0);
	(void)patience(10000);
	PT_EQ(touch_end(&x), SIGBUS);
	CU_ASSERT(said(PF_STAT_REFUSED) >= 1);
	for (size_t i = 0; i < 2; i++)
		PT_EQ(pinfs_unpin(p[i]), 0);
	PT_EQ(touch(word(&a, 6)), 0);	/* not where somebody was just given the signal */
	area_close(&a);
}

/* No slot looks pinned, but whichever is asked for has a pin when the daemon looks. */
static void always_too_late(void)
{
	struct fake_counts c;
	struct toucher x;
	struct area a;
	uint64_t end = 0;

	break_rule(SH_TEST_STILL);
	area_open(&a, 2, 1);
	PT_EQ(touch(word(&a, 0)), 0);
	PT_EQ(touch(word(&a, 1)), 0);
	fake_busy(true);
	touch_start(&x, word(&a, 5));
	until_starved();
	(void)patience(9900);
	do
		fake_counts(&c);
	while (c.busy < 10 && pt_wait_on(&end));
	CU_ASSERT(c.busy >= 10);
	CU_ASSERT(!atomic_load(&x.done));
	PT_EQ(said(PF_STAT_REFUSED), 0);
	break_rule(0);
	(void)patience(100);
	PT_EQ(touch_end(&x), SIGBUS);
	CU_ASSERT(said(PF_STAT_REFUSED) >= 1);
	fake_busy(false);
	PT_EQ(touch(word(&a, 6)), 0);	/* not where somebody was just given the signal */
	area_close(&a);
}

/* What the daemon takes its time for is no reason to give up. */
static void slow_daemon(void)
{
	struct fake_counts c;
	uint64_t end = 0;
	struct toucher x;
	struct area a;

	area_open(&a, 2, 1);
	PT_EQ(touch(word(&a, 0)), 0);
	PT_EQ(touch(word(&a, 1)), 0);
	fake_hold(true);
	touch_start(&x, word(&a, 5));
	until_starved();
	do
		fake_counts(&c);
	while (c.held == 0 && pt_wait_on(&end));
	pt_sleep_ms(1500);
	CU_ASSERT(!atomic_load(&x.done));
	fake_counts(&c);
	PT_EQ(c.held, 1);
	fake_hold(false);
	PT_EQ(touch_end(&x), 0);
	PT_EQ(said(PF_STAT_REFUSED), 0);
	area_close(&a);
}

/* ---- in order ---- */

static void *touch_one(void *arg)
{
	(void)atomic_fetch_add((_Atomic uint64_t *)arg, 1);
	return NULL;
}

/* A fault of this page is in the queue for a slot. */
static void until_waits(const volatile void *p)
{
	const uint64_t page = (uint64_t)(uintptr_t)p / PAGE * PAGE;
	uint64_t end = 0;
	bool found;

	do {
		sh_sigs old;

		sh_lock(&old);
		found = false;
		for (const struct sh_want *w = sh.sessions->starved; w != NULL; w = w->next)
			found = found || w->addr == page;
		sh_unlock(&old);
	} while (!found && pt_wait_on(&end));
	CU_ASSERT(found);
}

static size_t chunk_of(const struct area *a, const struct fake_grant *g)
{
	for (size_t i = 0; i < a->nfile; i++) {
		if (fake_ino(a->fd[i]) == g->ino)
			return i * FILE_CHUNKS + g->chunk;
	}
	return SIZE_MAX;
}

/*
 * Two slots, of chunks 0 and 1, that the daemon does not take back for now. Chunks 10 ... 17 are wanted one after the
 * other, then chunk 0 again, whose slot is the first on its way. Are they served in this order?
 */
static bool in_order(void)
{
	struct fake_grant g[64];
	pthread_t t[9];
	struct area a;
	bool ok = true;
	uint64_t faults, end = 0;
	size_t n, served = 0;

	area_open(&a, 2, 4);
	PT_EQ(touch(word(&a, 0)), 0);
	PT_EQ(touch(word(&a, 1)), 0);
	fake_hold(true);
	(void)fake_grants(g, 64);
	for (size_t i = 0; i < 8; i++) {
		pthread_create(&t[i], NULL, touch_one, word(&a, 10 + i));
		until_waits(word(&a, 10 + i));
	}
	faults = atomic_load(&sh.nfault);
	pthread_create(&t[8], NULL, touch_one, word(&a, 0));
	while (atomic_load(&sh.nfault) == faults && pt_wait_on(&end))
		;
	fake_hold(false);
	for (size_t i = 0; i < 9; i++)
		pthread_join(t[i], NULL);
	n = fake_grants(g, 64);
	CU_ASSERT(n >= 9);
	/* Some may be served twice, if they lost their page; none before its turn. */
	for (size_t i = 0; i < n; i++) {
		size_t chunk = chunk_of(&a, &g[i]);

		if (chunk == 10 + served)
			served++;
		else
			ok = ok && (served == 8 || (chunk >= 10 && chunk < 10 + served));
	}
	ok = ok && served == 8;
	area_close(&a);
	return ok;
}

static void fifo(void)
{
	CU_ASSERT(in_order());
}

static void twin_jumps_the_queue(void)
{
	break_rule(SH_TEST_UNFAIR);
	CU_ASSERT(!in_order());
	break_rule(0);
}

/* ---- ahead of need ---- */

/* As far as we know, and the server: we hear of it later. */
static unsigned int slots_now(void)
{
	struct sh_session *s = sh.sessions;
	struct fake_counts c;
	uint32_t removing;
	sh_sigs old;

	fake_counts(&c);
	sh_lock(&old);
	removing = s->removing;
	sh_unlock(&old);
	return c.slots + removing;
}

static void ahead(void)
{
	uint64_t end = 0;
	struct area a;

	area_open(&a, 20, 4);
	for (size_t i = 0; i < 20; i++)
		PT_EQ(touch(word(&a, i)), 0);
	while (slots_now() > 16 && pt_wait_on(&end))
		;
	PT_EQ(slots_now(), 16);			/* a fifth is free again */
	PT_EQ(said(PF_STAT_RECLAIMS), 0);
	PT_EQ(said(PF_STAT_STARVED), 0);
	/* Nobody waits for the next four. */
	for (size_t i = 20; i < 24; i++)
		PT_EQ(touch(word(&a, i)), 0);
	PT_EQ(said(PF_STAT_STARVED), 0);
	area_close(&a);
}

/* Files that just fit are left alone in the end, though less than a fifth of the slots is free then. */
static void just_fits(void)
{
	struct fake_counts c, d;
	struct area a;
	int quiet = 0;

	area_open(&a, 20, 4);
	fake_counts(&c);
	for (int round = 0; round < 2000 && quiet < 20; round++) {
		d = c;
		for (size_t i = 0; i < 20; i++)
			PT_EQ(touch(word(&a, i)), 0);
		pt_sleep_ms(3);
		fake_counts(&c);
		quiet = c.setup == d.setup && c.slots == 20 ? quiet + 1 : 0;
	}
	PT_EQ(quiet, 20);
	CU_ASSERT(said(PF_STAT_REFAULTS) > 0);
	area_close(&a);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "a hundred times the window", hundred_times, 200 },
		{ "more threads than slots", each_its_own, 200 },
		{ "all slots but one pinned", one_left, 200 },
		{ "twin: pinned slots are taken", twin_takes_pinned, 200 },
		{ "all pinned: fails, later", all_pinned, 200 },
		{ "all pinned: waits for an unpin", soon_unpinned, 0 },
		{ "all pinned: stood still for a second", stood_still, 200 },
		{ "all pinned: from hand to hand", pins_change_hands, 200 },
		{ "pinned whenever it is asked for", always_too_late, 200 },
		{ "a daemon that takes its time", slow_daemon, 0 },
		{ "in order of arrival", fifo, 200 },
		{ "twin: out of turn", twin_jumps_the_queue, 200 },
		{ "slots are free ahead of need", ahead, 0 },
		{ "files that just fit", just_fits, 200 },
	};
	const struct pt_suite suite = { "budget", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
