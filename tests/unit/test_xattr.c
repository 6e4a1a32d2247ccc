/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_xattr.c - extended attributes against an array that knows the truth: values in leaves and in blocks of their
 * own, leaves that split, merge and go, a full device, the end of the inode.
 */
#include "harness/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "base/log.h"
#include "media/pmem.h"
#include "obj/xattr.h"
#include "op/acl.h"
#include "unit/op_env.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t seed;
static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

static uint64_t free_blocks(struct op_env *e)
{
	struct statvfs st;

	CU_ASSERT_EQUAL_FATAL(pf_op_statfs(e->fs, &st), 0);
	return st.f_bfree;
}

static int set(struct op_env *e, uint64_t ino, const char *name, const void *value, size_t len, int flags)
{
	return pf_op_setxattr(e->fs, ino, name, value, len, flags, false);
}

/* ---- against a model ---- */

#define NAMES 60U
#define VALUE_MAX 65536U

struct value { uint32_t len; bool there; uint8_t first, last; };

static void fill(uint8_t *buf, struct value *v)
{
	v->first = (uint8_t)rnd(256);
	memset(buf, v->first, v->len);
	if (v->len > 1) {
		v->last = (uint8_t)rnd(256);
		buf[v->len - 1] = v->last;
	}
}

static void name_of(char *buf, unsigned int i)
{
	static const char *const prefix[] = { "user.", "trusted.", "security." };
	size_t len = (size_t)sprintf(buf, "%s%u-", prefix[i % 3], i), extra = i * 37 % 200;

	memset(buf + len, 'n', extra);
	buf[len + extra] = '\0';
}

static uint32_t some_length(void)
{
	switch (rnd(8)) {
	case 0:
		return 0;
	case 1:
		return (uint32_t)rnd(1100);
	case 2:
		return 1020 + (uint32_t)rnd(10);
	case 3:
		return 4090 + (uint32_t)rnd(10);
	case 4:
		return (uint32_t)rnd(VALUE_MAX + 1);
	default:
		return (uint32_t)rnd(120);
	}
}

static void check_list(struct op_env *e, uint64_t ino, const struct value *model)
{
	char *list = malloc(PF_XATTR_LIST_MAX), want[256];
	size_t len = 0, probe = 0, shown = 0;
	bool hidden = false;
	unsigned int n = 0, found = 0;

	CU_ASSERT_EQUAL_FATAL(pf_op_listxattr(e->fs, ino, true, NULL, 0, &probe, &hidden), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_listxattr(e->fs, ino, true, list, PF_XATTR_LIST_MAX, &len, &hidden), 0);
	CU_ASSERT_EQUAL(len, probe);
	if (len != 0)
		CU_ASSERT_EQUAL(pf_op_listxattr(e->fs, ino, true, list, len - 1, &probe, &hidden), -ERANGE);
	for (unsigned int i = 0; i < NAMES; i++) {
		size_t at = 0;

		n += model[i].there;
		name_of(want, i);
		while (at < len && strcmp(list + at, want) != 0)
			at += strlen(list + at) + 1;
		CU_ASSERT_EQUAL_FATAL(at < len, model[i].there);
	}
	for (size_t at = 0; at < len; at += strlen(list + at) + 1)
		found++;
	CU_ASSERT_EQUAL(found, n);
	/* Without the right to see them, trusted ones are left out, and it is said. */
	CU_ASSERT_EQUAL(pf_op_listxattr(e->fs, ino, false, list, PF_XATTR_LIST_MAX, &shown, &hidden), 0);
	CU_ASSERT_EQUAL(hidden, shown < len);
	for (size_t at = 0; at < shown; at += strlen(list + at) + 1)
		CU_ASSERT(strncmp(list + at, "trusted.", 8) != 0);
	free(list);
}

