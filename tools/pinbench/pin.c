/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.c - cases of pins and of truncates that wait for them, or need not.
 *
 * The reference of a pin is what the machine charges for the same thing at least: a pair of atomic additions, one
 * round trip to the daemon, or the same call with nothing mapped.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "pinbench/pinbench.h"

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)
#define PAUSE_NS 3000000L	/* long enough for a truncate to reach the daemon and park */

/* All subjects of a pin case live on pinfs. */
static int setup_some(const struct pb_env *e, enum pb_subject s, struct pb_state *st, size_t len)
{
	char name[16];
	int rc;

	(void)snprintf(name, sizeof name, "pin%d", (int)s);
	rc = pb_file_make(e, PB_PINFS, name, len, st);
	if (rc == 0)
		rc = pb_file_map(st);
	if (rc == 0)
		for (size_t off = 0; off < st->len; off += PAGE)
			*(volatile uint8_t *)(st->map + off) = 1;
	return rc;
}

static int setup_pin(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	return setup_some(e, s, st, 2 * CHUNK);
}

/* A chunk more than a thread remembers: the first and the last are forgotten for each other. */
#define REMEMBERED 64U
static int setup_forgetful(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	int rc = setup_some(e, s, st, (REMEMBERED + 1) * CHUNK);

	if (rc != 0)
		return rc;
	st->buf = malloc(16 * PAGE);
	if (st->buf == NULL)
		return -ENOMEM;
	memset(st->buf, 1, 16 * PAGE);
	return 0;
}

static size_t pairs(const struct pb_env *e)
{
	return e->quick ? 100000 : 500000;
}

