/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_uring.c - io_uring with buffers in windows, through liburing, whose system calls are instructions of its own,
 * and with a bare ring (syscall(2)). The plays that libaio has as well are flight.c's; here is what only rings have.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/flight.h"
#include "pin/look.h"

#define PAGE 4096U

static struct io_uring ring;
static unsigned int setup_flags;

static bool can(int r)
{
	if (r == -ENOSYS || r == -EPERM)
		pt_skip("no io_uring here: %s", strerror(-r));
	else
		PT_EQ(r < 0 ? r : 0, 0);
	return r >= 0;
}

static void prep(struct io_uring_sqe *s, const struct flight *f)
{
	if (f->vector)
		(f->write ? io_uring_prep_writev : io_uring_prep_readv)(s, f->fd, f->buf, (unsigned int)f->len,
									(uint64_t)f->off);
	else if (f->write)
		io_uring_prep_write(s, f->fd, f->buf, (unsigned int)f->len, (uint64_t)f->off);
	else
		io_uring_prep_read(s, f->fd, f->buf, (unsigned int)f->len, (uint64_t)f->off);
	io_uring_sqe_set_data64(s, f->key);
}

/* ---- liburing ---- */

static bool lib_open(unsigned int room)
{
	return can(io_uring_queue_init(room, &ring, setup_flags));
}

static long lib_begin(const struct flight *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct io_uring_sqe *s = io_uring_get_sqe(&ring);

		CU_ASSERT_FATAL(s != NULL);
		prep(s, &f[i]);
	}
	return io_uring_submit(&ring);
}

static long lib_end(uint64_t *key)
{
	struct io_uring_cqe *c;
	long r;

	do
		r = io_uring_wait_cqe(&ring, &c);
	while (r == -EINTR);		/* it was stopped meanwhile */
	if (r < 0)
		return r;
	*key = c->user_data;
	r = c->res;
	io_uring_cqe_seen(&ring, c);
	return r;
}

static void lib_close(void)
{
	io_uring_queue_exit(&ring);
}

static const struct engine lib = { "liburing", lib_open, lib_begin, lib_end, lib_close };

/* ---- a bare ring ---- */

static struct {
	int fd;
	struct io_uring_params par;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
	size_t sq_len, cq_len;
} bare;

static _Atomic uint32_t *word(char *base, uint32_t off)
{
	return (_Atomic uint32_t *)(void *)(base + off);
}

static bool bare_setup(unsigned int room, struct io_uring_params *p)
{
	bare.fd = (int)syscall(SYS_io_uring_setup, room, p);
	if (!can(bare.fd < 0 ? -errno : 0))
		return false;
	bare.par = *p;
	bare.sq_len = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	bare.cq_len = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	bare.sq = mmap(NULL, bare.sq_len, PROT_READ | PROT_WRITE, MAP_SHARED, bare.fd, IORING_OFF_SQ_RING);
	bare.cq = mmap(NULL, bare.cq_len, PROT_READ | PROT_WRITE, MAP_SHARED, bare.fd, IORING_OFF_CQ_RING);
	bare.sqe = mmap(NULL, p->sq_entries * sizeof *bare.sqe, PROT_READ | PROT_WRITE, MAP_SHARED, bare.fd,
			IORING_OFF_SQES);
	CU_ASSERT_FATAL(bare.sq != MAP_FAILED && bare.cq != MAP_FAILED && (void *)bare.sqe != MAP_FAILED);
	return true;
}

static bool bare_open(unsigned int room)
{
	struct io_uring_params p = { .flags = setup_flags };

	return bare_setup(room, &p);
}

/* The requests are in the queue; the kernel is not told. */
static void bare_put(const struct flight *f, unsigned int n, unsigned int sqe_flags)
{
	uint32_t tail = atomic_load(word(bare.sq, bare.par.sq_off.tail)), mask = bare.par.sq_entries - 1;

	for (unsigned int i = 0; i < n; i++, tail++) {
		uint32_t k = tail & mask;

		memset(&bare.sqe[k], 0, sizeof bare.sqe[k]);
		prep(&bare.sqe[k], &f[i]);
		bare.sqe[k].flags = (uint8_t)sqe_flags;
		atomic_store(word(bare.sq, bare.par.sq_off.array) + k, k);
	}
	atomic_store(word(bare.sq, bare.par.sq_off.tail), tail);
}

