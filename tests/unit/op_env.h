/* SPDX-License-Identifier: BSD-3-Clause */
/* op_env.h - a filesystem without a mount, for tests of fs/obj and fs/op: an image on tmpfs, and verbs that wait for
 * their end. */
#ifndef PF_TESTS_OP_ENV_H
#define PF_TESTS_OP_ENV_H

#include <CUnit/Basic.h>
#include <stdlib.h>
#include "op/op.h"

struct op_env {
	char path[128];
	struct pf_opts opts;
	struct pf_fs *fs;
	struct pf_mount_info info;
};

extern const struct pf_cred op_root;

/* A new image of @bytes, formatted and mounted. Aborts the program when it cannot: nothing can be tested then. */
void op_env_open(struct op_env *e, uint64_t bytes);
/* Unmount, mount again. */
void op_env_remount(struct op_env *e);
/* Unmount, check the image with fsck.pinfs -n when that is built, remove it. */
void op_env_close(struct op_env *e);
/* Only check: the filesystem is not mounted. */
void op_env_fsck(const struct op_env *e);

/* Blocks that an inode has, as stat(2) shows them. */
uint64_t op_blocks(struct op_env *e, uint64_t ino);

/* Requests, waited for. */
ssize_t op_write(struct op_env *e, uint64_t ino, uint64_t off, const void *buf, size_t len);
ssize_t op_append(struct op_env *e, uint64_t ino, const void *buf, size_t len);
int op_truncate(struct op_env *e, uint64_t ino, uint64_t size);
int op_setattr(struct op_env *e, uint64_t ino, unsigned int set, struct stat *st);
int op_falloc(struct op_env *e, uint64_t ino, int mode, uint64_t off, uint64_t len);
ssize_t op_copy(struct op_env *e, uint64_t src, uint64_t soff, uint64_t dst, uint64_t doff, size_t len);
/* Up to @len bytes into @buf, as one read(2) would. */
ssize_t op_read(struct op_env *e, uint64_t ino, uint64_t off, void *buf, size_t len);

/* Names. The kernel's reference is given back at once unless it says "keep". */
int op_create(struct op_env *e, uint64_t dir, const char *name, mode_t mode, uint64_t *ino);
int op_mkdir(struct op_env *e, uint64_t dir, const char *name, uint64_t *ino);
int op_lookup(struct op_env *e, uint64_t dir, const char *name, uint64_t *ino);

#endif
