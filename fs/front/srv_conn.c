/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv_conn.c - connections of the session server: accept, read, write without blocking, end.
 *
 * Owns struct pf_conn. Takes the connection's lock and the server's (both LEAF, never both). What a message means is
 * srv_msg.c's.
 */
#include "front/srv_int.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"
#include "front/wire.h"
#include "media/pmem.h"

#define IN_ROOM (16U << 10)

void pf_conn_get(struct pf_conn *c)
{
	atomic_fetch_add(&c->refs, 1);
}

static void drop_out(struct pf_out *o)
{
	for (int i = 0; i < 2; i++)
		if (o->fds[i] >= 0)
			(void)close(o->fds[i]);
	free(o);
}

void pf_conn_put(struct pf_conn *c)
{
	struct pf_out *o;

	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	while ((o = c->out) != NULL) {
		c->out = o->next;
		drop_out(o);
	}
	if (c->fd >= 0)
		(void)close(c->fd);
	if (c->pidfd >= 0)
		(void)close(c->pidfd);
	pf_mutex_fini(&c->lock);
	free(c->in);
	free(c);
}

struct pf_conn *pf_conn_find(struct pf_srv *srv, uint64_t key)
{
	struct pf_conn *c;

	pf_mutex_lock(&srv->lock);
	c = srv->conn[key % PF_SRV_CONNS];
	if (c && c->key == key)
		pf_conn_get(c);
	else
		c = NULL;
	pf_mutex_unlock(&srv->lock);
	return c;
}

/* Output */

static ssize_t send_some(struct pf_conn *c, const struct iovec *iov, int n, const int *fds)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} ctl;
	struct msghdr m = { 0 };
	struct iovec copy[8];
	ssize_t sent;

	memcpy(copy, iov, (size_t)n * sizeof *iov);
	m.msg_iov = copy;
	m.msg_iovlen = (size_t)n;
	if (fds) {
		memset(&ctl, 0, sizeof ctl);
		m.msg_control = ctl.room;
		m.msg_controllen = sizeof ctl.room;
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(2 * sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), fds, 2 * sizeof(int));
	}
	do
		sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

/* Lock held: nobody listens any more, or not well enough. The worker sees the end of the stream and closes. */
static void break_off(struct pf_conn *c)
{
	c->broken = true;
	if (c->fd >= 0)
		(void)shutdown(c->fd, SHUT_RDWR);
}

void pf_conn_hang_up(struct pf_conn *c)
{
	pf_mutex_lock(&c->lock);
	break_off(c);
	pf_mutex_unlock(&c->lock);
}

