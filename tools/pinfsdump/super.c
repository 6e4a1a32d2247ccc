/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.c - shows the two superblocks, and the lanes of the journal with their records.
 *
 * Reads only; lanes are shown as they are, nothing is replayed.
 */
#include "pinfsdump/dump.h"

#include <inttypes.h>
#include <string.h>
#include "base/crc32c.h"
#include "lib/cli.h"
#include "media/super.h"

static void super_fields(struct dump *d, const struct pf_d_super *sb)
{
	struct out *o = d->o;
	uint64_t state = pf_get32(sb->sb_state);
	char uuid[37];

	out_text(o, "version", "%u.%u", pf_get16(sb->sb_major), pf_get16(sb->sb_minor));
	out_hex(o, "crc", pf_get32(sb->sb_crc));
	out_text(o, "uuid", "%s", cli_show_uuid(sb->sb_uuid, uuid));
	out_name(o, "label", sb->sb_label, strnlen((const char *)sb->sb_label, sizeof sb->sb_label));
	out_hex(o, "fsid", pf_get64(sb->sb_fsid));
	out_hex(o, "compat", pf_get64(sb->sb_compat));
	out_hex(o, "ro_compat", pf_get64(sb->sb_ro_compat));
	out_hex(o, "incompat", pf_get64(sb->sb_incompat));
	out_text(o, "state", "%s", state & PF_SB_CLEAN ? "clean" : "in use, or not unmounted in order");
	out_num(o, "block_size", pf_get32(sb->sb_blk_size));
	out_num(o, "blocks", pf_get64(sb->sb_nblk));
	out_num(o, "lane_block", pf_get64(sb->sb_lane_blk));
	out_num(o, "lanes", pf_get32(sb->sb_nlane));
	out_num(o, "lane_blocks", pf_get32(sb->sb_lane_nblk));
	out_num(o, "map_block", pf_get64(sb->sb_map_blk));
	out_num(o, "groups", pf_get64(sb->sb_ngroup));
	out_num(o, "cluster0_block", pf_get64(sb->sb_iclu0_blk));
	out_num(o, "root_inode", pf_get64(sb->sb_root_ino));
	out_time(o, "mkfs_time", pf_get64(sb->sb_mkfs_time), 0);
	out_time(o, "mount_time", pf_get64(sb->sb_mount_time), 0);
	out_time(o, "write_time", pf_get64(sb->sb_write_time), 0);
	out_num(o, "mounts", pf_get64(sb->sb_mount_count));
}

static void one_super(struct dump *d, uint64_t dblk, const char *name)
{
	_Alignas(struct pf_d_super) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_super *sb = (const void *)buf;
	const char *why;

	(void)dump_block(d, dblk, buf);
	out_begin(d->o, "", "%s, block %" PRIu64, name, dblk);
	out_num(d->o, "block", dblk);
	why = pf_sb_check(sb, d->pm->bytes);
	if (why != NULL)
		dump_fault(d, "%s", why);
	if (pf_get64(sb->sb_magic) == PF_MAGIC_SUPER)
		super_fields(d, sb);
	out_end(d->o);
}

int dump_super(struct dump *d)
{
	out_list(d->o, "superblocks");
	one_super(d, 0, "superblock");
	one_super(d, d->fs.nblk - 1, "superblock copy");
	out_list_end(d->o);
	return DUMP_OK;
}

/* ---- journal ---- */

/* The lane in a buffer of its own: the checksum and the records must be of the same bytes. */
static uint8_t lane_copy[PF_LANE_BYTES];

/* What is wrong with a record, or NULL: as replay judges it. */
static const char *check_rec(const struct dump *d, uint64_t doff, uint64_t len)
{
	if (doff < d->fs.map_blk * PF_BLK_SIZE || !pf_range_ok(doff, len, (d->fs.nblk - 1) * PF_BLK_SIZE))
		return "outside of what a transaction may change";
	if (doff % PF_LINE != 0 || len % PF_LINE != 0 || len == 0)
		return "not of whole lines";
	return NULL;
}

static const char *area(const struct dump *d, uint64_t doff)
{
	uint64_t dblk = doff / PF_BLK_SIZE;

	return dblk < d->fs.map_blk + d->fs.ngroup	? "map"
	       : dblk < d->fs.iclu0_blk + PF_ICLU_BLKS ? "cluster 0"
						       : "data area";
}

