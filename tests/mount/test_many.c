/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_many.c - many files through the kernel: all there, readdir complete, the daemon's own memory bounded by cache=,
 * a second mount that finds them. 4,000 files in one directory and 4,000 over a tree; with PINFS_LONG a million each.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)

static unsigned int many = 4000;

/* Memory of the daemon that is not the image: KiB. */
static long anon_kib(const struct pt_fs *fs)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)fs->pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "RssAnon: %ld kB", &kib) == 1)
			break;
	if (f != NULL)
		(void)fclose(f);
	return kib;
}

static bool touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	return fd >= 0 && close(fd) == 0;
}

static unsigned int entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		(void)closedir(d);
	return n;
}

static void test_files(bool tree)
{
	unsigned int bad = 0, seen = 0;
	struct pt_fs *fs;
	struct stat st;
	long before;

	if (!pt_need_mount())
		return;
	/* What a huge page is given for is no measure of what is used. The daemon inherits it. */
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	fs = pt_fs_start(many > 100000 ? "3G" : "256M", "cache=512");
	before = anon_kib(fs);
	for (unsigned int i = 0; i < many; i++) {
		if (i % 1000 == 0)
			PT_SYS_FATAL(mkdir(P("d%u", i / 1000), 0755));
		bad += !touch(tree ? P("d%u/f%u", i / 1000, i) : P("d0/f%u", i));
	}
	PT_EQ(bad, 0);
	for (unsigned int i = 0; i < (many + 999) / 1000; i++)
		seen += entries(P("d%u", i)) - 2;
	PT_EQ(seen, many);
	/* 512 inodes and 52 bytes for each that the kernel remembers; 16 MiB are threads, buffers and heaps. */
	pt_say("%ld KiB more for %u files", anon_kib(fs) - before, many);
	CU_ASSERT(before > 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)	/* these have memory of their own */
	CU_ASSERT(anon_kib(fs) - before < 16 * 1024 + (long)((uint64_t)many * 52 / 1024));
#endif
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, "cache=512"), 0);
	for (unsigned int i = 0; i < many; i++)
		bad += stat(tree ? P("d%u/f%u", i / 1000, i) : P("d0/f%u", i), &st) != 0 || st.st_nlink != 1;
	PT_EQ(bad, 0);
	for (unsigned int i = 0; i < many; i++)
		bad += unlink(tree ? P("d%u/f%u", i / 1000, i) : P("d0/f%u", i)) != 0;
	PT_EQ(bad, 0);
	PT_EQ(entries(P("d0")), 2);
	pt_fs_end(fs);
}

static void test_one(void) { test_files(false); }
static void test_tree(void) { test_files(true); }

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "one-directory", test_one, 3600 },
		{ "tree", test_tree, 3600 },
	};
	static const struct pt_suite suites[] = { { "scale", cases, PF_ARRAY_LEN(cases) } };

	if (getenv("PINFS_LONG") != NULL)
		many = 1000000;
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
