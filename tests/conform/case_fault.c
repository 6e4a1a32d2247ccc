/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_fault.c - what a load or a store through a mapping finds: holes, unwritten extents, data, the end of the file;
 * what it allocates and which times it sets. Two of them at the same moment: race.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include "conform/cases.h"
#include "conform/race.h"

#define LEN (4 * CF_PAGE)
#define RW (PROT_READ | PROT_WRITE)

/* ---- one access to a page in each state ---- */

enum state { HOLE, UNWRITTEN, MAPPED, BEYOND, SHARED };
enum access { LOAD, STORE, COPY };
struct cell {
	enum state state;
	enum access access;
};

/* Four pages; the second, or the one behind the last, is the one in question. */
static int in_state(struct cf *c, enum state state)
{
	int fd;

	if (state == MAPPED || state == BEYOND)
		return cf_file(c, "f", LEN);
	if (state == SHARED) {
		int other = cf_file(c, "g", LEN);

		fd = cf_holes(c, "f", LEN);
		if (ioctl(fd, FICLONE, other) != 0)
			cf_na(c, "the filesystem has no shared extents");
		CF_SYS(c, close(other));
		return fd;
	}
	fd = cf_holes(c, "f", LEN);
	if (state == UNWRITTEN)
		CF_SYS(c, fallocate(fd, 0, (off_t)CF_PAGE, (off_t)CF_PAGE));
	return fd;
}

static void one_access(struct cf *c)
{
	const struct cell *a = cf_arg(c);
	const size_t off = a->state == BEYOND ? LEN : CF_PAGE;
	int fd = in_state(c, a->state);
	char *p = a->access == COPY ? private_map(c, fd, 2 * LEN) : cf_map(c, fd, 0, 2 * LEN, RW);
	char *q = p + off, seen = 0;
	uint64_t had = blocks_of(c, fd), has;
	const char *word = cf_touch_word(q, a->access != LOAD);

	has = blocks_of(c, fd);
	if (strcmp(word, "returns") != 0) {
		cf_answer(c, "%s", word);
		return;
	}
	if (a->access == LOAD) {
		cf_answer(c, "%s%s", cf_content_of(q, CF_PAGE), has != had ? ", allocates" : "");
		return;
	}
	q[0] = CF_DMA;
	if (a->state == SHARED && strcmp(cf_content(c, cf_path(c, "g"), 0, LEN), "old") != 0) {
		cf_answer(c, "the other file changes");
		return;
	}
	if (a->access == COPY) {
		cf_answer(c, "copy of %s, file %s%s", cf_content_of(q + 1, CF_PAGE - 1),
			  cf_content(c, cf_path(c, "f"), (off_t)off, CF_PAGE), has != had ? ", allocates" : "");
		return;
	}
	if (pread(fd, &seen, 1, (off_t)off) != 1 || seen != CF_DMA)
		cf_answer(c, "not seen by read(2)");
	else
		cf_answer(c, "%s around, %s", cf_content_of(q + 1, CF_PAGE - 1),
			  has == had ? "allocates nothing" : has == had + 1 ? "allocates" : "allocates more");
}

/* The end of the file inside a page: all of the page can be had. */
static void last_page(struct cf *c)
{
	int fd = cf_file(c, "f", 100);
	char *p = cf_map(c, fd, 0, CF_PAGE, RW);

	if (cf_touch(p + 2000, false) != 0 || cf_touch(p + 3000, true) != 0)
		cf_answer(c, "SIGBUS");
	else
		cf_answer(c, "%s, size %lld", cf_content_of(p + 100, 1900), (long long)cf_size(c, cf_path(c, "f")));
}

