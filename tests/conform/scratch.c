/* SPDX-License-Identifier: BSD-3-Clause */
/* scratch.c - see scratch.h. */
#include "conform/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include "harness/touch.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

#define IMAGE_BYTES ((off_t)48 << 20)
#define SAID_MAX 8192
/* ext4's and xfs's ioctl of the same number: stop at once, and write nothing of the journal. */
#define IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOLOGFLUSH 2U

/* ---- the device ---- */

void scratch_new(struct cf *c, struct scratch *o, const char *tmpfs)
{
	*o = (struct scratch){ .c = c, .kernel = cf_is(c, "kernel"), .type = "pinfs", .kmsg = -1 };
	if (!o->kernel) {
		cf_own_image(c, &o->own, IMAGE_BYTES, tmpfs);
		(void)snprintf(o->dev, sizeof o->dev, "%s", o->own.img);
		(void)snprintf(o->mnt, sizeof o->mnt, "%s", o->own.mnt);
		return;
	}
	if (cf_scratch_dev(c) == NULL)
		cf_na(c, "no --scratch-dev to make a filesystem on");
	if (geteuid() != 0)
		cf_na(c, "only root can mount it");
	o->type = cf_is(c, "xfs") ? "xfs" : "ext4";
	(void)snprintf(o->dev, sizeof o->dev, "%s", cf_scratch_dev(c));
	(void)snprintf(o->mnt, sizeof o->mnt, "%s", cf_path(c, "own"));
	CF_SYS(c, mkdir(o->mnt, 0755));
}

/* BLKPG_ADD_PARTITION and BLKPG_DEL_PARTITION of the device's first one. */
static int divide(const struct scratch *o, int op, uint64_t from, uint64_t len)
{
	struct blkpg_partition part = { .start = (long long)from, .length = (long long)len, .pno = 1 };
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof part, .data = &part };
	const int fd = open(cf_scratch_dev(o->c), O_RDWR | O_CLOEXEC);
	const int rc = fd < 0 ? -errno : (int)cf_rc(ioctl(fd, BLKPG, &arg));

	if (fd >= 0)
		(void)close(fd);
	return rc;
}

void scratch_partition(struct scratch *o, uint64_t from)
{
	struct cf *c = o->c;
	int rc;

	/* What a case that ended early has left. */
	(void)divide(o, BLKPG_DEL_PARTITION, 0, 0);
	rc = divide(o, BLKPG_ADD_PARTITION, from, (uint64_t)512 << 20);
	if (rc != 0)
		cf_na(c, "the device cannot be divided: %s", strerror(-rc));
	o->partition = true;
	(void)snprintf(o->dev, sizeof o->dev, "%sp1", cf_scratch_dev(c));
	/* devtmpfs or udev make the node. */
	for (int i = 0; access(o->dev, W_OK) != 0; i++) {
		if (i == 20000)
			cf_na(c, "%s does not appear", o->dev);
		(void)usleep(500);
	}
}

int scratch_mkfs(struct scratch *o, const char *const more[])
{
	const char *argv[16] = { o->kernel ? strcmp(o->type, "xfs") == 0 ? "mkfs.xfs" : "mkfs.ext4" : "mkfs.pinfs",
				 "-f" };
	size_t n = 2;
	char out[4096];
	int status;

	if (strcmp(o->type, "ext4") == 0) {
		argv[1] = "-F";
		argv[n++] = "-q";
	} else if (o->kernel) {
		argv[n++] = "-q";
	}
	for (size_t i = 0; more != NULL && more[i] != NULL && n < 13; i++)
		argv[n++] = more[i];
	argv[n] = o->dev;
	status = cf_run(o->c, out, sizeof out, argv);
	if (status != 0)
		cf_note(o->c, "%s: %d: %s", argv[0], status, out);
	return status;
}

/* ---- mounting ---- */

static void close_log(struct scratch *o)
{
	if (o->kmsg >= 0)
		(void)close(o->kmsg);
	o->kmsg = -1;
}

static int mount_kernel(struct scratch *o, const char *opts)
{
	close_log(o);
	o->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (o->kmsg >= 0)
		(void)lseek(o->kmsg, 0, SEEK_END);
	return mount(o->dev, o->mnt, o->type, MS_NOATIME, opts);
}

