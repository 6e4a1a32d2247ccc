/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_deadlock.c - waits that could never end are found and end with EDEADLK; those that may end are left alone; and
 * with deadlock=wait all of them wait, as in Linux. Also fairness: who is first, pins that come later or the truncate.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/stage.h"

#define K UINT64_C(1024)

static struct pt_fs *fs;
static char f[STAGE_PATH], g[STAGE_PATH], h[STAGE_PATH];

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	stage_file(fs, "g", g);
	stage_file(fs, "h", h);
	return true;
}

/* Does a line of the daemon's log tell of a deadlock between these two? */
static bool told(pid_t waiter, pid_t holder)
{
	char line[512], one[32], other[32];
	FILE *log = fopen(fs->log, "re");
	bool found = false;

	(void)snprintf(one, sizeof one, "by pid %d (", (int)waiter);
	(void)snprintf(other, sizeof other, "pins of pid %d (", (int)holder);
	while (log != NULL && !found && fgets(line, sizeof line, log) != NULL)
		found = strstr(line, "deadlock: ") != NULL && strstr(line, one) != NULL && strstr(line, other) != NULL;
	if (log != NULL)
		(void)fclose(log);
	return found;
}

/* By each way to the daemon: with the kernel's inode lock, without it, and with a descriptor. */
static void itself(void)
{
	struct actor *a;

	if (!begin(NULL))
		return;
	a = stage_holder(f, 0, 4096);
	PT_EQ(actor_do(a, act_truncate(f, 0)), -EDEADLK);
	CU_ASSERT(told(actor_pid(a), actor_pid(a)));
	PT_EQ(actor_do(a, act_open_trunc(f)), -EDEADLK);
	PT_EQ(actor_do(a, act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)), -EDEADLK);
	PT_EQ(stage_size(f), F_LEN);
	PT_EQ(actor_do(a, act_load(0, 0)), 'o');
	PT_EQ(actor_do(a, act_truncate(f, 4096)), 0);		/* not in its own way */
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_do(a, act_truncate(f, 0)), 0);
	actor_end(a);
	pt_fs_end(fs);
}

/* The twin: it is the detection that ends these waits, nothing else. */
static void itself_as_linux(void)
{
	struct actor *a;

	if (!begin("deadlock=wait"))
		return;
	a = stage_holder(f, 0, 4096);
	actor_send(a, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_result(a, 1000), -EINPROGRESS);		/* ten times as long as the first look takes */
	actor_kill(a);
	CU_ASSERT(look_until(fs, 0, 0, NULL));
	pt_fs_end(fs);
}

/* Each holds what the next one wants. The last to come closes the circle, and is the one that fails. */
static void circle(unsigned int n)
{
	const char *const path[] = { f, g, h };
	struct actor *a[3];
	unsigned int i;

	for (i = 0; i < n; i++)
		a[i] = stage_holder(path[i], 0, 4096);
	for (i = 0; i + 1 < n; i++) {
		actor_send(a[i], act_truncate(path[i + 1], 0));
		CU_ASSERT(look_until(fs, i + 1, i + 1, NULL));
	}
	PT_EQ(actor_do(a[n - 1], act_truncate(path[0], 0)), -EDEADLK);
	CU_ASSERT(told(actor_pid(a[n - 1]), actor_pid(a[0])));
	/* It lets go, and the others come through, one after the other. */
	PT_EQ(actor_do(a[n - 1], act_unpin(0)), 0);
	for (i = n - 1; i-- > 0;) {
		PT_EQ(actor_result(a[i], SOON_MS), 0);
		PT_EQ(actor_do(a[i], act_unpin(0)), 0);
	}
	for (i = 0; i < n; i++)
		actor_end(a[i]);
}

static void two(void)
{
	if (!begin(NULL))
		return;
	circle(2);
	pt_fs_end(fs);
}

static void three(void)
{
	if (!begin(NULL))
		return;
	circle(3);
	pt_fs_end(fs);
}

