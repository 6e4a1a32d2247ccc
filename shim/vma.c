/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vma.c - the table of windows: a treap of vmas by address, a list of them per file. Everything here runs under
 * sh.lock and makes no system call on windows; the callers change the memory in the same critical section.
 */
#include "sh.h"

#include <errno.h>

static uint64_t next_prio(void)
{
	static uint64_t x = UINT64_C(0x9e3779b97f4a7c15);

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Everything below @at to *l, the rest to *r. Depth is logarithmic (expected), so recursion is shallow. */
static void split(struct sh_vma *t, uint64_t at, struct sh_vma **l, struct sh_vma **r)
{
	if (t == NULL) {
		*l = *r = NULL;
	} else if (t->lo < at) {
		split(t->right, at, &t->right, r);
		*l = t;
	} else {
		split(t->left, at, l, &t->left);
		*r = t;
	}
}

static struct sh_vma *join(struct sh_vma *l, struct sh_vma *r)
{
	if (l == NULL)
		return r;
	if (r == NULL)
		return l;
	if (l->prio > r->prio) {
		l->right = join(l->right, r);
		return l;
	}
	r->left = join(l, r->left);
	return r;
}

static void link_vma(struct sh_vma *v)
{
	struct sh_file *f = v->map->file;
	struct sh_vma *l, *r;

	v->prio = next_prio();
	v->left = v->right = NULL;
	split(sh.vmas, v->lo, &l, &r);
	sh.vmas = join(join(l, v), r);
	v->fnext = f->vmas;
	v->fprev = &f->vmas;
	if (f->vmas != NULL)
		f->vmas->fprev = &v->fnext;
	f->vmas = v;
	f->refs++;
	v->map->refs++;
	atomic_fetch_add(&sh.nvma, 1);
	atomic_fetch_add(&sh_life.vgen, 1);
}

struct sh_vma *sh_vma_next(uint64_t addr)
{
	struct sh_vma *t = sh.vmas, *best = NULL;

	while (t != NULL) {
		if (t->hi > addr) {
			best = t;
			t = t->left;
		} else {
			t = t->right;
		}
	}
	return best;
}

struct sh_vma *sh_vma_find(uint64_t addr)
{
	struct sh_vma *v = sh_vma_next(addr);

	return v != NULL && v->lo <= addr ? v : NULL;
}

bool sh_vma_any(uint64_t lo, uint64_t hi)
{
	struct sh_vma *v = sh_vma_next(lo);

	return v != NULL && v->lo < hi;
}

static struct sh_map *map_new(struct sh_file *f, uint64_t addr, uint64_t len, uint64_t foff)
{
	struct sh_map *m = sh_alloc(sizeof *m);

	if (m == NULL)
		return NULL;
	m->file = f;
	m->base = addr - foff;
	m->chunk0 = foff >> PF_CHUNK_SHIFT;
	m->nchunk = ((foff + len - 1) >> PF_CHUNK_SHIFT) - m->chunk0 + 1;
	m->chunk = sh_alloc(m->nchunk * sizeof *m->chunk);
	if (m->chunk == NULL) {
		sh_free(m, sizeof *m);
		return NULL;
	}
	return m;
}

static void map_free(struct sh_map *m)
{
	sh_map_unkeep(m);
	sh_free(m->chunk, m->nchunk * sizeof *m->chunk);
	sh_free(m, sizeof *m);
}

int sh_vma_add(struct sh_file *f, uint64_t addr, uint64_t len, uint64_t foff, int prot, unsigned int how)
{
	struct sh_vma *v = sh_alloc(sizeof *v);
	struct sh_map *m;

	if (v == NULL)
		return -ENOMEM;
	m = map_new(f, addr, len, foff);
	if (m == NULL) {
		sh_free(v, sizeof *v);
		return -ENOMEM;
	}
	v->lo = addr;
	v->hi = addr + len;
	v->prot = prot;
	v->map = m;
	v->locked = atomic_load(&sh.mcl_future);
	m->write = (how & SH_MAY_WRITE) != 0;
	m->private = (how & SH_PRIVATE) != 0;
	link_vma(v);
	return 0;
}

static int cut_at(uint64_t at)
{
	struct sh_vma *v = sh_vma_find(at), *n;

	if (v == NULL || v->lo == at)
		return 0;
	if (v->map->file->ses->whole && at % PF_CHUNK_SIZE)
		return -EINVAL;		/* as for other mappings of huge pages */
	n = sh_alloc(sizeof *n);
	if (n == NULL)
		return -ENOMEM;
	n->lo = at;
	n->hi = v->hi;
	n->prot = v->prot;
	n->pkey = v->pkey;
	n->nofork = v->nofork;
	n->locked = v->locked;
	n->map = v->map;
	v->hi = at;
	link_vma(n);
	return 0;
}

int sh_vma_cut(uint64_t lo, uint64_t hi)
{
	int err = cut_at(lo);

	return err ? err : cut_at(hi);
}

void sh_vma_forget(uint64_t lo, uint64_t hi, struct sh_file **drop)
{
	struct sh_vma *v;

	while ((v = sh_vma_next(lo)) != NULL && v->lo < hi) {
		struct sh_vma *l, *mid, *r;
		struct sh_file *f = v->map->file;

		split(sh.vmas, v->lo, &l, &r);
		split(r, v->hi, &mid, &r);	/* mid is v alone */
		sh.vmas = join(l, r);
		*v->fprev = v->fnext;
		if (v->fnext != NULL)
			v->fnext->fprev = v->fprev;
		if (--v->map->refs == 0)
			map_free(v->map);
		sh_free(v, sizeof *v);
		atomic_fetch_sub(&sh.nvma, 1);
		atomic_fetch_add(&sh_life.vgen, 1);
		sh_file_unref(f, drop);
	}
}
