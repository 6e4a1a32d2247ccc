/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge.c - is a filesystem what the model says, or what FORMAT.md allows it to be in the middle of an operation?
 *
 * Names, types, modes, owners, links, sizes and every byte; which names are links to one file; nothing more than what
 * is expected. An operation that replaces bytes may be found half done:
 *
 *   bytes that were written already      old or new by the word of 8 bytes
 *   pages of holes, of unwritten space   old or new as a whole
 *   bytes behind the old end             new, as far as the size covers them
 *   whole pages of fallocate             all old or all new; new only if all the rest is
 *   copies                               done in pieces of any length, each like a write
 *
 * Everything else is as before, or as after. Owns nothing.
 */
#include "crash/model_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "op/op.h"

#define SEEN_MAX 4096

/* What one pass over a filesystem found. */
struct seen {
	struct seen_name { int dir; char name[64]; uint64_t ino; struct stat st; uint32_t gen; char *target; } *e;
	int n, room;
	const char *why;
};

struct listing { struct pf_fs *fs; struct seen *s; int dir; };

static _Thread_local char reason[320];

static const char *differs(const char *what, const char *name, uint64_t got, uint64_t want)
{
	(void)snprintf(reason, sizeof reason, "%s: %s is %llu, not %llu", name, what, (unsigned long long)got,
		       (unsigned long long)want);
	return reason;
}

static bool take(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next_cookie,
		 const struct pf_entry *entry)
{
	struct listing *l = arg;
	struct seen *s = l->s;

	(void)type;
	(void)next_cookie;
	(void)entry;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->e = realloc(s->e, (size_t)s->room * sizeof *s->e);
		if (s->e == NULL)
			abort();
	}
	s->e[s->n] = (struct seen_name){ .dir = l->dir, .ino = ino };
	(void)snprintf(s->e[s->n++].name, sizeof s->e[0].name, "%s", name);
	return s->n < SEEN_MAX;
}

/* The names breadth first; entry -1 is the root. */
static void look(struct pf_fs *fs, struct seen *s)
{
	for (int i = -1; i < s->n && s->why == NULL; i++) {
		struct listing l = { fs, s, i };
		struct seen_name *e = i < 0 ? NULL : &s->e[i];
		char target[4096];

		if (e != NULL && pf_op_getattr(fs, e->ino, &e->st, &e->gen) != 0) {
			s->why = "an entry without an inode";
		} else if (e != NULL && S_ISLNK(e->st.st_mode)) {
			if (pf_op_readlink(fs, e->ino, target, sizeof target) != 0)
				s->why = "a symbolic link cannot be read";
			else
				e->target = strdup(target);
		} else if (e == NULL || S_ISDIR(e->st.st_mode)) {
			if (pf_op_readdir(fs, e == NULL ? PF_INO_ROOT : e->ino, 0, false, take, &l) != 0)
				s->why = "a directory cannot be read";
		}
		if (s->n >= SEEN_MAX)
			s->why = "names without end";
	}
}

static void forget(struct seen *s)
{
	for (int i = 0; i < s->n; i++)
		free(s->e[i].target);
	free(s->e);
}

/* ---- bytes ---- */

static const uint8_t zeros[4096];

static const uint8_t *page_of(const struct model_node *n, uint64_t page)
{
	return page < n->ncell && n->cell[page].p != NULL ? n->cell[page].p->b : zeros;
}

static enum model_state state_of(const struct model_node *n, uint64_t page)
{
	return page < n->ncell ? n->cell[page].state : MODEL_HOLE;
}

/* A page of the file, zeros behind its end. */
static bool get_page(struct pf_fs *fs, uint64_t ino, uint64_t page, uint64_t size, uint8_t *buf)
{
	uint64_t len = size - page * PAGE < PAGE ? size - page * PAGE : PAGE, at = 0;
	static _Thread_local struct pf_rd rd;

	memset(buf, 0, PAGE);
	if (pf_op_read_begin(fs, ino, page * PAGE, len, &rd) != 0)
		return false;
	for (int i = 0; i < rd.n && at + rd.iov[i].iov_len <= PAGE; i++) {
		memcpy(buf + at, rd.iov[i].iov_base, rd.iov[i].iov_len);
		at += rd.iov[i].iov_len;
	}
	pf_op_read_end(fs, &rd);
	return at == len;
}