/* Lock held: what epoll is to tell us next. */
static void arm(struct pf_conn *c)
{
	struct epoll_event ev = { .events = EPOLLONESHOT, .data.u64 = (uint64_t)PF_EV_CONN << PF_EV_SHIFT | c->key };

	if (c->fd < 0 || c->busy)
		return;
	if (c->out_bytes <= PF_SRV_OUT_HIGH)
		ev.events |= EPOLLIN | EPOLLRDHUP;
	if (c->out)
		ev.events |= EPOLLOUT;
	(void)epoll_ctl(c->srv->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

/* Lock held. */
static void flush(struct pf_conn *c)
{
	while (c->out && !c->broken) {
		struct pf_out *o = c->out;
		struct iovec iov = { o->bytes + o->at, o->len - o->at };
		ssize_t sent = send_some(c, &iov, 1, o->fds[0] >= 0 ? o->fds : NULL);

		if (sent == -EAGAIN)
			return;
		if (sent < 0) {
			break_off(c);
			return;
		}
		for (int i = 0; i < 2 && o->fds[i] >= 0; i++) {
			(void)close(o->fds[i]);
			o->fds[i] = -1;
		}
		o->at += (size_t)sent;
		c->out_bytes -= (size_t)sent;
		if (o->at < o->len)
			return;
		c->out = o->next;
		drop_out(o);
	}
}

/* Lock held. Queue what is left after @skip bytes. Takes @fds over. */
static void queue(struct pf_conn *c, const struct iovec *iov, int n, size_t skip, const int *fds)
{
	size_t len = 0, at = 0;
	struct pf_out *o = NULL;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	len -= skip;
	if (c->out_bytes + len <= PF_SRV_OUT_MAX)
		o = malloc(sizeof *o + len);
	if (!o) {
		pf_warn("pid %d does not read its session: ended", (int)c->pid);
		for (i = 0; fds && i < 2; i++)
			(void)close(fds[i]);
		break_off(c);
		return;
	}
	*o = (struct pf_out){ .len = len, .fds = { fds ? fds[0] : -1, fds ? fds[1] : -1 } };
	for (i = 0; i < n; i++) {
		size_t gap = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		memcpy(o->bytes + at, (const uint8_t *)iov[i].iov_base + gap, iov[i].iov_len - gap);
		at += iov[i].iov_len - gap;
		skip -= gap;
	}
	if (c->out)
		c->out_tail->next = o;
	else
		c->out = o;
	c->out_tail = o;
	c->out_bytes += len;
	arm(c);
}

void pf_conn_send(struct pf_conn *c, const struct iovec *iov, int n, const int *fds)
{
	size_t len = 0;
	ssize_t sent = 0;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	pf_mutex_lock(&c->lock);
	if (c->broken || c->fd < 0)
		goto out_fds;
	if (!c->out) {
		sent = send_some(c, iov, n, fds);
		if (sent < 0 && sent != -EAGAIN) {
			break_off(c);
			goto out_fds;
		}
		if (sent == (ssize_t)len)
			goto out_fds;
	}
	if (sent > 0) {			/* the descriptors went with the first byte */
		for (i = 0; fds && i < 2; i++)
			(void)close(fds[i]);
		fds = NULL;
	}
	queue(c, iov, n, sent > 0 ? (size_t)sent : 0, fds);
	pf_mutex_unlock(&c->lock);
	return;

out_fds:
	pf_mutex_unlock(&c->lock);
	for (i = 0; fds && i < 2; i++)
		(void)close(fds[i]);
}

void pf_conn_answer(struct pf_conn *c, uint64_t unique, int err, const struct iovec *body, int n, const int *fds)
{
	struct fuse_out_header h = { .len = sizeof h, .error = err, .unique = unique };
	struct iovec iov[1 + PF_CONN_PIECES] = { { &h, sizeof h } };

	assert(n <= PF_CONN_PIECES);
	for (int i = 0; i < n; i++) {
		iov[1 + i] = body[i];
		h.len += (uint32_t)body[i].iov_len;
	}
	pf_conn_send(c, iov, 1 + n, fds);
}

/* The end */

/* Lock held: nothing more will come for it; true once, for the one who takes it off the table. */
static bool over(struct pf_conn *c)
{
	if (c->released || !c->closed || (c->sess && !c->gone))
		return false;
	c->released = true;
	c->lingers = false;
	return true;
}

static void release(struct pf_conn *c)
{
	struct pf_srv *srv = c->srv;

	if (c->pidfd >= 0)
		(void)epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, c->pidfd, NULL);
	pf_mutex_lock(&srv->lock);
	srv->conn[c->key % PF_SRV_CONNS] = NULL;
	srv->nr_conns--;
	pf_mutex_unlock(&srv->lock);
	if (c->sess)
		pf_sess_put(c->sess);
	pf_conn_put(c);
}

/*
 * End the session, or cut it off when somebody still has the device by way of it: what is mapped there is not free,
 * whatever became of the socket or the process. No lock held. True: it is gone.
 */
static bool end_session(struct pf_conn *c, struct pf_sess *s, bool forced)
{
	if (forced || !pf_pm_claimed(c->srv->fs->pm, s->id)) {
		pf_sess_gone(s);
		return true;
	}
	pf_sess_cut_off(s, false);
	return false;
}

void pf_conn_close(struct pf_conn *c, bool forced)
{
	struct pf_out *o;
	bool gone = true, linger, last;

	pf_mutex_lock(&c->lock);
	/* Descriptors that were not sent would keep the device for the client. */
	while ((o = c->out) != NULL) {
		c->out = o->next;
		drop_out(o);
	}
	c->out_bytes = 0;
	c->broken = true;
	pf_mutex_unlock(&c->lock);
	pf_tap_close(c->tap);		/* nobody else uses it: we are the worker */
	c->tap = NULL;
	if (c->sess)
		gone = end_session(c, c->sess, forced);
	pf_mutex_lock(&c->lock);
	if (c->fd >= 0) {
		(void)epoll_ctl(c->srv->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		(void)close(c->fd);
		c->fd = -1;
	}
	c->closed = true;
	c->gone = c->gone || gone;
	linger = c->lingers = !c->gone;
	last = over(c);
	pf_mutex_unlock(&c->lock);
	if (linger)
		pf_srv_look_soon(c->srv);
	if (last)
		release(c);
}

/* The session, while there may be something left to do for it, with a reference; or NULL. */
static struct pf_sess *live_session(struct pf_conn *c, bool lingering)
{
	struct pf_sess *s;

	/* The connection's worker may be closing it at this moment, and drop its reference of the session. */
	pf_mutex_lock(&c->lock);
	s = c->released || (lingering && !c->lingers) ? NULL : c->sess;
	if (s)
		pf_sess_get(s);
	pf_mutex_unlock(&c->lock);
	return s;
}

/* Is the session gone by now? Its reference is given back. */
static bool look_again(struct pf_conn *c, struct pf_sess *s)
{
	bool gone = end_session(c, s, false), last;

	pf_sess_put(s);
	pf_mutex_lock(&c->lock);
	c->gone = c->gone || gone;
	c->lingers = !c->gone;
	break_off(c);
	last = over(c);
	pf_mutex_unlock(&c->lock);
	if (last)
		release(c);
	return gone;
}

void pf_conn_process_ended(struct pf_conn *c)
{
	struct pf_sess *s = live_session(c, false);

	if (s && !look_again(c, s))
		pf_srv_look_soon(c->srv);
}

bool pf_conn_look(struct pf_conn *c)
{
	struct pf_sess *s = live_session(c, true);

	return s && !look_again(c, s);
}

int pf_conn_evict(struct pf_srv *srv, pid_t pid)
{
	unsigned int i, cut = 0, before = 0;

	for (i = 0; i < PF_SRV_CONNS; i++) {
		struct pf_sess *s = NULL;
		struct pf_conn *c;

		pf_mutex_lock(&srv->lock);
		c = srv->conn[i];
		if (c && c->pid == pid)
			pf_conn_get(c);
		else
			c = NULL;
		pf_mutex_unlock(&srv->lock);
		if (c)
			s = live_session(c, false);
		if (s && atomic_load(&s->state) == PF_SESS_LIVE) {
			pf_warn("pid %d (%s) is evicted", (int)pid, s->comm);
			cut++;
		} else if (s && atomic_load(&s->state) == PF_SESS_CUT_OFF) {
			before++;
		}
		if (s) {
			pf_sess_cut_off(s, true);
			pf_sess_put(s);
			pf_mutex_lock(&c->lock);
			break_off(c);
			pf_mutex_unlock(&c->lock);
		}
		if (c)
			pf_conn_put(c);
	}
	return cut != 0 ? 0 : before != 0 ? -EALREADY : -ESRCH;
}

/* Input */

/* False: the stream has ended, or makes no sense. */
static bool read_some(struct pf_conn *c)
{
	struct fuse_in_header h;
	const uint8_t *body;
	const char *why = NULL;
	size_t at = 0;
	ssize_t got;
	int rc;

	if (c->in_len == c->in_room) {
		size_t room = c->in_room ? 2 * c->in_room : IN_ROOM;
		uint8_t *bigger = realloc(c->in, room);

		if (!bigger)
			return false;
		c->in = bigger;
		c->in_room = room;
	}
	do
		got = recv(c->fd, c->in + c->in_len, c->in_room - c->in_len, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK;
	if (got == 0)
		return false;
	c->in_len += (size_t)got;
	while ((rc = pf_wire_frame(c->in + at, c->in_len - at, &h, &body)) == 1) {
		if (!pf_msg_handle(c, &h, body, h.len - sizeof h, &why))
			break;
		at += h.len;
	}
	if (rc != 0) {
		pf_warn("pid %d: nonsense on its session (%s): ended", (int)c->pid, why ? why : "no message");
		return false;
	}
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	return true;
}

void pf_conn_turn(struct pf_conn *c)
{
	bool more = true, alive = true;

	pf_mutex_lock(&c->lock);
	if (c->busy || c->closed) {
		c->again = true;
		pf_mutex_unlock(&c->lock);
		return;
	}
	c->busy = true;
	while (more && alive) {
		bool read;

		c->again = false;
		flush(c);
		read = c->out_bytes <= PF_SRV_OUT_HIGH || c->broken;
		pf_mutex_unlock(&c->lock);
		if (read)
			alive = read_some(c);
		pf_mutex_lock(&c->lock);
		more = c->again;
	}
	if (alive) {
		c->busy = false;
		arm(c);
	}
	pf_mutex_unlock(&c->lock);
	if (!alive)
		pf_conn_close(c, false);	/* busy for ever: no other worker touches it */
}

/* Beginning */

static unsigned int strangers(struct pf_srv *srv, uid_t uid)
{
	unsigned int i, n = 0;

	for (i = 0; i < PF_SRV_CONNS && n < PF_SRV_STRANGERS; i++)
		n += srv->conn[i] && srv->conn[i]->uid == uid && !atomic_load(&srv->conn[i]->init);
	return n;
}

static int admit(struct pf_srv *srv, int fd)
{
	struct ucred who;
	socklen_t len = sizeof who;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT };
	struct pf_conn *c;
	int err = -ENOSPC;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return -errno;
	c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->srv = srv;
	c->pid = who.pid;
	c->uid = who.uid;
	c->gid = who.gid;
	c->fd = fd;
	c->pidfd = -1;
	atomic_init(&c->refs, 1);
	pf_mutex_init(&c->lock, PF_RANK_LEAF);

	pf_mutex_lock(&srv->lock);
	if (srv->nr_conns < PF_SRV_CONNS && (who.uid == 0 || strangers(srv, who.uid) < PF_SRV_STRANGERS)) {
		while (srv->conn[srv->next_conn])
			srv->next_conn = (srv->next_conn + 1) % PF_SRV_CONNS;
		c->key = (++srv->serial * PF_SRV_CONNS + srv->next_conn) & PF_EV_KEYS;
		srv->conn[srv->next_conn] = c;
		srv->nr_conns++;
		err = 0;
	}
	pf_mutex_unlock(&srv->lock);
	if (err != 0)
		goto out;
	ev.data.u64 = (uint64_t)PF_EV_CONN << PF_EV_SHIFT | c->key;
	if (epoll_ctl(srv->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;		/* the table's reference; another worker may have ended it by now */
	err = -errno;
	pf_mutex_lock(&srv->lock);
	srv->conn[c->key % PF_SRV_CONNS] = NULL;
	srv->nr_conns--;
	pf_mutex_unlock(&srv->lock);
out:
	c->fd = -1;			/* the caller's */
	pf_conn_put(c);
	return err;
}

void pf_conn_accept(struct pf_srv *srv)
{
	int fd;

	for (;;) {
		fd = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE) && srv->spare_fd >= 0) {
			/* Out of descriptors: give up the spare one to tell the peer so, by closing on it. */
			(void)close(srv->spare_fd);
			fd = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				(void)close(fd);
			srv->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				return;
			continue;
		}
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			return;
		if (admit(srv, fd) != 0)
			(void)close(fd);
	}
}
