/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck.c - fsck names every class of damage, and a sound image has none. Each case breaks one thing of an image
 * that has one of everything, mends the checksums in front of it, and must be told what it broke.
 */
#include "harness/unit.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "base/siphash.h"
#include "fsck.pinfs/fsck.h"
#include "fsck_img.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/xleaf.h"
#include "space/bad.h"

static struct img *im;

/* A copy of the image, and what fsck says of it. */
struct copy {
	struct pf_pm *pm;
	char *text;
	int rc;
};

static struct copy copy_make(void)
{
	struct copy c = { .pm = mem_open(IMG_BYTES) };
	static const uint8_t zero[PF_BLK_SIZE];

	for (uint64_t off = 0; off < IMG_BYTES; off += PF_BLK_SIZE)
		if (memcmp(im->fs->pm->base + off, zero, PF_BLK_SIZE) != 0)
			memcpy(c.pm->base + off, im->fs->pm->base + off, PF_BLK_SIZE);
	return c;
}

static void copy_run(struct copy *c, enum fsck_mode mode)
{
	struct fsck f = { .mode = mode };
	size_t len;

	free(c->text);
	c->text = NULL;

	f.out = open_memstream(&c->text, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	c->rc = fsck_check(&f, c->pm, "img");
	(void)fclose(f.out);
}

static void copy_check(struct copy *c)
{
	copy_run(c, FSCK_CHECK);
}

static void copy_free(struct copy *c)
{
	mem_close(c->pm);
	free(c->text);
}

/* ---- damage ---- */

#define INODE(nr) img_inode(im, b, nr)
#define ROOT_ENTRY(name) img_entry(img_blk(b, im->root_leaf), name)

static struct pf_d_node *a_node(uint8_t *b) { return img_blk(b, im->a_node); }
static struct pf_d_map *map0(uint8_t *b) { return img_blk(b, im->fs->map_blk); }
static struct pf_d_orphan *orphan(uint8_t *b) { return img_blk(b, im->orph_dblk); }
static struct pf_d_iclu *clu0(uint8_t *b) { return img_blk(b, im->fs->iclu0_blk); }
static uint64_t last_blk(void) { return im->fs->nblk - 1; }

static void flip(void *p) { *(uint8_t *)p ^= 0x10; }
static void add16(pf_le16 *v, int d) { *v = pf_put16((uint16_t)(pf_get16(*v) + d)); }
static void add32(pf_le32 *v, int d) { *v = pf_put32(pf_get32(*v) + (uint32_t)d); }
static void add64(pf_le64 *v, int d) { *v = pf_put64(pf_get64(*v) + (uint64_t)(int64_t)d); }
static void seal_ino(uint8_t *b, uint64_t ino) { img_seal_inode(INODE(ino)); }
static void seal_root_leaf(uint8_t *b) { img_seal_blk(img_blk(b, im->root_leaf)); }

/* superblocks and journal */
static void d_super(uint8_t *b) { flip(b + 300); }
static void d_super_copy(uint8_t *b) { flip((uint8_t *)img_blk(b, last_blk()) + 300); }
static void d_super_torn(uint8_t *b) { flip(&((struct pf_d_super *)img_blk(b, 0))->sb_mount_count); }
static void d_super_both(uint8_t *b) { d_super(b); d_super_copy(b); }
static void d_super_differ(uint8_t *b)
{
	((struct pf_d_super *)img_blk(b, last_blk()))->sb_label[0] = '!';
	img_seal_super(b, last_blk());
}
static void d_super_clean(uint8_t *b)
{
	((struct pf_d_super *)img_blk(b, 0))->sb_state = pf_put32(PF_SB_CLEAN);
	img_seal_super(b, 0);
}
static void d_lane_clean(uint8_t *b)
{
	d_super_clean(b);
	((struct pf_d_lane *)img_blk(b, im->fs->lane_blk))->l_seq = pf_put64(5);
}

static void seal_lane(uint8_t *b, uint64_t doff, const void *line) { img_seal_lane(im, b, 1, 9, doff, line); }
static void d_lane_nonsense(uint8_t *b) { seal_lane(b, 0, b); }

/* inode table and inodes */
static void d_itable(uint8_t *b) { flip(&INODE(PF_INO_ITABLE)->i_mtime); }
static void d_itable_nblk(uint8_t *b) { add64(&INODE(PF_INO_ITABLE)->i_nblk, 1); seal_ino(b, PF_INO_ITABLE); }
static void d_itable_size(uint8_t *b) { add64(&INODE(PF_INO_ITABLE)->i_size, 4096); seal_ino(b, PF_INO_ITABLE); }
static void d_itable_rec(uint8_t *b)
{
	add64(&INODE(PF_INO_ITABLE)->i_root.t_rec[1].r_key, 1);
	seal_ino(b, PF_INO_ITABLE);
}
static void d_itable_gap(uint8_t *b)
{
	add64(&INODE(PF_INO_ITABLE)->i_root.t_rec[1].r_key, 64);
	seal_ino(b, PF_INO_ITABLE);
}
static void d_itable_move(uint8_t *b)
{
	INODE(PF_INO_ITABLE)->i_root.t_rec[0].r_dblk = pf_put64(im->clu1_dblk);
	seal_ino(b, PF_INO_ITABLE);
}
static void d_cluster(uint8_t *b) { flip(img_blk(b, im->clu1_dblk)); }
static void d_cluster_count(uint8_t *b) { add32(&clu0(b)->c_hdr.h_free, 1); img_seal_blk(clu0(b)); }
static void d_root_unused(uint8_t *b)
{
	clu0(b)->c_used[PF_INO_ROOT / 8] &= (uint8_t)~(1U << PF_INO_ROOT % 8);
	add32(&clu0(b)->c_hdr.h_free, 1);
	img_seal_blk(clu0(b));
}
static void d_orphan_unused(uint8_t *b)
{
	clu0(b)->c_used[1] &= (uint8_t)~2U;
	add32(&clu0(b)->c_hdr.h_free, 1);
	img_seal_blk(clu0(b));
}
static void d_root_type(uint8_t *b)
{
	struct pf_d_inode *di = INODE(PF_INO_ROOT);

	di->i_mode = pf_put32(S_IFREG | 0644);
	di->i_nent = di->i_parent = pf_put64(0);
	seal_ino(b, PF_INO_ROOT);
}
static void d_inode(uint8_t *b) { flip(&INODE(im->a)->i_mtime); }
static void d_inode_fsid(uint8_t *b) { flip(&INODE(im->a)->i_fsid); seal_ino(b, im->a); }
static void d_inode_nr(uint8_t *b) { add64(&INODE(im->a)->i_ino, 1); seal_ino(b, im->a); }
static void d_inode_type(uint8_t *b) { INODE(im->a)->i_mode = pf_put32(0644); seal_ino(b, im->a); }
static void d_inode_rdev(uint8_t *b) { INODE(im->a)->i_rdev = pf_put64(259); seal_ino(b, im->a); }
static void d_inode_parent(uint8_t *b) { INODE(im->a)->i_parent = pf_put64(11); seal_ino(b, im->a); }
static void d_dev_size(uint8_t *b) { INODE(im->n)->i_size = pf_put64(9); seal_ino(b, im->n); }
static void d_dev_nblk(uint8_t *b) { INODE(im->n)->i_nblk = pf_put64(9); seal_ino(b, im->n); }
static void d_symlink(uint8_t *b) { add64(&INODE(im->l)->i_size, 1); seal_ino(b, im->l); }
static void d_symlink_long(uint8_t *b) { INODE(im->ll)->i_size = pf_put64(4096); seal_ino(b, im->ll); }
static void d_intent_align(uint8_t *b) { add64(&INODE(im->x)->i_intent_len, 1); seal_ino(b, im->x); }
static void d_intent_unknown(uint8_t *b) { INODE(im->x)->i_intent = pf_put32(9); seal_ino(b, im->x); }
static void d_intent_dev(uint8_t *b) { INODE(im->n)->i_intent = pf_put32(PF_INTENT_TRUNC); seal_ino(b, im->n); }
static void d_root_deep(uint8_t *b) { INODE(im->a)->i_root.t_level = pf_put16(200); seal_ino(b, im->a); }
static void d_root_count(uint8_t *b) { INODE(im->a)->i_root.t_count = pf_put16(11); seal_ino(b, im->a); }
static void d_rec_outside(uint8_t *b)
{
	INODE(im->b)->i_root.t_rec[0].r_dblk = pf_put64(im->fs->nblk - 2);
	seal_ino(b, im->b);
}
static void d_rec_meta(uint8_t *b)
{
	INODE(im->b)->i_root.t_rec[0].r_dblk = pf_put64(im->fs->map_blk);
	seal_ino(b, im->b);
}

/* trees */
static void d_node(uint8_t *b) { flip(&a_node(b)->n_rec[3]); }
static void d_node_owner(uint8_t *b) { add64(&a_node(b)->n_hdr.h_owner, 1); img_seal_blk(a_node(b)); }
static void d_node_self(uint8_t *b) { add64(&a_node(b)->n_hdr.h_self, 1); img_seal_blk(a_node(b)); }
static void d_node_gen(uint8_t *b) { add32(&a_node(b)->n_hdr.h_owner_gen, 1); img_seal_blk(a_node(b)); }
static void d_node_level(uint8_t *b)
{
	a_node(b)->n_hdr.h_level = pf_put16(1);
	for (unsigned int i = 0; i < PF_NODE_RECS; i++)
		a_node(b)->n_rec[i].r_len = pf_put32(0);
	img_seal_blk(a_node(b));
}
static void d_node_count(uint8_t *b) { a_node(b)->n_hdr.h_count = pf_put16(169); img_seal_blk(a_node(b)); }
static void d_node_order(uint8_t *b) { a_node(b)->n_rec[2].r_key = pf_put64(1); img_seal_blk(a_node(b)); }
static void d_node_low(uint8_t *b) { INODE(im->a)->i_root.t_rec[0].r_key = pf_put64(1); seal_ino(b, im->a); }
static void d_node_key(uint8_t *b)
{
	/* A second child, which begins where the first one still goes on. */
	struct pf_d_node *n = img_blk(b, last_blk() - 1);
	struct pf_d_root *r = &INODE(im->a)->i_root;

	*n = *a_node(b);
	n->n_hdr.h_self = pf_put64(last_blk() - 1);
	n->n_hdr.h_count = pf_put16(1);
	n->n_rec[0].r_key = pf_put64(30);
	img_seal_blk(n);
	r->t_rec[1] = (struct pf_d_rec){ .r_key = pf_put64(30), .r_dblk = pf_put64(last_blk() - 1) };
	r->t_count = pf_put16(2);
	seal_ino(b, im->a);
}
static void d_node_twice(uint8_t *b)
{
	struct pf_d_root *r = &INODE(im->a)->i_root;

	r->t_rec[1] = r->t_rec[0];
	r->t_rec[1].r_key = pf_put64(100000);
	r->t_count = pf_put16(2);
	seal_ino(b, im->a);
}
static void d_node_itself(uint8_t *b)
{
	/* A node whose child it is itself. */
	INODE(im->a)->i_root.t_level = pf_put16(2);
	seal_ino(b, im->a);
	d_node_level(b);
	a_node(b)->n_hdr.h_count = pf_put16(1);
	a_node(b)->n_rec[0] = (struct pf_d_rec){ .r_dblk = pf_put64(im->a_node) };
	img_seal_blk(a_node(b));
}
static void d_shared_data(uint8_t *b)
{
	INODE(im->b)->i_root.t_rec[0].r_dblk = pf_put64(im->a_dblk);
	seal_ino(b, im->b);
}
static void d_shared_cluster(uint8_t *b)
{
	INODE(im->b)->i_root.t_rec[0].r_dblk = pf_put64(im->clu1_dblk + 5);
	seal_ino(b, im->b);
}
static void d_shared_leaf(uint8_t *b)
{
	INODE(im->gone)->i_root.t_rec[0].r_dblk = pf_put64(im->d_leaf[1]);
	seal_ino(b, im->gone);
}
static void d_nblk(uint8_t *b) { add64(&INODE(im->a)->i_nblk, -1); seal_ino(b, im->a); }
static void d_dir_nblk(uint8_t *b) { add64(&INODE(im->d)->i_nblk, 1); seal_ino(b, im->d); }
static void d_beyond_eof(uint8_t *b) { INODE(im->b)->i_size = pf_put64(3 * PF_BLK_SIZE); seal_ino(b, im->b); }
static void d_too_far(uint8_t *b)
{
	INODE(im->b)->i_root.t_rec[1].r_key = pf_put64(UINT64_C(1) << 52);
	seal_ino(b, im->b);
}
static void d_beyond_kept(uint8_t *b) { INODE(im->b)->i_root.t_rec[1].r_flags = pf_put32(0); seal_ino(b, im->b); }

/* names */
static void d_leaf(uint8_t *b) { flip((uint8_t *)img_blk(b, im->d_leaf[1]) + 80); }
static void d_leaf_gen(uint8_t *b)
{
	add32(&((struct pf_d_hdr *)img_blk(b, im->d_leaf[1]))->h_owner_gen, 3);
	img_seal_blk(img_blk(b, im->d_leaf[1]));
}
static void d_leaf_count(uint8_t *b)
{
	add16(&((struct pf_d_hdr *)img_blk(b, im->root_leaf))->h_count, 1);
	seal_root_leaf(b);
}
static void d_entry_len(uint8_t *b) { add16(&ROOT_ENTRY("c")->de_reclen, 2); seal_root_leaf(b); }
static void d_entry_key(uint8_t *b) { add64(&ROOT_ENTRY("c")->de_key, 256); seal_root_leaf(b); }
static void d_entry_collision(uint8_t *b) { (void)b; add64(&ROOT_ENTRY("c")->de_key, 7); seal_root_leaf(b); }
static void d_leaf_swap(uint8_t *b)
{
	/* Two leaves of /d change places: all their names are in the wrong one. */
	struct pf_d_rec *r = INODE(im->d)->i_root.t_rec;
	pf_le64 dblk = r[1].r_dblk;

	r[1].r_dblk = r[2].r_dblk;
	r[2].r_dblk = dblk;
	seal_ino(b, im->d);
}
static void rename_entry(uint8_t *b, const char *from, const char *to, unsigned int collision)
{
	struct pf_d_dirent *de = ROOT_ENTRY(from);

	CU_ASSERT_EQUAL_FATAL(strlen(from), strlen(to));
	memcpy((char *)de + offsetof(struct pf_d_dirent, de_name), to, strlen(to));
	de->de_key = pf_put64(pf_name_key(im->fs->hash_key, to, strlen(to)) | collision);
	seal_root_leaf(b);
}
static void d_same_name(uint8_t *b) { rename_entry(b, "c", "b", 1); }
static void d_same_key(uint8_t *b) { rename_entry(b, "c", "b", 0); }
static void d_dot(uint8_t *b) { rename_entry(b, "c", ".", 0); }
static void d_dotdot(uint8_t *b) { rename_entry(b, "ll", "..", 0); }
static void d_slash(uint8_t *b) { rename_entry(b, "c", "/", 0); }
static void d_dangling(uint8_t *b) { ROOT_ENTRY("n")->de_ino = pf_put64(400); seal_root_leaf(b); }
static void d_dangling_far(uint8_t *b) { ROOT_ENTRY("n")->de_ino = pf_put64(1 << 30 | 9); seal_root_leaf(b); }
static void d_dangling_slot(uint8_t *b) { ROOT_ENTRY("n")->de_ino = pf_put64(512 + 3); seal_root_leaf(b); }
static void d_type(uint8_t *b) { ROOT_ENTRY("b")->de_type = DT_LNK; seal_root_leaf(b); }
static void d_nent(uint8_t *b) { add64(&INODE(im->d)->i_nent, 1); seal_ino(b, im->d); }
static void d_dir_size(uint8_t *b) { add64(&INODE(im->d)->i_size, 4096); seal_ino(b, im->d); }
static void d_nlink(uint8_t *b) { add32(&INODE(im->a)->i_nlink, 1); seal_ino(b, im->a); }
static void d_dir_nlink(uint8_t *b) { add32(&INODE(im->d)->i_nlink, -1); seal_ino(b, im->d); }
static void d_root_nlink(uint8_t *b) { add32(&INODE(PF_INO_ROOT)->i_nlink, 1); seal_ino(b, PF_INO_ROOT); }
static void d_no_name(uint8_t *b) { add64(&ROOT_ENTRY("b")->de_ino, (int)(im->a - im->b)); seal_root_leaf(b); }
static void d_parent(uint8_t *b) { INODE(im->e)->i_parent = pf_put64(PF_INO_ROOT); seal_ino(b, im->e); }
static void d_root_parent(uint8_t *b) { INODE(PF_INO_ROOT)->i_parent = pf_put64(im->d); seal_ino(b, PF_INO_ROOT); }
static void name_dir(uint8_t *b, const char *entry, uint64_t dir)
{
	ROOT_ENTRY(entry)->de_ino = pf_put64(dir);
	ROOT_ENTRY(entry)->de_type = DT_DIR;
	seal_root_leaf(b);
}
static void d_dir_twice(uint8_t *b) { name_dir(b, "b", im->d); }
static void d_names_root(uint8_t *b) { name_dir(b, "b", PF_INO_ROOT); }
/* One of the links to /c in /d: the hash key is random, so /d/e may come first. */
static struct pf_d_dirent *some_d_entry(uint8_t *b, struct pf_d_hdr **leaf)
{
	struct pf_d_dirent *de;

	*leaf = img_blk(b, im->d_leaf[1]);
	de = (void *)(*leaf + 1);
	if (pf_get64(de->de_ino) == im->e)
		de = (void *)((uint8_t *)de + pf_get16(de->de_reclen));
	return de;
}
static void d_cycle(uint8_t *b)
{
	/* /d becomes a link to the file, and /d's inode is found in itself; all counts right. */
	struct pf_d_hdr *leaf;
	struct pf_d_dirent *de = some_d_entry(b, &leaf);

	CU_ASSERT_EQUAL_FATAL(pf_get64(de->de_ino), im->c);
	de->de_ino = pf_put64(im->d);
	de->de_type = DT_DIR;
	img_seal_blk(leaf);
	ROOT_ENTRY("d")->de_ino = pf_put64(im->c);
	ROOT_ENTRY("d")->de_type = DT_REG;
	seal_root_leaf(b);
	INODE(im->d)->i_parent = pf_put64(im->d);
	add32(&INODE(im->d)->i_nlink, 1);
	seal_ino(b, im->d);
	add32(&INODE(PF_INO_ROOT)->i_nlink, -1);
	seal_ino(b, PF_INO_ROOT);
}
static void d_names_internal(uint8_t *b) { ROOT_ENTRY("b")->de_ino = pf_put64(PF_INO_ORPHAN); seal_root_leaf(b); }

/* orphans and space */
static void d_orphan_blk(uint8_t *b) { flip(&orphan(b)->o_ino[9]); }
static void d_orphan_inode(uint8_t *b) { flip(&INODE(PF_INO_ORPHAN)->i_mtime); }
static void set_orphan(uint8_t *b, unsigned int slot, uint64_t ino)
{
	if (pf_get64(orphan(b)->o_ino[slot]) == 0)
		add16(&orphan(b)->o_hdr.h_count, 1);
	orphan(b)->o_ino[slot] = pf_put64(ino);
	img_seal_blk(orphan(b));
}
static void d_orphan_free(uint8_t *b) { set_orphan(b, 20, 400); }
static void d_orphan_internal(uint8_t *b) { set_orphan(b, 20, PF_INO_ROOT); }
static void d_orphan_twice(uint8_t *b) { set_orphan(b, 20, im->gone); }
static void d_orphan_linked(uint8_t *b) { set_orphan(b, 20, im->a); }
static void d_orphan_unlisted(uint8_t *b) { set_orphan(b, 7, im->x); }
static void d_intent_unlisted(uint8_t *b) { set_orphan(b, 3, im->gone); }
static void d_map(uint8_t *b) { flip(&map0(b)->m_bits[60][3]); }
static void d_map_count(uint8_t *b) { add32(&map0(b)->m_hdr.h_free, 1); img_seal_blk(map0(b)); }
static void d_map_end(uint8_t *b)
{
	map0(b)->m_bits[62][63] &= 0x7f;
	add32(&map0(b)->m_hdr.h_free, 1);
	img_seal_blk(map0(b));
}
static void set_map(uint8_t *b, uint64_t dblk, bool used)
{
	uint8_t *byte = &map0(b)->m_bits[0][0] + dblk / 8, bit = (uint8_t)(1U << (dblk % 8));

	CU_ASSERT_EQUAL_FATAL((*byte & bit) != 0, !used);
	*byte ^= bit;
	add32(&map0(b)->m_hdr.h_free, used ? -1 : 1);
	img_seal_blk(map0(b));
}
static void d_leak(uint8_t *b) { set_map(b, last_blk() - 1, true); }
static void d_free_used(uint8_t *b) { set_map(b, im->b_dblk + 2, false); }
static void d_free_copy(uint8_t *b) { set_map(b, last_blk(), false); }

/*
 * @expect: what must be said. "%a", "%b", ...: the inode's number. @hit: what the repair may change of the tree; paths
 * that begin so. All others must be there with the same bytes, and nothing else.
 */
struct damage { const char *name; void (*fn)(uint8_t *b); const char *expect, *hit; };

#define D(fn, expect) { #fn, fn, expect, "" }
#define H(fn, expect, hit) { #fn, fn, expect, hit }
static const struct damage damages[] = {
	D(d_super, "phase 1: superblock: superblock checksum"),
	D(d_super_copy, "phase 1: superblock copy: superblock checksum"),
	D(d_super_both, "phase 1: superblock: superblock checksum"),
	D(d_super_differ, "phase 1: superblock copy: differs"),
	D(d_super_torn, "img: clean, 11 files, 489/4096 blocks, a torn superblock to rewrite, 2 orphans to finish"),
	D(d_super_clean, "phase 5: orphan file: not empty, though unmounted clean"),
	D(d_lane_clean, "phase 1: journal lane 0: not empty"),
	D(d_lane_nonsense, "phase 1: journal: a transaction cannot be replayed"),
	D(d_itable, "phase 2: inode table: inode 8 is damaged"),
	D(d_itable_nblk, "phase 2: inode table: i_nblk 129, found 128"),
	D(d_itable_size, "phase 2: inode table: size"),
	D(d_itable_rec, "phase 2: inode table: record of cluster"),
	D(d_itable_gap, "the last is number 2"),
	D(d_itable_move, "phase 2: inode table: "),
	D(d_cluster, "phase 2: inode cluster 1 at block %1: magic"),
	D(d_cluster_count, "phase 2: inode cluster 0 at block %0: count of free inodes"),
	D(d_root_unused, "phase 2: root directory: its inode is not in use"),
	D(d_orphan_unused, "phase 2: inode 9: internal inode is not in use"),
	D(d_root_type, "phase 2: root directory: its inode is a file"),
	D(d_inode, "phase 2: inode %a: checksum"),
	D(d_inode_fsid, "phase 2: inode %a: fsid"),
	D(d_inode_nr, "phase 2: inode %a: inode number"),
	D(d_inode_type, "phase 2: inode %a: file type"),
	D(d_inode_rdev, "phase 2: inode %a: device number"),
	D(d_inode_parent, "phase 2: inode %a: fields of a directory"),
	D(d_dev_size, "phase 2: inode %n: size on an inode without content"),
	D(d_dev_nblk, "phase 2: inode %n: i_nblk 9"),
	D(d_symlink, "phase 2: inode %l: symbolic link's length"),
	H(d_symlink_long, "phase 2: inode %L: symlink of 4096 bytes", "/ll"),
	H(d_intent_align, "phase 2: inode %x: intent to punch 0+4097", "/x"),
	H(d_intent_unknown, "phase 2: inode %x: unknown intent", "/x"),
	D(d_intent_dev, "phase 2: inode %n: intent on an inode without blocks"),
	D(d_root_deep, "phase 2: inode %a: tree too deep"),
	D(d_root_count, "phase 2: inode %a: too many records"),
	H(d_rec_outside, "phase 2: inode %b: block outside the data area", "/b"),
	H(d_rec_meta, "phase 2: inode %b: block outside the data area", "/b"),
	H(d_node, "phase 3: inode %a: tree node at block %N: checksum", "/a /h"),
	D(d_node_owner, "phase 3: inode %a: tree node at block %N: owner"),
	D(d_node_self, "phase 3: inode %a: tree node at block %N: own block number"),
	H(d_node_gen, "phase 3: inode %a: tree node at block %N: level 0, generation 2; expected 0, 1", "/a /h"),
	H(d_node_level, "phase 3: inode %a: tree node at block %N: level 1, generation 1; expected 0, 1", "/a /h"),
	H(d_node_count, "phase 3: inode %a: tree node at block %N: record count", "/a /h"),
	H(d_node_order, "phase 3: inode %a: tree node at block %N: records overlap or are out of order", "/a /h"),
	D(d_node_low, "phase 3: inode %a: tree node at block %N: begins with key 0, its parent says 1"),
	H(d_node_key, "phase 3: inode %a: key 30+2 outside the range of its tree node", "/a /h"),
	D(d_node_twice, "phase 3: block %N: owned by inode %a (tree node) and by inode %a (tree node)"),
	H(d_node_itself, "phase 3: block %N: owned by inode %a (tree node) and by inode %a (tree node)", "/a /h"),
	H(d_shared_data, "owned by inode %a (data) and by inode %b (data)", "/b"),
	H(d_shared_cluster, "owned by inode 8 (inode cluster) and by inode %b (data)", "/b"),
	D(d_shared_leaf, "owned by inode %d (directory leaf) and by inode %g (data)"),
	D(d_nblk, "phase 3: inode %a: i_nblk"),
	D(d_dir_nblk, "phase 3: inode %d: i_nblk 4, found 3"),
	H(d_beyond_eof, "phase 3: inode %b: written blocks at page 0+4, but its size ends at page 3", "/b"),
	D(d_beyond_kept, "phase 3: inode %b: written blocks at page 100+8"),
	D(d_too_far, "phase 3: inode %b: page 4503599627370496+8 is more than a file can have"),
	H(d_leaf, "phase 4: directory %d: leaf at block %F: checksum", "/d/ /lost+found"),
	H(d_leaf_gen, "phase 4: directory %d: leaf at block %F: of another generation", "/d/ /lost+found"),
	D(d_leaf_count, "phase 4: directory 11: leaf at block %R: count of entries"),
	D(d_entry_len, "phase 4: directory 11: leaf at block %R: entry length"),
	D(d_entry_key, "phase 4: directory 11: entry \"c\": key"),
	D(d_entry_collision, "img: clean"),
	D(d_leaf_swap, "does not belong into its leaf"),
	H(d_same_name, "phase 4: directory 11: entry \"b\" is there twice", "/c /b /lost+found"),
	H(d_same_key, "is not its own", "/c /b /lost+found"),
	H(d_dot, "phase 4: directory 11: entry \".\" is stored", "/c"),
	H(d_dotdot, "phase 4: directory 11: entry \"..\" is stored", "/ll /lost+found"),
	H(d_slash, "phase 4: directory 11: leaf at block %R: name with a NUL or a slash", "/c"),
	H(d_dangling, "phase 4: directory 11: entry \"n\" names inode 400, which is not in use", "/n /lost+found"),
	H(d_dangling_far, "phase 4: directory 11: entry \"n\" names inode 1073741833, which is not in use",
	  "/n /lost+found"),
	H(d_dangling_slot, "phase 4: directory 11: entry \"n\" names inode 515, which is not in use", "/n /lost+found"),
	D(d_type, "phase 4: directory 11: entry \"b\" says symlink, inode %b is a file"),
	D(d_nent, "phase 4: directory %d: i_nent 62, found 61"),
	D(d_dir_size, "phase 4: directory %d: size 16384, found 3 leaves"),
	D(d_nlink, "phase 4: inode %a (file): i_nlink 3, found 2"),
	D(d_dir_nlink, "phase 4: inode %d (directory): i_nlink 2, found 3"),
	D(d_root_nlink, "phase 4: inode 11 (directory): i_nlink 4, found 3"),
	H(d_no_name, "phase 4: inode %b (file): i_nlink 1, found 0", "/b /lost+found"),
	D(d_parent, "phase 4: directory %e: entry \"e\" leads to it, but its parent is 11"),
	D(d_root_parent, "phase 4: root directory: its parent is %d"),
	H(d_dir_twice, "is a second name of directory %d", "/b /d /lost+found"),
	H(d_names_root, "phase 4: directory 11: entry \"b\" names the root", "/b /lost+found"),
	H(d_cycle, "phase 4: directory %d: not reachable from the root", "/d /lost+found"),
	H(d_names_internal, "phase 4: directory 11: leaf at block %R: inode number of an entry", "/b /lost+found"),
	D(d_orphan_blk, "phase 5: orphan block at block %O: checksum"),
	D(d_orphan_inode, "phase 2: inode 9: checksum"),
	D(d_orphan_free, "phase 5: orphan file: names inode 400, which is not in use"),
	D(d_orphan_internal, "phase 5: orphan file: names inode 11, which is not in use"),
	D(d_orphan_twice, "phase 5: orphan file: names inode %g twice"),
	D(d_orphan_linked, "phase 5: orphan file: names inode %a, which has links and nothing left to do"),
	D(d_orphan_unlisted, "phase 5: inode %g: no links, but the orphan file does not name it"),
	D(d_intent_unlisted, "phase 5: inode %x: unfinished work, but the orphan file does not name it"),
	D(d_map, "phase 5: free-space map: group 0: checksum"),
	D(d_map_count, "phase 5: free-space map: group 0: count of free blocks"),
	D(d_map_end, "phase 5: free-space map: group 0: free block past the end of the device"),
	D(d_leak, "phase 5: free-space map: blocks 4094-4094 in use by nobody"),
	D(d_free_used, "marked free, but in use"),
	D(d_free_copy, "phase 5: free-space map: blocks 4095-4095 marked free, but in use"),
};

/* Write the numbers of this image into what is expected. */
static void expand(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from != '\0' && n < size - 24; from++) {
		uint64_t v = 0;

		if (*from != '%') {
			to[n++] = *from;
			continue;
		}
		switch (*++from) {
		case 'a': v = im->a; break;
		case 'b': v = im->b; break;
		case 'd': v = im->d; break;
		case 'e': v = im->e; break;
		case 'g': v = im->gone; break;
		case 'l': v = im->l; break;
		case 'L': v = im->ll; break;
		case 'n': v = im->n; break;
		case 'x': v = im->x; break;
		case 'F': v = im->d_leaf[1]; break;
		case 'N': v = im->a_node; break;
		case 'O': v = im->orph_dblk; break;
		case 'R': v = im->root_leaf; break;
		case '0': v = im->fs->iclu0_blk; break;
		case '1': v = im->clu1_dblk; break;
		default: abort();
		}
		n += (size_t)snprintf(to + n, size - n, "%" PRIu64, v);
	}
	to[n] = '\0';
}

