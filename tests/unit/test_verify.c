/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_verify.c - every rule of FORMAT.md about a single object is enforced, every bit is covered by the checksum, and
 * no bytes whatever make a verifier read outside the object (run under ASan for that).
 */
#include "harness/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/super.h"
#include "media/verify.h"
#include "media/xleaf.h"

#define MIB (UINT64_C(1) << 20)
#define DATA(fs) ((fs)->iclu0_blk + PF_ICLU_BLKS)

static struct pf_fs fs;

static void up(void)
{
	struct pf_mkfs m = { .label = "" };
	const char *why;

	memset(&fs, 0, sizeof fs);
	fs.pm = mem_open(16 * MIB);
	if (pf_mkfs(fs.pm, &m) != 0 || pf_sb_load(&fs, &why) != 0 || pf_verified_init(&fs) != 0)
		abort();
}

static void down(void)
{
	pf_verified_fini(&fs);
	mem_close(fs.pm);
}

/* A sound object of each type: where it lies, whose it is. */
struct good { enum pf_md type; uint64_t doff, owner; _Alignas(8) uint8_t obj[4096]; };

static void put_rec(struct pf_d_rec *r, uint64_t key, uint64_t dblk, uint32_t len, uint32_t flags)
{
	*r = (struct pf_d_rec){ pf_put64(key), pf_put64(dblk), pf_put32(len), pf_put32(flags) };
}

static void put_name(struct good *g, unsigned int off, unsigned int reclen, const char *name, uint64_t ino)
{
	struct pf_d_dirent *de = (void *)(g->obj + off);

	de->de_key = pf_put64(ino << 8);
	de->de_ino = pf_put64(ino);
	de->de_reclen = pf_put16((uint16_t)reclen);
	de->de_type = 8;
	de->de_namelen = (uint8_t)strlen(name);
	memcpy(de->de_name, name, strlen(name));
}

static void put_attr(struct good *g, unsigned int off, unsigned int reclen, const char *name, uint32_t vlen,
		     unsigned int nrun)
{
	struct pf_d_xent *xe = (void *)(g->obj + off);
	struct pf_d_xrun *run = (void *)(g->obj + off + pf_xent_need((unsigned int)strlen(name), 0, 0));
	uint64_t left = PF_DIV_UP(vlen, PF_BLK_SIZE);

	xe->xe_key = pf_put64(256 + off);
	xe->xe_reclen = pf_put16((uint16_t)reclen);
	xe->xe_namelen = (uint8_t)strlen(name);
	xe->xe_nrun = (uint8_t)nrun;
	xe->xe_vlen = pf_put32(vlen);
	memcpy(xe->xe_name, name, strlen(name));
	if (nrun == 0)
		memset(run, 'v', vlen);
	for (unsigned int i = 0; i < nrun; i++) {
		uint64_t n = i + 1 < nrun ? 1 : left;

		run[i] = (struct pf_d_xrun){ pf_put64(DATA(&fs) + 100 * (i + 1)), pf_put64(n) };
		left -= n;
	}
}

