/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_uring.c - io_uring's system calls, whoever makes them (site.h). The pages of a request are held from before
 * io_uring_enter() until the completion that ends it stands in the queue (ring.c). Requests are read from the
 * submission queue before the kernel reads them.
 *
 * ALL requests of a process with windows are flights, also those that hold nothing, for a completion says no more than
 * user_data, which may be the same for all.
 *
 * What is not done as the program says, once it has windows:
 *
 *   IORING_SETUP_SQPOLL        a ring without it: the kernel's thread would take requests that nobody has seen. The
 *                              program is told that the thread sleeps, always, so it calls io_uring_enter().
 *   NO_MMAP, REGISTERED_FD_ONLY and flags of later kernels: EINVAL, as kernels without them say.
 *
 * WHICH HOLDS ARE BRIEF (transient.h). Transfers with files, when nothing stands between them and their end: no link,
 * no drain, and a completion that is seen (sh_ring_sees()). Of several requests, those that are held are submitted
 * before one waits for a truncate, so that the kernel has all that is held; but a chain of links goes as a whole, or
 * it would be none any more.
 *
 * LOCKS: sh_ring.submit over one submission, its holds and its system call, which does not wait for completions;
 * flights_lock for the rest.
 */
#include "ring.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "longterm.h"
#include "site.h"

#define IOV_LIMIT 1024U
#define MANY 4096U			/* requests in one go */

static atomic_bool told;		/* of a ring that is not followed */

/* ---- setup ---- */

long sh_uring_setup(const long *arg)
{
	struct io_uring_params p, *user = sh_ptr((uint64_t)arg[1]);
	bool windows = atomic_load(&sh.nvma) != 0;
	uint32_t flags;
	long fd;

	if ((pid_t)sh_sys(SYS_getpid) != sh.pid || sh_peek(&p, user, sizeof p))
		return sh_sys(SYS_io_uring_setup, arg[0], arg[1]);
	if (!windows) {
		fd = sh_sys(SYS_io_uring_setup, arg[0], user);
		if (fd >= 0)
			sh_ring_new((int)fd, user, false);
		return fd;
	}
	sh_site_look();
	flags = p.flags;
	if (flags & ~SETUP_KNOWN)
		return -EINVAL;
	if (flags & IORING_SETUP_SQPOLL) {
		/* As the kernel. Without its thread nobody would run what they leave undone. */
		if (flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN))
			return -EINVAL;
		p.flags &= ~(IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF);
		p.sq_thread_cpu = 0;
		p.sq_thread_idle = 0;
	}
	fd = sh_sys(SYS_io_uring_setup, arg[0], &p);
	if (fd < 0)
		return fd;
	sh_ring_new((int)fd, &p, flags != p.flags);
	p.flags = flags | (p.flags & IORING_SETUP_CLAMP);
	*user = p;
	if (flags & IORING_SETUP_SQPOLL) {
		struct sh_ring *r = sh_ring_get(fd, false);
		sh_sigs old;

		sh_flights_lock(&old);
		if (r != NULL && r->sq == NULL && sh_ring_map(r, (int)fd))
			atomic_fetch_or(sh_ring_word(r->sq, p.sq_off.flags), IORING_SQ_NEED_WAKEUP);
		sh_flights_unlock(&old);
		if (r != NULL)
			sh_ring_put(r);
	}
	return fd;
}

/* ---- requests ---- */

struct swap {
	struct io_uring_sqe *at;
	uint64_t addr;
	uint32_t len;
	uint8_t opcode;
};

struct batch {
	struct sh_ring *r;
	struct sh_ring_name name;
	struct sh_flight **fl;		/* NULL where there will be no completion */
	struct swap *swaps;
	struct sh_flight *carry;	/* of links without a completion of their own: end with what follows them */
	struct iovec none;
	struct msghdr no_msg;
	size_t nswap;
	uint32_t chain;			/* where the links begin that the request at hand belongs to: itself, mostly */
	bool turn;			/* a truncate has come first: submit what is before the chain, then wait */
};

struct aim {
	struct iovec *v, one;
	size_t n;
	unsigned int flags;
	void *room;
	size_t bytes;
};

