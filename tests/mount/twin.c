/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * twin.c - runs scripts on pinfs and on ext4 and compares the transcripts.
 *
 * Owns a directory on ext4 for as long as the program runs, which is removed when it ends, flags and all.
 */
#include "mount/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "harness/proc.h"
#include "harness/run.h"

#define LIMIT_MS 240000

const struct tw_user tw_root = { .uid = 0 };
const struct tw_user tw_nobody = { .uid = 65534, .gid = 65534, .ngroup = 2, .groups = { 65534, 4242 } };

static char ref[PATH_MAX];		/* on ext4; empty: not yet */
static char atime_opts[64];		/* as ext4 is mounted here */
static FILE *transcript;		/* in the child */
static bool on_pinfs;

/* --- the place on ext4 --- */

static int drop(const char *path, const struct stat *st PF_UNUSED, int type, struct FTW *ftw PF_UNUSED)
{
	if (remove(path) == 0)
		return 0;
	if (type == FTW_F) {
		int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), flags = 0;

		if (fd >= 0) {
			(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
			(void)close(fd);
		}
		(void)remove(path);
	}
	return 0;
}

/* Flags of a directory forbid to remove what is in it: they go first, from the top down. */
static int unseal(const char *path, const struct stat *st PF_UNUSED, int type, struct FTW *ftw PF_UNUSED)
{
	int fd, flags = 0;

	if (type != FTW_D)
		return 0;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL))) {
			flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
			(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
		}
		(void)close(fd);
	}
	return 0;
}

static void drop_tree(const char *path)
{
	(void)nftw(path, unseal, 16, FTW_PHYS | FTW_MOUNT);
	(void)nftw(path, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void drop_ref(void)
{
	if (ref[0] != '\0')
		drop_tree(ref);
	ref[0] = '\0';
}

/*
 * As ext4 is made nowadays and used by Debian: blocks of a page, times of nanoseconds and of birth, user attributes,
 * lists, and no label of its own on each new file. Others answer otherwise, and rightly.
 */
static bool usual(const char *dir)
{
	const struct timespec when[2] = { { 1, 1 }, { 5, 123456789 } };
	/* Version 2; owner rw, user 7 r, group r, mask rw, others r. */
	static const unsigned char list[] = {
		2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 7, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
	};
	char path[PATH_MAX];
	struct statx sx;
	bool is;
	int fd;

	(void)snprintf(path, sizeof path, "%.4000s/probe", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	is = fd >= 0 && flistxattr(fd, NULL, 0) == 0 && futimens(fd, when) == 0 &&
	     statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx) == 0 && sx.stx_blksize == 4096 &&
	     (sx.stx_mask & STATX_BTIME) != 0 && sx.stx_mtime.tv_nsec == 123456789 &&
	     fsetxattr(fd, "user.probe", "1", 1, 0) == 0 &&
	     fsetxattr(fd, "system.posix_acl_access", list, sizeof list, 0) == 0;
	if (fd >= 0)
		(void)close(fd);
	(void)unlink(path);
	return is;
}

static bool make_ref(void)
{
	const char *const where[] = { "/var/tmp", "/tmp", pt_build() };
	struct statvfs vfs;
	struct statfs st;

	for (size_t i = 0; i < PF_ARRAY_LEN(where); i++) {
		if (statfs(where[i], &st) != 0 || st.f_type != EXT4_SUPER_MAGIC || statvfs(where[i], &vfs) != 0 ||
		    (vfs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV)) != 0)
			continue;
		/* Reading leaves a trace on both, or on neither. */
		(void)snprintf(atime_opts, sizeof atime_opts, ",%s%s",
			       vfs.f_flag & ST_NOATIME	 ? "noatime" :
			       vfs.f_flag & ST_RELATIME ? "relatime" :
							  "strictatime",
			       vfs.f_flag & ST_NODIRATIME ? ",nodiratime" : "");
		(void)snprintf(ref, sizeof ref, "%s/pinfs-twin.XXXXXX", where[i]);
		if (mkdtemp(ref) == NULL)
			continue;
		if (chmod(ref, 0755) == 0 && usual(ref))
			return true;
		(void)rmdir(ref);
	}
	ref[0] = '\0';
	pt_skip("no directory on an ext4 of the usual kind to compare with");
	return false;
}

struct pt_fs *tw_start(const char *opts)
{
	static bool registered;
	char all[256];

	if (!pt_need_mount())
		return NULL;
	if (!registered) {
		pt_on_cleanup(drop_ref);
		registered = true;
	}
	if (!make_ref())
		return NULL;
	(void)snprintf(all, sizeof all, "%s%s", opts, atime_opts);
	return pt_fs_start("256M", all);
}

void tw_end(struct pt_fs *fs)
{
	drop_ref();
	pt_fs_end(fs);
}

/* --- one side --- */

static int drop_capability(int cap)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d) != 0)
		return -1;
	d[CAP_TO_INDEX(cap)].effective &= ~CAP_TO_MASK(cap);
	d[CAP_TO_INDEX(cap)].permitted &= ~CAP_TO_MASK(cap);
	return (int)syscall(SYS_capset, &h, d);
}

static int become(const struct tw_user *u)
{
	if (setgroups(u->ngroup, u->groups) != 0 || setresgid(u->gid, u->gid, u->gid) != 0 ||
	    setresuid(u->uid, u->uid, u->uid) != 0)
		return -1;
	return u->drop_cap != 0 ? drop_capability(u->drop_cap - 1) : 0;
}

struct side { const char *dir; void (*script)(void); const struct tw_user *user; int fd; bool pinfs; };

