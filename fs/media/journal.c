/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.c - transactions: shadows, what differs, a lane, and the drains of a commit.
 *
 * Owns the lanes and, while a transaction lives, its shadows. Locks: a lane is rank TXN from begin to the end; the list
 * of idle lanes is a LEAF mutex. Replay is recover.c's.
 */
#include "media/journal.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/fail.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/step.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "media/super.h"

#define BUCKETS 64U
#define SPARES 24U			/* shadows that a lane keeps for its next transaction */

struct shadow {
	struct shadow *hash_next;
	struct shadow *next, *prev;	/* in order of creation */
	uint64_t doff;
	enum pf_md type;
	bool fresh;			/* nobody refers to the block yet: written home before the lane */
	uint8_t *obj;			/* pf_md_size(type) bytes, line aligned */
};

struct end_call { void (*fn)(void *arg, bool committed); void *arg; };

struct pf_tx {
	struct pf_fs *fs;
	struct pf_tx *idle_next;
	uint32_t lane;
	bool bad;			/* the lane lies in a bad block; the journal's lock */
	uint8_t *buf;			/* the lane as it will be on the media: header and body */
	uint32_t nrec;
	uint64_t len;			/* bytes of body in buf */
	uint64_t claimed;		/* bytes of body that this transaction may need at worst */
	struct shadow *bucket[BUCKETS];
	struct shadow *head, *tail;
	struct shadow *spare[2];	/* used ones, by next: objects of a block, inodes */
	unsigned int nspare[2];
	struct pf_tx_blocks *blocks;
	struct end_call end[PF_TX_ENDS];
	unsigned int nend;
};

struct pf_jnl {
	struct pf_mutex lock;		/* LEAF: idle */
	pthread_cond_t some_idle;
	struct pf_tx *idle;
	struct pf_tx *tx;		/* one for each lane */
	uint32_t nbad;			/* lanes that are */
	pf_tx_prepare_fn on_commit;
	uint64_t lane_bytes;
	_Atomic uint64_t seq;
	_Atomic bool stopped;		/* the medium failed; also where no mount has a state for it */
};

/* What one object adds to a lane at worst: a record that holds all of it. Two records are shorter, as the line
 * between is missing. */
static uint64_t worst(enum pf_md type)
{
	return sizeof(struct pf_d_jrec) + pf_md_size(type);
}

static uint64_t lane_doff(const struct pf_fs *fs, uint32_t lane)
{
	return (fs->lane_blk + (uint64_t)lane * fs->lane_nblk) << PF_BLK_SHIFT;
}

/* ---- memory ---- */

static void free_shadow(struct shadow *s)
{
	free(s->obj);
	free(s);
}

static unsigned int kind_of(enum pf_md type)
{
	return type == PF_MD_INODE;
}

static struct shadow *new_shadow(struct pf_tx *tx, enum pf_md type)
{
	struct shadow *s = tx->spare[kind_of(type)];

	if (s != NULL) {
		tx->spare[kind_of(type)] = s->next;
		tx->nspare[kind_of(type)]--;
		return s;
	}
	s = malloc(sizeof *s);
	if (s == NULL)
		return NULL;
	s->obj = aligned_alloc(PF_LINE, pf_md_size(type));
	if (s->obj == NULL) {
		free(s);
		s = NULL;
	}
	return s;
}

static void spare_shadow(struct pf_tx *tx, struct shadow *s)
{
	unsigned int k = kind_of(s->type);

	if (tx->nspare[k] == SPARES) {
		free_shadow(s);
		return;
	}
	s->next = tx->spare[k];
	tx->spare[k] = s;
	tx->nspare[k]++;
}

int pf_jnl_init(struct pf_fs *fs)
{
	struct pf_jnl *j = calloc(1, sizeof *j);

	if (j == NULL)
		return -ENOMEM;
	j->tx = calloc(fs->nlane, sizeof *j->tx);
	if (j->tx == NULL) {
		free(j);
		return -ENOMEM;
	}
	pf_mutex_init(&j->lock, PF_RANK_LEAF);
	if (pthread_cond_init(&j->some_idle, NULL) != 0)
		abort();
	j->lane_bytes = (uint64_t)fs->lane_nblk << PF_BLK_SHIFT;
	atomic_init(&j->seq, 1);
	for (uint32_t i = fs->nlane; i-- > 0;) {
		j->tx[i].fs = fs;
		j->tx[i].lane = i;
		j->tx[i].idle_next = j->idle;
		j->idle = &j->tx[i];
	}
	fs->jnl = j;
	return 0;
}

