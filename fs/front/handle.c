/* SPDX-License-Identifier: BSD-3-Clause */
/* handle.c - the policies of open files. Owns their table, a daemon having one mount; takes its lock (LEAF). */
#include "front/handle.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "base/lock.h"

#define BUCKETS 256U

struct entry {
	struct entry *next;
	uint64_t fh;
	struct pf_policy_over over;
};

static struct pf_mutex lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = PF_RANK_LEAF };
static struct entry *bucket[BUCKETS];
static _Atomic uint64_t serial, nr_entries;	/* the latter spares everybody else the lock */

uint64_t pf_handle_new(bool write)
{
	return (atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed) + 1) << 1 | write;
}

/* Lock held. Where the entry is, or would be. */
static struct entry **find(uint64_t fh)
{
	struct entry **at = &bucket[(fh >> 1) % BUCKETS];

	while (*at != NULL && (*at)->fh != fh)
		at = &(*at)->next;
	return at;
}

int pf_handle_set(uint64_t fh, const struct pf_policy_over *over)
{
	struct entry *fresh = malloc(sizeof *fresh), **at;

	if (fresh == NULL)
		return -ENOMEM;
	*fresh = (struct entry){ .fh = fh, .over = *over };
	pf_mutex_lock(&lock);
	at = find(fh);
	if (*at != NULL) {
		(*at)->over = *over;
	} else {
		*at = fresh;
		fresh = NULL;
		atomic_fetch_add(&nr_entries, 1);
	}
	pf_mutex_unlock(&lock);
	free(fresh);
	return 0;
}

bool pf_handle_policy(uint64_t fh, struct pf_policy_over *out)
{
	struct entry *e;

	if (atomic_load(&nr_entries) == 0)
		return false;
	pf_mutex_lock(&lock);
	e = *find(fh);
	if (e != NULL)
		*out = e->over;
	pf_mutex_unlock(&lock);
	return e != NULL;
}

void pf_handle_release(uint64_t fh)
{
	struct entry **at, *e;

	if (atomic_load(&nr_entries) == 0)
		return;
	pf_mutex_lock(&lock);
	at = find(fh);
	e = *at;
	if (e != NULL) {
		*at = e->next;
		atomic_fetch_sub(&nr_entries, 1);
	}
	pf_mutex_unlock(&lock);
	free(e);
}
