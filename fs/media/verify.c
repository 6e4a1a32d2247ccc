/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.c - the verifiers, and the memory of what they have found sound.
 *
 * Owns the verified bitmap: one bit for each block of the device, set after the first full check. Bits are atomic;
 * no lock. Two readers may verify one block twice, never trust it too early.
 */
#include "media/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/crc32c.h"
#include "base/fail.h"
#include "base/log.h"
#include "media/badset.h"
#include "media/pmem.h"
#include "media/xleaf.h"

static const uint32_t md_magic[PF_MD_NR] = {
	[PF_MD_MAP] = PF_MAGIC_MAP,	[PF_MD_ICLU] = PF_MAGIC_ICLU, [PF_MD_INODE] = PF_MAGIC_INODE,
	[PF_MD_NODE] = PF_MAGIC_NODE,	[PF_MD_DIR] = PF_MAGIC_DIR,   [PF_MD_ORPHAN] = PF_MAGIC_ORPH,
	[PF_MD_XATTR] = PF_MAGIC_XATTR,
};

const char *const pf_md_name[PF_MD_NR] = {
	[PF_MD_MAP] = "map block",  [PF_MD_ICLU] = "inode cluster",  [PF_MD_INODE] = "inode",
	[PF_MD_NODE] = "tree node", [PF_MD_DIR] = "directory leaf", [PF_MD_ORPHAN] = "orphan block",
	[PF_MD_XATTR] = "attribute leaf",
};

uint32_t pf_md_size(enum pf_md type)
{
	return type == PF_MD_INODE ? PF_INODE_SIZE : (uint32_t)PF_BLK_SIZE;
}

bool pf_data_range_ok(const struct pf_fs *fs, uint64_t owner, uint64_t dblk, uint64_t nblk)
{
	/* Cluster 0 lies at a fixed place; only the inode table's own tree names it. */
	uint64_t first = fs->iclu0_blk + (owner == PF_INO_ITABLE ? 0 : PF_ICLU_BLKS);

	return nblk != 0 && dblk >= first && pf_range_ok(dblk, nblk, fs->nblk - 1);
}

static unsigned int ones(const uint8_t *bits, size_t nbytes)
{
	unsigned int n = 0;
	uint64_t w;

	for (size_t i = 0; i < nbytes; i += sizeof w) {
		memcpy(&w, bits + i, sizeof w);
		n += (unsigned int)__builtin_popcountll(w);
	}
	return n;
}

static bool all_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* ---- tree records ---- */

/* Leaf records: in order, apart, inside the device. Index records: in order, a child each. */
static const char *check_recs(const struct pf_fs *fs, const struct pf_d_rec *rec, unsigned int n, unsigned int level,
			      uint64_t owner)
{
	uint64_t end = 0;	/* no record starts below */

	for (unsigned int i = 0; i < n; i++) {
		uint64_t key = pf_get64(rec[i].r_key), dblk = pf_get64(rec[i].r_dblk);
		uint32_t len = pf_get32(rec[i].r_len), flags = pf_get32(rec[i].r_flags);

		if (key < end)
			return "records overlap or are out of order";
		if (level > 0 && (len != 0 || flags != 0))
			return "index record with a length or flags";
		if (level == 0 && len == 0)
			return "extent of length 0";
		if ((flags & ~(owner == PF_INO_BAD ? PF_REC_HELD : PF_REC_UNWRITTEN)) != 0)
			return "unknown extent flags";
		if (key > UINT64_MAX - UINT32_MAX - 1)
			return "key out of range";
		if (owner == PF_INO_BAD && level == 0) {
			/* Any block of the device can be bad; the list can own only what a file could. */
			if (key != dblk || !pf_range_ok(dblk, len, fs->nblk))
				return "not the number of a block";
			if ((flags & PF_REC_HELD) && !pf_data_range_ok(fs, owner, dblk, len))
				return "held block outside the data area";
		} else if (!pf_data_range_ok(fs, owner, dblk, level > 0 ? 1 : len)) {
			return "block outside the data area";
		}
		end = key + (level > 0 ? 1 : len);
	}
	return NULL;
}

