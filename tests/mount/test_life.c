/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_life.c - the life of a mount: it answers when pinfs(8) has returned, it ends in order however it is ended, and
 * whatever is wrong with a command line, a device or a mount point is said in one line and an exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <pinfs/format.h>
#include <pinfs/version.h>

#include "base/crc32c.h"
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

static int lines(const char *s)
{
	int n = 0;

	for (; *s != '\0'; s++)
		n += *s == '\n';
	return n;
}

/* pinfs ARGS fails with @status and one line on stderr that contains @words; nothing on stdout. */
static void refuses(int status, const char *words, const char *const *args)
{
	const char *argv[16] = { pt_program("pinfs") };
	char out[512], err[2048];
	int rc;

	for (size_t i = 0; args[i] != NULL && i < 14; i++)
		argv[i + 1] = args[i];
	rc = pt_run2(out, sizeof out, err, sizeof err, 60000, argv);
	if (rc != status || lines(err) != 1 || out[0] != '\0' || strstr(err, words) == NULL)
		pt_say("expected status %d and one line with \"%s\"; status %d, stdout \"%s\", stderr \"%s\"", status,
		       words, rc, out, err);
	CU_ASSERT_EQUAL(rc, status);
	CU_ASSERT_EQUAL(lines(err), 1);
	CU_ASSERT_STRING_EQUAL(out, "");
	CU_ASSERT_PTR_NOT_NULL(strstr(err, words));
}
#define REFUSES(status, words, ...) refuses(status, words, (const char *const[]){ __VA_ARGS__, NULL })

static void command_line(void)
{
	static const struct { int status; const char *words, *opts; } bad[] = {
		{ 1, "unknown option -o nonsense", "nonsense" },
		{ 1, "unknown option -o nonsense", "rw,nonsense=1" },
		{ 1, "wait, ebusy, defer, unsafe, poll", "on_busy=polling" },
		{ 1, "wait, ebusy, defer, unsafe, poll", "on_busy=" },
		{ 1, "needs a value", "on_busy" },
		{ 1, "range, file", "break=FILE" },
		{ 1, "auto, cpu, msync", "pmem=yes" },
		{ 1, "busy_timeout=-1", "busy_timeout=-1" },
		{ 1, "busy_timeout=1e3", "busy_timeout=1e3" },
		{ 1, "busy_timeout=1.", "busy_timeout=1." },
		{ 1, "busy_timeout=5m", "busy_timeout=5m" },
		{ 1, "busy_timeout=99999999999999999999", "busy_timeout=99999999999999999999" },
		{ 1, "revoke_timeout=0", "revoke_timeout=0" },
		{ 1, "window=", "window=" },
		{ 1, "window=3M", "window=3M" },
		{ 1, "window=2M", "window=2M" },
		{ 1, "window=2T", "window=2T" },
		{ 1, "window=16777216T", "window=16777216T" },
		{ 1, "window=0x400000", "window=0x400000" },
		{ 1, "fsname=", "fsname=" },
	};
	struct pt_fs *fs;
	char out[4096];

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(bad); i++)
		REFUSES(bad[i].status, bad[i].words, "-o", bad[i].opts, fs->img, fs->mnt);
	refuses(2, "no device", (const char *const[]){ NULL });
	REFUSES(2, "no mount point", fs->img);
	REFUSES(2, "too many arguments", fs->img, fs->mnt, "extra");
	REFUSES(2, "unknown option -x", "-x", fs->img, fs->mnt);
	REFUSES(2, "unknown option --frob", "--frob");
	REFUSES(2, "-o needs", fs->img, fs->mnt, "-o");
	PT_EQ(pt_run2(out, sizeof out, NULL, 0, 60000, (const char *[]){ pt_program("pinfs"), "-h", NULL }), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "on_busy="));
	PT_EQ(pt_run2(out, sizeof out, NULL, 0, 60000, (const char *[]){ pt_program("pinfs"), "--version", NULL }), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "media 1.0"));
	pt_fs_end(fs);
}

