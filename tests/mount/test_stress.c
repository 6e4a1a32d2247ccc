/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stress.c - a full device, several processes at once, and a daemon that is killed under load: whatever happens,
 * what was promised is there, and fsck finds nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)
#define LONG_MS 240000		/* for what is some seconds of work */

/* --- a full device --- */

static uint64_t free_blocks(const struct pt_fs *fs)
{
	struct statvfs st;

	return statvfs(fs->mnt, &st) == 0 ? st.f_bfree : 0;
}

/* The kernel gives inodes back in its own time. */
static void wait_free(const struct pt_fs *fs, uint64_t want)
{
	uint64_t end = 0;

	while (free_blocks(fs) < want && pt_wait_on(&end))
		;
	CU_ASSERT(free_blocks(fs) >= want);
}

static uint64_t fill_up(struct pt_fs *fs, const char *name)
{
	static char block[1 << 20];
	int fd = open(P("%s", name), O_WRONLY | O_CREAT | O_APPEND, 0644);
	size_t step = sizeof block;
	uint64_t sum = 0;
	ssize_t n;

	PT_SYS_FATAL(fd);
	memset(block, 'f', sizeof block);
	while (step >= 1) {
		n = write(fd, block, step);
		if (n < 0) {
			PT_EQ(errno, ENOSPC);
			step /= 2;
		} else {
			sum += (uint64_t)n;
		}
	}
	PT_EQ(lseek(fd, 0, SEEK_END), sum);
	PT_SYS(close(fd));
	return sum;
}

static void full_device(void)
{
	struct pt_fs *fs;
	uint64_t before, first, second;
	int fd, made = 0;
	char b = 0;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("24M", NULL);
	fd = open(P("keep"), O_RDWR | O_CREAT, 0644);
	PT_EQ(pwrite(fd, "kept", 4, 0), 4);
	PT_SYS(ftruncate(fd, 1 << 20));
	(void)close(open(P("first"), O_WRONLY | O_CREAT, 0644));
	PT_SYS(unlink(P("first")));
	before = free_blocks(fs);
	first = fill_up(fs, "filler");
	CU_ASSERT(first > 15 << 20);
	PT_FAILS(pwrite(fd, "x", 1, 500000), ENOSPC);
	PT_FAILS(fallocate(fd, 0, 0, 1 << 20), ENOSPC);
	/* Names: each errs with ENOSPC or works; nothing in between. */
	while (made < 100000) {
		int f = open(P("n%d", made), O_WRONLY | O_CREAT | O_EXCL, 0644);

		if (f < 0) {
			PT_EQ(errno, ENOSPC);
			break;
		}
		(void)close(f);
		made++;
	}
	CU_ASSERT(made < 100000);
	PT_FAILS(mkdir(P("dir"), 0755), ENOSPC);
	PT_FAILS(symlink("a target that is no shorter than an inline one can be: "
			 "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012"
			 "3456789"
			 "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012"
			 "3456789"
			 "0123456789",
			 P("sym")),
		 ENOSPC);
	/* Overwriting in place needs nothing; reading neither. */
	PT_EQ(pwrite(fd, "KEPT", 4, 0), 4);
	PT_EQ(pread(fd, &b, 1, 1), 1);
	PT_EQ(b, 'E');
	PT_SYS(fsync(fd));
	PT_SYS(close(fd));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	/* Deleting works on a full device and gives everything back. */
	for (int i = 0; i < made; i++)
		PT_SYS(unlink(P("n%d", i)));
	PT_SYS(unlink(P("filler")));
	wait_free(fs, before - 64);
	second = fill_up(fs, "filler");
	CU_ASSERT(second >= first - (256 << 10));
	PT_SYS(truncate(P("filler"), 0));
	wait_free(fs, before - 64);
	pt_fs_end(fs);
}

static uint64_t inodes(const struct pt_fs *fs)
{
	struct statvfs st;

	return statvfs(fs->mnt, &st) == 0 ? st.f_files - st.f_ffree : UINT64_MAX;
}

