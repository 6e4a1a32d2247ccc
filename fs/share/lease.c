/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c - layout leases: take, drop, and what a CUT makes of those that it meets.
 *
 * Owns struct pf_lease. Takes LAYOUT of one inode, under it SESSION. Sends, but never waits: a CUT that has to wait is
 * parked by layout.c.
 */
#include "share/lease.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"
#include "base/probe.h"
#include "share/give.h"
#include "share/lay.h"

#define LEASES_MAX 4096U		/* of one session */

typedef unsigned long long ull;

static bool overlap(const struct pf_lease *l, uint64_t foff, uint64_t len)
{
	return len != 0 && foff < pf_range_end(l->foff, l->len) && l->foff < pf_range_end(foff, len);
}

/* Pages pinned by its session in the lease's part of [foff, foff + len). */
static uint64_t pins_under(const struct pf_lease *l, uint64_t foff, uint64_t len)
{
	uint64_t lo = pf_max64(l->foff, foff);
	uint64_t hi = pf_min64(pf_range_end(l->foff, l->len), pf_range_end(foff, len));

	return lo < hi ? pf_win_pinned(l->share, lo, hi - lo) : 0;
}

void pf_lease_describe(const struct pf_lease *l, struct pf_p_lease_out *out)
{
	*out = (struct pf_p_lease_out){
		.lo_id = l->id, .lo_foff = l->foff, .lo_len = l->len, .lo_flags = l->flags,
		.lo_pid = (uint32_t)l->share->sess->pid, .lo_state = l->state,
	};
}

static uint64_t left_ms(const struct pf_lease *l, uint64_t now)
{
	return l->state == PF_LEASE_BREAKING && l->until_ns > now ? PF_DIV_UP(l->until_ns - now, PF_NS_PER_MS) : 0;
}

static void tell(const struct pf_lease *l, bool moved)
{
	struct pf_sess *s = l->share->sess;
	struct pf_p_lease_event ev = {
		.ev_id = l->id, .ev_left_ms = left_ms(l, pf_lay_now()), .ev_state = l->state, .ev_moved = moved
	};
	struct fuse_out_header h = { .len = sizeof h + sizeof ev, .error = PF_P_NOTIFY_LEASE, .unique = 0 };
	struct iovec iov[2] = { { &h, sizeof h }, { &ev, sizeof ev } };

	if (!l->ghost && atomic_load(&s->state) == PF_SESS_LIVE)
		s->send(s->send_arg, iov, 2);
}

static void set_state(struct pf_lease *l, enum pf_lease_state state)
{
	if (l->state == state)
		return;
	l->state = state;
	PF_PROBE_LEASE(l->share->sess, BREAK, l->id, l->share->obj->ino, l->foff, l->len);
	if (state == PF_LEASE_BROKEN)
		pf_lay_count(l->share->sess->fs, PF_COUNT_LEASES_BROKEN, 1);
	tell(l, false);
}

void pf_lease_move(struct pf_lease *l, struct pf_share *to)
{
	enum pf_lease_state state = l->state;

	l->state = PF_LEASE_BROKEN;
	tell(l, true);
	l->state = state;
	atomic_fetch_sub(&l->share->sess->nr_leases, 1);
	atomic_fetch_add(&to->sess->nr_leases, 1);
	pf_share_get(to);
	l->share = to;
	l->stack = (struct pf_t_stack){ 0 };	/* addresses of the other process */
}

static void put_on(struct pf_lobj *o, struct pf_lease *l)
{
	l->next = o->leases;
	if (l->next)
		l->next->pprev = &l->next;
	l->pprev = &o->leases;
	o->leases = l;
}

/* Takes it off the list and frees it. True: a reference of its share is the caller's now. */
static bool take_off(struct pf_lease **at)
{
	struct pf_lease *l = *at;
	bool ref = !l->ghost;

	*at = l->next;
	if (l->next)
		l->next->pprev = at;
	if (l->give)
		pf_give_void(l->give);
	PF_PROBE_LEASE(l->share->sess, DROP, l->id, l->share->obj->ino, l->foff, l->len);
	if (ref)
		atomic_fetch_sub(&l->share->sess->nr_leases, 1);
	free(l);
	return ref;
}

/* Ghosts whose pins have ended. */
static void reap(struct pf_lobj *o)
{
	struct pf_lease **at = &o->leases;

	while (*at)
		if ((*at)->ghost && pins_under(*at, 0, UINT64_MAX) == 0)
			(void)take_off(at);
		else
			at = &(*at)->next;
}

