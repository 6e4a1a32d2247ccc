/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * move.c - the bytes of one burst: to or from blocks of the device, found by device address or through the IOMMU.
 *
 * Runs in the engine's thread. Owns nothing; takes no lock that it keeps while bytes move.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <string.h>

#define PIECE ((size_t)4096)
#define WORD ((uint64_t)8)

/* Only every other word of the file: the first half of a torn burst has the even ones. */
static void store(const struct dma_xfer *x, uint8_t *mem, uint64_t foff, const uint8_t *bytes, size_t len)
{
	size_t n;

	if (!x->d.tear) {
		memcpy(mem, bytes, len);
		return;
	}
	for (size_t at = 0; at < len; at += n) {
		n = (size_t)pf_min64(WORD - (foff + at) % WORD, len - at);
		if ((foff + at) / WORD % 2 == (x->half ? 1 : 0))
			memcpy(mem + at, bytes + at, n);
	}
}

/* @at: position in the transfer. */
static int move_piece(const struct dma_xfer *x, uint8_t *mem, uint64_t foff, uint64_t at, size_t len,
		      struct dma_miss *miss)
{
	uint8_t *buf = x->d.buf, made[PIECE];

	if (x->d.dir == DMA_TO_DEVICE) {
		if (buf == NULL)
			return dma_pat_check(&x->d.pat, foff, mem, len, miss) ? 0 : -EBADMSG;
		memcpy(buf + at, mem, len);
	} else if (buf != NULL) {
		store(x, mem, foff, buf + at, len);
	} else if (!x->d.tear) {
		dma_pat_fill(&x->d.pat, foff, mem, len);
	} else {
		dma_pat_fill(&x->d.pat, foff, made, len);
		store(x, mem, foff, made, len);
	}
	return 0;
}

static int move_all(const struct dma_xfer *x, uint8_t *mem, uint64_t foff, uint64_t at, uint64_t len,
		    struct dma_miss *miss)
{
	int err = 0;

	/* A torn piece is made before it is stored; whole ones need no room. */
	for (uint64_t n; len != 0 && err == 0; mem += n, foff += n, at += n, len -= n) {
		n = x->d.tear ? pf_min64(PIECE, len) : len;
		err = move_piece(x, mem, foff, at, (size_t)n, miss);
	}
	return err;
}

/* The device range that holds byte @off of the transfer; from the one before on, for most accesses go forwards. */
static const struct pinfs_sg *range_of(struct dma_xfer *x, uint64_t off)
{
	if (off < x->sg_off)
		x->sg_at = x->sg_off = 0;
	while (off - x->sg_off >= x->sg[x->sg_at].sg_len)
		x->sg_off += x->sg[x->sg_at++].sg_len;
	return &x->sg[x->sg_at];
}

int dma_move(struct dma_xfer *x, uint64_t off, uint64_t n, uint64_t *moved, struct dma_miss *miss,
	     struct dma_fault *fault)
{
	const bool write = x->d.dir == DMA_FROM_DEVICE;
	int err = 0;

	for (*moved = 0; *moved < n && err == 0;) {
		const uint64_t at = off + *moved;
		uint64_t len = n - *moved;

		if (x->dev != NULL) {
			const struct pinfs_sg *sg = range_of(x, at);
			const uint64_t in = at - x->sg_off;

			len = pf_min64(len, sg->sg_len - in);
			err = move_all(x, x->dev->base + sg->sg_doff + in, sg->sg_foff + in, at, len, miss);
		} else {
			struct dma_span s;

			err = dma_iommu_enter(x->e->iommu, x->d.iova + at, len, write, &s, fault);
			if (err != 0)
				break;
			len = s.len;
			err = move_all(x, s.mem, s.foff, at, len, miss);
			dma_iommu_exit(x->e->iommu, &s);
		}
		if (err == 0)
			*moved += len;
	}
	return err;
}
