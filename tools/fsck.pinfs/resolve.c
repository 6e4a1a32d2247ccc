/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resolve.c - the end of phase 3: inodes whose trees are broken, or that share blocks, get trees of their own.
 *
 * All other inodes first take what is theirs. Then each broken one, in order: the records that can still be read, and
 * those of leaves that no walk found any more but that are still marked in use and say whose they are. A block that
 * somebody has taken is copied; one that may not be this inode's at all becomes a hole. Nobody gets bytes of a block
 * that the map calls free.
 */
#include "fsck.pinfs/fsck.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "media/xleaf.h"

/* ---- leaves that nobody leads to ---- */

struct lost { uint64_t ino, dblk; uint32_t magic; };

struct resolve {
	struct fsck *f;
	struct lost *lost;
	uint64_t nr_lost, room_lost;
	uint64_t budget;	/* blocks that may still be looked at one by one */
	/* Of the inode at hand. */
	uint64_t ino;
	struct fsck_ino *fi;
	const struct pf_d_inode *di;
	struct fsck_recs in, out, nodes;
	int err;
};

static int lost_add(struct resolve *r, uint64_t ino, uint64_t dblk, uint32_t magic)
{
	uint64_t room = r->room_lost == 0 ? 64 : r->room_lost * 2;
	struct lost *v;

	if (r->nr_lost == r->room_lost) {
		v = realloc(r->lost, room * sizeof *v);
		if (v == NULL)
			return -ENOMEM;
		r->lost = v;
		r->room_lost = room;
	}
	r->lost[r->nr_lost++] = (struct lost){ .ino = ino, .dblk = dblk, .magic = magic };
	return 0;
}

static enum pf_md type_of(uint32_t magic)
{
	return magic == PF_MAGIC_NODE ? PF_MD_NODE : magic == PF_MAGIC_DIR ? PF_MD_DIR :
	       magic == PF_MAGIC_XATTR ? PF_MD_XATTR : PF_MD_NR;
}

/* A tree's leaf, or a leaf of names, whose owner misses some. */
static bool is_lost_leaf(struct resolve *r, uint64_t b)
{
	const struct pf_d_hdr *h = fsck_at(r->f, b);
	enum pf_md type = type_of(pf_get32(h->h_magic));
	const struct fsck_ino *fi;

	if (type == PF_MD_NR || pf_get64(h->h_fsid) != r->f->fs.fsid || pf_get16(h->h_level) != 0)
		return false;
	fi = fsck_ino(r->f, pf_get64(h->h_owner));
	if (fi == NULL || (fi->state & (FSCK_I_SOUND | FSCK_I_LOST)) != (FSCK_I_SOUND | FSCK_I_LOST) ||
	    pf_get32(h->h_owner_gen) != pf_get32(fsck_inode(r->f, pf_get64(h->h_owner))->i_gen))
		return false;
	return pf_md_check(&r->f->fs, type, h, b << PF_BLK_SHIFT, pf_get64(h->h_owner)) == NULL;
}

static int find_lost(struct resolve *r)
{
	struct fsck *f = r->f;
	int err = 0;

	for (uint64_t b = f->fs.iclu0_blk + PF_ICLU_BLKS; b < f->fs.nblk - 1 && err == 0; b++) {
		const struct pf_d_hdr *h = fsck_at(f, b);

		if (b % 1024 == 0)
			err = fsck_step(f, 3, b, f->fs.nblk);
		if (err == 0 && !fsck_bit(f->used, b) && fsck_map_used(f, b) && is_lost_leaf(r, b))
			err = lost_add(r, pf_get64(h->h_owner), b, pf_get32(h->h_magic));
	}
	return err;
}

static int by_ino(const void *a, const void *b)
{
	const struct lost *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return (x->dblk > y->dblk) - (x->dblk < y->dblk);
}

