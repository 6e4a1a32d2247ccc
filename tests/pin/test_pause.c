/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pause.c - the races of "unmap, look for pins, wait, free", each made by hand at a pause point.
 *
 * A race is a play that ends in one of two ways: as it should, or with the damage for which it is known - bytes of a
 * device or of a program in a file that took all freed blocks, or a wait that nobody ends. Each is played twice: by the
 * daemon as it is, and by one that does without the rule of order which prevents it (base/pause.h), where it must end
 * badly. Then: clients, callers and the daemon that end at each of the points.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/child.h"
#include "pin/look.h"
#include "pin/stand.h"
#include "pin/victim.h"

#define K UINT64_C(1024)
#define PAGE (4 * K)
#define F_LEN (64 * K)
#define SOON_MS 60000

static struct pt_fs *fs;
static char f[512], v[512];
static uint64_t taken;			/* length of the victim */
static bool broken;			/* the daemon does without a rule */

/* A mount with pause points and a file of 16 pages: 'o', but page 8 is a hole. */
static bool begin(const char *more)
{
	char opts[128];
	struct actor *a;

	if (!pt_need_mount())
		return false;
	if (geteuid() != 0) {
		pt_skip("pause points are for root");
		return false;
	}
	(void)snprintf(opts, sizeof opts, "pause_points%s%s", more != NULL ? "," : "", more != NULL ? more : "");
	fs = pt_fs_start("16M", opts);
	(void)snprintf(f, sizeof f, "%s", pt_path(fs, "f"));
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	a = actor_new();
	PT_EQ(actor_do(a, act_write(f, 0, 8 * PAGE, 'o')), (long)(8 * PAGE));
	PT_EQ(actor_do(a, act_write(f, 9 * PAGE, 7 * PAGE, 'o')), (long)(7 * PAGE));
	actor_end(a);
	return true;
}

/* Maps the file, and has its first page in the page table. */
static struct actor *mapper(void)
{
	struct actor *a = actor_new();

	PT_EQ(actor_map_file(a, 0, f, F_LEN), 0);
	PT_EQ(actor_do(a, act_load(0, 0)), 'o');
	return a;
}

static struct actor *holder(uint64_t off)
{
	struct actor *a = mapper();

	PT_EQ(actor_do(a, act_pin(0, 0, off, PAGE, PINFS_PIN_WRITE)), 0);
	return a;
}

/* A truncate to 0 on its way to @point. */
static struct actor *cutter(const char *point)
{
	struct actor *c = actor_new();

	if (point != NULL)
		stand_arm(fs, point);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT_FATAL(point != NULL ? stand_until(fs, point) : look_until(fs, 1, 1, NULL));
	return c;
}

/* Has the truncate ended (its result), or does it wait for pins (-EINPROGRESS)? */
static long settle(struct actor *c)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	struct look l;
	long rc;

	do {
		rc = actor_result(c, 5);
		if (rc == -EINPROGRESS && look(fs, &l) && l.nwait_pins == 1 && stand_count(fs, NULL) == 0)
			break;
	} while (rc == -EINPROGRESS && pt_now_ms() < end);
	return rc;
}

/* The plays. True: it ended badly. */

/* A pin that is taken while the truncate is about to unmap. */
static bool pin_before_unmap(void)
{
	struct actor *h = mapper(), *c = cutter("unmap");
	bool bad;
	long rc;

	PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);	/* nothing is frozen yet */
	stand_go(fs, "unmap");
	rc = settle(c);
	taken = victim_make(v);
	PT_EQ(actor_do(h, act_dma(0, 7)), (long)PAGE);
	bad = !victim_intact(v, taken);
	CU_ASSERT(bad == (rc == 0));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	if (rc == -EINPROGRESS)
		PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	actor_end(c);
	return bad;
}

