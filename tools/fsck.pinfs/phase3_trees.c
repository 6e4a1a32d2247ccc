/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase3_trees.c - phase 3: which blocks each inode owns, whether it says so itself, and whether nobody else does.
 *
 * Finding out who the other owner is takes a second walk over everything, made only when there is one.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>

struct tally {
	const char *what;	/* the records' blocks are */
	uint64_t owned;
	uint64_t end_key;	/* written blocks must lie below: the file's pages */
	bool dir;
};

static void tally_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct tally *t = w->arg;

	(void)next_key;
	(void)fsck_claim(w->f, w->pass, w->ino, t->what, dblk, len);
	t->owned += len;
	if (w->pass != FSCK_CLAIM)
		return;
	if (t->dir && (len != 1 || flags != 0))
		fsck_problem(w->f, 3, "inode %" PRIu64 ": directory record of key %" PRIu64 " has a length or flags",
			     w->ino, key);
	if (!t->dir && key + len > PF_DIV_UP(PF_FILE_MAX, PF_BLK_SIZE))
		fsck_problem(w->f, 3, "inode %" PRIu64 ": page %" PRIu64 "+%" PRIu64 " is more than a file can have",
			     w->ino, key, len);
	/* Unwritten ones may lie there (FALLOC_FL_KEEP_SIZE); written ones would come to light as the file grows. */
	if (!t->dir && (flags & PF_REC_UNWRITTEN) == 0 && key + len > t->end_key)
		fsck_problem(w->f, 3,
			     "inode %" PRIu64 ": written blocks at page %" PRIu64 "+%" PRIu64
			     ", but its size ends at page %" PRIu64,
			     w->ino, key, len, t->end_key);
}

/* Pages that may hold data. While a truncate or collapse is under way, those above the new size still lie there. */
static uint64_t end_of_data(const struct pf_d_inode *di)
{
	if (pf_get32(di->i_intent) == PF_INTENT_TRUNC || pf_get32(di->i_intent) == PF_INTENT_COLLAPSE)
		return UINT64_MAX;
	return PF_DIV_UP(pf_get64(di->i_size), PF_BLK_SIZE);
}

/* False: some of the tree could not be read. */
static bool check_tree(struct fsck *f, enum fsck_pass pass, uint64_t ino, const struct pf_d_inode *di, const char *what,
		       uint64_t *owned)
{
	struct tally t = { .what = what, .end_key = end_of_data(di) };
	struct fsck_walk w = {
		.f = f, .pass = pass, .phase = 3, .ino = ino, .gen = pf_get32(di->i_gen), .fn = tally_rec, .arg = &t,
	};

	t.dir = strcmp(what, "directory leaf") == 0;
	fsck_walk_tree(&w, &di->i_root);
	*owned += t.owned + w.nodes;
	return w.skipped == 0;
}

static void check_nblk(struct fsck *f, uint64_t ino, const struct pf_d_inode *di, uint64_t owned)
{
	if (owned != pf_get64(di->i_nblk))
		fsck_problem(f, 3, "inode %" PRIu64 ": i_nblk %" PRIu64 ", found %" PRIu64, ino, pf_get64(di->i_nblk),
			     owned);
}

static void check_one(struct fsck *f, enum fsck_pass pass, uint64_t ino, const struct fsck_ino *fi,
		      const struct pf_d_inode *di)
{
	uint64_t owned = 0;
	bool whole = true;

	if (fsck_has_tree(di))
		whole = check_tree(f, pass, ino, di, fi->type == DT_DIR ? "directory leaf" : "data", &owned);
	whole = fsck_attrs(f, pass, ino, di, &owned) && whole;
	if (pass == FSCK_CLAIM && whole && (fsck_has_tree(di) || owned != 0))
		check_nblk(f, ino, di, owned);
}

static int claim_inode(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	check_one(f, FSCK_CLAIM, ino, fi, di);
	return 0;
}

static int name_inode(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	check_one(f, FSCK_NAME, ino, fi, di);
	return 0;
}

static void claim_orphan_file(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ORPHAN);
	uint64_t owned = 0;

	if (di != NULL && check_tree(f, pass, PF_INO_ORPHAN, di, "orphan block", &owned) && pass == FSCK_CLAIM)
		check_nblk(f, PF_INO_ORPHAN, di, owned);
}

/* Of the list of bad blocks, the runs that it holds; the others are whoever's they are, or nobody's. */
static void bad_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	uint64_t *held = w->arg;

	(void)key;
	(void)next_key;
	if (!(flags & PF_REC_HELD))
		return;
	(void)fsck_claim(w->f, w->pass, w->ino, "bad block", dblk, len);
	*held += len;
}

static void claim_bad_blocks(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_BAD);
	uint64_t held = 0;
	struct fsck_walk w = { .f = f, .pass = pass, .phase = 3, .ino = PF_INO_BAD, .fn = bad_rec, .arg = &held };

	if (di == NULL) {
		if (pass == FSCK_CLAIM)
			fsck_problem(f, 3, "list of bad blocks: inode %" PRIu64 " is damaged", PF_INO_BAD);
		return;
	}
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, &di->i_root);
	if (pass == FSCK_CLAIM && w.skipped == 0 && held + w.nodes != pf_get64(di->i_nblk))
		fsck_problem(f, 3, "list of bad blocks: i_nblk %" PRIu64 ", found %" PRIu64, pf_get64(di->i_nblk),
			     held + w.nodes);
}

int fsck_phase3(struct fsck *f)
{
	int err;

	claim_orphan_file(f, FSCK_CLAIM);
	claim_bad_blocks(f, FSCK_CLAIM);
	err = fsck_each_inode(f, claim_inode);
	if (err != 0 || f->nr_dup == 0)
		return err;

	/* The same claims in the same order. */
	fsck_pass_begin(f);
	fsck_claim_fixed(f, FSCK_NAME);
	err = fsck_walk_itable(f, FSCK_NAME);
	claim_orphan_file(f, FSCK_NAME);
	claim_bad_blocks(f, FSCK_NAME);
	if (err == 0)
		err = fsck_each_inode(f, name_inode);
	fsck_report_dups(f);
	return err;
}
