/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_aio.c - libaio with buffers in windows: what is held, from when to when. The plays that io_uring has as well are
 * flight.c's; here is what only contexts have.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/flight.h"
#include "pin/look.h"

#define PAGE 4096U
#define ROOM 64U

static io_context_t ctx;
static struct iocb cbs[ROOM];
static bool used[ROOM];
static bool in_user_space;	/* events are taken out of the ring without a system call, as fio can */

static bool aio_open(unsigned int room)
{
	int r;

	ctx = NULL;
	memset(used, 0, sizeof used);
	r = io_setup((int)room, &ctx);
	if (r == -ENOSYS)
		pt_skip("this kernel has no asynchronous I/O");
	else
		PT_EQ(r, 0);
	return r == 0;
}

static long aio_begin(const struct flight *f, unsigned int n)
{
	struct iocb *list[ROOM], was[ROOM];
	unsigned int k = 0;
	long r;

	for (unsigned int i = 0; i < n; i++) {
		while (used[k])
			k++;
		list[i] = &cbs[k];
		used[k++] = true;
		if (f[i].vector)
			(f[i].write ? io_prep_pwritev : io_prep_preadv)(list[i], f[i].fd, f[i].buf, (int)f[i].len,
									f[i].off);
		else
			(f[i].write ? io_prep_pwrite : io_prep_pread)(list[i], f[i].fd, f[i].buf, f[i].len, f[i].off);
		list[i]->data = (void *)(uintptr_t)f[i].key;
		was[i] = *list[i];
	}
	r = io_submit(ctx, n, list);
	/* The program's request is as the program wrote it. */
	for (unsigned int i = 0; i < n; i++) {
		CU_ASSERT(list[i]->u.c.buf == was[i].u.c.buf && list[i]->u.c.nbytes == was[i].u.c.nbytes);
		if (r < 0 || i >= (unsigned int)r)
			used[list[i] - cbs] = false;
	}
	return r;
}

struct ring {
	unsigned int id, nr, head;
	_Atomic unsigned int tail;
	unsigned int magic, compat, incompat, header;
	struct io_event event[];
};

static bool take(struct io_event *ev)
{
	struct ring *r = (struct ring *)(void *)ctx;

	if (!in_user_space)
		return io_getevents(ctx, 1, 1, ev, NULL) == 1;
	while (atomic_load(&r->tail) == r->head)
		(void)sched_yield();
	*ev = r->event[r->head];
	__atomic_store_n(&r->head, (r->head + 1) % r->nr, __ATOMIC_RELEASE);
	return true;
}

static long aio_end(uint64_t *key)
{
	struct io_event ev;

	if (!take(&ev))
		return -EIO;
	used[ev.obj - cbs] = false;
	*key = (uint64_t)(uintptr_t)ev.data;
	return (long)ev.res;
}

static void aio_close(void)
{
	PT_EQ(io_destroy(ctx), 0);
}

static const struct engine aio = { "libaio", aio_open, aio_begin, aio_end, aio_close };

static void reads(void) { play_waits(&aio, false); }
static void writes(void) { play_waits(&aio, true); }
static void policies(void) { play_policies(&aio); }
static void refused(void) { play_refused(&aio); }
static void forked(void) { play_fork(&aio); }
static void killed(void) { play_killed(&aio); }

static void many(void)
{
	in_user_space = false;
	play_many(&aio);
	in_user_space = true;
	play_many(&aio);
	in_user_space = false;
}

/* A file through the page cache is copied, by the time the call returns; a pipe that has nothing is never pinned. */
static void copied(void)
{
	char file[STAGE_PATH];
	struct flight f;
	struct play p;
	uint64_t key;
	int fd;

	if (!play_begin(&p, &aio, NULL))
		return;
	(void)snprintf(file, sizeof file, "%s/plain", pt_tmp());
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	PT_SYS_FATAL(fd);
	PT_EQ(ftruncate(fd, 16 * PAGE), 0);
	f = play_pages(&p, 0, 16, true, 1);
	f.fd = fd;
	PT_EQ(aio.begin(&f, 1), 1);
	CU_ASSERT(play_pins(&p, 0));
	PT_EQ(aio.end(&key), F_LEN);
	(void)close(fd);
	(void)unlink(file);
	play_end(&p, &aio);
}

