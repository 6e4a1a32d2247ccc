/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.h - the session server with one file, and clients that speak to it over its real socket. A client is this
 * process, or a forked one where its death or its user matters.
 */
#ifndef PF_TESTS_SRV_CLIENT_H
#define PF_TESTS_SRV_CLIENT_H

#include <pthread.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>
#include "front/srv.h"
#include "share/lay.h"
#include "unit/op_env.h"

#define CHUNK PF_CHUNK_SIZE
#define PAGE PF_BLK_SIZE
#define CL_HUNG_UP 1000		/* the answer that did not come */
#define SRV_PATIENCE_MS 120000	/* for what has to come */

struct env {
	struct op_env e;
	struct pf_srv *srv;
	uint64_t ino;
	uint32_t gen;
	_Atomic unsigned int notified;
};
void env_open(struct env *v, enum pf_busy policy, uint64_t size);
void env_close(struct env *v);

struct cl {
	int fd, dev, led;
	uint64_t unique;
	struct pf_l_hdr *hdr;
	struct pf_l_slot *slot;
	struct pf_l_rec *rec;
	struct pf_p_inval inval[64];	/* that came while an answer was awaited */
	unsigned int ninval;
	uint64_t other;			/* a request whose answer may come first; then 0, and the answer: */
	int other_err;
	size_t len;			/* of the last answer's body */
	uint8_t body[PF_P_MSG_MAX];
};
int connect_to(struct pf_srv *srv);
void send_msg(struct cl *c, uint32_t opcode, const void *body, size_t len);
bool take(struct cl *c, void *buf, size_t len, int fds[2]);
/* The answer to request @unique: its error; its body is in c->body. Notifies are kept. */
int answer_to(struct cl *c, uint64_t unique, int fds[2]);
int call(struct cl *c, uint32_t opcode, const void *body, size_t len);
/* The next notify. */
bool notified(struct cl *c, struct pf_p_inval *in);
void ack(struct cl *c, uint64_t id);
int cl_init(struct cl *c);
int cl_hello(struct cl *c);
struct cl *cl_open(struct env *v);
void cl_close(struct cl *c);
int cl_attach(struct env *v, struct cl *c, bool write, uint64_t *fh);
int cl_setup(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t fault, bool write);
void send_setup(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t fault, bool write);
int cl_remove(struct cl *c, uint32_t slot);
int cl_pin(struct cl *c, uint64_t fh, uint32_t slot, uint32_t first, uint32_t n, uint32_t flags);
void cl_unpin(struct cl *c, uint32_t slot, uint32_t first, uint32_t n);
/* The report came, and is JSON: in c->body. */
bool report(struct cl *c, uint32_t what);
static inline struct pf_p_map_out *map_out(struct cl *c) { return (void *)c->body; }
static inline struct pf_p_extent *extents(struct cl *c) { return (void *)(c->body + sizeof(struct pf_p_map_out)); }

struct trunc { struct env *v; uint64_t size; int err; _Atomic bool ended; pthread_t t; };
void trunc_start(struct trunc *t, struct env *v, uint64_t size);
int trunc_end(struct trunc *t);

void sleep_ms(long ms);
uint64_t nr_breaks(struct env *v);
/* Wait until a break waits for pins. */
bool parked(struct env *v);

#endif