void pf_jnl_fini(struct pf_fs *fs)
{
	struct pf_jnl *j = fs->jnl;

	if (j == NULL)
		return;
	for (uint32_t i = 0; i < fs->nlane; i++) {
		free(j->tx[i].buf);
		for (unsigned int k = 0; k < PF_ARRAY_LEN(j->tx[i].spare); k++) {
			for (struct shadow *s = j->tx[i].spare[k], *next; s != NULL; s = next) {
				next = s->next;
				free_shadow(s);
			}
		}
	}
	free(j->tx);
	(void)pthread_cond_destroy(&j->some_idle);
	pf_mutex_fini(&j->lock);
	free(j);
	fs->jnl = NULL;
}

void pf_jnl_on_commit(struct pf_fs *fs, pf_tx_prepare_fn fn)
{
	fs->jnl->on_commit = fn;
}

/* ---- begin and end ---- */

/* NULL: every lane is bad. */
static struct pf_tx *take_lane(struct pf_fs *fs)
{
	struct pf_jnl *j = fs->jnl;
	struct pf_tx *tx = NULL, **at;

	pf_mutex_lock(&j->lock);
	for (;;) {
		for (at = &j->idle; *at != NULL && (*at)->bad; at = &(*at)->idle_next)
			;
		tx = *at;
		if (tx != NULL || j->nbad == fs->nlane)
			break;
		(void)pthread_cond_wait(&j->some_idle, &j->lock.m);
	}
	if (tx != NULL)
		*at = tx->idle_next;
	pf_mutex_unlock(&j->lock);
	return tx;
}

static void give_lane(struct pf_jnl *j, struct pf_tx *tx)
{
	pf_mutex_lock(&j->lock);
	tx->idle_next = j->idle;
	j->idle = tx;
	(void)pthread_cond_signal(&j->some_idle);
	pf_mutex_unlock(&j->lock);
}

void pf_jnl_avoid_bad(struct pf_fs *fs)
{
	struct pf_jnl *j = fs->jnl;
	bool bad[PF_LANES_MAX] = { false };

	for (uint32_t i = 0; i < fs->nlane; i++)
		bad[i] = pf_bad_first(fs, fs->lane_blk + (uint64_t)i * fs->lane_nblk, fs->lane_nblk, NULL) !=
			 PF_BAD_NONE;
	pf_mutex_lock(&j->lock);
	j->nbad = 0;
	for (uint32_t i = 0; i < fs->nlane; i++) {
		j->tx[i].bad = bad[i];
		j->nbad += bad[i];
	}
	(void)pthread_cond_broadcast(&j->some_idle);
	pf_mutex_unlock(&j->lock);
}

int pf_tx_begin(struct pf_fs *fs, struct pf_tx **out)
{
	struct pf_jnl *j = fs->jnl;
	struct pf_tx *tx;

	int err = pf_fs_writable(fs);

	if (err == 0 && atomic_load(&j->stopped))
		err = -EIO;
	if (err != 0)
		return err;
	pf_rank_enter(PF_RANK_TXN);
	tx = take_lane(fs);
	if (tx == NULL) {
		pf_rank_exit(PF_RANK_TXN);
		pf_fs_fail(fs, PF_FAULT_MEDIUM, "every lane of the journal lies in a bad block");
		return -EIO;
	}
	/* A lane's buffer is made at its first use: most mounts never have 32 writers at once. */
	if (tx->buf == NULL)
		tx->buf = aligned_alloc(PF_LINE, j->lane_bytes);
	if (tx->buf == NULL) {
		give_lane(j, tx);
		pf_rank_exit(PF_RANK_TXN);
		return -ENOMEM;
	}
	*out = tx;
	return 0;
}

