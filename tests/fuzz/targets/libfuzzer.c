/* SPDX-License-Identifier: BSD-3-Clause */
/* libfuzzer.c - one target behind libFuzzer's entry points. FZ_TARGET names it. */
#include "fuzz/targets/target.h"

#include <stdlib.h>
#include "base/log.h"

#ifndef FZ_TARGET
#define FZ_TARGET fz_mount
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* Linked in their place: what damage has to say would drown what the fuzzer says. */
void __wrap_pf_log(enum pf_log level, const char *fmt, ...);
void __wrap_cli_error(const char *fmt, ...);

void __wrap_pf_log(enum pf_log level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
}

void __wrap_cli_error(const char *fmt, ...)
{
	(void)fmt;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FZ_TARGET.run(data, size);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	struct fz_rng r;

	fz_seed(&r, seed);
	if (max > FZ_TARGET.max)
		max = FZ_TARGET.max;
	if (size > max)
		size = max;
	if (FZ_TARGET.mutate == NULL || fz_below(&r, 4) == 0)
		return LLVMFuzzerMutate(data, size, max);
	return FZ_TARGET.mutate(data, size, max, &r);
}
