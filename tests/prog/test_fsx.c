/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsx.c - random operations on files, checked against a model after every step (fsx.h says how), and proof that
 * the tester finds what is wrong: a falsified model, and daemons that lose or forget bytes.
 *
 * PINFS_FSX_SEED and PINFS_FSX_STEPS replace the seed and the number of steps of every run; PINFS_LONG=1 makes runs
 * longer and their seeds different each time.
 */
#include "prog/fsx.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/run.h"

#define LIMIT_S 3600		/* of a long run */
/* Who has windows and maps past them, too, can wait for itself, until this ends it (CAVEATS of pinfs(8)). */
#define ITS_OWN "revoke_timeout=2"

static unsigned long long number(const char *name, unsigned long long otherwise)
{
	const char *v = getenv(name);

	return v != NULL && *v != '\0' ? strtoull(v, NULL, 0) : otherwise;
}

static void go(struct fsx_conf c)
{
	bool longer = number("PINFS_LONG", 0) != 0;

	if (!pt_need_mount())
		return;
	c.seed = number("PINFS_FSX_SEED", longer ? (unsigned long long)time(NULL) * 1000003 + c.seed : c.seed);
	c.steps = (unsigned int)number("PINFS_FSX_STEPS", longer ? c.steps * 10ULL : c.steps);
	CU_ASSERT_TRUE(fsx_run(&c));
}

static void calls(void)
{
	go((struct fsx_conf){ .name = "calls", .seed = 101, .steps = 2000, .may = FSX_NAMES, .files = 3, .workers = 1,
			      .max = 256 * 1024, .image = "32M", .remount = 700 });
}

static void kernel_maps(void)
{
	go((struct fsx_conf){ .name = "kernel_maps", .seed = 202, .steps = 2000, .may = FSX_NAMES | FSX_KERNEL,
			      .files = 2, .workers = 2, .max = 300000, .image = "32M", .remount = 700, .crash = 900 });
}

static void windows(void)
{
	go((struct fsx_conf){ .name = "windows", .seed = 303, .steps = 2000, .may = FSX_NAMES | FSX_WINDOW, .files = 3,
			      .workers = 2, .max = 300000, .image = "32M", .remount = 700, .crash = 500 });
}

static void both(void)
{
	go((struct fsx_conf){ .name = "both", .seed = 404, .steps = 2000, .may = FSX_NAMES | FSX_WINDOW | FSX_KERNEL,
			      .files = 2, .workers = 3, .max = 200000, .image = "32M", .opts = ITS_OWN, .remount = 700,
			      .crash = 600 });
}

static void big(void)
{
	go((struct fsx_conf){ .name = "big", .seed = 505, .steps = 1200,
			      .may = FSX_NAMES | FSX_WINDOW | FSX_KERNEL, .files = 2, .workers = 2, .max = FSX_MAX,
			      .image = "96M", .opts = ITS_OWN ",window=8M,on_busy=defer", .remount = 500,
			      .crash = 400 });
}

static void by_msync(void)
{
	go((struct fsx_conf){ .name = "by_msync", .seed = 606, .steps = 600,
			      .may = FSX_NAMES | FSX_WINDOW | FSX_KERNEL, .files = 2, .workers = 2, .max = 3UL << 20,
			      .image = "64M", .opts = ITS_OWN ",pmem=msync,break=file", .remount = 250, .crash = 200 });
}

/* --- twins: the tester finds what is wrong --- */

static struct fsx_conf twin(const char *name, unsigned int may)
{
	return (struct fsx_conf){ .name = name, .seed = 707, .steps = 2000, .may = may, .files = 2, .workers = 2,
				  .max = 100000, .image = "32M", .quiet = true };
}

/* One bit of the model is wrong from step 300 on. */
static void wrong_model(void)
{
	struct fsx_conf c = twin("wrong_model", FSX_WINDOW | FSX_KERNEL);

	if (!pt_need_mount())
		return;
	c.opts = ITS_OWN;
	c.mutate = 300;
	CU_ASSERT_FALSE(fsx_run(&c));
	CU_ASSERT(fsx_failed_at() >= 300 && fsx_failed_at() < 400);
	CU_ASSERT_PTR_NOT_NULL(strstr(fsx_failed_why(), "1 bytes from"));
}

/* The daemon is given a libpmem that does something wrong. */
static void wrong_daemon(const char *name, const char *defect)
{
	struct fsx_conf c = twin(name, FSX_WINDOW);
	bool right;

	if (!pt_need_mount())
		return;
	(void)setenv("LD_PRELOAD", pt_program("tests/prog/defect.so"), 1);
	(void)setenv("PINFS_DEFECT", defect, 1);
	right = fsx_run(&c);
	(void)unsetenv("LD_PRELOAD");
	(void)unsetenv("PINFS_DEFECT");
	CU_ASSERT_FALSE(right);
	CU_ASSERT_PTR_NOT_NULL(strstr(fsx_failed_why(), "should be"));
}

static void wrong_zeros(void) { wrong_daemon("wrong_zeros", "zero"); }
static void wrong_bytes(void) { wrong_daemon("wrong_bytes", "write"); }

int main(int argc, char **argv)
{
	static const struct pt_case runs[] = {
		{ "calls", calls, LIMIT_S },   { "kernel_maps", kernel_maps, LIMIT_S },
		{ "windows", windows, LIMIT_S }, { "both", both, LIMIT_S },
		{ "big", big, LIMIT_S },       { "by_msync", by_msync, LIMIT_S },
	};
	static const struct pt_case twins[] = {
		{ "wrong_model", wrong_model, LIMIT_S },
		{ "wrong_zeros", wrong_zeros, LIMIT_S },
		{ "wrong_bytes", wrong_bytes, LIMIT_S },
	};
	const struct pt_suite suites[] = {
		{ "fsx", runs, PF_ARRAY_LEN(runs) },
		{ "twin", twins, PF_ARRAY_LEN(twins) },
	};

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
