/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.h - inodes in memory: a copy of the 512 bytes, a lock, references, and the cache that finds them.
 *
 * One struct pf_inode for an inode number at a time, for as long as anybody has a reference:
 *
 *   refs      calls in progress, sessions, breaks            pf_inode_get() .. pf_inode_put()
 *   nlookup   what the kernel was told of the inode          pf_inode_told() .. pf_inode_forget()
 *
 * With the last one gone an inode without links is freed on the media. One with links that no call uses stays cached,
 * up to opts.cache of them; beyond, only the number of the kernel's references is remembered. One that is open under
 * dax=inode always stays, because it has a mode.
 *
 * Changes are made in a transaction's shadow and copied to ip->d at the end of its commit, so ip->d is always what
 * the media holds, and an aborted transaction leaves nothing to undo.
 */
#ifndef PF_OBJ_INODE_H
#define PF_OBJ_INODE_H

#include <linux/fs.h>
#include <sys/stat.h>
#include "obj/ahead.h"
#include "share/layout.h"
#include "space/bmap.h"

/* What was found out about an inode's attributes, so that it need not be found out again. */
struct pf_xmem {
	uint32_t list;			/* 1 + bytes that listxattr(2) needs; 0: not counted yet */
	bool no_cap;			/* there is no security.capability */
};

struct pf_inode {
	struct pf_fs *fs;
	uint64_t ino;
	uint64_t doff;			/* of the 512 bytes */
	uint32_t gen;
	uint32_t fmt;			/* S_IFMT bits; never change, so they need no lock */
	struct pf_rwlock lock;		/* INODE: d, sh, orph_*, the tree and the directory leaves */
	struct pf_d_inode d;		/* as committed */
	struct pf_d_inode *sh;		/* inside a transaction: the shadow; else NULL */
	struct pf_xmem xm, xm_sh;	/* likewise; changed under the exclusive lock only */
	uint32_t orph_blk;		/* 1 + index of the orphan block that names it, 0: none */
	uint32_t orph_slot;
	bool linkable;			/* no links yet, not none any more: O_TMPFILE; may be given a name */
	struct pf_lobj lobj;

	/* op/op_dax.c, under lock; a mode lasts from the first open or attach to the last close and detach. */
	bool dax;			/* S_DAX */
	bool dax_fresh;			/* this life's mode may not be that of the pages which the kernel has */
	uint64_t opens;			/* files that the kernel has open; counted under dax=inode */

	struct pf_ahead *ahead;		/* the windows of ahead.c, under its lock; set and freed by who has the inode */

	struct pf_mutex win_lock;	/* LEAF */
	uint64_t win_lo, win_hi;	/* bytes that may have been stored to through windows since the last fsync */

	/* The cache's, under its shard's lock. */
	struct pf_inode *hash_next;
	struct pf_inode *lru_next, *lru_prev;
	uint64_t refs, nlookup;
	enum { PF_ICACHE_LOADING, PF_ICACHE_LIVE, PF_ICACHE_DYING } state;
	bool on_lru;
};

int pf_icache_init(struct pf_fs *fs) PF_MUST_CHECK;
/* Drops every inode, also those that the kernel never forgot. Nobody else uses the filesystem any more. */
void pf_icache_fini(struct pf_fs *fs);

/* NAME: held while a name moves from one directory to another. */
struct pf_mutex *pf_icache_name_lock(struct pf_fs *fs);

/* The numbers of the inodes in memory at this moment, to be freed. -ENOMEM. */
int pf_icache_numbers(struct pf_fs *fs, uint64_t **out, size_t *n) PF_MUST_CHECK;

/* A reference to a linked (or unlinked but still used) inode. Blocks shortly. -ESTALE, -EUCLEAN, -ENOMEM. */
int pf_inode_get(struct pf_fs *fs, uint64_t ino, struct pf_inode **out) PF_MUST_CHECK;
/* The same for a number out of the orphan file: links do not matter. Mount only. */
int pf_inode_get_orphan(struct pf_fs *fs, uint64_t ino, struct pf_inode **out) PF_MUST_CHECK;
/* Memory for an inode about to be created, so that after the commit nothing can fail for want of it. */
struct pf_inode *pf_inode_spare(struct pf_fs *fs);
void pf_inode_spare_free(struct pf_inode *spare);
/* A reference to an inode just created, with or without links; *spare is used and set to NULL if need be. */
int pf_inode_get_new(struct pf_fs *fs, uint64_t ino, struct pf_inode **spare, struct pf_inode **out) PF_MUST_CHECK;
void pf_inode_hold(struct pf_inode *ip);			/* one more, by somebody who has one */
/* May free the inode on the media: no lock but NAME may be held. NULL is nothing. */
void pf_inode_put(struct pf_inode *ip);
/* The caller's reference becomes one of the kernel's. */
void pf_inode_told(struct pf_inode *ip);
void pf_inode_forget(struct pf_fs *fs, uint64_t ino, uint64_t n);

/* Lock up to 4 inodes exclusively, in the given order: parents before children, then pf_inode_order(). Equal
 * or NULL entries are skipped. */
#define PF_LOCK_MANY 4U
void pf_inode_lock_many(struct pf_inode *const *v, unsigned int n);
void pf_inode_unlock_many(struct pf_inode *const *v, unsigned int n);
/* Sorts inodes of which none is known to be another's parent: directories first, then ascending number. */
void pf_inode_order(struct pf_inode **v, unsigned int n);

/* The inode's shadow in @tx. The caller has the lock exclusively until the transaction has ended. */
int pf_inode_edit(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode **out) PF_MUST_CHECK;
/* A transaction that starts with this inode: pf_tx_begin() and pf_inode_edit(). Nothing is left of it after an
 * error. */
