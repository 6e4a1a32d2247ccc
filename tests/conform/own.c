/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * own.c - see own.h. The image has no name but that of a descriptor, the daemon is a child, and the mount point is in
 * the case's directory, or where tidy_elsewhere() says: what a case leaves behind, the runner takes away.
 */
#include "conform/own.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "conform/engine.h"

static void run_plainly(const char *const argv[])
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)unsetenv("LD_PRELOAD");
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

static void detach(const char *mnt)
{
	if (umount2(mnt, MNT_DETACH) != 0 && errno == EPERM)
		run_plainly((const char *[]){ "fusermount3", "-u", "-z", "-q", mnt, NULL });
}

void cf_own_image(struct cf *c, struct cf_own *o, off_t size, const char *tmpfs)
{
	int fd;

	if (cf_mount(c) == NULL)
		cf_na(c, "of pinfs only: a mount is made for it");
	if (cf_programs(c) == NULL)
		cf_na(c, "mkfs.pinfs and pinfs are not here");
	if (access("/dev/fuse", R_OK | W_OK) != 0)
		cf_na(c, "/dev/fuse: %s", strerror(errno));
	*o = (struct cf_own){ .log = -1 };
	/* fusermount3 works as root, who may not be let into a FUSE mount of somebody else. */
	if (geteuid() != 0)
		(void)tidy_elsewhere(o->mnt, getppid());
	else
		(void)snprintf(o->mnt, sizeof o->mnt, "%s", cf_path(c, "own"));
	CF_SYS(c, mkdir(o->mnt, 0755));
	if (tmpfs != NULL) {
		const char *dir = cf_path(c, "image");

		CF_SYS(c, mkdir(dir, 0755));
		if (mount("pinfs-conform", dir, "tmpfs", MS_NOSUID | MS_NODEV, tmpfs) != 0)
			cf_na(c, "no tmpfs with %s: %s", tmpfs, strerror(errno));
		fd = (int)CF_SYS(c, open(cf_path(c, "image/pmem"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	} else {
		fd = (int)CF_SYS(c, memfd_create("image", MFD_CLOEXEC));
	}
	CF_SYS(c, ftruncate(fd, size));
	(void)snprintf(o->img, sizeof o->img, "/proc/%d/fd/%d", (int)getpid(), fd);
}

void cf_own_make(struct cf *c, struct cf_own *o, off_t size)
{
	char out[512];

	cf_own_image(c, o, size, NULL);
	if (cf_run(c, out, sizeof out, (const char *[]){ "mkfs.pinfs", o->img, NULL }) != 0) {
		cf_note(c, "%s", out);
		cf_broken(c, __FILE__, __LINE__, "mkfs.pinfs", 0);
	}
}

static bool mounted(const char *mnt)
{
	struct stat st, up;
	char dir[PATH_MAX + 4];

	(void)snprintf(dir, sizeof dir, "%s/..", mnt);
	return stat(mnt, &st) == 0 && stat(dir, &up) == 0 && st.st_dev != up.st_dev;
}

static _Noreturn void daemon_main(struct cf *c, const struct cf_own *o, const char *opts, pid_t parent)
{
	char prog[PATH_MAX];

	/* Not in the group that a case which hangs is killed with: the death of its parent ends it, in order. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	(void)snprintf(prog, sizeof prog, "%.*s/pinfs", PATH_MAX - 16, cf_programs(c));
	if (access(prog, X_OK) != 0)
		(void)snprintf(prog, sizeof prog, "%.*s/../sbin/pinfs", PATH_MAX - 32, cf_programs(c));
	(void)dup2(o->log, 1);
	(void)dup2(o->log, 2);
	(void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	(void)unsetenv("LD_PRELOAD");
	(void)execl(prog, "pinfs", "-f", "-o", opts != NULL ? opts : "rw", o->img, o->mnt, (char *)NULL);
	_exit(127);
}

int cf_own_try(struct cf *c, struct cf_own *o, const char *opts)
{
	const pid_t self = getpid();
	int status = 0;

	if (o->log >= 0)
		(void)close(o->log);
	o->log = (int)CF_SYS(c, memfd_create("log", MFD_CLOEXEC));
	o->pid = (pid_t)CF_SYS(c, fork());
	if (o->pid == 0)
		daemon_main(c, o, opts, self);
	while (waitpid(o->pid, &status, WNOHANG) == 0) {
		if (mounted(o->mnt))
			return 0;
		(void)usleep(500);
	}
	o->pid = 0;
	cf_note(c, "%.*s", (int)strcspn(cf_own_said(o), "\n"), cf_own_said(o));
	if (geteuid() != 0 && strstr(cf_own_said(o), "fusermount") != NULL)
		cf_na(c, "nobody lets us mount: %s", cf_own_said(o));
	return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
}

const char *cf_own_said(const struct cf_own *o)
{
	static char text[8192];
	const ssize_t n = o->log >= 0 ? pread(o->log, text, sizeof text - 1, 0) : 0;

	text[n > 0 ? n : 0] = '\0';
	return text;
}

void cf_own_mount(struct cf *c, struct cf_own *o, const char *opts)
{
	if (cf_own_try(c, o, opts) != 0)
		cf_broken(c, __FILE__, __LINE__, "pinfs", 0);
}

void cf_own_umount(struct cf *c, struct cf_own *o)
{
	int status;

	detach(o->mnt);
	CF_SYS(c, waitpid(o->pid, &status, 0));
	o->pid = 0;
	CF_MUST(c, WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void cf_own_stop(struct cf *c, struct cf_own *o)
{
	if (o->pid == 0)
		return;
	CF_SYS(c, kill(o->pid, SIGTERM));
	CF_SYS(c, waitpid(o->pid, NULL, 0));
	o->pid = 0;
	if (mounted(o->mnt))
		detach(o->mnt);
}

void cf_own_kill(struct cf *c, struct cf_own *o)
{
	CF_SYS(c, kill(o->pid, SIGKILL));
	CF_SYS(c, waitpid(o->pid, NULL, 0));
	o->pid = 0;
	detach(o->mnt);
}

const char *cf_own_path(const struct cf_own *o, const char *name)
{
	static _Thread_local char buf[16][PATH_MAX];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 16];

	(void)snprintf(p, PATH_MAX, "%.*s/%.200s", PATH_MAX - 256, o->mnt, name);
	return p;
}

int cf_own_file(struct cf *c, const struct cf_own *o, const char *name, size_t len)
{
	int fd = (int)CF_SYS(c, open(cf_own_path(o, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	char buf[CF_PAGE];

	memset(buf, CF_BYTE, sizeof buf);
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < sizeof buf ? len - at : sizeof buf;
		CF_MUST(c, pwrite(fd, buf, n, (off_t)at) == (ssize_t)n);
	}
	return fd;
}

void cf_own_bad(struct cf *c, const struct cf_own *o, const char *verb, const char *name, off_t off)
{
	char where[PATH_MAX + 32], out[512];

	(void)snprintf(where, sizeof where, "%s:%lld", cf_own_path(o, name), (long long)off);
	if (cf_run(c, out, sizeof out, (const char *[]){ "pinfsctl", "badblock", verb, o->mnt, where, NULL }) != 0) {
		cf_note(c, "%s", out);
		cf_broken(c, __FILE__, __LINE__, "pinfsctl badblock", 0);
	}
}
