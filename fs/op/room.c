/* SPDX-License-Identifier: BSD-3-Clause */
/* room.c - waits for space that is about to be free. Owns nothing, takes no lock that it keeps. */
#include "op/room.h"

#include <assert.h>
#include <time.h>
#include "base/lock.h"
#include "media/pmem.h"
#include "obj/orphan.h"
#include "obj/reap.h"
#include "space/alloc.h"

#define SLACK_BLKS 64U		/* nodes of trees, and what others take meanwhile */

static bool enough(struct pf_fs *fs, uint64_t nblk)
{
	struct pf_space sp;

	pf_alloc_stat(fs, &sp);
	return sp.free >= nblk && sp.free - nblk >= SLACK_BLKS && !pf_pm_back_full(fs->pm);
}

bool pf_room_wait(struct pf_fs *fs, uint64_t nblk)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	const uint64_t unlinked = atomic_load(&fs->unlinked);

	assert(pf_rank_none());
	if (unlinked == atomic_load(&fs->unlinked_seen) || enough(fs, nblk))
		return false;
	for (unsigned int i = 0; i < PF_ROOM_MS && !pf_orph_none(fs); i++) {
		(void)pf_reap_all(fs);
		if (enough(fs, nblk))
			return true;
		(void)nanosleep(&ms, NULL);
	}
	atomic_store(&fs->unlinked_seen, unlinked);
	return true;
}
