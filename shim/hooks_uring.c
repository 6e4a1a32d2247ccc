/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_uring.c - io_uring's system calls, whoever makes them (site.h). The pages of a request are held from before
 * io_uring_enter() until the completion that ends it stands in the queue. Owns the rings of this process.
 *
 * Requests are read from the submission queue before the kernel reads them, and completions from the completion queue,
 * by a mapping of the ring's memory that is ours: the program's may be anywhere, and go at any time. Ours keeps the
 * ring alive, so it goes when the program has closed its descriptor and nothing is held any more.
 *
 * ALL requests of a process with windows are flights, also those that hold nothing, for a completion says no more than
 * user_data, which may be the same for all. Completions that nobody has seen - the program took them out and the kernel
 * put others in their place between two looks - or that belong to requests from before the first window make it
 * unknown which flights have ended: then all are kept until as many completions have come as there were requests
 * (struct sh_ring.due).
 *
 * What is not done as the program says, once it has windows:
 *
 *   IORING_SETUP_SQPOLL        a ring without it: the kernel's thread would take requests that nobody has seen. The
 *                              program is told that the thread sleeps, always, so it calls io_uring_enter().
 *   NO_MMAP, REGISTERED_FD_ONLY and flags of later kernels: EINVAL, as kernels without them say.
 *
 * LOCKS: sh_ring.submit over one submission, its holds and its system call, which does not wait for completions;
 * flights_lock for the rest.
 */
#include "async.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "longterm.h"
#include "site.h"

#define IOV_LIMIT 1024U
#define MANY 4096U			/* requests in one go */
#define RING_IDS 64U			/* registered descriptors of rings that are remembered */

/* Of later kernels than the headers need be. */
#define SETUP_NO_MMAP (1U << 14)
#define SETUP_REGISTERED_FD_ONLY (1U << 15)
#define SETUP_NO_SQARRAY (1U << 16)
#define SETUP_KNOWN (((1U << 18) - 1) & ~(SETUP_NO_MMAP | SETUP_REGISTERED_FD_ONLY))
#define REGISTER_BY_INDEX (1U << 31)
#define OP_READ_MULTISHOT 49

/* The program's arguments; ours has the fields that are used, whatever the header calls them. */
struct sh_ring {
	struct sh_place place;		/* first */
	struct sh_ring *next;
	int fd;				/* the program's, as of the setup */
	struct io_uring_params par;
	bool shut;			/* the descriptor is closed, or another file's */
	bool blind;			/* cannot be followed */
	bool followed;
	bool thread;			/* the program believes that it has a kernel thread */
	unsigned int users;		/* calls; flights_lock */
	char *sq, *cq, *sqe;		/* NULL: not mapped yet */
	size_t sq_len, cq_len, sqe_len;
	uint32_t seen;			/* completions up to here */
	uint32_t head;			/* requests taken up to here, as far as we know of them */
	uint64_t due;			/* completions to come, of requests that nobody saw included */
	bool unsure;			/* which flights have ended is unknown */
	bool uncounted;			/* ... and how many completions come: some have none, or many */
	pthread_mutex_t submit;
	_Atomic uint32_t owner;
};

static struct sh_ring *rings;		/* flights_lock */
static _Atomic unsigned int nrings;
static atomic_bool told;		/* of a ring that is not followed */

/* io_uring_register(IORING_REGISTER_RING_FDS): numbers of a thread. */
static struct ring_id {
	uint32_t tid, id;
	struct sh_ring *ring;
} ids[RING_IDS];			/* flights_lock */

/* ---- shared memory ---- */

static _Atomic uint32_t *word(char *base, uint32_t off)
{
	return (_Atomic uint32_t *)(void *)(base + off);
}

static uint32_t at(char *base, uint32_t off)
{
	return atomic_load_explicit(word(base, off), memory_order_acquire);
}

static void unmap(char **p, size_t len)
{
	if (*p != NULL)
		(void)sh_sys(SYS_munmap, *p, len);
	*p = NULL;
}

static char *map(int fd, size_t len, uint64_t off)
{
	char *p = sh_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, off);

	if (sh_mmap_err(p))
		return NULL;
	(void)sh_sys(SYS_madvise, p, len, MADV_DONTFORK);
	return p;
}

