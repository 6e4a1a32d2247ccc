/* SPDX-License-Identifier: BSD-3-Clause */
/* victim.h - a file that takes all free space, so that whatever block was freed too early is in it. */
#ifndef TESTS_PIN_VICTIM_H
#define TESTS_PIN_VICTIM_H

#include <stdbool.h>
#include <stdint.h>

/* Create @path and write until ENOSPC. Bytes written; ends the case when it cannot. */
uint64_t victim_make(const char *path);
/* All of its @len bytes are as written. */
bool victim_intact(const char *path, uint64_t len);

#endif
