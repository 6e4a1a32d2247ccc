/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc.c - finding free space.
 *
 * Owns the tables of alloc_impl.h: availability of every block in memory, summaries of chunks and groups, and two trees
 * of maxima over the groups. Takes ALLOC for each public call. Never writes to the media: alloc_tx.c does,
 * with a transaction.
 *
 * Where things go: a request of a chunk (512 blocks) or more gets whole chunks as long as a group has one; a
 * smaller one is put where its goal says, else into chunks that are broken already, and breaks a whole
 * chunk only when no broken one in the device can hold it. A file that begins with a write of middle size gets a chunk
 * of its own, in the hope that it goes on, while three quarters of the free space are whole chunks. So big files stay
 * 2 MiB aligned on an old filesystem.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "space/alloc_impl.h"

/* Bits of one chunk --------------------------------------------------------------------------------- */

/* First position >= @i whose bit is @v, or 512. */
static unsigned int next_bit(const uint64_t *w, unsigned int i, bool v)
{
	while (i < PF_CHUNK_BLKS) {
		uint64_t word = (v ? w[i / 64] : ~w[i / 64]) >> (i % 64);

		if (word)
			return i + (unsigned int)__builtin_ctzll(word);
		i = (i / 64 + 1) * 64;
	}
	return (unsigned int)PF_CHUNK_BLKS;
}

/* First run of at least @want zero bits at or behind @from; its start, or 512. The longest run seen goes to *best. */
static unsigned int find_run(const uint64_t *w, unsigned int from, unsigned int want, unsigned int *best,
			     unsigned int *best_at)
{
	unsigned int i = next_bit(w, from, false);

	while (i < PF_CHUNK_BLKS) {
		unsigned int end = next_bit(w, i, true);

		if (end - i > *best) {
			*best = end - i;
			*best_at = i;
		}
		if (end - i >= want)
			return i;
		i = next_bit(w, end, false);
	}
	return (unsigned int)PF_CHUNK_BLKS;
}

static void summarise_chunk(struct group *gr, unsigned int c)
{
	unsigned int best = 0, at = 0, used = 0;

	for (unsigned int i = 0; i < 8; i++)
		used += (unsigned int)__builtin_popcountll(gr->avail[c][i]);
	(void)find_run(gr->avail[c], 0, (unsigned int)PF_CHUNK_BLKS, &best, &at);
	gr->nfree[c] = (uint16_t)(PF_CHUNK_BLKS - used);
	gr->run[c] = (uint16_t)best;
}

static struct group_sum summarise_group(const struct group *gr)
{
	struct group_sum s = { 0 };
	uint16_t chunks = 0;

	for (unsigned int c = 0; c < PF_GROUP_CHUNKS; c++) {
		s.nfree += gr->nfree[c];
		if (gr->nfree[c] == PF_CHUNK_BLKS) {
			s.whole++;
			if (++chunks > s.chunks)
				s.chunks = chunks;
			continue;
		}
		chunks = 0;
		if (gr->run[c] > s.run)
			s.run = gr->run[c];
	}
	return s;
}

/* Trees of maxima ------------------------------------------------------------------------------------ */

static void tree_set(uint16_t *tree, uint64_t leaves, uint64_t g, uint16_t v)
{
	uint64_t i = leaves + g;

	tree[i] = v;
	for (i /= 2; i != 0; i /= 2)
		tree[i] = tree[2 * i] > tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
}

/* First group >= @from with a value >= @want, or UINT64_MAX. */
static uint64_t tree_find(const uint16_t *tree, uint64_t leaves, uint64_t from, uint16_t want)
{
	uint64_t i = leaves + from;

	for (;;) {
		if (tree[i] >= want)
			break;
		while (i & 1)			/* a right child: nothing more below its parent */
			i /= 2;
		if (i == 0)
			return UINT64_MAX;
		i++;
		if ((i & (i - 1)) == 0)		/* wrapped to the left edge: the whole row is done */
			return UINT64_MAX;
	}
	while (i < leaves)
		i = tree[2 * i] >= want ? 2 * i : 2 * i + 1;
	return i - leaves;
}

static uint64_t tree_find_wrap(const struct pf_alloc *a, const uint16_t *tree, uint64_t from, uint16_t want)
{
	uint64_t g = tree_find(tree, a->leaves, from, want);

	return g == UINT64_MAX && from != 0 ? tree_find(tree, a->leaves, 0, want) : g;
}

