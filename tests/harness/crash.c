/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c - power loss: the recorder behind the ops table. Owns what is durable - a memfd with the device as it was,
 * and a private view of it with the pages that have changed since - and the list of lines that are not durable. An
 * image is another private view, with the same pages changed: building one costs what has changed, not what the device
 * holds. One mutex of its own, outside the lock table, as it is taken below everything.
 */
#include "harness/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FEW_LINES 12U	/* in flight: every combination of lines, */
#define FEW_WORDS 12U	/* or of words, may be tried */

#define MANY_PAGES 256U	/* changed since the base: better a new base */

struct stored {
	uint64_t line;			/* number of the 64-byte line */
	unsigned int by;		/* thread */
	uint8_t bytes[PF_LINE];		/* the whole line after the store */
};

/* A private view of a base, and which of its pages differ from it. */
struct view {
	int fd;				/* memfd of the base; somebody else's in an image */
	uint8_t *mem;
	uint64_t bytes;
	uint32_t *page;			/* those that differ, in order of their first change */
	size_t n, room;
	uint64_t *is_in;		/* bit a page */
};

struct image { struct pf_pm pm; struct view v; };

struct crash {
	struct pf_pm *pm;
	const struct pf_pm_ops *ops;	/* of pm, to be put back */
	void *priv;
	pthread_mutex_t lock;
	struct view durable;
	bool own_fd;
	struct stored *st;
	size_t n, room;
	crash_fn fn;
	void *arg;
	unsigned int subsets;
	uint64_t seed;
	unsigned int fence, skip, fail, shown;
	unsigned int store, lose;
	bool skip_lone;
};

/* Who stores: never given out twice, unlike a pthread_t. */
static unsigned int me(void)
{
	static _Atomic unsigned int ids;
	static _Thread_local unsigned int id;

	if (id == 0)
		id = atomic_fetch_add(&ids, 1) + 1;
	return id;
}

/* xorshift64*: the images of a seed are the same everywhere. */
static uint64_t rnd(struct crash *c)
{
	c->seed ^= c->seed >> 12;
	c->seed ^= c->seed << 25;
	c->seed ^= c->seed >> 27;
	return c->seed * UINT64_C(0x2545f4914f6cdd1d);
}

static void *must(void *p)
{
	if (p == NULL || p == MAP_FAILED)
		abort();
	return p;
}

/* ---- views ---- */

static void view_open(struct view *v, int fd, uint64_t bytes)
{
	*v = (struct view){ .fd = fd, .bytes = bytes };
	v->mem = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0));
	v->is_in = must(calloc(bytes / PF_BLK_SIZE / 64 + 1, sizeof *v->is_in));
}

static void view_close(struct view *v)
{
	(void)munmap(v->mem, v->bytes);
	free(v->page);
	free(v->is_in);
}

/* [doff, doff + len) is about to change, or has. */
static void view_touch(struct view *v, uint64_t doff, uint64_t len)
{
	for (uint64_t p = doff / PF_BLK_SIZE; len != 0 && p <= (doff + len - 1) / PF_BLK_SIZE; p++) {
		if (v->is_in[p / 64] >> p % 64 & 1)
			continue;
		v->is_in[p / 64] |= UINT64_C(1) << p % 64;
		if (v->n == v->room) {
			v->room = v->room ? 2 * v->room : 64;
			v->page = must(realloc(v->page, v->room * sizeof *v->page));
		}
		v->page[v->n++] = (uint32_t)p;
	}
}

static void view_copy(struct view *to, const struct view *from)
{
	view_open(to, from->fd, from->bytes);
	for (size_t i = 0; i < from->n; i++) {
		const uint64_t doff = from->page[i] * PF_BLK_SIZE;

		view_touch(to, doff, PF_BLK_SIZE);
		memcpy(to->mem + doff, from->mem + doff, PF_BLK_SIZE);
	}
}

/* ---- images: what is stored there is there ---- */

static struct image *image_at(struct pf_pm *pm)
{
	return PF_CONTAINER_OF(pm, struct image, pm);
}

