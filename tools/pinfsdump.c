/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinfsdump.c - pinfsdump(8): options, what to show, exit status. What is shown, and how, is in pinfsdump/.
 *
 * Reads a device that may be damaged or in use. Never writes and takes no lock.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "lib/cli.h"
#include "pinfsdump/dump.h"

static const char usage_text[] =
	"usage: pinfsdump [-j] DEVICE [super | journal | map [GROUP] | clusters | inode N | dir N | orphans |\n"
	"                              badblocks | block N | path /NAME...]\n"
	"  -j, --json  for programs\n"
	"  -h, -V      this text; the version\n";

static bool number(const char *text, uint64_t *v)
{
	char *end;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return false;		/* strtoull would take blanks and a sign */
	errno = 0;
	*v = strtoull(text, &end, 0);
	return errno == 0 && *end == '\0';
}

static int group_or_all(struct dump *d, const char *arg)
{
	uint64_t g;

	if (arg == NULL)
		return dump_map(d, NULL);
	if (!number(arg, &g)) {
		cli_error("%s: not a number", arg);
		return DUMP_USAGE;
	}
	return dump_map(d, &g);
}

/* What takes no argument, one number, or something else. */
static const struct verb {
	const char *name;
	int (*plain)(struct dump *d);
	int (*num)(struct dump *d, uint64_t n);
	int (*text)(struct dump *d, const char *arg);
	bool optional;
} verbs[] = {
	{ .name = "super", .plain = dump_super },
	{ .name = "journal", .plain = dump_journal },
	{ .name = "map", .text = group_or_all, .optional = true },
	{ .name = "clusters", .plain = dump_clusters },
	{ .name = "inode", .num = dump_inode },
	{ .name = "dir", .num = dump_dir },
	{ .name = "orphans", .plain = dump_orphans },
	{ .name = "badblocks", .plain = dump_badblocks },
	{ .name = "block", .num = dump_what },
	{ .name = "path", .text = dump_path },
};

static const struct verb *find_verb(const char *name)
{
	for (unsigned int i = 0; i < PF_ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static int run(struct dump *d, const struct verb *v, const char *arg)
{
	uint64_t n = 0;

	if (v->plain != NULL)
		return v->plain(d);
	if (v->text != NULL)
		return v->text(d, arg);
	if (!number(arg, &n)) {
		cli_error("%s: not a number", arg);
		return DUMP_USAGE;
	}
	return v->num(d, n);
}

/* The state of the image as a whole, before anything of it. */
static void preface(struct dump *d, const char *device)
{
	char who[512];

	if (d->guessed)
		dump_fault(d, "no superblock is sound: places are guessed from the size of the device");
	pf_pm_holders(device, who, sizeof who);
	if (who[0] != '\0')
		out_note(d->o, "%s holds the device: what is shown may change meanwhile", who);
	else if (!d->guessed && !d->fs.clean)
		out_note(d->o, "not unmounted in order: the journal is not replayed here");
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	const struct verb *v;
	struct dump d = { 0 };
	bool json = false;
	int c, nargs, status;

	pf_log_init("pinfsdump", PF_LOG_ERR, false);
	while ((c = getopt_long(argc, argv, "jhV", longopts, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return DUMP_OK;
		case 'V':
			(void)printf("pinfsdump %s, format %d.%d\n", PINFS_VERSION, PINFS_MEDIA_MAJOR,
				     PINFS_MEDIA_MINOR);
			return DUMP_OK;
		default:
			(void)fputs(usage_text, stderr);
			return DUMP_USAGE;
		}
	}
	nargs = argc - optind - 2;	/* of the verb */
	v = optind == argc ? NULL : find_verb(nargs < 0 ? "super" : argv[optind + 1]);
	if (v == NULL || (v->plain != NULL ? nargs > 0 : v->optional ? nargs > 1 : nargs != 1)) {
		(void)fputs(usage_text, stderr);
		return DUMP_USAGE;
	}

	if (dump_open(&d, argv[optind]) != 0)
		return DUMP_FAILED;
	d.o = out_new(json, stdout);
	if (d.o == NULL) {
		cli_error("out of memory");
		status = DUMP_FAILED;
		goto out_close;
	}
	preface(&d, argv[optind]);
	status = run(&d, v, nargs == 1 ? argv[optind + 2] : NULL);
	if (out_end_all(d.o) != 0) {
		cli_error("cannot write what was found");
		status = DUMP_FAILED;
	}
	if (status == DUMP_OK && d.damaged)
		status = DUMP_DAMAGED;
out_close:
	dump_close(&d);
	return status;
}