/* ---- io_destroy, io_cancel ---- */

static void *destroy(void *arg)
{
	*(_Atomic int *)arg = io_destroy(ctx) == 0 ? 1 : -1;
	return NULL;
}

static void ends_with_context(void)
{
	struct io_event ev;
	_Atomic int done = 0;
	struct flight f;
	struct actor *t;
	struct play p;
	pthread_t th;

	if (!play_begin(&p, &aio, NULL))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, 1);
	PT_EQ(aio.begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(io_cancel(ctx, &cbs[0], &ev) < 0);		/* a read cannot be: it stays held */
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	/* The call waits for the request, and so does the truncate. */
	PT_EQ(pthread_create(&th, NULL, destroy, &done), 0);
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(pthread_join(th, NULL), 0);
	PT_EQ(done, 1);
	CU_ASSERT(play_pins(&p, 0));
	PT_EQ(io_destroy(ctx), -EINVAL);
	PT_EQ(aio.begin(&f, 1), -EINVAL);
	CU_ASSERT(play_pins(&p, 0));
	CU_ASSERT(aio_open(64));
	actor_end(t);
	play_end(&p, &aio);
}

/* What the kernel says of nonsense it says still. */
static void nonsense(void)
{
	struct iocb cb, *list[2] = { &cb, NULL };
	struct io_event ev;
	struct play p;
	struct iocb *nowhere = (struct iocb *)(uintptr_t)PAGE;

	if (!play_begin(&p, &aio, NULL))
		return;
	io_prep_pread(&cb, p.fd, p.win, PAGE, 0);
	PT_EQ(io_submit(ctx, 0, list), 0);
	PT_EQ(io_submit(ctx, -1, list), -EINVAL);
	PT_EQ(io_submit(ctx, 1, (struct iocb **)(uintptr_t)PAGE), -EFAULT);
	PT_EQ(io_submit(ctx, 1, &nowhere), -EFAULT);
	list[1] = nowhere;
	PT_EQ(io_submit(ctx, 2, list), 1);
	cb.aio_lio_opcode = 99;
	PT_EQ(io_submit(ctx, 1, list), -EINVAL);
	io_prep_pread(&cb, -1, p.win, PAGE, 0);
	PT_EQ(io_submit(ctx, 1, list), -EBADF);
	PT_EQ(syscall(SYS_io_submit, (long)(uintptr_t)p.win, 1L, list), -1);	/* a window is no context */
	PT_EQ(errno, EINVAL);
	PT_EQ(syscall(SYS_io_destroy, 0L), -1);
	PT_EQ(errno, EINVAL);
	PT_EQ(io_getevents(ctx, 1, 1, &ev, NULL), 1);		/* of the one that was taken */
	CU_ASSERT(play_pins(&p, 0));
	play_end(&p, &aio);
}

static void grows(void) { play_grows(&aio); }
static void fair(void) { play_stream(&aio, "fair=yes", false); }
static void unfair(void) { play_stream(&aio, "fair=no", true); }
static void needs_more(void) { play_needs_more(&aio); }
static void in_parts(void) { play_in_parts(&aio); }

static void unprivileged(void)
{
	play_unprivileged((const char *const[]){ "aio/a read is held", "aio/and a write", "aio/ebusy, defer",
						 "aio/copied", "aio/io_destroy", NULL });
}

static const struct pt_case cases[] = {
	{ "a read is held until it ends", reads, 0 },
	{ "and a write", writes, 0 },
	{ "ebusy, defer, and without protection", policies, 0 },
	{ "what is not held", refused, 0 },
	{ "copied", copied, 0 },
	{ "many", many, 0 },
	{ "fork", forked, 0 },
	{ "killed", killed, 0 },
	{ "io_destroy, io_cancel", ends_with_context, 0 },
	{ "nonsense", nonsense, 0 },
	{ "growing waits, too", grows, 0 },
	{ "a stream, fair", fair, 0 },
	{ "a stream, unfair", unfair, 0 },
	{ "a holder needs more", needs_more, 0 },
	{ "in parts", in_parts, 0 },
	{ "without the privilege for faults of the kernel", unprivileged, 300 },
};

int main(int argc, char **argv)
{
	static const struct pt_suite suites[] = { { "aio", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
