/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c - runs the phases over one image until they find nothing, brings the result home and says what came of it.
 *
 * A phase that cannot go on ends the check; whatever was found until then has been printed.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "media/journal.h"
#include "media/super.h"
#include "op/op.h"

PF_PRINTF(3, 0) static void print_problem(struct fsck *f, int phase, const char *fmt, va_list ap)
{
	f->problems++;
	f->found++;
	if (!f->verbose && f->problems > FSCK_LINES_MAX) {
		if (f->problems == FSCK_LINES_MAX + 1)
			(void)fprintf(f->out, "further problems are counted only; -v shows them\n");
		return;
	}
	fsck_progress_end(f);
	(void)fprintf(f->out, "phase %d: ", phase);
	(void)vfprintf(f->out, fmt, ap);
	(void)fputc('\n', f->out);
}

void fsck_problem(struct fsck *f, int phase, const char *fmt, ...)
{
	va_list ap;

	f->unsafe++;
	va_start(ap, fmt);
	print_problem(f, phase, fmt, ap);
	va_end(ap);
}

void fsck_minor(struct fsck *f, int phase, const char *fmt, ...)
{
	va_list ap;

	/* What follows from a problem that PREEN may not mend is none of its either. */
	va_start(ap, fmt);
	print_problem(f, phase, fmt, ap);
	va_end(ap);
}

static const struct {
	const char *what;
	int (*fn)(struct fsck *f);
} phase[] = {
	{ "superblocks and journal", fsck_phase1 },
	{ "inodes", fsck_phase2 },
	{ "extents and block ownership", fsck_phase3 },
	{ "directories and links", fsck_phase4 },
	{ "orphans and free space", fsck_phase5 },
};

static void round_end(struct fsck *f)
{
	for (uint64_t i = 0; i < f->nr_clu; i++)
		free(f->clu[i].ino);
	free(f->clu);
	f->clu = NULL;
	f->nr_clu = f->room_clu = 0;
	fsck_blocks_fini(f);
}

static int round_run(struct fsck *f)
{
	int err = 0;

	f->found = 0;
	f->none_left[0] = f->none_left[1] = false;
	f->broken = f->orphans_bad = f->badlist_bad = f->all_claimed = false;
	f->files = f->orphans = f->blocks = f->map_group = f->alloc_at = 0;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(phase) && err == 0; i++) {
		if (f->verbose)
			(void)fprintf(f->out, "%sphase %u: %s\n", f->round > 0 ? "again, " : "", i + 1, phase[i].what);
		err = phase[i].fn(f);
		fsck_progress_end(f);
	}
	return err;
}

/* Until nothing is found. -EUCLEAN: there always is something. */
static int run_rounds(struct fsck *f)
{
	int err;

	for (f->round = 0; f->round < FSCK_ROUNDS; f->round++) {
		err = round_run(f);
		if (err == 0 && f->stuck)
			return -EUCLEAN;
		if (err != -EAGAIN && err != 0)
			return err;
		if (err == 0 && f->found == 0)
			return 0;
		round_end(f);
	}
	return -EUCLEAN;
}

/* ---- what a mount would do ---- */

static bool marked_clean(const struct fsck *f)
{
	const struct pf_d_super *sb = fsck_at(f, 0);

	return pf_sb_check(sb, f->fs.pm->bytes) == NULL && (pf_get32(sb->sb_state) & PF_SB_CLEAN) != 0;
}

static bool unfinished(const struct fsck *f)
{
	return !marked_clean(f) || f->orphans != 0;
}

/* Finish truncates, free unlinked inodes and mark the image clean, by mounting the view: its objects are sound now. */
static int finish(struct fsck *f)
{
	const struct pf_opts opts = { .policy = { .on_busy = PF_BUSY_WAIT }, .window = PF_CHUNK_SIZE,
				      .pmem = PF_PMEM_CPU };
	struct pf_mount_info info;
	struct pf_fs *fs;
	int err;

	f->finished += f->orphans;
	err = pf_fs_mount_pm(f->fs.pm, &opts, &fs, &info);
	if (err != 0) {
		(void)fprintf(f->out, "%s: cannot be mounted: %s\n", f->name, info.why);
		return -EUCLEAN;
	}
	pf_fs_unmount_pm(fs);
	return marked_clean(f) ? 0 : -EUCLEAN;
}

/* ---- what came of it ---- */

static void print_clean(struct fsck *f)
{
	const bool done = f->mode != FSCK_CHECK;

	(void)fprintf(f->out, "%s: clean, %" PRIu64 " files, %" PRIu64 "/%" PRIu64 " blocks", f->name, f->files,
		      f->blocks, f->fs.nblk);
	/* Not problems: the next mount deals with them. */
	if (f->torn_super)
		(void)fprintf(f->out, ", a torn superblock %s", done ? "rewritten" : "to rewrite");
	if (f->replayed != 0)
		(void)fprintf(f->out, ", %d transactions %s", f->replayed, done ? "replayed" : "to replay");
	if (f->orphans + f->finished != 0)
		(void)fprintf(f->out, ", %" PRIu64 " orphans %s", f->orphans + f->finished,
			      done ? "finished" : "to finish");
	(void)fputc('\n', f->out);
}

