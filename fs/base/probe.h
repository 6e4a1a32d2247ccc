/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probe.h - one macro for each thing that happens in the daemon: a static probe (pinfs/usdt.h), and an event of the
 * trace when there is one (pinfs/trace.h says what its fields mean). Off, a macro is one load and a nop.
 *
 * Allowed under any lock but one of rank LEAF.
 */
#ifndef PF_BASE_PROBE_H
#define PF_BASE_PROBE_H

#include <pinfs/trace.h>
#include <pinfs/usdt.h>
#include "base/fs.h"
#include "base/trace.h"

#define PF_TRACING(fs) (__builtin_expect(atomic_load_explicit(&(fs)->tracing, memory_order_relaxed), 0))

/* PF_EMIT(fs, SCAN, .te_id = 5, ...) */
#define PF_EMIT(fs, type, ...) \
	do { \
		if (PF_TRACING(fs)) \
			pf_trace_put(fs, &(struct pf_t_ev){ .te_type = PF_TE_##type, __VA_ARGS__ }); \
	} while (0)
#define PF_P_SESS(s) .te_sess = (s)->id, .te_pid = (uint32_t)(s)->pid
#define PF_P_RANGE(ino_, foff_, len_) .te_ino = (ino_), .te_foff = (foff_), .te_len = (len_)

/* Sessions; @s is a struct pf_sess. */
#define PF_PROBE_JOIN(s_) \
	do { \
		if (PF_TRACING((s_)->fs)) \
			pf_trace_named((s_)->fs, &(struct pf_t_ev){ .te_type = PF_TE_JOIN, PF_P_SESS(s_) }, \
				       (s_)->comm); \
	} while (0)
#define PF_PROBE_LEAVE(s_) PF_EMIT((s_)->fs, LEAVE, PF_P_SESS(s_))
#define PF_PROBE_FILE(s_, ino_, path_) \
	do { \
		if (PF_TRACING((s_)->fs)) \
			pf_trace_named((s_)->fs, &(struct pf_t_ev){ .te_type = PF_TE_FILE, PF_P_SESS(s_), \
								    .te_ino = (ino_) }, path_); \
	} while (0)

#define PF_PROBE_MAP(s_, slot_, ino_, foff_, len_) \
	do { \
		PF_USDT(map, (s_)->id, ino_, foff_, len_); \
		PF_EMIT((s_)->fs, MAP, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_arg = (slot_)); \
	} while (0)
#define PF_PROBE_INVAL(s_, id_, brk_, ino_, foff_, len_) \
	do { \
		PF_USDT(invalidate, (s_)->id, id_, ino_, foff_, len_); \
		PF_EMIT((s_)->fs, INVAL, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_id = (id_), \
			.te_arg = (brk_)); \
	} while (0)
#define PF_PROBE_ACK(s_, id_, ino_) \
	do { \
		PF_USDT(ack, (s_)->id, id_, ino_); \
		PF_EMIT((s_)->fs, ACK, PF_P_SESS(s_), .te_id = (id_), .te_ino = (ino_)); \
	} while (0)
#define PF_PROBE_QUARANTINE(s_, id_, brk_, ino_) \
	do { \
		PF_USDT(quarantine, (s_)->id, id_, ino_); \
		PF_EMIT((s_)->fs, QUARANTINE, PF_P_SESS(s_), .te_id = (id_), .te_arg = (brk_), .te_ino = (ino_)); \
	} while (0)
#define PF_PROBE_KICK(s_, slot_) \
	do { \
		PF_USDT(kick, (s_)->id, slot_); \
		PF_EMIT((s_)->fs, KICK, PF_P_SESS(s_), .te_arg = (slot_)); \
	} while (0)

/* Breaks; @b is a struct pf_brk. */
#define PF_PROBE_SUBMIT(fs, b_) \
	do { \
		PF_USDT(break_submit, (b_)->id, (b_)->obj->ino, (b_)->pid, (b_)->what); \
		if (PF_TRACING(fs)) \
			pf_trace_submit(fs, &(struct pf_t_ev){ .te_type = PF_TE_SUBMIT, .te_id = (b_)->id, \
				.te_pid = (uint32_t)(b_)->pid, .te_tid = (uint32_t)(b_)->tid, \
				PF_P_RANGE((b_)->obj->ino, (b_)->foff, (b_)->len), \
				.te_flags = (b_)->kind == PF_BRK_MAP ? PF_TF_MAP : 0, \
				.te_arg = (b_)->policy.on_busy }, (b_)->what); \
	} while (0)
#define PF_PROBE_START(fs, b_) \
	do { \
		PF_USDT(break_start, (b_)->id, (b_)->obj->ino, (b_)->foff, (b_)->len); \
		PF_EMIT(fs, START, PF_P_RANGE((b_)->obj->ino, (b_)->foff, (b_)->len), .te_id = (b_)->id); \
	} while (0)
#define PF_PROBE_SCAN(fs, b_, busy_) \
	do { \
		PF_USDT(break_scan, (b_)->id, (b_)->obj->ino, busy_); \
		PF_EMIT(fs, SCAN, .te_ino = (b_)->obj->ino, .te_id = (b_)->id, .te_arg = (busy_)); \
	} while (0)
#define PF_PROBE_WAIT(fs, b_) \
	do { \
		PF_USDT(break_wait, (b_)->id, (b_)->obj->ino, (b_)->pid); \
		PF_EMIT(fs, WAIT, PF_P_RANGE((b_)->obj->ino, (b_)->fz_foff, (b_)->fz_len), .te_id = (b_)->id); \
	} while (0)
#define PF_PROBE_FOR(s_, b_, pages_) \
	PF_EMIT((s_)->fs, FOR, PF_P_SESS(s_), PF_P_RANGE((b_)->obj->ino, (b_)->fz_foff, (b_)->fz_len), \
		.te_id = (b_)->id, .te_arg = (pages_))
#define PF_PROBE_WAKE(fs, b_) \
	do { \
		PF_USDT(break_wake, (b_)->id, (b_)->obj->ino); \
		PF_EMIT(fs, WAKE, .te_ino = (b_)->obj->ino, .te_id = (b_)->id); \
	} while (0)
/* @since: pf_trace_begin() before the work. */
#define PF_PROBE_WORK(fs, b_, since_, err_) \
	do { \
		PF_USDT(break_work, (b_)->id, (b_)->obj->ino, err_); \
		if (PF_TRACING(fs)) \
			pf_trace_slice(fs, &(struct pf_t_ev){ .te_type = PF_TE_WORK, .te_ino = (b_)->obj->ino, \
				.te_id = (b_)->id, .te_err = (err_) }, since_); \
	} while (0)
#define PF_PROBE_DONE(fs, b_, err_) \
	do { \
		PF_USDT(break_done, (b_)->id, (b_)->obj->ino, err_); \
		PF_EMIT(fs, DONE, PF_P_RANGE((b_)->obj->ino, (b_)->foff, (b_)->len), .te_id = (b_)->id, \
			.te_err = (err_)); \
	} while (0)

/* Blocks kept out of use, and leases. */
#define PF_PROBE_PARK(s_, ino_, foff_, len_, dblk_) \
	do { \
		PF_USDT(park, (s_)->id, ino_, dblk_, len_); \
		PF_EMIT((s_)->fs, PARK, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_arg = (dblk_)); \
	} while (0)
#define PF_PROBE_UNPARK(s_, ino_, foff_, len_, dblk_) \
	do { \
		PF_USDT(unpark, (s_)->id, ino_, dblk_, len_); \
		PF_EMIT((s_)->fs, UNPARK, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_arg = (dblk_)); \
	} while (0)
#define PF_PROBE_REVOKE(s_, id_, ino_, foff_, len_) \
	do { \
		PF_USDT(revoke, (s_)->id, id_, ino_, foff_, len_); \
		PF_EMIT((s_)->fs, REVOKE, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_id = (id_)); \
	} while (0)
#define PF_PROBE_LEASE(s_, verb, id_, ino_, foff_, len_) /* verb: TAKE, BREAK, DROP */ \
	do { \
		PF_USDT(lease, #verb, (s_)->id, id_, ino_, foff_, len_); \
		PF_EMIT((s_)->fs, LEASE_##verb, PF_P_SESS(s_), PF_P_RANGE(ino_, foff_, len_), .te_id = (id_)); \
	} while (0)

#endif
