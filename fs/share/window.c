/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.c - books of shares and grants: what each client was shown, what it pinned, what is kept back because of it.
 *
 * Owns struct pf_grant and struct pf_share. Takes LAYOUT of one inode, then SESSION of one session. Decides nothing:
 * layout.c does.
 */
#include "share/window.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/proto.h>
#include "base/probe.h"
#include "share/lay.h"
#include "share/lease.h"

void pf_share_get(struct pf_share *sh)
{
	atomic_fetch_add(&sh->refs, 1);
}

void pf_share_unref_more(struct pf_share *sh)
{
	unsigned int before = atomic_fetch_sub(&sh->refs, 1);

	assert(before > 1);
	(void)before;
}

void pf_share_link(struct pf_share *sh)
{
	struct pf_lobj *o = sh->obj;

	pf_mutex_lock(&o->lock);
	sh->next = o->shares;
	if (sh->next)
		sh->next->pprev = &sh->next;
	sh->pprev = &o->shares;
	o->shares = sh;
	pf_mutex_unlock(&o->lock);
}

void pf_share_unref(struct pf_fs *fs, struct pf_share *sh)
{
	struct pf_lobj *o = sh->obj;

	if (atomic_fetch_sub(&sh->refs, 1) != 1)
		return;
	assert(pf_rank_none());
	pf_mutex_lock(&o->lock);
	assert(!sh->grants && !sh->inval_brk);
	pf_lease_free_ghosts(sh);
	*sh->pprev = sh->next;
	if (sh->next)
		sh->next->pprev = sh->pprev;
	pf_mutex_lock(&sh->sess->lock);
	if (sh->sess_pprev) {
		*sh->sess_pprev = sh->sess_next;
		if (sh->sess_next)
			sh->sess_next->sess_pprev = sh->sess_pprev;
	}
	pf_mutex_unlock(&sh->sess->lock);
	pf_mutex_unlock(&o->lock);
	sh->put(fs, sh->inode);
	pf_sess_put(sh->sess);
	free(sh);
}

/*
 * Tell the client the slot's state. FROZEN stays for as long as an unpin must be heard of: while a break looks at the
 * slot and while blocks are kept back for its pins. The whole word is ours, so whatever the client stored there is
 * gone now.
 */
static void publish(struct pf_grant *g)
{
	uint32_t frozen = g->frozen != 0 || g->nparked != 0 ? PF_SLOT_FROZEN : 0;

	pf_ledger_word(&g->share->sess->led, g->slot, g->word | frozen);
}

static bool is_stale(const struct pf_grant *g)
{
	return (g->word & PF_SLOT_STALE) != 0;
}

static bool overlaps(const struct pf_grant *g, uint64_t foff, uint64_t len)
{
	unsigned int first;

	return pf_chunk_clip(g->foff, foff, len, &first) != 0;
}

static bool gone(const struct pf_grant *g, unsigned int page)
{
	return (g->gone[page / 64] >> (page % 64) & 1) != 0;
}

/* Pages of the run whose pins count: not those that were revoked. */
static unsigned int pinned_run(struct pf_grant *g, unsigned int first, unsigned int n)
{
	struct pf_ledger *l = &g->share->sess->led;
	unsigned int pinned = 0;

	if (!g->revoked)
		return pf_ledger_pinned(l, g->slot, first, n);
	for (unsigned int i = first; i < first + n; i++)
		pinned += !gone(g, i) && pf_ledger_pinned(l, g->slot, i, 1) != 0;
	return pinned;
}

/*
 * A pin counts for any page of a live slot. In a stale slot only pages that still have their block count: the others
 * were pinned as blocks that have left the file, and the file may have new ones there by now.
 */
