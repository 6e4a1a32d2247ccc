/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shift.c - COLLAPSE_RANGE, INSERT_RANGE and UNSHARE_RANGE on a mount: by the ioctl, by fallocate(1) under pinrun,
 * beside the kernel's caches, and while a page that would move is pinned.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <pinfs/ioctl.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)
#define PAGE 4096

static int shift(int fd, int mode, off_t page, off_t n)
{
	const struct pinfs_fallocate fa = { .fa_mode = mode, .fa_off = page * PAGE, .fa_len = n * PAGE };

	return ioctl(fd, PINFS_IOC_FALLOCATE, &fa);
}

/* A file of @n pages that say 'a', 'b', ... */
static int make(const char *path, int n)
{
	char buf[PAGE];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	PT_SYS_FATAL(fd);
	for (int i = 0; i < n; i++) {
		memset(buf, 'a' + i, sizeof buf);
		PT_EQ(pwrite(fd, buf, sizeof buf, (off_t)i * PAGE), PAGE);
	}
	return fd;
}

/* What its pages say: one character each, '.' for zeros, '?' for a mixture. */
static const char *pages(int fd)
{
	static char text[64], buf[PAGE];
	size_t n = 0;

	while (n < sizeof text - 1 && pread(fd, buf, sizeof buf, (off_t)n * PAGE) == PAGE) {
		char c = buf[0] == '\0' ? '.' : buf[0];

		text[n++] = memcmp(buf, buf + 1, sizeof buf - 1) == 0 ? c : '?';
	}
	text[n] = '\0';
	return text;
}

static void says(int fd, const char *want)
{
	const char *got = pages(fd);

	if (strcmp(got, want) != 0)
		pt_say("pages are \"%s\", should be \"%s\"", got, want);
	CU_ASSERT_STRING_EQUAL(got, want);
}

static void test_ioctl(void)
{
	struct pt_fs *fs;
	struct stat st;
	int fd, ro, dir;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = make(P("f"), 8);
	PT_SYS(shift(fd, FALLOC_FL_COLLAPSE_RANGE, 1, 2));
	says(fd, "adefgh");
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_size, 6 * PAGE);
	PT_EQ(st.st_blocks, 6 * 8);
	PT_SYS(shift(fd, FALLOC_FL_INSERT_RANGE, 2, 3));
	says(fd, "ad...efgh");
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_size, 9 * PAGE);
	PT_EQ(st.st_blocks, 6 * 8);
	PT_EQ(lseek(fd, 0, SEEK_HOLE), 2 * PAGE);
	PT_EQ(lseek(fd, 2 * PAGE, SEEK_DATA), 5 * PAGE);
	PT_SYS(shift(fd, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 9));
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_blocks, 9 * 8);
	says(fd, "ad...efgh");

	PT_FAILS(shift(fd, FALLOC_FL_COLLAPSE_RANGE, 1, 8), EINVAL);
	PT_FAILS(shift(fd, FALLOC_FL_INSERT_RANGE, 9, 1), EINVAL);
	PT_FAILS(shift(fd, FALLOC_FL_INSERT_RANGE, 0, 0), EINVAL);
	PT_FAILS(shift(fd, FALLOC_FL_INSERT_RANGE | FALLOC_FL_KEEP_SIZE, 0, 1), EINVAL);
	PT_FAILS(shift(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1), EOPNOTSUPP);
	ro = open(P("f"), O_RDONLY);
	PT_FAILS(shift(ro, FALLOC_FL_COLLAPSE_RANGE, 0, 1), EBADF);
	dir = open(fs->mnt, O_RDONLY | O_DIRECTORY);
	PT_FAILS(shift(dir, FALLOC_FL_COLLAPSE_RANGE, 0, 1), EBADF);
	says(fd, "ad...efgh");
	PT_SYS(close(dir));
	PT_SYS(close(ro));
	PT_SYS(close(fd));
	/* And as it is on the media. */
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	fd = open(P("f"), O_RDONLY);
	says(fd, "ad...efgh");
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* What a plain shared mapping has stored moves along, and what it shows afterwards is what is there. */
static void test_caches(void)
{
	struct pt_fs *fs;
	struct stat st;
	int fd, app;
	char *map;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = make(P("f"), 8);
	map = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	memset(map + 5 * PAGE, 'F', PAGE);
	PT_EQ(map[3 * PAGE], 'd');
	PT_SYS(shift(fd, FALLOC_FL_COLLAPSE_RANGE, 2, 2));
	PT_EQ(map[3 * PAGE], 'F');
	PT_EQ(map[2 * PAGE], 'e');
	says(fd, "abeFgh");
	PT_SYS(munmap(map, 8 * PAGE));
	/* The kernel knows the new size once it was asked. */
	app = open(P("f"), O_WRONLY | O_APPEND);
	PT_SYS(fstat(app, &st));
	PT_EQ(st.st_size, 6 * PAGE);
	{
		char buf[PAGE];

		memset(buf, 'z', sizeof buf);
		PT_EQ(write(app, buf, sizeof buf), PAGE);
	}
	says(fd, "abeFghz");
	PT_SYS(close(app));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void run_fallocate(const char *how, const char *off, const char *len, const char *file, int want)
{
	const char *argv[] = { pt_program("pinrun"), "fallocate", how, "-o", off, "-l", len, file, NULL };

	char said[512];

	int rc = pt_run(said, sizeof said, 60000, argv);

	if (rc != want)
		pt_say("fallocate %s: %s", how, said);
	PT_EQ(rc, want);
}

static void test_preload(void)
{
	struct pt_fs *fs;
	char other[PATH_MAX + 16];
	struct statfs sfs;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = make(P("f"), 8);
	run_fallocate("-c", "4096", "8192", P("f"), 0);
	says(fd, "adefgh");
	run_fallocate("-i", "8192", "4096", P("f"), 0);
	says(fd, "ad.efgh");
	run_fallocate("-c", "4095", "8192", P("f"), 1);
	PT_SYS(close(fd));
	/* Elsewhere the kernel's answer stands: tmpfs does not collapse, ext4 does. */
	(void)snprintf(other, sizeof other, "%s/other", fs->dir);
	fd = make(other, 4);
	PT_SYS(fstatfs(fd, &sfs));
	if (sfs.f_type == TMPFS_MAGIC) {
		run_fallocate("-c", "0", "4096", other, 1);
		says(fd, "abcd");
	}
	PT_SYS(close(fd));
	PT_SYS(unlink(other));
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "ioctl", test_ioctl, 0 },
		{ "caches", test_caches, 0 },
		{ "preload", test_preload, 0 },
	};
	static const struct pt_suite suites[] = { { "shift", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
