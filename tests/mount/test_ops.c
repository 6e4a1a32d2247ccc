/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ops.c - each operation through the kernel, with its errors: names, attributes, permissions, space, ioctl.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <pinfs/ioctl.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

static struct pt_fs *fs;
#define P(...) pt_path(fs, __VA_ARGS__)

/* --- tables: what each call answers on a fixed little tree --- */

enum call { OPEN_R, OPEN_W, CREAT, CREAT_EXCL, OPEN_DIR, MKDIR, RMDIR, UNLINK, READLINK, TRUNC, CHDIR, LSTAT };

static int do_call(enum call c, const char *path)
{
	struct stat st;
	char buf[64];
	int fd;

	switch (c) {
	case OPEN_R: fd = open(path, O_RDONLY); break;
	case OPEN_W: fd = open(path, O_WRONLY); break;
	case CREAT: fd = open(path, O_WRONLY | O_CREAT, 0644); break;
	case CREAT_EXCL: fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644); break;
	case OPEN_DIR: fd = open(path, O_RDONLY | O_DIRECTORY); break;
	case MKDIR: return mkdir(path, 0755);
	case RMDIR: return rmdir(path);
	case UNLINK: return unlink(path);
	case READLINK: return (int)readlink(path, buf, sizeof buf) < 0 ? -1 : 0;
	case TRUNC: return truncate(path, 0);
	case CHDIR: return chdir(path) != 0 ? -1 : chdir("/");
	case LSTAT: return lstat(path, &st);
	default: return -1;
	}
	if (fd >= 0)
		(void)close(fd);
	return fd < 0 ? -1 : 0;
}

static void one_name(void)
{
	static const char *const call_name[] = { "open r", "open w", "creat",	 "creat excl", "opendir", "mkdir",
						 "rmdir",  "unlink", "readlink", "truncate",   "chdir",	  "lstat" };
	static const struct { const char *path; enum call call; int err; } t[] = {
		{ "file", OPEN_R, 0 },		   { "none", OPEN_R, ENOENT },	     { "file/x", OPEN_R, ENOTDIR },
		{ "loop", OPEN_R, ELOOP },	   { "dangling", OPEN_R, ENOENT },   { "dir", OPEN_R, 0 },
		{ "dir", OPEN_W, EISDIR },	   { "file", OPEN_W, 0 },	     { "dir", CREAT, EISDIR },
		{ "none/x", CREAT, ENOENT },	   { "file", CREAT_EXCL, EEXIST },   { "dangling", CREAT_EXCL, EEXIST },
		{ "file", OPEN_DIR, ENOTDIR },	   { "dir", OPEN_DIR, 0 },	     { "dir", MKDIR, EEXIST },
		{ "file", MKDIR, EEXIST },	   { "none/x", MKDIR, ENOENT },	     { "file/x", MKDIR, ENOTDIR },
		{ "dir", RMDIR, ENOTEMPTY },	   { "file", RMDIR, ENOTDIR },	     { "none", RMDIR, ENOENT },
		{ "dir/.", RMDIR, EINVAL },	   { "dir/sub/..", RMDIR, ENOTEMPTY }, { "dir", UNLINK, EISDIR },
		{ "none", UNLINK, ENOENT },	   { "file/x", UNLINK, ENOTDIR },    { "file", READLINK, EINVAL },
		{ "link", READLINK, 0 },	   { "none", READLINK, ENOENT },     { "dir", TRUNC, EISDIR },
		{ "none", TRUNC, ENOENT },	   { "link", TRUNC, 0 },	     { "file", CHDIR, ENOTDIR },
		{ "dir", CHDIR, 0 },		   { "link", CHDIR, ENOTDIR },	     { "loop", LSTAT, 0 },
		{ "", LSTAT, 0 },		   { "file/", LSTAT, ENOTDIR },	     { "pipe-none", OPEN_W, ENOENT },
	};
	char longname[300];

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		int rc, err;

		errno = 0;
		rc = do_call(t[i].call, P("%s", t[i].path));
		err = rc == 0 ? 0 : errno;
		if (err != t[i].err)
			pt_say("%s %s: %s, expected %s", call_name[t[i].call], t[i].path, strerrorname_np(err),
			       strerrorname_np(t[i].err));
		CU_ASSERT_EQUAL(err, t[i].err);
	}
	memset(longname, 'n', sizeof longname);
	longname[255] = '\0';
	PT_SYS(do_call(CREAT_EXCL, P("%s", longname)));
	PT_SYS(do_call(LSTAT, P("%s", longname)));
	PT_SYS(unlink(P("%s", longname)));
	longname[255] = 'n';
	longname[256] = '\0';
	PT_FAILS(do_call(CREAT, P("%s", longname)), ENAMETOOLONG);
	PT_FAILS(do_call(LSTAT, P("%s", longname)), ENAMETOOLONG);
	PT_FAILS(do_call(MKDIR, P("%s", longname)), ENAMETOOLONG);
	PT_SYS(do_call(CREAT, P(" \n\\\xff*?")));
	PT_SYS(unlink(P(" \n\\\xff*?")));
}

