/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_budget.c - a window smaller than the file, on a real mount: a hundred times more file than window under many
 * threads, with pins that stay and pins that come and go, and what a program and pinfsctl(1) see when nothing is left.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <pinfs/pin.h>

#define PAGE 4096UL
#define CHUNK (2UL << 20)
#define CHUNKS 400UL			/* of the file: 800 MiB */
#define BYTES (CHUNKS * CHUNK)

struct play {
	struct pt_fs *fs;
	int fd;
	char *p;
};

static void begin(struct play *b, const char *opts)
{
	struct pinfs_range_info ri;

	b->fs = pt_fs_start("128M", opts);
	b->fd = open(pt_path(b->fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(b->fd);
	PT_SYS_FATAL(ftruncate(b->fd, (off_t)BYTES));
	b->p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	CU_ASSERT_FATAL(b->p != MAP_FAILED);
	PT_EQ(pinfs_range_query(b->p, BYTES, &ri), 0);
}

static void end(struct play *b)
{
	munmap(b->p, BYTES);
	close(b->fd);
	pt_fs_end(b->fs);
}

/* A counter in each chunk, in a page of its own choice. */
static uint64_t place(size_t chunk)
{
	return chunk * CHUNK + chunk * 7 % 512 * PAGE + 64;
}

static _Atomic uint64_t *word(const struct play *b, size_t chunk)
{
	return (void *)(b->p + place(chunk));
}

/* As a program without the library sees it. */
static uint64_t sum(const struct play *b)
{
	uint64_t total = 0, v;

	for (size_t c = 0; c < CHUNKS; c++) {
		PT_EQ(pread(b->fd, &v, sizeof v, (off_t)place(c)), (ssize_t)sizeof v);
		total += v;
	}
	return total;
}

/* A number of a process's session in `pinfsctl --json status`; -1: it has none. */
static int64_t status_of(const struct pt_fs *fs, pid_t pid, const char *what)
{
	const char *const argv[] = { pt_program("pinfsctl"), "--json", "status", fs->mnt, NULL };
	static char out[1 << 16];
	struct json_object *root, *list, *s, *v;
	int64_t n = -1;

	PT_EQ(pt_run(out, sizeof out, 60000, argv), 0);
	root = json_tokener_parse(out);
	if (!json_object_object_get_ex(root, "sessions", &list))
		list = NULL;
	/* A child that is about to run a program may have one, too. */
	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
		s = json_object_array_get_idx(list, i);
		if (json_object_object_get_ex(s, "pid", &v) && json_object_get_int(v) == (int)pid &&
		    json_object_object_get_ex(s, what, &v))
			n = json_object_get_int64(v);
	}
	json_object_put(root);
	return n;
}

static int64_t status(const struct play *b, const char *what)
{
	return status_of(b->fs, getpid(), what);
}

/* ---- threads ---- */

struct worker {
	const struct play *b;
	pthread_t t;
	unsigned int seed, rounds, pins;
	int err;			/* the first */
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct pinfs_pin *pin;

	for (unsigned int i = 0; i < w->rounds && w->err == 0; i++) {
		size_t c = (size_t)rand_r(&w->seed) % CHUNKS;
		bool pins = w->pins != 0 && i % w->pins == 0;

		if (pins)
			w->err = pinfs_pin(word(w->b, c), 8, PINFS_PIN_WRITE, &pin);
		if (w->err == 0)
			(void)atomic_fetch_add(word(w->b, c), 1);
		if (pins && w->err == 0) {
			usleep(200);
			w->err = pinfs_unpin(pin);
		}
	}
	return NULL;
}

static uint64_t crowd(const struct play *b, unsigned int n, unsigned int rounds, unsigned int pins)
{
	struct worker *w = calloc(n, sizeof *w);

	for (unsigned int i = 0; i < n; i++) {
		w[i] = (struct worker){ .b = b, .seed = i + 1, .rounds = rounds, .pins = pins };
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(w[i].t, NULL);
		PT_EQ(w[i].err, 0);
	}
	free(w);
	return n * rounds;
}

static void hundred_times(void)
{
	struct play b;
	uint64_t n;

	begin(&b, "window=8M");
	n = crowd(&b, 16, 300, 0);
	PT_EQ(sum(&b), n);
	CU_ASSERT(status(&b, "slots_used") <= 4);
	PT_EQ(status(&b, "refused"), 0);
	CU_ASSERT(status(&b, "faults") > 1000);
	CU_ASSERT(status(&b, "reclaims") + status(&b, "reclaims_ahead") > 1000);
	pt_say("%lld faults, %lld waited for a slot, %lld slots taken back", (long long)status(&b, "faults"),
	       (long long)status(&b, "starved"), (long long)status(&b, "reclaims"));
	end(&b);
}

/* With room for the worker that takes slots back ahead of need. */
static void with_worker(void)
{
	struct play b;
	uint64_t n;

	begin(&b, "window=64M");
	n = crowd(&b, 4, 1000, 0);
	PT_EQ(sum(&b), n);
	CU_ASSERT(status(&b, "slots_used") <= 32);
	CU_ASSERT(status(&b, "reclaims_ahead") > 0);
	pt_say("%lld faults, %lld waited for a slot, %lld + %lld slots taken back", (long long)status(&b, "faults"),
	       (long long)status(&b, "starved"), (long long)status(&b, "reclaims"),
	       (long long)status(&b, "reclaims_ahead"));
	end(&b);
}

/* Pins on all slots but one, of which a device knows the addresses. */
static void one_left(void)
{
	struct pinfs_sg sg[7];
	struct pinfs_pin *pin[7];
	struct play b;
	uint64_t n, v;
	size_t one;
	int dev;

	begin(&b, "window=16M");
	for (size_t i = 0; i < 7; i++) {
		one = 1;
		PT_EQ(pinfs_pin_sg(word(&b, i), 8, PINFS_PIN_WRITE, &sg[i], &one, &pin[i]), 0);
	}
	dev = pinfs_device(b.p);
	PT_SYS_FATAL(dev);
	n = crowd(&b, 8, 200, 0);
	PT_EQ(sum(&b), n);
	for (size_t i = 0; i < 7; i++) {
		PT_EQ(pread(dev, &v, sizeof v, (off_t)sg[i].sg_doff), (ssize_t)sizeof v);
		PT_EQ(v, atomic_load(word(&b, i)));
		v = 1000 + i;
		PT_EQ(pwrite(dev, &v, sizeof v, (off_t)sg[i].sg_doff), (ssize_t)sizeof v);
		PT_EQ(atomic_load(word(&b, i)), v);
		PT_EQ(pinfs_unpin(pin[i]), 0);
	}
	PT_EQ(status(&b, "refused"), 0);
	close(dev);
	end(&b);
}

/* More threads than slots pin here and there: all slots are pinned often, never for long. */
static void pins_that_pass(void)
{
	struct play b;
	uint64_t n;

	begin(&b, "window=8M");
	n = crowd(&b, 6, 150, 2);
	PT_EQ(sum(&b), n);
	PT_EQ(status(&b, "refused"), 0);
	end(&b);
}

/* The file is cut and grows again meanwhile: nobody hangs, and nothing of what was cut comes back. */
static void cut_meanwhile(void)
{
	struct worker w[4];
	struct play b;

	begin(&b, "window=8M");
	for (unsigned int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .b = &b, .seed = i + 1, .rounds = 300, .pins = 7 };
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (size_t i = 0; i < 60; i++)
		PT_EQ(fallocate(b.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(i * 5 * CHUNK),
				(off_t)(8 * CHUNK)), 0);
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(w[i].t, NULL);
		PT_EQ(w[i].err, 0);
	}
	PT_EQ(fallocate(b.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BYTES), 0);
	PT_EQ(sum(&b), 0);
	for (size_t c = 0; c < CHUNKS; c += 13)
		PT_EQ(atomic_load(word(&b, c)), 0);
	end(&b);
}

