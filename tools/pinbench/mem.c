/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - cases of mapped files: loads, stores, copies, first touches.
 *
 * The same code runs over a pinfs window, a tmpfs mapping and the peer's mapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pinfs/pin.h>
#include "pinbench/pinbench.h"

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)
/* Of a copy: its other end stays in the cache, so that the mapping is what counts. */
#define PIECE ((size_t)64 << 10)

static size_t map_bytes(const struct pb_env *e)
{
	return e->quick ? 8 * CHUNK : 16 * CHUNK;
}

static void touch_all(uint8_t *p, size_t len)
{
	for (size_t off = 0; off < len; off += PAGE)
		*(volatile uint8_t *)(p + off) = (uint8_t)off;
}

static int setup_warm(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	int rc = pb_file_make(e, s, "map", map_bytes(e), st);

	if (rc == 0)
		rc = pb_file_map(st);
	if (rc != 0)
		return rc;
	st->buf = malloc(PIECE);
	if (st->buf == NULL)
		return -ENOMEM;
	memset(st->buf, 1, PIECE);
	touch_all(st->map, st->len);
	return 0;
}

/*
 * One pass over the mapping takes a few milliseconds, and anything else on the machine can only slow it down: the
 * fastest of many short passes is what the memory does.
 */
#define PASSES 20

typedef void pass_fn(struct pb_state *st);

static double fastest(struct pb_state *st, pass_fn *pass)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < PASSES; i++) {
		uint64_t t = pb_now_ns();

		pass(st);
		__asm__ volatile("" : : : "memory");
		t = pb_now_ns() - t;
		best = t < best ? t : best;
	}
	return (double)best / 1e9;
}

/*
 * The same pages twice: through the window, and in a plain mapping of the image. Which pages a file gets is a matter of
 * luck, and random stores show it by some per cent (the sets of the caches, neighbours that share a TLB entry); what is
 * different here is the window's.
 */
static uint8_t *window_of_pages;

