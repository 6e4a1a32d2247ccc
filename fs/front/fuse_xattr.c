/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_xattr.c - FUSE requests about extended attributes: decode, one verb of op/, one reply.
 *
 * Takes no lock. The kernel has checked the caller's rights and keeps access lists in its inodes; it forgets them by
 * itself whenever it sends a request that may change one.
 */
#include "front/fuse_ops.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "front/fuse_io.h"

/* Blocks that a device still writes to become somebody else's: that is for root to choose, not for a file's owner. */
static bool chooses_unsafe(const char *name, const char *value, size_t size)
{
	static const char unsafe[] = "unsafe";

	return strcmp(name, "user.pinfs.on_busy") == 0 && size == sizeof unsafe - 1 && memcmp(value, unsafe, size) == 0;
}

void pf_fuse_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	if (chooses_unsafe(name, value, size)) {
		if (!pf_caller_capable(req, CAP_SYS_ADMIN)) {
			(void)fuse_reply_err(req, EPERM);
			return;
		}
		pf_warn("EXPERIMENTAL: on_busy=unsafe was set for inode %llu: its blocks are given away under DMA",
			(unsigned long long)pf_ino_of(node));
	}
	(void)fuse_reply_err(req, -pf_op_setxattr(pf_front_of(req)->fs, pf_ino_of(node), name, value, size, flags,
						  pf_io_setxattr_kill_sgid()));
}

void pf_fuse_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	(void)fuse_reply_err(req, -pf_op_removexattr(pf_front_of(req)->fs, pf_ino_of(node), name));
}

/* Both that read answer a probe with the length, else with the bytes. */
static void reply(fuse_req_t req, int err, const char *buf, size_t size, size_t len)
{
	if (err != 0)
		(void)fuse_reply_err(req, -err);
	else if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else
		(void)fuse_reply_buf(req, buf, len);
}

void pf_fuse_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	char *buf = size != 0 ? malloc(size) : NULL;
	size_t len = 0;
	int err = -ENOMEM;

	if (size == 0 || buf != NULL)
		err = pf_op_getxattr(pf_front_of(req)->fs, pf_ino_of(node), name, buf, size, &len);
	reply(req, err, buf, size, len);
	free(buf);
}

void pf_fuse_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	char *buf = size != 0 ? malloc(size) : NULL;
	bool hidden = false;
	size_t len = 0;
	int err = -ENOMEM;

	if (size == 0 || buf != NULL)
		err = pf_op_listxattr(fs, pf_ino_of(node), false, buf, size, &len, &hidden);
	if (err == 0 && hidden && pf_caller_capable(req, CAP_SYS_ADMIN))
		err = pf_op_listxattr(fs, pf_ino_of(node), true, buf, size, &len, &hidden);
	reply(req, err, buf, size, len);
	free(buf);
}
