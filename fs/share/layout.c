/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout.c - the break engine: queue, turns, scan, and what each policy makes of a pin. The gate is gate.c's, what
 * clients are told is unmap.c's.
 *
 * Owns the life of a struct pf_brk and the gate of a struct pf_lobj. Takes LAYOUT (of one inode), under it SESSION
 * (through window.c) and REGISTRY. What clients were shown is window.c's; deadlines are registry.c's.
 *
 * WHY NO PIN IS MISSED
 *
 * A CUT does its work only after one scan, made with the gate closed and the slots frozen, that found no pin in the
 * range. A device address reaches a pinner by one of two ways.
 *
 *  Fast path. The client counts by itself, in a slot whose blocks it knows (include/pinfs/ledger.h). Freezing (step
 *  a) comes before the scan (c) in program order, and so do the pinner's counting (2) and its second look at the word
 *  (3); all four are sequentially consistent. Either 2 is before c in their total order, then the scan sees the
 *  count; or c is before 2, hence a before 3, and the pinner finds the word changed, undoes, and has told nobody an
 *  address. The word has changed even if the break is over by then, because the generation grew before the thaw. And
 *  a slot that did not exist at a? It comes into being in pf_win_grant(), inside the gate, and the gate was closed
 *  before a and stays so until the work is done; or it came while the CUT was parked, then it was frozen at birth
 *  (join_cut()).
 *
 *  Slow path. The daemon counts (pf_win_pin()), inside the gate: so before the gate closed, and the scan sees it; or
 *  after it opened, and the extents which it checks against are those that the work has left.
 *
 * Loads and stores through mappings are not pins; they end with the unmap. An answer that maps blocks is sent inside
 * the gate, an invalidate with the gate closed, both into the same stream, which the client obeys in order: when it
 * acknowledges, nothing that it was ever granted in the range is mapped. What was granted while the CUT was parked
 * sets `dirty`, and the next turn unmaps again.
 *
 * WHY NO WAKE-UP IS LOST
 *
 * Slots stay frozen while a CUT is parked. Scan and park happen in one hold of LAYOUT. An unpin subtracts, then looks
 * at the word. If the subtraction is before the scan in the total order, the scan sees it. Otherwise the freeze,
 * which is before the scan, is before the unpinner's look: it kicks, and the kick is handled after the park. A
 * session that dies kicks for all its slots.
 *
 * WHO DOES THE WORK
 *
 * Whoever makes progress possible (submits, acknowledges, kicks, leaves the gate, times out) calls pump(), and
 * whoever is in pump() does everything that there is to do on that inode: no hand-over to another thread. `pumping`
 * keeps a second thread out, and makes deep recursion impossible when a callback makes progress itself.
 */
#include "share/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <pinfs/proto.h>
#include "base/log.h"
#include "base/probe.h"
#include "share/lay.h"
#include "share/lease.h"

#define BURST_MS UINT64_C(2)	/* between two looks at bursts: the last one may have had nobody to kick */
#define LATE_MS UINT64_C(5)	/* its time is over: between two looks whether it has come to pins */
#define STUCK_MS UINT64_C(100)	/* between two looks whether a wait can end at all, at least */

void pf_lobj_init(struct pf_lobj *o, uint64_t ino)
{
	*o = (struct pf_lobj){ .ino = ino };
	pf_mutex_init(&o->lock, PF_RANK_LAYOUT);
}

void pf_lobj_fini(struct pf_lobj *o)
{
	assert(!o->shares && !o->cuts && !o->maps && !o->closer && !o->aside && !o->pinwait && !o->ready && !o->inside);
	pf_mutex_fini(&o->lock);
}