static void set_sum(struct pf_alloc *a, uint64_t g, struct group_sum s)
{
	a->free += (uint64_t)s.nfree - a->sum[g].nfree;
	a->whole += (uint64_t)s.whole - a->sum[g].whole;
	a->sum[g] = s;
	tree_set(a->tree_chunks, a->leaves, g, s.chunks);
	tree_set(a->tree_run, a->leaves, g, s.run);
}

/* Groups ---------------------------------------------------------------------------------------------- */

static void read_bits(const struct pf_d_map *m, struct group *gr)
{
	for (unsigned int c = 0; c < PF_GROUP_CHUNKS; c++) {
		for (unsigned int i = 0; i < 8; i++) {
			uint64_t raw;

			memcpy(&raw, &m->m_bits[c][(size_t)i * 8], sizeof raw);
			gr->avail[c][i] = le64toh(raw);
		}
		summarise_chunk(gr, c);
	}
}

static int map_get(struct pf_fs *fs, uint64_t g, const struct pf_d_map **out)
{
	const void *obj;
	int err = pf_md_get(fs, PF_MD_MAP, (fs->map_blk + g) << PF_BLK_SHIFT, g, &obj);

	if (!err)
		*out = obj;
	return err;
}

/*
 * The map block may be read here without its MAP lock: a group is loaded before any of its blocks can be
 * reserved or freed, hence before any transaction can touch its map.
 */
int pf_group_load(struct pf_fs *fs, uint64_t g, struct group **out)
{
	struct pf_alloc *a = fs->alloc;
	const struct pf_d_map *m;
	struct group *gr;
	int err;

	if (a->group[g]) {
		*out = a->group[g];
		return 0;
	}
	gr = calloc(1, sizeof *gr);
	if (!gr)
		return -ENOMEM;
	err = map_get(fs, g, &m);
	if (err) {
		free(gr);
		return err;
	}
	read_bits(m, gr);
	a->group[g] = gr;
	*out = gr;
	return 0;
}

void pf_alloc_flip(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, bool available)
{
	struct pf_alloc *a = fs->alloc;

	while (nblk != 0) {
		uint64_t g = dblk / PF_GROUP_BLKS, in_group = dblk % PF_GROUP_BLKS;
		struct group *gr = a->group[g];

		assert(gr);
		while (nblk != 0 && in_group < PF_GROUP_BLKS) {
			unsigned int c = (unsigned int)(in_group / PF_CHUNK_BLKS);
			unsigned int i = (unsigned int)(in_group % PF_CHUNK_BLKS);
			unsigned int end = (unsigned int)pf_min64(PF_CHUNK_BLKS, i + nblk);

			if (pf_pm_backs(fs->pm) && pf_pm_backed(fs->pm, dblk << PF_BLK_SHIFT))
				a->backed += available ? (uint64_t)(end - i) : -(uint64_t)(end - i);
			in_group += end - i;
			dblk += end - i;
			nblk -= end - i;
			while (i < end) {
				unsigned int stop = (unsigned int)pf_min64(end, (uint64_t)(i / 64 + 1) * 64);
				uint64_t mask = (stop - i == 64 ? ~UINT64_C(0) : (UINT64_C(1) << (stop - i)) - 1)
						<< (i % 64);

				assert((gr->avail[c][i / 64] & mask) == (available ? mask : 0));
				gr->avail[c][i / 64] ^= mask;
				i = stop;
			}
			summarise_chunk(gr, c);
		}
		set_sum(a, g, summarise_group(gr));
	}
}

/* Searching ------------------------------------------------------------------------------------------- */

/* How many available blocks, up to @want, start exactly at @dblk. Stays in the group. */
static uint64_t run_at(struct pf_fs *fs, uint64_t dblk, uint64_t want)
{
	uint64_t g = dblk / PF_GROUP_BLKS, i = dblk % PF_GROUP_BLKS, n = 0;
	struct group *gr;

	if (dblk >= fs->nblk || pf_group_load(fs, g, &gr) != 0)
		return 0;
	while (n < want && i < PF_GROUP_BLKS) {
		unsigned int at = (unsigned int)(i % PF_CHUNK_BLKS);
		unsigned int end = next_bit(gr->avail[i / PF_CHUNK_BLKS], at, true);

		if (end == at)
			break;
		n += end - at;
		i += end - at;
		if (end < PF_CHUNK_BLKS)
			break;
	}
	return pf_min64(n, want);
}

