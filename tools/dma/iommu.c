/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iommu.c - bus addresses of an engine: mappings, their translations, a TLB, and what goes wrong.
 *
 * An engine is programmed with bus addresses. Each access asks here for the block behind one, for as long as it takes:
 * it is counted in the ledger of whoever holds the block, which refuses when the block was taken away (ledger.h,
 * REVOKE), and in its mapping, so that an unmap returns only when no access is left. A mapping on demand has no
 * translations of its own: the page is asked for at each access, as a device does that can take page faults.
 *
 * Bus addresses are not used twice, and mappings have room between them: a stale or wrong address faults, always.
 *
 * Owns struct dma_iommu, with one lock over all of it. It is not held while a page is asked for or bytes move.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/ledger.h>

#define FIRST_IOVA (UINT64_C(1) << 32)
#define GUARD (UINT64_C(1) << 21)
#define TLB_SIZE 64U

const char *const dma_fault_name[DMA_FAULT_NR] = {
	[DMA_FAULT_NONE] = "none",
	[DMA_FAULT_UNMAPPED] = "no translation",
	[DMA_FAULT_READONLY] = "mapped for reading only",
	[DMA_FAULT_REVOKED] = "translation revoked",
	[DMA_FAULT_PAGE] = "page refused",
};

struct dma_mapping {
	struct dma_mapping *next;
	uint64_t iova, len;
	struct dma_map d;		/* d.piece is our copy */
	unsigned int busy;		/* accesses under way */
	bool dead;
	struct pinfs_dma piece[];
};

/* A page of bus addresses, and the translation that was found for it last. */
struct tlb {
	struct dma_mapping *m;		/* NULL: empty */
	uint64_t page;
	size_t piece;			/* pieces: where the page begins */
	uint64_t doff;			/* on demand: where the page was */
};

struct dma_iommu {
	pthread_mutex_t lock;
	pthread_cond_t idle;		/* a dead mapping is busy no more */
	struct dma_mapping *first;
	uint64_t next_iova;
	struct tlb tlb[TLB_SIZE];
	struct dma_iommu_stat stat;
};

int dma_iommu_new(struct dma_iommu **out)
{
	struct dma_iommu *mmu = calloc(1, sizeof *mmu);

	if (mmu == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&mmu->lock, NULL);
	(void)pthread_cond_init(&mmu->idle, NULL);
	mmu->next_iova = FIRST_IOVA;
	*out = mmu;
	return 0;
}

void dma_iommu_free(struct dma_iommu *mmu)
{
	if (mmu == NULL)
		return;
	while (mmu->first != NULL) {
		struct dma_mapping *m = mmu->first;

		mmu->first = m->next;
		free(m);
	}
	(void)pthread_cond_destroy(&mmu->idle);
	(void)pthread_mutex_destroy(&mmu->lock);
	free(mmu);
}

static int check(const struct dma_map *d)
{
	uint64_t at = d->npiece != 0 && d->piece[0].da_foff <= d->foff ? d->piece[0].da_foff : d->foff;

	if (d->dev == NULL || d->len == 0 || d->len > UINT64_MAX / 4 || (d->page_in != NULL) != (d->npiece == 0) ||
	    d->npiece > SIZE_MAX / sizeof(struct pinfs_dma) / 2)
		return -EINVAL;
	if (d->write && d->dev->ro)
		return -EACCES;
	/* Pieces may be another process's word. */
	for (size_t i = 0; i < d->npiece; i++) {
		const struct pinfs_dma *p = &d->piece[i];

		if (p->da_foff != at || p->da_len == 0 || !pf_range_ok(p->da_doff, p->da_len, d->dev->bytes) ||
		    p->da_page >= PF_CHUNK_BLKS ||
		    p->da_foff % PF_BLK_SIZE + p->da_len > (PF_CHUNK_BLKS - p->da_page) * PF_BLK_SIZE ||
		    (d->ledger != NULL && p->da_slot >= d->ledger->lh_nslot))
			return -EINVAL;
		at += p->da_len;
	}
	return d->npiece == 0 || (at >= d->foff && at - d->foff >= d->len) ? 0 : -EINVAL;
}

