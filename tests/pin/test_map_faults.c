/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_map_faults.c - what a touch of a window's page gives, by what the file has there, and what happens when several
 * things happen at once: a load and a store, a store and MADV_DONTNEED, thousands of mappings, growth by single bytes.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "harness/touch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pinfs/compiler.h>
#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define RW (PROT_READ | PROT_WRITE)
#define SOON_MS 60000U

static int file(const struct pt_fs *fs, const char *name, off_t size)
{
	int fd = open(pt_path(fs, "%s", name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(ftruncate(fd, size));
	return fd;
}

static char *map(int fd, size_t len, int prot, int type)
{
	char *p = mmap(NULL, len, prot, type, fd, 0);
	struct pinfs_range_info ri;

	CU_ASSERT_FATAL(p != MAP_FAILED);
	PT_EQ(pinfs_range_query(p, len, &ri), 0);
	return p;
}

static long long blocks(int fd)
{
	struct stat st;

	PT_EQ(fstat(fd, &st), 0);
	return st.st_blocks / 8;
}

static bool all(const char *p, size_t len, char c)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != c)
			return false;
	return true;
}

/* ---- one access ---- */

static void states(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = file(fs, "f", 3 * MIB + 100);			/* no chunk of it is filled as a whole */
	char *p = map(fd, 4 * MIB, RW, MAP_SHARED), *q = map(fd, 4 * MIB, RW, MAP_PRIVATE), *end = p + 3 * MIB;
	long long before;

	CU_ASSERT_FATAL(pwrite(fd, "x", 1, 2 * MIB) == 1);
	before = blocks(fd);
	/* Holes: loads see zeros, and allocate nothing. */
	CU_ASSERT(all(p + 2 * MIB + PAGE, 8 * PAGE, 0) && all(q + 2 * MIB + PAGE, 8 * PAGE, 0));
	PT_EQ(blocks(fd), before);
	PT_EQ(pt_touch(q + 2 * MIB + 5 * PAGE, true), 0);	/* nor does a private store */
	PT_EQ(blocks(fd), before);
	PT_EQ(pt_touch(p + 2 * MIB + 3 * PAGE + 7, true), 0);	/* a store does: one zeroed block */
	PT_EQ(blocks(fd), before + 1);
	CU_ASSERT(all(p + 2 * MIB + 3 * PAGE, 7, 0) && all(p + 2 * MIB + 3 * PAGE + 8, PAGE - 8, 0));
	PT_EQ(q[2 * MIB + 3 * PAGE + 7], 42);
	/* Unwritten blocks are holes to whoever looks. */
	PT_EQ(fallocate(fd, 0, 2 * MIB + 20 * PAGE, 4 * PAGE), 0);
	before = blocks(fd);
	CU_ASSERT(all(p + 2 * MIB + 20 * PAGE, 4 * PAGE, 0));
	PT_EQ(pt_touch(p + 2 * MIB + 21 * PAGE, true), 0);
	CU_ASSERT(all(p + 2 * MIB + 21 * PAGE + 1, PAGE - 1, 0) && all(p + 2 * MIB + 22 * PAGE, PAGE, 0));
	PT_EQ(blocks(fd), before);
	/* The last page is there as a whole; what follows is not, for any kind of access. */
	PT_EQ(pt_touch(end + 99, true), 0);
	PT_EQ(pt_touch(end + PAGE - 1, true), 0);
	for (int i = 0; i < 4; i++) {
		char *at = (i & 2 ? q + 3 * MIB : end) + PAGE + 1234;

		PT_EQ(pt_touch(at, i & 1), SIGBUS);
		PT_EQ(pt_touched_code(), BUS_ADRERR);
		CU_ASSERT(pt_touched_at() == at);
	}
	PT_EQ(ftruncate(fd, 3 * MIB + 200), 0);			/* the tail is zeros again */
	PT_EQ(end[99], 42);
	CU_ASSERT(all(end + 100, PAGE - 100, 0));
	PT_EQ(pt_touch(end + 150, true), 0);
	PT_EQ(ftruncate(fd, 3 * MIB + 120), 0);
	PT_EQ(ftruncate(fd, 3 * MIB + 3 * PAGE), 0);
	CU_ASSERT(all(end + 120, 2 * PAGE, 0));
	munmap(p, 4 * MIB);
	munmap(q, 4 * MIB);
	close(fd);
	pt_fs_end(fs);
}

