/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transient.h - pages of windows that the kernel transfers to or from, held from before the call until the kernel is
 * done with them. This is the one way in which the library does that; whoever interposes a call that makes the kernel
 * pin user memory (O_DIRECT, libaio, io_uring, vmsplice ...) uses it.
 *
 * WHAT A HOLD IS. The kernel pins pages with get_user_pages(): fault in, then count. We cannot count at that moment, so
 * we count *before* the call, and the kernel finds, when it faults, the block that is counted already: a counted block
 * does not leave the file under `wait` and `ebusy`; where it does (`defer`, a client that was too slow), the count
 * follows the address to whatever block takes its place. So there is no moment in which the kernel has a page and we
 * have not.
 *
 *   parts outside of windows    cost a look-up, and hold nothing
 *   shared windows              pinned, as by pinfs_pin(); with SH_HOLD_WRITE holes get blocks first
 *   ... a hole that is read     counted as it is: no block is allocated, and none that comes meanwhile can go
 *   private windows             SH_HOLD_WRITE holds nothing: the kernel's fault makes a copy. Else: what is not a copy
 *                               is the file's, and pinned
 *
 * WAITING. A hold that meets a truncate of its pages waits until that is over, holding nothing meanwhile, unless
 * this process already has pins which the truncate waits for and which do not end by themselves. Signals end it with
 * -EINTR, or restart it, as SA_RESTART says.
 *
 * BRIEF (FAIRNESS in ledger.h) is a hold that ends by itself: nothing that a thread of this process does, or waits
 * for, comes before its end, from the moment on in which it is made. That is so when the kernel has been given the
 * transfer, or is given it next with no wait in between; when the transfer is with a file (one that another process
 * serves included; but who serves such a file and transfers from it himself, waits for himself under fair=yes); and
 * when serve sees its end without the program (async.h). It is not so of what waits for a reader or a peer (pipes,
 * sockets, MSG_ZEROCOPY), and not of a request that another one has to precede. Whoever is not sure does not say it:
 * then a stream of such transfers may keep a truncate waiting.
 *
 * THE END. sh_hold_drop() may be called by any thread, at any time, after munmap() and close() as well: a hold belongs
 * to blocks. It wakes who waits for them.
 *
 *   the call fails    the caller of sh_hold() drops it, like after a call that succeeds
 *   fork              the child owns none of its parent's holds; dropping one there does nothing at all
 *   exec, exit, kill  nobody drops. The daemon sees the hang-up and cuts the session off, but its blocks stay out of
 *                     use until the last mapping of the device in this process is gone (media/claim.c). Each session
 *                     has a mapping of its own for that (sh_session.dev_flush), which the program does not know. So
 *                     a block is reused only after the memory of the process has gone, and:
 *
 *                     - a thread in the kernel with a transfer that cannot be interrupted (a block device; FUSE once
 *                       the server has the request) keeps the memory until it returns;
 *                     - libaio: mmput() calls exit_aio(), which waits for every request, before exit_mmap();
 *                     - io_uring: exit_files() comes AFTER exit_mm(), and neither waits: transfers of a ring go on
 *                       when the memory has gone. The ring itself has to keep the device open: pinfs_device() gives a
 *                       descriptor with the session's claim, and a file that is registered with a ring
 *                       (IORING_REGISTER_FILES) stays open until its last request has ended;
 *                     - a socket or pipe that another process has too (MSG_ZEROCOPY, vmsplice) outlives us with our
 *                       pages in it. Nothing can be done about that from user space: COVERAGE.md.
 *
 *   a thread that is cancelled, or leaves a signal handler by siglongjmp(): sh_io (io.h) remembers what a call that
 *   blocks holds, and drops it. An asynchronous user does not have that problem: its holds belong to requests.
 *
 * Nothing here allocates by malloc(). Locks: sh.lock for moments; none is held while waiting. Not for signal handlers
 * that interrupted a function of this file: callers need not block signals, sh_hold() does where it matters.
 */
#ifndef SH_TRANSIENT_H
#define SH_TRANSIENT_H

#include <sys/uio.h>
#include "sh.h"

#define SH_HOLD_WRITE 1U	/* the kernel writes to the memory: read(2), recv(2) */
#define SH_HOLD_NOWAIT 2U	/* -EAGAIN in place of waiting for a truncate (RWF_NOWAIT, IOCB_NOWAIT) */
#define SH_HOLD_BRIEF 4U	/* it ends by itself: above */

struct sh_hold;

