/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinslow.c - pins that the fast path could not make: first touch, several chunks, holes, and pages whose
 * layout is being broken. Waits hold no count: what was counted is given back before anything waits, and all
 * starts again from the top.
 */
#include "trace.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#define SPINS 1000U			/* of "look again" without any progress, before we say EBUSY */

/* One chunk's part of the range, as of now. Filled under the lock; holds a reference to the file. */
struct part {
	struct sh_file *file;
	uint64_t foff;			/* page aligned */
	uint32_t first, n;
	struct sh_vma view;		/* lo, hi, prot, map write: for the cache */
	uint64_t base;
	uint32_t vgen;
	bool can_write, private;
	bool part_gone;			/* pages of the chunk were revoked, in this window */
};

static bool continues(const struct sh_vma *v, const struct sh_vma *n)
{
	return n != NULL && n->map->file == v->map->file && n->map->base == v->map->base;
}

/* The window at @addr, if [addr, addr + len) lies in it entirely. Lock held. */
static int window_of(uint64_t addr, uint64_t len, unsigned int flags, struct sh_vma **out)
{
	struct sh_vma *first = sh_vma_find(addr), *v = first;

	for (;;) {
		if (v == NULL)
			return sh.refused && sh.sessions == NULL ? -EOPNOTSUPP : -EFAULT;
		if (v->prot == PROT_NONE)
			return -EFAULT;
		if ((flags & PINFS_PIN_WRITE) && !(v->prot & PROT_WRITE))
			return -EACCES;
		if (v->hi - addr >= len)
			break;
		if (!continues(v, sh_vma_find(v->hi)))
			return -EFAULT;
		v = sh_vma_find(v->hi);
	}
	*out = first;
	return 0;
}

int sh_bring(struct sh_file *f, uint64_t foff, bool write)
{
	struct sh_want *w = sh_alloc(sizeof *w);
	struct sh_waiter wait;
	int err;

	if (w == NULL)
		return -ENOMEM;
	sh_wait_init(&wait);
	w->file = f;
	w->foff = foff;
	w->write = write;
	w->tid = (uint32_t)sh_sys(SYS_gettid);
	w->waiter = &wait;
	sh_want_ring(w);
	/* A signal ends a wait for a slot, and no other. */
	while ((err = sh_wait_intr(&wait)) == -EINTR && atomic_load(&wait.done) == 0)
		(void)sh_crew_call(sh_budget_forget_wait, &wait);
	return err;
}

/* ---- PF_P_PIN ---- */

struct pin_call {
	struct sh_session *ses;
	struct sh_req *req;
	struct {
		struct pf_p_pin_in pin;
		struct pf_p_pin_chunk chunk;
	} __attribute__((packed)) m;
	uint64_t unique;
};

/* Posted: the answer, or this, wakes the pinner, after which @c is gone. */
static int send_pin(void *arg)
{
	struct pin_call *c = arg;
	struct sh_req *r = c->req;
	struct sh_waiter *w = r->waiter;
	int err = sh_send(c->ses, r, PF_P_PIN, &c->m, sizeof c->m);

	if (err) {
		sh_free(r, sizeof *r);
		sh_wake(w, err);
	}
	return err;
}

static int send_cancel(void *arg)
{
	struct pin_call *c = arg;
	struct pf_p_cancel_in in = { .ca_unique = c->unique };

	return sh_send(c->ses, NULL, PF_P_FORGET_WAIT, &in, sizeof in);
}

