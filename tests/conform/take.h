/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * take.h - what cases about takers of pins share: a bare io_uring, a call that ends by itself, and the functions of the
 * preload library, which this program is not linked with.
 */
#ifndef CONFORM_TAKE_H
#define CONFORM_TAKE_H

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include "conform/conform.h"

/* ---- the preload library ---- */

/* The function, or the case is not applicable: LIB(c, pinfs_pin)(p, len, 0, &pin). */
#define LIB(c, name) ((__typeof__(&(name)))(uintptr_t)take_symbol(c, #name))
void *take_symbol(struct cf *c, const char *name);
/* A policy of this file or directory (pinfs(8): user.pinfs.NAME). Not applicable where there is none. */
void take_policy(struct cf *c, const char *path, const char *name, const char *value);
/* The number behind "name": in what `pinfsctl status --json` says, -1 when it is not there. */
long take_status(struct cf *c, const char *name);
/* pinfsctl WHAT ... MOUNT: its exit status, and what it said. */
int take_ctl(struct cf *c, char *out, size_t room, const char *what, const char *arg, const char *last);

/* ---- a truncate that may have to wait ---- */

/* ftruncate(@fd, @to) in a thread, settled. */
struct cf_call *take_cut(struct cf *c, int fd, off_t to);
/* The usual answer: "waits", "returns", EBUSY. */
void take_answer_cut(struct cf *c, struct cf_call *cut);

/* ---- kernel AIO ---- */

/* io_setup(2): 0 or -errno. Waits while others have all that there is. */
int take_aio_setup(unsigned int n, aio_context_t *ctx);

/* ---- io_uring ---- */

struct take_ring {
	int fd;
	struct io_uring_params par;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
};
/* Not applicable where there is no io_uring. */
void take_ring_open(struct cf *c, struct take_ring *r);
/* 0 or -errno. */
int take_ring_register(const struct take_ring *r, unsigned int op, const void *arg, unsigned int n);
/* Submit one request; 0 or -errno. Not answered when it returns, as a rule. */
int take_ring_begin(struct take_ring *r, uint8_t opcode, int fd, const void *buf, uint32_t len);
/* The result of the request under way; waits for it. */
long take_ring_end(struct take_ring *r);

#endif
