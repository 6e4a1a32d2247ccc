/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flight.h - plays that are the same for every interface through which a program begins transfers and is told later
 * that they have ended. The program is the test itself, which does nothing for pinfs; slowfs.h says when a transfer
 * ends.
 */
#ifndef TESTS_PIN_FLIGHT_H
#define TESTS_PIN_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "pin/slowfs.h"
#include "pin/stage.h"

struct flight {
	int fd;
	bool write, vector;
	void *buf;		/* or iovec[len] */
	size_t len;
	off_t off;
	uint64_t key;
};

struct engine {
	const char *name;
	bool (*open)(unsigned int room);			/* false: not here, and said so */
	long (*begin)(const struct flight *f, unsigned int n);	/* how many, or -errno */
	long (*end)(uint64_t *key);				/* wait for one: its result */
	void (*close)(void);
};

/* The stage of a play: file f of 16 pages, a window of it, and the slow file, opened O_DIRECT. */
struct play {
	struct pt_fs *fs;
	struct slow *slow;
	char path[STAGE_PATH];
	char *win;
	int fd;
};
bool play_begin(struct play *p, const struct engine *e, const char *opts);
void play_end(struct play *p, const struct engine *e);
/* A transfer of pages [first, + n) of the window, and the same of the file. */
struct flight play_pages(const struct play *p, unsigned int first, unsigned int n, bool write, uint64_t key);
/* Until this process has @n pins; false after a minute. */
bool play_pins(const struct play *p, size_t n);

void play_waits(const struct engine *e, bool write);	/* truncate waits for the end, which nobody collects */
void play_grows(const struct engine *e);		/* so does growing under break=file */
void play_policies(const struct engine *e);		/* ebusy, defer, and unsafe: the damage */
void play_refused(const struct engine *e);		/* what cannot be held, or is not taken, holds nothing */
void play_many(const struct engine *e);			/* thousands, collected in every way */
/*
 * One process always has a transfer under way. fair=yes: those that come later wait, however many it has; with
 * @starves, the twin, each is granted, and the truncate waits as long as that goes on.
 */
void play_stream(const struct engine *e, const char *opts, bool starves);
/* Under fair=yes: who has a pin that only he can end is not kept from a transfer, which he may need for that. */
void play_needs_more(const struct engine *e);
/* Of several requests, those before one that waits for a truncate are not kept back. */
void play_in_parts(const struct engine *e);
/* This program once more, for each of these cases (a list that ends with NULL), as if there were no privilege for
 * faults of the kernel. */
void play_unprivileged(const char *const *cases);
void play_fork(const struct engine *e);
void play_killed(const struct engine *e);

#endif