static void make(enum pf_md type, struct good *g)
{
	struct pf_d_inode *di = (void *)g->obj;
	struct pf_d_node *node = (void *)g->obj;
	struct pf_d_orphan *orph = (void *)g->obj;
	struct pf_d_hdr *h = (void *)g->obj;

	memset(g, 0, sizeof *g);
	g->type = type;
	g->doff = (DATA(&fs) + 1) * PF_BLK_SIZE;
	g->owner = 11;
	switch (type) {
	case PF_MD_MAP:
		g->doff = fs.map_blk * PF_BLK_SIZE;
		g->owner = 0;
		memcpy(g->obj, pf_pm_at(fs.pm, g->doff), 4096);
		return;
	case PF_MD_ICLU:
		g->doff = fs.iclu0_blk * PF_BLK_SIZE;
		g->owner = 0;
		memcpy(g->obj, pf_pm_at(fs.pm, g->doff), 4096);
		return;
	case PF_MD_INODE:
		g->doff = fs.iclu0_blk * PF_BLK_SIZE + 11 * PF_INODE_SIZE;
		pf_md_format(&fs, type, g->obj, g->doff, g->owner, 3);
		di->i_mode = pf_put32(S_IFREG | 0644);
		di->i_nlink = pf_put32(1);
		di->i_root.t_count = pf_put16(3);
		put_rec(&di->i_root.t_rec[0], 0, DATA(&fs), 4, 0);
		put_rec(&di->i_root.t_rec[1], 4, DATA(&fs) + 9, 1, PF_REC_UNWRITTEN);
		put_rec(&di->i_root.t_rec[2], 9, DATA(&fs) + 20, 1, 0);
		di->i_xroot.x_count = pf_put16(2);
		put_rec(&di->i_xroot.x_rec[0], 0, DATA(&fs) + 30, 1, 0);
		put_rec(&di->i_xroot.x_rec[1], 1000, DATA(&fs) + 31, 1, 0);
		break;
	case PF_MD_NODE:
		pf_md_format(&fs, type, g->obj, g->doff, g->owner, 3);
		node->n_hdr.h_count = pf_put16(2);
		put_rec(&node->n_rec[0], 100, DATA(&fs), 4, 0);
		put_rec(&node->n_rec[1], 104, DATA(&fs) + 9, 1, PF_REC_UNWRITTEN);
		break;
	case PF_MD_DIR:
		pf_md_format(&fs, type, g->obj, g->doff, g->owner, 3);
		put_name(g, 64, 24, "abc", 20);		/* 20 + 3 -> 24 */
		put_name(g, 88, 40, "defghij", 21);	/* 20 + 7 -> 32, 8 to spare */
		((struct pf_d_dirent *)(void *)(g->obj + 128))->de_reclen = pf_put16(4096 - 128);
		h->h_count = pf_put16(2);
		h->h_free = pf_put32(4032 - 24 - 32);
		break;
	case PF_MD_ORPHAN:
		g->owner = PF_INO_ORPHAN;
		pf_md_format(&fs, type, g->obj, g->doff, g->owner, 1);
		orph->o_ino[7] = pf_put64(11);
		orph->o_ino[503] = pf_put64(1032);
		h->h_count = pf_put16(2);
		break;
	case PF_MD_XATTR:
		pf_md_format(&fs, type, g->obj, g->doff, g->owner, 3);
		put_attr(g, 64, 40, "user.abc", 5, 0);		/* 32 + 8 */
		put_attr(g, 104, 32, "user.none", 0, 0);
		put_attr(g, 136, 80, "user.big", 8193, 2);	/* 32 + 32, 16 to spare */
		((struct pf_d_xent *)(void *)(g->obj + 216))->xe_reclen = pf_put16(4096 - 216);
		h->h_count = pf_put16(3);
		h->h_free = pf_put32(4032 - 40 - 32 - 64);
		break;
	case PF_MD_NR:
		abort();
	}
	pf_md_seal(type, g->obj);
}

static const char *check(const struct good *g)
{
	return pf_md_check(&fs, g->type, g->obj, g->doff, g->owner);
}

