/* SPDX-License-Identifier: BSD-3-Clause */
/* space_env.c - see space_env.h. */
#include "space_env.h"

#include <stdlib.h>
#include "harness/mem.h"
#include "media/pmem.h"
#include "media/mkfs.h"
#include "base/fail.h"
#include "media/super.h"
#include "space/bad.h"
#include "space/itable.h"

static void must(int err)
{
	if (err)
		abort();
}

static void up(struct pf_fs *fs)
{
	const char *why;

	must(pf_sb_load(fs, &why));
	must(pf_fail_init(fs));
	must(pf_badset_init(fs));
	must(pf_verified_init(fs));
	must(pf_jnl_init(fs));
	must(pf_jnl_replay(fs) < 0);
	must(pf_alloc_init(fs));
	must(pf_bad_init(fs));
	must(pf_itab_init(fs));
}

static void down(struct pf_fs *fs)
{
	pf_itab_fini(fs);
	pf_bad_fini(fs);
	pf_alloc_fini(fs);
	pf_jnl_fini(fs);
	pf_verified_fini(fs);
	pf_badset_fini(fs);
	pf_fail_fini(fs);
	fs->state = PF_STATE_OK;
}

struct pf_fs *space_open(uint64_t bytes)
{
	struct pf_fs *fs = calloc(1, sizeof *fs);
	struct pf_mkfs m = { .label = "space" };

	if (!fs)
		abort();
	fs->pm = mem_open(bytes);
	must(pf_mkfs(fs->pm, &m));
	up(fs);
	return fs;
}

void space_close(struct pf_fs *fs)
{
	down(fs);
	mem_close(fs->pm);
	free(fs);
}

void space_remount(struct pf_fs *fs)
{
	down(fs);
	up(fs);
}

uint64_t space_media_free(struct pf_fs *fs)
{
	uint64_t n = 0;

	for (uint64_t g = 0; g < fs->ngroup; g++) {
		const struct pf_d_map *m = pf_pm_at(fs->pm, (fs->map_blk + g) << PF_BLK_SHIFT);

		if (pf_md_check(fs, PF_MD_MAP, m, (fs->map_blk + g) << PF_BLK_SHIFT, g))
			abort();
		n += pf_get32(m->m_hdr.h_free);
	}
	return n;
}
