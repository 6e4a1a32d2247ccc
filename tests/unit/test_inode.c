/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_inode.c - inodes in memory: who finds whom, who keeps what alive, and what a number means after its inode is
 * gone.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "harness/unit.h"
#include "obj/inode.h"
#include "unit/op_env.h"

static void test_references(void)
{
	struct pf_inode *a, *b;
	struct pf_entry entry;
	struct op_env e;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "f", S_IFREG, 0, &entry), 0);
	CU_ASSERT_EQUAL(pf_inode_get(e.fs, entry.ino, &a), 0);
	CU_ASSERT_EQUAL(pf_inode_get(e.fs, entry.ino, &b), 0);
	CU_ASSERT_PTR_EQUAL(a, b);
	CU_ASSERT_EQUAL(pf_op_iget(e.fs, entry.ino, entry.gen + 1, &b), -ESTALE);
	pf_inode_put(b = a);
	/* Unlinked and forgotten by the kernel, but in use by us: it lives, and can be found. */
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	pf_op_forget(e.fs, entry.ino, 1);
	CU_ASSERT_EQUAL(op_write(&e, entry.ino, 0, "x", 1), 1);
	/* More is forgotten than was ever given: refused. */
	pf_op_forget(e.fs, entry.ino, 1000);
	CU_ASSERT_EQUAL(op_write(&e, entry.ino, 0, "y", 1), 1);
	pf_inode_put(a);
	CU_ASSERT_EQUAL(op_write(&e, entry.ino, 0, "z", 1), -ESTALE);
	CU_ASSERT_EQUAL(pf_op_iget(e.fs, entry.ino, entry.gen, &a), -ESTALE);
	pf_op_forget(e.fs, entry.ino, 1);
	op_env_close(&e);
}

/* The next inode of a number is another one: its generation says so. */
static void test_generations(void)
{
	uint64_t ino = 0, first = 0;
	struct pf_inode *ip;
	struct pf_entry entry;
	uint32_t gen = 0;
	struct op_env e;

	op_env_open(&e, 16 << 20);
	for (unsigned int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "f", S_IFREG, 0, &entry), 0);
		if (i > 0) {
			CU_ASSERT_EQUAL(entry.ino, first);
			CU_ASSERT(entry.gen > gen);
			CU_ASSERT_EQUAL(pf_op_iget(e.fs, entry.ino, gen, &ip), -ESTALE);
		}
		first = ino = entry.ino;
		gen = entry.gen;
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
		pf_op_forget(e.fs, ino, 1);
	}
	op_env_close(&e);
}

/* Far more inodes than the cache keeps: all of them are there when they are asked for. */
static void test_many(void)
{
	enum { N = 40000 };
	struct op_env e;
	struct stat st;
	uint64_t *ino = calloc(N, sizeof *ino), id;
	char name[16];

	op_env_open(&e, 128 << 20);
	for (unsigned int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "%u", i);
		if (op_create(&e, PF_INO_ROOT, name, S_IFREG | (i & 0777), &ino[i]) != 0)
			CU_FAIL_FATAL("create");
	}
	for (unsigned int i = 0; i < N; i++) {
		unsigned int k = i * 7919 % N;

		if (pf_op_getattr(e.fs, ino[k], &st, NULL) != 0 || (st.st_mode & 0777) != (k & 0777))
			CU_FAIL_FATAL("getattr");
	}
	for (unsigned int i = 0; i < N; i += 2) {
		snprintf(name, sizeof name, "%u", i);
		if (pf_op_unlink(e.fs, PF_INO_ROOT, name) != 0)
			CU_FAIL_FATAL("unlink");
	}
	op_env_remount(&e);
	for (unsigned int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "%u", i);
		CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &id), i % 2 == 0 ? -ENOENT : 0);
	}
	op_env_close(&e);
	free(ino);
}

struct racer { struct op_env *e; uint64_t ino; _Atomic bool stop; _Atomic unsigned int bad; };

static void *look_all_the_time(void *arg)
{
	struct racer *r = arg;
	struct pf_inode *ip;
	struct stat st;

	while (!r->stop) {
		/* A number that is in use or not, alive or dying, by name and without. */
		int err = pf_inode_get(r->e->fs, r->ino, &ip);

		if (err == 0)
			pf_inode_put(ip);
		r->bad += err != 0 && err != -ESTALE;
		err = pf_op_getattr(r->e->fs, r->ino, &st, NULL);
		r->bad += err != 0 && err != -ESTALE;
	}
	return NULL;
}

static void *make_and_remove(void *arg)
{
	struct racer *r = arg;
	uint64_t ino;

	for (unsigned int i = 0; i < 4000; i++) {
		r->bad += op_create(r->e, PF_INO_ROOT, "f", S_IFREG, &ino) != 0;
		r->bad += op_write(r->e, ino, 0, "abc", 3) != 3;
		r->bad += pf_op_unlink(r->e->fs, PF_INO_ROOT, "f") != 0;
	}
	r->stop = true;
	return NULL;
}

/* Stale handles race with the end of an inode and with the birth of the next one of its number. */
static void test_races(void)
{
	struct racer r = { .e = NULL };
	pthread_t tid[3];
	struct op_env e;

	op_env_open(&e, 16 << 20);
	r.e = &e;
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, &r.ino), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	CU_ASSERT_EQUAL(pthread_create(&tid[0], NULL, make_and_remove, &r), 0);
	CU_ASSERT_EQUAL(pthread_create(&tid[1], NULL, look_all_the_time, &r), 0);
	CU_ASSERT_EQUAL(pthread_create(&tid[2], NULL, look_all_the_time, &r), 0);
	for (unsigned int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(pthread_join(tid[i], NULL), 0);
	CU_ASSERT_EQUAL(r.bad, 0);
	op_env_close(&e);
}

static const struct unit_case cases[] = {
	{ "references keep an inode", test_references },
	{ "generations tell inodes of one number apart", test_generations },
	{ "more inodes than the cache keeps", test_many },
	{ "stale numbers race with ends and births", test_races },
};

int main(void)
{
	return unit_main("inode", cases, PF_ARRAY_LEN(cases));
}
