/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c - runs the phases over one image and says what came of it.
 *
 * A phase that cannot go on ends the check; whatever was found until then has been printed.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void fsck_problem(struct fsck *f, int phase, const char *fmt, ...)
{
	va_list ap;

	f->problems++;
	if (!f->verbose && f->problems > FSCK_LINES_MAX) {
		if (f->problems == FSCK_LINES_MAX + 1)
			(void)fprintf(f->out, "further problems are counted only; -v shows them\n");
		return;
	}
	(void)fprintf(f->out, "phase %d: ", phase);
	va_start(ap, fmt);
	(void)vfprintf(f->out, fmt, ap);
	va_end(ap);
	(void)fputc('\n', f->out);
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

static void summary(struct fsck *f)
{
	if (f->problems != 0) {
		(void)fprintf(f->out, "%s: %" PRIu64 " problem%s\n", f->name, f->problems, f->problems == 1 ? "" : "s");
		return;
	}
	(void)fprintf(f->out, "%s: clean, %" PRIu64 " files, %" PRIu64 "/%" PRIu64 " blocks", f->name, f->files,
		      f->blocks, f->fs.nblk);
	/* Not problems: the next mount deals with them. */
	if (f->torn_super)
		(void)fprintf(f->out, ", a torn superblock to rewrite");
	if (f->replayed != 0)
		(void)fprintf(f->out, ", %d transactions to replay", f->replayed);
	if (f->orphans != 0)
		(void)fprintf(f->out, ", %" PRIu64 " orphans to finish", f->orphans);
	(void)fputc('\n', f->out);
}

int fsck_check(struct fsck *f, struct pf_pm *pm, const char *name)
{
	struct pf_pm view;
	int err, rc = FSCK_OK;

	f->name = name;
	err = fsck_view_init(&view, pm);
	if (err != 0)
		return FSCK_ERROR;
	f->fs.pm = &view;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(phase) && err == 0; i++) {
		if (f->verbose)
			(void)fprintf(f->out, "phase %u: %s\n", i + 1, phase[i].what);
		err = phase[i].fn(f);
	}
	if (err == -ENOMEM)
		(void)fprintf(f->out, "%s: out of memory\n", name);
	if (err == 0 || f->problems != 0)
		summary(f);
	if (f->problems != 0)
		rc |= FSCK_UNCORRECTED;
	if (err != 0 && err != -EUCLEAN)
		rc |= FSCK_ERROR;

	for (uint64_t i = 0; i < f->nr_clu; i++)
		free(f->clu[i].ino);
	free(f->clu);
	fsck_blocks_fini(f);
	fsck_view_fini(&view);
	return rc;
}
