/* SPDX-License-Identifier: BSD-3-Clause */
/* test_pmem.c - which devices are taken, how they are locked, and what a drain makes durable, in both modes. */
#include "harness/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "media/pmem.h"

#define MIB (UINT64_C(1) << 20)

static int try_open(const char *path, uint64_t bytes)
{
	struct pf_pm *pm = NULL;
	int err;

	if (truncate(path, (off_t)bytes) != 0)
		return -errno;
	err = pf_pm_open(path, PF_PMEM_AUTO, false, true, &pm);
	if (err == 0)
		pf_pm_close(pm);
	return err;
}

static void devices(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[256], names[256];
	struct pf_pm *pm = NULL, *second = NULL;
	int fd;

	(void)snprintf(path, sizeof path, "%s/pinfs-super-XXXXXX", tmp != NULL ? tmp : "/dev/shm");
	fd = mkstemp(path);

	CU_ASSERT_FATAL(fd >= 0);
	(void)close(fd);
	CU_ASSERT_EQUAL(try_open(path, 16 * MIB), 0);
	CU_ASSERT_EQUAL(try_open(path, 16 * MIB - PF_BLK_SIZE), -EINVAL);
	CU_ASSERT_STRING_EQUAL(pf_pm_why(), "smaller than 16 MiB");
	CU_ASSERT_EQUAL(try_open(path, 16 * MIB + 1), -EINVAL);
	CU_ASSERT_EQUAL(try_open(path, PF_DEV_MAX + PF_BLK_SIZE), -EINVAL);
	CU_ASSERT_EQUAL(try_open("/dev/null", 0), -EINVAL);
	CU_ASSERT_EQUAL(pf_pm_open("/dev/null", PF_PMEM_AUTO, false, true, &pm), -EINVAL);
	CU_ASSERT_EQUAL(pf_pm_open("/dev/shm", PF_PMEM_AUTO, true, true, &pm), -EINVAL);
	CU_ASSERT_EQUAL(pf_pm_open("/nonexistent/x", PF_PMEM_AUTO, false, true, &pm), -ENOENT);

	CU_ASSERT_EQUAL(try_open(path, 16 * MIB), 0);
	CU_ASSERT_EQUAL_FATAL(pf_pm_open(path, PF_PMEM_CPU, false, true, &pm), 0);
	CU_ASSERT_EQUAL((uintptr_t)pm->base % PF_CHUNK_SIZE, 0);
	CU_ASSERT_EQUAL(pf_pm_open(path, PF_PMEM_AUTO, false, true, &second), -EBUSY);
	CU_ASSERT_EQUAL(pf_pm_share(pm), 0);
	CU_ASSERT_EQUAL(pf_pm_open(path, PF_PMEM_AUTO, false, true, &second), -EBUSY);
	CU_ASSERT_EQUAL(pf_pm_open(path, PF_PMEM_MSYNC, true, false, &second), 0);
	pf_pm_close(second);

	/* A child that only maps the device is a holder too. */
	int ready[2];
	CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
	pid_t child = fork();
	if (child == 0) {
		(void)close(pm->fd);
		(void)write(ready[1], "x", 1);
		(void)pause();
		_exit(0);
	}
	char c, want[32];
	CU_ASSERT_EQUAL(read(ready[0], &c, 1), 1);
	(void)snprintf(want, sizeof want, "pid %d (", child);
	pf_pm_holders(path, names, sizeof names);
	CU_ASSERT_PTR_NOT_NULL(strstr(names, want));
	pf_pm_holders(path, names, 8);
	CU_ASSERT(strlen(names) < 8);
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	(void)close(ready[0]);
	(void)close(ready[1]);
	pf_pm_close(pm);
	(void)unlink(path);
}


/* A file of 16 MiB under @dir, open in @mode; unlinked at once. */
static struct pf_pm *device_in(const char *dir, enum pf_pmem_mode mode)
{
	char path[256];
	struct pf_pm *pm = NULL;
	int fd;

	(void)snprintf(path, sizeof path, "%s/pinfs-pmem-XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)(16 * MIB)) != 0 || pf_pm_open(path, mode, false, true, &pm) != 0)
		pm = NULL;
	(void)close(fd);
	(void)unlink(path);
	return pm;
}

static const char *tmp_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	return tmp != NULL ? tmp : "/dev/shm";
}

static void *let_go(void *arg)
{
	(void)usleep(20000);
	(void)flock(*(int *)arg, LOCK_UN);
	return NULL;
}

/*
 * What a daemon does between its start and its service, stopped in the middle: flock(2) has let go of the exclusive
 * lock and has not taken the shared one yet. Another one must not have it; by flock alone it would.
 */
