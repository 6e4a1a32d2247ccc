/* SPDX-License-Identifier: BSD-3-Clause */
/* test_lock.c - ranked locks: the order is kept, and a wrong order aborts. Forks for what must abort. */
#include <CUnit/Basic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/lock.h"

static void test_right_order(void)
{
	struct pf_rwlock inode;
	struct pf_mutex layout, leaf;

	pf_rwlock_init(&inode, PF_RANK_INODE);
	pf_mutex_init(&layout, PF_RANK_LAYOUT);
	pf_mutex_init(&leaf, PF_RANK_LEAF);
	CU_ASSERT_TRUE(pf_rank_none());
	pf_rwlock_wrlock(&inode);
	pf_mutex_lock(&layout);
	pf_mutex_lock(&leaf);
	CU_ASSERT_FALSE(pf_rank_none());
	/* Dropped in another order than taken: allowed, as long as nothing shallower is taken meanwhile. */
	pf_rwlock_unlock(&inode);
	pf_mutex_unlock(&leaf);
	pf_mutex_unlock(&layout);
	CU_ASSERT_TRUE(pf_rank_none());
	pf_mutex_fini(&leaf);
	pf_mutex_fini(&layout);
	pf_rwlock_fini(&inode);
}

/* Run @fn in a child that may abort: true if it did. */
static bool aborts(void (*fn)(void))
{
	const struct rlimit no_core = { 0, 0 };
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)freopen("/dev/null", "w", stderr);
		fn();
		_exit(0);
	}
	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void wrong_order(void)
{
	pf_rank_enter(PF_RANK_TXN);
	pf_rank_enter(PF_RANK_INODE);
}

static void same_rank_twice(void)
{
	pf_rank_enter(PF_RANK_SESSION);
	pf_rank_enter(PF_RANK_SESSION);
}

static void exit_not_held(void)
{
	pf_rank_exit(PF_RANK_MAP);
}

static void right_order(void)
{
	pf_rank_enter(PF_RANK_INODE);
	pf_rank_enter(PF_RANK_TXN);
}

static void test_wrong_order_aborts(void)
{
	CU_ASSERT_TRUE(aborts(wrong_order));
	CU_ASSERT_TRUE(aborts(same_rank_twice));
	CU_ASSERT_TRUE(aborts(exit_not_held));
	CU_ASSERT_FALSE(aborts(right_order));
}

static void test_more_of_one_class(void)
{
	struct pf_rwlock a, b;

	pf_rwlock_init(&a, PF_RANK_INODE);
	pf_rwlock_init(&b, PF_RANK_INODE);
	pf_rwlock_wrlock(&a);
	pf_rwlock_wrlock_more(&b);
	pf_rwlock_unlock_more(&b);
	CU_ASSERT_FALSE(pf_rank_none());
	pf_rwlock_unlock(&a);
	CU_ASSERT_TRUE(pf_rank_none());
	pf_rwlock_fini(&b);
	pf_rwlock_fini(&a);
}

static void test_trylock(void)
{
	struct pf_mutex m;

	pf_mutex_init(&m, PF_RANK_LEAF);
	CU_ASSERT_TRUE(pf_mutex_trylock(&m));
	CU_ASSERT_FALSE(pf_mutex_trylock(&m));
	pf_mutex_unlock(&m);
	CU_ASSERT_TRUE(pf_rank_none());
	pf_mutex_fini(&m);
}

int main(void)
{
	CU_pSuite suite;
	unsigned int bad;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite("lock", NULL, NULL);
	CU_add_test(suite, "right order", test_right_order);
	CU_add_test(suite, "wrong order aborts", test_wrong_order_aborts);
	CU_add_test(suite, "more of one class", test_more_of_one_class);
	CU_add_test(suite, "trylock", test_trylock);
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	bad = CU_get_number_of_failures();
	CU_cleanup_registry();
	return bad != 0;
}