static void every_bit_is_covered(void)
{
	struct good g;

	up();
	for (int type = 0; type < PF_MD_NR; type++) {
		make((enum pf_md)type, &g);
		CU_ASSERT_PTR_NULL(check(&g));
		for (unsigned int bit = 0; bit < 8 * pf_md_size(g.type); bit++) {
			g.obj[bit / 8] ^= (uint8_t)(1U << bit % 8);
			if (check(&g) == NULL) {
				CU_FAIL("a flipped bit went unnoticed");
				(void)printf("\n\t%s bit %u\n", pf_md_name[type], bit);
			}
			g.obj[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		CU_ASSERT_PTR_NULL(check(&g));
	}
	down();
}

static void another_place_or_owner(void)
{
	struct good g;

	up();
	for (int type = 0; type < PF_MD_NR; type++) {
		make((enum pf_md)type, &g);
		g.owner++;
		CU_ASSERT_PTR_NOT_NULL(check(&g));
		g.owner--;
		g.doff += PF_BLK_SIZE;
		/* An inode's place follows from its number, which is checked instead. */
		CU_ASSERT_EQUAL(check(&g) == NULL, type == PF_MD_INODE);
		g.doff -= PF_BLK_SIZE;
		fs.fsid++;
		CU_ASSERT_STRING_EQUAL(check(&g), "fsid");
		fs.fsid--;
		for (int other = 0; other < PF_MD_NR; other++)
			if (other != type && other != PF_MD_INODE)
				CU_ASSERT_PTR_NOT_NULL(pf_md_check(&fs, (enum pf_md)other, g.obj, g.doff, g.owner));
	}
	down();
}

/* Set @size bytes at @off to @value, with a right checksum: the phrase must hold @want, or nothing be wrong. */
struct change { enum pf_md type; unsigned int off, size; uint64_t value; const char *want; };

#define F(s, f) offsetof(struct s, f), sizeof(((struct s *)0)->f)
#define REC(base, i, f) (base) + (i) * 24 + offsetof(struct pf_d_rec, f), sizeof(((struct pf_d_rec *)0)->f)
#define IREC(i, f) REC(offsetof(struct pf_d_inode, i_root) + 16, i, f)
#define NREC(i, f) REC(64, i, f)
#define XREC(i, f) REC(offsetof(struct pf_d_inode, i_xroot) + 16, i, f)
#define XE(o, f) (o) + offsetof(struct pf_d_xent, f), sizeof(((struct pf_d_xent *)0)->f)
#define DE(o, f) (o) + offsetof(struct pf_d_dirent, f), sizeof(((struct pf_d_dirent *)0)->f)

static void rules(void)
{
	up();
	const struct change t[] = {
		{ PF_MD_MAP, F(pf_d_map, m_hdr.h_free), 1, "free blocks" },
		{ PF_MD_MAP, 64 + 512, 1, 0, "past the end" },
		{ PF_MD_MAP, 44, 1, 1, "padding" },
		{ PF_MD_ICLU, F(pf_d_iclu, c_hdr.h_free), 512, "free inodes" },
		{ PF_MD_ICLU, 64, 1, 0xfe, "header slots" },
		{ PF_MD_ICLU, 128, 1, 1, "padding" },
		{ PF_MD_ORPHAN, F(pf_d_hdr, h_count), 3, "used slots" },
		{ PF_MD_ORPHAN, 64, 8, PF_INO_MAX + 1, "inode number" },
		{ PF_MD_ORPHAN, 64 + 7 * 8, 8, 1024 + 7, "inode number" },
		{ PF_MD_ORPHAN, 64 + 7 * 8, 8, 1024 + 8, NULL },
		{ PF_MD_INODE, F(pf_d_inode, i_gen), 0, "generation" },
		{ PF_MD_INODE, F(pf_d_inode, i_mode), 0644, "file type" },
		{ PF_MD_INODE, F(pf_d_inode, i_mode), S_IFIFO | 0644, NULL },
		{ PF_MD_INODE, F(pf_d_inode, i_nlink), PF_LINK_MAX + 1, "link count" },
		{ PF_MD_INODE, F(pf_d_inode, i_size), PF_FILE_MAX + 1, "size" },
		{ PF_MD_INODE, F(pf_d_inode, i_size), PF_FILE_MAX, NULL },
		{ PF_MD_INODE, F(pf_d_inode, i_nblk), 4097, "block count" },
		{ PF_MD_INODE, F(pf_d_inode, i_atime_ns), 1000000000, "nanoseconds" },
		{ PF_MD_INODE, F(pf_d_inode, i_btime_ns), 999999999, NULL },
		{ PF_MD_INODE, F(pf_d_inode, i_intent), 5, "intent" },
		{ PF_MD_INODE, F(pf_d_inode, i_pad), 1, "reserved" },
		{ PF_MD_INODE, F(pf_d_inode, i_xroot.x_count), 0, NULL },
		{ PF_MD_INODE, F(pf_d_inode, i_xroot.x_count), 3, "attributes" },
		{ PF_MD_INODE, F(pf_d_inode, i_xroot.x_level), 1, "attributes" },
		{ PF_MD_INODE, F(pf_d_inode, i_xroot.x_level), 8, "attributes" },
		{ PF_MD_INODE, F(pf_d_inode, i_xroot.x_pad), 1, "padding" },
		{ PF_MD_INODE, XREC(0, r_key), 1, "attributes" },
		{ PF_MD_INODE, XREC(1, r_key), 0, "attributes" },
		{ PF_MD_INODE, XREC(1, r_len), 2, "attributes" },
		{ PF_MD_INODE, XREC(1, r_flags), PF_REC_UNWRITTEN, "attributes" },
		{ PF_MD_INODE, XREC(1, r_dblk), 1, "attributes" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_level), 8, "too deep" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_level), 1, "index record" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_count), 11, "too many" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_count), 65535, "too many" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_count), 4, "out of order" },
		{ PF_MD_INODE, F(pf_d_inode, i_root.t_pad), 1, "padding" },
		{ PF_MD_INODE, IREC(0, r_len), 5, "overlap" },
		{ PF_MD_INODE, IREC(0, r_len), 0, "length 0" },
		{ PF_MD_INODE, IREC(2, r_len), UINT32_MAX, "outside" },
		{ PF_MD_INODE, IREC(2, r_key), 3, "overlap" },
		{ PF_MD_INODE, IREC(2, r_key), UINT64_MAX, "key out of range" },
		{ PF_MD_INODE, IREC(1, r_flags), 2, "flags" },
		{ PF_MD_INODE, IREC(1, r_dblk), 0, "outside" },
		{ PF_MD_INODE, IREC(1, r_dblk), fs.map_blk, "outside" },
		{ PF_MD_INODE, IREC(1, r_dblk), fs.iclu0_blk, "outside" },
		{ PF_MD_INODE, IREC(1, r_dblk), 4095, "outside" },
		{ PF_MD_INODE, IREC(1, r_dblk), 4094, NULL },
		{ PF_MD_INODE, IREC(1, r_dblk), UINT64_MAX, "outside" },
		{ PF_MD_INODE, F(pf_d_inode, i_mode), S_IFDIR | 0755, "directory record" },
		{ PF_MD_INODE, F(pf_d_inode, i_mode), S_IFLNK | 0777, "empty symbolic" },
		{ PF_MD_NODE, F(pf_d_hdr, h_count), 0, "record count" },
		{ PF_MD_NODE, F(pf_d_hdr, h_count), 169, "record count" },
		{ PF_MD_NODE, F(pf_d_hdr, h_count), 3, "overlap" },
		{ PF_MD_NODE, F(pf_d_hdr, h_level), 8, "too deep" },
		{ PF_MD_NODE, F(pf_d_hdr, h_level), 1, "index record" },
		{ PF_MD_NODE, F(pf_d_hdr, h_pad), 1, "padding" },
		{ PF_MD_NODE, NREC(1, r_key), 100, "overlap" },
		{ PF_MD_NODE, NREC(0, r_dblk), 1, "outside" },
		{ PF_MD_DIR, F(pf_d_hdr, h_count), 3, "count of entries" },
		{ PF_MD_DIR, F(pf_d_hdr, h_free), 0, "free bytes" },
		{ PF_MD_DIR, DE(64, de_reclen), 0, "entry length" },
		{ PF_MD_DIR, DE(64, de_reclen), 16, "entry length" },
		{ PF_MD_DIR, DE(64, de_reclen), 25, "entry length" },
		{ PF_MD_DIR, DE(64, de_reclen), 4040, "entry length" },
		{ PF_MD_DIR, DE(128, de_reclen), 4096 - 128 - 8, "cut short" },
		{ PF_MD_DIR, DE(64, de_namelen), 0, "name length" },
		{ PF_MD_DIR, DE(64, de_namelen), 5, "name length" },
		{ PF_MD_DIR, DE(64, de_key), 255, "name key" },
		{ PF_MD_DIR, DE(64, de_key), UINT64_C(1) << 63, "name key" },
		{ PF_MD_DIR, DE(64, de_ino), 9, "inode number" },
		{ PF_MD_DIR, DE(64, de_ino), PF_INO_MAX + 1, "inode number" },
		{ PF_MD_DIR, DE(64, de_ino), 0, "count of entries" },
		{ PF_MD_DIR, 64 + 20, 1, '/', "slash" },
		{ PF_MD_DIR, 64 + 20, 1, 0, "NUL" },
		{ PF_MD_XATTR, F(pf_d_hdr, h_count), 2, "count of attributes" },
		{ PF_MD_XATTR, F(pf_d_hdr, h_free), 0, "free bytes" },
		{ PF_MD_XATTR, F(pf_d_hdr, h_pad), 1, "padding" },
		{ PF_MD_XATTR, XE(64, xe_reclen), 0, "record length" },
		{ PF_MD_XATTR, XE(64, xe_reclen), 16, "record length" },
		{ PF_MD_XATTR, XE(64, xe_reclen), 36, "record length" },
		{ PF_MD_XATTR, XE(64, xe_reclen), 4040, "record length" },
		{ PF_MD_XATTR, XE(216, xe_reclen), 4096 - 216 - 8, "record length" },
		{ PF_MD_XATTR, XE(64, xe_namelen), 0, "count of attributes" },
		{ PF_MD_XATTR, XE(64, xe_namelen), 13, "record length" },
		{ PF_MD_XATTR, XE(64, xe_namelen), 7, "padding of a name" },
		{ PF_MD_XATTR, XE(64, xe_namelen), 9, "NUL" },
		{ PF_MD_XATTR, XE(64, xe_key), 255, "name key" },
		{ PF_MD_XATTR, XE(64, xe_key), UINT64_C(1) << 63, "name key" },
		{ PF_MD_XATTR, XE(64, xe_vlen), 4, "padding of a value" },
		{ PF_MD_XATTR, XE(64, xe_vlen), 6, NULL },
		{ PF_MD_XATTR, XE(64, xe_vlen), 9, "record length" },
		{ PF_MD_XATTR, XE(64, xe_vlen), UINT32_MAX, "record length" },
		{ PF_MD_XATTR, XE(64, xe_vcrc), 1, "checksum of a value" },
		{ PF_MD_XATTR, XE(104, xe_vlen), 1, "record length" },
		{ PF_MD_XATTR, XE(136, xe_vlen), 1024, "length of a value" },
		{ PF_MD_XATTR, XE(136, xe_vlen), 8192, "blocks of a value" },
		{ PF_MD_XATTR, XE(136, xe_vlen), 8194, NULL },
		{ PF_MD_XATTR, XE(136, xe_vlen), 65537, "length of a value" },
		{ PF_MD_XATTR, XE(136, xe_vcrc), 77, NULL },
		{ PF_MD_XATTR, XE(136, xe_nrun), 1, "blocks of a value" },
		{ PF_MD_XATTR, XE(136, xe_nrun), 4, "record length" },
		{ PF_MD_XATTR, XE(136, xe_nrun), 17, "record length" },
		{ PF_MD_XATTR, 136 + 32, 8, 0, "outside" },
		{ PF_MD_XATTR, 136 + 32 + 8, 8, 0, "outside" },
		{ PF_MD_XATTR, 136 + 32 + 8, 8, 17, "blocks of a value" },
		{ PF_MD_XATTR, 136 + 32 + 8, 8, UINT64_MAX, "outside" },
	};
	struct good g;

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		const char *why;

		make(t[i].type, &g);
		for (unsigned int b = 0; b < t[i].size; b++)
			g.obj[t[i].off + b] = b < 8 ? (uint8_t)(t[i].value >> 8 * b) : 0;
		pf_md_seal(g.type, g.obj);
		why = check(&g);
		if ((why == NULL) != (t[i].want == NULL) || (why != NULL && strstr(why, t[i].want) == NULL)) {
			CU_FAIL("rule");
			(void)printf("\n\t%s, byte %u = %llx: %s, want %s\n", pf_md_name[t[i].type], t[i].off,
				     (unsigned long long)t[i].value, why ? why : "sound",
				     t[i].want ? t[i].want : "sound");
		}
	}
	down();
}