static void conversion(void)
{
	char path[] = "/dev/shm/pf-pmem-XXXXXX";
	int daemon = mkstemp(path), second = open(path, O_RDWR | O_CLOEXEC), reader = open(path, O_RDONLY | O_CLOEXEC);
	int client = open(path, O_RDWR | O_CLOEXEC);
	struct pf_pm pm = { .fd = daemon };

	CU_ASSERT_FATAL(daemon >= 0 && second >= 0 && reader >= 0 && client >= 0);
	CU_ASSERT_EQUAL(pf_pm_lock(daemon), 0);
	CU_ASSERT_EQUAL(flock(daemon, LOCK_UN), 0);
	CU_ASSERT_EQUAL(pf_pm_lock(second), -EBUSY);
	CU_ASSERT_EQUAL(pf_pm_lock(reader), -EBUSY);
	CU_ASSERT_EQUAL(flock(second, LOCK_EX | LOCK_NB), 0);	/* the twin */
	CU_ASSERT_EQUAL(flock(second, LOCK_UN), 0);
	CU_ASSERT_EQUAL(pf_pm_share(&pm), 0);
	/* A client: for as long as its open file is open or mapped. */
	CU_ASSERT(!pf_pm_claimed(&pm, 5));
	CU_ASSERT_EQUAL(pf_pm_claim(client, 5), 0);
	CU_ASSERT(pf_pm_claimed(&pm, 5));
	CU_ASSERT(!pf_pm_claimed(&pm, 4) && !pf_pm_claimed(&pm, 6));
	CU_ASSERT_EQUAL(ftruncate(daemon, 4096), 0);
	{
		void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, client, 0);
		int copy = dup(client);

		CU_ASSERT_FATAL(map != MAP_FAILED);
		(void)close(client);
		CU_ASSERT(pf_pm_claimed(&pm, 5));
		(void)close(copy);
		CU_ASSERT(pf_pm_claimed(&pm, 5));
		/* The daemon is gone, the client is not. */
		(void)close(daemon);
		CU_ASSERT_EQUAL(pf_pm_lock(second), -EBUSY);
		(void)munmap(map, 4096);
	}
	CU_ASSERT_EQUAL(pf_pm_lock(second), 0);
	pm.fd = second;
	CU_ASSERT(!pf_pm_claimed(&pm, 5));
	(void)close(second);
	/* Two readers may start, one of them at a time. */
	second = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(pf_pm_lock(reader), 0);
	CU_ASSERT_EQUAL(pf_pm_lock(second), -EBUSY);
	(void)close(reader);
	(void)close(second);
	(void)unlink(path);
}

/* Who is on the way out is waited for. A machine may be slower than that wait, but not thirty times in a row. */
static void leaving(void)
{
	char path[] = "/dev/shm/pf-pmem-XXXXXX";
	int held = mkstemp(path), fd = open(path, O_RDWR | O_CLOEXEC), err = -1;
	pthread_t t;

	CU_ASSERT_FATAL(held >= 0 && fd >= 0);
	for (int i = 0; i < 30 && err != 0; i++) {
		CU_ASSERT_EQUAL_FATAL(flock(held, LOCK_EX), 0);
		CU_ASSERT_EQUAL_FATAL(pthread_create(&t, NULL, let_go, &held), 0);
		err = pf_pm_lock(fd);
		(void)pthread_join(t, NULL);
		(void)flock(fd, LOCK_UN);
	}
	CU_ASSERT_EQUAL(err, 0);
	(void)close(fd);
	(void)close(held);
	(void)unlink(path);
}

/* Stores of every size and alignment arrive, in both modes, and a drain succeeds. */
static void stores(void)
{
	for (int mode = PF_PMEM_CPU; mode <= PF_PMEM_MSYNC; mode++) {
		struct pf_pm *pm = device_in(tmp_dir(), (enum pf_pmem_mode)mode);
		uint8_t *model = calloc(1, 2 * MIB), src[9000], got[4096];

		CU_ASSERT_PTR_NOT_NULL_FATAL(pm);
		CU_ASSERT_EQUAL(pm->mode, (enum pf_pmem_mode)mode);
		srand(7);
		for (int i = 0; i < 3000; i++) {
			uint64_t len = (uint64_t)rand() % sizeof src, off = (uint64_t)rand() % (2 * MIB - len);

			if (i % 3 == 0) {
				pf_pm_zero(pm, off, len);
				memset(model + off, 0, len);
			} else {
				memset(src, rand(), len);
				pf_pm_write(pm, off, src, len);
				memcpy(model + off, src, len);
			}
			if (i % 50 == 0)
				CU_ASSERT_EQUAL(pf_pm_drain(pm), 0);
		}
		pm->base[3 * MIB] = 9;
		pf_pm_flush(pm, 3 * MIB, 1);
		pf_pm_flush(pm, 3 * MIB, 0);
		CU_ASSERT_EQUAL(pf_pm_drain(pm), 0);
		CU_ASSERT_EQUAL(pf_pm_drain(pm), 0);
		CU_ASSERT_EQUAL(memcmp(pm->base, model, 2 * MIB), 0);
		CU_ASSERT_EQUAL(pread(pm->fd, got, 4096, 4096), 4096);
		CU_ASSERT_EQUAL(memcmp(got, model + 4096, 4096), 0);
		free(model);
		pf_pm_close(pm);
	}
}

