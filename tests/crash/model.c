/* SPDX-License-Identifier: BSD-3-Clause */
/* model.c - the naive filesystem: names, nodes, pages. judge.c compares it. Owns its memory; one thread. */
#include "crash/model_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

uint8_t wl_byte(uint32_t tag, uint64_t off)
{
	uint64_t h = (off + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (tag + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);

	return (uint8_t)(h >> 40) | 1;
}

static void *must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

char *wl_target(const struct wl_op *op)
{
	uint64_t len = op->b[0] == '@' ? strtoull(op->b + 1, NULL, 10) : 0;
	char *s = must(op->b[0] == '@' ? malloc(len + 1) : strdup(op->b));

	for (uint64_t i = 0; i < len; i++)
		s[i] = (char)('a' + wl_byte(op->tag, i) % 26);
	if (op->b[0] == '@')
		s[len] = '\0';
	return s;
}

/* ---- pages ---- */

static void page_put(struct model_page *p)
{
	if (p != NULL && --p->refs == 0)
		free(p);
}

/* The page's bytes, to be changed by this model alone. */
static uint8_t *page_own(struct model_cell *c)
{
	struct model_page *p = c->p;

	if (p != NULL && p->refs == 1)
		return p->b;
	c->p = must(calloc(1, sizeof *p));
	c->p->refs = 1;
	if (p != NULL)
		memcpy(c->p->b, p->b, PAGE);
	page_put(p);
	return c->p->b;
}

static struct model_cell *cell(struct model_node *n, uint64_t page)
{
	if (page >= n->ncell) {
		uint64_t room = page + 16;

		n->cell = must(realloc(n->cell, room * sizeof *n->cell));
		memset(n->cell + n->ncell, 0, (room - n->ncell) * sizeof *n->cell);
		n->ncell = room;
	}
	return &n->cell[page];
}

static void cell_clear(struct model_cell *c, enum model_state state)
{
	page_put(c->p);
	*c = (struct model_cell){ .state = state };
}

/* ---- whole models ---- */

static int node_new(struct model *m, mode_t mode)
{
	int i = 0;

	while (i < m->nnode && m->node[i].used)
		i++;
	if (i == m->nnode)
		m->node = must(realloc(m->node, (size_t)++m->nnode * sizeof *m->node));
	m->node[i] = (struct model_node){ .used = true, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1 };
	return i;
}

static void node_free(struct model_node *n)
{
	for (uint64_t i = 0; i < n->ncell; i++)
		page_put(n->cell[i].p);
	free(n->cell);
	free(n->target);
	*n = (struct model_node){ 0 };
}

struct model *model_new(void)
{
	struct model *m = must(calloc(1, sizeof *m));

	(void)node_new(m, S_IFDIR | 0755);
	return m;
}

struct model *model_copy(const struct model *from)
{
	struct model *m = must(calloc(1, sizeof *m));

	*m = *from;
	m->node = must(malloc((size_t)m->nnode * sizeof *m->node));
	memcpy(m->node, from->node, (size_t)m->nnode * sizeof *m->node);
	m->name = must(malloc(((size_t)m->nname + 1) * sizeof *m->name));
	memcpy(m->name, from->name, (size_t)m->nname * sizeof *m->name);
	m->room = m->nname + 1;
	for (int i = 0; i < m->nnode; i++) {
		struct model_node *n = &m->node[i];

		if (n->target != NULL)
			n->target = must(strdup(n->target));
		if (n->ncell != 0) {
			n->cell = must(malloc(n->ncell * sizeof *n->cell));
			memcpy(n->cell, from->node[i].cell, n->ncell * sizeof *n->cell);
		}
		for (uint64_t k = 0; k < n->ncell; k++)
			if (n->cell[k].p != NULL)
				n->cell[k].p->refs++;
	}
	return m;
}

void model_free(struct model *m)
{
	if (m == NULL)
		return;
	for (int i = 0; i < m->nnode; i++)
		node_free(&m->node[i]);
	free(m->node);
	free(m->name);
	free(m);
}

/* ---- names ---- */

static int find_name(const struct model *m, int dir, const char *name, size_t len)
{
	for (int i = 0; i < m->nname; i++)
		if (m->name[i].dir == dir && strncmp(m->name[i].name, name, len) == 0 && m->name[i].name[len] == '\0')
			return i;
	return -1;
}

/* The directory of @path and its last name; *at is the name's index, or -1. False: there is no such directory. */
static bool resolve(const struct model *m, const char *path, int *dir, char name[64], int *at)
{
	*dir = 0;
	for (;;) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		*at = find_name(m, *dir, path, n);
		if (path[n] == '\0') {
			(void)snprintf(name, 64, "%s", path);
			return S_ISDIR(m->node[*dir].mode);
		}
		if (*at < 0)
			return false;
		*dir = m->name[*at].node;
		path += n;
	}
}