/* Files may have thousands of pages: read as much as goes in a call. */
static const char *same_bytes(struct pf_fs *fs, const struct seen_name *e, const struct model_node *n)
{
	static _Thread_local struct pf_rd rd;
	const char *why = NULL;

	for (uint64_t off = 0; off < n->size && why == NULL;) {
		uint64_t at = off, ask = n->size - off < 256 * PAGE ? n->size - off : 256 * PAGE;

		if (pf_op_read_begin(fs, e->ino, off, ask, &rd) != 0)
			return "a file cannot be read";
		for (int i = 0; i < rd.n && why == NULL; i++) {
			const uint8_t *got = rd.iov[i].iov_base;

			for (size_t done = 0; done < rd.iov[i].iov_len && why == NULL;) {
				size_t part = PAGE - at % PAGE;
				const uint8_t *want = page_of(n, at / PAGE) + at % PAGE;

				if (part > rd.iov[i].iov_len - done)
					part = rd.iov[i].iov_len - done;
				for (size_t k = 0; k < part && memcmp(got + done, want, part) != 0 && why == NULL; k++)
					if (got[done + k] != want[k])
						why = differs("a byte", e->name, got[done + k], want[k]);
				done += part;
				at += part;
			}
		}
		if (at == off)
			why = "a file cannot be read to its end";
		off = at;
		pf_op_read_end(fs, &rd);
	}
	return why;
}

/* @old led to @new by replacing bytes; which of that arrived? */
struct mix { const struct model_node *old, *new; const struct wl_op *op; bool pages_old, pages_new, rest_old; };

static bool is_fallocate(const struct wl_op *op)
{
	return op->kind == WL_PUNCH || op->kind == WL_ZERO || op->kind == WL_ZEROKEEP;
}

static bool by_units(const uint8_t *buf, const uint8_t *a, const uint8_t *b, uint64_t to, uint64_t unit)
{
	for (uint64_t i = 0; i < to;) {
		uint64_t stop = i + unit < to ? i + unit : to;

		if (memcmp(buf + i, a + i, stop - i) != 0 && memcmp(buf + i, b + i, stop - i) != 0)
			return false;
		i = stop;
	}
	return true;
}

static bool page_allowed(struct mix *m, uint64_t p, uint64_t size, const uint8_t *buf)
{
	const uint8_t *a = page_of(m->old, p), *b = page_of(m->new, p);
	uint64_t len = size - p * PAGE < PAGE ? size - p * PAGE : PAGE;
	uint64_t had = m->old->size <= p * PAGE ? 0 : m->old->size - p * PAGE < len ? m->old->size - p * PAGE : len;
	bool is_a = memcmp(buf, a, had) == 0, is_b = memcmp(buf, b, had) == 0;
	bool whole = m->op->x <= p * PAGE && m->op->x + m->op->y >= (p + 1) * PAGE;

	/* What the size has come to cover is there. */
	if (memcmp(buf + had, b + had, len - had) != 0)
		return false;
	if (is_a && is_b)
		return true;
	if (is_fallocate(m->op) && whole) {
		m->pages_old |= is_a;
		m->pages_new |= is_b;
		return is_a || is_b;
	}
	m->rest_old |= !is_b;
	if (m->op->kind == WL_COPY)
		return by_units(buf, a, b, had, 1);
	if (state_of(m->old, p) != MODEL_WRITTEN)
		return is_a || is_b;
	return by_units(buf, a, b, had, 8);
}

static const char *mixed_bytes(struct pf_fs *fs, const struct seen_name *e, struct mix *m)
{
	uint64_t size = (uint64_t)e->st.st_size;
	uint8_t buf[PAGE];

	if (size < m->old->size || size > m->new->size)
		return differs("the size", e->name, size, m->new->size);
	for (uint64_t p = 0; p * PAGE < size; p++) {
		if (!get_page(fs, e->ino, p, size, buf))
			return "a file cannot be read";
		if (!page_allowed(m, p, size, buf))
			return differs("neither old nor new: the first page that", e->name, p, UINT64_MAX);
	}
	if (m->pages_new && (m->pages_old || m->rest_old))
		return "fallocate is seen in a part of its pages";
	if (is_fallocate(m->op) && size != m->old->size && (m->pages_old || m->rest_old))
		return "fallocate's size came before its pages";
	return NULL;
}

/* ---- attributes ---- */

static const char *same_xattrs(struct pf_fs *fs, const struct seen_name *e, const struct model_node *n)
{
	static _Thread_local uint8_t value[65536];
	char list[4096];
	size_t len = 0;
	bool hidden;
	uint64_t want = 0, got = 0;

	if (pf_op_listxattr(fs, e->ino, true, list, sizeof list, &len, &hidden) != 0)
		return "attributes cannot be listed";
	for (size_t i = 0; i < len; i += strlen(list + i) + 1)
		got++;
	for (int i = 0; i < XATTRS; i++) {
		const struct model_xattr *x = &n->xattr[i];

		if (x->name[0] == '\0')
			continue;
		want++;
		if (pf_op_getxattr(fs, e->ino, x->name, value, sizeof value, &len) != 0)
			return "an attribute cannot be read";
		if (len != x->len)
			return differs("length of an attribute", e->name, len, x->len);
		for (uint64_t k = 0; k < len; k++)
			if (value[k] != wl_byte(x->tag, k))
				return differs("byte of an attribute", e->name, value[k], wl_byte(x->tag, k));
	}
	return got == want ? NULL : differs("number of attributes", e->name, got, want);
}

