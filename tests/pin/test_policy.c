/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy.c - what each operation that cuts a file does while a device works on its blocks: every policy, both
 * scopes.
 *
 * One actor maps a file of 16 pages and pins pages 8 and 9; another makes the call; the "device" writes its pattern
 * to the addresses behind the pin while the call waits, or after it has returned. A model of the file says what
 * every byte must be in the end. Under on_busy=unsafe the same play must end in damage: else it would prove nothing
 * under the other policies.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "dma/dma.h"
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"
#include "pin/victim.h"

#define K UINT64_C(1024)
#define F_LEN (64 * K)
#define PIN_OFF (32 * K)
#define PIN_LEN (8 * K)
#define MODEL_MAX (256 * K)
#define DMA_ID 7
#define SOON_MS 60000

enum policy { WAIT, EBUSY_, DEFER, UNSAFE };
static const char *const policy_name[] = { "wait", "ebusy", "defer", "unsafe" };

enum { KEEPS_NONE, KEEPS_8, KEEPS_9, KEEPS_BOTH };

struct model {
	uint64_t size;
	uint8_t byte[MODEL_MAX];
};

struct op {
	const char *name;
	const char *what;		/* in reports */
	bool in_range, in_file;		/* does it meet the pin under break=range, under break=file? */
	unsigned int keeps;		/* KEEPS_*: pinned pages that stay the file's; one that is cut in two does */
	struct act (*make)(const char *path);
	void (*apply)(struct model *m);
	int64_t moved;			/* the pinned pages that stay are there now, in KiB from where they were */
};

static void m_size(struct model *m, uint64_t size)
{
	if (size < m->size)
		memset(m->byte + size, 0, m->size - size);
	m->size = size;
}

static void m_zero(struct model *m, uint64_t off, uint64_t len)
{
	memset(m->byte + off, 0, len);
}

static void m_collapse(struct model *m, uint64_t off, uint64_t len)
{
	memmove(m->byte + off, m->byte + off + len, MODEL_MAX - off - len);
	m->size -= len;
}

static void m_insert(struct model *m, uint64_t off, uint64_t len)
{
	memmove(m->byte + off + len, m->byte + off, m->size - off);
	memset(m->byte + off, 0, len);
	m->size += len;
}

#define TRUNCATE(size)                                                                      \
	static struct act make_##size(const char *path) { return act_truncate(path, (size) * K); } \
	static void apply_##size(struct model *m) { m_size(m, (size) * K); }
TRUNCATE(0)
TRUNCATE(34)
TRUNCATE(36)
TRUNCATE(40)
TRUNCATE(64)
TRUNCATE(128)

static struct act make_otrunc(const char *path) { return act_open_trunc(path); }

#define FALLOCATE(name, mode, off, len, effect)                                                                   \
	static struct act make_##name(const char *path) { return act_fallocate(path, mode, (off) * K, (len) * K); } \
	static void apply_##name(struct model *m) { effect; }
FALLOCATE(punch_hit, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 32, 4, m_zero(m, 32 * K, 4 * K))
FALLOCATE(punch_part, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 30, 5, m_zero(m, 30 * K, 5 * K))
FALLOCATE(punch_miss, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 32, m_zero(m, 0, 32 * K))
FALLOCATE(zero_hit, FALLOC_FL_ZERO_RANGE, 36, 4, m_zero(m, 36 * K, 4 * K))
FALLOCATE(zero_miss, FALLOC_FL_ZERO_RANGE, 40, 8, m_zero(m, 40 * K, 8 * K))
FALLOCATE(coll_hit, FALLOC_FL_COLLAPSE_RANGE, 32, 8, m_collapse(m, 32 * K, 8 * K))
FALLOCATE(coll_before, FALLOC_FL_COLLAPSE_RANGE, 0, 8, m_collapse(m, 0, 8 * K))
FALLOCATE(coll_behind, FALLOC_FL_COLLAPSE_RANGE, 40, 8, m_collapse(m, 40 * K, 8 * K))
FALLOCATE(insert_before, FALLOC_FL_INSERT_RANGE, 16, 4, m_insert(m, 16 * K, 4 * K))
FALLOCATE(insert_behind, FALLOC_FL_INSERT_RANGE, 40, 4, m_insert(m, 40 * K, 4 * K))
FALLOCATE(grow, 0, 64, 64, m->size = 128 * K)
FALLOCATE(fill, 0, 0, 64, (void)m)

static struct act make_write(const char *path) { return act_write(path, 30 * K, 12 * K, 'x'); }
static void apply_write(struct model *m) { memset(m->byte + 30 * K, 'x', 12 * K); }