/* ---- nothing left ---- */

static sigjmp_buf escape;

static void on_fault(int sig)
{
	siglongjmp(escape, sig);
}

static int touch(_Atomic uint64_t *p)
{
	struct sigaction sa = { .sa_handler = on_fault }, old;
	int sig;

	sigaction(SIGBUS, &sa, &old);
	sig = sigsetjmp(escape, 1);
	if (sig == 0)
		(void)atomic_fetch_add(p, 1);
	sigaction(SIGBUS, &old, NULL);
	return sig;
}

static void none_left(void)
{
	struct pinfs_pin *pin[3], *all = NULL;
	struct play b;
	int64_t starved;

	begin(&b, "window=4M");
	PT_EQ(pinfs_pin(word(&b, 0), 8, PINFS_PIN_WRITE, &pin[0]), 0);
	PT_EQ(pinfs_pin(word(&b, 1), 8, PINFS_PIN_WRITE, &pin[1]), 0);
	PT_EQ(touch(word(&b, 9)), SIGBUS);
	PT_EQ(pinfs_pin(word(&b, 9), 8, PINFS_PIN_WRITE, &pin[2]), -EDEADLK);
	CU_ASSERT(status(&b, "refused") >= 2);
	PT_EQ(touch(word(&b, 1)), 0);
	PT_EQ(pinfs_unpin(pin[0]), 0);
	PT_EQ(pinfs_pin(word(&b, 9), 8, PINFS_PIN_WRITE, &pin[2]), 0);
	PT_EQ(pinfs_unpin(pin[1]), 0);
	PT_EQ(touch(word(&b, 10)), 0);
	PT_EQ(pinfs_unpin(pin[2]), 0);
	/* More than there will ever be: at once. */
	starved = status(&b, "starved");
	PT_EQ(pinfs_pin(b.p, 3 * CHUNK, PINFS_PIN_WRITE, &all), -EBUSY);
	PT_EQ(status(&b, "starved"), starved);
	PT_EQ(status(&b, "pins"), 0);
	PT_EQ(touch(word(&b, 3)), 0);
	end(&b);
}

