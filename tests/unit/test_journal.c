/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_journal.c - a transaction is all or nothing and durable when commit returns, whatever a crash leaves of its
 * stores.
 *
 * Transaction n sets n into three inodes, writes a fresh tree node with key n and points to it. After replay of
 * any crash image all must agree on one n, at least the last one whose commit had returned. Twins leave out one
 * drain and must show a wrong image.
 */
#include "harness/unit.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/log.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/journal.h"
#include "media/mkfs.h"
#include "media/pmem.h"
#include "media/super.h"

#define MIB (UINT64_C(1) << 20)
#define DRAINS 4U	/* of one put(): fresh objects, lane, home, lane emptied */

static int up(struct pf_fs *fs, struct pf_pm *pm)
{
	const char *why;
	int err;

	memset(fs, 0, sizeof *fs);
	fs->pm = pm;
	err = pf_sb_load(fs, &why);
	if (err == 0)
		err = pf_verified_init(fs);
	if (err == 0)
		err = pf_jnl_init(fs);
	return err;
}

static void down(struct pf_fs *fs)
{
	pf_jnl_fini(fs);
	pf_verified_fini(fs);
}

static struct pf_pm *fresh_device(void)
{
	struct pf_pm *pm = mem_open(16 * MIB);
	struct pf_mkfs m = { .label = "" };

	if (pf_mkfs(pm, &m) != 0)
		abort();
	return pm;
}

static uint64_t inode_doff(const struct pf_fs *fs, uint64_t ino)
{
	return fs->iclu0_blk * PF_BLK_SIZE + ino * PF_INODE_SIZE;
}

/* Blocks are used in turn, so that a fresh object lands on an old one's bytes. */
static uint64_t node_blk(const struct pf_fs *fs, uint64_t n)
{
	return fs->iclu0_blk + PF_ICLU_BLKS + n % 3;
}

static int put(struct pf_fs *fs, uint64_t n)
{
	struct pf_tx *tx;
	struct pf_d_inode *di;
	struct pf_d_node *node;
	void *obj;
	int err = pf_tx_begin(fs, &tx);

	if (err != 0)
		return err;
	err = pf_tx_new(tx, PF_MD_NODE, node_blk(fs, n) * PF_BLK_SIZE, PF_INO_ORPHAN, 1, &obj);
	if (err != 0)
		goto out;
	node = obj;
	node->n_hdr.h_count = pf_put16(1);
	node->n_rec[0] = (struct pf_d_rec){
		.r_key = pf_put64(n), .r_dblk = pf_put64(node_blk(fs, 5)), .r_len = pf_put32(1),
	};
	for (uint64_t ino = PF_INO_ITABLE; ino <= PF_INO_ROOT; ino++) {
		err = pf_tx_get(tx, PF_MD_INODE, inode_doff(fs, ino), ino, &obj);
		if (err != 0)
			goto out;
		di = obj;
		di->i_atime = pf_put64(n);
		if (ino != PF_INO_ORPHAN)
			continue;
		di->i_root.t_level = pf_put16(1);
		di->i_root.t_count = pf_put16(1);
		di->i_root.t_rec[0] = (struct pf_d_rec){ .r_key = pf_put64(n), .r_dblk = pf_put64(node_blk(fs, n)) };
	}
	return pf_tx_commit(tx);
out:
	pf_tx_abort(tx);
	return err;
}

/* The n on which everything agrees, or -1. */
static int64_t agreed(struct pf_fs *fs)
{
	const struct pf_d_inode *di;
	const struct pf_d_node *node;
	const void *obj;
	uint64_t n = 0;

	for (uint64_t ino = PF_INO_ITABLE; ino <= PF_INO_ROOT; ino++) {
		if (pf_md_get(fs, PF_MD_INODE, inode_doff(fs, ino), ino, &obj) != 0)
			return -1;
		di = obj;
		if (ino != PF_INO_ITABLE && pf_get64(di->i_atime) != n)
			return -1;
		n = pf_get64(di->i_atime);
		if (ino != PF_INO_ORPHAN || pf_get16(di->i_root.t_level) == 0)
			continue;
		if (pf_get64(di->i_root.t_rec[0].r_key) != n ||
		    pf_md_get(fs, PF_MD_NODE, node_blk(fs, n) * PF_BLK_SIZE, PF_INO_ORPHAN, &obj) != 0)
			return -1;
		node = obj;
		if (pf_get64(node->n_rec[0].r_key) != n)
			return -1;
	}
	return (int64_t)n;
}