static const struct lost *first_lost(const struct resolve *r)
{
	uint64_t lo = 0, hi = r->nr_lost;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (r->lost[mid].ino < r->ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->nr_lost ? &r->lost[lo] : NULL;
}

/* The next lost leaf of the inode at hand behind @l (NULL: the first) that has this magic; NULL: none. */
static const struct lost *next_lost(const struct resolve *r, const struct lost *l, uint32_t magic)
{
	for (l = l == NULL ? first_lost(r) : l + 1; l != NULL && l < r->lost + r->nr_lost && l->ino == r->ino; l++)
		if (l->magic == magic)
			return l;
	return NULL;
}

/* ---- gathering ---- */

static void keep_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct resolve *r = w->arg;

	(void)next_key;
	if (w->err == 0)
		w->err = fsck_recs_add(&r->in, &(struct fsck_rec){ .key = key, .dblk = dblk, .len = (uint32_t)len,
								   .flags = flags });
}

static void note_node(struct fsck_walk *w, uint64_t dblk)
{
	struct resolve *r = w->arg;

	if (w->err == 0)
		w->err = fsck_recs_add(&r->nodes, &(struct fsck_rec){ .dblk = dblk, .len = 1 });
}

/* The nodes' own blocks are given up: the new tree gets others. */
static void gather(struct resolve *r, struct fsck_root root)
{
	struct fsck_walk w = {
		.f = r->f, .pass = FSCK_READ, .phase = 3, .ino = r->ino, .gen = pf_get32(r->di->i_gen),
		.lenient = true, .fn = keep_rec, .node = note_node, .arg = r,
	};

	r->in.nr = r->out.nr = r->nodes.nr = 0;
	fsck_walk_tree(&w, root);
	r->err = w.err;
}

static int by_key(const void *a, const void *b)
{
	const struct fsck_rec *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->dblk > y->dblk) - (x->dblk < y->dblk);
}

static void sort(struct fsck_recs *recs)
{
	if (recs->nr > 1)
		qsort(recs->v, recs->nr, sizeof *recs->v, by_key);
}

/* ---- data ---- */

/* The leaf of the tree of attributes looks the same but for what it leads to. */
static bool leads_to_attrs(const struct fsck *f, const struct pf_d_node *n)
{
	const struct pf_d_hdr *h = fsck_at(f, pf_get64(n->n_rec[0].r_dblk));

	return pf_get32(h->h_magic) == PF_MAGIC_XATTR && pf_get64(h->h_fsid) == f->fs.fsid &&
	       pf_get64(h->h_owner) == pf_get64(n->n_hdr.h_owner);
}

static void gather_lost_nodes(struct resolve *r)
{
	for (const struct lost *l = NULL; (l = next_lost(r, l, PF_MAGIC_NODE)) != NULL;) {
		const struct pf_d_node *n = fsck_at(r->f, l->dblk);

		if (fsck_bit(r->f->seen, l->dblk) || leads_to_attrs(r->f, n))
			continue;
		for (unsigned int i = 0; i < pf_get16(n->n_hdr.h_count) && r->err == 0; i++) {
			const struct pf_d_rec *d = &n->n_rec[i];

			r->err = fsck_recs_add(&r->in, &(struct fsck_rec){
				.key = pf_get64(d->r_key), .dblk = pf_get64(d->r_dblk),
				.len = pf_get32(d->r_len), .flags = pf_get32(d->r_flags),
			});
		}
	}
}

/* A block that is claimed twice and says itself that it is metadata, is. */
static bool is_metadata(const struct fsck *f, uint64_t b)
{
	const struct pf_d_hdr *h = fsck_at(f, b);
	enum pf_md type = type_of(pf_get32(h->h_magic));

	return f->twice != NULL && fsck_bit(f->twice, b) && type != PF_MD_NR &&
	       pf_md_check(&f->fs, type, h, b << PF_BLK_SHIFT, pf_get64(h->h_owner)) == NULL;
}

