/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_window.c - windows of the preload library against the small daemon of fakesrv.c: what is mapped is the
 * file's blocks, holes and ends of files behave, and every form of munmap, mremap, mprotect leaves the rest alone.
 */
#include "fakesrv.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "harness/touch.h"
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

static void setup(uint32_t nslot)
{
	PT_EQ(fake_start(pt_tmp(), nslot), 0);
}

static char *map(int fd, size_t len, uint64_t off)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)off);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static void settle(void)		/* detaching and removing goes on after munmap() has returned */
{
	struct fake_counts c;
	uint64_t end = 0;

	do {
		fake_counts(&c);
		if (c.slots == 0)
			return;
	} while (pt_wait_on(&end));
	PT_EQ(c.slots, 0);
}

/* ---- cases ---- */

static void coherent(void)
{
	struct fake_counts c;
	uint64_t end = 0;
	char buf[16], *p;
	int fd;

	setup(16);
	fd = fake_new(8 * MIB);
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
	do					/* it comes after the last slot */
		fake_counts(&c);
	while (c.detach == 0 && pt_wait_on(&end));
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
	fd = fake_new(8 * MIB);
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
	fd = fake_new(4 * MIB);
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
	fd = fake_new(8 * MIB);
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
	PT_EQ(pt_touch(p, true), SIGSEGV);
	PT_EQ(mprotect(p, 8 * MIB, PROT_READ | PROT_WRITE), 0);
	PT_EQ(pt_touch(p, true), 0);
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
	fd = fake_new(4 * MIB);
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
	fd = fake_new(PAGE + 100);
	fake_fill(fd, 0, 2 * PAGE, false);
	p = map(fd, 4 * MIB, 0);
	PT_EQ(pt_touch(p + PAGE + 4000, true), 0);		/* the last page is whole */
	PT_EQ(pt_touch(p + 2 * PAGE, false), SIGBUS);
	PT_EQ(pt_touched_code(), BUS_ADRERR);
	CU_ASSERT(pt_touched_at() == p + 2 * PAGE);
	PT_EQ(pt_touch(p + 3 * MIB, true), SIGBUS);
	PT_EQ(fake_truncate(fd, 3 * MIB + PAGE, 0), 0);
	PT_EQ(pt_touch(p + 2 * PAGE, true), 0);
	PT_EQ(pt_touch(p + 3 * MIB, true), 0);
	PT_EQ(pt_touch(p + 3 * MIB + PAGE, false), SIGBUS);
	PT_EQ(fake_truncate(fd, PAGE, 1000), 0);
	PT_EQ(pt_touch(p, false), 0);
	PT_EQ(pt_touch(p + PAGE, false), SIGBUS);
	PT_EQ(pt_touch(p + 3 * MIB, false), SIGBUS);
	munmap(p, 4 * MIB);
	close(fd);
	fake_stop();
}

