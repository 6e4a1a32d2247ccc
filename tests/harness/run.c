/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c - runs the cases of one test program and cleans up behind them.
 *
 * A monitor thread owns SIGINT, SIGTERM and SIGHUP and the time limit of the case that runs. When the limit has
 * passed it runs the cleanups from outside, which ends whatever the case is stuck in (a killed daemon fails its
 * callers with ENOTCONN); should the case not even then come back, the program ends.
 */
#include "harness/run.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLEANUPS 8
#define LIMIT_S 300U		/* of a case: nothing that works takes so long, whatever else the machine does */
#define GRACE_S 60

/* Sanitizers take several times as long. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PATIENCE 5
#else
#define PATIENCE 1
#endif

#ifdef __SANITIZE_THREAD__
void __sanitizer_symbolize_pc(void *pc, const char *fmt, char *out, size_t size);
#endif

static struct {
	const struct pt_suite *suites;
	size_t nsuite;
	char build[PATH_MAX];
	char tmp[PATH_MAX];
	bool own_tmp;
	pid_t pid;
	void (*cleanup[CLEANUPS])(void);
	_Atomic size_t ncleanup;	/* the monitor looks, too */
	const char *suite_name;
	const struct pt_case *now;
	bool skip_now;
	unsigned int failures_before;
	unsigned int skipped;
	_Atomic long deadline;		/* CLOCK_MONOTONIC seconds, 0: none */
	_Atomic bool timed_out;
} run;

static void cleanup(void)
{
	for (size_t i = run.ncleanup; i-- > 0;)
		run.cleanup[i]();
}

void pt_on_cleanup(void (*fn)(void))
{
	for (size_t i = 0; i < run.ncleanup; i++)
		if (run.cleanup[i] == fn)
			return;
	if (run.ncleanup < CLEANUPS) {
		run.cleanup[run.ncleanup] = fn;
		run.ncleanup++;
	}
}

static int drop(const char *path, const struct stat *st PF_UNUSED, int type PF_UNUSED, struct FTW *ftw PF_UNUSED)
{
	(void)remove(path);
	return 0;
}