static void test_clean(void)
{
	struct copy c = copy_make();

	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	if (c.rc != FSCK_OK)
		(void)printf("%s\n", c.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "img: clean, 11 files, "));
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "2 orphans to finish"));
	copy_free(&c);
}

static void test_damage(void)
{
	char expect[256];

	for (size_t i = 0; i < PF_ARRAY_LEN(damages); i++) {
		const struct damage *d = &damages[i];
		struct copy c = copy_make();

		expand(expect, sizeof expect, d->expect);
		d->fn(c.pm->base);
		copy_check(&c);
		if (strstr(c.text, expect) == NULL ||
		    (c.rc != FSCK_UNCORRECTED && strncmp(d->expect, "img: clean", 10) != 0)) {
			(void)printf("%s: expected \"%s\", got exit code %d and\n%s\n", d->name, expect, c.rc, c.text);
			CU_FAIL("damage was not named");
		}
		CU_PASS(d->name);
		copy_free(&c);
	}
}

/* ---- repair ---- */

/* Mounts the image, so it is the last thing to be done with it. */
static char *tree_of(const struct copy *c)
{
	unsigned int damaged = 1;
	const char *why = NULL;
	char *text = NULL;
	struct pf_fs *fs;

	if (core_mount(c->pm, &fs, &why) == 0) {
		text = core_describe(fs, &damaged);
		core_unmount(fs);
	}
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	CU_ASSERT_EQUAL(damaged, 0);
	return text;
}

