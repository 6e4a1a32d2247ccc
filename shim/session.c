/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c - the socket to one daemon: set-up, requests, and taking answers apart. Owns tx, pend_lock and the
 * receive buffer (serve only). Messages are obeyed in the order of arrival (proto.h), hence one reader.
 */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define SETUP_TIMEOUT_S 60

/* ---- set-up, by the crew, before serve knows the socket ---- */

static int send_all(int fd, const struct iovec *iov, int niov)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)niov };
	struct iovec rest[2];
	long r;

	for (;;) {
		r = sh_sys(SYS_sendmsg, fd, &m, MSG_NOSIGNAL);
		if (r == -EINTR)
			continue;
		if (r < 0) {
			sh_crew_refused("sendmsg(2)", r);
			return (int)r;
		}
		/* What is left, if anything: at most two pieces. */
		int n = 0;
		for (size_t i = 0; i < m.msg_iovlen; i++) {
			size_t skip = (size_t)r < m.msg_iov[i].iov_len ? (size_t)r : m.msg_iov[i].iov_len;

			r -= (long)skip;
			if (skip < m.msg_iov[i].iov_len)
				rest[n++] = (struct iovec){ .iov_base = (char *)m.msg_iov[i].iov_base + skip,
							    .iov_len = m.msg_iov[i].iov_len - skip };
		}
		if (n == 0)
			return 0;
		m.msg_iov = rest;
		m.msg_iovlen = (size_t)n;
	}
}

static int put(struct sh_session *s, uint32_t op, uint64_t unique, const void *body, size_t len)
{
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof h + len), .opcode = op, .unique = unique, .pid = (uint32_t)sh.pid,
	};
	struct iovec iov[2] = {
		{ .iov_base = &h, .iov_len = sizeof h },
		{ .iov_base = (void *)(uintptr_t)body, .iov_len = len },
	};

	return send_all(s->fd, iov, len ? 2 : 1);
}

static int get(int fd, void *buf, size_t len)
{
	char *p = buf;
	long r;

	while (len > 0) {
		r = sh_sys(SYS_read, fd, p, len);
		if (r == -EINTR)
			continue;
		if (r <= 0)
			return r == 0 ? -ECONNRESET : (int)r;
		p += r;
		len -= (size_t)r;
	}
	return 0;
}

static int get_answer(int fd, uint64_t unique, void *body, size_t min, size_t room, int fds[2])
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct fuse_out_header h;
	struct iovec iov = { .iov_base = &h, .iov_len = sizeof h };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
	struct cmsghdr *cm;
	long r;
	int err;

	do
		r = sh_sys(SYS_recvmsg, fd, &m, MSG_CMSG_CLOEXEC);
	while (r == -EINTR);
	if (r <= 0)
		return r == 0 ? -ECONNRESET : (int)r;
	cm = CMSG_FIRSTHDR(&m);
	if (cm != NULL && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS && fds != NULL &&
	    cm->cmsg_len == CMSG_LEN(2 * sizeof(int)))
		memcpy(fds, CMSG_DATA(cm), 2 * sizeof(int));
	err = get(fd, (char *)&h + r, sizeof h - (size_t)r);
	if (err)
		return err;
	if (h.unique != unique || h.len < sizeof h)
		return -EPROTO;
	if (h.error)
		return h.error < 0 && h.error > -4096 ? h.error : -EPROTO;
	if (h.len - sizeof h < min || h.len - sizeof h > room)
		return -EPROTO;
	return get(fd, body, h.len - sizeof h);
}

/* The name of the program, not of this thread. */
static void read_comm(char comm[16])
{
	char path[40];
	long fd, n;

	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)sh.pid);
	fd = sh_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) {
		(void)snprintf(comm, 16, "%s", program_invocation_short_name);	/* no /proc here */
		return;
	}
	n = sh_sys(SYS_read, fd, comm, 15);
	if (n > 0)
		comm[comm[n - 1] == '\n' ? n - 1 : n] = '\0';
	(void)sh_sys(SYS_close, fd);
}

