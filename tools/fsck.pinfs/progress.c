/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * progress.c - how far a long check is: a bar for people, lines for programs, both as e2fsck's -C has them; and the
 * place where a check that shall not go on ends.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define BAR 40

static void show_bar(struct fsck *f, int phase, unsigned int mille)
{
	char bar[BAR + 1];
	size_t n = mille * BAR / 1000;

	memset(bar, '=', n);
	memset(bar + n, ' ', BAR - n);
	bar[BAR] = '\0';
	(void)fprintf(f->out, "\r%s: phase %d |%s| %3u.%u%% ", f->name, phase, bar, mille / 10, mille % 10);
	(void)fflush(f->out);
}

int fsck_step(struct fsck *f, int phase, uint64_t done, uint64_t all)
{
	struct fsck_progress *p = &f->progress;
	unsigned int mille;

	if (f->cancel != NULL && *f->cancel != 0)
		return -EINTR;
	if (!p->on || phase == 0 || all == 0)
		return 0;
	mille = (unsigned int)((double)done / (double)all * 1000.0);
	if (mille > 1000)
		mille = 1000;
	if (p->phase == phase && mille == p->shown)
		return 0;
	p->phase = phase;
	p->shown = mille;
	if (p->fd == 0)
		show_bar(f, phase, mille);
	else
		(void)dprintf(p->fd, "%d %" PRIu64 " %" PRIu64 " %s\n", phase, done, all, f->name);
	return 0;
}

/* Before anything else is printed. */
void fsck_progress_end(struct fsck *f)
{
	if (f->progress.on && f->progress.fd == 0 && f->progress.phase != 0)
		(void)fprintf(f->out, "\r%*s\r", (int)strlen(f->name) + BAR + 24, "");
	f->progress.phase = 0;
}
