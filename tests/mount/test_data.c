/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_data.c - bytes: what is written is read, through read(2), write(2), mappings and every way to change a file's
 * blocks, against a plain buffer that is treated the same way; before and after a remount.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)
#define MODEL_MAX (6U << 20)

/* What a file should be. */
struct model {
	unsigned char *bytes;
	size_t size;
};

static uint64_t rng_state;

static uint64_t rnd(uint64_t below)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state % below;
}

static void fill(unsigned char *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		p[i] = (unsigned char)(seed >> 56);
	}
}

/* The first byte that differs is said. */
static bool same_bytes(const char *what, const unsigned char *got, const unsigned char *want, size_t n)
{
	if (memcmp(got, want, n) == 0)
		return true;
	for (size_t i = 0; i < n; i++) {
		if (got[i] != want[i]) {
			pt_say("%s: byte %zu of %zu is %02x, should be %02x", what, i, n, got[i], want[i]);
			break;
		}
	}
	return false;
}

/* The whole file in one look, by read(2) of odd sizes. */
static bool same_file(const char *what, const char *path, const struct model *m)
{
	unsigned char *buf = calloc(m->size + 1, 1);
	struct stat st = { .st_size = -1 };
	size_t have = 0;
	int fd = open(path, O_RDONLY);
	bool ok = fd >= 0 && buf != NULL && fstat(fd, &st) == 0 && (size_t)st.st_size == m->size;

	if (!ok)
		pt_say("%s: size %lld, should be %zu", what, (long long)st.st_size, m->size);
	while (ok && have <= m->size) {
		size_t step = 1 + (size_t)rnd(300000);
		ssize_t n = read(fd, buf + have, step < m->size + 1 - have ? step : m->size + 1 - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	if (ok && have != m->size) {
		pt_say("%s: read %zu of %zu", what, have, m->size);
		ok = false;
	}
	ok = ok && same_bytes(what, buf, m->bytes, m->size);
	if (fd >= 0)
		(void)close(fd);
	free(buf);
	return ok;
}

enum {
	OP_WRITE,
	OP_APPEND,
	OP_TRUNC,
	OP_PUNCH,
	OP_ZERO,
	OP_ZERO_KEEP,
	OP_ALLOC,
	OP_ALLOC_KEEP,
	OP_COPY,
	OP_MAP,
	OP_OTRUNC,
	OP_SYNC,
	OP_NR
};

static void grow(struct model *m, size_t size)
{
	if (size > m->size) {
		memset(m->bytes + m->size, 0, size - m->size);
		m->size = size;
	}
}

static bool map_store(int fd, struct model *m, size_t off, size_t len, uint64_t seed)
{
	unsigned char *map;

	if (m->size == 0 || off >= m->size)
		return true;
	if (len > m->size - off)
		len = m->size - off;
	map = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return false;
	fill(map + off, len, seed);
	fill(m->bytes + off, len, seed);
	return munmap(map, m->size) == 0;
}

static bool one_op(int fd, const char *path, struct model *m, int op, size_t off, size_t len)
{
	static unsigned char buf[1 << 20];
	uint64_t seed = rng_state;
	size_t end = off + len, src;
	loff_t in, out;
	int fd2;

	switch (op) {
	case OP_WRITE:
	case OP_APPEND:
		if (op == OP_APPEND) {
			off = m->size;
			end = off + len;
			if (end > MODEL_MAX)
				return true;
		}
		fill(buf, len, seed);
		fd2 = op == OP_APPEND ? open(path, O_WRONLY | O_APPEND) : fd;
		if ((op == OP_APPEND ? write(fd2, buf, len) : pwrite(fd2, buf, len, (off_t)off)) != (ssize_t)len)
			return false;
		if (fd2 != fd)
			(void)close(fd2);
		grow(m, off);
		if (end > m->size)
			m->size = end;
		memcpy(m->bytes + off, buf, len);
		return true;
	case OP_TRUNC:
		grow(m, off);
		m->size = off;
		return ftruncate(fd, (off_t)off) == 0;
	case OP_OTRUNC:
		if (rnd(8) != 0)
			return true;
		fd2 = open(path, O_WRONLY | O_TRUNC);
		m->size = 0;
		return fd2 >= 0 && close(fd2) == 0;
	case OP_PUNCH:
		if (off < m->size)
			memset(m->bytes + off, 0, (end < m->size ? end : m->size) - off);
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0;
	case OP_ZERO:
		grow(m, end);
		memset(m->bytes + off, 0, len);
		return fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)off, (off_t)len) == 0;
	case OP_ZERO_KEEP:
		if (off < m->size)
			memset(m->bytes + off, 0, (end < m->size ? end : m->size) - off);
		return fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0;
	case OP_ALLOC:
		grow(m, end);
		return fallocate(fd, 0, (off_t)off, (off_t)len) == 0;
	case OP_ALLOC_KEEP:
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0;
	case OP_COPY:
		/* Inside the file, ranges that do not touch. */
		src = (size_t)rnd(MODEL_MAX);
		if (src >= m->size)
			return true;
		if (len > m->size - src)
			len = m->size - src;
		if (src < off + len && off < src + len)
			return true;
		in = (loff_t)src;
		out = (loff_t)off;
		for (size_t done = 0; done < len;) {
			ssize_t n = copy_file_range(fd, &in, fd, &out, len - done, 0);

			if (n <= 0)
				return false;
			done += (size_t)n;
		}
		grow(m, off);
		if (off + len > m->size)
			m->size = off + len;
		memmove(m->bytes + off, m->bytes + src, len);
		return true;
	case OP_MAP:
		return map_store(fd, m, off, len < 100000 ? len : 100000, seed);
	case OP_SYNC:
		return (rnd(2) != 0 ? fsync(fd) : fdatasync(fd)) == 0;
	default:
		return false;
	}
}

