/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.c - makes the image of image.h. Owns it for as long as the program runs; one thread.
 *
 * The walk that finds what a file depends on is written anew here, on raw bytes: it judges fsck, so it shares no code
 * with it.
 */
#include "fuzz/image.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/journal.h"
#include "media/mkfs.h"
#include "media/super.h"
#include "media/verify.h"

#define BLK PF_BLK_SIZE

const char *const fz_class_name[FZ_CLASSES] = {
	"superblock", "lane", "map", "cluster", "inode", "node", "dir", "orphan", "xattr", "data",
};

static struct fz_image image;
static int image_fd;			/* memfd with its bytes */
uint64_t fz_stores;

static void must(int64_t err)
{
	if (err < 0) {
		(void)fprintf(stderr, "image: %s\n", strerror((int)-err));
		abort();
	}
}

static void *get_mem(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL)
		abort();
	return p;
}

uint64_t fz_size(enum fz_class c)
{
	return c == FZ_LANE ? PF_LANE_BYTES : c == FZ_INODE ? PF_INODE_SIZE : BLK;
}

static void seal_lane(struct pf_d_lane *l)
{
	uint64_t len = pf_min64(pf_get32(l->l_len), PF_LANE_BYTES - sizeof *l);

	l->l_crc = pf_put32(pf_crc32c_hole(l, sizeof *l + len, offsetof(struct pf_d_lane, l_crc)));
}

void fz_seal(struct pf_pm *pm, enum fz_class c, uint64_t doff)
{
	void *obj = pf_pm_at(pm, doff);
	struct pf_d_super *sb = obj;

	switch (c) {
	case FZ_SUPER:
		sb->sb_crc = pf_put32(pf_sb_sum(sb));
		break;
	case FZ_LANE:
		seal_lane(obj);
		break;
	case FZ_INODE:
		pf_md_seal(PF_MD_INODE, obj);
		break;
	case FZ_MAP:
	case FZ_CLUSTER:
	case FZ_NODE:
	case FZ_DIR:
	case FZ_ORPHAN:
	case FZ_XATTR:
		pf_md_seal(PF_MD_NODE, obj);	/* all of them alike */
		break;
	case FZ_DATA:
	case FZ_CLASSES:
		break;
	}
}

/* ---- making it ---- */

/* The linker sends the core's calls here (tests.mk): the hour would be in the image. Other clocks are real. */
static uint64_t now_ms;
#define EPOCH_MS UINT64_C(1700000000000)

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
time_t __wrap_time(time_t *t);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ms;

	if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
		return __real_clock_gettime(clock, ts);
	ms = __atomic_fetch_add(&now_ms, 1, __ATOMIC_RELAXED) + EPOCH_MS;
	ts->tv_sec = (time_t)(ms / 1000);
	ts->tv_nsec = (long)(ms % 1000) * 1000000;
	return 0;
}

time_t __wrap_time(time_t *t)
{
	const time_t now = EPOCH_MS / 1000;

	if (t != NULL)
		*t = now;
	return now;
}

/* Which leaf a name is in, and all checksums, follow from these. */
void fz_fix_identity(struct pf_pm *pm)
{
	const uint64_t fsid = UINT64_C(0x1122334455667788);
	struct pf_d_super *sb = pf_pm_at(pm, 0);
	uint64_t map = pf_get64(sb->sb_map_blk), groups = pf_get64(sb->sb_ngroup), clu = pf_get64(sb->sb_iclu0_blk);

	memset(sb->sb_uuid, 0x42, sizeof sb->sb_uuid);
	for (unsigned int i = 0; i < sizeof sb->sb_hash_key; i++)
		sb->sb_hash_key[i] = (uint8_t)(i * 17 + 3);
	sb->sb_fsid = pf_put64(fsid);
	fz_seal(pm, FZ_SUPER, 0);
	memcpy(pf_pm_at(pm, FZ_BYTES - BLK), sb, BLK);
	for (uint64_t b = map; b < map + groups; b++) {
		((struct pf_d_hdr *)pf_pm_at(pm, b * BLK))->h_fsid = pf_put64(fsid);
		fz_seal(pm, FZ_MAP, b * BLK);
	}
	((struct pf_d_hdr *)pf_pm_at(pm, clu * BLK))->h_fsid = pf_put64(fsid);
	fz_seal(pm, FZ_CLUSTER, clu * BLK);
	for (uint64_t ino = PF_INO_ITABLE; ino < PF_INO_FIRST_USER; ino++) {
		struct pf_d_inode *di = pf_pm_at(pm, clu * BLK + ino * PF_INODE_SIZE);

		if (pf_get32(di->i_magic) != PF_MAGIC_INODE)
			continue;
		di->i_fsid = pf_put64(fsid);
		fz_seal(pm, FZ_INODE, clu * BLK + ino * PF_INODE_SIZE);
	}
}

