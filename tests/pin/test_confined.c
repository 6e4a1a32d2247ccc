/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_confined.c - windows in programs that give things up after they have started: their descriptors, root directory,
 * user, capabilities, namespaces, system calls, resources; that are traced; that bring a userfaultfd of their own.
 * It works,
 * or one line says why not.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define CHUNK (2 * MIB)
#define LEN (16 * MIB)
#define WORD(p, i) ((volatile uint32_t *)(void *)(p) + (i))

static struct pt_fs *fs;
static int file, other;

static bool stage(const char *opts, mode_t image)
{
	if (!pt_need_mount())
		return false;
	fs = pt_fs_start("64M", opts);
	PT_SYS_FATAL(chmod(fs->img, image));
	PT_SYS_FATAL(chmod(fs->mnt, 0777));
	file = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	other = open(pt_path(fs, "g"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	PT_SYS_FATAL(file);
	PT_SYS_FATAL(other);
	PT_SYS_FATAL(fchmod(file, 0666));
	PT_SYS_FATAL(ftruncate(file, LEN));
	PT_SYS_FATAL(ftruncate(other, LEN));
	return true;
}

static void strike(void)
{
	PT_SYS(close(file));
	PT_SYS(close(other));
	pt_fs_end(fs);
}

/* What a program does with a window: chunks that were not touched yet, more than the budget, pins, an msync. */
static int use(char *p, char value)
{
	struct pinfs_pin *pin;

	for (size_t at = 0; at < LEN; at += CHUNK) {
		p[at + PAGE] = value;
		NEED(p[at + PAGE] == value && p[at + 2 * PAGE] == 0);
	}
	NEED(pinfs_pin(p + CHUNK, 2 * PAGE, PINFS_PIN_WRITE, &pin) == 0 && pinfs_unpin(pin) == 0);
	NEED(msync(p, LEN, MS_SYNC) == 0);
	return 0;
}

static int use_all(void *arg)
{
	return use(arg, 'f');
}

/* The same, after a fork, and of a file that was not mapped before. */
static int use_more(char *p)
{
	char *q;

	NEED(use(p, 'u') == 0);
	NEED(child_sub(use_all, p) == 0);
	NEED(p[PAGE] == 'f');
	q = child_map(other, LEN);
	NEED(q != NULL);
	NEED(use(q, 'o') == 0);
	NEED(munmap(q, LEN) == 0);
	return 0;
}

/* ---- descriptors ---- */

static int close_by_loop(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	for (int fd = 3; fd < 1024; fd++)
		(void)close(fd);
	file = open(pt_path(fs, "f"), O_RDWR);
	other = open(pt_path(fs, "g"), O_RDWR);
	NEED(file >= 0 && other >= 0);
	return use_more(p);
}

static int close_by_range(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(close_range(0, ~0U, 0) == 0);
	/* 0, 1 and 2: what the library says must not get into them. */
	file = open(pt_path(fs, "f"), O_RDWR);
	other = open(pt_path(fs, "g"), O_RDWR);
	if (open("/dev/null", O_RDWR) != 2)
		return 1;
	return use_more(p);
}

static int close_from(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	closefrom(3);
	other = open(pt_path(fs, "g"), O_RDWR);
	NEED(other == 3);
	return use_more(p);
}

/* A table of its own for the thread that maps. */
static int unshared_files(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(close_range(100, ~0U, CLOSE_RANGE_UNSHARE) == 0);
	return use_more(p);
}

/* Not one descriptor is left for fork() to hand files over. */
static int no_descriptors(void *arg)
{
	struct rlimit lim = { .rlim_cur = 64, .rlim_max = 4096 };
	char *p = child_map(file, LEN);

	NEED(p != NULL);
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	while (dup(2) >= 0)
		;
	NEED(errno == EMFILE);
	NEED(use(p, 'n') == 0);
	if (arg == NULL)
		return child_sub(use_all, p);
	/* Not even for a moment: SIGBUS, and a line. */
	lim.rlim_max = lim.rlim_cur;
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	NEED(child_sub(use_all, p) == 128 + SIGBUS);
	return 0;
}

static int no_descriptors_at_all(void *arg)
{
	struct rlimit lim = { .rlim_cur = 0, .rlim_max = 0 };
	char *p = child_map(file, LEN), *q;
	struct pinfs_range_info ri;

	(void)arg;
	NEED(p != NULL);
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	NEED(use(p, 'n') == 0);
	/* A new file cannot be attached: an ordinary mapping. */
	q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	NEED(q != MAP_FAILED && pinfs_range_query(q, LEN, &ri) != 0);
	/* Another window of one that is attached needs none. */
	q = child_map(file, LEN);
	NEED(q != NULL && use(q, 'n') == 0);
	return 0;
}

static void descriptors(void)
{
	int hard = 1;

	if (!stage("window=12M", 0600))
		return;
	child_play(close_by_loop, NULL);
	child_play(close_by_range, NULL);
	child_play(close_from, NULL);
	child_play(unshared_files, NULL);
	child_play(no_descriptors, NULL);
	CU_ASSERT(strstr(child_said(), "libpinfs") == NULL);
	child_play(no_descriptors, &hard);
	CU_ASSERT(strstr(child_said(), "1 of 1 windows of the child give SIGBUS: Too many open files") != NULL);
	child_play(no_descriptors_at_all, NULL);
	CU_ASSERT(strstr(child_said(), "no window on descriptor") != NULL);
	strike();
}

/* ---- daemon(), chroot() ---- */

static int becomes_daemon(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	*WORD(p, 1) = 0;
	if (daemon(0, 0) != 0)
		return 1;
	*WORD(p, 2) = use_more(p) == 0;
	*WORD(p, 1) = (uint32_t)getpid();
	return 0;
}

static void daemons(void)
{
	uint64_t end = pt_now_ms() + 30000;
	uint32_t w[3] = { 0 };

	if (!stage("window=12M", 0600))
		return;
	child_play(becomes_daemon, NULL);
	while (w[1] == 0 && pt_now_ms() < end) {
		PT_EQ(pread(file, w, sizeof w, 0), sizeof w);
		pt_sleep_ms(2);
	}
	CU_ASSERT(w[1] != 0);
	PT_EQ(w[2], 1);
	while (w[1] != 0 && kill((pid_t)w[1], 0) == 0 && pt_now_ms() < end)
		pt_sleep_ms(2);
	strike();
}

/* Into a directory with nothing in it: no /dev, no /proc, no /sys. */
static int into_jail(void *arg)
{
	char *p = arg == NULL ? child_map(file, LEN) : NULL;
	struct stat st;

	if (p != NULL)
		p[0] = 1;
	NEED(chroot(pt_path(fs, "jail")) == 0 && chdir("/") == 0);
	if (p == NULL)
		p = child_map(file, LEN);
	NEED(p != NULL);
	NEED(use_more(p) == 0);
	/* Something that the library has to say from a thread of its own still arrives. */
	if (arg == NULL) {
		NEED(kill(fs->pid, SIGKILL) == 0);
		for (int i = 0; child_touch(p, 1) != SIGBUS || fstat(2, &st) != 0 || st.st_size == 0; i++)
			NEED(i < 30000 && usleep(1000) == 0);
	}
	return 0;
}

static void jails(void)
{
	int first = 1;

	if (!stage("window=12M", 0600))
		return;
	PT_SYS(mkdir(pt_path(fs, "jail"), 0755));
	child_play(into_jail, &first);
	child_play(into_jail, NULL);
	CU_ASSERT(strstr(child_said(), "lost the daemon") != NULL);
	PT_SYS(close(file));
	PT_SYS(close(other));
	pt_fs_crash(fs);
	pt_fs_end(fs);
}

/* ---- users, capabilities ---- */

static int drops_user(void *arg)
{
	char *p = child_map(file, LEN), *q;
	bool may = arg == NULL;

	NEED(p != NULL);
	p[0] = 1;
	NEED(child_be_nobody() == 0);
	NEED(use(p, 'd') == 0);
	q = child_map(other, LEN);		/* the session is there, and stays */
	NEED(q != NULL && use(q, 'd') == 0);
	NEED(child_sub(use_all, p) == (may ? 0 : 128 + SIGBUS));
	return 0;
}

static int drops_capabilities(void *arg)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(syscall(SYS_capset, &h, none) == 0);
	return use_more(p);
}

static int drops_dumpable(void *arg)
{
	char *p = child_map(file, LEN);

	NEED(p != NULL);
	p[0] = 1;
	NEED(arg == NULL || child_be_nobody() == 0);
	NEED(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	return use_more(p);
}

static void users(void)
{
	int nobody = 1;

	if (!stage("allow_other,window=12M", 0666))
		return;
	PT_SYS(fchmod(other, 0666));
	child_play(drops_user, NULL);
	child_play(drops_capabilities, NULL);
	child_play(drops_dumpable, NULL);
	child_play(drops_dumpable, &nobody);
	PT_SYS(chmod(fs->img, 0600));
	child_play(drops_user, &nobody);
	CU_ASSERT(strstr(child_said(), "2 of 2 windows of the child give SIGBUS: Permission denied") != NULL);
	strike();
}

/* ---- namespaces ---- */

static int mount_namespace(void *arg)
{
	int old = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL && old >= 0);
	p[0] = 1;
	NEED(unshare(CLONE_NEWNS) == 0);
	NEED(use_more(p) == 0);
	NEED(setns(old, CLONE_NEWNS) == 0);	/* refused where a thread shares root and working directory */
	return use_more(p);
}

static int user_namespace(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
	return use_more(p);
}

static int pid_namespace(void *arg)
{
	char *p = child_map(file, LEN);
	pid_t pid;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWPID) == 0);
	NEED(use(p, 'p') == 0);
	pid = fork();		/* process 1 */
	if (pid == 0)
		_exit(use_all(p));
	return pt_wait(pid, 30000);
}

