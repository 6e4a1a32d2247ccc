/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.h - which policy an operation follows: the mount's, changed by attributes user.pinfs.* of the file, changed by
 * what was set for its descriptor. Private to fs/op.
 *
 * A file takes over the attributes of its directory when it is made, as it does with a default access list; what is set
 * on the directory later is for files made later.
 */
#ifndef PF_OP_POLICY_H
#define PF_OP_POLICY_H

#include "obj/xattr.h"
#include "op/op.h"

#define PF_POLICY_PREFIX "user.pinfs."

/* Takes INODE shared if the inode has attributes. @over may be NULL. Media errors. */
int pf_policy_of(struct pf_inode *ip, const struct pf_policy_over *over, struct pf_policy *out) PF_MUST_CHECK;

/* May an attribute of this name have this value? True for names that are none of ours. */
bool pf_policy_attr_ok(const char *name, const void *value, size_t len);

/* What a new inode in @dir takes over; values lie in the struct. @dir's lock is held. */
struct pf_policy_new {
	unsigned int n;
	struct pf_xchange x[PF_POLICY_NR];
	char name[PF_POLICY_NR][32], value[PF_POLICY_NR][32];
};
int pf_policy_inherit(struct pf_inode *dir, mode_t mode, struct pf_policy_new *out) PF_MUST_CHECK;

#endif
