/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dma_iommu.c - the engine's IOMMU and its schedules on a plain file: addresses that are translated, stale,
 * revoked or asked for on demand; bursts in seeded order, and torn ones. The ledger is the test's own memory.
 */
#include "dma/dma.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <CUnit/Basic.h>
#include <pinfs/types.h>
#include "harness/unit.h"

#define DEV_BYTES ((size_t)1 << 20)
#define PAGE ((uint64_t)4096)
#define MS UINT64_C(1000000)

struct rig {
	int fd;
	uint8_t *mem;
	struct dma_engine *e;
	struct dma_dev *dev;
	struct pf_l_hdr *led;
	struct pf_l_slot *slot;
};

static void rig_up(struct rig *r)
{
	const size_t bytes = sizeof *r->led + 4 * sizeof *r->slot + 64;

	r->fd = memfd_create("dev", MFD_CLOEXEC);
	CU_ASSERT_FATAL(r->fd >= 0 && ftruncate(r->fd, DEV_BYTES) == 0);
	r->mem = mmap(NULL, DEV_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	CU_ASSERT_FATAL(r->mem != MAP_FAILED);
	CU_ASSERT_FATAL(dma_engine_start(&r->e) == 0);
	CU_ASSERT_FATAL(dma_dev_get(r->e, r->fd, &r->dev) == 0);
	r->led = calloc(1, bytes);
	CU_ASSERT_FATAL(r->led != NULL);
	r->led->lh_nslot = 4;
	r->led->lh_slot_off = sizeof *r->led;
	r->led->lh_map_off = sizeof *r->led + 4 * sizeof *r->slot;
	r->slot = (void *)(r->led + 1);
}

static void rig_down(struct rig *r)
{
	dma_dev_put(r->dev);
	dma_engine_stop(r->e);
	(void)munmap(r->mem, DEV_BYTES);
	(void)close(r->fd);
	free(r->led);
}

/* Eight pages of a file, from page 2 on of slot 1: four at 256 KiB of the device, four at 64 KiB. */
static struct dma_map eight(struct rig *r, struct pinfs_dma piece[2])
{
	piece[0] = (struct pinfs_dma){ 256 * 1024, 4 * PAGE, 2 * PAGE, 1, 2, 5, 0 };
	piece[1] = (struct pinfs_dma){ 64 * 1024, 4 * PAGE, 6 * PAGE, 1, 6, 5, 0 };
	r->slot[1].ls_epoch = 5;
	return (struct dma_map){ .dev = r->dev, .piece = piece, .npiece = 2, .ledger = r->led, .ino = 12,
				 .foff = 2 * PAGE, .len = 8 * PAGE, .write = true };
}

static struct dma_desc desc_for(uint64_t iova, uint64_t len)
{
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);

	d.iova = iova;
	d.len = len;
	d.pat = (struct dma_pat){ .dp_id = 3, .dp_ino = 12, .dp_foff = 2 * PAGE };
	dma_pat_label(&d.pat, "iommu");
	return d;
}

static struct dma_stat run(struct rig *r, const struct dma_desc *d)
{
	struct dma_stat st = { .ds_err = 1 };
	struct dma_xfer *x;

