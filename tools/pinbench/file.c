/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.c - cases of the plain path through the kernel: data and metadata calls, one thread, no window.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pinbench/pinbench.h"

#define MIB ((size_t)1 << 20)
#define SMALL ((size_t)4096)

static size_t data_bytes(const struct pb_env *e)
{
	return e->quick ? 32 * MIB : 128 * MIB;
}

static unsigned int names(const struct pb_env *e)
{
	return e->quick ? 500 : 3000;
}

static int setup_data(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	int rc = pb_file_make(e, s, "data", data_bytes(e), st);

	if (rc != 0)
		return rc;
	st->buf = malloc(MIB);
	if (st->buf == NULL)
		return -ENOMEM;
	memset(st->buf, 0x3c, MIB);
	return 0;
}

typedef ssize_t io_fn(const struct pb_state *st, size_t n, off_t off);

static ssize_t do_read(const struct pb_state *st, size_t n, off_t off) { return pread(st->fd, st->buf, n, off); }
static ssize_t do_write(const struct pb_state *st, size_t n, off_t off) { return pwrite(st->fd, st->buf, n, off); }

static int sequential(const struct pb_state *st, io_fn *io, double *out)
{
	uint64_t t = pb_now_ns();

	for (size_t off = 0; off < st->len; off += MIB)
		if (io(st, MIB, (off_t)off) != (ssize_t)MIB)
			return -EIO;
	*out = (double)st->len / (double)MIB * 1e9 / (double)(pb_now_ns() - t);
	return 0;
}

static int scattered(const struct pb_env *e, const struct pb_state *st, io_fn *io, double *out)
{
	const size_t n = e->quick ? 5000 : 30000, blocks = st->len / SMALL;
	uint64_t x = 88172645463325252U, t = pb_now_ns();

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (io(st, SMALL, (off_t)(x % blocks * SMALL)) != (ssize_t)SMALL)
			return -EIO;
	}
	*out = (double)n * 1e9 / (double)(pb_now_ns() - t);
	return 0;
}

static int run_read_1m(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return sequential(st, do_read, out);
}

static int run_write_1m(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)e;
	(void)s;
	return sequential(st, do_write, out);
}

static int run_read_4k(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return scattered(e, st, do_read, out);
}

static int run_write_4k(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return scattered(e, st, do_write, out);
}

static int run_append(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	const size_t n = e->quick ? 2000 : 10000;
	uint64_t t;

	(void)s;
	if (ftruncate(st->fd, 0) != 0)
		return -errno;
	t = pb_now_ns();
	for (size_t i = 0; i < n; i++)
		if (do_write(st, SMALL, (off_t)(i * SMALL)) != (ssize_t)SMALL)
			return -EIO;
	*out = (double)n * 1e9 / (double)(pb_now_ns() - t);
	return 0;
}

/* --- metadata: a directory st->path of names(e) entries --- */

static void entry(const struct pb_state *st, const char *prefix, unsigned int i, char *out, size_t size)
{
	(void)snprintf(out, size, "%s/%s%u", st->path, prefix, i);
}

typedef int entry_fn(const char *path, const char *other);

static int do_create(const char *path, const char *other)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	(void)other;
	return fd < 0 ? -1 : close(fd);
}

static int do_open(const char *path, const char *other)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	(void)other;
	return fd < 0 ? -1 : close(fd);
}

static int do_stat(const char *path, const char *other)
{
	struct stat sb;

	(void)other;
	return stat(path, &sb);
}

static int do_rename(const char *path, const char *other) { return rename(path, other); }

static int do_unlink(const char *path, const char *other)
{
	(void)other;
	return unlink(path);
}

static int do_mkdir(const char *path, const char *other)
{
	(void)other;
	return mkdir(path, 0755);
}

static int do_rmdir(const char *path, const char *other)
{
	(void)other;
	return rmdir(path);
}

/* @fn on every entry "<prefix>N" (and "<to>N"); calls per second. */
static int each(const struct pb_env *e, const struct pb_state *st, const char *prefix, const char *to, entry_fn *fn,
		double *out)
{
	const unsigned int n = names(e);
	char path[256], other[256];
	uint64_t t = pb_now_ns();

	for (unsigned int i = 0; i < n; i++) {
		entry(st, prefix, i, path, sizeof path);
		entry(st, to, i, other, sizeof other);
		if (fn(path, other) != 0)
			return -errno;
	}
	*out = (double)n * 1e9 / (double)(pb_now_ns() - t);
	return 0;
}

