/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_replay.c - power loss, and again power loss while the journal is replayed: every operation from a fresh
 * start.
 *
 * A scenario is a set-up, operations, and a last one that shows whether they were durable. Every image that the
 * recorder builds is judged by fsck as it is, by fsck after the mount, and by the tree: as before or as after, and one
 * image in sixteen crashes anew at each drain of its mount. The twins leave out a drain, or lose one flush, in each
 * operation by itself. PINFS_CRASH_EFFORT multiplies the random images of each drain.
 */
#include "harness/unit.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define BLK PF_BLK_SIZE
#define NEVER UINT32_MAX

static uint8_t pattern[64 * 4096];

/* ---- scenarios: nothing here may fail ---- */

static void put(struct pf_fs *fs, const char *path, uint64_t off, size_t len)
{
	if (core_find(fs, path) < 0)
		must(core_create(fs, path));
	if (core_write(fs, path, off, pattern + off % BLK, len) != (ssize_t)len)
		abort();
}

static void create_nr(struct pf_fs *fs, int i)
{
	char name[64];

	(void)snprintf(name, sizeof name, "/a-name-that-takes-some-room-%026d", i);
	must(core_create(fs, name));
}

static void s_none(struct pf_fs *fs) { (void)fs; }
static void s_tree(struct pf_fs *fs)
{
	must(core_mkdir(fs, "/d"));
	must(core_mkdir(fs, "/e"));
	must(core_mkdir(fs, "/d/sub"));
	put(fs, "/d/f", 0, 5000);
	put(fs, "/e/g", 0, 100);
	must(core_link(fs, "/d/f", "/e/f2"));
	must(core_symlink(fs, "/d/l", "f"));
}
static void s_full_leaf(struct pf_fs *fs)
{
	/* As many as make one of the next names split a leaf. */
	for (int i = 0; i < 48; i++)
		create_nr(fs, i);
}
static void s_file(struct pf_fs *fs) { put(fs, "/f", 0, 10000); }
static void s_sparse(struct pf_fs *fs)
{
	/* More extents than one transaction can cut. */
	must(core_create(fs, "/f"));
	for (uint64_t i = 0; i < 1500; i++)
		put(fs, "/f", i * 2 * BLK, BLK);
}
static void s_blocks(struct pf_fs *fs) { put(fs, "/f", 0, 32 * BLK); }
static void s_full_cluster(struct pf_fs *fs)
{
	char name[32];

	for (int i = 0; i < 501; i++) {
		(void)snprintf(name, sizeof name, "/%d", i);
		must(core_create(fs, name));
	}
}

