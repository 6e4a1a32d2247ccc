/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.c - shows what is free and what is kept aside: map, inode clusters, orphan file, bad blocks.
 *
 * Reads only. A count that the object states is compared with what is counted.
 */
#include "pinfsdump/dump.h"

#include <inttypes.h>
#include <string.h>
#include "lib/cli.h"

/* ---- map ---- */

static bool map_bit(const struct pf_d_map *m, uint64_t i)
{
	return m->m_bits[i / PF_CHUNK_BLKS][i % PF_CHUNK_BLKS / 8] >> (i % 8) & 1;
}

/* Blocks of the device that group @g covers. */
static uint64_t covered(const struct dump *d, uint64_t g)
{
	return pf_min64(PF_GROUP_BLKS, d->fs.nblk - g * PF_GROUP_BLKS);
}

void dump_map_runs(struct dump *d, const struct pf_d_map *m, uint64_t group)
{
	static const struct out_col col[] = { { "block", 10 }, { "blocks", 10 }, { "state", -1 } };
	uint64_t n = covered(d, group), first = group * PF_GROUP_BLKS;

	out_table(d->o, "runs", col, PF_ARRAY_LEN(col));
	for (uint64_t i = 0, end; i < n; i = end) {
		bool used = map_bit(m, i);

		for (end = i + 1; end < n && map_bit(m, end) == used;)
			end++;
		out_row(d->o);
		out_num(d->o, "block", first + i);
		out_num(d->o, "blocks", end - i);
		out_text(d->o, "state", "%s", used ? "in use" : "free");
		out_row_end(d->o);
	}
	out_table_end(d->o);
}

/* Free blocks, the longest run of them, and whole 2 MiB chunks. */
struct room { uint64_t free, longest, chunks; };

static struct room count_room(const struct dump *d, const struct pf_d_map *m, uint64_t g)
{
	uint64_t n = covered(d, g), run = 0;
	struct room r = { 0 };

	for (uint64_t i = 0; i < n; i++) {
		run = map_bit(m, i) ? 0 : run + 1;
		r.free += run != 0;
		if (run > r.longest)
			r.longest = run;
		/* Device chunks, which need not begin where a group does - but do: a group is 63 of them. */
		if (i % PF_CHUNK_BLKS == PF_CHUNK_BLKS - 1 && run >= PF_CHUNK_BLKS)
			r.chunks++;
	}
	return r;
}

static int all_groups(struct dump *d)
{
	static const struct out_col col[] = {
		{ "group", 8 }, { "map_block", 10 }, { "first", 10 }, { "blocks", 8 },
		{ "free", 8 },	{ "longest", 8 },    { "chunks", 6 }, { "state", -1 },
	};
	_Alignas(struct pf_d_map) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_map *m = (const void *)buf;
	uint64_t free = 0, bad = 0;

	out_begin(d->o, "map", "free-space map, %" PRIu64 " groups of %" PRIu64 " blocks", d->fs.ngroup,
		  PF_GROUP_BLKS);
	out_table(d->o, "groups", col, PF_ARRAY_LEN(col));
	for (uint64_t g = 0; g < d->fs.ngroup; g++) {
		const char *why = dump_object(d, PF_MD_MAP, d->fs.map_blk + g, g, buf);
		struct room r = count_room(d, m, g);

		free += why == NULL ? r.free : 0;
		bad += why != NULL;
		out_row(d->o);
		out_num(d->o, "group", g);
		out_num(d->o, "map_block", d->fs.map_blk + g);
		out_num(d->o, "first", g * PF_GROUP_BLKS);
		out_num(d->o, "blocks", covered(d, g));
		out_num(d->o, "free", r.free);
		out_num(d->o, "longest", r.longest);
		out_num(d->o, "chunks", r.chunks);
		out_text(d->o, "state", "%s", why != NULL ? why : "sound");
		out_row_end(d->o);
	}
	out_table_end(d->o);
	out_num(d->o, "free", free);
	if (bad != 0)
		dump_fault(d, "%" PRIu64 " map blocks are damaged, and their free blocks not counted", bad);
	out_end(d->o);
	return DUMP_OK;
}

