/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_window.c - windows of the preload library against the small daemon of fakesrv.c: what is mapped is the
 * file's blocks, holes and ends of files behave, invalidations lose nothing, and every form of munmap, mremap,
 * mprotect, fork leaves the rest alone.
 */
#include "fakesrv.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

static char dir[256];

static void setup(uint32_t nslot)
{
	snprintf(dir, sizeof dir, "%s", pt_tmp());
	PT_EQ(fake_start(dir, nslot), 0);
}

static int file(uint64_t size)
{
	static unsigned int n;
	char path[300];
	int fd;

	snprintf(path, sizeof path, "%s/f%u", dir, n++);
	fd = fake_file(path, size);
	CU_ASSERT_FATAL(fd >= 0);
	(void)unlink(path);
	return fd;
}

static char *map(int fd, size_t len, uint64_t off)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)off);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static sigjmp_buf escape;
static volatile sig_atomic_t caught;
static void *volatile caught_at;
static volatile int caught_code;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	caught = sig;
	caught_at = si->si_addr;
	caught_code = si->si_code;
	siglongjmp(escape, 1);
}

/* The signal that touching @p gives; 0: none. */
static int touch(volatile char *p, bool store)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, bus, segv;

	caught = 0;
	sigaction(SIGBUS, &sa, &bus);
	sigaction(SIGSEGV, &sa, &segv);
	if (sigsetjmp(escape, 1) == 0) {
		if (store)
			*p = 42;
		else
			(void)*p;
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return caught;
}

static void settle(void)		/* detaching and removing goes on after munmap() has returned */
{
	struct fake_counts c;

	for (int i = 0; i < 200; i++) {
		fake_counts(&c);
		if (c.slots == 0)
			return;
		pt_sleep_ms(5);
	}
}

/* ---- cases ---- */

static void coherent(void)
{
	struct fake_counts c;
	char buf[16], *p;
	int fd;

	setup(16);
	fd = file(8 * MIB);
	fake_fill(fd, 0, 8 * MIB, false);
	fake_write(fd, 5 * MIB + 100, "written", 7);
	p = map(fd, 8 * MIB, 0);
	CU_ASSERT(memcmp(p + 5 * MIB + 100, "written", 7) == 0);
	memcpy(p + 3 * MIB - 4, "straddle", 8);
	fake_read(fd, 3 * MIB - 4, buf, 8);
	CU_ASSERT(memcmp(buf, "straddle", 8) == 0);
	fake_counts(&c);
	PT_EQ(c.setup, 2);			/* two chunks were touched, not more */
	PT_EQ(munmap(p, 8 * MIB), 0);
	settle();
	fake_counts(&c);
	PT_EQ(c.slots, 0);
	PT_EQ(c.detach, 1);
	close(fd);
	fake_stop();
}

static void offsets(void)
{
	char *p, *q, buf[4];
	int fd;

	setup(16);
	fd = file(8 * MIB);
	fake_fill(fd, 0, 8 * MIB, false);
	p = map(fd, 5 * MIB, 12 * PAGE);
	q = map(fd, 3 * PAGE, 2 * MIB - PAGE);
	PT_EQ(((uint64_t)p - 12 * PAGE) % (2 * MIB), 0);	/* colour */
	memcpy(p + 2 * MIB - 12 * PAGE, "one", 3);
	CU_ASSERT(memcmp(q + PAGE, "one", 3) == 0);
	memcpy(q, "two", 3);
	fake_read(fd, 2 * MIB - PAGE, buf, 3);
	CU_ASSERT(memcmp(buf, "two", 3) == 0);
	munmap(p, 5 * MIB);
	CU_ASSERT(memcmp(q, "two", 3) == 0);
	munmap(q, 3 * PAGE);
	close(fd);
	fake_stop();
}

static void holes(void)
{
	struct fake_counts c;
	char *p, *q, b = 1;
	int fd;

	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	q = map(fd, 4 * MIB, 0);
	for (size_t i = 0; i < 64; i++)
		CU_ASSERT(p[i * PAGE] == 0 && q[i * PAGE] == 0);
	PT_EQ(fake_doff(fd, 9 * PAGE), 0);
	p[9 * PAGE] = 7;			/* write-protect fault */
	CU_ASSERT(fake_doff(fd, 9 * PAGE) != 0);
	CU_ASSERT(q[9 * PAGE] == 7);		/* the other mapping showed zeros until now */
	PT_EQ(fake_doff(fd, 10 * PAGE), 0);
	q[3 * MIB] = 8;				/* missing fault */
	fake_read(fd, 3 * MIB, &b, 1);
	PT_EQ(b, 8);
	CU_ASSERT(p[3 * MIB] == 8);
	b = 9;
	fake_write(fd, 20 * PAGE, &b, 1);	/* somebody else fills a hole that we have read */
	CU_ASSERT(p[20 * PAGE] == 9 && q[20 * PAGE] == 9);
	fake_counts(&c);
	CU_ASSERT(c.setup < 10);
	munmap(p, 4 * MIB);
	munmap(q, 4 * MIB);
	close(fd);
	fake_stop();
}

