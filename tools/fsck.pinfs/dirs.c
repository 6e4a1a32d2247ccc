/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirs.c - a directory written anew: all its names with right keys, in leaves and a tree of their own.
 *
 * The old leaves stay as they are until the new ones are complete; then their blocks are free.
 */
#include "fsck.pinfs/fsck.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/siphash.h"

#define NAME_OFF offsetof(struct pf_d_dirent, de_name)
#define FILL_BYTES ((PF_BLK_SIZE - sizeof(struct pf_d_hdr)) / 8 * 7)	/* so that the next name splits no leaf */
#define COLLISIONS 256U

/* A copy, so that it may get another key. */
union copy { struct pf_d_dirent de; uint8_t bytes[NAME_OFF + PF_NAME_MAX + 1]; };

struct entry { uint64_t key; const struct pf_d_dirent *de; const struct fsck_newname *more; };

struct rebuild {
	struct fsck *f;
	uint64_t dir;
	uint32_t gen;
	struct entry *v;
	uint64_t nr, room;
	struct fsck_recs old, nodes, leaves;
};

static const char *name_of(const struct entry *e, unsigned int *len)
{
	*len = e->more != NULL ? e->more->len : e->de->de_namelen;
	return e->more != NULL ? e->more->name : (const char *)e->de + NAME_OFF;
}

static int add_entry(struct rebuild *r, const struct pf_d_dirent *de, const struct fsck_newname *more)
{
	uint64_t room = r->room == 0 ? 64 : r->room * 2;
	struct entry *e;
	const char *name;
	unsigned int len;

	assert(de != NULL || more != NULL);
	if (r->nr == r->room) {
		e = realloc(r->v, room * sizeof *e);
		if (e == NULL)
			return -ENOMEM;
		r->v = e;
		r->room = room;
	}
	e = &r->v[r->nr++];
	*e = (struct entry){ .de = de, .more = more };
	name = name_of(e, &len);
	/* Its old collision number, which readdir may be relying on, if it is to be had. */
	e->key = pf_name_key(r->f->fs.hash_key, name, len) | (de != NULL ? pf_get64(de->de_key) & 0xff : 0xff);
	return 0;
}

static void old_node(struct fsck_walk *w, uint64_t dblk)
{
	struct rebuild *r = w->arg;

	if (w->err == 0)
		w->err = fsck_recs_add(&r->nodes, &(struct fsck_rec){ .dblk = dblk, .len = 1 });
}

static void old_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct fsck_name names[FSCK_LEAF_NAMES];
	struct rebuild *r = w->arg;
	const struct pf_d_hdr *h = fsck_at(w->f, dblk);
	unsigned int n;

	(void)key;
	(void)len;
	(void)flags;
	(void)next_key;
	if (w->err == 0)
		w->err = fsck_recs_add(&r->old, &(struct fsck_rec){ .dblk = dblk, .len = 1 });
	if (pf_md_check(&w->f->fs, PF_MD_DIR, h, dblk << PF_BLK_SHIFT, w->ino) != NULL ||
	    pf_get32(h->h_owner_gen) != w->gen)
		return;
	n = fsck_leaf_names(h, names);
	for (unsigned int i = 0; i < n && w->err == 0; i++)
		if (fsck_name_ok(names[i].de))
			w->err = add_entry(r, names[i].de, NULL);
}

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->more != NULL) - (y->more != NULL);
}

static bool same_name(const struct entry *a, const struct entry *b)
{
	unsigned int la, lb;
	const char *na = name_of(a, &la), *nb = name_of(b, &lb);

	return la == lb && memcmp(na, nb, la) == 0;
}

