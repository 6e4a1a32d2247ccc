/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_aio.c - libaio's system calls. A request's pages are held from before io_submit() until its event stands in
 * the context's ring, which the kernel maps at the context's own address. Owns the contexts that have been submitted
 * to by a process with windows.
 *
 * Which events have come is told by position: `seen` follows the ring's tail, not its head, so it does not matter
 * whether the program collects them by io_getevents() or by itself. No event is missed: the kernel has at most one
 * request fewer than the ring has room for, each call that submits looks before it does, and calls that submit to one
 * context go one at a time.
 *
 * Requests are held while they wait for nothing: of several, those that are held already are submitted before one waits
 * for a truncate. Then the kernel has all that is held, and will finish it: such holds are brief (transient.h).
 *
 * LOCKS: struct sh_aio.submit, over the system call that submits; flights_lock (async.h) within it, for moments: a call
 * that blocks in the kernel keeps nobody from looking.
 */
#include "async.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/syscall.h>

#define AIO_RING_MAGIC 0xa10a10a1U
#define MANY 1024U			/* requests looked at in one go; the kernel may say fewer, too */
#define IOV_LIMIT 1024U

struct aio_ring {			/* fs/aio.c */
	uint32_t id, nr, head;
	_Atomic uint32_t tail;
	uint32_t magic, compat_features, incompat_features, header_length;
	struct io_event io_events[];
};

struct sh_aio {
	struct sh_place place;		/* first */
	struct sh_aio *next;
	uint64_t ctx;
	struct aio_ring *ring;
	uint32_t nr, seen;
	unsigned int users;		/* flights_lock */
	bool gone;
	pthread_mutex_t submit;
	_Atomic uint32_t owner;		/* of it: a handler must not wait for its own thread */
};

static struct sh_aio *contexts;		/* flights_lock */

static void aio_look(struct sh_place *p)
{
	struct sh_aio *a = (struct sh_aio *)p;
	uint32_t tail = atomic_load_explicit(&a->ring->tail, memory_order_acquire);

	for (unsigned int i = 0; a->seen != tail % a->nr && i < a->nr; i++) {
		sh_flight_end(p, a->ring->io_events[a->seen].obj);
		a->seen = (a->seen + 1) % a->nr;
	}
}

static struct sh_aio *find(uint64_t ctx)
{
	struct sh_aio *a = contexts;

	while (a != NULL && a->ctx != ctx)
		a = a->next;
	return a;
}

/* Lock held. */
static void put(struct sh_aio *a)
{
	if (--a->users == 0 && a->gone)
		sh_free(a, sizeof *a);
}

/* A context as the program names it: NULL when it is none, and the kernel shall say so. With a reference. */
static struct sh_aio *get(uint64_t ctx)
{
	struct aio_ring head;
	struct sh_aio *a, *fresh = NULL;
	sh_sigs old;

	sh_flights_lock(&old);
	a = find(ctx);
	if (a != NULL)
		a->users++;
	sh_flights_unlock(&old);
	if (a != NULL || sh_peek(&head, sh_ptr(ctx), sizeof head) || head.magic != AIO_RING_MAGIC || head.nr < 2 ||
	    head.incompat_features != 0 || head.header_length != sizeof head)
		return a;
	fresh = sh_alloc(sizeof *fresh);
	if (fresh == NULL)
		return NULL;
	sh_flights_lock(&old);
	a = find(ctx);
	if (a == NULL) {
		a = fresh;
		fresh = NULL;
		a->ctx = ctx;
		a->ring = sh_ptr(ctx);
		a->nr = head.nr;
		a->seen = atomic_load(&a->ring->tail) % a->nr;
		a->place.look = aio_look;
		pthread_mutex_init(&a->submit, NULL);
		a->next = contexts;
		contexts = a;
		sh_place_add(&a->place);
	}
	a->users++;
	sh_flights_unlock(&old);
	sh_free(fresh, sizeof *fresh);
	return a;
}

/* ---- what a request is about ---- */

struct aim {
	struct iovec *v, one;
	size_t n;
	unsigned int flags;
	void *room;
	size_t bytes;
};

