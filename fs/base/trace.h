/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - the daemon's own events of a trace (pinfs/trace.h): a ring in memory while somebody traces, nothing else.
 *
 * Take nothing but a lock of rank LEAF. Who reads the ring, and those of the clients, is share/tap.c's. Events are put
 * by the macros of base/probe.h.
 */
#ifndef PF_BASE_TRACE_H
#define PF_BASE_TRACE_H

#include <pinfs/trace.h>
#include "base/fs.h"

struct pf_trace;

extern const char *const pf_t_name[PF_TE_NR];

int pf_trace_start(struct pf_fs *fs) PF_MUST_CHECK;	/* -ENOMEM */
void pf_trace_quiet(struct pf_fs *fs);			/* no more events; those that are there can be read */
void pf_trace_stop(struct pf_fs *fs);

/* Events from number *at on, oldest first, up to @max; *at moves on. *lost grows by those that are gone already. */
unsigned int pf_trace_take(struct pf_fs *fs, uint64_t *at, struct pf_t_ev *out, unsigned int max, uint64_t *lost);

uint64_t pf_trace_now(void);				/* CLOCK_MONOTONIC, ns */
/* Now, or 0 when nobody traces. */
uint64_t pf_trace_begin(struct pf_fs *fs);

/* The event, as of now; without a trace it is dropped. */
void pf_trace_put(struct pf_fs *fs, struct pf_t_ev *ev);
void pf_trace_slice(struct pf_fs *fs, struct pf_t_ev *ev, uint64_t since);	/* since 0: as put */
void pf_trace_named(struct pf_fs *fs, struct pf_t_ev *ev, const char *text);	/* its last bytes */
void pf_trace_submit(struct pf_fs *fs, struct pf_t_ev *ev, const char *what);	/* with process and comm of te_tid */

#endif
