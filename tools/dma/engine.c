/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - the queue and the thread that move the bytes.
 *
 * One thread serves all transfers of an engine, always the one that is due first, one burst at a time. Owns the queue
 * (a heap by due time) and the transfers. One lock per engine covers it, and the list of devices; it is not held while
 * bytes move or while a callback runs. Knows nothing about pins: what holds the addresses is the submitter's `hold`.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <pinfs/compiler.h>

#define RETRY_NS UINT64_C(1000000)

const char *const dma_mode_name[DMA_MODE_NR] = { [DMA_PIN] = "pin", [DMA_RAW] = "raw", [DMA_LONG] = "long",
					    [DMA_LEASE] = "lease", [DMA_ODP] = "odp" };
const char *const dma_dir_name[DMA_DIR_NR] = { [DMA_FROM_DEVICE] = "from-device", [DMA_TO_DEVICE] = "to-device" };
const char *const dma_state_name[DMA_STATE_NR] = {
	[DMA_QUEUED] = "queued",
	[DMA_MOVING] = "moving",
	[DMA_DONE] = "done",
};

uint64_t dma_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * DMA_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static struct timespec to_timespec(uint64_t ns)
{
	const uint64_t far = (uint64_t)INT32_MAX * DMA_NS_PER_S;	/* later than this is never */

	ns = pf_min64(ns, far);
	return (struct timespec){ .tv_sec = (time_t)(ns / DMA_NS_PER_S), .tv_nsec = (long)(ns % DMA_NS_PER_S) };
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

void dma_engine_put_unlock(struct dma_engine *e)
{
	bool last = --e->refs == 0;

	(void)pthread_mutex_unlock(&e->lock);
	if (!last)
		return;
	dma_iommu_free(e->iommu);
	free(e->heap);
	(void)pthread_cond_destroy(&e->kick);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
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
	free(x->step);
	free(x);
	(void)pthread_mutex_unlock(&e->lock);
	dma_dev_put(dev);
	(void)pthread_mutex_lock(&e->lock);
	dma_engine_put_unlock(e);
}

/* The next burst: *off and bytes. */
static uint64_t next_burst(const struct dma_xfer *x, uint64_t *off)
{
	const uint64_t left = x->limit - x->st.ds_moved;

	*off = x->st.ds_moved;
	if (x->step == NULL)
		return pf_min64(x->d.burst != 0 ? x->d.burst : DMA_BURST, left);
	*off = x->step[x->at_step].off;
	return pf_min64(x->step[x->at_step].len, left);
}

/* Bytes arrive at the end of the time that they take, so a transfer of len bytes lasts len / rate. */
static uint64_t next_due(const struct dma_xfer *x)
{
	uint64_t off, due = add_sat(x->st.ds_start_ns, x->slip_ns);
	__uint128_t ns;

	if (x->d.rate == 0)
		return due;
	ns = (__uint128_t)(x->st.ds_moved + next_burst(x, &off)) * DMA_NS_PER_S / x->d.rate;
	return add_sat(due, ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns);
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
	x->due_ns = x->end != 0 ? 0 : due_ns;
	heap_push(e, x);
}

/* The time of the next burst: one that is not paced goes behind the others that are due, so that they take turns. */
static void queue_next(struct dma_engine *e, struct dma_xfer *x)
{
	if (x->step != NULL && x->at_step < x->nstep)
		x->slip_ns = add_sat(x->slip_ns, x->step[x->at_step].wait_ns);
	requeue(e, x, x->d.rate != 0 || x->step != NULL ? next_due(x) : dma_now_ns());
}

/* The burst that is due, or half of it; the engine lock is held, and dropped while bytes move. */
static int burst(struct dma_engine *e, struct dma_xfer *x)
{
	struct dma_fault fault = { .df_why = DMA_FAULT_NONE };
	uint64_t off, moved, n = next_burst(x, &off);
	struct dma_miss miss;
	int err;

	if (n == 0)
		return 0;
	(void)pthread_mutex_unlock(&e->lock);
	err = dma_move(x, off, n, &moved, &miss, &fault);
	if (x->d.event != NULL && moved != 0)
		x->d.event(&x->d, x->d.pat.dp_foff + off, moved, 0);
	(void)pthread_mutex_lock(&e->lock);
	if (err == -EBADMSG)
		x->st.ds_miss = miss;
	if (err == -EAGAIN) {		/* the page is being changed: the rest of the burst once more, later */
		if (!x->d.tear)
			x->st.ds_moved += moved;
		if (x->step != NULL && !x->d.tear) {
			x->step[x->at_step].off += moved;
			x->step[x->at_step].len -= moved;
		}
		return err;
	}
	if (fault.df_why != DMA_FAULT_NONE)
		x->st.ds_fault = fault;
	if (x->d.tear && !x->half && err == 0)
		return 0;
	x->st.ds_moved += moved;
	x->at_step++;
	return err;
}

/* One turn of the transfer that is due; the engine lock is held and dropped while bytes move. */
static void serve(struct dma_engine *e, struct dma_xfer *x)
{
	int err;

	if (x->end != 0 || e->stop) {
		finish(e, x, x->end != 0 ? x->end : -ECANCELED);
		return;
	}
	if (x->st.ds_state == DMA_QUEUED) {
		x->st.ds_state = DMA_MOVING;
		x->st.ds_start_ns = pf_max64(x->due_ns, x->st.ds_submit_ns);
		if ((x->d.rate != 0 || x->step != NULL) && x->limit != 0) {
			queue_next(e, x);
			return;
		}
	}
	err = burst(e, x);
	if (err == -EAGAIN) {
		requeue(e, x, add_sat(dma_now_ns(), RETRY_NS));
		return;
	}
	if (err == 0 && x->d.tear && x->limit != 0) {
		x->half = !x->half;
		if (x->half) {
			requeue(e, x, add_sat(dma_now_ns(), x->d.tear_ns));
			return;
		}
	}
	if (err == 0 && x->st.ds_moved == x->limit && x->limit == x->d.error_at)
		err = x->d.error;
	if (err != 0 || x->st.ds_moved == x->limit)
		finish(e, x, err);
	else
		queue_next(e, x);
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
	err = dma_iommu_new(&e->iommu);
	if (err != 0)
		goto out_free;
	err = cond_init_monotonic(&e->kick);
	if (err != 0)
		goto out_mmu;
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
out_mmu:
	dma_iommu_free(e->iommu);
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
	dma_engine_put_unlock(e);
}

static int check_desc(const struct dma_dev *dev, const struct dma_desc *d, uint64_t *len)
{
	uint64_t sum = 0;

	if ((unsigned int)d->dir >= DMA_DIR_NR || (d->tear && d->dir != DMA_FROM_DEVICE))
		return -EINVAL;
	if (dev == NULL) {
		*len = d->len;
		return d->len == 0 || d->len > UINT64_MAX - d->iova ? -EINVAL : 0;
	}
	if (d->sg == NULL || d->nsg == 0 || d->nsg > SIZE_MAX / sizeof(*d->sg) / 2)
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
	err = d->seed != 0 ? dma_plan(d, len, &x->step, &x->nstep) : 0;
	if (err == 0)
		err = cond_init_monotonic(&x->ended);
	if (err != 0)
		goto out_free;
	x->e = e;
	x->dev = dev;
	x->d = *d;
	if (d->nsg != 0)
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
		if (dev != NULL)
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
	free(x->step);
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

void dma_xfer_go(struct dma_xfer *x)
{
	struct dma_engine *e = x->e;

	(void)pthread_mutex_lock(&e->lock);
	if (x->st.ds_state == DMA_QUEUED && x->heap_at != SIZE_MAX) {
		x->due_ns = pf_min64(x->due_ns, dma_now_ns());
		heap_up(e, x->heap_at);
		(void)pthread_cond_signal(&e->kick);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void dma_xfer_fail(struct dma_xfer *x, int err)
{
	struct dma_engine *e = x->e;

	(void)pthread_mutex_lock(&e->lock);
	if (x->end == 0)
		x->end = err;
	/* Not in the queue: it has ended, or the thread has it in hand and looks at `end` at its next turn. */
	if (x->st.ds_state != DMA_DONE && x->heap_at != SIZE_MAX) {
		x->due_ns = 0;
		heap_up(e, x->heap_at);
		(void)pthread_cond_signal(&e->kick);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void dma_xfer_cancel(struct dma_xfer *x)
{
	dma_xfer_fail(x, -ECANCELED);
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
