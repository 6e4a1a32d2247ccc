/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recipe.h - damage to the image of image.h as a short string of bytes: what a fuzzer mutates and a corpus keeps.
 *
 * A recipe is a row of steps of 16 bytes. A step names an object by class and index and does one thing to it; unless
 * told not to, it makes the checksum right again, so that what lies behind the verifiers' first line is reached. Any
 * bytes are a recipe; a rest that is no whole step is ignored.
 */
#ifndef PT_FUZZ_RECIPE_H
#define PT_FUZZ_RECIPE_H

#include "fuzz/batch.h"
#include "fuzz/image.h"

enum fz_do {
	FZ_SET,		/* value into the field */
	FZ_ADD,		/* value to the field */
	FZ_XOR,
	FZ_NASTY,	/* one of the values at which things overflow, chosen by value */
	FZ_POINT,	/* the block number of an object: class and index are in value */
	FZ_ZERO,	/* value & 4095 + 1 bytes from the offset on */
	FZ_COPY,	/* another object over this one: index in value; from the offset on */
	FZ_RECORD,	/* lanes: a new transaction with one more record, for doff = value and 64 * (width + 1) bytes */
	FZ_FLIP,	/* bit value of the object; never sealed */
	FZ_WIPE,	/* the whole block; never sealed */
	FZ_DOS
};

struct fz_step {
	uint8_t what;		/* enum fz_do, modulo */
	uint8_t class;		/* enum fz_class, modulo */
	uint8_t flags;
	uint8_t width;		/* 1 << modulo 4 */
	uint16_t index;		/* modulo the objects of the class */
	uint16_t off;		/* modulo the object's size; a multiple of the width unless FZ_ODD */
	uint64_t value;
};
enum { FZ_BROKEN = 1, FZ_ODD = 2 };	/* flags: leave the checksum as it is; any offset */
_Static_assert(sizeof(struct fz_step) == 16, "a step's size in a recipe");

/* Do it to a device of fz_open(). @hit: NULL, or the sectors whose bytes may differ now. */
void fz_apply(struct pf_pm *pm, const uint8_t *recipe, size_t size, uint64_t *hit);
/* The steps in words, a line each. */
void fz_print(FILE *to, const uint8_t *recipe, size_t size);
/* A step of the interesting kind: fields rather than padding. */
struct fz_step fz_random_step(struct fz_rng *r);
/* Change a recipe in one way or another; the new size, at most @max. */
size_t fz_mutate(uint8_t *recipe, size_t size, size_t max, struct fz_rng *r);

#endif
