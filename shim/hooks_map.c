/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_map.c - mmap, munmap, mremap, mprotect, msync, madvise, mlockall as the program sees them. Calls that
 * touch no window go to the real ones unchanged; a range that holds windows and foreign memory is served in one
 * piece under sh.lock.
 */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

/* A vfork() child runs in our memory with somebody else's descriptors: it gets the real calls and no service. */
SH_EARLY static bool ours(void)
{
	if (!sh.ready || sh.disabled || sh_is_crew)
		return false;
	sh_alive();
	return (pid_t)sh_sys(SYS_getpid) == sh.pid;
}

SH_EARLY static bool any_window(void)
{
	return atomic_load(&sh.nvma) != 0 && ours();
}

SH_EARLY static int fail(int err)
{
	errno = -err;
	return -1;
}

/* [addr, addr + len) rounded up to pages, as the kernel does; false when it wraps. */
SH_EARLY static bool span(const void *addr, size_t len, uint64_t *lo, uint64_t *hi)
{
	*lo = sh_addr(addr);
	if (len > UINT64_MAX - SH_PAGE - *lo)
		return false;
	*hi = *lo + pf_round_up(len, SH_PAGE);
	return true;
}

/* ---- the real calls ---- */

SH_EARLY static void *real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p;

	if (sh_real.mmap != NULL)
		return sh_real.mmap(addr, len, prot, flags, fd, off);
	p = sh_mmap(addr, len, prot, flags, fd, (uint64_t)off);
	if (sh_mmap_err(p)) {
		errno = -sh_mmap_err(p);
		return MAP_FAILED;
	}
	return p;
}

SH_EARLY static int real_munmap(void *addr, size_t len)
{
	long r;

	if (sh_real.munmap != NULL)
		return sh_real.munmap(addr, len);
	r = sh_sys(SYS_munmap, addr, len);
	return r < 0 ? fail((int)r) : 0;
}

SH_EARLY static int real_mprotect(void *addr, size_t len, int prot)
{
	long r;

	if (sh_real.mprotect != NULL)
		return sh_real.mprotect(addr, len, prot);
	r = sh_sys(SYS_mprotect, addr, len, prot);
	return r < 0 ? fail((int)r) : 0;
}

SH_EARLY static int real_madvise(void *addr, size_t len, int advice)
{
	long r;

	if (sh_real.madvise != NULL)
		return sh_real.madvise(addr, len, advice);
	r = sh_sys(SYS_madvise, addr, len, advice);
	return r < 0 ? fail((int)r) : 0;
}

static int real_msync(void *addr, size_t len, int flags)
{
	long r;

	if (sh_real.msync != NULL)
		return sh_real.msync(addr, len, flags);
	r = sh_sys(SYS_msync, addr, len, flags);
	return r < 0 ? fail((int)r) : 0;
}

/* ---- mmap ---- */

