/* SPDX-License-Identifier: BSD-3-Clause */
/* ops.c - operations on a file: the calls of ops.h, and nothing about what they should answer. */
#include "conform/ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef FALLOC_FL_UNSHARE_RANGE
#define FALLOC_FL_UNSHARE_RANGE 0x40
#endif

#define OP(name)                                                                                                     \
	static long do_##name(const struct op_at *at);                                                               \
	long op_##name(void *at) { return do_##name(at); }                                                           \
	static long do_##name(const struct op_at *at)

static void path(struct cf *c, char out[OP_PATH], const char *name)
{
	CF_MUST(c, snprintf(out, OP_PATH, "%s", name != NULL ? cf_path(c, name) : cf_dir(c)) < OP_PATH);
}

void op_stage_on(struct cf *c, struct op_at *at, int fd, char *map, size_t len)
{
	*at = (struct op_at){ .c = c, .fd = fd, .map = map, .mapped = len, .other = cf_file(c, "g", len) };
	path(c, at->dir, NULL);
	path(c, at->f, "f");
	path(c, at->g, "g");
	path(c, at->h, "h");
}

void op_stage(struct cf *c, struct op_at *at, size_t len)
{
	const int fd = cf_file(c, "f", len);

	op_stage_on(c, at, fd, cf_map(c, fd, 0, len, PROT_READ | PROT_WRITE), len);
}

/* By a descriptor of its own, opened with @flags. */
static int again(const struct op_at *at, int flags)
{
	return open(at->f, O_CLOEXEC | flags);
}

