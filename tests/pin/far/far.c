/* SPDX-License-Identifier: BSD-3-Clause */
/* far.c - the devices of far.h. One table for all of them, under one lock. */
#include "pin/far/far.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>
#include <infiniband/verbs.h>

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define PAGE UINT64_C(4096)
#define ENTRIES 256

enum kind { DMA, REGION, BUFFER };

struct page { int fd; uint64_t at; };		/* of the image; fd -1: at is an address */

static struct entry {
	uint64_t space, lo, hi;			/* DMA: ioas, range; REGION: -, mr; BUFFER: type, index, index + 1 */
	uint64_t addr, len;
	struct page *page;
	size_t npage;
	enum kind kind;
	bool used, on_demand;
} table[ENTRIES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int fail_with;
static uint32_t compat;
static uint64_t next_iova = UINT64_C(1) << 30;

/* ---- memory ---- */

/* The image's descriptor and offset, when the page at @addr is a mapping of it. */
static struct page page_at(uint64_t addr)
{
	struct page p = { -1, addr };
	unsigned long long lo, hi, off;
	char line[4300], path[4200];
	FILE *f = fopen("/proc/self/maps", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		path[0] = '\0';
		if (sscanf(line, "%llx-%llx %*s %llx %*s %*s %4199[^\n]", &lo, &hi, &off, path) < 3 || addr < lo ||
		    addr >= hi)
			continue;
		if (strstr(path, "/img") != NULL) {
			p.fd = open(path, O_RDWR | O_CLOEXEC);
			p.at = off + (addr - lo);
		}
		break;
	}
	if (f != NULL)
		(void)fclose(f);
	return p;
}

/* As get_user_pages(): a fault, then whatever is there. False: EFAULT. */
static bool touch(uint64_t addr, bool write)
{
	char b;
	struct iovec here = { &b, 1 }, there = { (void *)(uintptr_t)addr, 1 };

	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1)
		return false;
	return !write || process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1;
}

static void drop(struct entry *e)
{
	for (size_t i = 0; i < e->npage; i++)
		if (e->page[i].fd >= 0)
			(void)close(e->page[i].fd);
	free(e->page);
	*e = (struct entry){ 0 };
}

/* Lock held. NULL and errno. */
static struct entry *add(enum kind kind, uint64_t addr, uint64_t len, bool write, bool on_demand)
{
	struct entry *e = table;

	while (e < table + ENTRIES && e->used)
		e++;
	if (e == table + ENTRIES) {
		errno = ENOMEM;
		return NULL;
	}
	*e = (struct entry){ .used = true, .kind = kind, .addr = addr, .len = len, .on_demand = on_demand };
	if (on_demand)
		return e;
	e->npage = (addr % PAGE + len + PAGE - 1) / PAGE;
	e->page = calloc(e->npage + 1, sizeof *e->page);
	for (size_t i = 0; i < e->npage; i++) {
		uint64_t at = addr / PAGE * PAGE + i * PAGE;

		if (!touch(at, write)) {
			e->npage = i;
			drop(e);
			errno = EFAULT;
			return NULL;
		}
		e->page[i] = page_at(at);
	}
	return e;
}

static bool failing(void)
{
	if (fail_with == 0)
		return false;
	errno = fail_with;
	fail_with = 0;
	return true;
}

static long dma(const struct entry *e, int byte)
{
	char buf[4096];
	long n = 0;

	memset(buf, byte, sizeof buf);
	if (e->on_demand) {
		struct iovec here = { buf, e->len < PAGE ? e->len : PAGE };
		struct iovec there = { (void *)(uintptr_t)e->addr, here.iov_len };

		return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == (ssize_t)here.iov_len ? 1 : -1;
	}
	for (size_t i = 0; i < e->npage; i++, n++) {
		if (e->page[i].fd < 0)
			memset((void *)(uintptr_t)e->page[i].at, byte, PAGE);
		else if (pwrite(e->page[i].fd, buf, PAGE, (off_t)e->page[i].at) != (ssize_t)PAGE)
			return -1;
	}
	return n;
}

/* ---- for tests ---- */

