/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_io.c - system calls whose memory lies in windows, where userfaultfd may not see the kernel's own accesses
 * (UFFD_USER_MODE_ONLY: no privilege for more). Such a call would fail with EFAULT on a page that is not mapped at
 * that moment; so it gets private memory instead (copy.c). With the privilege, which is the normal case, each of
 * these is one test of a flag in front of the real call.
 *
 * The calls are data: io_calls.def. ioctl(), whose argument depends on its request, is here. What is neither gives
 * EFAULT in
 * that mode until the page has been touched; COVERAGE.md has the list.
 */
#include "io.h"
#include "queue.h"
#include "longterm.h"

#include <dlfcn.h>
#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

#define IOV_LIMIT 1024U
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif

/* These names may be called before the constructor has run, by other libraries' constructors. */
SH_EARLY static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	memcpy(slot, &sym, sizeof sym);
}

SH_EARLY static inline bool any_window(void)
{
	return __builtin_expect(atomic_load_explicit(&sh.nvma, memory_order_relaxed) != 0, 0);
}

/* ... and the kernel could not read or write one. */
SH_EARLY static bool needed(void)
{
	if (!sh.user_mode || sh_is_crew)
		return false;
	sh_alive();
	return true;
}

/* The length that the program says there is room for; its own pages give their faults here. */
static size_t length_at(const socklen_t *len)
{
	return len != NULL ? *len : 0;
}

/* The kernel keeps the pages of such a message after the call: they have to be the window's own. */
static enum sh_kind kept(enum sh_kind kind, const void *p, size_t n, int flags)
{
	if ((flags & MSG_ZEROCOPY) && kind == SH_BYTES)
		sh_prefault(sh_addr(p), n, false);
	return kind;
}

/* How much of so many messages has been sent. */
static uint64_t sent(const struct mmsghdr *m, int n)
{
	uint64_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += m[i].msg_len;
	return bytes;
}

/* Our own windows as the far side, whichever of our threads stands for us. */
static int far_begin(pid_t pid, const struct iovec *far, unsigned long n, unsigned int how, const void *frame,
		     struct sh_hold **out)
{
	struct iovec *v = n > 0 && n <= IOV_LIMIT ? sh_alloc(n * sizeof *v) : NULL;
	size_t good;
	int err = 0;

	if (v == NULL)
		return 0;
	if (sh.user_mode)
		sh_prefault(sh_addr(far), n * sizeof *v, false);
	if (sh_iov_fetch(far, n, v) == 0 && sh_iov_touches(v, n) &&
	    sh_sys(SYS_tgkill, sh_sys(SYS_getpid), pid, 0) == 0) {
		err = sh_hold_part(v, n, how | SH_HOLD_BRIEF, PF_API_PROCESS_VM, out, &good);
		/* Pages that cannot be had end such a transfer, and are no error of it as a whole. */
		if (err != -EINTR)
			err = 0;
		for (unsigned long i = 0; sh.user_mode && *out != NULL && i < n; i++)
			sh_prefault(sh_addr(v[i].iov_base), v[i].iov_len, how == SH_HOLD_WRITE);
		sh_hold_enter(*out, frame);
	}
	sh_free(v, n * sizeof *v);
	return err;
}

#define SPAN(kind, dir, p, n) { kind, dir, (sh_any *)(uintptr_t)&(p), (size_t)(n) }
#define GET(p, n) SPAN(SH_BYTES, SH_OUT, p, n)
#define PUT(p, n) SPAN(SH_BYTES, SH_IN, p, n)
#define GETV(v, n) SPAN(SH_VECTOR, SH_OUT, v, (n) > 0 ? (n) : 0)
#define PUTV(v, n) SPAN(SH_VECTOR, SH_IN, v, (n) > 0 ? (n) : 0)
#define GETM(m) SPAN(SH_MESSAGE, SH_OUT, m, 1)
#define GETMM(m, n) SPAN(SH_MESSAGES, SH_OUT, m, n)
#define PUTZ(p, n, fl) SPAN(kept(SH_BYTES, p, n, fl), SH_IN, p, (fl) & MSG_ZEROCOPY ? 0 : (n))
#define PUTMZ(m, fl) SPAN((fl) & MSG_ZEROCOPY ? SH_OBJECT : SH_MESSAGE, SH_IN, m, sizeof *(m))
#define PUTMMZ(m, n, fl) SPAN((fl) & MSG_ZEROCOPY ? SH_OBJECT : SH_MESSAGES, SH_IN, m, (fl) & MSG_ZEROCOPY ? 0 : (n))
#define IN(p) SPAN(SH_OBJECT, SH_IN, p, sizeof *(p))
#define OUT(p) SPAN(SH_OBJECT, SH_OUT, p, sizeof *(p))
#define BOTH(p) SPAN(SH_OBJECT, SH_IN | SH_OUT, p, sizeof *(p))
#define INN(p, n) SPAN(SH_OBJECT, SH_IN, p, n)
#define OUTN(p, n) SPAN(SH_OBJECT, SH_OUT, p, n)
#define BOTHN(p, n) SPAN(SH_OBJECT, SH_IN | SH_OUT, p, n)
#define AT(len) length_at(len)
#define FDS(n) ((n) > 0 ? PF_DIV_UP((size_t)(n), 64) * 8 : 0)
#define MANY(n, one) ((n) > 0 ? (size_t)(n) * sizeof(one) : 0)

