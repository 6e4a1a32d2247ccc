/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_queue.c - vmsplice(2), whose pages stay in the pipe when it returns, and splice(2) and tee(2), which take
 * them on to another pipe or a socket: the holds go with them (queue.c). Sends with MSG_ZEROCOPY are in hooks_io.c.
 *
 * splice() and sendfile() *from* a file of pinfs, or any other, need nothing: what comes out of the file is a copy
 * of its bytes in pages of the kernel's own, or of the page cache; no block of the device is among them.
 */
#include "hooks.h"
#include "queue.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define FEW 8U
#define IOV_LIMIT 1024U

SH_EARLY static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	memcpy(slot, &sym, sizeof sym);
}

/* ---- vmsplice ---- */

typedef ssize_t vmsplice_fn(int, const struct iovec *, size_t, unsigned int);

static void cancelled(void *hold)
{
	sh_hold_return(hold);
}

struct filling {
	int fd;
	const struct iovec *v;
	size_t n;
	unsigned int flags;
	struct sh_hold *hold;
	ssize_t r;
};

static void fill(vmsplice_fn *real, struct filling *c)
{
	sh_hold_enter(c->hold, c);
	pthread_cleanup_push(cancelled, c->hold);
	c->r = real(c->fd, c->v, c->n, c->flags);
	pthread_cleanup_pop(0);
	sh_hold_leave(c->hold);
	sh_queue_add(c->fd, c->hold, c->r > 0 ? (uint64_t)c->r : 0);
}

/* What lies behind the first @good bytes cannot be had, and is not asked for: the call is short, as the kernel's is. */
static size_t shorten(struct iovec *v, size_t n, size_t good)
{
	size_t i;

	for (i = 0; i < n && good > 0; i++) {
		v[i].iov_len = pf_min64(v[i].iov_len, good);
		good -= v[i].iov_len;
	}
	return i;
}

static ssize_t with_windows(vmsplice_fn *real, int fd, const struct iovec *user, size_t n, unsigned int flags)
{
	struct filling c = { .fd = fd, .n = n, .flags = flags, .r = -1 };
	struct iovec few[FEW], *v = few;
	bool plain = true;
	size_t good = 0;
	long mode;
	int err = 0;

	sh_alive();
	if (n == 0 || n > IOV_LIMIT || sh_is_crew)
		return real(fd, user, n, flags);
	mode = sh_sys(SYS_fcntl, fd, F_GETFL);
	if (n > FEW)
		v = sh_alloc(n * sizeof *v);
	/* From the reading end it copies to the memory, and pins nothing. */
	if (v != NULL && mode >= 0 && (mode & O_ACCMODE) != O_RDONLY && sh_iov_fetch(user, n, v) == 0 &&
	    sh_iov_touches(v, n) && sh_hook_ours()) {
		plain = false;
		err = sh_hold_part(v, n, flags & SPLICE_F_NONBLOCK ? SH_HOLD_NOWAIT : 0, PF_API_VMSPLICE, &c.hold,
				   &good);
		if (err && good > 0) {
			c.n = shorten(v, n, good);
			err = 0;
		}
	}
	if (plain) {
		c.r = real(fd, user, n, flags);
	} else if (err) {
		errno = -err;
	} else {
		c.v = v;
		for (size_t i = 0; sh.user_mode && i < c.n; i++)
			sh_prefault(sh_addr(v[i].iov_base), v[i].iov_len, false);
		fill(real, &c);
	}
	if (v != few)
		sh_free(v, n * sizeof *v);
	return c.r;
}

PF_EXPORT SH_EARLY ssize_t vmsplice(int fd, const struct iovec *v, size_t n, unsigned int flags)
{
	static vmsplice_fn *real;

	if (real == NULL)
		load(&real, "vmsplice");
	if (atomic_load_explicit(&sh.nvma, memory_order_relaxed) == 0)
		return real(fd, v, n, flags);
	return with_windows(real, fd, v, n, flags);
}

/* ---- splice, tee ---- */

PF_EXPORT SH_EARLY ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned int flags)
{
	static ssize_t (*real)(int, off64_t *, int, off64_t *, size_t, unsigned int);
	struct sh_holds some;
	ssize_t r;

	if (real == NULL)
		load(&real, "splice");
	if (!sh_queue_any())
		return real(in, in_at, out, out_at, len, flags);
	sh_queue_peek(in, &some);
	r = real(in, in_at, out, out_at, len, flags);
	sh_queue_moved(out, &some, r > 0 ? (uint64_t)r : 0);
	return r;
}

PF_EXPORT SH_EARLY ssize_t tee(int in, int out, size_t len, unsigned int flags)
{
	static ssize_t (*real)(int, int, size_t, unsigned int);
	struct sh_holds some;
	ssize_t r;

	if (real == NULL)
		load(&real, "tee");
	if (!sh_queue_any())
		return real(in, out, len, flags);
	sh_queue_peek(in, &some);
	r = real(in, out, len, flags);
	sh_queue_moved(out, &some, r > 0 ? (uint64_t)r : 0);
	return r;
}