static ino_t ino_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static void renames(void)
{
	static const struct { const char *from, *to; unsigned int flags; int err; } t[] = {
		{ "none", "x", 0, ENOENT },
		{ "dir", "dir/sub/x", 0, EINVAL },
		{ "dir", "file", 0, ENOTDIR },
		{ "file", "dir", 0, EISDIR },
		{ "empty", "dir", 0, ENOTEMPTY },
		{ "file", "none/x", 0, ENOENT },
		{ "file", "link", RENAME_NOREPLACE, EEXIST },
		{ "file", "none", RENAME_EXCHANGE, ENOENT },
		{ "file", "link", RENAME_EXCHANGE | RENAME_NOREPLACE, EINVAL },
		{ "dir", "dir/sub", RENAME_EXCHANGE, EINVAL },
		{ "dir/sub", "dir", RENAME_EXCHANGE, ENOTEMPTY },
		{ "file", "link", RENAME_WHITEOUT | RENAME_EXCHANGE, EINVAL },
	};
	ino_t a, b;
	struct stat st;

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		int rc, err;

		errno = 0;
		rc = renameat2(AT_FDCWD, P("%s", t[i].from), AT_FDCWD, P("%s", t[i].to), t[i].flags);
		err = rc == 0 ? 0 : errno;
		/* The kernel may see an ancestor before we do. */
		if (t[i].err == ENOTEMPTY && err == EINVAL)
			err = ENOTEMPTY;
		if (err != t[i].err)
			pt_say("rename %s -> %s (%x): %s, expected %s", t[i].from, t[i].to, t[i].flags,
			       strerrorname_np(err), strerrorname_np(t[i].err));
		CU_ASSERT_EQUAL(err, t[i].err);
	}
	/* Plain, over an existing file, of a name onto itself and onto another link of itself. */
	PT_SYS(do_call(CREAT, P("a")));
	PT_SYS(do_call(CREAT, P("b")));
	a = ino_of(P("a"));
	PT_SYS(rename(P("a"), P("b")));
	PT_EQ(ino_of(P("b")), a);
	PT_EQ(ino_of(P("a")), 0);
	PT_SYS(rename(P("b"), P("b")));
	PT_SYS(link(P("b"), P("a")));
	PT_SYS(rename(P("a"), P("b")));
	PT_EQ(ino_of(P("a")), a);
	PT_SYS(unlink(P("a")));
	/* NOREPLACE onto nothing; EXCHANGE of a file with a directory, across directories: link counts follow. */
	PT_SYS(renameat2(AT_FDCWD, P("b"), AT_FDCWD, P("c"), RENAME_NOREPLACE));
	PT_SYS(mkdir(P("dir/swap"), 0755));
	PT_SYS(stat(P("dir"), &st));
	PT_EQ(st.st_nlink, 4);
	b = ino_of(P("dir/swap"));
	PT_SYS(renameat2(AT_FDCWD, P("c"), AT_FDCWD, P("dir/swap"), RENAME_EXCHANGE));
	PT_EQ(ino_of(P("dir/swap")), a);
	PT_EQ(ino_of(P("c")), b);
	PT_EQ(ino_of(P("c/..")), ino_of(fs->mnt));
	PT_SYS(stat(P("dir"), &st));
	PT_EQ(st.st_nlink, 3);
	PT_SYS(unlink(P("dir/swap")));
	/* A directory over an empty one. */
	PT_SYS(mkdir(P("d2"), 0755));
	PT_SYS(rename(P("c"), P("d2")));
	PT_EQ(ino_of(P("d2")), b);
	PT_SYS(rmdir(P("d2")));
}