int pf_inode_begin(struct pf_inode *ip, struct pf_tx **tx, struct pf_d_inode **out) PF_MUST_CHECK;
/* Its tree: in the shadow when @tx is not NULL (after pf_inode_edit), else as committed. */
struct pf_bm pf_inode_bm(struct pf_inode *ip, struct pf_tx *tx);
/* The tree of its attributes, likewise. */
struct pf_bm pf_inode_xbm(struct pf_inode *ip, struct pf_tx *tx);
/* @delta blocks more (or fewer) belong to the inode that is being edited. */
void pf_inode_blocks(struct pf_inode *ip, int64_t delta);

/* A client may store to these bytes through a window from now on: called before a writable grant. fsync(2) flushes
 * them. */
void pf_inode_dirtied(struct pf_inode *ip, uint64_t foff, uint64_t len);
/* The bytes noted so far, and forget them; len 0: none. */
void pf_inode_take_dirty(struct pf_inode *ip, uint64_t *foff, uint64_t *len);

struct pf_when { uint64_t sec; uint32_t ns; };
struct pf_when pf_now(void);		/* as coarse as the kernel's own file times */
void pf_set_mtime(struct pf_d_inode *di, struct pf_when t);
void pf_set_ctime(struct pf_d_inode *di, struct pf_when t);
void pf_set_atime(struct pf_d_inode *di, struct pf_when t);

static inline uint64_t pf_inode_size(const struct pf_inode *ip) { return pf_get64(ip->d.i_size); }
static inline uint32_t pf_inode_nlink(const struct pf_inode *ip) { return pf_get32(ip->d.i_nlink); }
/* chattr(1)'s words, FS_*_FL. */
static inline uint32_t pf_inode_flags(const struct pf_inode *ip) { return pf_get32(ip->d.i_flags); }
static inline bool pf_inode_immutable(const struct pf_inode *ip) { return pf_inode_flags(ip) & FS_IMMUTABLE_FL; }
/* Neither may what describes it change (mode, owner, attributes, names): immutable or append-only. */
static inline bool pf_inode_sealed(const struct pf_inode *ip)
{
	return pf_inode_flags(ip) & (FS_IMMUTABLE_FL | FS_APPEND_FL);
}
static inline bool pf_inode_isdir(const struct pf_inode *ip) { return ip->fmt == S_IFDIR; }
/* Does its flag, or the mount, want it to be DAX? What it is, is ip->dax. */
bool pf_inode_wants_dax(const struct pf_inode *ip);
static inline bool pf_inode_isreg(const struct pf_inode *ip) { return ip->fmt == S_IFREG; }

/* What stat(2) shows. Lock shared. */
void pf_inode_stat(const struct pf_inode *ip, struct stat *st);

/*
 * Cutting: blocks leave the tree in as many transactions as it takes, each of which the journal can hold. The caller
 * has the lock exclusively and the layout broken. All of them set mtime and ctime, then call @also (may be NULL) with
 * the shadow in the transaction that makes the change visible.
 */
struct pf_also { void (*fn)(struct pf_d_inode *di, void *arg); void *arg; };

/* Set the size to @size, below the present one or equal, and free every page behind it. Durable when it returns. */
int pf_inode_truncate(struct pf_inode *ip, uint64_t size, const struct pf_also *also) PF_MUST_CHECK;
/* Unmap the pages of [foff, foff + len), page aligned. */
int pf_inode_punch(struct pf_inode *ip, uint64_t foff, uint64_t len) PF_MUST_CHECK;
/* Make what is mapped there unwritten: it keeps its blocks and reads as zeros. */
int pf_inode_unwrite(struct pf_inode *ip, uint64_t foff, uint64_t len) PF_MUST_CHECK;
/* Zero the bytes from @size to the end of its page, if that is mapped: before the file grows over them. */
int pf_inode_zero_tail(struct pf_inode *ip, uint64_t size) PF_MUST_CHECK;
/* Take the pages of [foff, foff + len) out, and those behind move to the front: page aligned, and not up to the end.
 * -ENOSPC leaves everything as it was. */
int pf_inode_collapse(struct pf_inode *ip, uint64_t foff, uint64_t len) PF_MUST_CHECK;
/* The pages from @foff on move to the back by @len bytes and leave a hole: page aligned, inside the file. -EFBIG,
 * -ENOSPC. */
int pf_inode_insert(struct pf_inode *ip, uint64_t foff, uint64_t len) PF_MUST_CHECK;
/* True while pages are on their way (a collapse or insert failed half done): what is read could be anybody's. */
static inline bool pf_inode_torn(const struct pf_inode *ip) { return pf_get32(ip->d.i_intent) >= PF_INTENT_COLLAPSE; }
/* Finish what a crash or a failed call left half done (i_intent). Nothing to do: 0. */
int pf_inode_settle(struct pf_inode *ip) PF_MUST_CHECK;
/* Free the inode with all it has: no links, no references. Takes the lock. */
int pf_inode_evict(struct pf_inode *ip) PF_MUST_CHECK;
/* The same for several of one cluster, named by one orphan block, in one transaction. -EFBIG: more than it can hold;
 * nothing has happened. */
#define PF_EVICT_MANY 24U
int pf_inode_evict_many(struct pf_inode *const *v, unsigned int n) PF_MUST_CHECK;
/* For reap.c: free them on the media, together if it can be, and in memory. They are DYING. */
void pf_inode_bury(struct pf_inode **v, unsigned int n);

#endif
