/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lay.h - private to share/: what all sessions and breaks of a mount have in common.
 *
 * The registry lists sessions and waiting breaks, for reports, timeouts and pf_lay_cancel(). REGISTRY comes after
 * LAYOUT, so a break found here is referenced first and looked at under its own inode's lock later.
 */
#ifndef PF_SHARE_LAY_H
#define PF_SHARE_LAY_H

#include <pthread.h>
#include "share/session.h"

enum pf_count {
	PF_COUNT_BREAKS, PF_COUNT_WAITS, PF_COUNT_COLLISIONS, PF_COUNT_QUARANTINES, PF_COUNT_TIMEOUTS, PF_COUNT_CANCELS,
	PF_COUNT_DEFERRED_BLOCKS, PF_COUNT_GRANTS, PF_COUNT_PINS_SLOW, PF_COUNT_KICKS,
	PF_COUNT_KICKS_FUTEX, PF_COUNT_INVALIDATES, PF_COUNT_LEASES_BROKEN, PF_COUNT_REVOKES, PF_COUNT_NR
};

#define PF_LAY_BUCKETS 1024U
#define PF_NS_PER_MS UINT64_C(1000000)

struct pf_lay {
	_Atomic uint64_t next_id;		/* breaks, invalidates, turns at a gate */
	_Atomic uint64_t next_sess;
	_Atomic int down;			/* pf_lay_shutdown(): no new waits */
	_Atomic uint64_t count[PF_COUNT_NR];

	struct pf_mutex lock;			/* REGISTRY: all below */
	struct pf_sess *sessions;
	struct pf_brk *bucket[PF_LAY_BUCKETS];	/* breaks that wait, by id */
	uint64_t nr_breaks;
	struct pf_brk **heap;			/* by the next deadline */
	unsigned int nr_heap, room_heap;

	struct pf_tap *tap;			/* who traces (tap.h), or NULL */
	struct pf_mutex users_lock;		/* LEAF */
	struct pf_user *users;			/* charge.c; and what they and their sessions are charged */

	struct pf_give *gives;			/* leases on their way to another session; give.c */

	struct pf_kick *kick;			/* kick.c; NULL: this kernel cannot wait for several futexes */

	pthread_cond_t timer_cond;
	pthread_t timer;
	uint64_t timer_until;			/* the timer thread sleeps until then */
	bool timer_stop;
};

enum pf_brk_state {
	PF_BRK_QUEUED, PF_BRK_GATE, PF_BRK_RUN, PF_BRK_UNMAP, PF_BRK_ACKS, PF_BRK_BURSTS, PF_BRK_SLEEP, PF_BRK_PARKED,
	PF_BRK_FREE, PF_BRK_WORK, PF_BRK_OPEN, PF_BRK_DONE
};

static inline void pf_lay_count(struct pf_fs *fs, enum pf_count c, uint64_t n)
{
	atomic_fetch_add_explicit(&fs->lay->count[c], n, memory_order_relaxed);
}

static inline uint64_t pf_lay_id(struct pf_fs *fs)
{
	return atomic_fetch_add_explicit(&fs->lay->next_id, 1, memory_order_relaxed) + 1;
}

uint64_t pf_lay_now(void);			/* CLOCK_MONOTONIC, ns */

/* registry.c. -ENOMEM: the heap has no room for the break. */
int pf_reg_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_reg_stop(struct pf_fs *fs);		/* the timer; fini does that, too */
void pf_reg_fini(struct pf_fs *fs);
int pf_reg_add(struct pf_brk *b) PF_MUST_CHECK;
void pf_reg_del(struct pf_brk *b);
/* Set the deadlines (0: none). LAYOUT is held. */
void pf_reg_arm(struct pf_brk *b, uint64_t busy_ns, uint64_t ack_ns);
void pf_reg_arm_poll(struct pf_brk *b, uint64_t poll_ns);
void pf_reg_arm_lease(struct pf_brk *b, uint64_t lease_ns);
/* With a reference (pf_brk_unref), or NULL. */
struct pf_brk *pf_reg_find(struct pf_fs *fs, uint64_t id);
/* Up to @max waiting breaks with a reference each; *left: how many more there are. */
unsigned int pf_reg_breaks(struct pf_fs *fs, struct pf_brk **out, unsigned int max, uint64_t *left);
unsigned int pf_reg_sessions(struct pf_fs *fs, struct pf_sess **out, unsigned int max);
void pf_reg_add_sess(struct pf_sess *s);
void pf_reg_del_sess(struct pf_sess *s);

/* kick.c: kicks that come by futex (include/pinfs/ledger.h). Without it they come by socket. */
int pf_kick_init(struct pf_fs *fs) PF_MUST_CHECK;
void pf_kick_stop(struct pf_fs *fs);		/* its threads; fini does that, too */
void pf_kick_fini(struct pf_fs *fs);
/* A break waits for a pin of this session: listen to it, if there is a place left. */
void pf_kick_arm(struct pf_sess *s);
/* The session is not LIVE any more: do not look at its ledger again for kicks. */
void pf_kick_leave(struct pf_sess *s);

/* gate.c. LAYOUT is held. Pins of a session may wait no more: pf_win_keeps() says yes by now. Those are ready for the
 * pump: true, if there are any. */
bool pf_gate_recheck(struct pf_lobj *o);

/* layout.c. No lock held. */
void pf_brk_unref(struct pf_brk *b);
void pf_brk_timeout(struct pf_brk *b, uint64_t now);
/* LAYOUT of @o is held and is dropped: go on with what can go on. Something else keeps @o alive until the return. */
void pf_lay_pump(struct pf_fs *fs, struct pf_lobj *o);
/* LAYOUT is held. What a CUT that has found pins comes to: EBUSY, DEFER, UNSAFE or WAIT. */
enum pf_p_would pf_lay_on_pins(struct pf_fs *fs, const struct pf_lobj *o, const struct pf_brk *b);
/* LAYOUT is held. A pin may have ended: does the CUT that waits have reason to look? */
bool pf_lay_pins_fell(struct pf_lobj *o, bool anew);
/* LAYOUT is held. A lease of the inode is less in the way than it was: has the CUT that waits reason to look? */
bool pf_lay_lease_fell(struct pf_lobj *o);
/* unmap.c; LAYOUT is held. Has any session private copies that the break may take away? */
bool pf_brk_copies(const struct pf_lobj *o, const struct pf_brk *b);
/* It has happened: what clients had put aside is gone, before they are told anything else of the file. */
void pf_brk_drop(struct pf_lobj *o, const struct pf_brk *b);
/* Ask every session that was shown something of the range to unmap it. */
void pf_brk_unmap(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b);
/* A MAP's work has failed, and some of it may be done: the slot that was to get its answer forgets the range. */
void pf_brk_tell_asker(struct pf_brk *b);
/* It waits for pins and has nothing unmapped: who has some shall hear of it all the same. */
void pf_brk_nudge(struct pf_lobj *o, const struct pf_brk *b);
/* Those that have not answered the break are not waited for any more. */
void pf_brk_quarantine(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b);
/* on_busy=unsafe: count and report the pins that are hit. */
void pf_brk_collide(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b);
/* Keep back what devices or lost clients may still write to; before b_work frees it. */
int pf_brk_keep_back(struct pf_fs *fs, struct pf_lobj *o, struct pf_brk *b, bool pinned);
/* LAYOUT is held. The session of @sh answered, or will not answer any more (@lost: and may still touch its blocks). */
void pf_lay_answered(struct pf_fs *fs, struct pf_share *sh, bool lost);

#endif
