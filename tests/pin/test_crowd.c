/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crowd.c - 64 processes on one file: what one has stored, written, cut or added, all others see when its call
 * returns, through their windows and through read(2).
 *
 * In the first play a conductor gives one process after the other something to do, does the same to a model of the file
 * in memory, and lets all of them compare: around the place of the change, at random places, and behind the end of the
 * file, where a load has to be SIGBUS. Eight of them never map anything, as programs without the library.
 *
 * In the second one all store at once, each to its own byte of the same lines, while others punch and truncate what
 * lies behind. No store may be lost, and no byte may be seen to go back.
 *
 * PINFS_SEED takes another seed; PINFS_LONG=1 makes it longer. The twins have a wrong byte in the model, and a process
 * that now and then stores an old value: all, or somebody, must notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/types.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define CROWD 64U
#define PLAIN 8U			/* the last ones have no windows */
#define CUTTERS 4U			/* second play: the last but those */
#define ROOM (UINT64_C(6) << 20)	/* the file is never longer */
#define PAGE UINT64_C(4096)
#define PAGES 64U			/* second play: stored to */
#define SAYS 8U
#define WAIT_MS 200000

enum what { W_STORE, W_WRITE, W_APPEND, W_TRUNCATE, W_PUNCH, W_ZERO, W_NR };

struct stage {
	pthread_barrier_t barrier;
	char path[512];
	uint64_t seed;
	/* First play */
	bool over, lie;
	enum what what;
	unsigned int who, scanner;
	uint64_t off, len, size;
	uint8_t byte;
	/* Second play */
	unsigned int stores;
	bool goes_back;
	_Atomic uint8_t last[PAGES][CROWD];
	/* Both */
	_Atomic unsigned int wrong;
	_Atomic unsigned int said;
	char say[SAYS][160];
	uint8_t model[ROOM];
};

static struct stage *st;

struct player { unsigned int me; uint64_t seed; int fd; uint8_t *map; uint8_t *buf; };

static sigjmp_buf escape;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(escape, 1);
}

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static PF_PRINTF(2, 3) void wrong(const struct player *p, const char *fmt, ...)
{
	unsigned int i = atomic_fetch_add(&st->said, 1);
	char text[128];
	va_list ap;

	atomic_fetch_add(&st->wrong, 1);
	if (i >= SAYS)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)snprintf(st->say[i], sizeof st->say[i], "process %u: %s", p->me, text);
}

/* The byte, or -1: SIGBUS. */
static int load(const uint8_t *at)
{
	if (sigsetjmp(escape, 1) != 0)
		return -1;
	return *(const volatile uint8_t *)at;
}

static bool has_windows(const struct player *p)
{
	return p->me < CROWD - PLAIN;
}

static void join(struct player *p, unsigned int me)
{
	struct sigaction bus = { .sa_handler = on_bus };

	*p = (struct player){ .me = me, .seed = st->seed * 2654435761U + me + 1 };
	p->fd = open(st->path, O_RDWR | O_CLOEXEC);
	(void)sigaction(SIGBUS, &bus, NULL);
	p->buf = malloc(ROOM);
	if (p->fd < 0 || p->buf == NULL)
		wrong(p, "open: %s", strerror(errno));
	if (!has_windows(p))
		return;
	p->map = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->map == MAP_FAILED)
		wrong(p, "mmap: %s", strerror(errno));
}

/* --- the first play --- */

