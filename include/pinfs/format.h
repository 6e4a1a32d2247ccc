/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format.h - the bytes on the device. FORMAT.md explains every field, in this order.
 *
 * Only pf_le* and byte arrays; padding is named and zero. A checksum is CRC32C over the whole
 * object with its own field read as zero. An object names what it is (magic), whose it is (owner),
 * where it lies (self) and of which mkfs it is (fsid), so a stray or stale block is never believed.
 */
#ifndef PINFS_FORMAT_H
#define PINFS_FORMAT_H

#include <pinfs/compiler.h>
#include <pinfs/types.h>

#define PF_MAGIC_SUPER UINT64_C(0x313053464e4950ff)	/* bytes ff 'P' 'I' 'N' 'F' 'S' '0' '1' */
#define PF_MAGIC_LANE  UINT32_C(0x4e4c4650)		/* 'P' 'F' 'L' 'N' */
#define PF_MAGIC_MAP   UINT32_C(0x504d4650)		/* 'P' 'F' 'M' 'P' */
#define PF_MAGIC_ICLU  UINT32_C(0x43494650)		/* 'P' 'F' 'I' 'C' */
#define PF_MAGIC_INODE UINT32_C(0x4e494650)		/* 'P' 'F' 'I' 'N' */
#define PF_MAGIC_NODE  UINT32_C(0x52544650)		/* 'P' 'F' 'T' 'R' */
#define PF_MAGIC_DIR   UINT32_C(0x52444650)		/* 'P' 'F' 'D' 'R' */
#define PF_MAGIC_ORPH  UINT32_C(0x524f4650)		/* 'P' 'F' 'O' 'R' */
#define PF_MAGIC_XATTR UINT32_C(0x41584650)		/* 'P' 'F' 'X' 'A' */

#define PF_DEV_MIN (UINT64_C(16) << 20)
#define PF_DEV_MAX (UINT64_C(16) << 40)

/* Unknown bits: compat are ignored, ro_compat allow only a read-only mount, incompat refuse. */
#define PF_COMPAT_ALL UINT64_C(0)
#define PF_RO_COMPAT_ALL UINT64_C(0)
#define PF_INCOMPAT_ALL UINT64_C(0)

/*
 * Layout of a device of nblk blocks, in this order:
 *   block 0                    superblock
 *   sb_lane_blk                sb_nlane journal lanes of sb_lane_nblk blocks each
 *   sb_map_blk                 sb_ngroup map blocks
 *   sb_iclu0_blk               inode cluster 0 (holds the internal inodes and the root)
 *   ...                        data, tree nodes, directory leaves, further clusters
 *   block nblk - 1             superblock copy
 */
enum { PF_SB_CLEAN = 1 };	/* sb_state bit: unmounted in order, journal empty, no orphans */

struct pf_d_super {
	pf_le64 sb_magic;
	pf_le32 sb_crc;		/* of these 4096 bytes */
	pf_le16 sb_major;	/* PINFS_MEDIA_MAJOR */
	pf_le16 sb_minor;
	uint8_t sb_uuid[16];
	uint8_t sb_label[32];	/* NUL padded */
	pf_le64 sb_fsid;	/* random, new at each mkfs; every other object repeats it */
	pf_le64 sb_compat;
	pf_le64 sb_ro_compat;
	pf_le64 sb_incompat;
	pf_le32 sb_blk_size;	/* 4096 */
	pf_le32 sb_state;	/* PF_SB_* */
	pf_le64 sb_nblk;	/* blocks of the whole device, the copy included */
	pf_le64 sb_lane_blk;
	pf_le32 sb_nlane;
	pf_le32 sb_lane_nblk;
	pf_le64 sb_map_blk;
	pf_le64 sb_ngroup;
	pf_le64 sb_iclu0_blk;
	pf_le64 sb_root_ino;	/* PF_INO_ROOT */
	uint8_t sb_hash_key[16];	/* SipHash-2-4 key of directory names */
	pf_le64 sb_mkfs_time;	/* seconds since the epoch */
	pf_le64 sb_mount_time;
	pf_le64 sb_write_time;
	pf_le64 sb_mount_count;
	uint8_t sb_pad[4096 - 208];
};
PF_MEDIA_SIZE(struct pf_d_super, 4096);
PF_MEDIA_OFF(struct pf_d_super, sb_fsid, 64);
PF_MEDIA_OFF(struct pf_d_super, sb_hash_key, 160);

