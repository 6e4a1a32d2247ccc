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

int fsck_each_inode(struct fsck *f, int phase, fsck_inode_fn fn, void *arg)
{
	int err = 0;

	for (uint64_t i = 0; i < f->nr_clu && err == 0; i++) {
		struct fsck_cluster *c = &f->clu[i];

		err = fsck_step(f, phase, i, f->nr_clu);
		for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS && err == 0; s++) {
			uint64_t ino = c->nr << PF_ICLU_SHIFT | s;

			if ((c->ino[s].state & FSCK_I_SOUND) && ino >= PF_INO_ROOT)
				err = fn(f, ino, &c->ino[s], slot_of(f, c, s), arg);
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

static void no_rdev(struct pf_d_inode *di, uint64_t v) { di->i_rdev = pf_put64(v); }
static void set_nblk(struct pf_d_inode *di, uint64_t v) { di->i_nblk = pf_put64(v); }
static void set_size(struct pf_d_inode *di, uint64_t v) { di->i_size = pf_put64(v); }
static void no_dir(struct pf_d_inode *di, uint64_t v) { di->i_nent = di->i_parent = pf_put64(v); }
static void no_intent(struct pf_d_inode *di, uint64_t v)
{
	di->i_intent = pf_put32((uint32_t)v);
	di->i_intent_off = di->i_intent_len = di->i_intent_pos = pf_put64(v);
}

static bool intent_aligned(const struct pf_d_inode *di)
{
	switch (pf_get32(di->i_intent)) {
	case PF_INTENT_PUNCH:
	case PF_INTENT_COLLAPSE:
	case PF_INTENT_INSERT:
		return pf_get64(di->i_intent_off) % PF_BLK_SIZE == 0 && pf_get64(di->i_intent_len) % PF_BLK_SIZE == 0;
	default:
		return true;
	}
}

/* What pf_md_check() leaves open: which fields belong to which type. */
static void check_fields(struct fsck *f, uint64_t ino, const struct pf_d_inode *di)
{
	static const char *const intent[] = { "none", "truncate", "punch", "collapse", "insert" };
	uint32_t mode = pf_get32(di->i_mode);

	if (!S_ISCHR(mode) && !S_ISBLK(mode) && pf_get64(di->i_rdev) != 0) {
		fsck_problem(f, 2, "inode %" PRIu64 ": device number on an inode that is no device", ino);
		fsck_edit_inode(f, di, no_rdev, 0);
	}
	if (!fsck_has_tree(di) && pf_get64(di->i_nblk) != 0 && pf_get16(di->i_xroot.x_count) == 0) {
		fsck_problem(f, 2, "inode %" PRIu64 ": i_nblk %" PRIu64 " on an inode without blocks", ino,
			     pf_get64(di->i_nblk));
		fsck_edit_inode(f, di, set_nblk, 0);
	}
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && pf_get64(di->i_size) != 0) {
		fsck_problem(f, 2, "inode %" PRIu64 ": size on an inode without content", ino);
		fsck_edit_inode(f, di, set_size, 0);
	}
	if (!S_ISDIR(mode) && (pf_get64(di->i_nent) != 0 || pf_get64(di->i_parent) != 0)) {
		fsck_problem(f, 2, "inode %" PRIu64 ": fields of a directory on something else", ino);
		fsck_edit_inode(f, di, no_dir, 0);
	}
	if (S_ISLNK(mode) && pf_get64(di->i_size) >= PF_BLK_SIZE) {
		fsck_problem(f, 2, "inode %" PRIu64 ": symlink of %" PRIu64 " bytes", ino, pf_get64(di->i_size));
		fsck_edit_inode(f, di, set_size, PF_BLK_SIZE - 1);
	}
	if (pf_get32(di->i_intent) != PF_INTENT_NONE && !fsck_has_tree(di)) {
		fsck_problem(f, 2, "inode %" PRIu64 ": intent on an inode without blocks", ino);
		fsck_edit_inode(f, di, no_intent, 0);
	}
	if (!intent_aligned(di)) {
		fsck_problem(f, 2, "inode %" PRIu64 ": intent to %s %" PRIu64 "+%" PRIu64 " is not page aligned", ino,
			     intent[pf_get32(di->i_intent)], pf_get64(di->i_intent_off), pf_get64(di->i_intent_len));
		fsck_edit_inode(f, di, no_intent, 0);
	}
}

/* An inode that always exists, as mkfs makes it. What it had is looked for later. */
static void format_internal(struct fsck *f, const struct pf_d_inode *di, uint64_t ino)
{
	const struct pf_d_super *sb = fsck_at(f, 0);
	const bool root = ino == PF_INO_ROOT;
	struct pf_d_inode d;

	pf_md_format(&f->fs, PF_MD_INODE, &d, (uint64_t)((const uint8_t *)di - f->fs.pm->base), ino, 1);
	d.i_mode = pf_put32(root ? S_IFDIR | 0755 : S_IFREG | 0600);
	d.i_nlink = pf_put32(root ? 2 : 1);
	d.i_parent = pf_put64(root ? PF_INO_ROOT : 0);
	d.i_atime = d.i_mtime = d.i_ctime = d.i_btime = sb->sb_mkfs_time;
	pf_md_seal(PF_MD_INODE, &d);
	pf_pm_write(f->fs.pm, (uint64_t)((const uint8_t *)di - f->fs.pm->base), &d, sizeof d);
}

/* False: nothing is left of it, and its number is free. */
static bool mend(struct fsck *f, uint64_t ino, struct fsck_ino *fi, const struct pf_d_inode *di)
{
	if (fsck_reseal(f, PF_MD_INODE, di, ino) || fsck_mend_inode(f, di, ino)) {
		fi->state |= FSCK_I_SUSPECT;
	} else if (ino <= PF_INO_ROOT) {
		format_internal(f, di, ino);
	} else {
		fsck_mark_inode(f, ino, false);
		return false;
	}
	fi->state |= FSCK_I_REBUILD | FSCK_I_LOST;
	f->broken = true;
	f->orphans_bad = f->orphans_bad || ino == PF_INO_ORPHAN;
	f->badlist_bad = f->badlist_bad || ino == PF_INO_BAD;
	return true;
}

static void check_inode(struct fsck *f, struct fsck_cluster *c, unsigned int slot)
{
	const struct pf_d_inode *di = slot_of(f, c, slot);
	uint64_t ino = c->nr << PF_ICLU_SHIFT | slot;
	uint64_t doff = (c->dblk << PF_BLK_SHIFT) + (uint64_t)slot * PF_INODE_SIZE;
	struct fsck_ino *fi = &c->ino[slot];
	const char *why;

	why = pf_md_check(&f->fs, PF_MD_INODE, di, doff, ino);
	if (why != NULL) {
		fsck_problem(f, 2, "inode %" PRIu64 ": %s", ino, why);
		if (!mend(f, ino, fi, di))
			return;
	}
	fi->state |= FSCK_I_USED | FSCK_I_SOUND;
	if (ino >= PF_INO_ROOT) {
		f->files++;
		check_fields(f, ino, di);
	}
	fi->type = (uint8_t)IFTODT(pf_get32(di->i_mode));
}

/* ---- clusters ---- */

int fsck_add_cluster(struct fsck *f, uint64_t nr, uint64_t dblk)
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

static void set_used(struct pf_d_iclu *h, unsigned int slot, bool used)
{
	uint8_t *byte = &h->c_used[slot / 8], bit = (uint8_t)(1U << (slot % 8));

	if (((*byte & bit) != 0) == used)
		return;
	*byte ^= bit;
	h->c_hdr.h_free = pf_put32(pf_get32(h->c_hdr.h_free) + (used ? -1U : 1U));
}

void fsck_mark_inode(struct fsck *f, uint64_t ino, bool used)
{
	const struct fsck_cluster *c = find_cluster(f, ino >> PF_ICLU_SHIFT);
	struct pf_d_iclu *h;

	assert(c != NULL);
	h = fsck_edit(f, fsck_at(f, c->dblk), sizeof *h);
	set_used(h, (unsigned int)(ino % PF_ICLU_SLOTS), used);
	pf_md_seal(PF_MD_ICLU, h);
}

static void new_inode(struct fsck *f, struct fsck_cluster *c, unsigned int slot, uint32_t mode)
{
	const struct pf_d_inode *di = slot_of(f, c, slot);
	uint64_t doff = (uint64_t)((const uint8_t *)di - f->fs.pm->base), ino = c->nr << PF_ICLU_SHIFT | slot;
	uint32_t gen = pf_get32(di->i_gen) + 1;
	struct pf_d_inode d;

	pf_md_format(&f->fs, PF_MD_INODE, &d, doff, ino, gen == 0 ? 1 : gen);
	d.i_mode = pf_put32(mode);
	pf_md_seal(PF_MD_INODE, &d);
	pf_pm_write(f->fs.pm, doff, &d, sizeof d);
	c->ino[slot] = (struct fsck_ino){ .state = FSCK_I_USED | FSCK_I_SOUND, .type = (uint8_t)IFTODT(mode) };
	fsck_mark_inode(f, ino, true);
}

int fsck_new_inode(struct fsck *f, uint32_t mode, uint64_t *ino)
{
	uint64_t i = 0;
	int err = 0;

	do {
		for (; i < f->nr_clu; i++)
			for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++) {
				if (f->clu[i].ino[s].state & FSCK_I_USED)
					continue;
				*ino = f->clu[i].nr << PF_ICLU_SHIFT | s;
				new_inode(f, &f->clu[i], s, mode);
				return 0;
			}
		err = fsck_grow_table(f);
	} while (err == 0);
	return err;
}

