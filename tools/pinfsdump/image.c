/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.c - finds things on an image that may be damaged: the superblock or a guess, clusters, inodes, tree records.
 *
 * Owns the mapping of the device and the bitmap of nodes visited. Takes no lock on the device: looking at it may not
 * keep a daemon from starting.
 */
#include "pinfsdump/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include "lib/cli.h"
#include "media/super.h"

/* ---- the device ---- */

static void take_super(struct pf_fs *fs, const struct pf_d_super *sb)
{
	fs->fsid = pf_get64(sb->sb_fsid);
	fs->nblk = pf_get64(sb->sb_nblk);
	fs->ngroup = pf_get64(sb->sb_ngroup);
	fs->lane_blk = pf_get64(sb->sb_lane_blk);
	fs->map_blk = pf_get64(sb->sb_map_blk);
	fs->iclu0_blk = pf_get64(sb->sb_iclu0_blk);
	fs->nlane = pf_get32(sb->sb_nlane);
	fs->lane_nblk = pf_get32(sb->sb_lane_nblk);
	fs->clean = (pf_get32(sb->sb_state) & PF_SB_CLEAN) != 0;
	memcpy(fs->hash_key, sb->sb_hash_key, sizeof fs->hash_key);
}

/* What mkfs would have made of a device of this size. The fsid is believed of whoever stands where cluster 0 must. */
static bool guess(struct dump *d)
{
	struct pf_sb_geom g;
	struct pf_d_hdr h;

	d->fs.nblk = d->pm->bytes / PF_BLK_SIZE;
	pf_sb_geometry(d->fs.nblk, &g);
	d->fs.ngroup = g.ngroup;
	d->fs.lane_blk = 1;
	d->fs.map_blk = g.map_blk;
	d->fs.iclu0_blk = g.iclu0_blk;
	d->fs.nlane = g.nlane;
	d->fs.lane_nblk = PF_LANE_BLKS;
	d->guessed = true;
	memcpy(&h, pf_pm_at(d->pm, d->fs.iclu0_blk * PF_BLK_SIZE), sizeof h);
	if (pf_get32(h.h_magic) != PF_MAGIC_ICLU)
		memcpy(&h, pf_pm_at(d->pm, d->fs.map_blk * PF_BLK_SIZE), sizeof h);
	if (pf_get32(h.h_magic) != PF_MAGIC_ICLU && pf_get32(h.h_magic) != PF_MAGIC_MAP)
		return false;
	d->fs.fsid = pf_get64(h.h_fsid);
	return true;
}

static bool find_super(struct dump *d, const char **why)
{
	struct pf_d_super sb;
	uint64_t nblk;

	memcpy(&sb, pf_pm_at(d->pm, 0), sizeof sb);
	*why = pf_sb_check(&sb, d->pm->bytes);
	if (*why == NULL) {
		take_super(&d->fs, &sb);
		return true;
	}
	/* The copy lies where the first one says, else at the end. */
	nblk = pf_get64(sb.sb_nblk);
	for (unsigned int i = 0; i < 2; i++, nblk = d->pm->bytes / PF_BLK_SIZE) {
		if (nblk < PF_DEV_MIN / PF_BLK_SIZE || nblk > d->pm->bytes / PF_BLK_SIZE)
			continue;
		memcpy(&sb, pf_pm_at(d->pm, (nblk - 1) * PF_BLK_SIZE), sizeof sb);
		if (pf_sb_check(&sb, d->pm->bytes) == NULL) {
			take_super(&d->fs, &sb);
			return true;
		}
	}
	return guess(d);
}