/* Rules that need more than one field. */
static void directories_and_links(void)
{
	struct good g;
	struct pf_d_inode *di = (void *)g.obj;

	up();
	make(PF_MD_INODE, &g);
	di->i_mode = pf_put32(S_IFDIR | 0755);
	di->i_root.t_count = pf_put16(1);
	di->i_root.t_rec[0].r_len = pf_put32(1);
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_PTR_NULL(check(&g));
	di->i_root.t_rec[0].r_key = pf_put64(256);
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_STRING_EQUAL(check(&g), "first directory record is not key 0");

	make(PF_MD_INODE, &g);
	di->i_mode = pf_put32(S_IFLNK | 0777);
	memset(di->i_symlink, 'x', sizeof di->i_symlink);
	di->i_size = pf_put64(255);
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_STRING_EQUAL(check(&g), "symbolic link's length");
	di->i_symlink[255] = 0;
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_PTR_NULL(check(&g));
	di->i_symlink[9] = 0;
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_STRING_EQUAL(check(&g), "symbolic link's length");

	/* Cluster 0 belongs to the inode table alone. */
	make(PF_MD_INODE, &g);
	g.owner = PF_INO_ITABLE;
	di->i_ino = pf_put64(PF_INO_ITABLE);
	memset(&di->i_xroot, 0, sizeof di->i_xroot);
	di->i_root.t_rec[1].r_dblk = pf_put64(fs.iclu0_blk);
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_PTR_NULL(check(&g));
	down();
}