int scratch_mount(struct scratch *o, const char *opts)
{
	if (o->kernel)
		o->mounted = mount_kernel(o, opts) == 0;
	else
		o->mounted = cf_own_try(o->c, &o->own, opts) == 0;
	return o->mounted ? 0 : -1;
}

void scratch_start(struct cf *c, struct scratch *o, const char *opts)
{
	scratch_new(c, o, NULL);
	CF_MUST(c, scratch_mkfs(o, NULL) == 0);
	if (scratch_mount(o, opts) == 0)
		return;
	cf_note(c, "%s", scratch_said(o));
	cf_broken(c, "scratch_start", 0, "mount", 0);
}

void scratch_umount(struct scratch *o)
{
	if (!o->mounted)
		return;
	if (!o->kernel)
		cf_own_stop(o->c, &o->own);
	else if (umount2(o->mnt, 0) != 0)
		(void)umount2(o->mnt, MNT_DETACH);
	o->mounted = false;
}

void scratch_crash(struct scratch *o)
{
	if (o->kernel) {
		const int fd = (int)CF_SYS(o->c, open(o->mnt, O_RDONLY | O_CLOEXEC));
		uint32_t how = SHUTDOWN_NOLOGFLUSH;

		CF_SYS(o->c, ioctl(fd, IOC_SHUTDOWN, &how));
		CF_SYS(o->c, close(fd));
	} else {
		cf_own_kill(o->c, &o->own);
	}
	scratch_umount(o);
}

void scratch_end(struct scratch *o)
{
	scratch_umount(o);
	close_log(o);
	(void)rmdir(o->mnt);
	if (o->partition)
		(void)divide(o, BLKPG_DEL_PARTITION, 0, 0);
}

/* ---- in it ---- */

const char *scratch_path(const struct scratch *o, const char *name)
{
	static _Thread_local char buf[8][PATH_MAX];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 8];

	(void)snprintf(p, PATH_MAX, "%.*s/%s", PATH_MAX - 256, o->mnt, name);
	return p;
}

const char *scratch_said(struct scratch *o)
{
	static char text[SAID_MAX];
	size_t at = 0;
	ssize_t n;

	if (!o->kernel)
		return cf_own_said(&o->own);
	/* A line for each read; EPIPE: one was overwritten. */
	while (o->kmsg >= 0 && at < sizeof text - 1) {
		n = read(o->kmsg, text + at, sizeof text - 1 - at);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	text[at] = '\0';
	return text;
}

int scratch_file(struct scratch *o, const char *name, size_t len)
{
	const int fd = (int)CF_SYS(o->c, open(scratch_path(o, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
	char page[CF_PAGE];

	memset(page, CF_BYTE, sizeof page);
	for (size_t at = 0; at < len; at += sizeof page)
		CF_SYS(o->c, pwrite(fd, page, len - at < sizeof page ? len - at : sizeof page, (off_t)at));
	return fd;
}

/* ---- of files ---- */

const char *dax_bit(struct cf *c, const char *path)
{
	struct statx sx;

	/* By libc's name: the preload library has the answer. */
	CF_SYS(c, statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &sx));
	return sx.stx_attributes & STATX_ATTR_DAX ? "set" : "clear";
}

long map_sync(int fd)
{
	void *p = mmap(NULL, CF_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);

	if (p == MAP_FAILED)
		return -(long)errno;
	(void)munmap(p, CF_PAGE);
	return 0;
}

long xflag_dax(int fd, bool *on)
{
	struct fsxattr x;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) != 0)
		return -(long)errno;
	*on = (x.fsx_xflags & FS_XFLAG_DAX) != 0;
	return 0;
}

long xflag_dax_set(int fd, bool on)
{
	struct fsxattr x;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) != 0)
		return -(long)errno;
	x.fsx_xflags = on ? x.fsx_xflags | FS_XFLAG_DAX : x.fsx_xflags & ~(uint32_t)FS_XFLAG_DAX;
	return cf_rc(ioctl(fd, FS_IOC_FSSETXATTR, &x));
}

int peek(volatile char *p)
{
	return pt_touch(p, false) == 0 ? (unsigned char)pt_touched_byte() : -1;
}