/* Private pages that were not stored to are the file's, those that were are not. */
static void copy_stays(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	char *p = private_map(c, fd, LEN), page[CF_PAGE];

	memset(page, 'n', sizeof page);
	CF_MUST(c, cf_touch(p, true) == 0);
	p[0] = 'p';
	CF_MUST(c, p[CF_PAGE] == CF_BYTE);
	CF_MUST(c, pwrite(fd, page, sizeof page, 0) == (ssize_t)sizeof page);
	CF_MUST(c, pwrite(fd, page, sizeof page, (off_t)CF_PAGE) == (ssize_t)sizeof page);
	cf_answer(c, "copied page %s, other page %s", p[0] == 'p' && p[1] == CF_BYTE ? "stays" : "changes",
		  p[CF_PAGE] == 'n' ? "follows" : "stays");
}

/* ---- the file's size ---- */

static void growth(struct cf *c)
{
	int fd = cf_file(c, "f", CF_PAGE);
	char *p = cf_map(c, fd, 0, 2 * CF_PAGE, RW);
	const char *before = cf_touch_word(p + CF_PAGE, false), *after;

	CF_SYS(c, ftruncate(fd, (off_t)(2 * CF_PAGE)));
	if (cf_touch(p + CF_PAGE, false) != 0) {
		cf_answer(c, "%s, still after it", before);
		return;
	}
	after = cf_content_of(p + CF_PAGE, CF_PAGE);
	cf_answer(c, "%s, then %s, store %s", before, after, cf_touch_word(p + CF_PAGE, true));
}

static void shrinkage(struct cf *c)
{
	int fd = cf_file(c, "f", 2 * CF_PAGE);
	char *p = cf_map(c, fd, 0, 2 * CF_PAGE, RW);
	const char *load, *store;

	CF_MUST(c, cf_touch(p + CF_PAGE, true) == 0);
	CF_SYS(c, ftruncate(fd, (off_t)CF_PAGE));
	load = cf_touch_word(p + CF_PAGE, false);
	store = cf_touch_word(p + CF_PAGE, true);
	cf_answer(c, "load %s, store %s, rest %s", load, store, cf_content_of(p, CF_PAGE));
}

/* The same for a mapping of another process, and for a private page that was copied. */
struct other {
	char *p;
	_Atomic uint32_t *step;
	struct cf *c;
};

static long other_process(void *arg)
{
	struct other *o = arg;
	int sig = cf_touch(o->p + CF_PAGE, true);

	cf_mark(o->step, 1);
	cf_await(o->c, o->step, 2);
	return sig != 0 ? -EIO : cf_touch(o->p + CF_PAGE, false);
}

static void shrinkage_elsewhere(struct cf *c)
{
	int fd = cf_file(c, "f", 2 * CF_PAGE);
	struct other o = { cf_map(c, fd, 0, 2 * CF_PAGE, RW), cf_shared(c, sizeof(uint32_t)), c };
	struct cf_call *call = cf_call(c, CF_PROCESS, other_process, &o);
	long sig;

	cf_await(c, o.step, 1);
	CF_SYS(c, ftruncate(fd, (off_t)CF_PAGE));
	cf_mark(o.step, 2);
	sig = cf_result(call);
	cf_answer(c, "%s", sig == SIGBUS ? "SIGBUS" : sig == 0 ? "returns" : "another answer");
}

static void shrinkage_of_copy(struct cf *c)
{
	int fd = cf_file(c, "f", 2 * CF_PAGE);
	char *p = private_map(c, fd, 2 * CF_PAGE);

	CF_MUST(c, cf_touch(p + CF_PAGE, true) == 0);
	CF_SYS(c, ftruncate(fd, (off_t)CF_PAGE));
	cf_answer(c, "%s", cf_touch_word(p + CF_PAGE, false));
}

static void tail_of_shrink(struct cf *c)
{
	int fd = cf_file(c, "f", CF_PAGE);
	char *p = cf_map(c, fd, 0, CF_PAGE, RW);

	CF_MUST(c, cf_touch(p, true) == 0);
	CF_SYS(c, ftruncate(fd, 100));
	CF_SYS(c, ftruncate(fd, (off_t)CF_PAGE));
	cf_answer(c, "mapping %s, read(2) %s", cf_content_of(p + 100, CF_PAGE - 100),
		  cf_content(c, cf_path(c, "f"), 100, CF_PAGE - 100));
}

