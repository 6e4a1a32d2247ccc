/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.h - tells the kernel that attributes which it has cached are stale.
 *
 * Windows change files behind the kernel's back: a store moves mtime, and into a hole it allocates blocks. A notice
 * about pages may wait for a request that a worker has to answer, so a thread of its own sends those.
 */
#ifndef PF_FRONT_NOTIFY_H
#define PF_FRONT_NOTIFY_H

#include <stdint.h>
#include <pinfs/compiler.h>

struct fuse_session;
struct pf_notify;

int pf_notify_start(struct fuse_session *se, struct pf_notify **out) PF_MUST_CHECK;
/* From now on nothing is announced, and no announcement is under way. The FUSE workers still run: one of them may have
 * to answer what an announcement waits for. */
void pf_notify_stop(struct pf_notify *n);
/* Nobody calls any more. */
void pf_notify_free(struct pf_notify *n);

/* Attributes and all pages that the kernel has of this inode are to be asked for again. Any thread, any locks above
 * LEAF; never blocks. */
void pf_notify_data(struct pf_notify *n, uint64_t ino);
/* The attributes only, done when it returns: before the answer to a request that changed them. The request must not be
 * one that holds pages (READ). No locks. */
void pf_notify_attr_now(struct pf_notify *n, uint64_t ino);

#endif
