/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap.c - reads the rings of a trace. Owns struct pf_tap, and a reference of each session that it reads. The list of
 * those is under REGISTRY; rings are read without any lock.
 */
#include "share/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/falloc.h>
#include "base/probe.h"
#include "share/lay.h"

#define PATIENCE_NS UINT64_C(50000000)	/* with a cell that somebody writes: he may have died in the middle */

struct source {
	struct source *next;
	struct pf_sess *sess;
	struct pf_t_ring *ring;
	uint64_t at;			/* the next event's number */
	uint64_t stuck_ns;		/* since when that cell has been half written; 0: it is not */
	uint64_t stuck_head;		/* what was being written then, has been long enough */
};

struct pf_tap {
	struct pf_fs *fs;
	pid_t pid;			/* who traces */
	uint64_t since_ns;
	uint64_t at;			/* in the daemon's ring */
	bool on;			/* REGISTRY */
	struct source *fresh;		/* REGISTRY: not read yet */
	struct source *list;
};

/* ---- whom it reads ---- */

static void tell(struct pf_sess *s, bool on)
{
	struct pf_p_notify_trace tr = { .nt_on = on };
	struct fuse_out_header h = { .len = sizeof h + sizeof tr, .error = PF_P_NOTIFY_TRACE, .unique = 0 };
	struct iovec iov[2] = { { &h, sizeof h }, { &tr, sizeof tr } };

	if (atomic_load(&s->state) == PF_SESS_LIVE)
		s->send(s->send_arg, iov, 2);
}

/* Nothing is held. Without memory its events are missing. */
static struct source *source_of(struct pf_sess *s)
{
	struct source *src = calloc(1, sizeof *src);
	void *p = MAP_FAILED;

	if (src)
		p = mmap(NULL, PF_T_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->led.fd,
			 (off_t)s->led.trace_off);
	if (p == MAP_FAILED) {
		free(src);
		return NULL;
	}
	pf_sess_get(s);
	src->sess = s;
	src->ring = p;
	src->at = atomic_load(&src->ring->tr_head);	/* an earlier trace's are not ours */
	return src;
}

static void introduce(struct pf_sess *s)
{
	PF_PROBE_JOIN(s);
	for (struct pf_share *sh = pf_sess_share(s, NULL); sh; sh = pf_sess_share(s, sh))
		PF_PROBE_FILE(s, sh->obj->ino, sh->path);
}

/* Does @t want it? Then it is put on its list, and @src is used up. */
static bool add(struct pf_lay *lay, struct pf_tap *t, struct source *src)
{
	bool wanted;

	pf_mutex_lock(&lay->lock);
	wanted = lay->tap != NULL && (t == NULL || lay->tap == t) && lay->tap->on && src->sess->greeted &&
		 !src->sess->tapped;
	if (wanted) {
		src->sess->tapped = true;
		src->next = lay->tap->fresh;
		lay->tap->fresh = src;
	}
	pf_mutex_unlock(&lay->lock);
	return wanted;
}

static void drop_source(struct source *src)
{
	struct pf_sess *s = src->sess;

	(void)munmap(src->ring, PF_T_RING_BYTES);
	/* What was written of it is memory again. The seals forbid other lengths, not this. */
	(void)fallocate(s->led.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(s->led.trace_off + PF_BLK_SIZE),
			(off_t)(PF_T_RING_BYTES - PF_BLK_SIZE));
	pf_mutex_lock(&s->fs->lay->lock);
	s->tapped = false;
	pf_mutex_unlock(&s->fs->lay->lock);
	pf_sess_put(s);
	free(src);
}

static void connect(struct pf_tap *t, struct pf_sess *s)
{
	struct source *src = source_of(s);

	if (!src)
		return;
	if (add(s->fs->lay, t, src)) {
		introduce(s);
		tell(s, true);
	} else {
		(void)munmap(src->ring, PF_T_RING_BYTES);
		pf_sess_put(s);
		free(src);
	}
}

