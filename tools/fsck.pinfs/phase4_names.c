/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase4_names.c - phase 4: the names. Leaves and entries, the tree that the directories form, and all link counts.
 *
 * Directories are read in order of inode number, each leaf once. i_parent must name the directory that holds the entry,
 * so whether a directory is reachable is found by following i_parent to the root, each directory once.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/siphash.h"
#include "media/verify.h"

/* Names of one hash differ in the last 8 bits of their keys, so there are at most this many. */
#define SAME_HASH_MAX 256U

struct name {
	uint64_t key;
	const struct pf_d_dirent *de;
};

struct dirscan {
	const struct pf_d_inode *di;
	struct fsck_ino *fi;
	uint64_t entries, leaves;
	struct name leaf[PF_BLK_SIZE / sizeof(struct pf_d_dirent)];	/* of the leaf at hand, sorted */
	struct name same[SAME_HASH_MAX]; /* of the hash at hand: it may go on in the next leaf */
	unsigned int nr_same;
};

/* A name as it may be shown: 255 bytes, each at most 4 characters. */
struct shown { char s[PF_NAME_MAX * 4 + 1]; };

static const char *show(struct shown *out, const struct pf_d_dirent *de)
{
	const uint8_t *name = de->de_name;	/* goes on behind the struct */
	size_t n = 0;

	for (unsigned int i = 0; i < de->de_namelen; i++) {
		unsigned char c = name[i];

		if (c > ' ' && c < 0x7f && c != '\\' && c != '"')
			out->s[n++] = (char)c;
		else
			n += (size_t)snprintf(out->s + n, sizeof out->s - n, "\\%03o", c);
	}
	out->s[n] = '\0';
	return out->s;
}

/* ---- entries ---- */

static void check_target(struct fsck *f, uint64_t dir, struct dirscan *s, const struct pf_d_dirent *de)
{
	uint64_t ino = pf_get64(de->de_ino);
	struct fsck_ino *fi = fsck_ino(f, ino);
	struct shown name;

	if (fi == NULL || !(fi->state & FSCK_I_USED)) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" names inode %" PRIu64 ", which is not in use",
			     dir, show(&name, de), ino);
		return;
	}
	if (fi->links < UINT32_MAX)
		fi->links++;
	if (!(fi->state & FSCK_I_SOUND))
		return;		/* phase 2 said so */
	if (de->de_type != fi->type)
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" says %s, inode %" PRIu64 " is a %s", dir,
			     show(&name, de), fsck_type_name(de->de_type), ino, fsck_type_name(fi->type));
	if (fi->type != DT_DIR)
		return;
	s->fi->subdirs++;
	if (ino == PF_INO_ROOT)
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" names the root", dir, show(&name, de));
	else if (fi->links > 1)
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" is a second name of directory %" PRIu64, dir,
			     show(&name, de), ino);
	else if (pf_get64(fsck_inode(f, ino)->i_parent) != dir)
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" leads to it, but its parent is %" PRIu64, ino,
			     show(&name, de), pf_get64(fsck_inode(f, ino)->i_parent));
}

/* Entries come sorted by key. Collision numbers tell names of one hash apart, so equal names could lie side by side. */
static void check_unique(struct fsck *f, uint64_t dir, struct dirscan *s, const struct name *n)
{
	struct shown name;

	if (s->nr_same > 0 && s->same[0].key >> 8 != n->key >> 8)
		s->nr_same = 0;
	for (unsigned int i = 0; i < s->nr_same; i++) {
		const struct pf_d_dirent *a = s->same[i].de, *b = n->de;

		if (s->same[i].key == n->key)
			fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\": key %#" PRIx64 " is not its own", dir,
				     show(&name, b), n->key);
		else if (a->de_namelen == b->de_namelen && memcmp(a->de_name, b->de_name, a->de_namelen) == 0)
			fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" is there twice", dir, show(&name, b));
	}
	if (s->nr_same < SAME_HASH_MAX)
		s->same[s->nr_same++] = *n;
}

static void check_entry(struct fsck *f, uint64_t dir, struct dirscan *s, const struct name *n, uint64_t low,
			uint64_t high)
{
	const struct pf_d_dirent *de = n->de;
	const char *bytes = (const char *)de->de_name;
	struct shown name;

	s->entries++;
	if (bytes[0] == '.' && (de->de_namelen == 1 || (de->de_namelen == 2 && bytes[1] == '.')))
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" is stored", dir, show(&name, de));
	if (n->key >> 8 != pf_name_key(f->fs.hash_key, bytes, de->de_namelen) >> 8)
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\": key %#" PRIx64 " is not the name's hash", dir,
			     show(&name, de), n->key);
	else if (n->key < low || n->key >= high)
		fsck_problem(f, 4,
			     "directory %" PRIu64 ": entry \"%s\": key %#" PRIx64 " does not belong into its leaf", dir,
			     show(&name, de), n->key);
	check_unique(f, dir, s, n);
	check_target(f, dir, s, de);
}