/* Ask the daemon to count. 0: it did, and @pages has the addresses. A signal ends a wait with -EINTR. */
static int pin_remote(struct sh_slot *sl, const struct part *pt, uint32_t pi_flags, uint64_t *pages)
{
	size_t room = sizeof(struct pf_p_map_out) + PF_P_EXT_MAX * sizeof(struct pf_p_extent);
	struct pin_call c = { .ses = pt->file->ses };
	struct sh_waiter w;
	void *body = sh_alloc(room);
	bool cancelled = false;
	int err = -ENOMEM;

	c.req = sh_alloc(sizeof *c.req);
	if (c.req == NULL || body == NULL) {
		sh_free(c.req, sizeof *c.req);
		goto out;
	}
	sh_wait_init(&w);
	*c.req = (struct sh_req){ .slot = sl, .waiter = &w, .out = body, .out_bytes = room, .told = &c.unique };
	/* serve may take the slot for another chunk, or give it back, before this arrives: ESTALE. */
	c.m.pin = (struct pf_p_pin_in){ .pi_fh = pt->file->fh, .pi_slot = sl->sl_idx, .pi_first = pt->first,
					.pi_npage = pt->n, .pi_flags = pi_flags | PF_PI_CHUNK };
	c.m.chunk.pc_foff = pf_round_down(pt->foff, PF_CHUNK_SIZE);
	err = sh_crew_post(send_pin, &c);
	if (err) {
		sh_free(c.req, sizeof *c.req);
		goto out;
	}
	while ((err = sh_wait_intr(&w)) == -EINTR && atomic_load(&w.done) == 0) {
		if (!cancelled)
			(void)sh_crew_call(send_cancel, &c);
		cancelled = true;
	}
	if (!err)
		err = sh_pages_of(sl, body, room, pages);
out:
	sh_free(body, room);
	return err;
}

/* ---- long-term pins ---- */

struct long_call {
	struct sh_session *ses;
	struct sh_req *req;
	uint32_t op;
	size_t len;
	union {
		struct pf_p_unpin_in unpin;
		struct pf_p_admit_in admit;
	} in;
};

/* Posted, as send_pin(). */
static int send_long(void *arg)
{
	struct long_call *c = arg;
	struct sh_req *r = c->req;
	struct sh_waiter *w = r->waiter;
	int err = sh_send(c->ses, r, c->op, &c->in, c->len);

	if (err) {
		sh_free(r, sizeof *r);
		sh_wake(w, err);
	}
	return err;
}

/* Send and wait for the answer. -ENOMEM: nothing was sent. */
static int call_long(struct long_call *c)
{
	struct sh_waiter w;

	c->req = sh_alloc(sizeof *c->req);
	if (c->req == NULL)
		return -ENOMEM;
	sh_wait_init(&w);
	c->req->waiter = &w;
	if (sh_is_crew) {
		(void)send_long(c);
	} else if (sh_crew_post(send_long, c) != 0) {
		sh_free(c->req, sizeof *c->req);
		return -ENOMEM;
	}
	return sh_wait(&w);
}

/* Until the answer, so that what ends here may be pinned at once by another process of the user. */
void sh_long_ended(struct sh_session *s, uint64_t npage)
{
	struct long_call c = { .ses = s, .op = PF_P_UNPIN, .len = sizeof c.in.unpin };

	c.in.unpin.un_npage = npage + atomic_exchange(&s->long_owed, 0);
	if (call_long(&c) == -ENOMEM)
		atomic_fetch_add(&s->long_owed, c.in.unpin.un_npage);	/* with the next one */
}

/*
 * A mapping that cannot be pinned, for want of a protection or because it is private: where long-term pins are refused
 * altogether, that comes first, as in the kernel's check_vma_flags(). Takes over the reference to @f.
 */
static int refused(const struct sh_ask *a, struct sh_file *f, int err)
{
	struct long_call c = { .ses = f->ses, .op = PF_P_ADMIT, .len = sizeof c.in.admit };

	c.in.admit = (struct pf_p_admit_in){ .ad_fh = f->fh, .ad_api = a->api };
	if (call_long(&c) == -EOPNOTSUPP)
		err = -EOPNOTSUPP;
	sh_file_put(f);
	return err;
}

/* ---- one chunk ---- */

enum step { STEP_DONE, STEP_AGAIN, STEP_RESTART, STEP_FAIL };

struct slow {
	struct sh_tls *t;
	const struct sh_ask *a;
	struct pinfs_pin *p;		/* pieces counted so far */
	uint64_t *pages;		/* [512], addresses of the piece at hand */
	uint64_t at;			/* address of the piece at hand */
	uint64_t ino, foff0;
	int err;
};

/* A long-term pin is asked for at the daemon's, whatever the fast path could do. */
static bool is_long(const struct slow *s)
{
	return (s->a->flags & PINFS_PIN_LONGTERM) != 0;
}

