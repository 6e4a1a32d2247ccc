/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badset.c - the bad blocks in memory: an array of runs, sorted, apart, never touching each other.
 *
 * Owns the array. Takes a LEAF lock, shared for a look. Does not know the media, nor who owns a block.
 */
#include "media/badset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/lock.h"

struct badrun { uint64_t from, to; };

struct pf_badset {
	struct pf_rwlock lock;		/* LEAF: below */
	struct badrun *run;
	size_t n, cap;
};

int pf_badset_init(struct pf_fs *fs)
{
	struct pf_badset *b = calloc(1, sizeof *b);

	if (b == NULL)
		return -ENOMEM;
	pf_rwlock_init(&b->lock, PF_RANK_LEAF);
	fs->badset = b;
	return 0;
}

void pf_badset_fini(struct pf_fs *fs)
{
	struct pf_badset *b = fs->badset;

	if (b == NULL)
		return;
	pf_rwlock_fini(&b->lock);
	free(b->run);
	free(b);
	fs->badset = NULL;
	atomic_store(&fs->nr_bad, 0);
}

/* The first run that ends behind @dblk. */
static size_t lower(const struct pf_badset *b, uint64_t dblk)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->run[mid].to <= dblk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* One more may be needed. */
static int make_room(struct pf_badset *b)
{
	size_t cap = b->cap != 0 ? 2 * b->cap : 16;
	struct badrun *run;

	if (b->n < b->cap)
		return 0;
	run = realloc(b->run, cap * sizeof *run);
	if (run == NULL)
		return -ENOMEM;
	b->run = run;
	b->cap = cap;
	return 0;
}

/* Replace runs [i, j) by the @n runs at @by. */
static void splice(struct pf_badset *b, size_t i, size_t j, const struct badrun *by, size_t n)
{
	memmove(b->run + i + n, b->run + j, (b->n - j) * sizeof *b->run);
	memcpy(b->run + i, by, n * sizeof *by);
	b->n = b->n - (j - i) + n;
}

static void recount(struct pf_fs *fs)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < fs->badset->n; i++)
		sum += fs->badset->run[i].to - fs->badset->run[i].from;
	atomic_store(&fs->nr_bad, sum);
}

int pf_badset_add(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	struct badrun r = { dblk, dblk + nblk };
	struct pf_badset *b = fs->badset;
	size_t i, j;
	int err;

	pf_rwlock_wrlock(&b->lock);
	err = make_room(b);
	if (err == 0) {
		i = lower(b, dblk);
		if (i > 0 && b->run[i - 1].to == dblk)
			i--;
		for (j = i; j < b->n && b->run[j].from <= r.to; j++) {
			r.from = pf_min64(r.from, b->run[j].from);
			r.to = pf_max64(r.to, b->run[j].to);
		}
		splice(b, i, j, &r, 1);
		recount(fs);
	}
	pf_rwlock_unlock(&b->lock);
	return err;
}

int pf_badset_del(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	const uint64_t end = dblk + nblk;
	struct pf_badset *b = fs->badset;
	struct badrun left[2];
	size_t i, j, n = 0;
	int err;

	pf_rwlock_wrlock(&b->lock);
	err = make_room(b);
	if (err == 0) {
		i = j = lower(b, dblk);
		while (j < b->n && b->run[j].from < end)
			j++;
		if (i < j && b->run[i].from < dblk)
			left[n++] = (struct badrun){ b->run[i].from, dblk };
		if (i < j && b->run[j - 1].to > end)
			left[n++] = (struct badrun){ end, b->run[j - 1].to };
		splice(b, i, j, left, n);
		recount(fs);
	}
	pf_rwlock_unlock(&b->lock);
	return err;
}

uint64_t pf_badset_find(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *end)
{
	struct pf_badset *b = fs->badset;
	uint64_t first = PF_BAD_NONE;
	size_t i;

	pf_rwlock_rdlock(&b->lock);
	i = lower(b, dblk);
	if (nblk != 0 && i < b->n && b->run[i].from < dblk + nblk) {
		first = pf_max64(dblk, b->run[i].from);
		if (end != NULL)
			*end = pf_min64(dblk + nblk, b->run[i].to);
	}
	pf_rwlock_unlock(&b->lock);
	return first;
}
