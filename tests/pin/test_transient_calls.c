/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_transient_calls.c - what a read or write with its buffer in a window answers, and how it can end early: buffers
 * that no transfer can have, holes, private windows, signals, threads that are cancelled or jump away, a fork, and no
 * privilege for the faults of the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
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

#define K UINT64_C(1024)
#define PAGE ((size_t)4096)

static struct mover m;

/* ---- buffers that cannot be had ---- */

struct answer {
	ssize_t n;
	int err;
};

static struct answer answer(ssize_t n)
{
	return (struct answer){ n, n < 0 ? errno : 0 };
}

#define BAD_CALLS 15

/* All on a file of 4 pages that is mapped as 8. */
static int bad_calls(const char *path, const char *source, struct answer *out)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), slow = open(source, O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *ro = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	struct iovec v[] = { { p, PAGE }, { p + 3 * PAGE, 2 * PAGE }, { p + PAGE, PAGE } };
	struct iovec w[] = { { p + 6 * PAGE, 16 }, { p, PAGE } };
	const struct iovec *volatile nowhere = (const struct iovec *)8;
	unsigned int i = 0;
	int ends[2];

	NEED(fd >= 0 && slow >= 0 && p != MAP_FAILED && ro != MAP_FAILED && pipe(ends) == 0);
	out[i++] = answer(pread(slow, p, 4 * PAGE, 0));
	out[i++] = answer(pread(slow, p + 3 * PAGE, 2 * PAGE, 0));
	out[i++] = answer(pread(slow, p + 4 * PAGE, PAGE, 0));
	out[i++] = answer(pread(slow, p + 4 * PAGE, PAGE, (off_t)SLOW_BYTES));
	out[i++] = answer(pread(slow, ro, PAGE, 0));
	out[i++] = answer(pwrite(slow, ro, PAGE, 0));
	out[i++] = answer(pwrite(slow, p + 3 * PAGE, 3 * PAGE, 0));
	out[i++] = answer(pwrite(slow, p + 5 * PAGE, PAGE, 0));
	out[i++] = answer(preadv(slow, v, 3, 0));
	out[i++] = answer(pwritev(slow, w, 2, 0));
	out[i++] = answer(preadv2(slow, w + 1, 1, -1, 0));
	out[i++] = answer(preadv(slow, nowhere, 2, 0));
	out[i++] = answer(vmsplice(ends[1], v + 1, 1, 0));
	out[i++] = answer(vmsplice(ends[1], v, 3, 0));
	out[i++] = answer(vmsplice(ends[1], w, 2, 0));
	NEED(i == BAD_CALLS);
	NEED(munmap(p, 8 * PAGE) == 0 && munmap(ro, 4 * PAGE) == 0 && close(fd) == 0 && close(slow) == 0);
	NEED(close(ends[0]) == 0 && close(ends[1]) == 0);
	return 0;
}

/* The same of the kernel's own mapping of a file elsewhere. */
static int as_the_kernel(void *arg)
{
	struct answer here[BAD_CALLS] = { { 0 } }, there[BAD_CALLS] = { { 0 } };
	static char page[PAGE];
	char plain[PATH_MAX + 16];
	int fd, bad = 0;

	(void)arg;
	(void)snprintf(plain, sizeof plain, "%s/plain", m.fs->dir);
	fd = open(plain, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	NEED(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0 && truncate(m.f, 4 * PAGE) == 0);
	NEED(bad_calls(plain, slow_path(m.slow), there) == 0);
	NEED(bad_calls(m.f, slow_path(m.slow), here) == 0);
	for (unsigned int i = 0; i < BAD_CALLS; i++) {
		if (here[i].n == there[i].n && here[i].err == there[i].err)
			continue;
		(void)fprintf(stderr, "call %u: %zd, error %d; the kernel: %zd, error %d\n", i, here[i].n, here[i].err,
			      there[i].n, there[i].err);
		bad++;
	}
	NEED(bad == 0 && here[2].err == EFAULT && here[4].err == EFAULT);
	/* What could not be had is as it was. */
	fd = open(m.f, O_RDONLY | O_CLOEXEC);
	NEED(pread(fd, page, PAGE, 2 * PAGE) == (ssize_t)PAGE && mover_all(page, PAGE, SLOW_BYTE));
	NEED(unlink(plain) == 0);
	return 0;
}

static void errors(void)
{
	if (!mover_begin(&m, NULL))
		return;
	mover_done(child_start(as_the_kernel, NULL));
	mover_end(&m);
}

/* ---- holes ---- */

static int64_t blocks_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_blocks : -1;
}

