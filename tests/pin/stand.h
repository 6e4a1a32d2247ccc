/* SPDX-License-Identifier: BSD-3-Clause */
/* stand.h - pause points of a mount with -o pause_points, by `pinfsctl pause` and `resume`. */
#ifndef TESTS_PIN_STAND_H
#define TESTS_PIN_STAND_H

#include <stdbool.h>
#include <sys/types.h>
#include "harness/fs.h"

/* Whoever comes to @point stands, from now on. */
void stand_arm(const struct pt_fs *fs, const char *point);
/* Until somebody stands there; false, having said where they do, after a minute. */
bool stand_until(const struct pt_fs *fs, const char *point);
/* How many stand there; all, with NULL. */
unsigned int stand_count(const struct pt_fs *fs, const char *point);
/* Has anybody stood at the point since it was armed? It is still armed. */
bool stand_passed(const struct pt_fs *fs, const char *point);
/* Disarm, and let go. NULL: every point. */
void stand_go(const struct pt_fs *fs, const char *point);

#endif
