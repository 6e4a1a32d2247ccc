/* SPDX-License-Identifier: BSD-3-Clause */
/* profile.h - the answers of other systems as sets of option values. */
#ifndef PF_BASE_PROFILE_H
#define PF_BASE_PROFILE_H

#include "base/fs.h"

/* What opts->profile says, for all but the settings of the policy in @given: bit 1 << enum pf_policy_key. */
void pf_profile_apply(struct pf_opts *opts, unsigned int given);

#endif
