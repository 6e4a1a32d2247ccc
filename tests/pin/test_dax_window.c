/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dax_window.c - dax= as a program under the preload library sees it: windows and pins keep a file DAX whatever
 * becomes of its flag, a file in the page cache has neither, bytes that were stored through windows are there when the
 * page cache takes over, and statx() tells one from the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"

#include <pinfs/ioctl.h>
#include <pinfs/pin.h>

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#define PAGE ((size_t)4096)
#define LEN (16 * PAGE)

static struct pt_fs *fs;

static bool is_dax(const char *path)
{
	struct statx stx;

	PT_SYS(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &stx));
	return (stx.stx_attributes & STATX_ATTR_DAX) != 0;
}

/* Closing, unmapping and unpinning are heard of a little later. */
static bool soon(const char *path, bool dax)
{
	uint64_t end = 0;

	while (is_dax(path) != dax)
		if (!pt_wait_on(&end))
			return false;
	return true;
}

static void chattr(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	PT_SYS_FATAL(fd);
	PT_SYS(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	PT_SYS(close(fd));
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_SYS(ftruncate(fd, LEN));
	return fd;
}

static char *map(int fd)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static bool is_window(const char *p)
{
	struct pinfs_range_info ri;

	return pinfs_range_query(p, LEN, &ri) == 0;
}

/* Everybody who opens and maps now gets what the file is. */
static void others_see(const char *path, bool dax)
{
	struct pinfs_attach at;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *p;

	PT_SYS_FATAL(fd);
	CU_ASSERT_EQUAL(is_dax(path), dax);
	CU_ASSERT_EQUAL(ioctl(fd, PINFS_IOC_ATTACH, &at) == 0, dax);
	p = map(fd);
	CU_ASSERT_EQUAL(is_window(p), dax);
	PT_SYS(munmap(p, LEN));
	PT_SYS(close(fd));
}

static void windows_and_pins(void)
{
	struct pinfs_pin *pin = NULL;
	const char *f;
	char byte;
	char *p;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	f = pt_path(fs, "f");
	PT_SYS(close(open_file(f)));
	chattr(f, FS_DAX_FL);
	CU_ASSERT(soon(f, true));
	fd = open_file(f);
	p = map(fd);
	CU_ASSERT_FATAL(is_window(p));
	p[0] = '1';
	PT_SYS(close(fd));
	/* The window alone. */
	chattr(f, 0);
	others_see(f, true);
	p[1] = '2';
	fd = open(f, O_RDONLY | O_CLOEXEC);
	PT_EQ(pread(fd, &byte, 1, 1), 1);
	PT_EQ(byte, '2');
	PT_SYS(close(fd));
	/* The pin alone. */
	PT_EQ(pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &pin), 0);
	PT_SYS(munmap(p, LEN));
	others_see(f, true);
	/* Nothing any more. */
	PT_EQ(pinfs_unpin(pin), 0);
	CU_ASSERT(soon(f, false));
	others_see(f, false);
	fd = open(f, O_RDONLY | O_CLOEXEC);
	PT_EQ(pread(fd, &byte, 1, 0), 1);
	PT_EQ(byte, '1');
	/* The other way round: the kernel's mapping keeps it in the page cache. */
	p = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED && !is_window(p));
	PT_SYS(close(fd));
	chattr(f, FS_DAX_FL);
	others_see(f, false);
	PT_EQ(p[0], '1');
	PT_SYS(munmap(p, LEN));
	CU_ASSERT(soon(f, true));
	others_see(f, true);
	pt_fs_end(fs);
}

/* Another process has the window, or the pin, and dies of SIGKILL. */
static void other_process(void)
{
	struct actor *a;
	const char *f;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	f = pt_path(fs, "f");
	for (int pinned = 0; pinned < 2; pinned++) {
		chattr(fs->mnt, FS_DAX_FL);
		PT_SYS(close(open_file(f)));
		CU_ASSERT(is_dax(f));
		a = actor_new();
		PT_EQ(actor_map_file(a, 0, f, LEN), 0);
		PT_EQ(actor_do(a, act_store(0, 0, PAGE, 'x')), 0);
		if (pinned) {
			PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
			PT_EQ(actor_do(a, act_unmap(0)), 0);
		}
		chattr(f, 0);
		others_see(f, true);
		actor_kill(a);
		CU_ASSERT(soon(f, false));
		others_see(f, false);
		PT_SYS(unlink(f));
	}
	pt_fs_end(fs);
}