static bool chunk_is_whole(struct pf_fs *fs, uint64_t dblk)
{
	struct group *gr;

	return dblk < fs->nblk && pf_group_load(fs, dblk / PF_GROUP_BLKS, &gr) == 0 &&
	       gr->nfree[dblk % PF_GROUP_BLKS / PF_CHUNK_BLKS] == PF_CHUNK_BLKS;
}

/* The first run of @n wholly available chunks in the group. */
static bool chunks_in(const struct group *gr, unsigned int n, uint64_t *first)
{
	unsigned int have = 0;

	for (unsigned int c = 0; c < PF_GROUP_CHUNKS; c++) {
		have = gr->nfree[c] == PF_CHUNK_BLKS ? have + 1 : 0;
		if (have == n) {
			*first = c + 1 - n;
			return true;
		}
	}
	return false;
}

/* A group whose map block is damaged is left out from now on; its blocks stay as they are for fsck. */
static void drop_group(struct pf_alloc *a, uint64_t g)
{
	set_sum(a, g, (struct group_sum){ 0 });
}

static bool take_chunks(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t from, struct pf_run *out)
{
	struct pf_alloc *a = fs->alloc;
	uint16_t n = (uint16_t)pf_min64(PF_DIV_UP(want, PF_CHUNK_BLKS), PF_GROUP_CHUNKS);
	struct group *gr;
	uint64_t g, c;

	for (;;) {
		g = tree_find_wrap(a, a->tree_chunks, from, n);
		if (g == UINT64_MAX) {		/* not that many together: the longest there is */
			n = a->tree_chunks[1];
			if (n == 0 || pf_min64(want, n * PF_CHUNK_BLKS) < min)
				return false;
			continue;
		}
		if (pf_group_load(fs, g, &gr) == 0 && chunks_in(gr, n, &c))
			break;
		drop_group(a, g);
	}
	*out = (struct pf_run){ g * PF_GROUP_BLKS + c * PF_CHUNK_BLKS, pf_min64(want, n * PF_CHUNK_BLKS) };
	return true;
}

/* Inside broken chunks: a run of @want, else the longest of at least @min. */
static bool take_broken(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t from, struct pf_run *out)
{
	struct pf_alloc *a = fs->alloc;
	uint16_t n = (uint16_t)pf_min64(want, PF_CHUNK_BLKS);
	struct group *gr;
	uint64_t g;

	for (;;) {
		g = tree_find_wrap(a, a->tree_run, from, n);
		if (g == UINT64_MAX) {
			n = a->tree_run[1];
			if (n == 0 || n < min)
				return false;
			continue;
		}
		if (pf_group_load(fs, g, &gr) != 0) {
			drop_group(a, g);
			continue;
		}
		for (unsigned int c = 0; c < PF_GROUP_CHUNKS; c++) {
			unsigned int best = 0, at = 0;

			if (gr->nfree[c] == PF_CHUNK_BLKS || gr->run[c] < n)
				continue;
			at = find_run(gr->avail[c], 0, n, &best, &at);
			*out = (struct pf_run){ g * PF_GROUP_BLKS + c * PF_CHUNK_BLKS + at, n };
			return true;
		}
		drop_group(a, g);
	}
}

/* ALLOC held. */
static bool find(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags, struct pf_run *out)
{
	struct pf_alloc *a = fs->alloc;
	bool plenty = a->whole * PF_CHUNK_BLKS / 3 >= a->free / 4;
	bool big = want >= PF_CHUNK_BLKS || (flags & PF_ALLOC_ALIGN) || ((flags & PF_ALLOC_HOPE) && plenty);
	uint64_t from = goal != 0 && goal < fs->nblk ? goal / PF_GROUP_BLKS : big ? a->rotor_big : a->rotor_small, n;
	bool found;

	if (goal != 0 && big && goal % PF_CHUNK_BLKS == 0 && chunk_is_whole(fs, goal)) {
		if (run_at(fs, goal, want) == want) {
			*out = (struct pf_run){ goal, want };
			return true;
		}
	} else if (goal != 0 && !big && (plenty || !chunk_is_whole(fs, goal))) {
		/* Not into the next chunk if that is whole and they are scarce. */
		n = run_at(fs, goal, plenty ? want : pf_min64(want, PF_CHUNK_BLKS - goal % PF_CHUNK_BLKS));
		if (n >= min) {
			*out = (struct pf_run){ goal, n };
			return true;
		}
	}
	if (big)
		found = take_chunks(fs, want, min, from, out) || take_broken(fs, want, min, from, out);
	else if (a->tree_run[1] >= want)
		found = take_broken(fs, want, want, from, out);
	else
		found = take_chunks(fs, want, min, from, out) || take_broken(fs, want, min, from, out);
	if (found && goal == 0)
		*(big ? &a->rotor_big : &a->rotor_small) = out->dblk / PF_GROUP_BLKS;
	return found;
}

