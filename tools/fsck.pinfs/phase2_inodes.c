/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phase2_inodes.c - phase 2: the inode table, and every inode by itself.
 *
 * Owns the table of clusters that all later phases look inodes up in. Which inodes are in use is what the clusters'
 * bitmaps say: an entry that names another one dangles.
 */
#include "fsck.pinfs/fsck.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "media/verify.h"

/* ---- looking up ---- */

static struct fsck_cluster *find_cluster(const struct fsck *f, uint64_t nr)
{
	uint64_t lo = 0, hi = f->nr_clu;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (f->clu[mid].nr < nr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < f->nr_clu && f->clu[lo].nr == nr ? &f->clu[lo] : NULL;
}

static const struct pf_d_inode *slot_of(const struct fsck *f, const struct fsck_cluster *c, unsigned int slot)
{
	return (const struct pf_d_inode *)fsck_at(f, c->dblk) + slot;
}

struct fsck_ino *fsck_ino(struct fsck *f, uint64_t ino)
{
	struct fsck_cluster *c = find_cluster(f, ino >> PF_ICLU_SHIFT);
	unsigned int slot = (unsigned int)(ino % PF_ICLU_SLOTS);

	return c == NULL || slot < PF_ICLU_FIRST ? NULL : &c->ino[slot];
}

const struct pf_d_inode *fsck_inode(struct fsck *f, uint64_t ino)
{
	const struct fsck_cluster *c = find_cluster(f, ino >> PF_ICLU_SHIFT);

	assert(c != NULL);
	return slot_of(f, c, (unsigned int)(ino % PF_ICLU_SLOTS));
}

int fsck_each_inode(struct fsck *f,
		    int (*fn)(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di))
{
	int err = 0;

	for (uint64_t i = 0; i < f->nr_clu; i++) {
		struct fsck_cluster *c = &f->clu[i];

		for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS && err == 0; s++) {
			uint64_t ino = c->nr << PF_ICLU_SHIFT | s;

			if ((c->ino[s].state & FSCK_I_SOUND) && ino >= PF_INO_ROOT)
				err = fn(f, ino, &c->ino[s], slot_of(f, c, s));
		}
	}
	return err;
}

bool fsck_has_tree(const struct pf_d_inode *di)
{
	switch (pf_get32(di->i_mode) & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
		return true;
	case S_IFLNK:
		return pf_get64(di->i_size) > PF_SYMLINK_INLINE;
	default:
		return false;
	}
}

const char *fsck_type_name(uint8_t type)
{
	static const char *const name[] = {
		[DT_FIFO] = "fifo", [DT_CHR] = "character device", [DT_DIR] = "directory", [DT_BLK] = "block device",
		[DT_REG] = "file", [DT_LNK] = "symlink", [DT_SOCK] = "socket",
	};

	return type < PF_ARRAY_LEN(name) && name[type] != NULL ? name[type] : "unknown type";
}

/* ---- one inode ---- */

/* What pf_md_check() leaves open: which fields belong to which type. */
static void check_fields(struct fsck *f, uint64_t ino, const struct pf_d_inode *di)
{
	uint32_t mode = pf_get32(di->i_mode);
	uint64_t off = pf_get64(di->i_intent_off), len = pf_get64(di->i_intent_len);

	if (!S_ISCHR(mode) && !S_ISBLK(mode) && pf_get64(di->i_rdev) != 0)
		fsck_problem(f, 2, "inode %" PRIu64 ": device number on an inode that is no device", ino);
	if (!fsck_has_tree(di) && pf_get16(di->i_xroot.x_count) == 0 && pf_get64(di->i_nblk) != 0)
		fsck_problem(f, 2, "inode %" PRIu64 ": i_nblk %" PRIu64 " on an inode without blocks", ino,
			     pf_get64(di->i_nblk));
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && pf_get64(di->i_size) != 0)
		fsck_problem(f, 2, "inode %" PRIu64 ": size on an inode without content", ino);
	if (!S_ISDIR(mode) && (pf_get64(di->i_nent) != 0 || pf_get64(di->i_parent) != 0))
		fsck_problem(f, 2, "inode %" PRIu64 ": fields of a directory on something else", ino);
	if (S_ISLNK(mode) && pf_get64(di->i_size) >= PF_BLK_SIZE)
		fsck_problem(f, 2, "inode %" PRIu64 ": symlink of %" PRIu64 " bytes", ino, pf_get64(di->i_size));
	if (pf_get32(di->i_intent) != PF_INTENT_NONE && !fsck_has_tree(di))
		fsck_problem(f, 2, "inode %" PRIu64 ": intent on an inode without blocks", ino);
	if (pf_get32(di->i_intent) == PF_INTENT_PUNCH && (off % PF_BLK_SIZE != 0 || len % PF_BLK_SIZE != 0))
		fsck_problem(f, 2, "inode %" PRIu64 ": intent to punch %" PRIu64 "+%" PRIu64 " is not page aligned",
			     ino, off, len);
}