/*
 * The kernel has a page of the file from when it was DAX, by a mapping that bypasses the library; a store through a
 * window does not reach it (pinfs(8), CAVEATS). When the page cache becomes the file's, the page must not.
 */
static void stale_page(void)
{
	char *window, *bare, buf[8] = "";
	const char *f;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	chattr(fs->mnt, FS_DAX_FL);
	f = pt_path(fs, "f");
	fd = open_file(f);
	PT_EQ(pwrite(fd, "old", 3, 0), 3);
	window = map(fd);
	CU_ASSERT_FATAL(is_window(window));
	bare = (char *)syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(bare != MAP_FAILED);
	CU_ASSERT_NSTRING_EQUAL(bare, "old", 3);
	memcpy(window, "new", 3);
	CU_ASSERT_NSTRING_EQUAL(bare, "old", 3);	/* else this case shows nothing */
	PT_SYS((long)syscall(SYS_munmap, bare, PAGE));
	PT_SYS(munmap(window, LEN));
	PT_SYS(close(fd));
	chattr(f, 0);
	CU_ASSERT(soon(f, false));
	fd = open(f, O_RDONLY | O_CLOEXEC);
	PT_EQ(pread(fd, buf, 3, 0), 3);
	CU_ASSERT_STRING_EQUAL(buf, "new");
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void never(void)
{
	struct pinfs_pin *pin = NULL;
	char *p, *q, byte = 0;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=never");
	fd = open_file(pt_path(fs, "f"));
	others_see(pt_path(fs, "f"), false);
	p = map(fd);
	p[0] = 'k';
	PT_EQ(pread(fd, &byte, 1, 0), 1);
	PT_EQ(byte, 'k');
	PT_EQ(pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &pin), -EFAULT);
	PT_EQ(pinfs_pin(p, PAGE, 0, &pin), -EFAULT);
	PT_EQ(pinfs_device(p), -EFAULT);
	q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	CU_ASSERT(q == MAP_FAILED && errno == EOPNOTSUPP);
	q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CU_ASSERT_FATAL(q != MAP_FAILED);
	PT_EQ(q[0], 'k');
	q[0] = 'p';
	PT_EQ(p[0], 'k');
	PT_SYS(munmap(q, LEN));
	PT_SYS(ftruncate(fd, 0));		/* at once, and nobody is asked */
	PT_SYS(munmap(p, LEN));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* ---- statx ---- */

#define FLAGS (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP | STATX_ATTR_DAX)

/* What statx() says of our flags; all the rest, and errno, is as the bare system call has it. */
static uint64_t attr_of(int dirfd, const char *path, int flags)
{
	struct statx a, b;
	uint64_t attr;

	memset(&a, 0, sizeof a);
	memset(&b, 0, sizeof b);
	errno = EDOM;
	PT_SYS(statx(dirfd, path, flags, STATX_BASIC_STATS, &a));
	PT_EQ(errno, EDOM);
	attr = a.stx_attributes & FLAGS;
	PT_EQ(syscall(SYS_statx, dirfd, path, flags, STATX_BASIC_STATS, &b), 0);
	PT_EQ(a.stx_attributes_mask & FLAGS, FLAGS);
	PT_EQ(a.stx_attributes & ~(uint64_t)FLAGS, b.stx_attributes & ~(uint64_t)FLAGS);
	a.stx_attributes = b.stx_attributes = a.stx_attributes_mask = b.stx_attributes_mask = 0;
	PT_EQ(memcmp(&a, &b, sizeof a), 0);
	return attr;
}

static void statx_paths(void)
{
	static const struct { int fl; uint64_t attr; } flag[] = {
		{ FS_IMMUTABLE_FL, STATX_ATTR_IMMUTABLE }, { FS_APPEND_FL, STATX_ATTR_APPEND },
		{ FS_NODUMP_FL, STATX_ATTR_NODUMP }, { FS_NOATIME_FL, 0 }, { 0, 0 },
	};
	char deep[4096], old[4096];
	int dir, fd, path, link;
	struct statx stx;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	PT_SYS(mkdir(pt_path(fs, "d"), 0755));
	PT_SYS(close(open_file(pt_path(fs, "d/f"))));
	PT_SYS(symlink("d/f", pt_path(fs, "l")));
	dir = open(pt_path(fs, "d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = open(pt_path(fs, "d/f"), O_RDWR | O_CLOEXEC);
	path = open(pt_path(fs, "d/f"), O_PATH | O_CLOEXEC);
	link = open(pt_path(fs, "l"), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	PT_EQ(attr_of(AT_FDCWD, pt_path(fs, "d/f"), 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(dir, pt_path(fs, "d/f"), 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(dir, "f", 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(dir, "../d/./f", AT_SYMLINK_NOFOLLOW), STATX_ATTR_DAX);
	PT_EQ(attr_of(fd, "", AT_EMPTY_PATH), STATX_ATTR_DAX);
	PT_EQ(attr_of(path, "", AT_EMPTY_PATH), STATX_ATTR_DAX);
	PT_EQ(attr_of(path, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW), STATX_ATTR_DAX);
	PT_EQ(attr_of(dir, "", AT_EMPTY_PATH), 0);
	PT_EQ(attr_of(link, "", AT_EMPTY_PATH), 0);
	PT_EQ(attr_of(AT_FDCWD, pt_path(fs, "l"), 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(AT_FDCWD, pt_path(fs, "l"), AT_SYMLINK_NOFOLLOW), 0);
	PT_EQ(attr_of(dir, "../l", 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(AT_FDCWD, fs->mnt, 0), 0);
	PT_SYS(getcwd(old, sizeof old) == NULL ? -1 : 0);
	PT_SYS(chdir(pt_path(fs, "d")));
	PT_EQ(attr_of(AT_FDCWD, "f", 0), STATX_ATTR_DAX);
	PT_EQ(attr_of(AT_FDCWD, "", AT_EMPTY_PATH), 0);
	PT_SYS(chdir(old));
	for (size_t i = 0; i < PF_ARRAY_LEN(flag); i++) {
		PT_SYS(ioctl(fd, FS_IOC_SETFLAGS, &flag[i].fl));
		PT_EQ(attr_of(dir, "f", 0), flag[i].attr | STATX_ATTR_DAX);
	}
	PT_SYS(unlink(pt_path(fs, "d/f")));
	PT_EQ(attr_of(fd, "", AT_EMPTY_PATH), STATX_ATTR_DAX);
	PT_FAILS(statx(dir, "f", 0, STATX_BASIC_STATS, &stx), ENOENT);
	/* A path that can only just be said relative to a descriptor still has everything but the attributes. */
	memset(deep, '/', sizeof deep - 8);
	memcpy(deep, "../d", 4);
	strcpy(deep + sizeof deep - 8, ".");
	PT_SYS(statx(dir, deep, 0, STATX_BASIC_STATS, &stx));
	PT_SYS(close(link));
	PT_SYS(close(path));
	PT_SYS(close(fd));
	PT_SYS(close(dir));
	pt_fs_end(fs);
}

/* Other filesystems with anonymous device numbers, and their numbers when pinfs gets them. */
static void statx_elsewhere(void)
{
	struct statx a, b;
	const char *f;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("64M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	memset(&a, 0, sizeof a);
	memset(&b, 0, sizeof b);
	if (mount("none", fs->mnt, "tmpfs", 0, NULL) == 0) {
		for (int i = 0; i < 3; i++)
			PT_SYS(statx(AT_FDCWD, fs->mnt, 0, STATX_BASIC_STATS, &a));
		PT_SYS((long)syscall(SYS_statx, AT_FDCWD, fs->mnt, 0, STATX_BASIC_STATS, &b));
		PT_EQ(memcmp(&a, &b, sizeof a), 0);
		PT_SYS(umount(fs->mnt));
	}
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	f = pt_path(fs, "f");
	PT_SYS(close(open_file(f)));
	CU_ASSERT(soon(f, true));
	PT_SYS(statx(AT_FDCWD, "/proc/self/exe", 0, STATX_BASIC_STATS, &a));
	PT_SYS((long)syscall(SYS_statx, AT_FDCWD, "/proc/self/exe", 0, STATX_BASIC_STATS, &b));
	PT_EQ(a.stx_attributes, b.stx_attributes);
	PT_EQ(a.stx_attributes_mask, b.stx_attributes_mask);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case mode[] = {
		{ "windows and pins keep the mode", windows_and_pins, 0 },
		{ "another process, killed", other_process, 0 },
		{ "no page of another life", stale_page, 0 },
		{ "dax=never", never, 0 },
	};
	static const struct pt_case attr[] = {
		{ "paths and flags", statx_paths, 0 },
		{ "other filesystems", statx_elsewhere, 0 },
	};
	static const struct pt_suite suites[] = {
		{ "dax", mode, PF_ARRAY_LEN(mode) },
		{ "statx", attr, PF_ARRAY_LEN(attr) },
	};

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