/* Memory with the 2 MiB colour of the file offset, so that a contiguous chunk can be one huge page. */
static int reserve(uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, void **out)
{
	uint64_t colour = foff % PF_CHUNK_SIZE, at;
	void *probe;
	int err;

	if (addr != 0 || len < PF_CHUNK_SIZE)
		return sh_fresh(addr, len, prot, flags & MAP_FIXED_NOREPLACE, out);
	probe = sh_mmap(NULL, len + PF_CHUNK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	err = sh_mmap_err(probe);
	if (err)
		return err;
	at = pf_round_down(sh_addr(probe), PF_CHUNK_SIZE) + colour;
	if (at < sh_addr(probe))
		at += PF_CHUNK_SIZE;
	err = sh_fresh_over(at, len, prot);
	if (err) {
		(void)sh_sys(SYS_munmap, probe, len + PF_CHUNK_SIZE);
		return err;
	}
	if (at > sh_addr(probe))
		(void)sh_sys(SYS_munmap, probe, at - sh_addr(probe));
	if (at + len < sh_addr(probe) + len + PF_CHUNK_SIZE)
		(void)sh_sys(SYS_munmap, at + len, sh_addr(probe) + PF_CHUNK_SIZE - at);
	*out = sh_ptr(at);
	return 0;
}

static int make(struct sh_file *f, uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, bool write,
		void **out)
{
	bool fixed = (flags & MAP_FIXED) != 0 && (flags & MAP_FIXED_NOREPLACE) == 0;
	unsigned int how = (write ? SH_MAY_WRITE : 0) | ((flags & MAP_TYPE) == MAP_PRIVATE ? SH_PRIVATE : 0);
	struct sh_file *drop = NULL;
	void *p = sh_ptr(addr);
	sh_sigs old;
	int err;

	if (fixed && addr % SH_PAGE)
		return -EINVAL;
	sh_lock(&old);
	if ((how & SH_PRIVATE) && !sh_guard_probe(f->ses)) {
		err = -ENOTTY;
	} else if (fixed) {
		err = sh_vma_cut(addr, addr + len);
		if (!err)
			err = sh_fresh_over(addr, len, prot);
		if (!err)
			sh_vma_forget(addr, addr + len, &drop);
	} else {
		err = reserve(addr, len, prot, flags, foff, &p);
	}
	if (!err) {
		err = sh_vma_add(f, sh_addr(p), len, foff, prot, how);
		if (err)
			(void)sh_sys(SYS_munmap, p, len);
	}
	sh_unlock(&old);
	sh_file_drop(drop);
	if (!err)
		*out = p;
	return err;
}

struct make_call {
	struct sh_file *f;
	uint64_t addr, len, foff;
	int prot, flags;
	bool write;
	void *out;
};

static int make_in_crew(void *arg)
{
	struct make_call *c = arg;

	return make(c->f, c->addr, c->len, c->prot, c->flags, c->foff, c->write, &c->out);
}

/* In the crew, for that is where the userfaultfd is. */
int sh_window_make(struct sh_file *f, uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, bool write,
		   void **out)
{
	struct make_call c = { .f = f, .addr = addr, .len = len, .foff = foff, .prot = prot, .flags = flags,
			       .write = write };
	int err = sh_crew_call(make_in_crew, &c);

	if (!err)
		*out = c.out;
	return err;
}

struct inherit_call {
	struct sh_file *f;
	const struct sh_vma *old;
};

static int inherit_in_crew(void *arg)
{
	struct inherit_call *c = arg;
	const struct sh_vma *o = c->old;
	uint64_t end;
	sh_sigs old;
	int err;

	sh_lock(&old);
	err = sh_vma_add(c->f, o->lo, o->hi - o->lo, sh_vma_foff(o, o->lo), o->prot, sh_map_how(o->map));
	for (uint64_t at = o->lo; !err && sh_next_shown(o, &at, o->hi, &end); at = end)
		err = sh_fresh_over(at, end - at, o->prot);
	if (!err)
		err = sh_copies_adopt(sh_vma_find(o->lo), o);
	sh_unlock(&old);
	return err;
}

int sh_window_inherit(struct sh_file *f, const struct sh_vma *old)
{
	struct inherit_call c = { .f = f, .old = old };

	return sh_crew_call(inherit_in_crew, &c);
}

/* -ENOTTY: the kernel may have it. */
static int map_window(void *addr, size_t len, int prot, int flags, int fd, uint64_t off, void **out)
{
	long acc = sh_sys(SYS_fcntl, fd, F_GETFL);
	bool private = (flags & MAP_TYPE) == MAP_PRIVATE, write;
	struct sh_file *f;
	int err;

	/* What the kernel would refuse it shall refuse in its own words. */
	if (acc < 0 || (acc & O_PATH) || (acc & O_ACCMODE) == O_WRONLY)
		return -ENOTTY;
	write = (acc & O_ACCMODE) == O_RDWR && !private;
	if (!write && !private && (prot & PROT_WRITE))
		return -ENOTTY;
	err = sh_file_get(fd, write, &f);
	if (err) {
		if (err != -ENOTTY)
			sh_log(err == -EMFILE || err == -ENFILE || err == -ENOMEM ? SH_WARN : SH_DEBUG,
			       "no window on descriptor %d: %s", fd, strerrordesc_np(-err));
		return -ENOTTY;
	}
	/* The file is immutable or append-only by now: as if the descriptor were for reading. */
	if (!f->write && write) {
		write = false;
		err = prot & PROT_WRITE ? -EACCES : 0;
	}
	if (err)
		;
	else if (len > UINT64_MAX - SH_PAGE || pf_round_up(len, SH_PAGE) > (uint64_t)INT64_MAX - off) {
		err = -EOVERFLOW;
	} else if (f->ses->whole && (private || (sh_addr(addr) | len | off) % PF_CHUNK_SIZE)) {
		err = -ENOTTY;
	} else {
		len = pf_round_up(len, SH_PAGE);
		err = sh_profile_map(f->ses, flags, sh_addr(addr), len, off);
		if (!err)
			err = sh_window_make(f, sh_addr(addr), len, prot, flags, off, write, out);
	}
	sh_file_put(f);
	if (err)
		return err;
	sh_log(SH_DEBUG, "window %p + %#zx of inode %llu", *out, len, (unsigned long long)f->ino);
	/* Populating a private mapping that can be written to copies it, as in the kernel. */
	if (flags & MAP_LOCKED)
		(void)sh_sys(SYS_mlock, *out, len);
	else if ((flags & MAP_POPULATE) && !(flags & MAP_NONBLOCK))
		(void)sh_sys(SYS_madvise, *out, len,
			     private && (prot & PROT_WRITE) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	return 0;
}

/* A mapping of something else on top of windows. */
static void *map_over(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	struct sh_file *drop = NULL;
	void *p = MAP_FAILED;
	uint64_t lo, hi;
	sh_sigs old;
	int err;

	if (!span(addr, len, &lo, &hi) || lo % SH_PAGE)
		return real_mmap(addr, len, prot, flags, fd, off);
	sh_lock(&old);
	err = sh_vma_cut(lo, hi);
	if (!err) {
		p = real_mmap(addr, len, prot, flags, fd, off);
		if (p != MAP_FAILED)
			sh_vma_forget(lo, hi, &drop);
	}
	sh_unlock(&old);
	sh_file_drop(drop);
	if (err)
		errno = -err;
	return p;
}

PF_EXPORT SH_EARLY void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	int type = flags & MAP_TYPE, saved = errno, err;
	void *p;

	if ((type == MAP_SHARED || type == MAP_SHARED_VALIDATE || type == MAP_PRIVATE) && !(flags & MAP_ANONYMOUS) &&
	    fd >= 0 && len != 0 && off >= 0 && (uint64_t)off % SH_PAGE == 0 && ours()) {
		err = map_window(addr, len, prot, flags, fd, (uint64_t)off, &p);
		errno = saved;
		if (err == 0)
			return p;
		if (err != -ENOTTY) {
			errno = -err;
			return MAP_FAILED;
		}
	}
	if ((flags & MAP_FIXED) && any_window())
		return map_over(addr, len, prot, flags, fd, off);
	return real_mmap(addr, len, prot, flags, fd, off);
}

PF_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off)
{
	return mmap(addr, len, prot, flags, fd, off);
}

