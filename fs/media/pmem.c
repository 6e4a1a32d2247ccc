/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmem.c - a device: opened, locked, mapped, and the two ways in which its bytes become durable.
 *
 * The only caller of libpmem. CPU mode (tmpfs, real pmem): cache line flushes and a fence. MSYNC mode (a file on a
 * plain disk): the pages written since the last drain are collected and synced by it. Locks: one LEAF mutex around
 * the collection, dropped while the medium works.
 */
#include "media/pmem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/lock.h"

#define MAGIC_TMPFS 0x01021994
#define MAGIC_RAMFS 0x858458f6
#define MAGIC_HUGETLBFS 0x958458f6

/* Pieces of dirty pages that one drain syncs one by one; more are merged, or the whole file is synced. */
#define DIRTY_MAX 256U

struct dirty { uint64_t from, to; };	/* bytes, page aligned */

/* The collection of MSYNC mode. */
struct collector {
	struct pf_mutex lock;		/* LEAF */
	pthread_cond_t idle;
	struct dirty range[DIRTY_MAX];
	unsigned int n;
	bool all;			/* range[] was too small: sync the whole file */
	bool busy;			/* a drain is syncing what it took away */
	int err;			/* sticky: what was lost stays lost */
};

static unsigned long magic_of(const struct statfs *sfs)
{
	return (unsigned long)sfs->f_type & 0xffffffffUL;
}

static _Thread_local const char *why = "";

const char *pf_pm_why(void)
{
	return why;
}

static int refuse(int err, const char *phrase)
{
	why = phrase;
	return err;
}

/* ---- CPU mode ---- */

static void cpu_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	(void)pmem_memcpy(pf_pm_at(pm, doff), src, len, PMEM_F_MEM_NODRAIN);
}

static void cpu_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	(void)pmem_memset(pf_pm_at(pm, doff), 0, len, PMEM_F_MEM_NODRAIN);
}

static void cpu_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	pmem_flush(pf_pm_at(pm, doff), len);
}

static int cpu_drain(struct pf_pm *pm)
{
	(void)pm;
	pmem_drain();
	return 0;
}

static const struct pf_pm_ops cpu_ops = {
	.write = cpu_write,
	.zero = cpu_zero,
	.flush = cpu_flush,
	.drain = cpu_drain,
};

/* ---- MSYNC mode ---- */

static int by_start(const void *a, const void *b)
{
	const struct dirty *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static unsigned int merge(struct dirty *r, unsigned int n)
{
	unsigned int out = 0;

	qsort(r, n, sizeof *r, by_start);
	for (unsigned int i = 1; i < n; i++) {
		if (r[i].from <= r[out].to)
			r[out].to = pf_max64(r[out].to, r[i].to);
		else
			r[++out] = r[i];
	}
	return n == 0 ? 0 : out + 1;
}

static void collect(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	struct collector *c = pm->priv;
	struct dirty d = { pf_round_down(doff, PF_BLK_SIZE), pf_round_up(doff + len, PF_BLK_SIZE) };

	if (len == 0)
		return;
	pf_mutex_lock(&c->lock);
	if (c->n > 0 && d.from <= c->range[c->n - 1].to && d.to >= c->range[c->n - 1].from) {
		c->range[c->n - 1].from = pf_min64(d.from, c->range[c->n - 1].from);
		c->range[c->n - 1].to = pf_max64(d.to, c->range[c->n - 1].to);
	} else if (!c->all) {
		if (c->n == DIRTY_MAX)
			c->n = merge(c->range, c->n);
		if (c->n < DIRTY_MAX)
			c->range[c->n++] = d;
		else
			c->all = true;
	}
	pf_mutex_unlock(&c->lock);
}

static void msync_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	memcpy(pf_pm_at(pm, doff), src, len);
	collect(pm, doff, len);
}

static void msync_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	memset(pf_pm_at(pm, doff), 0, len);
	collect(pm, doff, len);
}

static int sync_ranges(struct pf_pm *pm, struct dirty *range, unsigned int n, bool all)
{
	if (all)
		return fdatasync(pm->fd) == 0 ? 0 : -EIO;
	n = merge(range, n);
	for (unsigned int i = 0; i < n; i++)
		if (msync(pf_pm_at(pm, range[i].from), range[i].to - range[i].from, MS_SYNC) != 0)
			return -EIO;
	return 0;
}

/* One drain at a time: a second one must not return while the first still syncs pages that it took away from both. What
 * arrives meanwhile is the second one's own, so threads that commit at once share a trip to the medium. */
