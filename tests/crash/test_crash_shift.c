/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_shift.c - power loss while pages move: COLLAPSE_RANGE and INSERT_RANGE of a few extents (one transaction)
 * and of some thousands (several). Whatever an image at any drain holds, after the mount the file is as before or as
 * after, never a mixture, and fsck finds nothing before the mount nor after it. Twin: a drain left out.
 */
#include "harness/unit.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "media/pmem.h"

#define DEV (UINT64_C(16) << 20)
#define PAGE UINT64_C(4096)
#define PAGES 8192U

struct content { uint64_t size; uint32_t word[PAGES]; };	/* the first word of each page */

struct run {
	struct judged j;		/* first: look_at() is given it */
	struct content before, after;
};

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

static const char *look_at(struct judged *j, struct pf_pm *image)
{
	struct run *r = PF_CONTAINER_OF(j, struct run, j);
	struct content *now = malloc(sizeof *now);
	const bool check = j->images % 4 == 0;
	const char *why = NULL;
	struct pf_fs *fs;

	if (check && !judged_sound(image))
		why = "fsck before the mount";
	if (why == NULL && core_mount(image, &fs, &why) == 0) {
		if (!get(fs, now))
			why = "cannot be read";
		else if (!same(now, &r->after) && (j->returned || !same(now, &r->before)))
			why = j->returned ? "returned, and not all of it is there" : "neither before nor after";
		core_unmount(fs);
	}
	if (why == NULL && check && !judged_sound(image))
		why = "fsck after the mount";
	j->checks += check;
	free(now);
	return why;
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

static void see(struct pf_fs *fs, void *content)
{
	CU_ASSERT_FATAL(get(fs, content));
}

static void run_step(const struct step *s, unsigned int skip, struct run *r)
{
	struct pf_pm *pm;
	struct pf_fs *fs = judged_new(&pm, DEV, 0);

	must(core_create(fs, "/f"));
	s->before(fs);
	see(fs, &r->before);
	judged_rehearse(pm, s->step, see, &r->after);
	CU_ASSERT_FALSE(same(&r->before, &r->after));
	r->j.look = look_at;
	r->j.name = s->name;
	CU_ASSERT(judged_step(&r->j, pm, fs, s->step, s->subsets, skip) >= s->least_drains);
}

static void promise(void)
{
	struct run *r = calloc(1, sizeof *r);

	for (size_t i = 0; i < PF_ARRAY_LEN(steps); i++) {
		run_step(&steps[i], UINT32_MAX, r);
		CU_ASSERT_EQUAL(r->j.bad, 0);
		r->j.bad = 0;
	}
	CU_ASSERT(r->j.images > 200);
	CU_ASSERT(r->j.checks > 50);
	free(r);
}

/* Without the drain of the lane, keys go home that no lane vouches for. */
static void twin_drain(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	run_step(&steps[0], 0, r);
	CU_ASSERT(r->j.bad > 0);
	r->j.bad = 0;
	run_step(&steps[2], 0, r);
	CU_ASSERT(r->j.bad > 0);
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
