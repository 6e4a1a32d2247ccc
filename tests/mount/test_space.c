/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_space.c - a sparse image that outgrows the filesystem which holds it, and a full mount as programs see it.
 *
 * The image lies on a small tmpfs of its own. Twin: with -o overcommit, the store that finds no page ends the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)
#define MIB (1 << 20)
#define SOME 64				/* blocks that metadata takes and keeps */

static char small[PATH_MAX + 32];	/* the tmpfs, while it is mounted */

static void drop_small(void)
{
	if (small[0] == '\0')
		return;
	(void)umount2(small, MNT_DETACH);
	(void)rmdir(small);
	small[0] = '\0';
}

/* An image of 256 MiB on a tmpfs of 24, mounted. NULL: skipped or failed. */
static struct pt_fs *start_sparse(const char *opts)
{
	const char *mkfs[] = { pt_program("mkfs.pinfs"), "-s", "256M", NULL, NULL };
	struct pt_fs *fs;
	char said[512];

	if (!pt_need_mount())
		return NULL;
	if (geteuid() != 0) {
		pt_skip("only root can mount a tmpfs");
		return NULL;
	}
	fs = pt_fs_new("16M");
	CU_ASSERT_FATAL(fs != NULL);
	PT_SYS(unlink(fs->img));
	(void)snprintf(small, sizeof small, "%s/small", pt_tmp());
	PT_SYS_FATAL(mkdir(small, 0700));
	PT_SYS_FATAL(mount("small", small, "tmpfs", 0, "size=24M"));
	CU_ASSERT_FATAL((size_t)snprintf(fs->img, sizeof fs->img, "%s/img", small) < sizeof fs->img);
	mkfs[3] = fs->img;
	PT_EQ(pt_run(said, sizeof said, 60000, mkfs), 0);
	PT_EQ(pt_fs_mount(fs, opts), 0);
	return fs;
}

/* Pages of 'x' until it fails: how many; errno says why. */
static int fill(const char *path, int flags)
{
	static char buf[64 * 1024];
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0644), n = 0, saved;
	ssize_t got;

	memset(buf, 'x', sizeof buf);
	if (fd < 0)
		return -1;
	for (size_t len = sizeof buf; len >= 4096; len /= 2)
		while ((got = write(fd, buf, len)) > 0)
			n += (int)(got / 4096);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return n;
}

static bool all_x(const char *path, int pages)
{
	char buf[4096], want[4096];
	int fd = open(path, O_RDONLY), n = 0;

	memset(want, 'x', sizeof want);
	while (fd >= 0 && read(fd, buf, sizeof buf) == sizeof buf && memcmp(buf, want, sizeof buf) == 0)
		n++;
	if (fd >= 0)
		(void)close(fd);
	return n == pages;
}

static void test_sparse(void)
{
	struct pt_fs *fs = start_sparse(NULL);
	struct statvfs st;
	fsblkcnt_t had_free;
	int n, again, fd;

	if (fs == NULL)
		return;
	PT_SYS(statvfs(fs->mnt, &st));
	had_free = st.f_bfree - SOME;
	n = fill(P("a"), 0);
	PT_EQ(errno, ENOSPC);
	CU_ASSERT(n > 10 * MIB / 4096);
	CU_ASSERT(n < 24 * MIB / 4096);
	/* The image has room, what is below has not. */
	PT_SYS(statvfs(fs->mnt, &st));
	CU_ASSERT(st.f_bavail > 100 * MIB / 4096);
	CU_ASSERT(all_x(P("a"), n));
	fd = open(P("b"), O_RDWR | O_CREAT, 0644);
	PT_FAILS(fallocate(fd, 0, 0, 32 * MIB), ENOSPC);
	PT_SYS(close(fd));
	/* What is given back can be used again, again and again. */
	for (int i = 0; i < 3; i++) {
		uint64_t end = 0;

		PT_SYS(unlink(P("a")));
		do	/* until the kernel has let go of the inode */
			PT_SYS(statvfs(fs->mnt, &st));
		while (st.f_bfree < had_free && pt_wait_on(&end));
		again = fill(P("a"), O_EXCL);
		PT_EQ(errno, ENOSPC);
		CU_ASSERT(again > n * 9 / 10);
		CU_ASSERT(all_x(P("a"), again));
		n = again;
	}
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	CU_ASSERT(all_x(P("a"), n));
	pt_fs_end(fs);
	drop_small();
}

static void test_twin(void)
{
	struct pt_fs *fs = start_sparse("overcommit");
	const char *fsck[] = { pt_program("fsck.pinfs"), "-n", NULL, NULL };
	char said[4096];

	if (fs == NULL)
		return;
	(void)fill(P("a"), 0);
	CU_ASSERT(errno != ENOSPC && errno != 0);
	pt_say("without reserving: %s", pt_errname());
	pt_fs_crash(fs);
	fsck[2] = fs->img;
	CU_ASSERT(pt_run(said, sizeof said, 60000, fsck) >= 0);	/* says what it says, and ends */
	drop_small();
}

static void test_small_option(void)
{
	struct pt_fs *fs;
	struct stat st;

	if (!pt_need_mount())
		return;
	(void)umask(0);
	/* Fewer inodes in memory than are in use: all there, with all that belongs to them. */
	fs = pt_fs_start("64M", "cache=64");
	for (int i = 0; i < 3000; i++) {
		int fd = open(P("f%d", i), O_WRONLY | O_CREAT | O_EXCL, 0600 + i % 64);

		PT_SYS_FATAL(fd);
		PT_SYS(close(fd));
	}
	for (int i = 0; i < 3000; i += 7) {
		int fd = open(P("f%d", i), O_RDWR);

		PT_SYS_FATAL(fd);
		PT_SYS(unlink(P("f%d", i)));		/* open, and without a name */
		PT_EQ(write(fd, "hello", 5), 5);
		PT_SYS(fstat(fd, &st));
		PT_EQ(st.st_nlink, 0);
		PT_EQ(st.st_size, 5);
		PT_EQ(st.st_mode & 07777, 0600 + i % 64);
		PT_SYS(close(fd));
	}
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	PT_EQ(pt_fs_mount(fs, "cache=64"), 0);
	for (int i = 0; i < 3000; i++)
		PT_EQ(access(P("f%d", i), F_OK), i % 7 == 0 ? -1 : 0);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "sparse", test_sparse, 0 },
		{ "twin-overcommit", test_twin, 0 },
		{ "small-cache", test_small_option, 0 },
	};
	static const struct pt_suite suites[] = { { "space", cases, PF_ARRAY_LEN(cases) } };

	pt_on_cleanup(drop_small);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
