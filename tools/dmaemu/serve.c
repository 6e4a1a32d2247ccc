/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve.c - `dmaemu serve`: the device as a process of its own.
 *
 * It maps and pins the files that submitters pass to it, so a pin is held by its own session with the mount: a
 * submitter that exits or is killed changes nothing for a transfer in flight. Or it works through pins that submitters
 * hold (remote.c). One thread accepts, one thread per
 * connection obeys (a pin may have to wait, and must not hold up the others), the engine's thread moves bytes. One
 * lock, over the table of transfers; not held during pins, waits or I/O. Owns the socket and the table.
 */
#include "dmaemu/wire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONN_MAX 512U
#define KEEP_ENDED 4096U
#define HANGUP_LOOK_NS UINT64_C(200000000)

struct entry {
	struct entry *next;
	struct job job;
	struct dma_xfer *x;	/* NULL while the submission is under way */
	struct job_map map;	/* odp: the window, until the end */
	struct server *s;
	unsigned int refs;	/* the table's, and threads that look at it without the lock */
};

struct server {
	struct dma_engine *e;
	bool verbose;
	pthread_mutex_t lock;
	struct entry *first, **last;	/* by age */
	size_t n;
	uint64_t next_id;
	unsigned int conns;
};

struct conn {
	struct server *s;
	int sock;
};

static void entry_put_locked(struct entry *en)
{
	if (--en->refs != 0)
		return;
	dma_xfer_put(en->x);
	free(en);
}

static bool ended(struct entry *en)
{
	struct dma_stat st;

	if (en->x == NULL)
		return false;
	dma_xfer_stat(en->x, &st);
	return st.ds_state == DMA_DONE;
}

static void unlink_locked(struct server *s, struct entry **at)
{
	struct entry *en = *at;

	*at = en->next;
	if (s->last == &en->next)
		s->last = at;
	s->n--;
	entry_put_locked(en);
}

static struct entry **find_locked(struct server *s, uint64_t id)
{
	struct entry **at = &s->first;

	while (*at != NULL && (*at)->job.id != id)
		at = &(*at)->next;
	return at;
}

/* A place in the table for @j, which gets a number. Results of old transfers make room. */
static int table_add(struct server *s, struct job *j, struct entry **out)
{
	struct entry *en = calloc(1, sizeof(*en)), **at;
	int err = 0;

	if (en == NULL)
		return -ENOMEM;
	(void)pthread_mutex_lock(&s->lock);
	if (j->id != 0) {
		at = find_locked(s, j->id);
		if (*at != NULL && !ended(*at)) {
			err = -EEXIST;
			goto out_unlock;
		}
		if (*at != NULL)
			unlink_locked(s, at);
	} else {
		do
			j->id = s->next_id++;
		while (*find_locked(s, j->id) != NULL);
	}
	for (at = &s->first; s->n >= KEEP_ENDED && *at != NULL;) {
		if (ended(*at))
			unlink_locked(s, at);
		else
			at = &(*at)->next;
	}
	en->job = *j;
	en->s = s;
	en->refs = 2;
	*s->last = en;
	s->last = &en->next;
	s->n++;
	*out = en;
out_unlock:
	(void)pthread_mutex_unlock(&s->lock);
	if (err != 0)
		free(en);
	return err;
}

static void table_drop(struct server *s, struct entry *en)
{
	struct entry **at;

	(void)pthread_mutex_lock(&s->lock);
	for (at = &s->first; *at != NULL && *at != en; at = &(*at)->next)
		;
	if (*at == en)
		unlink_locked(s, at);
	(void)pthread_mutex_unlock(&s->lock);
}

static void entry_put(struct server *s, struct entry *en)
{
	(void)pthread_mutex_lock(&s->lock);
	entry_put_locked(en);
	(void)pthread_mutex_unlock(&s->lock);
}

static struct entry *table_get(struct server *s, uint64_t id)
{
	struct entry *en;

	(void)pthread_mutex_lock(&s->lock);
	en = *find_locked(s, id);
	if (en != NULL && en->x == NULL)
		en = NULL;
	if (en != NULL)
		en->refs++;
	(void)pthread_mutex_unlock(&s->lock);
	return en;
}

