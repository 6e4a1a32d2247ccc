/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.c - the inode table made anew, and the headers of its clusters.
 *
 * A cluster says itself which one it is and where it lies, in its header and again in each of its inodes, so the table
 * can be found again by looking at every block that the map calls in use. It never shrinks: a number that is not found
 * any more gets an empty cluster. It grows when every inode is in use and /lost+found needs one.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CLU_MAX ((PF_INO_MAX >> PF_ICLU_SHIFT) + 1)
#define GAP_MAX 16U		/* clusters missing in a row; what lies behind more is not believed */

struct cand { uint64_t nr, dblk; bool weak; };	/* weak: without a header that says so */
struct cands { struct cand *v; uint64_t nr, room; };

static int cand_add(struct cands *c, uint64_t nr, uint64_t dblk, bool weak)
{
	uint64_t room = c->room == 0 ? 64 : c->room * 2;
	struct cand *v;

	if (c->nr > 0 && c->v[c->nr - 1].nr == nr && c->v[c->nr - 1].dblk == dblk)
		return 0;
	if (c->nr == c->room) {
		v = realloc(c->v, room * sizeof *v);
		if (v == NULL)
			return -ENOMEM;
		c->v = v;
		c->room = room;
	}
	c->v[c->nr++] = (struct cand){ .nr = nr, .dblk = dblk, .weak = weak };
	return 0;
}

static bool place_ok(const struct fsck *f, uint64_t nr, uint64_t dblk)
{
	return nr < CLU_MAX && (nr == 0) == (dblk == f->fs.iclu0_blk) &&
	       pf_data_range_ok(&f->fs, PF_INO_ITABLE, dblk, PF_ICLU_BLKS);
}

/* What the block says of a cluster that it belongs to. */
static int look_at(struct fsck *f, struct cands *c, uint64_t b)
{
	const struct pf_d_hdr *h = fsck_at(f, b);
	const struct pf_d_inode *di = fsck_at(f, b);

	if (pf_get32(h->h_magic) == PF_MAGIC_ICLU && place_ok(f, pf_get64(h->h_owner), b) &&
	    pf_md_check(&f->fs, PF_MD_ICLU, h, b << PF_BLK_SHIFT, pf_get64(h->h_owner)) == NULL)
		return cand_add(c, pf_get64(h->h_owner), b, false);
	for (unsigned int i = 0; i < PF_BLK_SIZE / PF_INODE_SIZE; i++) {
		uint64_t ino = pf_get64(di[i].i_ino), at = ino % PF_ICLU_SLOTS / 8;

		if (pf_get32(di[i].i_magic) == PF_MAGIC_INODE && pf_get64(di[i].i_fsid) == f->fs.fsid && ino % 8 == i &&
		    at != 0 && at <= b && place_ok(f, ino >> PF_ICLU_SHIFT, b - at) &&
		    pf_md_check(&f->fs, PF_MD_INODE, &di[i], (b << PF_BLK_SHIFT) + (uint64_t)i * PF_INODE_SIZE,
				ino) == NULL)
			return cand_add(c, ino >> PF_ICLU_SHIFT, b - at, true);
	}
	return 0;
}

static int scan_device(struct fsck *f, struct cands *c)
{
	int err = 0;

	for (uint64_t b = f->fs.iclu0_blk; b < f->fs.nblk - 1 && err == 0; b++) {
		if (b % 1024 == 0)
			err = fsck_step(f, 2, b, f->fs.nblk);
		if (err == 0 && (!fsck_map_sound(f, b) || fsck_map_used(f, b)))
			err = look_at(f, c, b);
	}
	/* A record of the table is believed where nothing contradicts it. */
	for (uint64_t i = 0; i < f->nr_clu && err == 0; i++)
		if (place_ok(f, f->clu[i].nr, f->clu[i].dblk) &&
		    fsck_cluster_likely(f, f->clu[i].nr, f->clu[i].dblk) != FSCK_NO)
			err = cand_add(c, f->clu[i].nr, f->clu[i].dblk, true);
	return err;
}

static int by_nr(const void *a, const void *b)
{
	const struct cand *x = a, *y = b;

	if (x->nr != y->nr)
		return x->nr < y->nr ? -1 : 1;
	if (x->weak != y->weak)
		return x->weak ? 1 : -1;
	return (x->dblk > y->dblk) - (x->dblk < y->dblk);
}

static bool take(struct fsck *f, uint64_t dblk)
{
	for (uint64_t b = dblk; b < dblk + PF_ICLU_BLKS; b++)
		if (fsck_bit(f->seen, b))
			return false;
	for (uint64_t b = dblk; b < dblk + PF_ICLU_BLKS; b++)
		fsck_set(f->seen, b);
	return true;
}

/* An empty cluster where one is lost. */
static int empty_cluster(struct fsck *f, uint64_t nr, uint64_t *dblk)
{
	struct pf_d_iclu h;
	int err = fsck_alloc(f, PF_ICLU_BLKS, dblk);

	if (err != 0)
		return err;
	pf_pm_zero(f->fs.pm, *dblk << PF_BLK_SHIFT, PF_ICLU_BLKS << PF_BLK_SHIFT);
	pf_md_format(&f->fs, PF_MD_ICLU, &h, *dblk << PF_BLK_SHIFT, nr, 0);
	h.c_used[0] = 0xff;
	h.c_hdr.h_free = pf_put32(PF_ICLU_SLOTS - PF_ICLU_FIRST);
	fsck_put(f, *dblk, PF_MD_ICLU, &h);
	return 0;
}

