/* SPDX-License-Identifier: BSD-3-Clause */
/* space_env.h - an empty filesystem in memory with layers 1 and 2 up; for tests of fs/space. */
#ifndef PF_TESTS_SPACE_ENV_H
#define PF_TESTS_SPACE_ENV_H

#include "space/alloc.h"

/* Both abort the program when the set-up itself fails. */
struct pf_fs *space_open(uint64_t bytes);
void space_close(struct pf_fs *fs);

/* Forget all memory and mount again what is on the device. */
void space_remount(struct pf_fs *fs);

/* Blocks that the media's map says are free. */
uint64_t space_media_free(struct pf_fs *fs);

/* A small deterministic random number generator (xorshift). */
static inline uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

#endif