int far_open(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

unsigned int far_count(void)
{
	unsigned int n = 0;

	for (int i = 0; i < ENTRIES; i++)
		n += table[i].used;
	return n;
}

void far_fail(int err)
{
	fail_with = err;
}

void far_compat(uint32_t ioas)
{
	compat = ioas;
}

long far_dma(int byte)
{
	long n = 0, one;

	for (int i = 0; i < ENTRIES; i++) {
		one = table[i].used ? dma(&table[i], byte) : 0;
		if (one < 0)
			return -1;
		n += one;
	}
	return n;
}

long far_dma_region(const void *mr, int byte)
{
	for (int i = 0; i < ENTRIES; i++)
		if (table[i].used && table[i].kind == REGION && table[i].lo == (uintptr_t)mr)
			return dma(&table[i], byte);
	return -1;
}

void far_forget(void)
{
	for (int i = 0; i < ENTRIES; i++)
		if (table[i].used)
			drop(&table[i]);
}

/* ---- DMA mappings ---- */

static bool overlaps(const struct entry *e, uint64_t space, uint64_t lo, uint64_t hi)
{
	return e->used && e->kind == DMA && e->space == space && e->lo < hi && e->hi > lo;
}

static int dma_map(uint64_t space, uint64_t iova, uint64_t addr, uint64_t len, bool write)
{
	struct entry *e;

	if (failing())
		return -1;
	for (e = table; e < table + ENTRIES; e++)
		if (overlaps(e, space, iova, iova + len)) {
			errno = EEXIST;
			return -1;
		}
	e = add(DMA, addr, len, write, false);
	if (e == NULL)
		return -1;
	e->space = space;
	e->lo = iova;
	e->hi = iova + len;
	return 0;
}

/* As type1 version 2 and iommufd: no mapping is split. */
static int dma_unmap(uint64_t space, uint64_t lo, uint64_t hi, uint64_t *bytes, int none)
{
	*bytes = 0;
	if (failing())
		return -1;
	for (struct entry *e = table; e < table + ENTRIES; e++)
		if (overlaps(e, space, lo, hi) && (e->lo < lo || e->hi > hi)) {
			errno = none == 0 ? EINVAL : none;
			return -1;
		}
	for (struct entry *e = table; e < table + ENTRIES; e++)
		if (overlaps(e, space, lo, hi)) {
			*bytes += e->hi - e->lo;
			drop(e);
		}
	if (*bytes == 0 && none != 0) {
		errno = none;
		return -1;
	}
	return 0;
}

static uint64_t end_of(uint64_t lo, uint64_t len)
{
	return len > UINT64_MAX - lo ? UINT64_MAX : lo + len;
}

struct ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};
struct ioas_copy {
	uint32_t size, flags, dst_ioas_id, src_ioas_id;
	uint64_t length, dst_iova, src_iova;
};
struct ioas_unmap {
	uint32_t size, ioas_id;
	uint64_t iova, length;
};

static int ioas_copy(struct ioas_copy *c)
{
	for (struct entry *e = table; e < table + ENTRIES; e++) {
		if (!overlaps(e, c->src_ioas_id, c->src_iova, c->src_iova + c->length) || c->src_iova < e->lo ||
		    c->src_iova + c->length > e->hi)
			continue;
		if (!(c->flags & 1))
			c->dst_iova = next_iova += UINT64_C(1) << 30;
		return dma_map(c->dst_ioas_id, c->dst_iova, e->addr + (c->src_iova - e->lo), c->length, false);
	}
	errno = ENOENT;
	return -1;
}

/* ---- video buffers ---- */

static int queue(struct v4l2_buffer *b)
{
	uint32_t n = V4L2_TYPE_IS_MULTIPLANAR(b->type) ? b->length : 1, k = 0;
	struct entry *had[VIDEO_MAX_PLANES], *e;

	if (failing())
		return -1;
	for (e = table; e < table + ENTRIES; e++)
		if (e->used && e->kind == BUFFER && e->space == b->type && e->lo == b->index && k < VIDEO_MAX_PLANES)
			had[k++] = e;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t addr = n == 1 && !V4L2_TYPE_IS_MULTIPLANAR(b->type) ? b->m.userptr : b->m.planes[i].m.userptr;
		uint32_t len = n == 1 && !V4L2_TYPE_IS_MULTIPLANAR(b->type) ? b->length : b->m.planes[i].length;

		if (i < k && had[i]->addr == addr && had[i]->len == len)
			continue;
		if (i < k)
			drop(had[i]);
		e = add(BUFFER, addr, len, !V4L2_TYPE_IS_OUTPUT(b->type), false);
		if (e == NULL)
			return -1;
		e->space = b->type;
		e->lo = b->index;
		e->hi = e->lo + 1;
	}
	return 0;
}

static int request(const struct v4l2_requestbuffers *q)
{
	if (failing())
		return -1;
	for (struct entry *e = table; e < table + ENTRIES; e++)
		if (e->used && e->kind == BUFFER && e->space == q->type)
			drop(e);
	return 0;
}

/* ---- ioctl ---- */