static int msync_drain(struct pf_pm *pm)
{
	struct collector *c = pm->priv;
	struct dirty range[DIRTY_MAX];
	unsigned int n;
	bool all;
	int err;

	pf_mutex_lock(&c->lock);
	while (c->busy)
		(void)pthread_cond_wait(&c->idle, &c->lock.m);
	n = c->n;
	all = c->all;
	memcpy(range, c->range, n * sizeof range[0]);
	c->n = 0;
	c->all = false;
	err = c->err;
	if (n == 0 && !all)
		goto out;
	c->busy = true;
	pf_mutex_unlock(&c->lock);

	err = sync_ranges(pm, range, n, all);

	pf_mutex_lock(&c->lock);
	c->busy = false;
	if (err != 0)
		c->err = err;
	err = c->err;
	(void)pthread_cond_broadcast(&c->idle);
out:
	pf_mutex_unlock(&c->lock);
	return err;
}

static const struct pf_pm_ops msync_ops = {
	.write = msync_write,
	.zero = msync_zero,
	.flush = collect,
	.drain = msync_drain,
};

static int collector_new(struct pf_pm *pm)
{
	struct collector *c = calloc(1, sizeof *c);

	if (c == NULL)
		return -ENOMEM;
	pf_mutex_init(&c->lock, PF_RANK_LEAF);
	if (pthread_cond_init(&c->idle, NULL) != 0)
		abort();
	pm->priv = c;
	return 0;
}

static void collector_free(struct pf_pm *pm)
{
	struct collector *c = pm->priv;

	if (c == NULL)
		return;
	(void)pthread_cond_destroy(&c->idle);
	pf_mutex_fini(&c->lock);
	free(c);
}

/* ---- opening ---- */

/* A number from sysfs; 0 when it is not there. */
static uint64_t sys_number(dev_t rdev, const char *name)
{
	char path[96];
	uint64_t v = 0;
	FILE *f;

	(void)snprintf(path, sizeof path, "/sys/dev/char/%u:%u/%s", major(rdev), minor(rdev), name);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%" SCNu64, &v) != 1)
		v = 0;
	(void)fclose(f);
	return v;
}

/* Size of a DAX character device, from sysfs; 0 when it is none. */
static uint64_t daxdev_bytes(dev_t rdev)
{
	char path[96], target[256];
	ssize_t n;

	(void)snprintf(path, sizeof path, "/sys/dev/char/%u:%u/subsystem", major(rdev), minor(rdev));
	n = readlink(path, target, sizeof target - 1);
	if (n <= 0)
		return 0;
	target[n] = '\0';
	if (strcmp(strrchr(target, '/') ? strrchr(target, '/') + 1 : target, "dax") != 0)
		return 0;
	return sys_number(rdev, "size");
}

/* A DAX device maps in multiples of its alignment only, at addresses and offsets that are such. The attribute is the
 * device's own since Linux 5.10, its region's before. */
static uint64_t daxdev_grain(dev_t rdev)
{
	uint64_t align = sys_number(rdev, "align");

	if (align == 0)
		align = sys_number(rdev, "device/dax_region/align");
	return align != 0 ? align : PF_CHUNK_SIZE;
}

static int find_grain(struct pf_pm *pm, bool dax)
{
	struct statfs sfs;
	struct stat st;

	pm->grain = PF_BLK_SIZE;
	if (dax && fstat(pm->fd, &st) == 0)
		pm->grain = daxdev_grain(st.st_rdev);
	else if (!dax && fstatfs(pm->fd, &sfs) == 0 && magic_of(&sfs) == MAGIC_HUGETLBFS)
		pm->grain = (uint64_t)sfs.f_bsize;
	if (pm->grain != PF_BLK_SIZE && pm->grain != PF_CHUNK_SIZE)
		return refuse(-EINVAL, "its alignment is neither 4 KiB nor 2 MiB");
	return 0;
}

static int find_size(int fd, uint64_t *bytes, bool *dax)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return refuse(-errno, "cannot be examined");
	if (S_ISBLK(st.st_mode))
		return refuse(-EINVAL, "a block device has no DAX mapping: use a file on it, or a /dev/dax device");
	*dax = S_ISCHR(st.st_mode);
	*bytes = *dax ? daxdev_bytes(st.st_rdev) : S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (!S_ISREG(st.st_mode) && *bytes == 0)
		return refuse(-EINVAL, "neither a regular file nor a DAX device");
	if (*bytes < PF_DEV_MIN)
		return refuse(-EINVAL, "smaller than 16 MiB");
	if (*bytes > PF_DEV_MAX)
		return refuse(-EINVAL, "larger than 16 TiB");
	if (*bytes % PF_BLK_SIZE != 0)
		return refuse(-EINVAL, "its size is not a multiple of 4096 bytes");
	return 0;
}

