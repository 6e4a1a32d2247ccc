/* SPDX-License-Identifier: BSD-3-Clause */
/* seeded.h - chance and time in a crash test: the same in every run. */
#ifndef PF_TESTS_SEEDED_H
#define PF_TESTS_SEEDED_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* The next mkfs is the same as every one with @seed; the clock starts anew. */
void seeded_start(uint64_t seed);
/* Let the times in inodes stand still: then an overwrite has no transaction. */
void seeded_stop_clock(bool stop);

#endif