static unsigned int pinned_pages(struct pf_grant *g, uint64_t foff, uint64_t len)
{
	struct pf_ledger *l = &g->share->sess->led;
	unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first), pinned = 0, i;

	if (n == 0 || pf_ledger_idle(l, g->slot))
		return 0;
	if (!is_stale(g))
		return pinned_run(g, first, n);
	for (i = 0; i < g->next_ext; i++) {
		unsigned int a = g->ext[i].page > first ? g->ext[i].page : first;
		unsigned int end = g->ext[i].page + g->ext[i].npage;
		unsigned int b = end < first + n ? end : first + n;

		if (a < b)
			pinned += pinned_run(g, a, b - a);
	}
	return pinned;
}

static bool pins_count(const struct pf_share *sh)
{
	return atomic_load(&sh->sess->state) == PF_SESS_LIVE;
}

/* Slots */

static bool extents_ok(const struct pf_gext *ext, unsigned int n)
{
	uint32_t at = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (ext[i].npage == 0 || ext[i].page < at || ext[i].npage > PF_CHUNK_BLKS - ext[i].page)
			return false;
		at = ext[i].page + ext[i].npage;
	}
	return true;
}

/* A slot that is new while a CUT waits takes part in its wait, and the CUT has to unmap again. */
static void join_cut(struct pf_lobj *o, struct pf_grant *g, bool fresh)
{
	struct pf_brk *b = o->cuts;

	if (!b)
		return;
	if (fresh && b->froze && overlaps(g, b->fz_foff, b->fz_len))
		g->frozen = 1;
	if (overlaps(g, b->foff, b->len))
		b->dirty = true;
}

static int grant(struct pf_share *sh, uint32_t slot, uint64_t foff, const struct pf_gext *ext, unsigned int n,
		 bool may_be_new, uint32_t *word)
{
	struct pf_lobj *o = sh->obj;
	struct pf_sess *s = sh->sess;
	struct pf_grant *fresh, *g;
	struct pf_gext *copy = NULL;
	int err = 0;

	if (slot >= s->led.nslot || (foff & (PF_CHUNK_SIZE - 1)) != 0)
		return -EINVAL;
	if (!extents_ok(ext, n))
		return -EUCLEAN;
	fresh = calloc(1, sizeof *fresh);
	if (n != 0)
		copy = malloc(n * sizeof *copy);
	if (!fresh || (n != 0 && !copy)) {
		free(fresh);
		free(copy);
		return -ENOMEM;
	}
	if (n != 0)
		memcpy(copy, ext, n * sizeof *copy);
	pf_mutex_lock(&o->lock);
	pf_mutex_lock(&s->lock);
	g = s->slot[slot];
	if (atomic_load(&s->state) != PF_SESS_LIVE) {
		err = -ENOTCONN;
	} else if (g && (g->share != sh || g->foff != foff)) {
		err = may_be_new ? -EBUSY : -ESTALE;
	} else if (!g && !may_be_new) {
		err = -ESTALE;
	} else if (g && is_stale(g)) {
		err = -ESTALE;
	} else if (!g) {
		g = fresh;
		fresh = NULL;
		*g = (struct pf_grant){ .share = sh, .foff = foff, .slot = slot, .word = s->word[slot] };
		pf_share_get(sh);
		g->next = sh->grants;
		if (g->next)
			g->next->pprev = &g->next;
		g->pprev = &sh->grants;
		sh->grants = g;
		s->slot[slot] = g;
		s->nr_slots++;
		o->nr_grants++;
		join_cut(o, g, true);
		publish(g);
	} else {
		join_cut(o, g, false);
	}
	if (err == 0) {
		struct pf_gext *old = g->ext;

		sh->told_all = false;
		g->ext = copy;
		g->next_ext = n;
		copy = old;
		*word = g->word;
		pf_lay_count(s->fs, PF_COUNT_GRANTS, 1);
		PF_PROBE_MAP(s, slot, o->ino, foff, PF_CHUNK_SIZE);
	}
	pf_mutex_unlock(&s->lock);
	pf_mutex_unlock(&o->lock);
	free(fresh);
	free(copy);
	return err;
}

int pf_win_grant(struct pf_share *sh, uint32_t slot, uint64_t foff, const struct pf_gext *ext, unsigned int n,
		 uint32_t *word)
{
	return grant(sh, slot, foff, ext, n, true, word);
}

