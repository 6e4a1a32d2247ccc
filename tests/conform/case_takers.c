/* SPDX-License-Identifier: BSD-3-Clause */
/* case_takers.c - calls that pin memory for as long as one transfer lasts, and calls of which one might think so. */
#include <aio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/take.h"

#define LEN (4 * CF_PAGE)
#define XFER (2 * CF_PAGE)
#define DEV "; devdax: na: a device has no truncate"
/* A truncate meets a pin; or it does not, whatever there is. */
#define HELD "waits; ebusy: EBUSY; defer, unsafe, bare, plain: returns" DEV
#define FREE "returns" DEV

/* ---- transfers whose other end answers late ---- */

enum how {
	READ, PREAD, READV, PREADV, PREADV2, WRITE, PWRITE, WRITEV, PWRITEV, PWRITEV2,
	POSIX_READ, POSIX_WRITE,
	AIO_READ, AIO_WRITE, AIO_READV, AIO_WRITEV,
	RING_READ, RING_WRITE, RING_READV, RING_WRITEV,
};

struct transfer {
	struct cf *c;
	enum how how;
	int fd;
	char *buf;
	size_t len;
	struct iovec v[2];
	struct take_ring ring;
};

static long by_posix_aio(const struct transfer *t)
{
	struct aiocb cb = { .aio_fildes = t->fd, .aio_buf = t->buf, .aio_nbytes = t->len };
	const struct aiocb *const list[] = { &cb };
	int err;

	if ((t->how == POSIX_READ ? aio_read(&cb) : aio_write(&cb)) != 0)
		return -errno;
	while ((err = aio_error(&cb)) == EINPROGRESS)
		(void)aio_suspend(list, 1, NULL);
	return err != 0 ? -err : aio_return(&cb);
}

static long by_aio(const struct transfer *t)
{
	static const uint16_t op[] = { IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_PREADV, IOCB_CMD_PWRITEV };
	const bool vector = t->how == AIO_READV || t->how == AIO_WRITEV;
	struct iocb cb = { .aio_lio_opcode = op[t->how - AIO_READ], .aio_fildes = (uint32_t)t->fd,
			   .aio_buf = vector ? (uintptr_t)t->v : (uintptr_t)t->buf,
			   .aio_nbytes = vector ? 2 : t->len };
	struct iocb *list[] = { &cb };
	struct io_event ev = { 0 };
	aio_context_t ctx = 0;
	long rc;

	rc = take_aio_setup(1, &ctx);
	if (rc != 0)
		return rc;
	rc = cf_rc(syscall(SYS_io_submit, ctx, 1, list));
	if (rc == 1)
		rc = cf_rc(syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL)) == 1 ? (long)ev.res : -EIO;
	(void)syscall(SYS_io_destroy, ctx);
	return rc;
}

static long by_ring(struct transfer *t)
{
	static const uint8_t op[] = { IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV };
	const bool vector = t->how == RING_READV || t->how == RING_WRITEV;
	int err = take_ring_begin(&t->ring, op[t->how - RING_READ], t->fd, vector ? (void *)t->v : t->buf,
				  vector ? 2 : (uint32_t)t->len);

	return err < 0 ? err : take_ring_end(&t->ring);
}

static long transfer_now(struct transfer *t)
{
	switch (t->how) {
	case READ: return cf_rc(read(t->fd, t->buf, t->len));
	case PREAD: return cf_rc(pread(t->fd, t->buf, t->len, 0));
	case READV: return cf_rc(readv(t->fd, t->v, 2));
	case PREADV: return cf_rc(preadv(t->fd, t->v, 2, 0));
	case PREADV2: return cf_rc(preadv2(t->fd, t->v, 2, 0, RWF_HIPRI));
	case WRITE: return cf_rc(write(t->fd, t->buf, t->len));
	case PWRITE: return cf_rc(pwrite(t->fd, t->buf, t->len, 0));
	case WRITEV: return cf_rc(writev(t->fd, t->v, 2));
	case PWRITEV: return cf_rc(pwritev(t->fd, t->v, 2, 0));
	case PWRITEV2: return cf_rc(pwritev2(t->fd, t->v, 2, 0, RWF_HIPRI));
	case POSIX_READ: case POSIX_WRITE: return by_posix_aio(t);
	case AIO_READ: case AIO_WRITE: case AIO_READV: case AIO_WRITEV: return by_aio(t);
	case RING_READ: case RING_WRITE: case RING_READV: case RING_WRITEV: return by_ring(t);
	}
	return -EINVAL;
}

