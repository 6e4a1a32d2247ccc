/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xleaf.h - what is in an attribute leaf: the check of its records, and a way to walk over them.
 *
 * Every byte may be hostile: both read only inside the 4096 bytes they are given.
 */
#ifndef PF_MEDIA_XLEAF_H
#define PF_MEDIA_XLEAF_H

#include "base/fs.h"

/* Bytes that an attribute takes in a leaf: @vlen counts when @nrun is 0. */
static inline unsigned int pf_xent_need(unsigned int namelen, unsigned int nrun, uint32_t vlen)
{
	unsigned int fixed = ((unsigned int)offsetof(struct pf_d_xent, xe_name) + namelen + 7) & ~7U;

	return fixed + (nrun != 0 ? nrun * (unsigned int)sizeof(struct pf_d_xrun) : (vlen + 7) & ~7U);
}

/* One attribute, all of it inside the leaf. */
struct pf_xview {
	unsigned int off;		/* of the record */
	uint64_t key;
	const char *name;		/* namelen bytes, not terminated */
	unsigned int namelen;
	uint32_t vlen, vcrc;
	const uint8_t *value;		/* vlen bytes; NULL: it lies in blocks */
	const struct pf_d_xrun *run;
	unsigned int nrun;
};

/* The record at @off, which must be below 4096: 0 when it is not sound enough to be looked at, else its length. @v is
 * filled, with namelen 0 if the record is free space. */
unsigned int pf_xleaf_at(const void *leaf, unsigned int off, struct pf_xview *v);

/* for (off = PF_XLEAF_FIRST; pf_xleaf_next(leaf, &off, &v);): each attribute. Ends at the first record that is not
 * sound; in a leaf which pf_md_check() has passed there is none. */
#define PF_XLEAF_FIRST ((unsigned int)sizeof(struct pf_d_hdr))
bool pf_xleaf_next(const void *leaf, unsigned int *off, struct pf_xview *v);

/* For pf_md_check(): everything behind the header, and its counts. The reason, or NULL. */
const char *pf_xleaf_check(const struct pf_fs *fs, const struct pf_d_hdr *leaf, uint64_t owner);

#endif
