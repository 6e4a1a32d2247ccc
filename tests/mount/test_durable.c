/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_durable.c - what a program does to make its data durable reaches the medium before its call returns.
 *
 * The daemon runs with pmem=msync and with a preloaded spy (tests/spy) that keeps a second image, of what was given to
 * msync(2) alone: the disk. After each call the tree on the disk is the tree in the image, and is not as it was before
 * the call. Twin: the spy hears nothing, and the two differ.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/log.h"
#include "harness/core.h"
#include "harness/fs.h"
#include "harness/mem.h"
#include "harness/proc.h"
#include "harness/run.h"

#define SIZE (UINT64_C(16) << 20)

static struct pt_fs *fs;
static char disk[PATH_MAX];
static uint8_t fresh[3 * 4096];		/* other bytes in each call */

/* ---- looking at an image, in memory ---- */

static char *tree_of(const char *path)
{
	struct pf_pm *pm = mem_open(SIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned int damaged = 1;
	char *text = NULL;
	const char *why;
	struct pf_fs *core;

	PT_SYS_FATAL(fd);
	PT_EQ(pread(fd, pm->base, SIZE, 0), (ssize_t)SIZE);
	(void)close(fd);
	if (core_mount(pm, &core, &why) == 0) {
		text = core_describe(core, &damaged);
		core_unmount(core);
	} else {
		pt_say("%s: %s", path, why);
	}
	PT_EQ(damaged, 0);
	mem_close(pm);
	return text != NULL ? text : strdup("cannot be mounted");
}

/* Of the image and of the disk, at one moment: what the daemon does when nobody has asked would be seen in part. */
static char *trees(char **on_disk)
{
	char *image;

	CU_ASSERT_FATAL(pt_fs_stop(fs));
	image = tree_of(fs->img);
	*on_disk = tree_of(disk);
	pt_fs_continue(fs);
	return image;
}

/* ---- calls; each makes a change of its own ---- */

static void put(int flags, off_t off, int how, int (*sync)(int fd))
{
	int fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);
	struct iovec v = { fresh, sizeof fresh };

	PT_SYS_FATAL(fd);
	PT_EQ(pwritev2(fd, &v, 1, off, how), (ssize_t)sizeof fresh);
	if (sync != NULL)
		PT_SYS(sync(fd));
	(void)close(fd);
}

static void c_write(void) { put(0, 100, 0, NULL); }
static void c_append(void) { put(O_APPEND, -1, 0, NULL); }
static void c_o_sync(void) { put(O_SYNC, 50, 0, NULL); }
static void c_o_dsync(void) { put(O_DSYNC, 200000, 0, NULL); }
static void c_rwf_sync(void) { put(0, 4096, RWF_SYNC, NULL); }
static void c_rwf_dsync(void) { put(0, 9000, RWF_DSYNC, NULL); }
static void c_fsync(void) { put(0, 300000, 0, fsync); }
static void c_fdatasync(void) { put(0, 5, 0, fdatasync); }
static void c_syncfs(void) { put(0, 400000, 0, syncfs); }

/* Through a mapping, which is the kernel's here. */
static void mapped(int (*sync)(int fd))
{
	int fd = open(pt_path(fs, "f"), O_RDWR | O_CLOEXEC);
	uint8_t *p;

	PT_SYS_FATAL(fd);
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	memcpy(p + 100, fresh, 6000);
	PT_SYS(sync != NULL ? sync(fd) : msync(p, 8192, MS_SYNC));
	(void)munmap(p, 8192);
	(void)close(fd);
}

static void c_msync(void) { mapped(NULL); }
static void c_map_fsync(void) { mapped(fsync); }
static void c_map_fdatasync(void) { mapped(fdatasync); }

static void c_truncate(void) { PT_SYS(truncate(pt_path(fs, "f"), 3000)); }
static void c_grow(void) { PT_SYS(truncate(pt_path(fs, "f"), 50000)); }
static void c_mkdir(void) { PT_SYS(mkdir(pt_path(fs, "d"), 0755)); }
static void c_link(void) { PT_SYS(link(pt_path(fs, "f"), pt_path(fs, "d/f"))); }
static void c_rename(void) { PT_SYS(rename(pt_path(fs, "d/f"), pt_path(fs, "g"))); }
static void c_symlink(void) { PT_SYS(symlink("some/where", pt_path(fs, "d/l"))); }
static void c_chmod(void) { PT_SYS(chmod(pt_path(fs, "g"), 0600)); }
static void c_unlink(void) { PT_SYS(unlink(pt_path(fs, "g"))); }
static void c_setxattr(void) { PT_SYS(setxattr(pt_path(fs, "f"), "user.a", fresh, 5000, 0)); }
static void c_fallocate(void)
{
	int fd = open(pt_path(fs, "f"), O_RDWR | O_CLOEXEC);

	PT_SYS_FATAL(fd);
	PT_SYS(fallocate(fd, 0, 0, 300000));
	(void)close(fd);
}

static const struct { const char *name; void (*fn)(void); } calls[] = {
	{ "write", c_write },
	{ "append", c_append },
	{ "write, O_SYNC", c_o_sync },
	{ "write, O_DSYNC", c_o_dsync },
	{ "write, RWF_SYNC", c_rwf_sync },
	{ "write, RWF_DSYNC", c_rwf_dsync },
	{ "write, fsync", c_fsync },
	{ "write, fdatasync", c_fdatasync },
	{ "write, syncfs", c_syncfs },
	{ "mmap, msync", c_msync },
	{ "mmap, fsync", c_map_fsync },
	{ "mmap, fdatasync", c_map_fdatasync },
	{ "truncate", c_truncate },
	{ "truncate, growing", c_grow },
	{ "mkdir", c_mkdir },
	{ "link", c_link },
	{ "rename", c_rename },
	{ "symlink", c_symlink },
	{ "chmod", c_chmod },
	{ "unlink", c_unlink },
	{ "setxattr", c_setxattr },
	{ "fallocate", c_fallocate },
};

