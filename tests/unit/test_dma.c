/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dma.c - the DMA engine on a plain file: no mount, no pins, only bytes and time.
 *
 * The "device" is a memfd. Every test starts its own engine; nothing is left behind.
 */
#include "dma/dma.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <CUnit/Basic.h>

#define DEV_BYTES ((size_t)1 << 20)
#define MS UINT64_C(1000000)

struct rig {
	int fd;
	uint8_t *mem;		/* the test's own view of the device */
	struct dma_engine *e;
	struct dma_dev *dev;
};

static void rig_up(struct rig *r)
{
	r->fd = memfd_create("test_dma", MFD_CLOEXEC);
	CU_ASSERT_FATAL(r->fd >= 0);
	CU_ASSERT_FATAL(ftruncate(r->fd, DEV_BYTES) == 0);
	r->mem = mmap(NULL, DEV_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	CU_ASSERT_FATAL(r->mem != MAP_FAILED);
	CU_ASSERT_FATAL(dma_engine_start(&r->e) == 0);
	CU_ASSERT_FATAL(dma_dev_get(r->e, r->fd, &r->dev) == 0);
	CU_ASSERT_EQUAL(dma_dev_bytes(r->dev), DEV_BYTES);
}

static void rig_down(struct rig *r)
{
	dma_dev_put(r->dev);
	dma_engine_stop(r->e);
	(void)munmap(r->mem, DEV_BYTES);
	(void)close(r->fd);
}

static struct dma_pat pat(uint64_t id, uint64_t ino, uint64_t foff, const char *label)
{
	struct dma_pat p = { .dp_id = id, .dp_ino = ino, .dp_foff = foff };

	dma_pat_label(&p, label);
	return p;
}

struct runs {
	struct dma_run r[16];
	size_t n, most;
};

static bool collect(void *arg, const struct dma_run *run)
{
	struct runs *rs = arg;

	if (rs->n < 16)
		rs->r[rs->n] = *run;
	rs->n++;
	return rs->most == 0 || rs->n < rs->most;
}

static void test_pattern_any_alignment(void)
{
	struct dma_pat p = pat(7, 12, 1000, "seven");
	uint8_t whole[4096], piece[4096];

	dma_pat_fill(&p, 1000, whole, sizeof whole);
	for (size_t at = 0; at < 300; at += 7) {
		for (size_t len = 0; len < 200; len += 13) {
			dma_pat_fill(&p, 1000 + at, piece, len);
			CU_ASSERT(memcmp(piece, whole + at, len) == 0);
			CU_ASSERT(dma_pat_check(&p, 1000 + at, whole + at, len, NULL));
		}
	}
}

static void test_check_names_the_stranger(void)
{
	struct dma_pat mine = pat(1, 12, 0, "mine"), other = pat(2, 13, 8192, "other");
	uint8_t buf[4096];
	struct dma_miss miss;

	dma_pat_fill(&mine, 0, buf, sizeof buf);
	CU_ASSERT(dma_pat_check(&mine, 0, buf, sizeof buf, &miss));
	/* One bit anywhere is seen. */
	for (size_t i = 0; i < 256; i++) {
		buf[i] ^= 1;
		CU_ASSERT(!dma_pat_check(&mine, 0, buf, sizeof buf, &miss));
		CU_ASSERT_EQUAL(miss.dm_foff, i);
		CU_ASSERT_EQUAL(miss.dm_want ^ miss.dm_got, 1);
		CU_ASSERT(!miss.dm_foreign);
		buf[i] ^= 1;
	}
	dma_pat_fill(&other, 8192 + 64, buf + 128, 64);
	CU_ASSERT(!dma_pat_check(&mine, 0, buf, sizeof buf, &miss));
	CU_ASSERT(miss.dm_foreign);
	CU_ASSERT_EQUAL(miss.dm_line.dr_id, 2);
	CU_ASSERT_EQUAL(miss.dm_line.dr_ino, 13);
	CU_ASSERT_EQUAL(miss.dm_line.dr_foff, 8192 + 64);
	CU_ASSERT_EQUAL(miss.dm_line.dr_seq, 1);
	CU_ASSERT_STRING_EQUAL(miss.dm_line.dr_label, "other");
}

static void test_scan(void)
{
	struct dma_pat a = pat(1, 12, 0, "a"), b = pat(2, 13, 4096, "sixteen bytes ok");
	struct runs rs = { .n = 0 };
	static uint8_t buf[64 * 1024];

	memset(buf, 0x5a, sizeof buf);
	CU_ASSERT_EQUAL(dma_scan(buf, sizeof buf, 0, collect, &rs), 0);
	CU_ASSERT_EQUAL(rs.n, 0);

	dma_pat_fill(&a, 0, buf + 4096, 4096);		/* one run */
	dma_pat_fill(&b, 4096, buf + 8192, 128);	/* at once after it: another transfer */
	dma_pat_fill(&a, 8192, buf + 20008, 64);	/* unaligned copy */
	dma_pat_fill(&a, 0, buf + 30016, 63);		/* a line cut short is none */
	CU_ASSERT_EQUAL(dma_scan(buf, sizeof buf, 100, collect, &rs), 4096 + 128 + 64);
	CU_ASSERT_EQUAL_FATAL(rs.n, 3);
	CU_ASSERT_EQUAL(rs.r[0].dr_pos, 4196);
	CU_ASSERT_EQUAL(rs.r[0].dr_len, 4096);
	CU_ASSERT_EQUAL(rs.r[0].dr_id, 1);
	CU_ASSERT_EQUAL(rs.r[1].dr_pos, 8292);
	CU_ASSERT_EQUAL(rs.r[1].dr_len, 128);
	CU_ASSERT_EQUAL(rs.r[1].dr_foff, 4096);
	CU_ASSERT_STRING_EQUAL(rs.r[1].dr_label, "sixteen bytes ok");
	CU_ASSERT_EQUAL(rs.r[2].dr_pos, 20108);
	CU_ASSERT_EQUAL(rs.r[2].dr_foff, 8192);

	rs = (struct runs){ .most = 1 };
	(void)dma_scan(buf, sizeof buf, 0, collect, &rs);
	CU_ASSERT_EQUAL(rs.n, 1);
	/* A line with a spoilt checksum is nobody's. */
	buf[4096 + 63] ^= 0x80;
	rs = (struct runs){ .n = 0 };
	CU_ASSERT_EQUAL(dma_scan(buf, 4096 + 4096, 0, collect, &rs), 4096 - 64);
}

static void test_scan_file(void)
{
	struct dma_pat p = pat(9, 12, 0, "nine");
	struct runs rs = { .n = 0 };
	uint64_t found = 0;
	size_t len = ((size_t)3 << 20) + 192;
	uint8_t *buf = malloc(len);
	int fd = memfd_create("scan", MFD_CLOEXEC);

	CU_ASSERT_FATAL(buf != NULL && fd >= 0);
	dma_pat_fill(&p, 0, buf, len);
	CU_ASSERT(pwrite(fd, buf, len, 0) == (ssize_t)len);
	CU_ASSERT(dma_scan_fd(fd, collect, &rs, &found) == 0);
	CU_ASSERT_EQUAL(found, len);
	CU_ASSERT_EQUAL(rs.n, 1);	/* one run across all pieces */
	CU_ASSERT_EQUAL(rs.r[0].dr_len, len);
	(void)close(fd);
	CU_ASSERT(dma_scan_fd(fd, collect, &rs, NULL) == -EBADF);
	free(buf);
}

/* Ranges in any order on the device, unaligned, one of a single byte. */
static void test_scatter(void)
{
	const struct pinfs_sg sg[] = {
		{ .sg_doff = 8192 + 100, .sg_len = 3996, .sg_foff = 100 },
		{ .sg_doff = 4096, .sg_len = 1, .sg_foff = 4096 },
		{ .sg_doff = 40000, .sg_len = 5000, .sg_foff = 4097 },
	};
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_xfer *x;
	struct dma_stat st;
	uint8_t want[8997], got[8997];
	struct rig r;

	rig_up(&r);
	memset(r.mem, 0xee, DEV_BYTES);
	d.sg = sg;
	d.nsg = 3;
	d.burst = 777;
	d.pat = pat(3, 12, 100, "three");
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT_EQUAL(st.ds_err, 0);
	CU_ASSERT_EQUAL(st.ds_moved, 8997);
	dma_xfer_put(x);
	dma_pat_fill(&d.pat, 100, want, sizeof want);
	CU_ASSERT(memcmp(r.mem + 8292, want, 3996) == 0);
	CU_ASSERT(r.mem[4096] == want[3996]);
	CU_ASSERT(memcmp(r.mem + 40000, want + 3997, 5000) == 0);
	CU_ASSERT(r.mem[8291] == 0xee && r.mem[8292 + 3996] == 0xee && r.mem[4097] == 0xee && r.mem[45000] == 0xee);

	/* Read it back into memory, check it in place, then spoil a byte and check again. */
	d.dir = DMA_TO_DEVICE;
	d.buf = got;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_put(x);
	CU_ASSERT(memcmp(want, got, sizeof want) == 0);
	d.buf = NULL;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT_EQUAL(st.ds_err, 0);
	dma_xfer_put(x);
	r.mem[40001] ^= 4;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT_EQUAL(st.ds_err, -EBADMSG);
	CU_ASSERT_EQUAL(st.ds_miss.dm_foff, 4098);
	dma_xfer_put(x);

	/* And from memory. */
	memset(got, 0x11, sizeof got);
	d.dir = DMA_FROM_DEVICE;
	d.buf = got;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_put(x);
	CU_ASSERT(r.mem[8292] == 0x11 && r.mem[44999] == 0x11 && r.mem[45000] == 0xee);
	rig_down(&r);
}

struct record {
	atomic_int order, released, done;
	struct dma_stat st;
};

static void on_release(void *hold)
{
	struct record *rec = hold;

	rec->released = ++rec->order;
}

static void on_done(void *arg, const struct dma_stat *st)
{
	struct record *rec = arg;

	rec->st = *st;
	rec->done = ++rec->order;
}

static void test_delay_and_rate(void)
{
	const struct pinfs_sg sg = { .sg_doff = 0, .sg_len = 65536, .sg_foff = 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct record rec = { .order = 0 };
	struct dma_xfer *x;
	struct dma_stat st;
	struct rig r;

	rig_up(&r);
	d.sg = &sg;
	d.nsg = 1;
	d.pat = pat(4, 12, 0, "four");

	/* Nothing before the delay is over. */
	d.delay_ns = 3600000 * MS;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, 20 * MS) == -ETIMEDOUT);
	dma_xfer_stat(x, &st);
	CU_ASSERT(st.ds_state == DMA_QUEUED && st.ds_moved == 0);
	CU_ASSERT_EQUAL(r.mem[0], 0);
	dma_xfer_cancel(x);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_put(x);

	d.delay_ns = 50 * MS;
	d.rate = 1 << 20;	/* 64 KiB: 62.5 ms */
	d.release = on_release;
	d.hold = &rec;
	d.done = on_done;
	d.arg = &rec;
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	/* Held to the end, then told: in this order, and both before the transfer counts as done. */
	CU_ASSERT_EQUAL(rec.released, 1);
	CU_ASSERT_EQUAL(rec.done, 2);
	CU_ASSERT(rec.st.ds_state == DMA_DONE && rec.st.ds_moved == 65536 && rec.st.ds_err == 0);
	CU_ASSERT(rec.st.ds_start_ns - rec.st.ds_submit_ns >= 50 * MS);
	CU_ASSERT(rec.st.ds_end_ns - rec.st.ds_start_ns >= 62 * MS);
	dma_xfer_put(x);
	rig_down(&r);
}

