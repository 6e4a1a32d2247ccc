/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_prot.c - mprotect, pkey_mprotect and the mlock family as the program sees them: what a window has to have again
 * when its memory is exchanged. */
#include "hooks.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

SH_EARLY static int real_mprotect(void *addr, size_t len, int prot)
{
	long r;

	if (sh_real.mprotect != NULL)
		return sh_real.mprotect(addr, len, prot);
	r = sh_sys(SYS_mprotect, addr, len, prot);
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

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
	if ((c->prot & PROT_EXEC) && !(v->prot & PROT_EXEC) && sh_hook_noexec(v->map->file))
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

	if (len == 0 || !sh_hook_span(addr, len, &c.lo, &c.hi) || c.lo % SH_PAGE || !sh_hook_any() ||
	    (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)))
		return 1;
	sh_lock(&old);
	mine = sh_vma_any(c.lo, c.hi);
	sh_unlock(&old);
	if (!mine)
		return 1;
	err = sh_crew_call(protect_in_crew, &c);
	errno = saved;
	return err ? sh_hook_fail(err) : 0;
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
	return k < 0 ? sh_hook_fail((int)k) : 0;
}

/* ---- mlock: windows remember it, for the kernel forgets it with the memory that is exchanged ---- */

static int set_locked(uint64_t lo, uint64_t hi, bool on)
{
	sh_sigs old;
	int err;

	sh_lock(&old);
	err = sh_vma_cut(lo, hi);
	for (struct sh_vma *v = sh_vma_next(lo); !err && v != NULL && v->lo < hi; v = sh_vma_next(v->hi))
		v->locked = on;
	sh_unlock(&old);
	return err;
}

/* Pages that came by the faults of mlock() itself may have been exchanged for the file's by then. */
static int populate(uint64_t lo, uint64_t hi)
{
	struct sh_vma *v, one;
	bool copy = false;
	sh_sigs old;
	int err = 0;

	for (uint64_t at = lo; !err && at < hi; at = one.hi) {
		sh_lock(&old);
		v = sh_vma_next(at);
		one = v != NULL ? *v : (struct sh_vma){ .lo = hi, .hi = hi };
		if (v != NULL)		/* locking copies, as in the kernel */
			copy = v->map->private && (v->prot & PROT_WRITE);
		sh_unlock(&old);
		if (one.lo >= hi || !(one.prot & PROT_READ))
			continue;
		at = pf_max64(at, one.lo);
		err = (int)sh_sys(SYS_madvise, at, pf_min64(one.hi, hi) - at,
				  copy ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	}
	return err == -EFAULT ? -ENOMEM : err;
}

int sh_hook_lock(uint64_t lo, uint64_t hi, unsigned int flags)
{
	int err = set_locked(lo, hi, true), r;

	if (err)
		return err;
	/* Pages come by faults, which the library serves; so the lock is not held. */
	if (sh.user_mode && !(flags & MLOCK_ONFAULT))
		sh_prefault(lo, hi - lo, false);
	r = (int)sh_sys(SYS_mlock2, lo, hi - lo, flags);
	if (r == 0 && !(flags & MLOCK_ONFAULT))
		r = populate(lo, hi);
	if (r == -EPERM || r == -EINVAL)
		(void)set_locked(lo, hi, false);
	return r;
}

/* As the kernel: from the page that holds @addr to the one that holds the last byte. False: no window there. */
static bool locking(const void *addr, size_t len, uint64_t *lo, uint64_t *hi)
{
	uint64_t from = pf_round_down(sh_addr(addr), SH_PAGE);
	bool mine;
	sh_sigs old;

	if (len == 0 || len > UINT64_MAX - SH_PAGE - sh_addr(addr) || !sh_hook_any())
		return false;
	*lo = from;
	*hi = pf_round_up(sh_addr(addr) + len, SH_PAGE);
	sh_lock(&old);
	mine = sh_vma_any(*lo, *hi);
	sh_unlock(&old);
	return mine;
}

static int result(long r)
{
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

PF_EXPORT int mlock(const void *addr, size_t len)
{
	uint64_t lo, hi;

	if (locking(addr, len, &lo, &hi))
		return result(sh_hook_lock(lo, hi, 0));
	return result(sh_sys(SYS_mlock, addr, len));
}

PF_EXPORT int mlock2(const void *addr, size_t len, unsigned int flags)
{
	uint64_t lo, hi;

	if (locking(addr, len, &lo, &hi))
		return result(sh_hook_lock(lo, hi, flags));
	return result(sh_sys(SYS_mlock2, addr, len, flags));
}

PF_EXPORT int munlock(const void *addr, size_t len)
{
	uint64_t lo, hi;
	int err = 0;

	if (locking(addr, len, &lo, &hi))
		err = set_locked(lo, hi, false);
	return err ? sh_hook_fail(err) : result(sh_sys(SYS_munlock, addr, len));
}

/* sh_fresh() has to know of the future. */
static void all_locked(bool on)
{
	sh_sigs old;

	if (!sh_hook_any())
		return;
	sh_lock(&old);
	for (struct sh_vma *v = sh_vma_next(0); v != NULL; v = sh_vma_next(v->hi))
		v->locked = on;
	sh_unlock(&old);
}

PF_EXPORT int mlockall(int flags)
{
	int r = sh_real.mlockall != NULL ? sh_real.mlockall(flags) : (int)sh_sys(SYS_mlockall, flags);

	if (r == 0) {
		atomic_store(&sh.mcl_future, (flags & MCL_FUTURE) != 0);
		if (flags & MCL_CURRENT)
			all_locked(true);
	}
	return r;
}

PF_EXPORT int munlockall(void)
{
	int r = sh_real.munlockall != NULL ? sh_real.munlockall() : (int)sh_sys(SYS_munlockall);

	if (r == 0) {
		atomic_store(&sh.mcl_future, false);
		all_locked(false);
	}
	return r;
}