static void put(struct pf_fs *fs, const char *path, uint64_t off, size_t len, uint8_t with)
{
	static uint8_t buf[65536];

	memset(buf, with, sizeof buf);
	if (core_find(fs, path) < 0)
		must(core_create(fs, path));
	if (core_write(fs, path, off, buf, len) != (ssize_t)len)
		abort();
}

static void many_name(char *name, size_t room, int i)
{
	(void)snprintf(name, room, "/many/a-file-with-a-name-%d-%0*d", i, 1 + i % 60, i);
}

/* Attributes in the leaf and in blocks of their own, and enough of them for a tree of leaves. */
static void attributes(struct pf_fs *fs)
{
	static char value[30000];
	uint64_t ino = (uint64_t)core_find(fs, "/d/e/large"), small = (uint64_t)core_find(fs, "/d/small");
	uint64_t dir = (uint64_t)core_find(fs, "/d/e/f");
	char name[64];

	memset(value, 'v', sizeof value);
	must(pf_op_setxattr(fs, small, "user.short", "value", 5, 0, false));
	must(pf_op_setxattr(fs, dir, "user.of-a-directory", value, 900, 0, false));
	must(pf_op_setxattr(fs, dir, "trusted.long", value, sizeof value, 0, false));
	must(pf_op_setxattr(fs, ino, "security.long", value, 5000, 0, false));
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof name, "user.attribute-%d", i);
		must(pf_op_setxattr(fs, ino, name, value, (size_t)i * 20, 0, false));
	}
}

static void populate(struct pf_fs *fs)
{
	char name[512];

	/* A directory with a tree of level 1, and two clusters of inodes. */
	must(core_mkdir(fs, "/many"));
	for (int i = 0; i < 600; i++) {
		many_name(name, sizeof name, i);
		must(core_create(fs, name));
	}
	for (int i = 0; i < 600; i += 6) {
		many_name(name, sizeof name, i);
		must(core_unlink(fs, name));
	}
	must(core_mkdir(fs, "/d"));
	must(core_mkdir(fs, "/d/e"));
	must(core_mkdir(fs, "/d/e/f"));
	put(fs, "/d/small", 0, 100, 'a');
	put(fs, "/d/e/large", 0, 60000, 'b');
	must(core_link(fs, "/d/small", "/d/e/f/link"));
	attributes(fs);
	must(core_symlink(fs, "/d/short", "small"));
	memset(name, 's', sizeof name);
	name[sizeof name - 1] = '\0';
	must(core_symlink(fs, "/d/longer", name));
	must(core_mknod(fs, "/d/null", S_IFCHR | 0666, makedev(1, 3)));
	must(core_mknod(fs, "/d/fifo", S_IFIFO | 0666, 0));
	/* Trees of one and two levels above the inode. */
	for (uint64_t i = 0; i < 300; i++)
		put(fs, "/sparse", i * 2 * BLK, BLK, (uint8_t)(i + 1));
	put(fs, "/deep", 0, 10, 'd');
	for (uint64_t i = 1; i < 880; i++)
		must(core_fallocate(fs, "/deep", i % 2 != 0 ? FALLOC_FL_KEEP_SIZE : 0, i * 2 * BLK, BLK));
	must(core_fallocate(fs, "/d/e/large", 0, 100000, 300000));
	must(core_fallocate(fs, "/sparse", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * BLK, 20 * BLK));
	/* To be shifted later: from the back, so that its nodes are half full, and too many for one transaction. */
	for (uint64_t i = 1450; i-- > 0;)
		put(fs, "/cut", i * 2 * BLK, 1, 'c');
}

