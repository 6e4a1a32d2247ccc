/* SPDX-License-Identifier: BSD-3-Clause */
/* call.c - calls of a case that may wait, each in a thread or process of its own (conform.h); settle.c sees them. */
#include "conform/engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAP_US 100

struct cf_call *calls;

struct start {
	struct call_mem *mem;
	long (*fn)(void *arg);
	void *arg;
};

static void do_call(const struct start *s)
{
	long rc;

	atomic_store(&s->mem->tid, (uint32_t)syscall(SYS_gettid));
	rc = s->fn(s->arg);
	s->mem->rc = rc;
	atomic_store(&s->mem->done, 1);
}

/*
 * Of a signal that is ignored but blocked by the main thread at the moment it comes, the kernel wakes another thread;
 * and a FUSE call that is woken answers EINTR. A child that ends must not end a truncate this way.
 */
static void *in_thread(void *arg)
{
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)pthread_sigmask(SIG_BLOCK, &child, NULL);
	do_call(arg);
	free(arg);
	return NULL;
}

void *cf_shared(struct cf *c, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CF_MUST(c, p != MAP_FAILED);
	return p;
}

void cf_mark(_Atomic uint32_t *at, uint32_t value)
{
	atomic_store(at, value);
}

/* Something in another process of the case has ended it: so has this one. */
static void look_for_end(struct cf *c)
{
	if (atomic_load(&c->out->broken) || atomic_load(&c->out->na))
		_exit(0);
}

void cf_await(struct cf *c, _Atomic uint32_t *at, uint32_t value)
{
	while (atomic_load(at) != value) {
		look_for_end(c);
		(void)usleep(NAP_US);
	}
}

struct cf_call *cf_call(struct cf *c, enum cf_in in, long (*fn)(void *arg), void *arg)
{
	struct start *s = malloc(sizeof *s);
	struct cf_call *call = calloc(1, sizeof *call);
	const pid_t parent = getpid();
	pthread_t t;

	CF_MUST(c, s != NULL && call != NULL);
	call->c = c;
	call->mem = cf_shared(c, sizeof *call->mem);
	call->process = in == CF_PROCESS;
	call->pid = parent;
	*s = (struct start){ call->mem, fn, arg };
	if (in == CF_THREAD) {
		CF_MUST(c, pthread_create(&t, NULL, in_thread, s) == 0);
		(void)pthread_detach(t);
	} else {
		(void)fflush(NULL);
		call->pid = (pid_t)CF_SYS(c, fork());
		if (call->pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			do_call(s);
			_exit(0);
		}
		free(s);
	}
	call->next = calls;
	calls = call;
	while (atomic_load(&call->mem->tid) == 0) {
		look_for_end(c);
		(void)usleep(NAP_US);
	}
	return call;
}

/* A process that ended without returning from its call: by a signal, which is no result. */
static void look_for_death(struct cf_call *call)
{
	int status;

	look_for_end(call->c);
	if (!call->process || waitpid(call->pid, &status, WNOHANG) != call->pid || atomic_load(&call->mem->done))
		return;
	call->mem->rc = -ECANCELED;
	atomic_store(&call->mem->done, 1);
}

enum cf_state cf_settle(struct cf_call *call)
{
	for (unsigned int nap = 20;; nap = nap < 2000 ? nap * 2 : nap) {
		if (atomic_load(&call->mem->done)) {
			call->settled = true;
			return call->state = CF_RETURNED;
		}
		look_for_death(call);
		if (settle_once(call)) {
			call->settled = true;
			return call->state = CF_WAITS;
		}
		(void)usleep(nap);
	}
}

long cf_result(struct cf_call *call)
{
	/* Never without a limit: a process all of whose threads wait for each other is a deadlock, for who looks. */
	for (unsigned int nap = 20; !atomic_load(&call->mem->done); nap = nap < 2000 ? nap * 2 : nap) {
		look_for_death(call);
		(void)usleep(nap);
	}
	return call->mem->rc;
}

const char *cf_call_word(struct cf_call *call)
{
	if (!call->settled)
		(void)cf_settle(call);
	if (call->state == CF_WAITS)
		return "waits";
	return call->mem->rc >= 0 ? "returns" : error_name(call->mem->rc);
}

pid_t cf_call_pid(const struct cf_call *call) { return call->pid; }
pid_t cf_call_tid(const struct cf_call *call) { return (pid_t)atomic_load(&call->mem->tid); }

/* ---- the usual scene ---- */

struct cut { int fd; off_t to; };

static long cut_it(void *arg)
{
	const struct cut *cut = arg;

	return cf_rc(ftruncate(cut->fd, cut->to));
}

void cf_scene(struct cf *c, struct cf_scene *s, size_t len, size_t off, off_t to)
{
	struct cut *cut = malloc(sizeof *cut);

	CF_MUST(c, cut != NULL);
	s->len = len;
	s->fd = cf_file(c, "f", len);
	s->map = cf_map(c, s->fd, 0, len, PROT_READ | PROT_WRITE);
	s->pin = cf_pin(c, s->map + off, CF_PAGE, CF_TO_FILE);
	*cut = (struct cut){ s->fd, to };
	s->truncate = cf_call(c, CF_THREAD, cut_it, cut);
	if (cf_settle(s->truncate) != CF_WAITS)
		cf_na(c, "a truncate does not wait for a pin here: %s", cf_call_word(s->truncate));
}
