/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - what happens in a client: a static probe each (pinfs/usdt.h), and an event of the trace while the daemon of
 * the session is traced (pinfs/trace.h). Off, a macro is one load, of a line that a pin has in hand anyway, and a nop.
 */
#ifndef SH_TRACE_H
#define SH_TRACE_H

#include <pinfs/trace.h>
#include <pinfs/usdt.h>
#include "pin.h"

#define SH_TRACE_STACKS (UINT32_C(1) << 31)	/* of sh_life.trace: stacks of pins are kept */

static inline bool sh_tracing(void)
{
	return __builtin_expect(atomic_load_explicit(&sh_life.trace, memory_order_relaxed) != 0, 0);
}

/* @p is counted, and its api is set in its record; what follows is not counted any more. */
#define SH_PROBE_PIN(p_) \
	do { \
		PF_USDT(pin, (p_)->ino, (p_)->foff, (p_)->len, p_); \
		if (sh_tracing()) \
			sh_trace_pin(p_); \
	} while (0)
/* A pin that was not granted; @p_ may be NULL: it did not come as far as to a session. */
#define SH_PROBE_REFUSED(p_, since_, foff_, len_, err_) \
	do { \
		PF_USDT(pin_refused, foff_, len_, err_); \
		if (sh_tracing()) \
			sh_trace_refused(p_, since_, foff_, len_, err_); \
	} while (0)
#define SH_PROBE_UNPIN(p_) \
	do { \
		PF_USDT(unpin, (p_)->ino, (p_)->foff, (p_)->len, p_); \
		if (sh_tracing()) \
			sh_trace_unpin(p_); \
	} while (0)
/* The end of a fault that began at @since_ (sh_trace_begin()). */
#define SH_PROBE_FAULT(w_, since_, err_) \
	do { \
		PF_USDT(fault, (w_)->addr, (w_)->foff, (w_)->tid, err_); \
		if (sh_tracing()) \
			sh_trace_fault(w_, since_, err_); \
	} while (0)
#define SH_PROBE_UNMAP(s_, in_, since_) \
	do { \
		PF_USDT(unmap, (in_)->in_id, (in_)->in_ino, (in_)->in_foff, (in_)->in_len); \
		if (sh_tracing()) \
			sh_trace_unmap(s_, in_, since_); \
	} while (0)

/* Now, or 0 when nobody traces. */
static inline uint64_t sh_trace_begin(void) { return sh_tracing() ? sh_now_ns() : 0; }

void sh_trace_set(struct sh_session *s, bool on);	/* serve: the daemon says so */
/* stack.c */
void sh_stack_init(void);
void sh_stack_map(struct sh_session *s);		/* crew: a session begins */
void sh_stack_note(const struct pinfs_pin *p);
size_t sh_stack_send(struct pf_t_stack *st);	/* bytes that a message about a lease takes along: all of it, or 0 */

void sh_trace_pin(const struct pinfs_pin *p);
void sh_trace_refused(const struct pinfs_pin *p, uint64_t since, uint64_t foff, uint64_t len, int err);
void sh_trace_unpin(const struct pinfs_pin *p);
void sh_trace_label(const struct pinfs_pin *p);
void sh_trace_fault(const struct sh_want *w, uint64_t since, int err);
void sh_trace_unmap(struct sh_session *s, const struct pf_p_inval *in, uint64_t since);

#endif
