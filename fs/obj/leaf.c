/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leaf.c - trees of names.
 *
 * A leaf holds the records whose keys lie between its tree record's key and the next one's, in no order. A full leaf is
 * split at the median of its keys; one that gets empty is freed, one that gets sparse takes in its right neighbour.
 * The names of one hash differ in the low 8 bits of the key; they may lie on both sides of a split, so every search
 * walks from the highest possible key down.
 *
 * Owns nothing; the inode's lock is the caller's. Bounds are checked here again although leaves were verified: a
 * process with a window may scribble over the device, and that must cost it its files, not us our address space.
 */
#include "obj/leaf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/fail.h"
#include "base/siphash.h"
#include "media/pmem.h"

#define MERGE_BELOW (PF_LEAF_BYTES / 4)		/* live bytes that make a leaf sparse */
#define MERGE_UPTO (PF_LEAF_BYTES * 3 / 4)	/* so that a merged leaf is not split at once */

static int damaged(const struct pf_names *t, uint64_t dblk)
{
	pf_fs_fail(t->ip->fs, PF_FAULT_DAMAGE, "damaged %s %" PRIu64 " of inode %" PRIu64 ": entry out of bounds",
		   pf_md_name[t->kind->md], dblk, t->ip->ino);
	return -EUCLEAN;
}

/* ---- records of a leaf ---- */

static unsigned int reclen_of(const struct pf_leaf_kind *k, const void *rec)
{
	return pf_get16(*(const pf_le16 *)(const void *)((const uint8_t *)rec + k->reclen));
}

static void set_reclen(const struct pf_leaf_kind *k, void *rec, unsigned int len)
{
	*(pf_le16 *)(void *)((uint8_t *)rec + k->reclen) = pf_put16((uint16_t)len);
}

/* The length of the record at @off, sound enough to go on by; 0 is damage. */
static unsigned int len_at(const struct pf_leaf_kind *k, const void *leaf, unsigned int off)
{
	unsigned int reclen;

	if (off > PF_BLK_SIZE - PF_LEAF_REC_MIN)
		return 0;
	reclen = reclen_of(k, (const uint8_t *)leaf + off);
	return reclen < PF_LEAF_REC_MIN || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off ? 0 : reclen;
}

/* The record at @off, sound enough to be looked at; NULL is damage. */
static const void *rec_at(const struct pf_leaf_kind *k, const void *leaf, unsigned int off)
{
	const uint8_t *rec = (const uint8_t *)leaf + off;
	unsigned int reclen = len_at(k, leaf, off);

	return reclen == 0 || k->need(rec) > reclen ? NULL : rec;
}

static void *rec_rw(void *leaf, unsigned int off)
{
	return (uint8_t *)leaf + off;
}

static void put_rec(const struct pf_leaf_kind *k, void *leaf, unsigned int off, unsigned int reclen, const void *rec,
		    unsigned int need)
{
	memcpy(rec_rw(leaf, off), rec, need);
	set_reclen(k, rec_rw(leaf, off), reclen);
}

static void put_free(const struct pf_leaf_kind *k, void *leaf, unsigned int off, unsigned int len)
{
	memset(rec_rw(leaf, off), 0, PF_LEAF_REC_MIN);
	set_reclen(k, rec_rw(leaf, off), len);
}

static unsigned int live_of(const void *leaf)
{
	return (unsigned int)PF_LEAF_BYTES - pf_get32(((const struct pf_d_hdr *)leaf)->h_free);
}

static unsigned int free_of(const void *leaf)
{
	return pf_get32(((const struct pf_d_hdr *)leaf)->h_free);
}

static void count(void *leaf, int records, int bytes)
{
	struct pf_d_hdr *h = leaf;

	h->h_count = pf_put16((uint16_t)(pf_get16(h->h_count) + records));
	h->h_free = pf_put32((uint32_t)((int)pf_get32(h->h_free) - bytes));
}

