/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_map.c - mappings on a real mount: MAP_PRIVATE beside everything that changes the file, and the times of a file
 * that is stored to through windows.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "harness/touch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

/* Page i is full of 'a' + i % 26. */
static int lettered(const struct pt_fs *fs, const char *name, size_t pages)
{
	int fd = open(pt_path(fs, "%s", name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char page[PAGE];

	PT_SYS_FATAL(fd);
	for (size_t i = 0; i < pages; i++) {
		memset(page, 'a' + (int)(i % 26), PAGE);
		CU_ASSERT_FATAL(write(fd, page, PAGE) == (ssize_t)PAGE);
	}
	return fd;
}

static char *map(int fd, size_t len, int type)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, type, fd, 0);
	struct pinfs_range_info ri;

	CU_ASSERT_FATAL(p != MAP_FAILED);
	PT_EQ(pinfs_range_query(p, len, &ri), 0);	/* a window, not the kernel's own mapping */
	return p;
}

static void private_file(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = lettered(fs, "f", 600), ro, st;
	char *p = map(fd, 600 * PAGE, MAP_PRIVATE), *s = map(fd, 600 * PAGE, MAP_SHARED), *r, b;
	struct stat before, after;
	pid_t pid;

	CU_ASSERT(p[0] == 'a' && p[520 * PAGE] == 'a');
	s[1] = 'X';
	PT_EQ(pwrite(fd, "Y", 1, 2), 1);
	CU_ASSERT(p[1] == 'X' && p[2] == 'Y');
	PT_EQ(fstat(fd, &before), 0);
	for (size_t i = 0; i < 600; i += 4)
		p[i * PAGE] = 'P';
	PT_EQ(fstat(fd, &after), 0);
	CU_ASSERT(memcmp(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim) == 0);	/* not the file's business */
	PT_EQ(pread(fd, &b, 1, 0), 1);
	PT_EQ(b, 'a');
	PT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100 * PAGE), 0);
	CU_ASSERT(p[0] == 'P' && p[1] == 'X' && p[PAGE] == 0 && p[4 * PAGE] == 'P' && p[99 * PAGE] == 0);
	/* Another process, which has no window of the file, cuts it. */
	pid = fork();
	if (pid == 0)
		_exit(truncate(pt_path(fs, "f"), 300 * PAGE) != 0);
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(st, 0);
	CU_ASSERT(p[296 * PAGE] == 'P' && p[299 * PAGE] == (char)('a' + 299 % 26));
	PT_EQ(pt_touch(p + 300 * PAGE, false), SIGBUS);
	PT_EQ(pt_touch(p + 500 * PAGE, true), SIGBUS);
	PT_EQ(ftruncate(fd, 600 * PAGE), 0);
	CU_ASSERT(p[300 * PAGE] == 0 && p[304 * PAGE] == 0 && p[500 * PAGE] == 0);
	/* From here on pages come from elsewhere in the file, copies or not. */
	PT_EQ(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 200 * PAGE, 50 * PAGE), 0);
	CU_ASSERT(p[196 * PAGE] == 'P' && p[200 * PAGE] == (char)('a' + 250 % 26));
	CU_ASSERT(p[248 * PAGE] == (char)('a' + 298 % 26));
	munmap(s, 600 * PAGE);
	ro = open(pt_path(fs, "f"), O_RDONLY);
	r = map(ro, 100 * PAGE, MAP_PRIVATE);			/* may be stored to all the same */
	r[99 * PAGE] = 'R';
	CU_ASSERT(r[99 * PAGE] == 'R' && p[99 * PAGE] == 0);
	munmap(r, 100 * PAGE);
	munmap(p, 600 * PAGE);
	close(ro);
	close(fd);
	pt_fs_end(fs);
}

