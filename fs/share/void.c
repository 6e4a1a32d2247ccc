/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * void.c - `pinfsctl kick`: one pin is void. What the record says is the client's word: it decides which of its own
 * pins are hit, and nothing else. Takes REGISTRY, then LAYOUT of one inode.
 */
#include "share/void.h"

#include <errno.h>
#include <stdlib.h>
#include "base/log.h"
#include "base/probe.h"
#include "share/lay.h"

#define SESSIONS_MAX 8192U

static struct pf_sess *find_session(struct pf_fs *fs, uint64_t id)
{
	struct pf_sess **all = malloc(SESSIONS_MAX * sizeof(struct pf_sess *)), *found = NULL;
	unsigned int n = all ? pf_reg_sessions(fs, all, SESSIONS_MAX) : 0;

	for (unsigned int i = 0; i < n; i++) {
		if (all[i]->id == id)
			found = all[i];
		else
			pf_sess_put(all[i]);
	}
	free(all);
	return found;
}

static int void_in(struct pf_sess *s, struct pf_share *sh, uint32_t record, const struct pf_pin_rec *r, const char *by)
{
	struct pf_lobj *o = sh->obj;
	int err = -ESRCH;

	pf_mutex_lock(&o->lock);
	if (atomic_load(&s->state) != PF_SESS_LIVE) {
		err = -ENOTCONN;
	} else if (pf_win_kick(sh, r->foff, r->len)) {
		err = 0;
		pf_warn("pin %llu.%u of pid %d (%s), %llu bytes at %llu of inode %llu, is kicked by %s",
			(unsigned long long)s->id, record, (int)s->pid, s->comm, (unsigned long long)r->len,
			(unsigned long long)r->foff, (unsigned long long)o->ino, by);
		PF_PROBE_REVOKE(s, record, o->ino, r->foff, r->len);
		(void)pf_lay_pins_fell(o, true);
	}
	pf_lay_pump(s->fs, o);
	return err;
}

int pf_pin_void(struct pf_fs *fs, uint64_t session, uint32_t record, const char *by)
{
	struct pf_sess *s = find_session(fs, session);
	struct pf_share *sh = NULL;
	struct pf_pin_rec r;
	int err = -ESRCH;

	if (!s)
		return -ESRCH;
	if (record < s->led.nrec && pf_ledger_rec(&s->led, record, &r))
		for (sh = pf_sess_share(s, NULL); sh && sh->obj->ino != r.ino;)
			sh = pf_sess_share(s, sh);
	if (sh) {
		err = void_in(s, sh, record, &r, by);
		pf_share_unref(fs, sh);
	}
	pf_sess_put(s);
	return err;
}
