/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_data.c - file contents against a model: every operation that changes bytes or blocks, at random, many
 * times; then what a full device, a huge offset and a pile of extents do.
 *
 * The model knows each byte and, for each page, whether it is a hole, unwritten or written: lseek(2) must agree
 * exactly. PINFS_TEST_SEED and PINFS_TEST_OPS choose another run.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "harness/unit.h"
#include "unit/op_env.h"

#define NFILE 6
#define FMAX ((size_t)5 << 20)
#define FPAGES (FMAX / PF_BLK_SIZE)

enum page { HOLE, UNWRITTEN, WRITTEN };

struct model {
	uint64_t ino;
	size_t size;
	uint8_t *byte;			/* FMAX; zero behind size */
	uint8_t page[FPAGES];
};

static uint64_t rnd_state;

static uint64_t rnd(uint64_t n)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return n != 0 ? rnd_state % n : 0;
}

/* An offset: often near a page or chunk border. */
static size_t some_off(size_t max)
{
	size_t off = rnd(max + 1);

	switch (rnd(4)) {
	case 0:
		off &= ~(size_t)4095;
		break;
	case 1:
		off = (off & ~((size_t)PF_CHUNK_SIZE - 1)) + rnd(9000);
		break;
	default:
		break;
	}
	return off < max ? off : max;
}

static size_t some_len(size_t off)
{
	static const size_t scale[] = { 10, 5000, 20000, 300000, 3 << 20 };
	size_t len = 1 + rnd(scale[rnd(5)]);

	if (rnd(3) == 0)
		len = (len + 4095) & ~(size_t)4095;
	return len < FMAX - off ? len : FMAX - off;
}

static void grow(struct model *m, size_t end)
{
	if (end > m->size)
		m->size = end;
}

static void model_data(struct model *m, size_t off, const uint8_t *src, size_t len)
{
	memcpy(m->byte + off, src, len);
	for (size_t p = off / 4096; p < (off + len + 4095) / 4096; p++)
		m->page[p] = WRITTEN;
	grow(m, off + len);
}

/* Bytes to zero, whole pages to @now (unless holes, when @now is UNWRITTEN and they stay what they are). */
static void model_clear(struct model *m, size_t off, size_t len, enum page now)
{
	size_t first = (off + 4095) / 4096, last = (off + len) / 4096;

	memset(m->byte + off, 0, len);
	for (size_t p = first; p < last; p++)
		m->page[p] = (uint8_t)now;
}

static void model_alloc(struct model *m, size_t off, size_t len)
{
	for (size_t p = off / 4096; p < (off + len + 4095) / 4096; p++)
		if (m->page[p] == HOLE)
			m->page[p] = UNWRITTEN;
}

static void model_truncate(struct model *m, size_t size)
{
	if (size < m->size) {
		memset(m->byte + size, 0, m->size - size);
		for (size_t p = (size + 4095) / 4096; p < FPAGES; p++)
			m->page[p] = HOLE;
	}
	m->size = size;
}

static void model_fault(struct model *m, size_t first, size_t n)
{
	size_t chunk = first & ~(size_t)511;
	bool blank = (chunk + 512) * 4096 <= m->size;

	for (size_t p = chunk; blank && p < chunk + 512; p++)
		blank = m->page[p] != WRITTEN;
	if (blank) {
		n = first + n > chunk + 512 ? first + n - chunk : 512;
		first = chunk;
	}
	for (size_t p = first; p < first + n; p++)
		m->page[p] = WRITTEN;
}

/* ---- comparing ---- */

