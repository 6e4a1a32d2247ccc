/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * give.c - the hand-over of a lease with its pins, see give.h.
 *
 * Owns struct pf_give. Takes LAYOUT, under it SESSION, REGISTRY.
 *
 * WHY NO PIN IS LOST OR DOUBLED. Both sessions' grants are of one inode, whose LAYOUT is held from the first check to
 * the last count; a break scans under the same lock, so it sees the pins in one ledger or in the other. The giver's
 * client does not unpin what it has put on its way; one that does it nevertheless has fewer counts than it said, which
 * is its own loss. A session that ends is dropped from the inode under the same lock, too: before the step nothing has
 * changed for the other one, after it nothing is left to the one that is gone.
 *
 * WHY THE OLD TRANSLATION MUST GO. From now on a revoke looks at the taker's slots only. So the giver's lose the pages'
 * translation in the same step, and a burst that is under way there makes the step fail before anything has moved.
 */
#include "share/give.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "share/charge.h"
#include "share/lay.h"

static bool same_cookie(const struct pf_give *g, const struct pf_p_token *t)
{
	return g->cookie[0] == t->tk_cookie[0] && g->cookie[1] == t->tk_cookie[1];
}

/* Off the registry. LAYOUT is held. */
static void unlist(struct pf_give *g)
{
	struct pf_lay *lay = g->lease->share->sess->fs->lay;

	pf_mutex_lock(&lay->lock);
	*g->pprev = g->next;
	if (g->next)
		g->next->pprev = g->pprev;
	pf_mutex_unlock(&lay->lock);
}

void pf_give_void(struct pf_give *g)
{
	unlist(g);
	g->lease->give = NULL;
	free(g);
}

/* The grant that a piece is about, when it lies in the lease and all of its pages have their block. LAYOUT is held. */
static struct pf_grant *grant_of(struct pf_share *sh, const struct pf_lease *l, const struct pf_p_piece *p)
{
	uint64_t lo, hi;

	if (p->pc_npage == 0 || p->pc_npage > PF_CHUNK_BLKS || p->pc_first > PF_CHUNK_BLKS - p->pc_npage ||
	    p->pc_foff % PF_CHUNK_SIZE != 0 || p->pc_foff > UINT64_MAX - PF_CHUNK_SIZE)
		return NULL;
	lo = p->pc_foff + p->pc_first * PF_BLK_SIZE;
	hi = lo + p->pc_npage * PF_BLK_SIZE;
	if (lo < l->foff || hi > pf_range_end(l->foff, l->len))
		return NULL;
	return pf_win_live(sh, p->pc_slot, p->pc_foff, p->pc_first, p->pc_npage);
}

/* Are the counts there that the client says are? The same page may be in many pieces. */
static bool counted(struct pf_grant *g, const struct pf_p_piece *p)
{
	return pf_ledger_pinned(&g->share->sess->led, g->slot, p->pc_first, p->pc_npage) == p->pc_npage;
}

int pf_give_start(struct pf_sess *s, uint64_t id, const struct pf_p_piece *piece, uint32_t n, struct pf_p_token *out)
{
	struct pf_lay *lay = s->fs->lay;
	struct pf_give *g = calloc(1, sizeof *g + n * sizeof *piece);
	struct pf_share *sh;
	struct pf_lease *l;
	int err = 0;

	if (!g)
		return -ENOMEM;
	if (getrandom(g->cookie, sizeof g->cookie, 0) != (ssize_t)sizeof g->cookie) {
		free(g);
		return -EIO;
	}
	l = pf_lease_find(s, id, &sh);
	if (!l) {
		free(g);
		return -ESTALE;
	}
	if (l->give || l->state != PF_LEASE_HELD)
		err = -EBUSY;
	for (uint32_t i = 0; i < n && err == 0; i++) {
		struct pf_grant *from = grant_of(sh, l, &piece[i]);

		err = from && counted(from, &piece[i]) ? 0 : -EINVAL;
	}
	if (err == 0) {
		g->lease = l;
		g->n = n;
		memcpy(g->piece, piece, n * sizeof *piece);
		*out = (struct pf_p_token){ { g->cookie[0], g->cookie[1] } };
		l->give = g;
		pf_mutex_lock(&lay->lock);
		g->next = lay->gives;
		if (g->next)
			g->next->pprev = &g->next;
		g->pprev = &lay->gives;
		lay->gives = g;
		pf_mutex_unlock(&lay->lock);
		g = NULL;
	}
	pf_mutex_unlock(&sh->obj->lock);
	pf_share_unref(s->fs, sh);
	free(g);
	return err;
}

int pf_give_retract(struct pf_sess *s, uint64_t id)
{
	struct pf_share *sh;
	struct pf_lease *l = pf_lease_find(s, id, &sh);
	int err = -EINVAL;

	if (!l)
		return -ESTALE;
	if (l->give) {
		pf_give_void(l->give);
		err = 0;
	}
	pf_mutex_unlock(&sh->obj->lock);
	pf_share_unref(s->fs, sh);
	return err;
}

