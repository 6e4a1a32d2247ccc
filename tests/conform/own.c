/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * own.c - see own.h. A janitor, a process that sleeps until the case and all that it has forked are gone, unmounts and
 * unlinks what is left of it; the daemon ends with its mount.
 */
#include "conform/own.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <linux/magic.h>
#include <unistd.h>

static bool mounted(const char *mnt)
{
	struct statfs s;

	return statfs(mnt, &s) != 0 || s.f_type == FUSE_SUPER_MAGIC;
}

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

static void sweep(const struct cf_own *o)
{
	char log[80];

	for (int i = 0; i < 4 && mounted(o->mnt); i++)
		detach(o->mnt);
	(void)snprintf(log, sizeof log, "%.60s/log", o->dir);
	(void)unlink(log);
	(void)unlink(o->img);
	(void)rmdir(o->mnt);
	(void)rmdir(o->dir);
}

/* The pipe's writers are the case and its children. */
static void hire_janitor(struct cf *c, const struct cf_own *o)
{
	int p[2];
	pid_t pid;
	char b;

	CF_SYS(c, pipe2(p, O_CLOEXEC));
	pid = (pid_t)CF_SYS(c, fork());
	if (pid != 0) {
		(void)close(p[0]);
		return;
	}
	(void)setsid();
	if (dup2(p[0], 3) != 3 || close_range(4, ~0U, 0) != 0)
		_exit(1);
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(open("/dev/null", O_RDWR), fd);
	(void)close_range(4, ~0U, 0);
	while (read(3, &b, 1) < 0 && errno == EINTR)
		;
	sweep(o);
	_exit(0);
}

void cf_own_make(struct cf *c, struct cf_own *o, const char *size)
{
	const char *base = getenv("TMPDIR");
	char out[512];

	if (cf_programs(c) == NULL)
		cf_na(c, "mkfs.pinfs and pinfs are not here");
	if (access("/dev/fuse", R_OK | W_OK) != 0)
		cf_na(c, "/dev/fuse: %s", strerror(errno));
	if (base == NULL || strlen(base) > 32)
		base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	memset(o, 0, sizeof *o);
	(void)snprintf(o->dir, sizeof o->dir, "%s/pinfs-conform.XXXXXX", base);
	CF_MUST(c, mkdtemp(o->dir) != NULL);
	(void)snprintf(o->img, sizeof o->img, "%s/img", o->dir);
	(void)snprintf(o->mnt, sizeof o->mnt, "%s/mnt", o->dir);
	hire_janitor(c, o);
	CF_SYS(c, mkdir(o->mnt, 0755));
	if (cf_run(c, out, sizeof out, (const char *[]){ "mkfs.pinfs", "-s", size, o->img, NULL }) != 0) {
		cf_note(c, "%s", out);
		cf_broken(c, __FILE__, __LINE__, "mkfs.pinfs", 0);
	}
}

int cf_own_try(struct cf *c, struct cf_own *o, const char *opts)
{
	char log[80], said[512] = "", prog[512];
	int fd, status = 0;
	ssize_t n;

	(void)snprintf(log, sizeof log, "%.60s/log", o->dir);
	(void)snprintf(prog, sizeof prog, "%s/pinfs", cf_programs(c));
	o->pid = (pid_t)CF_SYS(c, fork());
	if (o->pid == 0) {
		fd = open(log, O_RDWR | O_CREAT | O_TRUNC, 0600);
		(void)dup2(fd, 1);
		(void)dup2(fd, 2);
		(void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
		(void)unsetenv("LD_PRELOAD");
		(void)execl(prog, "pinfs", "-f", "-o", opts != NULL ? opts : "rw", o->img, o->mnt, (char *)NULL);
		_exit(127);
	}
	while (waitpid(o->pid, &status, WNOHANG) == 0) {
		struct statfs s;

		if (statfs(o->mnt, &s) == 0 && s.f_type == FUSE_SUPER_MAGIC)
			return 0;
		usleep(1000);
	}
	o->pid = 0;
	fd = open(log, O_RDONLY | O_CLOEXEC);
	n = read(fd, said, sizeof said - 1);
	(void)close(fd);
	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	cf_note(c, "%s", said);
	if (geteuid() != 0 && strstr(said, "fusermount") != NULL)
		cf_na(c, "nobody lets us mount: %s", said);
	return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
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

void cf_own_kill(struct cf *c, struct cf_own *o)
{
	CF_SYS(c, kill(o->pid, SIGKILL));
	CF_SYS(c, waitpid(o->pid, NULL, 0));
	o->pid = 0;
	detach(o->mnt);
}

const char *cf_own_path(const struct cf_own *o, const char *name)
{
	static _Thread_local char buf[16][160];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 16];

	(void)snprintf(p, sizeof buf[0], "%s/%.60s", o->mnt, name);
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
	char where[200], out[512];

	(void)snprintf(where, sizeof where, "%s:%lld", cf_own_path(o, name), (long long)off);
	if (cf_run(c, out, sizeof out, (const char *[]){ "pinfsctl", "badblock", verb, o->mnt, where, NULL }) != 0) {
		cf_note(c, "%s", out);
		cf_broken(c, __FILE__, __LINE__, "pinfsctl badblock", 0);
	}
}
