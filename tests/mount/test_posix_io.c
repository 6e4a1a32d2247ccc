/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_posix_io.c - locks between processes, synchronous and limited writes, free space, and directories that change
 * while they are read.
 *
 * Results are compared with ext4 where there is a result to compare; the rest is checked against what must hold: a name
 * that is there all the time is returned exactly once, a position is good whatever comes and goes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

/* --- locks: who gets what while another process holds something --- */

enum kind { FLOCK, POSIX, OFD };

static int lock(enum kind k, int fd, short type, off_t start, off_t len, bool wait)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	int op = type == F_RDLCK ? LOCK_SH : type == F_WRLCK ? LOCK_EX : LOCK_UN;

	if (k == FLOCK)
		return flock(fd, op | (wait ? 0 : LOCK_NB));
	if (k == POSIX)
		return fcntl(fd, wait ? F_SETLKW : F_SETLK, &fl);
	return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &fl);
}

/* A child that tries a lock and tells by its status: 0 it got it, else the errno. */
static int other_gets(enum kind k, short type, off_t start, off_t len)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open("f", O_RDWR | O_CLOEXEC);

		_exit(lock(k, fd, type, start, len, false) == 0 ? 0 : errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	errno = WEXITSTATUS(status);
	return errno == 0 ? 0 : -1;
}

static void locks(void)
{
	static const char *const name[] = { "flock", "POSIX", "OFD" };
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, again;

	tw_file("f", 0644, 100);
	for (enum kind mine = FLOCK; mine <= OFD; mine++) {
		for (enum kind theirs = FLOCK; theirs <= OFD; theirs++) {
			tw_note("--- %s, then %s", name[mine], name[theirs]);
			fd = open("f", O_RDWR | O_CLOEXEC);
			DO(lock(mine, fd, F_RDLCK, 0, 10, false));
			DO(other_gets(theirs, F_RDLCK, 0, 10));
			DO(other_gets(theirs, F_WRLCK, 0, 10));
			DO(other_gets(theirs, F_WRLCK, 10, 10));
			DO(lock(mine, fd, F_WRLCK, 0, 10, false));
			DO(other_gets(theirs, F_RDLCK, 5, 1));
			DO(other_gets(theirs, F_RDLCK, 10, 0));
			DO(lock(mine, fd, F_UNLCK, 5, 1, false));
			DO(other_gets(theirs, F_WRLCK, 5, 1));
			/* Another descriptor of ours: POSIX locks go with its close, the others stay. */
			again = open("f", O_RDWR | O_CLOEXEC);
			DO(lock(theirs, again, F_WRLCK, 0, 5, false));
			(void)close(again);
			DO(other_gets(theirs, F_WRLCK, 0, 5));
			(void)close(fd);
			DO(other_gets(theirs, F_WRLCK, 0, 0));
		}
	}
	fd = open("f", O_RDWR | O_CLOEXEC);
	DO(fcntl(fd, F_GETLK, &fl));
	tw_note("%d", fl.l_type);
	(void)close(fd);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	DO(lock(POSIX, fd, F_WRLCK, 0, 1, false));
	DO(lock(FLOCK, fd, F_WRLCK, 0, 1, false));
	DO(fcntl(fd, F_SETLEASE, F_RDLCK));
	(void)close(fd);
}

