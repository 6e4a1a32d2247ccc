/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dir.c - directories as trees of names: very many of them, leaves that split, merge and go, positions that stay
 * good.
 *
 * PINFS_TEST_NAMES sets how many names the big directory has (default 100000).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "harness/unit.h"
#include "media/verify.h"
#include "unit/op_env.h"

/* Every look at a metadata object from outside of media/verify.c: counted, not timed. */
int __real_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out);
int __wrap_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out);
static _Atomic uint64_t looks;

int __wrap_pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out)
{
	looks++;
	return __real_pf_md_get(fs, type, doff, owner, out);
}

static void name_of(char *buf, size_t size, unsigned int i)
{
	/* Lengths from 6 to 230 or so. */
	int len = snprintf(buf, size, "%u-", i), extra = (int)(i % 7 * i % 224);

	memset(buf + len, 'x', (size_t)extra);
	buf[len + extra] = '\0';
}

struct walk { uint8_t *seen; unsigned int n, total, twice, max; uint64_t cookie; };

static bool note(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next,
		 const struct pf_entry *entry)
{
	struct walk *w = arg;
	unsigned int i = (unsigned int)strtoul(name, NULL, 10);

	(void)ino;
	(void)type;
	(void)entry;
	if (w->n == w->max)
		return false;
	w->n++;
	w->cookie = next;
	if (i < w->total && name[0] != '.')
		w->twice += w->seen[i]++ != 0;
	return true;
}

/* Every name once, @at_a_time in a call. */
static void walk_dir(struct op_env *e, uint64_t dir, struct walk *w, unsigned int at_a_time)
{
	w->cookie = 2;
	do {
		w->n = 0;
		w->max = at_a_time;
		CU_ASSERT_EQUAL_FATAL(pf_op_readdir(e->fs, dir, w->cookie, false, note, w), 0);
	} while (w->n != 0);
}

static uint64_t dir_size(struct op_env *e, uint64_t dir)
{
	struct stat st = { 0 };

	CU_ASSERT_EQUAL(pf_op_getattr(e->fs, dir, &st, NULL), 0);
	CU_ASSERT(st.st_size / 512 <= st.st_blocks);
	return (uint64_t)st.st_size;
}

static void test_big(void)
{
	const char *env = getenv("PINFS_TEST_NAMES");
	unsigned int total = env != NULL ? (unsigned int)strtoul(env, NULL, 10) : 100000;
	struct walk w = { .total = total };
	uint64_t dir, ino, t, first = 0, last = 0, full;
	struct op_env e;
	char name[300];

	if (total < 1000)
		total = w.total = 1000;
	op_env_open(&e, ((uint64_t)total * 1200 + (64 << 20)) & ~UINT64_C(0xfff));
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "big", &dir), 0);
	for (unsigned int i = 0; i < total; i++) {
		name_of(name, sizeof name, i);
		t = looks;
		if (op_create(&e, dir, name, S_IFREG | 0600, NULL) != 0) {
			CU_FAIL_FATAL("create");
		}
		t = looks - t;
		*(i < total / 10 ? &first : &last) += i < total / 10 || i >= total - total / 10 ? t : 0;
	}
	/* O(log n): the last tenth looks at not much more than the first; if it were O(n), by a factor of 19. */
	CU_ASSERT(last < 3 * first);
	printf(" %.1f looks a create, %.1f at first ", 10.0 * (double)last / total, 10.0 * (double)first / total);
	op_env_remount(&e);

	w.seen = calloc(total, 1);
	walk_dir(&e, dir, &w, 1000);
	for (unsigned int i = 0; i < total; i++) {
		if (w.seen[i] != 1)
			CU_FAIL_FATAL("a name is not shown, or twice");
		name_of(name, sizeof name, i);
		if (op_lookup(&e, dir, name, &ino) != 0)
			CU_FAIL_FATAL("a name is not found");
	}
	full = dir_size(&e, dir);

	/* Nine of ten names go, in an order that empties no leaf early: the leaves that are left join. */
	for (unsigned int i = 0; i < total; i++) {
		if (i % 10 == 3)
			continue;
		name_of(name, sizeof name, i);
		if (pf_op_unlink(e.fs, dir, name) != 0)
			CU_FAIL_FATAL("unlink");
	}
	CU_ASSERT(dir_size(&e, dir) < full / 3);
	op_env_remount(&e);
	memset(w.seen, 0, total);
	w.twice = 0;
	walk_dir(&e, dir, &w, 7);
	CU_ASSERT_EQUAL(w.twice, 0);
	for (unsigned int i = 0; i < total; i++)
		CU_ASSERT_EQUAL(w.seen[i], i % 10 == 3);
	for (unsigned int i = 3; i < total; i += 10) {
		name_of(name, sizeof name, i);
		if (pf_op_unlink(e.fs, dir, name) != 0)
			CU_FAIL_FATAL("unlink");
	}
	CU_ASSERT_EQUAL(dir_size(&e, dir), 0);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "big"), 0);
	free(w.seen);
	op_env_close(&e);
}

