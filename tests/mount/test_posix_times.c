/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_posix_times.c - which of atime, mtime and ctime each call moves, of the file and of its directory, as on ext4;
 * then what only this filesystem's own options decide: noatime, strictatime, nodiratime, and the time of birth.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

static bool moved(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

/* --- the table: a call, and the times that it moves --- */

#define WATCHED 5
static const char *const watched[WATCHED] = { "f", "g", "d", "s", "." };
static struct stat before[WATCHED];

static void look_before(void)
{
	for (int i = 0; i < WATCHED; i++)
		if (lstat(watched[i], &before[i]) != 0)
			before[i].st_nlink = 0;
	tw_tick();
}

static void look_after(int line, const char *call)
{
	for (int i = 0; i < WATCHED; i++) {
		struct stat st;

		if (lstat(watched[i], &st) != 0 || before[i].st_nlink == 0)
			continue;
		tw_note("%d: %s moves %s:%s%s%s", line, call, watched[i],
			moved(before[i].st_atim, st.st_atim) ? " a" : "",
			moved(before[i].st_mtim, st.st_mtim) ? " m" : "",
			moved(before[i].st_ctim, st.st_ctim) ? " c" : "");
	}
}

#define MOVES(call)                                                                                                    \
	do {                                                                                                           \
		look_before();                                                                                         \
		DO(call);                                                                                              \
		look_after(__LINE__, #call);                                                                           \
	} while (0)

static int list(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	if (d == NULL)
		return -1;
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

static int read_with(const char *name, int flags)
{
	char buf[4];
	int fd = open(name, O_RDONLY | O_CLOEXEC | flags), n;

	if (fd < 0)
		return -1;
	n = (int)read(fd, buf, sizeof buf);
	(void)close(fd);
	return n;
}

static int opened(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);

	return fd < 0 ? -1 : close(fd);
}

static int made_old(const char *name)
{
	const struct timespec old[2] = { { 1000000000, 1 }, { 1500000000, 999999999 } };

	return utimensat(AT_FDCWD, name, old, AT_SYMLINK_NOFOLLOW);
}

/* Change the flags that @mask names; ext4 has some that must stay. */
static int set_flags(const char *name, int mask, int flags)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC), rc, all = 0;

	if (fd < 0)
		return -1;
	rc = ioctl(fd, FS_IOC_GETFLAGS, &all);
	all = (all & ~mask) | flags;
	if (rc == 0)
		rc = ioctl(fd, FS_IOC_SETFLAGS, &all);
	(void)close(fd);
	return rc;
}

