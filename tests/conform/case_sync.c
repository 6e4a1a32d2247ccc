/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_sync.c - MAP_SYNC, msync(2) and fsync(2) as far as a program can ask, and read(2) and write(2) beside mappings.
 *
 * What is durable when power is lost no program can see; what is there after a filesystem was stopped without being
 * unmounted, one can.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "conform/cases.h"
#include "conform/scratch.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif

#define LEN (4 * CF_PAGE)
#define RW (PROT_READ | PROT_WRITE)
/* A flag that mmap(2) has not given a meaning to. */
#define MAP_UNKNOWN 0x00800000

/* ---- mmap(2) ---- */

struct way {
	int prot, flags;
};

/* The mapping is made, and stores through it get where they belong. */
static void way(struct cf *c)
{
	const struct way *w = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = mmap(NULL, LEN, w->prot, w->flags, fd, 0), seen = 0;

	if (p == MAP_FAILED) {
		cf_answer_rc(c, -(long)errno);
		return;
	}
	if ((w->prot & PROT_WRITE) != 0) {
		p[1] = CF_DMA;
		CF_MUST(c, pread(fd, &seen, 1, 1) == 1);
	}
	cf_answer(c, p[0] != CF_BYTE ? "wrong bytes" : (w->prot & PROT_WRITE) == 0 ? "returns" :
		  (seen == CF_DMA) == ((w->flags & MAP_TYPE) != MAP_PRIVATE) ? "returns" : "wrong bytes in the file");
}

