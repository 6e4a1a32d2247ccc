/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core.h - the core without FUSE: mount a device in memory, do things to it by path, describe all that can be seen of
 * it.
 *
 * Paths are absolute and short; '..' is not understood. Results are 0 (or bytes, or an inode number) or a negative
 * errno.
 */
#ifndef PF_TESTS_CORE_H
#define PF_TESTS_CORE_H

#include <sys/types.h>
#include "media/pmem.h"
#include "op/op.h"

/* @pm stays the caller's, whatever happens. *why: pf_fs_mount()'s phrase. */
int core_mount(struct pf_pm *pm, struct pf_fs **out, const char **why);
void core_unmount(struct pf_fs *fs);

int64_t core_find(struct pf_fs *fs, const char *path);		/* inode number; takes no reference */
int64_t core_create(struct pf_fs *fs, const char *path);
int core_mkdir(struct pf_fs *fs, const char *path);
int core_symlink(struct pf_fs *fs, const char *path, const char *target);
int core_mknod(struct pf_fs *fs, const char *path, mode_t mode, dev_t rdev);
int core_link(struct pf_fs *fs, const char *old, const char *new);
int core_unlink(struct pf_fs *fs, const char *path);
int core_rmdir(struct pf_fs *fs, const char *path);
int core_rename(struct pf_fs *fs, const char *old, const char *new, unsigned int flags);
ssize_t core_write(struct pf_fs *fs, const char *path, uint64_t off, const void *buf, size_t len);
int core_truncate(struct pf_fs *fs, const char *path, uint64_t size);
int core_chmod(struct pf_fs *fs, const char *path, mode_t mode);
int core_chown(struct pf_fs *fs, const char *path, uid_t uid, gid_t gid);
int core_utimens(struct pf_fs *fs, const char *path, struct timespec atime, struct timespec mtime);
/* What a program does with a window and fsync(2): bytes stored straight into the file's written blocks; holes are left
 * out. */
int core_store_sync(struct pf_fs *fs, const char *path, uint64_t off, const void *buf, size_t len);
/* What the daemon does for a store to such pages through a window: blocks for them, full of zeros. */
int core_fault(struct pf_fs *fs, const char *path, uint64_t off, size_t len);
/* A file without a name in directory @dir, held; and a name for it. */
int64_t core_tmpfile(struct pf_fs *fs, const char *dir);
int core_link_ino(struct pf_fs *fs, uint64_t ino, const char *new);
/* As an open descriptor does: the inode lives until core_drop(). */
int64_t core_hold(struct pf_fs *fs, const char *path);
void core_drop(struct pf_fs *fs, uint64_t ino);
int core_fallocate(struct pf_fs *fs, const char *path, int mode, uint64_t off, uint64_t len);
ssize_t core_copy(struct pf_fs *fs, const char *from, uint64_t foff, const char *to, uint64_t toff, size_t len);

/*
 * A line for each name, sorted: path, type, mode, links, size, and what is in it (a checksum of the bytes, holes and
 * unwritten extents being zeros; the target; the device number; the extended attributes). No times, no inode numbers:
 * equal text, equal tree. To
 * be freed. *damaged counts what could not be read (-EUCLEAN and others). The walk ends after CORE_NAMES_MAX names.
 */
#define CORE_NAMES_MAX 20000U
char *core_describe(struct pf_fs *fs, unsigned int *damaged);

#endif
