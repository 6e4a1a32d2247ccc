/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_engine.c - the DMA engine in each of its modes on a real mount: what a truncate does meanwhile, and where the
 * bytes go afterwards. Each mode that protects has a twin that does not, in the same play.
 *
 * The transfer has an endless delay, and is told to begin when everything is in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "dma/dma.h"
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/actor.h"
#include "pin/look.h"
#include "pin/victim.h"

#define K UINT64_C(1024)
#define PAGE (4 * K)
#define F_LEN (64 * K)
#define SOON_MS 60000

static struct pt_fs *fs;
static char f[512], v[512];
static struct dma_engine *engine;
static char *map;
static int fd;

static bool begin(const char *opts)
{
	static char byte[F_LEN];

	if (!pt_need_mount())
		return false;
	fs = pt_fs_start("16M", opts);
	(void)snprintf(f, sizeof f, "%s", pt_path(fs, "f"));
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	fd = open(f, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	memset(byte, 'o', sizeof byte);
	PT_EQ(pwrite(fd, byte, F_LEN, 0), (ssize_t)F_LEN);
	map = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	CU_ASSERT_FATAL(dma_engine_start(&engine) == 0);
	return true;
}

static void end(void)
{
	dma_engine_stop(engine);
	PT_SYS(munmap(map, F_LEN));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* Pages 1 to 8, transfer 7, to begin when it is told. */
static long submit(struct dma_how how, struct dma_xfer **x)
{
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);

	d.delay_ns = DMA_NEVER;
	d.pat.dp_id = 7;
	dma_pat_label(&d.pat, "engine");
	return dma_submit_window(engine, map + PAGE, 8 * PAGE, &how, &d, x);
}

static struct dma_stat go(struct dma_xfer *x)
{
	struct dma_stat st;

	dma_xfer_go(x);
	PT_EQ(dma_xfer_wait(x, SOON_MS * UINT64_C(1000000)), 0);
	dma_xfer_stat(x, &st);
	dma_xfer_put(x);
	return st;
}

/*
 * A truncate when the device knows the addresses already. It waits for a pin (-EINPROGRESS), or not longer than the
 * daemon takes to hear that a client has ended.
 */
static long cut(struct actor *c, bool waits)
{
	actor_send(c, act_truncate(f, PAGE));
	if (waits)
		CU_ASSERT(look_until(fs, 1, 1, NULL));
	return actor_result(c, waits ? 0 : SOON_MS);
}

/* What a truncate makes of a transfer, and the transfer of a file that has taken all free blocks. */
static struct dma_stat truncated(struct dma_how how, bool waits, bool damages)
{
	struct actor *c = actor_new();
	struct dma_xfer *x;
	struct dma_stat st;
	uint64_t taken;
	long rc;

	CU_ASSERT_FATAL(submit(how, &x) == 0);
	rc = cut(c, waits);
	PT_EQ(rc, waits ? -EINPROGRESS : 0);
	taken = victim_make(v);
	st = go(x);
	CU_ASSERT(victim_intact(v, taken) != damages);
	if (rc == -EINPROGRESS)
		PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(c);
	PT_SYS(unlink(v));
	return st;
}

static void refill(void)
{
	static char byte[F_LEN];

	memset(byte, 'o', sizeof byte);
	PT_EQ(pwrite(fd, byte, F_LEN, 0), (ssize_t)F_LEN);
}

static void pin_and_raw(void)
{
	struct dma_stat st;

	if (!begin(NULL))
		return;
	st = truncated((struct dma_how){ .mode = DMA_PIN }, true, false);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	refill();
	st = truncated((struct dma_how){ .mode = DMA_PIN, .direct = true }, true, false);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	refill();
	/* The bug: the device does not even notice. */
	st = truncated((struct dma_how){ .mode = DMA_RAW }, false, true);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	end();
}

/* On demand nobody waits, and the page that has left the file cannot be had: the error names it. */
static void odp(void)
{
	struct dma_stat st;
	struct dma_xfer *x;
	struct stat sb;
	struct dma_pat pat = { .dp_id = 7, .dp_foff = PAGE };
	static char got[8 * PAGE];

	if (!begin(NULL))
		return;
	st = truncated((struct dma_how){ .mode = DMA_ODP }, false, false);
	CU_ASSERT(st.ds_err == -EFAULT && st.ds_moved == 0 && st.ds_fault.df_why == DMA_FAULT_PAGE);
	PT_SYS(fstat(fd, &sb));
	CU_ASSERT(st.ds_fault.df_ino == sb.st_ino && st.ds_fault.df_foff == PAGE);
	/* The blocks were others when it was submitted: it goes where they are. */
	refill();
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_ODP }, &x) == 0);
	PT_SYS(ftruncate(fd, 0));
	PT_SYS(fallocate(fd, 0, 0, 2 * F_LEN));
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, F_LEN));
	refill();
	st = go(x);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	pat.dp_ino = sb.st_ino;
	dma_pat_label(&pat, "engine");
	PT_EQ(pread(fd, got, sizeof got, PAGE), (ssize_t)sizeof got);
	CU_ASSERT(dma_pat_check(&pat, PAGE, got, sizeof got, NULL));
	end();
}

