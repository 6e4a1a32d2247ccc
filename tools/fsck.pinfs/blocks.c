/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blocks.c - which blocks are owned, and by whom when two claim one.
 *
 * A bit a block says that somebody owns it, not who: naming the first owner of a block with two takes a second walk,
 * which is made only when there are such blocks. Any claim works in whole words of the bitmap; what conflicts may cost
 * is limited, so that an image in which every extent covers the device is still checked in time linear in its size.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Conflicts whose first owner is looked for: each claim of the second walk is compared with all of them. */
#define DUP_MAX UINT64_C(1000)

static size_t bitmap_bytes(const struct fsck *f)
{
	return PF_DIV_UP(f->fs.nblk, 64) * sizeof(uint64_t);
}

int fsck_blocks_init(struct fsck *f)
{
	f->used = calloc(1, bitmap_bytes(f));
	f->seen = calloc(1, bitmap_bytes(f));
	f->dup_budget = f->fs.nblk / 8 + 65536;
	return f->used == NULL || f->seen == NULL ? -ENOMEM : 0;
}

void fsck_blocks_fini(struct fsck *f)
{
	free(f->used);
	free(f->seen);
	free(f->twice);
	free(f->bad);
	free(f->dup);
	f->used = f->seen = f->twice = f->bad = NULL;
	f->dup = NULL;
	f->nr_dup = f->room_dup = 0;
}

int fsck_note_bad(struct fsck *f, uint64_t dblk, uint64_t nblk)
{
	if (f->bad == NULL)
		f->bad = calloc(1, bitmap_bytes(f));
	if (f->bad == NULL)
		return -ENOMEM;
	for (uint64_t b = dblk; b < dblk + nblk; b++)
		fsck_set(f->bad, b);
	return 0;
}

void fsck_pass_begin(struct fsck *f)
{
	memset(f->seen, 0, bitmap_bytes(f));
	f->dup_budget = f->fs.nblk / 8 + 65536;
}

/* Bits of word @w that lie in [from, to). */
static uint64_t word_mask(uint64_t w, uint64_t from, uint64_t to)
{
	uint64_t mask = ~UINT64_C(0);

	if (w == from / 64)
		mask &= ~UINT64_C(0) << (from % 64);
	if (w == to / 64)
		mask &= (UINT64_C(1) << (to % 64)) - 1;
	return mask;
}

/* A conflict that goes on where the last one ended is the same conflict. */
static void note_dup(struct fsck *f, uint64_t ino, const char *what, uint64_t dblk, uint64_t nblk)
{
	struct fsck_dup *d = f->nr_dup > 0 ? &f->dup[f->nr_dup - 1] : NULL;
	uint64_t room = f->room_dup == 0 ? 64 : f->room_dup * 2;

	if (d != NULL && d->ino == ino && d->what == what && d->dblk + d->nblk == dblk) {
		d->nblk += nblk;
		return;
	}
	if (f->dup == NULL || f->nr_dup == f->room_dup) {
		d = f->nr_dup < DUP_MAX ? realloc(f->dup, room * sizeof *d) : NULL;
		if (d == NULL) {
			fsck_problem(f, 3, "inode %" PRIu64 ": %s block %" PRIu64 " has two owners", ino, what, dblk);
			return;
		}
		f->dup = d;
		f->room_dup = room;
	}
	f->dup[f->nr_dup++] = (struct fsck_dup){ .dblk = dblk, .nblk = nblk, .ino = ino, .what = what };
}

/* Whoever shares a block needs a tree without it. The table's and the fixed places' are always right. */
static void rebuild_later(struct fsck *f, uint64_t ino)
{
	struct fsck_ino *fi = ino >= PF_INO_ROOT ? fsck_ino(f, ino) : NULL;

	if (fi != NULL)
		fi->state |= FSCK_I_REBUILD;
	f->broken = true;
	f->orphans_bad = f->orphans_bad || ino == PF_INO_ORPHAN;
	f->badlist_bad = f->badlist_bad || ino == PF_INO_BAD;
}