int pf_win_refresh(struct pf_share *sh, uint32_t slot, uint64_t foff, const struct pf_gext *ext, unsigned int n,
		   uint32_t *word)
{
	return grant(sh, slot, foff, ext, n, false, word);
}

static bool covered(const struct pf_grant *g, unsigned int first, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < g->next_ext && n != 0; i++) {
		uint32_t end = g->ext[i].page + g->ext[i].npage;

		if (end <= first)
			continue;
		if (g->ext[i].page > first)
			return false;
		n -= end - first < n ? end - first : n;
		first = end;
	}
	return n == 0;
}

int pf_win_pin(struct pf_share *sh, uint32_t slot, unsigned int first, unsigned int n, bool holes, bool brief,
	       uint64_t *cut)
{
	struct pf_lobj *o = sh->obj;
	struct pf_sess *s = sh->sess;
	struct pf_grant *g;
	struct pf_brk *b;
	int err;

	if (slot >= s->led.nslot || n == 0 || n > PF_CHUNK_BLKS || first > PF_CHUNK_BLKS - n)
		return -EINVAL;
	pf_mutex_lock(&o->lock);
	pf_mutex_lock(&s->lock);
	g = s->slot[slot];
	if (g && g->share != sh)
		g = NULL;
	pf_mutex_unlock(&s->lock);	/* a grant of this inode does not go while LAYOUT is held */
	b = o->cuts;
	if (!g || is_stale(g)) {
		err = -ESTALE;
	} else if (!holes && !covered(g, first, n)) {
		err = -EFAULT;
	} else if (b && b->state == PF_BRK_PARKED && b->froze && !b->policy.unfair &&
		   pf_range_overlap(g->foff + first * PF_BLK_SIZE, n * PF_BLK_SIZE, b->fz_foff,
				    pf_range_end(b->fz_foff, b->fz_len) - b->fz_foff) &&
		   !pf_win_keeps(sh, b->fz_foff, b->fz_len)) {
		*cut = b->id;
		err = -EAGAIN;
	} else {
		err = pf_ledger_pin(&s->led, slot, first, n, brief);
		pf_lay_count(s->fs, PF_COUNT_PINS_SLOW, err == 0);
		pf_gate_recheck(o);
	}
	pf_mutex_unlock(&o->lock);
	return err;
}

int pf_win_where(struct pf_share *sh, uint32_t slot, uint64_t *foff)
{
	struct pf_sess *s = sh->sess;
	int err = -ESTALE;

	if (slot >= s->led.nslot)
		return -EINVAL;
	pf_mutex_lock(&s->lock);
	if (s->slot[slot] && s->slot[slot]->share == sh) {
		*foff = s->slot[slot]->foff;
		err = 0;
	}
	pf_mutex_unlock(&s->lock);
	return err;
}

void pf_win_drop(struct pf_fs *fs, struct pf_grant *g)
{
	struct pf_share *sh = g->share;
	struct pf_sess *s = sh->sess;
	struct pf_lobj *o = sh->obj;

	pf_win_unpark(fs, g, true);
	*g->pprev = g->next;
	if (g->next)
		g->next->pprev = g->pprev;
	o->nr_grants--;
	s->slot[g->slot] = NULL;
	s->nr_slots--;
	/* The next user of the slot starts with another generation, so a pinner that is late by a whole life of it
	 * undoes. */
	s->word[g->slot] = (g->word & ~PF_SLOT_STALE) + PF_SLOT_GEN;
	pf_ledger_word(&s->led, g->slot, s->word[g->slot] | PF_SLOT_FROZEN);
	pf_ledger_next_epoch(&s->led, g->slot);
	if (o->cuts && o->cuts->blocker == g)
		o->cuts->blocker = NULL;
	free(g->ext);
	free(g->parked);
	free(g);
}

