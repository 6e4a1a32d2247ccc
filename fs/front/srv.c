/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv.c - the session server: its socket, its workers, and the cookies that prove the right to a file.
 *
 * Owns struct pf_srv. Takes the server's lock (LEAF). A few workers wait on one epoll set; a connection is armed for
 * one of them at a time, so no worker ever waits for another and no client can occupy more than one.
 */
#include "front/srv_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/log.h"
#include "media/pmem.h"
#include "share/lay.h"

typedef void (*notify_fn)(void *arg, uint64_t ino, bool data);

static int watch(struct pf_srv *srv, int op, int fd, enum pf_ev what, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)what << PF_EV_SHIFT };

	return epoll_ctl(srv->epoll_fd, op, fd, &ev) != 0 ? -errno : 0;
}

/*
 * Nothing tells when the last descriptor or mapping of a device goes that belonged to a session whose socket is closed:
 * exec(2) closes the one before it drops the others, a child may share the memory of a process that has ended. So they
 * are looked at, soon after, and then ever more rarely.
 */
static void set_timer(struct pf_srv *srv, uint64_t ns)
{
	const struct itimerspec at = { .it_value = { (time_t)(ns / UINT64_C(1000000000)),
						     (long)(ns % UINT64_C(1000000000)) } };

	(void)timerfd_settime(srv->look_fd, 0, &at, NULL);
}

void pf_srv_look_soon(struct pf_srv *srv)
{
	pf_mutex_lock(&srv->lock);
	srv->look_ns = PF_SRV_LOOK_NS;
	set_timer(srv, srv->look_ns);
	pf_mutex_unlock(&srv->lock);
}

static void look(struct pf_srv *srv)
{
	bool more = false;
	uint64_t expired;

	(void)!read(srv->look_fd, &expired, sizeof expired);
	for (unsigned int i = 0; i < PF_SRV_CONNS; i++) {
		struct pf_conn *c;

		pf_mutex_lock(&srv->lock);
		c = srv->conn[i];
		if (c)
			pf_conn_get(c);
		pf_mutex_unlock(&srv->lock);
		if (c) {
			more |= pf_conn_look(c);
			pf_conn_put(c);
		}
	}
	pf_mutex_lock(&srv->lock);
	if (more) {
		srv->look_ns = pf_min64(2 * srv->look_ns, PF_SRV_LOOK_MAX_NS);
		set_timer(srv, srv->look_ns);
	}
	pf_mutex_unlock(&srv->lock);
	(void)watch(srv, EPOLL_CTL_MOD, srv->look_fd, PF_EV_LOOK, EPOLLIN | EPOLLONESHOT);
}

static void *worker_main(void *arg)
{
	struct pf_srv *srv = arg;
	struct epoll_event ev;
	struct pf_conn *c;

	for (;;) {
		if (epoll_wait(srv->epoll_fd, &ev, 1, -1) != 1)
			continue;	/* EINTR */
		switch ((enum pf_ev)(ev.data.u64 >> PF_EV_SHIFT)) {
		case PF_EV_STOP:
			return NULL;
		case PF_EV_LISTEN:
			pf_conn_accept(srv);
			(void)watch(srv, EPOLL_CTL_MOD, srv->listen_fd, PF_EV_LISTEN, EPOLLIN | EPOLLONESHOT);
			break;
		case PF_EV_CONN:
		case PF_EV_PID:
			c = pf_conn_find(srv, ev.data.u64 & PF_EV_KEYS);
			if (!c)
				break;
			if (ev.data.u64 >> PF_EV_SHIFT == PF_EV_CONN)
				pf_conn_turn(c);
			else
				pf_conn_process_ended(c);
			pf_conn_put(c);
			break;
		case PF_EV_LOOK:
			look(srv);
			break;
		}
	}
}

static void stop_workers(struct pf_srv *srv)
{
	uint64_t one = 1;

	if (write(srv->stop_fd, &one, sizeof one) != sizeof one)
		abort();	/* cannot fail: the counter is far from its limit */
	while (srv->nr_workers > 0)
		(void)pthread_join(srv->worker[--srv->nr_workers], NULL);
}

static int start_workers(struct pf_srv *srv)
{
	sigset_t all, old;
	int rc = 0;

	(void)sigfillset(&all);		/* signals are for the thread that asked for them */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && srv->nr_workers < PF_SRV_WORKERS) {
		rc = pthread_create(&srv->worker[srv->nr_workers], NULL, worker_main, srv);
		srv->nr_workers += rc == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		stop_workers(srv);
	return -rc;
}

