/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_profile_rows.c - what each system does when pins and truncates meet, as tables: whose operations break a layout,
 * what waits behind one that waits, whether that is fair, what a holder's own truncate does, which long-term pins there
 * are, which files are DAX, and which errors and signals a program sees.
 *
 * One row is one question, one column one profile; where a system answers as pinfs by itself does, that is said, too.
 * test_profile.c has the calls that need no pins.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pinfs/pin.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"

#ifndef FS_XFLAG_DAX
#define FS_XFLAG_DAX 0x00008000
#endif
#define PAGE ((off_t)4096)
#define CHUNK ((off_t)2 << 20)
#define SIZE (2 * CHUNK)
#define SOON_MS 60000

enum { PINFS, L415, L419, L612, VIRTIOFS, DEVDAX, NR };
static const char *const profile[NR] = { "pinfs", "linux-4.15", "linux-4.19", "linux-6.12", "virtiofs", "devdax" };
#define ALL(e) { e, e, e, e, e, e }

static struct pt_fs *fs;
static int fd;
static char f[512], g[512];

/* A mount with a file of SIZE bytes, written but for its second chunk, and another one of a page. */
static void begin(int p, const char *more)
{
	static char byte[2 << 20];
	char opts[128];
	int other;

	(void)snprintf(opts, sizeof opts, "%s%sprofile=%s", more, *more ? "," : "", profile[p]);
	fs = pt_fs_start("32M", opts);
	(void)snprintf(f, sizeof f, "%s", pt_path(fs, "f"));
	(void)snprintf(g, sizeof g, "%s", pt_path(fs, "g"));
	fd = open(f, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_SYS(ftruncate(fd, SIZE));
	if (p == DEVDAX)
		return;
	memset(byte, 'o', sizeof byte);
	PT_EQ(pwrite(fd, byte, sizeof byte, 0), (ssize_t)sizeof byte);
	other = open(g, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_EQ(pwrite(other, byte, PAGE, 0), PAGE);
	PT_SYS(close(other));
}

static void end(void)
{
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static struct actor *holder(void)
{
	struct actor *a = actor_new();

	PT_EQ(actor_map_file(a, 0, f, SIZE), 0);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
	return a;
}

/* Is @rc (0 or more, or -1 and errno) what the table says? */
static void row(int p, const char *what, long rc, int want)
{
	const int err = errno;

	if (want == 0 ? rc < 0 : rc >= 0 || err != want)
		pt_say("profile=%s, %s: %ld, %s; expected %s", profile[p], what, rc, rc < 0 ? strerrorname_np(err) : "",
		       want != 0 ? strerrorname_np(want) : "success");
	CU_ASSERT(want == 0 ? rc >= 0 : rc < 0 && err == want);
}

/* Whose operations break the layout: page 0 is pinned, on_busy=ebusy says it, each is about other pages if it can. */

static int op_open_trunc(void)
{
	int t = open(f, O_RDWR | O_TRUNC | O_CLOEXEC);

	return t < 0 ? -1 : close(t);
}

static int op_store_hole(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, CHUNK);

	if (p == MAP_FAILED)
		return -1;
	p[0] = 's';
	return munmap(p, PAGE);
}

static int op_rename_over(void)
{
	const char *to = pt_path(fs, "link");

	PT_SYS(link(f, to));
	return rename(g, to);
}

static int op_link_unlink(void)
{
	const char *to = pt_path(fs, "link2");

	return link(f, to) != 0 ? -1 : unlink(to);
}

static int op_collapse(void) { return fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, CHUNK, PAGE); }
static int op_punch(void) { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHUNK, PAGE); }
static int op_unshare(void) { return fallocate(fd, FALLOC_FL_UNSHARE_RANGE, CHUNK / 2, PAGE); }
static int op_write(void) { return (int)pwrite(fd, "w", 1, 0); }
static int op_write_hole(void) { return (int)pwrite(fd, "w", 1, CHUNK + 9 * PAGE); }
static int op_write_grow(void) { return (int)pwrite(fd, "w", 1, SIZE + 5); }
static int op_chmod(void) { return chmod(f, 0600); }
static int op_shrink(void) { return ftruncate(fd, SIZE - PAGE); }
static int op_same(void) { struct stat st; return fstat(fd, &st) != 0 ? -1 : ftruncate(fd, st.st_size); }
static int op_grow(void) { return ftruncate(fd, 3 * SIZE); }
static int op_unlink(void) { return unlink(f); }