/* The daemon's address is one of the network namespace. */
static int net_namespace(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWNET) == 0);
	NEED(use(p, 'p') == 0);
	NEED(child_sub(use_all, p) == 128 + SIGBUS);
	return 0;
}

static void namespaces(void)
{
	if (!stage("window=12M", 0600))
		return;
	child_play(mount_namespace, NULL);
	child_play(user_namespace, NULL);
	CU_ASSERT(strstr(child_said(), "unshare(2): invalid, or refused to a process with threads") != NULL);
	child_play(pid_namespace, NULL);
	child_play(net_namespace, NULL);
	CU_ASSERT(strstr(child_said(), "windows of the child give SIGBUS: Connection refused") != NULL);
	strike();
}

/* ---- system calls ---- */

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
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	/* Blocks come and go meanwhile: another process punches. */
	for (unsigned int i = 0; i < 20; i++) {
		NEED(use(p, (char)i) == 0);
		*WORD(p, 8) = i + 1;
		NEED(child_await(WORD(p, 8), 0) == 0);
	}
	return munmap(p, LEN);
}

static int sealed_files(void *arg)
{
	static struct filter x;
	char *p = child_map(file, LEN), *q;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	allow(&x, for_files, PF_ARRAY_LEN(for_files));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	q = child_map(other, LEN);
	NEED(q != NULL);
	NEED(use(p, 's') == 0 && use(q, 's') == 0);
	NEED(munmap(q, LEN) == 0 && munmap(p, LEN) == 0);
	return 0;
}