int dma_iommu_map(struct dma_engine *e, const struct dma_map *d, uint64_t *iova)
{
	struct dma_iommu *mmu = e->iommu;
	struct dma_mapping *m;
	int err = check(d);

	if (err != 0)
		return err;
	m = calloc(1, sizeof *m + d->npiece * sizeof *d->piece);
	if (m == NULL)
		return -ENOMEM;
	m->d = *d;
	if (d->npiece != 0)
		memcpy(m->piece, d->piece, d->npiece * sizeof *d->piece);
	m->d.piece = m->piece;
	m->len = d->len;
	(void)pthread_mutex_lock(&mmu->lock);
	m->iova = mmu->next_iova + d->foff % PF_BLK_SIZE;
	mmu->next_iova += (d->len + GUARD) / GUARD * GUARD + GUARD;
	m->next = mmu->first;
	mmu->first = m;
	mmu->stat.is_maps++;
	(void)pthread_mutex_unlock(&mmu->lock);
	*iova = m->iova;
	return 0;
}

int dma_iommu_unmap(struct dma_engine *e, uint64_t iova)
{
	struct dma_iommu *mmu = e->iommu;
	struct dma_mapping **at, *m;

	(void)pthread_mutex_lock(&mmu->lock);
	for (at = &mmu->first; *at != NULL && (*at)->iova != iova; at = &(*at)->next)
		;
	m = *at;
	if (m != NULL) {
		*at = m->next;
		m->dead = true;
		for (unsigned int i = 0; i < TLB_SIZE; i++)
			if (mmu->tlb[i].m == m)
				mmu->tlb[i].m = NULL;
		mmu->stat.is_invalidations++;
		while (m->busy != 0)
			(void)pthread_cond_wait(&mmu->idle, &mmu->lock);
	}
	(void)pthread_mutex_unlock(&mmu->lock);
	free(m);
	return m != NULL ? 0 : -ENOENT;
}

void dma_iommu_stat(struct dma_engine *e, struct dma_iommu_stat *out)
{
	(void)pthread_mutex_lock(&e->iommu->lock);
	*out = e->iommu->stat;
	(void)pthread_mutex_unlock(&e->iommu->lock);
}

/* Lock held. The piece that holds byte @foff of the file; from piece @i on, if that does not begin behind it. */
static size_t piece_of(const struct dma_mapping *m, uint64_t foff, size_t i)
{
	size_t lo = m->piece[i].da_foff <= foff ? i : 0, hi = m->d.npiece;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->piece[mid].da_foff <= foff)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static int give_up(struct dma_iommu *mmu, struct dma_fault *fault, enum dma_fault_why why, uint64_t iova, int err)
{
	fault->df_why = why;
	fault->df_iova = iova;
	fault->df_err = err;
	(void)pthread_mutex_lock(&mmu->lock);
	mmu->stat.is_faults++;
	(void)pthread_mutex_unlock(&mmu->lock);
	return err;
}

static void leave(struct dma_iommu *mmu, struct dma_mapping *m)
{
	(void)pthread_mutex_lock(&mmu->lock);
	if (--m->busy == 0 && m->dead)
		(void)pthread_cond_broadcast(&mmu->idle);
	(void)pthread_mutex_unlock(&mmu->lock);
}

/* Fixed translations: the piece, counted in the ledger that it comes from. */
static int enter_piece(struct dma_iommu *mmu, const struct pinfs_dma *p, uint64_t iova, uint64_t foff,
		       struct dma_span *s, struct dma_fault *fault)
{
	const uint64_t in = foff - p->da_foff;
	const uint32_t first = p->da_page + (uint32_t)((p->da_foff % PF_BLK_SIZE + in) / PF_BLK_SIZE);
	uint64_t pages;

	s->len = pf_min64(s->len, p->da_len - in);
	pages = (foff % PF_BLK_SIZE + s->len + PF_BLK_SIZE - 1) / PF_BLK_SIZE;
	if (s->m->d.ledger != NULL &&
	    !pf_dma_enter(s->m->d.ledger, p->da_slot, p->da_epoch, first, (uint32_t)pages))
		return give_up(mmu, fault, DMA_FAULT_REVOKED, iova, -ESTALE);
	s->counted = s->m->d.ledger != NULL;
	s->slot = p->da_slot;
	s->mem = s->m->d.dev->base + p->da_doff + in;
	return 0;
}