/* Not in a forked child that returns or exits: what is registered belongs to the parent. */
static void at_end(void)
{
	if (getpid() != run.pid)
		return;
	cleanup();
	if (run.own_tmp)
		(void)nftw(run.tmp, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static long seconds(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void *monitor(void *arg)
{
	const struct timespec tick = { .tv_nsec = 250 * 1000 * 1000 };
	const sigset_t *set = arg;

	for (;;) {
		int sig = sigtimedwait(set, NULL, &tick);
		long deadline = atomic_load(&run.deadline);

		if (sig > 0) {
			at_end();
			_exit(128 + sig);
		}
		if (deadline == 0 || seconds() < deadline)
			continue;
		if (atomic_exchange(&run.timed_out, true)) {
			pt_say("still stuck after its daemons and children were killed");
			at_end();
			_exit(1);
		}
		pt_say("time limit: killing daemons and children");
		atomic_store(&run.deadline, seconds() + GRACE_S);
		cleanup();
	}
	return NULL;
}

/* Whoever started us may ignore signals, block them, or have an umask that no test expects. */
static void usual_self(void)
{
	sigset_t none;

	for (int sig = 1; sig < SIGRTMIN; sig++) {
		struct sigaction sa;

		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
			(void)signal(sig, SIG_DFL);
	}
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)umask(022);
}

static bool start_monitor(void)
{
	static sigset_t set;
	pthread_t t;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return false;
	return pthread_create(&t, NULL, monitor, &set) == 0 && pthread_detach(t) == 0;
}

void pt_say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	(void)printf("\n    %s", line);
	(void)fflush(stdout);
}

const char *pt_errname(void)
{
	const char *name = strerrorname_np(errno);

	return name != NULL ? name : "?";
}

void pt_skip(const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	(void)printf("\nSKIP %s/%s: %s\n", run.suite_name, run.now != NULL ? run.now->name : "*", why);
	run.skip_now = true;
}

const char *pt_build(void) { return run.build; }
const char *pt_tmp(void) { return run.tmp; }

static bool find_places(void)
{
	const char *build = getenv("PINFS_BUILD"), *tmp = getenv("TMPDIR");
	char self[PATH_MAX];
	ssize_t n;

	if (build != NULL) {
		(void)snprintf(run.build, sizeof run.build, "%s", build);
	} else {
		n = readlink("/proc/self/exe", self, sizeof self - 1);
		if (n < 0)
			return false;
		self[n] = '\0';
		/* BUILD/tests/KIND/program */
		(void)snprintf(run.build, sizeof run.build, "%s", dirname(dirname(dirname(self))));
	}
	if (tmp != NULL && build != NULL) {
		(void)snprintf(run.tmp, sizeof run.tmp, "%s", tmp);
		return true;
	}
	(void)snprintf(run.tmp, sizeof run.tmp, "%s/pinfs-test.XXXXXX",
		       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	/* Some tests run programs as another user. */
	run.own_tmp = mkdtemp(run.tmp) != NULL && chmod(run.tmp, 0711) == 0;
	return run.own_tmp;
}

/* For the first race that it reports libtsan maps and unmaps files of symbols, which in a program with hooks for that
 * runs code that it watches: it may wait for itself for ever. So it reads them now. */
static void ready_to_report(void)
{
#ifdef __SANITIZE_THREAD__
	char name[256];

	__sanitizer_symbolize_pc((void *)(uintptr_t)ready_to_report, "%f", name, sizeof name);
#endif
}

static const struct pt_case *case_of(const char *suite, const char *name)
{
	for (size_t i = 0; i < run.nsuite; i++)
		for (size_t j = 0; strcmp(run.suites[i].name, suite) == 0 && j < run.suites[i].ncase; j++)
			if (strcmp(run.suites[i].cases[j].name, name) == 0)
				return &run.suites[i].cases[j];
	return NULL;
}

static void case_begin(const CU_pTest test, const CU_pSuite suite)
{
	unsigned int limit;

	run.suite_name = suite->pName;
	run.now = case_of(suite->pName, test->pName);
	run.skip_now = false;
	run.failures_before = CU_get_number_of_failures();
	atomic_store(&run.timed_out, false);
	limit = run.now != NULL && run.now->limit_s > LIMIT_S ? run.now->limit_s : LIMIT_S;
	if (getenv("PINFS_LONG") != NULL)
		limit *= 4;
	atomic_store(&run.deadline, seconds() + PATIENCE * (long)limit);
	(void)printf("\n  %s/%s ...", suite->pName, test->pName);
	(void)fflush(stdout);
}

/* CUnit calls this after a fatal assertion as well. A time-out is a failure even if no assertion noticed. */
static void case_end(void)
{
	cleanup();
	atomic_store(&run.deadline, 0);
	if (atomic_load(&run.timed_out))
		CU_FAIL("time limit");
}

static void case_report(const CU_pTest test PF_UNUSED, const CU_pSuite suite PF_UNUSED, const CU_pFailureRecord failure)
{
	if (failure != NULL) {
		(void)printf("\n  FAILED");
		for (CU_pFailureRecord f = failure; f != NULL; f = f->pNext)
			(void)printf("\n    %s:%u: %s", f->strFileName, f->uiLineNumber, f->strCondition);
	} else if (run.skip_now) {
		run.skipped++;
	} else {
		(void)printf(" ok");
	}
	(void)fflush(stdout);
}

static bool add_suites(const char *filter, bool list)
{
	char full[256];

	for (size_t i = 0; i < run.nsuite; i++) {
		const struct pt_suite *s = &run.suites[i];
		CU_pSuite cu = NULL;

		for (size_t j = 0; j < s->ncase; j++) {
			(void)snprintf(full, sizeof full, "%s/%s", s->name, s->cases[j].name);
			if (filter != NULL && strstr(full, filter) == NULL)
				continue;
			if (list)
				(void)puts(full);
			if (cu == NULL)
				cu = CU_add_suite_with_setup_and_teardown(s->name, NULL, NULL, NULL, case_end);
			if (cu == NULL || CU_add_test(cu, s->cases[j].name, s->cases[j].fn) == NULL)
				return false;
		}
	}
	return true;
}

int pt_main(int argc, char **argv, const struct pt_suite *suites, size_t nsuite)
{
	const char *filter = NULL;
	unsigned int ran, failed;
	bool list = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--list") == 0) {
			list = true;
		} else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
			filter = argv[++i];
		} else {
			(void)fprintf(stderr, "usage: %s [--list] [--filter TEXT]\n", argv[0]);
			return 2;
		}
	}
	run.suites = suites;
	run.nsuite = nsuite;
	run.pid = getpid();
	usual_self();
	if (CU_initialize_registry() != CUE_SUCCESS || !add_suites(filter, list)) {
		(void)fprintf(stderr, "CUnit: %s\n", CU_get_error_msg());
		return 1;
	}
	if (list) {
		CU_cleanup_registry();
		return 0;
	}
	ready_to_report();
	if (!find_places() || !start_monitor() || atexit(at_end) != 0) {
		(void)fprintf(stderr, "%s: cannot start: %s\n", argv[0], strerror(errno));
		return 1;
	}
	CU_set_test_start_handler(case_begin);
	CU_set_test_complete_handler(case_report);
	if (CU_run_all_tests() != CUE_SUCCESS) {
		(void)fprintf(stderr, "CUnit: %s\n", CU_get_error_msg());
		return 1;
	}
	ran = CU_get_number_of_tests_run();
	failed = CU_get_number_of_tests_failed();
	CU_cleanup_registry();
	(void)printf("\n%u passed, %u failed, %u skipped\n", ran - failed - run.skipped, failed, run.skipped);
	if (failed != 0 || ran == 0)
		return 1;
	return ran == run.skipped ? 77 : 0;
}