/* In a thread. One that fails before it has begun would be waited for in vain. */
static long transfer(void *arg)
{
	struct transfer *t = arg;
	long rc = transfer_now(t);

	if (rc < 0) {
		cf_answer_rc(t->c, rc);
		_exit(0);
	}
	return rc;
}

/* Pages 1 and 2 are the buffer; in two pieces, the second before the first, for those that take vectors. */
static void prepare(struct cf *c, struct transfer *t, enum how how, char *buf)
{
	*t = (struct transfer){ .c = c, .how = how, .buf = buf, .len = XFER,
				.v = { { buf + CF_PAGE, CF_PAGE }, { buf, CF_PAGE } } };
	if (how >= RING_READ)
		take_ring_open(c, &t->ring);
	t->fd = (int)CF_SYS(c, open(cf_slow(c), O_RDWR | O_DIRECT | O_CLOEXEC));
}

static void slow_transfer(struct cf *c)
{
	const enum how *how = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct transfer *t = cf_shared(c, sizeof *t);
	struct cf_call *moving, *cut;

	prepare(c, t, *how, p + CF_PAGE);
	moving = cf_call(c, CF_THREAD, transfer, t);
	cf_slow_await(c, 1);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	cf_slow_release(c);
	if (cf_result(moving) != (long)XFER)
		cf_answer(c, "the transfer fails");
	(void)cf_result(cut);
}

/* ---- private mappings ---- */

struct private {
	bool store, out;
};

static void private_transfer(struct cf *c)
{
	const struct private *how = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	struct transfer *t = cf_shared(c, sizeof *t);
	struct pinfs_range_info ri;
	struct cf_call *moving, *cut;

	CF_MUST(c, p != MAP_FAILED);
	if (cf_is(c, "pinfs") && LIB(c, pinfs_range_query)(p, LEN, &ri) != 0)
		cf_na(c, "private mappings are the page cache's here");
	if (how->store)
		memset(p, 'c', LEN);
	prepare(c, t, how->out ? PWRITE : PREAD, p + CF_PAGE);
	moving = cf_call(c, CF_THREAD, transfer, t);
	cf_slow_await(c, 1);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	cf_slow_release(c);
	CF_MUST(c, cf_result(moving) == (long)XFER);
	(void)cf_result(cut);
}

/* ---- buffers that cannot be had ---- */

enum buffer { CUT_OFF, HALF_CUT_OFF, READ_ONLY, READ_ONLY_OUT };

static void bad_buffer(struct cf *c)
{
	const enum buffer *what = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	const bool ro = *what == READ_ONLY || *what == READ_ONLY_OUT;
	char *p = cf_map(c, fd, 0, LEN, ro ? PROT_READ : PROT_READ | PROT_WRITE);
	struct transfer *t = cf_shared(c, sizeof *t);
	const char *left;
	long rc;

	if (*what == CUT_OFF || *what == HALF_CUT_OFF)
		CF_SYS(c, ftruncate(fd, *what == CUT_OFF ? (off_t)CF_PAGE : 2 * (off_t)CF_PAGE));
	prepare(c, t, *what == READ_ONLY_OUT ? PWRITE : PREAD, p + CF_PAGE);
	cf_slow_release(c);
	rc = transfer_now(t);
	if (rc < 0)
		cf_answer_rc(c, rc);
	else
		cf_answer(c, rc == (long)XFER ? "all of it" : rc == (long)CF_PAGE ? "up to the end" : "a part");
	left = cf_content(c, cf_path(c, "f"), 0, CF_PAGE);
	if (strcmp(left, "old") != 0)
		cf_answer(c, "the file has changed");
}

