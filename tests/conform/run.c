/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c - cases as tests of CUnit: a group is a suite, a case a test, its assertion "what was answered is what was
 * expected". Each runs in a child of its own, which has a time limit; what it leaves is removed after it.
 */
#include "conform/engine.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "lib/cli.h"

#define GRACE_MS 10000
#define LOOK_MS 100
#define ROOM_MS 30000

static struct {
	struct suite *s;
	struct outcome *out;
	unsigned int serial;
	size_t at;
	bool may_unsafe;
	int signals;			/* signalfd */
	int stopped;			/* by this one */
	sigset_t before;		/* what was blocked */
} run = { .signals = -1 };

static double now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Has somebody asked us to end? */
static bool stopped(void)
{
	struct signalfd_siginfo si;

	if (run.stopped == 0 && read(run.signals, &si, sizeof si) == (ssize_t)sizeof si)
		run.stopped = (int)si.ssi_signo;
	return run.stopped != 0;
}

int suite_stopped(void) { return run.stopped; }

/* Until it has ended: true, its status is in *status. False after @ms, or when the suite is to end. */
static bool reap(pid_t pid, int ms, int *status)
{
	const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { run.stopped == 0 ? run.signals : -1, POLLIN, 0 } };
	const double end = now() + ms / 1e3;
	const bool was_stopped = run.stopped != 0;
	bool ended = false;

	while (!ended && now() < end && (was_stopped || !stopped())) {
		/* Without pidfds (Linux before 5.3) by looking. */
		if (poll(p, 2, fd >= 0 ? LOOK_MS : 1) == 0 && tidy_exits(pid))
			slow_reset();		/* it cannot die before its transfers have ended */
		ended = waitpid(pid, status, WNOHANG) == pid;
	}
	if (fd >= 0)
		(void)close(fd);
	return ended;
}

static _Noreturn void child(pid_t parent, const struct cf_case *cs, const struct tags *tags, const char *dir)
{
	static struct cf c;
	const struct rlimit none = { 0, 0 };
	const int null = run.s->verbose ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* What the preload library says of daemons that end, and of windows that are full, is part of the question. */
	if (null >= 0)
		(void)dup2(null, STDERR_FILENO);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	(void)setsid();				/* a terminal's Ctrl-C is the runner's */
	(void)sigprocmask(SIG_SETMASK, &run.before, NULL);
	(void)setrlimit(RLIMIT_CORE, &none);
	c.cs = cs;
	c.place = &run.s->place;
	c.tags = *tags;
	(void)snprintf(c.dir, sizeof c.dir, "%s", dir);
	c.out = run.out;
	(void)chdir(dir);
	(void)umask(022);
	case_run(&c);
}

static uint64_t room(const struct place *p)
{
	struct statvfs vfs;

	return statvfs(p->work, &vfs) == 0 ? (uint64_t)vfs.f_bavail * vfs.f_frsize : 0;
}

/*
 * That nobody has a file any more, the filesystem may hear a moment after it has gone; who comes then finds no space.
 * Not for ever: somebody else may have taken some.
 */
static void await_room(const struct place *p, uint64_t before)
{
	for (unsigned int ms = 0; ms < ROOM_MS && room(p) < before - before / 64; ms++)
		(void)usleep(1000);
}

/* Run it once, in a directory that has @policy (or NULL): what it answers, or V_NA, V_BROKEN and why. */
static enum verdict ask(const struct cf_case *cs, const char *policy, char answer[ANSWER_MAX], char why[512])
{
	const struct place *p = &run.s->place;
	const struct tags tags = policy != NULL ? tags_with_policy(&p->tags, policy) : p->tags;
	char dir[PATH_MAX];
	enum verdict v = V_PASS;
	int status = 0;
	const pid_t parent = getpid();
	const uint64_t before = room(p);
	bool hangs;
	pid_t pid;