/* Between unmapping and looking, a program touches the file again: what did it get? */
static bool fault_between(void)
{
	struct actor *h = mapper(), *c = cutter("scan");
	bool bad;
	long rc;

	actor_send(h, act_store(0, 0, PAGE, 's'));
	rc = actor_result(h, broken ? SOON_MS : 300);
	stand_go(fs, "scan");
	PT_EQ(actor_result(c, SOON_MS), 0);
	taken = victim_make(v);
	if (rc == -EINPROGRESS)
		PT_EQ(actor_result(h, SOON_MS), -EFAULT);
	(void)actor_do(h, act_store(0, 0, PAGE, 'S'));
	bad = !victim_intact(v, taken);
	actor_end(h);
	actor_end(c);
	return bad;
}

/* No pin was found; now one comes. */
static bool pin_before_free(void)
{
	struct actor *h = mapper(), *c = cutter("free");
	bool bad = false;
	long rc;

	actor_send(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE));
	rc = actor_result(h, broken ? SOON_MS : 300);
	stand_go(fs, "free");
	PT_EQ(actor_result(c, SOON_MS), 0);
	taken = victim_make(v);
	if (rc == 0) {
		PT_EQ(actor_do(h, act_dma(0, 7)), (long)PAGE);
		bad = !victim_intact(v, taken);
		PT_EQ(actor_do(h, act_unpin(0)), 0);
	} else {
		PT_EQ(rc, -EINPROGRESS);
		PT_EQ(actor_result(h, SOON_MS), -EFAULT);
	}
	actor_end(h);
	actor_end(c);
	return bad;
}

/* The last pin ends when it has been seen, but nobody sleeps yet: who wakes the sleeper? */
static bool unpin_before_sleep(void)
{
	struct actor *h = holder(0), *c = cutter("sleep");
	struct look l;
	long rc;

	stand_arm(fs, "kick");
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	if (!broken)			/* the slot is frozen, so there is one; it is heard before anybody sleeps */
		CU_ASSERT(stand_until(fs, "kick"));
	stand_go(fs, "kick");
	stand_go(fs, "sleep");
	rc = settle(c);
	if (rc == -EINPROGRESS) {
		CU_ASSERT(look_until(fs, 1, 1, &l));
		PT_EQ(l.npin, 0);
		PT_EQ(l.wait[0].nholder, 0);
		PT_EQ(actor_result(c, 1000), -EINPROGRESS);	/* for nobody */
		PT_SYS(kill(actor_pid(c), SIGUSR1));
		PT_EQ(actor_result(c, SOON_MS), -EINTR);
	} else {
		PT_EQ(rc, 0);
	}
	actor_end(h);
	actor_end(c);
	return rc != 0;
}

/* While the truncate sleeps, the file grows by a block in its hole, and the page beside the pin is mapped again. */
static bool grown_meanwhile(uint64_t page)
{
	struct actor *h = holder(3 * PAGE), *other = mapper(), *c = cutter(NULL);
	bool bad;

	PT_EQ(actor_do(other, act_store(0, page, PAGE, 's')), 0);
	stand_arm(fs, "wake");
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	CU_ASSERT(stand_until(fs, "wake"));
	stand_go(fs, "wake");
	PT_EQ(actor_result(c, SOON_MS), 0);
	taken = victim_make(v);
	bad = actor_do(other, act_store(0, page, PAGE, 'S')) == 0;
	CU_ASSERT(bad != victim_intact(v, taken));
	actor_end(h);
	actor_end(other);
	actor_end(c);
	return bad;
}

static bool hole_filled_meanwhile(void) { return grown_meanwhile(8 * PAGE); }
static bool mapped_meanwhile(void) { return grown_meanwhile(0); }

/* fair=no. The last pin ends and wakes the truncate while another pin is on its way in: it is there first. */
static bool pin_before_the_next_look(void)
{
	struct actor *h = holder(0), *other = mapper(), *c = cutter(NULL);
	bool bad;
	long rc;

	PT_EQ(actor_do(other, act_load(0, PAGE)), 'o');
	stand_arm(fs, "grant");
	actor_send(other, act_pin(0, 0, PAGE, PAGE, PINFS_PIN_WRITE));
	CU_ASSERT_FATAL(stand_until(fs, "grant"));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	CU_ASSERT_FATAL(look_until(fs, 1, 0, NULL));	/* it is awake, and cannot close the gate */
	stand_go(fs, "grant");
	PT_EQ(actor_result(other, SOON_MS), 0);
	rc = settle(c);
	taken = victim_make(v);
	PT_EQ(actor_do(other, act_dma(0, 7)), (long)PAGE);
	bad = !victim_intact(v, taken);
	CU_ASSERT(bad == (rc == 0));
	PT_EQ(actor_do(other, act_unpin(0)), 0);
	if (rc == -EINPROGRESS)
		PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	actor_end(other);
	actor_end(c);
	return bad;
}

