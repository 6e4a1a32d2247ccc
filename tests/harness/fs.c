/* SPDX-License-Identifier: BSD-3-Clause */
/* fs.c - images, daemons and mounts of a test. Owns the table of those that exist; takes them down after each case. */
#include "harness/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/proc.h"
#include "harness/run.h"

#define MAX_FS 16
#define START_MS 120000
#define END_MS 120000
#define STOP_MS 60000

static struct pt_fs all[MAX_FS];
static unsigned int serial;
static const char *base;		/* pt_fs_base() */
static const char *program = "pinfs";	/* pt_fs_daemon() */

void pt_fs_base(const char *dir)
{
	base = dir;
}

void pt_fs_daemon(const char *name)
{
	program = name != NULL ? name : "pinfs";
}

const char *pt_program(const char *name)
{
	static _Thread_local char buf[8][PATH_MAX];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 8];

	if (snprintf(p, PATH_MAX, "%s/%s", pt_build(), name) >= PATH_MAX)
		p[0] = '\0';
	return p;
}

const char *pt_path(const struct pt_fs *fs, const char *fmt, ...)
{
	static _Thread_local char buf[16][PATH_MAX];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 16];
	va_list ap;
	int n = snprintf(p, PATH_MAX, "%s/", fs->mnt);

	va_start(ap, fmt);
	(void)vsnprintf(p + n, PATH_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return p;
}

/* The table writes blanks and the like as \040. */
static const char *plain(char *s)
{
	char *to = s;

	for (const char *from = s; *from != '\0'; to++) {
		unsigned int c;

		if (sscanf(from, "\\%3o", &c) == 1) {
			*to = (char)c;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
	return s;
}

bool pt_is_mounted(const char *dir)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, point[PATH_MAX];
	size_t cap = 0;
	bool found = false;

	while (f != NULL && !found && getline(&line, &cap, f) > 0)
		found = sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1 && strcmp(plain(point), dir) == 0;
	free(line);
	if (f != NULL)
		(void)fclose(f);
	return found;
}

static void take_down(struct pt_fs *fs);

/* For those who are not root: does fusermount3 mount anything here? Tried once; what it says itself is no failure. */
static bool may_mount(void)
{
	static bool tried, refused;
	struct pt_fs *fs;
	char out[512];

	if (geteuid() == 0 || tried)
		return !refused;
	tried = true;
	refused = !pt_have("fusermount3");
	fs = refused ? NULL : pt_fs_new("16M");
	if (fs == NULL)
		return !refused;
	if (pt_fs_mount(fs, NULL) != 0)
		refused = pt_run(out, sizeof out, 60000, (const char *[]){ "grep", "fusermount3: ", fs->log,
			NULL }) == 0;
	take_down(fs);
	return !refused;
}

int pt_umount2(const char *mnt, int flags)
{
	char out[512];

	if (umount2(mnt, flags) == 0)
		return 0;
	if (errno != EPERM || geteuid() == 0)
		return -1;
	if (pt_run(out, sizeof out, 60000,
		   (const char *[]){ "fusermount3", flags & MNT_DETACH ? "-uz" : "-u", mnt, NULL }) == 0)
		return 0;
	errno = strstr(out, "busy") != NULL ? EBUSY : EINVAL;
	return -1;
}

int pt_umount(const char *mnt)
{
	const uint64_t end = pt_now_ms() + END_MS;

	/* Whoever reads /proc/PID of a process that ends holds its memory, and the files mapped there, for a moment. */
	while (pt_umount2(mnt, 0) != 0) {
		if (errno != EBUSY || pt_now_ms() >= end)
			return -1;
		pt_sleep_ms(10);
	}
	return 0;
}

bool pt_need_mount(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		/* run.sh takes a skip for want of the device itself for a failure; for others than root it may well
		 * be missing. */
		pt_skip("%s: %s", geteuid() == 0 ? "/dev/fuse" : "FUSE's device, as an ordinary user", strerror(errno));
		return false;
	}
	(void)close(fd);
	if (access(pt_program("pinfs"), X_OK) != 0 || access(pt_program("mkfs.pinfs"), X_OK) != 0) {
		CU_FAIL("pinfs and mkfs.pinfs are not built");
		return false;
	}
	if (!may_mount()) {
		pt_skip("neither root nor a fusermount3 that mounts for others");
		return false;
	}
	return true;
}

static int drop(const char *path, const struct stat *st PF_UNUSED, int type PF_UNUSED, struct FTW *ftw PF_UNUSED)
{
	(void)remove(path);
	return 0;
}

static void take_down(struct pt_fs *fs)
{
	if (pt_is_mounted(fs->mnt))
		(void)pt_umount2(fs->mnt, MNT_DETACH);
	pt_kill(fs->pid);
	fs->pid = 0;
	while (pt_is_mounted(fs->mnt) && pt_umount2(fs->mnt, MNT_DETACH) == 0)
		;
	(void)nftw(fs->dir, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	fs->used = false;
}

static void show_log(const struct pt_fs *fs)
{
	FILE *f = fopen(fs->log, "re");
	char line[512];

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		pt_say("%.*s", (int)strcspn(line, "\n"), line);
	if (f != NULL)
		(void)fclose(f);
}

static void take_down_all(void)
{
	for (size_t i = 0; i < MAX_FS; i++) {
		if (!all[i].used)
			continue;
		show_log(&all[i]);
		take_down(&all[i]);
	}
}

struct pt_fs *pt_fs_new(const char *size)
{
	struct pt_fs *fs = NULL;
	char out[1024];
	int rc;

	for (size_t i = 0; i < MAX_FS && fs == NULL; i++)
		if (!all[i].used)
			fs = &all[i];
	if (fs == NULL)
		return NULL;
	pt_on_cleanup(take_down_all);
	memset(fs, 0, sizeof *fs);
	(void)snprintf(fs->dir, sizeof fs->dir, "%.*s/fs%u", PATH_MAX - 64, base != NULL ? base : pt_tmp(), serial++);
	(void)snprintf(fs->img, sizeof fs->img, "%.*s/img", PATH_MAX - 8, fs->dir);
	(void)snprintf(fs->mnt, sizeof fs->mnt, "%.*s/mnt", PATH_MAX - 8, fs->dir);
	(void)snprintf(fs->log, sizeof fs->log, "%.*s/log", PATH_MAX - 8, fs->dir);
	if (mkdir(fs->dir, 0755) != 0 || mkdir(fs->mnt, 0755) != 0) {
		pt_say("%s: %s", fs->dir, strerror(errno));
		return NULL;
	}
	fs->used = true;
	rc = pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("mkfs.pinfs"), "-s", size, fs->img, NULL });
	if (rc != 0) {
		pt_say("mkfs.pinfs: status %d: %s", rc, out);
		take_down(fs);
		return NULL;
	}
	return fs;
}

