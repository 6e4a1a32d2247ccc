/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.h - hold file blocks in place while a device works on them.
 *
 * Mirrors pin_user_pages_fast() / unpin_user_pages() of the Linux kernel (mm/gup.c) for memory that is
 * a MAP_SHARED mapping of a file on a pinfs mount. A pin belongs to the *blocks*: it outlives munmap, close and
 * unlink, and ends with pinfs_unpin() or with the process (also by SIGKILL). While it lasts, truncate and fallocate
 * do to these blocks what the mount's on_busy policy says.
 *
 * Every function returns 0 or a negative errno and sets nothing else; all are thread-safe, none is
 * async-signal-safe. Link with -lpinfs, or run under pinrun(1) and look the symbols up.
 */
#ifndef PINFS_PIN_H
#define PINFS_PIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The device will write to the memory: holes are allocated (FOLL_WRITE). Needs a writable mapping. */
#define PINFS_PIN_WRITE 1U
/* Do not wait for a truncate or punch that is in progress on these pages: -EAGAIN instead. */
#define PINFS_PIN_NOWAIT 2U
/*
 * The pin lasts for as long as the program likes, not for one transfer (FOLL_LONGTERM). The daemon decides, by the
 * policy longterm= of pinfs(8); by default it refuses, as Linux does. The pages are charged to the user
 * (RLIMIT_MEMLOCK).
 */
#define PINFS_PIN_LONGTERM 4U

struct pinfs_pin;		/* one pin; opaque; freed by pinfs_unpin() */

/* A piece of the device: what a DMA engine is programmed with. Bytes; sg_foff is the file offset. */
struct pinfs_sg {
	uint64_t sg_doff;	/* byte offset on the device */
	uint64_t sg_len;
	uint64_t sg_foff;
};

struct pinfs_pin_info {
	uint64_t pi_ino;
	uint64_t pi_foff;	/* first byte, page aligned */
	uint64_t pi_len;	/* bytes, multiple of the page size */
	uint64_t pi_age_ns;
	uint32_t pi_flags;	/* PINFS_PIN_WRITE, PINFS_PIN_LONGTERM */
	uint32_t pi_pad;
};

struct pinfs_range_info {
	uint64_t ri_ino;
	uint64_t ri_foff;	/* file offset of addr */
	uint64_t ri_pinned;	/* pages of the range that this process has pinned now */
	uint64_t ri_pages;	/* pages of the range */
};

/**
 * pinfs_pin - pin the pages of [addr, addr + len)
 * @addr, @len: any bytes inside one mapping; the pages they touch are pinned. Bytes.
 * @flags: PINFS_PIN_*
 * @out: the pin, written only on success; the caller owns it
 *
 * Faults the range in, then counts. All or nothing. May block: for a fault, and for a break of these
 * pages that is in progress (interruptible: -EINTR). No lock or other pin is held by the call meanwhile.
 *
 * Errors: -EINVAL len 0, unknown flag, NULL out; -EOVERFLOW addr + len wraps; -EFAULT not a shared window of
 * this process (a mapping of a file that is not in DAX mode is none), beyond the end of the file, or a hole
 * without PINFS_PIN_WRITE; -EACCES write pin of a read-only mapping; -EAGAIN see PINFS_PIN_NOWAIT; -ENOMEM, -ENOSPC;
 * -EDEADLK all window slots are pinned by this process; -EBUSY more than a window, or never a free one; -EINTR;
 * -ENOTCONN the daemon is gone; -EOPNOTSUPP the process has no session (may not open the device). With
 * PINFS_PIN_LONGTERM besides: -EOPNOTSUPP the policy refuses; -EPERM it asks for a lease, and none covers the range;
 * -ENOMEM more than the user may pin.
 */
int pinfs_pin(const void *addr, size_t len, unsigned int flags, struct pinfs_pin **out);

/**
 * pinfs_pin_sg - pin, and learn where on the device the bytes are
 * @sg: array of *nsg entries, filled in file order and merged where the device is contiguous
 * @nsg: in: room; out: used. -E2BIG: nothing is pinned and *nsg says how many are needed.
 *
 * The ranges stay valid and are this caller's until pinfs_unpin(). They cover exactly the bytes asked for.
 */
int pinfs_pin_sg(const void *addr, size_t len, unsigned int flags, struct pinfs_sg *sg, size_t *nsg,
		 struct pinfs_pin **out);

/**
 * pinfs_unpin - end a pin; frees it
 *
 * Never blocks on a lock that a waiting truncate holds; wakes the waiters. May be called by another
 * thread than the one that pinned, not by a forked child (-ECHILD: a child owns none of its parent's pins).
 * -EINVAL: NULL.
 */
int pinfs_unpin(struct pinfs_pin *pin);

/*
 * pinfs_pin_query - what a pin is. Does not block. -EINVAL: NULL argument. -ENOTCONN: the pin is void: the daemon is
 * gone, or has cut this process off, and nobody waits for it any more. Its blocks are not given to anybody before it is
 * ended, but they need not be the file's any more: stop the device, then end the pin. -ESTALE: the same of this pin
 * alone: it was revoked (lease.h), or an operator has kicked it (pinfsctl kick). Its blocks are kept, too, unless
 * it was revoked and its device asks before each burst (pinfs_pin_dma()).
 */
int pinfs_pin_query(const struct pinfs_pin *pin, struct pinfs_pin_info *info);

/* pinfs_range_query - what a mapped range is. -EFAULT: not inside one window. Does not block. */
int pinfs_range_query(const void *addr, size_t len, struct pinfs_range_info *info);

/* pinfs_pin_label - up to 15 bytes shown by pinfsctl pins. -EINVAL: NULL. */
int pinfs_pin_label(struct pinfs_pin *pin, const char *label);

/**
 * pinfs_device - a new descriptor of the device behind a mapping, for a DMA engine
 * @addr: inside a window
 *
 * The sg_doff of pinfs_pin_sg() are offsets in it. Close it when done; it stays usable as long as it is open, and
 * while it is, no other daemon will serve the device. Returns the descriptor, or -EFAULT, -EMFILE, -EOPNOTSUPP.
 */
int pinfs_device(const void *addr);

/*
 * pinfs_trace - tell a trace of the mount (pinfsctl trace) what a device does: a transfer starts, has moved ev_len
 * bytes from ev_foff on, has ended. @pin is the pin that it works under, or NULL. Costs a load when nobody traces.
 * -EINVAL: NULL, or an unknown @what.
 */
enum { PINFS_TRACE_DMA_START = 0, PINFS_TRACE_DMA_BURST = 1, PINFS_TRACE_DMA_END = 2 };
struct pinfs_event {
	uint64_t ev_id;		/* of the transfer; the caller's own */
	uint64_t ev_ino;
	uint64_t ev_foff;
	uint64_t ev_len;
	int ev_err;		/* END: 0 or a negative errno */
	unsigned int ev_flags;	/* PINFS_PIN_WRITE: to the file */
	const char *ev_label;	/* START: shown; or NULL */
};
int pinfs_trace(const struct pinfs_pin *pin, unsigned int what, const struct pinfs_event *ev);

#ifdef __cplusplus
}
#endif

#endif