static void finish(struct pf_tx *tx, bool committed)
{
	struct pf_jnl *j = tx->fs->jnl;
	struct shadow *s, *next;

	while (tx->nend > 0) {
		struct end_call *e = &tx->end[--tx->nend];

		e->fn(e->arg, committed);
	}
	for (s = tx->head; s != NULL; s = next) {
		next = s->next;
		spare_shadow(tx, s);
	}
	tx->head = tx->tail = NULL;
	memset(tx->bucket, 0, sizeof tx->bucket);
	tx->claimed = 0;
	tx->blocks = NULL;
	give_lane(j, tx);
	pf_rank_exit(PF_RANK_TXN);
}

struct pf_fs *pf_tx_fs(struct pf_tx *tx)
{
	return tx->fs;
}

struct pf_tx_blocks **pf_tx_blocks(struct pf_tx *tx)
{
	return &tx->blocks;
}

int pf_tx_at_end(struct pf_tx *tx, void (*fn)(void *arg, bool committed), void *arg)
{
	if (tx->nend == PF_TX_ENDS)
		return -ENOMEM;
	tx->end[tx->nend++] = (struct end_call){ .fn = fn, .arg = arg };
	return 0;
}

/* ---- room ---- */

static uint64_t capacity(const struct pf_tx *tx)
{
	return tx->fs->jnl->lane_bytes - sizeof(struct pf_d_lane);
}

static int claim(struct pf_tx *tx, uint64_t bytes)
{
	if (bytes > capacity(tx) - tx->claimed)
		return -EFBIG;
	tx->claimed += bytes;
	return 0;
}

unsigned int pf_tx_room(const struct pf_tx *tx)
{
	return (unsigned int)((capacity(tx) - tx->claimed) / worst(PF_MD_NODE));
}

/* ---- shadows ---- */

static struct shadow **bucket_of(struct pf_tx *tx, uint64_t doff)
{
	return &tx->bucket[(doff / PF_INODE_SIZE * UINT64_C(0x9e3779b97f4a7c15)) >> 58];
}
_Static_assert(BUCKETS == 1 << (64 - 58), "bucket_of() takes the top bits");

static struct shadow *find(struct pf_tx *tx, uint64_t doff)
{
	struct shadow *s = *bucket_of(tx, doff);

	while (s != NULL && s->doff != doff)
		s = s->hash_next;
	return s;
}

static int add(struct pf_tx *tx, enum pf_md type, uint64_t doff, bool fresh, struct shadow **out)
{
	struct shadow *s, **b = bucket_of(tx, doff);
	int err;

	err = fresh ? 0 : claim(tx, worst(type));
	if (err != 0)
		return err;
	s = new_shadow(tx, type);
	if (s == NULL) {
		tx->claimed -= fresh ? 0 : worst(type);
		return -ENOMEM;
	}
	*s = (struct shadow){ .doff = doff, .type = type, .fresh = fresh, .obj = s->obj, .hash_next = *b,
			      .prev = tx->tail };
	*b = s;
	if (tx->tail != NULL)
		tx->tail->next = s;
	else
		tx->head = s;
	tx->tail = s;
	*out = s;
	return 0;
}

static void remove_shadow(struct pf_tx *tx, struct shadow *s)
{
	struct shadow **p = bucket_of(tx, s->doff);

	while (*p != s)
		p = &(*p)->hash_next;
	*p = s->hash_next;
	*(s->prev != NULL ? &s->prev->next : &tx->head) = s->next;
	*(s->next != NULL ? &s->next->prev : &tx->tail) = s->prev;
	if (!s->fresh)
		tx->claimed -= worst(s->type);
	spare_shadow(tx, s);
}

int pf_tx_get(struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner, void **out)
{
	struct shadow *s = find(tx, doff);
	const void *home;
	int err;

	if (s == NULL) {
		err = pf_md_get(tx->fs, type, doff, owner, &home);
		if (err == 0)
			err = add(tx, type, doff, false, &s);
		if (err != 0)
			return err;
		memcpy(s->obj, home, pf_md_size(type));
	} else if (s->type != type) {
		return -EUCLEAN;	/* two objects of a damaged image claim one block */
	}
	*out = s->obj;
	return 0;
}

