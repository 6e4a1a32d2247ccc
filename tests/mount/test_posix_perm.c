/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_posix_perm.c - who may do what: owner, group, supplementary groups and others, sticky and set-gid directories,
 * and when set-id bits go. As ext4 answers it; the twin is a mount on which nobody checks.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/ioctl.h>

#include "harness/proc.h"
#include "harness/run.h"
#include "mount/twin.h"

#define ME 65534
#define CLUB 4343		/* one of his other groups */
#define MY_GROUP 65534
#define ALSO_MINE 4242
#define STRANGE 777

static const struct tw_user root_no_fsetid = { .uid = 0, .drop_cap = 1 + CAP_FSETID };
static const struct tw_user root_no_override = { .uid = 0, .drop_cap = 1 + CAP_DAC_OVERRIDE };

static const struct { const char *name; uid_t uid; gid_t gid; unsigned int shift; } class[] = {
	{ "owner", ME, STRANGE, 6 },
	{ "group", 0, MY_GROUP, 3 },
	{ "also", 0, ALSO_MINE, 3 },
	{ "other", 0, STRANGE, 0 },
};

/* --- the nine bits --- */

static void make_bits(void)
{
	char name[64];

	for (size_t c = 0; c < PF_ARRAY_LEN(class); c++) {
		for (unsigned int bits = 0; bits < 8; bits++) {
			(void)snprintf(name, sizeof name, "%s%o", class[c].name, bits);
			tw_file(name, 0, 10);
			/* The other classes' bits are the opposite: the wrong one would show. */
			MUST(chown(name, class[c].uid, class[c].gid));
			MUST(chmod(name, (0777 & ~(7U << class[c].shift)) | bits << class[c].shift));
			(void)snprintf(name, sizeof name, "dir-%s%o", class[c].name, bits);
			MUST(mkdir(name, 0755));
			(void)snprintf(name, sizeof name, "dir-%s%o/in", class[c].name, bits);
			tw_file(name, 0666, 1);
			(void)snprintf(name, sizeof name, "dir-%s%o/mine", class[c].name, bits);
			tw_file(name, 0666, 1);
			MUST(chown(name, ME, MY_GROUP));
			(void)snprintf(name, sizeof name, "dir-%s%o", class[c].name, bits);
			MUST(chown(name, class[c].uid, class[c].gid));
			MUST(chmod(name, (0777 & ~(7U << class[c].shift)) | bits << class[c].shift));
		}
	}
}

static void try_file(const char *name)
{
	const struct timespec when[2] = { { 1000, 1 }, { 2000, 2 } };
	const struct timespec omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };

	OPEN(name, O_RDONLY);
	OPEN(name, O_WRONLY);
	OPEN(name, O_RDWR);
	OPEN(name, O_RDONLY | O_NOATIME);
	OPEN(name, O_WRONLY | O_APPEND);
	DO(access(name, R_OK));
	DO(access(name, W_OK));
	DO(access(name, X_OK));
	DO(faccessat(AT_FDCWD, name, R_OK | W_OK, AT_EACCESS));
	DO(truncate(name, 5));
	DO(utimensat(AT_FDCWD, name, NULL, 0));
	DO(utimensat(AT_FDCWD, name, when, 0));
	DO(utimensat(AT_FDCWD, name, omit, 0));
	OPEN(name, O_RDONLY | O_TRUNC);
	DO(link(name, "a-link"));
	(void)unlink("a-link");
	DO(chown(name, 0, (gid_t)-1));
	DO(chown(name, (uid_t)-1, ALSO_MINE));
	DO(chown(name, (uid_t)-1, STRANGE));
	DO(chown(name, ME, (gid_t)-1));
	DO(chmod(name, 0640));
	STAT(name);
}

