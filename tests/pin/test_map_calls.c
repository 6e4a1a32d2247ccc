/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_map_calls.c - every call on mappings, made on windows and on mappings of ext4, has the same answers and effects:
 * mmap, munmap, mprotect, mremap, madvise, mlock, mincore, msync, remap_file_pages, and calls whose buffers are there.
 */
#include "harness/run.h"
#include "harness/touch.h"
#include "mount/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <pinfs/pin.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define RW (PROT_READ | PROT_WRITE)

static char *maps(int line, const char *words, void *p)
{
	char *q = p;

	(void)tw_result(line, words, q == MAP_FAILED ? -1 : 0);
	return q;
}

/* A mapping; its answer, not its place, is compared. */
#define MAP(...) maps(__LINE__, #__VA_ARGS__, (errno = 0, mmap(__VA_ARGS__)))
#define REMAP(...) maps(__LINE__, #__VA_ARGS__, (errno = 0, mremap(__VA_ARGS__)))

/* What an access gives: the signal, its code, whether its address is right, and the byte. */
static void seen(int line, char *p, bool store)
{
	int sig = pt_touch(p, store);

	if (sig)
		tw_note("%d: %s: signal %d, code %d, address %s", line, store ? "store" : "load", sig,
			pt_touched_code(),
			pt_touched_at() == p ? "right" : "wrong");
	else
		tw_note("%d: %s: %#x", line, store ? "store" : "load", (unsigned char)*p);
}
#define LOAD(p) seen(__LINE__, p, false)
#define STORE(p) seen(__LINE__, p, true)

/* Page i of the file is full of 'a' + i % 26. */
static int lettered(const char *name, size_t pages)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	char page[PAGE];

	MUST(fd);
	for (size_t i = 0; i < pages; i++) {
		memset(page, 'a' + (int)(i % 26), PAGE);
		MUST(write(fd, page, PAGE) == (ssize_t)PAGE ? 0 : -1);
	}
	return fd;
}

/* On the pinfs side it is a window that is being tested. */
static void window(const void *p)
{
	struct pinfs_range_info ri;

	MUST(!tw_on_pinfs() || pinfs_range_query(p, 1, &ri) == 0 ? 0 : -1);
}

static void compare(const char *what, void (*script)(void))
{
	struct pt_fs *fs = tw_start("window=64M");

	if (fs == NULL)
		return;
	CU_ASSERT(tw_compare(fs, what, script, &tw_root));
	tw_end(fs);
}

/* ---- mmap ---- */

