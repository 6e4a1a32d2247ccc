/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck_repair.c - fsck mends every class of damage, and loses nothing that was not hit: in one go, by halves with
 * a second run behind it, and when the device or the user has had enough.
 */
#include "harness/unit.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/xleaf.h"
#include "space/bad.h"
#include "unit/fsck/run.h"

static void test_repair(void)
{
	for (size_t i = 0; i < ndamage; i++) {
		struct copy c = copy_make();

		damages[i].fn(c.pm->base);
		repair(damages[i].name, &c);
		CU_ASSERT_TRUE(kept(damages[i].name, &c, damages[i].hit));
		CU_PASS(damages[i].name);
		copy_free(&c);
	}
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
	damage_of("d_nlink")->fn(c.pm->base);
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

	damage_of("d_leaf_swap")->fn(c.pm->base);
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

		damage_of("d_leaf_swap")->fn(c.pm->base);
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

int main(void)
{
	static const struct unit_case cases[] = {
		{ "each damage is repaired", test_repair },
		{ "preen", test_preen },
		{ "preen a clean image", test_preen_clean },
		{ "a signal", test_cancel },
		{ "a device that fails", test_eio },
		{ "attributes and bad blocks", test_attrs },
		{ "a repair cut short", test_cut_short },
		{ "twin: a drain left out", test_cut_twin },
	};
	int rc;

	im = img_make();
	rc = unit_main("fsck: repair", cases, PF_ARRAY_LEN(cases));
	img_free(im);
	return rc;
}
