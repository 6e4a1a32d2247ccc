/* SPDX-License-Identifier: BSD-3-Clause */
/* wire.h - takes messages apart without ever reading past them. No state, no locks. */
#ifndef PF_FRONT_WIRE_H
#define PF_FRONT_WIRE_H

#include <stdbool.h>
#include <string.h>
#include <pinfs/proto.h>

struct pf_wire {			/* what is left of a message body */
	const uint8_t *at;
	size_t left;
};

/* Copy the next @len bytes out (they need not be aligned). False: there are not so many, and nothing was taken. */
static inline bool pf_wire_take(struct pf_wire *w, void *out, size_t len)
{
	if (len > w->left)
		return false;
	memcpy(out, w->at, len);
	w->at += len;
	w->left -= len;
	return true;
}

/* The first whole message of @len bytes. 1: *h and *body (of h->len - sizeof *h); 0: more bytes are needed; -1:
 * nonsense. */
static inline int pf_wire_frame(const uint8_t *in, size_t len, struct fuse_in_header *h, const uint8_t **body)
{
	if (len < sizeof *h)
		return 0;
	memcpy(h, in, sizeof *h);
	if (h->len < sizeof *h || h->len > PF_P_MSG_MAX || h->unique == 0)
		return -1;
	if (len < h->len)
		return 0;
	*body = in + sizeof *h;
	return 1;
}

#endif
