/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - the queue and the thread that move the bytes.
 *
 * One thread serves all transfers of an engine, always the one that is due first, one burst at a time. Owns the
 * mappings of the devices and the queue (a heap by due time). One lock per engine covers all of it; it is not held
 * while bytes move or while a callback runs. Knows nothing about pins: what holds the addresses is the submitter's
 * `hold`.
 */
#include "dma/dma.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include <pinfs/types.h>

#define NS_PER_S UINT64_C(1000000000)

const char *const dma_mode_name[DMA_MODE_NR] = { [DMA_PIN] = "pin", [DMA_RAW] = "raw" };
const char *const dma_dir_name[DMA_DIR_NR] = { [DMA_FROM_DEVICE] = "from-device", [DMA_TO_DEVICE] = "to-device" };
const char *const dma_state_name[DMA_STATE_NR] = {
	[DMA_QUEUED] = "queued",
	[DMA_MOVING] = "moving",
	[DMA_DONE] = "done",
};

struct dma_dev {
	struct dma_engine *e;
	struct dma_dev *next;
	unsigned int refs;
	dev_t st_dev, st_rdev;
	ino_t st_ino;
	uint8_t *base;
	uint64_t bytes;
	bool ro;
};

struct dma_xfer {
	struct dma_engine *e;
	struct dma_dev *dev;
	unsigned int refs;		/* the queue's and the submitter's */
	struct dma_desc d;		/* d.sg is our copy */
	uint64_t limit;			/* bytes after which it ends: len, stop_at or error_at */
	size_t sg_at;			/* next byte: in range sg_at ... */
	uint64_t sg_done;		/* ... after this many bytes of it */
	uint64_t due_ns;
	size_t heap_at;
	bool cancelled;
	struct dma_stat st;
	pthread_cond_t ended;
	struct pinfs_sg sg[];
};

struct dma_engine {
	pthread_mutex_t lock;
	pthread_cond_t kick;		/* the earliest due time changed, or stop */
	pthread_t thread;
	unsigned int refs;		/* the owner, each device, each transfer */
	bool stop;
	struct dma_dev *devs;
	struct dma_xfer **heap;		/* by due_ns */
	size_t nheap, room;
};

