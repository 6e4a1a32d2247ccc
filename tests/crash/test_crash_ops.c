/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_ops.c - power loss at every fence of every operation, of every ordered pair of them, and of random
 * sequences; each state that a crash could leave is mounted, checked and compared with a model (engine.h, judge.c).
 *
 * As a part of `make check`: a slice, always the same one. `make crash` (--seconds N) goes on with other seeds for as
 * long as it is told. What fails prints a line that does it again (--run).
 */
#include "harness/unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "crash/engine.h"
#include "crash/model_impl.h"

/* Each succeeds at the beginning (engine.c), and most after any other one. */
static const char *const singles[] = {
	"create /d/new", "mkdir /d/new", "symlink /e/new some/where", "symlink /e/long @2000", "mknod /e/new 20640 261",
	"link /f /d/sub/again",
	"unlink /g", "unlink /d/x", "unlink /p", "rmdir /e",
	"rename /d/s /d/t", "rename /f /e/moved", "rename /f /g", "rename /g /f", "rename /d/sub /e/sub",
	"rename /d/sub /e", "rename /l /d/x", "exchange /f /o/z", "exchange /d/sub /g", "exchange /d /o",
	"write /empty 0 12293", "write /f 12388 3000", "write /f 12388 40000", "write /f 81929 8192",
	"write /h 8242 122880", "write /u 8242 30000", "write /k 4000 9000", "write /p 96 20480", "write /f 96 20000",
	"truncate /f 0", "truncate /f 5000", "truncate /p 40960", "truncate /f 100001", "truncate /g 12000",
	"truncate /k 100",
	"falloc /f 4096 122880", "falloc /h 4096 90000", "keep /f 40960 36864", "punch /p 8192 20480",
	"punch /p 5000 30000",
	"zero /p 4000 50000", "zerokeep /p 8192 8192", "zero /f 10000 30000",
	"copy /f 0 /g 10 12000", "copy /h 0 /empty 0 100000", "copy /p 100 /p 45000 20000",
	"chmod /d/x 600", "chown /d/sub 7 8", "utimes /f 12345", "store /p 5000 9000",
	"fault /u 4096 30000", "fault /h 0 163840", "collapse /p 4096 16384", "insert /p 8192 12288",
	"collapse /h 16384 8192",
	"insert /u 4096 4096", "unshare /h 0 90000", "whiteout /f /e/moved", "whiteout /d/sub /e",
	"tmpfile /e /d/named",
	"setxattr /f trusted.a 100", "setxattr /d trusted.b 5000", "setxattr /g trusted.a 900",
	"hold /p; unlink /p", "hold /p; rename /f /p", "hold /p; unlink /p; drop", "remount",
};

/* What needs a stage of its own. */
static const char *const staged[] = {
	"names / 43 | create /x1; create /x2; create /x3; create /x4; create /x5; create /x6; create /x7; create /x8",
	"names / 485 | create /more; mkdir /more2; unlink /more; create /more3",
	"create /s; sparse /s 1500 | unlink /s",
	"create /s; sparse /s 1500 | hold /s; unlink /s; drop",
	"create /s; sparse /s 1500 | truncate /s 28672; truncate /s 40000",
	"create /s; sparse /s 1500 | punch /s 4096 11878400; write /s 5000 20000",
	"create /s; sparse /s 3600 | zero /s 4095 29000000",
	"create /s; sparse /s 700; create /t | rename /s /t; write /t 4096 4096; rename /f /t",
	"create /s; sparse /s 1500 | punch /s 4096 5000000; remount; truncate /s 100",
	"create /s; sparse /s 3600 | collapse /s 40960 409600; write /s 5000 20000",
	"create /s; sparse /s 3600 | insert /s 8192 4096; hold /s; truncate /s 40960; unlink /s; drop",
	"setxattr /f trusted.a 1000; setxattr /f trusted.b 9000; setxattr /f trusted.c 3000 | setxattr /f trusted.a 12",
	"setxattr /f trusted.b 9000; setxattr /f trusted.c 3000 | setxattr /f trusted.b 20000;\
	 rmxattr /f trusted.c; setxattr /f trusted.d 1024; rmxattr /f trusted.b; hold /f; unlink /f; drop",
	/* What was cut off must not come back when the file grows over it. */
	"truncate /f 5000; truncate /f 20000 | write /f 15000 10; truncate /f 4097; write /f 9000 100",
	"clock 0 | write /p 0 8192; write /p 8192 100; write /p 9000 4096",
	"mkdir /d/1; mkdir /d/1/2 | rename /d/1/2 /2; rename /d/1 /2/1; rename /2 /e; exchange /e/1 /d",
	"hold /f; unlink /f; hold /g; unlink /g; hold /p; rename /k /p | drop; remount",
};

static bool read_one(struct script *s, const char *text)
{
	memset(s, 0, sizeof *s);
	return script_read(s, text);
}

static void run_text(struct engine *e, const char *text)
{
	struct script *s = calloc(1, sizeof *s);

	if (s == NULL || !read_one(s, text))
		abort();
	(void)engine_run(e, s);
	free(s);
}

/* @first, then @second, of which each moment is looked at. */
static void run_pair(struct engine *e, const char *first, const char *second)
{
	struct script *s = calloc(1, sizeof *s);
	int n;

	if (s == NULL || !read_one(s, first))
		abort();
	n = s->n;
	if (!script_read(s, second))
		abort();
	/* What the first one does is looked at where it is alone; what it left is part of each image of the second. */
	e->only_op = s->n == n + 1 ? (unsigned int)n + 1 : 0;
	(void)engine_run(e, s);
	e->only_op = 0;
	free(s);
}

