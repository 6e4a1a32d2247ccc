/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.c - shows a directory leaf by leaf, and follows a path through directories.
 *
 * Reads only. A path is looked for entry by entry and not by key, so that a name is found in a tree that is out of
 * order. Symbolic links are not followed.
 */
#include "pinfsdump/dump.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "base/siphash.h"
#include "lib/cli.h"

void dump_each_entry(struct dump *d, const uint8_t *leaf, dump_ent_fn fn, void *arg)
{
	const unsigned int name_off = offsetof(struct pf_d_dirent, de_name);

	for (unsigned int off = sizeof(struct pf_d_hdr); off + sizeof(struct pf_d_dirent) <= PF_BLK_SIZE;) {
		const struct pf_d_dirent *de = (const void *)(leaf + off);
		unsigned int reclen = pf_get16(de->de_reclen);

		if (reclen < sizeof *de || reclen % 8 != 0 || reclen > PF_BLK_SIZE - off)
			return;
		off += reclen;
		if (pf_get64(de->de_ino) == 0 || de->de_namelen == 0 || name_off + de->de_namelen > reclen)
			continue;
		if (!fn(d, de, arg))
			return;
	}
}

/* ---- a directory ---- */

struct listing {
	uint64_t low;		/* lowest key of the leaf */
	uint64_t entries, wrong;
};

static bool entry_row(struct dump *d, const struct pf_d_dirent *de, void *arg)
{
	uint64_t key = pf_get64(de->de_key);
	struct listing *l = arg;
	const char *state = "";

	/* Without a superblock there is no hash key. */
	if (!d->guessed && pf_name_key(d->fs.hash_key, (const char *)de->de_name, de->de_namelen) >> 8 != key >> 8)
		state = "  ! not the name's key";
	else if (key < l->low)
		state = "  ! not of this leaf";
	l->entries++;
	l->wrong += state[0] != '\0';
	out_row(d->o);
	out_hex(d->o, "key", key);
	out_num(d->o, "inode", pf_get64(de->de_ino));
	out_text(d->o, "type", "%s%s", dump_dtype_name(de->de_type), state);
	out_name(d->o, "name", de->de_name, de->de_namelen);
	out_row_end(d->o);
	return true;
}

static void entries(struct dump *d, const uint8_t *leaf, struct listing *l)
{
	static const struct out_col col[] = { { "key", 18 }, { "inode", 10 }, { "type", -16 }, { "name", -1 } };

	out_table(d->o, "entries", col, PF_ARRAY_LEN(col));
	dump_each_entry(d, leaf, entry_row, l);
	out_table_end(d->o);
	if (l->wrong != 0)
		dump_fault(d, "%" PRIu64 " entries with a wrong key", l->wrong);
}

void dump_leaf_entries(struct dump *d, const uint8_t *leaf)
{
	struct listing l = { 0 };

	entries(d, leaf, &l);
}

struct total { uint64_t leaves, entries; };

static bool leaf_rec(struct dump_walk *w, const struct dump_rec *r)
{
	_Alignas(struct pf_d_hdr) uint8_t buf[PF_BLK_SIZE];
	const struct pf_d_hdr *h = (const void *)buf;
	struct listing l = { .low = r->key };
	struct total *t = w->arg;
	struct dump *d = w->d;
	const char *why;

	t->leaves++;
	out_begin(d->o, "", "leaf, block %" PRIu64 ", keys from 0x%" PRIx64, r->dblk, r->key);
	out_num(d->o, "block", r->dblk);
	out_hex(d->o, "first_key", r->key);
	why = dump_object(d, PF_MD_DIR, r->dblk, w->owner, buf);
	if (why != NULL)
		dump_fault(d, "%s", why);
	if (r->dblk < d->fs.nblk && pf_get32(h->h_magic) == PF_MAGIC_DIR) {
		out_num(d->o, "count", pf_get16(h->h_count));
		out_num(d->o, "free", pf_get32(h->h_free));
		entries(d, buf, &l);
	}
	t->entries += l.entries;
	out_end(d->o);
	return true;
}

