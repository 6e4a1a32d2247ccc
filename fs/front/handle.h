/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handle.h - file handles: a number with one bit of state (may this descriptor write?), and for the few that were given
 * a policy of their own (PINFS_IOC_POLICY), that policy.
 */
#ifndef PF_FRONT_HANDLE_H
#define PF_FRONT_HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <pinfs/compiler.h>
#include "base/policy.h"

uint64_t pf_handle_new(bool write);
static inline bool pf_handle_writes(uint64_t fh) { return fh & 1; }

/* @over->set 0: none any more. -ENOMEM. */
int pf_handle_set(uint64_t fh, const struct pf_policy_over *over) PF_MUST_CHECK;
/* True: it has one. */
bool pf_handle_policy(uint64_t fh, struct pf_policy_over *out);
void pf_handle_release(uint64_t fh);

#endif