static void o_create(struct pf_fs *fs) { must(core_create(fs, "/d/new")); }
static void o_create_60(struct pf_fs *fs) { create_nr(fs, 60); }
static void o_create_61(struct pf_fs *fs) { create_nr(fs, 61); }
static void o_create_62(struct pf_fs *fs) { create_nr(fs, 62); }
static void o_create_grow(struct pf_fs *fs) { must(core_create(fs, "/more")); }
static void o_mkdir(struct pf_fs *fs) { must(core_mkdir(fs, "/d/new")); }
static void o_symlink(struct pf_fs *fs) { must(core_symlink(fs, "/e/new", "some/where")); }
static void o_symlink_long(struct pf_fs *fs)
{
	char target[1001];

	memset(target, 't', sizeof target - 1);
	target[sizeof target - 1] = '\0';
	must(core_symlink(fs, "/e/new", target));
}
static void o_mknod(struct pf_fs *fs) { must(core_mknod(fs, "/e/new", S_IFCHR | 0600, makedev(1, 5))); }
static void o_link(struct pf_fs *fs) { must(core_link(fs, "/d/f", "/d/sub/again")); }
static void o_unlink(struct pf_fs *fs) { must(core_unlink(fs, "/e/g")); }
static void o_unlink_linked(struct pf_fs *fs) { must(core_unlink(fs, "/d/f")); }
static void o_unlink_sparse(struct pf_fs *fs) { must(core_unlink(fs, "/f")); }
static void o_rmdir(struct pf_fs *fs) { must(core_rmdir(fs, "/d/sub")); }
static void o_rename(struct pf_fs *fs) { must(core_rename(fs, "/d/l", "/d/m", 0)); }
static void o_rename_move(struct pf_fs *fs) { must(core_rename(fs, "/d/f", "/e/moved", 0)); }
static void o_rename_over(struct pf_fs *fs) { must(core_rename(fs, "/d/f", "/e/g", 0)); }
static void o_rename_dir(struct pf_fs *fs) { must(core_rename(fs, "/d/sub", "/e/sub", 0)); }
static void o_mkdir_empty(struct pf_fs *fs) { must(core_mkdir(fs, "/e/empty")); }
static void o_rename_dir_over(struct pf_fs *fs) { must(core_rename(fs, "/d/sub", "/e/empty", 0)); }
static void o_exchange(struct pf_fs *fs) { must(core_rename(fs, "/d/sub", "/e/g", RENAME_EXCHANGE)); }
static void o_write(struct pf_fs *fs) { put(fs, "/d/f", 5000, 20000); }
static void o_write_hole(struct pf_fs *fs) { put(fs, "/d/f", 100 * BLK + 17, 9000); }
static void o_write_inside(struct pf_fs *fs) { put(fs, "/f", 3 * BLK, 4 * BLK); }
static void s_unwritten(struct pf_fs *fs)
{
	must(core_create(fs, "/f"));
	must(core_fallocate(fs, "/f", 0, 0, 10 * BLK));
}
static void o_truncate(struct pf_fs *fs) { must(core_truncate(fs, "/f", 5000)); }
static void o_truncate_0(struct pf_fs *fs) { must(core_truncate(fs, "/f", 0)); }
static void o_truncate_big(struct pf_fs *fs) { must(core_truncate(fs, "/f", 7 * BLK)); }
static void o_truncate_up(struct pf_fs *fs) { must(core_truncate(fs, "/f", 1000000)); }
static void o_truncate_back(struct pf_fs *fs) { must(core_truncate(fs, "/f", 10000)); }
static void o_append_back(struct pf_fs *fs) { put(fs, "/f", 9000, 100); }
static void o_punch(struct pf_fs *fs)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * BLK, 5 * BLK));
}
static void o_punch_big(struct pf_fs *fs)
{
	must(core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLK, 2900 * BLK));
}
static void o_zero(struct pf_fs *fs) { must(core_fallocate(fs, "/f", FALLOC_FL_ZERO_RANGE, 3 * BLK, 8 * BLK)); }
static void o_zero_big(struct pf_fs *fs) { must(core_fallocate(fs, "/f", FALLOC_FL_ZERO_RANGE, 0, 2999 * BLK)); }
static void o_fallocate(struct pf_fs *fs) { must(core_fallocate(fs, "/f", 0, 0, 100 * BLK)); }
static void o_keep_size(struct pf_fs *fs) { must(core_fallocate(fs, "/f", FALLOC_FL_KEEP_SIZE, 50 * BLK, 9 * BLK)); }
static void o_chmod(struct pf_fs *fs) { must(core_chmod(fs, "/f", 0600)); }
static void o_copy(struct pf_fs *fs)
{
	if (core_copy(fs, "/d/f", 0, "/e/g", BLK, 5000) != 5000)
		abort();
}

static void last_op(struct pf_fs *fs) { must(core_mkdir(fs, "/last")); }

#define OPS_MAX 4
struct scenario {
	const char *name;
	void (*setup)(struct pf_fs *fs);
	bool quick;				/* it is long: few images of each fence, no twins */
	bool line;				/* may change one line only, which no lost drain can tear: no twins */
	bool pieces;				/* atomic piece by piece only: in between, fsck judges alone */
	void (*op[OPS_MAX])(struct pf_fs *fs);	/* each atomic; last_op() follows, to show that they were durable */
};

static const struct scenario scenarios[] = {
	{ "create", s_tree, .op = { o_create } },
	{ "create until a leaf splits", s_full_leaf, .quick = true, .op = { o_create_60, o_create_61, o_create_62 } },
	{ "create, the table grows", s_full_cluster, .quick = true, .op = { o_create_grow } },
	{ "mkdir", s_tree, .op = { o_mkdir } },
	{ "symlink", s_tree, .op = { o_symlink } },
	{ "symlink, long", s_tree, .op = { o_symlink_long } },
	{ "mknod", s_tree, .op = { o_mknod } },
	{ "link", s_tree, .op = { o_link } },
	{ "unlink", s_tree, .op = { o_unlink } },
	{ "unlink one of two", s_tree, .op = { o_unlink_linked } },
	{ "unlink, many extents", s_sparse, .quick = true, .op = { o_unlink_sparse } },
	{ "rmdir", s_tree, .op = { o_rmdir } },
	{ "rename", s_tree, .op = { o_rename } },
	{ "rename to another directory", s_tree, .op = { o_rename_move } },
	{ "rename over a file", s_tree, .op = { o_rename_over } },
	{ "rename a directory", s_tree, .op = { o_rename_dir } },
	{ "rename over a directory", s_tree, .op = { o_mkdir_empty, o_rename_dir_over } },
	{ "rename exchange", s_tree, .op = { o_exchange } },
	{ "append", s_tree, .op = { o_write } },
	{ "write behind a gap", s_tree, .op = { o_write_hole } },
	{ "write into unwritten", s_unwritten, .op = { o_write_inside } },
	{ "truncate", s_file, .op = { o_truncate } },
	{ "truncate to nothing", s_file, .op = { o_truncate_0 } },
	{ "truncate, many extents", s_sparse, .quick = true, .op = { o_truncate_big } },
	{ "truncate, growing", s_file, .op = { o_truncate_up } },
	/* What was cut off must not come back when the file grows over it. */
	{ "truncate down and up", s_file, .op = { o_truncate, o_truncate_back } },
	{ "truncate and write behind", s_file, .op = { o_truncate, o_append_back } },
	{ "punch", s_blocks, .op = { o_punch } },
	{ "punch, many extents", s_sparse, .quick = true, .op = { o_punch_big } },
	{ "zero range", s_blocks, .op = { o_zero } },
	{ "zero range, many extents", s_sparse, .quick = true, .op = { o_zero_big } },
	{ "fallocate", s_file, .op = { o_fallocate } },
	{ "fallocate, size kept", s_file, .op = { o_keep_size } },
	{ "chmod", s_file, .line = true, .op = { o_chmod } },
	{ "copy", s_tree, .pieces = true, .op = { o_copy } },
	{ "nothing", s_none, .quick = true, .op = { s_none } },
};