/* A store that finds no space is SIGBUS at its address; loads go on, and with space so do stores. */
static void no_space(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", MIB), full = file(fs, "full", 0);
	char *p = map(fd, MIB, RW, MAP_SHARED), *at = p + 17 * PAGE + 99;
	static char page[PAGE];
	uint64_t until;

	CU_ASSERT(p[17 * PAGE] == 0);
	while (write(full, page, PAGE) == (ssize_t)PAGE)
		;
	PT_EQ(errno, ENOSPC);
	for (int i = 0; i < 3; i++) {
		PT_EQ(pt_touch(at, true), SIGBUS);
		PT_EQ(pt_touched_code(), BUS_ADRERR);
		CU_ASSERT(pt_touched_at() == at);
	}
	for (until = pt_now_ms() + SOON_MS; pt_touch(at, false) != 0 && pt_now_ms() < until;)
		;
	PT_EQ(pt_touch(at, false), 0);
	PT_EQ(ftruncate(full, 0), 0);
	for (until = pt_now_ms() + SOON_MS; pt_touch(at, true) != 0 && pt_now_ms() < until;)
		;
	PT_EQ(pt_touch(at, true), 0);
	PT_EQ(*at, 42);
	munmap(p, MIB);
	close(full);
	close(fd);
	pt_fs_end(fs);
}

#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif

/* It also has to know of memory errors at all to say so in the signal. */
static bool kernel_poisons(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	bool yes = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && (api.features & UFFD_FEATURE_POISON);

	close(fd);
	return yes && access("/proc/sys/vm/memory_failure_early_kill", F_OK) == 0;
}

