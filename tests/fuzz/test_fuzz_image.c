/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fuzz_image.c - damaged images: fsck and the mounted core neither crash nor hang, and fsck misses nothing that a
 * mount trips over.
 *
 * A seed decides what is broken of a real image: bits, words, whole blocks, with and without new checksums. Then, in a
 * child: fsck; a mount; a walk over everything; changes; the unmount. If fsck called the image clean, the walk may find
 * no damage, and the image must be clean afterwards. PINFS_FUZZ_RUNS sets the number of seeds, PINFS_FUZZ_SEED the
 * first one.
 */
#include "harness/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "fuzz/image.h"
#include "harness/core.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/super.h"
#include "media/verify.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define DEV_NBLK (DEV_BYTES / PF_BLK_SIZE)
#define BLK PF_BLK_SIZE
#define CPU_SECONDS 120		/* for one seed: a loop without end, also where others take the processor away */
#define SECONDS 280		/* a wait without end; generous, as the machine may be busy */
#define BATCH 500U		/* seeds for one child */

/* ---- the image ---- */

static uint8_t *pristine;		/* DEV_BYTES */
static uint64_t used[DEV_NBLK];		/* its blocks that are not zero */
static unsigned int nr_used;
static uint64_t meta[DEV_NBLK];		/* of those, the ones with a checksum */
static unsigned int nr_meta;
static uint64_t hot[DEV_NBLK];		/* of those, the ones that the walk and the changes depend on */
static unsigned int nr_hot;
static uint64_t ino_sparse, ino_large;	/* of /sparse and /d/e/large; both in cluster 0 */

static void must(int64_t err)
{
	if (err < 0) {
		(void)fprintf(stderr, "image: %s\n", strerror((int)-err));
		abort();
	}
}

static void put(struct pf_fs *fs, const char *path, uint64_t off, size_t len)
{
	static uint8_t buf[65536];

	memset(buf, 'x', sizeof buf);
	if (core_find(fs, path) < 0)
		must(core_create(fs, path));
	if (core_write(fs, path, off, buf, len) != (ssize_t)len)
		abort();
}

static void populate(struct pf_fs *fs)
{
	char name[128];

	must(core_mkdir(fs, "/many"));
	for (int i = 0; i < 700; i++) {
		(void)snprintf(name, sizeof name, "/many/a-file-with-a-name-%d-%0*d", i, 1 + i % 60, i);
		must(core_create(fs, name));
	}
	for (int i = 0; i < 700; i += 7) {
		(void)snprintf(name, sizeof name, "/many/a-file-with-a-name-%d-%0*d", i, 1 + i % 60, i);
		must(core_unlink(fs, name));
	}
	must(core_mkdir(fs, "/d"));
	must(core_mkdir(fs, "/d/e"));
	must(core_mkdir(fs, "/d/e/f"));
	put(fs, "/d/small", 0, 100);
	put(fs, "/d/e/large", 0, 60000);
	must(core_link(fs, "/d/small", "/d/e/f/link"));
	must(core_symlink(fs, "/d/short", "small"));
	memset(name, 's', sizeof name);
	name[sizeof name - 1] = '\0';
	must(core_symlink(fs, "/d/longer", name));
	must(core_mknod(fs, "/d/null", S_IFCHR | 0666, makedev(1, 3)));
	must(core_mknod(fs, "/d/fifo", S_IFIFO | 0666, 0));
	/* Two levels of tree nodes. */
	for (uint64_t i = 0; i < 400; i++)
		put(fs, "/sparse", i * 2 * BLK, BLK);
	must(core_fallocate(fs, "/d/e/large", 0, 100000, 300000));
	must(core_fallocate(fs, "/sparse", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * BLK, 20 * BLK));
}