static int greet(struct sh_session *s, struct pf_p_hello_out *ho, int fds[2])
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
				   .flags = FUSE_MAP_ALIGNMENT };
	struct pf_p_hello_in hi = { .hi_major = PINFS_PROTO_MAJOR, .hi_minor = PINFS_PROTO_MINOR,
				    .hi_pid = (uint32_t)sh.pid };
	struct fuse_init_out out;
	char comm[16] = "";
	int err;

	memset(&out, 0, sizeof out);
	err = put(s, FUSE_INIT, atomic_fetch_add(&s->unique, 2), &in, sizeof in);
	if (!err)
		err = get_answer(s->fd, atomic_load(&s->unique) - 2, &out, FUSE_COMPAT_22_INIT_OUT_SIZE, sizeof out,
				 NULL);
	if (err)
		return err;
	if (out.map_alignment > PF_CHUNK_SHIFT)
		return -EPROTO;
	read_comm(comm);
	memcpy(hi.hi_comm, comm, sizeof hi.hi_comm);
	memcpy(s->comm, comm, sizeof s->comm);
	err = put(s, PF_P_HELLO, atomic_fetch_add(&s->unique, 2), &hi, sizeof hi);
	if (!err)
		err = get_answer(s->fd, atomic_load(&s->unique) - 2, ho, sizeof *ho, sizeof *ho, fds);
	if (!err && (ho->ho_major != PINFS_PROTO_MAJOR || fds[0] < 0 || fds[1] < 0))
		err = -EPROTO;
	return err;
}

/* One field, from a mapping of its own: the system calls that this needs are those that all else here needs. */
static int trace_off(int fd, uint64_t *off)
{
	struct pf_l_hdr *h = sh_mmap(NULL, SH_PAGE, PROT_READ, MAP_SHARED, fd, 0);

	if (sh_mmap_err(h))
		return sh_mmap_err(h);
	*off = h->lh_trace_off;
	(void)sh_sys(SYS_munmap, h, (size_t)SH_PAGE);
	return 0;
}

static int map_ledger(struct sh_session *s, int fd, uint32_t nslot)
{
	struct stat st;
	struct pf_l_hdr *h;
	long r = sh_sys(SYS_fstat, fd, &st);
	uint64_t off = 0;
	void *p;

	if (r < 0)
		return (int)r;
	if (nslot == 0 || nslot > PF_WINDOW_MAX / PF_CHUNK_SIZE || (uint64_t)st.st_size < sizeof *h)
		return -EPROTO;
	/* The ring of a trace lies at the end: it is mapped when there is one. */
	r = trace_off(fd, &off);
	if (r < 0)
		return (int)r;
	if (off != 0 && (off % SH_PAGE != 0 || !pf_range_ok(off, PF_T_RING_BYTES, (uint64_t)st.st_size)))
		return -EPROTO;
	s->trace_off = off;
	s->ledger_file_bytes = (uint64_t)st.st_size;
	if (off != 0)
		st.st_size = (off_t)off;
	p = sh_mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (sh_mmap_err(p))
		return sh_mmap_err(p);
	(void)sh_sys(SYS_madvise, p, (size_t)st.st_size, MADV_DONTFORK);
	h = p;
	if (h->lh_magic != PF_LEDGER_MAGIC || h->lh_major != PINFS_PROTO_MAJOR || h->lh_nslot != nslot ||
	    !pf_range_ok(h->lh_slot_off, nslot * sizeof(struct pf_l_slot), (uint64_t)st.st_size) ||
	    !pf_range_ok(h->lh_rec_off, h->lh_nrec * sizeof(struct pf_l_rec), (uint64_t)st.st_size) ||
	    h->lh_slot_off % PF_LINE || h->lh_rec_off % PF_LINE || h->lh_map_off % sizeof(uint64_t) ||
	    !pf_range_ok(h->lh_map_off, pf_ledger_map_words(nslot) * sizeof(uint64_t), (uint64_t)st.st_size)) {
		(void)sh_sys(SYS_munmap, p, (size_t)st.st_size);
		return -EPROTO;
	}
	s->ledger = p;
	s->ledger_bytes = (uint64_t)st.st_size;
	s->nslot = nslot;
	s->nrec = h->lh_nrec;
	s->lslots = (struct pf_l_slot *)(void *)((char *)p + h->lh_slot_off);
	s->lrecs = (struct pf_l_rec *)(void *)((char *)p + h->lh_rec_off);
	if (h->lh_map_off != 0)
		s->lmap = (_Atomic uint64_t *)(void *)((char *)p + h->lh_map_off);
	return 0;
}

