/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fuzz_fsck.c - the property that fsck.pinfs stands for: whatever bit is flipped, whatever block is lost.
 *
 * Every metadata block of a real image in turn has a bit flipped in its header, one anywhere, and is zeroed; then seeds
 * choose several such damages, or fields changed behind right checksums. Each time: fsck neither crashes nor hangs, and
 * an image that it calls clean can be mounted and read.
 *
 * PINFS_FUZZ_RUNS sets the number of seeds, PINFS_FUZZ_SEED the first; the sweep is made when neither is set.
 */
#include "harness/unit.h"

#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "fuzz/recipe.h"
#include "harness/core.h"

#define BLK PF_BLK_SIZE
#define SEEDS 300U
#define SWEEP (UINT64_C(1) << 60)	/* items from here on are the sweep's */

enum { C_CLEAN, C_MOUNTED };

/* ---- damage ---- */

struct damage {
	uint64_t hit[FZ_SECTORS / 64];	/* bytes of these sectors are not what they were */
	bool sealed;			/* with right checksums: nothing can be said of other files */
};

static void note(FILE *log, const char *what, uint64_t at)
{
	(void)fprintf(log, "damage: %s at byte %" PRIu64 ", block %" PRIu64 "\n", what, at, at / BLK);
}

static void flip(struct pf_pm *pm, struct damage *d, uint64_t bit, FILE *log)
{
	((uint8_t *)pf_pm_at(pm, 0))[bit / 8] ^= (uint8_t)(1U << (bit % 8));
	fz_mark(d->hit, bit / 8, 1);
	note(log, "bit flipped", bit / 8);
}

static void wipe(struct pf_pm *pm, struct damage *d, uint64_t doff, FILE *log)
{
	memset(pf_pm_at(pm, doff), 0, BLK);
	fz_mark(d->hit, doff, BLK);
	note(log, "block zeroed", doff);
}

static void sweep(struct pf_pm *pm, struct damage *d, uint64_t n, FILE *log)
{
	const struct fz_image *im = fz_image();
	uint64_t blocks = im->meta.n + im->obj[FZ_LANE].n, doff;
	struct fz_rng r;

	fz_seed(&r, n);
	doff = n / 3 % blocks < im->meta.n ? im->meta.doff[n / 3 % blocks] :
					     im->obj[FZ_LANE].doff[n / 3 % blocks - im->meta.n];
	if (n % 3 == 0)
		wipe(pm, d, doff, log);
	else
		flip(pm, d, doff * 8 + fz_below(&r, n % 3 == 1 ? 512 : BLK * 8), log);
}

static void chance(struct pf_pm *pm, struct damage *d, uint64_t seed, FILE *log)
{
	const struct fz_image *im = fz_image();
	uint8_t recipe[4 * sizeof(struct fz_step)];
	struct fz_rng r;
	uint64_t n;

	fz_seed(&r, seed);
	n = 1 + fz_below(&r, 4);
	if (fz_below(&r, 3) == 0) {
		for (uint64_t i = 0; i < n; i++) {
			struct fz_step s = fz_random_step(&r);

			memcpy(recipe + i * sizeof s, &s, sizeof s);
		}
		fz_print(log, recipe, n * sizeof(struct fz_step));
		fz_apply(pm, recipe, n * sizeof(struct fz_step), d->hit);
		d->sealed = true;
		return;
	}
	for (; n > 0; n--) {
		const struct fz_objs *o = fz_below(&r, 4) == 0 ? &im->obj[fz_below(&r, FZ_CLASSES)] : &im->meta;
		uint64_t doff;

		if (o->n == 0)
			continue;
		doff = pf_round_down(o->doff[fz_below(&r, o->n)], BLK);
		if (fz_below(&r, 3) == 0)
			wipe(pm, d, doff, log);
		else
			flip(pm, d, doff * 8 + fz_below(&r, BLK * 8), log);
	}
}