static void try_bits(void)
{
	char name[64], in[80], mine[80], new[80];

	for (size_t c = 0; c < PF_ARRAY_LEN(class); c++) {
		for (unsigned int bits = 0; bits < 8; bits++) {
			struct stat st;

			(void)snprintf(name, sizeof name, "%s%o", class[c].name, bits);
			tw_note("--- %s", name);
			try_file(name);
			(void)snprintf(name, sizeof name, "dir-%s%o", class[c].name, bits);
			tw_note("--- %s", name);
			(void)snprintf(in, sizeof in, "%s/in", name);
			(void)snprintf(mine, sizeof mine, "%s/mine", name);
			(void)snprintf(new, sizeof new, "%s/new", name);
			OPEN(name, O_RDONLY | O_DIRECTORY);
			OPEN(name, O_RDWR | O_TMPFILE);
			DO(access(name, R_OK | X_OK));
			DO(stat(in, &st));
			OPEN(in, O_RDWR);
			OPEN(new, O_RDWR | O_CREAT);
			DO(mkdir(new, 0755));
			DO(mknod(new, S_IFIFO | 0644, 0));
			DO(mknod(new, S_IFCHR | 0644, 0));
			DO(symlink("x", new));
			DO(link(mine, new));
			DO(rename(mine, new));
			DO(rename(in, mine));
			DO(renameat2(AT_FDCWD, mine, AT_FDCWD, new, RENAME_WHITEOUT));
			DO(unlink(in));
			DO(unlink(new));
			DO(rmdir(new));
		}
	}
}

static void bits(const struct tw_user *user, const char *what)
{
	const struct tw_step step[] = { { make_bits, &tw_root }, { try_bits, user } };
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, what, step, PF_ARRAY_LEN(step));
	tw_end(fs);
}

static void c_nobody(void) { bits(&tw_nobody, "nobody"); }
static void c_root(void) { bits(&tw_root, "root"); }
static void c_no_override(void) { bits(&root_no_override, "root without CAP_DAC_OVERRIDE"); }

/* --- sticky directories --- */

static void make_sticky(void)
{
	static const struct { const char *dir; uid_t uid; mode_t mode; } d[] = {
		{ "roots", 0, 01777 }, { "mine", ME, 01777 }, { "free", 0, 0777 }, { "groups", 0, 01770 },
	};
	char name[64];

	for (size_t i = 0; i < PF_ARRAY_LEN(d); i++) {
		MUST(mkdir(d[i].dir, 0700));
		for (int k = 0; k < 3; k++) {
			(void)snprintf(name, sizeof name, "%s/root%d", d[i].dir, k);
			tw_file(name, 0666, 1);
			(void)snprintf(name, sizeof name, "%s/me%d", d[i].dir, k);
			tw_file(name, 0666, 1);
			MUST(chown(name, ME, MY_GROUP));
			(void)snprintf(name, sizeof name, "%s/rootdir%d", d[i].dir, k);
			MUST(mkdir(name, 0777));
			(void)snprintf(name, sizeof name, "%s/medir%d", d[i].dir, k);
			MUST(mkdir(name, 0777));
			MUST(chown(name, ME, MY_GROUP));
		}
		MUST(chown(d[i].dir, d[i].uid, ALSO_MINE));
		MUST(chmod(d[i].dir, d[i].mode));
	}
}

static void try_sticky(void)
{
	static const char *const dirs[] = { "roots", "mine", "free", "groups" };

	for (size_t i = 0; i < PF_ARRAY_LEN(dirs); i++) {
		MUST(chdir(dirs[i]));
		tw_note("--- %s", dirs[i]);
		DO(unlink("root0"));
		DO(unlink("me0"));
		DO(rmdir("rootdir0"));
		DO(rmdir("medir0"));
		DO(rename("root1", "r"));
		DO(rename("me1", "m"));
		DO(rename("me2", "root2"));
		DO(rename("rootdir1", "rd"));
		DO(rename("medir1", "md"));
		DO(rename("medir2", "rootdir2"));
		DO(renameat2(AT_FDCWD, "me2", AT_FDCWD, "root1", RENAME_EXCHANGE));
		DO(rename("root1", "../free/moved"));
		OPEN("new", O_RDWR | O_CREAT | O_EXCL);
		OPEN("root1", O_RDWR | O_CREAT);	/* fs.protected_regular says what of it */
		DO(unlink("new"));
		MUST(chdir(".."));
	}
}

