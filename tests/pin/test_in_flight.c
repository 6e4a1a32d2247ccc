/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_in_flight.c - what is still under way when the call that began it has returned: sends without a copy, by
 * sendmmsg(2) and by io_uring, and requests of POSIX asynchronous I/O that are cancelled. A child makes the calls.
 *
 * A send is played twice: with the truncate waiting, and under on_busy=unsafe, when the peer must read what another
 * file has in the blocks by then. Else it would not be known that the kernel was still to read them.
 */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/compiler.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/look.h"
#include "pin/mover.h"
#include "pin/victim.h"

#define SEND_LEN ((size_t)1 << 20)
#define HALF (SEND_LEN / 2)
#define PAGE 4096U

static struct mover m;
static int out;			/* the sending end */

/* ---- sends ---- */

static void rest(void)
{
	(void)close(out);
	for (;;)
		(void)pause();
}

static int by_sendmmsg(void *arg)
{
	char *p = mover_window(m.f, SEND_LEN);
	struct iovec v[3] = { { p, PAGE }, { p + PAGE, HALF - PAGE }, { p + HALF, HALF } };
	struct mmsghdr mm[2] = { { .msg_hdr = { .msg_iov = v, .msg_iovlen = 2 } },
				 { .msg_hdr = { .msg_iov = v + 2, .msg_iovlen = 1 } } };

	(void)arg;
	NEED(p != NULL && sendmmsg(out, mm, 2, MSG_ZEROCOPY) == 2);
	NEED(mm[0].msg_len == HALF && mm[1].msg_len == HALF);
	rest();
	return 0;
}

/* The completion that says that it was taken is collected; the one that says that the pages are free is not. */
static int by_ring(void (*prep)(struct io_uring_sqe *s, char *p))
{
	char *p = mover_window(m.f, SEND_LEN);
	struct io_uring_cqe *c;
	struct io_uring ring;

	NEED(p != NULL && io_uring_queue_init(4, &ring, 0) == 0);
	prep(io_uring_get_sqe(&ring), p);
	NEED(io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &c) == 0);
	NEED(c->res == (int)SEND_LEN && (c->flags & IORING_CQE_F_MORE) != 0);
	io_uring_cqe_seen(&ring, c);
	rest();
	return 0;
}

static void prep_send(struct io_uring_sqe *s, char *p)
{
	io_uring_prep_send_zc(s, out, p, SEND_LEN, MSG_WAITALL, 0);
}

static void prep_sendmsg(struct io_uring_sqe *s, char *p)
{
	static struct iovec v[2];
	static struct msghdr msg = { .msg_iov = v, .msg_iovlen = 2 };

	v[0] = (struct iovec){ p, PAGE };
	v[1] = (struct iovec){ p + PAGE, SEND_LEN - PAGE };
	io_uring_prep_sendmsg_zc(s, out, &msg, MSG_WAITALL);
}

static int by_send_zc(void *arg)
{
	(void)arg;
	return by_ring(prep_send);
}

static int by_sendmsg_zc(void *arg)
{
	(void)arg;
	return by_ring(prep_sendmsg);
}

/* Two ends of a TCP connection; the first has room for all, the second takes little before it reads. False: not
 * here. */
