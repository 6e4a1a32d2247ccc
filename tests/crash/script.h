/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script.h - the language of the crash tests: operations as text, read, printed, carried out, made up.
 *
 *   create P  mkdir P  symlink P TARGET  mknod P MODE RDEV  link P Q  unlink P  rmdir P  rename P Q  exchange P Q
 *   write P OFF LEN  truncate P SIZE  copy P OFF Q OFF LEN
 *   falloc|keep|punch|zero|zerokeep|collapse|insert|unshare P OFF LEN         keep, zerokeep: FALLOC_FL_KEEP_SIZE
 *   whiteout P Q            rename with RENAME_WHITEOUT
 *   tmpfile D P             a file without a name in D, then a name for it
 *   fault P OFF LEN         blocks for a window to store to
 *   setxattr P NAME LEN  rmxattr P NAME
 *   chmod P MODE  chown P UID GID  utimes P SECONDS
 *   store P OFF LEN         through a mapping, then fsync
 *   hold P                  as if it were open; drop: close all
 *   remount                 in order
 *   clock 0|1               the clock stands still, goes on
 *   names P N  sparse P N   N files in directory P; N pages in file P with a hole behind each
 *
 * A TARGET "@LEN" is as long as that. Operations are divided by ';'. What comes before a '|' sets the stage: it is not
 * looked at.
 */
#ifndef PF_TESTS_SCRIPT_H
#define PF_TESTS_SCRIPT_H

#include "crash/model.h"

#define SCRIPT_MAX 256

struct script { struct wl_op op[SCRIPT_MAX]; int n, stage; };	/* the first @stage set the stage */

/* False, and a message on stderr: not a script. Appended to what @s holds. */
bool script_read(struct script *s, const char *text);
/* As script_read() takes it, operations @from to before @to. To be freed. */
char *script_text(const struct script *s, int from, int to);
/* @n operations at random, most of which succeed in @m, which is changed by them. */
void script_random(struct script *s, int n, uint64_t seed, struct model *m);

/* The real thing. */
struct stage { struct pf_fs *fs; struct pf_pm *pm; uint64_t held[16]; int nheld; };
int64_t script_do(struct stage *st, const struct wl_op *op);

#endif