static void c_sticky(void)
{
	const struct tw_step step[] = { { make_sticky, &tw_root }, { try_sticky, &tw_nobody } };
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, "sticky", step, PF_ARRAY_LEN(step));
	tw_end(fs);
}

/* --- set-id bits --- */

static const mode_t modes[] = { 06777, 04755, 02777, 02767, 06766, 04666, 0777, 01777 };

static void fresh(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	tw_file(name, 0, 10000);
	MUST(chown(name, uid, gid));
	MUST(chmod(name, mode));
}

enum { VERBS = 17 };

static void do_verb(int verb, const char *f, const char *src)
{
	const struct timespec when[2] = { { 1000, 1 }, { 2000, 2 } };
	int fd = open(f, O_RDWR | O_CLOEXEC), in;
	off_t off = 0;
	void *p;

	switch (verb) {
	case 0: DO(write(fd, "x", 1)); break;
	case 1: DO(pwrite(fd, "x", 1, 20000)); break;
	case 2: DO(ftruncate(fd, 5)); break;
	case 3: DO(ftruncate(fd, 10000)); break;
	case 4: DO(truncate(f, 50000)); break;
	case 5: OPEN(f, O_WRONLY | O_TRUNC); break;
	case 6: DO(fallocate(fd, 0, 0, 100000)); break;
	case 7: DO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)); break;
	case 8: DO(chown(f, (uid_t)-1, (gid_t)-1)); break;
	case 9: DO(chown(f, (uid_t)-1, ALSO_MINE)); break;
	case 10: DO(chown(f, ME, (gid_t)-1)); break;
	case 11: DO(fchmod(fd, 06755)); break;
	case 12: DO(utimensat(AT_FDCWD, f, when, 0)); break;
	case 13:
		in = open(src, O_RDONLY | O_CLOEXEC);
		DO(copy_file_range(in, &off, fd, NULL, 100, 0));
		(void)close(in);
		break;
	case 14:
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		MUST(p == MAP_FAILED ? -1 : 0);
		*(volatile char *)p = 'm';
		DO(msync(p, 4096, MS_SYNC));
		(void)munmap(p, 4096);
		break;
	case 15: DO(write(fd, "", 0)); break;
	case 16: OPEN(f, O_RDONLY); break;
	default: break;
	}
	(void)close(fd);
}

static void make_setid(void)
{
	char name[32];

	fresh("src", 0, 0, 0644);
	for (size_t m = 0; m < PF_ARRAY_LEN(modes); m++) {
		for (int v = 0; v < VERBS; v++) {
			(void)snprintf(name, sizeof name, "m%zu-%d", m, v);
			fresh(name, ME, MY_GROUP, modes[m]);
			(void)snprintf(name, sizeof name, "r%zu-%d", m, v);
			fresh(name, 0, MY_GROUP, modes[m] | 0066);
		}
	}
}

/* Not compared: chown(-1, -1) by a stranger to a set-id file, which the kernel refuses elsewhere (EPERM) and lets FUSE
 * decide without a word; nothing happens here. */
static void try_setid(void)
{
	char name[32];

	for (size_t m = 0; m < PF_ARRAY_LEN(modes); m++) {
		for (int v = 0; v < VERBS; v++) {
			(void)snprintf(name, sizeof name, "m%zu-%d", m, v);
			tw_note("--- %o verb %d", modes[m], v);
			do_verb(v, name, "src");
			STAT(name);
			(void)snprintf(name, sizeof name, "r%zu-%d", m, v);
			if (v == 8 && geteuid() != 0)
				continue;
			do_verb(v, name, "src");
			STAT(name);
		}
	}
	MUST(mkdir("d", 0755));
	DO(chmod("d", 07777));
	DO(chown("d", (uid_t)-1, ALSO_MINE));
	STAT("d");
}

