/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck_img.h - an image with one of everything, made by layers 1 and 2 only, and tools to break it.
 *
 *   /            10     root: "a", "b", "c", "d", "h", "l", "ll", "n", "x"
 *   /a  /h       file   two links to one inode, 40 extents of two blocks with a hole between: a tree of level 1
 *   /b           file   one extent of 4 blocks and an unwritten one behind the end of file
 *   /d           dir    60 names of one file /d/n000.., in three leaves
 *   /d/e         dir    empty
 *   /l  /ll      symlinks, inline and in a block
 *   /n           character device 1:3
 *   /x           file   with the intent to punch, named by the orphan file
 *   (none)       file   no links, one block, named by the orphan file
 *   second inode cluster, empty but for the file /c
 */
#ifndef PF_TESTS_FSCK_IMG_H
#define PF_TESTS_FSCK_IMG_H

#include "media/verify.h"
#include "space/alloc.h"

#define IMG_BYTES (UINT64_C(16) << 20)
#define IMG_D_NAMES 60

struct img {
	struct pf_fs *fs;	/* down again: constants and pm only */
	uint64_t a, b, c, d, e, l, ll, n, x, gone;	/* inode numbers */
	uint64_t a_dblk;	/* its first data block */
	uint64_t a_node;	/* its tree's first node */
	uint64_t b_dblk;
	uint64_t d_leaf[3];
	uint64_t root_leaf;
	uint64_t orph_dblk;	/* the orphan block */
	uint64_t clu1_dblk;	/* the second inode cluster */
};

/* Aborts when it cannot be made. */
struct img *img_make(void);
void img_free(struct img *im);

/* Places in @base, a copy of the image (or the image). */
struct pf_d_inode *img_inode(const struct img *im, uint8_t *base, uint64_t ino);
static inline void *img_blk(uint8_t *base, uint64_t dblk) { return base + (dblk << PF_BLK_SHIFT); }
/* The live entry of that name in a leaf; aborts when there is none. */
struct pf_d_dirent *img_entry(void *leaf, const char *name);
/* New checksums after damage that is to be found behind them. */
void img_seal_blk(void *blk);
void img_seal_super(uint8_t *base, uint64_t dblk);
void img_seal_inode(struct pf_d_inode *di);
/* Make lane @lane a committed transaction, number @seq, that stores the 64 bytes of @line at @doff. */
void img_seal_lane(const struct img *im, uint8_t *base, uint32_t lane, uint64_t seq, uint64_t doff, const void *line);

#endif
