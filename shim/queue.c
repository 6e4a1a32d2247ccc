/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * queue.c - pipes and sockets with pages of windows in them (queue.h). Owns a descriptor for each, in the crew's
 * table, and the holds.
 *
 * HOW THE END IS SEEN. Both are first in, first out. Of what we know to have been put in, hold i ended at byte
 * e(i) of t. When r bytes are left in the queue, whoever put them there, everything but the last r of those has
 * gone: hold i has, if e(i) <= t - r. What others put in behind makes r bigger, so a hold may last longer than its
 * pages, never shorter.
 *
 *   pipe    FIONREAD says r. To have an end of the pipe open would hide the program's close() from the other
 *           side; so we keep a descriptor that is neither (O_PATH), and open the reading end for the moment of
 *           looking. A pipe whose last end has been closed is empty when it is opened anew that way.
 *   socket  SIOCOUTQ says r, for TCP: bytes that the peer has not acknowledged. For all kinds: no memory is
 *           charged to the socket for sending (SO_MEMINFO), neither queued nor on its way. The program's
 *           completions on the error queue are left alone: to read one is to take it. The descriptor is a copy,
 *           so that close() does not end our view: the connection's end follows when the last page has gone.
 *
 * serve looks after a millisecond, then less often, up to 32 ms; from the beginning when a page was given back, or
 * when an invalidation comes: somebody may wait then. The list is under the lock of holds; nothing is asked under it.
 */
#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

#define IOV_LIMIT 1024U
#define LOOK_MS 1
#define LOOK_MOST_MS 32

struct entry {
	struct entry *next;
	struct sh_hold *hold;
	uint64_t end;			/* of its bytes, of all that we know of */
};

struct queue {
	struct queue *next;
	uint64_t dev, ino;
	int fd;				/* crew's */
	bool pipe, counts;		/* counts: what is left is known in bytes */
	uint64_t total;
	struct entry *first, **last;
};

static struct queue *queues;		/* the lock of holds */
static _Atomic int look_ms;		/* 0: there are none */

/* ---- what is left ---- */

/* -1: cannot be told. */
static int64_t left_in_pipe(int fd)
{
	char path[64];
	int n = -1;
	long rd;

	(void)snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
	rd = sh_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (rd < 0)
		return -1;
	if (sh_sys(SYS_ioctl, rd, FIONREAD, &n) != 0)
		n = -1;
	(void)sh_sys(SYS_close, rd);
	return n;
}

static int64_t left_in_socket(const struct queue *q)
{
	uint32_t mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof mem;
	int n = 0;

	if (sh_sys(SYS_getsockopt, q->fd, SOL_SOCKET, SO_MEMINFO, mem, &len) != 0)
		return -1;
	if (mem[SK_MEMINFO_WMEM_ALLOC] == 0 && mem[SK_MEMINFO_WMEM_QUEUED] == 0)
		return 0;
	if (!q->counts || sh_sys(SYS_ioctl, q->fd, SIOCOUTQ, &n) != 0)
		return INT64_MAX;
	return n > 0 ? n : 1;
}

/* ---- the list ---- */

static struct queue *queue_of(const struct stat *st)
{
	struct queue *q = queues;

	while (q != NULL && (q->dev != st->st_dev || q->ino != st->st_ino))
		q = q->next;
	return q;
}

/* A chain of entries, for the same bytes. */
static void append(struct queue *q, struct entry *e, uint64_t bytes)
{
	q->total += bytes;
	*q->last = e;
	for (; e != NULL; e = e->next) {
		e->end = q->total;
		q->last = &e->next;
	}
}

/* To one that is known already. */
static bool add_known(const struct stat *st, struct entry *e, uint64_t bytes)
{
	struct queue *q;
	sh_sigs old;

	sh_holds_quiet(&old);
	q = queue_of(st);
	if (q != NULL)
		append(q, e, bytes);
	sh_holds_loud(&old);
	return q != NULL;
}

struct add_call {
	int tid, fd;
	const struct stat *st;
	struct entry *e;
	uint64_t bytes;
};

