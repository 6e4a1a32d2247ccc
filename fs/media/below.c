/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * below.c - what a device lies on, as far as it decides about huge pages: for reports.
 *
 * Asks the kernel each time and keeps nothing, as a tmpfs may be remounted and shmem_enabled changed. Reads /proc and
 * /sys: slow. Takes no lock.
 */
#include "media/pmem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The mapping at @base, as /proc/self/maps shows it: on some filesystems stat(2) says another device. */
static void how_mapped(const struct pf_pm *pm, struct pf_below *b)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned int maj, min;
	char *line = NULL;
	size_t room = 0;
	uint64_t lo, ino;

	while (f != NULL && getline(&line, &room, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%*x %*s %*s %x:%x %" SCNu64, &lo, &maj, &min, &ino) == 4 &&
		    lo == (uint64_t)(uintptr_t)pm->base) {
			b->dev_major = maj;
			b->dev_minor = min;
			b->ino = ino;
			break;
		}
	}
	free(line);
	if (f != NULL)
		(void)fclose(f);
}

/* The value of huge= among comma separated mount options; tmpfs leaves it out when it is never. */
static void huge_option(const char *opts, char *out, size_t len)
{
	const char *at = strstr(opts, ",huge=");
	int n = at != NULL ? (int)strcspn(at + 6, ", \n") : 0;

	(void)snprintf(out, len, "%.*s", n != 0 ? n : 5, n != 0 ? at + 6 : "never");
}

/* Type and options of the filesystem of @dev. A line of mountinfo: ids, M:m, root, point, options, tags, -, type,
 * source, options of the filesystem. */
static void find_mount(dev_t dev, struct pf_below *b)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, type[16], *dash;
	unsigned int maj, min;
	size_t room = 0;
	int skip = 0;

	while (f != NULL && getline(&line, &room, f) > 0) {
		if (sscanf(line, "%*s %*s %u:%u", &maj, &min) != 2 || makedev(maj, min) != dev)
			continue;
		dash = strstr(line, " - ");
		if (dash == NULL || sscanf(dash, " - %15s %*s %n", type, &skip) != 1)
			continue;
		(void)snprintf(b->fs, sizeof b->fs, "%s", type);
		if (strcmp(type, "tmpfs") == 0 || strcmp(type, "devtmpfs") == 0)
			huge_option(dash + skip - 1, b->huge, sizeof b->huge);
		break;
	}
	free(line);
	if (f != NULL)
		(void)fclose(f);
}

/* The word in brackets. */
static void chosen(const char *path, char *out, size_t len)
{
	FILE *f = fopen(path, "re");
	char line[256] = "", *a, *b;

	if (f == NULL)
		return;
	if (fgets(line, sizeof line, f) != NULL && (a = strchr(line, '[')) != NULL && (b = strchr(a, ']')) != NULL)
		(void)snprintf(out, len, "%.*s", (int)(b - a - 1), a + 1);
	(void)fclose(f);
}

void pf_pm_below(const struct pf_pm *pm, struct pf_below *out)
{
	struct stat st;

	memset(out, 0, sizeof *out);
	how_mapped(pm, out);
	(void)snprintf(out->fs, sizeof out->fs, "other");
	if (fstat(pm->fd, &st) != 0)
		return;
	if (S_ISCHR(st.st_mode)) {
		(void)snprintf(out->fs, sizeof out->fs, "devdax");
		return;
	}
	find_mount(st.st_dev, out);
	if (out->huge[0] != '\0')
		chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", out->shmem, sizeof out->shmem);
	else if (pm->sync)
		(void)snprintf(out->fs, sizeof out->fs, "fsdax");
}
