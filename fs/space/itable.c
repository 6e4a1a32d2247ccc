/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * itable.c - the inode table: clusters of 504 inodes, found through the tree of an internal inode.
 *
 * Owns cluster headers, the itable inode, and a table in memory: where each cluster lies (read at mount, one record for
 * each contiguous run of clusters) and how many of its inodes are free (read when the cluster is first visited, so that
 * a mount does not look at clusters).
 *
 * Locks: table (LEAF, short), one stripe of ITAB for a cluster header from pf_itab_alloc()/pf_itab_free() to the
 * end of the transaction and for pf_itab_read(), grow (REGISTRY) for a whole pf_itab_grow().
 */
#include "space/itable.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/lock.h"
#include "base/step.h"
#include "media/pmem.h"
#include "space/bmap.h"

#define STRIPES 64U
#define UNKNOWN UINT16_MAX
#define USABLE (PF_ICLU_SLOTS - PF_ICLU_FIRST)

struct cluster {
	uint64_t dblk;
	uint16_t nfree;		/* UNKNOWN: header not read yet */
};

struct pf_itab {
	struct pf_mutex table;		/* LEAF: clu, n, cap, rotor, nfree, unknown */
	struct cluster *clu;
	uint64_t n, cap, rotor;
	uint64_t nfree;			/* sum over the clusters whose header was read */
	uint64_t unknown;		/* the other clusters */
	struct pf_mutex grow;		/* REGISTRY: the itable inode */
	struct pf_mutex stripe[STRIPES];
};

/* What a transaction holds of the table until its end. */
struct hold {
	struct pf_fs *fs;
	uint64_t c;
	int delta;		/* of nfree when it commits */
};

static uint64_t inode_doff(uint64_t clu_dblk, uint64_t ino)
{
	return (clu_dblk << PF_BLK_SHIFT) + (ino & (PF_ICLU_SLOTS - 1)) * PF_INODE_SIZE;
}

static int itable_inode(struct pf_fs *fs, const struct pf_d_inode **out)
{
	const void *obj;
	int err = pf_md_get(fs, PF_MD_INODE, inode_doff(fs->iclu0_blk, PF_INO_ITABLE), PF_INO_ITABLE, &obj);

	if (!err)
		*out = obj;
	return err;
}

/* Where cluster @c lies. */
static int cluster_dblk(struct pf_itab *t, uint64_t c, uint64_t *dblk)
{
	int err = -ESTALE;

	pf_mutex_lock(&t->table);
	if (c < t->n) {
		*dblk = t->clu[c].dblk;
		err = 0;
	}
	pf_mutex_unlock(&t->table);
	return err;
}

static bool used_bit(const struct pf_d_iclu *h, uint64_t slot)
{
	return (h->c_used[slot / 8] >> (slot % 8)) & 1;
}

int pf_itab_read(struct pf_fs *fs, uint64_t ino, struct pf_d_inode *out, uint64_t *doff)
{
	uint64_t c = ino >> PF_ICLU_SHIFT, slot = ino & (PF_ICLU_SLOTS - 1), dblk;
	struct pf_itab *t = fs->itab;
	const void *obj;
	int err;

	if (slot < PF_ICLU_FIRST || ino > PF_INO_MAX)
		return -ESTALE;
	err = cluster_dblk(t, c, &dblk);
	if (err)
		return err;
	pf_mutex_lock(&t->stripe[c % STRIPES]);
	err = pf_md_get(fs, PF_MD_ICLU, dblk << PF_BLK_SHIFT, c, &obj);
	if (!err && !used_bit(obj, slot))
		err = -ESTALE;
	if (!err)
		err = pf_md_get(fs, PF_MD_INODE, inode_doff(dblk, ino), ino, &obj);
	if (!err) {
		memcpy(out, obj, sizeof *out);
		*doff = inode_doff(dblk, ino);
	}
	pf_mutex_unlock(&t->stripe[c % STRIPES]);
	return err;
}

/* table held. */
static void set_nfree(struct pf_itab *t, uint64_t c, uint16_t nfree)
{
	if (t->clu[c].nfree == UNKNOWN)
		t->unknown--;
	else
		t->nfree -= t->clu[c].nfree;
	t->clu[c].nfree = nfree;
	t->nfree += nfree;
}

/* End of a transaction that allocated or freed a number. */
static void release(void *arg, bool committed)
{
	struct hold *h = arg;
	struct pf_itab *t = h->fs->itab;

	pf_mutex_lock(&t->table);
	if (committed && h->delta != 0)
		set_nfree(t, h->c, (uint16_t)(t->clu[h->c].nfree + h->delta));
	pf_mutex_unlock(&t->table);
	pf_mutex_unlock(&t->stripe[h->c % STRIPES]);
	free(h);
}

