/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.h - what the phases of fsck.pinfs share: the image, the blocks found in use, the inodes found.
 *
 * The phases read the image through a private view (overlay.c), so nothing they do reaches the device. Every byte
 * is hostile: a walk descends into a block only when it claimed it first, which bounds all work by the size of the
 * device. Memory: one bit a block for each of two bitmaps, 16 bytes an inode slot. One thread, no locks.
 */
#ifndef FSCK_PINFS_FSCK_H
#define FSCK_PINFS_FSCK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/fs.h"
#include "media/pmem.h"

/* Exit codes, as e2fsck's. May be or-ed. */
enum { FSCK_OK = 0, FSCK_UNCORRECTED = 4, FSCK_ERROR = 8, FSCK_USAGE = 16 };

#define FSCK_LINES_MAX UINT64_C(1000)	/* problems printed without -v; all are counted */

/* One slot of the inode table. */
struct fsck_ino {
	uint32_t links;		/* entries that name it */
	uint32_t subdirs;	/* directories among its own entries */
	uint8_t state;		/* FSCK_I_* */
	uint8_t type;		/* DT_*, when sound */
	uint8_t colour;		/* enum fsck_colour: phase 4's walk to the root */
	uint8_t pad;
};
enum {
	FSCK_I_USED = 1,	/* the cluster's bitmap says so */
	FSCK_I_SOUND = 2,	/* the verifier agreed; the fields may be believed */
	FSCK_I_ORPHAN = 4,	/* listed in the orphan file */
};
enum fsck_colour { FSCK_WHITE, FSCK_GREY, FSCK_REACHED, FSCK_LOST };

struct fsck_cluster {
	uint64_t nr;		/* cluster number; the array is sorted by it */
	uint64_t dblk;
	struct fsck_ino *ino;	/* PF_ICLU_SLOTS of them */
};

/* Two owners of one run of blocks. The first is found by a second walk (phase 3). */
struct fsck_dup {
	uint64_t dblk, nblk;
	uint64_t ino, first_ino;
	const char *what, *first_what;	/* first_what: NULL while not known */
};

struct fsck {
	struct pf_fs fs;	/* constants from the superblock, and pm; no other layer is up */
	FILE *out;
	const char *name;	/* of the device, for the summary */
	bool verbose;

	bool torn_super;	/* a crash came while one superblock was written */
	int replayed;		/* transactions applied to the private view */
	uint64_t problems;
	uint64_t files;		/* inodes of users, the root included */
	uint64_t orphans;
	uint64_t blocks;	/* in use */

	uint64_t *used;		/* bit a block: somebody owns it */
	uint64_t *seen;		/* the same for a second walk, cleared before each */
	struct fsck_cluster *clu;
	uint64_t nr_clu, room_clu;
	struct fsck_dup *dup;
	uint64_t nr_dup, room_dup;
	uint64_t dup_budget;	/* words of the bitmap that conflicts may still cost */
};

/* Check the whole image behind @pm, whose contents stay as they are unless pm->ro is false (then the memory is private
 * to the caller, and replay writes into it). Prints problems and the summary to f->out. FSCK_* or-ed. */
int fsck_check(struct fsck *f, struct pf_pm *pm, const char *name);

/* "phase N: object: what". */
void fsck_problem(struct fsck *f, int phase, const char *fmt, ...) PF_PRINTF(3, 4);

/* The phases, in order. 0, or -errno when the check cannot go on: -ENOMEM, -EUCLEAN (a problem was printed and nothing
 * below it can be read), -EINVAL and others from the superblock. */
int fsck_phase1(struct fsck *f) PF_MUST_CHECK;
int fsck_phase2(struct fsck *f) PF_MUST_CHECK;
int fsck_phase3(struct fsck *f) PF_MUST_CHECK;
int fsck_phase4(struct fsck *f) PF_MUST_CHECK;
int fsck_phase5(struct fsck *f) PF_MUST_CHECK;

/* overlay.c: a view of @pm's mapping in which stores are private to this process. */
int fsck_view_init(struct pf_pm *view, const struct pf_pm *pm) PF_MUST_CHECK;
void fsck_view_fini(struct pf_pm *view);

/* blocks.c: who owns which block. */
int fsck_blocks_init(struct fsck *f) PF_MUST_CHECK;
void fsck_blocks_fini(struct fsck *f);
/* What a walk is for. CLAIM: find all owners, complain about second ones. NAME: find the first owners of known
 * duplicates. READ: visit each block at most once, silently. */
enum fsck_pass { FSCK_CLAIM, FSCK_NAME, FSCK_READ };
/* @what: "data", "tree node", ...; static. True when no block of the run was taken before in this pass. */
bool fsck_claim(struct fsck *f, enum fsck_pass pass, uint64_t ino, const char *what, uint64_t dblk, uint64_t nblk);
/* Superblocks, lanes and map. */
void fsck_claim_fixed(struct fsck *f, enum fsck_pass pass);
/* Start a pass other than CLAIM. */
void fsck_pass_begin(struct fsck *f);
void fsck_report_dups(struct fsck *f);

/* tree.c: the B+tree of one inode, in order of its keys. */
struct fsck_walk;
typedef void (*fsck_rec_fn)(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
			    uint64_t next_key);
struct fsck_walk {
	struct fsck *f;
	enum fsck_pass pass;
	int phase;		/* for reports; those of a pass other than CLAIM are dropped */
	uint64_t ino;
	uint32_t gen;
	fsck_rec_fn fn;		/* each leaf record that lies inside the device and behind the last one */
	void *arg;
	uint64_t floor;		/* lowest key the next record may have */
	uint64_t nodes;		/* tree nodes visited */
	uint64_t skipped;	/* subtrees and records that could not be read */
};
void fsck_walk_tree(struct fsck_walk *w, const struct pf_d_root *root);
void fsck_walk_xtree(struct fsck_walk *w, const struct pf_d_xroot *root);

/* attrs.c: the extended attributes of one inode. Adds the blocks they own to *owned; false: some could not be read. */
bool fsck_attrs(struct fsck *f, enum fsck_pass pass, uint64_t ino, const struct pf_d_inode *di, uint64_t *owned);

/* phase2: the inode table. */
struct fsck_ino *fsck_ino(struct fsck *f, uint64_t ino);	/* NULL: no such slot */
/* The inode's bytes, when fsck_ino() says it is sound. */
const struct pf_d_inode *fsck_inode(struct fsck *f, uint64_t ino);
/* @fn for every sound inode but the two internal ones, in order of the number. Stops at the first error. */
int fsck_each_inode(struct fsck *f,
		    int (*fn)(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di));
/* Has a tree at all: regular files, directories and long symlinks. */
bool fsck_has_tree(const struct pf_d_inode *di);
const char *fsck_type_name(uint8_t type);	/* DT_* */
/* Clusters that the inode table names, as blocks in use; CLAIM also fills the table of clusters. */
int fsck_walk_itable(struct fsck *f, enum fsck_pass pass) PF_MUST_CHECK;
/* An internal inode at its fixed place, whatever cluster 0's bitmap says. NULL if it is damaged. */
const struct pf_d_inode *fsck_internal(struct fsck *f, uint64_t ino);

static inline const void *fsck_at(const struct fsck *f, uint64_t dblk)
{
	return f->fs.pm->base + (dblk << PF_BLK_SHIFT);
}

#endif
