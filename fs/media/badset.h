/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badset.h - which blocks of the device cannot be read, in memory: everybody's question before the bytes are touched.
 *
 * Where there is no bad block, the question is one relaxed load. The list on the media is space/bad.h's.
 */
#ifndef PF_MEDIA_BADSET_H
#define PF_MEDIA_BADSET_H

#include <stdatomic.h>
#include <pinfs/compiler.h>
#include "base/fs.h"

int pf_badset_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_badset_fini(struct pf_fs *fs);

/* Both take a LEAF lock. Blocks may be there, or not, already. -ENOMEM: nothing has changed. */
int pf_badset_add(struct pf_fs *fs, uint64_t dblk, uint64_t nblk) PF_MUST_CHECK;
int pf_badset_del(struct pf_fs *fs, uint64_t dblk, uint64_t nblk) PF_MUST_CHECK;

uint64_t pf_badset_find(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *end);

static inline bool pf_bad_any(const struct pf_fs *fs)
{
	return atomic_load_explicit(&fs->nr_bad, memory_order_relaxed) != 0;
}

#define PF_BAD_NONE UINT64_MAX
/* The first bad block of [dblk, dblk + nblk), and, in *end unless it is NULL, the first one behind it that is good or
 * outside; PF_BAD_NONE. O(log n). */
static inline uint64_t pf_bad_first(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, uint64_t *end)
{
	return pf_bad_any(fs) ? pf_badset_find(fs, dblk, nblk, end) : PF_BAD_NONE;
}

/* How many of the @nblk blocks from @dblk on are good until the first bad one. */
static inline uint64_t pf_bad_good(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	uint64_t first = pf_bad_first(fs, dblk, nblk, NULL);

	return first == PF_BAD_NONE ? nblk : first - dblk;
}

#endif