/* Stores behind the end of the file, in its last page; then the file grows over them. */
static void tail_of_store(struct cf *c)
{
	int fd = cf_file(c, "f", 100);
	char *p = cf_map(c, fd, 0, CF_PAGE, RW);

	CF_MUST(c, cf_touch(p + 200, true) == 0);
	memset(p + 200, 'x', 1000);
	CF_SYS(c, ftruncate(fd, (off_t)CF_PAGE));
	cf_answer(c, "mapping %s, read(2) %s", cf_content_of(p + 100, CF_PAGE - 100),
		  cf_content(c, cf_path(c, "f"), 100, CF_PAGE - 100));
}

static void tail_of_punch(struct cf *c)
{
	int fd = cf_file(c, "f", 3 * CF_PAGE);
	char *p = cf_map(c, fd, 0, 3 * CF_PAGE, RW);
	const char *mid, *ends;

	CF_MUST(c, cf_touch(p, true) == 0);
	p[0] = CF_BYTE;
	CF_SYS(c, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, (off_t)(2 * CF_PAGE)));
	mid = cf_content_of(p + 100, 2 * CF_PAGE);
	ends = strcmp(cf_content_of(p, 100), "old") == 0 &&
	       strcmp(cf_content_of(p + 2 * CF_PAGE + 100, CF_PAGE - 100), "old") == 0 ? "old" : "changed";
	cf_answer(c, "inside %s, outside %s", mid, ends);
}

/* A file that grows by a few bytes at a time, each of them stored through the mapping: none is lost. */
static void grown_bytewise(struct cf *c)
{
	const size_t len = 3 * CF_PAGE, step = 97;
	int fd = cf_holes(c, "f", 0);
	char *p = cf_map(c, fd, 0, len, RW), got[3 * CF_PAGE];
	size_t size = 0;

	while (size < len) {
		const size_t to = size + step < len ? size + step : len;

		CF_SYS(c, fallocate(fd, 0, (off_t)size, (off_t)(to - size)));
		for (; size < to; size++)
			p[size] = (char)(size % 251 + 1);
	}
	CF_MUST(c, pread(fd, got, sizeof got, 0) == (ssize_t)sizeof got);
	for (size_t i = 0; i < len; i++)
		if (got[i] != (char)(i % 251 + 1) || p[i] != got[i]) {
			cf_note(c, "byte %zu is %d in the mapping and %d for read(2)", i, p[i], got[i]);
			cf_answer(c, "bytes are lost");
			return;
		}
	cf_answer(c, "all bytes there");
}

/* Blocks that were somebody's before. */
static void recycled(struct cf *c)
{
	const size_t n = 64;
	int fd = cf_file(c, "old", n * CF_PAGE);
	char *p;

	CF_SYS(c, fsync(fd));
	CF_SYS(c, close(fd));
	CF_SYS(c, unlink(cf_path(c, "old")));
	fd = cf_holes(c, "f", n * CF_PAGE);
	p = cf_map(c, fd, 0, n * CF_PAGE, RW);
	for (size_t i = 0; i < n; i++) {
		CF_MUST(c, cf_touch(p + i * CF_PAGE, true) == 0);
		if (strcmp(cf_content_of(p + i * CF_PAGE + 1, CF_PAGE - 1), "zero") != 0) {
			cf_answer(c, "stale bytes");
			return;
		}
	}
	cf_answer(c, "zero");
}

/* ---- times and counters ---- */

enum when { AT_LOAD, AT_FIRST, AT_SECOND, AT_AFTER_FSYNC };
struct times {
	enum when when;
};

