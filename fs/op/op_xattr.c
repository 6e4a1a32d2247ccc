/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_xattr.c - extended attributes as xattr(7) has them: which namespaces there are, on what, and what POSIX lists do
 * to the mode. The errors are ext4's.
 *
 * The kernel has checked who may: write permission for user., CAP_SYS_ADMIN for trusted., ownership for lists. Takes
 * INODE; each call is one transaction.
 */
#include <errno.h>
#include <string.h>

#include "base/fail.h"
#include "op/acl.h"
#include "op/flags.h"
#include "op/policy.h"

enum space { SPACE_USER, SPACE_TRUSTED, SPACE_SECURITY, SPACE_ACL_ACCESS, SPACE_ACL_DEFAULT };

static int space_of(const char *name, enum space *space)
{
	static const struct { const char *prefix; enum space space; } known[] = {
		{ "user.", SPACE_USER }, { "trusted.", SPACE_TRUSTED }, { "security.", SPACE_SECURITY },
	};

	if (strlen(name) > PF_NAME_MAX)
		return -ERANGE;
	for (size_t i = 0; i < PF_ARRAY_LEN(known); i++) {
		size_t n = strlen(known[i].prefix);

		if (strncmp(name, known[i].prefix, n) != 0)
			continue;
		*space = known[i].space;
		return name[n] == '\0' ? -EINVAL : 0;
	}
	if (strcmp(name, PF_ACL_ACCESS) == 0)
		*space = SPACE_ACL_ACCESS;
	else if (strcmp(name, PF_ACL_DEFAULT) == 0)
		*space = SPACE_ACL_DEFAULT;
	else
		return -EOPNOTSUPP;
	return 0;
}

static bool is_list(enum space space)
{
	return space == SPACE_ACL_ACCESS || space == SPACE_ACL_DEFAULT;
}

/* On anything but files and directories the mode bits say nothing of who may write, so there are no user attributes. */
static bool has_space(const struct pf_inode *ip, enum space space)
{
	return space != SPACE_USER || pf_inode_isreg(ip) || pf_inode_isdir(ip);
}

static int may_change(const struct pf_inode *ip, enum space space)
{
	if (pf_inode_sealed(ip) || !has_space(ip, space))
		return -EPERM;
	return is_list(space) && ip->fmt == S_IFLNK ? -EOPNOTSUPP : 0;
}

/* ---- lists ---- */

struct new_mode { mode_t mode; bool set, kill_sgid; };

static void put_mode(struct pf_d_inode *di, void *arg)
{
	const struct new_mode *m = arg;
	uint32_t mode = pf_get32(di->i_mode);

	if (m->set)
		mode = (mode & ~UINT32_C(0777)) | (m->mode & 0777);
	if (m->kill_sgid)
		mode &= ~(uint32_t)S_ISGID;
	di->i_mode = pf_put32(mode);
}

/* A list and the mode that shows it change together; a list that says no more than a mode is not kept. Lock held. */
static int set_list(struct pf_inode *ip, enum space space, struct pf_xchange *x, bool kill_sgid)
{
	struct new_mode m = { .kill_sgid = kill_sgid && space == SPACE_ACL_ACCESS };
	const struct pf_also also = { put_mode, &m };
	uint8_t blob[PF_ACL_BYTES];
	struct pf_acl acl;
	int err;

	err = pf_acl_parse(x->value, x->len, &acl);
	if (err == 0 && acl.n != 0 && space == SPACE_ACL_DEFAULT && !pf_inode_isdir(ip))
		err = -EACCES;
	if (err != 0)
		return err;
	m.set = acl.n != 0 && space == SPACE_ACL_ACCESS;
	if (acl.n == 0 || (m.set && pf_acl_equals_mode(&acl, &m.mode))) {
		x->value = NULL;
	} else {
		x->value = blob;
		x->len = pf_acl_format(&acl, blob);
	}
	return pf_xattr_change(ip, x, &also);
}