static int over_holes(void *arg)
{
	char *p, got[2 * PAGE];
	int fd;

	(void)arg;
	NEED(truncate(m.f, 0) == 0 && truncate(m.f, (off_t)F_LEN) == 0);
	p = mover_window(m.f, F_LEN);
	fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	NEED(p != NULL && fd >= 0);
	NEED(write(fd, p, 2 * PAGE) == (ssize_t)(2 * PAGE));
	NEED(slow_written(m.slow, got, sizeof got) == sizeof got && mover_all(got, sizeof got, 0));
	NEED(blocks_of(m.f) == 0);
	NEED(pread(fd, p + 4 * PAGE, 2 * PAGE, 0) == (ssize_t)(2 * PAGE));
	NEED(mover_all(p + 4 * PAGE, 2 * PAGE, SLOW_BYTE) && mover_all(p, 4 * PAGE, 0));
	NEED(blocks_of(m.f) == (int64_t)(2 * PAGE / 512));
	return 0;
}

/* A long hole, and little to read into it: the rest of it stays one. A chunk at most is filled, as by a fault. */
static int over_long_hole(void *arg)
{
	const size_t len = 8 << 20;
	struct iovec v[2];
	char *p;
	int fd;

	(void)arg;
	NEED(truncate(m.f, 0) == 0 && truncate(m.f, (off_t)len) == 0);
	p = mover_window(m.f, len);
	fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	NEED(p != NULL && fd >= 0);
	NEED(pread(fd, p, len, (off_t)(SLOW_BYTES - 2 * PAGE)) == (ssize_t)(2 * PAGE));
	NEED(mover_all(p, 2 * PAGE, SLOW_BYTE) && mover_all(p + 2 * PAGE, 2 * PAGE, 0));
	NEED(blocks_of(m.f) >= 2 * (int64_t)PAGE / 512 && blocks_of(m.f) <= (2 << 20) / 512);
	v[0] = (struct iovec){ p, PAGE };
	v[1] = (struct iovec){ p + PAGE, len - PAGE };
	NEED(lseek(fd, (off_t)SLOW_BYTES - 1, SEEK_SET) >= 0 && readv(fd, v, 2) == 1 && readv(fd, v, 2) == 0);
	NEED(blocks_of(m.f) <= (2 << 20) / 512);
	/* The twin: with as much to read as there is room for, it is filled. */
	NEED(pread(fd, p, len, 0) > 0 && blocks_of(m.f) >= (int64_t)len / 512);
	return 0;
}

static void holes(void)
{
	if (!mover_begin(&m, NULL))
		return;
	mover_done(child_start(over_holes, NULL));
	mover_done(child_start(over_long_hole, NULL));
	mover_end(&m);
}

/* ---- private windows ---- */

struct private_play {
	bool store_first, read;
};

static int private_mover(void *arg)
{
	const struct private_play *how = arg;
	int fd = open(m.f, O_RDWR | O_CLOEXEC), slow = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	volatile char *v = p;

	NEED(fd >= 0 && slow >= 0 && p != MAP_FAILED);
	if (how->store_first)
		v[0] = 'c';
	if (how->read)
		NEED(pread(slow, p, PAGE, 0) == (ssize_t)PAGE && p[PAGE - 1] == SLOW_BYTE);
	else
		NEED(pwrite(slow, p, PAGE, 0) == (ssize_t)PAGE);
	return 0;
}

static void private_windows(void)
{
	static const struct { struct private_play how; size_t pins; } plays[] = {
		{ { .read = true }, 0 },
		{ { .read = false }, 1 },
		{ { .read = false, .store_first = true }, 0 },
	};
	char got[PAGE];
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(plays); i++) {
		slow_hold(m.slow, true);
		pid = child_start(private_mover, (void *)(uintptr_t)&plays[i].how);
		CU_ASSERT(slow_await(m.slow, 1));
		CU_ASSERT(mover_pins(&m, plays[i].pins));
		slow_hold(m.slow, false);
		slow_release(m.slow, 0);
		mover_done(pid);
		if (!plays[i].how.read)
			CU_ASSERT(slow_written(m.slow, got, PAGE) == PAGE &&
				  got[0] == (plays[i].how.store_first ? 'c' : 'o') && got[PAGE - 1] == 'o');
	}
	CU_ASSERT(stage_untouched(m.f));
	mover_end(&m);
}