int pf_win_remove(struct pf_fs *fs, struct pf_sess *s, uint32_t slot)
{
	struct pf_grant *g, *again;
	struct pf_share *sh;
	struct pf_lobj *o;
	int err = 0;

	if (slot >= s->led.nslot)
		return -EINVAL;
	pf_mutex_lock(&s->lock);
	g = s->slot[slot];
	if (!g) {
		pf_mutex_unlock(&s->lock);
		return -EINVAL;
	}
	sh = g->share;
	pf_share_get(sh);
	pf_mutex_unlock(&s->lock);

	o = sh->obj;
	pf_mutex_lock(&o->lock);
	pf_mutex_lock(&s->lock);
	again = s->slot[slot];
	if (again != g || again->share != sh) {
		err = -EINVAL;
		pf_mutex_unlock(&s->lock);
		pf_mutex_unlock(&o->lock);
		goto out;
	}
	/* Same handshake as a break's: freeze, then look. */
	pf_ledger_word(&s->led, slot, g->word | PF_SLOT_FROZEN);
	if (!pf_ledger_idle(&s->led, slot) && pf_ledger_pinned(&s->led, slot, 0, (unsigned int)PF_CHUNK_BLKS) != 0)
		err = -EBUSY;
	else if (sh->unacked || (g->nparked != 0 && pf_ledger_dma(&s->led, slot)))
		err = -EBUSY;
	if (err == 0)
		pf_win_drop(fs, g);
	else
		publish(g);
	pf_mutex_unlock(&s->lock);
	if (err == 0)
		pf_lay_pins_fell(o, true);
	pf_lay_pump(fs, o);
	if (err == 0)
		pf_share_unref_more(sh);	/* the grant's */
out:
	pf_share_unref(fs, sh);
	return err;
}

/* Ranges of an inode; LAYOUT is held */

void pf_win_freeze(struct pf_lobj *o, uint64_t foff, uint64_t len)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		for (struct pf_grant *g = sh->grants; g; g = g->next)
			if (overlaps(g, foff, len)) {
				g->frozen++;
				publish(g);
			}
}

void pf_win_thaw(struct pf_lobj *o, uint64_t foff, uint64_t len)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		for (struct pf_grant *g = sh->grants; g; g = g->next)
			if (overlaps(g, foff, len)) {
				assert(g->frozen > 0);
				g->frozen--;
				publish(g);
			}
}

struct pf_grant *pf_win_scan(struct pf_lobj *o, struct pf_grant *from, uint64_t foff, uint64_t len)
{
	struct pf_share *sh = from ? from->share : o->shares;
	struct pf_grant *g = from ? from : NULL;

	for (; sh; sh = sh->next, g = NULL) {
		if (!pins_count(sh))
			continue;
		for (g = g ? g : sh->grants; g; g = g->next)
			if (pinned_pages(g, foff, len) != 0)
				return g;
	}
	return NULL;
}

uint64_t pf_win_pinned(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	uint64_t n = 0;

	if (!pins_count(sh))
		return 0;
	for (struct pf_grant *g = sh->grants; g; g = g->next)
		n += pinned_pages(g, foff, len);
	return n;
}

/*
 * The rule of fair=yes. A CUT that waits comes before pins that are made later, with one exception: a session with a
 * pin in its way which only the program can end. It may need the new one to end the other, whatever kind the new one
 * is. Pins that end by themselves (`brief`, ledger.h) are no reason: else a process that always has a transfer under
 * way could keep the CUT waiting for ever.
 */
bool pf_win_keeps(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	if (!pins_count(sh))
		return false;
	for (struct pf_grant *g = sh->grants; g; g = g->next)
		if (pinned_pages(g, foff, len) != 0 && pf_ledger_keeps(&sh->sess->led, g->slot))
			return true;
	return false;
}

bool pf_win_shown(const struct pf_share *sh, uint64_t foff, uint64_t len, bool holes, const struct pf_share *skip_share,
		  uint32_t skip_slot)
{
	for (const struct pf_grant *g = sh->grants; g; g = g->next) {
		unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

		if (n == 0 || (sh == skip_share && g->slot == skip_slot))
			continue;
		if (!holes || !covered(g, first, n))
			return true;
	}
	return false;
}