static void links(void)
{
	struct stat st;
	char buf[4200], want[4200];

	PT_SYS(link(P("file"), P("hard")));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_nlink, 2);
	PT_EQ(ino_of(P("hard")), st.st_ino);
	PT_FAILS(link(P("dir"), P("hard2")), EPERM);
	PT_FAILS(link(P("file"), P("hard")), EEXIST);
	PT_FAILS(link(P("none"), P("hard2")), ENOENT);
	PT_SYS(unlink(P("hard")));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_nlink, 1);
	/* Targets on both sides of what fits into the inode, and the longest. */
	for (size_t n = 250; n <= 4095; n = n < 260 ? n + 1 : n < 4000 ? 4000 : n < 4094 ? 4094 : n + 1) {
		memset(want, 't', n);
		want[n] = '\0';
		PT_SYS(symlink(want, P("sym%zu", n)));
		memset(buf, 0, sizeof buf);
		PT_EQ(readlink(P("sym%zu", n), buf, sizeof buf), n);
		CU_ASSERT_STRING_EQUAL(buf, want);
		PT_SYS(lstat(P("sym%zu", n), &st));
		PT_EQ(st.st_size, n);
		PT_SYS(unlink(P("sym%zu", n)));
	}
	PT_FAILS(symlink("", P("sym")), ENOENT);
	PT_FAILS(symlink("x", P("file")), EEXIST);
}

static void attributes(void)
{
	struct timespec ts[2] = { { 1000000000, 123456789 }, { 2000000000, 987654321 } };
	struct timespec before, now[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	struct stat st, st2;

	PT_SYS(chmod(P("file"), 04751));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_mode, S_IFREG | 04751);
	PT_SYS(chown(P("file"), 12, 34));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_uid, 12);
	PT_EQ(st.st_gid, 34);
	PT_EQ(st.st_mode, S_IFREG | 0751);	/* chown clears set-id bits */
	PT_SYS(chown(P("file"), (uid_t)-1, 0));
	PT_SYS(chown(P("file"), 0, (gid_t)-1));
	PT_SYS(utimensat(AT_FDCWD, P("file"), ts, 0));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_atim.tv_sec, 1000000000);
	PT_EQ(st.st_atim.tv_nsec, 123456789);
	PT_EQ(st.st_mtim.tv_sec, 2000000000);
	PT_EQ(st.st_mtim.tv_nsec, 987654321);
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &before);
	PT_SYS(utimensat(AT_FDCWD, P("file"), now, 0));
	PT_SYS(stat(P("file"), &st));
	CU_ASSERT(st.st_atim.tv_sec >= before.tv_sec - 1);
	PT_EQ(st.st_mtim.tv_sec, 2000000000);
	ts[0].tv_sec = -1;	/* before the epoch */
	ts[1].tv_sec = INT64_C(1) << 33;
	PT_SYS(utimensat(AT_FDCWD, P("file"), ts, 0));
	PT_SYS(stat(P("file"), &st));
	PT_EQ(st.st_atim.tv_sec, -1);
	PT_EQ(st.st_mtim.tv_sec, INT64_C(1) << 33);
	PT_SYS(utimensat(AT_FDCWD, P("link"), ts, AT_SYMLINK_NOFOLLOW));
	/* Changes of a directory move its times. */
	PT_SYS(stat(P("dir"), &st));
	tw_tick();
	PT_SYS(do_call(CREAT, P("dir/new")));
	PT_SYS(stat(P("dir"), &st2));
	CU_ASSERT(st2.st_mtim.tv_nsec != st.st_mtim.tv_nsec || st2.st_mtim.tv_sec != st.st_mtim.tv_sec);
	PT_SYS(unlink(P("dir/new")));
	PT_SYS(truncate(P("file"), 0));
}

static void special_files(void)
{
	const struct {
		mode_t mode;
		dev_t dev;
	} t[] = {
		{ S_IFIFO, 0 }, { S_IFSOCK, 0 }, { S_IFCHR, makedev(1, 3) }, { S_IFBLK, makedev(259, 70000) },
		{ S_IFREG, 0 },
	};
	struct stat st;

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		PT_SYS(mknod(P("node"), t[i].mode | 0640, t[i].dev));
		PT_SYS(stat(P("node"), &st));
		PT_EQ(st.st_mode, t[i].mode | 0640);
		PT_EQ(st.st_rdev, t[i].dev);
		PT_FAILS(mknod(P("node"), t[i].mode | 0640, t[i].dev), EEXIST);
		PT_SYS(unlink(P("node")));
	}
}

/* --- as another user --- */