static void check_seek(struct op_env *e, const struct model *m)
{
	for (int i = 0; i < 6 && m->size > 0; i++) {
		size_t off = some_off(m->size - 1), want;
		uint64_t got = 0;
		int err;

		for (want = off; want < m->size && m->page[want / 4096] != WRITTEN; want = (want / 4096 + 1) * 4096)
			;
		err = pf_op_lseek(e->fs, m->ino, off, SEEK_DATA, &got);
		CU_ASSERT(want >= m->size ? err == -ENXIO : err == 0 && got == want);
		for (want = off; want < m->size && m->page[want / 4096] == WRITTEN; want = (want / 4096 + 1) * 4096)
			;
		err = pf_op_lseek(e->fs, m->ino, off, SEEK_HOLE, &got);
		CU_ASSERT(err == 0 && got == (want < m->size ? want : m->size));
	}
}

static void check_file(struct op_env *e, const struct model *m)
{
	static uint8_t buf[FMAX + 1];
	struct stat st;
	uint64_t blocks = 0;

	CU_ASSERT_EQUAL(pf_op_getattr(e->fs, m->ino, &st, NULL), 0);
	CU_ASSERT_EQUAL((size_t)st.st_size, m->size);
	for (size_t p = 0; p < FPAGES; p++)
		blocks += m->page[p] != HOLE;
	/* Tree nodes are the file's blocks too. */
	CU_ASSERT((uint64_t)st.st_blocks / 8 >= blocks && (uint64_t)st.st_blocks / 8 <= blocks + 12);
	memset(buf, 0xee, m->size + 1);
	CU_ASSERT_EQUAL(op_read(e, m->ino, 0, buf, sizeof buf), (ssize_t)m->size);
	if (memcmp(buf, m->byte, m->size) != 0) {
		size_t i = 0;

		while (buf[i] == m->byte[i])
			i++;
		printf("ino %lu differs at %zu (size %zu): %02x, want %02x\n", (unsigned long)m->ino, i, m->size,
		       buf[i], m->byte[i]);
		CU_FAIL("contents");
	}
	check_seek(e, m);
}

/* ---- one random step ---- */

static uint8_t data[FMAX];

static void step(struct op_env *e, struct model *m, struct model *other)
{
	size_t off = some_off(FMAX - 1), len = some_len(off), end;
	struct pf_inode *ip;
	struct stat st;
	ssize_t want;

	switch (rnd(11)) {
	case 0:
	case 1:
		for (size_t i = 0; i < len; i += 64)
			data[i] = (uint8_t)(1 + rnd(255));
		CU_ASSERT_EQUAL(op_write(e, m->ino, off, data, len), (ssize_t)len);
		model_data(m, off, data, len);
		break;
	case 2:
		len = some_len(m->size);
		if (len == 0)
			break;
		CU_ASSERT_EQUAL(op_append(e, m->ino, data, len), (ssize_t)len);
		model_data(m, m->size, data, len);
		break;
	case 3:
		CU_ASSERT_EQUAL(op_truncate(e, m->ino, off), 0);
		model_truncate(m, off);
		break;
	case 4:
		CU_ASSERT_EQUAL(op_falloc(e, m->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), 0);
		model_clear(m, off, len, HOLE);
		break;
	case 5:
		CU_ASSERT_EQUAL(op_falloc(e, m->ino, FALLOC_FL_ZERO_RANGE, off, len), 0);
		model_alloc(m, off, len);
		model_clear(m, off, len, UNWRITTEN);
		grow(m, off + len);
		break;
	case 6:
		CU_ASSERT_EQUAL(op_falloc(e, m->ino, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len), 0);
		model_alloc(m, off, len);
		model_clear(m, off, len, UNWRITTEN);
		break;
	case 7:
		CU_ASSERT_EQUAL(op_falloc(e, m->ino, 0, off, len), 0);
		model_alloc(m, off, len);
		grow(m, off + len);
		break;
	case 8:
		CU_ASSERT_EQUAL(op_falloc(e, m->ino, FALLOC_FL_KEEP_SIZE, off, len), 0);
		model_alloc(m, off, len);
		break;
	case 9:
		end = some_off(FMAX - len);
		want = off < other->size ? (ssize_t)(len < other->size - off ? len : other->size - off) : 0;
		if (m == other && pf_range_overlap(off, len, end, len))
			want = -EINVAL;
		CU_ASSERT_EQUAL(op_copy(e, other->ino, off, m->ino, end, len), want);
		if (want > 0) {
			memcpy(data, other->byte + off, (size_t)want);
			model_data(m, end, data, (size_t)want);
		}
		break;
	default:
		CU_ASSERT_EQUAL(pf_op_getattr(e->fs, m->ino, &st, NULL), 0);
		if (off >= m->size)
			break;
		off &= ~(size_t)4095;
		len = (len & 0xffff) | 1;
		if (off + len > m->size)
			len = m->size - off;
		CU_ASSERT_EQUAL(pf_op_lookup(e->fs, PF_INO_ROOT, ".none", &(struct pf_entry){ 0 }), -ENOENT);
		for (uint32_t gen = 1; gen < 100; gen++)
			if (pf_op_iget(e->fs, m->ino, gen, &ip) == 0) {
				CU_ASSERT_EQUAL(pf_op_alloc_pages(e->fs, ip, off, len), 0);
				pf_op_iput(e->fs, ip);
				break;
			}
		model_fault(m, off / 4096, (off % 4096 + len + 4095) / 4096);
		break;
	}
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL ? strtoull(s, NULL, 0) : otherwise;
}