/*
 * The truncate is first; then the holder wants to write to the file, or to make it durable, and queues behind it in the
 * kernel, from where it cannot be called back. The truncate has to give way.
 */
static void in_the_kernel(void)
{
	struct actor *a, *c;

	if (!begin(NULL))
		return;
	a = stage_holder(f, 0, 4096);
	c = actor_new();
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_write(f, 8 * K, 4096, 'w')), 4096);
	PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
	actor_send(c, act_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_fallocate(f, 0, 0, 2 * F_LEN)), 0);
	PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
	PT_EQ(actor_do(a, act_load(0, 8 * K)), 'w');
	/* A write to another file is no reason. */
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_write(g, 0, 4096, 'w')), 4096);
	PT_EQ(actor_result(c, 1000), -EINPROGRESS);
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(a);
	actor_end(c);
	pt_fs_end(fs);
}

/* The same with calls that say a path: the kernel sleeps in them just so, and there is no descriptor to see. */
static void by_path(void)
{
	struct actor *a, *c = actor_new();
	char link[STAGE_PATH], dir[STAGE_PATH], through[STAGE_PATH + 32];

	if (!begin(NULL))
		return;
	(void)snprintf(link, sizeof link, "%s", pt_path(fs, "link"));
	(void)snprintf(dir, sizeof dir, "%s", pt_path(fs, "dir"));
	(void)snprintf(through, sizeof through, "%s/../dir//there", dir);
	PT_SYS(symlink("f", link));
	PT_SYS(mkdir(dir, 0755));
	PT_SYS(symlink(f, pt_path(fs, "dir/there")));
	a = stage_holder(f, 0, 4096);
	for (int i = 0; i < 4; i++) {
		actor_send(c, act_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		PT_EQ(actor_do(a, act_truncate(i == 0 ? f : i == 1 ? link : through, F_LEN - (uint64_t)i * 4096)), 0);
		PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
		PT_EQ(stage_size(f), F_LEN - (uint64_t)i * 4096);
	}
	CU_ASSERT(told(actor_pid(c), actor_pid(a)));
	/* Not what the path leads to, but what it names: then the link is another inode, and no reason. */
	actor_send(c, act_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(a, act_unlink(link)), 0);
	PT_EQ(actor_result(c, 500), -EINPROGRESS);
	PT_EQ(actor_do(a, act_unlink(f)), 0);
	PT_EQ(actor_result(c, SOON_MS), -EDEADLK);
	actor_end(a);
	actor_end(c);
	pt_fs_end(fs);
}

/* Holders with several threads. */

struct threads {
	const char *own, *cut;		/* pinned; truncated by a thread, while the first one waits for its end */
	bool both;			/* the first one truncates `own` meanwhile */
	int rc, rc_own;
};

static void *cut_it(void *arg)
{
	struct threads *t = arg;

	t->rc = truncate(t->cut, 0) == 0 ? 0 : errno;
	return NULL;
}

/* Its exit status: what the thread's truncate gave. */
static int with_threads(void *arg)
{
	struct threads *t = arg;
	int fd = open(t->own, O_RDWR | O_CLOEXEC);
	void *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct pinfs_pin *pin;
	pthread_t thread;

	if (p == MAP_FAILED || pinfs_pin(p, 4096, PINFS_PIN_WRITE, &pin) != 0 ||
	    pthread_create(&thread, NULL, cut_it, t) != 0)
		return 255;
	if (t->both)
		t->rc_own = truncate(t->own, 0) == 0 ? 0 : errno;
	(void)pthread_join(thread, NULL);
	(void)pinfs_unpin(pin);
	return t->both && t->rc_own != EDEADLK ? 254 : t->rc;
}

/* One thread truncates what the process has pinned, the other waits for the end of that thread. */
static void joined(void)
{
	struct threads t = { .own = f, .cut = f };

	if (!begin(NULL))
		return;
	PT_EQ(pt_wait(pt_fork(with_threads, &t), 2 * SOON_MS), EDEADLK);
	pt_fs_end(fs);
}

/* Two processes, one of them with two threads; then both its threads in two operations, each of which is stuck. */
static void circle_of_threads(bool both)
{
	struct threads t = { .own = f, .cut = g, .both = both };
	struct actor *a;
	pid_t pid;
	int rc;

	if (!begin(NULL))
		return;
	a = stage_holder(g, 0, 4096);
	pid = pt_fork(with_threads, &t);
	if (!both) {
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		PT_EQ(actor_do(a, act_truncate(f, 0)), -EDEADLK);	/* the youngest */
		CU_ASSERT(told(actor_pid(a), pid));
		PT_EQ(actor_do(a, act_unpin(0)), 0);
	} else {
		/* It waits for its own pin, and for one that only waits for us: not stuck. */
		CU_ASSERT(look_until(fs, 2, 2, NULL));
		PT_EQ(pt_wait(pid, 500), -1);
		PT_EQ(actor_do(a, act_unpin(0)), 0);			/* the thread goes on; the other is stuck */
	}
	rc = pt_wait(pid, SOON_MS);
	PT_EQ(rc, 0);
	actor_end(a);
	pt_fs_end(fs);
}

static void threads_in_a_circle(void) { circle_of_threads(false); }
static void threads_each_for_itself(void) { circle_of_threads(true); }

/* A process with two threads: one truncates what it has pinned itself, the other ends the pin when it sees it wait. */
static void *unpin_when_it_waits(void *arg)
{
	struct look l;
	const uint64_t end = pt_now_ms() + SOON_MS;

	do
		pt_sleep_ms(10);
	while (look(fs, &l) && l.nwait_pins != 1 && pt_now_ms() < end);
	pt_sleep_ms(300);		/* time for a wrong answer: three looks */
	(void)pinfs_unpin(arg);
	return NULL;
}

static int two_threads(void *arg)
{
	int fd = open(f, O_RDWR | O_CLOEXEC), rc;
	void *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct pinfs_pin *pin;
	pthread_t t;

	(void)arg;
	if (p == MAP_FAILED || pinfs_pin(p, 4096, PINFS_PIN_WRITE, &pin) != 0 ||
	    pthread_create(&t, NULL, unpin_when_it_waits, pin) != 0)
		return 1;
	rc = ftruncate(fd, 0) == 0 ? 0 : errno;
	(void)pthread_join(t, NULL);
	return rc;
}

static void not_a_deadlock(void)
{
	if (!begin(NULL))
		return;
	PT_EQ(pt_wait(pt_fork(two_threads, NULL), 2 * SOON_MS), 0);
	PT_EQ(stage_size(f), 0);
	pt_fs_end(fs);
}

/*
 * A thread truncates, and waits; a child of the other one ends. SIGCHLD, which nobody handles, is dropped when it is
 * sent; but not if the thread that forked has it blocked: then it ends the truncate. pinfs(8), CAVEATS. As fork(3)
 * blocks all signals for a moment, the child ends after it has returned.
 */
struct child_play {
	bool blocked;
	int go[2];			/* a byte: the truncate waits */
};

static int child_ends(void *arg)
{
	struct child_play *p = arg;
	struct threads t = { .cut = f };
	pthread_t thread;
	sigset_t chld;
	siginfo_t si;
	int after[2];
	char byte;
	pid_t pid;

	if (pthread_create(&thread, NULL, cut_it, &t) != 0 || read(p->go[0], &byte, 1) != 1 || pipe(after) != 0)
		return 255;
	(void)sigemptyset(&chld);
	(void)sigaddset(&chld, SIGCHLD);
	if (p->blocked && pthread_sigmask(SIG_BLOCK, &chld, NULL) != 0)
		return 254;
	pid = fork();
	if (pid == 0)
		_exit(read(after[0], &byte, 1) == 1 ? 0 : 1);
	if (pid < 0 || write(after[1], "", 1) != 1 || waitid(P_PID, (id_t)pid, &si, WEXITED) != 0)
		return 253;
	if (p->blocked)
		(void)pthread_join(thread, NULL);
	else
		pt_sleep_ms(300);	/* time for a wrong answer */
	return t.rc;
}

static void signals_ignored(void)
{
	struct child_play p = { .blocked = false };
	struct actor *a;
	pid_t pid;

	if (!begin(NULL))
		return;
	a = stage_holder(f, 0, 4096);
	PT_SYS_FATAL(pipe(p.go));
	for (int i = 0; i < 2; i++, p.blocked = true) {
		pid = pt_fork(child_ends, &p);
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		PT_EQ(write(p.go[1], "", 1), 1);
		PT_EQ(pt_wait(pid, 2 * SOON_MS), p.blocked ? EINTR : 0);
		CU_ASSERT(look_until(fs, 0, 0, NULL));
	}
	PT_EQ(stage_size(f), F_LEN);
	(void)close(p.go[0]);
	(void)close(p.go[1]);
	actor_end(a);
	pt_fs_end(fs);
}

/* A stream of pins that overlap: each new one is there before the last is gone. Do they get in before a truncate? */
static void stream(bool fair)
{
	struct actor *a = stage_holder(f, 0, 4096), *b = actor_new(), *c = actor_new();
	unsigned int got = 0;
	long rc;

	PT_EQ(actor_map_file(b, 0, f, F_LEN), 0);
	PT_EQ(actor_do(b, act_load(0, 0)), 'o');
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	for (unsigned int i = 0; i < 10; i++) {
		struct actor *next = i % 2 == 0 ? b : a, *last = i % 2 == 0 ? a : b;

		rc = actor_do(next, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE | PINFS_PIN_NOWAIT));
		if (rc != 0) {
			PT_EQ(rc, -EAGAIN);
			break;
		}
		PT_EQ(actor_do(last, act_unpin(0)), 0);
		got++;
	}
	PT_EQ(got, fair ? 0 : 10);
	if (!fair) {
		CU_ASSERT(look_until(fs, 1, 1, NULL));		/* it starves */
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
	}
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(a);
	actor_end(b);
	actor_end(c);
}