/* An empty leaf in a block that this transaction allocates. */
static int new_leaf(const struct pf_names *t, uint64_t goal, uint64_t *dblk, void **leaf)
{
	struct pf_inode *ip = t->ip;
	struct pf_space sp;
	int err;

	/* The blocks kept for unlink and truncate are not for growing directories. */
	pf_alloc_stat(ip->fs, &sp);
	if (sp.free < 2)
		return -ENOSPC;
	err = pf_tx_alloc_meta(t->tx, goal, dblk);
	if (err == 0)
		err = pf_tx_new(t->tx, t->kind->md, *dblk << PF_BLK_SHIFT, ip->ino, ip->gen, leaf);
	if (err != 0)
		return err;
	put_free(t->kind, *leaf, sizeof(struct pf_d_hdr), PF_LEAF_BYTES);
	((struct pf_d_hdr *)*leaf)->h_free = pf_put32((uint32_t)PF_LEAF_BYTES);
	return 0;
}

/* The first gap of @need bytes; 0: there is none. False: damage. */
static bool find_gap(const struct pf_leaf_kind *k, const void *leaf, unsigned int need, unsigned int *gap)
{
	unsigned int reclen;

	*gap = 0;
	if (free_of(leaf) < need)
		return true;
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE; off += reclen) {
		reclen = len_at(k, leaf, off);
		if (reclen == 0)
			return false;
		if (reclen >= need && k->need((const uint8_t *)leaf + off) == 0) {
			*gap = off;
			return true;
		}
	}
	return true;
}

/* Put a record into a gap that holds it. */
static void fill_gap(const struct pf_leaf_kind *k, void *leaf, unsigned int gap, const void *rec, unsigned int need)
{
	unsigned int reclen = reclen_of(k, (const uint8_t *)leaf + gap), left = reclen - need;

	if (left < PF_LEAF_REC_MIN)
		left = 0;		/* too small for a record of its own */
	put_rec(k, leaf, gap, reclen - left, rec, need);
	if (left != 0)
		put_free(k, leaf, gap + reclen - left, left);
	count(leaf, 1, (int)need);
}

/* Put a record into the first gap that holds it. False: none does. */
static bool place(const struct pf_leaf_kind *k, void *leaf, const void *rec, unsigned int need)
{
	unsigned int gap;

	if (!find_gap(k, leaf, need, &gap) || gap == 0)
		return false;
	fill_gap(k, leaf, gap, rec, need);
	return true;
}

/* Give a record's bytes back, together with free neighbours. */
static void erase(const struct pf_leaf_kind *k, void *leaf, unsigned int off)
{
	unsigned int start = off, end, len;
	const void *at = rec_at(k, leaf, off);

	assert(at != NULL);
	end = off + reclen_of(k, at);
	count(leaf, -1, -(int)k->need(at));
	for (unsigned int o = sizeof(struct pf_d_hdr); o < off; o += len) {
		len = len_at(k, leaf, o);
		if (len == 0)
			break;
		if (o + len == off && k->need((const uint8_t *)leaf + o) == 0)
			start = o;
	}
	at = end < PF_BLK_SIZE ? rec_at(k, leaf, end) : NULL;
	if (at != NULL && k->need(at) == 0)
		end += reclen_of(k, at);
	put_free(k, leaf, start, end - start);
}

static int by_key(const void *a, const void *b)
{
	uint64_t ka = pf_leaf_rec_key(*(const void *const *)a), kb = pf_leaf_rec_key(*(const void *const *)b);

	return ka < kb ? -1 : ka > kb;
}

/* False: damage. */
static bool collect(const struct pf_leaf_kind *k, struct pf_leaf_sorted *s, const void *leaf)
{
	s->n = 0;
	memcpy(s->copy, leaf, sizeof s->copy);
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		const void *rec = rec_at(k, s->copy, off);

		if (rec == NULL || s->n == PF_LEAF_RECS)
			return false;
		if (k->need(rec) != 0)
			s->rec[s->n++] = rec;
		off += reclen_of(k, rec);
	}
	qsort(s->rec, s->n, sizeof s->rec[0], by_key);
	return true;
}

