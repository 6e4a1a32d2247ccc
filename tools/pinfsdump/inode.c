/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.c - shows an inode: fields, what its intent is, the records of its trees as tables, attributes.
 *
 * Reads only. A damaged inode is shown too: its bytes are what somebody looks for.
 */
#include "pinfsdump/dump.h"

#include <dirent.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

const char *dump_type_name(uint32_t mode)
{
	return dump_dtype_name((uint8_t)IFTODT(mode));
}

const char *dump_dtype_name(uint8_t type)
{
	switch (type) {
	case DT_REG:
		return "file";
	case DT_DIR:
		return "directory";
	case DT_LNK:
		return "symlink";
	case DT_CHR:
		return "character device";
	case DT_BLK:
		return "block device";
	case DT_FIFO:
		return "fifo";
	case DT_SOCK:
		return "socket";
	default:
		return "unknown type";
	}
}

static void flag_names(struct dump *d, uint32_t flags)
{
	static const struct { uint32_t bit; const char *name; } known[] = {
		{ FS_SYNC_FL, "sync" },	      { FS_IMMUTABLE_FL, "immutable" }, { FS_APPEND_FL, "append" },
		{ FS_NODUMP_FL, "nodump" },   { FS_NOATIME_FL, "noatime" },	{ FS_DIRSYNC_FL, "dirsync" },
		{ FS_TOPDIR_FL, "topdir" },   { FS_PROJINHERIT_FL, "projinherit" },
		{ UINT32_C(0x02000000), "dax" },	/* FS_DAX_FL, not in every linux/fs.h */
	};
	char buf[256] = "none";
	size_t n = 0;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(known); i++)
		if (flags & known[i].bit) {
			n += (size_t)snprintf(buf + n, sizeof buf - n, "%s%s", n != 0 ? " " : "", known[i].name);
			flags &= ~known[i].bit;
		}
	if (flags != 0)
		(void)snprintf(buf + n, sizeof buf - n, "%s0x%" PRIx32, n != 0 ? " " : "", flags);
	out_text(d->o, "flags", "%s", buf);
}

static void intent(struct dump *d, const struct pf_d_inode *di)
{
	static const char *const name[] = { "none", "TRUNC", "PUNCH", "COLLAPSE", "INSERT" };
	uint32_t v = pf_get32(di->i_intent);

	out_text(d->o, "intent", "%s", v < PF_ARRAY_LEN(name) ? name[v] : "unknown");
	if (v == PF_INTENT_NONE)
		return;
	out_num(d->o, "intent_off", pf_get64(di->i_intent_off));
	out_num(d->o, "intent_len", pf_get64(di->i_intent_len));
	out_num(d->o, "intent_pos", pf_get64(di->i_intent_pos));
}

void dump_inode_fields(struct dump *d, const struct pf_d_inode *di)
{
	uint32_t mode = pf_get32(di->i_mode);
	uint64_t rdev = pf_get64(di->i_rdev);
	struct out *o = d->o;

	out_num(o, "ino", pf_get64(di->i_ino));
	out_num(o, "generation", pf_get32(di->i_gen));
	out_text(o, "type", "%s", dump_type_name(mode));
	out_text(o, "mode", "%04" PRIo32, mode & 07777);
	out_num(o, "uid", pf_get32(di->i_uid));
	out_num(o, "gid", pf_get32(di->i_gid));
	out_num(o, "links", pf_get32(di->i_nlink));
	flag_names(d, pf_get32(di->i_flags));
	out_num(o, "size", pf_get64(di->i_size));
	out_num(o, "blocks", pf_get64(di->i_nblk));
	out_time(o, "atime", pf_get64(di->i_atime), pf_get32(di->i_atime_ns));
	out_time(o, "mtime", pf_get64(di->i_mtime), pf_get32(di->i_mtime_ns));
	out_time(o, "ctime", pf_get64(di->i_ctime), pf_get32(di->i_ctime_ns));
	out_time(o, "btime", pf_get64(di->i_btime), pf_get32(di->i_btime_ns));
	if (S_ISCHR(mode) || S_ISBLK(mode) || rdev != 0)
		out_text(o, "rdev", "%u:%u", major((dev_t)rdev), minor((dev_t)rdev));
	if (S_ISDIR(mode) || pf_get64(di->i_parent) != 0 || pf_get64(di->i_nent) != 0) {
		out_num(o, "parent", pf_get64(di->i_parent));
		out_num(o, "entries", pf_get64(di->i_nent));
	}
	out_num(o, "project", pf_get32(di->i_projid));
	intent(d, di);
	if (S_ISLNK(mode) && pf_get64(di->i_size) <= PF_SYMLINK_INLINE)
		out_name(o, "target", di->i_symlink, strnlen((const char *)di->i_symlink, sizeof di->i_symlink));
}

