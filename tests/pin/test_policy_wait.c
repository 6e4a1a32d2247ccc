/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy_wait.c - waiting itself: who waits for whom, in which order, what ends a wait, and what goes on
 * meanwhile.
 *
 * All under on_busy=wait unless a case says otherwise. What is asserted about "waits" is what the daemon reports,
 * never that some time has passed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/stage.h"
#include "pin/victim.h"

#define K UINT64_C(1024)

static struct pt_fs *fs;
static char f[STAGE_PATH];

/* A mount with a file of 16 pages 'o'. */
static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	return true;
}

static void two_pinners(void)
{
	struct actor *h1, *h2, *c;
	struct look l;
	uint64_t end;

	if (!begin(NULL))
		return;
	h1 = stage_holder(f, 0, 4096);
	h2 = stage_holder(f, 60 * K, 4096);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, &l));
	PT_EQ(l.wait[0].nholder, 2);
	PT_EQ(actor_do(h1, act_unpin(0)), 0);
	end = pt_now_ms() + SOON_MS;
	do {
		CU_ASSERT_FATAL(look_until(fs, 1, 1, &l));
	} while (l.wait[0].nholder != 1 && pt_now_ms() < end);
	PT_EQ(l.wait[0].nholder, 1);
	PT_EQ(l.wait[0].holder, actor_pid(h2));
	CU_ASSERT(stage_untouched(f));
	PT_EQ(actor_do(h2, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(stage_size(f), 0);
	/* Since Linux 5.16 the last unpin, at least, was heard of without a message. */
	if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC) != 0 && errno == EINVAL)
		CU_ASSERT(look_status(fs, "counters.kicks_futex") >= 1);
	actor_end(h1);
	actor_end(h2);
	actor_end(c);
	pt_fs_end(fs);
}

/* The same page pinned twice by one process, and by two: each pin counts. */
static void pins_add_up(void)
{
	struct actor *h1, *h2, *c;

	if (!begin(NULL))
		return;
	h1 = stage_holder(f, 0, 4096);
	PT_EQ(actor_do(h1, act_pin(1, 0, 0, 4096, 0)), 0);
	h2 = stage_holder(f, 0, 4096);
	c = stage_sender(act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h1, act_unpin(0)), 0);
	PT_EQ(actor_do(h2, act_unpin(0)), 0);
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(actor_do(h1, act_unpin(1)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h1);
	actor_end(h2);
	actor_end(c);
	pt_fs_end(fs);
}

/* The kernel lets one SETATTR of a file through at a time; an O_TRUNC open comes past it and must queue in the
 * daemon. */
static void fifo(struct act first, struct act second, uint64_t want_size)
{
	struct actor *h, *c1, *c2;
	struct look l;

	h = stage_holder(f, 0, 4096);
	c1 = stage_sender(first);
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	c2 = stage_sender(second);
	CU_ASSERT(look_until(fs, 2, 1, &l));
	for (size_t i = 0; i < 2; i++)
		CU_ASSERT_STRING_EQUAL(l.wait[i].state, l.wait[i].pid == actor_pid(c1) ? "pins" : "queued");
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c1, SOON_MS), 0);
	PT_EQ(actor_result(c2, SOON_MS), 0);
	PT_EQ(stage_size(f), want_size);
	actor_end(h);
	actor_end(c1);
	actor_end(c2);
}

static void two_waiters(void)
{
	if (!begin("on_busy=wait,break=file"))
		return;
	fifo(act_truncate(f, 8 * K), act_open_trunc(f), 0);
	PT_EQ(truncate(f, F_LEN), 0);
	fifo(act_open_trunc(f), act_truncate(f, 8 * K), 8 * K);
	pt_fs_end(fs);
}

/* The first waiter gives up: the second must not stay behind it. */
static void first_waiter_leaves(void)
{
	struct actor *h, *c1, *c2;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 0, 4096);
	c1 = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	c2 = stage_sender(act_open_trunc(f));
	CU_ASSERT(look_until(fs, 2, 1, NULL));
	PT_EQ(kill(actor_pid(c1), SIGUSR1), 0);
	PT_EQ(actor_result(c1, SOON_MS), -EINTR);
	CU_ASSERT(look_until(fs, 1, 1, NULL));		/* moved up: it now waits for the pin */
	CU_ASSERT(stage_untouched(f));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c2, SOON_MS), 0);
	PT_EQ(stage_size(f), 0);
	actor_end(h);
	actor_end(c1);
	actor_end(c2);
	pt_fs_end(fs);
}

