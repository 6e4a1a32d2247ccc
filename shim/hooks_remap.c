/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_remap.c - mremap as the program sees it. The contents are the file's, so moving a window is mapping elsewhere
 * and unmapping here; only the copies of private ones have to be carried.
 */
#include "hooks.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct move {
	uint64_t lo, old_len, new_len, to;
	int flags;
	struct sh_file *drop;
};

/* The window that all of [lo, lo + old_len) is a part of: neighbours that continue each other count as one. */
static int whole(const struct move *m, struct sh_vma **out)
{
	uint64_t hi = m->lo + (m->old_len ? m->old_len : SH_PAGE);
	struct sh_vma *first = sh_vma_find(m->lo), *v = first;

	while (v != NULL && v->hi < hi) {
		struct sh_vma *n = sh_vma_find(v->hi);

		if (n == NULL || n->map->file != v->map->file || n->map->base != v->map->base ||
		    n->map->private != v->map->private || n->prot != v->prot)
			return -EFAULT;
		v = n;
	}
	*out = first;
	return v == NULL ? -EFAULT : 0;
}

/* What is not the mapping's but the memory's. */
static void alike(struct sh_vma *to, const struct sh_vma *from)
{
	to->pkey = from->pkey;
	to->locked = from->locked;
	to->nofork = from->nofork;
	sh_dress(to, to->lo, to->hi - to->lo);
}

/* Grow in place: the memory behind must be free. */
static int grow(struct move *m, struct sh_vma *v, uint64_t foff)
{
	uint64_t at = m->lo + m->old_len, n = m->new_len - m->old_len;
	void *p;
	int err = sh_fresh(at, n, v->prot, MAP_FIXED_NOREPLACE, &p);

	if (err)
		return err;
	if (sh_addr(p) != at)
		err = -EEXIST;		/* a kernel that takes the address for a hint */
	else
		err = sh_vma_add(v->map->file, at, n, foff + m->old_len, v->prot, sh_map_how(v->map));
	if (!err)
		alike(sh_vma_find(at), v);
	if (err)
		(void)sh_sys(SYS_munmap, p, n);
	return err;
}

/* What the program stored goes along. The places it leaves are empty, as the rest. */
static int move_copies(struct move *m)
{
	uint64_t hi = m->lo + pf_min64(m->old_len, m->new_len);
	struct sh_vma *to = sh_vma_find(m->to), *v;
	int err = 0;

	for (v = sh_vma_find(m->lo); !err && v != NULL && v->lo < hi; v = sh_vma_next(v->hi)) {
		uint64_t lo = pf_max64(v->lo, m->lo), n = pf_min64(v->hi, hi) - lo;

		err = sh_copies_move(v, to, lo, n, m->to + (lo - m->lo));
		if (!err && (m->flags & MREMAP_DONTUNMAP)) {
			err = sh_fresh_over(lo, n, v->prot);
			sh_zap_note(v, lo, lo + n);
		}
	}
	return err;
}

static int move_away(struct move *m, struct sh_vma *v, uint64_t foff)
{
	const unsigned int how = sh_map_how(v->map);
	const struct sh_vma like = *v;		/* it may be where the new one goes */
	struct sh_file *f = v->map->file;
	int prot = v->prot, err;
	void *p;

	f->refs++;
	if (m->flags & MREMAP_FIXED) {
		err = sh_vma_cut(m->to, m->to + m->new_len);
		if (!err)
			err = sh_fresh_over(m->to, m->new_len, prot);
		if (!err)
			sh_vma_forget(m->to, m->to + m->new_len, &m->drop);
	} else {
		err = sh_reserve(0, m->new_len, prot, 0, foff, &p);
		if (!err)
			m->to = sh_addr(p);
	}
	if (!err) {
		err = sh_vma_add(f, m->to, m->new_len, foff, prot, how);
		if (err)
			(void)sh_sys(SYS_munmap, m->to, m->new_len);
	}
	if (!err)
		alike(sh_vma_find(m->to), &like);
	if (!err)
		sh_gone_move(m->lo, pf_min64(m->old_len, m->new_len), m->to);
	if (!err && (how & SH_PRIVATE))
		err = move_copies(m);
	if (!err && m->old_len != 0 && !(m->flags & MREMAP_DONTUNMAP))
		err = sh_hook_unmap(m->lo, m->lo + m->old_len, &m->drop);
	sh_file_unref(f, &m->drop);
	return err;
}

