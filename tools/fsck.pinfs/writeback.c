/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * writeback.c - brings the repaired view onto the device, in an order that may be cut short anywhere.
 *
 * What nobody refers to yet goes straight to its place. All that is referred to goes through lane 0 of the image's own
 * journal, a block never in two parts: a crash leaves each object as it was or as it shall be, and what is sealed is
 * finished by the next fsck or mount. When all of it fits into the lane, the repair happens completely or not at all.
 * When it does not, the map grows first and shrinks last: in between no block that is in use looks free, and none
 * that a second fsck may want to find again is forgotten. The superblocks say clean at the very end.
 *
 * The order of the steps (enum fsck_step) matters: tests/unit/test_fsck_order.c takes each one that has to come before
 * another after that, and shows what a crash then costs. Two pairs of neighbours may change places, which it shows as
 * well. LANES before DIRTY: what the journal holds has happened already, and whoever comes next, fsck or mount, would
 * bring it home whatever the superblocks say. GROW before FRESH: until REST refers to the new objects, their blocks are
 * in use by nobody, and the next fsck frees them, written or not.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "media/journal.h"
#include "media/super.h"
#include "media/verify.h"

#define LANE_ROOM (PF_LANE_BYTES - sizeof(struct pf_d_lane))

struct writer {
	struct pf_fs *fs;		/* of the device, not of the view */
	struct fsck_changes *c;
	const struct pf_d_super *final;
	bool replayed;			/* the lanes of the view; those of the device are as they were */
	bool sorted;			/* the changes have their kinds */
	bool at_once;			/* they fit into one lane */
	_Alignas(uint64_t) uint8_t lane[PF_LANE_BYTES];
	size_t len;			/* of the records in it */
	uint32_t nrec;
};

/* ---- through the lane ---- */

static int lane_commit(struct writer *w)
{
	const uint64_t at = w->fs->lane_blk << PF_BLK_SHIFT;
	struct pf_d_lane *l = (void *)w->lane;
	const uint8_t *p = (const uint8_t *)(l + 1), *end = p + w->len;
	const pf_le64 none = pf_put64(0);
	struct pf_pm *pm = w->fs->pm;
	int err;

	if (w->nrec == 0)
		return 0;
	*l = (struct pf_d_lane){
		.l_magic = pf_put32(PF_MAGIC_LANE), .l_fsid = pf_put64(w->fs->fsid), .l_seq = pf_put64(1),
		.l_nrec = pf_put32(w->nrec), .l_len = pf_put32((uint32_t)w->len),
	};
	l->l_crc = pf_put32(pf_crc32c_hole(l, sizeof *l + w->len, offsetof(struct pf_d_lane, l_crc)));
	pf_pm_write(pm, at, l, sizeof *l + w->len);
	err = pf_pm_drain(pm);
	while (err == 0 && p < end) {
		const struct pf_d_jrec *r = (const void *)p;

		pf_pm_write(pm, pf_get64(r->j_doff), r + 1, pf_get32(r->j_len));
		p += sizeof *r + pf_get32(r->j_len);
	}
	if (err == 0)
		err = pf_pm_drain(pm);
	if (err == 0) {
		pf_pm_write(pm, at + offsetof(struct pf_d_lane, l_seq), &none, sizeof none);
		err = pf_pm_drain(pm);
	}
	w->len = 0;
	w->nrec = 0;
	return err;
}

static bool same_line(const uint8_t *a, const uint8_t *b, uint64_t line)
{
	return memcmp(a + line * PF_LINE, b + line * PF_LINE, PF_LINE) == 0;
}

/* The next run of lines from *line on in which the blocks differ. Lines; 0: none. */
static uint64_t next_run(const uint8_t *now, const uint8_t *dev, uint64_t *line)
{
	const uint64_t lines = PF_BLK_SIZE / PF_LINE;
	uint64_t n = 0;

	while (*line < lines && same_line(now, dev, *line))
		++*line;
	while (*line + n < lines && !same_line(now, dev, *line + n))
		n++;
	return n;
}

/* What block @dblk costs in the lane. */
static size_t lane_need(const struct writer *w, uint64_t dblk, const uint8_t *now)
{
	const uint8_t *dev = pf_pm_at(w->fs->pm, dblk << PF_BLK_SHIFT);
	size_t need = 0;

	for (uint64_t line = 0, n; (n = next_run(now, dev, &line)) != 0; line += n)
		need += sizeof(struct pf_d_jrec) + n * PF_LINE;
	return need;
}