/* 1: memory to be held; 0: nothing; what the kernel would not like it shall say. */
static int aim_at(const struct iocb *cb, struct aim *m)
{
	bool vec = cb->aio_lio_opcode == IOCB_CMD_PREADV || cb->aio_lio_opcode == IOCB_CMD_PWRITEV;

	*m = (struct aim){ .one = { sh_ptr(cb->aio_buf), cb->aio_nbytes }, .v = &m->one, .n = 1 };
	switch (cb->aio_lio_opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PREADV:
		m->flags = SH_HOLD_WRITE;
		break;
	case IOCB_CMD_PWRITE:
	case IOCB_CMD_PWRITEV:
		break;
	default:
		return 0;
	}
	if (cb->aio_rw_flags & RWF_NOWAIT)
		m->flags |= SH_HOLD_NOWAIT;
	if (vec) {
		if (cb->aio_nbytes == 0 || cb->aio_nbytes > IOV_LIMIT)
			return 0;
		m->bytes = cb->aio_nbytes * sizeof *m->v;
		m->n = cb->aio_nbytes;
		m->v = m->room = sh_alloc(m->bytes);
		if (m->v == NULL)
			return -ENOMEM;
		if (sh_iov_fetch(sh_ptr(cb->aio_buf), m->n, m->v))
			return 0;
	}
	return sh_iov_touches(m->v, m->n);
}

/* ---- submission ---- */

struct swap {				/* an iocb that the kernel reads otherwise than it stands there */
	struct iocb *at, was;
};

struct batch {
	struct sh_aio *a;
	struct iocb **cb;		/* ours, of the program's */
	struct sh_flight **fl;
	struct swap *swaps;
	struct iovec none;		/* for vectors that there is no holding of */
	size_t n, nswap;
	bool turn;			/* a truncate has come first: submit what there is, then wait */
};

/* For the time of the call, which copies it. */
static void instead(struct batch *b, struct iocb *cb, const struct iocb *was, uint16_t opcode, void *p, uint64_t n)
{
	b->swaps[b->nswap++] = (struct swap){ cb, *was };
	cb->aio_lio_opcode = opcode;
	cb->aio_buf = sh_addr(p);
	cb->aio_nbytes = n;
}

/*
 * A request whose pages cannot be had is given no memory: its event says EFAULT, as if the kernel had found out. (An
 * array of buffers that is no memory would be io_submit()'s failure.)
 */
static void spoil(struct batch *b, struct iocb *cb, const struct iocb *was)
{
	bool vec = was->aio_lio_opcode == IOCB_CMD_PREADV || was->aio_lio_opcode == IOCB_CMD_PWRITEV;

	b->none = (struct iovec){ sh_no_memory(), SH_PAGE };
	if (vec)
		instead(b, cb, was, was->aio_lio_opcode, &b->none, 1);
	else
		instead(b, cb, was, was->aio_lio_opcode, sh_no_memory(), pf_min64(was->aio_nbytes, SH_PAGE));
}

/*
 * The i-th request. 1: it is in the air; 0: the kernel would refuse it, and all after it; or why it has to wait. Only
 * with @first, when nothing is in the air that the kernel does not have, a truncate is waited for.
 */
static int take_off(struct batch *b, size_t i, bool first)
{
	struct sh_flight *f;
	struct iocb cb;
	struct aim m;
	sh_sigs old;
	int r;

	if (sh_peek(&cb, b->cb[i], sizeof cb))
		return 0;
	f = sh_alloc(sizeof *f);
	if (f == NULL)
		return -EAGAIN;
	f->key = sh_addr(b->cb[i]);
	f->brief = true;
	r = aim_at(&cb, &m);
	if (r > 0) {
		b->turn = !first && !(m.flags & SH_HOLD_NOWAIT);
		r = sh_flight_pack(f, m.v, m.n, m.flags | SH_HOLD_BRIEF | (first ? 0 : SH_HOLD_NOWAIT),
				   sh_fd_kind((int)cb.aio_fildes), PF_API_LIBAIO);
		b->turn = b->turn && r == -EAGAIN;
	}
	sh_free(m.room, m.bytes);
	if (f->copy != NULL)
		instead(b, b->cb[i], &cb, IOCB_CMD_PWRITE, f->copy, f->bytes);
	if (r == -EFAULT) {
		spoil(b, b->cb[i], &cb);
		r = 0;
	}
	if (r < 0) {
		sh_free(f, sizeof *f);
		return r == -EINTR ? r : -EAGAIN;
	}
	sh_flights_lock(&old);
	sh_flight_begin(&b->a->place, f);
	sh_flights_unlock(&old);
	b->fl[i] = f;
	return 1;
}

static long go(struct batch *b, long from, long n, uint64_t ctx)
{
	sh_sigs old;
	long r;

	pthread_mutex_lock(&b->a->submit);
	atomic_store(&b->a->owner, (uint32_t)sh_sys(SYS_gettid));
	sh_flights_lock(&old);
	aio_look(&b->a->place);
	sh_flights_unlock(&old);
	r = sh_sys(SYS_io_submit, ctx, n, b->cb + from);
	atomic_store(&b->a->owner, 0);
	pthread_mutex_unlock(&b->a->submit);
	return r;
}

