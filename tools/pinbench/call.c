/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * call.c - cases of a program that has nothing to do with pinfs: what it costs that libpinfs.so stands in front of its
 * calls. They are the first that run, before this process has had a window.
 *
 * Both sides call through a pointer, the one to what the dynamic linker finds first, which is libpinfs.so's, the other
 * to what libc.so.6 itself has. Processor time counts, as the calls do not wait; the fastest of many short passes is
 * what they take when nothing else happens on the machine.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pinbench/pinbench.h"

#define SMALL ((size_t)64)
#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define PASSES 40

static struct {
	ssize_t (*pread)(int, void *, size_t, off_t);
	ssize_t (*pwrite)(int, const void *, size_t, off_t);
	void *(*mmap)(void *, size_t, int, int, int, off_t);
	int (*munmap)(void *, size_t);
} fn[2];	/* PB_PINFS: as programs find them; PB_REF: libc's */

/* ISO C has no conversion from object to function pointers; POSIX gives both one representation. */
static int find(void *lib, const char *name, void *slot)
{
	void *sym = dlsym(lib, name);

	memcpy(slot, &sym, sizeof sym);
	return sym == NULL ? -ENOSYS : 0;
}

static int find_all(enum pb_subject s, void *lib)
{
	int rc = find(lib, "pread", &fn[s].pread);

	if (rc == 0)
		rc = find(lib, "pwrite", &fn[s].pwrite);
	if (rc == 0)
		rc = find(lib, "mmap", &fn[s].mmap);
	return rc != 0 ? rc : find(lib, "munmap", &fn[s].munmap);
}

static int setup_call(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	int rc = libc == NULL ? -ENOSYS : find_all(s, s == PB_PINFS ? RTLD_DEFAULT : libc);

	/* The same file for both, none of which pinfs knows. */
	if (rc == 0)
		rc = pb_file_make(e, PB_REF, s == PB_PINFS ? "call-a" : "call-b", MIB, st);
	if (rc != 0)
		return rc;
	st->buf = malloc(SMALL);
	return st->buf == NULL ? -ENOMEM : 0;
}

typedef bool one_fn(enum pb_subject s, const struct pb_state *st);

static bool one_read(enum pb_subject s, const struct pb_state *st)
{
	return fn[s].pread(st->fd, st->buf, SMALL, 0) == (ssize_t)SMALL;
}

static bool one_write(enum pb_subject s, const struct pb_state *st)
{
	return fn[s].pwrite(st->fd, st->buf, SMALL, 0) == (ssize_t)SMALL;
}

static bool one_anon(enum pb_subject s, const struct pb_state *st)
{
	void *p = fn[s].mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)st;
	return p != MAP_FAILED && fn[s].munmap(p, 16 * PAGE) == 0;
}

/* As a program that wants to see what is in it. */
static bool one_map(enum pb_subject s, const struct pb_state *st)
{
	uint8_t *p = fn[s].mmap(NULL, st->len, PROT_READ, MAP_SHARED, st->fd, 0);

	if (p == MAP_FAILED)
		return false;
	for (size_t off = 0; off < st->len; off += PAGE)
		(void)*(volatile const uint8_t *)(p + off);
	return fn[s].munmap(p, st->len) == 0;
}

static int fastest(enum pb_subject s, const struct pb_state *st, one_fn *one, unsigned int n, double *ns)
{
	uint64_t best = UINT64_MAX, t;

	for (int pass = 0; pass < PASSES; pass++) {
		t = pb_cpu_ns();
		for (unsigned int i = 0; i < n; i++)
			if (!one(s, st))
				return -EIO;
		t = pb_cpu_ns() - t;
		best = t < best ? t : best;
	}
	*ns = (double)best / n;
	return 0;
}

#define RUN(name, one, n)                                                                                         \
	static int name(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)            \
	{                                                                                                         \
		return fastest(s, st, one, e->quick ? (n) / 4 : (n), out);                                        \
	}
RUN(run_read, one_read, 4000)
RUN(run_write, one_write, 4000)
RUN(run_anon, one_anon, 1000)
RUN(run_map, one_map, 40)

#define CALL(n, w, r) { .name = (n), .what = (w), .unit = PB_NS, .subjects = PB_TWO, .ref = "libc alone", \
	.aim = PB_AIM_RATIO_MAX, .limit = 1.02, .fresh = true, .setup = setup_call, .run = (r), .clean = pb_file_drop }

const struct pb_case pb_call_cases[] = {
	CALL("call.read", "pread of 64 bytes of another file, by a program without windows", run_read),
	CALL("call.write", "pwrite of 64 bytes, the same", run_write),
	CALL("call.mmap", "mmap and munmap of memory, the same", run_anon),
	CALL("call.mmap_file", "a file of 1 MiB mapped, read, unmapped, the same", run_map),
};
const size_t pb_call_count = sizeof pb_call_cases / sizeof pb_call_cases[0];
