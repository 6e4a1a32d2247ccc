/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctl.h - calls on an open pinfs file that reach the daemon through the kernel.
 *
 * They work on any file descriptor of a pinfs mount and give ENOTTY elsewhere. They never block
 * behind a waiting truncate: the kernel sends ioctls without the inode lock.
 */
#ifndef PINFS_IOCTL_H
#define PINFS_IOCTL_H

#include <stdint.h>
#include <sys/ioctl.h>

#define PINFS_SOCK_MAX 108

/*
 * PINFS_IOC_ATTACH - the right to a file, for use on the session socket.
 *
 * Works on regular files only (EISDIR, EINVAL otherwise; EOPNOTSUPP when the file is not in DAX
 * mode). The open descriptor is the proof of access: at_write is 1 when it is open for writing. The
 * cookie is good for one PF_P_ATTACH by the same process within 60 seconds.
 */
struct pinfs_attach {
	uint64_t at_cookie[2];
	uint64_t at_ino;
	uint32_t at_gen;
	uint32_t at_write;
	char at_sock[PINFS_SOCK_MAX];	/* abstract unix socket name, without the leading NUL */
	uint32_t at_pad;
};
#define PINFS_IOC_ATTACH _IOR('P', 0x50, struct pinfs_attach)

/* PINFS_IOC_SOCK - the session socket's name alone; any file or directory of the mount. For tools. */
struct pinfs_sock {
	char so_sock[PINFS_SOCK_MAX];
	uint32_t so_pad;
};
#define PINFS_IOC_SOCK _IOR('P', 0x51, struct pinfs_sock)

#endif