struct pf_share *pf_give_share(struct pf_fs *fs, const struct pf_p_token *t)
{
	struct pf_lay *lay = fs->lay;
	struct pf_share *sh = NULL;
	struct pf_give *g;

	pf_mutex_lock(&lay->lock);
	for (g = lay->gives; g && !same_cookie(g, t);)
		g = g->next;
	if (g) {			/* listed: so its lease is there, which has a reference */
		sh = g->lease->share;
		pf_share_get(sh);
	}
	pf_mutex_unlock(&lay->lock);
	return sh;
}

/* LAYOUT is held. */
static struct pf_give *find(struct pf_share *from, const struct pf_p_token *t)
{
	for (struct pf_lease *l = from->obj->leases; l; l = l->next)
		if (l->share == from && l->give && same_cookie(l->give, t))
			return l->give;
	return NULL;
}

int pf_give_look(struct pf_share *from, const struct pf_p_token *t, struct pf_p_lease_out *out,
		 struct pf_p_piece **piece, uint32_t *n)
{
	struct pf_give *g;
	int err = -ESTALE;

	pf_mutex_lock(&from->obj->lock);
	g = find(from, t);
	if (g) {
		pf_lease_describe(g->lease, out);
		*n = g->n;
		*piece = malloc((g->n != 0 ? g->n : 1) * sizeof **piece);
		err = *piece ? 0 : -ENOMEM;
		if (*piece)
			memcpy(*piece, g->piece, g->n * sizeof **piece);
	}
	pf_mutex_unlock(&from->obj->lock);
	return err;
}

/* Everything there that the step needs? */
static int check(struct pf_give *g, struct pf_share *from, struct pf_share *to, const struct pf_p_piece *piece,
		 uint32_t n)
{
	if (n != g->n)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		const struct pf_p_piece *p = &g->piece[i], *q = &piece[i];
		struct pf_grant *f = grant_of(from, g->lease, p);

		if (!f || !counted(f, p))
			return -ESTALE;
		if (q->pc_foff != p->pc_foff || q->pc_first != p->pc_first || q->pc_npage != p->pc_npage ||
		    q->pc_flags != p->pc_flags || !grant_of(to, g->lease, q))
			return -EINVAL;
	}
	return 0;
}

/* Add to the taker's counts. All or none. */
static int count(struct pf_share *to, const struct pf_p_piece *piece, uint32_t n)
{
	struct pf_ledger *l = &to->sess->led;
	int err = 0;
	uint32_t i;

	for (i = 0; i < n && err == 0; i++)
		err = pf_ledger_pin(l, piece[i].pc_slot, piece[i].pc_first, piece[i].pc_npage, false);
	if (err != 0)
		for (i--; i-- > 0;)
			pf_ledger_unpin(l, piece[i].pc_slot, piece[i].pc_first, piece[i].pc_npage);
	return err;
}

/* check() has them compared with what the giver said. */
static uint64_t longterm_pages(const struct pf_p_piece *piece, uint32_t n)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < n; i++)
		pages += piece[i].pc_flags & PF_PI_LONGTERM ? piece[i].pc_npage : 0;
	return pages;
}

int pf_give_finish(struct pf_fs *fs, struct pf_share *from, struct pf_share *to, const struct pf_p_token *t,
		   const struct pf_p_piece *piece, uint32_t n, struct pf_p_lease_out *out)
{
	struct pf_lobj *o = from->obj;
	struct pf_lease *l = NULL;
	uint64_t charge = longterm_pages(piece, n);
	struct pf_give *g;
	int err;

	if (to->obj != o)
		return -EINVAL;
	if (to->sess == from->sess)
		return -EDEADLK;
	err = charge != 0 ? pf_charge(to->sess, PF_API_LONGTERM, charge) : 0;
	if (err != 0)
		return err;
	pf_mutex_lock(&o->lock);
	g = find(from, t);
	if (!g || atomic_load(&from->sess->state) != PF_SESS_LIVE)
		err = -ESTALE;
	else if (atomic_load(&to->sess->state) != PF_SESS_LIVE)
		err = -ENOTCONN;
	else
		err = check(g, from, to, piece, n);
	if (err == 0)
		err = pf_win_untranslate(from, g->piece, n);
	if (err == 0)
		err = count(to, piece, n);
	if (err == 0) {
		l = g->lease;
		for (uint32_t i = 0; i < n; i++)
			pf_ledger_unpin(&from->sess->led, g->piece[i].pc_slot, g->piece[i].pc_first,
					g->piece[i].pc_npage);
		pf_give_void(g);
		pf_lease_move(l, to);
		pf_lease_describe(l, out);
	}
	(void)pf_lay_pins_fell(o, true);
	pf_lay_pump(fs, o);
	if (charge != 0)
		pf_uncharge(l ? from->sess : to->sess, charge);
	if (l)
		pf_share_unref_more(from);	/* the lease's; ours remains */
	return err;
}
