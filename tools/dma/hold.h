/* SPDX-License-Identifier: BSD-3-Clause */
/* hold.h - what holds the addresses of a transfer of a window, until that has ended. For window.c and lease.c. */
#ifndef TOOLS_DMA_HOLD_H
#define TOOLS_DMA_HOLD_H

#include "dma/dma_int.h"

struct dma_watch;

struct dma_hold {
	struct dma_engine *e;
	struct dma_dev *dev;
	struct pinfs_pin *pin;
	struct pinfs_lease *lease;
	struct dma_watch *watch;		/* NULL: nobody stops it when the lease breaks */
	struct pf_l_hdr *ledger;
	size_t ledger_len;
	uint64_t iova;				/* 0: device addresses */
	char *addr;				/* on demand: where byte foff is mapped */
	uint64_t foff;
};

void dma_hold_release(void *hold);

/* lease.c. Listen to h->lease from now on, and stop the transfer with -ESTALE when it breaks. */
int dma_lease_listen(struct dma_hold *h);
/* The transfer ends: listen no more. */
void dma_lease_end(struct dma_hold *h);
/* Which transfer it is. It may have ended, and its hold be gone: so the caller keeps the watch meanwhile. */
struct dma_watch *dma_watch_get(struct dma_watch *w);
/* Both drop the reference. */
void dma_watch_tell(struct dma_watch *w, struct dma_xfer *x);
void dma_watch_drop(struct dma_watch *w);

#endif
