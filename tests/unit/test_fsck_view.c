/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck_view.c - the private view of fsck.pinfs, with a second thread that maps memory at the worst moment: right
 * after each mremap(2) of the view. That thread is played here, by what the linker puts in front of mremap().
 */
#include "harness/unit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "harness/mem.h"

#define BYTES (UINT64_C(4) << 20)
#define GRANULE 65536U
#define GUESTS_MAX 256U
#define CROWD_MAX 8192U

void *__wrap_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...);
void *__real_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...);

/* What the other thread has mapped, and still uses. */
static struct {
	bool come;		/* after each mremap */
	bool hole;		/* this kernel moves without MREMAP_DONTUNMAP only */
	unsigned int nr;
	uint8_t *at[GUESTS_MAX];
} guests;

static void guest_come(void)
{
	uint8_t *p = mmap(NULL, GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || guests.nr == GUESTS_MAX)
		abort();
	memset(p, 'g', GRANULE);
	guests.at[guests.nr++] = p;
}

/* Each is still there, with its bytes; then it goes. */
static void guests_leave(void)
{
	for (; guests.nr > 0; guests.nr--) {
		uint8_t *p = guests.at[guests.nr - 1];
		unsigned char there[GRANULE / PF_BLK_SIZE];
		bool whole = mincore(p, GRANULE, there) == 0;	/* ENOMEM: a page is not mapped */

		CU_ASSERT_FATAL(whole);
		for (unsigned int i = 0; i < GRANULE; i++)
			whole = whole && p[i] == 'g';
		CU_ASSERT(whole);
		CU_ASSERT_EQUAL(munmap(p, GRANULE), 0);
	}
}

void *__wrap_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	va_list ap;
	void *to, *got;

	va_start(ap, flags);
	to = va_arg(ap, void *);
	va_end(ap);
	if (guests.hole && (flags & MREMAP_DONTUNMAP) != 0) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	got = __real_mremap(addr, old_len, new_len, flags, to);
	if (guests.come)
		guest_come();
	return got;
}

/* The kernel gives out the highest gap that fits: takes all above @base, so that a hole in the view is the next. */
static void crowd_come(const uint8_t *base, uint8_t **crowd)
{
	for (unsigned int n = 0; n < CROWD_MAX; n++) {
		uint8_t *p = mmap(NULL, GRANULE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			abort();
		if (p < base) {
			(void)munmap(p, GRANULE);
			return;
		}
		crowd[n] = p;
	}
}

static void crowd_leave(uint8_t **crowd)
{
	for (unsigned int n = 0; n < CROWD_MAX && crowd[n] != NULL; n++)
		(void)munmap(crowd[n], GRANULE);
}

static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 31 + i / PF_BLK_SIZE);
}

static struct pf_pm *device(void)
{
	struct pf_pm *pm = mem_open(BYTES);

	for (uint64_t i = 0; i < BYTES; i++)
		pm->base[i] = byte_at(i);
	return pm;
}

static bool same(const struct pf_pm *pm)
{
	for (uint64_t i = 0; i < BYTES; i++)
		if (pm->base[i] != byte_at(i))
			return false;
	return true;
}

/* Stores into every other granule; then what has changed is told, and the device is what it was. */
static void use_view(void)
{
	struct pf_pm *pm = device(), view;
	struct fsck_changes c;
	const uint64_t value = UINT64_C(0x0123456789abcdef);
	static uint8_t *crowd[CROWD_MAX];

	memset(crowd, 0, sizeof crowd);
	CU_ASSERT_EQUAL_FATAL(fsck_view_init(&view, pm), 0);
	crowd_come(pm->base, crowd);
	for (uint64_t at = 5 * PF_BLK_SIZE; at < BYTES; at += 2 * (uint64_t)GRANULE)
		view.ops->write(&view, at, &value, sizeof value);
	guests.come = false;
	CU_ASSERT_EQUAL(fsck_view_changes(&view, false, &c), 0);
	CU_ASSERT_EQUAL(c.nr, BYTES / GRANULE / 2);
	for (uint64_t i = 0; i < c.nr; i++) {
		CU_ASSERT_EQUAL(c.v[i].dblk, 5 + i * 2 * (GRANULE / PF_BLK_SIZE));
		CU_ASSERT_EQUAL(memcmp(c.v[i].now, &value, sizeof value), 0);
		CU_ASSERT_EQUAL(c.v[i].now[8], byte_at(c.v[i].dblk * PF_BLK_SIZE + 8));
	}
	fsck_changes_free(&c);
	for (unsigned int i = 0; i < guests.nr; i++)
		CU_ASSERT(guests.at[i] + GRANULE <= view.base || guests.at[i] >= view.base + BYTES);
	guests.come = guests.nr != 0;
	fsck_view_fini(&view);
	guests.come = false;
	CU_ASSERT(same(pm));
	guests_leave();
	crowd_leave(crowd);
	mem_close(pm);
}

static void test_alone(void)
{
	use_view();
}

static void test_guests(void)
{
	guests.come = true;
	use_view();
}

/* Pages that can only be moved with a hole left behind: without company all is well. */
static void test_hole(void)
{
	guests.hole = true;
	use_view();
	guests.hole = false;
}

/* With company the guest sits in the hole, which shows what the others are spared: fsck gives up, and says so. */
static void test_hole_taken(void)
{
	pid_t pid;
	int status;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct pf_pm *pm = device(), view;
		static uint8_t *crowd[CROWD_MAX];

		crowd_come(pm->base, crowd);
		guests.hole = guests.come = true;
		if (fsck_view_init(&view, pm) == 0)
			fsck_view_own(&view, 0, 1);
		_exit(99);
	}
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == FSCK_ERROR);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "changes are private, and found", test_alone },
		{ "another thread maps memory meanwhile", test_guests },
		{ "memory that moves with a hole", test_hole },
		{ "twin: the hole is taken", test_hole_taken },
	};

	pf_log_init("fsck", PF_LOG_ERR, false);
	return unit_main("fsck_view", cases, PF_ARRAY_LEN(cases));
}
