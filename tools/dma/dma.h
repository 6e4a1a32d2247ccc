/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dma.h - an emulated DMA engine: slow, exact, and able to recognise its own bytes anywhere.
 *
 * The engine moves bytes between memory (or a self-describing pattern) and *blocks of the device*, through a
 * mapping of its own of the device file, never through the mapping of the program that submitted the transfer. So
 * it behaves as hardware does: once it has an address it writes there, whoever owns the block by then.
 *
 * It is given one of two kinds of address. A device address is the block itself: nothing is between the engine and
 * the bytes, and what keeps that from being a disaster is a pin, or, to show the disaster, nothing. A bus address goes
 * through the engine's IOMMU at each access, which faults instead when the block is not the transfer's any more.
 *
 * Parts: pattern.c (what the bytes say), plan.c (seeded schedules), engine.c (queue, thread, time), dev.c (the
 * devices), iommu.c (bus addresses), move.c (the bytes of a burst); window.c and lease.c get the addresses of a mapping
 * of a pinfs file, and are the only ones that need libpinfs. Directions are named as in Linux: DMA_FROM_DEVICE changes
 * the file's blocks.
 *
 * Every function returns 0 or a negative errno unless it says otherwise. All are thread-safe.
 */
#ifndef TOOLS_DMA_H
#define TOOLS_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pinfs/lease.h>
#include <pinfs/ledger.h>
#include <pinfs/pin.h>

/*
 * The pattern. Each 64-byte line of the file (at file offsets divisible by 64) is one record that says which
 * transfer wrote it, which file and offset it was meant for, and ends in a checksum. All of it follows from struct
 * dma_pat and the offset, so any byte of it can be produced or checked alone.
 */
#define DMA_LINE 64U
#define DMA_LABEL 16U

struct dma_pat {
	uint64_t dp_id;			/* of the transfer */
	uint64_t dp_ino;		/* of the file that it was meant for */
	uint64_t dp_foff;		/* file offset where it begins; sequence numbers count from that line */
	char dp_label[DMA_LABEL];	/* NUL padded, for people who read a hex dump */
};

/* Consecutive pattern lines of one transfer, found somewhere. */
struct dma_run {
	uint64_t dr_pos;		/* where: byte position in what was searched */
	uint64_t dr_len;		/* bytes, a multiple of 64 */
	uint64_t dr_id, dr_ino;
	uint64_t dr_foff;		/* where the first line was meant to go: file offset */
	uint64_t dr_seq;		/* its sequence number */
	char dr_label[DMA_LABEL + 1];
};

/* Why a byte is not what a pattern says. */
struct dma_miss {
	uint64_t dm_foff;		/* the first wrong byte */
	uint8_t dm_want, dm_got;
	bool dm_foreign;		/* a whole line, but of another transfer or place: dm_line */
	struct dma_run dm_line;
};

/* The bytes that @pat puts at file offset @foff, any alignment. */
void dma_pat_fill(const struct dma_pat *pat, uint64_t foff, void *buf, size_t len);
/* True if @buf holds just that; otherwise *miss (optional) says where and what it is not. */
bool dma_pat_check(const struct dma_pat *pat, uint64_t foff, const void *buf, size_t len, struct dma_miss *miss);
/* Label, cut to DMA_LABEL bytes. */
void dma_pat_label(struct dma_pat *pat, const char *label);

/*
 * Find pattern lines. @fn sees each run in order of position and returns false to stop the search. @pos is added to
 * positions. Lines are looked for at every eighth byte, so a copy at another alignment is found as well. Returns
 * the bytes found.
 */
typedef bool (*dma_run_fn)(void *arg, const struct dma_run *run);
uint64_t dma_scan(const void *buf, size_t len, uint64_t pos, dma_run_fn fn, void *arg);
/* The same for a whole open file, by pread; lines must lie at multiples of 64. *found (optional) gets the bytes. */
int dma_scan_fd(int fd, dma_run_fn fn, void *arg, uint64_t *found);

/*
 * What keeps the blocks of a window in place while a transfer goes on.
 *
 *   PIN     a pin, until it has ended
 *   RAW     nothing, and device addresses: the bug
 *   LONG    a long-term pin: the mount's policy says whether there is such a thing
 *   LEASE   a layout lease, and a long-term pin under it: when the lease breaks, the transfer stops; or it is deaf, and
 *           loses its translations in the end
 *   ODP     nothing: each access asks for the page, and holds it for as long as it takes
 */