/* Make the leaf hold exactly these records, without gaps between them. */
static void rebuild(const struct pf_leaf_kind *k, void *leaf, const void *const *rec, unsigned int n)
{
	unsigned int off = sizeof(struct pf_d_hdr);
	struct pf_d_hdr *h = leaf;

	memset((uint8_t *)leaf + off, 0, PF_LEAF_BYTES);
	h->h_count = pf_put16((uint16_t)n);
	h->h_free = pf_put32((uint32_t)PF_LEAF_BYTES);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int need = k->need(rec[i]), reclen = need;

		if (i == n - 1 && PF_BLK_SIZE - off - need < PF_LEAF_REC_MIN)
			reclen = (unsigned int)PF_BLK_SIZE - off;
		put_rec(k, leaf, off, reclen, rec[i], need);
		h->h_free = pf_put32((uint32_t)(PF_BLK_SIZE - off - need));
		off += reclen;
	}
	if (off < PF_BLK_SIZE)
		put_free(k, leaf, off, (unsigned int)PF_BLK_SIZE - off);
}

/* ---- search ---- */

static int scan(const struct pf_names *t, const struct pf_ext *ext, const char *name, size_t len,
		struct pf_leaf_spot *spot)
{
	const struct pf_leaf_kind *k = t->kind;
	const void *leaf;
	int err;

	err = pf_tx_peek(t->ip->fs, t->tx, k->md, ext->dblk << PF_BLK_SHIFT, t->ip->ino, &leaf);
	if (err != 0)
		return err;
	for (unsigned int off = sizeof(struct pf_d_hdr), reclen; off < PF_BLK_SIZE; off += reclen) {
		const void *rec = (const uint8_t *)leaf + off;
		const char *its;
		uint64_t key;
		size_t n;

		reclen = len_at(k, leaf, off);
		if (reclen == 0)
			return damaged(t, ext->dblk);
		key = pf_leaf_rec_key(rec);
		if ((key & ~UINT64_C(0xff)) != spot->base || k->need(rec) == 0)
			continue;
		if (k->need(rec) > reclen)
			return damaged(t, ext->dblk);
		its = k->name(rec, &n);
		if (n == len && memcmp(its, name, len) == 0) {
			spot->leaf = *ext;
			spot->off = off;
			return 0;
		}
		spot->used[(key & 0xff) / 8] |= (uint8_t)(1U << (key & 7));
	}
	return 0;
}

int pf_leaf_search(const struct pf_names *t, const char *name, size_t len, struct pf_leaf_spot *spot)
{
	struct pf_bm bm = t->kind->tree(t->ip, t->tx);
	struct pf_ext ext;
	uint64_t key;
	int err;

	memset(spot, 0, sizeof *spot);
	spot->base = pf_name_key(t->ip->fs->hash_key, name, len);
	key = spot->base | 0xff;
	for (;;) {
		err = pf_bm_floor(&bm, key, &ext);
		if (err == 0 && ext.len != 0)
			err = scan(t, &ext, name, len, spot);
		if (err != 0)
			return err;
		if (ext.len == 0 || spot->off != 0 || ext.key <= spot->base)
			return 0;
		key = ext.key - 1;
	}
}

int pf_leaf_again(const struct pf_names *t, const char *name, size_t len, uint64_t key, unsigned int off,
		  struct pf_leaf_spot *spot)
{
	struct pf_bm bm = t->kind->tree(t->ip, t->tx);
	const void *leaf, *rec;
	const char *its;
	struct pf_ext ext;
	uint64_t doff;
	size_t n;
	int err;

