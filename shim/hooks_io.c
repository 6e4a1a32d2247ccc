/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_io.c - system calls whose buffers lie in windows, where userfaultfd may not see the kernel's own
 * accesses (UFFD_USER_MODE_ONLY: no privilege for more). Such a call would fail with EFAULT on a page that is
 * not mapped yet; so its buffers are faulted in before, and again when an invalidation was faster. With the
 * privilege, which is the normal case, each of these is one test of a flag in front of the real call.
 *
 * What is not here (ioctl, io_uring, stat into a window, ...) gives EFAULT in that mode until the page has been
 * touched; COVERAGE.md has the list.
 */
#include "sh.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define TRIES 64U

static struct {
	ssize_t (*read)(int, void *, size_t);
	ssize_t (*pread)(int, void *, size_t, off_t);
	ssize_t (*readv)(int, const struct iovec *, int);
	ssize_t (*preadv)(int, const struct iovec *, int, off_t);
	ssize_t (*preadv2)(int, const struct iovec *, int, off_t, int);
	ssize_t (*recv)(int, void *, size_t, int);
	ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
	ssize_t (*recvmsg)(int, struct msghdr *, int);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*pwrite)(int, const void *, size_t, off_t);
	ssize_t (*writev)(int, const struct iovec *, int);
	ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
	ssize_t (*pwritev2)(int, const struct iovec *, int, off_t, int);
	ssize_t (*send)(int, const void *, size_t, int);
	ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
} real;

/* These names may be called before the constructor has run, by other libraries' constructors. */
SH_EARLY static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	memcpy(slot, &sym, sizeof sym);
}

#define REAL(name) (real.name != NULL ? real.name : (load(&real.name, #name), real.name))

SH_EARLY static bool needed(void)
{
	if (!sh.user_mode || atomic_load(&sh.nvma) == 0 || sh_is_crew)
		return false;
	sh_alive();
	return true;
}

static void bring(const void *p, size_t len, bool store)
{
	int saved = errno;

	sh_prefault(sh_addr(p), len, store);
	errno = saved;
}

static void bringv(const struct iovec *v, size_t n, bool store)
{
	for (size_t i = 0; i < n && i < IOV_MAX; i++)
		bring(v[i].iov_base, v[i].iov_len, store);
}

/* The call, with its buffers brought in. A short count ends it as well: the caller goes on from there. */
#define WITH(fetch, call)                                                                     \
	do {                                                                                  \
		ssize_t n_ = -1;                                                              \
		if (!needed())                                                                \
			return call;                                                          \
		for (unsigned int t_ = 0; t_ < TRIES; t_++) {                                 \
			fetch;                                                                \
			n_ = call;                                                            \
			if (n_ >= 0 || errno != EFAULT)                                       \
				break;                                                        \
		}                                                                             \
		return n_;                                                                    \
	} while (0)

PF_EXPORT SH_EARLY ssize_t read(int fd, void *p, size_t n)
{
	WITH(bring(p, n, true), REAL(read)(fd, p, n));
}

PF_EXPORT SH_EARLY ssize_t pread(int fd, void *p, size_t n, off_t at)
{
	WITH(bring(p, n, true), REAL(pread)(fd, p, n, at));
}

PF_EXPORT SH_EARLY ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
	return pread(fd, p, n, at);
}

PF_EXPORT SH_EARLY ssize_t readv(int fd, const struct iovec *v, int n)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, true), REAL(readv)(fd, v, n));
}

PF_EXPORT SH_EARLY ssize_t preadv(int fd, const struct iovec *v, int n, off_t at)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, true), REAL(preadv)(fd, v, n, at));
}

PF_EXPORT SH_EARLY ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t at)
{
	return preadv(fd, v, n, at);
}

PF_EXPORT SH_EARLY ssize_t preadv2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, true), REAL(preadv2)(fd, v, n, at, flags));
}

PF_EXPORT SH_EARLY ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t at, int flags)
{
	return preadv2(fd, v, n, at, flags);
}

PF_EXPORT SH_EARLY ssize_t recv(int fd, void *p, size_t n, int flags)
{
	WITH(bring(p, n, true), REAL(recv)(fd, p, n, flags));
}

PF_EXPORT SH_EARLY ssize_t recvfrom(int fd, void *restrict p, size_t n, int flags, struct sockaddr *restrict sa,
				    socklen_t *restrict salen)
{
	WITH(bring(p, n, true), REAL(recvfrom)(fd, p, n, flags, sa, salen));
}

PF_EXPORT SH_EARLY ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	WITH(bringv(m->msg_iov, m->msg_iovlen, true), REAL(recvmsg)(fd, m, flags));
}

PF_EXPORT SH_EARLY ssize_t write(int fd, const void *p, size_t n)
{
	WITH(bring(p, n, false), REAL(write)(fd, p, n));
}

PF_EXPORT SH_EARLY ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	WITH(bring(p, n, false), REAL(pwrite)(fd, p, n, at));
}

PF_EXPORT SH_EARLY ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return pwrite(fd, p, n, at);
}

PF_EXPORT SH_EARLY ssize_t writev(int fd, const struct iovec *v, int n)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, false), REAL(writev)(fd, v, n));
}

PF_EXPORT SH_EARLY ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, false), REAL(pwritev)(fd, v, n, at));
}

PF_EXPORT SH_EARLY ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
	return pwritev(fd, v, n, at);
}

PF_EXPORT SH_EARLY ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
	WITH(bringv(v, n > 0 ? (size_t)n : 0, false), REAL(pwritev2)(fd, v, n, at, flags));
}

PF_EXPORT SH_EARLY ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t at, int flags)
{
	return pwritev2(fd, v, n, at, flags);
}

PF_EXPORT SH_EARLY ssize_t send(int fd, const void *p, size_t n, int flags)
{
	WITH(bring(p, n, false), REAL(send)(fd, p, n, flags));
}

PF_EXPORT SH_EARLY ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *sa,
				  socklen_t salen)
{
	WITH(bring(p, n, false), REAL(sendto)(fd, p, n, flags, sa, salen));
}

PF_EXPORT SH_EARLY ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	WITH(bringv(m->msg_iov, m->msg_iovlen, false), REAL(sendmsg)(fd, m, flags));
}
