/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fuzz_fsck.c - the property that fsck.pinfs stands for: whatever bit is flipped, whatever block is lost.
 *
 * Every metadata block of a real image in turn is zeroed, and has a bit flipped, in its header or anywhere; then seeds
 * choose several such damages, or fields changed behind right checksums. Each time:
 *
 *   -n neither crashes nor hangs nor writes, and an image that it calls clean can be mounted and read;
 *   -y repairs: then -n is clean, a second -y writes nothing, the image can be mounted and all of it read;
 *   names whose own blocks, and those that lead to them, were not hit are still there with the same contents (not
 *   when checksums were made right: then it cannot be known who is lying).
 *
 * PINFS_FUZZ_RUNS sets the number of seeds, PINFS_FUZZ_SEED the first; the sweep is made when neither is set.
 */
#include "harness/unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "fuzz/recipe.h"
#include "harness/core.h"

#define BLK PF_BLK_SIZE
#define SEEDS 100U
#define SWEEP (UINT64_C(1) << 60)	/* items from here on are the sweep's */

enum { C_CLEAN, C_MOUNTED, C_REPAIRED, C_KEPT, C_WRONG };	/* counters */

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
	doff = n / 2 % blocks < im->meta.n ? im->meta.doff[n / 2 % blocks] :
					     im->obj[FZ_LANE].doff[n / 2 % blocks - im->meta.n];
	if (n % 2 == 0)
		wipe(pm, d, doff, log);
	else
		flip(pm, d, doff * 8 + fz_below(&r, n / 2 % 2 == 1 ? 512 : BLK * 8), log);
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

static int fsck(struct pf_pm *pm, enum fsck_mode mode, FILE *out)
{
	struct fsck f = { .out = out, .mode = mode, .progress.fd = -1 };

	(void)fprintf(out, "fsck %s:\n", mode == FSCK_CHECK ? "-n" : "-y");
	return fsck_check(&f, pm, "image");
}

/* -n, and what a mount makes of the image. */
static const char *look(struct pf_pm *pm, FILE *log)
{
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	uint64_t stores = fz_stores;
	int rc = fsck(pm, FSCK_CHECK, log);
	bool clean = rc == FSCK_OK;

	if ((rc & ~(FSCK_UNCORRECTED | FSCK_ERROR)) != 0)
		return "fsck -n: exit status";
	if (fz_stores != stores)
		return "fsck -n has written something";
	fz_count[C_CLEAN] += clean;
	if (core_mount(pm, &fs, &why) != 0)
		return clean ? "fsck -n says clean, but it cannot be mounted" : NULL;
	fz_count[C_MOUNTED]++;
	free(core_describe(fs, &damaged));
	core_unmount(fs);
	return clean && damaged != 0 ? "fsck -n says clean, but the walk found damage" : NULL;
}

/* ---- what is left of a tree ---- */

struct lines { char *text, **v; size_t n; };

