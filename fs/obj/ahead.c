/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ahead.c - windows of reserved blocks, a few for each inode that is in use.
 *
 * Owns struct pf_aheads: the list of windows and its lock (LEAF), under which nothing is reserved or given back. The
 * first window of a file is 16 pages, aligned in the file; one that was used up and is followed by the next page makes
 * the next one twice as large, up to 64.
 */
#include "obj/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include "obj/inode.h"

#define FIRST 16U
#define MOST 64U
#define PLENTY 16U		/* no window unless one block in so many is free */
#define WINDOWS 4U		/* of an inode: so many threads at a time, each in its own part of the file */

struct window {
	uint64_t fblk, dblk;		/* page fblk + i belongs into block dblk + i */
	uint64_t mask;			/* bit i: that block is still kept */
	unsigned int n;			/* pages, up to 64; 0: never used */
	unsigned int turn;		/* of pf_ahead.turn, at its last use */
	struct window *next, **pprev;	/* those with a mask */
};

struct pf_ahead {
	struct window w[WINDOWS];
	unsigned int turn;
};

struct pf_aheads {
	struct pf_mutex lock;	/* LEAF */
	struct window *list;
	uint64_t blocks;
	bool off;
};

static void link_in(struct pf_aheads *as, struct window *a)
{
	a->next = as->list;
	if (a->next != NULL)
		a->next->pprev = &a->next;
	a->pprev = &as->list;
	as->list = a;
}

static void unlink_it(struct window *a)
{
	*a->pprev = a->next;
	if (a->next != NULL)
		a->next->pprev = a->pprev;
}

/* Lock held. What is left of the window, which ends; to be given back without the lock. */
static struct window take_away(struct pf_aheads *as, struct window *a)
{
	struct window rest = *a;

	if (a->mask != 0) {
		unlink_it(a);
		as->blocks -= (uint64_t)__builtin_popcountll(a->mask);
	}
	a->mask = 0;
	return rest;
}

static void give_back(struct pf_fs *fs, const struct window *rest)
{
	for (uint64_t m = rest->mask; m != 0;) {
		unsigned int i = (unsigned int)__builtin_ctzll(m), n = 0;

		while (i + n < 64 && (m >> (i + n) & 1) != 0) {
			m &= ~(UINT64_C(1) << (i + n));
			n++;
		}
		pf_alloc_unreserve(fs, (struct pf_run){ rest->dblk + i, n });
	}
}

/* The allocator has nothing left: all windows end. */
static bool drop_all(struct pf_fs *fs)
{
	struct pf_aheads *as = fs->ahead;
	struct window rest;
	bool any = false;

	for (;;) {
		pf_mutex_lock(&as->lock);
		if (as->list == NULL)
			break;
		rest = take_away(as, as->list);
		pf_mutex_unlock(&as->lock);
		give_back(fs, &rest);
		any = true;
	}
	pf_mutex_unlock(&as->lock);
	return any;
}

int pf_ahead_init(struct pf_fs *fs)
{
	struct pf_aheads *as = calloc(1, sizeof *as);

	if (as == NULL)
		return -ENOMEM;
	pf_mutex_init(&as->lock, PF_RANK_LEAF);
	fs->ahead = as;
	pf_alloc_on_full(fs, drop_all);
	return 0;
}

void pf_ahead_fini(struct pf_fs *fs)
{
	struct pf_aheads *as = fs->ahead;

	if (as == NULL)
		return;
	pf_alloc_on_full(fs, NULL);
	(void)drop_all(fs);
	pf_mutex_fini(&as->lock);
	free(as);
	fs->ahead = NULL;
}

void pf_ahead_drop(struct pf_inode *ip)
{
	struct pf_aheads *as = ip->fs->ahead;
	struct window rest[WINDOWS];

	if (ip->ahead == NULL)
		return;
	pf_mutex_lock(&as->lock);
	for (unsigned int i = 0; i < WINDOWS; i++)
		rest[i] = take_away(as, &ip->ahead->w[i]);
	pf_mutex_unlock(&as->lock);
	for (unsigned int i = 0; i < WINDOWS; i++)
		give_back(ip->fs, &rest[i]);
	free(ip->ahead);
	ip->ahead = NULL;
}

uint64_t pf_ahead_blocks(struct pf_fs *fs)
{
	uint64_t n;

	pf_mutex_lock(&fs->ahead->lock);
	n = fs->ahead->blocks;
	pf_mutex_unlock(&fs->ahead->lock);
	return n;
}

