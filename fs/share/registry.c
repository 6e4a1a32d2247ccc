/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * registry.c - the list of sessions and waiting breaks of a mount, and the thread that watches their deadlines.
 *
 * Owns struct pf_lay. Takes REGISTRY only; a break is handed out with a reference and looked at by the caller under
 * LAYOUT.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include "share/lay.h"

uint64_t pf_lay_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* The heap: a break's key is its next deadline, and b->heap its place + 1. */

static uint64_t key(const struct pf_brk *b)
{
	const uint64_t when[] = { b->busy_ns, b->ack_ns, b->poll_ns, b->lease_ns };
	uint64_t first = 0;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(when); i++)
		if (when[i] != 0 && (first == 0 || when[i] < first))
			first = when[i];
	return first;
}

static void place(struct pf_lay *l, unsigned int i, struct pf_brk *b)
{
	l->heap[i] = b;
	b->heap = i + 1;
}

static void sift(struct pf_lay *l, unsigned int i)
{
	struct pf_brk *b = l->heap[i];

	while (i > 0 && key(b) < key(l->heap[(i - 1) / 2])) {
		place(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		unsigned int c = 2 * i + 1;

		if (c + 1 < l->nr_heap && key(l->heap[c + 1]) < key(l->heap[c]))
			c++;
		if (c >= l->nr_heap || key(b) <= key(l->heap[c]))
			break;
		place(l, i, l->heap[c]);
		i = c;
	}
	place(l, i, b);
}

static void heap_del(struct pf_lay *l, struct pf_brk *b)
{
	unsigned int i = b->heap - 1;
	struct pf_brk *last = l->heap[--l->nr_heap];

	b->heap = 0;
	if (last != b) {
		place(l, i, last);
		sift(l, i);
	}
}

/* The thread sleeps on when the new deadline is later than what it waits for anyway: most breaks end long before
 * theirs. */
static void heap_update(struct pf_lay *l, struct pf_brk *b)
{
	if (key(b) == 0) {
		if (b->heap != 0)
			heap_del(l, b);
		return;
	}
	if (b->heap == 0)
		place(l, l->nr_heap++, b);
	sift(l, b->heap - 1);
	if (key(b) < l->timer_until)
		(void)pthread_cond_signal(&l->timer_cond);
}

static void *timer_main(void *arg)
{
	struct pf_fs *fs = arg;
	struct pf_lay *l = fs->lay;
	struct pf_brk *b;
	struct timespec ts;
	uint64_t now;

	pf_mutex_lock(&l->lock);
	while (!l->timer_stop) {
		now = pf_lay_now();
		if (l->nr_heap != 0 && key(l->heap[0]) <= now) {
			b = l->heap[0];
			heap_del(l, b);		/* armed again by pf_brk_timeout() if something is left to wait for */
			atomic_fetch_add(&b->refs, 1);
			pf_mutex_unlock(&l->lock);
			pf_brk_timeout(b, now);
			pf_brk_unref(b);
			pf_mutex_lock(&l->lock);
			continue;
		}
		l->timer_until = l->nr_heap != 0 ? key(l->heap[0]) : UINT64_MAX;
		if (l->timer_until == UINT64_MAX) {
			(void)pthread_cond_wait(&l->timer_cond, &l->lock.m);
		} else {
			ts.tv_sec = (time_t)(l->timer_until / UINT64_C(1000000000));
			ts.tv_nsec = (long)(l->timer_until % UINT64_C(1000000000));
			(void)pthread_cond_timedwait(&l->timer_cond, &l->lock.m, &ts);
		}
		l->timer_until = 0;
	}
	pf_mutex_unlock(&l->lock);
	return NULL;
}

int pf_reg_init(struct pf_fs *fs)
{
	struct pf_lay *l = calloc(1, sizeof *l);
	pthread_condattr_t attr;
	sigset_t all, old;
	int rc;

	if (!l)
		return -ENOMEM;
	pf_mutex_init(&l->lock, PF_RANK_REGISTRY);
	pf_mutex_init(&l->users_lock, PF_RANK_LEAF);
	if (pthread_condattr_init(&attr) != 0 || pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0 ||
	    pthread_cond_init(&l->timer_cond, &attr) != 0)
		abort();
	(void)pthread_condattr_destroy(&attr);
	fs->lay = l;
	/* Signals are for the thread that asked for them. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&l->timer, NULL, timer_main, fs);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		(void)pthread_cond_destroy(&l->timer_cond);
		pf_mutex_fini(&l->users_lock);
		pf_mutex_fini(&l->lock);
		free(l);
		fs->lay = NULL;
	}
	return -rc;
}

void pf_reg_stop(struct pf_fs *fs)
{
	struct pf_lay *l = fs->lay;
	bool before;

	pf_mutex_lock(&l->lock);
	before = l->timer_stop;
	l->timer_stop = true;
	(void)pthread_cond_signal(&l->timer_cond);
	pf_mutex_unlock(&l->lock);
	if (!before)
		(void)pthread_join(l->timer, NULL);
}

void pf_reg_fini(struct pf_fs *fs)
{
	struct pf_lay *l = fs->lay;

	if (!l)
		return;
	pf_reg_stop(fs);
	assert(!l->sessions && !l->users && l->nr_breaks == 0);
	(void)pthread_cond_destroy(&l->timer_cond);
	pf_mutex_fini(&l->users_lock);
	pf_mutex_fini(&l->lock);
	free(l->heap);
	free(l);
	fs->lay = NULL;
}

/* Room in the heap for every registered break is made here, so that arming a timer cannot fail. */
int pf_reg_add(struct pf_brk *b)
{
	struct pf_lay *l = b->fs->lay;
	struct pf_brk **at, **bigger;
	int err = 0;

	if (b->registered)
		return 0;
	pf_mutex_lock(&l->lock);
	if (l->nr_breaks == l->room_heap) {
		unsigned int room = l->room_heap ? 2 * l->room_heap : 64;

		bigger = realloc(l->heap, room * sizeof(struct pf_brk *));
		if (!bigger) {
			err = -ENOMEM;
			goto out;
		}
		l->heap = bigger;
		l->room_heap = room;
	}
	at = &l->bucket[b->id % PF_LAY_BUCKETS];
	b->reg_next = *at;
	*at = b;
	l->nr_breaks++;
	b->registered = true;
	heap_update(l, b);
out:
	pf_mutex_unlock(&l->lock);
	return err;
}

void pf_reg_del(struct pf_brk *b)
{
	struct pf_lay *l = b->fs->lay;
	struct pf_brk **at;

	if (!b->registered)
		return;
	pf_mutex_lock(&l->lock);
	for (at = &l->bucket[b->id % PF_LAY_BUCKETS]; *at != b; at = &(*at)->reg_next)
		;
	*at = b->reg_next;
	if (b->heap != 0)
		heap_del(l, b);
	l->nr_breaks--;
	b->registered = false;
	pf_mutex_unlock(&l->lock);
}

void pf_reg_arm(struct pf_brk *b, uint64_t busy_ns, uint64_t ack_ns)
{
	struct pf_lay *l = b->fs->lay;

	if (!b->registered) {
		b->busy_ns = busy_ns;
		b->ack_ns = ack_ns;
		return;
	}
	pf_mutex_lock(&l->lock);
	b->busy_ns = busy_ns;
	b->ack_ns = ack_ns;
	heap_update(l, b);
	pf_mutex_unlock(&l->lock);
}

void pf_reg_arm_poll(struct pf_brk *b, uint64_t poll_ns)
{
	struct pf_lay *l = b->fs->lay;

	pf_mutex_lock(&l->lock);
	b->poll_ns = poll_ns;
	if (b->registered)
		heap_update(l, b);
	pf_mutex_unlock(&l->lock);
}

void pf_reg_arm_lease(struct pf_brk *b, uint64_t lease_ns)
{
	struct pf_lay *l = b->fs->lay;

	pf_mutex_lock(&l->lock);
	b->lease_ns = lease_ns;
	if (b->registered)
		heap_update(l, b);
	pf_mutex_unlock(&l->lock);
}

struct pf_brk *pf_reg_find(struct pf_fs *fs, uint64_t id)
{
	struct pf_lay *l = fs->lay;
	struct pf_brk *b;

	pf_mutex_lock(&l->lock);
	for (b = l->bucket[id % PF_LAY_BUCKETS]; b && b->id != id; b = b->reg_next)
		;
	if (b)
		atomic_fetch_add(&b->refs, 1);
	pf_mutex_unlock(&l->lock);
	return b;
}

unsigned int pf_reg_breaks(struct pf_fs *fs, struct pf_brk **out, unsigned int max, uint64_t *left)
{
	struct pf_lay *l = fs->lay;
	unsigned int i, n = 0;

	pf_mutex_lock(&l->lock);
	for (i = 0; i < PF_LAY_BUCKETS; i++)
		for (struct pf_brk *b = l->bucket[i]; b && n < max; b = b->reg_next) {
			atomic_fetch_add(&b->refs, 1);
			out[n++] = b;
		}
	*left = l->nr_breaks - n;
	pf_mutex_unlock(&l->lock);
	return n;
}

/* REGISTRY is held, so that of two policies the later one is in every ledger. */
static void tell_rules(struct pf_sess *s, const struct pf_policy *p)
{
	atomic_store(&s->led.hdr->lh_rules, p->deadlock_waits ? PF_RULE_STUCK_WAITS : 0);
}

void pf_lay_set_policy(struct pf_fs *fs, const struct pf_policy_over *over, struct pf_policy *now)
{
	struct pf_lay *l = fs->lay;

	pf_mutex_lock(&l->lock);
	pf_fs_policy(fs, now);
	pf_policy_merge(now, over);
	pf_fs_policy_set(fs, now);
	for (struct pf_sess *s = l->sessions; s; s = s->reg_next)
		tell_rules(s, now);
	pf_mutex_unlock(&l->lock);
}

void pf_reg_add_sess(struct pf_sess *s)
{
	struct pf_lay *l = s->fs->lay;
	struct pf_policy now;

	pf_mutex_lock(&l->lock);
	pf_fs_policy(s->fs, &now);
	tell_rules(s, &now);
	s->reg_next = l->sessions;
	if (s->reg_next)
		s->reg_next->reg_pprev = &s->reg_next;
	s->reg_pprev = &l->sessions;
	l->sessions = s;
	pf_mutex_unlock(&l->lock);
}

void pf_reg_del_sess(struct pf_sess *s)
{
	struct pf_lay *l = s->fs->lay;

	pf_mutex_lock(&l->lock);
	*s->reg_pprev = s->reg_next;
	if (s->reg_next)
		s->reg_next->reg_pprev = s->reg_pprev;
	pf_mutex_unlock(&l->lock);
}

unsigned int pf_reg_sessions(struct pf_fs *fs, struct pf_sess **out, unsigned int max)
{
	struct pf_lay *l = fs->lay;
	unsigned int n = 0;

	pf_mutex_lock(&l->lock);
	for (struct pf_sess *s = l->sessions; s && n < max; s = s->reg_next) {
		/* One that is being freed is only waiting for the lock to leave the list. */
		unsigned int refs = atomic_load(&s->refs);

		while (refs != 0 && !atomic_compare_exchange_weak(&s->refs, &refs, refs + 1))
			;
		if (refs != 0)
			out[n++] = s;
	}
	pf_mutex_unlock(&l->lock);
	return n;
}

/* With everything else that a mount's breaks need. */
int pf_lay_init(struct pf_fs *fs)
{
	int err = pf_reg_init(fs);

	if (err != 0)
		return err;
	err = pf_kick_init(fs);
	if (err != 0)
		pf_reg_fini(fs);
	else if (fs->opts.pause_points)
		err = pf_pause_init(fs);
	return err;
}

void pf_lay_fini(struct pf_fs *fs)
{
	pf_pause_fini(fs);
	pf_kick_fini(fs);
	pf_reg_fini(fs);
}

void pf_lay_stop_threads(struct pf_fs *fs)
{
	pf_reg_stop(fs);
	pf_kick_stop(fs);
}
