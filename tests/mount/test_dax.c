/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dax.c - dax=always|never|inode as any program sees it, without the preload library: the flag of chattr(1), who
 * inherits it and when it counts; and files in the kernel's page cache: what changes them below it is seen at once, and
 * a truncate waits for nobody who holds their pages.
 *
 * Whether a file is DAX is asked for by the attribute that libpinfs.so's statx() reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <pinfs/ioctl.h>
#include <pinfs/xattr.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#define PAGE 4096
#define SOON_MS 60000

#define RUN(out, ...) pt_run(out, sizeof out, 60000, (const char *const[]){ __VA_ARGS__, NULL })

static struct pt_fs *fs;

static bool is_dax(const char *path)
{
	struct pinfs_statx px = { .px_attributes = 0 };

	PT_EQ(lgetxattr(path, PINFS_XATTR_STATX, &px, sizeof px), sizeof px);
	return (px.px_attributes & STATX_ATTR_DAX) != 0;
}

/* The kernel tells of a close after close(2). */
static bool soon(const char *path, bool dax)
{
	uint64_t end = 0;

	while (is_dax(path) != dax)
		if (!pt_wait_on(&end))
			return false;
	return true;
}

static unsigned int flags_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), flags = 0;

	PT_SYS_FATAL(fd);
	PT_SYS(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	PT_SYS(close(fd));
	return (unsigned int)flags;
}

