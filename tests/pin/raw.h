/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw.h - a client made of bare messages: it does only what the test says, in whatever order, and need not be honest.
 *
 * One connection, one thread. A failure to talk at all ends the case (fatally); refusals are results.
 */
#ifndef TESTS_PIN_RAW_H
#define TESTS_PIN_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>
#include "harness/fs.h"

#define RAW_NOTES 64

struct raw {
	int sock;
	uint64_t unique;		/* of the last request */
	int fds[2];			/* device, ledger */
	struct pf_p_hello_out hello;
	struct pf_l_hdr *led;		/* raw_ledger() */
	struct pf_l_slot *slot;
	size_t led_len;
	struct pf_p_inval note[RAW_NOTES];	/* invalidates that came while an answer was awaited */
	unsigned int nnote;
};

/* A connection, a minute at most for each send and receive. */
int raw_dial(const struct pt_fs *fs);
/* Connected and initialised; with @hello, with a session. */
void raw_up(struct raw *r, const struct pt_fs *fs, bool hello);
/* Everything closed and unmapped. */
void raw_down(struct raw *r);

/* One message, no waiting. False: the connection is over. */
bool raw_send(struct raw *r, uint32_t opcode, const void *in, size_t inlen);
/* A request; the error of its answer, its body in @out, descriptors in r->fds. -ECONNRESET: the connection was ended,
 * -ETIMEDOUT. */
int raw_call(struct raw *r, uint32_t opcode, const void *in, size_t inlen, void *out, size_t room);
/* The right to the file, as this session's handle. */
int raw_attach(struct raw *r, const char *path, int flags, struct pf_p_attach_out *out);
struct pf_p_map_in raw_map_in(uint64_t fh, uint64_t foff, uint64_t slot, uint64_t flags);
/* Slot @slot shows chunk @foff of the handle, its page at @foff writable. */
struct raw_chunk { struct pf_p_map_out out; struct pf_p_extent ext[PF_P_EXT_MAX]; };
int raw_setup(struct raw *r, uint64_t fh, uint32_t slot, uint64_t foff, struct raw_chunk *c);
/* Map the shared memory; fatal when it cannot. */
void raw_ledger(struct raw *r);

/* The next invalidate. False: none within a minute, or the connection was ended. */
bool raw_note(struct raw *r, struct pf_p_inval *in);
/* Acknowledge all that have come. */
void raw_ack_all(struct raw *r);
bool raw_ack(struct raw *r, uint64_t id);
/* Wait for an invalidate and acknowledge it, without having done what it asks. */
void raw_ack_next(struct raw *r);
/* Has the daemon ended the connection? Waits for that up to a minute; what else comes is dropped. */
bool raw_hung_up(struct raw *r);

#endif