static void errors(void)
{
	uint64_t end = 0;
	char *p, b = 0;
	int fd, ro;
	char path[64];

	setup(16);
	fd = fake_new(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	fake_fail(-ENOSPC);		/* once is not enough: a thread that runs too late asks again */
	PT_EQ(pt_touch(p + PAGE, true), SIGBUS);
	PT_EQ(pt_touched_code(), BUS_ADRERR);
	fake_fail(0);
	/* No longer than a failed kernel fault, nearly. */
	while (pt_touch(p + PAGE, true) != 0 && pt_wait_on(&end))
		;
	PT_EQ(pt_touch(p + PAGE, true), 0);
	fake_fail(-EIO);
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGBUS);
	fake_fail(0);
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
	PT_EQ(pt_touch(p, false), 0);
	PT_EQ(pt_touch(p, true), SIGSEGV);
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
	fd = fake_new(8 * MIB);
	fake_fill(fd, 0, 8 * MIB, false);
	p = map(fd, 8 * MIB, 0);
	memset(p, 1, 8 * MIB);
	PT_EQ(munmap(p + 2 * MIB, MIB), 0);
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(pt_touch(p + 3 * MIB - 1, false), SIGSEGV);
	CU_ASSERT(p[2 * MIB - 1] == 1 && p[3 * MIB] == 1);
	PT_EQ(munmap(p + 2 * MIB - PAGE, 2 * MIB), 0);	/* across the gap */
	CU_ASSERT(p[2 * MIB - PAGE - 1] == 1 && p[4 * MIB - PAGE] == 1);
	PT_EQ(fake_inval(fd, 0, 8 * MIB), 0);		/* pieces are still invalidated right */
	CU_ASSERT(p[PAGE] == 1 && p[4 * MIB] == 1 && p[8 * MIB - 1] == 1);
	PT_EQ(pt_touch(p + 3 * MIB, false), SIGSEGV);
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
	fd = fake_new(8 * MIB);
	fake_fill(fd, 0, 6 * MIB, false);
	p = map(fd, 8 * MIB, 0);
	PT_EQ((uintptr_t)p % (2 * MIB), 0);
	PT_EQ(pt_touch(p + 3 * MIB, true), 0);			/* not the first page of its chunk */
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
	PT_EQ(pt_touch(p + 6 * MIB, false), SIGBUS);
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
	fd = fake_new(4 * MIB);
	fd2 = fake_new(4 * MIB);
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
	fd = fake_new(16 * MIB);
	fake_fill(fd, 0, 16 * MIB, false);
	for (size_t i = 0; i < 16; i++)
		fake_write(fd, i * MIB, (char[]){ (char)('A' + i) }, 1);
	p = map(fd, 4 * MIB, 0);
	CU_ASSERT(p[3 * MIB] == 'D');
	q = mremap(p, 4 * MIB, 2 * MIB, 0);
	CU_ASSERT(q == p && p[MIB] == 'B');
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGSEGV);
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
	PT_EQ(pt_touch(q + 8 * MIB, false), SIGSEGV);
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
	fd = fake_new(6 * MIB);
	p = map(fd, 6 * MIB, 0);
	CU_ASSERT(p[0] == 0 && p[4 * MIB] == 0);
	p[2 * MIB] = 5;
	PT_EQ(mprotect(p + MIB, 4 * MIB, PROT_READ), 0);
	PT_EQ(pt_touch(p + 2 * MIB, true), SIGSEGV);
	PT_EQ(pt_touch(p + 3 * MIB, true), SIGSEGV);
	PT_EQ(pt_touch(p + 3 * MIB, false), 0);
	PT_EQ(pt_touch(p + 4 * MIB, true), SIGSEGV);
	PT_EQ(pt_touch(p + MIB - 1, true), 0);
	PT_EQ(fake_inval(fd, 0, 6 * MIB), 0);
	PT_EQ(pt_touch(p + 2 * MIB, true), SIGSEGV);		/* kept across an invalidation */
	CU_ASSERT(p[2 * MIB] == 5);
	PT_EQ(mprotect(p, 6 * MIB, PROT_READ | PROT_WRITE), 0);
	p[4 * MIB] = 6;					/* a hole that was read before */
	fake_read(fd, 4 * MIB, &b, 1);
	PT_EQ(b, 6);
	PT_EQ(mprotect(p + 2 * MIB, MIB, PROT_NONE), 0);
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(fake_inval(fd, 0, 6 * MIB), 0);
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(mprotect(p + 2 * MIB, MIB, PROT_READ), 0);
	CU_ASSERT(p[2 * MIB] == 5);
	munmap(p, 6 * MIB);
	close(fd);
	fake_stop();
}

static void advised(void)
{
	char *p, b = 0;
	int fd;

	setup(16);
	fd = fake_new(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	p[PAGE] = 3;
	CU_ASSERT(p[2 * PAGE] == 0);
	PT_EQ(madvise(p, 4 * MIB, MADV_DONTNEED), 0);
	CU_ASSERT(p[PAGE] == 3 && p[2 * PAGE] == 0);
	CU_ASSERT(p[3 * MIB] == 0);			/* one long hole */
	PT_EQ(madvise(p + 2 * MIB, 2 * MIB, MADV_DONTNEED), 0);
	p[3 * MIB] = 4;					/* is still seen */
	fake_read(fd, 3 * MIB, &b, 1);
	PT_EQ(b, 4);
	b = 5;
	fake_write(fd, 3 * MIB + PAGE, &b, 1);
	CU_ASSERT(p[3 * MIB] == 4 && p[3 * MIB + PAGE] == 5);
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
	fd = fake_new(16 * MIB);
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
	a = fake_new(4 * MIB);
	b = fake_new(4 * MIB);
	for (int i = 0; i < 50; i++) {
		char *p = map(i % 2 ? a : b, 4 * MIB, 0);

		PT_EQ(pt_touch(p, true), 0);
		PT_EQ(pt_touch(p + 2 * MIB, true), 0);
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
	fd = fake_new(8 * MIB);
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
	};
	const struct pt_suite suite = { "window", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