static long bare_enter(unsigned int n, unsigned int min, unsigned int flags)
{
	long r;

	do
		r = syscall(SYS_io_uring_enter, bare.fd, n, min, flags, NULL, 0);
	while (r < 0 && errno == EINTR);

	return r < 0 ? -errno : r;
}

static long bare_begin(const struct flight *f, unsigned int n)
{
	bare_put(f, n, 0);
	return bare_enter(n, 0, 0);
}

static bool bare_take(struct io_uring_cqe *c)
{
	uint32_t head = atomic_load(word(bare.cq, bare.par.cq_off.head));

	if (head == atomic_load(word(bare.cq, bare.par.cq_off.tail)))
		return false;
	*c = ((struct io_uring_cqe *)(void *)(bare.cq + bare.par.cq_off.cqes))[head & (bare.par.cq_entries - 1)];
	atomic_store(word(bare.cq, bare.par.cq_off.head), head + 1);
	return true;
}

static long bare_end(uint64_t *key)
{
	struct io_uring_cqe c;

	while (!bare_take(&c)) {
		long r = bare_enter(0, 1, IORING_ENTER_GETEVENTS);

		if (r < 0)
			return r;
	}
	*key = c.user_data;
	return c.res;
}

static void bare_close(void)
{
	PT_SYS(munmap(bare.sq, bare.sq_len));
	PT_SYS(munmap(bare.cq, bare.cq_len));
	PT_SYS(munmap(bare.sqe, bare.par.sq_entries * sizeof *bare.sqe));
	PT_SYS(close(bare.fd));
}

static const struct engine raw = { "ring", bare_open, bare_begin, bare_end, bare_close };

static void lib_reads(void) { play_waits(&lib, false); }
static void lib_writes(void) { play_waits(&lib, true); }
static void raw_reads(void) { play_waits(&raw, false); }
static void raw_writes(void) { play_waits(&raw, true); }
static void lib_policies(void) { play_policies(&lib); }
static void raw_policies(void) { play_policies(&raw); }
static void lib_refused(void) { play_refused(&lib); }
static void raw_refused(void) { play_refused(&raw); }
static void lib_many(void) { play_many(&lib); }
static void raw_many(void) { play_many(&raw); }
static void forked(void) { play_fork(&lib); }
static void killed(void) { play_killed(&raw); }
static void lib_killed(void) { play_killed(&lib); }

/* ---- which of several ---- */

/* A read of a pipe, which holds nothing, under the same name: its end must not end the other. */
static void same_name(void)
{
	struct flight f[2];
	struct actor *t;
	struct play p;
	uint64_t key = 0;
	int pipes[2];

	if (!play_begin(&p, &raw, NULL))
		return;
	PT_SYS_FATAL(pipe(pipes));
	slow_hold(p.slow, true);
	f[0] = play_pages(&p, 0, 4, false, 7);
	f[1] = play_pages(&p, 8, 1, false, 7);
	f[1].fd = pipes[0];
	f[1].off = -1;
	PT_EQ(raw.begin(f, 2), 2);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_fallocate(p.path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, F_LEN));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	PT_EQ(write(pipes[1], "x", 1), 1);
	PT_EQ(raw.end(&key), 1);
	PT_EQ(key, 7);
	CU_ASSERT(play_pins(&p, 1));
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(raw.end(&key), 4 * PAGE);
	PT_EQ(key, 7);
	actor_end(t);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	play_end(&p, &raw);
}

/* A pipe that has nothing yet holds up nobody: it is copied when it has. Then the page has been taken away, and without
 * the privilege for faults of the kernel nobody can bring it. */
