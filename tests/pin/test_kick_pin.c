/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kick_pin.c - a pin that is made void by an operator: what waited for it goes on, its holder is told, other pins
 * stay, and the device that still works on the blocks hurts nobody, for they are kept from reuse until the pin ends.
 * Under on_busy=unsafe, which keeps nothing, the same device must do damage: else the play would prove nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"
#include "pin/raw.h"
#include "pin/victim.h"

#define K UINT64_C(1024)
#define F_LEN (64 * K)
#define SOON_MS 60000

static int kick(const struct pt_fs *fs, uint64_t session, uint32_t record)
{
	const struct pf_p_kick_pin_in in = { .kp_session = session, .kp_record = record };
	struct raw r;
	int err;

	raw_up(&r, fs, false);
	err = raw_call(&r, PF_P_KICK_PIN, &in, sizeof in, NULL, 0);
	raw_down(&r);
	return err;
}

struct play {
	struct pt_fs *fs;
	struct actor *holder, *cutter;
	char path[4096], victim[4096];
};

/* The only session, and its first pins: 1.0 of pages 8 and 9, 1.1 of page 0. */
static void begin(struct play *p, const char *opts)
{
	memset(p, 0, sizeof *p);
	p->fs = pt_fs_start("32M", opts);
	(void)snprintf(p->path, sizeof p->path, "%s", pt_path(p->fs, "f"));
	(void)snprintf(p->victim, sizeof p->victim, "%s", pt_path(p->fs, "victim"));
	p->holder = actor_new();
	p->cutter = actor_new();
	PT_EQ(actor_do(p->cutter, act_write(p->path, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_map_file(p->holder, 0, p->path, F_LEN), 0);
	PT_EQ(actor_do(p->holder, act_pin(0, 0, 32 * K, 8 * K, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(p->holder, act_pin(1, 0, 0, 4 * K, PINFS_PIN_WRITE)), 0);
}

static void end(struct play *p)
{
	actor_end(p->holder);
	actor_end(p->cutter);
	pt_fs_end(p->fs);
}

static void goes_on(void)
{
	struct play p;
	uint64_t len;

	begin(&p, NULL);
	actor_send(p.cutter, act_truncate(p.path, 0));
	CU_ASSERT_TRUE(look_until(p.fs, 1, 1, NULL));
	PT_EQ(kick(p.fs, 1, 0), 0);
	/* The other pin of the same 2 MiB is as good as before. */
	PT_EQ(actor_do(p.holder, act_query(0)), -ESTALE);
	PT_EQ(actor_do(p.holder, act_query(1)), 0);
	CU_ASSERT_TRUE(look_until(p.fs, 1, 1, NULL));
	PT_EQ(actor_result(p.cutter, 0), -EINPROGRESS);
	PT_EQ(actor_do(p.holder, act_unpin(1)), 0);
	PT_EQ(actor_result(p.cutter, SOON_MS), 0);
	PT_EQ(look_status(p.fs, "space.parked"), 2);
	/* Whoever fills the filesystem does not get those two. */
	len = victim_make(p.victim);
	CU_ASSERT_TRUE(actor_do(p.holder, act_dma(0, 7)) >= 0);
	CU_ASSERT_TRUE(victim_intact(p.victim, len));
	PT_EQ(unlink(p.victim), 0);
	/* The window goes on, too, with other blocks. */
	PT_EQ(actor_do(p.cutter, act_truncate(p.path, F_LEN)), 0);
	PT_EQ(actor_do(p.holder, act_store(0, 32 * K, 1, 'n')), 0);
	PT_EQ(actor_do(p.holder, act_load(0, 32 * K)), 'n');
	PT_EQ(actor_do(p.holder, act_pin(2, 0, 32 * K, 4 * K, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(p.holder, act_query(2)), 0);
	PT_EQ(actor_do(p.holder, act_unpin(2)), 0);
	PT_EQ(look_status(p.fs, "space.parked"), 2);
	PT_EQ(actor_do(p.holder, act_unpin(0)), 0);
	CU_ASSERT_TRUE(look_parked_until(p.fs, 0));
	end(&p);
}

/* The twin: nothing is kept. */
static void does_damage(void)
{
	struct play p;
	uint64_t len;

	begin(&p, "on_busy=unsafe");
	PT_EQ(kick(p.fs, 1, 0), 0);
	PT_EQ(actor_do(p.cutter, act_truncate(p.path, 0)), 0);
	PT_EQ(look_status(p.fs, "space.parked"), 0);
	len = victim_make(p.victim);
	CU_ASSERT_TRUE(actor_do(p.holder, act_dma(0, 7)) >= 0);
	CU_ASSERT_TRUE(!victim_intact(p.victim, len));
	PT_EQ(actor_do(p.holder, act_unpin(0)), 0);
	PT_EQ(actor_do(p.holder, act_unpin(1)), 0);
	PT_EQ(unlink(p.victim), 0);
	end(&p);
}

/* Before there is anybody who waits; and the holder dies. */
static void before_and_death(void)
{
	struct play p;

	begin(&p, NULL);
	PT_EQ(kick(p.fs, 1, 0), 0);
	PT_EQ(kick(p.fs, 1, 0), -ESRCH);		/* its pages are nobody's any more */
	PT_EQ(kick(p.fs, 1, 1), 0);
	PT_EQ(actor_do(p.cutter, act_truncate(p.path, 0)), 0);
	PT_EQ(look_status(p.fs, "space.parked"), 3);
	actor_kill(p.holder);
	CU_ASSERT_TRUE(look_parked_until(p.fs, 0));
	actor_end(p.cutter);
	pt_fs_end(p.fs);
}

/* A part of it has left the file before, under defer, and is kept for it: the kick does not set that free. */
static void deferred_before(void)
{
	struct play p;
	uint64_t len;

	begin(&p, "on_busy=defer");
	PT_EQ(actor_do(p.cutter, act_truncate(p.path, 36 * K)), 0);
	PT_EQ(look_status(p.fs, "space.parked"), 1);
	PT_EQ(kick(p.fs, 1, 0), 0);
	PT_EQ(actor_do(p.holder, act_unpin(1)), 0);	/* of the same slot: the daemon looks what is free now, */
	PT_EQ(actor_do(p.cutter, act_truncate(p.path, 0)), 0);	/* and has done so before this is acknowledged */
	PT_EQ(look_status(p.fs, "space.parked"), 2);
	len = victim_make(p.victim);
	CU_ASSERT_TRUE(actor_do(p.holder, act_dma(0, 7)) >= 0);
	CU_ASSERT_TRUE(victim_intact(p.victim, len));
	PT_EQ(unlink(p.victim), 0);
	PT_EQ(actor_do(p.holder, act_unpin(0)), 0);
	CU_ASSERT_TRUE(look_parked_until(p.fs, 0));
	end(&p);
}

/* Counters do not know whose they are: who shares a page, shares the fate. */
static void shared_page(void)
{
	struct play p;

	begin(&p, NULL);
	PT_EQ(actor_do(p.holder, act_pin(2, 0, 36 * K, 8 * K, PINFS_PIN_WRITE)), 0);	/* pages 9 and 10 */
	PT_EQ(kick(p.fs, 1, 0), 0);
	PT_EQ(actor_do(p.holder, act_query(2)), -ESTALE);
	PT_EQ(actor_do(p.holder, act_query(1)), 0);
	/* Page 10 was not kicked. */
	actor_send(p.cutter, act_truncate(p.path, 40 * K));
	CU_ASSERT_TRUE(look_until(p.fs, 1, 1, NULL));
	PT_EQ(actor_do(p.holder, act_unpin(2)), 0);
	PT_EQ(actor_result(p.cutter, SOON_MS), 0);
	PT_EQ(actor_do(p.holder, act_unpin(0)), 0);
	PT_EQ(actor_do(p.holder, act_unpin(1)), 0);
	CU_ASSERT_TRUE(look_parked_until(p.fs, 0));
	end(&p);
}

static void nothing_there(void)
{
	struct play p;

	begin(&p, NULL);
	PT_EQ(kick(p.fs, 1, 2), -ESRCH);
	PT_EQ(kick(p.fs, 1, UINT32_MAX), -ESRCH);
	PT_EQ(kick(p.fs, 99, 0), -ESRCH);
	PT_EQ(kick(p.fs, UINT64_MAX, 0), -ESRCH);
	PT_EQ(actor_do(p.holder, act_unpin(1)), 0);
	PT_EQ(kick(p.fs, 1, 1), -ESRCH);
	PT_EQ(actor_do(p.holder, act_unpin(0)), 0);
	end(&p);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "what-waits-goes-on", goes_on, 0 },
		{ "twin-nothing-kept", does_damage, 0 },
		{ "before-anybody-waits", before_and_death, 0 },
		{ "deferred-before", deferred_before, 0 },
		{ "shared-page", shared_page, 0 },
		{ "nothing-there", nothing_there, 0 },
	};
	static const struct pt_suite suite = { "kick_pin", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