static struct pt_fs *setid_fs;

static void setid(const struct tw_user *user, const char *what)
{
	const struct tw_step step[] = { { make_setid, &tw_root }, { try_setid, user } };
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, what, step, PF_ARRAY_LEN(step));
	tw_end(fs);
}

static void c_setid_nobody(void) { setid(&tw_nobody, "set-id, nobody"); }
static void c_setid_root(void) { setid(&tw_root, "set-id, root"); }
static void c_setid_no_cap(void) { setid(&root_no_fsetid, "set-id, root without CAP_FSETID"); }

/* The calls that no kernel passes on to FUSE come by ioctl, with the same rule. */
static int shift_as(void *arg)
{
	const struct tw_user *u = arg;
	struct pinfs_fallocate fa = { .fa_mode = FALLOC_FL_INSERT_RANGE, .fa_len = 4096 };
	int fd;

	if (chdir(setid_fs->mnt) != 0 || setgroups(u->ngroup, u->groups) != 0 || setgid(u->gid) != 0 ||
	    setuid(u->uid) != 0)
		return 99;
	fd = open("f", O_RDWR | O_CLOEXEC);
	return fd < 0 || ioctl(fd, PINFS_IOC_FALLOCATE, &fa) != 0;
}

static void c_setid_ioctl(void)
{
	static const struct { const struct tw_user *user; mode_t before, after; } t[] = {
		{ &tw_root, 06777, 06777 }, { &tw_nobody, 06777, 0777 }, { &tw_nobody, 02666, 0666 },
		{ &tw_nobody, 0666, 0666 },
	};
	const char *f;
	struct stat st;
	int fd;

	if (!pt_need_mount())
		return;
	setid_fs = pt_fs_start("64M", "allow_other");
	PT_SYS(chmod(setid_fs->mnt, 0755));
	PT_SYS(chmod(setid_fs->dir, 0755));
	f = pt_path(setid_fs, "f");
	fd = open(f, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	PT_SYS(ftruncate(fd, 8192));
	PT_SYS(close(fd));
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		PT_SYS(chmod(f, t[i].before));
		PT_EQ(pt_wait(pt_fork(shift_as, (void *)(uintptr_t)t[i].user), 60000), 0);
		PT_SYS(stat(f, &st));
		PT_EQ(st.st_mode & 07777, t[i].after);
	}
	pt_fs_end(setid_fs);
}

/* --- set-gid directories, and what new files get --- */

static void make_setgid(void)
{
	static const struct { const char *dir; gid_t gid; mode_t mode; } d[] = {
		{ "strange", STRANGE, 02777 }, { "also", ALSO_MINE, 02777 }, { "plain", STRANGE, 0777 },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(d); i++) {
		MUST(mkdir(d[i].dir, 0700));
		MUST(chown(d[i].dir, 0, d[i].gid));
		MUST(chmod(d[i].dir, d[i].mode));
	}
}

static void try_setgid(void)
{
	static const char *const dirs[] = { "strange", "also", "plain" };
	static const mode_t made[] = { 0644, 02755, 02745, 06777, 01777, 02000 };
	char name[64];

	for (size_t i = 0; i < PF_ARRAY_LEN(dirs); i++) {
		for (size_t m = 0; m < PF_ARRAY_LEN(made); m++) {
			for (int mask = 0; mask <= 077; mask += 077) {
				int fd;

				(void)umask((mode_t)mask);
				(void)snprintf(name, sizeof name, "%s/f%zu-%o", dirs[i], m, mask);
				fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, made[m]);
				DO(fd >= 0 ? 0 : -1);
				STAT(name);
				DO(fchmod(fd, made[m]));
				STAT(name);
				(void)close(fd);
				(void)snprintf(name, sizeof name, "%s/d%zu-%o", dirs[i], m, mask);
				DO(mkdir(name, made[m]));
				STAT(name);
				DO(chmod(name, made[m]));
				STAT(name);
				(void)snprintf(name, sizeof name, "%s/p%zu-%o", dirs[i], m, mask);
				DO(mknod(name, S_IFIFO | made[m], 0));
				STAT(name);
				(void)snprintf(name, sizeof name, "%s/r%zu-%o", dirs[i], m, mask);
				DO(mknod(name, S_IFREG | made[m], 0));
				STAT(name);
				(void)snprintf(name, sizeof name, "%s/s%zu-%o", dirs[i], m, mask);
				DO(symlink("x", name));
				STAT(name);
				fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, made[m]);
				(void)snprintf(name, sizeof name, "%s/t%zu-%o", dirs[i], m, mask);
				DO(fd >= 0 ? 0 : -1);
				{
					char self[32];

					(void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
					DO(linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW));
				}
				STAT(name);
				(void)close(fd);
			}
		}
	}
}