void fsck_drop_inode(struct fsck *f, uint64_t ino)
{
	*fsck_ino(f, ino) = (struct fsck_ino){ 0 };
	fsck_mark_inode(f, ino, false);
}

/* Without its header nobody knows which of a cluster's inodes are in use but they themselves: one that was freed has no
 * links, and nobody waits for it. */
static void rebuild_header(struct fsck *f, const struct fsck_cluster *c)
{
	struct pf_d_iclu h;

	pf_md_format(&f->fs, PF_MD_ICLU, &h, c->dblk << PF_BLK_SHIFT, c->nr, 0);
	h.c_used[0] = 0xff;
	h.c_hdr.h_free = pf_put32(PF_ICLU_SLOTS - PF_ICLU_FIRST);
	for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++) {
		const struct pf_d_inode *di = slot_of(f, c, s);
		uint64_t ino = c->nr << PF_ICLU_SHIFT | s;

		if (ino <= PF_INO_ROOT ||
		    (pf_get32(di->i_magic) == PF_MAGIC_INODE && pf_get64(di->i_fsid) == f->fs.fsid &&
		     pf_get64(di->i_ino) == ino && pf_get32(di->i_nlink) != 0))
			set_used(&h, s, true);
	}
	fsck_put(f, c->dblk, PF_MD_ICLU, &h);
}