static void image_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	view_touch(&image_at(pm)->v, doff, len);
	memcpy(pf_pm_at(pm, doff), src, len);
}

static void image_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	view_touch(&image_at(pm)->v, doff, len);
	memset(pf_pm_at(pm, doff), 0, len);
}

static void image_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	view_touch(&image_at(pm)->v, doff, len);
}

static int image_drain(struct pf_pm *pm)
{
	(void)pm;
	return 0;
}

static const struct pf_pm_ops image_ops = {
	.write = image_write, .zero = image_zero, .flush = image_flush, .drain = image_drain,
};

static struct image *image_new(const struct view *from)
{
	struct image *im = must(calloc(1, sizeof *im));

	view_copy(&im->v, from);
	im->pm = (struct pf_pm){
		.ops = &image_ops, .base = im->v.mem, .bytes = im->v.bytes, .fd = -1, .mode = PF_PMEM_CPU,
	};
	return im;
}

void crash_image_free(struct pf_pm *image)
{
	view_close(&image_at(image)->v);
	free(image_at(image));
}

/* ---- recording ---- */

static void record(struct crash *c, uint64_t doff, uint64_t len)
{
	if (len == 0)
		return;
	(void)pthread_mutex_lock(&c->lock);
	if (c->store++ == c->lose)
		goto out;
	for (uint64_t line = doff / PF_LINE; line <= (doff + len - 1) / PF_LINE; line++) {
		if (c->n == c->room) {
			c->room = c->room ? 2 * c->room : 256;
			c->st = must(realloc(c->st, c->room * sizeof *c->st));
		}
		c->st[c->n].line = line;
		c->st[c->n].by = me();
		memcpy(c->st[c->n].bytes, c->pm->base + line * PF_LINE, PF_LINE);
		c->n++;
	}
out:
	(void)pthread_mutex_unlock(&c->lock);
}

static void rec_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	memcpy(pf_pm_at(pm, doff), src, len);
	record(pm->priv, doff, len);
}

static void rec_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	memset(pf_pm_at(pm, doff), 0, len);
	record(pm->priv, doff, len);
}

static void rec_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	record(pm->priv, doff, len);
}

/* ---- the images of a drain ---- */

static void put_line(struct image *im, const struct stored *s, uint8_t words)
{
	view_touch(&im->v, s->line * PF_LINE, PF_LINE);
	for (unsigned int w = 0; w < 8; w++)
		if (words & 1U << w)
			memcpy(im->v.mem + s->line * PF_LINE + 8 * w, s->bytes + 8 * w, 8);
}

static void show(struct crash *c, struct image *im)
{
	c->shown++;
	c->fn(c->arg, &im->pm, c->fence);
	crash_image_free(&im->pm);
}

/* Stores [from, to) arrived and no others; or, @inverse, all others did. */
static void offer_part(struct crash *c, size_t from, size_t to, bool inverse)
{
	struct image *im = image_new(&c->durable);

	for (size_t i = 0; i < c->n; i++)
		if ((i >= from && i < to) != inverse)
			put_line(im, &c->st[i], 0xff);
	show(c, im);
}

static void offer_choice(struct crash *c, uint64_t choice)
{
	struct image *im = image_new(&c->durable);

	for (size_t i = 0; i < c->n; i++)
		if (choice >> i & 1)
			put_line(im, &c->st[i], 0xff);
	show(c, im);
}

/* The words of the lines in flight that make a difference; their number. */
static unsigned int differing(const struct crash *c, uint8_t *mask)
{
	unsigned int total = 0;

	for (size_t i = 0; i < c->n; i++) {
		const uint8_t *home = c->durable.mem + c->st[i].line * PF_LINE;

		mask[i] = 0;
		for (unsigned int w = 0; w < 8; w++)
			if (memcmp(home + 8 * w, c->st[i].bytes + 8 * w, 8) != 0)
				mask[i] |= (uint8_t)(1U << w);
		total += (unsigned int)__builtin_popcount(mask[i]);
	}
	return total;
}

