/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.c - pinfs_pin() and its relatives: the fast path, which is the pinner's side of the handshake in
 * ledger.h, and unpin. No lock, no system call, no allocation unless something is in the way; then
 * sh_pin_slow() does it all properly.
 *
 * WHY THE CACHED LOOK-UP MAY BE USED. A thread remembers (address range -> slot) with three tags: vgen (no
 * window of the process has changed), sl_seq (the slot's pages are the ones looked up) and sl_word (those pages
 * are the daemon's word of this generation). A tag that changes after it was compared is a race between a pin
 * and, say, a munmap, in which either order is right - as long as the count went to the slot that still has
 * these blocks. That is what the load of ls_word *after* the addition proves: the daemon changes it before the
 * slot can mean anything else, and it does not take a slot away whose counters are not zero.
 */
#include "trace.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define MAGAZINE 32U			/* pins that a thread keeps for itself */

/* ---- pin objects ---- */

int sh_pins_init(struct sh_session *s)
{
	s->pins = sh_anon(s->nrec * sizeof *s->pins + 1);
	return s->pins == NULL ? -ENOMEM : 0;
}

static struct pinfs_pin *pin_refill(struct sh_session *s)
{
	struct pinfs_pin *p;

	pthread_mutex_lock(&s->pin_lock);
	p = s->free_pins;
	if (p != NULL) {
		s->free_pins = p->next;
	} else if (s->fresh_pins < s->nrec) {
		p = &s->pins[s->fresh_pins];
		p->rec = &s->lrecs[s->fresh_pins++];
		p->ses = s;
	}
	pthread_mutex_unlock(&s->pin_lock);
	if (p == NULL) {
		p = sh_alloc(sizeof *p);
		if (p != NULL)
			p->ses = s;
	}
	return p;
}

static void pin_return(struct pinfs_pin *p)
{
	struct sh_session *s = p->ses;

	if (p->rec == NULL) {
		sh_free(p, sizeof *p);
		return;
	}
	pthread_mutex_lock(&s->pin_lock);
	p->next = s->free_pins;
	s->free_pins = p;
	pthread_mutex_unlock(&s->pin_lock);
}

void sh_mag_flush(struct sh_tls *t)
{
	struct pinfs_pin *p;

	while ((p = t->mag) != NULL) {
		t->mag = p->next;
		if (t->epoch == atomic_load(&sh_life.epoch))
			pin_return(p);
	}
	t->nmag = 0;
	t->mag_ses = NULL;
}

struct pinfs_pin *sh_pin_take(struct sh_tls *t, struct sh_session *s)
{
	struct pinfs_pin *p = t->mag;

	if (p == NULL || t->mag_ses != s)
		return pin_refill(s);
	t->mag = p->next;
	t->nmag--;
	return p;
}

void sh_pin_give(struct sh_tls *t, struct pinfs_pin *p)
{
	if (t == NULL || p->rec == NULL || t->nmag >= MAGAZINE) {
		pin_return(p);
		return;
	}
	if (t->mag_ses != p->ses) {
		sh_mag_flush(t);
		t->mag_ses = p->ses;
	}
	p->next = t->mag;
	t->mag = p;
	t->nmag++;
}

/* For people: pinfsctl shows it. The coarse clock is as good as a tick, and costs no more than a load. */
void sh_pin_publish(struct sh_tls *t, struct pinfs_pin *p, enum pf_pin_api api, uint64_t ino, uint64_t foff,
		    uint64_t len)
{
	struct pf_l_rec *r = p->rec;
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	p->epoch = t->epoch;
	p->ino = ino;
	p->foff = foff;
	p->len = len;
	p->start_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	p->live = 1;
	if (r == NULL) {
		SH_PROBE_PIN(p);
		return;
	}
	r->lr_tid = t->tid;
	r->lr_ino = ino;
	r->lr_foff = foff;
	r->lr_len = len;
	r->lr_start_ns = p->start_ns;
	r->lr_api = api;
	r->lr_slot = p->piece[0].slot->sl_idx;
	memset(r->lr_label, 0, sizeof r->lr_label);
	atomic_store_explicit(&r->lr_state, PF_REC_LIVE, memory_order_release);
	SH_PROBE_PIN(p);
}

/* ---- counters ---- */

void sh_count(struct sh_slot *sl, uint32_t first, uint32_t n, bool brief)
{
	struct pf_l_slot *l = sl->sl_led;

	if (n == SH_CHUNK_PAGES) {
		atomic_fetch_add(&l->ls_whole, 1);
	} else {
		for (uint32_t i = first; i < first + n; i++)
			atomic_fetch_add(&l->ls_page[i], 1);
		atomic_fetch_add(&l->ls_pins, 1);
	}
	if (brief)
		atomic_fetch_add(&l->ls_brief, 1);
}

/* The short way to the daemon, ledger.h. False: it does not listen. Nothing here but a counter and a futex. */
static bool kick_by_futex(struct sh_slot *sl)
{
	struct sh_session *s = sl->sl_ses;

	if (s->lmap == NULL)
		return false;
	atomic_fetch_or(&s->lmap[sl->sl_idx / 64], UINT64_C(1) << sl->sl_idx % 64);
	return (atomic_fetch_add(&s->ledger->lh_kick, PF_KICK_ONE) & PF_KICK_ARMED) &&
	       sh_sys(SYS_futex, &s->ledger->lh_kick, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0;
}

/* Something was subtracted: does anybody wait for it? @were: pins of the slot before. */
static void tell(struct sh_slot *sl, uint32_t were)
{
	uint32_t word = atomic_load(&sl->sl_led->ls_word) & (PF_SLOT_FROZEN | PF_SLOT_STALE);

	if (atomic_load(&sl->sl_watch) || (word & PF_SLOT_STALE) || (word != 0 && !kick_by_futex(sl))) {
		if (were == 1)
			atomic_store(&sl->sl_ses->unpin, true);
		sh_crew_kick(sl);
	}
}

/*
 * Subtract, then look whether anybody waits for it: FROZEN is set before a breaker scans, the watch before
 * sh_file_idle() and sh_slot_bury() do. All sequentially consistent. The slot may be somebody else's by the
 * time we look at it; then the crew is asked for nothing once too often.
 */
void sh_uncount(struct sh_slot *sl, uint32_t first, uint32_t n, bool brief)
{
	struct pf_l_slot *l = sl->sl_led;
	uint32_t were;

	if (n == SH_CHUNK_PAGES) {
		were = atomic_fetch_sub(&l->ls_whole, 1);
	} else {
		for (uint32_t i = first; i < first + n; i++)
			atomic_fetch_sub(&l->ls_page[i], 1);
		were = atomic_fetch_sub(&l->ls_pins, 1);
	}
	if (brief)
		atomic_fetch_sub(&l->ls_brief, 1);
	tell(sl, were);
}

void sh_not_brief(struct sh_slot *sl)
{
	atomic_fetch_sub(&sl->sl_led->ls_brief, 1);
	tell(sl, 0);
}

void sh_mapped(struct pinfs_pin *p, bool mapped)
{
	if (p->mapped == mapped)
		return;
	p->mapped = mapped;
	for (uint32_t i = 0; i < p->npiece; i++) {
		_Atomic uint32_t *n = &p->piece[i].slot->sl_led->ls_mapped;

		(void)(mapped ? atomic_fetch_add(n, 1) : atomic_fetch_sub(n, 1));
	}
}

void sh_sg_add(struct sh_sgs *l, uint64_t doff, uint64_t foff, uint64_t len)
{
	struct pinfs_sg *e = &l->last;

	if (l->need > 0 && e->sg_doff + e->sg_len == doff && e->sg_foff + e->sg_len == foff) {
		e->sg_len += len;
	} else {
		l->need++;
		*e = (struct pinfs_sg){ .sg_doff = doff, .sg_len = len, .sg_foff = foff };
	}
	if (l->need <= l->room)
		l->sg[l->need - 1] = *e;
}

/* ---- the fast path ---- */

/* Bytes of page @i of @c's chunk that [foff, foff + len) covers, to the list. */
static void sg_page(struct sh_sgs *l, uint64_t pg, uint64_t page_foff, uint64_t foff, uint64_t len)
{
	uint64_t a = pf_max64(page_foff, foff), b = pf_min64(page_foff + SH_PAGE, foff + len);

	sh_sg_add(l, pg + (a - page_foff), a, b - a);
}

/* Are they all here? To the list, if one is wanted. One look, if the whole chunk is. */
static bool all_pages(const struct sh_slot *sl, uint32_t first, uint32_t n, uint64_t foff, const struct sh_ask *a)
{
	uint64_t all = atomic_load_explicit(&sl->sl_all, memory_order_relaxed), pg;

	if (all != SH_ALL_NOT && a->sgs == NULL)
		return true;
	if (sh_pg_here(all)) {
		sh_sg_add(a->sgs, all + foff % PF_CHUNK_SIZE, foff, a->len);
		return true;
	}
	for (uint32_t i = first; i < first + n; i++) {
		pg = atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed);
		if (!sh_pg_here(pg))
			return false;
		if (a->sgs != NULL)
			sg_page(a->sgs, pg, pf_round_down(foff, SH_PAGE) + (i - first) * SH_PAGE, foff, a->len);
	}
	return true;
}

bool sh_pin_fast(struct sh_tls *t, const struct sh_ask *a, struct pinfs_pin **out)
{
	const struct sh_pcache *c = &t->pc[(a->addr >> PF_CHUNK_SHIFT) % SH_PCACHE];
	uint64_t foff = a->addr - c->base;
	bool brief = (a->flags & SH_ASK_BRIEF) != 0;
	uint32_t first, n, word;
	struct sh_slot *sl = c->slot;
	struct pinfs_pin *p;

	/* An empty entry ends at 0. */
	if (a->addr < c->lo || a->addr >= c->hi || a->len > c->hi - a->addr)
		return false;
	if (c->vgen != atomic_load(&sh_life.vgen) || c->seq != atomic_load(&sl->sl_seq) ||
	    ((a->flags & PINFS_PIN_WRITE) && !c->write))
		return false;
	word = atomic_load_explicit(&sl->sl_word, memory_order_relaxed);
	if (atomic_load(&sl->sl_led->ls_word) != word)
		return false;		/* frozen, or the blocks have changed */
	first = (uint32_t)(foff / SH_PAGE % SH_CHUNK_PAGES);
	n = (uint32_t)((foff + a->len - 1) / SH_PAGE % SH_CHUNK_PAGES) - first + 1;
	if (!all_pages(sl, first, n, foff, a))
		return false;
	p = sh_pin_take(t, sl->sl_ses);
	if (p == NULL)
		return false;
	sh_gap();
	sh_count(sl, first, n, brief);
	if (!sh_still(sl, word, c->seq) || (a->sgs != NULL && a->sgs->need > a->sgs->room)) {
		sh_uncount(sl, first, n, brief);
		sh_pin_give(t, p);
		return false;
	}
	p->piece = p->own;
	p->npiece = 1;
	p->own[0] = (struct sh_piece){ .slot = sl, .first = first, .n = n };
	p->flags = a->flags & PINFS_PIN_WRITE;
	p->brief = brief;
	sh_pin_publish(t, p, a->api, c->ino, pf_round_down(foff, SH_PAGE), n * SH_PAGE);
	*out = p;
	return true;
}

int sh_pin_ask(const struct sh_ask *a, struct pinfs_pin **out)
{
	struct sh_tls *t = sh_tls();

	if (t == NULL)
		return -ENOMEM;
	if (!(a->flags & PINFS_PIN_LONGTERM) && sh_pin_fast(t, a, out))
		return 0;
	return sh_pin_slow(t, a, out);
}

static int pin_any(const void *addr, size_t len, unsigned int flags, struct sh_sgs *sgs, struct pinfs_pin **out)
{
	struct sh_ask a = { .addr = sh_addr(addr), .len = len, .flags = flags, .sgs = sgs,
			    .api = flags & PINFS_PIN_LONGTERM ? PF_API_LONGTERM : PF_API_PIN };
	int err;

	if (len == 0 || out == NULL || (flags & ~(PINFS_PIN_WRITE | PINFS_PIN_NOWAIT | PINFS_PIN_LONGTERM)))
		return -EINVAL;
	if (len > UINT64_MAX - a.addr)
		return -EOVERFLOW;
	err = sh_pin_ask(&a, out);
	if (!err)
		(*out)->raw = sgs != NULL;
	return err;
}

PF_EXPORT int pinfs_pin(const void *addr, size_t len, unsigned int flags, struct pinfs_pin **out)
{
	return pin_any(addr, len, flags, NULL, out);
}

PF_EXPORT int pinfs_pin_sg(const void *addr, size_t len, unsigned int flags, struct pinfs_sg *sg, size_t *nsg,
			   struct pinfs_pin **out)
{
	struct sh_sgs l = { .sg = sg };
	int err;

	if (nsg == NULL || (sg == NULL && *nsg != 0))
		return -EINVAL;
	l.room = *nsg;
	err = pin_any(addr, len, flags, &l, out);
	if (err == 0 || err == -E2BIG)
		*nsg = l.need;
	return err;
}

PF_EXPORT int pinfs_unpin(struct pinfs_pin *p)
{
	if (p == NULL)
		return -EINVAL;
	if (p->epoch != atomic_load(&sh_life.epoch))
		return -ECHILD;
	if (!p->live)
		return -EINVAL;
	if (__builtin_expect(p->give != SH_GIVE_NONE, 0)) {
		if (p->give == SH_GIVE_UNDER_WAY)
			return -EBUSY;
		p->npiece = 0;			/* its counts are another process's */
		p->flags &= ~PINFS_PIN_LONGTERM;
		p->give = SH_GIVE_NONE;
	}
	p->live = 0;
	SH_PROBE_UNPIN(p);
	if (p->rec != NULL)
		atomic_store_explicit(&p->rec->lr_state, PF_REC_FREE, memory_order_release);
	sh_mapped(p, false);
	for (uint32_t i = 0; i < p->npiece; i++)
		sh_uncount(p->piece[i].slot, p->piece[i].first, p->piece[i].n, p->brief != 0);
	if (p->flags & PINFS_PIN_LONGTERM)
		sh_long_ended(p->ses, p->len / SH_PAGE);
	if (p->piece != p->own)
		sh_free(p->piece, p->room * sizeof *p->piece);
	sh_pin_give(sh_tls(), p);
	return 0;
}

PF_EXPORT int pinfs_pin_query(const struct pinfs_pin *p, struct pinfs_pin_info *info)
{
	struct timespec now;

	if (p == NULL || info == NULL || !p->live)
		return -EINVAL;
	if (atomic_load(&p->ses->lost))
		return -ENOTCONN;
	if (sh_pin_void(p))
		return -ESTALE;
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	*info = (struct pinfs_pin_info){
		.pi_ino = p->ino, .pi_foff = p->foff, .pi_len = p->len, .pi_flags = p->flags,
		.pi_age_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec - p->start_ns,
	};
	return 0;
}

PF_EXPORT int pinfs_pin_label(struct pinfs_pin *p, const char *label)
{
	char text[sizeof p->rec->lr_label] = "";

	if (p == NULL || label == NULL || !p->live)
		return -EINVAL;
	if (p->epoch != atomic_load(&sh_life.epoch))
		return -ECHILD;
	memcpy(text, label, strnlen(label, sizeof text - 1));
	if (p->rec != NULL)
		memcpy(p->rec->lr_label, text, sizeof text);
	if (sh_tracing())
		sh_trace_label(p);
	return 0;
}