static void copied(void)
{
	struct flight f;
	struct actor *t;
	struct play p;
	uint64_t key = 0;
	int pipes[2];

	if (!play_begin(&p, &lib, NULL))
		return;
	PT_SYS_FATAL(pipe(pipes));
	f = play_pages(&p, 0, 1, false, 1);
	f.fd = pipes[0];
	f.off = -1;
	PT_EQ(lib.begin(&f, 1), 1);
	CU_ASSERT(play_pins(&p, 0));
	t = actor_new();
	PT_EQ(actor_do(t, act_fallocate(p.path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, F_LEN)), 0);
	PT_EQ(write(pipes[1], "x", 1), 1);
	PT_EQ(lib.end(&key), getenv("PINFS_TEST_USER_MODE") == NULL ? 1 : -EFAULT);
	CU_ASSERT(p.win[0] == (getenv("PINFS_TEST_USER_MODE") == NULL ? 'x' : 0) && p.win[1] == 0);
	actor_end(t);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	play_end(&p, &lib);
}

/*
 * More completions than the queue has room for, taken out without any call in between that we see. What has ended is
 * unknown then; what is known is that one is missing.
 */
static void unseen(void)
{
	struct io_uring_params par = { .flags = IORING_SETUP_CQSIZE, .cq_entries = 2 };
	struct io_uring_cqe c;
	struct flight f;
	struct actor *t;
	struct play p;
	uint64_t key = 0, end;
	int pipes[2];

	if (!play_begin(&p, &lib, NULL))
		return;
	if (!bare_setup(1, &par)) {
		play_end(&p, &lib);
		return;
	}
	PT_SYS_FATAL(pipe(pipes));
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, 99);
	PT_EQ(raw.begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	for (uint64_t i = 0; i < 5; i++) {
		f = (struct flight){ .fd = pipes[0], .buf = p.win + 8 * PAGE, .len = 1, .off = -1, .key = i };
		PT_EQ(raw.begin(&f, 1), 1);
	}
	for (unsigned int i = 0; i < 5; i++) {
		end = pt_now_ms() + SOON_MS;
		PT_EQ(write(pipes[1], "x", 1), 1);
		while (!bare_take(&c) && pt_now_ms() < end)
			(void)sched_yield();
		PT_EQ(c.res, 1);
	}
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(raw.end(&key), 4 * PAGE);
	PT_EQ(key, 99);
	CU_ASSERT(play_pins(&p, 0));
	actor_end(t);
	bare_close();
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	play_end(&p, &lib);
}

/* ---- how a ring is made, and ends ---- */