static uint64_t seed = 1;
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

/* Objects on the heap, exactly as long as they are, so that ASan sees a byte too many. */
static void any_bytes(void)
{
	unsigned int sound = 0;
	struct good g;

	up();
	for (unsigned int i = 0; i < 60000; i++) {
		uint8_t *p;
		unsigned int size;

		make((enum pf_md)(i % PF_MD_NR), &g);
		size = pf_md_size(g.type);
		p = malloc(size);
		memcpy(p, g.obj, size);
		for (unsigned int n = 1 + (unsigned int)rnd() % 8; n > 0; n--) {
			static const uint64_t edge[] = { 0, 1, 0xff, 0x7f, 0x80, 8, 168, 169, 255, 24 };
			/* Mostly where there is something. */
			unsigned int off = 24 + (unsigned int)rnd() % (rnd() % 4 ? 200 : size - 24);

			p[off] = (uint8_t)(rnd() % 2 ? edge[rnd() % PF_ARRAY_LEN(edge)] : rnd());
		}
		pf_md_seal(g.type, p);
		sound += pf_md_check(&fs, g.type, p, g.doff, g.owner) == NULL;
		free(p);
	}
	/* Some damage cannot be seen in one object (an owner's id, a time), most can. */
	CU_ASSERT(sound > 100 && sound < 40000);
	down();
}

