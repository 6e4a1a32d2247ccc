/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_posix_flags.c - chattr(1)'s flags in every verb, files without a name, file handles over a remount.
 *
 * Flags are compared with ext4, each verb beside the same verb on a file without flags, so that a check too many shows
 * as well. Handles and what a crash leaves of O_TMPFILE have no counterpart that could be remounted: checked here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <pinfs/ioctl.h>

#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

#define ALL (FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_DIRSYNC_FL)

static const struct tw_user no_immutable = { .uid = 0, .drop_cap = 1 + CAP_LINUX_IMMUTABLE };

/* Replace those flags that both filesystems have. */
static int set_flags(const char *name, int flags)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc, all = 0, err;

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_GETFLAGS, &all);
	all = (all & ~ALL) | flags;
	if (rc == 0)
		rc = ioctl(fd, FS_IOC_SETFLAGS, &all);
	err = errno;
	(void)close(fd);
	errno = err;
	return rc;
}

static int get_flags(const char *name)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc, all = 0, err;

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_GETFLAGS, &all);
	err = errno;
	(void)close(fd);
	errno = err;
	return rc < 0 ? rc : all & ALL;
}

static int set_xflags(const char *name, unsigned int flags)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc, err;
	struct fsxattr x = { .fsx_xflags = 0 };

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_FSGETXATTR, &x);
	x.fsx_xflags = flags;
	if (rc == 0)
		rc = ioctl(fd, FS_IOC_FSSETXATTR, &x);
	err = errno;
	(void)close(fd);
	errno = err;
	return rc;
}

static long get_xflags(const char *name)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc;
	struct fsxattr x = { .fsx_xflags = 0 };

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_FSGETXATTR, &x);
	(void)close(fd);
	return rc < 0 ? rc : (long)x.fsx_xflags;
}

/* --- setting and inheriting --- */

static void setting(void)
{
	static const int flags[] = { FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL, FS_SYNC_FL,
				     FS_DIRSYNC_FL, FS_NODUMP_FL | FS_NOATIME_FL };
	static const char *const names[] = { "f", "d", "p" };
	tw_file("f", 0644, 1);
	MUST(mkdir("d", 0755));
	MUST(mkfifo("p", 0644));
	for (size_t n = 0; n < PF_ARRAY_LEN(names); n++) {
		for (size_t i = 0; i < PF_ARRAY_LEN(flags); i++) {
			tw_note("%s %x", names[n], flags[i]);
			DO(set_flags(names[n], flags[i]));
			DO(get_flags(names[n]));
			DO(get_xflags(names[n]));
			DO(set_flags(names[n], 0));
		}
	}
	DO(set_xflags("f", FS_XFLAG_NODUMP | FS_XFLAG_NOATIME));
	DO(get_flags("f"));
	DO(set_xflags("f", FS_XFLAG_IMMUTABLE));
	DO(get_flags("f"));
	DO(set_xflags("f", 0));
	/* Inherited by what is made in a directory, by type. */
	DO(set_flags("d", FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_DIRSYNC_FL));
	tw_file("d/f", 0644, 1);
	MUST(mkdir("d/d", 0755));
	MUST(mkfifo("d/p", 0644));
	MUST(symlink("x", "d/s"));
	DO(get_flags("d/f"));
	DO(get_flags("d/d"));
	DO(rename("f", "d/moved"));
	DO(get_flags("d/moved"));
	DO(set_flags("d", FS_APPEND_FL));
	tw_file("d/g", 0644, 1);
	DO(get_flags("d/g"));
}

static void c_setting(void)
{
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare(fs, "setting", setting, &tw_root);
	tw_end(fs);
}

/* --- what they forbid --- */

