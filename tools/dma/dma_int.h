/* SPDX-License-Identifier: BSD-3-Clause */
/* dma_int.h - what the parts of the engine share: its queue, its devices, its transfers, its IOMMU. */
#ifndef TOOLS_DMA_INT_H
#define TOOLS_DMA_INT_H

#include <pthread.h>
#include <sys/types.h>
#include "dma/dma.h"
#include <pinfs/types.h>

#define DMA_NS_PER_S UINT64_C(1000000000)

struct dma_dev {
	struct dma_engine *e;
	struct dma_dev *next;
	unsigned int refs;
	dev_t st_dev, st_rdev;
	ino_t st_ino;
	uint8_t *base;
	uint64_t bytes;
	bool ro;
};

/* A seeded schedule: what is moved when, in this order. */
struct dma_step {
	uint64_t off, len;		/* bytes of the transfer */
	uint64_t wait_ns;		/* before it */
};

struct dma_xfer {
	struct dma_engine *e;
	struct dma_dev *dev;		/* NULL: the IOMMU says which */
	unsigned int refs;		/* the queue's and the submitter's */
	struct dma_desc d;		/* d.sg is our copy */
	uint64_t limit;			/* bytes after which it ends: len, stop_at or error_at */
	size_t sg_at;			/* the range that holds byte sg_off of the transfer */
	uint64_t sg_off;		/* where that range begins, in bytes of the transfer */
	struct dma_step *step;		/* NULL: from the first byte to the last */
	size_t nstep, at_step;
	uint64_t slip_ns;		/* waits of the steps so far */
	bool half;			/* the first half of a torn burst has moved */
	uint64_t due_ns;
	size_t heap_at;
	int end;			/* not 0: end it with this, at its next turn */
	struct dma_stat st;
	pthread_cond_t ended;
	struct pinfs_sg sg[];
};

struct dma_iommu;

struct dma_engine {
	pthread_mutex_t lock;
	pthread_cond_t kick;		/* the earliest due time changed, or stop */
	pthread_t thread;
	unsigned int refs;		/* the owner, each device, each transfer */
	bool stop;
	struct dma_dev *devs;
	struct dma_iommu *iommu;
	struct dma_xfer **heap;		/* by due_ns */
	size_t nheap, room;
};

/* Drop one reference of the engine; unlocks. */
void dma_engine_put_unlock(struct dma_engine *e);

/*
 * move.c: bytes [off, off + n) of the transfer, now. The engine's thread alone; no lock held. *moved: how many did,
 * also after an error. -EBADMSG with *miss; an IOMMU fault with *fault.
 */
int dma_move(struct dma_xfer *x, uint64_t off, uint64_t n, uint64_t *moved, struct dma_miss *miss,
	     struct dma_fault *fault);

/* iommu.c. A stretch of the device that an access may use until it is given back. */
struct dma_span {
	uint8_t *mem;
	uint64_t len;			/* as asked for, or less */
	uint64_t foff;
	/* Private. */
	struct dma_mapping *m;
	uint32_t slot;
	bool counted;
	void *page;
};
int dma_iommu_new(struct dma_iommu **out);
void dma_iommu_free(struct dma_iommu *mmu);
/* -errno: *fault says all. */
int dma_iommu_enter(struct dma_iommu *mmu, uint64_t iova, uint64_t len, bool write, struct dma_span *s,
		    struct dma_fault *fault);
void dma_iommu_exit(struct dma_iommu *mmu, struct dma_span *s);

/* plan.c: steps that cover [0, len), or -ENOMEM. */
int dma_plan(const struct dma_desc *d, uint64_t len, struct dma_step **out, size_t *n);

#endif