static bool is_brief(const struct slow *s)
{
	return (s->a->flags & SH_ASK_BRIEF) != 0;
}

static void unwind(struct slow *s)
{
	struct pinfs_pin *p = s->p;
	uint64_t npage = 0;

	while (p->npiece > 0) {
		p->npiece--;
		sh_uncount(p->piece[p->npiece].slot, p->piece[p->npiece].first, p->piece[p->npiece].n,
			   is_brief(s));
		npage += p->piece[p->npiece].n;
	}
	if (is_long(s) && npage != 0)
		sh_long_ended(p->ses, npage);
	s->at = s->a->addr;
	if (s->a->sgs != NULL)
		s->a->sgs->need = 0;
}

static void cache_put(struct sh_tls *t, const struct part *pt, struct sh_slot *sl, uint32_t seq)
{
	uint64_t clo = pt->base + pf_round_down(pt->foff, PF_CHUNK_SIZE);
	struct sh_pcache *c = &t->pc[(pt->base + pt->foff) >> PF_CHUNK_SHIFT & (SH_PCACHE - 1)];

	if (pt->part_gone)
		return;			/* the fast path looks at no single page */
	c->hi = 0;
	c->base = pt->base;
	c->slot = sl;
	c->ino = pt->file->ino;
	c->vgen = pt->vgen;
	c->seq = seq;
	c->write = pt->can_write;
	c->lo = pf_max64(clo, pt->view.lo);
	c->hi = pf_min64(clo + PF_CHUNK_SIZE, pt->view.hi);
}

/* Try the handshake on a slot whose pages are known. */
static bool count_here(struct slow *s, const struct part *pt, struct sh_slot *sl, uint32_t seq, uint32_t word)
{
	if (atomic_load(&sl->sl_led->ls_word) != word)
		return false;
	sh_gap();
	sh_count(sl, pt->first, pt->n, is_brief(s));
	if (sh_still(sl, word, seq)) {
		if (!pt->private)
			cache_put(s->t, pt, sl, seq);
		return true;
	}
	sh_uncount(sl, pt->first, pt->n, is_brief(s));
	return false;
}

static enum step failed(struct slow *s, int err)
{
	s->err = err;
	return STEP_FAIL;
}

/* A break of these pages is in progress: let go of everything, wait until it is over, begin again. */
static enum step wait_break(struct slow *s, const struct part *pt, struct sh_slot *sl, uint32_t fl)
{
	int err;

	unwind(s);
	err = pin_remote(sl, pt, fl | PF_PI_WAIT, s->pages);
	if (err == 0) {
		sh_uncount(sl, pt->first, pt->n, is_brief(s));	/* it was over already; earlier parts come first */
		if (is_long(s))
			sh_long_ended(pt->file->ses, pt->n);
	}
	if (err && err != -EAGAIN && err != -ESTALE && err != -EBADF)
		return failed(s, err);
	return STEP_RESTART;
}

/* The daemon counts, because the slot is frozen, blocks are missing, or the pin is long-term. */
static enum step by_daemon(struct slow *s, const struct part *pt, struct sh_slot *sl)
{
	uint32_t fl = (s->a->flags & PINFS_PIN_WRITE ? PF_PI_WRITE : s->a->flags & SH_ASK_HOLES ? PF_PI_HOLES : 0) |
		      (is_long(s) ? PF_PI_LONGTERM : 0) | (is_brief(s) ? PF_PI_BRIEF : 0) |
		      (uint32_t)s->a->api << PF_PI_API_SHIFT;
	int err = pin_remote(sl, pt, fl, s->pages);

	if (err == 0)
		return STEP_DONE;
	if (err == -ESTALE || err == -EBADF)
		return STEP_AGAIN;	/* the slot was taken away meanwhile */
	if (err == -EAGAIN && !(s->a->flags & PINFS_PIN_NOWAIT))
		return wait_break(s, pt, sl, fl);
	return failed(s, err);
}