/*
 * Memory that was exchanged at different times is several pieces to the kernel, and a run of holes may lie across
 * them. Pages are filled and punched in an order that makes many such seams, and every hole is read each time.
 */
struct racer {
	volatile char *p;
	atomic_uint round, done;
};

/* Stores to page 100 of the chunk as soon as the round begins. */
static void *race_store(void *arg)
{
	struct racer *r = arg;

	for (unsigned int i = 1; i <= 300; i++) {
		while (atomic_load(&r->round) < i)
			sched_yield();
		r->p[100 * PAGE] = (char)(i % 100 + 1);
		atomic_store(&r->done, i);
	}
	return NULL;
}

/* One look at a hole shows all of it, and takes no memory; the first store to each page is still seen. */
static void long_holes(void)
{
	struct racer r = { 0 };
	unsigned int sum = 0;
	uint64_t faults;
	pthread_t t;
	char *p, b;
	int fd;

	setup(16);
	fd = file(8 * MIB);
	p = map(fd, 8 * MIB, 0);
	CU_ASSERT(p[MIB] == 0);				/* the threads are there now */
	faults = atomic_load(&sh.nfault);
	for (size_t off = 0; off < 8 * MIB; off += PAGE)
		sum += (unsigned char)p[off];
	PT_EQ(sum, 0);
	if (sh.guard)
		CU_ASSERT(atomic_load(&sh.nfault) - faults <= 4);
	p[3 * MIB] = 7;
	fake_read(fd, 3 * MIB, &b, 1);
	PT_EQ(b, 7);
	CU_ASSERT(p[3 * MIB + 1] == 0 && p[3 * MIB + PAGE] == 0 && p[3 * MIB - PAGE] == 0);
	PT_EQ(fake_inval(fd, 0, 8 * MIB), 0);
	CU_ASSERT(p[3 * MIB] == 7 && p[0] == 0 && p[8 * MIB - 1] == 0);
	PT_EQ(mprotect(p, 8 * MIB, PROT_READ), 0);
	CU_ASSERT(p[PAGE] == 0);
	PT_EQ(touch(p, true), SIGSEGV);
	PT_EQ(mprotect(p, 8 * MIB, PROT_READ | PROT_WRITE), 0);
	PT_EQ(touch(p, true), 0);
	/* Somebody stores while the zeros are put there. */
	r.p = p + 4 * MIB;
	PT_EQ(pthread_create(&t, NULL, race_store, &r), 0);
	for (unsigned int i = 1; i <= 300; i++) {
		atomic_store(&r.round, i);
		CU_ASSERT(r.p[0] == 0 && r.p[200 * PAGE] == 0);
		while (atomic_load(&r.done) < i)
			sched_yield();
		fake_read(fd, 4 * MIB + 100 * PAGE, &b, 1);
		CU_ASSERT(b == (char)(i % 100 + 1));
		PT_EQ(fake_punch(fd, 4 * MIB, 2 * MIB, 1000), 0);
	}
	pthread_join(t, NULL);
	munmap(p, 8 * MIB);
	close(fd);
	fake_stop();
}

static void seams(void)
{
	unsigned int s = 1;
	char *p, b = 1;
	int fd;

	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	for (int round = 0; round < 200; round++) {
		size_t page, n;

		s = s * 1103515245 + 12345;
		page = s >> 16 & 31;
		n = 1 + (s >> 24 & 3);
		if (round % 2 == 0)
			fake_write(fd, page * PAGE, &b, 1);
		else
			PT_EQ(fake_punch(fd, page * PAGE, n * PAGE, 1000), 0);
		/* From a hole in the middle on: what lies before it stays as it is. */
		for (size_t i = s >> 8 & 31; i < 40; i++)
			CU_ASSERT(p[i * PAGE] == (fake_doff(fd, i * PAGE) != 0));
	}
	munmap(p, 4 * MIB);
	close(fd);
	fake_stop();
}