void pf_lease_free_ghosts(struct pf_share *sh)
{
	struct pf_lease **at = &sh->obj->leases;

	while (*at)
		if ((*at)->share == sh) {
			assert((*at)->ghost);
			(void)take_off(at);
		} else {
			at = &(*at)->next;
		}
}

unsigned int pf_lease_end_share(struct pf_share *sh)
{
	struct pf_lease **at = &sh->obj->leases;
	unsigned int refs = 0;

	while (*at)
		if ((*at)->share == sh)
			refs += take_off(at);
		else
			at = &(*at)->next;
	return refs;
}

/* Does a lease that exists keep others from having this one? */
static bool conflicts(const struct pf_lease *l, const struct pf_share *sh, const struct pf_lease_req *rq)
{
	return l->share->sess != sh->sess && l->state != PF_LEASE_BROKEN && overlap(l, rq->foff, rq->len) &&
	       ((rq->flags | l->flags) & PF_LE_WRITE) != 0;
}

int pf_lease_take(struct pf_share *sh, const struct pf_lease_req *rq, bool take, struct pf_p_lease_out *out)
{
	struct pf_lease *l = calloc(1, sizeof *l), *other;
	struct pf_lobj *o = sh->obj;
	struct pf_sess *s = sh->sess;
	int err = 0;

	*out = (struct pf_p_lease_out){ 0 };
	if (!l)
		return -ENOMEM;
	pf_mutex_lock(&o->lock);
	reap(o);
	for (other = o->leases; other && !conflicts(other, sh, rq);)
		other = other->next;
	/* The session's end looks for leases after it has become visible, under this lock. */
	if (atomic_load(&s->state) != PF_SESS_LIVE) {
		err = -ENOTCONN;
	} else if (other) {
		pf_lease_describe(other, out);
		err = -EAGAIN;
	} else if (o->cuts) {
		err = -EAGAIN;
	} else if (atomic_load(&s->nr_leases) >= LEASES_MAX) {
		err = -ENOLCK;
	} else if (take) {
		*l = (struct pf_lease){ .share = sh, .id = pf_lay_id(s->fs), .foff = rq->foff, .len = rq->len,
					.flags = rq->flags, .since_ns = pf_lay_now() };
		pf_share_get(sh);
		atomic_fetch_add(&s->nr_leases, 1);
		put_on(o, l);
		PF_PROBE_LEASE(s, TAKE, l->id, o->ino, l->foff, l->len);
		pf_lease_describe(l, out);
		l = NULL;
	}
	pf_mutex_unlock(&o->lock);
	free(l);
	return err;
}

struct pf_lease *pf_lease_find(struct pf_sess *s, uint64_t id, struct pf_share **share)
{
	struct pf_lease *l;

	for (struct pf_share *sh = pf_sess_share(s, NULL); sh; sh = pf_sess_share(s, sh)) {
		pf_mutex_lock(&sh->obj->lock);
		for (l = sh->obj->leases; l && (l->share != sh || l->id != id || l->ghost);)
			l = l->next;
		if (l) {
			*share = sh;
			return l;
		}
		pf_mutex_unlock(&sh->obj->lock);
	}
	return NULL;
}

void pf_lease_note(struct pf_sess *s, uint64_t id, const struct pf_t_stack *st)
{
	struct pf_share *sh;
	struct pf_lease *l = pf_lease_find(s, id, &sh);

	if (!l)
		return;
	l->stack = *st;
	pf_mutex_unlock(&sh->obj->lock);
	pf_share_unref(s->fs, sh);
}

int pf_lease_downgrade(struct pf_sess *s, uint64_t id, struct pf_p_lease_out *out)
{
	struct pf_share *sh;
	struct pf_lease *l = pf_lease_find(s, id, &sh);
	int err = 0;

	if (!l)
		return -ESTALE;
	if (l->state == PF_LEASE_BROKEN)
		err = -ESTALE;
	else if (l->give)
		err = -EBUSY;
	else
		l->flags = (l->flags & ~PF_LE_WRITE) | PF_LE_READ;
	pf_lease_describe(l, out);
	pf_mutex_unlock(&sh->obj->lock);
	pf_share_unref(s->fs, sh);
	return err;
}

