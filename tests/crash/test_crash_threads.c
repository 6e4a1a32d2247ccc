/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_threads.c - power loss while several threads change the filesystem: each finds its own tree as before or
 * as after the change it was making, and fsck is content with all of them together.
 *
 * The threads work in directories of their own, but on the same inode clusters, map blocks, orphan blocks and lanes;
 * the recorder takes a drain for the stores of the calling thread only, as the hardware does. The twin leaves out the
 * drain behind the store that empties a lane: then a lane may be replayed over what another thread has changed since.
 * Its threads take turns, and lanes, so that it does not hang on luck.
 */
#include "harness/unit.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/journal.h"
#include "media/mkfs.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define BLK PF_BLK_SIZE
#define THREADS 4U
#define STEPS 30U

static uint8_t pattern[16 * 4096];

/* ---- what a thread does: step @i in directory /t<nr> ---- */

/* A ring of four path buffers, for calls with two paths. */
static const char *path(unsigned int nr, const char *name, unsigned int i)
{
	static _Thread_local char buf[4][64];
	static _Thread_local unsigned int at;
	char *p = buf[at++ % 4];

	(void)snprintf(p, sizeof buf[0], "/t%u/%s%u", nr, name, i);
	return p;
}

static void step(struct pf_fs *fs, unsigned int nr, unsigned int i)
{
	const unsigned int round = i / 10;

	switch (i % 10) {
	case 0:
		must(core_create(fs, path(nr, "f", round)));
		break;
	case 1:
		must(core_write(fs, path(nr, "f", round), 0, pattern, 3 * BLK));
		break;
	case 2:
		must(core_mkdir(fs, path(nr, "d", round)));
		break;
	case 3:
		must(core_link(fs, path(nr, "f", round), path(nr, "l", round)));
		break;
	case 4:
		must(core_rename(fs, path(nr, "l", round), path(nr, "m", round), 0));
		break;
	case 5:
		must(core_truncate(fs, path(nr, "f", round), 5000));
		break;
	case 6:
		must(core_unlink(fs, path(nr, "f", round)));
		break;
	case 7:
		must(core_fallocate(fs, path(nr, "m", round), 0, 8 * BLK, 4 * BLK));
		break;
	case 8:
		must(core_rmdir(fs, path(nr, "d", round)));
		break;
	case 9:
		must(core_unlink(fs, path(nr, "m", round)));
		break;
	}
}

/* ---- the states of a thread's directory, taken from a run without crash ---- */

static char *states[STEPS + 1];

/* The lines of /t<nr>, without that prefix. */
static char *part_of(const char *text, unsigned int nr)
{
	char prefix[16], *out = malloc(strlen(text) + 1), *to = out;
	size_t n = (size_t)snprintf(prefix, sizeof prefix, "/t%u", nr);

	if (out == NULL)
		abort();
	for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		if (strncmp(line, prefix, n) != 0)
			continue;
		memcpy(to, line + n, (size_t)(end - line) - n + 1);
		to += (size_t)(end - line) - n + 1;
	}
	*to = '\0';
	return out;
}

static struct pf_fs *fresh(struct pf_pm *pm)
{
	struct pf_mkfs m = { .label = "threads" };
	const char *why;
	struct pf_fs *fs;
	char dir[16];

	must(pf_mkfs(pm, &m));
	must(core_mount(pm, &fs, &why));
	for (unsigned int nr = 0; nr < THREADS; nr++) {
		(void)snprintf(dir, sizeof dir, "/t%u", nr);
		must(core_mkdir(fs, dir));
	}
	return fs;
}

static void find_states(void)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_fs *fs = fresh(pm);
	unsigned int damaged;
	char *text;

	for (unsigned int i = 0; i <= STEPS; i++) {
		if (i != 0)
			step(fs, 0, i - 1);
		text = core_describe(fs, &damaged);
		must(damaged == 0 ? 0 : -1);
		states[i] = part_of(text, 0);
		free(text);
	}
	core_unmount(fs);
	mem_close(pm);
}

/* ---- crashes ---- */

static struct pf_fs *live;
static _Atomic unsigned int done[THREADS];	/* steps that have returned */
static unsigned int images, bad;
static bool want_bad;

static void complain(const char *what, const char *detail)
{
	if (bad++ == 0 && !want_bad)
		(void)printf("%s\n%s\n", what, detail);
}

static void check_fsck(struct pf_pm *image)
{
	char *text = judged_fsck(image);

	if (text != NULL)
		complain("fsck finds problems", text);
	free(text);
}

/* The image was built while all other threads waited at a drain at the latest, so none can be more than one step behind
 * what it has done by now. */