/* Block @b of the record, as the new tree shall have it; 0: a hole. */
static uint64_t settle(struct resolve *r, uint64_t b, uint32_t flags)
{
	struct fsck *f = r->f;
	const bool suspect = (r->fi->state & FSCK_I_SUSPECT) != 0;
	uint64_t copy;

	/* What was mended by guess, or was lost, must be in use by all accounts. */
	if ((r->fi->state & (FSCK_I_SUSPECT | FSCK_I_LOST)) && fsck_map_sound(f, b) && !fsck_map_used(f, b))
		return 0;
	if (is_metadata(f, b))
		return 0;
	if (!fsck_bit(f->seen, b)) {
		fsck_set(f->seen, b);
		return b;
	}
	if (suspect || (flags & PF_REC_UNWRITTEN) || fsck_alloc(f, 1, &copy) != 0)
		return 0;
	pf_pm_write(f->fs.pm, copy << PF_BLK_SHIFT, fsck_at(f, b), PF_BLK_SIZE);
	return copy;
}

/* As part of the record before it, if it goes on there. */
static void put_block(struct resolve *r, uint64_t key, uint64_t dblk, uint32_t flags)
{
	struct fsck_rec *last = r->out.nr > 0 ? &r->out.v[r->out.nr - 1] : NULL;

	if (last != NULL && last->key + last->len == key && last->dblk + last->len == dblk && last->flags == flags &&
	    last->len < UINT32_MAX)
		last->len++;
	else
		r->err = fsck_recs_add(&r->out,
				       &(struct fsck_rec){ .key = key, .dblk = dblk, .len = 1, .flags = flags });
}

static void put_data(struct resolve *r, const struct fsck_rec *rec, uint64_t *end)
{
	const bool symlink = r->fi->type == DT_LNK;
	const uint64_t data_end = fsck_end_of_data(r->di);

	if (rec->key + rec->len > FSCK_PAGES_MAX ||
	    !pf_data_range_ok(&r->f->fs, r->ino, rec->dblk, rec->len) || rec->len > r->budget)
		return;
	r->budget -= rec->len;
	for (uint64_t i = 0; i < rec->len && r->err == 0; i++) {
		uint32_t flags = rec->key + i < data_end ? rec->flags & PF_REC_UNWRITTEN : PF_REC_UNWRITTEN;
		uint64_t b;

		/* Overlapped by one before it, or behind the end of what cannot grow. */
		if (rec->key + i < *end || (symlink && rec->key + i >= 1))
			continue;
		b = settle(r, rec->dblk + i, flags);
		if (b != 0)
			put_block(r, rec->key + i, b, flags);
		*end = rec->key + i + 1;
	}
}

static void resolve_data(struct resolve *r)
{
	uint64_t end = 0;

	gather(r, fsck_root_of(r->di));
	gather_lost_nodes(r);
	sort(&r->in);
	for (uint64_t i = 0; i < r->in.nr && r->err == 0; i++)
		put_data(r, &r->in.v[i], &end);
}

/* ---- leaves of names and of attributes ---- */

static uint64_t lowest_key(const struct fsck *f, uint64_t dblk, enum pf_md type)
{
	struct fsck_name names[FSCK_LEAF_NAMES];
	unsigned int off = PF_XLEAF_FIRST, n;
	uint64_t key = UINT64_MAX;
	struct pf_xview v;

	if (type == PF_MD_XATTR) {
		while (pf_xleaf_next(fsck_at(f, dblk), &off, &v))
			key = pf_min64(key, v.key);
		return key;
	}
	n = fsck_leaf_names(fsck_at(f, dblk), names);
	for (unsigned int i = 0; i < n; i++)
		key = pf_min64(key, names[i].key);
	return key;
}

/* Keep a leaf that can be read and is this inode's. Where it belongs is what it holds. */
static void put_leaf(struct resolve *r, uint64_t dblk, enum pf_md type)
{
	const struct pf_d_hdr *h = fsck_at(r->f, dblk);
	uint64_t key;

	if (r->err != 0 || !pf_data_range_ok(&r->f->fs, r->ino, dblk, 1) || fsck_bit(r->f->seen, dblk))
		return;
	if (pf_md_check(&r->f->fs, type, h, dblk << PF_BLK_SHIFT, r->ino) != NULL &&
	    !(type == PF_MD_DIR && fsck_mend_leaf(r->f, dblk, r->ino, pf_get32(r->di->i_gen))))
		return;
	if (pf_get32(h->h_owner_gen) != pf_get32(r->di->i_gen))
		return;
	key = lowest_key(r->f, dblk, type);
	if (key == UINT64_MAX)
		return;		/* empty */
	fsck_set(r->f->seen, dblk);
	r->err = fsck_recs_add(&r->out, &(struct fsck_rec){ .key = key, .dblk = dblk, .len = 1 });
}

