/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_longterm.c - pinfs_pin() with PINFS_PIN_LONGTERM: who is admitted, by the policy of mount, directory, file,
 * descriptor and profile; that a refusal leaves nothing behind; what is charged to the user, and when it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"

#define PAGE UINT64_C(4096)
#define CHUNK (UINT64_C(2) << 20)
#define SIZE (2 * CHUNK)
#define SOON_MS 60000
#define LONG PINFS_PIN_LONGTERM
#define WLONG (PINFS_PIN_WRITE | PINFS_PIN_LONGTERM)

static struct pt_fs *fs;
static char f[512];

/* A file of two chunks: data in the first page of each, holes between. */
static void make(const char *path)
{
	struct actor *a = actor_new();

	PT_EQ(actor_do(a, act_write(path, 0, PAGE, 'o')), (long)PAGE);
	PT_EQ(actor_do(a, act_write(path, CHUNK, PAGE, 'o')), (long)PAGE);
	PT_EQ(actor_do(a, act_truncate(path, SIZE)), 0);
	actor_end(a);
}

static bool begin(const char *opts)
{
	if (!pt_need_mount())
		return false;
	fs = pt_fs_start("64M", opts);
	(void)snprintf(f, sizeof f, "%s", pt_path(fs, "f"));
	make(f);
	return true;
}

static struct actor *mapper(const char *path)
{
	struct actor *a = actor_new();

	PT_EQ(actor_map_file(a, 0, path, SIZE), 0);
	return a;
}

static long pages(void)
{
	return look_status(fs, "longterm.pages");
}

static long blocks(void)
{
	struct stat st;

	PT_SYS(stat(f, &st));
	return st.st_blocks;
}

/* No pin, nothing charged, and a truncate that meets nobody. */
static void nothing_left(void)
{
	struct actor *c = actor_new();
	struct look l;

	CU_ASSERT_FATAL(look(fs, &l));
	PT_EQ(l.npin, 0);
	PT_EQ(pages(), 0);
	PT_EQ(look_status(fs, "counters.waits"), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	PT_EQ(look_status(fs, "counters.waits"), 0);
	actor_end(c);
}

/* ---- refused ---- */

static void refused(void)
{
	struct actor *a;
	long before;

	if (!begin(NULL))
		return;
	before = blocks();
	a = mapper(f);
	PT_EQ(actor_do(a, act_pin(0, 0, CHUNK - PAGE, PAGE, LONG)), -EOPNOTSUPP);
	/* Mapped and not, with and without a block, over two chunks; a hole that is refused stays one. */
	PT_EQ(actor_do(a, act_load(0, 0)), 'o');
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, LONG)), -EOPNOTSUPP);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, WLONG)), -EOPNOTSUPP);
	PT_EQ(actor_do(a, act_pin(0, 0, 8 * PAGE, PAGE, WLONG)), -EOPNOTSUPP);
	PT_EQ(actor_do(a, act_pin(0, 0, 8 * PAGE, PAGE, LONG)), -EOPNOTSUPP);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, SIZE, WLONG)), -EOPNOTSUPP);
	PT_EQ(actor_do(a, act_pin(0, 0, CHUNK - PAGE, 2 * PAGE, WLONG | PINFS_PIN_NOWAIT)), -EOPNOTSUPP);
	PT_EQ(blocks(), before);
	/* What the mapping allows comes after what the filesystem allows. */
	PT_EQ(actor_do(a, act_open(0, f, O_RDWR)), 0);
	PT_EQ(actor_do(a, act_map(1, 0, 0, SIZE, PROT_READ)), 0);
	PT_EQ(actor_do(a, act_map(2, 0, 0, SIZE, PROT_NONE)), 0);
	for (unsigned int m = 1; m <= 2; m++) {
		PT_EQ(actor_do(a, act_pin(0, m, 0, PAGE, LONG)), -EOPNOTSUPP);
		PT_EQ(actor_do(a, act_pin(0, m, 0, PAGE, WLONG)), -EOPNOTSUPP);
	}
	PT_EQ(actor_do(a, act_pin(0, 1, 0, PAGE, PINFS_PIN_WRITE)), -EACCES);
	PT_EQ(actor_do(a, act_pin(0, 2, 0, PAGE, 0)), -EFAULT);
	/* Transient ones are as ever. */
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
	PT_EQ(pages(), 0);
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	nothing_left();
	actor_end(a);
	pt_fs_end(fs);
}

