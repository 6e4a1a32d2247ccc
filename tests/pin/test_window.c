/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_window.c - windows on a real mount: what a mapping shows is what read(2) and other processes see, holes,
 * ends of files, growth and shrinkage while mapped, files without a name, fork, system calls that read into a
 * window, and stores that go on while the file's blocks are taken away under them.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "harness/touch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

static int new_file(const struct pt_fs *fs, const char *name, off_t size)
{
	int fd = open(pt_path(fs, "%s", name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(ftruncate(fd, size));
	return fd;
}

static char *map(int fd, size_t len, off_t off)
{
	struct pinfs_range_info ri;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, off);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	PT_EQ(pinfs_range_query(p, len, &ri), 0);	/* a window, not the kernel's own mapping */
	return p;
}

static void coherent(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 8 * MIB), other;
	char *p = map(fd, 8 * MIB, 0), *q, buf[16] = "";
	struct stat st;

	CU_ASSERT(p[5 * MIB] == 0);
	memcpy(p + 2 * MIB - 4, "straddle", 8);
	PT_EQ(pread(fd, buf, 8, 2 * MIB - 4), 8);
	CU_ASSERT(memcmp(buf, "straddle", 8) == 0);
	PT_EQ(pwrite(fd, "written", 7, 5 * MIB), 7);	/* where zeros were shown */
	CU_ASSERT(memcmp(p + 5 * MIB, "written", 7) == 0);
	PT_EQ(pwrite(fd, "again", 5, 5 * MIB), 5);
	CU_ASSERT(memcmp(p + 5 * MIB, "againen", 7) == 0);
	other = open(pt_path(fs, "f"), O_RDONLY);
	PT_EQ(pread(other, buf, 7, 5 * MIB), 7);
	CU_ASSERT(memcmp(buf, "againen", 7) == 0);
	q = mmap(NULL, MIB, PROT_READ, MAP_SHARED, other, 5 * MIB);
	CU_ASSERT(memcmp(q, "againen", 7) == 0);
	p[5 * MIB] = 'A';
	CU_ASSERT(q[0] == 'A');
	PT_EQ(fstat(fd, &st), 0);
	PT_EQ(st.st_size, 8 * MIB);
	PT_EQ(msync(p, 8 * MIB, MS_SYNC), 0);
	munmap(q, MIB);
	munmap(p, 8 * MIB);
	close(other);
	close(fd);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	fd = open(pt_path(fs, "f"), O_RDONLY);
	PT_EQ(pread(fd, buf, 7, 5 * MIB), 7);
	CU_ASSERT(memcmp(buf, "Againen", 7) == 0);
	close(fd);
	pt_fs_end(fs);
}

static void end_of_file(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 100), other;
	char *p = map(fd, 4 * MIB, 0), b = 1;

	PT_EQ(pt_touch(p + 4000, true), 0);
	PT_EQ(pt_touch(p + PAGE, false), SIGBUS);
	PT_EQ(pt_touched_code(), BUS_ADRERR);
	PT_EQ(pt_touch(p + 3 * MIB, true), SIGBUS);
	PT_EQ(ftruncate(fd, 3 * MIB), 0);		/* grows */
	CU_ASSERT(p[4000] == 0);			/* what was stored behind the end is gone */
	PT_EQ(pt_touch(p + PAGE, true), 0);
	PT_EQ(pt_touch(p + 3 * MIB - 1, true), 0);
	PT_EQ(pt_touch(p + 3 * MIB, false), SIGBUS);
	PT_EQ(pwrite(fd, "x", 1, 4 * MIB - 1), 1);	/* grows by a write */
	CU_ASSERT(p[4 * MIB - 1] == 'x');
	PT_EQ(ftruncate(fd, PAGE), 0);			/* shrinks */
	PT_EQ(pt_touch(p + PAGE, false), SIGBUS);
	PT_EQ(pt_touch(p + 4 * MIB - 1, true), SIGBUS);
	PT_EQ(pt_touch(p, true), 0);
	PT_EQ(ftruncate(fd, 2 * PAGE), 0);
	CU_ASSERT(p[PAGE] == 0);
	PT_EQ(read(fd, &b, 0), 0);
	other = open(pt_path(fs, "f"), O_RDWR | O_TRUNC);
	PT_SYS(other);
	close(other);
	PT_EQ(pt_touch(p, false), SIGBUS);
	munmap(p, 4 * MIB);
	close(fd);
	pt_fs_end(fs);
}