/* "path mode links rest": links change with a lost name elsewhere. */
static void cut_links(char *line)
{
	char *mode = strchr(line, ' '), *links, *rest;

	links = mode != NULL ? strchr(mode + 1, ' ') : NULL;
	rest = links != NULL ? strchr(links + 1, ' ') : NULL;
	if (rest != NULL)
		memmove(links, rest, strlen(rest) + 1);
}

static bool may_differ(const char *path, const char *hit)
{
	char copy[128], *next = copy;

	(void)snprintf(copy, sizeof copy, "%s", hit);
	for (char *word = strsep(&next, " "); word != NULL; word = strsep(&next, " "))
		if (*word != '\0' && strncmp(path, word, strlen(word)) == 0)
			return true;
	return false;
}

struct lines { char *copy; char *v[256]; unsigned int n; };

static void split(struct lines *l, const char *text)
{
	char *next = l->copy = strdup(text);

	l->n = 0;
	for (char *line = strsep(&next, "\n"); next != NULL && l->n < PF_ARRAY_LEN(l->v); line = strsep(&next, "\n")) {
		cut_links(line);
		l->v[l->n++] = line;
	}
}

/* The lines of @a that @b has not and that are not hit. */
static unsigned int missing(const char *name, const struct lines *a, const struct lines *b, const char *hit)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		bool found = may_differ(a->v[i], hit);

		for (unsigned int k = 0; k < b->n && !found; k++)
			found = strcmp(a->v[i], b->v[k]) == 0;
		if (found)
			continue;
		if (name != NULL)
			(void)printf("%s: %.300s\n", name, a->v[i]);
		n++;
	}
	return n;
}