static void without_lease(void)
{
	struct actor *a;

	if (!begin("longterm=lease"))
		return;
	a = mapper(f);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, PAGE, WLONG)), -EPERM);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, SIZE, LONG)), -EPERM);
	nothing_left();
	actor_end(a);
	pt_fs_end(fs);
}

/* ---- allowed ---- */

/* The pin outlives mapping and descriptor, makes truncate wait, and is charged until it ends: no more and no less. */
static void allowed(void)
{
	struct actor *a, *c;
	struct look l;

	if (!begin("longterm=allow"))
		return;
	a = mapper(f);
	c = actor_new();
	PT_EQ(actor_do(a, act_pin(0, 0, 0, SIZE, WLONG)), 0);
	PT_EQ(pages(), SIZE / PAGE);
	PT_EQ(actor_do(a, act_pin(1, 0, 5, 10, LONG)), 0);	/* part of a page is a page, and twice is twice */
	PT_EQ(actor_do(a, act_pin(2, 0, CHUNK - PAGE, 2 * PAGE, WLONG)), 0);
	PT_EQ(pages(), SIZE / PAGE + 3);
	CU_ASSERT(look(fs, &l));
	PT_EQ(l.npin, 3);
	PT_EQ(actor_do(a, act_unpin(1)), 0);
	PT_EQ(actor_do(a, act_unpin(2)), 0);
	PT_EQ(pages(), SIZE / PAGE);
	PT_EQ(actor_do(a, act_unmap(0)), 0);
	PT_EQ(pages(), SIZE / PAGE);
	actor_send(c, act_truncate(f, CHUNK));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(pages(), 0);

	/* The end of the file, read of a hole, a mapping for reading: as without the flag. */
	PT_EQ(actor_map_file(a, 0, f, SIZE), 0);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, SIZE, WLONG)), -EFAULT);
	PT_EQ(actor_do(a, act_pin(0, 0, CHUNK - 2 * PAGE, PAGE, LONG)), 0);
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_do(a, act_open(0, f, O_RDWR)), 0);
	PT_EQ(actor_do(a, act_map(1, 0, 0, CHUNK, PROT_READ)), 0);
	PT_EQ(actor_do(a, act_pin(0, 1, 0, PAGE, WLONG)), -EACCES);
	PT_EQ(pages(), 0);

	/* Who dies has let go. */
	PT_EQ(actor_do(a, act_pin(0, 0, 0, 7 * PAGE, WLONG)), 0);
	PT_EQ(pages(), 7);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	actor_kill(a);
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(look_status_until(fs, "longterm.pages", 0));
	actor_end(c);
	pt_fs_end(fs);
}

/* A long-term pin that waits for a truncate, and one that does not want to: nothing is charged meanwhile. */
static void behind_truncate(void)
{
	struct actor *a, *b, *c;

	if (!begin("longterm=allow"))
		return;
	a = mapper(f);
	b = mapper(f);
	c = actor_new();
	PT_EQ(actor_do(a, act_pin(0, 0, CHUNK, PAGE, WLONG)), 0);
	actor_send(c, act_truncate(f, PAGE));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(b, act_pin(0, 0, CHUNK - PAGE, 2 * PAGE, WLONG | PINFS_PIN_NOWAIT)), -EAGAIN);
	PT_EQ(pages(), 1);
	actor_send(b, act_pin(0, 0, 0, CHUNK + PAGE, WLONG));
	PT_EQ(actor_do(a, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_result(b, SOON_MS), -EFAULT);	/* the file has ended meanwhile */
	PT_EQ(pages(), 0);
	actor_end(a);
	actor_end(b);
	actor_end(c);
	pt_fs_end(fs);
}

/* ---- whose policy ---- */

static int ctl_set(const char *what)
{
	const char *const argv[] = { pt_program("pinfsctl"), "set", fs->mnt, what, NULL };
	char out[1024];

	return pt_run(out, sizeof out, SOON_MS, argv);
}

