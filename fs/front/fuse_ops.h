/* SPDX-License-Identifier: BSD-3-Clause */
/* fuse_ops.h - what fuse_ops.c and fuse_data.c share: translation of numbers, entries and callers. */
#ifndef PF_FRONT_FUSE_OPS_H
#define PF_FRONT_FUSE_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include "front/front.h"
#include "front/node.h"
#include "op/op.h"

/* The kernel is the only one who changes names; attributes that change without it are announced (notify.h). So what it
 * has cached stays right, and this may be long. */
#define PF_TIMEOUT 86400.0

static inline struct pf_front *pf_front_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct pf_cred pf_cred_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct pf_cred){ .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid, .umask = ctx->umask };
}

static inline struct fuse_entry_param pf_entry_param(const struct pf_entry *e)
{
	return (struct fuse_entry_param){ .ino = pf_node_of(e->ino), .generation = e->gen, .attr = e->st,
					  .attr_timeout = PF_TIMEOUT, .entry_timeout = PF_TIMEOUT };
}

/* READ and READDIR begin alike: was the descriptor opened with O_NOATIME? libfuse does not say it for directories. */
bool pf_read_noatime(void);
/* Has the caller of this request @cap (CAP_*)? Asks /proc: for the calls with which the kernel does not say so. */
bool pf_caller_capable(fuse_req_t req, unsigned int cap);
/* Is it in this group, or has it that? Then a set-gid bit that is not about execution stays (as in Linux since 6.2). */
bool pf_caller_keeps_setgid(fuse_req_t req, gid_t gid);

/* PF_KILL_* for fallocate and copy_file_range: the kernel leaves the set-id bits to us then, and does not say whether
 * the caller may keep them. */
unsigned int pf_fuse_kill_priv(fuse_req_t req, uint64_t ino);

/* Attributes beyond stat(2) (fuse_attr.c). */
void pf_fuse_statx(fuse_req_t req, fuse_ino_t node);
/* The ioctls of chattr(1) and lsattr(1). False: it is another one, and was not answered. */
bool pf_fuse_fileattr(fuse_req_t req, fuse_ino_t node, unsigned int cmd, const void *in, size_t insize, size_t outsize);
/* A request that may have to wait (fuse_data.c): start its verb; and for ar_aside, so that a signal ends the wait. */
void pf_fuse_start(fuse_req_t req, struct pf_areq *a);
void pf_fuse_aside(fuse_req_t req, uint64_t id);

/* Extended attributes (fuse_xattr.c). */
void pf_fuse_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void pf_fuse_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void pf_fuse_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void pf_fuse_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

/* File operations (fuse_data.c). */
void pf_fuse_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set, struct fuse_file_info *fi);
void pf_fuse_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *fi);
void pf_fuse_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void pf_fuse_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void pf_fuse_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void pf_fuse_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void pf_fuse_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi);
void pf_fuse_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void pf_fuse_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out,
			     off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void pf_fuse_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi);
void pf_fuse_ioctl(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg, struct fuse_file_info *fi,
		   unsigned int flags, const void *in, size_t insize, size_t outsize);

#endif