/* Is any byte of it in a window? No system call when the thread has asked for the same place before. */
bool sh_touches(const void *p, size_t len);
bool sh_iov_touches(const struct iovec *v, size_t n);

/*
 * A copy of an array that the program has handed over, which may be no memory at all. @out is the caller's room for @n;
 * -EFAULT.
 */
int sh_iov_fetch(const struct iovec *user, size_t n, struct iovec *out);

/**
 * sh_hold - hold what lies in windows of the memory that a transfer is about
 * @v, @n: read by this function as they are: see sh_iov_fetch()
 * @flags: SH_HOLD_*
 * @api: who asks; `pinfsctl pins` shows it
 * @out: NULL when nothing of it was in a window, which is no error
 *
 * All or nothing. errno is untouched. -EFAULT: a page of a window that no transfer can have: behind the end of the
 * file, a bad block, no space for a hole, PROT_NONE, read-only and SH_HOLD_WRITE, a daemon that has gone. -ENOMEM: no
 * memory, or all slots of the window pinned. -EINTR, -EAGAIN: above.
 */
int sh_hold(const struct iovec *v, size_t n, unsigned int flags, enum pf_pin_api api, struct sh_hold **out);

/*
 * The same for as much from the beginning as can be held: *good is the number of bytes of @v before the first page that
 * cannot, and that page's error is returned. *out holds what comes before (NULL: nothing of it in a window). -EINTR and
 * -EAGAIN hold nothing.
 */
int sh_hold_part(const struct iovec *v, size_t n, unsigned int flags, enum pf_pin_api api, struct sh_hold **out,
		 size_t *good);

/* One more that has to drop it. */
void sh_hold_ref(struct sh_hold *h);
/* Is somebody looking at a slot of it, maybe waiting? NULL is allowed. */
bool sh_hold_watched(const struct sh_hold *h);
/* It does not end by itself, after all. NULL is allowed. */
void sh_hold_not_brief(struct sh_hold *h);
/* The end of it. NULL is allowed. errno is untouched. Wakes who waits. */
void sh_hold_drop(struct sh_hold *h);

/*
 * A call of this thread that blocks with @h: what is dropped when the thread ends in the middle of it. The end of the
 * call is sh_hold_return(). A handler that leaves the call by siglongjmp() is noticed at the thread's next transfer:
 * its frame is gone then.
 */
void sh_hold_enter(struct sh_hold *h, const void *frame);	/* something on the stack of the program's own call */
void sh_hold_return(struct sh_hold *h);
void sh_hold_leave(struct sh_hold *h);		/* the same, but it goes on: it is somebody else's from now on */
void sh_hold_end(struct sh_tls *t);		/* the thread ends */
void sh_hold_left(struct sh_tls *t, const void *frame);	/* drop what a jump has left behind */

/* serve, sh.lock held: @sl stands for its chunk from now on, and no page of it has been mapped. -ENOMEM. */
int sh_holds_follow(struct sh_slot *sl);
void sh_holds_lock(void);			/* around fork */
void sh_holds_unlock(void);
void sh_holds_forget(void);			/* in the child, which has none */
void sh_holds_quiet(sh_sigs *old);		/* the same lock, for moments; signals blocked */
void sh_holds_loud(const sh_sigs *old);
void sh_paio_forget(void);			/* with it: hooks_paio.c, queue.c */
void sh_queues_forget(void);

/* A descriptor of the device of (the first part of) it, with the session's claim: see io_uring above. -errno. */
int sh_hold_device(const struct sh_hold *h);
const struct sh_session *sh_hold_session(const struct sh_hold *h);	/* of the same part; NULL: nothing is held */

/* ---- move.c ---- */

/*
 * What the kernel does with the buffers of a read or write of this descriptor. At most three system calls; not for
 * calls without a buffer in a window.
 */
enum sh_fd_kind {
	SH_FD_COPIES,		/* touches them by instructions, and counts nothing: page cache, pipes, sockets */
	SH_FD_PINS,		/* pins them: O_DIRECT; any file of a FUSE mount, which may have direct_io */
	/*
	 * A file of pinfs, or of an overlay, which may be one. Its buffers would be pinned, too, but must not be held:
	 * Linux takes the inode's lock first and pins then. We would hold, and the call would wait for the lock of
	 * the inode, which a truncate has that may wait for this very hold. So the call gets other memory: io.h.
	 */
	SH_FD_BOUNCE,
};
enum sh_fd_kind sh_fd_kind(int fd);

void *sh_bad_page(void);	/* an address that is no memory, for what cannot be transferred. NULL: no memory */

#endif