	CU_ASSERT_FATAL(dma_submit(r->e, NULL, d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	dma_xfer_put(x);
	return st;
}

static void translate(void)
{
	struct pinfs_dma piece[2];
	struct dma_iommu_stat is;
	struct dma_map m;
	struct dma_desc d;
	struct dma_stat st;
	uint64_t iova, other;
	struct rig r;

	rig_up(&r);
	m = eight(&r, piece);
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &other) == 0);
	CU_ASSERT(iova != other);
	d = desc_for(iova, 8 * PAGE);
	d.burst = 3000;			/* bursts cross pages, and the two pieces */
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE && st.ds_fault.df_why == DMA_FAULT_NONE);
	CU_ASSERT(dma_pat_check(&d.pat, 2 * PAGE, r.mem + 256 * 1024, 4 * PAGE, NULL));
	CU_ASSERT(dma_pat_check(&d.pat, 6 * PAGE, r.mem + 64 * 1024, 4 * PAGE, NULL));
	CU_ASSERT_EQUAL(r.slot[1].ls_dma, 0);
	dma_iommu_stat(r.e, &is);
	CU_ASSERT(is.is_maps == 2 && is.is_hits > 0 && is.is_misses >= 8 && is.is_faults == 0);

	/* Into the middle of a page, one byte before the end, and behind it. */
	d = desc_for(iova + 100, 50);
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	d = desc_for(iova + 8 * PAGE - 1, 2);
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -EFAULT && st.ds_moved == 1);
	CU_ASSERT(st.ds_fault.df_why == DMA_FAULT_UNMAPPED && st.ds_fault.df_iova == iova + 8 * PAGE);
	d = desc_for(iova - 1, 1);
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, -EFAULT);

	/* Unmapped: the address is nobody's any more, and never will be; the TLB does not remember it. */
	CU_ASSERT_EQUAL(dma_iommu_unmap(r.e, iova), 0);
	CU_ASSERT_EQUAL(dma_iommu_unmap(r.e, iova), -ENOENT);
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &other) == 0);
	CU_ASSERT(other != iova);
	d = desc_for(iova, PAGE);
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -EFAULT && st.ds_moved == 0);
	dma_iommu_stat(r.e, &is);
	CU_ASSERT(is.is_faults == 3 && is.is_invalidations == 1);

	/* A part of what the pieces have, as of a pin, whose pieces are whole pages. */
	m.foff += 100;
	m.len = PAGE;
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	CU_ASSERT_EQUAL(iova % PAGE, 100);
	d = desc_for(iova, PAGE);
	d.pat.dp_id = 77;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	CU_ASSERT(dma_pat_check(&d.pat, 2 * PAGE + 100, r.mem + 256 * 1024 + 100, PAGE, NULL));
	d = desc_for(iova + PAGE, 1);
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, -EFAULT);
	/* Readers may not write. */
	m.write = false;
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	d = desc_for(iova, PAGE);
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -EACCES && st.ds_fault.df_why == DMA_FAULT_READONLY && st.ds_fault.df_ino == 12);
	d.dir = DMA_TO_DEVICE;
	d.pat.dp_id = 77;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	rig_down(&r);
}

static void bad_maps(void)
{
	struct pinfs_dma piece[2];
	struct dma_map m;
	uint64_t iova;
	struct rig r;

	rig_up(&r);
#define BAD(change)							\
	do {								\
		m = eight(&r, piece);					\
		change;							\
		CU_ASSERT_EQUAL(dma_iommu_map(r.e, &m, &iova), -EINVAL); \
	} while (0)
	BAD(m.dev = NULL);
	BAD(m.npiece = 0);
	BAD(m.len = 0);
	BAD(m.len += 1);
	BAD(m.foff += 1);		/* then one byte is missing in the end */
	BAD(m.foff -= 1);
	BAD(piece[1].da_foff += PAGE);
	BAD(piece[1].da_len = 0);
	BAD(piece[1].da_len = UINT64_MAX);
	BAD(piece[0].da_doff = DEV_BYTES);
	BAD(piece[0].da_doff = UINT64_MAX - PAGE);
	BAD(piece[0].da_page = 512);
	BAD(piece[0].da_page = 509);
	BAD(piece[0].da_slot = 4);
#undef BAD
	rig_down(&r);
}

/* By the engine, between two bursts: after the second page. */
static void revoke_at_two(const struct dma_desc *d, uint64_t foff, uint64_t len, int err)
{
	struct rig *r = d->arg;

	if (err != 0 || foff + len != 4 * PAGE)
		return;
	r->slot[1].ls_word = PF_SLOT_FROZEN;
	memset(r->slot[1].ls_gone, 0xff, sizeof r->slot[1].ls_gone);
}