/* A lock that is waited for comes when its holder dies, and a deadlock is seen. */
static void waiting(void)
{
	int go[2], got[2], fd;
	char c;
	pid_t pid;

	tw_file("f", 0644, 100);
	for (enum kind k = FLOCK; k <= OFD; k++) {
		MUST(pipe2(go, O_CLOEXEC));
		MUST(pipe2(got, O_CLOEXEC));
		pid = fork();
		if (pid == 0) {
			fd = open("f", O_RDWR | O_CLOEXEC);
			if (lock(k, fd, F_WRLCK, 0, 0, false) != 0 || write(got[1], "x", 1) != 1)
				_exit(1);
			(void)!read(go[0], &c, 1);
			_exit(0);
		}
		MUST(read(got[0], &c, 1) == 1 ? 0 : -1);
		fd = open("f", O_RDWR | O_CLOEXEC);
		DO(lock(k, fd, F_WRLCK, 0, 0, false));
		MUST(kill(pid, SIGKILL));
		DO(lock(k, fd, F_WRLCK, 0, 0, true));
		(void)close(fd);
		MUST(waitpid(pid, NULL, 0));
		(void)close(go[0]), (void)close(go[1]), (void)close(got[0]), (void)close(got[1]);
	}
	/* Each holds one byte and wants the other's: one of the two has to be told. */
	MUST(pipe2(got, O_CLOEXEC));
	fd = open("f", O_RDWR | O_CLOEXEC);
	MUST(lock(POSIX, fd, F_WRLCK, 0, 1, false));
	pid = fork();
	if (pid == 0) {
		if (lock(POSIX, fd, F_WRLCK, 1, 1, false) != 0 || write(got[1], "x", 1) != 1)
			_exit(1);
		_exit(lock(POSIX, fd, F_WRLCK, 0, 1, true) == 0 ? 10 : errno == EDEADLK ? 11 : 12);
	}
	MUST(read(got[0], &c, 1) == 1 ? 0 : -1);
	{
		int rc = lock(POSIX, fd, F_WRLCK, 1, 1, true), status = 0, told = rc != 0 && errno == EDEADLK;

		(void)lock(POSIX, fd, F_UNLCK, 0, 0, false);
		MUST(waitpid(pid, &status, 0));
		told += WIFEXITED(status) && WEXITSTATUS(status) == 11;
		tw_note("told of the deadlock: %d", told);
	}
	(void)close(fd);
}

/* --- writes of every sort --- */

static long write_with(int fd, const char *what, off_t off, int flags)
{
	const struct iovec iov = { (char *)(uintptr_t)what, strlen(what) };

	return pwritev2(fd, &iov, 1, off, flags);
}

static void show(const char *path)
{
	char buf[64] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	MUST(fd);
	MUST(fstat(fd, &st));
	MUST(read(fd, buf, sizeof buf - 1));
	tw_note("%jd %s", (intmax_t)st.st_size, buf);
	(void)close(fd);
}