static void print_problems(struct fsck *f, int err)
{
	const char *s = f->problems == 1 ? "" : "s";

	(void)fprintf(f->out, "%s: %" PRIu64 " problem%s", f->name, f->problems, s);
	if (err != 0 && err != -EUCLEAN)
		(void)fprintf(f->out, " so far");
	else if (err != 0)
		(void)fprintf(f->out, ", not all of which can be repaired");
	else if (f->mode == FSCK_CHECK)
		(void)fprintf(f->out, ", which fsck.pinfs -y would repair");
	else if (f->mode == FSCK_PREEN && f->unsafe != 0)
		(void)fprintf(f->out, ", not repaired: run fsck.pinfs -y");
	else
		(void)fprintf(f->out, " repaired");
	(void)fputc('\n', f->out);
}

static int exit_code(const struct fsck *f, int err)
{
	if (err == -EINTR)
		return FSCK_CANCELLED;
	if (err != 0 && err != -EUCLEAN)
		return FSCK_ERROR | (f->problems != 0 ? FSCK_UNCORRECTED : 0);
	if (err == -EUCLEAN || (f->problems != 0 && f->mode == FSCK_CHECK) || (f->mode == FSCK_PREEN && f->unsafe != 0))
		return FSCK_UNCORRECTED;
	return f->problems != 0 ? FSCK_CORRECTED : FSCK_OK;
}

/* ---- the whole ---- */

/* First of all what a mount does first: the device then is as its last user left it, whatever becomes of the check. */
static int replay_device(struct fsck *f, struct pf_pm *pm)
{
	struct pf_fs dev = { .pm = pm };
	const char *why;
	int n;

	if (f->mode == FSCK_CHECK || pf_sb_load(&dev, &why) != 0 || pf_jnl_pending(&dev) <= 0)
		return 0;	/* whoever cannot be read is mended in the view first */
	n = pf_jnl_replay(&dev);
	if (n > 0)
		f->replayed = n;
	return n < 0 ? n : 0;
}

/* A clean image is not looked at when the machine boots. */
static bool may_skip(struct fsck *f, struct pf_pm *pm)
{
	struct pf_fs dev = { .pm = pm };
	const char *why;

	if (f->mode != FSCK_PREEN || f->force || pf_sb_load(&dev, &why) != 0 || !dev.clean)
		return false;
	(void)fprintf(f->out, "%s: clean\n", f->name);
	return true;
}

static int bring_home(struct fsck *f, struct pf_pm *pm, struct fsck_changes *c, const struct pf_d_super *final)
{
	struct pf_fs dev = f->fs;
	int err;

	dev.pm = pm;
	err = fsck_writeback(&dev, c, final, f->view_replayed);
	if (err != 0)
		(void)fprintf(f->out, "%s: %s\n", f->name, err == -EIO ? "cannot be written" : strerror(-err));
	return err;
}

int fsck_check(struct fsck *f, struct pf_pm *pm, const char *name)
{
	struct fsck_changes changes = { 0 };
	struct pf_d_super final;
	bool write = false;
	struct pf_pm view;
	int err, fin = 0;

	f->name = name;
	if (may_skip(f, pm))
		return FSCK_OK;
	err = replay_device(f, pm);
	if (err != 0)
		return FSCK_ERROR;
	err = fsck_view_init(&view, pm);
	if (err != 0)
		return FSCK_ERROR;
	f->fs.pm = &view;
	err = run_rounds(f);
	if (err == -ENOMEM)
		(void)fprintf(f->out, "%s: out of memory\n", name);
	if (err == -EINTR)
		(void)fprintf(f->out, "%s: cancelled, nothing was written\n", name);
	/* What a mount has finished is looked at again. */
	for (unsigned int i = 0; i < 2 && err == 0 && fin == 0 && f->mode != FSCK_CHECK && unfinished(f); i++) {
		fin = finish(f);
		round_end(f);
		if (fin == 0)
			err = run_rounds(f);
	}
	/* What could be mended of a wreck is written too. */
	write = f->mode == FSCK_REPAIR || (f->mode == FSCK_PREEN && f->unsafe == 0);
	write = write && f->fs.nblk != 0 && (err == 0 || err == -EUCLEAN);
	if (write) {
		int e = fsck_view_changes(&view, f->view_replayed, &changes);

		memcpy(&final, fsck_at(f, 0), sizeof final);
		err = e != 0 ? e : err;
		write = e == 0;
	}
	round_end(f);
	fsck_view_fini(&view);
	if (write) {
		int e = bring_home(f, pm, &changes, &final);

		err = e != 0 ? e : err;
	}
	fsck_changes_free(&changes);
	if (err == 0)
		err = fin;
	if (f->problems != 0)
		print_problems(f, err);
	else if (err == 0)
		print_clean(f);
	return exit_code(f, err);
}