static void check_all(struct op_env *e, uint64_t ino, const struct value *model)
{
	uint8_t *buf = malloc(VALUE_MAX);
	char name[256];

	for (unsigned int i = 0; i < NAMES; i++) {
		const struct value *v = &model[i];
		size_t len = 0;
		int err;

		name_of(name, i);
		err = pf_op_getxattr(e->fs, ino, name, NULL, 0, &len);
		CU_ASSERT_EQUAL_FATAL(err, v->there ? 0 : -ENODATA);
		if (!v->there)
			continue;
		CU_ASSERT_EQUAL_FATAL(len, v->len);
		if (v->len > 1)
			CU_ASSERT_EQUAL(pf_op_getxattr(e->fs, ino, name, buf, v->len - 1, &len), -ERANGE);
		if (v->len == 0)
			continue;
		CU_ASSERT_EQUAL_FATAL(pf_op_getxattr(e->fs, ino, name, buf, VALUE_MAX, &len), 0);
		CU_ASSERT_EQUAL_FATAL(len, v->len);
		for (uint32_t k = 0; k + 1 < v->len; k++)
			CU_ASSERT_FATAL(buf[k] == v->first);
		CU_ASSERT(buf[v->len - 1] == (v->len > 1 ? v->last : v->first));
	}
	check_list(e, ino, model);
	free(buf);
}

static void against_model(void)
{
	static struct value model[NAMES];
	uint8_t *buf = malloc(VALUE_MAX);
	uint64_t ino, blocks, free0;
	struct op_env e;
	char name[256];

	seed = 4711;
	memset(model, 0, sizeof model);
	op_env_open(&e, 32 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL(op_write(&e, ino, 0, "data", 4), 4);
	blocks = op_blocks(&e, ino);
	free0 = free_blocks(&e);
	for (unsigned int step = 0; step < 4000; step++) {
		/* Long stretches of growth and of shrinking. */
		bool grow = rnd(10) < (step / 500 % 2 == 0 ? 8 : 3);
		unsigned int i = (unsigned int)rnd(NAMES);
		struct value v = { .there = true, .len = some_length() };

		name_of(name, i);
		if (grow) {
			int flags = rnd(4) == 0 ? XATTR_CREATE : rnd(4) == 0 ? XATTR_REPLACE : 0;
			int want = model[i].there ? (flags == XATTR_CREATE ? -EEXIST : 0) :
						    (flags == XATTR_REPLACE ? -ENODATA : 0);

			fill(buf, &v);
			CU_ASSERT_EQUAL_FATAL(set(&e, ino, name, buf, v.len, flags), want);
			if (want == 0)
				model[i] = v;
		} else {
			CU_ASSERT_EQUAL_FATAL(pf_op_removexattr(e.fs, ino, name), model[i].there ? 0 : -ENODATA);
			model[i].there = false;
		}
		if (step % 200 == 199)
			check_all(&e, ino, model);
		if (step % 500 == 499)
			op_env_remount(&e);
	}
	for (unsigned int i = 0; i < NAMES; i++) {
		name_of(name, i);
		CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, name), model[i].there ? 0 : -ENODATA);
	}
	CU_ASSERT_EQUAL(op_blocks(&e, ino), blocks);
	CU_ASSERT_EQUAL(free_blocks(&e), free0);
	free(buf);
	op_env_close(&e);
}

/* ---- many ---- */

/* Names until listxattr(2) could not show one more; then all of them go, in another order. */
static void as_many_as_can_be_listed(void)
{
	unsigned int n = 0, step = 3571;	/* a prime: a walk over all of them */
	uint64_t ino, free0;
	char name[64], value[300], *list;
	struct pf_inode *ip;
	struct op_env e;
	size_t len;
	bool hidden;
	int err;

	op_env_open(&e, 32 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	free0 = free_blocks(&e);
	memset(value, 'v', sizeof value);
	for (;; n++) {
		(void)sprintf(name, "user.%u", n);
		err = set(&e, ino, name, value, n % sizeof value, XATTR_CREATE);
		if (err != 0)
			break;
	}
	CU_ASSERT_EQUAL(err, -ENOSPC);
	list = malloc(PF_XATTR_LIST_MAX);
	CU_ASSERT_EQUAL(pf_op_listxattr(e.fs, ino, false, list, PF_XATTR_LIST_MAX, &len, &hidden), 0);
	CU_ASSERT(len <= PF_XATTR_LIST_MAX && len + strlen(name) + 1 > PF_XATTR_LIST_MAX);
	free(list);
	/* What is there can change; a short name may still fit. The bound is found anew after a mount. */
	CU_ASSERT_EQUAL(set(&e, ino, "user.7", value, 200, XATTR_REPLACE), 0);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(set(&e, ino, name, value, 1, 0), -ENOSPC);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, "user.1000"), 0);
	CU_ASSERT_EQUAL(set(&e, ino, "user.1000", value, 1, 0), 0);

	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	CU_ASSERT(pf_get16(ip->d.i_xroot.x_level) >= 1 && pf_get16(ip->d.i_xroot.x_level) <= 2);
	pf_inode_put(ip);
	CU_ASSERT_FATAL(n > 5000 && n != step);
	for (unsigned int i = 0, k = 0; i < n; i++, k = (k + step) % n) {
		(void)sprintf(name, "user.%u", k);
		CU_ASSERT_EQUAL_FATAL(pf_op_getxattr(e.fs, ino, name, NULL, 0, &len), 0);
		CU_ASSERT_EQUAL_FATAL(pf_op_removexattr(e.fs, ino, name), 0);
	}
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 0);
	CU_ASSERT_EQUAL(free_blocks(&e), free0);
	op_env_close(&e);
}