/* ---- the whole ---- */

static const char *same_attr(const struct seen_name *e, const struct model_node *n, bool size_too)
{
	/* Numbers count from 1; somebody's old bytes do not. */
	if (e->gen == 0 || e->gen > 10000)
		return differs("generation", e->name, e->gen, 1);
	if (e->st.st_mode != n->mode)
		return differs("mode", e->name, e->st.st_mode, n->mode);
	if (e->st.st_uid != n->uid || e->st.st_gid != n->gid)
		return differs("owner", e->name, e->st.st_uid, n->uid);
	if (e->st.st_nlink != n->nlink)
		return differs("link count", e->name, e->st.st_nlink, n->nlink);
	if (S_ISCHR(n->mode) && e->st.st_rdev != n->rdev)
		return differs("device", e->name, e->st.st_rdev, n->rdev);
	if (!S_ISDIR(n->mode) && size_too && (uint64_t)e->st.st_size != n->size)
		return differs("size", e->name, (uint64_t)e->st.st_size, n->size);
	if (S_ISLNK(n->mode) && (e->target == NULL || strcmp(e->target, n->target) != 0))
		return "target of a symbolic link";
	return NULL;
}

/* @mix: the file in the middle of a change, by its node in @m; -1 none. */
static const char *compare(struct pf_fs *fs, const struct seen *s, const struct model *m, int mixed, struct mix *mix)
{
	uint64_t *ino_of = calloc((size_t)m->nnode, sizeof *ino_of);
	int *node_of = calloc((size_t)s->n + 1, sizeof *node_of);
	const char *why = NULL;

	if (ino_of == NULL || node_of == NULL)
		abort();
	if (s->n != m->nname)
		why = differs("number of names", "tree", (uint64_t)s->n, (uint64_t)m->nname);
	for (int i = 0; i < s->n && why == NULL; i++) {
		const struct seen_name *e = &s->e[i];
		int dir = e->dir < 0 ? 0 : node_of[e->dir], k = 0, node;

		while (k < m->nname && (m->name[k].dir != dir || strcmp(m->name[k].name, e->name) != 0))
			k++;
		if (k == m->nname) {
			why = differs("not expected: inode", e->name, e->ino, 0);
			break;
		}
		node = node_of[i] = m->name[k].node;
		if (ino_of[node] == 0) {
			ino_of[node] = e->ino;
			why = same_attr(e, &m->node[node], node != mixed);
			if (why == NULL)
				why = same_xattrs(fs, e, &m->node[node]);
			if (why == NULL && S_ISREG(m->node[node].mode))
				why = node == mixed ? mixed_bytes(fs, e, mix) : same_bytes(fs, e, &m->node[node]);
		} else if (ino_of[node] != e->ino) {
			why = differs("link to another file: inode", e->name, e->ino, ino_of[node]);
		}
	}
	free(ino_of);
	free(node_of);
	return why;
}

static int target_of(const struct wl_op *op, const struct model *before, const struct model *after)
{
	switch ((int)op->kind) {
	case WL_WRITE:
	case WL_COPY:
	case WL_PUNCH:
	case WL_ZERO:
	case WL_ZEROKEEP:
	case WL_STORE:
		break;
	default:
		return -1;
	}
	/* One file, whose pages the two models do not share. */
	for (int i = 0; i < before->nnode && i < after->nnode; i++) {
		const struct model_node *a = &before->node[i], *b = &after->node[i];

		if (a->size != b->size)
			return i;
		for (uint64_t p = 0; p < a->ncell || p < b->ncell; p++)
			if (page_of(a, p) != page_of(b, p))
				return i;
	}
	return -1;
}

const char *model_judge(const struct model *m, const struct model *before, const struct wl_op *op, struct pf_fs *fs)
{
	static _Thread_local char kept[320];
	struct seen s = { 0 };
	const char *why;

	look(fs, &s);
	why = s.why;
	if (why == NULL)
		why = compare(fs, &s, m, -1, NULL);
	if (why != NULL && s.why == NULL && before != NULL) {
		int node = target_of(op, before, m);

		(void)snprintf(kept, sizeof kept, "%s", why);
		why = compare(fs, &s, before, -1, NULL);
		if (why != NULL && node >= 0) {
			struct mix mix = { .old = &before->node[node], .new = &m->node[node], .op = op };
			/* For a copy, the range that counts is the destination's. */
			struct wl_op at = *op;

			if (op->kind == WL_COPY) {
				at.x = op->y;
				at.y = op->z;
			}
			mix.op = &at;
			why = compare(fs, &s, before, node, &mix);
		}
		if (why != NULL && why == reason) {
			char was[320];

			(void)snprintf(was, sizeof was, "%.130s (or else %.130s)", reason, kept);
			(void)snprintf(kept, sizeof kept, "%s", was);
			why = kept;
		}
	}
	forget(&s);
	return why;
}