static void nameless(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 4 * MIB);
	char *p = map(fd, 4 * MIB, 0);

	memset(p, 7, 2 * MIB);
	PT_EQ(unlink(pt_path(fs, "f")), 0);
	close(fd);
	CU_ASSERT(p[MIB] == 7);
	p[3 * MIB] = 8;
	CU_ASSERT(p[3 * MIB] == 8);
	PT_FAILS(pt_umount2(fs->mnt, 0), EBUSY);		/* a mapping keeps the file system busy */
	CU_ASSERT(p[MIB] == 7);
	munmap(p, 4 * MIB);
	pt_fs_end(fs);					/* and now it is not */
}

static void other_process(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 4 * MIB), st;
	char *p = map(fd, 4 * MIB, 0);
	pid_t pid;

	p[0] = 1;
	pid = fork();
	if (pid == 0) {
		char *q;

		p[100] = 2;				/* the inherited window */
		q = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		q[3 * MIB] = 3;
		if (p[3 * MIB] != 3 || q[100] != 2)
			_exit(1);
		while (*(volatile char *)(q + 200) != 9)
			usleep(1000);
		_exit(ftruncate(fd, 2 * MIB) ? 2 : 7);
	}
	for (uint64_t end = 0; *(volatile char *)(p + 3 * MIB) != 3 && pt_wait_on(&end);)
		;
	CU_ASSERT(p[3 * MIB] == 3 && p[100] == 2);
	p[200] = 9;
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WIFEXITED(st) ? WEXITSTATUS(st) : -1, 7);
	PT_EQ(pt_touch(p + 3 * MIB, false), SIGBUS);
	CU_ASSERT(p[100] == 2);
	munmap(p, 4 * MIB);
	close(fd);
	pt_fs_end(fs);
}

/* System calls that write into, or read from, memory that is a window with nothing mapped yet. */
static void calls_on_windows(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 8 * MIB), src, out, io[2];
	char *p = map(fd, 8 * MIB, 0), *heap = malloc(MIB), path[PATH_MAX + 16];
	struct iovec iov[2] = { { p + 4 * MIB, PAGE }, { p + 6 * MIB - 100, 200 } };

	for (size_t i = 0; i < MIB; i++)
		heap[i] = (char)(i * 7 + i / 4096);
	snprintf(path, sizeof path, "%s/plain", fs->dir);
	src = open(path, O_RDWR | O_CREAT, 0600);
	PT_EQ(write(src, heap, MIB), MIB);
	PT_EQ(pread(src, p + 100, MIB, 0), MIB);		/* holes until now */
	CU_ASSERT(memcmp(p + 100, heap, MIB) == 0);
	PT_EQ(preadv(src, iov, 2, 0), PAGE + 200);
	CU_ASSERT(memcmp(p + 4 * MIB, heap, PAGE) == 0 && memcmp(p + 6 * MIB - 100, heap + PAGE, 200) == 0);
	if (getenv("PINFS_TEST_USER_MODE") != NULL)		/* past the library */
		PT_FAILS(syscall(SYS_pread64, src, p + 2 * MIB + MIB / 2, PAGE, 0), EFAULT);
	PT_EQ(pwrite(src, p + 7 * MIB, PAGE, 0), PAGE);		/* of a hole: zeros */
	PT_EQ(pread(src, heap, PAGE, 0), PAGE);
	CU_ASSERT(heap[0] == 0 && heap[PAGE - 1] == 0);
	PT_EQ(pipe(io), 0);
	PT_EQ(write(io[1], p + 100 + PAGE, 100), 100);
	PT_EQ(read(io[0], p + 3 * MIB, 100), 100);
	CU_ASSERT(memcmp(p + 3 * MIB, p + 100 + PAGE, 100) == 0);
	/* The file's own blocks through its own window: the daemon must not wait for us. */
	PT_EQ(pwrite(fd, p + 100, 64 * 1024, 5 * MIB), 64 * 1024);
	CU_ASSERT(memcmp(p + 100, p + 5 * MIB, 64 * 1024) == 0);
	PT_EQ(ftruncate(fd, 7 * MIB), 0);
	PT_FAILS(pread(src, p + 7 * MIB, PAGE, 0), EFAULT);	/* beyond the end: no signal */
	/* Direct I/O from a real disk file system, where this machine has one. */
	out = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT, 0600);
	if (out >= 0) {
		memset(p, 5, 64 * 1024);
		PT_EQ(pwrite(out, p, 64 * 1024, 0), 64 * 1024);
		PT_EQ(pread(out, p + 2 * MIB, 64 * 1024, 0), 64 * 1024);
		CU_ASSERT(memcmp(p, p + 2 * MIB, 64 * 1024) == 0);
		close(out);
	}
	munmap(p, 8 * MIB);
	close(io[0]);
	close(io[1]);
	close(src);
	(void)unlink(path);
	free(heap);
	close(fd);
	pt_fs_end(fs);
}