static void test_model(void)
{
	static struct model m[NFILE];
	uint64_t ops = from_env("PINFS_TEST_OPS", 3000);
	struct op_env e;
	char name[16];

	rnd_state = from_env("PINFS_TEST_SEED", 20240611);
	op_env_open(&e, 96 << 20);
	for (int i = 0; i < NFILE; i++) {
		snprintf(name, sizeof name, "f%d", i);
		m[i].byte = calloc(1, FMAX);
		CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, name, S_IFREG | 0644, &m[i].ino), 0);
	}
	for (uint64_t n = 0; n < ops && CU_get_number_of_failures() == 0; n++) {
		struct model *f = &m[rnd(NFILE)];

		step(&e, f, &m[rnd(NFILE)]);
		if (n % 8 == 0)
			check_file(&e, f);
		if (n % 500 == 499) {
			op_env_remount(&e);
			for (int i = 0; i < NFILE; i++)
				check_file(&e, &m[i]);
		}
		if (CU_get_number_of_failures() != 0)
			printf("failed at operation %lu\n", (unsigned long)n);
	}
	for (int i = 0; i < NFILE; i++)
		free(m[i].byte);
	op_env_close(&e);
}

/* ---- full device ---- */

static void test_full(void)
{
	struct statvfs before, sv;
	struct op_env e;
	uint64_t ino, other;
	uint64_t total = 0;
	ssize_t n;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "g", S_IFREG | 0644, &other), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &before), 0);
	memset(data, 7, sizeof data);
	/* A fallocate that cannot succeed takes nothing. */
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, (before.f_bavail + 1) * 4096), -ENOSPC);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &sv), 0);
	CU_ASSERT_EQUAL(sv.f_bfree, before.f_bfree);
	do {
		n = op_write(&e, ino, total, data, 777777);
		if (n > 0)
			total += (uint64_t)n;
	} while (n == 777777);
	CU_ASSERT(n == -ENOSPC || n > 0);	/* a short write comes first */
	CU_ASSERT_EQUAL(op_write(&e, ino, total + 8192, data, 100), -ENOSPC);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &sv), 0);
	CU_ASSERT(sv.f_bavail < 4);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "h", S_IFREG | 0644, NULL), -ENOSPC);
	/* Overwriting, punching, cutting and unlinking work on a full device. */
	CU_ASSERT_EQUAL(op_write(&e, ino, 5, data, 1000000), 1000000);
	for (uint64_t off = 8192; off < 4 << 20; off += 8192)
		CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, 4096), 0);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 3003001), 0);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_read(&e, ino, 3003000, data, 10), 1);
	CU_ASSERT_EQUAL(data[0], 7);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "f"), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &sv), 0);
	CU_ASSERT(sv.f_bfree >= before.f_bfree - 1);	/* an orphan block may have been made */
	op_env_close(&e);
}