/* A moment of the shift in which a lane holds a transaction and the inode an intent. */
struct moment { uint8_t *bytes; uint64_t ino; bool found; };

static void catch_moment(void *arg, struct pf_pm *at, unsigned int fence)
{
	struct moment *m = arg;
	struct pf_fs fs = { .pm = at, .opts = { .ro = true } };
	const struct pf_d_inode *di;
	const char *why;

	(void)fence;
	if (m->found || pf_sb_load(&fs, &why) != 0 || pf_jnl_pending(&fs) < 1)
		return;
	di = pf_pm_at(at, fs.iclu0_blk * BLK + m->ino * PF_INODE_SIZE);
	if (pf_get32(di->i_intent) != PF_INTENT_COLLAPSE)
		return;
	memcpy(m->bytes, at->base, FZ_BYTES);
	m->found = true;
}

static void make_bytes(uint8_t *bytes)
{
	struct pf_mkfs mk = { .label = "fuzz" };
	struct moment m = { .bytes = bytes };
	struct pf_pm *pm = mem_open(FZ_BYTES);
	struct pf_entry held;
	struct crash *c;
	const char *why;
	struct pf_fs *fs;

	now_ms = 0;
	must(pf_mkfs(pm, &mk));
	fz_fix_identity(pm);
	must(core_mount(pm, &fs, &why));
	/* In cluster 0, where catch_moment() looks. */
	must(core_create(fs, "/cut"));
	m.ino = (uint64_t)core_find(fs, "/cut");
	populate(fs);
	put(fs, "/held", 0, 50000, 'h');
	must(pf_op_lookup(fs, PF_INO_ROOT, "held", &held));
	must(core_unlink(fs, "/held"));
	c = crash_attach(pm, catch_moment, &m, 1, 1);
	must(core_fallocate(fs, "/cut", FALLOC_FL_COLLAPSE_RANGE, 3 * BLK, BLK));
	crash_detach(c);
	if (!m.found)
		abort();
	pf_op_forget(fs, held.ino, 1);
	core_unmount(fs);
	mem_close(pm);
}

/* ---- devices ---- */

static void fz_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	fz_stores++;
	memmove(pf_pm_at(pm, doff), src, len);
}

static void fz_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	fz_stores++;
	memset(pf_pm_at(pm, doff), 0, len);
}

static void fz_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	(void)pm;
	(void)doff;
	(void)len;
}

static int fz_drain(struct pf_pm *pm)
{
	(void)pm;
	return 0;
}

static const struct pf_pm_ops fz_ops = { .write = fz_write, .zero = fz_zero, .flush = fz_flush, .drain = fz_drain };

struct pf_pm *fz_open(void)
{
	struct pf_pm *pm = get_mem(1, sizeof *pm);

	(void)fz_image();
	pm->base = mmap(NULL, FZ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, image_fd, 0);
	if (pm->base == MAP_FAILED)
		abort();
	pm->bytes = FZ_BYTES;
	pm->fd = -1;
	pm->mode = PF_PMEM_CPU;
	pm->ops = &fz_ops;
	return pm;
}

void fz_close(struct pf_pm *pm)
{
	(void)munmap(pm->base, FZ_BYTES);
	free(pm);
}

/* ---- what is where ---- */

static void add_obj(struct fz_objs *o, uint64_t doff)
{
	if (o->n % 64 == 0) {
		o->doff = realloc(o->doff, (o->n + 64) * sizeof *o->doff);
		if (o->doff == NULL)
			abort();
	}
	o->doff[o->n++] = doff;
}