/* An inode goes with all its attributes: also when that takes many transactions, and from every type of inode. */
static void the_end_of_an_inode(void)
{
	static const struct { const char *name; mode_t mode; } kinds[] = {
		{ "f", S_IFREG | 0644 }, { "p", S_IFIFO | 0644 }, { "c", S_IFCHR | 0644 },
	};
	struct pf_entry entry;
	uint64_t ino, free0;
	struct op_env e;
	char name[64];
	uint8_t *buf = calloc(1, VALUE_MAX);

	op_env_open(&e, 64 * MIB);
	/* The first one that goes leaves a block of the orphan file behind. */
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "first", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "first"), 0);
	free0 = free_blocks(&e);
	for (size_t i = 0; i < PF_ARRAY_LEN(kinds); i++) {
		CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, kinds[i].name, kinds[i].mode, 0,
						  &entry), 0);
		for (unsigned int k = 0; k < 400; k++) {
			(void)sprintf(name, "trusted.%u", k);
			CU_ASSERT_EQUAL_FATAL(set(&e, entry.ino, name, buf, k % 3 == 0 ? 3000 + k * 10 : k, 0), 0);
		}
		pf_op_forget(e.fs, entry.ino, 1);
		op_env_remount(&e);
		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, kinds[i].name), 0);
		CU_ASSERT_EQUAL(free_blocks(&e), free0);
	}
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, PF_INO_ROOT, "d", &ino), 0);
	CU_ASSERT_EQUAL(set(&e, ino, "user.x", buf, VALUE_MAX, 0), 0);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 17);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "d"), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_symlink(e.fs, &op_root, PF_INO_ROOT, "l", "target", &entry), 0);
	CU_ASSERT_EQUAL(set(&e, entry.ino, "trusted.x", buf, 5000, 0), 0);
	pf_op_forget(e.fs, entry.ino, 1);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "l"), 0);
	CU_ASSERT_EQUAL(free_blocks(&e), free0);
	free(buf);
	op_env_close(&e);
}

/* ---- errors ---- */

static void full_device(void)
{
	uint8_t *buf = calloc(1, VALUE_MAX), *got = malloc(VALUE_MAX);
	uint64_t ino, big, size = 0, free0;
	unsigned int n = 0;
	struct op_env e;
	char name[64];
	ssize_t rc;
	size_t len;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "big", 0644, &big), 0);
	memset(buf, 1, VALUE_MAX);
	CU_ASSERT_EQUAL(set(&e, ino, "user.old", buf, 9000, 0), 0);
	do {
		rc = op_write(&e, big, size, buf, VALUE_MAX);
		size += rc > 0 ? (uint64_t)rc : 0;
	} while (rc > 0);
	CU_ASSERT_EQUAL(rc, -ENOSPC);
	free0 = free_blocks(&e);
	memset(buf, 2, VALUE_MAX);
	CU_ASSERT_EQUAL(set(&e, ino, "user.new", buf, VALUE_MAX, 0), -ENOSPC);
	CU_ASSERT_EQUAL(set(&e, ino, "user.old", buf, VALUE_MAX, 0), -ENOSPC);
	CU_ASSERT_EQUAL(set(&e, ino, "user.old", buf, 9000, XATTR_CREATE), -EEXIST);
	CU_ASSERT_EQUAL(free_blocks(&e), free0);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.old", got, VALUE_MAX, &len), 0);
	CU_ASSERT(len == 9000 && got[0] == 1 && got[8999] == 1);
	/* Small ones fit until a leaf would have to be split. */
	for (; n < 1000; n++) {
		(void)sprintf(name, "user.%u", n);
		if (set(&e, ino, name, buf, 500, 0) != 0)
			break;
	}
	CU_ASSERT(n > 3 && n < 100);
	op_env_remount(&e);
	/* A full filesystem can be emptied. */
	while (n-- > 0) {
		(void)sprintf(name, "user.%u", n);
		CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, name), 0);
	}
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, "user.old"), 0);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 0);
	CU_ASSERT(free_blocks(&e) > free0);
	free(buf);
	free(got);
	op_env_close(&e);
}

