/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_mount.c - bring the whole core up on a device, and take it down.
 *
 * Up: device, superblock, replay, then each layer from below, then what the crash left half done. Down: the other way
 * round. An image is marked clean only when its journal is empty and nothing is on the orphan list.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/step.h"
#include "media/journal.h"
#include "media/pmem.h"
#include "media/super.h"
#include "obj/orphan.h"
#include "op/op.h"
#include "space/bad.h"
#include "space/itable.h"

/* Everything in memory, in reverse; each part may be missing. */
static void take_down(struct pf_fs *fs)
{
	if (fs->lay != NULL)
		pf_lay_fini(fs);
	pf_icache_fini(fs);
	pf_orph_fini(fs);
	if (fs->itab != NULL)
		pf_itab_fini(fs);
	pf_bad_fini(fs);
	if (fs->alloc != NULL)
		pf_alloc_fini(fs);
	if (fs->jnl != NULL)
		pf_jnl_fini(fs);
	pf_verified_fini(fs);
}

/* The last: until then the device is written to. */
static void destroy(struct pf_fs *fs)
{
	pf_badset_fini(fs);
	pf_fail_fini(fs);
	free(fs);
}

/* What the last mount did not finish. Writes, unless the mount is read-only: then it only says whether it may be
 * used. */
static int replay(struct pf_fs *fs, struct pf_mount_info *info)
{
	int n = fs->opts.ro ? pf_jnl_pending(fs) : pf_jnl_replay(fs);

	if (n < 0) {
		info->why = "the journal is damaged";
		return n;
	}
	if (fs->opts.ro && n > 0) {
		info->why = "its journal must be replayed first: mount it read-write once";
		return -EROFS;
	}
	info->replayed = n;
	return 0;
}

static int orphans(struct pf_fs *fs, struct pf_mount_info *info)
{
	bool unreadable;
	int err;

	if (!fs->opts.ro) {
		err = PF_STEP(ORPHANS) ? pf_orph_process(fs, &info->orphans) : 0;
		info->why = err != 0 ? "the orphan list is damaged" : NULL;
		return err;
	}
	err = pf_orph_unreadable(fs, &unreadable);
	if (err == 0 && unreadable) {
		info->why = "an interrupted punch must be finished first: mount it read-write once";
		return -EROFS;
	}
	info->why = err != 0 ? "the orphan list is damaged" : NULL;
	return err;
}

struct step { int (*init)(struct pf_fs *fs); const char *why; };

static int run_steps(struct pf_fs *fs, const struct step *step, size_t n, const char **why)
{
	for (size_t i = 0; i < n; i++) {
		int err = step[i].init(fs);

		if (err != 0) {
			*why = err == -ENOMEM ? "out of memory" : step[i].why;
			return err;
		}
	}
	return 0;
}

static int bring_up(struct pf_fs *fs, struct pf_mount_info *info)
{
	static const struct step before[] = {
		{ pf_fail_init, "out of memory" },
		{ pf_badset_init, "out of memory" },
		{ pf_verified_init, "out of memory" },
		{ pf_jnl_init, "the journal is damaged" },
	};
	static const struct step after[] = {
		{ pf_alloc_init, "the free-space map is damaged" },
		{ pf_bad_init, "the list of bad blocks is damaged" },
		{ pf_itab_init, "the inode table is damaged" },
		{ pf_icache_init, "out of memory" },
		{ pf_orph_init, "the orphan file is damaged" },
		{ pf_lay_init, "no layout engine" },
	};
	int err;

	err = run_steps(fs, before, PF_ARRAY_LEN(before), &info->why);
	if (err == 0)
		err = replay(fs, info);
	if (err == 0)
		err = run_steps(fs, after, PF_ARRAY_LEN(after), &info->why);
	if (err == 0)
		err = orphans(fs, info);
	if (err == 0 && !fs->opts.ro) {
		err = pf_sb_mark_mounted(fs);
		if (err != 0)
			info->why = "the superblock cannot be written";
	}
	return err;
}

int pf_fs_mount_pm(struct pf_pm *pm, const struct pf_opts *opts, struct pf_fs **out, struct pf_mount_info *info)
{
	struct pf_fs *fs = calloc(1, sizeof *fs);
	int err;

	*info = (struct pf_mount_info){ .why = "out of memory" };
	if (fs == NULL)
		return -ENOMEM;
	fs->opts = *opts;
	fs->pm = pm;
	if (opts->overcommit)
		pf_back_fini(pm);
	err = pf_sb_load(fs, &info->why);
	if (err != 0)
		goto out_free;
	err = opts->ro ? 0 : pf_sb_back(fs);
	if (err != 0) {
		info->why = "the filesystem that holds the image is full";
		goto out_free;
	}
	err = bring_up(fs, info);
	if (err != 0)
		goto out_down;
	info->why = NULL;
	*out = fs;
	return 0;
out_down:
	take_down(fs);
out_free:
	destroy(fs);
	return err;
}

int pf_fs_mount(const char *device, const struct pf_opts *opts, struct pf_fs **out, struct pf_mount_info *info)
{
	struct pf_pm *pm;
	struct pf_fs *fs;
	int err;

	err = pf_pm_open(device, opts->pmem, opts->ro, true, &pm);
	if (err != 0) {
		*info = (struct pf_mount_info){ .why = pf_pm_why() };
		return err;
	}
	err = pf_fs_mount_pm(pm, opts, &fs, info);
	if (err != 0)
		goto out_close;
	/* From now on clients may hold the device too. */
	err = pf_pm_share(pm);
	if (err == 0) {
		*out = fs;
		return 0;
	}
	info->why = "somebody else has taken the device";
	take_down(fs);
	destroy(fs);
out_close:
	pf_pm_close(pm);
	return err;
}

void pf_fs_unmount_pm(struct pf_fs *fs)
{
	int err;
	bool clean;

	if (fs->lay != NULL)
		pf_lay_fini(fs);
	pf_icache_fini(fs);
	/* What was found wrong, or not written, is fsck's to see: it looks only at images that are not clean. */
	clean = !fs->opts.ro && pf_fs_state(fs) == PF_STATE_OK && pf_orph_none(fs);
	take_down(fs);
	err = pf_pm_drain(fs->pm);
	if (err == 0 && clean)
		err = pf_sb_mark_clean(fs);
	if (err != 0)
		pf_err("the device failed at unmount");
	destroy(fs);
}

void pf_fs_unmount(struct pf_fs *fs)
{
	struct pf_pm *pm = fs->pm;

	pf_fs_unmount_pm(fs);
	pf_pm_close(pm);
}
