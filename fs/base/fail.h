/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fail.h - what becomes of a mount in which something is wrong: one state machine for all reasons.
 *
 *   OK -> ERRORS -> RDONLY -> DOWN, never back before the next mount.
 *
 *   damage      an object that does not verify, or lies in a bad block: the state is what errors= says
 *   medium      the device refused to make bytes durable: at least RDONLY, for a commit would be a lie
 *   gone        bytes of the device cannot be reached at all (SIGBUS): DOWN
 *
 * Who found it gets its own errno for that one call. From then on ERRORS changes nothing, RDONLY answers EROFS to
 * whatever changes something, DOWN answers EIO to everything. In all three the image is not marked clean.
 */
#ifndef PF_BASE_FAIL_H
#define PF_BASE_FAIL_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <pinfs/compiler.h>
#include "base/fs.h"

enum pf_state { PF_STATE_OK, PF_STATE_ERRORS, PF_STATE_RDONLY, PF_STATE_DOWN, PF_STATE_NR };
extern const char *const pf_state_name[PF_STATE_NR];	/* "ok", "errors", "read-only", "shutdown" */

enum pf_fault { PF_FAULT_DAMAGE, PF_FAULT_MEDIUM, PF_FAULT_GONE };

int pf_fail_init(struct pf_fs *fs) PF_MUST_CHECK;	/* -ENOMEM, -EMFILE */
void pf_fail_fini(struct pf_fs *fs);

/* Something is wrong: says so, and takes the step of the state that follows. Any thread, any locks above LEAF. */
void pf_fs_fail(struct pf_fs *fs, enum pf_fault fault, const char *fmt, ...) PF_PRINTF(3, 4);

/* An eventfd, readable after each step of the state: who waits for a client or a pin must be told. -1: no mount. */
int pf_fail_fd(const struct pf_fs *fs);

/* What has happened first, and when; count 0: nothing. */
struct pf_fail_info { uint64_t count; uint64_t time; char why[256]; };
void pf_fail_info(const struct pf_fs *fs, struct pf_fail_info *out);

static inline enum pf_state pf_fs_state(const struct pf_fs *fs)
{
	return (enum pf_state)atomic_load_explicit(&fs->state, memory_order_relaxed);
}

/* May anything be read? 0, -EIO. */
static inline int pf_fs_readable(const struct pf_fs *fs)
{
	return pf_fs_state(fs) == PF_STATE_DOWN ? -EIO : 0;
}

/* May anything be changed? 0, -EROFS, -EIO. */
static inline int pf_fs_writable(const struct pf_fs *fs)
{
	enum pf_state s = pf_fs_state(fs);

	return s == PF_STATE_DOWN ? -EIO : s == PF_STATE_RDONLY || fs->opts.ro ? -EROFS : 0;
}

#endif
