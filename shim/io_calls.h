/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_calls.h - the calls that hand memory of the program to the kernel, as data: included by hooks_io.c, which makes a
 * function of each line.
 *
 *   CALL(result, name, (parameters), (arguments), what of them is memory...)
 *
 *   GET(p, n), PUT(p, n)       n bytes that the kernel writes or reads, as many as the result says
 *   GETV(v, n), PUTV(v, n)     the same for struct iovec v[n]
 *   GETM(m), PUTM(m)           struct msghdr;  GETMM(m, n), PUTMM(m, n)  struct mmsghdr m[n]
 *   IN(p), OUT(p), BOTH(p)     the object that p points to, if any; ..N(p, n): n bytes of it
 */

/* ---- bytes ---- */
CALL(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), GET(p, n))
CALL(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), GET(p, n))
CALL(ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at), GET(p, n))
CALL(ssize_t, readv, (int fd, const struct iovec *v, int k), (fd, v, k), GETV(v, k))
CALL(ssize_t, preadv, (int fd, const struct iovec *v, int k, off_t at), (fd, v, k, at), GETV(v, k))
CALL(ssize_t, preadv64, (int fd, const struct iovec *v, int k, off64_t at), (fd, v, k, at), GETV(v, k))
CALL(ssize_t, preadv2, (int fd, const struct iovec *v, int k, off_t at, int fl), (fd, v, k, at, fl), GETV(v, k))
CALL(ssize_t, preadv64v2, (int fd, const struct iovec *v, int k, off64_t at, int fl), (fd, v, k, at, fl), GETV(v, k))
CALL(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), PUT(p, n))
CALL(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), PUT(p, n))
CALL(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at), PUT(p, n))
CALL(ssize_t, writev, (int fd, const struct iovec *v, int k), (fd, v, k), PUTV(v, k))
CALL(ssize_t, pwritev, (int fd, const struct iovec *v, int k, off_t at), (fd, v, k, at), PUTV(v, k))
CALL(ssize_t, pwritev64, (int fd, const struct iovec *v, int k, off64_t at), (fd, v, k, at), PUTV(v, k))
CALL(ssize_t, pwritev2, (int fd, const struct iovec *v, int k, off_t at, int fl), (fd, v, k, at, fl), PUTV(v, k))
CALL(ssize_t, pwritev64v2, (int fd, const struct iovec *v, int k, off64_t at, int fl), (fd, v, k, at, fl), PUTV(v, k))
CALL(ssize_t, getrandom, (void *p, size_t n, unsigned int fl), (p, n, fl), GET(p, n))
CALL(ssize_t, getdents64, (int fd, void *p, size_t n), (fd, p, n), GET(p, n))
CALL(ssize_t, readlink, (const char *restrict path, char *restrict p, size_t n), (path, p, n), GET(p, n))
CALL(ssize_t, readlinkat, (int fd, const char *restrict path, char *restrict p, size_t n), (fd, path, p, n), GET(p, n))
CALL(ssize_t, getxattr, (const char *path, const char *name, void *p, size_t n), (path, name, p, n), GET(p, n))
CALL(ssize_t, lgetxattr, (const char *path, const char *name, void *p, size_t n), (path, name, p, n), GET(p, n))
CALL(ssize_t, fgetxattr, (int fd, const char *name, void *p, size_t n), (fd, name, p, n), GET(p, n))
CALL(ssize_t, listxattr, (const char *path, char *p, size_t n), (path, p, n), GET(p, n))
CALL(ssize_t, llistxattr, (const char *path, char *p, size_t n), (path, p, n), GET(p, n))
CALL(ssize_t, flistxattr, (int fd, char *p, size_t n), (fd, p, n), GET(p, n))
CALL(int, setxattr, (const char *path, const char *name, const void *p, size_t n, int fl), (path, name, p, n, fl),
     INN(p, n))