/*
 * A sparse image file: before blocks are given out, their chunks get room below (media/pmem.h). Two rules. What is
 * given out has room. And what ordinary requests leave has room for the kept blocks, so that the full filesystem below
 * does not keep anybody from unlinking; that is why mount begins with a chunk in hand.
 */
static bool back_chunk(struct pf_fs *fs, uint64_t dblk)
{
	const uint64_t doff = pf_round_down(dblk, PF_CHUNK_BLKS) << PF_BLK_SHIFT;
	struct group *gr;

	if (pf_pm_backed(fs->pm, doff))
		return true;
	if (pf_pm_back(fs->pm, doff, PF_BLK_SIZE) == 0)
		return false;
	if (pf_group_load(fs, dblk / PF_GROUP_BLKS, &gr) == 0 && pf_pm_backs(fs->pm))
		fs->alloc->backed += gr->nfree[dblk % PF_GROUP_BLKS / PF_CHUNK_BLKS];
	return true;
}

/* One more chunk with free blocks gets room. */
static bool back_another(struct pf_fs *fs)
{
	struct pf_alloc *a = fs->alloc;
	struct group *gr;

	for (uint64_t g = a->ngroup; g-- > 0;) {
		if (a->sum[g].nfree == 0 || pf_group_load(fs, g, &gr) != 0)
			continue;
		for (uint64_t c = 0; c < PF_GROUP_CHUNKS; c++) {
			const uint64_t dblk = g * PF_GROUP_BLKS + c * PF_CHUNK_BLKS;

			if (gr->nfree[c] != 0 && !pf_pm_backed(fs->pm, dblk << PF_BLK_SHIFT))
				return back_chunk(fs, dblk);
		}
	}
	return false;
}

/* When nothing can be added: inside a chunk that has room already. */
static bool take_backed(struct pf_fs *fs, uint64_t want, uint64_t min, struct pf_run *out)
{
	struct pf_alloc *a = fs->alloc;
	struct group *gr;

	for (uint64_t g = 0; g < a->ngroup; g++) {
		if (a->sum[g].nfree < min || pf_group_load(fs, g, &gr) != 0)
			continue;
		for (uint64_t c = 0; c < PF_GROUP_CHUNKS; c++) {
			const uint64_t dblk = g * PF_GROUP_BLKS + c * PF_CHUNK_BLKS;
			unsigned int best = 0, at = 0;

			if (gr->run[c] < min || !pf_pm_backed(fs->pm, dblk << PF_BLK_SHIFT))
				continue;
			(void)find_run(gr->avail[c], 0, (unsigned int)pf_min64(want, PF_CHUNK_BLKS), &best, &at);
			*out = (struct pf_run){ dblk + at, pf_min64(want, best) };
			return true;
		}
	}
	return false;
}

/* The run, perhaps shorter or elsewhere, with room below. */
static bool back_run(struct pf_fs *fs, uint64_t want, uint64_t min, unsigned int flags, struct pf_run *run)
{
	struct pf_alloc *a = fs->alloc;
	uint64_t b = run->dblk, end = b + run->nblk, keep;

	if (!pf_pm_backs(fs->pm))
		return true;
	while (b < end && back_chunk(fs, b))
		b = pf_min64(end, pf_round_down(b, PF_CHUNK_BLKS) + PF_CHUNK_BLKS);
	run->nblk = b - run->dblk;
	if (run->nblk < min && !take_backed(fs, want, min, run))
		return false;
	if ((flags & PF_ALLOC_META) || !pf_pm_backs(fs->pm))
		return true;
	keep = pf_min64(a->kept, a->free - run->nblk);
	while (a->backed < keep + run->nblk && back_another(fs))
		;
	if (a->backed < keep + min)
		return false;
	run->nblk = pf_min64(run->nblk, a->backed - keep);
	return true;
}