static long try_pin(const char *path)
{
	struct actor *a = mapper(path);
	long rc = actor_do(a, act_pin(0, 0, 0, PAGE, WLONG));

	if (rc == 0)
		PT_EQ(actor_do(a, act_unpin(0)), 0);
	actor_end(a);
	return rc;
}

static int by_descriptor(void *arg)
{
	struct pinfs_policy po = { .po_text = "longterm=allow" };
	struct pinfs_pin *pin;
	int fd = open(arg, O_RDWR | O_CLOEXEC);
	void *p;

	if (fd < 0 || ioctl(fd, PINFS_IOC_POLICY, &po) != 0)
		return 1;
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p != MAP_FAILED && pinfs_pin(p, PAGE, WLONG, &pin) == 0 && pinfs_unpin(pin) == 0 ? 0 : 2;
}

static void levels(void)
{
	char d[512], g[512];

	if (!begin(NULL))
		return;
	PT_EQ(try_pin(f), -EOPNOTSUPP);
	PT_EQ(pt_wait(pt_fork(by_descriptor, f), SOON_MS), 0);
	PT_EQ(try_pin(f), -EOPNOTSUPP);			/* that was the descriptor's */
	PT_EQ(ctl_set("longterm=allow"), 0);
	PT_EQ(try_pin(f), 0);
	PT_EQ(ctl_set("longterm=lease"), 0);
	PT_EQ(try_pin(f), -EPERM);
	PT_EQ(ctl_set("longterm=sometimes"), 2);
	(void)snprintf(d, sizeof d, "%s", pt_path(fs, "d"));
	(void)snprintf(g, sizeof g, "%s", pt_path(fs, "d/g"));
	PT_SYS(mkdir(d, 0755));
	PT_SYS(setxattr(d, "user.pinfs.longterm", "allow", 5, 0));
	make(g);
	PT_EQ(try_pin(g), 0);
	PT_SYS(setxattr(g, "user.pinfs.longterm", "refuse", 6, 0));
	PT_EQ(try_pin(g), -EOPNOTSUPP);
	PT_FAILS(setxattr(g, "user.pinfs.longterm", "yes", 3, 0), EINVAL);
	pt_fs_end(fs);
}

static void profiles(void)
{
	static const struct { const char *opts; long want; } row[] = {
		{ "profile=linux-4.15", -EOPNOTSUPP },	{ "profile=linux-4.19", -EOPNOTSUPP },
		{ "profile=linux-6.12", -EOPNOTSUPP },	{ "profile=virtiofs", -EOPNOTSUPP },
		{ "profile=devdax", 0 },		{ "profile=devdax,longterm=refuse", -EOPNOTSUPP },
		{ "longterm=allow,profile=linux-6.12", 0 },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(row); i++) {
		if (!pt_need_mount())
			return;
		fs = pt_fs_start("64M", NULL);		/* a device takes no write(2) */
		(void)snprintf(f, sizeof f, "%s", pt_path(fs, "f"));
		make(f);
		PT_EQ(pt_fs_umount(fs), 0);
		PT_EQ(pt_fs_mount(fs, row[i].opts), 0);
		PT_EQ(try_pin(f), row[i].want);
		pt_fs_end(fs);
	}
}

/* ---- limits ---- */

static bool status_says(const char *what)
{
	const char *const argv[] = { pt_program("pinfsctl"), "status", fs->mnt, NULL };
	char out[8192];
	bool there = pt_run(out, sizeof out, SOON_MS, argv) == 0 && strstr(out, what) != NULL;

	if (!there)
		pt_say("%s", out);
	return there;
}