static int connect_to(const char *sock)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = SETUP_TIMEOUT_S };
	size_t n = strnlen(sock, sizeof un.sun_path - 1);
	long fd, r;

	memcpy(un.sun_path + 1, sock, n);
	fd = sh_sys(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (int)fd;
	(void)sh_sys(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	r = sh_sys(SYS_connect, fd, &un, offsetof(struct sockaddr_un, sun_path) + 1 + n);
	if (r < 0) {
		(void)sh_sys(SYS_close, fd);
		return (int)r;
	}
	return (int)fd;
}

static int session_open(const char *sock, struct sh_session **out)
{
	struct sh_session *s = sh_alloc(sizeof *s);
	struct pf_p_hello_out ho;
	struct timeval never = { 0 };
	int fds[2] = { -1, -1 }, err = -ENOMEM;
	void *p;

	if (s == NULL)
		return -ENOMEM;
	(void)snprintf(s->sock, sizeof s->sock, "%s", sock);
	pthread_mutex_init(&s->tx, NULL);
	pthread_mutex_init(&s->pend_lock, NULL);
	pthread_mutex_init(&s->pin_lock, NULL);
	atomic_store(&s->unique, 2);
	s->rx = sh_anon(SH_RX_BYTES);
	if (s->rx == NULL)
		goto out_free;
	s->fd = connect_to(sock);
	err = s->fd;
	if (err < 0)
		goto out_rx;
	err = greet(s, &ho, fds);
	if (err)
		goto out_close;
	err = map_ledger(s, fds[1], ho.ho_nslot);
	if (err)
		goto out_close;
	s->devfd = fds[0];
	s->rdonly = (ho.ho_flags & PF_HO_RDONLY) != 0;
	s->msync = (ho.ho_flags & PF_HO_MSYNC) != 0;
	s->no_sync = (ho.ho_flags & PF_HO_NO_SYNC) != 0;
	s->device = (ho.ho_flags & PF_HO_DEVICE) != 0;
	s->whole = (ho.ho_flags & PF_HO_WHOLE) != 0;
	s->no_guard = s->whole;			/* protecting a page of it would split what cannot be split */
	s->dev_bytes = ho.ho_dev_bytes;
	p = sh_mmap(NULL, (size_t)s->dev_bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, s->devfd, 0);
	if (sh_mmap_err(p) == 0) {
		(void)sh_sys(SYS_madvise, p, (size_t)s->dev_bytes, MADV_DONTFORK);
		s->dev_flush = p;
	}
	err = sh_slots_init(s);
	if (!err)
		err = sh_budget_init(s);
	if (!err)
		err = sh_pins_init(s);
	if (err)
		goto out_unmap;
	(void)sh_sys(SYS_setsockopt, s->fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
	s->ledfd = fds[1];
	sh_stack_map(s);
	*out = s;
	return 0;

out_unmap:
	if (s->dev_flush != NULL)
		(void)sh_sys(SYS_munmap, s->dev_flush, (size_t)s->dev_bytes);
	(void)sh_sys(SYS_munmap, s->ledger, (size_t)s->ledger_bytes);
out_close:
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			(void)sh_sys(SYS_close, fds[i]);
	}
	(void)sh_sys(SYS_close, s->fd);
out_rx:
	(void)sh_sys(SYS_munmap, s->rx, SH_RX_BYTES);
out_free:
	sh_free(s, sizeof *s);
	return err;
}

int sh_session_get(const char *sock, struct sh_session **out)
{
	struct sh_session *s;
	sh_sigs old;
	int err;

	sh_lock(&old);
	for (s = sh.sessions; s != NULL; s = s->next) {
		if (!atomic_load(&s->lost) && strcmp(s->sock, sock) == 0)
			break;
	}
	sh_unlock(&old);
	if (s != NULL) {
		*out = s;
		return 0;
	}
	err = session_open(sock, &s);
	if (err) {
		/* Each daemon has a name of its own, so this one need not be asked again. */
		if (err == -EACCES && !sh.refused)
			memcpy(sh.refused_by, sock, strnlen(sock, sizeof sh.refused_by - 1));
		sh.refused = true;
		sh_log(err == -EACCES ? SH_INFO : SH_WARN, "no session with @%s: error %d (plain mmap is used)",
		       sock, -err);
		return err;
	}
	sh_lock(&old);
	s->next = sh.sessions;
	sh.sessions = s;
	sh_unlock(&old);
	sh_serve_bell();
	*out = s;
	return 0;
}

/* ---- sending, when serve knows the socket ---- */

/*
 * Nobody waits in send(2). The daemon reads no further while too much of what it has said lies unread, and it is serve
 * that reads: if that, or whoever holds a lock that it needs, waited for the daemon to read, both would wait for ever.
 */
struct sh_tx {
	struct sh_tx *next;
	size_t at, len;
	unsigned char bytes[];
};

static int tell_epoll(struct sh_session *s, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | (s->txq != NULL ? (uint32_t)EPOLLOUT : 0), .data.ptr = s };

	return (int)sh_sys(SYS_epoll_ctl, sh.epoll, op, s->fd, &ev);
}

