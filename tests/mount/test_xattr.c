/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_xattr.c - extended attributes and access lists through a mount: every answer as ext4 gives it, by bare calls and
 * by setfattr, getfattr, setfacl and getfacl; what ext4 has no room for is checked alone.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

#define ME 65534
#define MY_GROUP 65534
#define STRANGE 777

static struct pt_fs *open_fs;

/* ---- helpers of scripts ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names, sorted: their order is the filesystem's own. */
static void note_list(int line, const char *path)
{
	char buf[4096], *name[100];
	ssize_t n = llistxattr(path, buf, sizeof buf);
	size_t k = 0;

	if (n < 0) {
		tw_note("%d: list %s = %s", line, path, strerrorname_np(errno));
		return;
	}
	for (char *at = buf; at < buf + n && k < PF_ARRAY_LEN(name); at += strlen(at) + 1)
		name[k++] = at;
	qsort(name, k, sizeof name[0], by_name);
	tw_note("%d: list %s = %zd", line, path, n);
	for (size_t i = 0; i < k; i++)
		tw_note("  %s", name[i]);
}
#define LIST(path) note_list(__LINE__, path)

static void note_value(int line, const char *path, const char *name)
{
	char buf[200];
	ssize_t n = lgetxattr(path, name, buf, sizeof buf);

	if (n < 0)
		tw_note("%d: get %s %s = %s", line, path, name, strerrorname_np(errno));
	else
		tw_note("%d: get %s %s = %zd %.*s", line, path, name, n, (int)n, buf);
}
#define GET(path, name) note_value(__LINE__, path, name)

/* A command line, what it printed, and how it ended. */
static void note_run(int line, const char *cmd)
{
	char buf[512];
	FILE *f;
	int rc;

	(void)snprintf(buf, sizeof buf, "{ %s\n} 2>&1", cmd);
	f = popen(buf, "re");
	if (f == NULL)
		tw_abort(line, cmd);
	tw_note("%d: $ %s", line, cmd);
	while (fgets(buf, sizeof buf, f) != NULL)
		tw_note("  %.*s", (int)strcspn(buf, "\n"), buf);
	rc = pclose(f);
	tw_note("  status %d", WIFEXITED(rc) ? WEXITSTATUS(rc) : -1);
}
#define RUN(cmd) note_run(__LINE__, cmd)

static void note_ctime(int line, const char *path, int (*fn)(const char *path))
{
	struct stat a, b;

	MUST(lstat(path, &a));
	tw_tick();
	tw_note("%d: rc %d", line, fn(path));
	MUST(lstat(path, &b));
	tw_note("%d: ctime %s, mtime %s", line,
		a.st_ctim.tv_sec != b.st_ctim.tv_sec || a.st_ctim.tv_nsec != b.st_ctim.tv_nsec ? "moved" : "stays",
		a.st_mtim.tv_sec != b.st_mtim.tv_sec || a.st_mtim.tv_nsec != b.st_mtim.tv_nsec ? "moved" : "stays");
}

/* ---- bare calls ---- */

