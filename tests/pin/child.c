/* SPDX-License-Identifier: BSD-3-Clause */
/* child.c - scenes in processes of their own (child.h). Owns the memfd that the present one has for stderr. */
#include "pin/child.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"

#define WAIT_MS 60000
#define SCENE_MS 200000		/* a scene waits more than once */
#define NOBODY 65534

static char said[8192];
static int err_fd = -1;

struct scene {
	int (*fn)(void *);
	void *arg;
};

int child_failed(const char *file, int line, const char *what)
{
	char text[512];
	int n = snprintf(text, sizeof text, "%s:%d: %s (%s)\n", file, line, what, pt_errname());

	if (n > 0 && write(2, text, (size_t)n) < 0)
		return 2;
	return 1;
}

static int run(void *arg)
{
	const struct scene *s = arg;

	if (dup2(err_fd, 2) < 0)
		return 3;
	(void)close(err_fd);
	return s->fn(s->arg);
}

pid_t child_start(int (*fn)(void *arg), void *arg)
{
	struct scene s = { .fn = fn, .arg = arg };
	pid_t pid;

	if (err_fd >= 0)
		(void)close(err_fd);
	err_fd = memfd_create("stderr", MFD_CLOEXEC);
	pid = err_fd < 0 ? -1 : pt_fork(run, &s);
	PT_SYS_FATAL(pid);
	return pid;
}

int child_end(pid_t pid)
{
	int rc = pt_wait(pid, SCENE_MS);
	ssize_t n;

	if (rc < 0)
		pt_kill(pid);
	n = pread(err_fd, said, sizeof said - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	return rc;
}

const char *child_said(void)
{
	return said;
}

void child_play(int (*fn)(void *arg), void *arg)
{
	int rc = child_end(child_start(fn, arg));

	if (rc != 0)
		pt_say("the scene ended with %d and said: %s", rc, said);
	CU_ASSERT_EQUAL(rc, 0);
}

static sigjmp_buf escape;
static volatile sig_atomic_t caught;

static void on_fault(int sig)
{
	caught = sig;
	siglongjmp(escape, 1);
}

int child_touch(volatile char *p, int store)
{
	struct sigaction sa = { .sa_handler = on_fault }, bus, segv;

	caught = 0;
	(void)sigaction(SIGBUS, &sa, &bus);
	(void)sigaction(SIGSEGV, &sa, &segv);
	if (sigsetjmp(escape, 1) == 0) {
		if (store)
			*p = 42;
		else
			(void)*p;
	}
	(void)sigaction(SIGBUS, &bus, NULL);
	(void)sigaction(SIGSEGV, &segv, NULL);
	return caught;
}

char *child_map(int fd, size_t len)
{
	struct pinfs_range_info ri;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || pinfs_range_query(p, len, &ri) != 0)
		return NULL;
	return p;
}

int child_sub(int (*fn)(void *arg), void *arg)
{
	pid_t pid = pt_fork(fn, arg);

	return pid < 0 ? -1 : pt_wait(pid, SCENE_MS);
}

int child_await(const volatile uint32_t *word, uint32_t value)
{
	uint64_t end = pt_now_ms() + WAIT_MS;

	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) {
		if (pt_now_ms() > end)
			return -1;
		(void)usleep(200);
	}
	return 0;
}

int child_be_nobody(void)
{
	return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 ? setuid(NOBODY) : -1;
}
