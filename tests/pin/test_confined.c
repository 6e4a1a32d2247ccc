/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_confined.c - windows in programs that give things up after they have started: their descriptors, root directory,
 * user, capabilities, namespaces, resources; that are traced; that bring a userfaultfd of their own. It works, or one
 * line says why not. System calls: test_seccomp.c.
 */
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/scene.h"

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

/* ---- descriptors ---- */

static int close_by_loop(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	for (int fd = 3; fd < 1024; fd++)
		(void)close(fd);
	here.file = open(pt_path(here.fs, "f"), O_RDWR);
	here.other = open(pt_path(here.fs, "g"), O_RDWR);
	NEED(here.file >= 0 && here.other >= 0);
	return scene_use_more(p);
}

static int close_by_range(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(close_range(0, ~0U, 0) == 0);
	/* 0, 1 and 2: what the library says must not get into them. */
	here.file = open(pt_path(here.fs, "f"), O_RDWR);
	here.other = open(pt_path(here.fs, "g"), O_RDWR);
	if (open("/dev/null", O_RDWR) != 2)
		return 1;
	return scene_use_more(p);
}

static int close_from(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	closefrom(3);
	here.other = open(pt_path(here.fs, "g"), O_RDWR);
	NEED(here.other == 3);
	return scene_use_more(p);
}

/* A table of its own for the thread that maps. */
static int unshared_files(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(close_range(100, ~0U, CLOSE_RANGE_UNSHARE) == 0);
	return scene_use_more(p);
}

/* Not one descriptor is left for fork() to hand files over. */
static int no_descriptors(void *arg)
{
	struct rlimit lim = { .rlim_cur = 64, .rlim_max = 4096 };
	char *p = child_map(here.file, LEN);

	NEED(p != NULL);
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	while (dup(2) >= 0)
		;
	NEED(errno == EMFILE);
	NEED(scene_use(p, 'n') == 0);
	if (arg == NULL)
		return child_sub(scene_use_all, p);
	/* Not even for a moment: SIGBUS, and a line. */
	lim.rlim_max = lim.rlim_cur;
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	NEED(child_sub(scene_use_all, p) == 128 + SIGBUS);
	return 0;
}

static int no_descriptors_at_all(void *arg)
{
	struct rlimit lim = { .rlim_cur = 0, .rlim_max = 0 };
	char *p = child_map(here.file, LEN), *q;
	struct pinfs_range_info ri;

	(void)arg;
	NEED(p != NULL);
	NEED(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	NEED(scene_use(p, 'n') == 0);
	/* A new file cannot be attached: an ordinary mapping. */
	q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, here.other, 0);
	NEED(q != MAP_FAILED && pinfs_range_query(q, LEN, &ri) != 0);
	/* Another window of one that is attached needs none. */
	q = child_map(here.file, LEN);
	NEED(q != NULL && scene_use(q, 'n') == 0);
	return 0;
}

static void descriptors(void)
{
	int hard = 1;

	if (!scene_set(WINDOW, 0600))
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
	scene_strike();
}

/* ---- daemon(), chroot() ---- */

static int becomes_daemon(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	*WORD(p, 1) = 0;
	if (daemon(0, 0) != 0)
		return 1;
	*WORD(p, 2) = scene_use_more(p) == 0;
	*WORD(p, 1) = (uint32_t)getpid();
	return 0;
}

static void daemons(void)
{
	uint64_t end = pt_now_ms() + 30000;
	uint32_t w[3] = { 0 };

	if (!scene_set(WINDOW, 0600))
		return;
	child_play(becomes_daemon, NULL);
	while (w[1] == 0 && pt_now_ms() < end) {
		PT_EQ(pread(here.file, w, sizeof w, 0), sizeof w);
		pt_sleep_ms(2);
	}
	CU_ASSERT(w[1] != 0);
	PT_EQ(w[2], 1);
	while (w[1] != 0 && kill((pid_t)w[1], 0) == 0 && pt_now_ms() < end)
		pt_sleep_ms(2);
	scene_strike();
}

