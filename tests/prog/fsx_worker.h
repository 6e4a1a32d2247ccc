/* SPDX-License-Identifier: BSD-3-Clause */
/* fsx_worker.h - a worker from inside: what it has open. Private to fsx_op.c and fsx_look.c. */
#ifndef TESTS_PROG_FSX_WORKER_H
#define TESTS_PROG_FSX_WORKER_H

#include "prog/fsx.h"

#define BUF (1UL << 20)

struct map {
	unsigned char *p;	/* NULL: none */
	size_t off, len;
	bool window;
};

struct handle {
	uint32_t gen;		/* of the file that is open; 0: none */
	int fd;
	int direct;		/* a second descriptor, O_DIRECT */
	struct map window, kernel;
};

struct fsx_worker {
	struct fsx *x;
	unsigned int number;
	struct handle h[FSX_FILES];
	/* A file that this worker removed and still holds, and what it should be. */
	struct handle ghost;
	struct fsx_file *ghost_file;
	unsigned char *buf;	/* BUF bytes, aligned for O_DIRECT */
};

const char *fsx_path(const struct fsx *x, const char *name);
bool fsx_sys(struct fsx_worker *w, const char *what, bool ok);
bool fsx_let_go(struct fsx_worker *w, struct handle *h);
/* The descriptor of file @i as it is now: another worker may have put a new file in its place. */
struct handle *fsx_use(struct fsx_worker *w, unsigned int i);
/* A mapping of some or all of file @i that shows a byte of it at least. NULL with x->why, or when the file is empty. */
struct map *fsx_mapping(struct fsx_worker *w, unsigned int i, bool window);
/* What was stored to the kernel's pages of this file is in the file. */
bool fsx_written_back(struct fsx_worker *w, unsigned int i);
/* A write(2) of the same bytes makes the kernel drop those pages of [off, off+len) under which a window was written. */
bool fsx_kernel_sees(struct fsx_worker *w, unsigned int i, size_t off, size_t len);
/* The file by one of the ways to look at it; a part of it when it is long, the touched part included. */
bool fsx_look(struct fsx_worker *w, unsigned int i, size_t off, size_t len);

#endif