/* A pin has filled the holes of its pages when it turns out to be one too many. Then somebody writes there. */
static bool filled_for_nobody(void)
{
	struct actor *a = actor_new(), *w = actor_new();
	bool bad = false;
	long got;

	PT_EQ(actor_do(w, act_truncate(f, 0)), 0);
	PT_EQ(actor_do(w, act_truncate(f, F_LEN)), 0);
	PT_EQ(actor_map_file(a, 0, f, F_LEN), 0);
	for (uint64_t at = 0; at < F_LEN; at += PAGE)
		PT_EQ(actor_do(a, act_load(0, at)), 0);
	PT_EQ(actor_do(a, act_pin(0, 0, 0, F_LEN, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM)), -ENOMEM);
	PT_EQ(actor_do(w, act_write(f, 0, F_LEN, 'w')), (long)F_LEN);
	for (uint64_t at = 0; at < F_LEN; at += PAGE) {
		got = actor_do(a, act_load(0, at));
		CU_ASSERT(got == 'w' || (broken && got == 0));
		bad = bad || got != 'w';
	}
	actor_end(a);
	actor_end(w);
	return bad;
}

static void play(bool (*fn)(void), const char *opts, const char *order)
{
	if (!begin(opts))
		return;
	CU_ASSERT_FALSE(fn());
	pt_fs_end(fs);
	pt_fs_daemon("tests/pin/pinfs.order");
	(void)setenv("PINFS_ORDER_OUT", order, 1);
	broken = true;
	if (begin(opts))
		CU_ASSERT_TRUE(fn());
	broken = false;
	(void)unsetenv("PINFS_ORDER_OUT");
	pt_fs_daemon(NULL);
	pt_fs_end(fs);
}

static void order_unmap(void) { play(pin_before_unmap, NULL, "UNMAP_FIRST"); }
static void order_fault(void) { play(fault_between, NULL, "GATE"); }
static void order_pin(void) { play(pin_before_free, NULL, "GATE"); }
static void order_sleep(void) { play(unpin_before_sleep, NULL, "ARM_FIRST"); }
static void order_grow(void) { play(hole_filled_meanwhile, NULL, "UNMAP_AGAIN"); }
static void order_mapped(void) { play(mapped_meanwhile, NULL, "UNMAP_AGAIN"); }
static void order_asker(void) { play(filled_for_nobody, "longterm=allow,longterm_limit=8K", "TELL_ASKER"); }
static void order_look(void) { play(pin_before_the_next_look, "fair=no", "SCAN_AGAIN"); }

/* A pin that was there from the start ends at each point where somebody has seen it, or will: never lost. */
static void unpin_anywhere(void)
{
	static const char *const point[] = { "unmap", "scan", "sleep", "ack", "kick" };
	struct actor *h, *c;

	if (!begin(NULL))
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(point); i++) {
		const bool kick = i == 4;

		PT_SYS(truncate(f, F_LEN));
		h = actor_new();
		PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
		PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
		if (kick)
			stand_arm(fs, "kick");
		c = cutter(kick ? NULL : point[i]);
		PT_EQ(actor_do(h, act_unpin(0)), 0);
		if (kick)
			CU_ASSERT(stand_until(fs, "kick"));
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		stand_go(fs, NULL);
		PT_EQ(actor_result(c, SOON_MS), 0);
		actor_end(h);
		actor_end(c);
	}
	pt_fs_end(fs);
}

