/* SPDX-License-Identifier: BSD-3-Clause */
/* test_super.c - mkfs makes what the verifiers accept; superblocks survive damage to one copy; each bad field is
 * named. */
#include "harness/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/super.h"
#include "media/verify.h"

#define MIB (UINT64_C(1) << 20)

static int load(struct pf_pm *pm, const char **why)
{
	struct pf_fs fs = { .pm = pm };

	return pf_sb_load(&fs, why);
}

static void fresh_is_sound(void)
{
	static const uint64_t sizes[] = { 16, 17, 125, 126, 127, 256, 1024, 3000 };

	for (size_t i = 0; i < PF_ARRAY_LEN(sizes); i++) {
		struct pf_mkfs m = { .label = "test" };
		struct pf_fs fs = { .pm = mem_open(sizes[i] * MIB) };
		const char *why = NULL;
		const struct pf_d_map *map;
		uint64_t freeblk = 0;

		CU_ASSERT_EQUAL_FATAL(pf_mkfs(fs.pm, &m), 0);
		CU_ASSERT_EQUAL_FATAL(pf_sb_load(&fs, &why), 0);
		CU_ASSERT_PTR_NULL(why);
		CU_ASSERT_STRING_EQUAL(fs.label, "test");
		CU_ASSERT(fs.clean);
		for (uint64_t g = 0; g < fs.ngroup; g++) {
			map = pf_pm_at(fs.pm, (fs.map_blk + g) * PF_BLK_SIZE);
			CU_ASSERT_PTR_NULL(pf_md_check(&fs, PF_MD_MAP, map, (fs.map_blk + g) * PF_BLK_SIZE, g));
			freeblk += pf_get32(map->m_hdr.h_free);
		}
		CU_ASSERT_EQUAL(freeblk, m.free);
		CU_ASSERT_EQUAL(freeblk, fs.nblk - fs.iclu0_blk - PF_ICLU_BLKS - 1);
		CU_ASSERT_PTR_NULL(pf_md_check(&fs, PF_MD_ICLU, pf_pm_at(fs.pm, fs.iclu0_blk * PF_BLK_SIZE),
					       fs.iclu0_blk * PF_BLK_SIZE, 0));
		for (uint64_t ino = PF_INO_ITABLE; ino <= PF_INO_ROOT; ino++) {
			uint64_t doff = fs.iclu0_blk * PF_BLK_SIZE + ino * PF_INODE_SIZE;

			CU_ASSERT_PTR_NULL(pf_md_check(&fs, PF_MD_INODE, pf_pm_at(fs.pm, doff), doff, ino));
		}
		mem_close(fs.pm);
	}
}

static void one_copy_is_enough(void)
{
	struct pf_pm *pm = mem_open(16 * MIB);
	struct pf_mkfs m = { .label = "" };
	const char *why;

	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	pm->base[100] ^= 1;
	CU_ASSERT_EQUAL(load(pm, &why), 0);
	memset(pm->base, 0, PF_BLK_SIZE);
	CU_ASSERT_EQUAL(load(pm, &why), 0);
	/* Twin: with the copy damaged as well there is nothing to load. */
	pm->base[pm->bytes - 100] ^= 1;
	CU_ASSERT_EQUAL(load(pm, &why), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why, "not a pinfs image");
	mem_close(pm);
}

static void marks(void)
{
	struct pf_fs fs = { .pm = mem_open(16 * MIB) };
	struct pf_mkfs m = { .label = "" };
	const struct pf_d_super *sb = pf_pm_at(fs.pm, 0);
	const char *why;

	CU_ASSERT_EQUAL_FATAL(pf_mkfs(fs.pm, &m), 0);
	CU_ASSERT_EQUAL_FATAL(pf_sb_load(&fs, &why), 0);
	CU_ASSERT_EQUAL(pf_sb_mark_mounted(&fs), 0);
	CU_ASSERT_EQUAL(pf_sb_load(&fs, &why), 0);
	CU_ASSERT_FALSE(fs.clean);
	CU_ASSERT_EQUAL(pf_get64(sb->sb_mount_count), 1);
	CU_ASSERT_EQUAL(memcmp(sb, pf_pm_at(fs.pm, fs.pm->bytes - PF_BLK_SIZE), sizeof *sb), 0);
	CU_ASSERT_EQUAL(pf_sb_mark_clean(&fs), 0);
	CU_ASSERT_EQUAL(pf_sb_load(&fs, &why), 0);
	CU_ASSERT(fs.clean);
	mem_close(fs.pm);
}

/* Change one field in both copies, with a right checksum, and see it refused. */
#define REFUSED(field, value, want_err, want_why)                                                  \
	do {                                                                                       \
		struct pf_pm *pm_ = mem_open(16 * MIB);                                            \
		struct pf_mkfs m_ = { .label = "" };                                               \
		struct pf_d_super *a_ = pf_pm_at(pm_, 0), *b_ = pf_pm_at(pm_, pm_->bytes - PF_BLK_SIZE); \
		const char *why_ = NULL;                                                           \
                                                                                                   \
		CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm_, &m_), 0);                                       \
		a_->field = value;                                                                 \
		a_->sb_crc = pf_put32(pf_sb_sum(a_));                                              \
		*b_ = *a_;                                                                         \
		CU_ASSERT_EQUAL(load(pm_, &why_), want_err);                                       \
		CU_ASSERT_PTR_NOT_NULL_FATAL(why_);                                                \
		CU_ASSERT_PTR_NOT_NULL(strstr(why_, want_why));                                    \
		mem_close(pm_);                                                                    \
	} while (0)

