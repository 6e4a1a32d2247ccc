/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy_stress.c - stores, pins, DMA, punches and truncates from several processes at once, judged by the bytes.
 *
 * Whoever writes to a file, by write(2), through a window or by DMA, writes pattern lines that name the file and
 * the offset. So at any time each byte of each file is 0 or what the pattern has at that very place; lines that are
 * neither were meant for somewhere else. Each worker writes to pages of its own (so lines are not torn by another
 * writer) and cuts everybody's. The same run under on_busy=unsafe finds such bytes, mostly after some hundred calls, so
 * the others make tens of thousands. What it may not have found by chance is made in the end (strike()).
 * PINFS_STRESS_S: seconds of the long case instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "dma/dma.h"
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define WORKERS 4
#define FILES 6
#define PAGES 64U			/* of a file, at most */
#define PAGE 4096U
#define WORDS (PAGE / 8)
#define BALLAST_PAGES 2400		/* leaves so little room that blocks change hands all the time */
#define FLIGHTS 8			/* DMAs of a worker under way at once */
#define OWN_PAGES 8

enum { T_STORE, T_WRITE, T_DMA, T_TRUNCATE, T_OTRUNC, T_PUNCH, T_ZERO, T_READ, T_REMAP, T_RECREATE, T_NR };
static const char *const t_name[T_NR] = { "stores", "writes", "DMAs", "truncates", "O_TRUNCs", "punches", "zeroings",
					  "reads", "remaps", "recreations" };

/* Shared by the workers and the case. */
struct board {
	_Atomic uint64_t done[T_NR];
	_Atomic uint64_t strange;	/* pages with bytes that do not belong there */
	_Atomic uint64_t failed;	/* calls that failed as they must not */
	_Atomic bool stop;
	char first[256];		/* about the first of either */
	atomic_flag taken;
};

struct worker {
	const struct pt_fs *fs;
	struct board *b;
	unsigned int me;
	uint64_t rnd, id;
	struct dma_engine *e;
	struct dma_xfer *flight[FLIGHTS];
	unsigned int nflight;		/* so far */
	int own;			/* a file of its own, or -1 */
	struct { char path[512]; uint64_t ino; char *map; } f[FILES];
	sigjmp_buf bus;
};

static struct worker w;			/* one per process */

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(w.bus, 1);
}

static uint64_t rnd(uint64_t n)
{
	w.rnd ^= w.rnd << 13;
	w.rnd ^= w.rnd >> 7;
	w.rnd ^= w.rnd << 17;
	return w.rnd % n;
}

static void note(_Atomic uint64_t *count, const char *fmt, ...) PF_PRINTF(2, 3);
static void note(_Atomic uint64_t *count, const char *fmt, ...)
{
	va_list ap;

	atomic_fetch_add(count, 1);
	if (atomic_flag_test_and_set(&w.b->taken))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(w.b->first, sizeof w.b->first, fmt, ap);
	va_end(ap);
}

/* All words but transfer, sequence and checksum follow from the file and the offset. */
static struct dma_pat pat(unsigned int f)
{
	struct dma_pat p = { .dp_id = w.id, .dp_ino = w.f[f].ino };

	dma_pat_label(&p, "stress");
	return p;
}

/* Bytes of a page that are neither 0 nor this file's at this place. (A cut may go through the middle of a word.) */
static unsigned int strange_bytes(unsigned int f, uint64_t foff, const uint8_t *got, size_t bytes)
{
	struct dma_pat p = pat(f);
	uint8_t want[PAGE];
	unsigned int n = 0;

	dma_pat_fill(&p, foff, want, bytes);
	for (size_t i = 0; i < bytes; i++) {
		size_t word = i / 8 % 8;
		bool any = word == 1 || word == 2 || word == 7;		/* transfer, sequence, checksum */

		n += !any && got[i] != 0 && got[i] != want[i];
	}
	return n;
}

/* Read twice when something looks odd: a word may be read while it is being written. */
static void check_page(unsigned int f, uint64_t page)
{
	uint8_t got[PAGE];
	int fd = open(w.f[f].path, O_RDONLY | O_CLOEXEC);
	unsigned int n = 0;
	ssize_t len;

	if (fd < 0)
		return;
	for (int turn = 0; turn < 2 && (turn == 0 || n != 0); turn++) {
		len = pread(fd, got, sizeof got, (off_t)(page * PAGE));
		if (len < 0)
			note(&w.b->failed, "read of file %u: %s", f, strerror(errno));
		n = len > 0 ? strange_bytes(f, page * PAGE, got, (size_t)len) : 0;
	}
	if (n != 0)
		note(&w.b->strange, "file %u (inode %llu) page %llu: %u strange bytes", f,
		     (unsigned long long)w.f[f].ino, (unsigned long long)page, n);
	(void)close(fd);
}