/* Behind the last record, or a part of it when it lies there. */
static int append(struct fsck_recs *recs, uint64_t nr, uint64_t dblk)
{
	struct fsck_rec *last = recs->nr > 0 ? &recs->v[recs->nr - 1] : NULL;

	if (last != NULL && last->dblk + last->len == dblk && last->len < UINT32_MAX - PF_ICLU_BLKS) {
		last->len += (uint32_t)PF_ICLU_BLKS;
		return 0;
	}
	return fsck_recs_add(recs, &(struct fsck_rec){ .key = nr * PF_ICLU_BLKS, .dblk = dblk,
						       .len = (uint32_t)PF_ICLU_BLKS });
}

/* One cluster for each number from 0 on. */
static int choose(struct fsck *f, struct cands *c, struct fsck_recs *recs, uint64_t *n)
{
	uint64_t nr = 0, dblk;
	int err;

	fsck_pass_begin(f);
	err = cand_add(c, 0, f->fs.iclu0_blk, true);
	if (err != 0)
		return err;
	qsort(c->v, c->nr, sizeof *c->v, by_nr);
	for (uint64_t i = 0; i < c->nr && err == 0; i++) {
		if (c->v[i].nr < nr || !take(f, c->v[i].dblk))
			continue;
		if (c->v[i].nr - nr > GAP_MAX)
			break;
		while (nr <= c->v[i].nr && err == 0) {
			dblk = c->v[i].dblk;
			if (nr < c->v[i].nr)
				err = empty_cluster(f, nr, &dblk);
			if (err == 0)
				err = append(recs, nr, dblk);
			nr++;
		}
	}
	*n = nr;
	return err;
}

int fsck_rebuild_table(struct fsck *f)
{
	const uint64_t doff = (f->fs.iclu0_blk << PF_BLK_SHIFT) + PF_INO_ITABLE * PF_INODE_SIZE;
	struct fsck_recs recs = { 0 };
	struct cands c = { 0 };
	struct pf_d_inode di;
	uint64_t n, nodes;
	int err;

	f->table_made = true;
	err = scan_device(f, &c);
	if (err == 0)
		err = choose(f, &c, &recs, &n);
	if (err != 0)
		goto out;
	pf_md_format(&f->fs, PF_MD_INODE, &di, doff, PF_INO_ITABLE, 1);
	di.i_mode = pf_put32(S_IFREG | 0600);
	di.i_nlink = pf_put32(1);
	di.i_size = pf_put64(n * PF_ICLU_BLKS * PF_BLK_SIZE);
	pf_pm_write(f->fs.pm, doff, &di, sizeof di);
	err = fsck_build_tree(f, pf_pm_at(f->fs.pm, doff), fsck_root_of(pf_pm_at(f->fs.pm, doff)), &recs, &nodes);
	if (err == 0) {
		struct pf_d_inode *rw = fsck_edit(f, pf_pm_at(f->fs.pm, doff), sizeof *rw);

		rw->i_nblk = pf_put64(nodes + n * PF_ICLU_BLKS);
		pf_md_seal(PF_MD_INODE, rw);
		err = -EAGAIN;
	}
out:
	fsck_recs_free(&recs);
	free(c.v);
	return err == -ENOSPC ? -EUCLEAN : err;
}

/* ---- one cluster more ---- */

struct grow { struct fsck_recs recs, nodes; };

static void grow_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct grow *g = w->arg;

	(void)next_key;
	if (w->err == 0)
		w->err = fsck_recs_add(&g->recs, &(struct fsck_rec){ .key = key, .dblk = dblk, .len = (uint32_t)len,
								     .flags = flags });
}

static void grow_node(struct fsck_walk *w, uint64_t dblk)
{
	struct grow *g = w->arg;

	if (w->err == 0)
		w->err = fsck_recs_add(&g->nodes, &(struct fsck_rec){ .dblk = dblk, .len = 1 });
}

int fsck_grow_table(struct fsck *f)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ITABLE);
	const uint64_t nr = f->nr_clu;
	uint64_t dblk, nodes = 0;
	struct grow g = { 0 };
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 4, .ino = PF_INO_ITABLE, .fn = grow_rec, .node = grow_node,
		.arg = &g,
	};
	struct pf_d_inode *rw;
	int err;

	if (di == NULL || nr >= CLU_MAX)
		return -ENOSPC;
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, fsck_root_of(di));
	err = w.err;
	if (err == 0)
		err = empty_cluster(f, nr, &dblk);
	if (err != 0)
		goto out;
	err = append(&g.recs, nr, dblk);
	if (err == 0)
		err = fsck_build_tree(f, di, fsck_root_of(di), &g.recs, &nodes);
	if (err != 0) {
		fsck_release(f, dblk, PF_ICLU_BLKS);
		goto out;
	}
	rw = fsck_edit(f, di, sizeof *rw);
	rw->i_size = pf_put64((nr + 1) * PF_ICLU_BLKS * PF_BLK_SIZE);
	rw->i_nblk = pf_put64((nr + 1) * PF_ICLU_BLKS + nodes);
	pf_md_seal(PF_MD_INODE, rw);
	for (uint64_t i = 0; i < g.nodes.nr; i++)
		fsck_release(f, g.nodes.v[i].dblk, 1);
	err = fsck_add_cluster(f, nr, dblk);
out:
	fsck_recs_free(&g.recs);
	fsck_recs_free(&g.nodes);
	return err;
}
