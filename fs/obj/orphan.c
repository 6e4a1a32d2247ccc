/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * orphan.c - the orphan file: slots that name inodes, found without reading.
 *
 * Owns a table of its blocks in memory. It only grows: entries are published by nblk, so it is read without a lock
 * inside transactions. Locks: grow_lock (REGISTRY) for adding blocks; each block's lock (ORPHAN) from its change to
 * the end of the transaction.
 */
#include "obj/orphan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "space/itable.h"

#define BLK_SLOTS (sizeof(((struct pf_d_orphan *)0)->o_ino) / sizeof(pf_le64))
#define BLKS_MAX 4096U		/* two million inodes at a time */

struct oblk {
	struct pf_mutex lock;	/* ORPHAN */
	uint64_t doff;
	_Atomic uint32_t nfree;
	/* While locked: what this transaction changes. */
	struct pf_inode *const *v;
	unsigned int n;
	struct pf_inode *one;	/* v, when it is one */
	uint32_t blk, slot;
	bool add;
};

struct pf_orph {
	struct pf_mutex grow_lock;	/* REGISTRY: ip's tree, and who may append */
	struct pf_inode *ip;		/* the orphan file; not in the cache */
	_Atomic uint32_t nblk;
	struct oblk *blk[BLKS_MAX];
	_Atomic uint32_t next;		/* spreads the users over the blocks */
};

static int add_block(struct pf_orph *o, uint64_t dblk, uint32_t nfree)
{
	uint32_t n = atomic_load(&o->nblk);
	struct oblk *b;

	if (n == BLKS_MAX)
		return -ENOSPC;
	b = calloc(1, sizeof *b);
	if (b == NULL)
		return -ENOMEM;
	pf_mutex_init(&b->lock, PF_RANK_ORPHAN);
	b->doff = dblk << PF_BLK_SHIFT;
	b->blk = n;
	atomic_init(&b->nfree, nfree);
	o->blk[n] = b;
	atomic_store(&o->nblk, n + 1);
	return 0;
}

static int read_blocks(struct pf_fs *fs, struct pf_orph *o)
{
	struct pf_bm bm = pf_inode_bm(o->ip, NULL);
	struct pf_ext e;
	int err;

	for (uint64_t key = 0;; key = e.key + e.len) {
		err = pf_bm_lookup(&bm, key, &e);
		if (err != 0 || e.len == 0)
			return err;
		for (uint64_t i = key > e.key ? key - e.key : 0; i < e.len; i++) {
			const struct pf_d_hdr *h;
			const void *obj;

			err = pf_md_get(fs, PF_MD_ORPHAN, (e.dblk + i) << PF_BLK_SHIFT, PF_INO_ORPHAN, &obj);
			h = obj;
			if (err == 0)
				err = add_block(o, e.dblk + i, (uint32_t)BLK_SLOTS - pf_get16(h->h_count));
			if (err != 0)
				return err;
		}
	}
}

int pf_orph_init(struct pf_fs *fs)
{
	struct pf_orph *o = calloc(1, sizeof *o);
	int err = -ENOMEM;

	if (o == NULL)
		return -ENOMEM;
	fs->orph = o;
	pf_mutex_init(&o->grow_lock, PF_RANK_REGISTRY);
	o->ip = pf_inode_spare(fs);
	if (o->ip == NULL)
		goto out;
	o->ip->ino = PF_INO_ORPHAN;
	err = pf_itab_read(fs, PF_INO_ORPHAN, &o->ip->d, &o->ip->doff);
	if (err != 0)
		goto out;
	o->ip->gen = pf_get32(o->ip->d.i_gen);
	o->ip->fmt = S_IFREG;
	err = read_blocks(fs, o);
out:
	if (err != 0)
		pf_orph_fini(fs);
	return err;
}

void pf_orph_fini(struct pf_fs *fs)
{
	struct pf_orph *o = fs->orph;

	if (o == NULL)
		return;
	for (uint32_t i = 0; i < atomic_load(&o->nblk); i++) {
		pf_mutex_fini(&o->blk[i]->lock);
		free(o->blk[i]);
	}
	pf_inode_spare_free(o->ip);
	pf_mutex_fini(&o->grow_lock);
	free(o);
	fs->orph = NULL;
}

