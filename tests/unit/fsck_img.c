/* SPDX-License-Identifier: BSD-3-Clause */
/* fsck_img.c - see fsck_img.h. Directories are laid out by hand, so that each leaf holds what a test wants there. */
#include "fsck_img.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "base/crc32c.h"
#include "base/siphash.h"
#include "media/pmem.h"
#include "media/super.h"
#include "space/bmap.h"
#include "space/itable.h"
#include "space_env.h"

static void must(int err)
{
	if (err != 0)
		abort();
}

static void bug(bool wrong)
{
	if (wrong)
		abort();
}

static struct pf_tx *begin(struct pf_fs *fs)
{
	struct pf_tx *tx;

	must(pf_tx_begin(fs, &tx));
	return tx;
}

static uint64_t make_inode(struct pf_fs *fs, uint64_t near, uint32_t mode, uint32_t nlink, uint64_t size)
{
	struct pf_tx *tx = begin(fs);
	struct pf_d_inode *di;
	uint64_t ino, doff;
	uint32_t gen;
	void *obj;

	must(pf_itab_alloc(tx, near, &ino, &gen, &doff));
	must(pf_tx_new(tx, PF_MD_INODE, doff, ino, gen, &obj));
	di = obj;
	di->i_mode = pf_put32(mode);
	di->i_nlink = pf_put32(nlink);
	di->i_size = pf_put64(size);
	must(pf_tx_commit(tx));
	return ino;
}

static struct pf_d_inode *edit(struct pf_fs *fs, struct pf_tx *tx, uint64_t ino)
{
	struct pf_d_inode di;
	uint64_t doff;
	void *obj;

	must(pf_itab_read(fs, ino, &di, &doff));
	must(pf_tx_get(tx, PF_MD_INODE, doff, ino, &obj));
	return obj;
}

static struct pf_bm bm_of(struct pf_fs *fs, struct pf_tx *tx, struct pf_d_inode *di)
{
	return (struct pf_bm){
		.fs = fs, .tx = tx, .root = &di->i_root, .owner = pf_get64(di->i_ino), .gen = pf_get32(di->i_gen),
		.dir = S_ISDIR(pf_get32(di->i_mode)),
	};
}

static void add_blocks(struct pf_d_inode *di, const struct pf_bm *bm, uint64_t n)
{
	di->i_nblk = pf_put64((uint64_t)((int64_t)(pf_get64(di->i_nblk) + n) + bm->node_delta));
}

/* Returns the block. */
static uint64_t add_extent(struct pf_fs *fs, uint64_t ino, uint64_t fblk, uint64_t nblk, uint32_t flags)
{
	struct pf_tx *tx = begin(fs);
	struct pf_d_inode *di = edit(fs, tx, ino);
	struct pf_bm bm = bm_of(fs, tx, di);
	struct pf_run run;

	must(pf_alloc_reserve(fs, nblk, nblk, 0, 0, &run));
	must(pf_tx_use(tx, run));
	must(pf_bm_insert(&bm,
			  &(struct pf_ext){ .key = fblk, .dblk = run.dblk, .len = (uint32_t)nblk, .flags = flags }));
	add_blocks(di, &bm, nblk);
	/* Every page has its own bytes; so have unwritten ones, which nobody may ever see. */
	for (uint64_t i = 0; i < nblk; i++)
		memset(img_blk(fs->pm->base, run.dblk + i), (int)(1 + (ino * 7 + fblk + i) % 255), PF_BLK_SIZE);
	must(pf_tx_commit(tx));
	return run.dblk;
}

/* ---- directories ---- */

struct ent { uint64_t key, ino; uint8_t type; char name[32]; };