/* Every option with good values; also as fstab(5) writes them. */
static void good_options(void)
{
	static const char *const good[] = {
		"on_busy=wait,busy_timeout=2.5,break=file,window=64M,revoke_timeout=250ms,pmem=cpu",
		"on_busy=ebusy,busy_timeout=0,pmem=auto,window=4194304",
		"on_busy=defer,pmem=msync,window=1GiB,revoke_timeout=3s",
		"rw,nosuid,nodev,noexec,relatime,_netdev,nofail,x-systemd.automount,noauto,user",
		"allow_other,default_permissions,suid,dev,exec",
		"fsname=a\\,b,no_default_permissions",
	};
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(good); i++) {
		int rc = pt_fs_mount(fs, good[i]);

		if (rc != 0)
			pt_say("-o %s: status %d", good[i], rc);
		CU_ASSERT_EQUAL_FATAL(rc, 0);
		PT_EQ(pt_fs_umount(fs), 0);
	}
	pt_fs_end(fs);
}

static void unsafe_warns(void)
{
	struct pt_fs *fs;
	char text[1024];
	ssize_t n;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", "on_busy=unsafe");
	fd = open(fs->log, O_RDONLY);
	n = read(fd, text, sizeof text - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "EXPERIMENTAL"));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_run(text, sizeof text, 60000,
		     (const char *[]){ pt_program("pinfs"), "-o", "on_busy=unsafe", fs->img, fs->mnt, NULL }), 0);
	PT_EQ(lines(text), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "EXPERIMENTAL"));
	PT_SYS(pt_umount(fs->mnt));
	pt_fs_end(fs);
}

static void make_file(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	PT_SYS(fd);
	PT_EQ(write(fd, bytes, n), n);
	PT_SYS(close(fd));
}

/* Both superblocks, changed and sealed again. */
static void patch_super(const char *img, size_t off, uint64_t value, size_t n, bool seal)
{
	static struct pf_d_super sb;
	int fd = open(img, O_RDWR);
	off_t end = lseek(fd, 0, SEEK_END), at[2] = { 0, end - 4096 };

	for (int i = 0; i < 2; i++) {
		PT_EQ(pread(fd, &sb, sizeof sb, at[i]), sizeof sb);
		memcpy((char *)&sb + off, &value, n);	/* little-endian, as the machines this runs on */
		if (seal)
			sb.sb_crc = pf_put32(pf_crc32c_hole(&sb, sizeof sb, offsetof(struct pf_d_super, sb_crc)));
		PT_EQ(pwrite(fd, &sb, sizeof sb, at[i]), sizeof sb);
	}
	(void)close(fd);
}

static void bad_images(void)
{
#define FIELD(f) offsetof(struct pf_d_super, f), sizeof ((struct pf_d_super *)0)->f
	static const struct { size_t off, len; uint64_t value; bool seal; const char *words; } t[] = {
		{ FIELD(sb_magic), 0, true, "not a pinfs" },
		{ FIELD(sb_major), PINFS_MEDIA_MAJOR + 1, true, "version" },
		{ FIELD(sb_blk_size), 512, true, "block size" },
		{ FIELD(sb_incompat), UINT64_C(1) << 40, true, "unknown incompatible feature" },
		{ FIELD(sb_ro_compat), UINT64_C(1) << 40, true, "mount with ro" },
		{ FIELD(sb_mkfs_time), 1, false, "checksum" },
		{ FIELD(sb_nblk), 4097, true, ": " },
		{ FIELD(sb_map_blk), 0, true, ": " },
		{ FIELD(sb_iclu0_blk), UINT64_MAX, true, ": " },
	};
	struct pt_fs *fs;
	char out[512];

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		patch_super(fs->img, t[i].off, t[i].value, t[i].len, t[i].seal);
		REFUSES(1, t[i].words, fs->img, fs->mnt);
		PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("mkfs.pinfs"), "-f", fs->img, NULL }),
		      0);
	}
	pt_fs_end(fs);
}