static int vector(struct aim *m, const void *user, uint64_t n)
{
	if (n == 0 || n > IOV_LIMIT)
		return 0;
	m->bytes = n * sizeof *m->v;
	m->n = n;
	m->v = m->room = sh_alloc(m->bytes);
	if (m->v == NULL)
		return -ENOMEM;
	return sh_iov_fetch(user, n, m->v) ? 0 : 1;
}

/* 1: memory that the kernel works on after the call; 0: none, or what the kernel will not like. */
static int aim_at(const struct io_uring_sqe *s, struct aim *m)
{
	struct msghdr h;
	int r = 1;

	*m = (struct aim){ .one = { sh_ptr(s->addr), s->len }, .v = &m->one, .n = 1 };
	switch (s->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
		m->flags = SH_HOLD_WRITE;
		break;
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_SEND_ZC:
	case IORING_OP_SENDMSG_ZC:
		break;
	default:
		return 0;	/* copies, or works on nothing */
	}
	if (s->flags & IOSQE_BUFFER_SELECT)
		return 0;
	if (s->opcode == IORING_OP_READV || s->opcode == IORING_OP_WRITEV) {
		r = vector(m, sh_ptr(s->addr), s->len);
	} else if (s->opcode == IORING_OP_SENDMSG_ZC) {
		r = sh_peek(&h, sh_ptr(s->addr), sizeof h) ? 0 : vector(m, h.msg_iov, h.msg_iovlen);
	}
	if (r <= 0)
		return r;
	if (s->opcode != IORING_OP_SEND_ZC && s->opcode != IORING_OP_SENDMSG_ZC && (s->rw_flags & RWF_NOWAIT))
		m->flags |= SH_HOLD_NOWAIT;
	if (!sh_iov_touches(m->v, m->n))
		return 0;
	return 1;
}

/* Of a file that is registered with the ring nothing is known. Pages of a registered buffer are the kernel's, whatever
 * the file is like, and until then also when they are unregistered meanwhile (Linux 6.13). */
static enum sh_fd_kind kind_of(const struct io_uring_sqe *s)
{
	if (s->opcode == IORING_OP_SEND_ZC || s->opcode == IORING_OP_SENDMSG_ZC || (s->flags & IOSQE_FIXED_FILE) ||
	    s->opcode == IORING_OP_READ_FIXED || s->opcode == IORING_OP_WRITE_FIXED)
		return SH_FD_PINS;
	return sh_fd_kind(s->fd);
}

#define LINKED (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)

/* A transfer that the kernel begins when it gets it. */
static bool is_brief(const struct batch *b, uint32_t i, const struct io_uring_sqe *s)
{
	return b->chain == i && !(s->flags & (LINKED | IOSQE_IO_DRAIN | IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS)) &&
	       s->opcode != IORING_OP_SEND_ZC && s->opcode != IORING_OP_SENDMSG_ZC && sh_fd_kind(s->fd) != SH_FD_COPIES;
}

/* Until the kernel has taken it. */
static void instead(struct batch *b, struct io_uring_sqe *s, uint8_t opcode, const void *p, uint32_t n)
{
	b->swaps[b->nswap++] = (struct swap){ s, s->addr, s->len, s->opcode };
	s->opcode = opcode;
	s->addr = sh_addr(p);
	s->len = n;
}

/* No memory, in place of what cannot be held: see sh_no_memory(). */
static void spoil(struct batch *b, struct io_uring_sqe *s)
{
	b->none = (struct iovec){ sh_no_memory(), SH_PAGE };
	b->no_msg = (struct msghdr){ .msg_iov = &b->none, .msg_iovlen = 1 };
	if (s->opcode == IORING_OP_READV || s->opcode == IORING_OP_WRITEV)
		instead(b, s, s->opcode, &b->none, 1);
	else if (s->opcode == IORING_OP_SENDMSG_ZC)
		instead(b, s, s->opcode, &b->no_msg, s->len);
	else
		instead(b, s, s->opcode, sh_no_memory(), (uint32_t)pf_min64(s->len, SH_PAGE));
}