/* A value of sixteen blocks, each a run of its own, two in each of eight groups of the device from @first on: as
 * scattered as a value may be. */
static void put_scattered(struct op_env *e, struct pf_inode *ip, uint64_t first, const uint8_t *value, bool abort)
{
	struct pf_xchange x = { .name = "user.x", .value = value, .len = VALUE_MAX, .nrun = PF_XATTR_RUNS };
	struct pf_d_inode *di;
	struct pf_tx *tx;

	for (unsigned int i = 0; i < PF_XATTR_RUNS; i++) {
		uint64_t goal = (first + i % 8) * PF_GROUP_BLKS + 1000 + i * 10;

		CU_ASSERT_EQUAL_FATAL(pf_alloc_reserve(e->fs, 1, 1, goal, 0, &x.run[i]), 0);
		CU_ASSERT_EQUAL(x.run[i].dblk / PF_GROUP_BLKS, first + i % 8);
		pf_pm_write(e->fs->pm, x.run[i].dblk << PF_BLK_SHIFT, value + i * PF_BLK_SIZE, PF_BLK_SIZE);
	}
	CU_ASSERT_EQUAL(pf_pm_drain(e->fs->pm), 0);
	x.crc = pf_crc32c(0, value, VALUE_MAX);
	pf_rwlock_wrlock(&ip->lock);
	CU_ASSERT_EQUAL_FATAL(pf_inode_begin(ip, &tx, &di), 0);
	CU_ASSERT_EQUAL(pf_xattr_apply(tx, ip, &x), 0);
	if (abort)
		pf_tx_abort(tx);
	else
		CU_ASSERT_EQUAL(pf_tx_commit(tx), 0);
	pf_rwlock_unlock(&ip->lock);
	pf_xattr_drop(e->fs, &x);
}

static void scattered_value(void)
{
	uint8_t *buf = malloc(VALUE_MAX), *got = malloc(VALUE_MAX);
	struct pf_inode *ip;
	struct op_env e;
	uint64_t ino, free0;
	size_t n;

	op_env_open(&e, 20 * PF_GROUP_BLKS * PF_BLK_SIZE);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "first", 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "first"), 0);
	free0 = free_blocks(&e);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	/* The second takes the place of the first: sixteen groups in one transaction. The third does not. */
	for (uint8_t i = 1; i <= 3; i++) {
		for (size_t k = 0; k < VALUE_MAX; k++)
			buf[k] = (uint8_t)(i + k / PF_BLK_SIZE);
		put_scattered(&e, ip, i % 2 == 0 ? 10 : 1, buf, i == 3);
	}
	pf_inode_put(ip);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 17);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.x", got, VALUE_MAX, &n), 0);
	CU_ASSERT_EQUAL(n, VALUE_MAX);
	for (size_t k = 0; k < VALUE_MAX; k++)
		CU_ASSERT_FATAL(got[k] == 2 + k / PF_BLK_SIZE);
	/* And goes in one, alone or with its inode. */
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, "user.x"), 0);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	put_scattered(&e, ip, 3, buf, false);
	pf_inode_put(ip);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	CU_ASSERT_EQUAL(free_blocks(&e), free0);
	free(buf);
	free(got);
	op_env_close(&e);
}

