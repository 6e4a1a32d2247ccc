/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.c - names of a directory.
 *
 * A leaf holds the names whose keys lie between its record's key and the next one's, in no order. A full leaf is
 * split at the median of its keys; one that gets empty is freed, one that gets sparse takes in its right neighbour.
 * The names of one hash differ in the low 8 bits of the key; they may lie on both sides of a split, so every search
 * walks from the highest possible key down.
 *
 * Owns nothing; the directory's lock is the caller's. Bounds are checked here again although leaves were verified: a
 * process with a window may scribble over the device, and that must cost it its files, not us our address space.
 */
#include "obj/dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/fail.h"
#include "base/siphash.h"

#define COLLISIONS 256U
#define LEAF_BYTES (PF_BLK_SIZE - sizeof(struct pf_d_hdr))
#define MERGE_BELOW (LEAF_BYTES / 4)		/* live bytes that make a leaf sparse */
#define MERGE_UPTO (LEAF_BYTES * 3 / 4)		/* so that a merged leaf is not split at once */
#define NAME_OFF offsetof(struct pf_d_dirent, de_name)

static unsigned int need_of(size_t namelen)
{
	return (unsigned int)((NAME_OFF + namelen + 7) & ~(size_t)7);
}

/* ---- entries of a leaf ---- */

/* The entry at @off, sound enough to be looked at; NULL is damage. */
static const struct pf_d_dirent *entry_at(const void *leaf, unsigned int off)
{
	const struct pf_d_dirent *de = (const void *)((const uint8_t *)leaf + off);
	unsigned int reclen;

	if (off > PF_BLK_SIZE - sizeof *de)
		return NULL;
	reclen = pf_get16(de->de_reclen);
	if (reclen < sizeof *de || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off)
		return NULL;
	if (pf_get64(de->de_ino) != 0 && need_of(de->de_namelen) > reclen)
		return NULL;
	return de;
}

static struct pf_d_dirent *entry_rw(void *leaf, unsigned int off)
{
	return (void *)((uint8_t *)leaf + off);
}

static int damaged(const struct pf_inode *dir, uint64_t dblk)
{
	pf_fs_fail(dir->fs, PF_FAULT_DAMAGE,
		   "damaged directory leaf %" PRIu64 " of inode %" PRIu64 ": entry out of bounds", dblk, dir->ino);
	return -EUCLEAN;
}

static bool same_name(const struct pf_d_dirent *de, const char *name, size_t len)
{
	return de->de_namelen == len && memcmp((const char *)de + NAME_OFF, name, len) == 0;
}

static void put_entry(struct pf_d_dirent *de, unsigned int reclen, uint64_t key, uint64_t ino, uint8_t type,
		      const char *name, size_t len)
{
	de->de_key = pf_put64(key);
	de->de_ino = pf_put64(ino);
	de->de_reclen = pf_put16((uint16_t)reclen);
	de->de_type = type;
	de->de_namelen = (uint8_t)len;
	memset((char *)de + NAME_OFF, 0, need_of(len) - NAME_OFF);
	memcpy((char *)de + NAME_OFF, name, len);
}

static void put_free(void *leaf, unsigned int off, unsigned int len)
{
	struct pf_d_dirent *de = entry_rw(leaf, off);

	memset(de, 0, sizeof *de);
	de->de_reclen = pf_put16((uint16_t)len);
}

static void count(void *leaf, int entries, int bytes)
{
	struct pf_d_hdr *h = leaf;

	h->h_count = pf_put16((uint16_t)(pf_get16(h->h_count) + entries));
	h->h_free = pf_put32((uint32_t)((int)pf_get32(h->h_free) - bytes));
}

/* An empty leaf in a block that this transaction allocates. */
static int new_leaf(struct pf_tx *tx, struct pf_inode *dir, uint64_t goal, uint64_t *dblk, void **leaf)
{
	struct pf_space sp;
	int err;

	/* The blocks kept for unlink and truncate are not for growing directories. */
	pf_alloc_stat(dir->fs, &sp);
	if (sp.free < 2)
		return -ENOSPC;
	err = pf_tx_alloc_meta(tx, goal, dblk);
	if (err == 0)
		err = pf_tx_new(tx, PF_MD_DIR, *dblk << PF_BLK_SHIFT, dir->ino, dir->gen, leaf);
	if (err != 0)
		return err;
	put_free(*leaf, sizeof(struct pf_d_hdr), LEAF_BYTES);
	((struct pf_d_hdr *)*leaf)->h_free = pf_put32((uint32_t)LEAF_BYTES);
	return 0;
}

