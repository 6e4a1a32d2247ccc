/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seeded.c - what is random in a new image, replaced: a unit test sees the same identities, hash keys, and with them
 * the same trees, in every run. PINFS_SEED is another sequence; with PINFS_LONG each run has one of its own. Names of
 * sockets and cookies stay random: two runs at a time must not share them.
 *
 * The linker sends the core's calls here (tests.mk). Any thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include "media/mkfs.h"

ssize_t __real_getrandom(void *buf, size_t len, unsigned int flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags);

int __real_pf_mkfs(struct pf_pm *pm, struct pf_mkfs *m);
int __wrap_pf_mkfs(struct pf_pm *pm, struct pf_mkfs *m);

static _Atomic uint64_t turn;
static _Thread_local bool making;

int __wrap_pf_mkfs(struct pf_pm *pm, struct pf_mkfs *m)
{
	int err;

	making = true;
	err = __real_pf_mkfs(pm, m);
	making = false;
	return err;
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
	x *= UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags)
{
	const char *seed = getenv("PINFS_SEED");
	uint64_t base = seed != NULL ? strtoull(seed, NULL, 0) : 1;
	uint8_t *p = buf;

	if (!making || (seed == NULL && getenv("PINFS_LONG") != NULL))
		return __real_getrandom(buf, len, flags);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)mix(mix(base) + atomic_fetch_add(&turn, 1));
	return (ssize_t)len;
}
