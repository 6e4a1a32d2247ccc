/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shift.c - collapse, insert and unshare by ioctl, as fallocate(2) does not let them through.
 *
 * Pages change their place behind the kernel's back. So what it caches of the file (plain shared mappings; the size) is
 * dropped before, which writes back what is dirty, and after. Both wait for the kernel, which may want a WRITE served
 * or a truncate to end first: hence one thread for all of these, and nobody else's requests ever queue behind them.
 * While the verb itself waits for pins, no thread is held. Owns the queue; takes one LEAF lock, never while it talks.
 */
#include "front/shift.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/lock.h"
#include "front/deadlock.h"
#include "front/handle.h"

struct job {
	struct pf_areq a;
	struct job *next;
	fuse_req_t req;
	fuse_ino_t node;
	struct pf_policy_over over;	/* the descriptor's */
	bool ended;			/* the verb has run: res */
	ssize_t res;
};

struct pf_shift {
	pthread_t thread;
	struct pf_mutex lock;		/* LEAF */
	pthread_cond_t more;
	struct job *head, **tail;
	unsigned int open;		/* jobs queued or with the verb */
	bool stop;
};

static void post(struct pf_shift *s, struct job *j)
{
	j->next = NULL;
	pf_mutex_lock(&s->lock);
	*s->tail = j;
	s->tail = &j->next;
	(void)pthread_cond_signal(&s->more);
	pf_mutex_unlock(&s->lock);
}

static void verb_done(struct pf_areq *a, ssize_t res)
{
	struct job *j = PF_CONTAINER_OF(a, struct job, a);

	j->ended = true;
	j->res = res;
	post(pf_front_of(j->req)->shift, j);
}

static void verb_aside(struct pf_areq *a, uint64_t id)
{
	pf_fuse_aside(PF_CONTAINER_OF(a, struct job, a)->req, id);
}

/* Attributes, and the pages from the offset on. -ENOENT: the kernel knows nothing of the inode, all the better. */
static void drop_cache(struct job *j)
{
	const off_t from = (off_t)pf_round_down(j->a.fallocate.off, PF_BLK_SIZE);

	(void)fuse_lowlevel_notify_inval_inode(pf_front_of(j->req)->se, j->node, from, 0);
}

/* True when the job has ended. */
static bool run(struct job *j)
{
	drop_cache(j);
	if (!j->ended) {
		pf_fuse_start(j->req, &j->a);	/* may be back in the queue by now */
		return false;
	}
	if (j->res < 0)
		(void)fuse_reply_err(j->req, (int)-j->res);
	else
		(void)fuse_reply_ioctl(j->req, 0, NULL, 0);
	free(j);
	return true;
}

static void *work(void *arg)
{
	struct pf_shift *s = arg;
	struct job *j;
	bool ended;

	pf_mutex_lock(&s->lock);
	while (!s->stop || s->open != 0) {
		j = s->head;
		if (j == NULL) {
			(void)pthread_cond_wait(&s->more, &s->lock.m);
			continue;
		}
		s->head = j->next;
		if (s->head == NULL)
			s->tail = &s->head;
		pf_mutex_unlock(&s->lock);
		ended = run(j);
		pf_mutex_lock(&s->lock);
		s->open -= ended;
	}
	pf_mutex_unlock(&s->lock);
	return NULL;
}

int pf_shift_start(struct pf_shift **out)
{
	struct pf_shift *s = calloc(1, sizeof *s);
	int rc;

	if (s == NULL)
		return -ENOMEM;
	s->tail = &s->head;
	pf_mutex_init(&s->lock, PF_RANK_LEAF);
	(void)pthread_cond_init(&s->more, NULL);
	rc = pthread_create(&s->thread, NULL, work, s);
	if (rc != 0) {
		(void)pthread_cond_destroy(&s->more);
		pf_mutex_fini(&s->lock);
		free(s);
		return -rc;
	}
	*out = s;
	return 0;
}

void pf_shift_stop(struct pf_shift *s)
{
	pf_mutex_lock(&s->lock);
	s->stop = true;
	(void)pthread_cond_signal(&s->more);
	pf_mutex_unlock(&s->lock);
	(void)pthread_join(s->thread, NULL);
}

void pf_shift_free(struct pf_shift *s)
{
	(void)pthread_cond_destroy(&s->more);
	pf_mutex_fini(&s->lock);
	free(s);
}

/* As vfs_fallocate(). */
static int check(const struct pinfs_fallocate *fa, bool write)
{
	if (fa->fa_pad != 0 || fa->fa_off < 0 || fa->fa_len <= 0)
		return -EINVAL;
	if (!(fa->fa_mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE)))
		return -EOPNOTSUPP;	/* the kernel passes the others on, with its own locks held */
	return write ? 0 : -EBADF;
}

static int verb_stuck(struct pf_areq *a, bool again)
{
	const struct pf_front *f = pf_front_of(PF_CONTAINER_OF(a, struct job, a)->req);

	return again ? pf_deadlock_check(f, a) : pf_deadlock_with_itself(f, a);
}

void pf_shift_ioctl(fuse_req_t req, fuse_ino_t node, const struct pinfs_fallocate *fa, uint64_t fh)
{
	struct pf_shift *s = pf_front_of(req)->shift;
	int err = check(fa, pf_handle_writes(fh));
	struct job *j;
	bool stop;

	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	j = calloc(1, sizeof *j);
	if (j == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	j->req = req;
	j->node = node;
	j->a.op = PF_AOP_FALLOCATE;
	j->a.ino = pf_ino_of(node);
	j->a.cred = pf_cred_of(req);
	j->a.ar_done = verb_done;
	j->a.ar_aside = verb_aside;
	j->a.ar_stuck = verb_stuck;
	if (pf_handle_policy(fh, &j->over))
		j->a.policy = &j->over;
	j->a.fallocate.mode = fa->fa_mode;
	j->a.fallocate.off = (uint64_t)fa->fa_off;
	j->a.fallocate.len = (uint64_t)fa->fa_len;
	j->a.fallocate.kill_priv = pf_fuse_kill_priv(req, j->a.ino);
	pf_mutex_lock(&s->lock);
	stop = s->stop;
	s->open += !stop;
	pf_mutex_unlock(&s->lock);
	if (stop) {
		(void)fuse_reply_err(req, EIO);
		free(j);
		return;
	}
	post(s, j);
}
