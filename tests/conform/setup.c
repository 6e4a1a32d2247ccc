/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * setup.c - what there is before the first case: the preload library, the suite's directories, a policy for them. Each
 * failure is one line on standard error.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <linux/magic.h>
#include <pinfs/ioctl.h>
#include "lib/cli.h"

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif
#define ONCE "PINFS_CONFORM_PRELOADED"

bool on_pinfs(const char *dir)
{
	const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct pinfs_sock so = { .so_sock = "" };
	const bool is = fd >= 0 && ioctl(fd, PINFS_IOC_SOCK, &so) == 0 && so.so_sock[0] != '\0';

	if (fd >= 0)
		(void)close(fd);
	return is;
}

/* pinrun is where this program is; it finds the library, and says what is wrong when it cannot. */
void setup_preload(const char *dir, char **argv)
{
	char self[PATH_MAX], pinrun[PATH_MAX + 16];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	size_t argc = 0;
	char **args;

	if (cf_symbol("pinfs_pin") != NULL || getenv(ONCE) != NULL || n <= 0 || !on_pinfs(dir))
		return;
	self[n] = '\0';
	(void)snprintf(pinrun, sizeof pinrun, "%.*s/pinrun", (int)(strrchr(self, '/') - self), self);
	if (access(pinrun, X_OK) != 0) {
		cli_error("there is no %s: without the preload library", pinrun);
		return;
	}
	while (argv[argc] != NULL)
		argc++;
	args = calloc(argc + 2, sizeof *args);
	if (args == NULL || setenv(ONCE, "1", 1) != 0) {
		free(args);
		return;
	}
	args[0] = pinrun;
	args[1] = self;
	memcpy(args + 2, argv + 1, argc * sizeof *args);	/* with the NULL */
	(void)execv(pinrun, args);
	cli_error("%s: %s: without the preload library", pinrun, strerror(errno));
	free(args);
}

int setup_work(struct place *p, const char *dir)
{
	struct stat st;

	if (realpath(dir, p->dir) == NULL || stat(p->dir, &st) != 0) {
		cli_error("%s: %s", dir, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		cli_error("%s: not a directory", dir);
		return -1;
	}
	if (snprintf(p->work, sizeof p->work, "%s/pinfs-conform.XXXXXX", p->dir) >= PATH_MAX - 300) {
		cli_error("%s: %s", dir, strerror(ENAMETOOLONG));
		return -1;
	}
	if (mkdtemp(p->work) == NULL) {
		cli_error("%s: no directory can be made there: %s", dir, strerror(errno));
		p->work[0] = '\0';
		return -1;
	}
	(void)chmod(p->work, 0755);
	return 0;
}

/* "on_busy=ebusy,break=file", or "ebusy": attributes of the suite's directory; what is made in it takes them over. */
int setup_policy(const struct place *p, const char *text)
{
	char list[512], name[96], *save = NULL;

	if (!on_pinfs(p->dir)) {
		cli_error("%s: not on a pinfs mount: there is no policy to set", p->dir);
		return -1;
	}
	(void)snprintf(list, sizeof list, "%s", text);
	for (char *one = strtok_r(list, ",", &save); one != NULL; one = strtok_r(NULL, ",", &save)) {
		char *value = strchr(one, '=');

		if (value != NULL)
			*value++ = '\0';
		(void)snprintf(name, sizeof name, "user.pinfs.%s", value != NULL ? one : "on_busy");
		if (value == NULL)
			value = one;
		if (setxattr(p->work, name, value, strlen(value), 0) != 0) {
			cli_error("%s=%s: %s", name + strlen("user.pinfs."), value,
				  errno == EINVAL ? "no such policy (pinfs(8))" : strerror(errno));
			return -1;
		}
	}
	return 0;
}

/* A file there does direct I/O and is no DAX file. */
static bool is_plain(const char *dir)
{
	static _Alignas(4096) char page[4096];
	struct statfs sf;
	struct statx sx;
	int fd;
	bool ok;

	if (statfs(dir, &sf) != 0 || sf.f_type == TMPFS_MAGIC || sf.f_type == RAMFS_MAGIC ||
	    sf.f_type == FUSE_SUPER_MAGIC)
		return false;
	fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	ok = fd >= 0 && pwrite(fd, page, sizeof page, 0) == (ssize_t)sizeof page &&
	     pread(fd, page, sizeof page, 0) == (ssize_t)sizeof page &&
	     statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0 && (sx.stx_attributes & STATX_ATTR_DAX) == 0;
	if (fd >= 0)
		(void)close(fd);
	return ok;
}

int setup_plain(struct place *p, const char *given)
{
	const char *const places[] = { getenv("TMPDIR"), "/var/tmp", "/tmp", "." };
	const char *base = given;

	if (given != NULL && !is_plain(given)) {
		cli_error("%s: no directory for files that are not DAX and do direct I/O", given);
		return -1;
	}
	for (size_t i = 0; base == NULL && i < PF_ARRAY_LEN(places); i++)
		if (places[i] != NULL && is_plain(places[i]))
			base = places[i];
	if (base == NULL)
		return 0;
	if (realpath(base, p->plain_dir) == NULL || strlen(p->plain_dir) > PATH_MAX - 300) {
		p->plain_dir[0] = '\0';
		return 0;
	}
	(void)strcat(p->plain_dir, "/pinfs-conform.XXXXXX");
	if (mkdtemp(p->plain_dir) == NULL)
		p->plain_dir[0] = '\0';
	else
		(void)chmod(p->plain_dir, 0755);
	return 0;
}

void setup_end(struct place *p)
{
	slow_stop();
	if (p->work[0] != '\0')
		tidy_tree(p->work);
	if (p->plain_dir[0] != '\0')
		tidy_tree(p->plain_dir);
}
