/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.h - what the phases of fsck.pinfs share: the image, the blocks found in use, the inodes found.
 *
 * The phases read and repair the image in a private view (overlay.c); what they changed reaches the device in the end,
 * at once (writeback.c), or never. A check names a problem and the line below mends it; where that takes knowledge of
 * the whole image it is noted (FSCK_I_REBUILD and the like) and mended at the end of the phase. Then all phases run
 * again over the repaired view, until they find nothing: so what -n promises is what -y does, and -y leaves an image
 * in which the next run finds nothing.
 *
 * Every byte is hostile: a walk descends into a block only when it claimed it first, which bounds all work by the size
 * of the device. Memory: one bit a block for each of a few bitmaps, 16 bytes an inode slot, and the records of one
 * tree at a time. One thread, no locks.
 */
#ifndef FSCK_PINFS_FSCK_H
#define FSCK_PINFS_FSCK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/fs.h"
#include "media/pmem.h"
#include "media/verify.h"

/* Exit codes, as e2fsck's. May be or-ed. */
enum { FSCK_OK = 0, FSCK_CORRECTED = 1, FSCK_UNCORRECTED = 4, FSCK_ERROR = 8, FSCK_USAGE = 16, FSCK_CANCELLED = 32 };

/* CHECK writes nothing. PREEN writes when all that is wrong is safe to mend without being asked. */
enum fsck_mode { FSCK_CHECK, FSCK_PREEN, FSCK_REPAIR };

#define FSCK_LINES_MAX UINT64_C(1000)	/* problems printed without -v; all are counted */
#define FSCK_ROUNDS 12U			/* over the view; more says that a repair undoes another */

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
	FSCK_I_SUSPECT = 8,	/* has been mended by guess: its blocks may be somebody else's */
	FSCK_I_REBUILD = 16,	/* a tree of it is to be made anew */
	FSCK_I_LOST = 32,	/* so is one whose leaves must be looked for */
	FSCK_I_HOMED = 64,	/* a directory: the entry that its parent has was seen */
};
enum fsck_colour { FSCK_WHITE, FSCK_GREY, FSCK_REACHED, FSCK_STRAY };

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

struct fsck_progress {
	bool on;
	int fd;			/* 0: a bar on the standard output; else lines there, as e2fsck writes them */
	unsigned int shown;	/* per mille of the phase */
	int phase;
};

struct fsck {
	struct pf_fs fs;	/* constants from the superblock, and pm; no other layer is up */
	FILE *out;
	const char *name;	/* of the device, for the summary */
	struct fsck_progress progress;
	const volatile sig_atomic_t *cancel;	/* not 0: stop; NULL: never */

	uint64_t problems;	/* of all rounds */
	uint64_t unsafe;	/* of those, not for PREEN */
	uint64_t finished;	/* orphans */
	int replayed;		/* transactions applied before the first round */
	bool view_replayed;	/* by the first phase, in the view: the superblock or a lane had to be mended before */
	enum fsck_mode mode;
	bool verbose;
	bool force;		/* PREEN: check an image that is marked clean, too */
	bool torn_super;	/* a crash came while one superblock was written */
	bool table_made;	/* the inode table was made anew in this check */
	bool stuck;		/* something was found that cannot be mended: the round is finished, and is the last */

	/* ---- of one round ---- */
	unsigned int round;
	bool broken;		/* some inode has FSCK_I_REBUILD */
	bool orphans_bad;	/* the orphan file is to be written anew */
	bool badlist_bad;	/* so is the list of bad blocks */
	bool all_claimed;	/* used[] is complete */
	bool map_sound;		/* so is the block of map_group */
	bool none_left[2];	/* free blocks of a kind (edit.c) */
	uint64_t found;		/* problems of this round */
	uint64_t files;		/* inodes of users, the root included */
	uint64_t orphans;
	uint64_t blocks;	/* in use */

