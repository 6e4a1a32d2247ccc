/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scale.c - do rates stay when a directory grows? Calls per second with 10^4, 10^5 and (--million) 10^6 files in one
 * directory, beside the rate with 1000, all on pinfs. Each size is filled and emptied once, and the cases read what was
 * seen then; the small one many times, for its median.
 *
 * stat is forced to the daemon: what the kernel has cached does not depend on the size.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pinbench/pinbench.h"

#define FEW 1000U
#define FEW_ROUNDS 25U

enum what { CREATE, STAT, READDIR, UNLINK, NWHAT };

struct seen { int err; double rate[NWHAT]; };

static int one_create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	return fd < 0 ? -1 : close(fd);
}

static int one_stat(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &sx);
}

static int all(const char *dir, unsigned int n, int (*fn)(const char *path), double *rate)
{
	const uint64_t t = pb_now_ns();
	char path[256];

	for (unsigned int i = 0; i < n; i++) {
		(void)snprintf(path, sizeof path, "%s/f%u", dir, i);
		if (fn(path) != 0)
			return -errno;
	}
	*rate = (double)n * 1e9 / (double)(pb_now_ns() - t);
	return 0;
}

static int list(const char *dir, unsigned int n, double *rate)
{
	const uint64_t t = pb_now_ns();
	DIR *d = opendir(dir);
	unsigned int seen = 0;

	if (d == NULL)
		return -errno;
	while (readdir(d) != NULL)
		seen++;
	(void)closedir(d);
	*rate = (double)seen * 1e9 / (double)(pb_now_ns() - t);
	return seen == n + 2 ? 0 : -EIO;
}

static int pass(const char *dir, unsigned int n, double rate[NWHAT])
{
	int rc = mkdir(dir, 0755) != 0 ? -errno : all(dir, n, one_create, &rate[CREATE]);

	if (rc == 0)
		rc = all(dir, n, one_stat, &rate[STAT]);
	if (rc == 0)
		rc = list(dir, n, &rate[READDIR]);
	if (rc == 0)
		rc = all(dir, n, unlink, &rate[UNLINK]);
	if (rc == 0 && rmdir(dir) != 0)
		rc = -errno;
	return rc;
}

static struct seen measure(const struct pb_env *e, unsigned int n)
{
	const unsigned int rounds = n == FEW ? FEW_ROUNDS : 1;
	double v[NWHAT][FEW_ROUNDS], rate[NWHAT] = { 0 };
	struct seen s = { 0 };
	char dir[224];

	(void)snprintf(dir, sizeof dir, "%s/scale", e->mnt[PB_PINFS]);
	for (unsigned int i = 0; i < rounds && s.err == 0; i++) {
		s.err = pass(dir, n, rate);
		for (unsigned int w = 0; w < NWHAT; w++)
			v[w][i] = rate[w];
	}
	for (unsigned int w = 0; w < NWHAT && s.err == 0; w++)
		s.rate[w] = pb_median(v[w], rounds);
	return s;
}

/* Measured at the first question. */
static const struct seen *seen(const struct pb_env *e, unsigned int power)
{
	static struct seen memo[7];
	static bool done[7];
	unsigned int n = 1;

	for (unsigned int i = 0; i < power; i++)
		n *= 10;
	if (!done[power])
		memo[power] = measure(e, n);
	done[power] = true;
	return &memo[power];
}

static int run(const struct pb_env *e, enum pb_subject s, unsigned int power, enum what w, double *out)
{
	const struct seen *m = seen(e, s == PB_REF ? 3 : power);

	*out = m->rate[w];
	return m->err;
}

#define CASE(what, power)                                                                                              \
	static int run_##what##_##power(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out) \
	{                                                                                                              \
		(void)st;                                                                                              \
		return run(e, s, power, what, out);                                                                    \
	}
#define CASES(power) CASE(CREATE, power) CASE(STAT, power) CASE(READDIR, power) CASE(UNLINK, power)
CASES(4)
CASES(5)
CASES(6)

#define ENTRY(n, w, call, power) { .name = (n), .what = (w), .unit = PB_OPS, .subjects = PB_TWO, .ref = "10^3 files", \
	.aim = PB_AIM_RATIO_MIN, .once = true, .limit = 0.5, .run = run_##call##_##power }

const struct pb_case pb_scale_cases[] = {
	ENTRY("scale.create_10k", "create, to 10^4 files in a directory", CREATE, 4),
	ENTRY("scale.stat_10k", "stat by the daemon, of 10^4 files", STAT, 4),
	ENTRY("scale.readdir_10k", "entries read, of 10^4", READDIR, 4),
	ENTRY("scale.unlink_10k", "unlink, from 10^4 files", UNLINK, 4),
	ENTRY("scale.create_100k", "create, to 10^5 files in a directory", CREATE, 5),
	ENTRY("scale.stat_100k", "stat by the daemon, of 10^5 files", STAT, 5),
	ENTRY("scale.readdir_100k", "entries read, of 10^5", READDIR, 5),
	ENTRY("scale.unlink_100k", "unlink, from 10^5 files", UNLINK, 5),
	ENTRY("scale.create_1m", "create, to 10^6 files in a directory", CREATE, 6),
	ENTRY("scale.stat_1m", "stat by the daemon, of 10^6 files", STAT, 6),
	ENTRY("scale.readdir_1m", "entries read, of 10^6", READDIR, 6),
	ENTRY("scale.unlink_1m", "unlink, from 10^6 files", UNLINK, 6),
};
const size_t pb_scale_count = sizeof pb_scale_cases / sizeof pb_scale_cases[0];
const size_t pb_scale_million = 4;