enum fsck_likely fsck_cluster_likely(const struct fsck *f, uint64_t nr, uint64_t dblk)
{
	const struct pf_d_inode *di = fsck_at(f, dblk);
	bool empty = true;

	for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++) {
		if (pf_get32(di[s].i_magic) == PF_MAGIC_INODE && pf_get64(di[s].i_fsid) == f->fs.fsid &&
		    pf_get64(di[s].i_ino) == (nr << PF_ICLU_SHIFT | s))
			return FSCK_SURE;
		empty = empty && pf_get32(di[s].i_magic) == 0 && pf_get64(di[s].i_fsid) == 0;
	}
	return nr == 0 && dblk == f->fs.iclu0_blk ? FSCK_SURE : empty ? FSCK_MAYBE : FSCK_NO;
}

/* A header whose checksum was right, and its bits therefore, but not the count of them. */
static bool recount(struct fsck *f, const struct fsck_cluster *c)
{
	const struct pf_d_iclu *old = fsck_at(f, c->dblk);
	struct pf_d_iclu h = *old;
	uint32_t n = 0;

	pf_md_seal(PF_MD_ICLU, &h);
	if (pf_get32(h.c_hdr.h_crc) != pf_get32(old->c_hdr.h_crc))
		return false;
	for (unsigned int i = 0; i < sizeof h.c_used; i++)
		n += (uint32_t)__builtin_popcount(h.c_used[i]);
	h.c_hdr.h_free = pf_put32(PF_ICLU_SLOTS - n);
	pf_md_seal(PF_MD_ICLU, &h);
	if (pf_md_check(&f->fs, PF_MD_ICLU, &h, c->dblk << PF_BLK_SHIFT, c->nr) != NULL)
		return false;
	pf_pm_write(f->fs.pm, c->dblk << PF_BLK_SHIFT, &h, sizeof h);
	return true;
}