/* Those who wait come in the order in which they came: the last of two decides about the size. */
static void first_come(void)
{
	struct actor *a, *c[3];

	if (!begin(NULL))
		return;
	for (unsigned int turn = 0; turn < 2; turn++) {
		PT_SYS(truncate(f, F_LEN));
		a = stage_holder(f, 0, 4096);
		for (unsigned int i = 0; i < 3; i++) {
			c[i] = actor_new();
			/* O_TRUNC comes to the daemon without the kernel's lock, so they all are there. */
			actor_send(c[i], i == 1 + turn ? act_truncate(f, 8 * K) : act_open_trunc(f));
			CU_ASSERT(look_until(fs, i + 1, 1, NULL));
		}
		PT_EQ(actor_do(a, act_unpin(0)), 0);
		for (unsigned int i = 0; i < 3; i++) {
			PT_EQ(actor_result(c[i], SOON_MS), 0);
			actor_end(c[i]);
		}
		PT_EQ(stage_size(f), turn == 0 ? 0 : 8 * K);
		actor_end(a);
	}
	pt_fs_end(fs);
}

static void fair(void)
{
	if (!begin("fair=yes"))
		return;
	stream(true);
	pt_fs_end(fs);
}

static void unfair(void)
{
	if (!begin("fair=no"))
		return;
	stream(false);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "itself", itself, 0 },
		{ "itself, as Linux", itself_as_linux, 0 },
		{ "two", two, 0 },
		{ "three", three, 0 },
		{ "in the kernel", in_the_kernel, 0 },
		{ "by path", by_path, 0 },
		{ "a thread that is joined", joined, 0 },
		{ "threads in a circle", threads_in_a_circle, 0 },
		{ "each thread for itself", threads_each_for_itself, 0 },
		{ "not a deadlock", not_a_deadlock, 0 },
		{ "signals that nobody handles", signals_ignored, 0 },
		{ "first come, first served", first_come, 0 },
		{ "fair", fair, 0 },
		{ "unfair", unfair, 0 },
	};
	static const struct pt_suite suites[] = { { "deadlock", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