static int start_listening(struct pf_srv *srv)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint64_t rnd[2];
	socklen_t len;

	/* A name that nobody can take before us, or guess who has not asked for it by ioctl. */
	if (getrandom(rnd, sizeof rnd, 0) != sizeof rnd)
		return -EIO;
	(void)snprintf(srv->sock, sizeof srv->sock, "pinfs-%016llx%016llx", (unsigned long long)rnd[0],
		       (unsigned long long)rnd[1]);
	memcpy(sa.sun_path + 1, srv->sock, strlen(srv->sock));
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(srv->sock));
	srv->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (srv->listen_fd < 0 || bind(srv->listen_fd, (struct sockaddr *)&sa, len) != 0 ||
	    listen(srv->listen_fd, 1024) != 0)
		return -errno;
	return 0;
}

static void free_srv(struct pf_srv *srv)
{
	int fds[] = { srv->listen_fd, srv->stop_fd, srv->epoll_fd, srv->spare_fd, srv->look_fd };

	for (size_t i = 0; i < PF_ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	pf_mutex_fini(&srv->lock);
	free(srv->conn);
	free(srv);
}

int pf_srv_start(struct pf_fs *fs, const char *mountpoint, struct pf_srv **out)
{
	struct pf_srv *srv = calloc(1, sizeof *srv);
	int err;

	if (!srv)
		return -ENOMEM;
	srv->fs = fs;
	(void)snprintf(srv->mount, sizeof srv->mount, "%s", mountpoint);
	srv->listen_fd = srv->stop_fd = srv->look_fd = -1;
	pf_mutex_init(&srv->lock, PF_RANK_LEAF);
	srv->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	srv->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	srv->conn = calloc(PF_SRV_CONNS, sizeof(struct pf_conn *));
	err = -ENOMEM;
	if (!srv->conn)
		goto out_free;
	srv->stop_fd = eventfd(0, EFD_CLOEXEC);
	srv->look_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	err = srv->epoll_fd < 0 || srv->stop_fd < 0 || srv->look_fd < 0 ? -errno : start_listening(srv);
	/* From now on clients hold shared locks of the device beside ours. */
	if (err == 0)
		err = pf_pm_share(fs->pm);
	if (err == 0)
		err = watch(srv, EPOLL_CTL_ADD, srv->stop_fd, PF_EV_STOP, EPOLLIN);
	if (err == 0)
		err = watch(srv, EPOLL_CTL_ADD, srv->look_fd, PF_EV_LOOK, EPOLLIN | EPOLLONESHOT);
	if (err == 0)
		err = watch(srv, EPOLL_CTL_ADD, srv->listen_fd, PF_EV_LISTEN, EPOLLIN | EPOLLONESHOT);
	if (err == 0)
		err = start_workers(srv);
	if (err != 0)
		goto out_free;
	*out = srv;
	return 0;

out_free:
	free_srv(srv);
	return err;
}

/*
 * Let clients give the device back before the daemon ends, so that whoever waits for that end finds it free. Their
 * answer to a closed session is to unmap, close the device, and close the socket, in this order. One that is stopped
 * is not waited for long.
 */
static void say_goodbye(struct pf_srv *srv)
{
	uint64_t until = pf_lay_now() + PF_SRV_GOODBYE_NS;
	struct pollfd p = { .events = POLLIN };
	char drop[4096];
	unsigned int i;

	for (i = 0; i < PF_SRV_CONNS; i++)
		if (srv->conn[i] && srv->conn[i]->fd >= 0)
			(void)shutdown(srv->conn[i]->fd, SHUT_WR);
	for (i = 0; i < PF_SRV_CONNS; i++) {
		if (!srv->conn[i] || srv->conn[i]->fd < 0)
			continue;
		p.fd = srv->conn[i]->fd;
		while (pf_lay_now() < until && poll(&p, 1, 10) >= 0)
			if (p.revents && recv(p.fd, drop, sizeof drop, MSG_DONTWAIT) <= 0)
				break;
	}
}

void pf_srv_stop(struct pf_srv *srv)
{
	unsigned int i;

	if (!srv)
		return;
	stop_workers(srv);
	say_goodbye(srv);
	for (i = 0; i < PF_SRV_CONNS; i++)
		if (srv->conn[i])
			pf_conn_close(srv->conn[i], true);
	free_srv(srv);
}

void pf_srv_sock(const struct pf_srv *srv, struct pinfs_sock *out)
{
	*out = (struct pinfs_sock){ .so_pad = 0 };
	memcpy(out->so_sock, srv->sock, sizeof out->so_sock);
}

/* Attributes that the kernel caches */

void pf_srv_set_notify(struct pf_srv *srv, void (*fn)(void *arg, uint64_t ino, bool data), void *arg)
{
	atomic_store(&srv->notify_fn, (uintptr_t)0);
	while (atomic_load(&srv->notifying) != 0)
		(void)sched_yield();
	atomic_store(&srv->notify_arg, arg);
	atomic_store(&srv->notify_fn, (uintptr_t)fn);
}

void pf_srv_set_stuck(struct pf_srv *srv, pf_srv_stuck_fn fn, void *arg)
{
	atomic_store(&srv->stuck_arg, arg);
	atomic_store(&srv->stuck_fn, (uintptr_t)fn);
}

bool pf_srv_stuck(struct pf_srv *srv, pid_t holder, pid_t pid)
{
	const pf_srv_stuck_fn fn = (pf_srv_stuck_fn)atomic_load(&srv->stuck_fn);

	return fn && fn(atomic_load(&srv->stuck_arg), holder, pid);
}

static void tell(struct pf_srv *srv, uint64_t ino, bool data)
{
	notify_fn fn;

	atomic_fetch_add(&srv->notifying, 1);
	fn = (notify_fn)atomic_load(&srv->notify_fn);
	if (fn)
		fn(atomic_load(&srv->notify_arg), ino, data);
	atomic_fetch_sub(&srv->notifying, 1);
}

void pf_srv_changed(struct pf_srv *srv, uint64_t ino)
{
	tell(srv, ino, false);
}

void pf_srv_stale(struct pf_srv *srv, uint64_t ino)
{
	tell(srv, ino, true);
}

/* Cookies */

/* The process of a thread. 0: not visible from here. */
static pid_t process_of(pid_t tid)
{
	char path[64], line[128];
	int pid = 0;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (pid == 0 && fgets(line, sizeof line, f))
		(void)sscanf(line, "Tgid: %d", &pid);
	(void)fclose(f);
	return pid;
}

int pf_srv_attach_cookie(struct pf_srv *srv, const struct pf_map_right *to, pid_t tid, struct pinfs_attach *out)
{
	struct pf_cookie fresh = {
		.until_ns = pf_lay_now() + PF_SRV_COOKIE_NS,
		.pid = process_of(tid),
		.to = *to,
	};
	struct pf_cookie *at = NULL;
	int tries;

	if (fresh.pid == 0)
		return -ESRCH;
	/* The cookie says where it is kept. When several places are taken, the oldest cookie is forgotten: its
	 * owner asks again. */
	pf_mutex_lock(&srv->lock);
	for (tries = 0; tries < 8; tries++) {
		uint64_t rnd[2];
		struct pf_cookie *c;

		if (getrandom(rnd, sizeof rnd, 0) != sizeof rnd)
			break;
		c = &srv->cookie[rnd[0] % PF_SRV_COOKIES];
		if (!at || c->until_ns < at->until_ns) {
			at = c;
			memcpy(fresh.cookie, rnd, sizeof rnd);
		}
		if (c->until_ns < pf_lay_now())
			break;
	}
	if (at)
		*at = fresh;
	pf_mutex_unlock(&srv->lock);
	if (!at)
		return -EAGAIN;
	*out = (struct pinfs_attach){
		.at_cookie = { fresh.cookie[0], fresh.cookie[1] }, .at_ino = to->ino, .at_gen = to->gen,
		.at_write = to->write,
	};
	memcpy(out->at_sock, srv->sock, sizeof out->at_sock);
	return 0;
}

bool pf_srv_redeem(struct pf_srv *srv, const uint64_t cookie[2], pid_t pid, struct pf_cookie *out)
{
	struct pf_cookie *c = &srv->cookie[cookie[0] % PF_SRV_COOKIES];
	bool good;

	pf_mutex_lock(&srv->lock);
	good = c->until_ns >= pf_lay_now() && c->cookie[0] == cookie[0] && c->cookie[1] == cookie[1] && c->pid == pid;
	if (good) {
		*out = *c;
		*c = (struct pf_cookie){ .until_ns = 0 };
	}
	pf_mutex_unlock(&srv->lock);
	return good;
}
