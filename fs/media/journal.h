/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.h - transactions: all of a change or nothing, durable when commit returns.
 *
 * A transaction edits private copies ("shadows") of metadata objects. Commit seals each shadow's
 * checksum, finds the 64-byte lines that differ from the media, writes them to a lane, and then home:
 *
 *   0  fresh objects (blocks nobody refers to yet), if there are any, straight home        drain
 *   1  lane header and body                                                                drain
 *      -> committed: the checksum over header and body makes a torn lane an empty lane
 *   2  changed lines home                                                                  drain
 *   3  lane header emptied                                                                 drain
 *
 * 0 and 1 cannot share a drain: a crash could keep the lane and lose the object. The same holds for data in blocks
 * that the transaction maps: its writer drains before commit.
 *
 * The drain after 3 comes before any lock of the transaction is dropped: otherwise a later change of the same
 * lines, in another lane, could be overwritten by the replay of this one. Replay writes valid lanes in order of
 * l_seq and may be repeated.
 *
 * Who protects what: the caller holds the lock of every object it edits (inode lock for an inode, its tree
 * nodes and directory leaves) from pf_tx_get() to the end of commit; cluster headers, orphan blocks and map blocks
 * are locked through the transaction by their own modules.
 */
#ifndef PF_MEDIA_JOURNAL_H
#define PF_MEDIA_JOURNAL_H

#include "base/fs.h"
#include "media/verify.h"

struct pf_tx;
#define PF_TX_ENDS 32U

int pf_jnl_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_jnl_fini(struct pf_fs *fs);
/* Replay committed lanes of an image that was not unmounted in order. Number of transactions, or -errno: -EUCLEAN
 * (a sealed lane that makes no sense), -EROFS (there is something to replay, and the mount is read-only), -EIO. */
int pf_jnl_replay(struct pf_fs *fs) PF_MUST_CHECK;
/* The same without writing: how many lanes hold a transaction (fsck -n). */
int pf_jnl_pending(struct pf_fs *fs) PF_MUST_CHECK;
/* One lane: -EUCLEAN when it is sealed but makes no sense, else 0. */
int pf_jnl_lane_check(const struct pf_fs *fs, uint32_t lane) PF_MUST_CHECK;

/* Bad blocks have come or gone: a lane that lies in one is not used. Without a good one there are no changes. */
void pf_jnl_avoid_bad(struct pf_fs *fs);

/* Take a lane. Blocks (shortly: a lane is held for one commit) while all are busy. The same thread ends it.
 * Errors: -ENOMEM, -EROFS, -EIO (base/fail.h). */
int pf_tx_begin(struct pf_fs *fs, struct pf_tx **out) PF_MUST_CHECK;

/* A writable shadow of the object at @doff, verified; the same pointer each time in one transaction; good until
 * commit/abort. -EUCLEAN, -ENOMEM, -EFBIG (the lane could not hold it: see pf_tx_room). */
int pf_tx_get(struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner, void **out) PF_MUST_CHECK;
/* A zeroed shadow, formatted, of a new object in a block that this transaction allocated (or an unused inode slot: not
 * treated as fresh then, as its block is shared). */
int pf_tx_new(struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner, uint32_t gen, void **out) PF_MUST_CHECK;
/* For reading inside a transaction: the shadow if there is one, else the object on the media. @tx may be NULL:
 * pf_md_get. */
int pf_tx_peek(struct pf_fs *fs, struct pf_tx *tx, enum pf_md type, uint64_t doff, uint64_t owner,
	       const void **out) PF_MUST_CHECK;
/* The object's block is freed by this transaction: its shadow, if any, is dropped. */
void pf_tx_drop(struct pf_tx *tx, uint64_t dblk);
/* Whole 4 KiB objects that still fit into the lane in the worst case. Long work (truncate) commits and begins anew. */
unsigned int pf_tx_room(const struct pf_tx *tx);

/* Call @fn(arg, committed) at the end of commit or abort, in reverse order, after the last drain: releases locks that a
 * module holds for this transaction, moves blocks to and from the allocator. -ENOMEM after PF_TX_ENDS of them. */
int pf_tx_at_end(struct pf_tx *tx, void (*fn)(void *arg, bool committed), void *arg) PF_MUST_CHECK;
/* A slot for space/alloc's data: the blocks that this transaction takes and gives. */
struct pf_tx_blocks;
struct pf_tx_blocks **pf_tx_blocks(struct pf_tx *tx);
struct pf_fs *pf_tx_fs(struct pf_tx *tx);
/* Commit calls @fn before it seals; it may still pf_tx_get() and pf_tx_at_end(); an error aborts the transaction. */
typedef int (*pf_tx_prepare_fn)(struct pf_tx *tx);
void pf_jnl_on_commit(struct pf_fs *fs, pf_tx_prepare_fn fn);

/*
 * Both end the transaction. Commit fails only with -EIO (medium), -EFBIG, -ENOMEM, -EUCLEAN (map block), -EROFS (the
 * mount has stopped taking changes meanwhile), and then nothing happened. When the medium fails, the journal stops:
 * this transaction gets -EIO, later ones what base/fail.h says, and what had reached a sealed lane before counts as
 * committed; it is on the media after the next mount.
 */
int pf_tx_commit(struct pf_tx *tx) PF_MUST_CHECK;
void pf_tx_abort(struct pf_tx *tx);

#endif