struct watch { int64_t done, tried; unsigned long images, wrong; };

static void look(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct watch *w = arg;
	struct pf_fs fs;
	bool right = false;
	int64_t n;

	(void)fence;
	w->images++;
	if (up(&fs, image) == 0 && pf_jnl_replay(&fs) >= 0) {
		n = agreed(&fs);
		right = n >= w->done && n <= w->tried;
		/* Replay once more changes nothing. */
		right = right && pf_jnl_pending(&fs) == 0 && pf_jnl_replay(&fs) == 0 && agreed(&fs) == n;
	}
	down(&fs);
	w->wrong += !right;
}

struct job { struct pf_fs *fs; uint64_t n; int err; sem_t *go, *ready; };

static void *run_put(void *arg)
{
	struct job *j = arg;

	j->err = put(j->fs, j->n);
	return NULL;
}

static void *run_blocker(void *arg)
{
	struct job *j = arg;
	struct pf_tx *tx;

	j->err = pf_tx_begin(j->fs, &tx);
	(void)sem_post(j->ready);
	while (sem_wait(j->go) != 0)
		;
	if (j->err == 0)
		pf_tx_abort(tx);
	return NULL;
}

/* put() in a thread of its own, so that its stores are drained by nobody else; odd ones in another lane than even
 * ones. */
static int put_apart(struct pf_fs *fs, uint64_t n)
{
	sem_t go, ready;
	struct job j = { .fs = fs, .n = n }, block = { .fs = fs, .go = &go, .ready = &ready };
	pthread_t t, b;

	(void)sem_init(&go, 0, 0);
	(void)sem_init(&ready, 0, 0);
	if (n % 2 == 1) {
		if (pthread_create(&b, NULL, run_blocker, &block) != 0)
			abort();
		while (sem_wait(&ready) != 0)
			;
	}
	if (pthread_create(&t, NULL, run_put, &j) != 0)
		abort();
	(void)pthread_join(t, NULL);
	if (n % 2 == 1) {
		(void)sem_post(&go);
		(void)pthread_join(b, NULL);
	}
	(void)sem_destroy(&go);
	(void)sem_destroy(&ready);
	return j.err;
}

/* @ntx transactions with every fence looked at; drain number @skip left out. */
static struct watch crash_run(uint64_t ntx, unsigned int skip, uint64_t seed)
{
	struct pf_pm *pm = fresh_device();
	struct watch w = { 0 };
	struct crash *c;
	struct pf_fs fs;

	CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
	CU_ASSERT_EQUAL_FATAL(put(&fs, 1), 0);
	w.done = w.tried = 1;
	c = crash_attach(pm, look, &w, 24, seed);
	crash_skip_drain(c, skip);
	for (uint64_t n = 2; n < 2 + ntx; n++) {
		w.tried = (int64_t)n;
		CU_ASSERT_EQUAL(put_apart(&fs, n), 0);
		w.done = (int64_t)n;
	}
	crash_detach(c);
	CU_ASSERT_EQUAL(agreed(&fs), (int64_t)ntx + 1);
	down(&fs);
	mem_close(pm);
	return w;
}

static void every_fence(void)
{
	unsigned long images = 0;

	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct watch w = crash_run(12, UINT32_MAX, seed);

		CU_ASSERT_EQUAL(w.wrong, 0);
		images += w.images;
	}
	CU_ASSERT(images >= 4 * 12 * DRAINS);
}

/* Each of the four drains of a commit is needed: without it some image is wrong. */
static void every_drain_is_needed(void)
{
	for (unsigned int drain = 0; drain < DRAINS; drain++) {
		unsigned long wrong = 0;

		for (uint64_t seed = 1; seed <= 4; seed++)
			wrong += crash_run(6, 2 * DRAINS + drain, seed).wrong;
		CU_ASSERT(wrong > 0);
		if (wrong == 0)
			(void)printf("\n\tdrain %u of a commit left out, and nobody noticed\n", drain + 1);
	}
}

static void nothing(void *arg, struct pf_pm *image, unsigned int fence)
{
	(void)arg;
	(void)image;
	(void)fence;
}

/* Drain 0 or 1 fails: nothing happened. 2 or 3 fails: committed, and there after the next mount. The journal stops
 * in each case. */