static void try_names(const char *path)
{
	char name[300], buf[64];

	DO(setxattr(path, "user.a", "1", 1, 0));
	DO(setxattr(path, "user.a", "22", 2, XATTR_CREATE));
	DO(setxattr(path, "user.a", "22", 2, XATTR_REPLACE));
	DO(setxattr(path, "user.b", "1", 1, XATTR_REPLACE));
	DO(setxattr(path, "user.b", "1", 1, XATTR_CREATE));
	DO(setxattr(path, "user.b", "1", 1, XATTR_CREATE | XATTR_REPLACE));
	DO(setxattr(path, "user.c", "1", 1, XATTR_CREATE | XATTR_REPLACE));
	DO(setxattr(path, "user.c", "1", 1, 8));
	DO(setxattr(path, "user.empty", "", 0, 0));
	DO(setxattr(path, "user.empty", NULL, 0, XATTR_REPLACE));
	GET(path, "user.empty");
	GET(path, "user.a");
	DO(getxattr(path, "user.a", NULL, 0));
	DO(getxattr(path, "user.a", buf, 1));
	DO(getxattr(path, "user.a", buf, 2));
	DO(getxattr(path, "user.none", NULL, 0));
	DO(getxattr(path, "user.none", buf, sizeof buf));
	DO(getxattr(path, "user.", buf, sizeof buf));
	DO(getxattr(path, "user", buf, sizeof buf));
	DO(getxattr(path, "", buf, sizeof buf));
	DO(getxattr(path, "other.a", buf, sizeof buf));
	DO(getxattr(path, "system.a", buf, sizeof buf));
	DO(getxattr(path, "trusted.a", buf, sizeof buf));
	DO(getxattr(path, "security.a", buf, sizeof buf));
	DO(setxattr(path, "user.", "1", 1, 0));
	DO(setxattr(path, "user", "1", 1, 0));
	DO(setxattr(path, "", "1", 1, 0));
	DO(setxattr(path, "other.a", "1", 1, 0));
	DO(setxattr(path, "system.a", "1", 1, 0));
	DO(setxattr(path, "trusted.a", "1", 1, 0));
	DO(setxattr(path, "trusted.", "1", 1, 0));
	DO(setxattr(path, "security.a", "1", 1, 0));
	DO(setxattr(path, "security.", "1", 1, 0));
	DO(removexattr(path, "user.none"));
	DO(removexattr(path, "user."));
	DO(removexattr(path, "other.a"));
	DO(removexattr(path, "system.a"));
	memset(name, 'n', sizeof name);
	memcpy(name, "user.", 5);
	name[255] = '\0';
	DO(setxattr(path, name, "1", 1, 0));
	DO(getxattr(path, name, buf, sizeof buf));
	DO(removexattr(path, name));
	name[255] = 'n';
	name[256] = '\0';
	DO(setxattr(path, name, "1", 1, 0));
	DO(getxattr(path, name, buf, sizeof buf));
	DO(removexattr(path, name));
	DO(setxattr(path, "user.long", path, 65537, 0));
	LIST(path);
	DO(listxattr(path, NULL, 0));
	DO(listxattr(path, buf, 1));
	DO(removexattr(path, "user.a"));
	DO(removexattr(path, "user.a"));
	DO(removexattr(path, "trusted.a"));
	DO(removexattr(path, "security.a"));
	LIST(path);
}

static int set_one(const char *path) { return lsetxattr(path, "user.time", "1", 1, 0); }
static int remove_one(const char *path) { return lremovexattr(path, "user.time"); }
static int remove_none(const char *path) { return lremovexattr(path, "user.time") == -1 ? errno : 0; }
static int read_one(const char *path) { return (int)lgetxattr(path, "user.time", NULL, 0); }

static void try_times(const char *path)
{
	note_ctime(__LINE__, path, set_one);
	note_ctime(__LINE__, path, set_one);
	note_ctime(__LINE__, path, read_one);
	note_ctime(__LINE__, path, remove_one);
	note_ctime(__LINE__, path, remove_none);
}

static void s_calls(void)
{
	char buf[64];
	int fd;

	tw_file("f", 0644, 10);
	MUST(mkdir("d", 0755));
	try_names("f");
	try_names("d");
	try_times("f");
	try_times("d");

	DO(setxattr("none", "user.a", "1", 1, 0));
	DO(getxattr("none", "user.a", buf, sizeof buf));
	DO(listxattr("none", buf, sizeof buf));
	MUST(fd = open("f", O_RDONLY | O_CLOEXEC));
	DO(fsetxattr(fd, "user.fd", "1", 1, 0));
	DO(fgetxattr(fd, "user.fd", buf, sizeof buf));
	DO(fremovexattr(fd, "user.fd"));
	/* The inode has its attributes for as long as there is a descriptor, and no longer. */
	MUST(unlink("f"));
	DO(fsetxattr(fd, "user.gone", "1", 1, 0));
	DO(fgetxattr(fd, "user.gone", buf, sizeof buf));
	(void)close(fd);
	tw_file("f", 0644, 10);
	LIST("f");
	/* Names are of the inode. */
	MUST(setxattr("f", "user.a", "same", 4, 0));
	MUST(link("f", "g"));
	MUST(rename("f", "h"));
	GET("g", "user.a");
	GET("h", "user.a");
	MUST(setxattr("d", "user.dir", "1", 1, 0));
	MUST(rename("d", "d2"));
	LIST("d2");
}

