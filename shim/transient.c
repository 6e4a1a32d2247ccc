/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transient.c - holds: which parts of an array of buffers lie in windows, and one pin for each of them. Owns struct
 * sh_hold and the list of those that are live. The pins themselves, and what they wait for, are pin.c's and
 * pinslow.c's.
 *
 * WHEN BLOCKS LEAVE ALTHOUGH THEY ARE HELD (`defer`, a client that was too slow), the slot they were counted in goes
 * stale, and the chunk gets another slot with other blocks. The kernel may not have looked yet at all that is held: it
 * takes a long read in pieces. So before the first page of such a slot is mapped, serve counts in it what the live
 * holds have of the chunk (sh_holds_follow()). No hold is missed: it is entered in the list first, and looks for stale
 * slots then; a slot goes stale before serve hears of it.
 *
 * A hold never waits with a count of its own: its pins are asked for without waiting, and when one cannot be had the
 * others are given back before the wait begins. So two holds cannot wait for each other by way of a truncate.
 */
#include "transient.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include "pin.h"

#define OWN_PINS 4U
#define PIECE_BYTES (UINT64_C(16) << 20)	/* one pin at most: what does not fit into the window fails by pieces */

/* Counted in another slot than a pin was. */
struct more {
	struct more *next;
	struct sh_piece piece;
};

struct sh_hold {
	struct sh_hold *next;		/* calls of the thread: sh_hold_enter() */
	const char *frame;		/* of the call's function */
	struct sh_hold *lnext, **lprev;	/* live ones; hold_lock */
	struct more *more;		/* hold_lock */
	_Atomic uint32_t refs;
	uint32_t epoch;
	uint32_t n, room;
	bool brief;			/* it is counted as such; hold_lock once it is live */
	struct pinfs_pin **pin, *own[OWN_PINS];
};

/* After sh.lock. A program's thread has its signals blocked: serve takes it, too. */
static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sh_hold *live;

struct asking {
	struct sh_tls *t;
	struct sh_hold *h;
	unsigned int flags;		/* SH_HOLD_* */
	enum pf_pin_api api;
};

/* ---- what lies in windows ---- */

static uint64_t end_of(uint64_t lo, uint64_t len)
{
	return len > UINT64_MAX - lo ? UINT64_MAX : lo + len;
}

/* The thread remembers one range without any window: buffers on the heap are asked for again and again. */
static bool known_plain(const struct sh_tls *t, uint64_t lo, uint64_t hi)
{
	return lo >= t->gap_lo && hi <= t->gap_hi && t->gap_vgen == atomic_load(&sh_life.vgen);
}

/* Lock held. */
static void learn_gap(struct sh_tls *t, uint64_t lo)
{
	struct sh_vma *next = sh_vma_next(lo), *v = sh.vmas, *before = NULL;

	while (v != NULL) {		/* the last one that ends at or before @lo */
		if (v->hi <= lo) {
			before = v;
			v = v->right;
		} else {
			v = v->left;
		}
	}
	t->gap_lo = before != NULL ? before->hi : 0;
	t->gap_hi = next != NULL ? next->lo : UINT64_MAX;
	t->gap_vgen = atomic_load(&sh_life.vgen);
}

bool sh_touches(const void *p, size_t len)
{
	uint64_t lo = sh_addr(p), hi = end_of(lo, len);
	struct sh_tls *t = sh_tls();
	sh_sigs old;
	bool any;

	if (len == 0 || (t != NULL && known_plain(t, lo, hi)))
		return false;
	sh_lock(&old);
	any = sh_vma_any(lo, hi);
	if (!any && t != NULL)
		learn_gap(t, lo);
	sh_unlock(&old);
	return any;
}

bool sh_iov_touches(const struct iovec *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (sh_touches(v[i].iov_base, v[i].iov_len))
			return true;
	}
	return false;
}

int sh_iov_fetch(const struct iovec *user, size_t n, struct iovec *out)
{
	struct iovec here = { out, n * sizeof *out }, there = { (void *)(uintptr_t)user, n * sizeof *out };
	long r;

	if (n == 0)
		return 0;
	r = sh_sys(SYS_process_vm_readv, sh_sys(SYS_getpid), &here, 1L, &there, 1L, 0L);
	if (r == -EPERM || r == -ENOSYS || r == -ESRCH) {	/* refused: then it has to be memory */
		memcpy(out, user, n * sizeof *out);
		return 0;
	}
	return r == (long)(n * sizeof *out) ? 0 : -EFAULT;
}

