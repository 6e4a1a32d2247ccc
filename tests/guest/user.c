/* SPDX-License-Identifier: BSD-3-Clause */
/* user.c - the program that uses files in the emulated machine (tests/guest/init): with and without windows. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define SIZE (8 * MIB)

static int bad(const char *what)
{
	(void)printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static unsigned char pattern(size_t off)
{
	return (unsigned char)(off >> 12 | 1);
}

static int check(int fd, size_t from, size_t to)
{
	static unsigned char buf[PAGE];

	for (size_t off = from; off < to; off += PAGE) {
		if (pread(fd, buf, PAGE, (off_t)off) != (ssize_t)PAGE)
			return bad("pread");
		for (size_t i = 0; i < PAGE; i++) {
			if (buf[i] != pattern(off)) {
				(void)printf("byte %zu is %u, not %u\n", off + i, buf[i], pattern(off));
				return 1;
			}
		}
	}
	return 0;
}

static void fill(char *p, size_t from, size_t to)
{
	for (size_t off = from; off < to; off += PAGE)
		memset(p + off, pattern(off), PAGE);
}

static int create(const char *path, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	return fd < 0 || ftruncate(fd, (off_t)size) != 0 ? -1 : fd;
}

static int plain(const char *path)
{
	int fd = create(path, 0);
	char buf[PAGE];

	for (size_t off = 0; fd >= 0 && off < SIZE; off += PAGE) {
		memset(buf, pattern(off), sizeof buf);
		if (pwrite(fd, buf, sizeof buf, (off_t)off) != (ssize_t)sizeof buf)
			return bad("pwrite");
	}
	return fd < 0 ? bad(path) : check(fd, 0, SIZE);
}

static char *map(int fd, size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);

	if (p == MAP_FAILED && errno == EOPNOTSUPP)		/* no window: the kernel maps it */
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int windows(const char *path)
{
	int fd = create(path, SIZE);
	char *p = fd < 0 ? NULL : map(fd, SIZE);

	if (p == NULL)
		return bad(path);
	fill(p, 0, SIZE);
	if (msync(p, SIZE, MS_SYNC) != 0)
		return bad("msync");
	return check(fd, 0, SIZE);
}

/* Files that share a chunk of the device, each with a window of a page. */
static int small(const char *dir)
{
	char path[256], *p[16];
	int fd[16];

	for (int i = 0; i < 16; i++) {
		(void)snprintf(path, sizeof path, "%s/small%d", dir, i);
		fd[i] = create(path, PAGE);
		p[i] = fd[i] < 0 ? NULL : map(fd[i], PAGE);
		if (p[i] == NULL && errno == ENODEV) {
			(void)puts("no window, and this kernel does not map files opened for direct I/O");
			return 77;
		}
		if (p[i] == NULL)
			return bad(path);
		memset(p[i], 'a' + i, PAGE);
	}
	for (int i = 0; i < 16; i++) {
		char c[2];

		if (pread(fd[i], c, 2, 1000) != 2 || c[0] != 'a' + i || c[1] != 'a' + i || p[i][PAGE - 1] != 'a' + i) {
			(void)printf("file %d is wrong\n", i);
			return 1;
		}
	}
	return 0;
}

static int cut(const char *path)
{
	int fd = create(path, SIZE), err;
	char *p = fd < 0 ? NULL : map(fd, SIZE);

	if (p == NULL)
		return bad(path);
	fill(p, 0, SIZE);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(3 * MIB), (off_t)PAGE) != 0)
		return bad("punch");
	if (p[3 * MIB] != 0 || (unsigned char)p[3 * MIB - 1] != pattern(3 * MIB - PAGE) ||
	    (unsigned char)p[3 * MIB + PAGE] != pattern(3 * MIB + PAGE)) {
		(void)printf("after the punch: %d %d %d\n", p[3 * MIB], p[3 * MIB - 1], p[3 * MIB + PAGE]);
		return 1;
	}
	fill(p, 3 * MIB, 3 * MIB + PAGE);
	err = check(fd, 0, SIZE);
	if (err != 0)
		return err;
	if (ftruncate(fd, (off_t)(5 * MIB)) != 0 || ftruncate(fd, (off_t)SIZE) != 0)
		return bad("ftruncate");
	for (size_t off = 5 * MIB; off < SIZE; off += PAGE)
		if (p[off] != 0) {
			(void)printf("byte %zu is %d after the truncate\n", off, p[off]);
			return 1;
		}
	fill(p, 5 * MIB, SIZE);
	return check(fd, 0, SIZE);
}

/* No chunk is left to move anything to when blocks that were allocated ahead are touched. */
static int full(const char *path)
{
	const size_t size = 16 * MIB;
	int fd = create(path, 0), other;
	char rest[256], *p;

	(void)snprintf(rest, sizeof rest, "%s.rest", path);
	other = create(rest, 0);
	if (fd < 0 || other < 0 || fallocate(fd, 0, 0, (off_t)size) != 0)
		return bad(path);
	for (size_t len = 64 * MIB; len >= PAGE; len /= 2)
		for (off_t at = lseek(other, 0, SEEK_END); fallocate(other, 0, at, (off_t)len) == 0; at += (off_t)len)
			;
	p = map(fd, size);
	if (p == NULL)
		return bad(path);
	for (size_t off = MIB; off < size; off += 2 * MIB)
		p[off] = (char)pattern(off);
	for (size_t off = MIB; off < size; off += 2 * MIB) {
		char c[2];

		if (pread(fd, c, 2, (off_t)off) != 2 || c[0] != (char)pattern(off) || c[1] != 0) {
			(void)printf("byte %zu is %d\n", off, c[0]);
			return 1;
		}
	}
	return unlink(path) != 0 || unlink(rest) != 0 ? bad(path) : 0;
}

static int verify(const char *path)
{
	int fd = open(path, O_RDONLY);

	return fd < 0 ? bad(path) : check(fd, 0, SIZE);
}

/* Prints what the kernel says of the mappings, for whoever looks on. */
static int look(const char *path)
{
	int err = windows(path);
	char cmd[64];

	(void)snprintf(cmd, sizeof cmd, "pinfsctl windows --pid %d %s", (int)getpid(), path);
	return err != 0 ? err : system(cmd) != 0;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; int (*fn)(const char *); } verb[] = {
		{ "plain", plain }, { "windows", windows }, { "small", small }, { "cut", cut },
		{ "full", full }, { "verify", verify }, { "look", look },
	};

	for (size_t i = 0; argc >= 3 && i < sizeof verb / sizeof verb[0]; i++)
		if (strcmp(verb[i].name, argv[1]) == 0)
			return verb[i].fn(argv[2]);
	return 2;
}