/* Put an entry into the first gap that holds it. False: none does. */
static bool place(void *leaf, uint64_t key, uint64_t ino, uint8_t type, const char *name, size_t len)
{
	const unsigned int need = need_of(len);

	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = entry_at(leaf, off);
		unsigned int reclen, left;

		if (de == NULL)
			return false;
		reclen = pf_get16(de->de_reclen);
		if (pf_get64(de->de_ino) != 0 || reclen < need) {
			off += reclen;
			continue;
		}
		left = reclen - need;
		if (left < sizeof(struct pf_d_dirent))
			left = 0;		/* too small for an entry of its own */
		put_entry(entry_rw(leaf, off), reclen - left, key, ino, type, name, len);
		if (left != 0)
			put_free(leaf, off + reclen - left, left);
		count(leaf, 1, (int)need);
		return true;
	}
	return false;
}

/* Give an entry's bytes back, together with free neighbours. */
static void erase(void *leaf, unsigned int off)
{
	unsigned int prev = 0, start = off, end;
	const struct pf_d_dirent *de = entry_at(leaf, off), *at;

	assert(de != NULL);
	end = off + pf_get16(de->de_reclen);
	count(leaf, -1, -(int)need_of(de->de_namelen));
	for (unsigned int o = sizeof(struct pf_d_hdr); o < off; o += pf_get16(at->de_reclen)) {
		at = entry_at(leaf, o);
		if (at == NULL)
			break;
		prev = pf_get64(at->de_ino) == 0 ? o : 0;
	}
	if (prev != 0)
		start = prev;
	at = end < PF_BLK_SIZE ? entry_at(leaf, end) : NULL;
	if (at != NULL && pf_get64(at->de_ino) == 0)
		end += pf_get16(at->de_reclen);
	put_free(leaf, start, end - start);
}

/* ---- search ---- */

struct spot {
	struct pf_ext leaf;		/* the leaf that has it */
	unsigned int off;		/* of the entry in the leaf; 0: not found */
	uint8_t used[COLLISIONS / 8];	/* collision numbers taken, when not found */
};

static int scan(struct pf_inode *dir, struct pf_tx *tx, const struct pf_ext *ext, uint64_t base, const char *name,
		size_t len, struct spot *spot)
{
	const void *leaf;
	int err;

	err = pf_tx_peek(dir->fs, tx, PF_MD_DIR, ext->dblk << PF_BLK_SHIFT, dir->ino, &leaf);
	if (err != 0)
		return err;
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = entry_at(leaf, off);
		uint64_t key;

		if (de == NULL)
			return damaged(dir, ext->dblk);
		key = pf_get64(de->de_key);
		if (pf_get64(de->de_ino) != 0 && (key & ~UINT64_C(0xff)) == base) {
			if (same_name(de, name, len)) {
				spot->leaf = *ext;
				spot->off = off;
				return 0;
			}
			spot->used[(key & 0xff) / 8] |= (uint8_t)(1U << (key & 7));
		}
		off += pf_get16(de->de_reclen);
	}
	return 0;
}

static int search(struct pf_inode *dir, struct pf_tx *tx, const char *name, size_t len, struct spot *spot)
{
	const uint64_t base = pf_name_key(dir->fs->hash_key, name, len);
	struct pf_bm bm = pf_inode_bm(dir, tx);
	uint64_t key = base | 0xff;
	struct pf_ext ext;
	int err;

	memset(spot, 0, sizeof *spot);
	for (;;) {
		err = pf_bm_floor(&bm, key, &ext);
		if (err == 0 && ext.len != 0)
			err = scan(dir, tx, &ext, base, name, len, spot);
		if (err != 0)
			return err;
		if (ext.len == 0 || spot->off != 0 || ext.key <= base)
			return 0;
		key = ext.key - 1;
	}
}

static int find_spot(struct pf_inode *dir, struct pf_tx *tx, const char *name, struct spot *spot)
{
	int err = search(dir, tx, name, strlen(name), spot);

	return err != 0 ? err : spot->off == 0 ? -ENOENT : 0;
}