static void times(struct cf *c)
{
	const enum when when = ((const struct times *)cf_arg(c))->when;
	const struct timespec past[2] = { { 1000, 0 }, { 1000, 0 } };
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, RW);

	CF_SYS(c, fsync(fd));
	if (when == AT_SECOND || when == AT_AFTER_FSYNC)
		p[0] = 'a';
	if (when == AT_AFTER_FSYNC)
		CF_SYS(c, fsync(fd));
	CF_SYS(c, futimens(fd, past));
	if (when == AT_LOAD)
		CF_MUST(c, cf_touch(p, false) == 0);
	else
		p[1] = 'b';
	cf_answer(c, "%s", now_of(c, fd).stx_mtime.tv_sec == 1000 ? "stays" : "moves");
}

static void major(struct cf *c)
{
	const enum access access = ((const struct cell *)cf_arg(c))->access;
	int fd = cf_holes(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, RW);
	struct rusage a, b;

	CF_SYS(c, getrusage(RUSAGE_THREAD, &a));
	if (access == STORE)
		p[0] = 'x';
	else
		CF_MUST(c, *(volatile char *)p == 0);
	CF_SYS(c, getrusage(RUSAGE_THREAD, &b));
	cf_answer(c, "%s", b.ru_majflt != a.ru_majflt ? "major" : "minor");
}

static void allocations(struct cf *c)
{
	const size_t n = 16;
	int fd = cf_holes(c, "f", n * CF_PAGE);
	char *p = cf_map(c, fd, 0, n * CF_PAGE, RW);
	uint64_t had = blocks_of(c, fd);
	unsigned int odd = 0;

	/* Every other page, so that none is allocated together with the one before it. */
	for (size_t i = 0; i < n; i += 2) {
		uint64_t has;

		p[i * CF_PAGE] = 'x';
		p[i * CF_PAGE + 1] = 'y';
		has = blocks_of(c, fd);
		odd += has != had + 1;
		had = has;
	}
	cf_answer(c, odd == 0 ? "one block each" : odd <= 1 ? "one block each, and one for the map" : "other numbers");
}

/* ---- advice ---- */

struct advice {
	long (*give)(struct cf *c, int fd, char *p);
};

static long dontneed(struct cf *c, int fd, char *p) { (void)c; (void)fd; return cf_rc(madvise(p, LEN, MADV_DONTNEED)); }
static long willneed(struct cf *c, int fd, char *p) { (void)c; (void)fd; return cf_rc(madvise(p, LEN, MADV_WILLNEED)); }
static long sequential(struct cf *c, int fd, char *p)
{
	(void)c;
	(void)fd;
	return cf_rc(madvise(p, LEN, MADV_SEQUENTIAL));
}

static long fadv_need(struct cf *c, int fd, char *p)
{
	(void)c;
	(void)p;
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
}

static long fadv_dont(struct cf *c, int fd, char *p)
{
	(void)c;
	(void)p;
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static long read_ahead(struct cf *c, int fd, char *p)
{
	(void)c;
	(void)p;
	return cf_rc(readahead(fd, 0, LEN));
}

static long lock(struct cf *c, int fd, char *p)
{
	long rc = cf_rc(mlock(p, LEN));

	(void)fd;
	if (rc == -ENOMEM || rc == -EPERM)
		cf_na(c, "RLIMIT_MEMLOCK");
	if (rc == 0)
		rc = cf_rc(munlock(p, LEN));
	return rc;
}

static long mergeable(struct cf *c, int fd, char *p)
{
	(void)fd;
	if (access("/sys/kernel/mm/ksm/run", F_OK) != 0)
		cf_na(c, "this kernel has no KSM");
	return cf_rc(madvise(p, LEN, MADV_MERGEABLE));
}

/* All of them change nothing: what was stored before is there after it, in the mapping and in the file. */
static void advised(struct cf *c)
{
	const struct advice *a = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, RW);
	long rc;

	memset(p + CF_PAGE, CF_DMA, CF_PAGE);
	rc = a->give(c, fd, p);
	if (rc < 0)
		cf_answer_rc(c, rc);
	else if (strcmp(cf_content_of(p, CF_PAGE), "old") != 0 ||
		 strcmp(cf_content_of(p + CF_PAGE, CF_PAGE), "dma") != 0 ||
		 strcmp(cf_content(c, cf_path(c, "f"), (off_t)CF_PAGE, CF_PAGE), "dma") != 0)
		cf_answer(c, "bytes are lost");
	else if (cf_touch(p + CF_PAGE, true) != 0)
		cf_answer(c, "the mapping is lost");
	else
		cf_answer(c, "returns");
}