/* ---- a truncate that was first, and signals ---- */

static void on_usr1(int sig)
{
	(void)sig;
}

struct waiting_play {
	int sa_flags;
	int rwf;
};

static uint32_t *begun;		/* shared with the child */

static int late_reader(void *arg)
{
	const struct waiting_play *how = arg;
	int fd = open(slow_path(m.slow), O_RDWR | O_CLOEXEC);
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = how->sa_flags };
	char *p = mover_window(m.f, F_LEN);
	struct iovec v = { p, PAGE };

	NEED(p != NULL && fd >= 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	__atomic_store_n(begun, 1, __ATOMIC_SEQ_CST);
	NEED(preadv2(fd, &v, 1, 0, how->rwf) == -1);
	return errno == EINTR ? 50 : errno == EAGAIN ? 51 : errno == EFAULT ? 52 : 53;
}

/* It waits behind the truncate, holding nothing; then finds that the page has gone. */
static void behind_a_truncate(void)
{
	static const struct { struct waiting_play how; int end; } plays[] = {
		{ { 0, 0 }, 50 }, { { SA_RESTART, 0 }, 52 }, { { 0, RWF_NOWAIT }, 51 },
	};
	struct actor *h, *t;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	begun = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(begun != MAP_FAILED);
	h = stage_holder(m.f, 0, 2 * PAGE);
	t = stage_sender(act_truncate(m.f, 0));
	CU_ASSERT(look_until(m.fs, 1, 1, NULL));
	for (unsigned int i = 0; i < PF_ARRAY_LEN(plays); i++) {
		int rc = -1;

		*begun = 0;
		pid = child_start(late_reader, (void *)(uintptr_t)&plays[i].how);
		PT_EQ(child_await(begun, 1), 0);
		/* A signal that comes before it waits is in vain: more than one. */
		for (unsigned int k = 0; plays[i].end == 50 && k < SOON_MS / 10 && rc < 0; k++) {
			PT_SYS(kill(pid, SIGUSR1));
			rc = pt_wait(pid, 10);
		}
		if (plays[i].end == 52) {
			CU_ASSERT(mover_in_call(pid, SYS_futex));
			for (unsigned int k = 0; k < 5; k++) {
				PT_SYS(kill(pid, SIGUSR1));
				PT_EQ(pt_wait(pid, 5), -1);
			}
			PT_EQ(actor_result(t, 0), -EINPROGRESS);
			PT_EQ(actor_do(h, act_unpin(0)), 0);
			PT_EQ(actor_result(t, SOON_MS), 0);
			PT_EQ(child_end(pid), 52);
			/* For the next one. */
			PT_EQ(actor_do(t, act_write(m.f, 0, F_LEN, 'o')), (long)F_LEN);
			PT_EQ(actor_do(h, act_pin(0, 0, 0, 2 * PAGE, PINFS_PIN_WRITE)), 0);
			actor_send(t, act_truncate(m.f, 0));
			CU_ASSERT(look_until(m.fs, 1, 1, NULL));
		} else {
			PT_EQ(rc < 0 ? child_end(pid) : rc, plays[i].end);
		}
	}
	(void)munmap(begun, PAGE);
	PT_EQ(slow_waiting(m.slow), 0);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	actor_end(h);
	actor_end(t);
	mover_end(&m);
}

/* ---- threads that do not return ---- */

static uint64_t pinned(const char *p)
{
	struct pinfs_range_info ri;

	return pinfs_range_query(p, F_LEN, &ri) == 0 ? ri.ri_pinned : UINT64_MAX;
}

struct leaver {
	char *p;
	int fd;
};

static void *leave(void *arg)
{
	const struct leaver *l = arg;

	(void)!pread(l->fd, l->p, 2 * PAGE, 0);
	return NULL;
}

