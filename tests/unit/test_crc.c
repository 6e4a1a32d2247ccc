/* SPDX-License-Identifier: BSD-3-Clause */
/* test_crc.c - CRC32C: published vectors, the CPU's path against the table, pieces against the whole. */
#include "harness/unit.h"

#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"

static void vectors(void)
{
	uint8_t buf[32];

	/* RFC 3720 B.4 */
	CU_ASSERT_EQUAL(pf_crc32c(0, "123456789", 9), 0xe3069283u);
	memset(buf, 0, sizeof buf);
	CU_ASSERT_EQUAL(pf_crc32c(0, buf, 32), 0x8a9136aau);
	memset(buf, 0xff, sizeof buf);
	CU_ASSERT_EQUAL(pf_crc32c(0, buf, 32), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		buf[i] = (uint8_t)i;
	CU_ASSERT_EQUAL(pf_crc32c(0, buf, 32), 0x46dd794eu);
	CU_ASSERT_EQUAL(pf_crc32c_soft(0, buf, 32), 0x46dd794eu);
	CU_ASSERT_EQUAL(pf_crc32c(0, buf, 0), 0);
}

static void paths_agree(void)
{
	static uint8_t buf[6000];

	srand(1);
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (uint8_t)rand();
	for (int n = 0; n < 4000; n++) {
		size_t off = (size_t)rand() % 64, len = (size_t)rand() % (sizeof buf - 64);
		size_t cut = len ? (size_t)rand() % len : 0;
		uint32_t whole = pf_crc32c(0, buf + off, len);

		CU_ASSERT_EQUAL(whole, pf_crc32c_soft(0, buf + off, len));
		CU_ASSERT_EQUAL(whole, pf_crc32c(pf_crc32c(0, buf + off, cut), buf + off + cut, len - cut));
	}
}

static void hole(void)
{
	uint8_t buf[64], zeroed[64];

	for (int i = 0; i < 64; i++)
		buf[i] = zeroed[i] = (uint8_t)(i * 7 + 1);
	memset(zeroed + 8, 0, 4);
	CU_ASSERT_EQUAL(pf_crc32c_hole(buf, 64, 8), pf_crc32c(0, zeroed, 64));
	CU_ASSERT_NOT_EQUAL(pf_crc32c_hole(buf, 64, 8), pf_crc32c(0, buf, 64));
	/* Twin: a checksum that did not cover a byte would not see it change. */
	for (size_t i = 0; i < 64; i++) {
		uint32_t before = pf_crc32c_hole(buf, 64, 8);

		buf[i] ^= 1;
		if (i >= 8 && i < 12)
			CU_ASSERT_EQUAL(pf_crc32c_hole(buf, 64, 8), before)
		else
			CU_ASSERT_NOT_EQUAL(pf_crc32c_hole(buf, 64, 8), before);
		buf[i] ^= 1;
	}
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "published vectors", vectors },
		{ "instruction equals table, pieces equal the whole", paths_agree },
		{ "own field read as zero", hole },
	};

	return unit_main("crc", cases, PF_ARRAY_LEN(cases));
}