/* System calls are bare: what a program without the library does. */
static void act(struct player *p)
{
	const uint64_t off = st->off, len = st->len;
	long rc = 0;
	int fd;

	memset(p->buf, st->byte, len);
	switch (st->what) {
	case W_STORE:
		memset(p->map + off, st->byte, len);
		break;
	case W_WRITE:
		rc = syscall(SYS_pwrite64, p->fd, p->buf, len, off) == (long)len ? 0 : -1;
		break;
	case W_APPEND:
		fd = open(st->path, O_WRONLY | O_APPEND | O_CLOEXEC);
		rc = syscall(SYS_write, fd, p->buf, len) == (long)len ? 0 : -1;
		(void)close(fd);
		break;
	case W_TRUNCATE:
		rc = syscall(SYS_ftruncate, p->fd, off);
		break;
	case W_PUNCH:
		rc = syscall(SYS_fallocate, p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
		break;
	case W_ZERO:
		rc = syscall(SYS_fallocate, p->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len);
		break;
	case W_NR:
		break;
	}
	if (rc != 0)
		wrong(p, "operation %d at %llu: %s", st->what, (unsigned long long)off, strerror(errno));
}

static void compare_at(struct player *p, uint64_t at)
{
	const uint64_t end = pf_round_up(st->size, PAGE);
	const int want = at < st->size ? st->model[at] : at < end ? 0 : -1;
	uint8_t byte = 0;
	long n;
	int got;

	if (at >= ROOM)
		return;
	n = syscall(SYS_pread64, p->fd, &byte, 1, at);
	if (n != (at < st->size) || (n == 1 && byte != want))
		wrong(p, "read of %llu: %ld, %u, expected %d", (unsigned long long)at, n, byte, want);
	if (!has_windows(p))
		return;
	got = load(p->map + at);
	if (got != want)
		wrong(p, "load of %llu: %d, expected %d (size %llu)", (unsigned long long)at, got, want,
		      (unsigned long long)st->size);
}

static void compare(struct player *p)
{
	struct stat s;

	if (fstat(p->fd, &s) != 0 || (uint64_t)s.st_size != st->size)
		wrong(p, "size %lld, expected %llu", (long long)s.st_size, (unsigned long long)st->size);
	compare_at(p, st->off);
	compare_at(p, st->off + st->len - 1);
	compare_at(p, st->off + st->len);
	if (st->off != 0)
		compare_at(p, st->off - 1);
	compare_at(p, st->size);
	compare_at(p, pf_round_up(st->size, PAGE));
	for (int i = 0; i < 3; i++)
		compare_at(p, rnd(&p->seed) % ROOM);
	if (p->me != st->scanner)
		return;
	if (has_windows(p) && memcmp(p->map, st->model, st->size) != 0)
		wrong(p, "the window is not as the model");
	if (syscall(SYS_pread64, p->fd, p->buf, ROOM, 0) != (long)st->size || memcmp(p->buf, st->model, st->size) != 0)
		wrong(p, "the file is not as the model");
}

static int play(void *arg)
{
	struct player p;

	join(&p, *(const unsigned int *)arg);
	for (;;) {
		(void)pthread_barrier_wait(&st->barrier);
		if (st->over)
			break;
		if (st->who == p.me)
			act(&p);
		(void)pthread_barrier_wait(&st->barrier);
		(void)pthread_barrier_wait(&st->barrier);
		compare(&p);
		(void)pthread_barrier_wait(&st->barrier);
	}
	free(p.buf);
	return 0;
}

/* What comes next, and what it makes of the model. Behind the end of the file there are always zeros. */
static void compose(uint64_t *seed)
{
	st->what = (enum what)(rnd(seed) % W_NR);
	st->who = (unsigned int)(rnd(seed) % (st->what == W_STORE ? CROWD - PLAIN : CROWD));
	st->scanner = (unsigned int)(rnd(seed) % CROWD);
	st->byte = (uint8_t)(1 + rnd(seed) % 255);
	st->off = rnd(seed) % ROOM;
	st->len = 1 + rnd(seed) % (rnd(seed) % 8 == 0 ? UINT64_C(3) << 20 : 3 * PAGE);
	if (st->what == W_STORE && (st->size == 0 || st->off >= st->size))
		st->off = st->size == 0 ? 0 : rnd(seed) % st->size;
	if (st->what == W_STORE && st->size == 0)
		st->what = W_WRITE;
	if (st->what == W_APPEND)
		st->off = st->size;
	if (st->what == W_APPEND && st->off == ROOM) {
		st->what = W_TRUNCATE;
		st->off = rnd(seed) % ROOM;
	}
	if (st->len > ROOM - st->off)
		st->len = ROOM - st->off;
	if (st->what == W_STORE && st->len > st->size - st->off)
		st->len = st->size - st->off;
}

static void apply(void)
{
	const uint64_t end = st->off + st->len;

	switch (st->what) {
	case W_STORE:
	case W_WRITE:
	case W_APPEND:
		memset(st->model + st->off, st->byte, st->len);
		st->size = pf_max64(st->size, end);
		break;
	case W_TRUNCATE:
		if (st->off < st->size)
			memset(st->model + st->off, 0, st->size - st->off);
		st->size = st->off;
		break;
	case W_PUNCH:
	case W_ZERO:
		if (st->off < st->size)
			memset(st->model + st->off, 0, pf_min64(end, st->size) - st->off);
		break;
	case W_NR:
		break;
	}
}

static struct pt_fs *set_stage(const char *opts, uint64_t size)
{
	const char *env = getenv("PINFS_SEED");
	pthread_barrierattr_t attr;
	struct pt_fs *fs;
	int fd;

	if (!pt_need_mount())
		return NULL;
	fs = pt_fs_start("64M", opts);
	st = mmap(NULL, sizeof *st, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(st != MAP_FAILED);
	(void)pthread_barrierattr_init(&attr);
	(void)pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	(void)pthread_barrier_init(&st->barrier, &attr, CROWD + 1);
	(void)pthread_barrierattr_destroy(&attr);
	st->seed = env != NULL && strtoull(env, NULL, 0) != 0 ? strtoull(env, NULL, 0) : 64;
	(void)snprintf(st->path, sizeof st->path, "%s", pt_path(fs, "file"));
	fd = open(st->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_SYS(ftruncate(fd, (off_t)size));
	st->size = size;
	(void)close(fd);
	return fs;
}

static void begin(int (*fn)(void *), pid_t *pid)
{
	static unsigned int nr[CROWD];

	for (unsigned int i = 0; i < CROWD; i++) {
		nr[i] = i;
		pid[i] = pt_fork(fn, &nr[i]);
		CU_ASSERT_FATAL(pid[i] > 0);
	}
}

static void end(struct pt_fs *fs, const pid_t *pid, bool quiet)
{
	for (unsigned int i = 0; i < CROWD; i++)
		PT_EQ(pt_wait(pid[i], WAIT_MS), 0);
	for (unsigned int i = 0; i < SAYS && i < atomic_load(&st->said) && !quiet; i++)
		pt_say("%s", st->say[i]);
	(void)pthread_barrier_destroy(&st->barrier);
	(void)munmap(st, sizeof *st);
	pt_fs_end(fs);
}

static void by_model(bool lie)
{
	const unsigned int acts = lie ? 3 : getenv("PINFS_LONG") != NULL ? 20000 : 100;
	struct pt_fs *fs = set_stage(NULL, 3 * PAGE + 100);
	pid_t pid[CROWD];
	uint64_t seed;

	if (fs == NULL)
		return;
	seed = st->seed;
	begin(play, pid);
	for (unsigned int i = 0; i < acts && (lie || atomic_load(&st->wrong) == 0); i++) {
		compose(&seed);
		(void)pthread_barrier_wait(&st->barrier);
		apply();
		(void)pthread_barrier_wait(&st->barrier);
		if (lie && i == acts - 1) {
			/* Everybody looks at the byte in front of the end. */
			st->off = 0;
			st->len = 1;
			st->model[0] ^= 1;
		}
		(void)pthread_barrier_wait(&st->barrier);
		(void)pthread_barrier_wait(&st->barrier);
	}
	st->over = true;
	(void)pthread_barrier_wait(&st->barrier);
	CU_ASSERT(lie ? atomic_load(&st->wrong) >= CROWD : atomic_load(&st->wrong) == 0);
	end(fs, pid, lie);
}

static void model(void) { by_model(false); }
static void twin_model(void) { by_model(true); }

/* --- the second play --- */

#define CUT_FROM (UINT64_C(1) << 20)

static void cut_behind(struct player *p)
{
	for (unsigned int i = 0; i < st->stores / 10; i++) {
		const uint64_t at = CUT_FROM + rnd(&p->seed) % (ROOM - CUT_FROM);
		long rc;

		switch (rnd(&p->seed) % 3) {
		case 0:
			rc = syscall(SYS_ftruncate, p->fd, at);
			break;
		case 1:
			rc = syscall(SYS_fallocate, p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     PAGES * PAGE + rnd(&p->seed) % (CUT_FROM - PAGES * PAGE), at);
			break;
		default:
			rc = syscall(SYS_pwrite64, p->fd, p->buf, 3 * PAGE, at) < 0 ? -1 : 0;
			break;
		}
		if (rc != 0)
			wrong(p, "behind: %s", strerror(errno));
	}
}

/* Somebody's byte, by one way or the other; it is never less than what was seen of it before. */
static void watch(struct player *p, uint8_t seen[PAGES][CROWD])
{
	const unsigned int page = (unsigned int)(rnd(&p->seed) % PAGES), who = (unsigned int)(rnd(&p->seed) % CROWD);
	const uint64_t at = page * PAGE + who;
	uint8_t byte = 0;

	if (has_windows(p) && rnd(&p->seed) % 2 == 0)
		byte = *(volatile uint8_t *)(p->map + at);
	else if (syscall(SYS_pread64, p->fd, &byte, 1, at) != 1)
		wrong(p, "read: %s", strerror(errno));
	if (byte < seen[page][who])
		wrong(p, "byte of %u in page %u is %u and was %u", who, page, byte, seen[page][who]);
	seen[page][who] = byte;
}

static int crowd(void *arg)
{
	static uint8_t seen[PAGES][CROWD], mine[PAGES];
	struct player p;

	join(&p, *(const unsigned int *)arg);
	(void)pthread_barrier_wait(&st->barrier);
	if (p.me >= CROWD - PLAIN - CUTTERS && p.me < CROWD - PLAIN)
		cut_behind(&p);
	for (unsigned int i = 0; i < st->stores; i++) {
		const unsigned int page = (unsigned int)(rnd(&p.seed) % PAGES);
		const uint64_t at = page * PAGE + p.me;

		if (mine[page] == 255)
			continue;
		mine[page]++;
		if (has_windows(&p))
			*(volatile uint8_t *)(p.map + at) = mine[page];
		else if (syscall(SYS_pwrite64, p.fd, &mine[page], 1, at) != 1)
			wrong(&p, "write: %s", strerror(errno));
		if (st->goes_back && p.me == 0 && i % 8 == 7)
			*(volatile uint8_t *)(p.map + at) = 0;
		watch(&p, seen);
	}
	for (unsigned int page = 0; page < PAGES; page++)
		atomic_store(&st->last[page][p.me], mine[page]);
	(void)pthread_barrier_wait(&st->barrier);
	(void)pthread_barrier_wait(&st->barrier);
	/* Whatever was stored is there, for everybody. */
	if (syscall(SYS_pread64, p.fd, p.buf, PAGES * PAGE, 0) != (long)(PAGES * PAGE))
		wrong(&p, "read: %s", strerror(errno));
	for (unsigned int page = 0; page < PAGES; page++)
		for (unsigned int who = 0; who < CROWD; who++) {
			const uint64_t at = page * PAGE + who;
			const uint8_t want = atomic_load(&st->last[page][who]);

			if (p.buf[at] != want || (has_windows(&p) && p.map[at] != want))
				wrong(&p, "byte of %u in page %u is %u, stored was %u", who, page, p.buf[at], want);
		}
	(void)pthread_barrier_wait(&st->barrier);
	free(p.buf);
	return 0;
}

static void at_once(bool goes_back)
{
	struct pt_fs *fs = set_stage(NULL, ROOM);
	pid_t pid[CROWD];

	if (fs == NULL)
		return;
	st->stores = goes_back ? 100 : getenv("PINFS_LONG") != NULL ? 10000 : 400;
	st->goes_back = goes_back;
	begin(crowd, pid);
	for (int i = 0; i < 4; i++)
		(void)pthread_barrier_wait(&st->barrier);
	CU_ASSERT(goes_back ? atomic_load(&st->wrong) >= CROWD : atomic_load(&st->wrong) == 0);
	end(fs, pid, goes_back);
}

static void stores(void) { at_once(false); }
static void twin_stores(void) { at_once(true); }

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "by a model", model, 1200 },
		{ "twin: a wrong byte in the model", twin_model, 120 },
		{ "all at once", stores, 600 },
		{ "twin: one stores old values", twin_stores, 120 },
	};
	static const struct pt_suite suite = { "crowd", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