/* Nothing has changed but what may. */
static bool kept(const char *name, const struct copy *c, const char *hit)
{
	static char *was;
	struct lines before, after;
	unsigned int n;
	char *now;

	if (was == NULL) {
		struct copy sound = copy_make();

		was = tree_of(&sound);
		copy_free(&sound);
	}
	now = tree_of(c);
	split(&before, was);
	split(&after, now);
	n = missing(name, &before, &after, hit) + missing(name, &after, &before, hit);
	free(before.copy);
	free(after.copy);
	free(now);
	return n == 0;
}

/* A device that counts what is written to it. */
static const struct pf_pm_ops *plain_ops;
static struct pf_pm_ops counting_ops;
static unsigned int stores;

static void count_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	stores++;
	plain_ops->write(pm, doff, src, len);
}

static void count_stores(struct pf_pm *pm)
{
	plain_ops = pm->ops;
	counting_ops = *plain_ops;
	counting_ops.write = count_write;
	pm->ops = &counting_ops;
	stores = 0;
}

/* -y, then -n is clean, and a second -y writes nothing. */
static void repair(const char *name, struct copy *c)
{
	char *first;

	copy_run(c, FSCK_REPAIR);
	first = strdup(c->text);
	if (c->rc != FSCK_CORRECTED && c->rc != FSCK_OK) {
		(void)printf("%s: repair: exit code %d\n%s\n", name, c->rc, c->text);
		CU_FAIL("not repaired");
	}
	copy_check(c);
	if (c->rc != FSCK_OK) {
		(void)printf("%s: after the repair: exit code %d\n%s\nthe repair said\n%s\n", name, c->rc, c->text,
			     first);
		CU_FAIL("not clean after the repair");
	}
	count_stores(c->pm);
	copy_run(c, FSCK_REPAIR);
	if (c->rc != FSCK_OK || stores != 0) {
		(void)printf("%s: second repair: exit code %d\n%s\n", name, c->rc, c->text);
		CU_FAIL("the second repair was not idle");
	}
	c->pm->ops = plain_ops;
	free(first);
}