static int sealed_fork(void *arg)
{
	static struct filter x;
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	begin(&x);
	allow(&x, for_windows, PF_ARRAY_LEN(for_windows));
	allow(&x, for_files, PF_ARRAY_LEN(for_files));
	allow(&x, for_fork, PF_ARRAY_LEN(for_fork));
	NEED(seal(&x, SECCOMP_RET_KILL_PROCESS) == 0);
	return use_more(p);
}

/* Strict mode is one thread's; ours go on. Its only way out leaves them, and the process, behind. */
static int strict(void *arg)
{
	char *p = child_map(file, LEN);

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
	char *p = child_map(file, LEN);

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
	uint64_t end = pt_now_ms() + 30000;
	uint32_t w[9] = { 0 };
	pid_t pid;

	if (!stage("window=12M", 0600))
		return;
	pid = child_start(sealed_windows, NULL);
	for (unsigned int i = 0; i < 20; i++) {
		uint32_t zero = 0;

		do
			PT_EQ(pread(file, w, sizeof w, 0), sizeof w);
		while (w[8] != i + 1 && pt_now_ms() < end);
		PT_SYS(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, (off_t)(LEN - PAGE)));
		PT_EQ(pwrite(file, &zero, sizeof zero, 32), 4);
	}
	PT_EQ(child_end(pid), 0);
	if (*child_said() != '\0')
		pt_say("%s", child_said());
	child_play(sealed_files, NULL);
	child_play(sealed_fork, NULL);
	pid = child_start(strict, NULL);
	do
		PT_EQ(pread(file, w, sizeof w, 0), sizeof w);
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
		CU_ASSERT(missing[i] == SYS_write || strstr(child_said(), "libpinfs[") != NULL);
	}
	strike();
}

/* ---- resources ---- */