	memset(run.out, 0, sizeof *run.out);
	(void)snprintf(dir, sizeof dir, "%.*s/%u", PATH_MAX - 16, p->work, run.serial++);
	if (mkdir(dir, 0777) != 0) {
		(void)snprintf(why, 512, "its directory: %s", strerror(errno));
		return V_BROKEN;
	}
	if (policy != NULL && setxattr(dir, "user.pinfs.on_busy", policy, strlen(policy), 0) != 0) {
		(void)snprintf(why, 512, "on_busy=%s: %s", policy, strerror(errno));
		tidy_tree(dir);
		return V_BROKEN;
	}
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		child(parent, cs, &tags, dir);
	hangs = pid < 0 || !reap(pid, (int)p->limit_s * 1000, &status);
	if (hangs && pid > 0) {
		(void)kill(pid, SIGKILL);
		slow_reset();
		(void)reap(pid, GRACE_MS, &status);
	}
	slow_reset();
	(void)tidy_children(slow_pid());
	tidy_tree(dir);
	tidy_tree(tidy_elsewhere(dir, getpid()));
	if ((cs->flags & CF_FILLS) != 0)
		await_room(p, before);
	run.out->answer[ANSWER_MAX - 1] = run.out->why[sizeof run.out->why - 1] = '\0';
	run.out->notes[NOTES_MAX - 1] = '\0';
	(void)strcpy(answer, run.out->answer);
	(void)strcpy(why, run.out->why);
	if (hangs)
		(void)strcpy(answer, "hangs");
	if (p->pinfs && !guard_look(p, why, 512))
		return V_BROKEN;
	if (atomic_load(&run.out->broken)) {
		v = V_BROKEN;
	} else if (atomic_load(&run.out->na)) {
		v = V_NA;
	} else if (hangs) {
		v = V_PASS;
	} else if (WIFSIGNALED(status)) {
		(void)snprintf(answer, ANSWER_MAX, "dies: SIG%s", sigabbrev_np(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) != 0) {
		(void)snprintf(why, 512, "ended with status %d", WEXITSTATUS(status));
		v = V_BROKEN;
	} else if (!atomic_load(&run.out->answered)) {
		(void)snprintf(why, 512, "gave no answer");
		v = V_BROKEN;
	}
	return v;
}

static enum verdict not_here(struct result *r, const char *why)
{
	(void)snprintf(r->why, sizeof r->why, "%s", why);
	return V_NA;
}

static enum verdict not_on_this(struct result *r, const char *why)
{
	r->machine = true;
	return not_here(r, why);
}

/* What speaks against running it at all: V_NA, V_BROKEN; V_PASS: nothing. */
static enum verdict may_run(struct result *r)
{
	const struct place *p = &run.s->place;
	const char *na;