/* The i-th request. 0: in the air. */
static int take_off(struct batch *b, uint32_t i, struct io_uring_sqe *live)
{
	struct io_uring_sqe s = *live;
	struct sh_flight *f = sh_alloc(sizeof *f);
	struct aim m;
	sh_sigs old;
	int r;

	if (f == NULL)
		return -EAGAIN;
	f->key = s.user_data;
	r = aim_at(&s, &m);
	if (r > 0) {
		b->turn = b->chain > 0 && !(m.flags & SH_HOLD_NOWAIT);
		f->brief = is_brief(b, i, &s);
		m.flags |= (b->chain > 0 ? SH_HOLD_NOWAIT : 0) | (f->brief ? SH_HOLD_BRIEF : 0);
		r = sh_flight_pack(f, m.v, m.n, m.flags, kind_of(&s), PF_API_URING);
		b->turn = b->turn && r == -EAGAIN;
	}
	sh_free(m.room, m.bytes);
	if (f->copy != NULL)
		instead(b, live, IORING_OP_WRITE, f->copy, (uint32_t)f->bytes);
	if (r == -EFAULT) {
		spoil(b, live);
		r = 0;
	}
	if (r < 0) {
		sh_free(f, sizeof *f);
		return r == -EINTR ? r : -EAGAIN;
	}
	if (f->hold != NULL)
		sh_ring_claim(b->r, b->name, f->hold);
	sh_flights_lock(&old);
	if (s.flags & IOSQE_IO_DRAIN)
		b->r->drained = true;
	if (s.flags & IOSQE_CQE_SKIP_SUCCESS)
		b->r->uncounted = true;
	else
		b->r->due++;
	if (!sh_ring_sees(b->r) && f->brief) {
		sh_hold_not_brief(f->hold);
		f->brief = false;
	}
	if ((s.flags & IOSQE_CQE_SKIP_SUCCESS) && (s.flags & LINKED)) {
		f->with = b->carry;
		b->carry = f;
	} else {
		f->with = b->carry;
		b->carry = NULL;
		sh_flight_begin(&b->r->place, f);
		b->fl[i] = f;
	}
	sh_flights_unlock(&old);
	return 0;
}

static struct io_uring_sqe *sqe_at(const struct sh_ring *r, uint32_t i)
{
	const struct io_uring_params *p = &r->par;
	uint32_t k = i & (p->sq_entries - 1);

	if (!(p->flags & SETUP_NO_SQARRAY))
		k = sh_ring_at(r->sq, p->sq_off.array + k * (uint32_t)sizeof(uint32_t));
	if (k >= p->sq_entries)
		return NULL;		/* the kernel drops it */
	return (struct io_uring_sqe *)(void *)(r->sqe + k * sizeof(struct io_uring_sqe) *
					       (p->flags & IORING_SETUP_SQE128 ? 2 : 1));
}

/* A chain of links in which nobody has a completion: with the ring, or when the last of them fails. */
static void chain_ends(struct batch *b, uint32_t n)
{
	sh_sigs old;

	sh_flights_lock(&old);
	sh_flight_begin(&b->r->place, b->carry);
	sh_flights_unlock(&old);
	b->fl[n - 1] = b->carry;
	b->carry = NULL;
}

/* Back to the beginning of the chain: the kernel gets nothing of it. */
static void take_back(struct batch *b, uint32_t i)
{
	sh_sigs old;

	if (b->carry != NULL)
		chain_ends(b, i);
	sh_flights_lock(&old);
	for (uint32_t k = b->chain; k < i; k++) {
		if (b->fl[k] != NULL) {
			sh_flight_none(&b->r->place, b->fl[k]);
			b->r->due -= b->r->due > 0;
		}
	}
	sh_flights_unlock(&old);
}

/* Up to @n of the requests in the queue. How many there were, or why none could be begun. */
static long submit(struct batch *b, uint32_t n, long fd, uint32_t flags)
{
	struct sh_ring *r = b->r;
	uint32_t head = sh_ring_at(r->sq, r->par.sq_off.head), i;
	struct io_uring_sqe *s;
	bool linked = false;
	sh_sigs old;
	long got = 0;
	int err = 0;

	b->chain = 0;
	b->turn = false;
	for (i = 0; i < n && !err; i++) {
		b->fl[i] = NULL;
		s = sqe_at(r, head + i);
		b->chain = linked ? b->chain : i;
		linked = s != NULL && (s->flags & LINKED) != 0;
		if (s != NULL)
			err = take_off(b, i, s);
	}
	if (err)
		i--;
	if (b->turn) {
		take_back(b, i);
		i = b->chain;
	}
	if (b->carry != NULL)
		chain_ends(b, i);
	if (i > 0 || !err)
		got = sh_sys(SYS_io_uring_enter, fd, i, 0, flags & IORING_ENTER_REGISTERED_RING, NULL, 0);
	while (b->nswap > 0) {
		const struct swap *w = &b->swaps[--b->nswap];

		w->at->addr = w->addr;
		w->at->len = w->len;
		w->at->opcode = w->opcode;
	}
	sh_flights_lock(&old);
	for (uint32_t k = got > 0 ? (uint32_t)got : 0; k < i; k++) {
		if (b->fl[k] != NULL) {
			sh_flight_none(&r->place, b->fl[k]);
			r->due -= r->due > 0;
		}
	}
	if (got > 0)
		r->head += (uint32_t)got;
	sh_ring_look(&r->place);
	sh_flights_unlock(&old);
	return got == 0 && err ? err : got;
}

