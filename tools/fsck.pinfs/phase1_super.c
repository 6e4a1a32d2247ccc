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

/* What mkfs wrote once. */
static struct pf_d_super constant_part(const struct pf_d_super *sb)
{
	struct pf_d_super c = *sb;

	c.sb_crc = pf_put32(0);
	c.sb_state = pf_put32(0);
	c.sb_mount_time = pf_put64(0);
	c.sb_write_time = pf_put64(0);
	c.sb_mount_count = pf_put64(0);
	return c;
}

static bool same_constants(const struct pf_d_super *sb, const struct pf_d_super *copy)
{
	struct pf_d_super a = constant_part(sb), b = constant_part(copy);

	return memcmp(&a, &b, sizeof a) == 0;
}

static void check_supers(struct fsck *f)
{
	const struct pf_d_super *sb = fsck_at(f, 0);
	const struct pf_d_super *copy = fsck_at(f, f->fs.nblk - 1);
	const char *why = pf_sb_check(sb, f->fs.pm->bytes);
	const char *why_copy = pf_sb_check(copy, f->fs.pm->bytes);

	/* One of them is sound, or there would be no check. */
	if ((why != NULL || why_copy != NULL) && same_constants(sb, copy)) {
		f->torn_super = true;
		return;
	}
	if (why != NULL)
		fsck_problem(f, 1, "superblock: %s", why);
	else if (why_copy != NULL)
		fsck_problem(f, 1, "superblock copy: %s", why_copy);
	else if (!same_constants(sb, copy))
		fsck_problem(f, 1, "superblock copy: differs from the superblock");
}

static void check_lane(struct fsck *f, uint32_t i)
{
	const struct pf_d_lane *l = fsck_at(f, f->fs.lane_blk + (uint64_t)i * f->fs.lane_nblk);

	/* After a crash a lane may hold anything: only its checksum says that it is a transaction. */
	if (f->fs.clean && pf_get64(l->l_seq) != 0)
		fsck_problem(f, 1, "journal lane %" PRIu32 ": not empty, though unmounted clean", i);
}

static int replay(struct fsck *f)
{
	int n;

	f->fs.opts.ro = false;	/* the view is ours to write */
	n = pf_jnl_replay(&f->fs);
	if (n == -EUCLEAN) {
		fsck_problem(f, 1, "journal: a transaction cannot be replayed");
		return 0;
	}
	if (n < 0)
		return n;
	f->replayed = n;
	return 0;
}

int fsck_phase1(struct fsck *f)
{
	const char *why = NULL;
	int err;

	f->fs.opts.ro = true;
	err = pf_sb_load(&f->fs, &why);
	if (err == -EUCLEAN)
		fsck_problem(f, 1, "superblock: %s", why != NULL ? why : "both copies are damaged");
	else if (err != 0)
		(void)fprintf(f->out, "%s: %s\n", f->name, why != NULL ? why : strerror(-err));
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
