/* SPDX-License-Identifier: BSD-3-Clause */
/* op_policy.c - policies of files and descriptors. Takes INODE shared, for a look at attributes. */
#include "op/policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX 32U		/* no value is as long */

static void attr_name(enum pf_policy_key key, char name[32])
{
	(void)snprintf(name, 32, "%s%s", PF_POLICY_PREFIX, pf_policy_name[key]);
}

/* The value as text, or "" if there is none. One that is longer than any that is right counts as none. Lock held. */
static int get(struct pf_inode *ip, enum pf_policy_key key, char value[VALUE_MAX])
{
	char name[32];
	size_t len;
	int err;

	attr_name(key, name);
	err = pf_xattr_get(ip, name, value, VALUE_MAX - 1, &len);
	value[err == 0 ? len : 0] = '\0';
	return err == -ENODATA || err == -ERANGE ? 0 : err;
}

int pf_policy_of(struct pf_inode *ip, const struct pf_policy_over *over, struct pf_policy *out)
{
	char value[VALUE_MAX];
	const char *must;
	int err = 0;

	pf_fs_policy(ip->fs, out);
	pf_rwlock_rdlock(&ip->lock);
	if (pf_xattr_any(ip))
		for (unsigned int i = 0; i < PF_POLICY_NR && err == 0; i++) {
			err = get(ip, (enum pf_policy_key)i, value);
			/* What is no policy was put there by something else than us, and says nothing. */
			if (err == 0 && value[0] != '\0')
				(void)!pf_policy_set(out, (enum pf_policy_key)i, value, &must);
		}
	pf_rwlock_unlock(&ip->lock);
	if (over != NULL)
		pf_policy_merge(out, over);
	return err;
}

bool pf_policy_attr_ok(const char *name, const void *value, size_t len)
{
	const size_t prefix = sizeof PF_POLICY_PREFIX - 1;
	struct pf_policy p = { 0 };
	enum pf_policy_key key;
	char text[VALUE_MAX];
	const char *must;

	if (strncmp(name, PF_POLICY_PREFIX, prefix) != 0)
		return true;
	if (pf_policy_find(name + prefix, &key) != 0 || len >= sizeof text || memchr(value, '\0', len) != NULL)
		return false;
	memcpy(text, value, len);
	text[len] = '\0';
	return pf_policy_set(&p, key, text, &must) == 0;
}

int pf_policy_inherit(struct pf_inode *dir, mode_t mode, struct pf_policy_new *out)
{
	int err = 0;

	out->n = 0;
	if (!pf_xattr_any(dir) || !(S_ISREG(mode) || S_ISDIR(mode)))
		return 0;
	for (unsigned int i = 0; i < PF_POLICY_NR && err == 0; i++) {
		const unsigned int n = out->n;

		err = get(dir, (enum pf_policy_key)i, out->value[n]);
		if (err != 0 || out->value[n][0] == '\0')
			continue;
		attr_name((enum pf_policy_key)i, out->name[n]);
		out->x[n] = (struct pf_xchange){ .name = out->name[n], .value = out->value[n],
						 .len = strlen(out->value[n]) };
		out->n++;
	}
	return err;
}

int pf_op_would(struct pf_fs *fs, uint64_t ino, uint64_t foff, uint64_t len, pid_t pid, struct pf_would *out,
		struct pf_holder *who, unsigned int *n)
{
	struct pf_inode *ip;
	int err = len == 0 || len > UINT64_MAX - foff ? -EINVAL : pf_inode_get(fs, ino, &ip);

	if (err != 0)
		return err;
	err = pf_inode_isreg(ip) ? pf_policy_of(ip, NULL, &out->policy) : -EINVAL;
	if (err == 0) {
		const bool file = out->policy.scope == PF_SCOPE_FILE;
		const uint64_t end = pf_min64(foff + len, PF_FILE_MAX);
		struct pf_brk b = { .obj = &ip->lobj, .kind = PF_BRK_CUT, .policy = out->policy, .pid = pid,
				    .tid = pid };

		b.foff = pf_round_down(foff, PF_BLK_SIZE);
		b.len = end <= b.foff ? UINT64_MAX : pf_round_up(end, PF_BLK_SIZE) - b.foff;
		b.pin_foff = out->foff = file ? 0 : b.foff;
		b.pin_len = out->len = file ? UINT64_MAX : b.len;
		*n = pf_lay_would(fs, &b, who, *n, &out->meets);
	}
	pf_inode_put(ip);
	return err;
}
