/* SPDX-License-Identifier: BSD-3-Clause */
/* lease.h - a lease inside the library, shared by lease.c and handover.c. */
#ifndef SH_LEASE_H
#define SH_LEASE_H

#include <pinfs/lease.h>
#include "pin.h"

/* On its session's list (sh.lock) from before the daemon is asked, so that no event of it is missed. */
struct pinfs_lease {
	struct sh_session *ses;
	struct sh_file *file;			/* with a reference */
	struct pinfs_lease *next, **pprev;
	uint32_t epoch;				/* of the process that took it */
	struct pf_p_lease_out out;		/* serve writes the daemon's answer here; lo_id 0: not yet */
	_Atomic uint32_t state;			/* enum pinfs_lease_state */
	_Atomic uint64_t until_ns;
	int event;				/* in the crew's table; -1 */
	int signo;
	void *value;
	struct pinfs_pin **give;		/* on their way, or gone */
	uint32_t ngive;
	size_t give_bytes;			/* of give[] */
	bool exported;
	bool moved;				/* another process has it */
};

/* A lease on the list, without an answer yet; takes the file's reference over. NULL: no memory. */
struct pinfs_lease *sh_lease_new(struct sh_file *f);
void sh_lease_free(struct pinfs_lease *l);
int sh_lease_mine(const struct pinfs_lease *l);		/* 0, -EINVAL, -ECHILD, -ENOTCONN */
/* A request about a lease, in the crew. */
int sh_lease_rpc(struct sh_session *s, uint32_t op, const void *in, size_t len, void *out, size_t out_len);

#endif