/* One of our own pages. */
static uint64_t own_page(void)
{
	return w.me + WORKERS * rnd(PAGES / WORKERS);
}

static bool allowed(int err)
{
	return err == ENOSPC || err == EBUSY || err == EINTR || err == EAGAIN;
}

static void do_store(unsigned int f)
{
	uint64_t foff = own_page() * PAGE + 64 * rnd(64), line[8];
	struct dma_pat p;

	w.id++;
	p = pat(f);
	dma_pat_fill(&p, foff, line, sizeof line);
	if (sigsetjmp(w.bus, 1) == 0)
		memcpy(w.f[f].map + foff, line, sizeof line);
}

static void do_write(unsigned int f)
{
	uint64_t page = own_page(), buf[WORDS];
	int fd = open(w.f[f].path, O_WRONLY | O_CLOEXEC);
	struct dma_pat p;

	if (fd < 0)
		return;
	w.id++;
	p = pat(f);
	dma_pat_fill(&p, page * PAGE, buf, sizeof buf);
	if (pwrite(fd, buf, sizeof buf, (off_t)(page * PAGE)) != (ssize_t)sizeof buf && !allowed(errno))
		note(&w.b->failed, "write to file %u: %s", f, strerror(errno));
	(void)close(fd);
}

static void land(struct dma_xfer **x)
{
	if (*x == NULL)
		return;
	(void)dma_xfer_wait(*x, DMA_NEVER);
	dma_xfer_put(*x);
	*x = NULL;
}

/* The device is told now and writes a little later, when all have had time to cut, the worker itself too. */
static void do_dma(unsigned int f)
{
	const struct dma_how how = { .mode = DMA_PIN };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_xfer **x = &w.flight[w.nflight % FLIGHTS];
	int err;

	land(x);
	w.id++;
	d.pat.dp_id = w.id;
	dma_pat_label(&d.pat, "stress");
	d.delay_ns = rnd(6) * 1000000;
	err = dma_submit_window(w.e, w.f[f].map + own_page() * PAGE, PAGE, &how, &d, x);
	if (err == 0)
		w.nflight++;
	else
		*x = NULL;
	if (err != 0 && err != -EFAULT && err != -EAGAIN && err != -ENOSPC)	/* beyond the end by now */
		note(&w.b->failed, "DMA to file %u: %s", f, strerror(-err));
}

static void do_truncate(unsigned int f)
{
	if (truncate(w.f[f].path, (off_t)(rnd(4) != 0 ? PAGES * PAGE : rnd(PAGES * PAGE))) != 0 && !allowed(errno))
		note(&w.b->failed, "truncate of file %u: %s", f, strerror(errno));
}

static void do_open_trunc(unsigned int f)
{
	int fd = open(w.f[f].path, O_RDWR | O_TRUNC | O_CLOEXEC);

	if (fd < 0) {
		if (!allowed(errno))
			note(&w.b->failed, "O_TRUNC of file %u: %s", f, strerror(errno));
		return;
	}
	(void)!ftruncate(fd, PAGES * PAGE);
	(void)close(fd);
}

static void do_fallocate(unsigned int f, int mode)
{
	int fd = open(w.f[f].path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)rnd(PAGES * PAGE), (off_t)(1 + rnd(4 * PAGE))) != 0 &&
	    !allowed(errno))
		note(&w.b->failed, "fallocate(%d) of file %u: %s", mode, f, strerror(errno));
	(void)close(fd);
}

