/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overlay.c - a private view of the image: journal replay writes into memory, never to the device.
 *
 * A store to a read-only mapping replaces the 2 MiB granule below it by an anonymous copy. Granules of that size, so
 * that the mapping of a device-dax node may be split there too. Not a backend for anything that must survive.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

/* Out of memory here leaves no view to go on with, and the ops table has no way to say so. */
static void granule_copy(struct pf_pm *pm, uint64_t doff)
{
	uint64_t *done = pm->priv;
	uint64_t g = doff >> PF_CHUNK_SHIFT;
	uint64_t start = g << PF_CHUNK_SHIFT;
	size_t len = pf_min64(PF_CHUNK_SIZE, pm->bytes - start);
	void *copy;

	if (done[g / 64] >> (g % 64) & 1)
		return;
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		goto out_oom;
	memcpy(copy, pm->base + start, len);
	if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, pm->base + start) == MAP_FAILED)
		goto out_oom;
	done[g / 64] |= UINT64_C(1) << (g % 64);
	return;
out_oom:
	pf_err("out of memory for the replay of the journal");
	exit(FSCK_ERROR);
}

/* No bitmap: the memory belongs to the caller alone. */
static void make_private(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	if (len == 0 || pm->priv == NULL)
		return;
	for (uint64_t at = pf_round_down(doff, PF_CHUNK_SIZE); at < doff + len; at += PF_CHUNK_SIZE)
		granule_copy(pm, at);
}

static void ov_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	make_private(pm, doff, len);
	memmove(pm->base + doff, src, len);
}

static void ov_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	make_private(pm, doff, len);
	memset(pm->base + doff, 0, len);
}

static void ov_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	(void)pm;
	(void)doff;
	(void)len;
}

static int ov_drain(struct pf_pm *pm)
{
	(void)pm;
	return 0;
}

static const struct pf_pm_ops overlay_ops = {
	.write = ov_write,
	.zero = ov_zero,
	.flush = ov_flush,
	.drain = ov_drain,
};

int fsck_view_init(struct pf_pm *view, const struct pf_pm *pm)
{
	*view = (struct pf_pm){
		.ops = &overlay_ops, .base = pm->base, .bytes = pm->bytes, .fd = -1, .mode = PF_PMEM_CPU,
	};
	if (!pm->ro)
		return 0;
	view->priv = calloc(PF_DIV_UP(PF_DIV_UP(pm->bytes, PF_CHUNK_SIZE), 64), sizeof(uint64_t));
	return view->priv == NULL ? -ENOMEM : 0;
}

void fsck_view_fini(struct pf_pm *view)
{
	free(view->priv);
}