/* What is neither a file nor a directory has no user attributes. */
static void s_types(void)
{
	static const char *const path[] = { "link", "dangling", "fifo", "sock", "dev" };
	static const char *const name[] = { "user.a", "trusted.a", "security.a" };
	char buf[16];

	tw_file("f", 0644, 10);
	MUST(symlink("f", "link"));
	MUST(symlink("nowhere", "dangling"));
	MUST(mkfifo("fifo", 0666));
	MUST(mknod("sock", S_IFSOCK | 0666, 0));
	MUST(mknod("dev", S_IFCHR | 0666, 0x105));
	for (size_t i = 0; i < PF_ARRAY_LEN(path); i++) {
		for (size_t k = 0; k < PF_ARRAY_LEN(name); k++) {
			tw_note("--- %s %s", path[i], name[k]);
			DO(lsetxattr(path[i], name[k], "1", 1, 0));
			DO(lgetxattr(path[i], name[k], buf, sizeof buf));
			DO(lremovexattr(path[i], name[k]));
		}
		DO(lsetxattr(path[i], "trusted.b", "2", 1, 0));
		LIST(path[i]);
	}
	DO(setxattr("link", "user.through", "1", 1, 0));
	DO(setxattr("f", "trusted.seen", "1", 1, 0));
	LIST("f");
	/* Root of a user namespace is not who may see them. */
	RUN("unshare -Ur getfattr -m - f");
	DO(setxattr("dangling", "user.through", "1", 1, 0));
}

/* Who may: as root and as nobody, on files and directories of all sorts. */
static void make_rights(void)
{
	static const struct { const char *name; uid_t uid; mode_t mode; } t[] = {
		{ "mine", ME, 0644 }, { "mine-ro", ME, 0444 }, { "mine-wo", ME, 0222 }, { "his", 0, 0644 },
		{ "his-rw", 0, 0666 }, { "his-none", 0, 0600 }, { "his-wo", 0, 0622 },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		char dir[32];

		tw_file(t[i].name, 0600, 1);
		MUST(setxattr(t[i].name, "user.there", "1", 1, 0));
		MUST(setxattr(t[i].name, "trusted.there", "1", 1, 0));
		MUST(setxattr(t[i].name, "security.there", "1", 1, 0));
		MUST(chown(t[i].name, t[i].uid, STRANGE));
		MUST(chmod(t[i].name, t[i].mode));
		(void)snprintf(dir, sizeof dir, "dir-%s", t[i].name);
		MUST(mkdir(dir, 0700));
		MUST(setxattr(dir, "user.there", "1", 1, 0));
		MUST(chown(dir, t[i].uid, STRANGE));
		MUST(chmod(dir, t[i].mode | 0111));
	}
	MUST(mkdir("sticky", 0755));
	MUST(chmod("sticky", 01777));
	MUST(mkdir("sticky-mine", 0755));
	MUST(chown("sticky-mine", ME, STRANGE));
	MUST(chmod("sticky-mine", 01777));
}

static void try_rights(void)
{
	static const char *const path[] = {
		"mine", "mine-ro", "mine-wo", "his", "his-rw", "his-none", "his-wo", "dir-mine", "dir-mine-ro",
		"dir-mine-wo", "dir-his", "dir-his-rw", "dir-his-none", "dir-his-wo", "sticky", "sticky-mine",
	};
	static const char *const space[] = { "user", "trusted", "security" };
	char buf[64], name[64];

	for (size_t i = 0; i < PF_ARRAY_LEN(path); i++) {
		for (size_t k = 0; k < PF_ARRAY_LEN(space); k++) {
			tw_note("--- %s %s", path[i], space[k]);
			(void)snprintf(name, sizeof name, "%s.there", space[k]);
			DO(getxattr(path[i], name, buf, sizeof buf));
			DO(setxattr(path[i], name, "2", 1, 0));
			(void)snprintf(name, sizeof name, "%s.new", space[k]);
			DO(getxattr(path[i], name, buf, sizeof buf));
			DO(setxattr(path[i], name, "3", 1, 0));
			DO(removexattr(path[i], name));
		}
		LIST(path[i]);
	}
}

