/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_ports.c - what the xfstests about DAX assert. The ideas are theirs, nothing of their code is used. Where they
 * race for a second, these do so for a number of rounds; where they mount, these mount a pinfs of their own (own.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "conform/cases.h"
#include "conform/own.h"
#include "conform/space.h"

#define ROUNDS 60

/* A file of @len bytes @byte that is not DAX and has no name, for direct I/O. */
static int plain_file(struct cf *c, size_t len, int byte, int flags)
{
	const int fd = cf_plain_file(c, 0);
	char *buf = malloc(len);

	CF_MUST(c, buf != NULL);
	memset(buf, byte, len);
	CF_MUST(c, write(fd, buf, len) == (ssize_t)len);
	CF_SYS(c, lseek(fd, 0, SEEK_SET));
	CF_SYS(c, fcntl(fd, F_SETFL, flags));
	free(buf);
	return fd;
}

/* ---- generic/503 ---- */

#define HIT (4 * CF_PAGE)

struct hit {
	char *map;
	int src;
	atomic_uint done, failed, bad;
};

static void *transfers(void *arg)
{
	struct hit *h = arg;
	ssize_t n;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		n = pread(h->src, h->map, HIT, 0);
		if (n < 0 && errno != EFAULT)
			atomic_fetch_add(&h->bad, 1);
		else if (n != (ssize_t)HIT)
			atomic_fetch_add(&h->failed, 1);
	}
	atomic_store(&h->done, 1);
	return NULL;
}

/* One change, and the file is as long as it was. */
static long change(int fd, int mode)
{
	long rc = mode < 0 ? cf_rc(ftruncate(fd, 0)) : mode == FALLOC_FL_COLLAPSE_RANGE ?
		cf_rc(fallocate(fd, mode, 0, (off_t)CF_PAGE)) : cf_rc(fallocate(fd, mode, 0, (off_t)HIT));

	return rc < 0 ? rc : cf_rc(ftruncate(fd, (off_t)HIT));
}