/* Trees of names map keys, one leaf block each, all of them from key 0 on. */
static const char *check_name_recs(const struct pf_d_rec *rec, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (pf_get32(rec[i].r_len) != 1 || pf_get32(rec[i].r_flags) != 0)
			return "directory record with a length or flags";
	if (n > 0 && pf_get64(rec[0].r_key) != 0)
		return "first directory record is not key 0";
	return NULL;
}

/* A root of @cap records: one of data or of a directory, or one of attributes. */
static const char *check_root(const struct pf_fs *fs, unsigned int level, unsigned int n, unsigned int cap,
			      const struct pf_d_rec *rec, uint64_t owner, bool names)
{
	const char *why;

	if (level >= PF_TREE_LEVELS)
		return "tree too deep";
	if (n > cap)
		return "too many records in the root";
	if (level > 0 && n == 0)
		return "empty tree above level 0";
	why = check_recs(fs, rec, n, level, owner);
	if (why == NULL && names && level == 0)
		why = check_name_recs(rec, n);
	return why;
}

const char *pf_root_check(const struct pf_fs *fs, const struct pf_d_root *root, uint64_t owner, bool dir)
{
	if (!all_zero(root->t_pad, sizeof root->t_pad))
		return "root padding not zero";
	return check_root(fs, pf_get16(root->t_level), pf_get16(root->t_count), PF_ROOT_RECS, root->t_rec, owner, dir);
}

const char *pf_xroot_check(const struct pf_fs *fs, const struct pf_d_xroot *root, uint64_t owner)
{
	const char *why;

	if (!all_zero(root->x_pad, sizeof root->x_pad))
		return "attributes: root padding not zero";
	if (owner < PF_INO_ROOT && (pf_get16(root->x_level) != 0 || pf_get16(root->x_count) != 0))
		return "attributes of an internal inode";
	why = check_root(fs, pf_get16(root->x_level), pf_get16(root->x_count), PF_XROOT_RECS, root->x_rec, owner, true);
	/* The other tree's phrases would mislead: an inode has two. */
	return why != NULL ? "root of the attributes" : NULL;
}

static const char *check_node(const struct pf_fs *fs, const struct pf_d_node *node, uint64_t owner)
{
	unsigned int level = pf_get16(node->n_hdr.h_level), n = pf_get16(node->n_hdr.h_count);

	if (level >= PF_TREE_LEVELS)
		return "tree too deep";
	if (n == 0 || n > PF_NODE_RECS)
		return "record count";
	return check_recs(fs, node->n_rec, n, level, owner);
}

/* ---- the other objects ---- */

static const char *check_map(const struct pf_fs *fs, const struct pf_d_map *map, uint64_t group)
{
	uint64_t first = group * PF_GROUP_BLKS, n;
	const uint8_t *bits = map->m_bits[0];

	if (group >= fs->ngroup)
		return "group number";
	n = pf_min64(PF_GROUP_BLKS, fs->nblk - first);
	for (uint64_t i = n; i < PF_GROUP_BLKS; i++)
		if ((bits[i / 8] >> (i % 8) & 1) == 0)
			return "free block past the end of the device";
	if (pf_get32(map->m_hdr.h_free) != PF_GROUP_BLKS - ones(bits, sizeof map->m_bits))
		return "count of free blocks";
	return NULL;
}

static const char *check_iclu(const struct pf_d_iclu *clu)
{
	if (clu->c_used[0] != 0xff)
		return "header slots not in use";
	if (pf_get32(clu->c_hdr.h_free) != PF_ICLU_SLOTS - ones(clu->c_used, sizeof clu->c_used))
		return "count of free inodes";
	if (!all_zero(clu->c_pad, sizeof clu->c_pad))
		return "padding not zero";
	return NULL;
}

