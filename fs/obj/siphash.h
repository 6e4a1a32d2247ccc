/* SPDX-License-Identifier: BSD-3-Clause */
/* siphash.h - SipHash-2-4 (Aumasson, Bernstein): a keyed hash, so nobody can choose names that collide. */
#ifndef PF_OBJ_SIPHASH_H
#define PF_OBJ_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t pf_siphash(const uint8_t key[16], const void *data, size_t len);

#endif
