/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_io.h - between /dev/fuse and libfuse: worker threads, the raw request, and what libfuse 3.14 cannot say by
 * itself.
 */
#ifndef PF_FRONT_FUSE_IO_H
#define PF_FRONT_FUSE_IO_H

#include <stdbool.h>
#include <linux/fuse.h>
#include <pinfs/compiler.h>

struct fuse_session;
struct pf_io;

/* Put our read and write below a mounted session. One session per process. 0 or -errno. */
int pf_io_attach(struct fuse_session *se) PF_MUST_CHECK;

/* Start the workers. @gone_fd: an eventfd that is written when the kernel has ended the connection. @disk: a request
 * may have to wait for a disk. */
int pf_io_start(struct fuse_session *se, int gone_fd, bool disk, struct pf_io **out) PF_MUST_CHECK;
/* Wait until INIT was answered: 0, or -ETIMEDOUT, -ENODEV (unmounted again), -EPROTO (the kernel is too old). */
int pf_io_wait_init(struct pf_io *io, unsigned int ms) PF_MUST_CHECK;
/* Let each worker finish what it does, and join it. Requests that are set aside must have been ended before. */
void pf_io_stop(struct pf_io *io);

/* The request that the calling worker handles now, and its body: for flags that libfuse drops. */
const struct fuse_in_header *pf_io_request(void);
const void *pf_io_body(void);

/* Its opcode as the kernel sent it: libfuse serves FUSE_TMPFILE as a CREATE and FUSE_STATX as a GETATTR. */
uint32_t pf_io_opcode(void);
#define PF_FUSE_STATX 52U	/* newer than our <linux/fuse.h> */

/* This SETXATTR's access list takes the set-gid bit along: the caller is not of the file's group. */
bool pf_io_setxattr_kill_sgid(void);

/* Does the kernel say in WRITE, SETATTR and OPEN whether set-id bits have to go (FUSE_HANDLE_KILLPRIV_V2)? */
bool pf_io_kill_priv(void);
/* What the kernel offered in INIT; valid once a request other than INIT has come. */
bool pf_io_parallel_writes(void);

#endif