static void use_file(const char *f, int before)
{
	const struct timespec when[2] = { { 1000, 1 }, { 2000, 2 } };
	const struct timespec one[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	int fd, in = open("src", O_RDONLY | O_CLOEXEC);
	char buf[8];
	void *p;

	OPEN(f, O_RDONLY);
	OPEN(f, O_WRONLY);
	OPEN(f, O_RDWR | O_APPEND);
	OPEN(f, O_RDWR | O_CREAT);
	OPEN(f, O_RDONLY | O_TRUNC);
	OPEN(f, O_WRONLY | O_APPEND | O_TRUNC);
	DO(truncate(f, 5));
	DO(truncate(f, 100000));
	DO(chmod(f, 0600));
	DO(chown(f, 1, 1));
	DO(utimensat(AT_FDCWD, f, NULL, 0));
	DO(utimensat(AT_FDCWD, f, when, 0));
	DO(utimensat(AT_FDCWD, f, one, 0));
	DO(setxattr(f, "user.x", "1", 1, 0));
	DO(removexattr(f, "user.x"));
	DO(getxattr(f, "user.none", buf, sizeof buf));
	DO(link(f, "new"));
	DO(rename(f, "new"));
	DO(rename("new", f));
	DO(rename("src2", f));
	DO(renameat2(AT_FDCWD, f, AT_FDCWD, "src3", RENAME_EXCHANGE));
	DO(renameat2(AT_FDCWD, f, AT_FDCWD, "src3", RENAME_EXCHANGE));
	DO(renameat2(AT_FDCWD, f, AT_FDCWD, "w", RENAME_WHITEOUT));
	(void)unlink(f);
	DO(rename("w", f));
	fd = open(f, O_RDWR | O_APPEND | O_CLOEXEC);
	DO(write(fd, "appended", 8));
	DO(fallocate(fd, 0, 0, 200000));
	DO(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 300000));
	DO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	DO(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096));
	DO(ftruncate(fd, 10));
	(void)close(fd);
	/* Through a descriptor that is older than the flag. */
	DO(write(before, "x", 1));
	DO(ftruncate(before, 100));
	DO(fallocate(before, 0, 0, 100000));
	DO(fallocate(before, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	DO(copy_file_range(in, NULL, before, NULL, 10, 0));
	DO(fchmod(before, 0644));
	DO(futimens(before, when));
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, before, 0);
	DO(p == MAP_FAILED ? -1 : munmap(p, 4096));
	(void)close(in);
	STAT(f);
	DO(unlink(f));
	STAT(f);
}

/* A write in place through an old descriptor of an append-only file is left out of the comparison: ext4 permits it. */
static void with_file_flag(int flag)
{
	static const char *const others[] = { "src", "src2", "src3" };
	int fd;

	tw_enter("top");
	for (size_t i = 0; i < PF_ARRAY_LEN(others); i++)
		tw_file(others[i], 0644, 100);
	tw_file("f", 0644, 10000);
	fd = open("f", O_RDWR | (flag & FS_APPEND_FL ? O_APPEND : 0) | O_CLOEXEC);
	MUST(fd);
	DO(set_flags("f", flag));
	use_file("f", fd);
	(void)close(fd);
	(void)set_flags("f", 0);
	(void)set_flags("src3", 0);
	(void)set_flags("new", 0);
	tw_leave("top");
}

static void use_dir(void)
{
	struct stat st;

	OPEN("d", O_RDONLY);
	OPEN("d/f", O_RDWR);
	OPEN("d/new", O_RDWR | O_CREAT);
	OPEN("d", O_RDWR | O_TMPFILE);
	DO(mkdir("d/newdir", 0755));
	DO(mknod("d/fifo", S_IFIFO | 0644, 0));
	DO(symlink("x", "d/sym"));
	DO(link("f", "d/link"));
	DO(rename("f", "d/moved"));
	DO(rename("d/f", "out"));
	DO(rename("d/f", "d/g"));
	DO(rename("d/f", "d/other"));
	DO(renameat2(AT_FDCWD, "d/f", AT_FDCWD, "d/other", RENAME_EXCHANGE));
	DO(renameat2(AT_FDCWD, "d/f", AT_FDCWD, "d/white", RENAME_WHITEOUT));
	DO(unlink("d/f"));
	DO(rmdir("d/sub"));
	DO(truncate("d/other", 5));
	DO(chmod("d", 0700));
	DO(chown("d", 1, 1));
	DO(utimensat(AT_FDCWD, "d", NULL, 0));
	DO(setxattr("d", "user.x", "1", 1, 0));
	DO(rename("d", "dd"));
	DO(rename("e", "d"));
	DO(rmdir("d"));
	DO(stat("d", &st));
	tw_note("%o %ju", st.st_mode, (uintmax_t)st.st_nlink);
}

