/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overlay.c - a private view of the image: replay and repairs write into memory, at the addresses where the device was.
 *
 * The first store to a granule moves the device's pages aside and puts an anonymous copy in their place, so pointers
 * into the view stay good and whatever has not changed costs no memory. In the end the two are compared, which gives
 * the blocks that a repair has changed, and the device's pages come back. Nothing here reaches the device.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"

/* Of a file, small; a device-dax node can be mapped, and so moved, in pieces of 2 MiB only. */
#define GRANULE_SHIFT 16

struct view {
	uint8_t *area;		/* address space, in which lies: */
	uint8_t *aside;		/* as much of it as the device has, aligned alike; pages of private granules */
	unsigned int shift;	/* of a granule */
	uint64_t nr;		/* granules */
	uint64_t *done;		/* bit a granule: private */
};

static bool is_private(const struct view *v, uint64_t g)
{
	return (v->done[g / 64] >> (g % 64) & 1) != 0;
}

static size_t granule_len(const struct pf_pm *pm, const struct view *v, uint64_t g)
{
	return pf_min64(UINT64_C(1) << v->shift, pm->bytes - (g << v->shift));
}

/* Out of memory here leaves no view to go on with, and the ops table has no way to say so. The device is untouched. */
static void granule_copy(struct pf_pm *pm, uint64_t g)
{
	struct view *v = pm->priv;
	size_t len = granule_len(pm, v, g);
	uint8_t *home = pm->base + (g << v->shift), *aside = v->aside + (g << v->shift);

	if (is_private(v, g))
		return;
	if (mremap(home, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, aside) == MAP_FAILED ||
	    mmap(home, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		pf_err("out of memory for changes; nothing was written");
		exit(FSCK_ERROR);
	}
	memcpy(home, aside, len);
	v->done[g / 64] |= UINT64_C(1) << (g % 64);
}

void fsck_view_own(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	struct view *v = pm->priv;

	if (len == 0)
		return;
	for (uint64_t g = doff >> v->shift; g <= (doff + len - 1) >> v->shift; g++)
		granule_copy(pm, g);
}

static void ov_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	fsck_view_own(pm, doff, len);
	memmove(pm->base + doff, src, len);
}

static void ov_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	fsck_view_own(pm, doff, len);
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
	struct view *v = calloc(1, sizeof *v);
	struct stat st;

	if (v == NULL)
		return -ENOMEM;
	v->shift = pm->fd >= 0 && fstat(pm->fd, &st) == 0 && S_ISCHR(st.st_mode) ? PF_CHUNK_SHIFT : GRANULE_SHIFT;
	v->nr = PF_DIV_UP(pm->bytes, UINT64_C(1) << v->shift);
	v->done = calloc(PF_DIV_UP(v->nr, 64), sizeof(uint64_t));
	v->area = mmap(NULL, pm->bytes + PF_CHUNK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v->done == NULL || v->area == MAP_FAILED) {
		if (v->area != MAP_FAILED)
			(void)munmap(v->area, pm->bytes + PF_CHUNK_SIZE);
		free(v->done);
		free(v);
		return -ENOMEM;
	}
	v->aside = v->area + (-(uintptr_t)v->area & (PF_CHUNK_SIZE - 1));
	*view = (struct pf_pm){
		.ops = &overlay_ops, .base = pm->base, .bytes = pm->bytes, .fd = -1, .mode = PF_PMEM_CPU, .priv = v,
	};
	return 0;
}

/* ---- what has changed ---- */

static int changes_add(struct fsck_changes *c, uint64_t dblk, const void *now, const void *was)
{
	uint64_t room = c->room == 0 ? 64 : c->room * 2;
	struct fsck_change *n;

	if (c->nr == c->room) {
		n = realloc(c->v, room * sizeof *n);
		if (n == NULL)
			return -ENOMEM;
		c->v = n;
		c->room = room;
	}
	n = &c->v[c->nr++];
	n->dblk = dblk;
	memcpy(n->now, now, PF_BLK_SIZE);
	memcpy(n->was, was, PF_BLK_SIZE);
	return 0;
}

int fsck_view_changes(const struct pf_pm *view, struct fsck_changes *c)
{
	const struct view *v = view->priv;
	int err = 0;

	*c = (struct fsck_changes){ 0 };
	for (uint64_t g = 0; g < v->nr; g++) {
		uint64_t start = g << v->shift;

		if (v->done[g / 64] == 0) {
			g |= 63;	/* the loop's own step leads to the next word */
			continue;
		}
		if (!is_private(v, g))
			continue;
		for (uint64_t at = start; at < start + granule_len(view, v, g) && err == 0; at += PF_BLK_SIZE)
			if (memcmp(view->base + at, v->aside + at, PF_BLK_SIZE) != 0)
				err = changes_add(c, at >> PF_BLK_SHIFT, view->base + at, v->aside + at);
	}
	return err;
}

void fsck_changes_free(struct fsck_changes *c)
{
	free(c->v);
}

void fsck_view_fini(struct pf_pm *view)
{
	struct view *v = view->priv;

	if (v == NULL)
		return;
	for (uint64_t g = 0; g < v->nr; g++) {
		if (!is_private(v, g))
			continue;
		if (mremap(v->aside + (g << v->shift), granule_len(view, v, g), granule_len(view, v, g),
			   MREMAP_MAYMOVE | MREMAP_FIXED, view->base + (g << v->shift)) == MAP_FAILED)
			abort();	/* frees address space, takes none */
	}
	(void)munmap(v->area, view->bytes + PF_CHUNK_SIZE);
	free(v->done);
	free(v);
	view->priv = NULL;
}