static void records(struct dump *d, const struct pf_d_lane *l, uint64_t left)
{
	static const struct out_col col[] = { { "byte", 14 }, { "block", 10 }, { "offset", 6 }, { "bytes", 6 },
					      { "where", -1 } };
	const uint8_t *p = (const uint8_t *)(l + 1);
	const char *why = NULL;
	uint32_t i = 0;

	out_table(d->o, "records", col, PF_ARRAY_LEN(col));
	for (; i < pf_get32(l->l_nrec) && left >= sizeof(struct pf_d_jrec); i++) {
		struct pf_d_jrec rec;
		uint64_t doff, len;

		memcpy(&rec, p, sizeof rec);
		doff = pf_get64(rec.j_doff);
		len = pf_get32(rec.j_len);
		left -= sizeof rec;
		why = len > left ? "longer than the lane's contents" : check_rec(d, doff, len);
		out_row(d->o);
		out_num(d->o, "byte", doff);
		out_num(d->o, "block", doff / PF_BLK_SIZE);
		out_num(d->o, "offset", doff % PF_BLK_SIZE);
		out_num(d->o, "bytes", len);
		out_text(d->o, "where", "%s", why != NULL ? why : area(d, doff));
		out_row_end(d->o);
		if (why != NULL)
			break;
		p += sizeof rec + len;
		left -= len;
	}
	out_table_end(d->o);
	if (why != NULL)
		dump_fault(d, "record %" PRIu32 ": %s", i, why);
	else if (i < pf_get32(l->l_nrec) || left != 0)
		dump_fault(d, "%" PRIu32 " of %" PRIu32 " records fit, %" PRIu64 " bytes are left", i,
			   pf_get32(l->l_nrec), left);
}

int dump_lane(struct dump *d, uint32_t lane)
{
	uint64_t room = d->fs.lane_nblk * PF_BLK_SIZE, doff, len;
	const struct pf_d_lane *l = (const void *)lane_copy;
	const char *state;
	bool sealed = false;

	if (room > sizeof lane_copy)
		room = sizeof lane_copy;
	doff = (d->fs.lane_blk + (uint64_t)lane * d->fs.lane_nblk) * PF_BLK_SIZE;
	memcpy(lane_copy, pf_pm_at(d->pm, doff), room);
	len = pf_get32(l->l_len);
	if (pf_get32(l->l_magic) == 0 && pf_get64(l->l_seq) == 0)
		state = "never used";
	else if (pf_get32(l->l_magic) != PF_MAGIC_LANE)
		state = "empty: no lane's magic";
	else if (pf_get64(l->l_fsid) != d->fs.fsid)
		state = "empty: of another filesystem";
	else if (pf_get64(l->l_seq) == 0)
		state = "empty";
	else if (len > room - sizeof *l)
		state = "empty: its length does not fit";
	else if (pf_get32(l->l_crc) != pf_crc32c_hole(l, sizeof *l + len, offsetof(struct pf_d_lane, l_crc)))
		state = "empty: torn, its checksum is wrong";
	else {
		state = "holds a transaction";
		sealed = true;
	}
	out_begin(d->o, "", "lane %" PRIu32 ", block %" PRIu64, lane, doff / PF_BLK_SIZE);
	out_num(d->o, "lane", lane);
	out_num(d->o, "block", doff / PF_BLK_SIZE);
	out_text(d->o, "state", "%s", state);
	if (pf_get32(l->l_magic) == PF_MAGIC_LANE) {
		out_num(d->o, "seq", pf_get64(l->l_seq));
		out_num(d->o, "index", pf_get32(l->l_index));
		out_num(d->o, "nrec", pf_get32(l->l_nrec));
		out_num(d->o, "len", len);
	}
	if (sealed && pf_get32(l->l_index) != lane)
		dump_fault(d, "it says that it is lane %" PRIu32, pf_get32(l->l_index));
	if (sealed)
		records(d, l, len);
	out_end(d->o);
	return DUMP_OK;
}

int dump_journal(struct dump *d)
{
	out_list(d->o, "lanes");
	for (uint32_t i = 0; i < d->fs.nlane; i++)
		(void)dump_lane(d, i);
	out_list_end(d->o);
	return DUMP_OK;
}