/* Into a directory with nothing in it: no /dev, no /proc, no /sys. */
static int into_jail(void *arg)
{
	char *p = arg == NULL ? child_map(here.file, LEN) : NULL;
	struct stat st;

	if (p != NULL)
		p[0] = 1;
	NEED(chroot(pt_path(here.fs, "jail")) == 0 && chdir("/") == 0);
	if (p == NULL)
		p = child_map(here.file, LEN);
	NEED(p != NULL);
	NEED(scene_use_more(p) == 0);
	/* Something that the library has to say from a thread of its own still arrives. */
	if (arg == NULL) {
		NEED(kill(here.fs->pid, SIGKILL) == 0);
		for (int i = 0; child_touch(p, 1) != SIGBUS || fstat(2, &st) != 0 || st.st_size == 0; i++)
			NEED(i < 30000 && usleep(1000) == 0);
	}
	return 0;
}

static void jails(void)
{
	int first = 1;

	if (!scene_set(WINDOW, 0600))
		return;
	PT_SYS(mkdir(pt_path(here.fs, "jail"), 0755));
	child_play(into_jail, &first);
	child_play(into_jail, NULL);
	CU_ASSERT(strstr(child_said(), "lost the daemon") != NULL);
	PT_SYS(close(here.file));
	PT_SYS(close(here.other));
	pt_fs_crash(here.fs);
	pt_fs_end(here.fs);
}

/* ---- users, capabilities ---- */

static int drops_user(void *arg)
{
	char *p = child_map(here.file, LEN), *q;
	bool may = arg == NULL;

	NEED(p != NULL);
	p[0] = 1;
	NEED(child_be_nobody() == 0);
	NEED(scene_use(p, 'd') == 0);
	q = child_map(here.other, LEN);		/* the session is there, and stays */
	NEED(q != NULL && scene_use(q, 'd') == 0);
	NEED(child_sub(scene_use_all, p) == (may ? 0 : 128 + SIGBUS));
	return 0;
}

static int drops_capabilities(void *arg)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(syscall(SYS_capset, &h, none) == 0);
	return scene_use_more(p);
}

static int drops_dumpable(void *arg)
{
	char *p = child_map(here.file, LEN);

	NEED(p != NULL);
	p[0] = 1;
	NEED(arg == NULL || child_be_nobody() == 0);
	NEED(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	return scene_use_more(p);
}

static void users(void)
{
	int nobody = 1;

	if (!scene_set("allow_other,window=12M", 0666))
		return;
	PT_SYS(fchmod(here.other, 0666));
	child_play(drops_user, NULL);
	child_play(drops_capabilities, NULL);
	child_play(drops_dumpable, NULL);
	child_play(drops_dumpable, &nobody);
	PT_SYS(chmod(here.fs->img, 0600));
	child_play(drops_user, &nobody);
	CU_ASSERT(strstr(child_said(), "2 of 2 windows of the child give SIGBUS: Permission denied") != NULL);
	scene_strike();
}

/* ---- namespaces ---- */

static int mount_namespace(void *arg)
{
	int old = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL && old >= 0);
	p[0] = 1;
	NEED(unshare(CLONE_NEWNS) == 0);
	NEED(scene_use_more(p) == 0);
	NEED(setns(old, CLONE_NEWNS) == 0);	/* refused where a thread shares root and working directory */
	return scene_use_more(p);
}

static int user_namespace(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
	return scene_use_more(p);
}

static int pid_namespace(void *arg)
{
	char *p = child_map(here.file, LEN);
	pid_t pid;

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWPID) == 0);
	NEED(scene_use(p, 'p') == 0);
	pid = fork();		/* process 1 */
	if (pid == 0)
		_exit(scene_use_all(p));
	return pt_wait(pid, 60000);
}

/* The daemon's address is one of the network namespace. */
static int net_namespace(void *arg)
{
	char *p = child_map(here.file, LEN);

	(void)arg;
	NEED(p != NULL);
	p[0] = 1;
	NEED(unshare(CLONE_NEWNET) == 0);
	NEED(scene_use(p, 'p') == 0);
	NEED(child_sub(scene_use_all, p) == 128 + SIGBUS);
	return 0;
}

static void namespaces(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(mount_namespace, NULL);
	child_play(user_namespace, NULL);
	CU_ASSERT(strstr(child_said(), "unshare(2): invalid, or refused to a process with threads") != NULL);
	child_play(pid_namespace, NULL);
	child_play(net_namespace, NULL);
	CU_ASSERT(strstr(child_said(), "windows of the child give SIGBUS: Connection refused") != NULL);
	scene_strike();
}

/* ---- resources ---- */

