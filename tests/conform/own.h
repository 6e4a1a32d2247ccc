/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * own.h - a pinfs of a case's own, for cases with CF_MOUNTS: an image in memory, its daemon, its mount point. Not
 * applicable where the programs are not there or nobody lets us mount. For mounts of kernels, too: scratch.h.
 *
 * It goes with the case, however that ends. What a case does there with mappings and pins is as in its directory; but
 * cf_settle() looks at the place that is asked, so waits are not seen here.
 */
#ifndef CONFORM_OWN_H
#define CONFORM_OWN_H

#include <limits.h>
#include "conform/conform.h"

struct cf_own {
	char img[64], mnt[PATH_MAX];
	pid_t pid;			/* of the daemon, a child; 0 */
	int log;			/* what it says */
};

/* An image of @size bytes. */
void cf_own_make(struct cf *c, struct cf_own *o, off_t size);
/* The same without mkfs.pinfs, on a tmpfs of its own with options @tmpfs if that is not NULL, for which one is root. */
void cf_own_image(struct cf *c, struct cf_own *o, off_t size, const char *tmpfs);
#define CF_OWN_SIZE ((off_t)16 << 20)
/* Mount it, "-o @opts" (NULL: none). The case is broken when that fails. */
void cf_own_mount(struct cf *c, struct cf_own *o, const char *opts);
/* The same: 0, or the exit status of pinfs, whose message is a note. */
int cf_own_try(struct cf *c, struct cf_own *o, const char *opts);
/* Unmount it in order, and wait for the daemon's end. */
void cf_own_umount(struct cf *c, struct cf_own *o);
/* End it, in order, whoever has files of it open or mapped. */
void cf_own_stop(struct cf *c, struct cf_own *o);
/* kill -9 of the daemon. */
void cf_own_kill(struct cf *c, struct cf_own *o);
/* What the daemon has said since it was started last, up to now. */
const char *cf_own_said(const struct cf_own *o);
/* A name in it (one of 16 buffers, per thread). */
const char *cf_own_path(const struct cf_own *o, const char *name);
/* A new file there of @len bytes CF_BYTE. */
int cf_own_file(struct cf *c, const struct cf_own *o, const char *name, size_t len);
/* pinfsctl badblock @verb (add, del) of the block under byte @off of a file there. The case is broken when it fails. */
void cf_own_bad(struct cf *c, const struct cf_own *o, const char *verb, const char *name, off_t off);

#endif
