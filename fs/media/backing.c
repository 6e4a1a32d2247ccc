/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backing.c - room for the bytes of a sparse image file, before somebody stores to them.
 *
 * A store to a hole of an image whose filesystem is full is a SIGBUS, for us and for every client that maps the block.
 * So blocks get their room with fallocate(2), a chunk at a time, before they are first given out; from then on a store
 * cannot fail. Owns a bit for each chunk in memory: known to have room since this mount. Bits are atomic, no lock: two
 * threads may ask for one chunk, and the second finds it done.
 */
#include "media/pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct pf_backing {
	_Atomic uint64_t *word;
	void *map;			/* what word[] lies in */
	size_t bytes;
	atomic_bool never;		/* the filesystem below has no such call */
	atomic_bool full;		/* ... had no room when it was asked last */
};

int pf_back_init(struct pf_pm *pm)
{
	struct pf_backing *b;
	struct stat st;

	if (pm->ro || fstat(pm->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	b = calloc(1, sizeof *b);
	if (b == NULL)
		return -ENOMEM;
	b->bytes = PF_DIV_UP(PF_DIV_UP(pm->bytes, PF_CHUNK_SIZE), 64) * sizeof(uint64_t);
	b->map = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->map == MAP_FAILED) {
		free(b);
		return -ENOMEM;
	}
	b->word = b->map;
	pm->backing = b;
	return 0;
}

void pf_back_fini(struct pf_pm *pm)
{
	struct pf_backing *b = pm->backing;

	pm->backing = NULL;
	if (b == NULL)
		return;
	(void)munmap(b->map, b->bytes);
	free(b);
}

static bool known(struct pf_backing *b, uint64_t chunk)
{
	return (atomic_load_explicit(&b->word[chunk / 64], memory_order_relaxed) >> (chunk % 64)) & 1;
}

/* Chunks [from, to) have room now? */
static bool reserve(struct pf_pm *pm, uint64_t from, uint64_t to)
{
	struct pf_backing *b = pm->backing;
	const uint64_t doff = from * PF_CHUNK_SIZE, len = pf_min64(to * PF_CHUNK_SIZE, pm->bytes) - doff;
	int rc;

	do
		rc = fallocate(pm->fd, FALLOC_FL_KEEP_SIZE, (off_t)doff, (off_t)len);
	while (rc != 0 && errno == EINTR);
	if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		atomic_store(&b->never, true);
	else
		atomic_store(&b->full, rc != 0);
	if (rc != 0 && !atomic_load(&b->never))
		return false;
	for (uint64_t c = from; c < to; c++)
		atomic_fetch_or_explicit(&b->word[c / 64], UINT64_C(1) << (c % 64), memory_order_relaxed);
	return true;
}

bool pf_pm_backs(const struct pf_pm *pm)
{
	return pm->backing != NULL && !atomic_load_explicit(&pm->backing->never, memory_order_relaxed);
}

bool pf_pm_back_full(const struct pf_pm *pm)
{
	return pm->backing != NULL && atomic_load_explicit(&pm->backing->full, memory_order_relaxed);
}

bool pf_pm_backed(const struct pf_pm *pm, uint64_t doff)
{
	return known(pm->backing, doff / PF_CHUNK_SIZE);
}

uint64_t pf_pm_back(struct pf_pm *pm, uint64_t doff, uint64_t len)
{
	struct pf_backing *b = pm->backing;
	uint64_t from, end;

	if (b == NULL || len == 0 || atomic_load_explicit(&b->never, memory_order_relaxed))
		return len;
	end = (doff + len - 1) / PF_CHUNK_SIZE + 1;
	for (uint64_t c = doff / PF_CHUNK_SIZE; c < end; c = from) {
		if (known(b, c)) {
			from = c + 1;
			continue;
		}
		for (from = c + 1; from < end && !known(b, from);)
			from++;
		if (reserve(pm, c, from))
			continue;
		/* Not all of them: as many as there are, from the front. */
		while (c < from && reserve(pm, c, c + 1))
			c++;
		if (c < from)
			return c * PF_CHUNK_SIZE <= doff ? 0 : c * PF_CHUNK_SIZE - doff;
	}
	return len;
}