int pf_lease_drop(struct pf_sess *s, uint64_t id)
{
	struct pf_share *sh;
	struct pf_lease *l = pf_lease_find(s, id, &sh);
	int err = 0;

	if (!l)
		return -ESTALE;
	if (l->give) {
		err = -EBUSY;
		pf_mutex_unlock(&sh->obj->lock);
	} else {
		if (pins_under(l, 0, UINT64_MAX) != 0) {
			l->ghost = true;
			atomic_fetch_sub(&s->nr_leases, 1);
		} else {
			(void)take_off(l->pprev);
		}
		(void)pf_lay_lease_fell(sh->obj);
		pf_lay_pump(s->fs, sh->obj);
		pf_share_unref_more(sh);	/* the lease's */
	}
	pf_share_unref(s->fs, sh);
	return err;
}

int pf_lease_covers(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	struct pf_lobj *o = sh->obj;
	uint64_t at = foff, end = pf_range_end(foff, len);
	bool more = true;

	pf_mutex_lock(&o->lock);
	while (at < end && more) {
		more = false;
		for (const struct pf_lease *l = o->leases; l; l = l->next)
			if (l->share == sh && l->state == PF_LEASE_HELD && !l->ghost && !l->give && l->foff <= at &&
			    pf_range_end(l->foff, l->len) > at) {
				at = pf_range_end(l->foff, l->len);
				more = true;
			}
	}
	pf_mutex_unlock(&o->lock);
	return at < end ? -EPERM : 0;
}

/* What a CUT makes of them */

/* The kernel names the thread that asks. */
static bool same_process(pid_t pid, pid_t tid)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d", (int)pid, (int)tid);
	return pid == tid || access(path, F_OK) == 0;
}

static bool in_the_way(const struct pf_lease *l, const struct pf_brk *b)
{
	if (!overlap(l, b->pin_foff, b->pin_len) || atomic_load(&l->share->sess->state) != PF_SESS_LIVE)
		return false;
	return (!l->ghost && l->state != PF_LEASE_BROKEN) || pins_under(l, b->pin_foff, b->pin_len) != 0;
}

/* What the rules are for a lease in the way of a CUT, or the error that ends the CUT. */
enum rule {
	RULE_OWN,		/* nothing */
	RULE_LOST,		/* the policy waits for nobody */
	RULE_ASK,		/* it is asked back; what is left of it when its time is over is revoked */
};

static int rule(const struct pf_lease *l, const struct pf_brk *b)
{
	/* Pins of its own are a matter of their own: layout.h, b_stuck. */
	if (same_process(l->share->sess->pid, b->pid))
		return l->ghost || l->state == PF_LEASE_BROKEN || (l->flags & PF_LE_WRITE) ? RULE_OWN : -EDEADLK;
	if ((l->flags & PF_LE_UNBREAK) || b->policy.lease_break == PF_LEASE_TXTBSY)
		return -ETXTBSY;
	return b->policy.on_busy == PF_BUSY_UNSAFE || b->policy.on_busy == PF_BUSY_DEFER ? RULE_LOST : RULE_ASK;
}

static uint64_t time_ms(const struct pf_brk *b)
{
	return b->policy.lease_ms != 0 ? b->policy.lease_ms : PF_LEASE_DEFAULT_MS;
}

static void start_breaking(struct pf_lease *l, const struct pf_brk *b)
{
	if (l->state != PF_LEASE_HELD)
		return;
	l->until_ns = pf_lay_now() + time_ms(b) * PF_NS_PER_MS;
	if (l->give)			/* nobody would know whom to ask */
		pf_give_void(l->give);
	set_state(l, PF_LEASE_BREAKING);
}

static void tell_revoked(const struct pf_lease *l, uint64_t foff, uint64_t len)
{
	struct pf_sess *s = l->share->sess;
	struct pf_p_revoke rv = { .rv_ino = l->share->obj->ino, .rv_foff = foff, .rv_len = len };
	struct fuse_out_header h = { .len = sizeof h + sizeof rv, .error = PF_P_NOTIFY_REVOKE, .unique = 0 };
	struct iovec iov[2] = { { &h, sizeof h }, { &rv, sizeof rv } };

	s->send(s->send_arg, iov, 2);
}

/* Everybody who still has pins or windows under it loses them. True: there were pins. */
static bool revoke_it(struct pf_fs *fs, struct pf_lobj *o, struct pf_lease *l, const struct pf_brk *b)
{
	uint64_t lo = pf_max64(l->foff, b->pin_foff);
	uint64_t hi = pf_min64(pf_range_end(l->foff, l->len), pf_range_end(b->pin_foff, b->pin_len));
	uint64_t len = hi == UINT64_MAX ? UINT64_MAX : hi - lo, pages = pins_under(l, lo, len);
	bool pinned = pf_win_revoke(l->share, lo, len);		/* first: whoever is told finds it so */

	pf_warn("the lease of pid %d (%s) on inode %llu is revoked, with %llu pinned pages: %s by pid %d",
		(int)l->share->sess->pid, l->share->sess->comm, (ull)o->ino, (ull)pages, b->what, (int)b->pid);
	pf_lay_count(fs, PF_COUNT_REVOKES, 1);
	PF_PROBE_REVOKE(l->share->sess, l->id, o->ino, lo, len);
	set_state(l, PF_LEASE_BROKEN);
	tell_revoked(l, lo, len);
	return pinned;
}

