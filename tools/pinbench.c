/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinbench.c - measures windows, pins, waits and the plain FUSE path, each beside tmpfs in the same run.
 *
 * Makes an image and mounts of its own in a scratch directory and removes them, also when it is interrupted or a case
 * fails. pinbench/env.c owns the places, the other files of the folder the cases.
 */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pinfs/version.h>
#include "pinbench/pinbench.h"

#define ROUNDS_MAX 99U
#define FRESH_TIMES 4U	/* more rounds where each begins with new files: they are short, and luck has to even out */

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static const struct {
	const struct pb_case *first;
	const size_t *count;
} groups[] = {
	{ pb_call_cases, &pb_call_count },	/* before this process has a window */
	{ pb_mem_cases, &pb_mem_count },
	{ pb_fault_cases, &pb_fault_count },
	{ pb_pin_cases, &pb_pin_count },
	{ pb_many_cases, &pb_many_count },
	{ pb_file_cases, &pb_file_count },
	{ pb_scale_cases, &pb_scale_count },
};
#define GROUPS (sizeof groups / sizeof groups[0])

static int usage(FILE *f)
{
	(void)fprintf(f,
		      "usage: pinbench [-jlmqv] [-d DIR] [-n ROUNDS] [-o OPTIONS] [-p OPTIONS] [-x PATTERN]\n"
		      "  -d, --dir=DIR         scratch directory is made in DIR (default /dev/shm)\n"
		      "  -j, --json            results as JSON\n"
		      "  -l, --list            name the cases and exit\n"
		      "  -m, --million         scale.* with a million files too: takes minutes\n"
		      "  -n, --rounds=N        rounds (default 7, quick: 3)\n"
		      "  -o, --options=OPTS    mount options for pinfs\n"
		      "  -p, --peer=OPTS       mount options for the peer (default: default_permissions)\n"
		      "  -q, --quick           smaller files, fewer calls\n"
		      "  -v, --verbose         say what is being measured\n"
		      "  -x, --only=PATTERN    cases that match, e.g. 'pin.*' or 'pin.*,wait.*'\n");
	return f == stdout ? 0 : 2;
}

/* @only: shell patterns with commas between, or NULL for all. */
static bool wanted(const char *name, const char *only)
{
	char pattern[64];
	size_t n;

	if (only == NULL)
		return true;
	for (const char *p = only; *p != '\0'; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		if (n < sizeof pattern) {
			memcpy(pattern, p, n);
			pattern[n] = '\0';
			if (fnmatch(pattern, name, 0) == 0)
				return true;
		}
	}
	return false;
}

static bool has_place(const struct pb_env *e, const struct pb_case *c, enum pb_subject s)
{
	return (c->subjects & PB_BIT(s)) != 0 && (s != PB_PEER || e->peer_name != NULL);
}

static int one_run(const struct pb_env *e, const struct pb_case *c, enum pb_subject s, struct pb_state *st, double *out)
{
	int rc = 0;

	if (c->fresh) {
		*st = (struct pb_state){ .fd = -1 };
		rc = c->setup(e, s, st);
	}
	if (rc == 0)
		rc = c->run(e, s, st, out);
	if (c->fresh)
		c->clean(e, s, st);
	return rc;
}

/* The rounds of one case. Subjects take turns within a round, and every other round goes backwards. */
static void measure(const struct pb_env *e, const struct pb_case *c, struct pb_result *r)
{
	struct pb_state st[PB_NSUBJECT] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	double v[PB_NSUBJECT][ROUNDS_MAX * FRESH_TIMES] = { { 0 } }, q[ROUNDS_MAX * FRESH_TIMES];
	const unsigned int rounds = c->once ? 1 : c->fresh ? e->rounds * FRESH_TIMES : e->rounds;

	*r = (struct pb_result){ .c = c };
	for (enum pb_subject s = PB_PINFS; s < PB_NSUBJECT; s++) {
		r->err[s] = has_place(e, c, s) ? 0 : 1;
		if (r->err[s] == 0 && !c->fresh && c->setup != NULL)
			r->err[s] = c->setup(e, s, &st[s]);
	}
	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int k = 0; k < PB_NSUBJECT; k++) {
			enum pb_subject s = (enum pb_subject)(i % 2 == 0 ? k : PB_NSUBJECT - 1 - k);

			if (interrupted && r->err[s] == 0)
				r->err[s] = -EINTR;
			if (r->err[s] == 0)
				r->err[s] = one_run(e, c, s, &st[s], &v[s][i]);
		}
	}
	for (enum pb_subject s = PB_PINFS; s < PB_NSUBJECT; s++) {
		if (has_place(e, c, s) && !c->fresh && c->clean != NULL)
			c->clean(e, s, &st[s]);
		if (r->err[s] != 0 || r->err[PB_PINFS] != 0)
			continue;
		for (unsigned int i = 0; i < rounds; i++)
			q[i] = v[PB_PINFS][i] / v[s][i];
		r->ratio[s] = pb_median(q, rounds);
	}
	/* Sorting comes last: the ratios above pair the values of one round. */
	for (enum pb_subject s = PB_PINFS; s < PB_NSUBJECT; s++) {
		if (r->err[s] != 0)
			continue;
		r->median[s] = pb_median(v[s], rounds);
		r->least[s] = v[s][0];
		r->most[s] = v[s][rounds - 1];
	}
}