void pf_ahead_off(struct pf_fs *fs)
{
	pf_mutex_lock(&fs->ahead->lock);
	fs->ahead->off = true;
	pf_mutex_unlock(&fs->ahead->lock);
}

/* Lock held. Blocks of the window for pages from @fblk on. */
static bool from_window(struct pf_aheads *as, struct window *w, uint64_t fblk, uint64_t want, struct pf_run *out)
{
	uint64_t i = fblk - w->fblk, k = 0;

	if (w->mask == 0 || fblk < w->fblk || i >= w->n || (w->mask >> i & 1) == 0)
		return false;
	while (k < want && i + k < w->n && (w->mask >> (i + k) & 1) != 0) {
		w->mask &= ~(UINT64_C(1) << (i + k));
		k++;
	}
	as->blocks -= k;
	if (w->mask == 0)
		unlink_it(w);
	*out = (struct pf_run){ w->dblk + i, k };
	return true;
}

/* Lock held. The window to be replaced by one for @fblk: the one that it follows, or the longest unused. */
static struct window *choose(struct pf_ahead *a, uint64_t fblk, uint64_t *pages)
{
	struct window *oldest = &a->w[0];

	for (struct window *w = a->w; w < a->w + WINDOWS; w++) {
		if (w->n != 0 && w->mask == 0 && fblk == w->fblk + w->n) {
			*pages = pf_min64(2 * (uint64_t)w->n, MOST);
			return w;
		}
		if (a->turn - w->turn > a->turn - oldest->turn)
			oldest = w;
	}
	*pages = FIRST;
	return oldest;
}

/* The first page from @lo on of the hole that @fblk lies in. *goal: behind the block before it, 0: there is none. */
static uint64_t hole_start(struct pf_inode *ip, uint64_t lo, uint64_t fblk, uint64_t *goal)
{
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext e;

	*goal = 0;
	if (fblk == 0 || pf_bm_floor(&bm, fblk - 1, &e) != 0)
		return fblk;
	if (e.len == 0 || e.key + e.len < lo)
		return lo;
	*goal = e.dblk + e.len;
	return e.key + e.len;
}

bool pf_ahead_take(struct pf_inode *ip, uint64_t fblk, uint64_t want, uint64_t hole_end, struct pf_run *out)
{
	struct pf_aheads *as = ip->fs->ahead;
	uint64_t lo, hi, goal, pages;
	struct window *w, rest;
	struct pf_space sp;
	struct pf_run run;
	bool got = false, off;

	if (want >= FIRST)
		return false;
	if (ip->ahead == NULL)
		ip->ahead = calloc(1, sizeof *ip->ahead);
	if (ip->ahead == NULL)
		return false;
	pf_mutex_lock(&as->lock);
	ip->ahead->turn++;
	for (w = ip->ahead->w; w < ip->ahead->w + WINDOWS && !got; w++) {
		got = from_window(as, w, fblk, want, out);
		if (got)
			w->turn = ip->ahead->turn;
	}
	w = choose(ip->ahead, fblk, &pages);
	off = as->off;
	pf_mutex_unlock(&as->lock);
	if (got || off)
		return got;

	pf_alloc_stat(ip->fs, &sp);
	lo = hole_start(ip, pf_round_down(fblk, pages), fblk, &goal);
	hi = pf_min64(pf_round_down(fblk, pages) + pages, hole_end);
	hi = pf_min64(hi, PF_DIV_UP(pf_inode_size(ip), PF_BLK_SIZE));
	if (hi < lo + 2 || hi - lo <= want || fblk >= hi || sp.free < sp.total / PLENTY ||
	    pf_alloc_reserve(ip->fs, hi - lo, hi - lo, goal, 0, &run) != 0)
		return false;
	pf_mutex_lock(&as->lock);
	rest = take_away(as, w);
	*w = (struct window){ .fblk = lo, .dblk = run.dblk, .n = (unsigned int)run.nblk, .turn = ip->ahead->turn,
			      .mask = run.nblk == 64 ? UINT64_MAX : (UINT64_C(1) << run.nblk) - 1 };
	as->blocks += run.nblk;
	link_in(as, w);
	got = from_window(as, w, fblk, want, out);
	pf_mutex_unlock(&as->lock);
	give_back(ip->fs, &rest);
	return got;
}
