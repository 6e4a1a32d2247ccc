/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_adv.c - msync, madvise, and fsync as far as windows care, as the program sees them. */
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

SH_EARLY static int real_madvise(void *addr, size_t len, int advice)
{
	long r;

	if (sh_real.madvise != NULL)
		return sh_real.madvise(addr, len, advice);
	r = sh_sys(SYS_madvise, addr, len, advice);
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

static int real_msync(void *addr, size_t len, int flags)
{
	long r;

	if (sh_real.msync != NULL)
		return sh_real.msync(addr, len, flags);
	r = sh_sys(SYS_msync, addr, len, flags);
	return r < 0 ? sh_hook_fail((int)r) : 0;
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

/* ---- fsync: the same, of the whole file ---- */

static int guard_file_in_crew(void *arg)
{
	struct sh_file *f = arg;
	sh_sigs old;

	sh_lock(&old);
	for (struct sh_slot *sl = f->slots; sl != NULL; sl = sl->sl_fnext) {
		if (!sl->sl_stored)
			continue;
		sl->sl_stored = false;
		for (struct sh_vma *v = f->vmas; v != NULL; v = v->fnext)
			if (v->prot & PROT_WRITE)
				sh_map_guard(v, sl->sl_chunk << PF_CHUNK_SHIFT, PF_CHUNK_SIZE);
	}
	sh_unlock(&old);
	return 0;
}

static void guard_file(int fd)
{
	struct sh_file *f = NULL;
	bool stored = false;
	struct stat st;
	sh_sigs old;

	if (!sh.guard || sh_sys(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	sh_lock(&old);
	for (struct sh_session *s = sh.sessions; s != NULL && f == NULL; s = s->next) {
		f = sh_file_by_ino(s, st.st_ino);
		if (f != NULL && (f->dev != st.st_dev || !sh_can_guard(s)))
			f = NULL;
	}
	for (struct sh_slot *sl = f != NULL ? f->slots : NULL; sl != NULL; sl = sl->sl_fnext)
		stored |= sl->sl_stored;
	if (stored)
		f->refs++;
	sh_unlock(&old);
	if (!stored)
		return;
	(void)sh_crew_call(guard_file_in_crew, f);
	sh_file_put(f);
}

PF_EXPORT int fsync(int fd)
{
	int saved = errno;
	long r;

	if (sh_hook_any())
		guard_file(fd);
	errno = saved;
	if (sh_real.fsync != NULL)
		return sh_real.fsync(fd);
	r = sh_sys(SYS_fsync, fd);
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

PF_EXPORT int fdatasync(int fd)
{
	int saved = errno;
	long r;

	if (sh_hook_any())
		guard_file(fd);
	errno = saved;
	if (sh_real.fdatasync != NULL)
		return sh_real.fdatasync(fd);
	r = sh_sys(SYS_fdatasync, fd);
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

/* ---- msync ---- */

PF_EXPORT int msync(void *addr, size_t len, int flags)
{
	int saved = errno, err = 0;
	uint64_t lo, hi, at;
	struct sh_vma *v;
	bool gap = false;
	sh_sigs old;

	if (!sh_hook_span(addr, len, &lo, &hi) || lo % SH_PAGE || (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)) || lo == hi || !sh_hook_any())
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
			if ((flags & MS_INVALIDATE) && v->locked)
				err = -EBUSY;
			else if (flags & MS_SYNC)
				err = sync_vma(v, at, end, &old);
		}
		at = end;
	}
	sh_unlock(&old);
	if (flags & MS_SYNC)
		sh_cpu_fence();
	errno = saved;
	return err ? sh_hook_fail(err == -ENOTCONN ? -EIO : err) : gap ? sh_hook_fail(-ENOMEM) : 0;
}

/* ---- madvise ---- */

struct punch {
	struct sh_file *f;
	uint64_t foff, len;
	void *at;			/* the kernel's own mapping of the range */
};

static int map_in_crew(void *arg)
{
	struct punch *p = arg;

	p->at = sh_mmap(NULL, p->len, PROT_NONE, MAP_SHARED | MAP_NORESERVE, p->f->fd, p->foff);
	return sh_mmap_err(p->at);
}

/*
 * MADV_REMOVE is a hole in the *file*. It may have to wait for pins, which a signal to this thread ends; so this thread
 * has to ask, but it has no descriptor of the file, and to lend it one would, when that is closed, take the process's
 * POSIX locks with it. A mapping that the crew makes for the purpose is as good as a descriptor.
 */
static int punch(struct punch *p)
{
	int err = sh_crew_call(map_in_crew, p);

	if (err)
		return err;
	err = (int)sh_sys(SYS_madvise, p->at, p->len, MADV_REMOVE);
	(void)sh_sys(SYS_munmap, p->at, p->len);
	return err;
}

static int remove_range(uint64_t lo, uint64_t hi)
{
	struct punch p;
	struct sh_vma *v;
	sh_sigs old;
	int err;

	while (lo < hi) {
		sh_lock(&old);
		v = sh_vma_find(lo);
		err = v == NULL ? -ENOMEM : v->locked ? -EINVAL : !v->map->write || v->map->private ? -EACCES : 0;
		if (!err) {
			p = (struct punch){ .f = v->map->file, .foff = sh_vma_foff(v, lo),
					    .len = pf_min64(hi, v->hi) - lo };
			p.f->refs++;
		}
		sh_unlock(&old);
		if (err)
			return err;
		err = punch(&p);
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

/* The kernel forgets that pages of zeros are protected when it drops them: a store would be seen by nobody. And that
 * pages are poison: a fault there would be one of a page that is mapped. */
static void forget_zeros(uint64_t lo, uint64_t hi)
{
	for (struct sh_vma *v = sh_vma_next(lo); v != NULL && v->lo < hi; v = sh_vma_next(v->hi)) {
		uint64_t from = pf_max64(lo, v->lo), to = pf_min64(hi, v->hi);

		if (!v->map->private)
			sh_zap_zeros(v, sh_vma_foff(v, from), to - from);
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
		forget_zeros(lo, hi);
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

	if (sh.user_mode && (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) && sh_hook_any())
		sh_prefault(sh_addr(addr), len, advice == MADV_POPULATE_WRITE);
	if (!sh_hook_any() || passes(advice) || !sh_hook_span(addr, len, &c.lo, &c.hi) || c.lo % SH_PAGE ||
	    c.lo == c.hi)
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
	return err ? sh_hook_fail(err) : 0;
}