/* The ring's memory, by a descriptor of it. */
static bool ring_map(struct sh_ring *r, int fd)
{
	const struct io_uring_params *p = &r->par;
	bool one = (p->features & IORING_FEAT_SINGLE_MMAP) != 0;

	r->sq_len = p->sq_off.array + (p->flags & SETUP_NO_SQARRAY ? 0 : p->sq_entries * sizeof(uint32_t));
	r->cq_len = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe) *
		    (p->flags & IORING_SETUP_CQE32 ? 2 : 1);
	if (one)
		r->sq_len = r->cq_len = pf_max64(r->sq_len, r->cq_len);
	r->sqe_len = p->sq_entries * sizeof(struct io_uring_sqe) * (p->flags & IORING_SETUP_SQE128 ? 2 : 1);
	r->sq = map(fd, r->sq_len, IORING_OFF_SQ_RING);
	r->cq = one ? r->sq : map(fd, r->cq_len, IORING_OFF_CQ_RING);
	r->sqe = map(fd, r->sqe_len, IORING_OFF_SQES);
	return r->sq != NULL && r->cq != NULL && r->sqe != NULL;
}

static void ring_unmap(struct sh_ring *r)
{
	if (r->cq == r->sq)
		r->cq = NULL;
	unmap(&r->sq, r->sq_len);
	unmap(&r->cq, r->cq_len);
	unmap(&r->sqe, r->sqe_len);
}

/* ---- completions; flights_lock held ---- */

/* One has come. false: the kernel may have put another one there while we read. */
static bool completion(struct sh_ring *r)
{
	const struct io_uring_params *p = &r->par;
	uint32_t i = (r->seen & (p->cq_entries - 1)) << (p->flags & IORING_SETUP_CQE32 ? 1 : 0);
	struct io_uring_cqe *c = (struct io_uring_cqe *)(void *)(r->cq + p->cq_off.cqes) + i;
	uint64_t key = __atomic_load_n(&c->user_data, __ATOMIC_RELAXED);
	uint32_t flags = __atomic_load_n(&c->flags, __ATOMIC_RELAXED);

	atomic_thread_fence(memory_order_acquire);
	if ((int32_t)(at(r->cq, p->cq_off.head) - r->seen) > 0 &&
	    at(r->cq, p->cq_off.tail) - r->seen >= p->cq_entries)
		return false;
	if (flags & IORING_CQE_F_MORE) {
		r->uncounted = true;
	} else {
		if (r->due > 0)
			r->due--;
		if (!r->unsure)
			sh_flight_end(&r->place, key);
	}
	return true;
}

/* Requests that the kernel has taken while we did not see it: by a call that is not ours, or another process. */
static void strangers(struct sh_ring *r)
{
	uint32_t head = at(r->sq, r->par.sq_off.head);

	if (head == r->head || atomic_load(&r->owner) != 0)
		return;
	r->due += head - r->head;
	r->head = head;
	r->unsure = true;
}

static void ring_look(struct sh_place *p)
{
	struct sh_ring *r = (struct sh_ring *)p;
	uint32_t tail;

	if (!r->followed)
		return;
	tail = at(r->cq, r->par.cq_off.tail);
	while (r->seen != tail) {
		if (!completion(r)) {
			r->unsure = true;
			if (r->due > 0)
				r->due--;
		}
		r->seen++;
	}
	strangers(r);
	if (r->due == 0 && r->unsure && !r->uncounted) {
		sh_flights_end_all(p);
		r->unsure = false;
	}
}

/* ---- rings ---- */

static void ring_free(struct sh_ring *r)
{
	for (struct sh_ring **p = &rings; *p != NULL; p = &(*p)->next) {
		if (*p == r) {
			*p = r->next;
			break;
		}
	}
	for (unsigned int i = 0; i < RING_IDS; i++) {
		if (ids[i].ring == r)
			ids[i].ring = NULL;
	}
	sh_place_del(&r->place);
	ring_unmap(r);
	atomic_fetch_sub(&nrings, 1);
	sh_free(r, sizeof *r);
}

static bool same_file(int a, int b)
{
	long pid = sh.pid;

	return a == b || sh_sys(SYS_kcmp, pid, pid, 0L /* KCMP_FILE */, a, b) == 0;
}