static void medium_fails(void)
{
	for (unsigned int drain = 0; drain < DRAINS; drain++) {
		struct pf_pm *pm = fresh_device(), *image;
		struct pf_fs fs, after;
		struct pf_tx *tx;
		struct crash *c;

		CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
		CU_ASSERT_EQUAL_FATAL(put(&fs, 1), 0);
		c = crash_attach(pm, nothing, NULL, 0, 1);
		crash_fail_drain(c, drain);
		CU_ASSERT_EQUAL(put(&fs, 2), drain < 2 ? -EIO : 0);
		CU_ASSERT_EQUAL(agreed(&fs), drain < 2 ? 1 : 2);
		CU_ASSERT_EQUAL(pf_tx_begin(&fs, &tx), -EIO);
		image = crash_image_now(c);
		CU_ASSERT_EQUAL_FATAL(up(&after, image), 0);
		CU_ASSERT_EQUAL(pf_jnl_replay(&after), drain < 2 ? 0 : 1);
		CU_ASSERT_EQUAL(agreed(&after), drain < 2 ? 1 : 2);
		down(&after);
		crash_image_free(image);
		crash_detach(c);
		down(&fs);
		mem_close(pm);
	}
}

static void shadows(void)
{
	struct pf_pm *pm = fresh_device();
	struct pf_fs fs;
	struct pf_tx *tx;
	const void *seen;
	void *a, *b;
	unsigned int room;

	CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(&fs, &tx), 0);
	room = pf_tx_room(tx);
	CU_ASSERT(room >= 30);
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), PF_INO_ROOT, &a), 0);
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), PF_INO_ROOT, &b), 0);
	CU_ASSERT_PTR_EQUAL(a, b);
	((struct pf_d_inode *)a)->i_atime = pf_put64(77);
	CU_ASSERT_EQUAL(pf_tx_peek(&fs, tx, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), PF_INO_ROOT, &seen), 0);
	CU_ASSERT_PTR_EQUAL(seen, a);
	CU_ASSERT_EQUAL(pf_tx_peek(&fs, NULL, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), PF_INO_ROOT, &seen), 0);
	CU_ASSERT_PTR_NOT_EQUAL(seen, a);
	/* Wrong owner, wrong place, wrong type. */
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), 11, &b), 0);	/* same shadow */
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_INODE, inode_doff(&fs, PF_INO_ITABLE), 11, &b), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_NODE, fs.iclu0_blk * PF_BLK_SIZE, 0, &b), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_NODE, 12345, 0, &b), -EUCLEAN);
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_NODE, UINT64_MAX - 4095, 0, &b), -EUCLEAN);
	/* A dropped shadow gives its room back and is not written. */
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_ICLU, fs.iclu0_blk * PF_BLK_SIZE, 0, &b), 0);
	pf_tx_drop(tx, fs.iclu0_blk);
	pf_tx_drop(tx, fs.iclu0_blk + PF_INO_ROOT * PF_INODE_SIZE / PF_BLK_SIZE);
	CU_ASSERT_EQUAL(pf_tx_room(tx), room);
	/* The lane is full: -EFBIG, and what was there is still fine. */
	CU_ASSERT_EQUAL(pf_tx_get(tx, PF_MD_MAP, fs.map_blk * PF_BLK_SIZE, 0, &b), 0);
	for (unsigned int slot = PF_INO_FIRST_USER, err = 0; err == 0 && slot < PF_ICLU_SLOTS; slot++) {
		int rc = pf_tx_new(tx, PF_MD_INODE, inode_doff(&fs, slot), slot, 1, &b);

		CU_ASSERT(rc == 0 || rc == -EFBIG);
		err = rc != 0;
		CU_ASSERT(err == 0 || pf_tx_room(tx) == 0);
	}
	CU_ASSERT_EQUAL(pf_tx_room(tx), 0);
	CU_ASSERT_EQUAL(pf_tx_commit(tx), 0);
	CU_ASSERT_EQUAL(pf_md_get(&fs, PF_MD_INODE, inode_doff(&fs, PF_INO_ROOT), PF_INO_ROOT, &seen), 0);
	CU_ASSERT_NOT_EQUAL(pf_get64(((const struct pf_d_inode *)seen)->i_atime), 77);
	down(&fs);
	mem_close(pm);
}