enum dma_mode { DMA_PIN, DMA_RAW, DMA_LONG, DMA_LEASE, DMA_ODP, DMA_MODE_NR };
enum dma_dir { DMA_FROM_DEVICE, DMA_TO_DEVICE, DMA_DIR_NR };
enum dma_state { DMA_QUEUED, DMA_MOVING, DMA_DONE, DMA_STATE_NR };
extern const char *const dma_mode_name[DMA_MODE_NR];
extern const char *const dma_dir_name[DMA_DIR_NR];
extern const char *const dma_state_name[DMA_STATE_NR];

struct dma_engine;
struct dma_dev;
struct dma_xfer;

/* Why the IOMMU refused an access. */
enum dma_fault_why {
	DMA_FAULT_NONE,
	DMA_FAULT_UNMAPPED,		/* -EFAULT: nothing is mapped at this address, or not any more */
	DMA_FAULT_READONLY,		/* -EACCES */
	DMA_FAULT_REVOKED,		/* -ESTALE: the block was taken away from the transfer */
	DMA_FAULT_PAGE,			/* on demand: the page cannot be had; the error says why */
	DMA_FAULT_NR
};
extern const char *const dma_fault_name[DMA_FAULT_NR];

struct dma_fault {
	enum dma_fault_why df_why;
	int df_err;
	uint64_t df_iova;
	uint64_t df_ino, df_foff;	/* of the byte; 0: nobody knows */
};

struct dma_stat {
	enum dma_state ds_state;
	int ds_err;			/* DONE: 0 or -errno; -EBADMSG: a check failed, see ds_miss; -ECANCELED */
	struct dma_fault ds_fault;	/* the error came from the IOMMU */
	uint64_t ds_len, ds_moved;	/* bytes; moved < len after success only by stop_at */
	uint64_t ds_submit_ns, ds_start_ns, ds_end_ns;	/* CLOCK_MONOTONIC; 0: not yet */
	struct dma_miss ds_miss;
};

#define DMA_NEVER UINT64_MAX
#define DMA_BURST 4096U

struct dma_desc {
	const struct pinfs_sg *sg;	/* device ranges in file order; copied */
	size_t nsg;
	uint64_t iova, len;		/* without a device: bus addresses; sg is only for dma_xfer_sg() then */
	enum dma_dir dir;
	void *buf;			/* as many bytes, the caller's until completion. NULL: the pattern */
	struct dma_pat pat;
	uint64_t delay_ns;		/* between submission and the first byte */
	uint64_t rate;			/* bytes per second; 0: as fast as memory goes */
	uint64_t burst;			/* bytes moved at once; 0: DMA_BURST. Then others get their turn */
	uint64_t stop_at;		/* end with success after this many bytes; DMA_NEVER */
	uint64_t error_at;		/* end with `error` after this many bytes; DMA_NEVER */
	int error;			/* negative errno */
	/*
	 * Not 0: bursts of random length, up to `burst`, in random order, each after a random wait of less than
	 * jitter_ns. All of it follows from these and the length.
	 */
	uint64_t seed, jitter_ns;
	/* A burst moves every other 8-byte word, and after tear_ns the rest, as a device without atomic writes. */
	bool tear;
	uint64_t tear_ns;
	/* Optional, for a trace: called by the engine's thread, no lock held, after each burst (bytes of the file that
	 * have moved), and once before `release` (len 0). */
	void (*event)(const struct dma_desc *d, uint64_t foff, uint64_t len, int err);
	/* Both optional, called in this order by the engine's thread, no lock held, after the last byte. Neither
	 * may wait for the transfer. `release` gives back what holds the addresses (a pin); the transfer counts
	 * as done only after both. */
	void (*release)(void *hold);
	void *hold;
	void (*done)(void *arg, const struct dma_stat *st);
	void *arg;
};

/* A descriptor with everything off: no delay, no limit, no error. */
struct dma_desc dma_desc_init(enum dma_dir dir);

/* Starts the thread. */
int dma_engine_start(struct dma_engine **out);
/* Ends every transfer with -ECANCELED, waits for that, frees. NULL is fine. */
void dma_engine_stop(struct dma_engine *e);

/* Map the device behind @fd, which stays the caller's, or find it mapped already. The reference is dropped by
 * dma_dev_put(); transfers hold their own. Read-only descriptors give a device that only DMA_TO_DEVICE can use. */