static void limits(uint64_t stop_at, uint64_t error_at, int want_err, uint64_t want_moved)
{
	const struct pinfs_sg sg = { .sg_doff = 4096, .sg_len = 10000, .sg_foff = 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_xfer *x;
	struct dma_stat st;
	struct rig r;

	rig_up(&r);
	d.sg = &sg;
	d.nsg = 1;
	d.stop_at = stop_at;
	d.error_at = error_at;
	d.error = -EREMOTEIO;
	d.pat = pat(5, 12, 0, "five");
	CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
	CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
	dma_xfer_stat(x, &st);
	CU_ASSERT_EQUAL(st.ds_err, want_err);
	CU_ASSERT_EQUAL(st.ds_moved, want_moved);
	CU_ASSERT_EQUAL(st.ds_len, 10000);
	CU_ASSERT(dma_pat_check(&d.pat, 0, r.mem + 4096, want_moved, NULL));
	for (size_t i = 4096 + want_moved; i < 20480; i++)
		CU_ASSERT(r.mem[i] == 0);	/* not a byte more */
	dma_xfer_put(x);
	rig_down(&r);
}

static void test_stop_and_error(void)
{
	limits(DMA_NEVER, DMA_NEVER, 0, 10000);
	limits(0, DMA_NEVER, 0, 0);
	limits(5001, DMA_NEVER, 0, 5001);
	limits(20000, DMA_NEVER, 0, 10000);
	limits(DMA_NEVER, 0, -EREMOTEIO, 0);
	limits(DMA_NEVER, 4097, -EREMOTEIO, 4097);
	limits(DMA_NEVER, 10000, -EREMOTEIO, 10000);
	limits(DMA_NEVER, 10001, 0, 10000);
	limits(100, 200, 0, 100);
	limits(200, 100, -EREMOTEIO, 100);
}

static void test_cancel(void)
{
	const struct pinfs_sg sg = { .sg_doff = 0, .sg_len = 8192, .sg_foff = 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct record rec[3] = { { .order = 0 } };
	struct dma_xfer *x[3];
	struct dma_stat st;
	struct rig r;

	rig_up(&r);
	d.sg = &sg;
	d.nsg = 1;
	d.release = on_release;
	for (int i = 0; i < 3; i++) {
		d.hold = &rec[i];
		d.delay_ns = i == 2 ? DMA_NEVER : 0;	/* a delay past the end of time is for ever */
		d.rate = 1;				/* more than an hour for the first burst */
		CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x[i]) == 0);
	}
	CU_ASSERT(dma_xfer_wait(x[0], 20 * MS) == -ETIMEDOUT);
	dma_xfer_cancel(x[0]);
	CU_ASSERT(dma_xfer_wait(x[0], 120000 * MS) == 0);
	dma_xfer_stat(x[0], &st);
	CU_ASSERT(st.ds_err == -ECANCELED && st.ds_moved == 0);
	CU_ASSERT_EQUAL(rec[0].released, 1);
	dma_xfer_cancel(x[0]);		/* once more does nothing */
	CU_ASSERT_EQUAL(rec[1].released + rec[2].released, 0);
	/* Stopping the engine ends the others; their handles outlive it. */
	dma_dev_put(r.dev);
	dma_engine_stop(r.e);
	for (int i = 1; i < 3; i++) {
		CU_ASSERT(dma_xfer_wait(x[i], 0) == 0);
		dma_xfer_stat(x[i], &st);
		CU_ASSERT_EQUAL(st.ds_err, -ECANCELED);
		CU_ASSERT_EQUAL(rec[i].released, 1);
		dma_xfer_put(x[i]);
	}
	CU_ASSERT_EQUAL(r.mem[0], 0);
	dma_xfer_put(x[0]);
	(void)munmap(r.mem, DEV_BYTES);
	(void)close(r.fd);
}

