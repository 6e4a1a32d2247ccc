/* SPDX-License-Identifier: BSD-3-Clause */
/* bad.c - see bad.h. */
#include "conform/bad.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/fiemap.h>
#include <linux/fs.h>

#define SECTORS (CF_PAGE / 512)

static int ctl(struct bad *b, const char *verb, const char *what, char *out, size_t room)
{
	return cf_run(b->c, out, room,
		      (const char *const[]){ "pinfsctl", "badblock", "--json", verb, b->mnt, what, NULL });
}

/* The block that the list has and did not have before: of pinfs, whose extents cannot be asked for. */
static bool listed(struct bad *b, unsigned long long block, unsigned long long *other)
{
	static char out[64 << 10];
	bool there = false;

	if (ctl(b, "list", NULL, out, sizeof out) != 0)
		cf_broken(b->c, "bad.c", __LINE__, "pinfsctl badblock list", 0);
	for (const char *p = out; (p = strstr(p, "\"block\"")) != NULL; ) {
		const char *n = strstr(p, "\"blocks\"");
		unsigned long long first, count = 1;

		p += strlen("\"block\"");
		first = strtoull(p + strspn(p, ": "), NULL, 10);
		if (n != NULL)
			count = strtoull(n + strlen("\"blocks\"") + 1, NULL, 10);
		there = there || (block >= first && block - first < count);
		*other = first;
	}
	return there;
}

static void add_pinfs(struct bad *b, const char *path, size_t off)
{
	char what[PATH_MAX + 32], out[4096];
	unsigned long long last = 0;

	(void)snprintf(what, sizeof what, "%s:%zu", path, off);
	if (ctl(b, "add", what, out, sizeof out) != 0)
		cf_na(b->c, "no bad block can be made: %s", out);
	(void)listed(b, 0, &last);
	b->block = last;
}

static void tell_kernel(struct bad *b)
{
	const int fd = open(b->list, O_WRONLY | O_CLOEXEC);
	char line[64];
	const int len = snprintf(line, sizeof line, "%llu %zu\n", b->block * SECTORS, SECTORS);

	if (fd < 0 || write(fd, line, (size_t)len) != len)
		cf_na(b->c, "no bad block can be made: %s: %s", b->list, strerror(errno));
	(void)close(fd);
}

/* Only a write of the whole page takes a block off the list, and allocating it: what has left the file may stay bad. */
static void heal_kernel(const struct bad *b)
{
	const int fd = open(b->path, O_RDWR | O_CLOEXEC);
	char page[CF_PAGE] = "";

	if (fd < 0)
		return;
	(void)!pwrite(fd, page, sizeof page, (off_t)b->off);
	(void)close(fd);
}

static void add_kernel(struct bad *b, int fd, size_t off)
{
	union { struct fiemap f; char room[sizeof(struct fiemap) + sizeof(struct fiemap_extent)]; } m;
	struct stat st;

	CF_SYS(b->c, fstat(fd, &st));
	(void)snprintf(b->list, sizeof b->list, "/sys/dev/block/%u:%u/badblocks", major(st.st_dev), minor(st.st_dev));
	if (access(b->list, W_OK) != 0)
		cf_na(b->c, "its device has no list of bad blocks that can be changed");
	CF_SYS(b->c, fsync(fd));
	memset(&m, 0, sizeof m);
	m.f.fm_start = off;
	m.f.fm_length = CF_PAGE;
	m.f.fm_extent_count = 1;
	CF_SYS(b->c, ioctl(fd, FS_IOC_FIEMAP, &m));
	CF_MUST(b->c, m.f.fm_mapped_extents == 1 && m.f.fm_extents[0].fe_physical != 0);
	b->block = (m.f.fm_extents[0].fe_physical + (off - m.f.fm_extents[0].fe_logical)) / CF_PAGE;
	tell_kernel(b);
}

void bad_add(struct cf *c, struct bad *b, const char *mnt, const char *path, int fd, size_t off)
{
	*b = (struct bad){ .c = c, .off = off };
	(void)snprintf(b->path, sizeof b->path, "%s", path);
	if (mnt == NULL)
		mnt = cf_mount(c);
	if (mnt != NULL) {
		if (cf_programs(c) == NULL)
			cf_na(c, "pinfsctl is not found");
		(void)snprintf(b->mnt, sizeof b->mnt, "%s", mnt);
		add_pinfs(b, path, off);
	} else if (cf_is(c, "kernel")) {
		add_kernel(b, fd, off);
	} else {
		cf_na(c, "nothing here knows of bad blocks");
	}
}

void bad_del(struct bad *b)
{
	char block[32], out[1024];

	if (b->list[0] != '\0') {
		heal_kernel(b);
		return;
	}
	(void)snprintf(block, sizeof block, "%llu", b->block);
	if (ctl(b, "del", block, out, sizeof out) != 0)
		cf_note(b->c, "pinfsctl badblock del: %s", out);
}

bool bad_is(struct bad *b)
{
	unsigned long long other = 0;
	char text[4096];
	ssize_t n;
	int fd;

	if (b->list[0] == '\0')
		return listed(b, b->block, &other);
	fd = (int)CF_SYS(b->c, open(b->list, O_RDONLY | O_CLOEXEC));
	n = read(fd, text, sizeof text - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (const char *p = text; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n') {
		unsigned long long first = strtoull(p, NULL, 10), count;
		const char *blank = strchr(p, ' ');

		count = blank != NULL ? strtoull(blank, NULL, 10) : 0;
		if (b->block * SECTORS >= first && b->block * SECTORS < first + count)
			return true;
	}
	return false;
}
