/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.h - one client process: its ledger, its window's slots, its handles; and what its messages mean for layouts.
 *
 * Owns the private slot table, the handles and the ledger. Knows nothing about sockets: whoever creates a session
 * lends it a send function. Lives until the last reference goes; its life has three states:
 *
 *   LIVE      connected
 *   CUT_OFF   the connection is gone, but somebody still has the device open or mapped by way of it: nobody waits for
 *             its pins or answers, its blocks go to quarantine when their file gives them up
 *   DEAD      nobody has: nothing of it is left in any inode
 *
 * Takes SESSION (own lock), LAYOUT before it, REGISTRY after it.
 */
#ifndef PF_SHARE_SESSION_H
#define PF_SHARE_SESSION_H

#include <sys/types.h>
#include <sys/uio.h>
#include "share/window.h"

enum pf_sess_state { PF_SESS_LIVE, PF_SESS_CUT_OFF, PF_SESS_DEAD, PF_SESS_NR };

struct pf_handle {
	struct pf_share *share;
	bool write;
};

/* One message to the client. Must not block or call back; called with LAYOUT held. A message that cannot be kept
 * ends the connection. */
typedef void (*pf_sess_send_fn)(void *arg, const struct iovec *iov, int n);

struct pf_sess {
	struct pf_fs *fs;
	_Atomic unsigned int refs;
	_Atomic unsigned int state;		/* enum pf_sess_state; changes under lock */
	atomic_bool evicted;			/* why it is cut off, for reports */
	_Atomic uint64_t kept;			/* blocks that are kept out of reuse because of it */
	_Atomic uint64_t kept_ns;		/* since when there are any; CLOCK_MONOTONIC */
	uint64_t id;
	pid_t pid;
	uid_t uid;
	char comm[16];
	uint64_t since_ns;
	uint64_t born_ns;			/* the process; CLOCK_BOOTTIME, 0: not known */
	pf_sess_send_fn send;
	void *send_arg;
	void (*send_gone)(void *arg);		/* the session is freed: send_arg is not used any more */
	struct pf_user *user;			/* charge.c's */
	uint64_t charged;			/* pages pinned long-term; under its lock */

	struct pf_mutex lock;			/* SESSION: all below */
	struct pf_ledger led;
	struct pf_grant **slot;			/* led.nslot */
	uint32_t *word;				/* led.nslot: generation of a slot while it is nobody's */
	uint32_t nr_slots;			/* in use */
	struct pf_share *shares;
	struct pf_share *pending;		/* shares with an invalidate on its way */
	struct pf_handle *handle;
	uint32_t nr_handles;			/* room */
	uint32_t free_handle;			/* no free one below */

	/* Of the process, set by whoever lends send; -1 and NULL: there is no way. hang_up: end the connection, which
	 * cuts the session off later; called with LAYOUT held, as send is. */
	int pidfd;
	void (*hang_up)(void *arg);
	_Atomic uint32_t nr_leases;

	struct pf_sess *reg_next, **reg_pprev;	/* REGISTRY */
	bool greeted, tapped;			/* REGISTRY: tap.c */
	unsigned int kick_place;		/* kick.c's, + 1; 0: none */
};

struct pf_sess_who { pid_t pid; uid_t uid; const char *comm; };

/* A LIVE session with one reference. -ENOMEM, -EMFILE, -ENFILE. */
int pf_sess_create(struct pf_fs *fs, const struct pf_sess_who *who, pf_sess_send_fn send, void (*send_gone)(void *arg),
		   void *arg, struct pf_sess **out) PF_MUST_CHECK;
void pf_sess_get(struct pf_sess *s);
void pf_sess_put(struct pf_sess *s);

/* The connection is gone, or is to go; somebody may still have the device. @evicted: not by the client's own doing. */
void pf_sess_cut_off(struct pf_sess *s, bool evicted);
/* Nobody has the device open or mapped by way of this session any more: drop slots, pins, handles; wake whoever waited
 * for them. */
void pf_sess_gone(struct pf_sess *s);

/* The right to a file. Takes over the reference @inode in any case; put() gives it back. -ENFILE, -ENOMEM,
 * -ENOTCONN. */
int pf_sess_attach(struct pf_sess *s, struct pf_lobj *obj, void *inode, void (*put)(struct pf_fs *fs, void *inode),
		   bool write, const char *path, uint64_t *fh) PF_MUST_CHECK;
int pf_sess_detach(struct pf_sess *s, uint64_t fh);
/* The share behind a handle, with a reference for the caller. -EBADF. */
int pf_sess_handle(struct pf_sess *s, uint64_t fh, struct pf_share **out, bool *write) PF_MUST_CHECK;

/* Walk the shares: the one after @after (NULL: the first), whose reference is given back, with a reference; NULL at the
 * end. No lock held. */
struct pf_share *pf_sess_share(struct pf_sess *s, struct pf_share *after);

/* Messages. A slot or an id that makes no sense is ignored. */
void pf_sess_ack(struct pf_sess *s, uint64_t id);
/* True when it was good for something. */
bool pf_sess_kick(struct pf_sess *s, uint32_t slot);
void pf_sess_forget(struct pf_sess *s, uint64_t unique);	/* a waiting request answers -EINTR */

/*
 * LAYOUT of the share's inode is held: send an invalidate; expect its acknowledgement, which pf_lay_answered() hears
 * of. False: the share waits for this lock to leave the list, and its client has nothing of the file any more.
 */
void pf_sess_send_inval(struct pf_share *sh, uint64_t id, uint64_t foff, uint64_t len, uint32_t flags, uint32_t slot);
bool pf_sess_expect(struct pf_share *sh, uint64_t id) PF_MUST_CHECK;

#endif
