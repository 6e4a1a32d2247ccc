/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - events of a trace: what they say, and the ring in which a client leaves its own.
 *
 * A ring is written by any thread of its owner and never waits for a reader: the oldest events are overwritten. A
 * writer takes a number, marks the cell as being written (tc_seq 0), fills it, and publishes it with number + 1. A
 * reader keeps its own place, copies a cell, and believes it only when tc_seq was number + 1 before and after; so it
 * knows how many it missed. A reader in another process than the writer takes every byte for hostile.
 *
 * The ring of a client lies in its ledger, at lh_trace_off, and is mapped by it only when PF_P_NOTIFY_TRACE says so.
 * Times are CLOCK_MONOTONIC; an event with a te_dur began at te_ns.
 */
#ifndef PINFS_TRACE_H
#define PINFS_TRACE_H

#include <stdatomic.h>
#include <stdint.h>
#include <pinfs/compiler.h>

/*
 * Name, word in JSON, who says it (C: client, D: daemon), and what its fields mean. te_sess, te_ino, te_foff and te_len
 * are what they are called, where they make sense.
 *
 *   FAULT     C  te_dur; te_arg: the address; te_err; PF_TF_WRITE
 *   UNMAP     C  te_dur: an invalidation obeyed; te_id: of the invalidate
 *   PIN       C  te_id: PF_T_PIN_ID; te_arg: enum pf_pin_api; te_dur when the call was not fast; te_err: it failed;
 *                te_text: its label; PF_TF_WRITE
 *   UNPIN     C  te_id
 *   LABEL     C  te_id: of the pin; te_text: what it is called now
 *   DMA_START C  te_id: of the transfer; te_arg: pin it works under, or PF_T_NO_PIN; te_text: label; PF_TF_WRITE:
 *                to the file
 *   DMA_BURST C  te_id; te_foff, te_len: the bytes that have moved
 *   DMA_END   C  te_id; te_err
 *   JOIN      D  a session, te_pid, te_text: comm. At the start of a trace for each that is there
 *   LEAVE     D  a session has ended
 *   FILE      D  te_ino is called te_text by the session (its last bytes)
 *   MAP       D  a grant: te_arg is the slot
 *   INVAL     D  sent; te_id; te_arg: the break for which it is
 *   ACK       D  of the invalidate te_id
 *   QUARANTINE D the session did not answer the invalidate te_id; te_arg: the break
 *   SUBMIT    D  a break: te_id; te_pid, te_tid: who asked; te_text: what, and from byte 16 on comm; te_arg: enum
 *                pf_busy; PF_TF_MAP: of kind MAP
 *   START     D  te_id; from the top, with the range as it is now
 *   SCAN      D  te_id; te_arg: 1 when a pin was found
 *   WAIT      D  te_id; the break is parked. One FOR for each session that it waits for follows
 *   FOR       D  te_id: the break; te_arg: pages
 *   KICK      D  the session says that pins have ended; te_arg: the slot
 *   WAKE      D  te_id; it will look again
 *   WORK      D  te_id; te_dur: the operation itself; te_err
 *   DONE      D  te_id; te_err
 *   PARK      D  blocks that have left the file and are kept out of use because of the session; te_arg: first block
 *   UNPARK    D  ... and are free again
 *   REVOKE    D  te_id: of the lease or pin; the session's right to the range has been taken away
 *   LEASE_TAKE, LEASE_BREAK, LEASE_DROP D  te_id: of the lease
 */
#define PF_T_EVENTS(X) \
	X(FAULT, "fault") X(UNMAP, "unmap") X(PIN, "pin") X(UNPIN, "unpin") X(LABEL, "label") \
	X(DMA_START, "dma-start") X(DMA_BURST, "dma-burst") X(DMA_END, "dma-end") \
	X(JOIN, "join") X(LEAVE, "leave") X(FILE, "file") X(MAP, "map") X(INVAL, "invalidate") X(ACK, "ack") \
	X(QUARANTINE, "quarantine") X(SUBMIT, "submit") X(START, "start") X(SCAN, "scan") X(WAIT, "wait") \
	X(FOR, "for") X(KICK, "kick") X(WAKE, "wake") X(WORK, "work") X(DONE, "done") X(PARK, "park") \
	X(UNPARK, "unpark") X(REVOKE, "revoke") X(LEASE_TAKE, "lease-take") X(LEASE_BREAK, "lease-break") \
	X(LEASE_DROP, "lease-drop")

#define PF_T_ENUM(name, word) PF_TE_##name,
enum pf_t_type { PF_TE_NONE, PF_T_EVENTS(PF_T_ENUM) PF_TE_NR };
#undef PF_T_ENUM
#define PF_TE_CLIENT_LAST PF_TE_DMA_END		/* a client says nothing beyond */

#define PF_TF_WRITE 1U
#define PF_TF_MAP 2U

/* A pin is called by its record in the ledger, as in reports; one without by something else that is its own. */
#define PF_T_NO_RECORD (UINT64_C(1) << 63)
#define PF_T_NO_PIN UINT64_MAX

struct pf_t_ev {
	uint64_t te_ns, te_dur;
	uint64_t te_ino, te_foff, te_len;
	uint64_t te_id, te_arg;
	uint64_t te_sess;		/* of a client's event: set by the reader */
	uint32_t te_pid, te_tid;
	uint16_t te_type, te_flags;	/* enum pf_t_type, PF_TF_* */
	int32_t te_err;			/* 0 or -errno */
	char te_text[40];		/* NUL padded */
};
PF_MEDIA_SIZE(struct pf_t_ev, 120);

struct pf_t_cell {
	_Atomic uint64_t tc_seq;
	struct pf_t_ev tc_ev;
};
PF_MEDIA_SIZE(struct pf_t_cell, 128);

#define PF_T_CELLS UINT64_C(65536)	/* a power of two */
struct pf_t_ring {
	_Atomic uint64_t tr_head;	/* the next number */
	uint8_t tr_pad[4088];
	struct pf_t_cell tr_cell[];	/* PF_T_CELLS */
};
#define PF_T_RING_BYTES (sizeof(struct pf_t_ring) + PF_T_CELLS * sizeof(struct pf_t_cell))

/*
 * Behind the ring, one for each record of the ledger: who called, innermost first, 0 ends it. Written by clients that
 * run with PINFS_PIN_STACK=1, after the pin; no memory until then.
 */
#define PF_T_FRAMES 24U
struct pf_t_stack {
	uint64_t ts_pc[PF_T_FRAMES];
};
PF_MEDIA_SIZE(struct pf_t_stack, 192);

static inline void pf_t_push(struct pf_t_ring *r, const struct pf_t_ev *ev)
{
	uint64_t n = atomic_fetch_add(&r->tr_head, 1);
	struct pf_t_cell *c = &r->tr_cell[n % PF_T_CELLS];

	atomic_store(&c->tc_seq, 0);
	c->tc_ev = *ev;
	atomic_store_explicit(&c->tc_seq, n + 1, memory_order_release);
}

#endif
