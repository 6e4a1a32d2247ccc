/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.c - names of a directory: what an entry looks like; leaf.c keeps them.
 *
 * Owns nothing; the directory's lock is the caller's.
 */
#include "obj/dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "obj/leaf.h"

#define NAME_OFF offsetof(struct pf_d_dirent, de_name)

_Static_assert(offsetof(struct pf_d_dirent, de_key) == 0, "the key comes first");
_Static_assert(sizeof(struct pf_d_dirent) == PF_LEAF_REC_MIN, "the shortest entry");
_Static_assert(PF_DIR_LEAF_MAX == PF_LEAF_RECS, "one page for one leaf");

static unsigned int need_of(size_t namelen)
{
	return (unsigned int)((NAME_OFF + namelen + 7) & ~(size_t)7);
}

static unsigned int need(const void *rec)
{
	const struct pf_d_dirent *de = rec;

	return pf_get64(de->de_ino) == 0 ? 0 : need_of(de->de_namelen);
}

static const char *name_of(const void *rec, size_t *len)
{
	const struct pf_d_dirent *de = rec;

	*len = de->de_namelen;
	return (const char *)de + NAME_OFF;
}

static void grown(struct pf_inode *dir, int leaves)
{
	int64_t bytes = (int64_t)leaves * (int64_t)PF_BLK_SIZE;

	dir->sh->i_size = pf_put64(pf_get64(dir->sh->i_size) + (uint64_t)bytes);
}

static const struct pf_leaf_kind kind = {
	.md = PF_MD_DIR,
	.reclen = offsetof(struct pf_d_dirent, de_reclen),
	.need = need,
	.name = name_of,
	.tree = pf_inode_bm,
	.grown = grown,
};

static struct pf_names names_of(struct pf_inode *dir, struct pf_tx *tx)
{
	return (struct pf_names){ .ip = dir, .tx = tx, .kind = &kind };
}

static int find_spot(const struct pf_names *t, const char *name, struct pf_leaf_spot *spot)
{
	int err = pf_leaf_search(t, name, strlen(name), spot);

	return err != 0 ? err : spot->off == 0 ? -ENOENT : 0;
}

static struct pf_dirent dirent_of(const struct pf_d_dirent *de)
{
	return (struct pf_dirent){ .key = pf_get64(de->de_key), .ino = pf_get64(de->de_ino), .type = de->de_type };
}

int pf_dir_find(struct pf_inode *dir, struct pf_tx *tx, const char *name, struct pf_dirent *out)
{
	const struct pf_names t = names_of(dir, tx);
	struct pf_leaf_spot spot;
	const void *rec;
	int err;

	err = find_spot(&t, name, &spot);
	if (err == 0)
		err = pf_leaf_peek(&t, &spot, &rec);
	if (err == 0) {
		*out = dirent_of(rec);
		out->off = (uint16_t)spot.off;
	} else if (err == -ENOENT) {
		*out = (struct pf_dirent){ .key = 0 };
		if (pf_leaf_key(&spot, &out->key) != 0)
			out->key = 0;
	}
	return err;
}

int pf_dir_add_seen(struct pf_tx *tx, struct pf_inode *dir, const char *name, const struct pf_dirent *seen,
		    uint64_t ino, uint8_t type)
{
	const struct pf_names t = names_of(dir, tx);
	const size_t len = strlen(name);
	union { struct pf_d_dirent de; uint8_t bytes[NAME_OFF + PF_NAME_MAX + 8]; } rec;
	int err;

	assert(dir->sh != NULL && len >= 1 && len <= PF_NAME_MAX);
	if (seen->key == 0)
		return -ENOSPC;
	memset(&rec, 0, sizeof rec);
	rec.de.de_key = pf_put64(seen->key);
	rec.de.de_ino = pf_put64(ino);
	rec.de.de_type = type;
	rec.de.de_namelen = (uint8_t)len;
	memcpy(rec.bytes + NAME_OFF, name, len);
	err = pf_leaf_add(&t, &rec, need_of(len));
	if (err == 0)
		dir->sh->i_nent = pf_put64(pf_get64(dir->sh->i_nent) + 1);
	return err;
}

int pf_dir_add(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type)
{
	struct pf_dirent seen;
	int err = pf_dir_find(dir, tx, name, &seen);

	if (err != -ENOENT)
		return err == 0 ? -EEXIST : err;
	return pf_dir_add_seen(tx, dir, name, &seen, ino, type);
}

static int del_at(const struct pf_names *t, const struct pf_leaf_spot *spot)
{
	int err = spot->off == 0 ? -ENOENT : pf_leaf_del(t, spot);

	assert(t->ip->sh != NULL);
	if (err == 0)
		t->ip->sh->i_nent = pf_put64(pf_get64(t->ip->sh->i_nent) - 1);
	return err;
}

int pf_dir_del_seen(struct pf_tx *tx, struct pf_inode *dir, const char *name, const struct pf_dirent *seen)
{
	const struct pf_names t = names_of(dir, tx);
	struct pf_leaf_spot spot;
	int err = pf_leaf_again(&t, name, strlen(name), seen->key, seen->off, &spot);

	return err != 0 ? err : del_at(&t, &spot);
}

int pf_dir_del(struct pf_tx *tx, struct pf_inode *dir, const char *name)
{
	const struct pf_names t = names_of(dir, tx);
	struct pf_leaf_spot spot;
	int err = pf_leaf_search(&t, name, strlen(name), &spot);

	return err != 0 ? err : del_at(&t, &spot);
}

int pf_dir_set(struct pf_tx *tx, struct pf_inode *dir, const char *name, uint64_t ino, uint8_t type)
{
	const struct pf_names t = names_of(dir, tx);
	struct pf_leaf_spot spot;
	struct pf_d_dirent *de;
	void *rec;
	int err;

	assert(dir->sh != NULL);
	err = find_spot(&t, name, &spot);
	if (err == 0)
		err = pf_leaf_edit(&t, &spot, &rec);
	if (err != 0)
		return err;
	de = rec;
	de->de_ino = pf_put64(ino);
	de->de_type = type;
	return 0;
}

/* ---- read ---- */

static void copy_out(struct pf_dir_page *page, const struct pf_leaf_sorted *s, uint64_t after)
{
	size_t used = 0;

	for (unsigned int i = 0; i < s->n; i++) {
		const struct pf_d_dirent *de = s->rec[i];

		if (pf_get64(de->de_key) <= after)
			continue;
		page->ent[page->n].de = dirent_of(de);
		page->ent[page->n].name = (uint16_t)used;
		memcpy(page->names + used, (const char *)de + NAME_OFF, de->de_namelen);
		used += de->de_namelen;
		page->names[used++] = '\0';
		page->n++;
	}
}

int pf_dir_read(struct pf_inode *dir, uint64_t after, struct pf_dir_page *page)
{
	const struct pf_names t = names_of(dir, NULL);
	struct pf_leaf_sorted *s = malloc(sizeof *s);
	int err;

	if (s == NULL)
		return -ENOMEM;
	page->n = 0;
	err = pf_leaf_read(&t, after, s);
	if (err == 0)
		copy_out(page, s, after);
	free(s);
	return err;
}
