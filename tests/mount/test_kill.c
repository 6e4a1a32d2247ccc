/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kill.c - SIGKILL for the daemon while programs write: nothing that was answered is lost.
 *
 * Writers create, write, sync, rename, link and unlink, each in a directory of its own and always the same sequence;
 * how far a writer has come is noted outside, in shared memory, after each answer. When they have come far enough the
 * daemon is killed, and often killed again while it mounts, at some moment of its first 20 ms. fsck -n is content with
 * what is left each time; the next mount shows every directory as after the last answer, or with the call after it as
 * well.
 *
 * The twin's writers note an answer before they have it; that must be found. PINFS_KILLS=N kills N times instead.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define WRITERS 3U
#define PHASES 9U
#define HALF 3000U
#define WHOLE 9000U
#define WAIT_MS 60000U
#define LIMIT_S 800U

/* What the writers say of themselves. */
struct notes {
	_Atomic uint64_t begun[WRITERS], done[WRITERS];		/* steps */
	_Atomic int error[WRITERS];				/* of a step, with the daemon alive */
	_Atomic bool killed, early;
};

struct writer { const struct pt_fs *fs; struct notes *n; unsigned int nr; };

static void fill(uint8_t *buf, unsigned int nr, uint64_t cycle)
{
	for (unsigned int i = 0; i < WHOLE; i++)
		buf[i] = (uint8_t)((i * 7 + i / 256) ^ (cycle * 31 + nr * 101 + 1));
}

/* ---- what a writer does ---- */

static int put(const char *path, const uint8_t *buf, unsigned int from, unsigned int to)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = -1;

	if (fd < 0)
		return -1;
	if (pwrite(fd, buf + from, to - from, from) == (ssize_t)(to - from))
		rc = fsync(fd);
	(void)close(fd);
	return rc;
}

static int step(const struct pt_fs *fs, unsigned int nr, uint64_t at)
{
	unsigned long c = (unsigned long)(at / PHASES);
	const char *f = pt_path(fs, "w%u/f%lu", nr, c), *g = pt_path(fs, "w%u/g%lu", nr, c % 4);
	const char *l = pt_path(fs, "w%u/l%lu", nr, c), *d = pt_path(fs, "w%u/d%lu", nr, c);
	const char *x = pt_path(fs, "w%u/d%lu/x", nr, c);
	uint8_t buf[WHOLE];
	int fd;

	fill(buf, nr, c);
	switch (at % PHASES) {
	case 0:
		fd = open(f, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		return fd < 0 ? -1 : close(fd);
	case 1:
		return put(f, buf, 0, HALF);
	case 2:
		return put(f, buf, HALF, WHOLE);
	case 3:
		return rename(f, g);
	case 4:
		return link(g, l);
	case 5:
		return mkdir(d, 0755);
	case 6:
		return rename(l, x);
	case 7:
		return unlink(x);
	default:
		return rmdir(d);
	}
}

static int write_on(void *arg)
{
	struct writer *w = arg;
	struct notes *n = w->n;

	for (uint64_t at = atomic_load(&n->done[w->nr]);; at++) {
		atomic_store(&n->begun[w->nr], at + 1);
		if (atomic_load(&n->early))
			atomic_store(&n->done[w->nr], at + 1);
		if (step(w->fs, w->nr, at) != 0) {
			if (!atomic_load(&n->killed))
				atomic_store(&n->error[w->nr], errno);
			return 0;
		}
		atomic_store(&n->done[w->nr], at + 1);
	}
}

/* ---- what must be there ---- */

/* @path holds the first @from to @to bytes of what @cycle writes. */
static bool holds(const char *path, unsigned int nr, uint64_t cycle, off_t from, off_t to)
{
	uint8_t want[WHOLE], got[WHOLE];
	struct stat st;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	fill(want, nr, cycle);
	n = fstat(fd, &st) == 0 ? read(fd, got, sizeof got) : -1;
	(void)close(fd);
	return n == st.st_size && n >= from && n <= to && memcmp(got, want, (size_t)n) == 0;
}

static int entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	if (d == NULL)
		return -1;
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n - 2;
}

