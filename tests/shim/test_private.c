/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_private.c - MAP_PRIVATE windows against the small daemon of fakesrv.c: uncopied pages are the file's, copied
 * ones the program's own, through invalidations, punches, truncates that happen and that do not, mremap, madvise and
 * fork; and a store that races with a punch finds one whole page or another.
 */
#include "fakesrv.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "harness/touch.h"
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

/* A file of @pages pages, page i full of 'a' + i % 26, in blocks one behind the other. */
static int lettered(size_t pages)
{
	char page[PAGE];
	int fd;

	CU_ASSERT_FATAL(fake_start(pt_tmp(), 16) == 0);
	fd = fake_new(pages * PAGE);
	fake_fill(fd, 0, pages * PAGE, false);
	for (size_t i = 0; i < pages; i++) {
		memset(page, 'a' + (int)(i % 26), PAGE);
		fake_write(fd, i * PAGE, page, PAGE);
	}
	return fd;
}

static char *map(int fd, size_t len, int type)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, type, fd, 0);
	struct pinfs_range_info ri;

	CU_ASSERT_FATAL(p != MAP_FAILED);
	CU_ASSERT_FATAL(pinfs_range_query(p, len, &ri) == 0);	/* a window, not the kernel's own mapping */
	return p;
}

static void done(int fd, char *p, size_t len)
{
	PT_EQ(munmap(p, len), 0);
	close(fd);
	fake_stop();
}

/* ---- cases ---- */

static void follows(void)
{
	int fd = lettered(600);
	char *p = map(fd, 600 * PAGE, MAP_PRIVATE), *s = map(fd, 600 * PAGE, MAP_SHARED), b;

	CU_ASSERT(p[0] == 'a' && p[27 * PAGE] == 'b' && p[520 * PAGE] == 'a');
	s[5] = 'X';					/* a store through another window */
	fake_write(fd, 6, "Y", 1);			/* write(2) */
	CU_ASSERT(p[5] == 'X' && p[6] == 'Y');
	p[5] = 'P';					/* copied now */
	s[5] = 'Z';
	fake_write(fd, 6, "W", 1);
	CU_ASSERT(p[5] == 'P' && p[6] == 'Y');
	fake_read(fd, 5, &b, 1);
	PT_EQ(b, 'Z');					/* and the file never saw it */
	s[PAGE] = 'Q';					/* the neighbour follows still */
	CU_ASSERT(p[PAGE] == 'Q');
	p[530 * PAGE] = 'N';				/* a store is the first touch of its page */
	CU_ASSERT(p[530 * PAGE + 1] == 'a' + 530 % 26 && s[530 * PAGE] == 'a' + 530 % 26);
	munmap(s, 600 * PAGE);
	done(fd, p, 600 * PAGE);
}

static void holes(void)
{
	int fd = lettered(16), hole;
	char *p, b = 'h';

	hole = fake_new(4 * MIB);
	p = map(hole, 4 * MIB, MAP_PRIVATE);
	CU_ASSERT(p[0] == 0 && p[MIB] == 0);
	p[0] = 1;					/* where zeros are shown */
	p[3 * MIB] = 2;					/* where nothing is */
	CU_ASSERT(p[0] == 1 && p[1] == 0 && p[3 * MIB] == 2 && p[3 * MIB + 1] == 0);
	PT_EQ(fake_doff(hole, 0), 0);			/* nothing was allocated */
	PT_EQ(fake_doff(hole, 3 * MIB), 0);
	fake_write(hole, PAGE, &b, 1);			/* somebody fills the hole next to it */
	fake_write(hole, 1, &b, 1);
	CU_ASSERT(p[PAGE] == 'h' && p[0] == 1 && p[1] == 0);
	PT_EQ(munmap(p, 4 * MIB), 0);
	close(hole);
	p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	done(fd, p, PAGE);
}