static int lane_add(struct writer *w, uint64_t dblk, const uint8_t *now)
{
	const uint8_t *dev = pf_pm_at(w->fs->pm, dblk << PF_BLK_SHIFT);

	if (lane_need(w, dblk, now) > LANE_ROOM - w->len) {
		int err = lane_commit(w);

		if (err != 0)
			return err;
	}
	for (uint64_t line = 0, n; (n = next_run(now, dev, &line)) != 0; line += n) {
		struct pf_d_jrec *r = (void *)(w->lane + sizeof(struct pf_d_lane) + w->len);

		*r = (struct pf_d_jrec){
			.j_doff = pf_put64((dblk << PF_BLK_SHIFT) + line * PF_LINE),
			.j_len = pf_put32((uint32_t)(n * PF_LINE)),
		};
		memcpy(r + 1, now + line * PF_LINE, n * PF_LINE);
		w->len += sizeof *r + n * PF_LINE;
		w->nrec++;
	}
	return 0;
}

/* ---- what a changed block is ---- */

static bool is_map(const struct pf_fs *fs, uint64_t dblk)
{
	return dblk >= fs->map_blk && dblk < fs->map_blk + fs->ngroup;
}

static bool is_super(const struct pf_fs *fs, uint64_t dblk)
{
	return dblk == 0 || dblk == fs->nblk - 1;
}

/* Free as the device has it: nobody refers to it until the rest is written. */
static bool is_fresh(const struct pf_fs *fs, uint64_t dblk)
{
	uint64_t g = dblk / PF_GROUP_BLKS, bit = dblk % PF_GROUP_BLKS, at = (fs->map_blk + g) << PF_BLK_SHIFT;
	const struct pf_d_map *m = pf_pm_at(fs->pm, at);

	return dblk >= fs->iclu0_blk + PF_ICLU_BLKS && pf_md_check(fs, PF_MD_MAP, m, at, g) == NULL &&
	       (m->m_bits[bit / 512][bit % 512 / 8] >> (bit % 8) & 1) == 0;
}

enum kind { IGNORED, FRESH, MAP, OTHER };

static enum kind kind_of(const struct pf_fs *fs, uint64_t dblk)
{
	if (is_super(fs, dblk) || dblk >= fs->nblk)
		return IGNORED;		/* superblocks are written by themselves */
	if (dblk < fs->map_blk)
		return IGNORED;		/* so are lanes */
	if (is_map(fs, dblk))
		return MAP;
	return is_fresh(fs, dblk) ? FRESH : OTHER;
}

/* ---- steps ---- */

static int each(struct writer *w, enum kind kind, int (*fn)(struct writer *w, const struct fsck_change *ch))
{
	int err = 0;

	for (uint64_t i = 0; i < w->c->nr && err == 0; i++)
		if (w->c->v[i].kind == (uint8_t)kind)
			err = fn(w, &w->c->v[i]);
	return err;
}

static int write_plain(struct writer *w, const struct fsck_change *ch)
{
	if (memcmp(pf_pm_at(w->fs->pm, ch->dblk << PF_BLK_SHIFT), ch->now, PF_BLK_SIZE) != 0)
		pf_pm_write(w->fs->pm, ch->dblk << PF_BLK_SHIFT, ch->now, PF_BLK_SIZE);
	return 0;
}

static int write_lane(struct writer *w, const struct fsck_change *ch)
{
	return lane_add(w, ch->dblk, ch->now);
}

/* In use before or after. */
static int write_union(struct writer *w, const struct fsck_change *ch)
{
	const uint64_t g = ch->dblk - w->fs->map_blk;
	const struct pf_d_map *was = pf_pm_at(w->fs->pm, ch->dblk << PF_BLK_SHIFT);
	uint32_t nfree = 0;
	struct pf_d_map m;

	memcpy(&m, ch->now, sizeof m);
	if (pf_md_check(w->fs, PF_MD_MAP, was, ch->dblk << PF_BLK_SHIFT, g) == NULL) {
		for (unsigned int i = 0; i < sizeof m.m_bits; i++) {
			uint8_t *byte = &m.m_bits[i / 64][i % 64];

			*byte |= was->m_bits[i / 64][i % 64];
			nfree += 8U - (unsigned int)__builtin_popcount(*byte);
		}
		m.m_hdr.h_free = pf_put32(nfree);
		pf_md_seal(PF_MD_MAP, &m);
	}
	return lane_add(w, ch->dblk, (const uint8_t *)&m);
}

static size_t total_need(const struct writer *w)
{
	size_t need = 0;

	for (uint64_t i = 0; i < w->c->nr; i++)
		if (w->c->v[i].kind == MAP || w->c->v[i].kind == OTHER)
			need += lane_need(w, w->c->v[i].dblk, w->c->v[i].now);
	return need;
}

/* As the device is now, before the first of them is written: the map that they are judged by changes too. */
static void sort_changes(struct writer *w)
{
	if (w->sorted)
		return;
	for (uint64_t i = 0; i < w->c->nr; i++)
		w->c->v[i].kind = (uint8_t)kind_of(w->fs, w->c->v[i].dblk);
	w->at_once = total_need(w) <= LANE_ROOM;
	w->sorted = true;
}

