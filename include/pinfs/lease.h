/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.h - layout leases: be told, and be given time, before the blocks under a range of a file change.
 *
 * A pin keeps a truncate waiting for as long as the pinner likes. A lease is the other half of the bargain, for those
 * who pin for long: whoever wants to take blocks of the range out of the file makes the lease break, the holder is
 * told, and has lease_time to stop its device, unpin and drop the lease; then the mount's lease_break policy says what
 * happens (pinfs(8)). Under longterm=lease a long-term pin needs a lease that covers it.
 *
 * A lease belongs to the process that took it and to the file, not to a descriptor or a mapping: close(2) and munmap(2)
 * leave it alone. It ends with pinfs_lease_drop(), or with the process: _exit, SIGKILL, or a successful execve(2). The
 * child of a fork(2) has none of its parent's leases (-ECHILD).
 *
 * Only what takes blocks away, moves or zeroes them breaks a lease: truncate, and fallocate with a hole to punch, a
 * range to zero, collapse or insert. Reading, writing and allocating do not.
 *
 * Every function returns 0 or a negative errno and sets nothing else; all are thread-safe, none is
 * async-signal-safe. -ENOTCONN: the daemon is gone, or has cut this process off, and the lease with it.
 */
#ifndef PINFS_LEASE_H
#define PINFS_LEASE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <pinfs/pin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The layout stays as it is: shared with other read leases. Its own holder cannot change it either: EDEADLK. */
#define PINFS_LEASE_READ 1U
/* Nobody else has a lease of the range, and the holder may change the layout without breaking it. */
#define PINFS_LEASE_WRITE 2U
/* Does not break: whoever would break it gets ETXTBSY at once. For the owner of the file, and root. */
#define PINFS_LEASE_UNBREAK 4U

struct pinfs_lease;		/* one lease; opaque; freed by pinfs_lease_drop() */

enum pinfs_lease_state {
	PINFS_LEASE_HELD = 0,
	PINFS_LEASE_BREAKING = 1,	/* somebody waits for it: unpin and drop it */
	PINFS_LEASE_BROKEN = 2,		/* the time is over, or it was not waited for: it protects nothing any more */
};

struct pinfs_lease_info {
	uint64_t li_ino;
	uint64_t li_foff;	/* bytes, page aligned; len UINT64_MAX: to the end of the file, wherever it is */
	uint64_t li_len;
	uint64_t li_left_ms;	/* BREAKING: until lease_break comes, 0: it is due */
	uint32_t li_flags;	/* PINFS_LEASE_READ or WRITE, UNBREAK */
	uint32_t li_state;	/* enum pinfs_lease_state */
	pid_t li_pid;		/* the holder, as the daemon sees it */
	uint32_t li_pad;
};

/**
 * pinfs_lease_take - take a lease on the pages that [foff, foff + len) touches
 * @fd: the file; open in any mode
 * @len: bytes; 0 or UINT64_MAX: to the end, also where the file grows
 * @flags: PINFS_LEASE_READ or PINFS_LEASE_WRITE, and PINFS_LEASE_UNBREAK
 *
 * Never waits. A process may hold any leases that do not conflict with those of others, also on the same pages.
 *
 * Errors: -EINVAL flags, NULL, overflow; -EAGAIN another process has a lease that conflicts, or somebody is at this
 * moment waiting to change the layout; -EACCES not the file's owner, @fd not open for writing (WRITE: must be), and not
 * root; -EPERM UNBREAK and neither owner nor root; -ENOTTY no pinfs file; -EOPNOTSUPP it is not in DAX mode, or the
 * process has no session; -ENOLCK too many; -ENOMEM, -ENOTCONN.
 */
int pinfs_lease_take(int fd, uint64_t foff, uint64_t len, unsigned int flags, struct pinfs_lease **out);

/* pinfs_lease_take_window - the same, on what [addr, addr + len) shows. -EFAULT: not inside one window. */
int pinfs_lease_take_window(const void *addr, size_t len, unsigned int flags, struct pinfs_lease **out);

/* pinfs_lease_test - would pinfs_lease_take() succeed now? 0; or its error, and with -EAGAIN *info is the lease in the
 * way (li_pid 0: it is a waiter, not a lease). @info may be NULL. */
int pinfs_lease_test(int fd, uint64_t foff, uint64_t len, unsigned int flags, struct pinfs_lease_info *info);

/* pinfs_lease_query - what has become of it. Does not block, asks nobody. */
int pinfs_lease_query(const struct pinfs_lease *lease, struct pinfs_lease_info *info);

/* pinfs_lease_downgrade - from WRITE to READ; of a READ lease: nothing to do. -ESTALE: it is broken. */
int pinfs_lease_downgrade(struct pinfs_lease *lease);

