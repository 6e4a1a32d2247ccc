/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mkfs.c - make an empty filesystem on a device. Owns nothing, takes no lock: the device is the caller's alone.
 */
#include "media/mkfs.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <pinfs/version.h>
#include "base/step.h"
#include "media/super.h"
#include "media/verify.h"

static int random_bytes(void *buf, size_t len)
{
	return getrandom(buf, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static void make_uuid(uint8_t uuid[16])
{
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);	/* RFC 4122: version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void set_bits(uint8_t *bits, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		bits[i / 8] = (uint8_t)(bits[i / 8] | 1U << (i % 8));
}

/* In use from the start: everything up to and with inode cluster 0, the superblock copy, and what lies past the end. */
static uint64_t write_maps(const struct pf_fs *fs)
{
	const uint64_t used_to = fs->iclu0_blk + PF_ICLU_BLKS;
	uint64_t total = 0;
	struct pf_d_map map;

	for (uint64_t g = 0; g < fs->ngroup; g++) {
		const uint64_t first = g * PF_GROUP_BLKS, doff = (fs->map_blk + g) * PF_BLK_SIZE;
		uint64_t head = used_to > first ? pf_min64(used_to - first, PF_GROUP_BLKS) : 0;
		uint64_t end = pf_min64(fs->nblk - 1 - first, PF_GROUP_BLKS);

		pf_md_format(fs, PF_MD_MAP, &map, doff, g, 0);
		set_bits(map.m_bits[0], 0, head);
		set_bits(map.m_bits[0], end, PF_GROUP_BLKS);
		map.m_hdr.h_free = pf_put32((uint32_t)(end > head ? end - head : 0));
		total += end > head ? end - head : 0;
		pf_md_seal(PF_MD_MAP, &map);
		pf_pm_write(fs->pm, doff, &map, sizeof map);
	}
	return total;
}

static void format_inode(const struct pf_fs *fs, struct pf_d_inode *di, uint64_t ino, mode_t mode, uint64_t sec)
{
	pf_md_format(fs, PF_MD_INODE, di, fs->iclu0_blk * PF_BLK_SIZE + ino * PF_INODE_SIZE, ino, 1);
	di->i_mode = pf_put32(mode);
	di->i_nlink = pf_put32(S_ISDIR(mode) ? 2 : 1);
	di->i_atime = di->i_mtime = di->i_ctime = di->i_btime = pf_put64(sec);
}

/* Cluster 0: its header and the inodes that always exist. */
static void write_cluster(const struct pf_fs *fs, const struct pf_mkfs *m, uint64_t sec)
{
	const uint64_t doff = fs->iclu0_blk * PF_BLK_SIZE;
	struct pf_d_iclu clu;
	struct pf_d_inode di;

	pf_pm_zero(fs->pm, doff, PF_ICLU_BLKS * PF_BLK_SIZE);

	pf_md_format(fs, PF_MD_ICLU, &clu, doff, 0, 0);
	set_bits(clu.c_used, 0, PF_INO_FIRST_USER);
	clu.c_hdr.h_free = pf_put32(PF_ICLU_SLOTS - (uint32_t)PF_INO_FIRST_USER);
	pf_md_seal(PF_MD_ICLU, &clu);
	pf_pm_write(fs->pm, doff, &clu, sizeof clu);

	format_inode(fs, &di, PF_INO_ITABLE, S_IFREG | 0600, sec);
	di.i_size = pf_put64(PF_ICLU_BLKS * PF_BLK_SIZE);
	di.i_nblk = pf_put64(PF_ICLU_BLKS);
	di.i_root.t_count = pf_put16(1);
	di.i_root.t_rec[0].r_dblk = pf_put64(fs->iclu0_blk);
	di.i_root.t_rec[0].r_len = pf_put32((uint32_t)PF_ICLU_BLKS);
	pf_md_seal(PF_MD_INODE, &di);
	pf_pm_write(fs->pm, doff + PF_INO_ITABLE * PF_INODE_SIZE, &di, sizeof di);

	format_inode(fs, &di, PF_INO_ORPHAN, S_IFREG | 0600, sec);
	pf_md_seal(PF_MD_INODE, &di);
	pf_pm_write(fs->pm, doff + PF_INO_ORPHAN * PF_INODE_SIZE, &di, sizeof di);

	format_inode(fs, &di, PF_INO_BAD, S_IFREG | 0600, sec);
	pf_md_seal(PF_MD_INODE, &di);
	pf_pm_write(fs->pm, doff + PF_INO_BAD * PF_INODE_SIZE, &di, sizeof di);

	format_inode(fs, &di, PF_INO_ROOT, S_IFDIR | 0755, sec);
	di.i_uid = pf_put32(m->uid);
	di.i_gid = pf_put32(m->gid);
	di.i_parent = pf_put64(PF_INO_ROOT);
	pf_md_seal(PF_MD_INODE, &di);
	pf_pm_write(fs->pm, doff + PF_INO_ROOT * PF_INODE_SIZE, &di, sizeof di);
}

static void fill_super(const struct pf_fs *fs, const struct pf_mkfs *m, uint64_t sec, struct pf_d_super *sb)
{
	memset(sb, 0, sizeof *sb);
	sb->sb_magic = pf_put64(PF_MAGIC_SUPER);
	sb->sb_major = pf_put16(PINFS_MEDIA_MAJOR);
	sb->sb_minor = pf_put16(PINFS_MEDIA_MINOR);
	memcpy(sb->sb_uuid, m->uuid, sizeof sb->sb_uuid);
	memcpy(sb->sb_label, m->label, strnlen(m->label, sizeof sb->sb_label));
	sb->sb_fsid = pf_put64(fs->fsid);
	sb->sb_blk_size = pf_put32((uint32_t)PF_BLK_SIZE);
	sb->sb_state = pf_put32(PF_SB_CLEAN);
	sb->sb_nblk = pf_put64(fs->nblk);
	sb->sb_lane_blk = pf_put64(fs->lane_blk);
	sb->sb_nlane = pf_put32(fs->nlane);
	sb->sb_lane_nblk = pf_put32(fs->lane_nblk);
	sb->sb_map_blk = pf_put64(fs->map_blk);
	sb->sb_ngroup = pf_put64(fs->ngroup);
	sb->sb_iclu0_blk = pf_put64(fs->iclu0_blk);
	sb->sb_root_ino = pf_put64(PF_INO_ROOT);
	memcpy(sb->sb_hash_key, fs->hash_key, sizeof sb->sb_hash_key);
	sb->sb_mkfs_time = pf_put64(sec);
	sb->sb_write_time = pf_put64(sec);
	sb->sb_crc = pf_put32(pf_sb_sum(sb));
}

int pf_mkfs(struct pf_pm *pm, struct pf_mkfs *m)
{
	static const uint8_t none[16];
	const uint64_t sec = (uint64_t)time(NULL);
	struct pf_fs fs = { .pm = pm, .nblk = pm->bytes / PF_BLK_SIZE, .lane_blk = 1, .lane_nblk = PF_LANE_BLKS };
	struct pf_sb_geom g;
	struct pf_d_super sb;
	int err;

	pf_sb_geometry(fs.nblk, &g);
	fs.nlane = g.nlane;
	fs.ngroup = g.ngroup;
	fs.map_blk = g.map_blk;
	fs.iclu0_blk = g.iclu0_blk;
	err = random_bytes(&fs.fsid, sizeof fs.fsid);
	if (err == 0)
		err = random_bytes(fs.hash_key, sizeof fs.hash_key);
	if (err == 0 && memcmp(m->uuid, none, sizeof none) == 0) {
		err = random_bytes(m->uuid, sizeof m->uuid);
		make_uuid(m->uuid);
	}
	if (err == 0)
		err = pf_sb_back(&fs);
	if (err != 0)
		return err;

	pf_pm_zero(pm, 0, PF_BLK_SIZE);
	pf_pm_zero(pm, (fs.nblk - 1) * PF_BLK_SIZE, PF_BLK_SIZE);
	err = PF_DRAIN(pm, MKFS_OLD);
	if (err != 0)
		return err;
	for (uint32_t lane = 0; lane < fs.nlane; lane++)
		pf_pm_zero(pm, (fs.lane_blk + (uint64_t)lane * fs.lane_nblk) * PF_BLK_SIZE, sizeof(struct pf_d_lane));
	m->free = write_maps(&fs);
	write_cluster(&fs, m, sec);
	err = PF_DRAIN(pm, MKFS_BODY);
	if (err != 0)
		return err;

	fill_super(&fs, m, sec, &sb);
	pf_pm_write(pm, (fs.nblk - 1) * PF_BLK_SIZE, &sb, sizeof sb);
	pf_pm_write(pm, 0, &sb, sizeof sb);
	m->nblk = fs.nblk;
	m->nlane = fs.nlane;
	return pf_pm_drain(pm);
}
