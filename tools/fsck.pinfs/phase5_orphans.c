/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase5_orphans.c - phase 5: the orphan file against the inodes.
 *
 * Listed must be exactly the inodes without links and those with unfinished work. When the file says anything else, it
 * is written anew from the inodes.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SLOTS PF_ARRAY_LEN(((struct pf_d_orphan *)0)->o_ino)

struct orphans {
	bool bad;
	struct fsck_recs old, nodes;
};

static bool belongs(const struct pf_d_inode *di)
{
	return pf_get32(di->i_nlink) == 0 || pf_get32(di->i_intent) != PF_INTENT_NONE;
}

static void check_orphan(struct fsck *f, struct orphans *o, uint64_t ino)
{
	struct fsck_ino *fi = fsck_ino(f, ino);

	f->orphans++;
	if (fi == NULL || !(fi->state & FSCK_I_SOUND) || ino < PF_INO_FIRST_USER) {
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 ", which is not in use", ino);
		o->bad = true;
		return;
	}
	if (fi->state & FSCK_I_ORPHAN) {
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 " twice", ino);
		o->bad = true;
	}
	fi->state |= FSCK_I_ORPHAN;
	if (!belongs(fsck_inode(f, ino))) {
		fsck_problem(f, 5, "orphan file: names inode %" PRIu64 ", which has links and nothing left to do", ino);
		o->bad = true;
	}
}

static void orphan_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
		       uint64_t next_key)
{
	struct orphans *o = w->arg;
	struct fsck *f = w->f;

	(void)key;
	(void)flags;
	(void)next_key;
	for (uint64_t b = dblk; b < dblk + len; b++) {
		const struct pf_d_orphan *blk = fsck_at(f, b);
		const char *why = pf_md_check(&f->fs, PF_MD_ORPHAN, blk, b << PF_BLK_SHIFT, PF_INO_ORPHAN);

		if (w->err == 0)
			w->err = fsck_recs_add(&o->old, &(struct fsck_rec){ .dblk = b, .len = 1 });
		if (why != NULL) {
			fsck_problem(f, 5, "orphan block at block %" PRIu64 ": %s", b, why);
			o->bad = true;
			continue;
		}
		for (unsigned int i = 0; i < SLOTS; i++)
			if (pf_get64(blk->o_ino[i]) != 0)
				check_orphan(f, o, pf_get64(blk->o_ino[i]));
	}
}

static void orphan_node(struct fsck_walk *w, uint64_t dblk)
{
	struct orphans *o = w->arg;

	if (w->err == 0)
		w->err = fsck_recs_add(&o->nodes, &(struct fsck_rec){ .dblk = dblk, .len = 1 });
}

static int check_listed(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	struct orphans *o = arg;

	if (fi->state & FSCK_I_ORPHAN)
		return 0;
	if (pf_get32(di->i_nlink) == 0) {
		fsck_problem(f, 5, "inode %" PRIu64 ": no links, but the orphan file does not name it", ino);
		o->bad = true;
	}
	if (pf_get32(di->i_intent) != PF_INTENT_NONE) {
		fsck_problem(f, 5, "inode %" PRIu64 ": unfinished work, but the orphan file does not name it", ino);
		o->bad = true;
	}
	return 0;
}

/* ---- written anew ---- */

static int list(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	(void)f;
	(void)fi;
	return ino >= PF_INO_FIRST_USER && belongs(di) ? fsck_recs_add(arg, &(struct fsck_rec){ .key = ino }) : 0;
}

static int write_block(struct fsck *f, const struct pf_d_inode *di, const struct fsck_rec *v, uint64_t n,
		       struct fsck_recs *blocks)
{
	struct pf_d_orphan blk;
	uint64_t dblk;
	int err = fsck_alloc(f, 1, &dblk);

	if (err != 0)
		return err;
	pf_md_format(&f->fs, PF_MD_ORPHAN, &blk, dblk << PF_BLK_SHIFT, PF_INO_ORPHAN, pf_get32(di->i_gen));
	for (uint64_t i = 0; i < n; i++)
		blk.o_ino[i] = pf_put64(v[i].key);
	blk.o_hdr.h_count = pf_put16((uint16_t)n);
	fsck_put(f, dblk, PF_MD_ORPHAN, &blk);
	return fsck_recs_add(blocks, &(struct fsck_rec){ .key = blocks->nr, .dblk = dblk, .len = 1 });
}

static void release(struct fsck *f, const struct fsck_recs *recs)
{
	for (uint64_t i = 0; i < recs->nr; i++)
		if (f->twice == NULL || !fsck_bit(f->twice, recs->v[i].dblk))
			fsck_release(f, recs->v[i].dblk, 1);
}

static int rewrite(struct fsck *f, const struct pf_d_inode *di, struct orphans *o)
{
	struct fsck_recs inos = { 0 }, blocks = { 0 };
	struct pf_d_inode *rw;
	uint64_t nodes = 0;
	int err;

	err = fsck_each_inode(f, 0, list, &inos);
	for (uint64_t i = 0; i < inos.nr && err == 0; i += SLOTS)
		err = write_block(f, di, inos.v + i, pf_min64(SLOTS, inos.nr - i), &blocks);
	if (err == 0)
		err = fsck_build_tree(f, di, fsck_root_of(di), &blocks, &nodes);
	if (err == 0) {
		rw = fsck_edit(f, di, sizeof *rw);
		rw->i_size = pf_put64(blocks.nr * PF_BLK_SIZE);
		rw->i_nblk = pf_put64(blocks.nr + nodes);
		pf_md_seal(PF_MD_INODE, rw);
		release(f, &o->old);
		release(f, &o->nodes);
	}
	if (err == -ENOSPC)
		(void)fprintf(f->out, "%s: no space for the orphan file\n", f->name);
	fsck_recs_free(&inos);
	fsck_recs_free(&blocks);
	return err == -ENOSPC ? -EUCLEAN : err;
}

int fsck_check_orphans(struct fsck *f)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ORPHAN);
	struct orphans o = { .bad = f->orphans_bad };
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 5, .ino = PF_INO_ORPHAN, .fn = orphan_rec, .node = orphan_node,
		.arg = &o,
	};
	int err;

	if (di == NULL)
		return -EUCLEAN;
	/* Of a broken tree phase 3 has told. */
	w.gen = pf_get32(di->i_gen);
	if (!f->orphans_bad)
		fsck_walk_tree(&w, fsck_root_of(di));
	err = w.err;
	if (f->fs.clean && f->orphans != 0) {
		fsck_problem(f, 5, "orphan file: not empty, though unmounted clean");
		fsck_not_clean(f);
	}
	if (err == 0 && !f->orphans_bad)
		err = fsck_each_inode(f, 0, check_listed, &o);
	if (err == 0 && o.bad)
		err = rewrite(f, di, &o);
	fsck_recs_free(&o.old);
	fsck_recs_free(&o.nodes);
	return err;
}