/* From the first submission on that is looked at. Requests from before are somebody's whom nobody knows. Lock held. */

static long submit_some(struct sh_ring *r, uint32_t n, long fd, uint32_t flags)
{
	struct batch b = { .r = r, .name = { fd, (flags & IORING_ENTER_REGISTERED_RING) != 0 } };
	uint32_t ready;
	size_t bytes;
	char *room;
	long got = 0, part;

	if (atomic_load(&r->owner) == (uint32_t)sh_sys(SYS_gettid))
		return -EBUSY;		/* a handler on top of ourselves */
	pthread_mutex_lock(&r->submit);
	atomic_store(&r->owner, (uint32_t)sh_sys(SYS_gettid));
	ready = sh_ring_at(r->sq, r->par.sq_off.tail) - sh_ring_at(r->sq, r->par.sq_off.head);
	n = (uint32_t)pf_min64(pf_min64(n, ready), MANY);
	bytes = (n + 1) * (sizeof *b.fl + sizeof *b.swaps);
	room = sh_alloc(bytes);
	if (room == NULL) {
		got = -EAGAIN;
	} else {
		b.swaps = (struct swap *)(void *)room;
		b.fl = (struct sh_flight **)(void *)(b.swaps + n + 1);
		do {
			part = submit(&b, n - (uint32_t)got, fd, flags);
			got += part > 0 ? part : 0;
		} while (b.turn && part > 0);
		got = got > 0 ? got : part;
		sh_free(room, bytes);
	}
	atomic_store(&r->owner, 0);
	pthread_mutex_unlock(&r->submit);
	return got;
}

static void look(struct sh_ring *r)
{
	sh_sigs old;

	sh_flights_lock(&old);
	sh_ring_look(&r->place);
	sh_flights_unlock(&old);
}

