/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_room.c - on a full device a file is removed and another one written while the kernel's FORGET is on its way:
 * there is space, after a wait that nobody has twice for the same file. The FORGET comes in that wait, which is a
 * nanosleep(2) and leads here (tests.mk).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/log.h"
#include "harness/unit.h"
#include "op/room.h"
#include "unit/op_env.h"

#define MB (UINT64_C(1) << 20)

static struct op_env e;

/* A file that takes all space; the kernel's reference is kept. Its number. */
static uint64_t fill(void)
{
	static char buf[1 << 16];
	struct pf_entry ent;
	uint64_t at = 0;
	ssize_t n;

	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &op_root, PF_INO_ROOT, "big", S_IFREG | 0600, 0, &ent), 0);
	while ((n = op_write(&e, ent.ino, at, buf, sizeof buf)) > 0)
		at += (uint64_t)n;
	CU_ASSERT_EQUAL(n, -ENOSPC);
	return ent.ino;
}

static uint64_t soon;			/* the file that is forgotten in the third turn of a wait */
static unsigned int turns;
static pthread_t waiter;

int __real_nanosleep(const struct timespec *t, struct timespec *left);
int __wrap_nanosleep(const struct timespec *t, struct timespec *left);

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
	if (soon != 0 && pthread_equal(pthread_self(), waiter) && ++turns == 3)
		pf_op_forget(e.fs, soon, 1);
	return __real_nanosleep(t, left);
}

static void comes(void)
{
	static char buf[1 << 16];
	uint64_t small;

	waiter = pthread_self();
	op_env_open(&e, 16 * MB);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "small", 0600, &small), 0);
	for (unsigned int i = 0; i < 20; i++) {
		uint64_t big = fill();

		CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "big"), 0);
		turns = 0;
		soon = big;
		CU_ASSERT_EQUAL(op_write(&e, small, 0, buf, sizeof buf), (ssize_t)sizeof buf);
		soon = 0;
		CU_ASSERT_EQUAL(turns, 3);
		CU_ASSERT_EQUAL(op_truncate(&e, small, 0), 0);
	}
	op_env_close(&e);
}

/* It is open, and stays: one wait, and then none. This is the twin as well: without the wait there is no space. */
static void does_not_come(void)
{
	static char buf[1 << 16];
	uint64_t small, big;

	op_env_open(&e, 16 * MB);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "small", 0600, &small), 0);
	big = fill();
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "big"), 0);
	CU_ASSERT(e.fs->unlinked != e.fs->unlinked_seen);
	CU_ASSERT_EQUAL(op_write(&e, small, 0, buf, sizeof buf), -ENOSPC);
	CU_ASSERT_EQUAL(e.fs->unlinked, e.fs->unlinked_seen);
	CU_ASSERT(!pf_room_wait(e.fs, 1));
	CU_ASSERT_EQUAL(op_write(&e, small, 0, buf, sizeof buf), -ENOSPC);
	pf_op_forget(e.fs, big, 1);
	CU_ASSERT_EQUAL(op_write(&e, small, 0, buf, sizeof buf), (ssize_t)sizeof buf);
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "space that comes", comes },
		{ "space that does not come", does_not_come },
	};

	pf_log_init("test_room", PF_LOG_ERR, false);
	return unit_main("room", cases, PF_ARRAY_LEN(cases));
}