static void check_inode(struct fsck *f, struct fsck_cluster *c, unsigned int slot)
{
	const struct pf_d_inode *di = slot_of(f, c, slot);
	uint64_t ino = c->nr << PF_ICLU_SHIFT | slot;
	uint64_t doff = (c->dblk << PF_BLK_SHIFT) + (uint64_t)slot * PF_INODE_SIZE;
	struct fsck_ino *fi = &c->ino[slot];
	const char *why;

	fi->state |= FSCK_I_USED;
	why = pf_md_check(&f->fs, PF_MD_INODE, di, doff, ino);
	if (why != NULL) {
		fsck_problem(f, 2, "inode %" PRIu64 ": %s", ino, why);
		return;
	}
	fi->state |= FSCK_I_SOUND;
	fi->type = (uint8_t)IFTODT(pf_get32(di->i_mode));
	if (ino < PF_INO_ROOT)
		return;
	f->files++;
	check_fields(f, ino, di);
}

/* ---- the table ---- */

static int add_cluster(struct fsck *f, uint64_t nr, uint64_t dblk)
{
	uint64_t room = f->room_clu == 0 ? 64 : f->room_clu * 2;
	struct fsck_cluster *c;

	if (f->nr_clu == f->room_clu) {
		c = realloc(f->clu, room * sizeof *c);
		if (c == NULL)
			return -ENOMEM;
		f->clu = c;
		f->room_clu = room;
	}
	c = &f->clu[f->nr_clu];
	*c = (struct fsck_cluster){ .nr = nr, .dblk = dblk, .ino = calloc(PF_ICLU_SLOTS, sizeof *c->ino) };
	if (c->ino == NULL)
		return -ENOMEM;
	f->nr_clu++;
	return 0;
}

/* A record of the table may cover several clusters that lie one behind the other. */
static void table_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct fsck *f = w->f;
	int *err = w->arg;

	(void)next_key;
	if (key % PF_ICLU_BLKS != 0 || len % PF_ICLU_BLKS != 0 || flags != 0 ||
	    !pf_range_ok(key / PF_ICLU_BLKS, len / PF_ICLU_BLKS, (PF_INO_MAX >> PF_ICLU_SHIFT) + 1)) {
		if (w->pass == FSCK_CLAIM)
			fsck_problem(f, 2, "inode table: record of cluster %" PRIu64 " is not of whole clusters",
				     key / PF_ICLU_BLKS);
		return;
	}
	for (uint64_t i = 0; i < len; i += PF_ICLU_BLKS) {
		bool mine = fsck_claim(f, w->pass, w->ino, "inode cluster", dblk + i, PF_ICLU_BLKS);

		if (w->pass == FSCK_CLAIM && mine && *err == 0)
			*err = add_cluster(f, (key + i) / PF_ICLU_BLKS, dblk + i);
	}
}