static int job_valid(struct job *j)
{
	j->name[sizeof j->name - 1] = '\0';
	return (unsigned int)j->dir < DMA_DIR_NR && (unsigned int)j->mode < DMA_MODE_NR && j->error < 0 &&
	       j->owner < JOB_OWNER_NR ? 0 : -EINVAL;
}

/* The end of a transfer on demand: its window may go. */
static void unmap_window(void *arg, const struct dma_stat *st)
{
	struct entry *en = arg;

	(void)st;
	job_unmap(&en->map);
	entry_put(en->s, en);
}

static int start(struct server *s, struct entry *en, const struct wire_req *req, struct job *j, const int *fds,
		 struct job_map *map, struct dma_xfer **x, const char **why)
{
	char *addr = NULL;
	int err;

	if (j->owner == JOB_DEVICE && j->mode == DMA_ODP) {
		(void)pthread_mutex_lock(&s->lock);
		en->refs++;
		(void)pthread_mutex_unlock(&s->lock);
		err = job_start(s->e, fds[0], j, NULL, unmap_window, en, &en->map, x, why);
		if (err != 0) {
			(void)pthread_mutex_lock(&s->lock);
			en->refs--;		/* not the last: the submission has one */
			(void)pthread_mutex_unlock(&s->lock);
		}
		return err;
	}
	if (j->owner == JOB_DEVICE)
		return job_start(s->e, fds[0], j, NULL, NULL, NULL, map, x, why);
	err = job_check(fds[0], j, why);
	if (err == 0 && j->owner == JOB_HANDOVER)
		err = job_map(fds[0], j, map, &addr, why);
	return err == 0 ? remote_take(s->e, req, j, fds, addr, x, why) : err;
}

static void do_submit(struct server *s, const struct wire_req *req, const int *fds, struct wire_reply *r)
{
	struct job_map map = { .base = NULL };
	struct job j = req->job;
	const char *why = "request";
	struct dma_xfer *x = NULL;
	struct entry *en = NULL;

	r->err = fds[0] < 0 ? -EBADF : job_valid(&j);
	if (r->err == 0) {
		why = "transfer number in use";
		r->err = table_add(s, &j, &en);
	}
	if (r->err == 0)
		r->err = start(s, en, req, &j, fds, &map, &x, &why);
	/* A device knows addresses, not mappings: from here on the pin alone keeps the blocks. */
	job_unmap(&map);
	if (r->err != 0) {
		(void)snprintf(r->why, sizeof r->why, "%s", why);
		if (en != NULL) {
			table_drop(s, en);
			entry_put(s, en);
		}
		return;
	}
	(void)pthread_mutex_lock(&s->lock);
	en->x = x;
	en->job = j;
	entry_put_locked(en);
	(void)pthread_mutex_unlock(&s->lock);
	r->job = j;
	r->st.ds_len = j.len;
	if (s->verbose)
		(void)fprintf(stderr, "dmaemu: transfer %" PRIu64 ": %s %s, %" PRIu64 " bytes at %" PRIu64 "\n", j.id,
			      dma_mode_name[j.mode], j.name, j.len, j.foff);
}