/* Every operation in random order, checked often by another descriptor. The seed is said when it fails. */
static void random_ops(uint64_t seed, const char *opts)
{
	static const char *const name[OP_NR] = { "write", "append",    "truncate", "punch",
						 "zero",  "zero keep", "allocate", "allocate keep",
						 "copy",  "map",       "O_TRUNC",  "sync" };
	struct pt_fs *fs;
	struct model m = { NULL, 0 };
	int fd;

	if (!pt_need_mount())
		return;
	m.bytes = malloc(MODEL_MAX + (1 << 20));
	CU_ASSERT_PTR_NOT_NULL_FATAL(m.bytes);
	rng_state = seed;
	fs = pt_fs_start("64M", opts);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	for (int i = 0; i < 1500; i++) {
		int op = (int)rnd(OP_NR);
		size_t len = 1 + (size_t)rnd(rnd(4) == 0 ? 1 << 20 : 9000), off = (size_t)rnd(MODEL_MAX - len);
		bool ok;

		if (rnd(3) == 0)
			off &= ~(size_t)4095;
		if (rnd(3) == 0)
			len = (len + 4095) & ~(size_t)4095;
		if (off + len > MODEL_MAX)
			len = MODEL_MAX - off;
		ok = one_op(fd, P("f"), &m, op, off, len);
		if (!ok)
			pt_say("%s %zu+%zu: %s", name[op], off, len, strerror(errno));
		if (ok && (i % 10 == 0 || i > 1480))
			ok = same_file(name[op], P("f"), &m);
		if (!ok) {
			pt_say("operation %d (%s %zu+%zu) of seed %#llx", i, name[op], off, len,
			       (unsigned long long)seed);
			CU_FAIL("contents");
			break;
		}
	}
	PT_SYS(close(fd));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, opts), 0);
	CU_ASSERT_TRUE(same_file("after remount", P("f"), &m));
	free(m.bytes);
	pt_fs_end(fs);
}

static void random_1(void) { random_ops(0x9e3779b97f4a7c15, NULL); }
static void random_2(void) { random_ops(0xdeadbeefcafef00d, "break=file,on_busy=defer"); }
static void random_3(void) { random_ops(0x123456789abcdef1, "pmem=msync"); }

/* Sizes and offsets on both sides of every border: page, chunk, request. */
static void borders(void)
{
	static const size_t edge[] = { 1, 4095, 4096, 4097, 1048575, 1048576, 1048577, 2097151, 2097152, 2097153,
				       3145728 };
	struct pt_fs *fs;
	static unsigned char want[8 << 20], got[8 << 20];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("128M", NULL);
	for (size_t i = 0; i < PF_ARRAY_LEN(edge); i++) {
		for (size_t j = 0; j < PF_ARRAY_LEN(edge); j++) {
			size_t off = edge[i], len = edge[j];

			fd = open(P("f"), O_RDWR | O_CREAT | O_TRUNC, 0644);
			PT_SYS_FATAL(fd);
			memset(want, 0, off);
			fill(want + off, len, i * 100 + j);
			PT_EQ(pwrite(fd, want + off, len, (off_t)off), len);
			PT_EQ(lseek(fd, 0, SEEK_END), off + len);
			memset(got, 0xee, off + len);
			PT_EQ(pread(fd, got, off + len + 100, 0), off + len);
			CU_ASSERT_TRUE(same_bytes("borders", got, want, off + len));
			PT_EQ(pread(fd, got, 100, (off_t)(off + len)), 0);
			PT_SYS(close(fd));
		}
	}
	pt_fs_end(fs);
}

