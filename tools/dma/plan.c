/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * plan.c - seeded schedules: which bytes of a transfer move when. A pure function of seed, length, burst and jitter.
 *
 * Owns nothing; the schedule is the caller's. Takes no locks.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <stdlib.h>

#define STEPS_MAX ((uint64_t)1 << 20)

uint64_t dma_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));		/* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int dma_plan(const struct dma_desc *d, uint64_t len, struct dma_step **out, size_t *n)
{
	uint64_t most = d->burst != 0 ? d->burst : DMA_BURST, state = d->seed, at = 0;
	struct dma_step *step;
	size_t room;

	/* Bursts of one line to @most, all lines of the pattern but at the ends; a long transfer takes longer ones. */
	most = pf_max64(pf_round_down(most, DMA_LINE), DMA_LINE);
	while (len / most >= STEPS_MAX / 4)
		most *= 2;
	room = (size_t)(pf_min64(len / DMA_LINE, STEPS_MAX) + 2);
	step = malloc(room * sizeof *step);
	if (step == NULL)
		return -ENOMEM;
	for (*n = 0; at < len; ++*n) {
		uint64_t want = (dma_random(&state) % (most / DMA_LINE) + 1) * DMA_LINE;

		if (*n + 1 == room)
			want = len - at;
		step[*n] = (struct dma_step){ .off = at, .len = pf_min64(want, len - at) };
		step[*n].wait_ns = d->jitter_ns != 0 ? dma_random(&state) % d->jitter_ns : 0;
		at += step[*n].len;
	}
	for (size_t i = *n; i > 1; i--) {
		size_t k = (size_t)(dma_random(&state) % i);
		struct dma_step last = step[i - 1];

		step[i - 1] = step[k];
		step[k] = last;
	}
	*out = step;
	return 0;
}
