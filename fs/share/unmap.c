/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unmap.c - what a break does to clients and their blocks: tells sessions to unmap, gives up on those that do not
 * answer, and keeps back blocks that somebody may still write to. When each of it is due is layout.c's.
 *
 * Owns nothing. LAYOUT of the inode is held by every caller.
 */
#include <assert.h>
#include <pinfs/proto.h>
#include "base/log.h"
#include "base/probe.h"
#include "share/lay.h"

/* Unmapping */

/* Has @sh copies that the break may take away? */
static bool has_copies(const struct pf_share *sh, const struct pf_brk *b)
{
	return b->drops && atomic_load(&sh->copies) && atomic_load(&sh->sess->state) == PF_SESS_LIVE;
}

bool pf_brk_copies(const struct pf_lobj *o, const struct pf_brk *b)
{
	for (const struct pf_share *sh = o->shares; sh; sh = sh->next)
		if (has_copies(sh, b))
			return true;
	return false;
}

/* It has happened: what clients had put aside is gone, before they are told anything else of the file. */
void pf_brk_drop(struct pf_lobj *o, const struct pf_brk *b)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		if (has_copies(sh, b) && !sh->unacked)
			pf_sess_send_inval(sh, 0, b->drop_foff, UINT64_MAX, PF_IN_DROP, 0);
}

void pf_brk_unmap(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	bool holes = b->kind == PF_BRK_MAP;

	for (struct pf_share *sh = o->shares; sh; sh = sh->next) {
		uint64_t id;

		if (!pf_win_shown(sh, b->foff, b->len, holes, b->skip_share, b->skip_slot) && !has_copies(sh, b))
			continue;
		if (atomic_load(&sh->sess->state) == PF_SESS_LIVE && !sh->told_all) {
			id = pf_lay_id(fs);
			if (!pf_sess_expect(sh, id))
				continue;
			pf_lay_count(fs, PF_COUNT_INVALIDATES, 1);
			PF_PROBE_INVAL(sh->sess, id, b->id, o->ino, b->foff, b->len);
			if (!sh->unacked) {
				pf_sess_send_inval(sh, id, b->foff, b->len, has_copies(sh, b) ? PF_IN_CUT : 0, 0);
				sh->inval_brk = b;
				b->acks++;
				continue;
			}
			/* It may sleep for days: one message says all that could become of the file meanwhile. */
			pf_sess_send_inval(sh, id, 0, UINT64_MAX, atomic_load(&sh->copies) ? PF_IN_CUT : 0, 0);
			sh->told_all = true;
		}
		/* In quarantine already, or cut off: nobody waits for it a second time. */
		if (!holes)
			pf_win_stale(sh, b->foff, b->len, false);
	}
	b->dirty = false;
	b->un_foff = b->foff;
	b->un_len = b->len;
}

/*
 * Blocks may lie where the slot was shown holes, and no answer says so. Nobody waits for it to have heard, as nobody
 * waits for an answer to be taken: but this comes before the error.
 */
void pf_brk_tell_asker(struct pf_brk *b)
{
	struct pf_share *sh = b->obj->shares;

	while (sh && sh != b->skip_share)
		sh = sh->next;
	/* The books may say more than the client was told. */
	if (sh && atomic_load(&sh->sess->state) == PF_SESS_LIVE && pf_win_shown(sh, b->foff, b->len, false, NULL, 0))
		pf_sess_send_inval(sh, 0, b->foff, b->len, 0, 0);
}

/* A client looks for the ends of transfers, which it alone can see, when told to unmap something; here nothing. */
void pf_brk_nudge(struct pf_lobj *o, const struct pf_brk *b)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		if (pf_win_pinned(sh, b->fz_foff, b->fz_len) != 0)
			pf_sess_send_inval(sh, 0, 0, 0, 0, 0);
}

void pf_lay_answered(struct pf_fs *fs, struct pf_share *sh, bool lost)
{
	struct pf_brk *b = sh->inval_brk;

	if (b) {
		sh->inval_brk = NULL;
		b->acks--;
	}
	if (!lost) {
		sh->unacked = sh->told_all = false;
		for (struct pf_grant *g = sh->grants; g; g = g->next)
			pf_win_unpark(fs, g, false);
	} else if (b) {
		sh->unacked = true;
		if (b->kind == PF_BRK_CUT)
			pf_win_stale(sh, b->foff, b->len, false);
		pf_lay_count(fs, PF_COUNT_QUARANTINES, 1);
	}
}

void pf_brk_quarantine(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next)
		if (sh->inval_brk == b) {
			PF_PROBE_QUARANTINE(sh->sess, sh->inval_id, b->id, o->ino);
			pf_warn("pid %d (%s) did not unmap inode %llu within %llu ms: it is in quarantine",
				(int)sh->sess->pid, sh->sess->comm, (unsigned long long)o->ino,
				(unsigned long long)fs->opts.revoke_timeout_ms);
			pf_lay_answered(fs, sh, true);
		}
	assert(b->acks == 0);
}

void pf_brk_collide(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b)
{
	for (struct pf_share *sh = o->shares; sh; sh = sh->next) {
		uint64_t pages = pf_win_pinned(sh, b->pin_foff, b->pin_len);

		if (pages == 0)
			continue;
		pf_warn("on_busy=unsafe: %s of inode %llu hits %llu pages pinned by pid %d (%s)", b->what,
			(unsigned long long)o->ino, (unsigned long long)pages, (int)sh->sess->pid, sh->sess->comm);
		pf_lay_count(fs, PF_COUNT_COLLISIONS, pages);
		pf_win_stale(sh, b->foff, b->len, true);
	}
}

/* A client that did not unmap, or is cut off, may still store to its blocks. */
static int park_lost(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, struct pf_share *sh, uint64_t *nblk)
{
	uint64_t pages;

	pf_win_stale(sh, b->foff, b->len, false);
	if (b->policy.on_busy != PF_BUSY_UNSAFE)
		return pf_win_park(fs, sh, b->foff, b->len, false, nblk);
	pages = pf_win_blocks(sh, b->foff, b->len);
	if (pages != 0)
		pf_warn("on_busy=unsafe: %s of inode %llu frees %llu pages that pid %d (%s) may still map", b->what,
			(unsigned long long)o->ino, (unsigned long long)pages, (int)sh->sess->pid, sh->sess->comm);
	pf_lay_count(fs, PF_COUNT_COLLISIONS, pages);
	return 0;
}

/* Keep back what devices or lost clients may still write to; before b_work frees it. */
int pf_brk_keep_back(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, bool pinned)
{
	uint64_t nblk = 0;
	int err = 0;

	for (struct pf_share *sh = o->shares; sh && err == 0; sh = sh->next) {
		if (sh->unacked || atomic_load(&sh->sess->state) != PF_SESS_LIVE) {
			err = park_lost(fs, o, b, sh, &nblk);
			continue;
		}
		if (b->dma_lost)
			err = pf_win_park_dma(fs, sh, b->foff, b->len, &nblk);
		if (pinned && err == 0) {
			pf_win_stale(sh, b->foff, b->len, true);
			err = pf_win_park(fs, sh, b->foff, b->len, true, &nblk);
		}
		if (err == 0 && b->policy.on_busy != PF_BUSY_UNSAFE)
			err = pf_win_park_kicked(fs, sh, b->foff, b->len, &nblk);
	}
	pf_lay_count(fs, PF_COUNT_DEFERRED_BLOCKS, nblk);
	return err;
}