static void find_inodes(const uint8_t *bytes, uint64_t clu)
{
	const struct pf_d_iclu *h = (const void *)(bytes + clu * BLK);

	for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++)
		if (h->c_used[s / 8] >> (s % 8) & 1)
			add_obj(&image.obj[FZ_INODE], clu * BLK + s * (uint64_t)PF_INODE_SIZE);
	for (unsigned int b = 1; b < PF_ICLU_BLKS; b++)
		if (bytes[(clu + b) * BLK] != 0)
			add_obj(&image.meta, (clu + b) * BLK);
}

static void find_objects(const uint8_t *bytes)
{
	const struct pf_d_super *sb = (const void *)bytes;
	uint64_t map = pf_get64(sb->sb_map_blk);

	add_obj(&image.obj[FZ_SUPER], 0);
	add_obj(&image.obj[FZ_SUPER], FZ_BYTES - BLK);
	add_obj(&image.meta, 0);
	for (uint32_t i = 0; i < pf_get32(sb->sb_nlane); i++)
		add_obj(&image.obj[FZ_LANE], BLK + i * PF_LANE_BYTES);
	for (uint64_t b = map; b < FZ_NBLK - 1; b++) {
		const struct pf_d_hdr *h = (const void *)(bytes + b * BLK);
		static const struct { uint32_t magic; enum fz_class c; } kinds[] = {
			{ PF_MAGIC_MAP, FZ_MAP },    { PF_MAGIC_ICLU, FZ_CLUSTER }, { PF_MAGIC_NODE, FZ_NODE },
			{ PF_MAGIC_DIR, FZ_DIR },    { PF_MAGIC_ORPH, FZ_ORPHAN },  { PF_MAGIC_XATTR, FZ_XATTR },
		};

		for (unsigned int k = 0; k < PF_ARRAY_LEN(kinds); k++)
			if (pf_get32(h->h_magic) == kinds[k].magic && pf_get64(h->h_fsid) == pf_get64(sb->sb_fsid)) {
				add_obj(&image.obj[kinds[k].c], b * BLK);
				add_obj(&image.meta, b * BLK);
			}
		if (pf_get32(h->h_magic) == PF_MAGIC_ICLU && pf_get64(h->h_fsid) == pf_get64(sb->sb_fsid)) {
			find_inodes(bytes, b);
			b += PF_ICLU_BLKS - 1;
		}
	}
	add_obj(&image.meta, FZ_BYTES - BLK);
}

/* ---- what depends on what ---- */

struct way { const uint8_t *bytes; uint64_t needs[FZ_SECTORS / 64]; };

static void walk_dir(const struct way *up, uint64_t ino, const char *path);

/* Offset of an inode; its cluster's header, and the table's tree, become part of the way. */
static uint64_t inode_doff(struct way *w, uint64_t ino)
{
	const struct pf_d_super *sb = (const void *)w->bytes;
	uint64_t clu = pf_get64(sb->sb_iclu0_blk), at;
	const struct pf_d_inode *table = (const void *)(w->bytes + clu * BLK + PF_INO_ITABLE * PF_INODE_SIZE);
	uint64_t key = (ino >> PF_ICLU_SHIFT) * PF_ICLU_BLKS;

	fz_mark(w->needs, clu * BLK + PF_INO_ITABLE * PF_INODE_SIZE, PF_INODE_SIZE);
	for (unsigned int i = 0; i < pf_get16(table->i_root.t_count); i++) {
		const struct pf_d_rec *r = &table->i_root.t_rec[i];

		if (pf_get64(r->r_key) <= key && key < pf_get64(r->r_key) + pf_get32(r->r_len))
			clu = pf_get64(r->r_dblk) + (key - pf_get64(r->r_key));
	}
	fz_mark(w->needs, clu * BLK, BLK);
	at = clu * BLK + (ino % PF_ICLU_SLOTS) * PF_INODE_SIZE;
	fz_mark(w->needs, at, PF_INODE_SIZE);
	return at;
}