static void test_repair(void)
{
	for (size_t i = 0; i < PF_ARRAY_LEN(damages); i++) {
		struct copy c = copy_make();

		damages[i].fn(c.pm->base);
		repair(damages[i].name, &c);
		CU_ASSERT_TRUE(kept(damages[i].name, &c, damages[i].hit));
		CU_PASS(damages[i].name);
		copy_free(&c);
	}
}

static const struct damage *damage_of(const char *name)
{
	for (size_t i = 0; i < PF_ARRAY_LEN(damages); i++)
		if (strcmp(damages[i].name, name) == 0)
			return &damages[i];
	abort();
}

/* What must not be mended without being asked is not, and then nothing is. */
static void test_preen(void)
{
	static const struct { const char *damage; int rc; } t[] = {
		{ "d_nblk", FSCK_CORRECTED }, { "d_nlink", FSCK_CORRECTED }, { "d_nent", FSCK_CORRECTED },
		{ "d_leak", FSCK_CORRECTED }, { "d_map", FSCK_CORRECTED }, { "d_super_torn", FSCK_OK },
		{ "d_shared_data", FSCK_UNCORRECTED }, { "d_inode", FSCK_UNCORRECTED }, { "d_leaf", FSCK_UNCORRECTED },
		{ "d_dangling", FSCK_UNCORRECTED }, { "d_cycle", FSCK_UNCORRECTED },
		{ "d_super_both", FSCK_UNCORRECTED },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		struct copy c = copy_make();

		damage_of(t[i].damage)->fn(c.pm->base);
		count_stores(c.pm);
		copy_run(&c, FSCK_PREEN);
		if (c.rc != t[i].rc)
			(void)printf("%s: exit code %d\n%s\n", t[i].damage, c.rc, c.text);
		CU_ASSERT_EQUAL(c.rc, t[i].rc);
		CU_ASSERT_EQUAL(stores != 0, t[i].rc != FSCK_UNCORRECTED);
		copy_check(&c);
		CU_ASSERT_EQUAL(c.rc == FSCK_OK, t[i].rc != FSCK_UNCORRECTED);
		copy_free(&c);
	}
}