long sh_uring_enter(const long *arg)
{
	uint32_t n = (uint32_t)arg[1], flags = (uint32_t)arg[3];
	bool by_id = (flags & IORING_ENTER_REGISTERED_RING) != 0, ok;
	long got = 0, waited;
	struct sh_ring *r;
	sh_sigs old;

	if (atomic_load(&sh.nvma) == 0 && atomic_load(&sh_nrings) == 0)
		goto real;
	if ((pid_t)sh_sys(SYS_getpid) != sh.pid)
		goto real;
	r = sh_ring_get(arg[0], by_id);
	if (r == NULL || (!r->thread && !r->followed && atomic_load(&sh.nvma) == 0)) {
		if (r == NULL && atomic_load(&sh.nvma) != 0 && !atomic_exchange(&told, true))
			sh_log(SH_WARN, "io_uring: descriptor %ld is no known ring: its transfers hold no pages",
			       arg[0]);
		if (r != NULL)
			sh_ring_put(r);
		goto real;
	}
	sh_flights_lock(&old);
	ok = sh_ring_follow(r, (struct sh_ring_name){ arg[0], by_id });
	sh_flights_unlock(&old);
	if (!ok) {
		if (!atomic_exchange(&told, true))
			sh_log(SH_WARN, "io_uring: ring %d cannot be followed: its transfers hold no pages", r->fd);
		sh_ring_put(r);
		goto real;
	}
	if (r->thread) {
		n = UINT32_MAX;
		flags &= ~(IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT);
	}
	look(r);
	if (n > 0)
		got = submit_some(r, n, arg[0], flags);
	if (r->thread && got >= 0)
		got = (uint32_t)arg[1];
	else if (got < 0 || got != (long)n)
		goto out;
	if (flags & IORING_ENTER_GETEVENTS) {
		waited = sh_sys(SYS_io_uring_enter, arg[0], 0, arg[2], flags, arg[4], arg[5]);
		look(r);
		if (got == 0 && waited < 0)
			got = waited;
	} else if (n == 0) {
		got = sh_sys(SYS_io_uring_enter, arg[0], 0, arg[2], flags, arg[4], arg[5]);
	}
out:
	sh_ring_put(r);
	return got;
real:
	return sh_sys(SYS_io_uring_enter, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* ---- registration ---- */

long sh_uring_registered(const long *arg)
{
	uint32_t op = (uint32_t)arg[1];
	bool by_id = (op & REGISTER_BY_INDEX) != 0;
	struct sh_ring *r;
	long got;

	op &= ~REGISTER_BY_INDEX;
	if (atomic_load(&sh_nrings) == 0 || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
	if (op == IORING_UNREGISTER_RING_FDS)
		sh_ring_ids((uint64_t)arg[2], arg[3], false);
	r = sh_ring_get(arg[0], by_id);
	if (r != NULL && (op == IORING_REGISTER_FILES || op == IORING_REGISTER_FILES2 || op == IORING_UNREGISTER_FILES))
		got = sh_ring_files(r, arg);
	else
		got = sh_uring_register(r != NULL ? r->fd : (int)arg[0], op, arg);
	if (r != NULL)
		sh_ring_put(r);
	if (op == IORING_REGISTER_RING_FDS && got > 0)
		sh_ring_ids((uint64_t)arg[2], got, true);
	return got;
}

/* ---- by name ---- */

long sh_uring_close(long fd)
{
	long r;

	if (atomic_load(&sh_nrings) == 0 || sh_is_crew || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return sh_sys(SYS_close, fd);
	sh_ring_closed(fd);
	r = sh_sys(SYS_close, fd);
	return r;
}

/* A point at which a thread may be cancelled: libc's own, but for descriptors of rings. */
PF_EXPORT SH_EARLY int close(int fd)
{
	static int (*real)(int);
	void *sym;
	int rc;

	if (real == NULL) {
		sym = dlsym(RTLD_NEXT, "close");
		memcpy(&real, &sym, sizeof real);
	}
	if (atomic_load_explicit(&sh_nrings, memory_order_relaxed) != 0 && !sh_is_crew &&
	    (pid_t)sh_sys(SYS_getpid) == sh.pid)
		sh_ring_closed(fd);
	if (atomic_load_explicit(&sh_nregs, memory_order_relaxed) == 0)
		return real(fd);
	rc = real(fd);
	sh_long_closed(fd);
	return rc;
}

/* The next definition; or, of a library that was loaded for somebody alone, that one's. */
static int in_liburing(struct dl_phdr_info *i, size_t size, void *arg)
{
	void *lib, **sym = arg;

	(void)size;
	if (strstr(i->dlpi_name, "/liburing") == NULL)
		return 0;
	lib = dlopen(i->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
	if (lib == NULL)
		return 0;
	*sym = dlsym(lib, "io_uring_queue_mmap");
	(void)dlclose(lib);
	return *sym != NULL;
}

/* liburing calls it by its name for every ring that it makes, by whatever instruction it has made the system call. */
struct io_uring;
PF_EXPORT int io_uring_queue_mmap(int fd, struct io_uring_params *p, struct io_uring *ring);
PF_EXPORT int io_uring_queue_mmap(int fd, struct io_uring_params *p, struct io_uring *ring)
{
	static int (*real)(int, struct io_uring_params *, struct io_uring *);
	struct sh_ring *r;
	bool known;
	void *sym;

	if (real == NULL) {
		sym = dlsym(RTLD_NEXT, "io_uring_queue_mmap");
		if (sym == NULL)
			(void)dl_iterate_phdr(in_liburing, &sym);
		memcpy(&real, &sym, sizeof real);
	}
	if (real == NULL)
		return -ENOSYS;
	if (sh.ready && !sh.disabled && !sh_is_crew && (pid_t)sh_sys(SYS_getpid) == sh.pid) {
		r = sh_ring_get(fd, false);
		known = r != NULL && r->par.sq_entries == p->sq_entries && (r->sq == NULL || r->thread);
		if (r != NULL)
			sh_ring_put(r);
		if (!known)
			sh_ring_new(fd, p, false);
	}
	return real(fd, p, ring);
}