/* Everything below the records: nodes and what the leaves' records name. */
static void need_tree(struct way *w, const struct pf_d_rec *rec, unsigned int n, unsigned int level, bool data)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t dblk = pf_get64(rec[i].r_dblk);
		const struct pf_d_node *node = (const void *)(w->bytes + dblk * BLK);

		if (level == 0 && (pf_get32(rec[i].r_flags) & PF_REC_UNWRITTEN) == 0) {
			fz_mark(w->needs, dblk * BLK, pf_get32(rec[i].r_len) * BLK);
			for (uint64_t b = dblk; data && b < dblk + pf_get32(rec[i].r_len); b++)
				add_obj(&image.obj[FZ_DATA], b * BLK);
		} else if (level > 0) {
			fz_mark(w->needs, dblk * BLK, BLK);
			need_tree(w, node->n_rec, pf_get16(node->n_hdr.h_count), level - 1, data);
		}
	}
}

static void need_attrs(struct way *w, const struct pf_d_rec *rec, unsigned int n, unsigned int level)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t dblk = pf_get64(rec[i].r_dblk);
		const uint8_t *leaf = w->bytes + dblk * BLK;
		const struct pf_d_node *node = (const void *)leaf;

		fz_mark(w->needs, dblk * BLK, BLK);
		if (level > 0) {
			need_attrs(w, node->n_rec, pf_get16(node->n_hdr.h_count), level - 1);
			continue;
		}
		for (uint64_t off = sizeof(struct pf_d_hdr); off < BLK;) {
			const struct pf_d_xent *xe = (const void *)(leaf + off);
			uint64_t runs = off + (offsetof(struct pf_d_xent, xe_name) + xe->xe_namelen + 7) / 8 * 8;
			const struct pf_d_xrun *run = (const void *)(leaf + runs);

			off += pf_get16(xe->xe_reclen);
			for (unsigned int k = 0; xe->xe_namelen != 0 && k < xe->xe_nrun; k++)
				fz_mark(w->needs, pf_get64(run[k].xr_dblk) * BLK, pf_get64(run[k].xr_nblk) * BLK);
		}
	}
}

static void add_name(const struct way *w, const char *path, uint64_t ino)
{
	struct fz_name *n;

	if (image.nr_names % 64 == 0) {
		image.name = realloc(image.name, (image.nr_names + 64) * sizeof *image.name);
		if (image.name == NULL)
			abort();
	}
	n = &image.name[image.nr_names++];
	n->path = strdup(path);
	n->ino = ino;
	memcpy(n->needs, w->needs, sizeof n->needs);
}

static void found_entry(const struct way *up, const struct pf_d_dirent *de, const char *dir)
{
	uint64_t ino = pf_get64(de->de_ino);
	const struct pf_d_inode *di;
	struct way w = *up;
	char path[1024];
	uint32_t mode;

	(void)snprintf(path, sizeof path, "%s/%.*s", dir, de->de_namelen, (const char *)de->de_name);
	di = (const void *)(w.bytes + inode_doff(&w, ino));
	mode = pf_get32(di->i_mode);
	if (S_ISREG(mode) || (S_ISLNK(mode) && pf_get64(di->i_size) > PF_SYMLINK_INLINE))
		need_tree(&w, di->i_root.t_rec, pf_get16(di->i_root.t_count), pf_get16(di->i_root.t_level), true);
	if (S_ISDIR(mode))
		walk_dir(&w, ino, path);
	need_attrs(&w, di->i_xroot.x_rec, pf_get16(di->i_xroot.x_count), pf_get16(di->i_xroot.x_level));
	add_name(&w, path, ino);
}

