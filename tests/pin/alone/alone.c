/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alone.c - a program that is not linked with libpinfs.so: maps FILE, stores a byte, and prints what the library, if it
 * is in the process or named as LIBRARY, takes the mapping for. Built dynamic and static by tests.mk.
 *
 *   alone FILE [LIBRARY]
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <pinfs/pin.h>

#define LEN 8192UL

static void look_up(void *to, void *lib, const char *name)
{
	void *sym = dlsym(lib, name);

	memcpy(to, &sym, sizeof sym);
}

int main(int argc, char **argv)
{
	void *(*map)(void *, size_t, int, int, int, off_t) = mmap;
	int (*unmap)(void *, size_t) = munmap;
	int (*query)(const void *, size_t, struct pinfs_range_info *) = NULL;
	struct pinfs_range_info ri;
	int fd;
	char *p;
#ifndef ALONE_STATIC
	void *lib = NULL;
#endif

	if (argc < 2)
		return 2;
#ifndef ALONE_STATIC
	if (argc > 2) {
		lib = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
		if (lib == NULL) {
			(void)fprintf(stderr, "%s\n", dlerror());
			return 2;
		}
		look_up(&map, lib, "mmap");
		look_up(&unmap, lib, "munmap");
	}
	look_up(&query, lib != NULL ? lib : RTLD_DEFAULT, "pinfs_range_query");
#else
	(void)look_up;
#endif
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	p = fd < 0 ? MAP_FAILED : map(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 3;
	p[0]++;
	(void)puts(query != NULL && query(p, LEN, &ri) == 0 ? "window" : "plain");
#ifndef ALONE_STATIC
	/* The library has threads: it stays. */
	if (lib != NULL && dlclose(lib) != 0)
		return 4;
#endif
	p[LEN - 1] = p[0];
	if (msync(p, LEN, MS_SYNC) != 0)
		return 5;
	return unmap(p, LEN) != 0 ? 6 : 0;
}