/* ---- a process that waits for itself ---- */

static struct pt_fs *alone_fs;

/* In a process with one thread: both slots of its window pinned. */
static int pin_both(char **p, struct pinfs_pin *pin[2])
{
	int fd = open(pt_path(alone_fs, "g"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	NEED(fd >= 0 && ftruncate(fd, 4 * CHUNK) == 0);
	*p = child_map(fd, 4 * CHUNK);
	NEED(*p != NULL);
	for (size_t i = 0; i < 2; i++)
		NEED(pinfs_pin(*p + i * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[i]) == 0);
	return 0;
}

static int by_itself(void *arg)
{
	struct pinfs_pin *pin[3];
	char *p = NULL;

	(void)arg;
	if (pin_both(&p, pin) != 0)
		return 1;
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == -EDEADLK);
	NEED(pinfs_unpin(pin[1]) == 0);
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == 0);
	return 0;
}

static void deadlock(void)
{
	char line[512];

	alone_fs = pt_fs_start("64M", "window=4M");
	child_play(by_itself, NULL);
	(void)snprintf(line, sizeof line, "all 2 slots of the window are pinned: a pin of inode 12 (%s) at 4194304 by "
		       "pid ", pt_path(alone_fs, "g"));
	CU_ASSERT_PTR_NOT_NULL(strstr(child_said(), line));
	CU_ASSERT_PTR_NOT_NULL(strstr(child_said(), " (test_budget), thread "));
	CU_ASSERT_PTR_NOT_NULL(strstr(child_said(), " (test_budget) itself: pinfs_pin of thread "));
	CU_ASSERT_PTR_NOT_NULL(strstr(child_said(), " on inode 12 at 0, pinfs_pin of thread "));
	CU_ASSERT_PTR_NOT_NULL(strstr(child_said(), " on inode 12 at 2097152"));
	pt_fs_end(alone_fs);
}

static void nothing(int sig)
{
	(void)sig;
}

static void *unpin_later(void *arg)
{
	pt_sleep_ms(1500);
	return pinfs_unpin(arg) == 0 ? NULL : arg;
}