static void synchronous(void)
{
	static const int how[] = { 0, O_SYNC, O_DSYNC, O_APPEND, O_SYNC | O_APPEND };
	char buf[16];
	struct iovec iov = { buf, sizeof buf };
	int fd, dir;

	for (size_t i = 0; i < PF_ARRAY_LEN(how); i++) {
		tw_file("f", 0644, 10);
		fd = open("f", O_RDWR | O_CLOEXEC | how[i]);
		tw_note("--- %x", how[i]);
		DO(write(fd, "abc", 3));
		DO(write_with(fd, "DEF", 1, 0));
		DO(write_with(fd, "G", 2, RWF_DSYNC));
		DO(write_with(fd, "H", 3, RWF_SYNC));
		DO(write_with(fd, "end", 0, RWF_APPEND));
		DO(write_with(fd, "I", -1, RWF_APPEND));
		DO(write_with(fd, "J", -1, 0));
		DO(lseek(fd, 0, SEEK_CUR));
		DO(write_with(fd, "K", 0, 0x40000000));
		DO(preadv2(fd, &iov, 1, 0, RWF_HIPRI));
		show("f");
		DO(fsync(fd));
		DO(fdatasync(fd));
		DO(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				   SYNC_FILE_RANGE_WAIT_AFTER));
		DO(sync_file_range(fd, -1, 0, 0));
		DO(syncfs(fd));
		DO(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
		DO(posix_fallocate(fd, 0, 100));
		(void)close(fd);
	}
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DO(fsync(dir));
	DO(fdatasync(dir));
	DO(syncfs(dir));
	(void)close(dir);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	DO(fsync(fd));
	(void)close(fd);
	MUST(mkfifo("p", 0644));
	fd = open("p", O_RDWR | O_CLOEXEC);
	DO(fsync(fd));
	(void)close(fd);
	/* Not compared: RWF_NOWAIT, which no FUSE filesystem has. */
	fd = open("f", O_RDWR | O_CLOEXEC);
	if (tw_on_pinfs())
		tw_note("%s", write_with(fd, "x", 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP ? "as documented" : "new");
	else
		tw_note("as documented");
	(void)close(fd);
}

static volatile sig_atomic_t too_big;

static void count(int sig PF_UNUSED)
{
	too_big++;
}

static void limits(void)
{
	const struct rlimit lim = { 10000, 10000 };
	int fd, app;
	char buf[4096];

	(void)signal(SIGXFSZ, count);
	tw_file("f", 0644, 5000);
	tw_file("g", 0644, 20000);
	MUST(setrlimit(RLIMIT_FSIZE, &lim));
	fd = open("f", O_RDWR | O_CLOEXEC);
	memset(buf, 'l', sizeof buf);
	DO(pwrite(fd, buf, sizeof buf, 8000));
	DO(pwrite(fd, buf, sizeof buf, 10000));
	DO(pwrite(fd, buf, 1, 9999));
	DO(ftruncate(fd, 10000));
	DO(ftruncate(fd, 10001));
	DO(truncate("f", 100000));
	DO(fallocate(fd, 0, 0, 10000));
	DO(fallocate(fd, 0, 0, 10001));
	DO(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
	app = open("f", O_WRONLY | O_APPEND | O_CLOEXEC);
	DO(write(app, buf, 10));
	(void)close(app);
	(void)close(fd);
	fd = open("g", O_RDWR | O_CLOEXEC);
	DO(pwrite(fd, buf, 10, 0));
	DO(pwrite(fd, buf, 10, 15000));
	DO(ftruncate(fd, 15000));
	DO(ftruncate(fd, 9000));
	(void)close(fd);
	tw_note("%d signals", (int)too_big);
}

/* --- calls with odd arguments, on each kind of descriptor --- */

static void odd_arguments(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	static const struct { const char *path; int flags; } open_as[] = {
		{ "f", O_RDWR }, { "f", O_RDONLY }, { "f", O_WRONLY }, { "f", O_RDWR | O_APPEND }, { ".", O_RDONLY },
		{ "p", O_RDWR }, { "f", O_PATH },
	};
	static const struct { off_t off, len; } range[] = {
		{ 0, 0 }, { 0, 1 }, { -1, 1 }, { 1, -1 }, { 4095, 2 }, { 100000, 5000 }, { INT64_MAX, 1 },
		{ INT64_MAX, 2 },
	};
	char buf[8] = "odd";

	MUST(mkfifo("p", 0644));
	for (size_t o = 0; o < PF_ARRAY_LEN(open_as); o++) {
		int fd, in;

		tw_file("f", 0644, 10000);
		tw_file("g", 0644, 10000);
		fd = open(open_as[o].path, open_as[o].flags | O_CLOEXEC);
		in = open("g", O_RDONLY | O_CLOEXEC);
		MUST(fd);
		tw_note("--- %s %x", open_as[o].path, open_as[o].flags);
		for (size_t r = 0; r < PF_ARRAY_LEN(range); r++) {
			off_t off = range[r].off, len = range[r].len, at;

			for (size_t m = 0; m < PF_ARRAY_LEN(modes); m++) {
				/* How large a file may be is each filesystem's own. */
				if (off == INT64_MAX && len == 1)
					continue;
				tw_note("mode %x %jd %jd", modes[m], (intmax_t)off, (intmax_t)len);
				DO(fallocate(fd, modes[m], off, len));
			}
			if (strcmp(open_as[o].path, "p") == 0)
				continue;		/* reading would wait */
			DO(pread(fd, buf, len > 0 && len < 8 ? (size_t)len : 0, off));
			if (off != INT64_MAX)
				DO(pwrite(fd, buf, len > 0 && len < 8 ? (size_t)len : 0, off));
			at = off;
			DO(copy_file_range(in, NULL, fd, off == INT64_MAX ? NULL : &at, 2, 0));
			at = off;
			DO(copy_file_range(fd, &at, fd, NULL, 2, 0));
			DO(sync_file_range(fd, off, len, 0));
			if (off != INT64_MAX)
				DO(lseek(fd, off, SEEK_SET));
			if (strcmp(open_as[o].path, ".") == 0)
				continue;		/* how large a directory is, and whether it has holes */
			DO(lseek(fd, off, SEEK_DATA));
			DO(lseek(fd, off, SEEK_HOLE));
			DO(lseek(fd, 0, SEEK_END));
		}
		DO(copy_file_range(in, NULL, fd, NULL, 2, 1));
		DO(copy_file_range(fd, NULL, in, NULL, 2, 0));
		DO(ftruncate(fd, -1));
		DO(ftruncate(fd, 3));
		DO(readahead(fd, 0, 100));
		DO(posix_fadvise(fd, 0, 100, POSIX_FADV_WILLNEED));
		DO(ioctl(fd, 0x12345678, buf));
		(void)close(fd);
		(void)close(in);
		STAT("f");
	}
}

/* Where the data is, as long as both allocate by pages: patterns of writes and holes, read back by SEEK_*. */
static void holes(void)
{
	unsigned int rnd = 7;
	int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	MUST(fd);
	for (int i = 0; i < 60; i++) {
		off_t at, page;

		rnd = rnd * 1664525U + 1013904223U;
		page = (off_t)(rnd >> 16 & 63) * 4096;
		switch (rnd >> 24 & 3) {
		case 0:
		case 1: DO(pwrite(fd, "data", 4, page + 100)); break;
		case 2: DO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, 3 * 4096)); break;
		default: DO(ftruncate(fd, page + (off_t)(rnd & 4095))); break;
		}
		/* fsync: ext4 shows delayed blocks as data at once, unwritten ones only from then on. */
		MUST(fsync(fd));
		for (at = 0; at >= 0;) {
			at = DO(lseek(fd, at, SEEK_DATA));
			if (at >= 0)
				at = DO(lseek(fd, at, SEEK_HOLE));
		}
	}
	(void)close(fd);
}

