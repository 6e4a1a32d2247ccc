/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_transient.c - programs that know nothing of pins: read(2) and write(2) with buffers in windows, on a
 * descriptor that makes the kernel pin them. The source (slowfs.h) answers when the test says so; what happens
 * meanwhile is the subject. Children make the calls, so that they have sessions of their own and can be killed.
 */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/compiler.h>
#include <pinfs/pin.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/child.h"
#include "pin/look.h"
#include "pin/mover.h"
#include "pin/victim.h"

#define K UINT64_C(1024)
#define AT (16 * K)		/* where in the window the buffer lies, and how long it is */
#define LEN (32 * K)

static struct mover m;

/* ---- each call ---- */

static ssize_t do_read(int fd, char *p) { return read(fd, p, LEN); }
static ssize_t do_pread(int fd, char *p) { return pread(fd, p, LEN, 4096); }
static ssize_t do_write(int fd, char *p) { return write(fd, p, LEN); }
static ssize_t do_pwrite(int fd, char *p) { return pwrite(fd, p, LEN, 4096); }

#define TWO(p) { { (p), 4096 }, { (p) + 4096, LEN - 4096 } }
static ssize_t do_readv(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return readv(fd, v, 2);
}

static ssize_t do_preadv(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return preadv(fd, v, 2, 4096);
}

static ssize_t do_preadv2(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return preadv2(fd, v, 2, -1, 0);
}

static ssize_t do_writev(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return writev(fd, v, 2);
}

static ssize_t do_pwritev(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return pwritev(fd, v, 2, 4096);
}

static ssize_t do_pwritev2(int fd, char *p)
{
	struct iovec v[] = TWO(p);

	return pwritev2(fd, v, 2, 4096, 0);
}

static const struct {
	const char *name;
	ssize_t (*fn)(int fd, char *p);
	bool reads;
} calls[] = {
	{ "read", do_read, true },
	{ "pread", do_pread, true },
	{ "readv", do_readv, true },
	{ "preadv", do_preadv, true },
	{ "preadv2", do_preadv2, true },
	{ "write", do_write, false },
	{ "pwrite", do_pwrite, false },
	{ "writev", do_writev, false },
	{ "pwritev", do_pwritev, false },
	{ "pwritev2", do_pwritev2, false },
};

/* One transfer between the slow file and the window, from a fresh process. */
static int mover(void *arg)
{
	const unsigned int *which = arg;
	char *p = mover_window(m.f, F_LEN);
	int fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	ssize_t n;

	NEED(p != NULL && fd >= 0);
	n = calls[*which].fn(fd, p + AT);
	NEED(n == (ssize_t)LEN);
	return 0;
}

static void each_call(void)
{
	struct actor *c;
	struct look l;
	char got[LEN];
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(calls); i++) {
		c = actor_new();
		PT_EQ(actor_do(c, act_write(m.f, 0, F_LEN, 'o')), (long)F_LEN);
		slow_hold(m.slow, true);
		pid = child_start(mover, &i);
		CU_ASSERT(slow_await(m.slow, 1));
		actor_send(c, act_truncate(m.f, 0));
		CU_ASSERT(look_until(m.fs, 1, 1, &l));
		PT_EQ(l.wait[0].holder, pid);
		CU_ASSERT(l.npin >= 1);
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		slow_hold(m.slow, false);
		slow_release(m.slow, 0);
		mover_done(pid);
		PT_EQ(actor_result(c, SOON_MS), 0);
		if (!calls[i].reads)
			CU_ASSERT(slow_written(m.slow, got, sizeof got) > 0 && mover_all(got, 4096, 'o'));
		actor_end(c);
	}
	mover_end(&m);
}

