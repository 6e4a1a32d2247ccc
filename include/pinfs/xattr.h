/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr.h - what statx(2) would show of a file if the kernel let a FUSE filesystem say it.
 *
 * getxattr(2) of this name works on everything in a pinfs mount for whoever may stat it. It is made up when it is read:
 * it is in no list, and cannot be set or removed (EOPNOTSUPP). libpinfs.so's statx() reads it.
 */
#ifndef PINFS_XATTR_H
#define PINFS_XATTR_H

#include <stdint.h>

#define PINFS_XATTR_STATX "system.pinfs.statx"

struct pinfs_statx {
	uint64_t px_ino;		/* stx_ino, to know that it is the same file */
	uint64_t px_attributes;		/* STATX_ATTR_IMMUTABLE, APPEND, NODUMP, DAX */
	uint64_t px_mask;		/* those of them that this mount knows */
};

#endif
