/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_profile.c - profile=: the table of pinfs(8), row by row, asked of a mount by system calls, mappings and pins.
 * The profile `pinfs` is the twin of each row: there the same call is answered otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"

#include <pinfs/pin.h>

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#define PAGE ((off_t)4096)
#define CHUNK ((off_t)2 << 20)
#define SIZE (2 * CHUNK)

enum { PINFS, L415, L419, L612, VIRTIOFS, DEVDAX, NR };
static const char *const profile[NR] = { "pinfs", "linux-4.15", "linux-4.19", "linux-6.12", "virtiofs", "devdax" };

static struct pt_fs *fs;
static int fd;

/* A file of SIZE bytes; under devdax the empty file becomes a device that way. */
static void begin(int p, const char *more)
{
	char opts[128];

	(void)snprintf(opts, sizeof opts, "%s%sprofile=%s", more, *more ? "," : "", profile[p]);
	fs = pt_fs_start("64M", opts);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_SYS(ftruncate(fd, SIZE));
}

static void end(void)
{
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* ---- calls ---- */

static int try_map(off_t len, int flags, off_t off)
{
	void *p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, flags, fd, off);

	return p == MAP_FAILED ? -1 : munmap(p, (size_t)len);
}

static int map_shared(void) { return try_map(SIZE, MAP_SHARED, 0); }
static int map_private(void) { return try_map(SIZE, MAP_PRIVATE, 0); }
static int map_sync(void) { return try_map(SIZE, MAP_SHARED_VALIDATE | MAP_SYNC, 0); }
static int map_sync_ignored(void) { return try_map(SIZE, MAP_SHARED | MAP_SYNC, 0); }
static int map_short(void) { return try_map(CHUNK / 2, MAP_SHARED, 0); }
static int map_odd(void) { return try_map(CHUNK, MAP_SHARED, PAGE); }

static int map_fixed_odd(void)
{
	char *room = mmap(NULL, 2 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)room + CHUNK - 1) / CHUNK * CHUNK) - PAGE;
	void *p;
	int err;

	if (at < room)
		at += CHUNK - PAGE;
	p = mmap(at, CHUNK / 2, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	err = errno;
	PT_SYS(munmap(room, 2 * CHUNK));
	errno = err;
	return p == MAP_FAILED ? -1 : 0;
}

static int call_fallocate(void) { return fallocate(fd, 0, 0, SIZE); }
static int call_keep(void) { return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE); }
static int call_punch(void) { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE); }
static int call_zero(void) { return fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, PAGE); }
static int call_collapse(void) { return fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE); }
static int call_insert(void) { return fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, PAGE); }
static int call_unshare(void) { return fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, PAGE); }
static int call_shrink(void) { return ftruncate(fd, CHUNK); }
static int call_same(void) { struct stat st; return fstat(fd, &st) == 0 ? ftruncate(fd, st.st_size) : -1; }
static int call_grow(void) { return truncate(pt_path(fs, "f"), SIZE); }
static int call_read(void) { char b; return (int)pread(fd, &b, 1, 0); }
static int call_write(void) { return (int)pwrite(fd, "x", 1, 0); }
static int call_fsync(void) { return fsync(fd); }
static int call_copy(void) { return (int)copy_file_range(fd, &(off_t){ 0 }, fd, &(off_t){ CHUNK / 2 }, 16, 0); }

/* O_TRUNC of a device is without effect. */
static int open_trunc(void)
{
	int t = open(pt_path(fs, "f"), O_RDWR | O_TRUNC | O_CLOEXEC);
	struct stat st;

	if (t < 0)
		return -1;
	PT_SYS(fstat(t, &st));
	PT_SYS(close(t));
	if (st.st_size == SIZE) {
		errno = EALREADY;
		return -1;
	}
	return ftruncate(fd, SIZE);
}

static int call_msync(void)
{
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int rc, err;

	if (p == MAP_FAILED)
		return -1;
	p[0] = 1;
	rc = msync(p, PAGE, MS_SYNC);
	err = errno;
	PT_SYS(munmap(p, SIZE));
	errno = err;
	return rc;
}

/* A read pin of a page that nobody has stored to: on a device there is no hole. */
static int pin_hole(void)
{
	struct pinfs_pin *pin = NULL;
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int rc = p == MAP_FAILED ? -errno : pinfs_pin(p + CHUNK + 5 * PAGE, PAGE, 0, &pin);

	if (rc == 0)
		PT_EQ(pinfs_unpin(pin), 0);
	if (p != MAP_FAILED)
		PT_SYS(munmap(p, SIZE));
	errno = -rc;
	return rc == 0 ? 0 : -1;
}

