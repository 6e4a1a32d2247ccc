/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase1_super.c - phase 1: both superblocks, the journal lanes, and the replay of what they hold.
 *
 * Replay goes into the private view, by the code that a mount runs: the phases behind see the image as a mount would.
 * The two superblocks may differ in what a mount changes, as a crash can come between them; it can also tear one of
 * them, and then the next mount mends it from the other.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "media/journal.h"
#include "media/super.h"

static void copy_super(struct fsck *f, uint64_t from, uint64_t to)
{
	pf_pm_write(f->fs.pm, to << PF_BLK_SHIFT, fsck_at(f, from), sizeof(struct pf_d_super));
}

static void check_supers(struct fsck *f)
{
	const uint64_t last = f->fs.nblk - 1;
	const struct pf_d_super *sb = fsck_at(f, 0), *copy = fsck_at(f, last);
	const char *why = pf_sb_check(sb, f->fs.pm->bytes);
	const char *why_copy = pf_sb_check(copy, f->fs.pm->bytes);

	/* One of them is sound, or there would be no check. */
	if ((why != NULL || why_copy != NULL) && fsck_same_constants(sb, copy))
		f->torn_super = true;
	else if (why != NULL)
		fsck_problem(f, 1, "superblock: %s", why);
	else if (why_copy != NULL)
		fsck_problem(f, 1, "superblock copy: %s", why_copy);
	else if (!fsck_same_constants(sb, copy))
		fsck_problem(f, 1, "superblock copy: differs from the superblock");
	else
		return;
	copy_super(f, why != NULL ? last : 0, why != NULL ? 0 : last);
}

static void clear_state(struct fsck *f, uint64_t dblk)
{
	struct pf_d_super *sb = fsck_edit(f, fsck_at(f, dblk), sizeof *sb);

	sb->sb_state = pf_put32(pf_get32(sb->sb_state) & ~(uint32_t)PF_SB_CLEAN);
	sb->sb_crc = pf_put32(pf_sb_sum(sb));
}

void fsck_not_clean(struct fsck *f)
{
	clear_state(f, 0);
	clear_state(f, f->fs.nblk - 1);
	f->fs.clean = false;
}

static void empty_lane(struct fsck *f, const struct pf_d_lane *l)
{
	struct pf_d_lane *rw = fsck_edit(f, l, sizeof *rw);

	rw->l_seq = pf_put64(0);
}

static void check_lane(struct fsck *f, uint32_t i)
{
	const struct pf_d_lane *l = fsck_at(f, f->fs.lane_blk + (uint64_t)i * f->fs.lane_nblk);

	/* After a crash a lane may hold anything: only its checksum says that it is a transaction. */
	if (f->fs.clean && pf_get64(l->l_seq) != 0) {
		fsck_problem(f, 1, "journal lane %" PRIu32 ": not empty, though unmounted clean", i);
		empty_lane(f, l);
	} else if (pf_jnl_lane_check(&f->fs, i) != 0) {
		fsck_problem(f, 1, "journal: a transaction cannot be replayed: lane %" PRIu32 " makes no sense", i);
		empty_lane(f, l);
	}
}

static int replay(struct fsck *f)
{
	int n;

	f->fs.opts.ro = false;	/* the view is ours to write */
	n = pf_jnl_replay(&f->fs);
	if (n < 0)
		return n;
	f->replayed += n;
	f->view_replayed = f->view_replayed || n > 0;
	return 0;
}

static int load(struct fsck *f)
{
	const char *why = NULL, *none;
	int err;

	/* With a feature that may only be read, this version may look, but not mend. */
	f->fs.opts.ro = f->mode == FSCK_CHECK;
	err = pf_sb_load(&f->fs, &why);
	/* Neither is a pinfs superblock: so the device is none, unless the rest of it says that it is. */
	if ((err == -EUCLEAN || err == -EINVAL) && fsck_guess_super(f) == 0) {
		fsck_problem(f, 1, "superblock: %s, and its copy is damaged too",
			     why != NULL ? why : "both copies are damaged");
		err = pf_sb_load(&f->fs, &none);
	}
	if (err == -EUCLEAN)
		fsck_problem(f, 1, "superblock: %s", why != NULL ? why : "both copies are damaged");
	else if (err != 0)
		(void)fprintf(f->out, "%s: %s\n", f->name, why != NULL ? why : strerror(-err));
	return err;
}

int fsck_phase1(struct fsck *f)
{
	int err = load(f);

	if (err != 0)
		return err;
	err = fsck_blocks_init(f);
	if (err != 0)
		return err;
	check_supers(f);
	for (uint32_t i = 0; i < f->fs.nlane; i++)
		check_lane(f, i);
	err = replay(f);
	fsck_claim_fixed(f, FSCK_CLAIM);
	return err;
}