static void end_of_file(void)
{
	char *p;
	int fd;

	setup(16);
	fd = file(PAGE + 100);
	fake_fill(fd, 0, 2 * PAGE, false);
	p = map(fd, 4 * MIB, 0);
	PT_EQ(touch(p + PAGE + 4000, true), 0);		/* the last page is whole */
	PT_EQ(touch(p + 2 * PAGE, false), SIGBUS);
	PT_EQ(caught_code, BUS_ADRERR);
	CU_ASSERT(caught_at == p + 2 * PAGE);
	PT_EQ(touch(p + 3 * MIB, true), SIGBUS);
	PT_EQ(fake_truncate(fd, 3 * MIB + PAGE, 0), 0);
	PT_EQ(touch(p + 2 * PAGE, true), 0);
	PT_EQ(touch(p + 3 * MIB, true), 0);
	PT_EQ(touch(p + 3 * MIB + PAGE, false), SIGBUS);
	PT_EQ(fake_truncate(fd, PAGE, 1000), 0);
	PT_EQ(touch(p, false), 0);
	PT_EQ(touch(p + PAGE, false), SIGBUS);
	PT_EQ(touch(p + 3 * MIB, false), SIGBUS);
	munmap(p, 4 * MIB);
	close(fd);
	fake_stop();
}

static void errors(void)
{
	char *p, b = 0;
	int fd, ro;
	char path[64];

	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	fake_fail_next(-ENOSPC);
	PT_EQ(touch(p + PAGE, true), SIGBUS);
	PT_EQ(caught_code, BUS_ADRERR);
	/* No longer than a failed kernel fault, nearly. */
	for (int i = 0; i < 3000 && touch(p + PAGE, true) != 0; i++)
		pt_sleep_ms(10);
	PT_EQ(touch(p + PAGE, true), 0);
	fake_fail_next(-EIO);
	PT_EQ(touch(p + 2 * MIB, false), SIGBUS);
	munmap(p, 4 * MIB);

	PT_FAILS((long)mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0), EINVAL);
	PT_FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 100), EINVAL);
	PT_FAILS((long)mmap((void *)(uintptr_t)4097, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), EINVAL);
	PT_FAILS((long)mmap(NULL, SIZE_MAX, PROT_READ, MAP_SHARED, fd, 0), ENOMEM);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY);
	PT_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	PT_FAILS(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
	PT_EQ(touch(p, false), 0);
	PT_EQ(touch(p, true), SIGSEGV);
	munmap(p, PAGE);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | 0x80000 /* MAP_SYNC */, fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	p[9] = 9;					/* 3 is MAP_SHARED | MAP_PRIVATE, and means the first */
	fake_read(fd, 9, &b, 1);
	PT_EQ(b, 9);
	munmap(p, PAGE);
	close(ro);
	close(fd);
	fake_stop();
}

