/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.c - targets whose input is a recipe: a damaged image is mounted and used, checked, replayed, dumped.
 */
#include "fuzz/targets/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "media/journal.h"
#include "media/super.h"
#include "pinfsdump/dump.h"

#define BLK PF_BLK_SIZE
#define STEPS 8U

static FILE *nowhere(void)
{
	static FILE *f;

	if (f == NULL)
		f = fopen("/dev/null", "we");
	if (f == NULL)
		abort();
	return f;
}

static int fsck(struct pf_pm *pm, enum fsck_mode mode)
{
	struct fsck f = { .out = nowhere(), .mode = mode, .progress.fd = -1 };

	return fsck_check(&f, pm, "image");
}

/* ---- mount: everything is read, things are changed, whatever comes of it ---- */

static void change_attributes(struct pf_fs *fs)
{
	static const char value[3000];
	int64_t large = core_find(fs, "/d/e/large"), f = core_find(fs, "/d/e/f"), small = core_find(fs, "/d/small");

	if (large > 0) {
		(void)pf_op_setxattr(fs, (uint64_t)large, "user.attribute-7", value, sizeof value, 0, false);
		(void)pf_op_setxattr(fs, (uint64_t)large, "user.new", value, 700, 0, false);
		(void)pf_op_removexattr(fs, (uint64_t)large, "user.attribute-30");
		(void)pf_op_removexattr(fs, (uint64_t)large, "security.long");
	}
	if (f > 0)
		(void)pf_op_removexattr(fs, (uint64_t)f, "trusted.long");
	if (small > 0)
		(void)pf_op_setxattr(fs, (uint64_t)small, "user.short", "", 0, 0, false);
}

static void change_things(struct pf_fs *fs)
{
	static uint8_t buf[40000];
	change_attributes(fs);

	(void)core_create(fs, "/d/new");
	(void)!core_write(fs, "/d/new", 0, buf, sizeof buf);
	(void)!core_write(fs, "/sparse", 3 * BLK, buf, 5000);
	(void)!core_write(fs, "/d/small", 50, buf, 5000);
	(void)!core_write(fs, "/deep", 7 * BLK, buf, 5000);
	(void)core_fallocate(fs, "/sparse", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * BLK, 60 * BLK);
	(void)core_fallocate(fs, "/d/e/large", FALLOC_FL_ZERO_RANGE, 1000, 200000);
	(void)core_fallocate(fs, "/deep", FALLOC_FL_COLLAPSE_RANGE, 4 * BLK, 8 * BLK);
	(void)core_fallocate(fs, "/cut", FALLOC_FL_INSERT_RANGE, 4 * BLK, 8 * BLK);
	(void)core_truncate(fs, "/sparse", 300 * BLK + 5);
	(void)core_truncate(fs, "/deep", 5 * BLK);
	(void)core_truncate(fs, "/d/e/large", UINT64_C(1) << 40);
	(void)!core_copy(fs, "/d/e/large", 0, "/d/new", 100, 30000);
	(void)core_rename(fs, "/d/small", "/d/e/f/link", 0);
	(void)core_rename(fs, "/d/e", "/many/e", 0);
	(void)core_rename(fs, "/d", "/many", RENAME_EXCHANGE);
	(void)core_mkdir(fs, "/many/dir");
	(void)core_rmdir(fs, "/d/e/f");
	(void)core_unlink(fs, "/sparse");
	(void)core_unlink(fs, "/cut");
	(void)core_unlink(fs, "/many/a-file-with-a-name-1-01");
	(void)core_unlink(fs, "/d/a-file-with-a-name-1-01");
	(void)core_symlink(fs, "/many/sym", "target");
	(void)core_link(fs, "/d/new", "/new2");
}

static void run_mount(const uint8_t *data, size_t size)
{
	struct pf_pm *pm = fz_open();
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;

	fz_apply(pm, data, size, NULL);
	if (core_mount(pm, &fs, &why) == 0) {
		free(core_describe(fs, &damaged));
		change_things(fs);
		core_unmount(fs);
	} else if (why == NULL) {
		FZ_FAIL("a mount that failed and cannot say why");
	}
	fz_close(pm);
}

/* ---- fsck: what it calls clean is clean; what it repairs is so, too ---- */

static void use(struct pf_pm *pm, bool change)
{
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;

	if (core_mount(pm, &fs, &why) != 0)
		FZ_FAIL("fsck says clean, but it cannot be mounted");
	free(core_describe(fs, &damaged));
	if (change)
		change_things(fs);
	core_unmount(fs);
	if (damaged != 0)
		FZ_FAIL("fsck says clean, but the walk found damage");
	if (fsck(pm, FSCK_CHECK) != FSCK_OK)
		FZ_FAIL("fsck says clean, but no more after the mount");
}

static void run_fsck(const uint8_t *data, size_t size)
{
	static uint64_t hit[FZ_SECTORS / 64];
	struct pf_pm *pm = fz_open();
	uint64_t stores;
	int rc;

	memset(hit, 0, sizeof hit);
	fz_apply(pm, data, size, hit);
	if (fsck(pm, FSCK_CHECK) == FSCK_OK) {
		use(pm, true);
		goto out;
	}
	rc = fsck(pm, FSCK_REPAIR);
	/* What a superblock with a right checksum asks for is believed, and may be refused. */
	if (rc != FSCK_CORRECTED && ((hit[0] & 0xff) != 0 || hit[FZ_SECTORS / 64 - 1] >> 56 != 0))
		goto out;
	if (rc != FSCK_CORRECTED)
		FZ_FAIL("fsck -y has not repaired all");
	if (fsck(pm, FSCK_CHECK) != FSCK_OK)
		FZ_FAIL("fsck -n finds something after -y");
	stores = fz_stores;
	if (fsck(pm, FSCK_REPAIR) != FSCK_OK || fz_stores != stores)
		FZ_FAIL("a second fsck -y does something");
	use(pm, (data[0] & 1) != 0);
out:
	fz_close(pm);
}