static void bad_places(void)
{
	struct pt_fs *fs;
	char other[PATH_MAX], text[] = "this is no pinfs";
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	(void)snprintf(other, sizeof other, "%.*s/other", PATH_MAX - 16, fs->dir);
	REFUSES(1, "No such file", "/no/such/device", fs->mnt);
	REFUSES(1, "No such file", fs->img, "/no/such/dir");
	REFUSES(1, "Not a directory", fs->img, fs->img);
	REFUSES(1, "neither a regular file", "/dev/null", fs->mnt);
	REFUSES(1, ": ", "/", fs->mnt);
	make_file(other, text, sizeof text);
	REFUSES(1, other, other, fs->mnt);
	PT_SYS(truncate(other, 16 << 20));
	REFUSES(1, "not a pinfs", other, fs->mnt);
	PT_SYS(truncate(other, (16 << 20) + 512));
	REFUSES(1, "multiple", other, fs->mnt);
	PT_SYS(unlink(other));

	/* A device cut short. */
	fd = open(fs->img, O_RDWR);
	PT_SYS_FATAL(fd);
	PT_SYS(ftruncate(fd, 15 << 20));
	REFUSES(1, fs->img, fs->img, fs->mnt);
	PT_SYS(ftruncate(fd, 16 << 20));
	(void)close(fd);
	CU_ASSERT_FALSE(pt_is_mounted(fs->mnt));
	PT_SYS(unlink(fs->img));
	PT_EQ(pt_run(other, sizeof other, 60000,
		     (const char *[]){ pt_program("mkfs.pinfs"), "-s", "16M", fs->img, NULL }),
	      0);
	pt_fs_end(fs);
}

/* In a mount namespace with another /dev. */
static int without_fuse(void *arg)
{
	const struct pt_fs *fs = arg;
	char err[1024];
	int rc;

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return 77;
	if (mount("tmpfs", "/dev", "tmpfs", 0, NULL) != 0 || mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) != 0)
		return 77;
	rc = pt_run2(NULL, 0, err, sizeof err, 60000, (const char *[]){ pt_program("pinfs"), fs->img, fs->mnt, NULL });
	(void)printf("%s", err);
	return rc == 1 && lines(err) == 1 && strstr(err, "/dev/fuse") != NULL ? 0 : 1;
}

static void no_dev_fuse(void)
{
	struct pt_fs *fs;
	char dir[] = "/tmp/pinfs-test.XXXXXX";
	struct pt_fs moved;
	int rc;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	/* The image must stay visible when /dev is hidden. */
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	moved = *fs;
	(void)snprintf(moved.img, sizeof moved.img, "%s/img", dir);
	(void)snprintf(moved.mnt, sizeof moved.mnt, "%s", dir);
	PT_EQ(pt_run(NULL, 0, 60000, (const char *[]){ pt_program("mkfs.pinfs"), "-s", "16M", moved.img, NULL }), 0);
	rc = pt_wait(pt_fork(without_fuse, &moved), 60000);
	(void)unlink(moved.img);
	(void)rmdir(dir);
	if (rc == 77)
		pt_skip("no mount namespaces here");
	else
		PT_EQ(rc, 0);
	pt_fs_end(fs);
}

static void device_in_use(void)
{
	struct pt_fs *fs;
	char second[PATH_MAX], pid[32], out[1024];
	const char *again[] = { pt_program("pinfs"), NULL, second, NULL };
	uint64_t end = 0;
	bool ended = false;
	int rc;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	again[1] = fs->img;
	(void)snprintf(second, sizeof second, "%.*s/second", PATH_MAX - 16, fs->dir);
	PT_SYS(mkdir(second, 0755));
	(void)snprintf(pid, sizeof pid, "pid %d (pinfs)", (int)fs->pid);
	REFUSES(1, pid, fs->img, second);
	REFUSES(1, "a pinfs is mounted there already", fs->img, fs->mnt);
	CU_ASSERT_FALSE(pt_is_mounted(second));
	/* It may be mounted again as soon as umount(8) has returned. */
	PT_SYS(pt_umount(fs->mnt));
	while ((rc = pt_run(out, sizeof out, 60000, again)) == 1 && strstr(out, pid) != NULL && !ended) {
		ended = pt_fs_wait(fs, 0) == 0;		/* a slow machine: it is waited for a second only */
		CU_ASSERT_FATAL(pt_wait_on(&end));
	}
	if (rc != 0)
		pt_say("the second daemon: %d: %s", rc, out);
	PT_EQ(rc, 0);
	CU_ASSERT_TRUE(pt_is_mounted(second));
	if (!ended)
		PT_EQ(pt_fs_wait(fs, 60000), 0);
	PT_SYS(pt_umount(second));
	pt_fs_end(fs);
}

