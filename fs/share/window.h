/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.h - who was shown which blocks of which file: shares and grants.
 *
 *   share   one session on one inode. Keeps the in-core inode and the session alive. Owned by handles, grants,
 *           operations in progress and an invalidate that is not acknowledged.
 *   grant   one slot of a session's window: a 2 MiB chunk of the share's file, and the device blocks that the client
 *           was told lie under it. The daemon's own memory: what it says decides whose pins count and which blocks
 *           a quarantine keeps.
 *
 * A grant and its share's list are under LAYOUT of the inode; the session's table of slots is under SESSION. Both are
 * held to add or remove a grant, in that order.
 *
 * This file keeps the books; when and in which order they are consulted is layout.c.
 */
#ifndef PF_SHARE_WINDOW_H
#define PF_SHARE_WINDOW_H

#include "share/layout.h"
#include "share/ledger.h"
#include "space/alloc.h"

struct pf_sess;
struct pf_p_piece;

/* Pages [page, page + npage) of a chunk lie at device blocks [dblk, dblk + npage). */
struct pf_gext {
	uint32_t page, npage;
	uint64_t dblk;
};

struct pf_grant {
	struct pf_share *share;
	struct pf_grant *next, **pprev;		/* of the share */
	uint64_t foff;				/* of the chunk */
	uint32_t slot;
	uint32_t word;				/* generation and STALE; FROZEN follows from what is below */
	unsigned int frozen;			/* breaks that look at it */
	uint32_t next_ext, nparked;
	struct pf_gext *ext;			/* as last shown to the client, sorted, less what breaks took */
	struct pf_gext *parked;			/* left the file, not reusable because of this slot */
	bool revoked;				/* some bit of gone[] is set; the slot is STALE then */
	uint64_t gone[PF_CHUNK_BLKS / 64];	/* pages whose pins are void; ls_gone, as the daemon means it */
	bool kicked;				/* some bit of kick[] is set; also by a revoke */
	uint64_t kick[PF_CHUNK_BLKS / 64];	/* of gone[]: whose blocks are kept back until the pins have ended */
};

struct pf_share {
	struct pf_share *next, **pprev;		/* of the inode; LAYOUT */
	struct pf_share *sess_next, **sess_pprev;	/* of the session; SESSION */
	struct pf_sess *sess;
	struct pf_lobj *obj;
	void *inode;				/* a reference, given back by put() */
	void (*put)(struct pf_fs *fs, void *inode);
	_Atomic unsigned int refs;
	atomic_bool write;			/* a handle of it is, or was, for writing */
	_Atomic unsigned int longterm;		/* enum pf_longterm + 1 of the descriptor it came by; 0: as the file */
	atomic_bool copies;			/* has private copies of pages: hears of a cut even without a slot */
	struct pf_grant *grants;
	struct pf_share *pend_next, **pend_pprev;	/* of the session, while inval_id is not 0; SESSION */
	struct pf_brk *inval_brk;		/* the break that waits for our acknowledgement */
	uint64_t inval_id;			/* the last invalidate sent, until acknowledged; then 0 */
	atomic_bool unacked;			/* in quarantine: did not acknowledge inval_id in time */
	bool told_all;				/* ... inval_id is about the whole file, nothing was granted since */
	uint64_t kept, kept_ns;			/* blocks in `parked` of its grants, and since when there are any */
	char path[256];				/* what the client calls the file; for reports */
};

/* Sum with no wrap: "to the end" stays there. */
static inline uint64_t pf_range_end(uint64_t foff, uint64_t len)
{
	return len > UINT64_MAX - foff ? UINT64_MAX : foff + len;
}

/* Pages of the chunk at @chunk that [foff, foff + len) touches: [*first, *first + result). */
static inline unsigned int pf_chunk_clip(uint64_t chunk, uint64_t foff, uint64_t len, unsigned int *first)
{
	uint64_t end = pf_min64(pf_range_end(foff, len), chunk + PF_CHUNK_SIZE), start = pf_max64(foff, chunk);

	*first = 0;
	if (len == 0 || start >= end)
		return 0;
	*first = (unsigned int)((start - chunk) >> PF_BLK_SHIFT);
	return (unsigned int)(PF_DIV_UP(end - chunk, PF_BLK_SIZE) - *first);
}

void pf_share_get(struct pf_share *sh);
/* Give a reference back while holding another one: it is not the last. */
void pf_share_unref_more(struct pf_share *sh);
/* May drop the inode and the session: no lock held. */
void pf_share_unref(struct pf_fs *fs, struct pf_share *sh);
/* Give a fresh share (refs 1) its place at the inode. */
void pf_share_link(struct pf_share *sh);

/*
 * Inside the gate, or in b_work of a break: the client is about to be told that @slot is the chunk @foff with these
 * @n extents. New or refreshed. *word: for the answer. -ENOTCONN, -EBUSY (the slot is something else), -ESTALE,
 * -ENOMEM, -EINVAL.
 */
int pf_win_grant(struct pf_share *sh, uint32_t slot, uint64_t foff, const struct pf_gext *ext, unsigned int n,
		 uint32_t *word) PF_MUST_CHECK;
