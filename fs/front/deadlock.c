/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * deadlock.c - who waits for whom, from the waiting operations and from /proc, and whether that is a circle.
 *
 * Owns the verdicts of the last search, which are the timer's thread's. Takes no lock. What /proc says may be old when
 * it is read: so a process only counts as waiting for something that does not end by itself.
 *
 * An operation waits until all the pins in its way are gone; one holder that waits for the operation, directly or not,
 * is enough for a deadlock. A thread of a holder waits
 *
 *   - for an operation that it has called itself;
 *   - for one that keeps the kernel's inode lock, when it is in a system call that needs this lock: the kernel then
 *     holds it where not even SIGKILL reaches it, and sends us nothing.
 *
 * A holder with several threads is stuck when all of them are: each waits so, or, without a limit, for another one of
 * its process. Whatever else a thread does, it may go on and end the pin; libpinfs.so's own do not.
 */
#include "front/deadlock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "front/stuck.h"

#define WAITING_MAX 4096U
#define HOLDERS_MAX 16U
#define PROCS_MAX 256U
#define OLD_NS UINT64_C(50000000)	/* one search is for all who ask within that time */

struct node {
	struct pf_waiting w;
	enum { NEW, OPEN, DONE } is;
	bool stays;			/* nothing that can go on by itself will end it */
	unsigned int up;		/* OPEN: the one that led here */
	unsigned int nholder, next;	/* next: of the holders, and of what that one waits for, to look at */
	unsigned int next_wait;
	pid_t holder[HOLDERS_MAX];
	pid_t stuck;			/* in a circle, and the youngest there: who waits for it */
};

struct proc {
	pid_t pid;
	unsigned int nwait;		/* 0: it can go on by itself */
	unsigned int wait[PF_STUCK_MAX];	/* nodes, one for each of its threads that waits */
	const char *how;
};

struct search {
	const struct pf_front *front;
	unsigned int n, nproc;
	struct proc proc[PROCS_MAX];
	struct node node[WAITING_MAX];
};

struct pf_deadlock {
	uint64_t when_ns;
	unsigned int n;
	struct verdict { uint64_t id; pid_t other; const char *how; } v[64];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static bool read_line(const char *path, char *line, size_t len)
{
	FILE *f = fopen(path, "re");
	bool got;

	if (f == NULL)
		return false;
	got = fgets(line, (int)len, f) != NULL;
	(void)fclose(f);
	line[got ? strcspn(line, "\n") : 0] = '\0';
	return got;
}

/* What a process waits for, asked once in a search. */
static struct proc *look_up(struct search *s, pid_t pid)
{
	struct pf_thread t[PF_STUCK_MAX];
	struct proc *p;
	unsigned int n;

	for (p = s->proc; p < s->proc + s->nproc; p++)
		if (p->pid == pid)
			return p;
	if (s->nproc == PROCS_MAX)
		return NULL;
	s->nproc++;
	*p = (struct proc){ .pid = pid, .how = "an operation of its own" };
	n = pf_stuck_threads(s->front, pid, t);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int w = 0;

		if (t[i].is == PF_THREAD_INNER)
			continue;
		/* An operation that it has called, or one that keeps the lock which it needs. */
		while (w < s->n && s->node[w].w.tid != t[i].tid)
			w++;
		if (w == s->n && t[i].is == PF_THREAD_LOCK)
			for (w = 0; w < s->n && !(s->node[w].w.kernel_lock && s->node[w].w.ino == t[i].ino); w++)
				;
		if (w == s->n || p->nwait == PF_STUCK_MAX) {
			p->nwait = 0;
			break;
		}
		if (s->node[w].w.tid != t[i].tid)
			p->how = t[i].how;
		p->wait[p->nwait++] = w;
	}
	return p;
}

/*
 * Who can go on? A process with a thread that waits for nothing of ours; an operation none of whose holders is stuck;
 * and whoever has a thread that waits only for those. The rest is stuck for good. Less at each pass, so it ends.
 */
static bool process_stuck(const struct search *s, const struct proc *p)
{
	if (p == NULL || p->nwait == 0)
		return false;
	for (unsigned int i = 0; i < p->nwait; i++)
		if (!s->node[p->wait[i]].stays)
			return false;
	return true;
}

static bool operation_stuck(struct search *s, const struct node *nd)
{
	for (unsigned int i = 0; i < nd->nholder; i++)
		if (process_stuck(s, look_up(s, nd->holder[i])))
			return true;
	return false;
}

static void sift(struct search *s)
{
	bool less = true;

	for (unsigned int i = 0; i < s->n; i++) {
		s->node[i].nholder = pf_lay_waits_for(s->front->fs, s->node[i].w.id, s->node[i].holder, HOLDERS_MAX);
		s->node[i].stays = true;
	}
	while (less) {
		less = false;
		for (unsigned int i = 0; i < s->n; i++)
			if (s->node[i].stays && !operation_stuck(s, &s->node[i])) {
				s->node[i].stays = false;
				less = true;
			}
	}
}