/* The same without the privilege for kernel-mode userfaultfd. */
static void calls_unprivileged(void)
{
	char exe[] = "/proc/self/exe", out[8192], self[PATH_MAX] = "";
	const char *const argv[] = { self, "--filter", "window/system calls on windows", NULL };

	PT_SYS_FATAL(readlink(exe, self, sizeof self - 1));
	setenv("PINFS_TEST_USER_MODE", "1", 1);
	PT_EQ(pt_run(out, sizeof out, 200000, argv), 0);
	unsetenv("PINFS_TEST_USER_MODE");
	if (strstr(out, "1 passed, 0 failed") == NULL)
		pt_say("%s", out);
	CU_ASSERT(strstr(out, "1 passed, 0 failed") != NULL);
}

static void pieces(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 8 * MIB), ro;
	char *p = map(fd, 8 * MIB, 0), *q;

	for (size_t i = 0; i < 8; i++)
		p[i * MIB] = (char)('A' + i);
	PT_EQ(munmap(p + 2 * MIB, MIB), 0);
	PT_EQ(pt_touch(p + 2 * MIB, false), SIGSEGV);
	PT_EQ(mprotect(p + 4 * MIB, 2 * MIB, PROT_READ), 0);
	PT_EQ(pt_touch(p + 5 * MIB, true), SIGSEGV);
	q = mremap(p + 6 * MIB, 2 * MIB, 4 * MIB, MREMAP_MAYMOVE);
	CU_ASSERT_FATAL(q != MAP_FAILED);
	CU_ASSERT(q[0] == 'G' && q[MIB] == 'H');
	PT_EQ(pt_touch(q + 2 * MIB, false), SIGBUS);		/* beyond the end of the file */
	PT_EQ(ftruncate(fd, 10 * MIB), 0);
	PT_EQ(pt_touch(q + 3 * MIB, true), 0);
	PT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10 * MIB), 0);
	CU_ASSERT(p[0] == 0 && p[MIB] == 0 && p[3 * MIB] == 0 && p[4 * MIB] == 0 && q[0] == 0 && q[3 * MIB] == 0);
	PT_EQ(pt_touch(p + 5 * MIB, true), SIGSEGV);
	PT_EQ(madvise(p, MIB, MADV_DONTNEED), 0);
	p[0] = 'x';
	PT_EQ(madvise(p, PAGE, MADV_REMOVE), 0);
	CU_ASSERT(p[0] == 0);
	munmap(p, 6 * MIB);
	munmap(q, 4 * MIB);
	ro = open(pt_path(fs, "f"), O_RDONLY);
	PT_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
	q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	CU_ASSERT(q != MAP_FAILED);
	PT_FAILS(mprotect(q, PAGE, PROT_READ | PROT_WRITE), EACCES);
	munmap(q, PAGE);
	q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | 0x80000 /* MAP_SYNC */, fd, 0);
	CU_ASSERT(q != MAP_FAILED);
	munmap(q, PAGE);
	q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CU_ASSERT(q != MAP_FAILED);
	q[0] = 9;
	p = map(fd, PAGE, 0);
	CU_ASSERT(p[0] == 0);
	munmap(p, PAGE);
	munmap(q, PAGE);
	close(ro);
	close(fd);
	pt_fs_end(fs);
}

/* More chunks than the window has slots, again and again. */
static void small_window(void)
{
	struct pt_fs *fs = pt_fs_start("64M", "window=4M");
	int fd = new_file(fs, "f", 32 * MIB);
	char *p = map(fd, 32 * MIB, 0);
	unsigned int bad = 0;

	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < 16; i++) {
			bad += p[i * 2 * MIB] != round;
			p[i * 2 * MIB]++;
		}
	}
	PT_EQ(bad, 0);
	munmap(p, 32 * MIB);
	close(fd);
	pt_fs_end(fs);
}