static void media_error(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 0), io[2];
	char *p, *q, out[4096], what[600];
	static char page[PAGE];

	for (int i = 0; i < 16; i++) {
		memset(page, 'a' + i, PAGE);
		PT_EQ(write(fd, page, PAGE), PAGE);
	}
	p = map(fd, 16 * PAGE, RW, MAP_SHARED);
	q = map(fd, 16 * PAGE, RW, MAP_PRIVATE);
	CU_ASSERT(p[5 * PAGE] == 'f' && q[6 * PAGE] == 'g');
	q[7 * PAGE] = 'P';
	snprintf(what, sizeof what, "%s:%lu", pt_path(fs, "f"), 5 * PAGE);
	PT_EQ(pt_run(out, sizeof out, SOON_MS,
		     (const char *[]){ pt_program("pinfsctl"), "badblock", "add", fs->mnt, what, NULL }), 0);
	for (int i = 0; i < 4; i++) {
		char *at = (i & 2 ? q : p) + 5 * PAGE + 77;

		PT_EQ(pt_touch(at, i & 1), SIGBUS);
		PT_EQ(pt_touched_code(), kernel_poisons() ? BUS_MCEERR_AR : BUS_ADRERR);
	}
	CU_ASSERT(p[4 * PAGE] == 'e' && p[6 * PAGE] == 'g' && q[4 * PAGE] == 'e' && q[7 * PAGE] == 'P');
	CU_ASSERT_FATAL(pipe2(io, O_NONBLOCK) == 0);
	PT_FAILS(write(io[1], p + 5 * PAGE, 10), EFAULT);
	memset(page, 'n', PAGE);
	PT_EQ(pwrite(fd, page, PAGE, 5 * PAGE), PAGE);		/* another block takes its place */
	CU_ASSERT(p[5 * PAGE] == 'n' && q[5 * PAGE] == 'n');
	close(io[0]);
	close(io[1]);
	munmap(p, 16 * PAGE);
	munmap(q, 16 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* Byte by byte: each is there when it has been stored, and so are all before it. */
static void growth(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 0);
	char *p = map(fd, 4 * PAGE, RW, MAP_SHARED);
	unsigned int bad = 0;

	for (size_t i = 0; i < 3 * PAGE; i += i % PAGE > 20 && i % PAGE < PAGE - 20 ? 97 : 1) {
		if (i % 2)
			PT_EQ(fallocate(fd, 0, (off_t)i, 1), 0);
		else
			PT_EQ(ftruncate(fd, (off_t)i + 1), 0);
		bad += p[i] != 0;
		p[i] = (char)(i | 1);
		for (size_t k = 0; k < i; k += 61)
			bad += p[k] != 0 && p[k] != (char)(k | 1);
		bad += p[i] != (char)(i | 1);
	}
	PT_EQ(bad, 0);
	munmap(p, 4 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* ---- several at once ---- */

static struct { char *p; size_t n; pthread_barrier_t bar; atomic_uint wrong; } both;

static void *loader(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&both.bar);
	for (size_t i = 0; i < both.n; i++) {
		char c = *(volatile char *)(both.p + i * PAGE);

		atomic_fetch_add(&both.wrong, c != 0 && c != 'S');
	}
	return NULL;
}

/* A load and a store meet in the fault of one hole: the store is never lost. */
static void load_and_store(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	pthread_t t[2];
	int fd;

	atomic_store(&both.wrong, 0);
	both.n = 200;
	for (int round = 0; round < 8; round++) {
		fd = file(fs, "f", 2 * MIB - PAGE);
		both.p = map(fd, 2 * MIB - PAGE, RW, MAP_SHARED);
		pthread_barrier_init(&both.bar, NULL, 3);
		for (int i = 0; i < 2; i++)
			CU_ASSERT_FATAL(pthread_create(&t[i], NULL, loader, NULL) == 0);
		pthread_barrier_wait(&both.bar);
		for (size_t i = 0; i < both.n; i++)
			both.p[i * PAGE] = 'S';
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		pthread_barrier_destroy(&both.bar);
		for (size_t i = 0; i < both.n; i++) {
			char c = 0;

			atomic_fetch_add(&both.wrong, both.p[i * PAGE] != 'S');
			atomic_fetch_add(&both.wrong, pread(fd, &c, 1, (off_t)(i * PAGE)) != 1 || c != 'S');
		}
		munmap(both.p, 2 * MIB - PAGE);
		close(fd);
	}
	PT_EQ(atomic_load(&both.wrong), 0);
	pt_fs_end(fs);
}

static void *copier(void *arg)
{
	volatile char *p = both.p + (uintptr_t)arg;

	pthread_barrier_wait(&both.bar);
	for (size_t i = 0; i < both.n; i++) {
		char c = p[0];

		atomic_fetch_add(&both.wrong, c != 'f' && c != 's');
		p[0] = 's';
		c = p[0];
		atomic_fetch_add(&both.wrong, c != 'f' && c != 's');	/* the other may have dropped it */
		if (madvise(both.p, PAGE, MADV_DONTNEED) != 0)
			atomic_fetch_add(&both.wrong, 1);
		c = p[1000];
		atomic_fetch_add(&both.wrong, c != 'f');
	}
	return NULL;
}

/* Two threads make copies of a page and drop them; the rest of the page is always the file's. */
static void copies_dropped(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 0);
	static char page[PAGE];
	pthread_t t[2];

	memset(page, 'f', PAGE);
	PT_EQ(write(fd, page, PAGE), PAGE);
	atomic_store(&both.wrong, 0);
	both.n = 300;
	both.p = map(fd, PAGE, RW, MAP_PRIVATE);
	pthread_barrier_init(&both.bar, NULL, 2);
	for (uintptr_t i = 0; i < 2; i++)
		CU_ASSERT_FATAL(pthread_create(&t[i], NULL, copier, (void *)(i * 8)) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&both.bar);
	PT_EQ(atomic_load(&both.wrong), 0);
	PT_EQ(pread(fd, page, PAGE, 0), PAGE);
	CU_ASSERT(all(page, PAGE, 'f'));
	munmap(both.p, PAGE);
	close(fd);
	pt_fs_end(fs);
}