/* From @top back to @bottom is a circle: the youngest in it has to give way. */
static void circle(struct search *s, unsigned int top, unsigned int bottom)
{
	unsigned int young = top;

	for (unsigned int i = top;; i = s->node[i].up) {
		if (s->node[i].w.id > s->node[young].w.id)
			young = i;
		if (i == bottom)
			break;
	}
	s->node[young].stuck = s->node[young].holder[s->node[young].next];
}

/* Depth first, among those that stay; what is DONE leads to no circle that was not found. */
static void walk(struct search *s, unsigned int from)
{
	unsigned int at = from;

	s->node[from].is = OPEN;
	for (;;) {
		struct node *nd = &s->node[at], *to;
		const struct proc *p = nd->next < nd->nholder ? look_up(s, nd->holder[nd->next]) : NULL;

		if (nd->next == nd->nholder) {
			nd->is = DONE;
			if (at == from)
				return;
			at = nd->up;
		} else if (p == NULL || !process_stuck(s, p) || nd->next_wait == p->nwait) {
			nd->next++;
			nd->next_wait = 0;
		} else {
			to = &s->node[p->wait[nd->next_wait++]];
			if (to->is == OPEN) {
				circle(s, at, (unsigned int)(to - s->node));
			} else if (to->is == NEW) {
				to->is = OPEN;
				to->up = at;
				at = (unsigned int)(to - s->node);
			}
		}
	}
}

static void search(const struct pf_front *f, struct pf_deadlock *d)
{
	struct search *s = calloc(1, sizeof *s);
	struct pf_waiting *w = malloc(WAITING_MAX * sizeof *w);

	d->n = 0;
	if (s != NULL && w != NULL) {
		s->front = f;
		s->n = pf_lay_waiting(f->fs, w, WAITING_MAX);
		for (unsigned int i = 0; i < s->n; i++)
			s->node[i].w = w[i];
		sift(s);
		for (unsigned int i = 0; i < s->n; i++)
			if (s->node[i].stays && s->node[i].is == NEW)
				walk(s, i);
		for (unsigned int i = 0; i < s->n && d->n < PF_ARRAY_LEN(d->v); i++)
			if (s->node[i].stuck != 0)
				d->v[d->n++] = (struct verdict){ s->node[i].w.id, s->node[i].stuck,
								 look_up(s, s->node[i].stuck)->how };
	}
	free(s);
	free(w);
	d->when_ns = now_ns();
}

static int say(const struct pf_areq *a, pid_t other, const char *how)
{
	char path[64], mine[32] = "", its[32] = "";

	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)a->brk.tid);
	(void)read_line(path, mine, sizeof mine);
	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)other);
	(void)read_line(path, its, sizeof its);
	pf_warn("deadlock: %s of inode %llu by pid %d (%s) waits for pins of pid %d (%s), which waits for it in %s",
		a->brk.what, (unsigned long long)a->ino, (int)a->brk.tid, mine, (int)other, its, how);
	return -EDEADLK;
}

bool pf_deadlock_alone(const struct pf_front *f, pid_t pid, pid_t tid)
{
	struct pf_thread t[PF_STUCK_MAX];
	unsigned int n = pf_stuck_threads(f, pid, t);
	bool it = false;

	for (unsigned int i = 0; i < n; i++) {
		if (t[i].tid != tid && t[i].is != PF_THREAD_INNER)
			return false;
		it = it || t[i].tid == tid;
	}
	return it;
}

int pf_deadlock_with_itself(const struct pf_front *f, const struct pf_areq *a)
{
	pid_t holder[HOLDERS_MAX];
	unsigned int n = pf_lay_waits_for(f->fs, a->brk.id, holder, HOLDERS_MAX);

	for (unsigned int i = 0; i < n; i++)
		if (pf_deadlock_alone(f, holder[i], a->brk.tid))
			return say(a, holder[i], "this very call");
	return 0;
}

int pf_deadlock_check(const struct pf_front *f, const struct pf_areq *a)
{
	struct pf_deadlock *d = f->deadlock;

	if (now_ns() - d->when_ns > OLD_NS)
		search(f, d);
	for (unsigned int i = 0; i < d->n; i++)
		if (d->v[i].id == a->brk.id)
			return say(a, d->v[i].other, d->v[i].how);
	return 0;
}

struct pf_deadlock *pf_deadlock_new(void)
{
	return calloc(1, sizeof(struct pf_deadlock));
}

void pf_deadlock_free(struct pf_deadlock *d)
{
	free(d);
}