static int as_linux(void *arg)
{
	struct itimerval often = { { 0, 100000 }, { 0, 100000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = nothing };
	struct pinfs_pin *pin[3];
	pthread_t t;
	void *bad;
	char *p = NULL;

	(void)arg;
	if (pin_both(&p, pin) != 0)
		return 1;
	NEED(sigaction(SIGALRM, &sa, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == -EINTR);
	NEED(setitimer(ITIMER_REAL, &never, NULL) == 0);
	/* Longer than a second, and it is had. */
	NEED(pthread_create(&t, NULL, unpin_later, pin[0]) == 0);
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == 0);
	NEED(pthread_join(t, &bad) == 0 && bad == NULL);
	return 0;
}

/* The same process where it shall wait, as it would in Linux: until a signal comes, or a pin ends. */
static void deadlock_waits(void)
{
	alone_fs = pt_fs_start("64M", "window=4M,deadlock=wait");
	child_play(as_linux, NULL);
	pt_fs_end(alone_fs);
}

static int rule(const char *setting)
{
	const char *const argv[] = { pt_program("pinfsctl"), "set", alone_fs->mnt, setting, NULL };
	char out[256];

	return pt_run(out, sizeof out, 60000, argv);
}

/* @arg: tells how often it had waited, plus one, before it waits for the last time. */
static int as_told(void *arg)
{
	struct itimerval often = { { 0, 100000 }, { 0, 100000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = nothing };
	_Atomic int64_t *before = arg;
	struct pinfs_pin *pin[3];
	char *p = NULL;

	if (pin_both(&p, pin) != 0)
		return 1;
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == -EDEADLK);
	NEED(rule("deadlock=wait") == 0);
	NEED(sigaction(SIGALRM, &sa, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == -EINTR);
	NEED(setitimer(ITIMER_REAL, &never, NULL) == 0);
	atomic_store(before, status_of(alone_fs, getpid(), "starved") + 1);
	NEED(pinfs_pin(p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin[2]) == -EDEADLK);
	return 0;
}

/* The mount's rule changes under a process that has a window: for what it asks next, and while it waits. */
static void deadlock_set(void)
{
	void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_Atomic int64_t *before = shared;
	uint64_t until = 0;
	pid_t pid;

	CU_ASSERT_FATAL(shared != MAP_FAILED);
	alone_fs = pt_fs_start("64M", "window=4M");
	pid = child_start(as_told, shared);
	while ((atomic_load(before) == 0 || status_of(alone_fs, pid, "starved") < atomic_load(before)) &&
	       pt_wait_on(&until))
		;
	PT_EQ(status_of(alone_fs, pid, "refused"), 1);
	PT_EQ(rule("deadlock=detect"), 0);
	PT_EQ(child_end(pid), 0);
	pt_fs_end(alone_fs);
	(void)munmap(shared, PAGE);
}

struct taker {
	char *p;
	int fd;
	long r;
};

static void *read_slowly(void *arg)
{
	struct taker *t = arg;

	t->r = pread(t->fd, t->p, PAGE, 0);
	return NULL;
}

static void *pin_third(void *arg)
{
	struct taker *t = arg;
	struct pinfs_pin *pin;

	t->r = pinfs_pin(t->p + 2 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin);
	if (t->r == 0)
		t->r = pinfs_unpin(pin);
	return NULL;
}

/* One of the slots belongs to a transfer, which will end: that is waited for, however long it takes. */
static void slot_of_a_transfer(void)
{
	struct taker reader, third;
	struct slow *slow;
	struct pinfs_pin *pin;
	pthread_t a, b;
	struct play w;

	begin(&w, "window=4M");
	slow = slow_start();
	if (slow == NULL) {
		end(&w);
		return;
	}
	slow_hold(slow, true);
	PT_EQ(pinfs_pin(w.p + CHUNK, PAGE, PINFS_PIN_WRITE, &pin), 0);
	reader = (struct taker){ .p = w.p, .fd = open(slow_path(slow), O_RDONLY | O_DIRECT | O_CLOEXEC) };
	third = (struct taker){ .p = w.p };
	PT_SYS_FATAL(reader.fd);
	PT_EQ(pthread_create(&a, NULL, read_slowly, &reader), 0);
	CU_ASSERT(slow_await(slow, 1));
	PT_EQ(pthread_create(&b, NULL, pin_third, &third), 0);
	for (int i = 0; i < 3000 && status(&w, "starved") == 0; i++)
		pt_sleep_ms(10);
	CU_ASSERT(status(&w, "starved") >= 1);
	pt_sleep_ms(1500);			/* it would have been refused by then */
	slow_release(slow, 0);
	PT_EQ(pthread_join(b, NULL), 0);
	PT_EQ(pthread_join(a, NULL), 0);
	PT_EQ(reader.r, PAGE);
	PT_EQ(third.r, 0);
	PT_EQ(status(&w, "refused"), 0);
	PT_EQ(pinfs_unpin(pin), 0);
	(void)close(reader.fd);
	slow_end(slow);
	end(&w);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "a hundred times the window", hundred_times, 280 },
		{ "slots ahead of need", with_worker, 280 },
		{ "all slots but one pinned", one_left, 280 },
		{ "pins that pass", pins_that_pass, 280 },
		{ "cut meanwhile", cut_meanwhile, 280 },
		{ "all slots pinned", none_left, 0 },
		{ "waiting for itself", deadlock, 0 },
		{ "waiting for itself, as Linux", deadlock_waits, 0 },
		{ "waiting for itself, as told meanwhile", deadlock_set, 0 },
		{ "a slot of a transfer", slot_of_a_transfer, 0 },
	};
	const struct pt_suite suite = { "budget", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