static void who_breaks(void)
{
	static const struct { const char *what; int (*op)(void); int err[NR]; } rows[] = {
		{ "write in place", op_write, ALL(0) },
		{ "write into a hole", op_write_hole, ALL(0) },
		{ "write that grows", op_write_grow, ALL(0) },
		{ "store into a hole", op_store_hole, ALL(0) },
		{ "chmod", op_chmod, ALL(0) },
		{ "link, unlink", op_link_unlink, ALL(0) },
		{ "rename over it", op_rename_over, ALL(0) },
		{ "punch", op_punch, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "collapse", op_collapse, { 0, EBUSY, EBUSY, EBUSY, EOPNOTSUPP } },
		{ "unshare", op_unshare, { 0, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP } },
		{ "truncate, same size", op_same, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "truncate, grow", op_grow, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "truncate, shrink", op_shrink, { 0, EBUSY, EBUSY, EBUSY, EBUSY } },
		{ "O_TRUNC", op_open_trunc, ALL(EBUSY) },
		{ "unlink", op_unlink, ALL(0) },
	};
	struct actor *a;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < DEVDAX; p++) {
		begin(p, "on_busy=ebusy");
		a = holder();
		for (size_t i = 0; i < PF_ARRAY_LEN(rows); i++)
			row(p, rows[i].what, rows[i].op(), rows[i].err[p]);
		PT_EQ(actor_do(a, act_unpin(0)), 0);
		actor_end(a);
		end();
	}
}

/* What waits: pins that come later, and the holder itself. */
static void waiting(void)
{
	static const struct { const char *what; int err[NR]; } later = { "a pin that comes later",
		{ EAGAIN, 0, 0, 0, 0 } };
	static const struct { const char *what; int err[NR]; } own = { "truncate by the holder, then a signal",
		{ EDEADLK, EINTR, EINTR, EINTR, EINTR } };
	struct actor *a, *b, *c;
	struct look l;
	long rc;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < DEVDAX; p++) {
		begin(p, p == L415 ? "on_busy=wait" : "");
		a = holder();
		b = actor_new();
		c = actor_new();
		PT_EQ(actor_map_file(b, 0, f, SIZE), 0);
		actor_send(c, act_truncate(f, 0));
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		PT_EQ(actor_do(b, act_load(0, 0)), 'o');		/* faults are not stopped by one that waits */
		rc = actor_do(b, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE | PINFS_PIN_NOWAIT));
		errno = (int)-rc;
		row(p, later.what, rc, later.err[p]);
		if (rc == 0)
			PT_EQ(actor_do(b, act_unpin(0)), 0);
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		PT_SYS(kill(actor_pid(c), SIGUSR1));		/* interruptible, and then nothing has happened */
		PT_EQ(actor_result(c, SOON_MS), -EINTR);
		PT_EQ(actor_do(b, act_load(0, 0)), 'o');
		actor_send(a, act_truncate(f, 0));
		if (own.err[p] == EINTR) {
			CU_ASSERT(look_until(fs, 1, 1, &l));
			PT_EQ(l.wait[0].holder, actor_pid(a));
			PT_EQ(actor_result(a, 400), -EINPROGRESS);	/* four looks for a deadlock */
			PT_SYS(kill(actor_pid(a), SIGUSR1));
		}
		rc = actor_result(a, SOON_MS);
		errno = (int)-rc;
		row(p, own.what, rc, own.err[p]);
		PT_EQ(actor_do(a, act_unpin(0)), 0);
		actor_end(a);
		actor_end(b);
		actor_end(c);
		end();
	}
}

/* What waits behind a truncate that waits. The kernel's FUSE decides; what a program does with windows is ours. */

static int dir;			/* of the mount */
static char *window;

