/* SPDX-License-Identifier: BSD-3-Clause */
/* mem.c - a device in anonymous memory. Owns the memory; no locks. */
#include "harness/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void mem_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	memcpy(pf_pm_at(pm, doff), src, len);
}

static void mem_zero(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	memset(pf_pm_at(pm, doff), 0, len);
}

static void mem_flush(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	(void)pm;
	(void)doff;
	(void)len;
}

static int mem_drain(struct pf_pm *pm)
{
	(void)pm;
	return 0;
}

static const struct pf_pm_ops mem_ops = {
	.write = mem_write, .zero = mem_zero, .flush = mem_flush, .drain = mem_drain,
};

struct pf_pm *mem_open(uint64_t bytes)
{
	struct pf_pm *pm = calloc(1, sizeof *pm);

	if (pm == NULL)
		abort();
	pm->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pm->base == MAP_FAILED)
		abort();
	pm->bytes = bytes;
	pm->fd = -1;
	pm->mode = PF_PMEM_CPU;
	pm->ops = &mem_ops;
	return pm;
}

void mem_close(struct pf_pm *pm)
{
	(void)munmap(pm->base, pm->bytes);
	free(pm);
}