static void table(void)
{
	const struct timespec now_omit[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	const struct timespec omit_now[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };
	const struct timespec omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
	const struct timespec bad[2] = { { 0, 1000000000 }, { 0, 0 } };
	char buf[16];
	int fd, in;
	void *p;

	tw_file("f", 0644, 10000);
	tw_file("g", 0644, 10000);
	MUST(mkdir("d", 0755));
	MUST(symlink("f", "s"));
	fd = open("f", O_RDWR | O_CLOEXEC);
	in = open("g", O_RDONLY | O_CLOEXEC);
	MOVES(opened("f", O_RDWR));
	MOVES(read(fd, buf, 1));
	MOVES(read(fd, buf, 1));
	MOVES(made_old("f"));
	MOVES(pread(fd, buf, 0, 0));
	MOVES(pread(fd, buf, 1, 100000));
	MOVES(pread(fd, buf, 1, 0));
	MOVES(pread(fd, buf, 1, 0));
	MOVES(write(fd, "x", 1));
	MOVES(read(fd, buf, 1));
	MOVES(write(fd, "", 0));
	MOVES(pwrite(fd, "x", 1, 50000));
	MOVES(ftruncate(fd, 50001));
	MOVES(ftruncate(fd, 100));
	MOVES(truncate("f", 100));
	MOVES(truncate("f", 5000));
	MOVES(opened("f", O_WRONLY | O_TRUNC));
	MOVES(opened("f", O_WRONLY | O_TRUNC));
	MOVES(fallocate(fd, 0, 0, 10000));
	MOVES(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000));
	MOVES(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	MOVES(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 100));
	MOVES(lseek(fd, 0, SEEK_HOLE));
	MOVES(fsync(fd));
	MOVES(copy_file_range(in, NULL, fd, NULL, 100, 0));
	MOVES(chmod("f", 0600));
	MOVES(chmod("f", 0600));
	MOVES(chown("f", 0, 0));
	MOVES(chown("f", (uid_t)-1, (gid_t)-1));
	MOVES(access("f", R_OK));
	MOVES(utimensat(AT_FDCWD, "f", NULL, 0));
	MOVES(utimensat(AT_FDCWD, "f", now_omit, 0));
	MOVES(utimensat(AT_FDCWD, "f", omit_now, 0));
	MOVES(utimensat(AT_FDCWD, "f", omit, 0));
	MOVES(utimensat(AT_FDCWD, "f", bad, 0));
	MOVES(futimens(fd, NULL));
	MOVES(made_old("s"));
	MOVES(readlink("s", buf, sizeof buf));
	MOVES(readlink("s", buf, sizeof buf));
	MOVES(link("f", "h"));
	MOVES(rename("h", "h2"));
	MOVES(rename("h2", "f"));
	MOVES(unlink("h2"));
	MOVES(link("f", "h"));
	MOVES(unlink("h"));
	MOVES(link("f", "d/h"));
	MOVES(rename("d/h", "h"));
	MOVES(rename("h", "g"));
	MOVES(renameat2(AT_FDCWD, "g", AT_FDCWD, "d", RENAME_EXCHANGE));
	MOVES(renameat2(AT_FDCWD, "g", AT_FDCWD, "d", RENAME_EXCHANGE));
	MOVES(mkdir("d/x", 0755));
	MOVES(rename("d/x", "x"));
	MOVES(rename("x", "d/x"));
	MOVES(rmdir("d/x"));
	MOVES(mkdir("d", 0755));
	MOVES(opened("d/new", O_RDWR | O_CREAT));
	MOVES(opened("d/new", O_RDWR | O_CREAT));
	MOVES(opened("d", O_RDWR | O_TMPFILE));
	MOVES(mknod("d/fifo", S_IFIFO | 0644, 0));
	MOVES(symlink("a", "d/s"));
	MOVES(unlink("d/s"));
	MOVES(list("d"));
	MOVES(list("d"));
	MOVES(made_old("d"));
	MOVES(list("d"));
	MOVES(chdir("."));
	MOVES(set_flags("f", FS_NODUMP_FL, FS_NODUMP_FL));
	MOVES(set_flags("f", FS_NOATIME_FL, FS_NOATIME_FL));
	MOVES(made_old("f"));
	MOVES(read_with("f", 0));
	MOVES(set_flags("f", FS_NOATIME_FL, 0));
	MOVES(read_with("f", O_NOATIME));
	MOVES(read_with("f", 0));
	MOVES(renameat2(AT_FDCWD, "d/new", AT_FDCWD, "d/newer", RENAME_WHITEOUT));
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(p == MAP_FAILED ? -1 : 0);
	look_before();
	*(volatile char *)p = 1;
	MUST(msync(p, 4096, MS_SYNC));
	look_after(__LINE__, "store and msync");
	(void)munmap(p, 4096);
	MOVES(unlink("d/newer"));
	MOVES(unlink("f"));
	MOVES(chmod("d", 0700));
}