/* Map at a 2 MiB boundary, so that the kernel can use huge pages. */
static int map_device(struct pf_pm *pm)
{
	const int prot = pm->ro ? PROT_READ : PROT_READ | PROT_WRITE;
	uint64_t span = pm->bytes + PF_CHUNK_SIZE;
	uint8_t *area, *at, *end;
	void *got;

	area = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return refuse(-ENOMEM, "no address space to map it");
	at = area + (-(uintptr_t)area & (PF_CHUNK_SIZE - 1));
	got = mmap(at, pm->bytes, prot, MAP_SHARED_VALIDATE | MAP_SYNC | MAP_FIXED, pm->fd, 0);
	pm->sync = got != MAP_FAILED;
	if (!pm->sync)
		got = mmap(at, pm->bytes, prot, MAP_SHARED | MAP_FIXED, pm->fd, 0);
	if (got == MAP_FAILED) {
		(void)munmap(area, span);
		return refuse(-ENOMEM, pm->grain == PF_BLK_SIZE ? "cannot be mapped" :
					       "cannot be mapped: there are not enough huge pages for all of it");
	}
	end = at + pm->bytes;
	if (at > area)
		(void)munmap(area, (size_t)(at - area));
	if (area + span > end)
		(void)munmap(end, (size_t)(area + span - end));
	pm->base = at;
	return 0;
}

static enum pf_pmem_mode decide(int fd, enum pf_pmem_mode asked, bool is_pmem)
{
	struct statfs sfs;

	if (asked != PF_PMEM_AUTO)
		return asked;
	if (is_pmem)
		return PF_PMEM_CPU;
	if (fstatfs(fd, &sfs) != 0)
		return PF_PMEM_MSYNC;
	switch (magic_of(&sfs)) {
	case MAGIC_TMPFS:
	case MAGIC_RAMFS:
	case MAGIC_HUGETLBFS:
		return PF_PMEM_CPU;
	default:
		return PF_PMEM_MSYNC;
	}
}

int pf_pm_open(const char *path, enum pf_pmem_mode mode, bool ro, bool excl, struct pf_pm **out)
{
	bool dax = false;
	struct pf_pm *pm;
	int err;

	why = "";
	pm = calloc(1, sizeof *pm);
	if (pm == NULL)
		return refuse(-ENOMEM, "out of memory");
	pm->ro = ro;
	/* O_NONBLOCK: a fifo by that name must not hang us. */
	pm->fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (pm->fd < 0) {
		err = refuse(-errno, strerrordesc_np(errno));
		goto out_free;
	}
	err = find_size(pm->fd, &pm->bytes, &dax);
	if (err != 0)
		goto out_close;
	err = find_grain(pm, dax);
	if (err == 0 && dax && mode == PF_PMEM_MSYNC)
		err = refuse(-EINVAL, "a DAX device has no msync: use pmem=cpu, or auto");
	if (err != 0)
		goto out_close;
	if (excl) {
		err = pf_pm_lock(pm->fd);
		if (err != 0) {
			(void)refuse(err, "in use");
			goto out_close;
		}
	}
	err = map_device(pm);
	if (err != 0)
		goto out_close;
	pm->mode = decide(pm->fd, mode, dax || pm->sync);
	pm->ops = pm->mode == PF_PMEM_CPU ? &cpu_ops : &msync_ops;
	if (pm->mode == PF_PMEM_MSYNC) {
		err = collector_new(pm);
		if (err != 0)
			goto out_unmap;
	}
	err = pf_back_init(pm);
	if (err != 0) {
		collector_free(pm);
		goto out_unmap;
	}
	*out = pm;
	return 0;

out_unmap:
	(void)munmap(pm->base, pm->bytes);
out_close:
	(void)close(pm->fd);
out_free:
	free(pm);
	return err;
}

void pf_pm_close(struct pf_pm *pm)
{
	if (pm == NULL)
		return;
	pf_back_fini(pm);
	collector_free(pm);
	(void)munmap(pm->base, pm->bytes);
	(void)close(pm->fd);
	free(pm);
}