	uint64_t *used;		/* bit a block: somebody owns it */
	uint64_t *seen;		/* the same for a second walk, cleared before each */
	uint64_t *twice;	/* claimed more than once; NULL: none is */
	uint64_t *bad;		/* listed as bad; NULL: none is */
	uint64_t alloc_at;	/* where the search for a free block goes on */
	uint64_t map_group;	/* number + 1 of the group last looked at */
	struct fsck_cluster *clu;
	uint64_t nr_clu, room_clu;
	struct fsck_dup *dup;
	uint64_t nr_dup, room_dup;
	uint64_t dup_budget;	/* words of the bitmap that conflicts may still cost */
};

/* Check the whole image behind @pm and, as f->mode says, mend it. CHECK leaves it as it is. Prints problems and the
 * summary to f->out. FSCK_* or-ed. */
int fsck_check(struct fsck *f, struct pf_pm *pm, const char *name);

/* "phase N: object: what". The second is for what PREEN may mend: counts and maps, which other things determine. */
void fsck_problem(struct fsck *f, int phase, const char *fmt, ...) PF_PRINTF(3, 4);
void fsck_minor(struct fsck *f, int phase, const char *fmt, ...) PF_PRINTF(3, 4);

/* Work goes on: shows it. -EINTR when it shall not. */
int fsck_step(struct fsck *f, int phase, uint64_t done, uint64_t all) PF_MUST_CHECK;
void fsck_progress_end(struct fsck *f);

/* The phases, in order. 0, or -errno when the check cannot go on: -ENOMEM, -EINTR, -EAGAIN (what the rest stands on was
 * mended: begin anew), -EUCLEAN (a problem was printed, nothing below it can be read or mended), -EINVAL and
 * others from the superblock. */
int fsck_phase1(struct fsck *f) PF_MUST_CHECK;
int fsck_phase2(struct fsck *f) PF_MUST_CHECK;
int fsck_phase3(struct fsck *f) PF_MUST_CHECK;
int fsck_phase4(struct fsck *f) PF_MUST_CHECK;
int fsck_phase5(struct fsck *f) PF_MUST_CHECK;

/* ---- overlay.c: a view of @pm's mapping in which stores are private to this process ---- */
int fsck_view_init(struct pf_pm *view, const struct pf_pm *pm) PF_MUST_CHECK;
/* @pm's pages are back. */
void fsck_view_fini(struct pf_pm *view);
/* Make bytes of the view writable. */
void fsck_view_own(struct pf_pm *view, uint64_t doff, uint64_t len);

struct fsck_change { uint64_t dblk; uint8_t now[PF_BLK_SIZE], kind; };
struct fsck_changes { struct fsck_change *v; uint64_t nr, room; };
/* @same: with blocks that were written and are what they were: the device will not be what it was. */
int fsck_view_changes(const struct pf_pm *view, bool same, struct fsck_changes *c) PF_MUST_CHECK;
void fsck_changes_free(struct fsck_changes *c);

/* writeback.c: @c and the superblock onto fs->pm. @replayed: @c has what fs->pm's lanes hold. -EIO, -ENOMEM. */
int fsck_writeback(struct pf_fs *fs, struct fsck_changes *c, const struct pf_d_super *final, bool replayed)
	PF_MUST_CHECK;
/* In this order; a test may have another one (as with base/step.h). */
enum fsck_step {
	FSCK_STEP_DIRTY,	/* the superblocks say that work is going on, and where all things lie */
	FSCK_STEP_LANES,	/* the journal is brought home, and empty */
	FSCK_STEP_FRESH,	/* new objects in free blocks */
	FSCK_STEP_GROW,		/* the map: what is in use before or after */
	FSCK_STEP_REST,		/* objects that others refer to, in as many transactions as it takes */
	FSCK_STEP_MAP,		/* the map as it shall be */
	FSCK_STEP_CLEAN,	/* the superblocks as they shall be */
	FSCK_STEP_NR
};
#ifdef PF_STEPS
extern enum fsck_step fsck_step_order[FSCK_STEP_NR];
#define FSCK_STEP(i) fsck_step_order[i]
#else
#define FSCK_STEP(i) (i)
#endif

