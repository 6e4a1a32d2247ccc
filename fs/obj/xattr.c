/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr.c - extended attributes: what a record of theirs looks like, and values in blocks of their own; leaf.c keeps
 * the records.
 *
 * A change is one transaction, so a value is the old one or the new one, whole. Blocks of a new value are filled
 * before it, those of the old value are freed by it. Takes no lock: the inode's is the caller's.
 */
#include "obj/xattr.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/fail.h"
#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "media/xleaf.h"
#include "obj/leaf.h"

#define REC_MAX (280U + PF_XATTR_INLINE)	/* fixed part with the longest name, and the longest value beside it */
/* Groups of the device that a value's blocks may lie in: each costs the transaction a map block, and to replace a value
 * costs those of two. */
#define GROUPS_MAX 8U
/* Whole objects that freeing one attribute may need: its map blocks as the allocator counts them, leaf, nodes. */
#define CUT_ROOM 22U

_Static_assert(offsetof(struct pf_d_xent, xe_key) == 0, "the key comes first");
_Static_assert(sizeof(struct pf_d_xent) == PF_LEAF_REC_MIN, "the shortest record");
_Static_assert(PF_XATTR_RUNS * sizeof(struct pf_d_xrun) <= PF_XATTR_INLINE, "runs fit where a value does");

/* ---- records ---- */

static unsigned int need(const void *rec)
{
	const struct pf_d_xent *xe = rec;
	uint32_t vlen = pf_get32(xe->xe_vlen);

	if (xe->xe_namelen == 0)
		return 0;
	if (xe->xe_nrun == 0 ? vlen > PF_XATTR_INLINE : xe->xe_nrun > PF_XATTR_RUNS)
		return UINT_MAX;
	return pf_xent_need(xe->xe_namelen, xe->xe_nrun, vlen);
}

static const char *name_of(const void *rec, size_t *len)
{
	const struct pf_d_xent *xe = rec;

	*len = xe->xe_namelen;
	return (const char *)rec + offsetof(struct pf_d_xent, xe_name);
}

static const struct pf_leaf_kind kind = {
	.md = PF_MD_XATTR,
	.reclen = offsetof(struct pf_d_xent, xe_reclen),
	.need = need,
	.name = name_of,
	.tree = pf_inode_xbm,
};

static struct pf_names names_of(struct pf_inode *ip, struct pf_tx *tx)
{
	return (struct pf_names){ .ip = ip, .tx = tx, .kind = &kind };
}

static const struct pf_d_xrun *runs_of(const struct pf_d_xent *xe)
{
	return (const void *)((const uint8_t *)xe + pf_xent_need(xe->xe_namelen, 0, 0));
}

static int damaged(const struct pf_inode *ip, const char *what)
{
	pf_fs_fail(ip->fs, PF_FAULT_DAMAGE, "damaged attribute of inode %" PRIu64 ": %s", ip->ino, what);
	return -EUCLEAN;
}

/* ---- reading ---- */

/* The value in blocks, which a checksum of its own covers. */
static int read_runs(struct pf_inode *ip, const struct pf_d_xent *xe, uint8_t *buf)
{
	const struct pf_d_xrun *run = runs_of(xe);
	size_t left = pf_get32(xe->xe_vlen), at = 0;

	for (unsigned int i = 0; i < xe->xe_nrun && left > 0; i++) {
		uint64_t dblk = pf_get64(run[i].xr_dblk), nblk = pf_get64(run[i].xr_nblk);
		size_t n = (size_t)pf_min64(left, nblk <= PF_XATTR_VALUE_MAX ? nblk << PF_BLK_SHIFT : left);

		if (!pf_data_range_ok(ip->fs, ip->ino, dblk, nblk))
			return damaged(ip, "value outside the data area");
		if (pf_bad_first(ip->fs, dblk, nblk, NULL) != PF_BAD_NONE)
			return -EIO;
		memcpy(buf + at, pf_pm_at(ip->fs->pm, dblk << PF_BLK_SHIFT), n);
		at += n;
		left -= n;
	}
	if (left > 0 || pf_crc32c(0, buf, at) != pf_get32(xe->xe_vcrc))
		return damaged(ip, "checksum of a value");
	return 0;
}

