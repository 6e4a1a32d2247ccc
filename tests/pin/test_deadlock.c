/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_deadlock.c - waits that could never end are found and end with EDEADLK; those that may end are left alone; and
 * with deadlock=wait all of them wait, as in Linux. Also fairness: who is first, pins that come later or the truncate.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/stage.h"

#define K UINT64_C(1024)

static struct pt_fs *fs;
static char f[STAGE_PATH], g[STAGE_PATH], h[STAGE_PATH];

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	stage_file(fs, "g", g);
	stage_file(fs, "h", h);
	return true;
}

/* By each way to the daemon: with the kernel's inode lock, without it, and with a descriptor. */
static void itself(void)
{
	struct actor *a;

	if (!begin(NULL))
		return;
	a = stage_holder(f, 0, 4096);
	PT_EQ(actor_do(a, act_truncate(f, 0)), -EDEADLK);
	PT_EQ(actor_do(a, act_open_trunc(f)), -EDEADLK);
	PT_EQ(actor_do(a, act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)), -EDEADLK);
	PT_EQ(stage_size(f), F_LEN);
	PT_EQ(actor_do(a, act_load(0, 0)), 'o');
	PT_EQ(actor_do(a, act_truncate(f, 4096)), 0);		/* not in its own way */
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_do(a, act_truncate(f, 0)), 0);
	actor_end(a);
	pt_fs_end(fs);
}

/* The twin: it is the detection that ends these waits, nothing else. */
static void itself_as_linux(void)
{
	struct actor *a;

	if (!begin("deadlock=wait"))
		return;
	a = stage_holder(f, 0, 4096);
	actor_send(a, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_result(a, 1000), -EINPROGRESS);		/* ten times as long as the first look takes */
	actor_kill(a);
	CU_ASSERT(look_until(fs, 0, 0, NULL));
	pt_fs_end(fs);
}

/* Each holds what the next one wants. The last to come closes the circle, and is the one that fails. */
static void circle(unsigned int n)
{
	const char *const path[] = { f, g, h };
	struct actor *a[3];
	unsigned int i;

	for (i = 0; i < n; i++)
		a[i] = stage_holder(path[i], 0, 4096);
	for (i = 0; i + 1 < n; i++) {
		actor_send(a[i], act_truncate(path[i + 1], 0));
		CU_ASSERT(look_until(fs, i + 1, i + 1, NULL));
	}
	PT_EQ(actor_do(a[n - 1], act_truncate(path[0], 0)), -EDEADLK);
	/* It lets go, and the others come through, one after the other. */
	PT_EQ(actor_do(a[n - 1], act_unpin(0)), 0);
	for (i = n - 1; i-- > 0;) {
		PT_EQ(actor_result(a[i], SOON_MS), 0);
		PT_EQ(actor_do(a[i], act_unpin(0)), 0);
	}
	for (i = 0; i < n; i++)
		actor_end(a[i]);
}

static void two(void)
{
	if (!begin(NULL))
		return;
	circle(2);
	pt_fs_end(fs);
}

static void three(void)
{
	if (!begin(NULL))
		return;
	circle(3);
	pt_fs_end(fs);
}

/*
 * The truncate is first; then the holder wants to write to the file, or to make it durable, and queues behind it in the
 * kernel, from where it cannot be called back. The truncate has to give way.
 */
static void in_the_kernel(void)
{
	struct actor *a, *c;

	if (!begin(NULL))
		return;
	a = stage_holder(f, 0, 4096);
	c = actor_new();
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_write(f, 8 * K, 4096, 'w')), 4096);
	PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
	actor_send(c, act_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_fallocate(f, 0, 0, 2 * F_LEN)), 0);
	PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
	PT_EQ(actor_do(a, act_load(0, 8 * K)), 'w');
	/* A write to another file is no reason. */
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_write(g, 0, 4096, 'w')), 4096);
	PT_EQ(actor_result(c, 1000), -EINPROGRESS);
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(a);
	actor_end(c);
	pt_fs_end(fs);
}

/* A process with two threads: one truncates what it has pinned itself, the other ends the pin when it sees it wait. */
static void *unpin_when_it_waits(void *arg)
{
	struct look l;
	const uint64_t end = pt_now_ms() + SOON_MS;

	do
		pt_sleep_ms(10);
	while (look(fs, &l) && l.nwait_pins != 1 && pt_now_ms() < end);
	pt_sleep_ms(300);		/* time for a wrong answer: three looks */
	(void)pinfs_unpin(arg);
	return NULL;
}

static int two_threads(void *arg)
{
	int fd = open(f, O_RDWR | O_CLOEXEC), rc;
	void *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct pinfs_pin *pin;
	pthread_t t;

	(void)arg;
	if (p == MAP_FAILED || pinfs_pin(p, 4096, PINFS_PIN_WRITE, &pin) != 0 ||
	    pthread_create(&t, NULL, unpin_when_it_waits, pin) != 0)
		return 1;
	rc = ftruncate(fd, 0) == 0 ? 0 : errno;
	(void)pthread_join(t, NULL);
	return rc;
}

static void not_a_deadlock(void)
{
	if (!begin(NULL))
		return;
	PT_EQ(pt_wait(pt_fork(two_threads, NULL), 2 * SOON_MS), 0);
	PT_EQ(stage_size(f), 0);
	pt_fs_end(fs);
}

/* A stream of pins that overlap: each new one is there before the last is gone. Do they get in before a truncate? */
static void stream(bool fair)
{
	struct actor *a = stage_holder(f, 0, 4096), *b = actor_new(), *c = actor_new();
	unsigned int got = 0;
	long rc;

	PT_EQ(actor_map_file(b, 0, f, F_LEN), 0);
	PT_EQ(actor_do(b, act_load(0, 0)), 'o');
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	for (unsigned int i = 0; i < 10; i++) {
		struct actor *next = i % 2 == 0 ? b : a, *last = i % 2 == 0 ? a : b;

		rc = actor_do(next, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE | PINFS_PIN_NOWAIT));
		if (rc != 0) {
			PT_EQ(rc, -EAGAIN);
			break;
		}
		PT_EQ(actor_do(last, act_unpin(0)), 0);
		got++;
	}
	PT_EQ(got, fair ? 0 : 10);
	if (!fair) {
		CU_ASSERT(look_until(fs, 1, 1, NULL));		/* it starves */
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
	}
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(a);
	actor_end(b);
	actor_end(c);
}

static void fair(void)
{
	if (!begin("fair=yes"))
		return;
	stream(true);
	pt_fs_end(fs);
}

static void unfair(void)
{
	if (!begin("fair=no"))
		return;
	stream(false);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "itself", itself, 0 },
		{ "itself, as Linux", itself_as_linux, 0 },
		{ "two", two, 0 },
		{ "three", three, 0 },
		{ "in the kernel", in_the_kernel, 0 },
		{ "not a deadlock", not_a_deadlock, 0 },
		{ "fair", fair, 0 },
		{ "unfair", unfair, 0 },
	};
	static const struct pt_suite suites[] = { { "deadlock", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
