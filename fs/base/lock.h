/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock.h - THE lock table: every lock class of layers 0-6, in the order in which they may be taken.
 *
 *   class    what it is                                            held while waiting for a client or pin?
 *   NAME     pf_fs-wide, rename of directories only                never
 *   INODE    pf_inode.i_lock, rwlock: size, extents, attributes,   never: a break that waits holds no lock at all,
 *            directory contents                                    it is a queue entry (share/layout.h)
 *   LAYOUT   pf_lobj mutex: gate, break queue, grants              never
 *   SESSION  pf_sess mutex: private slot table, handles            never
 *   REGISTRY tables of sessions, waiters, cached inodes            never
 *   TXN      a journal lane                                        never
 *   ITAB     one inode cluster's header, from alloc/free to the end of the transaction
 *   ORPHAN   one orphan block, likewise
 *   BAD      the tree of bad blocks, from the first edit to the end of the transaction
 *   MAP      map blocks of block groups, taken in ascending order by commit only
 *   ALLOC    the allocator's tables in memory
 *   LEAF     anything that calls nothing while held
 *
 * Several locks of one class: INODE through pf_inode_lock_many() (parents before children, then ascending number),
 * MAP inside commit in ascending order. Each class appears once in the held mask of a thread.
 *
 * Debug builds (no NDEBUG) keep the mask and assert the order; clang checks callers by the L_* phantoms.
 */
#ifndef PF_BASE_LOCK_H
#define PF_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <pinfs/compiler.h>

enum pf_rank {
	PF_RANK_NAME, PF_RANK_INODE, PF_RANK_LAYOUT, PF_RANK_SESSION, PF_RANK_REGISTRY, PF_RANK_TXN,
	PF_RANK_ITAB, PF_RANK_ORPHAN, PF_RANK_BAD, PF_RANK_MAP, PF_RANK_ALLOC, PF_RANK_LEAF, PF_RANK_NR
};

struct PF_CAP("lock class") pf_class { int unused; };
extern struct pf_class L_NAME;
extern struct pf_class L_INODE PF_AFTER(L_NAME);
extern struct pf_class L_LAYOUT PF_AFTER(L_INODE);
extern struct pf_class L_SESSION PF_AFTER(L_LAYOUT);
extern struct pf_class L_REGISTRY PF_AFTER(L_SESSION);

/* Note that a lock of rank @r is about to be taken / was dropped. Abort on wrong order in debug builds. */
void pf_rank_enter(enum pf_rank r);
void pf_rank_exit(enum pf_rank r);
/* True when the calling thread holds no ranked lock at all: asserted before anything that may wait. */
bool pf_rank_none(void);

struct pf_mutex { pthread_mutex_t m; enum pf_rank rank; };
struct pf_rwlock { pthread_rwlock_t rw; enum pf_rank rank; };

void pf_mutex_init(struct pf_mutex *m, enum pf_rank rank);
void pf_mutex_fini(struct pf_mutex *m);
void pf_mutex_lock(struct pf_mutex *m);
bool pf_mutex_trylock(struct pf_mutex *m);
void pf_mutex_unlock(struct pf_mutex *m);
/* For a further lock of a class that the thread holds already (MAP, ascending order; proved by the caller). */
void pf_mutex_lock_more(struct pf_mutex *m);
void pf_mutex_unlock_more(struct pf_mutex *m);

void pf_rwlock_init(struct pf_rwlock *l, enum pf_rank rank);
void pf_rwlock_fini(struct pf_rwlock *l);
void pf_rwlock_rdlock(struct pf_rwlock *l);
void pf_rwlock_wrlock(struct pf_rwlock *l);
void pf_rwlock_unlock(struct pf_rwlock *l);
void pf_rwlock_wrlock_more(struct pf_rwlock *l);
void pf_rwlock_unlock_more(struct pf_rwlock *l);

#endif
