/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_attr.c - attributes beyond stat(2): statx with the time of birth, the ioctls of chattr(1), and what a request
 * does not say of its caller.
 *
 * Takes no lock. The kernel has checked the caller's right to change flags (owner, CAP_LINUX_IMMUTABLE) before such an
 * ioctl is sent.
 */
#include "front/fuse_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "front/fuse_io.h"
#include "front/notify.h"

/* Newer than our <linux/fuse.h>. */
struct sx_time { int64_t sec; uint32_t nsec; int32_t pad; };
struct sx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, pad;
	uint64_t ino, size, blocks, attributes_mask;
	struct sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};
_Static_assert(sizeof(struct sx_out) == 288, "struct fuse_statx_out");

static struct sx_time sx_time(struct statx_timestamp t)
{
	return (struct sx_time){ .sec = t.tv_sec, .nsec = t.tv_nsec };
}

void pf_fuse_statx(fuse_req_t req, fuse_ino_t node)
{
	struct statx s;
	struct sx_out out;
	int err = pf_op_statx(pf_front_of(req)->fs, pf_ino_of(node), &s);

	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	out = (struct sx_out){
		.attr_valid = (uint64_t)PF_TIMEOUT,
		.mask = s.stx_mask, .blksize = s.stx_blksize,
		.attributes = s.stx_attributes, .attributes_mask = s.stx_attributes_mask,
		.nlink = s.stx_nlink, .uid = s.stx_uid, .gid = s.stx_gid, .mode = s.stx_mode,
		.ino = s.stx_ino, .size = s.stx_size, .blocks = s.stx_blocks,
		.atime = sx_time(s.stx_atime), .btime = sx_time(s.stx_btime),
		.ctime = sx_time(s.stx_ctime), .mtime = sx_time(s.stx_mtime),
		.rdev_major = s.stx_rdev_major, .rdev_minor = s.stx_rdev_minor,
	};
	(void)fuse_reply_buf(req, (const char *)&out, sizeof out);
}

/* ---- chattr ---- */

static const struct { uint32_t flag, xflag; } both[] = {
	{ FS_SYNC_FL, FS_XFLAG_SYNC },		{ FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ FS_APPEND_FL, FS_XFLAG_APPEND },	{ FS_NODUMP_FL, FS_XFLAG_NODUMP },
	{ FS_NOATIME_FL, FS_XFLAG_NOATIME },	{ FS_DAX_FL, FS_XFLAG_DAX },
	{ FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT },
};

static int set_flags(fuse_req_t req, fuse_ino_t node, const void *in, size_t insize)
{
	struct pf_fileattr fa = { .flags = 0 };

	if (insize < sizeof fa.flags)
		return -EINVAL;
	memcpy(&fa.flags, in, sizeof fa.flags);
	return pf_op_fileattr_set(pf_front_of(req)->fs, pf_ino_of(node), UINT32_MAX, false, &fa);
}

/* struct fsxattr has no word for some flags (FS_DIRSYNC_FL): they stay. */
static int set_fsx(fuse_req_t req, fuse_ino_t node, const void *in, size_t insize)
{
	struct pf_fileattr fa = { .flags = 0 };
	uint32_t mask = 0, left;
	struct fsxattr fsx;

	if (insize < sizeof fsx)
		return -EINVAL;
	memcpy(&fsx, in, sizeof fsx);
	left = fsx.fsx_xflags & ~(uint32_t)FS_XFLAG_HASATTR;
	for (size_t i = 0; i < PF_ARRAY_LEN(both); i++) {
		mask |= both[i].flag;
		if (fsx.fsx_xflags & both[i].xflag)
			fa.flags |= both[i].flag;
		left &= ~both[i].xflag;
	}
	if (left != 0 || fsx.fsx_extsize != 0 || fsx.fsx_cowextsize != 0)
		return -EOPNOTSUPP;
	fa.projid = fsx.fsx_projid;
	return pf_op_fileattr_set(pf_front_of(req)->fs, pf_ino_of(node), mask, true, &fa);
}

static struct fsxattr fsx_of(const struct pf_fileattr *fa)
{
	struct fsxattr fsx = { .fsx_projid = fa->projid };