static bool hung_up(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* Waits in pieces, so that a submitter that is gone does not leave its thread behind. */
static void do_wait(struct server *s, const struct wire_req *req, int sock, struct wire_reply *r)
{
	struct entry *en = table_get(s, req->id);
	uint64_t left, now = dma_now_ns();
	uint64_t until = req->timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + req->timeout_ns;

	if (en == NULL) {
		r->err = -ENOENT;
		(void)snprintf(r->why, sizeof r->why, "no such transfer");
		return;
	}
	do {
		now = dma_now_ns();
		left = until > now ? until - now : 0;
		r->err = dma_xfer_wait(en->x, left < HANGUP_LOOK_NS ? left : HANGUP_LOOK_NS);
	} while (r->err == -ETIMEDOUT && dma_now_ns() < until && !hung_up(sock));
	r->job = en->job;
	dma_xfer_stat(en->x, &r->st);
	entry_put(s, en);
}

static void do_cancel(struct server *s, const struct wire_req *req, struct wire_reply *r)
{
	struct entry *en = table_get(s, req->id);

	if (en == NULL) {
		r->err = -ENOENT;
		(void)snprintf(r->why, sizeof r->why, "no such transfer");
		return;
	}
	if (req->verb == WIRE_GO) {
		dma_xfer_go(en->x);
	} else {
		dma_xfer_cancel(en->x);
		r->err = dma_xfer_wait(en->x, DMA_NEVER);	/* one burst at most */
	}
	r->job = en->job;
	dma_xfer_stat(en->x, &r->st);
	entry_put(s, en);
}

static bool send_reply(int sock, struct wire_reply *r)
{
	r->magic = WIRE_MAGIC;
	return send(sock, r, sizeof *r, MSG_NOSIGNAL) == (ssize_t)sizeof *r;
}

static bool do_list(struct server *s, int sock)
{
	struct wire_reply *all, end = { .err = -ENODATA };
	bool ok = true;
	size_t n = 0;

	/* A copy, so that a reader who does not read cannot hold the lock. */
	(void)pthread_mutex_lock(&s->lock);
	all = calloc(s->n + 1, sizeof(*all));
	for (struct entry *en = s->first; all != NULL && en != NULL; en = en->next) {
		if (en->x == NULL)
			continue;
		all[n].job = en->job;
		dma_xfer_stat(en->x, &all[n++].st);
	}
	(void)pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; ok && i < n; i++)
		ok = send_reply(sock, &all[i]);
	free(all);
	return ok && send_reply(sock, &end);
}

static void close_all(const int fds[WIRE_FDS])
{
	for (int i = 0; i < WIRE_FDS; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

/* One request and perhaps descriptors. False: the peer has gone or talks nonsense. */
static bool get_req(int sock, struct wire_req *req, int fds[WIRE_FDS])
{
	union { struct cmsghdr h; char room[CMSG_SPACE(WIRE_FDS * sizeof(int))]; } c;
	struct iovec iov = { .iov_base = req, .iov_len = sizeof *req };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof c.room };
	ssize_t n;

	for (int i = 0; i < WIRE_FDS; i++)
		fds[i] = -1;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
		    h->cmsg_len <= CMSG_LEN(WIRE_FDS * sizeof(int)))
			memcpy(fds, CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
	}
	if (n == (ssize_t)sizeof *req && (m.msg_flags & MSG_TRUNC) == 0 && req->magic == WIRE_MAGIC)
		return true;
	close_all(fds);
	return false;
}

static void *conn_main(void *arg)
{
	struct conn *c = arg;
	struct wire_req req;
	int fds[WIRE_FDS];
	bool ok = true;

	while (ok && get_req(c->sock, &req, fds)) {
		struct wire_reply r = { .err = 0 };

		switch (req.verb) {
		case WIRE_SUBMIT:
			do_submit(c->s, &req, fds, &r);
			break;
		case WIRE_WAIT:
			do_wait(c->s, &req, c->sock, &r);
			break;
		case WIRE_CANCEL:
		case WIRE_GO:
			do_cancel(c->s, &req, &r);
			break;
		case WIRE_LIST:
			break;
		default:
			r.err = -ENOSYS;
			(void)snprintf(r.why, sizeof r.why, "no such request");
		}
		close_all(fds);
		ok = req.verb == WIRE_LIST ? do_list(c->s, c->sock) : send_reply(c->sock, &r);
	}
	(void)close(c->sock);
	(void)pthread_mutex_lock(&c->s->lock);
	c->s->conns--;
	(void)pthread_mutex_unlock(&c->s->lock);
	free(c);
	return NULL;
}

/* Whoever may open the socket's file may connect; an abstract name has no file, so the peer's user decides. */
static bool peer_ok(int sock)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && (cred.uid == geteuid() || cred.uid == 0);
}