/* -EAGAIN: it is another cluster than the table says. */
static int check_cluster(struct fsck *f, struct fsck_cluster *c)
{
	const struct pf_d_iclu *h = fsck_at(f, c->dblk);
	const char *why = pf_md_check(&f->fs, PF_MD_ICLU, h, c->dblk << PF_BLK_SHIFT, c->nr);
	enum fsck_likely likely;
	bool other;

	if (why != NULL) {
		fsck_problem(f, 2, "inode cluster %" PRIu64 " at block %" PRIu64 ": %s", c->nr, c->dblk, why);
		other = pf_md_check(&f->fs, PF_MD_ICLU, h, c->dblk << PF_BLK_SHIFT, pf_get64(h->c_hdr.h_owner)) == NULL;
		likely = fsck_cluster_likely(f, c->nr, c->dblk);
		/* Once: after that, the table is as right as it can be made. */
		if (!f->table_made && (likely == FSCK_NO || (likely == FSCK_MAYBE && other)))
			return -EAGAIN;
		if (!recount(f, c))
			rebuild_header(f, c);
	}
	for (unsigned int s = PF_ICLU_FIRST; s < PF_ICLU_SLOTS; s++) {
		uint64_t ino = c->nr << PF_ICLU_SHIFT | s;
		bool used = (h->c_used[s / 8] >> (s % 8) & 1) != 0;

		if (!used && ino <= PF_INO_ROOT) {
			if (ino == PF_INO_ROOT)
				fsck_problem(f, 2, "root directory: its inode is not in use");
			else
				fsck_problem(f, 2, "inode %" PRIu64 ": internal inode is not in use", ino);
			fsck_mark_inode(f, ino, true);
			used = true;
		}
		if (used)
			check_inode(f, c, s);
	}
	return 0;
}

/* ---- the table ---- */

struct table { bool bad; int err; };

/* A record of the table may cover several clusters that lie one behind the other. */
static void table_rec(struct fsck_walk *w, uint64_t key, uint64_t dblk, uint64_t len, uint32_t flags, uint64_t next_key)
{
	struct fsck *f = w->f;
	struct table *t = w->arg;

	(void)next_key;
	if (key % PF_ICLU_BLKS != 0 || len % PF_ICLU_BLKS != 0 || flags != 0 ||
	    !pf_range_ok(key / PF_ICLU_BLKS, len / PF_ICLU_BLKS, (PF_INO_MAX >> PF_ICLU_SHIFT) + 1)) {
		t->bad = true;
		if (w->pass == FSCK_CLAIM)
			fsck_problem(f, 2, "inode table: record of cluster %" PRIu64 " is not of whole clusters",
				     key / PF_ICLU_BLKS);
		return;
	}
	for (uint64_t i = 0; i < len; i += PF_ICLU_BLKS) {
		bool mine = fsck_claim(f, w->pass, w->ino, "inode cluster", dblk + i, PF_ICLU_BLKS);

		t->bad = t->bad || !mine;
		if (w->pass == FSCK_CLAIM && mine && t->err == 0)
			t->err = fsck_add_cluster(f, (key + i) / PF_ICLU_BLKS, dblk + i);
	}
}