static void s_flags(void)
{
	static const int flag[] = { FS_IMMUTABLE_FL, FS_APPEND_FL };
	char buf[16];

	for (size_t i = 0; i < PF_ARRAY_LEN(flag); i++) {
		int fd, flags = flag[i], none = 0;

		tw_file("f", 0644, 1);
		MUST(setxattr("f", "user.a", "1", 1, 0));
		MUST(fd = open("f", O_RDONLY | O_CLOEXEC));
		DO(ioctl(fd, FS_IOC_SETFLAGS, &flags));
		DO(setxattr("f", "user.a", "2", 1, 0));
		DO(setxattr("f", "trusted.a", "2", 1, 0));
		DO(removexattr("f", "user.a"));
		DO(getxattr("f", "user.a", buf, sizeof buf));
		RUN("setfacl -m u:1:r f");
		DO(ioctl(fd, FS_IOC_SETFLAGS, &none));
		DO(setxattr("f", "user.a", "2", 1, 0));
		(void)close(fd);
	}
}

/* Capabilities of a program go when it is changed, whoever does it. */
static bool give_caps(const char *path)
{
	/* VFS_CAP_REVISION_2 | effective; cap_net_raw. */
	const uint32_t cap[5] = { 0x02000001, 1U << 13, 0, 0, 0 };

	return setxattr(path, "security.capability", cap, sizeof cap, 0) == 0;
}

static void s_capability(void)
{
	static const char bad[] = "not a set of capabilities";
	int fd, src;

	tw_file("prog", 0755, 10000);
	tw_file("src", 0644, 100);
	DO(setxattr("prog", "security.capability", bad, sizeof bad, 0));
	MUST(src = open("src", O_RDONLY | O_CLOEXEC));
	for (int what = 0; what < 11; what++) {
		tw_note("--- change %d", what);
		DO(give_caps("prog"));
		MUST(fd = open("prog", O_RDWR | O_CLOEXEC));
		switch (what) {
		case 0:
			DO(pwrite(fd, "x", 1, 0));
			break;
		case 1:
			DO(pwrite(fd, "x", 1, 100000));
			break;
		case 2:
			DO(ftruncate(fd, 50));
			break;
		case 3:
			DO(ftruncate(fd, 5000));
			break;
		case 4:
			DO(fchown(fd, 1, 1));
			break;
		case 5:
			DO(fchmod(fd, 0711));
			break;
		case 6:
			DO(fallocate(fd, 0, 0, 200000));
			break;
		case 7:
			DO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
			break;
		case 8:
			DO(open("prog", O_WRONLY | O_TRUNC) >= 0);
			break;
		case 9:
			DO(copy_file_range(src, NULL, fd, NULL, 10, 0));
			break;
		default:
			DO(futimens(fd, NULL));
			DO(rename("prog", "renamed"));
			DO(rename("renamed", "prog"));
			break;
		}
		DO(getxattr("prog", "security.capability", NULL, 0));
		(void)close(fd);
	}
}

/* ---- access lists ---- */