static bool failed(const struct pb_result *r)
{
	for (enum pb_subject s = PB_PINFS; s < PB_REF + 1; s++)
		if (r->err[s] < 0)
			return true;
	return false;
}

static int run_all(struct pb_env *e, const char *only, bool json)
{
	struct pb_result results[96];
	size_t n = 0;
	bool bad = false;
	int rc = pb_env_up(e);

	for (size_t g = 0; rc == 0 && g < GROUPS; g++) {
		for (size_t i = 0; i < *groups[g].count && !interrupted; i++) {
			const struct pb_case *c = &groups[g].first[i];

			if (!wanted(c->name, only) || n == sizeof results / sizeof results[0])
				continue;
			if (groups[g].first == pb_scale_cases && i >= pb_scale_count - pb_scale_million && !e->million)
				continue;
			if (e->verbose || isatty(STDERR_FILENO))
				(void)fprintf(stderr, "%s ...\n", c->name);
			measure(e, c, &results[n]);
			bad |= failed(&results[n]);
			n++;
		}
	}
	pb_env_down(e);
	if (rc != 0) {
		(void)fprintf(stderr, "pinbench: cannot set up %s: %s\n", e->base, strerror(-rc));
		return 1;
	}
	if (n == 0) {
		(void)fprintf(stderr, interrupted ? "pinbench: interrupted\n" : "pinbench: no case matches\n");
		return 1;
	}
	(json ? pb_report_json : pb_report_table)(e, results, n);
	return bad || interrupted ? 1 : 0;
}

static void list(void)
{
	for (size_t g = 0; g < GROUPS; g++)
		for (size_t i = 0; i < *groups[g].count; i++)
			(void)printf("%-24s %-6s %s\n", groups[g].first[i].name, pb_unit_name[groups[g].first[i].unit],
				     groups[g].first[i].what);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "dir", required_argument, NULL, 'd' },     { "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },	     { "list", no_argument, NULL, 'l' },
		{ "million", no_argument, NULL, 'm' },
		{ "only", required_argument, NULL, 'x' },    { "options", required_argument, NULL, 'o' },
		{ "peer", required_argument, NULL, 'p' },
		{ "quick", no_argument, NULL, 'q' },	     { "rounds", required_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },	     { "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct sigaction sa = { .sa_handler = on_signal };
	struct pb_env e = { .peer_opts = "default_permissions" };
	const char *only = NULL, *dir = "/dev/shm";
	unsigned long rounds = 0;
	bool json = false;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "d:hjlmn:o:p:qvVx:", longs, NULL)) != -1) {
		switch (c) {
		case 'd': dir = optarg; break;
		case 'h': return usage(stdout);
		case 'j': json = true; break;
		case 'l': list(); return 0;
		case 'm': e.million = true; break;
		case 'n':
			rounds = strtoul(optarg, &end, 10);
			if (*end != '\0' || rounds < 1 || rounds > ROUNDS_MAX) {
				(void)fprintf(stderr, "pinbench: rounds: 1 to %u, not '%s'\n", ROUNDS_MAX, optarg);
				return 2;
			}
			break;
		case 'o': e.mount_opts = optarg; break;
		case 'p': e.peer_opts = optarg; break;
		case 'q': e.quick = true; break;
		case 'v': e.verbose = true; break;
		case 'V': (void)printf("pinbench %s\n", PINFS_VERSION); return 0;
		case 'x': only = optarg; break;
		default: return usage(stderr);
		}
	}
	if (optind != argc)
		return usage(stderr);
	e.rounds = rounds != 0 ? (unsigned int)rounds : e.quick ? 3 : 7;
	if (snprintf(e.base, sizeof e.base, "%s/pinbench.XXXXXX", dir) >= (int)sizeof e.base) {
		(void)fprintf(stderr, "pinbench: %s: too long\n", dir);
		return 2;
	}
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	return run_all(&e, only, json);
}