/* Which pages a drain syncs shows when one of them is unmapped: msync then fails. */
static void msync_covers_what_was_written(void)
{
	static const struct { uint64_t store, hole; int want; } t[] = {
		{ 1 * MIB, 1 * MIB, -EIO },		/* the page itself */
		{ 1 * MIB + 4095, 1 * MIB, -EIO },	/* its last byte */
		{ 1 * MIB + 4095, 1 * MIB + 4096, 0 },	/* the page behind is not touched */
		{ 1 * MIB - 1, 1 * MIB, 0 },
	};

	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		struct pf_pm *pm = device_in(tmp_dir(), PF_PMEM_MSYNC);

		CU_ASSERT_PTR_NOT_NULL_FATAL(pm);
		pf_pm_write(pm, 8 * MIB, "x", 1);
		pf_pm_write(pm, t[i].store, "x", 1);
		CU_ASSERT_EQUAL(munmap(pm->base + t[i].hole, 4096), 0);
		CU_ASSERT_EQUAL(pf_pm_drain(pm), t[i].want);
		/* What failed once is lost: every later drain says so. */
		pf_pm_write(pm, 4 * MIB, "x", 1);
		CU_ASSERT_EQUAL(pf_pm_drain(pm), t[i].want);
		pf_pm_close(pm);
	}
}

/* More scattered pages than the collection holds: it merges, then falls back to the whole file. Nothing is
 * forgotten. */
static void many_ranges(void)
{
	for (int dense = 0; dense < 2; dense++) {
		struct pf_pm *pm = device_in(tmp_dir(), PF_PMEM_MSYNC);

		CU_ASSERT_PTR_NOT_NULL_FATAL(pm);
		for (uint64_t i = 0; i < 1500; i++)
			pf_pm_write(pm, (dense ? i : 2 * i) * 4096 % (12 * MIB), &i, 8);
		CU_ASSERT_EQUAL(munmap(pm->base + 600 * 4096, 4096), 0);
		/* Merged ranges are msynced, and the missing page is noticed; the whole file is synced by
		 * descriptor. */
		CU_ASSERT_EQUAL(pf_pm_drain(pm), dense ? -EIO : 0);
		pf_pm_close(pm);
	}
}

struct writer { struct pf_pm *pm; uint64_t doff; int err; };

static void *write_and_drain(void *arg)
{
	struct writer *w = arg;

	for (uint64_t i = 0; i < 200; i++) {
		pf_pm_write(w->pm, w->doff + i * 4096, &i, 8);
		w->err |= pf_pm_drain(w->pm);
	}
	return NULL;
}

static void threads(void)
{
	struct pf_pm *pm = device_in(tmp_dir(), PF_PMEM_MSYNC);
	struct writer w[8];
	pthread_t t[8];

	CU_ASSERT_PTR_NOT_NULL_FATAL(pm);
	for (unsigned int i = 0; i < 8; i++) {
		w[i] = (struct writer){ pm, i * 2 * MIB, 0 };
		if (pthread_create(&t[i], NULL, write_and_drain, &w[i]) != 0)
			abort();
	}
	for (unsigned int i = 0; i < 8; i++) {
		(void)pthread_join(t[i], NULL);
		CU_ASSERT_EQUAL(w[i].err, 0);
	}
	pf_pm_close(pm);
}

/* `auto`: tmpfs needs CPU flushes only, a disk filesystem msync. */
static void auto_decides(void)
{
	struct pf_pm *pm = device_in("/dev/shm", PF_PMEM_AUTO);

	CU_ASSERT_PTR_NOT_NULL_FATAL(pm);
	CU_ASSERT_EQUAL(pm->mode, PF_PMEM_CPU);
	pf_pm_close(pm);
	pm = device_in("/var/tmp", PF_PMEM_AUTO);
	if (pm == NULL) {
		(void)printf("SKIP msync by auto: /var/tmp takes no file of 16 MiB\n");
		return;
	}
	CU_ASSERT_EQUAL(pm->mode, PF_PMEM_MSYNC);
	pf_pm_write(pm, 5000, "hello", 5);
	CU_ASSERT_EQUAL(pf_pm_drain(pm), 0);
	pf_pm_close(pm);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "devices: sizes, locks, holders", devices },
		{ "a holder on its way out", leaving },
		{ "locks and claims", conversion },
		{ "stores arrive", stores },
		{ "msync covers what was written", msync_covers_what_was_written },
		{ "more ranges than the collection holds", many_ranges },
		{ "threads drain", threads },
		{ "auto decides by the filesystem", auto_decides },
	};

	return unit_main("pmem", cases, PF_ARRAY_LEN(cases));
}