void pf_tap_join(struct pf_sess *s)
{
	struct pf_lay *lay = s->fs->lay;
	bool traced;

	pf_mutex_lock(&lay->lock);
	s->greeted = true;
	traced = lay->tap != NULL;
	pf_mutex_unlock(&lay->lock);
	if (traced)
		connect(NULL, s);
}

/* ---- beginning and end ---- */

#define SESSIONS_MAX 8192U

int pf_tap_open(struct pf_fs *fs, pid_t pid, struct pf_tap **out)
{
	struct pf_sess **sess = malloc(SESSIONS_MAX * sizeof(struct pf_sess *));
	struct pf_tap *t = calloc(1, sizeof *t);
	unsigned int n;
	int err = -ENOMEM;

	if (!t || !sess)
		goto out_free;
	t->fs = fs;
	t->pid = pid;
	t->on = true;
	pf_mutex_lock(&fs->lay->lock);
	err = fs->lay->tap ? -EBUSY : 0;
	if (err == 0)
		fs->lay->tap = t;
	pf_mutex_unlock(&fs->lay->lock);
	if (err != 0)
		goto out_free;
	t->since_ns = pf_trace_now();
	err = pf_trace_start(fs);
	if (err != 0) {
		pf_mutex_lock(&fs->lay->lock);
		fs->lay->tap = NULL;
		pf_mutex_unlock(&fs->lay->lock);
		goto out_free;
	}
	n = pf_reg_sessions(fs, sess, SESSIONS_MAX);
	for (unsigned int i = 0; i < n; i++) {
		if (atomic_load(&sess[i]->state) != PF_SESS_DEAD)
			connect(t, sess[i]);
		pf_sess_put(sess[i]);
	}
	free(sess);
	*out = t;
	return 0;

out_free:
	free(t);
	free(sess);
	return err;
}

pid_t pf_tap_pid(struct pf_fs *fs)
{
	pid_t pid;

	pf_mutex_lock(&fs->lay->lock);
	pid = fs->lay->tap ? fs->lay->tap->pid : 0;
	pf_mutex_unlock(&fs->lay->lock);
	return pid;
}

/* Sessions that joined since the last look. */
static void take_fresh(struct pf_tap *t)
{
	struct source *src, *next;

	pf_mutex_lock(&t->fs->lay->lock);
	src = t->fresh;
	t->fresh = NULL;
	pf_mutex_unlock(&t->fs->lay->lock);
	for (; src; src = next) {
		next = src->next;
		src->next = t->list;
		t->list = src;
	}
}

void pf_tap_quiet(struct pf_tap *t)
{
	bool was;

	pf_mutex_lock(&t->fs->lay->lock);
	was = t->on;
	t->on = false;
	pf_mutex_unlock(&t->fs->lay->lock);
	if (!was)
		return;
	pf_trace_quiet(t->fs);
	take_fresh(t);
	for (struct source *src = t->list; src; src = src->next)
		tell(src->sess, false);
}

void pf_tap_close(struct pf_tap *t)
{
	struct source *src;

	if (!t)
		return;
	pf_tap_quiet(t);
	pf_trace_stop(t->fs);
	while ((src = t->list) != NULL) {
		t->list = src->next;
		drop_source(src);
	}
	pf_mutex_lock(&t->fs->lay->lock);
	t->fs->lay->tap = NULL;
	pf_mutex_unlock(&t->fs->lay->lock);
	free(t);
}

/* ---- reading ---- */

