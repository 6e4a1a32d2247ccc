/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c - layout leases: what they cover.
 *
 * Owns struct pf_lease. Takes LAYOUT of one inode, under it SESSION.
 */
#include "share/lease.h"

#include <errno.h>
#include <stdlib.h>
#include "share/lay.h"

int pf_lease_covers(struct pf_share *sh, uint64_t foff, uint64_t len)
{
	struct pf_lobj *o = sh->obj;
	uint64_t at = foff, end = pf_range_end(foff, len);
	bool more = true;

	pf_mutex_lock(&o->lock);
	while (at < end && more) {
		more = false;
		for (const struct pf_lease *l = o->leases; l; l = l->next)
			if (l->share == sh && l->state == PF_LEASE_HELD && !l->dropped && !l->give &&
			    l->foff <= at && pf_range_end(l->foff, l->len) > at) {
				at = pf_range_end(l->foff, l->len);
				more = true;
			}
	}
	pf_mutex_unlock(&o->lock);
	return at < end ? -EPERM : 0;
}