/* The same for a slot that is this chunk already. -ESTALE: it is not, or not any more; nothing has changed. */
int pf_win_refresh(struct pf_share *sh, uint32_t slot, uint64_t foff, const struct pf_gext *ext, unsigned int n,
		   uint32_t *word) PF_MUST_CHECK;

/*
 * There too: count pages of a granted slot. -EAGAIN: a CUT waits for them, *cut is its id for pf_gate_wait_cut(), and
 * this session has nothing in its way that does not end by itself. -ESTALE (also: no such grant of this share),
 * -EINVAL, -EFAULT (a page without a block, unless @holes), -EBUSY. @brief: it ends by itself.
 */
int pf_win_pin(struct pf_share *sh, uint32_t slot, unsigned int first, unsigned int n, bool holes, bool brief,
	       uint64_t *cut) PF_MUST_CHECK;

/* Which chunk a slot of this share is now. -ESTALE: it is none. -EINVAL: there is no such slot. */
int pf_win_where(struct pf_share *sh, uint32_t slot, uint64_t *foff) PF_MUST_CHECK;

/* REMOVEMAPPING: the client has unmapped the slot. -EBUSY while a pin is counted in it or an invalidate is not
 * acknowledged. */
int pf_win_remove(struct pf_fs *fs, struct pf_sess *s, uint32_t slot) PF_MUST_CHECK;

/* Everything below: LAYOUT of @o (of the grant's inode) is held. */

void pf_win_freeze(struct pf_lobj *o, uint64_t foff, uint64_t len);
void pf_win_thaw(struct pf_lobj *o, uint64_t foff, uint64_t len);
/* A pinned grant in the range, looking from @from (NULL: from the start), or NULL. */
struct pf_grant *pf_win_scan(struct pf_lobj *o, struct pf_grant *from, uint64_t foff, uint64_t len);
/* Pages of the range that @sh has pinned, as far as they count. */
uint64_t pf_win_pinned(struct pf_share *sh, uint64_t foff, uint64_t len);
/* Has it a pin in the range that does not end by itself? */
bool pf_win_keeps(struct pf_share *sh, uint64_t foff, uint64_t len);
/* True when the share has a slot in the range; @holes: one that was shown something else than a block there. */
bool pf_win_shown(const struct pf_share *sh, uint64_t foff, uint64_t len, bool holes, const struct pf_share *skip_share,
		  uint32_t skip_slot);
/* Nobody but slot @slot of @sh was shown the chunk at @foff, and it has no pins. Takes LAYOUT itself. */
bool pf_win_alone(struct pf_share *sh, uint32_t slot, uint64_t foff);
/* No pin through these slots will succeed any more; the client is told. @pinned: only slots with pins in the pin
 * range. */
void pf_win_stale(struct pf_share *sh, uint64_t foff, uint64_t len, bool pinned);
/* Park the blocks of the range that @sh was shown; @pinned: only those of pinned pages. -ENOMEM. *nblk grows by
 * the blocks. */
int pf_win_park(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len, bool pinned,
		uint64_t *nblk) PF_MUST_CHECK;
/*
 * Void the pins of the range: they count no more, and no device translates their pages from now on. A burst that began
 * before may be under way: pf_win_dma(). What leaves the file of pages whose pins are not all of devices that ask is to
 * be parked: pf_win_park_kicked(). The slots are frozen. True when there was a pin.
 */
bool pf_win_revoke(struct pf_share *sh, uint64_t foff, uint64_t len);
/* The same, whatever the devices are, and in slots that are not frozen. */
bool pf_win_kick(struct pf_share *sh, uint64_t foff, uint64_t len);
int pf_win_park_kicked(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len,
		       uint64_t *nblk) PF_MUST_CHECK;
/* The slot, when it is this chunk of the share, not stale, and each of the pages has a block; or NULL. */
struct pf_grant *pf_win_live(struct pf_share *sh, uint32_t slot, uint64_t foff, unsigned int first, unsigned int n);
/* These pages are to be another session's: no device translates them by way of this one any more, and its slots go
 * stale. -EAGAIN: a burst is under way, nothing has changed. */
int pf_win_untranslate(struct pf_share *sh, const struct pf_p_piece *piece, uint32_t n) PF_MUST_CHECK;
/* Revoked pages of the range, in slots with bursts under way. */
bool pf_win_dma(struct pf_lobj *o, uint64_t foff, uint64_t len);
/* Park the blocks of those pages. -ENOMEM. */
int pf_win_park_dma(struct pf_fs *fs, struct pf_share *sh, uint64_t foff, uint64_t len, uint64_t *nblk) PF_MUST_CHECK;
/* How many blocks of the range @sh was shown. */
uint64_t pf_win_blocks(const struct pf_share *sh, uint64_t foff, uint64_t len);
/* Blocks of this slot that no pin and no quarantine holds any more are reusable. @all: do not look.
 * True when there were some. */
bool pf_win_unpark(struct pf_fs *fs, struct pf_grant *g, bool all);
/* The blocks of the range are no longer what the clients were shown. */
void pf_win_trim(struct pf_lobj *o, uint64_t foff, uint64_t len);
/* Take @g off the inode and the session's table, and free it. SESSION is held too. The share's reference goes to
 * the caller. */
void pf_win_drop(struct pf_fs *fs, struct pf_grant *g);

#endif