/* One hash: a name once, a number for each. Returns how many are left. */
static uint64_t settle_group(struct entry *v, uint64_t n)
{
	bool taken[COLLISIONS] = { false };
	uint64_t kept = 0;

	for (uint64_t i = 0; i < n; i++) {
		unsigned int nr = v[i].key & 0xff;
		bool twice = false;

		for (uint64_t k = 0; k < kept && !twice; k++)
			twice = same_name(&v[k], &v[i]);
		if (twice || kept == COLLISIONS)
			continue;
		for (unsigned int c = 0; taken[nr]; c++)
			nr = c;
		taken[nr] = true;
		v[kept] = v[i];
		v[kept++].key = (v[i].key & ~UINT64_C(0xff)) | nr;
	}
	return kept;
}

static void settle_keys(struct rebuild *r)
{
	uint64_t out = 0, n;

	if (r->nr == 0)
		return;
	qsort(r->v, r->nr, sizeof *r->v, by_key);
	for (uint64_t i = 0; i < r->nr; i += n) {
		for (n = 1; i + n < r->nr && r->v[i + n].key >> 8 == r->v[i].key >> 8;)
			n++;
		uint64_t kept = settle_group(&r->v[i], n);

		memmove(&r->v[out], &r->v[i], kept * sizeof *r->v);
		out += kept;
	}
	r->nr = out;
	qsort(r->v, r->nr, sizeof *r->v, by_key);
}

static unsigned int need_of(const struct entry *e)
{
	unsigned int len;

	(void)name_of(e, &len);
	return (unsigned int)(NAME_OFF + len + 7) & ~7U;
}

static void copy_entry(const struct entry *e, union copy *c)
{
	unsigned int len;
	const char *name = name_of(e, &len);

	memset(c, 0, sizeof *c);
	c->de.de_key = pf_put64(e->key);
	c->de.de_ino = e->more != NULL ? pf_put64(e->more->ino) : e->de->de_ino;
	c->de.de_type = e->more != NULL ? e->more->type : e->de->de_type;
	c->de.de_namelen = (uint8_t)len;
	memcpy(c->bytes + NAME_OFF, name, len);
}

/* As many entries as fit from @from on. */
static int write_leaf(struct rebuild *r, uint64_t from, uint64_t *n)
{
	const struct pf_d_dirent *v[FSCK_LEAF_NAMES];
	union copy *c = malloc(FSCK_LEAF_NAMES * sizeof *c);
	uint8_t block[PF_BLK_SIZE];
	uint64_t bytes = 0, dblk;
	int err;

	*n = 0;
	if (c == NULL)
		return -ENOMEM;
	for (; from + *n < r->nr; ++*n) {
		const struct entry *e = &r->v[from + *n];

		bytes += need_of(e);
		if (bytes > FILL_BYTES)
			break;
		copy_entry(e, &c[*n]);
		v[*n] = &c[*n].de;
	}
	err = fsck_alloc(r->f, 1, &dblk);
	if (err == 0) {
		fsck_fill_leaf(r->f, block, dblk, r->dir, r->gen, v, (unsigned int)*n);
		fsck_put(r->f, dblk, PF_MD_DIR, block);
		err = fsck_recs_add(&r->leaves, &(struct fsck_rec){
			.key = from == 0 ? 0 : r->v[from].key, .dblk = dblk, .len = 1 });
	}
	free(c);
	return err;
}

static void release(struct fsck *f, const struct fsck_recs *recs)
{
	for (uint64_t i = 0; i < recs->nr; i++)
		if (f->twice == NULL || !fsck_bit(f->twice, recs->v[i].dblk))
			fsck_release(f, recs->v[i].dblk, 1);
}