static bool connection(int fd[2])
{
	const int one = 1, bytes = 8 << 20, few = 65536;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof in;

	PT_SYS_FATAL(l);
	PT_SYS_FATAL(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &few, sizeof few));
	PT_SYS_FATAL(bind(l, (struct sockaddr *)&in, sizeof in));
	PT_SYS_FATAL(listen(l, 1));
	PT_SYS_FATAL(getsockname(l, (struct sockaddr *)&in, &len));
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	PT_SYS_FATAL(fd[0]);
	PT_SYS_FATAL(connect(fd[0], (struct sockaddr *)&in, sizeof in));
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	PT_SYS_FATAL(fd[1]);
	(void)close(l);
	if (setsockopt(fd[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0 &&
	    setsockopt(fd[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) == 0)
		return true;
	pt_skip("a socket with MSG_ZEROCOPY and much room: %s", pt_errname());
	(void)close(fd[0]);
	(void)close(fd[1]);
	return false;
}

/* All that the peer gets, to the end of the connection; how much of it is not what was in the file. */
static uint64_t take(int fd)
{
	static char got[65536];
	uint64_t total = 0, foreign = 0;
	ssize_t n;

	while ((n = read(fd, got, sizeof got)) > 0) {
		total += (uint64_t)n;
		for (ssize_t i = 0; i < n; i++)
			foreign += got[i] != 'o';
	}
	PT_EQ(total, SEND_LEN);
	return foreign;
}

static void sends(int (*scene)(void *arg), const char *opts, bool unsafe)
{
	struct actor *c;
	int fd[2];
	pid_t pid;

	if (!mover_begin(&m, opts))
		return;
	c = actor_new();		/* before there is a connection, of which it would have a copy */
	if (!connection(fd)) {
		actor_end(c);
		mover_end(&m);
		return;
	}
	for (uint64_t at = 0; at < SEND_LEN; at += F_LEN)
		PT_EQ(actor_do(c, act_write(m.f, at, F_LEN, 'o')), (long)F_LEN);
	out = fd[0];
	pid = child_start(scene, NULL);
	(void)close(fd[0]);
	CU_ASSERT(mover_in_call(pid, SYS_pause));
	actor_send(c, act_truncate(m.f, 0));
	if (unsafe) {
		PT_EQ(actor_result(c, SOON_MS), 0);
		(void)victim_make(pt_path(m.fs, "victim"));
		CU_ASSERT(take(fd[1]) > 0);
	} else {
		CU_ASSERT(look_until(m.fs, 1, 1, NULL));
		PT_EQ(actor_result(c, 100), -EINPROGRESS);
		PT_EQ(take(fd[1]), 0);
		PT_EQ(actor_result(c, SOON_MS), 0);
	}
	(void)close(fd[1]);
	pt_kill(pid);
	actor_end(c);
	mover_end(&m);
}

/* Does the kernel know the request? */
static bool ring_can(int opcode)
{
	struct io_uring_probe *p = io_uring_get_probe();
	const bool can = p != NULL && io_uring_opcode_supported(p, opcode);

	io_uring_free_probe(p);
	if (!can)
		pt_skip("no io_uring with this request here");
	return can;
}

static void sendmmsg_waits(void) { sends(by_sendmmsg, NULL, false); }
static void sendmmsg_unsafe(void) { sends(by_sendmmsg, "on_busy=unsafe", true); }

static void ring_sends(int opcode, int (*scene)(void *arg), const char *opts, bool unsafe)
{
	if (ring_can(opcode))
		sends(scene, opts, unsafe);
}

static void send_zc_waits(void) { ring_sends(IORING_OP_SEND_ZC, by_send_zc, NULL, false); }
static void send_zc_unsafe(void) { ring_sends(IORING_OP_SEND_ZC, by_send_zc, "on_busy=unsafe", true); }
static void sendmsg_zc_waits(void) { ring_sends(IORING_OP_SENDMSG_ZC, by_sendmsg_zc, NULL, false); }
static void sendmsg_zc_unsafe(void) { ring_sends(IORING_OP_SENDMSG_ZC, by_sendmsg_zc, "on_busy=unsafe", true); }

/* ---- aio_cancel(3) ---- */

static _Atomic int *go;			/* shared with the child: what it may do, and has done */

static int wait_for(int what)
{
	uint64_t end = 0;

	while (atomic_load(go) < what && pt_wait_on(&end))
		;
	return atomic_load(go) >= what ? 0 : -1;
}

/*
 * Four reads, of which the first is under way, since those of one descriptor are made one after the other. The last is
 * cancelled, then all that can be: what was never begun is held no longer, what cannot be cancelled is.
 */
static int canceller(void *arg)
{
	char *p = mover_window(m.f, F_LEN);
	int fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	struct aiocb cb[4] = { { .aio_fildes = fd } };

	(void)arg;
	NEED(p != NULL && fd >= 0);
	for (size_t i = 0; i < 4; i++) {
		cb[i] = (struct aiocb){ .aio_fildes = fd, .aio_buf = p + 2 * i * PAGE, .aio_nbytes = PAGE };
		NEED(aio_read(&cb[i]) == 0);
	}
	NEED(wait_for(1) == 0);
	NEED(aio_cancel(fd, &cb[0]) == AIO_NOTCANCELED && aio_error(&cb[0]) == EINPROGRESS);
	NEED(aio_cancel(fd, &cb[3]) == AIO_CANCELED && aio_error(&cb[3]) == ECANCELED && aio_return(&cb[3]) == -1);
	NEED(aio_error(&cb[1]) == EINPROGRESS);
	atomic_store(go, 2);
	NEED(wait_for(3) == 0);
	NEED(aio_cancel(fd, NULL) == AIO_NOTCANCELED);
	NEED(aio_error(&cb[0]) == EINPROGRESS && aio_error(&cb[1]) == ECANCELED && aio_error(&cb[2]) == ECANCELED);
	atomic_store(go, 4);
	while (aio_error(&cb[0]) == EINPROGRESS)
		NEED(aio_suspend(&(const struct aiocb *){ &cb[0] }, 1, NULL) == 0 || errno == EINTR);
	NEED(aio_error(&cb[0]) == 0 && aio_return(&cb[0]) == PAGE && p[PAGE - 1] == SLOW_BYTE);
	NEED(aio_cancel(fd, &cb[0]) == AIO_ALLDONE && aio_cancel(fd, NULL) == AIO_ALLDONE);
	return 0;
}

/* Is the page held? Asked by punching it. */
static bool held(unsigned int page)
{
	const struct act punch = act_fallocate(m.f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * PAGE, PAGE);
	struct actor *c = stage_sender(punch);
	struct look l;
	uint64_t end = 0;
	long r;

	while ((r = actor_result(c, 1)) == -EINPROGRESS && look(m.fs, &l) && l.nwait == 0 && pt_wait_on(&end))
		;
	if (r == -EINPROGRESS) {
		PT_SYS(kill(actor_pid(c), SIGUSR1));
		PT_EQ(actor_result(c, SOON_MS), -EINTR);
	}
	actor_end(c);
	return r == -EINPROGRESS;
}

static void cancelled(void)
{
	void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	CU_ASSERT_FATAL(shared != MAP_FAILED);
	go = shared;
	if (mover_begin(&m, NULL)) {
		slow_hold(m.slow, true);
		pid = child_start(canceller, NULL);
		CU_ASSERT(slow_await(m.slow, 1));
		CU_ASSERT(mover_pins(&m, 4));
		for (unsigned int i = 0; i < 4; i++)
			CU_ASSERT(held(2 * i));
		atomic_store(go, 1);
		PT_EQ(wait_for(2), 0);
		CU_ASSERT(mover_pins(&m, 3));
		CU_ASSERT(held(0) && held(2) && held(4) && !held(6));
		atomic_store(go, 3);
		PT_EQ(wait_for(4), 0);
		CU_ASSERT(mover_pins(&m, 1));
		CU_ASSERT(held(0) && !held(2) && !held(4));
		slow_hold(m.slow, false);
		slow_release(m.slow, 0);
		mover_done(pid);
		CU_ASSERT(!held(0));
		mover_end(&m);
	}
	(void)munmap(shared, PAGE);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "sendmmsg, MSG_ZEROCOPY", sendmmsg_waits, 0 },
		{ "twin: sendmmsg unsafe", sendmmsg_unsafe, 0 },
		{ "io_uring, SEND_ZC", send_zc_waits, 0 },
		{ "twin: SEND_ZC unsafe", send_zc_unsafe, 0 },
		{ "io_uring, SENDMSG_ZC", sendmsg_zc_waits, 0 },
		{ "twin: SENDMSG_ZC unsafe", sendmsg_zc_unsafe, 0 },
		{ "aio_cancel", cancelled, 0 },
	};
	const struct pt_suite suites[] = { { "in flight", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
