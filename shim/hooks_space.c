/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_space.c - fallocate(2) in the modes that the kernel refuses for any FUSE file: collapse, insert, unshare.
 *
 * The kernel is asked first, so files of other filesystems, and other modes, take the usual way and pay nothing. Only
 * its EOPNOTSUPP leads to the daemon, by an ioctl that nobody else knows (ENOTTY). Takes no lock.
 */
#include "sh.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define BY_IOCTL (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE)

static int (*real_fallocate)(int, int, off_t, off_t);

SH_EARLY static int kernel(int fd, int mode, off_t off, off_t len)
{
	if (real_fallocate == NULL) {
		void *sym = dlsym(RTLD_NEXT, "fallocate");

		memcpy(&real_fallocate, &sym, sizeof sym);
	}
	return real_fallocate(fd, mode, off, len);
}

/* 0, or the errno to report. */
static int daemon_call(int fd, int mode, off_t off, off_t len)
{
	struct pinfs_fallocate fa = { .fa_mode = mode, .fa_off = off, .fa_len = len };
	long r = sh_sys(SYS_ioctl, fd, PINFS_IOC_FALLOCATE, &fa);
	struct stat st;

	if (r == -ENOTTY)
		return EOPNOTSUPP;	/* somebody else's file: the kernel's answer stands */
	if (r < 0)
		return (int)-r;
	(void)sh_sys(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);	/* for O_APPEND: pinfs/ioctl.h */
	return 0;
}

PF_EXPORT SH_EARLY int fallocate(int fd, int mode, off_t off, off_t len)
{
	int saved = errno, rc = kernel(fd, mode, off, len), err;

	if (rc == 0 || errno != EOPNOTSUPP || (mode & BY_IOCTL) == 0)
		return rc;
	err = daemon_call(fd, mode, off, len);
	errno = err != 0 ? err : saved;
	return err != 0 ? -1 : 0;
}

PF_EXPORT SH_EARLY int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	return fallocate(fd, mode, off, len);
}
