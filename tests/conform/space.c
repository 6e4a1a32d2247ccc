/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - takes all space of the place that is asked (space.h). Knows nothing of pins. */
#include "conform/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 18)

static int new_file(struct cf *c, const char *name)
{
	return (int)CF_SYS(c, open(cf_path(c, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
}

void cf_fill(struct cf *c)
{
	int fd = new_file(c, "filler");
	off_t at = 0;
	int tries = 0;

	/* A name needs space, too. */
	CF_SYS(c, close(new_file(c, "victim")));
	/* What was freed a moment ago may come back late: a journal commits first. (ENOSPC: a page of another case.) */
	CF_MUST(c, syncfs(fd) == 0 || errno == ENOSPC);
	for (size_t piece = (size_t)64 << 20; piece >= CF_PAGE;) {
		if (fallocate(fd, 0, at, (off_t)piece) == 0) {
			at += (off_t)piece;
			continue;
		}
		CF_MUST(c, errno == ENOSPC || (errno == EINTR && tries++ < 100));
		piece /= 2;
	}
	CF_SYS(c, close(fd));
}

size_t cf_victim(struct cf *c)
{
	static char buf[PIECE];
	int fd = (int)CF_SYS(c, open(cf_path(c, "victim"), O_WRONLY | O_CLOEXEC));
	size_t len = 0;
	ssize_t n;

	memset(buf, CF_VICTIM, sizeof buf);
	for (size_t piece = sizeof buf; piece >= CF_PAGE;) {
		n = write(fd, buf, piece);
		if (n > 0) {
			len += (size_t)n;
			continue;
		}
		CF_MUST(c, n < 0 && errno == ENOSPC);
		piece /= 2;
	}
	CF_SYS(c, close(fd));
	return len;
}

size_t cf_victim_torn(struct cf *c)
{
	static char buf[PIECE];
	int fd = (int)CF_SYS(c, open(cf_path(c, "victim"), O_RDONLY | O_CLOEXEC));
	size_t torn = 0;
	ssize_t n;

	while ((n = CF_SYS(c, read(fd, buf, sizeof buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			torn += buf[i] != CF_VICTIM;
	}
	CF_SYS(c, close(fd));
	return torn;
}

void cf_one_cpu(struct cf *c)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned int)CF_SYS(c, sched_getcpu()), &one);
	CF_SYS(c, sched_setaffinity(0, sizeof one, &one));
}

/*
 * That nobody has an inode any more may be heard of a little later, but not later than of one that went after it; and
 * XFS frees in batches, in no order within one, each processor for itself: what went in an earlier batch has come when
 * a later one has.
 */
void cf_space_comes(struct cf *c, uint64_t before, size_t most)
{
	for (int round = 0; round < 2; round++) {
		const int fd = cf_file(c, "marker", 2 * most);

		CF_SYS(c, unlink(cf_path(c, "marker")));
		CF_SYS(c, close(fd));
		while (cf_free(c) < before - most / 2)
			(void)usleep(500);
	}
}

uint64_t cf_free(struct cf *c)
{
	struct statvfs v;

	CF_SYS(c, statvfs(cf_dir(c), &v));
	return (uint64_t)v.f_bfree * v.f_frsize;
}