bool pf_win_alone(struct pf_share *sh, uint32_t slot, uint64_t foff)
{
	struct pf_lobj *o = sh->obj;
	bool alone;

	pf_mutex_lock(&o->lock);
	alone = !sh->unacked && pf_win_pinned(sh, foff, PF_CHUNK_SIZE) == 0;
	for (const struct pf_share *s = o->shares; s && alone; s = s->next)
		alone = !pf_win_shown(s, foff, PF_CHUNK_SIZE, false, sh, slot);
	pf_mutex_unlock(&o->lock);
	return alone;
}

static void make_stale(struct pf_grant *g)
{
	struct pf_share *sh = g->share;

	if (is_stale(g))
		return;
	g->word |= PF_SLOT_STALE;
	publish(g);
	pf_sess_send_inval(sh, pf_lay_id(sh->sess->fs), g->foff, PF_CHUNK_SIZE, PF_IN_DEAD, g->slot);
}

void pf_win_stale(struct pf_share *sh, uint64_t foff, uint64_t len, bool pinned)
{
	for (struct pf_grant *g = sh->grants; g; g = g->next)
		if (overlaps(g, foff, len) && (!pinned || pinned_pages(g, foff, len) != 0))
			make_stale(g);
}

/* Revoked pins. */

/* What leaves the file of these pages, as far as they are pinned, is to be parked; what has left it stays parked. */
static void keep(struct pf_grant *g, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		if (pf_ledger_pinned(&g->share->sess->led, g->slot, i, 1) != 0) {
			g->kick[i / 64] |= UINT64_C(1) << (i % 64);
			g->kicked = true;
		}
}

bool pf_win_revoke(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	struct pf_ledger *l = &sh->sess->led;
	bool any = false;

	for (struct pf_grant *g = sh->grants; g; g = g->next) {
		unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

		if (n == 0 || pinned_pages(g, foff, len) == 0)
			continue;
		if (pf_ledger_raw(l, g->slot))
			keep(g, first, n);
		for (unsigned int i = first; i < first + n; i++)
			g->gone[i / 64] |= UINT64_C(1) << (i % 64);
		g->revoked = any = true;
		pf_ledger_gone(l, g->slot, g->gone);
		make_stale(g);
	}
	return any;
}

bool pf_win_kick(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	for (struct pf_grant *g = sh->grants; g; g = g->next) {
		unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

		keep(g, first, n);
	}
	return pf_win_revoke(sh, foff, len);
}

struct pf_grant *pf_win_live(struct pf_share *sh, uint32_t slot, uint64_t foff, unsigned int first, unsigned int n)
{
	struct pf_grant *g;

	for (g = sh->grants; g && g->slot != slot;)
		g = g->next;
	return g && g->foff == foff && !is_stale(g) && covered(g, first, n) ? g : NULL;
}

/* A slot that is not stale has no page that is gone: so taking bits back is to clear all. */
int pf_win_untranslate(struct pf_share *sh, const struct pf_p_piece *piece, uint32_t n)
{
	struct pf_ledger *l = &sh->sess->led;
	static const uint64_t none[PF_CHUNK_BLKS / 64];
	bool busy = false;

	for (uint32_t i = 0; i < n; i++) {
		struct pf_grant *g = pf_win_live(sh, piece[i].pc_slot, piece[i].pc_foff, 0, 0);

		for (unsigned int p = piece[i].pc_first; p < piece[i].pc_first + piece[i].pc_npage; p++)
			g->gone[p / 64] |= UINT64_C(1) << (p % 64);
		pf_ledger_gone(l, g->slot, g->gone);
		busy = pf_ledger_dma(l, g->slot) || busy;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct pf_grant *g = pf_win_live(sh, piece[i].pc_slot, piece[i].pc_foff, 0, 0);

		if (g && busy) {
			memset(g->gone, 0, sizeof g->gone);
			pf_ledger_gone(l, g->slot, none);
		} else if (g) {
			g->revoked = true;
			make_stale(g);
		}
	}
	return busy ? -EAGAIN : 0;
}

