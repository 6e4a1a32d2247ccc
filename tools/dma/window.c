/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.c - from a mapping of a pinfs file to a queued transfer: pin, lease or neither; addresses, device, IOMMU.
 *
 * With lease.c the only part of the engine that calls libpinfs. What holds the blocks belongs to the transfer, and is
 * given back by the engine's thread when that has ended. Takes no locks.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dma/hold.h"

#define FIRST ((size_t)16)
#define STALE_TRIES 100U

/* The list of ranges is as long as the file is fragmented there; another try when it grew in between. */
static int pin_all(const void *addr, size_t len, unsigned int flags, struct pinfs_sg **sg, size_t *nsg,
		   struct pinfs_pin **pin)
{
	size_t room = FIRST;

	for (;;) {
		struct pinfs_sg *list = malloc(room * sizeof(*list));
		size_t n = room;
		int err;

		if (list == NULL)
			return -ENOMEM;
		err = pinfs_pin_sg(addr, len, flags, list, &n, pin);
		if (err == 0) {
			*sg = list;
			*nsg = n;
			return 0;
		}
		free(list);
		if (err != -E2BIG)
			return err;
		room = n > room ? n : room * 2;
	}
}

static int pieces_of(const struct pinfs_pin *pin, struct pinfs_dma **out, size_t *n)
{
	int err;

	*out = NULL;
	for (*n = FIRST;;) {
		struct pinfs_dma *more = realloc(*out, *n * sizeof **out);

		if (more == NULL) {
			err = -ENOMEM;
			break;
		}
		*out = more;
		err = pinfs_pin_dma(pin, *out, n);
		if (err != -E2BIG)
			break;
	}
	if (err != 0) {
		free(*out);
		*out = NULL;
	}
	return err;
}

int dma_ledger_map(int fd, struct pf_l_hdr **out, size_t *len)
{
	struct pf_l_hdr *h;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	if ((uint64_t)st.st_size < sizeof *h)
		return -EINVAL;
	h = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return -errno;
	if (h->lh_magic != PF_LEDGER_MAGIC || h->lh_slot_off > (uint64_t)st.st_size ||
	    ((uint64_t)st.st_size - h->lh_slot_off) / sizeof(struct pf_l_slot) < h->lh_nslot ||
	    (h->lh_map_off != 0 &&
	     !pf_range_ok(h->lh_map_off, (uint64_t)pf_ledger_map_words(h->lh_nslot) * 8, (uint64_t)st.st_size))) {
		(void)munmap(h, (size_t)st.st_size);
		return -EINVAL;
	}
	*out = h;
	*len = (size_t)st.st_size;
	return 0;
}

static void let_go(struct dma_hold *h)
{
	if (h->pin != NULL)
		(void)pinfs_unpin(h->pin);
	if (h->lease != NULL)
		(void)pinfs_lease_drop(h->lease);
	if (h->ledger != NULL)
		(void)munmap(h->ledger, h->ledger_len);
	h->pin = NULL;
	h->lease = NULL;
	h->ledger = NULL;
}

void dma_hold_release(void *hold)
{
	struct dma_hold *h = hold;

	if (h->iova != 0)
		(void)dma_iommu_unmap(h->e, h->iova);
	dma_lease_end(h);
	let_go(h);
	dma_dev_put(h->dev);
	free(h);
}

/* On demand: a page is pinned as long as an access to it takes. A truncate goes first: then it is tried again. */
static int page_in(void *arg, uint64_t foff, uint64_t len, bool write, struct pinfs_sg *sg, void **page)
{
	struct dma_hold *h = arg;
	struct pinfs_pin *pin;
	size_t n = 1;
	int err = pinfs_pin_sg(h->addr + (foff - h->foff), len,
			       (write ? PINFS_PIN_WRITE : 0) | PINFS_PIN_NOWAIT, sg, &n, &pin);

	if (err == 0)
		*page = pin;
	return err;
}

static void page_out(void *arg, void *page)
{
	(void)arg;
	(void)pinfs_unpin(page);
}

/* The trace of a mount shows what the device does, from the moment on in which it knows the addresses. */
static void tell(const struct dma_desc *d, unsigned int what, uint64_t foff, uint64_t len, int err)
{
	const struct dma_hold *h = d->hold;
	const struct pinfs_event ev = {
		.ev_id = d->pat.dp_id, .ev_ino = d->pat.dp_ino, .ev_foff = foff, .ev_len = len, .ev_err = err,
		.ev_flags = d->dir == DMA_FROM_DEVICE ? PINFS_PIN_WRITE : 0, .ev_label = d->pat.dp_label,
	};

	(void)pinfs_trace(h != NULL ? h->pin : NULL, what, &ev);
}

static void event(const struct dma_desc *d, uint64_t foff, uint64_t len, int err)
{
	tell(d, len != 0 ? PINFS_TRACE_DMA_BURST : PINFS_TRACE_DMA_END, foff, len, err);
}

/* A pin, by the mode's flags; for a lease, that first. */
static int take_pin(struct dma_hold *h, void *addr, size_t len, const struct dma_how *how, struct dma_desc *d,
		    struct pinfs_sg **sg)
{
	unsigned int flags = d->dir == DMA_FROM_DEVICE ? PINFS_PIN_WRITE : 0;
	struct pinfs_pin_info info;
	char label[DMA_LABEL];
	int err = 0;