/* A reader that pauses while names come and go: what stays is shown exactly once, wherever the leaves are by then. */
static void test_stable_cookies(void)
{
	enum { KEEP = 2000 };
	uint8_t seen[KEEP] = { 0 };
	struct walk w = { .seen = seen, .total = KEEP, .cookie = 0 };
	unsigned int round = 0;
	struct op_env e;
	char name[300];

	op_env_open(&e, 64 << 20);
	for (unsigned int i = 0; i < KEEP; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), 0);
	}
	do {
		/* In between: 200 more names that split leaves, or their removal, which joins them. */
		for (unsigned int i = 0; i < 200; i++) {
			name_of(name, sizeof name, 1000000 + i * 7);
			CU_ASSERT_EQUAL(round % 2 == 0 ? op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL) :
				     pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
		}
		round++;
		w.n = 0;
		w.max = 50;
		CU_ASSERT_EQUAL(pf_op_readdir(e.fs, PF_INO_ROOT, w.cookie, false, note, &w), 0);
	} while (w.n != 0);
	CU_ASSERT_EQUAL(w.twice, 0);
	for (unsigned int i = 0; i < KEEP; i++)
		CU_ASSERT_EQUAL(seen[i], 1);
	op_env_close(&e);
}

/* Leaves filled with the longest names, which leave gaps of every size. */
static void test_long_names(void)
{
	struct op_env e;
	char name[256];
	uint64_t ino;

	op_env_open(&e, 32 << 20);
	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < 500; i++) {
			memset(name, 'L', sizeof name);
			name[snprintf(name, sizeof name, "%u", i)] = '-';
			name[i % 2 ? 255 : 20 + i % 230] = '\0';
			if (round == 0 || i % 2 == 0)
				CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), 0);
			if (round == 0 && i % 2 == 0)
				CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
			CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), round == 0 && i % 2 == 0 ? -ENOENT : 0);
		}
		op_env_remount(&e);
	}
	op_env_close(&e);
}

/* ---- names of one hash ---- */

/* The linker sends the core's calls here (tests.mk): nobody can find names that collide under a secret key, so we
 * make them. */
uint64_t __real_pf_name_key(const uint8_t key[16], const char *name, size_t len);
uint64_t __wrap_pf_name_key(const uint8_t key[16], const char *name, size_t len);
static uint64_t few_hashes;		/* 0: as they are */

uint64_t __wrap_pf_name_key(const uint8_t key[16], const char *name, size_t len)
{
	uint64_t k = __real_pf_name_key(key, name, len);

	return few_hashes != 0 ? (1 + (k >> 8) % few_hashes) << 8 : k;
}

/* 256 names fit into one hash, over several leaves; the next one does not. Each is found, shown once, and goes
 * alone. */