	for (size_t i = 0; i < PF_ARRAY_LEN(both); i++)
		if (fa->flags & both[i].flag)
			fsx.fsx_xflags |= both[i].xflag;
	return fsx;
}

/* The answer has to be as long as the kernel has room for: it asks for 4 bytes where programs offer a long. */
static void reply_number(fuse_req_t req, uint32_t n, size_t outsize)
{
	(void)fuse_reply_ioctl(req, 0, &n, outsize < sizeof n ? outsize : sizeof n);
}

bool pf_fuse_fileattr(fuse_req_t req, fuse_ino_t node, unsigned int cmd, const void *in, size_t insize, size_t outsize)
{
	const unsigned int set_cmd = (unsigned int)FS_IOC_SETFLAGS, set_xcmd = (unsigned int)FS_IOC_FSSETXATTR;
	struct pf_front *f = pf_front_of(req);
	struct pf_fileattr fa;
	struct fsxattr fsx;
	int err;

	if (cmd != (unsigned int)FS_IOC_GETFLAGS && cmd != set_cmd && cmd != (unsigned int)FS_IOC_GETVERSION &&
	    cmd != (unsigned int)FS_IOC_FSGETXATTR && cmd != set_xcmd)
		return false;
	if (cmd == set_cmd || cmd == set_xcmd) {
		err = cmd == set_cmd ? set_flags(req, node, in, insize) : set_fsx(req, node, in, insize);
		if (err == 0)
			pf_notify_attr_now(f->notify, pf_ino_of(node));	/* ctime */
		(void)(err == 0 ? fuse_reply_ioctl(req, 0, NULL, 0) : fuse_reply_err(req, -err));
		return true;
	}
	err = pf_op_fileattr_get(f->fs, pf_ino_of(node), &fa);
	if (err != 0) {
		(void)fuse_reply_err(req, -err);
	} else if (cmd == (unsigned int)FS_IOC_FSGETXATTR) {
		fsx = fsx_of(&fa);
		(void)fuse_reply_ioctl(req, 0, &fsx, outsize < sizeof fsx ? outsize : sizeof fsx);
	} else {
		reply_number(req, cmd == (unsigned int)FS_IOC_GETVERSION ? fa.gen : fa.flags, outsize);
	}
	return true;
}

/* ---- what a request does not say, or libfuse does not pass on ---- */

bool pf_read_noatime(void)
{
	const struct fuse_read_in *in = pf_io_body();

	return in->flags & O_NOATIME;
}

struct caller { uint64_t caps; gid_t gid; bool in_group; };

static bool has_number(const char *list, unsigned long n)
{
	char *end;

	for (;; list = end) {
		unsigned long v = strtoul(list, &end, 10);

		if (end == list)
			return false;
		if (v == n)
			return true;
	}
}

/* Root of a container of its own has every capability, there. */
static bool in_our_userns(pid_t pid)
{
	struct stat ours, its;
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	return stat(path, &its) == 0 && stat("/proc/self/ns/user", &ours) == 0 && its.st_dev == ours.st_dev &&
	       its.st_ino == ours.st_ino;
}

/* The caller waits for our answer, so its number is its own until then. Not in our pid namespace: nothing is known, and
 * the careful answer given. */
static void ask_proc(fuse_req_t req, struct caller *c)
{
	char path[64], *line = NULL;
	size_t room = 0;
	FILE *f;

	c->in_group = fuse_req_ctx(req)->gid == c->gid;
	c->caps = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)fuse_req_ctx(req)->pid);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "CapEff: %" SCNx64, &c->caps) != 1 && strncmp(line, "Groups:", 7) == 0)
			c->in_group = c->in_group || has_number(line + 7, c->gid);
	}
	free(line);
	(void)fclose(f);
	if (!in_our_userns(fuse_req_ctx(req)->pid))
		c->caps = 0;
}

bool pf_caller_capable(fuse_req_t req, unsigned int cap)
{
	struct caller c = { .gid = 0 };

	ask_proc(req, &c);
	return c.caps >> cap & 1;
}

bool pf_caller_keeps_setgid(fuse_req_t req, gid_t gid)
{
	struct caller c = { .gid = gid };

	ask_proc(req, &c);
	return (c.caps >> CAP_FSETID & 1) != 0 || c.in_group;
}