static int write_all(struct rebuild *r, const struct pf_d_inode *di)
{
	struct pf_d_inode *rw;
	uint64_t nodes = 0, n;
	int err = 0;

	for (uint64_t i = 0; i < r->nr && err == 0; i += n)
		err = write_leaf(r, i, &n);
	if (err == 0)
		err = fsck_build_tree(r->f, di, fsck_root_of(di), &r->leaves, &nodes);
	if (err != 0) {
		release(r->f, &r->leaves);
		return err;
	}
	rw = fsck_edit(r->f, di, sizeof *rw);
	rw->i_nent = pf_put64(r->nr);
	rw->i_size = pf_put64(r->leaves.nr * PF_BLK_SIZE);
	rw->i_nblk = pf_put64(pf_get64(rw->i_nblk) - r->old.nr - r->nodes.nr + r->leaves.nr + nodes);
	pf_md_seal(PF_MD_INODE, rw);
	release(r->f, &r->old);
	release(r->f, &r->nodes);
	return 0;
}

int fsck_rebuild_dir(struct fsck *f, uint64_t dir, const struct fsck_newname *more, uint64_t nr)
{
	const struct pf_d_inode *di = fsck_inode(f, dir);
	struct rebuild r = { .f = f, .dir = dir, .gen = pf_get32(di->i_gen) };
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 4, .ino = dir, .gen = r.gen, .lenient = true, .fn = old_leaf,
		.node = old_node, .arg = &r,
	};
	int err;

	fsck_walk_tree(&w, fsck_root_of(di));
	err = w.err;
	for (uint64_t i = 0; i < nr && err == 0; i++)
		err = add_entry(&r, NULL, &more[i]);
	if (err == 0) {
		settle_keys(&r);
		err = write_all(&r, di);
	}
	free(r.v);
	fsck_recs_free(&r.old);
	fsck_recs_free(&r.nodes);
	fsck_recs_free(&r.leaves);
	return err;
}

/* ---- single entries ---- */

struct unname { uint64_t ino; };

static void unname_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags,
			uint64_t next_key)
{
	struct fsck_name names[FSCK_LEAF_NAMES];
	const struct unname *u = w->arg;
	unsigned int n = fsck_leaf_names(fsck_at(w->f, dblk), names);

	(void)key;
	(void)len;
	(void)flags;
	(void)next_key;
	for (unsigned int i = 0; i < n; i++)
		if (pf_get64(names[i].de->de_ino) == u->ino)
			fsck_drop_entry(w->f, names[i].de);
}

void fsck_unname(struct fsck *f, uint64_t dir, uint64_t ino)
{
	const struct pf_d_inode *di = fsck_inode(f, dir);
	struct unname u = { .ino = ino };
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 4, .ino = dir, .gen = pf_get32(di->i_gen), .fn = unname_leaf,
		.arg = &u,
	};

	fsck_walk_tree(&w, fsck_root_of(di));
}

struct find { const char *name; uint64_t key, ino; uint8_t type; };

static void find_leaf(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct fsck_name names[FSCK_LEAF_NAMES];
	struct find *fd = w->arg;
	unsigned int n;

	(void)len;
	(void)flags;
	if ((fd->key | 0xff) < key || fd->key >= next_key)
		return;
	n = fsck_leaf_names(fsck_at(w->f, dblk), names);
	for (unsigned int i = 0; i < n; i++)
		if (names[i].de->de_namelen == strlen(fd->name) &&
		    memcmp((const char *)names[i].de + NAME_OFF, fd->name, names[i].de->de_namelen) == 0) {
			fd->ino = pf_get64(names[i].de->de_ino);
			fd->type = names[i].de->de_type;
		}
}

uint64_t fsck_find_name(struct fsck *f, uint64_t dir, const char *name, uint8_t *type)
{
	const struct pf_d_inode *di = fsck_inode(f, dir);
	struct find fd = { .name = name, .key = pf_name_key(f->fs.hash_key, name, strlen(name)) };
	struct fsck_walk w = {
		.f = f, .pass = FSCK_LOOK, .phase = 4, .ino = dir, .gen = pf_get32(di->i_gen), .fn = find_leaf,
		.arg = &fd,
	};

	fsck_walk_tree(&w, fsck_root_of(di));
	*type = fd.type;
	return fd.ino;
}
