/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase5_space.c - phase 5: the orphan file against the inodes, the free-space map against the blocks found in use.
 *
 * Comes last because it compares with everything the other phases found. Clusters' own counts are pf_md_check()'s.
 */
#include "fsck.pinfs/fsck.h"

#include <inttypes.h>
#include <string.h>
#include "media/verify.h"

/* ---- orphans ---- */

static void check_orphan(struct fsck *f, uint64_t ino)
{
	struct fsck_ino *fi = fsck_ino(f, ino);
	const struct pf_d_inode *di;

	f->orphans++;
	if (fi == NULL || !(fi->state & FSCK_I_USED) || ino < PF_INO_FIRST_USER) {
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 ", which is not in use", ino);
		return;
	}
	if (fi->state & FSCK_I_ORPHAN)
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 " twice", ino);
	fi->state |= FSCK_I_ORPHAN;
	if (!(fi->state & FSCK_I_SOUND))
		return;
	di = fsck_inode(f, ino);
	if (pf_get32(di->i_nlink) != 0 && pf_get32(di->i_intent) == PF_INTENT_NONE)
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 ", which has links and nothing left to do", ino);
}

static void orphan_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
		       uint64_t next_key)
{
	struct fsck *f = w->f;

	(void)key;
	(void)flags;
	(void)next_key;
	for (uint64_t b = dblk; b < dblk + len; b++) {
		const struct pf_d_orphan *o = fsck_at(f, b);
		const char *why;

		if (!fsck_claim(f, w->pass, w->ino, "orphan block", b, 1))
			continue;
		why = pf_md_check(&f->fs, PF_MD_ORPHAN, o, b << PF_BLK_SHIFT, PF_INO_ORPHAN);
		if (why != NULL) {
			fsck_problem(f, 5, "orphan block at block %" PRIu64 ": %s", b, why);
			continue;
		}
		for (unsigned int i = 0; i < PF_ARRAY_LEN(o->o_ino); i++)
			if (pf_get64(o->o_ino[i]) != 0)
				check_orphan(f, pf_get64(o->o_ino[i]));
	}
}

static int check_listed(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	if (fi->state & FSCK_I_ORPHAN)
		return 0;
	if (pf_get32(di->i_nlink) == 0)
		fsck_problem(f, 5, "inode %" PRIu64 ": no links, but the orphan file does not name it", ino);
	if (pf_get32(di->i_intent) != PF_INTENT_NONE)
		fsck_problem(f, 5, "inode %" PRIu64 ": unfinished work, but the orphan file does not name it", ino);
	return 0;
}

static int check_orphans(struct fsck *f)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ORPHAN);
	struct fsck_walk w = { .f = f, .pass = FSCK_READ, .phase = 5, .ino = PF_INO_ORPHAN, .fn = orphan_rec };

	if (di == NULL)
		return 0;	/* phase 2 said so; every orphan would be reported as not listed */
	fsck_pass_begin(f);
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, &di->i_root);
	if (f->fs.clean && f->orphans != 0)
		fsck_problem(f, 5, "orphan file: not empty, though unmounted clean");
	return w.skipped == 0 ? fsck_each_inode(f, check_listed) : 0;
}

/* ---- free space ---- */

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
		fsck_problem(f, 5, "free-space map: blocks %" PRIu64 "-%" PRIu64 " %s", r->dblk, r->dblk + r->nblk - 1,
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

static void check_group(struct fsck *f, uint64_t g, struct run *r)
{
	const struct pf_d_map *m = fsck_at(f, f->fs.map_blk + g);
	const char *why = pf_md_check(&f->fs, PF_MD_MAP, m, (f->fs.map_blk + g) << PF_BLK_SHIFT, g);
	pf_le64 word;

	if (why != NULL) {
		fsck_problem(f, 5, "free-space map: group %" PRIu64 ": %s", g, why);
		return;
	}
	for (uint64_t i = 0; i < PF_GROUP_BLKS; i += 64) {
		uint64_t first = g * PF_GROUP_BLKS + i, found = found_bits(f, first), diff;

		memcpy(&word, (const uint8_t *)m->m_bits + i / 8, sizeof word);
		for (diff = pf_get64(word) ^ found; diff != 0; diff &= diff - 1) {
			uint64_t bit = (uint64_t)__builtin_ctzll(diff);

			add_to_run(f, r, first + bit, (found >> bit & 1) == 0);
		}
	}
}

int fsck_phase5(struct fsck *f)
{
	struct run r = { 0 };
	int err;

	err = check_orphans(f);
	if (err != 0)
		return err;
	for (uint64_t g = 0; g < f->fs.ngroup; g++)
		check_group(f, g, &r);
	print_run(f, &r);
	return 0;
}