int pf_xattr_get(struct pf_inode *ip, const char *name, void *buf, size_t size, size_t *len)
{
	const struct pf_names t = names_of(ip, NULL);
	const struct pf_d_xent *xe;
	struct pf_leaf_spot spot;
	const void *rec;
	size_t n;
	int err;

	if (!pf_xattr_any(ip))
		return -ENODATA;
	err = pf_leaf_search(&t, name, strlen(name), &spot);
	if (err == 0 && spot.off == 0)
		err = -ENODATA;
	if (err == 0)
		err = pf_leaf_peek(&t, &spot, &rec);
	if (err != 0)
		return err;
	xe = rec;
	n = pf_get32(xe->xe_vlen);
	if (size != 0 && n > size)
		return -ERANGE;
	if (size != 0 && xe->xe_nrun != 0)
		err = read_runs(ip, xe, buf);
	else if (size != 0)
		memcpy(buf, runs_of(xe), n);
	if (err == 0)
		*len = n;
	return err;
}

int pf_xattr_each(struct pf_inode *ip, pf_xattr_fn fn, void *arg)
{
	const struct pf_names t = names_of(ip, NULL);
	struct pf_leaf_sorted *s;
	uint64_t after = 0;
	bool more = true;
	int err = 0;

	if (!pf_xattr_any(ip))
		return 0;
	s = malloc(sizeof *s);
	if (s == NULL)
		return -ENOMEM;
	while (more) {
		err = pf_leaf_read(&t, after, s);
		if (err != 0 || s->n == 0)
			break;
		for (unsigned int i = 0; i < s->n && more; i++) {
			size_t len;
			const char *name = name_of(s->rec[i], &len);

			if (pf_leaf_rec_key(s->rec[i]) > after)
				more = fn(arg, name, len);
		}
		after = pf_leaf_rec_key(s->rec[s->n - 1]);
	}
	free(s);
	return err;
}

/* ---- values in blocks ---- */

static bool too_scattered(const struct pf_xchange *x)
{
	unsigned int groups = 0;

	for (unsigned int i = 0; i < x->nrun; i++) {
		bool seen = false;

		for (unsigned int j = 0; j < i; j++)
			seen = seen || x->run[j].dblk / PF_GROUP_BLKS == x->run[i].dblk / PF_GROUP_BLKS;
		groups += !seen;
		groups += x->run[i].dblk / PF_GROUP_BLKS !=
			  (x->run[i].dblk + x->run[i].nblk - 1) / PF_GROUP_BLKS;
	}
	return groups > GROUPS_MAX;
}

static int reserve(struct pf_fs *fs, struct pf_xchange *x)
{
	uint64_t left = PF_DIV_UP(x->len, PF_BLK_SIZE);

	while (left > 0) {
		struct pf_run *r = &x->run[x->nrun];
		uint64_t goal = x->nrun != 0 ? r[-1].dblk + r[-1].nblk : 0;
		int err = pf_alloc_reserve(fs, left, 1, goal, 0, r);

		if (err != 0)
			return err;
		x->nrun++;	/* of at least a block each: never more than there are places for */
		left -= r->nblk;
	}
	return too_scattered(x) ? -ENOSPC : 0;
}