int dump_open(struct dump *d, const char *path)
{
	const char *why;
	size_t bytes;

	if (pf_pm_open(path, PF_PMEM_CPU, true, false, &d->pm) != 0) {
		cli_error("%s: %s", path, pf_pm_why());
		return DUMP_FAILED;
	}
	d->fs.pm = d->pm;
	d->fs.opts.ro = true;
	if (!find_super(d, &why)) {
		cli_error("%s: %s, and nothing of a pinfs where it should be", path, why);
		goto out_close;
	}
	/* Address space only; memory where there are tree nodes. */
	bytes = PF_DIV_UP(d->fs.nblk, 64) * sizeof *d->seen;
	d->seen = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->seen == MAP_FAILED) {
		d->seen = NULL;
		cli_error("out of memory");
		goto out_close;
	}
	return 0;

out_close:
	pf_pm_close(d->pm);
	d->pm = NULL;
	return DUMP_FAILED;
}

void dump_close(struct dump *d)
{
	if (d->seen != NULL)
		(void)munmap(d->seen, PF_DIV_UP(d->fs.nblk, 64) * sizeof *d->seen);
	pf_pm_close(d->pm);
}

bool dump_block(const struct dump *d, uint64_t dblk, void *buf)
{
	if (dblk >= d->fs.nblk)
		return false;
	memcpy(buf, pf_pm_at(d->pm, dblk * PF_BLK_SIZE), PF_BLK_SIZE);
	return true;
}

const char *dump_object(const struct dump *d, enum pf_md type, uint64_t dblk, uint64_t owner, void *buf)
{
	return dump_block(d, dblk, buf) ? pf_md_check(&d->fs, type, buf, dblk * PF_BLK_SIZE, owner) : "no such block";
}

int dump_in_use(const struct dump *d, uint64_t dblk)
{
	uint64_t group = dblk / PF_GROUP_BLKS, bit = dblk % PF_GROUP_BLKS;
	_Alignas(struct pf_d_map) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_map *m = (const void *)buf;

	if (dblk >= d->fs.nblk || dump_object(d, PF_MD_MAP, d->fs.map_blk + group, group, buf) != NULL)
		return -1;
	return m->m_bits[bit / PF_CHUNK_BLKS][bit % PF_CHUNK_BLKS / 8] >> (bit % 8) & 1;
}

/* ---- trees ---- */

static void walk_child(struct dump_walk *w, const struct dump_rec *r)
{
	_Alignas(struct pf_d_node) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_node *n = (const void *)buf;
	uint64_t bit = UINT64_C(1) << (r->dblk % 64), *word;
	const char *why = NULL;
	unsigned int count;

	if (r->dblk >= w->d->fs.nblk)
		why = "no such block";
	else if (w->d->seen[r->dblk / 64] & bit)
		why = "node was visited before";
	if (why != NULL) {
		w->bad++;
		if (w->node != NULL)
			w->node(w, r, NULL, why);
		return;
	}
	word = &w->d->seen[r->dblk / 64];
	*word |= bit;
	why = dump_object(w->d, PF_MD_NODE, r->dblk, w->owner, buf);
	if (why == NULL && pf_get16(n->n_hdr.h_level) != r->level - 1)
		why = "level";
	w->bad += why != NULL;
	if (w->node != NULL)
		w->node(w, r, &n->n_hdr, why);
	/* Not a node at all: its bytes mean nothing. Of a damaged one, what can be made out. */
	if (pf_get32(n->n_hdr.h_magic) != PF_MAGIC_NODE || pf_get16(n->n_hdr.h_level) != r->level - 1)
		return;
	count = pf_get16(n->n_hdr.h_count);
	dump_walk(w, r->level - 1, count < PF_NODE_RECS ? count : PF_NODE_RECS, n->n_rec);
}

/* Recursion is as deep as the level is high, below PF_TREE_LEVELS. */
void dump_walk(struct dump_walk *w, unsigned int level, unsigned int n, const struct pf_d_rec *rec)
{
	for (unsigned int i = 0; i < n && !w->stop; i++) {
		const struct dump_rec r = {
			.key = pf_get64(rec[i].r_key),
			.dblk = pf_get64(rec[i].r_dblk),
			.len = pf_get32(rec[i].r_len),
			.flags = pf_get32(rec[i].r_flags),
			.level = level,
		};
		uint64_t next = i + 1 < n ? pf_get64(rec[i + 1].r_key) : UINT64_MAX;

		/* Keys out of order are damage, which a search cannot step over. */
		if (r.key >= w->hi || (next <= w->lo && next > r.key))
			continue;
		if (level > 0)
			walk_child(w, &r);
		else if (!w->rec(w, &r))
			w->stop = true;
	}
}

