/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * told.h - how often the kernel was told of inodes that are not in memory: 16 bytes each, so that what the kernel
 * remembers does not keep whole inodes here. A table of numbers and counts; the caller's lock protects it.
 */
#ifndef PF_OBJ_TOLD_H
#define PF_OBJ_TOLD_H

#include <stdbool.h>
#include <stdint.h>

struct pf_told {
	struct { uint64_t ino, n; } *slot;	/* ino 0: free */
	uint64_t used, size;			/* size: power of two, or 0 */
};

/* @ino is not in the table, @n is not 0. False: no memory. */
bool pf_told_put(struct pf_told *t, uint64_t ino, uint64_t n);
/* Its count, out of the table; 0: not there. */
uint64_t pf_told_take(struct pf_told *t, uint64_t ino);
/* @n fewer; gone with the last. Nothing when it is not there. */
void pf_told_less(struct pf_told *t, uint64_t ino, uint64_t n);
void pf_told_fini(struct pf_told *t);

#endif
