/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree.c - walks the B+tree of one inode: nodes, levels, order of keys across nodes.
 *
 * A block that is not the node it should be is not claimed: it may be somebody's. A node is entered only by the walk
 * that claimed its block first, so a tree that refers to itself ends, and all walks of a pass together visit no block
 * twice. What lies inside one node is pf_md_check()'s. Whatever is skipped here is left out when the tree is made anew.
 */
#include "fsck.pinfs/fsck.h"

#include <inttypes.h>

static void walk_node(struct fsck_walk *w, uint64_t dblk, unsigned int level, uint64_t low, uint64_t high);

/* Reports of a second walk would repeat the first. */
#define complain(w, ...)                                               \
	do {                                                           \
		(w)->skipped++;                                        \
		if ((w)->pass == FSCK_CLAIM)                           \
			fsck_problem((w)->f, (w)->phase, __VA_ARGS__); \
	} while (0)

/* One leaf record. @high: the lowest key that belongs to the next record, or UINT64_MAX. */
static void walk_leaf_rec(struct fsck_walk *w, const struct pf_d_rec *r, uint64_t low, uint64_t high, uint64_t next)
{
	uint64_t key = pf_get64(r->r_key), dblk = pf_get64(r->r_dblk), len = pf_get32(r->r_len);

	if (len == 0 || !pf_range_ok(dblk, len, w->f->fs.nblk)) {
		complain(w, "inode %" PRIu64 ": key %" PRIu64 ": blocks %" PRIu64 "+%" PRIu64 " outside the device",
			 w->ino, key, dblk, len);
		return;
	}
	if (w->lenient) {
		w->fn(w, key, dblk, len, pf_get32(r->r_flags), next);
		return;
	}
	if (key < w->floor) {
		complain(w, "inode %" PRIu64 ": key %" PRIu64 " overlaps or precedes the record before it", w->ino,
			 key);
		return;
	}
	if (key < low || !pf_range_ok(key, len, high)) {
		complain(w, "inode %" PRIu64 ": key %" PRIu64 "+%" PRIu64 " outside the range of its tree node", w->ino,
			 key, len);
		return;
	}
	w->floor = key + len;
	w->fn(w, key, dblk, len, pf_get32(r->r_flags), next);
}

/* The records of a root or a node, which @level says what they are. All keys lie in [low, high). */
static void walk_recs(struct fsck_walk *w, const struct pf_d_rec *r, unsigned int n, unsigned int level, uint64_t low,
		      uint64_t high)
{
	for (unsigned int i = 0; i < n && w->err == 0; i++) {
		uint64_t key = pf_get64(r[i].r_key);
		uint64_t next = i + 1 < n ? pf_get64(r[i + 1].r_key) : high;

		if (level == 0) {
			walk_leaf_rec(w, &r[i], low, high, next);
			continue;
		}
		if (!w->lenient && (key < low || next > high || key >= next)) {
			w->lost = true;
			complain(w, "inode %" PRIu64 ": level %u: child %u: keys %" PRIu64 "-%" PRIu64
				 " outside the range of its tree node", w->ino, level, i, key, next);
			continue;
		}
		walk_node(w, pf_get64(r[i].r_dblk), level - 1, key, next);
	}
}

/* What is wrong with the node, or NULL. What is left of a damaged one is believed: each record is judged anyway. */
static const char *check_node(struct fsck_walk *w, const struct pf_d_node *node, uint64_t dblk, unsigned int level)
{
	const char *why = pf_md_check(&w->f->fs, PF_MD_NODE, node, dblk << PF_BLK_SHIFT, w->ino);

	if (why == NULL || w->pass != FSCK_CLAIM || !fsck_mend_node(w->f, node, w->ino, w->gen, level))
		return why;
	w->resealed = w->lost = true;
	fsck_problem(w->f, w->phase, "inode %" PRIu64 ": tree node at block %" PRIu64 ": %s", w->ino, dblk, why);
	return NULL;
}

static void walk_node(struct fsck_walk *w, uint64_t dblk, unsigned int level, uint64_t low, uint64_t high)
{
	const struct pf_d_node *node;
	const char *why;

	if (dblk >= w->f->fs.nblk) {
		w->lost = true;
		complain(w, "inode %" PRIu64 ": tree node at block %" PRIu64 " outside the device", w->ino, dblk);
		return;
	}
	node = fsck_at(w->f, dblk);
	why = check_node(w, node, dblk, level);
	if (why != NULL) {
		w->lost = true;
		complain(w, "inode %" PRIu64 ": tree node at block %" PRIu64 ": %s", w->ino, dblk, why);
		return;
	}
	if (!fsck_claim(w->f, w->pass, w->ino, "tree node", dblk, 1)) {
		w->skipped++;		/* reported as owned twice */
		w->lost = true;
		return;
	}
	if (pf_get16(node->n_hdr.h_level) != level || pf_get32(node->n_hdr.h_owner_gen) != w->gen) {
		w->lost = true;
		complain(w,
			 "inode %" PRIu64 ": tree node at block %" PRIu64 ": level %u, generation %u; expected %u, %u",
			 w->ino, dblk, pf_get16(node->n_hdr.h_level), pf_get32(node->n_hdr.h_owner_gen), level, w->gen);
		return;
	}
	w->nodes++;
	if (w->node != NULL)
		w->node(w, dblk);
	/* The verifier sees to it that there is a first record. */
	if (pf_get64(node->n_rec[0].r_key) != low)
		complain(w,
			 "inode %" PRIu64 ": tree node at block %" PRIu64 ": begins with key %" PRIu64
			 ", its parent says %" PRIu64,
			 w->ino, dblk, pf_get64(node->n_rec[0].r_key), low);
	walk_recs(w, node->n_rec, pf_get16(node->n_hdr.h_count), level, low, high);
}

void fsck_walk_tree(struct fsck_walk *w, struct fsck_root root)
{
	walk_recs(w, root.r->t_rec, pf_get16(root.r->t_count), pf_get16(root.r->t_level), 0, UINT64_MAX);
}