static void walk_leaf(const struct way *up, uint64_t dblk, const char *path)
{
	struct way w = *up;

	fz_mark(w.needs, dblk * BLK, BLK);
	for (uint64_t off = sizeof(struct pf_d_hdr); off < BLK;) {
		const struct pf_d_dirent *de = (const void *)(w.bytes + dblk * BLK + off);

		off += pf_get16(de->de_reclen);
		if (pf_get64(de->de_ino) != 0)
			found_entry(&w, de, path);
	}
}

static void walk_dir_recs(const struct way *up, const struct pf_d_rec *rec, unsigned int n, unsigned int level,
			  const char *path)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t dblk = pf_get64(rec[i].r_dblk);
		const struct pf_d_node *node = (const void *)(up->bytes + dblk * BLK);
		struct way w = *up;

		if (level == 0) {
			walk_leaf(&w, dblk, path);
			continue;
		}
		fz_mark(w.needs, dblk * BLK, BLK);
		walk_dir_recs(&w, node->n_rec, pf_get16(node->n_hdr.h_count), level - 1, path);
	}
}

static void walk_dir(const struct way *up, uint64_t ino, const char *path)
{
	struct way w = *up;
	const struct pf_d_inode *di = (const void *)(w.bytes + inode_doff(&w, ino));

	walk_dir_recs(&w, di->i_root.t_rec, pf_get16(di->i_root.t_count), pf_get16(di->i_root.t_level), path);
}

/* Whoever needs a byte that a transaction in a lane is about to write needs the lane. */
static void need_lanes(const uint8_t *bytes)
{
	for (unsigned int i = 0; i < image.obj[FZ_LANE].n; i++) {
		static uint64_t writes[FZ_SECTORS / 64];
		const struct pf_d_lane *l = (const void *)(bytes + image.obj[FZ_LANE].doff[i]);
		const uint8_t *p = (const uint8_t *)(l + 1);

		if (pf_get64(l->l_seq) == 0)
			continue;
		memset(writes, 0, sizeof writes);
		for (uint32_t r = 0; r < pf_get32(l->l_nrec); r++) {
			const struct pf_d_jrec *rec = (const void *)p;

			fz_mark(writes, pf_get64(rec->j_doff), pf_get32(rec->j_len));
			p += sizeof *rec + pf_get32(rec->j_len);
		}
		for (unsigned int n = 0; n < image.nr_names; n++)
			if (fz_meet(writes, image.name[n].needs))
				fz_mark(image.name[n].needs, image.obj[FZ_LANE].doff[i], PF_LANE_BYTES);
	}
}

static void find_needs(const uint8_t *bytes)
{
	struct pf_pm *pm = fz_open();
	struct pf_fs replayed = { .pm = pm };
	struct way *w = get_mem(1, sizeof *w);
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	int n;

	must(pf_sb_load(&replayed, &why));
	n = pf_jnl_replay(&replayed);
	must(n);
	image.pending = (unsigned int)n;
	w->bytes = pm->base;
	walk_dir(w, PF_INO_ROOT, "");
	need_lanes(bytes);
	must(core_mount(pm, &fs, &why));
	image.tree = core_describe(fs, &damaged);
	if (damaged != 0)
		abort();
	core_unmount(fs);
	free(w);
	fz_close(pm);
}

bool fz_image_same(void)
{
	uint8_t *bytes = get_mem(1, FZ_BYTES);
	bool same;

	make_bytes(bytes);
	same = memcmp(bytes, fz_image()->bytes, FZ_BYTES) == 0;
	free(bytes);
	return same;
}

const struct fz_image *fz_image(void)
{
	uint8_t *bytes;

	if (image.bytes != NULL)
		return &image;
	image_fd = memfd_create("image", MFD_CLOEXEC);
	if (image_fd < 0 || ftruncate(image_fd, (off_t)FZ_BYTES) != 0)
		abort();
	bytes = mmap(NULL, FZ_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, image_fd, 0);
	if (bytes == MAP_FAILED)
		abort();
	image.bytes = bytes;
	make_bytes(bytes);
	find_objects(bytes);
	find_needs(bytes);
	return &image;
}
