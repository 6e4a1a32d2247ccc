/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmem.h - the persistence seam: the only place that knows how bytes become durable.
 *
 * Every store to the device that must survive goes through this ops table, so that a test backend
 * can record it and build the images which a crash could leave. pmem.c is the only caller of libpmem.
 *
 * Order: bytes stored by pf_pm_write()/pf_pm_zero() or flushed by pf_pm_flush() before a pf_pm_drain()
 * are durable when the drain returns. Nothing else is promised; 8 aligned bytes never tear.
 */
#ifndef PF_MEDIA_PMEM_H
#define PF_MEDIA_PMEM_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pinfs/compiler.h>
#include "base/fs.h"

struct pf_pm_ops {
	/* Copy @len bytes to device offset @doff and start their way to the media. */
	void (*write)(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len);
	void (*zero)(struct pf_pm *pm, uint64_t doff, uint64_t len);
	/* Bytes that somebody stored through a mapping: start their way to the media. */
	void (*flush)(struct pf_pm *pm, uint64_t doff, uint64_t len);
	/* 0, or -EIO when the medium refused (msync mode). May block for the medium. */
	int (*drain)(struct pf_pm *pm);
};

struct pf_pm {
	const struct pf_pm_ops *ops;
	uint8_t *base;			/* whole device, mapped shared; read-only when ro */
	uint64_t bytes;
	uint64_t grain;			/* of mappings of it: 4 KiB; 2 MiB on hugetlbfs and most DAX devices */
	int fd;				/* carries the locks of a daemon or writing tool (pf_pm_lock()) */
	enum pf_pmem_mode mode;		/* CPU or MSYNC: what AUTO decided */
	bool ro;
	bool sync;			/* mapped with MAP_SYNC: DAX */
	void *priv;			/* of the backend */
	_Atomic bool gone;		/* bytes could not be reached (pf_pm_guard); the first were at gone_at */
	_Atomic uint64_t gone_at;
	struct pf_backing *backing;	/* backing.c; NULL: there is nothing that could be missing */
};

/*
 * Open and map a device. @excl: take the exclusive lock (pf_pm_lock()) and refuse with -EBUSY when anybody holds it;
 * pf_pm_holders() then names them. Errors: -ENOENT, -EACCES, -EBUSY, -EINVAL (neither a regular file nor a
 * DAX device, or below PF_DEV_MIN / above PF_DEV_MAX / not a multiple of the block size; mapped in pieces of more than
 * 2 MiB; @mode is not possible there), -ENOMEM, -EIO.
 */
int pf_pm_open(const char *path, enum pf_pmem_mode mode, bool ro, bool excl, struct pf_pm **out) PF_MUST_CHECK;
void pf_pm_close(struct pf_pm *pm);
/* Why the calling thread's last pf_pm_open() failed: one phrase, static. */
const char *pf_pm_why(void);

/* Can no page of it be mapped by itself? Then windows show whole chunks, each in one piece of the device. */
static inline bool pf_pm_whole(const struct pf_pm *pm) { return pm->grain > PF_BLK_SIZE; }

/* What lies below a device, and what that means for huge pages: looked up anew each time, for reports. */
struct pf_below {
	char fs[16];			/* "tmpfs", "hugetlbfs", "devdax", "fsdax", "ext4", ... "other" */
	char huge[16];			/* tmpfs: the mount's option huge=; else empty */
	char shmem[16];			/* tmpfs: the word chosen in shmem_enabled; else empty */
	unsigned int dev_major, dev_minor;	/* how /proc/PID/maps names the device */
	uint64_t ino;
};
void pf_pm_below(const struct pf_pm *pm, struct pf_below *out);

/* Locks (claim.c). The exclusive one: nobody else writes to the device, or has it from a daemon. Whoever is on the way
 * out is waited for, a second at most: -EBUSY. */
int pf_pm_lock(int fd) PF_MUST_CHECK;
/* From exclusive to shared: clients may have it, too. Another daemon or writing tool is still refused. -EBUSY: a
 * second read-only daemon was faster; give up. */
int pf_pm_share(struct pf_pm *pm) PF_MUST_CHECK;
/* @fd, an open file of its own, is client @id's: locked shared for as long as anybody has it open or mapped. -EBUSY. */
int pf_pm_claim(int fd, uint64_t id) PF_MUST_CHECK;
/* Does anybody? True when that cannot be found out. */
bool pf_pm_claimed(const struct pf_pm *pm, uint64_t id) PF_MUST_CHECK;

/* "pid 12 (comm), pid 14 (comm)" of the processes that hold @path open, the caller left out, at most @len bytes
 * with the NUL; empty when none is visible to the caller. Reads /proc: slow. */
void pf_pm_holders(const char *path, char *buf, size_t len);

/* Room below the device for these bytes, whatever it costs, before they are stored to: how many of them, from the
 * front, have it. Fewer than @len: the filesystem that holds the image is full. May block for the medium. */
uint64_t pf_pm_back(struct pf_pm *pm, uint64_t doff, uint64_t len) PF_MUST_CHECK;
/* Does that matter at all here? If so: is the chunk of @doff known to have it? */
bool pf_pm_backs(const struct pf_pm *pm);
bool pf_pm_backed(const struct pf_pm *pm, uint64_t doff);
/* The filesystem that holds the image had no room when it was asked last: only what is given back can be used. */
bool pf_pm_back_full(const struct pf_pm *pm);
/* Of pf_pm_open() and pf_pm_close(); calling fini early turns it off. */
int pf_back_init(struct pf_pm *pm) PF_MUST_CHECK;
void pf_back_fini(struct pf_pm *pm);

static inline void *pf_pm_at(const struct pf_pm *pm, uint64_t doff) { return pm->base + doff; }
static inline void pf_pm_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	pm->ops->write(pm, doff, src, len);
}
static inline void pf_pm_zero(struct pf_pm *pm, uint64_t doff, uint64_t len) { pm->ops->zero(pm, doff, len); }
static inline void pf_pm_flush(struct pf_pm *pm, uint64_t doff, uint64_t len) { pm->ops->flush(pm, doff, len); }
static inline int pf_pm_drain(struct pf_pm *pm)
{
	int err = pm->ops->drain(pm);

	return err == 0 && atomic_load_explicit(&pm->gone, memory_order_relaxed) ? -EIO : err;
}

/*
 * From now on touching bytes of the device that are not there (SIGBUS) does not end the process: pm->gone is set and
 * drains fail, *@state becomes @value, and @fd, an eventfd, is written. One device in a process. 0 or -errno.
 */
int pf_pm_guard(struct pf_pm *pm, _Atomic int *state, int value, int fd) PF_MUST_CHECK;
void pf_pm_unguard(struct pf_pm *pm);

#endif
