/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.h - main() of a test program: suites and cases for CUnit, options, skips, time limits, cleaning up.
 *
 * A program lists its suites and returns pt_main(). Options: --list, --filter TEXT (cases whose "suite/case" contains
 * it). The last line is "N passed, N failed, N skipped"; the status is 0 when none failed, 77 when all were skipped.
 * What a case leaves behind (children, mounts: proc.h, fs.h) is removed after it, also after a fatal assertion, a
 * time-out, or a signal to the program.
 */
#ifndef PT_RUN_H
#define PT_RUN_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stddef.h>
#include <pinfs/compiler.h>

struct pt_case {
	const char *name;
	void (*fn)(void);
	unsigned int limit_s;		/* 0, or more than 300 seconds; then its daemons and children are killed */
};

struct pt_suite {
	const char *name;
	const struct pt_case *cases;
	size_t ncase;
};

int pt_main(int argc, char **argv, const struct pt_suite *suites, size_t nsuite);

/* This case cannot run here: say why, then return from it. It counts as skipped, unless an assertion failed. */
void pt_skip(const char *fmt, ...) PF_PRINTF(1, 2);

/* The directory of the programs, and an empty scratch directory on a tmpfs. Constant; never NULL. */
const char *pt_build(void);
const char *pt_tmp(void);

/* Before the first case: called after each case, and when the program ends for whatever reason. */
void pt_on_cleanup(void (*fn)(void));

/* Assertions that show what they got. @call gives 0 or more, else -1 and errno. */
#define PT_SYS(call)                                                                                         \
	do {                                                                                                 \
		long pt_rc_ = (long)(call);                                                                  \
		if (pt_rc_ < 0)                                                                              \
			pt_say("%s:%d: %s: %s", __FILE__, __LINE__, #call, pt_errname());                    \
		CU_assertImplementation(pt_rc_ >= 0, __LINE__, #call, __FILE__, "", CU_FALSE);               \
	} while (0)
#define PT_SYS_FATAL(call)                                                                                   \
	do {                                                                                                 \
		long pt_rc_ = (long)(call);                                                                  \
		if (pt_rc_ < 0)                                                                              \
			pt_say("%s:%d: %s: %s", __FILE__, __LINE__, #call, pt_errname());                    \
		CU_assertImplementation(pt_rc_ >= 0, __LINE__, #call, __FILE__, "", CU_TRUE);                \
	} while (0)
/* @call fails with @err. */
#define PT_FAILS(call, err)                                                                                  \
	do {                                                                                                 \
		errno = 0;                                                                                   \
		long pt_rc_ = (long)(call);                                                                  \
		bool pt_ok_ = pt_rc_ < 0 && errno == (err);                                                  \
		if (!pt_ok_)                                                                                 \
			pt_say("%s:%d: %s: returned %ld, %s; expected %s", __FILE__, __LINE__, #call,        \
			       pt_rc_, pt_errname(), #err);                                                  \
		CU_assertImplementation(pt_ok_, __LINE__, #call " fails with " #err, __FILE__, "", CU_FALSE); \
	} while (0)
/* Two integers are equal. */
#define PT_EQ(a, b)                                                                                          \
	do {                                                                                                 \
		long long pt_a_ = (long long)(a), pt_b_ = (long long)(b);                                    \
		if (pt_a_ != pt_b_)                                                                          \
			pt_say("%s:%d: %s is %lld, %s is %lld", __FILE__, __LINE__, #a, pt_a_, #b, pt_b_);   \
		CU_assertImplementation(pt_a_ == pt_b_, __LINE__, #a " == " #b, __FILE__, "", CU_FALSE);      \
	} while (0)

/* A line of explanation below the case that is running. */
void pt_say(const char *fmt, ...) PF_PRINTF(1, 2);
const char *pt_errname(void);

#endif
