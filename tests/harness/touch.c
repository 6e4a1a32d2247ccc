/* SPDX-License-Identifier: BSD-3-Clause */
/* touch.c - see touch.h. The handlers stay installed once used; other faults of the program end it as before. */
#include "touch.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t armed, caught;
static _Thread_local void *volatile at;
static _Thread_local volatile int code;
static _Thread_local volatile char loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	if (!armed) {
		(void)signal(sig, SIG_DFL);	/* returns to the fault, which ends the program */
		return;
	}
	caught = sig;
	at = si->si_addr;
	code = si->si_code;
	siglongjmp(escape, 1);
}

static void install(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	(void)sigaction(SIGBUS, &sa, NULL);
	(void)sigaction(SIGSEGV, &sa, NULL);
}

int pt_touch(volatile char *p, bool store)
{
	(void)pthread_once(&once, install);
	caught = 0;
	if (sigsetjmp(escape, 1) == 0) {
		armed = 1;
		if (store)
			*p = 42;
		else
			loaded = *p;
	}
	armed = 0;
	return caught;
}

void *pt_touched_at(void)
{
	return at;
}

int pt_touched_code(void)
{
	return code;
}

char pt_touched_byte(void)
{
	return loaded;
}