static int device_ioctl(unsigned long rq, void *arg)
{
	struct vfio_iommu_type1_dma_map *m = arg;
	struct vfio_iommu_type1_dma_unmap *u = arg;
	struct ioas_map *im = arg;
	struct ioas_unmap *iu = arg;
	uint32_t *w = arg;
	uint64_t bytes;
	bool all;
	int rc;

	switch (rq) {
	case VFIO_IOMMU_MAP_DMA:
		return dma_map(compat, m->iova, m->vaddr, m->size, (m->flags & VFIO_DMA_MAP_FLAG_WRITE) != 0);
	case VFIO_IOMMU_UNMAP_DMA:
		if (u->flags & VFIO_DMA_UNMAP_FLAG_VADDR)
			return 0;
		all = (u->flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0;
		rc = dma_unmap(compat, all ? 0 : u->iova, all ? UINT64_MAX : end_of(u->iova, u->size), &bytes, 0);
		u->size = bytes;
		return rc;
	case _IO(';', 0x85):
		if (!(im->flags & 1))
			im->iova = next_iova += UINT64_C(1) << 30;
		return dma_map(im->ioas_id, im->iova, im->user_va, im->length, (im->flags & 2) != 0);
	case _IO(';', 0x86):
		rc = dma_unmap(iu->ioas_id, iu->iova, end_of(iu->iova, iu->length), &bytes, ENOENT);
		iu->length = bytes;
		return rc;
	case _IO(';', 0x83):
		return ioas_copy(arg);
	case _IO(';', 0x80):
		(void)dma_unmap(w[1], 0, UINT64_MAX, &bytes, 0);
		return 0;
	case _IO(';', 0x88):
		if (compat == 0) {
			errno = ENODEV;
			return -1;
		}
		w[1] = compat;
		return 0;
	case VIDIOC_QBUF:
	case VIDIOC_PREPARE_BUF:
		return queue(arg);
	case VIDIOC_DQBUF:
	case VIDIOC_STREAMOFF:
		return 0;
	case VIDIOC_REQBUFS:
		return request(arg);
	default:
		errno = ENOTTY;
		return -1;
	}
}

int ioctl(int fd, unsigned long rq, ...)
{
	static int (*real)(int, unsigned long, ...);
	struct stat st;
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, rq);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (real == NULL) {
		void *sym = dlsym(RTLD_NEXT, "ioctl");

		memcpy(&real, &sym, sizeof real);
	}
	if (fstat(fd, &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return real(fd, rq, arg);
	pthread_mutex_lock(&lock);
	rc = device_ioctl(rq & UINT32_MAX, arg);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* ---- verbs: as in libibverbs, the first two are the third ---- */

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, unsigned int access)
{
	struct ibv_mr *mr = calloc(1, sizeof *mr);
	struct entry *e = NULL;

	(void)iova;
	pthread_mutex_lock(&lock);
	if (mr != NULL && !failing())
		e = add(REGION, (uintptr_t)addr, len, access & IBV_ACCESS_LOCAL_WRITE, access & IBV_ACCESS_ON_DEMAND);
	if (e != NULL) {
		e->lo = (uintptr_t)mr;
		mr->context = pd->context;
		mr->pd = pd;
		mr->addr = addr;
		mr->length = len;
	}
	pthread_mutex_unlock(&lock);
	if (e != NULL)
		return mr;
	free(mr);
	return NULL;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	return ibv_reg_mr_iova2(pd, addr, len, (uintptr_t)addr, (unsigned int)access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, int access)
{
	return ibv_reg_mr_iova2(pd, addr, len, iova, (unsigned int)access);
}

static struct entry *region(const struct ibv_mr *mr)
{
	for (struct entry *e = table; e < table + ENTRIES; e++)
		if (e->used && e->kind == REGION && e->lo == (uintptr_t)mr)
			return e;
	return NULL;
}

int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t len, int access)
{
	struct entry *e, *old;
	int rc = 0;

	(void)pd;
	pthread_mutex_lock(&lock);
	old = region(mr);
	if (failing()) {
		rc = IBV_REREG_MR_ERR_INPUT;
	} else if (flags & IBV_REREG_MR_CHANGE_TRANSLATION) {
		e = add(REGION, (uintptr_t)addr, len, true,
			flags & IBV_REREG_MR_CHANGE_ACCESS ? access & IBV_ACCESS_ON_DEMAND : old->on_demand);
		rc = e == NULL ? IBV_REREG_MR_ERR_CMD : 0;
		if (e != NULL) {
			drop(old);
			e->lo = (uintptr_t)mr;
		}
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	struct entry *e;
	int err = 0;

	pthread_mutex_lock(&lock);
	e = region(mr);
	if (failing() || e == NULL)
		err = EBUSY;
	else
		drop(e);
	pthread_mutex_unlock(&lock);
	if (!err)
		free(mr);
	return err;
}

int ibv_close_device(struct ibv_context *ctx)
{
	struct ibv_mr *mr;

	pthread_mutex_lock(&lock);
	for (struct entry *e = table; e < table + ENTRIES; e++) {
		if (!e->used || e->kind != REGION)
			continue;
		mr = (struct ibv_mr *)(uintptr_t)e->lo;
		if (mr->context == ctx) {
			drop(e);
			free(mr);
		}
	}
	pthread_mutex_unlock(&lock);
	return 0;
}
