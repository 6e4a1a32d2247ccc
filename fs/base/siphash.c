/* SPDX-License-Identifier: BSD-3-Clause */
/* siphash.c - SipHash-2-4 (Aumasson, Bernstein), 64-bit result. Pure functions; no lock, no state. */
#include "base/siphash.h"

#include <endian.h>
#include <string.h>

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

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

uint64_t pf_siphash(const uint8_t key[16], const void *buf, size_t len)
{
	const uint64_t k0 = get64(key), k1 = get64(key + 8);
	uint64_t v[4] = {
		k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
		k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573),
	};
	const uint8_t *p = buf;
	uint8_t last[8] = { 0 };
	uint64_t m;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		m = get64(p + i);
		v[3] ^= m;
		rounds(v, 2);
		v[0] ^= m;
	}
	if (i < len)
		memcpy(last, p + i, len - i);
	last[7] = (uint8_t)len;
	m = get64(last);
	v[3] ^= m;
	rounds(v, 2);
	v[0] ^= m;
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t pf_name_key(const uint8_t key[16], const char *name, size_t len)
{
	uint64_t hash = pf_siphash(key, name, len) & ((UINT64_C(1) << 55) - 1);

	return (hash == 0 ? 1 : hash) << 8;
}
