/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout.h - breaking layouts: who may change a file's blocks while clients map and pin them.
 *
 * Mirrors dax_break_layout() / dax_layout_busy_page_range() of the Linux kernel (fs/dax.c), with one difference: what waits is
 * a queue entry (struct pf_brk), never a thread.
 *
 *   A break of kind CUT takes blocks out of the file, or zeroes them:
 *
 *      queued (FIFO behind other CUTs of the inode)
 *        -> close the gate: no new grants; freeze the slots in range; tell every session to unmap; wait for the acks
 *        -> scan the ledgers
 *             idle: b_work()  -> thaw, open the gate -> b_done(result)
 *             busy, by policy:
 *                wait    open the gate, leave the slots frozen (so unpins kick), park; kick, death or timeout -> from the top.
 *                        The unmap is repeated only if something was granted in the range meanwhile.
 *                ebusy   thaw, open the gate -> b_done(-EBUSY)
 *                defer   park the blocks in the allocator, mark the slots stale, b_work(), b_done
 *                unsafe  count and report the collision, b_work(), b_done
 *
 *   Under `ebusy` the scan comes first (with the slots frozen), and nothing is unmapped when it finds a pin.
 *
 *   A break of kind MAP adds blocks (write into a hole, growth): sessions that were shown a hole or the end of
 *   the file in the range must forget it first. It never looks at pins, and passes a parked CUT.
 *
 * Only one break of an inode has the gate closed at a time. Grants (op/op_map) enter the gate shared; one that
 * meets a closed gate is put aside and run again when it opens.
 *
 * A session that does not acknowledge within revoke_timeout is quarantined: the blocks granted to it in the range are parked, its slots go
 * stale, and the break goes on; the blocks come back when it acknowledges or is gone.
 *
 * Nobody may call pf_lay_submit() holding any lock. Callbacks are called without any lock held, from whichever thread made
 * the progress; they must not wait for clients or pins.
 */
#ifndef PF_SHARE_LAYOUT_H
#define PF_SHARE_LAYOUT_H

#include <sys/types.h>
#include "base/fs.h"
#include "base/lock.h"

struct pf_sess;
struct pf_brk;

/* One per in-core inode, embedded in it. Private to share/. */
struct pf_lobj {
	struct pf_mutex lock;			/* LAYOUT */
	uint64_t ino;
	struct pf_grant *grants;		/* live slots of all sessions on this inode */
	struct pf_brk *cuts, *cuts_tail;	/* FIFO; the head is active or parked */
	struct pf_brk *maps, *maps_tail;	/* FIFO, waiting for the gate */
	struct pf_brk *closer;			/* the break that has the gate closed, or NULL */
	struct pf_gate_wait *aside;		/* grants and pins put aside */
	unsigned int inside;			/* grants in progress */
	uint32_t nr_parked;
};

void pf_lobj_init(struct pf_lobj *o, uint64_t ino);
void pf_lobj_fini(struct pf_lobj *o);		/* asserts that nothing is queued or granted */

enum pf_brk_kind { PF_BRK_CUT, PF_BRK_MAP };

struct pf_brk {
	/* Set by the submitter. */
	struct pf_lobj *obj;			/* the submitter keeps the inode alive until b_done */
	enum pf_brk_kind kind;
	enum pf_busy policy;			/* CUT */
	uint64_t timeout_ms;			/* CUT, wait: 0 = none */
	uint64_t foff, len;			/* pages whose mapping changes; page aligned; UINT64_MAX = to the end */
	uint64_t pin_foff, pin_len;		/* CUT: pages whose pins count; a superset of the above */
	const char *what;			/* "truncate", "punch", ... for reports; static */
	pid_t pid, tid;				/* who asked */
	/* Optional: called with the gate closed, each time the break starts from the top (again after a wait: the file may have
	 * grown meanwhile), to set the ranges from the file's size as it is now. An error ends the break with it. len 0 and
	 * pin_len 0: nothing to break, straight to b_work. */
	int (*b_prepare)(struct pf_brk *b);
	/* Optional: called at most once, before pf_lay_submit() returns with the break unfinished: copy what the caller's stack or
	 * buffer holds. An error (-ENOMEM) ends the break. */
	int (*b_park)(struct pf_brk *b);
	/* The operation, with the gate closed and the range idle. 0 or -errno. Takes INODE and below itself. */
	int (*b_work)(struct pf_brk *b);
	/* The end, exactly once; the break may be freed in it. */
	void (*b_done)(struct pf_brk *b, int err);

	/* Private to share/. */
	struct pf_brk *next;
	uint64_t id;				/* for pf_lay_cancel(); set before b_park is called */
	uint64_t since_ns;			/* CLOCK_MONOTONIC at submit */
	uint64_t deadline_ns;
	int state;
	unsigned int acks;			/* sessions still to answer */
	bool dirty;				/* granted in range since the last unmap */
	bool parked_once;
	bool cancelled;
	uint64_t inval_id;
	struct pf_brk *reg_next;
};

int pf_lay_init(struct pf_fs *fs) PF_MUST_CHECK;	/* starts the timer thread */
void pf_lay_fini(struct pf_fs *fs);

/* May call b_work and b_done before it returns. */
void pf_lay_submit(struct pf_fs *fs, struct pf_brk *b);
/* End a waiting break: b_done(@err) (-EINTR for a signal), unless it is past waiting. By id, so a late call is harmless.
 * Any thread, no lock held. */
void pf_lay_cancel(struct pf_fs *fs, uint64_t id, int err);
/* End every waiting break and refuse new waits with @err: the mount is going away. */
void pf_lay_shutdown(struct pf_fs *fs, int err);

/* True when no session has a slot of this inode. */
bool pf_lay_unshared(struct pf_lobj *o);

#endif