/* ---- munmap ---- */

static int unmap_locked(uint64_t lo, uint64_t hi, struct sh_file **drop)
{
	int err = sh_vma_cut(lo, hi);

	if (err)
		return err;
	if (real_munmap(sh_ptr(lo), hi - lo))
		return -errno;
	sh_vma_forget(lo, hi, drop);
	return 0;
}

PF_EXPORT SH_EARLY int munmap(void *addr, size_t len)
{
	struct sh_file *drop = NULL;
	int saved = errno, err;
	uint64_t lo, hi;
	sh_sigs old;

	if (len == 0 || !span(addr, len, &lo, &hi) || lo % SH_PAGE || !any_window())
		return real_munmap(addr, len);
	sh_lock(&old);
	if (!sh_vma_any(lo, hi)) {
		sh_unlock(&old);
		return real_munmap(addr, len);
	}
	err = unmap_locked(lo, hi, &drop);
	sh_unlock(&old);
	sh_file_drop(drop);
	errno = saved;
	return err ? fail(err) : 0;
}

/* ---- mremap: the contents are the file's, so moving is mapping elsewhere and unmapping here ---- */

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
	unsigned int how = sh_map_how(v->map);
	struct sh_file *f = v->map->file;
	int prot = v->prot, err;
	void *p;

	f->refs++;
	if (m->flags & MREMAP_FIXED) {
		err = m->to % SH_PAGE ? -EINVAL : 0;
		if (!err && pf_range_overlap(m->lo, m->old_len, m->to, m->new_len))
			err = -EINVAL;
		if (!err)
			err = sh_vma_cut(m->to, m->to + m->new_len);
		if (!err)
			err = sh_fresh_over(m->to, m->new_len, prot);
		if (!err)
			sh_vma_forget(m->to, m->to + m->new_len, &m->drop);
	} else {
		err = reserve(0, m->new_len, prot, 0, foff, &p);
		if (!err)
			m->to = sh_addr(p);
	}
	if (!err) {
		err = sh_vma_add(f, m->to, m->new_len, foff, prot, how);
		if (err)
			(void)sh_sys(SYS_munmap, m->to, m->new_len);
	}
	if (!err && (how & SH_PRIVATE))
		err = move_copies(m);
	if (!err && m->old_len != 0 && !(m->flags & MREMAP_DONTUNMAP))
		err = unmap_locked(m->lo, m->lo + m->old_len, &m->drop);
	sh_file_unref(f, &m->drop);
	return err;
}

