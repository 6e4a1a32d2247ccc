/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * types.h - little-endian media integers, units, and ranges that cannot overflow.
 *
 * A media or wire integer is a struct, so arithmetic on a raw field does not compile. The unit of a
 * quantity is in its name: foff/doff/len are bytes (f: in the file, d: on the device),
 * fblk/dblk/nblk are 4 KiB blocks, _ns are nanoseconds.
 */
#ifndef PINFS_TYPES_H
#define PINFS_TYPES_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct { uint16_t raw; } pf_le16;
typedef struct { uint32_t raw; } pf_le32;
typedef struct { uint64_t raw; } pf_le64;

static inline uint16_t pf_get16(pf_le16 v) { return le16toh(v.raw); }
static inline uint32_t pf_get32(pf_le32 v) { return le32toh(v.raw); }
static inline uint64_t pf_get64(pf_le64 v) { return le64toh(v.raw); }
static inline pf_le16 pf_put16(uint16_t v) { return (pf_le16){ .raw = htole16(v) }; }
static inline pf_le32 pf_put32(uint32_t v) { return (pf_le32){ .raw = htole32(v) }; }
static inline pf_le64 pf_put64(uint64_t v) { return (pf_le64){ .raw = htole64(v) }; }

#define PF_BLK_SHIFT 12
#define PF_BLK_SIZE UINT64_C(4096)
#define PF_CHUNK_SHIFT 21
#define PF_CHUNK_SIZE (UINT64_C(1) << PF_CHUNK_SHIFT)		/* window slot, huge page */
#define PF_CHUNK_BLKS (PF_CHUNK_SIZE / PF_BLK_SIZE)		/* 512 */
#define PF_LINE 64U						/* cache line: unit of flushing and journalling */

#define PF_DIV_UP(n, d) (((n) / (d)) + ((n) % (d) != 0))

static inline uint64_t pf_round_down(uint64_t v, uint64_t pow2) { return v & ~(pow2 - 1); }

/* The caller has proved v <= UINT64_MAX - (pow2 - 1). */
static inline uint64_t pf_round_up(uint64_t v, uint64_t pow2) { return (v + pow2 - 1) & ~(pow2 - 1); }

static inline uint64_t pf_min64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t pf_max64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* off + len is formed only after it was proved to fit below limit. */
static inline bool pf_range_ok(uint64_t off, uint64_t len, uint64_t limit)
{
	return off <= limit && len <= limit - off;
}

/* Half-open ranges [a, a + alen) and [b, b + blen), each already proved not to wrap. */
static inline bool pf_range_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return alen != 0 && blen != 0 && a < b + blen && b < a + alen;
}

#endif
