/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * many.c - one truncate among thousands that wait: from the unpin that it waits for to its return, beside the same
 * among a hundred.
 *
 * A process of its own truncates, a thread for each file, so that nobody waits for himself; this one holds a pin in
 * each file. Both share what they have to tell each other. The mount is a new one, whose window has a slot for each
 * file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pinfs/pin.h>
#include "pinbench/pinbench.h"

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)
#define SAMPLES 100U
#define FEW 100U
#define STACK ((size_t)64 << 10)
#define SETTLE_NS 2000000L
#define PATIENCE_NS UINT64_C(60000000000)

static unsigned int waiters(const struct pb_env *e, enum pb_subject s)
{
	return SAMPLES + (s == PB_REF ? FEW : e->quick ? 1000 : 10000);
}

struct shared {
	_Atomic uint32_t go;		/* so many files have a pin; futex */
	_Atomic uint32_t started;	/* threads about to truncate */
	_Atomic uint32_t err;
	char dir[160];
	_Atomic uint64_t end_ns[];	/* of each truncate; 0: not yet */
};

static struct shared *sh;

/* ---- the process that truncates ---- */

static void name_of(const char *dir, unsigned int i, char *out, size_t size)
{
	(void)snprintf(out, size, "%s/m%u", dir, i);
}

static void *truncate_one(void *arg)
{
	const unsigned int i = (unsigned int)(uintptr_t)arg;
	char path[192];

	name_of(sh->dir, i, path, sizeof path);
	atomic_fetch_add(&sh->started, 1);
	if (truncate(path, 0) != 0)
		atomic_store(&sh->err, (uint32_t)errno);
	atomic_store(&sh->end_ns[i], pb_now_ns());
	(void)syscall(SYS_futex, &sh->end_ns[i], FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

/* Never returns. It is made before there is a window, and has nothing to do with any. */
static void truncate_all(void)
{
	pthread_attr_t attr;
	pthread_t id;
	uint32_t n;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((n = atomic_load(&sh->go)) == 0)
		(void)syscall(SYS_futex, &sh->go, FUTEX_WAIT, 0, NULL, NULL, 0);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (uint32_t i = 0; i < n; i++) {
		int rc = pthread_create(&id, &attr, truncate_one, (void *)(uintptr_t)i);

		if (rc != 0) {
			atomic_store(&sh->err, (uint32_t)rc);
			break;
		}
	}
	for (;;)
		(void)pause();
}

/* ---- the one that pins ---- */

static void settle(void)
{
	const struct timespec ts = { 0, SETTLE_NS };

	(void)nanosleep(&ts, NULL);
}

struct held { uint8_t *map; struct pinfs_pin *pin; };

static int make_one(unsigned int i, struct held *h)
{
	struct pb_state st = { .fd = -1 };
	char name[32];
	int rc;

	(void)snprintf(name, sizeof name, "m%u", i);
	rc = pb_file_make_at(sh->dir, name, PAGE, &st);
	if (rc == 0)
		rc = pb_file_map(&st);
	if (rc == 0)
		rc = pinfs_pin(st.map, PAGE, PINFS_PIN_WRITE, &h->pin);
	if (st.fd >= 0)
		(void)close(st.fd);
	h->map = st.map;
	return rc;
}

/* Unpin, and wait for the return of the truncate that waited for it. */
static int one_sample(unsigned int i, struct pinfs_pin **pin, double *us)
{
	const uint64_t start = pb_now_ns();
	const struct timespec tick = { 0, 100000000 };
	int rc = pinfs_unpin(*pin);

	*pin = NULL;
	while (rc == 0 && atomic_load(&sh->end_ns[i]) == 0) {
		(void)syscall(SYS_futex, &sh->end_ns[i], FUTEX_WAIT, 0, &tick, NULL, 0);
		if (pb_now_ns() - start > PATIENCE_NS)
			rc = -ETIMEDOUT;
	}
	*us = (double)(atomic_load(&sh->end_ns[i]) - start) / 1e3;
	return rc != 0 ? rc : -(int)atomic_load(&sh->err);
}

static int samples(unsigned int n, struct held *h, double *out)
{
	const uint64_t until = pb_now_ns() + PATIENCE_NS;
	const unsigned int step = n / SAMPLES;
	double v[SAMPLES] = { 0 };
	int rc = 0;

	atomic_store(&sh->go, n);
	(void)syscall(SYS_futex, &sh->go, FUTEX_WAKE, 1, NULL, NULL, 0);
	while (atomic_load(&sh->started) < n && atomic_load(&sh->err) == 0 && pb_now_ns() < until)
		settle();
	if (atomic_load(&sh->started) < n)
		return atomic_load(&sh->err) != 0 ? -(int)atomic_load(&sh->err) : -ETIMEDOUT;
	for (int i = 0; i < 100; i++)
		settle();		/* the last ones are on their way */
	/* Spread over those that wait, whatever order they are kept in. */
	for (unsigned int k = 0; rc == 0 && k < SAMPLES; k++) {
		const unsigned int i = k * step;

		settle();
		rc = one_sample(i, &h[i].pin, &v[k]);
	}
	/* The two sides are seconds apart, so a busy machine shall matter little: what a quarter took at most. */
	(void)pb_median(v, SAMPLES);
	*out = v[SAMPLES / 4];
	return rc;
}

static int run_one_of(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	const unsigned int n = waiters(e, s);
	const size_t bytes = sizeof *sh + n * sizeof sh->end_ns[0];
	struct held *h = calloc(n, sizeof *h);
	int rc = -ENOMEM;
	pid_t pid = -1;

	(void)st;
	sh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (h == NULL || sh == MAP_FAILED)
		goto out;
	pid = fork();
	if (pid == 0)
		truncate_all();
	rc = pid < 0 ? -errno : pb_more_up(e, (n + 64) * CHUNK, (size_t)1 << 30, sh->dir, sizeof sh->dir);
	for (unsigned int i = 0; rc == 0 && i < n; i++)
		rc = make_one(i, &h[i]);
	if (rc == 0)
		rc = samples(n, h, out);
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	for (unsigned int i = 0; i < n; i++) {
		if (h[i].pin != NULL)
			(void)pinfs_unpin(h[i].pin);
		if (h[i].map != NULL)
			(void)munmap(h[i].map, PAGE);
	}
	pb_more_down();
out:
	free(h);
	if (sh != MAP_FAILED)
		(void)munmap(sh, bytes);
	return rc;
}

const struct pb_case pb_many_cases[] = {
	{ .name = "wait.one_of_10k", .what = "unpin until its truncate has returned, while 10,000 others wait",
	  .unit = PB_US, .subjects = PB_TWO, .ref = "100 wait", .aim = PB_AIM_RATIO_MAX, .limit = 1.5, .once = true,
	  .run = run_one_of },
};
const size_t pb_many_count = sizeof pb_many_cases / sizeof pb_many_cases[0];