void pf_alloc_on_full(struct pf_fs *fs, bool (*fn)(struct pf_fs *fs))
{
	fs->alloc->on_full = fn;
}

static int reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags, struct pf_run *out)
{
	struct pf_alloc *a = fs->alloc;
	uint64_t usable;
	struct pf_run run;
	int err = -ENOSPC;

	assert(want != 0 && min != 0 && min <= want);
	pf_mutex_lock(&a->lock);
	usable = flags & PF_ALLOC_META ? a->free : a->free > a->kept ? a->free - a->kept : 0;
	want = pf_min64(want, usable);
	if (usable >= min && find(fs, want, min, goal, flags, &run) && back_run(fs, want, min, flags, &run)) {
		pf_alloc_flip(fs, run.dblk, run.nblk, false);
		a->reserved += run.nblk;
		*out = run;
		err = 0;
	}
	pf_mutex_unlock(&a->lock);
	return err;
}

int pf_alloc_reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags,
		     struct pf_run *out)
{
	int err = reserve(fs, want, min, goal, flags, out);

	if (err == -ENOSPC && fs->alloc->on_full && fs->alloc->on_full(fs))
		err = reserve(fs, want, min, goal, flags, out);
	return err;
}

void pf_alloc_unreserve(struct pf_fs *fs, struct pf_run run)
{
	struct pf_alloc *a = fs->alloc;

	pf_mutex_lock(&a->lock);
	a->reserved -= run.nblk;
	pf_alloc_give(fs, run);
	pf_mutex_unlock(&a->lock);
}

/* Parking --------------------------------------------------------------------------------------------- */

static bool limbo_bit(const struct group *gr, uint64_t i)
{
	return gr->limbo && ((gr->limbo[i / 64] >> (i % 64)) & 1);
}

static void give(struct pf_fs *fs, struct pf_run run)
{
	struct pf_alloc *a = fs->alloc;
	uint64_t end = run.dblk + run.nblk;

	for (uint64_t b = run.dblk; b < end;) {
		struct group *gr = a->group[b / PF_GROUP_BLKS];
		uint64_t stop = pf_min64(end, (b / PF_GROUP_BLKS + 1) * PF_GROUP_BLKS);

		if (!gr->parks) {
			pf_alloc_flip(fs, b, stop - b, true);
			b = stop;
			continue;
		}
		while (b < stop) {
			uint64_t i = b % PF_GROUP_BLKS, n = 0;

			while (b + n < stop && gr->parks[i + n] == 0)
				n++;
			if (n != 0) {
				pf_alloc_flip(fs, b, n, true);
				b += n;
				continue;
			}
			gr->limbo[i / 64] |= UINT64_C(1) << (i % 64);
			a->limbo++;
			b++;
		}
	}
}

void pf_alloc_give(struct pf_fs *fs, struct pf_run run)
{
	uint64_t at = run.dblk, end = run.dblk + run.nblk, bad, behind = end;

	while ((bad = pf_bad_first(fs, at, end - at, &behind)) != PF_BAD_NONE) {
		give(fs, (struct pf_run){ at, bad - at });
		at = behind;
	}
	give(fs, (struct pf_run){ at, end - at });
}

void pf_alloc_load(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	struct group *gr;

	pf_mutex_lock(&fs->alloc->lock);
	for (uint64_t g = dblk / PF_GROUP_BLKS; g <= (dblk + nblk - 1) / PF_GROUP_BLKS; g++)
		if (pf_group_load(fs, g, &gr) != 0)
			break;
	pf_mutex_unlock(&fs->alloc->lock);
}

uint64_t pf_alloc_withdraw(struct pf_fs *fs, uint64_t dblk, uint64_t nblk, bool *got)
{
	uint64_t i = dblk % PF_GROUP_BLKS, at = dblk % PF_CHUNK_BLKS, n;
	struct pf_alloc *a = fs->alloc;
	struct group *gr;

	pf_mutex_lock(&a->lock);
	n = run_at(fs, dblk, nblk);
	*got = n != 0;
	if (n != 0) {
		pf_alloc_flip(fs, dblk, n, false);
		a->reserved += n;
	} else if (pf_group_load(fs, dblk / PF_GROUP_BLKS, &gr) == 0) {
		n = next_bit(gr->avail[i / PF_CHUNK_BLKS], (unsigned int)at, false) - at;
	} else {
		n = PF_GROUP_BLKS - i;		/* a damaged map: nothing in it is given to anybody */
	}
	pf_mutex_unlock(&a->lock);
	return pf_min64(n, nblk);
}