/* Who holds a pin, or has to unmap, is killed: what it had comes back, all of it, and the truncate goes on. */
static void client_killed(void)
{
	static const char *const point[] = { "unmap", "scan", "sleep", "wake", "free", "open", "ack", "kick", "grant" };
	int64_t free_blocks;
	struct actor *h, *c;

	if (!begin(NULL))
		return;
	PT_SYS(truncate(f, 0));
	free_blocks = look_status(fs, "space.free");
	for (size_t i = 0; i < PF_ARRAY_LEN(point); i++) {
		const bool pinned = i < 4 || i == 7;	/* at the others nobody is */

		PT_SYS(truncate(f, F_LEN));
		h = actor_new();
		PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
		PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 'o')), 0);
		if (pinned)
			PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
		if (i == 3 || i == 7) {
			c = cutter(NULL);
			stand_arm(fs, point[i]);
			PT_EQ(actor_do(h, act_unpin(0)), 0);
			CU_ASSERT(stand_until(fs, point[i]));
		} else if (i == 8) {
			c = actor_new();
			stand_arm(fs, "grant");
			actor_send(h, act_pin(1, 0, 0, PAGE, PINFS_PIN_WRITE));
			/* The fast path asks nobody; a fresh window does. */
			PT_EQ(actor_result(h, SOON_MS), 0);
			PT_EQ(actor_do(h, act_unpin(1)), 0);
			PT_EQ(actor_do(h, act_unmap(0)), 0);
			actor_send(h, act_open(1, f, O_RDWR));
			PT_EQ(actor_result(h, SOON_MS), 0);
			PT_EQ(actor_do(h, act_map(1, 1, 0, F_LEN, PROT_READ | PROT_WRITE)), 0);
			actor_send(h, act_load(1, 0));
			CU_ASSERT(stand_until(fs, "grant"));
			actor_send(c, act_truncate(f, 0));
			CU_ASSERT(look_until(fs, 1, 0, NULL));	/* at the gate */
		} else {
			c = cutter(point[i]);
		}
		actor_kill(h);
		stand_go(fs, NULL);
		PT_EQ(actor_result(c, SOON_MS), 0);
		actor_end(c);
		CU_ASSERT(look_parked_until(fs, 0));
		/* Blocks that were reserved for its next faults are given back when its session ends. */
		CU_ASSERT(look_status_until(fs, "space.free", free_blocks));
	}
	pt_fs_end(fs);
}

/* Who asked is killed: before anything is freed nothing is; then everything. */
static void caller_killed(void)
{
	static const struct { const char *point; bool done; } at[] = {
		{ "unmap", false }, { "ack", false }, { "scan", false }, { "sleep", false }, { "wake", false },
		{ "free", true }, { "open", true },
	};
	struct actor *h, *c;
	struct stat st;

	if (!begin(NULL))
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(at); i++) {
		const bool pinned = strcmp(at[i].point, "sleep") == 0 || strcmp(at[i].point, "wake") == 0;

		PT_SYS(truncate(f, F_LEN));
		h = actor_new();
		PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
		PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 'k')), 0);
		if (pinned)
			PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
		if (strcmp(at[i].point, "wake") == 0) {
			c = cutter(NULL);
			stand_arm(fs, "wake");
			PT_EQ(actor_do(h, act_unpin(0)), 0);
			CU_ASSERT(stand_until(fs, "wake"));
		} else {
			c = cutter(at[i].point);
		}
		if (at[i].done) {
			PT_SYS(kill(actor_pid(c), SIGKILL));
			stand_go(fs, NULL);
			actor_kill(c);
		} else {
			actor_kill(c);		/* it comes back at once, though the point is armed */
			stand_go(fs, NULL);
		}
		PT_SYS(stat(f, &st));
		PT_EQ(st.st_size, at[i].done ? 0 : (off_t)F_LEN);
		PT_EQ(actor_do(h, act_load(0, 0)), at[i].done ? -EFAULT : 'k');
		PT_EQ(look_status(fs, "waiters"), 0);
		PT_EQ(stand_count(fs, NULL), 0);
		actor_kill(h);
	}
	pt_fs_end(fs);
}