#define YES { 0, 0, 0, 0, 0, 0 }
#define DEVICE(err) { 0, 0, 0, 0, 0, err }

/* In the order in which they are called. */
static const struct row { const char *what; int (*call)(void); int err[NR]; } rows[] = {
	{ "pin of a hole", pin_hole, { EFAULT, EFAULT, EFAULT, EFAULT, EFAULT, 0 } },
	{ "MAP_SHARED", map_shared, YES },
	{ "MAP_PRIVATE", map_private, DEVICE(EINVAL) },
	{ "MAP_SYNC", map_sync, { 0, 0, 0, 0, EOPNOTSUPP, 0 } },
	{ "MAP_SYNC in plain MAP_SHARED", map_sync_ignored, YES },
	{ "length not aligned", map_short, DEVICE(EINVAL) },
	{ "offset not aligned", map_odd, DEVICE(EINVAL) },
	{ "fixed address not aligned", map_fixed_odd, DEVICE(EINVAL) },
	{ "read", call_read, DEVICE(EINVAL) },
	{ "write", call_write, DEVICE(EINVAL) },
	{ "copy_file_range", call_copy, DEVICE(EINVAL) },
	{ "fsync", call_fsync, DEVICE(EINVAL) },
	{ "msync", call_msync, DEVICE(EINVAL) },
	{ "fallocate", call_fallocate, DEVICE(ENODEV) },
	{ "fallocate, keep size", call_keep, DEVICE(ENODEV) },
	{ "punch", call_punch, DEVICE(ENODEV) },
	{ "zero range", call_zero, DEVICE(ENODEV) },
	{ "unshare", call_unshare, { 0, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, ENODEV } },
	{ "collapse", call_collapse, { 0, 0, 0, 0, EOPNOTSUPP, ENODEV } },
	{ "insert", call_insert, { 0, 0, 0, 0, EOPNOTSUPP, ENODEV } },
	{ "truncate, same size", call_same, DEVICE(EINVAL) },
	{ "truncate, shrink", call_shrink, DEVICE(EINVAL) },
	{ "truncate, grow", call_grow, DEVICE(EINVAL) },
	{ "O_TRUNC", open_trunc, DEVICE(EALREADY) },
};

static void calls(void)
{
	if (!pt_need_mount())
		return;
	for (int p = 0; p < NR; p++) {
		begin(p, "");
		for (size_t i = 0; i < PF_ARRAY_LEN(rows); i++) {
			int want = rows[i].err[p], rc;

			errno = 0;
			rc = rows[i].call();
			if (want == 0 ? rc < 0 : rc >= 0 || errno != want)
				pt_say("profile=%s, %s: %d, %s", profile[p], rows[i].what, rc, pt_errname());
			CU_ASSERT(want == 0 ? rc >= 0 : rc < 0 && errno == want);
		}
		end();
	}
}

/* MAP_SYNC says that flushing CPU caches is enough; with pmem=msync it is not. */
static void synchronous(void)
{
	if (!pt_need_mount())
		return;
	begin(0, "pmem=msync");
	PT_FAILS(map_sync(), EOPNOTSUPP);
	PT_SYS(map_sync_ignored());
	PT_SYS(map_shared());
	end();
	begin(0, "pmem=cpu");
	PT_SYS(map_sync());
	end();
}

/* ---- statx ---- */

static void attributes(void)
{
	static const uint64_t flags = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
	static const uint64_t mask[NR] = {
		flags | STATX_ATTR_DAX, flags, flags, flags | STATX_ATTR_DAX, STATX_ATTR_DAX, STATX_ATTR_DAX,
	};
	struct statx stx;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < NR; p++) {
		begin(p, "");
		PT_SYS(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
		PT_EQ(stx.stx_attributes_mask & (flags | STATX_ATTR_DAX), mask[p]);
		PT_EQ(stx.stx_attributes & STATX_ATTR_DAX, mask[p] & STATX_ATTR_DAX);
		end();
	}
}

/* ---- pins ---- */

static struct actor *holder(void)
{
	struct actor *a = actor_new();

	PT_EQ(actor_map_file(a, 0, pt_path(fs, "f"), SIZE), 0);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
	return a;
}

