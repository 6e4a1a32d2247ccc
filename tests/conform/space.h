/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.h - a filesystem without free space, and the victim: the file that gets whatever is given back to it.
 *
 * For cases with CF_FILLS. What they fill it with are files in the case's directory, and go with that.
 */
#ifndef CONFORM_SPACE_H
#define CONFORM_SPACE_H

#include "conform/conform.h"

/* All free space goes to a file "filler"; there is an empty file "victim" then, too. */
void cf_fill(struct cf *c);
/* The victim gets all that is free now, full of CF_VICTIM. How many bytes that is. */
#define CF_VICTIM 'v'
size_t cf_victim(struct cf *c);
/* Bytes of the victim that are not its own any more. */
size_t cf_victim_torn(struct cf *c);
/* This thread stays on the processor that it is on: for cf_space_comes(). */
void cf_one_cpu(struct cf *c);
/*
 * Until what has gone since @before bytes were free has come, if it ever does: files of at most @most bytes, which
 * went on this thread's one processor. Takes double of that for a moment.
 */
void cf_space_comes(struct cf *c, uint64_t before, size_t most);
/* Bytes that statfs(2) calls free: once what was given back counts. */
uint64_t cf_free(struct cf *c);

#endif
