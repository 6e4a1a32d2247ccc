/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_revoke.c - a lease that is not given back: the device's next access faults, windows are SIGBUS, the truncate
 * goes on, and nobody else's blocks are touched.
 *
 * Each play ends with a file that took all freed blocks. It is played once more by a daemon that does not wait for
 * bursts which are under way, or under on_busy=unsafe, where the device must be found in that file: else a clean file
 * would prove nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/lease.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/lessee.h"
#include "pin/look.h"
#include "pin/stage.h"
#include "pin/victim.h"

#define PAGE UINT64_C(4096)

static struct pt_fs *fs;
static char f[STAGE_PATH], v[STAGE_PATH];
static struct lessee *holder, *engine;

/* A holder with a lease on pages 4 to 7 and a pin of pages 5 and 6 that knows of no break, and an engine that works
 * for it in another process. @told: the holder was told the addresses when it pinned. */
static bool begin_as(const char *opts, bool told)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	lessee_wire();
	engine = lessee_new(f);
	holder = lessee_new(f);
	PT_EQ(LE_DO(holder, MAP, .a = O_RDWR, .b = F_LEN), 0);
	PT_EQ(LE_DO(holder, TAKE, .a = PINFS_LEASE_READ, .off = 4 * PAGE, .len = 4 * PAGE), 0);
	PT_EQ(LE_DO(holder, PIN, .a = PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, .b = told, .off = 5 * PAGE,
		    .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(holder, PUT), 0);
	PT_EQ(LE_DO(engine, GET), 0);
	return true;
}

static bool begin(const char *opts) { return begin_as(opts, false); }

static void end(void)
{
	lessee_end(holder);
	lessee_end(engine);
	CU_ASSERT(look_parked_until(fs, 0));
	pt_fs_end(fs);
}

/* The device is at work all the time. */
static void at_work(void)
{
	struct actor *c;
	uint64_t taken;

	if (!begin("longterm=lease,lease_time=50ms"))
		return;
	PT_EQ(LE_DO(engine, RUN), 0);
	CU_ASSERT(LE_DO(engine, RAN) > 0);
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(LE_DO(engine, FAULT), 1);
	PT_EQ(LE_DO(engine, ENTER), 0);
	taken = victim_make(v);
	CU_ASSERT(victim_intact(v, taken));
	PT_SYS(unlink(v));
	PT_EQ(LE_DO(holder, STATE), PINFS_LEASE_BROKEN);
	PT_EQ(LE_DO(holder, QUERY), -ESTALE);
	PT_EQ(look_status(fs, "counters.revokes"), 1);

	/* The window stays SIGBUS, though the file is there again; a new one shows it. */
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'n')), (long)F_LEN);
	PT_EQ(LE_DO(holder, TOUCH, .off = 5 * PAGE), SIGBUS);
	PT_EQ(LE_DO(holder, TOUCH, .off = 7 * PAGE, .a = 1), SIGBUS);
	PT_EQ(LE_DO(holder, TOUCH, .off = 3 * PAGE), 0);
	PT_EQ(LE_DO(holder, TOUCH, .off = 8 * PAGE), 0);
	PT_EQ(LE_DO(holder, TOUCH, .off = 5 * PAGE), SIGBUS);
	PT_EQ(LE_DO(holder, PIN, .n = 1, .off = 7 * PAGE, .len = PAGE), -ESTALE);
	PT_EQ(LE_DO(holder, PIN, .n = 1, .off = 8 * PAGE, .len = PAGE), 0);
	PT_EQ(LE_DO(holder, UNPIN, .n = 1), 0);
	PT_EQ(LE_DO(holder, PIN, .n = 1, .off = 7 * PAGE, .len = PAGE), -ESTALE);
	PT_EQ(LE_DO(holder, MOVE), 0);
	PT_EQ(LE_DO(holder, TOUCH, .off = 5 * PAGE), SIGBUS);
	PT_EQ(LE_DO(holder, TOUCH, .off = 3 * PAGE), 0);
	PT_EQ(LE_DO(holder, REMAP, .len = F_LEN), 0);
	PT_EQ(LE_DO(holder, TOUCH, .off = 5 * PAGE), 0);
	PT_EQ(LE_DO(holder, PIN, .n = 1, .off = 5 * PAGE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(engine, ENTER), 0);		/* what it was told is not good for the new pin */
	PT_EQ(LE_DO(holder, UNPIN, .n = 1), 0);
	PT_EQ(LE_DO(holder, UNPIN), 0);
	PT_EQ(LE_DO(holder, DROP), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	actor_end(c);
	end();
}

/* Punched, and filled by somebody else: the window does not show what is there now. */
static void punched(void)
{
	struct actor *c;

	if (!begin("longterm=lease,lease_time=50ms"))
		return;
	c = stage_sender(act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 6 * PAGE, 4 * PAGE));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(LE_DO(holder, TOUCH, .off = 6 * PAGE), SIGBUS);
	PT_EQ(LE_DO(holder, TOUCH, .off = 8 * PAGE), 0);	/* not of the lease */
	PT_EQ(LE_DO(holder, TOUCH, .off = 5 * PAGE), 0);	/* not of the hole */
	PT_EQ(LE_DO(engine, ENTER), 0);		/* for pages 5 and 6 */
	PT_EQ(LE_DO(holder, UNPIN), 0);
	PT_EQ(LE_DO(holder, DROP), 0);
	PT_EQ(stage_size(f), F_LEN);
	actor_end(c);
	end();
}