static const struct op ops[] = {
	{ "truncate to 0", "truncate", true, true, KEEPS_NONE, make_0, apply_0, 0 },
	{ "truncate into the pinned page", "truncate", true, true, KEEPS_8, make_34, apply_34, 0 },
	{ "truncate between pinned pages", "truncate", true, true, KEEPS_8, make_36, apply_36, 0 },
	{ "truncate behind the pin", "truncate", false, true, KEEPS_BOTH, make_40, apply_40, 0 },
	{ "truncate to the same size", "truncate", false, true, KEEPS_BOTH, make_64, apply_64, 0 },
	{ "grow", "truncate", false, true, KEEPS_BOTH, make_128, apply_128, 0 },
	{ "open with O_TRUNC", "truncate", true, true, KEEPS_NONE, make_otrunc, apply_0, 0 },
	{ "punch a pinned page", "punch", true, true, KEEPS_9, make_punch_hit, apply_punch_hit, 0 },
	{ "punch a part of a pinned page", "punch", true, true, KEEPS_BOTH, make_punch_part, apply_punch_part, 0 },
	{ "punch elsewhere", "punch", false, true, KEEPS_BOTH, make_punch_miss, apply_punch_miss, 0 },
	{ "zero a pinned page", "zero-range", true, true, KEEPS_8, make_zero_hit, apply_zero_hit, 0 },
	{ "zero elsewhere", "zero-range", false, true, KEEPS_BOTH, make_zero_miss, apply_zero_miss, 0 },
	{ "collapse the pinned pages", "collapse-range", true, true, KEEPS_NONE, make_coll_hit,
	  apply_coll_hit, 0 },
	{ "collapse before the pin", "collapse-range", true, true, KEEPS_BOTH, make_coll_before,
	  apply_coll_before, -8 },
	{ "collapse behind the pin", "collapse-range", false, true, KEEPS_BOTH, make_coll_behind,
	  apply_coll_behind, 0 },
	{ "insert before the pin", "insert-range", true, true, KEEPS_BOTH, make_insert_before,
	  apply_insert_before, 4 },
	{ "insert behind the pin", "insert-range", false, true, KEEPS_BOTH, make_insert_behind,
	  apply_insert_behind, 0 },
	{ "fallocate behind the end", "fallocate", false, false, KEEPS_BOTH, make_grow, apply_grow, 0 },
	{ "fallocate what is there", "fallocate", false, false, KEEPS_BOTH, make_fill, apply_fill, 0 },
	{ "write", "write", false, false, KEEPS_BOTH, make_write, apply_write, 0 },
};

/* One play: who takes part, and what must be true of the file. */
struct play {
	struct pt_fs *fs;
	const struct op *op;
	enum policy policy;
	bool file_scope;
	char path[512], victim[512];
	struct actor *holder, *cutter;
	struct model want;
	uint64_t ino;
	int64_t hits;			/* collisions counted before */
};

static bool told(const struct play *p, bool ok, const char *what, int line)
{
	if (!ok)
		pt_say("on_busy=%s, break=%s, %s: line %d: %s", policy_name[p->policy],
		       p->file_scope ? "file" : "range", p->op->name, line, what);
	return ok;
}
#define CHECK(p, cond) CU_ASSERT(told(p, cond, #cond, __LINE__))

/* The file is just what the model says. */
static bool as_modelled(const struct play *p)
{
	static uint8_t got[MODEL_MAX];
	int fd = open(p->path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, got, sizeof got, 0) : -1;
	struct stat st;
	bool same = fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == p->want.size &&
		    n == (ssize_t)p->want.size && memcmp(got, p->want.byte, p->want.size) == 0;

	if (!same && p->policy != UNSAFE && n >= 0) {
		uint64_t i = 0;

		while (i < p->want.size && i < (uint64_t)n && got[i] == p->want.byte[i])
			i++;
		pt_say("size %lld, %zd read, want %llu; first difference at %llu: %02x, want %02x",
		       (long long)st.st_size, n, (unsigned long long)p->want.size, (unsigned long long)i,
		       i < (uint64_t)n ? got[i] : 0, i < p->want.size ? p->want.byte[i] : 0);
	}
	if (fd >= 0)
		(void)close(fd);
	return same;
}

/* The device has written: into those of the pinned pages that are the file's, wherever they are by now. */
static void model_dma_at(struct play *p, unsigned int pages, int64_t moved)
{
	struct dma_pat pat = { .dp_id = DMA_ID, .dp_ino = p->ino, .dp_foff = PIN_OFF };

	dma_pat_label(&pat, "actor");
	for (unsigned int i = 0; i < 2; i++) {
		const uint64_t at = PIN_OFF + i * 4 * K;

		if ((pages & (1U << i)) != 0)
			dma_pat_fill(&pat, at, p->want.byte + (int64_t)at + moved * (int64_t)K, 4 * K);
	}
}