static void check_tree(struct pf_pm *image, const unsigned int *at_least)
{
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	char *text, *part;

	if (core_mount(image, &fs, &why) != 0) {
		complain("mount fails", why);
		return;
	}
	text = core_describe(fs, &damaged);
	if (damaged != 0)
		complain("the tree is damaged", text);
	for (unsigned int nr = 0; nr < THREADS; nr++) {
		unsigned int n = at_least[nr];

		part = part_of(text, nr);
		if (strcmp(part, states[n]) != 0 && (n == STEPS || strcmp(part, states[n + 1]) != 0))
			complain("a thread's tree is neither as before nor as after", text);
		free(part);
	}
	free(text);
	core_unmount(fs);
}

struct job { struct pf_pm *image; unsigned int at_least[THREADS]; };

static void *job_main(void *arg)
{
	struct job *j = arg;

	if (images % 2 == 0)
		check_fsck(j->image);
	check_tree(j->image, j->at_least);
	check_fsck(j->image);
	return NULL;
}

/* Under the recorder's lock: one image at a time. In a thread of its own, as the draining one holds locks. */
static void check_image(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct job j = { .image = image };
	pthread_t t;

	(void)arg;
	(void)fence;
	if (want_bad && bad != 0)
		return;
	for (unsigned int nr = 0; nr < THREADS; nr++)
		j.at_least[nr] = atomic_load(&done[nr]);
	images++;
	if (pthread_create(&t, NULL, job_main, &j) != 0 || pthread_join(t, NULL) != 0)
		abort();
}

static void *worker(void *arg)
{
	unsigned int nr = (unsigned int)(uintptr_t)arg;

	for (unsigned int i = 0; i < STEPS; i++) {
		step(live, nr, i);
		atomic_store(&done[nr], i + 1);
	}
	return NULL;
}

/* A step in a thread of its own: nobody else drains its stores. */
static void *one_step(void *arg)
{
	unsigned int n = (unsigned int)(uintptr_t)arg;

	step(live, n % THREADS, n / THREADS);
	atomic_store(&done[n % THREADS], n / THREADS + 1);
	return NULL;
}

/* As many threads, one step after the other; every other one finds the first lane taken and uses the next. */
static void take_turns(void)
{
	for (unsigned int n = 0; n < THREADS * STEPS; n++) {
		struct pf_tx *tx = NULL;
		pthread_t t;

		if (n % 2 == 1)
			must(pf_tx_begin(live, &tx));
		if (pthread_create(&t, NULL, one_step, (void *)(uintptr_t)n) != 0)
			abort();
		(void)pthread_join(t, NULL);
		if (tx != NULL)
			pf_tx_abort(tx);
	}
}

static void all_at_once(void)
{
	pthread_t t[THREADS];

	for (unsigned int nr = 0; nr < THREADS; nr++)
		if (pthread_create(&t[nr], NULL, worker, (void *)(uintptr_t)nr) != 0)
			abort();
	for (unsigned int nr = 0; nr < THREADS; nr++)
		(void)pthread_join(t[nr], NULL);
}

/* Number of drains. */
static unsigned int crash_run(void (*fn)(void), bool skip_lone)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	unsigned int fences;
	struct crash *c;

	live = fresh(pm);
	images = bad = 0;
	for (unsigned int nr = 0; nr < THREADS; nr++)
		atomic_store(&done[nr], 0);
	c = crash_attach(pm, check_image, NULL, 2, 1);
	if (skip_lone)
		crash_skip_lone(c);
	fn();
	fences = crash_fences(c);
	crash_detach(c);
	core_unmount(live);
	mem_close(pm);
	return fences;
}

static void test_threads(void)
{
	unsigned int fences = crash_run(all_at_once, false);

	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT(fences >= 3 * THREADS * STEPS);
	CU_ASSERT(images >= fences);
	(void)printf("%u images ... ", images);
}

static void test_turns(void)
{
	(void)crash_run(take_turns, false);
	CU_ASSERT_EQUAL(bad, 0);
}

static void test_twin(void)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CU_ASSERT_FATAL(saved >= 0 && null >= 0);
	(void)dup2(null, STDERR_FILENO);
	want_bad = true;
	(void)crash_run(take_turns, true);
	want_bad = false;
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(null);
	CU_ASSERT(bad != 0);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "four threads", test_threads },
		{ "four threads in turn", test_turns },
		{ "twin: a lane is not emptied before its locks are dropped", test_twin },
	};
	int rc;

	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i * 31 + i / 4096 + 1);
	pf_log_init("crash", PF_LOG_ERR, false);
	find_states();
	rc = unit_main("crash threads", cases, PF_ARRAY_LEN(cases));
	for (unsigned int i = 0; i <= STEPS; i++)
		free(states[i]);
	return rc;
}