/* Lock cluster @c for the transaction and make its header writable. */
static int hold_cluster(struct pf_tx *tx, uint64_t c, int delta, bool wait, struct pf_d_iclu **out, uint64_t *dblk)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	struct pf_itab *t = fs->itab;
	struct hold *h;
	void *obj;
	int err = cluster_dblk(t, c, dblk);

	if (err)
		return err;
	if (wait)
		pf_mutex_lock(&t->stripe[c % STRIPES]);
	else if (!pf_mutex_trylock(&t->stripe[c % STRIPES]))
		return -EBUSY;
	h = malloc(sizeof *h);
	err = -ENOMEM;
	if (h) {
		*h = (struct hold){ fs, c, delta };
		err = pf_tx_at_end(tx, release, h);
	}
	if (err) {
		free(h);
		pf_mutex_unlock(&t->stripe[c % STRIPES]);
		return err;
	}
	err = pf_tx_get(tx, PF_MD_ICLU, *dblk << PF_BLK_SHIFT, c, &obj);
	if (err) {
		h->delta = 0;
		return err;
	}
	*out = obj;
	pf_mutex_lock(&t->table);
	set_nfree(t, c, (uint16_t)pf_min64(pf_get32((*out)->c_hdr.h_free), USABLE));
	pf_mutex_unlock(&t->table);
	return 0;
}

/* Free inodes of cluster @c; reads its header at the first visit. A damaged cluster counts as full. */
static uint16_t nfree_of(struct pf_fs *fs, uint64_t c)
{
	struct pf_itab *t = fs->itab;
	uint16_t nfree, seen = 0;
	uint64_t dblk;
	const void *h;

	pf_mutex_lock(&t->table);
	nfree = t->clu[c].nfree;
	dblk = t->clu[c].dblk;
	pf_mutex_unlock(&t->table);
	if (nfree != UNKNOWN)
		return nfree;
	if (pf_md_get(fs, PF_MD_ICLU, dblk << PF_BLK_SHIFT, c, &h) == 0)
		seen = (uint16_t)pf_min64(pf_get32(((const struct pf_d_iclu *)h)->c_hdr.h_free), USABLE);
	pf_mutex_lock(&t->table);
	if (t->clu[c].nfree == UNKNOWN)		/* else a transaction knows better by now */
		set_nfree(t, c, seen);
	nfree = t->clu[c].nfree;
	pf_mutex_unlock(&t->table);
	return nfree;
}

static uint64_t clusters(struct pf_itab *t)
{
	uint64_t n;

	pf_mutex_lock(&t->table);
	n = t->n;
	pf_mutex_unlock(&t->table);
	return n;
}

/* The next cluster with a free inode, from @from on, *seen clusters behind it. */
static bool candidate(struct pf_fs *fs, uint64_t from, uint64_t n, uint64_t *seen, uint64_t *c)
{
	while (*seen < n) {
		*c = (from + *seen) % n;
		++*seen;
		if (nfree_of(fs, *c) != 0)
			return true;
	}
	return false;
}

static int take_slot(struct pf_tx *tx, struct pf_d_iclu *h, uint64_t c, uint64_t clu_dblk, uint64_t *ino,
		     uint32_t *gen, uint64_t *doff)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	const struct pf_d_inode *old;
	uint64_t slot = PF_ICLU_FIRST;
	uint32_t nfree = pf_get32(h->c_hdr.h_free);

	while (slot < PF_ICLU_SLOTS && used_bit(h, slot))
		slot++;
	if (slot == PF_ICLU_SLOTS || nfree == 0) {
		pf_fs_fail(fs, PF_FAULT_DAMAGE, "inode cluster %llu: free count and bitmap disagree",
			   (unsigned long long)c);
		return -EUCLEAN;
	}
	h->c_used[slot / 8] |= (uint8_t)(1U << (slot % 8));
	h->c_hdr.h_free = pf_put32(nfree - 1);
	*ino = c << PF_ICLU_SHIFT | slot;
	*doff = inode_doff(clu_dblk, *ino);
	old = pf_pm_at(fs->pm, *doff);
	*gen = pf_get32(old->i_gen) + 1;
	if (*gen == 0)
		*gen = 1;
	return 0;
}

