/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seeded.c - what is random or depends on the hour, replaced: a crash test sees the same stores in every run.
 *
 * The linker sends the core's calls here (tests.mk). mkfs takes its identity and its hash key from getrandom(); the
 * times in inodes come from the realtime clocks, which tick by a millisecond a call here, or stand still. Other clocks
 * are real.
 */
#include "crash/seeded.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/random.h>

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags);
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

static _Atomic uint64_t now_ms = UINT64_C(1000000000000);
static _Atomic bool stopped;
static uint64_t state = 1;

void seeded_start(uint64_t seed)
{
	state = seed * 2 + 1;
	atomic_store(&now_ms, UINT64_C(1000000000000));
	atomic_store(&stopped, false);
}

void seeded_stop_clock(bool stop)
{
	atomic_store(&stopped, stop);
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned int flags)
{
	uint8_t *p = buf;

	(void)flags;
	for (size_t i = 0; i < len; i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		p[i] = (uint8_t)(state >> 56);
	}
	return (ssize_t)len;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ms;

	if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
		return __real_clock_gettime(clock, ts);
	ms = atomic_load(&stopped) ? atomic_load(&now_ms) : atomic_fetch_add(&now_ms, 1);
	ts->tv_sec = (time_t)(ms / 1000);
	ts->tv_nsec = (long)(ms % 1000) * 1000000;
	return 0;
}