static void limits(void)
{
	struct pt_fs *fs;
	char b = 'x';
	struct iovec iov[64];
	char buf[64 * 7];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	/* The far end of a sparse file. */
	PT_EQ(pwrite(fd, &b, 1, (off_t)1 << 61), 1);
	PT_EQ(lseek(fd, 0, SEEK_END), ((off_t)1 << 61) + 1);
	b = 0;
	PT_EQ(pread(fd, &b, 1, (off_t)1 << 61), 1);
	PT_EQ(b, 'x');
	PT_FAILS(pwrite(fd, &b, 1, ((off_t)1 << 62) + 1), EFBIG);
	PT_FAILS(ftruncate(fd, ((off_t)1 << 62) + 1), EFBIG);
	PT_FAILS(ftruncate(fd, -1), EINVAL);
	PT_FAILS(fallocate(fd, 0, 0, 0), EINVAL);
	PT_FAILS(fallocate(fd, 0, -1, 4096), EINVAL);
	PT_FAILS(fallocate(fd, 0, INT64_MAX - 10, 100), EFBIG);
	PT_FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
	PT_FAILS(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
	PT_FAILS(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 4096), EOPNOTSUPP);
	PT_FAILS(fallocate(fd, 0, 0, 1 << 30), ENOSPC);
	PT_SYS(ftruncate(fd, 0));
	for (size_t i = 0; i < 64; i++)
		iov[i] = (struct iovec){ buf + 7 * i, 7 };
	fill((unsigned char *)buf, sizeof buf, 5);
	PT_EQ(pwritev(fd, iov, 64, 0), sizeof buf);
	PT_EQ(lseek(fd, 0, SEEK_END), sizeof buf);
	PT_EQ(pwrite(fd, &b, 0, 5000), 0);
	PT_EQ(lseek(fd, 0, SEEK_END), sizeof buf);
	PT_SYS(close(fd));
	fd = open(P("f"), O_RDONLY);
	PT_FAILS(write(fd, &b, 1), EBADF);
	PT_FAILS(ftruncate(fd, 1), EINVAL);
	PT_FAILS(fallocate(fd, 0, 0, 100), EBADF);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void holes(void)
{
	static const struct { off_t off; int whence; off_t want; } t[] = {
		{ 0, SEEK_DATA, 1 << 20 },	   { 0, SEEK_HOLE, 0 },
		{ 1 << 20, SEEK_HOLE, (1 << 20) + 4096 }, { (1 << 20) + 100, SEEK_DATA, (1 << 20) + 100 },
		{ (1 << 20) + 4096, SEEK_DATA, 5 << 20 }, { 5 << 20, SEEK_HOLE, (5 << 20) + 8192 },
	};
	struct pt_fs *fs;
	struct stat st;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	PT_EQ(pwrite(fd, "x", 1, (1 << 20) + 5), 1);
	PT_EQ(pwrite(fd, "x", 1, (5 << 20) + 4095), 1);
	PT_EQ(pwrite(fd, "x", 1, (5 << 20) + 4096), 1);
	PT_SYS(ftruncate(fd, 9 << 20));
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++)
		PT_EQ(lseek(fd, t[i].off, t[i].whence), t[i].want);
	PT_FAILS(lseek(fd, 6 << 20, SEEK_DATA), ENXIO);
	PT_EQ(lseek(fd, 6 << 20, SEEK_HOLE), 6 << 20);
	PT_FAILS(lseek(fd, 9 << 20, SEEK_HOLE), ENXIO);
	PT_FAILS(lseek(fd, 9 << 20, SEEK_DATA), ENXIO);
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_blocks, 3 * 8);
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5 << 20));
	PT_EQ(lseek(fd, 0, SEEK_DATA), 5 << 20);
	PT_SYS(fstat(fd, &st));
	PT_EQ(st.st_blocks, 2 * 8);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* No two pages of the file lie side by side: one large read is made of as many pieces as pages, and is not cut short.
 */