static int b_stat(void) { struct stat st; return fstat(fd, &st); }
static int b_access(void) { return access(f, R_OK); }
static int b_open(void) { int t = open(f, O_RDWR | O_CLOEXEC); return t < 0 ? -1 : close(t); }
static int b_getxattr(void) { char v; return getxattr(f, "user.none", &v, 1) < 0 && errno != ENODATA ? -1 : 0; }
static int b_read(void) { char c; return (int)pread(fd, &c, 1, PAGE); }
static int b_map(void) { char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE); return p == MAP_FAILED ||
	p[0] != 'o' ? -1 : munmap(p, PAGE); }
static int b_store(void) { window[2 * PAGE] = 's'; return 0; }
static int b_msync(void) { return msync(window, PAGE, MS_SYNC); }
static int b_other(void) { int t = openat(dir, "new", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	return t < 0 || close(t) != 0 ? -1 : unlinkat(dir, "new", 0); }
static int b_write(void) { return (int)pwrite(fd, "w", 1, 0); }
static int b_fsync(void) { return fsync(fd); }
static int b_chmod(void) { return fchmod(fd, 0640); }
static int b_setxattr(void) { return fsetxattr(fd, "user.x", "y", 1, 0); }
static int b_seek(void) { return lseek(fd, 0, SEEK_DATA) < 0 && errno != ENXIO ? -1 : 0; }
static int b_fallocate(void) { return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, PAGE); }
static int b_truncate(void) { return ftruncate(fd, PAGE); }
static int b_open_trunc(void) { return op_open_trunc(); }
static int b_link(void) { return linkat(AT_FDCWD, f, AT_FDCWD, pt_path(fs, "d/l"), 0); }

static const struct { const char *what; int (*op)(void); bool waits; } behind[] = {
	{ "stat", b_stat, false },
	{ "access", b_access, false },
	{ "open", b_open, false },
	{ "getxattr", b_getxattr, false },
	{ "read", b_read, false },
	{ "mmap, load", b_map, false },
	{ "store", b_store, false },
	{ "msync", b_msync, false },
	{ "another name", b_other, false },
	{ "write", b_write, true },
	{ "fsync", b_fsync, true },
	{ "chmod", b_chmod, true },
	{ "setxattr", b_setxattr, true },
	{ "SEEK_DATA", b_seek, true },
	{ "fallocate", b_fallocate, true },
	{ "truncate", b_truncate, true },
	{ "O_TRUNC", b_open_trunc, true },
	{ "link", b_link, true },		/* keeps the directory, so it comes last */
};

static int run_behind(void *arg)
{
	const size_t i = (size_t)(uintptr_t)arg;

	window = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (window == MAP_FAILED)
		return 2;
	return behind[i].op() < 0 ? 1 : 0;
}

static void what_waits(void)
{
	pid_t pid[PF_ARRAY_LEN(behind)];
	struct actor *a, *c;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < DEVDAX; p += L612) {		/* pinfs and linux-6.12: one kernel answers for all */
		begin(p, "");
		PT_SYS(mkdir(pt_path(fs, "d"), 0755));
		dir = open(fs->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		a = holder();
		c = actor_new();
		actor_send(c, act_truncate(f, 0));
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		for (size_t i = 0; i < PF_ARRAY_LEN(behind); i++) {
			int rc;

			pid[i] = pt_fork(run_behind, (void *)(uintptr_t)i);
			if (behind[i].waits)
				continue;
			rc = pt_wait(pid[i], SOON_MS);
			if (rc != 0)
				pt_say("profile=%s, %s: status %d", profile[p], behind[i].what, rc);
			CU_ASSERT_EQUAL(rc, 0);
		}
		pt_sleep_ms(300);		/* time for those who do not wait as they should */
		for (size_t i = 0; i < PF_ARRAY_LEN(behind); i++)
			if (behind[i].waits) {
				int rc = pt_wait(pid[i], 0);

				if (rc != -1)
					pt_say("profile=%s, %s: did not wait: %d", profile[p], behind[i].what, rc);
				CU_ASSERT_EQUAL(rc, -1);
			}
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		PT_EQ(actor_do(a, act_unpin(0)), 0);
		PT_EQ(actor_result(c, SOON_MS), 0);
		for (size_t i = 0; i < PF_ARRAY_LEN(behind); i++)
			if (behind[i].waits)
				PT_EQ(pt_wait(pid[i], SOON_MS), 0);
		actor_end(a);
		actor_end(c);
		PT_SYS(close(dir));
		end();
	}
}

