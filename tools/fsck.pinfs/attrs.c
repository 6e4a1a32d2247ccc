/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attrs.c - the extended attributes of one inode: their tree, leaves and the blocks of long values.
 *
 * Claims blocks like the other walks of phase 3. What lies inside one leaf is pf_md_check()'s; here is what takes
 * more: that keys fit the names and the tree, that no two are equal, that values in blocks are what was written. An
 * attribute of which that is not true goes; so does a leaf that cannot be read.
 */
#include "fsck.pinfs/fsck.h"

#include <inttypes.h>
#include "base/crc32c.h"
#include "base/siphash.h"
#include "media/xleaf.h"

struct attrs {
	uint64_t owned;
	uint64_t list;		/* bytes that listxattr(2) needs */
	uint64_t low, high;	/* keys that belong into the leaf */
	bool dropped;		/* a leaf may be empty now */
};

#define complain(w, ...)                                               \
	do {                                                           \
		if ((w)->pass == FSCK_CLAIM)                           \
			fsck_problem((w)->f, (w)->phase, __VA_ARGS__); \
	} while (0)

void fsck_drop_attr(struct fsck *f, const void *leaf, unsigned int off)
{
	uint8_t *rw = fsck_edit(f, leaf, PF_BLK_SIZE);
	struct pf_d_hdr *h = (void *)rw;
	struct pf_d_xent *xe = (void *)(rw + off);
	uint16_t reclen = pf_get16(xe->xe_reclen);
	unsigned int need = pf_xent_need(xe->xe_namelen, xe->xe_nrun, pf_get32(xe->xe_vlen));

	*xe = (struct pf_d_xent){ .xe_reclen = pf_put16(reclen) };
	h->h_count = pf_put16((uint16_t)(pf_get16(h->h_count) - 1));
	h->h_free = pf_put32(pf_get32(h->h_free) + need);
	pf_md_seal(PF_MD_XATTR, h);
}

/* The verifier has seen to it that the blocks are inside the device and as many as the value needs. */
static bool check_value(struct fsck_walk *w, const struct pf_xview *v)
{
	struct attrs *a = w->arg;
	uint32_t crc = 0, left = v->vlen;
	bool mine = true;

	for (unsigned int i = 0; i < v->nrun; i++) {
		uint64_t dblk = pf_get64(v->run[i].xr_dblk), nblk = pf_get64(v->run[i].xr_nblk);
		uint32_t n = (uint32_t)pf_min64(left, nblk << PF_BLK_SHIFT);

		mine = fsck_claim(w->f, w->pass, w->ino, "attribute value", dblk, nblk) && mine;
		a->owned += nblk;
		if (w->pass == FSCK_CLAIM)
			crc = pf_crc32c(crc, fsck_at(w->f, dblk), n);
		left -= n;
	}
	if (w->pass != FSCK_CLAIM || !mine || crc == v->vcrc)
		return true;
	complain(w, "inode %" PRIu64 ": attribute %.*s: checksum of its value", w->ino, (int)v->namelen, v->name);
	return false;
}

static bool check_attr(struct fsck_walk *w, const void *leaf, const struct pf_xview *v)
{
	struct attrs *a = w->arg;
	struct pf_xview other;
	bool ok = true;

	a->list += v->namelen + 1;
	if ((v->key & ~UINT64_C(0xff)) != pf_name_key(w->f->fs.hash_key, v->name, v->namelen)) {
		complain(w, "inode %" PRIu64 ": attribute %.*s: its key is not its name's", w->ino, (int)v->namelen,
			 v->name);
		ok = false;
	}
	if (v->key < a->low || v->key >= a->high) {
		complain(w, "inode %" PRIu64 ": attribute %.*s: in the wrong leaf", w->ino, (int)v->namelen, v->name);
		ok = false;
	}
	for (unsigned int off = PF_XLEAF_FIRST; pf_xleaf_next(leaf, &off, &other) && other.off < v->off;) {
		if (other.key != v->key)
			continue;
		complain(w, "inode %" PRIu64 ": two attributes of key %" PRIu64, w->ino, v->key);
		ok = false;
	}
	return ok;
}

/* What is wrong with the leaf, or NULL. */
static const char *check_leaf(struct fsck_walk *w, uint64_t dblk)
{
	const struct pf_d_hdr *h = fsck_at(w->f, dblk);
	const char *why = pf_md_check(&w->f->fs, PF_MD_XATTR, h, dblk << PF_BLK_SHIFT, w->ino);

	if (why == NULL && pf_get32(h->h_owner_gen) != w->gen)
		why = "generation";
	return why;
}

static void attr_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	unsigned int off = PF_XLEAF_FIRST;
	const void *leaf = fsck_at(w->f, dblk);
	struct attrs *a = w->arg;
	struct pf_xview v;
	const char *why;

	if (len != 1 || flags != 0) {
		complain(w, "inode %" PRIu64 ": attribute record of key %" PRIu64 " has a length or flags", w->ino,
			 key);
		w->skipped++;
		return;
	}
	/* Before it is claimed: a block that is no such leaf may be somebody's. */
	why = check_leaf(w, dblk);
	if (why != NULL) {
		complain(w, "inode %" PRIu64 ": attribute leaf at block %" PRIu64 ": %s", w->ino, dblk, why);
		w->skipped++;
		return;
	}
	a->owned++;
	if (!fsck_claim(w->f, w->pass, w->ino, "attribute leaf", dblk, 1)) {
		w->skipped++;		/* reported as owned twice */
		return;
	}
	a->low = key;
	a->high = next_key;
	while (pf_xleaf_next(leaf, &off, &v)) {
		bool ok = w->pass != FSCK_CLAIM || check_attr(w, leaf, &v);

		if (check_value(w, &v) && ok)
			continue;
		fsck_drop_attr(w->f, leaf, v.off);
		a->dropped = true;
	}
}

bool fsck_attrs(struct fsck *f, enum fsck_pass pass, uint64_t ino, const struct pf_d_inode *di, uint64_t *owned)
{
	struct attrs a = { .owned = 0 };
	struct fsck_walk w = {
		.f = f, .pass = pass, .phase = 3, .ino = ino, .gen = pf_get32(di->i_gen), .fn = attr_rec, .arg = &a,
	};

	fsck_walk_tree(&w, fsck_xroot_of(di));
	*owned += a.owned + w.nodes;
	if (w.skipped == 0 && a.list > PF_XATTR_VALUE_MAX)
		complain(&w, "inode %" PRIu64 ": names of attributes: %" PRIu64 " bytes, more than can be listed", ino,
			 a.list);
	return w.skipped == 0 && !a.dropped;
}
