/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * twin.h - one sequence of calls on two filesystems, pinfs and ext4, and a comparison of all that they answered.
 *
 * A script is a function that makes calls relative to its current directory, and notes each result by the macros below.
 * It runs in a child of its own on either side, as the user that is asked for, in an empty directory that everybody
 * may write to. The two transcripts have to be the same line by line. ext4 is taken where the machine has it; without
 * it the case is skipped. The transcript holds no numbers that may differ between filesystems (inodes, sizes of
 * directories, times); the script has to see to that.
 */
#ifndef PT_TWIN_H
#define PT_TWIN_H

#include <stdbool.h>
#include <sys/types.h>
#include <pinfs/compiler.h>
#include "harness/fs.h"

/* Mount a pinfs with @opts beside a directory on ext4. NULL: the case is skipped, or has failed. */
struct pt_fs *tw_start(const char *opts);
void tw_end(struct pt_fs *fs);

struct tw_user {
	uid_t uid;
	gid_t gid;
	size_t ngroup;
	gid_t groups[4];
	int drop_cap;			/* 1 + a capability that root is not to have; 0: none */
};
extern const struct tw_user tw_root, tw_nobody;

/* The script on both sides, one after the other, and the comparison; false when they differ. */
bool tw_compare(struct pt_fs *fs, const char *what, void (*script)(void), const struct tw_user *user);
/* Several users one after the other in the same directories: the scripts' transcripts are compared one by one. */
struct tw_step { void (*script)(void); const struct tw_user *user; };
bool tw_compare_steps(struct pt_fs *fs, const char *what, const struct tw_step *step, size_t n);

/* --- for scripts --- */

/* Is this the pinfs side? For setting up what is not compared. */
bool tw_on_pinfs(void);
void tw_note(const char *fmt, ...) PF_PRINTF(1, 2);
long tw_result(int line, const char *call, long rc);
/* The call's result, or the name of its error. */
#define DO(call) tw_result(__LINE__, #call, (errno = 0, (long)(call)))
/* open(2), what came of it, and close(2). */
#define OPEN(path, flags) tw_open(__LINE__, path, flags, #flags)
int tw_open(int line, const char *path, int flags, const char *words);
/* Type, mode, links, owner, size (not a directory's), device. */
#define STAT(path) tw_stat(__LINE__, path)
void tw_stat(int line, const char *path);
/* Set up: has to work, on both sides alike. */
#define MUST(call)                                                                                                     \
	do {                                                                                                           \
		if ((long)(call) < 0)                                                                                  \
			tw_abort(__LINE__, #call);                                                                     \
	} while (0)
_Noreturn void tw_abort(int line, const char *call);

/* A file with @len bytes. */
void tw_file(const char *path, mode_t mode, size_t len);
/* Into a new directory; and out of it again, which removes it. */
void tw_enter(const char *dir);
void tw_leave(const char *dir);
/* Wait until the clock of file times has moved on. */
void tw_tick(void);

#endif