CALL(int, lsetxattr, (const char *path, const char *name, const void *p, size_t n, int fl), (path, name, p, n, fl),
     INN(p, n))
CALL(int, fsetxattr, (int fd, const char *name, const void *p, size_t n, int fl), (fd, name, p, n, fl), INN(p, n))
/* The fortified names: what -D_FORTIFY_SOURCE makes of the ones above. */
CALL(ssize_t, __read_chk, (int fd, void *p, size_t n, size_t room), (fd, p, n, room), GET(p, n))
CALL(ssize_t, __pread_chk, (int fd, void *p, size_t n, off_t at, size_t room), (fd, p, n, at, room), GET(p, n))
CALL(ssize_t, __pread64_chk, (int fd, void *p, size_t n, off64_t at, size_t room), (fd, p, n, at, room), GET(p, n))
CALL(ssize_t, __recv_chk, (int fd, void *p, size_t n, size_t room, int fl), (fd, p, n, room, fl), GET(p, n))
CALL(ssize_t, __recvfrom_chk, (int fd, void *restrict p, size_t n, size_t room, int fl, struct sockaddr *restrict sa,
			       socklen_t *restrict len), (fd, p, n, room, fl, sa, len), GET(p, n), OUTN(sa, AT(len)),
			            BOTH(len))
CALL(ssize_t, __readlink_chk, (const char *restrict path, char *restrict p, size_t n, size_t room), (path, p, n, room),
     GET(p, n))
CALL(ssize_t, __readlinkat_chk, (int fd, const char *restrict path, char *restrict p, size_t n, size_t room),
     (fd, path, p, n, room), GET(p, n))
CALL(int, __poll_chk, (struct pollfd *p, nfds_t n, int ms, size_t room), (p, n, ms, room), BOTHN(p, n * sizeof *p))

/* ---- sockets ---- */
CALL(ssize_t, recv, (int fd, void *p, size_t n, int fl), (fd, p, n, fl), GET(p, n))
CALL(ssize_t, recvfrom, (int fd, void *restrict p, size_t n, int fl, struct sockaddr *restrict sa,
     socklen_t *restrict len),
     (fd, p, n, fl, sa, len), GET(p, n), OUTN(sa, AT(len)), BOTH(len))
CALL(ssize_t, recvmsg, (int fd, struct msghdr *m, int fl), (fd, m, fl), GETM(m))
CALL(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned int k, int fl, struct timespec *ts), (fd, m, k, fl, ts),
     GETMM(m, k), BOTH(ts))
CALL(ssize_t, send, (int fd, const void *p, size_t n, int fl), (fd, p, n, fl), PUTZ(p, n, fl))
CALL(ssize_t, sendto, (int fd, const void *p, size_t n, int fl, const struct sockaddr *sa, socklen_t len),
     (fd, p, n, fl, sa, len), PUTZ(p, n, fl), INN(sa, len))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int fl), (fd, m, fl), PUTMZ(m, fl))
CALL(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned int k, int fl), (fd, m, k, fl), PUTMMZ(m, k, fl))
CALL(int, getsockopt, (int fd, int level, int opt, void *restrict p, socklen_t *restrict len), (fd, level, opt, p, len),
     BOTHN(p, AT(len)), BOTH(len))
CALL(int, setsockopt, (int fd, int level, int opt, const void *p, socklen_t len), (fd, level, opt, p, len), INN(p, len))
CALL(int, getsockname, (int fd, struct sockaddr *restrict sa, socklen_t *restrict len), (fd, sa, len), OUTN(sa,
     AT(len)),
     BOTH(len))
CALL(int, getpeername, (int fd, struct sockaddr *restrict sa, socklen_t *restrict len), (fd, sa, len), OUTN(sa,
     AT(len)),
     BOTH(len))
CALL(int, accept, (int fd, struct sockaddr *restrict sa, socklen_t *restrict len), (fd, sa, len), OUTN(sa, AT(len)),
     BOTH(len))
