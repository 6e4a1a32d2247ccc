/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.c - the two superblocks: check, load, mark. Owns nothing; called by one thread, at mount and unmount.
 */
#include "media/super.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <pinfs/version.h>
#include "base/crc32c.h"
#include "base/log.h"
#include "base/step.h"
#include "media/badset.h"

_Static_assert(sizeof(struct pf_d_super) == PF_BLK_SIZE, "a superblock is a block");

uint32_t pf_sb_sum(const struct pf_d_super *sb)
{
	return pf_crc32c_hole(sb, sizeof *sb, offsetof(struct pf_d_super, sb_crc));
}

/* The areas must be exactly where mkfs puts them, so that nothing behind this needs another check. */
static const char *check_layout(const struct pf_d_super *sb, uint64_t bytes)
{
	uint64_t nblk = pf_get64(sb->sb_nblk);
	struct pf_sb_geom g;

	if (nblk < PF_DEV_MIN / PF_BLK_SIZE || nblk > PF_DEV_MAX / PF_BLK_SIZE)
		return "impossible number of blocks";
	if (nblk > bytes / PF_BLK_SIZE)
		return "truncated: the device is smaller than the filesystem";
	pf_sb_geometry(nblk, &g);
	if (pf_get32(sb->sb_nlane) == 0 || pf_get32(sb->sb_nlane) > PF_LANES_MAX)
		return "impossible number of journal lanes";
	if (pf_get32(sb->sb_lane_nblk) != PF_LANE_BLKS)
		return "journal lane size";
	if (pf_get64(sb->sb_lane_blk) != 1 ||
	    pf_get64(sb->sb_map_blk) != 1 + pf_get32(sb->sb_nlane) * PF_LANE_BLKS ||
	    pf_get64(sb->sb_ngroup) != g.ngroup ||
	    pf_get64(sb->sb_iclu0_blk) != pf_get64(sb->sb_map_blk) + g.ngroup)
		return "areas are not where they must be";
	if (pf_get64(sb->sb_iclu0_blk) + PF_ICLU_BLKS >= nblk - 1)
		return "no room for data";
	if (pf_get64(sb->sb_root_ino) != PF_INO_ROOT)
		return "root inode number";
	return NULL;
}

void pf_sb_geometry(uint64_t nblk, struct pf_sb_geom *g)
{
	uint64_t bytes = nblk * PF_BLK_SIZE;

	g->nlane = bytes < UINT64_C(256) << 20 ? 8 : bytes < UINT64_C(1) << 30 ? 16 : PF_LANES_MAX;
	g->ngroup = PF_DIV_UP(nblk, PF_GROUP_BLKS);
	g->map_blk = 1 + g->nlane * PF_LANE_BLKS;
	g->iclu0_blk = g->map_blk + g->ngroup;
}

const char *pf_sb_check(const struct pf_d_super *sb, uint64_t bytes)
{
	if (pf_get64(sb->sb_magic) != PF_MAGIC_SUPER)
		return "not a pinfs image";
	/* Version before checksum: another version may compute it in another way. */
	if (pf_get16(sb->sb_major) != PINFS_MEDIA_MAJOR)
		return "another major version of the format";
	if (pf_get32(sb->sb_crc) != pf_sb_sum(sb))
		return "superblock checksum";
	if (pf_get32(sb->sb_blk_size) != PF_BLK_SIZE)
		return "block size is not 4096";
	if ((pf_get64(sb->sb_incompat) & ~PF_INCOMPAT_ALL) != 0)
		return "unknown incompatible feature";
	return check_layout(sb, bytes);
}

static int errno_of(const struct pf_d_super *sb)
{
	if (pf_get64(sb->sb_magic) != PF_MAGIC_SUPER || pf_get16(sb->sb_major) != PINFS_MEDIA_MAJOR)
		return -EINVAL;
	if (pf_get32(sb->sb_crc) != pf_sb_sum(sb))
		return -EUCLEAN;
	if (pf_get32(sb->sb_blk_size) != PF_BLK_SIZE)
		return -EINVAL;
	if ((pf_get64(sb->sb_incompat) & ~PF_INCOMPAT_ALL) != 0)
		return -EOPNOTSUPP;
	return -EUCLEAN;
}

static const struct pf_d_super *copy_of(const struct pf_pm *pm, uint64_t nblk)
{
	return pf_pm_at(pm, (nblk - 1) * PF_BLK_SIZE);
}