bool pf_win_dma(struct pf_lobj *o, uint64_t foff, uint64_t len)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		for (struct pf_grant *g = sh->grants; g; g = g->next)
			if (g->revoked && overlaps(g, foff, len) && pf_ledger_dma(&sh->sess->led, g->slot))
				return true;
	return false;
}

/* Parking */

/* Was it kicked, and is it pinned yet? */
static bool kicked(const struct pf_grant *g, unsigned int page)
{
	return g->kicked && (g->kick[page / 64] >> (page % 64) & 1) != 0 &&
	       pf_ledger_pinned(&g->share->sess->led, g->slot, page, 1) != 0;
}

static bool kicked_run(const struct pf_grant *g, unsigned int first, unsigned int n)
{
	bool any = false;

	for (unsigned int i = first; g->kicked && i < first + n && !any; i++)
		any = kicked(g, i);
	return any;
}

static bool is_parked(const struct pf_grant *g, unsigned int page)
{
	for (uint32_t i = 0; i < g->nparked; i++)
		if (page >= g->parked[i].page && page < g->parked[i].page + g->parked[i].npage)
			return true;
	return false;
}

/* For reports: whose blocks are how long out of use. */
static void count_kept(struct pf_share *sh, uint64_t more, uint64_t less)
{
	if (sh->kept == 0)
		sh->kept_ns = pf_lay_now();
	sh->kept += more - less;
	if (more != 0 && atomic_fetch_add(&sh->sess->kept, more) == 0)
		atomic_store(&sh->sess->kept_ns, pf_lay_now());
	else if (less != 0)
		atomic_fetch_sub(&sh->sess->kept, less);
}

uint64_t pf_win_blocks(const struct pf_share *sh, uint64_t foff, uint64_t len)
{
	uint64_t n = 0;

	for (const struct pf_grant *g = sh->grants; g; g = g->next) {
		unsigned int first, end = pf_chunk_clip(g->foff, foff, len, &first) + first;

		for (uint32_t i = 0; i < g->next_ext; i++) {
			unsigned int a = g->ext[i].page > first ? g->ext[i].page : first;
			unsigned int b = g->ext[i].page + g->ext[i].npage;

			b = b < end ? b : end;
			n += a < b ? b - a : 0;
		}
	}
	return n;
}

static int park_one(struct pf_fs *fs, struct pf_grant *g, struct pf_gext e, uint64_t *nblk)
{
	struct pf_gext *bigger = realloc(g->parked, (g->nparked + 1) * sizeof *bigger);
	int err;

	if (!bigger)
		return -ENOMEM;
	g->parked = bigger;
	err = pf_alloc_park(fs, (struct pf_run){ e.dblk, e.npage });
	if (err != 0)
		return err;
	g->parked[g->nparked++] = e;
	count_kept(g->share, e.npage, 0);
	PF_PROBE_PARK(g->share->sess, g->share->obj->ino, g->foff + e.page * PF_BLK_SIZE, e.npage * PF_BLK_SIZE,
		      e.dblk);
	*nblk += e.npage;
	return 0;
}

static int park_grant(struct pf_fs *fs, struct pf_grant *g, unsigned int first, unsigned int n, bool pinned,
		      uint64_t *nblk)
{
	unsigned int i, at, run;
	int err = 0;

	for (i = 0; i < g->next_ext && err == 0; i++) {
		struct pf_gext e = g->ext[i];
		unsigned int end = e.page + e.npage < first + n ? e.page + e.npage : first + n;

		at = e.page > first ? e.page : first;
		while (at < end && err == 0) {
			if (pinned && pinned_run(g, at, 1) == 0) {
				at++;
				continue;
			}
			run = pinned ? 1 : end - at;
			while (at + run < end && pinned_run(g, at + run, 1) != 0)
				run++;
			err = park_one(fs, g, (struct pf_gext){ at, run, e.dblk + (at - e.page) }, nblk);
			at += run;
		}
	}
	return err;
}