const struct pf_d_inode *fsck_internal(struct fsck *f, uint64_t ino)
{
	const struct pf_d_inode *di = (const struct pf_d_inode *)fsck_at(f, f->fs.iclu0_blk) + ino;
	uint64_t doff = (f->fs.iclu0_blk << PF_BLK_SHIFT) + ino * PF_INODE_SIZE;

	return pf_md_check(&f->fs, PF_MD_INODE, di, doff, ino) == NULL && fsck_has_tree(di) ? di : NULL;
}

/* -EAGAIN: the table must be made anew. */
int fsck_walk_itable(struct fsck *f, enum fsck_pass pass)
{
	const struct pf_d_inode *di = fsck_internal(f, PF_INO_ITABLE);
	struct table t = { 0 };
	struct fsck_walk w = { .f = f, .pass = pass, .phase = 2, .ino = PF_INO_ITABLE, .fn = table_rec, .arg = &t };
	uint64_t nblk;

	if (di == NULL)
		return -EUCLEAN;
	w.gen = pf_get32(di->i_gen);
	fsck_walk_tree(&w, fsck_root_of(di));
	nblk = w.nodes + f->nr_clu * PF_ICLU_BLKS;
	if (pass != FSCK_CLAIM || t.err != 0)
		return t.err;
	/* A mount reads as many clusters as the size says, from 0 on without gaps. */
	if (f->nr_clu == 0 || f->clu[f->nr_clu - 1].nr != f->nr_clu - 1 ||
	    f->nr_clu * PF_ICLU_BLKS * PF_BLK_SIZE != pf_get64(di->i_size)) {
		fsck_problem(f, 2,
			     "inode table: size %" PRIu64 ", found %" PRIu64 " clusters, the last is number %" PRIu64,
			     pf_get64(di->i_size), f->nr_clu, f->nr_clu == 0 ? 0 : f->clu[f->nr_clu - 1].nr);
		return -EAGAIN;
	}
	if (f->clu[0].dblk != f->fs.iclu0_blk) {
		fsck_problem(f, 2, "inode table: cluster 0 is not at block %" PRIu64, f->fs.iclu0_blk);
		return -EAGAIN;
	}
	if (w.skipped != 0 || t.bad)
		return -EAGAIN;
	if (nblk != pf_get64(di->i_nblk)) {
		fsck_minor(f, 2, "inode table: i_nblk %" PRIu64 ", found %" PRIu64, pf_get64(di->i_nblk), nblk);
		fsck_edit_inode(f, di, set_nblk, nblk);
	}
	return 0;
}

/* The root must be a directory, whatever its inode says. */
static void check_root(struct fsck *f)
{
	struct fsck_ino *fi = fsck_ino(f, PF_INO_ROOT);
	const struct pf_d_inode *di = fsck_inode(f, PF_INO_ROOT);

	if (fi->type == DT_DIR)
		return;
	fsck_problem(f, 2, "root directory: its inode is a %s", fsck_type_name(fi->type));
	format_internal(f, di, PF_INO_ROOT);
	fi->type = DT_DIR;
	fi->state |= FSCK_I_REBUILD | FSCK_I_LOST;
	f->broken = true;
}

int fsck_phase2(struct fsck *f)
{
	int err;

	if (fsck_internal(f, PF_INO_ITABLE) == NULL) {
		fsck_problem(f, 2, "inode table: inode %" PRIu64 " is damaged", PF_INO_ITABLE);
		return fsck_rebuild_table(f);
	}
	err = fsck_walk_itable(f, FSCK_CLAIM);
	if (err == -EAGAIN)
		return fsck_rebuild_table(f);
	for (uint64_t i = 0; i < f->nr_clu && err == 0; i++) {
		err = fsck_step(f, 2, i, f->nr_clu);
		if (err == 0)
			err = check_cluster(f, &f->clu[i]);
		if (err == -EAGAIN)
			return fsck_rebuild_table(f);
	}
	if (err == 0)
		check_root(f);
	return err;
}