/* The translation goes while a transfer is under way: it faults at the next burst, and the block keeps its bytes. */
static void revoked(void)
{
	struct pinfs_dma piece[2];
	struct dma_desc d;
	struct dma_stat st;
	struct dma_map m;
	uint64_t iova;
	struct rig r;

	rig_up(&r);
	m = eight(&r, piece);
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	d = desc_for(iova, 8 * PAGE);
	r.slot[1].ls_gone[0] = UINT32_C(1) << 7;		/* page 7 of the slot: page 5 of the transfer */
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -ESTALE && st.ds_moved == 5 * PAGE);
	CU_ASSERT(st.ds_fault.df_why == DMA_FAULT_REVOKED && st.ds_fault.df_foff == 7 * PAGE);
	CU_ASSERT(st.ds_fault.df_ino == 12 && st.ds_fault.df_iova == iova + 5 * PAGE);
	CU_ASSERT_EQUAL(r.mem[64 * 1024 + PAGE], 0);
	CU_ASSERT_EQUAL(r.slot[1].ls_dma, 0);
	/* A burst faults as a whole when one of its pages is gone. */
	d = desc_for(iova + 4 * PAGE, 4 * PAGE);
	d.burst = 4 * PAGE;
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -ESTALE && st.ds_moved == 0);
	r.slot[1].ls_gone[0] = 0;
	/* Another chunk is in the slot. */
	r.slot[1].ls_epoch = 6;
	d = desc_for(iova, PAGE);
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, -ESTALE);
	r.slot[1].ls_epoch = 5;
	/* In the middle of one; whoever waits for its last burst is kicked. */
	d = desc_for(iova, 8 * PAGE);
	d.burst = PAGE;
	d.event = revoke_at_two;
	d.arg = &r;
	memset(r.mem, 0, DEV_BYTES);
	r.led->lh_kick = 0;
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -ESTALE && st.ds_moved == 2 * PAGE && st.ds_fault.df_why == DMA_FAULT_REVOKED);
	CU_ASSERT(dma_pat_check(&d.pat, 2 * PAGE, r.mem + 256 * 1024, 2 * PAGE, NULL));
	CU_ASSERT_EQUAL(r.mem[256 * 1024 + 2 * PAGE], 0);
	CU_ASSERT_EQUAL(r.mem[64 * 1024 + 3 * PAGE], 0);
	CU_ASSERT(r.led->lh_kick >= PF_KICK_ONE);
	CU_ASSERT_EQUAL(*(uint64_t *)(void *)((char *)r.led + r.led->lh_map_off), 2);
	CU_ASSERT_EQUAL(r.slot[1].ls_dma, 0);
	rig_down(&r);
}

/* On demand. The file moves under the transfer. */
struct demand {
	struct rig *r;
	uint64_t doff;		/* where the file begins on the device */
	int err;		/* for page 6 */
	int busy;		/* so many times -EAGAIN */
	_Atomic int in, out;
	_Atomic int begun;	/* calls of page_in() */
	pthread_mutex_t lock;	/* held: page_in() waits */
};

static int page_in(void *arg, uint64_t foff, uint64_t len, bool write, struct pinfs_sg *sg, void **page)
{
	struct demand *d = arg;

	d->begun++;
	(void)pthread_mutex_lock(&d->lock);
	(void)pthread_mutex_unlock(&d->lock);
	CU_ASSERT(write && foff / PAGE == (foff + len - 1) / PAGE);
	if (foff / PAGE == 6 && d->busy > 0) {
		d->busy--;
		return -EAGAIN;
	}
	if (foff / PAGE == 6 && d->err != 0)
		return d->err;
	d->in++;
	*sg = (struct pinfs_sg){ .sg_doff = d->doff + foff, .sg_len = len, .sg_foff = foff };
	*page = d;
	return 0;
}

static void page_out(void *arg, void *page)
{
	struct demand *d = arg;

	CU_ASSERT_PTR_EQUAL(page, d);
	d->out++;
}

static void on_demand(void)
{
	struct demand dem = { .doff = 0 };
	struct dma_map m = { .ino = 12, .foff = 2 * PAGE, .len = 8 * PAGE, .write = true, .page_in = page_in,
			     .page_out = page_out, .arg = &dem };
	struct dma_iommu_stat is;
	struct dma_desc d;
	struct dma_stat st;
	uint64_t iova;
	struct rig r;

	rig_up(&r);
	(void)pthread_mutex_init(&dem.lock, NULL);
	dem.r = &r;
	m.dev = r.dev;
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	d = desc_for(iova, 8 * PAGE);
	d.burst = 1024;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	CU_ASSERT(dma_pat_check(&d.pat, 2 * PAGE, r.mem + 2 * PAGE, 8 * PAGE, NULL));
	dma_iommu_stat(r.e, &is);
	CU_ASSERT(is.is_misses == 8 && is.is_hits == 24 && is.is_invalidations == 0);	/* a page is found once */
	CU_ASSERT(dem.in == 32 && dem.out == 32);
	/* The blocks are others now: each page faults again, and nothing goes to the old ones. */
	dem.doff = 512 * 1024;
	memset(r.mem, 0, DEV_BYTES);
	d.pat.dp_id = 4;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	CU_ASSERT(dma_pat_check(&d.pat, 2 * PAGE, r.mem + 512 * 1024 + 2 * PAGE, 8 * PAGE, NULL));
	CU_ASSERT_EQUAL(r.mem[2 * PAGE], 0);
	dma_iommu_stat(r.e, &is);
	CU_ASSERT(is.is_misses == 16 && is.is_invalidations == 8);
	/* A page that is being changed is asked for again; one that is refused ends the transfer. */
	dem.busy = 3;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, 0);
	CU_ASSERT_EQUAL(dem.busy, 0);
	dem.err = -EFAULT;
	st = run(&r, &d);
	CU_ASSERT(st.ds_err == -EFAULT && st.ds_moved == 4 * PAGE && st.ds_fault.df_why == DMA_FAULT_PAGE);
	CU_ASSERT_EQUAL(st.ds_fault.df_foff, 6 * PAGE);
	/* Off the device: whoever answers is wrong. */
	dem.doff = DEV_BYTES;
	CU_ASSERT_EQUAL(run(&r, &d).ds_err, -EIO);
	CU_ASSERT_EQUAL(dem.in, dem.out);
	rig_down(&r);
}

