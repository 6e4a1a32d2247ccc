/* SPDX-License-Identifier: BSD-3-Clause */
/* fakesess.c - see fakesess.h. */
#include "unit/fakesess.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "unit/space_env.h"

static _Atomic unsigned int turns;

struct pf_fs *fk_open(void)
{
	struct pf_fs *fs = space_open(UINT64_C(64) << 20);

	fs->opts.window = UINT64_C(16) * FK_CHUNK;
	fs->opts.revoke_timeout_ms = FK_NEVER_MS;
	if (pf_lay_init(fs) != 0)
		abort();
	return fs;
}

void fk_close(struct pf_fs *fs)
{
	pf_lay_fini(fs);
	space_close(fs);
}

void fk_file_init(struct fk_file *f, struct pf_fs *fs, uint64_t ino)
{
	f->fs = fs;
	atomic_init(&f->refs, 0);
	pf_lobj_init(&f->lobj, ino);
}

void fk_file_fini(struct fk_file *f)
{
	/* Threads that ended a break, or heard a kick, may have the file in hand for a moment longer. */
	for (unsigned int i = 0; i < FK_PATIENCE_S * 1000 && atomic_load(&f->refs) != 0; i++)
		fk_sleep_ms(1);
	CU_ASSERT_EQUAL(atomic_load(&f->refs), 0);
	pf_lobj_fini(&f->lobj);
}

static void put_file(struct pf_fs *fs, void *inode)
{
	struct fk_file *f = inode;

	CU_ASSERT_PTR_EQUAL(f->fs, fs);
	atomic_fetch_sub(&f->refs, 1);
}

/* Sessions */

static void receive(void *arg, const struct iovec *iov, int n)
{
	struct fk_sess *k = arg;
	const struct fuse_out_header *h = iov[0].iov_base;
	const struct pf_p_inval *in = iov[1].iov_base;

	CU_ASSERT_EQUAL(n, 2);
	if (h->error == PF_P_NOTIFY_TRACE)
		return;
	pthread_mutex_lock(&k->lock);
	if (h->error == PF_P_NOTIFY_LEASE || h->error == PF_P_NOTIFY_REVOKE)
		k->void_when_told = pf_dma_gone(&k->s->led.slot[0], 0, PF_CHUNK_BLKS);
	if (h->error == PF_P_NOTIFY_LEASE) {
		memcpy(&k->event, iov[1].iov_base, sizeof k->event);
		k->nevent++;
	} else if (h->error == PF_P_NOTIFY_REVOKE) {
		memcpy(&k->revoke, iov[1].iov_base, sizeof k->revoke);
		k->nrevoke++;
	} else if (h->error != PF_P_NOTIFY_INVAL) {
		CU_FAIL("an unknown notify");
	} else if (k->nmsg < PF_ARRAY_LEN(k->msg))
		k->msg[k->nmsg++] =
			(struct fk_msg){ in->in_id, in->in_ino, in->in_foff, in->in_len, in->in_flags, in->in_slot };
	pthread_mutex_unlock(&k->lock);
}

struct fk_sess *fk_sess_new(struct pf_fs *fs, pid_t pid)
{
	struct fk_sess *k = calloc(1, sizeof *k);

	if (!k)
		abort();
	k->fs = fs;
	pthread_mutex_init(&k->lock, NULL);
	if (pf_sess_create(fs, &(struct pf_sess_who){ pid, 0, "fake" }, receive, NULL, k, &k->s) != 0)
		abort();
	return k;
}

