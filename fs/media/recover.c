/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover.c - what a crash left in the journal: find committed lanes, check them, replay them in order.
 *
 * Runs before anything else uses the image, in one thread; takes no lock. A lane is torn (its checksum fails: never
 * committed, ignored) or sealed; a sealed lane that names impossible places is damage, and nothing is replayed then.
 */
#include "media/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/log.h"
#include "base/step.h"
#include "media/pmem.h"
#include "media/super.h"

struct sealed { uint64_t seq; uint32_t lane; };

static uint64_t lane_doff(const struct pf_fs *fs, uint32_t lane)
{
	return (fs->lane_blk + (uint64_t)lane * fs->lane_nblk) << PF_BLK_SHIFT;
}

static const struct pf_d_lane *lane_at(const struct pf_fs *fs, uint32_t lane)
{
	return pf_pm_at(fs->pm, lane_doff(fs, lane));
}

static bool is_sealed(const struct pf_fs *fs, uint32_t lane)
{
	const struct pf_d_lane *l = lane_at(fs, lane);
	const uint64_t room = ((uint64_t)fs->lane_nblk << PF_BLK_SHIFT) - sizeof *l;

	if (pf_get32(l->l_magic) != PF_MAGIC_LANE || pf_get64(l->l_fsid) != fs->fsid || pf_get64(l->l_seq) == 0 ||
	    pf_get32(l->l_len) > room)
		return false;
	return pf_get32(l->l_crc) ==
	       pf_crc32c_hole(l, sizeof *l + pf_get32(l->l_len), offsetof(struct pf_d_lane, l_crc));
}

/* Home is behind the journal and before the superblock's copy: a record may never touch those. */
static bool home_ok(const struct pf_fs *fs, uint64_t doff, uint64_t len)
{
	return doff >= fs->map_blk << PF_BLK_SHIFT && doff % PF_LINE == 0 && len != 0 && len % PF_LINE == 0 &&
	       pf_range_ok(doff, len, (fs->nblk - 1) << PF_BLK_SHIFT);
}

/* Walk the records of a sealed lane; write them home if @apply. -EUCLEAN when they do not fill it exactly. */
static int walk(const struct pf_fs *fs, uint32_t lane, bool apply)
{
	const struct pf_d_lane *l = lane_at(fs, lane);
	const uint8_t *p = (const uint8_t *)(l + 1);
	uint64_t left = pf_get32(l->l_len);

	if (pf_get32(l->l_index) != lane)
		return -EUCLEAN;
	for (uint32_t i = 0; i < pf_get32(l->l_nrec); i++) {
		const struct pf_d_jrec *rec = (const void *)p;
		uint64_t doff, len;

		if (left < sizeof *rec)
			return -EUCLEAN;
		doff = pf_get64(rec->j_doff);
		len = pf_get32(rec->j_len);
		left -= sizeof *rec;
		if (!home_ok(fs, doff, len) || len > left)
			return -EUCLEAN;
		if (apply)
			pf_pm_write(fs->pm, doff, p + sizeof *rec, len);
		p += sizeof *rec + len;
		left -= len;
	}
	return left == 0 ? 0 : -EUCLEAN;
}

int pf_jnl_lane_check(const struct pf_fs *fs, uint32_t lane)
{
	return is_sealed(fs, lane) ? walk(fs, lane, false) : 0;
}

static int by_seq(const void *a, const void *b)
{
	const struct sealed *x = a, *y = b;

	return (x->seq > y->seq) - (x->seq < y->seq);
}

/* The sealed lanes in order of replay, all of them checked. */
static int find_sealed(struct pf_fs *fs, struct sealed *found)
{
	int n = 0;

	for (uint32_t lane = 0; lane < fs->nlane; lane++) {
		if (!is_sealed(fs, lane))
			continue;
		if (walk(fs, lane, false) != 0) {
			pf_err("journal lane %" PRIu32 " is sealed but makes no sense", lane);
			return -EUCLEAN;
		}
		found[n++] = (struct sealed){ .seq = pf_get64(lane_at(fs, lane)->l_seq), .lane = lane };
	}
	qsort(found, (size_t)n, sizeof *found, by_seq);
	return n;
}

int pf_jnl_pending(struct pf_fs *fs)
{
	struct sealed found[PF_LANES_MAX];

	return find_sealed(fs, found);
}

static int empty(struct pf_fs *fs, uint32_t lane)
{
	const pf_le64 none = pf_put64(0);

	pf_pm_write(fs->pm, lane_doff(fs, lane) + offsetof(struct pf_d_lane, l_seq), &none, sizeof none);
	return PF_DRAIN(fs->pm, REPLAY_EMPTY);
}

int pf_jnl_replay(struct pf_fs *fs)
{
	struct sealed found[PF_LANES_MAX];
	int n = find_sealed(fs, found), err = 0;

	if (n < 0)
		return n;
	if (fs->opts.ro)
		return n == 0 ? 0 : -EROFS;
	for (int i = 0; i < n && err == 0 && PF_STEP(REPLAY); i++)
		err = walk(fs, found[i].lane, true);
	if (err == 0)
		err = PF_DRAIN(fs->pm, REPLAY_HOME);
	/* Oldest first, each durable before the next: a second crash then replays a suffix of the order, never an
	 * old lane alone. */
	for (int i = 0; i < n && err == 0; i++)
		err = empty(fs, found[i].lane);
	/* Torn lanes: emptied too, so that no part of one is ever looked at again. */
	for (uint32_t lane = 0; lane < fs->nlane && err == 0; lane++)
		if (pf_get64(lane_at(fs, lane)->l_seq) != 0)
			err = empty(fs, lane);
	return err != 0 ? err : n;
}
