/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_bad.c - power loss while the list of bad blocks changes, or while a file gives a bad block back.
 *
 * Every image that a crash could leave is mounted and checked: fsck finds nothing; the list is as before the step or as
 * after it, block by block, and as after it once the call has returned; no listed block is given out or under a file
 * that it was not under; the file reads as before or as after. Twins: a drain is left out; a mount that does not know
 * the list gives a bad block away.
 */
#include "harness/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "media/pmem.h"
#include "obj/inode.h"
#include "space/bad.h"

#define DEV (UINT64_C(16) << 20)
#define NBLK (DEV / PF_BLK_SIZE)
#define PAGE 4096U
#define PAGES 12U
#define FREE_AT 3000U			/* blocks that nobody has */

/* A block of the list: '-' not listed, 'l' listed, 'h' held. Pages of the file: their byte, or 0 when they are bad. */
struct state { char list[NBLK]; uint8_t page[PAGES]; uint64_t size; };

struct run {
	struct judged j;
	struct state before, after;
	bool ignore;
	unsigned int fences;
};

static uint64_t block_of(struct pf_fs *fs, uint64_t page)
{
	struct pf_inode *ip;
	struct pf_ext x;
	struct pf_bm bm;

	must(pf_inode_get(fs, (uint64_t)core_find(fs, "/f"), &ip));
	bm = pf_inode_bm(ip, NULL);
	must(pf_bm_lookup(&bm, page, &x));
	pf_inode_put(ip);
	if (x.len == 0 || x.key > page)
		abort();
	return x.dblk + (page - x.key);
}

static const char *get(struct pf_fs *fs, struct state *s)
{
	static struct pf_bad_rec rec[256];
	int64_t ino = core_find(fs, "/f");
	struct pf_rd *rd;
	struct stat st;
	unsigned int n;

	memset(s, 0, sizeof *s);
	memset(s->list, '-', sizeof s->list);
	if (pf_bad_list(fs, 0, rec, PF_ARRAY_LEN(rec), &n) != 0)
		return "the list cannot be read";
	for (unsigned int i = 0; i < n; i++)
		memset(s->list + rec[i].dblk, rec[i].held ? 'h' : 'l', rec[i].nblk);
	if (ino == -ENOENT)
		return NULL;
	if (ino < 0 || pf_op_getattr(fs, (uint64_t)ino, &st, NULL) != 0)
		return "the file is lost";
	s->size = (uint64_t)st.st_size;
	rd = malloc(sizeof *rd);
	for (unsigned int p = 0; p < PAGES && p * PAGE < s->size; p++) {
		int err = pf_op_read_begin(fs, (uint64_t)ino, p * PAGE, PAGE, rd);

		if (err != 0)
			continue;
		s->page[p] = *(uint8_t *)rd->iov[0].iov_base;
		pf_op_read_end(fs, rd);
	}
	free(rd);
	return NULL;
}

/* Reserve all there is: does anything of it lie on the list? */
static bool gives_away(struct pf_fs *fs, const struct state *s)
{
	struct pf_run *got = malloc(NBLK * sizeof *got);
	unsigned int n = 0;
	bool bad = false;

	while (pf_alloc_reserve(fs, 64, 1, 0, PF_ALLOC_META, &got[n]) == 0) {
		for (uint64_t b = got[n].dblk; b < got[n].dblk + got[n].nblk; b++)
			bad |= s->list[b] != '-';
		n++;
	}
	while (n-- > 0)
		pf_alloc_unreserve(fs, got[n]);
	free(got);
	return bad;
}

static const char *judge(const struct run *r, const struct state *now)
{
	for (uint64_t b = 0; b < NBLK; b++) {
		char c = now->list[b];

		if (r->j.returned ? c != r->after.list[b] : c != r->before.list[b] && c != r->after.list[b])
			return r->j.returned ? "returned, and the list is not so" : "a block of the list as never";
	}
	for (unsigned int p = 0; p < PAGES; p++)
		if (r->j.returned ? now->page[p] != r->after.page[p]
				: now->page[p] != r->before.page[p] && now->page[p] != r->after.page[p])
			return "a page of the file as never";
	return NULL;
}

static const char *look_at(struct judged *j, struct pf_pm *image)
{
	struct run *r = PF_CONTAINER_OF(j, struct run, j);
	struct state *now = malloc(sizeof *now);
	const char *why;
	struct pf_fs *fs;

	if (!judged_sound(image)) {
		why = "fsck finds damage";
	} else if (core_mount(image, &fs, &why) == 0) {
		why = get(fs, now);
		if (why == NULL)
			why = judge(r, now);
		if (r->ignore)
			must(pf_badset_del(fs, 0, NBLK));
		if (why == NULL && r->ignore && core_find(fs, "/f") > 0)
			must(core_unlink(fs, "/f"));
		if (why == NULL && gives_away(fs, now))
			why = "a bad block is given away";
		core_unmount(fs);
	}
	free(now);
	return why;
}

/* ---- steps ---- */

