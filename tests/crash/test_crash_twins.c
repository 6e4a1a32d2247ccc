/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_twins.c - each step of making things durable (base/step.h) is left out in turn, and the engine must see a
 * state that should not be. A step that nobody misses is either not needed or not tested.
 *
 * The table printed: the step, and after how many states it was missed. PINFS_CRASH_TWIN=NAME runs one of them, and
 * says what was seen.
 */
#include "harness/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#define PF_STEPS
#include "base/step.h"
#include "crash/engine.h"
#include "crash/seeded.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/super.h"

#define NAMED(name, what) [PF_STEP_##name] = { #name, what },
static const struct { const char *name, *what; } steps[PF_STEP_NR] = { PF_STEP_LIST(NAMED) };

/* Where each is missed. "mkfs": a new filesystem over an old one. */
static const char *const scripts[PF_STEP_NR] = {
	[PF_STEP_JNL_FRESH] = "create /e/first",
	[PF_STEP_JNL_LANE] = "rename /f /e/moved",
	[PF_STEP_JNL_HOME] = "rename /f /e/moved",
	[PF_STEP_JNL_EMPTY] = "create /e/1; create /e/2; unlink /e/1; create /e/3; unlink /e/2; rename /e/3 /e/4",
	[PF_STEP_SUPER] = "remount",
	[PF_STEP_MKFS_OLD] = "mkfs",
	[PF_STEP_MKFS_BODY] = "mkfs",
	[PF_STEP_REPLAY_HOME] = "rename /f /e/moved",
	[PF_STEP_REPLAY_EMPTY] = "hold /f; unlink /f; hold /p; unlink /p; chmod /g 600; chmod /h 600",
	[PF_STEP_REPLAY] = "rename /f /e/moved",
	[PF_STEP_WRITE_DATA] = "write /h 8242 30000",
	[PF_STEP_WRITE_REST] = "write /h 8242 100",
	[PF_STEP_WRITE_TOUCH] = "clock 0 | write /p 0 8192; write /p 8192 100",
	[PF_STEP_FAULT] = "fault /u 4096 8192",
	[PF_STEP_TAIL_ZERO] = "truncate /f 5000; truncate /f 12000",
	[PF_STEP_TAIL_DRAIN] = "truncate /f 5000; truncate /f 12000",
	[PF_STEP_SYMLINK] = "symlink /d/long @2000",
	[PF_STEP_XATTR] = "setxattr /f trusted.a 10 | setxattr /f trusted.b 9000",
	[PF_STEP_CLUSTER] = "names / 485 | create /more; create /more2",
	[PF_STEP_FSYNC_FLUSH] = "store /p 5000 9000",
	[PF_STEP_FSYNC_DRAIN] = "store /p 5000 9000",
	[PF_STEP_ORPHAN_UNLINK] = "hold /f; unlink /f",
	[PF_STEP_ORPHAN_CUT] = "create /s; sparse /s 3600 | insert /s 4096 8192",
	[PF_STEP_ORPHANS] = "create /s; sparse /s 3600 | insert /s 4096 8192",
};

/* ---- mkfs ---- */

struct made { uint64_t states, wrong, after; };

/* What has a superblock is sound, be it the old one or the new. */
static void look(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct fsck f = { .out = fopen("/dev/null", "we") };
	struct made *m = arg;
	struct pf_fs super = { .pm = image };
	const char *why;
	struct pf_fs *fs;
	bool wrong = false;

	(void)fence;
	m->states++;
	if (pf_sb_load(&super, &why) == 0) {
		wrong = core_mount(image, &fs, &why) != 0;
		if (!wrong) {
			core_unmount(fs);
			wrong = fsck_check(&f, image, "image") != FSCK_OK;
		}
	}
	if (wrong && m->wrong++ == 0)
		m->after = m->states;
	(void)fclose(f.out);
}

static struct made remake(void)
{
	struct pf_pm *pm = mem_open(UINT64_C(16) << 20);
	struct pf_mkfs mk = { .label = "old" };
	struct made m = { 0 };
	struct pf_fs *fs;
	const char *why;
	struct crash *c;

	seeded_start(1);
	if (pf_mkfs(pm, &mk) != 0 || core_mount(pm, &fs, &why) != 0)
		abort();
	for (int i = 0; i < 30; i++) {
		char name[16];

		(void)snprintf(name, sizeof name, "/%d", i);
		if (core_create(fs, name) < 0 || core_write(fs, name, 0, "old", 3) != 3)
			abort();
	}
	core_unmount(fs);
	c = crash_attach(pm, look, &m, 24, 1);
	if (pf_mkfs(pm, &mk) != 0)
		abort();
	crash_detach(c);
	mem_close(pm);
	return m;
}

/* ---- all of them ---- */

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

static struct script *read_script(const char *text)
{
	struct script *s = calloc(1, sizeof *s);

	if (s == NULL || !script_read(s, text))
		abort();
	return s;
}

/* After how many states it was missed; 0: it was not. */
static uint64_t missed(int step, char why[512])
{
	struct engine e = { .subsets = 6, .deep = 3, .seed = 1, .quiet = true };
	uint64_t after = 0;

	why[0] = '\0';
	pf_step_out = step;
	if (strcmp(scripts[step], "mkfs") == 0) {
		after = remake().after;
	} else {
		struct script *s = read_script(scripts[step]);

		if (engine_run(&e, s) != 0)
			after = e.why_after + 1;
		(void)snprintf(why, 512, "%s", e.why);
		free(s);
	}
	pf_step_out = PF_STEP_NR;
	return after;
}

static void test_twins(void)
{
	const char *one = getenv("PINFS_CRASH_TWIN");
	char why[512];

	(void)printf("\n");
	for (int i = 0; i < PF_STEP_NR; i++) {
		uint64_t after;
		int saved;

		if (one != NULL && strcmp(one, steps[i].name) != 0)
			continue;
		CU_ASSERT_PTR_NOT_NULL_FATAL(scripts[i]);
		saved = quiet();
		after = missed(i, why);
		loud(saved);
		if (after == 0)
			(void)printf("\tnot missed: %s\n", steps[i].what);
		else
			(void)printf("\t%-14s missed after %4" PRIu64 " states: %s\n", steps[i].name, after,
				     one != NULL ? why : steps[i].what);
		CU_ASSERT(after != 0);
	}
}

/* With all steps taken, the same scripts show nothing. */
static void test_whole(void)
{
	struct engine e = { .subsets = 1, .deep = 64, .seed = 1 };
	struct made m = remake();

	CU_ASSERT_EQUAL(m.wrong, 0);
	CU_ASSERT(m.states != 0);
	for (int i = 0; i < PF_STEP_NR; i++) {
		struct script *s = strcmp(scripts[i], "mkfs") != 0 ? read_script(scripts[i]) : NULL;

		if (s != NULL)
			CU_ASSERT_EQUAL(engine_run(&e, s), 0);
		free(s);
	}
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "no step left out", test_whole },
		{ "each step left out", test_twins },
	};
	int rc;

	pf_log_init("twins", PF_LOG_ERR, false);
	engine_init();
	rc = unit_main("crash/twins", cases, PF_ARRAY_LEN(cases));
	engine_fini();
	return rc;
}