/* The first request of a mount is answered after INIT: stat() blocks exactly until the mount is usable. */
int pt_fs_mount(struct pt_fs *fs, const char *opts)
{
	uint64_t end = pt_now_ms() + START_MS;
	int log = open(fs->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), rc;
	const char *own = opts != NULL ? opts : "";
	const bool says = strstr(own, "revoke_timeout=") != NULL;
	char with[1024];
	struct stat st;

	/* A client that a busy machine has kept from answering for ten seconds is none of those that a test means. */
	(void)snprintf(with, sizeof with, "%s%s%s", says ? "" : "revoke_timeout=120",
		       says || *own == '\0' ? "" : ",", own);
	fs->pid = pt_spawn((const char *[]){ pt_program(program), "-f", fs->img, fs->mnt, "-o", with, NULL },
			   log, log);
	if (log >= 0)
		(void)close(log);
	if (fs->pid < 0)
		return 255;
	while (pt_now_ms() < end) {
		if (pt_is_mounted(fs->mnt))
			return stat(fs->mnt, &st) == 0 ? 0 : 255;
		rc = pt_wait(fs->pid, 2);
		if (rc >= 0) {
			fs->pid = 0;
			return rc != 0 ? rc : 255;
		}
	}
	pt_say("the mount did not appear");
	return 255;
}

int pt_fs_wait(struct pt_fs *fs, unsigned int ms)
{
	int rc = pt_wait(fs->pid, ms);

	if (rc >= 0)
		fs->pid = 0;
	return rc;
}

int pt_fs_umount(struct pt_fs *fs)
{
	int rc;

	if (pt_umount(fs->mnt) != 0)
		return -errno;
	rc = pt_fs_wait(fs, END_MS);
	if (rc < 0)
		pt_say("the daemon did not end after umount");
	return rc;
}

void pt_fs_crash(struct pt_fs *fs)
{
	pt_kill(fs->pid);
	fs->pid = 0;
	(void)pt_umount2(fs->mnt, MNT_DETACH);
}

/* Are all its threads stopped? */
static bool all_stopped(pid_t pid)
{
	char pattern[64], line[512];
	bool stopped = true;
	glob_t g;

	(void)snprintf(pattern, sizeof pattern, "/proc/%d/task/*/stat", (int)pid);
	if (glob(pattern, 0, NULL, &g) != 0)
		return false;
	for (size_t i = 0; i < g.gl_pathc && stopped; i++) {
		FILE *t = fopen(g.gl_pathv[i], "re");
		const char *state = NULL;

		if (t != NULL && fgets(line, sizeof line, t) != NULL)
			state = strrchr(line, ')');
		stopped = state != NULL && state[2] == 'T';
		if (t != NULL)
			(void)fclose(t);
	}
	globfree(&g);
	return stopped;
}

bool pt_fs_stop(const struct pt_fs *fs)
{
	const uint64_t end = pt_now_ms() + STOP_MS;

	if (kill(fs->pid, SIGSTOP) != 0)
		return false;
	while (!all_stopped(fs->pid)) {
		if (pt_now_ms() >= end)
			return false;
		pt_sleep_ms(1);
	}
	return true;
}

void pt_fs_continue(const struct pt_fs *fs)
{
	(void)kill(fs->pid, SIGCONT);
}

void pt_fs_let_go(const struct pt_fs *fs)
{
	const uint64_t end = pt_now_ms() + END_MS;
	int fd = open(fs->img, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && pt_now_ms() < end)
		pt_sleep_ms(5);
	if (fd >= 0)
		(void)close(fd);
}

int pt_fs_fsck(struct pt_fs *fs)
{
	char out[4096];
	int rc;

	if (access(pt_program("fsck.pinfs"), X_OK) != 0)
		return 0;
	pt_fs_let_go(fs);
	rc = pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("fsck.pinfs"), "-n", fs->img, NULL });
	if (rc != 0)
		pt_say("fsck.pinfs -n: status %d: %s", rc, out);
	return rc;
}

void pt_fs_end(struct pt_fs *fs)
{
	if (fs->pid != 0)
		PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	if (fs->pid == 0 && CU_get_number_of_failures() == 0)
		take_down(fs);	/* else after the case, with the daemon's words */
	else
		take_down_all();
}

struct pt_fs *pt_fs_start(const char *size, const char *opts)
{
	struct pt_fs *fs = pt_fs_new(size);
	int rc = -1;

	if (fs != NULL)
		rc = pt_fs_mount(fs, opts);
	if (rc != 0)
		pt_say("mount with -o %s: status %d", opts != NULL ? opts : "(none)", rc);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	return fs;
}
