/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - between `dmaemu serve` and the other verbs: one sequenced packet per message, both ends the same build.
 *
 * SUBMIT carries the file by SCM_RIGHTS: the server maps and pins it as itself, so the pin is the server's and
 * outlives the submitter, as a device's would. With another owner (enum job_owner) it carries besides what the server
 * needs of the submitter's pin: device, ledger and pieces; or the lease on its way. A request is answered by one reply;
 * LIST by one for each transfer and a last one with err = -ENODATA.
 */
#ifndef TOOLS_DMAEMU_WIRE_H
#define TOOLS_DMAEMU_WIRE_H

#include "dmaemu/dmaemu.h"

#define WIRE_MAGIC UINT32_C(0x32454d44)		/* "DME2": changes with any change of these structs */

#define WIRE_FDS 4
#define WIRE_PIECES_MAX (UINT64_C(1) << 20)

enum wire_verb { WIRE_SUBMIT, WIRE_WAIT, WIRE_CANCEL, WIRE_LIST, WIRE_GO, WIRE_VERB_NR };

struct wire_req {
	uint32_t magic;
	uint32_t verb;		/* enum wire_verb */
	uint64_t id;		/* WAIT, CANCEL, GO */
	uint64_t timeout_ns;	/* WAIT; DMA_NEVER */
	struct job job;		/* SUBMIT, and below */
	uint64_t ino;
	uint64_t npiece;	/* JOB_CLIENT: struct pinfs_dma in the file that comes along */
};

struct wire_reply {
	uint32_t magic;
	int32_t err;
	char why[80];		/* with err: what was tried */
	struct job job;
	struct dma_stat st;
};

/* Fill in a unix address from a path, or from @name for an abstract one. 0, -ENAMETOOLONG, -EINVAL. */
struct sockaddr_un;
int wire_addr(const char *path, struct sockaddr_un *sa, unsigned int *len);

/* remote.c. The submitter: hold the range of @file, and fill in what the request needs; the descriptors are the
 * caller's to close, also after an error. What is held stays so until remote_close(), or the submitter's end. */
struct remote {
	struct job_map map;
	struct pinfs_pin *pin;
	struct pinfs_lease *lease;
};
int remote_give(struct remote *r, int file, struct wire_req *req, int fds[WIRE_FDS], const char **why);
void remote_close(struct remote *r);
/* The device: queue it. The descriptors stay the caller's. @addr: a window of the file, for a hand-over. */
int remote_take(struct dma_engine *e, const struct wire_req *req, const struct job *j, const int fds[WIRE_FDS],
		const char *addr, struct dma_xfer **out, const char **why);

#endif