static void model_dma(struct play *p, unsigned int pages)
{
	model_dma_at(p, pages, 0);
}

static void fire(struct play *p)
{
	CHECK(p, actor_do(p->holder, act_dma(0, DMA_ID)) == (long)PIN_LEN);
}

static void unpin(struct play *p)
{
	CHECK(p, actor_do(p->holder, act_unpin(0)) == 0);
}

static void play_idle(struct play *p)
{
	CHECK(p, actor_result(p->cutter, SOON_MS) == 0);
	p->op->apply(&p->want);
	CHECK(p, as_modelled(p));
	fire(p);
	model_dma(p, KEEPS_BOTH);
	CHECK(p, as_modelled(p));
	unpin(p);
}

static void play_wait(struct play *p)
{
	struct look l;

	CHECK(p, look_until(p->fs, 1, 1, &l));
	CHECK(p, strcmp(l.wait[0].what, p->op->what) == 0);
	CHECK(p, l.wait[0].pid == actor_pid(p->cutter));
	CHECK(p, l.wait[0].nholder == 1 && l.wait[0].holder == actor_pid(p->holder));
	CHECK(p, l.wait[0].ino == p->ino);
	CHECK(p, actor_result(p->cutter, 0) == -EINPROGRESS);
	fire(p);
	model_dma(p, KEEPS_BOTH);
	CHECK(p, as_modelled(p));		/* nothing is done before the device has finished */
	CHECK(p, actor_result(p->cutter, 0) == -EINPROGRESS);
	unpin(p);
	CHECK(p, actor_result(p->cutter, SOON_MS) == 0);
	p->op->apply(&p->want);
	CHECK(p, as_modelled(p));
}

static void play_ebusy(struct play *p)
{
	CHECK(p, actor_result(p->cutter, SOON_MS) == -EBUSY);
	CHECK(p, as_modelled(p));
	fire(p);
	model_dma(p, KEEPS_BOTH);
	CHECK(p, as_modelled(p));
	unpin(p);
	CHECK(p, actor_do(p->cutter, p->op->make(p->path)) == 0);
	p->op->apply(&p->want);
	CHECK(p, as_modelled(p));
}

/*
 * defer and unsafe: the call is done, the device does not know. Others write new bytes where the old ones were, in this
 * file and in a new one, before it strikes.
 */
static void play_at_once(struct play *p)
{
	uint64_t victim_len;
	bool damage;

	CHECK(p, actor_result(p->cutter, SOON_MS) == 0);
	p->op->apply(&p->want);
	CHECK(p, as_modelled(p));
	CHECK(p, actor_do(p->cutter, act_truncate(p->path, F_LEN)) == 0);
	m_size(&p->want, F_LEN);
	CHECK(p, as_modelled(p));
	/* What has moved up goes, so that the write below takes new blocks: the nearest are those that were freed. */
	if (p->op->make == make_coll_hit)
		CHECK(p, actor_do(p->cutter, act_fallocate(p->path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PIN_OFF,
							   PIN_LEN)) == 0);
	if (p->op->in_range) {
		CHECK(p, actor_do(p->cutter, act_write(p->path, PIN_OFF, PIN_LEN, 'w')) == (long)PIN_LEN);
		memset(p->want.byte + PIN_OFF, 'w', PIN_LEN);
		CHECK(p, as_modelled(p));
	}
	victim_len = victim_make(p->victim);
	CHECK(p, victim_intact(p->victim, victim_len));
	fire(p);
	model_dma_at(p, p->op->keeps, p->op->moved);
	damage = !as_modelled(p) || !victim_intact(p->victim, victim_len);
	CHECK(p, damage == (p->policy == UNSAFE && p->op->keeps != KEEPS_BOTH));
	if (p->policy == UNSAFE)
		CHECK(p, look_status(p->fs, "counters.collisions") > p->hits);
	unpin(p);
	CHECK(p, unlink(p->victim) == 0);
}

