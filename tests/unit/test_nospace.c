/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nospace.c - when space runs out: every operation fails at each of its allocations in turn and leaves things as
 * they were; what gives space back works on a full device; the last block can be used; an aged device still has aligned
 * chunks for big files. And the table of what the kernel was told.
 *
 * pf_alloc_reserve() is wrapped by the linker, so that it can be made to fail.
 */
#include "harness/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "obj/inode.h"
#include "obj/told.h"
#include "space/alloc_impl.h"

#define PAGE PF_BLK_SIZE

int __real_pf_alloc_reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags,
			    struct pf_run *out);
int __wrap_pf_alloc_reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags,
			    struct pf_run *out);

static int fail_at = -1;	/* the allocation of this number from now on fails; negative: none */
static bool fail_unkept;	/* and all that may not use the kept blocks */
static bool failed;

int __wrap_pf_alloc_reserve(struct pf_fs *fs, uint64_t want, uint64_t min, uint64_t goal, unsigned int flags,
			    struct pf_run *out)
{
	if (fail_at == 0 || (fail_unkept && !(flags & PF_ALLOC_META))) {
		fail_at = -1;
		failed = true;
		return -ENOSPC;
	}
	if (fail_at > 0)
		fail_at--;
	return __real_pf_alloc_reserve(fs, want, min, goal, flags, out);
}

static struct pf_pm *pm;
static struct pf_fs *fs;

static void up(uint64_t bytes)
{
	struct pf_mkfs m = { .label = "" };
	const char *why;

	pm = mem_open(bytes);
	CU_ASSERT_EQUAL_FATAL(pf_mkfs(pm, &m), 0);
	CU_ASSERT_EQUAL_FATAL(core_mount(pm, &fs, &why), 0);
}

/* As it is on the medium now, mounted or not. */
static bool sound(void)
{
	char *text = NULL;
	size_t len;
	struct fsck f = { .out = open_memstream(&text, &len) };
	bool ok;

	if (f.out == NULL)
		abort();
	ok = fsck_check(&f, pm, "image") == FSCK_OK;
	(void)fclose(f.out);
	if (!ok)
		(void)printf("\n%s", text);
	free(text);
	return ok;
}

static void down(void)
{
	core_unmount(fs);
	CU_ASSERT(sound());
	mem_close(pm);
}

static struct pf_space space(void)
{
	struct pf_space sp;

	pf_alloc_stat(fs, &sp);
	return sp;
}

static uint64_t all_free(void)
{
	struct pf_space sp = space();

	return sp.free + sp.kept;
}

static ssize_t put(const char *path, uint64_t page, uint64_t n)
{
	static uint8_t buf[64 * PAGE];

	memset(buf, 'd', sizeof buf);
	return core_write(fs, path, page * PAGE, buf, n * PAGE);
}

/* --- each operation, each of its allocations --- */

/* Extents of one page each, in as many tree nodes as @n needs. */
static void comb(const char *path, uint64_t n)
{
	CU_ASSERT_FATAL(core_create(fs, path) > 0);
	for (uint64_t i = 0; i < n; i++)
		CU_ASSERT_EQUAL_FATAL(put(path, 2 * i, 1), (ssize_t)PAGE);
}

static void b_nothing(void) { }
static void b_comb10(void) { comb("/f", 10); }
static void b_comb178(void) { comb("/f", 178); }
static void b_long(void)
{
	comb("/f", 10);		/* the root is full, and there are extents to cut */
	CU_ASSERT_EQUAL_FATAL(put("/f", 100, 60), (ssize_t)(60 * PAGE));
}
static void b_names(void)
{
	char name[200];

	CU_ASSERT_EQUAL_FATAL(core_mkdir(fs, "/d"), 0);
	for (int i = 0; i < 26; i++) {		/* the first leaf is as good as full */
		(void)snprintf(name, sizeof name, "/d/%0120d", i);
		CU_ASSERT_FATAL(core_create(fs, name) > 0);
	}
	CU_ASSERT_FATAL(core_create(fs, "/f") > 0);
}
static void b_inodes(void)	/* no free inode in the only cluster */
{
	char name[32];

	for (unsigned int i = 0; i < PF_ICLU_SLOTS - PF_INO_FIRST_USER - 1; i++) {
		(void)snprintf(name, sizeof name, "/n%u", i);
		CU_ASSERT_FATAL(core_create(fs, name) > 0);
	}
}