	err = pf_bm_floor(&bm, key, &ext);
	if (err != 0)
		return err;
	if (ext.len == 0)
		return pf_leaf_search(t, name, len, spot);
	doff = ext.dblk << PF_BLK_SHIFT;
	err = pf_tx_peek(t->ip->fs, t->tx, t->kind->md, doff, t->ip->ino, &leaf);
	if (err != 0)
		return err;
	/* In a leaf that has changed, what is at @off may be the middle of somebody's name. */
	if (leaf != pf_pm_at(t->ip->fs->pm, doff))
		return pf_leaf_search(t, name, len, spot);
	rec = rec_at(t->kind, leaf, off);
	if (rec == NULL)
		return damaged(t, ext.dblk);
	its = t->kind->name(rec, &n);
	if (pf_leaf_rec_key(rec) != key || n != len || memcmp(its, name, len) != 0)
		return pf_leaf_search(t, name, len, spot);
	memset(spot, 0, sizeof *spot);
	spot->base = key & ~UINT64_C(0xff);
	spot->leaf = ext;
	spot->off = off;
	return 0;
}

int pf_leaf_peek(const struct pf_names *t, const struct pf_leaf_spot *spot, const void **rec)
{
	const void *leaf;
	int err;

	err = pf_tx_peek(t->ip->fs, t->tx, t->kind->md, spot->leaf.dblk << PF_BLK_SHIFT, t->ip->ino, &leaf);
	if (err != 0)
		return err;
	*rec = rec_at(t->kind, leaf, spot->off);
	return *rec != NULL ? 0 : damaged(t, spot->leaf.dblk);
}

static int get_leaf(const struct pf_names *t, const struct pf_leaf_spot *spot, void **leaf)
{
	int err = pf_tx_get(t->tx, t->kind->md, spot->leaf.dblk << PF_BLK_SHIFT, t->ip->ino, leaf);

	if (err == 0 && rec_at(t->kind, *leaf, spot->off) == NULL)
		err = damaged(t, spot->leaf.dblk);
	return err;
}

int pf_leaf_edit(const struct pf_names *t, const struct pf_leaf_spot *spot, void **rec)
{
	void *leaf;
	int err = get_leaf(t, spot, &leaf);

	if (err == 0)
		*rec = rec_rw(leaf, spot->off);
	return err;
}

/* ---- add ---- */

int pf_leaf_key(const struct pf_leaf_spot *spot, uint64_t *key)
{
	unsigned int nr = 0;

	while (nr < PF_LEAF_COLLISIONS && (spot->used[nr / 8] >> (nr % 8) & 1) != 0)
		nr++;
	*key = spot->base | nr;
	return nr < PF_LEAF_COLLISIONS ? 0 : -ENOSPC;
}

static void add_blocks(const struct pf_names *t, const struct pf_bm *bm, int leaves)
{
	pf_inode_blocks(t->ip, leaves + bm->node_delta);
	if (t->kind->grown != NULL)
		t->kind->grown(t->ip, leaves);
}

/* Two leaves out of one: records up to the median of the bytes stay, the rest moves to a new leaf. */
static int split(const struct pf_names *t, const struct pf_ext *ext, void *leaf, uint64_t key, void **target)
{
	const struct pf_leaf_kind *k = t->kind;
	struct pf_bm bm = k->tree(t->ip, t->tx);
	struct pf_leaf_sorted *s = malloc(sizeof *s);
	unsigned int bytes = 0, half = 0, live;
	uint64_t dblk, mid;
	void *right;
	int err;

	if (s == NULL)
		return -ENOMEM;
	if (!collect(k, s, leaf) || s->n < 2) {
		err = damaged(t, ext->dblk);
		goto out;
	}
	live = live_of(leaf);
	while (half < s->n - 1 && (half == 0 || bytes < live / 2))
		bytes += k->need(s->rec[half++]);
	mid = pf_leaf_rec_key(s->rec[half]);
	err = new_leaf(t, ext->dblk, &dblk, &right);
	if (err == 0)
		err = pf_bm_insert(&bm, &(struct pf_ext){ .key = mid, .dblk = dblk, .len = 1 });
	if (err != 0)
		goto out;
	rebuild(k, right, s->rec + half, s->n - half);
	rebuild(k, leaf, s->rec, half);
	add_blocks(t, &bm, 1);
	*target = key >= mid ? right : leaf;
out:
	free(s);
	return err;
}

