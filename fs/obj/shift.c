/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shift.c - pages that move inside a file: COLLAPSE_RANGE and INSERT_RANGE.
 *
 * Records keep their place in the tree and get new keys, leaf by leaf, so after the first transaction no space is
 * needed any more. That one sets the size and records the intent; how far the others have come is in i_intent_pos, in
 * the same transaction as the keys. So the file is as before or, once the next mount has settled it, as after. Takes no
 * lock: the caller has the inode's, and the layout broken from the offset on.
 */
#include "obj/cut.h"

#include <assert.h>
#include <errno.h>

#define KEY_END (UINT64_C(1) << 63)

struct shift { enum pf_d_intent what; uint64_t foff, len; };

/* The keys of a collapse may move as soon as the range is empty, and not before: i_intent_pos leaves its first value
 * with the first key that moves, so a range which was filled by moving is not taken for one still to be emptied. */
static int collapse_some(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, bool *done)
{
	const uint64_t key = pf_get64(di->i_intent_off) >> PF_BLK_SHIFT, n = pf_get64(di->i_intent_len) >> PF_BLK_SHIFT;
	uint64_t pos = pf_get64(di->i_intent_pos), done_to = 0;
	struct pf_bm bm;
	int err = 0;

	*done = false;
	if (pos == key + n) {
		err = pf_cut_pages(tx, ip, key, key + n, &done_to);
		if (err != 0 || done_to < key + n)
			return err;
	}
	bm = pf_inode_bm(ip, tx);
	err = pf_bm_shift_down(&bm, n, &pos, done);
	di->i_intent_pos = pf_put64(pos);
	return err;
}

static int insert_some(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, bool *done)
{
	const uint64_t key = pf_get64(di->i_intent_off) >> PF_BLK_SHIFT, n = pf_get64(di->i_intent_len) >> PF_BLK_SHIFT;
	uint64_t pos = pf_get64(di->i_intent_pos);
	struct pf_bm bm = pf_inode_bm(ip, tx);
	int err = pf_bm_shift_up(&bm, key, n, &pos, done);

	di->i_intent_pos = pf_put64(pos);
	return err;
}

int pf_shift_some(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, bool *done)
{
	return pf_get32(di->i_intent) == PF_INTENT_COLLAPSE ? collapse_some(tx, ip, di, done) :
		insert_some(tx, ip, di, done);
}

/* Extents are cut at the borders here, where running out of space leaves everything as it was. */
static int first(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode *di, void *arg, bool *done)
{
	const struct shift *s = arg;
	const bool collapse = s->what == PF_INTENT_COLLAPSE;
	const uint64_t size = pf_get64(di->i_size);
	struct pf_bm bm = pf_inode_bm(ip, tx);
	int err = pf_bm_split(&bm, s->foff >> PF_BLK_SHIFT);

	if (err == 0 && collapse)
		err = pf_bm_split(&bm, (s->foff + s->len) >> PF_BLK_SHIFT);
	if (err != 0)
		return err;
	pf_inode_blocks(ip, bm.node_delta);
	di->i_size = pf_put64(collapse ? size - s->len : size + s->len);
	di->i_intent = pf_put32(s->what);
	di->i_intent_off = pf_put64(s->foff);
	di->i_intent_len = pf_put64(s->len);
	di->i_intent_pos = pf_put64(collapse ? (s->foff + s->len) >> PF_BLK_SHIFT : KEY_END);
	return pf_shift_some(tx, ip, di, done);
}

static int shift(struct pf_inode *ip, struct shift *s)
{
	int err = pf_inode_settle(ip);

	if (err == 0)
		err = pf_cut_start(ip, first, s);
	return err != 0 ? err : pf_inode_settle(ip);
}

int pf_inode_collapse(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	struct shift s = { PF_INTENT_COLLAPSE, foff, len };

	assert(foff + len < pf_inode_size(ip));
	return shift(ip, &s);
}

int pf_inode_insert(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	struct shift s = { PF_INTENT_INSERT, foff, len };
	struct pf_bm bm = pf_inode_bm(ip, NULL);
	struct pf_ext last;
	int err = pf_bm_floor(&bm, KEY_END, &last);

	assert(foff < pf_inode_size(ip));
	/* Blocks allocated behind the end of file move too. */
	if (err == 0 && last.len != 0 && len > PF_FILE_MAX - ((last.key + last.len) << PF_BLK_SHIFT))
		err = -EFBIG;
	return err != 0 ? err : shift(ip, &s);
}