int pf_win_park(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len, bool pinned, uint64_t *nblk)
{
	int err = 0;

	for (struct pf_grant *g = sh->grants; g && err == 0; g = g->next) {
		unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

		if (n == 0)
			continue;
		err = park_grant(fs, g, first, n, pinned, nblk);
		publish(g);
	}
	return err;
}

int pf_win_park_dma(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len, uint64_t *nblk)
{
	int err = 0;

	for (struct pf_grant *g = sh->grants; g && err == 0; g = g->next) {
		unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

		if (n == 0 || !g->revoked || !pf_ledger_dma(&sh->sess->led, g->slot))
			continue;
		err = park_grant(fs, g, first, n, false, nblk);
		publish(g);
	}
	return err;
}

int pf_win_park_kicked(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len, uint64_t *nblk)
{
	int err = 0;

	for (struct pf_grant *g = sh->grants; g && err == 0; g = g->next) {
		unsigned int first, n = g->kicked ? pf_chunk_clip(g->foff, foff, len, &first) : 0, run;

		for (unsigned int at = n != 0 ? first : 0; n != 0 && at < first + n && err == 0; at += run) {
			run = 1;
			if (!kicked(g, at) || is_parked(g, at))
				continue;
			while (at + run < first + n && kicked(g, at + run) && !is_parked(g, at + run))
				run++;
			err = park_grant(fs, g, at, run, false, nblk);
		}
		if (n != 0)
			publish(g);
	}
	return err;
}

bool pf_win_unpark(struct pf_fs *fs, struct pf_grant *g, bool all)
{
	struct pf_ledger *l = &g->share->sess->led;
	uint32_t i, kept = 0, were = g->nparked;
	bool dma = g->revoked && pf_ledger_dma(l, g->slot);

	if (g->nparked == 0 || (!all && (g->share->unacked || !pins_count(g->share))))
		return false;
	for (i = 0; i < g->nparked; i++) {
		struct pf_gext e = g->parked[i];

		if (!all && (dma || pinned_run(g, e.page, e.npage) != 0 || kicked_run(g, e.page, e.npage))) {
			g->parked[kept++] = e;
		} else {
			pf_alloc_unpark(fs, (struct pf_run){ e.dblk, e.npage });
			count_kept(g->share, 0, e.npage);
			PF_PROBE_UNPARK(g->share->sess, g->share->obj->ino, g->foff + e.page * PF_BLK_SIZE,
					e.npage * PF_BLK_SIZE, e.dblk);
		}
	}
	g->nparked = kept;
	if (kept == 0)
		publish(g);
	return kept < were;
}

/* Cut pages [first, first + n) out of @g's extents; at most one extent becomes two. False: no memory, nothing
 * changed. */
static bool trim_grant(struct pf_grant *g, unsigned int first, unsigned int n)
{
	unsigned int i, out = 0, end = first + n;
	struct pf_gext *ext = malloc((g->next_ext + 1) * sizeof *ext);

	if (!ext)
		return false;
	for (i = 0; i < g->next_ext; i++) {
		struct pf_gext e = g->ext[i];

		if (e.page < first)
			ext[out++] = (struct pf_gext){
				e.page, e.page + e.npage <= first ? e.npage : first - e.page, e.dblk
			};
		if (e.page + e.npage > end) {
			unsigned int at = e.page > end ? e.page : end;

			ext[out++] = (struct pf_gext){ at, e.page + e.npage - at, e.dblk + (at - e.page) };
		}
	}
	free(g->ext);
	g->ext = ext;
	g->next_ext = out;
	return true;
}

void pf_win_trim(struct pf_lobj *o, uint64_t foff, uint64_t len)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		for (struct pf_grant *g = sh->grants; g; g = g->next) {
			unsigned int first, n = pf_chunk_clip(g->foff, foff, len, &first);

			if (n == 0)
				continue;
			/* Without memory the books say too much: then more is waited for, or kept back, than need
			 * be. */
			(void)trim_grant(g, first, n);
			g->word += PF_SLOT_GEN;
			publish(g);
		}
}
