/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_seccomp.c - windows in programs that give system calls up, as libpinfs(7) lists them: what it promises for each
 * list works; what a library's thread needs and has not ends the windows, or the process, with a line that says so.
 */
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pinfs/pin.h>

/* libpinfs(7), SECCOMP: for the windows there are; for new ones; for fork. */
static const int for_windows[] = {
	SYS_read, SYS_write, SYS_epoll_wait, SYS_futex, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise,
		SYS_ioctl,
	SYS_sendmsg, SYS_recvfrom, SYS_epoll_ctl, SYS_shutdown, SYS_close, SYS_rt_sigprocmask, SYS_getpid,
		SYS_gettid, SYS_sched_yield,
	SYS_nanosleep, SYS_clock_gettime, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
};
static const int for_files[] = {
	SYS_fcntl, SYS_fstat, SYS_newfstatat, SYS_fstatfs, SYS_pidfd_open, SYS_pidfd_getfd, SYS_openat, SYS_readlinkat,
};
static const int for_fork[] = {
	SYS_clone, SYS_clone3, SYS_wait4, SYS_set_robust_list, SYS_rseq, SYS_prlimit64, SYS_socketpair, SYS_recvmsg,
	SYS_setsockopt, SYS_socket, SYS_connect, SYS_close_range, SYS_unshare, SYS_chdir, SYS_memfd_create,
		SYS_eventfd2, SYS_epoll_create1,
	SYS_userfaultfd, SYS_kill,
};
/* For threads that read and write with buffers in windows; the calls are the program's. */
static const int for_buffers[] = {
	SYS_fcntl, SYS_statx, SYS_fstatfs, SYS_process_vm_readv, SYS_process_vm_writev, SYS_sigaltstack,
	SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
};
/* Of this test's own. */
static const int for_test[] = {
	SYS_prctl, SYS_getppid, SYS_clock_nanosleep, SYS_rt_sigaction, SYS_brk, SYS_msync, SYS_restart_syscall,
};

#define FILTER_MAX 128
struct filter { struct sock_filter f[FILTER_MAX]; unsigned int n; };

static void add(struct filter *x, struct sock_filter what)
{
	x->f[x->n++] = what;
}

static void allow(struct filter *x, const int *nr, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		add(x, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr[i], 0, 1));
		add(x, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	}
}

static void begin(struct filter *x)
{
	x->n = 0;
	add(x, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	allow(x, for_test, PF_ARRAY_LEN(for_test));
}

/* For all threads, as sandboxes do. */
static int seal(struct filter *x, uint32_t otherwise)
{
	struct sock_fprog prog = { .filter = x->f };

	add(x, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise));
	prog.len = (unsigned short)x->n;
	NEED(x->n <= FILTER_MAX);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) == 0);
	return 0;
}

static int sealed_windows(void *arg)
{
	static struct filter x;
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	/* Blocks come and go meanwhile: another process punches. */
	for (unsigned int i = 0; i < 20; i++) {
		NEED(scene_use(p, (char)i) == 0);
		NEED(scene_punched(p, i) == 0);
	}
	return munmap(p, LEN);
}

static int sealed_files(void *arg)
{
	static struct filter x;
	char *p = child_map(here.file, LEN), *q;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	allow(&x, for_files, PF_ARRAY_LEN(for_files));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	q = child_map(here.other, LEN);
	NEED(q != NULL);
	NEED(scene_use(p, 's') == 0 && scene_use(q, 's') == 0);
	NEED(munmap(q, LEN) == 0 && munmap(p, LEN) == 0);
	return 0;
}

/* Files on pinfs and elsewhere, into windows and out of them, with memory beside them. */
static int sealed_buffers(void *arg)
{
	static char plain[2 * PAGE];
	static struct filter x;
	char *p = child_map(here.file, LEN);
	int fd[2] = { here.other, memfd_create("other", MFD_CLOEXEC) };
	struct iovec v[2];

	(void)arg;
	NEED(p != NULL && fd[1] >= 0 && ftruncate(fd[1], (off_t)MIB) == 0);
	v[0] = (struct iovec){ plain, sizeof plain };
	v[1] = (struct iovec){ p + CHUNK - PAGE, 2 * PAGE };
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	allow(&x, for_buffers, PF_ARRAY_LEN(for_buffers));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	for (size_t i = 0; i < 2; i++) {
		p[0] = plain[0] = (char)('a' + i);
		NEED(pwrite(fd[i], p, CHUNK / 4, 0) == (ssize_t)(CHUNK / 4));
		NEED(pread(fd[i], p + CHUNK, CHUNK / 4, 0) == (ssize_t)(CHUNK / 4) && p[CHUNK] == p[0]);
		p[CHUNK] = 'w';
		NEED(pwritev(fd[i], v, 2, 0) == (ssize_t)(4 * PAGE));
		plain[0] = p[CHUNK] = 0;
		NEED(preadv(fd[i], v, 2, 0) == (ssize_t)(4 * PAGE) && plain[0] == p[0] && p[CHUNK] == 'w');
	}
	return 0;
}