/* What a client may say, as it can have happened. False: nonsense. */
static bool sane(const struct pf_tap *t, const struct pf_sess *s, uint64_t now, struct pf_t_ev *ev)
{
	if (ev->te_type == PF_TE_NONE || ev->te_type > PF_TE_CLIENT_LAST)
		return false;
	ev->te_sess = s->id;
	ev->te_pid = (uint32_t)s->pid;
	if (ev->te_ns > now)
		ev->te_ns = now;
	if (ev->te_ns < t->since_ns) {		/* a fault may have begun before */
		ev->te_dur -= ev->te_dur < t->since_ns - ev->te_ns ? ev->te_dur : t->since_ns - ev->te_ns;
		ev->te_ns = t->since_ns;
	}
	if (ev->te_dur > now - ev->te_ns)
		ev->te_dur = now - ev->te_ns;
	if (ev->te_err > 0 || ev->te_err < -4095)
		ev->te_err = 0;
	ev->te_text[sizeof ev->te_text - 1] = '\0';
	return true;
}

/* The event number @at: 1; 0: it is being written; -1: overwritten. */
static int copy_cell(struct pf_t_ring *r, uint64_t at, struct pf_t_ev *out)
{
	struct pf_t_cell *c = &r->tr_cell[at % PF_T_CELLS];
	uint64_t seq = atomic_load_explicit(&c->tc_seq, memory_order_acquire);
	union { struct pf_t_ev ev; uint64_t word[sizeof(struct pf_t_ev) / sizeof(uint64_t)]; } copy;

	if (seq != at + 1)
		return seq > at + 1 ? -1 : 0;
	/* Each word before the second look at the number. */
	for (size_t i = 0; i < sizeof copy.word / sizeof copy.word[0]; i++)
		copy.word[i] = __atomic_load_n((const uint64_t *)(const void *)&c->tc_ev + i, __ATOMIC_ACQUIRE);
	*out = copy.ev;
	return atomic_load_explicit(&c->tc_seq, memory_order_relaxed) == at + 1 ? 1 : -1;
}

static unsigned int drain(struct pf_tap *t, struct source *src, struct pf_t_ev *out, unsigned int max, uint64_t *lost)
{
	uint64_t head = atomic_load(&src->ring->tr_head), now = pf_trace_now();
	unsigned int n = 0, steps = 0;
	int got;

	if (head < src->at)			/* only nonsense goes backwards */
		src->at = head;
	if (head - src->at > PF_T_CELLS) {
		/* Not from the oldest on: that would be overwritten while we read it. */
		*lost += head - src->at - PF_T_CELLS / 2;
		src->at = head - PF_T_CELLS / 2;
	}
	while (src->at != head && n < max && steps++ < 2 * max) {
		got = copy_cell(src->ring, src->at, &out[n]);
		if (got == 0) {
			if (src->stuck_ns == 0) {
				src->stuck_ns = now;
				src->stuck_head = head;
			}
			if (now - src->stuck_ns < PATIENCE_NS || src->at >= src->stuck_head)
				break;
			got = -1;
		}
		src->at++;
		if (src->at >= src->stuck_head)
			src->stuck_ns = 0;
		if (got == 1 && sane(t, src->sess, now, &out[n]))
			n++;
		else
			++*lost;
	}
	return n;
}

unsigned int pf_tap_read(struct pf_tap *t, struct pf_t_ev *out, unsigned int max, struct pf_p_trace_out *head)
{
	unsigned int n, got;
	struct source **at;

	take_fresh(t);
	*head = (struct pf_p_trace_out){ .to_since_ns = t->since_ns };
	n = pf_trace_take(t->fs, &t->at, out, max, &head->to_lost);
	for (at = &t->list; *at;) {
		struct source *src = *at;
		bool dead = atomic_load(&src->sess->state) == PF_SESS_DEAD;

		got = drain(t, src, out + n, max - n, &head->to_lost);
		n += got;
		if (dead && n < max && (src->stuck_ns == 0 || got == 0)) {
			*at = src->next;
			drop_source(src);
		} else {
			at = &src->next;
		}
	}
	head->to_now_ns = pf_trace_now();
	head->to_nev = n;
	head->to_more = n == max;
	return n;
}
