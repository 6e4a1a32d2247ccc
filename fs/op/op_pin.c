/* SPDX-License-Identifier: BSD-3-Clause */
/* op_pin.c - checks and counts a slow pin. Owns nothing; runs inside the gate of op_map.c's request. */
#include "op/op_pin.h"

#include <errno.h>

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
	return pf_win_pin(r->share, r->slot, r->first, r->npage, r->holes, cut);
}
