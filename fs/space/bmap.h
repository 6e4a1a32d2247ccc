/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bmap.h - the B+trees of an inode: file page -> device blocks, or name key -> directory leaf; and attribute key ->
 * attribute leaf.
 *
 * The root is 10 records inside the inode, of attributes 2; nodes have 168. All calls are O(log n). The caller holds
 * the inode lock: shared for lookups outside a transaction, exclusive otherwise. Nothing here blocks but pf_tx_* and
 * the allocator.
 */
#ifndef PF_SPACE_BMAP_H
#define PF_SPACE_BMAP_H

#include "space/alloc.h"

struct pf_bm {
	struct pf_fs *fs;
	struct pf_tx *tx;		/* NULL: lookups only */
	struct pf_d_root *root;		/* in the in-core inode, or in the inode's shadow */
	struct pf_d_xroot *xroot;	/* instead of it: the tree of attributes, with dir set */
	uint64_t owner;
	uint32_t gen;
	bool dir;			/* tree of names: no merging, floor lookups, len 1 */
	int64_t node_delta;		/* out: tree nodes allocated minus freed, for i_nblk */
};

struct pf_ext { uint64_t key, dblk; uint32_t len, flags; };	/* blocks; len 0 = none */

/* The extent that holds @key, else the first one behind it (ext->key > key), else len 0. */
int pf_bm_lookup(struct pf_bm *bm, uint64_t key, struct pf_ext *ext) PF_MUST_CHECK;
/* The last record with ext->key <= key (trees of names), len 0 if none. */
int pf_bm_floor(struct pf_bm *bm, uint64_t key, struct pf_ext *ext) PF_MUST_CHECK;
/* The first record with ext->key > key, len 0 if none. */
int pf_bm_next(struct pf_bm *bm, uint64_t key, struct pf_ext *ext) PF_MUST_CHECK;
/* Add an extent that overlaps none; merged with its neighbours where file and device are contiguous and flags equal. */
int pf_bm_insert(struct pf_bm *bm, const struct pf_ext *ext) PF_MUST_CHECK;
/* Remove what is mapped in [key, key + len): cuts extents at the borders. Frees (pf_tx_free) the blocks unless @keep.
 * Stops, with *done_to < key + len, when the transaction has less than 16 objects of room; call again in a new one.
 * *freed counts blocks removed from the tree. */
int pf_bm_remove(struct pf_bm *bm, uint64_t key, uint64_t len, bool keep, uint64_t *done_to,
		 uint64_t *freed) PF_MUST_CHECK;
/* Set or clear PF_REC_UNWRITTEN on what is mapped in [key, key + len). Same stop rule. */
int pf_bm_mark(struct pf_bm *bm, uint64_t key, uint64_t len, uint32_t flags, uint64_t *done_to) PF_MUST_CHECK;
/* Where an extent holds both @key - 1 and @key, make it two records that meet at @key. */
int pf_bm_split(struct pf_bm *bm, uint64_t key) PF_MUST_CHECK;

/*
 * Moving records by @by pages where they stand: their keys change, the shape of the tree does not, so no space is
 * needed and a leaf costs one object whatever is in it. The pages that they pass over are holes (-EUCLEAN otherwise).
 * Same stop rule; *done says whether all are moved. @pos, in and out, divides those moved from those not.
 */
/* To the front: records with a key >= *pos, from the first on. */
int pf_bm_shift_down(struct pf_bm *bm, uint64_t by, uint64_t *pos, bool *done) PF_MUST_CHECK;
/* To the back: records with @from <= key < *pos, from the last on. */
int pf_bm_shift_up(struct pf_bm *bm, uint64_t from, uint64_t by, uint64_t *pos, bool *done) PF_MUST_CHECK;

#endif