static int by_key(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

/* The verifier has agreed to the leaf: its entries fill it exactly. */
static unsigned int collect(const struct pf_d_hdr *leaf, struct name *out)
{
	const uint8_t *base = (const uint8_t *)leaf;
	unsigned int n = 0;

	for (unsigned int off = sizeof *leaf; off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = (const void *)(base + off);

		if (pf_get64(de->de_ino) != 0)
			out[n++] = (struct name){ .key = pf_get64(de->de_key), .de = de };
		off += pf_get16(de->de_reclen);
	}
	return n;
}

static void scan_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct dirscan *s = w->arg;
	struct fsck *f = w->f;
	const struct pf_d_hdr *leaf = fsck_at(f, dblk);
	const char *why;
	unsigned int n;

	if (len != 1 || flags != 0 || !fsck_claim(f, w->pass, w->ino, "directory leaf", dblk, 1)) {
		w->skipped++;	/* phase 3 said why */
		return;
	}
	s->leaves++;
	why = pf_md_check(&f->fs, PF_MD_DIR, leaf, dblk << PF_BLK_SHIFT, w->ino);
	if (why == NULL && pf_get32(leaf->h_owner_gen) != w->gen)
		why = "of another generation of the inode";
	if (why != NULL) {
		w->skipped++;
		fsck_problem(f, 4, "directory %" PRIu64 ": leaf at block %" PRIu64 ": %s", w->ino, dblk, why);
		return;
	}
	n = collect(leaf, s->leaf);
	qsort(s->leaf, n, sizeof s->leaf[0], by_key);
	for (unsigned int i = 0; i < n; i++)
		check_entry(f, w->ino, s, &s->leaf[i], key, next_key);
}

static int scan_dir(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	struct dirscan s;
	struct fsck_walk w = {
		.f = f,
		.pass = FSCK_READ,
		.phase = 4,
		.ino = ino,
		.gen = pf_get32(di->i_gen),
		.fn = scan_leaf,
		.arg = &s,
	};

	if (fi->type != DT_DIR)
		return 0;
	s.di = di;
	s.fi = fi;
	s.entries = s.leaves = 0;
	s.nr_same = 0;
	fsck_walk_tree(&w, &di->i_root);
	if (w.skipped != 0)
		return 0;
	if (s.entries != pf_get64(di->i_nent))
		fsck_problem(f, 4, "directory %" PRIu64 ": i_nent %" PRIu64 ", found %" PRIu64, ino,
			     pf_get64(di->i_nent), s.entries);
	if (s.leaves * PF_BLK_SIZE != pf_get64(di->i_size))
		fsck_problem(f, 4, "directory %" PRIu64 ": size %" PRIu64 ", found %" PRIu64 " leaves", ino,
			     pf_get64(di->i_size), s.leaves);
	return 0;
}

/* ---- links ---- */

static int check_links(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	uint32_t nlink = pf_get32(di->i_nlink);
	uint64_t want = fi->links;

	/* The root has no name. An unlinked directory counts as its last link did: nothing. */
	if (fi->type == DT_DIR && (ino == PF_INO_ROOT || fi->links > 0))
		want = 2 + (uint64_t)fi->subdirs;
	if (nlink != want)
		fsck_problem(f, 4, "inode %" PRIu64 " (%s): i_nlink %" PRIu32 ", found %" PRIu64, ino,
			     fsck_type_name(fi->type), nlink, want);
	if (ino == PF_INO_ROOT && pf_get64(di->i_parent) != PF_INO_ROOT)
		fsck_problem(f, 4, "root directory: its parent is %" PRIu64, pf_get64(di->i_parent));
	return 0;
}

/* ---- reachability ---- */

/* The directory that holds this one's name, if that can be known. */
static uint64_t parent_of(struct fsck *f, uint64_t ino)
{
	uint64_t parent = pf_get64(fsck_inode(f, ino)->i_parent);
	const struct fsck_ino *fi = fsck_ino(f, parent);

	return fi != NULL && (fi->state & FSCK_I_SOUND) && fi->type == DT_DIR ? parent : 0;
}

/* Walk up, colouring grey, until a directory of known fate; all on the way share it. A grey one ahead is a cycle. */
static enum fsck_colour fate(struct fsck *f, uint64_t start)
{
	enum fsck_colour end = FSCK_WHITE;
	uint64_t ino = start;
	struct fsck_ino *fi;

	while (end == FSCK_WHITE) {
		fi = ino == 0 ? NULL : fsck_ino(f, ino);
		if (fi == NULL)
			end = FSCK_LOST;
		else if (ino == PF_INO_ROOT)
			end = FSCK_REACHED;
		else if (fi->colour == FSCK_GREY || fi->links == 0)
			end = FSCK_LOST;
		else if (fi->colour != FSCK_WHITE)
			end = (enum fsck_colour)fi->colour;
		else {
			fi->colour = FSCK_GREY;
			ino = parent_of(f, ino);
		}
	}
	for (ino = start; ino != 0; ino = parent_of(f, ino)) {
		fi = fsck_ino(f, ino);
		if (fi->colour != FSCK_GREY)
			break;
		fi->colour = (uint8_t)end;
	}
	return end;
}

static int check_reachable(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	(void)di;
	/* Without any name it is not lost but unlinked, which the link count and phase 5 judge. */
	if (fi->type == DT_DIR && ino != PF_INO_ROOT && fi->links != 0 && fate(f, ino) != FSCK_REACHED)
		fsck_problem(f, 4, "directory %" PRIu64 ": not reachable from the root", ino);
	return 0;
}

int fsck_phase4(struct fsck *f)
{
	int err;

	fsck_pass_begin(f);
	err = fsck_each_inode(f, scan_dir);
	if (err == 0)
		err = fsck_each_inode(f, check_links);
	if (err == 0)
		err = fsck_each_inode(f, check_reachable);
	return err;
}