/* On demand: the page is asked for, and held until the access is over. It was somewhere else before: a fault. */
static int enter_page(struct dma_iommu *mmu, uint64_t iova, uint64_t foff, bool write, struct dma_span *s,
		      struct dma_fault *fault)
{
	const uint64_t page = iova / PF_BLK_SIZE;
	struct tlb *t = &mmu->tlb[page % TLB_SIZE];
	struct pinfs_sg sg = { 0 };
	uint64_t base;
	int err;

	s->len = pf_min64(s->len, PF_BLK_SIZE - foff % PF_BLK_SIZE);
	err = s->m->d.page_in(s->m->d.arg, foff, s->len, write, &sg, &s->page);
	if (err == 0 && (sg.sg_len < s->len || !pf_range_ok(sg.sg_doff, sg.sg_len, s->m->d.dev->bytes))) {
		s->m->d.page_out(s->m->d.arg, s->page);
		err = -EIO;
	}
	if (err != 0)
		return give_up(mmu, fault, DMA_FAULT_PAGE, iova, err);
	base = pf_round_down(sg.sg_doff, PF_BLK_SIZE);
	(void)pthread_mutex_lock(&mmu->lock);
	if (t->m == s->m && t->page == page && t->doff == base) {
		mmu->stat.is_hits++;
	} else {
		mmu->stat.is_misses++;
		mmu->stat.is_invalidations += t->m == s->m && t->page == page;
		if (!s->m->dead)
			*t = (struct tlb){ .m = s->m, .page = page, .doff = base };
	}
	(void)pthread_mutex_unlock(&mmu->lock);
	s->mem = s->m->d.dev->base + sg.sg_doff;
	return 0;
}

int dma_iommu_enter(struct dma_iommu *mmu, uint64_t iova, uint64_t len, bool write, struct dma_span *s,
		    struct dma_fault *fault)
{
	const uint64_t page = iova / PF_BLK_SIZE;
	struct tlb *t = &mmu->tlb[page % TLB_SIZE];
	const struct pinfs_dma *p = NULL;
	struct dma_mapping *m;
	uint64_t off = 0;
	int err;

	*s = (struct dma_span){ .len = len };
	*fault = (struct dma_fault){ .df_why = DMA_FAULT_NONE };
	(void)pthread_mutex_lock(&mmu->lock);
	for (m = mmu->first; m != NULL && (iova < m->iova || iova - m->iova >= m->len); m = m->next)
		;
	if (m != NULL) {
		off = iova - m->iova;
		m->busy++;
	}
	if (m != NULL && m->d.page_in == NULL) {
		const bool hit = t->m == m && t->page == page;
		const size_t i = piece_of(m, m->d.foff + off, hit ? t->piece : 0);

		*(hit ? &mmu->stat.is_hits : &mmu->stat.is_misses) += 1;
		if (!hit)
			*t = (struct tlb){ .m = m, .page = page, .piece = i };
		p = &m->piece[i];
	}
	(void)pthread_mutex_unlock(&mmu->lock);
	if (m == NULL)
		return give_up(mmu, fault, DMA_FAULT_UNMAPPED, iova, -EFAULT);
	s->m = m;
	s->foff = m->d.foff + off;
	s->len = pf_min64(len, m->len - off);
	fault->df_ino = m->d.ino;
	fault->df_foff = s->foff;
	if (write && !m->d.write)
		err = give_up(mmu, fault, DMA_FAULT_READONLY, iova, -EACCES);
	else if (p != NULL)
		err = enter_piece(mmu, p, iova, s->foff, s, fault);
	else
		err = enter_page(mmu, iova, s->foff, write, s, fault);
	if (err != 0)
		leave(mmu, m);
	return err;
}

void dma_iommu_exit(struct dma_iommu *mmu, struct dma_span *s)
{
	if (s->counted)
		pf_dma_exit(s->m->d.ledger, s->slot);
	if (s->page != NULL)
		s->m->d.page_out(s->m->d.arg, s->page);
	leave(mmu, s->m);
}