static void damage(struct pf_pm *pm, struct damage *d, uint64_t item, FILE *log)
{
	memset(d, 0, sizeof *d);
	if (item >= SWEEP)
		sweep(pm, d, item - SWEEP, log);
	else
		chance(pm, d, item, log);
}

/* ---- one item, in a child ---- */

static int fsck(struct pf_pm *pm, FILE *out)
{
	struct fsck f = { .out = out };

	return fsck_check(&f, pm, "image");
}

/* -n, and what a mount makes of the image. */
static const char *look(uint64_t item, FILE *log)
{
	struct pf_pm *pm = fz_open();
	static struct damage d;
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	bool clean;
	int rc;

	damage(pm, &d, item, log);
	rc = fsck(pm, log);
	if ((rc & ~(FSCK_UNCORRECTED | FSCK_ERROR)) != 0)
		return "fsck -n: exit status";
	clean = rc == FSCK_OK;
	fz_count[C_CLEAN] += clean;
	if (core_mount(pm, &fs, &why) != 0)
		return clean ? "fsck -n says clean, but it cannot be mounted" : NULL;
	fz_count[C_MOUNTED]++;
	free(core_describe(fs, &damaged));
	core_unmount(fs);
	fz_close(pm);
	return clean && damaged != 0 ? "fsck -n says clean, but the walk found damage" : NULL;
}

/* ---- cases ---- */

/* The image has one of everything, and is sound. */
static void test_image(void)
{
	const struct fz_image *im = fz_image();
	FILE *out = fopen("/dev/null", "we");
	struct pf_pm *pm = fz_open();

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	CU_ASSERT(im->pending >= 1);
	CU_ASSERT_EQUAL(im->obj[FZ_SUPER].n, 2);
	CU_ASSERT(im->obj[FZ_CLUSTER].n >= 2);
	CU_ASSERT(im->obj[FZ_NODE].n >= 12);
	CU_ASSERT(im->obj[FZ_DIR].n >= 10);
	CU_ASSERT(im->obj[FZ_ORPHAN].n >= 1);
	CU_ASSERT(im->obj[FZ_XATTR].n >= 4);
	CU_ASSERT(im->nr_names > 500);
	CU_ASSERT_EQUAL(fsck(pm, out), FSCK_OK);
	fz_close(pm);
	(void)fclose(out);
}

static void test_sweep(void)
{
	uint64_t n = 3 * (fz_image()->meta.n + fz_image()->obj[FZ_LANE].n);

	if (fz_env("PINFS_FUZZ_SEED", 0) != 0 || fz_env("PINFS_FUZZ_RUNS", 0) != 0)
		return;
	fz_batch_reset();
	fz_batch(look, SWEEP, SWEEP + n, "PINFS_FUZZ_RUNS=1 PINFS_FUZZ_SEED=");
	(void)printf("%" PRIu64 " images, %" PRIu64 " clean, %" PRIu64 " mounted ... ", n, fz_count[C_CLEAN],
		     fz_count[C_MOUNTED]);
	/* Free inode slots may hold anything, and a torn superblock or lane is no problem; all else is seen. */
	CU_ASSERT(fz_count[C_CLEAN] < n / 3);
}

static void test_seeds(void)
{
	uint64_t seed = fz_env("PINFS_FUZZ_SEED", 1), runs = fz_env("PINFS_FUZZ_RUNS", SEEDS);

	fz_batch_reset();
	fz_batch(look, seed, seed + runs, "PINFS_FUZZ_RUNS=1 PINFS_FUZZ_SEED=");
	(void)printf("%" PRIu64 " images, %" PRIu64 " clean, %" PRIu64 " mounted ... ", runs, fz_count[C_CLEAN],
		     fz_count[C_MOUNTED]);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the image", test_image },
		{ "each metadata block", test_sweep },
		{ "seeds", test_seeds },
	};

	pf_log_init("fuzz", PF_LOG_ERR, false);
	return unit_main("fuzz_fsck", cases, PF_ARRAY_LEN(cases));
}
