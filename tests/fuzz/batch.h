/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * batch.h - run numbered items in children, many to a child, with limits of time: a crash, a hang or an endless loop of
 * one item is reported with its number, and the rest goes on.
 */
#ifndef PT_FUZZ_BATCH_H
#define PT_FUZZ_BATCH_H

#include <stdint.h>
#include <stdio.h>

/* What an item tells the parent, beside being all right: counters of the caller's. Zeroed by fz_batch_reset(). */
#define FZ_COUNTERS 8U
extern uint64_t *fz_count;		/* FZ_COUNTERS, shared with the children */
void fz_batch_reset(void);

/*
 * NULL, or what is wrong (any text until the next item). @log is shown when it is, with all that went to stderr; it
 * begins anew with each item.
 */
typedef const char *(*fz_item_fn)(uint64_t item, FILE *log);
/* Items [from, to). @again, with the number behind it: how to run just that item. Each failure is one of CUnit's and
 * a report; after 20 of them the rest is left out. */
void fz_batch(fz_item_fn fn, uint64_t from, uint64_t to, const char *again);

/* A number from the environment. */
uint64_t fz_env(const char *name, uint64_t otherwise);

/* Numbers that depend on the seed alone. */
struct fz_rng { uint64_t s; };
void fz_seed(struct fz_rng *r, uint64_t seed);
uint64_t fz_rnd(struct fz_rng *r);
static inline uint64_t fz_below(struct fz_rng *r, uint64_t n) { return fz_rnd(r) % n; }

#endif