bool sh_session_watch(struct sh_session *s)
{
	bool watched;

	pthread_mutex_lock(&s->tx);
	watched = !atomic_load(&s->lost) && tell_epoll(s, EPOLL_CTL_ADD) == 0;
	pthread_mutex_unlock(&s->tx);
	return watched;
}

/* tx is held. */
static int post(struct sh_session *s, uint32_t op, uint64_t unique, const void *body, size_t len)
{
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof h + len), .opcode = op, .unique = unique, .pid = (uint32_t)sh.pid,
	};
	struct iovec iov[2] = {
		{ .iov_base = &h, .iov_len = sizeof h },
		{ .iov_base = (void *)(uintptr_t)body, .iov_len = len },
	};
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };
	struct sh_tx *t;
	bool first = s->txq == NULL;
	long r = 0;
	int err;

	if (first) {
		do
			r = sh_sys(SYS_sendmsg, s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (r == -EINTR);
		if (r < 0 && r != -EAGAIN)
			return (int)r;
		if (r == (long)h.len)
			return 0;
	}
	t = sh_alloc(sizeof *t + h.len);
	if (t == NULL)
		return -ENOMEM;
	t->at = r > 0 ? (size_t)r : 0;
	t->len = h.len;
	memcpy(t->bytes, &h, sizeof h);
	if (len)
		memcpy(t->bytes + sizeof h, body, len);
	if (first)
		s->txq_tail = &s->txq;
	*s->txq_tail = t;
	s->txq_tail = &t->next;
	/* A session that is not watched yet will be, with the queue. */
	err = first ? tell_epoll(s, EPOLL_CTL_MOD) : 0;
	return err == -ENOENT ? 0 : err;
}

static void tx_drop(struct sh_session *s)
{
	struct sh_tx *t;

	while ((t = s->txq) != NULL) {
		s->txq = t->next;
		sh_free(t, sizeof *t + t->len);
	}
}

/* tx is held: what the socket takes now. */
static void tx_flush(struct sh_session *s)
{
	struct sh_tx *t;
	long r;

	while ((t = s->txq) != NULL) {
		struct iovec iov = { .iov_base = t->bytes + t->at, .iov_len = t->len - t->at };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

		r = sh_sys(SYS_sendmsg, s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			tx_drop(s);		/* the end shows on the reading side */
			(void)sh_sys(SYS_shutdown, s->fd, SHUT_RDWR);
			break;
		}
		t->at += (size_t)r;
		if (t->at < t->len)
			return;
		s->txq = t->next;
		sh_free(t, sizeof *t + t->len);
	}
	(void)tell_epoll(s, EPOLL_CTL_MOD);
}

/* ---- requests ---- */

static void pend_add(struct sh_session *s, struct sh_req *r)
{
	struct sh_req **b = &s->pend[(r->unique >> 1) % SH_PEND];

	r->next = *b;
	*b = r;
}

static struct sh_req *pend_take(struct sh_session *s, uint64_t unique)
{
	struct sh_req **b = &s->pend[(unique >> 1) % SH_PEND], *r;

