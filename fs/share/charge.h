/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * charge.h - pages that users have pinned long-term on this mount, against what they may.
 *
 * As with RLIMIT_MEMLOCK of io_uring and RDMA: pages of all processes of a user together, a page that is pinned twice
 * counts twice, against the limit of the process that asks; CAP_IPC_LOCK is above that. longterm_limit= is the mount's
 * own and above nobody. Takes its lock (LEAF) alone; reads /proc.
 */
#ifndef PF_SHARE_CHARGE_H
#define PF_SHARE_CHARGE_H

#include <pinfs/ledger.h>
#include "share/session.h"

struct pf_user {
	struct pf_user *next;
	uid_t uid;
	unsigned int refs;		/* sessions */
	uint64_t pages;
};

/* The account of a new session's user. -ENOMEM. */
int pf_charge_begin(struct pf_sess *s) PF_MUST_CHECK;
void pf_charge_end(struct pf_sess *s);

/* -ENOMEM: more than the limit. -EPERM: verbs of a process that may lock no memory at all. */
int pf_charge(struct pf_sess *s, enum pf_pin_api api, uint64_t npage) PF_MUST_CHECK;
/* At most what the session has. */
void pf_uncharge(struct pf_sess *s, uint64_t npage);

uint64_t pf_charged(struct pf_sess *s);		/* pages */
/* Users with sessions, up to @max; *total: pages of all. */
struct pf_charged { uid_t uid; uint64_t pages; };
unsigned int pf_charge_list(struct pf_fs *fs, struct pf_charged *out, unsigned int max, uint64_t *total);

#endif
