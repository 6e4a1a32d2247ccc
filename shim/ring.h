/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring.h - what is known of an io_uring: its memory, which completions have been seen, which files keep a device open.
 * hooks_uring.c has the system calls, ring.c the rest; async.h says what a place and a flight are.
 */
#ifndef SH_RING_H
#define SH_RING_H

#include "async.h"

#include <linux/io_uring.h>

#define SH_CLAIMS 4U			/* devices that a ring keeps open */

/* Of later kernels than the headers need be. */
#define SETUP_NO_MMAP (1U << 14)
#define SETUP_REGISTERED_FD_ONLY (1U << 15)
#define SETUP_NO_SQARRAY (1U << 16)
#define SETUP_KNOWN (((1U << 18) - 1) & ~(SETUP_NO_MMAP | SETUP_REGISTERED_FD_ONLY))
#define REGISTER_BY_INDEX (1U << 31)

struct sh_ring {
	struct sh_place place;		/* first */
	struct sh_ring *next;
	int fd;				/* the program's, as of the setup */
	struct io_uring_params par;
	bool shut;			/* the descriptor is closed, or another file's */
	bool blind;			/* cannot be followed */
	bool followed;
	bool thread;			/* the program believes that it has a kernel thread */
	unsigned int users;		/* calls; flights_lock */
	char *sq, *cq, *sqe;		/* NULL: not mapped yet */
	size_t sq_len, cq_len, sqe_len;
	uint32_t seen;			/* completions up to here */
	uint32_t head;			/* requests taken up to here, as far as we know of them */
	uint64_t due;			/* completions to come, of requests that nobody saw included */
	bool unsure;			/* which flights have ended is unknown */
	bool uncounted;			/* ... and how many completions come: some have none, or many */
	bool doubts;			/* completions may be missed, or late */
	bool drained;			/* IOSQE_IO_DRAIN: requests wait for all before them, whatever these are */
	pthread_mutex_t submit;
	_Atomic uint32_t owner;
	enum { TABLE_NONE, TABLE_OURS, TABLE_THEIRS } table;	/* registered files: ring_claim.c */
	uint32_t table_base;
	const struct sh_session *claim[SH_CLAIMS];
};

/* The program's descriptor, or the number that it has given to it in this thread. */
struct sh_ring_name {
	long fd;
	bool by_id;
};

extern _Atomic unsigned int sh_nrings;

static inline _Atomic uint32_t *sh_ring_word(char *base, uint32_t off)
{
	return (_Atomic uint32_t *)(void *)(base + off);
}

static inline uint32_t sh_ring_at(char *base, uint32_t off)
{
	return atomic_load_explicit(sh_ring_word(base, off), memory_order_acquire);
}

bool sh_ring_map(struct sh_ring *r, int fd);		/* lock held */
void sh_ring_look(struct sh_place *p);			/* lock held */
/*
 * Will completions be seen without the program's doing, if the requests end? When not, no hold of the ring is brief
 * from now on. To be asked with each request. Lock held.
 */
bool sh_ring_sees(struct sh_ring *r);
/* From the first submission on that is seen. Requests from before are strangers. False: it cannot be. Lock held. */
bool sh_ring_follow(struct sh_ring *r, struct sh_ring_name name);

/* With a reference; NULL: none of ours. */
struct sh_ring *sh_ring_get(long fd, bool by_id);
void sh_ring_put(struct sh_ring *r);
/* One was made, by whatever call. @thread: with a thread that it does not have. */
void sh_ring_new(int fd, const struct io_uring_params *p, bool thread);
void sh_ring_closed(long fd);
/* IORING_REGISTER_RING_FDS and its opposite have been or will be done: the program's array. */
void sh_ring_ids(uint64_t user, long n, bool on);

/* ---- ring_claim.c ---- */
/* The device of what is held stays open as long as the ring has requests. Submission only. */
void sh_ring_claim(struct sh_ring *r, struct sh_ring_name name, const struct sh_hold *h);
/* Files are registered or no longer: the call, with arguments that leave room for ours. */
long sh_ring_files(struct sh_ring *r, const long *arg);

#endif
