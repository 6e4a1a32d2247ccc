/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reap.c - the queue of inodes without links and references, and the thread that frees them.
 *
 * Owns struct pf_reap. Takes its own lock (LEAF), never while it frees. A batch is what one transaction can free:
 * inodes of one cluster that one orphan block names.
 */
#include "obj/reap.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include "space/alloc.h"

#define NAP_NS 5000000L			/* how long the first one waits for others */
#define QUEUE_MAX 4096U			/* beyond it, whoever forgets an inode frees it */
#define SMALL_BLKS 64U			/* a larger inode does not wait */
#define PLENTY 8U			/* nor any, unless one block in so many is free, and ... */
#define PLENTY_BLKS UINT64_C(16384)	/* ... more than can be written in a nap */

struct pf_reap {
	struct pf_mutex lock;		/* LEAF: all below */
	pthread_cond_t some, none;
	struct pf_inode *head;		/* by lru_next */
	unsigned int n, busy;		/* waiting; being freed */
	bool on, scarce, stop, threaded;
	pthread_t thread;
};

int pf_reap_init(struct pf_fs *fs)
{
	struct pf_reap *r = calloc(1, sizeof *r);

	if (r == NULL)
		return -ENOMEM;
	pf_mutex_init(&r->lock, PF_RANK_LEAF);
	if (pthread_cond_init(&r->some, NULL) != 0 || pthread_cond_init(&r->none, NULL) != 0)
		abort();
	fs->reap = r;
	return 0;
}

bool pf_reap_later(struct pf_inode *ip)
{
	struct pf_reap *r = ip->fs->reap;
	struct pf_space sp;
	bool later;

	if (pf_get64(ip->d.i_nblk) > SMALL_BLKS || pf_get16(ip->d.i_xroot.x_count) != 0 || ip->orph_blk == 0)
		return false;
	pf_alloc_stat(ip->fs, &sp);
	pf_mutex_lock(&r->lock);
	later = r->on && r->n < QUEUE_MAX && (r->scarce || sp.free > pf_max64(sp.total / PLENTY, PLENTY_BLKS));
	if (later) {
		ip->lru_next = r->head;
		r->head = ip;
		if (r->n++ == 0)
			(void)pthread_cond_signal(&r->some);
	}
	pf_mutex_unlock(&r->lock);
	return later;
}

static int together(const void *a, const void *b)
{
	const struct pf_inode *x = *(const struct pf_inode *const *)a, *y = *(const struct pf_inode *const *)b;

	if (x->orph_blk != y->orph_blk)
		return x->orph_blk < y->orph_blk ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static bool same_batch(const struct pf_inode *x, const struct pf_inode *y)
{
	return x->orph_blk == y->orph_blk && x->ino >> PF_ICLU_SHIFT == y->ino >> PF_ICLU_SHIFT;
}

/* Sorted within the few that are taken off the queue at a time, which is where they were made and removed together. */
static void free_list(struct pf_inode *list)
{
	struct pf_inode *v[256] = { NULL };
	unsigned int n, at, end;

	while (list != NULL) {
		for (n = 0; list != NULL && n < PF_ARRAY_LEN(v); list = list->lru_next)
			v[n++] = list;
		qsort(v, n, sizeof(struct pf_inode *), together);
		for (at = 0; at < n; at = end) {
			end = at + 1;
			while (end < n && end - at < PF_EVICT_MANY && same_batch(v[at], v[end]))
				end++;
			pf_inode_bury(v + at, end - at);
		}
	}
}

/* Lock held, and dropped meanwhile. False: there was nothing to free. */
static bool turn(struct pf_reap *r)
{
	struct pf_inode *list = r->head;
	unsigned int n = r->n;

	if (n == 0)
		return false;
	r->head = NULL;
	r->n = 0;
	r->busy += n;
	pf_mutex_unlock(&r->lock);
	free_list(list);
	pf_mutex_lock(&r->lock);
	r->busy -= n;
	if (r->busy == 0)
		(void)pthread_cond_broadcast(&r->none);
	return true;
}

bool pf_reap_all(struct pf_fs *fs)
{
	struct pf_reap *r = fs->reap;
	bool any;

	pf_mutex_lock(&r->lock);
	any = turn(r) || r->busy != 0;
	while (r->busy != 0)
		(void)pthread_cond_wait(&r->none, &r->lock.m);
	pf_mutex_unlock(&r->lock);
	return any;
}

static void *thread_main(void *arg)
{
	const struct timespec nap = { .tv_nsec = NAP_NS };
	struct pf_reap *r = arg;

	pf_mutex_lock(&r->lock);
	while (!r->stop) {
		if (r->n == 0) {
			(void)pthread_cond_wait(&r->some, &r->lock.m);
			continue;
		}
		pf_mutex_unlock(&r->lock);
		(void)nanosleep(&nap, NULL);
		pf_mutex_lock(&r->lock);
		(void)turn(r);
	}
	pf_mutex_unlock(&r->lock);
	return NULL;
}

int pf_reap_start(struct pf_fs *fs, unsigned int how)
{
	struct pf_reap *r = fs->reap;
	sigset_t all, old;
	int rc = 0;

	if (fs->opts.ro)
		return 0;
	if (how & PF_REAP_THREAD) {
		(void)sigfillset(&all);		/* signals are for the thread that asked for them */
		(void)pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = pthread_create(&r->thread, NULL, thread_main, r);
		(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
		r->threaded = rc == 0;
	}
	pf_mutex_lock(&r->lock);
	r->on = rc == 0;
	r->scarce = (how & PF_REAP_SCARCE) != 0;
	pf_mutex_unlock(&r->lock);
	return -rc;
}

void pf_reap_fini(struct pf_fs *fs)
{
	struct pf_reap *r = fs->reap;

	if (r == NULL)
		return;
	pf_mutex_lock(&r->lock);
	r->on = false;
	r->stop = true;
	(void)pthread_cond_signal(&r->some);
	pf_mutex_unlock(&r->lock);
	if (r->threaded)
		(void)pthread_join(r->thread, NULL);
	(void)pf_reap_all(fs);
	(void)pthread_cond_destroy(&r->some);
	(void)pthread_cond_destroy(&r->none);
	pf_mutex_fini(&r->lock);
	free(r);
	fs->reap = NULL;
}
