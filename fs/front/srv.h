/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv.h - the session server: an abstract unix socket on which clients ask for windows and pins (proto.h).
 *
 * Owns the socket, its connections, the worker threads and the cookies. Knows nothing about libfuse: the FUSE front
 * starts and stops it, hands it ioctls, and lends it a way to drop attributes that the kernel caches.
 */
#ifndef PF_FRONT_SRV_H
#define PF_FRONT_SRV_H

#include <sys/types.h>
#include <pinfs/ioctl.h>
#include "op/op_map.h"

struct pf_srv;

/* Listen and start the workers. @mountpoint is for reports. The caller has mounted @fs. Blocks for nothing. */
int pf_srv_start(struct pf_fs *fs, const char *mountpoint, struct pf_srv **out) PF_MUST_CHECK;

/* End every session, join the workers, free. Call pf_lay_shutdown() first, so nothing waits. NULL is allowed. */
void pf_srv_stop(struct pf_srv *srv);

/*
 * PINFS_IOC_ATTACH: fill @out with a fresh cookie for this file and the socket's name. @tid is the thread that called
 * ioctl (fuse_ctx.pid); only its process can use the cookie. @to->write: the descriptor is open for writing. The caller
 * has checked that it is a regular file in DAX mode. 0, -ENOMEM, -ESRCH (the thread cannot be seen from here),
 * -EAGAIN (too many cookies unused).
 */
int pf_srv_attach_cookie(struct pf_srv *srv, const struct pf_map_right *to, pid_t tid, struct pinfs_attach *out);

/* PINFS_IOC_SOCK. */
void pf_srv_sock(const struct pf_srv *srv, struct pinfs_sock *out);

/*
 * Whom to tell that attributes of an inode changed by a window (blocks, mtime), or, with @data, that its bytes did:
 * fuse_lowlevel_notify_inval_inode(ino, -1, 0), or (ino, 0, 0). Called from a session thread with no lock held. Set it
 * before the first client can attach; NULL turns it off and returns when no call is in progress any more.
 */
void pf_srv_set_notify(struct pf_srv *srv, void (*fn)(void *arg, uint64_t ino, bool data), void *arg);

/*
 * Whom to ask, for `pinfsctl would-block`, whether @pid would wait for itself when it waits for pins of @holder:
 * pf_deadlock_alone(). @arg outlives the server.
 */
typedef bool (*pf_srv_stuck_fn)(void *arg, pid_t holder, pid_t pid);
void pf_srv_set_stuck(struct pf_srv *srv, pf_srv_stuck_fn fn, void *arg);
/* False as long as nobody was named. */
bool pf_srv_stuck(struct pf_srv *srv, pid_t holder, pid_t pid);

#endif