static enum step pin_part(struct slow *s, struct part *pt, struct sh_slot **out)
{
	bool write = (s->a->flags & PINFS_PIN_WRITE) != 0;
	uint64_t missing = UINT64_MAX, unknown = UINT64_MAX;
	bool eof = false, bad = false, live;
	struct sh_slot *sl;
	uint32_t seq = 0, word = 0;
	sh_sigs old;
	int err;

	sh_lock(&old);
	sl = sh_slot_find(pt->file, pt->foff >> PF_CHUNK_SHIFT);
	live = sl != NULL && sl->sl_state == SH_LIVE;
	if (live) {
		seq = atomic_load(&sl->sl_seq);
		word = atomic_load(&sl->sl_word);
		for (uint32_t i = 0; i < pt->n; i++) {
			uint64_t pg = atomic_load(&sl->sl_page[pt->first + i]);

			s->pages[pt->first + i] = pg;
			if (pg == SH_PG_UNKNOWN && unknown == UINT64_MAX)
				unknown = pt->foff + i * SH_PAGE;
			if (pg == SH_PG_HOLE && missing == UINT64_MAX)
				missing = pt->foff + i * SH_PAGE;
			eof |= pg == SH_PG_EOF;
			bad |= pg == SH_PG_BAD;
		}
	}
	sh_unlock(&old);
	*out = sl;
	if (atomic_load(&pt->file->ses->lost))
		return failed(s, -ENOTCONN);
	/* Long-term, the slot is enough: a pin that is refused has allocated nothing. */
	if (!live || (unknown != UINT64_MAX && !is_long(s))) {
		err = sh_bring(pt->file, unknown != UINT64_MAX ? unknown : pt->foff, write && !is_long(s));
		if (is_long(s) && (err == -EFAULT || err == -EIO))
			err = 0;		/* of the page; there is a slot now */
		if (err == -EFAULT && (s->a->flags & SH_ASK_HOLES))
			err = 0;		/* a hole, or the end: the page is known now */
		return err ? failed(s, err) : STEP_AGAIN;
	}
	if (is_long(s))
		return by_daemon(s, pt, sl);
	if (bad)
		return failed(s, -EIO);
	if (eof || (missing != UINT64_MAX && !write && !(s->a->flags & SH_ASK_HOLES)))
		return failed(s, -EFAULT);
	if (missing != UINT64_MAX && write)
		return by_daemon(s, pt, sl);
	if (count_here(s, pt, sl, seq, word))
		return STEP_DONE;
	if (atomic_load(&sl->sl_led->ls_word) & PF_SLOT_FROZEN)
		return by_daemon(s, pt, sl);
	err = sh_bring(pt->file, pt->foff, write);		/* a new generation: new addresses */
	if (err == -EFAULT && (s->a->flags & SH_ASK_HOLES))
		err = 0;
	return err ? failed(s, err) : STEP_AGAIN;
}

/* ---- the whole range ---- */

static int locate(struct slow *s, struct part *pt)
{
	uint64_t left = s->a->addr + s->a->len - s->at, end;
	struct sh_file *ask = NULL;
	struct sh_vma *v;
	sh_sigs old;
	int err;

	sh_lock(&old);
	err = window_of(s->at, left, s->a->flags, &v);
	/* A page of a private window may be a copy, which no device address leads to. */
	if (!err && v->map->private && !(s->a->flags & SH_ASK_PRIVATE))
		err = -EFAULT;
	if (!err && s->p != NULL && (v->map->file->ino != s->ino || v->map->file->ses != s->p->ses))
		err = -EFAULT;			/* remapped under our feet */
	if (!err) {
		pt->file = v->map->file;
		pt->file->refs++;
		pt->base = v->map->base;
		pt->view = *v;
		pt->can_write = (v->prot & PROT_WRITE) != 0;
		pt->private = v->map->private;
		pt->part_gone = sh_mchunk(v, sh_vma_foff(v, s->at) >> PF_CHUNK_SHIFT)->any_gone;
		pt->vgen = atomic_load(&sh_life.vgen);
		pt->foff = pf_round_down(sh_vma_foff(v, s->at), SH_PAGE);
		end = pf_min64(sh_vma_foff(v, s->at) + left, pf_round_down(pt->foff, PF_CHUNK_SIZE) + PF_CHUNK_SIZE);
		pt->first = (uint32_t)(pt->foff / SH_PAGE % SH_CHUNK_PAGES);
		pt->n = (uint32_t)PF_DIV_UP(end - pt->foff, SH_PAGE);
		if (pt->part_gone && sh_is_gone(v, pt->foff, pt->n * SH_PAGE))
			err = -ESTALE;
	}
	if (err && is_long(s) && (v = sh_vma_find(s->at)) != NULL) {
		ask = v->map->file;
		ask->refs++;
	}
	sh_unlock(&old);
	return ask != NULL ? refused(s->a, ask, err) : err;
}

