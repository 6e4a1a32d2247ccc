/* SPDX-License-Identifier: BSD-3-Clause */
/* bad.h - media errors, made: by the list of bad blocks of a pinfs, or of the pmem disk under a kernel's filesystem. */
#ifndef CONFORM_BAD_H
#define CONFORM_BAD_H

#include <limits.h>
#include "conform/conform.h"

struct bad {
	struct cf *c;
	char mnt[PATH_MAX];
	unsigned long long block;	/* of the device, in pages */
	char list[PATH_MAX];		/* the kernel's, in sysfs */
	char path[PATH_MAX];		/* of the file */
	size_t off;
};

/*
 * The page at @off of a file becomes bad. @mnt: of the pinfs; NULL: of the case's directory. Not applicable where that
 * cannot be done.
 */
void bad_add(struct cf *c, struct bad *b, const char *mnt, const char *path, int fd, size_t off);
/* It is good again, if that can be had. */
void bad_del(struct bad *b);
/* Is it on the list? */
bool bad_is(struct bad *b);

#endif
