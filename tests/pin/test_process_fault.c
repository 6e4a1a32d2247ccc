/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_process_fault.c - threads of a program that die in a page fault of a window, alone or with the whole process,
 * and signals: in a fault, and handlers that touch windows. Each scene is a process of its own on a real mount.
 */
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/scene.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pinfs/pin.h>

/* ---- threads that die in a fault, signals in a fault: the daemon sleeps meanwhile ---- */

static _Atomic int in_fault;

static pid_t daemon_pid;

/* From /proc: 'S' while it waits in its fault; 0: no such thread. */
static char state_of(pid_t pid, pid_t tid)
{
	char path[64], buf[256] = "";
	const char *s;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, sizeof buf - 1) <= 0)
		buf[0] = '\0';
	if (fd >= 0)
		(void)close(fd);
	s = strrchr(buf, ')');
	return s != NULL && s[1] == ' ' ? s[2] : '\0';
}

static bool waits(pid_t tid)
{
	char c = state_of(getpid(), tid);

	return c == 'S' || c == 'D';
}

static bool all_stopped(pid_t pid)
{
	char path[64];
	const struct dirent *e;
	bool all = true;
	DIR *d;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
		char c = tid > 0 ? state_of(pid, tid) : 'T';

		all = all && (c == 'T' || c == '\0');
	}
	if (d != NULL)
		(void)closedir(d);
	return all;
}

static int daemon_sleeps(bool sleeps)
{
	uint64_t end = pt_now_ms() + 60000;

	NEED(kill(daemon_pid, sleeps ? SIGSTOP : SIGCONT) == 0);
	while (sleeps && !all_stopped(daemon_pid))
		NEED(pt_now_ms() < end);
	return 0;
}

static void *faulter(void *arg)
{
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);	/* NOLINT(cert-pos47-c) */
	atomic_store(&in_fault, (int)gettid());
	*(volatile char *)arg = 1;
	return NULL;
}

static int start_fault(pthread_t *t, char *p)
{
	uint64_t end = pt_now_ms() + 60000;
	pid_t tid;

	atomic_store(&in_fault, 0);
	NEED(pthread_create(t, NULL, faulter, p) == 0);
	while ((tid = atomic_load(&in_fault)) == 0)
		(void)sched_yield();
	while (!waits(tid))
		NEED(pt_now_ms() < end);
	return 0;
}

static int cancelled_in_fault(void *arg)
{
	char *p = child_map(here.file, LEN);
	pthread_t t[4];
	void *how;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(daemon_sleeps(true) == 0);
	for (size_t i = 0; i < 4; i++)
		NEED(start_fault(&t[i], p + CHUNK + i / 2 * PAGE) == 0);
	for (size_t i = 0; i < 4; i++) {
		NEED(pthread_cancel(t[i]) == 0);
		NEED(pthread_join(t[i], &how) == 0 && how == PTHREAD_CANCELED);
	}
	NEED(daemon_sleeps(false) == 0);
	NEED(child_touch(p + CHUNK, 1) == 0 && child_touch(p + CHUNK + PAGE, 1) == 0);
	NEED(child_touch(p + 2 * CHUNK, 1) == 0);
	return 0;
}

/* exit() and SIGKILL do not wait for the daemon. */
static int exit_in_fault(void *arg)
{
	char *p = child_map(here.file, LEN);
	pthread_t t;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(daemon_sleeps(true) == 0);
	NEED(start_fault(&t, p + 3 * CHUNK) == 0);
	exit(0);
}

static int killed_in_fault(void *arg)
{
	char *p = child_map(here.file, LEN);
	pthread_t t;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(daemon_sleeps(true) == 0);
	NEED(start_fault(&t, p + 4 * CHUNK) == 0);
	return kill(getpid(), SIGKILL);
}

static sigjmp_buf out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

/* A time limit on a load, as some programs have it. */
static int jump_out_of_fault(void *arg)
{
	struct itimerval tv = { .it_value = { .tv_usec = 20000 } };
	struct sigaction sa = { .sa_handler = jump };
	char *p = child_map(here.file, LEN);
	volatile int jumped = 0;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(sigaction(SIGALRM, &sa, NULL) == 0);
	NEED(daemon_sleeps(true) == 0);
	if (sigsetjmp(out, 1) == 0) {
		NEED(setitimer(ITIMER_REAL, &tv, NULL) == 0);
		*(volatile char *)(p + 5 * CHUNK) = 1;
	} else {
		jumped = 1;
	}
	NEED(daemon_sleeps(false) == 0);
	NEED(jumped);
	NEED(child_touch(p + 5 * CHUNK, 1) == 0);
	return 0;
}