/* @rc is what came of a call by @fd, which is closed. */
static long closing(int fd, long rc)
{
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

static long opened(const struct op_at *at, int flags)
{
	const int fd = again(at, flags);

	return closing(fd, cf_rc(fd));
}

/* ---- size and blocks ---- */

OP(truncate) { return cf_rc(ftruncate(at->fd, at->off)); }
OP(truncate_path) { return cf_rc(truncate(at->f, at->off)); }
OP(truncate_other) { return cf_rc(ftruncate(at->other, at->off)); }
OP(open_trunc) { return opened(at, O_RDWR | O_TRUNC); }
OP(open_trunc_nonblock) { return opened(at, O_RDWR | O_TRUNC | O_NONBLOCK); }
OP(truncate_nonblock)
{
	const int fd = again(at, O_RDWR | O_NONBLOCK);

	return closing(fd, cf_rc(fd < 0 ? -1 : ftruncate(fd, at->off)));
}

static long change(const struct op_at *at, int mode) { return cf_rc(fallocate(at->fd, mode, at->off, at->len)); }
OP(falloc) { return change(at, 0); }
OP(falloc_keep) { return change(at, FALLOC_FL_KEEP_SIZE); }
OP(punch) { return change(at, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE); }
OP(zero) { return change(at, FALLOC_FL_ZERO_RANGE); }
OP(collapse) { return change(at, FALLOC_FL_COLLAPSE_RANGE); }
OP(insert) { return change(at, FALLOC_FL_INSERT_RANGE); }
OP(unshare) { return change(at, FALLOC_FL_UNSHARE_RANGE); }
OP(madv_remove) { return cf_rc(madvise(at->map + at->off, (size_t)at->len, MADV_REMOVE)); }

OP(clone_from) { return cf_rc(ioctl(at->other, FICLONE, at->fd)); }
OP(clone_into) { return cf_rc(ioctl(at->fd, FICLONE, at->other)); }
OP(dedupe)
{
	struct file_dedupe_range *range = calloc(1, sizeof *range + sizeof range->info[0]);
	long rc = -ENOMEM;

	if (range != NULL) {
		range->src_offset = (uint64_t)at->off;
		range->src_length = (uint64_t)at->len;
		range->dest_count = 1;
		range->info[0].dest_fd = at->fd;
		range->info[0].dest_offset = (uint64_t)at->off;
		rc = cf_rc(ioctl(at->other, FIDEDUPERANGE, range));
		/* The call can succeed, and say here that it did nothing. FILE_DEDUPE_RANGE_DIFFERS is success, too. */
		if (rc >= 0 && range->info[0].status < 0)
			rc = range->info[0].status;
	}
	free(range);
	return rc;
}
OP(copy_from)
{
	loff_t in = at->off, out = 0;

	return cf_rc(copy_file_range(at->fd, &in, at->other, &out, (size_t)at->len, 0));
}
OP(copy_into)
{
	loff_t in = 0, out = at->off;

	return cf_rc(copy_file_range(at->other, &in, at->fd, &out, (size_t)at->len, 0));
}

/* ext4's, for defragmenting; no header of user space has it. */
struct move_extent {
	uint32_t reserved, donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};
OP(move_extent)
{
	struct move_extent move = { .donor_fd = (uint32_t)at->other, .orig_start = (uint64_t)at->off / CF_PAGE,
				    .donor_start = (uint64_t)at->off / CF_PAGE, .len = (uint64_t)at->len / CF_PAGE };

	return cf_rc(ioctl(at->fd, _IOWR('f', 15, struct move_extent), &move));
}

/* ---- contents ---- */

static char *page(void)
{
	char *p = aligned_alloc(CF_PAGE, CF_PAGE);

	if (p != NULL)
		memset(p, CF_BYTE, CF_PAGE);
	return p;
}

/* A page at @off, to the file or from it. */
static long move_page(int fd, off_t off, bool in, int flags)
{
	char *buf = page();
	const struct iovec v = { buf, CF_PAGE };
	long rc = -1;

	if (buf != NULL && fd >= 0)
		rc = in ? preadv2(fd, &v, 1, off, flags) : pwritev2(fd, &v, 1, off, flags);
	rc = cf_rc(rc);
	free(buf);
	return rc;
}

OP(read) { return move_page(at->fd, at->off, true, 0); }
OP(read_nowait) { return move_page(at->fd, at->off, true, RWF_NOWAIT); }
OP(write) { return move_page(at->fd, at->off, false, 0); }
OP(write_nowait) { return move_page(at->fd, at->off, false, RWF_NOWAIT); }
OP(write_other) { return move_page(at->other, at->off, false, 0); }
OP(read_nonblock)
{
	const int fd = again(at, O_RDONLY | O_NONBLOCK);

	return closing(fd, move_page(fd, at->off, true, 0));
}
OP(write_direct)
{
	const int fd = again(at, O_RDWR | O_DIRECT);

	return closing(fd, move_page(fd, at->off, false, 0));
}

/* -EFAULT: a signal. */
OP(load) { return cf_touch(at->map + at->off, false) == 0 ? 0 : -EFAULT; }
OP(store) { return cf_touch(at->map + at->off, true) == 0 ? 0 : -EFAULT; }

OP(fsync) { return cf_rc(fsync(at->fd)); }
OP(msync) { return cf_rc(msync(at->map, at->mapped, MS_SYNC)); }
OP(syncfs) { return cf_rc(syncfs(at->fd)); }

/* ---- the inode and its names ---- */

OP(stat)
{
	struct stat st;

	return cf_rc(stat(at->f, &st));
}
OP(access) { return cf_rc(access(at->f, R_OK | W_OK)); }
OP(open) { return opened(at, O_RDWR); }
OP(close)
{
	const int fd = dup(at->fd);

	return cf_rc(fd < 0 ? -1 : close(fd));
}
OP(chmod) { return cf_rc(chmod(at->f, 0640)); }
OP(chown) { return cf_rc(chown(at->f, geteuid(), getegid())); }
OP(utimes)
{
	const struct timespec t[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };

	return cf_rc(utimensat(AT_FDCWD, at->f, t, 0));
}
OP(setxattr) { return cf_rc(setxattr(at->f, "user.conform", "x", 1, 0)); }
OP(getxattr)
{
	char value[16];
	const long rc = cf_rc(getxattr(at->f, "user.conform", value, sizeof value));

	return rc == -ENODATA ? 0 : rc;		/* it has none, which is an answer as well */
}
OP(seek_data) { return cf_rc(lseek(at->fd, 0, SEEK_DATA)); }
OP(seek_end) { return cf_rc(lseek(at->fd, 0, SEEK_END)); }
OP(fiemap)
{
	struct fiemap map = { .fm_length = UINT64_MAX };

	return cf_rc(ioctl(at->fd, FS_IOC_FIEMAP, &map));
}
OP(locks)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	long rc = cf_rc(flock(at->fd, LOCK_EX));

	if (rc == 0)
		rc = cf_rc(fcntl(at->fd, F_SETLK, &lock));
	return rc;
}
OP(journal_flag)
{
	int flags = 0;
	long rc = cf_rc(ioctl(at->fd, FS_IOC_GETFLAGS, &flags));

	flags ^= FS_JOURNAL_DATA_FL;
	if (rc >= 0)
		rc = cf_rc(ioctl(at->fd, FS_IOC_SETFLAGS, &flags));
	return rc;
}
OP(dax_flag)
{
	struct fsxattr attr;
	long rc = cf_rc(ioctl(at->fd, FS_IOC_FSGETXATTR, &attr));

	if (rc >= 0) {
		attr.fsx_xflags ^= FS_XFLAG_DAX;
		rc = cf_rc(ioctl(at->fd, FS_IOC_FSSETXATTR, &attr));
	}
	return rc;
}
OP(link) { return cf_rc(link(at->f, at->h)); }
OP(unlink) { return cf_rc(unlink(at->f)); }
OP(rename_over) { return cf_rc(rename(at->g, at->f)); }
OP(rename_away) { return cf_rc(rename(at->f, at->h)); }

/* ---- mappings and pins ---- */

OP(mmap)
{
	void *p = mmap(NULL, at->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, at->fd, 0);

	return cf_rc(p == MAP_FAILED ? -1 : munmap(p, at->mapped));
}
OP(munmap) { return cf_rc(munmap(at->spare, at->mapped)); }
OP(madv_dontneed) { return cf_rc(madvise(at->map + at->off, (size_t)at->len, MADV_DONTNEED)); }
OP(mlock) { return cf_rc(mlock(at->map + at->off, (size_t)at->len)); }

OP(pin)
{
	struct cf_pin *pin;
	const long rc = cf_pin_try(at->c, at->map + at->off, (size_t)at->len, CF_TO_FILE, &pin);

	if (rc == 0)
		cf_land(pin);
	return rc;
}

/* ---- others ---- */

OP(create)
{
	const int fd = open(at->h, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return closing(fd, cf_rc(fd));
}
OP(readdir)
{
	DIR *dir = opendir(at->dir);
	long rc = 0;

	if (dir == NULL)
		return cf_rc(-1);
	while (readdir(dir) != NULL)
		rc++;
	(void)closedir(dir);
	return rc;
}
OP(unlink_other) { return cf_rc(unlink(at->g)); }