/* Of the mount: for all processes of a user together, and for root. */
static void mount_limit(void)
{
	struct actor *a, *b;

	if (!begin("longterm=allow,longterm_limit=64K"))
		return;
	a = mapper(f);
	b = mapper(f);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, 12 * PAGE, WLONG)), 0);
	PT_EQ(actor_do(b, act_pin(0, 0, 0, 5 * PAGE, WLONG)), -ENOMEM);
	/* What fits of it, in the first chunk, is given back. */
	PT_EQ(actor_do(b, act_pin(0, 0, CHUNK - 3 * PAGE, 6 * PAGE, WLONG)), -ENOMEM);
	PT_EQ(pages(), 12);
	PT_EQ(actor_do(b, act_pin(0, 0, CHUNK - 2 * PAGE, 4 * PAGE, WLONG)), 0);
	PT_EQ(pages(), 16);
	PT_EQ(actor_do(a, act_pin(1, 0, 0, PAGE, WLONG)), -ENOMEM);
	CU_ASSERT(status_says("longterm=allow, longterm_limit=64 KiB, 64 KiB pinned; uid "));
	PT_EQ(actor_do(a, act_pin(1, 0, 0, SIZE, PINFS_PIN_WRITE)), 0);	/* a transient pin is charged to nobody */
	PT_EQ(actor_do(a, act_unpin(1)), 0);
	for (int i = 0; i < 20; i++) {			/* what one lets go, another has at once */
		PT_EQ(actor_do(b, act_unpin(0)), 0);
		PT_EQ(actor_do(a, act_pin(1, 0, 0, 4 * PAGE, WLONG)), 0);
		PT_EQ(actor_do(a, act_unpin(1)), 0);
		PT_EQ(actor_do(b, act_pin(0, 0, 0, 4 * PAGE, WLONG)), 0);
	}
	actor_end(b);					/* and so when it exits, as soon as the daemon has seen it */
	CU_ASSERT(look_session_until(fs, actor_pid(a), "live"));
	for (uint64_t end = pt_now_ms() + SOON_MS; pages() != 12 && pt_now_ms() < end;)
		pt_sleep_ms(2);
	PT_EQ(pages(), 12);
	actor_end(a);
	pt_fs_end(fs);
}

struct limited { const char *path; rlim_t memlock; uint64_t ask; int want; bool exempt; };

/* With this RLIMIT_MEMLOCK, with or without CAP_IPC_LOCK, pin so much at once. */
static int under_limit(void *arg)
{
	const struct limited *l = arg;
	const struct rlimit lim = { l->memlock, l->memlock };
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	struct pinfs_pin *pin;
	int fd, rc;
	void *p;

	if (setrlimit(RLIMIT_MEMLOCK, &lim) != 0 || syscall(SYS_capget, &h, d) != 0)
		return 100;
	if (!l->exempt)
		d[0].effective &= ~(1U << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &h, d) != 0)
		return 101;
	fd = open(l->path, O_RDWR | O_CLOEXEC);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 102;
	rc = pinfs_pin(p, l->ask, WLONG, &pin);
	if (rc == 0)
		rc = pinfs_unpin(pin);
	return rc == l->want ? 0 : -rc;
}

static void rlimit(void)
{
	static const struct limited row[] = {
		{ f, 8 * PAGE, 8 * PAGE, 0, false },
		{ f, 8 * PAGE, 9 * PAGE, -ENOMEM, false },
		{ f, 0, PAGE, -ENOMEM, false },
		{ f, SIZE, SIZE, 0, false },
		{ f, 0, SIZE, 0, true },
		{ f, 8 * PAGE, SIZE, 0, true },
	};

	if (!begin("longterm=allow"))
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(row); i++) {
		struct limited l = row[i];
		int rc;

		if (l.exempt && geteuid() != 0)
			continue;
		rc = pt_wait(pt_fork(under_limit, &l), SOON_MS);
		if (rc != 0)
			pt_say("limit %lld, %llu bytes: %s", (long long)l.memlock, (unsigned long long)l.ask,
			       strerror(rc));
		PT_EQ(rc, 0);
	}
	nothing_left();
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "refused", refused, 0 },
		{ "without a lease", without_lease, 0 },
		{ "allowed", allowed, 0 },
		{ "behind a truncate", behind_truncate, 0 },
		{ "whose policy", levels, 0 },
		{ "profiles", profiles, 0 },
		{ "limit of the mount", mount_limit, 0 },
		{ "RLIMIT_MEMLOCK", rlimit, 0 },
	};
	static const struct pt_suite suites[] = { { "longterm", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
