/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck_lost.c - files that lost their names when every inode is in use: fsck.pinfs makes the inode table longer
 * for /lost+found, and when there is no space for that it says so, mends the rest, and can be run again.
 */
#include "harness/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/mem.h"
#include "media/mkfs.h"

#define BYTES (UINT64_C(16) << 20)

/* Names "/d/N", of which the first leaf is gone, and what is in them: their number. */
struct lost_image {
	struct pf_pm *pm;
	uint64_t ino[PF_ICLU_SLOTS];
	unsigned int nr, lost;
	char *text;		/* of the last fsck */
};

static void must(int64_t err)
{
	CU_ASSERT_FATAL(err >= 0);
}

static struct pf_fs *mount_it(struct lost_image *im)
{
	struct pf_fs *fs = NULL;
	const char *why;

	must(core_mount(im->pm, &fs, &why));
	return fs;
}

static const struct pf_d_iclu *cluster0(const struct lost_image *im)
{
	const struct pf_d_super *sb = (const void *)im->pm->base;

	return (const void *)(im->pm->base + (pf_get64(sb->sb_iclu0_blk) << PF_BLK_SHIFT));
}

static const struct pf_d_inode *inode(const struct lost_image *im, uint64_t ino)
{
	return (const struct pf_d_inode *)(const void *)cluster0(im) + ino;
}

static uint64_t table_bytes(const struct lost_image *im)
{
	return pf_get64(inode(im, PF_INO_ITABLE)->i_size);
}

/* Every block that a file can get is one of "/full". */
static void fill(struct pf_fs *fs)
{
	uint64_t at = 0;

	must(core_create(fs, "/full"));
	for (uint64_t len = BYTES; len >= PF_BLK_SIZE;) {
		int err = core_fallocate(fs, "/full", 0, at, len);

		if (err == 0)
			at += len;
		else
			len /= 2;
		if (err != 0)
			CU_ASSERT_EQUAL_FATAL(err, -ENOSPC);
	}
}

static void make(struct lost_image *im, bool full)
{
	struct pf_mkfs m = { .label = "lost" };
	const struct pf_d_hdr *leaf;
	const struct pf_d_root *root;
	struct pf_fs *fs;
	char path[32];
	int64_t dir;

	*im = (struct lost_image){ .pm = mem_open(BYTES) };
	must(pf_mkfs(im->pm, &m));
	fs = mount_it(im);
	must(core_mkdir(fs, "/d"));
	dir = core_find(fs, "/d");
	must(dir);
	if (full)
		must(core_create(fs, "/spare"));
	while (pf_get32(cluster0(im)->c_hdr.h_free) > 0) {
		(void)snprintf(path, sizeof path, "/d/%u", im->nr);
		must(core_create(fs, path));
		im->ino[im->nr] = (uint64_t)core_find(fs, path);
		CU_ASSERT_FATAL(im->ino[im->nr] < PF_ICLU_SLOTS);
		CU_ASSERT_EQUAL_FATAL(core_write(fs, path, 0, &im->ino[im->nr], 8), 8);
		im->nr++;
	}
	if (full) {
		must(core_unlink(fs, "/spare"));
		fill(fs);
	}
	core_unmount(fs);
	CU_ASSERT_EQUAL_FATAL(pf_get32(cluster0(im)->c_hdr.h_free), 0);
	CU_ASSERT_EQUAL_FATAL(table_bytes(im), PF_ICLU_BLKS * PF_BLK_SIZE);
	root = &inode(im, (uint64_t)dir)->i_root;
	CU_ASSERT_EQUAL_FATAL(pf_get16(root->t_level), 0);
	CU_ASSERT_FATAL(pf_get16(root->t_count) > 1);
	leaf = (const void *)(im->pm->base + (pf_get64(root->t_rec[0].r_dblk) << PF_BLK_SHIFT));
	im->lost = pf_get16(leaf->h_count);
	CU_ASSERT_FATAL(im->lost > 0 && im->lost < im->nr);
	memset(im->pm->base + (pf_get64(root->t_rec[0].r_dblk) << PF_BLK_SHIFT), 0, PF_BLK_SIZE);
}

