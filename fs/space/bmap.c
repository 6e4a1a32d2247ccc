/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bmap.c - the B+trees of an inode: look up, insert, remove, mark.
 *
 * Owns the records of tree nodes and of the root inside the inode. Takes no lock: the caller holds the inode's.
 * Does not write anything itself: nodes are shadows of the caller's transaction.
 *
 * Invariants: records of a node ascend by key; a separator equals the lowest key below its child; only the root may be
 * empty; leaves of a file's tree do not overlap. Nodes are split on the way down, so a parent always has
 * room for one more record; a node that gets sparse is merged with a neighbour on the way out.
 */
#include "space/bmap.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/fail.h"

#define ROOM_MIN 16U	/* objects a transaction must still hold before another extent is cut: see pf_bm_remove() */

/* One node on the way down: the root (dblk 0) or a tree node. */
struct level {
	struct pf_d_rec *rec;
	pf_le16 *count;
	unsigned int cap;
	unsigned int idx;	/* record taken; in a leaf: last record with key <= wanted, or 0 */
	uint64_t dblk;
};

struct path {
	struct level lv[PF_TREE_LEVELS];
	unsigned int depth;	/* levels used; lv[depth - 1] is the leaf */
	bool found;		/* the leaf has a record with key <= wanted, at idx */
};

static unsigned int count_of(const struct level *l)
{
	unsigned int n = pf_get16(*l->count);

	return n < l->cap ? n : l->cap;		/* verified before; the bound costs nothing */
}

static void set_count(struct level *l, unsigned int n)
{
	assert(n <= l->cap);
	*l->count = pf_put16((uint16_t)n);
}

static uint64_t key_at(const struct level *l, unsigned int i)
{
	return pf_get64(l->rec[i].r_key);
}

static struct pf_ext ext_at(const struct level *l, unsigned int i)
{
	return (struct pf_ext){ pf_get64(l->rec[i].r_key), pf_get64(l->rec[i].r_dblk), pf_get32(l->rec[i].r_len),
				pf_get32(l->rec[i].r_flags) };
}

static void put_at(struct level *l, unsigned int i, const struct pf_ext *e)
{
	l->rec[i] = (struct pf_d_rec){ pf_put64(e->key), pf_put64(e->dblk), pf_put32(e->len), pf_put32(e->flags) };
}

static void insert_at(struct level *l, unsigned int i, const struct pf_ext *e)
{
	unsigned int n = count_of(l);

	memmove(&l->rec[i + 1], &l->rec[i], (n - i) * sizeof l->rec[0]);
	put_at(l, i, e);
	set_count(l, n + 1);
}

static void delete_at(struct level *l, unsigned int i)
{
	unsigned int n = count_of(l);

	memmove(&l->rec[i], &l->rec[i + 1], (n - i - 1) * sizeof l->rec[0]);
	memset(&l->rec[n - 1], 0, sizeof l->rec[0]);
	set_count(l, n - 1);
}