/* Objects that are rewritten wholly still fit: pf_tx_room() is honest. */
static void room_is_honest(void)
{
	struct pf_pm *pm = fresh_device();
	struct pf_fs fs;
	struct pf_tx *tx;
	unsigned int n;
	uint64_t first;

	CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
	first = node_blk(&fs, 0) + 10;
	for (unsigned int pass = 0; pass < 2; pass++) {
		CU_ASSERT_EQUAL_FATAL(pf_tx_begin(&fs, &tx), 0);
		n = pf_tx_room(tx);
		for (unsigned int i = 0; i < n; i++) {
			struct pf_d_orphan *o;
			void *obj;
			uint64_t doff = (first + i) * PF_BLK_SIZE;

			CU_ASSERT_EQUAL_FATAL(pass == 0 ? pf_tx_new(tx, PF_MD_ORPHAN, doff, 9, 1, &obj) :
							  pf_tx_get(tx, PF_MD_ORPHAN, doff, 9, &obj), 0);
			o = obj;
			for (unsigned int k = 0; k < 504; k++)
				o->o_ino[k] = pf_put64(10 + 512 * pass + k % 500);
			o->o_hdr.h_count = pf_put16(504);
		}
		CU_ASSERT_EQUAL(pf_tx_room(tx), pass == 0 ? n : 0);
		CU_ASSERT_EQUAL(pf_tx_commit(tx), 0);
	}
	for (unsigned int i = 0; i < n; i++) {
		const void *obj;

		CU_ASSERT_EQUAL(pf_md_get(&fs, PF_MD_ORPHAN, (first + i) * PF_BLK_SIZE, 9, &obj), 0);
	}
	down(&fs);
	mem_close(pm);
}

static char order[64];
static void note(void *arg, bool committed)
{
	size_t n = strlen(order);

	order[n] = (char)(*(char *)arg + (committed ? 0 : 'a' - 'A'));
}
static int refuse_commit(struct pf_tx *tx)
{
	(void)tx;
	return -EUCLEAN;
}

static void ends(void)
{
	struct pf_pm *pm = fresh_device();
	char a = 'A', b = 'B';
	struct pf_fs fs;
	struct pf_tx *tx;

	CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(&fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_tx_at_end(tx, note, &a), 0);
	CU_ASSERT_EQUAL(pf_tx_at_end(tx, note, &b), 0);
	CU_ASSERT_EQUAL(pf_tx_commit(tx), 0);
	CU_ASSERT_STRING_EQUAL(order, "BA");
	pf_jnl_on_commit(&fs, refuse_commit);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(&fs, &tx), 0);
	CU_ASSERT_EQUAL(pf_tx_at_end(tx, note, &a), 0);
	CU_ASSERT_EQUAL(pf_tx_commit(tx), -EUCLEAN);
	CU_ASSERT_STRING_EQUAL(order, "BAa");
	memset(order, 0, sizeof order);
	CU_ASSERT_EQUAL_FATAL(pf_tx_begin(&fs, &tx), 0);
	for (unsigned int i = 0; i < PF_TX_ENDS; i++)
		CU_ASSERT_EQUAL(pf_tx_at_end(tx, note, &b), 0);
	CU_ASSERT_EQUAL(pf_tx_at_end(tx, note, &a), -ENOMEM);
	pf_tx_abort(tx);
	CU_ASSERT_EQUAL(strspn(order, "b"), PF_TX_ENDS);
	CU_ASSERT_EQUAL(strlen(order), PF_TX_ENDS);
	fs.opts.ro = true;
	CU_ASSERT_EQUAL(pf_tx_begin(&fs, &tx), -EROFS);
	down(&fs);
	mem_close(pm);
}

