/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leaf.c - directory leaves: their entries, and what can still be read of a damaged one.
 *
 * The key of an entry is the hash of its name, so an entry whose key fits is right about its name, whatever else
 * happened to the leaf. Nothing else is kept of a leaf that is damaged.
 */
#include "fsck.pinfs/fsck.h"

#include <stdlib.h>
#include <string.h>
#include "base/siphash.h"

#define NAME_OFF offsetof(struct pf_d_dirent, de_name)
#define LEAF_BYTES (PF_BLK_SIZE - sizeof(struct pf_d_hdr))

static unsigned int need_of(unsigned int namelen)
{
	return (unsigned int)(NAME_OFF + namelen + 7) & ~7U;
}

int fsck_by_key(const void *a, const void *b)
{
	const struct fsck_name *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

/* The verifier has agreed to the leaf: its entries fill it exactly. */
unsigned int fsck_leaf_names(const struct pf_d_hdr *leaf, struct fsck_name *out)
{
	const uint8_t *base = (const uint8_t *)leaf;
	unsigned int n = 0;

	for (unsigned int off = sizeof *leaf; off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = (const void *)(base + off);

		if (pf_get64(de->de_ino) != 0)
			out[n++] = (struct fsck_name){ .key = pf_get64(de->de_key), .de = de };
		off += pf_get16(de->de_reclen);
	}
	return n;
}

void fsck_drop_entry(struct fsck *f, const struct pf_d_dirent *de)
{
	uint64_t at = (uint64_t)((const uint8_t *)de - f->fs.pm->base);
	struct pf_d_hdr *h = fsck_edit(f, fsck_at(f, at >> PF_BLK_SHIFT), PF_BLK_SIZE);
	struct pf_d_dirent *rw = (void *)((uint8_t *)h + at % PF_BLK_SIZE);
	const struct pf_d_inode *dir = fsck_inode(f, pf_get64(h->h_owner));
	struct pf_d_inode *di = fsck_edit(f, dir, sizeof *di);

	h->h_count = pf_put16((uint16_t)(pf_get16(h->h_count) - 1));
	h->h_free = pf_put32(pf_get32(h->h_free) + need_of(rw->de_namelen));
	rw->de_ino = pf_put64(0);
	pf_md_seal(PF_MD_DIR, h);
	di->i_nent = pf_put64(pf_get64(di->i_nent) - 1);
	pf_md_seal(PF_MD_INODE, di);
}

bool fsck_name_ok(const struct pf_d_dirent *de)
{
	const char *s = (const char *)de + NAME_OFF;
	unsigned int n = de->de_namelen;

	if (n == 0 || memchr(s, '\0', n) != NULL || memchr(s, '/', n) != NULL)
		return false;
	return !(s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.')));
}

/* ---- mending ---- */

/* An entry that fits into the block from @off on and whose key is that of its name. */
static bool entry_ok(const struct fsck *f, const uint8_t *leaf, unsigned int off)
{
	const struct pf_d_dirent *de = (const void *)(leaf + off);
	uint64_t ino;

	if (PF_BLK_SIZE - off < sizeof *de || PF_BLK_SIZE - off < need_of(de->de_namelen) || !fsck_name_ok(de))
		return false;
	ino = pf_get64(de->de_ino);
	return ino >= PF_INO_ROOT && ino <= PF_INO_MAX &&
	       pf_get64(de->de_key) >> 8 ==
		       pf_name_key(f->fs.hash_key, (const char *)de + NAME_OFF, de->de_namelen) >> 8;
}

/* Where the next entry begins: where this one says; if that cannot be, where it would if nothing were free behind it;
 * behind something that is no entry, at the next place where one may be. */
static unsigned int next_entry(const uint8_t *leaf, unsigned int off, bool ok)
{
	const struct pf_d_dirent *de = (const void *)(leaf + off);
	unsigned int reclen = PF_BLK_SIZE - off < sizeof *de ? 0 : pf_get16(de->de_reclen);
	bool sane = reclen >= sizeof *de && reclen % 8 == 0 && reclen <= PF_BLK_SIZE - off;

	if (sane && (!ok || reclen >= need_of(de->de_namelen)))
		return off + reclen;
	return off + (ok ? need_of(de->de_namelen) : 8);
}

static bool has_key(const struct pf_d_dirent *const *v, unsigned int n, const struct pf_d_dirent *de)
{
	for (unsigned int i = 0; i < n; i++)
		if (pf_get64(v[i]->de_key) == pf_get64(de->de_key))
			return true;
	return false;
}

void fsck_fill_leaf(const struct fsck *f, void *block, uint64_t dblk, uint64_t dir, uint32_t gen,
		    const struct pf_d_dirent *const *v, unsigned int n)
{
	unsigned int off = sizeof(struct pf_d_hdr), left = LEAF_BYTES;
	struct pf_d_hdr *h = block;
	struct pf_d_dirent *de;

	pf_md_format(&f->fs, PF_MD_DIR, h, dblk << PF_BLK_SHIFT, dir, gen);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int need = need_of(v[i]->de_namelen), reclen = need;

		left -= need;
		if (i + 1 == n && left < sizeof *de)
			reclen += left;
		de = (void *)((uint8_t *)block + off);
		memcpy(de, v[i], NAME_OFF + v[i]->de_namelen);
		de->de_reclen = pf_put16((uint16_t)reclen);
		off += reclen;
	}
	if (off < PF_BLK_SIZE) {
		de = (void *)((uint8_t *)block + off);
		de->de_reclen = pf_put16((uint16_t)(PF_BLK_SIZE - off));
	}
	h->h_count = pf_put16((uint16_t)n);
	h->h_free = pf_put32(left);
}

bool fsck_mend_leaf(struct fsck *f, uint64_t dblk, uint64_t dir, uint32_t gen)
{
	const struct pf_d_dirent *v[FSCK_LEAF_NAMES];
	uint8_t old[PF_BLK_SIZE], block[PF_BLK_SIZE];
	const struct pf_d_hdr *h = (const void *)old;
	unsigned int n = 0;

	memcpy(old, fsck_at(f, dblk), sizeof old);
	/* Three of the four things that say whose it is. */
	if ((pf_get32(h->h_magic) == PF_MAGIC_DIR) + (pf_get64(h->h_fsid) == f->fs.fsid) +
		    (pf_get64(h->h_self) == dblk) + (pf_get64(h->h_owner) == dir) < 3)
		return false;
	for (unsigned int off = sizeof *h; off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = (const void *)(old + off);
		bool ok = entry_ok(f, old, off);

		if (ok && n < FSCK_LEAF_NAMES && !has_key(v, n, de))
			v[n++] = de;
		off = next_entry(old, off, ok);
	}
	fsck_fill_leaf(f, block, dblk, dir, gen, v, n);
	fsck_put(f, dblk, PF_MD_DIR, block);
	return true;
}