	pthread_mutex_lock(&s->pend_lock);
	while (*b != NULL && (*b)->unique != unique)
		b = &(*b)->next;
	r = *b;
	if (r != NULL)
		*b = r->next;
	pthread_mutex_unlock(&s->pend_lock);
	return r;
}

/* After 0 the request belongs to serve, which finishes it with the answer or with the session. */
int sh_send(struct sh_session *s, struct sh_req *r, uint32_t op, const void *body, size_t len)
{
	uint64_t unique = atomic_fetch_add(&s->unique, 2);
	bool lost;
	int err;

	pthread_mutex_lock(&s->pend_lock);
	lost = atomic_load(&s->lost);
	if (!lost && r != NULL) {
		r->unique = unique;
		r->opcode = op;
		if (r->told != NULL)
			*r->told = unique;
		pend_add(s, r);
	}
	pthread_mutex_unlock(&s->pend_lock);
	if (lost)
		return -ENOTCONN;
	pthread_mutex_lock(&s->tx);
	err = s->fd < 0 ? 0 : post(s, op, unique, body, len);
	if (err)
		sh_crew_refused("sendmsg(2)", err);
	if (err)
		(void)sh_sys(SYS_shutdown, s->fd, SHUT_RDWR);	/* serve sees the end and finishes what is pending */
	pthread_mutex_unlock(&s->tx);
	return 0;
}

int sh_rpc(struct sh_session *s, uint32_t op, const void *in, size_t len, void *out, size_t out_len)
{
	struct sh_req *r = sh_alloc(sizeof *r);
	struct sh_waiter w;
	int err;

	if (r == NULL)
		return -ENOMEM;
	sh_wait_init(&w);
	r->waiter = &w;
	r->out = out;
	r->out_bytes = out_len;
	err = sh_send(s, r, op, in, len);
	if (err) {
		sh_free(r, sizeof *r);
		return err;
	}
	return sh_wait(&w);
}

/* ---- answers, by serve ---- */

/* Ends @r: it is freed here, and so is what its handler does not pass on. */
static void finish(struct sh_req *r, int err, const void *body, size_t len)
{
	struct sh_waiter *w = r->waiter;

	if (r->opcode == FUSE_SETUPMAPPING) {
		sh_serve_mapped(r, err, body, len);
	} else if (r->opcode == FUSE_REMOVEMAPPING) {
		sh_serve_removed(r, err);
	} else {
		if (!err && r->opcode == PF_P_PIN)
			err = sh_serve_pinned(r, body, len);
		else if (!err && r->opcode == PF_P_LEASE_LOOK)	/* as long as it is, and zeros */
			err = len <= r->out_bytes && len >= sizeof(struct pf_p_look_out) ?
				      (memcpy(r->out, body, len), 0) : -EPROTO;
		else if (!err && len < r->out_bytes)
			err = -EPROTO;
		else if (!err && r->out != NULL)
			memcpy(r->out, body, r->out_bytes);
		sh_free(r, sizeof *r);
		if (w != NULL)
			sh_wake(w, err);
		return;
	}
	sh_free(r, sizeof *r);
}

void sh_session_lose(struct sh_session *s, const char *why)
{
	struct sh_req *list = NULL, *r;
	unsigned int mapped;
	sh_sigs old;

	pthread_mutex_lock(&s->pend_lock);
	atomic_store(&s->lost, true);
	for (unsigned int i = 0; i < SH_PEND; i++) {
		while ((r = s->pend[i]) != NULL) {
			s->pend[i] = r->next;
			r->next = list;
			list = r;
		}
	}
	pthread_mutex_unlock(&s->pend_lock);
	sh_trace_set(s, false);
	/* First the line: SIGBUS may be the end of the program. */
	mapped = sh_serve_windows(s);
	sh_log(mapped ? SH_ERR : SH_INFO, "lost the daemon of @%s (%s): its %u windows give SIGBUS from now on",
	       s->sock, why, mapped);
	sh_serve_lost(s);
	while ((r = list) != NULL) {
		list = r->next;
		finish(r, -ENOTCONN, NULL, 0);
	}
	sh_session_release(s);
	sh_lock(&old);
	(void)sh_sys(SYS_close, s->ledfd);		/* the counters stay mapped: pins are taken off them */
	s->ledfd = -1;
	sh_unlock(&old);
	/* Last: when the daemon's side sees this end, nothing of the device is open or mapped here, unless it
	 * is pinned. */
	pthread_mutex_lock(&s->tx);
	tx_drop(s);
	(void)sh_sys(SYS_close, s->fd);
	s->fd = -1;
	pthread_mutex_unlock(&s->tx);
}

