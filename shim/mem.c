/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem.c - the library's own allocator: powers of two from 64 bytes to half a region, freed lists per size,
 * larger pieces straight from mmap. The program's malloc() is never called: its arena may be a window, or a
 * lock of it be held by the very thread whose fault we are about to serve.
 */
#include "sh.h"

#include <string.h>
#include <sys/syscall.h>

#define REGION (UINT64_C(256) << 10)
#define MIN_SHIFT 6U
#define MAX_SHIFT 17U

struct cell { struct cell *next; };

static pthread_mutex_t mem_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cell *free_cell[MAX_SHIFT + 1];
static unsigned char *region;
static size_t region_left;

static unsigned int shift_of(size_t bytes)
{
	unsigned int s = MIN_SHIFT;

	while (((size_t)1 << s) < bytes)
		s++;
	return s;
}

static size_t big_bytes(size_t bytes)
{
	return (size_t)pf_round_up(bytes, SH_PAGE);
}

/* With signals open, a handler that faults a window would wait for serve, and serve for mem_lock. */
static void quiet(sigset_t *old)
{
	sigset_t all;

	if (sh_is_crew)
		return;
	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
}

static void loud(const sigset_t *old)
{
	if (!sh_is_crew)
		(void)sh_sys(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, (size_t)8);
}

void *sh_alloc(size_t bytes)
{
	unsigned int s = shift_of(bytes);
	struct cell *c = NULL;
	sigset_t old;

	if (s > MAX_SHIFT)
		return sh_anon(big_bytes(bytes));
	quiet(&old);
	pthread_mutex_lock(&mem_lock);
	if (free_cell[s] != NULL) {
		c = free_cell[s];
		free_cell[s] = c->next;
	} else {
		if (region_left < (size_t)1 << s) {
			unsigned char *r = sh_anon(REGION);

			/* The rest of the old region is given up: at most half of it, and only once per region. */
			if (r != NULL) {
				region = r;
				region_left = REGION;
			}
		}
		if (region_left >= (size_t)1 << s) {
			region_left -= (size_t)1 << s;
			c = (struct cell *)(void *)(region + region_left);
		}
	}
	pthread_mutex_unlock(&mem_lock);
	loud(&old);
	if (c != NULL)
		memset(c, 0, (size_t)1 << s);
	return c;
}

void sh_free(void *p, size_t bytes)
{
	unsigned int s = shift_of(bytes);
	struct cell *c = p;
	sigset_t old;

	if (p == NULL)
		return;
	if (s > MAX_SHIFT) {
		(void)sh_sys(SYS_munmap, p, big_bytes(bytes));
		return;
	}
	quiet(&old);
	pthread_mutex_lock(&mem_lock);
	c->next = free_cell[s];
	free_cell[s] = c;
	pthread_mutex_unlock(&mem_lock);
	loud(&old);
}

void sh_mem_lock(void)
{
	pthread_mutex_lock(&mem_lock);
}

void sh_mem_unlock(void)
{
	pthread_mutex_unlock(&mem_lock);
}

int sh_mem_trylock(void)
{
	return pthread_mutex_trylock(&mem_lock);
}

void sh_mem_reinit(bool torn)
{
	pthread_mutex_init(&mem_lock, NULL);
	if (!torn)
		return;
	memset(free_cell, 0, sizeof free_cell);
	region_left = 0;
}