static void fill(struct pf_fs *fs, uint64_t off, size_t len, int byte)
{
	uint8_t *buf = malloc(len);

	memset(buf, byte, len);
	if (core_write(fs, "/f", off, buf, len) != (ssize_t)len)
		abort();
	free(buf);
}

static void add(struct pf_fs *fs, uint64_t dblk, uint64_t n)
{
	uint64_t changed;

	must(pf_bad_add(fs, dblk, n, &changed));
}

static void del(struct pf_fs *fs, uint64_t dblk, uint64_t n)
{
	uint64_t changed;

	must(pf_bad_del(fs, dblk, n, &changed));
}

static void b_page(struct pf_fs *fs) { add(fs, block_of(fs, 3), 1); }
static void b_pages(struct pf_fs *fs)
{
	b_page(fs);
	add(fs, block_of(fs, 5), 3);
}
static void b_free(struct pf_fs *fs) { add(fs, FREE_AT, 5); }
/* More records than the root holds: the tree has nodes of its own. */
static void b_many(struct pf_fs *fs)
{
	b_pages(fs);
	for (unsigned int i = 0; i < 40; i++)
		add(fs, FREE_AT + 100 + 2 * i, 1);
}

static void s_add_free(struct pf_fs *fs) { add(fs, FREE_AT, 5); }
static void s_add_used(struct pf_fs *fs) { add(fs, block_of(fs, 2), 4); }
static void s_add_across(struct pf_fs *fs) { add(fs, block_of(fs, PAGES - 2), 20); }
static void s_del_free(struct pf_fs *fs) { del(fs, FREE_AT + 1, 2); }
static void s_del_used(struct pf_fs *fs) { del(fs, block_of(fs, 3), 1); }
static void s_del_all(struct pf_fs *fs) { del(fs, 0, NBLK); }
static void s_write(struct pf_fs *fs) { fill(fs, 3 * PAGE, PAGE, 'n'); }
static void s_write_all(struct pf_fs *fs) { fill(fs, 3 * PAGE, 5 * PAGE, 'n'); }
static void s_punch(struct pf_fs *fs)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 5 * PAGE));
}
static void s_zero(struct pf_fs *fs) { must(core_fallocate(fs, "/f", FALLOC_FL_ZERO_RANGE, 3 * PAGE, PAGE)); }
static void s_cut(struct pf_fs *fs) { must(core_truncate(fs, "/f", 2 * PAGE)); }
static void s_unlink(struct pf_fs *fs) { must(core_unlink(fs, "/f")); }

struct step { const char *name; void (*before)(struct pf_fs *fs), (*step)(struct pf_fs *fs); };

static const struct step steps[] = {
	{ "free blocks are listed", NULL, s_add_free },
	{ "blocks of a file are listed", NULL, s_add_used },
	{ "the end of a file, and what is behind it", NULL, s_add_across },
	{ "a long list grows", b_many, s_add_free },
	{ "held blocks are forgotten", b_free, s_del_free },
	{ "blocks of a file are forgotten", b_page, s_del_used },
	{ "everything is forgotten", b_pages, s_del_all },
	{ "a bad page is written", b_page, s_write },
	{ "bad and good pages are written", b_pages, s_write_all },
	{ "a bad page is zeroed", b_page, s_zero },
	{ "bad pages are punched", b_pages, s_punch },
	{ "bad pages are cut off", b_many, s_cut },
	{ "a file with bad pages is removed", b_many, s_unlink },
};

static void see(struct pf_fs *fs, void *state)
{
	CU_ASSERT_PTR_NULL_FATAL(get(fs, state));
}

static void run_step(const struct step *s, unsigned int skip, struct run *r)
{
	struct pf_pm *pm;
	struct pf_fs *fs = judged_new(&pm, DEV, 0);

	must(core_create(fs, "/f"));
	fill(fs, 0, PAGES * PAGE, 'o');
	if (s->before != NULL)
		s->before(fs);
	see(fs, &r->before);
	judged_rehearse(pm, s->step, see, &r->after);
	CU_ASSERT(memcmp(r->before.list, r->after.list, NBLK) != 0 ||
		  memcmp(r->before.page, r->after.page, PAGES) != 0);
	r->j.look = look_at;
	r->j.name = s->name;
	r->fences += judged_step(&r->j, pm, fs, s->step, 6, skip);
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

/* The lane is not durable before the lines go home: some image has half of a change. */
static void twin_drain(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	for (unsigned int d = 0; d < 4; d++)
		run_step(&steps[12], d, r);
	CU_ASSERT(r->j.bad > 0);
	free(r);
}

static void twin_ignored(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	r->ignore = true;
	run_step(&steps[1], UINT32_MAX, r);
	CU_ASSERT(r->j.bad > 0);
	free(r);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "each step, each drain", promise },
		{ "twin: a drain left out", twin_drain },
		{ "twin: the list is ignored", twin_ignored },
	};

	pf_log_init("test_crash_bad", PF_LOG_ERR, false);
	return unit_main("crash/bad", cases, PF_ARRAY_LEN(cases));
}