/* A private copy goes with MADV_DONTNEED: the page is the file's again. */
static void copy_dropped(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	char *p = private_map(c, fd, LEN);

	CF_MUST(c, cf_touch(p, true) == 0);
	p[1] = 'x';
	CF_SYS(c, madvise(p, LEN, MADV_DONTNEED));
	cf_answer(c, "%s", cf_content_of(p, CF_PAGE));
}

/* ---- no space ---- */

static void full(struct cf *c)
{
	const enum access access = ((const struct cell *)cf_arg(c))->access;
	int fd = cf_holes(c, "f", LEN), filler = cf_holes(c, "filler", 0);
	char *p = access == COPY ? private_map(c, fd, LEN) : cf_map(c, fd, 0, LEN, RW);
	struct statvfs vfs;
	off_t at = 0;

	/* Once more than the runner does: a tmpfs has all of the machine's memory. */
	CF_SYS(c, fstatvfs(fd, &vfs));
	if ((uint64_t)vfs.f_bavail * vfs.f_frsize > cf_fill_max(c))
		cf_na(c, "too much to fill");
	for (off_t len = 64 << 20; len >= (off_t)CF_PAGE; ) {
		if (fallocate(filler, 0, at, len) == 0) {
			at += len;
			continue;
		}
		CF_MUST(c, errno == ENOSPC || errno == EDQUOT);
		len /= 2;
	}
	cf_answer(c, "%s", cf_touch_word(p, access != LOAD));
	if (access == LOAD && cf_touch(p, false) == 0)
		cf_answer(c, "%s", cf_content_of(p, CF_PAGE));
	CF_SYS(c, unlink(cf_path(c, "filler")));
	CF_SYS(c, ftruncate(filler, 0));
}

/* ---- the cases ---- */

#define HOLES "; devdax: na: a device has neither holes nor a size that changes"
#define CELL(state, access) (&(const struct cell){ state, access })