/* Long-term pins, by what is mapped and how. */

static int long_pin(int prot, int flags, unsigned int how)
{
	struct pinfs_pin *pin = NULL;
	char *p = mmap(NULL, SIZE, prot, flags, fd, 0);
	int rc;

	if (p == MAP_FAILED)
		return -1;
	rc = pinfs_pin(p + PAGE, PAGE, how | PINFS_PIN_LONGTERM, &pin);
	if (rc == 0)
		PT_EQ(pinfs_unpin(pin), 0);
	PT_SYS(munmap(p, SIZE));
	errno = -rc;
	return rc == 0 ? 0 : -1;
}

static int long_shared(void) { return long_pin(PROT_READ | PROT_WRITE, MAP_SHARED, PINFS_PIN_WRITE); }
static int long_read(void) { return long_pin(PROT_READ, MAP_SHARED, 0); }
static int long_private(void) { return long_pin(PROT_READ | PROT_WRITE, MAP_PRIVATE, PINFS_PIN_WRITE); }

static int long_over_two(void)
{
	struct pinfs_pin *pin = NULL;
	char *p = mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = p != MAP_FAILED ? (char *)(((uintptr_t)p + CHUNK - 1) / CHUNK * CHUNK) : NULL;
	int rc;

	if (p == MAP_FAILED || mmap(at, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -1;
	rc = pinfs_pin(at == p ? at + CHUNK - PAGE : at - PAGE, 2 * PAGE, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, &pin);
	if (rc == 0)
		PT_EQ(pinfs_unpin(pin), 0);
	PT_SYS(munmap(p, 2 * CHUNK));
	errno = -rc;
	return rc == 0 ? 0 : -1;
}

static void longterm(void)
{
#define NO EOPNOTSUPP
	static const struct { const char *what; int (*op)(void); int err[NR]; } rows[] = {
		{ "shared, for writing", long_shared, { NO, NO, NO, NO, NO, 0 } },
		{ "shared, for reading", long_read, { NO, NO, NO, NO, NO, 0 } },
		{ "private", long_private, { NO, NO, NO, NO, NO, EINVAL } },	/* there is no such mapping */
		{ "half anonymous memory", long_over_two, { NO, NO, NO, NO, NO, EFAULT } },
	};
	struct look l;

	if (!pt_need_mount())
		return;
	for (int p = 0; p < NR; p++) {
		begin(p, "");
		for (size_t i = 0; i < PF_ARRAY_LEN(rows); i++)
			row(p, rows[i].what, rows[i].op(), rows[i].err[p]);
		/* Nothing is left behind by those that were refused. */
		CU_ASSERT(look(fs, &l));
		PT_EQ(l.npin, 0);
		if (p != DEVDAX)
			PT_SYS(ftruncate(fd, 0));
		end();
	}
}

/* Which files are DAX; what is not, is not pinned, and a truncate does not wait for it. */
static void modes(void)
{
	static const struct { const char *dax; bool flag; int bit[NR]; int pin; } rows[] = {
		{ "always", false, { 1, 0, 0, 1, 1 }, 0 },	/* 4.x: no such bit */
		{ "never", true, { 0, 0, 0, 0, 0 }, EFAULT },
		{ "inode", false, { 0, 0, 0, 0, 0 }, EFAULT },
		{ "inode", true, { 1, 0, 0, 1, 1 }, 0 },
	};
	struct fsxattr fx = { .fsx_xflags = FS_XFLAG_DAX };
	struct pinfs_pin *pin;
	struct statx stx;
	char opts[64], *p;
	int d, t;

	if (!pt_need_mount())
		return;
	for (int pr = 0; pr < DEVDAX; pr++)
		for (size_t i = 0; i < PF_ARRAY_LEN(rows); i++) {
			(void)snprintf(opts, sizeof opts, "dax=%s,profile=%s", rows[i].dax, profile[pr]);
			fs = pt_fs_start("16M", opts);
			PT_SYS(mkdir(pt_path(fs, "d"), 0755));
			d = open(pt_path(fs, "d"), O_RDONLY | O_CLOEXEC);
			if (rows[i].flag)
				PT_SYS(ioctl(d, FS_IOC_FSSETXATTR, &fx));	/* files made there have it */
			PT_SYS(close(d));
			t = open(pt_path(fs, "d/f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
			PT_EQ(pwrite(t, "x", 1, 0), 1);
			PT_SYS(statx(t, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
			PT_EQ(stx.stx_attributes & STATX_ATTR_DAX ? 1 : 0, rows[i].bit[pr]);
			p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t, 0);
			CU_ASSERT_FATAL(p != MAP_FAILED);
			errno = -pinfs_pin(p, 1, PINFS_PIN_WRITE, &pin);
			row(pr, rows[i].dax, errno == 0 ? 0 : -1, rows[i].pin);
			if (rows[i].pin == 0)
				PT_EQ(pinfs_unpin(pin), 0);
			PT_SYS(munmap(p, PAGE));
			PT_SYS(close(t));
			pt_fs_end(fs);
		}
}

/* Errors and signals that all of them have in common. */

static sigjmp_buf out_of_it;
static volatile int code;

static void on_bus(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	code = si->si_code;
	siglongjmp(out_of_it, sig);
}

/* 0, or the signal's code. */
static int touch(volatile char *p, bool store)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO }, old;

	PT_SYS(sigaction(SIGBUS, &sa, &old));
	code = 0;
	if (sigsetjmp(out_of_it, 1) == 0) {
		if (store)
			*p = 1;
		else
			(void)*p;
	}
	PT_SYS(sigaction(SIGBUS, &old, NULL));
	return code;
}

static void errors(void)
{
	struct pinfs_pin *pin;
	char out[512], where[600], *p;
	static char page[4096];

	if (!pt_need_mount())
		return;
	for (int pr = 0; pr < DEVDAX; pr++) {
		begin(pr, "");
		p = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		CU_ASSERT_FATAL(p != MAP_FAILED);
		PT_EQ(touch(p, true), 0);
		PT_EQ(touch(p + CHUNK + 7 * PAGE, false), 0);		/* a hole */
		PT_EQ(pinfs_pin(p + CHUNK + 7 * PAGE, 1, 0, &pin), -EFAULT);
		PT_EQ(touch(p + SIZE, false), BUS_ADRERR);
		PT_EQ(pinfs_pin(p + SIZE, 1, PINFS_PIN_WRITE, &pin), -EFAULT);
		PT_EQ(pinfs_pin(p + SIZE - PAGE, 2 * PAGE, PINFS_PIN_WRITE, &pin), -EFAULT);
		PT_EQ(pinfs_pin(out, 1, PINFS_PIN_WRITE, &pin), -EFAULT);
		/* A bad block. */
		(void)snprintf(where, sizeof where, "%s:%lld", f, 5 * (long long)PAGE);
		PT_EQ(pt_run(out, sizeof out, SOON_MS, (const char *[]){ pt_program("pinfsctl"), "badblock", "add",
			     fs->mnt, where, NULL }), 0);
		PT_FAILS(pread(fd, page, PAGE, 5 * PAGE), EIO);
		PT_FAILS(pwrite(fd, page, 1, 5 * PAGE + 1), EIO);
		PT_EQ(pread(fd, page, PAGE, 4 * PAGE), PAGE);
		CU_ASSERT(touch(p + 5 * PAGE, false) != 0);
		PT_EQ(touch(p + 4 * PAGE, false), 0);
		PT_EQ(pinfs_pin(p + 5 * PAGE, 1, PINFS_PIN_WRITE, &pin), -EIO);
		PT_EQ(pwrite(fd, page, PAGE, 5 * PAGE), PAGE);		/* a whole page makes it good */
		PT_EQ(pread(fd, page, PAGE, 5 * PAGE), PAGE);
		PT_EQ(touch(p + 5 * PAGE, false), 0);
		PT_SYS(munmap(p, 2 * SIZE));
		end();
	}
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "whose operations break", who_breaks, 0 },
		{ "waiting", waiting, 0 },
		{ "what waits behind", what_waits, 0 },
		{ "long-term pins", longterm, 0 },
		{ "which files are DAX", modes, 0 },
		{ "errors and signals", errors, 0 },
	};
	static const struct pt_suite suites[] = { { "profile rows", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