/* -p passes by an image that is marked clean, whatever is wrong with it; with -f it does not. */
static void test_preen_clean(void)
{
	struct copy c = copy_make();
	struct fsck f = { .mode = FSCK_PREEN, .force = true };

	copy_run(&c, FSCK_PREEN);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "2 orphans finished"));
	d_nlink(c.pm->base);
	count_stores(c.pm);
	copy_run(&c, FSCK_PREEN);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	CU_ASSERT_STRING_EQUAL(c.text, "img: clean\n");
	CU_ASSERT_EQUAL(stores, 0);
	f.out = fopen("/dev/null", "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	CU_ASSERT_EQUAL(fsck_check(&f, c.pm, "img"), FSCK_CORRECTED);
	(void)fclose(f.out);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	copy_free(&c);
}

/* A signal: nothing is written. */
static void test_cancel(void)
{
	static const volatile sig_atomic_t yes = 1;
	struct fsck f = { .mode = FSCK_REPAIR, .cancel = &yes };
	struct copy c = copy_make();

	d_leaf_swap(c.pm->base);
	count_stores(c.pm);
	f.out = fopen("/dev/null", "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	CU_ASSERT_EQUAL(fsck_check(&f, c.pm, "img"), FSCK_CANCELLED);
	(void)fclose(f.out);
	CU_ASSERT_EQUAL(stores, 0);
	copy_free(&c);
}

static void no_image(void *arg, struct pf_pm *image, unsigned int fence)
{
	(void)arg;
	(void)image;
	(void)fence;
}

/* A device that fails: said so, and what is there can be repaired later. */
static void test_eio(void)
{
	for (unsigned int fence = 0; fence < 3; fence++) {
		struct copy c = copy_make();
		struct crash *crash;

		d_leaf_swap(c.pm->base);
		crash = crash_attach(c.pm, no_image, NULL, 0, 1);
		crash_fail_drain(crash, fence);
		copy_run(&c, FSCK_REPAIR);
		CU_ASSERT_TRUE(c.rc & FSCK_ERROR);
		crash_detach(crash);
		repair("after an error", &c);
		CU_ASSERT_TRUE(kept("after an error", &c, ""));
		copy_free(&c);
	}
}

/* ---- attributes and bad blocks ---- */

struct attr_image { struct copy c; uint64_t ino, value, leaf, file_blk, held; };

static struct pf_d_inode *find_inode(uint8_t *b, uint64_t ino)
{
	const struct pf_d_super *sb = (const void *)b;

	CU_ASSERT_FATAL(ino < PF_ICLU_SLOTS);
	return (struct pf_d_inode *)img_blk(b, pf_get64(sb->sb_iclu0_blk)) + ino;
}

static void must(int64_t err)
{
	CU_ASSERT_FATAL(err >= 0);
}

/* /f has attributes in a leaf and one in blocks, /g some too; a free block and one of /f are listed as bad. */
static void attr_make(struct attr_image *a)
{
	struct pf_mkfs m = { .label = "attr" };
	static char value[6000];
	struct pf_d_hdr *leaf;
	unsigned int off = PF_XLEAF_FIRST;
	struct pf_xview v;
	struct pf_bad_rec rec[4];
	uint64_t ino, changed;
	unsigned int n;
	const char *why;
	struct pf_fs *fs;

	*a = (struct attr_image){ .c = { .pm = mem_open(IMG_BYTES) } };
	must(pf_mkfs(a->c.pm, &m));
	must(core_mount(a->c.pm, &fs, &why));
	memset(value, 'v', sizeof value);
	must(core_create(fs, "/f"));
	must(core_create(fs, "/g"));
	CU_ASSERT_EQUAL_FATAL(core_write(fs, "/f", 0, value, sizeof value), (ssize_t)sizeof value);
	a->ino = (uint64_t)core_find(fs, "/f");
	must(pf_op_setxattr(fs, a->ino, "user.long", value, sizeof value, 0, false));
	must(pf_op_setxattr(fs, a->ino, "user.short", "short", 5, 0, false));
	ino = (uint64_t)core_find(fs, "/g");
	must(pf_op_setxattr(fs, ino, "user.other", "other", 5, 0, false));
	a->file_blk = pf_get64(find_inode(a->c.pm->base, a->ino)->i_root.t_rec[0].r_dblk);
	a->held = IMG_BYTES / PF_BLK_SIZE - 100;
	must(pf_bad_add(fs, a->held, 2, &changed));
	must(pf_bad_list(fs, 0, rec, PF_ARRAY_LEN(rec), &n));
	CU_ASSERT_EQUAL_FATAL(n, 1);
	core_unmount(fs);
	a->leaf = pf_get64(find_inode(a->c.pm->base, a->ino)->i_xroot.x_rec[0].r_dblk);
	leaf = img_blk(a->c.pm->base, a->leaf);
	while (pf_xleaf_next(leaf, &off, &v))
		if (v.nrun != 0)
			a->value = pf_get64(v.run[0].xr_dblk);
	CU_ASSERT_FATAL(a->value != 0);
	copy_check(&a->c);
	CU_ASSERT_EQUAL_FATAL(a->c.rc, FSCK_OK);
}

static void a_value(struct attr_image *a) { flip((uint8_t *)img_blk(a->c.pm->base, a->value) + 77); }
static void a_leaf(struct attr_image *a) { flip((uint8_t *)img_blk(a->c.pm->base, a->leaf) + 2000); }
static void a_key(struct attr_image *a)
{
	struct pf_d_hdr *leaf = img_blk(a->c.pm->base, a->leaf);

	add64(&((struct pf_d_xent *)(void *)(leaf + 1))->xe_key, 512);
	img_seal_blk(leaf);
}
static void a_root(struct attr_image *a)
{
	find_inode(a->c.pm->base, a->ino)->i_xroot.x_count = pf_put16(9);
	img_seal_inode(find_inode(a->c.pm->base, a->ino));
}
static void a_shared(struct attr_image *a)
{
	/* The file's data is the value of its own attribute. */
	find_inode(a->c.pm->base, a->ino)->i_root.t_rec[0].r_dblk = pf_put64(a->value);
	img_seal_inode(find_inode(a->c.pm->base, a->ino));
}
static void a_bad_key(struct attr_image *a)
{
	struct pf_d_inode *di = find_inode(a->c.pm->base, PF_INO_BAD);

	add64(&di->i_root.t_rec[0].r_key, 1);
	img_seal_inode(di);
}
static void a_bad_nblk(struct attr_image *a)
{
	struct pf_d_inode *di = find_inode(a->c.pm->base, PF_INO_BAD);

	add64(&di->i_nblk, 1);
	img_seal_inode(di);
}
static void a_bad_owned(struct attr_image *a)
{
	struct pf_d_inode *di = find_inode(a->c.pm->base, PF_INO_BAD);

	di->i_root.t_rec[0].r_key = di->i_root.t_rec[0].r_dblk = pf_put64(a->file_blk);
	img_seal_inode(di);
}
static void a_bad_lost(struct attr_image *a) { memset(find_inode(a->c.pm->base, PF_INO_BAD), 0, PF_INODE_SIZE); }

/* The file has kept its block, which cannot be read while it is listed. */
static void unlist(struct attr_image *a)
{
	uint64_t changed;
	const char *why;
	struct pf_fs *fs;

	must(core_mount(a->c.pm, &fs, &why));
	must(pf_bad_del(fs, a->file_blk, 2, &changed));
	core_unmount(fs);
	CU_ASSERT_EQUAL(changed, 2);
}

static void test_attrs(void)
{
	static const struct { const char *name; void (*fn)(struct attr_image *a); const char *expect, *hit; } t[] = {
		{ "value", a_value, "attribute user.long: checksum of its value", "/f" },
		{ "leaf", a_leaf, "attribute leaf at block", "/f" },
		{ "key", a_key, "its key is not its name's", "/f" },
		{ "root", a_root, "root of the attributes", "/f" },
		{ "shared", a_shared, "owned by inode", "/f" },
		{ "bad-key", a_bad_key, "phase 2: inode 10: not the number of a block", "" },
		{ "bad-nblk", a_bad_nblk, "list of bad blocks: i_nblk 3, found 2", "" },
		{ "bad-owned", a_bad_owned, "and by inode 10 (bad block)", "" },
		{ "bad-lost", a_bad_lost, "phase 2: inode 10: magic", "" },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		struct lines before, after;
		struct attr_image a, b;
		char *was, *now;

		attr_make(&a);
		attr_make(&b);
		was = tree_of(&b.c);
		t[i].fn(&a);
		copy_check(&a.c);
		if (strstr(a.c.text, t[i].expect) == NULL)
			(void)printf("%s: expected \"%s\", got\n%s\n", t[i].name, t[i].expect, a.c.text);
		CU_ASSERT_PTR_NOT_NULL(strstr(a.c.text, t[i].expect));
		repair(t[i].name, &a.c);
		if (t[i].fn == a_bad_owned)
			unlist(&a);
		now = tree_of(&a.c);
		split(&before, was);
		split(&after, now);
		CU_ASSERT_EQUAL(missing(t[i].name, &before, &after, t[i].hit), 0);
		CU_ASSERT_EQUAL(missing(t[i].name, &after, &before, t[i].hit), 0);
		free(before.copy);
		free(after.copy);
		free(was);
		free(now);
		copy_free(&a.c);
		copy_free(&b.c);
	}
}

/* ---- repairs cut short ---- */

/* Damage whose repair changes many kinds of objects. The map's part in each is what a second run may need. */
static const char *const cut_short[] = {
	"d_super_both", "d_lane_nonsense", "d_itable_gap", "d_cluster", "d_node_self", "d_node_itself", "d_shared_data",
	"d_leaf_swap", "d_cycle", "d_orphan_blk", "d_free_used",
};

struct cut { const struct damage *d; unsigned int images, bad; bool quiet; };

/* What a crash of the repair leaves: a second repair finishes it, and loses nothing more. */
static void cut_image(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct cut *cut = arg;
	struct copy c = { .pm = image };
	bool ok;

	cut->images++;
	copy_run(&c, FSCK_REPAIR);
	ok = c.rc == FSCK_OK || c.rc == FSCK_CORRECTED;
	if (!ok && !cut->quiet)
		(void)printf("%s: drain %u: second repair: exit code %d\n%s\n", cut->d->name, fence, c.rc, c.text);
	copy_check(&c);
	ok = ok && c.rc == FSCK_OK;
	if (ok)
		ok = kept(cut->quiet ? NULL : cut->d->name, &c, cut->d->hit);
	cut->bad += !ok;
	free(c.text);
}

#define NO_SKIP UINT_MAX

/* @skip: the drain that does nothing. Returns how many there are. */
static unsigned int repair_cut(const struct damage *d, struct cut *cut, unsigned int skip)
{
	struct copy c = copy_make();
	struct crash *crash;
	unsigned int fences;

	cut->d = d;
	d->fn(c.pm->base);
	crash = crash_attach(c.pm, cut_image, cut, 2, 1);
	if (skip != NO_SKIP)
		crash_skip_drain(crash, skip);
	copy_run(&c, FSCK_REPAIR);
	fences = crash_fences(crash);
	crash_detach(crash);
	CU_ASSERT_EQUAL(c.rc, FSCK_CORRECTED);
	copy_free(&c);
	return fences;
}

static void test_cut_short(void)
{
	for (size_t i = 0; i < PF_ARRAY_LEN(cut_short); i++) {
		struct cut cut = { 0 };

		(void)repair_cut(damage_of(cut_short[i]), &cut, NO_SKIP);
		CU_ASSERT_EQUAL(cut.bad, 0);
		CU_ASSERT(cut.images >= 8);
		(void)printf("%s%s %u", i == 0 ? "" : ", ", cut_short[i] + 2, cut.images);
	}
	(void)printf(" images ");
}

/* The drain behind the lane is what makes it whole or nothing. */
static void test_cut_twin(void)
{
	unsigned int total = 0, fences = 1;

	for (unsigned int skip = 0; skip < fences; skip++) {
		struct cut cut = { .quiet = true };

		fences = repair_cut(damage_of("d_node_self"), &cut, skip);
		total += cut.bad;
	}
	CU_ASSERT(total > 0);
	(void)printf("%u images lost something ", total);
}

/* Two inodes claim one long run: both named, one line. */
static void test_long_conflict(void)
{
	struct copy c = copy_make();
	uint8_t *b = c.pm->base;
	char expect[128];

	INODE(im->x)->i_root.t_rec[0].r_dblk = pf_put64(im->b_dblk + 1);
	seal_ino(b, im->x);
	copy_check(&c);
	(void)snprintf(expect, sizeof expect,
		       "phase 3: blocks %" PRIu64 "-%" PRIu64 ": owned by inode %" PRIu64
		       " (data) and by inode %" PRIu64 " (data)",
		       im->b_dblk + 1, im->b_dblk + 2, im->b, im->x);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, expect));
	copy_free(&c);
}