/* First line of every map block, inode cluster, tree node, directory leaf and orphan block. */
struct pf_d_hdr {
	pf_le32 h_magic;
	pf_le32 h_crc;		/* of the whole 4096-byte block */
	pf_le64 h_fsid;
	pf_le64 h_self;		/* own block number */
	pf_le64 h_owner;	/* inode number; group number in a map block; cluster number in a cluster */
	pf_le32 h_owner_gen;	/* generation of the owning inode, else 0 */
	pf_le16 h_level;	/* tree node: 0 = leaf */
	pf_le16 h_count;	/* tree node: records; directory leaf: live entries; orphan block: used slots */
	pf_le32 h_free;		/* map: free blocks; cluster: free inodes; directory leaf: free bytes */
	uint8_t h_pad[20];
};
PF_MEDIA_SIZE(struct pf_d_hdr, 64);
PF_MEDIA_OFF(struct pf_d_hdr, h_free, 40);

/* Free-space map. Group g covers device blocks [g * PF_GROUP_BLKS, (g + 1) * PF_GROUP_BLKS); one
 * line is one 2 MiB chunk. Bit n of a line (byte n / 8, bit n % 8): 1 = in use. Bits past the end
 * of the device are 1. */
#define PF_GROUP_CHUNKS UINT64_C(63)
#define PF_GROUP_BLKS (PF_GROUP_CHUNKS * PF_CHUNK_BLKS)	/* 32256 blocks, 126 MiB */
struct pf_d_map {
	struct pf_d_hdr m_hdr;
	uint8_t m_bits[63][64];
};
PF_MEDIA_SIZE(struct pf_d_map, 4096);

/* Tree record. Data tree: pages [key, key + len) of the file lie at block dblk. Directory tree: the
 * leaf at dblk holds the names whose key is >= key and < the next record's key; len is 1, the
 * first key is 0. In a node above level 0: key = exactly the lowest key below the child, dblk = child, len 0. */
#define PF_REC_UNWRITTEN UINT32_C(1)	/* allocated, reads as zeros */
#define PF_REC_HELD UINT32_C(2)		/* tree of PF_INO_BAD only: the block belongs to the list, not to a file */
struct pf_d_rec {
	pf_le64 r_key;
	pf_le64 r_dblk;
	pf_le32 r_len;		/* blocks */
	pf_le32 r_flags;	/* PF_REC_* */
};
PF_MEDIA_SIZE(struct pf_d_rec, 24);

#define PF_NODE_RECS 168U
struct pf_d_node {
	struct pf_d_hdr n_hdr;
	struct pf_d_rec n_rec[168];
};
PF_MEDIA_SIZE(struct pf_d_node, 4096);

#define PF_ROOT_RECS 10U
#define PF_TREE_LEVELS 8U	/* deeper is corruption */
struct pf_d_root {
	pf_le16 t_level;	/* 0: the records are leaf records */
	pf_le16 t_count;
	uint8_t t_pad[12];
	struct pf_d_rec t_rec[10];
};
PF_MEDIA_SIZE(struct pf_d_root, 256);

#define PF_XROOT_RECS 2U
struct pf_d_xroot {		/* extended attributes: a tree as a directory's, its leaves are struct pf_d_xleaf */
	pf_le16 x_level;
	pf_le16 x_count;
	uint8_t x_pad[12];
	struct pf_d_rec x_rec[2];
};
PF_MEDIA_SIZE(struct pf_d_xroot, 64);

