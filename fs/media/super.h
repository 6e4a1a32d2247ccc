/* SPDX-License-Identifier: BSD-3-Clause */
/* super.h - the two superblocks: check, load, mark. */
#ifndef PF_MEDIA_SUPER_H
#define PF_MEDIA_SUPER_H

#include "base/fs.h"
#include "media/pmem.h"

#define PF_LANE_BLKS ((uint32_t)(PF_LANE_BYTES / PF_BLK_SIZE))
#define PF_LANES_MAX 32U

/* Where mkfs puts the areas of a device of @nblk blocks. The number of lanes is a choice, the rest follows from it. */
struct pf_sb_geom { uint32_t nlane; uint64_t ngroup, map_blk, iclu0_blk; };
void pf_sb_geometry(uint64_t nblk, struct pf_sb_geom *g);

uint32_t pf_sb_sum(const struct pf_d_super *sb);

/* Reason in one phrase, or NULL. @bytes: of the device. */
const char *pf_sb_check(const struct pf_d_super *sb, uint64_t bytes);

/*
 * Find a sound superblock (first, else the copy) and fill the constant part of @fs from it. On failure *why is a
 * phrase for people ("not a pinfs image", "another major version of the format", "truncated: ...", "unknown
 * incompatible feature"). Errors: -EINVAL (no pinfs, wrong version or block size), -EUCLEAN (both copies damaged),
 * -EOPNOTSUPP (features), -EROFS.
 */
int pf_sb_load(struct pf_fs *fs, const char **why) PF_MUST_CHECK;

/* Room in a sparse image file for what lies at fixed places: -ENOSPC. */
int pf_sb_back(struct pf_fs *fs) PF_MUST_CHECK;

/* Rewrite both copies (first, drain, then second): mounted (state not clean, count + 1) / unmounted clean. */
int pf_sb_mark_mounted(struct pf_fs *fs) PF_MUST_CHECK;
int pf_sb_mark_clean(struct pf_fs *fs) PF_MUST_CHECK;

#endif