/* "path mode links rest" without the links: a lost name elsewhere may have taken one. */
static void cut_links(char *line)
{
	char *mode = strchr(line, ' '), *links, *rest;

	links = mode != NULL ? strchr(mode + 1, ' ') : NULL;
	rest = links != NULL ? strchr(links + 1, ' ') : NULL;
	if (rest != NULL)
		memmove(links, rest, strlen(rest) + 1);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted; @text stays the caller's. */
static struct lines split(const char *text)
{
	struct lines l = { .text = strdup(text), .v = calloc(strlen(text) + 1, sizeof *l.v) };
	char *next = l.text;

	if (l.text == NULL || l.v == NULL)
		abort();
	for (char *line = strsep(&next, "\n"); next != NULL; line = strsep(&next, "\n")) {
		cut_links(line);
		l.v[l.n++] = line;
	}
	qsort(l.v, l.n, sizeof *l.v, by_text);
	return l;
}

static void drop(struct lines *l)
{
	free(l->text);
	free(l->v);
}

/* The line that begins with this path. */
static const char *find_line(const struct lines *l, const char *path)
{
	size_t lo = 0, hi = l->n, len = strlen(path);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(l->v[mid], path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < l->n && strncmp(l->v[lo], path, len) == 0; lo++)
		if (l->v[lo][len] == ' ')
			return l->v[lo];
	return NULL;
}

/* Names whose bytes, and those that lead to them, were not hit are there with the same contents. */
static const char *compare(const char *text, const struct damage *d)
{
	static struct lines before;
	struct lines after = split(text);
	const struct fz_image *im = fz_image();
	static char what[512];
	const char *why = NULL;

	if (before.v == NULL)
		before = split(im->tree);
	for (unsigned int i = 0; i < im->nr_names && why == NULL; i++) {
		const struct fz_name *n = &im->name[i];
		const char *was, *is;

		if (fz_meet(n->needs, d->hit))
			continue;
		was = find_line(&before, n->path);
		is = find_line(&after, n->path);
		fz_count[C_KEPT]++;
		if (was == NULL) {
			why = "the image is not what it was described as";
		} else if (is == NULL || strcmp(was, is) != 0) {
			(void)snprintf(what, sizeof what, "fsck -y: was \"%.200s\", is \"%.200s\"", was,
				       is != NULL ? is : "gone");
			why = what;
		}
	}
	drop(&after);
	return why;
}

/* Both superblocks: then nobody knows where anything is, and what fsck makes up is a guess. Or one that is right by
 * its checksum and asks for what this version does not know: that is refused, and right so. */
static bool lost_supers(const struct damage *d)
{
	bool first = (d->hit[0] & 0xff) != 0, copy = d->hit[FZ_SECTORS / 64 - 1] >> 56 != 0;

	return (first && copy) || (d->sealed && (first || copy));
}

/* -y repairs all of it, once; what was whole stays whole. @mode: FSCK_REPAIR, but for the twin. @all: compare every
 * byte, which takes longer than the repair. */
static const char *repair(struct pf_pm *pm, const struct damage *d, enum fsck_mode mode, bool all, FILE *log)
{
	static uint8_t *snapshot;
	const char *why, *wrong = NULL;
	unsigned int damaged;
	struct pf_fs *fs;
	uint64_t stores;
	char *text;
	int rc;

	rc = fsck(pm, mode, log);
	if (rc != FSCK_OK && rc != FSCK_CORRECTED && mode == FSCK_REPAIR)
		return lost_supers(d) ? NULL : "fsck -y: exit status";
	fz_count[C_REPAIRED] += rc == FSCK_CORRECTED;
	if (snapshot == NULL)
		snapshot = malloc(FZ_BYTES);
	if (snapshot == NULL)
		abort();
	if (all)
		memcpy(snapshot, pm->base, FZ_BYTES);
	if (fsck(pm, FSCK_CHECK, log) != FSCK_OK)
		return "fsck -n finds something after -y";
	stores = fz_stores;
	if (fsck(pm, FSCK_REPAIR, log) != FSCK_OK)
		return "a second fsck -y finds something";
	if (fz_stores != stores || (all && memcmp(snapshot, pm->base, FZ_BYTES) != 0))
		return "a second fsck -y has written something";
	if (core_mount(pm, &fs, &why) != 0)
		return "cannot be mounted after fsck -y";
	text = core_describe(fs, &damaged);
	core_unmount(fs);
	if (damaged != 0)
		wrong = "the walk found damage after fsck -y";
	else if (!d->sealed && !lost_supers(d))
		wrong = compare(text, d);
	free(text);
	if (wrong == NULL && fsck(pm, FSCK_CHECK, log) != FSCK_OK)
		wrong = "fsck -n finds something after a mount";
	return wrong;
}

static const char *one(uint64_t item, FILE *log)
{
	static struct damage d;
	struct pf_pm *pm = fz_open();
	const char *wrong;

	damage(pm, &d, item, log);
	wrong = look(pm, log);
	fz_close(pm);
	if (wrong != NULL)
		return wrong;
	pm = fz_open();
	damage(pm, &d, item, stderr);
	wrong = repair(pm, &d, FSCK_REPAIR, item % 8 == 0, log);
	fz_close(pm);
	return wrong;
}

/* ---- twins ---- */

/* An fsck that repairs nothing. */
static const char *unrepaired(uint64_t item, FILE *log)
{
	static struct damage d;
	struct pf_pm *pm = fz_open();

	damage(pm, &d, item, log);
	fz_count[C_WRONG] += fsck(pm, FSCK_CHECK, log) != FSCK_OK &&
			     repair(pm, &d, FSCK_CHECK, false, log) != NULL;
	fz_close(pm);
	return NULL;
}

/* A byte of a file changes that was not hit, so they say. */
static const char *unhit(uint64_t item, FILE *log)
{
	const struct fz_objs *o = &fz_image()->obj[item % 3 == 0 ? FZ_DATA : item % 3 == 1 ? FZ_DIR : FZ_NODE];
	static struct damage d, none;
	struct pf_pm *pm = fz_open();
	const char *wrong;

	wipe(pm, &d, o->doff[item * 7 % o->n], log);
	wrong = repair(pm, &none, FSCK_REPAIR, false, log);
	fz_count[C_WRONG] += wrong != NULL;
	fz_close(pm);
	return NULL;
}

/* ---- cases ---- */

/* The image has one of everything, and is sound. */
static void test_image(void)
{
	const struct fz_image *im = fz_image();
	FILE *out = fopen("/dev/null", "we");
	struct pf_pm *pm = fz_open();

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	CU_ASSERT(fz_image_same());
	CU_ASSERT(im->pending >= 1);
	CU_ASSERT_EQUAL(im->obj[FZ_SUPER].n, 2);
	CU_ASSERT(im->obj[FZ_CLUSTER].n >= 2);
	CU_ASSERT(im->obj[FZ_NODE].n >= 12);
	CU_ASSERT(im->obj[FZ_DIR].n >= 10);
	CU_ASSERT(im->obj[FZ_ORPHAN].n >= 1);
	CU_ASSERT(im->obj[FZ_XATTR].n >= 4);
	CU_ASSERT(im->nr_names > 500);
	CU_ASSERT_EQUAL(fsck(pm, FSCK_CHECK, out), FSCK_OK);
	fz_close(pm);
	(void)fclose(out);
}

/* What the property is made of can fail. */
static void test_twins(void)
{
	fz_batch_reset();
	fz_batch(unrepaired, SWEEP, SWEEP + 40, "sweep ");
	CU_ASSERT(fz_count[C_WRONG] >= 20);
	fz_batch_reset();
	fz_batch(unhit, 0, 40, "number ");
	CU_ASSERT(fz_count[C_WRONG] >= 25);
}

static void say(uint64_t n)
{
	(void)printf("%" PRIu64 " images, %" PRIu64 " clean, %" PRIu64 " mounted, %" PRIu64 " repaired, %" PRIu64
		     " names kept ... ",
		     n, fz_count[C_CLEAN], fz_count[C_MOUNTED], fz_count[C_REPAIRED], fz_count[C_KEPT]);
}

static void test_sweep(void)
{
	uint64_t n = 2 * (fz_image()->meta.n + fz_image()->obj[FZ_LANE].n);

	if (fz_env("PINFS_FUZZ_SEED", 0) != 0 || fz_env("PINFS_FUZZ_RUNS", 0) != 0)
		return;
	fz_batch_reset();
	fz_batch(one, SWEEP, SWEEP + n, "PINFS_FUZZ_RUNS=1 PINFS_FUZZ_SEED=");
	say(n);
	/* Free inode slots may hold anything, and a torn superblock or lane is no problem; all else is seen. */
	CU_ASSERT(fz_count[C_CLEAN] < n / 3);
}

static void test_seeds(void)
{
	uint64_t seed = fz_env("PINFS_FUZZ_SEED", 1), runs = fz_env("PINFS_FUZZ_RUNS", SEEDS);

	fz_batch_reset();
	fz_batch(one, seed, seed + runs, "PINFS_FUZZ_RUNS=1 PINFS_FUZZ_SEED=");
	say(runs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the image", test_image },
		{ "twins: nothing repaired, files lost", test_twins },
		{ "each metadata block", test_sweep },
		{ "seeds", test_seeds },
	};

	pf_log_init("fuzz", PF_LOG_ERR, false);
	return unit_main("fuzz_fsck", cases, PF_ARRAY_LEN(cases));
}