static int setup_dir(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	st->fd = -1;
	if (snprintf(st->path, sizeof st->path, "%s/dir", e->mnt[s]) >= (int)sizeof st->path)
		return -ENAMETOOLONG;
	return mkdir(st->path, 0755) != 0 ? -errno : 0;
}

static int setup_full_dir(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	double ignored;
	int rc = setup_dir(e, s, st);

	return rc != 0 ? rc : each(e, st, "f", "f", do_create, &ignored);
}

static void clean_dir(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	double ignored;

	(void)s;
	(void)each(e, st, "f", "f", do_unlink, &ignored);
	(void)rmdir(st->path);
}

static int run_create(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	double ignored;
	int rc = each(e, st, "f", "f", do_create, out);

	(void)s;
	return rc != 0 ? rc : each(e, st, "f", "f", do_unlink, &ignored);
}

static int run_unlink(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	double ignored;
	int rc = each(e, st, "f", "f", do_create, &ignored);

	(void)s;
	return rc != 0 ? rc : each(e, st, "f", "f", do_unlink, out);
}

static int run_mkdir(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	double ignored;
	int rc = each(e, st, "d", "d", do_mkdir, out);

	(void)s;
	return rc != 0 ? rc : each(e, st, "d", "d", do_rmdir, &ignored);
}

static int run_stat(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return each(e, st, "f", "f", do_stat, out);
}

static int run_open(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	(void)s;
	return each(e, st, "f", "f", do_open, out);
}

static int run_rename(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	double ignored;
	int rc = each(e, st, "f", "g", do_rename, out);

	(void)s;
	return rc != 0 ? rc : each(e, st, "g", "f", do_rename, &ignored);
}

static int run_readdir(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out)
{
	const unsigned int n = names(e) + 2;
	unsigned int seen = 0;
	uint64_t t = pb_now_ns();
	DIR *d = opendir(st->path);

	(void)s;
	if (d == NULL)
		return -errno;
	while (readdir(d) != NULL)
		seen++;
	(void)closedir(d);
	*out = (double)seen * 1e9 / (double)(pb_now_ns() - t);
	return seen == n ? 0 : -EIO;
}

#define DATA(n, w, u, f) { .name = (n), .what = (w), .unit = (u), .subjects = PB_ALL, \
	.aim = PB_AIM_PEER_MIN, .limit = 1, .setup = setup_data, .run = (f), .clean = pb_file_drop }
#define META(n, w, set, f) { .name = (n), .what = (w), .unit = PB_OPS, .subjects = PB_ALL, \
	.aim = PB_AIM_PEER_MIN, .limit = 1, .setup = (set), .run = (f), .clean = clean_dir }

const struct pb_case pb_file_cases[] = {
	DATA("file.read_1m", "pread of 1 MiB, in sequence", PB_MIBS, run_read_1m),
	DATA("file.write_1m", "pwrite of 1 MiB over what is there", PB_MIBS, run_write_1m),
	DATA("file.read_4k", "pread of 4 KiB, at random", PB_OPS, run_read_4k),
	DATA("file.write_4k", "pwrite of 4 KiB over what is there, at random", PB_OPS, run_write_4k),
	DATA("file.append_4k", "pwrite of 4 KiB at the end", PB_OPS, run_append),
	META("meta.create", "create and close a file", setup_dir, run_create),
	META("meta.unlink", "unlink a file", setup_dir, run_unlink),
	META("meta.mkdir", "make a directory", setup_dir, run_mkdir),
	META("meta.open", "open and close a file", setup_full_dir, run_open),
	/* The kernel answers it, for both: nothing to aim at. */
	{ .name = "meta.stat", .what = "stat of a known name", .unit = PB_OPS, .subjects = PB_ALL,
	  .setup = setup_full_dir, .run = run_stat, .clean = clean_dir },
	META("meta.rename", "rename within a directory", setup_full_dir, run_rename),
	META("meta.readdir", "directory entries read", setup_full_dir, run_readdir),
};
const size_t pb_file_count = sizeof pb_file_cases / sizeof pb_file_cases[0];