static int pin_loop(const void *addr, size_t len, size_t n)
{
	struct pinfs_pin *pin;
	int rc;

	for (size_t i = 0; i < n; i++) {
		rc = pinfs_pin(addr, len, PINFS_PIN_WRITE, &pin);
		if (rc == 0)
			rc = pinfs_unpin(pin);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Processor time: a fast pin never waits, and whether the thread was running all the time says nothing about it. */
static int time_pins(const void *addr, size_t len, size_t n, double *ns)
{
	uint64_t t = pb_cpu_ns();
	int rc = pin_loop(addr, len, n);

	*ns = (double)(pb_cpu_ns() - t) / (double)n;
	return rc;
}

static double time_atomic_pairs(size_t n)
{
	static _Atomic uint32_t counter;
	uint64_t t = pb_cpu_ns();

	for (size_t i = 0; i < n; i++) {
		(void)atomic_fetch_add(&counter, 1);
		(void)atomic_fetch_sub(&counter, 1);
	}
	return (double)(pb_cpu_ns() - t) / (double)n;
}

static int run_pin_1t(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	if (s == PB_PINFS)
		return time_pins(st->map, PAGE, pairs(e), out);
	*out = time_atomic_pairs(pairs(e));
	return 0;
}

static int run_pin_64k(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return time_pins(st->map, 16 * PAGE, pairs(e) / 4, out);
}

static int run_pin_chunk(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	/* Mappings are 2 MiB aligned where the library can; a whole slot then takes one counter. */
	return time_pins(st->map, s == PB_REF ? PAGE : CHUNK, pairs(e), out);
}

/* @apart 0: the fast path. Else the chunk is never one that the thread remembers: the slow one. @copy: the transfer. */
static int pin_apart(const struct pb_state *st, size_t apart, size_t len, bool copy, size_t n, double *ns)
{
	struct pinfs_pin *pin;
	uint64_t t = pb_cpu_ns();
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint8_t *at = st->map + i % 2 * apart;

		rc = pinfs_pin(at, len, PINFS_PIN_WRITE, &pin);
		if (rc != 0)
			break;
		if (copy)
			memcpy(at, st->buf, len);
		rc = pinfs_unpin(pin);
	}
	*ns = (double)(pb_cpu_ns() - t) / (double)n;
	return rc;
}

static int run_pin_forgotten(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	return pin_apart(st, s == PB_REF ? 0 : REMEMBERED * CHUNK, PAGE, false, pairs(e) / 10, out);
}

static int run_pin_transfer(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	return pin_apart(st, s == PB_REF ? 0 : REMEMBERED * CHUNK, 16 * PAGE, true, pairs(e) / 50, out);
}

struct pin_thread {
	pthread_t id;
	pthread_barrier_t *start;
	const void *addr;
	size_t n;
	double ns;
	int rc;
};

static void *pin_thread(void *arg)
{
	struct pin_thread *t = arg;

	(void)pthread_barrier_wait(t->start);
	t->rc = time_pins(t->addr, PAGE, t->n, &t->ns);
	return NULL;
}

/* Two threads, @apart bytes from each other: mean ns of a pair as one thread sees it. */
static int two_threads(const struct pb_env *e, const uint8_t *addr, size_t apart, double *out)
{
	pthread_barrier_t start;
	struct pin_thread t[2];
	int rc = pthread_barrier_init(&start, NULL, 2);

	if (rc != 0)
		return -rc;
	for (size_t i = 0; i < 2; i++)
		t[i] = (struct pin_thread){ .start = &start, .addr = addr + i * apart, .n = pairs(e) };
	rc = pthread_create(&t[1].id, NULL, pin_thread, &t[1]);
	if (rc == 0) {
		(void)pin_thread(&t[0]);
		(void)pthread_join(t[1].id, NULL);
		rc = t[0].rc != 0 ? t[0].rc : t[1].rc;
		*out = (t[0].ns + t[1].ns) / 2;
	} else {
		rc = -rc;
	}
	(void)pthread_barrier_destroy(&start);
	return rc;
}

static int run_pin_2t(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	if (s == PB_REF)
		return time_pins(st->map, PAGE, pairs(e), out);
	return two_threads(e, st->map, CHUNK, out);
}

static int run_pin_2t_chunk(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	if (s == PB_REF)
		return time_pins(st->map, PAGE, pairs(e), out);
	return two_threads(e, st->map, 64 * PAGE, out);
}

static int round_trips(int fd, size_t n, double *us)
{
	struct pinfs_sock so;
	uint64_t t = pb_now_ns();

	for (size_t i = 0; i < n; i++)
		if (ioctl(fd, PINFS_IOC_SOCK, &so) != 0)
			return -errno;
	*us = (double)(pb_now_ns() - t) / 1e3 / (double)n;
	return 0;
}

static int run_round_trip(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return round_trips(st->fd, e->quick ? 2000 : 10000, out);
}

static void pause_a_little(void)
{
	const struct timespec ts = { 0, PAUSE_NS };

	(void)nanosleep(&ts, NULL);
}

struct cutter {
	pthread_t id;
	int fd;
	off_t size;
	uint64_t end_ns;
	_Atomic int done;
	int rc;
};

static void *cutter_main(void *arg)
{
	struct cutter *c = arg;

	c->rc = ftruncate(c->fd, c->size) != 0 ? -errno : 0;
	c->end_ns = pb_now_ns();
	atomic_store(&c->done, 1);
	return NULL;
}

/* A truncate on its way; when this returns 0 it waits for a pin. -EOPNOTSUPP: it did not wait (another policy). */
static int cutter_start(struct cutter *c, int fd, off_t size)
{
	int rc;

	*c = (struct cutter){ .fd = fd, .size = size };
	rc = pthread_create(&c->id, NULL, cutter_main, c);
	if (rc != 0)
		return -rc;
	pause_a_little();
	if (!atomic_load(&c->done))
		return 0;
	(void)pthread_join(c->id, NULL);
	return -EOPNOTSUPP;
}

/* Pins of a slot that a waiting truncate has frozen, outside of what it cuts. */
static int run_pin_slow(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	struct pinfs_pin *held;
	struct cutter c;
	size_t n = e->quick ? 1000 : 4000;
	uint64_t t;
	int rc;

	if (s == PB_REF)
		return round_trips(st->fd, n, out);
	if (ftruncate(st->fd, (off_t)st->len) != 0)
		return -errno;
	rc = pinfs_pin(st->map + 300 * PAGE, PAGE, PINFS_PIN_WRITE, &held);
	if (rc != 0)
		return rc;
	rc = cutter_start(&c, st->fd, (off_t)(256 * PAGE));
	if (rc != 0) {
		(void)pinfs_unpin(held);
		return rc;
	}
	t = pb_now_ns();
	rc = pin_loop(st->map, PAGE, n);
	*out = (double)(pb_now_ns() - t) / 1e3 / (double)n;
	(void)pinfs_unpin(held);
	(void)pthread_join(c.id, NULL);
	return rc != 0 ? rc : c.rc;
}

static int unpin_to_truncate_once(struct pb_state *st, double *us)
{
	struct pinfs_pin *pin;
	struct cutter c;
	uint64_t t;
	int rc;

	if (ftruncate(st->fd, (off_t)PAGE) != 0)
		return -errno;
	rc = pinfs_pin(st->map, PAGE, PINFS_PIN_WRITE, &pin);
	if (rc != 0)
		return rc;
	rc = cutter_start(&c, st->fd, 0);
	t = pb_now_ns();
	(void)pinfs_unpin(pin);
	if (rc != 0)
		return rc;
	(void)pthread_join(c.id, NULL);
	*us = (double)(c.end_ns - t) / 1e3;
	return c.rc;
}

static int round_trip_once(struct pb_state *st, double *us)
{
	pause_a_little();
	return round_trips(st->fd, 1, us);
}

/* The same truncate, of a page that was stored to, with no pin in its way. */
static int truncate_once(struct pb_state *st, double *us)
{
	uint64_t t;

	if (ftruncate(st->fd, (off_t)PAGE) != 0)
		return -errno;
	*(volatile uint8_t *)st->map = 1;
	pause_a_little();
	t = pb_now_ns();
	if (ftruncate(st->fd, 0) != 0)
		return -errno;
	*us = (double)(pb_now_ns() - t) / 1e3;
	return 0;
}

/* Everything here starts from rest, so all pay for waking processors and threads that sleep. */
static int from_rest(const struct pb_env *e, struct pb_state *st, int (*once)(struct pb_state *, double *), double *out)
{
	double v[100];
	const size_t n = e->quick ? 30 : 100;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = once(st, &v[i]);
	if (rc == 0)
		*out = pb_median(v, n);
	return rc;
}

static int run_unpin_to_truncate(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	return from_rest(e, st, s == PB_REF ? round_trip_once : unpin_to_truncate_once, out);
}

static int run_truncate_page(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	return from_rest(e, st, s == PB_REF ? round_trip_once : truncate_once, out);
}

static int truncate_big(const struct pb_env *e, enum pb_subject s, bool mapped, double *out)
{
	struct pb_state st = { .fd = -1 };
	uint64_t t;
	int rc = pb_file_make(e, s, "big", e->quick ? 64 * CHUNK : 512 * CHUNK, &st);

	if (rc == 0 && mapped) {
		rc = pb_file_map(&st);
		for (size_t off = 0; rc == 0 && off < st.len; off += CHUNK)
			*(volatile uint8_t *)(st.map + off) = 1;
	}
	if (rc == 0) {
		t = pb_now_ns();
		if (ftruncate(st.fd, 0) != 0)
			rc = -errno;
		*out = (double)(pb_now_ns() - t) / 1e6;
	}
	pb_file_drop(e, s, &st);
	return rc;
}

static int run_truncate_mapped(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)st;
	return truncate_big(e, s, true, out);
}