static void s_acl_programs(void)
{
	tw_file("f", 0644, 10);
	MUST(mkdir("d", 0755));
	RUN("setfacl -m u:7:rw,g:9:r f; getfacl -cn f; stat -c %a f");
	RUN("chmod 600 f; getfacl -cn f; chmod 660 f; getfacl -cn f; chmod 2775 f; getfacl -cn f");
	RUN("setfacl -m m::r f; getfacl -cn f; stat -c %a f");
	RUN("setfacl -x u:7 f; getfacl -cn f");
	RUN("setfacl -b f; getfacl -cn f; stat -c %a f");
	LIST("f");
	RUN("setfacl -m u::rwx,g::r,o::- f; stat -c %a f");
	LIST("f");
	RUN("setfacl -n -m u:7:rwx,m::r f; getfacl -cn f");
	RUN("setfacl -d -m u:7:rw f");
	RUN("setfacl -d -m u:7:rw,g:9:rwx d; getfacl -cn d; stat -c %a d");
	LIST("d");
	RUN("umask 077; touch d/f; mkdir d/d; mkfifo d/p; ln -s x d/l; cd d\n"
	    "for i in f d p; do getfacl -cn $i; stat -c %a $i; done");
	LIST("d/l");
	RUN("umask 022; mkdir -m 700 d/private; getfacl -cn d/private; touch d/private/f; getfacl -cn d/private/f");
	RUN("cp -a d/f copy; getfacl -cn copy; mv copy d/moved; getfacl -cn d/moved");
	RUN("setfacl -k d; getfacl -cn d; touch d/later; getfacl -cn d/later");
	RUN("getfacl -cn d/d | setfacl --set-file=- d/f; getfacl -cn d/f");
	RUN("ln -s f link; setfacl -m u:1:r link; getfacl -cn f; setfacl -P -m u:2:r link");
	RUN("chown 5:6 d/d; getfacl -cn d/d; chmod g=,o= d/d; getfacl -cn d/d");
	RUN("setfattr -n user.text -v value f; setfattr -n user.hex -v 0x00ff f");
	RUN("getfattr -d f; getfattr -d -m - f; getfattr -d -e hex f");
	RUN("setfattr -x user.text f; getfattr -d f; setfattr -x user.text f; setfattr -n nothing -v 1 f");
	RUN("setfattr -h -n trusted.l -v 1 link; getfattr -h -d -m trusted link; setfattr -h -n user.l -v 1 link");
}

/* A list as an attribute: what the kernel lets pass. */
struct blob { uint32_t version; struct { uint16_t tag, perm; uint32_t id; } e[8]; } __attribute__((packed));

static void s_acl_bytes(void)
{
	static const struct { struct blob b; size_t n; } t[] = {
		{ { 2, { { 1, 6, -1 }, { 2, 4, 7 }, { 4, 4, -1 }, { 16, 6, -1 }, { 32, 4, -1 } } }, 5 },
		{ { 2, { { 1, 6, -1 }, { 4, 4, -1 }, { 32, 4, -1 } } }, 3 },
		{ { 2, { { 1, 6, -1 }, { 4, 4, -1 } } }, 2 },
		{ { 2, { { 1, 6, -1 }, { 2, 4, 7 }, { 4, 4, -1 }, { 32, 4, -1 } } }, 4 },
		{ { 2, { { 4, 6, -1 }, { 1, 4, -1 }, { 32, 4, -1 } } }, 3 },
		{ { 2, { { 1, 9, -1 }, { 4, 4, -1 }, { 32, 4, -1 } } }, 3 },
		{ { 2, { { 1, 6, -1 }, { 64, 4, -1 }, { 32, 4, -1 } } }, 3 },
		{ { 1, { { 1, 6, -1 }, { 4, 4, -1 }, { 32, 4, -1 } } }, 3 },
		{ { 2, { { 0, 0, 0 } } }, 0 },
	};
	static const char *const name[] = { "system.posix_acl_access", "system.posix_acl_default" };
	static const char *const path[] = { "f", "d", "fifo" };
	char buf[200];

	tw_file("f", 02755, 1);
	MUST(mkdir("d", 0755));
	MUST(mkfifo("fifo", 0666));
	MUST(symlink("f", "link"));
	for (size_t k = 0; k < PF_ARRAY_LEN(name); k++) {
		for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
			for (size_t p = 0; p < PF_ARRAY_LEN(path); p++) {
				tw_note("--- %s %s %zu", path[p], name[k], i);
				DO(setxattr(path[p], name[k], &t[i].b, 4 + 8 * t[i].n, 0));
				DO(setxattr(path[p], name[k], &t[i].b, 4 + 8 * t[i].n + 1, 0));
				DO(getxattr(path[p], name[k], NULL, 0));
				DO(getxattr(path[p], name[k], buf, 3));
				STAT(path[p]);
				LIST(path[p]);
			}
		}
		for (size_t p = 0; p < PF_ARRAY_LEN(path); p++) {
			DO(setxattr(path[p], name[k], &t[0].b, 44, 0));
			DO(removexattr(path[p], name[k]));
			DO(removexattr(path[p], name[k]));
			DO(getxattr(path[p], name[k], buf, sizeof buf));
			STAT(path[p]);
		}
		DO(lsetxattr("link", name[k], &t[0].b, 44, 0));
		DO(lgetxattr("link", name[k], buf, sizeof buf));
		DO(lremovexattr("link", name[k]));
	}
}