int pf_orph_grow(struct pf_fs *fs)
{
	struct pf_orph *o = fs->orph;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	struct pf_bm bm;
	uint64_t dblk = 0;
	uint32_t n;
	void *obj;
	int err;

	pf_mutex_lock(&o->grow_lock);
	n = atomic_load(&o->nblk);
	for (uint32_t i = 0; i < n; i++) {
		if (atomic_load(&o->blk[i]->nfree) == 0)
			continue;
		/* Somebody else grew it, or an unlink was undone: use that. */
		pf_mutex_unlock(&o->grow_lock);
		return 0;
	}
	err = n == BLKS_MAX ? -ENOSPC : pf_tx_begin(fs, &tx);
	if (err != 0)
		goto out;
	pf_tx_use_kept(tx);	/* what is to be freed may have to wait on this list */
	err = pf_inode_edit(tx, o->ip, &di);
	if (err == 0)
		err = pf_tx_alloc_meta(tx, 0, &dblk);
	if (err == 0)
		err = pf_tx_new(tx, PF_MD_ORPHAN, dblk << PF_BLK_SHIFT, PF_INO_ORPHAN, o->ip->gen, &obj);
	if (err == 0) {
		bm = pf_inode_bm(o->ip, tx);
		err = pf_bm_insert(&bm, &(struct pf_ext){ .key = n, .dblk = dblk, .len = 1 });
	}
	if (err != 0) {
		pf_tx_abort(tx);
		goto out;
	}
	pf_inode_blocks(o->ip, 1 + bm.node_delta);
	di->i_size = pf_put64((uint64_t)(n + 1) << PF_BLK_SHIFT);
	err = pf_tx_commit(tx);
	if (err == 0)
		err = add_block(o, dblk, (uint32_t)BLK_SLOTS);
out:
	pf_mutex_unlock(&o->grow_lock);
	return err;
}

/* ---- one entry ---- */

static void change_end(void *arg, bool committed)
{
	struct oblk *b = arg;

	for (unsigned int i = 0; i < b->n && committed; i++) {
		b->v[i]->orph_blk = b->add ? b->blk + 1 : 0;
		if (b->add)
			b->v[i]->orph_slot = b->slot;
	}
	if (committed && b->add)
		atomic_fetch_sub(&b->nfree, b->n);
	else if (committed)
		atomic_fetch_add(&b->nfree, b->n);
	b->v = NULL;
	b->n = 0;
	pf_mutex_unlock(&b->lock);
}

/* @b is locked; from here on the transaction's end unlocks it, unless this fails. */
static int change(struct pf_tx *tx, struct oblk *b, struct pf_inode *const *v, unsigned int n, bool add)
{
	struct pf_d_orphan *od;
	uint32_t slot = 0;
	void *obj;
	int err;

	err = pf_tx_get(tx, PF_MD_ORPHAN, b->doff, PF_INO_ORPHAN, &obj);
	if (err != 0)
		return err;
	od = obj;
	if (add)
		while (slot < BLK_SLOTS && pf_get64(od->o_ino[slot]) != 0)
			slot++;
	for (unsigned int i = 0; i < n && !add; i++)
		if (v[i]->orph_slot >= BLK_SLOTS || pf_get64(od->o_ino[v[i]->orph_slot]) != v[i]->ino)
			return -EUCLEAN;
	if (slot >= BLK_SLOTS)
		return -EUCLEAN;
	err = pf_tx_at_end(tx, change_end, b);
	if (err != 0)
		return err;
	b->v = v;
	b->n = n;
	b->slot = slot;
	b->add = add;
	if (add)
		od->o_ino[slot] = pf_put64(v[0]->ino);
	for (unsigned int i = 0; i < n && !add; i++)
		od->o_ino[v[i]->orph_slot] = pf_put64(0);
	od->o_hdr.h_count = pf_put16((uint16_t)(pf_get16(od->o_hdr.h_count) + (add ? 1 : -(int)n)));
	return 0;
}

static int change_one(struct pf_tx *tx, struct oblk *b, struct pf_inode *ip, bool add)
{
	b->one = ip;
	return change(tx, b, &b->one, 1, add);
}

/* A block with a free slot, locked. One that nobody holds, if there is any. */
static struct oblk *pick(struct pf_orph *o)
{
	uint32_t n = atomic_load(&o->nblk), first = atomic_fetch_add(&o->next, 1);
	struct oblk *b;

	for (uint32_t i = 0; i < n; i++) {
		b = o->blk[(first + i) % n];
		if (atomic_load(&b->nfree) == 0 || !pf_mutex_trylock(&b->lock))
			continue;
		if (atomic_load(&b->nfree) > 0)
			return b;
		pf_mutex_unlock(&b->lock);
	}
	for (uint32_t i = 0; i < n; i++) {
		b = o->blk[(first + i) % n];
		if (atomic_load(&b->nfree) == 0)
			continue;
		pf_mutex_lock(&b->lock);
		if (atomic_load(&b->nfree) > 0)
			return b;
		pf_mutex_unlock(&b->lock);
	}
	return NULL;
}

