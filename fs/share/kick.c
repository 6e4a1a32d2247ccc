/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kick.c - kicks that come by futex: the threads that wait for the last unpin without a socket in between.
 *
 * Owns struct pf_kick: its places, one for each session that is listened to, and its threads. Takes its own lock
 * (LEAF). What a kick means is session.c's; the protocol, with the reason why no kick is lost, is in
 * include/pinfs/ledger.h.
 *
 * A session gets a place when a break begins to wait for one of its pins, and keeps it: arming costs two system calls,
 * and whoever was in the way once will be again. With no place left, it kicks by socket, and the place that was asked
 * for longest ago is given up for the next one that comes.
 *
 * The threads do all the same: look at the sessions whose word has changed, then sleep on all words at once. A wake-up
 * wakes one of them. A session is looked at by one thread at a time, and is left out of the others' sleep meanwhile.
 *
 * A client may change its word as often as it likes. The processor's time that this costs here is charged to it,
 * fourfold if it was good for nothing; time pays it off. A session that owes more than BURST_NS is not looked at until
 * it owes nothing.
 */
#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "share/lay.h"

#define PLACES (FUTEX_WAITV_MAX - 1U)
#define THREADS 2U			/* one may have a long piece of work to do: a kick can end the wait for it */
#define LOOK_MAX 64U			/* slots in one look */
#define BURST_NS UINT64_C(1000000)
#define USELESS 4U
#define LOOK_NS UINT64_C(2000)		/* at least, with its part of the sleep and the wake-up */

struct place {
	struct pf_sess *sess;		/* NULL: free */
	uint32_t seen;			/* lh_kick before the last look */
	bool more;			/* look again, whatever lh_kick says */
	bool busy;			/* a thread looks */
	bool rests;			/* owes too much */
	bool leaving;			/* disarmed, to be freed after one more look */
	uint32_t at;			/* word of the map to go on with */
	uint64_t asked;			/* when it was armed last, in turns of pf_kick.clock */
	uint64_t owes_ns;		/* paid off at that time */
};

struct pf_kick {
	_Atomic uint32_t bell;		/* the threads sleep on it, too */
	struct pf_mutex lock;		/* LEAF: all below */
	struct place place[PLACES];
	unsigned int hand;
	uint64_t clock;
	bool stop;
	pthread_t thread[THREADS];
	unsigned int nr_threads;
};

static void ring(struct pf_kick *k)
{
	atomic_fetch_add(&k->bell, 1);
	(void)syscall(SYS_futex, &k->bell, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, THREADS, NULL, NULL, 0);
}

/* One look: kick the slots that the map names, LOOK_MAX at most. False: there are more. The map is the client's. */
static bool look(struct pf_sess *s, uint32_t *at, bool *good)
{
	uint32_t nwords = pf_ledger_map_words(s->led.nslot), budget = LOOK_MAX;

	for (uint32_t i = 0; i < nwords; i++) {
		_Atomic uint64_t *w = &s->led.map[(*at + i) % nwords];
		uint64_t bits = atomic_load(w);

		if (bits == 0)
			continue;
		for (bits = atomic_exchange(w, 0); bits != 0 && budget != 0; bits &= bits - 1, budget--) {
			pf_lay_count(s->fs, PF_COUNT_KICKS_FUTEX, 1);
			*good = pf_sess_kick(s, (*at + i) % nwords * 64 + (uint32_t)__builtin_ctzll(bits)) || *good;
		}
		if (budget == 0) {
			*at = (*at + i) % nwords;
			atomic_fetch_or(w, bits);
			return false;
		}
	}
	return true;
}

/* Of this thread. Not of the clock on the wall: nobody is to pay for a processor that others had. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Lock held, and dropped meanwhile. */
static void visit(struct pf_kick *k, struct place *p)
{
	struct pf_sess *s = p->sess;
	uint64_t start = pf_lay_now(), began = cpu_ns(), took;
	uint32_t at = p->at;
	bool good = false, all;

	p->busy = true;
	pf_sess_get(s);
	pf_mutex_unlock(&k->lock);
	all = look(s, &at, &good);
	took = pf_max64(cpu_ns() - began, LOOK_NS);
	pf_mutex_lock(&k->lock);
	p->busy = false;
	if (p->sess == s) {
		p->more = !all;
		p->at = at;
		p->owes_ns = pf_max64(p->owes_ns, start) + took * (good ? 1 : USELESS);
		if (p->leaving && all) {
			s->kick_place = 0;
			*p = (struct place){ .sess = NULL };
		}
	} else if (!p->sess) {
		*p = (struct place){ .sess = NULL };	/* it left while we looked */
	}
	pf_mutex_unlock(&k->lock);
	pf_sess_put(s);
	pf_mutex_lock(&k->lock);
}

/*
 * Lock held. The next session to look at, or NULL: then @fx are the @n words to sleep on, until @until_ns (0: for
 * ever).
 */
static struct place *next(struct pf_kick *k, struct futex_waitv *fx, unsigned int *n, uint64_t *until_ns)
{
	uint64_t now = pf_lay_now();

