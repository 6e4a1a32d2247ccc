/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv_int.h - private to the session server: connections, and the worker that owns one at a time.
 *
 * A connection's input belongs to the worker that set `busy`; messages of one client are therefore handled in order.
 * Its output queue belongs to anybody, under the connection's lock (LEAF): whoever has something to say tries to
 * write it at once.
 */
#ifndef PF_FRONT_SRV_INT_H
#define PF_FRONT_SRV_INT_H

#include <sys/socket.h>
#include <sys/uio.h>
#include <pinfs/proto.h>
#include "base/lock.h"
#include "front/srv.h"
#include "share/session.h"
#include "share/tap.h"

#define PF_SRV_WORKERS 3U
#define PF_SRV_CONNS 8192U		/* connections at a time */
#define PF_SRV_STRANGERS 64U		/* of one user that have no session */
#define PF_SRV_COOKIES 4096U
#define PF_SRV_COOKIE_NS UINT64_C(60000000000)
#define PF_SRV_GOODBYE_NS UINT64_C(1000000000)
#define PF_SRV_LOOK_NS UINT64_C(1000000)	/* for the end of sessions that are cut off: the first time after, */
#define PF_SRV_LOOK_MAX_NS UINT64_C(1000000000)	/* then twice as long each time, up to this */
#define PF_SRV_OUT_MAX (4U << 20)	/* unread output: beyond it the client is taken for lost */
#define PF_SRV_OUT_HIGH (64U << 10)	/* beyond it no more of its requests are read */
#define PF_SRV_GROUPS 256U

struct pf_out {				/* a message, or what is left of it */
	struct pf_out *next;
	size_t at, len;
	int fds[2];			/* go with the first byte; -1: none */
	uint8_t bytes[];
};

struct pf_conn {
	struct pf_srv *srv;
	uint64_t key;			/* epoll names it by this; its place in srv->conn is in it */
	_Atomic unsigned int refs;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd;

	struct pf_mutex lock;		/* LEAF */
	int fd;				/* -1: closed */
	bool busy, again;		/* a worker is on it; look once more before it leaves */
	bool broken;			/* nothing can be sent any more */
	bool closed, gone, released;
	bool lingers;			/* cut off, and somebody still has the device by way of it */
	struct pf_out *out, *out_tail;
	size_t out_bytes;

	/* The worker's. `sess` is set once, under lock. */
	struct pf_sess *sess;
	_Atomic bool init;		/* FUSE_INIT was answered */
	struct pf_tap *tap;		/* it traces */
	uint8_t *in;
	size_t in_len, in_room;
};

struct pf_cookie {
	uint64_t cookie[2];		/* 0, 0: free */
	uint64_t until_ns;
	pid_t pid;
	struct pf_map_right to;
};

struct pf_srv {
	struct pf_fs *fs;
	char mount[256];
	char sock[PINFS_SOCK_MAX];
	int listen_fd, epoll_fd, stop_fd, spare_fd, look_fd;
	pthread_t worker[PF_SRV_WORKERS];
	unsigned int nr_workers;

	_Atomic uintptr_t notify_fn;	/* void (*)(void *arg, uint64_t ino, bool data) */
	void *_Atomic notify_arg;
	_Atomic unsigned int notifying;
	_Atomic uintptr_t stuck_fn;	/* pf_srv_stuck_fn */
	void *_Atomic stuck_arg;

	struct pf_mutex lock;		/* LEAF: below */
	struct pf_conn **conn;		/* PF_SRV_CONNS */
	uint64_t serial;
	uint64_t look_ns;		/* until look_fd, a timer, expires */
	unsigned int nr_conns, next_conn;
	struct pf_cookie cookie[PF_SRV_COOKIES];
};

/* What an epoll event is about: its top three bits. */
enum pf_ev { PF_EV_LISTEN, PF_EV_STOP, PF_EV_CONN, PF_EV_PID, PF_EV_LOOK };
#define PF_EV_SHIFT 61
#define PF_EV_KEYS (UINT64_MAX >> (64 - PF_EV_SHIFT))

/* srv_conn.c */
void pf_conn_get(struct pf_conn *c);
void pf_conn_put(struct pf_conn *c);
struct pf_conn *pf_conn_find(struct pf_srv *srv, uint64_t key);		/* with a reference, or NULL */
void pf_conn_accept(struct pf_srv *srv);
void pf_conn_turn(struct pf_conn *c);					/* its socket has something for us */
void pf_conn_process_ended(struct pf_conn *c);
void pf_conn_close(struct pf_conn *c, bool forced);			/* the worker's; @forced: the server ends */
bool pf_conn_look(struct pf_conn *c);					/* true: cut off, and not gone yet */
/* Cut off every session of the process. 0, -ESRCH (it has none), -EALREADY. */
int pf_conn_evict(struct pf_srv *srv, pid_t pid);
/* Never blocks. @fds: two descriptors that go with it and are closed by it, or NULL. */
void pf_conn_send(struct pf_conn *c, const struct iovec *iov, int n, const int *fds);
#define PF_CONN_PIECES 4	/* of an answer's body, at most */
void pf_conn_answer(struct pf_conn *c, uint64_t unique, int err, const struct iovec *body, int n, const int *fds);

void pf_conn_hang_up(struct pf_conn *c);	/* any locks but LEAF; its worker sees the end of the stream */

/* What the function of a message returns: an errno for the answer, or one of these. */
#define MSG_DONE 1		/* answered, or will be, or needs no answer */
#define MSG_NONSENSE 2

struct pf_wire;

/* srv_lease.c */
int pf_msg_lease(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w);
int pf_msg_give(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w);
int pf_msg_look(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w);
int pf_msg_have(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w);

/* srv_msg.c. False: nonsense, the connection ends; *why is one phrase. */
bool pf_msg_handle(struct pf_conn *c, const struct fuse_in_header *h, const void *body, size_t len, const char **why);

/* srv.c */
void pf_srv_look_soon(struct pf_srv *srv);			/* after sessions that linger */
void pf_srv_changed(struct pf_srv *srv, uint64_t ino);
void pf_srv_stale(struct pf_srv *srv, uint64_t ino);		/* and the data that the kernel caches */
bool pf_srv_redeem(struct pf_srv *srv, const uint64_t cookie[2], pid_t pid, struct pf_cookie *out);

#endif
