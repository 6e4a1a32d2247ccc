/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c - power loss: the recorder behind the ops table. Owns a memfd with what is durable, and the list of lines
 * that are not. One mutex of its own, outside the lock table, as it is taken below everything.
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
#include "harness/mem.h"

struct stored {
	uint64_t line;			/* number of the 64-byte line */
	unsigned int by;		/* thread */
	uint8_t bytes[PF_LINE];		/* the whole line after the store */
};

struct crash {
	struct pf_pm *pm;
	const struct pf_pm_ops *ops;	/* of pm, to be put back */
	void *priv;
	pthread_mutex_t lock;
	int fd;				/* memfd: what is durable */
	uint8_t *durable;
	struct stored *st;
	size_t n, room;
	crash_fn fn;
	void *arg;
	unsigned int subsets;
	uint64_t seed;
	unsigned int fence, skip, fail;
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
			c->st = realloc(c->st, c->room * sizeof *c->st);
			if (c->st == NULL)
				abort();
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

/* A private view of what is durable; its pages are copied when written to. */
static struct pf_pm *image_of(struct crash *c)
{
	struct pf_pm *image = mem_open(c->pm->bytes);

	if (mmap(image->base, image->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, c->fd, 0) == MAP_FAILED)
		abort();
	return image;
}

static void put_line(struct pf_pm *image, const struct stored *s, uint8_t words)
{
	for (unsigned int w = 0; w < 8; w++)
		if (words & 1U << w)
			memcpy(image->base + s->line * PF_LINE + 8 * w, s->bytes + 8 * w, 8);
}

static void show(struct crash *c, struct pf_pm *image)
{
	c->fn(c->arg, image, c->fence);
	mem_close(image);
}

/* Stores [from, to) arrived and no others; or, @inverse, all others did. */
static void offer_part(struct crash *c, size_t from, size_t to, bool inverse)
{
	struct pf_pm *image = image_of(c);

	for (size_t i = 0; i < c->n; i++)
		if ((i >= from && i < to) != inverse)
			put_line(image, &c->st[i], 0xff);
	show(c, image);
}

static void offer_choice(struct crash *c, uint64_t choice)
{
	struct pf_pm *image = image_of(c);

	for (size_t i = 0; i < c->n; i++)
		if (choice >> i & 1)
			put_line(image, &c->st[i], 0xff);
	show(c, image);
}

static void offer_random(struct crash *c)
{
	struct pf_pm *image = image_of(c);

	for (size_t i = 0; i < c->n; i++) {
		uint64_t r = rnd(c);

		put_line(image, &c->st[i], r % 8 == 0 ? (uint8_t)(r >> 8) : r & 8 ? 0xff : 0);	/* one in eight torn */
	}
	show(c, image);
}

/* Every line torn: whatever is not behind a checksum or a drain shows it. */
static void offer_torn(struct crash *c)
{
	struct pf_pm *image = image_of(c);

	for (size_t i = 0; i < c->n; i++)
		put_line(image, &c->st[i], (uint8_t)(rnd(c) >> 8));
	show(c, image);
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
	unsigned int runs = 0;

	if (c->n > 0)
		offer_torn(c);
	if (c->n < 6 && 1U << c->n <= 8 * c->subsets) {
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

/* Only what the calling thread has stored: a fence on one processor says nothing about another's stores. */
static void settle(struct crash *c)
{
	size_t left = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (c->st[i].by == me())
			memcpy(c->durable + c->st[i].line * PF_LINE, c->st[i].bytes, PF_LINE);
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
	c->fd = memfd_create("crash", MFD_CLOEXEC);
	if (c->fd < 0 || ftruncate(c->fd, (off_t)pm->bytes) != 0)
		abort();
	c->durable = mmap(NULL, pm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->durable == MAP_FAILED)
		abort();
	copy_sparse(c->durable, pm->base, pm->bytes);
	pm->ops = &rec_ops;
	pm->priv = c;
	return c;
}

void crash_detach(struct crash *c)
{
	c->pm->ops = c->ops;
	c->pm->priv = c->priv;
	(void)munmap(c->durable, c->pm->bytes);
	(void)close(c->fd);
	(void)pthread_mutex_destroy(&c->lock);
	free(c->st);
	free(c);
}

unsigned int crash_fences(struct crash *c)
{
	return c->fence;
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
	return image_of(c);
}

void crash_image_free(struct pf_pm *image)
{
	mem_close(image);
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