#define TEN "0123456789"
#define SIXTY TEN TEN TEN TEN TEN TEN
static const char long_name[] = "/d/" SIXTY SIXTY SIXTY;

static int64_t o_write_hole(void) { return put("/f", 1, 1); }
static int64_t o_write_end(void) { return put("/f", 700, 20); }
static int64_t o_append(void) { return put("/f", 160, 8); }
static int64_t o_write_many(void) { return put("/f", 0, 40); }
static int64_t o_create(void) { return core_create(fs, "/new"); }
static int64_t o_create_split(void) { return core_create(fs, long_name); }
static int64_t o_mkdir_split(void) { return core_mkdir(fs, long_name); }
static int64_t o_link_split(void) { return core_link(fs, "/f", long_name); }
static int64_t o_rename_split(void) { return core_rename(fs, "/f", long_name, 0); }
static int64_t o_symlink(void)
{
	char target[1000];

	memset(target, 't', sizeof target - 1);
	target[sizeof target - 1] = '\0';
	return core_symlink(fs, "/link", target);
}
static int64_t o_fallocate(void) { return core_fallocate(fs, "/f", 0, 0, 400 * PAGE); }
static int64_t o_zero(void) { return core_fallocate(fs, "/f", FALLOC_FL_ZERO_RANGE, 110 * PAGE, 20 * PAGE); }
static int64_t o_insert(void) { return core_fallocate(fs, "/f", FALLOC_FL_INSERT_RANGE, 120 * PAGE, 4 * PAGE); }
static int64_t o_collapse(void) { return core_fallocate(fs, "/f", FALLOC_FL_COLLAPSE_RANGE, 120 * PAGE, 4 * PAGE); }
static int64_t o_punch(void)
{
	return core_fallocate(fs, "/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 120 * PAGE, 4 * PAGE);
}
static int64_t o_unlink(void) { return core_unlink(fs, "/f"); }
static int64_t o_truncate(void) { return core_truncate(fs, "/f", 5 * PAGE); }

static const struct { const char *name; void (*before)(void); int64_t (*op)(void); bool partly; } ops[] = {
	{ "write into a hole", b_comb10, o_write_hole, false },
	{ "write behind the end, two levels", b_comb178, o_write_end, true },
	{ "append", b_long, o_append, false },
	{ "write over many holes", b_comb178, o_write_many, true },
	{ "first file of a directory", b_nothing, o_create, false },
	{ "create that splits a leaf", b_names, o_create_split, false },
	{ "mkdir that splits a leaf", b_names, o_mkdir_split, false },
	{ "link that splits a leaf", b_names, o_link_split, false },
	{ "rename that splits a leaf", b_names, o_rename_split, false },
	{ "create that grows the inode table", b_inodes, o_create, false },
	{ "long symlink", b_nothing, o_symlink, false },
	{ "fallocate over many holes", b_comb178, o_fallocate, true },
	{ "zero range", b_long, o_zero, true },
	{ "insert range", b_long, o_insert, false },
	{ "collapse range", b_long, o_collapse, false },
	{ "punch", b_long, o_punch, false },
	{ "unlink", b_long, o_unlink, false },
	{ "truncate", b_long, o_truncate, false },
};

static void test_each_allocation(void)
{
	for (size_t i = 0; i < PF_ARRAY_LEN(ops); i++) {
		char *was, *is;
		unsigned int damaged;
		int64_t res;
		int n;

		up(UINT64_C(16) << 20);
		ops[i].before();
		for (n = 0; n < 200; n++) {
			const uint64_t before = all_free();

			was = core_describe(fs, &damaged);
			failed = false;
			fail_at = n;
			res = ops[i].op();
			fail_at = -1;
			is = core_describe(fs, &damaged);
			CU_ASSERT_EQUAL(damaged, 0);
			CU_ASSERT_EQUAL(space().reserved, 0);
			CU_ASSERT(sound());
			if (failed && !ops[i].partly) {
				if (res != -ENOSPC)
					(void)printf("\n\t%s, allocation %d: %lld\n", ops[i].name, n, (long long)res);
				CU_ASSERT_EQUAL(res, -ENOSPC);
				CU_ASSERT_STRING_EQUAL(was, is);
				CU_ASSERT_EQUAL(all_free(), before);
			}
			free(was);
			free(is);
			if (!failed)
				break;
		}
		if (res < 0)
			(void)printf("\n\t%s: %s\n", ops[i].name, strerror((int)-res));
		CU_ASSERT(res >= 0);
		down();
	}
}

/* --- a full device --- */

static uint64_t fill(const char *path)
{
	uint64_t page = 0;

	if (core_find(fs, path) < 0)
		CU_ASSERT_FATAL(core_create(fs, path) > 0);
	for (uint64_t n = 64; n != 0;) {
		ssize_t got = put(path, page, n);

		if (got > 0)
			page += (uint64_t)got / PAGE;
		else
			n /= 2;
	}
	CU_ASSERT_EQUAL(put(path, page, 1), -ENOSPC);
	return page;
}

/* A file takes what statfs says there is, to the last block; what is left is what it says is kept. */
static void test_last_block(void)
{
	struct statvfs st;
	uint64_t avail;

	up(UINT64_C(16) << 20);
	CU_ASSERT_FATAL(core_create(fs, "/first") > 0);		/* the root's leaf */
	CU_ASSERT_EQUAL(pf_op_statfs(fs, &st), 0);
	avail = st.f_bavail;
	CU_ASSERT_EQUAL(st.f_bfree - st.f_bavail, 32);
	CU_ASSERT_EQUAL(fill("/all"), avail);
	CU_ASSERT_EQUAL(pf_op_statfs(fs, &st), 0);
	CU_ASSERT_EQUAL(st.f_bavail, 0);
	CU_ASSERT_EQUAL(st.f_bfree, 32);
	/* Nothing that adds gets at the kept blocks, however often it is tried. */
	for (int i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(core_mkdir(fs, "/d"), -ENOSPC);
	CU_ASSERT_EQUAL(space().kept, 32);
	down();
}

/*
 * Emptied by punching first: each hole cuts an extent in two, so the tree grows while nothing is left but the kept
 * blocks. @twin: these are taken away. The number of holes that could not be made.
 */
static unsigned int empty_by_punching(bool twin)
{
	const uint64_t extent = 4;
	unsigned int refused = 0;
	struct pf_run kept;
	uint64_t n = 0, before;

	up(UINT64_C(16) << 20);
	before = all_free();
	CU_ASSERT_FATAL(core_create(fs, "/a") > 0);
	CU_ASSERT_FATAL(core_create(fs, "/b") > 0);
	CU_ASSERT_FATAL(core_create(fs, "/c") > 0);
	/* Turn by turn, so that no two extents of a file are neighbours. */
	for (; n < PF_ROOT_RECS; n++) {		/* full: the very first hole needs a tree node */
		CU_ASSERT_EQUAL_FATAL(put("/a", n * extent, extent), (ssize_t)(extent * PAGE));
		CU_ASSERT_EQUAL_FATAL(put("/b", n * extent, extent), (ssize_t)(extent * PAGE));
	}
	(void)fill("/c");
	CU_ASSERT_EQUAL(space().free, 0);
	/* Away for good: the image is thrown away as well. */
	while (twin && __real_pf_alloc_reserve(fs, 32, 1, 0, PF_ALLOC_META, &kept) == 0)
		;
	for (uint64_t i = 0; i < n; i++)
		refused += core_fallocate(fs, "/a", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (i * extent + 1) * PAGE,
					  PAGE) != 0;
	if (!twin) {
		CU_ASSERT_EQUAL(core_truncate(fs, "/b", 5), 0);
		CU_ASSERT_EQUAL(core_unlink(fs, "/b"), 0);
		CU_ASSERT_EQUAL(core_unlink(fs, "/c"), 0);
		CU_ASSERT_EQUAL(core_unlink(fs, "/a"), 0);
		CU_ASSERT(all_free() + 2 >= before);	/* the root's leaf and the orphan list's block stay */
	}
	core_unmount(fs);
	CU_ASSERT(sound());
	mem_close(pm);
	return refused;
}

static void test_full_can_be_emptied(void)
{
	CU_ASSERT_EQUAL(empty_by_punching(false), 0);
	CU_ASSERT(empty_by_punching(true) > 0);
}

/* What gives space back asks for kept blocks only, so it does not care that everything else fails. */
static void test_giving_back(void)
{
	up(UINT64_C(16) << 20);
	b_long();
	fail_unkept = true;
	CU_ASSERT_EQUAL(o_punch(), 0);
	CU_ASSERT_EQUAL(o_collapse(), 0);
	CU_ASSERT_EQUAL(o_truncate(), 0);
	CU_ASSERT_EQUAL(o_unlink(), 0);
	fail_unkept = false;
	down();
}

/* --- ageing --- */

static uint64_t rnd_state;

static uint64_t rnd(uint64_t below)
{
	rnd_state = rnd_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (rnd_state >> 33) % below;
}

static uint64_t free_chunks(void)
{
	struct group *gr;
	uint64_t n = 0;

	pf_mutex_lock(&fs->alloc->lock);
	for (uint64_t g = 0; g < fs->ngroup; g++) {
		CU_ASSERT_EQUAL_FATAL(pf_group_load(fs, g, &gr), 0);
		for (unsigned int c = 0; c < PF_GROUP_CHUNKS; c++)
			n += gr->nfree[c] == PF_CHUNK_BLKS;
	}
	pf_mutex_unlock(&fs->alloc->lock);
	return n;
}

/* Chunks of the file that are one aligned chunk of the device. */
static uint64_t aligned_chunks(const char *path, uint64_t n)
{
	struct pf_inode *ip;
	uint64_t good = 0;

	CU_ASSERT_EQUAL_FATAL(pf_inode_get(fs, (uint64_t)core_find(fs, path), &ip), 0);
	for (uint64_t c = 0; c < n; c++) {
		struct pf_bm bm = pf_inode_bm(ip, NULL);
		struct pf_ext e;

		CU_ASSERT_EQUAL_FATAL(pf_bm_lookup(&bm, c * PF_CHUNK_BLKS, &e), 0);
		good += e.len != 0 && e.key <= c * PF_CHUNK_BLKS && e.key + e.len >= (c + 1) * PF_CHUNK_BLKS &&
			(e.dblk + (c * PF_CHUNK_BLKS - e.key)) % PF_CHUNK_BLKS == 0;
	}
	pf_inode_put(ip);
	return good;
}

#define FILES 3000U
#define STEPS 100000U

static void test_ageing(void)
{
	static uint16_t pages[FILES];		/* 0: does not exist */
	char path[32];
	uint64_t least = UINT64_MAX, whole;

	up(UINT64_C(256) << 20);
	for (unsigned int d = 0; d < 16; d++) {
		(void)snprintf(path, sizeof path, "/d%u", d);
		CU_ASSERT_EQUAL_FATAL(core_mkdir(fs, path), 0);
	}
	rnd_state = 1;
	for (unsigned int i = 0; i < STEPS; i++) {
		unsigned int f = (unsigned int)rnd(FILES);
		uint64_t n = 1 + rnd(rnd(8) == 0 ? 60 : 12);
		int64_t res;

		(void)snprintf(path, sizeof path, "/d%u/f%u", f % 16, f);
		if (pages[f] == 0) {
			res = core_create(fs, path);
			if (res >= 0)
				res = put(path, 0, n);
			pages[f] = (uint16_t)n;
		} else if (rnd(3) == 0) {
			res = core_fallocate(fs, path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, rnd(pages[f]) * PAGE,
					     (1 + rnd(4)) * PAGE);
		} else {
			res = core_unlink(fs, path);
			pages[f] = 0;
		}
		if (res < 0)
			CU_FAIL_FATAL("a step failed");
		if (i > STEPS / 2 && i % 1000 == 0 && (whole = free_chunks()) < least)
			least = whole;
	}
	/* About 10,000 pages are in use; they may have broken a few times as many chunks as they fill. */
	CU_ASSERT(least * PF_CHUNK_BLKS > all_free() / 2);
	whole = free_chunks();
	(void)printf("\n\t%" PRIu64 " whole chunks in %" PRIu64 " free blocks ", whole, all_free());
	CU_ASSERT_FATAL(core_create(fs, "/big") > 0);
	for (uint64_t c = 0; c < whole - 1; c++)	/* as a program writes it: piece by piece, and no fallocate */
		for (uint64_t p = 0; p < PF_CHUNK_BLKS; p += 64)
			CU_ASSERT_EQUAL_FATAL(put("/big", c * PF_CHUNK_BLKS + p, 64), (ssize_t)(64 * PAGE));
	/* The first one is a guess: nobody knew that it would become big. */
	CU_ASSERT(aligned_chunks("/big", whole - 1) >= whole - 2);
	CU_ASSERT_EQUAL(core_unlink(fs, "/big"), 0);
	CU_ASSERT_FATAL(core_create(fs, "/big") > 0);
	CU_ASSERT_EQUAL(core_fallocate(fs, "/big", 0, 0, (whole - 1) * PF_CHUNK_SIZE), 0);
	CU_ASSERT_EQUAL(aligned_chunks("/big", whole - 1), whole - 1);
	down();
}

/* --- what the kernel was told --- */

static void test_told(void)
{
	struct pf_told t = { 0 };
	static uint64_t want[5000];

	CU_ASSERT_EQUAL(pf_told_take(&t, 7), 0);
	pf_told_less(&t, 7, 1);
	rnd_state = 5;
	for (unsigned int i = 0; i < 200000; i++) {
		uint64_t ino = 1 + rnd(4999), n = 1 + rnd(3);

		if (want[ino] == 0) {
			CU_ASSERT_FATAL(pf_told_put(&t, ino, n));
			want[ino] = n;
		} else if (rnd(2) == 0) {
			CU_ASSERT_EQUAL(pf_told_take(&t, ino), want[ino]);
			want[ino] = 0;
		} else {
			pf_told_less(&t, ino, n);
			want[ino] -= n < want[ino] ? n : want[ino];
		}
	}
	for (uint64_t ino = 1; ino < 5000; ino++)
		CU_ASSERT_EQUAL(pf_told_take(&t, ino), want[ino]);
	CU_ASSERT_EQUAL(t.used, 0);
	CU_ASSERT(t.size <= 64);		/* it has shrunk */
	pf_told_fini(&t);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "no space at each allocation", test_each_allocation },
		{ "the last block", test_last_block },
		{ "a full device can be emptied", test_full_can_be_emptied },
		{ "giving back takes kept blocks only", test_giving_back },
		{ "an aged device", test_ageing },
		{ "what the kernel was told", test_told },
	};

	pf_log_init("test_nospace", PF_LOG_ERR, false);
	return unit_main("space", cases, PF_ARRAY_LEN(cases));
}
