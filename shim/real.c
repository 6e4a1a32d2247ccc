/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * real.c - what lies behind the names that we interpose. Two roads: sh_real leads to the next library that
 * defines the name (libc, a sanitizer) and is for the program's calls; sh_sys() leads to the kernel and is for
 * our own.
 */
#include "sh.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct sh_real sh_real;

static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	/* ISO C has no conversion from object to function pointers; POSIX gives both one representation. */
	memcpy(slot, &sym, sizeof sym);
}

void sh_real_init(void)
{
	load(&sh_real.mmap, "mmap");
	load(&sh_real.munmap, "munmap");
	load(&sh_real.mremap, "mremap");
	load(&sh_real.mprotect, "mprotect");
	load(&sh_real.msync, "msync");
	load(&sh_real.fsync, "fsync");
	load(&sh_real.fdatasync, "fdatasync");
	load(&sh_real.madvise, "madvise");
	load(&sh_real.mlockall, "mlockall");
	load(&sh_real.munlockall, "munlockall");
	load(&sh_real.nthreads, "__nptl_nthreads");
}

#if defined(__x86_64__)
SH_EARLY long sh_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#else
SH_EARLY long sh_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long r = syscall(nr, a, b, c, d, e, f);

	if (r == -1) {
		r = -errno;
		errno = saved;
	}
	return r;
}
#endif

SH_EARLY void *sh_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
	long r = sh_sys(SYS_mmap, addr, len, prot, flags, fd, off);

	return (void *)r;
}

SH_EARLY int sh_mmap_err(const void *p)
{
	long r = (long)p;

	return r < 0 && r >= -4095 ? (int)r : 0;
}

void *sh_anon(size_t len)
{
	void *p = sh_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sh_mmap_err(p))
		return NULL;
	return p;
}