static int as_nobody(int (*fn)(void))
{
	int status;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* The directories above the mount point may be closed to others. */
		if (chdir(fs->mnt) != 0 || setregid(65534, 65534) != 0 || setreuid(65534, 65534) != 0)
			_exit(99);
		(void)strcpy(fs->mnt, ".");
		_exit(fn());
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

#define NEED(expr)                                                                                                     \
	do {                                                                                                           \
		if (!(expr)) {                                                                                         \
			pt_say("as nobody, line %d: %s (%s)", __LINE__, #expr, pt_errname());                          \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

static int nobody_does(void)
{
	struct stat st;
	int fd;

	NEED(open(P("private"), O_RDONLY) < 0 && errno == EACCES);
	NEED(open(P("secret/x"), O_RDONLY) < 0 && errno == EACCES);
	NEED(open(P("new"), O_WRONLY | O_CREAT, 0644) < 0 && errno == EACCES);
	NEED(unlink(P("file")) < 0 && errno == EACCES);
	NEED(chmod(P("file"), 0777) < 0 && errno == EPERM);
	NEED(access(P("private"), R_OK) < 0 && errno == EACCES);
	NEED(access(P("file"), R_OK) == 0);
	fd = open(P("public/mine"), O_RDWR | O_CREAT | O_EXCL, 0666);
	NEED(fd >= 0 && fstat(fd, &st) == 0);
	NEED(st.st_uid == 65534 && st.st_gid == 65534);
	NEED(close(fd) == 0);
	fd = open(P("groupdir/mine"), O_RDWR | O_CREAT | O_EXCL, 0666);
	NEED(fd >= 0 && fstat(fd, &st) == 0);
	NEED(st.st_uid == 65534 && st.st_gid == 1234);
	NEED(mkdir(P("groupdir/sub"), 0777) == 0 && stat(P("groupdir/sub"), &st) == 0);
	NEED(st.st_gid == 1234 && (st.st_mode & S_ISGID) != 0);
	NEED(chown(P("groupdir/mine"), 0, (gid_t)-1) < 0 && errno == EPERM);
	NEED(unlink(P("public/roots")) < 0 && errno == EPERM);		/* sticky */
	NEED(ftruncate(fd, 10) == 0);
	NEED(close(fd) == 0);
	return 0;
}

/* Writing to a file with set-id bits takes them away, in each way there is to write; and whoever runs the file sees it.
 */
static int nobody_writes(void)
{
	for (int way = 0; way < 5; way++) {
		const char *path = P("suid%d", way);
		int fd = open(path, O_RDWR | (way == 0 ? O_TRUNC : 0));
		char *map, buf[4] = "abc";
		struct stat st;

		NEED(fd >= 0);
		if (way == 1)
			NEED(write(fd, buf, 3) == 3);
		if (way == 2)
			NEED(ftruncate(fd, 100) == 0);
		if (way == 3)
			NEED(fallocate(fd, 0, 0, 8192) == 0);
		if (way == 4) {
			/* A store through a mapping keeps them, as on other file systems. */
			map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			NEED(map != MAP_FAILED);
			map[0] = 'x';
			NEED(msync(map, 4096, MS_SYNC) == 0 && munmap(map, 4096) == 0);
		}
		NEED(fstat(fd, &st) == 0);
		if (way != 4)
			NEED((st.st_mode & 07777) == 0777);
		NEED(close(fd) == 0);
	}
	return 0;
}

static void permissions(void)
{
	PT_SYS(do_call(CREAT, P("private")));
	PT_SYS(chmod(P("private"), 0600));
	PT_SYS(mkdir(P("secret"), 0700));
	PT_SYS(mkdir(P("public"), 0));
	PT_SYS(chmod(P("public"), 01777));
	PT_SYS(do_call(CREAT, P("public/roots")));
	PT_SYS(mkdir(P("groupdir"), 0));
	PT_SYS(chown(P("groupdir"), 0, 1234));
	PT_SYS(chmod(P("groupdir"), 02777));
	PT_EQ(as_nobody(nobody_does), 0);
	for (int i = 0; i < 5; i++) {
		PT_SYS(do_call(CREAT, P("suid%d", i)));
		PT_SYS(truncate(P("suid%d", i), 50));
		PT_SYS(chmod(P("suid%d", i), 06777));
	}
	PT_EQ(as_nobody(nobody_writes), 0);
}

/* The owner of a set-user-id copy of id(1) is root; after somebody has written to it, it runs as whoever runs it. */
static int nobody_runs(void)
{
	char out[64], want[64];
	uint64_t end = 0;
	int fd;

	(void)snprintf(want, sizeof want, "65534\n");
	NEED(pt_run(out, sizeof out, 60000, (const char *[]){ P("id"), "-u", NULL }) == 0);
	NEED(strcmp(out, "0\n") == 0);
	/* Whoever reads /proc/PID of a process that ends keeps its program busy for a moment. */
	do
		fd = open(P("id"), O_WRONLY | O_APPEND);
	while (fd < 0 && errno == ETXTBSY && pt_wait_on(&end));
	NEED(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
	NEED(pt_run(out, sizeof out, 60000, (const char *[]){ P("id"), "-u", NULL }) == 0);
	NEED(strcmp(out, want) == 0);
	return 0;
}

static void set_user_id(void)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
		pt_skip("no set-user-id program has an effect here (no_new_privs)");
		return;
	}
	PT_EQ(pt_run(NULL, 0, 60000, (const char *[]){ "cp", "/usr/bin/id", P("id"), NULL }), 0);
	PT_SYS(chmod(P("id"), 04777));
	PT_EQ(as_nobody(nobody_runs), 0);
}

/* --- the rest --- */

static void space(void)
{
	struct statvfs a, b;
	uint64_t end = 0;
	int fd;

	/* The first file that is removed makes the file system allocate what it needs for removing files. */
	PT_SYS(statvfs(fs->mnt, &b));
	PT_SYS(do_call(CREAT, P("big")));
	PT_SYS(unlink(P("big")));
	do
		PT_SYS(statvfs(fs->mnt, &a));
	while (a.f_files - a.f_ffree > b.f_files - b.f_ffree && pt_wait_on(&end));
	end = 0;
	PT_EQ(a.f_bsize, 4096);
	PT_EQ(a.f_namemax, 255);
	CU_ASSERT(a.f_blocks <= 64 << 8 && a.f_bfree <= a.f_blocks && a.f_bfree > 0 && a.f_ffree > 0);
	fd = open(P("big"), O_RDWR | O_CREAT, 0644);
	PT_SYS(fallocate(fd, 0, 0, 8 << 20));
	PT_SYS(statvfs(fs->mnt, &b));
	CU_ASSERT(a.f_bfree - b.f_bfree >= 2048 && a.f_bfree - b.f_bfree < 2048 + 16);
	PT_SYS(close(fd));
	PT_SYS(unlink(P("big")));
	do	/* the kernel forgets the inode in its own time */
		PT_SYS(statvfs(fs->mnt, &b));
	while (b.f_bfree != a.f_bfree && pt_wait_on(&end));
	PT_EQ(b.f_bfree, a.f_bfree);
}

static void unlinked_but_open(void)
{
	char buf[16] = "";
	struct stat st;
	int fd = open(P("gone"), O_RDWR | O_CREAT | O_EXCL, 0644), fd2;

	PT_SYS_FATAL(fd);
	PT_EQ(write(fd, "still here", 10), 10);
	PT_SYS(unlink(P("gone")));
	PT_EQ(ino_of(P("gone")), 0);
	PT_EQ(pread(fd, buf, sizeof buf, 0), 10);
	CU_ASSERT_STRING_EQUAL(buf, "still here");
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_nlink, 0);
	PT_SYS(ftruncate(fd, 5000));
	PT_EQ(pwrite(fd, "more", 4, 100000), 4);
	PT_SYS(fchmod(fd, 0600));
	/* The name is free for another file. */
	fd2 = open(P("gone"), O_RDWR | O_CREAT | O_EXCL, 0644);
	PT_SYS(fd2);
	PT_EQ(pread(fd2, buf, sizeof buf, 0), 0);
	PT_SYS(close(fd2));
	PT_EQ(pread(fd, buf, 4, 100000), 4);
	PT_SYS(close(fd));
	PT_SYS(unlink(P("gone")));
	/* A directory that is somebody's current one. */
	PT_SYS(mkdir(P("cwd"), 0755));
	fd = open(P("cwd"), O_RDONLY | O_DIRECTORY);
	PT_SYS(rmdir(P("cwd")));
	PT_FAILS(openat(fd, "x", O_CREAT | O_WRONLY, 0644), ENOENT);
	PT_SYS(fstat(fd, &st));
	PT_SYS(close(fd));
}

static void locks(void)
{
	int a = open(P("file"), O_RDWR), b = open(P("file"), O_RDWR);
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };

	PT_SYS(flock(a, LOCK_EX));
	PT_FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	PT_SYS(flock(a, LOCK_UN));
	PT_SYS(flock(b, LOCK_EX | LOCK_NB));
	PT_SYS(fcntl(a, F_OFD_SETLK, &fl));
	PT_FAILS(fcntl(b, F_OFD_SETLK, &fl), EAGAIN);
	PT_SYS(close(a));
	PT_SYS(fcntl(b, F_OFD_SETLK, &fl));
	PT_SYS(close(b));
}

static void ioctls(void)
{
	struct pinfs_attach at = { .at_ino = 0 };
	struct pinfs_sock so = { .so_sock = "" };
	int r = open(P("file"), O_RDONLY), w = open(P("file"), O_RDWR), d = open(P("dir"), O_RDONLY), n = -1;

	PT_SYS(ioctl(r, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_ino, ino_of(P("file")));
	PT_EQ(at.at_write, 0);
	CU_ASSERT(at.at_cookie[0] != 0 || at.at_cookie[1] != 0);
	CU_ASSERT(at.at_sock[0] != '\0');
	PT_SYS(ioctl(w, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_write, 1);
	PT_FAILS(ioctl(d, PINFS_IOC_ATTACH, &at), EISDIR);
	PT_SYS(ioctl(d, PINFS_IOC_SOCK, &so));
	CU_ASSERT_STRING_EQUAL(so.so_sock, at.at_sock);
	PT_FAILS(ioctl(r, TCGETS, &n), ENOTTY);
	PT_FAILS(ioctl(r, _IO('P', 0x5f), 0), ENOTTY);
	n = open("/dev/null", O_RDONLY);
	PT_FAILS(ioctl(n, PINFS_IOC_SOCK, &so), ENOTTY);
	(void)close(n);
	(void)close(d);
	(void)close(w);
	(void)close(r);
}

static void handles(void)
{
	union {
		struct file_handle fh;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} h = { .fh.handle_bytes = MAX_HANDLE_SZ };
	int mount_id, dir = open(fs->mnt, O_RDONLY | O_DIRECTORY), fd;
	struct stat st;
	ino_t ino = ino_of(P("dir/sub"));

	PT_SYS(name_to_handle_at(AT_FDCWD, P("dir/sub"), &h.fh, &mount_id, 0));
	/* Out of the kernel's cache, then by number. */
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd >= 0) {
		(void)!write(fd, "2", 1);
		(void)close(fd);
	}
	fd = open_by_handle_at(dir, &h.fh, O_RDONLY);
	if (fd < 0 && errno == EPERM) {
		pt_skip("open_by_handle_at needs CAP_DAC_READ_SEARCH");
	} else {
		PT_SYS(fd);
		PT_SYS(fstat(fd, &st));
		PT_EQ(st.st_ino, ino);
		PT_SYS(fstatat(fd, "..", &st, 0));
		PT_EQ(st.st_ino, ino_of(P("dir")));
		(void)close(fd);
	}
	(void)close(dir);
}

static void with_tree(void (*body)(void))
{
	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", "allow_other,suid,dev");
	PT_SYS(chmod(fs->mnt, 0755));
	PT_SYS(do_call(CREAT, P("file")));
	PT_SYS(mkdir(P("dir"), 0755));
	PT_SYS(mkdir(P("dir/sub"), 0755));
	PT_SYS(mkdir(P("empty"), 0755));
	PT_SYS(symlink("file", P("link")));
	PT_SYS(symlink("nowhere", P("dangling")));
	PT_SYS(symlink("loop", P("loop")));
	body();
	pt_fs_end(fs);
}

#define CASE(fn) static void c_##fn(void) { with_tree(fn); }
CASE(one_name)
CASE(renames)
CASE(links)
CASE(attributes)
CASE(special_files)
CASE(permissions)
CASE(set_user_id)
CASE(space)
CASE(unlinked_but_open)
CASE(locks)
CASE(ioctls)
CASE(handles)

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "one name", c_one_name, 0 },
		{ "rename", c_renames, 0 },
		{ "links", c_links, 0 },
		{ "attributes", c_attributes, 0 },
		{ "special files", c_special_files, 0 },
		{ "permissions", c_permissions, 0 },
		{ "set-user-id", c_set_user_id, 0 },
		{ "space", c_space, 0 },
		{ "unlinked but open", c_unlinked_but_open, 0 },
		{ "locks", c_locks, 0 },
		{ "ioctl", c_ioctls, 0 },
		{ "file handles", c_handles, 0 },
	};
	static const struct pt_suite suites[] = { { "ops", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