static void test_collisions(void)
{
	enum { N = 256 };
	uint8_t seen[N] = { 0 };
	struct walk w = { .seen = seen, .total = N };
	struct op_env e;
	char name[300];
	uint64_t ino;

	op_env_open(&e, 32 << 20);
	few_hashes = 1;
	for (unsigned int i = 0; i < N; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), 0);
	}
	CU_ASSERT(dir_size(&e, PF_INO_ROOT) > 3 * 4096);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "one more", S_IFREG, NULL), -ENOSPC);
	for (unsigned int i = 0; i < N; i += 3) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
	}
	for (unsigned int i = 0; i < N; i += 6) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), 0);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), -EEXIST);
	}
	walk_dir(&e, PF_INO_ROOT, &w, 10);
	for (unsigned int i = 0; i < N; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(seen[i], i % 3 != 0 || i % 6 == 0);
		CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), seen[i] ? 0 : -ENOENT);
	}
	for (unsigned int i = 0; i < N; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), seen[i] ? 0 : -ENOENT);
	}
	CU_ASSERT_EQUAL(dir_size(&e, PF_INO_ROOT), 0);
	few_hashes = 0;
	op_env_close(&e);
}

/* 3000 names in 50 hashes: groups of about 60, which splits and joins cut through. */
static void test_many_collisions(void)
{
	enum { N = 3000 };
	static uint8_t seen[N];
	struct walk w = { .seen = seen, .total = N };
	struct op_env e;
	char name[300];
	uint64_t ino;

	op_env_open(&e, 32 << 20);
	few_hashes = 50;
	for (unsigned int i = 0; i < N; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG, NULL), 0);
	}
	for (unsigned int i = 0; i < N; i++) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), 0);
		if (i % 4 != 0)
			CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
	}
	walk_dir(&e, PF_INO_ROOT, &w, 7);
	for (unsigned int i = 0; i < N; i++)
		CU_ASSERT_EQUAL(seen[i], i % 4 == 0);
	for (unsigned int i = 0; i < N; i += 4) {
		name_of(name, sizeof name, i);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, name), 0);
	}
	few_hashes = 0;
	op_env_close(&e);
}

/* ---- what was seen before a change, and used in it ---- */

/* Names of every length move about in a leaf or two: the new name pushes records together, or into another leaf, before
 * the old one goes from where it was seen. @hashes: see above. */
static void shuffle(uint64_t hashes, unsigned int seed)
{
	enum { N = 40, SPARE = 60, STEPS = 4000 };
	unsigned int at[N];		/* the name of each file */
	bool used[SPARE] = { false };
	uint64_t ino[N], found;
	char from[300], to[300];
	struct op_env e;

	op_env_open(&e, 32 << 20);
	few_hashes = hashes;
	for (unsigned int i = 0; i < N; i++) {
		name_of(from, sizeof from, i);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, from, S_IFREG, &ino[i]), 0);
		at[i] = i;
		used[i] = true;
	}
	for (unsigned int step = 0; step < STEPS; step++) {
		const unsigned int i = (unsigned int)rand_r(&seed) % N;
		unsigned int n = (unsigned int)rand_r(&seed) % SPARE;

		while (used[n])
			n = (n + 1) % SPARE;
		name_of(from, sizeof from, at[i]);
		name_of(to, sizeof to, n);
		CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, from, PF_INO_ROOT, to, 0), 0);
		used[at[i]] = false;
		used[n] = true;
		at[i] = n;
		CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, from, &found), -ENOENT);
		if (step % 50 != 0)
			continue;
		for (unsigned int k = 0; k < N; k++) {
			name_of(to, sizeof to, at[k]);
			found = 0;
			CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, to, &found), 0);
			CU_ASSERT_EQUAL(found, ino[k]);
		}
	}
	for (unsigned int i = 0; i < N; i++) {
		name_of(from, sizeof from, at[i]);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, from), 0);
	}
	CU_ASSERT_EQUAL(dir_size(&e, PF_INO_ROOT), 0);
	few_hashes = 0;
	op_env_close(&e);
}

static void test_shuffle(void)
{
	shuffle(0, 1);
	shuffle(3, 2);
}

static const struct unit_case cases[] = {
	{ "very many names", test_big },
	{ "a position survives changes", test_stable_cookies },
	{ "long names and gaps", test_long_names },
	{ "256 names of one hash", test_collisions },
	{ "many names of few hashes", test_many_collisions },
	{ "names change places", test_shuffle },
};

int main(void)
{
	return unit_main("dir", cases, PF_ARRAY_LEN(cases));
}