int pf_dir_find(struct pf_inode *dir, struct pf_tx *tx, const char *name, struct pf_dirent *out)
{
	const struct pf_d_dirent *de;
	const void *leaf;
	struct spot spot;
	int err;

	err = find_spot(dir, tx, name, &spot);
	if (err == 0)
		err = pf_tx_peek(dir->fs, tx, PF_MD_DIR, spot.leaf.dblk << PF_BLK_SHIFT, dir->ino, &leaf);
	if (err != 0)
		return err;
	de = (const void *)((const uint8_t *)leaf + spot.off);
	*out = (struct pf_dirent){ .key = pf_get64(de->de_key), .ino = pf_get64(de->de_ino), .type = de->de_type };
	return 0;
}

/* ---- add ---- */

/* Entries of a leaf by ascending key, pointing into a copy of it. */
struct sorted {
	unsigned int n;
	const struct pf_d_dirent *de[PF_DIR_LEAF_MAX + 1];
	uint8_t copy[4096];
};

static int by_key(const void *a, const void *b)
{
	uint64_t ka = pf_get64((*(const struct pf_d_dirent *const *)a)->de_key);
	uint64_t kb = pf_get64((*(const struct pf_d_dirent *const *)b)->de_key);

	return ka < kb ? -1 : ka > kb;
}

/* False: damage. */
static bool collect(struct sorted *s, const void *leaf)
{
	s->n = 0;
	memcpy(s->copy, leaf, sizeof s->copy);
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = entry_at(s->copy, off);

		if (de == NULL || s->n == PF_DIR_LEAF_MAX)
			return false;
		if (pf_get64(de->de_ino) != 0)
			s->de[s->n++] = de;
		off += pf_get16(de->de_reclen);
	}
	qsort(s->de, s->n, sizeof(s->de[0]), by_key);
	return true;
}

/* Make the leaf hold exactly these entries, without gaps between them. */
static void rebuild(void *leaf, const struct pf_d_dirent *const *de, unsigned int n)
{
	unsigned int off = sizeof(struct pf_d_hdr);
	struct pf_d_hdr *h = leaf;

	memset((uint8_t *)leaf + off, 0, LEAF_BYTES);
	h->h_count = pf_put16((uint16_t)n);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int need = need_of(de[i]->de_namelen), reclen = need;

		if (i == n - 1 && PF_BLK_SIZE - off - need < sizeof(struct pf_d_dirent))
			reclen = (unsigned int)PF_BLK_SIZE - off;
		put_entry(entry_rw(leaf, off), reclen, pf_get64(de[i]->de_key), pf_get64(de[i]->de_ino), de[i]->de_type,
			  (const char *)de[i] + NAME_OFF, de[i]->de_namelen);
		h->h_free = pf_put32((uint32_t)(PF_BLK_SIZE - off - need));
		off += reclen;
	}
	if (n == 0)
		h->h_free = pf_put32((uint32_t)LEAF_BYTES);
	if (off < PF_BLK_SIZE)
		put_free(leaf, off, (unsigned int)PF_BLK_SIZE - off);
}

static void add_leaf_blocks(struct pf_inode *dir, const struct pf_bm *bm, int leaves)
{
	pf_inode_blocks(dir, leaves + bm->node_delta);
	dir->sh->i_size = pf_put64(pf_get64(dir->sh->i_size) + (uint64_t)((int64_t)leaves * (int64_t)PF_BLK_SIZE));
}

/* Two leaves out of one: entries up to the median of the bytes stay, the rest moves to a new leaf. */
static int split(struct pf_tx *tx, struct pf_inode *dir, const struct pf_ext *ext, void *leaf, uint64_t key,
		 void **target)
{
	struct pf_bm bm = pf_inode_bm(dir, tx);
	unsigned int bytes = 0, half = 0, live;
	struct sorted *s = malloc(sizeof *s);
	uint64_t dblk, mid;
	void *right;
	int err;

	if (s == NULL)
		return -ENOMEM;
	if (!collect(s, leaf) || s->n < 2) {
		err = damaged(dir, ext->dblk);
		goto out;
	}
	live = (unsigned int)LEAF_BYTES - pf_get32(((const struct pf_d_hdr *)leaf)->h_free);
	while (half < s->n - 1 && (half == 0 || bytes < live / 2))
		bytes += need_of(s->de[half++]->de_namelen);
	mid = pf_get64(s->de[half]->de_key);
	err = new_leaf(tx, dir, ext->dblk, &dblk, &right);
	if (err == 0)
		err = pf_bm_insert(&bm, &(struct pf_ext){ .key = mid, .dblk = dblk, .len = 1 });
	if (err != 0)
		goto out;
	rebuild(right, s->de + half, s->n - half);
	rebuild(leaf, s->de, half);
	add_leaf_blocks(dir, &bm, 1);
	*target = key >= mid ? right : leaf;
out:
	free(s);
	return err;
}

