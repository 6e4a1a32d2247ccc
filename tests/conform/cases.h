/* SPDX-License-Identifier: BSD-3-Clause */
/* cases.h - the groups of cases, in the order of the report: a line for each case_*.c. */
#ifndef CONFORM_CASES_H
#define CONFORM_CASES_H

#include "conform/conform.h"

#define CF_GROUPS(X) \
	X(cf_break) \
	X(cf_behind) \
	X(cf_wait) \
	X(cf_pins) \
	X(cf_reuse) \
	X(cf_ports) \
	X(cf_errno) \
	X(cf_takers) \
	X(cf_longterm) \
	X(cf_policy) \
	X(cf_lease) \
	X(cf_own) \
	X(cf_fault) \
	X(cf_huge) \
	X(cf_sync) \
	X(cf_media) \
	X(cf_flags) \
	X(cf_mount_group)

#define CF_DECLARE(var) extern const struct cf_group var;
CF_GROUPS(CF_DECLARE)

#endif