/* Is the writer's directory as after @k steps? A write that was under way may be there in part. */
static bool is_after(const struct pt_fs *fs, unsigned int nr, uint64_t k, bool under_way)
{
	static const off_t size[] = { 0, 0, HALF, WHOLE, 0 };
	const uint64_t c = k / PHASES, p = k % PHASES;
	int want = 0;

	for (uint64_t j = 0; j < 4; j++) {
		uint64_t last = c;	/* of the cycles that have renamed a file to this */

		if (p <= 3 || c % 4 != j)
			for (last = c; last-- > 0 && last % 4 != j;)
				;
		if (last == UINT64_MAX)
			continue;
		want++;
		if (!holds(pt_path(fs, "w%u/g%lu", nr, (unsigned long)j), nr, last, WHOLE, WHOLE))
			return false;
	}
	if (p >= 1 && p <= 3) {
		want++;
		if (!holds(pt_path(fs, "w%u/f%lu", nr, (unsigned long)c), nr, c, size[p],
			   under_way && p < 3 ? size[p + 1] : size[p]))
			return false;
	}
	if (p == 5 || p == 6) {
		want++;
		if (!holds(pt_path(fs, "w%u/l%lu", nr, (unsigned long)c), nr, c, WHOLE, WHOLE))
			return false;
	}
	if (p >= 6) {
		want++;
		if (entries(pt_path(fs, "w%u/d%lu", nr, (unsigned long)c)) != (p == 7))
			return false;
		if (p == 7 && !holds(pt_path(fs, "w%u/d%lu/x", nr, (unsigned long)c), nr, c, WHOLE, WHOLE))
			return false;
	}
	return entries(pt_path(fs, "w%u", nr)) == want;
}

/* The number of writers whose answers were not kept. Those that were go on from where they are. */
static unsigned int look(const struct pt_fs *fs, struct notes *n)
{
	unsigned int lost = 0;

	for (unsigned int nr = 0; nr < WRITERS; nr++) {
		uint64_t done = atomic_load(&n->done[nr]), begun = atomic_load(&n->begun[nr]);

		if (begun > done && is_after(fs, nr, done + 1, false))
			atomic_store(&n->done[nr], done + 1);
		else if (!is_after(fs, nr, done, begun > done))
			lost++;
		if (atomic_load(&n->error[nr]) != 0) {
			pt_say("writer %u: step %llu: %s", nr, (unsigned long long)done,
			       strerror(atomic_load(&n->error[nr])));
			CU_FAIL("a writer was refused");
		}
	}
	return lost;
}

/* ---- killing ---- */

static uint64_t total(struct notes *n)
{
	uint64_t sum = 0;

	for (unsigned int nr = 0; nr < WRITERS; nr++)
		sum += atomic_load(&n->done[nr]);
	return sum;
}

/* @steps more of them, then the end of the daemon. */
static void load_and_kill(struct pt_fs *fs, struct notes *n, uint64_t steps)
{
	const uint64_t until = total(n) + steps;
	uint64_t had = total(n), end = pt_now_ms() + WAIT_MS;
	struct writer w[WRITERS];
	pid_t pid[WRITERS];

	atomic_store(&n->killed, false);
	for (unsigned int nr = 0; nr < WRITERS; nr++) {
		w[nr] = (struct writer){ fs, n, nr };
		pid[nr] = pt_fork(write_on, &w[nr]);
		CU_ASSERT_FATAL(pid[nr] > 0);
	}
	/* A slow disk takes its time for each of them. */
	while (total(n) < until && pt_now_ms() < end) {
		if (total(n) != had)
			end = pt_now_ms() + WAIT_MS;
		had = total(n);
		(void)nanosleep(&(struct timespec){ 0, 50000 }, NULL);
	}
	CU_ASSERT(total(n) >= until);
	atomic_store(&n->killed, true);
	pt_fs_crash(fs);
	for (unsigned int nr = 0; nr < WRITERS; nr++)
		PT_EQ(pt_wait(pid[nr], WAIT_MS), 0);
}

