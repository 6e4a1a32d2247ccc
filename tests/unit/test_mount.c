/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mount.c - pf_fs_mount: a filesystem comes up, keeps what it was told, and refuses what it cannot serve. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "harness/unit.h"
#include "unit/op_env.h"

static void test_first_files(void)
{
	struct op_env e;
	uint64_t dir, file, ino;
	char buf[100];

	op_env_open(&e, 32 << 20);
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL(op_create(&e, dir, "f", S_IFREG | 0644, &file), 0);
	CU_ASSERT_EQUAL(op_write(&e, file, 0, "hello", 5), 5);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, "d", &ino), 0);
	CU_ASSERT_EQUAL(ino, dir);
	CU_ASSERT_EQUAL(op_lookup(&e, dir, "f", &ino), 0);
	CU_ASSERT_EQUAL(ino, file);
	CU_ASSERT_EQUAL(op_read(&e, file, 0, buf, sizeof buf), 5);
	CU_ASSERT_EQUAL(memcmp(buf, "hello", 5), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, dir, "f"), 0);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "d"), 0);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, "d", &ino), -ENOENT);
	op_env_close(&e);
}

/* Blocks and inodes of unlinked files come back, also when they were in use at unmount. */
static void test_space_comes_back(void)
{
	struct statvfs before, after;
	struct pf_entry kept;
	static char buf[1 << 20];
	struct op_env e;
	uint64_t ino;

	op_env_open(&e, 32 << 20);
	/* The first name and the first orphan take blocks that stay. */
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "first", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "first"), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "second", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &before), 0);
	CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "f", S_IFREG | 0600, 0, &kept), 0);
	CU_ASSERT_EQUAL(op_write(&e, kept.ino, 0, buf, sizeof buf), sizeof buf);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	CU_ASSERT_EQUAL(op_read(&e, kept.ino, 0, buf, 10), 10);		/* open and unlinked */
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &after), 0);
	CU_ASSERT_EQUAL(after.f_bfree, before.f_bfree - 256);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &after), 0);
	CU_ASSERT_EQUAL(after.f_bfree, before.f_bfree);
	CU_ASSERT_EQUAL(after.f_ffree, before.f_ffree);
	op_env_close(&e);
}

static void test_readonly(void)
{
	struct op_env e;
	struct pf_entry out;
	uint64_t ino;
	char c;

	op_env_open(&e, 32 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(op_write(&e, ino, 0, "x", 1), 1);
	e.opts.ro = true;
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_read(&e, ino, 0, &c, 1), 1);
	CU_ASSERT_EQUAL(c, 'x');
	CU_ASSERT_EQUAL(op_write(&e, ino, 0, "y", 1), -EROFS);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 0), -EROFS);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), -EROFS);
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "f", PF_INO_ROOT, "g", 0), -EROFS);
	CU_ASSERT_EQUAL(pf_op_mkdir(e.fs, &op_root, PF_INO_ROOT, "d", 0755, &out), -EROFS);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &op_root, ino, W_OK), -EROFS);
	op_env_close(&e);
}

static void refuse(struct op_env *e, int want)
{
	struct pf_mount_info info;
	struct pf_fs *fs;

	CU_ASSERT_EQUAL(pf_fs_mount(e->path, &e->opts, &fs, &info), want);
	CU_ASSERT_PTR_NOT_NULL(info.why);
}

static void test_refusals(void)
{
	struct op_env e;
	char junk[4096];
	int fd;

	op_env_open(&e, 32 << 20);
	refuse(&e, -EBUSY);		/* mounted already */
	pf_fs_unmount(e.fs);

	fd = open(e.path, O_RDWR);
	memset(junk, 0x5a, sizeof junk);
	CU_ASSERT_EQUAL(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
	CU_ASSERT_EQUAL(pf_fs_mount(e.path, &e.opts, &e.fs, &e.info), 0);	/* the copy serves */
	pf_fs_unmount(e.fs);
	CU_ASSERT_EQUAL(pwrite(fd, junk, sizeof junk, 0), sizeof junk);
	CU_ASSERT_EQUAL(pwrite(fd, junk, sizeof junk, (32 << 20) - 4096), sizeof junk);
	refuse(&e, -EINVAL);
	CU_ASSERT_EQUAL(ftruncate(fd, 1 << 20), 0);
	refuse(&e, -EINVAL);
	close(fd);
	unlink(e.path);
	refuse(&e, -ENOENT);
}

static const struct unit_case cases[] = {
	{ "files survive a remount", test_first_files },
	{ "space of unlinked files comes back", test_space_comes_back },
	{ "a read-only mount changes nothing", test_readonly },
	{ "what cannot be mounted is refused with a reason", test_refusals },
};

int main(void)
{
	return unit_main("mount", cases, PF_ARRAY_LEN(cases));
}