int dump_map(struct dump *d, const uint64_t *group)
{
	_Alignas(struct pf_d_map) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_map *m = (const void *)buf;
	const char *why;

	if (group == NULL)
		return all_groups(d);
	if (*group >= d->fs.ngroup) {
		cli_error("group %" PRIu64 ": there are %" PRIu64, *group, d->fs.ngroup);
		return DUMP_FAILED;
	}
	why = dump_object(d, PF_MD_MAP, d->fs.map_blk + *group, *group, buf);
	out_begin(d->o, "map", "group %" PRIu64 ", block %" PRIu64, *group, d->fs.map_blk + *group);
	if (why != NULL)
		dump_fault(d, "map block: %s", why);
	out_num(d->o, "stated_free", pf_get32(m->m_hdr.h_free));
	out_num(d->o, "free", count_room(d, m, *group).free);
	dump_map_runs(d, m, *group);
	out_end(d->o);
	return DUMP_OK;
}

/* ---- inode clusters ---- */

void dump_cluster_fields(struct dump *d, const struct pf_d_iclu *c)
{
	unsigned int used = 0;

	for (unsigned int i = PF_ICLU_FIRST; i < PF_ICLU_SLOTS; i++)
		used += c->c_used[i / 8] >> (i % 8) & 1;
	out_num(d->o, "cluster", pf_get64(c->c_hdr.h_owner));
	out_num(d->o, "stated_free", pf_get32(c->c_hdr.h_free));
	out_num(d->o, "used", used);
	out_num(d->o, "free", PF_ICLU_SLOTS - PF_ICLU_FIRST - used);
}

struct clusters { uint64_t n, bad; };

static void cluster_row(struct dump *d, uint64_t nr, uint64_t dblk, struct clusters *sum)
{
	_Alignas(struct pf_d_iclu) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_iclu *c = (const void *)buf;
	const char *why = dump_object(d, PF_MD_ICLU, dblk, nr, buf);
	unsigned int used = 0;

	sum->n++;
	sum->bad += why != NULL;
	if (dblk >= d->fs.nblk)
		memset(buf, 0, sizeof buf);
	for (unsigned int i = PF_ICLU_FIRST; i < PF_ICLU_SLOTS; i++)
		used += c->c_used[i / 8] >> (i % 8) & 1;
	out_row(d->o);
	out_num(d->o, "cluster", nr);
	out_num(d->o, "block", dblk);
	out_num(d->o, "first_inode", (nr << PF_ICLU_SHIFT) + PF_ICLU_FIRST);
	out_num(d->o, "used", used);
	out_num(d->o, "free", PF_ICLU_SLOTS - PF_ICLU_FIRST - used);
	out_text(d->o, "state", "%s", why != NULL ? why : "sound");
	out_row_end(d->o);
}

/* A record may cover several clusters that lie one behind the other; a damaged one, any number of them. */
static bool cluster_rec(struct dump_walk *w, const struct dump_rec *r)
{
	uint64_t nr = r->key / PF_ICLU_BLKS;

	for (uint64_t i = 0; i + PF_ICLU_BLKS <= r->len && r->dblk + i < w->d->fs.nblk; i += PF_ICLU_BLKS)
		cluster_row(w->d, nr++, r->dblk + i, w->arg);
	return true;
}

int dump_clusters(struct dump *d)
{
	static const struct out_col col[] = { { "cluster", 8 }, { "block", 10 }, { "first_inode", 12 },
					      { "used", 5 },	{ "free", 5 },	 { "state", -1 } };
	struct clusters sum = { 0 };
	struct dump_walk w = { .d = d, .owner = PF_INO_ITABLE, .hi = UINT64_MAX, .rec = cluster_rec, .arg = &sum };
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;

	if (!dump_find_inode(d, PF_INO_ITABLE, &di, &doff, &why))
		return DUMP_FAILED;
	out_begin(d->o, "clusters", "inode clusters of %u slots", PF_ICLU_SLOTS - PF_ICLU_FIRST);
	if (why != NULL)
		dump_fault(d, "inode table (inode %" PRIu64 "): %s", PF_INO_ITABLE, why);
	out_table(d->o, "clusters", col, PF_ARRAY_LEN(col));
	dump_walk_root(&w, &di.i_root);
	out_table_end(d->o);
	if (sum.bad != 0 || w.bad != 0)
		dump_fault(d, "%" PRIu64 " cluster headers and %u tree nodes are damaged", sum.bad, w.bad);
	out_end(d->o);
	return DUMP_OK;
}