static void thousands(void)
{
	enum { N = 3000 };
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 64 * PAGE);
	char **p = calloc(N, sizeof *p);
	unsigned int bad = 0;

	for (size_t i = 0; i < N; i++) {
		p[i] = mmap(NULL, PAGE, RW, i % 3 ? MAP_SHARED : MAP_PRIVATE, fd, (off_t)(i % 64 * PAGE));
		CU_ASSERT_FATAL(p[i] != MAP_FAILED);
		bad += p[i][0] != 0;
	}
	for (size_t i = 0; i < 64; i++)
		p[i % 3 ? i : i + 64][i % 3 || (i + 64) % 3 ? 0 : 1] = (char)(i + 1);
	PT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * PAGE), 0);
	PT_EQ(pwrite(fd, "z", 1, 5 * PAGE), 1);
	for (size_t i = 0; i < N; i++)
		bad += i % 3 != 0 && p[i][0] != (i % 64 == 5 ? 'z' : 0);
	PT_EQ(bad, 0);
	for (size_t i = 0; i < N; i++)
		bad += munmap(p[i], PAGE) != 0;
	PT_EQ(bad, 0);
	free(p);
	close(fd);
	pt_fs_end(fs);
}

/* ---- io_uring: the kernel stores into a window from elsewhere ---- */