static int run_script(void *arg)
{
	const struct side *s = arg;

	on_pinfs = s->pinfs;
	transcript = fdopen(s->fd, "w");
	(void)umask(022);
	if (transcript == NULL || chdir(s->dir) != 0 || become(s->user) != 0)
		return 99;
	s->script();
	return fclose(transcript) == 0 ? 0 : 98;
}

/* What the script noted, NUL terminated; the caller frees it. */
static char *run_side(const char *dir, bool pinfs, void (*script)(void), const struct tw_user *user)
{
	struct side s = { dir, script, user, memfd_create("transcript", 0), pinfs };
	char *text = NULL;
	struct stat st;
	int rc = -1;
	pid_t pid;

	if (s.fd < 0)
		return NULL;
	pid = pt_fork(run_script, &s);
	if (pid > 0)
		rc = pt_wait(pid, LIMIT_MS);
	if (rc < 0)
		pt_kill(pid);
	if (fstat(s.fd, &st) == 0 && (text = calloc(1, (size_t)st.st_size + 1)) != NULL &&
	    pread(s.fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		text = NULL;
	}
	(void)close(s.fd);
	if (rc != 0)
		pt_say("%s: the script ended with %d; last line: %s", pinfs ? "pinfs" : "ext4", rc,
		       text != NULL && strlen(text) > 100 ? text + strlen(text) - 100 : text);
	if (rc == 0)
		return text;
	free(text);
	return NULL;
}

static bool same(const char *what, char *p, char *e)
{
	unsigned int differ = 0;

	while (*p != '\0' || *e != '\0') {
		size_t pl = strcspn(p, "\n"), el = strcspn(e, "\n");

		if (pl != el || memcmp(p, e, pl) != 0) {
			if (differ++ < 20)
				pt_say("%s: pinfs: %.*s | ext4: %.*s", what, (int)pl, p, (int)el, e);
		}
		p += pl + (p[pl] != '\0');
		e += el + (e[el] != '\0');
	}
	CU_ASSERT_EQUAL(differ, 0);
	return differ == 0;
}

bool tw_compare_steps(struct pt_fs *fs, const char *what, const struct tw_step *step, size_t n)
{
	char pdir[PATH_MAX + 32], edir[PATH_MAX + 32];
	static unsigned int count;
	bool good = true;

	(void)snprintf(pdir, sizeof pdir, "%s/side%u", fs->mnt, ++count);
	(void)snprintf(edir, sizeof edir, "%s/side%u", ref, count);
	PT_SYS(mkdir(pdir, 0777));
	PT_SYS(mkdir(edir, 0777));
	PT_SYS(chmod(pdir, 0777));
	PT_SYS(chmod(edir, 0777));
	for (size_t i = 0; i < n; i++) {
		char *p = run_side(pdir, true, step[i].script, step[i].user);
		char *e = run_side(edir, false, step[i].script, step[i].user);

		CU_ASSERT(p != NULL && e != NULL);
		good = p != NULL && e != NULL && same(what, p, e) && good;
		free(p);
		free(e);
	}
	drop_tree(pdir);
	drop_tree(edir);
	return good;
}

bool tw_compare(struct pt_fs *fs, const char *what, void (*script)(void), const struct tw_user *user)
{
	const struct tw_step step = { script, user };

	return tw_compare_steps(fs, what, &step, 1);
}

/* --- for scripts --- */

bool tw_on_pinfs(void) { return on_pinfs; }

void tw_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vfprintf(transcript, fmt, ap);
	va_end(ap);
	(void)fputc('\n', transcript);
}

long tw_result(int line, const char *call, long rc)
{
	int err = errno;

	if (rc < 0)
		tw_note("%d: %s = %s", line, call, strerrorname_np(err));
	else
		tw_note("%d: %s = %ld", line, call, rc);
	errno = err;
	return rc;
}

int tw_open(int line, const char *path, int flags, const char *words)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);

	tw_note("%d: open %.40s %s = %s", line, path, words, fd >= 0 ? "ok" : strerrorname_np(errno));
	if (fd >= 0)
		(void)close(fd);
	return fd < 0 ? -1 : 0;
}

void tw_stat(int line, const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		tw_note("%d: stat %.40s = %s", line, path, strerrorname_np(errno));
	else
		tw_note("%d: stat %.40s = %06o links %ju owner %u:%u size %jd rdev %u:%u", line, path, st.st_mode,
			(uintmax_t)st.st_nlink, st.st_uid, st.st_gid, S_ISDIR(st.st_mode) ? 0 : (intmax_t)st.st_size,
			major(st.st_rdev), minor(st.st_rdev));
}

_Noreturn void tw_abort(int line, const char *call)
{
	tw_note("%d: %s: %s, and nothing after it can be trusted", line, call, strerrorname_np(errno));
	(void)fflush(transcript);
	_exit(97);
}

void tw_file(const char *path, mode_t mode, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	MUST(fd);
	while (len > 0) {
		char buf[4096];
		size_t n = len < sizeof buf ? len : sizeof buf;

		memset(buf, 'f', n);
		MUST(write(fd, buf, n) == (ssize_t)n ? 0 : -1);
		len -= n;
	}
	MUST(fchmod(fd, mode));
	(void)close(fd);
}

void tw_enter(const char *dir)
{
	MUST(mkdir(dir, 0755));
	MUST(chdir(dir));
}

void tw_leave(const char *dir)
{
	MUST(chdir(".."));
	drop_tree(dir);
	MUST(access(dir, F_OK) != 0 ? 0 : -1);
}

void tw_tick(void)
{
	const struct timespec nap = { .tv_nsec = 200000 };
	struct timespec a, b;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &a);
	do {
		(void)nanosleep(&nap, NULL);
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &b);
	} while (a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec);
}
