/* SPDX-License-Identifier: BSD-3-Clause */
/* void.h - an operator ends a pin that its holder does not end. */
#ifndef PF_SHARE_VOID_H
#define PF_SHARE_VOID_H

#include "share/session.h"

/*
 * Void the pin of a record: nobody waits for its pages any more, no device translates them, and their blocks are kept
 * from reuse, once they have left the file, until the client has given the counts back or is gone. Another pin of the
 * same session goes with it where it holds the same pages: counters do not know whose they are. No lock held.
 * -ESRCH: no such session, or its record is free, or says pages that it has not pinned. -ENOTCONN: it is cut off.
 */
int pf_pin_void(struct pf_fs *fs, uint64_t session, uint32_t record, const char *by) PF_MUST_CHECK;

#endif