/* --- several processes --- */

struct job { struct pt_fs *fs; unsigned int id; unsigned int rounds; };

/* Own files, shared directories, and one shared name that everybody replaces: it exists at every moment, whole. */
static int churn(void *arg)
{
	const struct job *j = arg;
	struct pt_fs *fs = j->fs;
	unsigned char buf[20000], back[20000];
	unsigned int seed = j->id * 7919 + 1;
	struct stat st;
	int fd;

	for (unsigned int i = 0; i < j->rounds; i++) {
		size_t len = 1 + (size_t)rand_r(&seed) % sizeof buf;
		unsigned int dir = (unsigned int)rand_r(&seed) % 4, dir2 = (unsigned int)rand_r(&seed) % 4;

		memset(buf, (int)(j->id * 16 + i % 16), sizeof buf);
		fd = open(P("d%u/t%u", dir, j->id), O_RDWR | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, buf, len) != (ssize_t)len)
			return 1;
		if (ftruncate(fd, (off_t)len / 2) != 0 || pread(fd, back, sizeof back, 0) != (ssize_t)(len / 2) ||
		    memcmp(buf, back, len / 2) != 0)
			return 2;
		if (close(fd) != 0 || rename(P("d%u/t%u", dir, j->id), P("d%u/own%u-%u", dir2, j->id, i % 8)) != 0)
			return 3;
		if (link(P("d%u/own%u-%u", dir2, j->id, i % 8), P("link%u", j->id)) != 0 ||
		    rename(P("link%u", j->id), P("shared")) != 0)
			return 4;
		fd = open(P("shared"), O_RDONLY);
		if (fd < 0 || fstat(fd, &st) != 0 || (st.st_size > 0 && pread(fd, back, sizeof back, 0) != st.st_size))
			return 5;
		for (off_t k = 1; k < st.st_size; k++)
			if (back[k] != back[0])
				return 6;
		(void)close(fd);
		if (unlink(P("d%u/own%u-%u", dir2, j->id, i % 8)) != 0)
			return 7;
		if (mkdir(P("d%u/sub%u", dir, j->id), 0755) != 0 ||
		    rename(P("d%u/sub%u", dir, j->id), P("d%u/moved%u", dir2, j->id)) != 0 ||
		    rmdir(P("d%u/moved%u", dir2, j->id)) != 0)
			return 8;
	}
	return 0;
}

static void concurrency(void)
{
	struct pt_fs *fs;
	struct job job[6];
	pid_t kid[6];
	struct stat st;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	for (int i = 0; i < 4; i++)
		PT_SYS(mkdir(P("d%d", i), 0755));
	(void)close(open(P("shared"), O_WRONLY | O_CREAT, 0644));
	for (unsigned int i = 0; i < 6; i++) {
		job[i] = (struct job){ fs, i, 150 };
		kid[i] = pt_fork(churn, &job[i]);
	}
	for (unsigned int i = 0; i < 6; i++)
		PT_EQ(pt_wait(kid[i], LONG_MS), 0);
	for (int i = 0; i < 4; i++) {
		PT_SYS(stat(P("d%d", i), &st));
		PT_EQ(st.st_nlink, 2);
	}
	pt_fs_end(fs);
}

/* --- a daemon that dies --- */

/* Each round writes file i, renames it into place, then notes i in shared memory: noted means promised. */
struct promise { _Atomic unsigned int done; };

static int promise_files(void *arg)
{
	struct { struct job job; struct promise *p; } *a = arg;
	struct pt_fs *fs = a->job.fs;
	unsigned char buf[9000];

	for (unsigned int i = 0;; i++) {
		int fd = open(P("new%u", a->job.id), O_WRONLY | O_CREAT | O_TRUNC, 0644);

		memset(buf, (int)(i % 251), sizeof buf);
		if (fd < 0 || write(fd, buf, sizeof buf) != (ssize_t)sizeof buf || close(fd) != 0 ||
		    rename(P("new%u", a->job.id), P("p%u-%u", a->job.id, i % 50)) != 0)
			return 0;	/* the daemon is dead */
		a->p->done = i + 1;
	}
}

