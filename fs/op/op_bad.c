/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_bad.c - bad blocks that come and go on a mounted filesystem.
 *
 * Nothing on the media says whose a block is, but only an inode that is in memory can be mapped by a window or be in
 * the kernel's page cache; so those are looked through. A break is submitted for each run of pages found: a CUT that
 * waits for no pin takes good pages away, a MAP is enough where clients were told of bad ones.
 * Takes INODE, shared, one at a time; owns the breaks.
 */
#include "op/op_bad.h"

#include <errno.h>
#include <stdlib.h>
#include "obj/inode.h"

struct shun {
	struct pf_brk brk;
	struct pf_bad_req *r;
	struct pf_inode *ip;
};

static void put(struct pf_bad_req *r)
{
	if (atomic_fetch_sub(&r->refs, 1) == 1)
		r->br_done(r, r->err);
}

static int shun_work(struct pf_brk *b)
{
	(void)b;
	return 0;
}

/* Ended without having been done only when the mount goes away, and the windows with it. */
static void shun_done(struct pf_brk *b, int err)
{
	struct shun *s = PF_CONTAINER_OF(b, struct shun, brk);

	(void)err;
	if (s->r->br_stale)
		s->r->br_stale(s->r, s->ip->ino);
	pf_inode_put(s->ip);
	put(s->r);
	free(s);
}

static void shun(struct pf_bad_req *r, struct pf_inode *ip, uint64_t fblk, uint64_t nblk)
{
	struct shun *s = calloc(1, sizeof *s);

	if (s == NULL) {
		r->err = -ENOMEM;
		return;
	}
	pf_inode_hold(ip);
	s->r = r;
	s->ip = ip;
	s->brk = (struct pf_brk){
		.obj = &ip->lobj,
		.kind = r->add ? PF_BRK_CUT : PF_BRK_MAP,
		.policy = { .on_busy = PF_BUSY_WAIT },
		.foff = fblk << PF_BLK_SHIFT,
		.len = nblk << PF_BLK_SHIFT,
		.pin_foff = fblk << PF_BLK_SHIFT,
		.what = "bad block",
		.b_work = shun_work,
		.b_done = shun_done,
	};
	atomic_fetch_add(&r->refs, 1);
	pf_lay_submit(r->fs, &s->brk);
}

/* The pages of @ip that lie in [dblk, + nblk), from page *fblk on: the next run. */
static bool next_pages(struct pf_inode *ip, uint64_t dblk, uint64_t nblk, uint64_t *fblk, uint64_t *n)
{
	bool found = false;
	struct pf_ext e;
	struct pf_bm bm;

	pf_rwlock_rdlock(&ip->lock);
	bm = pf_inode_bm(ip, NULL);
	while (!found && pf_bm_lookup(&bm, *fblk, &e) == 0 && e.len != 0) {
		uint64_t a = pf_max64(dblk, e.dblk), b = pf_min64(dblk + nblk, e.dblk + e.len);

		if (a < b && e.key + (b - e.dblk) > *fblk) {
			uint64_t first = pf_max64(*fblk, e.key + (a - e.dblk));

			*n = e.key + (b - e.dblk) - first;
			*fblk = first;
			found = true;
		} else {
			*fblk = e.key + e.len;
		}
	}
	pf_rwlock_unlock(&ip->lock);
	return found;
}

static int look_through(struct pf_bad_req *r, uint64_t dblk, uint64_t nblk)
{
	uint64_t *ino;
	size_t n;
	int err = pf_icache_numbers(r->fs, &ino, &n);

	for (size_t i = 0; err == 0 && i < n; i++) {
		uint64_t fblk = 0, len;
		struct pf_inode *ip;

		if (pf_inode_get(r->fs, ino[i], &ip) != 0)
			continue;	/* gone meanwhile */
		for (; pf_inode_isreg(ip) && next_pages(ip, dblk, nblk, &fblk, &len); fblk += len)
			shun(r, ip, fblk, len);
		pf_inode_put(ip);
	}
	if (err == 0)
		free(ino);
	return err;
}

static int change(struct pf_bad_req *r, uint64_t dblk, uint64_t nblk)
{
	uint64_t n = 0;
	int err, look = 0;

	err = r->add ? pf_bad_add(r->fs, dblk, nblk, &n) : pf_bad_del(r->fs, dblk, nblk, &n);
	r->changed += n;
	if (n != 0)
		look = look_through(r, dblk, nblk);
	return err != 0 ? err : look;
}

/* The blocks of a file: looked up one extent at a time, for the list is changed without the file's lock. */
static int change_file(struct pf_bad_req *r)
{
	uint64_t fblk = r->at >> PF_BLK_SHIFT, end;
	bool any = false;
	struct pf_inode *ip;
	struct pf_bm bm;
	struct pf_ext e;
	int err;

	if (r->len == 0 || !pf_range_ok(r->at, r->len, PF_FILE_MAX))
		return -EINVAL;
	end = PF_DIV_UP(r->at + r->len, PF_BLK_SIZE);
	err = pf_inode_get(r->fs, r->ino, &ip);
	if (err != 0)
		return err;
	if (!pf_inode_isreg(ip))
		err = -EINVAL;
	while (err == 0 && fblk < end) {
		pf_rwlock_rdlock(&ip->lock);
		bm = pf_inode_bm(ip, NULL);
		err = pf_bm_lookup(&bm, fblk, &e);
		pf_rwlock_unlock(&ip->lock);
		if (err != 0 || e.len == 0 || e.key >= end)
			break;
		fblk = pf_max64(fblk, e.key);
		any = true;
		err = change(r, e.dblk + (fblk - e.key), pf_min64(end, e.key + e.len) - fblk);
		fblk = e.key + e.len;
	}
	pf_inode_put(ip);
	return err == 0 && !any ? -ENXIO : err;
}

void pf_op_bad_start(struct pf_fs *fs, struct pf_bad_req *r)
{
	int err;

	r->fs = fs;
	r->changed = 0;
	r->err = 0;
	atomic_init(&r->refs, 1);
	err = r->ino != 0 ? change_file(r) : change(r, r->at, r->len);
	if (err != 0)
		r->err = err;
	put(r);
}