/* ---- trees ---- */

static const struct out_col node_col[] = { { "block", 10 }, { "level", 5 }, { "key", 20 }, { "records", 7 },
					   { "state", -1 } };
static const struct out_col rec_col[] = { { "key", 20 }, { "block", 10 }, { "blocks", 10 }, { "state", -1 } };

static void node_row(struct dump_walk *w, const struct dump_rec *r, const struct pf_d_hdr *h, const char *why)
{
	struct dump *d = w->d;

	out_row(d->o);
	out_num(d->o, "block", r->dblk);
	out_num(d->o, "level", r->level - 1);
	out_num(d->o, "key", r->key);
	out_num(d->o, "records", h != NULL ? pf_get16(h->h_count) : 0);
	out_text(d->o, "state", "%s", why != NULL ? why : "sound");
	out_row_end(d->o);
}

static bool no_row(struct dump_walk *w, const struct dump_rec *r)
{
	(void)w;
	(void)r;
	return true;
}

static bool rec_row(struct dump_walk *w, const struct dump_rec *r)
{
	struct dump *d = w->d;
	const char *state = r->flags & PF_REC_UNWRITTEN ? "unwritten" : "written";

	/* Bad blocks may be anywhere on the device. */
	if (w->owner == PF_INO_BAD ? !pf_range_ok(r->dblk, r->len, d->fs.nblk) :
				     !pf_data_range_ok(&d->fs, w->owner, r->dblk, r->len)) {
		state = "outside the data area";
		w->bad++;
	}
	out_row(d->o);
	out_num(d->o, "key", r->key);
	out_num(d->o, "block", r->dblk);
	out_num(d->o, "blocks", r->len);
	out_text(d->o, "state", "%s", state);
	out_row_end(d->o);
	return true;
}

/* Index nodes first, then the records: two walks, so that each is a table of its own. */
static void tree(struct dump *d, uint64_t ino, const struct pf_d_inode *di)
{
	struct dump_walk w = { .d = d, .owner = ino, .hi = UINT64_MAX };

	out_num(d->o, "tree_level", pf_get16(di->i_root.t_level));
	out_num(d->o, "tree_records", pf_get16(di->i_root.t_count));
	if (pf_get16(di->i_root.t_level) > 0) {
		w.rec = no_row;
		w.node = node_row;
		out_table(d->o, "nodes", node_col, PF_ARRAY_LEN(node_col));
		dump_walk_root(&w, &di->i_root);
		out_table_end(d->o);
		w.node = NULL;
		w.bad = 0;
	}
	w.rec = rec_row;
	out_table(d->o, "extents", rec_col, PF_ARRAY_LEN(rec_col));
	dump_walk_root(&w, &di->i_root);
	out_table_end(d->o);
	if (w.bad != 0)
		dump_fault(d, "%u nodes or records of the tree are damaged", w.bad);
}

/* ---- attributes ---- */

