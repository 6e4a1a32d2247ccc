/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * defect.c - preloaded into a daemon, it makes libpmem forget something; for tests that have to notice.
 *
 * PINFS_DEFECT=zero: what is zeroed by less than a block keeps its bytes. PINFS_DEFECT=write: of every eighth piece of
 * data with an odd length, the last byte is not written.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void *pmem_memcpy(void *dst, const void *src, size_t len, unsigned int flags);
void *pmem_memset(void *dst, int c, size_t len, unsigned int flags);

static bool has(const char *what)
{
	const char *v = getenv("PINFS_DEFECT");

	return v != NULL && strcmp(v, what) == 0 && strcmp(program_invocation_short_name, "pinfs") == 0;
}

static void *(*real_memcpy)(void *, const void *, size_t, unsigned int);
static void *(*real_memset)(void *, int, size_t, unsigned int);

__attribute__((constructor)) static void find(void)
{
	*(void **)&real_memcpy = dlsym(RTLD_NEXT, "pmem_memcpy");
	*(void **)&real_memset = dlsym(RTLD_NEXT, "pmem_memset");
}

void *pmem_memcpy(void *dst, const void *src, size_t len, unsigned int flags)
{
	static atomic_uint turn;

	if (len > 100 && len % 2 != 0 && has("write") && atomic_fetch_add(&turn, 1) % 8 == 7)
		len--;
	return real_memcpy(dst, src, len, flags);
}

void *pmem_memset(void *dst, int c, size_t len, unsigned int flags)
{
	if (len < 4096 && has("zero"))
		return dst;
	return real_memset(dst, c, len, flags);
}