static int cancelled_reader(void *arg)
{
	struct leaver l = { mover_window(m.f, F_LEN), open(slow_path(m.slow), O_RDWR | O_CLOEXEC) };
	pthread_t t;
	void *r;

	(void)arg;
	NEED(l.p != NULL && l.fd >= 0 && pthread_create(&t, NULL, leave, &l) == 0);
	NEED(slow_await(m.slow, 1) && pinned(l.p) == 2);
	NEED(pthread_cancel(t) == 0);
	slow_release(m.slow, 0);
	NEED(pthread_join(t, &r) == 0 && r == PTHREAD_CANCELED);
	NEED(pinned(l.p) == 0);
	return 0;
}

static void cancelled(void)
{
	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	mover_done(child_start(cancelled_reader, NULL));
	slow_hold(m.slow, false);
	mover_end(&m);
}

static sigjmp_buf away;

static void on_jump(int sig)
{
	(void)sig;
	siglongjmp(away, 1);
}

static void *releaser(void *arg)
{
	const pid_t *pid = arg;

	if (!slow_await(m.slow, 1) || kill(*pid, SIGUSR2) != 0)
		return NULL;
	slow_release(m.slow, 0);
	return arg;
}

/* The handler runs when the transfer has ended, and the call does not return: the next one finds what it has left. */
static int jumper(void *arg)
{
	static char room[65536];
	stack_t own = { .ss_sp = room, .ss_size = sizeof room };
	struct leaver l = { mover_window(m.f, F_LEN), open(slow_path(m.slow), O_RDWR | O_CLOEXEC) };
	struct sigaction sa = { .sa_handler = on_jump, .sa_flags = arg != NULL ? SA_ONSTACK : 0 };
	pid_t me = getpid();
	sigset_t one;
	pthread_t t;
	char c;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	void *r;

	NEED(l.p != NULL && l.fd >= 0 && zero >= 0 && sigaction(SIGUSR2, &sa, NULL) == 0);
	NEED(arg == NULL || sigaltstack(&own, NULL) == 0);
	(void)sigemptyset(&one);
	(void)sigaddset(&one, SIGUSR2);
	NEED(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0);
	NEED(pthread_create(&t, NULL, releaser, &me) == 0);
	NEED(pthread_sigmask(SIG_UNBLOCK, &one, NULL) == 0);
	if (sigsetjmp(away, 1) == 0) {
		(void)leave(&l);
		return child_failed(__FILE__, __LINE__, "the handler jumps");
	}
	NEED(pthread_join(t, &r) == 0 && r != NULL);
	NEED(pinned(l.p) == 2);
	NEED(read(zero, &c, 1) == 1);
	NEED(pinned(l.p) == 0);
	return 0;
}

static void jumps(void)
{
	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	mover_done(child_start(jumper, NULL));
	mover_done(child_start(jumper, &m));
	slow_hold(m.slow, false);
	mover_end(&m);
}

/* ---- fork ---- */

static int nobody(void *arg)
{
	const struct leaver *l = arg;

	return pinned(l->p) == 0 ? 0 : 1;
}

static int forker(void *arg)
{
	struct leaver l = { mover_window(m.f, F_LEN), open(slow_path(m.slow), O_RDWR | O_CLOEXEC) };
	pthread_t t;

	(void)arg;
	NEED(l.p != NULL && l.fd >= 0 && pthread_create(&t, NULL, leave, &l) == 0);
	NEED(slow_await(m.slow, 1));
	NEED(child_sub(nobody, &l) == 0);
	NEED(pinned(l.p) == 2);
	slow_release(m.slow, 0);
	NEED(pthread_join(t, NULL) == 0 && pinned(l.p) == 0);
	return 0;
}

static void forks(void)
{
	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	mover_done(child_start(forker, NULL));
	slow_hold(m.slow, false);
	mover_end(&m);
}

/* ---- without the privilege ---- */

/* `--move window slow`: a process whose kernel accesses are not served. */
static int unprivileged_mover(const char *path, const char *source)
{
	char *p = mover_window(path, F_LEN);
	int fd = open(source, O_RDWR | O_CLOEXEC);
	struct iovec v[] = { { p + 8 * PAGE, PAGE }, { p + 10 * PAGE, PAGE } };

	NEED(p != NULL && fd >= 0);
	NEED(syscall(SYS_pread64, fd, p + 15 * PAGE, PAGE, 0) == -1 && errno == EFAULT);
	NEED(pread(fd, p, 4 * PAGE, 0) == (ssize_t)(4 * PAGE));
	NEED(preadv(fd, v, 2, 0) == (ssize_t)(2 * PAGE));
	NEED(mover_all(p, 4 * PAGE, SLOW_BYTE) && mover_all(p + 10 * PAGE, PAGE, SLOW_BYTE) && p[9 * PAGE] == 'o');
	NEED(pwrite(fd, p + 9 * PAGE, PAGE, 0) == (ssize_t)PAGE);
	return 0;
}