/* The journal holds the line that is broken at home: the image is sound, as its next mount will find it. */
static void test_replay(void)
{
	struct copy c = copy_make();
	struct pf_d_inode *di = img_inode(im, c.pm->base, im->a);
	uint8_t line[PF_LINE];

	memcpy(line, di, sizeof line);
	add32(&di->i_nlink, 1);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_UNCORRECTED);
	seal_lane(c.pm->base, (uint64_t)((uint8_t *)di - c.pm->base), line);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, ", 1 transactions to replay"));
	copy_free(&c);
}

/* 168 extents that all cover the whole device: it ends, and says so. */
static void test_many_conflicts(void)
{
	struct copy c = copy_make();
	uint8_t *b = c.pm->base;
	struct pf_d_node *n = a_node(b);
	uint64_t first = im->fs->iclu0_blk + PF_ICLU_BLKS;

	n->n_hdr.h_count = pf_put16(168);
	for (unsigned int i = 0; i < 168; i++)
		n->n_rec[i] = (struct pf_d_rec){
			.r_key = pf_put64(i * 10000),
			.r_dblk = pf_put64(first),
			.r_len = pf_put32((uint32_t)(last_blk() - first)),
		};
	img_seal_blk(n);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "and by inode"));
	copy_free(&c);
}

