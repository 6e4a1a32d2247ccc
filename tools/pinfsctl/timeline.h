/* SPDX-License-Identifier: BSD-3-Clause */
/* timeline.h - what a picture of one break shows (timeline.c finds it in a trace, svg.c draws it). Times are ns. */
#ifndef TOOLS_PINFSCTL_TIMELINE_H
#define TOOLS_PINFSCTL_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <pinfs/compiler.h>

#define TL_LANES 24U
#define TL_BARS 256U
#define TL_MARKS 64U
#define TL_ARROWS 128U

enum tl_kind { TL_PIN, TL_DMA, TL_WAIT, TL_UNMAP, TL_WORK, TL_CALL, TL_PARKED, TL_LOOK, TL_KINDS };

struct tl_lane {
	char title[40], below[40];
};

struct tl_bar {
	unsigned int lane;
	enum tl_kind kind;
	int64_t from, to;		/* the same: a point in time */
	char label[96];
	bool bytes;			/* foff and len are shown on the axis of the file */
	uint64_t foff, len;
};

/* A numbered moment: a sentence, and where it is on the axis. */
struct tl_mark {
	int64_t at;
	char text[88];			/* as much as half of the picture holds */
};

struct tl_arrow {
	unsigned int from, to;		/* lanes */
	int64_t at, until;
};

struct timeline {
	char title[200], subtitle[200], file[32];
	uint64_t foff, len;		/* taken out of the file; UINT64_MAX: to the end */
	struct tl_lane lane[TL_LANES];
	unsigned int nlane;
	struct tl_bar bar[TL_BARS];
	unsigned int nbar;
	struct tl_mark mark[TL_MARKS];
	unsigned int nmark;
	struct tl_arrow arrow[TL_ARROWS];
	unsigned int narrow;
};

/* 0, or -1: nothing to draw. Sorts the marks. */
int svg_draw(struct timeline *t, FILE *f);

#endif