static int start_unprivileged(void *arg)
{
	(void)arg;
	NEED(setenv("PINFS_TEST_USER_MODE", "1", 1) == 0);
	(void)execl("/proc/self/exe", "test_transient_calls", "--move", m.f, slow_path(m.slow), (char *)NULL);
	return child_failed(__FILE__, __LINE__, "execl");
}

/* The bytes arrive in the file's own pages, and a truncate waits for them. */
static void user_mode(void)
{
	char got[PAGE];
	struct actor *c;
	pid_t pid;

	if (!mover_begin(&m, NULL))
		return;
	slow_hold(m.slow, true);
	pid = child_start(start_unprivileged, NULL);
	CU_ASSERT(slow_await(m.slow, 1));
	c = stage_sender(act_fallocate(m.f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	CU_ASSERT(look_until(m.fs, 1, 1, NULL));
	PT_SYS(kill(actor_pid(c), SIGUSR1));
	PT_EQ(actor_result(c, SOON_MS), -EINTR);
	slow_hold(m.slow, false);
	slow_release(m.slow, 0);
	mover_done(pid);
	CU_ASSERT(slow_written(m.slow, got, sizeof got) == PAGE && mover_all(got, PAGE, 'o'));
	actor_end(c);
	mover_end(&m);
}

/* `--copy window`: a read that brings something for a page which has left the file when it comes. */
static int copier(const char *path)
{
	char *p = mover_window(path, F_LEN);
	int ends[2];

	NEED(p != NULL && pipe(ends) == 0 && write(ends[1], "late", 4) == 4);
	NEED(read(ends[0], p, 4) == -1 && errno == EFAULT);
	return 0;
}

static int start_copier(void *arg)
{
	NEED(setenv("PINFS_TEST_USER_MODE", "1", 1) == 0 && setenv("PINFS_TEST_COPY_LATE", "1", 1) == 0);
	NEED(arg == NULL || setenv("PINFS_TEST_BY_HAND", "1", 1) == 0);
	(void)execl("/proc/self/exe", "test_transient_calls", "--copy", m.f, (char *)NULL);
	return child_failed(__FILE__, __LINE__, "execl");
}

static int copy_late(void *by_hand)
{
	struct actor *c;
	pid_t pid;
	int r;

	if (!mover_begin(&m, "on_busy=defer"))
		return -1;
	pid = child_start(start_copier, by_hand);
	CU_ASSERT(mover_pins(&m, 1));
	c = actor_new();
	PT_EQ(actor_do(c, act_truncate(m.f, 0)), 0);
	r = pt_wait(pid, SOON_MS);
	actor_end(c);
	mover_end(&m);
	return r;
}

/* EFAULT, as from a kernel that copies. */
static void copied_late(void)
{
	int r = copy_late(NULL);

	if (r != -1)
		PT_EQ(r, 0);
}

static void copied_by_hand(void)
{
	int r = copy_late(&m);

	if (r != -1)
		PT_EQ(r, 128 + SIGBUS);
}

static const struct pt_case cases[] = {
	{ "buffers that cannot be had", errors, 0 },
	{ "holes", holes, 0 },
	{ "private windows", private_windows, 0 },
	{ "behind a truncate, and signals", behind_a_truncate, 0 },
	{ "a thread that is cancelled", cancelled, 0 },
	{ "a handler that jumps away", jumps, 0 },
	{ "fork", forks, 0 },
	{ "without the privilege for faults of the kernel", user_mode, 0 },
	{ "... a page that leaves the file before its bytes come", copied_late, 0 },
	{ "twin: by instructions, and the process dies", copied_by_hand, 0 },
};

int main(int argc, char **argv)
{
	const struct pt_suite suites[] = { { "transient calls", cases, PF_ARRAY_LEN(cases) } };

	if (argc == 4 && strcmp(argv[1], "--move") == 0)
		return unprivileged_mover(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "--copy") == 0)
		return copier(argv[2]);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
