/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race.c - see race.h. A race is run a fixed number of times, and the answer says what may never be seen in any of
 * them.
 */
#include "conform/race.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "conform/scratch.h"

#define RW (PROT_READ | PROT_WRITE)
#define ROUNDS 32

struct statx now_of(struct cf *c, int fd)
{
	struct statx sx;

	/* A mount that keeps attributes is asked for new ones. */
	CF_SYS(c, syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx));
	return sx;
}

uint64_t blocks_of(struct cf *c, int fd) { return now_of(c, fd).stx_blocks / (CF_PAGE / 512); }

void *private_map(struct cf *c, int fd, size_t len)
{
	void *p = mmap(NULL, len, RW, MAP_PRIVATE, fd, 0);

	CF_MUST(c, p != MAP_FAILED);
	return p;
}

/*
 * @n threads (at most 4) run @fn once in each round and begin it together: the round is the only thing that they wait
 * for.
 */
struct race {
	struct cf *c;
	char *p, *q;
	int fd;
	pthread_barrier_t bar;
	_Atomic uint32_t failed, flag;
	void (*fn)(struct race *r, unsigned int who, size_t round);
};

struct racer {
	struct race *race;
	unsigned int who;
	pthread_t thread;
};

static void *racer(void *arg)
{
	struct racer *r = arg;

	for (size_t i = 0; i < ROUNDS; i++) {
		(void)pthread_barrier_wait(&r->race->bar);
		r->race->fn(r->race, r->who, i);
		(void)pthread_barrier_wait(&r->race->bar);
	}
	return NULL;
}

/* @between looks at the round, with all threads standing still. */
static void race(struct race *r, unsigned int n, void (*between)(struct race *r, size_t round))
{
	struct racer all[4];

	CF_MUST(r->c, n <= 4 && pthread_barrier_init(&r->bar, NULL, n + 1) == 0);
	for (unsigned int i = 0; i < n; i++) {
		all[i] = (struct racer){ .race = r, .who = i };
		CF_MUST(r->c, pthread_create(&all[i].thread, NULL, racer, &all[i]) == 0);
	}
	for (size_t i = 0; i < ROUNDS; i++) {
		(void)pthread_barrier_wait(&r->bar);
		(void)pthread_barrier_wait(&r->bar);
		if (between != NULL)
			between(r, i);
	}
	for (unsigned int i = 0; i < n; i++)
		(void)pthread_join(all[i].thread, NULL);
	(void)pthread_barrier_destroy(&r->bar);
}

static void store_mine(struct race *r, unsigned int who, size_t round)
{
	char *q = r->p + round * CF_PAGE + who * 1024;

	if (cf_touch(q, true) != 0)
		atomic_fetch_add(&r->failed, 1);
	else
		memset(q, 'a' + (int)who, 1024);
}

static void all_stored(struct race *r, size_t round)
{
	for (size_t i = 0; i < CF_PAGE; i++)
		if (r->q[round * CF_PAGE + i] != 'a' + (int)(i / 1024)) {
			atomic_fetch_add(&r->flag, 1);
			return;
		}
}

void race_stores(struct cf *c)
{
	const size_t len = ROUNDS * CF_PAGE;
	struct race r = { .c = c, .fd = cf_holes(c, "f", len), .fn = store_mine };
	uint64_t blocks;

	r.p = cf_map(c, r.fd, 0, len, RW);
	r.q = cf_map(c, r.fd, 0, len, PROT_READ);
	race(&r, 4, all_stored);
	CF_SYS(c, fsync(r.fd));
	blocks = blocks_of(c, r.fd);
	cf_note(c, "%llu blocks for %d pages", (unsigned long long)blocks, ROUNDS);
	/* Two more are for the file's map. */
	cf_answer(c, r.failed != 0 ? "SIGBUS" : r.flag != 0 ? "stores are lost" :
		  blocks >= ROUNDS && blocks <= ROUNDS + 2 ? "one block each" : "another number of blocks");
}

/* Even threads read the page through a mapping of their own, odd ones store to it. */
static void read_or_store(struct race *r, unsigned int who, size_t round)
{
	char *at = (who % 2 != 0 ? r->p : r->q) + round * CF_PAGE;

	if (cf_touch(at + who * 64, who % 2 != 0) != 0) {
		atomic_fetch_add(&r->failed, 1);
	} else if (who % 2 != 0) {
		at[who * 64] = 'x';
	}
}

static void seen_by_reader(struct race *r, size_t round)
{
	const char *at = r->q + round * CF_PAGE;

	if (at[64] != 'x' || at[192] != 'x' || at[2000] != 0)
		atomic_fetch_add(&r->flag, 1);
}

void race_load_store(struct cf *c)
{
	const size_t len = ROUNDS * CF_PAGE;
	struct race r = { .c = c, .fd = cf_holes(c, "f", len), .fn = read_or_store };

	r.p = cf_map(c, r.fd, 0, len, RW);
	r.q = cf_map(c, r.fd, 0, len, PROT_READ);
	race(&r, 4, seen_by_reader);
	cf_answer(c, r.failed != 0 ? "SIGBUS" : r.flag != 0 ? "stores are not seen" : "all stores seen");
}