/* The leaf for @key, with a gap of need_of(len) bytes. */
static int roomy_leaf(struct pf_tx *tx, struct pf_inode *dir, uint64_t key, size_t len, void **out)
{
	struct pf_bm bm = pf_inode_bm(dir, tx);
	struct pf_ext ext;
	struct sorted *s;
	uint64_t dblk;
	void *leaf;
	int err;

	err = pf_bm_floor(&bm, key, &ext);
	if (err != 0)
		return err;
	if (ext.len == 0) {
		err = new_leaf(tx, dir, dir->doff >> PF_BLK_SHIFT, &dblk, out);
		if (err == 0)
			err = pf_bm_insert(&bm, &(struct pf_ext){ .key = 0, .dblk = dblk, .len = 1 });
		if (err == 0)
			add_leaf_blocks(dir, &bm, 1);
		return err;
	}
	err = pf_tx_get(tx, PF_MD_DIR, ext.dblk << PF_BLK_SHIFT, dir->ino, &leaf);
	if (err != 0)
		return err;
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = entry_at(leaf, off);

		if (de == NULL)
			return damaged(dir, ext.dblk);
		if (pf_get64(de->de_ino) == 0 && pf_get16(de->de_reclen) >= need_of(len)) {
			*out = leaf;
			return 0;
		}
		off += pf_get16(de->de_reclen);
	}
	/* Room enough, but in pieces: push them together. */
	if (pf_get32(((const struct pf_d_hdr *)leaf)->h_free) >= need_of(len)) {
		s = malloc(sizeof *s);
		if (s == NULL)
			return -ENOMEM;
		if (collect(s, leaf))
			rebuild(leaf, s->de, s->n);
		else
			err = damaged(dir, ext.dblk);
		free(s);
		*out = leaf;
		return err;
	}
	err = split(tx, dir, &ext, leaf, key, out);
	/* A half may still be too full for a very long name: once more. */
	if (err == 0 && pf_get32(((const struct pf_d_hdr *)*out)->h_free) < need_of(len))
		return roomy_leaf(tx, dir, key, len, out);
	return err;
}

int pf_dir_add(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type)
{
	const size_t len = strlen(name);
	unsigned int nr = 0;
	struct spot spot;
	uint64_t key;
	void *leaf;
	int err;

	assert(dir->sh != NULL && len >= 1 && len <= PF_NAME_MAX);
	err = search(dir, tx, name, len, &spot);
	if (err != 0)
		return err;
	if (spot.off != 0)
		return -EEXIST;
	while (nr < COLLISIONS && (spot.used[nr / 8] >> (nr % 8) & 1) != 0)
		nr++;
	if (nr == COLLISIONS)
		return -ENOSPC;
	key = pf_name_key(dir->fs->hash_key, name, len) | nr;
	err = roomy_leaf(tx, dir, key, len, &leaf);
	if (err != 0)
		return err;
	if (!place(leaf, key, ino, type, name, len))
		return damaged(dir, 0);
	dir->sh->i_nent = pf_put64(pf_get64(dir->sh->i_nent) + 1);
	return 0;
}

/* ---- remove ---- */

/* The leaf has no entries any more. The tree's first record must keep key 0. */
static int drop_leaf(struct pf_tx *tx, struct pf_inode *dir, const struct pf_ext *ext)
{
	struct pf_bm bm = pf_inode_bm(dir, tx);
	uint64_t done_to, freed = 0;
	struct pf_ext next = { .len = 0 };
	int err;

	if (ext->key == 0)
		err = pf_bm_next(&bm, 0, &next);
	else
		err = 0;
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
		add_leaf_blocks(dir, &bm, -1);
	return err;
}