int pf_tx_new(struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner, uint32_t gen, void **out)
{
	struct shadow *s = find(tx, doff);
	int err;

	if (s != NULL && s->type != type)
		return -EUCLEAN;
	if (s == NULL) {
		err = add(tx, type, doff, type != PF_MD_INODE, &s);
		if (err != 0)
			return err;
	}
	if (s->fresh)
		pf_md_forget(tx->fs, doff >> PF_BLK_SHIFT, 1);
	pf_md_format(tx->fs, type, s->obj, doff, owner, gen);
	*out = s->obj;
	return 0;
}

int pf_tx_peek(struct pf_fs *fs, struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner, const void **out)
{
	struct shadow *s = tx != NULL ? find(tx, doff) : NULL;

	if (s == NULL)
		return pf_md_get(fs, type, doff, owner, out);
	if (s->type != type)
		return -EUCLEAN;
	*out = s->obj;
	return 0;
}

void pf_tx_drop(struct pf_tx *tx, uint64_t dblk)
{
	struct shadow *s;

	pf_md_forget(tx->fs, dblk, 1);
	for (uint64_t off = 0; off < PF_BLK_SIZE; off += PF_INODE_SIZE) {
		s = find(tx, (dblk << PF_BLK_SHIFT) + off);
		if (s != NULL)
			remove_shadow(tx, s);
	}
}

/* ---- commit ---- */

static struct pf_d_jrec *open_rec(struct pf_tx *tx, uint64_t doff)
{
	struct pf_d_jrec *rec = (void *)(tx->buf + sizeof(struct pf_d_lane) + tx->len);

	*rec = (struct pf_d_jrec){ .j_doff = pf_put64(doff) };
	tx->len += sizeof *rec;
	tx->nrec++;
	return rec;
}

/* Most of a block is as it was: libc's memcmp() passes over that in strides, and only where something differs is it
 * looked at line by line. */
#define STRIDE ((size_t)8 * PF_LINE)
_Static_assert(PF_INODE_SIZE % STRIDE == 0 && PF_BLK_SIZE % STRIDE == 0, "objects are whole strides");

static bool stride_same(const uint8_t *a, const uint8_t *b, uint32_t off)
{
	return off % STRIDE == 0 && memcmp(a + off, b + off, STRIDE) == 0;
}

/* Append the lines of @s that differ from the media: a record for each unbroken run of them. */
static int diff(struct pf_tx *tx, const struct shadow *s)
{
	const uint8_t *home = pf_pm_at(tx->fs->pm, s->doff);
	const uint32_t size = pf_md_size(s->type);
	struct pf_d_jrec *rec = NULL;

	for (uint32_t off = 0; off < size; off += PF_LINE) {
		if (stride_same(home, s->obj, off)) {
			rec = NULL;
			off += STRIDE - PF_LINE;
			continue;
		}
		if (memcmp(home + off, s->obj + off, PF_LINE) == 0) {
			rec = NULL;
			continue;
		}
		if (capacity(tx) - tx->len < sizeof *rec + PF_LINE)
			return -EFBIG;
		if (rec == NULL)
			rec = open_rec(tx, s->doff + off);
		memcpy(tx->buf + sizeof(struct pf_d_lane) + tx->len, s->obj + off, PF_LINE);
		tx->len += PF_LINE;
		rec->j_len = pf_put32(pf_get32(rec->j_len) + PF_LINE);
	}
	return 0;
}

/* Seal the shadows and fill the lane's buffer. *fresh: there are new objects. */
static int build(struct pf_tx *tx, bool *fresh)
{
	int err;

	tx->len = 0;
	tx->nrec = 0;
	*fresh = false;
	for (struct shadow *s = tx->head; s != NULL; s = s->next) {
		pf_md_seal(s->type, s->obj);
		if (s->fresh) {
			*fresh = true;
			continue;
		}
		err = diff(tx, s);
		if (err != 0)
			return err;
	}
	return 0;
}

