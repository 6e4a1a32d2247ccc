/* SPDX-License-Identifier: BSD-3-Clause */
/* super.h - the two superblocks: check, load, mark. */
#ifndef PF_MEDIA_SUPER_H
#define PF_MEDIA_SUPER_H

#include "base/fs.h"
#include "media/pmem.h"

/* Reason in one phrase, or NULL. @bytes: of the device. */
const char *pf_sb_check(const struct pf_d_super *sb, uint64_t bytes);

/*
 * Find a sound superblock (first, else the copy) and fill the constant part of @fs from it. On failure *why is a
 * phrase for people ("not a pinfs image", "version 3, this is 1", "block size 512", "truncated: ...", "unknown feature ..."). Errors: -EINVAL
 * (no pinfs, wrong version or block size), -EUCLEAN (both copies damaged), -EOPNOTSUPP (features), -EROFS.
 */
int pf_sb_load(struct pf_fs *fs, const char **why) PF_MUST_CHECK;

/* Rewrite both copies (first, drain, then second): mounted (state not clean, count + 1) / unmounted clean. */
int pf_sb_mark_mounted(struct pf_fs *fs) PF_MUST_CHECK;
int pf_sb_mark_clean(struct pf_fs *fs) PF_MUST_CHECK;

#endif