/* A signal ends the wait, the file is as it was, and the next try starts from the beginning. */
static void interrupted(struct act what)
{
	struct actor *h = stage_holder(f, 0, 4096), *c = stage_sender(what);

	CU_ASSERT(look_until(fs, 1, 1, NULL));
	/* Before the pin ends, in both cases. */
	PT_EQ(kill(actor_pid(c), SIGUSR1), 0);
	PT_EQ(actor_result(c, SOON_MS), -EINTR);
	CU_ASSERT(look_until(fs, 0, 0, NULL));
	CU_ASSERT(stage_untouched(f));
	actor_send(c, what);
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	/* And SIGKILL, which FUSE daemons that ignore interrupts make wait. */
	actor_kill(c);
	CU_ASSERT(look_until(fs, 0, 0, NULL));
	CU_ASSERT(stage_untouched(f));
	actor_end(h);
}

static void signals(void)
{
	if (!begin(NULL))
		return;
	interrupted(act_truncate(f, 0));
	interrupted(act_open_trunc(f));
	interrupted(act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	interrupted(act_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
	pt_fs_end(fs);
}

static void holder_killed(void)
{
	struct actor *h, *c;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 0, F_LEN);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	actor_kill(h);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(stage_size(f), 0);
	/* A holder that exits in order, without unpinning. */
	PT_EQ(truncate(f, F_LEN), 0);
	h = stage_holder(f, 0, F_LEN);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	actor_end(h);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(c);
	pt_fs_end(fs);
}

/* What real Linux forgets: a pin without a mapping. */
static void pin_without_mapping(void)
{
	struct actor *h, *c;
	char victim[512];
	uint64_t len;

	if (!begin(NULL))
		return;
	(void)snprintf(victim, sizeof victim, "%s", pt_path(fs, "victim"));
	h = stage_holder(f, 0, F_LEN);
	PT_EQ(actor_do(h, act_unmap(0)), 0);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	len = victim_make(victim);
	PT_EQ(actor_do(h, act_dma(0, 1)), (long)F_LEN);
	CU_ASSERT(victim_intact(victim, len));
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* Unlink, with the mapping and the descriptor gone: returns at once; the blocks are nobody's until the pin ends. */
static void unlinked(bool pinned)
{
	struct actor *h, *c;
	char victim[512];
	uint64_t len, free0;

	if (!begin(NULL))
		return;
	free0 = (uint64_t)look_status(fs, "space.free");
	(void)snprintf(victim, sizeof victim, "%s", pt_path(fs, "victim"));
	h = stage_holder(f, 0, F_LEN);
	PT_EQ(actor_do(h, act_unmap(0)), 0);
	if (!pinned)
		PT_EQ(actor_do(h, act_forget(0)), 0);
	c = actor_new();
	PT_EQ(actor_do(c, act_unlink(f)), 0);
	if (!pinned)		/* the kernel lets go of the inode in its own time */
		for (int i = 0; i < 6000 && (uint64_t)look_status(fs, "space.free") <= free0; i++)
			pt_sleep_ms(10);
	len = victim_make(victim);
	CU_ASSERT(victim_intact(victim, len));
	PT_EQ(actor_do(h, act_dma(0, 1)), (long)F_LEN);
	CU_ASSERT(victim_intact(victim, len) == pinned);
	actor_end(h);
	actor_end(c);
	PT_EQ(unlink(victim), 0);
	for (int i = 0; i < 6000 && (uint64_t)look_status(fs, "space.free") <= free0; i++)
		pt_sleep_ms(10);
	CU_ASSERT((uint64_t)look_status(fs, "space.free") > free0);	/* all of it came back */
	CU_ASSERT(look_parked_until(fs, 0));
	pt_fs_end(fs);
}

static void unlinked_pinned(void) { unlinked(true); }
static void unlinked_raw(void) { unlinked(false); }

/* "Fair": a truncate that waits is not kept waiting by new pins; but whoever it waits for must not be stopped. */
static void new_pins(void)
{
	struct actor *h, *other, *c;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 32 * K, 4096);
	other = actor_new();
	PT_EQ(actor_map_file(other, 0, f, F_LEN), 0);
	c = stage_sender(act_truncate(f, 16 * K));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(other, act_pin(0, 0, 32 * K, 4096, PINFS_PIN_NOWAIT)), -EAGAIN);
	PT_EQ(actor_do(other, act_pin(1, 0, 0, 4096, PINFS_PIN_NOWAIT | PINFS_PIN_WRITE)), 0);	/* not cut */
	PT_EQ(actor_do(h, act_pin(1, 0, 36 * K, 4096, PINFS_PIN_WRITE)), 0);	/* the holder may go on */
	actor_send(other, act_pin(0, 0, 32 * K, 4096, 0));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	CU_ASSERT(look_until(fs, 1, 1, NULL));		/* for the holder's second pin */
	PT_EQ(actor_result(other, 0), -EINPROGRESS);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(1)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_result(other, SOON_MS), -EFAULT);	/* its pages are no longer the file's */
	PT_EQ(stage_size(f), 16 * K);
	actor_end(h);
	actor_end(other);
	actor_end(c);
	pt_fs_end(fs);
}