/* A sealed lane with nonsense in it is damage; a torn one is nothing. */
static void bad_lanes(void)
{
	struct { uint64_t doff; uint32_t len, nrec, extra; int want; } t[] = {
		{ 0, 64, 1, 0, -EUCLEAN },			/* the superblock */
		{ 4096, 64, 1, 0, -EUCLEAN },			/* the journal */
		{ 15 * MIB + 1, 64, 1, 0, -EUCLEAN },		/* not a line */
		{ 16 * MIB - 64, 64, 1, 0, -EUCLEAN },		/* the copy of the superblock */
		{ 16 * MIB, 64, 1, 0, -EUCLEAN },
		{ UINT64_MAX - 63, 64, 1, 0, -EUCLEAN },
		{ 15 * MIB, 0, 1, 0, -EUCLEAN },
		{ 15 * MIB, 63, 1, 0, -EUCLEAN },
		{ 15 * MIB, 0xffffffc0, 1, 0, -EUCLEAN },
		{ 15 * MIB, 64, 2, 0, -EUCLEAN },
		{ 15 * MIB, 64, UINT32_MAX, 0, -EUCLEAN },
		{ 15 * MIB, 64, 1, 8, -EUCLEAN },
		{ 15 * MIB, 64, 1, 0, 1 },			/* twin: a good one */
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		struct pf_pm *pm = fresh_device();
		struct pf_d_lane *l = pf_pm_at(pm, PF_BLK_SIZE);
		struct pf_d_jrec *rec = (void *)(l + 1);
		struct pf_fs fs;

		CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
		memset(rec + 1, 0xaa, 64);
		*rec = (struct pf_d_jrec){ .j_doff = pf_put64(t[i].doff), .j_len = pf_put32(t[i].len) };
		*l = (struct pf_d_lane){
			.l_magic = pf_put32(PF_MAGIC_LANE), .l_fsid = pf_put64(fs.fsid), .l_seq = pf_put64(5),
			.l_nrec = pf_put32(t[i].nrec), .l_len = pf_put32(16 + 64 + t[i].extra),
		};
		l->l_crc = pf_put32(~UINT32_C(0));
		CU_ASSERT_EQUAL(pf_jnl_pending(&fs), 0);	/* torn */
		l->l_crc = pf_put32(pf_crc32c_hole(l, 64 + 80 + t[i].extra, 4));
		CU_ASSERT_EQUAL(pf_jnl_pending(&fs), t[i].want);
		if (t[i].want == 1) {
			fs.opts.ro = true;
			CU_ASSERT_EQUAL(pf_jnl_replay(&fs), -EROFS);
			fs.opts.ro = false;
		}
		CU_ASSERT_EQUAL(pf_jnl_replay(&fs), t[i].want);
		CU_ASSERT_EQUAL(pm->base[15 * MIB], t[i].want == 1 ? 0xaa : 0);
		down(&fs);
		mem_close(pm);
	}
}

/* Threads share 8 lanes; each counts in an inode of its own. */
static void *count(void *arg)
{
	struct job *j = arg;

	for (unsigned int i = 0; i < 300 && j->err == 0; i++) {
		struct pf_tx *tx;
		void *obj;

		j->err = pf_tx_begin(j->fs, &tx);
		if (j->err != 0)
			break;
		if (i == 0)
			j->err = pf_tx_new(tx, PF_MD_INODE, inode_doff(j->fs, j->n), j->n, 1, &obj);
		else
			j->err = pf_tx_get(tx, PF_MD_INODE, inode_doff(j->fs, j->n), j->n, &obj);
		if (j->err != 0) {
			pf_tx_abort(tx);
			break;
		}
		((struct pf_d_inode *)obj)->i_mode = pf_put32(0100644);
		((struct pf_d_inode *)obj)->i_size = pf_put64(i);
		j->err = pf_tx_commit(tx);
	}
	return NULL;
}

static void threads(void)
{
	struct pf_pm *pm = fresh_device();
	struct pf_fs fs;
	struct job j[16];
	pthread_t t[16];

	CU_ASSERT_EQUAL_FATAL(up(&fs, pm), 0);
	for (unsigned int i = 0; i < 16; i++) {
		j[i] = (struct job){ .fs = &fs, .n = PF_INO_FIRST_USER + i };
		if (pthread_create(&t[i], NULL, count, &j[i]) != 0)
			abort();
	}
	for (unsigned int i = 0; i < 16; i++) {
		const void *obj;

		(void)pthread_join(t[i], NULL);
		CU_ASSERT_EQUAL(j[i].err, 0);
		CU_ASSERT_EQUAL_FATAL(pf_md_get(&fs, PF_MD_INODE, inode_doff(&fs, j[i].n), j[i].n, &obj), 0);
		CU_ASSERT_EQUAL(pf_get64(((const struct pf_d_inode *)obj)->i_size), 299);
	}
	CU_ASSERT_EQUAL(pf_jnl_pending(&fs), 0);
	down(&fs);
	mem_close(pm);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "every crash image is right", every_fence },
		{ "every drain of a commit is needed", every_drain_is_needed },
		{ "a failing medium", medium_fails },
		{ "shadows", shadows },
		{ "a full lane commits", room_is_honest },
		{ "calls at the end", ends },
		{ "lanes that make no sense", bad_lanes },
		{ "threads", threads },
	};

	pf_log_init("test_journal", PF_LOG_ERR, false);
	return unit_main("journal", cases, PF_ARRAY_LEN(cases));
}