/* Two that begin alike cannot both be in the tree: the second one's entries are lost with it. */
static void order_leaves(struct resolve *r)
{
	uint64_t n = 0;

	sort(&r->out);
	for (uint64_t i = 0; i < r->out.nr; i++)
		if (n == 0 || r->out.v[i].key != r->out.v[n - 1].key)
			r->out.v[n++] = r->out.v[i];
	r->out.nr = n;
	if (n > 0)
		r->out.v[0].key = 0;
}

static void resolve_leaves(struct resolve *r, struct fsck_root root, enum pf_md type)
{
	const uint32_t magic = type == PF_MD_DIR ? PF_MAGIC_DIR : PF_MAGIC_XATTR;

	gather(r, root);
	for (uint64_t i = 0; i < r->in.nr; i++)
		put_leaf(r, r->in.v[i].dblk, type);
	for (const struct lost *l = NULL; (l = next_lost(r, l, magic)) != NULL;)
		put_leaf(r, l->dblk, type);
	order_leaves(r);
}

/* Values that somebody else's block is part of go; the others' blocks are taken. Returns blocks. */
static uint64_t take_values(struct resolve *r, uint64_t leaf)
{
	unsigned int off = PF_XLEAF_FIRST;
	struct fsck *f = r->f;
	struct pf_xview v;
	uint64_t n = 0;

	while (pf_xleaf_next(fsck_at(f, leaf), &off, &v)) {
		uint64_t mine = 0;
		bool ok = true;

		for (unsigned int i = 0; i < v.nrun && ok; i++)
			for (uint64_t b = 0; b < pf_get64(v.run[i].xr_nblk) && ok; b++) {
				uint64_t dblk = pf_get64(v.run[i].xr_dblk) + b;

				ok = !fsck_bit(f->seen, dblk) && !is_metadata(f, dblk);
				if (ok)
					fsck_set(f->seen, dblk);
				mine += ok;
			}
		if (ok)
			n += mine;
		else
			fsck_drop_attr(f, fsck_at(f, leaf), v.off);
	}
	return n;
}

static uint64_t resolve_attrs(struct resolve *r)
{
	uint64_t blocks = 0, n = 0;

	resolve_leaves(r, fsck_xroot_of(r->di), PF_MD_XATTR);
	for (uint64_t i = 0; i < r->out.nr; i++) {
		const struct pf_d_hdr *h = fsck_at(r->f, r->out.v[i].dblk);

		blocks += take_values(r, r->out.v[i].dblk);
		if (pf_get16(h->h_count) != 0)
			r->out.v[n++] = r->out.v[i];
	}
	r->out.nr = n;
	if (n > 0)
		r->out.v[0].key = 0;
	return blocks;
}

/* ---- the whole ---- */

/* Make what was gathered the tree. Returns its blocks. */
static uint64_t build(struct resolve *r, struct fsck_root root)
{
	struct fsck *f = r->f;
	uint64_t n = 0;

	if (r->err == 0)
		r->err = fsck_build_tree(f, r->di, root, &r->out, &n);
	for (uint64_t i = 0; i < r->nodes.nr && r->err == 0; i++)
		if (f->twice == NULL || !fsck_bit(f->twice, r->nodes.v[i].dblk))
			fsck_release(f, r->nodes.v[i].dblk, 1);
	for (uint64_t i = 0; i < r->out.nr; i++)
		n += r->out.v[i].len;
	return n;
}