static int sealed_fork(void *arg)
{
	static struct filter x;
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	allow(&x, for_files, PF_ARRAY_LEN(for_files));
	allow(&x, for_fork, PF_ARRAY_LEN(for_fork));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	return scene_use_more(p);
}

/* Strict mode is one thread's; ours go on. Its only way out leaves them, and the process, behind. */
static int strict(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
	for (size_t at = 0; at < LEN; at += CHUNK)
		*WORD(p + at, 4) = 4;
	*WORD(p, 5) = 5;
	for (;;)
		;
}

/* One call at a time is missing: an error, a signal, one line; never a thread that waits for ever. */
static int without(void *arg)
{
	static struct filter x;
	int nr = *(const int *)arg, rc;
	char *p = child_map(here.file, LEN);

	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, (const int[]){ SYS_pidfd_getfd }, 1);		/* for the line */
	for (size_t i = 0; i < PF_ARRAY_LEN(for_windows); i++) {
		if (for_windows[i] != nr)
			allow(&x, &for_windows[i], 1);
	}
	NEED(seal(&x, SECCOMP_RET_ERRNO | EPERM) == 0);
	for (size_t at = 0; at < LEN; at += CHUNK) {
		rc = child_touch(p + at, 1);
		if (rc != 0)
			return 50;
	}
	return 0;
}

static void sealed(void)
{
	/* What is blocked when the filter comes goes on with what it has: one more round. */
	static const int missing[] = { SYS_read, SYS_write, SYS_epoll_wait, SYS_mmap, SYS_ioctl, SYS_sendmsg,
		SYS_recvfrom };
	uint32_t w[6] = { 0 };
	uint64_t end;
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	pt_skip("a sanitizer makes system calls of its own");
	return;
#endif
	if (!scene_set(WINDOW, 0600))
		return;
	pid = child_start(sealed_windows, NULL);
	scene_punches(20);
	PT_EQ(child_end(pid), 0);
	if (*child_said() != '\0')
		pt_say("%s", child_said());
	child_play(sealed_files, NULL);
	child_play(sealed_fork, NULL);
	pid = child_start(strict, NULL);
	end = pt_now_ms() + 60000;
	do
		PT_EQ(pread(here.file, w, sizeof w, 0), sizeof w);
	while (w[5] != 5 && pt_now_ms() < end);
	PT_EQ(w[4], 4);
	PT_EQ(w[5], 5);
	pt_kill(pid);
	for (size_t i = 0; i < PF_ARRAY_LEN(missing); i++) {
		int rc = child_end(child_start(without, (void *)(uintptr_t)&missing[i]));

		/* SIGBUS in the window, or the process is ended; and a line either way, where it can be written. */
		if (rc != 50 && rc != 128 + SIGABRT)
			pt_say("without system call %d: status %d, said: %s", missing[i], rc, child_said());
		CU_ASSERT(rc == 50 || rc == 128 + SIGABRT);
		if (missing[i] != SYS_write && strstr(child_said(), "libpinfs[") == NULL) {
			pt_say("without system call %d: status %d, said nothing of it: %s", missing[i], rc,
			       child_said());
			CU_FAIL("the library says what it misses");
		}
	}
	scene_strike();
}

static void buffers(void)
{
	char out[8192], self[PATH_MAX] = "";
	const char *const argv[] = { self, "--filter", "seccomp/buffers", NULL };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	pt_skip("a sanitizer makes system calls of its own");
	return;
#endif
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(sealed_buffers, NULL);
	scene_strike();
	if (getenv("PINFS_TEST_USER_MODE") != NULL)
		return;
	/* And by copies, as without the privilege for kernel-mode userfaultfd. */
	PT_SYS_FATAL(readlink("/proc/self/exe", self, sizeof self - 1));
	setenv("PINFS_TEST_USER_MODE", "1", 1);
	PT_EQ(pt_run(out, sizeof out, 200000, argv), 0);
	unsetenv("PINFS_TEST_USER_MODE");
	if (strstr(out, "1 passed, 0 failed") == NULL)
		pt_say("%s", out);
	CU_ASSERT(strstr(out, "1 passed, 0 failed") != NULL);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "what is promised, and what is missing", sealed, 0 },
		{ "buffers in windows", buffers, 0 },
	};
	static const struct pt_suite suites[] = { { "seccomp", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