static void fragmented(void)
{
	static unsigned char page[4096], got[1 << 20];
	struct pt_fs *fs;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_SYS_FATAL(fd);
	memset(page, 'p', sizeof page);
	for (off_t off = 4096; off < 3 << 20; off += 8192)
		PT_EQ(pwrite(fd, page, sizeof page, off), sizeof page);
	for (off_t off = 0; off < 8192; off += 1365) {
		PT_EQ(pread(fd, got, sizeof got, off), sizeof got);
		for (size_t i = 0; i < sizeof got; i++) {
			if (got[i] != (((size_t)off + i) / 4096 % 2 != 0 ? 'p' : 0)) {
				pt_say("offset %lld: byte %zu is %02x", (long long)off, i, got[i]);
				CU_FAIL("contents");
				break;
			}
		}
	}
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* --- MAP_SHARED without the preload library --- */

static void mapped_coherence(void)
{
	struct pt_fs *fs;
	unsigned char *map, *map2, buf[4096], zero[4096] = { 0 };
	int fd, fd2;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	fd2 = open(P("f"), O_RDWR);
	PT_SYS_FATAL(fd2);
	PT_SYS(ftruncate(fd, 4 << 20));
	map = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	map2 = mmap(NULL, 4 << 20, PROT_READ, MAP_SHARED, fd2, 0);
	CU_ASSERT_FATAL(map2 != MAP_FAILED);
	for (unsigned int i = 0; i < 64; i++) {
		size_t off = (size_t)i * 65536 + i;

		/* A store is seen by read(2); a write(2) by a load that came before; both by the other mapping. */
		map[off] = (unsigned char)(i + 1);
		PT_EQ(pread(fd2, buf, 1, (off_t)off), 1);
		PT_EQ(buf[0], i + 1);
		PT_EQ(map2[off], i + 1);
		buf[0] = (unsigned char)(i + 100);
		PT_EQ(pwrite(fd2, buf, 1, (off_t)off + 1), 1);
		PT_EQ(map[off + 1], i + 100);
		PT_EQ(map2[off + 1], i + 100);
		PT_EQ(map[off], i + 1);
	}
	/* Holes and cuts are seen by loads. */
	PT_SYS(fallocate(fd2, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536));
	PT_EQ(memcmp(map, zero, 4096), 0);
	PT_SYS(fallocate(fd2, FALLOC_FL_ZERO_RANGE, 65536, 65536));
	PT_EQ(map2[65536 + 1], 0);
	map[100] = 7;
	PT_SYS(ftruncate(fd2, 101));
	PT_SYS(ftruncate(fd2, 8192));
	PT_EQ(map[100], 7);
	PT_EQ(map[101], 0);
	PT_EQ(map2[4096], 0);
	PT_SYS(msync(map, 4096, MS_SYNC));
	PT_SYS(munmap(map, 4 << 20));
	PT_SYS(munmap(map2, 4 << 20));
	PT_SYS(close(fd));
	PT_SYS(close(fd2));
	/* What was stored is in the image. */
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	fd = open(P("f"), O_RDONLY);
	PT_EQ(pread(fd, buf, 4096, 0), 4096);
	PT_EQ(buf[100], 7);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static int load_beyond(void *arg)
{
	volatile const char *p = arg;

	(void)signal(SIGBUS, SIG_DFL);	/* a sanitizer would catch it */
	return *p;
}

static void mapped_end(void)
{
	struct pt_fs *fs;
	char *map, buf[4] = "";
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_EQ(write(fd, "abc", 3), 3);
	map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	PT_SYS(close(fd));
	PT_EQ(map[3], 0);
	map[3] = 'x';		/* beyond the end, in the last page: never in the file */
	PT_EQ(pt_wait(pt_fork(load_beyond, map + 4096), 60000), 128 + SIGBUS);
	PT_SYS(msync(map, 4096, MS_SYNC));
	PT_SYS(truncate(P("f"), 10));
	fd = open(P("f"), O_RDONLY);
	PT_EQ(pread(fd, buf, 4, 2), 4);
	PT_EQ(buf[1], 0);
	/* A mapping keeps a file that has no name and no descriptor. */
	PT_SYS(close(fd));
	PT_SYS(unlink(P("f")));
	PT_EQ(map[0], 'a');
	PT_FAILS(pt_umount2(fs->mnt, 0), EBUSY);
	PT_SYS(munmap(map, 16384));
	pt_fs_end(fs);
}

static void mapped_private(void)
{
	struct pt_fs *fs;
	char *map, b;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	PT_EQ(write(fd, "abc", 3), 3);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	map[0] = 'X';
	PT_EQ(pread(fd, &b, 1, 0), 1);
	PT_EQ(b, 'a');
	PT_SYS(munmap(map, 4096));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* The buffer of a call lies in a mapping of the same file: the kernel and the daemon must not wait for each other. */
static void mapped_buffer(void)
{
	struct pt_fs *fs;
	char *map;
	int fd, other;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT, 0644);
	other = open(P("g"), O_RDWR | O_CREAT, 0644);
	PT_SYS(ftruncate(fd, 4 << 20));
	map = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	memset(map, 'm', 1 << 20);
	PT_EQ(pwrite(other, map, 1 << 20, 0), 1 << 20);
	PT_EQ(pread(other, map + (2 << 20), 1 << 20, 0), 1 << 20);
	PT_EQ(map[(2 << 20) + 12345], 'm');
	PT_EQ(pwrite(fd, map, 4096, 3 << 20), 4096);
	PT_EQ(map[(3 << 20) + 5], 'm');
	PT_SYS(munmap(map, 4 << 20));
	PT_SYS(close(fd));
	PT_SYS(close(other));
	pt_fs_end(fs);
}

static void direct_io(void)
{
	struct pt_fs *fs;
	static _Alignas(4096) unsigned char a[1 << 20], b[1 << 20];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("f"), O_RDWR | O_CREAT | O_DIRECT | O_SYNC, 0644);
	PT_SYS_FATAL(fd);
	fill(a, 1 << 20, 3);
	PT_EQ(pwrite(fd, a, 1 << 20, 4096), 1 << 20);
	PT_EQ(pread(fd, b, 1 << 20, 4096), 1 << 20);
	PT_EQ(memcmp(a, b, 1 << 20), 0);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void copies(void)
{
	struct pt_fs *fs;
	static unsigned char a[12 << 20], b[12 << 20];
	int from, to;
	loff_t in = 0, out = 4097;
	size_t left = 12 << 20;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("128M", NULL);
	from = open(P("a"), O_RDWR | O_CREAT, 0644);
	to = open(P("b"), O_RDWR | O_CREAT, 0644);
	fill(a, 12 << 20, 17);
	PT_EQ(pwrite(from, a, 12 << 20, 0), 12 << 20);
	while (left > 0) {
		ssize_t n = copy_file_range(from, &in, to, &out, left, 0);

		PT_SYS_FATAL(n);
		CU_ASSERT_FATAL(n > 0);
		left -= (size_t)n;
	}
	PT_EQ(pread(to, b, 12 << 20, 4097), 12 << 20);
	PT_EQ(memcmp(a, b, 12 << 20), 0);
	in = 12 << 20;
	PT_EQ(copy_file_range(from, &in, to, &out, 100, 0), 0);
	PT_FAILS(copy_file_range(from, NULL, from, NULL, 4096, 1), EINVAL);
	PT_SYS(close(from));
	PT_SYS(close(to));
	pt_fs_end(fs);
}

/* Appenders share a descriptor or have their own; no record is lost, torn or mixed up. */
static int appender(void *arg)
{
	const char *path = arg;
	char rec[5000];
	int fd = open(path, O_WRONLY | O_APPEND);

	for (int i = 0; i < 200; i++) {
		memset(rec, 'A' + (int)getpid() % 26, sizeof rec);
		if (write(fd, rec, sizeof rec) != (ssize_t)sizeof rec)
			return 1;
	}
	return close(fd);
}

static void appends(void)
{
	struct pt_fs *fs;
	pid_t kid[4];
	char rec[5000];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	fd = open(P("log"), O_RDWR | O_CREAT, 0644);
	for (int i = 0; i < 4; i++)
		kid[i] = pt_fork(appender, (void *)(uintptr_t)P("log"));
	for (int i = 0; i < 4; i++)
		PT_EQ(pt_wait(kid[i], 60000), 0);
	PT_EQ(lseek(fd, 0, SEEK_END), 4 * 200 * 5000);
	for (off_t at = 0; at < 4 * 200 * 5000; at += 5000) {
		PT_EQ(pread(fd, rec, sizeof rec, at), sizeof rec);
		for (size_t i = 1; i < sizeof rec; i++) {
			if (rec[i] != rec[0]) {
				pt_say("record at %lld is torn at %zu", (long long)at, i);
				CU_FAIL("torn record");
				at = 4 * 200 * 5000;
				break;
			}
		}
	}
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "random operations 1", random_1, 0 },
		{ "random operations 2", random_2, 0 },
		{ "random operations 3", random_3, 0 },
		{ "borders", borders, 0 },
		{ "limits", limits, 0 },
		{ "holes", holes, 0 },
		{ "fragmented", fragmented, 0 },
		{ "mapped: coherence", mapped_coherence, 0 },
		{ "mapped: end of file", mapped_end, 0 },
		{ "mapped: private", mapped_private, 0 },
		{ "mapped: as a buffer", mapped_buffer, 0 },
		{ "direct I/O", direct_io, 0 },
		{ "copy_file_range", copies, 0 },
		{ "append", appends, 0 },
	};
	static const struct pt_suite suites[] = { { "data", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
