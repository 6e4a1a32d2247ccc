/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c - a transfer under a layout lease stops when the lease breaks, as the driver of a polite device makes it.
 *
 * A thread for each such transfer waits for the lease's event. Owns struct dma_watch; its lock is taken before the
 * engine's.
 */
#include "dma/hold.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct dma_watch {
	pthread_mutex_t lock;		/* all below but the thread */
	unsigned int refs;		/* the hold's, and who is about to tell */
	struct dma_xfer *x;		/* NULL: not known yet, or over */
	bool broken, over;
	const struct pinfs_lease *lease;
	int event, stop;
	pthread_t thread;
};

void dma_watch_drop(struct dma_watch *w)
{
	bool last;

	(void)pthread_mutex_lock(&w->lock);
	last = --w->refs == 0;
	(void)pthread_mutex_unlock(&w->lock);
	if (!last)
		return;
	if (w->event >= 0)
		(void)close(w->event);
	if (w->stop >= 0)
		(void)close(w->stop);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

static void *watch_main(void *arg)
{
	struct dma_watch *w = arg;
	struct pollfd p[2] = { { .fd = w->event, .events = POLLIN }, { .fd = w->stop, .events = POLLIN } };
	struct pinfs_lease_info info;
	uint64_t n;

	while ((p[1].revents & POLLIN) == 0) {
		if (poll(p, 2, -1) < 0)
			continue;
		if ((p[0].revents & POLLIN) == 0)
			continue;
		(void)!read(w->event, &n, sizeof n);
		if (pinfs_lease_query(w->lease, &info) == 0 && info.li_state == PINFS_LEASE_HELD)
			continue;
		(void)pthread_mutex_lock(&w->lock);
		w->broken = true;
		if (w->x != NULL)
			dma_xfer_fail(w->x, -ESTALE);
		(void)pthread_mutex_unlock(&w->lock);
	}
	return NULL;
}

int dma_lease_listen(struct dma_hold *h)
{
	struct dma_watch *w = calloc(1, sizeof *w);
	sigset_t all, old;
	int err;

	if (w == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&w->lock, NULL);
	w->refs = 1;
	w->event = -1;
	w->lease = h->lease;
	w->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = w->stop < 0 ? -errno : pinfs_lease_event_fd(h->lease, &w->event);
	if (err != 0)
		goto out_put;
	(void)sigfillset(&all);			/* signals are the program's */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&w->thread, NULL, watch_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		goto out_put;
	h->watch = w;
	return 0;
out_put:
	dma_watch_drop(w);
	return err;
}

void dma_lease_end(struct dma_hold *h)
{
	struct dma_watch *w = h->watch;
	const uint64_t one = 1;

	if (w == NULL)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->over = true;
	w->x = NULL;
	(void)pthread_mutex_unlock(&w->lock);
	(void)!write(w->stop, &one, sizeof one);
	(void)pthread_join(w->thread, NULL);
	h->watch = NULL;
	dma_watch_drop(w);
}

struct dma_watch *dma_watch_get(struct dma_watch *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->refs++;
	(void)pthread_mutex_unlock(&w->lock);
	return w;
}

void dma_watch_tell(struct dma_watch *w, struct dma_xfer *x)
{
	(void)pthread_mutex_lock(&w->lock);
	if (!w->over)
		w->x = x;
	if (!w->over && w->broken)
		dma_xfer_fail(x, -ESTALE);
	(void)pthread_mutex_unlock(&w->lock);
	dma_watch_drop(w);
}