/* The copy's place follows from the size: the first superblock's if its field is plausible, else the device's. */
static const struct pf_d_super *find_copy(const struct pf_pm *pm)
{
	uint64_t dev_nblk = pm->bytes / PF_BLK_SIZE;
	uint64_t nblk = pf_get64(((const struct pf_d_super *)pf_pm_at(pm, 0))->sb_nblk);

	if (nblk >= PF_DEV_MIN / PF_BLK_SIZE && nblk <= dev_nblk && pf_sb_check(copy_of(pm, nblk), pm->bytes) == NULL)
		return copy_of(pm, nblk);
	return copy_of(pm, dev_nblk);
}

int pf_sb_load(struct pf_fs *fs, const char **why)
{
	const struct pf_d_super *sb = pf_pm_at(fs->pm, 0), *copy = find_copy(fs->pm);

	*why = pf_sb_check(sb, fs->pm->bytes);
	if (*why != NULL) {
		if (pf_sb_check(copy, fs->pm->bytes) != NULL)
			return errno_of(sb);
		pf_warn("first superblock is damaged (%s): using the copy", *why);
		sb = copy;
	}
	if ((pf_get64(sb->sb_ro_compat) & ~PF_RO_COMPAT_ALL) != 0 && !fs->opts.ro) {
		*why = "a feature that this version can only read: mount with ro";
		return -EROFS;
	}
	*why = NULL;
	fs->fsid = pf_get64(sb->sb_fsid);
	fs->nblk = pf_get64(sb->sb_nblk);
	fs->ngroup = pf_get64(sb->sb_ngroup);
	fs->lane_blk = pf_get64(sb->sb_lane_blk);
	fs->map_blk = pf_get64(sb->sb_map_blk);
	fs->iclu0_blk = pf_get64(sb->sb_iclu0_blk);
	fs->nlane = pf_get32(sb->sb_nlane);
	fs->lane_nblk = pf_get32(sb->sb_lane_nblk);
	fs->clean = (pf_get32(sb->sb_state) & PF_SB_CLEAN) != 0;
	memcpy(fs->uuid, sb->sb_uuid, sizeof fs->uuid);
	memcpy(fs->label, sb->sb_label, sizeof sb->sb_label);
	fs->label[sizeof sb->sb_label] = '\0';
	memcpy(fs->hash_key, sb->sb_hash_key, sizeof fs->hash_key);
	return 0;
}

/* Can be read, and makes sense. */
static bool sound(struct pf_fs *fs, const struct pf_d_super *sb, uint64_t dblk)
{
	return pf_bad_first(fs, dblk, 1, NULL) == PF_BAD_NONE && pf_sb_check(sb, fs->pm->bytes) == NULL;
}

/*
 * Either may tear in a crash, but never both: one is durable before the other is touched, and one that an earlier crash
 * has torn comes first, whichever it is.
 */
static int rewrite(struct pf_fs *fs, bool mounting)
{
	const struct pf_d_super *first = pf_pm_at(fs->pm, 0), *copy = copy_of(fs->pm, fs->nblk);
	const uint64_t place[2] = { 0, (fs->nblk - 1) * PF_BLK_SIZE };
	unsigned int begin = !sound(fs, copy, fs->nblk - 1);
	struct pf_d_super sb = sound(fs, first, 0) ? *first : *copy;
	uint64_t now = (uint64_t)time(NULL);
	int err;

	if (mounting) {
		sb.sb_state = pf_put32(pf_get32(sb.sb_state) & ~(uint32_t)PF_SB_CLEAN);
		sb.sb_mount_time = pf_put64(now);
		sb.sb_mount_count = pf_put64(pf_get64(sb.sb_mount_count) + 1);
	} else {
		sb.sb_state = pf_put32(pf_get32(sb.sb_state) | PF_SB_CLEAN);
	}
	sb.sb_write_time = pf_put64(now);
	sb.sb_crc = pf_put32(pf_sb_sum(&sb));
	pf_pm_write(fs->pm, place[begin], &sb, sizeof sb);
	err = PF_DRAIN(fs->pm, SUPER);
	if (err != 0)
		return err;
	pf_pm_write(fs->pm, place[1 - begin], &sb, sizeof sb);
	return pf_pm_drain(fs->pm);
}

int pf_sb_back(struct pf_fs *fs)
{
	const uint64_t head = (fs->iclu0_blk + PF_ICLU_BLKS) << PF_BLK_SHIFT, last = (fs->nblk - 1) << PF_BLK_SHIFT;

	return pf_pm_back(fs->pm, 0, head) == head && pf_pm_back(fs->pm, last, PF_BLK_SIZE) == PF_BLK_SIZE ?
		0 : -ENOSPC;
}

int pf_sb_mark_mounted(struct pf_fs *fs)
{
	return fs->opts.ro ? 0 : rewrite(fs, true);
}

int pf_sb_mark_clean(struct pf_fs *fs)
{
	return fs->opts.ro ? 0 : rewrite(fs, false);
}
