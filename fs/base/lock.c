/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.c - locks that know their rank. A failing lock call is a bug and aborts; it is never an errno. */
#include "base/lock.h"

#include <assert.h>
#include <stdlib.h>

static _Thread_local uint32_t held;

void pf_rank_enter(enum pf_rank r)
{
	assert((held >> r) == 0);	/* nothing at this rank or deeper */
	held |= UINT32_C(1) << r;
}

void pf_rank_exit(enum pf_rank r)
{
	assert(held & (UINT32_C(1) << r));
	held &= ~(UINT32_C(1) << r);
}

bool pf_rank_none(void)
{
	return held == 0;
}

static void must(int rc)
{
	if (rc != 0)
		abort();
}

void pf_mutex_init(struct pf_mutex *m, enum pf_rank rank)
{
	must(pthread_mutex_init(&m->m, NULL));
	m->rank = rank;
}

void pf_mutex_fini(struct pf_mutex *m)
{
	must(pthread_mutex_destroy(&m->m));
}

void pf_mutex_lock(struct pf_mutex *m)
{
	pf_rank_enter(m->rank);
	must(pthread_mutex_lock(&m->m));
}

bool pf_mutex_trylock(struct pf_mutex *m)
{
	if (pthread_mutex_trylock(&m->m) != 0)
		return false;
	pf_rank_enter(m->rank);
	return true;
}

void pf_mutex_unlock(struct pf_mutex *m)
{
	must(pthread_mutex_unlock(&m->m));
	pf_rank_exit(m->rank);
}

void pf_mutex_lock_more(struct pf_mutex *m)
{
	assert(held & (UINT32_C(1) << m->rank));
	must(pthread_mutex_lock(&m->m));
}

void pf_mutex_unlock_more(struct pf_mutex *m)
{
	must(pthread_mutex_unlock(&m->m));
}

/* Writers are preferred: a stream of readers must not starve a truncate. */
void pf_rwlock_init(struct pf_rwlock *l, enum pf_rank rank)
{
	pthread_rwlockattr_t attr;

	must(pthread_rwlockattr_init(&attr));
	must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	must(pthread_rwlock_init(&l->rw, &attr));
	must(pthread_rwlockattr_destroy(&attr));
	l->rank = rank;
}

void pf_rwlock_fini(struct pf_rwlock *l)
{
	must(pthread_rwlock_destroy(&l->rw));
}

void pf_rwlock_rdlock(struct pf_rwlock *l)
{
	pf_rank_enter(l->rank);
	must(pthread_rwlock_rdlock(&l->rw));
}

void pf_rwlock_wrlock(struct pf_rwlock *l)
{
	pf_rank_enter(l->rank);
	must(pthread_rwlock_wrlock(&l->rw));
}

void pf_rwlock_unlock(struct pf_rwlock *l)
{
	must(pthread_rwlock_unlock(&l->rw));
	pf_rank_exit(l->rank);
}

void pf_rwlock_wrlock_more(struct pf_rwlock *l)
{
	assert(held & (UINT32_C(1) << l->rank));
	must(pthread_rwlock_wrlock(&l->rw));
}

void pf_rwlock_unlock_more(struct pf_rwlock *l)
{
	must(pthread_rwlock_unlock(&l->rw));
}