/* On demand in the middle: what was translated faults again after a punch, and lands in the new block. */
static void odp_invalidated(void)
{
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	const struct dma_how how = { .mode = DMA_ODP };
	struct dma_iommu_stat is;
	struct dma_pat pat = { .dp_id = 2, .dp_foff = 0 };
	struct dma_xfer *x;
	struct stat sb;
	static char got[F_LEN];

	if (!begin(NULL))
		return;
	PT_SYS(fstat(fd, &sb));
	for (uint64_t id = 1; id <= 2; id++) {
		d.pat = (struct dma_pat){ .dp_id = id };
		CU_ASSERT_FATAL(dma_submit_window(engine, map, F_LEN, &how, &d, &x) == 0);
		PT_EQ(dma_xfer_wait(x, DMA_NEVER), 0);
		dma_xfer_put(x);
		if (id == 1)
			PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, F_LEN));
	}
	dma_iommu_stat(engine, &is);
	PT_EQ(is.is_misses, 32);		/* each page once in each transfer */
	PT_EQ(is.is_faults, 0);
	pat.dp_ino = sb.st_ino;
	PT_EQ(pread(fd, got, F_LEN, 0), (ssize_t)F_LEN);
	CU_ASSERT(dma_pat_check(&pat, 0, got, F_LEN, NULL));
	/* Holes are filled, too. */
	PT_SYS(fstat(fd, &sb));
	PT_EQ(sb.st_blocks * 512, (long long)F_LEN);
	end();
}

/* A transfer on demand neither stops others nor is stopped, when a page is waited for that another transfer pins. */
static void odp_beside_pin(void)
{
	struct actor *c = actor_new();
	struct dma_xfer *pinned, *x;
	struct dma_stat st;

	if (!begin(NULL))
		return;
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_PIN }, &pinned) == 0);
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_ODP }, &x) == 0);
	PT_EQ(cut(c, true), -EINPROGRESS);
	dma_xfer_go(x);
	st = go(pinned);
	PT_EQ(st.ds_err, 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(dma_xfer_wait(x, SOON_MS * UINT64_C(1000000)), 0);
	dma_xfer_put(x);
	actor_end(c);
	end();
}

static void longterm(void)
{
	struct dma_xfer *x;
	struct dma_stat st;

	if (!begin("longterm=refuse"))
		return;
	PT_EQ(submit((struct dma_how){ .mode = DMA_LONG }, &x), -EOPNOTSUPP);
	PT_SYS(ftruncate(fd, 0));		/* and nothing is left behind */
	end();
	if (!begin("longterm=allow"))
		return;
	st = truncated((struct dma_how){ .mode = DMA_LONG }, true, false);
	CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	end();
}

/* Leases */

#define LEASES "longterm=lease,lease_break=revoke"

/* A polite device stops when its lease breaks: nobody waits for the end of the lease's time. */
static void lease_polite(void)
{
	struct actor *c = actor_new();
	struct dma_stat st;
	struct dma_xfer *x;

	if (!begin(LEASES ",lease_time=3600"))
		return;
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_LEASE }, &x) == 0);
	PT_EQ(actor_do(c, act_truncate(f, PAGE)), 0);
	PT_EQ(dma_xfer_wait(x, SOON_MS * UINT64_C(1000000)), 0);
	dma_xfer_stat(x, &st);
	dma_xfer_put(x);
	CU_ASSERT(st.ds_err == -ESTALE && st.ds_moved == 0 && st.ds_fault.df_why == DMA_FAULT_NONE);
	actor_end(c);
	end();
}

/*
 * One that is deaf goes on: then its translations go, and the next access faults. Given the addresses of the blocks
 * themselves, it writes there: they are kept for it until it has ended. (What it does where they are not: test_revoke.)
 */
