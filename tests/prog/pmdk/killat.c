/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * killat.c - preloaded into a program that uses PMDK: PINFS_KILL_AT=N ends it with SIGKILL instead of the Nth call of
 * a libpmem function that makes bytes durable, its own or one of libpmemobj, libpmemblk, libpmemlog. Most of them are
 * in the middle of a transaction.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <libpmem.h>

static atomic_long left = -1;

static void (*real_persist)(const void *, size_t);
static int (*real_msync)(const void *, size_t);
static void (*real_flush)(const void *, size_t);
static void (*real_drain)(void);
static void *(*real_memcpy)(void *, const void *, size_t, unsigned int);
static void *(*real_memmove)(void *, const void *, size_t, unsigned int);
static void *(*real_memset)(void *, int, size_t, unsigned int);
static void *(*real_memcpy_nodrain)(void *, const void *, size_t);
static void *(*real_memset_persist)(void *, int, size_t);

__attribute__((constructor)) static void find(void)
{
	const char *n = getenv("PINFS_KILL_AT");

	*(void **)&real_persist = dlsym(RTLD_NEXT, "pmem_persist");
	*(void **)&real_msync = dlsym(RTLD_NEXT, "pmem_msync");
	*(void **)&real_flush = dlsym(RTLD_NEXT, "pmem_flush");
	*(void **)&real_drain = dlsym(RTLD_NEXT, "pmem_drain");
	*(void **)&real_memcpy = dlsym(RTLD_NEXT, "pmem_memcpy");
	*(void **)&real_memmove = dlsym(RTLD_NEXT, "pmem_memmove");
	*(void **)&real_memset = dlsym(RTLD_NEXT, "pmem_memset");
	*(void **)&real_memcpy_nodrain = dlsym(RTLD_NEXT, "pmem_memcpy_nodrain");
	*(void **)&real_memset_persist = dlsym(RTLD_NEXT, "pmem_memset_persist");
	if (n != NULL && *n != '\0')
		left = atol(n);
}

static void step(void)
{
	if (left > 0 && atomic_fetch_sub(&left, 1) == 1)
		(void)kill(getpid(), SIGKILL);
}

void pmem_persist(const void *addr, size_t len)
{
	step();
	real_persist(addr, len);
}

int pmem_msync(const void *addr, size_t len)
{
	step();
	return real_msync(addr, len);
}

void pmem_flush(const void *addr, size_t len)
{
	step();
	real_flush(addr, len);
}

void pmem_drain(void)
{
	step();
	real_drain();
}

void *pmem_memcpy(void *dst, const void *src, size_t len, unsigned int flags)
{
	step();
	return real_memcpy(dst, src, len, flags);
}

void *pmem_memmove(void *dst, const void *src, size_t len, unsigned int flags)
{
	step();
	return real_memmove(dst, src, len, flags);
}

void *pmem_memset(void *dst, int c, size_t len, unsigned int flags)
{
	step();
	return real_memset(dst, c, len, flags);
}

void *pmem_memcpy_nodrain(void *dst, const void *src, size_t len)
{
	step();
	return real_memcpy_nodrain(dst, src, len);
}

void *pmem_memset_persist(void *dst, int c, size_t len)
{
	step();
	return real_memset_persist(dst, c, len);
}
