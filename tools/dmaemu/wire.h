/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - between `dmaemu serve` and the other verbs: one sequenced packet per message, both ends the same build.
 *
 * SUBMIT carries the file by SCM_RIGHTS: the server maps and pins it as itself, so the pin is the server's and
 * outlives the submitter, as a device's would. A request is answered by one reply; LIST by one for each transfer
 * and a last one with err = -ENODATA.
 */
#ifndef TOOLS_DMAEMU_WIRE_H
#define TOOLS_DMAEMU_WIRE_H

#include "dmaemu/dmaemu.h"

#define WIRE_MAGIC UINT32_C(0x31454d44)		/* "DME1": changes with any change of these structs */

enum wire_verb { WIRE_SUBMIT, WIRE_WAIT, WIRE_CANCEL, WIRE_LIST, WIRE_VERB_NR };

struct wire_req {
	uint32_t magic;
	uint32_t verb;		/* enum wire_verb */
	uint64_t id;		/* WAIT, CANCEL */
	uint64_t timeout_ns;	/* WAIT; DMA_NEVER */
	struct job job;		/* SUBMIT */
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

#endif