/* What a truncate frees while the kernel still writes to it is somebody else's when the bytes arrive. */
static bool survives(long truncated)
{
	struct actor *c;
	uint64_t len;
	bool intact;
	pid_t pid;

	slow_hold(m.slow, true);
	pid = child_start(mover, &(unsigned int){ 1 });
	CU_ASSERT(slow_await(m.slow, 1));
	c = stage_sender(act_truncate(m.f, 0));
	PT_EQ(actor_result(c, SOON_MS), truncated);
	len = victim_make(pt_path(m.fs, "victim"));
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	mover_done(pid);
	intact = victim_intact(pt_path(m.fs, "victim"), len);
	if (truncated != 0) {
		PT_EQ(stage_size(m.f), F_LEN);
		PT_EQ(actor_do(c, act_truncate(m.f, 0)), 0);
	}
	actor_end(c);
	return intact;
}

static void busy(void)
{
	if (!mover_begin(&m, "on_busy=ebusy"))
		return;
	CU_ASSERT(survives(-EBUSY));
	mover_end(&m);
}

static void deferred(void)
{
	if (!mover_begin(&m, "on_busy=defer"))
		return;
	CU_ASSERT(survives(0));
	CU_ASSERT(look_parked_until(m.fs, 0));
	mover_end(&m);
}

static void unsafe(void)
{
	if (!mover_begin(&m, "on_busy=unsafe"))
		return;
	CU_ASSERT(!survives(0));
	mover_end(&m);
}

/* ---- POSIX asynchronous I/O ---- */

static _Atomic int signalled;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	if (si->si_code == SI_ASYNCIO)
		atomic_fetch_add(&signalled, si->si_value.sival_int);
}

/* Until nobody waits for it any more, whoever that is told by: 0 or its error. */
static int end_of(const struct aiocb *cb)
{
	while (aio_error(cb) == EINPROGRESS) {
		if (aio_suspend(&cb, 1, NULL) != 0 && errno != EINTR)
			return -1;
	}
	return aio_error(cb);
}

/*
 * Two reads of the slow file, one of them told of by a signal, and a write. Then their results, and the same by
 * lio_listio() on a file of pinfs, whose requests get memory of their own.
 */
