/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinfsctl.c - what a mounted pinfs is doing: policy, space and sessions; each pin and who holds it; each operation
 * that waits; each window and how it is mapped; what an operation would do; the policy, the sessions of clients and
 * the list of bad blocks, which it can change.
 *
 * Exit status: 0, 1 (no pinfs there, or its daemon does not answer), 2 (bad use).
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/version.h>

static const struct verb {
	const char *name;
	enum pf_report what;
	int (*show)(const char *json);
} verbs[] = {
	{ "status", PF_REPORT_STATUS, show_status },
	{ "pins", PF_REPORT_PINS, show_pins },
	{ "leases", PF_REPORT_LEASES, show_leases },
	{ "windows", PF_REPORT_WINDOWS, NULL },
};

int complain(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("pinfsctl: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return 1;
}

static int usage(FILE *f, int status)
{
	(void)fputs("usage: pinfsctl status|pins [--json] MOUNT\n"
		    "       pinfsctl leases [--json] [--stack] MOUNT\n"
		    "       pinfsctl windows [--json] [--pid PID] MOUNT\n"
		    "       pinfsctl pins [--json] [--stack] [--by file|pid] [--pid PID] [--file PATH]\n"
		    "                     [--api API] [--label LABEL] [--older TIME] MOUNT\n"
		    "       pinfsctl kick PIN MOUNT\n"
		    "       pinfsctl evict PID MOUNT\n"
		    "       pinfsctl badblock list|add|del MOUNT|DEVICE ...; see pinfsctl badblock --help\n"
		    "       pinfsctl set MOUNT KEY=VALUE...\n"
		    "       pinfsctl would-block FILE [OFFSET [LENGTH]]\n"
		    "       pinfsctl pause [--json] MOUNT | pause MOUNT POINT [--ino N] [--count N]\n"
		    "       pinfsctl resume MOUNT [POINT] [--ino N]\n"
		    "       pinfsctl trace MOUNT -o FILE [--seconds N] [--file PATH] [-- COMMAND [ARGUMENT...]]\n"
		    "       pinfsctl timeline FILE -o OUT.svg [--break N | --file PATH]\n"
		    "  status      policy, space, sessions, counters of the pinfs mounted at MOUNT\n"
		    "  pins        each pin with its holder; each operation that waits, and for whom\n"
		    "  leases      each layout lease: who has it, on what, and whether it is asked back\n"
		    "  windows     each 2 MiB of a file in a process's window: where it is mapped, whether by one\n"
		    "              huge page table entry, and if not, why\n"
		    "  kick        make one pin void, as pins names it: nobody waits for it any more\n"
		    "  evict       take the windows of a process away, and wait for its pins no longer\n"
		    "  set         another policy from now on: on_busy, break, busy_timeout, ... (pinfs(8))\n"
		    "  would-block what a truncate or punch of these bytes would do now, and whom it would wait for\n"
		    "  trace       everything that happens, in all processes, as a file for ui.perfetto.dev\n"
		    "  timeline    one truncate of such a file, as a picture that explains it\n"
		    "  pause, resume  for tests: stop operations on their way (mount option pause_points)\n"
		    "  -p, --pid PID  windows: of this process only\n"
		    "  -j, --json  the daemon's report as it is (pinfsctl(1) names the document that describes it)\n"
		    "  -h, --help, --version\n", f);
	return status;
}

static int evict(const char *who, const char *path)
{
	char *end;
	long pid;
	int err;

	errno = 0;
	pid = strtol(who, &end, 10);
	if (errno != 0 || end == who || *end != '\0' || pid <= 0 || pid > INT32_MAX) {
		(void)complain("%s: not a process id", who);
		return 2;
	}
	err = session_evict(path, (uint32_t)pid);
	switch (err) {
	case 0:
	case 1:
		return err;
	case -ESRCH:
		return complain("%s: process %ld has no session here", path, pid);
	case -EALREADY:
		return complain("%s: process %ld is cut off already; it has not let go of the device", path, pid);
	case -EPERM:
		return complain("%s: only root and the user who mounted it may evict", path);
	default:
		return complain("%s: the daemon does not evict %ld: %s", path, pid, strerror(-err));
	}
}

int main(int argc, char **argv)
{
	enum { OPT_VERSION = 256 };
	static const struct option opts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "pid", required_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	const struct verb *v = NULL;
	bool as_json = false;
	long pid = 0;
	char *end;
	char *json;
	int c, status;

	if (argc > 1 && strcmp(argv[1], "badblock") == 0)
		return badblock(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "set") == 0)
		return policy_set(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "would-block") == 0)
		return would_block(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "pins") == 0)
		return pins_verb(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "leases") == 0)
		return leases_verb(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "kick") == 0)
		return kick_verb(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "trace") == 0)
		return trace_verb(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "timeline") == 0)
		return timeline_verb(argc - 1, argv + 1);
	if (argc > 1 && (strcmp(argv[1], "pause") == 0 || strcmp(argv[1], "resume") == 0))
		return pause_verb(argc - 1, argv + 1);
	while ((c = getopt_long(argc, argv, "jp:h", opts, NULL)) != -1) {
		switch (c) {
		case 'j':
			as_json = true;
			break;
		case 'p':
			errno = 0;
			pid = strtol(optarg, &end, 10);
			if (errno != 0 || *end != '\0' || pid <= 0 || pid > INT32_MAX) {
				(void)complain("%s: no process id", optarg);
				return 2;
			}
			break;
		case 'h':
			return usage(stdout, 0);
		case OPT_VERSION:
			(void)puts("pinfsctl (pinfs) " PINFS_VERSION);
			return 0;
		default:
			return usage(stderr, 2);
		}
	}
	if (argc - optind == 3 && strcmp(argv[optind], "evict") == 0)
		return evict(argv[optind + 1], argv[optind + 2]);
	if (argc - optind != 2 || strcmp(argv[optind], "evict") == 0)
		return usage(stderr, 2);
	for (size_t i = 0; i < PF_ARRAY_LEN(verbs); i++)
		v = strcmp(argv[optind], verbs[i].name) == 0 ? &verbs[i] : v;
	if (v == NULL) {
		(void)complain("%s: no such verb; try pinfsctl --help", argv[optind]);
		return 2;
	}
	if (pid != 0 && v->what != PF_REPORT_WINDOWS) {
		(void)complain("--pid is for windows");
		return 2;
	}
	if (session_report(argv[optind + 1], v->what, (uint32_t)pid, &json) != 0)
		return 1;
	if (v->what == PF_REPORT_WINDOWS)
		status = windows(json, as_json);
	else
		status = as_json ? (puts(json) < 0) : v->show(json);
	free(json);
	if (fflush(stdout) != 0)
		status = complain("standard output: write error");
	return status;
}