/* A daemon that does not get far. */
static void kill_while_mounting(struct pt_fs *fs, const char *opts, uint64_t us)
{
	pid_t pid = pt_spawn((const char *[]){ pt_program("pinfs"), "-f", fs->img, fs->mnt, "-o", opts, NULL }, -1, -1);

	CU_ASSERT_FATAL(pid > 0);
	(void)nanosleep(&(struct timespec){ 0, (long)us * 1000 }, NULL);
	pt_kill(pid);
	while (pt_is_mounted(fs->mnt) && pt_umount2(fs->mnt, MNT_DETACH) == 0)
		;
}

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static struct notes *new_notes(void)
{
	struct notes *n = mmap(NULL, sizeof *n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CU_ASSERT_FATAL(n != MAP_FAILED);
	return n;
}

static unsigned int kills(unsigned int some)
{
	const char *env = getenv("PINFS_KILLS");

	return env != NULL ? (unsigned int)strtoul(env, NULL, 10) : some;
}

static void make_dirs(const struct pt_fs *fs)
{
	for (unsigned int nr = 0; nr < WRITERS; nr++)
		PT_SYS_FATAL(mkdir(pt_path(fs, "w%u", nr), 0755));
}

/* How many times answers were lost in @rounds kills. */
static unsigned int rounds(struct pt_fs *fs, const char *opts, unsigned int rounds_wanted, struct notes *n)
{
	uint64_t seed = 20;
	unsigned int lost = 0, replays = 0, i;

	CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, opts), 0);
	make_dirs(fs);
	for (i = 0; i < rounds_wanted && lost == 0; i++) {
		load_and_kill(fs, n, 20 + rnd(&seed) % 300);
		PT_EQ(pt_fs_fsck(fs), 0);
		for (uint64_t k = rnd(&seed) % 4; k > 0; k--, replays++) {
			kill_while_mounting(fs, opts, rnd(&seed) % 20000);
			PT_EQ(pt_fs_fsck(fs), 0);
		}
		CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, opts), 0);
		lost += look(fs, n);
	}
	pt_say("%llu steps, %u kills, %u of them while mounting", (unsigned long long)total(n), i + replays, replays);
	return lost;
}

static void run(const char *opts, unsigned int some)
{
	struct notes *n;
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("64M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	n = new_notes();
	PT_EQ(rounds(fs, opts, kills(some), n), 0);
	pt_fs_end(fs);
	(void)munmap(n, sizeof *n);
}

static void on_tmpfs(void)
{
	run("pmem=cpu", 25);
}

static void with_msync(void)
{
	run("pmem=msync", 12);
}

/* An image on whatever /var/tmp lies on; the daemon decides how to make it durable. */
static char disk_img[64];

static void drop_disk_img(void)
{
	if (disk_img[0] != '\0')
		(void)unlink(disk_img);
	disk_img[0] = '\0';
}

static void on_disk(void)
{
	char path[] = "/var/tmp/pinfs-kill.XXXXXX", out[512];
	struct notes *n;
	struct pt_fs *fs;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	fd = mkstemp(path);
	PT_SYS_FATAL(fd);
	(void)close(fd);
	(void)unlink(path);
	(void)unlink(fs->img);
	(void)strcpy(disk_img, path);
	(void)strcpy(fs->img, path);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("mkfs.pinfs"), "-s", "16M", path, NULL }), 0);
	n = new_notes();
	PT_EQ(rounds(fs, "pmem=auto", kills(6), n), 0);
	pt_fs_end(fs);
	(void)munmap(n, sizeof *n);
	drop_disk_img();
}

/* Answers that are noted before they are there: the first kills find them missing. */
static void twin(void)
{
	struct notes *n;
	struct pt_fs *fs;
	unsigned int lost = 0;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("64M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	n = new_notes();
	atomic_store(&n->early, true);
	lost = rounds(fs, "pmem=cpu", 200, n);
	CU_ASSERT(lost > 0);
	pt_fs_end(fs);
	(void)munmap(n, sizeof *n);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "an image on tmpfs", on_tmpfs, LIMIT_S },
		{ "the same with msync", with_msync, LIMIT_S },
		{ "an image on a disk", on_disk, LIMIT_S },
		{ "twin: answers noted too early", twin, LIMIT_S },
	};
	static const struct pt_suite suites[] = { { "kill", cases, PF_ARRAY_LEN(cases) } };

	pt_on_cleanup(drop_disk_img);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