static bool map_file(unsigned int f)
{
	int fd = open(w.f[f].path, O_RDWR | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return false;
	if (w.f[f].map != NULL)
		(void)munmap(w.f[f].map, PAGES * PAGE);
	w.f[f].ino = (uint64_t)st.st_ino;
	w.f[f].map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	return w.f[f].map != MAP_FAILED;
}

static void check_own(void)
{
	uint64_t want[WORDS], got[WORDS];

	memset(want, 0xa0 + (int)w.me, sizeof want);
	for (off_t at = 0; w.own >= 0 && pread(w.own, got, sizeof got, at) == (ssize_t)sizeof got; at += PAGE)
		if (memcmp(want, got, sizeof got) != 0)
			note(&w.b->strange, "worker %u's own file: page %u is not what was written", w.me,
			     (unsigned int)(at / PAGE));
}

/* A file of our own that holds what nobody else should write. It goes, and one in new blocks comes. */
static void do_recreate(void)
{
	uint64_t buf[WORDS];
	char path[512];

	(void)snprintf(path, sizeof path, "%s", pt_path(w.fs, "own%u", w.me));
	check_own();
	if (w.own >= 0)
		(void)close(w.own);
	(void)unlink(path);
	w.own = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (w.own < 0 && !allowed(errno))
		note(&w.b->failed, "create: %s", strerror(errno));
	memset(buf, 0xa0 + (int)w.me, sizeof buf);
	for (unsigned int i = 0; w.own >= 0 && i < OWN_PAGES; i++)
		if (write(w.own, buf, sizeof buf) != (ssize_t)sizeof buf)
			break;
}

static int work(void *arg)
{
	struct sigaction bus = { .sa_handler = on_bus };
	const struct worker *start = arg;

	w = *start;
	w.rnd = UINT64_C(0x9e3779b97f4a7c15) * (w.me + 1);
	w.id = ((uint64_t)w.me + 1) << 32;
	w.own = -1;
	(void)sigaction(SIGBUS, &bus, NULL);
	if (dma_engine_start(&w.e) != 0)
		return 1;
	for (unsigned int f = 0; f < FILES; f++)
		if (!map_file(f))
			return 1;
	while (!atomic_load(&w.b->stop)) {
		unsigned int f = (unsigned int)rnd(FILES), t = (unsigned int)rnd(T_NR);

		switch (t) {
		case T_STORE: do_store(f); break;
		case T_WRITE: do_write(f); break;
		case T_DMA: do_dma(f); break;
		case T_TRUNCATE: do_truncate(f); break;
		case T_OTRUNC: do_open_trunc(f); break;
		case T_PUNCH: do_fallocate(f, FALLOC_FL_PUNCH_HOLE); break;
		case T_ZERO: do_fallocate(f, FALLOC_FL_ZERO_RANGE); break;
		case T_READ: check_page(f, rnd(PAGES)); break;
		case T_REMAP:
			if (!map_file(f))
				note(&w.b->failed, "remap of file %u: %s", f, strerror(errno));
			break;
		case T_RECREATE: do_recreate(); break;
		default: break;
		}
		atomic_fetch_add(&w.b->done[t], 1);
	}
	for (unsigned int i = 0; i < FLIGHTS; i++)
		land(&w.flight[i]);
	check_own();
	dma_engine_stop(w.e);
	return 0;
}

/*
 * What the workers do by chance, for certain: the device writes when a cut of its pages has returned, and somebody else
 * has all that is free.
 */
static int strike(void *arg)
{
	const struct dma_how how = { .mode = DMA_PIN };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	uint64_t buf[WORDS];
	struct dma_xfer *x;
	char path[512];

	w = *(const struct worker *)arg;
	(void)snprintf(path, sizeof path, "%s", pt_path(w.fs, "strike"));
	d.pat.dp_id = UINT64_C(1) << 48;
	dma_pat_label(&d.pat, "stress");
	d.delay_ns = UINT64_C(3600) * 1000000000;
	if (truncate(w.f[0].path, PAGES * PAGE) != 0 || dma_engine_start(&w.e) != 0 || !map_file(0) ||
	    dma_submit_window(w.e, w.f[0].map, OWN_PAGES * PAGE, &how, &d, &x) != 0)
		return 1;
	if (truncate(w.f[0].path, 0) != 0 && errno != EBUSY)
		return 1;
	w.own = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	memset(buf, 0xa0 + (int)w.me, sizeof buf);
	while (w.own >= 0 && write(w.own, buf, sizeof buf) == (ssize_t)sizeof buf)
		;
	if (errno != ENOSPC)
		return 1;
	dma_xfer_go(x);
	land(&x);
	check_own();
	dma_engine_stop(w.e);
	return close(w.own) != 0 || unlink(path) != 0;
}

static void prepare(struct pt_fs *fs)
{
	static char buf[BALLAST_PAGES * PAGE];
	int fd;

	for (unsigned int f = 0; f < FILES; f++) {
		fd = open(pt_path(fs, "f%u", f), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		PT_SYS_FATAL(fd);
		PT_SYS(ftruncate(fd, PAGES * PAGE));
		(void)close(fd);
	}
	fd = open(pt_path(fs, "ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_EQ(write(fd, buf, sizeof buf), sizeof buf);
	(void)close(fd);
}

static uint64_t calls_of(struct board *b)
{
	uint64_t n = 0;

	for (unsigned int t = 0; t < T_NR; t++)
		n += atomic_load(&b->done[t]);
	return n;
}

/* For @calls, or for @seconds, whichever comes first. @at_once: a cut does not wait for pins. */
static void stress(const char *opts, uint64_t calls, unsigned int seconds, bool at_once, bool damage)
{
	struct worker start = { .me = 0 };
	pid_t pid[WORKERS];
	struct board *b;
	struct pt_fs *fs;
	char line[512] = "";

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", opts);
	prepare(fs);
	b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(b != MAP_FAILED);
	start.fs = fs;
	start.b = b;
	for (unsigned int f = 0; f < FILES; f++)
		(void)snprintf(start.f[f].path, sizeof start.f[f].path, "%s", pt_path(fs, "f%u", f));
	for (unsigned int i = 0; i < WORKERS; i++) {
		start.me = i;
		pid[i] = pt_fork(work, &start);
		PT_SYS_FATAL(pid[i]);
	}
	for (uint64_t end = pt_now_ms() + seconds * 1000;
	     (pt_now_ms() < end || calls_of(b) <= 100) && calls_of(b) < calls &&
	     (!damage || b->strange + b->failed == 0);)
		pt_sleep_ms(10);
	atomic_store(&b->stop, true);
	for (unsigned int i = 0; i < WORKERS; i++)
		PT_EQ(pt_wait(pid[i], 120000), 0);
	if (at_once && b->strange + b->failed == 0) {
		start.me = 0;
		PT_EQ(pt_wait(pt_fork(strike, &start), 120000), 0);
		if (damage)
			pt_say("nothing by chance");
	}

	for (unsigned int t = 0; t < T_NR; t++) {
		size_t n = strlen(line);

		(void)snprintf(line + n, sizeof line - n, "%s%llu %s", t == 0 ? "" : ", ",
			       (unsigned long long)b->done[t], t_name[t]);
	}
	pt_say("%s", line);
	w = start;
	for (unsigned int f = 0; f < FILES; f++) {
		struct stat st = { .st_ino = 0 };

		if (stat(w.f[f].path, &st) != 0 && damage)
			continue;		/* its directory, perhaps */
		CU_ASSERT(st.st_ino != 0);
		w.f[f].ino = (uint64_t)st.st_ino;
		for (uint64_t page = 0; page < PAGES; page++)
			check_page(f, page);
	}
	if (b->first[0] != '\0')
		pt_say("%llu strange, %llu failed; first: %s", (unsigned long long)b->strange,
		       (unsigned long long)b->failed, b->first);
	if (damage) {
		/* Metadata may have been hit as well, or first: then calls fail, and fsck finds more than nothing. */
		CU_ASSERT(b->strange + b->failed != 0);
		(void)pt_fs_umount(fs);
		pt_fs_crash(fs);
		PT_SYS(truncate(fs->log, 0));	/* thousands of collisions, each reported */
	} else {
		PT_EQ(b->strange, 0);
		PT_EQ(b->failed, 0);
		pt_fs_end(fs);
	}
	(void)munmap(b, sizeof *b);
}

/* Workers cut what their own device writes to: it lets go by itself, which the daemon cannot know. */
static void wait_range(void)
{
	const char *env = getenv("PINFS_STRESS_S");
	unsigned int s = env != NULL ? (unsigned int)strtoul(env, NULL, 10) : 0;

	stress("on_busy=wait,deadlock=wait", s != 0 ? UINT64_MAX : 40000, s != 0 ? s : 60, false, false);
}

static void wait_file(void) { stress("on_busy=wait,break=file,deadlock=wait", 15000, 30, false, false); }
static void ebusy(void) { stress("on_busy=ebusy", 15000, 30, true, false); }
static void defer(void) { stress("on_busy=defer", 15000, 30, true, false); }
static void unsafe(void) { stress("on_busy=unsafe", UINT64_MAX, 20, true, true); }

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "wait", wait_range, 3600 },
		{ "wait-file", wait_file, 0 },
		{ "ebusy", ebusy, 0 },
		{ "defer", defer, 0 },
		{ "unsafe", unsafe, 0 },
	};
	static const struct pt_suite suite = { "stress", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
