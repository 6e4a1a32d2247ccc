/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.c - mends a damaged inode or tree node, when enough of it is left to tell what it was.
 *
 * Fields that other objects determine (counts, sizes) may be set to anything here: the later phases correct them. What
 * an inode mended here owns is looked at with suspicion there.
 */
#include "fsck.pinfs/fsck.h"

#include <string.h>
#include <sys/stat.h>

/* Keep the records that can be right by themselves and in this order. */
static unsigned int filter_recs(const struct fsck *f, struct pf_d_rec *rec, unsigned int n, unsigned int level,
				uint64_t ino)
{
	unsigned int kept = 0;
	uint64_t end = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct pf_d_rec r = rec[i];
		uint64_t key = pf_get64(r.r_key), dblk = pf_get64(r.r_dblk);
		uint32_t len = level > 0 ? 1 : pf_get32(r.r_len);
		bool listed = ino == PF_INO_BAD && level == 0;

		if (key < end || key > UINT64_MAX - UINT32_MAX - 1 || len == 0 ||
		    (pf_get32(r.r_flags) & ~(listed ? PF_REC_HELD : PF_REC_UNWRITTEN)) != 0 ||
		    (level > 0 && (pf_get32(r.r_len) != 0 || pf_get32(r.r_flags) != 0)) ||
		    (listed && (key != dblk || !pf_range_ok(dblk, len, f->fs.nblk))))
			continue;
		if ((!listed || (pf_get32(r.r_flags) & PF_REC_HELD)) && !pf_data_range_ok(&f->fs, ino, dblk, len))
			continue;
		/* Not this one fits, if the next one does. */
		if (i + 1 < n && pf_get64(rec[i + 1].r_key) >= end && pf_get64(rec[i + 1].r_key) < key + len)
			continue;
		end = key + len;
		rec[kept++] = r;
	}
	return kept;
}

static void mend_root(const struct fsck *f, struct pf_d_root *root, uint64_t ino, bool dir)
{
	unsigned int n = pf_get16(root->t_count) < PF_ROOT_RECS ? pf_get16(root->t_count) : PF_ROOT_RECS;

	if (pf_root_check(&f->fs, root, ino, dir) == NULL)
		return;
	if (pf_get16(root->t_level) != 0)
		n = 0;		/* of a tree of nodes, the leaves will be found */
	for (unsigned int i = 0; i < n && dir; i++) {
		root->t_rec[i].r_len = pf_put32(1);
		root->t_rec[i].r_flags = pf_put32(0);
		if (i == 0)
			root->t_rec[i].r_key = pf_put64(0);
	}
	memset(root, 0, offsetof(struct pf_d_root, t_rec));
	root->t_count = pf_put16((uint16_t)filter_recs(f, root->t_rec, n, 0, ino));
}

bool fsck_mend_node(struct fsck *f, const struct pf_d_node *node, uint64_t ino, uint32_t gen, unsigned int level)
{
	uint64_t dblk = (uint64_t)((const uint8_t *)node - f->fs.pm->base) >> PF_BLK_SHIFT;
	struct pf_d_node n = *node;
	unsigned int count = pf_get16(n.n_hdr.h_count);

	/* Three of the four things that say whose it is, and nothing to say that it was another one. */
	if ((pf_get32(n.n_hdr.h_magic) == PF_MAGIC_NODE) + (pf_get64(n.n_hdr.h_fsid) == f->fs.fsid) +
			    (pf_get64(n.n_hdr.h_self) == dblk) + (pf_get64(n.n_hdr.h_owner) == ino) < 3 ||
	    pf_get32(n.n_hdr.h_owner_gen) != gen || pf_get16(n.n_hdr.h_level) != level)
		return false;
	pf_md_format(&f->fs, PF_MD_NODE, &n, dblk << PF_BLK_SHIFT, ino, gen);
	memcpy(n.n_rec, node->n_rec, sizeof n.n_rec);
	count = filter_recs(f, n.n_rec, count < PF_NODE_RECS ? count : PF_NODE_RECS, level, ino);
	n.n_hdr.h_level = pf_put16((uint16_t)level);
	n.n_hdr.h_count = pf_put16((uint16_t)count);
	pf_md_seal(PF_MD_NODE, &n);
	if (pf_md_check(&f->fs, PF_MD_NODE, &n, dblk << PF_BLK_SHIFT, ino) != NULL)
		return false;
	pf_pm_write(f->fs.pm, dblk << PF_BLK_SHIFT, &n, sizeof n);
	return true;
}

