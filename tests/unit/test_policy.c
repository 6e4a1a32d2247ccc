/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy.c - policies as text, as attributes of files, taken over from directories; and what `poll` and
 * defer_limit do to a break.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "base/log.h"
#include "harness/unit.h"
#include "op/policy.h"
#include "unit/fakesess.h"
#include "unit/op_env.h"
#include "unit/space_env.h"

#define DBLK 1024U	/* somewhere in the data area of the fake device: where nobody frees */
#define MB (UINT64_C(1) << 20)

static void text(void)
{
	static const struct { const char *s; unsigned int set; } good[] = {
		{ "", 0 }, { "on_busy=poll", 1U << PF_POLICY_ON_BUSY }, { "break=file,busy_timeout=250ms", 6 },
		{ "poll_interval=0.5", 8 }, { "on_busy=wait,on_busy=defer", 1 },
	};
	static const char *const bad[] = {
		"on_busy", "on_busy=", "on_busy=Wait", "break=all", "busy_timeout=-1", "busy_timeout=1x",
		"poll_interval=0", "colour=red", "on_busy=wait,=", "busy_timeout=99999999999",
	};
	struct pf_policy_over o;
	const char *must;

	for (size_t i = 0; i < PF_ARRAY_LEN(good); i++) {
		CU_ASSERT_EQUAL(pf_policy_parse(good[i].s, &o, &must), 0);
		CU_ASSERT_EQUAL(o.set, good[i].set);
	}
	CU_ASSERT_EQUAL(o.p.on_busy, PF_BUSY_DEFER);		/* the last one holds */
	CU_ASSERT_EQUAL(pf_policy_parse("busy_timeout=1.25,poll_interval=20ms", &o, &must), 0);
	CU_ASSERT_EQUAL(o.p.timeout_ms, 1250);
	CU_ASSERT_EQUAL(o.p.poll_ms, 20);
	for (size_t i = 0; i < PF_ARRAY_LEN(bad); i++) {
		must = NULL;
		CU_ASSERT_EQUAL(pf_policy_parse(bad[i], &o, &must), -EINVAL);
		CU_ASSERT(must != NULL && must[0] != '\0');
	}
}

static int set(struct op_env *e, uint64_t ino, const char *name, const char *value)
{
	return pf_op_setxattr(e->fs, ino, name, value, strlen(value), 0, false);
}

/* The attribute of @ino, or "-". */
static const char *get(struct op_env *e, uint64_t ino, const char *name)
{
	static char value[64];
	size_t len = 0;

	if (pf_op_getxattr(e->fs, ino, name, value, sizeof value - 1, &len) != 0)
		return "-";
	value[len] = '\0';
	return value;
}

static struct pf_policy policy_of(struct op_env *e, uint64_t ino)
{
	struct pf_would w = { .foff = 0 };
	struct pf_holder who[1];
	unsigned int n = 1;

	CU_ASSERT_EQUAL(pf_op_would(e->fs, ino, 0, 1, -1, &w, who, &n), 0);
	return w.policy;
}

static void attributes(void)
{
	uint64_t dir, sub, f, g, ino;
	struct pf_policy now;
	struct pf_entry ent;
	struct op_env e;

	op_env_open(&e, 16 * MB);
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL(op_create(&e, dir, "before", 0644, &f), 0);
	CU_ASSERT_EQUAL(set(&e, dir, "user.pinfs.on_busy", "ebusy"), 0);
	CU_ASSERT_EQUAL(set(&e, dir, "user.pinfs.busy_timeout", "2"), 0);
	CU_ASSERT_EQUAL(set(&e, dir, "user.other", "not ours"), 0);

	/* What is set later is for files made later; a directory hands it on. */
	CU_ASSERT_EQUAL(policy_of(&e, f).on_busy, PF_BUSY_WAIT);
	CU_ASSERT_EQUAL(op_create(&e, dir, "f", 0644, &f), 0);
	CU_ASSERT_EQUAL(op_mkdir(&e, dir, "sub", &sub), 0);
	CU_ASSERT_EQUAL(op_create(&e, sub, "g", 0644, &g), 0);
	CU_ASSERT_STRING_EQUAL(get(&e, g, "user.pinfs.on_busy"), "ebusy");
	CU_ASSERT_STRING_EQUAL(get(&e, g, "user.other"), "-");
	CU_ASSERT_EQUAL(policy_of(&e, g).on_busy, PF_BUSY_EBUSY);
	CU_ASSERT_EQUAL(policy_of(&e, g).timeout_ms, 2000);
	CU_ASSERT_EQUAL(pf_op_tmpfile(e.fs, &op_root, dir, 0600, true, &ent), 0);
	CU_ASSERT_EQUAL(policy_of(&e, ent.ino).on_busy, PF_BUSY_EBUSY);
	pf_op_forget(e.fs, ent.ino, 1);
	CU_ASSERT_EQUAL(pf_op_symlink(e.fs, &op_root, dir, "link", "f", &ent), 0);
	CU_ASSERT_STRING_EQUAL(get(&e, ent.ino, "user.pinfs.on_busy"), "-");
	pf_op_forget(e.fs, ent.ino, 1);

	/* What a file does not say, the mount does; also when that changes. */
	CU_ASSERT_EQUAL(set(&e, f, "user.pinfs.break", "file"), 0);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, f, "user.pinfs.on_busy"), 0);
	pf_fs_policy(e.fs, &now);
	now.on_busy = PF_BUSY_DEFER;
	pf_fs_policy_set(e.fs, &now);
	CU_ASSERT_EQUAL(policy_of(&e, f).on_busy, PF_BUSY_DEFER);
	CU_ASSERT_EQUAL(policy_of(&e, f).scope, PF_SCOPE_FILE);
	CU_ASSERT_EQUAL(policy_of(&e, g).on_busy, PF_BUSY_EBUSY);

	CU_ASSERT_EQUAL(set(&e, f, "user.pinfs.on_busy", "never"), -EINVAL);
	CU_ASSERT_EQUAL(set(&e, f, "user.pinfs.on_busy", ""), -EINVAL);
	CU_ASSERT_EQUAL(set(&e, f, "user.pinfs.onbusy", "wait"), -EINVAL);
	CU_ASSERT_EQUAL(set(&e, f, "user.pinfs.busy_timeout", "0.00000000000000000000000000000000001"),
			-EINVAL);
	CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, f, "user.pinfs.on_busy", "wait\0x", 6, 0, false), -EINVAL);

	/* They are on the device. */
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_lookup(&e, sub, "g", &ino), 0);
	CU_ASSERT_EQUAL(policy_of(&e, ino).on_busy, PF_BUSY_EBUSY);
	op_env_close(&e);
}

