/* SPDX-License-Identifier: BSD-3-Clause */
/* io.h - memory that an interposed call hands to the kernel: how the table of hooks_io.c says it to copy.c. */
#ifndef SH_IO_H
#define SH_IO_H

#include <sys/uio.h>
#include "sh.h"

typedef void *sh_any __attribute__((may_alias));	/* a pointer argument of whatever type */

enum sh_kind {
	SH_BYTES,		/* a buffer, of which the call's result says how much was used */
	SH_OBJECT,		/* something of fixed size; may be NULL */
	SH_VECTOR,		/* struct iovec [len] */
	SH_MESSAGE,		/* struct msghdr */
	SH_MESSAGES,		/* struct mmsghdr [len] */
};
#define SH_IN 1U		/* the kernel reads it */
#define SH_OUT 2U		/* the kernel writes it */

struct sh_span {
	enum sh_kind kind;
	unsigned int dir;
	sh_any *at;		/* the argument itself: copy.c puts another address there */
	size_t len;		/* bytes, or elements */
};

struct sh_copy;
struct sh_io {
	struct sh_copy *copies, *last;	/* NULL: the call is made as it is */
	struct sh_tls *tls;
};

/*
 * Put private memory in place of every part of the spans that touches a window. 0; -EFAULT as the kernel would say,
 * -ENOMEM. Then the call is made, and sh_io_end() brings what it has written to where it belongs: @r is its result,
 * and is returned, or -1 and errno. errno is the caller's otherwise.
 */
int sh_io_begin(struct sh_io *io, struct sh_span *span, size_t n);
long sh_io_end(struct sh_io *io, long r);
void sh_io_drop(struct sh_tls *t);	/* the thread ends in the middle of a call */
/* One copy of @len bytes, between memory of ours and the program's, windows or not: how many could be copied. */
size_t sh_transfer(char *user, char *mine, size_t len, bool store);

/* ---- move.c: read(2), write(2) and so on ---- */
enum sh_at { SH_AT_NONE, SH_AT_POS, SH_AT_FLAGS };	/* readv, preadv, preadv2 */
struct sh_move {
	int fd;
	unsigned int dir;		/* SH_OUT: into the program's memory. SH_IN: from it */
	const struct iovec *v;		/* the program's array of @n; or NULL, and @n 1: */
	struct iovec one;
	size_t n;
	enum sh_at how;
	off_t at;
	int flags;
};
enum sh_way {
	SH_WAY_PLAIN,			/* make the call as it is */
	SH_WAY_COPY,			/* ... with copies: sh_io_begin() */
	SH_WAY_DONE,			/* it has been made: *r and errno */
};
enum sh_way sh_move(const struct sh_move *m, ssize_t *r);

#endif