void fk_sess_free(struct fk_sess *k)
{
	pf_sess_gone(k->s);
	pf_sess_put(k->s);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

uint64_t fk_attach(struct fk_sess *k, struct fk_file *f)
{
	uint64_t fh = 0;

	atomic_fetch_add(&f->refs, 1);
	CU_ASSERT_EQUAL(pf_sess_attach(k->s, &f->lobj, f, put_file, true, "/some/\"file\"", &fh), 0);
	return fh;
}

struct gate { struct pf_gate_wait w; sem_t sem; int err; };

static void gate_run(struct pf_gate_wait *w, int err)
{
	struct gate *g = PF_CONTAINER_OF(w, struct gate, w);

	g->err = err;
	sem_post(&g->sem);
}

/* Enter the gate, as a thread that may wait. */
static int enter(struct pf_share *sh)
{
	struct gate g = { .w = { .share = sh, .unique = 1, .w_run = gate_run } };

	sem_init(&g.sem, 0, 0);
	if (pf_gate_enter(sh->obj, &g.w) != 0)
		while (sem_wait(&g.sem) != 0)
			;
	sem_destroy(&g.sem);
	return g.err;
}

int fk_grant(struct fk_sess *k, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t dblk)
{
	struct pf_gext e = { 0, (uint32_t)PF_CHUNK_BLKS, dblk };
	struct pf_share *sh;
	uint32_t word;
	bool write;
	int err;

	err = pf_sess_handle(k->s, fh, &sh, &write);
	if (err != 0)
		return err;
	err = enter(sh);
	if (err == 0) {
		err = pf_win_grant(sh, slot, foff, &e, dblk != 0, &word);
		pf_gate_exit(k->fs, sh->obj);
	}
	pf_share_unref(k->fs, sh);
	return err;
}

unsigned int fk_unacked(struct fk_sess *k)
{
	unsigned int n;

	pthread_mutex_lock(&k->lock);
	n = k->nmsg - k->acked;
	pthread_mutex_unlock(&k->lock);
	return n;
}

unsigned int fk_ack(struct fk_sess *k)
{
	unsigned int n = 0;
	uint64_t id;

	while (fk_unacked(k) != 0) {
		pthread_mutex_lock(&k->lock);
		id = k->msg[k->acked++].id;
		if (k->acked == PF_ARRAY_LEN(k->msg))
			k->acked = k->nmsg = 0;
		pthread_mutex_unlock(&k->lock);
		pf_sess_ack(k->s, id);
		n++;
	}
	return n;
}

/* The client's half of the handshake */

static void add(struct pf_l_slot *s, unsigned int first, unsigned int n, uint32_t by)
{
	unsigned int i;

	if (n == PF_CHUNK_BLKS) {
		atomic_fetch_add(&s->ls_whole, by);
		return;
	}
	atomic_fetch_add(&s->ls_pins, by);
	for (i = first; i < first + n; i++)
		atomic_fetch_add(&s->ls_page[i], by);
}

bool fk_pin(struct fk_sess *k, uint32_t slot, unsigned int first, unsigned int n)
{
	struct pf_l_slot *s = &k->s->led.slot[slot];
	uint32_t w = atomic_load(&s->ls_word);

	if (w & (PF_SLOT_FROZEN | PF_SLOT_STALE))
		return false;
	add(s, first, n, 1);
	if (atomic_load(&s->ls_word) == w)
		return true;
	fk_unpin(k, slot, first, n);
	return false;
}

void fk_unpin(struct fk_sess *k, uint32_t slot, unsigned int first, unsigned int n)
{
	struct pf_l_slot *s = &k->s->led.slot[slot];

	add(s, first, n, UINT32_MAX);
	if (atomic_load(&s->ls_word) & PF_SLOT_FROZEN)
		pf_sess_kick(k->s, slot);
}

int fk_pin_as(struct fk_sess *k, uint64_t fh, uint32_t slot, unsigned int first, unsigned int n, bool brief,
	      uint64_t *cut)
{
	struct pf_share *sh;
	bool write;
	int err;

	err = pf_sess_handle(k->s, fh, &sh, &write);
	if (err != 0)
		return err;
	err = enter(sh);
	if (err == 0) {
		err = pf_win_pin(sh, slot, first, n, false, brief, cut);
		pf_gate_exit(k->fs, sh->obj);
	}
	pf_share_unref(k->fs, sh);
	return err;
}

int fk_pin_slow(struct fk_sess *k, uint64_t fh, uint32_t slot, unsigned int first, unsigned int n, uint64_t *cut)
{
	return fk_pin_as(k, fh, slot, first, n, false, cut);
}

/* Breaks */

static int brk_prepare(struct pf_brk *b)
{
	struct fk_brk *k = PF_CONTAINER_OF(b, struct fk_brk, b);

	CU_ASSERT(pf_rank_none());
	atomic_fetch_add(&k->prepares, 1);
	return k->prepare_err;
}

static int brk_park(struct pf_brk *b)
{
	struct fk_brk *k = PF_CONTAINER_OF(b, struct fk_brk, b);

	CU_ASSERT(pf_rank_none());
	CU_ASSERT(b->id != 0);
	CU_ASSERT_EQUAL(atomic_load(&k->works), 0);
	atomic_fetch_add(&k->parks, 1);
	return k->park_err;
}

static int brk_work(struct pf_brk *b)
{
	struct fk_brk *k = PF_CONTAINER_OF(b, struct fk_brk, b);

	CU_ASSERT(pf_rank_none());
	k->turn = atomic_fetch_add(&turns, 1);
	if (k->hook)
		k->hook(k);
	atomic_fetch_add(&k->works, 1);
	return k->work_err;
}

static void brk_done(struct pf_brk *b, int err)
{
	struct fk_brk *k = PF_CONTAINER_OF(b, struct fk_brk, b);
	struct fk_file *f = PF_CONTAINER_OF(b->obj, struct fk_file, lobj);

	CU_ASSERT(pf_rank_none());
	CU_ASSERT_EQUAL(atomic_fetch_add(&k->ended, 1), 0);
	k->err = err;
	atomic_fetch_sub(&f->refs, 1);
	sem_post(&k->done);
}

static void brk_init(struct fk_brk *k, struct fk_file *f, enum pf_brk_kind kind, uint64_t foff, uint64_t len)
{
	memset(k, 0, sizeof *k);
	sem_init(&k->done, 0, 0);
	k->b = (struct pf_brk){
		.obj = &f->lobj,
		.kind = kind,
		.policy = f->fs->opts.policy,
		.foff = foff,
		.len = len,
		.pin_foff = foff,
		.pin_len = len,
		.what = kind == PF_BRK_CUT ? "truncate" : "write",
		.pid = 1,
		.tid = 1,
		.b_prepare = brk_prepare,
		.b_park = brk_park,
		.b_work = brk_work,
		.b_done = brk_done,
	};
}

void fk_cut(struct fk_brk *k, struct fk_file *f, uint64_t foff, uint64_t len)
{
	brk_init(k, f, PF_BRK_CUT, foff, len);
}

void fk_map(struct fk_brk *k, struct fk_file *f, uint64_t foff, uint64_t len)
{
	brk_init(k, f, PF_BRK_MAP, foff, len);
}

void fk_submit(struct fk_brk *k)
{
	struct fk_file *f = PF_CONTAINER_OF(k->b.obj, struct fk_file, lobj);

	atomic_fetch_add(&f->refs, 1);
	pf_lay_submit(f->fs, &k->b);
}

bool fk_ended(struct fk_brk *k)
{
	return atomic_load(&k->ended) != 0;
}

bool fk_woken(sem_t *sem)
{
	struct timespec ts;
	int rc;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += FK_PATIENCE_S;
	while ((rc = sem_timedwait(sem, &ts)) != 0 && errno == EINTR)
		;
	return rc == 0;
}

int fk_end(struct fk_brk *k)
{
	if (!fk_woken(&k->done))
		return 1;
	sem_destroy(&k->done);
	return k->err;
}

void fk_sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&ts, NULL);
}