/* ---- what is written to the device is what is there when it asks ---- */

static void hole(struct cf *c)
{
	int fd = cf_holes(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct transfer *t = cf_shared(c, sizeof *t);
	struct cf_call *moving, *cut;

	prepare(c, t, PWRITE, p + CF_PAGE);
	moving = cf_call(c, CF_THREAD, transfer, t);
	cf_slow_await(c, 1);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	cf_slow_release(c);
	CF_MUST(c, cf_result(moving) == (long)XFER);
	(void)cf_result(cut);
}

/* ---- pages that stay in the kernel after the call ---- */

/* A socket whose peer reads nothing and has no room: what is sent now stays here. */
static void stuffed(struct cf *c, int *ours, int *peer)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = (int)CF_SYS(c, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), small = 4096, big = 4 << 20, one = 1;
	static char junk[1 << 16];
	socklen_t len = sizeof at;
	size_t sent = 0;

	CF_SYS(c, setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
	CF_SYS(c, bind(l, (const struct sockaddr *)&at, sizeof at));
	CF_SYS(c, listen(l, 1));
	CF_SYS(c, getsockname(l, (struct sockaddr *)&at, &len));
	*ours = (int)CF_SYS(c, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (setsockopt(*ours, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big) != 0)
		CF_SYS(c, setsockopt(*ours, SOL_SOCKET, SO_SNDBUF, &big, sizeof big));
	CF_SYS(c, setsockopt(*ours, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one));
	CF_SYS(c, connect(*ours, (const struct sockaddr *)&at, sizeof at));
	*peer = (int)CF_SYS(c, accept4(l, NULL, NULL, SOCK_CLOEXEC));
	CF_SYS(c, close(l));
	/* Far beyond what the peer takes, far below what may wait here. */
	while (sent < 4 * sizeof junk) {
		const size_t left = 4 * sizeof junk - sent;

		sent += (size_t)CF_SYS(c, send(*ours, junk, left < sizeof junk ? left : sizeof junk, MSG_DONTWAIT));
	}
}

static void drain(struct cf *c, int peer, size_t n)
{
	static char junk[1 << 16];

	while (n > 0) {
		const size_t got = (size_t)CF_SYS(c, read(peer, junk, n < sizeof junk ? n : sizeof junk));

		CF_MUST(c, got > 0);
		n -= got;
	}
}

static void zerocopy(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), ours, peer;
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct cf_call *cut;

	stuffed(c, &ours, &peer);
	if (CF_SYS(c, send(ours, p + CF_PAGE, CF_PAGE, MSG_ZEROCOPY | MSG_DONTWAIT)) != (long)CF_PAGE)
		cf_na(c, "the socket takes no whole page");
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	drain(c, peer, 4 * (1 << 16) + CF_PAGE);
	(void)cf_result(cut);
}

static void splice_in(struct cf *c)
{
	const unsigned int *flags = cf_arg(c);
	int fd = cf_file(c, "f", LEN), pipe_fd[2];
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE), got[CF_PAGE];
	struct iovec v = { p + CF_PAGE, CF_PAGE };
	struct cf_call *cut;

	CF_SYS(c, pipe2(pipe_fd, O_CLOEXEC));
	CF_MUST(c, vmsplice(pipe_fd[1], &v, 1, *flags) == (ssize_t)CF_PAGE);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	CF_MUST(c, read(pipe_fd[0], got, CF_PAGE) == (ssize_t)CF_PAGE);
	if (strcmp(cf_content_of(got, CF_PAGE), "old") != 0)
		cf_answer(c, "the pipe has other bytes");
	(void)cf_result(cut);
}