void pf_brk_unref(struct pf_brk *b)
{
	if (atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	assert(b->state == PF_BRK_DONE && pf_rank_none());
	b->b_done(b, b->err);
}

/* Queues. Only the head of `cuts` is ever frozen or parked; a break of `maps` never parks. */

static void enqueue(struct pf_lobj *o, struct pf_brk *b)
{
	struct pf_brk **head = b->kind == PF_BRK_CUT ? &o->cuts : &o->maps;
	struct pf_brk **tail = b->kind == PF_BRK_CUT ? &o->cuts_tail : &o->maps_tail;

	b->next = NULL;
	if (*head)
		(*tail)->next = b;
	else
		*head = b;
	*tail = b;
}

static void dequeue(struct pf_lobj *o, struct pf_brk *b)
{
	struct pf_brk **at = b->kind == PF_BRK_CUT ? &o->cuts : &o->maps;
	struct pf_brk **tail = b->kind == PF_BRK_CUT ? &o->cuts_tail : &o->maps_tail;
	struct pf_brk *before = NULL;

	for (; *at != b; at = &(*at)->next)
		before = *at;
	*at = b->next;
	if (*tail == b)
		*tail = before;
}

/* Whose turn is it at the open gate? By the time at which they began to want it, so neither kind starves the other. */
static struct pf_brk *next_closer(struct pf_lobj *o)
{
	struct pf_brk *c = o->cuts, *m = o->maps;

	if (c && c->state == PF_BRK_PARKED && !c->want)
		c = NULL;
	if (!c || !m)
		return c ? c : m;
	return c->seq < m->seq ? c : m;
}

/* LAYOUT is held. The caller lets go of the queue's reference (pf_brk_unref) once it has dropped the lock. */
static void finish(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, int err)
{
	struct pf_gate_wait *w;

	if (b->froze)
		pf_win_thaw(o, b->fz_foff, b->fz_len);
	b->froze = false;
	if (b->acks != 0)
		for (struct pf_share *sh = o->shares; sh; sh = sh->next)
			if (sh->inval_brk == b)
				sh->inval_brk = NULL;	/* what it still answers is nobody's business any more */
	b->acks = 0;
	if (o->cuts == b)
		while ((w = o->pinwait) != NULL) {
			o->pinwait = w->next;
			w->next = o->ready;
			o->ready = w;
		}
	if (pf_pause_leave(fs, &b->stand))
		(void)atomic_fetch_sub(&b->refs, 1);
	dequeue(o, b);
	if (o->closer == b)
		o->closer = NULL;
	pf_reg_del(b);
	b->state = PF_BRK_DONE;
	b->err = err;
	pf_lay_count(fs, PF_COUNT_BREAKS, 1);
	PF_PROBE_DONE(fs, b, err);
}

static bool may_wait(const struct pf_brk *b)
{
	return b->policy.on_busy == PF_BUSY_WAIT || b->policy.on_busy == PF_BUSY_POLL ||
	       b->policy.on_busy == PF_BUSY_DEFER;
}

/* Is it asked now and then whether its wait can end? */
static bool looks(const struct pf_brk *b)
{
	return b->b_stuck && !b->policy.deadlock_waits;
}

/*
 * Under `poll` the slots are thawed: no unpin will tell, nothing keeps new pins away, and the timer makes it start from
 * the top. That is what a kernel without a wake-up would have to do; it is here to be compared.
 */
static void park_brk(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	if (b->policy.on_busy == PF_BUSY_POLL) {
		uint64_t ms = b->policy.poll_ms != 0 ? b->policy.poll_ms : PF_POLL_DEFAULT_MS;

		pf_win_thaw(o, b->fz_foff, b->fz_len);
		b->froze = false;
		pf_reg_arm_poll(b, pf_lay_now() + ms * PF_NS_PER_MS);
	}
	b->state = PF_BRK_PARKED;
	b->want = false;
	if (b->len == 0)
		pf_brk_nudge(o, b);
	if (looks(b) && b->poll_ns == 0)
		pf_reg_arm_poll(b, pf_lay_now() + STUCK_MS * PF_NS_PER_MS);
	o->closer = NULL;
	if (!b->waited)
		pf_lay_count(fs, PF_COUNT_WAITS, 1);
	b->waited = true;
	PF_PROBE_WAIT(fs, b);
	for (struct pf_share *sh = o->shares; sh && PF_TRACING(fs); sh = sh->next) {
		uint64_t pages = pf_win_pinned(sh, b->fz_foff, b->fz_len);

		if (pages != 0)
			PF_PROBE_FOR(sh->sess, b, pages);
	}
	if (b->froze && b->blocker)
		pf_kick_arm(b->blocker->share->sess);
	/* It stood between the scan and here, and something was different then. */
	if (b->kicked || !b->blocker)
		(void)pf_lay_pins_fell(o, true);
	b->kicked = false;
}

/* Leases come before everything else: nobody is unmapped for an operation that will wait for longer than that, or fail.
 * 0: none is in the way, or it is parked; or the error that ends the break. */
static int meet_leases(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	uint64_t until = 0;
	int rc = pf_lease_meet(fs, o, b, &until, &b->revoked);

	b->leased = false;
	if (rc <= 0)
		return rc;
	if (atomic_load(&fs->lay->down) != 0)
		return atomic_load(&fs->lay->down);
	/* The ghost of a lease ends with an unpin, which kicks. */
	b->blocker = pf_win_scan(o, NULL, b->fz_foff, b->fz_len);
	b->leased = true;
	park_brk(fs, o, b);
	pf_reg_arm_lease(b, until);
	return 0;
}

/*
 * What a scan's result means. 0: do the work; 1: parked; or the error that ends the break. @pinned: the blocks under
 * pins are to be kept back.
 */
static int judge(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, bool *pinned)
{
	if (PF_ORDER(UNMAP_FIRST))
		b->blocker = pf_win_scan(o, NULL, b->fz_foff, b->fz_len);
	PF_PROBE_SCAN(fs, b, b->blocker != NULL);
	if (!b->blocker || (!PF_ORDER(SCAN_AGAIN) && b->waited))
		return 0;
	switch (pf_lay_on_pins(fs, o, b)) {
	case PF_P_WOULD_EBUSY:
		return -EBUSY;
	case PF_P_WOULD_DEFER:
		*pinned = true;
		return 0;
	case PF_P_WOULD_UNSAFE:
		pf_brk_collide(fs, o, b);
		return 0;
	case PF_P_WOULD_PASS:
	case PF_P_WOULD_TURN:
	case PF_P_WOULD_WAIT:
	case PF_P_WOULD_TXTBSY:
	case PF_P_WOULD_DEADLK:
		break;
	}
	if (atomic_load(&fs->lay->down) != 0)
		return atomic_load(&fs->lay->down);
	if (!PF_ORDER(ARM_FIRST))
		pf_win_thaw(o, b->fz_foff, b->fz_len);
	b->state = PF_BRK_SLEEP;
	return 1;
}

/* One turn of the break that has the gate closed, nobody inside. LAYOUT is held, and dropped around callbacks. */

/* Tests may make it stand here: true as long as it does. */
static bool stands(struct pf_brk *b, enum pf_point at)
{
	bool begun, yes = (b->kind == PF_BRK_CUT || at == PF_AT_GRANT) && pf_pause(b->fs, &b->stand, at, &begun);

	if (yes && begun)
		atomic_fetch_add(&b->refs, 1);		/* given back in let_go(), or in finish() */
	return yes;
}

/* From the top: range. 0, or the error that ends the break. */
static int turn_start(struct pf_lobj *o, struct pf_brk *b)
{
	int err;

	b->state = PF_BRK_RUN;
	if (b->b_prepare) {
		pf_mutex_unlock(&o->lock);
		err = b->b_prepare(b);
		pf_mutex_lock(&o->lock);
		if (err == 0)
			err = b->stop;
		if (err != 0)
			return err;
	}
	if (!PF_ORDER(UNMAP_FIRST))
		b->blocker = pf_win_scan(o, NULL, b->pin_foff, b->pin_len);
	b->state = PF_BRK_UNMAP;
	return 0;
}

/* Freeze, leases, unmap. 0, and it may be parked; or the error that ends the break. */
static int turn_unmap(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	bool pinned = false;
	int err;

	b->state = PF_BRK_ACKS;
	PF_PROBE_START(fs, b);
	if (o->nr_grants == 0 && !pf_brk_copies(o, b) && (b->kind != PF_BRK_CUT || !o->leases))
		return 0;
	if (b->kind == PF_BRK_CUT) {
		bool old = b->froze;
		uint64_t old_foff = b->fz_foff, old_len = b->fz_len;

		pf_win_freeze(o, b->pin_foff, b->pin_len);
		if (old)
			pf_win_thaw(o, old_foff, old_len);
		b->froze = true;
		b->fz_foff = b->pin_foff;
		b->fz_len = b->pin_len;
		err = meet_leases(fs, o, b);
		if (err != 0 || b->state == PF_BRK_PARKED)
			return err;
		/* Nothing is unmapped in vain. A pinner that is about to undo looks busy, too: it and we meet here
		 * at random anyway. */
		if (b->policy.on_busy == PF_BUSY_EBUSY) {
			err = judge(fs, o, b, &pinned);
			if (err != 0)
				return err;
		}
	}
	if (b->len != 0 && ((b->dirty && PF_ORDER(UNMAP_AGAIN)) || b->foff < b->un_foff ||
			    pf_range_end(b->foff, b->len) > pf_range_end(b->un_foff, b->un_len)))
		pf_brk_unmap(fs, o, b);
	if (b->acks != 0) {
		err = pf_reg_add(b);
		if (err != 0)
			return err;
		pf_reg_arm(b, b->busy_ns, pf_lay_now() + fs->opts.revoke_timeout_ms * PF_NS_PER_MS);
	}
	return 0;
}

static void turn_sleep(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	if (!PF_ORDER(ARM_FIRST))
		pf_win_freeze(o, b->fz_foff, b->fz_len);
	park_brk(fs, o, b);
}

static bool bursts(struct pf_lobj *o, const struct pf_brk *b)
{
	return b->revoked && !b->dma_lost && PF_ORDER(BURSTS) && pf_win_dma(o, b->fz_foff, b->fz_len);
}

/*
 * Unmapped; and devices that worked through pins which are void now may have bursts under way: the gate stays closed
 * until they have ended, for revoke_timeout at most. Step b of the revoke in ledger.h. 0, or the error that ends the
 * break.
 */
static int wait_bursts(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	int err = pf_reg_add(b);

	if (err != 0)
		return err;
	b->state = PF_BRK_BURSTS;
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		if (atomic_load(&sh->sess->state) == PF_SESS_LIVE)
			pf_kick_arm(sh->sess);
	pf_reg_arm(b, b->busy_ns, pf_lay_now() + fs->opts.revoke_timeout_ms * PF_NS_PER_MS);
	pf_reg_arm_poll(b, pf_lay_now() + BURST_MS * PF_NS_PER_MS);
	return 0;
}

/* They do not end. */
static void give_bursts_up(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	pf_warn("a device is at work on revoked pages of inode %llu for %llu ms: their blocks are kept out of use",
		(unsigned long long)o->ino, (unsigned long long)fs->opts.revoke_timeout_ms);
	pf_lay_count(fs, PF_COUNT_QUARANTINES, 1);
	b->dma_lost = true;
}

/* Unmapped: scan. 0, or the error that ends the break. */
static int turn_scan(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	bool pinned = false;
	int err = 0;

	if (bursts(o, b))
		return wait_bursts(fs, o, b);
	if (b->ack_ns != 0)
		pf_reg_arm(b, b->busy_ns, 0);
	if (b->froze) {
		err = judge(fs, o, b, &pinned);
		if (err > 0 && !stands(b, PF_AT_SLEEP))
			turn_sleep(fs, o, b);
		if (err > 0)
			return 0;
		if (err == 0)
			err = pf_brk_keep_back(fs, o, b, pinned);
	}
	b->state = PF_BRK_FREE;
	return err;
}

static void turn_work(struct pf_lobj *o, struct pf_brk *b)
{
	uint64_t since = pf_trace_begin(b->fs);

	b->state = PF_BRK_WORK;
	pf_mutex_unlock(&o->lock);
	b->err = b->b_work(b);
	PF_PROBE_WORK(b->fs, b, since, b->err);
	pf_mutex_lock(&o->lock);
	/* Also after an error: part of the work may be done, and no client remembers the range. */
	if (b->kind == PF_BRK_CUT)
		pf_win_trim(o, b->foff, b->len);
	if (b->err == 0)
		pf_brk_drop(o, b);
	else if (b->kind == PF_BRK_MAP && b->skip_share && PF_ORDER(TELL_ASKER))
		pf_brk_tell_asker(b);
	b->state = PF_BRK_OPEN;
}

/* The next step of the break that has the gate closed. NOTHING: somebody else's turn first. ENDS: with *err. */
enum turn { TURN_DONE, TURN_NOTHING, TURN_ENDS };

static enum turn turn(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, int *err)
{
	*err = b->stop;
	if (b->stop != 0 && b->state != PF_BRK_OPEN)
		return TURN_ENDS;
	*err = 0;
	if (b->state == PF_BRK_GATE && o->inside == 0 && !(b->waited && stands(b, PF_AT_WAKE)))
		*err = turn_start(o, b);
	else if (b->state == PF_BRK_UNMAP && (b->waited || !stands(b, PF_AT_UNMAP)))
		*err = turn_unmap(fs, o, b);
	else if (b->state == PF_BRK_ACKS && b->acks == 0 && !stands(b, PF_AT_SCAN))
		*err = turn_scan(fs, o, b);
	else if (b->state == PF_BRK_BURSTS && !bursts(o, b))
		*err = turn_scan(fs, o, b);
	else if (b->state == PF_BRK_SLEEP && !stands(b, PF_AT_SLEEP))
		turn_sleep(fs, o, b);
	else if (b->state == PF_BRK_FREE && !stands(b, b->kind == PF_BRK_CUT ? PF_AT_FREE : PF_AT_GRANT))
		turn_work(o, b);
	else if (b->state != PF_BRK_OPEN || stands(b, PF_AT_OPEN))
		return TURN_NOTHING;
	else {
		*err = b->err;
		return TURN_ENDS;
	}
	return *err != 0 ? TURN_ENDS : TURN_DONE;
}

/* Called at most once for a break, by the thread that submits it, before anybody else may work on it. */
static void park_call(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	int err = pf_reg_add(b);

	b->parked_once = true;
	if (err == 0)
		err = atomic_load(&fs->lay->down);
	if (err == 0 && b->b_park) {
		pf_mutex_unlock(&o->lock);
		err = b->b_park(b);
		pf_mutex_lock(&o->lock);
	}
	if (err != 0 && b->stop == 0)
		b->stop = err;
}

/*
 * LAYOUT of @o is held and will be dropped. @held: a break that has ended, whose reference is ours; or NULL. @self: a
 * break whose submitter calls us, and keeps a reference.
 *
 * When a break ends here, its b_done may drop the inode. It is therefore held back until another one has ended or we
 * are through; before the first one ends, @held, @self or the caller keeps the inode.
 */
static void pump(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *held, struct pf_brk *self)
{
	struct pf_gate_wait *w;
	struct pf_brk *b, *ended;
	enum turn did;
	int err;

	if (o->pumping)
		goto out;
	o->pumping = true;
	for (;;) {
		ended = NULL;
		b = o->closer;
		if ((w = o->ready) != NULL) {
			o->ready = w->next;
			pf_mutex_unlock(&o->lock);
			w->w_run(w, -EAGAIN);
			pf_mutex_lock(&o->lock);
			continue;
		}
		if (self && self->stop != 0 && (self->state == PF_BRK_QUEUED || self->state == PF_BRK_PARKED)) {
			finish(fs, o, self, self->stop);
			ended = self;
		} else if (b && (did = turn(fs, o, b, &err)) != TURN_NOTHING) {
			if (did == TURN_DONE)
				continue;
			finish(fs, o, b, err);
			ended = b;
		} else if (!b && (w = o->aside) != NULL) {
			/* Before the next break: those who came while the gate was closed do not meet it closed
			 * again. */
			o->aside = w->next;
			if (!o->aside)
				o->aside_tail = NULL;
			o->inside++;
			pf_mutex_unlock(&o->lock);
			w->w_run(w, 0);
			pf_mutex_lock(&o->lock);
			continue;
		} else if (!b && (b = next_closer(o)) != NULL) {
			o->closer = b;
			b->state = PF_BRK_GATE;
			continue;
		} else if (self && self->state != PF_BRK_DONE && !self->parked_once) {
			park_call(fs, o, self);
			continue;
		} else {
			break;
		}
		if (held) {
			pf_mutex_unlock(&o->lock);
			pf_brk_unref(held);
			pf_mutex_lock(&o->lock);
		}
		held = ended;
	}
	o->pumping = false;
out:
	pf_mutex_unlock(&o->lock);
	if (held)
		pf_brk_unref(held);
}

void pf_lay_pump(struct pf_fs *fs, struct pf_lobj *o)
{
	pump(fs, o, NULL, NULL);
}

static void let_go(struct pf_stand *s)
{
	struct pf_brk *b = PF_CONTAINER_OF(s, struct pf_brk, stand);

	pf_mutex_lock(&b->obj->lock);
	pump(b->fs, b->obj, NULL, NULL);
	pf_brk_unref(b);
}

void pf_lay_submit(struct pf_fs *fs, struct pf_brk *b)
{
	struct pf_lobj *o = b->obj;
	int err = 0;
	bool now;

	assert(pf_rank_none());
	b->fs = fs;
	b->id = b->seq = pf_lay_id(fs);
	b->since_ns = pf_lay_now();
	b->busy_ns = b->kind == PF_BRK_CUT && may_wait(b) && b->policy.timeout_ms != 0 ?
			     b->since_ns + b->policy.timeout_ms * PF_NS_PER_MS : 0;
	b->ack_ns = b->poll_ns = b->lease_ns = 0;
	b->stuck_ns = b->since_ns + STUCK_MS * PF_NS_PER_MS;
	atomic_store(&b->refs, 2);	/* the queue's and ours */
	b->state = PF_BRK_QUEUED;
	b->acks = b->heap = 0;
	b->err = b->stop = 0;
	b->want = b->froze = b->parked_once = b->waited = b->registered = b->kicked = false;
	b->leased = b->revoked = b->dma_lost = false;
	b->stand = (struct pf_stand){ .ino = o->ino, .pid = b->pid, .what = b->what, .go = let_go };
	b->dirty = true;
	b->un_foff = b->un_len = 0;
	b->blocker = NULL;
	PF_PROBE_SUBMIT(fs, b);

	pf_mutex_lock(&o->lock);
	now = !o->pumping && !o->closer && !(b->kind == PF_BRK_CUT ? o->cuts : o->maps);
	if (!now) {
		/* Others will run it: what the caller's stack holds is copied before they can see it. A cancel
		 * sets b->stop. */
		b->state = PF_BRK_RUN;
		b->poll_ns = looks(b) ? b->stuck_ns : 0;
		park_call(fs, o, b);
		b->state = PF_BRK_QUEUED;
		err = b->stop;
	}
	if (err == 0) {
		enqueue(o, b);
		pump(fs, o, NULL, b);
	} else {
		pf_reg_del(b);
		b->state = PF_BRK_DONE;
		b->err = err;
		PF_PROBE_DONE(fs, b, err);
		pf_mutex_unlock(&o->lock);
		pf_brk_unref(b);
	}
	pf_brk_unref(b);
}

/* Ends of waits */

/* LAYOUT is held. The break, when it has ended here and its reference is the caller's; or NULL. */
static struct pf_brk *end_wait(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, int err)
{
	switch ((enum pf_brk_state)b->state) {
	case PF_BRK_QUEUED:
	case PF_BRK_PARKED:
		finish(fs, o, b, err);
		return b;
	case PF_BRK_GATE:
	case PF_BRK_RUN:
	case PF_BRK_UNMAP:
	case PF_BRK_ACKS:
	case PF_BRK_BURSTS:
	case PF_BRK_SLEEP:
		if (b->stop == 0)
			b->stop = err;
		return NULL;
	case PF_BRK_FREE:
	case PF_BRK_WORK:
	case PF_BRK_OPEN:
	case PF_BRK_DONE:
		break;
	}
	return NULL;
}

static void end_by_id(struct pf_fs *fs, struct pf_brk *b, int err)
{
	struct pf_lobj *o = b->obj;
	struct pf_brk *ended;

	pf_mutex_lock(&o->lock);
	ended = end_wait(fs, o, b, err);
	pump(fs, o, ended, NULL);
}

void pf_lay_cancel(struct pf_fs *fs, uint64_t id, int err)
{
	struct pf_brk *b = pf_reg_find(fs, id);

	if (!b)
		return;
	pf_lay_count(fs, PF_COUNT_CANCELS, 1);
	end_by_id(fs, b, err);
	pf_brk_unref(b);
}

void pf_lay_shutdown(struct pf_fs *fs, int err)
{
	struct pf_brk *b[64];
	unsigned int i, n;
	uint64_t left;

	atomic_store(&fs->lay->down, err);
	pf_pause_end(fs);
	do {
		n = pf_reg_breaks(fs, b, PF_ARRAY_LEN(b), &left);
		for (i = 0; i < n; i++) {
			end_by_id(fs, b[i], err);
			pf_brk_unref(b[i]);
		}
	} while (left != 0);
}

/* Parked, and due for another turn: behind whoever wanted the gate before now. */
static void look_again(struct pf_brk *b)
{
	b->want = true;
	b->seq = pf_lay_id(b->fs);
	PF_PROBE_WAKE(b->fs, b);
}

static bool may_be_stuck(const struct pf_brk *b)
{
	return b->state == PF_BRK_PARKED || b->state == PF_BRK_QUEUED;
}

/*
 * busy_timeout is for pins, and leases: what waits for a client to unmap, or for its turn behind one that does, has
 * revoke_timeout, and does not fail for want of a quick answer when nobody has anything pinned.
 */
static bool waits_for_pins(struct pf_fs *fs, struct pf_lobj *o, const struct pf_brk *b)
{
	switch ((enum pf_brk_state)b->state) {
	case PF_BRK_QUEUED:
		return o->cuts != b && waits_for_pins(fs, o, o->cuts);
	case PF_BRK_BURSTS:
	case PF_BRK_SLEEP:
	case PF_BRK_PARKED:
		return true;
	case PF_BRK_UNMAP:
	case PF_BRK_ACKS:
		return pf_win_scan(o, NULL, b->pin_foff, b->pin_len) && pf_lay_on_pins(fs, o, b) == PF_P_WOULD_WAIT;
	case PF_BRK_GATE:		/* of these the range is not known yet */
	case PF_BRK_RUN:
	case PF_BRK_FREE:
	case PF_BRK_WORK:
	case PF_BRK_OPEN:
	case PF_BRK_DONE:
		break;
	}
	return false;
}

void pf_brk_timeout(struct pf_brk *b, uint64_t now)
{
	struct pf_fs *fs = b->fs;
	struct pf_lobj *o = b->obj;
	struct pf_brk *ended = NULL;
	int stuck = 0;

	pf_mutex_lock(&o->lock);
	if (looks(b) && b->poll_ns != 0 && b->poll_ns <= now && b->stuck_ns <= now && may_be_stuck(b)) {
		/* Less and less often: the cost stays in proportion to the wait. */
		b->stuck_ns = now + pf_max64(STUCK_MS * PF_NS_PER_MS, now - b->since_ns);
		pf_mutex_unlock(&o->lock);
		stuck = b->b_stuck(b);
		pf_mutex_lock(&o->lock);
	}
	if (b->ack_ns != 0 && b->ack_ns <= now) {
		if (b->state == PF_BRK_ACKS && b->acks != 0)
			pf_brk_quarantine(fs, o, b);
		if (b->state == PF_BRK_BURSTS && bursts(o, b))
			give_bursts_up(fs, o, b);
		pf_reg_arm(b, b->busy_ns, 0);
	}
	if (b->lease_ns != 0 && b->lease_ns <= now) {
		if (b->state == PF_BRK_PARKED && b->leased)
			look_again(b);
		pf_reg_arm_lease(b, 0);
	}
	if (b->poll_ns != 0 && b->poll_ns <= now) {
		if (stuck != 0)
			ended = end_wait(fs, o, b, stuck);
		else if (b->state == PF_BRK_PARKED && b->policy.on_busy == PF_BUSY_POLL)
			look_again(b);
		pf_reg_arm_poll(b, b->state == PF_BRK_BURSTS ? now + BURST_MS * PF_NS_PER_MS :
				   looks(b) && may_be_stuck(b) ? pf_max64(b->stuck_ns, now + PF_NS_PER_MS) : 0);
	}
	if (ended || b->busy_ns == 0 || b->busy_ns > now) {
		pf_reg_arm(b, b->busy_ns, b->ack_ns);
	} else if (waits_for_pins(fs, o, b)) {
		/* One that has not come to park has waited all the same. */
		pf_lay_count(fs, PF_COUNT_WAITS, !b->waited && b->state != PF_BRK_QUEUED);
		pf_lay_count(fs, PF_COUNT_TIMEOUTS, 1);
		b->waited = true;
		pf_reg_arm(b, 0, b->ack_ns);
		ended = end_wait(fs, o, b, -EBUSY);
	} else {
		pf_reg_arm(b, b->state < PF_BRK_FREE ? now + LATE_MS * PF_NS_PER_MS : 0, b->ack_ns);
	}
	pump(fs, o, ended, NULL);
}

bool pf_lay_lease_fell(struct pf_lobj *o)
{
	struct pf_brk *b = o->cuts;

	if (!b || b->state != PF_BRK_PARKED || b->want || !b->leased || pf_lease_blocks(o, b))
		return false;
	look_again(b);
	return true;
}

bool pf_lay_pins_fell(struct pf_lobj *o, bool anew)
{
	struct pf_brk *b = o->cuts;
	struct pf_grant *was;

	if (b && b->state == PF_BRK_SLEEP)
		b->kicked = true;
	if (b && b->state == PF_BRK_BURSTS)
		return !bursts(o, b);		/* whoever calls us goes on with it */
	if (b && b->leased)
		return pf_lay_lease_fell(o);
	if (!b || b->state != PF_BRK_PARKED || b->want || !b->froze)
		return false;
	/* From the slot that was seen pinned last: one that is still pinned ends the look at once. The scan that
	 * counts comes later. */
	was = b->blocker;
	b->blocker = pf_win_scan(o, anew ? NULL : was, b->fz_foff, b->fz_len);
	if (b->blocker) {
		if (b->blocker != was)
			pf_kick_arm(b->blocker->share->sess);
		return b->blocker != was;
	}
	look_again(b);
	return true;
}