/* The walk over a leaf's attributes shows all parts of each, and nothing of a leaf that is not sound. */
static void attributes(void)
{
	static const struct { const char *name; uint32_t vlen; unsigned int nrun; } want[] = {
		{ "user.abc", 5, 0 }, { "user.none", 0, 0 }, { "user.big", 8193, 2 },
	};
	unsigned int off = PF_XLEAF_FIRST, n = 0;
	struct pf_xview v;
	struct good g;

	up();
	make(PF_MD_XATTR, &g);
	while (pf_xleaf_next(g.obj, &off, &v)) {
		CU_ASSERT_FATAL(n < PF_ARRAY_LEN(want));
		CU_ASSERT_EQUAL(v.namelen, strlen(want[n].name));
		CU_ASSERT_NSTRING_EQUAL(v.name, want[n].name, v.namelen);
		CU_ASSERT_EQUAL(v.vlen, want[n].vlen);
		CU_ASSERT_EQUAL(v.nrun, want[n].nrun);
		CU_ASSERT_EQUAL(v.value != NULL, v.nrun == 0);
		if (v.nrun == 0)
			CU_ASSERT(memcmp(v.value, "vvvvv", v.vlen) == 0);
		for (unsigned int i = 0; i < v.nrun; i++) {
			CU_ASSERT_EQUAL(pf_get64(v.run[i].xr_dblk), DATA(&fs) + 100 * (i + 1));
			CU_ASSERT_EQUAL(pf_get64(v.run[i].xr_nblk), i + 1);
		}
		n++;
	}
	CU_ASSERT_EQUAL(n, 3);
	CU_ASSERT_EQUAL(off, 4096);
	((struct pf_d_xent *)(void *)(g.obj + 104))->xe_reclen = pf_put16(31);
	off = PF_XLEAF_FIRST;
	CU_ASSERT_TRUE(pf_xleaf_next(g.obj, &off, &v));
	CU_ASSERT_FALSE(pf_xleaf_next(g.obj, &off, &v));

	/* The inode table and the orphan file have none. */
	make(PF_MD_INODE, &g);
	g.owner = PF_INO_ORPHAN;
	((struct pf_d_inode *)(void *)g.obj)->i_ino = pf_put64(g.owner);
	pf_md_seal(g.type, g.obj);
	CU_ASSERT_STRING_EQUAL(check(&g), "attributes of an internal inode");
	down();
}

