/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kick.c - the last unpin is heard of without a message: kicks by futex, the places of those who are listened to,
 * and clients that make noise. The client's side is done here as include/pinfs/ledger.h says.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "harness/unit.h"
#include "unit/fakesess.h"

#define PLACES (FUTEX_WAITV_MAX - 1U)

static uint64_t count(struct pf_fs *fs, enum pf_count c)
{
	return atomic_load(&fs->lay->count[c]);
}

static bool armed(const struct fk_sess *k)
{
	return (atomic_load(&k->s->led.hdr->lh_kick) & PF_KICK_ARMED) != 0;
}

/* The short way. False: nobody listens, the long one has to be taken. */
static bool kick(struct fk_sess *k, uint32_t slot)
{
	_Atomic uint32_t *word = &k->s->led.hdr->lh_kick;

	atomic_fetch_or(&k->s->led.map[slot / 64], UINT64_C(1) << slot % 64);
	if (!(atomic_fetch_add(word, PF_KICK_ONE) & PF_KICK_ARMED))
		return false;
	return syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0;
}

/* Subtract, and say nothing. */
static void drop(struct fk_sess *k, uint32_t slot, unsigned int page)
{
	atomic_fetch_sub(&k->s->led.slot[slot].ls_pins, 1);
	atomic_fetch_sub(&k->s->led.slot[slot].ls_page[page], 1);
}

static bool supported(struct pf_fs *fs)
{
	if (fs->lay->kick)
		return true;
	(void)printf("(no futex_waitv here: kicks come by socket) ");
	return false;
}

struct one { struct pf_fs *fs; struct fk_file f; struct fk_sess *k; uint64_t fh; struct fk_brk b; };

/* A file with one pinned page, and a truncate that waits for it. */
static void park(struct one *o, struct pf_fs *fs, uint64_t ino)
{
	o->fs = fs;
	fk_file_init(&o->f, fs, ino);
	o->k = fk_sess_new(fs, 4000 + (pid_t)ino);
	o->fh = fk_attach(o->k, &o->f);
	CU_ASSERT_EQUAL(fk_grant(o->k, o->fh, 3, 0, 1000), 0);
	CU_ASSERT(fk_pin(o->k, 3, 7, 1));
	fk_cut(&o->b, &o->f, 0, UINT64_MAX);
	fk_submit(&o->b);
	fk_ack(o->k);
	CU_ASSERT_EQUAL(o->b.b.state, PF_BRK_PARKED);
}

static void leave(struct one *o)
{
	fk_sess_free(o->k);
	fk_file_fini(&o->f);
}

static void short_way(void)
{
	struct pf_fs *fs = fk_open();
	struct one o;

	if (supported(fs)) {
		for (uint64_t ino = 10; ino < 40; ino++) {
			park(&o, fs, ino);
			CU_ASSERT(armed(o.k));
			drop(o.k, 3, 7);
			CU_ASSERT(kick(o.k, 3));
			CU_ASSERT_EQUAL(fk_end(&o.b), 0);
			leave(&o);
		}
		CU_ASSERT_EQUAL(count(fs, PF_COUNT_KICKS_FUTEX), 30);
	}
	fk_close(fs);
}

/* The twin: without the kick nobody hears of it, however much else is heard of. */
static void silent(void)
{
	struct pf_fs *fs = fk_open();
	struct one o, other;

	if (supported(fs)) {
		park(&o, fs, 10);
		drop(o.k, 3, 7);
		for (uint64_t ino = 11; ino < 20; ino++) {
			park(&other, fs, ino);
			drop(other.k, 3, 7);
			CU_ASSERT(kick(other.k, 3));
			CU_ASSERT_EQUAL(fk_end(&other.b), 0);
			leave(&other);
		}
		/* Another slot's kick is not this one's. */
		CU_ASSERT(kick(o.k, 5));
		CU_ASSERT(!fk_ended(&o.b));
		CU_ASSERT(kick(o.k, 3));
		CU_ASSERT_EQUAL(fk_end(&o.b), 0);
		leave(&o);
	}
	fk_close(fs);
}

/* More sessions than places: nobody's kick is lost, and those who ask last find a place when they ask again. */
static void crowd(void)
{
	const unsigned int n = PLACES + 40;
	struct pf_fs *fs = fk_open();
	struct one *o = calloc(n, sizeof *o);
	unsigned int i, sock = 0;

	if (!o)
		abort();
	if (supported(fs)) {
		for (i = 0; i < n; i++)
			park(&o[i], fs, 10 + i);
		for (i = 0; i < n; i++) {
			drop(o[i].k, 3, 7);
			if (!kick(o[i].k, 3)) {
				sock++;
				(void)pf_sess_kick(o[i].k->s, 3);
			}
		}
		for (i = 0; i < n; i++)
			CU_ASSERT_EQUAL(fk_end(&o[i].b), 0);
		CU_ASSERT(sock >= 40 - 1);
		for (i = 0; i < n; i++)
			leave(&o[i]);
		park(&o[0], fs, 10);
		CU_ASSERT(armed(o[0].k));
		drop(o[0].k, 3, 7);
		CU_ASSERT(kick(o[0].k, 3));
		CU_ASSERT_EQUAL(fk_end(&o[0].b), 0);
		leave(&o[0]);
	}
	free(o);
	fk_close(fs);
}