/* In the crew: its table has the descriptor. */
static int add_new(void *arg)
{
	static atomic_bool told;
	struct add_call *c = arg;
	int fd = sh_crew_take_fd(c->tid, c->fd), type = 0, domain = 0;
	socklen_t len = sizeof type;
	struct queue *q = NULL;
	char path[64];
	sh_sigs old;
	long at;

	if (fd < 0)
		return fd;
	q = sh_alloc(sizeof *q);
	if (q == NULL) {
		(void)sh_sys(SYS_close, fd);
		return -ENOMEM;
	}
	q->pipe = S_ISFIFO(c->st->st_mode);
	if (q->pipe) {
		(void)snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
		at = sh_sys(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
		(void)sh_sys(SYS_close, fd);
		fd = (int)at;
		if (fd < 0 || left_in_pipe(fd) < 0) {
			if (!atomic_exchange(&told, true))
				sh_log(SH_WARN, "a pipe with pages of a window in it cannot be looked at: not held");
			if (fd >= 0)
				(void)sh_sys(SYS_close, fd);
			sh_free(q, sizeof *q);
			return -EACCES;
		}
		q->counts = true;
	} else {
		(void)sh_sys(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len);
		len = sizeof domain;
		(void)sh_sys(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
		q->counts = type == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6);
	}
	q->fd = fd;
	q->dev = c->st->st_dev;
	q->ino = c->st->st_ino;
	q->last = &q->first;
	append(q, c->e, c->bytes);
	sh_holds_quiet(&old);
	q->next = queues;
	queues = q;
	sh_holds_loud(&old);
	sh_queue_hurry();
	sh_serve_bell();
	return 0;
}

/* All of these have pages among the @bytes. */
static void add(int fd, struct sh_hold *const *hold, uint32_t n, uint64_t bytes)
{
	struct add_call c = { .tid = (int)sh_sys(SYS_gettid), .fd = fd, .bytes = bytes };
	struct entry *e, *next;
	struct stat st;
	bool ok = n > 0 && bytes > 0 && sh_sys(SYS_fstat, fd, &st) == 0 &&
		  (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));

	c.st = &st;
	for (uint32_t i = 0; i < n; i++) {
		e = ok ? sh_alloc(sizeof *e) : NULL;
		if (e == NULL) {
			sh_hold_drop(hold[i]);
			continue;
		}
		e->hold = hold[i];
		e->next = c.e;
		c.e = e;
	}
	/* Two queues for one pipe, when two threads are here at once, are as good as one. */
	if (c.e == NULL || add_known(&st, c.e, bytes) || sh_crew_call(add_new, &c) == 0)
		return;
	for (e = c.e; e != NULL; e = next) {
		next = e->next;
		sh_hold_drop(e->hold);
		sh_free(e, sizeof *e);
	}
}

void sh_queue_add(int fd, struct sh_hold *h, uint64_t bytes)
{
	int saved = errno;

	if (h != NULL)
		add(fd, &h, 1, bytes);
	errno = saved;
}

/* ---- on to the next queue ---- */

bool sh_queue_any(void)
{
	return atomic_load_explicit(&look_ms, memory_order_relaxed) != 0;
}

void sh_queue_peek(int fd, struct sh_holds *out)
{
	const struct entry *e, *first;
	struct queue *q;
	struct stat st;
	sh_sigs old;

	*out = (struct sh_holds){ 0 };
	sh_alive();
	if (sh_sys(SYS_fstat, fd, &st) != 0)
		return;
	sh_holds_quiet(&old);
	q = queue_of(&st);
	first = q != NULL ? q->first : NULL;
	for (e = first; e != NULL; e = e->next)
		out->room++;
	out->hold = out->room > 0 ? sh_alloc(out->room * sizeof(struct sh_hold *)) : NULL;
	for (e = first; out->hold != NULL && e != NULL; e = e->next) {
		sh_hold_ref(e->hold);
		out->hold[out->n++] = e->hold;
	}
	sh_holds_loud(&old);
}

void sh_queue_moved(int out, struct sh_holds *some, uint64_t bytes)
{
	int saved = errno;

	add(out, some->hold, some->n, bytes);
	if (some->hold != NULL)
		sh_free(some->hold, some->room * sizeof(struct sh_hold *));
	errno = saved;
}

/* ---- looking; serve ---- */

/* Entries whose bytes are the first @gone_to, taken out. True: the queue is empty, and out of the list. */
static bool take_gone(struct queue *q, uint64_t gone_to, struct entry **gone)
{
	struct entry **tail = gone;
	struct queue **p;
	bool empty;
	sh_sigs old;

	sh_holds_quiet(&old);
	while (q->first != NULL && q->first->end <= gone_to) {
		*tail = q->first;
		q->first = q->first->next;
		tail = &(*tail)->next;
	}
	*tail = NULL;
	empty = q->first == NULL;
	if (empty) {
		q->last = &q->first;
		for (p = &queues; *p != q; p = &(*p)->next)
			;
		*p = q->next;
	}
	sh_holds_loud(&old);
	return empty;
}

