/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acl.h - POSIX access control lists: their form as an attribute, and what they mean for a mode and for an access.
 * Private to fs/op. Nothing here takes a lock; what takes an inode wants its lock held.
 */
#ifndef PF_OP_ACL_H
#define PF_OP_ACL_H

#include "obj/xattr.h"
#include "op/op.h"

#define PF_ACL_ACCESS "system.posix_acl_access"
#define PF_ACL_DEFAULT "system.posix_acl_default"
#define PF_ACL_BYTES 4096U		/* the kernel has no room for a longer one in its requests */
#define PF_ACL_ENTRIES ((PF_ACL_BYTES - 4) / 8)

struct pf_acl {
	unsigned int n;
	struct pf_acl_ent { uint16_t tag, perm; uint32_t id; } e[PF_ACL_ENTRIES];
};

/* From the attribute's bytes. 0 with acl->n 0: no entries. -EINVAL (not a list, or not a valid one), -EOPNOTSUPP
 * (another version), -E2BIG. */
int pf_acl_parse(const void *blob, size_t len, struct pf_acl *acl) PF_MUST_CHECK;
/* Into @blob, of PF_ACL_BYTES; returns the length. */
size_t pf_acl_format(const struct pf_acl *acl, void *blob);
/* The nine bits of @mode that show this list. True: they say all that the list does. */
bool pf_acl_equals_mode(const struct pf_acl *acl, mode_t *mode);
/* chmod(2): the list follows the mode. */
void pf_acl_chmod(struct pf_acl *acl, mode_t mode);
/* A default list becomes a new file's: both give up what the other does not allow. True: the mode says it all. */
bool pf_acl_create(struct pf_acl *acl, mode_t *mode);
/* The one that requests come with, or one of the others? */
static inline bool pf_in_group(const struct pf_cred *c, gid_t gid)
{
	bool in = c->gid == gid;

	for (size_t i = 0; i < c->ngroup && !in; i++)
		in = c->groups[i] == gid;
	return in;
}
/* 0, -EACCES, -EUCLEAN. @want: R_OK, W_OK, X_OK. */
int pf_acl_permits(const struct pf_acl *acl, uid_t owner, gid_t group, const struct pf_cred *c, int want) PF_MUST_CHECK;

/* One of the lists of an inode. -ENODATA. A stored list that is not valid: -EUCLEAN. */
int pf_acl_get(struct pf_inode *ip, const char *name, struct pf_acl *acl) PF_MUST_CHECK;

/* What a new inode in @dir gets. n 0: only the mode. */
struct pf_acl_new {
	mode_t mode;
	unsigned int n;
	struct pf_xchange x[2];
	uint8_t access[PF_ACL_BYTES], def[PF_ACL_BYTES];
};
int pf_acl_inherit(struct pf_inode *dir, mode_t mode, mode_t umask, struct pf_acl_new *out) PF_MUST_CHECK;

/* chmod(2) to @mode: *x sets the list that goes with it, into @blob (PF_ACL_BYTES); false in *yes: there is none. */
int pf_acl_for_mode(struct pf_inode *ip, mode_t mode, struct pf_xchange *x, void *blob, bool *yes) PF_MUST_CHECK;

#endif