/* The next piece of [*at, hi) to pin, [*at, *end); false: there is none. -EFAULT in *err: it is a window's, and no
 * transfer can have it. */
static bool next_piece(const struct asking *k, uint64_t *at, uint64_t hi, uint64_t *end, bool *private, int *err)
{
	bool write = (k->flags & SH_HOLD_WRITE) != 0, found = false;
	struct sh_vma *v, *n;
	sh_sigs old;

	*err = 0;
	sh_lock(&old);
	while (!found && *at < hi && (v = sh_vma_next(*at)) != NULL && v->lo < hi) {
		if (v->lo > *at)
			*at = v->lo;
		*end = pf_min64(v->hi, hi);
		*private = v->map->private;
		if (!(v->prot & (write ? PROT_WRITE : PROT_READ))) {
			*err = -EFAULT;
			found = true;
		} else if (!v->map->private) {
			while (*end < hi && (n = sh_vma_find(*end)) != NULL && n->map == v->map &&
			       (n->prot & v->prot) == v->prot)
				*end = pf_min64(n->hi, hi);
			found = true;
		} else if (!write && sh_next_shown(v, at, *end, end)) {
			found = true;
		} else {
			*at = *end = pf_min64(v->hi, hi);	/* copies, or copies to be */
		}
	}
	sh_unlock(&old);
	if (found)
		*end = pf_min64(*end, pf_round_down(*at, PIECE_BYTES) + PIECE_BYTES);
	return found;
}

/* ---- one pin ---- */

static int keep(struct sh_hold *h, struct pinfs_pin *p)
{
	struct pinfs_pin **more;
	uint32_t room = h->room * 4;

	if (h->n == h->room) {
		more = sh_alloc(room * sizeof(struct pinfs_pin *));
		if (more == NULL)
			return -ENOMEM;
		memcpy(more, h->pin, h->n * sizeof(struct pinfs_pin *));
		if (h->pin != h->own)
			sh_free(h->pin, h->room * sizeof(struct pinfs_pin *));
		h->pin = more;
		h->room = room;
	}
	h->pin[h->n++] = p;
	return 0;
}

static int kept_or_not(struct sh_hold *h, struct pinfs_pin *p)
{
	int err = keep(h, p);

	if (err)
		(void)pinfs_unpin(p);
	return err;
}

static struct sh_ask ask_for(const struct asking *k, uint64_t lo, uint64_t hi, bool private)
{
	bool write = (k->flags & SH_HOLD_WRITE) != 0;

	return (struct sh_ask){
		.addr = lo, .len = hi - lo, .api = k->api,
		.flags = (write ? PINFS_PIN_WRITE : SH_ASK_HOLES) | (private ? SH_ASK_PRIVATE : 0) |
			 (k->h->brief ? SH_ASK_BRIEF : 0),
	};
}

/* What the kernel would have said of a page that it cannot get. */
static int as_kernel(int err)
{
	if (err == 0 || err == -EINTR || err == -EAGAIN || err == -ENOMEM)
		return err;
	return err == -EBUSY || err == -EDEADLK ? -ENOMEM : -EFAULT;
}

static int pin_piece(struct asking *k, uint64_t lo, uint64_t hi, bool private, bool wait)
{
	struct sh_ask a = ask_for(k, lo, hi, private);
	struct pinfs_pin *p;
	int err;

	if (!wait)
		a.flags |= PINFS_PIN_NOWAIT;
	err = sh_pin_slow(k->t, &a, &p);
	return err ? as_kernel(err) : kept_or_not(k->h, p);
}

static void let_go(struct sh_hold *h)
{
	while (h->n > 0)
		(void)pinfs_unpin(h->pin[--h->n]);
}

/*
 * All of it cannot be had at once: as many pages from its beginning as can, *at so far. The error is that of the page
 * at which it ends. By powers of two, the biggest first: what twice the size could not have is tried once.
 */
static int pin_some(struct asking *k, uint64_t *at, uint64_t end, bool private)
{
	uint64_t step = PIECE_BYTES, next;
	int err = -EFAULT;

	for (; step >= SH_PAGE && err != -EAGAIN && err != -EINTR; step /= 2) {
		next = pf_round_down(*at, SH_PAGE) + step;
		if (next >= end)
			continue;
		err = pin_piece(k, *at, next, private, false);
		if (!err)
			*at = next;
	}
	return err ? err : -EFAULT;
}

