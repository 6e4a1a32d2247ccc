/* SPDX-License-Identifier: BSD-3-Clause */
/* cases.c - the groups of cases of pinfs-conform. Its own tests have other ones (self/). */
#include "conform/cases.h"
#include "conform/engine.h"

#define CF_PLACE(var) &(var),
const struct cf_group *const cf_groups[] = { CF_GROUPS(CF_PLACE) };
const unsigned int cf_ngroup = PF_ARRAY_LEN(cf_groups);