static void hang_up(struct pf_sess *s, const char *why)
{
	pf_warn("pid %d (%s) is evicted: %s", (int)s->pid, s->comm, why);
	atomic_store(&s->evicted, true);
	if (s->hang_up)
		s->hang_up(s->send_arg);
}

/* The holder does not live to see the result; its pins and the lease go with its session, and wake the CUT. */
static void kill_holder(struct pf_fs *fs, struct pf_lobj *o, struct pf_lease *l, const struct pf_brk *b)
{
	struct pf_sess *s = l->share->sess;

	if (l->killed) {
		hang_up(s, "it has outlived its SIGKILL");
	} else if (s->pidfd < 0 || syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0) != 0) {
		hang_up(s, "it did not give a lease back, and cannot be killed");
	} else {
		pf_warn("pid %d (%s) is killed: it did not give its lease on inode %llu back: %s by pid %d",
			(int)s->pid, s->comm, (ull)o->ino, b->what, (int)b->pid);
	}
	l->killed = true;
	l->until_ns = pf_lay_now() + pf_max64(fs->opts.revoke_timeout_ms, 1) * PF_NS_PER_MS;
}

/* One lease. 0: not in the way any more; 1: wait until l->until_ns; or the error that ends the CUT. */
static int meet(struct pf_fs *fs, struct pf_lobj *o, struct pf_lease *l, const struct pf_brk *b, bool *revoked)
{
	int how = rule(l, b);

	if (how < 0)
		return how;
	if (how != RULE_ASK) {		/* what becomes of the pins is layout.c's */
		if (how == RULE_LOST && !l->ghost)
			set_state(l, PF_LEASE_BROKEN);
		return 0;
	}
	start_breaking(l, b);
	if (l->state == PF_LEASE_BREAKING && l->until_ns > pf_lay_now())
		return b->policy.on_busy == PF_BUSY_EBUSY ? -EBUSY : 1;
	if (b->policy.lease_break == PF_LEASE_KILL && l->state == PF_LEASE_BREAKING) {
		kill_holder(fs, o, l, b);
		return b->policy.on_busy == PF_BUSY_EBUSY ? -EBUSY : 1;
	}
	*revoked = revoke_it(fs, o, l, b) || *revoked;
	return 0;
}

int pf_lease_meet(struct pf_fs *fs, struct pf_lobj *o, const struct pf_brk *b, uint64_t *until_ns, bool *revoked)
{
	int rc, wait = 0;

	reap(o);
	/* What needs no waiting comes first: whoever gets an error has disturbed nobody. */
	for (struct pf_lease *l = o->leases; l; l = l->next) {
		if (!in_the_way(l, b))
			continue;
		if ((l->flags & PF_LE_UNBREAK) || b->policy.lease_break == PF_LEASE_TXTBSY ||
		    same_process(l->share->sess->pid, b->pid)) {
			rc = meet(fs, o, l, b, revoked);
			if (rc < 0)
				return rc;
		}
	}
	*until_ns = 0;
	for (struct pf_lease *l = o->leases; l; l = l->next) {
		rc = in_the_way(l, b) ? meet(fs, o, l, b, revoked) : 0;
		if (rc < 0)
			return rc;
		if (rc > 0) {
			wait = 1;
			*until_ns = *until_ns == 0 ? l->until_ns : pf_min64(*until_ns, l->until_ns);
		}
	}
	return wait;
}

bool pf_lease_blocks(struct pf_lobj *o, const struct pf_brk *b)
{
	for (const struct pf_lease *l = o->leases; l; l = l->next)
		if (in_the_way(l, b) && !same_process(l->share->sess->pid, b->pid))
			return true;
	return false;
}

/* What would be, as data. The rules are those above; nothing is changed. */

/* How long a CUT that asks for it would leave it to its holder. */
static uint64_t leaves_ms(const struct pf_lease *l, const struct pf_brk *b)
{
	return l->state == PF_LEASE_HELD ? time_ms(b) : left_ms(l, pf_lay_now());
}

