/* SPDX-License-Identifier: BSD-3-Clause */
/* siphash.c - SipHash-2-4, little-endian words, as its authors specify it. */
#include "obj/siphash.h"

#include <string.h>
#include <pinfs/types.h>

static uint64_t rotl(uint64_t v, unsigned int n)
{
	return v << n | v >> (64 - n);
}

static void rounds(uint64_t v[4], unsigned int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[0] = rotl(v[0], 32);
		v[2] += v[3];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[2] = rotl(v[2], 32);
	}
}

static uint64_t word(const uint8_t *p)
{
	pf_le64 w;

	memcpy(&w, p, sizeof w);
	return pf_get64(w);
}

uint64_t pf_siphash(const uint8_t key[16], const void *data, size_t len)
{
	const uint64_t k0 = word(key), k1 = word(key + 8);
	uint64_t v[4] = {
		k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
		k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573),
	};
	const uint8_t *p = data;
	uint8_t last[8] = { 0 };
	uint64_t m;
	size_t left = len;

	for (; left >= 8; p += 8, left -= 8) {
		m = word(p);
		v[3] ^= m;
		rounds(v, 2);
		v[0] ^= m;
	}
	memcpy(last, p, left);
	last[7] = (uint8_t)len;
	m = word(last);
	v[3] ^= m;
	rounds(v, 2);
	v[0] ^= m;
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