static void add_sg(struct slow *s, const struct part *pt)
{
	uint64_t from = pf_max64(pt->foff, s->at - pt->base), to = s->a->addr + s->a->len - pt->base;

	for (uint32_t i = 0; i < pt->n; i++) {
		uint64_t page = pt->foff + i * SH_PAGE, a = pf_max64(page, from), b = pf_min64(page + SH_PAGE, to);

		sh_sg_add(s->a->sgs, s->pages[pt->first + i] + (a - page), a, b - a);
	}
}

static int first_part(struct slow *s, const struct part *pt)
{
	uint64_t end = pt->foff % PF_CHUNK_SIZE + (s->a->addr - pt->base - pt->foff) + s->a->len;
	uint64_t n = PF_DIV_UP(end, PF_CHUNK_SIZE);

	if (n > pt->file->ses->nslot)
		return -EBUSY;			/* all slots would not do */
	s->p = sh_pin_take(s->t, pt->file->ses);
	if (s->p == NULL)
		return -ENOMEM;
	s->p->npiece = 0;
	s->p->live = 0;
	s->p->piece = n <= SH_PIECES ? s->p->own : sh_alloc(n * sizeof *s->p->piece);
	if (s->p->piece == NULL)
		return -ENOMEM;
	s->p->room = n;
	s->ino = pt->file->ino;
	s->foff0 = pt->foff;
	return 0;
}

static int pin_range(struct slow *s)
{
	unsigned int spins = 0;
	struct sh_slot *sl;
	struct part pt;
	enum step st;
	int err;

	do {
		err = locate(s, &pt);
		if (err)
			return err;
		if (s->p == NULL)
			err = first_part(s, &pt);
		st = err ? failed(s, err) : pin_part(s, &pt, &sl);
		if (st == STEP_DONE) {
			s->p->piece[s->p->npiece++] = (struct sh_piece){ .slot = sl, .first = pt.first, .n = pt.n };
			if (s->a->sgs != NULL)
				add_sg(s, &pt);
			s->at = pt.base + pt.foff + pt.n * SH_PAGE;
		}
		sh_file_put(pt.file);
		if (st == STEP_FAIL)
			return s->err;
		if (st == STEP_AGAIN && ++spins > SPINS)
			return -EBUSY;
	} while (s->at < s->a->addr + s->a->len);
	return 0;
}

/* Give everything back that a failed call holds. */
static void abandon(struct slow *s)
{
	size_t need = s->a->sgs != NULL ? s->a->sgs->need : 0;

	if (s->p == NULL)
		return;
	unwind(s);
	if (s->a->sgs != NULL)
		s->a->sgs->need = need;
	if (s->p->piece != NULL && s->p->piece != s->p->own)
		sh_free(s->p->piece, s->p->room * sizeof *s->p->piece);
	sh_pin_give(s->t, s->p);
}

int sh_pin_slow(struct sh_tls *t, const struct sh_ask *a, struct pinfs_pin **out)
{
	struct slow s = { .t = t, .a = a, .at = a->addr };
	int err;

	sh_alive();
	if (a->sgs != NULL)
		a->sgs->need = 0;
	s.pages = sh_alloc(SH_CHUNK_PAGES * sizeof *s.pages);
	if (s.pages == NULL)
		return -ENOMEM;
	t->slow_ns = sh_trace_begin();
	err = pin_range(&s);
	sh_free(s.pages, SH_CHUNK_PAGES * sizeof *s.pages);
	if (!err && a->sgs != NULL && a->sgs->need > a->sgs->room)
		err = -E2BIG;
	if (err) {
		SH_PROBE_REFUSED(s.p, t->slow_ns, s.foff0, a->len, err);
		abandon(&s);
		return err;
	}
	s.p->brief = is_brief(&s);
	s.p->flags = a->flags & (PINFS_PIN_WRITE | PINFS_PIN_LONGTERM);
	sh_pin_publish(t, s.p, a->api, s.ino, s.foff0,
		       pf_round_up(a->addr + a->len, SH_PAGE) - pf_round_down(a->addr, SH_PAGE));
	*out = s.p;
	return 0;
}

