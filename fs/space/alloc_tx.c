/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc_tx.c - owning space: the blocks that a transaction takes and gives, and their bits on the media.
 *
 * During the transaction runs are only listed. Commit calls prepare(): it locks the map blocks concerned, in ascending
 * order of their stripe (MAP; nobody takes one outside commit, so there is no cycle), and edits their shadows. The
 * locks are dropped, and the tables in memory follow, when the transaction has ended.
 *
 * Why a freed block is not given out too early: it becomes available in finish(), after the last drain.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "space/alloc_impl.h"
#include "space/bad.h"

struct delta { struct pf_run run; bool take, looked; };	/* looked: bad blocks in it stay free on the media */

struct pf_tx_blocks {
	struct pf_fs *fs;
	struct delta *d;
	size_t n, cap;
	uint64_t locked;		/* stripes held: MAP_STRIPES bits */
	unsigned int maps;		/* upper bound of map blocks to be edited */
	uint64_t last_group;		/* of the newest delta: runs close together count once */
	bool use_kept;
};
_Static_assert(MAP_STRIPES == 64, "pf_tx_blocks.locked has a bit a stripe");

static void unlock_stripes(struct pf_alloc *a, uint64_t locked)
{
	for (unsigned int s = MAP_STRIPES; s-- > 0;) {
		if (!(locked & (UINT64_C(1) << s)))
			continue;
		if (locked & ((UINT64_C(1) << s) - 1))
			pf_mutex_unlock_more(&a->stripe[s]);
		else
			pf_mutex_unlock(&a->stripe[s]);
	}
}

/* End of the transaction: locks, and the tables in memory. */
static void finish(void *arg, bool committed)
{
	struct pf_tx_blocks *b = arg;
	struct pf_fs *fs = b->fs;
	struct pf_alloc *a = fs->alloc;

	unlock_stripes(a, b->locked);
	/* A node that was trusted must be checked anew should a damaged tree still point there. */
	for (size_t i = 0; i < b->n; i++)
		if (committed && !b->d[i].take)
			pf_md_forget(fs, b->d[i].run.dblk, b->d[i].run.nblk);
	pf_mutex_lock(&a->lock);
	for (size_t i = 0; i < b->n; i++) {
		if (b->d[i].take)
			a->reserved -= b->d[i].run.nblk;
		if (b->d[i].take != committed)		/* freed for good, or taken in vain */
			pf_alloc_give(fs, b->d[i].run);
	}
	pf_mutex_unlock(&a->lock);
	free(b->d);
	free(b);
}

static int blocks_of(struct pf_tx *tx, struct pf_tx_blocks **out)
{
	struct pf_tx_blocks **slot = pf_tx_blocks(tx), *b;
	int err;

	if (!*slot) {
		b = calloc(1, sizeof *b);
		if (!b)
			return -ENOMEM;
		b->fs = pf_tx_fs(tx);
		b->last_group = UINT64_MAX;
		err = pf_tx_at_end(tx, finish, b);
		if (err) {
			free(b);
			return err;
		}
		*slot = b;
	}
	*out = *slot;
	return 0;
}

static int add(struct pf_tx *tx, struct pf_run run, bool take)
{
	uint64_t first = run.dblk / PF_GROUP_BLKS, last = (run.dblk + run.nblk - 1) / PF_GROUP_BLKS;
	struct pf_tx_blocks *b;
	int err;

	assert(run.nblk != 0);
	err = blocks_of(tx, &b);
	if (err)
		return err;
	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 16;
		struct delta *d = realloc(b->d, cap * sizeof *d);

		if (!d)
			return -ENOMEM;
		b->d = d;
		b->cap = cap;
	}
	b->d[b->n++] = (struct delta){ .run = run, .take = take };
	b->maps += (unsigned int)(last - first) + (first != b->last_group);
	b->last_group = last;
	return 0;
}

int pf_tx_use(struct pf_tx *tx, struct pf_run run)
{
	int err = add(tx, run, true);

	if (err)
		pf_alloc_unreserve(pf_tx_fs(tx), run);
	return err;
}

int pf_tx_free(struct pf_tx *tx, struct pf_run run)
{
	struct pf_fs *fs = pf_tx_fs(tx);
	uint64_t data = fs->map_blk + fs->ngroup;
	struct group *gr;
	int err = 0;

	if (run.nblk == 0 || run.dblk < data || !pf_range_ok(run.dblk, run.nblk, fs->nblk - 1)) {
		pf_fs_fail(fs, PF_FAULT_DAMAGE, "blocks %llu + %llu: freed, but not data",
			   (unsigned long long)run.dblk, (unsigned long long)run.nblk);
		return -EUCLEAN;
	}
	/* finish() must not fail, so the groups are in memory from here on. */
	pf_mutex_lock(&fs->alloc->lock);
	for (uint64_t g = run.dblk / PF_GROUP_BLKS; g <= (run.dblk + run.nblk - 1) / PF_GROUP_BLKS && !err; g++)
		err = pf_group_load(fs, g, &gr);
	pf_mutex_unlock(&fs->alloc->lock);
	return err ? err : add(tx, run, false);
}

void pf_tx_use_kept(struct pf_tx *tx)
{
	struct pf_tx_blocks *b;

	/* Without memory, the first block that is asked for fails for the same reason. */
	if (blocks_of(tx, &b) == 0)
		b->use_kept = true;
}