/* One buffer. *done: how much of it is no window's, or held. */
static int hold_one(struct asking *k, uint64_t lo, uint64_t len, bool part, uint64_t *done)
{
	uint64_t hi = end_of(lo, len), at = lo, end = lo;
	struct sh_ask a = ask_for(k, lo, hi, false);
	struct pinfs_pin *p;
	bool private;
	int err;

	*done = len;
	if (len == 0 || known_plain(k->t, lo, hi))
		return 0;
	if (sh_pin_fast(k->t, &a, &p))
		return kept_or_not(k->h, p);
	for (; next_piece(k, &at, hi, &end, &private, &err); at = end) {
		if (!err)
			err = pin_piece(k, at, end, private, false);
		if (part && (err == -EFAULT || err == -ENOMEM))
			err = pin_some(k, &at, end, private);
		if (err) {
			*done = at - lo;
			return err;
		}
	}
	return 0;
}

static int hold_all(struct asking *k, const struct iovec *v, size_t n, bool part, size_t *good)
{
	uint64_t done;
	int err = 0;

	*good = 0;
	for (size_t i = 0; i < n && !err; i++) {
		err = hold_one(k, sh_addr(v[i].iov_base), v[i].iov_len, part, &done);
		*good += (size_t)done;
	}
	return err;
}

/*
 * A truncate is in the way of one of them, and nothing is held: wait until the pins that it keeps from us can be had.
 * They are given back, one by one: the next look may find another truncate.
 */
static int wait_turn(struct asking *k, const struct iovec *v, size_t n)
{
	uint64_t at, end;
	bool private;
	int err;

	for (size_t i = 0; i < n; i++) {
		uint64_t hi = end_of(sh_addr(v[i].iov_base), v[i].iov_len);

		for (at = sh_addr(v[i].iov_base); next_piece(k, &at, hi, &end, &private, &err); at = end) {
			err = err ? err : pin_piece(k, at, end, private, true);
			let_go(k->h);
			if (err == -EINTR)
				return err;
		}
	}
	return 0;
}

/* ---- the list ---- */