static int fsck(struct lost_image *im, enum fsck_mode mode)
{
	struct fsck f = { .mode = mode, .verbose = true, .progress.fd = -1 };
	size_t len;
	int rc;

	free(im->text);
	im->text = NULL;
	f.out = open_memstream(&im->text, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	rc = fsck_check(&f, im->pm, "img");
	(void)fclose(f.out);
	return rc;
}

static void drop(struct lost_image *im)
{
	free(im->text);
	mem_close(im->pm);
}

/* Files that are found again, with the same number. */
static unsigned int found(struct lost_image *im, struct pf_fs *fs, bool below_lost)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < im->nr; i++) {
		char path[48];

		if (below_lost)
			(void)snprintf(path, sizeof path, "/lost+found/#%" PRIu64, im->ino[i]);
		else
			(void)snprintf(path, sizeof path, "/d/%u", i);
		n += core_find(fs, path) == (int64_t)im->ino[i];
	}
	return n;
}

static void check_found(struct lost_image *im)
{
	struct pf_fs *fs = mount_it(im);
	int64_t lf = core_find(fs, "/lost+found");

	CU_ASSERT_EQUAL(lf >> PF_ICLU_SHIFT, 1);
	CU_ASSERT_EQUAL(found(im, fs, true), im->lost);
	CU_ASSERT_EQUAL(found(im, fs, false), im->nr - im->lost);
	/* And the new part of the table is one like any other. */
	must(core_create(fs, "/new"));
	CU_ASSERT_EQUAL(core_find(fs, "/new") >> PF_ICLU_SHIFT, 1);
	core_unmount(fs);
	for (unsigned int i = 0; i < im->nr; i++) {
		const struct pf_d_rec *rec = inode(im, im->ino[i])->i_root.t_rec;

		CU_ASSERT_EQUAL(memcmp(im->pm->base + (pf_get64(rec->r_dblk) << PF_BLK_SHIFT), &im->ino[i], 8), 0);
	}
	CU_ASSERT_EQUAL(fsck(im, FSCK_CHECK), FSCK_OK);
}

static void test_grow(void)
{
	struct lost_image im;

	make(&im, false);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_CHECK), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(im.text, "which fsck.pinfs -y would repair"));
	CU_ASSERT_EQUAL(table_bytes(&im), PF_ICLU_BLKS * PF_BLK_SIZE);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_REPAIR), FSCK_CORRECTED);
	CU_ASSERT_EQUAL(table_bytes(&im), 2 * PF_ICLU_BLKS * PF_BLK_SIZE);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_CHECK), FSCK_OK);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_REPAIR), FSCK_OK);
	check_found(&im);
	drop(&im);
}

static unsigned int occurs(const char *text, const char *what)
{
	unsigned int n = 0;

	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void test_no_space(void)
{
	static const char *const line = "img: no space for /lost+found: ";
	struct lost_image im;
	struct pf_fs *fs;

	make(&im, true);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_CHECK), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(im.text, line));
	CU_ASSERT_EQUAL(fsck(&im, FSCK_REPAIR), FSCK_UNCORRECTED);
	CU_ASSERT_EQUAL(occurs(im.text, line), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(im.text, "not all of which can be repaired"));
	/* Nothing is wrong any more but that. */
	CU_ASSERT_EQUAL(fsck(&im, FSCK_CHECK), FSCK_UNCORRECTED);
	CU_ASSERT_EQUAL(occurs(im.text, ", found 0\n"), im.lost);
	CU_ASSERT_EQUAL(occurs(im.text, "phase 4: "), im.lost + 1);	/* -v names the phase */
	CU_ASSERT_EQUAL(occurs(im.text, line), 1);
	fs = mount_it(&im);
	CU_ASSERT_EQUAL(found(&im, fs, false), im.nr - im.lost);
	CU_ASSERT_EQUAL(core_find(fs, "/lost+found"), -ENOENT);
	must(core_unlink(fs, "/full"));
	core_unmount(fs);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_REPAIR), FSCK_CORRECTED);
	CU_ASSERT_EQUAL(fsck(&im, FSCK_CHECK), FSCK_OK);
	drop(&im);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the inode table grows", test_grow },
		{ "no space for that", test_no_space },
	};

	pf_log_init("fsck", PF_LOG_ERR, false);
	return unit_main("fsck_lost", cases, PF_ARRAY_LEN(cases));
}