uint64_t dma_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static struct timespec to_timespec(uint64_t ns)
{
	const uint64_t far = (uint64_t)INT32_MAX * NS_PER_S;	/* later than this is never */

	ns = pf_min64(ns, far);
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

/* The due heap. Positions are kept in the transfers, so a cancelled one can be moved to the front. */
static void heap_set(struct dma_engine *e, size_t i, struct dma_xfer *x)
{
	e->heap[i] = x;
	x->heap_at = i;
}

static void heap_up(struct dma_engine *e, size_t i)
{
	struct dma_xfer *x = e->heap[i];

	while (i > 0 && e->heap[(i - 1) / 2]->due_ns > x->due_ns) {
		heap_set(e, i, e->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_set(e, i, x);
}

static void heap_push(struct dma_engine *e, struct dma_xfer *x)
{
	heap_set(e, e->nheap, x);
	heap_up(e, e->nheap++);
}

static struct dma_xfer *heap_pop(struct dma_engine *e)
{
	struct dma_xfer *top = e->heap[0], *last = e->heap[--e->nheap];
	size_t i = 0;

	for (;;) {
		size_t kid = 2 * i + 1;

		if (kid + 1 < e->nheap && e->heap[kid + 1]->due_ns < e->heap[kid]->due_ns)
			kid++;
		if (kid >= e->nheap || e->heap[kid]->due_ns >= last->due_ns)
			break;
		heap_set(e, i, e->heap[kid]);
		i = kid;
	}
	if (last != top)
		heap_set(e, i, last);
	top->heap_at = SIZE_MAX;
	return top;
}

/* Room for one more transfer besides those queued and the one that the thread has in hand. */
static int heap_reserve(struct dma_engine *e)
{
	size_t room = e->room != 0 ? e->room * 2 : 64;
	struct dma_xfer **heap;

	if (e->nheap + 2 <= e->room)
		return 0;
	heap = realloc(e->heap, room * sizeof(*heap));
	if (heap == NULL)
		return -ENOMEM;
	e->heap = heap;
	e->room = room;
	return 0;
}

/* Drop one reference of the engine; unlocks. */
static void engine_put_unlock(struct dma_engine *e)
{
	bool last = --e->refs == 0;

	(void)pthread_mutex_unlock(&e->lock);
	if (!last)
		return;
	free(e->heap);
	(void)pthread_cond_destroy(&e->kick);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
}

static int device_bytes(int fd, const struct stat *st, uint64_t *bytes)
{
	char path[64];
	FILE *f;
	int err = 0;

	if (S_ISREG(st->st_mode)) {
		*bytes = (uint64_t)st->st_size;
	} else if (S_ISBLK(st->st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, bytes) != 0)
			err = -errno;
	} else if (S_ISCHR(st->st_mode)) {
		(void)snprintf(path, sizeof path, "/sys/dev/char/%u:%u/size", major(st->st_rdev), minor(st->st_rdev));
		f = fopen(path, "re");
		if (f == NULL)
			return -errno;
		if (fscanf(f, "%" SCNu64, bytes) != 1)
			err = -EINVAL;
		(void)fclose(f);
	} else {
		err = -EINVAL;
	}
	return err == 0 && *bytes == 0 ? -EINVAL : err;
}

int dma_dev_get(struct dma_engine *e, int fd, struct dma_dev **out)
{
	struct dma_dev *d;
	struct stat st;
	int flags = fcntl(fd, F_GETFL), err = 0;

	if (flags < 0 || fstat(fd, &st) != 0)
		return -errno;
	(void)pthread_mutex_lock(&e->lock);
	for (d = e->devs; d != NULL; d = d->next) {
		if (d->st_dev == st.st_dev && d->st_ino == st.st_ino && d->st_rdev == st.st_rdev &&
		    d->ro == ((flags & O_ACCMODE) == O_RDONLY)) {
			d->refs++;
			goto out_unlock;
		}
	}
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		err = -ENOMEM;
		goto out_unlock;
	}
	d->ro = (flags & O_ACCMODE) == O_RDONLY;
	err = device_bytes(fd, &st, &d->bytes);
	if (err != 0)
		goto out_free;
	d->base = mmap(NULL, d->bytes, d->ro ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (d->base == MAP_FAILED) {
		err = -errno;
		goto out_free;
	}
	d->e = e;
	d->refs = 1;
	d->st_dev = st.st_dev;
	d->st_ino = st.st_ino;
	d->st_rdev = st.st_rdev;
	d->next = e->devs;
	e->devs = d;
	e->refs++;
	goto out_unlock;
out_free:
	free(d);
out_unlock:
	(void)pthread_mutex_unlock(&e->lock);
	if (err == 0)
		*out = d;
	return err;
}

void dma_dev_put(struct dma_dev *d)
{
	struct dma_engine *e;
	struct dma_dev **at;

	if (d == NULL)
		return;
	e = d->e;
	(void)pthread_mutex_lock(&e->lock);
	if (--d->refs != 0) {
		(void)pthread_mutex_unlock(&e->lock);
		return;
	}
	for (at = &e->devs; *at != d; at = &(*at)->next)
		;
	*at = d->next;
	(void)munmap(d->base, d->bytes);
	free(d);
	engine_put_unlock(e);
}

uint64_t dma_dev_bytes(const struct dma_dev *d)
{
	return d->bytes;
}

void dma_xfer_put(struct dma_xfer *x)
{
	struct dma_engine *e;
	struct dma_dev *dev;

	if (x == NULL)
		return;
	e = x->e;
	(void)pthread_mutex_lock(&e->lock);
	if (--x->refs != 0) {
		(void)pthread_mutex_unlock(&e->lock);
		return;
	}
	dev = x->dev;
	(void)pthread_cond_destroy(&x->ended);
	free(x);
	(void)pthread_mutex_unlock(&e->lock);
	dma_dev_put(dev);
	(void)pthread_mutex_lock(&e->lock);
	engine_put_unlock(e);
}

static uint64_t burst_size(const struct dma_xfer *x)
{
	uint64_t burst = x->d.burst != 0 ? x->d.burst : DMA_BURST;

	return pf_min64(burst, x->limit - x->st.ds_moved);
}

/* Bytes arrive at the end of the time that they take, so a transfer of len bytes lasts len / rate. */
static uint64_t next_due(const struct dma_xfer *x)
{
	__uint128_t ns;

	if (x->d.rate == 0)
		return x->st.ds_start_ns;
	ns = (__uint128_t)(x->st.ds_moved + burst_size(x)) * NS_PER_S / x->d.rate;
	return add_sat(x->st.ds_start_ns, ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns);
}

/* Move [moved, moved + n). The engine's thread alone touches these fields while the transfer is out of the queue. */
static int move_burst(struct dma_xfer *x, uint64_t n, struct dma_miss *miss)
{
	uint64_t at = x->st.ds_moved;

	while (n != 0) {
		const struct pinfs_sg *sg = &x->sg[x->sg_at];
		uint8_t *mem = x->dev->base + sg->sg_doff + x->sg_done;
		uint64_t foff = sg->sg_foff + x->sg_done;
		size_t len = pf_min64(n, sg->sg_len - x->sg_done);

		if (x->d.buf == NULL && x->d.dir == DMA_FROM_DEVICE)
			dma_pat_fill(&x->d.pat, foff, mem, len);
		else if (x->d.buf == NULL && !dma_pat_check(&x->d.pat, foff, mem, len, miss))
			return -EBADMSG;
		else if (x->d.buf != NULL && x->d.dir == DMA_FROM_DEVICE)
			memcpy(mem, (const uint8_t *)x->d.buf + at, len);
		else if (x->d.buf != NULL)
			memcpy((uint8_t *)x->d.buf + at, mem, len);
		at += len;
		n -= len;
		x->sg_done += len;
		if (x->sg_done == sg->sg_len) {
			x->sg_at++;
			x->sg_done = 0;
		}
	}
	return 0;
}

/* The engine lock is held; dropped for the callbacks. Eats the queue's reference. */
static void finish(struct dma_engine *e, struct dma_xfer *x, int err)
{
	struct dma_stat st;

	x->st.ds_err = err;
	x->st.ds_end_ns = dma_now_ns();
	st = x->st;
	st.ds_state = DMA_DONE;
	(void)pthread_mutex_unlock(&e->lock);
	if (x->d.event != NULL)
		x->d.event(&x->d, 0, 0, err);
	if (x->d.release != NULL)
		x->d.release(x->d.hold);
	if (x->d.done != NULL)
		x->d.done(x->d.arg, &st);
	(void)pthread_mutex_lock(&e->lock);
	x->st.ds_state = DMA_DONE;
	(void)pthread_cond_broadcast(&x->ended);
	(void)pthread_mutex_unlock(&e->lock);
	dma_xfer_put(x);
	(void)pthread_mutex_lock(&e->lock);
}

static void requeue(struct dma_engine *e, struct dma_xfer *x, uint64_t due_ns)
{
	x->due_ns = x->cancelled ? 0 : due_ns;
	heap_push(e, x);
}

/* One turn of the transfer that is due; the engine lock is held and dropped while bytes move. */
static void serve(struct dma_engine *e, struct dma_xfer *x)
{
	struct dma_miss miss;
	uint64_t n;
	int err = 0;

	if (x->cancelled || e->stop) {
		finish(e, x, -ECANCELED);
		return;
	}
	if (x->st.ds_state == DMA_QUEUED) {
		x->st.ds_state = DMA_MOVING;
		x->st.ds_start_ns = pf_max64(x->due_ns, x->st.ds_submit_ns);
		if (x->d.rate != 0 && x->limit != 0) {
			requeue(e, x, next_due(x));
			return;
		}
	}
	n = burst_size(x);
	if (n != 0) {
		const uint64_t foff = x->sg[x->sg_at].sg_foff + x->sg_done;

		(void)pthread_mutex_unlock(&e->lock);
		err = move_burst(x, n, &miss);
		if (err == 0 && x->d.event != NULL)
			x->d.event(&x->d, foff, n, 0);
		(void)pthread_mutex_lock(&e->lock);
		if (err == -EBADMSG)
			x->st.ds_miss = miss;
	}
	if (err == 0)
		x->st.ds_moved += n;
	if (err == 0 && x->st.ds_moved == x->limit && x->limit == x->d.error_at)
		err = x->d.error;
	if (err != 0 || x->st.ds_moved == x->limit) {
		finish(e, x, err);
		return;
	}
	/* Unpaced transfers take turns: whoever has moved goes behind the others that are due. */
	requeue(e, x, x->d.rate != 0 ? next_due(x) : dma_now_ns());
}

static void *engine_main(void *arg)
{
	struct dma_engine *e = arg;

	(void)pthread_mutex_lock(&e->lock);
	while (!e->stop || e->nheap != 0) {
		uint64_t due = e->nheap != 0 ? e->heap[0]->due_ns : UINT64_MAX;

		if (e->nheap != 0 && (e->stop || due <= dma_now_ns())) {
			serve(e, heap_pop(e));
		} else {
			struct timespec ts = to_timespec(due);

			(void)pthread_cond_timedwait(&e->kick, &e->lock, &ts);
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	return NULL;
}

static int cond_init_monotonic(pthread_cond_t *c)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);

	if (err != 0)
		return -err;
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	err = pthread_cond_init(c, &attr);
	(void)pthread_condattr_destroy(&attr);
	return -err;
}

int dma_engine_start(struct dma_engine **out)
{
	struct dma_engine *e = calloc(1, sizeof(*e));
	sigset_t all, old;
	int err;

	if (e == NULL)
		return -ENOMEM;
	e->refs = 1;
	err = cond_init_monotonic(&e->kick);
	if (err != 0)
		goto out_free;
	(void)pthread_mutex_init(&e->lock, NULL);
	/* Signals are the program's, never the device's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&e->thread, NULL, engine_main, e);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		goto out_sync;
	*out = e;
	return 0;
out_sync:
	(void)pthread_mutex_destroy(&e->lock);
	(void)pthread_cond_destroy(&e->kick);
out_free:
	free(e);
	return err;
}

void dma_engine_stop(struct dma_engine *e)
{
	if (e == NULL)
		return;
	(void)pthread_mutex_lock(&e->lock);
	e->stop = true;
	(void)pthread_cond_signal(&e->kick);
	(void)pthread_mutex_unlock(&e->lock);
	(void)pthread_join(e->thread, NULL);
	(void)pthread_mutex_lock(&e->lock);
	engine_put_unlock(e);
}

static int check_desc(const struct dma_dev *dev, const struct dma_desc *d, uint64_t *len)
{
	uint64_t sum = 0;

	if (d->sg == NULL || d->nsg == 0 || d->nsg > SIZE_MAX / sizeof(*d->sg) / 2 ||
	    (unsigned int)d->dir >= DMA_DIR_NR)
		return -EINVAL;
	if (d->dir == DMA_FROM_DEVICE && dev->ro)
		return -EACCES;
	for (size_t i = 0; i < d->nsg; i++) {
		const struct pinfs_sg *sg = &d->sg[i];

		if (sg->sg_len == 0 || !pf_range_ok(sg->sg_doff, sg->sg_len, dev->bytes) ||
		    sg->sg_len > UINT64_MAX - sum)
			return -EINVAL;
		sum += sg->sg_len;
	}
	*len = sum;
	return 0;
}

struct dma_desc dma_desc_init(enum dma_dir dir)
{
	return (struct dma_desc){ .dir = dir, .stop_at = DMA_NEVER, .error_at = DMA_NEVER, .error = -EIO };
}

int dma_submit(struct dma_engine *e, struct dma_dev *dev, const struct dma_desc *d, struct dma_xfer **out)
{
	struct dma_xfer *x;
	uint64_t len;
	int err = check_desc(dev, d, &len);

	if (err != 0)
		return err;
	x = calloc(1, sizeof(*x) + d->nsg * sizeof(*d->sg));
	if (x == NULL)
		return -ENOMEM;
	err = cond_init_monotonic(&x->ended);
	if (err != 0)
		goto out_free;
	x->e = e;
	x->dev = dev;
	x->d = *d;
	memcpy(x->sg, d->sg, d->nsg * sizeof(*d->sg));
	x->d.sg = x->sg;
	x->limit = pf_min64(len, pf_min64(d->stop_at, d->error_at));
	x->st.ds_len = len;
	x->st.ds_submit_ns = dma_now_ns();
	x->due_ns = add_sat(x->st.ds_submit_ns, d->delay_ns);
	x->refs = out != NULL ? 2 : 1;

	(void)pthread_mutex_lock(&e->lock);
	err = e->stop ? -ESHUTDOWN : heap_reserve(e);
	if (err == 0) {
		e->refs++;
		dev->refs++;
		heap_push(e, x);
		if (x->heap_at == 0)
			(void)pthread_cond_signal(&e->kick);
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (err != 0)
		goto out_cond;
	if (out != NULL)
		*out = x;
	return 0;
out_cond:
	(void)pthread_cond_destroy(&x->ended);
out_free:
	free(x);
	return err;
}

int dma_xfer_wait(struct dma_xfer *x, uint64_t timeout_ns)
{
	struct timespec ts = to_timespec(add_sat(dma_now_ns(), timeout_ns));
	int err = 0;

	(void)pthread_mutex_lock(&x->e->lock);
	while (x->st.ds_state != DMA_DONE && err == 0)
		err = pthread_cond_timedwait(&x->ended, &x->e->lock, &ts);
	if (x->st.ds_state == DMA_DONE)
		err = 0;
	(void)pthread_mutex_unlock(&x->e->lock);
	return -err;
}

void dma_xfer_cancel(struct dma_xfer *x)
{
	struct dma_engine *e = x->e;

	(void)pthread_mutex_lock(&e->lock);
	x->cancelled = true;
	/* Not in the queue: it has ended, or the thread has it in hand and looks at `cancelled` at its next turn. */
	if (x->st.ds_state != DMA_DONE && x->heap_at != SIZE_MAX) {
		x->due_ns = 0;
		heap_up(e, x->heap_at);
		(void)pthread_cond_signal(&e->kick);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void dma_xfer_stat(struct dma_xfer *x, struct dma_stat *st)
{
	(void)pthread_mutex_lock(&x->e->lock);
	*st = x->st;
	(void)pthread_mutex_unlock(&x->e->lock);
}

const struct pinfs_sg *dma_xfer_sg(const struct dma_xfer *x, size_t *n)
{
	*n = x->d.nsg;
	return x->sg;
}