int sh_queue_timeout_ms(void)
{
	int ms = atomic_load(&look_ms);

	return ms == 0 ? -1 : ms;
}

void sh_queue_hurry(void)
{
	if (queues != NULL)
		atomic_store(&look_ms, LOOK_MS);
}

void sh_queue_timer(void)
{
	struct entry *gone, *next;
	bool some = false;
	struct queue *q, *after;
	uint64_t total;
	int64_t left;
	sh_sigs old;

	if (atomic_load(&look_ms) == 0)
		return;
	sh_holds_quiet(&old);
	q = queues;
	sh_holds_loud(&old);
	/* New ones come in front, and nobody but this thread takes one out. */
	for (; q != NULL; q = after) {
		after = q->next;
		sh_holds_quiet(&old);
		total = q->total;
		sh_holds_loud(&old);
		left = q->pipe ? left_in_pipe(q->fd) : left_in_socket(q);
		/* The total as it was before the question: bytes that have come since are not among those gone. */
		if (take_gone(q, left < 0 || (uint64_t)left > total ? 0 : total - (uint64_t)left, &gone)) {
			(void)sh_sys(SYS_close, q->fd);
			sh_free(q, sizeof *q);
		}
		for (; gone != NULL; gone = next) {
			next = gone->next;
			sh_hold_drop(gone->hold);
			sh_free(gone, sizeof *gone);
			some = true;
		}
	}
	sh_holds_quiet(&old);
	atomic_store(&look_ms, queues == NULL ? 0 : some ? LOOK_MS : (int)pf_min64(
		     (uint64_t)atomic_load(&look_ms) * 2, LOOK_MOST_MS));
	sh_holds_loud(&old);
}

void sh_queues_forget(void)
{
	queues = NULL;
	atomic_store(&look_ms, 0);
}

/* ---- sockets ---- */

static bool message_at(const struct sh_zerocopy *z, size_t i, struct msghdr *m)
{
	const char *user = (const char *)z->msg + i * z->stride;
	struct iovec here = { m, sizeof *m }, there = { (void *)(uintptr_t)user, sizeof *m };
	long r = sh_sys(SYS_process_vm_readv, sh_sys(SYS_getpid), &here, 1L, &there, 1L, 0L);

	if (r == -EPERM || r == -ENOSYS || r == -ESRCH) {
		memcpy(m, user, sizeof *m);
		r = (long)sizeof *m;
	}
	return r == (long)sizeof *m && m->msg_iovlen <= IOV_LIMIT;
}

/* The arrays of all messages in one. What is no memory is the call's to say. */
static struct iovec *gather(const struct sh_zerocopy *z, size_t *n)
{
	struct iovec *v;
	struct msghdr m;
	size_t at = 0;

	*n = 0;
	for (size_t i = 0; i < z->nmsg; i++)
		*n += message_at(z, i, &m) ? m.msg_iovlen : 0;
	v = *n > 0 ? sh_alloc(*n * sizeof *v) : NULL;
	for (size_t i = 0; v != NULL && i < z->nmsg; i++) {
		if (message_at(z, i, &m) && at + m.msg_iovlen <= *n &&
		    sh_iov_fetch(m.msg_iov, m.msg_iovlen, v + at) == 0)
			at += m.msg_iovlen;
	}
	return v;
}

int sh_zerocopy_begin(int fd, const struct sh_zerocopy *z, struct sh_hold **out)
{
	const struct iovec *v = &z->one;
	struct iovec *mine = NULL;
	socklen_t len = sizeof(int);
	size_t n = 1;
	int on = 0, err = 0;

	if (sh_is_crew || sh_sys(SYS_getsockopt, fd, SOL_SOCKET, SO_ZEROCOPY, &on, &len) != 0 || !on)
		return 0;
	sh_alive();
	if (z->nmsg > 0) {
		mine = gather(z, &n);
		v = mine;
	}
	if (v != NULL && sh_iov_touches(v, n)) {
		err = sh_hold(v, n, 0, PF_API_ZEROCOPY, out);
		for (size_t i = 0; sh.user_mode && i < n; i++)
			sh_prefault(sh_addr(v[i].iov_base), v[i].iov_len, false);
		sh_hold_enter(*out, z);
	}
	if (mine != NULL)
		sh_free(mine, n * sizeof *mine);
	return err;
}

void sh_zerocopy_end(int fd, struct sh_hold *h, uint64_t bytes)
{
	sh_hold_leave(h);
	sh_queue_add(fd, h, bytes);
}
