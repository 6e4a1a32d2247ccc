/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.h - what the parts of pinfsdump share: the image, objects read from it, and the printer.
 *
 * Nothing here writes to the device. Bytes are hostile, and may change while they are read, since a daemon may be
 * serving the image: an object is copied first and only the copy is looked at. What is damaged is said and shown all
 * the same, as far as it goes. One thread, no locks.
 */
#ifndef PINFSDUMP_DUMP_H
#define PINFSDUMP_DUMP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/fs.h"
#include "media/pmem.h"
#include "media/verify.h"

/* Exit status: all that was shown is sound; it could not be shown; wrong command line; some of it is damaged. */
enum { DUMP_OK = 0, DUMP_FAILED = 1, DUMP_USAGE = 2, DUMP_DAMAGED = 4 };

struct out;

struct dump {
	struct pf_fs fs;	/* constants from a superblock, and pm; no other layer is up */
	struct pf_pm *pm;
	struct out *o;
	bool guessed;		/* no superblock is sound: places follow from the size */
	bool damaged;
	uint64_t *seen;		/* bit a block: tree nodes of the current walk */
};

/* image.c: what is where. */
int dump_open(struct dump *d, const char *path) PF_MUST_CHECK;	/* 0, or a status after an error line */
void dump_close(struct dump *d);
/* Copies of whole blocks. False: no such block. */
bool dump_block(const struct dump *d, uint64_t dblk, void *buf);
/* A copy of an object, and why it is not sound (static), or NULL. @dblk must exist. */
const char *dump_object(const struct dump *d, enum pf_md type, uint64_t dblk, uint64_t owner, void *buf);
/* Where the cluster of an inode lies. */
bool dump_find_cluster(struct dump *d, uint64_t cluster, uint64_t *dblk);
/* A copy of inode @ino; *why as above. *doff: its place. False: the inode table does not lead to it; that was said. */
bool dump_find_inode(struct dump *d, uint64_t ino, struct pf_d_inode *di, uint64_t *doff, const char **why);
/* Is block @dblk in use by the map? -1: the map block is damaged. */
int dump_in_use(const struct dump *d, uint64_t dblk);

/* The B+tree below a root, in order. A node is entered once and only one level below its parent, so a walk ends. */
struct dump_walk;
struct dump_rec {
	uint64_t key, dblk;
	uint32_t len, flags;
	unsigned int level;
};
struct dump_walk {
	struct dump *d;
	uint64_t owner;
	uint64_t lo, hi;	/* leaf records that may matter for keys [lo, hi); 0, UINT64_MAX: all */
	/* A leaf record. False: enough. */
	bool (*rec)(struct dump_walk *w, const struct dump_rec *r);
	/* NULL, or each node: @r is the record that leads to it; @why it is not sound, or NULL. */
	void (*node)(struct dump_walk *w, const struct dump_rec *r, const struct pf_d_hdr *h, const char *why);
	void *arg;
	bool stop;
	unsigned int bad;	/* nodes that were not sound, or not entered */
};
void dump_walk(struct dump_walk *w, unsigned int level, unsigned int n, const struct pf_d_rec *rec);
void dump_walk_root(struct dump_walk *w, const struct pf_d_root *root);
void dump_walk_xroot(struct dump_walk *w, const struct pf_d_xroot *root);

/* The things to show. Each returns a status; DUMP_DAMAGED is added from d->damaged. */
int dump_super(struct dump *d);
int dump_journal(struct dump *d);
int dump_lane(struct dump *d, uint32_t lane);
int dump_map(struct dump *d, const uint64_t *group);		/* NULL: all groups, a line each */
int dump_clusters(struct dump *d);
int dump_orphans(struct dump *d);
int dump_badblocks(struct dump *d);
int dump_inode(struct dump *d, uint64_t ino);
int dump_dir(struct dump *d, uint64_t ino);
int dump_path(struct dump *d, const char *path);
int dump_what(struct dump *d, uint64_t dblk);

/* Parts of those, by copies of objects. */
void dump_inode_fields(struct dump *d, const struct pf_d_inode *di);
void dump_map_runs(struct dump *d, const struct pf_d_map *m, uint64_t group);
void dump_cluster_fields(struct dump *d, const struct pf_d_iclu *c);
void dump_orphan_slots(struct dump *d, const struct pf_d_orphan *o);
void dump_leaf_entries(struct dump *d, const uint8_t *leaf);
void dump_xleaf_entries(struct dump *d, const uint8_t *leaf);
const char *dump_type_name(uint32_t mode);
const char *dump_dtype_name(uint8_t type);
/* Entries of a copied directory leaf, as far as they can be made out. False ends it. */
typedef bool (*dump_ent_fn)(struct dump *d, const struct pf_d_dirent *de, void *arg);
void dump_each_entry(struct dump *d, const uint8_t *leaf, dump_ent_fn fn, void *arg);

/*
 * out.c: one printer for people and for programs. Text: sections of "name: value" lines, tables with a line for each
 * row. JSON: objects, and arrays of objects, under the same names; it is written when the printer ends.
 */
struct out *out_new(bool json, FILE *to);
int out_end_all(struct out *o);		/* writes what is left and frees; 0 or -EIO, -ENOMEM */
/* A section: @title for people, @key for programs. Inside a list the key is not used. */
void out_begin(struct out *o, const char *key, const char *title, ...) PF_PRINTF(3, 4);
void out_end(struct out *o);
/* Sections of one kind. */
void out_list(struct out *o, const char *key);
void out_list_end(struct out *o);
/* Rows: out_row(), a value for each column in order, out_row_end(). Positive width: right aligned. */
struct out_col { const char *key; int width; };
void out_table(struct out *o, const char *key, const struct out_col *col, unsigned int n);
void out_row(struct out *o);
void out_row_end(struct out *o);
void out_table_end(struct out *o);

void out_num(struct out *o, const char *key, uint64_t v);
void out_hex(struct out *o, const char *key, uint64_t v);
void out_bool(struct out *o, const char *key, bool v);
void out_text(struct out *o, const char *key, const char *fmt, ...) PF_PRINTF(3, 4);
/* Bytes of unknown contents, at most 4096: what could reach a terminal in a bad way becomes \xNN. */
void out_name(struct out *o, const char *key, const void *bytes, size_t len);
void out_time(struct out *o, const char *key, uint64_t sec, uint32_t ns);
/* Hex lines of a block, repeated ones left out. */
void out_dump(struct out *o, const char *key, const uint8_t *bytes, size_t len);
/* Something is wrong: a line with a mark, or a member of the array "damage". Sets d->damaged. */
void dump_fault(struct dump *d, const char *fmt, ...) PF_PRINTF(2, 3);
void out_fault(struct out *o, const char *text);
/* Not wrong, but good to know. */
void out_note(struct out *o, const char *fmt, ...) PF_PRINTF(2, 3);

#endif