static int find_node(const struct model *m, const char *path)
{
	char name[64];
	int dir, at;

	if (strcmp(path, "/") == 0)
		return 0;
	return resolve(m, path, &dir, name, &at) && at >= 0 ? m->name[at].node : -1;
}

static void name_add(struct model *m, int dir, const char *name, int node)
{
	if (m->nname == m->room) {
		m->room = m->room ? 2 * m->room : 32;
		m->name = must(realloc(m->name, (size_t)m->room * sizeof *m->name));
	}
	m->name[m->nname] = (struct model_name){ .dir = dir, .node = node };
	(void)snprintf(m->name[m->nname++].name, sizeof m->name[0].name, "%s", name);
	if (S_ISDIR(m->node[node].mode))
		m->node[dir].nlink++;
}

static void name_del(struct model *m, int at)
{
	if (S_ISDIR(m->node[m->name[at].node].mode))
		m->node[m->name[at].dir].nlink--;
	m->name[at] = m->name[--m->nname];
}

/* One link less; a node without any is nobody's business any more. */
static void unlink_node(struct model *m, int node)
{
	struct model_node *n = &m->node[node];

	n->nlink -= S_ISDIR(n->mode) ? 2 : 1;
	if (n->nlink == 0)
		node_free(n);
}

static bool is_empty(const struct model *m, int dir)
{
	for (int i = 0; i < m->nname; i++)
		if (m->name[i].dir == dir)
			return false;
	return true;
}

/* Is directory @node @dir or above it? */
static bool is_above(const struct model *m, int node, int dir)
{
	while (dir != 0 && dir != node) {
		int i = 0;

		while (m->name[i].node != dir)	/* a directory has one name */
			i++;
		dir = m->name[i].dir;
	}
	return dir == node;
}

/* ---- operations on names ---- */

static int64_t make(struct model *m, const struct wl_op *op, mode_t mode)
{
	char name[64];
	int dir, at, node;

	if (!resolve(m, op->a, &dir, name, &at))
		return -ENOENT;
	if (at >= 0)
		return -EEXIST;
	node = node_new(m, mode);
	if (S_ISLNK(mode)) {
		m->node[node].target = wl_target(op);
		m->node[node].size = strlen(m->node[node].target);
	} else if (S_ISCHR(mode)) {
		m->node[node].rdev = (dev_t)op->y;
	}
	name_add(m, dir, name, node);
	return 0;
}

static int64_t do_link(struct model *m, const struct wl_op *op)
{
	int node = find_node(m, op->a), dir, at;
	char name[64];

	if (node < 0 || !resolve(m, op->b, &dir, name, &at))
		return -ENOENT;
	if (S_ISDIR(m->node[node].mode))
		return -EPERM;
	if (at >= 0)
		return -EEXIST;
	name_add(m, dir, name, node);
	m->node[node].nlink++;
	return 0;
}

static int64_t do_remove(struct model *m, const struct wl_op *op, bool dir_wanted)
{
	int dir, at, node;
	char name[64];

	if (!resolve(m, op->a, &dir, name, &at) || at < 0)
		return -ENOENT;
	node = m->name[at].node;
	if (S_ISDIR(m->node[node].mode) != dir_wanted)
		return dir_wanted ? -ENOTDIR : -EISDIR;
	if (dir_wanted && !is_empty(m, node))
		return -ENOTEMPTY;
	name_del(m, at);
	unlink_node(m, node);
	return 0;
}

