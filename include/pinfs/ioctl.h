/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctl.h - calls on an open pinfs file that reach the daemon through the kernel.
 *
 * They work on any file descriptor of a pinfs mount and give ENOTTY elsewhere. They never block
 * behind a waiting truncate in the kernel, which sends ioctls without the inode lock.
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
 * mode: pinfs(8), dax=). The open descriptor is the proof of access: at_write is 1 when it is open for writing and
 * the file is neither immutable nor append-only. The cookie is good for one PF_P_ATTACH by the same
 * process within 60 seconds.
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

/*
 * PINFS_IOC_FALLOCATE - fallocate(2) in the modes that the kernel does not pass on to a FUSE filesystem.
 *
 * fa_mode: FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, or FALLOC_FL_UNSHARE_RANGE with or without
 * FALLOC_FL_KEEP_SIZE; the others are EOPNOTSUPP here, as the kernel does pass them on. The descriptor must be open
 * for writing (EBADF). Answers are ext4's: offset and length in units of 4096 bytes, a range that lies inside the file
 * (EINVAL), EFBIG, EPERM for append-only and immutable files, ENODEV, EISDIR, ENOSPC, and what truncate(2) says of pins
 * (EBUSY, EINTR). Atomic, also in a crash. No block is ever shared, so UNSHARE_RANGE allocates what is missing, as xfs
 * does.
 *
 * Stores through plain shared mappings that race with the call may land where the page was or where it is then. The
 * kernel learns of the new size with the next stat(2) of the file: until then a descriptor with O_APPEND goes to the
 * old end. libpinfs.so's fallocate() does that stat.
 */
struct pinfs_fallocate {
	int32_t fa_mode;
	uint32_t fa_pad;		/* 0 */
	int64_t fa_off;
	int64_t fa_len;
};
#define PINFS_IOC_FALLOCATE _IOW('P', 0x52, struct pinfs_fallocate)

/*
 * PINFS_IOC_POLICY - what ftruncate(2) and fallocate(2) by this open file do that meet a pin: policy options (pinfs(8),
 * "on_busy=ebusy,busy_timeout=2"), which come before those of the file and the mount. "": none any more.
 *
 * For regular files open for writing (EBADF, EINVAL); it belongs to the open file description, and ends with it.
 * truncate(2) and O_TRUNC know of no descriptor, and of no such policy. EINVAL: no such options. EPERM: on_busy=unsafe
 * without CAP_SYS_ADMIN. Does not block.
 */
struct pinfs_policy {
	char po_text[256];		/* NUL terminated */
};
#define PINFS_IOC_POLICY _IOW('P', 0x53, struct pinfs_policy)

#endif
