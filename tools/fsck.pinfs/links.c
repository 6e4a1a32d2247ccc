/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * links.c - the end of phase 4: every directory hangs below the root, every inode has a name or is an orphan, and link
 * counts are what was counted.
 *
 * i_parent names the directory that holds the entry, so whether a directory is reachable is found by following it to
 * the root, each directory once. What is not reachable gets a name in /lost+found.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Without names, to be given some. */
struct lost { struct fsck_newname *v; uint64_t nr, room; };

static void set_nlink(struct pf_d_inode *di, uint64_t v) { di->i_nlink = pf_put32((uint32_t)v); }
static void set_parent(struct pf_d_inode *di, uint64_t v) { di->i_parent = pf_put64(v); }
static void add_nlink(struct pf_d_inode *di, uint64_t v)
{
	di->i_nlink = pf_put32(pf_get32(di->i_nlink) + (uint32_t)v);
}

/* One subdirectory more or less, found and said. */
static void count_subdir(struct fsck *f, uint64_t dir, int n)
{
	fsck_ino(f, dir)->subdirs += (uint32_t)n;
	fsck_edit_inode(f, fsck_inode(f, dir), add_nlink, (uint64_t)(int64_t)n);
}

static int lost_add(struct lost *lost, uint64_t ino, uint8_t type)
{
	uint64_t room = lost->room == 0 ? 16 : lost->room * 2;
	struct fsck_newname *n;

	if (lost->nr == lost->room) {
		n = realloc(lost->v, room * sizeof *n);
		if (n == NULL)
			return -ENOMEM;
		lost->v = n;
		lost->room = room;
	}
	n = &lost->v[lost->nr++];
	*n = (struct fsck_newname){ .ino = ino, .type = type };
	n->len = (uint8_t)snprintf(n->name, sizeof n->name, "#%" PRIu64, ino);
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

/* Walk up, colouring grey, until a directory of known fate; all on the way share it. A grey one ahead is a cycle. *top:
 * the last one that was coloured. */
static enum fsck_colour fate(struct fsck *f, uint64_t start, uint64_t *top)
{
	enum fsck_colour end = FSCK_WHITE;
	uint64_t ino = start;
	struct fsck_ino *fi;

	*top = start;
	while (end == FSCK_WHITE) {
		fi = ino == 0 ? NULL : fsck_ino(f, ino);
		if (fi == NULL)
			end = FSCK_STRAY;
		else if (ino == PF_INO_ROOT)
			end = FSCK_REACHED;
		else if (fi->colour == FSCK_GREY)
			end = FSCK_STRAY;
		else if (fi->colour != FSCK_WHITE)
			end = (enum fsck_colour)fi->colour;
		else {
			fi->colour = FSCK_GREY;
			*top = ino;
			ino = fi->links == 0 ? 0 : parent_of(f, ino);
		}
	}
	return end;
}

/* All grey ones from @start up get a colour. */
static void paint(struct fsck *f, uint64_t start, enum fsck_colour colour)
{
	for (uint64_t ino = start; ino != 0; ino = parent_of(f, ino)) {
		struct fsck_ino *fi = fsck_ino(f, ino);

		if (fi->colour != FSCK_GREY)
			break;
		fi->colour = (uint8_t)colour;
	}
}

/* What hangs on an unlinked directory is none of ours: it must be empty, and goes with it. */
static bool is_unlinked(struct fsck *f, uint64_t ino)
{
	return fsck_ino(f, ino)->links == 0 && pf_get32(fsck_inode(f, ino)->i_nlink) == 0;
}

static int check_reachable(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	enum fsck_colour colour;
	uint64_t top, parent;

	(void)di;
	if (fi->type != DT_DIR || ino == PF_INO_ROOT || is_unlinked(f, ino))
		return 0;
	colour = fate(f, ino, &top);
	/* Once found, the whole branch hangs below lost+found by its top. */
	paint(f, ino, FSCK_REACHED);
	if (colour == FSCK_REACHED)
		return 0;
	fsck_problem(f, 4, "directory %" PRIu64 ": not reachable from the root", top);
	parent = parent_of(f, top);
	if (fsck_ino(f, top)->links != 0 && parent != 0) {
		fsck_unname(f, parent, top);
		count_subdir(f, parent, -1);
	}
	fsck_ino(f, top)->links = 1;
	return lost_add(arg, top, DT_DIR);
}

static int check_named(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	if (fi->type == DT_DIR || fi->links != 0 || pf_get32(di->i_nlink) == 0)
		return 0;
	fsck_problem(f, 4, "inode %" PRIu64 " (%s): i_nlink %" PRIu32 ", found 0", ino, fsck_type_name(fi->type),
		     pf_get32(di->i_nlink));
	fi->links = 1;
	return lost_add(arg, ino, fi->type);
}

/* ---- lost+found ---- */

static int make_lost_found(struct fsck *f, const char *name, uint64_t *ino)
{
	struct fsck_newname n = { .type = DT_DIR, .len = (uint8_t)strlen(name) };
	struct pf_d_inode *di;
	int err;

	err = fsck_new_inode(f, S_IFDIR | 0700, ino);
	if (err != 0)
		return err;
	di = fsck_edit(f, fsck_inode(f, *ino), sizeof *di);
	di->i_nlink = pf_put32(2);
	di->i_parent = pf_put64(PF_INO_ROOT);
	di->i_atime = di->i_mtime = di->i_ctime = di->i_btime = pf_put64((uint64_t)time(NULL));
	pf_md_seal(PF_MD_INODE, di);
	n.ino = *ino;
	memcpy(n.name, name, n.len);
	err = fsck_rebuild_dir(f, PF_INO_ROOT, &n, 1);
	if (err != 0) {
		fsck_drop_inode(f, *ino);
		return err;
	}
	fsck_ino(f, *ino)->links = 1;
	count_subdir(f, PF_INO_ROOT, 1);
	return 0;
}

/* Where lost things go; when something else has that name, another one. */
static int find_lost_found(struct fsck *f, uint64_t *ino)
{
	static const char *const name[] = { "lost+found", "lost+found.fsck", "lost+found.fsck2" };

	for (unsigned int i = 0; i < PF_ARRAY_LEN(name); i++) {
		const struct fsck_ino *fi;
		uint8_t type;

		*ino = fsck_find_name(f, PF_INO_ROOT, name[i], &type);
		if (*ino == 0)
			return make_lost_found(f, name[i], ino);
		fi = fsck_ino(f, *ino);
		if (type == DT_DIR && fi != NULL && fi->type == DT_DIR)
			return 0;
	}
	return -ENOSPC;
}

/* Without room for that, what is lost stays lost until there is some; everything else is mended nevertheless. */
static int reconnect(struct fsck *f, struct lost *lost)
{
	uint64_t lf;
	int err;

	if (lost->nr == 0)
		return 0;
	err = find_lost_found(f, &lf);
	for (uint64_t i = 0; i < lost->nr && err == 0; i++) {
		struct fsck_newname *n = &lost->v[i];
		uint8_t type;

		/* From an earlier check, of an inode that had the number then. */
		for (unsigned int nr = 1; nr < 1000 && fsck_find_name(f, lf, n->name, &type) != 0; nr++)
			n->len = (uint8_t)snprintf(n->name, sizeof n->name, "#%" PRIu64 ".%u", n->ino, nr);
	}
	if (err == 0)
		err = fsck_rebuild_dir(f, lf, lost->v, lost->nr);
	for (uint64_t i = 0; i < lost->nr && err == 0; i++)
		if (lost->v[i].type == DT_DIR) {
			fsck_edit_inode(f, fsck_inode(f, lost->v[i].ino), set_parent, lf);
			count_subdir(f, lf, 1);
		}
	if (err != -ENOSPC)
		return err;
	(void)fprintf(f->out, "%s: no space for /lost+found: %" PRIu64 " without a name, out of reach until"
			      " something is removed and fsck.pinfs -y run again\n", f->name, lost->nr);
	f->stuck = true;
	return 0;
}

/* ---- counts ---- */

static int check_count(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	uint32_t nlink = pf_get32(di->i_nlink);
	uint64_t want = fi->links;

	(void)arg;
	/* The root has no name. An unlinked directory counts as its last link did: nothing. */
	if (fi->type == DT_DIR && (ino == PF_INO_ROOT || fi->links > 0))
		want = 2 + (uint64_t)fi->subdirs;
	if (ino == PF_INO_ROOT && pf_get64(di->i_parent) != PF_INO_ROOT) {
		fsck_problem(f, 4, "root directory: its parent is %" PRIu64, pf_get64(di->i_parent));
		fsck_edit_inode(f, di, set_parent, PF_INO_ROOT);
	}
	/* More names than can be counted: those stay, and the count is as high as it may be. */
	want = pf_min64(want, PF_LINK_MAX);
	if (nlink == want)
		return 0;
	fsck_minor(f, 4, "inode %" PRIu64 " (%s): i_nlink %" PRIu32 ", found %" PRIu64, ino, fsck_type_name(fi->type),
		   nlink, want);
	fsck_edit_inode(f, di, set_nlink, want);
	return 0;
}

int fsck_links(struct fsck *f)
{
	struct lost lost = { 0 };
	int err;

	err = fsck_each_inode(f, 0, check_reachable, &lost);
	if (err == 0)
		err = fsck_each_inode(f, 0, check_named, &lost);
	if (err == 0)
		err = reconnect(f, &lost);
	if (err == 0)
		err = fsck_each_inode(f, 0, check_count, NULL);
	free(lost.v);
	return err;
}
