/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.h - one verifier for each kind of object on the media, shared by mount, fsck and dump.
 *
 * A verifier checks one object by itself: magic, checksum, fsid, self, owner, counts, order, ranges
 * inside the device. It reads only the bytes it is given, and never trusts one to index beyond them. What needs two
 * objects (links, double use, counts) is fsck's.
 */
#ifndef PF_MEDIA_VERIFY_H
#define PF_MEDIA_VERIFY_H

#include "base/fs.h"

enum pf_md { PF_MD_MAP, PF_MD_ICLU, PF_MD_INODE, PF_MD_NODE, PF_MD_DIR, PF_MD_ORPHAN, PF_MD_XATTR, PF_MD_NR };
extern const char *const pf_md_name[PF_MD_NR];

uint32_t pf_md_size(enum pf_md type);			/* 4096, or 512 for an inode */

/* The reason in one phrase ("checksum", "owner", "extent 3 overlaps 2", ...), or NULL when the object is sound. */
const char *pf_md_check(const struct pf_fs *fs, enum pf_md type, const void *obj, uint64_t doff, uint64_t owner);

/* Set the checksum (and fsid, self, magic of a fresh object) right before it is written. */
void pf_md_seal(enum pf_md type, void *obj);
void pf_md_format(const struct pf_fs *fs, enum pf_md type, void *obj, uint64_t doff, uint64_t owner, uint32_t gen);

/*
 * A sound object at @doff for reading: verified at its first use since mount, then trusted until its block is
 * freed. -EUCLEAN, -EIO (in a bad block), reported once with what and where, and the mount's state is what errors=
 * says. The caller holds the lock that keeps the object still.
 */
int pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out) PF_MUST_CHECK;
/* The block was freed or is new: forget that it was verified. */
void pf_md_forget(struct pf_fs *fs, uint64_t dblk, uint64_t nblk);

/* The reason why a tree root inside an inode is not sound, or NULL. @owner: the inode; @dir: a directory's. */
const char *pf_root_check(const struct pf_fs *fs, const struct pf_d_root *root, uint64_t owner, bool dir);
/* The same of the tree of attributes. */
const char *pf_xroot_check(const struct pf_fs *fs, const struct pf_d_xroot *root, uint64_t owner);
/* True when a file, tree or directory of @owner may refer to all of [dblk, dblk + nblk): no superblock, journal,
 * map... */
bool pf_data_range_ok(const struct pf_fs *fs, uint64_t owner, uint64_t dblk, uint64_t nblk);

int pf_verified_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_verified_fini(struct pf_fs *fs);

#endif