static void test_bad_descriptors(void)
{
	struct pinfs_sg sg = { .sg_doff = 0, .sg_len = 4096, .sg_foff = 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_dev *ro;
	char path[64];
	struct rig r;
	int fd;

	rig_up(&r);
	d.sg = &sg;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);	/* no ranges */
	d.nsg = 1;
	sg.sg_len = 0;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);
	sg.sg_len = DEV_BYTES + 1;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);
	sg.sg_doff = DEV_BYTES;
	sg.sg_len = 1;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);
	sg.sg_doff = UINT64_MAX - 1;
	sg.sg_len = 4096;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);
	sg.sg_doff = 0;
	d.dir = DMA_DIR_NR;
	CU_ASSERT(dma_submit(r.e, r.dev, &d, NULL) == -EINVAL);

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", r.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_FATAL(dma_dev_get(r.e, fd, &ro) == 0);
	CU_ASSERT(ro != r.dev);		/* the writable mapping is not lent to a reader */
	d.dir = DMA_FROM_DEVICE;
	CU_ASSERT(dma_submit(r.e, ro, &d, NULL) == -EACCES);
	dma_dev_put(ro);
	(void)close(fd);
	CU_ASSERT(dma_dev_get(r.e, fd, &ro) == -EBADF);
	fd = open("/dev", O_RDONLY | O_CLOEXEC);
	CU_ASSERT(dma_dev_get(r.e, fd, &ro) == -EINVAL);
	(void)close(fd);
	rig_down(&r);
}

