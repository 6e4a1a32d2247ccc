/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs.h - a pinfs of a test: image, mount point and daemon in the scratch directory.
 *
 * The daemon runs in the foreground as a child, so that its end is seen and its messages are kept; a message that
 * was not expected is shown when the case fails. All that a case did not take down is taken down after it, and counts
 * as failed if that was not possible in order.
 */
#ifndef PT_FS_H
#define PT_FS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pt_fs {
	char dir[PATH_MAX];		/* of its own, removed by pt_fs_free() */
	char img[PATH_MAX];
	char mnt[PATH_MAX];
	char log[PATH_MAX];		/* the daemon's stderr */
	pid_t pid;			/* daemon, 0 when it does not run */
	bool used;
};

/* False, and the case is skipped with the reason, when this machine cannot mount. Call it first. */
bool pt_need_mount(void);

/* Where pt_fs_new() makes its directories from now on; NULL: in pt_tmp(). Kept, not copied. */
void pt_fs_base(const char *dir);
/* The program that pt_fs_mount() starts, below the build directory; NULL: pinfs. Kept, not copied. */
void pt_fs_daemon(const char *program);
/* An image of @size (as mkfs.pinfs -s takes it) and a mount point, not mounted. NULL: failed, said why. */
struct pt_fs *pt_fs_new(const char *size);
/* Start the daemon with -o @opts (NULL: none) and wait until the mount answers. 0, or the daemon's exit status. Where
 * @opts do not say revoke_timeout=, it is two minutes. */
int pt_fs_mount(struct pt_fs *fs, const char *opts);
/* umount(2), wait for the daemon. Its exit status, or -errno. */
int pt_fs_umount(struct pt_fs *fs);
/* Wait until the daemon has ended by itself: its status, or -1 after @ms. */
int pt_fs_wait(struct pt_fs *fs, unsigned int ms);
/* Stop the daemon, each thread of it; and let it go on. */
bool pt_fs_stop(const struct pt_fs *fs);
void pt_fs_continue(const struct pt_fs *fs);
/* SIGKILL the daemon and detach the dead mount. */
void pt_fs_crash(struct pt_fs *fs);
/* A daemon that was unmounted, and a client that was killed, let go of the image in their own time: wait for that. */
void pt_fs_let_go(const struct pt_fs *fs);
/* fsck.pinfs -n: its exit status, and its words when that is not 0. */
int pt_fs_fsck(struct pt_fs *fs);
/* Unmount if mounted, fsck, remove. Asserts that the daemon ended with 0 and fsck found nothing. */
void pt_fs_end(struct pt_fs *fs);

/* All in one: image of @size, mounted with @opts; a failure ends the case. pt_fs_end() when done. */
struct pt_fs *pt_fs_start(const char *size, const char *opts);

/* "<mnt>/<name>", in one of 16 buffers used in turn, per thread. */
const char *pt_path(const struct pt_fs *fs, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* umount2(2), also of one's own mount by those who are not root. 0, or -1 and errno. */
int pt_umount2(const char *mnt, int flags);
/* pt_umount2() without flags, until nobody has it busy for a moment. */
int pt_umount(const char *mnt);
/* Is something mounted on this directory? */
bool pt_is_mounted(const char *dir);
/* Path of a program in the build directory, in one of 8 buffers. */
const char *pt_program(const char *name);

#endif