static void offer_words(struct crash *c, const uint8_t *mask, uint64_t choice)
{
	struct image *im = image_new(&c->durable);

	for (size_t i = 0; i < c->n; i++) {
		uint8_t words = 0;

		for (unsigned int w = 0; w < 8; w++) {
			if (!(mask[i] & 1U << w))
				continue;
			words |= (uint8_t)((choice & 1) << w);
			choice >>= 1;
		}
		put_line(im, &c->st[i], words);
	}
	show(c, im);
}

static void offer_random(struct crash *c)
{
	struct image *im = image_new(&c->durable);

	for (size_t i = 0; i < c->n; i++) {
		uint64_t r = rnd(c);

		put_line(im, &c->st[i], r % 8 == 0 ? (uint8_t)(r >> 8) : r & 8 ? 0xff : 0);	/* one in eight torn */
	}
	show(c, im);
}

/* Every line torn: whatever is not behind a checksum or a drain shows it. */
static void offer_torn(struct crash *c)
{
	struct image *im = image_new(&c->durable);

	for (size_t i = 0; i < c->n; i++)
		put_line(im, &c->st[i], (uint8_t)(rnd(c) >> 8));
	show(c, im);
}

/* One store call made a run of neighbouring lines. Whole runs are what an order between two stores is about: a
 * random choice of lines hardly ever holds all of one and nothing of another. */
static size_t run_end(const struct crash *c, size_t from)
{
	size_t i = from + 1;

	while (i < c->n && c->st[i].line == c->st[i - 1].line + 1)
		i++;
	return i;
}

static void offer_all(struct crash *c)
{
	unsigned int runs = 0, words;
	uint8_t mask[FEW_LINES];

	if (c->n <= FEW_LINES) {
		words = differing(c, mask);
		if (words <= FEW_WORDS && 1U << words <= 8 * c->subsets) {
			for (uint64_t choice = 0; choice < UINT64_C(1) << words; choice++)
				offer_words(c, mask, choice);
			return;
		}
	}
	offer_torn(c);
	if (c->n <= FEW_LINES && 1U << c->n <= 8 * c->subsets) {
		for (uint64_t choice = 0; choice < UINT64_C(1) << c->n; choice++)
			offer_choice(c, choice);
		return;
	}
	offer_part(c, 0, 0, false);
	offer_part(c, 0, 0, true);
	for (size_t from = 0, to; from < c->n && runs < 2 * c->subsets; from = to, runs++) {
		to = run_end(c, from);
		if (to - from == c->n)
			break;
		offer_part(c, from, to, false);
		offer_part(c, from, to, true);
	}
	for (unsigned int i = 0; i < c->subsets; i++)
		offer_random(c);
}

/* Is there a later store to the line of store @i, by this thread? Then that one takes the older bytes with it. */
static bool overtaken(const struct crash *c, size_t i)
{
	for (size_t k = i + 1; k < c->n; k++)
		if (c->st[k].line == c->st[i].line && c->st[k].by == me())
			return true;
	return false;
}

static void make_durable(struct crash *c, const struct stored *s)
{
	view_touch(&c->durable, s->line * PF_LINE, PF_LINE);
	memcpy(c->durable.mem + s->line * PF_LINE, s->bytes, PF_LINE);
}

/* Only what the calling thread has stored: a fence on one processor says nothing about another's stores. */
static void settle(struct crash *c)
{
	size_t left = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (c->st[i].by == me())
			make_durable(c, &c->st[i]);
		else if (!overtaken(c, i))
			c->st[left++] = c->st[i];
	}
	c->n = left;
}

static bool is_lone(const struct crash *c)
{
	size_t own = 0;

	for (size_t i = 0; i < c->n; i++)
		own += c->st[i].by == me();
	return own == 1;
}

static int rec_drain(struct pf_pm *pm)
{
	struct crash *c = pm->priv;
	int err = 0;

	(void)pthread_mutex_lock(&c->lock);
	if (c->fence >= c->fail) {
		err = -EIO;
	} else if (c->fence != c->skip && !(c->skip_lone && is_lone(c))) {
		offer_all(c);
		settle(c);
	}
	c->fence++;
	(void)pthread_mutex_unlock(&c->lock);
	return err;
}

