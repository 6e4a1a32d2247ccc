/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target.h - what is fuzzed: functions that take any bytes and must come back.
 *
 * The same functions are linked with libFuzzer (make fuzz) and into test_fuzz_corpus, which replays the corpus
 * without it. What must not be, ends the process by abort() after a line that says what.
 */
#ifndef PT_FUZZ_TARGET_H
#define PT_FUZZ_TARGET_H

#include <stdint.h>
#include <stdio.h>
#include "fuzz/recipe.h"

struct fz_target {
	const char *name;
	void (*run)(const uint8_t *data, size_t size);
	/* Change an input; NULL: any change of bytes will do. */
	size_t (*mutate)(uint8_t *data, size_t size, size_t max, struct fz_rng *r);
	size_t max;		/* longest input worth trying */
	void (*print)(FILE *to, const uint8_t *data, size_t size);	/* in words; may be NULL */
};

extern const struct fz_target fz_mount, fz_fsck, fz_journal, fz_dump, fz_wire, fz_text;

#define FZ_FAIL(what)                                        \
	do {                                                 \
		(void)fprintf(stderr, "wrong: %s\n", what);  \
		abort();                                     \
	} while (0)

#endif