/* splice(2) from the file itself: what is in the pipe is a copy, on DAX. */
static void splice_file(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), pipe_fd[2];
	struct cf_call *cut;
	off_t at = 0;

	CF_SYS(c, pipe2(pipe_fd, O_CLOEXEC));
	CF_MUST(c, splice(fd, &at, pipe_fd[1], NULL, CF_PAGE, 0) == (ssize_t)CF_PAGE);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	(void)cf_result(cut);
}

/* ---- copies ---- */

struct blocked {
	int fd;
	char *buf;
};

static long read_of_nothing(void *arg)
{
	const struct blocked *b = arg;

	return cf_rc(read(b->fd, b->buf, CF_PAGE));
}

/* A read(2) that waits for a writer: nothing is pinned while it does. */
static void from_pipe(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), pipe_fd[2];
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct blocked *b = cf_shared(c, sizeof *b);
	struct cf_call *reading, *cut;

	CF_SYS(c, pipe2(pipe_fd, O_CLOEXEC));
	*b = (struct blocked){ pipe_fd[0], p };
	reading = cf_call(c, CF_THREAD, read_of_nothing, b);
	cut = take_cut(c, fd, (off_t)CF_PAGE);
	take_answer_cut(c, cut);
	CF_MUST(c, write(pipe_fd[1], "x", 1) == 1 && cf_result(reading) == 1 && p[0] == 'x');
	(void)cf_result(cut);
}

/* To and from a file in the page cache. */
static void buffered(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), other = cf_file(c, "g", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);

	CF_MUST(c, pread(other, p + CF_PAGE, XFER, 0) == (ssize_t)XFER);
	CF_MUST(c, pwrite(other, p + CF_PAGE, XFER, 0) == (ssize_t)XFER);
	take_answer_cut(c, take_cut(c, fd, 0));
}

struct far_side {
	pid_t pid;
	_Atomic uint32_t up, go;
	bool touched;
	char *at;
};

/* A process with the file mapped, which another one reads and writes. */
static long be_read(void *arg)
{
	struct far_side *s = arg;

	if (s->touched)
		*(volatile char *)s->at = CF_BYTE;
	cf_mark(&s->up, 1);
	while (atomic_load(&s->go) == 0)
		(void)usleep(500);
	return s->at[1];
}

enum remote { VM, PTRACE, MEM };
struct outside {
	enum remote by;
	bool touched;
};

