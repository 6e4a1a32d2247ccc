/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_io.c - the worker threads, and two hooks below libfuse.
 *
 * libfuse 3.14 does not know the upper half of the INIT flags. The read hook notes the INIT request and what the kernel
 * offers, the write hook adds to the reply what we want: that a file opened for direct I/O can be mapped shared, and
 * that the kernel says in each request whether set-id bits have to go. INIT
 * is the first request and is served alone, so the state of the hooks is written before any other thread reads it.
 *
 * The workers are a fixed number of threads that block in read(2). The kernel wakes the one that has slept longest,
 * whose caches are the coldest; so there are no more of them than can work at a time: one for each processor, since no
 * handler ever waits for a client or a pin, and more where a handler may wait for a disk. Takes no lock but the one of
 * the start.
 */
#define FUSE_USE_VERSION 314
#include "front/fuse_io.h"

#include <assert.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"

#define WORKERS_MIN 2
#define WORKERS_MAX 32
#define WORKERS_DISK 16
#define WANT_FLAGS2 UINT32_C(0x10)	/* FUSE_DIRECT_IO_ALLOW_MMAP, 1 << 36; newer than our <linux/fuse.h> */

struct pf_io {
	struct fuse_session *se;
	int gone_fd;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int init;			/* 0: not yet; 1: answered; negative: it never will */
	atomic_bool stop;
	atomic_uint running;
	unsigned int nworker;
	pthread_t worker[WORKERS_MAX];
};

/* libfuse gives its hooks no argument that is ours. */
static struct {
	struct pf_io *io;
	uint64_t init_unique;
	uint32_t offered;		/* fuse_init_in.flags */
	uint32_t offered2;
} hook;

static _Thread_local const struct fuse_in_header *request;
static _Thread_local uint32_t request_op;
static _Thread_local uint32_t request_xflags;	/* of a SETXATTR: FUSE_SETXATTR_* */

const struct fuse_in_header *pf_io_request(void) { return request; }
const void *pf_io_body(void) { return request + 1; }

uint32_t pf_io_opcode(void) { return request_op; }

bool pf_io_setxattr_kill_sgid(void) { return (request_xflags & FUSE_SETXATTR_ACL_KILL_SGID) != 0; }

bool pf_io_kill_priv(void) { return (hook.offered & FUSE_HANDLE_KILLPRIV_V2) != 0; }

bool pf_io_parallel_writes(void)
{
	return (hook.offered2 & WANT_FLAGS2) != 0;	/* kernels that know the one know the other */
}

static ssize_t hook_read(int fd, void *buf, size_t len, void *userdata PF_UNUSED)
{
	ssize_t n = read(fd, buf, len);
	const struct fuse_in_header *in = buf;
	const struct fuse_init_in *init = (const struct fuse_init_in *)(in + 1);

	if (n >= (ssize_t)sizeof *in && in->opcode == FUSE_INIT &&
	    n >= (ssize_t)(sizeof *in + FUSE_COMPAT_INIT_OUT_SIZE)) {
		size_t body = (size_t)n - sizeof *in;

		hook.init_unique = in->unique;
		hook.offered = body >= offsetof(struct fuse_init_in, flags2) ? init->flags : 0;
		hook.offered2 = body >= sizeof *init && (init->flags & FUSE_INIT_EXT) ? init->flags2 : 0;
	}
	return n;
}

static void set_init(struct pf_io *io, int state)
{
	(void)pthread_mutex_lock(&io->lock);
	if (io->init == 0)
		io->init = state;
	(void)pthread_cond_broadcast(&io->changed);
	(void)pthread_mutex_unlock(&io->lock);
}

static ssize_t hook_writev(int fd, struct iovec *iov, int count, void *userdata PF_UNUSED)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct fuse_init_out *init;
	ssize_t n;

	if (hook.init_unique == 0 || out->unique != hook.init_unique)
		return writev(fd, iov, count);
	/* The kernel may ask again with another version before it is content; then this is not the answer yet. */
	if (out->error == 0 && count == 2 && iov[1].iov_len >= sizeof *init) {
		init = iov[1].iov_base;
		init->flags |= hook.offered & (FUSE_INIT_EXT | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
		init->flags2 |= hook.offered2 & WANT_FLAGS2;
	}
	n = writev(fd, iov, count);
	if (hook.io != NULL && n > 0 && count == 2 && iov[1].iov_len >= sizeof *init)
		set_init(hook.io, 1);
	else if (hook.io != NULL && (n < 0 || out->error != 0))
		set_init(hook.io, -EPROTO);
	return n;
}

int pf_io_attach(struct fuse_session *se)
{
	static const struct fuse_custom_io io = { .writev = hook_writev, .read = hook_read };

	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}

