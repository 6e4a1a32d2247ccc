/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc_impl.h - the allocator's tables in memory, shared by alloc.c (finding space) and alloc_tx.c (owning it).
 * Private to fs/space.
 */
#ifndef PF_SPACE_ALLOC_IMPL_H
#define PF_SPACE_ALLOC_IMPL_H

#include "base/lock.h"
#include "space/alloc.h"

#define MAP_STRIPES 64U

/* What the search needs to know of a group. The largest runs are inside one chunk, or whole chunks. */
struct group_sum {
	uint32_t nfree;		/* available blocks */
	uint16_t chunks;	/* longest run of wholly available chunks */
	uint16_t run;		/* longest run inside a chunk that is not wholly available */
	uint16_t whole;		/* chunks that are wholly available */
};

/* The same of every chunk, and the blocks themselves; loaded when the group is first used. */
struct group {
	uint64_t avail[PF_GROUP_CHUNKS][8];	/* bit 1 = NOT available: used, reserved, or parked */
	uint16_t nfree[PF_GROUP_CHUNKS];
	uint16_t run[PF_GROUP_CHUNKS];		/* longest run in the chunk */
	/* Parking, allocated with the first parked block of the group. */
	uint16_t *parks;			/* [PF_GROUP_BLKS]: how often parked */
	uint64_t *limbo;			/* bit: freed on the media while parked */
	uint32_t nparked;			/* sum of parks */
};

struct pf_alloc {
	bool (*on_full)(struct pf_fs *fs);	/* set while nobody else uses the filesystem */
	struct pf_mutex lock;			/* ALLOC: everything below */
	uint64_t ngroup, leaves;		/* leaves: power of two >= ngroup */
	struct group_sum *sum;			/* [ngroup] */
	struct group **group;			/* [ngroup], NULL until loaded */
	uint16_t *tree_chunks, *tree_run;	/* [2 * leaves]: maxima, root at 1 */
	uint64_t free, reserved, limbo, kept;
	uint64_t whole;				/* chunks that are wholly available */
	uint64_t backed;			/* of free: in chunks known to have room in a sparse image file */
	uint64_t rotor_small, rotor_big;	/* group where the last search without a goal ended */
	struct pf_mutex stripe[MAP_STRIPES];	/* MAP: map block of group g is under stripe g % MAP_STRIPES */
};

/* ALLOC held for all of these. */
int pf_group_load(struct pf_fs *fs, uint64_t g, struct group **out) PF_MUST_CHECK;
/* Blocks [dblk, +nblk) become available / unavailable; they were the opposite. */
void pf_alloc_flip(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, bool available);
/* Blocks which the media has freed: available unless parked, then in limbo, or bad, then nobody's. */
void pf_alloc_give(struct pf_fs *fs, struct pf_run run);

int pf_alloc_tx_init(struct pf_fs *fs) PF_MUST_CHECK;

#endif