static void with_dir_flag(int flag)
{
	tw_enter("top");
	tw_file("f", 0644, 1);
	MUST(mkdir("d", 0755));
	MUST(mkdir("e", 0755));
	MUST(mkdir("d/sub", 0755));
	tw_file("d/f", 0644, 100);
	tw_file("d/other", 0644, 100);
	DO(set_flags("d", flag));
	use_dir();
	(void)set_flags("d", 0);
	(void)set_flags("dd", 0);
	tw_leave("top");
}

static void forbidden(void)
{
	static const int flags[] = { 0, FS_IMMUTABLE_FL, FS_APPEND_FL, FS_IMMUTABLE_FL | FS_APPEND_FL, FS_NODUMP_FL };

	for (size_t i = 0; i < PF_ARRAY_LEN(flags); i++) {
		tw_note("--- file %x", flags[i]);
		with_file_flag(flags[i]);
		tw_note("--- directory %x", flags[i]);
		with_dir_flag(flags[i]);
	}
}

static void c_forbidden(void)
{
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare(fs, "forbidden", forbidden, &tw_root);
	tw_end(fs);
}

/* --- who may set them --- */

static void make_files(void)
{
	tw_file("roots", 0666, 1);
	tw_file("mine", 0666, 1);
	MUST(chown("mine", 65534, 65534));
	tw_file("sealed", 0666, 1);
	MUST(chown("sealed", 65534, 65534));
	MUST(set_flags("sealed", FS_APPEND_FL));
}

static void try_files(void)
{
	static const char *const names[] = { "roots", "mine", "sealed" };

	for (size_t i = 0; i < PF_ARRAY_LEN(names); i++) {
		DO(get_flags(names[i]));
		DO(set_flags(names[i], FS_NODUMP_FL));
		DO(set_flags(names[i], FS_IMMUTABLE_FL));
		DO(set_flags(names[i], FS_APPEND_FL | FS_NOATIME_FL));
		DO(set_xflags(names[i], FS_XFLAG_IMMUTABLE));
		DO(set_xflags(names[i], FS_XFLAG_NODUMP));
		DO(get_flags(names[i]));
	}
}

static void unseal_files(void)
{
	MUST(set_flags("sealed", 0));
}

static void c_who(void)
{
	const struct tw_step nobody[] = {
		{ make_files, &tw_root }, { try_files, &tw_nobody }, { unseal_files, &tw_root },
	};
	const struct tw_step weak[] = {
		{ make_files, &tw_root }, { try_files, &no_immutable }, { unseal_files, &tw_root },
	};
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, "nobody", nobody, PF_ARRAY_LEN(nobody));
	(void)tw_compare_steps(fs, "no CAP_LINUX_IMMUTABLE", weak, PF_ARRAY_LEN(weak));
	tw_end(fs);
}

/* --- what ext4 here has not: DAX, projects; programs; the ioctl that gives windows --- */

static struct pt_fs *fs;
#define P(...) pt_path(fs, __VA_ARGS__)

static int create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	PT_SYS(fd);
	return fd;
}

static unsigned int project(const char *path, int set)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fsxattr x = { .fsx_xflags = 0 };

	PT_SYS(ioctl(fd, FS_IOC_FSGETXATTR, &x));
	if (set >= 0) {
		x.fsx_projid = (unsigned int)set;
		PT_SYS(ioctl(fd, FS_IOC_FSSETXATTR, &x));
	}
	(void)close(fd);
	return x.fsx_projid;
}

