/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsx.h - random operations on a few files, compared with a model after every step.
 *
 * The idea is that of Apple's and SGI's fsx. A run is a number of steps from a seed. Each step is done by one of a
 * few worker processes in turn, never by two at once, so that a run can be repeated; each worker keeps descriptors,
 * windows (mmap through libpinfs) and mappings of the kernel (mmap past libpinfs) of the same files open between its
 * steps, so that what one process changes is seen by the others' mappings or is a failure. After a number of steps the
 * filesystem is unmounted, checked and mounted, or its daemon is killed. What the files should be is in memory shared
 * with the parent, and outlives them all.
 *
 * Two rules of the mount are built in: the kernel's cached pages of a file follow read(2), write(2) and truncate(2),
 * but not stores through windows; and stores to the kernel's pages are nowhere else until they are written back. So a
 * worker writes back before it touches a window, and has the kernel forget pages under which a window was written to.
 */
#ifndef TESTS_PROG_FSX_H
#define TESTS_PROG_FSX_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pinfs/compiler.h>

#define FSX_FILES 4
#define FSX_WORKERS 3
#define FSX_PAGE 4096UL
#define FSX_CHUNK (2UL << 20)
#define FSX_MAX (12UL << 20)		/* no file is longer */
#define FSX_PAGES (FSX_MAX / FSX_PAGE)
#define FSX_RING 32
#define FSX_NAME 32

/* What a run may do, beside reading, writing and changing sizes. */
#define FSX_WINDOW 1U			/* maps through libpinfs */
#define FSX_KERNEL 2U			/* maps past it */
#define FSX_NAMES 4U			/* renames and removes */

struct fsx_conf {
	const char *name;
	uint64_t seed;
	unsigned int steps;
	unsigned int may;		/* FSX_* */
	unsigned int files, workers;
	size_t max;			/* length of a file, at most FSX_MAX */
	const char *image;		/* size */
	const char *opts;		/* of the mount, or NULL */
	unsigned int remount;		/* every so many steps, 0: never */
	unsigned int crash;		/* the same, for kill -9 of the daemon */
	unsigned int mutate;		/* at this step the model is falsified: the run has to fail; 0: never */
	bool quiet;			/* a failure is what is wanted: nothing of it is printed */
};

/* What lseek(SEEK_HOLE) may say of a block. */
enum fsx_blk { FSX_HOLE, FSX_DATA, FSX_EITHER };

/* A page in the kernel's cache. */
#define FSX_DIRTY 1			/* stored to, perhaps not written back */
#define FSX_STALE 2			/* may be there, and be older than the file */

struct fsx_file {
	char name[FSX_NAME];
	uint32_t gen;			/* another number is another file */
	size_t size;
	uint8_t blk[FSX_PAGES];		/* enum fsx_blk */
	uint8_t cache[FSX_PAGES];	/* FSX_DIRTY | FSX_STALE */
	unsigned char bytes[FSX_MAX];
};

/* Shared by the parent and its workers. Whoever's turn it is owns all of it. */
struct fsx {
	struct fsx_conf conf;
	char mnt[4096];
	uint64_t rng;
	unsigned int step;
	unsigned int worker;		/* whose turn it is */
	uint32_t serial;		/* of names */
	uint32_t nlog;
	char log[FSX_RING][160];	/* the last operations */
	char why[512];			/* of the failure; empty: none */
	struct fsx_file file[FSX_FILES];
};

/* fsx_model.c: what each operation makes of the model. Nothing here touches a file. */
uint64_t fsx_rnd(struct fsx *x, uint64_t below);
/* The next operation, before it is done. */
void fsx_log(struct fsx *x, const char *fmt, ...) PF_PRINTF(2, 3);
/* Note a failure; only the first counts. Returns false, for `return fsx_bad(...)`. */
bool fsx_bad(struct fsx *x, const char *fmt, ...) PF_PRINTF(2, 3);
void fsx_fill(struct fsx *x, unsigned char *p, size_t len);
/* [off, off+len) of the file is @got; else a failure. */
bool fsx_same(struct fsx *x, const char *how, const struct fsx_file *f, size_t off, const unsigned char *got,
	      size_t len);

void fsx_m_create(struct fsx *x, struct fsx_file *f);
void fsx_m_write(struct fsx_file *f, size_t off, const unsigned char *src, size_t len, enum fsx_blk blk);
void fsx_m_truncate(struct fsx_file *f, size_t size);
/* [off, off+len) reads as zeros up to the end of the file, which does not move; whole blocks become @blk. */
void fsx_m_zero(struct fsx_file *f, size_t off, size_t len, enum fsx_blk blk);
/* Blocks are allocated but hold nothing. */
void fsx_m_alloc(struct fsx_file *f, size_t off, size_t len);
/* A store to a window may fill a chunk that was a hole as a whole, as the kernel's huge page faults do. */
void fsx_m_chunks(struct fsx_file *f, size_t off, size_t len);
void fsx_m_collapse(struct fsx_file *f, size_t off, size_t len);
void fsx_m_insert(struct fsx_file *f, size_t off, size_t len);
/* The kernel's cache. */
bool fsx_cached(const struct fsx_file *f, size_t off, size_t len, unsigned int what);
void fsx_cache(struct fsx_file *f, size_t off, size_t len, unsigned int set, unsigned int clear);

/* fsx_op.c and fsx_look.c: a worker. */
struct fsx_worker;
struct fsx_worker *fsx_worker_new(struct fsx *x, unsigned int number);
/* One random operation and its check. False: failed, x->why says how. */
bool fsx_worker_step(struct fsx_worker *w);
/* All that must survive a crash is written back; with @all, by fsync of every file. */
bool fsx_worker_sync(struct fsx_worker *w, bool all);
/* Let go of everything. */
bool fsx_worker_end(struct fsx_worker *w);
/* Names, sizes and bytes of all the files, by read(2), with nothing open. For the parent as well. */
bool fsx_check_all(struct fsx *x);

/* fsx_run.c: true when every step and every check was right. */
bool fsx_run(const struct fsx_conf *conf);
/* The step at which the last run failed; and what it said. */
unsigned int fsx_failed_at(void);
const char *fsx_failed_why(void);

#endif