/* Last record with key <= @key; false when there is none. */
static bool search(const struct level *l, uint64_t key, unsigned int *idx)
{
	unsigned int lo = 0, hi = count_of(l);

	while (lo < hi) {
		unsigned int mid = lo + (hi - lo) / 2;

		if (key_at(l, mid) <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	*idx = lo ? lo - 1 : 0;
	return lo != 0;
}

static unsigned int root_level(const struct pf_bm *bm)
{
	return pf_get16(bm->xroot ? bm->xroot->x_level : bm->root->t_level);
}

static void set_root_level(struct pf_bm *bm, unsigned int level)
{
	*(bm->xroot ? &bm->xroot->x_level : &bm->root->t_level) = pf_put16((uint16_t)level);
}

static void root_view(struct pf_bm *bm, struct level *l)
{
	if (bm->xroot)
		*l = (struct level){ bm->xroot->x_rec, &bm->xroot->x_count, PF_XROOT_RECS, 0, 0 };
	else
		*l = (struct level){ bm->root->t_rec, &bm->root->t_count, PF_ROOT_RECS, 0, 0 };
}

static int bad_tree(const struct pf_bm *bm, uint64_t dblk, const char *what)
{
	pf_fs_fail(bm->fs, PF_FAULT_DAMAGE, "inode %llu: tree node at block %llu: %s",
		   (unsigned long long)bm->owner, (unsigned long long)dblk, what);
	return -EUCLEAN;
}

/* The node at @dblk, expected at height @level; a shadow when @write. */
static int node_view(struct pf_bm *bm, uint64_t dblk, unsigned int level, bool write, struct level *l)
{
	struct pf_d_node *n;
	const void *ro;
	void *rw;
	int err;

	if (dblk == 0 || dblk >= bm->fs->nblk)
		return bad_tree(bm, dblk, "outside the device");
	if (write) {
		err = pf_tx_get(bm->tx, PF_MD_NODE, dblk << PF_BLK_SHIFT, bm->owner, &rw);
		if (err)
			return err;
		n = rw;
	} else {
		err = pf_tx_peek(bm->fs, bm->tx, PF_MD_NODE, dblk << PF_BLK_SHIFT, bm->owner, &ro);
		if (err)
			return err;
		n = (struct pf_d_node *)(uintptr_t)ro;	/* read only through a lookup's level */
	}
	if (pf_get16(n->n_hdr.h_level) != level || pf_get16(n->n_hdr.h_count) == 0)
		return bad_tree(bm, dblk, "wrong level or empty");
	*l = (struct level){ n->n_rec, &n->n_hdr.h_count, PF_NODE_RECS, 0, dblk };
	return 0;
}

/* Walk to the leaf that holds @key or would. */
static int descend(struct pf_bm *bm, uint64_t key, bool write, struct path *p)
{
	unsigned int level = root_level(bm);
	int err;

	if (level >= PF_TREE_LEVELS)
		return bad_tree(bm, 0, "too deep");
	p->depth = 1;
	root_view(bm, &p->lv[0]);
	for (;;) {
		struct level *l = &p->lv[p->depth - 1];

		p->found = search(l, key, &l->idx);
		if (level == 0)
			return 0;
		if (count_of(l) == 0)
			return bad_tree(bm, l->dblk, "empty above the leaves");
		err = node_view(bm, pf_get64(l->rec[l->idx].r_dblk), --level, write, &p->lv[p->depth]);
		if (err)
			return err;
		p->depth++;
	}
}

/* After a leaf's first key changed: the separators above follow. */
static void fix_separators(struct path *p)
{
	for (unsigned int d = p->depth - 1; d > 0 && count_of(&p->lv[d]) != 0; d--) {
		struct level *up = &p->lv[d - 1];

		up->rec[up->idx].r_key = p->lv[d].rec[0].r_key;
		if (up->idx != 0)
			break;
	}
}

/* Lookups ---------------------------------------------------------------------------------------- */

/*
 * Each node is sound by itself; that they fit together is seen here, before a caller computes with the record.
 * @behind: it must lie behind @key, else callers would go back and forth for ever.
 */
static int check_found(const struct pf_bm *bm, uint64_t key, const struct pf_ext *e, bool behind)
{
	if (e->len == 0)
		return 0;
	if (behind && e->key <= key)
		return bad_tree(bm, e->dblk, "records and separators disagree");
	if (!bm->dir && !pf_range_ok(e->key, e->len, PF_FILE_MAX >> PF_BLK_SHIFT))
		return bad_tree(bm, e->dblk, "a page that no file has");
	return 0;
}

/* The first record behind the leaf position of @p and behind @key: in the leaf, else leftmost below the next separator.
 */
static int step_right(struct pf_bm *bm, struct path *p, uint64_t key, struct pf_ext *ext)
{
	struct level *leaf = &p->lv[p->depth - 1];
	unsigned int next = p->found ? leaf->idx + 1 : 0, d, level;
	struct level l;
	int err;

	*ext = (struct pf_ext){ 0 };
	if (next < count_of(leaf)) {
		*ext = ext_at(leaf, next);
		return check_found(bm, key, ext, true);
	}
	for (d = p->depth - 1; d > 0; d--)
		if (p->lv[d - 1].idx + 1 < count_of(&p->lv[d - 1]))
			break;
	if (d == 0)
		return 0;
	l = p->lv[d - 1];
	l.idx++;
	for (level = p->depth - 1 - d; ; level--) {
		err = node_view(bm, pf_get64(l.rec[l.idx].r_dblk), level, false, &l);
		if (err)
			return err;
		if (level == 0)
			break;
	}
	*ext = ext_at(&l, 0);
	return check_found(bm, key, ext, true);
}

int pf_bm_floor(struct pf_bm *bm, uint64_t key, struct pf_ext *ext)
{
	struct path p;
	int err = descend(bm, key, false, &p);

	if (err)
		return err;
	*ext = p.found ? ext_at(&p.lv[p.depth - 1], p.lv[p.depth - 1].idx) : (struct pf_ext){ 0 };
	return check_found(bm, key, ext, false);
}

int pf_bm_next(struct pf_bm *bm, uint64_t key, struct pf_ext *ext)
{
	struct path p;
	int err = descend(bm, key, false, &p);

	return err ? err : step_right(bm, &p, key, ext);
}

int pf_bm_lookup(struct pf_bm *bm, uint64_t key, struct pf_ext *ext)
{
	struct path p;
	int err = descend(bm, key, false, &p);

	if (err)
		return err;
	if (p.found) {
		*ext = ext_at(&p.lv[p.depth - 1], p.lv[p.depth - 1].idx);
		if (key - ext->key < ext->len)
			return check_found(bm, key, ext, false);
	}
	return step_right(bm, &p, key, ext);
}

/* Growing ---------------------------------------------------------------------------------------- */

static int new_node(struct pf_bm *bm, unsigned int level, struct level *l)
{
	struct pf_d_node *n;
	uint64_t dblk;
	void *obj;
	int err;

	err = pf_tx_alloc_meta(bm->tx, 0, &dblk);
	if (err)
		return err;
	err = pf_tx_new(bm->tx, PF_MD_NODE, dblk << PF_BLK_SHIFT, bm->owner, bm->gen, &obj);
	if (err)
		return err;
	n = obj;
	n->n_hdr.h_level = pf_put16((uint16_t)level);
	*l = (struct level){ n->n_rec, &n->n_hdr.h_count, PF_NODE_RECS, 0, dblk };
	bm->node_delta++;
	return 0;
}

static int free_node(struct pf_bm *bm, uint64_t dblk)
{
	pf_tx_drop(bm->tx, dblk);
	bm->node_delta--;
	return pf_tx_free(bm->tx, (struct pf_run){ dblk, 1 });
}

/* The root is full: its records move one level down. */
static int push_down(struct pf_bm *bm)
{
	unsigned int level = root_level(bm), n;
	struct level root, child;
	int err;

	if (level + 1 >= PF_TREE_LEVELS)
		return -EFBIG;
	err = new_node(bm, level, &child);
	if (err)
		return err;
	root_view(bm, &root);
	n = count_of(&root);
	memcpy(child.rec, root.rec, n * sizeof child.rec[0]);
	set_count(&child, n);
	memset(root.rec, 0, n * sizeof root.rec[0]);
	put_at(&root, 0, &(struct pf_ext){ pf_get64(child.rec[0].r_key), child.dblk, 0, 0 });
	set_count(&root, 1);
	set_root_level(bm, level + 1);
	return 0;
}

/* @child, at @level, is full and hangs at up->rec[up->idx], where there is room for one more: halve it, or, when @key
 * goes behind everything (a file that grows), leave it full and start a new one. */
static int split(struct pf_bm *bm, struct level *up, struct level *child, unsigned int level, uint64_t key)
{
	unsigned int n = count_of(child), left = key > key_at(child, n - 1) ? n - 1 : n / 2;
	struct level right;
	int err;

	err = new_node(bm, level, &right);
	if (err)
		return err;
	memcpy(right.rec, child->rec + left, (n - left) * sizeof right.rec[0]);
	set_count(&right, n - left);
	memset(child->rec + left, 0, (n - left) * sizeof right.rec[0]);
	set_count(child, left);
	insert_at(up, up->idx + 1, &(struct pf_ext){ key_at(&right, 0), right.dblk, 0, 0 });
	return 0;
}

static int insert_rec(struct pf_bm *bm, const struct pf_ext *e)
{
	unsigned int level;
	struct level *l;
	struct path p;
	int err;

	root_view(bm, &p.lv[0]);
	if (count_of(&p.lv[0]) == p.lv[0].cap) {
		err = push_down(bm);
		if (err)
			return err;
	}
	level = root_level(bm);
	if (level >= PF_TREE_LEVELS)
		return bad_tree(bm, 0, "too deep");
	p.depth = 1;
	for (;;) {
		l = &p.lv[p.depth - 1];
		p.found = search(l, e->key, &l->idx);
		if (level == 0)
			break;
		if (count_of(l) == 0)
			return bad_tree(bm, l->dblk, "empty above the leaves");
		err = node_view(bm, pf_get64(l->rec[l->idx].r_dblk), level - 1, true, &p.lv[p.depth]);
		if (err)
			return err;
		if (count_of(&p.lv[p.depth]) == PF_NODE_RECS) {
			err = split(bm, l, &p.lv[p.depth], level - 1, e->key);
			if (err)
				return err;
			continue;	/* the same node again: the key may now belong to the new child */
		}
		p.depth++;
		level--;
	}
	insert_at(l, p.found ? l->idx + 1 : 0, e);
	if (!p.found)
		fix_separators(&p);
	return 0;
}

/* Shrinking -------------------------------------------------------------------------------------- */

/* lv[d] lost a record: free it when empty, merge it with a neighbour when sparse, pull a lone child into the root. */
static int tidy(struct pf_bm *bm, struct path *p)
{
	int err;

	for (unsigned int d = p->depth - 1; d > 0; d--) {
		struct level *l = &p->lv[d], *up = &p->lv[d - 1], other;
		unsigned int n = count_of(l), level = p->depth - 1 - d, left, m;

		if (n == 0) {
			err = free_node(bm, l->dblk);
			if (err)
				return err;
			delete_at(up, up->idx);
			if (up->idx == 0 && count_of(up) != 0) {
				struct path above = *p;

				above.depth = d;
				fix_separators(&above);
			}
			continue;
		}
		if (n >= PF_NODE_RECS / 4 || count_of(up) < 2)
			continue;
		/* Merge the right one of two neighbours into the left one when both fit with room to spare. */
		left = up->idx != 0 ? up->idx - 1 : 0;
		err = node_view(bm, pf_get64(up->rec[up->idx != 0 ? left : 1].r_dblk), level, true, &other);
		if (err)
			return err;
		m = count_of(&other);
		if (n + m > PF_NODE_RECS * 3 / 4)
			continue;
		if (up->idx == 0) {	/* l is the left one */
			memcpy(l->rec + n, other.rec, m * sizeof l->rec[0]);
			set_count(l, n + m);
			err = free_node(bm, other.dblk);
		} else {
			memcpy(other.rec + m, l->rec, n * sizeof l->rec[0]);
			set_count(&other, n + m);
			err = free_node(bm, l->dblk);
		}
		if (err)
			return err;
		delete_at(up, left + 1);
	}
	for (;;) {
		unsigned int level = root_level(bm), n;
		struct level root, child;

		root_view(bm, &root);
		if (level == 0)
			return 0;
		if (count_of(&root) == 0) {
			set_root_level(bm, 0);
			return 0;
		}
		if (count_of(&root) != 1)
			return 0;
		err = node_view(bm, pf_get64(root.rec[0].r_dblk), level - 1, false, &child);
		if (err)
			return err;
		n = count_of(&child);
		if (n > root.cap)
			return 0;
		memcpy(root.rec, child.rec, n * sizeof root.rec[0]);
		set_count(&root, n);
		set_root_level(bm, level - 1);
		err = free_node(bm, child.dblk);
		if (err)
			return err;
	}
}

/* The record whose key is exactly @key goes, or becomes *@now (whose key may only grow, and not past the next record).
 */
static int change_rec(struct pf_bm *bm, uint64_t key, const struct pf_ext *now)
{
	struct level *leaf;
	struct path p;
	int err = descend(bm, key, true, &p);

	if (err)
		return err;
	leaf = &p.lv[p.depth - 1];
	if (!p.found || key_at(leaf, leaf->idx) != key)
		return bad_tree(bm, leaf->dblk, "record vanished");
	if (now) {
		put_at(leaf, leaf->idx, now);
		if (leaf->idx == 0)
			fix_separators(&p);
		return 0;
	}
	delete_at(leaf, leaf->idx);
	if (leaf->idx == 0)
		fix_separators(&p);
	return tidy(bm, &p);
}

/* Public changes ---------------------------------------------------------------------------------- */

static bool joins(const struct pf_ext *a, const struct pf_ext *b)
{
	return a->len != 0 && b->len != 0 && a->key + a->len == b->key && a->dblk + a->len == b->dblk &&
	       a->flags == b->flags && a->len <= UINT32_MAX - b->len;
}

int pf_bm_insert(struct pf_bm *bm, const struct pf_ext *ext)
{
	struct pf_ext left, right, sum = *ext;
	int err;

	assert(bm->tx && ext->len != 0);
	if (bm->dir)
		return insert_rec(bm, ext);
	err = pf_bm_floor(bm, ext->key, &left);
	if (!err)
		err = pf_bm_next(bm, ext->key, &right);
	if (err)
		return err;
	if ((left.len != 0 && left.key + left.len > ext->key) || (right.len != 0 && right.key - ext->key < ext->len))
		return bad_tree(bm, ext->dblk, "extents overlap");
	if (joins(&sum, &right)) {
		sum.len += right.len;
		err = change_rec(bm, right.key, NULL);
		if (err)
			return err;
	}
	if (joins(&left, &sum)) {
		left.len += sum.len;
		return change_rec(bm, left.key, &left);
	}
	return insert_rec(bm, &sum);
}

/* Take pages [a, b) out of extent @e, which holds them all. */
static int cut(struct pf_bm *bm, const struct pf_ext *e, uint64_t a, uint64_t b, bool keep)
{
	uint64_t end = e->key + e->len;
	struct pf_ext head = *e, tail = *e;
	int err;

	head.len = (uint32_t)(a - e->key);
	tail.key = b;
	tail.dblk += b - e->key;
	tail.len = (uint32_t)(end - b);
	if (head.len != 0) {
		err = change_rec(bm, e->key, &head);
		if (!err && tail.len != 0)
			err = insert_rec(bm, &tail);
	} else {
		err = change_rec(bm, e->key, tail.len != 0 ? &tail : NULL);
	}
	if (err || keep)
		return err;
	return pf_tx_free(bm->tx, (struct pf_run){ e->dblk + (a - e->key), b - a });
}

/*
 * Cutting one extent dirties at most: the leaf and its separators' nodes, a neighbour and a new node at each of the
 * few levels, and the map blocks of the freed run. ROOM_MIN whole objects cover a tree of any size that a device
 * of 16 TiB can hold (4 levels), so a transaction which starts an extent can finish it.
 */
int pf_bm_remove(struct pf_bm *bm, uint64_t key, uint64_t len, bool keep, uint64_t *done_to, uint64_t *freed)
{
	uint64_t end = len > UINT64_MAX - key ? UINT64_MAX : key + len, at = key, gone = 0;
	int err = 0;

	assert(bm->tx);
	while (at < end && pf_tx_space_room(bm->tx) >= ROOM_MIN) {
		struct pf_ext e;
		uint64_t a, b;

		err = pf_bm_lookup(bm, at, &e);
		if (err)
			break;
		if (e.len == 0 || e.key >= end) {
			at = end;
			break;
		}
		a = pf_max64(e.key, at);
		b = pf_min64(e.key + e.len, end);
		/* A run's map blocks must fit too: one that spans many groups goes in pieces. */
		b = pf_min64(b, a + 4 * PF_GROUP_BLKS);
		err = cut(bm, &e, a, b, keep);
		if (err)
			break;
		gone += b - a;
		at = b;
	}
	*done_to = at;
	*freed = gone;
	return err;
}

int pf_bm_mark(struct pf_bm *bm, uint64_t key, uint64_t len, uint32_t flags, uint64_t *done_to)
{
	uint64_t end = len > UINT64_MAX - key ? UINT64_MAX : key + len, at = key;
	int err = 0;

	assert(bm->tx);
	while (at < end && pf_tx_space_room(bm->tx) >= ROOM_MIN) {
		struct pf_ext e, part;
		uint64_t a, b;

		err = pf_bm_lookup(bm, at, &e);
		if (err)
			break;
		if (e.len == 0 || e.key >= end) {
			at = end;
			break;
		}
		a = pf_max64(e.key, at);
		b = pf_min64(e.key + e.len, end);
		if (e.flags != flags) {
			part = (struct pf_ext){ a, e.dblk + (a - e.key), (uint32_t)(b - a), flags };
			err = cut(bm, &e, a, b, true);
			if (!err)
				err = pf_bm_insert(bm, &part);
			if (err)
				break;
		}
		at = b;
	}
	*done_to = at;
	return err;
}

int pf_bm_split(struct pf_bm *bm, uint64_t key)
{
	struct pf_ext e, tail;
	int err = pf_bm_lookup(bm, key, &e);

	if (err || e.len == 0 || e.key >= key)
		return err;
	tail = (struct pf_ext){ key, e.dblk + (key - e.key), (uint32_t)(e.key + e.len - key), e.flags };
	e.len = (uint32_t)(key - e.key);
	err = change_rec(bm, e.key, &e);
	return err ? err : insert_rec(bm, &tail);
}

/* Moving records ----------------------------------------------------------------------------------- */

static void add_key(struct level *l, unsigned int i, uint64_t by)
{
	l->rec[i].r_key = pf_put64(key_at(l, i) + by);
}

/*
 * The separators above a leaf follow its first key and stay in order: on the way down the left neighbours have moved
 * already, on the way up the right ones.
 */
int pf_bm_shift_down(struct pf_bm *bm, uint64_t by, uint64_t *pos, bool *done)
{
	*done = false;
	while (pf_tx_space_room(bm->tx) >= ROOM_MIN) {
		struct pf_ext e, left = { 0 };
		struct level *leaf;
		struct path p;
		int err = pf_bm_lookup(bm, *pos, &e);

		if (!err && e.len == 0) {
			*done = true;
			return 0;
		}
		if (!err && e.key != 0)
			err = pf_bm_floor(bm, e.key - 1, &left);
		if (err)
			return err;
		if (by == 0 || e.key < *pos || e.key < by || e.key - by < left.key + left.len)
			return bad_tree(bm, e.dblk, "no room to move an extent to the front");
		err = descend(bm, e.key, true, &p);
		if (err)
			return err;
		leaf = &p.lv[p.depth - 1];
		for (unsigned int i = leaf->idx; i < count_of(leaf); i++) {
			*pos = key_at(leaf, i) + pf_get32(leaf->rec[i].r_len);
			add_key(leaf, i, -by);
		}
		if (leaf->idx == 0)
			fix_separators(&p);
	}
	return 0;
}

int pf_bm_shift_up(struct pf_bm *bm, uint64_t from, uint64_t by, uint64_t *pos, bool *done)
{
	const uint64_t end = PF_FILE_MAX >> PF_BLK_SHIFT;

	*done = false;
	while (pf_tx_space_room(bm->tx) >= ROOM_MIN) {
		struct pf_ext e = { 0 }, right;
		struct level *leaf;
		unsigned int i;
		struct path p;
		int err = *pos > from ? pf_bm_floor(bm, *pos - 1, &e) : 0;

		if (!err && (e.len == 0 || e.key < from)) {
			*done = true;
			return 0;
		}
		if (!err)
			err = pf_bm_next(bm, e.key, &right);
		if (err)
			return err;
		if (by == 0 || by > end - (e.key + e.len) || (right.len != 0 && e.key + e.len + by > right.key))
			return bad_tree(bm, e.dblk, "no room to move an extent to the back");
		err = descend(bm, e.key, true, &p);
		if (err)
			return err;
		leaf = &p.lv[p.depth - 1];
		for (i = leaf->idx + 1; i-- > 0 && key_at(leaf, i) >= from;) {
			*pos = key_at(leaf, i);
			add_key(leaf, i, by);
		}
		if (key_at(leaf, 0) == *pos + by)
			fix_separators(&p);
	}
	return 0;
}