int pf_tx_alloc_meta(struct pf_tx *tx, uint64_t goal, uint64_t *dblk)
{
	const struct pf_tx_blocks *b = *pf_tx_blocks(tx);
	struct pf_run run;
	int err = pf_alloc_reserve(pf_tx_fs(tx), 1, 1, goal, b && b->use_kept ? PF_ALLOC_META : 0, &run);

	if (!err)
		err = pf_tx_use(tx, run);
	if (!err)
		*dblk = run.dblk;
	return err;
}

unsigned int pf_tx_space_room(struct pf_tx *tx)
{
	struct pf_tx_blocks *b = *pf_tx_blocks(tx);
	unsigned int room = pf_tx_room(tx), maps = b ? b->maps : 0;

	return room > maps ? room - maps : 0;
}

/* Commit ------------------------------------------------------------------------------------------------ */

/* Blocks [i, i + n) of the group: every bit must have been the opposite. False: it was not. */
static bool set_bits(struct pf_d_map *m, uint64_t i, uint64_t n, bool used)
{
	for (; n != 0 && i % 8 != 0; i++, n--) {
		uint8_t *byte = &m->m_bits[0][0] + i / 8, mask = (uint8_t)(1U << (i % 8));

		if (!(*byte & mask) != used)
			return false;
		*byte ^= mask;
	}
	for (; n >= 8; i += 8, n -= 8) {
		uint8_t *byte = &m->m_bits[0][0] + i / 8;

		if (*byte != (used ? 0x00 : 0xff))
			return false;
		*byte = used ? 0xff : 0x00;
	}
	for (; n != 0; i++, n--) {
		uint8_t *byte = &m->m_bits[0][0] + i / 8, mask = (uint8_t)(1U << (i % 8));

		if (!(*byte & mask) != used)
			return false;
		*byte ^= mask;
	}
	return true;
}

static int edit_maps(struct pf_tx *tx, struct pf_fs *fs, const struct delta *d)
{
	uint64_t at = d->run.dblk, end = at + d->run.nblk;

	while (at < end) {
		uint64_t g = at / PF_GROUP_BLKS, i = at % PF_GROUP_BLKS, n = pf_min64(end - at, PF_GROUP_BLKS - i);
		struct pf_d_map *m;
		uint32_t nfree;
		void *obj;
		int err;

		err = pf_tx_get(tx, PF_MD_MAP, (fs->map_blk + g) << PF_BLK_SHIFT, g, &obj);
		if (err)
			return err;
		m = obj;
		if (!set_bits(m, i, n, d->take)) {
			pf_fs_fail(fs, PF_FAULT_DAMAGE,
				   "free-space map, group %llu: blocks %llu + %llu were %s already",
				   (unsigned long long)g, (unsigned long long)at, (unsigned long long)n,
				   d->take ? "used" : "free");
			return -EUCLEAN;
		}
		nfree = pf_get32(m->m_hdr.h_free);
		m->m_hdr.h_free = pf_put32(d->take ? nfree - (uint32_t)n : nfree + (uint32_t)n);
		at += n;
	}
	return 0;
}

/* Of what is given back, bad blocks go to the list instead. The list's tree may take and give blocks of its own in
 * this: they come behind, and are looked at as well. */
static int keep_bad(struct pf_tx *tx, struct pf_tx_blocks *b)
{
	int err = 0;

	for (size_t i = 0; i < b->n && err == 0; i++) {
		struct pf_run run = b->d[i].run, bad;
		uint64_t end = run.dblk + run.nblk, behind = end, held, at;

		if (b->d[i].take || b->d[i].looked)
			continue;
		bad.dblk = pf_bad_first(b->fs, run.dblk, run.nblk, &behind);
		if (bad.dblk == PF_BAD_NONE)
			continue;
		bad.nblk = behind - bad.dblk;
		err = pf_bad_hold(tx, bad, &held);
		if (err != 0)
			break;
		b->d[i].run.nblk = bad.dblk - run.dblk;
		/* Those that the lane had no room for are free in the map, and kept from everybody in memory. */
		at = bad.dblk + held;
		if (at < end)
			err = add(tx, (struct pf_run){ at, end - at }, false);
		if (err == 0 && held < bad.nblk)
			b->d[b->n - 1].looked = true;
	}
	return err;
}

static int prepare(struct pf_tx *tx)
{
	struct pf_tx_blocks *b = *pf_tx_blocks(tx);
	struct pf_alloc *a;
	uint64_t need = 0;
	int err = 0;

	if (!b)
		return 0;
	a = b->fs->alloc;
	if (pf_bad_any(b->fs))
		err = keep_bad(tx, b);
	if (err)
		return err;
	for (size_t i = 0; i < b->n; i++) {
		if (b->d[i].run.nblk == 0)
			continue;
		uint64_t last = (b->d[i].run.dblk + b->d[i].run.nblk - 1) / PF_GROUP_BLKS;

		for (uint64_t g = b->d[i].run.dblk / PF_GROUP_BLKS; g <= last; g++)
			need |= UINT64_C(1) << (g % MAP_STRIPES);
	}
	for (unsigned int s = 0; s < MAP_STRIPES; s++) {
		if (!(need & (UINT64_C(1) << s)))
			continue;
		if (b->locked)
			pf_mutex_lock_more(&a->stripe[s]);
		else
			pf_mutex_lock(&a->stripe[s]);
		b->locked |= UINT64_C(1) << s;
	}
	/* A block may be taken and given in one transaction (a tree node that came and went): in the order of events.
	 */
	for (size_t i = 0; i < b->n && !err; i++)
		err = edit_maps(tx, b->fs, &b->d[i]);
	return err;
}

int pf_alloc_tx_init(struct pf_fs *fs)
{
	pf_jnl_on_commit(fs, prepare);
	return 0;
}