/* Whose pins count, said by on_busy=ebusy: page 0 is pinned, and each call is about other pages. */
static void scope(void)
{
	static const struct { const char *what; int mode; off_t off, len; int err[NR]; } op[] = {
		{ "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHUNK, PAGE, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "zero", FALLOC_FL_ZERO_RANGE, CHUNK, PAGE, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "insert", FALLOC_FL_INSERT_RANGE, CHUNK, PAGE, { 0, EBUSY, EBUSY, EBUSY, EOPNOTSUPP } },
		{ "allocate inside", 0, CHUNK, PAGE, { 0, 0, 0, 0, EBUSY } },
		{ "allocate, keep size", FALLOC_FL_KEEP_SIZE, 4 * SIZE, PAGE, YES },
		{ "allocate and grow", 0, 2 * SIZE, PAGE, { 0, 0, 0, 0, EBUSY } },
	};
	struct actor *a;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < DEVDAX; p++) {
		begin(p, "on_busy=ebusy");
		a = holder();
		for (size_t i = 0; i < PF_ARRAY_LEN(op); i++) {
			int rc = fallocate(fd, op[i].mode, op[i].off, op[i].len), want = op[i].err[p];

			if (want == 0 ? rc != 0 : rc == 0 || errno != want)
				pt_say("profile=%s, %s: %d, %s", profile[p], op[i].what, rc, pt_errname());
			CU_ASSERT(want == 0 ? rc == 0 : rc != 0 && errno == want);
		}
		/* Shrinking far from the pin, growing, and the size it has. */
		for (int i = 0; i < 3; i++) {
			struct stat st;

			PT_SYS(fstat(fd, &st));
			if (p == PINFS)
				PT_SYS(ftruncate(fd, i == 0 ? SIZE - PAGE : i == 1 ? 2 * SIZE : st.st_size));
			else
				PT_FAILS(ftruncate(fd, i == 0 ? SIZE - PAGE : i == 1 ? 8 * SIZE : st.st_size), EBUSY);
		}
		PT_EQ(actor_do(a, act_unpin(0)), 0);
		PT_SYS(ftruncate(fd, 0));
		actor_end(a);
		end();
	}
}

/* What a truncate of pinned pages does when nothing was said of on_busy: 4.15 goes on, the others wait. */
static void busy(void)
{
	struct actor *a, *b;
	struct look l;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < DEVDAX; p++) {
		begin(p, "");
		a = holder();
		b = actor_new();
		actor_send(b, act_truncate(pt_path(fs, "f"), p == PINFS ? 0 : CHUNK));
		if (p == L415) {
			PT_EQ(actor_result(b, 60000), 0);
			CU_ASSERT(look_status(fs, "counters.collisions") > 0);
			PT_EQ(actor_do(a, act_unpin(0)), 0);
		} else {
			CU_ASSERT(look_until(fs, 1, 1, &l));
			PT_EQ(actor_result(b, 0), -EINPROGRESS);
			PT_EQ(actor_do(a, act_unpin(0)), 0);
			PT_EQ(actor_result(b, 60000), 0);
			PT_EQ(look_status(fs, "counters.collisions"), 0);
		}
		actor_end(a);
		actor_end(b);
		end();
	}
}

/* The warning is there exactly with the policy that corrupts, wherever that comes from. */
static void warning(void)
{
	static const struct { const char *opts; bool warns; } run[] = {
		{ "profile=linux-4.15", true },			{ "profile=linux-4.19", false },
		{ "on_busy=wait,profile=linux-4.15", false },	{ "profile=linux-6.12,on_busy=unsafe", true },
		{ "profile=devdax", false },
	};
	char said[4096];
	size_t n;
	FILE *f;

	if (!pt_need_mount())
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(run); i++) {
		fs = pt_fs_start("64M", run[i].opts);
		f = fopen(fs->log, "re");
		n = f != NULL ? fread(said, 1, sizeof said - 1, f) : 0;
		said[n] = '\0';
		if (f != NULL)
			(void)fclose(f);
		CU_ASSERT_EQUAL(strstr(said, "EXPERIMENTAL") != NULL, run[i].warns);
		pt_fs_end(fs);
	}
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "calls", calls, 0 },
		{ "MAP_SYNC and the device", synchronous, 0 },
		{ "statx", attributes, 0 },
		{ "whose pins count", scope, 0 },
		{ "pinned pages", busy, 0 },
		{ "the warning", warning, 0 },
	};
	static const struct pt_suite suites[] = { { "profile", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
