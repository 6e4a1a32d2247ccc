/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.h - a real image to damage: what is on it, where each object lies, and which bytes each file depends on.
 *
 * Made by the core in memory, the same in every run: identity and hash key are fixed. As a crash left it: not clean, a
 * transaction in a lane, a file half shifted, an unlinked file. All of it is constant once made.
 */
#ifndef PT_FUZZ_IMAGE_H
#define PT_FUZZ_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "media/pmem.h"

#define FZ_BYTES (UINT64_C(16) << 20)
#define FZ_NBLK (FZ_BYTES / PF_BLK_SIZE)
#define FZ_SECTOR PF_INODE_SIZE			/* unit of "what was hit": an inode is one */
#define FZ_SECTORS (FZ_BYTES / FZ_SECTOR)

/* Objects by class, each class in order of place: a recipe names "node 3", which stays what it is when blocks move. */
enum fz_class {
	FZ_SUPER,		/* the first, then the copy */
	FZ_LANE,		/* headers and what is behind them, PF_LANE_BYTES */
	FZ_MAP,
	FZ_CLUSTER,		/* headers */
	FZ_INODE,		/* in use */
	FZ_NODE,
	FZ_DIR,
	FZ_ORPHAN,
	FZ_XATTR,
	FZ_DATA,		/* written blocks of files */
	FZ_CLASSES
};
extern const char *const fz_class_name[FZ_CLASSES];

struct fz_objs { uint64_t *doff; unsigned int n; };

/* A name, and the bytes that it and its contents depend on: bit a sector. */
struct fz_name {
	char *path;
	uint64_t ino;
	uint64_t needs[FZ_SECTORS / 64];
};

struct fz_image {
	const uint8_t *bytes;			/* FZ_BYTES */
	struct fz_objs obj[FZ_CLASSES];
	struct fz_objs meta;			/* blocks with a checksum, but the journal */
	struct fz_name *name;
	unsigned int nr_names;
	char *tree;				/* core_describe() of it, mounted */
	unsigned int pending;			/* transactions in lanes */
};

/* The image, made at the first call; aborts when that fails. */
const struct fz_image *fz_image(void);
/* Made once more, it has the same bytes. */
bool fz_image_same(void);
/* What mkfs drew at random, of an empty filesystem, becomes the same in every run. */
void fz_fix_identity(struct pf_pm *pm);
/* A private copy of it as a device in memory: costs what is written to it. fz_close() when done. */
struct pf_pm *fz_open(void);
void fz_close(struct pf_pm *pm);
/* Calls of write and zero on devices of fz_open() so far. */
extern uint64_t fz_stores;

uint64_t fz_size(enum fz_class c);		/* of an object: bytes */
/* A new checksum for the object of class @c at @doff. */
void fz_seal(struct pf_pm *pm, enum fz_class c, uint64_t doff);

static inline void fz_mark(uint64_t *sectors, uint64_t doff, uint64_t len)
{
	for (uint64_t s = doff / FZ_SECTOR; s * FZ_SECTOR < doff + len && s < FZ_SECTORS; s++)
		sectors[s / 64] |= UINT64_C(1) << (s % 64);
}
static inline bool fz_meet(const uint64_t *a, const uint64_t *b)
{
	for (unsigned int i = 0; i < FZ_SECTORS / 64; i++)
		if (a[i] & b[i])
			return true;
	return false;
}

#endif
