/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acl.c - POSIX access control lists, as acl(5) and the kernel have them.
 *
 * The kernel checks permissions with the lists that it reads as attributes; it is told to by FUSE_POSIX_ACL. What only
 * a filesystem can do is here: a new file's list is made with the file, the mode and the list stay in step.
 */
#include "op/acl.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <unistd.h>
#include "base/fail.h"

/* As in <linux/posix_acl_xattr.h>, but with our integers. */
struct head { pf_le32 version; };
struct entry { pf_le16 tag, perm; pf_le32 id; };
_Static_assert(sizeof(struct head) == sizeof(struct posix_acl_xattr_header), "the header of a list");
_Static_assert(sizeof(struct entry) == sizeof(struct posix_acl_xattr_entry), "an entry of a list");

static bool named(uint16_t tag)
{
	return tag == ACL_USER || tag == ACL_GROUP;
}

/*
 * The owner, users, the owning group, groups, the mask, others, in this order. The mask may be left out when nobody is
 * named.
 */
static bool valid(const struct pf_acl *acl)
{
	uint16_t at = ACL_USER_OBJ;
	bool mask_needed = false;

	for (unsigned int i = 0; i < acl->n; i++) {
		const struct pf_acl_ent *e = &acl->e[i];

		if (e->perm & ~7U || (named(e->tag) && e->id == (uint32_t)-1))
			return false;
		switch (e->tag) {
		case ACL_USER_OBJ:
			if (at != ACL_USER_OBJ)
				return false;
			at = ACL_USER;
			break;
		case ACL_USER:
			if (at != ACL_USER)
				return false;
			mask_needed = true;
			break;
		case ACL_GROUP_OBJ:
			if (at != ACL_USER)
				return false;
			at = ACL_GROUP;
			break;
		case ACL_GROUP:
			if (at != ACL_GROUP)
				return false;
			mask_needed = true;
			break;
		case ACL_MASK:
			if (at != ACL_GROUP)
				return false;
			at = ACL_OTHER;
			break;
		case ACL_OTHER:
			if (at != ACL_OTHER && (at != ACL_GROUP || mask_needed))
				return false;
			at = 0;
			break;
		default:
			return false;
		}
	}
	return at == 0;
}