/* Invalidation needs the address space twice, for a moment; there is none. */
static int little_space(void *arg)
{
	struct rlimit lim;
	char *p = child_map(file, LEN), buf[64];
	unsigned long pages;
	FILE *f = fopen("/proc/self/statm", "re");

	(void)arg;
	NEED(p != NULL && use(p, 's') == 0);
	NEED(f != NULL && fgets(buf, sizeof buf, f) != NULL && fclose(f) == 0);
	pages = strtoul(buf, NULL, 10);
	lim.rlim_cur = lim.rlim_max = pages * PAGE + MIB;
	NEED(setrlimit(RLIMIT_AS, &lim) == 0);
	NEED(mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED && errno == ENOMEM);
	for (unsigned int i = 0; i < 10; i++) {
		NEED(use(p, (char)(i + 1)) == 0);
		*WORD(p, 8) = i + 1;
		NEED(child_await(WORD(p, 8), 0) == 0);
		NEED(p[PAGE] == 0 && p[LEN - PAGE] == 0);
	}
	return 0;
}

static int no_threads(void *arg)
{
	struct rlimit lim = { .rlim_cur = 1, .rlim_max = 1 };
	struct pinfs_range_info ri;
	char *p;

	(void)arg;
	NEED(setrlimit(RLIMIT_NPROC, &lim) == 0 && child_be_nobody() == 0);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	NEED(p != MAP_FAILED && pinfs_range_query(p, LEN, &ri) != 0);
	p[0] = 1;
	return munmap(p, LEN);
}

static void resources(void)
{
	uint64_t end = pt_now_ms() + 30000;
	uint32_t w[9] = { 0 }, zero = 0;
	pid_t pid;

	if (!stage("allow_other,window=64M", 0666))
		return;
	pid = child_start(little_space, NULL);
	for (unsigned int i = 0; i < 10; i++) {
		do
			PT_EQ(pread(file, w, sizeof w, 0), sizeof w);
		while (w[8] != i + 1 && pt_now_ms() < end);
		PT_SYS(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, (off_t)(LEN - PAGE)));
		PT_EQ(pwrite(file, &zero, sizeof zero, 32), 4);
	}
	PT_EQ(child_end(pid), 0);
	if (*child_said() != '\0')
		pt_say("%s", child_said());
	CU_ASSERT(*child_said() == '\0');
	child_play(no_threads, NULL);
	CU_ASSERT(strstr(child_said(), "no windows in this process: Resource temporarily unavailable") != NULL);
	strike();
}

/* ---- traced ---- */