void pf_alloc_regain(struct pf_fs *fs, struct pf_run run)
{
	pf_mutex_lock(&fs->alloc->lock);
	pf_alloc_give(fs, run);
	pf_mutex_unlock(&fs->alloc->lock);
}

/* One group's part of a run, which starts at block @i of it. */
static int park_group(struct group *gr, uint64_t i, uint64_t n)
{
	if (!gr->parks) {
		gr->parks = calloc(PF_GROUP_BLKS, sizeof *gr->parks);
		gr->limbo = calloc(PF_GROUP_BLKS / 64, sizeof *gr->limbo);
		if (!gr->parks || !gr->limbo) {
			free(gr->parks);
			free(gr->limbo);
			gr->parks = NULL;
			gr->limbo = NULL;
			return -ENOMEM;
		}
	}
	for (uint64_t k = i; k < i + n; k++)
		if (gr->parks[k] == UINT16_MAX)
			return -ENOMEM;
	for (uint64_t k = i; k < i + n; k++)
		gr->parks[k]++;
	gr->nparked += (uint32_t)n;
	return 0;
}

static void unpark_group(struct pf_fs *fs, uint64_t g, uint64_t i, uint64_t n)
{
	struct pf_alloc *a = fs->alloc;
	struct group *gr = a->group[g];

	assert(gr && gr->parks);
	for (uint64_t k = i; k < i + n; k++) {
		assert(gr->parks[k] != 0);
		if (--gr->parks[k] != 0 || !limbo_bit(gr, k))
			continue;
		gr->limbo[k / 64] &= ~(UINT64_C(1) << (k % 64));
		a->limbo--;
		if (pf_bad_first(fs, g * PF_GROUP_BLKS + k, 1, NULL) == PF_BAD_NONE)
			pf_alloc_flip(fs, g * PF_GROUP_BLKS + k, 1, true);
	}
	gr->nparked -= (uint32_t)n;
	if (gr->nparked == 0) {
		free(gr->parks);
		free(gr->limbo);
		gr->parks = NULL;
		gr->limbo = NULL;
	}
}

int pf_alloc_park(struct pf_fs *fs, struct pf_run run)
{
	uint64_t b = run.dblk, end = run.dblk + run.nblk;
	struct pf_alloc *a = fs->alloc;
	struct group *gr;
	int err = 0;

	assert(pf_range_ok(run.dblk, run.nblk, fs->nblk));
	pf_mutex_lock(&a->lock);
	while (b < end) {
		uint64_t n = pf_min64(end - b, PF_GROUP_BLKS - b % PF_GROUP_BLKS);

		err = pf_group_load(fs, b / PF_GROUP_BLKS, &gr);
		if (!err)
			err = park_group(gr, b % PF_GROUP_BLKS, n);
		if (err)
			break;
		b += n;
	}
	while (err && b > run.dblk) {		/* undo the groups before */
		uint64_t g = (b - 1) / PF_GROUP_BLKS, start = pf_max64(run.dblk, g * PF_GROUP_BLKS);

		unpark_group(fs, g, start % PF_GROUP_BLKS, b - start);
		b = start;
	}
	pf_mutex_unlock(&a->lock);
	return err;
}

void pf_alloc_unpark(struct pf_fs *fs, struct pf_run run)
{
	uint64_t b = run.dblk, end = run.dblk + run.nblk;

	pf_mutex_lock(&fs->alloc->lock);
	while (b < end) {
		uint64_t n = pf_min64(end - b, PF_GROUP_BLKS - b % PF_GROUP_BLKS);

		unpark_group(fs, b / PF_GROUP_BLKS, b % PF_GROUP_BLKS, n);
		b += n;
	}
	pf_mutex_unlock(&fs->alloc->lock);
}

/* Mount ----------------------------------------------------------------------------------------------- */