/* Push the records of a leaf together, so that its free bytes are in one piece. */
static int compact(const struct pf_names *t, const struct pf_ext *ext, void *leaf)
{
	struct pf_leaf_sorted *s = malloc(sizeof *s);
	int err = 0;

	if (s == NULL)
		return -ENOMEM;
	if (collect(t->kind, s, leaf))
		rebuild(t->kind, leaf, s->rec, s->n);
	else
		err = damaged(t, ext->dblk);
	free(s);
	return err;
}

static int first_leaf(const struct pf_names *t, void **out)
{
	struct pf_bm bm = t->kind->tree(t->ip, t->tx);
	uint64_t dblk;
	int err;

	err = new_leaf(t, t->ip->doff >> PF_BLK_SHIFT, &dblk, out);
	if (err == 0)
		err = pf_bm_insert(&bm, &(struct pf_ext){ .key = 0, .dblk = dblk, .len = 1 });
	if (err == 0)
		add_blocks(t, &bm, 1);
	return err;
}

/* The leaf for @key, and in it a gap of @need bytes. */
static int roomy_leaf(const struct pf_names *t, uint64_t key, unsigned int need, void **out, unsigned int *gap)
{
	const struct pf_leaf_kind *k = t->kind;
	struct pf_bm bm = k->tree(t->ip, t->tx);
	struct pf_ext ext;
	void *leaf;
	int err;

	err = pf_bm_floor(&bm, key, &ext);
	if (err != 0)
		return err;
	if (ext.len == 0) {
		*gap = sizeof(struct pf_d_hdr);
		return first_leaf(t, out);
	}
	err = pf_tx_get(t->tx, k->md, ext.dblk << PF_BLK_SHIFT, t->ip->ino, &leaf);
	if (err != 0)
		return err;
	*out = leaf;
	if (!find_gap(k, leaf, need, gap))
		return damaged(t, ext.dblk);
	if (*gap != 0)
		return 0;
	/* Room enough, but in pieces? */
	if (free_of(leaf) >= need) {
		err = compact(t, &ext, leaf);
	} else {
		err = split(t, &ext, leaf, key, out);
		/* A half may still be too full for a very long record: once more. */
		if (err == 0 && free_of(*out) < need)
			return roomy_leaf(t, key, need, out, gap);
	}
	if (err == 0 && (!find_gap(k, *out, need, gap) || *gap == 0))
		err = damaged(t, ext.dblk);
	return err;
}

int pf_leaf_add(const struct pf_names *t, const void *rec, unsigned int need)
{
	unsigned int gap;
	void *leaf;
	int err;

	assert(t->ip->sh != NULL && need >= PF_LEAF_REC_MIN && need % 8 == 0 && need == t->kind->need(rec));
	err = roomy_leaf(t, pf_leaf_rec_key(rec), need, &leaf, &gap);
	if (err == 0)
		fill_gap(t->kind, leaf, gap, rec, need);
	return err;
}

int pf_leaf_replace(const struct pf_names *t, const struct pf_leaf_spot *spot, const void *rec, unsigned int need)
{
	void *leaf;
	int err = get_leaf(t, spot, &leaf);

	if (err != 0)
		return err;
	/* Perhaps empty for a moment: the key is the same, so the new record goes into this leaf. */
	erase(t->kind, leaf, spot->off);
	return pf_leaf_add(t, rec, need);
}

/* ---- remove ---- */

