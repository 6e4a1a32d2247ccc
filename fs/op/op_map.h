/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_map.h - windows and slow pins: what SETUPMAPPING, PIN, REMOVEMAPPING and SYNC of a session mean for a file.
 *
 * The caller has decoded a message; every field may still be nonsense. Nothing here blocks for a client, a pin or a
 * break: a request that meets a closed gate is put aside, and its answer comes later, from another thread.
 */
#ifndef PF_OP_OP_MAP_H
#define PF_OP_OP_MAP_H

#include <pinfs/proto.h>
#include "op/op.h"
#include "share/session.h"

enum pf_map_what { PF_MAP_SETUP, PF_MAP_PIN };

struct pf_map_req {
	/* Set by the caller. */
	enum pf_map_what what;
	struct pf_sess *sess;		/* the caller keeps it until mr_end */
	uint64_t unique;		/* for pf_sess_forget() */
	uint64_t fh;
	uint32_t slot;
	uint64_t foff;			/* of the chunk. PIN: if @chunk */
	uint64_t fault_foff;		/* SETUP: page that must be backed when @write */
	uint32_t first, npage;		/* PIN: pages of the chunk */
	bool write;			/* SETUP: the page at fault_foff backed and writable. PIN: all pages backed */
	bool private;			/* SETUP: the session makes private copies of the file's pages */
	bool chunk;			/* PIN: @slot has to be the chunk at @foff, not whatever it is now */
	bool brief;			/* PIN: it ends by itself */
	bool holes;			/* PIN: without @write, holes are counted as they are */
	bool longterm;			/* PIN: for as long as the client likes */
	enum pf_pin_api api;		/* PIN: who asks; any number */
	bool wait;			/* PIN: answer -EAGAIN only when the break that is in the way has ended */
	/*
	 * Exactly once. @out with @ext (out->mo_next of them) on success, NULL otherwise. On success it is called
	 * inside the gate and has to put the answer into the session's stream before it returns: that is what keeps
	 * grants and invalidates in order. Must not block, take a lock above LEAF, or make further requests. It may
	 * announce that attributes have changed, and clear @changed.
	 */
	void (*mr_answer)(struct pf_map_req *r, int err, const struct pf_p_map_out *out, const struct pf_p_extent *ext);
	/* After mr_answer, outside of the gate with no lock held: the end of the request, which may be freed in it.
	 * @changed: blocks or times are not what they were. Optional. */
	void (*mr_end)(struct pf_map_req *r, uint64_t ino, bool changed);

	/* Private. */
	struct pf_share *share;
	struct pf_inode *ip;
	struct pf_lobj *obj;
	struct pf_gate_wait wait_gate;
	struct pf_stand stand;
	struct pf_brk brk;
	uint64_t cut;			/* the CUT that a pin has to let go first */
	bool answered;
	bool changed;			/* blocks were allocated, or times moved; mr_answer may read it */
};

/* mr_answer and mr_end are called before this returns, or later. */
void pf_map_start(struct pf_map_req *r);

/*
 * ATTACH: the right to a file, as a cookie proved it, with the policy of the descriptor. -ESTALE, -EINVAL (no regular
 * file), -EOPNOTSUPP (not DAX), -EPERM (to write, and its flags forbid it), -ENFILE, -ENOMEM.
 */
struct pf_map_right { uint64_t ino; uint32_t gen; bool write; struct pf_policy_over over; };
int pf_map_attach(struct pf_sess *s, const struct pf_map_right *right, const char *path, uint64_t *fh, uint64_t *size);

/* Would a long-term pin be refused whatever it is like? -EOPNOTSUPP, -EBADF, media errors. */
int pf_map_admit(struct pf_sess *s, uint64_t fh, enum pf_pin_api api);

/* REMOVEMAPPING of one slot: -EINVAL, -EBUSY (pinned, or an invalidate is not acknowledged). */
int pf_map_remove(struct pf_sess *s, uint32_t slot);

/* SYNC: stores through windows of the file are durable. Blocks for the medium. -EBADF, -EIO. */
int pf_map_sync(struct pf_sess *s, uint64_t fh, uint64_t foff, uint64_t len);

#endif