/* ---- limits ---- */

static void test_limits(void)
{
	struct op_env e;
	uint64_t ino, dir, out;
	struct stat st;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL(op_write(&e, ino, PF_FILE_MAX, "x", 1), -EFBIG);
	CU_ASSERT_EQUAL(op_write(&e, ino, PF_FILE_MAX - 1, "xy", 2), 1);
	CU_ASSERT_EQUAL(op_append(&e, ino, "x", 1), -EFBIG);
	CU_ASSERT_EQUAL(pf_op_lseek(e.fs, ino, 0, SEEK_DATA, &out), 0);
	CU_ASSERT_EQUAL(out, PF_FILE_MAX - 4096);
	CU_ASSERT_EQUAL(pf_op_getattr(e.fs, ino, &st, NULL), 0);
	CU_ASSERT_EQUAL((uint64_t)st.st_size, PF_FILE_MAX);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, PF_FILE_MAX, 1), -EFBIG);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, 0, 0, 0), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_PUNCH_HOLE, 0, 4096), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_COLLAPSE_RANGE, 0, PF_FILE_MAX), -EINVAL);
	CU_ASSERT_EQUAL(op_falloc(&e, dir, 0, 0, 4096), -EISDIR);
	CU_ASSERT_EQUAL(op_truncate(&e, dir, 0), -EISDIR);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, PF_FILE_MAX + 1), -EFBIG);
	CU_ASSERT_EQUAL(op_write(&e, dir, 0, "x", 1), -EISDIR);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 0), 0);
	op_env_close(&e);
}

/* A file of many extents is cut in several transactions. */
static void test_many_extents(void)
{
	const uint64_t npage = 40000;
	struct statvfs before, after;
	struct op_env e;
	uint64_t ino;
	uint8_t b;

	op_env_open(&e, 256 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0644, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &before), 0);
	for (uint64_t p = 0; p < npage; p += 2)
		CU_ASSERT_EQUAL(op_write(&e, ino, p * 4096, "ab", 2), 2);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_ZERO_RANGE, 4096 * 10 + 1, 4096 * 9000), 0);
	CU_ASSERT_EQUAL(op_read(&e, ino, 4096 * 10, &b, 1), 1);
	CU_ASSERT_EQUAL(b, 'a');
	CU_ASSERT_EQUAL(op_read(&e, ino, 4096 * 5000, &b, 1), 1);
	CU_ASSERT_EQUAL(b, 0);
	CU_ASSERT_EQUAL(op_falloc(&e, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096 * 20000, 4096 * 15001), 0);
	CU_ASSERT_EQUAL(op_read(&e, ino, 4096 * 19998, &b, 1), 1);
	CU_ASSERT_EQUAL(b, 'a');
	CU_ASSERT_EQUAL(op_read(&e, ino, 4096 * 20000, &b, 1), 1);
	CU_ASSERT_EQUAL(b, 0);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 4097), 0);
	CU_ASSERT_EQUAL(op_read(&e, ino, 0, &b, 1), 1);
	CU_ASSERT_EQUAL(b, 'a');
	CU_ASSERT_EQUAL(op_truncate(&e, ino, 0), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &after), 0);
	CU_ASSERT(after.f_bfree + 1 >= before.f_bfree);
	op_env_close(&e);
}

