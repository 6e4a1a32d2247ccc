/* SPDX-License-Identifier: BSD-3-Clause */
/* shift.h - PINFS_IOC_FALLOCATE: what the kernel's fallocate(2) does around the call for other modes, done here. */
#ifndef PF_FRONT_SHIFT_H
#define PF_FRONT_SHIFT_H

#include <pinfs/ioctl.h>
#include "front/fuse_ops.h"

/* A thread of its own: the kernel may write back pages while it drops them, and our workers have to serve that. */
int pf_shift_start(struct pf_shift **out);
/* Ends what is queued; what comes later is EIO. Nobody waits for pins any more; the FUSE workers still run. */
void pf_shift_stop(struct pf_shift *s);
/* Nobody calls any more. */
void pf_shift_free(struct pf_shift *s);

/* Answers the request, now or later. @fh: the handle (front/handle.h). */
void pf_shift_ioctl(fuse_req_t req, fuse_ino_t node, const struct pinfs_fallocate *fa, uint64_t fh);

#endif