/* Since Linux 6.17 memory of several kinds moves in one call, if its size stays. Asked of the kernel that runs. */
static bool kernel_moves_many(void)
{
	static _Atomic int known;		/* 1: no, 2: yes */
	void *p, *to;

	if (atomic_load(&known) == 0) {
		p = sh_mmap(NULL, 4 * SH_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (sh_mmap_err(p))
			return false;
		to = sh_ptr(sh_addr(p) + 2 * SH_PAGE);
		(void)sh_sys(SYS_mprotect, p, SH_PAGE, PROT_NONE);
		to = sh_ptr((uint64_t)sh_sys(SYS_mremap, p, 2 * SH_PAGE, 2 * SH_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					     to));
		atomic_store(&known, sh_mmap_err(to) ? 1 : 2);
		(void)sh_sys(SYS_munmap, p, 4 * SH_PAGE);
	}
	return atomic_load(&known) == 2;
}

/* One by one, from left to right; gaps stay gaps. */
static int move_many(struct move *m)
{
	const uint64_t hi = m->lo + m->old_len, by = m->to - m->lo;
	int err = 0;

	for (uint64_t at = m->lo, end; !err && at < hi; at = end) {
		struct sh_vma *v = sh_vma_next(at);
		struct move one = { .lo = at, .to = at + by, .flags = m->flags, .drop = m->drop };

		if (v != NULL && v->lo <= at) {
			end = pf_min64(v->hi, hi);
			one.old_len = one.new_len = end - at;
			err = move_away(&one, v, sh_vma_foff(v, at));
			m->drop = one.drop;
			continue;
		}
		end = v == NULL ? hi : pf_min64(v->lo, hi);
		err = sh_vma_cut(at + by, end + by);
		if (!err)
			err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, at, end - at, end - at, m->flags,
								  at + by)));
		if (!err)
			sh_vma_forget(at + by, end + by, &m->drop);
		if (err == -EFAULT && at > m->lo)
			err = 0;		/* a gap */
	}
	return err;
}

/* What the kernel looks at before it looks for the memory. */
static int check(const struct move *m)
{
	if (!(m->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)))
		return 0;
	if (!(m->flags & MREMAP_MAYMOVE) || ((m->flags & MREMAP_DONTUNMAP) && m->new_len != m->old_len))
		return -EINVAL;
	if (!(m->flags & MREMAP_FIXED))
		return 0;
	if (m->to % SH_PAGE || pf_range_overlap(m->lo, m->old_len, m->to, m->new_len))
		return -EINVAL;
	return 0;
}

static int remap_locked(struct move *m)
{
	struct sh_vma *v;
	uint64_t foff;
	int err = check(m);

	if (err)
		return err;
	if (!(m->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && m->old_len != 0 && m->new_len <= m->old_len) {
		m->to = m->lo;		/* whatever lies behind goes */
		return m->new_len == m->old_len ? 0 : sh_hook_unmap(m->lo + m->new_len, m->lo + m->old_len, &m->drop);
	}
	err = whole(m, &v);
	if (err == -EFAULT && m->old_len == m->new_len && (m->flags & MREMAP_FIXED) && !(m->flags & MREMAP_DONTUNMAP) &&
	    kernel_moves_many())
		return move_many(m);
	if (err)
		return err;
	foff = sh_vma_foff(v, m->lo);
	if (m->new_len > (uint64_t)INT64_MAX - foff ||
	    (v->map->file->ses->whole && (m->lo | m->old_len | m->new_len | m->to) % PF_CHUNK_SIZE))
		return -EINVAL;
	if (m->old_len == 0 && v->map->private)
		return -EINVAL;
	if (m->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		return move_away(m, v, foff);
	m->to = m->lo;
	if (m->old_len == 0)
		return m->flags & MREMAP_MAYMOVE ? move_away(m, v, foff) : -ENOMEM;
	if (!sh_vma_any(m->lo + m->old_len, m->lo + m->new_len) && grow(m, v, foff) == 0)
		return 0;
	return m->flags & MREMAP_MAYMOVE ? move_away(m, v, foff) : -ENOMEM;
}

static int remap_in_crew(void *arg)
{
	struct move *m = arg;
	sh_sigs old;
	int err;

	sh_lock(&old);
	err = remap_locked(m);
	sh_unlock(&old);
	sh_file_drop(m->drop);
	return err;
}

PF_EXPORT void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	struct move m = { .lo = sh_addr(addr), .flags = flags };
	struct sh_file *drop = NULL;
	int saved = errno, err;
	uint64_t hi, to_hi = 0;
	void *to = NULL, *p;
	va_list ap;
	sh_sigs old;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	m.to = sh_addr(to);
	if (!sh_hook_any() || m.lo % SH_PAGE || new_len == 0 ||
	    (flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP)) || !sh_hook_span(addr, old_len, &m.lo, &hi) ||
	    !sh_hook_span(to, new_len, &m.to, &to_hi))
		goto real;
	m.old_len = hi - m.lo;
	m.new_len = to_hi - m.to;
	sh_lock(&old);
	if (sh_vma_any(m.lo, m.lo + (m.old_len ? m.old_len : SH_PAGE))) {
		sh_unlock(&old);
		err = sh_crew_call(remap_in_crew, &m);
		errno = saved;
		if (err)
			errno = -err;
		return err ? MAP_FAILED : sh_ptr(m.to);
	}
	if ((flags & MREMAP_FIXED) && sh_vma_any(m.to, to_hi)) {
		/* Foreign memory moves over windows. */
		p = MAP_FAILED;
		err = sh_vma_cut(m.to, to_hi);
		if (!err) {
			p = sh_real.mremap(addr, old_len, new_len, flags, to);
			err = -errno;
			if (p != MAP_FAILED)
				sh_vma_forget(m.to, to_hi, &drop);
		}
		sh_unlock(&old);
		sh_file_drop(drop);
		errno = p == MAP_FAILED ? -err : saved;
		return p;
	}
	sh_unlock(&old);
real:
	if (sh_real.mremap != NULL)
		return sh_real.mremap(addr, old_len, new_len, flags, to);
	p = sh_ptr((uint64_t)sh_sys(SYS_mremap, addr, old_len, new_len, flags, to));
	if (sh_mmap_err(p)) {
		errno = -sh_mmap_err(p);
		return MAP_FAILED;
	}
	return p;
}
