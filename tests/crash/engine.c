/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - see engine.h. Owns a memfd with the device of the beginning, and its model.
 *
 * The draining thread holds locks of the filesystem that crashes. An image's filesystem is another one with the
 * same ranks, so it is looked at by a thread of its own.
 */
#include "crash/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "crash/judged.h"
#include "crash/seeded.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/journal.h"
#include "media/mkfs.h"

#define DEV_BYTES (UINT64_C(32) << 20)

/* A file of each kind, and names to move about. */
static const char *const beginning[] = {
	"mkdir /d; mkdir /e; mkdir /o; mkdir /d/sub; create /d/sub/y; create /o/z; write /o/z 0 5000",
	"create /f; write /f 0 12388; create /g; write /g 0 100; create /h; truncate /h 163840",
	"write /h 20480 4096; write /h 81920 100",
	"create /u; falloc /u 0 65536; create /k; write /k 0 4096; keep /k 4096 40960; create /p; write /p 0 81920",
	"create /d/x; write /d/x 0 9000; link /d/x /l; symlink /d/s x; mknod /fifo 10600 0; create /empty",
};

static int base_fd = -1;
static struct model *base_model;

/* ---- the beginning ---- */

static void need(int64_t rc, const char *what)
{
	if (rc < 0) {
		(void)fprintf(stderr, "crash engine: %s: %s\n", what, strerror((int)-rc));
		abort();
	}
}

/* What is free now has been somebody's: a file took all of it, and was removed. */
static void dirty_free_space(struct pf_fs *fs)
{
	static uint8_t buf[64 * 4096];
	uint64_t off = 0;
	ssize_t n;

	memset(buf, 0xee, sizeof buf);		/* even: wl_byte() is odd */
	need(core_create(fs, "/fill"), "fill");
	while ((n = core_write(fs, "/fill", off, buf, sizeof buf)) > 0)
		off += (uint64_t)n;
	need(core_unlink(fs, "/fill"), "fill");
}

void engine_init(void)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_mkfs mk = { .label = "crash" };
	struct script *s = calloc(1, sizeof *s);
	struct stage st = { .pm = pm };
	const char *why;

	if (s == NULL)
		abort();
	seeded_start(1);
	memset(pm->base, 0xcc, DEV_BYTES);
	need(pf_mkfs(pm, &mk), "mkfs");
	need(core_mount(pm, &st.fs, &why), "mount");
	dirty_free_space(st.fs);
	base_model = model_new();
	for (size_t i = 0; i < PF_ARRAY_LEN(beginning); i++)
		if (!script_read(s, beginning[i]))
			abort();
	for (int i = 0; i < s->n; i++) {
		s->op[i].tag += 10000;
		need(script_do(&st, &s->op[i]), "beginning");
		need(model_apply(base_model, &s->op[i]), "model");
	}
	why = model_judge(base_model, NULL, NULL, st.fs);
	if (why != NULL) {
		(void)fprintf(stderr, "crash engine: the beginning is not as it should be: %s\n", why);
		abort();
	}
	core_unmount(st.fs);
	base_fd = memfd_create("beginning", MFD_CLOEXEC);
	if (base_fd < 0 || pwrite(base_fd, pm->base, DEV_BYTES, 0) != (ssize_t)DEV_BYTES)
		abort();
	mem_close(pm);
	free(s);
}

void engine_fini(void)
{
	(void)close(base_fd);
	model_free(base_model);
}

struct model *engine_model(void)
{
	return model_copy(base_model);
}

/* ---- one image ---- */

struct run {
	struct engine *e;
	const struct script *s;
	struct model *before, *after;	/* the operation under way leads from one to the other */
	int at;				/* its index */
	uint64_t bad, seen, seen_nested;	/* states of this run */
	bool nested;
	bool over;			/* the script has ended: what follows is not looked at */
};

static void bad(struct run *r, const char *what, const char *detail, unsigned int fence)
{
	if (r->bad++ == 0) {
		(void)snprintf(r->e->why, sizeof r->e->why, "operation %d, fence %u%s: %s: %.400s",
			       r->at - r->s->stage + 1, fence, r->nested ? " of the mount" : "", what, detail);
		r->e->why_after = r->seen + r->seen_nested;
	}
}

static void check_fsck(struct run *r, struct pf_pm *image, unsigned int fence, const char *when)
{
	char *text = judged_fsck(image);

	if (text != NULL)
		bad(r, when, text, fence);
	free(text);
}

static void check_mount(struct run *r, struct pf_pm *image, unsigned int fence)
{
	const char *why;
	struct pf_fs *fs;

	if (core_mount(image, &fs, &why) != 0) {
		bad(r, "mount fails", why, fence);
		return;
	}
	why = model_judge(r->after, r->before, &r->s->op[r->at], fs);
	if (why != NULL)
		bad(r, "neither as before nor as after", why, fence);
	core_unmount(fs);
}

static void check_nested(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct run *r = arg;

	r->nested = true;
	check_mount(r, image, fence);
	if (r->seen_nested % 4 == 0)
		check_fsck(r, image, fence, "fsck after the second mount");
	r->nested = false;
	r->seen_nested++;
}