static long remote_io(enum remote by, pid_t pid, char *at)
{
	char buf[8] = "", path[64];
	struct iovec here = { buf, 1 }, there = { at, 1 };
	long rc = -1;
	int fd, status;

	switch (by) {
	case VM:
		rc = process_vm_readv(pid, &here, 1, &there, 1, 0);
		if (rc == 1 && buf[0] == CF_BYTE) {
			buf[0] = 'w';
			there.iov_base = at + 1;
			rc = process_vm_writev(pid, &here, 1, &there, 1, 0);
		}
		break;
	case PTRACE:
		rc = ptrace(PTRACE_ATTACH, pid, NULL, NULL);
		if (rc != 0)
			break;
		if (waitpid(pid, &status, 0) == pid) {
			errno = 0;
			rc = ptrace(PTRACE_PEEKDATA, pid, at, NULL);
			if (errno == 0)
				rc = (char)rc == CF_BYTE ?
				     ptrace(PTRACE_POKEDATA, pid, at, (rc & ~0xff00L) | 'w' << 8) : -1;
		}
		(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
		break;
	case MEM:
		(void)snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
		fd = open(path, O_RDWR | O_CLOEXEC);
		rc = fd < 0 ? -1 : pread(fd, buf, 1, (off_t)(uintptr_t)at);
		if (rc == 1)
			rc = buf[0] == CF_BYTE ? pwrite(fd, "w", 1, (off_t)(uintptr_t)at + 1) : -1;
		if (fd >= 0)
			(void)close(fd);
		break;
	}
	return cf_rc(rc);
}

static void from_outside(struct cf *c)
{
	const struct outside *how = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	struct far_side *s = cf_shared(c, sizeof *s);
	struct cf_call *call;
	long rc;

	s->touched = how->touched;
	s->at = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	call = cf_call(c, CF_PROCESS, be_read, s);
	cf_await(c, &s->up, 1);
	rc = remote_io(how->by, cf_call_pid(call), s->at);
	if (rc == -EPERM || rc == -EACCES)
		cf_na(c, "this process may not look into another: %s", strerror((int)-rc));
	cf_mark(&s->go, 1);
	if (rc < 0)
		cf_answer_rc(c, rc);
	else if (cf_result(call) != 'w' || s->at[1] != 'w')
		cf_answer(c, "other bytes");
	else
		take_answer_cut(c, take_cut(c, fd, 0));
}

struct sleeper {
	uint32_t *at;
	_Atomic uint32_t up;
};

static long sleep_on(void *arg)
{
	struct sleeper *s = arg;
	long rc;

	(void)*(volatile uint32_t *)s->at;
	rc = cf_rc(syscall(SYS_futex, s->at, FUTEX_WAIT, (uint32_t)CF_BYTE * 0x01010101U, NULL, NULL, 0));
	cf_mark(&s->up, 1);
	return rc;
}

/* By one mapping it waits, by another it is woken. */
static void futex(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	struct sleeper *s = cf_shared(c, sizeof *s);
	uint32_t *other = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct cf_call *call;
	long n;

	s->at = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	(void)*(volatile uint32_t *)other;
	call = cf_call(c, CF_PROCESS, sleep_on, s);
	do {
		n = cf_rc(syscall(SYS_futex, other, FUTEX_WAKE, 1, NULL, NULL, 0));
		(void)sched_yield();
	} while (n == 0 && atomic_load(&s->up) == 0);
	if (n != 1 || cf_result(call) != 0)
		cf_answer(c, "is not woken");
	else
		take_answer_cut(c, take_cut(c, fd, 0));
}

/* ---- advice ---- */

static void locked(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);

	if (mlock(p, LEN) != 0) {
		cf_answer_rc(c, -errno);
		return;
	}
	take_answer_cut(c, take_cut(c, fd, 0));
}

static void advised(struct cf *c)
{
	static const int advice[] = { MADV_MERGEABLE, MADV_HUGEPAGE, MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT };
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);

	for (size_t i = 0; i < sizeof advice / sizeof advice[0]; i++)
		if (madvise(p, LEN, advice[i]) != 0 && errno != EINVAL) {
			cf_answer_rc(c, -errno);
			return;
		}
	if (strcmp(cf_content_of(p, LEN), "old") != 0)
		cf_answer(c, "other bytes");
	else
		take_answer_cut(c, take_cut(c, fd, 0));
}

#define SLOW(name, by, call, source)                                                                                 \
	{ "take." name, source, "A truncate waits for " call " until it is complete, and lets it complete.",         \
	  CF_PROTECTS | CF_PINS, slow_transfer, &(const enum how){ by }, HELD }
#define OUTSIDE(name, source, call, by, touched, want)                                                               \
	{ "take." name, source, call " the bytes of a file in another process's mapping, and leaves nothing pinned.", \
	  0, from_outside, &(const struct outside){ by, touched }, want }
#define PLAY(name, source, says, flags, fn, type, arg, want)                                                         \
	{ "take." name, source, says, flags, fn, &(const type){ arg }, want }