static void take_conn(struct server *s, int listener)
{
	int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c = NULL;
	pthread_attr_t attr;
	pthread_t t;
	bool room;

	if (sock < 0)
		return;
	(void)pthread_mutex_lock(&s->lock);
	room = s->conns < CONN_MAX;
	s->conns += room ? 1 : 0;
	(void)pthread_mutex_unlock(&s->lock);
	if (room && peer_ok(sock))
		c = calloc(1, sizeof(*c));
	if (c != NULL) {
		*c = (struct conn){ .s = s, .sock = sock };
		(void)pthread_attr_init(&attr);
		(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		if (pthread_create(&t, &attr, conn_main, c) != 0) {
			free(c);
			c = NULL;
		}
		(void)pthread_attr_destroy(&attr);
	}
	if (c != NULL)
		return;
	(void)close(sock);
	(void)pthread_mutex_lock(&s->lock);
	s->conns -= room ? 1 : 0;
	(void)pthread_mutex_unlock(&s->lock);
}

static int listen_on(const char *path, int *out)
{
	struct sockaddr_un sa;
	unsigned int len;
	int fd, probe, err = wire_addr(path, &sa, &len);
	mode_t mask;

	if (err != 0)
		return complain(EX_USE, "--socket %s: %s", path, strerror(-err));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	mask = umask(0077);
	err = bind(fd, (const struct sockaddr *)(const void *)&sa, len) == 0 ? 0 : errno;
	/* A name left behind by a device that was killed: nobody answers there. */
	if (err == EADDRINUSE && path[0] != '@' &&
	    connect(probe, (const struct sockaddr *)(const void *)&sa, len) != 0 && errno == ECONNREFUSED &&
	    unlink(path) == 0)
		err = bind(fd, (const struct sockaddr *)(const void *)&sa, len) == 0 ? 0 : errno;
	(void)umask(mask);
	if (probe >= 0)
		(void)close(probe);
	if (err == 0 && listen(fd, 64) != 0)
		err = errno;
	if (err != 0) {
		(void)close(fd);
		return complain(EX_FAIL, "%s: %s", path,
				err == EADDRINUSE ? "a device serves it already" : strerror(err));
	}
	*out = fd;
	return EX_OK;
}

static int parse(int argc, char **argv, const char **path, bool *verbose)
{
	enum { O_SOCKET = 256 };
	static const struct option opts[] = {
		{ "socket", required_argument, NULL, O_SOCKET },
		{ "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "v", opts, NULL)) != -1) {
		switch (c) {
		case O_SOCKET:
			*path = optarg;
			break;
		case 'v':
			*verbose = true;
			break;
		default:
			return EX_USE;
		}
	}
	if (*path != NULL && optind == argc)
		return EX_OK;
	(void)complain(EX_USE, *path == NULL ? "serve needs --socket" : "serve takes no arguments");
	return EX_USE;
}

int cmd_serve(int argc, char **argv)
{
	struct server s = { .next_id = 1 };
	struct pollfd p[2] = { { .events = POLLIN }, { .events = POLLIN } };
	const char *path = NULL;
	sigset_t set;
	int err, status = parse(argc, argv, &path, &s.verbose);

	if (status != EX_OK)
		return status;
	s.last = &s.first;
	(void)pthread_mutex_init(&s.lock, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	p[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (p[1].fd < 0)
		return complain(EX_FAIL, "signalfd: %s", strerror(errno));
	status = listen_on(path, &p[0].fd);
	if (status != EX_OK)
		return status;
	err = dma_engine_start(&s.e);
	if (err != 0) {
		status = complain(EX_FAIL, "engine: %s", strerror(-err));
		goto out_unlink;
	}
	(void)printf("dmaemu: ready on %s, pid %d\n", path, (int)getpid());
	(void)fflush(stdout);
	while ((p[1].revents & POLLIN) == 0) {
		if (poll(p, 2, -1) > 0 && (p[0].revents & POLLIN) != 0)
			take_conn(&s, p[0].fd);
	}
	dma_engine_stop(s.e);
	status = EX_OK;
out_unlink:
	if (path[0] != '@')
		(void)unlink(path);
	/* Threads of connections may still use all of this, one perhaps asleep in a pin: leave by the short way. */
	(void)fflush(NULL);
	_exit(status);
}