static void pieces(void)
{
	char *p, *other;
	int fd;

	setup(16);
	fd = file(8 * MIB);
	fake_fill(fd, 0, 8 * MIB, false);
	p = map(fd, 8 * MIB, 0);
	memset(p, 1, 8 * MIB);
	PT_EQ(munmap(p + 2 * MIB, MIB), 0);
	PT_EQ(touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(touch(p + 3 * MIB - 1, false), SIGSEGV);
	CU_ASSERT(p[2 * MIB - 1] == 1 && p[3 * MIB] == 1);
	PT_EQ(munmap(p + 2 * MIB - PAGE, 2 * MIB), 0);	/* across the gap */
	CU_ASSERT(p[2 * MIB - PAGE - 1] == 1 && p[4 * MIB - PAGE] == 1);
	PT_EQ(fake_inval(fd, 0, 8 * MIB), 0);		/* pieces are still invalidated right */
	CU_ASSERT(p[PAGE] == 1 && p[4 * MIB] == 1 && p[8 * MIB - 1] == 1);
	PT_EQ(touch(p + 3 * MIB, false), SIGSEGV);
	other = mmap(p + 5 * MIB, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CU_ASSERT(other == p + 5 * MIB);
	memset(other, 9, MIB);
	PT_EQ(fake_inval(fd, 0, 8 * MIB), 0);
	CU_ASSERT(other[0] == 9 && other[MIB - 1] == 9);
	PT_EQ(munmap(p + 3 * MIB, 5 * MIB), 0);		/* gap, windows and foreign memory in one call */
	PT_EQ(munmap(p, 2 * MIB), 0);
	close(fd);
	fake_stop();
}

/* A device that maps nothing smaller than 2 MiB: all or nothing. */
static void whole_chunks(void)
{
	struct pinfs_range_info ri;
	struct fake_counts a, b;
	char *p, *q, buf[8];
	int fd;

	setup(16);
	fake_hello(PF_HO_WHOLE);
	fd = file(8 * MIB);
	fake_fill(fd, 0, 6 * MIB, false);
	p = map(fd, 8 * MIB, 0);
	PT_EQ((uintptr_t)p % (2 * MIB), 0);
	PT_EQ(touch(p + 3 * MIB, true), 0);			/* not the first page of its chunk */
	memset(p, 1, 6 * MIB);
	CU_ASSERT(p[7 * MIB] == 0);				/* a hole needs no device */
	PT_EQ(munmap(p + PAGE, PAGE), -1);
	PT_EQ(errno, EINVAL);
	PT_EQ(mprotect(p + MIB, MIB, PROT_READ), -1);
	PT_EQ(errno, EINVAL);
	CU_ASSERT(mremap(p, 8 * MIB, 8 * MIB - PAGE, 0) == MAP_FAILED && errno == EINVAL);
	CU_ASSERT(mmap(p + MIB, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
	/* One page is taken away: all of its chunk is, and asked for again. */
	fake_counts(&a);
	PT_EQ(fake_inval(fd, 2 * MIB + PAGE, PAGE), 0);
	CU_ASSERT(p[0] == 1 && p[4 * MIB] == 1);
	fake_counts(&b);
	PT_EQ(b.setup, a.setup);
	CU_ASSERT(p[4 * MIB - 1] == 1);
	fake_counts(&b);
	PT_EQ(b.setup, a.setup + 1);
	fake_read(fd, 4 * MIB - 4, buf, 8);
	CU_ASSERT(memcmp(buf, "\1\1\1\1\1\1\1\1", 8) == 0);
	/* In pieces it cannot be mapped. */
	fake_fill(fd, 6 * MIB, 2 * MIB, true);
	PT_EQ(touch(p + 6 * MIB, false), SIGBUS);
	/* What is no multiple of 2 MiB is no window. */
	q = map(fd, PAGE, 0);
	CU_ASSERT(pinfs_range_query(q, PAGE, &ri) != 0);
	PT_EQ(munmap(q, PAGE), 0);
	q = map(fd, 2 * MIB, PAGE);
	CU_ASSERT(pinfs_range_query(q, PAGE, &ri) != 0);
	PT_EQ(munmap(q, 2 * MIB), 0);
	q = mmap(NULL, 2 * MIB, PROT_READ, MAP_PRIVATE, fd, 0);
	CU_ASSERT(q != MAP_FAILED && pinfs_range_query(q, PAGE, &ri) != 0);
	PT_EQ(munmap(q, 2 * MIB), 0);
	PT_EQ(munmap(p + 2 * MIB, 2 * MIB), 0);
	CU_ASSERT(p[0] == 1 && p[4 * MIB] == 1);
	PT_EQ(munmap(p, 2 * MIB), 0);
	PT_EQ(munmap(p + 4 * MIB, 4 * MIB), 0);
	close(fd);
	fake_hello(0);
	fake_stop();
}

static void fixed(void)
{
	char *p, *q;
	int fd, fd2;

	setup(16);
	fd = file(4 * MIB);
	fd2 = file(4 * MIB);
	fake_write(fd, 0, "a", 1);
	fake_write(fd2, 0, "b", 1);
	fake_write(fd, 2 * MIB, "c", 1);
	p = map(fd, 4 * MIB, 0);
	CU_ASSERT(p[0] == 'a' && p[2 * MIB] == 'c');
	q = mmap(p, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd2, 0);
	CU_ASSERT(q == p);
	CU_ASSERT(p[0] == 'b' && p[2 * MIB] == 'c');
	PT_FAILS((long)mmap(p + 2 * MIB, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd2, 0), EEXIST);
	CU_ASSERT(p[2 * MIB] == 'c');
	munmap(p, 4 * MIB);
	close(fd);
	close(fd2);
	fake_stop();
}

static void moved(void)
{
	char *p, *q, *spot;
	int fd;

	setup(16);
	fd = file(16 * MIB);
	fake_fill(fd, 0, 16 * MIB, false);
	for (size_t i = 0; i < 16; i++)
		fake_write(fd, i * MIB, (char[]){ (char)('A' + i) }, 1);
	p = map(fd, 4 * MIB, 0);
	CU_ASSERT(p[3 * MIB] == 'D');
	q = mremap(p, 4 * MIB, 2 * MIB, 0);
	CU_ASSERT(q == p && p[MIB] == 'B');
	PT_EQ(touch(p + 2 * MIB, false), SIGSEGV);
	q = mremap(p, 2 * MIB, 3 * MIB, 0);		/* in place: we have just made room */
	CU_ASSERT(q == p && p[2 * MIB] == 'C');
	q = mremap(p, 3 * MIB, 16 * MIB, MREMAP_MAYMOVE);
	CU_ASSERT_FATAL(q != MAP_FAILED);
	for (size_t i = 0; i < 16; i++)
		CU_ASSERT(q[i * MIB] == (char)('A' + i));
	p = mremap(q + 4 * MIB, 0, 2 * MIB, MREMAP_MAYMOVE);	/* a second one */
	CU_ASSERT(p != MAP_FAILED && p[0] == 'E' && q[4 * MIB] == 'E');
	munmap(p, 2 * MIB);
	spot = mmap(NULL, 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p = mremap(q + 8 * MIB, 4 * MIB, 4 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, spot);
	CU_ASSERT(p == spot && p[0] == 'I' && p[3 * MIB] == 'L');
	PT_EQ(touch(q + 8 * MIB, false), SIGSEGV);
	CU_ASSERT(q[7 * MIB] == 'H' && q[12 * MIB] == 'M');
	PT_EQ(fake_inval(fd, 0, 16 * MIB), 0);
	CU_ASSERT(p[0] == 'I' && q[0] == 'A');
	PT_FAILS((long)mremap(q, 12 * MIB, 13 * MIB, MREMAP_MAYMOVE), EFAULT);	/* over the gap */
	munmap(p, 4 * MIB);
	munmap(q, 16 * MIB);
	close(fd);
	fake_stop();
}

static void protected(void)
{
	char *p, b;
	int fd;

	setup(16);
	fd = file(6 * MIB);
	p = map(fd, 6 * MIB, 0);
	CU_ASSERT(p[0] == 0 && p[4 * MIB] == 0);
	p[2 * MIB] = 5;
	PT_EQ(mprotect(p + MIB, 4 * MIB, PROT_READ), 0);
	PT_EQ(touch(p + 2 * MIB, true), SIGSEGV);
	PT_EQ(touch(p + 3 * MIB, true), SIGSEGV);
	PT_EQ(touch(p + 3 * MIB, false), 0);
	PT_EQ(touch(p + 4 * MIB, true), SIGSEGV);
	PT_EQ(touch(p + MIB - 1, true), 0);
	PT_EQ(fake_inval(fd, 0, 6 * MIB), 0);
	PT_EQ(touch(p + 2 * MIB, true), SIGSEGV);		/* kept across an invalidation */
	CU_ASSERT(p[2 * MIB] == 5);
	PT_EQ(mprotect(p, 6 * MIB, PROT_READ | PROT_WRITE), 0);
	p[4 * MIB] = 6;					/* a hole that was read before */
	fake_read(fd, 4 * MIB, &b, 1);
	PT_EQ(b, 6);
	PT_EQ(mprotect(p + 2 * MIB, MIB, PROT_NONE), 0);
	PT_EQ(touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(fake_inval(fd, 0, 6 * MIB), 0);
	PT_EQ(touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(mprotect(p + 2 * MIB, MIB, PROT_READ), 0);
	CU_ASSERT(p[2 * MIB] == 5);
	munmap(p, 6 * MIB);
	close(fd);
	fake_stop();
}

static void advised(void)
{
	char *p;
	int fd;

	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	p[PAGE] = 3;
	CU_ASSERT(p[2 * PAGE] == 0);
	PT_EQ(madvise(p, 4 * MIB, MADV_DONTNEED), 0);
	CU_ASSERT(p[PAGE] == 3 && p[2 * PAGE] == 0);
	PT_EQ(madvise(p, 4 * MIB, MADV_DOFORK), 0);
	PT_FAILS(madvise(p, 4 * MIB, MADV_FREE), EINVAL);
	PT_EQ(msync(p, 4 * MIB, MS_SYNC), 0);
	PT_EQ(msync(p, 4 * MIB, MS_ASYNC), 0);
	PT_FAILS(msync(p, 4 * MIB, MS_ASYNC | MS_SYNC), EINVAL);
	PT_FAILS(msync(p + 1, PAGE, MS_SYNC), EINVAL);
	PT_EQ(munmap(p + MIB, MIB), 0);
	PT_FAILS(msync(p, 4 * MIB, MS_SYNC), ENOMEM);
	munmap(p, 4 * MIB);
	close(fd);
	fake_stop();
}

static void reclaimed(void)
{
	struct fake_counts c;
	char *p;
	int fd;

	setup(3);
	fd = file(16 * MIB);
	p = map(fd, 16 * MIB, 0);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 8; i++) {
			CU_ASSERT(p[i * 2 * MIB] == round);
			p[i * 2 * MIB]++;
		}
	}
	fake_counts(&c);
	CU_ASSERT(c.slots <= 3);
	CU_ASSERT(c.remove >= 20);
	munmap(p, 16 * MIB);
	close(fd);
	fake_stop();
}

/* The slots of a mapping that has just gone are on their way out: the next one waits for them. */
static void slots_in_flight(void)
{
	int a, b;

	setup(2);
	a = file(4 * MIB);
	b = file(4 * MIB);
	for (int i = 0; i < 50; i++) {
		char *p = map(i % 2 ? a : b, 4 * MIB, 0);

		PT_EQ(touch(p, true), 0);
		PT_EQ(touch(p + 2 * MIB, true), 0);
		munmap(p, 4 * MIB);
	}
	close(a);
	close(b);
	fake_stop();
}

/* msync() of blocks that were taken from us since the store is the daemon's to do; of others, ours. */
static void synced(void)
{
	struct fake_counts c;
	char *p;
	int fd;

	setup(16);
	fd = file(8 * MIB);
	fake_fill(fd, 0, 8 * MIB, false);
	p = map(fd, 8 * MIB, 0);
	PT_EQ(msync(p, 8 * MIB, MS_SYNC), 0);
	p[0] = p[3 * MIB] = 1;
	PT_EQ(msync(p, 8 * MIB, MS_SYNC), 0);
	fake_counts(&c);
	PT_EQ(c.sync, 0);
	PT_EQ(fake_inval(fd, 0, PAGE), 0);
	PT_EQ(msync(p + MIB, MIB, MS_SYNC), 0);
	fake_counts(&c);
	PT_EQ(c.sync, 0);
	PT_EQ(msync(p, 8 * MIB, MS_SYNC), 0);
	fake_counts(&c);
	PT_EQ(c.sync, 1);
	munmap(p, 8 * MIB);
	close(fd);
	fake_stop();
}

/* ---- invalidations under load ---- */

struct load {
	char *p;
	atomic_bool stop;
	uint64_t stores[2], reads;
	int fd;
};

static void *storer(void *arg)
{
	struct load *l = arg;
	static atomic_int who;
	int me = atomic_fetch_add(&who, 1) & 1;
	volatile uint64_t *at = (void *)(l->p + (size_t)me * PAGE);

	while (!atomic_load(&l->stop)) {
		(*at)++;
		l->stores[me]++;
	}
	return NULL;
}

static void *kernel_writer(void *arg)
{
	struct load *l = arg;
	int fd = open("/dev/zero", O_RDONLY);

	while (!atomic_load(&l->stop)) {
		if (read(fd, l->p + 16 * PAGE, 16 * PAGE) != (ssize_t)(16 * PAGE))
			return l;
		l->reads++;
	}
	close(fd);
	return NULL;
}

static int hammer(void *arg)
{
	struct load l = { .p = NULL };
	pthread_t t[3];
	uint64_t got[2], rounds = 0, end;
	void *bad;

	sh.zap_unsafe = arg != NULL;
	setup(16);
	l.fd = file(2 * MIB);
	fake_fill(l.fd, 0, 2 * MIB, false);
	l.p = map(l.fd, 2 * MIB, 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, storer, &l);
	pthread_create(&t[2], NULL, kernel_writer, &l);
	end = pt_now_ms() + 1500;
	while (pt_now_ms() < end) {
		if (rounds % 8 == 7)
			fake_move(l.fd, (rounds / 8 % 2) * PAGE);	/* another block: a stale mapping loses */
		else if (fake_inval(l.fd, 0, 2 * MIB))
			return 3;
		rounds++;
	}
	atomic_store(&l.stop, true);
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &bad);
		if (bad != NULL)
			return 4;
	}
	fake_read(l.fd, 0, &got[0], 8);
	fake_read(l.fd, PAGE, &got[1], 8);
	if (arg == NULL)
		pt_say("%llu invalidations, %llu + %llu stores, %llu reads into the window", (unsigned long long)rounds,
		       (unsigned long long)l.stores[0], (unsigned long long)l.stores[1], (unsigned long long)l.reads);
	munmap(l.p, 2 * MIB);
	fake_stop();
	if (arg == NULL && (got[0] != l.stores[0] || got[1] != l.stores[1]))
		pt_say("on the device: %llu, %llu", (unsigned long long)got[0], (unsigned long long)got[1]);
	return got[0] == l.stores[0] && got[1] == l.stores[1] && rounds > 50 ? 0 : 5;
}

static void nothing_lost(void)
{
	pid_t pid = pt_fork(hammer, NULL);

	PT_EQ(pt_wait(pid, 20000), 0);
}

/* The same with munmap + mmap instead of one mremap: some thread must meet the gap. */
static void twin_loses(void)
{
	pid_t pid = pt_fork(hammer, &dir);
	int st = pt_wait(pid, 20000);

	CU_ASSERT(st != 0);
	pt_say("invalidating in two steps: %s", st > 128 ? strsignal(st - 128) : st == 4 ? "EFAULT" : "lost stores");
	pt_kill(pid);
}

static void *toucher(void *arg)
{
	struct load *l = arg;

	for (size_t i = 0; i < 8 * MIB / PAGE; i++)
		atomic_fetch_add((_Atomic uint64_t *)(void *)(l->p + i * PAGE), 1);
	return NULL;
}

static void many_threads(void)
{
	struct load l = { .p = NULL };
	struct fake_counts c;
	pthread_t t[16];
	uint64_t bad = 0;

	setup(16);
	l.fd = file(8 * MIB);
	fake_fill(l.fd, 0, 8 * MIB, false);
	l.p = map(l.fd, 8 * MIB, 0);
	for (int i = 0; i < 16; i++)
		pthread_create(&t[i], NULL, toucher, &l);
	for (int i = 0; i < 16; i++)
		pthread_join(t[i], NULL);
	for (size_t i = 0; i < 8 * MIB / PAGE; i++)
		bad += *(uint64_t *)(void *)(l.p + i * PAGE) != 16;
	PT_EQ(bad, 0);
	fake_counts(&c);
	PT_EQ(c.setup, 4);			/* one request per chunk, however many threads */
	munmap(l.p, 8 * MIB);
	close(l.fd);
	fake_stop();
}

static void many_mappings(void)
{
	enum { N = 2000 };
	static char *p[N];
	unsigned int bad = 0;
	int fd;

	setup(64);
	fd = file(16 * MIB);
	fake_fill(fd, 0, 16 * MIB, true);
	for (size_t i = 0; i < N; i++) {
		p[i] = map(fd, 2 * PAGE, (i % 4000) * PAGE);
		*(size_t *)(void *)p[i] = i;
	}
	for (size_t i = 0; i + 1 < N; i++)
		bad += *(size_t *)(void *)(p[i] + PAGE) != i + 1;
	PT_EQ(bad, 0);
	PT_EQ(fake_inval(fd, 0, 16 * MIB), 0);
	for (size_t i = 0; i < N; i++)
		bad += *(size_t *)(void *)p[i] != i;
	PT_EQ(bad, 0);
	for (size_t i = 0; i < N; i++)
		munmap(p[i * 7 % N], 2 * PAGE);		/* 7 and 2000 have no common factor */
	PT_EQ(atomic_load(&sh.nvma), 0);
	close(fd);
	fake_stop();
}

static void *mapper(void *arg)
{
	struct load *l = arg;
	unsigned int seed = 1;

	while (!atomic_load(&l->stop)) {
		char *p = map(l->fd, 4 * MIB, 0);

		*(volatile char *)(p + (size_t)rand_r(&seed) % (4 * MIB / PAGE) * PAGE + 99) = 1;
		munmap(p, 2 * MIB);
		*(volatile char *)(p + 3 * MIB) = 1;
		munmap(p + 2 * MIB, 2 * MIB);
	}
	return NULL;
}

static void unmap_races(void)
{
	struct load l = { .p = NULL };
	pthread_t t[4];
	uint64_t end;

	setup(4);
	l.fd = file(4 * MIB);
	fake_fill(l.fd, 0, 4 * MIB, false);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, mapper, &l);
	end = pt_now_ms() + 1000;
	while (pt_now_ms() < end)
		PT_EQ(fake_inval(l.fd, 0, 4 * MIB), 0);
	atomic_store(&l.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	PT_EQ(atomic_load(&sh.nvma), 0);
	close(l.fd);
	fake_stop();
}

/* ---- fork, descriptors, the end of the daemon ---- */

static void forked(void)
{
	char *p, *priv, b;
	int fd, st;
	pid_t pid;

	setup(16);
	fd = file(6 * MIB);
	fake_write(fd, 100, "p", 1);
	p = map(fd, 6 * MIB, 0);
	CU_ASSERT(p[100] == 'p');
	PT_EQ(mprotect(p + 4 * MIB, 2 * MIB, PROT_READ), 0);
	PT_EQ(munmap(p + 2 * MIB, PAGE), 0);
	priv = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid == 0) {
		if (p[100] != 'p')
			_exit(1);
		p[200] = 'c';			/* shared, not copied */
		priv[0] = 1;
		if (touch(p + 2 * MIB, false) != SIGSEGV)
			_exit(2);
		if (touch(p + 4 * MIB, true) != SIGSEGV || touch(p + 4 * MIB, false) != 0)
			_exit(3);
		if (munmap(p, 6 * MIB))
			_exit(4);
		_exit(7);
	}
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WEXITSTATUS(st), 7);
	PT_EQ(priv[0], 0);
	CU_ASSERT(p[200] == 'c');
	p[300] = 1;
	fake_read(fd, 300, &b, 1);
	PT_EQ(b, 1);
	munmap(p, 6 * MIB);
	munmap(priv, PAGE);
	close(fd);
	fake_stop();
}

/* A child that is invalidated on its own, while the parent is, too. */
static void forked_inval(void)
{
	struct fake_counts c;
	char *p;
	int fd, st, in[2];
	pid_t pid;

	setup(16);
	PT_EQ(pipe(in), 0);
	fd = file(2 * MIB);
	fake_fill(fd, 0, 2 * MIB, false);
	p = map(fd, 2 * MIB, 0);
	p[0] = 1;
	pid = fork();
	if (pid == 0) {
		char x;

		p[1] = 1;
		if (write(in[1], "x", 1) != 1)
			_exit(1);
		while (*(volatile char *)(p + 2) != 9)
			usleep(1000);
		_exit(p[0] == 5 ? 7 : 1);
		(void)x;
	}
	PT_EQ(read(in[0], &(char){ 0 }, 1), 1);
	fake_counts(&c);
	PT_EQ(c.sessions, 2);
	fake_move(fd, 0);
	p[0] = 5;
	p[2] = 9;
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WEXITSTATUS(st), 7);
	munmap(p, 2 * MIB);
	close(in[0]);
	close(in[1]);
	close(fd);
	fake_stop();
}