/* Inode numbers: cluster << 9 | slot. Slots 0..7 are the cluster's header block. */
#define PF_ICLU_BLKS UINT64_C(64)
#define PF_ICLU_SHIFT 9
#define PF_ICLU_SLOTS 512U
#define PF_ICLU_FIRST 8U
#define PF_INODE_SIZE 512U
#define PF_INO_ITABLE UINT64_C(8)	/* its tree maps cluster number -> first block: key = cluster * 64, len 64 */
#define PF_INO_ORPHAN UINT64_C(9)	/* its tree maps index -> orphan block */
#define PF_INO_BAD UINT64_C(10)		/* its tree holds the bad blocks: key = the block's number = r_dblk */
#define PF_INO_ROOT UINT64_C(11)	/* the internal ones are all below it */
#define PF_INO_FIRST_USER UINT64_C(12)
#define PF_INO_MAX ((UINT64_C(1) << 40) - 1)

struct pf_d_iclu {
	struct pf_d_hdr c_hdr;
	uint8_t c_used[64];	/* bit per slot; the 8 header slots are 1 */
	uint8_t c_pad[4096 - 128];
};
PF_MEDIA_SIZE(struct pf_d_iclu, 4096);

/* i_intent: work that a crash may have cut short; replay finishes it. The inode is then in the
 * orphan file as well. */
enum pf_d_intent {
	PF_INTENT_NONE = 0,
	PF_INTENT_TRUNC = 1,	/* free every block of pages >= i_intent_off >> 12 (i_size is already new) */
	PF_INTENT_PUNCH = 2,	/* unmap pages of [i_intent_off, + i_intent_len), both page aligned */
	/* The pages from i_intent_off on move by i_intent_len bytes, all page aligned: to the front after those in
	 * [off, off + len) are unmapped (COLLAPSE; i_size is already new), or to the back (INSERT; likewise).
	 * i_intent_pos: the page key from which (COLLAPSE), below which (INSERT) records still have their old key. */
	PF_INTENT_COLLAPSE = 3,
	PF_INTENT_INSERT = 4,
};

#define PF_SYMLINK_INLINE 255U
#define PF_LINK_MAX UINT32_C(65000)
#define PF_NAME_MAX 255U
#define PF_FILE_MAX (UINT64_C(1) << 62)	/* largest i_size */

struct pf_d_inode {
	pf_le32 i_magic;	/* PF_MAGIC_INODE while in use; an unused slot may hold anything but i_gen survives */
	pf_le32 i_crc;		/* of these 512 bytes */
	pf_le64 i_fsid;
	pf_le64 i_ino;
	pf_le32 i_gen;		/* grows by one each time the number is given out */
	pf_le32 i_mode;		/* S_IF* and permissions */
	pf_le32 i_uid;
	pf_le32 i_gid;
	pf_le32 i_nlink;	/* 0: orphan */
	pf_le32 i_flags;	/* FS_*_FL as chattr(1) shows them; FS_DAX_FL = FS_XFLAG_DAX */
	pf_le64 i_size;
	pf_le64 i_nblk;		/* blocks owned: data, tree nodes, directory leaves */
	pf_le64 i_atime;	/* seconds, signed */
	pf_le64 i_mtime;
	pf_le64 i_ctime;
	pf_le64 i_btime;
	pf_le32 i_atime_ns;
	pf_le32 i_mtime_ns;
	pf_le32 i_ctime_ns;
	pf_le32 i_btime_ns;
	pf_le64 i_rdev;		/* device nodes: makedev() number */
	pf_le64 i_parent;	/* directories: number of the directory that holds the name */
	pf_le64 i_nent;		/* directories: live entries, . and .. not counted */
	pf_le32 i_intent;	/* enum pf_d_intent */
	pf_le32 i_projid;
	pf_le64 i_intent_off;
	pf_le64 i_intent_len;
	pf_le64 i_intent_pos;
	uint8_t i_pad[24];
	struct pf_d_xroot i_xroot;
	union {
		struct pf_d_root i_root;
		uint8_t i_symlink[256];	/* inline target, NUL terminated, when i_size <= 255 */
	};
};
PF_MEDIA_SIZE(struct pf_d_inode, 512);
PF_MEDIA_OFF(struct pf_d_inode, i_size, 48);
PF_MEDIA_OFF(struct pf_d_inode, i_xroot, 192);
PF_MEDIA_OFF(struct pf_d_inode, i_root, 256);