int pf_xattr_prepare(struct pf_fs *fs, struct pf_xchange *x)
{
	const uint8_t *from = x->value;
	size_t left = x->len;
	int err;

	x->nrun = x->taken = 0;
	if (x->value == NULL || x->len <= PF_XATTR_INLINE)
		return 0;
	assert(x->len <= PF_XATTR_VALUE_MAX);
	err = reserve(fs, x);
	for (unsigned int i = 0; err == 0 && i < x->nrun; i++) {
		uint64_t doff = x->run[i].dblk << PF_BLK_SHIFT, room = x->run[i].nblk << PF_BLK_SHIFT;
		size_t n = (size_t)pf_min64(left, room);

		pf_pm_write(fs->pm, doff, from, n);
		if (n < room)
			pf_pm_zero(fs->pm, doff + n, room - n);
		from += n;
		left -= n;
	}
	if (err == 0)
		err = PF_DRAIN(fs->pm, XATTR);
	x->crc = pf_crc32c(0, x->value, x->len);
	if (err != 0)
		pf_xattr_drop(fs, x);
	return err;
}

void pf_xattr_drop(struct pf_fs *fs, struct pf_xchange *x)
{
	for (unsigned int i = x->taken; i < x->nrun; i++)
		pf_alloc_unreserve(fs, x->run[i]);
	x->nrun = x->taken = 0;
}

/* The blocks of a value that goes, copied from its record, which goes before them: to take a record out of the tree
 * wants more room left in the transaction than there is once the map blocks of a scattered value are counted. */
struct old_value { unsigned int nrun; struct pf_run run[PF_XATTR_RUNS]; };

static struct old_value value_of(const struct pf_d_xent *xe)
{
	const struct pf_d_xrun *run = runs_of(xe);
	struct old_value o = { .nrun = xe->xe_nrun };

	for (unsigned int i = 0; i < o.nrun && i < PF_XATTR_RUNS; i++)
		o.run[i] = (struct pf_run){ pf_get64(run[i].xr_dblk), pf_get64(run[i].xr_nblk) };
	return o;
}

static int free_value(struct pf_tx *tx, struct pf_inode *ip, const struct old_value *o)
{
	int err = 0;

	for (unsigned int i = 0; i < o->nrun && err == 0; i++) {
		err = pf_tx_free(tx, o->run[i]);
		if (err == 0)
			pf_inode_blocks(ip, -(int64_t)o->run[i].nblk);
	}
	return err;
}

static int use_value(struct pf_tx *tx, struct pf_inode *ip, struct pf_xchange *x)
{
	int err = 0;

	while (err == 0 && x->taken < x->nrun) {
		err = pf_tx_use(tx, x->run[x->taken++]);
		if (err == 0)
			pf_inode_blocks(ip, (int64_t)x->run[x->taken - 1].nblk);
	}
	return err;
}

/* ---- changes ---- */

static bool add_len(void *arg, const char *name PF_UNUSED, size_t len)
{
	*(uint32_t *)arg += (uint32_t)len + 1;
	return true;
}

/* One name more or fewer: will listxattr(2) be able to show them all? Counted once for an inode in memory. */
static int count_name(struct pf_inode *ip, const char *name, bool more)
{
	const uint32_t len = (uint32_t)strlen(name) + 1;
	uint32_t n = 1;
	int err;

	if (ip->xm_sh.list == 0) {
		err = pf_xattr_each(ip, add_len, &n);
		if (err != 0)
			return err;
		ip->xm_sh.list = n;
	}
	if (more && ip->xm_sh.list - 1 + len > PF_XATTR_LIST_MAX)
		return -ENOSPC;
	ip->xm_sh.list += more ? len : -len;
	return 0;
}

