/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - pinfs-conform: what a directory answers to questions about DAX, beside what was expected; its options. */
#include "conform/engine.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "lib/cli.h"

enum { EXIT_SAME, EXIT_DIFFERS, EXIT_USE };

static struct suite suite = {
	.twin = true, .repeat = 1,
	.place = { .fill_max = UINT64_C(256) << 20, .limit_s = 30 },
};
static struct {
	enum format format;
	const char *out, *record, *policy, *plain_dir, *expect;
	bool list, bare;
} want;

static int usage(FILE *f, int status)
{
	(void)fputs("usage: pinfs-conform [OPTION...] DIR\n"
		    "       pinfs-conform --list [--verbose] [--filter TEXT]\n"
		    "Ask the filesystem that DIR is on what it does with direct access and pins, and compare.\n"
		    "  -f, --filter TEXT   only cases whose id contains TEXT; several: separated by commas\n"
		    "  -l, --list          the ids of the cases; with -v, what they ask and where that comes from\n"
		    "      --policy LIST   on_busy=..., break=... for what the cases make; or a value of on_busy\n"
		    "      --profile NAME  expect what this profile of pinfs, or ext4, xfs, virtiofs, plain answers\n"
		    "      --expect FILE   expect the answers recorded in FILE\n"
		    "      --record FILE   write the answers to FILE\n"
		    "  -F, --format FORMAT table, tap, junit, json or tsv\n"
		    "  -o, --output FILE   the report goes there\n"
		    "      --pin HOW       make pins so: api, slow or pipe\n"
		    "      --slow-dev PATH transfers of a case are reads of this device or file, which answers late\n"
		    "      --scratch-dev DEVICE  cases may make filesystems on it\n"
		    "      --plain-dir DIR a directory without DAX, where direct I/O works\n"
		    "      --fill-max SIZE fill a filesystem that has no more than this free (256M)\n"
		    "      --bare          without the preload library, on a pinfs mount\n"
		    "      --no-twin       do not ask again under on_busy=unsafe\n"
		    "      --repeat N      each case so often; another answer is a difference\n"
		    "      --timeout SECONDS  what a case may take (30)\n"
		    "  -v, --verbose       say of each case what it asks; notes\n"
		    "  -h, --help, --version\n"
		    "Status: 0 when nothing differs, 1 when something does, 2 when it could not be asked,\n"
		    "or nothing was.\n", f);
	return status;
}

static void list(void)
{
	for (unsigned int g = 0; g < cf_ngroup; g++) {
		bool title = !suite.verbose;

		for (size_t i = 0; i < cf_groups[g]->ncase; i++) {
			const struct cf_case *cs = &cf_groups[g]->cases[i];

			if (!suite_wants(&suite, cs))
				continue;
			if (!title)
				(void)printf("%s\n", cf_groups[g]->title);
			title = true;
			if (suite.verbose)
				(void)printf("  %s%s\n      %s\n      %s\n", cs->id,
					     (cs->flags & CF_UNASKED) != 0 ? " (cannot be asked)" : "", cs->says,
					     cs->source);
			else
				(void)puts(cs->id);
		}
	}
}

static bool one_of(const char *word, const char *const names[], size_t n, unsigned int *out)
{
	for (unsigned int i = 0; i < n; i++) {
		if (strcmp(names[i], word) == 0) {
			*out = i;
			return true;
		}
	}
	return false;
}

static bool number(const char *s, unsigned int *out)
{
	char *end;
	const unsigned long v = strtoul(s, &end, 10);

	*out = (unsigned int)v;
	return s[0] >= '0' && s[0] <= '9' && *end == '\0' && v >= 1 && v <= 1000000;
}

enum { O_POLICY = 256, O_PROFILE, O_EXPECT, O_RECORD, O_PIN, O_SLOW_DEV, O_SCRATCH, O_PLAIN, O_FILL, O_BARE, O_NO_TWIN,
       O_REPEAT, O_TIMEOUT, O_VERSION };

/* 0, or 1 + the exit status. */
static int take(int c)
{
	static const char *const formats[] = { "table", "tap", "junit", "json", "tsv" };
	static const char *const hows[] = { "api", "slow", "pipe" };
	unsigned int n = 0;
	bool ok = true;

	switch (c) {
	case 'f':
		suite.filter = optarg;
		break;
	case 'l':
		want.list = true;
		break;
	case 'F':
		ok = one_of(optarg, formats, PF_ARRAY_LEN(formats), &n);
		want.format = (enum format)n;
		break;
	case 'o':
		want.out = optarg;
		break;
	case 'v':
		suite.verbose = true;
		break;
	case O_POLICY:
		want.policy = optarg;
		break;
	case O_PROFILE:
		suite.place.profile = optarg;
		ok = profile_known(optarg);
		break;
	case O_EXPECT:
		want.expect = optarg;
		break;
	case O_RECORD:
		want.record = optarg;
		break;
	case O_PIN:
		ok = one_of(optarg, hows, PF_ARRAY_LEN(hows), &n);
		suite.place.pin = hows[n];
		break;
	case O_SLOW_DEV:
		suite.place.slow_dev = optarg;
		break;
	case O_SCRATCH:
		suite.place.scratch_dev = optarg;
		break;
	case O_PLAIN:
		want.plain_dir = optarg;
		break;
	case O_FILL:
		ok = cli_parse_bytes(optarg, &suite.place.fill_max) == 0;
		break;
	case O_BARE:
		want.bare = true;
		break;
	case O_NO_TWIN:
		suite.twin = false;
		break;
	case O_REPEAT:
		ok = number(optarg, &suite.repeat);
		break;
	case O_TIMEOUT:
		ok = number(optarg, &suite.place.limit_s);
		break;
	case 'h':
		return 1 + usage(stdout, 0);
	case O_VERSION:
		(void)puts("pinfs-conform (pinfs) " PINFS_VERSION);
		return 1;
	default:
		return 1 + EXIT_USE;
	}
	if (!ok)
		cli_error("\"%s\": not a value of this option (--help)", optarg);
	return ok ? 0 : 1 + EXIT_USE;
}