/* What was given back goes to a stranger, which is looked at when the next transfers have come and gone. */
static size_t stranger(struct cf *c)
{
	static bool there;
	size_t torn = 0;
	char buf[HIT];
	int fd;

	if (there) {
		torn = cf_victim_torn(c);
		CF_SYS(c, unlink(cf_path(c, "victim")));
	}
	memset(buf, CF_VICTIM, sizeof buf);
	fd = (int)CF_SYS(c, open(cf_path(c, "victim"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	CF_MUST(c, write(fd, buf, sizeof buf) == (ssize_t)sizeof buf);
	CF_SYS(c, close(fd));
	there = true;
	return torn;
}

static void collision(struct cf *c)
{
	const int mode = *(const int *)cf_arg(c);
	struct hit h = { .src = plain_file(c, HIT, CF_DMA, O_DIRECT) };
	int fd = cf_file(c, "f", HIT);
	unsigned int rounds = 0;
	size_t torn = 0;
	pthread_t t;
	long rc;

	h.map = cf_map(c, fd, 0, HIT, PROT_READ | PROT_WRITE);
	CF_MUST(c, pthread_create(&t, NULL, transfers, &h) == 0);
	do {
		rc = change(fd, mode);
		if (rc < 0 && rc != -EBUSY)
			break;
		torn += stranger(c);
		rounds++;
		rc = 0;
	} while (!atomic_load(&h.done));
	CF_MUST(c, pthread_join(t, NULL) == 0);
	torn += stranger(c);
	cf_note(c, "%u transfers beside %u changes: %u short or EFAULT; %zu bytes of others torn", ROUNDS, rounds,
		atomic_load(&h.failed), torn);
	if (rc < 0)
		cf_answer_rc(c, rc);
	else if (torn != 0 || atomic_load(&h.bad) != 0)
		cf_answer(c, torn != 0 ? "torn" : "another errno");
	else if (mode >= 0 && mode != FALLOC_FL_COLLAPSE_RANGE && atomic_load(&h.failed) != 0)
		cf_answer(c, "short");
	else
		cf_answer(c, "whole");
}

/* ---- generic/413, generic/605 ---- */

enum pair { DAX_DAX, DAX_PLAIN, PLAIN_DAX };

/* Out of the mapping into the file, and from the file into the mapping: the errno, or 1 for other bytes. */
static long there_and_back(struct cf *c, int fd, char *map, size_t len)
{
	char *buf;
	long rc = 0;

	CF_MUST(c, posix_memalign((void **)&buf, CF_PAGE, len) == 0);
	memset(map, 'a', len);
	memset(buf, 0, len);
	if (pwrite(fd, map, len, 0) != (ssize_t)len || pread(fd, buf, len, 0) != (ssize_t)len)
		rc = -errno;
	for (size_t i = 0; rc == 0 && i < len; i++)
		rc = buf[i] != 'a';
	memset(buf, 'b', len);
	if (rc == 0 && (pwrite(fd, buf, len, 0) != (ssize_t)len || pread(fd, map, len, 0) != (ssize_t)len))
		rc = -errno;
	for (size_t i = 0; rc == 0 && i < len; i++)
		rc = map[i] != 'b';
	free(buf);
	return rc;
}

static void pairs(struct cf *c)
{
	static const size_t size[] = { 1024, CF_PAGE, 16 * CF_PAGE, ((size_t)1 << 20) + CF_PAGE };
	const enum pair pair = *(const enum pair *)cf_arg(c);
	char name[32];
	char *map;
	long rc;
	int fd;

	for (size_t i = 0; i < PF_ARRAY_LEN(size); i++) {
		(void)snprintf(name, sizeof name, "mapped%zu", i);
		fd = pair == PLAIN_DAX ? plain_file(c, size[i], CF_BYTE, 0) : cf_file(c, name, size[i]);
		map = cf_map(c, fd, 0, size[i], PROT_READ | PROT_WRITE);
		CF_SYS(c, close(fd));
		for (int direct = 0; direct < 2; direct++) {
			if (pair == DAX_PLAIN) {
				fd = plain_file(c, size[i], CF_BYTE, direct ? O_DIRECT : 0);
			} else {
				(void)snprintf(name, sizeof name, "file%zu%d", i, direct);
				CF_SYS(c, close(cf_file(c, name, size[i])));
				fd = open(cf_path(c, name), O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
				if (fd < 0 && errno == EINVAL && direct)
					cf_na(c, "there is no direct I/O here");
				CF_SYS(c, fd);
			}
			rc = there_and_back(c, fd, map, size[i]);
			CF_SYS(c, close(fd));
			/* Less than a sector of the disk. */
			if (rc == -EINVAL && direct && size[i] < CF_PAGE)
				continue;
			if (rc != 0) {
				cf_note(c, "%zu bytes%s", size[i], direct ? ", direct" : "");
				if (rc < 0)
					cf_answer_rc(c, rc);
				else
					cf_answer(c, "other bytes");
				return;
			}
		}
		CF_SYS(c, munmap(map, size[i]));
	}
	cf_answer(c, "same bytes");
}

/* ---- generic/428 ---- */

static void stale(struct cf *c)
{
	const size_t len = *(const size_t *)cf_arg(c);
	int fd = cf_holes(c, "f", len);
	volatile char *p = cf_map(c, fd, 0, len, PROT_READ);
	const size_t at = len - CF_PAGE;
	char page[CF_PAGE];

	for (size_t i = 0; i < len; i += CF_PAGE)
		CF_MUST(c, p[i] == 0);
	memset(page, CF_DMA, sizeof page);
	CF_MUST(c, pwrite(fd, page, sizeof page, (off_t)at) == (ssize_t)sizeof page);
	cf_answer(c, p[at] == CF_DMA && p[len - 1] == CF_DMA && p[at - 1] == 0 ? "seen" : "stale");
}

/* ---- generic/437 ---- */

struct race {
	volatile char *p;
	bool stores;
	unsigned int other;
};

static void *copies(void *arg)
{
	struct race *r = arg;
	char b;

	for (unsigned int i = 0; i < 500; i++) {
		(void)madvise((void *)(uintptr_t)r->p, CF_PAGE, MADV_DONTNEED);
		if (r->stores)
			r->p[0] = 'p';
		b = r->p[0];
		r->other += b != CF_BYTE && b != 'p';
	}
	return NULL;
}

static void cow_race(struct cf *c)
{
	int fd = cf_file(c, "f", CF_PAGE);
	struct race r[2] = { { .stores = false }, { .stores = true } };
	pthread_t t[2];
	void *p = mmap(NULL, CF_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	CF_MUST(c, p != MAP_FAILED);
	for (int i = 0; i < 2; i++) {
		r[i].p = p;
		CF_MUST(c, pthread_create(&t[i], NULL, copies, &r[i]) == 0);
	}
	for (int i = 0; i < 2; i++)
		CF_MUST(c, pthread_join(t[i], NULL) == 0);
	cf_answer(c, r[0].other + r[1].other != 0 ? "other bytes" :
		  strcmp(cf_content(c, cf_path(c, "f"), 0, CF_PAGE), "old") == 0 ? "private" : "in the file");
}

/* ---- generic/452 ---- */

static void copy_program(struct cf *c, const char *to)
{
	static char buf[1 << 16];
	int in = open("/bin/true", O_RDONLY | O_CLOEXEC), out;
	ssize_t n;

	if (in < 0)
		in = (int)CF_SYS(c, open("/bin/busybox", O_RDONLY | O_CLOEXEC));
	out = (int)CF_SYS(c, open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700));
	while ((n = CF_SYS(c, read(in, buf, sizeof buf))) > 0)
		CF_MUST(c, write(out, buf, (size_t)n) == n);
	CF_SYS(c, close(in));
	CF_SYS(c, close(out));
}

static void run_it(struct cf *c, const char *path)
{
	char out[256];
	int rc = cf_run(c, out, sizeof out, (const char *[]){ path, NULL });

	if (rc != 0)
		cf_note(c, "exit status %d: %s", rc, out);
	cf_answer(c, rc == 0 ? "runs" : "does not run");
}

static void exec_here(struct cf *c)
{
	struct statvfs v;

	CF_SYS(c, statvfs(cf_dir(c), &v));
	if (v.f_flag & ST_NOEXEC)
		cf_na(c, "it is mounted noexec");
	copy_program(c, cf_path(c, "true"));
	run_it(c, cf_path(c, "true"));
}

static void exec_ro(struct cf *c)
{
	struct cf_own o;

	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, NULL);
	copy_program(c, cf_own_path(&o, "true"));
	cf_own_umount(c, &o);
	cf_own_mount(c, &o, "ro");
	run_it(c, cf_own_path(&o, "true"));
	cf_own_umount(c, &o);
}

/* ---- generic/462 ---- */

static void read_only(struct cf *c)
{
	const bool direct = cf_arg(c) != NULL;
	int src = direct ? plain_file(c, HIT, CF_DMA, O_DIRECT) : cf_file(c, "src", HIT), fd;
	const char *is;
	char *p;
	ssize_t n;

	CF_SYS(c, close(cf_file(c, "f", HIT)));
	fd = (int)CF_SYS(c, open(cf_path(c, "f"), O_RDONLY | O_CLOEXEC));
	p = cf_map(c, fd, 0, HIT, PROT_READ);
	CF_MUST(c, cf_touch(p, false) == 0);
	n = pread(src, p, HIT, 0);
	is = n < 0 ? strerrorname_np(errno) : "returns";
	cf_answer(c, "%s", strcmp(cf_content(c, cf_path(c, "f"), 0, HIT), "old") == 0 ? is : "written");
}

/* ---- generic/470 ---- */

#define SYNCED ((size_t)1 << 20)

static long store_all(void *arg)
{
	const struct cf_own *o = arg;
	int fd = open(cf_own_path(o, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *p;

	if (fd < 0 || ftruncate(fd, (off_t)SYNCED) != 0)
		return -errno;
	p = mmap(NULL, SYNCED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	memset(p, CF_DMA, SYNCED);
	/* What the library says of the daemon that it lost is nobody's concern. */
	(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	if (msync(p, SYNCED, MS_SYNC) != 0)
		return -errno;
	return cf_rc(kill(o->pid, SIGKILL));
}

static void durable(struct cf *c)
{
	struct cf_own o;
	off_t hole;
	long rc;
	int fd;

	if (cf_symbol("pinfs_pin") == NULL)
		cf_na(c, "without the preload library the kernel maps");
	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, NULL);
	/* The daemon ends while all is mapped; so does, then, the process that has it. */
	rc = cf_result(cf_call(c, CF_PROCESS, store_all, &o));
	if (rc < 0) {
		cf_answer_rc(c, rc);
		return;
	}
	cf_own_kill(c, &o);
	cf_own_mount(c, &o, NULL);
	fd = (int)CF_SYS(c, open(cf_own_path(&o, "f"), O_RDONLY | O_CLOEXEC));
	hole = (off_t)CF_SYS(c, lseek(fd, 0, SEEK_HOLE));
	CF_SYS(c, close(fd));
	cf_note(c, "the first hole is at %lld", (long long)hole);
	cf_answer(c, hole != (off_t)SYNCED ? "holes" :
		  strcmp(cf_content(c, cf_own_path(&o, "f"), 0, SYNCED), "dma") == 0 ? "durable" : "other bytes");
	cf_own_umount(c, &o);
}

/* ---- generic/607, in the directory that is asked; case_flags.c has it, and 606 and 608, on mounts with dax= ---- */

/* FS_XFLAG_DAX; not applicable where nobody knows it. */
static void set_dax(struct cf *c, int fd, bool on)
{
	struct fsxattr x;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) != 0)
		cf_na(c, "FS_IOC_FSGETXATTR: %s", strerror(errno));
	x.fsx_xflags = on ? x.fsx_xflags | FS_XFLAG_DAX : x.fsx_xflags & ~(uint32_t)FS_XFLAG_DAX;
	if (ioctl(fd, FS_IOC_FSSETXATTR, &x) != 0)
		cf_na(c, "FS_XFLAG_DAX: %s", strerror(errno));
}

static bool has_dax(struct cf *c, const char *path)
{
	int fd = (int)CF_SYS(c, open(path, O_RDONLY | O_CLOEXEC));
	struct fsxattr x;

	CF_SYS(c, ioctl(fd, FS_IOC_FSGETXATTR, &x));
	CF_SYS(c, close(fd));
	return x.fsx_xflags & FS_XFLAG_DAX;
}

enum how { MADE_FILE, MADE_DIR, MOVED_OUT, MOVED_IN, COPIED_OUT };

static void inherits(struct cf *c)
{
	const enum how how = *(const enum how *)cf_arg(c);
	const char *d = cf_path(c, "d"), *f = cf_path(c, "d/f"), *at = f;
	int fd;

	CF_SYS(c, mkdir(d, 0700));
	fd = (int)CF_SYS(c, open(d, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	set_dax(c, fd, true);
	CF_SYS(c, close(fd));
	if (how == MADE_DIR) {
		CF_SYS(c, mkdir(f, 0700));
	} else {
		CF_SYS(c, close(cf_file(c, how == MOVED_IN ? "other" : "d/f", CF_PAGE)));
		if (how == MOVED_IN) {
			CF_SYS(c, rename(cf_path(c, "other"), f));
		} else if (how == MOVED_OUT) {
			at = cf_path(c, "out");
			CF_SYS(c, rename(f, at));
		} else if (how == COPIED_OUT) {
			at = cf_path(c, "out");
			CF_SYS(c, close(cf_file(c, "out", CF_PAGE)));
		}
	}
	cf_answer(c, has_dax(c, at) ? "set" : "clear");
}

/* ---- ext4/030, 031, 047 ---- */

static void journal(struct cf *c)
{
	int fd = cf_file(c, "f", HIT), flags;
	char *p = cf_map(c, fd, 0, HIT, PROT_READ | PROT_WRITE);
	long rc;

	p[0] = 'm';
	CF_SYS(c, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_JOURNAL_DATA_FL;
	rc = cf_rc(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	p[1] = 'm';
	CF_MUST(c, msync(p, HIT, MS_SYNC) == 0);
	CF_SYS(c, fsync(fd));
	if (strcmp(cf_content(c, cf_path(c, "f"), 2, HIT - 2), "old") != 0 || p[0] != 'm' || p[1] != 'm')
		cf_answer(c, "torn");
	else
		cf_answer_rc(c, rc);
}

static void small(struct cf *c)
{
	int fd = cf_file(c, "f", 10);
	char got[16] = "", more[16];
	char *p = cf_map(c, fd, 0, 10, PROT_READ | PROT_WRITE);

	CF_MUST(c, p[0] == CF_BYTE && p[9] == CF_BYTE);
	p[9] = 'm';
	CF_SYS(c, msync(p, 10, MS_SYNC));
	memset(more, 'n', sizeof more);
	CF_MUST(c, pwrite(fd, more, sizeof more, 2 * (off_t)CF_PAGE) == (ssize_t)sizeof more);
	p[8] = 'm';
	CF_SYS(c, msync(p, 10, MS_SYNC));
	CF_MUST(c, pread(fd, got, 10, 0) == 10);
	cf_answer(c, memcmp(got, (char[]){ CF_BYTE, CF_BYTE, CF_BYTE, CF_BYTE, CF_BYTE, CF_BYTE, CF_BYTE, CF_BYTE, 'm',
					   'm' }, 10) == 0 ? "same bytes" : "other bytes");
}

static void inline_flag(struct cf *c)
{
	int fd = cf_file(c, "f", 10), flags;

	CF_SYS(c, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= 0x10000000;		/* EXT4_INLINE_DATA_FL */
	cf_note(c, "FS_IOC_SETFLAGS: %s", ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 ? "returns" : strerror(errno));
	CF_SYS(c, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	cf_answer(c, flags & 0x10000000 ? "inline" : "in blocks");
}

/* ---- xfs/550, 551, 552 ---- */

struct mapper {
	struct cf_own o;
	struct marks {
		_Atomic uint32_t ready, go;
	} *m;
	struct cf *c;
	bool copied;
	size_t page;
};

/* Touches a page, before and after: what the second gave. */
static long maps_it(void *arg)
{
	struct mapper *m = arg;
	int fd = open(cf_own_path(&m->o, "f"), O_RDWR | O_CLOEXEC), sig;
	char *p = mmap(NULL, HIT, PROT_READ | PROT_WRITE, m->copied ? MAP_PRIVATE : MAP_SHARED, fd, 0);

	if (fd < 0 || p == MAP_FAILED)
		return -errno;
	sig = cf_touch(p + m->page * CF_PAGE, m->copied);
	if (sig != 0)
		return -EIO;
	atomic_fetch_add(&m->m->ready, 1);
	cf_await(m->c, &m->m->go, 1);
	return cf_touch(p + m->page * CF_PAGE, false);
}

static void poison(struct cf *c)
{
	struct mapper m = { .c = c, .m = cf_shared(c, sizeof *m.m) };
	const unsigned int which = *(const unsigned int *)cf_arg(c);
	struct cf_call *call[2];
	long rc[2];

	if (cf_symbol("pinfs_pin") == NULL)
		cf_na(c, "without the preload library the kernel maps");
	m.copied = which == 551;
	m.page = which == 552 ? 1 : 0;
	cf_own_make(c, &m.o, CF_OWN_SIZE);
	cf_own_mount(c, &m.o, NULL);
	CF_SYS(c, close(cf_own_file(c, &m.o, "f", HIT)));
	for (int i = 0; i < 2; i++)
		call[i] = cf_call(c, CF_PROCESS, maps_it, &m);
	while (atomic_load(&m.m->ready) < 2)
		usleep(200);
	cf_own_bad(c, &m.o, "add", "f", 0);
	cf_mark(&m.m->go, 1);
	for (int i = 0; i < 2; i++)
		rc[i] = cf_result(call[i]);
	cf_note(c, "signals %ld and %ld", rc[0], rc[1]);
	cf_answer(c, rc[0] != rc[1] ? "differ" : rc[0] == SIGBUS ? "SIGBUS" : rc[0] == 0 ? "returns" :
									    "another signal");
	cf_own_umount(c, &m.o);
}

/* ---- the cases ---- */

/* Linux 6.1 does not wake who waits when the last hold is a block request's: __bio_release_pages(). */
#define CHANCE                                                                                                       \
	"; plain: whole|EOPNOTSUPP; unsafe: na: what it gives there is chance" NODEV                                 \
	"; kernel+k6.1: na: the end of a block request wakes nobody there"
#define NODEV "; devdax: na: a device has no space to give back"
#define SHIFT "; bare, virtiofs, virtiofs-dax: EOPNOTSUPP"
#define NOFILE "; devdax: na: a device is neither read nor written"
#define RACE(mode) 0, collision, &(const int){ mode }
#define PAIR(x) 0, pairs, &(const enum pair){ x }
#define HOW(x) 0, inherits, &(const enum how){ x }
#define POISON(n) CF_MOUNTS, poison, &(const unsigned int){ n }

static const struct cf_case cases[] = {
	{ "ports.503-punch", "xfstests generic/503; behaviour 50",
	  "Direct reads into a mapping race with PUNCH_HOLE of it: each is whole, and no other file is torn.",
	  RACE(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), "whole" CHANCE },
	{ "ports.503-zero", "xfstests generic/503; behaviour 50",
	  "The same of ZERO_RANGE.", RACE(FALLOC_FL_ZERO_RANGE), "whole" CHANCE "; plain: whole|EOPNOTSUPP" },
	{ "ports.503-truncate", "xfstests generic/503; behaviour 50",
	  "The same of truncate, only that a read may be short or EFAULT.", RACE(-1), "whole" CHANCE },
	{ "ports.503-collapse", "xfstests generic/503; behaviour 50",
	  "The same of COLLAPSE_RANGE.", RACE(FALLOC_FL_COLLAPSE_RANGE), "whole" CHANCE SHIFT
	  "; plain: whole|EOPNOTSUPP" },

	{ "ports.413-dax-dax", "xfstests generic/413, generic/605",
	  "A mapping of one file is the buffer of direct and buffered I/O of another: both have the same bytes.",
	  PAIR(DAX_DAX), "same bytes" NOFILE },
	{ "ports.413-dax-plain", "xfstests generic/413, generic/605",
	  "The same of a mapping here and a file that is not DAX.", PAIR(DAX_PLAIN), "same bytes" },
	{ "ports.413-plain-dax", "xfstests generic/413, generic/605",
	  "The same of a mapping of a file that is not DAX and a file here.", PAIR(PLAIN_DAX), "same bytes" NOFILE },

	{ "ports.428-page", "xfstests generic/428",
	  "A write to a hole that was read through a mapping is seen there at once.",
	  0, stale, &(const size_t){ 4 * CF_PAGE }, "seen" NOFILE },
	{ "ports.428-huge", "xfstests generic/428; behaviour 37",
	  "The same of a hole of 2 MiB, which a mapping shows in one piece.",
	  0, stale, &(const size_t){ 2 * CF_CHUNK }, "seen" NOFILE },
	{ "ports.437", "xfstests generic/437; behaviour 35",
	  "Two threads drop, load and store a page of a private mapping: each load is the file's byte or the copy's.",
	  0, cow_race, NULL, "private; devdax: na: a private mapping is EINVAL" },
	{ "ports.452", "xfstests generic/452", "A program on it can be executed.", 0, exec_here, NULL, "runs" NOFILE },
	{ "ports.452-ro", "xfstests generic/452", "And on a mount that is read-only.",
	  CF_MOUNTS, exec_ro, NULL, "runs" },
	{ "ports.462-direct", "xfstests generic/462",
	  "A direct read into a mapping that may not be written to fails, and the file is as it was.",
	  0, read_only, "direct", "EFAULT" },
	{ "ports.462-buffered", "xfstests generic/462", "So does a read from the page cache or from DAX.",
	  0, read_only, NULL, "EFAULT" NOFILE },
	{ "ports.470-msync", "xfstests generic/470",
	  "Stores to an ordinary mapping are there after a crash that follows msync; sync.stopped asks it of MAP_SYNC.",
	  CF_MOUNTS, durable, NULL, "durable" },

	{ "ports.607-file", "xfstests generic/607", "A new file has FS_XFLAG_DAX from its directory.",
	  HOW(MADE_FILE), "set" },
	{ "ports.607-dir", "xfstests generic/607", "So has a new directory.", HOW(MADE_DIR), "set" },
	{ "ports.607-mv", "xfstests generic/607", "A file that is moved out of the directory keeps the flag.",
	  HOW(MOVED_OUT), "set" },
	{ "ports.607-mv-in", "xfstests generic/607", "One that is moved into it gets none.", HOW(MOVED_IN), "clear" },
	{ "ports.607-cp", "xfstests generic/607", "A copy has the flag of the directory in which it is made.",
	  HOW(COPIED_OUT), "clear" },
	{ "ports.030", "xfstests ext4/030; behaviour 56a",
	  "A mapped DAX file is not made to journal its data, and loses none.",
	  0, journal, NULL, "EOPNOTSUPP; ext4: EBUSY; plain: EOPNOTSUPP|ENOTTY|returns" NOFILE },
	{ "ports.031", "xfstests ext4/031",
	  "A file of ten bytes is mapped, stored to and made longer: its bytes stay.",
	  0, small, NULL, "same bytes" NOFILE },
	{ "ports.047", "xfstests ext4/047", "A DAX file is never kept in its inode.",
	  0, inline_flag, NULL, "in blocks" NOFILE },

	{ "ports.550", "xfstests xfs/550; behaviour 38",
	  "When a block goes bad, all processes that have it mapped get SIGBUS.", POISON(550), "SIGBUS" },
	{ "ports.550-shared", "xfstests xfs/551, xfs/552",
	  "So do those who have it by another file that shares it: XFS alone shares blocks of DAX files.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "ports.551", "xfstests xfs/551; behaviour 38",
	  "One that has a private copy keeps it.", POISON(551), "returns" },
	{ "ports.552", "xfstests xfs/552; behaviour 38",
	  "Pages beside it stay good for all.", POISON(552), "returns" },
};
CF_GROUP(cf_ports, "ports", "What xfstests assert", cases);
