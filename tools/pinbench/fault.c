/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.c - cases of faults: pages that come and go, windows smaller than the file, many threads, and what the library
 * keeps in memory for it.
 *
 * Two references: tmpfs, where the kernel does it all, and the least that a process could do for itself: a handler of
 * SIGSEGV that maps, or opens, the piece of a tmpfs file in which it happened.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pinbench/pinbench.h"

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)
#define GIB ((size_t)1 << 30)
#define THREADS 16U

static size_t chunks(const struct pb_env *e)
{
	return e->quick ? 32 : 64;
}

static void store(uint8_t *p)
{
	*(volatile uint8_t *)p = 1;
}

static int setup_file(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	return pb_file_make(e, s, "fault", chunks(e) * CHUNK, st);
}

/* Both subjects on pinfs. */
static int setup_ours(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	return pb_file_make(e, PB_PINFS, s == PB_PINFS ? "fault" : "fault-ref", chunks(e) * CHUNK, st);
}

static int setup_mapped(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	int rc = setup_file(e, s, st);

	if (rc == 0)
		rc = pb_file_map(st);
	for (size_t off = 0; rc == 0 && off < st->len; off += PAGE)
		store(st->map + off);
	return rc;
}

/* ---- a handler of our own ---- */

static struct { uint8_t *base; size_t len; int fd; } mine;

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	size_t off = (size_t)((uint8_t *)si->si_addr - mine.base) & ~(CHUNK - 1);

	(void)ctx;
	if ((uint8_t *)si->si_addr < mine.base || off >= mine.len ||
	    mmap(mine.base + off, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mine.fd, (off_t)off) ==
		    MAP_FAILED)
		(void)signal(sig, SIG_DFL);	/* the access is done again, and ends us */
}