/* Unmap returns when no access is under way, not before. */
static atomic_bool unmapped;

static void *unmap_it(void *arg)
{
	struct { struct rig *r; uint64_t iova; } *a = arg;

	CU_ASSERT_EQUAL(dma_iommu_unmap(a->r->e, a->iova), 0);
	unmapped = true;
	return NULL;
}

static void unmap_waits(void)
{
	struct demand dem = { .doff = 0 };
	struct dma_map m = { .ino = 12, .foff = 2 * PAGE, .len = 8 * PAGE, .write = true, .page_in = page_in,
			     .page_out = page_out, .arg = &dem };
	struct { struct rig *r; uint64_t iova; } a;
	struct dma_iommu_stat is;
	struct dma_desc d;
	struct dma_xfer *x;
	struct dma_stat st;
	pthread_t t;
	struct rig r;

	rig_up(&r);
	(void)pthread_mutex_init(&dem.lock, NULL);
	m.dev = r.dev;
	a.r = &r;
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &a.iova) == 0);
	d = desc_for(a.iova, 8 * PAGE);
	(void)pthread_mutex_lock(&dem.lock);		/* the first access stands in page_in() */
	CU_ASSERT_FATAL(dma_submit(r.e, NULL, &d, &x) == 0);
	while (dem.begun == 0)
		(void)usleep(1000);
	unmapped = false;
	CU_ASSERT_FATAL(pthread_create(&t, NULL, unmap_it, &a) == 0);
	do {						/* the mapping is gone, and its end waited for */
		(void)usleep(1000);
		dma_iommu_stat(r.e, &is);
	} while (is.is_invalidations == 0);
	(void)usleep(20000);
	CU_ASSERT(!unmapped);
	(void)pthread_mutex_unlock(&dem.lock);
	(void)pthread_join(t, NULL);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT(st.ds_err == -EFAULT && st.ds_moved < 8 * PAGE && st.ds_fault.df_why == DMA_FAULT_UNMAPPED);
	CU_ASSERT_EQUAL(dem.in, dem.out);
	dma_xfer_put(x);
	rig_down(&r);
}

/* Schedules */

struct history {
	size_t n;
	struct { uint64_t foff, len; } burst[4096];
};
static struct history hist[3];
static struct history *now_hist;

static void note(const struct dma_desc *d, uint64_t foff, uint64_t len, int err)
{
	(void)d;
	(void)err;
	if (len == 0 || now_hist->n == 4096)
		return;
	now_hist->burst[now_hist->n].foff = foff;
	now_hist->burst[now_hist->n++].len = len;
}

static bool same_history(const struct history *a, const struct history *b)
{
	return a->n == b->n && memcmp(a->burst, b->burst, a->n * sizeof a->burst[0]) == 0;
}