/* Copies stay where uncopied pages are taken away around them, again and again. */
static void survives(void)
{
	int fd = lettered(1024);
	char *p = map(fd, 1024 * PAGE, MAP_PRIVATE);
	unsigned int bad = 0;

	for (size_t i = 0; i < 1024; i += 7)
		p[i * PAGE + 1] = (char)i;
	for (int round = 0; round < 3; round++) {
		PT_EQ(fake_inval(fd, 0, 1024 * PAGE), 0);
		for (size_t i = 0; i < 1024; i++)
			bad += p[i * PAGE] != (char)('a' + i % 26) || (i % 7 == 0 && p[i * PAGE + 1] != (char)i);
	}
	PT_EQ(fake_punch(fd, 100 * PAGE, 600 * PAGE, 1000), 0);
	for (size_t i = 0; i < 1024; i++) {
		char want = i >= 100 && i < 700 && i % 7 ? 0 : (char)('a' + i % 26);

		bad += p[i * PAGE] != want || (i % 7 == 0 && p[i * PAGE + 1] != (char)i);
	}
	PT_EQ(bad, 0);
	done(fd, p, 1024 * PAGE);
}

/* The service thread looks at it under the lock. */
static void leave_copies_to_the_kernel(bool yes)
{
	sh_sigs old;

	sh_lock(&old);
	sh.copy_unsafe = yes;
	sh_unlock(&old);
}

/* Without noting what was copied, the same goes wrong. */
static void twin_forgets(void)
{
	int fd = lettered(8);
	char *p;

	leave_copies_to_the_kernel(true);
	p = map(fd, 8 * PAGE, MAP_PRIVATE);
	CU_ASSERT(p[0] == 'a');
	p[0] = 'P';
	PT_EQ(fake_inval(fd, 0, 8 * PAGE), 0);
	CU_ASSERT(p[0] == 'a');
	leave_copies_to_the_kernel(false);
	done(fd, p, 8 * PAGE);
}

static void truncated(void)
{
	int fd = lettered(16);
	char *p = map(fd, 16 * PAGE, MAP_PRIVATE);

	for (size_t i = 0; i < 16; i += 2)
		p[i * PAGE] = 'P';
	PT_EQ(fake_truncate(fd, 5 * PAGE + 100, 1000), 0);
	CU_ASSERT(p[4 * PAGE] == 'P' && p[3 * PAGE] == 'd' && p[5 * PAGE] == 'f');
	PT_EQ(pt_touch(p + 6 * PAGE, false), SIGBUS);		/* a copy, but the file ends before it */
	PT_EQ(pt_touched_code(), BUS_ADRERR);
	CU_ASSERT(pt_touched_at() == p + 6 * PAGE);
	PT_EQ(pt_touch(p + 7 * PAGE, true), SIGBUS);
	PT_EQ(fake_truncate(fd, 16 * PAGE, 1000), 0);
	CU_ASSERT(p[6 * PAGE] == 0 && p[8 * PAGE] == 0 && p[14 * PAGE] == 0);	/* touched meanwhile or not */
	p[8 * PAGE] = 'R';
	CU_ASSERT(p[4 * PAGE] == 'P' && p[8 * PAGE] == 'R');
	done(fd, p, 16 * PAGE);
}

/* A truncate that pins keep from happening takes nothing away. */
static void not_truncated(void)
{
	int fd = lettered(16);
	char *p = map(fd, 16 * PAGE, MAP_PRIVATE), *s = map(fd, 16 * PAGE, MAP_SHARED);
	struct pinfs_pin *pin;

	for (size_t i = 0; i < 16; i += 2)
		p[i * PAGE] = 'P';
	PT_EQ(pinfs_pin(s + 15 * PAGE, PAGE, PINFS_PIN_WRITE, &pin), 0);
	PT_EQ(fake_truncate(fd, 4 * PAGE, 30), -EBUSY);
	CU_ASSERT(p[8 * PAGE] == 'P' && p[8 * PAGE + 1] == 'i' && p[9 * PAGE] == 'j');
	p[10 * PAGE + 1] = 'Q';
	CU_ASSERT(p[10 * PAGE] == 'P' && p[10 * PAGE + 1] == 'Q' && p[11 * PAGE] == 'l');
	PT_EQ(fake_truncate(fd, 4 * PAGE, 30), -EBUSY);
	CU_ASSERT(p[10 * PAGE] == 'P' && p[10 * PAGE + 1] == 'Q' && p[2 * PAGE] == 'P');
	pinfs_unpin(pin);
	PT_EQ(fake_truncate(fd, 4 * PAGE, 1000), 0);
	PT_EQ(pt_touch(p + 10 * PAGE, false), SIGBUS);
	CU_ASSERT(p[2 * PAGE] == 'P');
	munmap(s, 16 * PAGE);
	done(fd, p, 16 * PAGE);
}