/* Both copies, never the only sound one first. */
static int write_supers(struct writer *w, const struct pf_d_super *sb)
{
	const uint64_t copy = w->fs->nblk - 1;
	const bool first_sound = pf_sb_check(pf_pm_at(w->fs->pm, 0), w->fs->pm->bytes) == NULL;
	int err;

	pf_pm_write(w->fs->pm, (first_sound ? copy : 0) << PF_BLK_SHIFT, sb, sizeof *sb);
	err = pf_pm_drain(w->fs->pm);
	if (err != 0)
		return err;
	pf_pm_write(w->fs->pm, (first_sound ? 0 : copy) << PF_BLK_SHIFT, sb, sizeof *sb);
	return pf_pm_drain(w->fs->pm);
}

/* Until the end the device must not look clean, and its superblocks must name the areas that are written. */
static int mark_dirty(struct writer *w)
{
	struct pf_d_super sb = *w->final;

	sb.sb_state = pf_put32(pf_get32(sb.sb_state) & ~(uint32_t)PF_SB_CLEAN);
	sb.sb_crc = pf_put32(pf_sb_sum(&sb));
	for (int i = 0; i < 2; i++) {
		const struct pf_d_super *dev = pf_pm_at(w->fs->pm, i == 0 ? 0 : (w->fs->nblk - 1) << PF_BLK_SHIFT);

		if (pf_sb_check(dev, w->fs->pm->bytes) != NULL || (pf_get32(dev->sb_state) & PF_SB_CLEAN) != 0 ||
		    !fsck_same_constants(dev, &sb))
			return write_supers(w, &sb);
	}
	return 0;
}

/* What the view has replayed, the device must have too before its lanes are emptied: those calls had returned. And
 * before lane 0 is used: an older transaction must not be replayed over a newer one. */
static int settle_lanes(struct writer *w)
{
	const pf_le64 none = pf_put64(0);
	struct pf_fs *fs = w->fs;
	int n;

	for (uint32_t i = 0; i < fs->nlane; i++) {
		uint64_t at = (fs->lane_blk + (uint64_t)i * fs->lane_nblk) << PF_BLK_SHIFT;
		const struct pf_d_lane *l = pf_pm_at(fs->pm, at);

		if (pf_get64(l->l_seq) != 0 && (!w->replayed || pf_jnl_lane_check(fs, i) != 0))
			pf_pm_write(fs->pm, at + offsetof(struct pf_d_lane, l_seq), &none, sizeof none);
	}
	n = pf_pm_drain(fs->pm);
	if (n == 0 && w->replayed)
		n = pf_jnl_replay(fs);
	return n < 0 ? n : 0;
}

static int write_fresh(struct writer *w)
{
	int err;

	sort_changes(w);
	err = each(w, FRESH, write_plain);
	return err != 0 ? err : pf_pm_drain(w->fs->pm);
}

static int grow_map(struct writer *w)
{
	int err;

	sort_changes(w);
	err = w->at_once ? 0 : each(w, MAP, write_union);
	return err != 0 ? err : lane_commit(w);
}

static int write_rest(struct writer *w)
{
	int err;

	sort_changes(w);
	err = each(w, OTHER, write_lane);
	return err != 0 || w->at_once ? err : lane_commit(w);
}

static int write_map(struct writer *w)
{
	int err;

	sort_changes(w);
	err = each(w, MAP, write_lane);
	return err != 0 ? err : lane_commit(w);
}

static int finish_supers(struct writer *w)
{
	const struct pf_pm *pm = w->fs->pm;

	if (memcmp(pf_pm_at(pm, 0), w->final, sizeof *w->final) == 0 &&
	    memcmp(pf_pm_at(pm, (w->fs->nblk - 1) << PF_BLK_SHIFT), w->final, sizeof *w->final) == 0)
		return 0;
	return write_supers(w, w->final);
}

static int (*const steps[FSCK_STEP_NR])(struct writer *w) = {
	[FSCK_STEP_DIRTY] = mark_dirty, [FSCK_STEP_LANES] = settle_lanes, [FSCK_STEP_FRESH] = write_fresh,
	[FSCK_STEP_GROW] = grow_map,	[FSCK_STEP_REST] = write_rest,	  [FSCK_STEP_MAP] = write_map,
	[FSCK_STEP_CLEAN] = finish_supers,
};

int fsck_writeback(struct pf_fs *fs, struct fsck_changes *c, const struct pf_d_super *final, bool replayed)
{
	struct writer *w;
	int err = 0;

	if (c->nr == 0)
		return 0;
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return -ENOMEM;
	w->fs = fs;
	w->c = c;
	w->final = final;
	w->replayed = replayed;
	for (unsigned int i = 0; i < FSCK_STEP_NR && err == 0; i++)
		err = steps[FSCK_STEP(i)](w);
	free(w);
	return err;
}
