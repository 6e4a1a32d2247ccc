/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr.h - extended attributes of an inode: names with their prefix, values up to 64 KiB, O(log n) each.
 *
 * The caller holds the inode's lock: shared for reading, exclusive for changes. What a name or value means, and who may
 * use it, is op/'s business.
 */
#ifndef PF_OBJ_XATTR_H
#define PF_OBJ_XATTR_H

#include <sys/xattr.h>
#include "obj/inode.h"

#define PF_XATTR_LIST_MAX 65536U	/* what listxattr(2) can show: the names with a NUL behind each */
#define PF_XATTR_CAP "security.capability"

/* Cheap: false means that every other call would find nothing. */
static inline bool pf_xattr_any(const struct pf_inode *ip) { return pf_get16(ip->d.i_xroot.x_count) != 0; }

/* The value, or with @size 0 only its length. -ENODATA, -ERANGE (@size is too small), -EUCLEAN. */
int pf_xattr_get(struct pf_inode *ip, const char *name, void *buf, size_t size, size_t *len) PF_MUST_CHECK;
/* Every name, not terminated, in no useful order, until @fn returns false. */
typedef bool (*pf_xattr_fn)(void *arg, const char *name, size_t len);
int pf_xattr_each(struct pf_inode *ip, pf_xattr_fn fn, void *arg) PF_MUST_CHECK;

/*
 * One attribute to be set, or removed if @value is NULL. A value that is too long for a leaf is written, durably, into
 * blocks before the transaction:
 *
 *   pf_xattr_prepare()     -ENOSPC
 *   pf_xattr_apply()       inside the transaction, after pf_inode_edit()
 *   pf_xattr_drop()        afterwards, however it ended, also when nothing was prepared
 */
struct pf_xchange {
	const char *name;		/* 1..255 bytes */
	const void *value;
	size_t len;			/* up to PF_XATTR_VALUE_MAX */
	int flags;			/* XATTR_CREATE, XATTR_REPLACE */
	bool missing_ok;		/* to remove what is not there is no error */

	unsigned int nrun;
	unsigned int taken;		/* of them, runs that are the transaction's by now */
	struct pf_run run[PF_XATTR_RUNS];
	uint32_t crc;
};
int pf_xattr_prepare(struct pf_fs *fs, struct pf_xchange *x) PF_MUST_CHECK;
/* -EEXIST, -ENODATA, -ENOSPC: no room, or listxattr(2) could not show the name. */
int pf_xattr_apply(struct pf_tx *tx, struct pf_inode *ip, struct pf_xchange *x) PF_MUST_CHECK;
void pf_xattr_drop(struct pf_fs *fs, struct pf_xchange *x);

/* All of it, in one transaction, which also sets ctime and calls @also (may be NULL). */
int pf_xattr_change(struct pf_inode *ip, struct pf_xchange *x, const struct pf_also *also) PF_MUST_CHECK;

/* The file is about to change: its security.capability goes, in a transaction of its own, as on any Linux filesystem.
 * Costs nothing when it is known that there is none. */
int pf_xattr_kill_cap(struct pf_inode *ip) PF_MUST_CHECK;

/* Free attributes, values and leaves, as many as this transaction can hold; *done: all. For an inode that is being
 * freed: when it is cut short the tree is sound, but attributes are missing. */
int pf_xattr_cut(struct pf_tx *tx, struct pf_inode *ip, bool *done) PF_MUST_CHECK;

#endif
