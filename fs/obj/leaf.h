/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leaf.h - a tree of names: leaves full of records that are found by the hash of a name, O(log n) each.
 *
 * What directories and extended attributes have in common. A record is bytes with the key in front (pf_le64), its
 * length somewhere, a name, and more that only its owner understands. Records of a leaf lie back to back from byte 64
 * to the end of the block, in no order; a record that is free space only has a length.
 *
 * The caller holds the inode's lock: shared for reading, exclusive (and pf_inode_edit() done) for changes.
 */
#ifndef PF_OBJ_LEAF_H
#define PF_OBJ_LEAF_H

#include "obj/inode.h"

#define PF_LEAF_BYTES (PF_BLK_SIZE - sizeof(struct pf_d_hdr))
#define PF_LEAF_REC_MIN 24U		/* of either kind; lengths are multiples of 8 */
#define PF_LEAF_RECS 168U		/* so a leaf holds no more than these */

struct pf_leaf_kind {
	enum pf_md md;
	unsigned int reclen;		/* where a record has its length, pf_le16 */
	/* Bytes that the record needs; 0: it is free space; more than its length: damage. */
	unsigned int (*need)(const void *rec);
	const char *(*name)(const void *rec, size_t *len);
	struct pf_bm (*tree)(struct pf_inode *ip, struct pf_tx *tx);
	/* The inode has @leaves more (or fewer); its count of blocks is right already. May be NULL. */
	void (*grown)(struct pf_inode *ip, int leaves);
};

/* What one call works on. @tx NULL: only reading. */
struct pf_names { struct pf_inode *ip; struct pf_tx *tx; const struct pf_leaf_kind *kind; };

#define PF_LEAF_COLLISIONS 256U
struct pf_leaf_spot {
	uint64_t base;			/* the name's key with collision number 0 */
	struct pf_ext leaf;		/* the leaf that has it */
	unsigned int off;		/* of the record in the leaf; 0: not found */
	uint8_t used[PF_LEAF_COLLISIONS / 8];	/* collision numbers taken, when not found */
};

/* Look for a name. Not found is no error. -EUCLEAN. */
int pf_leaf_search(const struct pf_names *t, const char *name, size_t len, struct pf_leaf_spot *spot) PF_MUST_CHECK;
/*
 * The same for a name that was found under this lock with @key at @off: looked at there first, unless this transaction
 * has changed the leaf.
 */
int pf_leaf_again(const struct pf_names *t, const char *name, size_t len, uint64_t key, unsigned int off,
		  struct pf_leaf_spot *spot) PF_MUST_CHECK;
/* The record found, for reading until the next change. */
int pf_leaf_peek(const struct pf_names *t, const struct pf_leaf_spot *spot, const void **rec) PF_MUST_CHECK;
/* The record found, to be changed in place: neither its name nor what it needs. */
int pf_leaf_edit(const struct pf_names *t, const struct pf_leaf_spot *spot, void **rec) PF_MUST_CHECK;
/* A key for a name that was not found. -ENOSPC: all of its hash are taken. */
int pf_leaf_key(const struct pf_leaf_spot *spot, uint64_t *key) PF_MUST_CHECK;
/* Add a copy of @rec, its key set, of @need bytes. -ENOSPC. */
int pf_leaf_add(const struct pf_names *t, const void *rec, unsigned int need) PF_MUST_CHECK;
/* @rec, of the same key, takes the place of the record found. */
int pf_leaf_replace(const struct pf_names *t, const struct pf_leaf_spot *spot, const void *rec,
		    unsigned int need) PF_MUST_CHECK;
/* Takes no space, but what merging tree nodes may. */
int pf_leaf_del(const struct pf_names *t, const struct pf_leaf_spot *spot) PF_MUST_CHECK;

/* Records of a leaf by ascending key, pointing into a copy of it. */
struct pf_leaf_sorted {
	unsigned int n;
	const void *rec[PF_LEAF_RECS];
	_Alignas(8) uint8_t copy[4096];
};
/* The first leaf that has a record with a key above @after, whole; s->n 0: there is none. */
int pf_leaf_read(const struct pf_names *t, uint64_t after, struct pf_leaf_sorted *s) PF_MUST_CHECK;

static inline uint64_t pf_leaf_rec_key(const void *rec) { return pf_get64(*(const pf_le64 *)rec); }

#endif