static void find_blocks(void)
{
	static const uint8_t zero[BLK];
	const struct pf_d_super *sb = (const void *)pristine;
	uint64_t first_map = pf_get64(sb->sb_map_blk), iclu0 = pf_get64(sb->sb_iclu0_blk);

	for (uint64_t b = 0; b < DEV_NBLK; b++) {
		const struct pf_d_hdr *h = (const void *)(pristine + b * BLK);

		if (memcmp(h, zero, BLK) == 0)
			continue;
		used[nr_used++] = b;
		if (b == 0 || b == DEV_NBLK - 1 || (b >= first_map && pf_get64(h->h_fsid) == pf_get64(sb->sb_fsid)) ||
		    pf_get32(h->h_magic) == PF_MAGIC_LANE)
			meta[nr_meta++] = b;
		else
			continue;
		/* Most inodes are of the many empty files. */
		if (pf_get32(h->h_magic) != PF_MAGIC_INODE || b == iclu0 + PF_INO_ROOT / 8 ||
		    b == iclu0 + ino_sparse / 8 || b == iclu0 + ino_large / 8)
			hot[nr_hot++] = b;
	}
}

/* As a crash would leave it: not marked clean, an unlinked file that is still held, lanes that were used. */
static void make_image(void)
{
	struct pf_mkfs m = { .label = "fuzz" };
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_entry held;
	const char *why;
	struct pf_fs *fs;

	must(pf_mkfs(pm, &m));
	fz_fix_identity(pm);
	must(core_mount(pm, &fs, &why));
	populate(fs);
	put(fs, "/held", 0, 50000);
	must(pf_op_lookup(fs, PF_INO_ROOT, "held", &held));
	must(core_unlink(fs, "/held"));
	ino_sparse = (uint64_t)core_find(fs, "/sparse");
	ino_large = (uint64_t)core_find(fs, "/d/e/large");
	pristine = mmap(NULL, DEV_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pristine == MAP_FAILED)
		abort();
	memcpy(pristine, pm->base, DEV_BYTES);
	pf_op_forget(fs, held.ino, 1);
	core_unmount(fs);
	mem_close(pm);
	find_blocks();
}

/* ---- damage ---- */

struct rng { uint64_t s; };

