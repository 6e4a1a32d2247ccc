/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xleaf.c - attribute leaves: where a record's parts lie, and whether they are as FORMAT.md says.
 *
 * Owns nothing, takes no lock. Who may see an attribute and what its value means is not looked at here.
 */
#include "media/xleaf.h"

#include <stddef.h>
#include <string.h>
#include "media/verify.h"

unsigned int pf_xleaf_at(const void *leaf, unsigned int off, struct pf_xview *v)
{
	const uint8_t *at = (const uint8_t *)leaf + off;
	const struct pf_d_xent *xe = (const void *)at;
	unsigned int reclen, fixed;

	memset(v, 0, sizeof *v);
	if (off > PF_BLK_SIZE - sizeof *xe)
		return 0;
	reclen = pf_get16(xe->xe_reclen);
	if (reclen < sizeof *xe || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off)
		return 0;
	v->off = off;
	if (xe->xe_namelen == 0)
		return reclen;
	v->vlen = pf_get32(xe->xe_vlen);
	if (xe->xe_nrun == 0 ? v->vlen > PF_XATTR_INLINE : xe->xe_nrun > PF_XATTR_RUNS)
		return 0;
	if (pf_xent_need(xe->xe_namelen, xe->xe_nrun, v->vlen) > reclen)
		return 0;
	fixed = pf_xent_need(xe->xe_namelen, 0, 0);
	v->key = pf_get64(xe->xe_key);
	v->name = (const char *)at + offsetof(struct pf_d_xent, xe_name);
	v->namelen = xe->xe_namelen;
	v->vcrc = pf_get32(xe->xe_vcrc);
	v->nrun = xe->xe_nrun;
	if (v->nrun == 0)
		v->value = at + fixed;
	else
		v->run = (const void *)(at + fixed);
	return reclen;
}

bool pf_xleaf_next(const void *leaf, unsigned int *off, struct pf_xview *v)
{
	while (*off < PF_BLK_SIZE) {
		unsigned int reclen = pf_xleaf_at(leaf, *off, v);

		if (reclen == 0)
			return false;
		*off += reclen;
		if (v->namelen != 0)
			return true;
	}
	return false;
}

static bool all_zero(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p == 0)
		p++;
	return p >= end;
}

static const char *check_value(const struct pf_fs *fs, const struct pf_xview *v, uint64_t owner)
{
	uint64_t nblk = 0;

	if (v->nrun == 0) {
		if (v->vcrc != 0)
			return "checksum of a value in the leaf";
		return all_zero(v->value + v->vlen, v->value + ((v->vlen + 7) & ~7U)) ? NULL : "padding of a value";
	}
	if (v->vlen <= PF_XATTR_INLINE || v->vlen > PF_XATTR_VALUE_MAX)
		return "length of a value in blocks";
	for (unsigned int i = 0; i < v->nrun; i++) {
		uint64_t dblk = pf_get64(v->run[i].xr_dblk), n = pf_get64(v->run[i].xr_nblk);

		if (!pf_data_range_ok(fs, owner, dblk, n))
			return "block of a value outside the data area";
		if (n > PF_XATTR_VALUE_MAX / PF_BLK_SIZE)
			return "blocks of a value";
		nblk += n;
	}
	return nblk == PF_DIV_UP(v->vlen, PF_BLK_SIZE) ? NULL : "blocks of a value";
}

const char *pf_xleaf_check(const struct pf_fs *fs, const struct pf_d_hdr *leaf, uint64_t owner)
{
	unsigned int live = 0, used = 0, reclen;
	struct pf_xview v;

	for (unsigned int off = PF_XLEAF_FIRST; off < PF_BLK_SIZE; off += reclen) {
		const char *why;

		reclen = pf_xleaf_at(leaf, off, &v);
		if (reclen == 0)
			return "record length";
		if (v.namelen == 0)
			continue;
		if (memchr(v.name, '\0', v.namelen) != NULL)
			return "name with a NUL";
		if (!all_zero((const uint8_t *)v.name + v.namelen,
			      (const uint8_t *)leaf + off + pf_xent_need(v.namelen, 0, 0)))
			return "padding of a name";
		if (v.key < 256 || v.key >> 63 != 0)
			return "name key";
		why = check_value(fs, &v, owner);
		if (why != NULL)
			return why;
		live++;
		used += pf_xent_need(v.namelen, v.nrun, v.vlen);
	}
	if (live == 0)
		return "no attribute in a leaf";
	if (live != pf_get16(leaf->h_count))
		return "count of attributes";
	if (pf_get32(leaf->h_free) != PF_BLK_SIZE - sizeof *leaf - used)
		return "count of free bytes";
	return NULL;
}