static void names_and_types(void)
{
	char name[300] = "user.", value[8] = "v";
	struct pf_entry link, fifo;
	struct pf_fileattr fa = { .flags = 0 };
	uint64_t ino, dir;
	struct op_env e;
	size_t len;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_symlink(e.fs, &op_root, PF_INO_ROOT, "l", "f", &link), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "p", S_IFIFO | 0644, 0, &fifo), 0);

	CU_ASSERT_EQUAL(set(&e, ino, "user.", value, 1, 0), -EINVAL);
	CU_ASSERT_EQUAL(set(&e, ino, "user", value, 1, 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(set(&e, ino, "other.x", value, 1, 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(set(&e, ino, "system.x", value, 1, 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(set(&e, ino, "", value, 1, 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "other.x", value, 8, &len), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, "other.x"), -EOPNOTSUPP);
	memset(name + 5, 'n', 250);
	CU_ASSERT_EQUAL(set(&e, ino, name, value, 1, 0), 0);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, name), 0);
	name[255] = 'n';
	CU_ASSERT_EQUAL(set(&e, ino, name, value, 1, 0), -ERANGE);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, name, value, 8, &len), -ERANGE);
	CU_ASSERT_EQUAL(set(&e, ino, "user.x", value, VALUE_MAX + 1, 0), -E2BIG);
	CU_ASSERT_EQUAL(set(&e, ino, "user.x", value, 1, 4), -EINVAL);

	/* user. is for files and directories, the others for everything. */
	CU_ASSERT_EQUAL(set(&e, dir, "user.x", value, 1, 0), 0);
	CU_ASSERT_EQUAL(set(&e, link.ino, "user.x", value, 1, 0), -EPERM);
	CU_ASSERT_EQUAL(set(&e, fifo.ino, "user.x", value, 1, 0), -EPERM);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, link.ino, "user.x", value, 8, &len), -ENODATA);
	CU_ASSERT_EQUAL(set(&e, link.ino, "trusted.x", value, 1, 0), 0);
	CU_ASSERT_EQUAL(set(&e, fifo.ino, "security.x", value, 1, 0), 0);
	CU_ASSERT_EQUAL(set(&e, link.ino, PF_ACL_ACCESS, value, 1, 0), -EOPNOTSUPP);

	/* Immutable and append-only files keep theirs. */
	CU_ASSERT_EQUAL(set(&e, ino, "user.x", value, 1, 0), 0);
	for (int i = 0; i < 2; i++) {
		fa.flags = i == 0 ? FS_IMMUTABLE_FL : FS_APPEND_FL;
		CU_ASSERT_EQUAL(pf_op_fileattr_set(e.fs, ino, UINT32_MAX, false, &fa), 0);
		CU_ASSERT_EQUAL(set(&e, ino, "user.y", value, 1, 0), -EPERM);
		CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, "user.x"), -EPERM);
		CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.x", value, 8, &len), 0);
	}
	pf_op_forget(e.fs, link.ino, 1);
	pf_op_forget(e.fs, fifo.ino, 1);
	op_env_close(&e);
}

/* Bytes of a value that changed behind our back are damage, not a value. */
static void damaged_value(void)
{
	uint8_t *buf = calloc(1, VALUE_MAX);
	struct pf_inode *ip;
	struct op_env e;
	uint64_t ino, dblk = 0;
	size_t len;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	memset(buf, 0x5c, VALUE_MAX);
	CU_ASSERT_EQUAL(set(&e, ino, "user.x", buf, 5000, 0), 0);
	CU_ASSERT_EQUAL_FATAL(pf_inode_get(e.fs, ino, &ip), 0);
	for (uint64_t b = e.fs->iclu0_blk + PF_ICLU_BLKS; b < e.fs->nblk - 1 && dblk == 0; b++)
		if (memcmp(pf_pm_at(e.fs->pm, b << PF_BLK_SHIFT), buf, PF_BLK_SIZE) == 0)
			dblk = b;
	pf_inode_put(ip);
	CU_ASSERT_FATAL(dblk != 0);
	((uint8_t *)pf_pm_at(e.fs->pm, dblk << PF_BLK_SHIFT))[77] ^= 1;
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.x", NULL, 0, &len), 0);
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.x", buf, VALUE_MAX, &len), -EUCLEAN);
	((uint8_t *)pf_pm_at(e.fs->pm, dblk << PF_BLK_SHIFT))[77] ^= 1;
	CU_ASSERT_EQUAL(pf_op_getxattr(e.fs, ino, "user.x", buf, VALUE_MAX, &len), 0);
	free(buf);
	op_env_close(&e);
}

/* ---- many at a time ---- */

#define THREADS 4U
#define FILES 3U

struct user { struct op_env *e; const uint64_t *ino; unsigned int nr, torn, wrong; };