static void note_dup_word(struct fsck *f, uint64_t ino, const char *what, uint64_t w, uint64_t bits)
{
	if (f->twice == NULL)
		f->twice = calloc(1, bitmap_bytes(f));
	if (f->twice != NULL)
		f->twice[w] |= bits;
	while (bits != 0) {
		uint64_t at = (uint64_t)__builtin_ctzll(bits);
		uint64_t rest = ~(bits >> at);
		uint64_t n = rest == 0 ? 64 : (uint64_t)__builtin_ctzll(rest);

		note_dup(f, ino, what, w * 64 + at, n);
		bits = at + n == 64 ? 0 : bits & ~UINT64_C(0) << (at + n);
	}
}

/* Second pass: is this the first owner of a block in conflict? */
static void name_first(struct fsck *f, uint64_t ino, const char *what, uint64_t dblk, uint64_t nblk)
{
	for (uint64_t i = 0; i < f->nr_dup; i++) {
		struct fsck_dup *d = &f->dup[i];

		if (d->first_what != NULL || !pf_range_overlap(dblk, nblk, d->dblk, d->nblk))
			continue;
		d->first_what = what;
		d->first_ino = ino;
	}
}

bool fsck_claim(struct fsck *f, enum fsck_pass pass, uint64_t ino, const char *what, uint64_t dblk, uint64_t nblk)
{
	uint64_t *map = pass == FSCK_CLAIM ? f->used : f->seen;
	uint64_t end, fresh = 0;
	bool clean = true;

	if (nblk == 0 || !pf_range_ok(dblk, nblk, f->fs.nblk))
		return false;
	if (pass == FSCK_LOOK)
		return true;
	end = dblk + nblk;
	for (uint64_t w = dblk / 64; w * 64 < end; w++) {
		uint64_t mask = word_mask(w, dblk, end);
		uint64_t taken = map[w] & mask;

		map[w] |= mask;
		fresh += (uint64_t)__builtin_popcountll(mask & ~taken);
		if (pass == FSCK_NAME && f->twice != NULL && (f->twice[w] & mask) != 0)
			rebuild_later(f, ino);
		if (taken == 0)
			continue;
		clean = false;
		if (pass == FSCK_CLAIM) {
			note_dup_word(f, ino, what, w, taken);
			rebuild_later(f, ino);
		}
		if (f->dup_budget == 0) {
			rebuild_later(f, ino);
			break;
		}
		f->dup_budget--;
	}
	if (pass == FSCK_CLAIM)
		f->blocks += fresh;
	if (pass == FSCK_NAME && fresh != 0)
		name_first(f, ino, what, dblk, nblk);
	return clean;
}

void fsck_claim_fixed(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_fs *fs = &f->fs;

	/* Geometry was checked with the superblock: these cannot collide. */
	(void)fsck_claim(f, pass, 0, "superblock", 0, 1);
	(void)fsck_claim(f, pass, 0, "journal", fs->lane_blk, (uint64_t)fs->nlane * fs->lane_nblk);
	(void)fsck_claim(f, pass, 0, "free-space map", fs->map_blk, fs->ngroup);
	(void)fsck_claim(f, pass, 0, "superblock copy", fs->nblk - 1, 1);
}

static void print_owner(char *buf, size_t len, uint64_t ino, const char *what)
{
	if (what == NULL)
		(void)snprintf(buf, len, "another owner");
	else if (ino == 0)
		(void)snprintf(buf, len, "the %s", what);
	else
		(void)snprintf(buf, len, "inode %" PRIu64 " (%s)", ino, what);
}

void fsck_report_dups(struct fsck *f)
{
	char first[64], second[64], blocks[64];

	for (uint64_t i = 0; i < f->nr_dup; i++) {
		const struct fsck_dup *d = &f->dup[i];

		print_owner(first, sizeof first, d->first_ino, d->first_what);
		print_owner(second, sizeof second, d->ino, d->what);
		if (d->nblk == 1)
			(void)snprintf(blocks, sizeof blocks, "block %" PRIu64, d->dblk);
		else
			(void)snprintf(blocks, sizeof blocks, "blocks %" PRIu64 "-%" PRIu64, d->dblk,
				       d->dblk + d->nblk - 1);
		fsck_problem(f, 3, "%s: owned by %s and by %s", blocks, first, second);
	}
}