/* What utimensat stores comes back, to the nanosecond, as far as ext4 can store it. */
static void values(void)
{
	static const struct timespec v[] = {
		{ 0, 0 }, { 1, 999999999 }, { -1, 1 }, { 2147483647, 5 }, { 2147483648, 6 }, { 4294967296, 7 },
		{ 1234567890, 123456789 }, { -2147483648, 0 },
	};
	struct timeval tv[2] = { { 12345, 678901 }, { 23456, 789012 } };
	struct stat st;

	tw_file("f", 0644, 0);
	MUST(symlink("f", "s"));
	for (size_t i = 0; i < PF_ARRAY_LEN(v); i++) {
		const struct timespec t[2] = { v[i], v[PF_ARRAY_LEN(v) - 1 - i] };

		DO(utimensat(AT_FDCWD, "f", t, 0));
		MUST(stat("f", &st));
		tw_note("%jd.%09ld %jd.%09ld", (intmax_t)st.st_atim.tv_sec, st.st_atim.tv_nsec,
			(intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		DO(utimensat(AT_FDCWD, "s", t, AT_SYMLINK_NOFOLLOW));
		MUST(lstat("s", &st));
		tw_note("%jd.%09ld %jd.%09ld", (intmax_t)st.st_atim.tv_sec, st.st_atim.tv_nsec,
			(intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	DO(utimes("f", tv));
	MUST(stat("f", &st));
	tw_note("%jd.%09ld %jd.%09ld", (intmax_t)st.st_atim.tv_sec, st.st_atim.tv_nsec, (intmax_t)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
}

/* --- birth --- */

static void birth(void)
{
	struct statx a, b;
	struct stat st;
	int fd;

	tw_file("f", 0644, 10);
	MUST(stat("f", &st));
	DO(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &a));
	tw_note("mask %x", a.stx_mask & (STATX_BASIC_STATS | STATX_BTIME));
	tw_note("mode %o size %llu links %u", a.stx_mode, (unsigned long long)a.stx_size, a.stx_nlink);
	tw_note("born with ctime: %d", a.stx_btime.tv_sec >= st.st_ctim.tv_sec - 60 &&
		a.stx_btime.tv_sec <= st.st_ctim.tv_sec);
	tw_tick();
	fd = open("f", O_WRONLY | O_CLOEXEC);
	MUST(write(fd, "x", 1));
	MUST(close(fd));
	MUST(chmod("f", 0600));
	MUST(made_old("f"));
	MUST(rename("f", "g"));
	DO(statx(AT_FDCWD, "g", 0, STATX_BTIME | STATX_MTIME, &b));
	tw_note("same birth: %d, older mtime: %d", a.stx_btime.tv_sec == b.stx_btime.tv_sec &&
		a.stx_btime.tv_nsec == b.stx_btime.tv_nsec, b.stx_mtime.tv_sec == 1500000000);
	tw_tick();
	tw_file("f", 0644, 1);
	DO(statx(AT_FDCWD, "f", 0, STATX_BTIME, &a));
	tw_note("later: %d", a.stx_btime.tv_sec > b.stx_btime.tv_sec ||
		(a.stx_btime.tv_sec == b.stx_btime.tv_sec && a.stx_btime.tv_nsec > b.stx_btime.tv_nsec));
	MUST(mkdir("d", 0755));
	MUST(symlink("x", "s"));
	MUST(mkfifo("p", 0600));
	DO(statx(AT_FDCWD, "d", 0, STATX_BTIME, &a));
	tw_note("%d", (a.stx_mask & STATX_BTIME) != 0 && a.stx_btime.tv_sec > 1000);
	DO(statx(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW, STATX_BTIME, &a));
	tw_note("%d", (a.stx_mask & STATX_BTIME) != 0 && a.stx_btime.tv_sec > 1000);
	DO(statx(AT_FDCWD, "p", 0, STATX_ALL, &a));
	tw_note("%d", (a.stx_mask & STATX_BTIME) != 0 && a.stx_btime.tv_sec > 1000);
	DO(statx(AT_FDCWD, "none", 0, STATX_ALL, &a));
}

static void with(const char *what, void (*script)(void))
{
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare(fs, what, script, &tw_root);
	tw_end(fs);
}

#define CASE(name, fn) static void c_##fn(void) { with(name, fn); }
CASE("times", table)
CASE("values", values)
CASE("birth", birth)

/* --- mount options: which reads leave a trace --- */

static struct pt_fs *fs;

static bool atime_moves(const char *path, int (*fn)(const char *path))
{
	struct stat a, b;

	PT_SYS(lstat(path, &a));
	tw_tick();
	PT_SYS(fn(path));
	PT_SYS(lstat(path, &b));
	return moved(a.st_atim, b.st_atim);
}

static int read_file(const char *path) { return read_with(path, 0); }
static int read_quietly(const char *path) { return read_with(path, O_NOATIME); }

static int list_quietly(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL)
		return -1;
	while (readdir(d) != NULL)
		;
	return closedir(d);
}

static int follow(const char *path)
{
	char buf[8];

	return (int)readlink(path, buf, sizeof buf);
}

static void atime_options(void)
{
	/* Reads that show: of a changed file, again, quietly; of a directory; of a link. */
	static const struct { const char *opts; bool first, again, quiet, dir, sym; } t[] = {
		{ "rw", true, false, false, true, true },
		{ "relatime", true, false, false, true, true },
		{ "noatime", false, false, false, false, false },
		{ "nodiratime", true, false, false, false, true },
		{ "strictatime", true, true, false, true, true },
		{ "strictatime,nodiratime", true, true, false, false, true },
	};

	if (!pt_need_mount())
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		const char *f, *d, *s;
		int fd;

		fs = pt_fs_start("64M", t[i].opts);
		f = pt_path(fs, "f");
		d = pt_path(fs, "d");
		s = pt_path(fs, "s");
		fd = open(f, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		PT_EQ(write(fd, "0123456789", 10), 10);
		PT_SYS(close(fd));
		PT_SYS(mkdir(d, 0755));
		PT_SYS(symlink("f", s));
		PT_EQ(atime_moves(f, read_quietly), t[i].quiet);
		PT_EQ(atime_moves(f, read_file), t[i].first);
		PT_EQ(atime_moves(f, read_file), t[i].again);
		PT_EQ(atime_moves(d, list), t[i].dir);
		PT_EQ(atime_moves(d, list_quietly), false);
		PT_EQ(atime_moves(s, follow), t[i].sym);
		/* Older than a day: once more. */
		PT_SYS(utimensat(AT_FDCWD, f, (const struct timespec[2]){ { 1000, 0 }, { 500, 0 } }, 0));
		PT_EQ(atime_moves(f, read_file), t[i].first);
		pt_fs_end(fs);
	}
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "which call moves what", c_table, 0 },
		{ "values", c_values, 0 },
		{ "birth", c_birth, 0 },
		{ "noatime and its kind", atime_options, 0 },
	};
	static const struct pt_suite suites[] = { { "as ext4: times", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
