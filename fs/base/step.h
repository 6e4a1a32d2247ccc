/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step.h - the steps of making things durable, by name, so that a test can leave out one and show that it is missed.
 *
 * In the programs PF_STEP(NAME) is true, at no cost. The crash tests link sources compiled with PF_STEPS, in which
 * pf_step_out names the step that is not taken; tests/crash/test_crash_twins.c has an entry for each of them.
 */
#ifndef PF_BASE_STEP_H
#define PF_BASE_STEP_H

#define PF_STEP_LIST(X)                                                                                      \
	X(JNL_FRESH, "the drain between new objects and the lane that refers to them")                       \
	X(JNL_LANE, "the drain between a lane and the changed lines")                                        \
	X(JNL_HOME, "the drain between the changed lines and the emptying of their lane")                    \
	X(JNL_EMPTY, "the drain between the emptying of a lane and the end of its transaction")              \
	X(SUPER, "the drain between the two superblocks")                                                    \
	X(MKFS_OLD, "the drain between the end of the old filesystem and the new one's blocks")              \
	X(MKFS_BODY, "the drain between a new filesystem's blocks and its superblocks")                      \
	X(REPLAY_HOME, "the drain between the replayed lines and the emptying of their lanes")               \
	X(REPLAY_EMPTY, "the drain behind a lane that was replayed")                                         \
	X(REPLAY, "the replay itself")                                                                       \
	X(WRITE_DATA, "the drain between the data of new blocks and the transaction that maps them")         \
	X(WRITE_REST, "the zeros around the data in a new block")                                            \
	X(WRITE_TOUCH, "the drain of an overwrite that changes nothing else")                                \
	X(FAULT, "the drain between the zeros of unwritten blocks and the transaction that shows them")      \
	X(TAIL_ZERO, "the zeros behind the end of a file that grows")                                        \
	X(TAIL_DRAIN, "their drain")                                                                         \
	X(SYMLINK, "the drain of a long symbolic link's target")                                             \
	X(XATTR, "the drain between an attribute's value and the leaf that refers to it")                    \
	X(CLUSTER, "the zeros in a new inode cluster")                                                       \
	X(FSYNC_FLUSH, "the flush of what was stored through a mapping")                                     \
	X(FSYNC_DRAIN, "the drain of fsync")                                                                 \
	X(ORPHAN_UNLINK, "the entry of a file without names in the orphan file")                             \
	X(ORPHAN_CUT, "the entry of a file that is cut in several transactions")                             \
	X(ORPHANS, "what a mount finishes of the entries that it finds")

#define PF_STEP_ENUM(name, what) PF_STEP_##name,
enum pf_step { PF_STEP_LIST(PF_STEP_ENUM) PF_STEP_NR };

#ifdef PF_STEPS
extern _Atomic int pf_step_out;		/* PF_STEP_NR: none */
#define PF_STEP(name) (pf_step_out != PF_STEP_##name)
#else
#define PF_STEP(name) 1
#endif

/* pf_pm_drain(), as a step. */
#define PF_DRAIN(pm, name) (PF_STEP(name) ? pf_pm_drain(pm) : 0)

#endif
