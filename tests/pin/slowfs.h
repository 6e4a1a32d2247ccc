/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slowfs.h - a source and sink of data that is as slow as a test wants: a FUSE mount with one file whose reads and
 * writes have their buffers pinned from the request to the answer (harness/slowsrv.h). Answers come at once until the
 * test says otherwise; then when it says so. Needs root (mount(2)).
 */
#ifndef TESTS_PIN_SLOWFS_H
#define TESTS_PIN_SLOWFS_H

#include <stdbool.h>
#include <stddef.h>
#include "harness/slowsrv.h"

#define SLOW_BYTE 'S'			/* what is in the file of SLOW_BYTES */
#define SLOW_MAX (128U << 10)		/* of one request; a bigger read or write is several */

struct slow;

/* A mount of its own. NULL, and the case is skipped with the reason, when this machine cannot. */
struct slow *slow_start(void);
const char *slow_path(const struct slow *s);
/* From now on requests to read and write wait (@wait), or are answered as they come. Those that wait already do go on
 * waiting. */
void slow_hold(struct slow *s, bool wait);
/* Until so many requests wait; false after a minute. */
bool slow_await(struct slow *s, unsigned int n);
unsigned int slow_waiting(const struct slow *s);
/* Answer all that wait, with data or @err (0: none). */
void slow_release(struct slow *s, int err);
/* What the last request to write brought, up to SLOW_MAX bytes; it has arrived, answered or not. */
size_t slow_written(const struct slow *s, void *out, size_t room);
/* Unmount; whatever waits fails. */
void slow_end(struct slow *s);

#endif