/* The same by two processes, each with a mapping of its own. */
struct twins {
	struct cf *c;
	char *p;
	_Atomic uint32_t *turn;		/* [0] the round that has begun, [1] the one that the child has ended */
};

static long twin(void *arg)
{
	struct twins *t = arg;
	long bad = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		cf_await(t->c, &t->turn[0], i + 1);
		bad += cf_touch(t->p + i * CF_PAGE, false) != 0;
		cf_mark(&t->turn[1], i + 1);
		cf_await(t->c, &t->turn[2], i + 1);
		bad += t->p[i * CF_PAGE + 100] != 'x';
		cf_mark(&t->turn[3], i + 1);
	}
	return bad;
}

void race_processes(struct cf *c)
{
	const size_t len = ROUNDS * CF_PAGE;
	int fd = cf_holes(c, "f", len);
	struct twins t = { c, cf_map(c, fd, 0, len, RW), cf_shared(c, 4 * sizeof(uint32_t)) };
	struct cf_call *call = cf_call(c, CF_PROCESS, twin, &t);
	long bad = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		cf_mark(&t.turn[0], i + 1);
		bad += cf_touch(t.p + i * CF_PAGE + 100, true) != 0;
		t.p[i * CF_PAGE + 100] = 'x';
		cf_await(c, &t.turn[1], i + 1);
		cf_mark(&t.turn[2], i + 1);
		cf_await(c, &t.turn[3], i + 1);
	}
	bad += cf_result(call);
	cf_answer(c, bad == 0 ? "all stores seen" : "SIGBUS, or stores are not seen");
}

/* Thread 0 stores to its private copy of a page, thread 1 punches it: the copy has the page as it was, or zeros. */
static void copy_or_punch(struct race *r, unsigned int who, size_t round)
{
	if (who == 0) {
		if (cf_touch(r->p + round * CF_PAGE, true) != 0)
			atomic_fetch_add(&r->failed, 1);
	} else if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(round * CF_PAGE),
			     (off_t)CF_PAGE) != 0) {
		atomic_fetch_add(&r->failed, 1);
	}
}

static void whole_copy(struct race *r, size_t round)
{
	const char *got = cf_content_of(r->p + round * CF_PAGE + 1, CF_PAGE - 1);

	if (strcmp(got, "old") != 0 && strcmp(got, "zero") != 0)
		atomic_fetch_add(&r->flag, 1);
}

void race_copy_punch(struct cf *c)
{
	const size_t len = ROUNDS * CF_PAGE;
	struct race r = { .c = c, .fd = cf_file(c, "f", len), .fn = copy_or_punch };

	r.p = private_map(c, r.fd, len);
	race(&r, 2, whole_copy);
	cf_answer(c, r.failed != 0 ? "fails" : r.flag != 0 ? "torn copies" : "all old or all zero");
}

/*
 * Thread 0 cuts the second page off, and adds it again; thread 1 loads from it. Whoever knows that the cut has
 * returned finds no byte of before.
 */
static void load_or_cut(struct race *r, unsigned int who, size_t round)
{
	(void)round;
	if (who == 0) {
		if (ftruncate(r->fd, (off_t)CF_PAGE) != 0)
			atomic_fetch_add(&r->failed, 1);
		atomic_store(&r->flag, 1);
		if (ftruncate(r->fd, (off_t)(2 * CF_PAGE)) != 0)
			atomic_fetch_add(&r->failed, 1);
		return;
	}
	for (int i = 0; i < 200; i++) {
		const bool cut = atomic_load(&r->flag) != 0;
		const int byte = peek(r->p + CF_PAGE);

		if (cut ? byte > 0 : byte > 0 && byte != CF_BYTE)
			atomic_fetch_add(&r->failed, 1);
	}
}

static void fill_again(struct race *r, size_t round)
{
	char page[CF_PAGE];

	(void)round;
	if (cf_touch(r->p + CF_PAGE, false) != 0 ||
	    strcmp(cf_content_of(r->p + CF_PAGE, CF_PAGE), "zero") != 0)
		atomic_fetch_add(&r->failed, 1);
	memset(page, CF_BYTE, sizeof page);
	CF_MUST(r->c, pwrite(r->fd, page, sizeof page, (off_t)CF_PAGE) == (ssize_t)sizeof page);
	atomic_store(&r->flag, 0);
}

void race_load_cut(struct cf *c)
{
	struct race r = { .c = c, .fd = cf_file(c, "f", 2 * CF_PAGE), .fn = load_or_cut };

	r.p = cf_map(c, r.fd, 0, 2 * CF_PAGE, RW);
	race(&r, 2, fill_again);
	cf_answer(c, r.failed != 0 ? "old bytes are seen" : "zero or SIGBUS");
}