static void set_dax(int fd, bool on)
{
	int flags = 0;

	PT_SYS(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags = on ? flags | FS_DAX_FL : flags & ~FS_DAX_FL;
	PT_SYS(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

static void chattr(const char *path, bool on)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	PT_SYS_FATAL(fd);
	set_dax(fd, on);
	PT_SYS(close(fd));
}

static int attach(int fd)
{
	struct pinfs_attach at;

	return ioctl(fd, PINFS_IOC_ATTACH, &at);
}

static void make(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_SYS(close(fd));
}

static int open_rw(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	return fd;
}

/* ---- the flag and the mode ---- */

static void three_modes(void)
{
	static const struct { const char *opts; bool plain, marked; } mode[] = {
		{ "dax=inode", false, true }, { "dax=always", true, true },
		{ "dax=never", false, false }, { NULL, true, true },
	};
	char out[4096], want[64];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("64M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(mode); i++) {
		PT_EQ(pt_fs_mount(fs, mode[i].opts), 0);
		if (i == 0) {
			make(pt_path(fs, "plain"));
			make(pt_path(fs, "marked"));
			chattr(pt_path(fs, "marked"), true);
			CU_ASSERT(soon(pt_path(fs, "marked"), true));
		}
		PT_EQ(is_dax(pt_path(fs, "plain")), mode[i].plain);
		PT_EQ(is_dax(pt_path(fs, "marked")), mode[i].marked);
		CU_ASSERT(!is_dax(pt_path(fs, ".")));
		PT_EQ(flags_of(pt_path(fs, "marked")) & FS_DAX_FL, FS_DAX_FL);
		PT_EQ(flags_of(pt_path(fs, "plain")) & FS_DAX_FL, 0);
		for (int m = 0; m < 2; m++) {
			fd = open_rw(pt_path(fs, m ? "marked" : "plain"));
			if (m ? mode[i].marked : mode[i].plain)
				PT_SYS(attach(fd));
			else
				PT_FAILS(attach(fd), EOPNOTSUPP);
			PT_SYS(close(fd));
		}
		fd = open(fs->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		PT_FAILS(attach(fd), EISDIR);
		PT_SYS(close(fd));
		PT_EQ(RUN(out, pt_program("pinfsctl"), "status", fs->mnt), 0);
		(void)snprintf(want, sizeof want, "%s, profile=pinfs", mode[i].opts ? mode[i].opts : "dax=always");
		CU_ASSERT_PTR_NOT_NULL(strstr(out, want));
		PT_EQ(pt_fs_umount(fs), 0);
	}
	pt_fs_end(fs);
}

static void inheritance(void)
{
	char out[256];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	PT_SYS(mkdir(pt_path(fs, "plain"), 0755));
	PT_SYS(mkdir(pt_path(fs, "dax"), 0755));
	chattr(pt_path(fs, "dax"), true);
	make(pt_path(fs, "dax/f"));
	PT_SYS(mkdir(pt_path(fs, "dax/sub"), 0755));
	make(pt_path(fs, "dax/sub/f"));
	make(pt_path(fs, "plain/f"));
	CU_ASSERT(is_dax(pt_path(fs, "dax/f")));
	CU_ASSERT(is_dax(pt_path(fs, "dax/sub/f")));
	CU_ASSERT(!is_dax(pt_path(fs, "plain/f")));
	PT_EQ(flags_of(pt_path(fs, "dax/sub")) & FS_DAX_FL, FS_DAX_FL);
	/* A file without a name is made in a directory, too; and what is made is DAX with its first open. */
	fd = open(pt_path(fs, "dax"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	PT_SYS(fd);
	PT_SYS(attach(fd));
	PT_SYS(close(fd));
	fd = open(pt_path(fs, "plain"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	PT_SYS(fd);
	PT_FAILS(attach(fd), EOPNOTSUPP);
	PT_SYS(close(fd));
	/* mv keeps, cp takes the directory's: in both directions. */
	PT_SYS(rename(pt_path(fs, "dax/f"), pt_path(fs, "plain/moved")));
	CU_ASSERT(is_dax(pt_path(fs, "plain/moved")));
	PT_SYS(rename(pt_path(fs, "plain/f"), pt_path(fs, "dax/moved")));
	CU_ASSERT(!is_dax(pt_path(fs, "dax/moved")));
	PT_EQ(RUN(out, "cp", pt_path(fs, "plain/moved"), pt_path(fs, "plain/copy")), 0);
	PT_EQ(RUN(out, "cp", pt_path(fs, "dax/moved"), pt_path(fs, "dax/copy")), 0);
	CU_ASSERT(!is_dax(pt_path(fs, "plain/copy")));
	CU_ASSERT(is_dax(pt_path(fs, "dax/copy")));
	/* The directory's flag goes: what is there keeps its own. */
	chattr(pt_path(fs, "dax"), false);
	make(pt_path(fs, "dax/late"));
	CU_ASSERT(!is_dax(pt_path(fs, "dax/late")));
	CU_ASSERT(is_dax(pt_path(fs, "dax/copy")));
	pt_fs_end(fs);
}

static void fsx(void)
{
	struct fsxattr x;
	const char *f;
	int fd, p[2];

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	f = pt_path(fs, "f");
	fd = open_rw(f);
	PT_SYS(ioctl(fd, FS_IOC_FSGETXATTR, &x));
	PT_EQ(x.fsx_xflags & FS_XFLAG_DAX, 0);
	x.fsx_xflags |= FS_XFLAG_DAX;
	PT_SYS(ioctl(fd, FS_IOC_FSSETXATTR, &x));
	x.fsx_xflags = 0;
	PT_SYS(ioctl(fd, FS_IOC_FSGETXATTR, &x));
	PT_EQ(x.fsx_xflags & FS_XFLAG_DAX, FS_XFLAG_DAX);
	PT_SYS(close(fd));
	CU_ASSERT(soon(f, true));
	if (pt_have("chattr") && pt_have("lsattr")) {
		char out[256];

		PT_EQ(RUN(out, "chattr", "-x", f), 0);
		CU_ASSERT(soon(f, false));
		PT_EQ(RUN(out, "chattr", "+x", f), 0);
		CU_ASSERT(soon(f, true));
		PT_EQ(RUN(out, "lsattr", f), 0);
		out[strcspn(out, " ")] = '\0';
		CU_ASSERT_PTR_NOT_NULL(strchr(out, 'x'));
	}
	/* The attribute behind statx(): everywhere, in no list, not to be changed. */
	PT_SYS(symlink("nowhere", pt_path(fs, "link")));
	PT_SYS(mkfifo(pt_path(fs, "fifo"), 0600));
	CU_ASSERT(!is_dax(pt_path(fs, "link")));
	CU_ASSERT(!is_dax(pt_path(fs, "fifo")));
	PT_EQ(getxattr(f, PINFS_XATTR_STATX, NULL, 0), sizeof(struct pinfs_statx));
	PT_FAILS(getxattr(f, PINFS_XATTR_STATX, p, sizeof p), ERANGE);
	PT_FAILS(setxattr(f, PINFS_XATTR_STATX, "", 0, 0), EOPNOTSUPP);
	PT_FAILS(removexattr(f, PINFS_XATTR_STATX), EOPNOTSUPP);
	PT_EQ(listxattr(f, NULL, 0), 0);
	PT_FAILS(getxattr(f, "system.pinfs.other", NULL, 0), EOPNOTSUPP);
	pt_fs_end(fs);
}

/* Descriptors, duplicates and mappings keep the mode; in both directions. */
static void last_close(void)
{
	const char *f;
	int fd, other;
	char *p;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=inode");
	f = pt_path(fs, "f");
	for (int round = 0; round < 2; round++) {
		const bool was = round == 1;

		fd = open_rw(f);
		PT_SYS(ftruncate(fd, PAGE));
		CU_ASSERT(soon(f, was));
		set_dax(fd, !was);
		CU_ASSERT_EQUAL(is_dax(f), was);
		other = open(f, O_RDONLY | O_CLOEXEC);
		PT_SYS(other);
		PT_SYS(close(fd));
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, other, 0);
		CU_ASSERT_FATAL(p != MAP_FAILED);
		fd = dup(other);
		PT_SYS(close(other));
		for (int i = 0; i < 3; i++) {
			other = open(f, O_RDONLY | O_CLOEXEC);
			PT_SYS(other);
			errno = 0;
			CU_ASSERT(attach(other) == (was ? 0 : -1) && (was || errno == EOPNOTSUPP));
			PT_SYS(close(other));
		}
		CU_ASSERT_EQUAL(is_dax(f), was);
		PT_SYS(close(fd));
		CU_ASSERT_EQUAL(is_dax(f), was);	/* the mapping is left */
		PT_SYS(munmap(p, PAGE));
		CU_ASSERT(soon(f, !was));
	}
	/* A file that has no name any more is nobody's business, whatever its flag says. */
	fd = open_rw(f);
	set_dax(fd, true);
	PT_SYS(unlink(f));
	PT_FAILS(attach(fd), EOPNOTSUPP);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* ---- the page cache ---- */

static void fill(int fd, off_t off, size_t len, int byte)
{
	char *buf = malloc(len);

	memset(buf, byte, len);
	PT_EQ(pwrite(fd, buf, len, off), len);
	free(buf);
}

/* [off, off + len) is @byte, by read(2) and by the mapping. */
static bool all(int fd, const char *map, size_t off, size_t len, int byte)
{
	char buf[PAGE];

	for (size_t at = off; at < off + len; at += sizeof buf) {
		size_t n = off + len - at < sizeof buf ? off + len - at : sizeof buf;

		if (pread(fd, buf, n, (off_t)at) != (ssize_t)n)
			return false;
		for (size_t i = 0; i < n; i++)
			if (buf[i] != byte || (map != NULL && map[at + i] != byte)) {
				pt_say("byte %zu is %#x, %#x", at + i, buf[i], map != NULL ? map[at + i] : 0);
				return false;
			}
	}
	return true;
}

static int shift(int fd, int mode, off_t off, off_t len)
{
	struct pinfs_fallocate fa = { .fa_mode = mode, .fa_off = off, .fa_len = len };
	struct stat st;
	int rc = ioctl(fd, PINFS_IOC_FALLOCATE, &fa);

	PT_SYS(fstat(fd, &st));
	return rc;
}

/* What changes a file without write(2), while its pages are cached and mapped. */
static void below_the_cache(const char *opts)
{
	char *p, *direct;
	int fd, src, raw;
	struct stat st, st2;

	fs = pt_fs_start("64M", opts);
	fd = open_rw(pt_path(fs, "f"));
	fill(fd, 0, 64 * PAGE, 'a');
	p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	CU_ASSERT(all(fd, p, 0, 64 * PAGE, 'a'));
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE / 2, 2 * PAGE));
	CU_ASSERT(all(fd, p, 0, PAGE / 2, 'a') && all(fd, p, PAGE / 2, 2 * PAGE, 0));
	CU_ASSERT(all(fd, p, PAGE / 2 * 5, PAGE, 'a'));
	PT_SYS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 8 * PAGE, PAGE));
	CU_ASSERT(all(fd, p, 8 * PAGE, PAGE, 0));
	src = open_rw(pt_path(fs, "src"));
	fill(src, 0, 4 * PAGE, 's');
	PT_EQ(copy_file_range(src, &(off_t){ 0 }, fd, &(off_t){ 16 * PAGE }, 4 * PAGE, 0), 4 * PAGE);
	CU_ASSERT(all(fd, p, 16 * PAGE, 4 * PAGE, 's'));
	/* A store that is in the cache only is copied as well. */
	p[20 * PAGE] = 'S';
	PT_EQ(copy_file_range(fd, &(off_t){ 20 * PAGE }, src, &(off_t){ 0 }, 1, 0), 1);
	CU_ASSERT(all(src, NULL, 0, 1, 'S'));
	p[20 * PAGE] = 'a';
	/* Pages change their place: those before stay. */
	memset(p + 40 * PAGE, 'm', PAGE);
	PT_SYS(shift(fd, FALLOC_FL_COLLAPSE_RANGE, 32 * PAGE, 4 * PAGE));
	CU_ASSERT(all(fd, p, 36 * PAGE, PAGE, 'm') && all(fd, p, 37 * PAGE, PAGE, 'a'));
	PT_SYS(shift(fd, FALLOC_FL_INSERT_RANGE, 36 * PAGE, 4 * PAGE));
	CU_ASSERT(all(fd, p, 36 * PAGE, 4 * PAGE, 0) && all(fd, p, 40 * PAGE, PAGE, 'm'));
	CU_ASSERT(all(fd, p, 24 * PAGE, 12 * PAGE, 'a'));
	/* Cut and grown again: zeros, also in the page that stayed. */
	PT_SYS(ftruncate(fd, 50 * PAGE + 100));
	PT_SYS(ftruncate(fd, 64 * PAGE));
	CU_ASSERT(all(fd, p, 50 * PAGE, 100, 'a') && all(fd, p, 50 * PAGE + 100, 2 * PAGE, 0));
	/* O_DIRECT goes past the cache, and leaves nothing stale in it. */
	raw = open(pt_path(fs, "f"), O_RDWR | O_DIRECT | O_CLOEXEC);
	PT_SYS_FATAL(raw);
	PT_EQ(posix_memalign((void **)&direct, PAGE, PAGE), 0);
	memset(direct, 'D', PAGE);
	PT_EQ(pwrite(raw, direct, PAGE, 60 * PAGE), PAGE);
	CU_ASSERT(all(fd, p, 60 * PAGE, PAGE, 'D'));
	memset(p + 61 * PAGE, 'E', PAGE);
	PT_EQ(pread(raw, direct, PAGE, 61 * PAGE), PAGE);
	CU_ASSERT(direct[0] == 'E' && direct[PAGE - 1] == 'E');
	/* write(2) moves the times and the size at once; what is stored through the mapping gets to the file. */
	PT_SYS(fstat(fd, &st));
	pt_sleep_ms(20);
	fill(fd, 64 * PAGE, 100, 'w');
	PT_SYS(fstat(fd, &st2));
	PT_EQ(st2.st_size, 64 * PAGE + 100);
	CU_ASSERT(st2.st_mtim.tv_sec != st.st_mtim.tv_sec || st2.st_mtim.tv_nsec != st.st_mtim.tv_nsec);
	p[0] = 'z';
	PT_SYS(msync(p, PAGE, MS_SYNC));
	p[PAGE / 2 - 1] = 'y';		/* not synced: closing has to write it back */
	free(direct);
	PT_SYS(munmap(p, 64 * PAGE));
	PT_SYS(close(raw));
	PT_SYS(close(src));
	PT_SYS(close(fd));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	fd = open_rw(pt_path(fs, "f"));
	CU_ASSERT(all(fd, NULL, 0, 1, 'z') && all(fd, NULL, 60 * PAGE, PAGE, 'D'));
	CU_ASSERT(all(fd, NULL, PAGE / 2 - 1, 1, 'y') && all(fd, NULL, 61 * PAGE, PAGE, 'E'));
	CU_ASSERT(all(fd, NULL, 64 * PAGE, 100, 'w') && all(fd, NULL, 36 * PAGE, 4 * PAGE, 0));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void cached_never(void)
{
	if (pt_need_mount())
		below_the_cache("dax=never");
}

static void cached_inode(void)
{
	if (pt_need_mount())
		below_the_cache("dax=inode");
}

static int read_c(void *arg)
{
	char buf[PAGE];

	return pread(*(const int *)arg, buf, PAGE, 0) == PAGE && buf[0] == 'c' ? 0 : 1;
}

/* Is a second read of the same bytes served without the daemon? It is stopped meanwhile. */
static void served_by_the_kernel(void)
{
	static const struct { const char *opts; bool cached; } mode[] = {
		{ "dax=never", true }, { "dax=always", false },
	};
	char buf[PAGE], *p;
	pid_t reader;
	int fd, rc;

	if (!pt_need_mount())
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(mode); i++) {
		fs = pt_fs_start("64M", mode[i].opts);
		PT_SYS(close(open_rw(pt_path(fs, "f"))));	/* the kernel asks once what closing should do */
		fd = open_rw(pt_path(fs, "f"));
		fill(fd, 0, PAGE, 'c');
		PT_EQ(pread(fd, buf, PAGE, 0), PAGE);
		/* So that no want of memory takes the page out of the cache meanwhile. */
		p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
		CU_ASSERT_FATAL(p != MAP_FAILED);
		PT_SYS(mlock(p, PAGE));
		CU_ASSERT_FATAL(pt_fs_stop(fs));
		reader = pt_fork(read_c, &fd);
		CU_ASSERT_FATAL(reader > 0);
		rc = pt_wait(reader, mode[i].cached ? SOON_MS : 300);
		pt_fs_continue(fs);
		PT_EQ(rc, mode[i].cached ? 0 : -1);
		if (rc < 0)
			PT_EQ(pt_wait(reader, SOON_MS), 0);
		PT_SYS(munmap(p, PAGE));
		PT_SYS(close(fd));
		pt_fs_end(fs);
	}
}

static void map_sync(void)
{
	void *p;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=never");
	fd = open_rw(pt_path(fs, "f"));
	PT_SYS(ftruncate(fd, PAGE));
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	CU_ASSERT(p == MAP_FAILED && errno == EOPNOTSUPP);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* ---- pages that a device holds ---- */

struct dma { int slow; char *to; };

static int read_slowly(void *arg)
{
	const struct dma *d = arg;

	/* Its own entry of the page table first: then nothing but the answer is waited for in pread(2). */
	*(volatile char *)d->to = 'b';
	return pread(d->slow, d->to, PAGE, 0) == PAGE ? 0 : 1;
}

/* Until the process sleeps in pread(2), with its pages held. */
static bool in_pread(pid_t pid)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	char path[64], line[256];
	long nr;

	(void)snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
	do {
		FILE *f = fopen(path, "re");

		nr = f != NULL && fgets(line, sizeof line, f) != NULL && strncmp(line, "running", 7) != 0 ?
			strtol(line, NULL, 10) : -1;
		if (f != NULL)
			(void)fclose(f);
		if (nr == SYS_pread64)
			return true;
		pt_sleep_ms(1);
	} while (pt_now_ms() < end);
	return false;
}

/*
 * A page of the page cache under DMA: truncate does not wait, and what the device still writes is not in the file, as
 * the page is not the file's any more. The slow device is a file on another pinfs, whose daemon is stopped while a
 * read with O_DIRECT into the mapping is under way.
 */
static void truncate_waits_for_nobody(void)
{
	struct pt_fs *device;
	struct dma d;
	pid_t dma;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "dax=never");
	device = pt_fs_start("64M", NULL);
	d.slow = open_rw(pt_path(device, "d"));
	fill(d.slow, 0, PAGE, 'D');
	PT_SYS(close(d.slow));
	d.slow = open(pt_path(device, "d"), O_RDONLY | O_DIRECT | O_CLOEXEC);
	PT_SYS_FATAL(d.slow);
	fd = open_rw(pt_path(fs, "f"));
	fill(fd, 0, 2 * PAGE, 'a');
	d.to = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(d.to != MAP_FAILED);
	d.to[0] = 'b';
	CU_ASSERT_FATAL(pt_fs_stop(device));
	dma = pt_fork(read_slowly, &d);
	CU_ASSERT_FATAL(dma > 0);
	CU_ASSERT_FATAL(in_pread(dma));
	PT_SYS(ftruncate(fd, 0));	/* returns */
	PT_EQ(pt_wait(dma, 0), -1);
	PT_SYS(ftruncate(fd, 2 * PAGE));
	pt_fs_continue(device);
	PT_EQ(pt_wait(dma, SOON_MS), 0);
	PT_SYS(munmap(d.to, 2 * PAGE));
	/* Held before it was cut off: not in the file. */
	CU_ASSERT(all(fd, NULL, 0, 2 * PAGE, 0));
	PT_SYS(close(fd));
	PT_SYS(close(d.slow));
	pt_fs_end(device);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case mode[] = {
		{ "three modes", three_modes, 0 },
		{ "inheritance", inheritance, 0 },
		{ "flags and the attribute", fsx, 0 },
		{ "the last close", last_close, 0 },
	};
	static const struct pt_case cache[] = {
		{ "changes below it, dax=never", cached_never, 0 },
		{ "changes below it, dax=inode", cached_inode, 0 },
		{ "reads are served by the kernel", served_by_the_kernel, 0 },
		{ "no MAP_SYNC", map_sync, 0 },
		{ "truncate waits for nobody", truncate_waits_for_nobody, 0 },
	};
	static const struct pt_suite suites[] = {
		{ "dax", mode, PF_ARRAY_LEN(mode) },
		{ "page cache", cache, PF_ARRAY_LEN(cache) },
	};

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