static void no_space(void)
{
	struct pt_fs *fs = pt_fs_start("16M", NULL);
	int fd = new_file(fs, "f", 64 * MIB), n = 0, sig = 0;
	char *p = map(fd, 64 * MIB, 0);

	while (n < 64 && pt_touch(p + (size_t)n * MIB, true) == 0 && pt_touch(p + (size_t)n * MIB + MIB / 2, true) == 0)
		n++;
	PT_EQ(munmap(p, 64 * MIB), 0);
	p = map(fd, 64 * MIB, 0);
	for (size_t i = 0; i < 64 * MIB && sig == 0; i += PAGE)
		sig = pt_touch(p + i, true);
	PT_EQ(sig, SIGBUS);
	PT_EQ(pt_touched_code(), BUS_ADRERR);
	PT_EQ(ftruncate(fd, 0), 0);				/* gives the space back */
	PT_EQ(ftruncate(fd, 64 * MIB), 0);
	for (uint64_t end = 0; pt_touch(p, true) != 0 && pt_wait_on(&end);)
		;
	PT_EQ(pt_touch(p, true), 0);
	munmap(p, 64 * MIB);
	close(fd);
	pt_fs_end(fs);
}

/* ---- stores against invalidations ---- */

struct load {
	char *p;
	int fd, who;
	uint64_t lost;
	atomic_bool *stop;
	_Atomic uint64_t *gen;
};

/*
 * Each thread counts in a page of its own, and reads back what it stored. A punch sets the page to 0 and is
 * announced after it returned: so a value other than the last, or 0 when a punch was under way, is a lost
 * store.
 */
static void *counter(void *arg)
{
	struct load *l = arg;
	volatile uint64_t *at = (void *)(l->p + (size_t)l->who * 16 * PAGE);
	uint64_t n = 0, seen, g;

	while (!atomic_load(l->stop)) {
		g = atomic_load(l->gen);
		*at = ++n;
		seen = *at;
		if (seen != n && (seen != 0 || (atomic_load(l->gen) == g && !(g & 1))))
			l->lost++;
	}
	return NULL;
}

static void *kernel_reader(void *arg)
{
	struct load *l = arg;
	int z = open("/dev/zero", O_RDONLY);

	while (!atomic_load(l->stop)) {
		if (read(z, l->p + 64 * PAGE, 16 * PAGE) <= 0)	/* less than all: it was stopped meanwhile */
			l->lost++;
	}
	close(z);
	return NULL;
}

static void punched_under_load(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 2 * MIB);
	char *p = map(fd, 2 * MIB, 0);
	_Atomic uint64_t gen = 0;
	atomic_bool stop = false;
	struct load l[4];
	pthread_t t[4];
	uint64_t end, rounds = 0;

	for (int i = 0; i < 4; i++) {
		l[i] = (struct load){ .p = p, .fd = fd, .who = i, .stop = &stop, .gen = &gen };
		pthread_create(&t[i], NULL, i < 3 ? counter : kernel_reader, &l[i]);
	}
	end = pt_now_ms() + 2000;
	while (pt_now_ms() < end || rounds <= 50) {
		atomic_fetch_add(&gen, 1);
		PT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MIB), 0);
		atomic_fetch_add(&gen, 1);
		if (rounds++ % 4 == 0)
			usleep(500);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		PT_EQ(l[i].lost, 0);
	}
	pt_say("%llu punches", (unsigned long long)rounds);
	munmap(p, 2 * MIB);
	close(fd);
	pt_fs_end(fs);
}

static void daemon_killed(void)
{
	struct pt_fs *fs = pt_fs_start("64M", NULL);
	int fd = new_file(fs, "f", 4 * MIB);
	struct pinfs_pin *pin, *more;
	char *p = map(fd, 4 * MIB, 0);

	p[0] = 1;
	PT_EQ(pinfs_pin(p, 1, 0, &pin), 0);
	pt_fs_crash(fs);
	for (uint64_t end = 0; pt_touch(p, false) == 0 && pt_wait_on(&end);)
		;
	PT_EQ(pt_touch(p, false), SIGBUS);
	PT_EQ(pt_touch(p + 3 * MIB, true), SIGBUS);
	PT_EQ(pinfs_pin(p, 1, 0, &more), -ENOTCONN);
	PT_EQ(pinfs_unpin(pin), 0);
	munmap(p, 4 * MIB);
	close(fd);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "coherent", coherent, 0 },
		{ "end of file", end_of_file, 0 },
		{ "files without a name", nameless, 0 },
		{ "other process", other_process, 0 },
		{ "system calls on windows", calls_on_windows, 0 },
		{ "the same, unprivileged", calls_unprivileged, 0 },
		{ "pieces", pieces, 0 },
		{ "small window", small_window, 0 },
		{ "no space", no_space, 0 },
		{ "punched under load", punched_under_load, 0 },
		{ "daemon killed", daemon_killed, 0 },
	};
	const struct pt_suite suite = { "window", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