static void play(struct pt_fs *fs, enum policy policy, bool file_scope, const struct op *op)
{
	static struct play p;
	struct stat st;
	bool busy = file_scope ? op->in_file : op->in_range;

	memset(&p, 0, sizeof p);
	p.fs = fs;
	p.op = op;
	p.policy = policy;
	p.file_scope = file_scope;
	(void)snprintf(p.path, sizeof p.path, "%s", pt_path(fs, "f"));
	(void)snprintf(p.victim, sizeof p.victim, "%s", pt_path(fs, "victim"));
	p.holder = actor_new();
	p.cutter = actor_new();
	CHECK(&p, actor_do(p.cutter, act_write(p.path, 0, F_LEN, 'o')) == (long)F_LEN);
	p.want.size = F_LEN;
	memset(p.want.byte, 'o', F_LEN);
	CHECK(&p, stat(p.path, &st) == 0);
	p.ino = (uint64_t)st.st_ino;
	CHECK(&p, actor_map_file(p.holder, 0, p.path, F_LEN) == 0);
	CHECK(&p, actor_do(p.holder, act_pin(0, 0, PIN_OFF, PIN_LEN, PINFS_PIN_WRITE)) == 0);

	p.hits = look_status(fs, "counters.collisions");
	actor_send(p.cutter, op->make(p.path));
	/* A write answers with its length. */
	if (op->make == make_write) {
		CHECK(&p, actor_result(p.cutter, SOON_MS) == 12 * (long)K);
		apply_write(&p.want);
		CHECK(&p, as_modelled(&p));
		unpin(&p);
	} else if (!busy) {
		play_idle(&p);
	} else {
		switch (policy) {
		case WAIT: play_wait(&p); break;
		case EBUSY_: play_ebusy(&p); break;
		case DEFER:
		case UNSAFE: play_at_once(&p); break;
		}
	}
	actor_end(p.holder);
	actor_end(p.cutter);
	CHECK(&p, unlink(p.path) == 0);
	CHECK(&p, look_parked_until(fs, 0));	/* the device's unpin is heard of in its own time */
}

static void all_ops(enum policy policy, bool file_scope)
{
	struct pt_fs *fs;
	char opts[64];

	if (!pt_need_mount())
		return;
	(void)snprintf(opts, sizeof opts, "on_busy=%s,break=%s", policy_name[policy], file_scope ? "file" : "range");
	fs = pt_fs_start("16M", opts);
	for (size_t i = 0; i < PF_ARRAY_LEN(ops); i++)
		play(fs, policy, file_scope, &ops[i]);
	pt_fs_end(fs);
}

static void wait_range(void) { all_ops(WAIT, false); }
static void wait_file(void) { all_ops(WAIT, true); }
static void ebusy_range(void) { all_ops(EBUSY_, false); }
static void ebusy_file(void) { all_ops(EBUSY_, true); }
static void defer_range(void) { all_ops(DEFER, false); }
static void defer_file(void) { all_ops(DEFER, true); }
static void unsafe_range(void) { all_ops(UNSAFE, false); }
static void unsafe_file(void) { all_ops(UNSAFE, true); }

/* The file ends inside the pinned page: growing zeroes the rest of that page, so it meets the pin under
 * break=range too. */
static void grow_from_inside(void)
{
	struct actor *h, *c;
	struct pt_fs *fs;
	const char *path;
	struct look l;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", "on_busy=wait,break=range");
	path = pt_path(fs, "f");
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_do(c, act_write(path, 0, 5000, 'o')), 5000);
	PT_EQ(actor_map_file(h, 0, path, 8192), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 4096, 904, PINFS_PIN_WRITE)), 0);
	actor_send(c, act_truncate(path, 20000));
	CU_ASSERT(look_until(fs, 1, 1, &l));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* The first page alone: its end is not touched. */
	PT_EQ(actor_do(c, act_truncate(path, 5000)), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 100, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(c, act_truncate(path, 20000)), 0);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* Only the pins that an operation hits are waited for: the other file, the other range, the reader's pin as well
 * as the writer's. */
static void read_pins_count(void)
{
	struct actor *h, *c;
	struct pt_fs *fs;
	const char *path;
	struct look l;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", "on_busy=wait");
	path = pt_path(fs, "f");
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_do(c, act_write(path, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_do(c, act_write(pt_path(fs, "other"), 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_map_file(h, 0, path, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, PIN_OFF, PIN_LEN, 0)), 0);	/* the device only reads */
	PT_EQ(actor_do(c, act_truncate(pt_path(fs, "other"), 0)), 0);
	actor_send(c, act_truncate(path, 0));
	CU_ASSERT(look_until(fs, 1, 1, &l));
	PT_EQ(l.npin, 1);
	PT_EQ(l.pin[0].pid, actor_pid(h));
	PT_EQ(l.pin[0].foff, PIN_OFF);
	PT_EQ(l.pin[0].len, PIN_LEN);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "wait-range", wait_range, 0 },
		{ "wait-file", wait_file, 0 },
		{ "ebusy-range", ebusy_range, 0 },
		{ "ebusy-file", ebusy_file, 0 },
		{ "defer-range", defer_range, 0 },
		{ "defer-file", defer_file, 0 },
		{ "unsafe-range", unsafe_range, 0 },
		{ "unsafe-file", unsafe_file, 0 },
		{ "grow-from-inside-the-pinned-page", grow_from_inside, 0 },
		{ "read-pins-count", read_pins_count, 0 },
	};
	static const struct pt_suite suite = { "policy", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