/* With a file of 512 pages at DBLK that a session has in slot 0. */
struct one {
	struct pf_fs *fs;
	struct fk_file f;
	struct fk_sess *k;
	uint64_t fh;
};

static void one_open(struct one *o, enum pf_busy policy)
{
	o->fs = fk_open();
	o->fs->opts.policy.on_busy = policy;
	fk_file_init(&o->f, o->fs, 100);
	o->k = fk_sess_new(o->fs, 77);
	o->fh = fk_attach(o->k, &o->f);
	CU_ASSERT_EQUAL(fk_grant(o->k, o->fh, 0, 0, DBLK), 0);
}

static void one_close(struct one *o)
{
	fk_sess_free(o->k);
	fk_file_fini(&o->f);
	fk_close(o->fs);
}

static bool frozen(struct one *o)
{
	return (atomic_load(&o->k->s->led.slot[0].ls_word) & PF_SLOT_FROZEN) != 0;
}

static unsigned int state_of(struct one *o, struct fk_brk *b)
{
	unsigned int state;

	pf_mutex_lock(&o->f.lobj.lock);
	state = b->b.state;
	pf_mutex_unlock(&o->f.lobj.lock);
	return state;
}

/* Nobody tells it of the unpin (the slot is thawed), and yet it ends. */
static void poll_ends(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_POLL);
	o.fs->opts.policy.poll_ms = 3600000;	/* not before it is told to, below */
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(state_of(&o, &b), PF_BRK_PARKED);
	CU_ASSERT(!frozen(&o));
	fk_unpin(o.k, 0, 0, 1);
	CU_ASSERT_EQUAL(state_of(&o, &b), PF_BRK_PARKED);	/* under `wait` it would be done */
	pf_brk_timeout(&b.b, UINT64_MAX);			/* the hour is over */
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	one_close(&o);
}

/* The timer does it by itself; pins that come between two looks are seen, and what was granted is unmapped again. */
static void poll_goes_on(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_POLL);
	o.fs->opts.policy.poll_ms = 1;
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	for (unsigned int i = 0; i < 20; i++) {
		/* The next pin before the last is gone. A look may have the slot frozen at this moment. */
		while (!fk_pin(o.k, 0, i % 2 == 0 ? 1 : 0, 1))
			fk_sleep_ms(1);
		fk_unpin(o.k, 0, i % 2 == 0 ? 0 : 1, 1);
		fk_sleep_ms(2);
		CU_ASSERT(!fk_ended(&b));
	}
	CU_ASSERT_EQUAL(b.works, 0);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, DBLK), 0);
	fk_unpin(o.k, 0, 0, 1);
	while (!fk_ended(&b)) {
		fk_ack(o.k);
		fk_sleep_ms(1);
	}
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	CU_ASSERT(atomic_load(&o.fs->lay->count[PF_COUNT_INVALIDATES]) >= 2);
	one_close(&o);
}

static void poll_gives_up(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_POLL);
	o.fs->opts.policy.timeout_ms = 50;
	CU_ASSERT(fk_pin(o.k, 0, 0, 1));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), -EBUSY);
	o.fs->opts.policy.timeout_ms = 0;
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	pf_lay_cancel(o.fs, b.b.id, -EINTR);
	CU_ASSERT_EQUAL(fk_end(&b), -EINTR);
	CU_ASSERT(!frozen(&o));
	fk_unpin(o.k, 0, 0, 1);
	one_close(&o);
}

/* Up to the limit it is done at once; beyond it waits for pins, as `wait` does. */
static void limited(void)
{
	struct fk_brk b;
	struct one o;

	one_open(&o, PF_BUSY_DEFER);
	o.fs->opts.defer_limit = 2 * PF_BLK_SIZE;
	CU_ASSERT(fk_pin(o.k, 0, 0, 3));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(state_of(&o, &b), PF_BRK_PARKED);
	CU_ASSERT(frozen(&o));
	fk_unpin(o.k, 0, 0, 3);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_grant(o.k, o.fh, 0, 0, DBLK), 0);
	CU_ASSERT(fk_pin(o.k, 0, 0, 2));
	fk_cut(&b, &o.f, 0, UINT64_MAX);
	fk_submit(&b);
	fk_ack(o.k);
	CU_ASSERT_EQUAL(fk_end(&b), 0);
	fk_ack(o.k);
	fk_unpin(o.k, 0, 0, 2);
	one_close(&o);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "text", text },		  { "attributes", attributes }, { "poll ends", poll_ends },
		{ "poll goes on", poll_goes_on }, { "poll gives up", poll_gives_up },
		{ "defer is limited", limited },
	};

	pf_log_init("test", PF_LOG_ERR, false);
	return unit_main("policy", cases, PF_ARRAY_LEN(cases));
}