static uint64_t rnd(struct rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(struct rng *r, uint64_t n)
{
	return rnd(r) % n;
}

/* Values at which something overflows, or which mean something elsewhere. */
static uint64_t nasty(struct rng *r)
{
	static const uint64_t v[] = {
		0, 1, 7, 8, 9, 10, 11, 63, 64, 168, 169, 255, 256, 511, 512, 4095, 4096, UINT64_C(0xffff),
		UINT64_C(0x7fffffff), UINT64_C(0xffffffff), UINT64_C(1) << 40, UINT64_C(1) << 51, UINT64_C(1) << 52,
		UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX - UINT32_MAX - 1, UINT64_MAX - 1, UINT64_MAX,
		DEV_NBLK, DEV_NBLK - 1, DEV_NBLK - 2,
	};

	return below(r, 4) == 0 ? meta[below(r, nr_meta)] : v[below(r, PF_ARRAY_LEN(v))];
}

static void reseal(uint8_t *base, uint64_t blk)
{
	struct pf_d_hdr *h = (void *)(base + blk * BLK);

	if (blk == 0 || blk == DEV_NBLK - 1) {
		struct pf_d_super *sb = (void *)h;

		sb->sb_crc = pf_put32(pf_sb_sum(sb));
	} else if (pf_get32(h->h_magic) == PF_MAGIC_INODE) {
		for (unsigned int i = 0; i < BLK / PF_INODE_SIZE; i++)
			pf_md_seal(PF_MD_INODE, (uint8_t *)h + i * PF_INODE_SIZE);
	} else {
		pf_md_seal(PF_MD_NODE, h);
	}
}

static void break_block(struct rng *r, uint8_t *base, uint64_t blk)
{
	uint8_t *p = base + blk * BLK;
	uint64_t v = nasty(r), n = 1 + below(r, 3);

	switch (below(r, 8)) {
	case 0:				/* bits */
		for (; n > 0; n--)
			p[below(r, BLK)] ^= (uint8_t)(1U << below(r, 8));
		break;
	case 1:				/* bits near the start, where the headers are */
		for (; n > 0; n--)
			p[below(r, 320)] ^= (uint8_t)(1U << below(r, 8));
		break;
	case 2:
		memcpy(p + below(r, BLK / 8) * 8, &v, 8);
		break;
	case 3:
		memcpy(p + below(r, 64) * 8, &v, 8);
		break;
	case 4:
		memcpy(p + below(r, BLK / 4) * 4, &v, 4);
		break;
	case 5:
		memcpy(p + below(r, BLK / 2) * 2, &v, 2);
		break;
	case 6:				/* another block's bytes, or a part of them */
		memcpy(p + (n == 1 ? 64 : 0), base + meta[below(r, nr_meta)] * BLK + (n == 1 ? 64 : 0),
		       n == 1 ? BLK - 64 : BLK);
		break;
	case 7:				/* gone */
		memset(p, 0, n == 1 ? BLK : 64 * n);
		break;
	}
}

/* A field of the object itself, not just a word of its block. */
static void break_field(struct rng *r, uint8_t *base, uint64_t blk)
{
	uint8_t *p = base + blk * BLK, *at;
	struct pf_d_hdr *h = (void *)p;
	uint64_t v = nasty(r), off = sizeof *h;
	unsigned int size = 8;

	if (blk == 0 || blk == DEV_NBLK - 1) {
		at = p + 64 + below(r, 18) * 8;
	} else if (pf_get32(h->h_magic) == PF_MAGIC_INODE) {
		at = p + below(r, 8) * PF_INODE_SIZE;
		/* Half of the time the first records of the tree. */
		at += below(r, 2) == 0 ? 256 + below(r, 11) * 8 : 24 + below(r, 29) * 8;
		size = below(r, 3) == 0 ? 4 : 8;
	} else if (pf_get32(h->h_magic) == PF_MAGIC_NODE) {
		uint64_t n = 1 + pf_get16(h->h_count) % PF_NODE_RECS;

		at = p + off + below(r, n) * sizeof(struct pf_d_rec);
		at += below(r, 3) * 8;
		size = below(r, 3) == 0 ? 4 : 8;
	} else if (pf_get32(h->h_magic) == PF_MAGIC_DIR) {
		for (uint64_t n = below(r, 40); n > 0; n--) {
			uint64_t len = pf_get16(((struct pf_d_dirent *)(void *)(p + off))->de_reclen);

			if (len < 8 || len % 8 != 0 || off + len + sizeof(struct pf_d_dirent) > BLK)
				break;
			off += len;
		}
		at = p + off + (below(r, 3) == 0 ? 16 + below(r, 2) * 2 : below(r, 2) * 8);
		size = at - p - off >= 16 ? 2 : 8;
	} else {
		at = p + 8 + below(r, 16) * 8;
	}
	if (below(r, 3) == 0) {			/* near to what it was */
		memcpy(&v, at, 8);
		v += below(r, 5) - 2;
	}
	memcpy(at, &v, size);
}

/* What once went wrong, or would have: seeds from KNOWN on. */
#define KNOWN (UINT64_C(1) << 62)

static struct pf_d_inode *inode_at(uint8_t *base, uint64_t ino)
{
	const struct pf_d_super *sb = (const void *)base;

	return (struct pf_d_inode *)(void *)(base + pf_get64(sb->sb_iclu0_blk) * BLK) + ino;
}

/* Bytes of a page that no file has do not fit into 64 bits: a seek came back to where it was. */
static void known_far_page(uint8_t *base)
{
	struct pf_d_inode *di = inode_at(base, ino_large);

	di->i_root.t_rec[0].r_key = pf_put64(UINT64_C(1) << 52);
	di->i_root.t_count = pf_put16(1);
	pf_md_seal(PF_MD_INODE, di);
}

/* A node whose keys do not lie where its separator says: the next extent lay before the one asked for. */
static void known_node_order(uint8_t *base)
{
	struct pf_d_inode *di = inode_at(base, ino_sparse);
	struct pf_d_node *n = (void *)(base + pf_get64(di->i_root.t_rec[1].r_dblk) * BLK);

	n->n_rec[0].r_key = pf_put64(0);
	pf_md_seal(PF_MD_NODE, n);
}

static void known_separator(uint8_t *base)
{
	struct pf_d_inode *di = inode_at(base, ino_sparse);

	di->i_root.t_rec[1].r_key = pf_put64(pf_get64(di->i_root.t_rec[1].r_key) + 51);
	pf_md_seal(PF_MD_INODE, di);
}

static void (*const known[])(uint8_t *base) = { known_far_page, known_node_order, known_separator };

static void damage(uint64_t seed, uint8_t *base)
{
	struct rng r = { seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
	unsigned int n = 1 + (unsigned int)below(&r, 4);
	bool seal = below(&r, 4) != 0;

	if (seed >= KNOWN) {
		known[seed - KNOWN](base);
		return;
	}
	while (n-- > 0) {
		uint64_t blk = below(&r, 3) == 0 ? meta[below(&r, nr_meta)] : hot[below(&r, nr_hot)];

		if (below(&r, 3) == 0)
			break_block(&r, base, blk);
		else
			break_field(&r, base, blk);
		if (seal)
			reseal(base, blk);
	}
}

/* ---- one seed, in the child ---- */

static int fsck(struct pf_pm *pm, FILE *out)
{
	struct fsck f = { .out = out };

	return fsck_check(&f, pm, "image");
}

/* Whatever they return. */
static void change_things(struct pf_fs *fs)
{
	static uint8_t buf[40000];

	(void)core_create(fs, "/d/new");
	(void)!core_write(fs, "/d/new", 0, buf, sizeof buf);
	(void)!core_write(fs, "/sparse", 3 * BLK, buf, 5000);
	(void)!core_write(fs, "/d/small", 50, buf, 5000);
	(void)core_fallocate(fs, "/sparse", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * BLK, 60 * BLK);
	(void)core_fallocate(fs, "/d/e/large", FALLOC_FL_ZERO_RANGE, 1000, 200000);
	(void)core_truncate(fs, "/sparse", 300 * BLK + 5);
	(void)core_truncate(fs, "/d/e/large", UINT64_C(1) << 40);
	(void)core_rename(fs, "/d/small", "/d/e/f/link", 0);
	(void)core_rename(fs, "/d/e", "/many/e", 0);
	(void)core_rename(fs, "/d", "/many", RENAME_EXCHANGE);
	(void)core_mkdir(fs, "/many/dir");
	(void)core_rmdir(fs, "/d/e/f");
	(void)core_unlink(fs, "/sparse");
	(void)core_unlink(fs, "/many/a-file-with-a-name-1-01");
	(void)core_unlink(fs, "/d/a-file-with-a-name-1-01");
	(void)core_symlink(fs, "/many/sym", "target");
	(void)core_link(fs, "/d/new", "/new2");
}

/* What the child tells the parent. */
struct told {
	uint64_t seed;
	bool wrong;
	char what[128];
	unsigned int clean, mounted, damaged;	/* images: fsck content; could be mounted; the walk met damage */
};
static struct told *told;

/* NULL, or what is wrong. */
static const char *one(struct pf_pm *pm, FILE *out)
{
	/* fsck replays into the image: as the mount would. */
	bool clean = fsck(pm, out) == FSCK_OK;
	unsigned int damaged;
	const char *why;
	struct pf_fs *fs;
	char *text;

	told->clean += clean;
	if (core_mount(pm, &fs, &why) != 0)
		return clean ? "fsck says clean, but it cannot be mounted" : NULL;
	text = core_describe(fs, &damaged);
	free(text);
	told->mounted++;
	told->damaged += damaged != 0;
	change_things(fs);
	core_unmount(fs);
	if (!clean)
		return NULL;
	if (damaged != 0)
		return "fsck says clean, but the walk found damage";
	return fsck(pm, out) == FSCK_OK ? NULL : "fsck says clean, but no more after the mount";
}

static void run_seed(uint64_t seed, FILE *out)
{
	const struct itimerval cpu = { .it_value = { .tv_sec = CPU_SECONDS } };
	const struct itimerval limit = { .it_value = { .tv_sec = SECONDS } };
	struct pf_pm *pm = mem_open(DEV_BYTES);
	const char *what;

	told->seed = seed;
	rewind(out);
	(void)setitimer(ITIMER_PROF, &cpu, NULL);
	(void)setitimer(ITIMER_REAL, &limit, NULL);
	for (unsigned int i = 0; i < nr_used; i++)
		memcpy(pm->base + used[i] * BLK, pristine + used[i] * BLK, BLK);
	damage(seed, pm->base);
	what = one(pm, out);
	if (what != NULL) {
		told->wrong = true;
		(void)snprintf(told->what, sizeof told->what, "%s", what);
		_exit(1);
	}
	mem_close(pm);
}

/* The end of what the child had to say. */
static void print_tail(const char *log)
{
	static char buf[6000];
	FILE *f = fopen(log, "re");
	size_t n;

	if (f == NULL)
		return;
	(void)fseek(f, 0, SEEK_END);
	(void)fseek(f, ftell(f) > (long)sizeof buf - 1 ? -(long)(sizeof buf - 1) : -ftell(f), SEEK_END);
	n = fread(buf, 1, sizeof buf - 1, f);
	buf[n] = '\0';
	(void)printf("%s\n", buf);
	(void)fclose(f);
}

/* Seeds [from, to) in one child. Returns the seed to go on with. */
static uint64_t run_batch(uint64_t from, uint64_t to, const char *log)
{
	int status, fd;
	pid_t pid;

	told->wrong = false;
	told->seed = from;
	pid = fork();
	if (pid == 0) {
		FILE *out = fopen(log, "we");

		fd = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
		if (out == NULL || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
			_exit(2);
		for (uint64_t seed = from; seed < to; seed++)
			run_seed(seed, out);
		_exit(0);
	}
	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return to;
	(void)printf("seed %" PRIu64 ": %s", told->seed, told->wrong ? told->what : "");
	if (WIFSIGNALED(status))
		(void)printf("%s", WTERMSIG(status) == SIGALRM	? "waits for ever" :
				   WTERMSIG(status) == SIGPROF	? "loops for ever" :
								  strsignal(WTERMSIG(status)));
	(void)printf(" (PINFS_FUZZ_SEED=%" PRIu64 " PINFS_FUZZ_RUNS=1)\n", told->seed);
	print_tail(log);
	CU_FAIL("a damaged image was not handled");
	return told->seed + 1;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);

	return v != NULL ? strtoull(v, NULL, 0) : otherwise;
}

static char log_path[256];

static void test_known(void)
{
	for (uint64_t seed = KNOWN; seed < KNOWN + PF_ARRAY_LEN(known);)
		seed = run_batch(seed, KNOWN + PF_ARRAY_LEN(known), log_path);
	(void)unlink(log_path);
}

static void test_fuzz(void)
{
	uint64_t seed = env_number("PINFS_FUZZ_SEED", 1), runs = env_number("PINFS_FUZZ_RUNS", 800), end = seed + runs;
	unsigned int failures = CU_get_number_of_failures();

	told->clean = told->mounted = told->damaged = 0;
	while (seed < end && CU_get_number_of_failures() < failures + 20)
		seed = run_batch(seed, pf_min64(end, seed + BATCH), log_path);
	(void)printf("%" PRIu64 " images, %u clean, %u mounted, %u of them with damage met ... ", runs, told->clean,
		     told->mounted, told->damaged);
	/* Damage that nobody can get at tests nothing. */
	if (runs >= 500)
		CU_ASSERT(told->damaged > runs / 20 && told->mounted > told->damaged);
	if (runs != 1)
		(void)unlink(log_path);
	else
		(void)printf("said: %s\n", log_path);
}

/* The image itself is sound, and a checker that is told to believe damage is found out. */
static void test_twin(void)
{
	struct pf_pm *pm = mem_open(DEV_BYTES);
	FILE *out = fopen("/dev/null", "we");
	unsigned int missed = 0, broken = 200;

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	memcpy(pm->base, pristine, DEV_BYTES);
	CU_ASSERT_PTR_NULL(one(pm, out));
	/* One bit in a block with a checksum, sealed or not: nearly always seen. */
	for (unsigned int i = 0; i < broken; i++) {
		struct rng r = { i + 1 };

		memcpy(pm->base, pristine, DEV_BYTES);
		pm->base[meta[below(&r, nr_meta)] * BLK + below(&r, BLK)] ^= 1;
		missed += fsck(pm, out) == FSCK_OK;
	}
	CU_ASSERT(missed < broken / 4);		/* unused inode slots may hold anything */
	(void)fclose(out);
	mem_close(pm);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "the image, and one bit of it", test_twin },
		{ "damage that once was not handled", test_known },
		{ "damaged images", test_fuzz },
	};
	const char *tmp = getenv("TMPDIR");

	pf_log_init("fuzz", PF_LOG_ERR, false);
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		return 1;
	(void)snprintf(log_path, sizeof log_path, "%s/fuzz-%d.log", tmp != NULL ? tmp : "/dev/shm", (int)getpid());
	make_image();
	return unit_main("fuzz", cases, PF_ARRAY_LEN(cases));
}