static int asynchronous(void *arg)
{
	char *p = mover_window(m.f, F_LEN);
	int fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC), in = open(m.g, O_RDWR | O_CLOEXEC);
	struct aiocb a = { .aio_fildes = fd, .aio_buf = p, .aio_nbytes = 4096 }, b = a, c = a, d = a, e = a;
	struct aiocb *list[] = { &d, NULL, &e };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	NEED(p != NULL && fd >= 0 && in >= 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	b.aio_buf = p + 8 * K;
	b.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
	b.aio_sigevent.sigev_signo = SIGUSR1;
	b.aio_sigevent.sigev_value.sival_int = 7;
	c.aio_buf = p + 16 * K;
	NEED(aio_read(&a) == 0 && aio_read(&b) == 0 && aio_write(&c) == 0);
	NEED(aio_error(&a) == EINPROGRESS && aio_error(&b) == EINPROGRESS);
	__atomic_store_n((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
	NEED(end_of(&a) == 0 && end_of(&b) == 0 && end_of(&c) == 0);
	NEED(aio_return(&a) == 4096 && aio_return(&b) == 4096 && aio_return(&c) == 4096);
	NEED(p[0] == SLOW_BYTE && p[8 * K + 4095] == SLOW_BYTE);
	while (atomic_load(&signalled) != 7)
		NEED(usleep(200) == 0 || errno == EINTR);
	d = (struct aiocb){ .aio_fildes = in, .aio_buf = p + 32 * K, .aio_nbytes = 6000, .aio_lio_opcode = LIO_READ };
	e = (struct aiocb){ .aio_fildes = in, .aio_buf = p, .aio_nbytes = 4096, .aio_offset = 40000,
			    .aio_lio_opcode = LIO_WRITE };
	p[32 * K + 6000] = 'x';
	NEED(lio_listio(LIO_WAIT, list, 3, NULL) == 0);
	NEED(aio_error(&d) == 0 && aio_return(&d) == 6000 && aio_return(&e) == 4096);
	NEED(mover_all(p + 32 * K, 6000, 'o') && p[32 * K + 6000] == 'x');
	/* Behind the end of the file. */
	NEED(ftruncate(in, 0) == 0 && munmap(p, F_LEN) == 0);
	p = mover_window(m.g, F_LEN);
	NEED(p != NULL);
	a.aio_buf = p;
	NEED(aio_read(&a) == 0 && end_of(&a) == EFAULT && aio_return(&a) == -1);
	return 0;
}

static void posix_aio(void)
{
	struct actor *c;
	char got[4096];
	uint32_t *begun;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	begun = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(begun != MAP_FAILED);
	slow_hold(m.slow, true);
	pid = child_start(asynchronous, begun);
	/* One descriptor's requests are made one after the other; the pages of all are held. */
	CU_ASSERT(slow_await(m.slow, 1));
	CU_ASSERT(mover_pins(&m, 3));
	PT_EQ(child_await(begun, 1), 0);
	for (unsigned int i = 0; i < 3; i++) {
		c = stage_sender(act_fallocate(m.f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * 8 * K, 4096));
		CU_ASSERT(look_until(m.fs, 1, 1, NULL));
		PT_SYS(kill(actor_pid(c), SIGUSR1));
		PT_EQ(actor_result(c, SOON_MS), -EINTR);
		actor_end(c);
	}
	c = actor_new();
	PT_EQ(actor_do(c, act_fallocate(m.f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096)), 0);
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	mover_done(pid);
	CU_ASSERT(slow_written(m.slow, got, sizeof got) == sizeof got && mover_all(got, sizeof got, 'o'));
	(void)munmap(begun, 4096);
	actor_end(c);
	mover_end(&m);
}

/* ---- pages that stay in the kernel ---- */

#define SEND_LEN ((size_t)1 << 20)

static int ends[2];		/* of a pipe, or of a connection: the child's, ours */

static int splicer(void *arg)
{
	char *p = mover_window(m.f, F_LEN);
	struct iovec v = { p + AT, 4096 };

	(void)arg;
	NEED(p != NULL);
	NEED(vmsplice(ends[0], &v, 1, SPLICE_F_GIFT) == 4096);
	NEED(write(ends[0], "x", 1) == 1);
	(void)close(ends[0]);
	NEED(munmap(p, F_LEN) == 0);
	for (;;)
		(void)pause();
}

/* Through another pipe, to which a copy goes first. */
static int passer(void *arg)
{
	char *p = mover_window(m.f, F_LEN), got[4096];
	struct iovec v = { p + AT, 4096 };
	int mine[2], other[2];

	(void)arg;
	NEED(p != NULL && pipe(mine) == 0 && pipe(other) == 0);
	NEED(vmsplice(mine[1], &v, 1, 0) == 4096);
	NEED(tee(mine[0], other[1], 4096, 0) == 4096);
	NEED(read(mine[0], got, 4096) == 4096 && mover_all(got, 4096, 'o'));
	NEED(splice(other[0], NULL, ends[0], NULL, 4096, 0) == 4096);
	NEED(write(ends[0], "x", 1) == 1);
	(void)close(ends[0]);
	for (;;)
		(void)pause();
}

/* Held as long as a byte of it is in the pipe. The reader sees the end as ever. */
static void in_pipe(int (*fn)(void *))
{
	struct actor *c;
	char got[8192];
	int fd[2];
	pid_t pid;

	PT_SYS_FATAL(pipe2(fd, O_CLOEXEC));
	ends[0] = fd[1];
	pid = child_start(fn, NULL);
	(void)close(fd[1]);
	CU_ASSERT(mover_pins(&m, 1));
	CU_ASSERT(mover_in_call(pid, SYS_pause));
	c = stage_sender(act_truncate(m.f, 0));
	CU_ASSERT(look_until(m.fs, 1, 1, NULL));
	PT_EQ(read(fd[0], got, 4095), 4095);
	PT_EQ(actor_result(c, 100), -EINPROGRESS);
	PT_EQ(read(fd[0], got + 4095, 2), 2);
	CU_ASSERT(mover_all(got, 4096, 'o') && got[4096] == 'x');
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(read(fd[0], got, sizeof got), 0);
	(void)close(fd[0]);
	pt_kill(pid);
	actor_end(c);
}

static void pipes(void)
{
	struct actor *c;

	if (!mover_begin(&m, NULL))
		return;
	in_pipe(splicer);
	c = actor_new();
	PT_EQ(actor_do(c, act_write(m.f, 0, F_LEN, 'o')), (long)F_LEN);
	actor_end(c);
	in_pipe(passer);
	mover_end(&m);
}

static int sender(void *arg)
{
	char *p = mover_window(m.f, SEND_LEN);
	struct iovec v[2] = { { p, 4096 }, { p + 4096, SEND_LEN - 4096 } };
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = 2 };

	NEED(p != NULL);
	if (arg != NULL)
		NEED(send(ends[0], p, SEND_LEN, MSG_ZEROCOPY) == (ssize_t)SEND_LEN);
	else
		NEED(sendmsg(ends[0], &msg, MSG_ZEROCOPY) == (ssize_t)SEND_LEN);
	(void)close(ends[0]);
	for (;;)
		(void)pause();
}

/* Two ends of a TCP connection; the first has room for all, the second takes little before it reads. False: not
 * here. */
static bool connection(int fd[2])
{
	const int one = 1, bytes = 8 << 20;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), few = 65536;
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

static void zerocopy(void)
{
	static char got[65536];
	struct actor *c;
	uint64_t total;
	int fd[2];
	ssize_t n;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	for (int way = 0; way < 2; way++) {
		c = actor_new();
		for (uint64_t at = 0; at < SEND_LEN; at += F_LEN)
			PT_EQ(actor_do(c, act_write(m.f, at, F_LEN, 'o')), (long)F_LEN);
		if (!connection(fd)) {
			actor_end(c);
			break;
		}
		ends[0] = fd[0];
		pid = child_start(sender, way ? &way : NULL);
		(void)close(fd[0]);
		CU_ASSERT(mover_in_call(pid, SYS_pause));
		actor_send(c, act_truncate(m.f, 0));
		CU_ASSERT(look_until(m.fs, 1, 1, NULL));
		PT_EQ(actor_result(c, 100), -EINPROGRESS);
		for (total = 0; (n = read(fd[1], got, sizeof got)) > 0; total += (uint64_t)n)
			CU_ASSERT(mover_all(got, (size_t)n, 'o'));
		PT_EQ(total, SEND_LEN);		/* and the connection has ended */
		PT_EQ(actor_result(c, SOON_MS), 0);
		(void)close(fd[1]);
		pt_kill(pid);
		actor_end(c);
	}
	mover_end(&m);
}

/* ---- process_vm_writev ---- */

/* To our own memory, from a page that comes late. */
static int far_writer(void *arg)
{
	int fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	char *p = mover_window(m.f, F_LEN), *late = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	struct iovec near = { late, 4096 }, far = { p + AT, 4096 };

	(void)arg;
	NEED(p != NULL && late != MAP_FAILED);
	NEED(process_vm_writev(getpid(), &near, 1, &far, 1, 0) == 4096);
	return 0;
}

static void far_memory(void)
{
	struct actor *c;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	pid = child_start(far_writer, NULL);
	CU_ASSERT(slow_await(m.slow, 1));
	c = stage_sender(act_fallocate(m.f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, AT));
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_send(c, act_fallocate(m.f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, AT, 4096));
	CU_ASSERT(look_until(m.fs, 1, 1, NULL));
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	mover_done(pid);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(c);
	mover_end(&m);
}

/* ---- a transfer in two pieces ---- */

#define LONG_LEN (2 * (size_t)SLOW_MAX)

/* A process of its own from the first instruction on, with its own environment: `--read window source`. */
static int reader(const char *path, const char *source)
{
	char *p = mover_window(path, LONG_LEN);
	int fd = open(source, O_RDWR | O_CLOEXEC);

	NEED(p != NULL && fd >= 0);
	NEED(pread(fd, p, LONG_LEN, 0) == (ssize_t)LONG_LEN);
	return 0;
}

static int start_reader(void *env)
{
	if (env != NULL)
		NEED(setenv(env, "1", 1) == 0);
	(void)execl("/proc/self/exe", "test_transient", "--read", m.f, slow_path(m.slow), (char *)NULL);
	return child_failed(__FILE__, __LINE__, "execl");
}

/*
 * The kernel takes half of the buffer first. While that is under way the file is cut and grows again, so the other
 * half has new blocks when the kernel looks; and those are cut as well.
 */
static bool second_half_survives(char *env)
{
	struct actor *c = actor_new();
	bool intact;
	uint64_t len;
	pid_t pid;

	PT_EQ(actor_do(c, act_truncate(m.f, LONG_LEN)), 0);
	slow_hold(m.slow, true);
	pid = child_start(start_reader, env);
	CU_ASSERT(slow_await(m.slow, 1));
	PT_EQ(actor_do(c, act_truncate(m.f, 0)), 0);
	PT_EQ(actor_do(c, act_truncate(m.f, LONG_LEN)), 0);
	slow_release(m.slow, 0);
	CU_ASSERT(slow_await(m.slow, 1));
	PT_EQ(actor_do(c, act_truncate(m.f, 0)), 0);
	len = victim_make(pt_path(m.fs, "victim"));
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	mover_done(pid);
	intact = victim_intact(pt_path(m.fs, "victim"), len);
	CU_ASSERT(look_parked_until(m.fs, 0));
	actor_end(c);
	return intact;
}

static void followed(void)
{
	if (!mover_begin(&m, "on_busy=defer"))
		return;
	CU_ASSERT(second_half_survives(NULL));
	mover_end(&m);
}

static void not_followed(void)
{
	static char env[] = "PINFS_TEST_NO_FOLLOW";

	if (!mover_begin(&m, "on_busy=defer"))
		return;
	CU_ASSERT(!second_half_survives(env));
	mover_end(&m);
}

/* ---- the end of a process ---- */

static void killed(void)
{
	struct actor *c;
	uint64_t len;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	pid = child_start(mover, &(unsigned int){ 1 });
	CU_ASSERT(slow_await(m.slow, 1));
	PT_SYS(kill(pid, SIGKILL));
	CU_ASSERT(look_session_until(m.fs, pid, "cut off"));
	/* Nobody waits for the dead; but the blocks stay out of use until the kernel is done with them. */
	c = stage_sender(act_truncate(m.f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(look_status(m.fs, "space.parked") >= (int64_t)(LEN / 4096));
	PT_EQ(pt_wait(pid, 0), -1);
	len = victim_make(pt_path(m.fs, "victim"));
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	PT_EQ(pt_wait(pid, SOON_MS), 128 + SIGKILL);
	CU_ASSERT(victim_intact(pt_path(m.fs, "victim"), len));
	CU_ASSERT(look_parked_until(m.fs, 0));
	actor_end(c);
	mover_end(&m);
}

/* ---- files of pinfs ---- */

/* `--write window file`: the kernel makes it wait behind a truncate of the file. */
static int writer(const char *path, const char *file, int flags)
{
	char *p = mover_window(path, F_LEN);
	int fd = open(file, O_RDWR | O_CLOEXEC | flags);

	NEED(p != NULL && fd >= 0);
	NEED(pwrite(fd, p + AT, LEN, 0) == (ssize_t)LEN);
	return 0;
}

static int start_writer(void *arg)
{
	const char *how = arg;

	if (*how == 'h')
		NEED(setenv("PINFS_TEST_HOLD_OURS", "1", 1) == 0);
	(void)execl("/proc/self/exe", "test_transient", *how != 'h' ? how : "--write", m.f, m.g, (char *)NULL);
	return child_failed(__FILE__, __LINE__, "execl");
}

/*
 * g is pinned, a truncate of g waits, a write to g from a window of f waits behind it in the kernel. Does a
 * truncate of f wait for the write?
 */
static bool circle(const char *how)
{
	struct actor *h = actor_new(), *t1, *t2 = actor_new();
	char got[LEN];
	bool waits;
	pid_t pid;
	int fd;

	PT_EQ(actor_do(h, act_write(m.f, 0, F_LEN, 'f')), (long)F_LEN);
	PT_EQ(actor_do(h, act_write(m.g, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_map_file(h, 0, m.g, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	t1 = stage_sender(act_truncate(m.g, 0));
	CU_ASSERT(look_until(m.fs, 1, 1, NULL));
	pid = child_start(start_writer, (void *)(uintptr_t)how);
	CU_ASSERT(mover_in_call(pid, *how == 'h' ? SYS_pwritev : SYS_pwrite64));
	actor_send(t2, act_truncate(m.f, 4096));
	waits = *how == 'h' ? look_until(m.fs, 2, 2, NULL) : actor_result(t2, SOON_MS) != 0;
	PT_EQ(actor_result(t1, 0), -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(t1, SOON_MS), 0);
	mover_done(pid);
	if (*how == 'h')
		PT_EQ(actor_result(t2, SOON_MS), 0);
	fd = open(m.g, O_RDONLY | O_CLOEXEC);
	PT_EQ(pread(fd, got, LEN, 0), LEN);
	CU_ASSERT(mover_all(got, LEN, 'f'));
	(void)close(fd);
	actor_end(h);
	actor_end(t1);
	actor_end(t2);
	return waits;
}

/* What waits for an inode's lock holds nothing. */
static void no_circle(void)
{
	if (!mover_begin(&m, NULL))
		return;
	CU_ASSERT(!circle("--write"));
	CU_ASSERT(!circle("--write-direct"));
	mover_end(&m);
}

/* Three quarters of it: the second truncate waits for a write, which waits for the first. */
static void a_circle(void)
{
	if (!mover_begin(&m, NULL))
		return;
	CU_ASSERT(circle("held"));
	mover_end(&m);
}

static const struct pt_case cases[] = {
	{ "each call is waited for", each_call, 0 },
	{ "ebusy: a truncate meets a read", busy, 0 },
	{ "defer: blocks are kept until the read has ended", deferred, 0 },
	{ "twin: unsafe, and the bytes land in another file", unsafe, 0 },
	{ "defer: what is held follows the address", followed, 0 },
	{ "twin: it does not, and the second half lands in another file", not_followed, 0 },
	{ "POSIX asynchronous I/O", posix_aio, 0 },
	{ "vmsplice: until the pipe is read", pipes, 0 },
	{ "MSG_ZEROCOPY: until the peer has it", zerocopy, 0 },
	{ "process_vm_writev to our own window", far_memory, 0 },
	{ "a process that is killed with a read under way", killed, 0 },
	{ "nothing is held behind an inode's lock", no_circle, 0 },
	{ "twin: something is", a_circle, 0 },
};

int main(int argc, char **argv)
{
	const struct pt_suite suites[] = { { "transient", cases, PF_ARRAY_LEN(cases) } };

	if (argc == 4 && strcmp(argv[1], "--read") == 0)
		return reader(argv[2], argv[3]);
	if (argc == 4 && strncmp(argv[1], "--write", 7) == 0)
		return writer(argv[2], argv[3], argv[1][7] != '\0' ? O_DIRECT : 0);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
