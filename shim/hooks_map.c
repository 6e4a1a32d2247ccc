/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_map.c - mmap and munmap as the program sees them. Calls that touch no window go to the real ones unchanged; a
 * range that holds windows and foreign memory is served in one piece under sh.lock.
 */
#include "hooks.h"
#include "site.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

SH_EARLY bool sh_hook_ours(void)
{
	if (!sh.ready || sh.disabled || sh_is_crew)
		return false;
	sh_alive();
	return (pid_t)sh_sys(SYS_getpid) == sh.pid;
}

SH_EARLY bool sh_hook_any(void)
{
	return atomic_load(&sh.nvma) != 0 && sh_hook_ours();
}

SH_EARLY int sh_hook_fail(int err)
{
	errno = -err;
	return -1;
}

SH_EARLY bool sh_hook_span(const void *addr, size_t len, uint64_t *lo, uint64_t *hi)
{
	*lo = sh_addr(addr);
	if (len > UINT64_MAX - SH_PAGE - *lo)
		return false;
	*hi = *lo + pf_round_up(len, SH_PAGE);
	return true;
}

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
	return r < 0 ? sh_hook_fail((int)r) : 0;
}

/* ---- mmap ---- */

int sh_reserve(uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, void **out)
{
	uint64_t colour = foff % PF_CHUNK_SIZE, at;
	void *probe;
	int err;

	if (addr != 0 || len < PF_CHUNK_SIZE || (flags & MAP_32BIT))
		return sh_fresh(addr, len, prot, flags & (MAP_FIXED_NOREPLACE | MAP_32BIT), out);
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

static bool noexec(int fd)
{
	struct statfs st;

	return sh_sys(SYS_fstatfs, fd, &st) == 0 && (st.f_flags & ST_NOEXEC);
}

bool sh_hook_noexec(const struct sh_file *f)
{
	return noexec(f->fd) || noexec(f->ses->devfd);
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
	if (((how & SH_PRIVATE) && !sh_guard_probe(f->ses)) || ((prot & PROT_EXEC) && sh_hook_noexec(f))) {
		err = -ENOTTY;
	} else if (fixed) {
		err = sh_vma_cut(addr, addr + len);
		if (!err)
			err = sh_fresh_over(addr, len, prot);
		if (!err)
			sh_vma_forget(addr, addr + len, &drop);
	} else {
		err = sh_reserve(addr, len, prot, flags, foff, &p);
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

/* What is over the limit is not mapped. That pages cannot be brought in, behind the end of the file, is no error. */
static int lock_new(void *p, size_t len)
{
	int err = sh_hook_lock(sh_addr(p), sh_addr(p) + len, MLOCK_ONFAULT);

	if (err) {
		(void)munmap(p, len);
		return err == -EPERM ? err : -EAGAIN;
	}
	(void)sh_hook_lock(sh_addr(p), sh_addr(p) + len, 0);
	return 0;
}

/* What do_mmap() knows of flags: MAP_SHARED_VALIDATE takes no others. */
#define KNOWN_FLAGS                                                                                                  \
	(MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE | MAP_GROWSDOWN | MAP_LOCKED |        \
	 MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT | MAP_SYNC |              \
	 (21 << MAP_HUGE_SHIFT) | (30 << MAP_HUGE_SHIFT) | 0x80 /* MAP_ABOVE4G */ | 0x4000000 /* MAP_UNINITIALIZED */)

/* -ENOTTY: the kernel may have it. */
static int map_window(void *addr, size_t len, int prot, int flags, int fd, uint64_t off, void **out)
{
	long acc = sh_sys(SYS_fcntl, fd, F_GETFL);
	bool private = (flags & MAP_TYPE) == MAP_PRIVATE, write;
	struct sh_file *f;
	int err;

	/* What the kernel would refuse it shall refuse in its own words. */
	if (acc < 0 || (acc & O_PATH) || (acc & O_ACCMODE) == O_WRONLY || (flags & (MAP_GROWSDOWN | MAP_HUGETLB)))
		return -ENOTTY;
	write = (acc & O_ACCMODE) == O_RDWR && !private;
	if (!write && !private && (prot & PROT_WRITE))
		return -ENOTTY;
	err = sh_file_get(fd, write, &f);
	if (!err && (flags & MAP_TYPE) == MAP_SHARED_VALIDATE && (flags & ~KNOWN_FLAGS)) {
		sh_file_put(f);
		return -EOPNOTSUPP;
	}
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
	else if (len > UINT64_MAX - SH_PAGE) {
		err = -ENOMEM;
	} else if (pf_round_up(len, SH_PAGE) > (uint64_t)INT64_MAX - off) {
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
	if ((flags & MAP_LOCKED) || atomic_load(&sh.mcl_future))
		return lock_new(*out, len);
	if ((flags & MAP_POPULATE) && !(flags & MAP_NONBLOCK))
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

	if (!sh_hook_span(addr, len, &lo, &hi) || lo % SH_PAGE)
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

/* A program that has nothing to do with pinfs pays one system call for the mapping of a file: no more than this. */
SH_EARLY static bool maybe_ours(int fd)
{
	return sh.ready && !sh.disabled && (atomic_load(&sh.sessions) != NULL || sh_attach_maybe(fd)) &&
	       sh_hook_ours();
}

SH_EARLY __attribute__((noinline)) static void *map_any(void *addr, size_t len, int prot, int flags, int fd,
							 off_t off)
{
	int type = flags & MAP_TYPE, saved = errno, err;
	void *p;

	if ((type == MAP_SHARED || type == MAP_SHARED_VALIDATE || type == MAP_PRIVATE) && !(flags & MAP_ANONYMOUS) &&
	    fd >= 0 && len != 0 && off >= 0 && (uint64_t)off % SH_PAGE == 0 && maybe_ours(fd)) {
		err = map_window(addr, len, prot, flags, fd, (uint64_t)off, &p);
		errno = saved;
		if (err == 0) {
			sh_site_look();
			return p;
		}
		if (err != -ENOTTY) {
			errno = -err;
			return MAP_FAILED;
		}
	}
	if ((flags & MAP_FIXED) && sh_hook_any())
		return map_over(addr, len, prot, flags, fd, off);
	return real_mmap(addr, len, prot, flags, fd, off);
}

/* Memory, in a program without windows: as hooks_io.c's calls, a look and a jump. */
SH_EARLY static inline bool no_window(void)
{
	return atomic_load_explicit(&sh.nvma, memory_order_relaxed) == 0;
}

PF_EXPORT SH_EARLY void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	if ((flags & MAP_ANONYMOUS) && no_window() && sh_real.mmap != NULL)
		return sh_real.mmap(addr, len, prot, flags, fd, off);
	return map_any(addr, len, prot, flags, fd, off);
}

PF_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off)
{
	return mmap(addr, len, prot, flags, fd, off);
}

/* ---- munmap ---- */

int sh_hook_unmap(uint64_t lo, uint64_t hi, struct sh_file **drop)
{
	int err = sh_vma_cut(lo, hi);

	if (err)
		return err;
	if (real_munmap(sh_ptr(lo), hi - lo))
		return -errno;
	sh_vma_forget(lo, hi, drop);
	return 0;
}

SH_EARLY __attribute__((noinline)) static int unmap_any(void *addr, size_t len)
{
	struct sh_file *drop = NULL;
	int saved = errno, err;
	uint64_t lo, hi;
	sh_sigs old;

	if (len == 0 || !sh_hook_span(addr, len, &lo, &hi) || lo % SH_PAGE || !sh_hook_any())
		return real_munmap(addr, len);
	sh_lock(&old);
	if (!sh_vma_any(lo, hi)) {
		sh_unlock(&old);
		return real_munmap(addr, len);
	}
	err = sh_hook_unmap(lo, hi, &drop);
	sh_unlock(&old);
	sh_file_drop(drop);
	errno = saved;
	return err ? sh_hook_fail(err) : 0;
}

PF_EXPORT SH_EARLY int munmap(void *addr, size_t len)
{
	return no_window() && sh_real.munmap != NULL ? sh_real.munmap(addr, len) : unmap_any(addr, len);
}

/* ---- remap_file_pages: a mapping of another part of the file, as the kernel has it since Linux 4.0 ---- */

PF_EXPORT int remap_file_pages(void *addr, size_t size, int prot, size_t pgoff, int flags)
{
	uint64_t lo = pf_round_down(sh_addr(addr), SH_PAGE), len = pf_round_down(size, SH_PAGE), at;
	int err = 0, was = 0, saved = errno;
	struct sh_file *f = NULL;
	struct sh_vma *v;
	bool write = false;
	sh_sigs old;
	void *p;

	if (!sh_hook_any())
		goto real;
	sh_lock(&old);
	v = sh_vma_find(lo);
	if (v == NULL) {
		sh_unlock(&old);
		goto real;
	}
	if (prot != 0 || lo + len <= lo || pgoff + len / SH_PAGE < pgoff || v->map->private)
		err = -EINVAL;
	else if (pgoff > (INT64_MAX - len) / SH_PAGE)
		err = -EOVERFLOW;
	for (at = v->hi; !err && at < lo + len; at = v->hi) {
		struct sh_vma *n = sh_vma_find(at);

		if (n == NULL || n->map->file != v->map->file || n->prot != v->prot || n->map->private)
			err = -EINVAL;
		else
			v = n;
	}
	if (!err) {
		f = v->map->file;
		was = v->prot;
		write = v->map->write;
		f->refs++;
	}
	sh_unlock(&old);
	if (!err) {
		err = sh_window_make(f, lo, len, was, MAP_SHARED | MAP_FIXED, (uint64_t)pgoff * SH_PAGE, write, &p);
		sh_file_put(f);
		if (!err && !(flags & MAP_NONBLOCK))
			(void)sh_sys(SYS_madvise, lo, len, MADV_POPULATE_READ);
	}
	errno = saved;
	return err ? sh_hook_fail(err) : 0;
real:
	err = (int)sh_sys(SYS_remap_file_pages, addr, size, prot, pgoff, flags);
	return err ? sh_hook_fail(err) : 0;
}
