/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_sys.c - syscall(2), for the system calls that libc has no name for: io_submit and its relatives (libaio makes
 * them so), io_uring. Any other number goes to the kernel by the same instructions as in libc: the caller's stack is
 * as it was, which matters to whoever makes a clone() or vfork() in this way.
 */
#include "async.h"
#include "site.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>

bool sh_sys_is_ours(long nr)
{
	switch (nr) {
	case SYS_io_setup:
	case SYS_io_destroy:
	case SYS_io_submit:
	case SYS_io_cancel:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_setup:
	case SYS_io_uring_enter:
	case SYS_io_uring_register:
		return true;
	default:
		return false;
	}
}

long sh_sys_seen(long nr, const long *arg)
{
	if (sh_is_crew || !sh.ready || sh.disabled)
		return sh_sys(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	sh_alive();
	switch (nr) {
	case SYS_io_destroy:
		return sh_aio_destroy(arg);
	case SYS_io_submit:
		return sh_aio_submit(arg);
	case SYS_io_cancel:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		return sh_aio_events(nr, arg);
	case SYS_io_uring_setup:
		return sh_uring_setup(arg);
	case SYS_io_uring_enter:
		return sh_uring_enter(arg);
	case SYS_io_uring_register:
		return sh_uring_registered(arg);
	default:
		return sh_sys(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	}
}

#if defined(__x86_64__)
/* As in libc: numbers into place, -4095..-1 is an error. Ours are told apart without a register of the caller's. */
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	lea -206(%rdi), %rax\n"		/* io_setup, io_destroy, io_getevents, io_submit, io_cancel */
	"	cmp $4, %rax\n"
	"	jbe 2f\n"
	"	lea -425(%rdi), %rax\n"		/* io_uring_setup, _enter, _register */
	"	cmp $2, %rax\n"
	"	jbe 2f\n"
	"	cmp $333, %rdi\n"		/* io_pgetevents */
	"	je 2f\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 1f\n"
	"	ret\n"
	"1:	mov %rax, %rdi\n"
	"	jmp sh_sys_error\n"
	"2:	jmp sh_sys_libc\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n");

_Static_assert(SYS_io_setup == 206 && SYS_io_destroy == 207 && SYS_io_getevents == 208 && SYS_io_submit == 209 &&
	       SYS_io_cancel == 210 && SYS_io_uring_setup == 425 && SYS_io_uring_enter == 426 &&
	       SYS_io_uring_register == 427 && SYS_io_pgetevents == 333, "the numbers in the text above");

/* Called from there alone. */
long sh_sys_error(long r);
long sh_sys_libc(long nr, long a, long b, long c, long d, long e, long f);

__attribute__((used)) SH_EARLY long sh_sys_error(long r)
{
	errno = (int)-r;
	return -1;
}

__attribute__((used)) long sh_sys_libc(long nr, long a, long b, long c, long d, long e, long f)
{
	const long arg[6] = { a, b, c, d, e, f };
	int saved = errno;
	long r = sh_sys_seen(nr, arg);

	errno = saved;
	return r < 0 && r >= -4095 ? sh_sys_error(r) : r;
}
#endif