/* --- names that come and go --- */

#define STAY 10000
#define FLICKER 2000

static struct pt_fs *fs;
#define P(...) pt_path(fs, __VA_ARGS__)

static int make(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	return fd < 0 ? -1 : close(fd);
}

/* Creates and removes names of its own until it is killed; tells when it has been through them once. */
static int flicker(void *arg)
{
	const int *ready = arg;
	unsigned int rnd = 1;
	char name[32];

	if (chdir(P("many")) != 0)
		return 1;
	for (unsigned int n = 0;; n++) {
		rnd = rnd * 1664525U + 1013904223U;
		(void)snprintf(name, sizeof name, "come and go %u", rnd >> 8 & (FLICKER - 1));
		if (unlink(name) != 0 && make(name) != 0)
			return 1;
		if (n == FLICKER && write(*ready, "x", 1) != 1)
			return 1;
	}
}

/* One pass over the directory with getdents64(2) and small buffers; how often each name that stays was seen. */
static void read_all(size_t bufsize, unsigned char *seen, unsigned int *strange)
{
	char *buf = malloc(bufsize);
	int fd = open(P("many"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned int i;
	char rest;
	long n;

	PT_SYS_FATAL(fd);
	while ((n = syscall(SYS_getdents64, fd, buf, bufsize)) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			if (sscanf(d->d_name, "stay %u%c", &i, &rest) == 1 && i < STAY)
				seen[i]++;
			else if (strncmp(d->d_name, "come and go ", 12) != 0 && strcmp(d->d_name, ".") != 0 &&
				 strcmp(d->d_name, "..") != 0)
				++*strange;
			at += d->d_reclen;
		}
	}
	PT_EQ(n, 0);
	(void)close(fd);
	free(buf);
}

static void make_many(void)
{
	char name[32];

	PT_SYS(mkdir(P("many"), 0755));
	PT_SYS(chdir(P("many")));
	for (int i = 0; i < STAY; i++) {
		(void)snprintf(name, sizeof name, "stay %d", i);
		PT_SYS(make(name));
	}
	PT_SYS(chdir("/"));
}

static void changing(void)
{
	static const size_t sizes[] = { 400, 1024, 4096, 32768 };
	static unsigned char seen[STAY];
	int ready[2];
	char c;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	make_many();
	PT_SYS(pipe2(ready, O_CLOEXEC));
	PT_SYS(pt_fork(flicker, &ready[1]));
	PT_SYS(pt_fork(flicker, &ready[1]));
	PT_EQ(read(ready[0], &c, 1), 1);
	for (size_t i = 0; i < PF_ARRAY_LEN(sizes); i++) {
		unsigned int strange = 0, missing = 0, twice = 0;

		memset(seen, 0, STAY);
		read_all(sizes[i], seen, &strange);
		for (int k = 0; k < STAY; k++) {
			missing += seen[k] == 0;
			twice += seen[k] > 1;
		}
		PT_EQ(missing, 0);
		PT_EQ(twice, 0);
		PT_EQ(strange, 0);
	}
	for (pid_t pid; (pid = pt_child_named("test_posix_io")) > 0;)
		pt_kill(pid);
	(void)close(ready[0]);
	(void)close(ready[1]);
	pt_fs_end(fs);
}

/* Positions kept over changes of the directory: the same one gives the same rest, without what went and with what did
 * not. @cached: the directory is read again from the start in between, which fills the kernel's own cache of it. */
static void positions(void)
{
	static long cookie[STAY + 8];
	static char name[STAY + 8][32];
	unsigned int n = 0, left, bad = 0;
	struct dirent *d;
	char path[64];
	DIR *dir;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	make_many();
	dir = opendir(P("many"));
	CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
	for (;; n++) {
		cookie[n] = telldir(dir);
		d = readdir(dir);
		if (d == NULL)
			break;
		(void)snprintf(name[n], sizeof name[n], "%.31s", d->d_name);
	}
	PT_EQ(n, STAY + 2);
	/* Every position, from the last to the first, gives what came next then. */
	for (unsigned int i = n; i-- > 0 && i >= n - 300;) {
		seekdir(dir, cookie[i]);
		d = readdir(dir);
		bad += d == NULL || strcmp(d->d_name, name[i]) != 0;
	}
	PT_EQ(bad, 0);
	/* Two thirds go; leaves are joined and freed. */
	PT_SYS(chdir(P("many")));
	for (unsigned int i = 2; i < n; i++)
		if (i % 3 != 0)
			PT_SYS(unlink(name[i]));
	/* From any position on, what is left comes, once, in the order of before: also from one whose name has gone. */
	for (int cached = 0; cached < 2; cached++) {
		for (unsigned int i = 2; i < n; i += 331) {
			unsigned int next = i + (3 - i % 3) % 3;

			if (cached) {
				rewinddir(dir);
				while (readdir(dir) != NULL)
					;
			}
			seekdir(dir, cookie[i]);
			for (left = 0; left < 5 && next < n; left++, next += 3) {
				d = readdir(dir);
				bad += d == NULL || strcmp(d->d_name, name[next]) != 0;
			}
		}
	}
	PT_EQ(bad, 0);
	/* Many more come; leaves are split. The old names still come in their order. */
	for (int i = 0; i < STAY; i++) {
		(void)snprintf(path, sizeof path, "late %d", i);
		PT_SYS(make(path));
	}
	for (unsigned int i = 3; i < n; i += 331 * 3) {
		unsigned int next = i;

		seekdir(dir, cookie[i]);
		for (left = 0; left < 20 && next < n && (d = readdir(dir)) != NULL;) {
			if (strncmp(d->d_name, "late ", 5) == 0)
				continue;
			bad += strcmp(d->d_name, name[next]) != 0;
			next += 3;
			left++;
		}
	}
	PT_EQ(bad, 0);
	rewinddir(dir);
	for (n = 0; readdir(dir) != NULL;)
		n++;
	PT_EQ(n, 2 + STAY + STAY / 3);
	(void)closedir(dir);
	PT_SYS(chdir("/"));
	pt_fs_end(fs);
}

/* --- free space and inodes --- */

static void space(void)
{
	struct statvfs a, b;
	char path[32];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	PT_SYS(make(P("one")));
	PT_SYS(statvfs(fs->mnt, &a));
	PT_EQ(a.f_bsize, 4096);
	PT_EQ(a.f_frsize, 4096);
	PT_EQ(a.f_namemax, 255);
	CU_ASSERT(a.f_blocks <= 64 << 8 && a.f_bavail <= a.f_bfree && a.f_bfree < a.f_blocks && a.f_ffree < a.f_files);
	/* Inodes: one less for each file; in use is what is left. */
	PT_SYS(chdir(fs->mnt));
	for (int i = 0; i < 20; i++) {
		(void)snprintf(path, sizeof path, "f%d", i);
		PT_SYS(make(path));
	}
	PT_SYS(chdir("/"));
	PT_SYS(statvfs(fs->mnt, &b));
	PT_EQ((b.f_files - b.f_ffree) - (a.f_files - a.f_ffree), 20);
	PT_EQ(a.f_bfree, b.f_bfree);
	/* Blocks: what a file says it has is what is gone; a hole is nothing, what was allocated counts before it is
	 * written. */
	fd = open(P("one"), O_RDWR | O_CLOEXEC);
	PT_SYS(ftruncate(fd, 20 << 20));
	PT_SYS(statvfs(fs->mnt, &b));
	PT_EQ(a.f_bfree, b.f_bfree);
	PT_SYS(fallocate(fd, 0, 0, 10 << 20));
	PT_SYS(statvfs(fs->mnt, &b));
	{
		struct stat st;

		PT_SYS(fstat(fd, &st));
		PT_EQ((a.f_bfree - b.f_bfree) * 8, st.st_blocks);
	}
	/* All of it: what statfs calls available can be had, and then there is no more. */
	PT_SYS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 10 << 20, (off_t)(b.f_bavail - 16) << 12));
	PT_SYS(statvfs(fs->mnt, &b));
	CU_ASSERT(b.f_bavail <= 16);
	PT_FAILS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 100 << 20, 100 << 12), ENOSPC);
	PT_SYS(ftruncate(fd, 0));
	PT_SYS(close(fd));
	PT_SYS(statvfs(fs->mnt, &b));
	PT_EQ(a.f_bfree, b.f_bfree);
	pt_fs_end(fs);
}