static int map_image(const struct pb_env *e, const struct pinfs_sg *sg, size_t n, struct pb_state *st)
{
	uint8_t *p = mmap(NULL, st->len + CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd = open(e->image, O_RDWR | O_CLOEXEC), rc = fd < 0 || p == MAP_FAILED ? -errno : 0;

	if (p == MAP_FAILED)
		goto out;
	st->buf = NULL;
	st->map = p + (CHUNK - (uintptr_t)p % CHUNK) % CHUNK;
	for (size_t i = 0, at = 0; rc == 0 && i < n; at += sg[i++].sg_len)
		if (mmap(st->map + at, sg[i].sg_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 (off_t)sg[i].sg_doff) == MAP_FAILED)
			rc = -errno;
out:
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

static int setup_same(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	static struct pinfs_sg sg[512];
	struct pinfs_pin *pin;
	size_t n = sizeof sg / sizeof sg[0];
	int rc;

	if (s == PB_PINFS) {
		rc = setup_warm(e, s, st);
		window_of_pages = rc == 0 ? st->map : NULL;
		return rc;
	}
	if (window_of_pages == NULL)
		return -EINVAL;
	st->fd = -1;
	st->len = map_bytes(e);
	rc = pinfs_pin_sg(window_of_pages, st->len, PINFS_PIN_WRITE, sg, &n, &pin);
	if (rc != 0)
		return rc;
	rc = map_image(e, sg, n, st);
	if (rc == 0)
		touch_all(st->map, st->len);
	(void)pinfs_unpin(pin);
	return rc;
}

static void pass_load(struct pb_state *st)
{
	const uint64_t *p = (const void *)st->map;
	volatile uint64_t sink;
	uint64_t sum = 0;

	for (size_t i = 0; i < st->len / sizeof *p; i++)
		sum += p[i];
	sink = sum;
	(void)sink;
}

static void pass_store(struct pb_state *st)
{
	uint64_t *p = (void *)st->map;

	st->serial++;
	for (size_t i = 0; i < st->len / sizeof *p; i++)
		p[i] = i + st->serial;
}

static void pass_copy_in(struct pb_state *st)
{
	for (size_t off = 0; off < st->len; off += PIECE)
		memcpy(st->map + off, st->buf, PIECE);
}

static void pass_copy_out(struct pb_state *st)
{
	for (size_t off = 0; off < st->len; off += PIECE) {
		memcpy(st->buf, st->map + off, PIECE);
		__asm__ volatile("" : : : "memory");
	}
}

/* One cache line here and there: a stream of TLB misses, where page size and page-table shape show. */
static void pass_scatter(struct pb_state *st)
{
	const size_t lines = st->len / 64;
	uint64_t x = 88172645463325252U;

	for (size_t i = 0; i < lines; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		*(volatile uint64_t *)(void *)(st->map + x % lines * 64) = x;
	}
}

static int mib_per_s(struct pb_state *st, pass_fn *pass, double *out)
{
	*out = (double)st->len / (1024.0 * 1024.0) / fastest(st, pass);
	return 0;
}

static int run_load(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return mib_per_s(st, pass_load, out);
}

static int run_store(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return mib_per_s(st, pass_store, out);
}

static int run_copy_in(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return mib_per_s(st, pass_copy_in, out);
}

static int run_copy_out(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return mib_per_s(st, pass_copy_out, out);
}

static int run_scatter(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	*out = (double)st->len / 64 / fastest(st, pass_scatter);
	return 0;
}

static int setup_cold(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	return pb_file_make(e, s, "touch", map_bytes(e), st);
}

/* A fresh mapping of a file whose blocks exist; each chunk's first store, or all its 512 pages. Mean of the chunks. */
static int touch(struct pb_state *st, bool whole, double *out)
{
	uint64_t t;
	int rc = pb_file_map(st);

	if (rc != 0)
		return rc;
	t = pb_now_ns();
	for (size_t off = 0; off < st->len; off += CHUNK)
		touch_all(st->map + off, whole ? CHUNK : PAGE);
	t = pb_now_ns() - t;
	(void)munmap(st->map, st->len);
	st->map = NULL;
	*out = (double)t / 1e3 * (double)CHUNK / (double)st->len;
	return 0;
}

static int run_touch_first(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return touch(st, false, out);
}

static int run_touch_chunk(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return touch(st, true, out);
}

/* Not on the peer: its page cache write-protects pages again and again, and a round would take minutes. */
#define WARM(n, w, u, f) { .name = (n), .what = (w), .unit = (u), .subjects = PB_TWO, .aim = PB_AIM_RATIO_MIN, \
	.limit = 0.98, .fresh = true, .setup = setup_warm, .run = (f), .clean = pb_file_drop }

const struct pb_case pb_mem_cases[] = {
	WARM("window.load", "8-byte loads, in sequence", PB_MIBS, run_load),
	WARM("window.store", "8-byte stores, in sequence", PB_MIBS, run_store),
	WARM("window.scatter", "8-byte stores, one random line after another", PB_OPS, run_scatter),
	{ .name = "window.same_pages", .what = "the same, beside a plain mapping of the same pages of the image",
	  .unit = PB_OPS, .subjects = PB_TWO, .ref = "the image", .aim = PB_AIM_RATIO_MIN, .limit = 0.98,
	  .setup = setup_same, .run = run_scatter, .clean = pb_file_drop },
	WARM("window.copy_in", "memcpy into the mapping", PB_MIBS, run_copy_in),
	WARM("window.copy_out", "memcpy out of the mapping", PB_MIBS, run_copy_out),
	{ .name = "touch.chunk", .what = "first touch of 2 MiB, every page", .unit = PB_US, .subjects = PB_ALL,
	  .aim = PB_AIM_RATIO_MAX, .limit = 1, .setup = setup_cold, .run = run_touch_chunk, .clean = pb_file_drop },
	{ .name = "touch.first", .what = "first touch of 2 MiB, one page only", .unit = PB_US, .subjects = PB_ALL,
	  .setup = setup_cold, .run = run_touch_first, .clean = pb_file_drop },
};
const size_t pb_mem_count = sizeof pb_mem_cases / sizeof pb_mem_cases[0];