/* Until each of them has made as many. */
static bool until_promised(struct promise *p, unsigned int n, unsigned int many)
{
	const uint64_t end = pt_now_ms() + LONG_MS;

	for (unsigned int i = 0; i < n; i++)
		while (p[i].done < many) {
			if (pt_now_ms() >= end)
				return false;
			pt_sleep_ms(1);
		}
	return true;
}

static void killed_under_load(void)
{
	struct { struct job job; struct promise *p; } arg[4];
	struct promise *promises;
	struct pt_fs *fs;
	pid_t kid[4];

	if (!pt_need_mount())
		return;
	promises = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(promises != MAP_FAILED);
	fs = pt_fs_start("64M", NULL);
	for (int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < 4; i++) {
			promises[i].done = 0;
			arg[i].job = (struct job){ fs, i, 0 };
			arg[i].p = &promises[i];
			kid[i] = pt_fork(promise_files, &arg[i]);
		}
		CU_ASSERT(until_promised(promises, 4, 20 + 17 * (unsigned int)round));
		pt_fs_crash(fs);
		for (unsigned int i = 0; i < 4; i++)
			PT_EQ(pt_wait(kid[i], LONG_MS), 0);
		CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, NULL), 0);
		for (unsigned int i = 0; i < 4; i++) {
			unsigned int done = promises[i].done;
			unsigned char buf[9001];

			CU_ASSERT(done > 0);
			/* The one after the last promised may be there as well, whole: then it stands in its place. */
			for (unsigned int k = done > 50 ? done - 50 : 0; k < done; k++) {
				int fd = open(P("p%u-%u", i, k % 50), O_RDONLY);
				ssize_t n = read(fd, buf, sizeof buf);
				bool ok = n == 9000 && (buf[0] == k % 251 || (k + 50 == done && buf[0] == done % 251));

				for (ssize_t b = 1; ok && b < n; b++)
					ok = buf[b] == buf[0];
				if (!ok)
					pt_say("file %u of process %u (of %u): size %zd, byte %d", k, i, done, n,
					       n > 0 ? buf[0] : -1);
				CU_ASSERT_TRUE(ok);
				(void)close(fd);
			}
		}
		PT_EQ(pt_fs_umount(fs), 0);
		PT_EQ(pt_fs_fsck(fs), 0);
		CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, NULL), 0);
	}
	(void)munmap(promises, 4096);
	pt_fs_end(fs);
}

/* Unlinked but open files of a dead daemon: their blocks come back with the next mount. */
static void orphans(void)
{
	uint64_t before, end = 0;
	struct pt_fs *fs;
	int fd[20];

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	before = inodes(fs);
	(void)close(open(P("first"), O_WRONLY | O_CREAT, 0644));
	PT_SYS(unlink(P("first")));
	while (inodes(fs) != before && pt_wait_on(&end))
		;
	PT_EQ(inodes(fs), before);
	before = free_blocks(fs);
	for (int i = 0; i < 20; i++) {
		fd[i] = open(P("f%d", i), O_RDWR | O_CREAT, 0644);
		PT_SYS_FATAL(fd[i]);
		PT_SYS(fallocate(fd[i], 0, 0, 1 << 20));
		PT_SYS(unlink(P("f%d", i)));
	}
	CU_ASSERT(free_blocks(fs) <= before - 20 * 256);
	pt_fs_crash(fs);
	for (int i = 0; i < 20; i++)
		(void)close(fd[i]);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_EQ(free_blocks(fs), before);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "full device", full_device, 0 },
		{ "concurrency", concurrency, 0 },
		{ "daemon killed under load", killed_under_load, 0 },
		{ "orphans of a dead daemon", orphans, 0 },
	};
	static const struct pt_suite suites[] = { { "stress", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