static const char *check_orphan(const struct pf_d_orphan *orph)
{
	unsigned int used = 0;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(orph->o_ino); i++) {
		uint64_t ino = pf_get64(orph->o_ino[i]);

		if (ino > PF_INO_MAX || (ino != 0 && ino % PF_ICLU_SLOTS < PF_ICLU_FIRST))
			return "inode number";
		used += ino != 0;
	}
	return used == pf_get16(orph->o_hdr.h_count) ? NULL : "count of used slots";
}

static const char *check_dir(const struct pf_d_hdr *leaf)
{
	const uint8_t *base = (const uint8_t *)leaf;
	unsigned int live = 0, used = 0;
	const unsigned int name_off = offsetof(struct pf_d_dirent, de_name);

	for (unsigned int off = sizeof *leaf; off < PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = (const void *)(base + off);
		unsigned int reclen, need;

		if (PF_BLK_SIZE - off < sizeof *de)
			return "entry cut short by the end of the block";
		reclen = pf_get16(de->de_reclen);
		if (reclen < sizeof *de || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off)
			return "entry length";
		off += reclen;
		if (pf_get64(de->de_ino) == 0)
			continue;
		need = (name_off + de->de_namelen + 7) & ~7U;
		if (de->de_namelen == 0 || need > reclen)
			return "name length";
		if (memchr(de->de_name, '\0', de->de_namelen) != NULL ||
		    memchr(de->de_name, '/', de->de_namelen) != NULL)
			return "name with a NUL or a slash";
		if (pf_get64(de->de_key) < 256 || pf_get64(de->de_key) >> 63 != 0)
			return "name key";
		if (pf_get64(de->de_ino) > PF_INO_MAX || pf_get64(de->de_ino) < PF_INO_ROOT)
			return "inode number of an entry";
		live++;
		used += need;
	}
	if (live != pf_get16(leaf->h_count))
		return "count of entries";
	if (pf_get32(leaf->h_free) != PF_BLK_SIZE - sizeof *leaf - used)
		return "count of free bytes";
	return NULL;
}

static const char *check_inode(const struct pf_fs *fs, const struct pf_d_inode *di, uint64_t ino)
{
	uint32_t mode = pf_get32(di->i_mode);
	uint64_t size = pf_get64(di->i_size);
	const pf_le32 ns[] = { di->i_atime_ns, di->i_mtime_ns, di->i_ctime_ns, di->i_btime_ns };
	const char *why;

	if (pf_get64(di->i_ino) != ino)
		return "inode number";
	if (pf_get32(di->i_gen) == 0)
		return "generation 0";
	if (pf_get32(di->i_nlink) > PF_LINK_MAX)
		return "link count";
	if (size > PF_FILE_MAX)
		return "size";
	if (pf_get64(di->i_nblk) > fs->nblk)
		return "block count";
	for (unsigned int i = 0; i < PF_ARRAY_LEN(ns); i++)
		if (pf_get32(ns[i]) >= 1000000000U)
			return "nanoseconds";
	if (pf_get32(di->i_intent) > PF_INTENT_INSERT)
		return "unknown intent";
	if (!pf_range_ok(pf_get64(di->i_intent_off), pf_get64(di->i_intent_len), UINT64_MAX))
		return "intent range";
	if (pf_get32(di->i_intent) >= PF_INTENT_COLLAPSE &&
	    ((pf_get64(di->i_intent_off) | pf_get64(di->i_intent_len)) % PF_BLK_SIZE != 0 ||
	     pf_get64(di->i_intent_len) == 0 ||
	     !pf_range_ok(pf_get64(di->i_intent_off), pf_get64(di->i_intent_len), PF_FILE_MAX) ||
	     pf_get64(di->i_intent_pos) > UINT64_C(1) << 63))
		return "intent to move pages";
	if (!all_zero(di->i_pad, sizeof di->i_pad))
		return "reserved bytes not zero";
	why = pf_xroot_check(fs, &di->i_xroot, ino);
	if (why != NULL)
		return why;
	switch (mode & S_IFMT) {
	case S_IFREG:
		return pf_root_check(fs, &di->i_root, ino, false);
	case S_IFDIR:
		return pf_root_check(fs, &di->i_root, ino, true);
	case S_IFLNK:
		if (size == 0)
			return "empty symbolic link";
		if (size > PF_SYMLINK_INLINE)
			return pf_root_check(fs, &di->i_root, ino, false);
		if (memchr(di->i_symlink, '\0', sizeof di->i_symlink) != di->i_symlink + size)
			return "symbolic link's length";
		return NULL;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return NULL;
	default:
		return "file type";
	}
}