/* And how long the CUT would wait for it. */
static uint64_t takes_ms(const struct pf_fs *fs, const struct pf_lease *l, const struct pf_brk *b)
{
	uint64_t ms = leaves_ms(l, b);

	/* Who is killed is waited for a little. */
	if (b->policy.lease_break == PF_LEASE_KILL && l->state != PF_LEASE_BROKEN && (!l->killed || ms == 0))
		ms += pf_max64(fs->opts.revoke_timeout_ms, 1);
	return ms;
}

int pf_lease_would(const struct pf_fs *fs, const struct pf_lobj *o, const struct pf_brk *b, uint64_t *most_ms)
{
	int wait = 0;

	*most_ms = 0;
	for (const struct pf_lease *l = o->leases; l; l = l->next) {
		int how = in_the_way(l, b) ? rule(l, b) : RULE_OWN;
		uint64_t ms = how == RULE_ASK ? takes_ms(fs, l, b) : 0;

		if (how < 0)
			return how;
		if (ms == 0)
			continue;
		wait = b->policy.on_busy == PF_BUSY_EBUSY ? -EBUSY : 1;
		*most_ms = pf_max64(*most_ms, ms);
	}
	return wait;
}

unsigned int pf_lease_in_way(const struct pf_lobj *o, const struct pf_brk *b, struct pf_p_would_lease *out,
			     unsigned int max, unsigned int *total)
{
	unsigned int n = 0;

	*total = 0;
	for (const struct pf_lease *l = o->leases; l; l = l->next) {
		const struct pf_sess *s = l->share->sess;

		if (!in_the_way(l, b) || ++*total > max)
			continue;
		out[n] = (struct pf_p_would_lease){
			.wl_id = l->id, .wl_foff = l->foff, .wl_len = l->len,
			.wl_left_ms = rule(l, b) == RULE_ASK ? leaves_ms(l, b) : 0,
			.wl_pid = (uint32_t)s->pid, .wl_uid = s->uid, .wl_flags = l->flags,
			.wl_state = l->ghost ? PF_P_LEASE_DROPPED : (uint32_t)l->state,
		};
		memcpy(out[n++].wl_comm, s->comm, sizeof out->wl_comm);
	}
	return n;
}

uint64_t pf_lease_outside(struct pf_share *sh, const struct pf_brk *b)
{
	uint64_t at = b->pin_foff, end = pf_range_end(b->pin_foff, b->pin_len), pages = 0, next;
	bool under;

	for (; at < end; at = next) {
		next = end;
		under = false;
		for (const struct pf_lease *l = sh->obj->leases; l && !under; l = l->next) {
			if (l->share != sh || !in_the_way(l, b) || rule(l, b) != RULE_ASK)
				continue;
			under = l->foff <= at && pf_range_end(l->foff, l->len) > at;
			if (under)
				next = pf_range_end(l->foff, l->len);
			else if (l->foff > at)
				next = pf_min64(next, l->foff);
		}
		if (!under)
			pages += pf_win_pinned(sh, at, next - at);
	}
	return pages;
}

/* Reports */

unsigned int pf_lease_list(struct pf_share *sh, unsigned int skip, struct pf_lease_info *out, unsigned int max)
{
	uint64_t now = pf_lay_now();
	unsigned int n = 0;

	for (const struct pf_lease *l = sh->obj->leases; l && n < max; l = l->next) {
		uint64_t pages = l->share == sh ? pins_under(l, 0, UINT64_MAX) : 0;

		/* A ghost without a pin is not there any more, if nobody has noticed yet. */
		if (l->share != sh || (l->ghost && pages == 0) || (skip != 0 && skip-- != 0))
			continue;
		out[n++] = (struct pf_lease_info){
			.id = l->id, .foff = l->foff, .len = l->len, .age_ns = now - l->since_ns,
			.left_ms = left_ms(l, now), .pages = pages, .flags = l->flags, .state = l->state,
			.ghost = l->ghost, .given = l->give != NULL, .stack = l->stack,
		};
	}
	return n;
}

bool pf_lease_waited_for(struct pf_share *sh, const struct pf_brk *b, uint64_t *most_ms)
{
	uint64_t now = pf_lay_now();
	bool any = false;

	for (const struct pf_lease *l = sh->obj->leases; l; l = l->next)
		if (l->share == sh && in_the_way(l, b)) {
			any = true;
			*most_ms = pf_max64(*most_ms, left_ms(l, now));
		}
	return any;
}