void dump_xleaf_entries(struct dump *d, const uint8_t *leaf)
{
	static const struct out_col col[] = { { "key", 18 }, { "bytes", 6 }, { "runs", 4 }, { "name", -1 } };
	const unsigned int name_off = offsetof(struct pf_d_xent, xe_name);

	out_table(d->o, "attributes", col, PF_ARRAY_LEN(col));
	for (unsigned int off = sizeof(struct pf_d_hdr); off + sizeof(struct pf_d_xent) <= PF_BLK_SIZE;) {
		const struct pf_d_xent *xe = (const void *)(leaf + off);
		unsigned int reclen = pf_get16(xe->xe_reclen);

		if (reclen < sizeof *xe || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off)
			break;
		off += reclen;
		if (xe->xe_namelen == 0 || name_off + xe->xe_namelen > reclen)
			continue;
		out_row(d->o);
		out_hex(d->o, "key", pf_get64(xe->xe_key));
		out_num(d->o, "bytes", pf_get32(xe->xe_vlen));
		out_num(d->o, "runs", xe->xe_nrun);
		out_name(d->o, "name", xe->xe_name, xe->xe_namelen);
		out_row_end(d->o);
	}
	out_table_end(d->o);
}

static bool xleaf_rec(struct dump_walk *w, const struct dump_rec *r)
{
	_Alignas(struct pf_d_hdr) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_hdr *h = (const void *)buf;
	struct dump *d = w->d;

	out_begin(d->o, "", "attribute leaf, block %" PRIu64, r->dblk);
	out_num(d->o, "block", r->dblk);
	if (!dump_block(d, r->dblk, buf)) {
		dump_fault(d, "no such block");
	} else {
		const char *why = dump_object(d, PF_MD_XATTR, r->dblk, w->owner, buf);

		if (why != NULL)
			dump_fault(d, "%s", why);
		if (pf_get32(h->h_magic) == PF_MAGIC_XATTR)
			dump_xleaf_entries(d, buf);
	}
	out_end(d->o);
	return true;
}

static void attributes(struct dump *d, uint64_t ino, const struct pf_d_inode *di)
{
	struct dump_walk w = { .d = d, .owner = ino, .hi = UINT64_MAX, .rec = xleaf_rec };

	if (pf_get16(di->i_xroot.x_count) == 0)
		return;
	out_list(d->o, "attribute_leaves");
	dump_walk_xroot(&w, &di->i_xroot);
	out_list_end(d->o);
	if (w.bad != 0)
		dump_fault(d, "%u nodes of the attributes' tree are damaged", w.bad);
}

/* ---- the whole ---- */

static bool has_tree(const struct pf_d_inode *di)
{
	uint32_t mode = pf_get32(di->i_mode);

	return S_ISREG(mode) || S_ISDIR(mode) || (S_ISLNK(mode) && pf_get64(di->i_size) > PF_SYMLINK_INLINE);
}

/* -1: the cluster's header cannot be believed. */
static int slot_used(struct dump *d, uint64_t ino, uint64_t doff)
{
	_Alignas(struct pf_d_iclu) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_iclu *c = (const void *)buf;
	uint64_t slot = ino % PF_ICLU_SLOTS;

	if (dump_object(d, PF_MD_ICLU, doff / PF_BLK_SIZE - slot / 8, ino >> PF_ICLU_SHIFT, buf) != NULL)
		return -1;
	return c->c_used[slot / 8] >> (slot % 8) & 1;
}

int dump_inode(struct dump *d, uint64_t ino)
{
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;
	int used;

	if (!dump_find_inode(d, ino, &di, &doff, &why))
		return DUMP_FAILED;
	used = slot_used(d, ino, doff);
	out_begin(d->o, "inode", "inode %" PRIu64 ", block %" PRIu64 ", byte %" PRIu64 " of it", ino,
		  doff / PF_BLK_SIZE, doff % PF_BLK_SIZE);
	out_num(d->o, "byte", doff);
	out_text(d->o, "slot", "%s", used < 0 ? "unknown: the cluster's header is damaged" : used ? "in use" : "free");
	if (used < 0)
		dump_fault(d, "header of the cluster is damaged");
	/* What a free slot holds means nothing, but may be what is left of a file. */
	if (why != NULL && used != 0)
		dump_fault(d, "%s", why);
	if (pf_get32(di.i_magic) == PF_MAGIC_INODE) {
		dump_inode_fields(d, &di);
		if (used != 0 && has_tree(&di))
			tree(d, ino, &di);
		if (used != 0)
			attributes(d, ino, &di);
	}
	out_end(d->o);
	return DUMP_OK;
}