static void again(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct run *r = arg;

	if (r->bad == 0)
		in_thread(check_nested, r, image, fence);
}

static void check_all(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct run *r = arg;
	struct engine *e = r->e;
	struct crash *c;

	/* fsck's replay is of the image as it was; so is mount's, in every other one. */
	if (r->seen % 2 == 0)
		check_fsck(r, image, fence, "fsck before the mount");
	if (e->deep != 0 && r->seen % e->deep == 1 % e->deep) {
		c = crash_attach(image, again, r, e->subsets < 2 ? e->subsets : 2, e->seed + r->seen);
		check_mount(r, image, fence);
		crash_detach(c);
	} else {
		check_mount(r, image, fence);
	}
	check_fsck(r, image, fence, "fsck after the mount");
	r->seen++;
}

static void check_image(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct run *r = arg;

	if (!r->over && r->bad == 0 && (r->e->only_op == 0 || r->at - r->s->stage + 1 == (int)r->e->only_op))
		in_thread(check_all, r, image, fence);
}

/* ---- one script ---- */

struct turn { struct stage *st; const struct wl_op *op; int64_t rc; };

static void *turn_main(void *arg)
{
	struct turn *t = arg;

	t->rc = script_do(t->st, t->op);
	return NULL;
}

/* In a thread of its own; @apart: while the first lane is somebody else's. */
static int64_t take_turn(struct stage *st, const struct wl_op *op, bool apart)
{
	struct turn turn = { st, op, 0 };
	struct pf_tx *tx = NULL;
	pthread_t t;

	/* A remount takes the journal down, and nobody may have a lane then. */
	if (apart && op->kind != WL_REMOUNT)
		need(pf_tx_begin(st->fs, &tx), "a lane");
	if (pthread_create(&t, NULL, turn_main, &turn) != 0 || pthread_join(t, NULL) != 0)
		abort();
	if (tx != NULL)
		pf_tx_abort(tx);
	return turn.rc;
}

/* The operation @r->at, under the eyes of the recorder. False: no use to go on. */
static bool step(struct run *r, struct stage *st, struct crash *c)
{
	const struct wl_op *op = &r->s->op[r->at];
	int64_t want, got;
	struct pf_pm *now;
	const char *why;

	r->after = model_copy(r->before);
	want = model_apply(r->after, op);
	got = take_turn(st, op, r->at % 2 == 1);
	r->e->ops++;
	if (want < 0 ? got >= 0 : got != want) {
		char text[64];

		(void)snprintf(text, sizeof text, "%" PRId64 ", not %" PRId64, got, want);
		bad(r, "returned", text, crash_fences(c));
		return false;
	}
	why = st->fs == NULL ? "not mounted" : model_judge(r->after, NULL, NULL, st->fs);
	if (why != NULL) {
		bad(r, "without any crash", why, crash_fences(c));
		return false;
	}
	/* It has returned: all of it must be durable, with nothing to come. */
	model_free(r->before);
	r->before = r->after;
	r->after = model_copy(r->before);
	now = crash_image_now(c);
	check_image(r, now, crash_fences(c));
	crash_image_free(now);
	model_free(r->after);
	r->after = NULL;
	return r->bad == 0;
}

static void set_stage(struct run *r, struct stage *st)
{
	const char *why;

	need(core_mount(st->pm, &st->fs, &why), "mount");
	for (r->at = 0; r->at < r->s->stage; r->at++) {
		need(script_do(st, &r->s->op[r->at]), "stage");
		need(model_apply(r->before, &r->s->op[r->at]), "stage of the model");
	}
}

uint64_t engine_run(struct engine *e, const struct script *s)
{
	struct run r = { .e = e, .s = s, .before = model_copy(base_model) };
	struct pf_pm *pm = crash_image_of(base_fd, DEV_BYTES);
	struct stage st = { .pm = pm };
	struct crash *c;

	e->why[0] = '\0';
	seeded_start(e->seed);
	set_stage(&r, &st);
	c = crash_attach(pm, check_image, &r, e->subsets, e->seed);
	while (r.at < s->n && step(&r, &st, c))
		r.at++;
	r.over = true;
	while (st.nheld > 0 && st.fs != NULL)
		core_drop(st.fs, st.held[--st.nheld]);
	e->fences += crash_fences(c);
	e->scripts++;
	e->states += r.seen;
	e->nested += r.seen_nested;
	e->bad += r.bad;
	if (st.fs != NULL)
		core_unmount(st.fs);
	crash_detach(c);
	crash_image_free(pm);
	model_free(r.before);
	model_free(r.after);
	if (r.bad != 0 && !e->quiet) {
		char *text = script_text(s, 0, s->n);

		(void)printf("\n\t%s\n\tagain: test_crash_ops --seed %" PRIu64 " --subsets %u --deep %u --run '%s'\n",
			     e->why, e->seed, e->subsets, e->deep, text);
		(void)fflush(stdout);
		free(text);
	}
	return r.bad;
}