static unsigned int make_rec(const struct pf_xchange *x, uint64_t key, struct pf_d_xent *xe)
{
	const unsigned int namelen = (unsigned int)strlen(x->name), fixed = pf_xent_need(namelen, 0, 0);
	struct pf_d_xrun *run = (void *)((uint8_t *)xe + fixed);

	memset(xe, 0, REC_MAX);
	xe->xe_key = pf_put64(key);
	xe->xe_namelen = (uint8_t)namelen;
	xe->xe_nrun = (uint8_t)x->nrun;
	xe->xe_vlen = pf_put32((uint32_t)x->len);
	memcpy((char *)xe + offsetof(struct pf_d_xent, xe_name), x->name, namelen);
	if (x->nrun != 0)
		xe->xe_vcrc = pf_put32(x->crc);
	else if (x->len != 0)
		memcpy(run, x->value, x->len);
	for (unsigned int i = 0; i < x->nrun; i++)
		run[i] = (struct pf_d_xrun){ pf_put64(x->run[i].dblk), pf_put64(x->run[i].nblk) };
	return pf_xent_need(namelen, x->nrun, (uint32_t)x->len);
}

/* What a call may not do to what is there. */
static int check_flags(const struct pf_xchange *x, bool found)
{
	if (found)
		return x->flags & XATTR_CREATE ? -EEXIST : 0;
	return x->value == NULL || (x->flags & XATTR_REPLACE) ? -ENODATA : 0;
}

static int put(const struct pf_names *t, struct pf_xchange *x, const struct pf_leaf_spot *spot,
	       const struct pf_d_xent *old)
{
	union { struct pf_d_xent xe; uint8_t bytes[REC_MAX]; } rec;
	struct old_value gone = { .nrun = 0 };
	unsigned int len;
	uint64_t key = 0;
	int err = 0;

	if (old != NULL) {
		key = pf_get64(old->xe_key);
		gone = value_of(old);
	} else {
		err = pf_leaf_key(spot, &key);
		if (err == 0)
			err = count_name(t->ip, x->name, true);
	}
	if (err != 0)
		return err;
	len = make_rec(x, key, &rec.xe);
	err = old != NULL ? pf_leaf_replace(t, spot, &rec, len) : pf_leaf_add(t, &rec, len);
	if (err == 0)
		err = use_value(t->tx, t->ip, x);
	return err == 0 ? free_value(t->tx, t->ip, &gone) : err;
}

int pf_xattr_apply(struct pf_tx *tx, struct pf_inode *ip, struct pf_xchange *x)
{
	const struct pf_names t = names_of(ip, tx);
	struct pf_leaf_spot spot;
	struct old_value gone;
	const void *old = NULL;
	int err;

	err = pf_leaf_search(&t, x->name, strlen(x->name), &spot);
	if (err == 0)
		err = check_flags(x, spot.off != 0);
	if (err == -ENODATA && x->value == NULL && x->missing_ok)
		return 0;
	if (err == 0 && spot.off != 0)
		err = pf_leaf_peek(&t, &spot, &old);
	if (err != 0)
		return err;
	if (strcmp(x->name, PF_XATTR_CAP) == 0)
		ip->xm_sh.no_cap = x->value == NULL;
	if (x->value != NULL)
		return put(&t, x, &spot, old);
	gone = value_of(old);
	err = count_name(ip, x->name, false);
	if (err == 0)
		err = pf_leaf_del(&t, &spot);
	return err == 0 ? free_value(tx, ip, &gone) : err;
}

/* Said before space is looked for: an attribute that may not be made must not fail for want of it. *nothing: all is as
 * it should be already. */
static int check_first(struct pf_inode *ip, const struct pf_xchange *x, bool *nothing)
{
	const struct pf_names t = names_of(ip, NULL);
	struct pf_leaf_spot spot;
	const void *rec = NULL;
	int err = pf_leaf_search(&t, x->name, strlen(x->name), &spot);

	*nothing = false;
	if (err == 0)
		err = check_flags(x, spot.off != 0);
	if (err == -ENODATA && x->value == NULL && x->missing_ok) {
		*nothing = true;
		return 0;
	}
	if (err == 0 && spot.off != 0 && x->value != NULL && x->len <= PF_XATTR_INLINE) {
		err = pf_leaf_peek(&t, &spot, &rec);
		*nothing = err == 0 && pf_get32(((const struct pf_d_xent *)rec)->xe_vlen) == x->len &&
			   memcmp(runs_of(rec), x->value, x->len) == 0;
	}
	return err;
}

