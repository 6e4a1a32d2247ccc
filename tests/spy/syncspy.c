/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * syncspy.c - preloaded into a daemon with pmem=msync: a second file that holds only what was given to msync(2), as a
 * disk would after power was lost.
 *
 * PINFS_SPY names that file, a copy of the image to begin with. With PINFS_SPY_DEAF nothing is copied: the twin.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t map_from, map_to;	/* the last mapping that was looked up */
static uint64_t map_off;

static int shadow(void)
{
	static int fd = -2;

	if (fd == -2)
		fd = getenv("PINFS_SPY") != NULL && getenv("PINFS_SPY_DEAF") == NULL ?
			     open(getenv("PINFS_SPY"), O_RDWR | O_CLOEXEC) : -1;
	return fd;
}

static bool find_mapping(uintptr_t at)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long from, to, off;
	char line[512];

	while (f != NULL && !(at >= map_from && at < map_to) && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%lx-%lx %*s %lx", &from, &to, &off) != 3 || at < from || at >= to)
			continue;
		map_from = from;
		map_to = to;
		map_off = off;
	}
	if (f != NULL)
		(void)fclose(f);
	return at >= map_from && at < map_to;
}

int msync(void *addr, size_t len, int flags)
{
	int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))(uintptr_t)dlsym(RTLD_NEXT, "msync");
	const uintptr_t at = (uintptr_t)addr;
	int rc = real(addr, len, flags);

	(void)pthread_mutex_lock(&lock);
	if (rc == 0 && shadow() >= 0 && find_mapping(at) &&
	    pwrite(shadow(), addr, len, (off_t)(map_off + (at - map_from))) != (ssize_t)len)
		abort();
	(void)pthread_mutex_unlock(&lock);
	return rc;
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))(uintptr_t)dlsym(RTLD_NEXT, "fdatasync");
	char buf[65536];
	off_t off = 0;
	ssize_t n;
	int rc = real(fd);

	(void)pthread_mutex_lock(&lock);
	while (rc == 0 && shadow() >= 0 && (n = pread(fd, buf, sizeof buf, off)) > 0) {
		if (pwrite(shadow(), buf, (size_t)n, off) != n)
			abort();
		off += n;
	}
	(void)pthread_mutex_unlock(&lock);
	return rc;
}
