/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shift.c - COLLAPSE_RANGE, INSERT_RANGE and UNSHARE_RANGE: a model of pages beside the file, the answers ext4
 * gives, a file of 10^5 extents, and what a half-done move looks like.
 */
#include "harness/unit.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include "obj/inode.h"
#include "unit/op_env.h"

#define PAGE UINT64_C(4096)
#define COLLAPSE FALLOC_FL_COLLAPSE_RANGE
#define INSERT FALLOC_FL_INSERT_RANGE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static struct op_env env;

/* --- a model: what each page says, 0 for zeros --- */

#define PAGES 3000U
static uint32_t model[PAGES];
static unsigned int npage;
static uint64_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(rnd_state >> 33) % n;
}

static void put(uint64_t ino, unsigned int page, uint32_t what)
{
	uint32_t buf[1024];

	for (unsigned int i = 0; i < 1024; i++)
		buf[i] = what;
	CU_ASSERT_EQUAL(op_write(&env, ino, page * PAGE, buf, PAGE), PAGE);
	model[page] = what;
	if (page >= npage)
		npage = page + 1;
}

static void compare(uint64_t ino)
{
	uint32_t *all = malloc(PAGES * PAGE);
	unsigned int bad = 0;
	struct stat st;

	CU_ASSERT_EQUAL(pf_op_getattr(env.fs, ino, &st, NULL), 0);
	CU_ASSERT_EQUAL((uint64_t)st.st_size, npage * PAGE);
	CU_ASSERT_EQUAL(op_read(&env, ino, 0, all, PAGES * PAGE), (ssize_t)(npage * PAGE));
	for (unsigned int p = 0; p < npage; p++)
		bad += all[p * 1024] != model[p] || all[p * 1024 + 1023] != model[p];
	CU_ASSERT_EQUAL(bad, 0);
	free(all);
}

static void step(uint64_t ino, uint32_t serial)
{
	unsigned int at = npage ? rnd(npage) : 0, n;

	switch (rnd(6)) {
	case 0:
	case 1:
		for (n = 1 + rnd(20); n > 0 && at < PAGES; n--)
			put(ino, at++, serial);
		break;
	case 2:		/* a hole */
		n = 1 + rnd(10);
		if (at + n > npage)
			break;
		CU_ASSERT_EQUAL(op_falloc(&env, ino, PUNCH, at * PAGE, n * PAGE), 0);
		memset(&model[at], 0, n * sizeof model[0]);
		break;
	case 3:		/* unwritten */
		n = 1 + rnd(10);
		if (at + n > npage)
			break;
		CU_ASSERT_EQUAL(op_falloc(&env, ino, ZERO, at * PAGE, n * PAGE), 0);
		memset(&model[at], 0, n * sizeof model[0]);
		break;
	case 4:
		n = 1 + rnd(60);
		if (at + n >= npage) {
			CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, at * PAGE, n * PAGE), -EINVAL);
			break;
		}
		CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, at * PAGE, n * PAGE), 0);
		memmove(&model[at], &model[at + n], (npage - at - n) * sizeof model[0]);
		npage -= n;
		break;
	case 5:
		n = 1 + rnd(60);
		if (npage + n > PAGES || npage == 0)
			break;
		CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, at * PAGE, n * PAGE), 0);
		memmove(&model[at + n], &model[at], (npage - at) * sizeof model[0]);
		memset(&model[at], 0, n * sizeof model[0]);
		npage += n;
		break;
	}
}

static void test_model(void)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		uint64_t ino = 0;

		rnd_state = seed;
		npage = 0;
		op_env_open(&env, UINT64_C(32) << 20);
		CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
		for (uint32_t i = 0; i < 400; i++) {
			step(ino, i + 1);
			if (i % 8 == 0)
				compare(ino);
			if (i % 100 == 99)
				op_env_remount(&env);
		}
		compare(ino);
		op_env_close(&env);
	}
}

/* --- answers --- */

