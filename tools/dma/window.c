/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.c - from a mapping of a pinfs file to a queued transfer: pin, addresses, device.
 *
 * The only part of the engine that calls libpinfs. Owns nothing: a pin belongs to its transfer. Takes no locks.
 */
#include "dma/dma.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SG_FIRST ((size_t)16)

/* The list of ranges is as long as the file is fragmented there; another try when it grew in between. */
static int pin_all(const void *addr, size_t len, unsigned int flags, struct pinfs_sg **sg, size_t *nsg,
		   struct pinfs_pin **pin)
{
	size_t room = SG_FIRST;

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

static void unpin(void *pin)
{
	(void)pinfs_unpin(pin);
}

/* The trace of a mount shows what the device does, from the moment on in which it knows the addresses. */
static void tell(const struct dma_desc *d, unsigned int what, uint64_t foff, uint64_t len, int err)
{
	const struct pinfs_event ev = {
		.ev_id = d->pat.dp_id, .ev_ino = d->pat.dp_ino, .ev_foff = foff, .ev_len = len, .ev_err = err,
		.ev_flags = d->dir == DMA_FROM_DEVICE ? PINFS_PIN_WRITE : 0, .ev_label = d->pat.dp_label,
	};

	(void)pinfs_trace(d->hold, what, &ev);
}

static void moved(const struct dma_desc *d, uint64_t foff, uint64_t len, int err)
{
	tell(d, len != 0 ? PINFS_TRACE_DMA_BURST : PINFS_TRACE_DMA_END, foff, len, err);
}

int dma_submit_window(struct dma_engine *e, void *addr, size_t len, enum dma_mode mode, const struct dma_desc *desc,
		      struct dma_xfer **out)
{
	struct dma_desc d = *desc;
	struct pinfs_sg *sg = NULL;
	struct pinfs_pin *pin = NULL;
	struct pinfs_pin_info info;
	struct dma_dev *dev = NULL;
	char label[DMA_LABEL];
	int fd = -1, err;

	if ((unsigned int)mode >= DMA_MODE_NR)
		return -EINVAL;
	err = pin_all(addr, len, d.dir == DMA_FROM_DEVICE ? PINFS_PIN_WRITE : 0, &sg, &d.nsg, &pin);
	if (err != 0)
		return err;
	err = pinfs_pin_query(pin, &info);
	if (err != 0)
		goto out_unpin;
	d.sg = sg;
	d.pat.dp_ino = info.pi_ino;
	d.pat.dp_foff = sg[0].sg_foff;
	(void)snprintf(label, sizeof label, "dma %llu", (unsigned long long)d.pat.dp_id);
	(void)pinfs_pin_label(pin, label);

	fd = pinfs_device(addr);
	if (fd < 0) {
		err = fd;
		goto out_unpin;
	}
	err = dma_dev_get(e, fd, &dev);
	if (err != 0)
		goto out_unpin;
	if (mode == DMA_PIN) {
		d.release = unpin;
		d.hold = pin;
	} else {
		/* The bug: from here on nothing tells the filesystem that a device knows these addresses. */
		unpin(pin);
		pin = NULL;
	}
	d.event = moved;
	tell(&d, PINFS_TRACE_DMA_START, info.pi_foff, len, 0);
	err = dma_submit(e, dev, &d, out);
	if (err == 0)
		pin = NULL;	/* the transfer's now */
	else
		moved(&d, 0, 0, err);
out_unpin:
	if (pin != NULL)
		unpin(pin);
	dma_dev_put(dev);
	if (fd >= 0)
		(void)close(fd);
	free(sg);
	return err;
}