/* No thread of the kernel takes requests that nobody has seen: the program is told to call, and does. */
static void kernel_thread(void)
{
	static const unsigned int without[] = {
		IORING_SETUP_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
	};
	struct io_uring_params par;
	struct flight f;
	struct actor *t;
	struct play p;
	uint64_t key = 0;

	if (!play_begin(&p, &lib, NULL))
		return;
	/* Flags that make no sense beside it: programs try them, and count on the kernel's EINVAL. */
	for (size_t i = 0; i < PF_ARRAY_LEN(without); i++) {
		memset(&par, 0, sizeof par);
		par.flags = IORING_SETUP_SQPOLL | without[i];
		PT_EQ(syscall(SYS_io_uring_setup, 8L, &par), -1);
		PT_EQ(errno, EINVAL);
	}
	setup_flags = IORING_SETUP_SQPOLL;
	CU_ASSERT_FATAL(bare_open(8));
	setup_flags = 0;
	CU_ASSERT(bare.par.flags & IORING_SETUP_SQPOLL);
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, 5);
	bare_put(&f, 1, 0);
	CU_ASSERT(atomic_load(word(bare.sq, bare.par.sq_off.flags)) & IORING_SQ_NEED_WAKEUP);
	PT_EQ(bare_enter(1, 0, IORING_ENTER_SQ_WAKEUP), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(bare_end(&key), 4 * PAGE);
	actor_end(t);
	bare_close();
	slow_hold(p.slow, true);
	/* The same by liburing, which does all this itself. */
	PT_SYS(truncate(p.path, F_LEN));
	lib_close();
	setup_flags = IORING_SETUP_SQPOLL;
	CU_ASSERT_FATAL(lib_open(8));
	setup_flags = 0;
	PT_EQ(lib.begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	slow_release(p.slow, 0);
	PT_EQ(lib.end(&key), 4 * PAGE);
	play_end(&p, &lib);
}

/* A thread may name its ring by a number. */
static void by_number(void)
{
	struct flight f;
	struct play p;
	uint64_t key = 0;

	if (!play_begin(&p, &lib, NULL))
		return;
	PT_EQ(io_uring_register_ring_fd(&ring), 1);
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, 5);
	PT_EQ(lib.begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	slow_release(p.slow, 0);
	PT_EQ(lib.end(&key), 4 * PAGE);
	CU_ASSERT(play_pins(&p, 0));
	play_end(&p, &lib);
}

/* The program closes its ring: the kernel goes on with what is under way, and so does the hold. */
static void closed(void)
{
	struct flight f;
	struct actor *t;
	struct play p;

	if (!play_begin(&p, &raw, NULL))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, 5);
	PT_EQ(raw.begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	bare_close();
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	CU_ASSERT(play_pins(&p, 0));
	actor_end(t);
	CU_ASSERT(bare_open(8));
	play_end(&p, &raw);
}

/* Links without a completion of their own are held until what they are linked to has one. */
static void silent(void)
{
	struct flight f[2];
	struct actor *t;
	struct play p;
	uint64_t key = 0;
	int pipes[2];

	if (!play_begin(&p, &raw, NULL))
		return;
	PT_SYS_FATAL(pipe(pipes));
	f[0] = play_pages(&p, 0, 4, false, 5);
	f[1] = (struct flight){ .fd = pipes[0], .buf = p.win + 8 * PAGE, .len = 1, .off = -1, .key = 6 };
	slow_hold(p.slow, true);
	bare_put(&f[0], 1, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
	bare_put(&f[1], 1, 0);
	PT_EQ(bare_enter(2, 0, 0), 2);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	slow_release(p.slow, 0);
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	PT_EQ(write(pipes[1], "x", 1), 1);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(raw.end(&key), 1);
	PT_EQ(key, 6);
	CU_ASSERT(play_pins(&p, 0));
	actor_end(t);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	play_end(&p, &raw);
}

/* The program's files keep their numbers, whatever else is registered; and it may have them at any time. */
static void files(void)
{
	struct io_uring_sqe *s;
	struct flight f;
	struct play p;
	int fds[2];
	uint64_t key = 0;

	if (!play_begin(&p, &lib, NULL))
		return;
	PT_EQ(io_uring_unregister_files(&ring), -ENXIO);
	fds[0] = -1;
	fds[1] = p.fd;
	for (unsigned int round = 0; round < 3; round++) {
		f = play_pages(&p, 0, 4, false, round);
		PT_EQ(lib.begin(&f, 1), 1);		/* by then there is a file of ours */
		PT_EQ(lib.end(&key), 4 * PAGE);
		PT_EQ(io_uring_register_files(&ring, fds, 2), 0);
		PT_EQ(io_uring_register_files(&ring, fds, 2), -EBUSY);
		slow_hold(p.slow, true);
		for (int i = 0; i < 2; i++) {
			s = io_uring_get_sqe(&ring);
			CU_ASSERT_FATAL(s != NULL);
			f.fd = i;
			prep(s, &f);
			s->flags = IOSQE_FIXED_FILE;
			PT_EQ(io_uring_submit(&ring), 1);
			if (i == 0)
				PT_EQ(lib.end(&key), -EBADF);
		}
		CU_ASSERT(slow_await(p.slow, 1));
		CU_ASSERT(play_pins(&p, 1));
		slow_release(p.slow, 0);
		slow_hold(p.slow, false);
		PT_EQ(lib.end(&key), 4 * PAGE);
		PT_EQ(io_uring_register_files_update(&ring, 0, &fds[1], 1), 1);
		PT_EQ(io_uring_unregister_files(&ring), 0);
		PT_EQ(io_uring_unregister_files(&ring), -ENXIO);
		PT_EQ(io_uring_register_files_sparse(&ring, 8), 0);
		PT_EQ(io_uring_register_files_update(&ring, 7, &fds[1], 1), 1);
		PT_EQ(io_uring_unregister_files(&ring), 0);
	}
	CU_ASSERT(play_pins(&p, 0));
	play_end(&p, &lib);
}

static void lib_fair(void) { play_stream(&lib, "fair=yes", false); }
static void lib_unfair(void) { play_stream(&lib, "fair=no", true); }
static void raw_fair(void) { play_stream(&raw, "fair=yes", false); }
static void lib_needs_more(void) { play_needs_more(&lib); }
static void lib_in_parts(void) { play_in_parts(&lib); }

static void *begin_one(void *arg)
{
	(void)lib.begin(arg, 1);
	return NULL;
}

/*
 * A transfer waits for a truncate, as all that the truncate waits for ends by itself. Then the end of one of those may
 * be missed: it is not known any more whether the program has to do something for it, and the transfer waits no longer.
 */
static void doubts(void)
{
	struct io_uring_sqe *s;
	struct flight f[2];
	struct actor *t;
	struct play p;
	uint64_t key = 0;
	pthread_t th;

	if (!play_begin(&p, &lib, "fair=yes") || !bare_open(8))
		return;
	slow_hold(p.slow, true);
	f[0] = play_pages(&p, 0, 1, false, 5);
	PT_EQ(raw.begin(&f[0], 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	f[1] = play_pages(&p, 1, 1, false, 6);
	PT_EQ(pthread_create(&th, NULL, begin_one, &f[1]), 0);
	bare_put(&f[0], 1, IOSQE_CQE_SKIP_SUCCESS);
	s = &bare.sqe[1];
	s->opcode = IORING_OP_NOP;
	s->user_data = 7;
	PT_EQ(bare_enter(1, 0, 0), 1);
	CU_ASSERT(slow_await(p.slow, 2));
	PT_EQ(pthread_join(th, NULL), 0);
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(p.slow, 0);
	PT_EQ(raw.end(&key), PAGE);
	PT_EQ(lib.end(&key), PAGE);
	PT_EQ(actor_result(t, SOON_MS), 0);
	actor_end(t);
	bare_close();
	play_end(&p, &lib);
}

static void unprivileged(void)
{
	play_unprivileged((const char *const[]){ "uring/a read is held", "uring/and a write", "uring/a bare ring, read",
						 "uring/ebusy, defer", "uring/copied", NULL });
}

static const struct pt_case cases[] = {
	{ "a read is held until it ends", lib_reads, 0 },
	{ "and a write", lib_writes, 0 },
	{ "a bare ring, read", raw_reads, 0 },
	{ "a bare ring, write", raw_writes, 0 },
	{ "ebusy, defer, and without protection", lib_policies, 0 },
	{ "the same with a bare ring", raw_policies, 0 },
	{ "what is not held", lib_refused, 0 },
	{ "the same of a bare ring", raw_refused, 0 },
	{ "copied", copied, 0 },
	{ "many", lib_many, 0 },
	{ "many, bare", raw_many, 0 },
	{ "fork", forked, 0 },
	{ "killed", killed, 0 },
	{ "killed, liburing", lib_killed, 0 },
	{ "requests of one name", same_name, 0 },
	{ "completions that nobody saw", unseen, 0 },
	{ "SQPOLL", kernel_thread, 0 },
	{ "ring by number", by_number, 0 },
	{ "ring closed", closed, 0 },
	{ "links without completions", silent, 0 },
	{ "registered files", files, 0 },
	{ "a stream, fair", lib_fair, 0 },
	{ "a stream, unfair", lib_unfair, 0 },
	{ "a stream of a bare ring, fair", raw_fair, 0 },
	{ "a holder needs more", lib_needs_more, 0 },
	{ "in parts", lib_in_parts, 0 },
	{ "without the privilege for faults of the kernel", unprivileged, 300 },
	{ "completions that may be missed", doubts, 0 },
};

int main(int argc, char **argv)
{
	static const struct pt_suite suites[] = { { "uring", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
