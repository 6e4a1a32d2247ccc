/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs.h - the mounted filesystem: options, and one opaque pointer for each layer's state.
 *
 * struct pf_fs is passed first to every function of layers 1-5. A layer defines its own state
 * struct in its own header or source file; only that layer looks inside.
 */
#ifndef PF_BASE_FS_H
#define PF_BASE_FS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <pinfs/format.h>
#include "base/policy.h"

enum pf_errors { PF_ERRORS_CONTINUE, PF_ERRORS_REMOUNT_RO, PF_ERRORS_SHUTDOWN, PF_ERRORS_NR };
enum pf_pmem_mode { PF_PMEM_AUTO, PF_PMEM_CPU, PF_PMEM_MSYNC, PF_PMEM_NR };

/* Which regular files are DAX: all, none, those with FS_XFLAG_DAX. */
enum pf_dax { PF_DAX_ALWAYS, PF_DAX_NEVER, PF_DAX_INODE, PF_DAX_NR };

enum pf_atime { PF_ATIME_RELATIME, PF_ATIME_STRICT, PF_ATIME_NEVER };

extern const char *const pf_errors_name[PF_ERRORS_NR];
extern const char *const pf_pmem_name[PF_PMEM_NR];
extern const char *const pf_dax_name[PF_DAX_NR];

/* Whose answers a mount gives. Each is a set of defaults, in base/profile.c. */
enum pf_profile {
	PF_PROFILE_PINFS, PF_PROFILE_LINUX_4_15, PF_PROFILE_LINUX_4_19, PF_PROFILE_LINUX_6_12, PF_PROFILE_VIRTIOFS,
	PF_PROFILE_DEVDAX, PF_PROFILE_NR
};
extern const char *const pf_profile_name[PF_PROFILE_NR];
#define PF_ANSWER_NO_SYNC 1U		/* MAP_SYNC is EOPNOTSUPP */
#define PF_ANSWER_NO_UNSHARE 2U		/* fallocate has no UNSHARE_RANGE */
#define PF_ANSWER_NO_SHIFT 4U		/* ... no COLLAPSE_RANGE, no INSERT_RANGE */
#define PF_ANSWER_GROW_BREAKS 8U	/* fallocate that may grow the file breaks its layout */
#define PF_ANSWER_DEVICE 16U		/* regular files are like device DAX nodes */
#define PF_ANSWER_VFIO_SLIPS 32U	/* VFIO's pins are not known to be long-term, hence not refused */
#define PF_ANSWER_XDP_SLIPS 64U		/* nor AF_XDP's */

struct pf_opts {
	struct pf_policy policy;	/* changes while mounted: pf_fs_policy() */
	enum pf_pmem_mode pmem;
	enum pf_errors errors;		/* what damage does to the mount (base/fail.h) */
	uint64_t defer_limit;		/* bytes that on_busy=defer may keep back; 0: a quarter of the device */
	uint64_t revoke_timeout_ms;	/* a client that has not acknowledged by then is quarantined */
	uint64_t window;		/* bytes, multiple of 2 MiB: window budget of one session */
	enum pf_atime atime;
	bool nodiratime;
	uint64_t longterm_limit;	/* bytes that a user may pin long-term, besides RLIMIT_MEMLOCK; 0: any */
	bool overcommit;		/* blocks of a sparse image are given out without room below */
	bool ro;
	bool pause_points;		/* tests may stop operations on their way (base/pause.h) */
	enum pf_dax dax;
	enum pf_profile profile;
	uint32_t answers;		/* PF_ANSWER_*: where the profile differs from what pinfs does by itself */
	uint64_t statx_hide;		/* STATX_ATTR_*: as if these were not known */
	uint64_t cache;			/* inodes kept in memory that nobody uses; 0: PF_CACHE_DEFAULT */
};
#define PF_CACHE_DEFAULT UINT64_C(16384)

struct pf_fail;		/* base/fail.h */
struct pf_pause;	/* base/pause.h */
struct pf_trace;	/* base/trace.h */
struct pf_pm;		/* media/pmem.h */
struct pf_jnl;		/* media/journal.h */
struct pf_verified;	/* media/verify.h */
struct pf_badset;	/* media/badset.h */
struct pf_alloc;	/* space/alloc.h */
struct pf_bad;		/* space/bad.h */
struct pf_itab;		/* space/itable.h */
struct pf_lay;		/* share/layout.h */
struct pf_icache;	/* obj/inode.h */
struct pf_orph;		/* obj/orphan.h */
struct pf_reap;		/* obj/reap.h */
struct pf_aheads;	/* obj/ahead.h */

struct pf_fs {
	struct pf_opts opts;
	/* From the superblock, constant while mounted. */
	uint64_t fsid;
	uint64_t nblk;
	uint64_t ngroup;
	uint64_t lane_blk, map_blk, iclu0_blk;
	uint32_t nlane, lane_nblk;
	bool clean;			/* as found: unmounted in order */
	uint8_t uuid[16];
	char label[33];
	uint8_t hash_key[16];

	_Atomic uint64_t unlinked;	/* inodes that have lost their last name ... */
	_Atomic uint64_t unlinked_seen;	/* ... and how many of them somebody has waited for (op/room.h) */
	_Atomic int state;		/* enum pf_state of base/fail.h */
	atomic_bool tracing;		/* base/probe.h */
	struct pf_trace *trace;
	struct pf_fail *fail;
	struct pf_pause *pause;		/* NULL: no pause points */
	struct pf_pm *pm;
	struct pf_jnl *jnl;
	struct pf_verified *verified;
	_Atomic uint64_t nr_bad;	/* blocks in badset */
	struct pf_badset *badset;
	struct pf_alloc *alloc;
	struct pf_bad *bad;
	struct pf_itab *itab;
	struct pf_lay *lay;
	struct pf_icache *icache;
	struct pf_orph *orph;
	struct pf_reap *reap;
	struct pf_aheads *ahead;
};

/* The mount's policy as it is now, and another one. Any locks may be held. */
void pf_fs_policy(struct pf_fs *fs, struct pf_policy *out);
void pf_fs_policy_set(struct pf_fs *fs, const struct pf_policy *p);

#endif