static int remap_locked(struct move *m)
{
	struct sh_vma *v;
	uint64_t foff;
	int err = whole(m, &v);

	if (err)
		return err;
	foff = sh_vma_foff(v, m->lo);
	if (m->new_len > (uint64_t)INT64_MAX - foff ||
	    (v->map->file->ses->whole && (m->lo | m->old_len | m->new_len | m->to) % PF_CHUNK_SIZE))
		return -EINVAL;
	if (m->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		if (!(m->flags & MREMAP_MAYMOVE) || ((m->flags & MREMAP_DONTUNMAP) && m->new_len != m->old_len))
			return -EINVAL;
		return move_away(m, v, foff);
	}
	m->to = m->lo;
	if (m->old_len == 0 && v->map->private)
		return -EINVAL;
	if (m->old_len == 0)
		return m->flags & MREMAP_MAYMOVE ? move_away(m, v, foff) : -EINVAL;
	if (m->new_len < m->old_len)
		return unmap_locked(m->lo + m->new_len, m->lo + m->old_len, &m->drop);
	if (m->new_len == m->old_len)
		return 0;
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
	if (!any_window() || m.lo % SH_PAGE || new_len == 0 || !span(addr, old_len, &m.lo, &hi) ||
	    !span(to, new_len, &m.to, &to_hi))
		goto real;
	m.old_len = hi - m.lo;
	m.new_len = to_hi - m.to;
	sh_lock(&old);
	if (sh_vma_find(m.lo) != NULL) {
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

/* ---- mprotect ---- */

struct protect_call {
	uint64_t lo, hi;
	int prot;
	int pkey;			/* -1: none is asked for */
};

static int kernel_protect(const struct protect_call *c)
{
	if (c->pkey >= 0)
		return (int)sh_sys(SYS_pkey_mprotect, c->lo, c->hi - c->lo, c->prot, c->pkey);
	return (int)sh_sys(SYS_mprotect, c->lo, c->hi - c->lo, c->prot);
}

/* The first store to what could only be read until now is to be seen. */
static void guard_again(struct sh_vma *v)
{
	uint64_t foff = sh_vma_foff(v, v->lo), end = sh_vma_foff(v, v->hi), n;

	for (; foff < end; foff += n) {
		struct sh_slot *sl = sh_slot_find(v->map->file, foff >> PF_CHUNK_SHIFT);

		n = pf_min64(end - foff, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		if (sl != NULL && !sl->sl_stored)
			sh_map_guard(v, foff, n);
	}
}

static int protect_window(struct sh_vma *v, const struct protect_call *c)
{
	int err;

	if ((c->prot & PROT_WRITE) && !v->map->write && !v->map->private)
		return -EACCES;
	if ((c->prot & PROT_WRITE) && !(v->prot & PROT_WRITE))
		guard_again(v);
	err = kernel_protect(&(struct protect_call){ .lo = v->lo, .hi = v->hi, .prot = c->prot, .pkey = c->pkey });
	if (err) {		/* it may have got half way */
		(void)sh_sys(SYS_mprotect, v->lo, v->hi - v->lo, v->prot);
		return err;
	}
	v->prot = c->prot;
	v->pkey = c->pkey > 0 ? c->pkey : 0;
	return 0;
}

/* As the kernel, from left to right: what lies before the first thing that cannot be changed is changed. */
static int protect_locked(const struct protect_call *c)
{
	int err = sh_vma_cut(c->lo, c->hi);

	for (uint64_t at = c->lo, end; !err && at < c->hi; at = end) {
		struct sh_vma *v = sh_vma_next(at);

		if (v != NULL && v->lo <= at) {
			end = v->hi;
			err = protect_window(v, c);
		} else {
			end = v == NULL ? c->hi : pf_min64(v->lo, c->hi);
			err = kernel_protect(&(struct protect_call){ .lo = at, .hi = end, .prot = c->prot,
								     .pkey = c->pkey });
		}
	}
	atomic_fetch_add(&sh_life.vgen, 1);
	return err;
}

static int protect_in_crew(void *arg)
{
	sh_sigs old;
	int err;

	sh_lock(&old);
	err = protect_locked(arg);
	sh_unlock(&old);
	return err;
}

/* 1: the range has no window. */
SH_EARLY static int protect(void *addr, size_t len, int prot, int pkey)
{
	struct protect_call c = { .prot = prot, .pkey = pkey };
	int saved = errno, err;
	bool mine;
	sh_sigs old;

	if (len == 0 || !span(addr, len, &c.lo, &c.hi) || c.lo % SH_PAGE || !any_window() ||
	    (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)))
		return 1;
	sh_lock(&old);
	mine = sh_vma_any(c.lo, c.hi);
	sh_unlock(&old);
	if (!mine)
		return 1;
	err = sh_crew_call(protect_in_crew, &c);
	errno = saved;
	return err ? fail(err) : 0;
}

PF_EXPORT SH_EARLY int mprotect(void *addr, size_t len, int prot)
{
	int r = protect(addr, len, prot, -1);

	return r > 0 ? real_mprotect(addr, len, prot) : r;
}

PF_EXPORT int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	int r = protect(addr, len, prot, pkey);
	long k;

	if (r <= 0)
		return r;
	k = sh_sys(SYS_pkey_mprotect, addr, len, prot, pkey);
	return k < 0 ? fail((int)k) : 0;
}

/* ---- msync ---- */

struct sync_call {
	struct sh_session *ses;
	struct pf_p_sync_in in;
};

static int sync_in_crew(void *arg)
{
	struct sync_call *c = arg;

	return sh_rpc(c->ses, PF_P_SYNC, &c->in, sizeof c->in, NULL, 0);
}

/* All pages of @sl known in [foff, + len), which lies in its chunk: flush them. Else false. */
static bool flush_slot(struct sh_slot *sl, uint64_t foff, uint64_t len)
{
	const char *dev = sl->sl_ses->dev_flush;

	for (uint64_t at = foff; at < foff + len; at += SH_PAGE) {
		uint64_t pg = atomic_load_explicit(&sl->sl_page[at / SH_PAGE % SH_CHUNK_PAGES], memory_order_relaxed);

		if (pg == SH_PG_UNKNOWN || dev == NULL)
			return false;
		if (sh_pg_here(pg))
			sh_cpu_flush(dev + pg, SH_PAGE);
	}
	return true;
}

/*
 * Stores through a window are in CPU caches or on the device. A cache line is flushed for all processors by its
 * address, so any mapping of the block will do: a read-only one of the device, which cannot fault under us. Chunks
 * that were never mapped here have nothing to flush; where blocks were taken from us meanwhile, the daemon knows
 * better. Returns the part of [lo, hi) that it has to do in *in.
 */
static bool flush_vma(struct sh_vma *v, uint64_t lo, uint64_t hi, struct pf_p_sync_in *in)
{
	uint64_t from = UINT64_MAX, to = 0;

	for (uint64_t at = lo; at < hi;) {
		uint64_t foff = sh_vma_foff(v, at), n = pf_min64(hi - at, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		struct sh_slot *sl = sh_slot_find(v->map->file, foff >> PF_CHUNK_SHIFT);

		if (sh_chunk_used(v, foff) &&
		    (v->map->file->ses->msync || sl == NULL || !flush_slot(sl, foff, n))) {
			from = pf_min64(from, foff);
			to = foff + n;
		}
		at += n;
	}
	*in = (struct pf_p_sync_in){ .si_fh = v->map->file->fh, .si_foff = from, .si_len = to - from };
	return from < to;
}

static int sync_vma(struct sh_vma *v, uint64_t lo, uint64_t hi, sh_sigs *old)
{
	struct sh_file *f = v->map->file;
	struct sync_call c = { .ses = f->ses };
	int err;

	if (f->ses->device)		/* a device DAX node has no fsync */
		return -EINVAL;
	if (!v->map->write || v->map->private || !flush_vma(v, lo, hi, &c.in))
		return 0;
	f->refs++;
	sh_unlock(old);			/* the daemon may take its time */
	err = sh_crew_call(sync_in_crew, &c);
	sh_file_put(f);
	sh_lock(old);
	return err;
}

/*
 * The next store after an msync() is a first one again, as after the kernel's write-protecting writeback: it moves the
 * file's times. Done before anything is flushed. Returns whether there is something to do; @really: do it.
 */
static bool guard_range(uint64_t lo, uint64_t hi, bool really)
{
	bool any = false;

	for (struct sh_vma *v = sh_vma_next(lo); v != NULL && v->lo < hi; v = sh_vma_next(v->hi)) {
		struct sh_file *f = v->map->file;
		uint64_t foff = sh_vma_foff(v, pf_max64(lo, v->lo)), end = sh_vma_foff(v, pf_min64(hi, v->hi)), n;

		for (; !v->map->private && sh_can_guard(f->ses) && foff < end; foff += n) {
			struct sh_slot *sl = sh_slot_find(f, foff >> PF_CHUNK_SHIFT);

			n = pf_min64(end - foff, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
			if (sl == NULL || !sl->sl_stored)
				continue;
			any = true;
			if (!really)
				return true;
			sl->sl_stored = false;
			for (struct sh_vma *o = f->vmas; o != NULL; o = o->fnext)
				if (o->prot & PROT_WRITE)
					sh_map_guard(o, foff, n);
		}
	}
	return any;
}

struct range_call { uint64_t lo, hi; };

static int guard_in_crew(void *arg)
{
	struct range_call *c = arg;
	sh_sigs old;

	sh_lock(&old);
	(void)guard_range(c->lo, c->hi, true);
	sh_unlock(&old);
	return 0;
}

PF_EXPORT int msync(void *addr, size_t len, int flags)
{
	int saved = errno, err = 0;
	uint64_t lo, hi, at;
	struct sh_vma *v;
	bool gap = false;
	sh_sigs old;

	if (!span(addr, len, &lo, &hi) || lo % SH_PAGE || (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)) || lo == hi || !any_window())
		return real_msync(addr, len, flags);
	sh_lock(&old);
	if (!sh_vma_any(lo, hi)) {
		sh_unlock(&old);
		return real_msync(addr, len, flags);
	}
	if ((flags & MS_SYNC) && guard_range(lo, hi, false)) {
		struct range_call c = { .lo = lo, .hi = hi };

		sh_unlock(&old);
		err = sh_crew_call(guard_in_crew, &c);
		sh_lock(&old);
	}
	for (at = lo; at < hi && !err;) {
		uint64_t end;

		v = sh_vma_next(at);
		if (v == NULL || v->lo > at) {
			/* Foreign memory, or none, up to the next window. */
			end = v == NULL ? hi : pf_min64(hi, v->lo);
			sh_unlock(&old);
			if (real_msync(sh_ptr(at), end - at, flags)) {
				if (errno == ENOMEM)
					gap = true;
				else
					err = -errno;
			}
			sh_lock(&old);
		} else {
			end = pf_min64(hi, v->hi);
			/* MS_ASYNC promises nothing that is not true of a store already. */
			if (flags & MS_SYNC)
				err = sync_vma(v, at, end, &old);
		}
		at = end;
	}
	sh_unlock(&old);
	if (flags & MS_SYNC)
		sh_cpu_fence();
	errno = saved;
	return err ? fail(err == -ENOTCONN ? -EIO : err) : gap ? fail(-ENOMEM) : 0;
}

/* ---- madvise ---- */

struct punch {
	struct sh_file *f;
	uint64_t foff, len;
};

static int punch(void *arg)
{
	struct punch *p = arg;

	return (int)sh_sys(SYS_fallocate, p->f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, p->foff, p->len);
}

/*
 * MADV_REMOVE is a hole in the *file*. The punch may have to wait for pins, which the crew must not, and a
 * descriptor lent to this thread would, when closed, take the process's POSIX locks on the file with it: so it
 * gets a thread of its own there.
 */
static int remove_range(uint64_t lo, uint64_t hi)
{
	struct punch p;
	struct sh_vma *v;
	sh_sigs old;
	int err;

	while (lo < hi) {
		sh_lock(&old);
		v = sh_vma_find(lo);
		err = v == NULL ? -ENOMEM : !v->map->write || v->map->private ? -EACCES : 0;
		if (!err) {
			p = (struct punch){ .f = v->map->file, .foff = sh_vma_foff(v, lo),
					    .len = pf_min64(hi, v->hi) - lo };
			p.f->refs++;
		}
		sh_unlock(&old);
		if (err)
			return err;
		err = sh_crew_call_long(punch, &p);
		sh_file_put(p.f);
		if (err)
			return err;
		lo += p.len;
	}
	return 0;
}

/* Private pages become the file's again. What the kernel did by itself may have shown an old block for an instant. */
static void forget_copies(uint64_t lo, uint64_t hi)
{
	for (struct sh_vma *v = sh_vma_next(lo); v != NULL && v->lo < hi; v = sh_vma_next(v->hi)) {
		uint64_t from = pf_max64(lo, v->lo), to = pf_min64(hi, v->hi);

		if (!v->map->private)
			continue;
		sh_copies_drop(v, from, to);
		sh_zap(v, sh_vma_foff(v, from), to - from);
	}
}

/* The child's windows are made by us, not by the kernel, so it is ours to know. */
static int advise_fork(uint64_t lo, uint64_t hi, bool inherit)
{
	int err = sh_vma_cut(lo, hi);

	for (struct sh_vma *v = sh_vma_next(lo); !err && v != NULL && v->lo < hi; v = sh_vma_next(v->hi))
		v->nofork = !inherit;
	return err;
}

struct advise_call {
	uint64_t lo, hi;
	int advice;
	bool mine, in_kernel;
};

/* Lock held; windows in the range. *in_kernel: without an error, the kernel has something to do as well. */
static int advise(uint64_t lo, uint64_t hi, int advice, bool *in_kernel)
{
	int err;

	*in_kernel = false;
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
		err = real_madvise(sh_ptr(lo), hi - lo, advice) ? -errno : 0;
		if (!err || err == -ENOMEM)
			forget_copies(lo, hi);
		return err;
	case MADV_DOFORK:		/* never of the memory: a child gets windows of its own */
		return advise_fork(lo, hi, true);
	case MADV_DONTFORK:
		*in_kernel = true;
		return advise_fork(lo, hi, false);
	case MADV_FREE:			/* as for any file */
	case MADV_WIPEONFORK:
	case MADV_GUARD_INSTALL:	/* would be lost with the next exchange */
		return -EINVAL;
	default:
		*in_kernel = true;
		return 0;
	}
}

/* The crew has the userfaultfd. */
static int advise_in_crew(void *arg)
{
	struct advise_call *c = arg;
	sh_sigs old;
	int err = 0;

	sh_lock(&old);
	c->mine = sh_vma_any(c->lo, c->hi);
	if (c->mine)
		err = advise(c->lo, c->hi, c->advice, &c->in_kernel);
	sh_unlock(&old);
	return err;
}

static bool passes(int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_REMOVE:
	case MADV_DOFORK:
	case MADV_DONTFORK:
	case MADV_FREE:
	case MADV_WIPEONFORK:
	case MADV_GUARD_INSTALL:
		return false;
	default:
		return true;
	}
}