static void advised(void)
{
	int fd = lettered(16);
	char *p = map(fd, 16 * PAGE, MAP_PRIVATE), *q;

	p[PAGE] = 'P';
	p[2 * PAGE] = 'P';
	PT_EQ(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);	/* the file's again */
	CU_ASSERT(p[PAGE] == 'b' && p[2 * PAGE] == 'P');
	p[PAGE] = 'Q';						/* and still seen */
	PT_EQ(fake_inval(fd, 0, 16 * PAGE), 0);
	CU_ASSERT(p[PAGE] == 'Q' && p[2 * PAGE] == 'P');
	PT_FAILS(madvise(p, PAGE, MADV_REMOVE), EACCES);
	PT_FAILS(madvise(p, PAGE, MADV_FREE), EINVAL);
	PT_EQ(mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ), 0);
	CU_ASSERT(p[4 * PAGE] == 'e');
	PT_EQ(pt_touch(p + 4 * PAGE, true), SIGSEGV);
	PT_EQ(mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
	p[4 * PAGE] = 'P';
	PT_EQ(mprotect(p + 4 * PAGE, PAGE, PROT_NONE), 0);
	PT_EQ(fake_inval(fd, 0, 16 * PAGE), 0);
	PT_EQ(fake_truncate(fd, 12 * PAGE, 1000), 0);
	PT_EQ(mprotect(p + 4 * PAGE, PAGE, PROT_READ), 0);
	CU_ASSERT(p[4 * PAGE] == 'P' && p[5 * PAGE] == 'f');
	q = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	fake_write(fd, 0, "Z", 1);
	CU_ASSERT(q[0] == 'a' && p[0] == 'Z');			/* populated is copied, as in the kernel */
	munmap(q, 8 * PAGE);
	done(fd, p, 16 * PAGE);
}

static void moved(void)
{
	int fd = lettered(600);
	char *p = map(fd, 600 * PAGE, MAP_PRIVATE), *q, *r;

	for (size_t i = 0; i < 600; i += 3)
		p[i * PAGE] = 'P';
	p[MIB + PAGE] = 'H';
	q = mremap(p, 600 * PAGE, 1200 * PAGE, MREMAP_MAYMOVE);
	CU_ASSERT_FATAL(q != MAP_FAILED);
	PT_EQ(fake_inval(fd, 0, 600 * PAGE), 0);
	CU_ASSERT(q[0] == 'P' && q[1] == 'a' && q[PAGE] == 'b' && q[3 * PAGE] == 'P' && q[598 * PAGE] == 'a');
	PT_EQ(pt_touch(q + 700 * PAGE, false), SIGBUS);
	r = mmap(NULL, 100 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	r = mremap(q + 3 * PAGE, 100 * PAGE, 100 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r);
	CU_ASSERT_FATAL(r != MAP_FAILED);
	CU_ASSERT(r[0] == 'P' && r[PAGE] == 'e' && q[0] == 'P' && q[105 * PAGE] == 'P' && q[104 * PAGE] == 'a');
	PT_EQ(pt_touch(q + 3 * PAGE, false), SIGSEGV);
	PT_FAILS((long)mremap(r, 0, PAGE, MREMAP_MAYMOVE), EINVAL);	/* no second mapping of a private one */
	q[0] = 'R';
	p = mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	CU_ASSERT(p[0] == 'R' && q[0] == 'a');
	PT_EQ(munmap(p, PAGE), 0);
	PT_EQ(munmap(r, 100 * PAGE), 0);
	done(fd, q, 1200 * PAGE);
}

static void forked(void)
{
	int fd = lettered(600), st;
	char *p = map(fd, 600 * PAGE, MAP_PRIVATE);
	int go[2];
	char b;
	pid_t pid;

	CU_ASSERT_FATAL(pipe(go) == 0);
	for (size_t i = 0; i < 600; i += 3)
		p[i * PAGE] = 'P';
	CU_ASSERT(p[PAGE] == 'b');
	pid = fork();
	if (pid == 0) {
		bool ok = p[0] == 'P' && p[PAGE] == 'b' && p[3 * PAGE] == 'P' && p[597 * PAGE] == 'P';

		p[0] = 'C';
		p[PAGE] = 'C';
		if (read(go[0], &b, 1) != 1)		/* the parent has stored, and invalidated */
			_exit(1);
		ok = ok && p[0] == 'C' && p[PAGE] == 'C' && p[3 * PAGE] == 'P' && p[4 * PAGE] == 'Z';
		_exit(ok ? 7 : 2);
	}
	CU_ASSERT_FATAL(pid > 0);
	p[3 * PAGE] = 'Q';
	fake_write(fd, 4 * PAGE, "Z", 1);
	PT_EQ(fake_inval(fd, 0, 600 * PAGE), 0);
	CU_ASSERT(p[0] == 'P' && p[PAGE] == 'b' && p[3 * PAGE] == 'Q' && p[4 * PAGE] == 'Z');
	PT_EQ(write(go[1], "x", 1), 1);
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WIFEXITED(st) ? WEXITSTATUS(st) : -1, 7);
	CU_ASSERT(p[0] == 'P' && p[PAGE] == 'b');
	close(go[0]);
	close(go[1]);
	done(fd, p, 600 * PAGE);
}