	*n = 0;
	*until_ns = 0;
	fx[(*n)++] = (struct futex_waitv){ .val = atomic_load(&k->bell), .uaddr = (uintptr_t)&k->bell,
					   .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG };
	for (unsigned int i = 0; i < PLACES; i++) {
		struct place *p = &k->place[(k->hand + i) % PLACES];
		_Atomic uint32_t *word;
		uint32_t v;

		if (!p->sess || p->busy)
			continue;
		p->rests = p->owes_ns > now + (p->rests ? 0 : BURST_NS);
		if (p->rests) {
			*until_ns = *until_ns == 0 ? p->owes_ns : pf_min64(*until_ns, p->owes_ns);
			continue;
		}
		word = &p->sess->led.hdr->lh_kick;
		v = atomic_load(word);
		if (v != p->seen || p->more || p->leaving) {
			p->seen = v;
			k->hand = (unsigned int)(p - k->place + 1) % PLACES;
			return p;
		}
		fx[(*n)++] = (struct futex_waitv){ .val = v, .uaddr = (uintptr_t)word, .flags = FUTEX_32 };
	}
	return NULL;
}

static void *thread_main(void *arg)
{
	struct pf_kick *k = arg;
	struct futex_waitv fx[PLACES + 1];
	uint64_t until;
	struct timespec ts;
	struct place *p;
	unsigned int n;

	pf_mutex_lock(&k->lock);
	while (!k->stop) {
		p = next(k, fx, &n, &until);
		if (p) {
			visit(k, p);
			continue;
		}
		ts = (struct timespec){ (time_t)(until / UINT64_C(1000000000)), (long)(until % UINT64_C(1000000000)) };
		/* A session that goes now takes its ledger along: then a word is not there, or is another's. Both
		 * only end the sleep. */
		pf_mutex_unlock(&k->lock);
		(void)syscall(SYS_futex_waitv, fx, n, 0, until != 0 ? &ts : NULL, CLOCK_MONOTONIC);
		pf_mutex_lock(&k->lock);
	}
	pf_mutex_unlock(&k->lock);
	return NULL;
}

/* Lock held. A free place; or NULL, and one is on its way to be free. */
static struct place *find_place(struct pf_kick *k)
{
	struct place *oldest = NULL;

	for (struct place *p = k->place; p < k->place + PLACES; p++) {
		if (!p->sess && !p->busy)
			return p;
		if (p->leaving)
			return NULL;
		if (p->sess && (!oldest || p->asked < oldest->asked))
			oldest = p;
	}
	if (oldest) {
		atomic_fetch_and(&oldest->sess->led.hdr->lh_kick, ~PF_KICK_ARMED);
		oldest->leaving = true;
	}
	return NULL;
}

void pf_kick_arm(struct pf_sess *s)
{
	struct pf_kick *k = s->fs->lay->kick;
	bool changed = false;
	struct place *p;

	if (!k)
		return;
	pf_mutex_lock(&k->lock);
	if (s->kick_place != 0) {
		k->place[s->kick_place - 1].asked = ++k->clock;
	} else if (atomic_load(&s->state) == PF_SESS_LIVE) {
		p = find_place(k);
		if (p) {
			*p = (struct place){ .sess = s, .more = true, .asked = ++k->clock };
			s->kick_place = (unsigned int)(p - k->place) + 1;
			atomic_fetch_or(&s->led.hdr->lh_kick, PF_KICK_ARMED);
		}
		changed = true;
	}
	pf_mutex_unlock(&k->lock);
	if (changed)
		ring(k);
}

void pf_kick_leave(struct pf_sess *s)
{
	struct pf_kick *k = s->fs->lay->kick;
	struct place *p;

	if (!k)
		return;
	pf_mutex_lock(&k->lock);
	if (s->kick_place != 0) {
		p = &k->place[s->kick_place - 1];
		atomic_fetch_and(&s->led.hdr->lh_kick, ~PF_KICK_ARMED);
		*p = (struct place){ .sess = NULL, .busy = p->busy };
		s->kick_place = 0;
	}
	pf_mutex_unlock(&k->lock);
}

int pf_kick_init(struct pf_fs *fs)
{
	struct pf_kick *k;
	sigset_t all, old;
	int rc = 0;

	/* Nothing to wait for is an error of its own; before Linux 5.16, or under a filter, it is another one. */
	if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) == 0 || errno != EINVAL)
		return 0;
	k = calloc(1, sizeof *k);
	if (!k)
		return -ENOMEM;
	pf_mutex_init(&k->lock, PF_RANK_LEAF);
	fs->lay->kick = k;
	(void)sigfillset(&all);			/* signals are for the thread that asked for them */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && k->nr_threads < THREADS) {
		rc = pthread_create(&k->thread[k->nr_threads], NULL, thread_main, k);
		k->nr_threads += rc == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		pf_kick_fini(fs);
	return -rc;
}

void pf_kick_stop(struct pf_fs *fs)
{
	struct pf_kick *k = fs->lay->kick;

	if (!k)
		return;
	pf_mutex_lock(&k->lock);
	k->stop = true;
	pf_mutex_unlock(&k->lock);
	ring(k);
	while (k->nr_threads > 0)
		(void)pthread_join(k->thread[--k->nr_threads], NULL);
}

void pf_kick_fini(struct pf_fs *fs)
{
	struct pf_kick *k = fs->lay ? fs->lay->kick : NULL;

	if (!k)
		return;
	pf_kick_stop(fs);
	fs->lay->kick = NULL;
	pf_mutex_fini(&k->lock);
	free(k);
}
