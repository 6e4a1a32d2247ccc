/* SPDX-License-Identifier: BSD-3-Clause */
/* batch.c - see batch.h. Owns the shared page and the log file of the child that runs. */
#include "fuzz/batch.h"

#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CPU_SECONDS 120		/* for one item: a loop without end, also under a sanitizer */
#define SECONDS 300		/* a wait without end; generous, as the machine may be busy */
#define BATCH 200U		/* items for one child */
#define FAILURES_MAX 20U

static struct told {
	uint64_t item;
	bool wrong;
	char what[256];
	uint64_t count[FZ_COUNTERS];
} *told;
uint64_t *fz_count;

void fz_batch_reset(void)
{
	if (told == NULL) {
		told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (told == MAP_FAILED)
			abort();
		fz_count = told->count;
	}
	memset(told, 0, sizeof *told);
}

uint64_t fz_env(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0' ? strtoull(v, NULL, 0) : otherwise;
}

void fz_seed(struct fz_rng *r, uint64_t seed)
{
	r->s = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	if (r->s == 0)
		r->s = 1;
	for (int i = 0; i < 4; i++)
		(void)fz_rnd(r);
}

uint64_t fz_rnd(struct fz_rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * UINT64_C(0x2545f4914f6cdd1d);
}

static void run_item(fz_item_fn fn, uint64_t item, FILE *log)
{
	const struct itimerval cpu = { .it_value = { .tv_sec = CPU_SECONDS } };
	const struct itimerval limit = { .it_value = { .tv_sec = SECONDS } };
	const char *what;

	told->item = item;
	(void)setitimer(ITIMER_PROF, &cpu, NULL);
	(void)setitimer(ITIMER_REAL, &limit, NULL);
	rewind(log);
	if (ftruncate(fileno(log), 0) != 0)
		_exit(2);
	what = fn(item, log);
	(void)fflush(log);
	if (what != NULL) {
		told->wrong = true;
		(void)snprintf(told->what, sizeof told->what, "%s", what);
		_exit(1);
	}
}

/* The end of what the child had to say. */
static void print_tail(FILE *f)
{
	static char buf[6000];
	long end;
	size_t n;

	(void)fseek(f, 0, SEEK_END);
	end = ftell(f);
	(void)fseek(f, end > (long)sizeof buf - 1 ? end - ((long)sizeof buf - 1) : 0, SEEK_SET);
	n = fread(buf, 1, sizeof buf - 1, f);
	buf[n] = '\0';
	(void)printf("%s\n", buf);
}

/* Items [from, to) in one child. Returns the item to go on with. */
static uint64_t run_child(fz_item_fn fn, uint64_t from, uint64_t to, const char *again)
{
	FILE *log = tmpfile();
	int status;
	pid_t pid;

	CU_ASSERT_PTR_NOT_NULL_FATAL(log);
	told->wrong = false;
	told->item = from;
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		/* Both append, so neither writes over the other. */
		if (fcntl(fileno(log), F_SETFL, O_APPEND) != 0 || dup2(fileno(log), STDERR_FILENO) < 0)
			_exit(2);
		for (uint64_t item = from; item < to; item++)
			run_item(fn, item, log);
		_exit(0);
	}
	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		(void)fclose(log);
		return to;
	}
	(void)printf("\nitem %" PRIu64 ": ", told->item);
	if (told->wrong)
		(void)printf("%s", told->what);
	else if (!WIFSIGNALED(status))
		(void)printf("exit status %d", WEXITSTATUS(status));
	else
		(void)printf("%s", WTERMSIG(status) == SIGALRM	? "waits for ever" :
				   WTERMSIG(status) == SIGPROF	? "loops for ever" :
								  strsignal(WTERMSIG(status)));
	(void)printf(" (%s%" PRIu64 ")\n", again, told->item);
	print_tail(log);
	(void)fclose(log);
	CU_FAIL("an item failed");
	return told->item + 1;
}

void fz_batch(fz_item_fn fn, uint64_t from, uint64_t to, const char *again)
{
	unsigned int failures = CU_get_number_of_failures();

	if (told == NULL)
		fz_batch_reset();
	while (from < to && CU_get_number_of_failures() < failures + FAILURES_MAX)
		from = run_child(fn, from, to - from < BATCH ? to : from + BATCH, again);
}
