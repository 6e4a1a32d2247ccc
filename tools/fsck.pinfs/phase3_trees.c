/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase3_trees.c - phase 3: which blocks each inode owns, whether it says so itself, and whether nobody else does.
 *
 * Finding out who the other owner is takes a second walk over everything, made only when there is one. So does mending
 * what was found (resolve.c): only when all owners are known, a block can be given to one of them.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

struct tally {
	const char *what;	/* the records' blocks are */
	uint64_t owned;
	uint64_t end_key;	/* written blocks must lie below: the file's pages */
	uint64_t end_found;	/* where they end */
	bool dir;
	bool bad;		/* a record must go */
	bool starts;		/* page 0 is written */
};

static void tally_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct tally *t = w->arg;

	(void)next_key;
	(void)fsck_claim(w->f, w->pass, w->ino, t->what, dblk, len);
	t->owned += len;
	if (w->pass != FSCK_CLAIM)
		return;
	t->starts = t->starts || (key == 0 && (flags & PF_REC_UNWRITTEN) == 0);
	if (t->dir && (len != 1 || flags != 0)) {
		fsck_problem(w->f, 3, "inode %" PRIu64 ": directory record of key %" PRIu64 " has a length or flags",
			     w->ino, key);
		t->bad = true;
	}
	if (!t->dir && key + len > FSCK_PAGES_MAX) {
		fsck_problem(w->f, 3, "inode %" PRIu64 ": page %" PRIu64 "+%" PRIu64 " is more than a file can have",
			     w->ino, key, len);
		t->bad = true;
		return;
	}
	/* Unwritten ones may lie there (FALLOC_FL_KEEP_SIZE); written ones would come to light as the file grows. */
	if (!t->dir && (flags & PF_REC_UNWRITTEN) == 0 && key + len > t->end_key) {
		fsck_problem(w->f, 3,
			     "inode %" PRIu64 ": written blocks at page %" PRIu64 "+%" PRIu64
			     ", but its size ends at page %" PRIu64,
			     w->ino, key, len, t->end_key);
		t->end_found = key + len;
	}
}

/* Pages that may hold data. While a truncate or collapse is under way, those above the new size still lie there. */
uint64_t fsck_end_of_data(const struct pf_d_inode *di)
{
	uint64_t pages = PF_DIV_UP(pf_get64(di->i_size), PF_BLK_SIZE);

	switch (pf_get32(di->i_intent)) {
	case PF_INTENT_TRUNC:
		return UINT64_MAX;
	case PF_INTENT_COLLAPSE:
		return pages + PF_DIV_UP(pf_get64(di->i_intent_len), PF_BLK_SIZE);
	default:
		return pages;
	}
}

static void set_size(struct pf_d_inode *di, uint64_t v) { di->i_size = pf_put64(v); }
static void set_nblk(struct pf_d_inode *di, uint64_t v) { di->i_nblk = pf_put64(v); }

/* One tree, and whether it needs to be made anew. Adds the blocks to *owned. */
static void check_tree(struct fsck *f, enum fsck_pass pass, uint64_t ino, struct fsck_ino *fi,
		       const struct pf_d_inode *di, const char *what, uint64_t *owned)
{
	struct tally t = { .what = what, .end_key = fsck_end_of_data(di), .dir = fi->type == DT_DIR };
	struct fsck_walk w = {
		.f = f, .pass = pass, .phase = 3, .ino = ino, .gen = pf_get32(di->i_gen), .fn = tally_rec, .arg = &t,
	};

	fsck_walk_tree(&w, fsck_root_of(di));
	*owned += t.owned + w.nodes;
	if (pass != FSCK_CLAIM)
		return;
	/* A size that was not written like this may be wrong; else those blocks never were the file's contents. */
	if (t.end_found != 0 && fi->type == DT_REG && (fi->state & FSCK_I_SUSPECT))
		fsck_edit_inode(f, di, set_size, t.end_found << PF_BLK_SHIFT);
	else if (t.end_found != 0)
		t.bad = true;
	if (w.skipped != 0 || t.bad || w.resealed) {
		fi->state |= FSCK_I_REBUILD;
		f->broken = f->broken || ino >= PF_INO_ROOT;
	} else if (fi->type == DT_LNK && !t.starts) {
		/* Its names are found to lead nowhere in the next round. */
		fsck_problem(f, 3, "inode %" PRIu64 ": symlink without its target", ino);
		fsck_mark_inode(f, ino, false);
	}
	if (w.lost)
		fi->state |= FSCK_I_LOST;
	if (w.resealed)
		fi->state |= FSCK_I_SUSPECT;
}