/* A block is checked in full once, then by identity, and in full again after it was forgotten. */
static void memory(void)
{
	struct good g;
	const void *obj;
	uint8_t *home;

	up();
	make(PF_MD_NODE, &g);
	home = pf_pm_at(fs.pm, g.doff);
	memcpy(home, g.obj, 4096);
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), 0);
	CU_ASSERT_PTR_EQUAL(obj, home);
	home[4095] ^= 1;
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), 0);
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner + 1, &obj), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_md_get(&fs, PF_MD_DIR, g.doff, g.owner, &obj), -EUCLEAN);
	pf_md_forget(&fs, (g.doff >> 12) + 1, 500);
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), 0);
	pf_md_forget(&fs, (g.doff >> 12) - 130, 131);
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), -EUCLEAN);
	home[4095] ^= 1;
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), 0);
	/* An inode is checked each time: its neighbours share the block. */
	make(PF_MD_INODE, &g);
	home = pf_pm_at(fs.pm, g.doff);
	memcpy(home, g.obj, 512);
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), 0);
	home[40] ^= 1;
	CU_ASSERT_EQUAL(pf_md_get(&fs, g.type, g.doff, g.owner, &obj), -EUCLEAN);
	down();
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "every bit is covered", every_bit_is_covered },
		{ "another place, owner, type, filesystem", another_place_or_owner },
		{ "each rule", rules },
		{ "directories, symbolic links, cluster 0", directories_and_links },
		{ "attributes of a leaf", attributes },
		{ "any bytes", any_bytes },
		{ "what was verified", memory },
	};

	pf_log_init("test_verify", PF_LOG_ERR, false);
	return unit_main("verify", cases, PF_ARRAY_LEN(cases));
}
