/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stage.h - what most plays of this kind begin with: a mount, files of 16 pages 'o', an actor that holds a pin, one
 * that waits. A case that says more about its stage than this sets it itself.
 */
#ifndef TESTS_PIN_STAGE_H
#define TESTS_PIN_STAGE_H

#include "harness/fs.h"
#include "pin/actor.h"

#define F_LEN (UINT64_C(64) << 10)		/* of a file */
#define F_BLOCKS ((int64_t)(F_LEN / 4096))
#define STAGE_PATH 512
#define SOON_MS 60000				/* what is bound to happen has happened by then */

/* As pt_fs_start(); NULL: there are no mounts here, and the case is skipped. */
struct pt_fs *stage(const char *size, const char *opts);
/* A new file of F_LEN bytes 'o'; where it is goes to @path. */
void stage_file(const struct pt_fs *fs, const char *name, char path[STAGE_PATH]);
/* Are they still there, and nothing else? */
bool stage_untouched(const char *path);
/* UINT64_MAX: there is no such file. */
uint64_t stage_size(const char *path);

/* An actor that maps the file and has [off, + len) pinned for writing: mapping 0, pin 0. */
struct actor *stage_holder(const char *path, uint64_t off, uint64_t len);
/* One that is busy with an order that may take long. */
struct actor *stage_sender(struct act what);

#endif
