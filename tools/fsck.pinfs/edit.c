/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * edit.c - changes to objects of the view, and the blocks that new ones get.
 *
 * A new block is one that nobody was found to own and, while there are such, one that the map calls free as well:
 * blocks that are in use by nobody may be what a later repair looks for.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <string.h>

void *fsck_edit(struct fsck *f, const void *obj, uint64_t len)
{
	uint64_t doff = (uint64_t)((const uint8_t *)obj - f->fs.pm->base);

	fsck_view_own(f->fs.pm, doff, len);
	return f->fs.pm->base + doff;
}

void fsck_edit_inode(struct fsck *f, const struct pf_d_inode *di, void (*fn)(struct pf_d_inode *di, uint64_t v),
		     uint64_t v)
{
	struct pf_d_inode *rw = fsck_edit(f, di, sizeof *rw);

	fn(rw, v);
	pf_md_seal(PF_MD_INODE, rw);
}

void fsck_put(struct fsck *f, uint64_t dblk, enum pf_md type, void *block)
{
	pf_md_seal(type, block);
	pf_pm_write(f->fs.pm, dblk << PF_BLK_SHIFT, block, PF_BLK_SIZE);
}

bool fsck_reseal(struct fsck *f, enum pf_md type, const void *obj, uint64_t owner)
{
	uint64_t doff = (uint64_t)((const uint8_t *)obj - f->fs.pm->base);
	union { struct pf_d_hdr hdr; struct pf_d_inode inode; uint8_t bytes[PF_BLK_SIZE]; } copy;

	memcpy(&copy, obj, pf_md_size(type));
	if (type == PF_MD_INODE)
		memset(copy.inode.i_pad, 0, sizeof copy.inode.i_pad);
	else
		memset(copy.hdr.h_pad, 0, sizeof copy.hdr.h_pad);
	pf_md_seal(type, &copy);
	if (pf_md_check(&f->fs, type, &copy, doff, owner) != NULL)
		return false;
	pf_pm_write(f->fs.pm, doff, &copy, pf_md_size(type));
	return true;
}

/* ---- the map ---- */

static const struct pf_d_map *map_of(const struct fsck *f, uint64_t dblk)
{
	return fsck_at(f, f->fs.map_blk + dblk / PF_GROUP_BLKS);
}

/* Asked for block after block: the answer for a group is kept. Only phase 5 can change it, and no one asks it then. */
bool fsck_map_sound(struct fsck *f, uint64_t dblk)
{
	uint64_t g = dblk / PF_GROUP_BLKS;

	if (f->map_group != g + 1) {
		f->map_group = g + 1;
		f->map_sound = pf_md_check(&f->fs, PF_MD_MAP, map_of(f, dblk), (f->fs.map_blk + g) << PF_BLK_SHIFT,
					   g) == NULL;
	}
	return f->map_sound;
}

static bool map_bit(const struct fsck *f, uint64_t dblk)
{
	uint64_t bit = dblk % PF_GROUP_BLKS;

	return (map_of(f, dblk)->m_bits[bit / 512][bit % 512 / 8] >> (bit % 8) & 1) != 0;
}

bool fsck_map_used(struct fsck *f, uint64_t dblk)
{
	return fsck_map_sound(f, dblk) && map_bit(f, dblk);
}

/* A damaged group is left to phase 5, which makes it anew. */
static void map_set(struct fsck *f, uint64_t dblk, bool used)
{
	uint64_t bit = dblk % PF_GROUP_BLKS;
	struct pf_d_map *m;
	uint8_t *byte;

	if (!fsck_map_sound(f, dblk) || map_bit(f, dblk) == used)
		return;
	m = fsck_edit(f, map_of(f, dblk), sizeof *m);
	byte = &m->m_bits[bit / 512][bit % 512 / 8];
	*byte = (uint8_t)(*byte ^ 1U << (bit % 8));
	m->m_hdr.h_free = pf_put32(pf_get32(m->m_hdr.h_free) + (used ? -1U : 1U));
	pf_md_seal(PF_MD_MAP, m);
}

/* ---- blocks ---- */

enum kind { FREE, UNOWNED };

/* Blocks [from, to) that may be taken, at least @nblk in a row. */
static bool find_run(struct fsck *f, enum kind kind, uint64_t from, uint64_t to, uint64_t nblk, uint64_t *dblk)
{
	uint64_t n = 0;

	for (uint64_t b = from; b < to; b++) {
		bool ok;

		if (b % 64 == 0 && f->used[b / 64] == UINT64_MAX) {
			n = 0;
			b += 63;
			continue;
		}
		ok = !fsck_bit(f->used, b) && !fsck_bit(f->seen, b) && (f->bad == NULL || !fsck_bit(f->bad, b));
		if (ok && kind == FREE)
			ok = fsck_map_sound(f, b) && !map_bit(f, b);
		n = ok ? n + 1 : 0;
		if (n == nblk) {
			*dblk = b + 1 - nblk;
			return true;
		}
	}
	return false;
}

/* From @at on, then from the start. Once no block of a kind was found, there is none for the rest of the round. */
static bool find(struct fsck *f, enum kind kind, uint64_t at, uint64_t first, uint64_t end, uint64_t nblk,
		 uint64_t *dblk)
{
	if (f->none_left[kind])
		return false;
	if (find_run(f, kind, at, end, nblk, dblk) || find_run(f, kind, first, end, nblk, dblk))
		return true;
	f->none_left[kind] = nblk == 1;
	return false;
}

int fsck_alloc(struct fsck *f, uint64_t nblk, uint64_t *dblk)
{
	const uint64_t first = f->fs.iclu0_blk + PF_ICLU_BLKS, end = f->fs.nblk - 1;
	uint64_t at = pf_max64(f->alloc_at, first);

	if (!find(f, FREE, at, first, end, nblk, dblk)) {
		/* While owners are still being found, only the map knows what is free. */
		if (!f->all_claimed || !find(f, UNOWNED, at, first, end, nblk, dblk))
			return -ENOSPC;
	}
	f->alloc_at = *dblk + nblk;
	for (uint64_t b = *dblk; b < *dblk + nblk; b++) {
		fsck_set(f->used, b);
		fsck_set(f->seen, b);
		map_set(f, b, true);
	}
	return 0;
}

void fsck_release(struct fsck *f, uint64_t dblk, uint64_t nblk)
{
	for (uint64_t b = dblk; b < dblk + nblk; b++) {
		fsck_clear(f->used, b);
		map_set(f, b, false);
	}
}
