/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap.h - one who traces a mount: reads the daemon's ring of events and those of all clients (pinfs/trace.h).
 *
 * One at a time. Keeps every session that it reads until it has read what is left of it. Takes REGISTRY. What comes
 * from a client is made to make sense: its type, its times, whose it is.
 */
#ifndef PF_SHARE_TAP_H
#define PF_SHARE_TAP_H

#include <pinfs/proto.h>
#include <pinfs/trace.h>
#include "share/session.h"

struct pf_tap;

/* Begin. -EBUSY, -ENOMEM. No lock held. */
int pf_tap_open(struct pf_fs *fs, pid_t pid, struct pf_tap **out) PF_MUST_CHECK;
/* No more events; what is there can still be read. */
void pf_tap_quiet(struct pf_tap *t);
void pf_tap_close(struct pf_tap *t);

/* Up to @max events. One thread at a time. */
unsigned int pf_tap_read(struct pf_tap *t, struct pf_t_ev *out, unsigned int max, struct pf_p_trace_out *head);

/* Who traces; 0: nobody. */
pid_t pf_tap_pid(struct pf_fs *fs);

/* The session's client knows that it is one: from now on it can be told of traces, and is of one that goes on. */
void pf_tap_join(struct pf_sess *s);

#endif
