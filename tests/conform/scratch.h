/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scratch.h - a mount of a case's own, with options that it chooses: pinfs on an image in memory, or, where the
 * directory is of a kernel's DAX filesystem, one of the same type on the device of --scratch-dev.
 *
 * What a case leaves behind when it ends early, the runner takes away.
 */
#ifndef CONFORM_SCRATCH_H
#define CONFORM_SCRATCH_H

#include <limits.h>
#include "conform/own.h"

struct scratch {
	struct cf *c;
	bool kernel;			/* ext4 or xfs, else pinfs */
	const char *type;		/* "ext4", "xfs", "pinfs" */
	char dev[PATH_MAX];		/* the image, or the device */
	char mnt[PATH_MAX];
	struct cf_own own;		/* pinfs */
	int kmsg;			/* kernel: /dev/kmsg, from where it was */
	bool mounted, partition;
};

/* A device, without a filesystem. Not applicable where there can be none. @opts: of the tmpfs that the image lies on,
 * which only root can choose, or NULL. */
void scratch_new(struct cf *c, struct scratch *o, const char *opts);
/* Of the device of a kernel, only what follows byte @from. Not applicable where it cannot be divided. */
void scratch_partition(struct scratch *o, uint64_t from);
/* Make the filesystem: with @more options of mkfs, or NULL. The exit status; what it said is noted if not 0. */
int scratch_mkfs(struct scratch *o, const char *const more[]);
/* 0, or -1: refused. scratch_said() has why. */
int scratch_mount(struct scratch *o, const char *opts);
/* All of it: scratch_new(), scratch_mkfs(), scratch_mount(), broken if one of them fails. */
void scratch_start(struct cf *c, struct scratch *o, const char *opts);
void scratch_umount(struct scratch *o);
/* As power loss does: nothing that is not on the device yet gets there. Then it is not mounted. */
void scratch_crash(struct scratch *o);
void scratch_end(struct scratch *o);

/* A name in it, of 8 buffers per thread. */
const char *scratch_path(const struct scratch *o, const char *name);
/* What the daemon, or the kernel, has said since the last mount. */
const char *scratch_said(struct scratch *o);
/* A new file of @len bytes CF_BYTE, open read-write. */
int scratch_file(struct scratch *o, const char *name, size_t len);

/* ---- what several groups ask of files ---- */

/* STATX_ATTR_DAX: "set" or "clear". */
const char *dax_bit(struct cf *c, const char *path);
/* MAP_SYNC of the file: 0 or -errno. */
long map_sync(int fd);
/* FS_XFLAG_DAX: 1 or 0, or -errno. */
long xflag_dax(int fd, bool *on);
long xflag_dax_set(int fd, bool on);
/* A load that gives the byte, or -1 for a signal. */
int peek(volatile char *p);

#endif
