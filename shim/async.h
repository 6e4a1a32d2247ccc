/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * async.h - transfers that go on after the call that began them: libaio, io_uring. What they hold (transient.h), and
 * how it is known that they have ended.
 *
 * A *place* is where the kernel reports the end of requests: the event ring of an aio context, the completion queue
 * of an io_uring. Both are memory that the kernel shares with the program, so a request has ended as soon as its
 * event stands there, whether the program has looked or not. A *flight* is a request that has been handed over and
 * has not ended. Events name the request by a number of the program's choice (the iocb's address, user_data), which
 * need not be unique: of flights with the same number none gives up its hold before all have ended, and none is brief
 * unless all are.
 *
 * Who looks: every call that submits or collects; and serve, as long as somebody waits for blocks of ours, every
 * millisecond: a program that does not collect its events holds up nobody.
 *
 * LOCK: flights_lock, for moments, by anybody, serve included. Nobody touches memory of the program, waits, or makes a
 * hold under it. Below it: mem_lock, and that of holds for a hold that is not brief any more.
 */
#ifndef SH_ASYNC_H
#define SH_ASYNC_H

#include "transient.h"

#define SH_FLIGHT_HASH 256U

struct sh_flight {
	struct sh_flight *next;		/* hash chain, or a list of the caller's */
	uint64_t key;
	uint64_t seq;
	struct sh_hold *hold;		/* or NULL */
	void *copy;			/* what the kernel reads in place of windows, or NULL */
	size_t bytes;
	struct sh_flight *with;		/* others that end with it, never begun themselves */
	bool brief;			/* so is its hold: transient.h */
	bool ended;
};

struct sh_place {
	struct sh_place *next;
	/* Lock held: say sh_flight_end() for each event that has come since. */
	void (*look)(struct sh_place *p);
	uint64_t flights;
	struct sh_flight *hash[SH_FLIGHT_HASH];
};

void sh_flights_lock(sh_sigs *old);
/* Also gives up what has ended meanwhile. */
void sh_flights_unlock(const sh_sigs *old);
void sh_place_add(struct sh_place *p);
void sh_place_del(struct sh_place *p);			/* nobody looks any more; flights stay */
bool sh_place_holds(const struct sh_place *p);		/* something, that has not ended */
/* @f has key and hold. */
void sh_flight_begin(struct sh_place *p, struct sh_flight *f);
void sh_flight_end(struct sh_place *p, uint64_t key);
void sh_flight_none(struct sh_place *p, struct sh_flight *f);	/* it was not begun after all */
void sh_flights_end_all(struct sh_place *p);
/* From now on their ends may be missed: none of their holds is brief. Lock held. */
void sh_flights_not_brief(struct sh_place *p);

/* serve: somebody is interested in blocks of ours. */
void sh_flights_poke(void);
int sh_flights_timeout_ms(void);			/* -1: nothing to look for */
void sh_flights_timer(void);
void sh_async_forget(void);				/* fork child */

/*
 * What a transfer of these buffers needs. @kind is the descriptor's: of a file of pinfs itself, what is written is
 * copied (f->copy, f->bytes), for the reason at the head of move.c; what is read is held: nobody waits for an inode's
 * lock to read. 0 or as sh_hold(); f->hold and f->copy NULL: nothing.
 */
int sh_flight_pack(struct sh_flight *f, const struct iovec *v, size_t n, unsigned int flags, enum sh_fd_kind kind,
		   enum pf_pin_api api);
/* What a hold that failed makes of a request: its memory is replaced by this, which is none, so that the kernel says
 * EFAULT, where and when it would. */
void *sh_no_memory(void);
/* Copy of memory of the program's, which may be none: -EFAULT. */
int sh_peek(void *to, const void *from, size_t n);

/* ---- hooks_aio.c; arguments as the kernel's, result or -errno ---- */
long sh_aio_submit(const long *arg);
long sh_aio_destroy(const long *arg);
long sh_aio_events(long nr, const long *arg);
void sh_aio_forget(void);

/* ---- hooks_uring.c ---- */
long sh_uring_setup(const long *arg);
long sh_uring_enter(const long *arg);
long sh_uring_registered(const long *arg);
long sh_uring_close(long fd);
void sh_uring_forget(void);
/*
 * io_uring_register() as it is made: the hook of registered buffers. @fd is the ring's, also where the program gave the
 * number of a registered one; the real call has its own arguments. hooks_longring.c.
 */
long sh_uring_register(int fd, unsigned int opcode, const long *arg);

#endif