/* ---- super.c: superblocks that must be made up ---- */
bool fsck_same_constants(const struct pf_d_super *sb, const struct pf_d_super *copy);
/* Write a superblock that fits what else lies on the device into the view. 0 or -EUCLEAN. */
int fsck_guess_super(struct fsck *f) PF_MUST_CHECK;

/* phase1_super.c: the image is not as clean as it says. */
void fsck_not_clean(struct fsck *f);

/* ---- edit.c: changing objects of the view ---- */
static inline const void *fsck_at(const struct fsck *f, uint64_t dblk)
{
	return f->fs.pm->base + (dblk << PF_BLK_SHIFT);
}
/* A sound inode, cluster, ...: to be changed and then sealed. The object must be in the view already. */
void *fsck_edit(struct fsck *f, const void *obj, uint64_t len);
void fsck_edit_inode(struct fsck *f, const struct pf_d_inode *di, void (*fn)(struct pf_d_inode *di, uint64_t v),
		     uint64_t v);
/* Write a block, with its checksum. */
void fsck_put(struct fsck *f, uint64_t dblk, enum pf_md type, void *block);
/* True when nothing but the checksum and the padding was wrong with the object: it is right now. */
bool fsck_reseal(struct fsck *f, enum pf_md type, const void *obj, uint64_t owner);

/* Is @dblk in use, says the map? A group whose map block is damaged says no. */
bool fsck_map_used(struct fsck *f, uint64_t dblk);
/* Does the map know about it at all? */
bool fsck_map_sound(struct fsck *f, uint64_t dblk);
/* A block, or @nblk of them in a row, that nobody owns and that holds nothing a later repair may want. -ENOSPC. */
int fsck_alloc(struct fsck *f, uint64_t nblk, uint64_t *dblk) PF_MUST_CHECK;
/* Blocks that their only owner has given up. */
void fsck_release(struct fsck *f, uint64_t dblk, uint64_t nblk);

/* ---- blocks.c: who owns which block ---- */
int fsck_blocks_init(struct fsck *f) PF_MUST_CHECK;
void fsck_blocks_fini(struct fsck *f);
static inline bool fsck_bit(const uint64_t *map, uint64_t dblk) { return (map[dblk / 64] >> (dblk % 64) & 1) != 0; }
static inline void fsck_set(uint64_t *map, uint64_t dblk) { map[dblk / 64] |= UINT64_C(1) << (dblk % 64); }
static inline void fsck_clear(uint64_t *map, uint64_t dblk) { map[dblk / 64] &= ~(UINT64_C(1) << (dblk % 64)); }
/* What a walk is for. CLAIM: find all owners, complain about second ones. NAME: find the first owners of known
 * duplicates, and note who shares a block. READ: visit each block at most once, silently. LOOK: as often as one likes,
 * when phase 3 has made sure that it ends. */
enum fsck_pass { FSCK_CLAIM, FSCK_NAME, FSCK_READ, FSCK_LOOK };
/* @what: "data", "tree node", ...; static. True when no block of the run was taken before in this pass. */
bool fsck_claim(struct fsck *f, enum fsck_pass pass, uint64_t ino, const char *what, uint64_t dblk, uint64_t nblk);
/* Never to be given to anybody. */
int fsck_note_bad(struct fsck *f, uint64_t dblk, uint64_t nblk) PF_MUST_CHECK;
/* Superblocks, lanes and map. */
void fsck_claim_fixed(struct fsck *f, enum fsck_pass pass);
/* Start a pass other than CLAIM. */
void fsck_pass_begin(struct fsck *f);
void fsck_report_dups(struct fsck *f);

/* ---- tree.c: the B+tree of one inode, in order of its keys ---- */
/* A root, wherever it lies: struct pf_d_root and pf_d_xroot differ in the number of records only. */
struct fsck_root {
	const struct pf_d_root *r;
	unsigned int cap;
};
static inline struct fsck_root fsck_root_of(const struct pf_d_inode *di)
{
	return (struct fsck_root){ &di->i_root, PF_ROOT_RECS };
}
static inline struct fsck_root fsck_xroot_of(const struct pf_d_inode *di)
{
	return (struct fsck_root){ (const void *)&di->i_xroot, PF_XROOT_RECS };
}

