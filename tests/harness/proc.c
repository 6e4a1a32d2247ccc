/* SPDX-License-Identifier: BSD-3-Clause */
/* proc.c - children of a test program: table of pids, waits with a limit, output in files (no pipe can fill up). */
#include "harness/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/run.h"

#define CHILDREN 4096

static struct {
	pthread_mutex_t lock;
	pid_t pid[CHILDREN];
	size_t n;
} kids = { .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t pt_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void pt_sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

bool pt_wait_on(uint64_t *end)
{
	if (*end == 0)
		*end = pt_now_ms() + 60000;
	pt_sleep_ms(1);
	return pt_now_ms() < *end;
}

/* After a case: nobody of it lives on. The owner of a pid may be waiting for it in another thread; then it reaps. */
static void kill_all(void)
{
	(void)pthread_mutex_lock(&kids.lock);
	for (size_t i = 0; i < kids.n; i++)
		(void)kill(kids.pid[i], SIGKILL);
	for (size_t i = 0; i < kids.n; i++)
		(void)waitpid(kids.pid[i], NULL, 0);
	kids.n = 0;
	(void)pthread_mutex_unlock(&kids.lock);
}

static bool own(pid_t pid)
{
	bool ok;

	pt_on_cleanup(kill_all);
	(void)pthread_mutex_lock(&kids.lock);
	ok = kids.n < CHILDREN;
	if (ok)
		kids.pid[kids.n++] = pid;
	(void)pthread_mutex_unlock(&kids.lock);
	return ok;
}

static bool is_ours(pid_t pid)
{
	bool found = false;

	(void)pthread_mutex_lock(&kids.lock);
	for (size_t i = 0; i < kids.n && !found; i++)
		found = kids.pid[i] == pid;
	(void)pthread_mutex_unlock(&kids.lock);
	return found;
}

/* True when it was ours until now. */
static bool disown(pid_t pid)
{
	bool found = false;

	(void)pthread_mutex_lock(&kids.lock);
	for (size_t i = 0; i < kids.n && !found; i++) {
		found = kids.pid[i] == pid;
		if (found)
			kids.pid[i] = kids.pid[--kids.n];
	}
	(void)pthread_mutex_unlock(&kids.lock);
	return found;
}

/* In the child: signals as a program expects them, and no life after the parent's. */
static void child_setup(pid_t parent)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
}

/* An assertion that ends the case ends the child; one that does not shows in its status. Both say what it was. */
static int run_child(int (*fn)(void *arg), void *arg)
{
	const unsigned int failed = CU_get_number_of_failures();
	struct CU_Test *test = CU_get_current_test();
	volatile int rc = 1;
	jmp_buf fatal;

	if (test != NULL)
		test->pJumpBuf = &fatal;
	if (setjmp(fatal) == 0)
		rc = fn(arg);
	return rc == 0 && CU_get_number_of_failures() != failed ? 1 : rc;
}

pid_t pt_fork(int (*fn)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		child_setup(parent);
		kids.n = 0;
		_exit(run_child(fn, arg));
	}
	if (pid > 0 && !own(pid))
		pt_kill(pid);
	return pid;
}

pid_t pt_spawn(const char *const argv[], int out_fd, int err_fd)
{
	pid_t parent = getpid(), pid;
	int null;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		child_setup(parent);
		null = open("/dev/null", O_RDWR);
		if (null < 0 || dup2(null, 0) < 0 || (out_fd >= 0 && dup2(out_fd, 1) < 0) ||
		    (err_fd >= 0 && dup2(err_fd, 2) < 0))
			_exit(126);
		(void)close_range(3, ~0U, 0);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid > 0 && !own(pid))
		pt_kill(pid);
	return pid;
}

static int status_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int pt_wait(pid_t pid, unsigned int ms)
{
	uint64_t end = pt_now_ms() + ms;
	unsigned int nap_us = 50;
	int status;
	pid_t got;

	for (;;) {
		got = waitpid(pid, &status, WNOHANG);
		if (got == pid) {
			(void)disown(pid);
			return status_of(status);
		}
		if (got < 0 && errno != EINTR) {
			(void)disown(pid);
			return 255;
		}
		if (pt_now_ms() >= end)
			return -1;
		(void)usleep(nap_us);
		if (nap_us < 5000)
			nap_us *= 2;
	}
}

void pt_kill(pid_t pid)
{
	if (pid <= 0 || !disown(pid))
		return;		/* reaped: the number may be somebody else's by now */
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static void slurp(int fd, char *buf, size_t size)
{
	ssize_t n = 0;

	if (size == 0)
		return;
	if (fd >= 0)
		n = pread(fd, buf, size - 1, 0);
	buf[n > 0 ? n : 0] = '\0';
}

static int run_into(int out_fd, int err_fd, unsigned int ms, const char *const argv[])
{
	pid_t pid = pt_spawn(argv, out_fd, err_fd);
	int rc;

	if (pid < 0)
		return -1;
	rc = pt_wait(pid, ms);
	if (rc < 0)
		pt_kill(pid);
	return rc;
}

int pt_run(char *out, size_t size, unsigned int ms, const char *const argv[])
{
	int fd = memfd_create("pt_run", MFD_CLOEXEC), rc = -1;

	if (fd >= 0) {
		(void)fcntl(fd, F_SETFL, O_APPEND);
		rc = run_into(fd, fd, ms, argv);
	}
	slurp(fd, out, size);
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

int pt_run2(char *out, size_t outsize, char *err, size_t errsize, unsigned int ms, const char *const argv[])
{
	int fd_out = memfd_create("pt_run", MFD_CLOEXEC), fd_err = memfd_create("pt_run", MFD_CLOEXEC), rc = -1;

	if (fd_out >= 0 && fd_err >= 0)
		rc = run_into(fd_out, fd_err, ms, argv);
	if (out != NULL)
		slurp(fd_out, out, outsize);
	if (err != NULL)
		slurp(fd_err, err, errsize);
	if (fd_out >= 0)
		(void)close(fd_out);
	if (fd_err >= 0)
		(void)close(fd_err);
	return rc;
}

bool pt_have(const char *name)
{
	const char *path = getenv("PATH");
	char file[PATH_MAX];

	while (path != NULL && *path != '\0') {
		size_t n = strcspn(path, ":");

		if (snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name) < (int)sizeof file &&
		    access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

void pt_adopt_orphans(void)
{
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], buf[512];
	const char *p;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, buf, sizeof buf - 1);
	(void)close(fd);
	if (n <= 0)
		return 0;
	buf[n] = '\0';
	p = strrchr(buf, ')');		/* "pid (comm) state ppid ..." */
	return p != NULL && strlen(p) > 4 ? (pid_t)strtol(p + 4, NULL, 10) : 0;
}

pid_t pt_child_named(const char *name)
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	char path[64], exe[PATH_MAX];
	pid_t found = 0;

	while (d != NULL && found == 0 && (e = readdir(d)) != NULL) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
		const char *base;
		ssize_t n;

		if (pid <= 0 || parent_of(pid) != getpid())
			continue;
		(void)snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
		n = readlink(path, exe, sizeof exe - 1);
		if (n <= 0)
			continue;
		exe[n] = '\0';
		base = strrchr(exe, '/');
		if (base != NULL && strcmp(base + 1, name) == 0)
			found = pid;
	}
	if (d != NULL)
		(void)closedir(d);
	if (found != 0 && !is_ours(found))
		(void)own(found);
	return found;
}