/* Invalidation needs the address space twice, for a moment; there is none. */
static int little_space(void *arg)
{
	struct rlimit lim;
	char *p = child_map(here.file, LEN), buf[64];
	unsigned long pages;
	FILE *f = fopen("/proc/self/statm", "re");

	(void)arg;
	NEED(p != NULL && scene_use(p, 's') == 0);
	NEED(f != NULL && fgets(buf, sizeof buf, f) != NULL && fclose(f) == 0);
	pages = strtoul(buf, NULL, 10);
	lim.rlim_cur = lim.rlim_max = pages * PAGE + MIB;
	NEED(setrlimit(RLIMIT_AS, &lim) == 0);
	NEED(mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, here.file, 0) == MAP_FAILED && errno == ENOMEM);
	for (unsigned int i = 0; i < 10; i++) {
		NEED(scene_use(p, (char)(i + 1)) == 0);
		NEED(scene_punched(p, i) == 0);
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
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, here.file, 0);
	NEED(p != MAP_FAILED && pinfs_range_query(p, LEN, &ri) != 0);
	p[0] = 1;
	return munmap(p, LEN);
}

static void resources(void)
{
	pid_t pid;

	if (!scene_set("allow_other,window=64M", 0666))
		return;
	pid = child_start(little_space, NULL);
	scene_punches(10);
	PT_EQ(child_end(pid), 0);
	if (*child_said() != '\0')
		pt_say("%s", child_said());
	CU_ASSERT(*child_said() == '\0');
	child_play(no_threads, NULL);
	CU_ASSERT(strstr(child_said(), "no windows in this process: Resource temporarily unavailable") != NULL);
	scene_strike();
}

/* ---- traced ---- */

static int tracee(void *arg)
{
	char *p = child_map(here.file, LEN);

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
	NEED(pt_wait(pid, 60000) == 0);
	return 0;
}

static void traced(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(tracer, NULL);
	scene_strike();
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
	char *p = child_map(here.file, LEN), *q, *mine;
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
	q = child_map(here.other, CHUNK);
	NEED(q != NULL);
	r.range.start = (uintptr_t)q;
	r.range.len = CHUNK;
	NEED(ioctl(fd, UFFDIO_REGISTER, &r) == -1 && errno == EBUSY);
	return scene_use(p, 'e');
}

static void engines(void)
{
	if (!scene_set(WINDOW, 0600))
		return;
	child_play(own_engines, NULL);
	scene_strike();
}

/* ---- not linked ---- */

static void not_linked(void)
{
	char name[4096], out[512];

	if (!scene_set(NULL, 0600))
		return;
	(void)snprintf(name, sizeof name, "%s", pt_path(here.fs, "f"));
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("tests/pin/alone.dyn"), name, NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "plain\n");
	PT_EQ(pt_run(out, sizeof out, 60000,
		     (const char *[]){ pt_program("tests/pin/alone.dyn"), name, pt_program("libpinfs.so"), NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "window\n");
	PT_EQ(pt_run(out, sizeof out, 60000,
		     (const char *[]){ pt_program("pinrun"), pt_program("tests/pin/alone.dyn"), name, NULL }), 0);
	CU_ASSERT_STRING_EQUAL(out, "window\n");
	/* Nothing can be preloaded into this one, and nothing is spoilt by trying. */
	(void)setenv("LD_PRELOAD", pt_program("libpinfs.so"), 1);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("tests/pin/alone.static"), name, NULL }), 0);
	(void)unsetenv("LD_PRELOAD");
	CU_ASSERT_STRING_EQUAL(out, "plain\n");
	PT_EQ(pt_run(out, sizeof out, 60000,
		     (const char *[]){ pt_program("pinrun"), pt_program("tests/pin/alone.static"), name, NULL }), 126);
	CU_ASSERT(strstr(out, "static") != NULL);
	scene_strike();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "descriptors", descriptors, 0 },
		{ "daemon", daemons, 0 },
		{ "chroot", jails, 0 },
		{ "users and capabilities", users, 0 },
		{ "namespaces", namespaces, 0 },
		{ "resources", resources, 0 },
		{ "ptrace", traced, 0 },
		{ "their own userfaultfd", engines, 0 },
		{ "dlopen and static programs", not_linked, 0 },
	};
	static const struct pt_suite suites[] = { { "confined", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