/* A program whose main() leaves by pthread_exit() ends with its last thread, not with ours. */
static void *last_thread(void *arg)
{
	*(volatile char *)arg = 1;
	while (state_of(getpid(), getpid()) != 'Z')
		(void)sched_yield();
	return NULL;
}

static int last_leaves(void *arg)
{
	char *p = child_map(here.file, LEN);
	pthread_t t;

	(void)arg;
	NEED(p != NULL);
	NEED(pthread_create(&t, NULL, last_thread, p) == 0 && pthread_detach(t) == 0);
	pthread_exit(NULL);
}

static void dying_threads(void)
{
	pid_t pid;

	if (!scene_set("revoke_timeout=60", 0600))
		return;
	daemon_pid = here.fs->pid;
	child_play(cancelled_in_fault, NULL);
	child_play(exit_in_fault, NULL);
	PT_EQ(daemon_sleeps(false), 0);
	pid = child_start(killed_in_fault, NULL);
	PT_EQ(child_end(pid), 128 + SIGKILL);
	PT_EQ(daemon_sleeps(false), 0);
	child_play(jump_out_of_fault, NULL);
	child_play(last_leaves, NULL);
	PT_EQ(daemon_sleeps(false), 0);
	scene_strike();
}

/* ---- handlers that touch windows ---- */

static char *in_handler;
static _Atomic unsigned int handled;

static const struct itimerval soon = { .it_value = { .tv_usec = 300 } };

/* The next one comes after this one, however long its fault has taken: else the program might do nothing but that. */
static void touch_all(int sig)
{
	unsigned int n = atomic_fetch_add(&handled, 1) + 1;

	(void)sig;
	in_handler[(n * CHUNK + PAGE) % LEN] = (char)n;
	(void)setitimer(ITIMER_REAL, &soon, NULL);
}

/* A timer that fires all the time; the handler faults, on a stack of its own, in whatever the program is doing. */
static int signals(void *arg)
{
	struct sigaction sa = { .sa_handler = touch_all, .sa_flags = SA_RESTART | SA_ONSTACK };
	static char alt[64 << 10];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof alt };
	char *p = child_map(here.file, LEN), buf[PAGE], path[4096 + 8];
	int src;

	(void)arg;
	NEED(p != NULL && sigaltstack(&ss, NULL) == 0);
	in_handler = p;
	(void)snprintf(path, sizeof path, "%s/src", here.fs->dir);
	src = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	NEED(src >= 0 && unlink(path) == 0);
	memset(buf, 's', sizeof buf);
	NEED(write(src, buf, sizeof buf) == (ssize_t)sizeof buf);
	NEED(sigaction(SIGALRM, &sa, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
	for (unsigned int i = 1; atomic_load(&handled) < 2000; i++) {
		char *at = p + (i * CHUNK) % LEN;

		at[0] = (char)i;
		NEED(at[0] == (char)i);
		/* The kernel's own access takes the same faults. */
		NEED(pread(src, at + 2 * PAGE, PAGE, 0) == (ssize_t)PAGE);
		NEED(at[2 * PAGE] == 's' && at[3 * PAGE - 1] == 's');
		if (i % 64 == 0) {
			p = mmap(p, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, here.file, 0);
			NEED(p == in_handler);
		}
	}
	return 0;
}

static sigjmp_buf bus;
static void *volatile bus_at;

static void on_bus(int sig, siginfo_t *si, void *ctx)
{
	(void)sig;
	(void)ctx;
	bus_at = si->si_addr;
	siglongjmp(bus, 1);
}

/* Out of a SIGBUS again and again, on an alternate stack; and what is there meanwhile may come into being. */
static int bus_jumps(void *arg)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	static char alt[64 << 10];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof alt };
	volatile unsigned int n = 0;
	char *p;
	int fd = open(pt_path(here.fs, "short"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	(void)arg;
	p = child_map(fd, LEN);
	NEED(p != NULL && sigaltstack(&ss, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0);
	for (volatile unsigned int i = 0; i < 300; i++) {
		volatile char *at = p + (i * 37 * PAGE) % LEN + i;

		bus_at = NULL;
		if (sigsetjmp(bus, 1) == 0)
			*at = 1;
		else
			n++;
		NEED(bus_at == at);
	}
	NEED(n == 300);
	NEED(ftruncate(fd, LEN) == 0 && child_touch(p, 1) == 0 && child_touch(p + LEN - 1, 1) == 0);
	(void)close(fd);
	return 0;
}

static void signal_scenes(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(signals, NULL);
	child_play(bus_jumps, NULL);
	scene_strike();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "threads that die in a fault", dying_threads, 0 },
		{ "signals", signal_scenes, 0 },
	};
	static const struct pt_suite suites[] = { { "process_fault", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