/* ---- in the crew: the last unpin of a slot that somebody looks at ---- */

void sh_slot_kicked(struct sh_slot *sl)
{
	struct pf_p_kick_in in = { .ki_slot = sl->sl_idx };
	struct sh_file *f = NULL;
	sh_sigs old;

	if (atomic_load(&sl->sl_led->ls_word) & PF_SLOT_FROZEN)
		(void)sh_send(sl->sl_ses, NULL, PF_P_KICK, &in, sizeof in);
	if (!atomic_load(&sl->sl_watch))
		return;
	if (atomic_load(&sl->sl_ses->hungry))
		sh_serve_bell();
	if (atomic_load(&sl->sl_ses->lost)) {
		sh_session_release(sl->sl_ses);
		return;
	}
	sh_lock(&old);
	if (sl->sl_state == SH_DEAD)
		sh_slot_bury(sl);
	else if (sl->sl_file != NULL && sl->sl_file->refs == 0 && !sl->sl_file->idling)
		f = sl->sl_file;
	if (f != NULL)
		f->idling = true;
	sh_unlock(&old);
	if (f != NULL)
		(void)sh_file_idle(f);
}

/* ---- queries ---- */

PF_EXPORT int pinfs_range_query(const void *addr, size_t len, struct pinfs_range_info *info)
{
	uint64_t at = sh_addr(addr), end, lo, hi;
	struct sh_vma *v;
	sh_sigs old;
	int err;

	if (info == NULL || len == 0)
		return -EINVAL;
	if (len > UINT64_MAX - at)
		return -EOVERFLOW;
	sh_alive();
	sh_lock(&old);
	err = window_of(at, len, 0, &v);
	if (!err) {
		lo = pf_round_down(sh_vma_foff(v, at), SH_PAGE);
		hi = pf_round_up(sh_vma_foff(v, at) + len, SH_PAGE);
		*info = (struct pinfs_range_info){ .ri_ino = v->map->file->ino, .ri_foff = sh_vma_foff(v, at),
						   .ri_pages = (hi - lo) / SH_PAGE };
		for (; lo < hi; lo = end) {
			struct sh_slot *sl = sh_slot_find(v->map->file, lo >> PF_CHUNK_SHIFT);

			end = pf_min64(hi, pf_round_down(lo, PF_CHUNK_SIZE) + PF_CHUNK_SIZE);
			for (uint64_t o = lo; sl != NULL && o < end; o += SH_PAGE)
				info->ri_pinned += atomic_load(&sl->sl_led->ls_whole) != 0 ||
						   atomic_load(&sl->sl_led->ls_page[o / SH_PAGE % SH_CHUNK_PAGES]) != 0;
		}
	}
	sh_unlock(&old);
	return err;
}

int sh_lend_of(const void *addr, int (*pick)(void *session))
{
	struct sh_session *s = NULL;
	struct sh_vma *v;
	sh_sigs old;
	int fd, err;

	sh_alive();
	sh_lock(&old);
	v = sh_vma_find(sh_addr(addr));
	if (v != NULL)
		s = v->map->file->ses;
	sh_unlock(&old);
	if (s == NULL)
		return sh.refused && sh.sessions == NULL ? -EOPNOTSUPP : -EFAULT;
	err = sh_crew_lend(&fd, pick, s);
	return err == -EBADF ? -ENOTCONN : err ? err : fd;
}

static int pick_device(void *arg)
{
	struct sh_session *s = arg;

	return s->devfd >= 0 ? s->devfd : -EBADF;
}

PF_EXPORT int pinfs_device(const void *addr)
{
	return sh_lend_of(addr, pick_device);
}