#define MANY 2000

static void count_done(void *arg, const struct dma_stat *st)
{
	atomic_int *n = arg;

	if (st->ds_err == 0 && st->ds_moved == 256)
		(*n)++;
}

/* Submitted by several threads, most without a handle, a few cancelled while they move. */
struct submitter {
	struct rig *r;
	int first;
	atomic_int *n;
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;

	for (int i = s->first; i < MANY; i += 4) {
		struct pinfs_sg sg = { .sg_doff = (uint64_t)i * 256, .sg_len = 256, .sg_foff = (uint64_t)i * 256 };
		struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);

		d.sg = &sg;
		d.nsg = 1;
		d.burst = 64;
		d.delay_ns = (uint64_t)(i % 7) * MS;
		d.pat = pat((uint64_t)i, 12, sg.sg_foff, "many");
		d.done = count_done;
		d.arg = s->n;
		CU_ASSERT(dma_submit(s->r->e, s->r->dev, &d, NULL) == 0);
	}
	return NULL;
}

static void test_many(void)
{
	struct pinfs_sg sg = { .sg_doff = DEV_BYTES - 4096, .sg_len = 4096, .sg_foff = 0 };
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct submitter s[4];
	struct dma_xfer *x;
	pthread_t t[4];
	atomic_int n = 0;
	struct rig r;

	rig_up(&r);
	for (int i = 0; i < 4; i++) {
		s[i] = (struct submitter){ .r = &r, .first = i, .n = &n };
		CU_ASSERT_FATAL(pthread_create(&t[i], NULL, submit_many, &s[i]) == 0);
	}
	d.sg = &sg;
	d.nsg = 1;
	d.burst = 64;
	for (int i = 0; i < 50; i++) {
		CU_ASSERT_FATAL(dma_submit(r.e, r.dev, &d, &x) == 0);
		dma_xfer_cancel(x);
		CU_ASSERT(dma_xfer_wait(x, DMA_NEVER) == 0);
		dma_xfer_put(x);
	}
	for (int i = 0; i < 4; i++)
		(void)pthread_join(t[i], NULL);
	for (int i = 0; i < 120000 && n < MANY; i++)
		(void)usleep(1000);
	CU_ASSERT_EQUAL(n, MANY);
	for (int i = 0; i < MANY; i++) {
		struct dma_pat p = pat((uint64_t)i, 12, (uint64_t)i * 256, "many");

		CU_ASSERT(dma_pat_check(&p, p.dp_foff, r.mem + i * 256, 256, NULL));
	}
	rig_down(&r);
}

int main(void)
{
	CU_pSuite s;
	unsigned int failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	s = CU_add_suite("dma", NULL, NULL);
	CU_add_test(s, "pattern at any alignment", test_pattern_any_alignment);
	CU_add_test(s, "check names the stranger", test_check_names_the_stranger);
	CU_add_test(s, "scan", test_scan);
	CU_add_test(s, "scan a file", test_scan_file);
	CU_add_test(s, "scatter, gather, check", test_scatter);
	CU_add_test(s, "delay and rate", test_delay_and_rate);
	CU_add_test(s, "stop and error", test_stop_and_error);
	CU_add_test(s, "cancel and stop", test_cancel);
	CU_add_test(s, "bad descriptors", test_bad_descriptors);
	CU_add_test(s, "many at once", test_many);
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	failed = CU_get_number_of_tests_failed();
	printf("%u passed, %u failed, 0 skipped\n", CU_get_number_of_tests_run() - failed, failed);
	CU_cleanup_registry();
	return failed != 0;
}