/* ---- one image ---- */

struct run {
	const struct scenario *s;
	char *state[OPS_MAX + 2];	/* before the first operation, after each, after the last */
	unsigned int phase;	/* the operation under way leads from state[phase] to the next */
	unsigned int images, bad;
	const char *what;	/* of the first bad one */
	bool deep;		/* crash again during the replay */
	bool want_bad;		/* a twin: stop looking once it was caught */
};

static void bad(struct run *r, const char *what, const char *detail, unsigned int fence)
{
	if (r->bad++ != 0 || r->want_bad)
		return;
	r->what = what;
	(void)printf("%s: fence %u: %s\n%s\n", r->s->name, fence, what, detail);
}

static bool allowed(const struct run *r, const char *text)
{
	if (strcmp(text, r->state[r->phase]) == 0 || strcmp(text, r->state[r->phase + 1]) == 0)
		return true;
	return r->s->pieces && r->phase == 0;
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
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	char *text;

	if (core_mount(image, &fs, &why) != 0) {
		bad(r, "mount fails", why, fence);
		return;
	}
	text = core_describe(fs, &damaged);
	if (damaged != 0)
		bad(r, "the tree is damaged", text, fence);
	else if (!allowed(r, text))
		bad(r, "the tree is neither as before nor as after", text, fence);
	free(text);
	core_unmount(fs);
}

static void mounted_again(void *arg, struct pf_pm *image, unsigned int fence)
{
	check_mount(arg, image, 1000 + fence);
}

static void again(void *arg, struct pf_pm *image, unsigned int fence)
{
	in_thread(mounted_again, arg, image, fence);
}

static void check_all(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct run *r = arg;
	struct crash *c;

	if (r->want_bad && r->bad != 0)
		return;
	r->images++;
	/* fsck's replay is of the image as it was; so is mount's, in every other one. */
	if (r->images % 2 == 0)
		check_fsck(r, image, fence, "fsck before the mount");
	if (r->deep && r->images % 16 == 1) {
		c = crash_attach(image, again, r, 2, r->images);
		check_mount(r, image, fence);
		crash_detach(c);
	} else {
		check_mount(r, image, fence);
	}
	check_fsck(r, image, fence, "fsck after the mount");
}

static void check_image(void *arg, struct pf_pm *image, unsigned int fence)
{
	in_thread(check_all, arg, image, fence);
}

/* ---- one scenario ---- */

struct broken { unsigned int drain, store; };	/* left out, counted from the operation's first; NEVER */

static char *describe_now(struct pf_pm *pm)
{
	struct pf_pm *copy = mem_open(pm->bytes);
	static const uint8_t zero[BLK];
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	char *text;

	for (uint64_t off = 0; off < pm->bytes; off += BLK)
		if (memcmp(pm->base + off, zero, BLK) != 0)
			memcpy(copy->base + off, pm->base + off, BLK);
	must(core_mount(copy, &fs, &why));
	text = core_describe(fs, &damaged);
	must(damaged == 0 ? 0 : -1);
	core_unmount(fs);
	mem_close(copy);
	return text;
}

static struct pf_fs *fresh(struct pf_pm *pm, const struct scenario *s)
{
	struct pf_mkfs m = { .label = "crash" };
	const char *why;
	struct pf_fs *fs;

	must(pf_mkfs(pm, &m));
	must(core_mount(pm, &fs, &why));
	s->setup(fs);
	return fs;
}

