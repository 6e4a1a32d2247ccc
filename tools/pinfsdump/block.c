/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.c - says what a block is, by its place and by what is written in it, and shows it.
 *
 * Reads only. A block of the data area is taken for what its magic says, and checked with the owner that it names:
 * whether that owner knows of it is for fsck.
 */
#include "pinfsdump/dump.h"

#include <inttypes.h>
#include <string.h>
#include "lib/cli.h"

static const struct {
	uint32_t magic;
	enum pf_md type;
} kinds[] = {
	{ PF_MAGIC_MAP, PF_MD_MAP }, { PF_MAGIC_ICLU, PF_MD_ICLU },   { PF_MAGIC_NODE, PF_MD_NODE },
	{ PF_MAGIC_DIR, PF_MD_DIR }, { PF_MAGIC_ORPH, PF_MD_ORPHAN }, { PF_MAGIC_XATTR, PF_MD_XATTR },
};

static void header(struct dump *d, const struct pf_d_hdr *h)
{
	out_begin(d->o, "header", "header");
	out_hex(d->o, "crc", pf_get32(h->h_crc));
	out_hex(d->o, "fsid", pf_get64(h->h_fsid));
	out_num(d->o, "self", pf_get64(h->h_self));
	out_num(d->o, "owner", pf_get64(h->h_owner));
	out_num(d->o, "owner_generation", pf_get32(h->h_owner_gen));
	out_num(d->o, "level", pf_get16(h->h_level));
	out_num(d->o, "count", pf_get16(h->h_count));
	out_num(d->o, "free", pf_get32(h->h_free));
	out_end(d->o);
}

static void node_records(struct dump *d, const struct pf_d_node *n)
{
	static const struct out_col col[] = { { "key", 20 }, { "block", 10 }, { "blocks", 10 }, { "flags", 5 } };
	unsigned int count = pf_get16(n->n_hdr.h_count);

	out_table(d->o, "records", col, PF_ARRAY_LEN(col));
	for (unsigned int i = 0; i < count && i < PF_NODE_RECS; i++) {
		out_row(d->o);
		out_num(d->o, "key", pf_get64(n->n_rec[i].r_key));
		out_num(d->o, "block", pf_get64(n->n_rec[i].r_dblk));
		out_num(d->o, "blocks", pf_get32(n->n_rec[i].r_len));
		out_hex(d->o, "flags", pf_get32(n->n_rec[i].r_flags));
		out_row_end(d->o);
	}
	out_table_end(d->o);
}

static void contents(struct dump *d, enum pf_md type, const uint8_t *buf)
{
	const struct pf_d_hdr *h = (const void *)buf;

	switch (type) {
	case PF_MD_MAP:
		if (pf_get64(h->h_owner) < d->fs.ngroup)
			dump_map_runs(d, (const void *)buf, pf_get64(h->h_owner));
		break;
	case PF_MD_ICLU:
		dump_cluster_fields(d, (const void *)buf);
		break;
	case PF_MD_NODE:
		node_records(d, (const void *)buf);
		break;
	case PF_MD_DIR:
		dump_leaf_entries(d, buf);
		break;
	case PF_MD_ORPHAN:
		dump_orphan_slots(d, (const void *)buf);
		break;
	case PF_MD_XATTR:
		dump_xleaf_entries(d, buf);
		break;
	case PF_MD_INODE:
	case PF_MD_NR:
		break;
	}
}

/* Eight slots: those that look like inodes. */
static void inode_slots(struct dump *d, uint64_t dblk, const uint8_t *buf)
{
	out_list(d->o, "inodes");
	for (size_t i = 0; i < PF_BLK_SIZE / PF_INODE_SIZE; i++) {
		struct pf_d_inode di;
		const char *why;

		memcpy(&di, buf + i * PF_INODE_SIZE, sizeof di);
		if (pf_get32(di.i_magic) != PF_MAGIC_INODE)
			continue;
		out_begin(d->o, "", "slot %zu", i);
		why = pf_md_check(&d->fs, PF_MD_INODE, &di, dblk * PF_BLK_SIZE + i * PF_INODE_SIZE,
				  pf_get64(di.i_ino));
		if (why != NULL)
			out_note(d->o, "%s", why);	/* the slot may be free */
		dump_inode_fields(d, &di);
		out_end(d->o);
	}
	out_list_end(d->o);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* A block whose magic tells. False: none does. */
static bool by_magic(struct dump *d, uint64_t dblk, const uint8_t *buf)
{
	const struct pf_d_hdr *h = (const void *)buf;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(kinds); i++) {
		const char *why;

		if (pf_get32(h->h_magic) != kinds[i].magic)
			continue;
		why = pf_md_check(&d->fs, kinds[i].type, buf, dblk * PF_BLK_SIZE, pf_get64(h->h_owner));
		out_text(d->o, "is", "%s of %s %" PRIu64, pf_md_name[kinds[i].type],
			 kinds[i].type == PF_MD_MAP    ? "group"
			 : kinds[i].type == PF_MD_ICLU ? "cluster"
						       : "inode",
			 pf_get64(h->h_owner));
		if (why != NULL)
			dump_fault(d, "%s", why);
		header(d, h);
		contents(d, kinds[i].type, buf);
		return true;
	}
	if (pf_get32(h->h_magic) != PF_MAGIC_INODE)
		return false;
	out_text(d->o, "is", "inodes");
	inode_slots(d, dblk, buf);
	return true;
}

int dump_what(struct dump *d, uint64_t dblk)
{
	_Alignas(struct pf_d_hdr) uint8_t buf[PF_BLK_SIZE];
	const struct pf_fs *fs = &d->fs;
	uint64_t lane_end = fs->lane_blk + (uint64_t)fs->nlane * fs->lane_nblk;
	int used = dump_in_use(d, dblk);

	if (!dump_block(d, dblk, buf)) {
		cli_error("block %" PRIu64 ": the filesystem has %" PRIu64, dblk, fs->nblk);
		return DUMP_FAILED;
	}
	if (dblk == 0 || dblk == fs->nblk - 1)
		return dump_super(d);
	out_begin(d->o, "block", "block %" PRIu64 ", byte %" PRIu64, dblk, dblk * PF_BLK_SIZE);
	out_num(d->o, "block", dblk);
	out_text(d->o, "map", "%s", used < 0 ? "unknown: its map block is damaged" : used ? "in use" : "free");
	if (dblk < lane_end) {
		uint64_t lane = (dblk - fs->lane_blk) / fs->lane_nblk;

		out_text(d->o, "is", "block %" PRIu64 " of journal lane %" PRIu64,
			 (dblk - fs->lane_blk) % fs->lane_nblk, lane);
		if ((dblk - fs->lane_blk) % fs->lane_nblk == 0)
			(void)dump_lane(d, (uint32_t)lane);
		else
			out_dump(d->o, "bytes", buf, sizeof buf);
	} else if (!by_magic(d, dblk, buf)) {
		const char *is = all_zero(buf, sizeof buf) ? "zeros" : "data, or nothing of pinfs";

		if (dblk > fs->iclu0_blk && dblk < fs->iclu0_blk + PF_ICLU_BLKS)
			is = "inode slots of cluster 0";
		else if (dblk <= fs->iclu0_blk)
			dump_fault(d, "no magic where %s must be",
				   dblk == fs->iclu0_blk ? "the header of cluster 0" : "a map block");
		out_text(d->o, "is", "%s", is);
		out_dump(d->o, "bytes", buf, sizeof buf);
	}
	out_end(d->o);
	return DUMP_OK;
}