static uint32_t sum(enum pf_md type, const void *obj)
{
	return pf_crc32c_hole(obj, pf_md_size(type), offsetof(struct pf_d_hdr, h_crc));
}

_Static_assert(offsetof(struct pf_d_hdr, h_crc) == offsetof(struct pf_d_inode, i_crc), "one place for all checksums");
_Static_assert(offsetof(struct pf_d_hdr, h_fsid) == offsetof(struct pf_d_inode, i_fsid), "one place for all fsids");

/* What is cheap enough for every use: is it this object at all? */
static const char *check_identity(const struct pf_fs *fs, enum pf_md type, const void *obj, uint64_t doff,
				  uint64_t owner)
{
	const struct pf_d_hdr *h = obj;

	if (pf_get32(h->h_magic) != md_magic[type])
		return "magic";
	if (pf_get64(h->h_fsid) != fs->fsid)
		return "fsid";
	if (type == PF_MD_INODE)
		return NULL;
	if (pf_get64(h->h_self) != doff >> PF_BLK_SHIFT)
		return "own block number";
	if (pf_get64(h->h_owner) != owner)
		return "owner";
	return NULL;
}

const char *pf_md_check(const struct pf_fs *fs, enum pf_md type, const void *obj, uint64_t doff, uint64_t owner)
{
	const struct pf_d_hdr *h = obj;
	const char *why = check_identity(fs, type, obj, doff, owner);

	if (why != NULL)
		return why;
	if (pf_get32(h->h_crc) != sum(type, obj))
		return "checksum";
	if (type != PF_MD_INODE && !all_zero(h->h_pad, sizeof h->h_pad))
		return "header padding not zero";
	switch (type) {
	case PF_MD_MAP:
		return check_map(fs, obj, owner);
	case PF_MD_ICLU:
		return check_iclu(obj);
	case PF_MD_INODE:
		return check_inode(fs, obj, owner);
	case PF_MD_NODE:
		return check_node(fs, obj, owner);
	case PF_MD_DIR:
		return check_dir(obj);
	case PF_MD_ORPHAN:
		return check_orphan(obj);
	case PF_MD_XATTR:
		return pf_xleaf_check(fs, obj, owner);
	case PF_MD_NR:
		break;
	}
	return "object type";
}

void pf_md_seal(enum pf_md type, void *obj)
{
	struct pf_d_hdr *h = obj;

	h->h_crc = pf_put32(sum(type, obj));
}

void pf_md_format(const struct pf_fs *fs, enum pf_md type, void *obj, uint64_t doff, uint64_t owner, uint32_t gen)
{
	struct pf_d_inode *di = obj;
	struct pf_d_hdr *h = obj;

	memset(obj, 0, pf_md_size(type));
	if (type == PF_MD_INODE) {
		di->i_magic = pf_put32(md_magic[type]);
		di->i_fsid = pf_put64(fs->fsid);
		di->i_ino = pf_put64(owner);
		di->i_gen = pf_put32(gen);
		return;
	}
	h->h_magic = pf_put32(md_magic[type]);
	h->h_fsid = pf_put64(fs->fsid);
	h->h_self = pf_put64(doff >> PF_BLK_SHIFT);
	h->h_owner = pf_put64(owner);
	h->h_owner_gen = pf_put32(gen);
}