CALL(int, accept4, (int fd, struct sockaddr *restrict sa, socklen_t *restrict len, int fl), (fd, sa, len, fl),
     OUTN(sa, AT(len)), BOTH(len))
CALL(int, connect, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len), INN(sa, len))
CALL(int, bind, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len), INN(sa, len))

/* ---- structures ---- */
CALL(int, stat, (const char *restrict path, struct stat *restrict st), (path, st), OUT(st))
CALL(int, lstat, (const char *restrict path, struct stat *restrict st), (path, st), OUT(st))
CALL(int, fstat, (int fd, struct stat *st), (fd, st), OUT(st))
CALL(int, fstatat, (int fd, const char *restrict path, struct stat *restrict st, int fl), (fd, path, st, fl), OUT(st))
CALL(int, stat64, (const char *restrict path, struct stat64 *restrict st), (path, st), OUT(st))
CALL(int, lstat64, (const char *restrict path, struct stat64 *restrict st), (path, st), OUT(st))
CALL(int, fstat64, (int fd, struct stat64 *st), (fd, st), OUT(st))
CALL(int, fstatat64, (int fd, const char *restrict path, struct stat64 *restrict st, int fl), (fd, path, st, fl),
     OUT(st))
CALL(int, statfs, (const char *path, struct statfs *st), (path, st), OUT(st))
CALL(int, fstatfs, (int fd, struct statfs *st), (fd, st), OUT(st))
CALL(int, statfs64, (const char *path, struct statfs64 *st), (path, st), OUT(st))
CALL(int, fstatfs64, (int fd, struct statfs64 *st), (fd, st), OUT(st))
CALL(int, pipe, (int p[2]), (p), OUTN(p, 2 * sizeof(int)))
CALL(int, pipe2, (int p[2], int fl), (p, fl), OUTN(p, 2 * sizeof(int)))
CALL(int, socketpair, (int domain, int type, int proto, int p[2]), (domain, type, proto, p), OUTN(p, 2 * sizeof(int)))

/* ---- waiting ---- */
CALL(int, poll, (struct pollfd *p, nfds_t n, int ms), (p, n, ms), BOTHN(p, n * sizeof *p))
CALL(int, ppoll, (struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask), (p, n, ts, mask),
     BOTHN(p, n * sizeof *p), IN(ts), IN(mask))
CALL(int, select, (int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e, struct timeval *restrict tv),
     (n, r, w, e, tv), BOTHN(r, FDS(n)), BOTHN(w, FDS(n)), BOTHN(e, FDS(n)), BOTH(tv))
CALL(int, pselect, (int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
     const struct timespec *restrict ts,
		    const sigset_t *restrict mask), (n, r, w, e, ts, mask), BOTHN(r, FDS(n)), BOTHN(w, FDS(n)),
     BOTHN(e, FDS(n)), IN(ts), IN(mask))
CALL(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *ev), (ep, op, fd, ev), IN(ev))
CALL(int, epoll_wait, (int ep, struct epoll_event *ev, int n, int ms), (ep, ev, n, ms), OUTN(ev, MANY(n, *ev)))
CALL(ssize_t, process_vm_readv, (pid_t pid, const struct iovec *v, unsigned long k, const struct iovec *far,
				 unsigned long kfar, unsigned long fl), (pid, v, k, far, kfar, fl), GETV(v, k),
				      INN(far, kfar * sizeof *far))
CALL(ssize_t, process_vm_writev, (pid_t pid, const struct iovec *v, unsigned long k, const struct iovec *far,
				  unsigned long kfar, unsigned long fl), (pid, v, k, far, kfar, fl), PUTV(v, k),
				       INN(far, kfar * sizeof *far))
CALL(int, epoll_pwait, (int ep, struct epoll_event *ev, int n, int ms, const sigset_t *mask), (ep, ev, n, ms, mask),
     OUTN(ev, MANY(n, *ev)), IN(mask))
