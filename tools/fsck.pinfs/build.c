/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * build.c - a B+tree made anew from its leaf records, from the leaves up, in blocks of its own.
 *
 * The old nodes are not touched: their blocks are free when nobody claims them any more.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int fsck_recs_add(struct fsck_recs *r, const struct fsck_rec *rec)
{
	uint64_t room = r->room == 0 ? 64 : r->room * 2;
	struct fsck_rec *v;

	if (r->nr == r->room) {
		v = realloc(r->v, room * sizeof *v);
		if (v == NULL)
			return -ENOMEM;
		r->v = v;
		r->room = room;
	}
	r->v[r->nr++] = *rec;
	return 0;
}

void fsck_recs_free(struct fsck_recs *r)
{
	free(r->v);
	*r = (struct fsck_recs){ 0 };
}

static void fill(struct pf_d_rec *to, const struct fsck_rec *from, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		to[i] = (struct pf_d_rec){
			.r_key = pf_put64(from[i].key),
			.r_dblk = pf_put64(from[i].dblk),
			.r_len = pf_put32(from[i].len),
			.r_flags = pf_put32(from[i].flags),
		};
}

static int add_node(struct fsck *f, const struct pf_d_inode *di, unsigned int level, const struct fsck_rec *v,
		    uint64_t n, struct fsck_recs *up)
{
	const uint64_t ino = pf_get64(di->i_ino);
	struct pf_d_node node;
	uint64_t dblk;
	int err;

	err = fsck_alloc(f, 1, &dblk);
	if (err != 0)
		return err;
	pf_md_format(&f->fs, PF_MD_NODE, &node, dblk << PF_BLK_SHIFT, ino, pf_get32(di->i_gen));
	node.n_hdr.h_level = pf_put16((uint16_t)level);
	node.n_hdr.h_count = pf_put16((uint16_t)n);
	fill(node.n_rec, v, n);
	fsck_put(f, dblk, PF_MD_NODE, &node);
	return fsck_recs_add(up, &(struct fsck_rec){ .key = v[0].key, .dblk = dblk });
}

/* The nodes of one level; their records go to @up. */
static int add_level(struct fsck *f, const struct pf_d_inode *di, unsigned int level, const struct fsck_recs *r,
		     struct fsck_recs *up)
{
	int err = 0;

	for (uint64_t i = 0; i < r->nr && err == 0; i += PF_NODE_RECS)
		err = add_node(f, di, level, r->v + i, pf_min64(PF_NODE_RECS, r->nr - i), up);
	return err;
}

int fsck_build_tree(struct fsck *f, const struct pf_d_inode *di, struct fsck_root root, const struct fsck_recs *r,
		    uint64_t *nodes)
{
	struct fsck_recs cur = { 0 }, up = { 0 }, made = { 0 };
	const struct fsck_recs *at = r;
	struct pf_d_root *rw;
	unsigned int level = 0;
	int err = 0;

	while (at->nr > root.cap && err == 0) {
		err = add_level(f, di, level++, at, &up);
		for (uint64_t i = 0; i < up.nr; i++)
			err = fsck_recs_add(&made, &up.v[i]) != 0 ? -ENOMEM : err;
		fsck_recs_free(&cur);
		cur = up;
		up = (struct fsck_recs){ 0 };
		at = &cur;
	}
	if (err != 0) {
		for (uint64_t i = 0; i < made.nr; i++)
			fsck_release(f, made.v[i].dblk, 1);
		goto out;
	}
	*nodes = made.nr;
	rw = fsck_edit(f, root.r, offsetof(struct pf_d_root, t_rec) + root.cap * sizeof(struct pf_d_rec));
	memset(rw, 0, offsetof(struct pf_d_root, t_rec) + root.cap * sizeof(struct pf_d_rec));
	rw->t_level = pf_put16((uint16_t)level);
	rw->t_count = pf_put16((uint16_t)at->nr);
	fill(rw->t_rec, at->v, at->nr);
out:
	fsck_recs_free(&made);
	fsck_recs_free(&cur);
	return err;
}
