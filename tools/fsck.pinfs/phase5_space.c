/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase5_space.c - phase 5: the free-space map against the blocks found in use.
 *
 * Comes last because it compares with everything the other phases found. A group that differs is written anew.
 */
#include "fsck.pinfs/fsck.h"

#include <inttypes.h>
#include <string.h>

/* 64 bits of the bitmap of found blocks from block @dblk on, which need not be a multiple of 64; past the end: ones. */
static uint64_t found_bits(const struct fsck *f, uint64_t dblk)
{
	uint64_t words = PF_DIV_UP(f->fs.nblk, 64), w = dblk / 64, shift = dblk % 64, v;

	v = w < words ? f->used[w] >> shift : 0;
	if (shift != 0 && w + 1 < words)
		v |= f->used[w + 1] << (64 - shift);
	if (dblk >= f->fs.nblk)
		return ~UINT64_C(0);
	if (f->fs.nblk - dblk < 64)
		v |= ~UINT64_C(0) << (f->fs.nblk - dblk);
	return v;
}

struct run { uint64_t dblk, nblk; bool leaked; };

static void print_run(struct fsck *f, struct run *r)
{
	if (r->nblk != 0)
		fsck_minor(f, 5, "free-space map: blocks %" PRIu64 "-%" PRIu64 " %s", r->dblk, r->dblk + r->nblk - 1,
			     r->leaked ? "in use by nobody" : "marked free, but in use");
	r->nblk = 0;
}

static void add_to_run(struct fsck *f, struct run *r, uint64_t dblk, bool leaked)
{
	if (r->nblk == 0 || r->leaked != leaked || r->dblk + r->nblk != dblk) {
		print_run(f, r);
		*r = (struct run){ .dblk = dblk, .leaked = leaked };
	}
	r->nblk++;
}

static void write_group(struct fsck *f, uint64_t g)
{
	struct pf_d_map m;
	uint32_t nfree = 0;

	pf_md_format(&f->fs, PF_MD_MAP, &m, (f->fs.map_blk + g) << PF_BLK_SHIFT, g, 0);
	for (uint64_t i = 0; i < PF_GROUP_BLKS; i += 64) {
		uint64_t found = found_bits(f, g * PF_GROUP_BLKS + i);
		pf_le64 word = pf_put64(found);

		memcpy((uint8_t *)m.m_bits + i / 8, &word, sizeof word);
		nfree += 64 - (uint32_t)__builtin_popcountll(found);
	}
	m.m_hdr.h_free = pf_put32(nfree);
	fsck_put(f, f->fs.map_blk + g, PF_MD_MAP, &m);
}

static void check_group(struct fsck *f, uint64_t g, struct run *r)
{
	const struct pf_d_map *m = fsck_at(f, f->fs.map_blk + g);
	const char *why = pf_md_check(&f->fs, PF_MD_MAP, m, (f->fs.map_blk + g) << PF_BLK_SHIFT, g);
	bool differs = false;
	pf_le64 word;

	if (why != NULL) {
		fsck_minor(f, 5, "free-space map: group %" PRIu64 ": %s", g, why);
		write_group(f, g);
		return;
	}
	for (uint64_t i = 0; i < PF_GROUP_BLKS; i += 64) {
		uint64_t first = g * PF_GROUP_BLKS + i, found = found_bits(f, first), diff;

		memcpy(&word, (const uint8_t *)m->m_bits + i / 8, sizeof word);
		differs = differs || pf_get64(word) != found;
		for (diff = pf_get64(word) ^ found; diff != 0; diff &= diff - 1) {
			uint64_t bit = (uint64_t)__builtin_ctzll(diff);

			add_to_run(f, r, first + bit, (found >> bit & 1) == 0);
		}
	}
	if (differs)
		write_group(f, g);
}

int fsck_phase5(struct fsck *f)
{
	struct run r = { 0 };
	int err;

	err = fsck_check_orphans(f);
	for (uint64_t g = 0; g < f->fs.ngroup && err == 0; g++) {
		err = fsck_step(f, 5, g, f->fs.ngroup);
		check_group(f, g, &r);
	}
	print_run(f, &r);
	return err;
}