PF_EXPORT SH_EARLY int madvise(void *addr, size_t len, int advice)
{
	struct advise_call c = { .advice = advice };
	int saved = errno, err = 0;
	sh_sigs old;

	if (!any_window() || passes(advice) || !span(addr, len, &c.lo, &c.hi) || c.lo % SH_PAGE || c.lo == c.hi)
		return real_madvise(addr, len, advice);
	sh_lock(&old);
	c.mine = sh_vma_any(c.lo, c.hi);
	sh_unlock(&old);
	if (c.mine && advice == MADV_REMOVE)	/* on the device's own mapping it would punch the image */
		err = remove_range(c.lo, c.hi);
	else if (c.mine)
		err = sh_crew_call(advise_in_crew, &c);
	if (!err && (!c.mine || c.in_kernel))
		return real_madvise(addr, len, advice);
	errno = saved;
	return err ? fail(err) : 0;
}

/* ---- mlockall: sh_fresh() has to know ---- */

PF_EXPORT int mlockall(int flags)
{
	int r = sh_real.mlockall != NULL ? sh_real.mlockall(flags) : (int)sh_sys(SYS_mlockall, flags);

	if (r == 0)
		atomic_store(&sh.mcl_future, (flags & MCL_FUTURE) != 0);
	return r;
}

PF_EXPORT int munlockall(void)
{
	int r = sh_real.munlockall != NULL ? sh_real.munlockall() : (int)sh_sys(SYS_munlockall);

	if (r == 0)
		atomic_store(&sh.mcl_future, false);
	return r;
}