static void check_cluster(struct fsck *f, struct fsck_cluster *c)
{
	const struct pf_d_iclu *h = fsck_at(f, c->dblk);
	const char *why = pf_md_check(&f->fs, PF_MD_ICLU, h, c->dblk << PF_BLK_SHIFT, c->nr);

	/* Without its bitmap nobody knows which of the cluster's inodes are in use. */
	if (why != NULL) {
		fsck_problem(f, 2, "inode cluster %" PRIu64 " at block %" PRIu64 ": %s", c->nr, c->dblk, why);
		return;
	}
	for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++)
		if (h->c_used[s / 8] >> (s % 8) & 1)
			check_inode(f, c, s);
}

const struct pf_d_inode *fsck_internal(struct fsck *f, uint64_t ino)
{
	const struct pf_d_inode *di = (const struct pf_d_inode *)fsck_at(f, f->fs.iclu0_blk) + ino;
	uint64_t doff = (f->fs.iclu0_blk << PF_BLK_SHIFT) + ino * PF_INODE_SIZE;

	return pf_md_check(&f->fs, PF_MD_INODE, di, doff, ino) == NULL && fsck_has_tree(di) ? di : NULL;
}

int fsck_walk_itable(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ITABLE);
	int err = 0;
	struct fsck_walk w = { .f = f, .pass = pass, .phase = 2, .ino = PF_INO_ITABLE, .fn = table_rec, .arg = &err };
	uint64_t nblk;

	if (di == NULL)
		return -EUCLEAN;
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, &di->i_root);
	nblk = w.nodes + f->nr_clu * PF_ICLU_BLKS;
	if (pass != FSCK_CLAIM || err != 0 || w.skipped != 0)
		return err;
	if (nblk != pf_get64(di->i_nblk))
		fsck_problem(f, 2, "inode table: i_nblk %" PRIu64 ", found %" PRIu64, pf_get64(di->i_nblk), nblk);
	/* A mount reads as many clusters as the size says, from 0 on without gaps. */
	if (f->nr_clu * PF_ICLU_BLKS * PF_BLK_SIZE != pf_get64(di->i_size) ||
	    (f->nr_clu != 0 && f->clu[f->nr_clu - 1].nr != f->nr_clu - 1))
		fsck_problem(f, 2,
			     "inode table: size %" PRIu64 ", found %" PRIu64 " clusters, the last is number %" PRIu64,
			     pf_get64(di->i_size), f->nr_clu, f->nr_clu == 0 ? 0 : f->clu[f->nr_clu - 1].nr);
	return 0;
}

static void check_root(struct fsck *f)
{
	const struct fsck_ino *fi = fsck_ino(f, PF_INO_ROOT);

	if (fi == NULL || !(fi->state & FSCK_I_USED))
		fsck_problem(f, 2, "root directory: its inode is not in use");
	else if ((fi->state & FSCK_I_SOUND) && fi->type != DT_DIR)
		fsck_problem(f, 2, "root directory: its inode is a %s", fsck_type_name(fi->type));
}

int fsck_phase2(struct fsck *f)
{
	const struct fsck_cluster *c;
	int err;

	if (fsck_internal(f, PF_INO_ITABLE) == NULL) {
		fsck_problem(f, 2, "inode table: inode %" PRIu64 " is damaged", PF_INO_ITABLE);
		return -EUCLEAN;
	}
	err = fsck_walk_itable(f, FSCK_CLAIM);
	if (err != 0)
		return err;
	c = find_cluster(f, 0);
	if (c == NULL || c->dblk != f->fs.iclu0_blk) {
		fsck_problem(f, 2, "inode table: cluster 0 is not at block %" PRIu64, f->fs.iclu0_blk);
		return -EUCLEAN;
	}
	for (uint64_t i = 0; i < f->nr_clu; i++)
		check_cluster(f, &f->clu[i]);
	for (uint64_t ino = PF_INO_ITABLE; ino <= PF_INO_BAD; ino++)
		if (!(c->ino[ino].state & FSCK_I_USED))
			fsck_problem(f, 2, "inode %" PRIu64 ": internal inode is not in use", ino);
	check_root(f);
	return 0;
}