static void mmap_script(void)
{
	int rw = lettered("f", 16), ro = open("f", O_RDONLY), wo = open("f", O_WRONLY), path = open("f", O_PATH);
	int dir = open(".", O_RDONLY), ap = open("f", O_RDWR | O_APPEND);
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_WRITE, RW, PROT_READ | PROT_EXEC, RW | PROT_EXEC };
	static const int types[] = { MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE };
	const int fds[] = { rw, ro, wo, path, dir, ap, -1, 9999 };
	char *p, *q;

	for (size_t f = 0; f < sizeof fds / sizeof fds[0]; f++)
		for (size_t t = 0; t < 3; t++)
			for (size_t r = 0; r < sizeof prots / sizeof prots[0]; r++) {
				tw_note("descriptor %zu type %zu prot %d", f, t, prots[r]);
				p = MAP(NULL, 4 * PAGE, prots[r], types[t], fds[f], 0);
				if (p == MAP_FAILED)
					continue;
				LOAD(p + PAGE);
				if (types[t] == MAP_PRIVATE || !(prots[r] & PROT_WRITE))
					STORE(p + PAGE);
				DO(munmap(p, 4 * PAGE));
			}
	MAP(NULL, 0, RW, MAP_SHARED, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED, rw, 1);
	MAP(NULL, PAGE, RW, MAP_SHARED, rw, 100);
	MAP(NULL, PAGE, RW, 0, rw, 0);
	MAP(NULL, PAGE, RW, MAP_TYPE, rw, 0);
	MAP(NULL, SIZE_MAX - 100, RW, MAP_SHARED, rw, 0);
	MAP(NULL, 1UL << 47, RW, MAP_SHARED, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED, rw, INT64_MAX & ~(off_t)(PAGE - 1));
	MAP(NULL, 2 * PAGE, RW, MAP_SHARED, rw, INT64_MAX & ~(off_t)(PAGE - 1));
	MAP(NULL, PAGE, RW, MAP_SHARED_VALIDATE | 0x8000000, rw, 0);	/* unknown */
	MAP(NULL, PAGE, RW, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED_VALIDATE | MAP_NORESERVE | MAP_STACK | MAP_DENYWRITE, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED | 0x8000000, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED | MAP_GROWSDOWN, rw, 0);
	MAP(NULL, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, rw, 0);
	MAP(NULL, PAGE, RW, MAP_SHARED | MAP_HUGETLB, rw, 0);
	p = MAP(NULL, 3 * MIB, PROT_READ, MAP_SHARED | MAP_32BIT, rw, 0);
	tw_note("below 4 GiB: %d", (uintptr_t)p < UINT32_MAX);
	/* Any offset, any length. */
	p = MAP(NULL, 5 * PAGE + 1, RW, MAP_SHARED, rw, 3 * PAGE);
	window(p);
	LOAD(p);
	LOAD(p + 5 * PAGE + 1000);
	DO(p[6 * PAGE - 1] == 'i' ? 0 : -1);
	/* At addresses. */
	q = MAP(p + PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, rw, 10 * PAGE);
	tw_note("in place: %d", q == p + PAGE);
	LOAD(p);
	LOAD(p + PAGE);
	LOAD(p + 3 * PAGE);
	MAP(p + PAGE + 1, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, rw, 0);
	MAP(p, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, rw, 0);
	MAP(p - PAGE, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, rw, 0);
	MAP(p + PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	DO(munmap(p + 2 * PAGE, PAGE));
	q = MAP(p + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, rw, 15 * PAGE);
	tw_note("in the gap: %d", q == p + 2 * PAGE);
	LOAD(q);
	q = MAP(p, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	LOAD(q);
	STORE(q + PAGE);
	LOAD(p + 2 * PAGE);
	q = MAP(p, 6 * PAGE, RW, MAP_SHARED | MAP_FIXED, rw, 0);
	for (size_t i = 0; i < 6; i++)
		LOAD(q + i * PAGE);
	/* A hint that is free is taken, one that is not is no error. */
	DO(munmap(q, 6 * PAGE));
	p = MAP(q, PAGE, PROT_READ, MAP_SHARED, rw, 0);
	tw_note("at the hint: %d", p == q);
	p = MAP(q, PAGE, PROT_READ, MAP_SHARED, rw, 0);
	tw_note("at the hint: %d", p == q);
	/* munmap. */
	DO(munmap(q + 1, PAGE));
	DO(munmap(q, 0));
	DO(munmap(q, SIZE_MAX));
	DO(munmap(q, PAGE));
	DO(munmap(q, PAGE));
	LOAD(q);
}

static void mmap_calls(void) { compare("mmap", mmap_script); }

/* ---- mprotect ---- */

static void mprotect_script(void)
{
	int rw = lettered("f", 16), ro = open("f", O_RDONLY);
	char *p = MAP(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *hole = p + 12 * PAGE;

	(void)MAP(p, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, rw, 0);
	(void)MAP(p + 4 * PAGE, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 4 * PAGE);
	(void)MAP(p + 8 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, ro, 8 * PAGE);
	(void)MAP(p + 10 * PAGE, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	window(p);
	window(p + 4 * PAGE);
	window(p + 8 * PAGE);
	DO(munmap(hole, PAGE));
	STORE(p);
	DO(mprotect(p + PAGE, 2 * PAGE, PROT_READ));
	STORE(p);
	STORE(p + PAGE);
	LOAD(p + 2 * PAGE);
	STORE(p + 3 * PAGE);
	DO(mprotect(p, 4 * PAGE, PROT_NONE));
	LOAD(p);
	LOAD(p + 3 * PAGE);
	/* From left to right, up to what cannot be. */
	DO(mprotect(p, 8 * PAGE, RW));
	STORE(p);
	STORE(p + 3 * PAGE);
	STORE(p + 4 * PAGE);
	DO(mprotect(p + 4 * PAGE, PAGE, RW));
	DO(mprotect(p + 4 * PAGE, PAGE, PROT_WRITE));
	DO(mprotect(p + 5 * PAGE, PAGE, PROT_NONE));
	LOAD(p + 4 * PAGE);
	LOAD(p + 5 * PAGE);
	DO(mprotect(p + 8 * PAGE, 4 * PAGE, RW));
	STORE(p + 8 * PAGE);
	LOAD(p + 9 * PAGE);
	STORE(p + 11 * PAGE);
	DO(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ));	/* a gap at 12 */
	STORE(p + 8 * PAGE);
	STORE(p + 11 * PAGE);
	LOAD(p + 13 * PAGE);
	DO(mprotect(hole, PAGE, PROT_READ));
	DO(mprotect(hole, 2 * PAGE, PROT_READ));
	DO(mprotect(p + 1, PAGE, PROT_READ));
	DO(mprotect(p, 0, PROT_READ));
	DO(mprotect(p, PAGE, 0x100));
	DO(mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN));
	DO(mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
	DO(mprotect(p, SIZE_MAX - 5, PROT_READ));
	DO(mprotect(p, 4 * PAGE, RW | PROT_EXEC));
	STORE(p + 2 * PAGE);
	DO(pkey_mprotect(p, PAGE, PROT_READ, -1));
	STORE(p);
	DO(pkey_mprotect(p, PAGE, RW, 14));
	DO(pkey_mprotect(p + 4 * PAGE, PAGE, RW, -1));
	DO(munmap(p, 16 * PAGE));
}

static void mprotect_calls(void) { compare("mprotect", mprotect_script); }

/* ---- mremap ---- */

static void mremap_script(void)
{
	int fd = lettered("f", 64);
	char *arena = MAP(NULL, 256 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p, *q, *r;

	p = arena + 16 * PAGE;
	(void)MAP(p, 16 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	window(p);
	STORE(p);
	DO(munmap(p + 16 * PAGE, 32 * PAGE));
	q = REMAP(p, 16 * PAGE, 16 * PAGE, 0);
	tw_note("same: %d", q == p);
	q = REMAP(p, 16 * PAGE, 20 * PAGE, 0);			/* grows in place */
	tw_note("same: %d", q == p);
	LOAD(p + 19 * PAGE);
	(void)REMAP(p, 20 * PAGE, 10 * PAGE, 0);			/* shrinks */
	LOAD(p + 9 * PAGE);
	LOAD(p + 10 * PAGE);
	(void)MAP(p + 10 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	REMAP(p, 10 * PAGE, 12 * PAGE, 0);			/* no room */
	REMAP(p, 5 * PAGE, 6 * PAGE, 0);			/* not its end */
	q = REMAP(p, 10 * PAGE, 12 * PAGE, MREMAP_MAYMOVE);
	tw_note("moved: %d", q != p);
	LOAD(q);
	LOAD(q + 11 * PAGE);
	LOAD(p);
	/* Part of it. */
	r = REMAP(q + 2 * PAGE, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p);
	tw_note("there: %d", r == p);
	LOAD(p);
	LOAD(p + 3 * PAGE);
	LOAD(q + PAGE);
	LOAD(q + 2 * PAGE);
	LOAD(q + 4 * PAGE);
	/* Onto a part of itself that does not overlap, from its beginning and to it. */
	(void)REMAP(q + 4 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + 10 * PAGE);
	LOAD(q + 10 * PAGE);
	(void)REMAP(q + 8 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	LOAD(q);
	LOAD(q + PAGE);
	REMAP(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + PAGE);
	REMAP(q, 2 * PAGE, 2 * PAGE, MREMAP_FIXED, p);
	REMAP(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 1);
	REMAP(q + 1, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	REMAP(q, 2 * PAGE, 0, MREMAP_MAYMOVE);
	REMAP(q, 2 * PAGE, 2 * PAGE, 64);
	REMAP(q, 2 * PAGE, 4 * PAGE, MREMAP_DONTUNMAP, NULL);
	REMAP(q, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	REMAP(q + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE);	/* nothing there any more */
	r = REMAP(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	LOAD(r);
	STORE(q + PAGE);
	LOAD(r + PAGE);
	r = REMAP(r, 0, 3 * PAGE, MREMAP_MAYMOVE);		/* a second mapping */
	LOAD(r);
	LOAD(r + 2 * PAGE);
	REMAP(r, 0, 3 * PAGE, 0);
	/* Several protections, several mappings. */
	p = arena + 64 * PAGE;
	q = arena + 128 * PAGE;
	(void)MAP(p, 8 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	(void)MAP(p + 8 * PAGE, 8 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 8 * PAGE);
	(void)REMAP(p, 16 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q);	/* one continues the other */
	LOAD(q + 10 * PAGE);
	(void)MAP(p, 8 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	(void)MAP(p + 8 * PAGE, 8 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 32 * PAGE);
	DO(mprotect(p + 4 * PAGE, PAGE, PROT_READ));
	REMAP(p, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
	REMAP(p + 5 * PAGE, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
	REMAP(p, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	r = REMAP(p, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	if (r != MAP_FAILED) {
		LOAD(q);
		STORE(q + 4 * PAGE);
		STORE(q + 5 * PAGE);
		LOAD(q + 8 * PAGE);
		LOAD(p);
		LOAD(p + 15 * PAGE);
	}
	REMAP(q, 16 * PAGE, 4 * PAGE, 0);			/* shrinking does not care */
	STORE(q);
	LOAD(q + 4 * PAGE);
	/* Foreign memory over windows, windows over foreign memory. */
	(void)MAP(p, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	STORE(p);
	(void)REMAP(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + PAGE);
	LOAD(q);
	LOAD(q + PAGE);
	LOAD(q + 3 * PAGE);
	/* Private ones take their copies along. */
	p = MAP(NULL, 8 * PAGE, RW, MAP_PRIVATE, fd, 0);
	window(p);
	p[PAGE] = 'P';
	q = REMAP(p, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
	DO(pwrite(fd, "ZZ", 2, PAGE - 1));
	LOAD(q + PAGE);
	LOAD(q + PAGE - 1);
	REMAP(q, 0, PAGE, MREMAP_MAYMOVE);
	r = REMAP(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	LOAD(r + PAGE);
	LOAD(q + PAGE);
}

static void mremap_calls(void) { compare("mremap", mremap_script); }

/* ---- madvise, mlock, mincore, msync, remap_file_pages ---- */

static void madvise_script(void)
{
	static const int advice[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
				      MADV_FREE, MADV_DONTFORK, MADV_DOFORK, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
				      MADV_DONTDUMP, MADV_DODUMP,
				      MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ,
				      MADV_POPULATE_WRITE, MADV_REMOVE, MADV_MERGEABLE, MADV_UNMERGEABLE, 24, 999 };
	int rw = lettered("f", 32), ro = open("f", O_RDONLY);
	char *p[4], *q;

	p[0] = MAP(NULL, 8 * PAGE, RW, MAP_SHARED, rw, 0);
	p[1] = MAP(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, ro, 0);
	p[2] = MAP(NULL, 8 * PAGE, RW, MAP_PRIVATE, rw, 8 * PAGE);
	p[3] = MAP(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE, ro, 8 * PAGE);
	for (size_t i = 0; i < 4; i++)
		window(p[i]);
	p[0][PAGE] = 'S';
	p[2][PAGE] = 'P';
	for (size_t i = 0; i < 4; i++)
		for (size_t a = 0; a < sizeof advice / sizeof advice[0]; a++) {
			tw_note("mapping %zu, advice %d", i, advice[a]);
			DO(madvise(p[i], 4 * PAGE, advice[a]));
			LOAD(p[i] + PAGE);
			LOAD(p[i]);
		}
	for (size_t i = 0; i < 4; i++) {
		DO(madvise(p[i] + 1, PAGE, MADV_DONTNEED));
		DO(madvise(p[i], 0, MADV_DONTNEED));
		DO(madvise(p[i], SIZE_MAX - 10, MADV_DONTNEED));
		DO(madvise(p[i], 100, MADV_WILLNEED));
		DO(posix_madvise(p[i], PAGE, POSIX_MADV_DONTNEED));
		DO(mlock(p[i], PAGE));
		DO(madvise(p[i], PAGE, MADV_DONTNEED));
		DO(madvise(p[i], PAGE, MADV_REMOVE));
		DO(munlock(p[i], PAGE));
	}
	/* A gap in the middle: both sides are done. */
	q = MAP(NULL, 8 * PAGE, RW, MAP_PRIVATE, rw, 16 * PAGE);
	for (size_t i = 0; i < 8; i++)
		q[i * PAGE] = 'P';
	DO(munmap(q + 3 * PAGE, PAGE));
	DO(madvise(q, 8 * PAGE, MADV_DONTNEED));
	for (size_t i = 0; i < 8; i++)
		LOAD(q + i * PAGE);
	DO(madvise(q, 8 * PAGE, MADV_REMOVE));
	/* Behind the end of the file. */
	q = MAP(NULL, 8 * PAGE, RW, MAP_SHARED, rw, 28 * PAGE);
	DO(madvise(q, 8 * PAGE, MADV_POPULATE_READ));
	DO(madvise(q, 8 * PAGE, MADV_POPULATE_WRITE));
	DO(madvise(q, 4 * PAGE, MADV_POPULATE_WRITE));
	DO(madvise(q + 4 * PAGE, PAGE, MADV_POPULATE_READ));
	DO(madvise(q, 8 * PAGE, MADV_REMOVE));
	LOAD(q + 3 * PAGE);
	LOAD(q + 4 * PAGE);
	STAT("f");
}

static void madvise_calls(void) { compare("madvise", madvise_script); }

static unsigned long locked_kib(void)
{
	char line[128];
	unsigned long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");

	MUST(f != NULL ? 0 : -1);
	while (fgets(line, sizeof line, f) != NULL)
		(void)sscanf(line, "VmLck: %lu", &kib);
	(void)fclose(f);
	return kib;
}

static void resident(int line, char *p, size_t pages)
{
	unsigned char vec[64];
	unsigned int n = 0;
	int r = mincore(p, pages * PAGE, vec);

	for (size_t i = 0; r == 0 && i < pages; i++)
		n += vec[i] & 1;
	tw_note("%d: mincore %d: %u", line, r, n);
}

static void mlock_script(void)
{
	struct rlimit lim = { 64 * PAGE, 64 * PAGE };
	int rw = lettered("f", 32);
	char *p = MAP(NULL, 16 * PAGE, RW, MAP_SHARED, rw, 0), *q = MAP(NULL, 16 * PAGE, RW, MAP_PRIVATE, rw, 0);
	unsigned char vec[64];
	unsigned long at_first = locked_kib();

	window(p);
	window(q);
	DO(mlock(p + PAGE + 5, 2 * PAGE));			/* three pages */
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(mlock(q, 16 * PAGE));				/* private and writable: all are copied */
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(pwrite(rw, "ZZ", 2, PAGE - 1));
	LOAD(q + PAGE);
	LOAD(p + PAGE);
	resident(__LINE__, p + PAGE, 3);
	resident(__LINE__, q, 16);
	/* Locked pages that leave the file and others that take their place. */
	DO(fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 16 * PAGE));
	STORE(p + PAGE);
	STORE(p + 2 * PAGE);
	LOAD(p + 3 * PAGE);
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(madvise(p + PAGE, PAGE, MADV_DONTNEED));		/* still locked, and says so */
	DO(munlock(p, 16 * PAGE));
	DO(munlock(q, 8 * PAGE));
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(mlock2(p, 4 * PAGE, MLOCK_ONFAULT));
	DO(mlock2(p, 4 * PAGE, 99));
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(munmap(p, 2 * PAGE));
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(mlock(p, 4 * PAGE));					/* nothing there */
	DO(munlock(p, 4 * PAGE));
	DO(mlock(p, SIZE_MAX - 3));
	DO(munlock(q, 16 * PAGE));
	DO(mincore(q + 1, PAGE, vec));
	DO(mincore(p, 4 * PAGE, vec));
	DO(munmap(p, 16 * PAGE));
	p = MAP(NULL, 8 * PAGE, RW, MAP_SHARED | MAP_LOCKED, rw, 28 * PAGE);	/* half of it behind the end */
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	resident(__LINE__, p, 4);
	p = REMAP(p, 8 * PAGE, 12 * PAGE, MREMAP_MAYMOVE);
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	DO(munmap(p, 12 * PAGE));
	/* Populated pages stay, however short of memory the machine is. */
	DO(mlockall(MCL_FUTURE | MCL_ONFAULT));
	p = MAP(NULL, 16 * PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, rw, 16 * PAGE);
	resident(__LINE__, p, 16);
	DO(munmap(p, 16 * PAGE));
	DO(munlockall());
	/* One that may not lock so much. */
	MUST(munmap(q, 16 * PAGE));
	MUST(setrlimit(RLIMIT_MEMLOCK, &lim));
	MUST(seteuid(65534));
	p = MAP(NULL, 128 * PAGE, PROT_READ, MAP_SHARED, rw, 0);
	DO(mlock(p, 128 * PAGE));
	DO(mlock(p, 8 * PAGE));
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	MAP(NULL, 128 * PAGE, PROT_READ, MAP_SHARED | MAP_LOCKED, rw, 0);
	MAP(NULL, 16 * PAGE, PROT_READ, MAP_SHARED | MAP_LOCKED, rw, 0);
	tw_note("locked: %lu KiB", locked_kib() - at_first);
	MUST(seteuid(0));
}

static void mlock_calls(void) { compare("mlock", mlock_script); }

static void msync_script(void)
{
	int rw = lettered("f", 32);
	char *p = MAP(NULL, 16 * PAGE, RW, MAP_SHARED, rw, 0), *q = MAP(NULL, 16 * PAGE, RW, MAP_PRIVATE, rw, 0), *r;

	window(p);
	p[0] = 'S';
	q[0] = 'P';
	DO(msync(p, 16 * PAGE, MS_SYNC));
	DO(msync(p, 16 * PAGE, MS_ASYNC));
	DO(msync(p, 16 * PAGE, MS_INVALIDATE));
	DO(msync(p, 16 * PAGE, MS_SYNC | MS_INVALIDATE));
	DO(msync(p, 16 * PAGE, MS_SYNC | MS_ASYNC));
	DO(msync(p, 16 * PAGE, 0));
	DO(msync(p, 16 * PAGE, 64));
	DO(msync(p + 1, PAGE, MS_SYNC));
	DO(msync(p, 0, MS_SYNC));
	DO(msync(p, SIZE_MAX - 10, MS_SYNC));
	DO(msync(q, 16 * PAGE, MS_SYNC));
	DO(msync(q, 16 * PAGE, MS_SYNC | MS_INVALIDATE));
	LOAD(q);
	DO(munmap(p + 4 * PAGE, 2 * PAGE));
	DO(msync(p, 16 * PAGE, MS_SYNC));
	DO(msync(p + 4 * PAGE, 2 * PAGE, MS_SYNC));
	DO(msync(p + 4 * PAGE, 2 * PAGE, MS_ASYNC));
	DO(mlock(p, PAGE));
	DO(msync(p, PAGE, MS_INVALIDATE));
	DO(munlock(p, PAGE));
	/* Pages in another order. */
	r = MAP(NULL, 8 * PAGE, RW, MAP_SHARED, rw, 0);
	DO(remap_file_pages(r + PAGE, PAGE, 0, 20, 0));
	DO(remap_file_pages(r + 2 * PAGE, 2 * PAGE, 0, 30, 0));
	for (size_t i = 0; i < 8; i++)
		LOAD(r + i * PAGE);
	DO(remap_file_pages(r, PAGE, PROT_READ, 1, 0));
	DO(remap_file_pages(r, 0, 0, 1, 0));
	DO(remap_file_pages(q, PAGE, 0, 1, 0));
	DO(remap_file_pages(r, PAGE, 0, SIZE_MAX / PAGE, 0));
	STORE(r + PAGE);
	DO(remap_file_pages(r, PAGE, 0, 20, 0));
	LOAD(r);
}

static void msync_calls(void) { compare("msync", msync_script); }

/* ---- what a private mapping shows ---- */

static void private_script(void)
{
	int rw = lettered("f", 32), ro = open("f", O_RDONLY);
	char *p = MAP(NULL, 40 * PAGE, RW, MAP_PRIVATE, ro, 0), *s = MAP(NULL, 40 * PAGE, RW, MAP_SHARED, rw, 0);

	window(p);
	window(s);
	for (size_t i = 0; i < 32; i += 2)
		STORE(p + i * PAGE + 1);
	s[PAGE] = 'S';
	s[2 * PAGE] = 'S';
	DO(pwrite(rw, "WW", 2, 4 * PAGE - 1));
	for (size_t i = 0; i < 6; i++)
		LOAD(p + i * PAGE);
	LOAD(p + 4 * PAGE - 1);
	DO(fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 6 * PAGE, 4 * PAGE));
	for (size_t i = 6; i < 10; i++)
		LOAD(p + i * PAGE);
	DO(fallocate(rw, FALLOC_FL_ZERO_RANGE, 10 * PAGE + 100, 2 * PAGE));
	for (size_t i = 10; i < 14; i++) {
		LOAD(p + i * PAGE);
		LOAD(p + i * PAGE + 200);
	}
	DO(ftruncate(rw, 20 * PAGE + 10));
	for (size_t i = 18; i < 24; i++)
		LOAD(p + i * PAGE);
	LOAD(p + 20 * PAGE + 11);
	STORE(p + 22 * PAGE);
	DO(ftruncate(rw, 36 * PAGE));
	for (size_t i = 18; i < 40; i++)
		LOAD(p + i * PAGE);
	LOAD(p + 20 * PAGE + 11);
	STORE(p + 30 * PAGE);
	LOAD(s + 30 * PAGE);
	LOAD(s + 20 * PAGE + 11);
	DO(fallocate(rw, 0, 30 * PAGE, 10 * PAGE));
	LOAD(p + 39 * PAGE);
	DO(ftruncate(rw, 0));
	for (size_t i = 0; i < 40; i += 5)
		LOAD(p + i * PAGE);
}

static void private_calls(void) { compare("private", private_script); }

/* ---- buffers of calls ---- */

static void buffers_script(void)
{
	int fd = lettered("f", 8), src = lettered("src", 16), io[2], sv[2], n;
	char *p = MAP(NULL, 16 * PAGE, RW, MAP_SHARED, fd, 0), *ro, *priv;
	char *end = p + 8 * PAGE;				/* of the file; the mapping goes on */
	struct iovec iov[3];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 3 };
	struct stat *st;

	window(p);
	MUST(pipe2(io, O_NONBLOCK));
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv));
	ro = MAP(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	priv = MAP(NULL, 8 * PAGE, RW, MAP_PRIVATE, fd, 0);
	/* Into it: inside, across the end, behind the end, where it may not be written. */
	DO(pread(src, p + 100, 5 * PAGE, 0));
	LOAD(p + 100 + PAGE);
	DO(pread(src, end - PAGE - 100, 3 * PAGE, 0));
	LOAD(end - 1);
	DO(pread(src, end, PAGE, 0));
	DO(pread(src, ro, PAGE, 0));
	DO(pread(src, priv + PAGE, PAGE, 8 * PAGE));
	LOAD(priv + PAGE);
	LOAD(p + PAGE);
	DO(write(io[1], end - 50, 50));
	DO(write(io[1], end - 50, 100));			/* out of it, across the end */
	DO(write(io[1], end + PAGE, 100));
	DO(read(io[0], p + 3 * PAGE - 20, 60));
	DO(read(io[0], end + 5, 20));
	DO(read(io[0], ro + 5, 20));
	iov[0] = (struct iovec){ p, 10 };
	iov[1] = (struct iovec){ end - 5, 10 };
	iov[2] = (struct iovec){ p + PAGE, 10 };
	DO(preadv(src, iov, 3, 3 * PAGE));
	LOAD(p);
	LOAD(end - 1);
	DO(writev(io[1], iov, 3));
	DO(send(sv[0], p, 200, 0));
	DO(recvmsg(sv[1], &m, MSG_DONTWAIT));
	DO(sendmsg(sv[0], &m, MSG_DONTWAIT));
	DO(recv(sv[1], p + 7 * PAGE, PAGE, MSG_DONTWAIT));
	/* Small structures. */
	DO(ioctl(io[0], FIONREAD, p + 6 * PAGE));
	DO(ioctl(io[0], FIONREAD, end));
	DO(ioctl(io[0], FIONREAD, ro));
	memcpy(&n, p + 6 * PAGE, sizeof n);
	tw_note("FIONREAD %d", n);
	st = (struct stat *)(void *)(p + 2 * PAGE);
	DO(fstat(src, st));
	tw_note("size %lld", (long long)st->st_size);
	DO(fstat(src, (struct stat *)(void *)end));
	DO(getrandom(end, 10, 0) == -1 && errno == EFAULT ? 0 : -1);
	DO(readlink("/proc/self/exe", end, 10));
	/* Names that lie there. */
	memcpy(p + 5 * PAGE - 2, "src", 4);			/* across a page */
	DO(access(p + 5 * PAGE - 2, R_OK));
	DO(access(end, R_OK));
	/* Holes are read and filled by calls as by instructions. */
	MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE));
	DO(pwrite(src, p, 2 * PAGE, 0));
	STAT("f");
	DO(pread(src, p + 2 * PAGE, PAGE, 15 * PAGE));
	LOAD(p + 2 * PAGE);
	DO(pwrite(fd, p + 2 * PAGE, PAGE, 0));			/* the file's own page */
	LOAD(p);
	LOAD(ro);
	DO(ftruncate(fd, 3 * PAGE));
	DO(pread(src, p + 2 * PAGE + 1, 2 * PAGE, 0));
	DO(pwrite(src, p + 2 * PAGE + 1, 2 * PAGE, 0));
}

static void buffers(void) { compare("buffers", buffers_script); }

/* ---- code ---- */

static void exec_script(void)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };	/* mov $42, %eax; ret */
	int fd = lettered("f", 4);
	int (*fn)(void);
	char *p;

	DO(pwrite(fd, code, sizeof code, PAGE));
	for (int type = MAP_SHARED; type <= MAP_PRIVATE; type++) {
		p = MAP(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, type, fd, 0);
		window(p);
		p += PAGE;
		memcpy(&fn, &p, sizeof fn);
		tw_note("%d", fn());
		DO(mprotect(p, PAGE, PROT_EXEC));
		tw_note("%d", fn());
		DO(munmap(p - PAGE, 4 * PAGE));
	}
}

static void executed(void)
{
#ifdef __x86_64__
	compare("exec", exec_script);
#else
	(void)exec_script;
	pt_skip("the code is for x86-64");
#endif
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "mmap, munmap", mmap_calls, 0 },
		{ "mprotect", mprotect_calls, 0 },
		{ "mremap", mremap_calls, 0 },
		{ "madvise", madvise_calls, 0 },
		{ "mlock, mincore", mlock_calls, 0 },
		{ "msync, remap_file_pages", msync_calls, 0 },
		{ "private mappings", private_calls, 0 },
		{ "buffers of calls", buffers, 0 },
		{ "code", executed, 0 },
	};
	static const struct pt_suite suites[] = { { "map_calls", cases, sizeof cases / sizeof cases[0] } };

	return pt_main(argc, argv, suites, 1);
}