	if (how->mode == DMA_LONG || how->mode == DMA_LEASE)
		flags |= PINFS_PIN_LONGTERM;
	if (how->mode == DMA_LEASE)
		err = pinfs_lease_take_window(addr, len, how->lease != 0 ? how->lease : PINFS_LEASE_READ, &h->lease);
	if (err == 0)
		err = pin_all(addr, len, flags, sg, &d->nsg, &h->pin);
	if (err == 0)
		err = pinfs_pin_query(h->pin, &info);
	if (err != 0)
		return err;
	d->sg = *sg;
	d->pat.dp_ino = info.pi_ino;
	d->pat.dp_foff = (*sg)[0].sg_foff;
	(void)snprintf(label, sizeof label, "dma %llu", (unsigned long long)d->pat.dp_id);
	(void)pinfs_pin_label(h->pin, label);
	return 0;
}

static int map_pin(struct dma_hold *h, const void *addr, struct dma_desc *d, size_t len)
{
	struct dma_map m = { .dev = h->dev, .ino = d->pat.dp_ino, .foff = d->pat.dp_foff, .len = len,
			     .write = d->dir == DMA_FROM_DEVICE };
	struct pinfs_dma *piece = NULL;
	int fd = pinfs_ledger_fd(addr), err;

	if (fd < 0)
		return fd;
	err = dma_ledger_map(fd, &h->ledger, &h->ledger_len);
	(void)close(fd);
	if (err == 0)
		err = pieces_of(h->pin, &piece, &m.npiece);
	m.piece = piece;
	m.ledger = h->ledger;
	if (err == 0)
		err = dma_iommu_map(h->e, &m, &h->iova);
	free(piece);
	return err;
}

static int map_on_demand(struct dma_hold *h, void *addr, struct dma_desc *d, size_t len)
{
	struct pinfs_range_info ri;
	struct dma_map m = { .dev = h->dev, .len = len, .write = d->dir == DMA_FROM_DEVICE, .page_in = page_in,
			     .page_out = page_out, .arg = h };
	int err = pinfs_range_query(addr, len, &ri);

	if (err != 0)
		return err;
	h->addr = addr;
	h->foff = ri.ri_foff;
	m.ino = d->pat.dp_ino = ri.ri_ino;
	m.foff = d->pat.dp_foff = ri.ri_foff;
	return dma_iommu_map(h->e, &m, &h->iova);
}

/* Pin and addresses. Blocks may leave the file in between, under on_busy=defer: then it is the file's new ones. */
static int hold(struct dma_hold *h, void *addr, size_t len, const struct dma_how *how, struct dma_desc *d,
		struct pinfs_sg **sg)
{
	int err;

	for (unsigned int tries = 0; tries < STALE_TRIES; tries++) {
		err = take_pin(h, addr, len, how, d, sg);
		if (err == 0 && how->mode != DMA_RAW && !how->direct)
			err = map_pin(h, addr, d, len);
		if (err != -ESTALE)
			break;
		let_go(h);
		free(*sg);
		*sg = NULL;
	}
	return err;
}

int dma_submit_window(struct dma_engine *e, void *addr, size_t len, const struct dma_how *how,
		      const struct dma_desc *desc, struct dma_xfer **out)
{
	struct dma_hold *h = calloc(1, sizeof *h);
	struct dma_desc d = *desc;
	struct pinfs_sg *sg = NULL;
	struct dma_watch *watch = NULL;
	struct dma_xfer *x = NULL;
	int fd, err;

	if (h == NULL)
		return -ENOMEM;
	h->e = e;
	err = (unsigned int)how->mode < DMA_MODE_NR && !(how->mode == DMA_ODP && how->direct) ? 0 : -EINVAL;
	if (err != 0)
		goto out_release;
	fd = pinfs_device(addr);
	err = fd < 0 ? fd : dma_dev_get(e, fd, &h->dev);
	if (fd >= 0)
		(void)close(fd);
	if (err == 0)
		err = how->mode == DMA_ODP ? map_on_demand(h, addr, &d, len) : hold(h, addr, len, how, &d, &sg);
	if (err != 0)
		goto out_release;
	if (how->mode == DMA_RAW) {
		/* The bug: from here on nothing tells the filesystem that a device knows these addresses. */
		(void)pinfs_unpin(h->pin);
		h->pin = NULL;
	}
	d.release = dma_hold_release;
	d.hold = h;
	d.event = event;
	if (h->iova != 0) {
		d.iova = h->iova;
		d.len = len;
	}
	tell(&d, PINFS_TRACE_DMA_START, d.pat.dp_foff, len, 0);
	if (how->mode == DMA_LEASE && !how->deaf)
		err = dma_lease_listen(h);
	if (h->watch != NULL)
		watch = dma_watch_get(h->watch);
	if (err == 0)
		err = dma_submit(e, h->iova != 0 ? NULL : h->dev, &d, &x);
	if (err != 0) {
		event(&d, 0, 0, err);
		goto out_release;
	}
	/* From here on the hold is the transfer's, which may have ended. */
	if (watch != NULL)
		dma_watch_tell(watch, x);
	if (out != NULL)
		*out = x;
	else
		dma_xfer_put(x);
	free(sg);
	return 0;

out_release:
	if (watch != NULL)
		dma_watch_drop(watch);
	dma_hold_release(h);
	free(sg);
	return err;
}
