/* SPDX-License-Identifier: BSD-3-Clause */
/* front.h - what the parts of the FUSE front share: one mounted filesystem, its session, its helpers. */
#ifndef PF_FRONT_FRONT_H
#define PF_FRONT_FRONT_H

#include <stdbool.h>
#include "base/fs.h"

struct fuse_session;
struct fuse_lowlevel_ops;
struct pf_deadlock;
struct pf_notify;
struct pf_shift;
struct pf_srv;

struct pf_front {		/* the userdata of every FUSE request */
	struct pf_fs *fs;
	struct fuse_session *se;
	struct pf_srv *srv;
	struct pf_notify *notify;
	struct pf_shift *shift;
	struct pf_deadlock *deadlock;
	_Atomic unsigned long mount_id;	/* of our line in mountinfo; 0: unknown, or not yet */
	bool unchecked;			/* the kernel checks no permissions: no_default_permissions */
};

/* The operations, in fuse_ops.c (names, attributes, directories) and fuse_data.c (files). */
extern const struct fuse_lowlevel_ops pf_front_ops;

#endif
