/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * holders.c - who holds a device open: a walk over /proc, for error lines.
 *
 * Looks at descriptors and at mappings, as a client may map the device and close the descriptor. Takes no lock.
 */
#include "media/pmem.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* One table of descriptors, /proc/PID/fd or /proc/PID/task/TID/fd. */
static bool in_table(const char *path, const struct stat *dev)
{
	struct statx st;
	struct dirent *d;
	bool found = false;
	DIR *dir;

	dir = opendir(path);
	if (dir == NULL)
		return false;
	/* DONT_SYNC: a descriptor on a hung network or FUSE mount must not hang us. */
	while (!found && (d = readdir(dir)) != NULL)
		found = d->d_name[0] != '.' && statx(dirfd(dir), d->d_name, AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 &&
			makedev(st.stx_dev_major, st.stx_dev_minor) == dev->st_dev && st.stx_ino == dev->st_ino;
	(void)closedir(dir);
	return found;
}

/* A thread may have a table of its own: libpinfs keeps what it has open where the program does not see it. */
static bool holds_fd(const char *pid, const struct stat *dev)
{
	char path[640];
	struct dirent *d;
	bool found;
	DIR *tasks;

	(void)snprintf(path, sizeof path, "/proc/%s/fd", pid);
	found = in_table(path, dev);
	(void)snprintf(path, sizeof path, "/proc/%s/task", pid);
	tasks = found ? NULL : opendir(path);
	while (tasks != NULL && !found && (d = readdir(tasks)) != NULL) {
		(void)snprintf(path, sizeof path, "/proc/%s/task/%s/fd", pid, d->d_name);
		found = d->d_name[0] != '.' && strcmp(d->d_name, pid) != 0 && in_table(path, dev);
	}
	if (tasks != NULL)
		(void)closedir(tasks);
	return found;
}

static bool holds_map(const char *pid, const struct stat *dev)
{
	char path[320], *line = NULL;
	unsigned int maj, min;
	uint64_t ino;
	size_t room = 0;
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%s/maps", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (!found && getline(&line, &room, f) > 0)
		found = sscanf(line, "%*s %*s %*s %x:%x %" SCNu64, &maj, &min, &ino) == 3 &&
			makedev(maj, min) == dev->st_dev && ino == dev->st_ino;
	free(line);
	(void)fclose(f);
	return found;
}

static void read_comm(const char *pid, char *buf, size_t len)
{
	char path[320];
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f == NULL || fgets(buf, (int)len, f) == NULL)
		(void)snprintf(buf, len, "?");
	buf[strcspn(buf, "\n")] = '\0';
	if (f != NULL)
		(void)fclose(f);
}

void pf_pm_holders(const char *path, char *buf, size_t len)
{
	char comm[32];
	struct dirent *d;
	struct stat dev;
	size_t used = 0;
	DIR *proc;
	int n;

	if (len == 0)
		return;
	buf[0] = '\0';
	if (stat(path, &dev) != 0)
		return;
	proc = opendir("/proc");
	if (proc == NULL)
		return;
	while ((d = readdir(proc)) != NULL) {
		if (d->d_name[0] < '1' || d->d_name[0] > '9' || strtol(d->d_name, NULL, 10) == getpid())
			continue;
		if (!holds_map(d->d_name, &dev) && !holds_fd(d->d_name, &dev))
			continue;
		read_comm(d->d_name, comm, sizeof comm);
		n = snprintf(buf + used, len - used, "%spid %s (%s)", used ? ", " : "", d->d_name, comm);
		if (n < 0 || (size_t)n >= len - used)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	(void)closedir(proc);
}