static const struct pf_pm_ops rec_ops = {
	.write = rec_write, .zero = rec_zero, .flush = rec_flush, .drain = rec_drain,
};

/* Copy what is not zero, so that a large empty device costs nothing. */
static void copy_sparse(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	static const uint8_t zero[PF_BLK_SIZE];

	for (uint64_t off = 0; off < bytes; off += PF_BLK_SIZE)
		if (memcmp(from + off, zero, PF_BLK_SIZE) != 0)
			memcpy(to + off, from + off, PF_BLK_SIZE);
}

/* A base of one's own for a device that is no image. */
static void view_of(struct crash *c, const struct pf_pm *pm)
{
	int fd = memfd_create("crash", MFD_CLOEXEC);
	uint8_t *mem;

	if (fd < 0 || ftruncate(fd, (off_t)pm->bytes) != 0)
		abort();
	mem = must(mmap(NULL, pm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	copy_sparse(mem, pm->base, pm->bytes);
	(void)munmap(mem, pm->bytes);
	view_open(&c->durable, fd, pm->bytes);
	c->own_fd = true;
}

struct crash *crash_attach(struct pf_pm *pm, crash_fn fn, void *arg, unsigned int subsets, uint64_t seed)
{
	struct crash *c = calloc(1, sizeof *c);

	if (c == NULL)
		abort();
	c->pm = pm;
	c->ops = pm->ops;
	c->priv = pm->priv;
	c->fn = fn;
	c->arg = arg;
	c->subsets = subsets;
	c->seed = seed ? seed : 1;
	c->skip = c->fail = c->lose = UINT32_MAX;
	if (pthread_mutex_init(&c->lock, NULL) != 0)
		abort();
	if (pm->ops == &image_ops && image_at(pm)->v.n <= MANY_PAGES)
		view_copy(&c->durable, &image_at(pm)->v);
	else
		view_of(c, pm);
	pm->ops = &rec_ops;
	pm->priv = c;
	return c;
}

void crash_detach(struct crash *c)
{
	c->pm->ops = c->ops;
	c->pm->priv = c->priv;
	if (c->pm->ops == &image_ops)	/* what was stored meanwhile: all of it counts as changed */
		for (size_t i = 0; i < c->durable.n; i++)
			view_touch(&image_at(c->pm)->v, c->durable.page[i] * PF_BLK_SIZE, PF_BLK_SIZE);
	for (size_t i = 0; c->pm->ops == &image_ops && i < c->n; i++)
		view_touch(&image_at(c->pm)->v, c->st[i].line * PF_LINE, PF_LINE);
	if (c->own_fd)
		(void)close(c->durable.fd);
	view_close(&c->durable);
	(void)pthread_mutex_destroy(&c->lock);
	free(c->st);
	free(c);
}

unsigned int crash_fences(struct crash *c)
{
	return c->fence;
}

unsigned int crash_images(struct crash *c)
{
	return c->shown;
}

struct pf_pm *crash_image_of(int fd, uint64_t bytes)
{
	struct image *im;
	struct view v;

	view_open(&v, fd, bytes);
	im = image_new(&v);
	view_close(&v);
	return &im->pm;
}

void crash_skip_drain(struct crash *c, unsigned int fence)
{
	c->skip = fence;
}

void crash_skip_lone(struct crash *c)
{
	c->skip_lone = true;
}

void crash_lose_store(struct crash *c, unsigned int nth)
{
	c->lose = nth;
}

void crash_fail_drain(struct crash *c, unsigned int fence)
{
	c->fail = fence;
}

struct pf_pm *crash_image_now(struct crash *c)
{
	return &image_new(&c->durable)->pm;
}

int crash_image_save(const struct pf_pm *image, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), err = 0;
	uint8_t *to;

	if (fd < 0)
		return -errno;
	to = MAP_FAILED;
	if (ftruncate(fd, (off_t)image->bytes) == 0)
		to = mmap(NULL, image->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (to == MAP_FAILED) {
		err = -errno;
	} else {
		copy_sparse(to, image->base, image->bytes);
		(void)munmap(to, image->bytes);
	}
	(void)close(fd);
	return err;
}
