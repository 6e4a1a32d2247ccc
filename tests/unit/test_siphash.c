/* SPDX-License-Identifier: BSD-3-Clause */
/* test_siphash.c - the directory hash gives the published vectors of SipHash-2-4, and keys keep their shape. */
#include <CUnit/Basic.h>
#include <inttypes.h>
#include <stdio.h>
#include "base/siphash.h"

/* Key 00..0f, message 00 01 02 ... of the given length: from the authors' vectors. */
static void test_vectors(void)
{
	static const struct { size_t len; uint64_t sum; } v[] = {
		{ 0, UINT64_C(0x726fdb47dd0e0e31) },  { 1, UINT64_C(0x74f839c593dc67fd) },
		{ 7, UINT64_C(0xab0200f58b01d137) },  { 8, UINT64_C(0x93f5f5799a932462) },
		{ 15, UINT64_C(0xa129ca6149be45e5) }, { 63, UINT64_C(0x958a324ceb064572) },
	};
	uint8_t key[16], msg[64];

	for (unsigned int i = 0; i < sizeof msg; i++)
		msg[i] = (uint8_t)i;
	for (unsigned int i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
		CU_ASSERT_EQUAL(pf_siphash(key, msg, v[i].len), v[i].sum);
}

static void test_name_keys(void)
{
	const uint8_t key[16] = { 1, 2, 3 };
	char name[16];
	int len;

	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t k;

		len = snprintf(name, sizeof name, "file%u", i);
		k = pf_name_key(key, name, (size_t)len);
		CU_ASSERT_TRUE(k >= 256 && k >> 63 == 0 && (k & 255) == 0);
	}
}

int main(void)
{
	CU_pSuite suite;
	unsigned int bad;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite("siphash", NULL, NULL);
	CU_add_test(suite, "vectors", test_vectors);
	CU_add_test(suite, "name keys", test_name_keys);
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	bad = CU_get_number_of_failures();
	CU_cleanup_registry();
	return bad != 0;
}
