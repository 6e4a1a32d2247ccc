/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.c - a superblock made up from what else lies on the device, when both copies are damaged.
 *
 * The size of the device determines where the areas begin but for the number of lanes, and the first map block and
 * the first cluster say which filesystem this is and where they lie. What only the superblock knows - label, UUID, the
 * key of directory names - is taken from a damaged copy while that may be right, else made anew; the directories
 * then get new keys too, as any name with a wrong one does.
 */
#include "fsck.pinfs/fsck.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <pinfs/version.h>
#include "media/super.h"

/* What mkfs wrote once. */
static struct pf_d_super constant_part(const struct pf_d_super *sb)
{
	struct pf_d_super c = *sb;

	c.sb_crc = pf_put32(0);
	c.sb_state = pf_put32(0);
	c.sb_mount_time = pf_put64(0);
	c.sb_write_time = pf_put64(0);
	c.sb_mount_count = pf_put64(0);
	return c;
}

bool fsck_same_constants(const struct pf_d_super *sb, const struct pf_d_super *copy)
{
	struct pf_d_super a = constant_part(sb), b = constant_part(copy);

	return memcmp(&a, &b, sizeof a) == 0;
}

/* The filesystem that the object at block @b belongs to, if it is that object; else 0. Where it lies makes @owner 0. */
static uint64_t fsid_at(const struct pf_pm *pm, uint64_t b, uint32_t magic)
{
	const struct pf_d_hdr *h;

	if (b >= pm->bytes / PF_BLK_SIZE)
		return 0;
	h = pf_pm_at(pm, b << PF_BLK_SHIFT);
	return pf_get32(h->h_magic) == magic && pf_get64(h->h_self) == b && pf_get64(h->h_owner) == 0 ?
		pf_get64(h->h_fsid) : 0;
}

static uint64_t fsid_of(const struct pf_pm *pm, uint64_t map_blk, uint64_t iclu0_blk)
{
	uint64_t fsid = fsid_at(pm, map_blk, PF_MAGIC_MAP);
	const struct pf_d_inode *root;

	if (fsid == 0)
		fsid = fsid_at(pm, iclu0_blk, PF_MAGIC_ICLU);
	if (fsid != 0 || iclu0_blk + PF_ICLU_BLKS >= pm->bytes / PF_BLK_SIZE)
		return fsid;
	root = (const struct pf_d_inode *)pf_pm_at(pm, iclu0_blk << PF_BLK_SHIFT) + PF_INO_ROOT;
	return pf_get32(root->i_magic) == PF_MAGIC_INODE && pf_get64(root->i_ino) == PF_INO_ROOT ?
		pf_get64(root->i_fsid) : 0;
}

/* A damaged superblock of this filesystem whose fields can all be right. */
static bool believe(const struct pf_pm *pm, const struct pf_d_super *sb, struct pf_d_super *out)
{
	*out = *sb;
	out->sb_magic = pf_put64(PF_MAGIC_SUPER);
	out->sb_major = pf_put16(PINFS_MEDIA_MAJOR);
	out->sb_crc = pf_put32(pf_sb_sum(out));
	return pf_get64(sb->sb_fsid) != 0 && pf_sb_check(out, pm->bytes) == NULL &&
	       fsid_of(pm, pf_get64(sb->sb_map_blk), pf_get64(sb->sb_iclu0_blk)) == pf_get64(sb->sb_fsid);
}

static bool make_up(const struct pf_pm *pm, struct pf_d_super *sb)
{
	uint64_t nblk = pm->bytes / PF_BLK_SIZE, fsid = 0;
	struct pf_sb_geom g;

	pf_sb_geometry(nblk, &g);
	/* Usually what mkfs chooses; any number may have been. */
	for (uint32_t nlane = 0; nlane <= PF_LANES_MAX && fsid == 0; nlane++) {
		if (nlane != 0)
			g.nlane = nlane;
		g.map_blk = 1 + (uint64_t)g.nlane * PF_LANE_BLKS;
		g.iclu0_blk = g.map_blk + g.ngroup;
		fsid = fsid_of(pm, g.map_blk, g.iclu0_blk);
	}
	if (fsid == 0)
		return false;
	memset(sb, 0, sizeof *sb);
	sb->sb_magic = pf_put64(PF_MAGIC_SUPER);
	sb->sb_major = pf_put16(PINFS_MEDIA_MAJOR);
	sb->sb_minor = pf_put16(PINFS_MEDIA_MINOR);
	sb->sb_fsid = pf_put64(fsid);
	sb->sb_blk_size = pf_put32((uint32_t)PF_BLK_SIZE);
	sb->sb_nblk = pf_put64(nblk);
	sb->sb_lane_blk = pf_put64(1);
	sb->sb_nlane = pf_put32(g.nlane);
	sb->sb_lane_nblk = pf_put32(PF_LANE_BLKS);
	sb->sb_map_blk = pf_put64(g.map_blk);
	sb->sb_ngroup = pf_put64(g.ngroup);
	sb->sb_iclu0_blk = pf_put64(g.iclu0_blk);
	sb->sb_root_ino = pf_put64(PF_INO_ROOT);
	if (getrandom(sb->sb_hash_key, sizeof sb->sb_hash_key, 0) != (ssize_t)sizeof sb->sb_hash_key ||
	    getrandom(sb->sb_uuid, sizeof sb->sb_uuid, 0) != (ssize_t)sizeof sb->sb_uuid)
		return false;
	sb->sb_uuid[6] = (uint8_t)((sb->sb_uuid[6] & 0x0f) | 0x40);
	sb->sb_uuid[8] = (uint8_t)((sb->sb_uuid[8] & 0x3f) | 0x80);
	sb->sb_crc = pf_put32(pf_sb_sum(sb));
	return pf_sb_check(sb, pm->bytes) == NULL;
}

/* Its bytes are what somebody wrote: when it is refused, then not because it is damaged. */
static bool meant(const struct pf_d_super *sb)
{
	return pf_get64(sb->sb_magic) == PF_MAGIC_SUPER && pf_get32(sb->sb_crc) == pf_sb_sum(sb);
}

int fsck_guess_super(struct fsck *f)
{
	struct pf_pm *pm = f->fs.pm;
	const struct pf_d_super *last = pf_pm_at(pm, pm->bytes - PF_BLK_SIZE);
	struct pf_d_super sb;

	if (meant(pf_pm_at(pm, 0)) || meant(last))
		return -EUCLEAN;
	if (!believe(pm, pf_pm_at(pm, 0), &sb) && !believe(pm, last, &sb) && !make_up(pm, &sb))
		return -EUCLEAN;
	sb.sb_state = pf_put32(pf_get32(sb.sb_state) & ~(uint32_t)PF_SB_CLEAN);
	sb.sb_crc = pf_put32(pf_sb_sum(&sb));
	pf_pm_write(pm, 0, &sb, sizeof sb);
	pf_pm_write(pm, (pf_get64(sb.sb_nblk) - 1) << PF_BLK_SHIFT, &sb, sizeof sb);
	return 0;
}
