/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attach.c - is this descriptor a file on a pinfs mount, and may we have a window on it? Asked once per mmap()
 * of a file that is not attached yet, in the program's own thread. Weak: a test without a mount brings its own.
 */
#include "sh.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define FUSE_MAGIC 0x65735546

__attribute__((weak)) bool sh_attach_maybe(int fd)
{
	struct statfs fs;

	return sh_sys(SYS_fstatfs, fd, &fs) == 0 && fs.f_type == FUSE_MAGIC;
}

__attribute__((weak)) int sh_attach(int fd, struct pinfs_attach *at)
{
	long r;

	if (!sh_attach_maybe(fd))
		return -ENOTTY;
	memset(at, 0, sizeof *at);
	r = sh_sys(SYS_ioctl, fd, PINFS_IOC_ATTACH, at);
	if (r < 0)
		return (int)r;
	at->at_sock[sizeof at->at_sock - 1] = '\0';
	return at->at_sock[0] == '\0' ? -ENOTTY : 0;
}