static int tracee(void *arg)
{
	char *p = child_map(file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[PAGE] = 't';
	NEED(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0) == 0 || errno == EINVAL);
	NEED(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
	*(char *volatile *)arg = p;		/* shared with the tracer */
	NEED(raise(SIGSTOP) == 0);
	for (size_t at = 0; at < LEN; at += CHUNK)
		p[at] = 'x';
	return p[PAGE + 8] == 'P' ? 0 : 1;
}

static int tracer(void *arg)
{
	char **shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *p;
	unsigned int steps = 0;
	pid_t pid;
	long word;
	int st;

	(void)arg;
	pid = pt_fork(tracee, shared);
	NEED(pid > 0 && waitpid(pid, &st, 0) == pid && WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	p = *shared;
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, p + PAGE, NULL);
	NEED(errno == 0 && (word & 0xff) == 't');
	NEED(ptrace(PTRACE_POKEDATA, pid, p + PAGE + 8, (void *)(uintptr_t)'P') == 0);
	/* A page that was never touched: an error, and no debugger that hangs. */
	NEED(ptrace(PTRACE_PEEKDATA, pid, p + 3 * CHUNK, NULL) == -1 && errno == EIO);
	/* Instruction by instruction through some of its faults. */
	for (; steps < 400; steps++) {
		NEED(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
		NEED(waitpid(pid, &st, 0) == pid && WIFSTOPPED(st));
	}
	NEED(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	NEED(pt_wait(pid, 30000) == 0);
	return 0;
}

static void traced(void)
{
	if (!stage("window=12M", 0600))
		return;
	child_play(tracer, NULL);
	strike();
}

/* ---- programs that serve faults themselves ---- */

static _Atomic unsigned int own_faults;

static void *own_server(void *arg)
{
	static char page[4096] __attribute__((aligned(4096)));
	int fd = *(const int *)arg;
	struct uffd_msg m;

	memset(page, 'o', sizeof page);
	while (read(fd, &m, sizeof m) == (ssize_t)sizeof m) {
		struct uffdio_copy c = { .dst = m.arg.pagefault.address & ~(PAGE - 1), .src = (uintptr_t)page,
			.len = PAGE };

		atomic_fetch_add(&own_faults, 1);
		if (ioctl(fd, UFFDIO_COPY, &c) != 0)
			break;
	}
	return NULL;
}

static char *guarded;

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	uintptr_t at = (uintptr_t)si->si_addr & ~(PAGE - 1);

	(void)sig;
	(void)ctx;
	if (at < (uintptr_t)guarded || at >= (uintptr_t)guarded + 16 * PAGE ||
	    mprotect((void *)at, PAGE, PROT_READ | PROT_WRITE) != 0)
		_exit(11);
}

/* Beside the library's: a userfaultfd, and a SIGSEGV handler that lifts protections, as garbage collectors have. */
static int own_engines(void *arg)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	struct uffdio_api api = { .api = UFFD_API };
	char *p = child_map(file, LEN), *q, *mine;
	struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	static int fd;
	pthread_t t;

	(void)arg;
	NEED(p != NULL);
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	NEED(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0);
	mine = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guarded = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(mine != MAP_FAILED && guarded != MAP_FAILED);
	r.range.start = (uintptr_t)mine;
	r.range.len = 16 * PAGE;
	NEED(ioctl(fd, UFFDIO_REGISTER, &r) == 0);
	NEED(sigaction(SIGSEGV, &sa, NULL) == 0);
	NEED(pthread_create(&t, NULL, own_server, &fd) == 0);
	for (size_t i = 0; i < 16; i++) {
		NEED(mine[i * PAGE + 5] == 'o');
		guarded[i * PAGE] = 1;
		p[i * MIB] = 1;
		NEED(p[i * MIB] == 1 && p[i * MIB + 1] == 0);
	}
	NEED(atomic_load(&own_faults) == 16);
	/* A window is not for somebody else's. */
	q = child_map(other, CHUNK);
	NEED(q != NULL);
	r.range.start = (uintptr_t)q;
	r.range.len = CHUNK;
	NEED(ioctl(fd, UFFDIO_REGISTER, &r) == -1 && errno == EBUSY);
	return use(p, 'e');
}

static void engines(void)
{
	if (!stage("window=12M", 0600))
		return;
	child_play(own_engines, NULL);
	strike();
}

/* ---- not linked ---- */

static void not_linked(void)
{
	char name[4096], out[512];

	if (!stage(NULL, 0600))
		return;
	(void)snprintf(name, sizeof name, "%s", pt_path(fs, "f"));
	PT_EQ(pt_run(out, sizeof out, 30000, (const char *[]){ pt_program("tests/pin/alone.dyn"), name, NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "plain\n");
	PT_EQ(pt_run(out, sizeof out, 30000,
		     (const char *[]){ pt_program("tests/pin/alone.dyn"), name, pt_program("libpinfs.so"), NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "window\n");
	PT_EQ(pt_run(out, sizeof out, 30000,
		     (const char *[]){ pt_program("pinrun"), pt_program("tests/pin/alone.dyn"), name, NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "window\n");
	/* Nothing can be preloaded into this one, and nothing is spoilt by trying. */
	(void)setenv("LD_PRELOAD", pt_program("libpinfs.so"), 1);
	PT_EQ(pt_run(out, sizeof out, 30000, (const char *[]){ pt_program("tests/pin/alone.static"), name, NULL }), 0);
	(void)unsetenv("LD_PRELOAD");
	CU_ASSERT_STRING_EQUAL(out, "plain\n");
	PT_EQ(pt_run(out, sizeof out, 30000,
		     (const char *[]){ pt_program("pinrun"), pt_program("tests/pin/alone.static"), name, NULL }), 126);
	CU_ASSERT(strstr(out, "static") != NULL);
	strike();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "descriptors", descriptors, 0 },
		{ "daemon", daemons, 0 },
		{ "chroot", jails, 0 },
		{ "users and capabilities", users, 0 },
		{ "namespaces", namespaces, 0 },
		{ "seccomp", sealed, 0 },
		{ "resources", resources, 0 },
		{ "ptrace", traced, 0 },
		{ "their own userfaultfd", engines, 0 },
		{ "dlopen and static programs", not_linked, 0 },
	};
	static const struct pt_suite suites[] = { { "confined", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
