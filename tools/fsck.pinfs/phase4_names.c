/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase4_names.c - phase 4: the names. Leaves and entries, and what they lead to; links.c then looks at the tree that
 * the directories form, and at all link counts.
 *
 * Directories are read in order of inode number: first whether their leaves and keys are right, for one in which they
 * are not is written anew; then what the names lead to. i_parent says which of two names of a directory is right, so
 * those that do not agree with it are kept until all names are known.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/siphash.h"

/* Names of one hash differ in the last 8 bits of their keys, so there are at most this many. */
#define SAME_HASH_MAX 256U

/* A name of a directory that is not where the directory says. */
struct stray { uint64_t dir, ino; const struct pf_d_dirent *de; };
struct strays { struct stray *v; uint64_t nr, room; };

struct dirscan {
	struct fsck_ino *fi;
	struct strays *strays;
	uint64_t entries, leaves;
	bool bad;			/* must be written anew */
	struct fsck_name leaf[FSCK_LEAF_NAMES];	/* of the leaf at hand, sorted */
	struct fsck_name same[SAME_HASH_MAX];	/* of the hash at hand: it may go on in the next leaf */
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

/* ---- leaves and keys ---- */

/* Entries come sorted by key. Collision numbers tell names of one hash apart, so equal names could lie side by side. */
static void check_unique(struct fsck *f, uint64_t dir, struct dirscan *s, const struct fsck_name *n)
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
		else
			continue;
		s->bad = true;
	}
	if (s->nr_same < SAME_HASH_MAX)
		s->same[s->nr_same++] = *n;
}

static void check_key(struct fsck *f, uint64_t dir, struct dirscan *s, const struct fsck_name *n, uint64_t low,
		      uint64_t high)
{
	const struct pf_d_dirent *de = n->de;
	const char *bytes = (const char *)de->de_name;
	struct shown name;

	if (!fsck_name_ok(de)) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" is stored", dir, show(&name, de));
		s->bad = true;
	}
	if (n->key >> 8 != pf_name_key(f->fs.hash_key, bytes, de->de_namelen) >> 8) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\": key %#" PRIx64 " is not the name's hash", dir,
			     show(&name, de), n->key);
		s->bad = true;
	} else if (n->key < low || n->key >= high) {
		fsck_problem(f, 4,
			     "directory %" PRIu64 ": entry \"%s\": key %#" PRIx64 " does not belong into its leaf", dir,
			     show(&name, de), n->key);
		s->bad = true;
	}
	check_unique(f, dir, s, n);
}

static void keys_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	const struct pf_d_hdr *leaf = fsck_at(w->f, dblk);
	struct dirscan *s = w->arg;
	struct fsck *f = w->f;
	unsigned int n;
	const char *why;

	(void)len;
	(void)flags;
	why = pf_md_check(&f->fs, PF_MD_DIR, leaf, dblk << PF_BLK_SHIFT, w->ino);
	if (why == NULL && pf_get32(leaf->h_owner_gen) != w->gen)
		why = "of another generation of the inode";
	if (why != NULL) {
		fsck_problem(f, 4, "directory %" PRIu64 ": leaf at block %" PRIu64 ": %s", w->ino, dblk, why);
		s->bad = true;
		/* One of another time has names that were removed since. */
		if (pf_md_check(&f->fs, PF_MD_DIR, leaf, dblk << PF_BLK_SHIFT, w->ino) == NULL ||
		    !fsck_mend_leaf(f, dblk, w->ino, w->gen))
			return;
	}
	n = fsck_leaf_names(leaf, s->leaf);
	if (n > 0)
		qsort(s->leaf, n, sizeof s->leaf[0], fsck_by_key);
	for (unsigned int i = 0; i < n; i++)
		check_key(f, w->ino, s, &s->leaf[i], key, next_key);
}

/* ---- what names lead to ---- */

static int strays_add(struct strays *s, uint64_t dir, uint64_t ino, const struct pf_d_dirent *de)
{
	uint64_t room = s->room == 0 ? 64 : s->room * 2;
	struct stray *v;

	if (s->nr == s->room) {
		v = realloc(s->v, room * sizeof *v);
		if (v == NULL)
			return -ENOMEM;
		s->v = v;
		s->room = room;
	}
	s->v[s->nr++] = (struct stray){ .dir = dir, .ino = ino, .de = de };
	return 0;
}

static void set_type(struct fsck *f, const struct pf_d_dirent *de, uint8_t type)
{
	uint64_t at = (uint64_t)((const uint8_t *)de - f->fs.pm->base);
	uint8_t *leaf = fsck_edit(f, fsck_at(f, at >> PF_BLK_SHIFT), PF_BLK_SIZE);

	((struct pf_d_dirent *)(void *)(leaf + at % PF_BLK_SIZE))->de_type = type;
	pf_md_seal(PF_MD_DIR, leaf);
}

