/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overlay.c - a private view of the image: replay and repairs write into memory, at the addresses where the device was.
 *
 * The first store to a granule moves the device's pages aside and puts an anonymous copy in their place, so pointers
 * into the view stay good and whatever has not changed costs no memory. In the end the two are compared, which gives
 * the blocks that a repair has changed, and the device's pages come back. Nothing here reaches the device.
 *
 * The core, mounted on a view to finish what an image has begun, runs a thread of its own. So no address may be
 * without a mapping for a moment, in the view or in what is unmapped in the end: the kernel gives it to the next mmap()
 * of that thread, a stack or a heap, and one of the two mappings tears a hole into the other. And one thread at a time
 * moves pages, while others may read them.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/log.h"

/* Of a file, small; a device-dax node and huge pages can be mapped, and so moved, in pieces of 2 MiB only. */
#define GRANULE_SHIFT 16

struct view {
	uint8_t *area;		/* address space, in which lies: */
	uint8_t *aside;		/* as much of it as the device has, aligned alike; pages of private granules */
	unsigned int shift;	/* of a granule */
	uint64_t nr;		/* granules */
	struct pf_mutex lock;	/* LEAF: done, and the moves */
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

/*
 * The device's pages go aside; their place keeps a mapping throughout. A kind of memory that cannot be moved so
 * (hugetlbfs) leaves a hole; it is ours again only if nobody was faster.
 */
static bool granule_move(uint8_t *home, uint8_t *aside, size_t len)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (mremap(home, len, len, flags | MREMAP_DONTUNMAP, aside) != MAP_FAILED)
		return true;
	if (errno != EINVAL || mremap(home, len, len, flags, aside) == MAP_FAILED)
		return false;
	return mmap(home, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) ==
	       home;
}

/* Whoever reads the granule meanwhile sees the same bytes at each moment, but for that kind of memory. */
static bool granule_copy(const struct pf_pm *pm, const struct view *v, uint64_t g)
{
	size_t len = granule_len(pm, v, g);
	uint8_t *home = pm->base + (g << v->shift), *aside = v->aside + (g << v->shift), *copy;

	copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return false;
	memcpy(copy, home, len);
	return granule_move(home, aside, len) &&
	       mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, home) != MAP_FAILED;
}

/* Out of memory here leaves no view to go on with, and the ops table has no way to say so. The device is untouched. */
void fsck_view_own(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	struct view *v = pm->priv;

	if (len == 0)
		return;
	pf_mutex_lock(&v->lock);
	for (uint64_t g = doff >> v->shift; g <= (doff + len - 1) >> v->shift; g++) {
		if (is_private(v, g))
			continue;
		if (!granule_copy(pm, v, g)) {
			pf_err("no memory for changes (%s); nothing was written", strerror(errno));
			exit(FSCK_ERROR);
		}
		v->done[g / 64] |= UINT64_C(1) << (g % 64);
	}
	pf_mutex_unlock(&v->lock);
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
	v->shift = GRANULE_SHIFT;
	if (pm->fd >= 0 && fstat(pm->fd, &st) == 0 &&
	    (S_ISCHR(st.st_mode) || (uint64_t)st.st_blksize >= PF_CHUNK_SIZE))
		v->shift = PF_CHUNK_SHIFT;
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
	pf_mutex_init(&v->lock, PF_RANK_LEAF);
	v->aside = v->area + (-(uintptr_t)v->area & (PF_CHUNK_SIZE - 1));
	*view = (struct pf_pm){
		.ops = &overlay_ops, .base = pm->base, .bytes = pm->bytes, .fd = -1, .mode = PF_PMEM_CPU, .priv = v,
	};
	return 0;
}

/* ---- what has changed ---- */

static int changes_add(struct fsck_changes *c, uint64_t dblk, const void *now)
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
	return 0;
}

int fsck_view_changes(const struct pf_pm *view, bool same, struct fsck_changes *c)
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
			if (same || memcmp(view->base + at, v->aside + at, PF_BLK_SIZE) != 0)
				err = changes_add(c, at >> PF_BLK_SHIFT, view->base + at);
	}
	return err;
}

void fsck_changes_free(struct fsck_changes *c)
{
	free(c->v);
}

/* A granule that has gone home leaves a hole in the area; unmapped is what lies between those, and is still ours. */
void fsck_view_fini(struct pf_pm *view)
{
	struct view *v = view->priv;
	uint8_t *rest;

	if (v == NULL)
		return;
	rest = v->area;
	for (uint64_t g = 0; g < v->nr; g++) {
		uint8_t *aside = v->aside + (g << v->shift);
		size_t len = granule_len(view, v, g);

		if (!is_private(v, g))
			continue;
		if (aside != rest)
			(void)munmap(rest, (size_t)(aside - rest));
		if (mremap(aside, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, view->base + (g << v->shift)) == MAP_FAILED)
			abort();	/* frees address space, takes none */
		rest = aside + len;
	}
	(void)munmap(rest, (size_t)(v->area + view->bytes + PF_CHUNK_SIZE - rest));
	pf_mutex_fini(&v->lock);
	free(v->done);
	free(v);
	view->priv = NULL;
}