/* ---- journal: replay stays where it may, and can be repeated ---- */

static size_t mutate_journal(uint8_t *data, size_t size, size_t max, struct fz_rng *r)
{
	struct fz_step s;

	size = fz_mutate(data, size, max, r);
	for (size_t at = 0; at + sizeof s <= size; at += sizeof s) {
		memcpy(&s, data + at, sizeof s);
		s.class = fz_below(r, 16) == 0 ? FZ_SUPER : FZ_LANE;
		if (fz_below(r, 8) == 0)
			s.what = FZ_RECORD;
		memcpy(data + at, &s, sizeof s);
	}
	return size;
}

static void run_journal(const uint8_t *data, size_t size)
{
	struct pf_pm *pm = fz_open();
	struct pf_fs fs = { .pm = pm };
	static uint8_t first[BLK], last[BLK];
	const char *why;
	int n;

	fz_apply(pm, data, size, NULL);
	if (pf_sb_load(&fs, &why) != 0)
		goto out;
	memcpy(first, pf_pm_at(pm, 0), BLK);
	memcpy(last, pf_pm_at(pm, FZ_BYTES - BLK), BLK);
	n = pf_jnl_pending(&fs);
	if (pf_jnl_replay(&fs) != n)
		FZ_FAIL("replayed more or less than was pending");
	if (n >= 0 && pf_jnl_replay(&fs) != 0)
		FZ_FAIL("there is something left to replay");
	if (memcmp(first, pf_pm_at(pm, 0), BLK) != 0 || memcmp(last, pf_pm_at(pm, FZ_BYTES - BLK), BLK) != 0)
		FZ_FAIL("replay wrote over a superblock");
out:
	fz_close(pm);
}

/* ---- dump: shows anything ---- */

/* A file that pinfsdump's own code can open; it holds the sound image between two runs. */
static const char *dump_file(uint8_t **bytes)
{
	static char path[64];
	static uint8_t *map;
	int fd;

	if (map == NULL) {
		fd = memfd_create("dump", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, (off_t)FZ_BYTES) != 0)
			abort();
		map = mmap(NULL, FZ_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			abort();
		memcpy(map, fz_image()->bytes, FZ_BYTES);
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	*bytes = map;
	return path;
}

/* Everything that leads elsewhere, and each block that was @hit. */
static void dump_all(struct dump *d, const uint64_t *hit)
{
	static const uint64_t inodes[] = { 8, 9, 10, 11, 12, 13, 600 };
	const uint64_t in_blk = BLK / FZ_SECTOR, mask = (UINT64_C(1) << in_blk) - 1;
	uint64_t group = 0;

	(void)dump_super(d);
	(void)dump_journal(d);
	(void)dump_map(d, NULL);
	(void)dump_map(d, &group);
	(void)dump_clusters(d);
	(void)dump_orphans(d);
	(void)dump_badblocks(d);
	for (unsigned int i = 0; i < PF_ARRAY_LEN(inodes); i++)
		(void)dump_inode(d, inodes[i]);
	(void)dump_dir(d, PF_INO_ROOT);
	(void)dump_path(d, "/d/e/large");
	for (uint64_t b = 0; b < FZ_NBLK; b++)
		if (hit[b * in_blk / 64] >> (b * in_blk % 64) & mask)
			(void)dump_what(d, b);
}

static void run_dump(const uint8_t *data, size_t size)
{
	struct pf_pm *pm = fz_open();
	struct dump d = { 0 };
	uint8_t *bytes;
	const char *path = dump_file(&bytes);
	static uint64_t hit[FZ_SECTORS / 64];

	memset(hit, 0, sizeof hit);
	fz_apply(pm, data, size, hit);
	for (uint64_t s = 0; s < FZ_SECTORS; s++)
		if (hit[s / 64] >> (s % 64) & 1)
			memcpy(bytes + s * FZ_SECTOR, pm->base + s * FZ_SECTOR, FZ_SECTOR);
	if (dump_open(&d, path) == 0) {
		d.o = out_new(size % 3 == 0, nowhere());	/* JSON now and then */
		if (d.o == NULL)
			abort();
		dump_all(&d, hit);
		if (out_end_all(d.o) != 0)
			FZ_FAIL("the dump could not be written");
		dump_close(&d);
	}
	for (uint64_t s = 0; s < FZ_SECTORS; s++)
		if (hit[s / 64] >> (s % 64) & 1)
			memcpy(bytes + s * FZ_SECTOR, fz_image()->bytes + s * FZ_SECTOR, FZ_SECTOR);
	fz_close(pm);
}

const struct fz_target fz_mount = { "mount", run_mount, fz_mutate, STEPS * sizeof(struct fz_step), fz_print };
const struct fz_target fz_fsck = { "fsck", run_fsck, fz_mutate, STEPS * sizeof(struct fz_step), fz_print };
const struct fz_target fz_journal = {
	"journal", run_journal, mutate_journal, 4 * STEPS * sizeof(struct fz_step), fz_print,
};
const struct fz_target fz_dump = { "dump", run_dump, fz_mutate, STEPS * sizeof(struct fz_step), fz_print };