/* Nobody is asked: the device goes on, in whatever file has the blocks now. */
static void unsafe(void)
{
	struct actor *c;
	uint64_t taken;

	if (!begin("longterm=lease,lease_time=50ms,on_busy=unsafe"))
		return;
	PT_EQ(LE_DO(engine, RUN), 0);
	CU_ASSERT(LE_DO(engine, RAN) > 0);
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	taken = victim_make(v);
	PT_EQ(LE_DO(engine, ENTER), 1);
	PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
	PT_EQ(LE_DO(engine, EXIT), 0);
	CU_ASSERT(!victim_intact(v, taken));
	actor_end(c);
	lessee_kill(engine);
	lessee_end(holder);
	pt_fs_end(fs);
}

/* A burst that begins before the revoke, and whose bytes come after it. True: into somebody else's file. */
static bool under_way(void)
{
	const uint64_t late = pt_now_ms() + SOON_MS;
	struct actor *c;
	struct look l;
	uint64_t taken;
	bool bad;
	long rc;

	PT_EQ(LE_DO(engine, ENTER), 1);
	c = stage_sender(act_truncate(f, 0));
	do {
		rc = actor_result(c, 5);
	} while (rc == -EINPROGRESS && pt_now_ms() < late &&
		 !(look(fs, &l) && l.nwait == 1 && strcmp(l.wait[0].state, "bursts") == 0));
	if (rc == -EINPROGRESS) {
		PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		PT_EQ(LE_DO(engine, EXIT), 0);
		PT_EQ(actor_result(c, SOON_MS), 0);
		taken = victim_make(v);
	} else {
		PT_EQ(rc, 0);
		taken = victim_make(v);
		PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
		PT_EQ(LE_DO(engine, EXIT), 0);
	}
	PT_EQ(LE_DO(engine, ENTER), 0);
	bad = !victim_intact(v, taken);
	PT_EQ(LE_DO(holder, UNPIN), 0);
	actor_end(c);
	end();
	return bad;
}

#define SLOW "longterm=lease,lease_time=50ms,revoke_timeout=60"

static void burst(void)
{
	if (!begin(SLOW))
		return;
	CU_ASSERT_FALSE(under_way());
	pt_fs_daemon("tests/pin/pinfs.order");
	(void)setenv("PINFS_ORDER_OUT", "BURSTS", 1);
	if (begin(SLOW))
		CU_ASSERT_TRUE(under_way());
	(void)unsetenv("PINFS_ORDER_OUT");
	pt_fs_daemon(NULL);
}

/* One that does not end: nobody waits for it for long, and nobody gets its blocks. */
static void stuck(void)
{
	struct actor *c;
	uint64_t taken;

	if (!begin("longterm=lease,lease_time=50ms,revoke_timeout=200ms"))
		return;
	PT_EQ(LE_DO(engine, ENTER), 1);
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(look_status(fs, "space.parked") >= 2);
	taken = victim_make(v);
	PT_EQ(LE_DO(holder, UNPIN), 0);
	PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
	CU_ASSERT(victim_intact(v, taken));
	CU_ASSERT(look_status(fs, "space.parked") >= 2);
	PT_EQ(LE_DO(engine, EXIT), 0);
	actor_end(c);
	end();
}

/* A device that does not ask: one that was told the addresses, or the kernel. True: it hit somebody else's file. */
static bool does_not_ask(bool told)
{
	struct actor *c;
	uint64_t taken;
	bool bad;

	if (!begin_as("longterm=lease,lease_time=50ms", told))
		return !told;
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(LE_DO(holder, QUERY), -ESTALE);
	PT_EQ(look_status(fs, "space.parked"), told ? 2 : 0);
	taken = victim_make(v);
	PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
	bad = !victim_intact(v, taken);
	PT_EQ(LE_DO(holder, UNPIN), 0);
	actor_end(c);
	end();
	return bad;
}

/* What it works on is kept. The control is a pin whose device has promised to ask: nothing is kept for it. */
static void addresses(void)
{
	CU_ASSERT_FALSE(does_not_ask(true));
	CU_ASSERT_TRUE(does_not_ask(false));
}

/* The holder dies, the engine lives on: as a real device that nobody has reset. */
static void outlives(void)
{
	struct actor *c;
	uint64_t taken;

	if (!begin("longterm=lease,lease_time=30"))
		return;
	PT_EQ(LE_DO(engine, RUN), 0);
	CU_ASSERT(LE_DO(engine, RAN) > 0);
	lessee_kill(holder);
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	taken = victim_make(v);
	PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
	CU_ASSERT(victim_intact(v, taken));
	lessee_kill(engine);
	CU_ASSERT(look_parked_until(fs, 0));
	actor_end(c);
	pt_fs_end(fs);
}

/* lease_break=kill. */
static void killed(void)
{
	struct actor *c;
	uint64_t taken;

	if (!begin("longterm=lease,lease_time=50ms,lease_break=kill"))
		return;
	PT_EQ(LE_DO(engine, RUN), 0);
	c = stage_sender(act_truncate(f, 0));
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(pt_wait(lessee_pid(holder), SOON_MS), 128 + SIGKILL);
	taken = victim_make(v);
	PT_EQ(LE_DO(engine, WRITE), (long)(2 * PAGE));
	CU_ASSERT(victim_intact(v, taken));
	lessee_kill(engine);
	CU_ASSERT(look_parked_until(fs, 0));
	lessee_kill(holder);
	actor_end(c);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "a device at work", at_work, 0 },
		{ "a hole under it", punched, 0 },
		{ "control: unsafe", unsafe, 0 },
		{ "a burst under way, and its control", burst, 0 },
		{ "a burst that does not end", stuck, 0 },
		{ "a device that does not ask, and one that has promised to", addresses, 0 },
		{ "the engine outlives the holder", outlives, 0 },
		{ "lease_break=kill", killed, 0 },
	};
	static const struct pt_suite suites[] = { { "revoke", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