/*
 * Of a program without windows nothing is asked but one load and a branch, and the real call is a jump: what else
 * there is to do has a function, a stack frame and a guard of its own.
 */
#define CALL(result, name, params, args, ...)                                                          \
	static result first_##name params;                                                             \
	static result(*real_##name) params = first_##name;                                             \
	SH_EARLY static result first_##name params                                                     \
	{                                                                                              \
		load(&real_##name, #name);                                                             \
		return real_##name args;                                                               \
	}                                                                                              \
	SH_EARLY __attribute__((noinline)) static result with_windows_##name params                    \
	{                                                                                              \
		struct sh_io io;                                                                       \
		int err;                                                                               \
                                                                                                       \
		if (!needed())                                                                         \
			return real_##name args;                                                       \
		struct sh_span span[] = { __VA_ARGS__ };                                               \
		err = sh_io_begin(&io, span, PF_ARRAY_LEN(span));                                      \
		if (err) {                                                                             \
			errno = -err;                                                                  \
			return -1;                                                                     \
		}                                                                                      \
		return (result)sh_io_end(&io, (long)real_##name args);                                 \
	}                                                                                              \
	PF_EXPORT result name params;                                                                  \
	PF_EXPORT SH_EARLY result name params                                                          \
	{                                                                                              \
		return any_window() ? with_windows_##name args : real_##name args;                     \
	}

#define TO(f, p, len) .fd = (f), .dir = SH_OUT, .one = { (p), (len) }, .n = 1
#define TO_CHK(f, p, len, room) .fd = (f), .dir = SH_OUT, .one = { (p), (len) }, .n = (len) <= (room)
#define FROM(f, p, len) .fd = (f), .dir = SH_IN, .one = { (void *)(uintptr_t)(p), (len) }, .n = 1
#define TOV(f, vec, k) .fd = (f), .dir = SH_OUT, .v = (vec), .n = (k) > 0 ? (size_t)(k) : 0
#define FROMV(f, vec, k) .fd = (f), .dir = SH_IN, .v = (vec), .n = (k) > 0 ? (size_t)(k) : 0
#define POS(o) .how = SH_AT_POS, .at = (o)
#define FLAGS(o, fl) .how = SH_AT_FLAGS, .at = (o), .flags = (fl)

/* The same for a read or write of a descriptor, which takes one of three ways: move.c. */
#define MOVE(name, params, args, memory, ...)                                                          \
	static ssize_t first_##name params;                                                            \
	static ssize_t(*real_##name) params = first_##name;                                            \
	SH_EARLY static ssize_t first_##name params                                                    \
	{                                                                                              \
		load(&real_##name, #name);                                                             \
		return real_##name args;                                                               \
	}                                                                                              \
	SH_EARLY __attribute__((noinline)) static ssize_t with_windows_##name params                   \
	{                                                                                              \
		struct sh_io io;                                                                       \
		ssize_t r;                                                                             \
		int err;                                                                               \
                                                                                                       \
		struct sh_move move = { __VA_ARGS__ };                                                 \
		switch (sh_move(&move, &r)) {                                                          \
		case SH_WAY_DONE:                                                                      \
			return r;                                                                      \
		case SH_WAY_PLAIN:                                                                     \
			return real_##name args;                                                       \
		case SH_WAY_COPY:                                                                      \
			break;                                                                         \
		}                                                                                      \
		struct sh_span span[] = { memory };                                                    \
		err = sh_io_begin(&io, span, PF_ARRAY_LEN(span));                                      \
		if (err) {                                                                             \
			errno = -err;                                                                  \
			return -1;                                                                     \
		}                                                                                      \
		return sh_io_end(&io, real_##name args);                                               \
	}                                                                                              \
	PF_EXPORT ssize_t name params;                                                                 \
	PF_EXPORT SH_EARLY ssize_t name params                                                         \
	{                                                                                              \
		return any_window() ? with_windows_##name args : real_##name args;                     \
	}

/* What MSG_ZEROCOPY leaves in the socket, as an array: the program's own, or one of ours. */
#define ZC_BYTES(p, n) { .one = { (void *)(uintptr_t)(p), (n) }, .nmsg = 0 }
#define ZC_MESSAGE(m) { .msg = (m), .nmsg = 1, .stride = sizeof(struct msghdr) }
#define ZC_MESSAGES(m, k) { .msg = (const void *)(m), .nmsg = (k), .stride = sizeof(struct mmsghdr) }

#define SEND(result, name, params, args, fd, fl, what, bytes, ...)                                     \
	static result first_##name params;                                                             \
	static result(*real_##name) params = first_##name;                                             \
	SH_EARLY static result first_##name params                                                     \
	{                                                                                              \
		load(&real_##name, #name);                                                             \
		return real_##name args;                                                               \
	}                                                                                              \
	SH_EARLY __attribute__((noinline)) static result with_windows_##name params                    \
	{                                                                                              \
		struct sh_hold *hold = NULL;                                                           \
		struct sh_io io = { 0 };                                                               \
		result r = -1;                                                                         \
		int err = 0;                                                                           \
                                                                                                       \
		if ((fl) & MSG_ZEROCOPY) {                                                             \
			struct sh_zerocopy zc = what;                                                  \
			err = sh_zerocopy_begin(fd, &zc, &hold);                                       \
		}                                                                                      \
		if (!err && needed()) {                                                                \
			struct sh_span span[] = { __VA_ARGS__ };                                       \
			err = sh_io_begin(&io, span, PF_ARRAY_LEN(span));                              \
		}                                                                                      \
		if (err) {                                                                             \
			sh_zerocopy_end(fd, hold, 0);                                                  \
			errno = -err;                                                                  \
			return -1;                                                                     \
		}                                                                                      \
		r = real_##name args;                                                                  \
		sh_zerocopy_end(fd, hold, r > 0 ? (bytes) : 0);                                        \
		return (result)sh_io_end(&io, (long)r);                                                \
	}                                                                                              \
	PF_EXPORT result name params;                                                                  \
	PF_EXPORT SH_EARLY result name params                                                          \
	{                                                                                              \
		return any_window() ? with_windows_##name args : real_##name args;                     \
	}

/*
 * Of the far process's memory the kernel pins the pages while it copies, which may last if the near side's page
 * comes from slow storage. The near side is touched by instructions. Another process's windows are in its own
 * ledger, which only it may count in: COVERAGE.md.
 */
#define FAR(name, params, args, how, ...)                                                              \
	static ssize_t first_##name params;                                                            \
	static ssize_t(*real_##name) params = first_##name;                                            \
	SH_EARLY static ssize_t first_##name params                                                    \
	{                                                                                              \
		load(&real_##name, #name);                                                             \
		return real_##name args;                                                               \
	}                                                                                              \
	SH_EARLY __attribute__((noinline)) static ssize_t with_windows_##name params                   \
	{                                                                                              \
		struct sh_hold *hold = NULL;                                                           \
		struct sh_io io = { 0 };                                                               \
		ssize_t r;                                                                             \
		int err = far_begin(pid, far, kfar, how, &io, &hold);                                     \
                                                                                                       \
		if (!err && needed()) {                                                                \
			struct sh_span span[] = { __VA_ARGS__ };                                       \
			err = sh_io_begin(&io, span, PF_ARRAY_LEN(span));                              \
		}                                                                                      \
		if (err) {                                                                             \
			sh_hold_return(hold);                                                          \
			errno = -err;                                                                  \
			return -1;                                                                     \
		}                                                                                      \
		r = real_##name args;                                                                  \
		sh_hold_return(hold);                                                                  \
		return sh_io_end(&io, r);                                                              \
	}                                                                                              \
	PF_EXPORT ssize_t name params;                                                                 \
	PF_EXPORT SH_EARLY ssize_t name params                                                         \
	{                                                                                              \
		return any_window() ? with_windows_##name args : real_##name args;                     \
	}

#include "io_calls.def"

/* ---- ioctl ---- */

/* Requests from before sizes were part of their numbers. */
static size_t old_ioctl(unsigned long request)
{
	switch (request) {
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return sizeof(struct termios);
	case TIOCGWINSZ:
	case TIOCSWINSZ:
		return sizeof(struct winsize);
	case FIONREAD:
	case FIONBIO:
	case FIOASYNC:
	case TIOCGPGRP:
	case TIOCSPGRP:
	case TIOCOUTQ:
		return sizeof(int);
	default:
		return 0;
	}
}

PF_EXPORT SH_EARLY int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	struct sh_io io;
	void *arg;
	size_t n;
	va_list ap;
	int err;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (real == NULL)
		load(&real, "ioctl");
	if (!any_window() && atomic_load_explicit(&sh_nregs, memory_order_relaxed) == 0)
		return real(fd, request, arg);
	if (!needed())
		return sh_long_ioctl(real, fd, request, arg);
	n = old_ioctl(request);
	if (n == 0 && (_IOC_DIR(request) & (_IOC_READ | _IOC_WRITE)))
		n = _IOC_SIZE(request);
	if (n == 0 && sh_addr(arg) >= SH_PAGE)
		sh_prefault(sh_addr(arg), 1, true);	/* anything: the best that can be done */
	struct sh_span span[] = { BOTHN(arg, n) };
	err = sh_io_begin(&io, span, 1);
	if (err) {
		errno = -err;
		return -1;
	}
	return (int)sh_io_end(&io, sh_long_ioctl(real, fd, request, arg));
}