int pf_itab_alloc(struct pf_tx *tx, uint64_t near, uint64_t *ino, uint32_t *gen, uint64_t *doff)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	struct pf_itab *t = fs->itab;
	uint64_t from, c, dblk, seen, n = clusters(t);
	struct pf_d_iclu *h;
	int err;

	from = near >> PF_ICLU_SHIFT;
	if (from >= n || nfree_of(fs, from) == 0) {
		pf_mutex_lock(&t->table);
		from = t->rotor % n;
		pf_mutex_unlock(&t->table);
	}

	/* First any cluster that nobody holds, then wait for one. */
	for (int wait = 0; wait < 2; wait++) {
		seen = 0;
		while (candidate(fs, from, n, &seen, &c)) {
			err = hold_cluster(tx, c, -1, wait, &h, &dblk);
			if (err == -EBUSY)
				continue;
			if (err)
				return err;
			if (pf_get32(h->c_hdr.h_free) == 0)	/* somebody was faster; one cluster a transaction */
				return -EAGAIN;
			pf_mutex_lock(&t->table);
			t->rotor = c;
			pf_mutex_unlock(&t->table);
			return take_slot(tx, h, c, dblk, ino, gen, doff);
		}
	}
	return -EAGAIN;
}

int pf_itab_free(struct pf_tx *tx, uint64_t ino)
{
	return pf_itab_free_many(tx, &ino, 1);
}

int pf_itab_free_many(struct pf_tx *tx, const uint64_t *ino, unsigned int n)
{
	uint64_t c = ino[0] >> PF_ICLU_SHIFT, dblk;
	struct pf_d_iclu *h;
	int err;

	for (unsigned int i = 0; i < n; i++)
		if (ino[i] < PF_INO_FIRST_USER || (ino[i] & (PF_ICLU_SLOTS - 1)) < PF_ICLU_FIRST)
			return -EUCLEAN;
	err = hold_cluster(tx, c, (int)n, true, &h, &dblk);
	for (unsigned int i = 0; i < n && !err; i++) {
		uint64_t slot = ino[i] & (PF_ICLU_SLOTS - 1);

		assert(ino[i] >> PF_ICLU_SHIFT == c);
		if (!used_bit(h, slot)) {
			pf_fs_fail(pf_tx_fs(tx), PF_FAULT_DAMAGE, "inode %llu: freed, but not in use",
				   (unsigned long long)ino[i]);
			return -EUCLEAN;
		}
		h->c_used[slot / 8] &= (uint8_t)~(1U << (slot % 8));
		h->c_hdr.h_free = pf_put32(pf_get32(h->c_hdr.h_free) + 1);
	}
	return err;
}

/* Growing ------------------------------------------------------------------------------------------------ */

static int table_room(struct pf_itab *t, uint64_t n)
{
	struct cluster *clu;
	int err = 0;

	pf_mutex_lock(&t->table);
	if (n > t->cap) {
		uint64_t cap = pf_max64(n, 2 * t->cap);

		clu = realloc(t->clu, cap * sizeof *clu);
		if (clu) {
			t->clu = clu;
			t->cap = cap;
		} else {
			err = -ENOMEM;
		}
	}
	pf_mutex_unlock(&t->table);
	return err;
}

/* grow held: the new cluster @c, in blocks @run, in one transaction. */
static int add_cluster(struct pf_fs *fs, uint64_t c, struct pf_run run)
{
	struct pf_d_inode *di;
	struct pf_d_iclu *h;
	struct pf_bm bm;
	struct pf_tx *tx;
	void *obj;
	int err;

	err = pf_tx_begin(fs, &tx);
	if (err) {
		pf_alloc_unreserve(fs, run);
		return err;
	}
	err = pf_tx_use(tx, run);
	if (!err)
		err = pf_tx_get(tx, PF_MD_INODE, inode_doff(fs->iclu0_blk, PF_INO_ITABLE), PF_INO_ITABLE, &obj);
	if (err)
		goto out_abort;
	di = obj;
	bm = (struct pf_bm){ .fs = fs, .tx = tx, .root = &di->i_root, .owner = PF_INO_ITABLE,
			     .gen = pf_get32(di->i_gen) };
	err = pf_bm_insert(&bm, &(struct pf_ext){ c * PF_ICLU_BLKS, run.dblk, (uint32_t)PF_ICLU_BLKS, 0 });
	if (!err)
		err = pf_tx_new(tx, PF_MD_ICLU, run.dblk << PF_BLK_SHIFT, c, 0, &obj);
	if (err)
		goto out_abort;
	h = obj;
	h->c_used[0] = 0xff;		/* the header's own 8 slots */
	h->c_hdr.h_free = pf_put32(USABLE);
	di->i_size = pf_put64((c + 1) * PF_ICLU_BLKS * PF_BLK_SIZE);
	di->i_nblk = pf_put64((uint64_t)((int64_t)(pf_get64(di->i_nblk) + PF_ICLU_BLKS) + bm.node_delta));
	return pf_tx_commit(tx);
out_abort:
	pf_tx_abort(tx);
	return err;
}