/*
 * pinfs_lease_drop - give it back; frees it, whatever the result. Never blocks, whoever waits. Pins under it stay, and
 * keep its ghost: whoever wants the blocks waits lease_time for them, then lease_break comes over their owner. -EBUSY:
 * it is on its way to another process (pinfs_lease_export()), and is not freed.
 */
int pinfs_lease_drop(struct pinfs_lease *lease);

/*
 * pinfs_lease_event_fd - a new eventfd(2) that becomes readable when the lease's state changes; close it when done.
 * Each call replaces the one before. It is readable at once when the lease is not HELD any more.
 */
int pinfs_lease_event_fd(struct pinfs_lease *lease, int *fd);

/* pinfs_lease_signal - send the process @signo, with @value in si_value and si_code SI_QUEUE, when the lease's state
 * changes. 0: no signal (the default). -EINVAL: no such signal. */
int pinfs_lease_signal(struct pinfs_lease *lease, int signo, void *value);

/*
 * Hand-over: the lease goes to another process, and with it the pins that lie under it.
 *
 * pinfs_lease_export - a new descriptor to be sent to another process with SCM_RIGHTS; whoever imports it first has it
 *
 * From then on the lease and every pin under it are on their way: pinfs_unpin(), pinfs_lease_drop() and
 * pinfs_lease_downgrade() of them are -EBUSY. They are this process's until the moment of the import, in which all of
 * them change hands at once; should either process die, there is one owner or none. Afterwards the lease is
 * PINFS_LEASE_BROKEN here and its pins are void (-ESTALE of pinfs_pin_query()); each is still to be dropped and
 * unpinned, which only frees it. A device has to be programmed anew, with what pinfs_pin_dma() says in the new process:
 * from the hand-over on, accesses by the old mapping fault.
 *
 * -EBUSY: a pin lies under the lease only in part, or the lease is not HELD, or it is on its way already. -EMFILE,
 * -ENOMEM.
 */
int pinfs_lease_export(struct pinfs_lease *lease, int *fd);

/* pinfs_lease_retract - take an export back. -ESTALE: it has been imported. -EINVAL: it is not exported. */
int pinfs_lease_retract(struct pinfs_lease *lease);

/**
 * pinfs_lease_import - become the owner
 * @fd: from pinfs_lease_export(), of another process; stays open, is of no use afterwards
 * @pins, @npins: room for the pins; *npins: in: room, out: used. -E2BIG: nothing has happened, *npins says how much.
 *
 * This process needs the right to a session of its own (it may open the device). -ESTALE: it was imported or retracted,
 * its owner has died, or the lease broke; -EINVAL: not such a descriptor; -EAGAIN: a device is working through the
 * old owner's mapping, stop it; -EBUSY: no window slot is free; -EDEADLK: it is this process's own; -EOPNOTSUPP,
 * -ENOMEM.
 */
int pinfs_lease_import(int fd, struct pinfs_lease **out, struct pinfs_pin **pins, size_t *npins);

/*
 * The emulated IOMMU, for a DMA engine that lives in another process. The engine gets two descriptors: the device
 * (pinfs_device()) and the ledger (pinfs_ledger_fd()), and for each transfer the pieces of pinfs_pin_dma(). It calls
 * pf_dma_enter() and pf_dma_exit() of <pinfs/ledger.h> around every burst, and does not touch the device's bytes when
 * the former says no: the translation is gone. Both descriptors stay good when this process ends; blocks that the
 * engine may still touch are then kept out of reuse until it has closed the device.
 */
struct pinfs_dma {
	uint64_t da_doff;	/* byte offset on the device */
	uint64_t da_len;	/* bytes; within one slot */
	uint64_t da_foff;
	uint32_t da_slot;	/* of the ledger */
	uint32_t da_page;	/* first page in it */
	uint32_t da_epoch;	/* translation is good while the slot's ls_epoch is this */
	uint32_t da_pad;
};

/*
 * pinfs_pin_dma - the pieces of a pin, in file order. *n: in: room, out: used; -E2BIG: needed. -ESTALE: the pin is
 * void.
 *
 * Whoever calls it promises that the device will ask before each burst: when the pin is revoked, nothing is kept for it
 * but what a burst is at. (Of a pin by pinfs_pin_sg() everything is kept until it ends.)
 */
int pinfs_pin_dma(const struct pinfs_pin *pin, struct pinfs_dma *dma, size_t *n);

/* pinfs_ledger_fd - a new descriptor of this process's ledger of the mount behind @addr. -EFAULT, -EMFILE,
 * -ENOTCONN, -EOPNOTSUPP: as pinfs_device(). */
int pinfs_ledger_fd(const void *addr);

#ifdef __cplusplus
}
#endif

#endif