/* What the states look like, without any crash. */
static void find_states(struct run *r)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_fs *fs = fresh(pm, r->s);

	unsigned int i;

	r->state[0] = describe_now(pm);
	for (i = 0; i < OPS_MAX && r->s->op[i] != NULL; i++) {
		r->s->op[i](fs);
		r->state[i + 1] = describe_now(pm);
	}
	last_op(fs);
	r->state[i + 1] = describe_now(pm);
	core_unmount(fs);
	mem_close(pm);
}

/* Number of drains of the operations themselves. */
static unsigned int crash_run(struct run *r, struct broken b, unsigned int subsets)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_fs *fs = fresh(pm, r->s);
	struct crash *c = crash_attach(pm, check_image, r, subsets, 1);
	unsigned int drains;

	if (b.drain != NEVER)
		crash_skip_drain(c, b.drain);
	if (b.store != NEVER)
		crash_lose_store(c, b.store);
	for (r->phase = 0; r->phase < OPS_MAX && r->s->op[r->phase] != NULL; r->phase++)
		r->s->op[r->phase](fs);
	drains = crash_fences(c);
	last_op(fs);
	crash_detach(c);
	core_unmount(fs);
	mem_close(pm);
	return drains;
}

/* What the core says about images that are meant to be broken. */
static int quiet(void)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (saved < 0 || null < 0 || dup2(null, STDERR_FILENO) < 0)
		abort();
	(void)close(null);
	return saved;
}

static void loud(int saved)
{
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
}

static unsigned int effort(void)
{
	const char *env = getenv("PINFS_CRASH_EFFORT");

	return env != NULL ? (unsigned int)strtoul(env, NULL, 10) : 1;
}

static void free_states(struct run *r)
{
	for (unsigned int i = 0; i < PF_ARRAY_LEN(r->state); i++)
		free(r->state[i]);
}

static void test_crash(void)
{
	unsigned int images = 0;

	for (size_t i = 0; i < PF_ARRAY_LEN(scenarios); i++) {
		struct run r = { .s = &scenarios[i], .deep = true };

		find_states(&r);
		(void)crash_run(&r, (struct broken){ NEVER, NEVER }, (r.s->quick ? 1 : 2) * effort());
		if (r.bad != 0)
			(void)printf("%s: %u of %u images\n", r.s->name, r.bad, r.images);
		CU_ASSERT_EQUAL(r.bad, 0);
		CU_ASSERT(r.images != 0);
		images += r.images;
		free_states(&r);
	}
	(void)printf("%u images ... ", images);
}

/*
 * The twins. Without its first drain a commit's lines may go home before the lane is there, without its second the lane
 * may be emptied before they are: both must be seen. (The third drain is for other threads' sake.)
 */
static void test_lost_drain(void)
{
	int saved = quiet();

	for (size_t i = 0; i < PF_ARRAY_LEN(scenarios); i++) {
		struct run r = { .s = &scenarios[i], .want_bad = true };
		unsigned int drains, caught = 0;

		if (r.s->quick || r.s->line || r.s->pieces)
			continue;
		find_states(&r);
		drains = crash_run(&r, (struct broken){ NEVER, NEVER }, 2);
		CU_ASSERT_EQUAL(r.bad, 0);
		for (unsigned int d = 0; d < drains; d++) {
			r.bad = r.images = 0;
			(void)crash_run(&r, (struct broken){ d, NEVER }, 4);
			caught += r.bad != 0;
		}
		if (caught < 2)
			(void)printf("%s: only %u of %u lost drains were seen\n", r.s->name, caught, drains);
		CU_ASSERT(caught >= 2);
		free_states(&r);
	}
	loud(saved);
}

/* A store that is never flushed: whatever it was, some image shows that it is missing. */
static void test_lost_store(void)
{
	int saved = quiet();

	for (size_t i = 0; i < PF_ARRAY_LEN(scenarios); i++) {
		struct run r = { .s = &scenarios[i], .want_bad = true };
		unsigned int caught = 0;

		if (r.s->quick || r.s->line || r.s->pieces)
			continue;
		find_states(&r);
		for (unsigned int st = 0; st < 10; st++) {
			r.bad = r.images = 0;
			(void)crash_run(&r, (struct broken){ NEVER, st }, 2);
			caught += r.bad != 0;
		}
		if (caught < 2)
			(void)printf("%s: only %u of 10 lost stores were seen\n", r.s->name, caught);
		CU_ASSERT(caught >= 2);
		free_states(&r);
	}
	loud(saved);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "before or after", test_crash },
		{ "twin: a drain is left out", test_lost_drain },
		{ "twin: a store is not flushed", test_lost_store },
	};

	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i * 31 + i / 4096 + 1);
	pf_log_init("crash", PF_LOG_ERR, false);
	return unit_main("crash", cases, PF_ARRAY_LEN(cases));
}