/* The leaf has no records any more. The tree's first record must keep key 0. */
static int drop_leaf(const struct pf_names *t, const struct pf_ext *ext)
{
	struct pf_bm bm = t->kind->tree(t->ip, t->tx);
	uint64_t done_to, freed = 0;
	struct pf_ext next = { .len = 0 };
	int err = 0;

	if (ext->key == 0)
		err = pf_bm_next(&bm, 0, &next);
	if (err == 0)
		err = pf_bm_remove(&bm, ext->key, 1, false, &done_to, &freed);
	if (err == 0 && freed != 1)
		return -EFBIG;		/* the transaction was too full, which its callers rule out */
	if (err == 0 && next.len != 0) {
		err = pf_bm_remove(&bm, next.key, 1, true, &done_to, &freed);
		next.key = 0;
		if (err == 0)
			err = pf_bm_insert(&bm, &next);
	}
	if (err == 0)
		add_blocks(t, &bm, -1);
	return err;
}

/* The leaf is sparse: take in its right neighbour if both fit well into one. */
static int merge_right(const struct pf_names *t, const struct pf_ext *ext, void *leaf)
{
	const struct pf_leaf_kind *k = t->kind;
	struct pf_bm bm = k->tree(t->ip, t->tx);
	struct pf_leaf_sorted *s;
	const void *right;
	struct pf_ext next;
	int err;

	err = pf_bm_next(&bm, ext->key, &next);
	if (err != 0 || next.len == 0)
		return err;
	err = pf_tx_peek(t->ip->fs, t->tx, k->md, next.dblk << PF_BLK_SHIFT, t->ip->ino, &right);
	if (err != 0 || live_of(leaf) + live_of(right) > MERGE_UPTO)
		return err;
	s = malloc(sizeof *s);
	if (s == NULL)
		return 0;		/* a sparse leaf is no error */
	/* Push the left ones together first, so that everything fits. */
	if (!collect(k, s, leaf)) {
		err = damaged(t, ext->dblk);
		goto out;
	}
	rebuild(k, leaf, s->rec, s->n);
	if (!collect(k, s, right)) {
		err = damaged(t, next.dblk);
		goto out;
	}
	for (unsigned int i = 0; i < s->n; i++) {
		if (!place(k, leaf, s->rec[i], k->need(s->rec[i]))) {
			err = damaged(t, next.dblk);
			goto out;
		}
	}
	err = drop_leaf(t, &next);
out:
	free(s);
	return err;
}

int pf_leaf_del(const struct pf_names *t, const struct pf_leaf_spot *spot)
{
	void *leaf;
	int err;

	assert(t->ip->sh != NULL);
	err = get_leaf(t, spot, &leaf);
	if (err != 0)
		return err;
	erase(t->kind, leaf, spot->off);
	if (pf_get16(((const struct pf_d_hdr *)leaf)->h_count) == 0)
		return drop_leaf(t, &spot->leaf);
	return live_of(leaf) < MERGE_BELOW ? merge_right(t, &spot->leaf, leaf) : 0;
}

/* ---- read ---- */

int pf_leaf_read(const struct pf_names *t, uint64_t after, struct pf_leaf_sorted *s)
{
	struct pf_bm bm = t->kind->tree(t->ip, t->tx);
	struct pf_ext ext;
	int err;

	s->n = 0;
	err = pf_bm_floor(&bm, after, &ext);
	while (err == 0 && ext.len != 0) {
		const void *leaf;

		err = pf_tx_peek(t->ip->fs, t->tx, t->kind->md, ext.dblk << PF_BLK_SHIFT, t->ip->ino, &leaf);
		if (err != 0)
			break;
		if (!collect(t->kind, s, leaf)) {
			err = damaged(t, ext.dblk);
			break;
		}
		if (s->n != 0 && pf_leaf_rec_key(s->rec[s->n - 1]) > after)
			return 0;
		err = pf_bm_next(&bm, ext.key, &ext);
	}
	s->n = 0;
	return err;
}