static void our_own(void)
{
	struct pinfs_attach at;
	char out[256];
	int fd, gen = 0, gen2 = 0;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	PT_SYS(close(create(P("f"))));
	PT_SYS(mkdir(P("d"), 0755));
	PT_SYS(set_xflags(P("d"), FS_XFLAG_DAX));
	PT_EQ(get_xflags(P("d")), FS_XFLAG_DAX);
	PT_SYS(close(create(P("d/f"))));
	PT_SYS(mkdir(P("d/d"), 0755));
	PT_SYS(mkfifo(P("d/p"), 0644));
	PT_EQ(get_xflags(P("d/f")), FS_XFLAG_DAX);
	PT_EQ(get_xflags(P("d/d")), FS_XFLAG_DAX);
	PT_EQ(get_xflags(P("f")), 0);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ "lsattr", "-d", P("d"), NULL }), 0);
	CU_ASSERT_PTR_NOT_NULL(strchr(strtok(out, " "), 'x'));
	/* What this filesystem does not do it refuses, where ext4 says yes and forgets it. */
	PT_FAILS(set_xflags(P("f"), FS_XFLAG_REALTIME), EOPNOTSUPP);
	PT_FAILS(set_flags(P("f"), FS_COMPR_FL), EOPNOTSUPP);
	/* Projects: handed down, and a border for links and renames. */
	PT_SYS(mkdir(P("proj"), 0755));
	(void)project(P("proj"), 42);
	PT_SYS(set_xflags(P("proj"), FS_XFLAG_PROJINHERIT));
	PT_EQ(project(P("proj"), -1), 42);
	PT_SYS(close(create(P("proj/f"))));
	PT_EQ(project(P("proj/f"), -1), 42);
	PT_FAILS(link(P("f"), P("proj/link")), EXDEV);
	PT_FAILS(rename(P("f"), P("proj/f2")), EXDEV);
	PT_FAILS(renameat2(AT_FDCWD, P("proj/f"), AT_FDCWD, P("f"), RENAME_EXCHANGE), EXDEV);
	PT_SYS(rename(P("proj/f"), P("out")));
	PT_SYS(link(P("out"), P("proj/f")));
	/* Generations grow when a number is given out again. */
	fd = create(P("f"));
	PT_SYS(ioctl(fd, FS_IOC_GETVERSION, &gen));
	(void)close(fd);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ "lsattr", "-v", P("f"), NULL }), 0);
	PT_EQ(atoi(out), gen);
	PT_FAILS(ioctl(fd = open(P("f"), O_RDONLY), FS_IOC_SETVERSION, &gen2), ENOTTY);
	(void)close(fd);
	if (set_flags(P("f"), FS_IMMUTABLE_FL) != 0 && errno == EPERM) {
		pt_skip("chattr +i needs CAP_LINUX_IMMUTABLE");
		pt_fs_end(fs);
		return;
	}
	PT_SYS(set_flags(P("f"), 0));
	/* A descriptor that may write does not mean a window for writing into an immutable or append-only file. */
	fd = open(P("f"), O_RDWR);
	PT_SYS(ioctl(fd, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_write, 1);
	PT_SYS(set_flags(P("f"), FS_IMMUTABLE_FL));
	PT_SYS(ioctl(fd, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_write, 0);
	PT_SYS(set_flags(P("f"), FS_APPEND_FL));
	PT_SYS(ioctl(fd, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_write, 0);
	PT_SYS(set_flags(P("f"), 0));
	PT_SYS(ioctl(fd, PINFS_IOC_ATTACH, &at));
	PT_EQ(at.at_write, 1);
	(void)close(fd);
	/* The program, and what survives a remount. */
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ "chattr", "+ai", P("f"), NULL }), 0);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_FAILS(unlink(P("f")), EPERM);
	PT_EQ(get_flags(P("f")), FS_IMMUTABLE_FL | FS_APPEND_FL);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ "chattr", "-ai", P("f"), NULL }), 0);
	PT_SYS(unlink(P("f")));
	pt_fs_end(fs);
}