/* Directory leaf: entries from byte 64 on, back to back. de_ino 0 = free space of de_reclen bytes.
 * The last entry reaches the end of the block. de_reclen is a multiple of 8. */
struct pf_d_dirent {
	/* (SipHash(name) & 55 bits) << 8 | collision number; never below 256; also the readdir cookie */
	pf_le64 de_key;
	pf_le64 de_ino;
	pf_le16 de_reclen;
	uint8_t de_type;	/* DT_* */
	uint8_t de_namelen;	/* 1..255 */
	uint8_t de_name[4];	/* de_namelen bytes, not terminated; the record goes on as long as needed */
};
PF_MEDIA_SIZE(struct pf_d_dirent, 24);
PF_MEDIA_OFF(struct pf_d_dirent, de_name, 20);

/*
 * Leaf of an attribute tree. Records from byte 64 on, back to back, as in a directory leaf; xe_namelen 0 = free space
 * of xe_reclen bytes. Behind the fixed part: the name with its prefix ("user.x"), not terminated, padded to 8; then the
 * value, padded to 8, when xe_nrun is 0; else xe_nrun runs of blocks that hold it, in order, xe_vlen bytes in all.
 */
#define PF_XATTR_INLINE 1024U		/* longer values lie in blocks of their own */
#define PF_XATTR_VALUE_MAX 65536U
#define PF_XATTR_RUNS 16U
struct pf_d_xrun {
	pf_le64 xr_dblk;
	pf_le64 xr_nblk;
};
PF_MEDIA_SIZE(struct pf_d_xrun, 16);

struct pf_d_xent {
	pf_le64 xe_key;		/* as de_key, of the whole name */
	pf_le16 xe_reclen;
	uint8_t xe_namelen;	/* 1..255, 0 = free */
	uint8_t xe_nrun;
	pf_le32 xe_vlen;
	pf_le32 xe_vcrc;	/* CRC32C of a value in blocks, else 0: the leaf's covers it */
	uint8_t xe_name[4];
};
PF_MEDIA_SIZE(struct pf_d_xent, 24);
PF_MEDIA_OFF(struct pf_d_xent, xe_name, 20);

struct pf_d_orphan {
	struct pf_d_hdr o_hdr;
	pf_le64 o_ino[504];	/* 0 = free */
};
PF_MEDIA_SIZE(struct pf_d_orphan, 4096);

/* Journal lane: this header, then l_nrec records. The lane holds a committed transaction exactly
 * when the checksum over header and l_len bytes behind it is right and l_seq is not 0. */
#define PF_LANE_BYTES (UINT64_C(128) << 10)
struct pf_d_lane {
	pf_le32 l_magic;
	pf_le32 l_crc;		/* of this header and the l_len bytes that follow */
	pf_le64 l_fsid;
	pf_le64 l_seq;		/* order of replay over all lanes; 0 = empty */
	pf_le32 l_index;	/* which lane this is */
	pf_le32 l_nrec;
	pf_le32 l_len;
	uint8_t l_pad[28];
};
PF_MEDIA_SIZE(struct pf_d_lane, 64);

struct pf_d_jrec {		/* followed by j_len bytes, padded to 8 */
	pf_le64 j_doff;		/* where they go; multiple of 64, never inside the journal */
	pf_le32 j_len;		/* multiple of 64 */
	pf_le32 j_pad;
};
PF_MEDIA_SIZE(struct pf_d_jrec, 16);

#endif