static void lease_deaf(bool direct)
{
	struct actor *c = actor_new();
	struct dma_stat st;
	struct dma_xfer *x;
	struct stat sb;
	uint64_t taken;

	if (!begin(LEASES ",lease_time=200ms"))
		return;
	PT_SYS(fstat(fd, &sb));
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_LEASE, .deaf = true, .direct = direct }, &x) == 0);
	PT_EQ(actor_do(c, act_truncate(f, PAGE)), 0);
	PT_EQ(look_status(fs, "space.parked"), 8);
	taken = victim_make(v);
	st = go(x);
	CU_ASSERT(victim_intact(v, taken));
	CU_ASSERT(look_parked_until(fs, 0));
	if (direct) {
		CU_ASSERT(st.ds_err == 0 && st.ds_moved == 8 * PAGE);
	} else {
		CU_ASSERT(st.ds_err == -ESTALE && st.ds_moved == 0);
		CU_ASSERT(st.ds_fault.df_why == DMA_FAULT_REVOKED);
		CU_ASSERT(st.ds_fault.df_ino == sb.st_ino && st.ds_fault.df_foff == PAGE);
	}
	/* The window is gone, too; what the truncate left can be had again. */
	PT_EQ(pwrite(fd, "n", 1, 0), 1);
	actor_end(c);
	end();
}

static void lease_revoked(void) { lease_deaf(false); }
static void lease_direct(void) { lease_deaf(true); }

/* In the middle of a slow transfer: what had moved before has, not a byte afterwards. */
static void lease_halfway(void)
{
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	const struct dma_how how = { .mode = DMA_LEASE, .deaf = true };
	struct actor *c = actor_new();
	struct dma_stat st;
	struct dma_xfer *x;
	uint64_t taken, before;

	if (!begin(LEASES ",lease_time=100ms"))
		return;
	d.rate = 32 * K;			/* two seconds for all */
	d.burst = 512;
	CU_ASSERT_FATAL(dma_submit_window(engine, map, F_LEN, &how, &d, &x) == 0);
	do
		dma_xfer_stat(x, &st);
	while (st.ds_moved < PAGE && st.ds_state != DMA_DONE);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	dma_xfer_stat(x, &st);
	before = st.ds_moved;
	taken = victim_make(v);
	PT_EQ(dma_xfer_wait(x, SOON_MS * UINT64_C(1000000)), 0);
	dma_xfer_stat(x, &st);
	dma_xfer_put(x);
	CU_ASSERT(victim_intact(v, taken));
	if (before < F_LEN) {			/* a machine may be slower than that */
		CU_ASSERT(st.ds_err == -ESTALE && st.ds_fault.df_why == DMA_FAULT_REVOKED);
		CU_ASSERT(st.ds_moved - before <= 512);	/* a burst that was over, but not booked yet */
	}
	actor_end(c);
	end();
}

static void lease_needed(void)
{
	struct dma_xfer *x;

	if (!begin("longterm=lease"))
		return;
	PT_EQ(submit((struct dma_how){ .mode = DMA_LONG }, &x), -EPERM);
	CU_ASSERT_FATAL(submit((struct dma_how){ .mode = DMA_LEASE,
						 .lease = PINFS_LEASE_READ | PINFS_LEASE_UNBREAK }, &x) == 0);
	PT_FAILS(truncate(f, 0), EDEADLK);	/* it is our own */
	PT_EQ(go(x).ds_err, 0);
	PT_SYS(truncate(f, 0));
	end();
}

/* The device as a process */

static char sock[512];

static const char *owned(int by_client)
{
	return by_client ? "--owner=client" : "--owner=device";
}

static pid_t serve(void)
{
	char out[512];
	pid_t pid;

	(void)snprintf(sock, sizeof sock, "%.400s/dma.sock", fs->dir);
	pid = pt_spawn((const char *[]){ pt_program("dmaemu"), "serve", "--socket", sock, NULL }, -1, -1);
	for (uint64_t until = pt_now_ms() + SOON_MS; pt_now_ms() < until; pt_sleep_ms(5))
		if (pt_run(out, sizeof out, SOON_MS, (const char *[]){ pt_program("dmaemu"), "list", "--socket", sock,
			   NULL }) == 0)
			break;
	return pid;
}

static int dmaemu(const char *verb, const char *a, const char *b, const char *c, const char *d, const char *e)
{
	char out[1024];
	int rc = pt_run(out, sizeof out, SOON_MS,
			(const char *[]){ pt_program("dmaemu"), verb, "--socket", sock, a, b, c, d, e, NULL });

	if (rc != 0)
		pt_say("dmaemu %s: status %d: %s", verb, rc, out);
	return rc;
}

/*
 * The client dies while the device has the addresses. The device's own pin is waited for; a pin of the client's is not,
 * but its blocks are nobody's until the device has ended.
 */