static int64_t do_rename(struct model *m, const struct wl_op *op)
{
	bool exchange = op->kind == WL_EXCHANGE;
	int odir, ndir, oat, nat, onode, nnode;
	char oname[64], nname[64];

	if (!resolve(m, op->a, &odir, oname, &oat) || oat < 0 || !resolve(m, op->b, &ndir, nname, &nat))
		return -ENOENT;
	onode = m->name[oat].node;
	nnode = nat < 0 ? -1 : m->name[nat].node;
	if (S_ISDIR(m->node[onode].mode) && is_above(m, onode, ndir))
		return -EINVAL;
	if (exchange) {
		if (nnode < 0)
			return -ENOENT;
		if (S_ISDIR(m->node[nnode].mode) && is_above(m, nnode, odir))
			return -EINVAL;
		if (onode == nnode)
			return 0;
		name_del(m, oat);
		(void)resolve(m, op->b, &ndir, nname, &nat);
		name_del(m, nat);
		name_add(m, odir, oname, nnode);
		name_add(m, ndir, nname, onode);
		return 0;
	}
	if (onode == nnode)
		return 0;
	if (nnode >= 0) {
		if (S_ISDIR(m->node[nnode].mode) != S_ISDIR(m->node[onode].mode))
			return S_ISDIR(m->node[nnode].mode) ? -EISDIR : -ENOTDIR;
		if (S_ISDIR(m->node[nnode].mode) && !is_empty(m, nnode))
			return -ENOTEMPTY;
	}
	name_del(m, oat);
	if (nnode >= 0) {
		(void)resolve(m, op->b, &ndir, nname, &nat);
		name_del(m, nat);
		unlink_node(m, nnode);
	}
	name_add(m, ndir, nname, onode);
	if (op->kind == WL_WHITEOUT)
		name_add(m, odir, oname, node_new(m, S_IFCHR));
	return 0;
}

/* With a name at the end. */
static int64_t do_tmpfile(struct model *m, const struct wl_op *op)
{
	struct wl_op as = *op;
	int node = find_node(m, op->a);

	if (node < 0 || !S_ISDIR(m->node[node].mode))
		return -ENOENT;
	(void)snprintf(as.a, sizeof as.a, "%s", op->b);
	return make(m, &as, S_IFREG | 0644);
}

/* ---- operations on files ---- */

static struct model_node *file_of(struct model *m, const char *path, int64_t *err)
{
	int node = find_node(m, path);

	*err = node < 0 ? -ENOENT : S_ISREG(m->node[node].mode) ? 0 : -EISDIR;
	return *err ? NULL : &m->node[node];
}

static void put(struct model_node *n, uint64_t off, uint64_t len, uint8_t (*byte)(const void *arg, uint64_t off),
		const void *arg)
{
	for (uint64_t at = off; at < off + len;) {
		uint64_t stop = (at / PAGE + 1) * PAGE;
		struct model_cell *c = cell(n, at / PAGE);
		uint8_t *b = page_own(c);

		for (c->state = MODEL_WRITTEN; at < stop && at < off + len; at++)
			b[at % PAGE] = byte(arg, at);
	}
	if (n->size < off + len)
		n->size = off + len;
}

static uint8_t tagged(const void *arg, uint64_t off)
{
	return wl_byte(*(const uint32_t *)arg, off);
}

static uint8_t byte_at(const struct model_node *n, uint64_t off)
{
	return off / PAGE < n->ncell && n->cell[off / PAGE].p != NULL ? n->cell[off / PAGE].p->b[off % PAGE] : 0;
}

struct from { const struct model_node *n; uint64_t soff, doff; };

static uint8_t copied(const void *arg, uint64_t off)
{
	const struct from *f = arg;

	return byte_at(f->n, f->soff + (off - f->doff));
}

/* Zeros in [off, off + len), as far as there are bytes; whole pages inside become @whole. */
static void clear(struct model_node *n, uint64_t off, uint64_t len, enum model_state whole)
{
	for (uint64_t at = off; at < off + len;) {
		uint64_t stop = (at / PAGE + 1) * PAGE;

		if (stop > off + len)
			stop = off + len;
		if (stop - at == PAGE) {
			struct model_cell *c = at / PAGE < n->ncell || whole != MODEL_HOLE ? cell(n, at / PAGE) : NULL;

			if (c != NULL)
				cell_clear(c, whole);
		} else if (at / PAGE < n->ncell && n->cell[at / PAGE].p != NULL) {
			memset(page_own(cell(n, at / PAGE)) + at % PAGE, 0, stop - at);
		}
		at = stop;
	}
}

static int64_t do_truncate(struct model_node *n, uint64_t size)
{
	if (size < n->size) {
		uint64_t end = (size + PAGE - 1) / PAGE;

		clear(n, size, end * PAGE - size, MODEL_HOLE);
		for (uint64_t i = end; i < n->ncell; i++)
			cell_clear(&n->cell[i], MODEL_HOLE);
	}
	n->size = size;
	return 0;
}

