/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_shift.c - power loss while pages move: COLLAPSE_RANGE and INSERT_RANGE of a few extents (one transaction)
 * and of some thousands (several). Whatever an image at any drain holds, after the mount the file is as before or as
 * after, never a mixture, and fsck finds nothing before the mount nor after it. Twin: a drain left out.
 */
#include "harness/unit.h"

#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/pmem.h"

#define DEV (UINT64_C(16) << 20)
#define PAGE UINT64_C(4096)
#define PAGES 8192U

struct content { uint64_t size; uint32_t word[PAGES]; };	/* the first word of each page */

struct run {
	struct content before, after;
	bool returned;
	unsigned int images, bad, checks;
	bool quiet;
	const char *name;
};

static void must(int64_t rc)
{
	if (rc < 0) {
		(void)fprintf(stderr, "step: %s\n", strerror((int)-rc));
		abort();
	}
}

static bool get(struct pf_fs *fs, struct content *c)
{
	struct pf_rd *rd = malloc(sizeof *rd);
	int64_t ino = core_find(fs, "/f");
	bool ok = ino >= 0;
	struct stat st;

	memset(c, 0, sizeof *c);
	if (ok)
		ok = pf_op_getattr(fs, (uint64_t)ino, &st, NULL) == 0 && (uint64_t)st.st_size <= PAGES * PAGE;
	c->size = ok ? (uint64_t)st.st_size : 0;
	for (uint64_t p = 0; ok && p * PAGE < c->size; p++) {
		ok = pf_op_read_begin(fs, (uint64_t)ino, p * PAGE, sizeof c->word[0], rd) == 0;
		if (!ok)
			break;
		memcpy(&c->word[p], rd->iov[0].iov_base, sizeof c->word[p]);
		pf_op_read_end(fs, rd);
	}
	free(rd);
	return ok;
}

static bool same(const struct content *a, const struct content *b)
{
	return a->size == b->size && memcmp(a->word, b->word, sizeof a->word) == 0;
}

static bool sound(struct pf_pm *image)
{
	struct fsck f = { .out = fopen("/dev/null", "w") };
	bool ok;

	if (f.out == NULL)
		abort();
	ok = fsck_check(&f, image, "image") == FSCK_OK;
	(void)fclose(f.out);
	return ok;
}

static const char *look_at(struct run *r, struct pf_pm *image)
{
	struct content *now = malloc(sizeof *now);
	const bool check = r->images++ % 4 == 0;
	const char *why = NULL;
	struct pf_fs *fs;

	if (check && !sound(image))
		why = "fsck before the mount";
	if (why == NULL && core_mount(image, &fs, &why) == 0) {
		if (!get(fs, now))
			why = "cannot be read";
		else if (!same(now, &r->after) && (r->returned || !same(now, &r->before)))
			why = r->returned ? "returned, and not all of it is there" : "neither before nor after";
		core_unmount(fs);
	}
	if (why == NULL && check && !sound(image))
		why = "fsck after the mount";
	r->checks += check;
	free(now);
	return why;
}

struct job { struct run *r; struct pf_pm *image; unsigned int fence; };

static void *look(void *arg)
{
	struct job *j = arg;
	const char *why = look_at(j->r, j->image);

	if (why != NULL) {
		j->r->bad++;
		if (!j->r->quiet)
			(void)printf("\n\t%s, drain %u: %s\n", j->r->name, j->fence, why);
	}
	return NULL;
}

/* In a thread of its own: the one that drains holds locks, and a mount takes them anew. */
static void at_crash(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct job j = { arg, image, fence };
	pthread_t t;

	if (pthread_create(&t, NULL, look, &j) != 0 || pthread_join(t, NULL) != 0)
		abort();
}

/* ---- files and steps ---- */

static void page(struct pf_fs *fs, uint64_t p, uint32_t what)
{
	static uint32_t buf[PAGE / sizeof(uint32_t)];

	buf[0] = what;
	must(core_write(fs, "/f", p * PAGE, buf, sizeof buf));
}

/* Long extents, a hole, a piece that is unwritten. */
static void f_few(struct pf_fs *fs)
{
	for (uint32_t p = 0; p < 30; p++)
		page(fs, p, p + 1);
	must(core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * PAGE, 3 * PAGE));
	must(core_fallocate(fs, "/f", FALLOC_FL_ZERO_RANGE, 15 * PAGE, 3 * PAGE));
}