struct fsck_walk;
typedef void (*fsck_rec_fn)(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
			    uint64_t next_key);
struct fsck_walk {
	struct fsck *f;
	enum fsck_pass pass;
	int phase;		/* for reports; those of a pass other than CLAIM are dropped */
	uint64_t ino;
	uint32_t gen;
	bool lenient;		/* records and nodes of any keys, in any order: to be sorted by whoever asks */
	fsck_rec_fn fn;		/* each leaf record that lies inside the device and behind the last one */
	void (*node)(struct fsck_walk *w, uint64_t dblk);	/* each node that was entered; may be NULL */
	void *arg;
	uint64_t floor;		/* lowest key the next record may have */
	uint64_t nodes;		/* tree nodes visited */
	uint64_t skipped;	/* subtrees and records that could not be read */
	bool lost;		/* of them, a subtree */
	bool resealed;		/* a node was believed though its checksum was wrong */
	int err;		/* of the callbacks */
};
void fsck_walk_tree(struct fsck_walk *w, struct fsck_root root);

/* build.c: trees made anew. */
struct fsck_rec { uint64_t key, dblk; uint32_t len, flags; };
struct fsck_recs { struct fsck_rec *v; uint64_t nr, room; };
int fsck_recs_add(struct fsck_recs *r, const struct fsck_rec *rec) PF_MUST_CHECK;
void fsck_recs_free(struct fsck_recs *r);
/* Make @r, sorted and without overlaps, the tree below @root, which is in the view. *nodes: blocks of it. -ENOSPC:
 * nothing has changed. The inode is not sealed. */
int fsck_build_tree(struct fsck *f, const struct pf_d_inode *di, struct fsck_root root, const struct fsck_recs *r,
		    uint64_t *nodes) PF_MUST_CHECK;

/* ---- table.c and phase2_inodes.c: the inode table ---- */
struct fsck_ino *fsck_ino(struct fsck *f, uint64_t ino);	/* NULL: no such slot */
/* The inode's bytes, when fsck_ino() says it is sound. */
const struct pf_d_inode *fsck_inode(struct fsck *f, uint64_t ino);
typedef int (*fsck_inode_fn)(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di,
			     void *arg);
/* @fn for every sound inode but the internal ones, in order of the number. Stops at the first error. @phase: whose
 * progress that is; 0: nobody's. */
int fsck_each_inode(struct fsck *f, int phase, fsck_inode_fn fn, void *arg) PF_MUST_CHECK;
/* Has a tree at all: regular files, directories and long symlinks. */
bool fsck_has_tree(const struct pf_d_inode *di);
const char *fsck_type_name(uint8_t type);	/* DT_* */
/* Clusters that the inode table names, as blocks in use; CLAIM also fills the table of clusters. */
int fsck_walk_itable(struct fsck *f, enum fsck_pass pass) PF_MUST_CHECK;
/* An internal inode at its fixed place, whatever cluster 0's bitmap says. NULL if it is damaged. */
const struct pf_d_inode *fsck_internal(struct fsck *f, uint64_t ino);
int fsck_add_cluster(struct fsck *f, uint64_t nr, uint64_t dblk) PF_MUST_CHECK;
/* Write the table's inode anew, after a search for clusters all over the device. -EAGAIN: done. */
int fsck_rebuild_table(struct fsck *f) PF_MUST_CHECK;
/* Another empty cluster at its end, when the table itself is sound. -ENOSPC. */
int fsck_grow_table(struct fsck *f) PF_MUST_CHECK;
/* May cluster @nr lie at @dblk, as far as the inodes there say? */
enum fsck_likely { FSCK_NO, FSCK_MAYBE, FSCK_SURE };
enum fsck_likely fsck_cluster_likely(const struct fsck *f, uint64_t nr, uint64_t dblk);
/* Set or clear a number's bit in its cluster. */
void fsck_mark_inode(struct fsck *f, uint64_t ino, bool used);
/* An unused number for lost+found; the table grows when there is none. -ENOSPC. */
int fsck_new_inode(struct fsck *f, uint32_t mode, uint64_t *ino) PF_MUST_CHECK;
/* It is not needed after all. */
void fsck_drop_inode(struct fsck *f, uint64_t ino);
/* inode.c: mend the fields of an inode, if it can still be told what it was. */
bool fsck_mend_inode(struct fsck *f, const struct pf_d_inode *di, uint64_t ino);
/* The same of a tree node: keep the records that can be right. */
bool fsck_mend_node(struct fsck *f, const struct pf_d_node *node, uint64_t ino, uint32_t gen, unsigned int level);