static bool is_ring(int fd)
{
	static const char name[] = "anon_inode:[io_uring]";
	char path[32] = "/proc/self/fd/", link[sizeof name + 1], digits[12];
	unsigned int n = 0, at_ = (unsigned int)strlen(path);
	long r;

	if (fd < 0)
		return false;
	for (unsigned int v = (unsigned int)fd; n == 0 || v > 0; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n > 0)
		path[at_++] = digits[--n];
	path[at_] = '\0';
	r = sh_sys(SYS_readlinkat, AT_FDCWD, path, link, sizeof link);
	return r == (long)sizeof name - 1 && memcmp(link, name, sizeof name - 1) == 0;
}

/* Rings that nobody can get at any more, and that have nothing in the air. Lock held. */
static void sweep(void)
{
	struct sh_ring *r, *next;

	for (r = rings; r != NULL; r = next) {
		next = r->next;
		ring_look(&r->place);
		if (!r->shut || r->users > 0)
			continue;
		if (r->place.flights == 0 || r->sq == NULL)
			ring_free(r);
	}
}

/* Of @fd. With a reference. Lock held. */
static struct sh_ring *take(struct sh_ring *r)
{
	if (r != NULL)
		r->users++;
	return r;
}

static struct sh_ring *ring_by_fd(int fd)
{
	struct sh_ring *r;

	for (r = rings; r != NULL; r = r->next) {
		if (!r->shut && r->fd == fd)
			return r;
	}
	for (r = rings; r != NULL; r = r->next) {
		if (!r->shut && same_file(r->fd, fd))
			return r;
	}
	return NULL;
}

static struct sh_ring *ring_by_id(uint32_t id)
{
	uint32_t tid = (uint32_t)sh_sys(SYS_gettid);

	for (unsigned int i = 0; i < RING_IDS; i++) {
		if (ids[i].ring != NULL && ids[i].tid == tid && ids[i].id == id)
			return ids[i].ring;
	}
	return NULL;
}

static struct sh_ring *ring_get(long fd, bool by_id)
{
	struct sh_ring *r;
	sh_sigs old;

	sh_flights_lock(&old);
	r = take(by_id ? ring_by_id((uint32_t)fd) : ring_by_fd((int)fd));
	sh_flights_unlock(&old);
	return r;
}

static void ring_put(struct sh_ring *r)
{
	sh_sigs old;

	sh_flights_lock(&old);
	r->users--;
	if (r->shut)
		sweep();
	sh_flights_unlock(&old);
}

