/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c - what a thread of the program keeps with us, how threads wait for each other, and the table lock.
 */
#include "io.h"
#include "transient.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

__thread struct sh_tls *sh_tls_ptr __attribute__((tls_model("initial-exec")));
__thread bool sh_is_crew __attribute__((tls_model("initial-exec")));

static pthread_key_t tls_key;

static void tls_gone(void *p)
{
	sh_hold_end(p);
	sh_tls_ptr = NULL;
	sh_io_drop(p);
	sh_mag_flush(p);
	sh_free(p, sizeof(struct sh_tls));
}

void sh_tls_init(void)
{
	if (pthread_key_create(&tls_key, tls_gone) != 0)
		sh_log(SH_WARN, "no thread key: each thread that pins leaks %zu bytes", sizeof(struct sh_tls));
}

struct sh_tls *sh_tls_make(void)
{
	struct sh_tls *t;

	sh_alive();
	t = sh_alloc(sizeof *t);
	if (t == NULL)
		return NULL;
	t->tid = (uint32_t)sh_sys(SYS_gettid);
	t->epoch = atomic_load(&sh_life.epoch);
	sh_tls_ptr = t;
	(void)pthread_setspecific(tls_key, t);
	return t;
}

void sh_tls_reset(void)
{
	struct sh_tls *t = sh_tls_ptr;

	memset(t, 0, sizeof *t);
	t->tid = (uint32_t)sh_sys(SYS_gettid);
	t->epoch = atomic_load(&sh_life.epoch);
}

void sh_lock(sh_sigs *old)
{
	sigset_t all;

	if (!sh_is_crew) {
		memset(&all, 0xff, sizeof all);
		(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
	}
	pthread_mutex_lock(&sh.lock);
}

void sh_unlock(const sh_sigs *old)
{
	pthread_mutex_unlock(&sh.lock);
	if (!sh_is_crew)
		(void)sh_sys(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, (size_t)8);
}

void sh_sigs_restore(const sh_sigs *old)
{
	(void)sh_sys(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, (size_t)8);
}

void sh_wait_init(struct sh_waiter *w)
{
	atomic_store(&w->done, 0);
	w->err = 0;
}

/*
 * Not a private futex: by that the daemon knows a thread that waits for another one of its process, and may have to
 * wait for ever. This one waits for the daemon.
 */
int sh_wait_intr(struct sh_waiter *w)
{
	while (atomic_load(&w->done) == 0) {
		if (sh_sys(SYS_futex, &w->done, (long)FUTEX_WAIT, 0L, NULL) == -EINTR)
			return atomic_load(&w->done) ? w->err : -EINTR;
	}
	return w->err;
}

int sh_wait(struct sh_waiter *w)
{
	while (atomic_load(&w->done) == 0)
		(void)sh_sys(SYS_futex, &w->done, (long)FUTEX_WAIT, 0L, NULL);
	return w->err;
}

/* The waiter may return, and its thread be gone, as soon as done is set: only its address is used afterwards. */
void sh_wake(struct sh_waiter *w, int err)
{
	w->err = err;
	atomic_store(&w->done, 1);
	(void)sh_sys(SYS_futex, &w->done, (long)FUTEX_WAKE, (long)INT_MAX);
}