int pf_orph_add(struct pf_tx *tx, struct pf_inode *ip)
{
	struct oblk *b;
	int err;

	if (ip->orph_blk != 0)
		return 0;
	b = pick(ip->fs->orph);
	if (b == NULL)
		return -EAGAIN;
	err = change_one(tx, b, ip, true);
	if (err != 0)
		pf_mutex_unlock(&b->lock);
	return err;
}

int pf_orph_del(struct pf_tx *tx, struct pf_inode *ip)
{
	struct oblk *b;
	int err;

	if (ip->orph_blk == 0)
		return 0;
	b = ip->fs->orph->blk[ip->orph_blk - 1];
	pf_mutex_lock(&b->lock);
	err = change_one(tx, b, ip, false);
	if (err != 0)
		pf_mutex_unlock(&b->lock);
	return err;
}

int pf_orph_del_many(struct pf_tx *tx, struct pf_inode *const *v, unsigned int n)
{
	struct oblk *b = v[0]->fs->orph->blk[v[0]->orph_blk - 1];
	int err;

	for (unsigned int i = 0; i < n; i++)
		assert(v[i]->orph_blk == v[0]->orph_blk);
	pf_mutex_lock(&b->lock);
	err = change(tx, b, v, n, false);
	if (err != 0)
		pf_mutex_unlock(&b->lock);
	return err;
}

/* ---- mount ---- */

typedef int (*slot_fn)(struct pf_fs *fs, struct oblk *b, uint32_t slot, uint64_t ino, void *arg);

static int for_each(struct pf_fs *fs, slot_fn fn, void *arg)
{
	struct pf_orph *o = fs->orph;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < atomic_load(&o->nblk); i++) {
		const void *obj;

		err = pf_md_get(fs, PF_MD_ORPHAN, o->blk[i]->doff, PF_INO_ORPHAN, &obj);
		for (uint32_t slot = 0; err == 0 && slot < BLK_SLOTS; slot++) {
			uint64_t ino = pf_get64(((const struct pf_d_orphan *)obj)->o_ino[slot]);

			if (ino != 0)
				err = fn(fs, o->blk[i], slot, ino, arg);
		}
	}
	return err;
}

static int process_one(struct pf_fs *fs, struct oblk *b, uint32_t slot, uint64_t ino, void *arg)
{
	uint64_t *n = arg;
	struct pf_inode *ip;
	int err;

	err = pf_inode_get_orphan(fs, ino, &ip);
	if (err != 0) {
		pf_warn("orphan inode %" PRIu64 ": %s", ino, strerror(-err));
		return 0;
	}
	ip->orph_blk = b->blk + 1;
	ip->orph_slot = slot;
	++*n;
	pf_rwlock_wrlock(&ip->lock);
	err = pf_inode_nlink(ip) > 0 ? pf_inode_settle(ip) : 0;
	pf_rwlock_unlock(&ip->lock);
	if (err != 0)
		pf_warn("inode %" PRIu64 ": its half-done truncate or punch cannot be finished: %s", ino,
			strerror(-err));
	pf_inode_put(ip);
	return 0;
}

int pf_orph_process(struct pf_fs *fs, uint64_t *n)
{
	*n = 0;
	return for_each(fs, process_one, n);
}

static int check_one(struct pf_fs *fs, struct oblk *b, uint32_t slot, uint64_t ino, void *arg)
{
	bool *yes = arg;
	struct pf_inode *ip;

	(void)b;
	(void)slot;
	if (pf_inode_get_orphan(fs, ino, &ip) != 0)
		return 0;
	if (pf_inode_nlink(ip) > 0 && pf_get32(ip->d.i_intent) >= PF_INTENT_PUNCH)
		*yes = true;
	pf_inode_put(ip);
	return 0;
}

int pf_orph_unreadable(struct pf_fs *fs, bool *yes)
{
	*yes = false;
	return for_each(fs, check_one, yes);
}

bool pf_orph_none(struct pf_fs *fs)
{
	struct pf_orph *o = fs->orph;

	for (uint32_t i = 0; i < atomic_load(&o->nblk); i++)
		if (atomic_load(&o->blk[i]->nfree) != BLK_SLOTS)
			return false;
	return true;
}
