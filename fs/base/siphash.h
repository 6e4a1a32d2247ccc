/* SPDX-License-Identifier: BSD-3-Clause */
/* siphash.h - SipHash-2-4, and the directory key made of it: nobody can choose names that collide. */
#ifndef PF_BASE_SIPHASH_H
#define PF_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t pf_siphash(const uint8_t key[16], const void *buf, size_t len);

/* de_key of @name with collision number 0: 55 bits of hash above 8 of collision number, never below 256. */
uint64_t pf_name_key(const uint8_t key[16], const char *name, size_t len);

#endif