static void c_setgid(void)
{
	const struct tw_step step[] = { { make_setgid, &tw_root }, { try_setgid, &tw_nobody } };
	const struct tw_step root[] = { { make_setgid, &tw_root }, { try_setgid, &tw_root } };
	struct pt_fs *fs = tw_start("allow_other,suid,dev");

	if (fs == NULL)
		return;
	(void)tw_compare_steps(fs, "set-gid directories", step, PF_ARRAY_LEN(step));
	(void)tw_compare_steps(fs, "set-gid directories, root", root, PF_ARRAY_LEN(root));
	tw_end(fs);
}

/* --- the twin: a mount on which the kernel does not check --- */

static struct pt_fs *open_fs;

static int anybody(void *arg)
{
	const bool checked = arg != NULL;
	int fd, bad = 0;

	if (chdir(open_fs->mnt) != 0 || setgroups(2, (const gid_t[]){ ALSO_MINE, CLUB }) != 0 || setgid(ME) != 0 ||
	    setuid(ME) != 0)
		return 99;
	fd = open("private", O_RDWR | O_CLOEXEC);
	bad += (fd >= 0) == checked;
	bad += (unlink("victim") == 0) == checked;
	bad += (chmod("private", 0640) == 0) == checked;
	/* access(2) goes by the mode bits either way, and by all groups. */
	bad += access("private", W_OK) == 0;
	bad += access("club", R_OK | W_OK) != 0;
	bad += access("club", X_OK) == 0;
	return bad;
}

static void one_mount(const char *opts, bool checked)
{
	int fd;

	open_fs = pt_fs_start("64M", opts);
	PT_SYS(chmod(open_fs->mnt, 0755));
	fd = open(pt_path(open_fs, "private"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	PT_SYS(close(fd));
	fd = open(pt_path(open_fs, "victim"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	PT_SYS(close(fd));
	fd = open(pt_path(open_fs, "club"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	PT_SYS(fchown(fd, 0, CLUB));
	PT_SYS(fchmod(fd, 0660));
	PT_SYS(close(fd));
	/* Whoever stands in the mount's own directory need not pass those above it. */
	PT_SYS(chmod(open_fs->dir, 0755));
	PT_EQ(pt_wait(pt_fork(anybody, checked ? open_fs : NULL), 60000), 0);
	pt_fs_end(open_fs);
}

static void c_unchecked(void)
{
	if (!pt_need_mount())
		return;
	one_mount("allow_other", true);
	one_mount("allow_other,no_default_permissions", false);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "nobody and his groups", c_nobody, 0 },
		{ "root", c_root, 0 },
		{ "root without CAP_DAC_OVERRIDE", c_no_override, 0 },
		{ "sticky directories", c_sticky, 0 },
		{ "set-id bits, nobody", c_setid_nobody, 0 },
		{ "set-id bits, root", c_setid_root, 0 },
		{ "set-id bits, root without CAP_FSETID", c_setid_no_cap, 0 },
		{ "set-id bits, by ioctl", c_setid_ioctl, 0 },
		{ "set-gid directories", c_setgid, 0 },
		{ "twin: no_default_permissions", c_unchecked, 0 },
	};
	static const struct pt_suite suites[] = { { "as ext4: permissions", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