/* ---- orphan file ---- */

void dump_orphan_slots(struct dump *d, const struct pf_d_orphan *orph)
{
	static const struct out_col col[] = { { "slot", 5 }, { "inode", 14 } };

	out_table(d->o, "orphans", col, PF_ARRAY_LEN(col));
	for (unsigned int i = 0; i < PF_ARRAY_LEN(orph->o_ino); i++) {
		if (pf_get64(orph->o_ino[i]) == 0)
			continue;
		out_row(d->o);
		out_num(d->o, "slot", i);
		out_num(d->o, "inode", pf_get64(orph->o_ino[i]));
		out_row_end(d->o);
	}
	out_table_end(d->o);
}

static bool orphan_rec(struct dump_walk *w, const struct dump_rec *r)
{
	_Alignas(struct pf_d_orphan) uint8_t buf[PF_BLK_SIZE];
	struct dump *d = w->d;

	for (uint64_t b = r->dblk; b - r->dblk < r->len && b < d->fs.nblk; b++) {
		const char *why = dump_object(d, PF_MD_ORPHAN, b, PF_INO_ORPHAN, buf);

		out_begin(d->o, "", "orphan block %" PRIu64, b);
		out_num(d->o, "block", b);
		if (why != NULL)
			dump_fault(d, "%s", why);
		if (pf_get32(((const struct pf_d_hdr *)(const void *)buf)->h_magic) == PF_MAGIC_ORPH)
			dump_orphan_slots(d, (const void *)buf);
		out_end(d->o);
	}
	return true;
}

int dump_orphans(struct dump *d)
{
	struct dump_walk w = { .d = d, .owner = PF_INO_ORPHAN, .hi = UINT64_MAX, .rec = orphan_rec };
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;

	if (!dump_find_inode(d, PF_INO_ORPHAN, &di, &doff, &why))
		return DUMP_FAILED;
	if (why != NULL)
		dump_fault(d, "orphan file (inode %" PRIu64 "): %s", PF_INO_ORPHAN, why);
	out_list(d->o, "orphan_blocks");
	dump_walk_root(&w, &di.i_root);
	out_list_end(d->o);
	if (w.bad != 0)
		dump_fault(d, "%u tree nodes are damaged", w.bad);
	return DUMP_OK;
}

/* ---- bad blocks ---- */

static bool bad_rec(struct dump_walk *w, const struct dump_rec *r)
{
	struct dump *d = w->d;

	out_row(d->o);
	out_num(d->o, "block", r->key);
	out_num(d->o, "blocks", r->len);
	out_text(d->o, "state", "%s%s", r->flags & PF_REC_HELD ? "kept by the list" : "of a file or a fixed place",
		 r->key != r->dblk ? ", key and block differ" : "");
	out_row_end(d->o);
	if (r->key != r->dblk)
		d->damaged = true;
	return true;
}

int dump_badblocks(struct dump *d)
{
	static const struct out_col col[] = { { "block", 10 }, { "blocks", 10 }, { "state", -1 } };
	struct dump_walk w = { .d = d, .owner = PF_INO_BAD, .hi = UINT64_MAX, .rec = bad_rec };
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;

	if (!dump_find_inode(d, PF_INO_BAD, &di, &doff, &why))
		return DUMP_FAILED;
	if (why != NULL)
		dump_fault(d, "list of bad blocks (inode %" PRIu64 "): %s", PF_INO_BAD, why);
	out_table(d->o, "bad_blocks", col, PF_ARRAY_LEN(col));
	dump_walk_root(&w, &di.i_root);
	out_table_end(d->o);
	if (w.bad != 0)
		dump_fault(d, "%u tree nodes are damaged", w.bad);
	return DUMP_OK;
}