int pf_acl_parse(const void *blob, size_t len, struct pf_acl *acl)
{
	const struct entry *e = (const void *)((const uint8_t *)blob + sizeof(struct head));
	struct head head;

	if (len < sizeof head || (len - sizeof head) % sizeof *e != 0)
		return -EINVAL;
	memcpy(&head, blob, sizeof head);
	if (pf_get32(head.version) != POSIX_ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	if (len > PF_ACL_BYTES)
		return -E2BIG;
	acl->n = (unsigned int)((len - sizeof head) / sizeof *e);
	for (unsigned int i = 0; i < acl->n; i++) {
		struct entry d;

		memcpy(&d, e + i, sizeof d);
		acl->e[i] = (struct pf_acl_ent){ pf_get16(d.tag), pf_get16(d.perm), pf_get32(d.id) };
	}
	return acl->n == 0 || valid(acl) ? 0 : -EINVAL;
}

size_t pf_acl_format(const struct pf_acl *acl, void *blob)
{
	uint8_t *at = (uint8_t *)blob + sizeof(struct head);

	*(struct head *)blob = (struct head){ pf_put32(POSIX_ACL_XATTR_VERSION) };
	for (unsigned int i = 0; i < acl->n; i++) {
		const struct pf_acl_ent *e = &acl->e[i];
		const uint32_t id = named(e->tag) ? e->id : (uint32_t)ACL_UNDEFINED_ID;
		const struct entry d = { pf_put16(e->tag), pf_put16(e->perm), pf_put32(id) };

		memcpy(at, &d, sizeof d);
		at += sizeof d;
	}
	return (size_t)(at - (uint8_t *)blob);
}

bool pf_acl_equals_mode(const struct pf_acl *acl, mode_t *mode)
{
	mode_t u = 0, g = 0, o = 0, mask = 7;
	bool all = true;

	for (unsigned int i = 0; i < acl->n; i++) {
		const struct pf_acl_ent *e = &acl->e[i];

		if (e->tag == ACL_USER_OBJ)
			u = e->perm;
		else if (e->tag == ACL_GROUP_OBJ)
			g = e->perm;
		else if (e->tag == ACL_OTHER)
			o = e->perm;
		else
			all = false;
		if (e->tag == ACL_MASK)
			mask = 010U | e->perm;
	}
	/* The group's bits show the mask when there is one: the most that anybody but the owner and others can have. */
	if (mask & 010)
		g = mask & 7;
	*mode = (*mode & ~(mode_t)0777) | u << 6 | g << 3 | o;
	return all;
}

/* The entry whose place the group's bits of a mode take. */
static struct pf_acl_ent *group_bits(struct pf_acl *acl)
{
	struct pf_acl_ent *group = NULL;

	for (unsigned int i = 0; i < acl->n; i++) {
		if (acl->e[i].tag == ACL_MASK)
			return &acl->e[i];
		if (acl->e[i].tag == ACL_GROUP_OBJ)
			group = &acl->e[i];
	}
	return group;
}

void pf_acl_chmod(struct pf_acl *acl, mode_t mode)
{
	struct pf_acl_ent *group = group_bits(acl);

	for (unsigned int i = 0; i < acl->n; i++) {
		if (acl->e[i].tag == ACL_USER_OBJ)
			acl->e[i].perm = mode >> 6 & 7;
		else if (acl->e[i].tag == ACL_OTHER)
			acl->e[i].perm = mode & 7;
	}
	if (group != NULL)
		group->perm = mode >> 3 & 7;
}

bool pf_acl_create(struct pf_acl *acl, mode_t *mode)
{
	struct pf_acl_ent *group = group_bits(acl);

	for (unsigned int i = 0; i < acl->n; i++) {
		struct pf_acl_ent *e = &acl->e[i];

		if (e->tag == ACL_USER_OBJ)
			e->perm &= *mode >> 6 & 7;
		else if (e->tag == ACL_OTHER)
			e->perm &= *mode & 7;
	}
	if (group != NULL)
		group->perm &= *mode >> 3 & 7;
	return pf_acl_equals_mode(acl, mode);
}

int pf_acl_permits(const struct pf_acl *acl, uid_t owner, gid_t group, const struct pf_cred *c, int want)
{
	const unsigned int w = (unsigned int)want & (R_OK | W_OK | X_OK);
	const struct pf_acl_ent *hit = NULL;
	unsigned int mask = 7;
	bool in_group = false;

	for (unsigned int i = 0; i < acl->n; i++)
		if (acl->e[i].tag == ACL_MASK)
			mask = acl->e[i].perm;
	for (unsigned int i = 0; i < acl->n && hit == NULL; i++) {
		const struct pf_acl_ent *e = &acl->e[i];

		switch (e->tag) {
		case ACL_USER_OBJ:
			if (c->uid == owner)
				return w & ~(unsigned int)e->perm ? -EACCES : 0;
			break;
		case ACL_USER:
			if (e->id == c->uid)
				hit = e;
			break;
		case ACL_GROUP_OBJ:
		case ACL_GROUP:
			/* Any of his groups that allows it will do. */
			if (!pf_in_group(c, e->tag == ACL_GROUP_OBJ ? group : e->id))
				break;
			in_group = true;
			if ((w & ~(unsigned int)e->perm) == 0)
				hit = e;
			break;
		case ACL_OTHER:
			return in_group || w & ~(unsigned int)e->perm ? -EACCES : 0;
		default:
			break;
		}
	}
	if (hit == NULL)
		return -EUCLEAN;
	return w & ~(hit->perm & mask) ? -EACCES : 0;
}

/* ---- lists of inodes ---- */

int pf_acl_get(struct pf_inode *ip, const char *name, struct pf_acl *acl)
{
	uint8_t blob[PF_ACL_BYTES];
	size_t len;
	int err = pf_xattr_get(ip, name, blob, sizeof blob, &len);

	if (err != 0 && err != -ERANGE)
		return err;
	if (err == 0)
		err = pf_acl_parse(blob, len, acl);
	if (err == 0 && acl->n != 0)
		return 0;
	pf_fs_fail(ip->fs, PF_FAULT_DAMAGE, "damaged attribute of inode %llu: %s is no valid list",
		   (unsigned long long)ip->ino, name);
	return -EUCLEAN;
}

static struct pf_xchange setting(const char *name, const struct pf_acl *acl, void *blob)
{
	return (struct pf_xchange){ .name = name, .value = blob, .len = pf_acl_format(acl, blob) };
}

int pf_acl_inherit(struct pf_inode *dir, mode_t mode, mode_t umask, struct pf_acl_new *out)
{
	struct pf_acl acl;
	int err = S_ISLNK(mode) || !pf_xattr_any(dir) ? -ENODATA : pf_acl_get(dir, PF_ACL_DEFAULT, &acl);

	out->n = 0;
	out->mode = mode;
	if (err == -ENODATA) {
		if (!S_ISLNK(mode))
			out->mode &= ~(umask & 0777);
		return 0;
	}
	if (err != 0)
		return err;
	if (S_ISDIR(mode))
		out->x[out->n++] = setting(PF_ACL_DEFAULT, &acl, out->def);
	if (!pf_acl_create(&acl, &out->mode))
		out->x[out->n++] = setting(PF_ACL_ACCESS, &acl, out->access);
	return 0;
}

int pf_acl_for_mode(struct pf_inode *ip, mode_t mode, struct pf_xchange *x, void *blob, bool *yes)
{
	struct pf_acl acl;
	int err = pf_xattr_any(ip) ? pf_acl_get(ip, PF_ACL_ACCESS, &acl) : -ENODATA;

	*yes = err == 0;
	if (err != 0)
		return err == -ENODATA ? 0 : err;
	pf_acl_chmod(&acl, mode);
	*x = setting(PF_ACL_ACCESS, &acl, blob);
	return 0;
}