static const struct cf_case cases[] = {
	{ "fault.hole-load", "dax_load_hole()", "A load from a hole reads zero and allocates nothing.", 0, one_access,
	  CELL(HOLE, LOAD), "zero; plain: zero|zero, allocates" HOLES },
	{ "fault.hole-store", "dax_iomap_pte_fault(); behaviour 42",
	  "A store to a hole allocates one block, zeroed around it.", 0, one_access, CELL(HOLE, STORE),
	  "zero around, allocates; bare: zero around, allocates nothing|zero around, allocates; "
	  "plain: zero around, allocates|zero around, allocates more" HOLES },
	{ "fault.hole-copy", "dax_iomap_cow_copy()",
	  "A private store to a hole makes a page of zeros that is the process's own, and no block.", 0, one_access,
	  CELL(HOLE, COPY), "copy of zero, file zero; plain: copy of zero, file zero|copy of zero, file zero, allocates"
	  HOLES },
	{ "fault.unwritten-load", "dax_load_hole()", "A load from an unwritten extent reads zero.", 0, one_access,
	  CELL(UNWRITTEN, LOAD), "zero" HOLES },
	{ "fault.unwritten-store", "ext4_iomap_begin(); xfs_dax_write_iomap_begin()",
	  "A store to an unwritten extent uses the block that is there, zeroed.", 0, one_access,
	  CELL(UNWRITTEN, STORE), "zero around, allocates nothing; "
	  "plain: zero around, allocates nothing|zero around, allocates more" HOLES },
	{ "fault.unwritten-copy", "dax_iomap_cow_copy()",
	  "A private store to an unwritten extent makes a page of zeros that is the process's own.", 0, one_access,
	  CELL(UNWRITTEN, COPY), "copy of zero, file zero" HOLES },
	{ "fault.mapped-load", "dax_iomap_pte_fault()", "A load finds the bytes of the block.", 0, one_access,
	  CELL(MAPPED, LOAD), "old" HOLES },
	{ "fault.mapped-store", "dax_iomap_pte_fault()", "A store is seen by read(2) at once.", 0, one_access,
	  CELL(MAPPED, STORE), "old around, allocates nothing" HOLES },
	{ "fault.mapped-copy", "dax_fault_cow_page()", "A private store copies the block and leaves the file alone.", 0,
	  one_access, CELL(MAPPED, COPY), "copy of old, file old" HOLES },
	{ "fault.shared-load", "dax_iomap_pte_fault(); FICLONE",
	  "A load from a block that two files share finds its bytes.", 0, one_access, CELL(SHARED, LOAD),
	  "old; ext4, pinfs, bare: na: it has no shared extents" HOLES },
	{ "fault.shared-store", "dax_iomap_copy_around(); FICLONE",
	  "A store to one gives the file a block of its own, and the other file keeps what it had.", 0, one_access,
	  CELL(SHARED, STORE), "old around, allocates nothing; "
	  "xfs: old around, allocates|old around, allocates more|old around, allocates nothing; "
	  "ext4, pinfs, bare: na: it has no shared extents; plain: ?" HOLES },
	{ "fault.shared-copy", "dax_fault_cow_page(); FICLONE", "A private store copies it.", 0, one_access,
	  CELL(SHARED, COPY), "copy of old, file old; ext4, pinfs, bare: na: it has no shared extents" HOLES },
	{ "fault.beyond-load", "dax_iomap_pte_fault()", "A load from a page behind the end of the file is a SIGBUS.", 0,
	  one_access, CELL(BEYOND, LOAD), "SIGBUS" HOLES },
	{ "fault.beyond-store", "dax_iomap_pte_fault()", "A store to a page behind the end of the file is a SIGBUS.", 0,
	  one_access, CELL(BEYOND, STORE), "SIGBUS" HOLES },
	{ "fault.beyond-copy", "dax_iomap_pte_fault()",
	  "A private store to a page behind the end of the file is a SIGBUS.", 0, one_access, CELL(BEYOND, COPY),
	  "SIGBUS" HOLES },
	{ "fault.last-page", "dax_iomap_pte_fault()",
	  "The page in which the file ends can be had whole; what lies behind the end is zero, and stores there do not "
	  "make the file longer.", 0, last_page, NULL, "zero, size 100" HOLES },
	{ "fault.copy-stays", "mmap(2)",
	  "A private page that was stored to does not follow the file any more, one that was not does.", 0, copy_stays,
	  NULL, "copied page stays, other page follows; bare: ?" HOLES },
	{ "fault.copy-dropped", "zap_page_range_single()",
	  "MADV_DONTNEED of a private mapping gives the file's bytes back.", 0, copy_dropped, NULL, "old" HOLES },

	{ "fault.growth", "dax_iomap_pte_fault()",
	  "A page behind the end of the file becomes reachable when the file grows over it.", 0, growth, NULL,
	  "SIGBUS, then zero, store returns" HOLES },
	{ "fault.shrinkage", "truncate_pagecache()", "A page that is cut off is a SIGBUS from then on.", 0, shrinkage,
	  NULL, "load SIGBUS, store SIGBUS, rest old" HOLES },
	{ "fault.shrinkage-elsewhere", "unmap_mapping_range()", "Also in the mapping of another process.", 0,
	  shrinkage_elsewhere, NULL, "SIGBUS" HOLES },
	{ "fault.shrinkage-copy", "unmap_mapping_range()", "Also where the page was a private copy.", 0,
	  shrinkage_of_copy, NULL, "SIGBUS" HOLES },
	{ "fault.tail-shrink", "behaviour 44; dax_truncate_page()",
	  "What a truncate cuts off inside a page is zero when the file grows again.", 0, tail_of_shrink, NULL,
	  "mapping zero, read(2) zero" HOLES },
	{ "fault.tail-store", "behaviour 44; dax_zero_range()",
	  "What was stored behind the end, in the last page, is zero when the file grows over it; ext4 has learned "
	  "that after 6.1.", 0, tail_of_store,
	  NULL, "mapping zero, read(2) zero; ext4+k6.1: mapping mixed, read(2) mixed; "
	  "bare, plain: mapping zero, read(2) zero|mapping mixed, read(2) mixed" HOLES },
	{ "fault.tail-punch", "behaviour 44; dax_zero_range()",
	  "A hole that begins and ends inside pages zeroes these bytes and no others.", 0, tail_of_punch, NULL,
	  "inside zero, outside old" HOLES },
	{ "fault.grow-bytewise", "xfstests generic/456; t_mmap_fallocate.c",
	  "A file that grows by a few bytes at a time, each stored through a mapping, has all of them.", 0,
	  grown_bytewise, NULL, "all bytes there" HOLES },
	{ "fault.recycled", "behaviour 42; IOMAP_F_NEW",
	  "Blocks that held somebody's data before are zero when a store allocates them.", 0, recycled, NULL,
	  "zero" HOLES },

	{ "fault.mtime-load", "behaviour 29", "A load does not move the time of modification.", 0, times,
	  &(const struct times){ AT_LOAD }, "stays; devdax: na: a device has no fsync" },
	{ "fault.mtime-store", "behaviour 29; file_update_time()",
	  "The first store to a page moves the time of modification.", 0, times, &(const struct times){ AT_FIRST },
	  "moves; bare, plain: moves|stays; devdax: na: a device has no fsync" },
	{ "fault.mtime-second", "behaviour 29; file_update_time()",
	  "The second store to a page does not: it is no fault.", 0, times, &(const struct times){ AT_SECOND },
	  "stays; bare, plain: stays|moves; devdax: na: a device has no fsync" },
	{ "fault.mtime-fsync", "behaviour 29, 32; dax_writeback_one()",
	  "After fsync(2) the next store is the first again.", 0, times, &(const struct times){ AT_AFTER_FSYNC },
	  "moves; pinfs+user, bare, plain: moves|stays; devdax: na: a device has no fsync" },
	{ "fault.major-store", "VM_FAULT_MAJOR in dax_iomap_pte_fault()",
	  "A store that allocates a block is counted as a major fault; that of a window as userfaultfd's are.", 0,
	  major, CELL(HOLE, STORE), "major; pinfs, bare, plain: major|minor" HOLES },
	{ "fault.major-load", "dax_load_hole()", "A load from a hole is a minor fault.", 0, major, CELL(HOLE, LOAD),
	  "minor; pinfs, bare, plain: major|minor" HOLES },
	{ "fault.one-allocation", "behaviour 27; dax_iomap_pte_fault()",
	  "Each page that is stored to gets one block, and one only.", 0, allocations, NULL,
	  "one block each; kernel: one block each|one block each, and one for the map; bare, plain: ?" HOLES },

	{ "fault.dontneed", "behaviour 56; zap_page_range_single()",
	  "MADV_DONTNEED of a shared mapping loses nothing: the next access faults again.", 0, advised,
	  &(const struct advice){ dontneed }, "returns" },
	{ "fault.willneed", "behaviour 56; madvise_willneed()", "MADV_WILLNEED is accepted and without effect.", 0,
	  advised, &(const struct advice){ willneed }, "returns" },
	{ "fault.sequential", "behaviour 56; madvise(2)", "MADV_SEQUENTIAL is accepted and without effect.", 0,
	  advised, &(const struct advice){ sequential }, "returns" },
	{ "fault.fadvise-willneed", "behaviour 56; generic_fadvise()",
	  "POSIX_FADV_WILLNEED is accepted and without effect.", 0, advised, &(const struct advice){ fadv_need },
	  "returns" },
	{ "fault.fadvise-dontneed", "behaviour 56; generic_fadvise()",
	  "POSIX_FADV_DONTNEED is accepted and without effect.", 0, advised, &(const struct advice){ fadv_dont },
	  "returns" },
	{ "fault.readahead", "behaviour 56; generic_fadvise()", "readahead(2) is accepted, or refused with EINVAL.", 0,
	  advised, &(const struct advice){ read_ahead }, "returns|EINVAL" },
	{ "fault.mlock", "behaviour 56; mlock_fixup()", "mlock(2) is accepted.", 0, advised,
	  &(const struct advice){ lock }, "returns" },
	{ "fault.ksm", "behaviour 56; ksm_madvise()", "MADV_MERGEABLE is accepted and without effect.", 0, advised,
	  &(const struct advice){ mergeable }, "returns" },

	{ "fault.nospace-load", "dax_load_hole()", "A load from a hole needs no space.", CF_FILLS, full,
	  CELL(HOLE, LOAD), "zero; plain: zero|SIGBUS" HOLES },
	{ "fault.nospace-store", "vmf_fs_error()", "A store to a hole for which there is no block is a SIGBUS.",
	  CF_FILLS, full, CELL(HOLE, STORE), "SIGBUS; bare: ?" HOLES },
	{ "fault.nospace-copy", "dax_fault_cow_page()", "A private store to a hole needs no space.", CF_FILLS, full,
	  CELL(HOLE, COPY), "returns; plain: returns|SIGBUS" HOLES },

	{ "fault.race-stores", "behaviour 30; grab_mapping_entry()",
	  "Threads that store to one page of a hole at the same moment get one block, and all stores are in it.", 0,
	  race_stores, NULL, "one block each" HOLES },
	{ "fault.race-load-store", "behaviour 31, 33; dax_iomap_pte_fault()",
	  "Loads and stores that meet on a fresh hole all succeed, and the stores are seen by the mapping that read.",
	  0, race_load_store, NULL, "all stores seen" HOLES },
	{ "fault.race-processes", "behaviour 31; dax_iomap_pte_fault()", "The same between two processes.", 0,
	  race_processes, NULL, "all stores seen" HOLES },
	{ "fault.race-copy-punch", "behaviour 35; dax_fault_cow_page()",
	  "A private store that meets a punch of its page copies the page as it was, or zeros.", 0, race_copy_punch,
	  NULL, "all old or all zero" HOLES },
	{ "fault.race-load-cut", "behaviour 43; dax_iomap_pte_fault()",
	  "A load that meets a truncate finds the page, or SIGBUS; never an old byte after the truncate has returned.",
	  0, race_load_cut, NULL, "zero or SIGBUS" HOLES },

	{ "fault.entry-bits", "behaviour 34; dax_make_entry()",
	  "The bits of an entry are the kernel's own; no program sees one without the others. Ours are a slot's word "
	  "and counters: tests/unit/test_ledger.c has their combinations.", CF_UNASKED, NULL, NULL, "" },
	{ "fault.entry-lock", "behaviour 33; dax_lock_entry()",
	  "That a hole may take the place of an entry which is locked is decided inside one fault; "
	  "fault.race-load-store asks for what comes of it, tests/pin/test_pause.c plays it.", CF_UNASKED, NULL,
	  NULL, "" },
	{ "fault.dirty-tag", "behaviour 32; dax_writeback_one()",
	  "Whether a store that comes after fsync(2) began is flushed by the next one can be seen only when power is "
	  "lost: tests/crash/test_crash_msync.c does that.", CF_UNASKED, NULL, NULL, "" },
	{ "fault.helpers-assert", "behaviour 21; debug builds",
	  "That layouts change under their lock only is asserted in debug builds, by ranks (fs/base/lock.h), and no "
	  "program can make one of them fail.", CF_UNASKED, NULL, NULL, "" },
	{ "fault.build-matrix", "behaviour 20",
	  "That kernels can be built with one kind of DAX and without the other is no question to a running one.",
	  CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_fault, "fault", "Loads, stores and what they find", cases);