/*
 * Give the device of a lost session back, so that another daemon may have it. A pinned block may have a
 * transfer under way: then our lock on the device stays, and the last unpin comes back here through the crew.
 */
void sh_session_release(struct sh_session *s)
{
	bool pinned = false;
	sh_sigs old;

	sh_lock(&old);
	for (uint32_t i = 0; i < s->fresh_slots; i++) {
		atomic_store(&s->slots[i].sl_watch, 1);
		pinned |= sh_slot_pinned(&s->slots[i]);
	}
	if (!pinned && s->devfd >= 0) {
		/* The mapping is what keeps the lock when this process dies with a transfer under way. */
		if (s->dev_flush != NULL)
			(void)sh_sys(SYS_munmap, s->dev_flush, (size_t)s->dev_bytes);
		s->dev_flush = NULL;
		(void)sh_sys(SYS_close, s->devfd);
		s->devfd = -1;
	}
	sh_unlock(&old);
}

static bool message(struct sh_session *s, const struct fuse_out_header *h, const void *body, size_t len)
{
	struct pf_p_notify_trace tr;
	struct pf_p_lease_event ev;
	struct pf_p_revoke rv;
	struct pf_p_inval in;
	struct sh_req *r;

	if (h->unique == 0 && h->error == PF_P_NOTIFY_LEASE) {
		if (len < sizeof ev)
			return false;
		memcpy(&ev, body, sizeof ev);
		sh_serve_lease(s, &ev);
		return true;
	}
	if (h->unique == 0 && h->error == PF_P_NOTIFY_REVOKE) {
		if (len < sizeof rv)
			return false;
		memcpy(&rv, body, sizeof rv);
		sh_serve_revoke(s, &rv);
		return true;
	}

	if (h->unique == 0 && h->error == PF_P_NOTIFY_TRACE) {
		if (len < sizeof tr)
			return false;
		memcpy(&tr, body, sizeof tr);
		sh_trace_set(s, tr.nt_on != 0);
		return true;
	}
	if (h->unique == 0) {
		if (h->error != PF_P_NOTIFY_INVAL)
			return true;		/* a newer daemon's; minor versions may add notifies */
		if (len < sizeof in)
			return false;
		memcpy(&in, body, sizeof in);
		sh_serve_inval(s, &in);
		return true;
	}
	if (h->error > 0 || h->error <= -4096)
		return false;
	r = pend_take(s, h->unique);
	if (r != NULL)
		finish(r, h->error, body, len);
	return true;
}

void sh_session_input(struct sh_session *s)
{
	struct fuse_out_header h;
	size_t at = 0;
	long r;

	if (atomic_load(&s->lost))
		return;
	pthread_mutex_lock(&s->tx);
	if (s->txq != NULL)
		tx_flush(s);
	pthread_mutex_unlock(&s->tx);
	r = sh_sys(SYS_recvfrom, s->fd, s->rx + s->rx_len, SH_RX_BYTES - s->rx_len, MSG_DONTWAIT, NULL, NULL);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r <= 0) {
		sh_crew_refused("recvfrom(2)", r);
		sh_session_lose(s, r == 0 ? "it closed the session" : "the socket failed");
		return;
	}
	s->rx_len += (size_t)r;
	while (s->rx_len - at >= sizeof h) {
		memcpy(&h, s->rx + at, sizeof h);
		if (h.len < sizeof h || h.len > SH_RX_BYTES) {
			sh_session_lose(s, "it sent nonsense");
			return;
		}
		if (s->rx_len - at < h.len)
			break;
		if (!message(s, &h, s->rx + at + sizeof h, h.len - sizeof h)) {
			sh_session_lose(s, "it sent nonsense");
			return;
		}
		if (atomic_load(&s->lost))
			return;
		at += h.len;
	}
	memmove(s->rx, s->rx + at, s->rx_len - at);
	s->rx_len -= at;
}
