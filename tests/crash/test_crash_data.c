/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_data.c - the promise about data (FORMAT.md, What is promised), byte by byte, at every drain.
 *
 * While a write is under way, each page of a hole, of unwritten space or behind the end is as before or as after;
 * bytes that are replaced in place are old or new by the 8-byte word. Once it has returned, all of it is there. The
 * device is full of 'X' before mkfs, and the file system's free blocks of 'Y' before the step: none of either ever
 * shows. Twins leave out a drain.
 */
#include "harness/unit.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "media/pmem.h"

#define DEV (UINT64_C(16) << 20)
#define PAGE ((size_t)4096)
#define MAX (64 * PAGE)

struct content { size_t size; uint8_t byte[MAX]; };

struct run {
	struct judged j;
	bool words;			/* the step replaces bytes in place */
	struct content before, after;
	unsigned int fences;
};

static void fill(struct pf_fs *fs, const char *path, uint64_t off, size_t len, int byte)
{
	uint8_t *buf = malloc(len);

	memset(buf, byte, len);
	if (core_write(fs, path, off, buf, len) != (ssize_t)len)
		abort();
	free(buf);
}

static bool get(struct pf_fs *fs, struct content *c)
{
	struct pf_rd *rd = malloc(sizeof *rd);
	int64_t ino = core_find(fs, "/f");
	struct stat st;
	bool ok = false;
	size_t off = 0;

	memset(c, 0, sizeof *c);
	if (ino < 0 || pf_op_getattr(fs, (uint64_t)ino, &st, NULL) != 0 || (uint64_t)st.st_size > MAX)
		goto out;
	c->size = (size_t)st.st_size;
	while (off < c->size) {
		if (pf_op_read_begin(fs, (uint64_t)ino, off, c->size - off, rd) != 0)
			goto out;
		for (int i = 0; i < rd->n; i++) {
			memcpy(c->byte + off, rd->iov[i].iov_base, rd->iov[i].iov_len);
			off += rd->iov[i].iov_len;
		}
		pf_op_read_end(fs, rd);
	}
	ok = true;
out:
	free(rd);
	return ok;
}

/* Bytes behind the end count as zeros: that is what they are when the file grows. */
static const char *judge(const struct run *r, const struct content *now)
{
	const size_t unit = r->words ? 8 : PAGE;

	if (r->j.returned && (now->size != r->after.size || memcmp(now->byte, r->after.byte, MAX) != 0))
		return "returned, and not all of it is there";
	if (now->size != r->before.size && now->size != r->after.size &&
	    (now->size < r->before.size || now->size > r->after.size))
		return "size of neither before nor after";
	for (size_t off = 0; off < now->size; off += unit) {
		size_t n = now->size - off < unit ? now->size - off : unit;

		if (memcmp(now->byte + off, r->before.byte + off, n) != 0 &&
		    memcmp(now->byte + off, r->after.byte + off, n) != 0)
			return memchr(now->byte + off, 'X', n) != NULL || memchr(now->byte + off, 'Y', n) != NULL ?
				       "somebody's old bytes" : "neither old nor new";
	}
	return NULL;
}

static const char *look_at(struct judged *j, struct pf_pm *image)
{
	struct content *now = malloc(sizeof *now);
	const char *why;
	struct pf_fs *fs;

	if (core_mount(image, &fs, &why) == 0) {
		why = get(fs, now) ? judge(PF_CONTAINER_OF(j, struct run, j), now) : "cannot be read";
		core_unmount(fs);
	}
	free(now);
	return why;
}

/* ---- steps ---- */

static void f_pages(struct pf_fs *fs) { fill(fs, "/f", 0, 8 * PAGE, 'o'); }
static void f_short(struct pf_fs *fs) { fill(fs, "/f", 0, PAGE + 100, 'o'); }
static void f_hole(struct pf_fs *fs) { must(core_truncate(fs, "/f", 40 * PAGE)); }
static void f_unwritten(struct pf_fs *fs) { must(core_fallocate(fs, "/f", 0, 0, 40 * PAGE)); }
static void f_tail(struct pf_fs *fs)
{
	fill(fs, "/f", 0, 3 * PAGE, 'o');
	must(core_truncate(fs, "/f", PAGE + 77));
}
static void f_keep(struct pf_fs *fs)
{
	f_short(fs);
	must(core_fallocate(fs, "/f", FALLOC_FL_KEEP_SIZE, 0, 40 * PAGE));
}