/* A directory has one name, in the directory that it says. */
static int check_subdir(struct fsck *f, uint64_t dir, struct dirscan *s, const struct pf_d_dirent *de)
{
	uint64_t ino = pf_get64(de->de_ino);
	struct fsck_ino *fi = fsck_ino(f, ino);
	struct shown name;

	if (ino == PF_INO_ROOT) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" names the root", dir, show(&name, de));
		fsck_drop_entry(f, de);
		return 0;
	}
	if (pf_get64(fsck_inode(f, ino)->i_parent) != dir || (fi->state & FSCK_I_HOMED))
		return strays_add(s->strays, dir, ino, de);
	fi->state |= FSCK_I_HOMED;
	fi->links = 1;
	s->fi->subdirs++;
	return 0;
}

static int check_target(struct fsck *f, uint64_t dir, struct dirscan *s, const struct pf_d_dirent *de)
{
	uint64_t ino = pf_get64(de->de_ino);
	struct fsck_ino *fi = fsck_ino(f, ino);
	struct shown name;

	if (fi == NULL || !(fi->state & FSCK_I_SOUND)) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" names inode %" PRIu64 ", which is not in use",
			     dir, show(&name, de), ino);
		fsck_drop_entry(f, de);
		return 0;
	}
	if (de->de_type != fi->type) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" says %s, inode %" PRIu64 " is a %s", dir,
			     show(&name, de), fsck_type_name(de->de_type), ino, fsck_type_name(fi->type));
		set_type(f, de, fi->type);
	}
	if (fi->type == DT_DIR)
		return check_subdir(f, dir, s, de);
	if (fi->links < UINT32_MAX)
		fi->links++;
	return 0;
}

static void target_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
			uint64_t next_key)
{
	const struct pf_d_hdr *leaf = fsck_at(w->f, dblk);
	struct dirscan *s = w->arg;
	unsigned int n = fsck_leaf_names(leaf, s->leaf);

	(void)key;
	(void)len;
	(void)flags;
	(void)next_key;
	s->leaves++;
	s->entries += n;
	for (unsigned int i = 0; i < n && w->err == 0; i++) {
		w->err = check_target(w->f, w->ino, s, s->leaf[i].de);
		s->entries -= pf_get64(s->leaf[i].de->de_ino) == 0;
	}
}

static void set_nent(struct pf_d_inode *di, uint64_t v) { di->i_nent = pf_put64(v); }
static void set_size(struct pf_d_inode *di, uint64_t v) { di->i_size = pf_put64(v); }
static void set_parent(struct pf_d_inode *di, uint64_t v) { di->i_parent = pf_put64(v); }

/* ---- directories ---- */

static int scan_dir(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	struct dirscan s;
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 4, .ino = ino, .gen = pf_get32(di->i_gen), .arg = &s,
	};
	int err = 0;

	if (fi->type != DT_DIR)
		return 0;
	s.fi = fi;
	s.strays = arg;
	s.entries = s.leaves = 0;
	s.nr_same = 0;
	s.bad = false;
	w.fn = keys_leaf;
	fsck_walk_tree(&w, fsck_root_of(di));
	if (s.bad)
		err = fsck_rebuild_dir(f, ino, NULL, 0);
	if (err == -ENOSPC) {
		(void)fprintf(f->out, "directory %" PRIu64 ": no space to write it anew\n", ino);
		return -EUCLEAN;
	}
	if (err != 0)
		return err;
	w.fn = target_leaf;
	w.floor = 0;
	fsck_walk_tree(&w, fsck_root_of(di));
	if (w.err != 0)
		return w.err;
	if (s.entries != pf_get64(di->i_nent)) {
		fsck_minor(f, 4, "directory %" PRIu64 ": i_nent %" PRIu64 ", found %" PRIu64, ino, pf_get64(di->i_nent),
			   s.entries);
		fsck_edit_inode(f, di, set_nent, s.entries);
	}
	if (s.leaves * PF_BLK_SIZE != pf_get64(di->i_size)) {
		fsck_minor(f, 4, "directory %" PRIu64 ": size %" PRIu64 ", found %" PRIu64 " leaves", ino,
			   pf_get64(di->i_size), s.leaves);
		fsck_edit_inode(f, di, set_size, s.leaves * PF_BLK_SIZE);
	}
	return 0;
}

/* All names are known: one whose directory has its right name goes, else this one is the right one. */
static void settle_stray(struct fsck *f, const struct stray *s)
{
	struct fsck_ino *fi = fsck_ino(f, s->ino);
	const struct pf_d_inode *di = fsck_inode(f, s->ino);
	struct shown name;

	if (fi->state & FSCK_I_HOMED) {
		fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" is a second name of directory %" PRIu64, s->dir,
			     show(&name, s->de), s->ino);
		fsck_drop_entry(f, s->de);
		return;
	}
	fsck_problem(f, 4, "directory %" PRIu64 ": entry \"%s\" leads to it, but its parent is %" PRIu64, s->ino,
		     show(&name, s->de), pf_get64(di->i_parent));
	fsck_edit_inode(f, di, set_parent, s->dir);
	fi->state |= FSCK_I_HOMED;
	fi->links = 1;
	fsck_ino(f, s->dir)->subdirs++;
}

int fsck_phase4(struct fsck *f)
{
	struct strays strays = { 0 };
	int err;

	err = fsck_each_inode(f, 4, scan_dir, &strays);
	for (uint64_t i = 0; i < strays.nr && err == 0; i++)
		settle_stray(f, &strays.v[i]);
	free(strays.v);
	return err != 0 ? err : fsck_links(f);
}
