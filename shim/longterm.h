/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * longterm.h - memory that a device, or the kernel for it, gets for as long as the program likes: RDMA regions, DMA
 * mappings of VFIO and iommufd, V4L2's user pointers, registered buffers of io_uring, AF_XDP's frames. Whoever
 * interposes such a call uses this.
 *
 * THE ORDER is: pin what lies in windows, then the real call; the real end, then the unpin. So no moment has a device
 * with pages that are not pinned. When the real call fails, so does the pin; where the policy refuses (pinfs(8),
 * longterm=), the real call is not made.
 *
 *   sh_pinned   the pins of one registration, counted: several mappings may be of the same pages
 *   sh_dev      an open device (open file description), whoever has descriptors of it
 *   sh_reg      what the device was given, and how the program will name it when it takes it back
 *
 * WHEN A DEVICE IS CLOSED is not for us to see: the last descriptor of it may be a copy, or another process's. So a
 * record lock is put on it, on a byte far behind any end and of no meaning to anybody; it goes with the open file
 * description, and /proc/locks says when. Looked at when a descriptor that was seen with the device is closed, and five
 * times a second as long as any device has pages of ours.
 *
 * LOCK: long_lock, for moments, all signals blocked; below it mem_lock alone. Nobody waits for the daemon under it.
 */
#ifndef SH_LONGTERM_H
#define SH_LONGTERM_H

#include <sys/uio.h>
#include "sh.h"

struct sh_pinned;

/*
 * Pin what lies in windows of [v, v + n): all of it or nothing. @write: the device writes. 0; *out is NULL when nothing
 * lies in a window. Otherwise what the kernel says: -EOPNOTSUPP, -EPERM (there is no lease), -ENOMEM, -EFAULT, -EINTR.
 * A page of a private window that is no copy is -EOPNOTSUPP by every policy. Waits for a truncate of the pages, holding
 * nothing.
 */
int sh_pinned_take(const struct iovec *v, size_t n, bool write, enum pf_pin_api api, struct sh_pinned **out);
/* The same, with an *out for each of them: out[n]. */
int sh_pinned_take_each(const struct iovec *v, size_t n, bool write, enum pf_pin_api api, struct sh_pinned **out);
void sh_pinned_get(struct sh_pinned *p);
/* NULL is allowed. Waits for the daemon when it is the last one; no lock held. */
void sh_pinned_put(struct sh_pinned *p);

/* What a registration is known by. @space: of one device, or 0; [lo, hi): a range of it. */
struct sh_name {
	enum pf_pin_api api;
	uint64_t space, lo, hi;
	uint64_t what;			/* anything; no part of the name */
};
static inline struct sh_name sh_name(enum pf_pin_api api, uint64_t space, uint64_t lo, uint64_t hi)
{
	return (struct sh_name){ .api = api, .space = space, .lo = lo, .hi = hi };
}

/* Room for a registration, made before the real call so that what comes after cannot fail. */
struct sh_reg;
int sh_reg_new(struct sh_reg **out);
void sh_reg_free(struct sh_reg *r);		/* one that was not added; NULL is allowed */
/* It is the device's now, with @p. @fd -1: of no device (verbs; @name.space tells). */
void sh_reg_add(struct sh_reg *r, int fd, struct sh_name name, struct sh_pinned *p);
/* Take those that lie in the range of @name entirely off the device behind @fd; a list. */
struct sh_reg *sh_reg_take(int fd, struct sh_name name);
void sh_reg_back(struct sh_reg *list);		/* the real end has failed */
void sh_reg_end(struct sh_reg *list);		/* they have ended: unpin, free */
uint64_t sh_reg_what(const struct sh_reg *r);
/* How many bytes of names a list has. */
uint64_t sh_reg_bytes(const struct sh_reg *list);
/* The same pages, as the device behind @to has them by another name. Makes one more of each that overlaps [lo, hi) of
 * @from: -ENOMEM. */
int sh_reg_share(int from_fd, struct sh_name from, int to_fd, struct sh_name to);

/* Has any device pages of ours? */
extern _Atomic unsigned int sh_nregs;
/* A descriptor has been closed. */
void sh_long_closed(int fd);
int sh_long_timeout_ms(void);			/* serve */
void sh_long_timer(void);
void sh_long_forget(void);			/* fork child */

/* ioctl(2), as the last thing before the real one. */
typedef int (*sh_ioctl_fn)(int, unsigned long, ...);
int sh_long_ioctl(sh_ioctl_fn real, int fd, unsigned long request, void *arg);

#endif
