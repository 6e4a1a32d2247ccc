/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report.h - who holds what and who waits for it, as JSON (PROTOCOL.md has the schemas).
 *
 * Reads the registry, sessions, ledgers and inodes, each under its own lock for a moment; the result is no snapshot
 * of one instant. Ledger memory may hold anything: it is escaped and bounded, and believed only to be what a client
 * says.
 */
#ifndef PF_SHARE_REPORT_H
#define PF_SHARE_REPORT_H

#include <stddef.h>
#include <pinfs/proto.h>
#include "share/session.h"

struct pf_viewer {
	const char *mount;		/* mount point, for display */
	uid_t uid;
	bool all;			/* sees file names of everybody */
	uint64_t (*size_of)(void *inode);	/* of a share's; NULL: not known */
};

/* *text is to be freed, *len bytes, at most PF_REPORT_BYTES, not terminated. -ENOMEM, -EINVAL (unknown @what). No
 * lock held. */
#define PF_REPORT_BYTES (PF_P_MSG_MAX - 4096U)
int pf_report(struct pf_fs *fs, const struct pf_p_report_in *in, const struct pf_viewer *viewer, char **text,
	      size_t *len) PF_MUST_CHECK;

#endif
