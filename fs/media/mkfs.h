/* SPDX-License-Identifier: BSD-3-Clause */
/* mkfs.h - make an empty filesystem on a device. For mkfs.pinfs and for tests. */
#ifndef PF_MEDIA_MKFS_H
#define PF_MEDIA_MKFS_H

#include <sys/types.h>
#include "base/fs.h"
#include "media/pmem.h"

struct pf_mkfs {
	char label[33];			/* at most 32 bytes */
	uint8_t uuid[16];		/* all zero: a random one, stored here */
	uid_t uid;			/* owner of the root directory */
	gid_t gid;
	/* out */
	uint64_t nblk;
	uint64_t free;			/* blocks */
	uint32_t nlane;
};

/*
 * Write an empty filesystem over the whole device. Stores metadata blocks only, so a sparse file stays sparse; the
 * superblocks last, after the old first one was destroyed: a crash in between leaves no filesystem rather than half
 * of one. May take seconds on a huge device. Errors: -EIO (medium, random source).
 */
int pf_mkfs(struct pf_pm *pm, struct pf_mkfs *m) PF_MUST_CHECK;

#endif