static void set_nblk(struct pf_d_inode *di, uint64_t v) { di->i_nblk = pf_put64(v); }

static void resolve_inode(struct resolve *r)
{
	uint64_t owned = 0;

	if (fsck_has_tree(r->di)) {
		if (r->fi->type == DT_DIR)
			resolve_leaves(r, fsck_root_of(r->di), PF_MD_DIR);
		else
			resolve_data(r);
		owned += build(r, fsck_root_of(r->di));
	}
	if (r->err == 0)
		owned += resolve_attrs(r);
	if (r->err == 0)
		owned += build(r, fsck_xroot_of(r->di));
	/* Also when space ran out: the root may have been changed. */
	fsck_edit_inode(r->f, r->di, set_nblk, owned);
}

/* The list of bad blocks: what a file owns is not held. */
static void resolve_bad(struct resolve *r)
{
	uint64_t end = 0, held = 0, listed = 0;

	gather(r, fsck_root_of(r->di));
	for (uint64_t i = 0; i < r->in.nr; i++)
		r->in.v[i].key = r->in.v[i].dblk;
	sort(&r->in);
	for (uint64_t i = 0; i < r->in.nr; i++) {
		const struct fsck_rec *rec = &r->in.v[i];

		if (rec->len > r->budget)
			continue;
		r->budget -= rec->len;
		for (uint64_t b = pf_max64(end, rec->key); b < rec->key + rec->len && r->err == 0; b++) {
			bool hold = (rec->flags & PF_REC_HELD) && !fsck_bit(r->f->seen, b);

			if (hold)
				fsck_set(r->f->seen, b);
			held += hold;
			listed++;
			put_block(r, b, b, hold ? PF_REC_HELD : 0);
			end = b + 1;
		}
	}
	fsck_edit_inode(r->f, r->di, set_nblk, build(r, fsck_root_of(r->di)) - listed + held);
}

static int take_sound(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di, void *arg)
{
	(void)arg;
	if (!(fi->state & FSCK_I_REBUILD))
		fsck_claim_inode(f, FSCK_READ, ino, fi, di);
	return 0;
}

/* Inodes that were sound before those that were mended by guess. */
static void resolve_all(struct resolve *r, bool suspect)
{
	struct fsck *f = r->f;

	for (uint64_t c = 0; c < f->nr_clu && r->err == 0; c++) {
		r->err = fsck_step(f, 3, c, f->nr_clu);
		for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS && r->err == 0; s++) {
			r->ino = f->clu[c].nr << PF_ICLU_SHIFT | s;
			r->fi = &f->clu[c].ino[s];
			if (r->ino < PF_INO_ROOT || !(r->fi->state & FSCK_I_SOUND) ||
			    !(r->fi->state & FSCK_I_REBUILD) ||
			    ((r->fi->state & FSCK_I_SUSPECT) != 0) != suspect)
				continue;
			r->di = fsck_inode(f, r->ino);
			resolve_inode(r);
		}
	}
}

int fsck_resolve(struct fsck *f)
{
	struct resolve r = { .f = f, .budget = f->fs.nblk * 4 + 1048576 };

	fsck_pass_begin(f);
	r.err = fsck_claim_internal(f, FSCK_READ);
	if (r.err == 0)
		r.err = fsck_each_inode(f, 3, take_sound, NULL);
	if (r.err == 0)
		r.err = find_lost(&r);
	if (r.err == 0 && r.nr_lost != 0)
		qsort(r.lost, r.nr_lost, sizeof *r.lost, by_ino);
	resolve_all(&r, false);
	resolve_all(&r, true);
	r.di = fsck_internal(f, PF_INO_BAD);
	r.ino = PF_INO_BAD;
	if (r.err == 0 && f->badlist_bad && r.di != NULL)
		resolve_bad(&r);
	fsck_recs_free(&r.in);
	fsck_recs_free(&r.out);
	fsck_recs_free(&r.nodes);
	free(r.lost);
	return r.err == 0 ? -EAGAIN : r.err == -ENOSPC ? -EUCLEAN : r.err;
}
