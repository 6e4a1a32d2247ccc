/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.h - what a filesystem has to hold after a script of operations: a second, naive one, in memory.
 *
 * Its files are arrays of pages; of each page it knows whether the real one is a hole, unwritten or written, since
 * that decides what a crash in the middle of a write may leave (FORMAT.md, What is promised).
 */
#ifndef PF_TESTS_MODEL_H
#define PF_TESTS_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pf_fs;

/* An operation of a script: script.h has the words. */
enum wl_kind {
	WL_CREATE, WL_MKDIR, WL_SYMLINK, WL_MKNOD, WL_LINK, WL_UNLINK, WL_RMDIR, WL_RENAME, WL_EXCHANGE, WL_WRITE,
	WL_TRUNCATE, WL_FALLOC, WL_KEEP, WL_PUNCH, WL_ZERO, WL_ZEROKEEP, WL_COPY, WL_CHMOD, WL_CHOWN, WL_UTIMES,
	WL_STORE, WL_FAULT, WL_COLLAPSE, WL_INSERT, WL_UNSHARE, WL_WHITEOUT, WL_TMPFILE, WL_SETXATTR,
	WL_RMXATTR, WL_HOLD, WL_DROP, WL_REMOUNT, WL_CLOCK, WL_NAMES, WL_SPARSE, WL_NR
};

struct wl_op {
	enum wl_kind kind;
	char a[64], b[64];
	uint64_t x, y, z;
	uint32_t tag;			/* of the bytes that it writes: no two writes of a script write the same */
};

/* Byte @off of what the write with @tag puts into a file. Never 0. */
uint8_t wl_byte(uint32_t tag, uint64_t off);

/* What a symbolic link points to; to be freed. */
char *wl_target(const struct wl_op *op);

struct model;
struct model *model_new(void);				/* an empty root */
struct model *model_copy(const struct model *m);
void model_free(struct model *m);
/* What the operation does and returns: bytes or 0, or a negative errno (of which only the sign is meant). */
int64_t model_apply(struct model *m, const struct wl_op *op);
/* Regular files and directories of at most @pages pages, for generators: the n-th (modulo their number) path, "" if
 * there is none. */
const char *model_pick(const struct model *m, bool dir, uint64_t n);

/*
 * Does @fs hold exactly this? NULL, or the first difference. With @op and @before: or is it what may be found while
 * @op leads from @before to @m.
 */
const char *model_judge(const struct model *m, const struct model *before, const struct wl_op *op, struct pf_fs *fs);

#endif