/* The session ends: whoever waited goes on, and its word means nothing any more. */
static void death(void)
{
	struct pf_fs *fs = fk_open();
	struct one o;

	if (supported(fs)) {
		for (uint64_t ino = 10; ino < 60; ino++) {
			park(&o, fs, ino);
			if (ino % 2 == 0) {		/* while it is being looked at */
				CU_ASSERT(kick(o.k, 3));
				CU_ASSERT(kick(o.k, 9));
			}
			if (ino % 3 == 0)
				pf_sess_cut_off(o.k->s, false);
			pf_sess_gone(o.k->s);
			CU_ASSERT(!armed(o.k));
			CU_ASSERT_EQUAL(fk_end(&o.b), 0);
			leave(&o);
		}
	}
	fk_close(fs);
}

/* Noise: one client changes its word without pause, and its map. */

struct noise { struct fk_sess *k; _Atomic bool stop; uint64_t cpu_ns; };

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static void *make_noise(void *arg)
{
	struct noise *n = arg;

	for (uint32_t i = 0; !atomic_load(&n->stop); i++) {
		atomic_store(&n->k->s->led.map[i % 2], i % 2 ? UINT64_MAX : i);	/* slots that are not there, too */
		(void)kick(n->k, i % 16);
	}
	n->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	return NULL;
}

static void noisy(void)
{
	struct pf_fs *fs = fk_open();
	struct noise n = { .stop = false };
	struct one loud, o;
	uint64_t wall, cpu, mine;
	pthread_t t;

	if (supported(fs)) {
		park(&loud, fs, 9);
		n.k = loud.k;
		wall = clock_ns(CLOCK_MONOTONIC);
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		mine = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (pthread_create(&t, NULL, make_noise, &n) != 0)
			abort();
		for (uint64_t ino = 10; ino < 40 || clock_ns(CLOCK_MONOTONIC) - wall < UINT64_C(300000000); ino++) {
			const struct timespec pause = { 0, 10000000 };

			park(&o, fs, ino);
			drop(o.k, 3, 7);
			CU_ASSERT(kick(o.k, 3));
			CU_ASSERT_EQUAL(fk_end(&o.b), 0);	/* others are heard */
			leave(&o);
			(void)nanosleep(&pause, NULL);
		}
		atomic_store(&n.stop, true);
		pthread_join(t, NULL);
		wall = clock_ns(CLOCK_MONOTONIC) - wall;
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu - n.cpu_ns -
		      (clock_ns(CLOCK_THREAD_CPUTIME_ID) - mine);
		/* What is left is the listeners'. One that ran without pause would have all of a processor. */
		(void)printf("(%llu %%) ", (unsigned long long)(cpu * 100 / wall));
		CU_ASSERT(cpu < wall / 4 * 3);
		drop(loud.k, 3, 7);
		CU_ASSERT(kick(loud.k, 3));
		CU_ASSERT_EQUAL(fk_end(&loud.b), 0);		/* and so is it, in the end */
		leave(&loud);
	}
	fk_close(fs);
}

/* Pins and truncates without end: no wake-up is lost. */

struct mill { struct fk_sess *k; _Atomic bool stop; uint64_t pins, undone; };

static void *pinner(void *arg)
{
	struct mill *m = arg;

	while (!atomic_load(&m->stop)) {
		struct pf_l_slot *s = &m->k->s->led.slot[3];
		uint32_t w = atomic_load(&s->ls_word);

		if (w & (PF_SLOT_FROZEN | PF_SLOT_STALE)) {
			(void)sched_yield();
			continue;
		}
		atomic_fetch_add(&s->ls_pins, 1);
		atomic_fetch_add(&s->ls_page[7], 1);
		if (atomic_load(&s->ls_word) == w)
			m->pins++;
		else
			m->undone++;
		if (m->pins % 4 == 0)
			(void)sched_yield();
		drop(m->k, 3, 7);
		if ((atomic_load(&s->ls_word) & PF_SLOT_FROZEN) && !kick(m->k, 3))
			(void)pf_sess_kick(m->k->s, 3);
	}
	return NULL;
}

static void race(void)
{
	struct pf_fs *fs = fk_open();
	struct mill m[2] = { 0 };
	pthread_t t[2];
	struct one o;

	if (supported(fs)) {
		park(&o, fs, 10);
		drop(o.k, 3, 7);
		CU_ASSERT(kick(o.k, 3));
		CU_ASSERT_EQUAL(fk_end(&o.b), 0);
		for (int i = 0; i < 2; i++) {
			m[i].k = o.k;
			if (pthread_create(&t[i], NULL, pinner, &m[i]) != 0)
				abort();
		}
		for (int i = 0; i < 2000; i++) {
			CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 3, 0, 1000), 0);
			fk_cut(&o.b, &o.f, 0, UINT64_MAX);
			fk_submit(&o.b);
			fk_ack(o.k);
			CU_ASSERT_EQUAL_FATAL(fk_end(&o.b), 0);
		}
		for (int i = 0; i < 2; i++) {
			atomic_store(&m[i].stop, true);
			pthread_join(t[i], NULL);
		}
		leave(&o);
	}
	fk_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the short way", short_way },
		{ "twin: no kick, no end", silent },
		{ "more sessions than places", crowd },
		{ "the session ends", death },
		{ "a client that makes noise", noisy },
		{ "pins and truncates without end", race },
	};

	return unit_main("kick", cases, PF_ARRAY_LEN(cases));
}