/* A truncate that is refused because of a pin takes no copies away. */
static void private_busy(void)
{
	struct pt_fs *fs = pt_fs_start("64M", "on_busy=ebusy");
	int fd = lettered(fs, "f", 64);
	char *p = map(fd, 64 * PAGE, MAP_PRIVATE), *s = map(fd, 64 * PAGE, MAP_SHARED);
	struct pinfs_pin *pin;

	p[40 * PAGE] = 'P';
	PT_EQ(pinfs_pin(p + 40 * PAGE, PAGE, PINFS_PIN_WRITE, &pin), -EFAULT);	/* a copy is nowhere on the device */
	PT_EQ(pinfs_pin(p + 41 * PAGE, PAGE, 0, &pin), -EFAULT);
	PT_EQ(pinfs_pin(s + 63 * PAGE, PAGE, PINFS_PIN_WRITE, &pin), 0);
	PT_FAILS(ftruncate(fd, 32 * PAGE), EBUSY);
	CU_ASSERT(p[40 * PAGE] == 'P' && p[41 * PAGE] == 'a' + 41 % 26);
	pinfs_unpin(pin);
	PT_EQ(ftruncate(fd, 32 * PAGE), 0);
	PT_EQ(pt_touch(p + 40 * PAGE, false), SIGBUS);
	munmap(s, 64 * PAGE);
	munmap(p, 64 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* Copies need no slot of the window. */
static void private_small_window(void)
{
	struct pt_fs *fs = pt_fs_start("64M", "window=4M");
	int fd = lettered(fs, "f", 4096);
	char *p = map(fd, 4096 * PAGE, MAP_PRIVATE);
	unsigned int bad = 0;

	for (size_t i = 0; i < 4096; i += 64)
		p[i * PAGE] = 'P';
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < 4096; i += 32)
			bad += p[i * PAGE] != (i % 64 ? (char)('a' + i % 26) : 'P');
	PT_EQ(bad, 0);
	PT_EQ(ftruncate(fd, 2048 * PAGE), 0);
	CU_ASSERT(p[1024 * PAGE] == 'P');
	PT_EQ(pt_touch(p + 3072 * PAGE, false), SIGBUS);
	munmap(p, 4096 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* ---- times ---- */

/* The times now; whatever comes later has a later time. */
static struct stat times(int fd)
{
	struct timespec from, now;
	struct stat st;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &from);
	do {
		pt_sleep_ms(1);
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec == from.tv_sec && now.tv_nsec == from.tv_nsec);
	PT_EQ(fstat(fd, &st), 0);
	return st;
}

static bool moved(const struct stat *a, const struct stat *b)
{
	bool m = memcmp(&a->st_mtim, &b->st_mtim, sizeof a->st_mtim) != 0;
	bool c = memcmp(&a->st_ctim, &b->st_ctim, sizeof a->st_ctim) != 0;

	CU_ASSERT(m == c);
	return m;
}

static void store_moves_times(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = lettered(fs, "f", 600);
	char *p = map(fd, 600 * PAGE, MAP_SHARED), *q;
	struct stat a = times(fd), b;

	CU_ASSERT(p[0] == 'a' && p[599 * PAGE] != 0);
	b = times(fd);
	CU_ASSERT(!moved(&a, &b));			/* loads do not */
	p[0] = 'S';					/* a store to a page that was only read */
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	p[1] = 'S';
	a = times(fd);
	CU_ASSERT(!moved(&a, &b));			/* nor do stores to a page that is being stored to */
	p[599 * PAGE] = 'S';
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	PT_EQ(msync(p, 600 * PAGE, MS_SYNC), 0);
	CU_ASSERT(p[0] == 'S');
	a = times(fd);
	CU_ASSERT(!moved(&a, &b));
	p[0] = 'T';					/* the first after a sync */
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	PT_EQ(fsync(fd), 0);
	a = times(fd);
	CU_ASSERT(!moved(&a, &b));
	p[1] = 'T';
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	PT_EQ(msync(p, PAGE, MS_ASYNC), 0);
	p[0] = 'U';
	a = times(fd);
	CU_ASSERT(!moved(&a, &b));
	munmap(p, 600 * PAGE);
	/* A mapping that becomes writable later. */
	p = mmap(NULL, 600 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CU_ASSERT(p[0] == 'U');
	PT_EQ(mprotect(p, 600 * PAGE, PROT_READ | PROT_WRITE), 0);
	a = times(fd);
	p[0] = 'V';
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	/* Two mappings of one page: what one announces, the other need not. */
	q = map(fd, 600 * PAGE, MAP_SHARED);
	CU_ASSERT(q[0] == 'V');
	q[0] = 'W';
	a = times(fd);
	CU_ASSERT(!moved(&a, &b) && p[0] == 'W');
	PT_EQ(msync(q, PAGE, MS_SYNC), 0);
	p[0] = 'X';
	b = times(fd);
	CU_ASSERT(moved(&a, &b));
	munmap(p, 600 * PAGE);
	munmap(q, 600 * PAGE);
	close(fd);
	pt_fs_end(fs);
}

/* The kernel's stores count as the program's. */
static void call_moves_times(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = lettered(fs, "f", 4), io[2];
	char *p = map(fd, 4 * PAGE, MAP_SHARED);
	struct stat a, b;

	CU_ASSERT(p[0] == 'a');
	CU_ASSERT_FATAL(pipe(io) == 0);
	PT_EQ(write(io[1], "hello", 5), 5);
	a = times(fd);
	PT_EQ(read(io[0], p + PAGE, 5), 5);
	b = times(fd);
	CU_ASSERT(moved(&a, &b) && memcmp(p + PAGE, "hello", 5) == 0);
	PT_EQ(write(io[1], p + 2 * PAGE, 5), 5);
	a = times(fd);
	CU_ASSERT(!moved(&a, &b));
	munmap(p, 4 * PAGE);
	close(io[0]);
	close(io[1]);
	close(fd);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "private", private_file, 0 },
		{ "private, a truncate that fails", private_busy, 0 },
		{ "private, small window", private_small_window, 0 },
		{ "stores move times", store_moves_times, 0 },
		{ "so do calls that store", call_moves_times, 0 },
	};
	static const struct pt_suite suites[] = { { "map", cases, sizeof cases / sizeof cases[0] } };

	return pt_main(argc, argv, suites, 1);
}
