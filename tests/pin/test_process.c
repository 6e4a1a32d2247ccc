/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_process.c - windows in processes that fork in every way there is, while threads touch them, and that exec.
 * Each scene is a process of its own on a real mount. Threads that die, and signals: test_process_fault.c.
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

extern char **environ;

static int status_of(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) != pid) {
		if (errno != EINTR)
			return -1;
	}
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* ---- fork, with everything going on ---- */

struct busy {
	char *p;
	atomic_bool stop;
	pthread_t t[2];
	_Atomic unsigned long turns, wrong;
};

/* Every chunk in turn, of a file that is larger than the window: nearly each touch is a fault. */
static void *toucher(void *arg)
{
	struct busy *b = arg;
	unsigned long word = atomic_fetch_add(&b->turns, 1) + 1, n = 0;

	while (!atomic_load(&b->stop)) {
		for (size_t at = word * 64; at < LEN; at += CHUNK) {
			volatile uint64_t *w = (volatile uint64_t *)(void *)(b->p + at);

			if (*w != n)
				atomic_fetch_add(&b->wrong, 1);
			*w = n + 1;
		}
		n++;
	}
	return NULL;
}

static int busy_start(struct busy *b, char *p)
{
	memset(p, 0, PAGE);
	b->p = p;
	for (size_t i = 0; i < 2; i++)
		NEED(pthread_create(&b->t[i], NULL, toucher, b) == 0);
	while (atomic_load(&b->turns) < 2)
		(void)sched_yield();
	return 0;
}

static int busy_end(struct busy *b)
{
	atomic_store(&b->stop, true);
	for (size_t i = 0; i < 2; i++)
		NEED(pthread_join(b->t[i], NULL) == 0);
	NEED(atomic_load(&b->wrong) == 0);
	return 0;
}

#define MARK(p, i) ((volatile uint32_t *)(void *)((p) + PAGE) + (i))

struct generation { char *p; unsigned int depth; };

/* Each generation sees what its parents stored, stores, and is seen while they live. */
static int nested(void *arg)
{
	struct generation *g = arg, next = { g->p, g->depth + 1 };

	for (unsigned int i = 0; i < g->depth; i++)
		NEED(*MARK(g->p, i) == i + 1);
	*MARK(g->p, g->depth) = g->depth + 1;
	NEED(child_touch(g->p + LEN - CHUNK + g->depth * PAGE, 1) == 0);
	if (g->depth == 5)
		return 0;
	NEED(child_sub(nested, &next) == 0);
	NEED(*MARK(g->p, 5) == 6);
	return 0;
}

static int fork_nested(void *arg)
{
	struct generation g = { child_map(here.file, LEN), 0 };

	(void)arg;
	NEED(g.p != NULL);
	return nested(&g);
}

/* Parent and child at once: each waits for what the other one stores. */
static int answer(void *arg)
{
	char *p = arg;

	for (uint32_t i = 1; i <= 200; i++) {
		NEED(child_await(MARK(p, 16), i) == 0);
		*MARK(p, 32 + i % 8 * PAGE / 4) = i;
		*MARK(p, 17) = i;
	}
	return 0;
}

static int fork_talk(void *arg)
{
	char *p = child_map(here.file, LEN);
	pid_t pid;

	(void)arg;
	NEED(p != NULL);
	pid = pt_fork(answer, p);
	NEED(pid > 0);
	for (uint32_t i = 1; i <= 200; i++) {
		*MARK(p, 16) = i;
		NEED(child_await(MARK(p, 17), i) == 0);
		NEED(*MARK(p, 32 + i % 8 * PAGE / 4) == i);
		/* Blocks leave and come while both look at them. */
		NEED(fallocate(here.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(4 * PAGE),
			       (off_t)MIB) == 0);
	}
	NEED(pt_wait(pid, 120000) == 0);
	return 0;
}

#define FORKERS 3
#define FORKS 12

static int storm_child(void *arg)
{
	char *p = arg;

	NEED(*MARK(p, 0) == 77);
	(void)__atomic_add_fetch(MARK(p, 1), 1, __ATOMIC_SEQ_CST);
	NEED(child_touch(p + LEN - PAGE, 1) == 0);
	return 0;
}

static void *forker(void *arg)
{
	struct busy *b = arg;
	pid_t pid;

	for (int i = 0; i < FORKS; i++) {
		int rc;

		pid = fork();
		if (pid == 0)
			_exit(storm_child(b->p));
		rc = pid < 0 ? -1 : status_of(pid);
		if (rc != 0) {
			(void)dprintf(2, "child %d: status %d\n", (int)pid, rc);
			atomic_fetch_add(&b->wrong, 1);
		}
	}
	return NULL;
}