/* Permissions by lists: root makes, nobody tries. */
static void make_lists(void)
{
	static const char *const list[] = {
		"u:65534:rw", "u:65534:r", "u:65534:-", "u:65534:rwx,m::r", "g:65534:rw", "g:4242:rw", "g:4242:r",
		"g:4242:-", "g:777:rw", "o::rw", "u:65534:-,o::rwx", "g:4242:-,g:65534:rw", "g:4242:r,g:65534:w",
		"g::rw,g:4242:-",
	};

	char cmd[200];

	for (size_t i = 0; i < PF_ARRAY_LEN(list); i++) {
		char f[16], d[16];

		(void)snprintf(f, sizeof f, "f%zu", i);
		(void)snprintf(d, sizeof d, "d%zu", i);
		tw_file(f, 0640, 10);
		MUST(mkdir(d, 0750));
		(void)snprintf(cmd, sizeof cmd, "setfacl -m %s %s %s", list[i], f, d);
		note_run(__LINE__, cmd);
	}
	/* His own, with a list that gives others more than him. */
	tw_file("own", 0400, 10);
	MUST(chown("own", ME, STRANGE));
	note_run(__LINE__, "setfacl -m u:65534:rw,o::rw own");
	/* A directory that hands down what nobody may do. */
	MUST(mkdir("drop", 0755));
	note_run(__LINE__, "setfacl -m u:65534:rwx drop; setfacl -d -m u:65534:r,u:0:rwx drop");
	/* Set-gid: of a group that is not his. */
	tw_file("sgid", 02755, 10);
	MUST(chown("sgid", ME, STRANGE));
	MUST(chmod("sgid", 02755));
	tw_file("sgid-mine", 02755, 10);
	MUST(chown("sgid-mine", ME, 4242));
	MUST(chmod("sgid-mine", 02755));
}

static void try_lists(void)
{
	char f[16], in[32];

	for (int i = 0; i < 14; i++) {
		(void)snprintf(f, sizeof f, "f%d", i);
		(void)snprintf(in, sizeof in, "d%d/in", i);
		tw_note("--- %d", i);
		OPEN(f, O_RDONLY);
		OPEN(f, O_WRONLY);
		DO(access(f, X_OK));
		DO(setxattr(f, "user.a", "1", 1, 0));
		DO(getxattr(f, "user.a", in, 0));
		OPEN(in, O_WRONLY | O_CREAT);
		DO(mkdir(in, 0777));
		DO(chmod(f, 0777));
		note_run(__LINE__, "setfacl -m u:65534:rwx f0");
	}
	OPEN("own", O_RDONLY);
	OPEN("own", O_WRONLY);
	DO(chmod("own", 0600));
	OPEN("own", O_WRONLY);
	RUN("getfacl -cn own");
	OPEN("drop/new", O_RDWR | O_CREAT);
	OPEN("drop/new", O_RDWR);
	RUN("getfacl -cn drop/new");
	RUN("getfacl -cn f0");
	RUN("setfacl -m u:1:r sgid; stat -c %a sgid; setfacl -m u:1:r sgid-mine; stat -c %a sgid-mine");
	RUN("getfattr -d -m - f0");
}

/* ---- cases ---- */

static bool tools_here(void)
{
	if (pt_have("setfacl") && pt_have("getfattr"))
		return true;
	pt_skip("no setfacl or getfattr");
	return false;
}

static void compare(const char *what, void (*script)(void), const struct tw_user *user)
{
	struct pt_fs *fs;

	if (!tools_here())
		return;
	fs = tw_start("allow_other");
	if (fs == NULL)
		return;
	(void)tw_compare(fs, what, script, user);
	tw_end(fs);
}