static void test_errors(void)
{
	uint64_t ino = 0, dir = 0;
	uint32_t byte = 7;
	struct stat st;

	op_env_open(&env, UINT64_C(32) << 20);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&env, PF_INO_ROOT, "d", &dir), 0);
	npage = 0;
	for (unsigned int i = 0; i < 8; i++)
		put(ino, i, i + 1);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, 0, 8 * PAGE), -EINVAL);		/* all of it */
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, 4 * PAGE, 4 * PAGE), -EINVAL);	/* up to the end */
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, 1, PAGE), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, PAGE, PAGE + 1), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 8 * PAGE, PAGE), -EINVAL);		/* at the end */
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 512, PAGE), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 0, 0), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 0, PF_FILE_MAX - 4 * PAGE), -EFBIG);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, PAGE, UINT64_MAX - 100), -EFBIG);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE | FALLOC_FL_KEEP_SIZE, 0, PAGE), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT | COLLAPSE, 0, PAGE), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_ZERO_RANGE, 0, PAGE), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&env, dir, COLLAPSE, 0, PAGE), -EISDIR);
	/* Blocks allocated behind the end move too, so they set the limit as well. */
	CU_ASSERT_EQUAL(op_falloc(&env, ino, FALLOC_FL_KEEP_SIZE, PF_FILE_MAX - PAGE, PAGE), 0);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 0, PAGE), -EFBIG);
	compare(ino);
	/* An end inside a page: the rest of the page goes along. */
	CU_ASSERT_EQUAL(op_truncate(&env, ino, 7 * PAGE + 1), 0);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, 0, 7 * PAGE), 0);
	CU_ASSERT_EQUAL(pf_op_getattr(env.fs, ino, &st, NULL), 0);
	CU_ASSERT_EQUAL(st.st_size, 1);
	CU_ASSERT_EQUAL(op_truncate(&env, ino, PAGE), 0);
	CU_ASSERT_EQUAL(op_read(&env, ino, 0, &byte, sizeof byte), sizeof byte);
	CU_ASSERT_EQUAL(byte, 8);	/* one byte of the eighth page, then zeros */
	op_env_close(&env);
}

/* Nothing is ever shared: UNSHARE_RANGE allocates, so that writes find room, and changes no byte. */
static void test_unshare(void)
{
	uint64_t ino = 0;
	struct stat st;

	op_env_open(&env, UINT64_C(32) << 20);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	npage = 0;
	put(ino, 3, 5);
	memset(model, 0, 3 * sizeof model[0]);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 10 * PAGE), 0);
	CU_ASSERT_EQUAL(pf_op_getattr(env.fs, ino, &st, NULL), 0);
	CU_ASSERT_EQUAL(st.st_blocks, 80);
	compare(ino);
	CU_ASSERT_EQUAL(op_falloc(&env, ino, FALLOC_FL_UNSHARE_RANGE, 0, 10 * PAGE), 0);
	npage = 10;
	memset(&model[4], 0, 6 * sizeof model[0]);
	compare(ino);
	op_env_close(&env);
}

/* --- many extents --- */

#define MANY 100000U

static void check_many(uint64_t ino, unsigned int page, uint32_t want)
{
	uint32_t got = 0;

	CU_ASSERT_EQUAL(op_read(&env, ino, page * PAGE, &got, sizeof got), sizeof got);
	CU_ASSERT_EQUAL(got, want);
}

static void test_many(void)
{
	uint32_t *buf = calloc(1, PAGE);
	struct pf_inode *ip;
	uint64_t ino = 0;
	struct stat st;
	uint64_t blocks;

	op_env_open(&env, UINT64_C(1) << 30);
	CU_ASSERT_EQUAL_FATAL(op_create(&env, PF_INO_ROOT, "f", 0644, &ino), 0);
	for (uint32_t i = 0; i < MANY; i++) {	/* every second page: an extent each */
		buf[0] = i + 1;
		if (op_write(&env, ino, 2 * i * PAGE, buf, PAGE) != PAGE)
			CU_FAIL_FATAL("write");
	}
	CU_ASSERT_EQUAL_FATAL(pf_op_getattr(env.fs, ino, &st, NULL), 0);
	blocks = (uint64_t)st.st_blocks;
	CU_ASSERT_EQUAL(op_falloc(&env, ino, INSERT, 2 * PAGE, 7 * PAGE), 0);
	check_many(ino, 0, 1);
	check_many(ino, 2, 0);
	for (uint32_t i = 1; i < MANY; i += 997) {
		check_many(ino, 2 * i + 7, i + 1);
		check_many(ino, 2 * i + 6, 0);
	}
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, 2 * PAGE, 7 * PAGE), 0);
	for (uint32_t i = 0; i < MANY; i += 997)
		check_many(ino, 2 * i, i + 1);
	/* Records moved where they stood: not a node more than before. */
	CU_ASSERT_EQUAL_FATAL(pf_op_getattr(env.fs, ino, &st, NULL), 0);
	CU_ASSERT_EQUAL((uint64_t)st.st_blocks, blocks);
	/* Half of it goes, the rest moves. */
	CU_ASSERT_EQUAL(op_falloc(&env, ino, COLLAPSE, PAGE, MANY * PAGE), 0);
	check_many(ino, 0, 1);
	for (uint32_t i = MANY / 2 + 1; i < MANY; i += 997)
		check_many(ino, 2 * i - MANY, i + 1);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(env.fs, ino, &ip), 0);
	CU_ASSERT_FALSE(pf_inode_torn(ip));
	pf_inode_put(ip);
	op_env_close(&env);
	free(buf);
}

int main(void)
{
	static const struct unit_case tests[] = {
		{ "against a model", test_model },
		{ "answers", test_errors },
		{ "unshare", test_unshare },
		{ "100,000 extents", test_many },
	};

	return unit_main("shift", tests, sizeof tests / sizeof tests[0]);
}