/* A big file lies in the device as it lies in itself: 2 MiB chunks that one mapping covers. */
static void test_alignment(void)
{
	const size_t piece[] = { 128 << 10, 1 << 20, 6 << 20 };
	struct pf_dext ext[64];
	struct op_env e;

	op_env_open(&e, 128 << 20);
	for (size_t k = 0; k < PF_ARRAY_LEN(piece); k++) {
		struct pf_inode *ip;
		unsigned int n = 64, good = 0;
		struct pf_entry entry;
		uint64_t size;
		char name[8];
		size_t len;

		snprintf(name, sizeof name, "f%zu", k);
		CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, name, S_IFREG | 0600, 0, &entry), 0);
		/* No request is larger than 1 MiB. */
		for (size_t off = 0; off < 12 << 20; off += len) {
			len = piece[k] < 1 << 20 ? piece[k] : 1 << 20;
			CU_ASSERT_EQUAL(op_write(&e, entry.ino, off, data, len), (ssize_t)len);
		}
		CU_ASSERT_EQUAL(pf_op_iget(e.fs, entry.ino, entry.gen, &ip), 0);
		CU_ASSERT_EQUAL(pf_op_extents(e.fs, ip, 0, UINT64_MAX, ext, &n, &size), 0);
		CU_ASSERT_EQUAL(size, 12 << 20);
		for (unsigned int i = 0; i < n; i++)
			if (ext[i].foff % PF_CHUNK_SIZE == ext[i].doff % PF_CHUNK_SIZE)
				good += (unsigned int)(ext[i].len / PF_CHUNK_SIZE);
		CU_ASSERT(good >= 5);
		pf_op_iput(e.fs, ip);
		pf_op_forget(e.fs, entry.ino, 1);
	}
	op_env_close(&e);
}

/* ---- threads ---- */

enum { RECORD = 3 * 4096, ROUNDS = 3000 };

struct crew {
	struct op_env *e;
	uint64_t ino;
	_Atomic bool stop;
	_Atomic unsigned int bad, full;
	pthread_barrier_t filled;	/* nobody gives back what the others were to miss */
};

/* Overwrites one record, sometimes through a hole, so that both kinds of write take part. */
static void *writer(void *arg)
{
	static _Atomic unsigned int ids;
	struct crew *c = arg;
	uint8_t *buf = malloc(RECORD);
	unsigned int id = ids++;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		memset(buf, (int)(id * 2 + i % 2 + 1), RECORD);
		c->bad += op_write(c->e, c->ino, 0, buf, RECORD) != RECORD;
		if (i % 50 == 0)
			c->bad += op_falloc(c->e, c->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, RECORD) != 0;
	}
	free(buf);
	return NULL;
}

/* A read sees all of a write or nothing of it. */
static void *reader(void *arg)
{
	struct crew *c = arg;

	while (!c->stop) {
		struct pf_rd rd;
		int first = -1;

		if (pf_op_read_begin(c->e->fs, c->ino, 0, RECORD, &rd) != 0) {
			c->bad++;
			continue;
		}
		for (int i = 0; i < rd.n; i++)
			for (size_t k = 0; k < rd.iov[i].iov_len; k += 512) {
				int b = ((const uint8_t *)rd.iov[i].iov_base)[k];

				first = first < 0 ? b : first;
				c->bad += b != first;
			}
		c->bad += rd.got != RECORD;
		pf_op_read_end(c->e->fs, &rd);
	}
	return NULL;
}

/* Grows and cuts the file behind the record. */
static void *cutter(void *arg)
{
	struct crew *c = arg;
	struct stat st;

	while (!c->stop) {
		c->bad += op_append(c->e, c->ino, data, 300000) != 300000;
		c->bad += op_truncate(c->e, c->ino, RECORD + 1) != 0;
		c->bad += pf_op_getattr(c->e->fs, c->ino, &st, NULL) != 0 || st.st_size < RECORD;
	}
	return NULL;
}