static int64_t do_falloc(struct model_node *n, const struct wl_op *op)
{
	uint64_t end = op->x + op->y;

	if (op->y == 0)
		return -EINVAL;
	if (op->kind == WL_PUNCH) {
		clear(n, op->x, op->y, MODEL_HOLE);
		return 0;
	}
	if (op->kind == WL_ZERO || op->kind == WL_ZEROKEEP)
		clear(n, op->x, op->y, MODEL_UNWRITTEN);
	for (uint64_t i = op->x / PAGE; i * PAGE < end; i++)
		if (cell(n, i)->state == MODEL_HOLE)
			n->cell[i].state = MODEL_UNWRITTEN;
	if ((op->kind == WL_ZERO || op->kind == WL_FALLOC || op->kind == WL_UNSHARE) && end > n->size)
		n->size = end;
	return 0;
}

static int64_t do_copy(struct model *m, const struct wl_op *op)
{
	int64_t err;
	struct model_node *src = file_of(m, op->a, &err), *dst;
	uint64_t len = op->z;
	struct model_node was;

	if (err != 0)
		return err;
	dst = file_of(m, op->b, &err);
	if (err != 0)
		return err;
	if (src == dst && op->x < op->y + len && op->y < op->x + len)
		return -EINVAL;
	if (op->x >= src->size)
		return 0;
	if (len > src->size - op->x)
		len = src->size - op->x;
	was = *src;
	put(dst, op->y, len, copied, &(struct from){ src == dst ? dst : &was, op->x, op->y });
	return (int64_t)len;
}

/* Pages that move: cells with them, what lies behind the end too. */
static int64_t do_shift(struct model_node *n, const struct wl_op *op)
{
	uint64_t at = op->x / PAGE, count = op->y / PAGE;

	if (op->y == 0 || (op->x | op->y) % PAGE != 0 || op->x >= n->size)
		return -EINVAL;
	if (op->kind == WL_COLLAPSE) {
		if (op->x + op->y >= n->size)
			return -EINVAL;
		for (uint64_t i = at; i < n->ncell; i++) {
			struct model_cell *from = i + count < n->ncell ? &n->cell[i + count] : NULL;

			page_put(n->cell[i].p);
			n->cell[i] = from != NULL ? *from : (struct model_cell){ 0 };
			if (from != NULL)
				from->p = NULL;
		}
		n->size -= op->y;
		return 0;
	}
	(void)cell(n, n->ncell + count);
	for (uint64_t i = n->ncell; i-- > at + count;) {
		page_put(n->cell[i].p);
		n->cell[i] = n->cell[i - count];
		n->cell[i - count] = (struct model_cell){ 0 };
	}
	n->size += op->y;
	return 0;
}

/* Pages that a window is given to store to. */
static int64_t do_fault(struct model_node *n, const struct wl_op *op)
{
	uint64_t end = (op->x + op->y + PAGE - 1) / PAGE;

	if (end > (n->size + PAGE - 1) / PAGE)
		return -EFAULT;
	for (uint64_t i = op->x / PAGE; i < end; i++)
		cell(n, i)->state = MODEL_WRITTEN;
	return 0;
}

/* Stores through a mapping: into what is written, below the end. */
static int64_t do_store(struct model_node *n, const struct wl_op *op)
{
	for (uint64_t at = op->x; at < op->x + op->y && at < n->size; at++)
		if (at / PAGE < n->ncell && n->cell[at / PAGE].state == MODEL_WRITTEN)
			page_own(&n->cell[at / PAGE])[at % PAGE] = wl_byte(op->tag, at);
	return 0;
}

static int64_t on_file(struct model *m, const struct wl_op *op)
{
	int64_t err;
	struct model_node *n = file_of(m, op->a, &err);

	if (err != 0)
		return err;
	switch ((int)op->kind) {
	case WL_WRITE:
		put(n, op->x, op->y, tagged, &op->tag);
		return (int64_t)op->y;
	case WL_TRUNCATE:
		return do_truncate(n, op->x);
	case WL_STORE:
		return do_store(n, op);
	case WL_FAULT:
		return do_fault(n, op);
	case WL_COLLAPSE:
	case WL_INSERT:
		return do_shift(n, op);
	default:
		return do_falloc(n, op);
	}
}

static int64_t do_xattr(struct model_node *n, const struct wl_op *op)
{
	struct model_xattr *x = NULL;

	for (int i = 0; i < XATTRS; i++)
		if (strcmp(n->xattr[i].name, op->b) == 0)
			x = &n->xattr[i];
	if (op->kind == WL_RMXATTR) {
		if (x == NULL)
			return -ENODATA;
		*x = (struct model_xattr){ 0 };
		return 0;
	}
	for (int i = 0; i < XATTRS && x == NULL; i++)
		if (n->xattr[i].name[0] == '\0')
			x = &n->xattr[i];
	if (x == NULL)
		abort();		/* the script knows too many names */
	*x = (struct model_xattr){ .len = op->x, .tag = op->tag };
	(void)snprintf(x->name, sizeof x->name, "%s", op->b);
	return 0;
}