static const struct cf_case cases[] = {
	SLOW("read", READ, "a direct read(2) into the mapping", "behaviour 1; pin_user_pages_fast()"),
	SLOW("pread", PREAD, "a direct pread(2) into the mapping", "behaviour 1; xfstests generic/413"),
	SLOW("readv", READV, "a direct readv(2) into the mapping", "behaviour 1; iov_iter_extract_pages()"),
	SLOW("preadv", PREADV, "a direct preadv(2) into the mapping", "behaviour 1; iov_iter_extract_pages()"),
	SLOW("preadv2", PREADV2, "a direct preadv2(2) into the mapping", "behaviour 1; iov_iter_extract_pages()"),
	SLOW("write", WRITE, "a direct write(2) of the mapping's bytes", "behaviour 1; pin_user_pages_fast()"),
	SLOW("pwrite", PWRITE, "a direct pwrite(2) of the mapping's bytes", "behaviour 1; pin_user_pages_fast()"),
	SLOW("writev", WRITEV, "a direct writev(2) of the mapping's bytes", "behaviour 1; iov_iter_extract_pages()"),
	SLOW("pwritev", PWRITEV, "a direct pwritev(2) of the mapping's bytes",
	     "behaviour 1; iov_iter_extract_pages()"),
	SLOW("pwritev2", PWRITEV2, "a direct pwritev2(2) of the mapping's bytes",
	     "behaviour 1; iov_iter_extract_pages()"),
	SLOW("posix-aio-read", POSIX_READ, "an aio_read(3) into the mapping", "behaviour 1"),
	SLOW("posix-aio-write", POSIX_WRITE, "an aio_write(3) of the mapping's bytes", "behaviour 1"),
	SLOW("aio-read", AIO_READ, "an io_submit(2) read into the mapping", "behaviour 1; fs/aio.c"),
	SLOW("aio-write", AIO_WRITE, "an io_submit(2) write of the mapping's bytes", "behaviour 1; fs/aio.c"),
	SLOW("aio-readv", AIO_READV, "an io_submit(2) vector read into the mapping", "behaviour 1; fs/aio.c"),
	SLOW("aio-writev", AIO_WRITEV, "an io_submit(2) vector write of the mapping's bytes", "behaviour 1; fs/aio.c"),
	SLOW("uring-read", RING_READ, "an io_uring read into the mapping", "behaviour 1; io_uring/rw.c"),
	SLOW("uring-write", RING_WRITE, "an io_uring write of the mapping's bytes", "behaviour 1; io_uring/rw.c"),
	SLOW("uring-readv", RING_READV, "an io_uring vector read into the mapping", "behaviour 1; io_uring/rw.c"),
	SLOW("uring-writev", RING_WRITEV, "an io_uring vector write of the mapping's bytes",
	     "behaviour 1; io_uring/rw.c"),

	PLAY("private-in", "behaviour 35; dax_iomap_fault()",
	     "A device that writes to a private mapping writes to copies, for which no truncate waits.",
	     CF_PINS, private_transfer, struct private, false, FREE),
	{ "take.private-out", "dax_layout_busy_page()",
	  "A device that reads a private mapping whose pages are no copies reads the file's blocks: truncate waits.",
	  CF_PROTECTS | CF_PINS, private_transfer, &(const struct private){ false, true }, HELD },
	{ "take.private-copied-out", "dax_layout_busy_page()",
	  "A device that reads copies in a private mapping keeps no truncate waiting.",
	  CF_PINS, private_transfer, &(const struct private){ true, true }, FREE },
	{ "take.hole-out", "behaviour 53; dax_load_hole()",
	  "A device that reads a hole reads the page of zeros, for which no truncate waits; on pinfs the page counts.",
	  CF_PINS, hole, NULL, FREE "; pinfs: waits; ebusy: EBUSY; defer, unsafe: returns; devdax: EINVAL" },

	PLAY("after-cut", "behaviour 6; get_user_pages()",
	     "A direct read into a page that a truncate has taken fails with EFAULT, without a signal.",
	     CF_PINS, bad_buffer, enum buffer, CUT_OFF, "EFAULT" DEV),
	PLAY("after-cut-half", "get_user_pages()",
	     "A direct read into a buffer that goes over the end of the file gives what is in front of it.",
	     CF_PINS, bad_buffer, enum buffer, HALF_CUT_OFF, "up to the end" DEV),
	PLAY("read-only", "xfstests generic/462",
	     "A direct read into a mapping without PROT_WRITE fails with EFAULT and leaves the file alone.",
	     CF_PINS, bad_buffer, enum buffer, READ_ONLY, "EFAULT" DEV),
	PLAY("read-only-out", "xfstests generic/413",
	     "A direct write of the bytes of a mapping without PROT_WRITE is possible.",
	     CF_PINS, bad_buffer, enum buffer, READ_ONLY_OUT, "all of it" DEV),

	{ "take.zerocopy", "msg_zerocopy_realloc()",
	  "What send(2) with MSG_ZEROCOPY was given keeps truncate waiting until the peer has it.",
	  CF_PROTECTS | CF_PINS, zerocopy, NULL, HELD },
	PLAY("vmsplice", "behaviour 15; iter_to_pipe()",
	     "Pages in a pipe keep truncate waiting until the pipe is drained: any user can make it wait.",
	     CF_PROTECTS | CF_PINS, splice_in, unsigned int, 0, HELD),
	PLAY("vmsplice-gift", "iter_to_pipe()", "With SPLICE_F_GIFT it is the same.",
	     CF_PROTECTS | CF_PINS, splice_in, unsigned int, SPLICE_F_GIFT, HELD),
	{ "take.splice-file", "copy_splice_read()",
	  "What splice(2) moves from a DAX file to a pipe is a copy, and keeps no truncate waiting.",
	  0, splice_file, NULL, FREE },

	{ "take.pipe-read", "copy_to_iter()",
	  "A read(2) that copies into the mapping holds nothing while it waits for its bytes.",
	  0, from_pipe, NULL, FREE },
	{ "take.buffered", "copy_to_iter()", "Reads and writes by way of the page cache leave nothing pinned.",
	  0, buffered, NULL, FREE },
	OUTSIDE("vm", "pin_user_pages_remote()", "process_vm_readv(2) and process_vm_writev(2) reach",
		VM, true, FREE),
	OUTSIDE("ptrace", "access_remote_vm()", "ptrace(2) reaches", PTRACE, true, FREE),
	OUTSIDE("proc-mem", "mem_rw()", "/proc/PID/mem reaches", MEM, true, FREE),
	OUTSIDE("vm-untouched", "pin_user_pages_remote()",
		"Where the process has not touched them yet (on pinfs: with privilege), process_vm_readv(2) reaches",
		VM, false, FREE "; pinfs+user: returns|EFAULT"),
	OUTSIDE("ptrace-untouched", "access_remote_vm()",
		"Where the process has not touched them yet (not on pinfs: libpinfs(7)), ptrace(2) reaches",
		PTRACE, false, FREE "; pinfs: EIO"),
	{ "take.futex", "get_futex_key()",
	  "Who waits for a futex in one mapping of the file is woken by way of another; nothing stays pinned.",
	  0, futex, NULL, FREE },
	{ "take.mlock", "behaviour 56; mlock_fixup()",
	  "mlock(2) of the mapping succeeds, and keeps no truncate waiting.",
	  0, locked, NULL, FREE "; user: returns|ENOMEM|EPERM" },
	{ "take.advice", "behaviour 56; vma_is_dax()",
	  "Advice to merge, to make huge, to read ahead and to page out changes nothing, and pins nothing.",
	  0, advised, NULL, FREE },
	{ "take.migration", "vma_migratable()",
	  "Pages of DAX files are not moved to another node of memory, nor made huge: they are the device's. It takes "
	  "several nodes, and what moves pages by itself.", CF_UNASKED, NULL, NULL, "" },
	{ "take.core", "vma_dump_size()",
	  "Core dumps have DAX mappings only with bits 7 and 8 of coredump_filter: where a dump goes is the machine's "
	  "business, and none of ours asks for one.", CF_UNASKED, NULL, NULL, "" },
	{ "take.kvm", "hva_to_pfn()",
	  "KVM maps guest memory and hears of unmapping, so no truncate waits for a guest: it takes a virtual machine "
	  "to ask; its invalidation is that of any mapping (tests/pin/test_window.c).", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_takers, "take", "Takers of pins for one transfer", cases);