static void client_dies(bool owner, bool killed)
{
	struct actor *c = actor_new();
	uint64_t taken;
	pid_t server, client;
	long rc;

	if (!begin(NULL))
		return;
	server = serve();
	if (killed) {
		client = pt_spawn((const char *[]){ pt_program("dmaemu"), "submit", "--socket", sock, "--delay=1h",
			"--id=5", "--wait", owned(owner), f, NULL }, -1, -1);
		for (uint64_t until = pt_now_ms() + SOON_MS; pt_now_ms() < until; pt_sleep_ms(5)) {
			char out[2048];

			(void)pt_run(out, sizeof out, SOON_MS, (const char *[]){ pt_program("dmaemu"), "list",
				"--socket", sock, NULL });
			if (strstr(out, "transfer 5") != NULL)
				break;
		}
		pt_kill(client);
	} else {
		PT_EQ(dmaemu("submit", "--delay=1h", "--id=5", owned(owner), f, NULL), 0);
	}
	rc = cut(c, !owner);
	PT_EQ(rc, owner ? 0 : -EINPROGRESS);
	if (owner)
		CU_ASSERT(look_parked_until(fs, 15));
	taken = victim_make(v);
	PT_EQ(dmaemu("go", "5", NULL, NULL, NULL, NULL), 0);
	PT_EQ(dmaemu("wait", "5", NULL, NULL, NULL, NULL), 0);
	CU_ASSERT(victim_intact(v, taken));
	if (!owner)
		PT_EQ(actor_result(c, SOON_MS), 0);
	/* It has ended: all blocks are free again. */
	CU_ASSERT(look_parked_until(fs, 0));
	PT_SYS(kill(server, SIGTERM));
	PT_EQ(pt_wait(server, SOON_MS), 0);
	actor_end(c);
	end();
}

/* A lease and the pin under it go to the device: the client may die, the device is told when the lease breaks. */
static void handed_over(void)
{
	struct actor *c = actor_new();
	struct look l;
	pid_t server;

	if (!begin(LEASES ",lease_time=300ms"))
		return;
	server = serve();
	PT_EQ(dmaemu("submit", "--delay=1h", "--id=5", "--mode=lease", "--owner=handover", f), 0);
	CU_ASSERT(look(fs, &l));
	PT_EQ(l.npin, 1);
	PT_EQ(l.pin[0].pid, server);
	/* Nobody listens there: it is revoked, and the transfer faults. */
	PT_EQ(actor_do(c, act_truncate(f, PAGE)), 0);
	PT_EQ(dmaemu("go", "5", NULL, NULL, NULL, NULL), 0);
	PT_EQ(dmaemu("wait", "5", NULL, NULL, NULL, NULL), 1);
	CU_ASSERT(look_parked_until(fs, 0));
	PT_SYS(kill(server, SIGTERM));
	PT_EQ(pt_wait(server, SOON_MS), 0);
	actor_end(c);
	end();
}

static void device_owns(void) { client_dies(false, true); }
static void client_owned(void) { client_dies(true, true); }
static void client_exits(void) { client_dies(true, false); }

/* kill -9 of the device: its blocks come back, whoever was the owner. */
static void device_dies(void)
{
	struct actor *c = actor_new();
	pid_t server;

	if (!begin(NULL))
		return;
	for (int owner = 0; owner < 2; owner++) {
		server = serve();
		PT_EQ(dmaemu("submit", "--delay=1h", "--id=5", owned(owner), f, NULL), 0);
		PT_EQ(cut(c, !owner), owner ? 0 : -EINPROGRESS);
		pt_kill(server);
		if (!owner)
			PT_EQ(actor_result(c, SOON_MS), 0);
		CU_ASSERT(look_parked_until(fs, 0));
		PT_SYS(unlink(sock));
		refill();
	}
	actor_end(c);
	end();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "pin, and raw", pin_and_raw, 0 },
		{ "on demand", odp, 0 },
		{ "on demand, invalidated", odp_invalidated, 0 },
		{ "on demand, beside a pin", odp_beside_pin, 0 },
		{ "long-term", longterm, 0 },
		{ "lease, and a polite device", lease_polite, 0 },
		{ "lease, and a deaf one", lease_revoked, 0 },
		{ "lease, deaf, without an IOMMU", lease_direct, 0 },
		{ "lease, revoked halfway", lease_halfway, 0 },
		{ "lease or none", lease_needed, 0 },
		{ "a pin of the device", device_owns, 0 },
		{ "a lease that is handed over", handed_over, 0 },
		{ "a pin of a client that is killed", client_owned, 0 },
		{ "a pin of a client that ends", client_exits, 0 },
		{ "the device is killed", device_dies, 0 },
	};
	static const struct pt_suite suites[] = { { "engine", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