static int close_all(void *arg)
{
	char *p;
	int fd;

	(void)arg;
	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	p[0] = 1;
	(void)fake_counts;
	close(fd);
	/* A program that finds and closes all descriptors finds none of ours; the server's thread does not care
	 * for this test. */
	for (int i = 3; i < 1024; i++) {
		char path[64], to[256];
		ssize_t n;

		snprintf(path, sizeof path, "/proc/self/fd/%d", i);
		n = readlink(path, to, sizeof to - 1);
		if (n > 0) {
			to[n] = '\0';
			if (strstr(to, "userfaultfd") || strstr(to, "pinfs-eof") || strstr(to, "pidfd"))
				return 1;
		}
	}
	return p[2 * MIB] == 0 ? 0 : 2;
}

static void hidden_fds(void)
{
	PT_EQ(pt_wait(pt_fork(close_all, NULL), 10000), 0);
}

/* fcntl locks vanish with any close() of the file in the process: not with one of ours. */
static void posix_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	char *p;
	int fd, st;
	pid_t pid;

	setup(16);
	fd = file(MIB);
	PT_EQ(fcntl(fd, F_SETLK, &l), 0);
	p = map(fd, MIB, 0);
	p[0] = 1;
	munmap(p, MIB);
	settle();
	pid = fork();
	if (pid == 0) {
		l.l_pid = 0;
		_exit(fcntl(fd, F_GETLK, &l) == 0 && l.l_type == F_WRLCK ? 7 : 1);
	}
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WEXITSTATUS(st), 7);
	close(fd);
	fake_stop();
}