/* As people start it: in the background, adopted by this program when its parent has gone. */
static pid_t start_daemon(struct pt_fs *fs, const char *opts)
{
	char out[1024];
	struct statvfs st;
	pid_t pid;
	int rc;

	pt_adopt_orphans();
	rc = pt_run(out, sizeof out, 60000,
		    (const char *[]){ pt_program("pinfs"), fs->img, fs->mnt, opts != NULL ? "-o" : NULL, opts, NULL });
	if (rc != 0 || out[0] != '\0')
		pt_say("pinfs: status %d: %s", rc, out);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	CU_ASSERT_STRING_EQUAL(out, "");
	/* Usable at once. */
	CU_ASSERT_TRUE(pt_is_mounted(fs->mnt));
	PT_SYS(statvfs(fs->mnt, &st));
	PT_EQ(st.f_namemax, 255);
	make_file(pt_path(fs, "first"), "x", 1);
	pid = pt_child_named("pinfs");
	CU_ASSERT_FATAL(pid > 0);
	return pid;
}

static void background(void)
{
	struct pt_fs *fs;
	char path[64], link[PATH_MAX];
	ssize_t n;
	pid_t pid;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	pid = start_daemon(fs, NULL);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, i);
		n = readlink(path, link, sizeof link - 1);
		link[n > 0 ? n : 0] = '\0';
		CU_ASSERT_STRING_EQUAL(link, "/dev/null");
	}
	(void)snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
	n = readlink(path, link, sizeof link - 1);
	link[n > 0 ? n : 0] = '\0';
	CU_ASSERT_STRING_EQUAL(link, "/");
	PT_SYS(pt_umount(fs->mnt));
	PT_EQ(pt_wait(pid, 60000), 0);
	pt_fs_end(fs);
}

/* A program that unmounts; somebody who looks at all mounts may have it busy for a moment. */
static void unmounts(const char *const *argv)
{
	uint64_t end = 0;
	char out[256];
	int rc;

	while ((rc = pt_run(out, sizeof out, 60000, argv)) != 0 && strstr(out, "busy") != NULL && pt_wait_on(&end))
		;
	if (rc != 0)
		pt_say("%s: %d: %s", argv[0], rc, out);
	PT_EQ(rc, 0);
}

/* Each way to end it: exit status 0, nothing mounted, image clean. */
static void ends(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct pt_fs *fs;
	pid_t pid;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("16M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(signals); i++) {
		pid = start_daemon(fs, NULL);
		PT_SYS(kill(pid, signals[i]));
		PT_EQ(pt_wait(pid, 60000), 0);
		CU_ASSERT_FALSE(pt_is_mounted(fs->mnt));
		PT_EQ(pt_fs_fsck(fs), 0);
	}
	pid = start_daemon(fs, NULL);
	unmounts((const char *[]){ "fusermount3", "-u", fs->mnt, NULL });
	PT_EQ(pt_wait(pid, 60000), 0);
	CU_ASSERT_FALSE(pt_is_mounted(fs->mnt));
	pid = start_daemon(fs, NULL);
	unmounts((const char *[]){ "umount", fs->mnt, NULL });
	PT_EQ(pt_wait(pid, 60000), 0);
	pt_fs_end(fs);
}

