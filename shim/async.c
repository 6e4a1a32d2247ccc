/* SPDX-License-Identifier: BSD-3-Clause */
/* async.c - requests in flight: see async.h. Owns the list of places and flights_lock. */
#include "async.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define LOOK_MS 1
#define PAGED ((uint64_t)256 << 10)	/* from this size on sh_alloc() gives whole pages, as O_DIRECT wants them */

static pthread_mutex_t flights_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sh_place *places;
static struct sh_flight *over;		/* have ended; given up after the lock */
static uint64_t seq;			/* of the last flight with a hold */
static _Atomic uint64_t nheld;
static atomic_bool poked;		/* serve looks */
static atomic_bool breaking;		/* a slot may be frozen */
static uint64_t until_seq;		/* ... at the flights up to this one, at least */

/* ---- flights ---- */

void sh_flights_lock(sh_sigs *old)
{
	sigset_t all;

	if (!sh_is_crew) {
		memset(&all, 0xff, sizeof all);
		(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
	}
	pthread_mutex_lock(&flights_lock);
}

static void give_up(struct sh_flight *f)
{
	struct sh_flight *with;

	for (; f != NULL; f = with) {
		with = f->with;
		sh_hold_drop(f->hold);
		if (f->copy != NULL)
			sh_free(f->copy, pf_max64(f->bytes, PAGED));
		sh_free(f, sizeof *f);
	}
}

void sh_flights_unlock(const sh_sigs *old)
{
	struct sh_flight *f = over, *next;

	over = NULL;
	pthread_mutex_unlock(&flights_lock);
	for (; f != NULL; f = next) {
		next = f->next;
		give_up(f);
	}
	if (!sh_is_crew)
		sh_sigs_restore(old);
}

void sh_place_add(struct sh_place *p)
{
	p->next = places;
	places = p;
}

static struct sh_flight **bucket(struct sh_place *p, uint64_t key)
{
	return &p->hash[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

static bool holds(const struct sh_flight *f)
{
	while (f != NULL && f->hold == NULL)
		f = f->with;
	return f != NULL;
}

static void land(struct sh_place *p, struct sh_flight *f)
{
	if (holds(f))
		atomic_fetch_sub(&nheld, 1);
	p->flights--;
	f->next = over;
	over = f;
}

void sh_flights_end_all(struct sh_place *p)
{
	struct sh_flight *f;

	for (unsigned int i = 0; i < SH_FLIGHT_HASH; i++) {
		while ((f = p->hash[i]) != NULL) {
			p->hash[i] = f->next;
			land(p, f);
		}
	}
}

static void not_brief(struct sh_flight *f)
{
	for (f->brief = false; f != NULL; f = f->with)
		sh_hold_not_brief(f->hold);
}

void sh_flights_not_brief(struct sh_place *p)
{
	for (unsigned int i = 0; i < SH_FLIGHT_HASH; i++) {
		for (struct sh_flight *f = p->hash[i]; f != NULL; f = f->next)
			not_brief(f);
	}
}

void sh_place_del(struct sh_place *p)
{
	struct sh_place **at = &places;

	while (*at != NULL && *at != p)
		at = &(*at)->next;
	if (*at != NULL)
		*at = p->next;
}

static int look_now(void *arg)
{
	(void)arg;
	sh_serve_bell();
	return 0;
}

void sh_flight_begin(struct sh_place *p, struct sh_flight *f)
{
	struct sh_flight **b = bucket(p, f->key);

	f->ended = false;
	f->seq = seq;
	if (holds(f)) {
		f->seq = ++seq;
		atomic_fetch_add(&nheld, 1);
		if (!atomic_load(&breaking) && sh_hold_watched(f->hold))
			atomic_store(&breaking, true);
		if (atomic_load(&breaking) && !atomic_exchange(&poked, true))
			(void)sh_crew_post(look_now, NULL);
	}
	for (struct sh_flight *o = *b; o != NULL; o = o->next) {
		if (o->key == f->key && o->brief != f->brief)
			not_brief(f->brief ? f : o);
	}
	p->flights++;
	f->next = *b;
	*b = f;
}

/* All of this name have ended, if there are any: then they are over. */
static void settle(struct sh_place *p, uint64_t key)
{
	struct sh_flight **at = bucket(p, key), *f;

	for (f = *at; f != NULL; f = f->next) {
		if (f->key == key && !f->ended)
			return;
	}
	while ((f = *at) != NULL) {
		if (f->key == key) {
			*at = f->next;
			land(p, f);
		} else {
			at = &f->next;
		}
	}
}

void sh_flight_end(struct sh_place *p, uint64_t key)
{
	struct sh_flight *f = *bucket(p, key);

	while (f != NULL && (f->key != key || f->ended))
		f = f->next;
	if (f != NULL)
		f->ended = true;
	settle(p, key);
}

/* An event that was taken for its own was another's of the same name. */
void sh_flight_none(struct sh_place *p, struct sh_flight *f)
{
	struct sh_flight **at = bucket(p, f->key);
	uint64_t key = f->key;
	bool ended = f->ended;

	while (*at != NULL && *at != f)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	*at = f->next;
	land(p, f);
	if (ended)
		sh_flight_end(p, key);
	else
		settle(p, key);
}

/* ---- serve ---- */

static void look_at_all(void)
{
	for (struct sh_place *p = places; p != NULL; p = p->next)
		p->look(p);
}

/* Before the acknowledgement: who looks for pins then finds only those of transfers that have not ended. */
void sh_flights_poke(void)
{
	sh_sigs sigs;

	atomic_store(&breaking, true);
	if (atomic_load(&nheld) == 0)
		return;
	sh_flights_lock(&sigs);
	look_at_all();
	sh_flights_unlock(&sigs);
	if (atomic_load(&nheld) != 0)
		atomic_store(&poked, true);
}

int sh_flights_timeout_ms(void)
{
	return atomic_load(&poked) ? LOOK_MS : -1;
}

static bool older(const struct sh_place *p, uint64_t limit)
{
	for (unsigned int i = 0; p->flights > 0 && i < SH_FLIGHT_HASH; i++) {
		for (const struct sh_flight *f = p->hash[i]; f != NULL; f = f->next) {
			if (f->seq <= limit && holds(f))
				return true;
		}
	}
	return false;
}

bool sh_place_holds(const struct sh_place *p)
{
	return older(p, UINT64_MAX);
}

/* A break that has been told to wait for pins keeps the slot frozen. */
static bool frozen(void)
{
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		for (uint32_t i = 0; i < s->nslot && !atomic_load(&s->lost); i++) {
			struct pf_l_slot *l = &s->lslots[i];

			if ((atomic_load_explicit(&l->ls_word, memory_order_relaxed) & PF_SLOT_FROZEN) &&
			    (atomic_load(&l->ls_pins) | atomic_load(&l->ls_whole)))
				return true;
		}
	}
	return false;
}

void sh_flights_timer(void)
{
	bool old = false;
	sh_sigs sigs;

	if (!atomic_load(&poked))
		return;
	sh_flights_lock(&sigs);
	look_at_all();
	for (struct sh_place *p = places; p != NULL && !old; p = p->next)
		old = older(p, until_seq);
	if (!old) {
		/* Those of the moment of the last look are over. Has anybody a reason to go on? */
		until_seq = seq;
		if (!frozen())
			atomic_store(&breaking, false);
		if (atomic_load(&nheld) == 0 || !atomic_load(&breaking))
			atomic_store(&poked, false);
	}
	sh_flights_unlock(&sigs);
}

void sh_async_forget(void)
{
	pthread_mutex_init(&flights_lock, NULL);
	places = NULL;
	over = NULL;
	atomic_store(&nheld, 0);
	atomic_store(&poked, false);
	atomic_store(&breaking, false);
	sh_aio_forget();
	sh_uring_forget();
}

/* ---- what both kinds need ---- */

static int copied(struct sh_flight *f, const struct iovec *v, size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (v[i].iov_len > SIZE_MAX / 2 - f->bytes)
			return -EFAULT;
		f->bytes += v[i].iov_len;
	}
	f->copy = sh_alloc(pf_max64(f->bytes, PAGED));
	if (f->copy == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; at += v[i++].iov_len) {
		if (v[i].iov_len > 0 && sh_peek((char *)f->copy + at, v[i].iov_base, v[i].iov_len))
			return -EFAULT;
	}
	return 0;
}

/* Where userfaultfd does not see the kernel's accesses; after a truncate that comes in between they fail: EFAULT. */
static void bring(const struct iovec *v, size_t n, unsigned int flags)
{
	for (size_t i = 0; sh.user_mode && i < n; i++)
		sh_prefault(sh_addr(v[i].iov_base), v[i].iov_len, (flags & SH_HOLD_WRITE) != 0);
}

int sh_flight_pack(struct sh_flight *f, const struct iovec *v, size_t n, unsigned int flags, enum sh_fd_kind kind,
		   enum pf_pin_api api)
{
	int err = 0;

	if (kind == SH_FD_COPIES || kind == SH_FD_PINS || (flags & SH_HOLD_WRITE)) {
		if (kind != SH_FD_COPIES)
			err = sh_hold(v, n, flags, api, &f->hold);
		if (!err)
			bring(v, n, flags);
		return err;
	}
	err = copied(f, v, n);
	if (err) {
		sh_free(f->copy, pf_max64(f->bytes, PAGED));
		f->copy = NULL;
	}
	return err;
}

void *sh_no_memory(void)
{
	static void *_Atomic none;
	void *p = atomic_load(&none), *was = NULL;

	if (p != NULL)
		return p;
	p = sh_mmap(NULL, SH_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sh_mmap_err(p))
		return sh_ptr(SH_PAGE);
	if (atomic_compare_exchange_strong(&none, &was, p))
		return p;
	(void)sh_sys(SYS_munmap, p, SH_PAGE);
	return was;
}

int sh_peek(void *to, const void *from, size_t n)
{
	struct iovec here = { to, n }, there = { (void *)(uintptr_t)from, n };
	long r = sh_sys(SYS_process_vm_readv, sh_sys(SYS_getpid), &here, 1L, &there, 1L, 0L);

	if (r == -EFAULT && sh_touches(from, n)) {
		/* Where userfaultfd does not see the kernel's accesses. */
		sh_prefault(sh_addr(from), n, false);
		r = sh_sys(SYS_process_vm_readv, sh_sys(SYS_getpid), &here, 1L, &there, 1L, 0L);
	}
	if (r == -EPERM || r == -ENOSYS || r == -ESRCH) {
		memcpy(to, from, n);
		return 0;
	}
	return r == (long)n ? 0 : -EFAULT;
}