void sh_holds_quiet(sh_sigs *old)
{
	sigset_t all;

	if (!sh_is_crew) {
		memset(&all, 0xff, sizeof all);
		(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
	}
	pthread_mutex_lock(&hold_lock);
}

void sh_holds_loud(const sh_sigs *old)
{
	pthread_mutex_unlock(&hold_lock);
	if (!sh_is_crew)
		sh_sigs_restore(old);
}

static void enlist(struct sh_hold *h)
{
	sh_sigs old;

	sh_holds_quiet(&old);
	h->lnext = live;
	h->lprev = &live;
	if (live != NULL)
		live->lprev = &h->lnext;
	live = h;
	sh_holds_loud(&old);
}

static void delist(struct sh_hold *h)
{
	struct more *m, *next;
	sh_sigs old;

	sh_holds_quiet(&old);
	*h->lprev = h->lnext;
	if (h->lnext != NULL)
		h->lnext->lprev = h->lprev;
	m = h->more;
	h->more = NULL;
	sh_holds_loud(&old);
	for (; m != NULL; m = next) {
		next = m->next;
		sh_uncount(m->piece.slot, m->piece.first, m->piece.n, h->brief);
		sh_free(m, sizeof *m);
	}
}

static bool any_stale(const struct sh_hold *h)
{
	for (uint32_t i = 0; i < h->n; i++) {
		for (uint32_t k = 0; k < h->pin[i]->npiece; k++) {
			if (atomic_load(&h->pin[i]->piece[k].slot->sl_led->ls_word) & PF_SLOT_STALE)
				return true;
		}
	}
	return false;
}

static int follow(struct sh_hold *h, const struct pinfs_pin *p, struct sh_slot *sl)
{
	uint64_t lo = pf_max64(p->foff, sl->sl_chunk << PF_CHUNK_SHIFT);
	uint64_t hi = pf_min64(p->foff + p->len, (sl->sl_chunk + 1) << PF_CHUNK_SHIFT);
	struct sh_piece w = { .slot = sl };
	struct more *m;

	if (p->ses != sl->sl_ses || p->ino != sl->sl_file->ino || lo >= hi)
		return 0;
	for (uint32_t k = 0; k < p->npiece; k++) {
		if (p->piece[k].slot == sl)
			return 0;
	}
	m = sh_alloc(sizeof *m);
	if (m == NULL)
		return -ENOMEM;
	w.first = (uint32_t)(lo / SH_PAGE % SH_CHUNK_PAGES);
	w.n = (uint32_t)((hi - lo) / SH_PAGE);
	sh_count(sl, w.first, w.n, h->brief);
	if (!h->brief) {
		/* Pins that wait shall hear of it: by an unpin. */
		sh_count(sl, w.first, w.n, false);
		sh_uncount(sl, w.first, w.n, false);
	}
	*m = (struct more){ h->more, w };
	h->more = m;
	return 0;
}

int sh_holds_follow(struct sh_slot *sl)
{
	sh_sigs old;
	int err = 0;

	if (sh.pin_test & SH_TEST_NO_FOLLOW)
		return 0;
	sh_holds_quiet(&old);
	for (struct sh_hold *h = live; h != NULL && !err; h = h->lnext) {
		for (uint32_t i = 0; i < h->n && !err; i++)
			err = follow(h, h->pin[i], sl);
	}
	sh_holds_loud(&old);
	return err;
}

void sh_holds_lock(void)
{
	pthread_mutex_lock(&hold_lock);
}

void sh_holds_unlock(void)
{
	pthread_mutex_unlock(&hold_lock);
}

void sh_holds_forget(void)
{
	pthread_mutex_init(&hold_lock, NULL);
	live = NULL;
	sh_paio_forget();
	sh_queues_forget();
}

/* ---- hold ---- */

static int hold_parts(struct asking *k, const struct iovec *v, size_t n, bool part, size_t *good)
{
	int err;

	for (;;) {
		err = hold_all(k, v, n, part, good);
		if (err == -EAGAIN) {
			let_go(k->h);
			if (k->flags & SH_HOLD_NOWAIT)
				return err;
			err = wait_turn(k, v, n);
			if (err)
				return err;
			continue;
		}
		if (err && (!part || err == -EINTR))
			return err;
		if (k->h->n == 0)
			return err;
		enlist(k->h);
		if (!any_stale(k->h))
			return err;
		delist(k->h);
		let_go(k->h);
	}
}

static int hold(const struct iovec *v, size_t n, unsigned int flags, enum pf_pin_api api, bool part,
		struct sh_hold **out, size_t *good)
{
	struct asking k = { .flags = flags, .api = api };
	int saved = errno, err;

	*out = NULL;
	*good = 0;
	if (atomic_load_explicit(&sh.nvma, memory_order_relaxed) == 0 || sh_is_crew) {
		for (size_t i = 0; i < n; i++)
			*good += v[i].iov_len;
		return 0;
	}
	sh_alive();
	k.t = sh_tls();
	k.h = sh_alloc(sizeof *k.h);
	if (k.t == NULL || k.h == NULL) {
		err = -ENOMEM;
		goto out;
	}
	k.h->refs = 1;
	k.h->epoch = atomic_load(&sh_life.epoch);
	k.h->pin = k.h->own;
	k.h->room = OWN_PINS;
	k.h->brief = (flags & SH_HOLD_BRIEF) && !(sh.pin_test & SH_TEST_NOT_BRIEF);
	err = hold_parts(&k, v, n, part, good);
	if (err && (!part || err == -EINTR || err == -EAGAIN)) {
		let_go(k.h);
		*good = 0;
	}
	if (k.h->n > 0) {
		*out = k.h;
		k.h = NULL;
	}
out:
	if (k.h != NULL) {
		if (k.h->pin != k.h->own)
			sh_free(k.h->pin, k.h->room * sizeof(struct pinfs_pin *));
		sh_free(k.h, sizeof *k.h);
	}
	errno = saved;
	return err;
}

int sh_hold(const struct iovec *v, size_t n, unsigned int flags, enum pf_pin_api api, struct sh_hold **out)
{
	size_t good;

	return hold(v, n, flags, api, false, out, &good);
}

int sh_hold_part(const struct iovec *v, size_t n, unsigned int flags, enum pf_pin_api api, struct sh_hold **out,
		 size_t *good)
{
	return hold(v, n, flags, api, true, out, good);
}

void sh_hold_ref(struct sh_hold *h)
{
	atomic_fetch_add(&h->refs, 1);
}

bool sh_hold_watched(const struct sh_hold *h)
{
	for (uint32_t i = 0; h != NULL && i < h->n; i++) {
		for (uint32_t k = 0; k < h->pin[i]->npiece; k++) {
			if (atomic_load(&h->pin[i]->piece[k].slot->sl_led->ls_word) & PF_SLOT_FROZEN)
				return true;
		}
	}
	return false;
}

/* The pins of one that is live do not change. */
void sh_hold_not_brief(struct sh_hold *h)
{
	sh_sigs old;

	if (h == NULL || h->epoch != atomic_load(&sh_life.epoch))
		return;
	sh_holds_quiet(&old);
	for (uint32_t i = 0; h->brief && i < h->n; i++) {
		h->pin[i]->brief = 0;
		for (uint32_t k = 0; k < h->pin[i]->npiece; k++)
			sh_not_brief(h->pin[i]->piece[k].slot);
	}
	for (const struct more *m = h->more; h->brief && m != NULL; m = m->next)
		sh_not_brief(m->piece.slot);
	h->brief = false;
	sh_holds_loud(&old);
}

void sh_hold_drop(struct sh_hold *h)
{
	int saved = errno;

	if (h == NULL)
		return;
	sh_alive();
	/* In a child the memory is a copy, and where it lies may have been given away again. */
	if (h->epoch != atomic_load(&sh_life.epoch) || atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	delist(h);
	let_go(h);
	if (h->pin != h->own)
		sh_free(h->pin, h->room * sizeof(struct pinfs_pin *));
	sh_free(h, sizeof *h);
	errno = saved;
}

/* ---- calls that block ---- */

void sh_hold_enter(struct sh_hold *h, const void *frame)
{
	struct sh_tls *t = sh_tls();

	if (h == NULL || t == NULL)
		return;
	h->frame = frame;
	h->next = t->calls;
	t->calls = h;
}

void sh_hold_leave(struct sh_hold *h)
{
	struct sh_tls *t = sh_tls();
	struct sh_hold **p = h != NULL && t != NULL ? &t->calls : NULL;

	if (h == NULL)
		return;
	sh_alive();
	if (h->epoch != atomic_load(&sh_life.epoch))
		return;
	while (p != NULL && *p != NULL && *p != h)
		p = &(*p)->next;
	if (p != NULL && *p != NULL)
		*p = h->next;
}

void sh_hold_return(struct sh_hold *h)
{
	sh_hold_leave(h);
	sh_hold_drop(h);
}

void sh_hold_end(struct sh_tls *t)
{
	struct sh_hold *h;

	while (t->epoch == atomic_load(&sh_life.epoch) && (h = t->calls) != NULL) {
		t->calls = h->next;
		sh_hold_drop(h);
	}
}

/*
 * A call that is still going on, and was interrupted by the handler that we are in, is further up the stack; or on the
 * other stack, when the handler has one of its own. What is not above us on our own stack, or on the handlers' when no
 * handler runs there, has been left.
 */
void sh_hold_left(struct sh_tls *t, const void *frame)
{
	const char *here = frame, *lo;
	struct sh_hold **p = &t->calls, *h;
	stack_t alt;
	bool on_alt;

	if (sh_sys(SYS_sigaltstack, NULL, &alt) != 0)
		return;
	lo = alt.ss_sp;
	while ((h = *p) != NULL) {
		on_alt = !(alt.ss_flags & SS_DISABLE) && h->frame >= lo && h->frame < lo + alt.ss_size;
		if (on_alt == ((alt.ss_flags & SS_ONSTACK) != 0) ? h->frame <= here : on_alt) {
			*p = h->next;
			sh_hold_drop(h);
		} else {
			p = &h->next;
		}
	}
}

/* ---- for rings ---- */

static int pick_device(void *arg)
{
	struct sh_session *s = arg;

	return s->devfd >= 0 ? s->devfd : -ENOTCONN;
}

const struct sh_session *sh_hold_session(const struct sh_hold *h)
{
	return h == NULL || h->n == 0 ? NULL : h->pin[0]->ses;
}

int sh_hold_device(const struct sh_hold *h)
{
	int fd, err;

	if (h == NULL || h->n == 0)
		return -EFAULT;
	err = sh_crew_lend(&fd, pick_device, h->pin[0]->ses);
	return err ? err : fd;
}