/* The truncate gives up: the pin that waited for it is granted. A pin that waits ends with EINTR by a signal. */
static void new_pin_after_all(void)
{
	struct actor *h, *other, *c;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 0, 4096);
	other = actor_new();
	PT_EQ(actor_map_file(other, 0, f, F_LEN), 0);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	actor_send(other, act_pin(0, 0, 0, 4096, 0));
	PT_EQ(actor_result(other, 100), -EINPROGRESS);
	PT_EQ(actor_interrupt(other), -EINTR);
	actor_send(other, act_pin(0, 0, 0, 4096, 0));
	PT_EQ(kill(actor_pid(c), SIGUSR1), 0);
	PT_EQ(actor_result(c, SOON_MS), -EINTR);
	PT_EQ(actor_result(other, SOON_MS), 0);
	actor_end(h);
	actor_end(other);
	actor_end(c);
	pt_fs_end(fs);
}

/* Loads and stores of the pages go on while a truncate waits, and see SIGBUS behind the end afterwards. */
static void access_while_waiting(void)
{
	struct actor *h, *c;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 0, 4096);
	c = stage_sender(act_truncate(f, 4096));
	PT_EQ(actor_result(c, SOON_MS), 0);		/* misses the pin */
	PT_EQ(actor_do(h, act_load(0, 8192)), -EFAULT);
	PT_EQ(truncate(f, F_LEN), 0);
	PT_EQ(actor_do(h, act_load(0, 8192)), 0);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h, act_store(0, 0, 100, 's')), 0);
	PT_EQ(actor_do(h, act_load(0, 99)), 's');
	PT_EQ(actor_do(h, act_store(0, 8192, 1, 't')), 0);	/* allocates, while the truncate waits */
	PT_EQ(actor_do(h, act_load(0, 8192)), 't');
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	PT_EQ(actor_do(h, act_store(0, 8192, 1, 't')), -EFAULT);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static void busy_timeout(void)
{
	struct actor *h, *c;
	char out[1024];
	uint64_t t0;

	if (!begin("on_busy=wait,busy_timeout=300ms"))
		return;
	h = stage_holder(f, 0, 4096);
	c = actor_new();
	t0 = pt_now_ms();
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
	CU_ASSERT(pt_now_ms() - t0 >= 300);
	CU_ASSERT(stage_untouched(f));
	PT_EQ(look_status(fs, "counters.timeouts"), 1);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	/* The holder has to unmap, for which it may take longer than that. */
	PT_EQ(pt_run(out, sizeof out, SOON_MS,
		     (const char *[]){ pt_program("pinfsctl"), "set", fs->mnt, "busy_timeout=600", NULL }), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* umount says EBUSY as long as there is a pin, mapping or not; with MNT_DETACH the waiters end with an error. */
static void umount_pinned(void)
{
	struct actor *h, *c;
	long rc;

	if (!begin(NULL))
		return;
	h = stage_holder(f, 0, 4096);
	PT_EQ(actor_do(h, act_unmap(0)), 0);
	PT_FAILS(pt_umount2(fs->mnt, 0), EBUSY);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_FAILS(pt_umount2(fs->mnt, 0), EBUSY);
	PT_SYS(pt_umount2(fs->mnt, MNT_DETACH));
	rc = actor_result(c, SOON_MS);
	pt_say("a lazy umount ended the waiting truncate with %s", rc < 0 ? strerrorname_np((int)-rc) : "success");
	CU_ASSERT(rc < 0 && rc != -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	actor_end(h);
	actor_end(c);
	PT_EQ(pt_fs_wait(fs, 60000), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	pt_fs_end(fs);
}

/* A device in a process of its own: killing who submitted the transfer ends neither it nor the wait. */
static void device_outlives_submitter(void)
{
	char sock[64], out[4096];
	const char *dmaemu;
	struct actor *c;
	pid_t device, submitter;
	struct look l;

	if (!begin(NULL))
		return;
	dmaemu = pt_program("dmaemu");
	(void)snprintf(sock, sizeof sock, "@pinfs-test-%d", (int)getpid());
	device = pt_spawn((const char *[]){ dmaemu, "serve", "--socket", sock, NULL }, -1, -1);
	for (int i = 0; i < 6000; i++) {
		if (pt_run(out, sizeof out, 60000, (const char *[]){ dmaemu, "list", "--socket", sock, NULL }) == 0)
			break;
		pt_sleep_ms(10);
	}
	submitter = pt_spawn((const char *[]){ dmaemu, "submit", "--socket", sock, "--delay", "1h", "--wait", f, NULL },
			     -1, -1);
	for (int i = 0; i < 6000; i++) {
		CU_ASSERT_FATAL(look(fs, &l));
		if (l.npin == 1)
			break;
		pt_sleep_ms(10);
	}
	PT_EQ(l.npin, 1);
	PT_EQ(l.pin[0].pid, device);
	CU_ASSERT_STRING_EQUAL(l.pin[0].label, "dma 1");
	pt_kill(submitter);
	c = stage_sender(act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, &l));
	PT_EQ(l.wait[0].holder, device);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ dmaemu, "cancel", "--socket", sock, "1", NULL }), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* And a transfer that ends by itself. */
	PT_EQ(truncate(f, F_LEN), 0);
	PT_EQ(pt_run(out, sizeof out, 60000,
		     (const char *[]){ dmaemu, "submit", "--socket", sock, "--delay", "200ms", f, NULL }),
	      0);
	actor_send(c, act_truncate(f, 4096));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ dmaemu, "wait", "--socket", sock, "2", NULL }), 0);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ dmaemu, "verify", "--id", "2", f, NULL }), 0);
	PT_EQ(kill(device, SIGTERM), 0);
	PT_EQ(pt_wait(device, SOON_MS), 0);
	actor_end(c);
	pt_fs_end(fs);
}

