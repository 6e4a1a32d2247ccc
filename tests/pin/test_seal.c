/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_seal.c - immutable and append-only files, and windows: who may store cannot be checked store by store, so such a
 * file has no window for stores, and a file that has one cannot be made immutable.
 *
 * The twin is the same file without the flag, in the same mapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#include <pinfs/pin.h>

#define LEN ((size_t)1 << 20)

static struct pt_fs *fs;

static int set_flags(int fd, int flags)
{
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* A client gives its right back in its own time. */
static int set_flags_soon(int fd, int flags)
{
	const uint64_t end = pt_now_ms() + 60000;
	int rc;

	while ((rc = set_flags(fd, flags)) != 0 && errno == EBUSY && pt_now_ms() < end)
		pt_sleep_ms(1);
	return rc;
}

static char *map(int fd, int prot)
{
	return mmap(NULL, LEN, prot, MAP_SHARED, fd, 0);
}

static bool is_window(char *p)
{
	struct pinfs_range_info ri;

	return p != MAP_FAILED && pinfs_range_query(p, LEN, &ri) == 0;
}

static void one_flag(int fd, int flag)
{
	char byte = 0;
	char *p = map(fd, PROT_READ | PROT_WRITE), *q;

	CU_ASSERT_FATAL(is_window(p));
	memset(p, 'a', LEN);
	/* While somebody may store: no. What does not forbid stores may be set. */
	PT_FAILS(set_flags(fd, flag), EBUSY);
	PT_SYS(set_flags(fd, FS_NODUMP_FL));
	p[1] = 'b';
	PT_SYS(munmap(p, LEN));
	PT_SYS(set_flags_soon(fd, flag));
	/* From now on the descriptor, which was opened for writing before, maps for reading only. */
	q = map(fd, PROT_READ | PROT_WRITE);
	CU_ASSERT(q == MAP_FAILED && errno == EACCES);
	p = map(fd, PROT_READ);
	CU_ASSERT_FATAL(is_window(p));
	PT_EQ(p[0], 'a');
	PT_EQ(p[1], 'b');
	PT_FAILS(mprotect(p, LEN, PROT_READ | PROT_WRITE), EACCES);
	PT_FAILS(pwrite(fd, "x", 1, 0), EPERM);
	PT_EQ(pread(fd, &byte, 1, 1), 1);
	PT_EQ(byte, 'b');
	/* A reader is in nobody's way; with the flag gone the file can be mapped for writing again, beside it. */
	PT_SYS(set_flags(fd, 0));
	q = map(fd, PROT_READ | PROT_WRITE);
	CU_ASSERT_FATAL(is_window(q));
	q[2] = 'c';
	PT_EQ(p[2], 'c');
	PT_FAILS(set_flags(fd, flag), EBUSY);
	PT_SYS(munmap(q, LEN));
	PT_SYS(munmap(p, LEN));
	PT_SYS(set_flags_soon(fd, flag));
	PT_SYS(set_flags(fd, 0));
}

/* False: skipped. */
static bool may_seal(int fd)
{
	if (set_flags(fd, FS_IMMUTABLE_FL) == 0)
		return set_flags(fd, 0) == 0;
	pt_skip("chattr +i: %s", strerror(errno));
	(void)close(fd);
	pt_fs_end(fs);
	return false;
}

static void seal(void)
{
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	if (!may_seal(fd))
		return;
	PT_SYS(ftruncate(fd, LEN));
	one_flag(fd, FS_IMMUTABLE_FL);
	one_flag(fd, FS_APPEND_FL);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* Another process has the window. */
static int hold_window(void *arg)
{
	const int *pipes = arg;
	int fd = open(pt_path(fs, "f"), O_RDWR | O_CLOEXEC);
	char *p = map(fd, PROT_READ | PROT_WRITE), c;

	if (!is_window(p))
		return 1;
	p[0] = 'h';
	if (write(pipes[1], "x", 1) != 1)
		return 2;
	(void)!read(pipes[2], &c, 1);
	return 0;
}

static void other_process(void)
{
	int ready[2], stay[2], pipes[3], fd;
	pid_t pid;
	char c;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	if (!may_seal(fd))
		return;
	PT_SYS(ftruncate(fd, LEN));
	PT_SYS(pipe2(ready, O_CLOEXEC));
	PT_SYS(pipe2(stay, O_CLOEXEC));
	pipes[0] = ready[0];
	pipes[1] = ready[1];
	pipes[2] = stay[0];
	pid = pt_fork(hold_window, pipes);
	PT_EQ(read(ready[0], &c, 1), 1);
	PT_FAILS(set_flags(fd, FS_IMMUTABLE_FL), EBUSY);
	PT_FAILS(set_flags(fd, FS_APPEND_FL), EBUSY);
	/* Its death is enough. */
	pt_kill(pid);
	PT_SYS(set_flags_soon(fd, FS_IMMUTABLE_FL));
	PT_SYS(set_flags(fd, 0));
	PT_EQ(pread(fd, &c, 1, 0), 1);
	PT_EQ(c, 'h');
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "immutable and append-only", seal, 0 },
		{ "a window of another process", other_process, 0 },
	};
	static const struct pt_suite suites[] = { { "seal", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