/* Threads that fork at the same time, beside threads that fault all the time. */
static int fork_storm(void *arg)
{
	struct busy b = { .p = child_map(here.file, LEN) };
	pthread_t t[FORKERS];

	(void)arg;
	NEED(b.p != NULL);
	NEED(busy_start(&b, b.p) == 0);
	*MARK(b.p, 0) = 77;
	*MARK(b.p, 1) = 0;		/* an earlier scene's */
	for (size_t i = 0; i < FORKERS; i++)
		NEED(pthread_create(&t[i], NULL, forker, &b) == 0);
	for (size_t i = 0; i < FORKERS; i++)
		NEED(pthread_join(t[i], NULL) == 0);
	NEED(*MARK(b.p, 1) == FORKERS * FORKS);
	return busy_end(&b);
}

static void forks(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(fork_nested, NULL);
	child_play(fork_talk, NULL);
	child_play(fork_storm, NULL);
	scene_strike();
}

#define MANY 150

/* More files than one message carries, and windows of several kinds. */
static int many_child(void *arg)
{
	char **p = arg;

	for (size_t i = 0; i < MANY; i++) {
		NEED(*(volatile char *)p[i] == (char)(i + 1));
		p[i][PAGE] = (char)(i + 2);
	}
	return 0;
}

static int fork_many(void *arg)
{
	char *p[MANY], name[32];
	int fd;

	(void)arg;
	for (size_t i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof name, "many%zu", i);
		fd = open(pt_path(here.fs, "%s", name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		NEED(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
		p[i] = child_map(fd, 2 * PAGE);
		NEED(p[i] != NULL);
		p[i][0] = (char)(i + 1);
		(void)close(fd);
	}
	NEED(child_sub(many_child, p) == 0);
	for (size_t i = 0; i < MANY; i++)
		NEED(p[i][PAGE] == (char)(i + 2));
	return 0;
}

static void many_files(void)
{
	if (!scene_set("window=1G", 0600))
		return;
	child_play(fork_many, NULL);
	scene_strike();
}

/* ---- vfork and what is made of it ---- */

static int in_vfork(void *arg)
{
	struct busy b = { .p = child_map(here.file, LEN) };
	const char *const argv[] = { "true", NULL };
	char line[16] = "";
	pid_t pid;
	FILE *f;

	(void)arg;
	NEED(b.p != NULL);
	NEED(busy_start(&b, b.p) == 0);
	for (int i = 0; i < 8; i++) {
		pid = vfork();			/* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
		if (pid == 0) {
			/* Our memory: a fault like any other. */
			*MARK(b.p, 1) = (uint32_t)i;	/* NOLINT(clang-analyzer-unix.Vfork) */
			b.p[LEN - PAGE] = (char)i;	/* NOLINT(clang-analyzer-unix.Vfork) */
			_exit(5);
		}
		NEED(status_of(pid) == 5);
		NEED(*MARK(b.p, 1) == (uint32_t)i && b.p[LEN - PAGE] == (char)i);
		NEED(posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0);
		NEED(status_of(pid) == 0);
		NEED(WEXITSTATUS(system("exit 3")) == 3);
		f = popen("echo said", "r");
		NEED(f != NULL && fgets(line, sizeof line, f) != NULL && strcmp(line, "said\n") == 0);
		NEED(pclose(f) == 0);
	}
	return busy_end(&b);
}

static void vforks(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(in_vfork, NULL);
	scene_strike();
}

/* ---- copies that no handler prepared ---- */

/* Old windows are SIGBUS memory, never stale blocks; old pins are the parent's; new windows are as good as any. */
static int in_bare(char *p, struct pinfs_pin *pin)
{
	char *q;

	NEED(child_touch(p, 0) == SIGBUS && child_touch(p + CHUNK, 1) == SIGBUS);
	NEED(pinfs_unpin(pin) == -ECHILD);
	NEED(pinfs_pin(p, PAGE, 0, &pin) < 0);
	q = child_map(here.file, LEN);
	NEED(q != NULL && *(volatile char *)q == 'b');
	q[1] = 'c';
	NEED(pinfs_pin(q, PAGE, PINFS_PIN_WRITE, &pin) == 0 && pinfs_unpin(pin) == 0);
	NEED(munmap(q, LEN) == 0 && munmap(p, LEN) == 0);
	return 0;
}

struct bare { char *p; struct pinfs_pin *pin; };

static int bare_main(void *arg)
{
	const struct bare *b = arg;

	return in_bare(b->p, b->pin);
}

static int bare_setup(struct bare *b)
{
	b->p = child_map(here.file, LEN);
	NEED(b->p != NULL);
	b->p[0] = 'b';
	b->p[CHUNK] = 'b';
	NEED(pinfs_pin(b->p, PAGE, PINFS_PIN_WRITE, &b->pin) == 0);
	return 0;
}

static int bare_after(const struct bare *b, pid_t pid)
{
	NEED(pid > 0);
	NEED(status_of(pid) == 0);
	NEED(b->p[1] == 'c');
	b->p[CHUNK + 1] = 'd';
	NEED(pinfs_unpin(b->pin) == 0);
	return 0;
}

static int by_Fork(void *arg)
{
	struct bare b = { .p = NULL };
	pid_t pid;

	(void)arg;
	NEED(bare_setup(&b) == 0);
	pid = _Fork();
	if (pid == 0)
		_exit(in_bare(b.p, b.pin));
	return bare_after(&b, pid);
}

static int by_clone(void *arg)
{
	static char stack[256 << 10] __attribute__((aligned(16)));
	struct bare b = { .p = NULL };

	(void)arg;
	NEED(bare_setup(&b) == 0);
	return bare_after(&b, clone(bare_main, stack + sizeof stack, SIGCHLD, &b));
}

/* Past the library: it finds out at its first call, here pinfs_unpin(). */
static int by_syscall(void *arg)
{
	struct bare b = { .p = NULL };
	long pid;

	(void)arg;
	NEED(bare_setup(&b) == 0);
	pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		struct pinfs_pin *mine;

		if (pinfs_pin(b.p, PAGE, PINFS_PIN_WRITE, &mine) != -EFAULT)
			_exit(9);
		_exit(in_bare(b.p, b.pin));
	}
	return bare_after(&b, (pid_t)pid);
}