/* ---- verbs ---- */

static int change(struct pf_fs *fs, uint64_t ino, struct pf_xchange *x, bool kill_sgid)
{
	enum space space;
	struct pf_inode *ip;
	int err = pf_fs_writable(fs);

	if (err == 0)
		err = space_of(x->name, &space);
	if (err == 0)
		err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_wrlock(&ip->lock);
	err = may_change(ip, space);
	x->missing_ok = is_list(space);		/* as everywhere: to remove a list leaves none, and that is all */
	if (err == 0 && x->value != NULL && is_list(space))
		err = set_list(ip, space, x, kill_sgid);
	else if (err == 0)
		err = pf_xattr_change(ip, x, NULL);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

int pf_op_setxattr(struct pf_fs *fs, uint64_t ino, const char *name, const void *value, size_t len, int flags,
		   bool kill_sgid)
{
	struct pf_xchange x = { .name = name, .value = value, .len = len, .flags = flags };

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (len > PF_XATTR_VALUE_MAX)
		return -E2BIG;
	if (!pf_policy_attr_ok(name, value, len))
		return -EINVAL;
	return change(fs, ino, &x, kill_sgid);
}

int pf_op_removexattr(struct pf_fs *fs, uint64_t ino, const char *name)
{
	struct pf_xchange x = { .name = name };

	return change(fs, ino, &x, false);
}

/* The one that is not stored: what FUSE cannot say in statx(2). */
static int get_statx(struct pf_fs *fs, uint64_t ino, void *buf, size_t size, size_t *len)
{
	struct pinfs_statx px;
	struct pf_inode *ip;
	int err;

	if (size != 0 && size < sizeof px)
		return -ERANGE;
	err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	px = pf_statx_of(ip);
	pf_inode_put(ip);
	if (size != 0)
		memcpy(buf, &px, sizeof px);
	*len = sizeof px;
	return 0;
}

int pf_op_getxattr(struct pf_fs *fs, uint64_t ino, const char *name, void *buf, size_t size, size_t *len)
{
	enum space space;
	struct pf_inode *ip;
	int err = space_of(name, &space);

	if (strcmp(name, PINFS_XATTR_STATX) == 0)
		return get_statx(fs, ino, buf, size, len);
	if (err == 0)
		err = pf_inode_get(fs, ino, &ip);
	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	if (!has_space(ip, space))
		err = -ENODATA;
	else if (is_list(space) && ip->fmt == S_IFLNK)
		err = -EOPNOTSUPP;
	else
		err = pf_xattr_get(ip, name, buf, size, len);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	return err;
}

struct list { char *buf; size_t size, len; bool trusted, hidden; };

static bool add_name(void *arg, const char *name, size_t len)
{
	static const char prefix[] = "trusted.";
	struct list *l = arg;

	if (!l->trusted && len >= sizeof prefix - 1 && memcmp(name, prefix, sizeof prefix - 1) == 0) {
		l->hidden = true;
		return true;
	}
	if (l->size > l->len && len < l->size - l->len) {
		memcpy(l->buf + l->len, name, len);
		l->buf[l->len + len] = '\0';
	}
	l->len += len + 1;
	return true;
}

int pf_op_listxattr(struct pf_fs *fs, uint64_t ino, bool trusted, char *buf, size_t size, size_t *len, bool *hidden)
{
	struct list l = { .buf = buf, .size = size, .trusted = trusted };
	struct pf_inode *ip;
	int err = pf_inode_get(fs, ino, &ip);

	if (err != 0)
		return err;
	pf_rwlock_rdlock(&ip->lock);
	err = pf_xattr_each(ip, add_name, &l);
	pf_rwlock_unlock(&ip->lock);
	pf_inode_put(ip);
	if (err == 0 && size != 0 && l.len > size)
		err = -ERANGE;
	if (err == 0) {
		*len = l.len;
		*hidden = l.hidden;
	}
	return err;
}