static void seeds(void)
{
	const struct pinfs_sg sg[2] = { { 0, 50000, 100 }, { 100000, 50001, 50100 } };
	const uint64_t seed[3] = { 42, 42, 43 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	uint8_t seen[100001];
	struct dma_xfer *x;
	struct dma_stat st;
	bool ordered = true;
	struct rig r;

	rig_up(&r);
	d.sg = sg;
	d.nsg = 2;
	d.burst = 8192;
	d.jitter_ns = 20000;
	d.event = note;
	for (int i = 0; i < 3; i++) {
		now_hist = &hist[i];
		now_hist->n = 0;
		d.seed = seed[i];
		d.pat = (struct dma_pat){ .dp_id = (uint64_t)i + 1, .dp_ino = 12, .dp_foff = 100 };
		CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
		CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
		dma_xfer_stat(x, &st);
		dma_xfer_put(x);
		CU_ASSERT(st.ds_err == 0 && st.ds_moved == 100001);
		CU_ASSERT(dma_pat_check(&d.pat, 100, r.mem, 50000, NULL));
		CU_ASSERT(dma_pat_check(&d.pat, 50100, r.mem + 100000, 50001, NULL));
	}
	CU_ASSERT(same_history(&hist[0], &hist[1]));
	CU_ASSERT(!same_history(&hist[0], &hist[2]));
	/* Each byte once, not in order, in bursts of many lengths. */
	memset(seen, 0, sizeof seen);
	for (size_t i = 0; i < hist[0].n; i++) {
		CU_ASSERT(hist[0].burst[i].len <= 8192);
		ordered = ordered && (i == 0 || hist[0].burst[i].foff > hist[0].burst[i - 1].foff);
		for (uint64_t k = 0; k < hist[0].burst[i].len; k++)
			seen[hist[0].burst[i].foff - 100 + k]++;
	}
	CU_ASSERT(!ordered && hist[0].n > 12);
	CU_ASSERT(memchr(seen, 0, sizeof seen) == NULL && memchr(seen, 2, sizeof seen) == NULL);
	/* A limit holds in any order. */
	d.seed = 7;
	d.stop_at = 30000;
	d.event = NULL;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 30000);
	dma_xfer_put(x);
	rig_down(&r);
}

/* A torn burst: every other word first. Whoever looks in between sees lines that are none. */
static void torn(void)
{
	const struct pinfs_sg sg = { 0, 4096, 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_xfer *x;
	struct dma_stat st;
	uint8_t want[4096];
	struct rig r;

	rig_up(&r);
	memset(r.mem, 0xee, 8192);
	d.sg = &sg;
	d.nsg = 1;
	d.pat = (struct dma_pat){ .dp_id = 9, .dp_ino = 12 };
	d.tear = true;
	d.tear_ns = DMA_NEVER;		/* the second half never comes */
	dma_pat_fill(&d.pat, 0, want, sizeof want);
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	for (int i = 0; i < 30000 && ((volatile uint8_t *)r.mem)[4080] == 0xee; i++)
		(void)usleep(1000);
	dma_xfer_cancel(x);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT(st.ds_err == -ECANCELED && st.ds_moved == 0);
	dma_xfer_put(x);
	for (size_t i = 0; i < 4096; i++)
		CU_ASSERT_EQUAL(r.mem[i], i / 8 % 2 == 0 ? want[i] : 0xee);
	CU_ASSERT_EQUAL(dma_scan(r.mem, 4096, 0, NULL, NULL), 0);	/* not one whole line */
	d.tear_ns = 0;
	d.burst = 100;			/* halves of bursts that begin in the middle of a word */
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 4096);
	dma_xfer_put(x);
	CU_ASSERT(memcmp(r.mem, want, sizeof want) == 0 && r.mem[4096] == 0xee);
	d.dir = DMA_TO_DEVICE;
	CU_ASSERT_EQUAL(dma_submit(r.e, r.dev, &d, NULL), -EINVAL);
	rig_down(&r);
}

static void fails_as_told(void)
{
	struct pinfs_dma piece[2];
	struct dma_desc d;
	struct dma_map m;
	struct dma_stat st;
	struct dma_xfer *x;
	uint64_t iova;
	struct rig r;

	rig_up(&r);
	m = eight(&r, piece);
	CU_ASSERT_FATAL(dma_iommu_map(r.e, &m, &iova) == 0);
	d = desc_for(iova, PAGE);
	d.delay_ns = DMA_NEVER;
	CU_ASSERT_FATAL(dma_submit(r.e, NULL, &d, &x) == 0);
	dma_xfer_fail(x, -ESTALE);
	dma_xfer_cancel(x);		/* too late */
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT_EQUAL(st.ds_err, -ESTALE);
	dma_xfer_put(x);
	d.len = 0;
	CU_ASSERT_EQUAL(dma_submit(r.e, NULL, &d, NULL), -EINVAL);
	d.len = UINT64_MAX;
	CU_ASSERT_EQUAL(dma_submit(r.e, NULL, &d, NULL), -EINVAL);
	rig_down(&r);
}

int main(void)
{
	static const struct unit_case tests[] = {
		{ "translate, unmap, fault", translate },
		{ "bad mappings", bad_maps },
		{ "revoke", revoked },
		{ "on demand", on_demand },
		{ "unmap waits for accesses", unmap_waits },
		{ "seeds", seeds },
		{ "torn bursts", torn },
		{ "fails as told", fails_as_told },
	};

	return unit_main("dma_iommu", tests, PF_ARRAY_LEN(tests));
}