	if ((r->cs->flags & CF_UNASKED) != 0)
		return not_here(r, r->cs->says);
	if (!expect_find(r->cs->want, &p->want_tags, r->expected)) {
		(void)snprintf(r->why, sizeof r->why, "nothing is expected of it here");
		return V_BROKEN;
	}
	(void)expect_find(r->cs->want, &p->linux_tags, r->on_linux);
	if (run.s->expect != NULL) {
		na = record_find(run.s->expect, r->cs->id);
		if (na == NULL)
			return not_here(r, "nothing is recorded of it");
		(void)snprintf(r->expected, sizeof r->expected, "%s", na);
	}
	na = expect_na(r->expected);
	if (na != NULL)
		return not_here(r, na);
	if ((r->cs->flags & CF_ROOT) != 0 && geteuid() != 0)
		return not_on_this(r, "needs root");
	if ((r->cs->flags & CF_PINS) != 0 && p->pin == NULL)
		return p->pinfs ? not_here(r, p->no_pins) : not_on_this(r, p->no_pins);
	if ((r->cs->flags & CF_FILLS) != 0 && room(p) > p->fill_max)
		return not_on_this(r, "it fills the filesystem, where more is free than --fill-max allows");
	return V_PASS;
}

/* Once more without the protection: what it answers then is another thing, or it shows nothing. */
static void run_twin(struct result *r)
{
	const struct tags *want = &run.s->place.want_tags, tags = tags_with_policy(want, "unsafe");
	char why[512] = "";
	enum verdict v;

	if (!run.s->twin || (r->cs->flags & CF_PROTECTS) == 0 || !tags_have(&run.s->place.tags, "pinfs") ||
	    tags_have(&run.s->place.tags, "unsafe"))
		return;
	if (!expect_find(r->cs->want, &tags, r->twin_expected) || expect_na(r->twin_expected) != NULL)
		return;
	/* No protection to be seen: under defer nothing waits, a device cannot be cut, virtiofs moves no blocks. */
	if ((tags_have(want, "defer") || tags_have(want, "devdax") || tags_have(want, "virtiofs-dax")) &&
	    strcmp(r->expected, r->twin_expected) == 0)
		return;
	/* Only root may have it. */
	if (!run.may_unsafe)
		return;
	v = ask(r->cs, "unsafe", r->twin, why);
	r->has_twin = true;
	if (v == V_BROKEN || v == V_NA) {
		r->verdict = V_BROKEN;
		(void)snprintf(r->why, sizeof r->why, "twin: %.500s", why);
	} else if (strcmp(r->twin, r->answer) == 0) {
		r->verdict = r->verdict == V_BROKEN ? V_BROKEN : V_DIFFERS;
		(void)snprintf(r->why, sizeof r->why, "its twin under on_busy=unsafe answers the same: it cannot fail");
	} else if (!expect_met(r->twin_expected, r->twin)) {
		r->verdict = r->verdict == V_BROKEN ? V_BROKEN : V_DIFFERS;
		(void)snprintf(r->why, sizeof r->why, "its twin under on_busy=unsafe is expected to answer \"%s\"",
			       r->twin_expected);
	}
}

static void run_once(struct result *r)
{
	r->verdict = ask(r->cs, NULL, r->answer, r->why);
	r->machine = r->verdict == V_NA;
	(void)strcpy(r->notes, run.out->notes);
	if (r->verdict == V_PASS && !expect_met(r->expected, r->answer))
		r->verdict = V_DIFFERS;
	if (r->verdict == V_PASS || r->verdict == V_DIFFERS)
		run_twin(r);
}

static void run_case(struct result *r)
{
	const double begin = now();
	char first[ANSWER_MAX];

	r->verdict = may_run(r);
	if (r->verdict != V_PASS)
		return;
	for (unsigned int i = 0; i < run.s->repeat && r->verdict == V_PASS && !stopped(); i++) {
		run_once(r);
		if (i == 0)
			(void)strcpy(first, r->answer);
		if (r->verdict == V_PASS && strcmp(first, r->answer) != 0) {
			r->verdict = V_DIFFERS;
			(void)snprintf(r->why, sizeof r->why, "answered \"%.200s\", and \"%.200s\" at another time",
				       first, r->answer);
		}
	}
	r->seconds = now() - begin;
}

/* ---- CUnit ---- */

static struct result *result_of(const char *id)
{
	for (size_t i = 0; i < run.s->nresult; i++)
		if (strcmp(run.s->result[i].cs->id, id) == 0)
			return &run.s->result[i];
	return NULL;
}

static void test(void)
{
	struct result *r = result_of(CU_get_current_test()->pName);
	char what[2 * ANSWER_MAX + 64];

	if (stopped())
		return;
	run.at++;
	if (run.s->progress)
		report_progress(run.s, run.at, r->cs->id);
	run_case(r);
	(void)snprintf(what, sizeof what, "%s: \"%s\", expected \"%s\"", r->cs->id, r->answer, r->expected);
	(void)CU_assertImplementation(r->verdict == V_PASS || r->verdict == V_NA, 0, what, r->cs->source, "", CU_FALSE);
}

bool suite_wants(const struct suite *s, const struct cf_case *cs)
{
	const char *p = s->filter;

	while (p != NULL && *p != '\0') {
		const size_t n = strcspn(p, ",");
		const char *at = n != 0 ? memmem(cs->id, strlen(cs->id), p, n) : NULL;

		if (at != NULL)
			return true;
		p += n + (p[n] == ',');
	}
	return s->filter == NULL;
}

static int enroll(struct suite *s)
{
	size_t room = 0;

	for (unsigned int g = 0; g < cf_ngroup; g++)
		room += cf_groups[g]->ncase;
	s->result = calloc(room + 1, sizeof *s->result);
	if (s->result == NULL || CU_initialize_registry() != CUE_SUCCESS)
		return -1;
	for (unsigned int g = 0; g < cf_ngroup; g++) {
		CU_pSuite suite = NULL;

		for (size_t i = 0; i < cf_groups[g]->ncase; i++) {
			const struct cf_case *cs = &cf_groups[g]->cases[i];

			if (!suite_wants(s, cs))
				continue;
			if (suite == NULL)
				suite = CU_add_suite(cf_groups[g]->title, NULL, NULL);
			if (suite == NULL || CU_add_test(suite, cs->id, test) == NULL)
				return -1;
			s->result[s->nresult++] = (struct result){ .group = cf_groups[g], .cs = cs };
		}
	}
	return 0;
}

int suite_begin(struct suite *s)
{
	sigset_t set;

	run.s = s;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, &run.before);
	run.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	run.out = mmap(NULL, sizeof *run.out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.signals >= 0 && run.out != MAP_FAILED && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
		return 0;
	cli_error("%s", strerror(errno));
	return -1;
}

/* on_busy=unsafe is root's alone. */
static bool try_unsafe(const struct place *p)
{
	char dir[PATH_MAX + 16];
	bool may;

	if (!p->pinfs)
		return false;
	(void)snprintf(dir, sizeof dir, "%s/unsafe", p->work);
	may = mkdir(dir, 0700) == 0 && setxattr(dir, "user.pinfs.on_busy", "unsafe", 6, 0) == 0;
	(void)rmdir(dir);
	return may;
}

int suite_run(struct suite *s)
{
	int err;

	run.may_unsafe = try_unsafe(&s->place);
	guard_begin(&s->place);
	if (enroll(s) != 0) {
		cli_error("%s", CU_get_error_msg());
		return -1;
	}
	err = CU_run_all_tests() == CUE_SUCCESS && !stopped() ? 0 : -1;
	if (s->progress)
		report_progress(s, 0, "");
	CU_cleanup_registry();
	return err;
}