/* ---- what was verified ---- */

struct pf_verified {
	_Atomic uint64_t *word;
	void *map;			/* what word[] lies in */
	size_t bytes;
	_Atomic uint64_t told[64];	/* objects in the log already, by hash; a collision costs a second line */
};

int pf_verified_init(struct pf_fs *fs)
{
	struct pf_verified *v = calloc(1, sizeof *v);

	if (v == NULL)
		return -ENOMEM;
	/* 512 MiB of address space for 16 TiB; memory only where bits are set. */
	v->bytes = PF_DIV_UP(fs->nblk, 64) * sizeof(uint64_t);
	v->map = mmap(NULL, v->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v->map == MAP_FAILED) {
		free(v);
		return -ENOMEM;
	}
	v->word = v->map;
	fs->verified = v;
	return 0;
}

void pf_verified_fini(struct pf_fs *fs)
{
	struct pf_verified *v = fs->verified;

	if (v == NULL)
		return;
	(void)munmap(v->map, v->bytes);
	free(v);
	fs->verified = NULL;
}

static void report(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const char *why)
{
	_Atomic uint64_t *told = &fs->verified->told[doff / PF_INODE_SIZE % PF_ARRAY_LEN(fs->verified->told)];

	if (atomic_exchange_explicit(told, doff + 1, memory_order_relaxed) != doff + 1)
		pf_fs_fail(fs, PF_FAULT_DAMAGE, "damaged %s at byte %" PRIu64 ", owner %" PRIu64 ": %s",
			   pf_md_name[type], doff, owner, why);
}

int pf_md_get(struct pf_fs *fs, enum pf_md type, uint64_t doff, uint64_t owner, const void **out)
{
	const uint64_t blk = doff >> PF_BLK_SHIFT, bit = UINT64_C(1) << (blk % 64);
	_Atomic uint64_t *word;
	const char *why;
	const void *obj;

	if (doff % pf_md_size(type) != 0 || blk >= fs->nblk) {
		report(fs, type, doff, owner, "no such block");
		return -EUCLEAN;
	}
	/* Looked at each time: a block may go bad after it was verified. */
	if (pf_bad_first(fs, blk, 1, NULL) != PF_BAD_NONE) {
		report(fs, type, doff, owner, "it lies in a bad block");
		return -EIO;
	}
	obj = pf_pm_at(fs->pm, doff);
	word = &fs->verified->word[blk / 64];
	/* Eight inodes share a block and are checked on their own; they are cached above, so that costs little. */
	if (type == PF_MD_INODE)
		why = pf_md_check(fs, type, obj, doff, owner);
	else if (atomic_load_explicit(word, memory_order_acquire) & bit)
		why = check_identity(fs, type, obj, doff, owner);
	else
		why = pf_md_check(fs, type, obj, doff, owner);
	/* A cluster header is read without its lock, so a commit may have changed it under the check. But whoever
	 * writes has verified it first, and has said so. */
	if (why != NULL && type != PF_MD_INODE && (atomic_load_explicit(word, memory_order_acquire) & bit))
		why = check_identity(fs, type, obj, doff, owner);
	if (why != NULL) {
		report(fs, type, doff, owner, why);
		return -EUCLEAN;
	}
	if (type != PF_MD_INODE && !(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(word, bit, memory_order_release);
	*out = obj;
	return 0;
}

void pf_md_forget(struct pf_fs *fs, uint64_t dblk, uint64_t nblk)
{
	uint64_t end = dblk + nblk;

	while (dblk < end) {
		uint64_t n = pf_min64(64 - dblk % 64, end - dblk);
		uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << (dblk % 64);
		_Atomic uint64_t *word = &fs->verified->word[dblk / 64];

		/* Look first: most blocks are data, and a store would make memory of the untouched bitmap. */
		if (atomic_load_explicit(word, memory_order_relaxed) & mask)
			atomic_fetch_and_explicit(word, ~mask, memory_order_release);
		dblk += n;
	}
}
