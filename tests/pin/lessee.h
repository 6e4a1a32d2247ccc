/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lessee.h - processes of a test that take leases, hand them over, and work as DMA engines with translations.
 *
 * As an actor (actor.h): each is a child that obeys one order at a time; an answer is 0 or more, or a negative errno.
 * Descriptors go from one to another by the wire, which all have in common.
 */
#ifndef TESTS_PIN_LESSEE_H
#define TESTS_PIN_LESSEE_H

#include <stdint.h>
#include <sys/types.h>

enum lessee_verb {
	LE_MAP,			/* a = descriptor's flags: open the file, map [0, b); 0 */
	LE_CLOSE, LE_UNMAP,
	LE_OPEN,		/* the same without a mapping */
	LE_NOBODY,		/* be nobody from now on */
	LE_TAKE,		/* n = lease, a = flags, off, len */
	LE_TAKE_WINDOW,		/* the same, on what the mapping shows */
	LE_TEST,		/* a = flags, off, len: -EAGAIN, and the holder's pid is in lessee_said() */
	LE_DROP, LE_DOWNGRADE,	/* n */
	LE_STATE,		/* n: enum pinfs_lease_state */
	LE_LEFT,		/* n: milliseconds */
	LE_RANGE,		/* n: offset of its first byte; lessee_said(): length */
	LE_EVENT,		/* n: an event descriptor */
	LE_AWAIT,		/* until it is readable: what was read, a number above 0 */
	LE_SIGNAL,		/* n, a = signal */
	LE_SIGNALS,		/* until one has come: its si_value, which is what LE_SIGNAL set: n + 100 */
	LE_PIN,			/* n = pin, a = flags, off, len; b: and be told the addresses */
	LE_UNPIN, LE_QUERY,	/* n */
	LE_TOUCH,		/* off, a = store: the signal, or 0 */
	LE_REMAP,		/* map [0, len) anew, in another place */
	LE_MOVE,		/* move the mapping, by mremap(2) */
	LE_TRUNCATE,		/* off = size, by ftruncate(2) */
	LE_EXPORT, LE_RETRACT,	/* n; the descriptor goes to the wire */
	LE_IMPORT,		/* from the wire: lease n, and pins from 0 on: how many */
	LE_FORK,		/* n, off = pin: what a child's pinfs_lease_drop(), query, unpin say, if all agree */
	LE_EXEC,		/* become sleep(1) for a minute; does not answer */
	LE_PUT,			/* n = pin: device, ledger and its pieces to the wire */
	LE_GET,			/* from the wire: become its engine */
	LE_ENTER, LE_EXIT,	/* of a burst; ENTER: 1, or 0 when the translation is gone */
	LE_WRITE,		/* the burst's bytes 'D', to where the addresses say */
	LE_RUN,			/* burst after burst, in a thread */
	LE_RAN,			/* how many bursts so far; waits for the first */
	LE_FAULT,		/* wait until the thread has met a fault: 1 */
	LE_LEAVE,
};

struct lessee_order {
	uint32_t verb, n;
	uint64_t a, b, off, len;
};

struct lessee;

/* Before the first one of a case. */
void lessee_wire(void);
struct lessee *lessee_new(const char *path);
pid_t lessee_pid(const struct lessee *l);
void lessee_send(struct lessee *l, struct lessee_order o);
/* -EINPROGRESS: not after @ms. -ECHILD: it has died. */
long lessee_result(struct lessee *l, unsigned int ms);
/* Both; a minute. */
long lessee_do(struct lessee *l, struct lessee_order o);
#define LE_DO(l, what, ...) lessee_do(l, (struct lessee_order){ .verb = LE_##what, __VA_ARGS__ })
uint64_t lessee_said(const struct lessee *l);
/* exit(0), SIGKILL. */
void lessee_end(struct lessee *l);
void lessee_kill(struct lessee *l);

#endif
