/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - pinfs-conform: what a directory answers to questions about DAX, beside what was expected there. */
#include "conform/engine.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "conform/cases.h"

#define CF_PLACE(var) &var,
static const struct cf_group *const groups[] = { CF_GROUPS(CF_PLACE) };

static void list(const struct suite *s)
{
	for (unsigned int g = 0; g < s->ngroup; g++)
		for (size_t i = 0; i < s->groups[g]->ncase; i++)
			if (suite_wants(s, &s->groups[g]->cases[i]))
				(void)printf("%s\n", s->groups[g]->cases[i].id);
}

int main(int argc, char **argv)
{
	static struct suite s = { .groups = groups, .ngroup = PF_ARRAY_LEN(groups), .twin = true,
				  .place = { .fill_max = UINT64_C(256) << 20, .limit_s = 30 } };
	static const struct option opts[] = {
		{ "filter", required_argument, NULL, 'f' },
		{ "list", no_argument, NULL, 'l' },
		{ "no-twin", no_argument, NULL, 'T' },
		{ "pin", required_argument, NULL, 'p' },
		{ "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned int n[4];
	bool only_list = false;
	int c, err;

	while ((c = getopt_long(argc, argv, "f:lv", opts, NULL)) != -1) {
		switch (c) {
		case 'f':
			s.filter = optarg;
			break;
		case 'l':
			only_list = true;
			break;
		case 'T':
			s.twin = false;
			break;
		case 'p':
			s.place.pin = optarg;
			break;
		case 'v':
			s.verbose = true;
			break;
		default:
			return 2;
		}
	}
	if (only_list) {
		list(&s);
		return 0;
	}
	if (optind + 1 != argc) {
		complain_line("usage: pinfs-conform [--filter TEXT] [--pin HOW] [--no-twin] [-v] DIR | --list");
		return 2;
	}
	if (realpath(argv[optind], s.place.dir) == NULL) {
		complain_line("%s: %s", argv[optind], strerror(errno));
		return 2;
	}
	(void)snprintf(s.place.work, sizeof s.place.work, "%.*s/pinfs-conform.XXXXXX", PATH_MAX - 32, s.place.dir);
	if (mkdtemp(s.place.work) == NULL) {
		complain_line("%s: %s", s.place.dir, strerror(errno));
		return 2;
	}
	(void)chmod(s.place.work, 0755);
	err = detect(&s.place);
	if (err == 0) {
		(void)fprintf(stderr, "%s: %s; pins: %s\n", s.place.dir, s.place.what,
			      s.place.pin != NULL ? s.place.pin : s.place.no_pins);
		err = suite_run(&s);
	}
	slow_stop();
	tidy_tree(s.place.work);
	if (err != 0)
		return 2;
	(void)report_write(&s, FMT_TABLE, stdout);
	report_counts(&s, n);
	return n[V_DIFFERS] != 0 || n[V_BROKEN] != 0;
}
