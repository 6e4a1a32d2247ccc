/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout.h - breaking layouts: who may change a file's blocks while clients map and pin them.
 *
 * Mirrors dax_break_layout() / dax_layout_busy_page_range() of the Linux kernel (fs/dax.c), with one difference: what
 * waits is a queue entry (struct pf_brk), never a thread.
 *
 *   A break of kind CUT takes blocks out of the file, or zeroes them:
 *
 *      queued (FIFO behind other CUTs of the inode)
 *        -> close the gate: no new grants; freeze the slots in range; tell every session to unmap; wait for the acks
 *        -> scan the ledgers
 *             idle: b_work()  -> thaw, open the gate -> b_done(result)
 *             busy, by policy:
 *                wait    open the gate, leave the slots frozen (so unpins kick), park. A kick or a death: from the
 *                        top; unmap again only if something was granted in the range meanwhile
 *                poll    thaw, open the gate, park. After a while: from the top
 *                ebusy   thaw, open the gate -> b_done(-EBUSY)
 *                defer   park the blocks in the allocator, mark the slots stale, b_work(), b_done; as `wait` when more
 *                        than defer_limit would be parked
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
 * A session that does not acknowledge within revoke_timeout is quarantined: the blocks granted to it in the range are
 * parked, its slots go stale, and the break goes on; the blocks come back when it acknowledges or is gone. A session
 * that has lost its connection, while its process still maps the device, is treated so at once, and its pins are not
 * waited for: nobody could tell when they end.
 *
 * Nobody may call pf_lay_submit() holding any lock. Callbacks are called without any lock held, from whichever thread
 * made the progress; they must not wait for clients or pins.
 */
#ifndef PF_SHARE_LAYOUT_H
#define PF_SHARE_LAYOUT_H

#include <sys/types.h>
#include <pinfs/proto.h>
#include "base/fs.h"
#include "base/lock.h"
#include "base/pause.h"

struct pf_brk;
struct pf_share;
struct pf_gate_wait;
struct pf_lease;

/* One per in-core inode, embedded in it. Private to share/. */
struct pf_lobj {
	struct pf_mutex lock;				/* LAYOUT */
	uint64_t ino;
	struct pf_share *shares;			/* one per session that attached the inode */
	uint64_t nr_grants;				/* slots of all sessions */
	struct pf_brk *cuts, *cuts_tail;		/* FIFO; only the head is ever past QUEUED */
	struct pf_brk *maps, *maps_tail;		/* FIFO, waiting for the gate */
	struct pf_brk *closer;				/* the break that has the gate closed, or NULL */
	struct pf_gate_wait *aside, *aside_tail;	/* grants and pins that met a closed gate */
	struct pf_gate_wait *pinwait;			/* pins that let the waiting CUT go first */
	struct pf_gate_wait *ready;			/* their CUT has ended */
	struct pf_lease *leases;			/* of all sessions; lease.c */
	unsigned int inside;				/* grants and pins in progress */
	bool pumping;					/* a thread is in pump() */
};

void pf_lobj_init(struct pf_lobj *o, uint64_t ino);
void pf_lobj_fini(struct pf_lobj *o);		/* asserts that nothing is queued or granted */

enum pf_brk_kind { PF_BRK_CUT, PF_BRK_MAP };

struct pf_brk {
	/* Set by the submitter. */
	struct pf_lobj *obj;			/* the submitter keeps the inode alive until b_done */
	enum pf_brk_kind kind;
	struct pf_policy policy;		/* CUT; the timeout counts from the submission on */
	uint64_t foff, len;			/* pages whose mapping changes; page aligned; UINT64_MAX = to the end */
	uint64_t pin_foff, pin_len;		/* CUT: pages whose pins count; a superset of the above */
	/* CUT that takes away even private copies, of the pages from drop_foff on: truncate, not punch. */
	bool drops;
	uint64_t drop_foff;
	const char *what;			/* "truncate", "punch", ... for reports; static */
	pid_t pid, tid;				/* who asked */
	bool kernel_lock;			/* the kernel holds the inode's lock for the caller meanwhile */
	/* Optional: called with the gate closed, each time the break starts from the top (again after a wait: the
	 * file may have grown meanwhile), to set the ranges from the file's size as it is now. An error ends the
	 * break with it. len 0 and pin_len 0: nothing to break, straight to b_work. */
	int (*b_prepare)(struct pf_brk *b);
	/* Optional: called at most once, before pf_lay_submit() returns with the break unfinished: copy what the
	 * caller's stack or buffer holds. An error (-ENOMEM) ends the break. */
	int (*b_park)(struct pf_brk *b);
	/* Optional: called now and then while it waits for pins, by the timer's thread with no lock held. An error
	 * ends the wait with it. */
	int (*b_stuck)(struct pf_brk *b);
	/* The operation, with the gate closed and the range idle. 0 or -errno. Takes INODE and below itself. */
	int (*b_work)(struct pf_brk *b);
	/* The end, exactly once; the break may be freed in it. */
	void (*b_done)(struct pf_brk *b, int err);

	/* Optional, MAP: a slot that need not forget what it was shown, because the answer that it gets will
	 * replace it; b_work sends that. When b_work fails, the slot has to forget after all. */
	const struct pf_share *skip_share;
	uint32_t skip_slot;

