/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ops.h - operations on a file, one function each, for cf_call(): what a table of who waits for whom is made of.
 *
 * Each takes a struct op_at and returns 0 or more, or a negative errno. None of them asks where it is.
 */
#ifndef CONFORM_OPS_H
#define CONFORM_OPS_H

#include <sys/types.h>
#include "conform/conform.h"

#define OP_PATH 1024

struct op_at {
	struct cf *c;
	int fd, other;			/* "f" and "g", open read-write */
	char *map;			/* of all of "f", read-write */
	size_t mapped;
	off_t off, len;			/* what the operation is about; a truncate's new size is @off */
	char dir[OP_PATH], f[OP_PATH], g[OP_PATH], h[OP_PATH];	/* there is no "h" */
	void *spare;			/* a second mapping of "f"; op_munmap() takes it away */
};

typedef long op_fn(void *at);

/* "f" and "g" of @len bytes CF_BYTE, and a mapping of "f". */
void op_stage(struct cf *c, struct op_at *at, size_t len);
/* The same for a file that is there: "f" is @fd, mapped at @map. */
void op_stage_on(struct cf *c, struct op_at *at, int fd, char *map, size_t len);

/* Size and blocks. */
op_fn op_truncate, op_truncate_path, op_truncate_nonblock, op_open_trunc, op_open_trunc_nonblock;
op_fn op_falloc, op_falloc_keep, op_punch, op_zero, op_collapse, op_insert, op_unshare, op_madv_remove;
op_fn op_clone_from, op_clone_into, op_dedupe, op_copy_from, op_copy_into, op_move_extent;
/* Contents. The nonblocking ones by a descriptor with O_NONBLOCK, the nowait ones by RWF_NOWAIT. */
op_fn op_read, op_read_nonblock, op_read_nowait, op_write, op_write_nowait, op_write_direct, op_load, op_store;
op_fn op_fsync, op_msync, op_syncfs;
/* The inode and its names. */
op_fn op_stat, op_access, op_open, op_close, op_chmod, op_chown, op_utimes, op_setxattr, op_getxattr, op_seek_data;
op_fn op_seek_end, op_fiemap, op_locks, op_journal_flag, op_dax_flag;
op_fn op_link, op_unlink, op_rename_over, op_rename_away;
/* Mappings of [off, + len), and a transfer to it that ends at once. */
op_fn op_mmap, op_munmap, op_madv_dontneed, op_mlock, op_pin;
/* Others: the directory, and "g" in it. */
op_fn op_create, op_readdir, op_unlink_other, op_truncate_other, op_write_other;

#endif
