/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.c - the queue of stale inodes and the thread that announces them.
 *
 * An inode is queued once however often it changes before its turn. Takes one LEAF lock, never while it talks to the
 * kernel.
 */
#define FUSE_USE_VERSION 314
#include "front/notify.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/lock.h"
#include "base/log.h"
#include "front/node.h"

#define BUCKETS 1024U	/* power of two */

struct pf_notify {
	struct fuse_session *se;
	pthread_t thread;
	struct pf_mutex lock;		/* LEAF */
	pthread_cond_t more;
	bool stop;
	uint64_t *queue;		/* inodes, no two alike */
	size_t n, room;
	uint64_t recent[BUCKETS];	/* is in the queue if it is here; may be in the queue though it is not */
};

static size_t bucket(uint64_t ino)
{
	return (size_t)((ino * UINT64_C(0x9e3779b97f4a7c15)) >> 54) & (BUCKETS - 1);
}

void pf_notify_data(struct pf_notify *n, uint64_t ino)
{
	uint64_t *seen = &n->recent[bucket(ino)];

	pf_mutex_lock(&n->lock);
	if (*seen == ino || n->stop)
		goto out_unlock;
	if (n->n == n->room) {
		size_t room = n->room != 0 ? n->room * 2 : 256;
		uint64_t *q = realloc(n->queue, room * sizeof *q);

		if (q == NULL) {
			pf_warn("inode %llu: no memory to announce a change; stat may show old values",
				(unsigned long long)ino);
			goto out_unlock;
		}
		n->queue = q;
		n->room = room;
	}
	n->queue[n->n++] = ino;
	*seen = ino;
	if (n->n == 1)
		(void)pthread_cond_signal(&n->more);
out_unlock:
	pf_mutex_unlock(&n->lock);
}

void pf_notify_attr_now(struct pf_notify *n, uint64_t ino)
{
	/* Offset -1: attributes only, no page is touched. */
	(void)fuse_lowlevel_notify_inval_inode(n->se, pf_node_of(ino), -1, 0);
}

static void *announce(void *arg)
{
	struct pf_notify *n = arg;
	uint64_t *batch;
	size_t count;

	pf_mutex_lock(&n->lock);
	while (!n->stop) {
		if (n->n == 0) {
			(void)pthread_cond_wait(&n->more, &n->lock.m);
			continue;
		}
		batch = n->queue;
		count = n->n;
		n->queue = NULL;
		n->n = n->room = 0;
		memset(n->recent, 0, sizeof n->recent);
		pf_mutex_unlock(&n->lock);
		/* -ENOENT: the kernel has forgotten the inode, all the better. */
		for (size_t i = 0; i < count; i++)
			(void)fuse_lowlevel_notify_inval_inode(n->se, pf_node_of(batch[i]), 0, 0);
		free(batch);
		pf_mutex_lock(&n->lock);
	}
	pf_mutex_unlock(&n->lock);
	return NULL;
}

int pf_notify_start(struct fuse_session *se, struct pf_notify **out)
{
	struct pf_notify *n = calloc(1, sizeof *n);
	int rc;

	if (n == NULL)
		return -ENOMEM;
	n->se = se;
	pf_mutex_init(&n->lock, PF_RANK_LEAF);
	(void)pthread_cond_init(&n->more, NULL);
	rc = pthread_create(&n->thread, NULL, announce, n);
	if (rc != 0) {
		(void)pthread_cond_destroy(&n->more);
		pf_mutex_fini(&n->lock);
		free(n);
		return -rc;
	}
	*out = n;
	return 0;
}

void pf_notify_stop(struct pf_notify *n)
{
	pf_mutex_lock(&n->lock);
	n->stop = true;
	(void)pthread_cond_signal(&n->more);
	pf_mutex_unlock(&n->lock);
	(void)pthread_join(n->thread, NULL);
}

void pf_notify_free(struct pf_notify *n)
{
	(void)pthread_cond_destroy(&n->more);
	pf_mutex_fini(&n->lock);
	free(n->queue);
	free(n);
}