/* FORMAT.md: a file holds up to 2^62 bytes. */
static void largest(void)
{
	const off_t most = (off_t)1 << 62;
	struct stat st;
	char c = 'x';
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_FAILS(ftruncate(fd, most + 1), EFBIG);
	PT_FAILS(pwrite(fd, &c, 1, most), EFBIG);
	PT_FAILS(fallocate(fd, 0, most - 4096, 8192), EFBIG);
	PT_FAILS(fallocate(fd, FALLOC_FL_KEEP_SIZE, most, 1), EFBIG);
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_size, 0);
	PT_EQ(pwrite(fd, "xyz", 3, most - 2), 2);	/* as much as fits */
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_size, most);
	PT_EQ(lseek(fd, 0, SEEK_DATA), most - 4096);
	PT_EQ(pread(fd, &c, 1, most - 1), 1);
	PT_EQ(c, 'y');
	PT_EQ(pread(fd, &c, 1, most), 0);
	PT_SYS(ftruncate(fd, most));
	PT_SYS(ftruncate(fd, 0));
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_blocks, 0);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void with(const char *what, void (*script)(void))
{
	fs = tw_start("allow_other,suid,dev");
	if (fs == NULL)
		return;
	(void)tw_compare(fs, what, script, &tw_root);
	tw_end(fs);
}

#define CASE(name, fn) static void c_##fn(void) { with(name, fn); }
CASE("locks", locks)
CASE("waiting", waiting)
CASE("synchronous", synchronous)
CASE("limits", limits)
CASE("odd", odd_arguments)
CASE("holes", holes)

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "locks", c_locks, 0 },
		{ "locks that are waited for", c_waiting, 0 },
		{ "synchronous writes", c_synchronous, 0 },
		{ "RLIMIT_FSIZE", c_limits, 0 },
		{ "odd arguments", c_odd_arguments, 0 },
		{ "holes", c_holes, 0 },
		{ "the largest file", largest, 0 },
		{ "a directory that changes", changing, 0 },
		{ "positions in a directory", positions, 0 },
		{ "statfs", space, 0 },
	};
	static const struct pt_suite suites[] = { { "as ext4: io", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