static void w_first(struct pf_fs *fs) { fill(fs, "/f", 0, 3 * PAGE + 5, 'n'); }
static void w_append(struct pf_fs *fs) { fill(fs, "/f", PAGE + 100, 3000, 'n'); }
static void w_behind(struct pf_fs *fs) { fill(fs, "/f", 20 * PAGE + 9, 2 * PAGE, 'n'); }
static void w_many(struct pf_fs *fs) { fill(fs, "/f", 2 * PAGE + 50, 30 * PAGE, 'n'); }
static void w_over(struct pf_fs *fs) { fill(fs, "/f", 96, 5 * PAGE, 'n'); }
static void w_over_and_on(struct pf_fs *fs) { fill(fs, "/f", 6 * PAGE, 6 * PAGE, 'n'); }
static void w_grow(struct pf_fs *fs) { must(core_truncate(fs, "/f", 5 * PAGE + 1)); }
static void w_shrink(struct pf_fs *fs) { must(core_truncate(fs, "/f", 3 * PAGE)); }
static void w_fallocate(struct pf_fs *fs) { must(core_fallocate(fs, "/f", 0, PAGE, 30 * PAGE)); }
static void w_punch(struct pf_fs *fs)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 3 * PAGE));
}

struct step { const char *name; void (*before)(struct pf_fs *fs), (*step)(struct pf_fs *fs); bool words; };

static const struct step steps[] = {
	{ "write into an empty file", NULL, w_first, false },
	/* The rest of the last page is in place: zeros that are replaced. */
	{ "append inside a page", f_short, w_append, true },
	{ "write behind a gap", f_short, w_behind, false },
	{ "write behind a gap, after a shrink", f_tail, w_behind, false },
	{ "write into a hole", f_hole, w_many, false },
	{ "write into unwritten space", f_unwritten, w_many, false },
	{ "write into space kept behind the end", f_keep, w_behind, false },
	{ "overwrite", f_pages, w_over, true },
	{ "overwrite and extend", f_pages, w_over_and_on, true },
	{ "grow", f_short, w_grow, false },
	{ "grow, after a shrink", f_tail, w_grow, false },
	{ "shrink", f_pages, w_shrink, false },
	{ "fallocate", f_short, w_fallocate, false },
	{ "punch", f_pages, w_punch, false },
};

/* Free blocks hold 'Y': a file took them all, and was removed. */
static void dirty_free_space(struct pf_fs *fs)
{
	static uint8_t buf[64 * 4096];
	uint64_t off = 0;
	ssize_t n;

	memset(buf, 'Y', sizeof buf);
	must(core_create(fs, "/y"));
	while ((n = core_write(fs, "/y", off, buf, sizeof buf)) > 0)
		off += (uint64_t)n;
	must(core_unlink(fs, "/y"));
}

static void see(struct pf_fs *fs, void *content)
{
	CU_ASSERT_FATAL(get(fs, content));
}

static void run_step(const struct step *s, unsigned int skip, struct run *r)
{
	struct pf_pm *pm;
	struct pf_fs *fs = judged_new(&pm, DEV, 'X');

	must(core_create(fs, "/f"));
	dirty_free_space(fs);
	if (s->before != NULL)
		s->before(fs);
	r->words = s->words;
	see(fs, &r->before);
	judged_rehearse(pm, s->step, see, &r->after);
	CU_ASSERT(r->before.size != r->after.size || memcmp(r->before.byte, r->after.byte, MAX) != 0);
	r->j.look = look_at;
	r->j.name = s->name;
	r->fences += judged_step(&r->j, pm, fs, s->step, 12, skip);
}

static void promise(void)
{
	struct run *r = calloc(1, sizeof *r);

	for (size_t i = 0; i < PF_ARRAY_LEN(steps); i++) {
		run_step(&steps[i], UINT32_MAX, r);
		CU_ASSERT_EQUAL(r->j.bad, 0);
		r->j.bad = 0;
	}
	CU_ASSERT(r->j.images >= r->fences && r->fences >= 3 * PF_ARRAY_LEN(steps));
	free(r);
}

/* The drain between the data and the transaction that shows it is needed wherever fresh blocks are filled. */
static void twin(void)
{
	static const size_t which[] = { 0, 4, 5 };
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	for (size_t i = 0; i < PF_ARRAY_LEN(which); i++) {
		r->j.bad = 0;
		run_step(&steps[which[i]], 0, r);
		CU_ASSERT(r->j.bad > 0);
	}
	free(r);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "each step, each drain, each byte", promise },
		{ "twin: data not drained first", twin },
	};

	pf_log_init("test_crash_data", PF_LOG_ERR, false);
	return unit_main("crash/data", cases, PF_ARRAY_LEN(cases));
}