/* A stopped client cannot unmap: it delays a truncate by revoke_timeout, and its blocks stay nobody's until it does. */
static void stopped_client(void)
{
	struct actor *h, *c;
	char victim[512];
	uint64_t len;
	long rc;

	if (!begin("on_busy=wait,revoke_timeout=500ms"))
		return;
	(void)snprintf(victim, sizeof victim, "%s", pt_path(fs, "victim"));
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	actor_stop(h);
	actor_send(c, act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(look_status(fs, "space.parked"), F_LEN / 4096);
	PT_EQ(look_status(fs, "counters.quarantines"), 1);
	len = victim_make(victim);
	/* The first thing that it does when it goes on, perhaps before it knows: it has the blocks mapped still. */
	actor_send(h, act_store(0, 0, F_LEN, 'x'));
	PT_EQ(kill(actor_pid(h), SIGCONT), 0);
	rc = actor_result(h, SOON_MS);
	CU_ASSERT(rc == 0 || rc == -EFAULT);
	CU_ASSERT(victim_intact(victim, len));
	CU_ASSERT(look_parked_until(fs, 0));			/* it has unmapped them */
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

#define MANY 1000
#define ROUNDS 300U

/* All threads of the daemon together. */
static uint64_t daemon_cpu_ns(void)
{
	clockid_t clock;
	struct timespec ts;

	PT_EQ(clock_getcpuclockid(fs->pid, &clock), 0);
	PT_SYS(clock_gettime(clock, &ts));
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Rounds of work on files that nobody waits for; what one costs the daemon, in CPU time. */
static uint64_t use_others(void)
{
	static char buf[4096], path[STAGE_PATH];
	const uint64_t cpu = daemon_cpu_ns();
	struct stat st;
	int fd;

	for (unsigned int n = 0; n < ROUNDS; n++) {
		(void)snprintf(path, sizeof path, "%s", pt_path(fs, "other%u", n % 16));
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		CU_ASSERT_FATAL(fd >= 0);
		CU_ASSERT(pwrite(fd, buf, sizeof buf, 0) == sizeof buf);
		CU_ASSERT(pread(fd, buf, sizeof buf, 0) == sizeof buf);
		CU_ASSERT(ftruncate(fd, n % 4096) == 0);
		CU_ASSERT(fstat(fd, &st) == 0);
		(void)close(fd);
		CU_ASSERT(unlink(path) == 0);
	}
	return (daemon_cpu_ns() - cpu) / ROUNDS;
}

/*
 * A waiting truncate holds nothing that others need: with a thousand of them the rest of the filesystem goes on. What
 * that costs is said, no more: on a busy machine CPU time, too, is how much others have spoiled the caches. All run on
 * one CPU: whether daemon and caller happen to share one changes the rest by a factor of ten.
 */
static void thousand_waiters(void)
{
	struct actor *h, *c;
	unsigned int left = 0;
	uint64_t alone_ns, beside_ns;
	cpu_set_t before, one;
	char prefix[512];

	if (!pt_need_mount())
		return;
	PT_SYS_FATAL(sched_getaffinity(0, sizeof before, &before));
	CPU_ZERO(&one);
	CPU_SET((unsigned int)sched_getcpu(), &one);
	PT_SYS(sched_setaffinity(0, sizeof one, &one));		/* children inherit it */
	fs = pt_fs_start("64M", "on_busy=wait,window=4G");
	(void)snprintf(prefix, sizeof prefix, "%s", pt_path(fs, "many"));
	h = actor_new();
	c = actor_new();
	for (int i = 0; i < MANY; i++)
		CU_ASSERT(actor_do(c, act_write(pt_path(fs, "many%d", i), 0, 4096, 'm')) == 4096);
	PT_EQ(actor_do(h, act_many(ACT_MANY_PIN, prefix, MANY, 0)), 0);
	alone_ns = use_others();
	actor_send(c, act_many(ACT_MANY_TRUNCATE, prefix, MANY, 0));
	CU_ASSERT(look_until(fs, MANY, MANY, NULL));
	beside_ns = use_others();
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	pt_say("a round of create, write, read, truncate, unlink costs the daemon %.1f us alone, %.1f us beside %d "
	       "waiting truncates", (double)alone_ns / 1000, (double)beside_ns / 1000, MANY);
	PT_EQ(actor_do(h, act_many(ACT_MANY_UNPIN, "", 0, 0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	for (int i = 0; i < MANY; i++)
		left += stage_size(pt_path(fs, "many%d", i)) != 0;
	PT_EQ(left, 0);
	PT_SYS(sched_setaffinity(0, sizeof before, &before));
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "two-pinners", two_pinners, 0 },
		{ "pins-add-up", pins_add_up, 0 },
		{ "two-waiters", two_waiters, 0 },
		{ "first-waiter-leaves", first_waiter_leaves, 0 },
		{ "signals", signals, 0 },
		{ "holder-killed", holder_killed, 0 },
		{ "pin-without-mapping", pin_without_mapping, 0 },
		{ "unlinked-pinned", unlinked_pinned, 0 },
		{ "unlinked-raw", unlinked_raw, 0 },
		{ "new-pins", new_pins, 0 },
		{ "new-pin-after-all", new_pin_after_all, 0 },
		{ "access-while-waiting", access_while_waiting, 0 },
		{ "busy-timeout", busy_timeout, 0 },
		{ "umount-pinned", umount_pinned, 0 },
		{ "device-outlives-submitter", device_outlives_submitter, 0 },
		{ "stopped-client", stopped_client, 0 },
		{ "thousand-waiters", thousand_waiters, 0 },
	};
	static const struct pt_suite suite = { "wait", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
