/* SPDX-License-Identifier: BSD-3-Clause */
/* op_pin.c - checks and counts a slow pin. Owns nothing; runs inside the gate of op_map.c's request. */
#include "op/op_pin.h"

#include <errno.h>
#include "op/policy.h"
#include "share/charge.h"
#include "share/lease.h"

int pf_pin_admit(const struct pf_map_req *r)
{
	const uint32_t answers = r->sess->fs->opts.answers;
	unsigned int own = atomic_load(&r->share->longterm);
	struct pf_policy p;
	int err = pf_policy_of(r->ip, NULL, &p);

	if (err != 0)
		return err;
	if (own != 0)
		p.longterm = (enum pf_longterm)(own - 1);
	if (((answers & PF_ANSWER_VFIO_SLIPS) && r->api == PF_API_VFIO) ||
	    ((answers & PF_ANSWER_XDP_SLIPS) && r->api == PF_API_XDP))
		return 0;
	switch (p.longterm) {
	case PF_LONG_ALLOW:
		return 0;
	case PF_LONG_LEASE:
		return pf_lease_covers(r->share, r->foff + (uint64_t)r->first * PF_BLK_SIZE,
				       (uint64_t)r->npage * PF_BLK_SIZE);
	case PF_LONG_REFUSE:
	case PF_LONG_NR:
		break;
	}
	return -EOPNOTSUPP;
}

int pf_pin_check(const struct pf_map_req *r, bool handle_write)
{
	if (r->npage == 0 || r->npage > PF_CHUNK_BLKS || r->first > PF_CHUNK_BLKS - r->npage)
		return -EINVAL;
	return r->write && !handle_write ? -EACCES : 0;
}

int pf_pin_count(struct pf_map_req *r, const struct pf_dext *ext, unsigned int n, uint64_t size, uint64_t *cut)
{
	uint64_t at = r->foff + (uint64_t)r->first * PF_BLK_SIZE, end = at + (uint64_t)r->npage * PF_BLK_SIZE;
	unsigned int i;
	int err = 0;

	/* A page that the file's last byte lies in is a page of the file. */
	if (end - PF_BLK_SIZE >= size)
		return -EFAULT;
	for (i = 0; i < n && at < end; i++)
		if (ext[i].foff <= at && at < ext[i].foff + ext[i].len && ext[i].doff == PF_DEXT_BAD)
			return -EIO;
		else if (ext[i].foff <= at && at < ext[i].foff + ext[i].len)
			at = ext[i].foff + ext[i].len;
	if (at < end && r->write)
		return 1;
	/* A device cannot read a hole. The kernel can: it finds a page of zeros. */
	if (at < end && !r->holes)
		return -EFAULT;
	if (r->longterm)
		err = pf_pin_admit(r);	/* once more: a lease may have ended */
	if (err == 0 && r->longterm)
		err = pf_charge(r->sess, r->api, r->npage);
	if (err != 0)
		return err;
	err = pf_win_pin(r->share, r->slot, r->first, r->npage, r->holes, r->brief, cut);
	if (err != 0 && r->longterm)
		pf_uncharge(r->sess, r->npage);
	return err;
}
