/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_window_life.c - windows of the preload library, against the small daemon of fakesrv.c, while things happen:
 * invalidations under load lose nothing, and threads, forks, descriptors that are closed and the end of the daemon
 * leave alone what they should.
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

/* ---- invalidations under load ---- */

struct load {
	char *p;
	atomic_bool stop;
	atomic_int at_work;
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
		if (l->stores[me]++ == 0)
			atomic_fetch_add(&l->at_work, 1);
	}
	return NULL;
}

static void *kernel_writer(void *arg)
{
	struct load *l = arg;
	int fd = open("/dev/zero", O_RDONLY);

	while (!atomic_load(&l->stop)) {
		if (read(fd, l->p + 16 * PAGE, 16 * PAGE) <= 0)		/* a signal may make it shorter */
			return l;
		l->reads++;
	}
	close(fd);
	return NULL;
}

static int hammer(void *arg PF_UNUSED)
{
	struct load l = { .p = NULL };
	pthread_t t[3];
	uint64_t got[2], rounds = 0, end;
	void *bad;

	setup(16);
	l.fd = fake_new(2 * MIB);
	fake_fill(l.fd, 0, 2 * MIB, false);
	l.p = map(l.fd, 2 * MIB, 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, storer, &l);
	pthread_create(&t[2], NULL, kernel_writer, &l);
	end = pt_now_ms() + 20000;
	while (rounds <= 50 || (pt_now_ms() < end && rounds < 4000)) {
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
	pt_say("%llu invalidations, %llu + %llu stores, %llu reads into the window", (unsigned long long)rounds,
	       (unsigned long long)l.stores[0], (unsigned long long)l.stores[1], (unsigned long long)l.reads);
	munmap(l.p, 2 * MIB);
	fake_stop();
	if (got[0] == l.stores[0] && got[1] == l.stores[1])
		return 0;
	pt_say("on the device: %llu, %llu", (unsigned long long)got[0], (unsigned long long)got[1]);
	return 5;
}

/* The memory is gone, and serve stands here until somebody has noticed: who stores to it dies, and all with him. */
static void gap(void)
{
	for (;;)
		(void)pause();
}

static int two_steps(void *arg PF_UNUSED)
{
	struct load l = { .p = NULL };
	pthread_t t[2];

	sh.zap_gap = gap;
	setup(16);
	l.fd = fake_new(2 * MIB);
	fake_fill(l.fd, 0, 2 * MIB, false);
	l.p = map(l.fd, 2 * MIB, 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, storer, &l);
	while (atomic_load(&l.at_work) < 2)
		pt_sleep_ms(1);
	return fake_inval(l.fd, 0, 2 * MIB) == 0 ? 0 : 3;
}

static void nothing_lost(void)
{
	pid_t pid = pt_fork(hammer, NULL);

	PT_EQ(pt_wait(pid, 240000), 0);
}

/* With munmap + mmap instead of one mremap, a thread meets the gap. */
static void twin_loses(void)
{
	int st = pt_wait(pt_fork(two_steps, NULL), 100000);

#ifdef __SANITIZE_THREAD__
	CU_ASSERT(st > 3);			/* it handles the signal, and exits */
#else
	PT_EQ(st, 128 + SIGSEGV);
#endif
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
	l.fd = fake_new(8 * MIB);
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
	fd = fake_new(16 * MIB);
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
	l.fd = fake_new(4 * MIB);
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
	fd = fake_new(6 * MIB);
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
		if (pt_touch(p + 2 * MIB, false) != SIGSEGV)
			_exit(2);
		if (pt_touch(p + 4 * MIB, true) != SIGSEGV || pt_touch(p + 4 * MIB, false) != 0)
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
	fd = fake_new(2 * MIB);
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
	fd = fake_new(4 * MIB);
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
	PT_EQ(pt_wait(pt_fork(close_all, NULL), 60000), 0);
}

/* fcntl locks vanish with any close() of the file in the process: not with one of ours. */
static void posix_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	char *p;
	int fd, st;
	pid_t pid;

	setup(16);
	fd = fake_new(MIB);
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
	uint64_t end = 0;
	char *p, *q;
	int fd;

	setup(16);
	fd = fake_new(4 * MIB);
	p = map(fd, 4 * MIB, 0);
	p[0] = 1;
	fake_hang_up();
	while (pt_touch(p, false) != SIGBUS && pt_wait_on(&end))
		;
	PT_EQ(pt_touch(p, false), SIGBUS);
	PT_EQ(pt_touch(p + 3 * MIB, true), SIGBUS);
	q = map(fd, 4 * MIB, 0);			/* the daemon is back: a new session */
	PT_EQ(pt_touch(q, false), 0);
	CU_ASSERT(q[0] == 1);
	PT_EQ(pt_touch(p, false), SIGBUS);
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
	snprintf(path, sizeof path, "%s/plain", pt_tmp());
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
		{ "invalidation loses nothing", nothing_lost, 250 },
		{ "twin: two steps lose", twin_loses, 120 },
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
	const struct pt_suite suite = { "window_life", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