static void nudge(int sig PF_UNUSED)
{
}

/* A SETXATTR with flags, made into the shorter one that libfuse knows. */
static void take_xflags(struct fuse_in_header *in, size_t len)
{
	struct fuse_setxattr_in *x = (void *)(in + 1);
	const size_t extra = sizeof *x - FUSE_COMPAT_SETXATTR_IN_SIZE;

	request_xflags = 0;
	if (!(hook.offered & FUSE_SETXATTR_EXT) || len < sizeof *in + sizeof *x)
		return;
	request_xflags = x->setxattr_flags;
	memmove((char *)x + FUSE_COMPAT_SETXATTR_IN_SIZE, x + 1, len - sizeof *in - sizeof *x);
	in->len -= (uint32_t)extra;
}

/*
 * Requests that libfuse does not know, but whose likes it does: the body begins like theirs, and who serves them looks
 * at pf_io_opcode().
 */
static void note_request(struct fuse_in_header *in, size_t len)
{
	request = in;
	request_op = in->opcode;
	if (in->opcode == FUSE_SETXATTR)
		take_xflags(in, len);
	if (in->opcode == FUSE_TMPFILE && len > sizeof *in + sizeof(struct fuse_create_in))
		in->opcode = FUSE_CREATE;
	else if (in->opcode == PF_FUSE_STATX && len >= sizeof *in + sizeof(struct fuse_getattr_in))
		in->opcode = FUSE_GETATTR;
}

/*
 * The last worker says that the connection is gone. One that was told to stop says nothing: whoever told it knows.
 */
static void *work(void *arg)
{
	struct pf_io *io = arg;
	struct fuse_buf buf = { .mem = NULL };
	const uint64_t one = 1;
	int n;

	while (!atomic_load(&io->stop) && !fuse_session_exited(io->se)) {
		n = fuse_session_receive_buf(io->se, &buf);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		note_request(buf.mem, (size_t)n);
		fuse_session_process_buf(io->se, &buf);
	}
	free(buf.mem);
	if (atomic_fetch_sub(&io->running, 1) == 1 && !atomic_load(&io->stop)) {
		set_init(io, -ENODEV);
		(void)!write(io->gone_fd, &one, sizeof one);
	}
	return NULL;
}

int pf_io_start(struct fuse_session *se, int gone_fd, bool disk, struct pf_io **out)
{
	const struct sigaction sa = { .sa_handler = nudge };	/* no SA_RESTART: read(2) has to come back */
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN), least = disk ? WORKERS_DISK : WORKERS_MIN;
	const unsigned int want = (unsigned int)(cpus < least ? least : cpus > WORKERS_MAX ? WORKERS_MAX : cpus);
	struct pf_io *io = calloc(1, sizeof *io);
	pthread_condattr_t attr;
	int rc = 0;

	if (io == NULL)
		return -ENOMEM;
	io->se = se;
	io->gone_fd = gone_fd;
	(void)pthread_mutex_init(&io->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&io->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)sigaction(SIGUSR1, &sa, NULL);
	hook.io = io;
	atomic_store(&io->running, want);
	for (unsigned int i = 0; i < want && rc == 0; i++) {
		rc = -pthread_create(&io->worker[i], NULL, work, io);
		if (rc == 0)
			io->nworker++;
		else
			(void)atomic_fetch_sub(&io->running, want - i);
	}
	if (io->nworker == 0) {
		pf_io_stop(io);
		return rc;
	}
	*out = io;
	return 0;
}

int pf_io_wait_init(struct pf_io *io, unsigned int ms)
{
	struct timespec end;
	int rc = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += ms / 1000;
	(void)pthread_mutex_lock(&io->lock);
	while (io->init == 0 && rc == 0)
		rc = pthread_cond_timedwait(&io->changed, &io->lock, &end);
	rc = io->init == 0 ? -ETIMEDOUT : io->init < 0 ? io->init : 0;
	(void)pthread_mutex_unlock(&io->lock);
	return rc;
}

void pf_io_stop(struct pf_io *io)
{
	const struct timespec nap = { .tv_nsec = 1000000 };

	atomic_store(&io->stop, true);
	/* A worker between its look at stop and read(2) misses the signal: hence again, until all have left. */
	while (atomic_load(&io->running) != 0) {
		for (unsigned int i = 0; i < io->nworker; i++)
			(void)pthread_kill(io->worker[i], SIGUSR1);
		(void)nanosleep(&nap, NULL);
	}
	for (unsigned int i = 0; i < io->nworker; i++)
		(void)pthread_join(io->worker[i], NULL);
	hook.io = NULL;
	(void)pthread_cond_destroy(&io->changed);
	(void)pthread_mutex_destroy(&io->lock);
	free(io);
}