static int parse(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "filter", required_argument, NULL, 'f' },
		{ "list", no_argument, NULL, 'l' },
		{ "format", required_argument, NULL, 'F' },
		{ "output", required_argument, NULL, 'o' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "policy", required_argument, NULL, O_POLICY },
		{ "profile", required_argument, NULL, O_PROFILE },
		{ "expect", required_argument, NULL, O_EXPECT },
		{ "record", required_argument, NULL, O_RECORD },
		{ "pin", required_argument, NULL, O_PIN },
		{ "slow-dev", required_argument, NULL, O_SLOW_DEV },
		{ "scratch-dev", required_argument, NULL, O_SCRATCH },
		{ "plain-dir", required_argument, NULL, O_PLAIN },
		{ "fill-max", required_argument, NULL, O_FILL },
		{ "bare", no_argument, NULL, O_BARE },
		{ "no-twin", no_argument, NULL, O_NO_TWIN },
		{ "repeat", required_argument, NULL, O_REPEAT },
		{ "timeout", required_argument, NULL, O_TIMEOUT },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, O_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc = 0;

	while (rc == 0 && (c = getopt_long(argc, argv, "f:lF:o:vh", opts, NULL)) != -1)
		rc = take(c);
	return rc;
}

static int write_to(const char *path, enum format fmt)
{
	FILE *f = path != NULL ? fopen(path, "we") : stdout;
	int err = f != NULL ? report_write(&suite, fmt, f) : -1;

	if (f != NULL && path != NULL && fclose(f) != 0)
		err = -1;
	if (err != 0)
		cli_error("%s: %s", path != NULL ? path : "standard output", strerror(errno));
	return err;
}

/* Ids are what records are kept by. */
static bool sane(const struct cf_group *g, const struct cf_case *cs)
{
	const size_t n = strlen(g->name);
	const char *why = NULL;

	if (strncmp(cs->id, g->name, n) != 0 || cs->id[n] != '.' ||
	    strspn(cs->id + n + 1, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(cs->id + n + 1))
		why = "no id of its group";
	else if (cs->says == NULL || cs->source == NULL || ((cs->flags & CF_UNASKED) != 0) != (cs->fn == NULL))
		why = "neither asked nor unasked";
	else if (cs->fn != NULL)
		why = expect_sane(cs->want);
	for (const struct cf_case *other = g->cases; why == NULL && other < cs; other++)
		if (strcmp(other->id, cs->id) == 0)
			why = "an id that another one has";
	if (why != NULL)
		cli_error("case %s: %s", cs->id, why);
	return why == NULL;
}

static bool anything_asked(void)
{
	bool any = false;

	for (unsigned int g = 0; g < cf_ngroup; g++) {
		for (size_t i = 0; i < cf_groups[g]->ncase; i++) {
			if (!sane(cf_groups[g], &cf_groups[g]->cases[i]))
				return false;
			any = any || suite_wants(&suite, &cf_groups[g]->cases[i]);
		}
	}
	if (any)
		return true;
	cli_error("no case has \"%s\" in its id (--list)", suite.filter);
	return false;
}

/* 0, or -1 having said why not. */
static int ask_all(const char *dir)
{
	struct place *p = &suite.place;
	int err;

	if (!anything_asked())
		return -1;
	if (want.expect != NULL && (suite.expect = record_read(want.expect)) == NULL)
		return -1;
	if (p->slow_dev != NULL && access(p->slow_dev, R_OK) != 0) {
		cli_error("%s: %s", p->slow_dev, strerror(errno));
		return -1;
	}
	suite.progress = isatty(STDERR_FILENO) != 0;
	err = suite_begin(&suite);
	if (err == 0)
		err = setup_work(p, dir);
	if (err == 0 && want.policy != NULL)
		err = setup_policy(p, want.policy);
	if (err == 0)
		err = setup_plain(p, want.plain_dir);
	if (err == 0)
		err = detect(p);
	if (err == 0)
		err = suite_run(&suite);
	setup_end(p);
	return err;
}

int main(int argc, char **argv)
{
	unsigned int n[4];
	int err = parse(argc, argv), sig;

	if (err != 0)
		return err - 1;
	if (want.list) {
		list();
		return EXIT_SAME;
	}
	if (optind + 1 != argc)
		return usage(stderr, EXIT_USE);
	if (!want.bare) {
		setup_preload(argv[optind], argv);
	} else if (cf_symbol("pinfs_pin") != NULL) {
		cli_error("--bare: but it was started under pinrun");
		return EXIT_USE;
	}
	err = ask_all(argv[optind]);
	sig = suite_stopped();
	if (sig != 0)
		return 128 + sig;
	if (err == 0 && want.record != NULL)
		err = write_to(want.record, FMT_TSV);
	if (err == 0)
		err = write_to(want.out, want.format);
	if (err != 0)
		return EXIT_USE;
	if (want.out != NULL || want.format != FMT_TABLE)
		report_summary(&suite, stderr);
	report_counts(&suite, n);
	if (n[V_PASS] + n[V_DIFFERS] + n[V_BROKEN] == 0) {
		cli_error("nothing was asked: of %u cases none is applicable here", n[V_NA]);
		return EXIT_USE;
	}
	return n[V_DIFFERS] != 0 || n[V_BROKEN] != 0 ? EXIT_DIFFERS : EXIT_SAME;
}