/* ---- resolve.c: trees that are broken or share blocks (end of phase 3) ---- */
int fsck_resolve(struct fsck *f) PF_MUST_CHECK;
/* Pages that may hold data. */
uint64_t fsck_end_of_data(const struct pf_d_inode *di);
/* More than any file can have. */
#define FSCK_PAGES_MAX PF_DIV_UP(PF_FILE_MAX, PF_BLK_SIZE)

/* attrs.c: the extended attributes of one inode. Adds the blocks they own to *owned; false: some could not be read. */
bool fsck_attrs(struct fsck *f, enum fsck_pass pass, uint64_t ino, const struct pf_d_inode *di, uint64_t *owned);
/* Of a leaf that the verifier agreed to: forget one attribute. */
void fsck_drop_attr(struct fsck *f, const void *leaf, unsigned int off);

/* phase3_trees.c: all claims of what is not an inode of a user. READ and NAME. */
int fsck_claim_internal(struct fsck *f, enum fsck_pass pass) PF_MUST_CHECK;
/* One inode's. */
void fsck_claim_inode(struct fsck *f, enum fsck_pass pass, uint64_t ino, struct fsck_ino *fi,
		      const struct pf_d_inode *di);

/* ---- leaf.c: directory leaves; dirs.c: whole directories ---- */
struct fsck_name { uint64_t key; const struct pf_d_dirent *de; };
#define FSCK_LEAF_NAMES (PF_BLK_SIZE / sizeof(struct pf_d_dirent))
/* Live entries of a leaf that the verifier agreed to. */
unsigned int fsck_leaf_names(const struct pf_d_hdr *leaf, struct fsck_name *out);
int fsck_by_key(const void *a, const void *b);
/* Keep what can be read of a damaged leaf of @dir. False: it is none of this directory. */
bool fsck_mend_leaf(struct fsck *f, uint64_t dblk, uint64_t dir, uint32_t gen);
/* Make @block a leaf of these entries, in this order. Not sealed. */
void fsck_fill_leaf(const struct fsck *f, void *block, uint64_t dblk, uint64_t dir, uint32_t gen,
		    const struct pf_d_dirent *const *v, unsigned int n);
void fsck_drop_entry(struct fsck *f, const struct pf_d_dirent *de);
bool fsck_name_ok(const struct pf_d_dirent *de);

struct fsck_newname { uint64_t ino; uint8_t type; uint8_t len; char name[PF_NAME_MAX]; };
/* Write all leaves and the tree of @dir anew, with right keys, without the names that cannot be, with @nr more.
 * -ENOSPC, -ENOMEM. */
int fsck_rebuild_dir(struct fsck *f, uint64_t dir, const struct fsck_newname *more, uint64_t nr) PF_MUST_CHECK;
/* Remove all entries of @dir that lead to @ino. */
void fsck_unname(struct fsck *f, uint64_t dir, uint64_t ino);
/* 0: there is none. */
uint64_t fsck_find_name(struct fsck *f, uint64_t dir, const char *name, uint8_t *type);

/* links.c: link counts, reachability, lost+found. */
int fsck_links(struct fsck *f) PF_MUST_CHECK;

/* phase5_orphans.c */
int fsck_check_orphans(struct fsck *f) PF_MUST_CHECK;

#endif
