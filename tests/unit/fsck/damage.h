/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * damage.h - everything that can be wrong with an image, one thing at a time. Each damage changes an image as
 * fsck_img.h makes it, mends the checksums in front of what it changes, and knows what fsck has to say of it.
 */
#ifndef PF_TESTS_FSCK_DAMAGE_H
#define PF_TESTS_FSCK_DAMAGE_H

#include "unit/fsck_img.h"

/* The image that is damaged, or rather copies of it: set before anything else is used. */
extern struct img *im;

/*
 * @expect: what must be said. "%a", "%b", ...: the inode's number. @hit: what the repair may change of the tree; paths
 * that begin so. All others must be there with the same bytes, and nothing else.
 */
struct damage { const char *name; void (*fn)(uint8_t *b); const char *expect, *hit; };
extern const struct damage damages[];
extern const size_t ndamage;
/* By the name of its function; aborts when there is none. */
const struct damage *damage_of(const char *name);

#define INODE(nr) img_inode(im, b, nr)
static inline struct pf_d_node *a_node(uint8_t *b) { return img_blk(b, im->a_node); }
static inline uint64_t last_blk(void) { return im->fs->nblk - 1; }
static inline void flip(void *p) { *(uint8_t *)p ^= 0x10; }
static inline void add16(pf_le16 *v, int d) { *v = pf_put16((uint16_t)(pf_get16(*v) + d)); }
static inline void add32(pf_le32 *v, int d) { *v = pf_put32(pf_get32(*v) + (uint32_t)d); }
static inline void add64(pf_le64 *v, int d) { *v = pf_put64(pf_get64(*v) + (uint64_t)(int64_t)d); }
static inline void seal_ino(uint8_t *b, uint64_t ino) { img_seal_inode(INODE(ino)); }
static inline void seal_lane(uint8_t *b, uint64_t doff, const void *line) { img_seal_lane(im, b, 1, 9, doff, line); }

#endif
