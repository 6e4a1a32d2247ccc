/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crc32c.c - CRC32C by the CPU's instruction, else by a table. Owns one constant table; takes no lock.
 */
#include "base/crc32c.h"

#include <string.h>

/* Steps of the reflected polynomial by one, two and four bits. */
#define P UINT32_C(0x82f63b78)
#define S1(c) (((c) >> 1) ^ (((c) & 1) ? P : 0))
#define S2(c) S1(S1(c))
#define S4(c) S2(S2(c))

static uint32_t step_byte(uint32_t crc, uint8_t byte)
{
	/* A nibble at a time: 64 bytes of table, which the compiler works out. */
	static const uint32_t nibble[16] = {
		S4(0U), S4(1U), S4(2U), S4(3U), S4(4U), S4(5U), S4(6U), S4(7U),
		S4(8U), S4(9U), S4(10U), S4(11U), S4(12U), S4(13U), S4(14U), S4(15U),
	};

	crc ^= byte;
	crc = (crc >> 4) ^ nibble[crc & 15];
	return (crc >> 4) ^ nibble[crc & 15];
}

static uint32_t crc_table(uint32_t crc, const uint8_t *p, size_t len)
{
	while (len-- > 0)
		crc = step_byte(crc, *p++);
	return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>

/*
 * The instruction takes three cycles and can be begun in each: three strands of PART bytes run side by side, and the
 * first two are then moved over what lies behind them by a carry-less product with x^(8n - 33) mod P (the 33: the
 * product is a bit short, and the instruction that takes it in shifts by 32).
 */
#define PART ((size_t)448)
#define PAST_1 UINT32_C(0x1b03397f)	/* n = PART */
#define PAST_2 UINT32_C(0x68bce87a)	/* n = 2 PART */

__attribute__((target("sse4.2"))) static inline uint64_t word(uint64_t c, const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof w);
	return _mm_crc32_u64(c, w);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_three(uint32_t crc, const uint8_t *p)
{
	uint64_t a = crc, b = 0, c = 0, last;
	__m128i x, y;

	for (size_t i = 0; i < PART - 8; i += 8) {
		a = word(a, p + i);
		b = word(b, p + PART + i);
		c = word(c, p + 2 * PART + i);
	}
	a = word(a, p + PART - 8);
	b = word(b, p + 2 * PART - 8);
	x = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)(uint32_t)a), _mm_cvtsi32_si128((int)PAST_2), 0);
	y = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)(uint32_t)b), _mm_cvtsi32_si128((int)PAST_1), 0);
	memcpy(&last, p + 3 * PART - 8, sizeof last);
	return (uint32_t)_mm_crc32_u64(c, last ^ (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(x, y)));
}

__attribute__((target("sse4.2"))) static uint32_t crc_cpu(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c;

	if (len >= 3 * PART && __builtin_cpu_supports("pclmul"))
		for (; len >= 3 * PART; p += 3 * PART, len -= 3 * PART)
			crc = crc_three(crc, p);
	c = crc;
	for (; len >= 8; p += 8, len -= 8)
		c = word(c, p);
	for (; len > 0; p++, len--)
		c = _mm_crc32_u8((uint32_t)c, *p);
	return (uint32_t)c;
}

static int have_cpu(void) { return __builtin_cpu_supports("sse4.2"); }

#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>

static uint32_t crc_cpu(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t w;

	for (; len >= sizeof w; p += sizeof w, len -= sizeof w) {
		memcpy(&w, p, sizeof w);
		crc = __crc32cd(crc, w);
	}
	for (; len > 0; p++, len--)
		crc = __crc32cb(crc, *p);
	return crc;
}

static int have_cpu(void) { return 1; }

#else
static uint32_t crc_cpu(uint32_t crc, const uint8_t *p, size_t len) { return crc_table(crc, p, len); }
static int have_cpu(void) { return 0; }
#endif

uint32_t pf_crc32c(uint32_t crc, const void *buf, size_t len)
{
	return ~(have_cpu() ? crc_cpu(~crc, buf, len) : crc_table(~crc, buf, len));
}

uint32_t pf_crc32c_soft(uint32_t crc, const void *buf, size_t len)
{
	return ~crc_table(~crc, buf, len);
}

uint32_t pf_crc32c_hole(const void *buf, size_t len, size_t hole)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	uint32_t crc = pf_crc32c(0, p, hole);

	crc = pf_crc32c(crc, zero, sizeof zero);
	return pf_crc32c(crc, p + hole + sizeof zero, len - hole - sizeof zero);
}