/* The leaf is sparse: take in its right neighbour if both fit well into one. */
static int merge_right(struct pf_tx *tx, struct pf_inode *dir, const struct pf_ext *ext, void *leaf)
{
	struct pf_bm bm = pf_inode_bm(dir, tx);
	const struct pf_d_hdr *h;
	const void *right;
	struct pf_ext next;
	struct sorted *s;
	size_t live;
	int err;

	err = pf_bm_next(&bm, ext->key, &next);
	if (err != 0 || next.len == 0)
		return err;
	err = pf_tx_peek(dir->fs, tx, PF_MD_DIR, next.dblk << PF_BLK_SHIFT, dir->ino, &right);
	if (err != 0)
		return err;
	h = right;
	live = 2 * LEAF_BYTES - pf_get32(((const struct pf_d_hdr *)leaf)->h_free) - pf_get32(h->h_free);
	if (live > MERGE_UPTO)
		return 0;
	s = malloc(sizeof *s);
	if (s == NULL)
		return 0;		/* a sparse leaf is no error */
	/* Push the left ones together first, so that everything fits. */
	if (!collect(s, leaf)) {
		err = damaged(dir, ext->dblk);
		goto out;
	}
	rebuild(leaf, s->de, s->n);
	if (!collect(s, right)) {
		err = damaged(dir, next.dblk);
		goto out;
	}
	for (unsigned int i = 0; i < s->n; i++) {
		const struct pf_d_dirent *de = s->de[i];

		if (!place(leaf, pf_get64(de->de_key), pf_get64(de->de_ino), de->de_type, (const char *)de + NAME_OFF,
			   de->de_namelen)) {
			err = damaged(dir, next.dblk);
			goto out;
		}
	}
	err = drop_leaf(tx, dir, &next);
out:
	free(s);
	return err;
}

int pf_dir_del(struct pf_tx *tx, struct pf_inode *dir, const char *name)
{
	const struct pf_d_hdr *h;
	struct spot spot;
	void *leaf;
	int err;

	assert(dir->sh != NULL);
	err = find_spot(dir, tx, name, &spot);
	if (err == 0)
		err = pf_tx_get(tx, PF_MD_DIR, spot.leaf.dblk << PF_BLK_SHIFT, dir->ino, &leaf);
	if (err != 0)
		return err;
	erase(leaf, spot.off);
	dir->sh->i_nent = pf_put64(pf_get64(dir->sh->i_nent) - 1);
	h = leaf;
	if (pf_get16(h->h_count) == 0)
		return drop_leaf(tx, dir, &spot.leaf);
	if (LEAF_BYTES - pf_get32(h->h_free) < MERGE_BELOW)
		return merge_right(tx, dir, &spot.leaf, leaf);
	return 0;
}

int pf_dir_set(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type)
{
	struct pf_d_dirent *de;
	struct spot spot;
	void *leaf;
	int err;

	assert(dir->sh != NULL);
	err = find_spot(dir, tx, name, &spot);
	if (err == 0)
		err = pf_tx_get(tx, PF_MD_DIR, spot.leaf.dblk << PF_BLK_SHIFT, dir->ino, &leaf);
	if (err != 0)
		return err;
	de = entry_rw(leaf, spot.off);
	de->de_ino = pf_put64(ino);
	de->de_type = type;
	return 0;
}

/* ---- read ---- */

static void copy_out(struct pf_dir_page *page, const struct sorted *s, uint64_t after)
{
	size_t used = 0;

	page->n = 0;
	for (unsigned int i = 0; i < s->n; i++) {
		const struct pf_d_dirent *de = s->de[i];

		if (pf_get64(de->de_key) <= after)
			continue;
		page->ent[page->n].de = (struct pf_dirent){ .key = pf_get64(de->de_key), .ino = pf_get64(de->de_ino),
							    .type = de->de_type };
		page->ent[page->n].name = (uint16_t)used;
		memcpy(page->names + used, (const char *)de + NAME_OFF, de->de_namelen);
		used += de->de_namelen;
		page->names[used++] = '\0';
		page->n++;
	}
}

int pf_dir_read(struct pf_inode *dir, uint64_t after, struct pf_dir_page *page)
{
	struct pf_bm bm = pf_inode_bm(dir, NULL);
	struct sorted *s = malloc(sizeof *s);
	struct pf_ext ext;
	int err;

	if (s == NULL)
		return -ENOMEM;
	page->n = 0;
	err = pf_bm_floor(&bm, after, &ext);
	while (err == 0 && ext.len != 0 && page->n == 0) {
		const void *leaf;

		err = pf_md_get(dir->fs, PF_MD_DIR, ext.dblk << PF_BLK_SHIFT, dir->ino, &leaf);
		if (err != 0)
			break;
		if (!collect(s, leaf)) {
			err = damaged(dir, ext.dblk);
			break;
		}
		copy_out(page, s, after);
		if (page->n == 0)
			err = pf_bm_next(&bm, ext.key, &ext);
	}
	free(s);
	return err;
}