static int run_truncate_bare(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)st;
	return truncate_big(e, s, false, out);
}

#define PIN(n, w, u, subj, r) .name = (n), .what = (w), .unit = (u), .subjects = (subj), .ref = (r), \
	.setup = setup_pin, .clean = pb_file_drop

const struct pb_case pb_pin_cases[] = {
	{ PIN("pin.fast_1t", "pin + unpin of one page", PB_NS, PB_TWO, "atomic pair"), .aim = PB_AIM_MAX, .limit = 100,
	  .run = run_pin_1t },
	{ PIN("pin.fast_2t", "the same by 2 threads, each in its own 2 MiB", PB_NS, PB_TWO, "1 thread"),
	  .aim = PB_AIM_RATIO_MAX, .limit = 1.25, .run = run_pin_2t },
	{ PIN("pin.fast_2t_chunk", "the same by 2 threads in one 2 MiB", PB_NS, PB_TWO, "1 thread"),
	  .run = run_pin_2t_chunk },
	{ PIN("pin.64k", "pin + unpin of 16 pages", PB_NS, PB_ONLY_PINFS, NULL), .run = run_pin_64k },
	{ PIN("pin.2m", "pin + unpin of 2 MiB", PB_NS, PB_TWO, "one page"), .aim = PB_AIM_MAX, .limit = 100,
	  .run = run_pin_chunk },
	{ .name = "pin.forgotten", .what = "pin + unpin of a page where the thread has forgotten the chunk",
	  .unit = PB_NS, .subjects = PB_TWO, .ref = "fast path", .setup = setup_forgetful, .run = run_pin_forgotten,
	  .clean = pb_file_drop },
	{ .name = "pin.transfer", .what = "the same with 64 KiB, into which so much is copied meanwhile", .unit = PB_NS,
	  .subjects = PB_TWO, .ref = "fast path", .setup = setup_forgetful, .run = run_pin_transfer,
	  .clean = pb_file_drop },
	{ PIN("pin.slow", "pin + unpin while a truncate waits nearby", PB_US, PB_TWO, "round trip"),
	  .run = run_pin_slow },
	{ PIN("fuse.round_trip", "an ioctl that does nothing, one after another", PB_US, PB_ONLY_PINFS, NULL),
	  .run = run_round_trip },
	{ PIN("wait.unpin_to_truncate", "last unpin until the waiting truncate has returned", PB_US, PB_TWO,
	      "round trip"),
	  .aim = PB_AIM_RATIO_MAX, .limit = 2, .run = run_unpin_to_truncate },
	{ PIN("truncate.page", "truncate of a mapped page, not pinned", PB_US, PB_TWO, "round trip"),
	  .run = run_truncate_page },
	{ .name = "truncate.mapped",
	  .what = "truncate of a big file that is mapped, not pinned",
	  .unit = PB_MS,
	  .subjects = PB_TWO,
	  .run = run_truncate_mapped },
	{ .name = "truncate.bare",
	  .what = "the same, not mapped",
	  .unit = PB_MS,
	  .subjects = PB_TWO,
	  .run = run_truncate_bare },
};
const size_t pb_pin_count = sizeof pb_pin_cases / sizeof pb_pin_cases[0];