static int by_syscall_storm(void *arg)
{
	struct busy b = { .p = child_map(here.file, LEN) };
	long pid;

	(void)arg;
	NEED(b.p != NULL && busy_start(&b, b.p) == 0);
	for (int i = 0; i < 50; i++) {
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			/* Whatever moment the copy was made at: no hang, no crash, a window. */
			char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, here.file, 0);

			_exit(q == MAP_FAILED || child_touch(q, 0) != 0);
		}
		NEED(pid > 0 && status_of((pid_t)pid) == 0);
	}
	return busy_end(&b);
}

static void bare_copies(void)
{
	if (!scene_set(NULL, 0600))
		return;
	child_play(by_Fork, NULL);
	CU_ASSERT(strstr(child_said(), "made by clone() or _Fork(): 1 windows give SIGBUS") != NULL);
	child_play(by_clone, NULL);
	CU_ASSERT(strstr(child_said(), "made by clone() or _Fork(): 1 windows give SIGBUS") != NULL);
	child_play(by_syscall, NULL);
	CU_ASSERT(strstr(child_said(), "made by clone() or _Fork(): 1 windows give SIGBUS") != NULL);
	child_play(by_syscall_storm, NULL);
	scene_strike();
}

/* ---- clone(CLONE_VM): another process in the same memory ---- */

static int in_same_memory(void *arg)
{
	char *p = arg;

	for (size_t at = 0; at < LEN; at += CHUNK)
		p[at + PAGE / 2] = 'v';
	return 7;
}

static int same_memory(void *arg)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	char *p = child_map(here.file, LEN);
	pid_t pid;

	(void)arg;
	NEED(p != NULL);
	pid = clone(in_same_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, p);
	NEED(pid > 0);
	NEED(status_of(pid) == 7);
	for (size_t at = 0; at < LEN; at += CHUNK)
		NEED(p[at + PAGE / 2] == 'v');
	return 0;
}

static void clone_vm(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(same_memory, NULL);
	CU_ASSERT(strstr(child_said(), "clone(CLONE_VM)") != NULL);
	scene_strike();
}

/* ---- exec ---- */

static int ready[2], stay[2];

static int pin_and_exec(void *arg)
{
	char *p = child_map(here.file, LEN);
	struct pinfs_pin *pin;

	(void)arg;
	NEED(p != NULL && pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &pin) == 0);
	NEED(write(ready[1], "p", 1) == 1);
	NEED(dup2(stay[0], 0) == 0);
	(void)close(stay[1]);
	/* It sleeps until this test ends it; the pin and the windows are gone at once. */
	NEED(execlp("sh", "sh", "-c", "read x", NULL) == 0);
	return 0;
}

static void execs(void)
{
	char c;
	pid_t pid;

	if (!scene_set(NULL, 0600))
		return;
	PT_SYS(pipe2(ready, O_CLOEXEC));
	PT_SYS(pipe2(stay, O_CLOEXEC));
	pid = child_start(pin_and_exec, NULL);
	PT_EQ(read(ready[0], &c, 1), 1);
	PT_SYS(ftruncate(here.file, 0));	/* waits for the exec to come, and no longer */
	PT_EQ(kill(pid, 0), 0);
	PT_EQ(write(stay[1], "\n", 1), 1);
	PT_EQ(child_end(pid), 0);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(stay[i]);
	}
	scene_strike();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "fork", forks, 0 },
		{ "fork with many files", many_files, 0 },
		{ "vfork, posix_spawn, system, popen", vforks, 0 },
		{ "_Fork and clone", bare_copies, 0 },
		{ "clone with CLONE_VM", clone_vm, 0 },
		{ "exec", execs, 0 },
	};
	static const struct pt_suite suites[] = { { "process", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