	/* Private to share/. */
	struct pf_brk *next;
	struct pf_fs *fs;
	uint64_t id;				/* for pf_lay_cancel(); set before b_park is called */
	uint64_t seq;				/* order of turns at the gate */
	uint64_t since_ns;			/* CLOCK_MONOTONIC at submit */
	uint64_t busy_ns, ack_ns, poll_ns;	/* deadlines, 0 = none: busy_timeout, revoke_timeout, next look */
	uint64_t lease_ns;			/* ... and when the time of a lease is over */
	uint64_t stuck_ns;			/* b_stuck is not asked again before */
	_Atomic unsigned int refs;		/* b_done is called by the last to let go */
	unsigned int state;
	unsigned int acks;			/* sessions still to answer */
	unsigned int heap;			/* place in the timer heap + 1 */
	int err;				/* result */
	int stop;				/* end the wait with this error */
	struct pf_stand stand;			/* base/pause.h */
	bool kicked;				/* ... before it was parked */
	bool want;				/* parked, and something changed */
	bool dirty;				/* granted in range since the last unmap */
	bool froze;				/* slots of [fz_foff, + fz_len) are frozen for us */
	bool parked_once;			/* b_park was called */
	bool waited;
	bool leased;				/* parked because of leases */
	bool revoked;				/* pins were made void for it */
	bool dma_lost;				/* bursts of devices under these do not end */
	bool registered;
	uint64_t fz_foff, fz_len;
	uint64_t un_foff, un_len;		/* unmapped so far, unless dirty */
	struct pf_grant *blocker;		/* the last pinned slot that a scan found */
	struct pf_brk *reg_next;
};

int pf_lay_init(struct pf_fs *fs) PF_MUST_CHECK;	/* starts the timer thread */
void pf_lay_fini(struct pf_fs *fs);

/* May call b_work and b_done before it returns. */
void pf_lay_submit(struct pf_fs *fs, struct pf_brk *b);
/* End a waiting break: b_done(@err) (-EINTR for a signal), unless it is past waiting. By id, so a late call is
 * harmless. Any thread, no lock held. */
void pf_lay_cancel(struct pf_fs *fs, uint64_t id, int err);
/* End every waiting break and refuse new waits with @err: the mount is going away. */
void pf_lay_shutdown(struct pf_fs *fs, int err);

/* After that: no deadlines, no kicks by futex; the engine has no thread of its own that could call back. */
void pf_lay_stop_threads(struct pf_fs *fs);

/* The mount's policy from now on is what it was, with @over; *now is the result. What clients go by themselves they
 * find in their ledgers. Takes REGISTRY. */
void pf_lay_set_policy(struct pf_fs *fs, const struct pf_policy_over *over, struct pf_policy *now);

/*
 * What a CUT with the object, ranges, process and policy of @b, which nobody submits, would meet: who has pages pinned,
 * up to @max, and what is said below. A look, which freezes nothing: the next moment may be different.
 */
#define PF_KEEPERS_MAX 16U
struct pf_holder { uint64_t session, pages; pid_t pid; uid_t uid; char comm[16]; };
struct pf_meets {
	uint64_t queued;		/* CUTs of the inode that have begun */
	uint64_t most_ms;		/* WAIT: as pf_p_would_end has it */
	enum pf_p_would answer;
	unsigned int holders, leases;	/* all of them */
	unsigned int nlease;
	struct pf_p_would_lease lease[PF_P_WOULD_LEASES];
	unsigned int nkeeper;		/* WAIT, TURN: as pf_lay_waits_for() has them */
	pid_t keeper[PF_KEEPERS_MAX];
};
unsigned int pf_lay_would(struct pf_fs *fs, const struct pf_brk *b, struct pf_holder *who, unsigned int max,
			  struct pf_meets *out);

/* The operations that wait, up to @max: a snapshot. */
struct pf_waiting { uint64_t id, ino; pid_t tid; bool kernel_lock; };
unsigned int pf_lay_waiting(struct pf_fs *fs, struct pf_waiting *out, unsigned int max);
/* The processes whose pins one of them waits for, itself or behind another one of the inode, if they do not end by
 * themselves. */
unsigned int pf_lay_waits_for(struct pf_fs *fs, uint64_t id, pid_t *out, unsigned int max);

/* True when no session has a slot of this inode. */
bool pf_lay_unshared(struct pf_lobj *o);
/* Has any session the right to windows of the inode? One that attaches later sees what the caller changed before. */
bool pf_lay_attached(struct pf_lobj *o);
/* Is the inode attached for writing by any session? One that attaches later sees what the caller has changed before. */
bool pf_lay_writers(struct pf_lobj *o);

/*
 * The gate, for grants and pins (op/op_map). Enter: 0, and the caller is inside until pf_gate_exit(); or 1, and @w is
 * called back once: w_run(w, 0) inside the gate, or w_run(w, err) outside of it when its session ended or gave up.
 * @w, and through it the share, is the caller's and stays alive until then. Inside, nobody may wait for a client, a
 * pin or a break.
 */
struct pf_gate_wait {
	struct pf_gate_wait *next;
	struct pf_share *share;
	uint64_t unique;		/* of the request, for pf_gate_forget() */
	void (*w_run)(struct pf_gate_wait *w, int err);
};
int pf_gate_enter(struct pf_lobj *o, struct pf_gate_wait *w);
void pf_gate_exit(struct pf_fs *fs, struct pf_lobj *o);
/* Call w_run(w, -EAGAIN) when the CUT @id, which is waiting for pins of @o, has ended, or the session must not wait for
 * it any more; inside the gate or not. False: that is so already. */
bool pf_gate_wait_cut(struct pf_lobj *o, uint64_t id, struct pf_gate_wait *w);
/* End the waits of a share with @err: those of one request, or all (@unique 0). */
void pf_gate_forget(struct pf_share *sh, uint64_t unique, int err);

#endif