/* Address space without access, 2 MiB aligned, whose pieces the handler maps. */
static int handler_up(struct pb_state *st, struct sigaction *old)
{
	const struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	uint8_t *p = mmap(NULL, st->len + CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip;

	if (p == MAP_FAILED)
		return -errno;
	skip = (CHUNK - (uintptr_t)p % CHUNK) % CHUNK;
	if (skip != 0)
		(void)munmap(p, skip);
	if (skip != CHUNK)
		(void)munmap(p + skip + st->len, CHUNK - skip);
	st->map = p + skip;
	mine.base = st->map;
	mine.len = st->len;
	mine.fd = st->fd;
	return sigaction(SIGSEGV, &sa, old) != 0 ? -errno : 0;
}

/* The first store to each chunk: us for one. @drop: all are mapped and touched, then taken away, and that counts as
 * well. */
static double touch_first(struct pb_state *st, void (*drop)(struct pb_state *st))
{
	uint64_t t = pb_now_ns();

	if (drop != NULL)
		drop(st);
	for (size_t off = 0; off < st->len; off += CHUNK)
		store(st->map + off);
	return (double)(pb_now_ns() - t) / 1e3 * (double)CHUNK / (double)st->len;
}

static void drop_access(struct pb_state *st)
{
	for (size_t off = 0; off < st->len; off += CHUNK)
		(void)mmap(st->map + off, CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			   0);
}

static void drop_pages(struct pb_state *st)
{
	for (size_t off = 0; off < st->len; off += CHUNK)
		(void)madvise(st->map + off, CHUNK, MADV_DONTNEED);
}

static int by_handler(struct pb_state *st, bool again, double *out)
{
	struct sigaction old;
	int rc = handler_up(st, &old);

	if (rc != 0)
		return rc;
	*out = touch_first(st, NULL);
	if (again)
		*out = touch_first(st, drop_access);
	(void)sigaction(SIGSEGV, &old, NULL);
	(void)munmap(st->map, st->len);
	st->map = NULL;
	return 0;
}

static int run_touch(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	int rc;

	(void)e;
	if (s == PB_REF)
		return by_handler(st, false, out);
	rc = pb_file_map(st);
	if (rc != 0)
		return rc;
	*out = touch_first(st, NULL);
	(void)munmap(st->map, st->len);
	st->map = NULL;
	return 0;
}

static int refault(struct pb_state *st, double *out)
{
	int rc = st->map == NULL ? pb_file_map(st) : 0;

	if (rc != 0)
		return rc;
	(void)touch_first(st, NULL);
	*out = touch_first(st, drop_pages);
	return 0;
}

static int run_refault(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return refault(st, out);
}

static int run_refault_handler(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	return s == PB_REF ? by_handler(st, true, out) : refault(st, out);
}

/* A page leaves each chunk, so its mapping goes, by way of the daemon; then a store to another page. */
static int run_punch(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	uint64_t t;

	(void)e;
	(void)s;
	for (size_t off = 0; off < st->len; off += PAGE)
		store(st->map + off);
	t = pb_now_ns();
	for (size_t off = 0; off < st->len; off += CHUNK) {
		if (fallocate(st->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(off + CHUNK - PAGE),
			      (off_t)PAGE) != 0)
			return -errno;
		store(st->map + off);
	}
	*out = (double)(pb_now_ns() - t) / 1e3 * (double)CHUNK / (double)st->len;
	return 0;
}

/* ---- threads ---- */

struct toucher { pthread_t id; pthread_barrier_t *start; uint8_t *map; size_t first, step, len; };

static void *toucher(void *arg)
{
	struct toucher *t = arg;

	(void)pthread_barrier_wait(t->start);
	for (size_t off = t->first * CHUNK; off < t->len; off += t->step * CHUNK)
		store(t->map + off);
	return NULL;
}

/* Chunks touched a second, by @n threads that share them. */
static int touch_threads(struct pb_state *st, unsigned int n, double *out)
{
	struct toucher t[THREADS];
	pthread_barrier_t start;
	unsigned int up = 0;
	uint64_t at;
	int rc = pb_file_map(st);

	if (rc != 0)
		return rc;
	rc = -pthread_barrier_init(&start, NULL, n + 1);
	for (; rc == 0 && up < n; up++) {
		t[up] = (struct toucher){ .start = &start, .map = st->map, .first = up, .step = n, .len = st->len };
		if (pthread_create(&t[up].id, NULL, toucher, &t[up]) != 0)
			abort();		/* those that are up wait for it */
	}
	at = pb_now_ns();
	(void)pthread_barrier_wait(&start);
	for (unsigned int i = 0; i < up; i++)
		(void)pthread_join(t[i].id, NULL);
	at = pb_now_ns() - at;
	(void)pthread_barrier_destroy(&start);
	(void)munmap(st->map, st->len);
	st->map = NULL;
	*out = (double)st->len / (double)CHUNK * 1e9 / (double)at;
	return rc;
}

static int run_threads(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	return touch_threads(st, s == PB_REF ? 1 : THREADS, out);
}

/* ---- a file larger than the window ---- */

#define WINDOWS 8U		/* the file has the size of so many */

static size_t small_window(const struct pb_env *e)
{
	return e->quick ? GIB / 16 : GIB;
}

/* Of @n stores as many as OVER_NS are enough for: on a machine that is busy each may wait for its turn. */
#define OVER_NS UINT64_C(20000000000)

static double random_stores(uint8_t *map, size_t len, size_t n)
{
	uint64_t x = 88172645463325252U, t = pb_now_ns(), took = 0;
	size_t i;

	for (i = 0; i < n && took < OVER_NS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memset(map + x % (len / 64) * 64, (int)i, 64);
		if (i % 64 == 0)
			took = pb_now_ns() - t;
	}
	return (double)i * 1e9 / (double)(pb_now_ns() - t);
}

static int over(const struct pb_env *e, double rate[2])
{
	const size_t window = small_window(e), n = e->quick ? 2000 : 20000;
	char dir[160];
	struct pb_state st = { .fd = -1, .len = WINDOWS * window };
	int rc;

	rc = pb_more_up(e, window, st.len + st.len / 16 + GIB / 16, dir, sizeof dir);
	if (rc != 0)
		return rc;
	rc = pb_file_make_at(dir, "over", st.len, &st);
	if (rc == 0)
		rc = pb_file_map(&st);
	if (rc == 0) {
		(void)random_stores(st.map, window / 2, n);
		rate[1] = random_stores(st.map, window / 2, 100 * n);
		rate[0] = random_stores(st.map, st.len, n);
	}
	pb_file_drop(e, PB_PINFS, &st);
	pb_more_down();
	return rc;
}

static int run_over(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	static double rate[2];
	static int rc;
	static bool done;

	(void)st;
	if (!done)
		rc = over(e, rate);
	done = true;
	*out = rate[s == PB_REF];
	return rc;
}

/* ---- memory ---- */

/* KiB that are resident in mappings of our own: anonymous ones, and the ledger. */
static double resident(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long kib, anon = 0, ledger = 0;
	bool in_ledger = false;
	char line[512];

	if (f == NULL)
		return -1;
	while (fgets(line, sizeof line, f) != NULL) {
		if (line[0] >= '0' && strchr(line, '-') != NULL && strstr(line, ":") != NULL &&
		    sscanf(line, "%*x-%*x %*s") == 0)
			in_ledger = strstr(line, "pinfs-ledger") != NULL;
		if (in_ledger && sscanf(line, "Rss: %lu kB", &kib) == 1)
			ledger += kib;
		else if (sscanf(line, "Anonymous: %lu kB", &kib) == 1)
			anon += kib;
	}
	(void)fclose(f);
	return (double)(anon + ledger);
}

/* Every page of every chunk touched: what the library then has more, for each GiB of window. The mount is a new one, so
 * no slot of it was in use before. */
static int run_memory(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	const size_t window = e->quick ? GIB / 4 : GIB;
	struct pb_state big = { .fd = -1 };
	double before, after = 0;
	char dir[160];
	int rc = pb_more_up(e, window, window + GIB / 4, dir, sizeof dir);

	(void)s;
	(void)st;
	if (rc != 0)
		return rc;
	rc = pb_file_make_at(dir, "memory", window, &big);
	before = resident();
	if (rc == 0)
		rc = pb_file_map(&big);
	if (rc == 0) {
		for (size_t off = 0; off < big.len; off += PAGE)
			store(big.map + off);
		after = resident();
	}
	pb_file_drop(e, PB_PINFS, &big);
	pb_more_down();
	*out = (after - before) * (double)GIB / (double)window;
	return rc != 0 ? rc : before < 0 || after < 0 ? -EIO : 0;
}

#define FAULT(n, w, u, subj, r) .name = (n), .what = (w), .unit = (u), .subjects = (subj), .ref = (r), \
	.clean = pb_file_drop

const struct pb_case pb_fault_cases[] = {
	{ FAULT("touch.handler", "first touch of 2 MiB, one page only", PB_US, PB_TWO, "SIGSEGV"), .setup = setup_file,
	  .run = run_touch },
	{ FAULT("touch.16t", "chunks touched by 16 threads", PB_OPS, PB_TWO, "1 thread"), .aim = PB_AIM_RATIO_MIN,
	  .limit = 0.9, .setup = setup_ours, .run = run_threads },
	{ FAULT("refault.tmpfs", "2 MiB given back (madvise) and touched again", PB_US, PB_TWO, NULL),
	  .setup = setup_file, .run = run_refault },
	{ FAULT("refault.handler", "the same", PB_US, PB_TWO, "SIGSEGV"), .setup = setup_file,
	  .run = run_refault_handler },
	{ FAULT("refault.punch", "a page of 2 MiB punched, another one touched", PB_US, PB_TWO, NULL),
	  .setup = setup_mapped, .run = run_punch },
	/* A window of 1 GiB; with --quick 64 MiB. */
	{ .name = "window.over", .what = "64-byte stores at random, file of 8 windows", .unit = PB_OPS,
	  .subjects = PB_TWO, .ref = "in 1/2 window", .once = true, .run = run_over },
	{ .name = "window.memory", .what = "the library's memory for each GiB of window", .unit = PB_KIB,
	  .subjects = PB_ONLY_PINFS, .aim = PB_AIM_MAX, .limit = 4096, .once = true, .run = run_memory },
};
const size_t pb_fault_count = sizeof pb_fault_cases / sizeof pb_fault_cases[0];