/* Is there a leaf of directory @ino where the tree begins? */
static bool leads_to_leaf(const struct fsck *f, const struct pf_d_root *root, uint64_t ino)
{
	uint64_t dblk = pf_get64(root->t_rec[0].r_dblk);
	const struct pf_d_hdr *h;

	if (pf_get16(root->t_count) == 0 || !pf_data_range_ok(&f->fs, ino, dblk, 1))
		return false;
	h = fsck_at(f, dblk);
	return pf_get32(h->h_magic) == PF_MAGIC_DIR && pf_get64(h->h_fsid) == f->fs.fsid && pf_get64(h->h_owner) == ino;
}

static uint32_t guess_type(const struct fsck *f, const struct pf_d_inode *di, uint64_t ino)
{
	if (pf_get64(di->i_parent) != 0 || leads_to_leaf(f, &di->i_root, ino))
		return S_IFDIR;
	return pf_root_check(&f->fs, &di->i_root, ino, false) == NULL ? S_IFREG : 0;
}

static void mend_times(struct pf_d_inode *d)
{
	pf_le32 *ns[] = { &d->i_atime_ns, &d->i_mtime_ns, &d->i_ctime_ns, &d->i_btime_ns };

	for (unsigned int i = 0; i < PF_ARRAY_LEN(ns); i++)
		if (pf_get32(*ns[i]) >= 1000000000U)
			*ns[i] = pf_put32(0);
}

static void mend_symlink(const struct fsck *f, struct pf_d_inode *d, uint64_t ino)
{
	uint64_t size = pf_get64(d->i_size), len = strnlen((const char *)d->i_symlink, sizeof d->i_symlink);

	if (size > PF_SYMLINK_INLINE && pf_root_check(&f->fs, &d->i_root, ino, false) == NULL)
		d->i_size = pf_put64(pf_min64(size, PF_BLK_SIZE - 1));
	else
		d->i_size = pf_put64(len);
}

bool fsck_mend_inode(struct fsck *f, const struct pf_d_inode *di, uint64_t ino)
{
	uint64_t doff = (uint64_t)((const uint8_t *)di - f->fs.pm->base);
	struct pf_d_inode d = *di;
	uint32_t mode = pf_get32(d.i_mode);
	const bool magic = pf_get32(d.i_magic) == PF_MAGIC_INODE, fsid = pf_get64(d.i_fsid) == f->fs.fsid;

	/* Two of the three things that name it. */
	if (magic + fsid + (pf_get64(d.i_ino) == ino) < 2)
		return false;
	d.i_magic = pf_put32(PF_MAGIC_INODE);
	d.i_fsid = pf_put64(f->fs.fsid);
	d.i_ino = pf_put64(ino);
	memset(d.i_pad, 0, sizeof d.i_pad);
	if (pf_get32(d.i_gen) == 0)
		d.i_gen = pf_put32(1);
	if (pf_get32(d.i_nlink) > PF_LINK_MAX)
		d.i_nlink = pf_put32(1);
	if (pf_get64(d.i_size) > PF_FILE_MAX)
		d.i_size = pf_put64(0);
	if (pf_get64(d.i_nblk) > f->fs.nblk)
		d.i_nblk = pf_put64(0);
	mend_times(&d);
	if (pf_get32(d.i_intent) > PF_INTENT_INSERT ||
	    !pf_range_ok(pf_get64(d.i_intent_off), pf_get64(d.i_intent_len), UINT64_MAX)) {
		d.i_intent = pf_put32(PF_INTENT_NONE);
		d.i_intent_off = d.i_intent_len = d.i_intent_pos = pf_put64(0);
	}
	if (pf_xroot_check(&f->fs, &d.i_xroot, ino) != NULL)
		memset(&d.i_xroot, 0, sizeof d.i_xroot);
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) &&
	    !S_ISSOCK(mode)) {
		mode = (mode & 07777) | guess_type(f, &d, ino);
		d.i_mode = pf_put32(mode);
	}
	if (S_ISREG(mode) || S_ISDIR(mode))
		mend_root(f, &d.i_root, ino, S_ISDIR(mode));
	if (S_ISLNK(mode))
		mend_symlink(f, &d, ino);
	pf_md_seal(PF_MD_INODE, &d);
	if (pf_md_check(&f->fs, PF_MD_INODE, &d, doff, ino) != NULL)
		return false;
	pf_pm_write(f->fs.pm, doff, &d, sizeof d);
	return true;
}