static void test_threads(void)
{
	static void *(*const job[])(void *) = { writer, writer, reader, reader, cutter };
	pthread_t tid[PF_ARRAY_LEN(job)];
	struct crew c = { 0 };
	struct op_env e;

	op_env_open(&e, 32 << 20);
	c.e = &e;
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0600, &c.ino), 0);
	CU_ASSERT_EQUAL(op_truncate(&e, c.ino, RECORD), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(job); i++)
		CU_ASSERT_EQUAL(pthread_create(&tid[i], NULL, job[i], &c), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(job); i++) {
		CU_ASSERT_EQUAL(pthread_join(tid[i], NULL), 0);
		c.stop = i >= 1;	/* both writers are through */
	}
	CU_ASSERT_EQUAL(c.bad, 0);
	op_env_close(&e);
}

/* Everybody wants more than there is: -ENOSPC or a short write, never anything else, and nothing is lost on the way. */
static void *hog(void *arg)
{
	static _Atomic unsigned int ids;
	struct crew *c = arg;
	unsigned int id = ids++, seed = id + 1;
	char name[16];

	for (unsigned int i = 0; i < 1500; i++) {
		size_t len = (seed = seed * 1103515245 + 12345) >> 8 & 0xfffff;
		uint64_t ino;
		ssize_t n;
		int err;

		snprintf(name, sizeof name, "%u-%u", id, i % 20);
		err = op_create(c->e, PF_INO_ROOT, name, S_IFREG | 0600, &ino);
		if (err == -EEXIST)
			err = op_lookup(c->e, PF_INO_ROOT, name, &ino);
		if (err == -ENOSPC)
			continue;
		c->bad += err != 0;
		n = op_write(c->e, ino, len % 5 * 100000, data, len);
		c->bad += n != -ENOSPC && (n < 0 || (size_t)n > len);
		c->full += n == -ENOSPC;
		if (len % 3 == 0)
			c->bad += op_falloc(c->e, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, len, 50000) != 0;
		err = len % 7 == 0 ? op_falloc(c->e, ino, FALLOC_FL_ZERO_RANGE, len / 2, len + 1) : 0;
		c->bad += err != 0 && err != -ENOSPC;
		if (len % 16 == 0)
			c->bad += op_truncate(c->e, ino, len / 3) != 0;
		if (len % 4 == 1)
			c->bad += pf_op_unlink(c->e->fs, PF_INO_ROOT, name) != 0;
	}
	(void)pthread_barrier_wait(&c->filled);
	for (unsigned int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "%u-%u", id, i);
		(void)pf_op_unlink(c->e->fs, PF_INO_ROOT, name);
	}
	return NULL;
}

static void test_threads_full(void)
{
	struct statvfs before, after;
	struct crew c = { 0 };
	pthread_t tid[4];
	struct op_env e;

	op_env_open(&e, 16 << 20);
	c.e = &e;
	CU_ASSERT_EQUAL_FATAL(pthread_barrier_init(&c.filled, NULL, PF_ARRAY_LEN(tid)), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &before), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(tid); i++)
		CU_ASSERT_EQUAL(pthread_create(&tid[i], NULL, hog, &c), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(tid); i++)
		CU_ASSERT_EQUAL(pthread_join(tid[i], NULL), 0);
	(void)pthread_barrier_destroy(&c.filled);
	CU_ASSERT_EQUAL(c.bad, 0);
	CU_ASSERT(c.full > 100);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &after), 0);
	CU_ASSERT(after.f_bfree + 2 >= before.f_bfree);		/* the orphan list's block stays */
	op_env_close(&e);
}

static const struct unit_case cases[] = {
	{ "random operations agree with the model", test_model },
	{ "a full device", test_full },
	{ "sizes, modes and types at their limits", test_limits },
	{ "a file of very many extents", test_many_extents },
	{ "big files are 2 MiB aligned", test_alignment },
	{ "threads read, write and cut one file", test_threads },
	{ "threads on a full device", test_threads_full },
};

int main(void)
{
	return unit_main("op_data", cases, PF_ARRAY_LEN(cases));
}