/* kill -9 of the daemon: the file is as before, or cut. */
static void daemon_killed(void)
{
	static const char *const point[] = { "unmap", "ack", "scan", "sleep", "wake", "free", "open" };
	struct actor *h, *c;
	struct stat st;

	if (!begin(NULL))
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(point); i++) {
		char byte = 0;
		int fd;

		PT_SYS(truncate(f, F_LEN));
		h = actor_new();
		PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
		PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 'd')), 0);
		fd = open(f, O_RDONLY | O_CLOEXEC);
		PT_SYS(fsync(fd));
		PT_SYS(close(fd));
		if (i == 3 || i == 4)
			PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
		if (i == 4) {
			c = cutter(NULL);
			stand_arm(fs, "wake");
			PT_EQ(actor_do(h, act_unpin(0)), 0);
			CU_ASSERT(stand_until(fs, "wake"));
		} else {
			c = cutter(point[i]);
		}
		pt_fs_crash(fs);
		CU_ASSERT(actor_result(c, SOON_MS) < 0);
		actor_kill(h);		/* it has the device */
		actor_kill(c);
		pt_fs_let_go(fs);
		PT_EQ(pt_fs_mount(fs, "pause_points"), 0);
		PT_SYS(stat(f, &st));
		PT_EQ(st.st_size, i == 6 ? 0 : (off_t)F_LEN);
		if (i != 6) {
			fd = open(f, O_RDONLY | O_CLOEXEC);
			PT_EQ(pread(fd, &byte, 1, F_LEN - 1), 1);
			PT_EQ(byte, 'd');
			PT_SYS(close(fd));
		}
		PT_EQ(pt_fs_umount(fs), 0);
		PT_EQ(pt_fs_fsck(fs), 0);
		PT_EQ(pt_fs_mount(fs, "pause_points"), 0);
	}
	pt_fs_end(fs);
}

/* An acknowledgement that is not counted in time: the client is in quarantine, until it is. */
static void late_ack(void)
{
	struct actor *h, *c;

	if (!begin("revoke_timeout=200ms"))
		return;
	h = mapper();
	PT_EQ(actor_do(h, act_store(0, 0, PAGE, 's')), 0);
	c = cutter("ack");
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(look_session_until(fs, actor_pid(h), "quarantined"));
	CU_ASSERT(look_parked_until(fs, 15));
	stand_go(fs, "ack");
	CU_ASSERT(look_parked_until(fs, 0));
	CU_ASSERT(look_session_until(fs, actor_pid(h), "live"));
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* A deadline passes while the truncate stands; so does the end of the mount. */
static void deadlines(void)
{
	static const char *const point[] = { "unmap", "scan", "sleep" };
	const uint64_t end = pt_now_ms() + SOON_MS;
	struct actor *h, *c;
	bool stood;
	long rc;

	if (!begin("busy_timeout=500ms"))
		return;
	h = holder(0);
	c = actor_new();
	for (size_t i = 0; i < PF_ARRAY_LEN(point); i++) {
		do {
			stand_arm(fs, point[i]);
			PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
			PT_EQ(stand_count(fs, NULL), 0);
			stood = stand_passed(fs, point[i]);
			stand_go(fs, NULL);
		} while (!stood && pt_now_ms() < end);	/* on a busy machine the holder has not unmapped by then */
		CU_ASSERT(stood);
	}
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	actor_end(h);
	/* Where blocks are about to be freed it is too late: it has begun. */
	do {
		stand_arm(fs, "free");
		actor_send(c, act_truncate(f, 0));
		while ((rc = actor_result(c, 5)) == -EINPROGRESS && stand_count(fs, "free") == 0)
			;
	} while (rc == -EBUSY);		/* on a busy machine even before */
	PT_EQ(actor_result(c, 1000), -EINPROGRESS);
	stand_go(fs, "free");
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(c);
	pt_fs_end(fs);
}

static void end_of_mount(void)
{
	struct actor *h, *c;

	if (!begin(NULL))
		return;
	h = mapper();
	c = cutter("scan");
	PT_SYS(kill(fs->pid, SIGTERM));
	(void)actor_result(c, SOON_MS);
	CU_ASSERT(pt_fs_wait(fs, SOON_MS) >= 0);
	actor_kill(h);
	actor_kill(c);
	if (pt_is_mounted(fs->mnt))
		PT_SYS(pt_umount2(fs->mnt, MNT_DETACH));
	pt_fs_let_go(fs);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	pt_fs_end(fs);
}

/* Who may, what there is, one inode, so many. */
static int ctl(const char *a, const char *b, const char *c, const char *d, const char *e)
{
	char out[1024];

	return pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("pinfsctl"), a, b, c, d, e, NULL });
}

