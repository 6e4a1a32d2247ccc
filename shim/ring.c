/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring.c - the rings of this process: their memory, what has ended, when they go. Owns the list of rings and the
 * numbers that threads have given to them; all of it under flights_lock (async.h).
 *
 * Completions are read from the completion queue by a mapping of the ring's memory that is ours: the program's may be
 * anywhere, and go at any time. Ours keeps the ring alive, so it goes when the program has closed its descriptor and
 * nothing is held any more.
 *
 * Completions that nobody has seen - the program took them out and the kernel put others in their place between two
 * looks - or that belong to requests from before the first window make it unknown which flights have ended: then all
 * are kept until as many completions have come as there were requests (struct sh_ring.due).
 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define RING_IDS 64U			/* registered descriptors of rings that are remembered */

static struct sh_ring *rings;		/* flights_lock */
_Atomic unsigned int sh_nrings;

/* io_uring_register(IORING_REGISTER_RING_FDS): numbers of a thread. */
static struct ring_id {
	uint32_t tid, id;
	struct sh_ring *ring;
} ids[RING_IDS];			/* flights_lock */

/* ---- shared memory ---- */

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
bool sh_ring_map(struct sh_ring *r, int fd)
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

/*
 * Not where the program's own thread has to enter the kernel to have them posted; nor where there may be no room for
 * them in the queue; nor when it is not known whose they are.
 */
static bool sees(const struct sh_ring *r)
{
	uint32_t there = sh_ring_at(r->cq, r->par.cq_off.tail) - sh_ring_at(r->cq, r->par.cq_off.head);

	return !(r->par.flags & (IORING_SETUP_IOPOLL | IORING_SETUP_DEFER_TASKRUN)) && !r->unsure && !r->uncounted &&
	       there + r->due <= r->par.cq_entries;
}

bool sh_ring_sees(struct sh_ring *r)
{
	bool yes = sees(r);

	if (!yes && !r->doubts)
		sh_flights_not_brief(&r->place);
	r->doubts = !yes;
	return yes && !r->drained;
}

static void unsure(struct sh_ring *r)
{
	r->unsure = true;
	(void)sh_ring_sees(r);
}

/* One has come. false: the kernel may have put another one there while we read. */
static bool completion(struct sh_ring *r)
{
	const struct io_uring_params *p = &r->par;
	uint32_t i = (r->seen & (p->cq_entries - 1)) << (p->flags & IORING_SETUP_CQE32 ? 1 : 0);
	struct io_uring_cqe *c = (struct io_uring_cqe *)(void *)(r->cq + p->cq_off.cqes) + i;
	/* Before head and tail are looked at. */
	uint64_t key = __atomic_load_n(&c->user_data, __ATOMIC_ACQUIRE);
	uint32_t flags = __atomic_load_n(&c->flags, __ATOMIC_ACQUIRE);

	if ((int32_t)(sh_ring_at(r->cq, p->cq_off.head) - r->seen) > 0 &&
	    sh_ring_at(r->cq, p->cq_off.tail) - r->seen >= p->cq_entries)
		return false;
	if (flags & IORING_CQE_F_MORE) {
		r->uncounted = true;
		(void)sh_ring_sees(r);
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
	uint32_t head = sh_ring_at(r->sq, r->par.sq_off.head);

	if (head == r->head || atomic_load(&r->owner) != 0)
		return;
	r->due += head - r->head;
	r->head = head;
	unsure(r);
}

void sh_ring_look(struct sh_place *p)
{
	struct sh_ring *r = (struct sh_ring *)p;
	uint32_t tail;

	if (!r->followed)
		return;
	tail = sh_ring_at(r->cq, r->par.cq_off.tail);
	while (r->seen != tail) {
		if (!completion(r)) {
			unsure(r);
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
	atomic_fetch_sub(&sh_nrings, 1);
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
		sh_ring_look(&r->place);
		if (!r->shut || r->users > 0)
			continue;
		if (!sh_place_holds(&r->place) || r->sq == NULL) {
			sh_flights_end_all(&r->place);
			ring_free(r);
		}
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

struct sh_ring *sh_ring_get(long fd, bool by_id)
{
	struct sh_ring *r;
	sh_sigs old;

	sh_flights_lock(&old);
	r = take(by_id ? ring_by_id((uint32_t)fd) : ring_by_fd((int)fd));
	sh_flights_unlock(&old);
	return r;
}

void sh_ring_put(struct sh_ring *r)
{
	sh_sigs old;

	sh_flights_lock(&old);
	r->users--;
	if (r->shut)
		sweep();
	sh_flights_unlock(&old);
}

/* A ring is new, made by whatever call. */
void sh_ring_new(int fd, const struct io_uring_params *p, bool thread)
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
	r->place.look = sh_ring_look;
	pthread_mutex_init(&r->submit, NULL);
	sh_flights_lock(&old);
	for (o = rings; o != NULL; o = o->next) {
		if (o->fd == fd || !is_ring(o->fd))
			o->shut = true;
	}
	sweep();
	r->next = rings;
	rings = r;
	atomic_fetch_add(&sh_nrings, 1);
	sh_place_add(&r->place);
	sh_flights_unlock(&old);
}

bool sh_ring_follow(struct sh_ring *r, struct sh_ring_name name)
{
	if (r->followed)
		return true;
	if (r->blind || (r->sq == NULL && !sh_ring_map(r, name.by_id ? r->fd : (int)name.fd))) {
		ring_unmap(r);
		return false;
	}
	/* The kernel counts both from 0: the difference is what is under way, if all requests have one completion. */
	r->seen = sh_ring_at(r->cq, r->par.cq_off.tail);
	r->head = sh_ring_at(r->sq, r->par.sq_off.head);
	if ((int32_t)(r->head - r->seen) > 0)
		r->due = r->head - r->seen;
	r->unsure = r->due > 0;
	r->followed = true;
	return true;
}

void sh_ring_closed(long fd)
{
	sh_sigs old;

	sh_flights_lock(&old);
	for (struct sh_ring *r = rings; r != NULL; r = r->next)
		r->shut |= r->fd == fd;
	sweep();
	sh_flights_unlock(&old);
}

/* ---- numbers of rings ---- */

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

void sh_ring_ids(uint64_t user, long n, bool on)
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

void sh_uring_forget(void)
{
	rings = NULL;
	atomic_store(&sh_nrings, 0);
	memset(ids, 0, sizeof ids);
}