int pf_itab_grow(struct pf_fs *fs)
{
	struct pf_itab *t = fs->itab;
	uint64_t c, seen = 0, found;
	struct pf_run run;
	int err;

	pf_mutex_lock(&t->grow);
	c = clusters(t);		/* only a grower changes it */
	if (candidate(fs, 0, c, &seen, &found)) {	/* somebody else grew it, or freed a number */
		pf_mutex_unlock(&t->grow);
		return 0;
	}
	err = (c + 1) << PF_ICLU_SHIFT > PF_INO_MAX ? -ENOSPC : table_room(t, c + 1);
	if (!err)
		err = pf_alloc_reserve(fs, PF_ICLU_BLKS, PF_ICLU_BLKS, 0, 0, &run);
	if (!err) {
		/* Zeros first: replay and fsck may look at any slot. Durable with the first drain of the commit. */
		if (PF_STEP(CLUSTER))
			pf_pm_zero(fs->pm, run.dblk << PF_BLK_SHIFT, PF_ICLU_BLKS << PF_BLK_SHIFT);
		err = add_cluster(fs, c, run);
	}
	if (!err) {
		pf_mutex_lock(&t->table);
		t->clu[c] = (struct cluster){ run.dblk, USABLE };
		t->nfree += USABLE;
		t->rotor = c;
		t->n = c + 1;
		pf_mutex_unlock(&t->table);
	}
	pf_mutex_unlock(&t->grow);
	return err;
}

/* Mount and statistics ------------------------------------------------------------------------------------- */

/* Where the @n clusters lie, from the itable's tree. */
static int read_table(struct pf_fs *fs, const struct pf_d_inode *di, struct cluster *clu, uint64_t n)
{
	struct pf_d_root root = di->i_root;
	struct pf_bm bm = { .fs = fs, .root = &root, .owner = PF_INO_ITABLE };
	struct pf_ext e = { 0 };

	for (uint64_t c = 0; c < n; c++) {
		uint64_t key = c * PF_ICLU_BLKS;
		int err = 0;

		if (e.len == 0 || key - e.key >= e.len)
			err = pf_bm_lookup(&bm, key, &e);
		if (err)
			return err;
		if (e.len == 0 || e.key > key || e.len - (key - e.key) < PF_ICLU_BLKS ||
		    !pf_range_ok(e.dblk, e.len, fs->nblk)) {
			pf_fs_fail(fs, PF_FAULT_DAMAGE, "inode table: cluster %llu is not mapped",
				   (unsigned long long)c);
			return -EUCLEAN;
		}
		clu[c] = (struct cluster){ e.dblk + (key - e.key), UNKNOWN };
	}
	return 0;
}

int pf_itab_init(struct pf_fs *fs)
{
	const struct pf_d_inode *di;
	struct pf_itab *t;
	uint64_t n;
	int err = itable_inode(fs, &di);

	if (err)
		return err;
	n = pf_get64(di->i_size) / (PF_ICLU_BLKS * PF_BLK_SIZE);
	if (n == 0 || n > fs->nblk / PF_ICLU_BLKS) {
		pf_fs_fail(fs, PF_FAULT_DAMAGE, "inode table: %llu clusters on a device of %llu blocks",
			   (unsigned long long)n, (unsigned long long)fs->nblk);
		return -EUCLEAN;
	}
	t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->clu = malloc(n * sizeof *t->clu);
	err = t->clu ? read_table(fs, di, t->clu, n) : -ENOMEM;
	if (err) {
		free(t->clu);
		free(t);
		return err;
	}
	t->n = t->cap = t->unknown = n;
	pf_mutex_init(&t->table, PF_RANK_LEAF);
	pf_mutex_init(&t->grow, PF_RANK_REGISTRY);
	for (unsigned int i = 0; i < STRIPES; i++)
		pf_mutex_init(&t->stripe[i], PF_RANK_ITAB);
	fs->itab = t;
	return 0;
}

void pf_itab_fini(struct pf_fs *fs)
{
	struct pf_itab *t = fs->itab;

	if (!t)
		return;
	for (unsigned int i = 0; i < STRIPES; i++)
		pf_mutex_fini(&t->stripe[i]);
	pf_mutex_fini(&t->grow);
	pf_mutex_fini(&t->table);
	free(t->clu);
	free(t);
	fs->itab = NULL;
}

/* The first caller visits the clusters that nobody has needed so far. */
void pf_itab_stat(struct pf_fs *fs, uint64_t *used, uint64_t *room)
{
	struct pf_itab *t = fs->itab;
	uint64_t n, unknown;

	pf_mutex_lock(&t->table);
	n = t->n;
	unknown = t->unknown;
	pf_mutex_unlock(&t->table);
	for (uint64_t c = 0; unknown != 0 && c < n; c++)
		(void)nfree_of(fs, c);
	pf_mutex_lock(&t->table);
	*room = t->nfree;
	*used = t->n * USABLE - t->nfree;
	pf_mutex_unlock(&t->table);
}