static int sum_groups(struct pf_fs *fs)
{
	struct pf_alloc *a = fs->alloc;
	struct group *scratch = calloc(1, sizeof *scratch);
	const struct pf_d_map *m;
	int err = 0;

	if (!scratch)
		return -ENOMEM;
	for (uint64_t g = 0; g < a->ngroup && !err; g++) {
		err = map_get(fs, g, &m);
		/* Who only reads needs no free space: what is there can still be saved. */
		if (err && err != -ENOMEM && fs->opts.ro) {
			err = 0;
			continue;
		}
		if (err)
			break;
		read_bits(m, scratch);
		a->sum[g] = summarise_group(scratch);
		a->free += a->sum[g].nfree;
		a->whole += a->sum[g].whole;
		for (uint64_t c = 0; pf_pm_backs(fs->pm) && c < PF_GROUP_CHUNKS; c++)	/* the fixed places */
			if (scratch->nfree[c] != 0 &&
			    pf_pm_backed(fs->pm, (g * PF_GROUP_BLKS + c * PF_CHUNK_BLKS) << PF_BLK_SHIFT))
				a->backed += scratch->nfree[c];
		a->tree_chunks[a->leaves + g] = a->sum[g].chunks;
		a->tree_run[a->leaves + g] = a->sum[g].run;
	}
	free(scratch);
	for (uint64_t i = a->leaves - 1; i != 0; i--) {
		a->tree_chunks[i] = a->tree_chunks[2 * i] > a->tree_chunks[2 * i + 1] ? a->tree_chunks[2 * i] :
											a->tree_chunks[2 * i + 1];
		a->tree_run[i] = a->tree_run[2 * i] > a->tree_run[2 * i + 1] ? a->tree_run[2 * i] :
									       a->tree_run[2 * i + 1];
	}
	return err;
}

int pf_alloc_init(struct pf_fs *fs)
{
	struct pf_alloc *a = calloc(1, sizeof *a);
	int err = -ENOMEM;

	if (!a)
		return err;
	fs->alloc = a;
	pf_mutex_init(&a->lock, PF_RANK_ALLOC);
	for (unsigned int i = 0; i < MAP_STRIPES; i++)
		pf_mutex_init(&a->stripe[i], PF_RANK_MAP);
	a->ngroup = fs->ngroup;
	for (a->leaves = 1; a->leaves < a->ngroup; a->leaves *= 2)
		;
	/* 16 MiB keep 32 blocks; 1 GiB and more keep 1024. Enough for the tree nodes that cutting a file can need. */
	a->kept = pf_max64(32, pf_min64(1024, fs->nblk / 256));
	a->sum = calloc(a->ngroup, sizeof *a->sum);
	a->group = calloc(a->ngroup, sizeof *a->group);
	a->tree_chunks = calloc(2 * a->leaves, sizeof *a->tree_chunks);
	a->tree_run = calloc(2 * a->leaves, sizeof *a->tree_run);
	if (a->sum && a->group && a->tree_chunks && a->tree_run)
		err = sum_groups(fs);
	while (!err && pf_pm_backs(fs->pm) && a->backed < pf_min64(a->kept, a->free) && back_another(fs))
		;
	if (!err)
		err = pf_alloc_tx_init(fs);
	if (err)
		pf_alloc_fini(fs);
	return err;
}

void pf_alloc_fini(struct pf_fs *fs)
{
	struct pf_alloc *a = fs->alloc;

	if (!a)
		return;
	for (uint64_t g = 0; a->group && g < a->ngroup; g++) {
		if (!a->group[g])
			continue;
		free(a->group[g]->parks);
		free(a->group[g]->limbo);
		free(a->group[g]);
	}
	for (unsigned int i = 0; i < MAP_STRIPES; i++)
		pf_mutex_fini(&a->stripe[i]);
	pf_mutex_fini(&a->lock);
	free(a->sum);
	free(a->group);
	free(a->tree_chunks);
	free(a->tree_run);
	free(a);
	fs->alloc = NULL;
}

void pf_alloc_stat(struct pf_fs *fs, struct pf_space *out)
{
	struct pf_alloc *a = fs->alloc;

	pf_mutex_lock(&a->lock);
	*out = (struct pf_space){ .total = fs->nblk, .free = a->free > a->kept ? a->free - a->kept : 0,
				  .reserved = a->reserved, .parked = a->limbo, .kept = pf_min64(a->kept, a->free) };
	pf_mutex_unlock(&a->lock);
}