/* Values are of one byte throughout: a mixture of two would show. */
static void *use(void *arg)
{
	struct user *u = arg;
	uint8_t *buf = malloc(VALUE_MAX);
	uint64_t r = 77 + u->nr;
	char name[32];

	for (unsigned int step = 0; step < 1500; step++) {
		size_t len = 0;
		uint64_t ino;
		int err;

		r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		ino = u->ino[r >> 40 & 1 ? 0 : 1 + (r >> 41) % (FILES - 1)];
		(void)sprintf(name, "user.%u", (unsigned int)(r >> 48 & 15));
		switch (r >> 60 & 3) {
		case 0:
			err = pf_op_removexattr(u->e->fs, ino, name);
			u->wrong += err != 0 && err != -ENODATA;
			break;
		case 1:
			memset(buf, (int)(u->nr + 1), VALUE_MAX);
			len = (r >> 20 & 7) == 0 ? 1025 + (r >> 24) % 12000 : 1 + (r >> 24) % 700;
			err = pf_op_setxattr(u->e->fs, ino, name, buf, len, 0, false);
			u->wrong += err != 0;
			break;
		default:
			err = pf_op_getxattr(u->e->fs, ino, name, buf, VALUE_MAX, &len);
			u->wrong += err != 0 && err != -ENODATA;
			for (size_t i = 1; err == 0 && i < len; i++)
				u->torn += buf[i] != buf[0];
			break;
		}
	}
	free(buf);
	return NULL;
}

static void many_at_a_time(void)
{
	struct user u[THREADS];
	pthread_t t[THREADS];
	uint64_t ino[FILES];
	struct op_env e;
	char name[16];

	op_env_open(&e, 32 * MIB);
	for (unsigned int i = 0; i < FILES; i++) {
		(void)sprintf(name, "f%u", i);
		CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, name, 0644, &ino[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		u[i] = (struct user){ .e = &e, .ino = ino, .nr = i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&t[i], NULL, use, &u[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		CU_ASSERT_EQUAL(pthread_join(t[i], NULL), 0);
		CU_ASSERT_EQUAL(u[i].torn, 0);
		CU_ASSERT_EQUAL(u[i].wrong, 0);
	}
	op_env_close(&e);
}

/* ---- security.capability ---- */

static bool has_cap(struct op_env *e, uint64_t ino)
{
	size_t len;

	return pf_op_getxattr(e->fs, ino, PF_XATTR_CAP, NULL, 0, &len) == 0;
}

static void capability_goes(void)
{
	struct stat st = { .st_uid = 7, .st_size = 1 };
	uint64_t ino, src;
	struct op_env e;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0755, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "src", 0755, &src), 0);
	CU_ASSERT_EQUAL(op_write(&e, src, 0, "1234", 4), 4);
	for (int what = 0; what < 8; what++) {
		CU_ASSERT_EQUAL(set(&e, ino, "user.other", "x", 1, 0), 0);
		CU_ASSERT_EQUAL(set(&e, ino, PF_XATTR_CAP, "c", 1, 0), 0);
		CU_ASSERT_TRUE(has_cap(&e, ino));
		switch (what) {
		case 0:		/* a new block, then in place */
		case 1:
			CU_ASSERT_EQUAL(op_write(&e, ino, 0, "xx", 2), 2);
			break;
		case 2:
			CU_ASSERT_EQUAL(op_truncate(&e, ino, 1), 0);
			break;
		case 3:
			CU_ASSERT_EQUAL(op_truncate(&e, ino, 10000), 0);
			break;
		case 4:
			CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_UID, &st), 0);
			break;
		case 5:
			CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, 40000), 0);
			break;
		case 6:
			CU_ASSERT_EQUAL(op_copy(&e, src, 0, ino, 0, 4), 4);
			break;
		default:	/* none of these changes what is in the file */
			CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_MODE, &st), 0);
			CU_ASSERT_TRUE(has_cap(&e, ino));
			op_env_remount(&e);
			CU_ASSERT_TRUE(has_cap(&e, ino));
			continue;
		}
		CU_ASSERT_FALSE(has_cap(&e, ino));
	}
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "random changes against a model", against_model },
		{ "as many as can be listed", as_many_as_can_be_listed },
		{ "the end of an inode", the_end_of_an_inode },
		{ "full device", full_device },
		{ "a scattered value", scattered_value },
		{ "names, types, flags", names_and_types },
		{ "damaged value", damaged_value },
		{ "many at a time", many_at_a_time },
		{ "security.capability goes with a change", capability_goes },
	};

	pf_log_init("test_xattr", PF_LOG_ERR, false);
	return unit_main("xattr", cases, PF_ARRAY_LEN(cases));
}