int dma_dev_get(struct dma_engine *e, int fd, struct dma_dev **out);
void dma_dev_put(struct dma_dev *d);
uint64_t dma_dev_bytes(const struct dma_dev *d);

/*
 * The engine's IOMMU: [foff, foff + len) of a file at bus addresses. Either pieces, in file order, good as long as the
 * ledger says so (pinfs/lease.h); or, on demand, two functions. They are called by the engine's thread with no lock
 * held: page_in() for bytes of one page, which stay where *sg says until page_out(); it may wait.
 */
struct dma_map {
	struct dma_dev *dev;			/* the caller's reference, kept until dma_iommu_unmap() */
	const struct pinfs_dma *piece;		/* copied; may begin before and end behind; need not be honest */
	size_t npiece;
	struct pf_l_hdr *ledger;		/* mapped for writing; NULL: nobody can take blocks away */
	uint64_t ino, foff, len;
	bool write;
	int (*page_in)(void *arg, uint64_t foff, uint64_t len, bool write, struct pinfs_sg *sg, void **page);
	void (*page_out)(void *arg, void *page);
	void *arg;
};
/* *iova is where byte foff is. -EINVAL, -EACCES (writes to a read-only device), -ENOMEM. */
int dma_iommu_map(struct dma_engine *e, const struct dma_map *m, uint64_t *iova);
/* From the return on, accesses there fault; none is under way. -ENOENT. Not by the engine's own callbacks but
 * `release`. */
int dma_iommu_unmap(struct dma_engine *e, uint64_t iova);
/* Map a ledger of that descriptor, having looked at its header. -EINVAL: it is none. */
int dma_ledger_map(int fd, struct pf_l_hdr **out, size_t *len);
struct dma_iommu_stat { uint64_t is_maps, is_hits, is_misses, is_invalidations, is_faults; };
void dma_iommu_stat(struct dma_engine *e, struct dma_iommu_stat *out);

/*
 * Queue a transfer. @dev: NULL with bus addresses. -EINVAL: no ranges, a range off the device, an unknown direction;
 * -EACCES: read-only device; -ENOMEM. A bus address that means nothing is found out when it is used. On failure neither
 * callback is called and what `hold` names is still the caller's. *out (optional) is a reference for dma_xfer_put().
 */
int dma_submit(struct dma_engine *e, struct dma_dev *dev, const struct dma_desc *d, struct dma_xfer **out);

/*
 * Submit for [addr, addr + len) of a mapping of a pinfs file, in one of the modes. Fills in addresses, release, hold
 * and, for the pattern, dp_ino and dp_foff. The mapping may go at once, but under DMA_ODP: there it has to stay.
 * Errors: those of pinfs_pin_sg(), pinfs_device(), pinfs_lease_take_window() and dma_submit().
 */
struct dma_how {
	enum dma_mode mode;
	bool direct;			/* device addresses though there is an IOMMU: a revoke does not stop it */
	bool deaf;			/* LEASE: go on when the lease breaks */
	unsigned int lease;		/* LEASE: PINFS_LEASE_*; 0: READ */
};
int dma_submit_window(struct dma_engine *e, void *addr, size_t len, const struct dma_how *how,
		      const struct dma_desc *desc, struct dma_xfer **out);

/* 0: the transfer has ended; -ETIMEDOUT. @timeout_ns: DMA_NEVER waits for good. */
int dma_xfer_wait(struct dma_xfer *x, uint64_t timeout_ns);
/* End it with -ECANCELED at the next burst boundary; no effect on one that has ended. Does not wait. */
void dma_xfer_cancel(struct dma_xfer *x);
/* Its delay is over, if it has not begun. */
void dma_xfer_go(struct dma_xfer *x);
/* End it with another error. The first one counts. */
void dma_xfer_fail(struct dma_xfer *x, int err);
void dma_xfer_stat(struct dma_xfer *x, struct dma_stat *st);
/* Where it goes: *n device ranges as they were at submission, valid as long as the reference. */
const struct pinfs_sg *dma_xfer_sg(const struct dma_xfer *x, size_t *n);
/* Drops the caller's reference; the transfer goes on. */
void dma_xfer_put(struct dma_xfer *x);

/* The numbers that seeded schedules are made of. */
uint64_t dma_random(uint64_t *state);

uint64_t dma_now_ns(void);		/* CLOCK_MONOTONIC */

#endif