static int by_key(const void *a, const void *b)
{
	const struct ent *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static void fill_leaf(struct pf_d_hdr *h, const struct ent *e, unsigned int n)
{
	uint8_t *at = (uint8_t *)(h + 1), *end = (uint8_t *)h + PF_BLK_SIZE;
	struct pf_d_dirent *de;
	unsigned int used = 0;

	for (unsigned int i = 0; i < n; i++) {
		unsigned int len = (unsigned int)strlen(e[i].name), need = (20 + len + 7) & ~7U;

		de = (void *)at;
		de->de_key = pf_put64(e[i].key);
		de->de_ino = pf_put64(e[i].ino);
		de->de_reclen = pf_put16((uint16_t)need);
		de->de_type = e[i].type;
		de->de_namelen = (uint8_t)len;
		memcpy((char *)de + offsetof(struct pf_d_dirent, de_name), e[i].name, len);
		at += need;
		used += need;
	}
	de = (void *)at;
	de->de_reclen = pf_put16((uint16_t)(end - at));
	h->h_count = pf_put16((uint16_t)n);
	h->h_free = pf_put32((uint32_t)(PF_BLK_SIZE - sizeof *h - used));
}

/* Give @dir these entries, @per_leaf in each leaf. */
static void fill_dir(struct pf_fs *fs, uint64_t dir, struct ent *e, unsigned int n, unsigned int per_leaf,
		     uint64_t *leaf_dblk)
{
	struct pf_tx *tx = begin(fs);
	struct pf_d_inode *di = edit(fs, tx, dir);
	struct pf_bm bm = bm_of(fs, tx, di);
	unsigned int leaves = 0;

	for (unsigned int i = 0; i < n; i++)
		e[i].key = pf_name_key(fs->hash_key, e[i].name, strlen(e[i].name));
	qsort(e, n, sizeof *e, by_key);
	for (unsigned int i = 0; i < n; i += per_leaf, leaves++) {
		uint64_t dblk, key = i == 0 ? 0 : e[i].key;
		void *leaf;

		must(pf_tx_alloc_meta(tx, 0, &dblk));
		must(pf_tx_new(tx, PF_MD_DIR, dblk << PF_BLK_SHIFT, dir, bm.gen, &leaf));
		fill_leaf(leaf, e + i, n - i < per_leaf ? n - i : per_leaf);
		must(pf_bm_insert(&bm, &(struct pf_ext){ .key = key, .dblk = dblk, .len = 1 }));
		leaf_dblk[leaves] = dblk;
	}
	add_blocks(di, &bm, leaves);
	di->i_size = pf_put64(leaves * PF_BLK_SIZE);
	di->i_nent = pf_put64(n);
	must(pf_tx_commit(tx));
}

static void set_dir(struct pf_fs *fs, uint64_t ino, uint64_t parent, uint32_t nlink)
{
	struct pf_tx *tx = begin(fs);
	struct pf_d_inode *di = edit(fs, tx, ino);

	di->i_parent = pf_put64(parent);
	di->i_nlink = pf_put32(nlink);
	must(pf_tx_commit(tx));
}

static void make_dirs(struct img *im)
{
	struct pf_fs *fs = im->fs;
	struct ent root[] = {
		{ .name = "a", .ino = im->a, .type = DT_REG }, { .name = "h", .ino = im->a, .type = DT_REG },
		{ .name = "b", .ino = im->b, .type = DT_REG }, { .name = "c", .ino = im->c, .type = DT_REG },
		{ .name = "d", .ino = im->d, .type = DT_DIR }, { .name = "l", .ino = im->l, .type = DT_LNK },
		{ .name = "ll", .ino = im->ll, .type = DT_LNK }, { .name = "n", .ino = im->n, .type = DT_CHR },
		{ .name = "x", .ino = im->x, .type = DT_REG },
	};
	static struct ent names[IMG_D_NAMES + 1];

	fill_dir(fs, PF_INO_ROOT, root, PF_ARRAY_LEN(root), PF_ARRAY_LEN(root), &im->root_leaf);
	set_dir(fs, PF_INO_ROOT, PF_INO_ROOT, 3);
	for (unsigned int i = 0; i < IMG_D_NAMES; i++) {
		names[i] = (struct ent){ .ino = im->c, .type = DT_REG };
		(void)snprintf(names[i].name, sizeof names[i].name, "n%03u", i);
	}
	names[IMG_D_NAMES] = (struct ent){ .name = "e", .ino = im->e, .type = DT_DIR };
	fill_dir(fs, im->d, names, IMG_D_NAMES + 1, 24, im->d_leaf);
	set_dir(fs, im->d, PF_INO_ROOT, 3);
	set_dir(fs, im->e, im->d, 2);
}

/* ---- the rest ---- */

static void make_symlinks(struct img *im)
{
	const char *target = "over/there";
	struct pf_fs *fs = im->fs;
	struct pf_d_inode *di;
	struct pf_tx *tx;
	uint64_t dblk;

	/* Inode and target in one go: a symlink without a target is not sound. */
	im->l = make_inode(fs, 0, S_IFREG | 0777, 1, 0);
	tx = begin(fs);
	di = edit(fs, tx, im->l);
	di->i_mode = pf_put32(S_IFLNK | 0777);
	di->i_size = pf_put64(strlen(target));
	memcpy(di->i_symlink, target, strlen(target));
	must(pf_tx_commit(tx));

	im->ll = make_inode(fs, 0, S_IFLNK | 0777, 1, 300);
	dblk = add_extent(fs, im->ll, 0, 1, 0);
	memset(img_blk(fs->pm->base, dblk), 'l', 300);
}

static void make_orphans(struct img *im)
{
	struct pf_fs *fs = im->fs;
	struct pf_tx *tx = begin(fs);
	struct pf_d_inode *di = edit(fs, tx, PF_INO_ORPHAN);
	struct pf_bm bm = bm_of(fs, tx, di);
	struct pf_d_orphan *o;
	void *obj;

	must(pf_tx_alloc_meta(tx, 0, &im->orph_dblk));
	must(pf_tx_new(tx, PF_MD_ORPHAN, im->orph_dblk << PF_BLK_SHIFT, PF_INO_ORPHAN, bm.gen, &obj));
	o = obj;
	o->o_ino[3] = pf_put64(im->x);
	o->o_ino[7] = pf_put64(im->gone);
	o->o_hdr.h_count = pf_put16(2);
	must(pf_bm_insert(&bm, &(struct pf_ext){ .key = 0, .dblk = im->orph_dblk, .len = 1 }));
	add_blocks(di, &bm, 1);
	di->i_size = pf_put64(PF_BLK_SIZE);

	di = edit(fs, tx, im->x);
	di->i_intent = pf_put32(PF_INTENT_PUNCH);
	di->i_intent_len = pf_put64(PF_BLK_SIZE);
	must(pf_tx_commit(tx));
}

/* Use up cluster 0, so that the table grows; then give back what was used up. */
static void second_cluster(struct img *im)
{
	struct pf_fs *fs = im->fs;
	uint64_t used, room, ino = 0;
	struct pf_tx *tx;

	pf_itab_stat(fs, &used, &room);
	for (uint64_t i = used; i < PF_ICLU_SLOTS - PF_ICLU_FIRST; i++)
		ino = make_inode(fs, 0, S_IFREG, 0, 0);
	bug(ino != PF_ICLU_SLOTS - 1);
	must(pf_itab_grow(fs));
	im->c = make_inode(fs, UINT64_C(1) << PF_ICLU_SHIFT, S_IFREG | 0600, 1 + IMG_D_NAMES, 0);
	bug(im->c >> PF_ICLU_SHIFT != 1);
	for (uint64_t i = ino; i > used + PF_ICLU_FIRST - 1; i--) {
		tx = begin(fs);
		must(pf_itab_free(tx, i));
		must(pf_tx_commit(tx));
	}
}

struct img *img_make(void)
{
	struct img *im = calloc(1, sizeof *im);
	struct pf_tx *tx;
	struct pf_fs *fs;

	if (im == NULL)
		abort();
	fs = im->fs = space_open(IMG_BYTES);
	must(pf_sb_mark_mounted(fs));
	im->a = make_inode(fs, 0, S_IFREG | 0644, 2, 40 * 3 * PF_BLK_SIZE);
	im->a_dblk = add_extent(fs, im->a, 0, 2, 0);
	for (uint64_t i = 1; i < 40; i++)
		(void)add_extent(fs, im->a, i * 3, 2, 0);
	im->b = make_inode(fs, 0, S_IFREG | 0644, 1, 4 * PF_BLK_SIZE - 1);
	im->b_dblk = add_extent(fs, im->b, 0, 4, 0);
	(void)add_extent(fs, im->b, 100, 8, PF_REC_UNWRITTEN);
	im->d = make_inode(fs, 0, S_IFDIR | 0755, 3, 0);
	im->e = make_inode(fs, 0, S_IFDIR | 0755, 2, 0);
	make_symlinks(im);
	im->n = make_inode(fs, 0, S_IFCHR | 0666, 1, 0);
	tx = begin(fs);
	edit(fs, tx, im->n)->i_rdev = pf_put64(makedev(1, 3));
	must(pf_tx_commit(tx));
	im->x = make_inode(fs, 0, S_IFREG | 0644, 1, 2 * PF_BLK_SIZE);
	(void)add_extent(fs, im->x, 0, 2, 0);
	im->gone = make_inode(fs, 0, S_IFREG | 0644, 0, 0);
	(void)add_extent(fs, im->gone, 0, 1, PF_REC_UNWRITTEN);
	second_cluster(im);
	make_orphans(im);
	make_dirs(im);
	im->a_node = pf_get64(img_inode(im, fs->pm->base, im->a)->i_root.t_rec[0].r_dblk);
	bug(pf_get16(img_inode(im, fs->pm->base, im->a)->i_root.t_level) != 1);
	im->clu1_dblk = pf_get64(img_inode(im, fs->pm->base, PF_INO_ITABLE)->i_root.t_rec[1].r_dblk);
	bug(pf_get16(img_inode(im, fs->pm->base, PF_INO_ITABLE)->i_root.t_count) != 2);
	return im;
}

void img_free(struct img *im)
{
	space_close(im->fs);
	free(im);
}

struct pf_d_inode *img_inode(const struct img *im, uint8_t *base, uint64_t ino)
{
	uint64_t dblk = ino >> PF_ICLU_SHIFT == 0 ? im->fs->iclu0_blk : im->clu1_dblk;

	return (struct pf_d_inode *)img_blk(base, dblk) + ino % PF_ICLU_SLOTS;
}

struct pf_d_dirent *img_entry(void *leaf, const char *name)
{
	for (unsigned int off = sizeof(struct pf_d_hdr); off < PF_BLK_SIZE;) {
		struct pf_d_dirent *de = (void *)((uint8_t *)leaf + off);

		if (pf_get64(de->de_ino) != 0 && de->de_namelen == strlen(name) &&
		    memcmp((char *)de + offsetof(struct pf_d_dirent, de_name), name, de->de_namelen) == 0)
			return de;
		off += pf_get16(de->de_reclen);
	}
	abort();
}

void img_seal_blk(void *blk)
{
	pf_md_seal(PF_MD_NODE, blk);	/* all but inodes have their checksum over 4096 bytes, at one place */
}

void img_seal_inode(struct pf_d_inode *di)
{
	pf_md_seal(PF_MD_INODE, di);
}

void img_seal_super(uint8_t *base, uint64_t dblk)
{
	struct pf_d_super *sb = img_blk(base, dblk);

	sb->sb_crc = pf_put32(pf_sb_sum(sb));
}

void img_seal_lane(const struct img *im, uint8_t *base, uint32_t lane, uint64_t seq, uint64_t doff, const void *line)
{
	struct pf_d_lane *l = img_blk(base, im->fs->lane_blk + lane * im->fs->lane_nblk);
	struct pf_d_jrec *r = (void *)(l + 1);

	*r = (struct pf_d_jrec){ .j_doff = pf_put64(doff), .j_len = pf_put32(PF_LINE) };
	memcpy(r + 1, line, PF_LINE);
	*l = (struct pf_d_lane){
		.l_magic = pf_put32(PF_MAGIC_LANE), .l_fsid = pf_put64(im->fs->fsid), .l_seq = pf_put64(seq),
		.l_index = pf_put32(lane), .l_nrec = pf_put32(1), .l_len = pf_put32(sizeof *r + PF_LINE),
	};
	l->l_crc = pf_put32(pf_crc32c_hole(l, sizeof *l + sizeof *r + PF_LINE, offsetof(struct pf_d_lane, l_crc)));
}