static void compare_two(const char *what, void (*make)(void), void (*try)(void))
{
	const struct tw_step step[] = { { make, &tw_root }, { try, &tw_nobody }, { try, &tw_root } };
	struct pt_fs *fs;

	if (!tools_here())
		return;
	fs = tw_start("allow_other");
	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, what, step, PF_ARRAY_LEN(step));
	tw_end(fs);
}

static void c_calls(void) { compare("calls, root", s_calls, &tw_root); }
static void c_calls_nobody(void) { compare("calls, nobody", s_calls, &tw_nobody); }
static void c_types(void) { compare("types", s_types, &tw_root); }
static void c_rights(void) { compare_two("rights", make_rights, try_rights); }
static void c_flags(void) { compare("flags", s_flags, &tw_root); }
static void c_capability(void) { compare("capability", s_capability, &tw_root); }
static void c_acl_programs(void) { compare("setfacl and getfacl", s_acl_programs, &tw_root); }
static void c_acl_bytes(void) { compare("lists as bytes", s_acl_bytes, &tw_root); }
static void c_acl_rights(void) { compare_two("rights by lists", make_lists, try_lists); }

/* What ext4 has no room for: values up to 64 KiB, names up to what listxattr(2) can show; and all of it after a crash
 * and after a mount. */
static void check_large(const char *path, unsigned int n, const char *value)
{
	char *buf = malloc(65536), name[32];

	for (unsigned int i = 0; i < n; i++) {
		size_t len = 65536 - i * 1000;

		(void)snprintf(name, sizeof name, "user.big%u", i);
		PT_EQ(getxattr(path, name, NULL, 0), len);
		PT_EQ(getxattr(path, name, buf, 65536), len);
		PT_EQ(memcmp(buf, value + i, len), 0);
		PT_FAILS(getxattr(path, name, buf, len - 1), ERANGE);
	}
	free(buf);
}

static void c_large(void)
{
	static char value[65600], list[65536], name[64];
	const unsigned int n = 20;
	const char *path;
	ssize_t rc = 0;
	unsigned int many = 0;

	if (!pt_need_mount())
		return;
	open_fs = pt_fs_start("64M", NULL);
	path = pt_path(open_fs, "f");
	PT_SYS_FATAL(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)));
	for (size_t i = 0; i < 65600; i++)
		value[i] = (char)(i * 31 + i / 251);
	for (unsigned int i = 0; i < n; i++) {
		(void)snprintf(name, sizeof name, "user.big%u", i);
		PT_SYS(setxattr(path, name, value, 10, XATTR_CREATE));
		PT_SYS(setxattr(path, name, value + i, 65536 - i * 1000, XATTR_REPLACE));
	}
	PT_FAILS(setxattr(path, "user.more", value, 65537, 0), E2BIG);
	check_large(path, n, value);
	for (; rc == 0; many++) {
		(void)snprintf(name, sizeof name, "user.many-names-with-some-length-%u", many);
		rc = setxattr(path, name, value, many % 100, 0);
	}
	PT_EQ(errno, ENOSPC);
	PT_EQ(many > 1000, true);
	rc = listxattr(path, list, 65536);
	PT_EQ(rc > 65536 - 64, true);
	pt_fs_crash(open_fs);
	PT_EQ(pt_fs_fsck(open_fs), 0);
	PT_EQ(pt_fs_mount(open_fs, NULL), 0);
	check_large(path, n, value);
	PT_EQ(listxattr(path, list, 65536), rc);
	PT_EQ(pt_fs_umount(open_fs), 0);
	PT_EQ(pt_fs_mount(open_fs, NULL), 0);
	check_large(path, n, value);
	PT_SYS(unlink(path));
	pt_fs_end(open_fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "calls, root", c_calls, 0 },
		{ "calls, nobody", c_calls_nobody, 0 },
		{ "types of files", c_types, 0 },
		{ "rights", c_rights, 0 },
		{ "immutable and append-only", c_flags, 0 },
		{ "file capabilities", c_capability, 0 },
		{ "setfacl and getfacl", c_acl_programs, 0 },
		{ "lists as bytes", c_acl_bytes, 0 },
		{ "rights by lists", c_acl_rights, 0 },
		{ "as large as can be", c_large, 0 },
	};
	static const struct pt_suite suites[] = { { "xattr", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