static void seal_lane(struct pf_tx *tx)
{
	struct pf_d_lane *l = (void *)tx->buf;

	*l = (struct pf_d_lane){
		.l_magic = pf_put32(PF_MAGIC_LANE),
		.l_fsid = pf_put64(tx->fs->fsid),
		.l_seq = pf_put64(atomic_fetch_add(&tx->fs->jnl->seq, 1)),
		.l_index = pf_put32(tx->lane),
		.l_nrec = pf_put32(tx->nrec),
		.l_len = pf_put32((uint32_t)tx->len),
	};
	l->l_crc = pf_put32(pf_crc32c_hole(tx->buf, sizeof *l + tx->len, offsetof(struct pf_d_lane, l_crc)));
}

static void write_home(struct pf_tx *tx)
{
	const uint8_t *p = tx->buf + sizeof(struct pf_d_lane), *end = p + tx->len;

	while (p < end) {
		const struct pf_d_jrec *rec = (const void *)p;

		p += sizeof *rec;
		pf_pm_write(tx->fs->pm, pf_get64(rec->j_doff), p, pf_get32(rec->j_len));
		p += pf_get32(rec->j_len);
	}
}

/* One aligned store of 8 bytes, so the lane is either whole or empty. */
static void empty_lane(struct pf_fs *fs, uint32_t lane)
{
	const pf_le64 none = pf_put64(0);

	pf_pm_write(fs->pm, lane_doff(fs, lane) + offsetof(struct pf_d_lane, l_seq), &none, sizeof none);
}

static void stop(struct pf_fs *fs)
{
	if (!atomic_exchange(&fs->jnl->stopped, true))
		pf_fs_fail(fs, PF_FAULT_MEDIUM, "the device failed to make a transaction durable");
}

/* The medium failed before the lane was durable: nothing has happened, and nothing may be found to have. */
static int fail_uncommitted(struct pf_tx *tx)
{
	stop(tx->fs);
	empty_lane(tx->fs, tx->lane);
	(void)pf_pm_drain(tx->fs->pm);
	return -EIO;
}

/*
 * Invariants, in order: a fresh object is durable before the lane that makes it reachable (its checksum vouches for
 * itself alone); the lane is durable before the first changed line goes home; every line is home before the lane is
 * emptied; the lane is empty before a lock is dropped.
 */
static int persist(struct pf_tx *tx, bool fresh)
{
	struct pf_fs *fs = tx->fs;
	struct pf_pm *pm = fs->pm;

	if (fresh) {
		for (struct shadow *s = tx->head; s != NULL; s = s->next)
			if (s->fresh)
				pf_pm_write(pm, s->doff, s->obj, pf_md_size(s->type));
		if (PF_DRAIN(pm, JNL_FRESH) != 0)
			return fail_uncommitted(tx);
	}
	seal_lane(tx);
	pf_pm_write(pm, lane_doff(fs, tx->lane), tx->buf, sizeof(struct pf_d_lane) + tx->len);
	if (PF_DRAIN(pm, JNL_LANE) != 0)
		return fail_uncommitted(tx);

	/* Committed. What fails from here on is repaired by the replay at the next mount. */
	write_home(tx);
	if (PF_DRAIN(pm, JNL_HOME) != 0) {
		stop(fs);
		return 0;
	}
	empty_lane(fs, tx->lane);
	if (PF_DRAIN(pm, JNL_EMPTY) != 0)
		stop(fs);
	return 0;
}

int pf_tx_commit(struct pf_tx *tx)
{
	bool fresh = false;
	int err = 0;

	if (tx->fs->jnl->on_commit != NULL)
		err = tx->fs->jnl->on_commit(tx);
	if (err == 0)
		err = build(tx, &fresh);
	if (err == 0 && atomic_load(&tx->fs->jnl->stopped))
		err = -EIO;
	if (err == 0)
		err = pf_fs_writable(tx->fs);
	if (err == 0 && (tx->nrec > 0 || fresh))
		err = persist(tx, fresh);
	finish(tx, err == 0);
	return err;
}

void pf_tx_abort(struct pf_tx *tx)
{
	finish(tx, false);
}
