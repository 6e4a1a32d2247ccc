/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.pinfs.c - fsck.pinfs(8): options, the device, exit codes. What is checked and mended is in fsck.pinfs/.
 *
 * Holds the exclusive flock(2) of the device while it looks at it, so that no daemon starts meanwhile.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"

static volatile sig_atomic_t cancelled;

static void usage(FILE *to)
{
	(void)fprintf(to,
		      "usage: fsck.pinfs [-n | -p | -y] [-FfhvV] [-C fd] DEVICE\n"
		      "  -n  change nothing; this is the default\n"
		      "  -p  repair what is safe to repair without being asked; skip a clean filesystem\n"
		      "  -y  repair everything that can be repaired\n"
		      "  -f  with -p: check a filesystem that is marked clean, too\n"
		      "  -F  with -n: check even while a daemon or another program has the device locked\n"
		      "  -C  show progress: a bar for fd 0, else lines written to fd\n"
		      "  -v  say what is being checked, and show every problem\n"
		      "  -V  print the version\n");
}

static int open_device(const char *path, bool ro, bool force, struct pf_pm **pm)
{
	char who[512];
	int err;

	err = pf_pm_open(path, ro ? PF_PMEM_CPU : PF_PMEM_AUTO, ro, !force, pm);
	if (err == -EBUSY) {
		pf_pm_holders(path, who, sizeof who);
		pf_err("%s: in use by %s; unmount it first", path,
		       who[0] != '\0' ? who : "a process that cannot be seen from here");
	} else if (err != 0) {
		pf_err("%s: %s", path, pf_pm_why());
	}
	return err;
}

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

static void catch_signals(void)
{
	const struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
}

/* -n, -p and -y exclude each other. */
static bool set_mode(struct fsck *f, int opt, int *before)
{
	f->mode = opt == 'n' ? FSCK_CHECK : opt == 'y' ? FSCK_REPAIR : FSCK_PREEN;
	if (*before != 0 && *before != opt) {
		pf_err("only one of -n, -p and -y");
		return false;
	}
	*before = opt;
	return true;
}

static bool set_progress(struct fsck *f, const char *arg)
{
	char *end;
	long fd = strtol(arg, &end, 10);

	if (end == arg || *end != '\0' || fd < 0 || fd > 1 << 20) {
		pf_err("-C %s: not a file descriptor", arg);
		return false;
	}
	f->progress.on = true;
	f->progress.fd = (int)fd;
	return true;
}

int main(int argc, char **argv)
{
	struct fsck f = { .out = stdout, .cancel = &cancelled };
	struct pf_pm *pm = NULL;
	bool force = false;
	int opt, rc, mode = 0;

	pf_log_init("fsck.pinfs", PF_LOG_ERR, false);
	while ((opt = getopt(argc, argv, "anpyfFvVhC:")) != -1) {
		switch (opt) {
		case 'a':
		case 'n':
		case 'p':
		case 'y':
			if (!set_mode(&f, opt == 'a' ? 'p' : opt, &mode))
				return FSCK_USAGE;
			break;
		case 'f':
			f.force = true;
			break;
		case 'F':
			force = true;
			break;
		case 'C':
			if (!set_progress(&f, optarg))
				return FSCK_USAGE;
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
		default:
			usage(stderr);
			return FSCK_USAGE;
		}
	}
	if (argc - optind != 1) {
		usage(stderr);
		return FSCK_USAGE;
	}
	if (force && f.mode != FSCK_CHECK) {
		pf_err("-F goes with -n only: what is in use must not be repaired");
		return FSCK_USAGE;
	}
	if (open_device(argv[optind], f.mode == FSCK_CHECK, force, &pm) != 0)
		return FSCK_ERROR;
	catch_signals();
	rc = fsck_check(&f, pm, argv[optind]);
	pf_pm_close(pm);
	if (fflush(stdout) != 0)
		rc |= FSCK_ERROR;
	return rc;
}