/* A ring is new, made by whatever call. */
static void ring_new(int fd, const struct io_uring_params *p, bool thread)
{
	struct sh_ring *r = sh_alloc(sizeof *r), *o;
	sh_sigs old;

	if (r == NULL)
		return;			/* not followed: says so when it is used */
	r->fd = fd;
	r->par = *p;
	r->thread = thread;
	r->blind = ((p->flags & IORING_SETUP_SQPOLL) && !thread) || (p->flags & ~SETUP_KNOWN) ||
		   p->sq_entries == 0 || p->cq_entries == 0 || (p->cq_entries & (p->cq_entries - 1));
	r->place.look = ring_look;
	pthread_mutex_init(&r->submit, NULL);
	sh_flights_lock(&old);
	for (o = rings; o != NULL; o = o->next) {
		if (o->fd == fd || !is_ring(o->fd))
			o->shut = true;
	}
	sweep();
	r->next = rings;
	rings = r;
	atomic_fetch_add(&nrings, 1);
	sh_place_add(&r->place);
	sh_flights_unlock(&old);
}

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
			ring_new((int)fd, user, false);
		return fd;
	}
	sh_site_look();
	flags = p.flags;
	if (flags & ~SETUP_KNOWN)
		return -EINVAL;
	if (flags & IORING_SETUP_SQPOLL) {
		p.flags &= ~(IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF);
		p.sq_thread_cpu = 0;
		p.sq_thread_idle = 0;
	}
	fd = sh_sys(SYS_io_uring_setup, arg[0], &p);
	if (fd < 0)
		return fd;
	ring_new((int)fd, &p, flags != p.flags);
	p.flags = flags | (p.flags & IORING_SETUP_CLAMP);
	*user = p;
	if (flags & IORING_SETUP_SQPOLL) {
		struct sh_ring *r = ring_get(fd, false);
		sh_sigs old;

		sh_flights_lock(&old);
		if (r != NULL && r->sq == NULL && ring_map(r, (int)fd))
			atomic_fetch_or(word(r->sq, p.sq_off.flags), IORING_SQ_NEED_WAKEUP);
		sh_flights_unlock(&old);
		if (r != NULL)
			ring_put(r);
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
	struct sh_flight **fl;		/* NULL where there will be no completion */
	struct swap *swaps;
	struct sh_flight *carry;	/* of links without a completion of their own: end with what follows them */
	struct iovec none;
	struct msghdr no_msg;
	size_t nswap;
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
	if (r > 0)
		r = sh_flight_pack(f, m.v, m.n, m.flags, kind_of(&s), PF_API_URING);
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
	sh_flights_lock(&old);
	if (s.flags & IOSQE_CQE_SKIP_SUCCESS)
		b->r->uncounted = true;
	else
		b->r->due++;
	if ((s.flags & IOSQE_CQE_SKIP_SUCCESS) && (s.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK))) {
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
		k = at(r->sq, p->sq_off.array + k * (uint32_t)sizeof(uint32_t));
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

/* Up to @n of the requests in the queue. How many there were, or why none could be begun. */
static long submit(struct batch *b, uint32_t n, long fd, uint32_t flags)
{
	struct sh_ring *r = b->r;
	uint32_t head = at(r->sq, r->par.sq_off.head), i;
	struct io_uring_sqe *s;
	sh_sigs old;
	long got = 0;
	int err = 0;

	for (i = 0; i < n && !err; i++) {
		b->fl[i] = NULL;
		s = sqe_at(r, head + i);
		if (s != NULL)
			err = take_off(b, i, s);
	}
	if (err)
		i--;
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
	ring_look(&r->place);
	sh_flights_unlock(&old);
	return got == 0 && err ? err : got;
}

/* From the first submission on that is looked at. Requests from before are somebody's whom nobody knows. Lock held. */
static bool follow(struct sh_ring *r, long fd, bool by_id)
{
	if (r->followed)
		return true;
	if (r->blind || (r->sq == NULL && (by_id || !ring_map(r, (int)fd)) && (!by_id || !ring_map(r, r->fd)))) {
		ring_unmap(r);
		return false;
	}
	/* The kernel counts both from 0: the difference is what is under way, if all requests have one completion. */
	r->seen = at(r->cq, r->par.cq_off.tail);
	r->head = at(r->sq, r->par.sq_off.head);
	if ((int32_t)(r->head - r->seen) > 0)
		r->due = r->head - r->seen;
	r->unsure = r->due > 0;
	r->followed = true;
	return true;
}

static long submit_some(struct sh_ring *r, uint32_t n, long fd, uint32_t flags)
{
	struct batch b = { .r = r };
	uint32_t ready;
	size_t bytes;
	char *room;
	long got;

	if (atomic_load(&r->owner) == (uint32_t)sh_sys(SYS_gettid))
		return -EBUSY;		/* a handler on top of ourselves */
	pthread_mutex_lock(&r->submit);
	atomic_store(&r->owner, (uint32_t)sh_sys(SYS_gettid));
	ready = at(r->sq, r->par.sq_off.tail) - at(r->sq, r->par.sq_off.head);
	n = (uint32_t)pf_min64(pf_min64(n, ready), MANY);
	bytes = (n + 1) * (sizeof *b.fl + sizeof *b.swaps);
	room = sh_alloc(bytes);
	if (room == NULL) {
		got = -EAGAIN;
	} else {
		b.swaps = (struct swap *)(void *)room;
		b.fl = (struct sh_flight **)(void *)(b.swaps + n + 1);
		got = submit(&b, n, fd, flags);
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
	ring_look(&r->place);
	sh_flights_unlock(&old);
}

long sh_uring_enter(const long *arg)
{
	uint32_t n = (uint32_t)arg[1], flags = (uint32_t)arg[3];
	bool by_id = (flags & IORING_ENTER_REGISTERED_RING) != 0, ok;
	long got = 0, waited;
	struct sh_ring *r;
	sh_sigs old;

	if (atomic_load(&sh.nvma) == 0 && atomic_load(&nrings) == 0)
		goto real;
	if ((pid_t)sh_sys(SYS_getpid) != sh.pid)
		goto real;
	r = ring_get(arg[0], by_id);
	if (r == NULL || (!r->thread && !r->followed && atomic_load(&sh.nvma) == 0)) {
		if (r == NULL && atomic_load(&sh.nvma) != 0 && !atomic_exchange(&told, true))
			sh_log(SH_WARN, "io_uring: descriptor %ld is no known ring: its transfers hold no pages",
			       arg[0]);
		if (r != NULL)
			ring_put(r);
		goto real;
	}
	sh_flights_lock(&old);
	ok = follow(r, arg[0], by_id);
	sh_flights_unlock(&old);
	if (!ok) {
		if (!atomic_exchange(&told, true))
			sh_log(SH_WARN, "io_uring: ring %d cannot be followed: its transfers hold no pages", r->fd);
		ring_put(r);
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
	ring_put(r);
	return got;
real:
	return sh_sys(SYS_io_uring_enter, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* ---- registration ---- */

static void id_is(uint32_t id, struct sh_ring *r)
{
	uint32_t tid = (uint32_t)sh_sys(SYS_gettid);
	struct ring_id *free_id = NULL;

	for (unsigned int i = 0; i < RING_IDS; i++) {
		if (ids[i].ring == NULL) {
			free_id = &ids[i];
		} else if (ids[i].tid == tid && ids[i].id == id) {
			ids[i].ring = r;
			return;
		}
	}
	if (free_id != NULL && r != NULL)
		*free_id = (struct ring_id){ tid, id, r };
}

static void ids_are(uint64_t user, long n, bool on)
{
	struct io_uring_rsrc_update u;
	sh_sigs old;

	for (long i = 0; i < n; i++) {
		if (sh_peek(&u, (struct io_uring_rsrc_update *)sh_ptr(user) + i, sizeof u))
			return;
		sh_flights_lock(&old);
		id_is(u.offset, on ? ring_by_fd((int)u.data) : NULL);
		sh_flights_unlock(&old);
	}
}

long sh_uring_registered(const long *arg)
{
	uint32_t op = (uint32_t)arg[1];
	bool by_id = (op & REGISTER_BY_INDEX) != 0;
	int fd = (int)arg[0];
	struct sh_ring *r;
	long got;

	op &= ~REGISTER_BY_INDEX;
	if (atomic_load(&nrings) == 0 || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
	if (by_id) {
		r = ring_get(arg[0], true);
		if (r != NULL) {
			fd = r->fd;
			ring_put(r);
		}
	}
	if (op == IORING_UNREGISTER_RING_FDS)
		ids_are((uint64_t)arg[2], arg[3], false);
	got = sh_uring_register(fd, op, arg);
	if (op == IORING_REGISTER_RING_FDS && got > 0)
		ids_are((uint64_t)arg[2], got, true);
	return got;
}

/* ---- by name ---- */

static void closed(long fd)
{
	sh_sigs old;

	sh_flights_lock(&old);
	for (struct sh_ring *r = rings; r != NULL; r = r->next)
		r->shut |= r->fd == fd;
	sweep();
	sh_flights_unlock(&old);
}

long sh_uring_close(long fd)
{
	long r;

	if (atomic_load(&nrings) == 0 || sh_is_crew || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return sh_sys(SYS_close, fd);
	closed(fd);
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
	if (atomic_load_explicit(&nrings, memory_order_relaxed) != 0 && !sh_is_crew &&
	    (pid_t)sh_sys(SYS_getpid) == sh.pid)
		closed(fd);
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
		r = ring_get(fd, false);
		known = r != NULL && r->par.sq_entries == p->sq_entries && (r->sq == NULL || r->thread);
		if (r != NULL)
			ring_put(r);
		if (!known)
			ring_new(fd, p, false);
	}
	return real(fd, p, ring);
}

void sh_uring_forget(void)
{
	rings = NULL;
	atomic_store(&nrings, 0);
	memset(ids, 0, sizeof ids);
}
