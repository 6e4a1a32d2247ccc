/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_whole.c - chunks are moved together for devices that map nothing smaller (pf_op_whole): from any mixture of
 * written, unwritten and missing pages there comes one extent at a multiple of 2 MiB with the same bytes, the space
 * adds up, and what cannot be done leaves the file as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "media/pmem.h"
#include "obj/inode.h"
#include "space/alloc.h"
#include "space/bad.h"
#include "unit/op_env.h"
#include "harness/unit.h"

#define BLK ((size_t)4096)
#define CHUNK ((size_t)PF_CHUNK_SIZE)

static struct op_env e;
static uint64_t seed;
static uint8_t want[2 * CHUNK], got[2 * CHUNK];

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void fill(uint64_t ino, uint64_t blk, uint64_t n)
{
	for (uint64_t i = blk * BLK; i < (blk + n) * BLK; i++)
		want[i] = (uint8_t)(i / BLK + i % 253 + 1);
	CU_ASSERT_EQUAL(op_write(&e, ino, blk * BLK, want + blk * BLK, n * BLK), (ssize_t)(n * BLK));
}

/* Two chunks of everything that a chunk can be made of. */
static uint64_t mixture(const char *name)
{
	uint64_t ino, other, at, n;
	char second[32];

	(void)snprintf(second, sizeof second, "%s.other", name);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, name, S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, second, S_IFREG | 0644, &other), 0);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 2 * CHUNK), 0);
	memset(want, 0, sizeof want);
	for (int i = 0; i < 40; i++) {
		at = rnd(2 * PF_CHUNK_BLKS - 8);
		n = rnd(8) + 1;
		switch (rnd(4)) {
		case 0:
			CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, at * BLK, n * BLK), 0);
			break;
		case 1:
			CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at * BLK,
						  n * BLK), 0);
			memset(want + at * BLK, 0, n * BLK);
			break;
		default:
			fill(ino, at, n);
			CU_ASSERT_EQUAL(op_append(&e, other, "in between", 10), 10);
			break;
		}
	}
	return ino;
}

static bool same(uint64_t ino)
{
	for (size_t at = 0; at < sizeof got;) {
		ssize_t n = op_read(&e, ino, at, got + at, sizeof got - at);

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return memcmp(got, want, sizeof got) == 0;
}

/* Pieces of a chunk; 1 only when it is all of it, and where it has to be. */
static unsigned int pieces(struct pf_inode *ip, uint64_t foff)
{
	struct pf_dext ext[PF_CHUNK_BLKS];
	unsigned int n = PF_ARRAY_LEN(ext);
	uint64_t size;

	CU_ASSERT_EQUAL(pf_op_extents(e.fs, ip, foff, CHUNK, ext, &n, &size), 0);
	return n == 1 && (ext[0].len != CHUNK || ext[0].doff % CHUNK != 0) ? 2 : n;
}

static void test_any_mixture(void)
{
	struct pf_space before, after;
	struct pf_inode *ip;
	uint64_t ino, nblk;
	char name[16];

	op_env_open(&e, 96 << 20);
	for (seed = 1; seed <= 12 * 1000003; seed = (seed / 1000003 + 1) * 1000003) {
		(void)snprintf(name, sizeof name, "f%llu", (unsigned long long)(seed / 1000003));
		ino = mixture(name);
		seed = strtoull(name + 1, NULL, 10) * 1000003;
		CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
		CU_ASSERT(pieces(ip, 0) != 1);
		pf_alloc_stat(e.fs, &before);
		nblk = pf_get64(ip->d.i_nblk);
		CU_ASSERT_EQUAL(pf_op_whole(ip, 0), 0);
		pf_alloc_stat(e.fs, &after);
		CU_ASSERT_EQUAL(pieces(ip, 0), 1);
		CU_ASSERT(pieces(ip, CHUNK) != 1);	/* the other one is not touched */
		CU_ASSERT(same(ino));
		CU_ASSERT_EQUAL(before.free - after.free, pf_get64(ip->d.i_nblk) - nblk);
		CU_ASSERT_EQUAL(after.reserved, 0);
		CU_ASSERT_EQUAL(pf_op_whole(ip, CHUNK), 0);
		CU_ASSERT_EQUAL(pieces(ip, CHUNK), 1);
		CU_ASSERT(same(ino));
		pf_inode_put(ip);
	}
	op_env_remount(&e);
	CU_ASSERT(same(ino));
	op_env_close(&e);
}

static void test_no_chunk(void)
{
	struct pf_space sp;
	struct pf_inode *ip;
	uint64_t ino, big;

	seed = 77;
	op_env_open(&e, 32 << 20);
	ino = mixture("f");
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "big", S_IFREG | 0644, &big), 0);
	pf_alloc_stat(e.fs, &sp);
	CU_ASSERT_EQUAL(op_falloc(&e, big, 0, 0, (sp.free - sp.kept - 300) * BLK), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	CU_ASSERT_EQUAL(pf_op_whole(ip, 0), -ENOSPC);
	pf_alloc_stat(e.fs, &sp);
	CU_ASSERT_EQUAL(sp.reserved, 0);
	CU_ASSERT(same(ino));
	pf_inode_put(ip);
	op_env_close(&e);
}

static void test_bad_block(void)
{
	struct pf_dext ext[1];
	struct pf_inode *ip;
	unsigned int n = 1;
	struct pf_space sp;
	uint64_t ino, size;

	op_env_open(&e, 32 << 20);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &ino), 0);
	memset(want, 0, sizeof want);
	fill(ino, 0, 4);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 2 * CHUNK), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	CU_ASSERT_EQUAL(pf_op_extents(e.fs, ip, 0, CHUNK, ext, &n, &size), 0);
	CU_ASSERT_EQUAL(pf_bad_add(e.fs, (ext[0].doff >> PF_BLK_SHIFT) + 2, 1, &size), 0);
	CU_ASSERT_EQUAL(pf_op_whole(ip, 0), -EIO);
	pf_alloc_stat(e.fs, &sp);
	CU_ASSERT_EQUAL(sp.reserved, 0);
	CU_ASSERT_EQUAL(op_read(&e, ino, 0, got, 2 * BLK), (ssize_t)(2 * BLK));
	CU_ASSERT(memcmp(got, want, 2 * BLK) == 0);
	fill(ino, 2, 1);			/* a good block takes its place */
	CU_ASSERT_EQUAL(pf_op_whole(ip, 0), 0);
	CU_ASSERT_EQUAL(pieces(ip, 0), 1);
	CU_ASSERT(same(ino));
	pf_inode_put(ip);
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "any mixture", test_any_mixture },
		{ "no free chunk", test_no_chunk },
		{ "a bad block", test_bad_block },
	};

	return unit_main("op_whole", cases, PF_ARRAY_LEN(cases));
}
