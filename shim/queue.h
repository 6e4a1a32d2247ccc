/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * queue.h - pages of windows that the kernel keeps after the call: in a pipe (vmsplice) or in a socket
 * (MSG_ZEROCOPY). Each is held until the bytes have gone, which nobody tells: the library looks.
 */
#ifndef SH_QUEUE_H
#define SH_QUEUE_H

#include "transient.h"

/*
 * The call has put @bytes from the hold's pages into the pipe or socket @fd: the hold is the queue's now. NULL:
 * nothing. What is neither, or cannot be looked at, drops it.
 */
void sh_queue_add(int fd, struct sh_hold *h, uint64_t bytes);

/*
 * What is in the pipe @fd may be moved on by a call, or doubled: references to all that is held for it, and what
 * is done with them when the call has put @bytes into @out.
 */
struct sh_holds {
	struct sh_hold **hold;
	uint32_t n, room;
};
bool sh_queue_any(void);
void sh_queue_peek(int fd, struct sh_holds *out);
void sh_queue_moved(int out, struct sh_holds *some, uint64_t bytes);

/* serve: when to look, -1 for never; look; and look soon, since somebody waits for pins. */
int sh_queue_timeout_ms(void);
void sh_queue_timer(void);
void sh_queue_hurry(void);

/*
 * MSG_ZEROCOPY: hold what lies in windows, unless the socket would copy; -errno as sh_hold(). And after the call,
 * which has sent @bytes.
 */
struct sh_zerocopy {
	struct iovec one;		/* nmsg 0 */
	const struct msghdr *msg;	/* the program's, one every @stride bytes */
	size_t nmsg, stride;
};
int sh_zerocopy_begin(int fd, const struct sh_zerocopy *z, struct sh_hold **out);
void sh_zerocopy_end(int fd, struct sh_hold *h, uint64_t bytes);

#endif
