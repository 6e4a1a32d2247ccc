/* SPDX-License-Identifier: BSD-3-Clause */
/* areq.h - what the operations that may break a layout have in common. Private to fs/op. */
#ifndef PF_OP_AREQ_H
#define PF_OP_AREQ_H

#include "obj/inode.h"
#include "op/op.h"

/* Each op fills r->brk (kind, what, callbacks, perhaps ranges) and says 0, or an error that ends the request. The
 * inode is r->inode, referenced, a regular file; nothing is locked. */
int pf_op_setattr_init(struct pf_areq *r);
int pf_op_write_init(struct pf_areq *r);
int pf_op_fallocate_init(struct pf_areq *r);
int pf_op_copy_init(struct pf_areq *r);
/* Of pf_op_fallocate_init(): collapse and insert. */
int pf_op_shift_init(struct pf_areq *r);

static inline struct pf_areq *pf_areq_of(struct pf_brk *b) { return PF_CONTAINER_OF(b, struct pf_areq, brk); }

/* Shorthands for b_prepare: the pages of the break, and the pages whose pins count (all under break=file). */
void pf_areq_cut(struct pf_areq *r, uint64_t foff, uint64_t len);
void pf_areq_map(struct pf_areq *r, uint64_t foff, uint64_t len);

/* Write @len bytes at @off into @ip, allocating as needed; size, times and set-id bits follow with each transaction.
 * Lock held exclusively, gate closed for the pages that are not written yet. Returns bytes (fewer when space ran out)
 * or -errno. */
ssize_t pf_write_locked(struct pf_inode *ip, uint64_t off, const uint8_t *buf, size_t len,
			unsigned int kill_priv);
/* True when every byte is inside the file and in written blocks: no layout change is needed. Lock held. */
int pf_write_in_place(struct pf_inode *ip, uint64_t off, size_t len, bool *yes);
/* Zero what is written of [off, off + len), inside one page or many, in place. Lock held exclusively. */
int pf_zero_in_place(struct pf_inode *ip, uint64_t off, uint64_t len);
/* Allocate what is missing of pages [fblk, fblk + nblk), with @flags; new size (0: leave it) in the last
 * transaction. */
int pf_fill_holes(struct pf_inode *ip, uint64_t fblk, uint64_t nblk, uint32_t flags, uint64_t size);
/* Where the next blocks of the file should go: right behind the extent before, at the same distance. */
uint64_t pf_goal(struct pf_inode *ip, uint64_t fblk);
/* How much of [doff, + len) can be read from its begin on: all, less up to a bad block, or nothing. */
uint64_t pf_readable(struct pf_fs *fs, uint64_t doff, uint64_t len);
/* A block of [off, off + len), page aligned, is bad; also an unwritten one. Lock held. */
bool pf_has_bad(struct pf_inode *ip, uint64_t off, uint64_t len);
/* Set-id bits as a write by somebody clears them. */
void pf_kill_priv(struct pf_d_inode *di, unsigned int kill);
/* The same in a step of its own, as the VFS's file_modified() before fallocate. Lock held exclusively. */
int pf_drop_priv(struct pf_inode *ip, unsigned int kill);

#endif