/* A signal ends it although files are open: their users get an error, the image is clean. */
static void signal_with_open_files(void)
{
	struct pt_fs *fs;
	char buf[8];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	PT_EQ(write(fd, "hello", 5), 5);
	PT_SYS(unlink(pt_path(fs, "f")));
	PT_FAILS(umount2(fs->mnt, 0), EBUSY);
	PT_SYS(kill(fs->pid, SIGTERM));
	PT_EQ(pt_fs_wait(fs, 60000), 0);
	PT_FAILS(pread(fd, buf, sizeof buf, 0), ENOTCONN);
	(void)close(fd);
	pt_fs_end(fs);
}

/* umount -l: the daemon serves whoever has files open, and ends after the last. */
static void lazy(void)
{
	struct pt_fs *fs;
	char buf[8] = "";
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	PT_SYS(umount2(fs->mnt, MNT_DETACH));
	PT_EQ(write(fd, "hello", 5), 5);
	PT_EQ(pt_fs_wait(fs, 300), -1);
	PT_EQ(pread(fd, buf, sizeof buf, 0), 5);
	CU_ASSERT_STRING_EQUAL(buf, "hello");
	PT_SYS(close(fd));
	PT_EQ(pt_fs_wait(fs, 60000), 0);
	pt_fs_end(fs);
}

static void read_only(void)
{
	struct pt_fs *fs;
	struct stat a, b;
	char buf[8] = "";
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	make_file(pt_path(fs, "f"), "hello", 5);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_SYS(stat(fs->img, &a));
	CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, "ro"), 0);
	fd = open(pt_path(fs, "f"), O_RDONLY);
	PT_EQ(read(fd, buf, sizeof buf), 5);
	CU_ASSERT_STRING_EQUAL(buf, "hello");
	(void)close(fd);
	PT_FAILS(open(pt_path(fs, "f"), O_RDWR), EROFS);
	PT_FAILS(open(pt_path(fs, "g"), O_WRONLY | O_CREAT, 0644), EROFS);
	PT_FAILS(truncate(pt_path(fs, "f"), 0), EROFS);
	PT_FAILS(mkdir(pt_path(fs, "d"), 0755), EROFS);
	PT_FAILS(unlink(pt_path(fs, "f")), EROFS);
	PT_FAILS(rename(pt_path(fs, "f"), pt_path(fs, "g")), EROFS);
	PT_FAILS(chmod(pt_path(fs, "f"), 0600), EROFS);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_SYS(stat(fs->img, &b));
	PT_EQ(a.st_mtim.tv_sec, b.st_mtim.tv_sec);
	PT_EQ(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
	pt_fs_end(fs);
}

/* The daemon dies: users see ENOTCONN, the next mount says how to go on and what it found. */
static void killed(void)
{
	struct pt_fs *fs;
	char buf[8] = "";
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	make_file(pt_path(fs, "f"), "hello", 5);
	pt_kill(fs->pid);
	fs->pid = 0;
	PT_FAILS(open(pt_path(fs, "f"), O_RDONLY), ENOTCONN);
	REFUSES(1, "dead FUSE mount", fs->img, fs->mnt);
	PT_SYS(umount2(fs->mnt, MNT_DETACH));
	CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, NULL), 0);
	fd = open(pt_path(fs, "f"), O_RDONLY);
	PT_EQ(read(fd, buf, sizeof buf), 5);
	CU_ASSERT_STRING_EQUAL(buf, "hello");
	(void)close(fd);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "command line", command_line, 0 },
		{ "good options", good_options, 0 },
		{ "unsafe warns", unsafe_warns, 0 },
		{ "bad devices and mount points", bad_places, 0 },
		{ "bad images", bad_images, 0 },
		{ "no /dev/fuse", no_dev_fuse, 0 },
		{ "device in use", device_in_use, 0 },
		{ "background", background, 0 },
		{ "ends", ends, 0 },
		{ "signal with open files", signal_with_open_files, 0 },
		{ "lazy umount", lazy, 0 },
		{ "read-only", read_only, 0 },
		{ "daemon killed", killed, 0 },
	};
	static const struct pt_suite suites[] = { { "life", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