static void run_random(struct engine *e, uint64_t seed, int n)
{
	struct script *s = calloc(1, sizeof *s);
	struct model *m = engine_model();

	if (s == NULL)
		abort();
	script_random(s, n, seed, m);
	e->seed = seed;
	(void)engine_run(e, s);
	model_free(m);
	free(s);
}

static void say(const struct engine *e)
{
	(void)printf("%" PRIu64 " states (%" PRIu64 " of them crashes of a mount), %" PRIu64 " fences, %" PRIu64
		     " operations in %" PRIu64 " sequences, ",
		     e->states + e->nested, e->nested, e->fences, e->ops, e->scripts);
}

/* ---- the slice ---- */

static void test_singles(void)
{
	struct engine e = { .subsets = 4, .deep = 32, .seed = 1 };

	for (size_t i = 0; i < PF_ARRAY_LEN(singles); i++)
		run_text(&e, singles[i]);
	say(&e);
	CU_ASSERT_EQUAL(e.bad, 0);
	CU_ASSERT(e.states > e.fences && e.fences > PF_ARRAY_LEN(singles));
}

static void test_staged(void)
{
	struct engine e = { .subsets = 1, .deep = 128, .seed = 1 };

	for (size_t i = 0; i < PF_ARRAY_LEN(staged); i++)
		run_text(&e, staged[i]);
	say(&e);
	CU_ASSERT_EQUAL(e.bad, 0);
}

static void test_pairs(void)
{
	struct engine e = { .deep = 0, .seed = 1 };

	for (size_t i = 0; i < PF_ARRAY_LEN(singles); i++)
		for (size_t k = i % 8; k < PF_ARRAY_LEN(singles); k += 8)
			run_pair(&e, singles[i], singles[k]);
	say(&e);
	CU_ASSERT_EQUAL(e.bad, 0);
}

static void test_random(void)
{
	struct engine e = { .subsets = 1, .deep = 64 };

	for (uint64_t seed = 1; seed <= 5; seed++)
		run_random(&e, seed, 40);
	say(&e);
	CU_ASSERT_EQUAL(e.bad, 0);
}

/* ---- for as long as one likes ---- */

static time_t now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Random sequences, with one of the pairs after each: in an order of their own, so that all come about. */
static struct engine go_on(unsigned int seconds, uint64_t seed)
{
	const size_t n = PF_ARRAY_LEN(singles);
	struct engine e = { .subsets = 3, .deep = 48 };
	const time_t start = now_s();

	for (uint64_t i = 0; now_s() - start < (time_t)seconds; i++) {
		uint64_t pair = (seed + i) * 1009 % (n * n);	/* a prime that does not divide it */

		run_random(&e, seed + i, 10 + (int)(i % 60));
		run_pair(&e, singles[pair / n], singles[pair % n]);
	}
	return e;
}

/* A process for each processor, with seeds of its own; the sums. */
static int go_on_all(unsigned int seconds, uint64_t seed, unsigned int jobs)
{
	struct engine sum = { 0 }, one;
	unsigned int ended = 0;
	int fds[2];

	(void)printf("seeds from %" PRIu64 ", %u s, %u processes\n", seed, seconds, jobs);
	(void)fflush(stdout);
	if (pipe(fds) != 0)
		return 1;
	for (unsigned int i = 0; i < jobs; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			one = go_on(seconds, seed + i * UINT64_C(1000000));
			_exit(write(fds[1], &one, sizeof one) != (ssize_t)sizeof one);
		}
		if (pid < 0)
			return 1;
	}
	(void)close(fds[1]);
	while (read(fds[0], &one, sizeof one) == (ssize_t)sizeof one) {	/* less than PIPE_BUF: in one piece */
		sum.states += one.states;
		sum.nested += one.nested;
		sum.fences += one.fences;
		sum.ops += one.ops;
		sum.scripts += one.scripts;
		sum.bad += one.bad;
		ended++;
	}
	(void)close(fds[0]);
	for (unsigned int i = 0; i < jobs; i++)
		(void)wait(NULL);
	say(&sum);
	(void)printf("\n%s\n", ended < jobs ? "FAILED: a process died" : sum.bad ? "FAILED" : "ok");
	return ended < jobs || sum.bad != 0;
}

int main(int argc, char **argv)
{
	static const struct unit_case cases[] = {
		{ "every operation", test_singles },
		{ "big files, full leaves and clusters", test_staged },
		{ "pairs of operations", test_pairs },
		{ "random sequences", test_random },
	};
	struct engine e = { .subsets = 4, .deep = 16, .seed = 1 };
	const char *run = NULL;
	unsigned int seconds = 0, jobs = 1;
	bool seeded = false;
	int rc;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seed") == 0) {
			e.seed = strtoull(argv[i + 1], NULL, 10);
			seeded = true;
		} else if (strcmp(argv[i], "--jobs") == 0)
			jobs = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--subsets") == 0)
			e.subsets = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--deep") == 0)
			e.deep = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--run") == 0)
			run = argv[i + 1];
	}
	pf_log_init("crash", PF_LOG_ERR, false);
	engine_init();
	if (seconds != 0) {
		rc = go_on_all(seconds, seeded ? e.seed : (uint64_t)time(NULL) * 1000, jobs);
	} else if (run != NULL) {
		run_text(&e, run);
		say(&e);
		(void)printf("\n%s\n", e.bad ? "FAILED" : "ok");
		rc = e.bad != 0;
	} else {
		rc = unit_main("crash/ops", cases, PF_ARRAY_LEN(cases));
	}
	engine_fini();
	return rc;
}