static void bad_fields(void)
{
	REFUSED(sb_magic, pf_put64(1), -EINVAL, "not a pinfs image");
	REFUSED(sb_major, pf_put16(3), -EINVAL, "major version");
	REFUSED(sb_blk_size, pf_put32(512), -EINVAL, "block size");
	REFUSED(sb_incompat, pf_put64(4), -EOPNOTSUPP, "incompatible feature");
	REFUSED(sb_ro_compat, pf_put64(4), -EROFS, "only read");
	REFUSED(sb_nblk, pf_put64(5000), -EUCLEAN, "truncated");
	REFUSED(sb_nblk, pf_put64(7), -EUCLEAN, "number of blocks");
	REFUSED(sb_nlane, pf_put32(0), -EUCLEAN, "lanes");
	REFUSED(sb_nlane, pf_put32(UINT32_MAX), -EUCLEAN, "lanes");
	REFUSED(sb_lane_nblk, pf_put32(64), -EUCLEAN, "lane size");
	REFUSED(sb_map_blk, pf_put64(2), -EUCLEAN, "areas");
	REFUSED(sb_iclu0_blk, pf_put64(UINT64_MAX), -EUCLEAN, "areas");
	REFUSED(sb_ngroup, pf_put64(9), -EUCLEAN, "areas");
	REFUSED(sb_root_ino, pf_put64(12), -EUCLEAN, "root");
}

static void loads(void *arg, struct pf_pm *image, unsigned int fence)
{
	const char *why;

	(void)fence;
	CU_ASSERT_EQUAL(load(image, &why), 0);
	++*(unsigned int *)arg;
}

/* A crash has torn one of the two; while they are rewritten at the next mount, power fails again. */
static void torn_twice(void)
{
	for (int torn = 0; torn < 2; torn++) {
		struct pf_fs fs = { .pm = mem_open(16 * MIB) };
		struct pf_mkfs m = { .label = "" };
		unsigned int images = 0;
		struct crash *c;
		const char *why;

		CU_ASSERT_EQUAL_FATAL(pf_mkfs(fs.pm, &m), 0);
		fs.pm->base[torn == 0 ? 100 : fs.pm->bytes - 100] ^= 1;
		CU_ASSERT_EQUAL_FATAL(pf_sb_load(&fs, &why), 0);
		c = crash_attach(fs.pm, loads, &images, 8, 1);
		CU_ASSERT_EQUAL(pf_sb_mark_mounted(&fs), 0);
		crash_detach(c);
		CU_ASSERT(images > 0);
		mem_close(fs.pm);
	}
}

/* What can be loaded is whole: either filesystem, or none. */
static void whole_or_nothing(void *arg, struct pf_pm *image, unsigned int fence)
{
	unsigned int *seen = arg;
	struct pf_fs fs = { .pm = image };
	const char *why;

	if (pf_sb_load(&fs, &why) != 0) {
		seen[0]++;
		return;
	}
	seen[1]++;
	for (uint64_t g = 0; g < fs.ngroup; g++) {
		uint64_t doff = (fs.map_blk + g) * PF_BLK_SIZE;

		CU_ASSERT_PTR_NULL(pf_md_check(&fs, PF_MD_MAP, pf_pm_at(image, doff), doff, g));
	}
	for (uint64_t ino = PF_INO_ITABLE; ino <= PF_INO_ROOT; ino++) {
		uint64_t doff = fs.iclu0_blk * PF_BLK_SIZE + ino * PF_INODE_SIZE;

		CU_ASSERT_PTR_NULL(pf_md_check(&fs, PF_MD_INODE, pf_pm_at(image, doff), doff, ino));
	}
	(void)fence;
}

static void mkfs_cut_short(void)
{
	struct pf_pm *pm = mem_open(16 * MIB);
	struct pf_mkfs m = { .label = "old" };
	unsigned int seen[2] = { 0 };
	struct crash *c;

	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	(void)strcpy(m.label, "new");
	c = crash_attach(pm, whole_or_nothing, seen, 100, 1);
	CU_ASSERT_EQUAL(pf_mkfs(pm, &m), 0);
	crash_detach(c);
	/* Before the first drain nothing may have arrived, and the old one is there; before the second neither is. */
	CU_ASSERT(seen[0] > 0);
	CU_ASSERT(seen[1] > 0);
	mem_close(pm);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a fresh filesystem is sound", fresh_is_sound },
		{ "one superblock of two is enough", one_copy_is_enough },
		{ "mounted and clean marks", marks },
		{ "each bad field is named", bad_fields },
		{ "torn, and rewritten in a second crash", torn_twice },
		{ "mkfs cut short", mkfs_cut_short },
	};

	pf_log_init("test_super", PF_LOG_ERR, false);
	return unit_main("super", cases, PF_ARRAY_LEN(cases));
}
