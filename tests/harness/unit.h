/* SPDX-License-Identifier: BSD-3-Clause */
/* unit.h - the frame of a unit test program: one CUnit suite, its summary, an honest exit status. */
#ifndef PF_TESTS_UNIT_H
#define PF_TESTS_UNIT_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <pinfs/compiler.h>

struct unit_case { const char *name; void (*fn)(void); };

/* 0 when every case ran and passed. */
static inline int unit_main(const char *suite_name, const struct unit_case *cases, size_t n)
{
	CU_pSuite suite;
	unsigned int failed = 1, idle;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite(suite_name, NULL, NULL);
	if (suite == NULL)
		goto out;
	for (size_t i = 0; i < n; i++)
		if (CU_add_test(suite, cases[i].name, cases[i].fn) == NULL)
			goto out;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	if (CU_basic_run_tests() != CUE_SUCCESS)
		goto out;
	failed = CU_get_number_of_tests_failed();
	idle = CU_get_number_of_tests_inactive();
	(void)printf("%u passed, %u failed, %u skipped\n", CU_get_number_of_tests_run() - failed, failed, idle);
out:
	CU_cleanup_registry();
	return failed != 0;
}

#endif