static int as_nobody(void *arg)
{
	NEED(child_be_nobody() == 0);
	NEED(ctl("pause", arg, "scan", NULL, NULL) == 1);
	NEED(ctl("resume", arg, NULL, NULL, NULL) == 1);
	return 0;
}

static void orders(void)
{
	struct actor *c, *d, *h;
	char ino[32];
	struct stat st;

	if (!begin("allow_other"))
		return;
	child_play(as_nobody, fs->mnt);
	PT_EQ(ctl("pause", fs->mnt, "nowhere", NULL, NULL), 1);
	PT_EQ(ctl("pause", fs->mnt, "scan", "--count", "x"), 2);
	PT_EQ(ctl("resume", fs->mnt, "scan", "free", NULL), 2);
	PT_SYS(stat(f, &st));
	/* another inode: nobody stands */
	(void)snprintf(ino, sizeof ino, "%llu", (unsigned long long)st.st_ino + 1);
	PT_EQ(ctl("pause", fs->mnt, "open", "--ino", ino), 0);
	PT_SYS(truncate(f, 0));
	/* this one, once */
	(void)snprintf(ino, sizeof ino, "--ino=%llu", (unsigned long long)st.st_ino);
	PT_EQ(ctl("pause", fs->mnt, "open", ino, "--count=1"), 0);
	c = actor_new();
	actor_send(c, act_truncate(f, F_LEN));
	CU_ASSERT(stand_until(fs, "open"));
	PT_EQ(ctl("resume", fs->mnt, "scan", NULL, NULL), 0);
	PT_EQ(stand_count(fs, "open"), 1);
	PT_EQ(ctl("resume", fs->mnt, "--ino=99999", NULL, NULL), 0);
	PT_EQ(stand_count(fs, "open"), 1);
	stand_go(fs, "open");
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* Several stand at once. */
	stand_arm(fs, "free");
	d = actor_new();
	h = actor_new();
	PT_EQ(actor_do(d, act_write(pt_path(fs, "g"), 0, PAGE, 'g')), (long)PAGE);
	actor_send(c, act_truncate(f, 0));
	actor_send(d, act_truncate(pt_path(fs, "g"), 0));
	PT_EQ(actor_do(h, act_write(pt_path(fs, "h"), 0, PAGE, 'h')), (long)PAGE);	/* a third file goes on */
	do {
		CU_ASSERT_FATAL(stand_until(fs, "free"));
	} while (stand_count(fs, "free") != 2);
	stand_go(fs, NULL);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_result(d, SOON_MS), 0);
	actor_end(c);
	actor_end(d);
	actor_end(h);
	pt_fs_end(fs);
	/* Without the option there are none. */
	fs = pt_fs_start("16M", NULL);
	PT_EQ(ctl("pause", fs->mnt, "scan", NULL, NULL), 1);
	PT_EQ(ctl("resume", fs->mnt, NULL, NULL, NULL), 1);
	PT_EQ(ctl("pause", fs->mnt, NULL, NULL, NULL), 0);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "pin before unmap", order_unmap, 0 },
		{ "fault between unmap and scan", order_fault, 0 },
		{ "pin between scan and free", order_pin, 0 },
		{ "unpin between scan and sleep", order_sleep, 0 },
		{ "hole filled meanwhile", order_grow, 0 },
		{ "mapped meanwhile", order_mapped, 0 },
		{ "filled for nobody", order_asker, 0 },
		{ "pin before the next look", order_look, 0 },
		{ "unpin anywhere", unpin_anywhere, 0 },
		{ "client killed anywhere", client_killed, 0 },
		{ "caller killed anywhere", caller_killed, 0 },
		{ "daemon killed anywhere", daemon_killed, 0 },
		{ "late acknowledgement", late_ack, 0 },
		{ "deadlines", deadlines, 0 },
		{ "end of the mount", end_of_mount, 0 },
		{ "orders", orders, 0 },
	};
	static const struct pt_suite suites[] = { { "pause", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
