/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mover.h - the stage for programs that make the kernel pin windows by read(2) and its like: a mount with files f and g
 * of F_LEN bytes 'o', and a slow file beside it. Children make the calls (child.h), so that they have sessions of their
 * own and can be killed.
 */
#ifndef TESTS_PIN_MOVER_H
#define TESTS_PIN_MOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "pin/slowfs.h"
#include "pin/stage.h"

struct mover {
	struct pt_fs *fs;
	struct slow *slow;
	char f[STAGE_PATH], g[STAGE_PATH];
};

/* False: not on this machine, and the case is skipped. */
bool mover_begin(struct mover *m, const char *opts);
void mover_end(struct mover *m);

/* Until the process's first thread waits in this system call; false after a while. */
bool mover_in_call(pid_t pid, long nr);
/* Until the daemon sees so many pins; false after a while. */
bool mover_pins(const struct mover *m, size_t n);
/* The child's scene has ended with 0. */
void mover_done(pid_t pid);

/* For scenes. A window of the file's first @len bytes; NULL. */
char *mover_window(const char *path, size_t len);
bool mover_all(const char *p, size_t n, char c);

#endif