static void start(struct dump_walk *w, unsigned int level, unsigned int n, unsigned int most,
		  const struct pf_d_rec *rec)
{
	size_t bytes = PF_DIV_UP(w->d->fs.nblk, 64) * sizeof *w->d->seen;

	if (level >= PF_TREE_LEVELS || n > most) {
		w->bad++;
		return;
	}
	/* Only a tree with nodes has left anything in it; giving the pages back is cheaper than clearing them. */
	if (level > 0 && madvise(w->d->seen, bytes, MADV_DONTNEED) != 0)
		memset(w->d->seen, 0, bytes);
	dump_walk(w, level, n, rec);
}

void dump_walk_root(struct dump_walk *w, const struct pf_d_root *root)
{
	start(w, pf_get16(root->t_level), pf_get16(root->t_count), PF_ROOT_RECS, root->t_rec);
}

void dump_walk_xroot(struct dump_walk *w, const struct pf_d_xroot *root)
{
	start(w, pf_get16(root->x_level), pf_get16(root->x_count), PF_XROOT_RECS, root->x_rec);
}

/* ---- inodes ---- */

static const char *copy_inode(const struct dump *d, uint64_t doff, uint64_t ino, struct pf_d_inode *di)
{
	memcpy(di, pf_pm_at(d->pm, doff), sizeof *di);
	return pf_md_check(&d->fs, PF_MD_INODE, di, doff, ino);
}

struct find { uint64_t key, dblk; bool found; };

static bool find_rec(struct dump_walk *w, const struct dump_rec *r)
{
	struct find *f = w->arg;

	if (r->key > f->key || r->len <= f->key - r->key)
		return true;
	f->dblk = r->dblk + (f->key - r->key);
	f->found = pf_range_ok(f->dblk, PF_ICLU_BLKS, w->d->fs.nblk);
	return !f->found;
}

bool dump_find_cluster(struct dump *d, uint64_t cluster, uint64_t *dblk)
{
	struct find f = { .key = cluster * PF_ICLU_BLKS };
	struct dump_walk w = {
		.d = d, .owner = PF_INO_ITABLE, .lo = f.key, .hi = f.key + 1, .rec = find_rec, .arg = &f,
	};
	struct pf_d_inode di;

	if (cluster > PF_INO_MAX >> PF_ICLU_SHIFT)
		return false;
	if (cluster == 0) {
		*dblk = d->fs.iclu0_blk;
		return true;
	}
	/* Its tree is used as far as it goes, whatever the checksum says. */
	(void)copy_inode(d, d->fs.iclu0_blk * PF_BLK_SIZE + PF_INO_ITABLE * PF_INODE_SIZE, PF_INO_ITABLE, &di);
	dump_walk_root(&w, &di.i_root);
	*dblk = f.dblk;
	return f.found;
}

bool dump_find_inode(struct dump *d, uint64_t ino, struct pf_d_inode *di, uint64_t *doff, const char **why)
{
	uint64_t dblk, slot = ino % PF_ICLU_SLOTS;

	if (slot < PF_ICLU_FIRST || ino > PF_INO_MAX) {
		cli_error("inode %" PRIu64 ": there can be no such number", ino);
		return false;
	}
	if (!dump_find_cluster(d, ino >> PF_ICLU_SHIFT, &dblk)) {
		cli_error("inode %" PRIu64 ": the inode table has no cluster %" PRIu64, ino, ino >> PF_ICLU_SHIFT);
		return false;
	}
	*doff = dblk * PF_BLK_SIZE + slot * PF_INODE_SIZE;
	*why = copy_inode(d, *doff, ino, di);
	return true;
}
