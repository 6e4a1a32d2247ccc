/* SPDX-License-Identifier: BSD-3-Clause */
/* tidy.c - what a case leaves behind: processes, mounts, files. All of it is found, whatever its ways. */
#include "conform/engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEFT_MS 10000

/* \040 and the like of /proc/self/mountinfo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* The next line of mountinfo: its mount point and type. */
static bool next_mount(FILE *f, char mnt[PATH_MAX], char type[32])
{
	static char line[2 * PATH_MAX + 1024];
	const char *dash;

	if (fgets(line, sizeof line, f) == NULL)
		return false;
	mnt[0] = type[0] = '\0';
	(void)sscanf(line, "%*s %*s %*s %*s %4095s", mnt);
	unescape(mnt);
	dash = strstr(line, " - ");
	if (dash != NULL)
		(void)sscanf(dash + 3, "%31s", type);
	return true;
}

static bool below(const char *path, const char *dir)
{
	const size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

bool mount_of(const char *path, char mnt[PATH_MAX], char fstype[32])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char m[PATH_MAX], type[32];
	bool found = false;

	while (f != NULL && next_mount(f, m, type)) {
		if (strcmp(m, "/") != 0 && !below(path, m))
			continue;
		/* A later one covers an earlier one of the same length. */
		if (found && strlen(m) < strlen(mnt))
			continue;
		(void)strcpy(mnt, m);
		(void)strcpy(fstype, type);
		found = true;
	}
	if (f != NULL)
		(void)fclose(f);
	return found;
}

static void unmount(const char *mnt)
{
	pid_t pid;

	if (umount2(mnt, MNT_DETACH) == 0 || errno != EPERM)
		return;
	pid = fork();
	if (pid == 0) {
		(void)unsetenv("LD_PRELOAD");
		(void)execlp("fusermount3", "fusermount3", "-u", "-z", mnt, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

unsigned int tidy_mounts(const char *dir)
{
	char mnt[PATH_MAX], type[32], last[PATH_MAX];
	unsigned int n = 0, before;

	/* The last one first: it may be on top of another. */
	do {
		FILE *f = fopen("/proc/self/mountinfo", "re");

		before = n;
		last[0] = '\0';
		while (f != NULL && next_mount(f, mnt, type))
			if (below(mnt, dir))
				(void)strcpy(last, mnt);
		if (f != NULL)
			(void)fclose(f);
		if (last[0] != '\0') {
			unmount(last);
			n++;
		}
	} while (n != before && n < 64);
	return n;
}

const char *tidy_elsewhere(char path[PATH_MAX], pid_t runner)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(path, PATH_MAX, "%.*s/pinfs-conform-own.%d", PATH_MAX - 64, tmp != NULL ? tmp : "/tmp",
		       (int)runner);
	return path;
}

/* "pid (comm) state ppid pgrp session tty tpgid flags ...": what follows the name. */
static bool stat_of(pid_t pid, char *state, int *parent, unsigned int *flags)
{
	char path[64], buf[512];
	const char *p;
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, sizeof buf - 1);
		(void)close(fd);
	}
	buf[n > 0 ? n : 0] = '\0';
	p = strrchr(buf, ')');
	return p != NULL && sscanf(p + 1, " %c %d %*d %*d %*d %*d %u", state, parent, flags) == 3;
}

static pid_t parent_of(pid_t pid)
{
	unsigned int flags;
	int parent;
	char state;

	return stat_of(pid, &state, &parent, &flags) ? parent : 0;
}

bool tidy_exits(pid_t pid)
{
	const unsigned int exiting = 0x4;	/* PF_EXITING */
	unsigned int flags;
	int parent;
	char state;

	return stat_of(pid, &state, &parent, &flags) && (state == 'Z' || (flags & exiting) != 0);
}

/* A child of ours other than @keep; 0. */
static pid_t some_child(pid_t keep)
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	pid_t found = 0;

	while (d != NULL && found == 0 && (e = readdir(d)) != NULL) {
		const pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && pid != keep && parent_of(pid) == getpid())
			found = pid;
	}
	if (d != NULL)
		(void)closedir(d);
	return found;
}

unsigned int tidy_children(pid_t keep)
{
	unsigned int n = 0;
	pid_t pid;

	/* Each that dies may leave its own to us. */
	while (n < 10000 && (pid = some_child(keep)) > 0) {
		(void)kill(pid, SIGKILL);
		/* One that the kernel does not let go is left to it. */
		for (unsigned int ms = 0; waitpid(pid, NULL, WNOHANG) != pid; ms++) {
			if (ms == LEFT_MS)
				return n;
			(void)usleep(1000);
		}
		n++;
	}
	return n;
}

/* Immutable files are not removed, nor what is in such a directory. */
static void clear_flags(const char *path)
{
	const int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	int flags = 0;

	if (fd < 0)
		return;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0) {
		flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	(void)close(fd);
}

static int soften(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		clear_flags(path);
	if (S_ISDIR(st->st_mode) && (st->st_mode & 0700) != 0700)
		(void)chmod(path, 0700);
	(void)type;
	return 0;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	(void)remove(path);
	return 0;
}

void tidy_tree(const char *dir)
{
	(void)tidy_mounts(dir);
	(void)nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (access(dir, F_OK) != 0)
		return;
	(void)nftw(dir, soften, 16, FTW_PHYS | FTW_MOUNT);
	(void)nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