/* ---- the daemon with its spy ---- */

static bool start(bool deaf)
{
	const char *asan = getenv("ASAN_OPTIONS");
	char *kept = asan != NULL ? strdup(asan) : NULL, options[PATH_MAX];
	int rc;

	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	(void)snprintf(disk, sizeof disk, "%.*s/disk", PATH_MAX - 8, fs->dir);
	PT_EQ(pt_run(options, sizeof options, 60000, (const char *[]){ "cp", fs->img, disk, NULL }), 0);
	/* A sanitizer's library wants to be the first one. */
	(void)snprintf(options, sizeof options, "%.4000s%sverify_asan_link_order=0", kept != NULL ? kept : "",
		       kept != NULL ? ":" : "");
	(void)setenv("ASAN_OPTIONS", options, 1);
	(void)setenv("PINFS_SPY", disk, 1);
	if (deaf)
		(void)setenv("PINFS_SPY_DEAF", "1", 1);
	(void)setenv("LD_PRELOAD", pt_program("tests/spy/syncspy.so"), 1);
	rc = pt_fs_mount(fs, "pmem=msync");
	(void)unsetenv("LD_PRELOAD");
	(void)unsetenv("PINFS_SPY");
	(void)unsetenv("PINFS_SPY_DEAF");
	if (kept != NULL)
		(void)setenv("ASAN_OPTIONS", kept, 1);
	else
		(void)unsetenv("ASAN_OPTIONS");
	free(kept);
	CU_ASSERT_EQUAL(rc, 0);
	return rc == 0;
}

static void each_call(void)
{
	char *before, *image, *on_disk;

	if (!pt_need_mount() || !start(false))
		return;
	before = trees(&on_disk);
	free(on_disk);
	for (size_t i = 0; i < PF_ARRAY_LEN(calls); i++) {
		for (size_t k = 0; k < sizeof fresh; k++)
			fresh[k] = (uint8_t)(k * 13 + i * 29 + 1);
		calls[i].fn();
		image = trees(&on_disk);
		if (strcmp(image, on_disk) != 0)
			pt_say("%s: in the image\n%son the disk\n%s", calls[i].name, image, on_disk);
		CU_ASSERT_STRING_EQUAL(image, on_disk);
		if (strcmp(image, before) == 0)
			pt_say("%s: nothing has changed", calls[i].name);
		CU_ASSERT_STRING_NOT_EQUAL(image, before);
		free(before);
		free(on_disk);
		before = image;
	}
	free(before);
	pt_fs_end(fs);
}

static void twin(void)
{
	char *image, *on_disk;

	if (!pt_need_mount() || !start(true))
		return;
	c_write();
	image = trees(&on_disk);
	CU_ASSERT_STRING_NOT_EQUAL(image, on_disk);
	free(image);
	free(on_disk);
	pt_fs_end(fs);
}

/* What auto decides, and that a decision by hand is kept: pmem=cpu on a disk file is for those who know better. */
static char disk_img[64];

static void drop_disk_img(void)
{
	if (disk_img[0] != '\0')
		(void)unlink(disk_img);
	disk_img[0] = '\0';
}

static void mode_is(const char *img, const char *opts, const char *want)
{
	char out[4096], words[64];

	(void)strcpy(fs->img, img);
	CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, opts), 0);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("pinfsctl"), "status", fs->mnt, NULL }), 0);
	(void)snprintf(words, sizeof words, "persistence by %s", want);
	if (strstr(out, words) == NULL)
		pt_say("%s, %s: not %s: %s", img, opts, words, out);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, words));
	PT_EQ(pt_fs_umount(fs), 0);
}

static void modes(void)
{
	char path[] = "/var/tmp/pinfs-durable.XXXXXX", out[512], tmpfs_img[PATH_MAX];
	struct statfs sfs;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	(void)strcpy(tmpfs_img, fs->img);
	PT_SYS_FATAL(statfs(tmpfs_img, &sfs));
	mode_is(tmpfs_img, "pmem=auto", sfs.f_type == TMPFS_MAGIC ? "cpu" : "msync");
	mode_is(tmpfs_img, "pmem=msync", "msync");
	fd = mkstemp(path);
	PT_SYS_FATAL(fd);
	(void)close(fd);
	(void)unlink(path);
	(void)strcpy(disk_img, path);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("mkfs.pinfs"), "-s", "16M", path, NULL }), 0);
	PT_SYS_FATAL(statfs(path, &sfs));
	mode_is(path, "pmem=cpu", "cpu");
	mode_is(path, "pmem=auto", sfs.f_type == TMPFS_MAGIC ? "cpu" : "msync");
	pt_fs_end(fs);
	drop_disk_img();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "each call is on the disk when it returns", each_call, 120 },
		{ "auto, and by hand", modes, 120 },
		{ "twin: a disk that nothing is written to", twin, 120 },
	};
	static const struct pt_suite suites[] = { { "durable", cases, PF_ARRAY_LEN(cases) } };

	pt_on_cleanup(drop_disk_img);
	pf_log_init("test_durable", PF_LOG_ERR, false);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
