/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc.h - free space: reserve now in memory, own on the media by the transaction that commits.
 *
 * A reservation exists in memory only and vanishes in a crash; pf_tx_use() makes it permanent with the
 * transaction, pf_tx_free() gives blocks back with it. Freed blocks can be reserved again only after the commit,
 * and only when nobody parks them.
 *
 * Parking: blocks that a device may still write to (pins under on_busy=defer, clients in quarantine) are parked by
 * share/layout before they are freed. On the media they are free; in memory they stay unavailable until unparked. That
 * is crash-safe because whoever may still write holds a lock on the device file, and no daemon serves it meanwhile.
 *
 * Groups are found by a segment tree over their largest free run: O(log groups) a request. A request of 512 blocks
 * or more is given 2 MiB aligned runs as long as there are any; small ones fill broken chunks first.
 */
#ifndef PF_SPACE_ALLOC_H
#define PF_SPACE_ALLOC_H

#include "media/journal.h"

struct pf_run { uint64_t dblk, nblk; };

struct pf_space {
	uint64_t total;		/* blocks of the device */
	uint64_t free;		/* available for a reservation by anybody */
	uint64_t reserved;	/* reserved, not committed yet */
	uint64_t parked;	/* free on the media, not available */
	uint64_t kept;		/* of the free ones: for transactions that give space back (pf_tx_use_kept) */
};

#define PF_ALLOC_ALIGN 1U	/* prefer a run that starts on a 2 MiB boundary of the device */
#define PF_ALLOC_META 2U	/* may use the kept blocks */
#define PF_ALLOC_HOPE 4U	/* as ALIGN, while most free space is whole chunks: the file may stay small */

int pf_alloc_init(struct pf_fs *fs) PF_MUST_CHECK;		/* reads the map blocks: -EUCLEAN, -ENOMEM */
void pf_alloc_fini(struct pf_fs *fs);
void pf_alloc_stat(struct pf_fs *fs, struct pf_space *out);

/* Reserve @min..@want contiguous blocks, near @goal (0: anywhere) when possible. -ENOSPC. */
int pf_alloc_reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags,
		     struct pf_run *out) PF_MUST_CHECK;
void pf_alloc_unreserve(struct pf_fs *fs, struct pf_run run);
/* Called, with no lock of the allocator, before a reservation fails: true when it has given something back. Or NULL. */
void pf_alloc_on_full(struct pf_fs *fs, bool (*fn)(struct pf_fs *fs));

/* The reservation @run becomes owned at commit; at abort it is unreserved. */
int pf_tx_use(struct pf_tx *tx, struct pf_run run) PF_MUST_CHECK;
/* Blocks that the media's map shows as used become free at commit. */
int pf_tx_free(struct pf_tx *tx, struct pf_run run) PF_MUST_CHECK;
/* This transaction leads to more free space than it takes: it may use the kept blocks for its tree nodes. Unlink,
 * truncate and punch therefore work on a full device; nothing else may, or they would be gone when needed. */
void pf_tx_use_kept(struct pf_tx *tx);
/* One block for metadata: reserve and use. */
int pf_tx_alloc_meta(struct pf_tx *tx, uint64_t goal, uint64_t *dblk) PF_MUST_CHECK;

/* Counted per block; pf_alloc_unpark() undoes one pf_alloc_park() of the same range. -ENOMEM. */
int pf_alloc_park(struct pf_fs *fs, struct pf_run run) PF_MUST_CHECK;
void pf_alloc_unpark(struct pf_fs *fs, struct pf_run run);

/*
 * For space/bad.c. Blocks in media/badset.h's set are never made available again, whoever gives them back.
 * Load: the maps of these blocks are in memory from now on, as far as they can be read.
 * Withdraw: the blocks from @dblk on that are alike, all available (*got: reserved now) or all not; how many, 1..@nblk.
 * Regain: blocks that the set kept back, free on the media, and not in the set any more.
 */
void pf_alloc_load(struct pf_fs *fs, uint64_t dblk, uint64_t nblk);
uint64_t pf_alloc_withdraw(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, bool *got);
void pf_alloc_regain(struct pf_fs *fs, struct pf_run run);

/* pf_tx_room() less the map blocks that commit will have to add for the blocks taken and given so far. */
unsigned int pf_tx_space_room(struct pf_tx *tx);

#endif