/* Of those from @from on. How many the kernel has taken, or why it has taken none. */
static long submit(struct batch *b, long from, long n, uint64_t ctx)
{
	long i = from, r = 0;
	sh_sigs old;

	b->turn = false;
	for (int ok = 1; i < n; i++) {
		ok = take_off(b, (size_t)i, i == from);
		if (ok <= 0) {
			r = ok;
			break;
		}
	}
	/* A request that could not be read goes along, for the kernel to say so. */
	n = r < 0 || i == n ? i : i + 1;
	if (n > from)
		r = go(b, from, n - from, ctx);
	while (b->nswap > 0) {
		b->nswap--;
		*b->swaps[b->nswap].at = b->swaps[b->nswap].was;
	}
	sh_flights_lock(&old);
	for (long k = from + (r > 0 ? r : 0); k < i; k++)
		sh_flight_none(&b->a->place, b->fl[k]);
	aio_look(&b->a->place);
	sh_flights_unlock(&old);
	return r;
}

static long submit_all(struct batch *b, long n, uint64_t ctx)
{
	long done = 0, r;

	do {
		r = submit(b, done, n, ctx);
		done += r > 0 ? r : 0;
	} while (b->turn && r > 0);
	return done > 0 ? done : r;
}

static void release(struct sh_aio *a)
{
	sh_sigs old;

	sh_flights_lock(&old);
	put(a);
	sh_flights_unlock(&old);
}

long sh_aio_submit(const long *arg)
{
	struct batch b = { 0 };
	size_t n = arg[1] > 0 ? (size_t)pf_min64((uint64_t)arg[1], MANY) : 0, bytes;
	uint32_t tid;
	char *room;
	long r;

	if (n == 0 || atomic_load(&sh.nvma) == 0 || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		goto real;
	tid = (uint32_t)sh_sys(SYS_gettid);
	b.a = get((uint64_t)arg[0]);
	if (b.a == NULL)
		goto real;
	bytes = n * (sizeof *b.cb + sizeof *b.fl + sizeof *b.swaps);
	room = atomic_load(&b.a->owner) == tid ? NULL : sh_alloc(bytes);
	if (room == NULL) {
		/* In a handler on top of ourselves, too: nobody is prepared for that. */
		release(b.a);
		return -EAGAIN;
	}
	b.swaps = (struct swap *)(void *)room;
	b.cb = (struct iocb **)(void *)(b.swaps + n);
	b.fl = (struct sh_flight **)(void *)(b.cb + n);
	if (sh_peek(b.cb, sh_ptr((uint64_t)arg[2]), n * sizeof *b.cb)) {
		/* As many as there are. */
		for (size_t i = 0; i < n; i++) {
			if (sh_peek(&b.cb[i], (struct iocb **)sh_ptr((uint64_t)arg[2]) + i, sizeof *b.cb))
				n = i;
		}
	}
	if (n == 0) {
		sh_free(room, bytes);
		release(b.a);
		goto real;
	}
	r = submit_all(&b, (long)n, (uint64_t)arg[0]);
	release(b.a);
	sh_free(room, bytes);
	return r;
real:
	return sh_sys(SYS_io_submit, arg[0], arg[1], arg[2]);
}

/* ---- the rest ---- */

static void look_at(uint64_t ctx)
{
	struct sh_aio *a;
	sh_sigs old;

	if (contexts == NULL)
		return;
	sh_flights_lock(&old);
	a = find(ctx);
	if (a != NULL)
		aio_look(&a->place);
	sh_flights_unlock(&old);
}

/* io_getevents, io_pgetevents, io_cancel: before, for what is taken out may be overwritten. */
long sh_aio_events(long nr, const long *arg)
{
	long r;

	look_at((uint64_t)arg[0]);
	r = sh_sys(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	look_at((uint64_t)arg[0]);
	return r;
}

/*
 * The kernel takes the ring away at once and waits for the requests, so nobody of us may look any more, and then all
 * flights have ended. What is no context stays as it is.
 */
long sh_aio_destroy(const long *arg)
{
	struct sh_aio *a = NULL, **at;
	struct sh_place *p = NULL;
	sh_sigs old;
	long r;

	if (contexts == NULL)
		return sh_sys(SYS_io_destroy, arg[0]);
	sh_flights_lock(&old);
	for (at = &contexts; *at != NULL; at = &(*at)->next) {
		if ((*at)->ctx != (uint64_t)arg[0])
			continue;
		a = *at;
		*at = a->next;
		a->users++;
		a->gone = true;
		p = &a->place;
		break;
	}
	if (p != NULL) {
		aio_look(p);
		sh_place_del(p);
	}
	sh_flights_unlock(&old);
	r = sh_sys(SYS_io_destroy, arg[0]);
	if (a != NULL) {
		sh_flights_lock(&old);
		sh_flights_end_all(p);
		put(a);
		sh_flights_unlock(&old);
	}
	return r;
}

void sh_aio_forget(void)
{
	contexts = NULL;
}