/* --- files without a name --- */

static int name_it(int fd, const char *path)
{
	char self[64];

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

static void nameless(void)
{
	struct stat st;
	char buf[16] = "";
	int fd;

	MUST(mkdir("d", 0755));
	fd = open("d", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
	DO(fd < 0 ? -1 : 0);
	DO(fstat(fd, &st));
	tw_note("%o links %ju", st.st_mode, (uintmax_t)st.st_nlink);
	STAT("d");
	DO(write(fd, "nameless", 8));
	DO(pread(fd, buf, 8, 0));
	DO(ftruncate(fd, 100000));
	DO(fchmod(fd, 0600));
	DO(name_it(fd, "d/none/x"));
	DO(name_it(fd, "d"));
	DO(name_it(fd, "d/name"));
	DO(name_it(fd, "d/name"));
	DO(name_it(fd, "d/second"));
	STAT("d/name");
	DO(unlink("d/name"));
	DO(unlink("d/second"));
	DO(name_it(fd, "d/again"));	/* that was its chance */
	(void)close(fd);
	fd = open("d", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0640);
	DO(fd < 0 ? -1 : 0);
	DO(name_it(fd, "d/name"));
	(void)close(fd);
	OPEN("d", O_TMPFILE | O_RDONLY);
	OPEN("d", O_TMPFILE | O_RDWR | O_CREAT);
	OPEN("none", O_TMPFILE | O_RDWR);
	MUST(rmdir("d"));
}

static void c_nameless(void)
{
	struct pt_fs *pfs = tw_start("allow_other,suid,dev");

	if (pfs == NULL)
		return;
	(void)tw_compare(pfs, "O_TMPFILE", nameless, &tw_root);
	tw_end(pfs);
}

/* A crash with some open: those without a name are gone, with all their blocks; the one that got a name is there. */
static void nameless_crash(void)
{
	struct statvfs a, b;
	char buf[16] = "";
	int fd[20], one;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	/* Once through, so that what stays allocated for the purpose is there before we count. */
	PT_SYS(close(create(P("leaf"))));
	for (size_t i = 0; i < PF_ARRAY_LEN(fd); i++)
		PT_SYS(fd[i] = open(fs->mnt, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	for (size_t i = 0; i < PF_ARRAY_LEN(fd); i++)
		PT_SYS(close(fd[i]));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_SYS(statvfs(fs->mnt, &a));
	for (size_t i = 0; i < PF_ARRAY_LEN(fd); i++) {
		PT_SYS(fd[i] = open(fs->mnt, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
		PT_SYS(fallocate(fd[i], 0, 0, 1 << 20));
		PT_EQ(pwrite(fd[i], "survives?", 9, 0), 9);
	}
	PT_SYS(ftruncate(fd[3], 9));
	PT_SYS(name_it(fd[3], P("named")));
	pt_fs_crash(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(fd); i++)
		(void)close(fd[i]);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_SYS(statvfs(fs->mnt, &b));
	PT_EQ(a.f_ffree - b.f_ffree, 1);
	PT_EQ(a.f_bfree - b.f_bfree, 1);
	one = open(P("named"), O_RDONLY | O_CLOEXEC);
	PT_SYS(one);
	PT_EQ(read(one, buf, sizeof buf), 9);
	CU_ASSERT_STRING_EQUAL(buf, "survives?");
	(void)close(one);
	pt_fs_end(fs);
}

/* --- handles --- */

union handle {
	struct file_handle fh;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static int by_handle(union handle *h, int flags)
{
	int dir = open(fs->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open_by_handle_at(dir, &h->fh, flags), err = errno;

	(void)close(dir);
	errno = err;
	return fd;
}

static void take_handle(const char *path, union handle *h)
{
	int mount_id;

	h->fh.handle_bytes = MAX_HANDLE_SZ;
	PT_SYS(name_to_handle_at(AT_FDCWD, path, &h->fh, &mount_id, 0));
}

static void same_file(union handle *h, const char *path)
{
	struct stat a, b;
	int fd = by_handle(h, O_RDONLY);

	PT_SYS(fd);
	if (fd < 0)
		return;
	PT_SYS(stat(path, &a));
	PT_SYS(fstat(fd, &b));
	PT_EQ(a.st_ino, b.st_ino);
	(void)close(fd);
}

static void handles(void)
{
	union handle file, dir, root, gone, moved, reused;
	struct stat st, was;
	uint64_t end = 0;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	PT_SYS(mkdir(P("d"), 0755));
	PT_SYS(mkdir(P("d/sub"), 0755));
	PT_SYS(close(create(P("d/sub/file"))));
	PT_SYS(close(create(P("gone"))));
	PT_SYS(close(create(P("moved"))));
	PT_SYS(close(create(P("reused"))));
	take_handle(P("d/sub/file"), &file);
	take_handle(P("d/sub"), &dir);
	take_handle(fs->mnt, &root);
	take_handle(P("gone"), &gone);
	take_handle(P("moved"), &moved);
	take_handle(P("reused"), &reused);
	PT_SYS(stat(P("reused"), &was));
	fd = by_handle(&file, O_RDWR);
	if (fd < 0 && errno == EPERM) {
		pt_skip("open_by_handle_at needs CAP_DAC_READ_SEARCH");
		pt_fs_end(fs);
		return;
	}
	PT_SYS(close(fd));
	PT_SYS(unlink(P("gone")));
	/* The kernel has the inode until the end of its last descriptor has been answered, which nobody waits for. */
	while ((fd = by_handle(&gone, O_RDONLY)) >= 0 && pt_wait_on(&end))
		PT_SYS(close(fd));
	PT_FAILS(by_handle(&gone, O_RDONLY), ESTALE);
	PT_SYS(unlink(P("reused")));
	PT_SYS(rename(P("moved"), P("d/elsewhere")));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	/* The kernel knows nothing of any of them now. */
	same_file(&file, P("d/sub/file"));
	same_file(&moved, P("d/elsewhere"));
	same_file(&dir, P("d/sub"));
	same_file(&root, fs->mnt);
	PT_FAILS(by_handle(&gone, O_RDONLY), ESTALE);
	/* ".." of a directory that came by its number. */
	fd = by_handle(&dir, O_RDONLY | O_DIRECTORY);
	PT_SYS(fd);
	PT_SYS(fstatat(fd, "..", &st, 0));
	PT_SYS(stat(P("d"), &was));
	PT_EQ(st.st_ino, was.st_ino);
	PT_SYS(fstatat(fd, ".", &st, 0));
	(void)close(fd);
	/* The numbers are given out again, to other files: the old handles do not lead to them. */
	for (int i = 0; i < 200; i++)
		PT_SYS(close(create(P("new%d", i))));
	PT_FAILS(by_handle(&gone, O_RDONLY), ESTALE);
	PT_FAILS(by_handle(&reused, O_RDONLY), ESTALE);
	/* Numbers that never were. */
	for (size_t i = 0; i < file.fh.handle_bytes; i++) {
		union handle bad = file;

		bad.fh.f_handle[i] ^= 0x40;
		fd = by_handle(&bad, O_RDONLY);
		if (fd >= 0)
			(void)close(fd);
		else
			CU_ASSERT(errno == ESTALE || errno == EINVAL);
	}
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "setting flags", c_setting, 0 },
		{ "what flags forbid", c_forbidden, 0 },
		{ "who may set them", c_who, 0 },
		{ "DAX, projects, generations, windows", our_own, 0 },
		{ "O_TMPFILE", c_nameless, 0 },
		{ "O_TMPFILE and a crash", nameless_crash, 0 },
		{ "handles", handles, 0 },
	};
	static const struct pt_suite suites[] = { { "as ext4: flags", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
