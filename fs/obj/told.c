/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * told.c - a hash table with open addressing: at most two thirds full, halved when it is below a sixth. Takes no lock.
 */
#include "obj/told.h"

#include <stdlib.h>

#define LEAST 64U

static uint64_t home(const struct pf_told *t, uint64_t ino)
{
	return (ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (t->size - 1);
}

static uint64_t find(const struct pf_told *t, uint64_t ino)
{
	uint64_t i = home(t, ino);

	while (t->slot[i].ino != 0 && t->slot[i].ino != ino)
		i = (i + 1) & (t->size - 1);
	return i;
}

static bool resize(struct pf_told *t, uint64_t size)
{
	struct pf_told now = { .slot = calloc(size, sizeof *now.slot), .used = t->used, .size = size };

	if (now.slot == NULL)
		return false;
	for (uint64_t i = 0; i < t->size; i++)
		if (t->slot[i].ino != 0)
			now.slot[find(&now, t->slot[i].ino)] = t->slot[i];
	free(t->slot);
	*t = now;
	return true;
}

/* What follows without a gap may have been pushed on by the one that goes: it moves up. */
static void drop(struct pf_told *t, uint64_t i)
{
	const uint64_t mask = t->size - 1;

	for (uint64_t j = (i + 1) & mask; t->slot[j].ino != 0; j = (j + 1) & mask) {
		if (((j - home(t, t->slot[j].ino)) & mask) < ((j - i) & mask))
			continue;
		t->slot[i] = t->slot[j];
		i = j;
	}
	t->slot[i].ino = 0;
	t->used--;
	if (t->size > LEAST && t->used < t->size / 6)
		(void)resize(t, t->size / 2);	/* without memory it stays large */
}

bool pf_told_put(struct pf_told *t, uint64_t ino, uint64_t n)
{
	uint64_t i;

	if (t->used >= t->size * 2 / 3 && !resize(t, t->size != 0 ? t->size * 2 : LEAST))
		return false;
	i = find(t, ino);
	t->slot[i].ino = ino;
	t->slot[i].n = n;
	t->used++;
	return true;
}

uint64_t pf_told_take(struct pf_told *t, uint64_t ino)
{
	uint64_t i, n;

	if (t->size == 0)
		return 0;
	i = find(t, ino);
	if (t->slot[i].ino == 0)
		return 0;
	n = t->slot[i].n;
	drop(t, i);
	return n;
}

void pf_told_less(struct pf_told *t, uint64_t ino, uint64_t n)
{
	uint64_t i;

	if (t->size == 0)
		return;
	i = find(t, ino);
	if (t->slot[i].ino == 0)
		return;
	if (t->slot[i].n > n)
		t->slot[i].n -= n;
	else
		drop(t, i);
}

void pf_told_fini(struct pf_told *t)
{
	free(t->slot);
	*t = (struct pf_told){ 0 };
}