int dump_dir(struct dump *d, uint64_t ino)
{
	struct total t = { 0 };
	struct dump_walk w = { .d = d, .owner = ino, .hi = UINT64_MAX, .rec = leaf_rec, .arg = &t };
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;

	if (!dump_find_inode(d, ino, &di, &doff, &why))
		return DUMP_FAILED;
	if (why == NULL && !S_ISDIR(pf_get32(di.i_mode))) {
		cli_error("inode %" PRIu64 " is no directory but a %s", ino, dump_type_name(pf_get32(di.i_mode)));
		return DUMP_FAILED;
	}
	out_begin(d->o, "directory", "directory %" PRIu64, ino);
	out_num(d->o, "ino", ino);
	if (why != NULL)
		dump_fault(d, "inode: %s", why);
	out_num(d->o, "parent", pf_get64(di.i_parent));
	out_list(d->o, "leaves");
	dump_walk_root(&w, &di.i_root);
	out_list_end(d->o);
	if (w.bad != 0)
		dump_fault(d, "%u tree nodes are damaged", w.bad);
	out_num(d->o, "total_leaves", t.leaves);
	out_num(d->o, "total_entries", t.entries);
	if (why == NULL && w.bad == 0 && t.entries != pf_get64(di.i_nent))
		dump_fault(d, "the inode says %" PRIu64 " entries", pf_get64(di.i_nent));
	out_end(d->o);
	return DUMP_OK;
}

/* ---- a path ---- */

struct look {
	const char *name;
	size_t len;
	uint64_t ino;		/* 0: not found yet */
	uint8_t type;
	uint64_t dblk;		/* the leaf */
	uint64_t damaged;	/* leaves */
};

static bool same_name(struct dump *d, const struct pf_d_dirent *de, void *arg)
{
	struct look *k = arg;

	(void)d;
	if (de->de_namelen != k->len || memcmp(de->de_name, k->name, k->len) != 0)
		return true;
	k->ino = pf_get64(de->de_ino);
	k->type = de->de_type;
	return false;
}

static bool look_rec(struct dump_walk *w, const struct dump_rec *r)
{
	_Alignas(struct pf_d_hdr) uint8_t buf[PF_BLK_SIZE];
	struct look *k = w->arg;

	k->damaged += dump_object(w->d, PF_MD_DIR, r->dblk, w->owner, buf) != NULL;
	if (r->dblk < w->d->fs.nblk &&
	    pf_get32(((const struct pf_d_hdr *)(const void *)buf)->h_magic) == PF_MAGIC_DIR)
		dump_each_entry(w->d, buf, same_name, k);
	k->dblk = r->dblk;
	return k->ino == 0;
}

/* One step: the inode that @name has in directory @dir. 0: none, and it was said. */
static uint64_t step(struct dump *d, uint64_t dir, const char *name, size_t len, struct look *k)
{
	struct dump_walk w = { .d = d, .owner = dir, .hi = UINT64_MAX, .rec = look_rec, .arg = k };
	struct pf_d_inode di;
	const char *why;
	uint64_t doff;

	*k = (struct look){ .name = name, .len = len };
	if (!dump_find_inode(d, dir, &di, &doff, &why))
		return 0;
	if (why != NULL)
		dump_fault(d, "inode %" PRIu64 ": %s", dir, why);
	if (!S_ISDIR(pf_get32(di.i_mode))) {
		cli_error("inode %" PRIu64 " is no directory but a %s", dir, dump_type_name(pf_get32(di.i_mode)));
		return 0;
	}
	dump_walk_root(&w, &di.i_root);
	if (w.bad != 0 || k->damaged != 0)
		dump_fault(d, "directory %" PRIu64 ": %" PRIu64 " leaves and %u tree nodes are damaged", dir,
			   k->damaged, w.bad);
	if (k->ino == 0)
		cli_error("directory %" PRIu64 " has no entry \"%.*s\"", dir, (int)len, name);
	return k->ino;
}

int dump_path(struct dump *d, const char *path)
{
	static const struct out_col col[] = { { "inode", 10 }, { "leaf", 10 }, { "type", -16 }, { "name", -1 } };
	uint64_t ino = PF_INO_ROOT;
	struct look k;

	out_table(d->o, "path", col, PF_ARRAY_LEN(col));
	out_row(d->o);
	out_num(d->o, "inode", ino);
	out_num(d->o, "leaf", 0);
	out_text(d->o, "type", "directory");
	out_text(d->o, "name", "/");
	out_row_end(d->o);
	for (;;) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0)
			break;
		ino = step(d, ino, path, len, &k);
		if (ino == 0) {
			out_table_end(d->o);
			return DUMP_FAILED;
		}
		out_row(d->o);
		out_num(d->o, "inode", ino);
		out_num(d->o, "leaf", k.dblk);
		out_text(d->o, "type", "%s", dump_dtype_name(k.type));
		out_name(d->o, "name", path, len);
		out_row_end(d->o);
		path += len;
	}
	out_table_end(d->o);
	return dump_inode(d, ino);
}