/* An extent each page, from behind: the leaves are half full, so there are more of them than one transaction takes. */
static void f_many(struct pf_fs *fs)
{
	for (uint32_t p = 2600; p-- > 0;)
		page(fs, 2 * p, p + 1);
}

static void collapse(struct pf_fs *fs, uint64_t at, uint64_t n)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_COLLAPSE_RANGE, at * PAGE, n * PAGE));
}

static void insert(struct pf_fs *fs, uint64_t at, uint64_t n)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_INSERT_RANGE, at * PAGE, n * PAGE));
}

static void s_collapse_few(struct pf_fs *fs) { collapse(fs, 5, 11); }
static void s_insert_few(struct pf_fs *fs) { insert(fs, 4, 7); }
static void s_collapse_many(struct pf_fs *fs) { collapse(fs, 10, 1501); }
static void s_collapse_front(struct pf_fs *fs) { collapse(fs, 0, 2); }
static void s_insert_many(struct pf_fs *fs) { insert(fs, 100, 33); }

struct step {
	const char *name;
	void (*before)(struct pf_fs *fs), (*step)(struct pf_fs *fs);
	unsigned int subsets;
	unsigned int least_drains;
};

static const struct step steps[] = {
	{ "collapse, few extents", f_few, s_collapse_few, 8, 3 },
	{ "insert, few extents", f_few, s_insert_few, 8, 3 },
	{ "collapse, thousands", f_many, s_collapse_many, 2, 6 },
	{ "collapse at the front, thousands", f_many, s_collapse_front, 2, 6 },
	{ "insert, thousands", f_many, s_insert_many, 2, 6 },
};

static void run_step(const struct step *s, unsigned int skip, struct run *r)
{
	struct pf_pm *pm = mem_open(DEV), *copy = mem_open(DEV);
	struct pf_mkfs m = { .label = "" };
	struct pf_fs *fs, *twin;
	struct crash *c;
	const char *why;

	if (pf_mkfs(pm, &m) != 0 || core_mount(pm, &fs, &why) != 0)
		abort();
	must(core_create(fs, "/f"));
	s->before(fs);
	r->name = s->name;
	r->returned = false;
	CU_ASSERT_FATAL(get(fs, &r->before));
	/* What comes out when all goes well is taken from a rehearsal on a copy. */
	memcpy(copy->base, pm->base, DEV);
	if (core_mount(copy, &twin, &why) != 0)
		abort();
	s->step(twin);
	CU_ASSERT_FATAL(get(twin, &r->after));
	core_unmount(twin);
	mem_close(copy);
	CU_ASSERT_FALSE(same(&r->before, &r->after));

	c = crash_attach(pm, at_crash, r, s->subsets, 1);
	crash_skip_drain(c, skip);
	s->step(fs);
	r->returned = true;
	{
		struct pf_pm *image = crash_image_now(c);

		at_crash(r, image, crash_fences(c));
		crash_image_free(image);
	}
	CU_ASSERT(crash_fences(c) >= s->least_drains);
	crash_detach(c);
	core_unmount(fs);
	mem_close(pm);
}

static void promise(void)
{
	struct run *r = calloc(1, sizeof *r);

	for (size_t i = 0; i < PF_ARRAY_LEN(steps); i++) {
		run_step(&steps[i], UINT32_MAX, r);
		CU_ASSERT_EQUAL(r->bad, 0);
		r->bad = 0;
	}
	CU_ASSERT(r->images > 200);
	CU_ASSERT(r->checks > 50);
	free(r);
}

/* Without the drain of the lane, keys go home that no lane vouches for. */
static void twin_drain(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->quiet = true;
	run_step(&steps[0], 0, r);
	CU_ASSERT(r->bad > 0);
	r->bad = 0;
	run_step(&steps[2], 0, r);
	CU_ASSERT(r->bad > 0);
	free(r);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "before or after, at each drain", promise },
		{ "twin: a lane not drained", twin_drain },
	};

	pf_log_init("test_crash_shift", PF_LOG_ERR, false);
	return unit_main("crash/shift", cases, PF_ARRAY_LEN(cases));
}