static void ring(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	struct io_uring_params par = { 0 };
	int fd = file(fs, "f", 16 * PAGE), src, r = (int)syscall(SYS_io_uring_setup, 4, &par);
	char *p = map(fd, 16 * PAGE, RW, MAP_SHARED), path[PATH_MAX + 8];
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	static char page[2 * PAGE];
	char *sq, *cq;
	unsigned int head;

	if (r < 0) {
		pt_skip("io_uring: %s", strerror(errno));
		goto out;
	}
	snprintf(path, sizeof path, "%s/src", fs->dir);
	src = open(path, O_RDWR | O_CREAT, 0600);
	memset(page, 'u', sizeof page);
	PT_EQ(write(src, page, sizeof page), (long)sizeof page);
	sq = mmap(NULL, par.sq_off.array + par.sq_entries * 4, RW, MAP_SHARED | MAP_POPULATE, r, IORING_OFF_SQ_RING);
	cq = mmap(NULL, par.cq_off.cqes + par.cq_entries * sizeof *cqe, RW, MAP_SHARED | MAP_POPULATE, r,
		  IORING_OFF_CQ_RING);
	sqe = mmap(NULL, par.sq_entries * sizeof *sqe, RW, MAP_SHARED | MAP_POPULATE, r, IORING_OFF_SQES);
	CU_ASSERT_FATAL(sq != MAP_FAILED && cq != MAP_FAILED && sqe != MAP_FAILED);
	*sqe = (struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = src, .addr = (uintptr_t)(p + 3 * PAGE + 10),
				      .len = 2 * PAGE };
	*(unsigned int *)(void *)(sq + par.sq_off.array) = 0;
	atomic_store((_Atomic unsigned int *)(void *)(sq + par.sq_off.tail), 1);
	PT_EQ(syscall(SYS_io_uring_enter, r, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
	head = *(unsigned int *)(void *)(cq + par.cq_off.head);
	cqe = (struct io_uring_cqe *)(void *)(cq + par.cq_off.cqes) +
	      (head & *(unsigned int *)(void *)(cq + par.cq_off.ring_mask));
	PT_EQ(cqe->res, 2 * PAGE);
	CU_ASSERT(all(p + 3 * PAGE + 10, 2 * PAGE, 'u') && p[3 * PAGE + 9] == 0);
	close(src);
	(void)unlink(path);
	close(r);
out:
	munmap(p, 16 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* ---- MADV_REMOVE waits for pins, and a signal ends the wait ---- */

static int hold_page(void *arg)
{
	const int *fds = arg;				/* file, pipe */
	char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fds[0], 0);
	struct pinfs_pin *pin;

	if (p == MAP_FAILED || pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &pin) != 0 || write(fds[1], "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void remove_interrupted(void)
{
	struct itimerval often = { { 0, 100000 }, { 0, 100000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = on_alarm }, old;
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 4 * PAGE), io[2], fds[2];
	char *p = map(fd, 4 * PAGE, RW, MAP_SHARED), c;
	pid_t holder;

	memset(p, 'o', 4 * PAGE);
	CU_ASSERT_FATAL(pipe(io) == 0);
	fds[0] = fd;
	fds[1] = io[1];
	holder = pt_fork(hold_page, fds);
	PT_EQ(read(io[0], &c, 1), 1);
	sigaction(SIGALRM, &sa, &old);
	setitimer(ITIMER_REAL, &often, NULL);
	PT_FAILS(madvise(p, 4 * PAGE, MADV_REMOVE), EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	CU_ASSERT(all(p, 4 * PAGE, 'o'));
	pt_kill(holder);
	PT_EQ(madvise(p, 4 * PAGE, MADV_REMOVE), 0);
	CU_ASSERT(all(p, 4 * PAGE, 0));
	close(io[0]);
	close(io[1]);
	munmap(p, 4 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* ---- no execution, no inheritance ---- */

static void no_exec(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 4 * PAGE);
	char *p, *q;

	p = map(fd, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED);
	PT_SYS_FATAL(mount(NULL, fs->mnt, NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC, NULL));
	PT_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), EPERM);
	PT_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0), EPERM);
	q = map(fd, PAGE, PROT_READ, MAP_PRIVATE);
	PT_FAILS(mprotect(q, PAGE, PROT_READ | PROT_EXEC), EACCES);
	munmap(p, PAGE);
	munmap(q, PAGE);
	close(fd);
	pt_fs_end(fs);
}

static void not_inherited(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = file(fs, "f", 16 * PAGE), st;
	char *p = map(fd, 16 * PAGE, RW, MAP_SHARED), *q = map(fd, 16 * PAGE, RW, MAP_PRIVATE);
	pid_t pid;

	p[0] = p[8 * PAGE] = 'S';
	q[0] = q[8 * PAGE] = 'P';
	PT_EQ(madvise(p, 4 * PAGE, MADV_DONTFORK), 0);
	PT_EQ(madvise(q, 4 * PAGE, MADV_DONTFORK), 0);
	PT_EQ(madvise(q + 2 * PAGE, PAGE, MADV_DOFORK), 0);
	pid = fork();
	if (pid == 0) {
		struct pinfs_range_info ri;
		/* The place is free, and may be taken by now. */
		bool ok = pinfs_range_query(p, PAGE, &ri) != 0 && pinfs_range_query(q, PAGE, &ri) != 0 &&
			  (pt_touch(p, false) == SIGSEGV || *p != 'S') && (pt_touch(q, false) == SIGSEGV || *q != 'P');

		ok = ok && p[8 * PAGE] == 'S' && q[8 * PAGE] == 'P' && q[2 * PAGE] == 0 && p[4 * PAGE] == 0;
		_exit(ok ? 7 : 1);
	}
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WIFEXITED(st) ? WEXITSTATUS(st) : -1, 7);
	CU_ASSERT(p[0] == 'S' && q[0] == 'P');
	munmap(p, 16 * PAGE);
	munmap(q, 16 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "by what the file has there", states, 0 },
		{ "no space", no_space, 0 },
		{ "media error", media_error, 0 },
		{ "growth by bytes", growth, 0 },
		{ "a load and a store", load_and_store, 0 },
		{ "copies that are dropped", copies_dropped, 0 },
		{ "thousands of mappings", thousands, 0 },
		{ "io_uring", ring, 0 },
		{ "MADV_REMOVE, interrupted", remove_interrupted, 0 },
		{ "noexec", no_exec, 0 },
		{ "MADV_DONTFORK", not_inherited, 0 },
	};
	static const struct pt_suite suites[] = { { "map_faults", cases, sizeof cases / sizeof cases[0] } };

	return pt_main(argc, argv, suites, 1);
}