static void lost_daemon(void)
{
	char *p, *q;
	int fd;

	setup(16);
	fd = file(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	p[0] = 1;
	fake_hang_up();
	for (int i = 0; i < 100 && touch(p, false) != SIGBUS; i++)
		pt_sleep_ms(10);
	PT_EQ(touch(p, false), SIGBUS);
	PT_EQ(touch(p + 3 * MIB, true), SIGBUS);
	q = map(fd, 4 * MIB, 0);			/* the daemon is back: a new session */
	PT_EQ(touch(q, false), 0);
	CU_ASSERT(q[0] == 1);
	PT_EQ(touch(p, false), SIGBUS);
	munmap(p, 4 * MIB);
	munmap(q, 4 * MIB);
	close(fd);
	fake_stop();
}

static void other_files(void)
{
	char *p, path[300];
	int fd;

	setup(4);
	snprintf(path, sizeof path, "%s/plain", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	PT_EQ(ftruncate(fd, PAGE), 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	p[0] = 1;
	PT_EQ(atomic_load(&sh.nvma), 0);
	PT_EQ(munmap(p, PAGE), 0);
	close(fd);
	unlink(path);
	fake_stop();
}

/* The library starts threads in the child of a fork; TSan can follow that, but wants to be asked. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "coherent", coherent, 0 },
		{ "offsets and colour", offsets, 0 },
		{ "holes", holes, 0 },
		{ "long holes", long_holes, 0 },
		{ "seams in holes", seams, 0 },
		{ "end of file", end_of_file, 0 },
		{ "errors", errors, 0 },
		{ "munmap in pieces", pieces, 0 },
		{ "whole chunks", whole_chunks, 0 },
		{ "MAP_FIXED", fixed, 0 },
		{ "mremap", moved, 0 },
		{ "mprotect", protected, 0 },
		{ "madvise and msync", advised, 0 },
		{ "slots are reclaimed", reclaimed, 0 },
		{ "slots in flight", slots_in_flight, 0 },
		{ "msync after an invalidation", synced, 0 },
		{ "invalidation loses nothing", nothing_lost, 0 },
		{ "twin: two steps lose", twin_loses, 0 },
		{ "many threads, one chunk", many_threads, 0 },
		{ "many mappings", many_mappings, 0 },
		{ "munmap races with faults and invalidations", unmap_races, 0 },
		{ "fork", forked, 0 },
		{ "fork, then invalidate", forked_inval, 0 },
		{ "descriptors are hidden", hidden_fds, 0 },
		{ "POSIX locks survive", posix_locks, 0 },
		{ "daemon is lost", lost_daemon, 0 },
		{ "other files", other_files, 0 },
	};
	const struct pt_suite suite = { "window", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