static void daemon_lost(void)
{
	int fd = lettered(8);
	char *p = map(fd, 8 * PAGE, MAP_PRIVATE);

	p[PAGE] = 'P';
	fake_hang_up();
	for (int i = 0; i < 6000 && pt_touch(p, false) == 0; i++)
		pt_sleep_ms(5);
	PT_EQ(pt_touch(p, false), SIGBUS);
	CU_ASSERT(p[PAGE] == 'P');			/* it is the program's own */
	done(fd, p, 8 * PAGE);
}

/* ---- the race: a store to an uncopied page, and a punch ---- */

#define RACE_PAGES 64U
static struct { char *p; pthread_barrier_t bar; unsigned int torn, old, zero; bool stop; } race;

static void *racer(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_barrier_wait(&race.bar);
		if (race.stop)
			return NULL;
		for (size_t i = 0; i < RACE_PAGES; i++)
			race.p[i * PAGE + 17] = 'S';
		pthread_barrier_wait(&race.bar);
	}
}

static void whole_pages(void)
{
	static char want[PAGE];
	int fd = lettered(RACE_PAGES);
	pthread_t t;

	race.torn = race.old = race.zero = 0;
	race.stop = false;
	pthread_barrier_init(&race.bar, NULL, 2);
	CU_ASSERT_FATAL(pthread_create(&t, NULL, racer, NULL) == 0);
	for (int round = 0; round < 60; round++) {
		fake_fill(fd, 0, RACE_PAGES * PAGE, false);
		memset(want, 'o', PAGE);
		for (size_t i = 0; i < RACE_PAGES; i++)
			fake_write(fd, i * PAGE, want, PAGE);
		race.p = map(fd, RACE_PAGES * PAGE, MAP_PRIVATE);
		CU_ASSERT(race.p[0] == 'o');
		pthread_barrier_wait(&race.bar);
		PT_EQ(fake_punch(fd, 0, RACE_PAGES * PAGE, 1000), 0);
		pthread_barrier_wait(&race.bar);
		for (size_t i = 0; i < RACE_PAGES; i++) {
			char *q = race.p + i * PAGE;

			memset(want, q[0], PAGE);
			want[17] = 'S';
			race.torn += memcmp(q, want, PAGE) != 0 || (q[0] != 'o' && q[0] != 0);
			race.old += q[0] == 'o';
			race.zero += q[0] == 0;
		}
		munmap(race.p, RACE_PAGES * PAGE);
	}
	race.stop = true;
	pthread_barrier_wait(&race.bar);
	pthread_join(t, NULL);
	pthread_barrier_destroy(&race.bar);
	PT_EQ(race.torn, 0);
	pt_say("%u copies of the old page, %u of the hole", race.old, race.zero);
	close(fd);
	fake_stop();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "follows the file until copied", follows, 0 },
		{ "holes", holes, 0 },
		{ "copies survive", survives, 0 },
		{ "twin: copies that are not noted", twin_forgets, 0 },
		{ "truncate takes copies away", truncated, 0 },
		{ "a truncate that fails does not", not_truncated, 0 },
		{ "madvise, mprotect", advised, 0 },
		{ "mremap", moved, 0 },
		{ "fork", forked, 0 },
		{ "the daemon is lost", daemon_lost, 0 },
		{ "a store against a punch", whole_pages, 0 },
	};
	static const struct pt_suite suites[] = { { "private", cases, sizeof cases / sizeof cases[0] } };

	return pt_main(argc, argv, suites, 1);
}