static void not_dax(struct cf *c)
{
	struct scratch o;
	int fd;

	scratch_start(c, &o, "dax=never");
	fd = scratch_file(&o, "f", LEN);
	cf_answer_rc(c, map_sync(fd));
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

static void asynchronous(struct cf *c)
{
	struct scratch o;
	int fd;

	scratch_start(c, &o, "dax=always,pmem=msync");
	fd = scratch_file(&o, "f", LEN);
	cf_answer_rc(c, map_sync(fd));
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* ---- what a store through MAP_SYNC leaves behind ---- */

#define SYNC_LEN (64 * CF_PAGE)

/*
 * xfstests generic/470's question: stores to fresh blocks, nothing else, then the filesystem stops without having
 * written anything that it had in memory. Blocks, size and bytes have to be there.
 */
static void stopped(struct cf *c)
{
	struct scratch o;
	int fd;
	char *p;

	scratch_start(c, &o, "dax=always");
	fd = (int)CF_SYS(c, open(scratch_path(&o, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	CF_SYS(c, ftruncate(fd, (off_t)SYNC_LEN));
	p = mmap(NULL, SYNC_LEN, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	CF_MUST(c, p != MAP_FAILED);
	for (size_t off = 0; off < SYNC_LEN; off += 2 * CF_PAGE)
		memset(p + off, CF_DMA, CF_PAGE);
	/* The last byte of it is on its way to the device; its cache lines are written back by whoever stores. */
	CF_SYS(c, msync(p, SYNC_LEN, MS_ASYNC));
	CF_SYS(c, munmap(p, SYNC_LEN));
	CF_SYS(c, close(fd));
	scratch_crash(&o);
	CF_MUST(c, scratch_mount(&o, "dax=always") == 0);
	fd = open(scratch_path(&o, "f"), O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		cf_answer(c, "the file is gone");
		return;
	}
	cf_answer(c, "all there");
	for (size_t off = 0; off < SYNC_LEN; off += CF_PAGE) {
		const char *want = off % (2 * CF_PAGE) == 0 ? "dma" : "zero";
		const char *got = cf_content(c, scratch_path(&o, "f"), (off_t)off, CF_PAGE);

		if (strcmp(got, want) != 0) {
			cf_answer(c, "page %zu is %s", off / CF_PAGE, got);
			break;
		}
	}
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* ---- msync(2), fsync(2) ---- */

struct msync_arg {
	int flags;
	size_t off, len;
};

static void do_msync(struct cf *c)
{
	const struct msync_arg *a = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, 2 * LEN, RW);

	CF_SYS(c, munmap(p + LEN, LEN));
	p[0] = CF_DMA;
	cf_answer_rc(c, cf_rc(msync(p + a->off, a->len, a->flags)));
}

static void do_fsync(struct cf *c)
{
	int fd = cf_holes(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, RW);

	memset(p, CF_DMA, LEN);
	CF_SYS(c, fsync(fd));
	memset(p, CF_BYTE, CF_PAGE);
	cf_answer(c, cf_rc(fdatasync(fd)) != 0 ? "fails" : "%s",
		  strcmp(cf_content(c, cf_path(c, "f"), 0, CF_PAGE), "old") == 0 &&
		  strcmp(cf_content(c, cf_path(c, "f"), (off_t)CF_PAGE, LEN - CF_PAGE), "dma") == 0 ? "returns"
		  : "bytes are lost");
}

/* ---- read(2) and write(2) beside mappings ---- */

struct rw {
	int flags;			/* of preadv2(2) */
	bool write;
};

static void with_flags(struct cf *c)
{
	const struct rw *a = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char buf[CF_PAGE] = "";
	const struct iovec v = { buf, sizeof buf };

	/* In the page cache, where there is one. */
	CF_MUST(c, pread(fd, buf, sizeof buf, 0) == (ssize_t)sizeof buf);
	cf_answer_rc(c, cf_rc(a->write ? pwritev2(fd, &v, 1, 0, a->flags) : preadv2(fd, &v, 1, 0, a->flags)));
}

static void nowait_behind(struct cf *c)
{
	const struct rw *a = cf_arg(c);
	struct cf_scene s;
	char buf[CF_PAGE];
	const struct iovec v = { buf, sizeof buf };
	long rc;

	memset(buf, CF_BYTE, sizeof buf);
	cf_scene(c, &s, LEN, 0, 0);
	rc = cf_rc(a->write ? pwritev2(s.fd, &v, 1, 0, a->flags) : preadv2(s.fd, &v, 1, 0, a->flags));
	cf_land(s.pin);
	(void)cf_result(s.truncate);
	cf_answer_rc(c, rc);
}

static uint64_t blocks(struct cf *c, int fd)
{
	struct stat st;

	CF_SYS(c, fstat(fd, &st));
	return (uint64_t)st.st_blocks;
}

static void read_hole(struct cf *c)
{
	int fd = cf_holes(c, "f", LEN);
	const uint64_t had = blocks(c, fd);
	const char *got = cf_content(c, cf_path(c, "f"), 0, LEN);

	cf_answer(c, "%s%s", got, blocks(c, fd) != had ? ", allocates" : "");
}

/* All mappings that have looked at the hole, in this process and in another, find what is written into it. */
struct looker {
	struct cf *c;
	char *p;
	_Atomic uint32_t *step;
};

static long looks(void *arg)
{
	struct looker *l = arg;

	if (cf_touch(l->p + CF_PAGE, false) != 0)
		return -EFAULT;
	cf_mark(l->step, 1);
	cf_await(l->c, l->step, 2);
	return l->p[CF_PAGE];
}

static void write_hole(struct cf *c)
{
	int fd = cf_holes(c, "f", LEN);
	struct looker l = { c, cf_map(c, fd, 0, LEN, PROT_READ), cf_shared(c, sizeof(uint32_t)) };
	char *q = cf_map(c, fd, 0, LEN, RW), page[CF_PAGE];
	struct cf_call *call = cf_call(c, CF_PROCESS, looks, &l);
	long there;

	cf_await(c, l.step, 1);
	CF_MUST(c, l.p[CF_PAGE] == 0 && q[CF_PAGE] == 0);
	memset(page, CF_DMA, sizeof page);
	CF_MUST(c, pwrite(fd, page, sizeof page, (off_t)CF_PAGE) == (ssize_t)sizeof page);
	cf_mark(l.step, 2);
	there = cf_result(call);
	cf_answer(c, "%s here, %s there", l.p[CF_PAGE] == CF_DMA && q[CF_PAGE] == CF_DMA ? "seen" : "not seen",
		  there == CF_DMA ? "seen" : "not seen");
}

static void write_seen(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, RW);

	CF_MUST(c, p[10] == CF_BYTE);
	CF_MUST(c, pwrite(fd, "SSSS", 4, 10) == 4);
	p[20] = CF_DMA;
	if (strncmp(p + 9, "oSSSSo", 6) != 0)
		cf_answer(c, "write(2) is not seen by the mapping");
	else if (strcmp(cf_content(c, cf_path(c, "f"), 20, 1), "dma") != 0)
		cf_answer(c, "a store is not seen by read(2)");
	else
		cf_answer(c, "seen");
}

struct direct {
	size_t off, len, misalign;
	bool write;
};

static void direct(struct cf *c)
{
	const struct direct *a = cf_arg(c);
	static char room[3 * CF_PAGE] __attribute__((aligned(4096)));
	char *p;
	int fd, one = cf_file(c, "f", LEN);
	long rc;

	p = cf_map(c, one, 0, LEN, RW);
	CF_MUST(c, cf_touch(p, false) == 0);
	fd = open(cf_path(c, "f"), O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		cf_answer_rc(c, -(long)errno);
		return;
	}
	memset(room, CF_DMA, sizeof room);
	rc = cf_rc(a->write ? pwrite(fd, room + a->misalign, a->len, (off_t)a->off)
			    : pread(fd, room + a->misalign, a->len, (off_t)a->off));
	if (rc < 0)
		cf_answer_rc(c, rc);
	else if (rc != (long)a->len)
		cf_answer(c, "short");
	else
		cf_answer(c, strcmp(cf_content_of(a->write ? p + a->off : room + a->misalign, a->len),
				    a->write ? "dma" : "old") == 0 ? "returns" : "wrong bytes");
}

/* ---- sizes ---- */

struct grower {
	struct cf *c;
	int fd;
	_Atomic uint32_t done, torn;
};

/* Whoever reads up to a size that fstat(2) gave finds all of it, and nothing but what was written. */
static void *reads(void *arg)
{
	struct grower *g = arg;
	static char buf[64 * CF_PAGE];

	while (!atomic_load(&g->done)) {
		struct stat st;
		ssize_t n;

		if (fstat(g->fd, &st) != 0 || st.st_size % (off_t)CF_PAGE != 0) {
			atomic_fetch_add(&g->torn, 1);
			break;
		}
		n = pread(g->fd, buf, (size_t)st.st_size, 0);
		if (n < st.st_size || (n > 0 && strcmp(cf_content_of(buf, (size_t)n), "old") != 0)) {
			atomic_fetch_add(&g->torn, 1);
			break;
		}
	}
	return NULL;
}

static void appended(struct cf *c)
{
	struct grower g = { .c = c, .fd = cf_holes(c, "f", 0) };
	char page[CF_PAGE];
	pthread_t thread;

	memset(page, CF_BYTE, sizeof page);
	CF_MUST(c, pthread_create(&thread, NULL, reads, &g) == 0);
	for (size_t i = 0; i < 64; i++)
		CF_MUST(c, pwrite(g.fd, page, sizeof page, (off_t)(i * CF_PAGE)) == (ssize_t)sizeof page);
	atomic_store(&g.done, 1);
	(void)pthread_join(thread, NULL);
	cf_answer(c, g.torn != 0 ? "a torn size" : cf_size(c, cf_path(c, "f")) == (off_t)(64 * CF_PAGE) ? "never torn"
		  : "a wrong size");
}

/* write(2) behind the end through a mapping of it: what was unreachable is there when the call has returned. */
static void extended(struct cf *c)
{
	int fd = cf_file(c, "f", CF_PAGE);
	char *p = cf_map(c, fd, 0, 2 * CF_PAGE, RW);
	const char *before = cf_touch_word(p + CF_PAGE, false);

	CF_MUST(c, pwrite(fd, "SSSS", 4, (off_t)CF_PAGE) == 4);
	if (cf_touch(p + CF_PAGE, false) != 0)
		cf_answer(c, "%s, still after it", before);
	else
		cf_answer(c, "%s, then %s and %s behind it", before, cf_content_of(p + CF_PAGE, 4),
			  cf_content_of(p + CF_PAGE + 4, CF_PAGE - 4));
}

#define FILES "; devdax: na: a device has no read(2), write(2) or size"
#define WAY(prot, flags) (&(const struct way){ prot, flags })
#define CRASHES "tests/crash does that, a fence at a time"

static const struct cf_case cases[] = {
	{ "sync.validate", "ext4_file_mmap(); mmap(2)",
	  "MAP_SYNC with MAP_SHARED_VALIDATE is granted on a DAX file, and EOPNOTSUPP elsewhere.", 0, way,
	  WAY(RW, MAP_SHARED_VALIDATE | MAP_SYNC), "returns; bare, plain, virtiofs, virtiofs-dax: EOPNOTSUPP" FILES },
	{ "sync.shared", "mmap(2)",
	  "With MAP_SHARED the flag is for filesystems that know it; ext4 without DAX refuses it there, too.", 0, way,
	  WAY(RW, MAP_SHARED | MAP_SYNC),
	  "returns; bare, plain, virtiofs, virtiofs-dax: returns|EOPNOTSUPP" FILES },
	{ "sync.private", "mmap(2)", "With MAP_PRIVATE it is the same.", 0, way, WAY(RW, MAP_PRIVATE | MAP_SYNC),
	  "returns; bare, plain, virtiofs, virtiofs-dax: returns|EOPNOTSUPP" FILES },
	{ "sync.read-only", "mmap(2)", "A mapping for reading may have it.", 0, way,
	  WAY(PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC),
	  "returns; bare, plain, virtiofs, virtiofs-dax: EOPNOTSUPP" FILES },
	{ "sync.unknown-flag", "do_mmap()", "MAP_SHARED_VALIDATE refuses a flag that nobody knows.", 0, way,
	  WAY(RW, MAP_SHARED_VALIDATE | MAP_UNKNOWN), "EOPNOTSUPP" FILES },
	{ "sync.unknown-ignored", "do_mmap()", "MAP_SHARED ignores it.", 0, way, WAY(RW, MAP_SHARED | MAP_UNKNOWN),
	  "returns" FILES },
	{ "sync.not-dax", "daxdev_mapping_supported()", "On a file that is not DAX it is EOPNOTSUPP.", CF_MOUNTS,
	  not_dax, NULL, "EOPNOTSUPP; plain: na: nothing can be mounted with dax=never" },
	{ "sync.asynchronous", "daxdev_mapping_supported(); dax_synchronous()",
	  "On a device for which flushing CPU caches is not enough, as virtio-pmem's, it is EOPNOTSUPP, too; pinfs has "
	  "such in files on disks.", CF_MOUNTS, asynchronous, NULL,
	  "EOPNOTSUPP; kernel: na: there is no virtio-pmem here; plain: na: nothing can be mounted here" },
	{ "sync.stopped", "xfstests generic/470; dax_finish_sync_fault()",
	  "What was stored through MAP_SYNC to fresh blocks is there after the filesystem was stopped without an "
	  "unmount.", CF_MOUNTS, stopped, NULL,
	  "all there; bare: na: MAP_SYNC needs the preload library; plain: na: MAP_SYNC needs DAX" },
	{ "sync.power", "dax_finish_sync_fault()",
	  "That it is there after a loss of power, too, no program can see: " CRASHES ".", CF_UNASKED, NULL, NULL, "" },
	{ "sync.fsync-error", "dax_finish_sync_fault()",
	  "A store whose block cannot be made durable is a SIGBUS; making that happen needs a device that fails: "
	  "tests/pin/test_fail_client.c has one.", CF_UNASKED, NULL, NULL, "" },
	{ "sync.flush-whole-entry", "dax_writeback_one()",
	  "That fsync(2) flushes a whole entry and not the lines that were stored is for lost power only: "
	  CRASHES ".", CF_UNASKED, NULL, NULL, "" },
	{ "sync.is-pmem", "pmem_is_pmem() of libpmem",
	  "That libpmem takes a mapping for persistent memory only with MAP_SYNC follows from sync.validate; "
	  "tests/prog/test_pmdk.sh runs libpmem itself.", CF_UNASKED, NULL, NULL, "" },

	{ "sync.msync", "dax_writeback_mapping_range()", "msync(2) of a mapping that was stored to succeeds.", 0,
	  do_msync, &(const struct msync_arg){ MS_SYNC, 0, LEN }, "returns" FILES },
	{ "sync.msync-async", "msync(2)", "So does MS_ASYNC.", 0, do_msync,
	  &(const struct msync_arg){ MS_ASYNC, 0, LEN }, "returns" FILES },
	{ "sync.msync-gap", "msync(2)", "ENOMEM where part of it is not mapped.", 0, do_msync,
	  &(const struct msync_arg){ MS_SYNC, 0, 2 * LEN }, "ENOMEM" FILES },
	{ "sync.msync-unaligned", "msync(2)", "EINVAL for an address inside a page.", 0, do_msync,
	  &(const struct msync_arg){ MS_SYNC, 1, LEN }, "EINVAL" FILES },
	{ "sync.msync-both", "msync(2)", "EINVAL for MS_SYNC and MS_ASYNC together.", 0, do_msync,
	  &(const struct msync_arg){ MS_SYNC | MS_ASYNC, 0, LEN }, "EINVAL" FILES },
	{ "sync.fsync", "dax_writeback_mapping_range()",
	  "Stores before and after fsync(2) stay, and the second fsync(2) takes the later ones.", 0, do_fsync, NULL,
	  "returns" FILES },

	{ "sync.read-hole", "dax_iomap_iter()", "read(2) of a hole gives zeros and allocates nothing.", 0, read_hole,
	  NULL, "zero; plain: zero|zero, allocates" FILES },
	{ "sync.write-hole", "dax_iomap_iter(); xfstests generic/428",
	  "What write(2) puts into a hole is seen at once by all mappings that had looked at it.", 0, write_hole, NULL,
	  "seen here, seen there; bare: ?" FILES },
	{ "sync.write-seen", "dax_iomap_rw()", "write(2) and stores to the same page see each other at once.", 0,
	  write_seen, NULL, "seen" FILES },
	{ "sync.extended", "behaviour 28; dax_iomap_rw()",
	  "A write(2) behind the end of the file makes the page reachable through a mapping, zeroed behind it.", 0,
	  extended, NULL, "SIGBUS, then dma and zero behind it" FILES },
	{ "sync.size-torn", "behaviour 28; ext4_dax_write_iter()",
	  "Who reads while another appends finds each byte that the size promises.", 0, appended, NULL,
	  "never torn" FILES },
	{ "sync.nowait-read", "ext4_dax_read_iter(); RWF_NOWAIT", "A read that need not wait succeeds with RWF_NOWAIT.",
	  0, with_flags, &(const struct rw){ RWF_NOWAIT, false },
	  "returns; pinfs, bare: EOPNOTSUPP; plain: returns|EOPNOTSUPP|EAGAIN" FILES },
	{ "sync.nowait-write", "generic_write_checks(); xfs_file_dax_write(); RWF_NOWAIT",
	  "A write does not: ext4 takes none with RWF_NOWAIT but O_DIRECT ones, and XFS may have times to write down.",
	  0, with_flags, &(const struct rw){ RWF_NOWAIT, true },
	  "EINVAL; xfs: EAGAIN|returns; pinfs, bare: EOPNOTSUPP; plain: ?" FILES },
	{ "sync.nowait-behind", "ext4_dax_read_iter(); RWF_NOWAIT",
	  "Behind a truncate that waits, a read with RWF_NOWAIT is EAGAIN.", CF_PINS, nowait_behind,
	  &(const struct rw){ RWF_NOWAIT, false }, "EAGAIN; pinfs, bare: EOPNOTSUPP" FILES },
	{ "sync.nowait-write-behind", "ext4_dax_write_iter(); RWF_NOWAIT", "And a write, too.", CF_PINS, nowait_behind,
	  &(const struct rw){ RWF_NOWAIT, true }, "EAGAIN; pinfs, bare: EOPNOTSUPP" FILES },
	{ "sync.atomic", "RWF_ATOMIC", "No write with RWF_ATOMIC: not on DAX files.", 0, with_flags,
	  &(const struct rw){ RWF_ATOMIC, true }, "EIO|EOPNOTSUPP|EINVAL; plain: ?" FILES },
	{ "sync.direct-read", "dax_iomap_rw()", "O_DIRECT is accepted, and reads the same bytes.", 0, direct,
	  &(const struct direct){ CF_PAGE, CF_PAGE, 0, false }, "returns; plain: returns|EINVAL" FILES },
	{ "sync.direct-write", "dax_iomap_rw()", "And writes them where mappings see them.", 0, direct,
	  &(const struct direct){ CF_PAGE, CF_PAGE, 0, true }, "returns; plain: returns|EINVAL" FILES },
	{ "sync.direct-unaligned", "dax_iomap_rw()",
	  "Under DAX O_DIRECT asks for no alignment: there is no transfer that could need it.", 0, direct,
	  &(const struct direct){ 77, 1000, 3, true }, "returns; plain: returns|EINVAL" FILES },
};
CF_GROUP(cf_sync, "sync", "MAP_SYNC, and read(2) and write(2) beside mappings", cases);