void fsck_claim_inode(struct fsck *f, enum fsck_pass pass, uint64_t ino, struct fsck_ino *fi,
		      const struct pf_d_inode *di)
{
	uint64_t owned = 0;

	if (fsck_has_tree(di))
		check_tree(f, pass, ino, fi, di, fi->type == DT_DIR ? "directory leaf" : "data", &owned);
	if (!fsck_attrs(f, pass, ino, di, &owned) && pass == FSCK_CLAIM) {
		fi->state |= FSCK_I_REBUILD;
		f->broken = true;
	}
	if (pass == FSCK_CLAIM && !(fi->state & FSCK_I_REBUILD) && owned != pf_get64(di->i_nblk)) {
		fsck_minor(f, 3, "inode %" PRIu64 ": i_nblk %" PRIu64 ", found %" PRIu64, ino, pf_get64(di->i_nblk),
			   owned);
		fsck_edit_inode(f, di, set_nblk, owned);
	}
}

static int claim_inode(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	(void)arg;
	fsck_claim_inode(f, FSCK_CLAIM, ino, fi, di);
	return 0;
}

static int name_inode(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	(void)arg;
	fsck_claim_inode(f, FSCK_NAME, ino, fi, di);
	return 0;
}

/* ---- internal inodes ---- */

static void claim_orphan_file(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ORPHAN);
	struct fsck_ino fi = { .type = DT_REG };
	uint64_t owned = 0;

	if (di == NULL)
		return;
	check_tree(f, pass, PF_INO_ORPHAN, &fi, di, "orphan block", &owned);
	if (pass != FSCK_CLAIM)
		return;
	f->orphans_bad = f->orphans_bad || fi.state != 0;
	if (fi.state == 0 && owned != pf_get64(di->i_nblk)) {
		fsck_minor(f, 3, "inode %" PRIu64 ": i_nblk %" PRIu64 ", found %" PRIu64, PF_INO_ORPHAN,
			   pf_get64(di->i_nblk), owned);
		fsck_edit_inode(f, di, set_nblk, owned);
	}
}

/* Of the list of bad blocks, the runs that it holds; the others are whoever's they are, or nobody's. */
static void bad_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	uint64_t *held = w->arg;

	(void)next_key;
	if (key != dblk) {
		w->skipped++;
		if (w->pass == FSCK_CLAIM)
			fsck_problem(w->f, 3, "list of bad blocks: block %" PRIu64 " has the key %" PRIu64, dblk, key);
	}
	if (w->pass == FSCK_CLAIM && w->err == 0)
		w->err = fsck_note_bad(w->f, dblk, len);
	if (!(flags & PF_REC_HELD))
		return;
	(void)fsck_claim(w->f, w->pass, w->ino, "bad block", dblk, len);
	*held += len;
}

static int claim_bad_blocks(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_BAD);
	uint64_t held = 0;
	struct fsck_walk w = { .f = f, .pass = pass, .phase = 3, .ino = PF_INO_BAD, .fn = bad_rec, .arg = &held };

	if (di == NULL)
		return 0;
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, fsck_root_of(di));
	if (pass != FSCK_CLAIM)
		return w.err;
	f->badlist_bad = f->badlist_bad || w.skipped != 0 || w.resealed;
	if (!f->badlist_bad && held + w.nodes != pf_get64(di->i_nblk)) {
		fsck_minor(f, 3, "list of bad blocks: i_nblk %" PRIu64 ", found %" PRIu64, pf_get64(di->i_nblk),
			   held + w.nodes);
		fsck_edit_inode(f, di, set_nblk, held + w.nodes);
	}
	return w.err;
}

int fsck_claim_internal(struct fsck *f, enum fsck_pass pass)
{
	int err;

	fsck_claim_fixed(f, pass);
	err = fsck_walk_itable(f, pass);
	if (!f->orphans_bad || pass != FSCK_READ)
		claim_orphan_file(f, pass);
	if (err == 0 && (!f->badlist_bad || pass != FSCK_READ))
		err = claim_bad_blocks(f, pass);
	return err;
}

int fsck_phase3(struct fsck *f)
{
	int err;

	claim_orphan_file(f, FSCK_CLAIM);
	err = fsck_each_inode(f, 3, claim_inode, NULL);
	/* Last: what a file owns as well is the file's. */
	if (err == 0)
		err = claim_bad_blocks(f, FSCK_CLAIM);
	if (err != 0)
		return err;
	f->all_claimed = true;
	if (f->nr_dup != 0 || f->twice != NULL) {
		/* The same claims in the same order. */
		fsck_pass_begin(f);
		err = fsck_claim_internal(f, FSCK_NAME);
		if (err == 0)
			err = fsck_each_inode(f, 0, name_inode, NULL);
		fsck_report_dups(f);
	}
	if (err != 0 || (!f->broken && !f->badlist_bad))
		return err;
	return fsck_resolve(f);
}
