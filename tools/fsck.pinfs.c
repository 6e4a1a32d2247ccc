/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.pinfs.c - fsck.pinfs(8): options, the device, exit codes. What is checked is in fsck.pinfs/.
 *
 * Never writes to the device. Holds its exclusive flock(2) while it reads, so that no daemon starts meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"

static void usage(FILE *to)
{
	(void)fprintf(to,
		      "usage: fsck.pinfs [-nFhvV] DEVICE\n"
		      "  -n  change nothing (the only mode there is)\n"
		      "  -F  check even while a daemon or another program has the device locked\n"
		      "  -v  say what is being checked, and show every problem\n"
		      "  -V  print the version\n");
}

static int open_device(const char *path, bool force, struct pf_pm **pm)
{
	char who[512];
	int err;

	err = pf_pm_open(path, PF_PMEM_CPU, true, !force, pm);
	if (err == -EBUSY) {
		pf_pm_holders(path, who, sizeof who);
		pf_err("%s: in use by %s; unmount it first", path,
		       who[0] != '\0' ? who : "a process that cannot be seen from here");
	} else if (err != 0) {
		pf_err("%s: %s", path, pf_pm_why());
	}
	return err;
}

int main(int argc, char **argv)
{
	struct fsck f = { .out = stdout };
	struct pf_pm *pm = NULL;
	bool force = false;
	int opt, rc;

	pf_log_init("fsck.pinfs", PF_LOG_ERR, false);
	while ((opt = getopt(argc, argv, "nFvVhpya")) != -1) {
		switch (opt) {
		case 'n':
			break;
		case 'F':
			force = true;
			break;
		case 'v':
			f.verbose = true;
			break;
		case 'V':
			(void)printf("fsck.pinfs %s\n", PINFS_VERSION);
			return FSCK_OK;
		case 'h':
			usage(stdout);
			return FSCK_OK;
		case 'p':
		case 'y':
		case 'a':
			pf_err("-%c asks for repairs, which fsck.pinfs cannot make: run it with -n", opt);
			return FSCK_USAGE;
		default:
			usage(stderr);
			return FSCK_USAGE;
		}
	}
	if (argc - optind != 1) {
		usage(stderr);
		return FSCK_USAGE;
	}
	if (open_device(argv[optind], force, &pm) != 0)
		return FSCK_ERROR;
	rc = fsck_check(&f, pm, argv[optind]);
	pf_pm_close(pm);
	if (fflush(stdout) != 0)
		rc |= FSCK_ERROR;
	return rc;
}