int pf_xattr_change(struct pf_inode *ip, struct pf_xchange *x, const struct pf_also *also)
{
	struct pf_d_inode *di;
	struct pf_tx *tx;
	bool nothing;
	int err;

	err = check_first(ip, x, &nothing);
	/* As on ext4, what changes nothing does not touch ctime. */
	if (err != 0 || (nothing && also == NULL))
		return err;
	err = pf_xattr_prepare(ip->fs, x);
	if (err == 0)
		err = pf_inode_begin(ip, &tx, &di);
	if (err != 0)
		goto out_drop;
	if (x->value == NULL)
		pf_tx_use_kept(tx);
	err = pf_xattr_apply(tx, ip, x);
	if (err != 0) {
		pf_tx_abort(tx);
		goto out_drop;
	}
	pf_set_ctime(di, pf_now());
	if (also != NULL)
		also->fn(di, also->arg);
	err = pf_tx_commit(tx);
out_drop:
	pf_xattr_drop(ip->fs, x);
	return err;
}

int pf_xattr_kill_cap(struct pf_inode *ip)
{
	struct pf_xchange x = { .name = PF_XATTR_CAP };
	int err;

	if (ip->xm.no_cap || !pf_xattr_any(ip))
		return 0;
	err = pf_xattr_change(ip, &x, NULL);
	if (err != 0 && err != -ENODATA)
		return err;
	ip->xm.no_cap = true;
	return 0;
}

/* ---- the end of an inode ---- */

/* The last attribute of the last leaf whose value lies in blocks; else the whole leaf, which then has nothing more.
 * From the back, because a tree of names begins with key 0 at any time. */
static int cut_one(const struct pf_names *t, struct pf_bm *bm, const struct pf_ext *ext)
{
	struct pf_leaf_spot spot = { .leaf = *ext };
	struct old_value gone = { .nrun = 0 };
	uint64_t done_to, freed = 0;
	unsigned int off = PF_XLEAF_FIRST;
	struct pf_xview v;
	const void *leaf;
	int err;

	if (ext->len == 0)
		return damaged(t->ip, "a tree without leaves");
	err = pf_tx_peek(t->ip->fs, t->tx, PF_MD_XATTR, ext->dblk << PF_BLK_SHIFT, t->ip->ino, &leaf);
	if (err != 0)
		return err;
	while (pf_xleaf_next(leaf, &off, &v))
		if (v.nrun != 0)
			spot.off = v.off;
	if (spot.off != 0) {
		gone = value_of((const void *)((const uint8_t *)leaf + spot.off));
		err = pf_leaf_del(t, &spot);
		return err == 0 ? free_value(t->tx, t->ip, &gone) : err;
	}
	err = pf_bm_remove(bm, ext->key, 1, false, &done_to, &freed);
	if (err == 0)
		pf_inode_blocks(t->ip, bm->node_delta - (int64_t)freed);
	bm->node_delta = 0;
	return err;
}

int pf_xattr_cut(struct pf_tx *tx, struct pf_inode *ip, bool *done)
{
	const struct pf_names t = names_of(ip, tx);
	struct pf_bm bm = pf_inode_xbm(ip, tx);
	struct pf_ext ext;
	int err = 0;

	*done = pf_get16(ip->sh->i_xroot.x_count) == 0;
	while (!*done && err == 0 && pf_tx_space_room(tx) >= CUT_ROOM) {
		err = pf_bm_floor(&bm, UINT64_MAX, &ext);
		if (err == 0)
			err = cut_one(&t, &bm, &ext);
		*done = pf_get16(ip->sh->i_xroot.x_count) == 0;
	}
	ip->xm_sh.list = 0;
	return err;
}
