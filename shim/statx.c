/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * statx.c - statx(2) with the attributes that the kernel does not take from a FUSE filesystem: DAX, immutable,
 * append-only, no dump. The real call goes first; then an attribute that only pinfs has is read by the same path.
 *
 * A program that asks for files elsewhere pays a comparison: pinfs has an anonymous device number, which disks do not
 * have. For other filesystems that do (tmpfs, overlayfs, /proc) a no is remembered for a second or two, not for ever,
 * as such numbers are given out again. Takes no lock, starts nothing.
 */
#include "io.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <pinfs/format.h>
#include <pinfs/xattr.h>

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif
#define OURS ((uint64_t)(STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP | STATX_ATTR_DAX))
#define NOES 64U
#define NO_LASTS_S 2
#define TRIES 4

static _Atomic uint64_t no[NOES];	/* device's minor number + 1, and the second in which it was not ours */

static uint64_t no_now(uint32_t minor_nr)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return ((uint64_t)minor_nr + 1) << 32 | (uint32_t)t.tv_sec;
}

static bool not_ours(const struct statx *stx)
{
	uint64_t was, now;

	if (stx->stx_dev_major != 0)
		return true;
	was = atomic_load_explicit(&no[stx->stx_dev_minor % NOES], memory_order_relaxed);
	if (was >> 32 != (uint64_t)stx->stx_dev_minor + 1)
		return false;
	now = no_now(stx->stx_dev_minor);
	return now >= was && now - was < NO_LASTS_S;
}

static long ask(int dirfd, const char *path, int flags, struct pinfs_statx *px)
{
	long nr = flags & AT_SYMLINK_NOFOLLOW ? SYS_lgetxattr : SYS_getxattr;
	char at[PATH_MAX];
	int n = 0;

	if (path == NULL || *path == '\0') {	/* the descriptor itself, whatever it was opened for */
		nr = SYS_getxattr;
		path = ".";
		if (dirfd != AT_FDCWD) {
			(void)snprintf(at, sizeof at, "/proc/thread-self/fd/%d", dirfd);
			path = at;
		}
	} else if (*path != '/' && dirfd != AT_FDCWD) {
		n = snprintf(at, sizeof at, "/proc/thread-self/fd/%d/%s", dirfd, path);
		path = at;
	}
	if (n < 0 || (size_t)n >= sizeof at)
		return -ENAMETOOLONG;
	return sh_sys(nr, path, PINFS_XATTR_STATX, px, sizeof *px);
}

/* The kernel calls the root 1 or by its number, as it was asked last. */
static bool same(const struct pinfs_statx *px, const struct statx *stx)
{
	return px->px_ino == stx->stx_ino || (px->px_ino == PF_INO_ROOT && stx->stx_ino == 1);
}

static int whole(int dirfd, const char *restrict path, int flags, unsigned int mask, struct statx *restrict stx)
{
	static int (*real)(int, const char *, int, unsigned int, struct statx *);
	struct pinfs_statx px;
	void *sym;
	long got;
	int rc;

	if (real == NULL) {
		sym = dlsym(RTLD_NEXT, "statx");
		memcpy(&real, &sym, sizeof sym);
	}
	rc = real(dirfd, path, flags, mask, stx);
	if (rc != 0 || !sh.ready || sh.disabled || not_ours(stx))
		return rc;
	for (int i = 0; i < TRIES; i++) {
		got = ask(dirfd, path, flags, &px);
		if (got == -EOPNOTSUPP || got == -ENODATA || got == -ENOSYS)
			atomic_store_explicit(&no[stx->stx_dev_minor % NOES], no_now(stx->stx_dev_minor),
					      memory_order_relaxed);
		if (got != (long)sizeof px)
			break;
		if (same(&px, stx)) {
			stx->stx_attributes = (stx->stx_attributes & ~OURS) | (px.px_attributes & OURS);
			stx->stx_attributes_mask = (stx->stx_attributes_mask & ~OURS) | (px.px_mask & OURS);
			break;
		}
		/* The name has gone to another file in between. */
		rc = real(dirfd, path, flags, mask, stx);
		if (rc != 0)
			break;
	}
	return rc;
}

PF_EXPORT int statx(int dirfd, const char *restrict path, int flags, unsigned int mask, struct statx *restrict stx)
{
	struct sh_span to = { SH_OBJECT, SH_OUT, (sh_any *)(uintptr_t)&stx, sizeof *stx };
	struct sh_io io;
	int err;

	if (!sh.user_mode || sh_is_crew)
		return whole(dirfd, path, flags, mask, stx);
	err = sh_io_begin(&io, &to, 1);
	if (err) {
		errno = -err;
		return -1;
	}
	return (int)sh_io_end(&io, whole(dirfd, path, flags, mask, stx));
}
