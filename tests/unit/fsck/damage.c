/* SPDX-License-Identifier: BSD-3-Clause */
/* damage.c - the damages. What of them is not about one image in memory belongs to run.c. */
#include "unit/fsck/damage.h"

#include <CUnit/CUnit.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/siphash.h"

struct img *im;

#define ROOT_ENTRY(name) img_entry(img_blk(b, im->root_leaf), name)

static struct pf_d_map *map0(uint8_t *b) { return img_blk(b, im->fs->map_blk); }
static struct pf_d_orphan *orphan(uint8_t *b) { return img_blk(b, im->orph_dblk); }
static struct pf_d_iclu *clu0(uint8_t *b) { return img_blk(b, im->fs->iclu0_blk); }

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

#define D(fn, expect) { #fn, fn, expect, "" }
#define H(fn, expect, hit) { #fn, fn, expect, hit }
const struct damage damages[] = {
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
const size_t ndamage = PF_ARRAY_LEN(damages);

const struct damage *damage_of(const char *name)
{
	for (size_t i = 0; i < ndamage; i++)
		if (strcmp(damages[i].name, name) == 0)
			return &damages[i];
	abort();
}