static int64_t on_attr(struct model *m, const struct wl_op *op)
{
	int node = find_node(m, op->a);
	struct model_node *n;

	if (node < 0)
		return -ENOENT;
	n = &m->node[node];
	switch ((int)op->kind) {
	case WL_CHMOD:
		n->mode = (n->mode & S_IFMT) | (mode_t)op->x;
		break;
	case WL_CHOWN:
		n->uid = (uid_t)op->x;
		n->gid = (gid_t)op->y;
		break;
	case WL_SETXATTR:
	case WL_RMXATTR:
		return do_xattr(n, op);
	case WL_UTIMES:
		break;			/* later changes set times too: not followed */
	}
	return 0;
}

/* Many at once, to set a stage. */
static int64_t many(struct model *m, const struct wl_op *op)
{
	struct wl_op one = *op;
	int64_t err = 0;

	if (op->kind == WL_SPARSE) {
		one.kind = WL_WRITE;
		one.y = PAGE;
		for (uint64_t i = 0; err >= 0 && i < op->x; i++) {
			one.x = 2 * i * PAGE;
			err = on_file(m, &one);
		}
		return err < 0 ? err : 0;
	}
	for (uint64_t i = 0; err == 0 && i < op->x; i++) {
		(void)snprintf(one.a, sizeof one.a, WL_NAMES_FORMAT, op->a, (unsigned int)i);
		err = make(m, &one, S_IFREG | 0644);
	}
	return err;
}

int64_t model_apply(struct model *m, const struct wl_op *op)
{
	switch (op->kind) {
	case WL_CREATE:
		return make(m, op, S_IFREG | 0644);
	case WL_MKDIR:
		return make(m, op, S_IFDIR | 0755);
	case WL_SYMLINK:
		return make(m, op, S_IFLNK | 0777);
	case WL_MKNOD:
		return make(m, op, (mode_t)op->x);
	case WL_LINK:
		return do_link(m, op);
	case WL_UNLINK:
		return do_remove(m, op, false);
	case WL_RMDIR:
		return do_remove(m, op, true);
	case WL_RENAME:
	case WL_EXCHANGE:
	case WL_WHITEOUT:
		return do_rename(m, op);
	case WL_TMPFILE:
		return do_tmpfile(m, op);
	case WL_WRITE:
	case WL_TRUNCATE:
	case WL_FALLOC:
	case WL_KEEP:
	case WL_PUNCH:
	case WL_ZERO:
	case WL_ZEROKEEP:
	case WL_STORE:
	case WL_FAULT:
	case WL_COLLAPSE:
	case WL_INSERT:
	case WL_UNSHARE:
		return on_file(m, op);
	case WL_COPY:
		return do_copy(m, op);
	case WL_CHMOD:
	case WL_CHOWN:
	case WL_UTIMES:
	case WL_SETXATTR:
	case WL_RMXATTR:
		return on_attr(m, op);
	case WL_HOLD:
		return find_node(m, op->a) < 0 ? -ENOENT : 0;
	case WL_NAMES:
	case WL_SPARSE:
		return many(m, op);
	case WL_DROP:
	case WL_REMOUNT:
	case WL_CLOCK:
	case WL_NR:
		break;
	}
	return 0;
}

const char *model_pick(const struct model *m, bool dir, uint64_t nth)
{
	static _Thread_local char path[256];
	int seen = 0, dirat;

	for (int i = 0; i < m->nname; i++)
		seen += dir ? S_ISDIR(m->node[m->name[i].node].mode) : S_ISREG(m->node[m->name[i].node].mode);
	if (seen == 0)
		return "";
	nth %= (uint64_t)seen;
	for (int i = 0; i < m->nname; i++) {
		const struct model_name *n = &m->name[i];
		char sub[256];

		if (!(dir ? S_ISDIR(m->node[n->node].mode) : S_ISREG(m->node[n->node].mode)) || nth-- != 0)
			continue;
		(void)snprintf(path, sizeof path, "/%s", n->name);
		for (dirat = n->dir; dirat != 0;) {
			int k = 0;

			while (m->name[k].node != dirat)
				k++;
			(void)snprintf(sub, sizeof sub, "/%.63s%.180s", m->name[k].name, path);
			(void)snprintf(path, sizeof path, "%s", sub);
			dirat = m->name[k].dir;
		}
		break;
	}
	return path;
}
