/* SPDX-License-Identifier: BSD-3-Clause */
/* test_itable.c - inode numbers are given once, come back with a higher generation, and the table grows. */
#include "harness/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "space/itable.h"
#include "space_env.h"

#define MIB (UINT64_C(1) << 20)

/* A number with an inode in it, as a create does. */
static uint64_t make(struct pf_fs *fs, uint64_t near, uint32_t *gen)
{
	uint64_t ino, doff;
	struct pf_tx *tx;
	void *obj;
	int err;

	for (;;) {
		CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
		err = pf_itab_alloc(tx, near, &ino, gen, &doff);
		if (err != -EAGAIN)
			break;
		pf_tx_abort(tx);
		if (pf_itab_grow(fs) != 0)
			return 0;
	}
	CU_ASSERT_EQUAL_FATAL(err, 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_new(tx, PF_MD_INODE, doff, ino, *gen, &obj), 0);
	((struct pf_d_inode *)obj)->i_gen = pf_put32(*gen);
	((struct pf_d_inode *)obj)->i_mode = pf_put32(0100644);
	((struct pf_d_inode *)obj)->i_nlink = pf_put32(1);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
	return ino;
}

static void drop(struct pf_fs *fs, uint64_t ino)
{
	struct pf_tx *tx;

	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL_FATAL(pf_itab_free(tx, ino), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_commit(tx), 0);
}

static void grows(void)
{
	enum { N = 5000 };
	struct pf_fs *fs = space_open(64 * MIB);
	static uint8_t seen[1 << 20];
	uint64_t used0, used, room, doff;
	struct pf_d_inode di;
	uint32_t gen;

	memset(seen, 0, sizeof seen);
	pf_itab_stat(fs, &used0, &room);
	for (int i = 0; i < N; i++) {
		uint64_t ino = make(fs, 0, &gen);

		CU_ASSERT_FATAL(ino >= PF_INO_FIRST_USER && ino < sizeof seen);
		CU_ASSERT_FATAL((ino & (PF_ICLU_SLOTS - 1)) >= PF_ICLU_FIRST);
		CU_ASSERT_FATAL(!seen[ino]++);
		CU_ASSERT_EQUAL(gen, 1);
		if (i % 1000 == 0)
			space_remount(fs);
	}
	pf_itab_stat(fs, &used, &room);
	CU_ASSERT_EQUAL(used, used0 + N);
	space_remount(fs);
	pf_itab_stat(fs, &used, &room);
	CU_ASSERT_EQUAL(used, used0 + N);
	for (uint64_t ino = 0; ino < sizeof seen; ino++)
		if (ino >= PF_INO_FIRST_USER)
			CU_ASSERT_EQUAL(pf_itab_read(fs, ino, &di, &doff), seen[ino] ? 0 : -ESTALE);
	CU_ASSERT_EQUAL(pf_itab_read(fs, UINT64_MAX, &di, &doff), -ESTALE);
	space_close(fs);
}

static void generations(void)
{
	struct pf_fs *fs = space_open(16 * MIB);
	uint32_t gen, again;
	uint64_t ino = make(fs, 0, &gen), doff;
	struct pf_d_inode di;
	struct pf_tx *tx;

	drop(fs, ino);
	CU_ASSERT_EQUAL(pf_itab_read(fs, ino, &di, &doff), -ESTALE);
	CU_ASSERT_EQUAL(make(fs, 0, &again), ino);
	CU_ASSERT_EQUAL(again, gen + 1);
	drop(fs, ino);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_itab_free(tx, ino), -EUCLEAN);
	pf_tx_abort(tx);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_itab_free(tx, PF_INO_ROOT), -EUCLEAN);
	pf_tx_abort(tx);
	space_close(fs);
}

/* No room for another cluster: an error, and freeing one number makes room again. */
static void full(void)
{
	struct pf_fs *fs = space_open(16 * MIB);
	uint64_t last = 0, ino;
	uint32_t gen;

	while ((ino = make(fs, 0, &gen)) != 0)
		last = ino;
	CU_ASSERT_EQUAL(pf_itab_grow(fs), -ENOSPC);
	drop(fs, last);
	CU_ASSERT_EQUAL(make(fs, 0, &gen), last);
	space_close(fs);
}

struct worker { struct pf_fs *fs; uint64_t ino[2000]; };

static void *worker(void *arg)
{
	struct worker *w = arg;
	uint32_t gen;

	for (size_t i = 0; i < PF_ARRAY_LEN(w->ino); i++) {
		w->ino[i] = make(w->fs, 0, &gen);
		if (i % 3 == 2)
			drop(w->fs, w->ino[i - 1]);
	}
	return NULL;
}

static void threads(void)
{
	static struct worker w[4];
	struct pf_fs *fs = space_open(64 * MIB);
	static uint8_t seen[1 << 20];
	uint64_t used0, used, room;
	pthread_t th[4];

	memset(seen, 0, sizeof seen);
	pf_itab_stat(fs, &used0, &room);
	for (int t = 0; t < 4; t++) {
		w[t].fs = fs;
		CU_ASSERT_EQUAL_FATAL(pthread_create(&th[t], NULL, worker, &w[t]), 0);
	}
	for (int t = 0; t < 4; t++)
		pthread_join(th[t], NULL);
	for (int t = 0; t < 4; t++)
		for (size_t i = 0; i < PF_ARRAY_LEN(w[t].ino); i++)
			if (i % 3 != 1 || i + 1 == PF_ARRAY_LEN(w[t].ino))
				CU_ASSERT(!seen[w[t].ino[i]]++);
	pf_itab_stat(fs, &used, &room);
	space_remount(fs);
	pf_itab_stat(fs, &used0, &room);
	CU_ASSERT_EQUAL(used, used0);
	space_close(fs);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "grows and remounts", grows },
		{ "generations", generations },
		{ "full", full },
		{ "four threads", threads },
	};

	return unit_main("itable", cases, PF_ARRAY_LEN(cases));
}