/* ---- the program ---- */

static int run(char *out, size_t size, const char *args)
{
	const char *build = getenv("PINFS_BUILD");
	char cmd[512];
	size_t n;
	FILE *p;
	int status;

	(void)snprintf(cmd, sizeof cmd, "%s/fsck.pinfs %s 2>&1", build != NULL ? build : "build", args);
	p = popen(cmd, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	n = fread(out, 1, size - 1, p);
	out[n] = '\0';
	status = pclose(p);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void save(const char *path, const uint8_t *base, uint64_t bytes)
{
	FILE *f = fopen(path, "we");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fwrite(base, 1, bytes, f), bytes);
	(void)fclose(f);
}

static void test_program(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[256], args[300], out[4096];
	struct copy c = copy_make();
	struct pf_d_inode *di = img_inode(im, c.pm->base, im->a);
	uint8_t line[PF_LINE], *after;
	FILE *f;
	int fd;

	(void)snprintf(path, sizeof path, "%s/fsck-test-%d.img", tmp != NULL ? tmp : "/dev/shm", (int)getpid());
	(void)snprintf(args, sizeof args, "-n %s", path);

	/* A transaction to replay: told, checked, and not one byte of the file changed. */
	memcpy(line, di, sizeof line);
	add32(&di->i_nlink, 1);
	seal_lane(c.pm->base, (uint64_t)((uint8_t *)di - c.pm->base), line);
	save(path, c.pm->base, IMG_BYTES);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "clean, 11 files"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "1 transactions to replay"));
	after = malloc(IMG_BYTES);
	f = fopen(path, "re");
	CU_ASSERT_FATAL(after != NULL && f != NULL);
	CU_ASSERT_EQUAL(fread(after, 1, IMG_BYTES, f), IMG_BYTES);
	CU_ASSERT_EQUAL(memcmp(after, c.pm->base, IMG_BYTES), 0);
	(void)fclose(f);
	free(after);

	/* In use: refused, the holder named; -F looks nevertheless. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(flock(fd, LOCK_SH), 0);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	(void)snprintf(args, sizeof args, "pid %d (", (int)getpid());
	CU_ASSERT_PTR_NOT_NULL(strstr(out, args));
	(void)snprintf(args, sizeof args, "-n -F %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	(void)close(fd);

	/* Damage, and what is no pinfs at all. */
	di = img_inode(im, c.pm->base, im->b);
	flip(&di->i_mtime);
	save(path, c.pm->base, IMG_BYTES);
	(void)snprintf(args, sizeof args, "-n %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "which fsck.pinfs -y would repair"));
	(void)snprintf(args, sizeof args, "-p %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "run fsck.pinfs -y"));
	(void)snprintf(args, sizeof args, "-y -C 1 %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_CORRECTED);
	(void)snprintf(args, sizeof args, "\n3 1 2 %s\n", path);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, args));
	(void)snprintf(args, sizeof args, "-y -C 0 %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, ": phase 3 |="));
	(void)snprintf(args, sizeof args, "-n %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	memset(c.pm->base, 0, IMG_BYTES);
	save(path, c.pm->base, IMG_BYTES);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "not a pinfs image"));
	save(path, c.pm->base, 12345);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	(void)unlink(path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);

	CU_ASSERT_EQUAL(run(out, sizeof out, "-p -y x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-y -F x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-C bar x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, ""), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-n a b"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-V"), FSCK_OK);
	copy_free(&c);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a sound image is clean", test_clean },
		{ "each damage is named", test_damage },
		{ "each damage is repaired", test_repair },
		{ "preen", test_preen },
		{ "preen a clean image", test_preen_clean },
		{ "a signal", test_cancel },
		{ "a device that fails", test_eio },
		{ "attributes and bad blocks", test_attrs },
		{ "a repair cut short", test_cut_short },
		{ "twin: a drain left out", test_cut_twin },
		{ "a run with two owners", test_long_conflict },
		{ "journal replayed in memory", test_replay },
		{ "conflicts without end", test_many_conflicts },
		{ "the program", test_program },
	};
	int rc;

	im = img_make();
	rc = unit_main("fsck", cases, PF_ARRAY_LEN(cases));
	img_free(im);
	return rc;
}
